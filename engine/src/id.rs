//! Names of things: typed ids of 64 hexadecimal digits, their short forms, and the resolving of prefixes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

const DIGITS: usize = 64;
const SHORT: usize = 12;

/// A text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid {what} id {text:?}: expected {expected}")]
pub struct ParseError {
    what: &'static str,
    expected: &'static str,
    text: String,
}

impl ParseError {
    /// Always [`Invalid`](crate::error::ErrorKind::Invalid).
    pub fn kind(&self) -> crate::error::ErrorKind {
        crate::error::ErrorKind::Invalid
    }

    fn new(what: &'static str, expected: &'static str, text: &str) -> Self {
        // A hostile text must not fill the log.
        Self { what, expected, text: text.chars().take(DIGITS * 2).collect() }
    }
}

fn parse_digits(text: &str) -> Option<[u8; DIGITS]> {
    let bytes: [u8; DIGITS] = text.as_bytes().try_into().ok()?;
    bytes.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')).then_some(bytes)
}

fn random_digits() -> [u8; DIGITS] {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    loop {
        let mut bytes = [0u8; DIGITS / 2];
        if getrandom::fill(&mut bytes).is_err() {
            // Before the kernel's pool is ready, early at boot: it is a matter of moments.
            std::thread::yield_now();
            continue;
        }
        let mut digits = [0u8; DIGITS];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(bytes) {
            pair[0] = HEX[usize::from(byte >> 4)];
            pair[1] = HEX[usize::from(byte & 15)];
        }
        // The short form serves as a hostname, and one of digits only is taken for a number by many programs.
        if !digits[..SHORT].iter().all(u8::is_ascii_digit) {
            return digits;
        }
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; DIGITS]);

        impl $name {
            /// A new one, from the kernel's random numbers.
            pub fn random() -> Self {
                Self(random_digits())
            }

            /// All 64 digits.
            pub fn as_str(&self) -> &str {
                std::str::from_utf8(&self.0).unwrap_or_default()
            }

            /// The first 12 digits.
            pub fn short(&self) -> &str {
                self.as_str().get(..SHORT).unwrap_or_default()
            }
        }

        impl FromStr for $name {
            type Err = ParseError;
            fn from_str(text: &str) -> Result<Self, ParseError> {
                parse_digits(text).map(Self).ok_or_else(|| ParseError::new($what, "64 digits of 0-9 and a-f", text))
            }
        }

        text_traits!($name);
    };
}

macro_rules! text_traits {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.short())
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                self.as_str()
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

id!(
    /// A container: 64 random digits.
    ContainerId, "container"
);
id!(
    /// A network: 64 random digits, stable for each root.
    NetworkId, "network"
);
id!(
    /// A container's end on one network: 64 random digits, new with each connection.
    EndpointId, "endpoint"
);
id!(
    /// A process that was started in a running container.
    ExecId, "exec"
);

const ALGORITHM: &str = "sha256:";
const IMAGE_LENGTH: usize = ALGORITHM.len() + DIGITS;

/// An image: the digest of its configuration, `sha256:` and 64 digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageId([u8; IMAGE_LENGTH]);

impl ImageId {
    /// `sha256:` and all 64 digits.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The 64 digits without the algorithm.
    pub fn hex(&self) -> &str {
        self.as_str().get(ALGORITHM.len()..).unwrap_or_default()
    }

    /// The first 12 digits, without the algorithm.
    pub fn short(&self) -> &str {
        self.hex().get(..SHORT).unwrap_or_default()
    }
}

impl FromStr for ImageId {
    type Err = ParseError;
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let digits = text.strip_prefix(ALGORITHM).and_then(parse_digits);
        let digits = digits.ok_or_else(|| ParseError::new("image", "sha256: and 64 digits of 0-9 and a-f", text))?;
        let mut whole = [0u8; IMAGE_LENGTH];
        let (algorithm, rest) = whole.split_at_mut(ALGORITHM.len());
        algorithm.copy_from_slice(ALGORITHM.as_bytes());
        rest.copy_from_slice(&digits);
        Ok(Self(whole))
    }
}

text_traits!(ImageId);

/// What a prefix stands for among some ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolved<I> {
    /// No id begins like that.
    None,
    /// Exactly one does, or one is spelled out in full.
    One(I),
    /// Several do.
    Many,
}

/// Finds the id that begins with `prefix`. The empty prefix stands for nothing.
pub fn resolve<I: AsRef<str>>(ids: impl IntoIterator<Item = I>, prefix: &str) -> Resolved<I> {
    let mut found = Resolved::None;
    if prefix.is_empty() {
        return found;
    }
    for id in ids {
        if !id.as_ref().starts_with(prefix) {
            continue;
        }
        if id.as_ref().len() == prefix.len() {
            return Resolved::One(id);
        }
        found = if matches!(found, Resolved::None) { Resolved::One(id) } else { Resolved::Many };
    }
    found
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn random_ids_differ_and_their_short_form_is_no_number() {
        let ids: std::collections::BTreeSet<_> = (0..1000).map(|_| ContainerId::random()).collect();
        assert_eq!(ids.len(), 1000);
        for id in ids {
            assert_eq!(id.short().len(), 12);
            assert!(id.short().parse::<u64>().is_err());
            assert_eq!(id.to_string().parse::<ContainerId>().unwrap(), id);
        }
    }

    #[test]
    fn only_64_lower_case_digits_are_an_id() {
        for wrong in ["", "abc", &"A".repeat(64), &"g".repeat(64), &"a".repeat(65), &"ü".repeat(32)] {
            assert!(wrong.parse::<ContainerId>().is_err(), "{wrong}");
        }
        let error = "../../etc".parse::<NetworkId>().unwrap_err();
        assert_eq!(error.to_string(), "invalid network id \"../../etc\": expected 64 digits of 0-9 and a-f");
    }

    #[test]
    fn image_ids_carry_their_algorithm() {
        let text = format!("sha256:{}", "0123456789abcdef".repeat(4));
        let id: ImageId = text.parse().unwrap();
        assert_eq!(id.to_string(), text);
        assert_eq!(id.short(), "0123456789ab");
        assert_eq!(format!("{id:?}"), "ImageId(0123456789ab)");
        assert!("0123456789abcdef".repeat(4).parse::<ImageId>().is_err());
        assert!(format!("sha512:{}", "0".repeat(64)).parse::<ImageId>().is_err());
    }

    #[test]
    fn ids_pass_through_json_as_text() {
        let id = ExecId::random();
        let json = serde_json::to_string(&id).unwrap();
        assert_eq!(json, format!("\"{id}\""));
        assert_eq!(serde_json::from_str::<ExecId>(&json).unwrap(), id);
        assert!(serde_json::from_str::<ExecId>("\"no\"").is_err());
    }

    #[test]
    fn prefixes_resolve_when_they_are_unique_or_complete() {
        let ids = ["abc1", "abc2", "abd", "abc"];
        assert_eq!(resolve(ids, "abd"), Resolved::One("abd"));
        assert_eq!(resolve(ids, "abc2"), Resolved::One("abc2"));
        assert_eq!(resolve(ids, "ab"), Resolved::Many);
        assert_eq!(resolve(ids, "abc"), Resolved::One("abc"));
        assert_eq!(resolve(ids, "x"), Resolved::None);
        assert_eq!(resolve(ids, ""), Resolved::None);
    }
}
