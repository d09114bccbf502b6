//! Names of images.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Digest, Error};

const HUB: &str = "docker.io";
const OFFICIAL: &str = "library/";

/// A name of an image, completed the way Docker does: `alpine` is `docker.io/library/alpine:latest`.
///
/// It has a tag, a digest or both. `Display` gives the familiar form (`alpine:latest`), the alternate form `{:#}`
/// and [`full`](Self::full) the complete one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// The registry's host and port: `docker.io`, `localhost:5000`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The path at the registry: `library/alpine`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag, if one was given or is implied.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest of the manifest, if given.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// Registry and repository: `docker.io/library/alpine`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// Registry and repository as people write them: `alpine`, `localhost:5000/x`.
    pub fn familiar_name(&self) -> String {
        if self.registry != HUB {
            return self.name();
        }
        match self.repository.strip_prefix(OFFICIAL) {
            // `library/a/b` must keep its prefix, or it would come back as another repository.
            Some(short) if !short.contains('/') => short.to_owned(),
            _ => self.repository.clone(),
        }
    }

    /// Everything: `docker.io/library/alpine:latest`.
    pub fn full(&self) -> String {
        self.written(self.name())
    }

    /// The same repository with this tag and no digest.
    pub fn with_tag(&self, tag: &str) -> Result<Self, Error> {
        if !is_tag(tag) {
            return Err(Error::Reference("invalid tag format".to_owned()));
        }
        Ok(Self { tag: Some(tag.to_owned()), digest: None, ..self.clone() })
    }

    /// The same repository with this digest and no tag.
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { tag: None, digest: Some(digest), ..self.clone() }
    }

    fn written(&self, mut text: String) -> String {
        if let Some(tag) = &self.tag {
            text.push(':');
            text.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            text.push('@');
            text.push_str(&digest.to_string());
        }
        text
    }
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let invalid = || Error::Reference("invalid reference format".to_owned());
        if text.len() > 1024 {
            return Err(invalid());
        }
        if Digest::from_hex(text).is_ok() {
            return Err(Error::Reference(format!(
                "invalid repository name ({text}), cannot specify 64-byte hexadecimal strings"
            )));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse::<Digest>().map_err(|_| invalid())?)),
            None => (text, None),
        };
        let (registry, remainder) = match rest.split_once('/') {
            Some((first, remainder)) if is_host_like(first) => (first, remainder),
            _ => (HUB, rest),
        };
        let registry = if registry == "index.docker.io" { HUB } else { registry };
        let (path, tag) = match remainder.split_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (remainder, None),
        };
        if path.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(Error::Reference(format!(
                "invalid reference format: repository name ({path}) must be lowercase"
            )));
        }
        if !is_host(registry) || !is_path(path) || tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(invalid());
        }
        let repository =
            if registry == HUB && !path.contains('/') { format!("{OFFICIAL}{path}") } else { path.to_owned() };
        if registry.len() + 1 + repository.len() > 255 {
            return Err(Error::Reference("repository name must not be more than 255 characters".to_owned()));
        }
        let tag = match (tag, digest) {
            (Some(tag), _) => Some(tag.to_owned()),
            (None, None) => Some("latest".to_owned()),
            (None, Some(_)) => None,
        };
        Ok(Self { registry: registry.to_owned(), repository, tag, digest })
    }
}

/// Whether the first component of a name is a registry rather than a part of a path.
fn is_host_like(text: &str) -> bool {
    text == "localhost" || text.contains(['.', ':']) || text.bytes().any(|byte| byte.is_ascii_uppercase())
}

/// `name(.name)*[:port]` or `[address][:port]`.
fn is_host(text: &str) -> bool {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let Some((address, port)) = rest.split_once(']') else { return false };
        if address.is_empty() || !address.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b':') {
            return false;
        }
        (None, port.strip_prefix(':').or(if port.is_empty() { None } else { Some("x") }))
    } else {
        match text.split_once(':') {
            Some((host, port)) => (Some(host), Some(port)),
            None => (Some(text), None),
        }
    };
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    host.is_none_or(|host| host.split('.').all(label)) && port.is_none_or(|port| port.parse::<u16>().is_ok())
}

