//! Versions of the API, as in `/v1.51/`.

use std::fmt;
use std::str::FromStr;

/// A version of the API. Ordered by its numbers, so that 1.9 is less than 1.24.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApiVersion {
    /// Always 1 so far.
    pub major: u16,
    /// 24 to 51 are known here.
    pub minor: u16,
}

/// The oldest version that is served.
pub const MIN: ApiVersion = ApiVersion::new(1, 24);
/// The newest version that is served, and the one of a request whose path names none.
pub const MAX: ApiVersion = ApiVersion::new(1, 51);

impl ApiVersion {
    /// `major.minor`.
    pub const fn new(major: u16, minor: u16) -> Self {
        Self { major, minor }
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// The text is no version of the API: two decimal numbers with a point between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAVersion;

impl fmt::Display for NotAVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a version of the API, such as 1.51")
    }
}

impl std::error::Error for NotAVersion {}

impl FromStr for ApiVersion {
    type Err = NotAVersion;

    fn from_str(text: &str) -> Result<Self, NotAVersion> {
        let number = |part: &str| {
            let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            if digits { part.parse().map_err(|_| NotAVersion) } else { Err(NotAVersion) }
        };
        let (major, minor) = text.split_once('.').ok_or(NotAVersion)?;
        Ok(Self { major: number(major)?, minor: number(minor)? })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn versions_are_ordered_by_number() {
        let parse = |text: &str| text.parse::<ApiVersion>().unwrap();
        assert!(parse("1.9") < parse("1.24"));
        assert!(parse("2.0") > parse("1.51"));
        assert_eq!(parse("1.51").to_string(), "1.51");
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "1", "1.", ".1", "1.2.3", "1.+2", "v1.2", "1.99999999"] {
            assert_eq!(text.parse::<ApiVersion>(), Err(NotAVersion), "{text}");
        }
    }
}
