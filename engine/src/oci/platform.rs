//! What an image runs on.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Error;

/// An operating system, an architecture and its variant, in Go's names (`linux/arm64/v8`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "Written")]
pub struct Platform {
    /// `linux`; empty when a document does not say.
    pub os: String,
    /// `amd64`, `arm64`, ...; empty when a document does not say.
    pub architecture: String,
    /// `v7`, `v8`, ...
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// Of Windows images.
    #[serde(rename = "os.version", skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
}

/// How well images serve: those that are for just this platform, and, by their level above it, those for its forerunners.
const EXACT: u32 = 1000;
const OWN: u32 = 100;

/// As documents have it: everything may be missing or null.
#[derive(Deserialize)]
struct Written {
    os: Option<String>,
    architecture: Option<String>,
    variant: Option<String>,
    #[serde(rename = "os.version")]
    os_version: Option<String>,
}

impl From<Written> for Platform {
    fn from(written: Written) -> Self {
        Self {
            os: written.os.unwrap_or_default(),
            architecture: written.architecture.unwrap_or_default(),
            variant: written.variant.filter(|text| !text.is_empty()),
            os_version: written.os_version.filter(|text| !text.is_empty()),
        }
    }
}

impl Platform {
    /// What this program was built for, which is what containers run on.
    pub fn host() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", None),
            "aarch64" => ("arm64", Some("v8")),
            "arm" => ("arm", Some("v7")),
            "x86" => ("386", None),
            "powerpc64" if cfg!(target_endian = "little") => ("ppc64le", None),
            other => (other, None),
        };
        Self {
            os: "linux".to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.map(str::to_owned),
            os_version: None,
        }
    }

    /// Whether an image for `self` is for just the platform `wanted`, however the two are written (`arm64` is `aarch64/v8`).
    /// What is given out or removed by its platform must be, though less would serve who runs it.
    pub fn is(&self, wanted: &Self) -> bool {
        self.normal() == wanted.normal()
    }

    /// How well an image for `self` serves who wants `wanted`: `None` not at all, else higher is better.
    pub fn serves(&self, wanted: &Self) -> Option<u32> {
        let (mine, asked) = (self.normal(), wanted.normal());
        if mine.os != asked.os {
            return None;
        }
        if mine.architecture != asked.architecture {
            return mine.serves_from_before(&asked);
        }
        match (mine.variant.as_deref(), asked.variant.as_deref()) {
            (mine, asked) if mine == asked => Some(EXACT),
            // A processor runs what was made for its forerunners: arm v7 runs v6 and v5, amd64 v3 runs v2.
            (mine, asked) => {
                let (mine, asked) = (level(mine)?, level(asked)?);
                (mine <= asked).then_some(OWN + mine)
            }
        }
    }

    /// Most processors of 64 bits run what was made for those of 32 that came before them, which is better than nothing.
    fn serves_from_before(&self, asked: &Self) -> Option<u32> {
        match (self.architecture.as_str(), asked.architecture.as_str()) {
            ("386", "amd64") => Some(0),
            ("arm", "arm64") => level(self.variant.as_deref()).filter(|level| *level <= 8),
            _ => None,
        }
    }

    fn normal(&self) -> Self {
        let lower = |text: &str| text.to_ascii_lowercase();
        let architecture = match lower(&self.architecture).as_str() {
            "x86_64" | "x86-64" => "amd64".to_owned(),
            "aarch64" => "arm64".to_owned(),
            "i386" | "i686" => "386".to_owned(),
            "armhf" | "armel" => "arm".to_owned(),
            other => other.to_owned(),
        };
        let variant = match (architecture.as_str(), self.variant.as_deref().map(lower).as_deref()) {
            ("arm64", None | Some("8" | "v8")) | ("amd64", None | Some("v1")) => None,
            ("arm", None) if self.architecture.eq_ignore_ascii_case("armel") => Some("v6".to_owned()),
            ("arm", None) => Some("v7".to_owned()),
            ("arm", Some(number @ ("5" | "6" | "7" | "8"))) => Some(format!("v{number}")),
            (_, variant) => variant.map(str::to_owned),
        };
        Self { os: lower(&self.os), architecture, variant, os_version: None }
    }
}

fn level(variant: Option<&str>) -> Option<u32> {
    variant.map_or(Some(1), |text| text.strip_prefix('v').unwrap_or(text).parse().ok().filter(|level| *level < 100))
}

