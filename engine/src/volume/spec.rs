//! What is asked for when a volume is made, and the names that volumes may have.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Error;
use crate::id::ContainerId;

/// Marks a volume that nobody named.
pub const ANONYMOUS_LABEL: &str = "com.docker.volume.anonymous";
const LONGEST_NAME: usize = 255;

/// The name of a volume: a letter or digit, then letters, digits, `_`, `.` and `-`; at least two characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

impl Name {
    /// A name that nobody has: 64 hexadecimal digits.
    pub fn random() -> Self {
        Self(ContainerId::random().to_string())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let plain = |c: char| c.is_ascii_alphanumeric();
        let well_formed = text.starts_with(plain) && text.chars().all(|c| plain(c) || matches!(c, '_' | '.' | '-'));
        match text.len() {
            0 | 1 => Err(Error::NameLength { how: "short" }),
            length if length > LONGEST_NAME => Err(Error::NameLength { how: "long" }),
            _ if !well_formed => Err(Error::Name(text.to_owned())),
            _ => Ok(Self(text.to_owned())),
        }
    }
}

impl TryFrom<String> for Name {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// What a volume shall be. Built like a command: `VolumeSpec::named("data").label("tier", "db")`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct VolumeSpec {
    /// Its name; none makes an anonymous volume.
    pub name: Option<String>,
    /// The driver; empty means `local`, and others are there if the program has [registered](super::Volumes::register) them.
    pub driver: String,
    /// The driver's options: what `local` mounts instead of a directory of its own, as `type`, `device` and `o`.
    pub options: BTreeMap<String, String>,
    /// Labels, as they are shown.
    pub labels: BTreeMap<String, String>,
}

impl VolumeSpec {
    /// A volume of this name.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: Some(name.into()), ..Self::default() }
    }

    /// A volume that nobody named; it gets a random name and a label that says so.
    pub fn anonymous() -> Self {
        Self::default()
    }

    /// Sets the driver.
    #[must_use]
    pub fn driver(mut self, driver: impl Into<String>) -> Self {
        self.driver = driver.into();
        self
    }

    /// Adds an option for the driver.
    #[must_use]
    pub fn option(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.options.insert(key.into(), value.into());
        self
    }

    /// Adds a label.
    #[must_use]
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(key.into(), value.into());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["ab", "a.b-c_9", "0x", &"a".repeat(255)] {
            assert_eq!(good.parse::<Name>().unwrap().as_str(), good);
        }
        assert_eq!("a".parse::<Name>().unwrap_err().to_string().split(',').next(), Some("volume name is too short"));
        assert!(matches!("a".repeat(256).parse::<Name>(), Err(Error::NameLength { how: "long" })));
        for bad in ["..", ".hidden", "a/b", "-x", "ä1", "a b", "a\0b", "_x"] {
            assert!(matches!(bad.parse::<Name>(), Err(Error::Name(_))), "{bad:?}");
        }
        assert!(serde_json::from_str::<Name>("\"../x\"").is_err());
    }

    #[test]
    fn random_names_are_names() {
        let name = Name::random();
        assert_eq!(name.as_str().len(), 64);
        assert_eq!(name.as_str().parse::<Name>().unwrap(), name);
    }
}