/// Components of lower-case letters and digits, parted by `.`, `_`, `__` or any number of `-`.
fn is_path(text: &str) -> bool {
    let component = |component: &str| {
        let edge = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        let separators = component.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
        edge(component.bytes().next())
            && edge(component.bytes().next_back())
            && separators.into_iter().all(|s| matches!(s, "" | "." | "_" | "__") || s.bytes().all(|byte| byte == b'-'))
    };
    text.split('/').all(component)
}

fn is_tag(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.len() <= 128
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|byte| word(byte) || byte == b'.' || byte == b'-')
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&if f.alternate() { self.full() } else { self.written(self.familiar_name()) })
    }
}

impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reference({})", self.full())
    }
}

impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.full())
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn names_are_completed_as_docker_does() {
        for (text, full, familiar) in [
            ("alpine", "docker.io/library/alpine:latest", "alpine:latest"),
            ("alpine:3.20", "docker.io/library/alpine:3.20", "alpine:3.20"),
            ("a/b", "docker.io/a/b:latest", "a/b:latest"),
            ("docker.io/alpine", "docker.io/library/alpine:latest", "alpine:latest"),
            ("index.docker.io/library/alpine", "docker.io/library/alpine:latest", "alpine:latest"),
            ("localhost/x", "localhost/x:latest", "localhost/x:latest"),
            ("localhost:5000/x/y:z", "localhost:5000/x/y:z", "localhost:5000/x/y:z"),
            ("127.0.0.1:1/x", "127.0.0.1:1/x:latest", "127.0.0.1:1/x:latest"),
            ("[::1]:5000/x", "[::1]:5000/x:latest", "[::1]:5000/x:latest"),
            ("x:sha256", "docker.io/library/x:sha256", "x:sha256"),
            ("a__b.c---d", "docker.io/library/a__b.c---d:latest", "a__b.c---d:latest"),
            ("library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"),
        ] {
            let reference: Reference = text.parse().unwrap();
            assert_eq!(reference.full(), full);
            assert_eq!(format!("{reference:#}"), full);
            assert_eq!(reference.to_string(), familiar);
            assert_eq!(full.parse::<Reference>().unwrap(), reference);
            assert_eq!(familiar.parse::<Reference>().unwrap(), reference);
        }
    }

    #[test]
    fn a_digest_needs_no_tag() {
        let reference: Reference = format!("x@sha256:{HEX}").parse().unwrap();
        assert_eq!(reference.tag(), None);
        assert_eq!(reference.full(), format!("docker.io/library/x@sha256:{HEX}"));
        let both: Reference = format!("x:1@sha256:{HEX}").parse().unwrap();
        assert_eq!((both.tag(), both.digest()), (Some("1"), reference.digest()));
        assert_eq!(both.with_tag("2").unwrap().to_string(), "x:2");
        assert!(both.with_tag("../2").is_err());
    }

    #[test]
    fn what_is_no_name_is_refused_with_dockers_text() {
        for wrong in [
            "",
            " ",
            ":",
            "@",
            "x:",
            "x:y:z",
            "/x",
            "x/",
            "x//y",
            "../x",
            "x/../y",
            "-x",
            "x_",
            "x___y",
            "x._y",
            "x y",
            "x\ny",
            "x@sha256:12",
            "localhost:99999/x",
            "a.b:c/x",
            "http://x/y",
            "[::1/x",
            "[::1]x/y",
            "ü",
        ] {
            let error = wrong.parse::<Reference>().unwrap_err();
            assert_eq!(error.to_string(), "invalid reference format", "{wrong:?}");
        }
        let error = "Alpine".parse::<Reference>().unwrap_err().to_string();
        assert_eq!(error, "invalid reference format: repository name (Alpine) must be lowercase");
        let error = HEX.parse::<Reference>().unwrap_err().to_string();
        assert_eq!(error, format!("invalid repository name ({HEX}), cannot specify 64-byte hexadecimal strings"));
        assert!("x".repeat(300).parse::<Reference>().is_err());
        assert!(format!("x:{}", "y".repeat(129)).parse::<Reference>().is_err());
    }

    proptest::proptest! {
        #[test]
        fn what_is_a_name_stays_the_same_name(text in "[a-z0-9./:@_A-Z-]{0,40}") {
            if let Ok(reference) = text.parse::<Reference>() {
                proptest::prop_assert_eq!(&reference.full().parse::<Reference>().unwrap(), &reference);
                proptest::prop_assert_eq!(&reference.to_string().parse::<Reference>().unwrap(), &reference);
            }
        }
    }
}