impl FromStr for Platform {
    type Err = Error;

    /// `linux/arm64/v8`, `linux/amd64`, or an operating system or architecture alone, the rest being the host's.
    fn from_str(text: &str) -> Result<Self, Error> {
        let parts: Vec<&str> = text.split('/').collect();
        let sound = |part: &&str| {
            !part.is_empty()
                && part.len() <= 64
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
        };
        if !parts.iter().all(sound) {
            return Err(Error::Platform(text.chars().take(80).collect()));
        }
        let host = Self::host();
        let made = |os: &str, architecture: &str, variant: Option<&str>| Self {
            os: os.to_ascii_lowercase(),
            architecture: architecture.to_ascii_lowercase(),
            variant: variant.map(str::to_ascii_lowercase),
            os_version: None,
        };
        match parts.as_slice() {
            [os @ ("linux" | "windows" | "darwin" | "freebsd")] => {
                Ok(made(os, &host.architecture, host.variant.as_deref()))
            }
            [architecture] => Ok(made("linux", architecture, None).normal()),
            [os, architecture] => Ok(made(os, architecture, None)),
            [os, architecture, variant] => Ok(made(os, architecture, Some(variant))),
            _ => Err(Error::Platform(text.chars().take(80).collect())),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn serves(image: &str, wanted: &str) -> Option<u32> {
        image.parse::<Platform>().unwrap().serves(&wanted.parse().unwrap())
    }

    #[test]
    fn variants_serve_their_successors_only() {
        assert!(serves("linux/amd64", "linux/amd64").is_some());
        assert!(serves("linux/arm64", "linux/arm64/v8").is_some());
        assert!(serves("linux/arm/v6", "linux/arm/v7") > serves("linux/arm/v5", "linux/arm/v7"));
        assert_eq!(serves("linux/arm/v7", "linux/arm/v6"), None);
        assert_eq!(serves("linux/arm64", "linux/amd64"), None);
        assert_eq!(serves("windows/amd64", "linux/amd64"), None);
        // What is left of the time before is taken when there is nothing else.
        assert!(serves("linux/386", "linux/amd64").is_some());
        assert!(serves("linux/386", "linux/amd64") < serves("linux/amd64", "linux/amd64/v2"));
        assert!(serves("linux/arm/v7", "linux/arm64") > serves("linux/arm/v6", "linux/arm64"));
        assert!(serves("linux/arm/v8", "linux/arm64/v9") < serves("linux/arm64", "linux/arm64/v9"));
        assert_eq!(serves("linux/amd64", "linux/386"), None);
        assert_eq!(serves("linux/arm64", "linux/arm/v7"), None);
    }

    #[test]
    fn a_platform_is_itself_however_it_is_written_and_no_other() {
        let is = |image: &str, wanted: &str| image.parse::<Platform>().unwrap().is(&wanted.parse().unwrap());
        for (one, other) in [
            ("linux/amd64", "linux/x86_64"),
            ("linux/amd64/v1", "linux/amd64"),
            ("linux/arm64", "linux/aarch64/v8"),
            ("linux/arm", "linux/arm/7"),
            ("linux/armhf", "linux/arm/v7"),
            ("linux/armel", "linux/arm/6"),
            ("linux/i386", "linux/386"),
        ] {
            assert!(is(one, other) && is(other, one), "{one} {other}");
        }
        for (one, other) in [
            ("linux/386", "linux/amd64"),
            ("linux/amd64", "linux/amd64/v2"),
            ("linux/arm/v6", "linux/arm/v7"),
            ("linux/arm/v7", "linux/arm64"),
            ("windows/amd64", "linux/amd64"),
        ] {
            assert!(!is(one, other) && !is(other, one), "{one} {other}");
        }
        let unsaid = Platform { os: "linux".to_owned(), architecture: String::new(), variant: None, os_version: None };
        assert!(!unsaid.is(&"linux/amd64".parse().unwrap()));
    }

    #[test]
    fn parsing_refuses_what_is_no_platform() {
        assert_eq!("aarch64".parse::<Platform>().unwrap().architecture, "arm64");
        assert_eq!("linux".parse::<Platform>().unwrap().os, "linux");
        for wrong in ["", "/", "linux/", "linux/amd64/v1/x", "lin ux/amd64", "a\nb"] {
            assert!(wrong.parse::<Platform>().is_err(), "{wrong}");
        }
    }
}
