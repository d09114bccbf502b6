//! Paths and queries of requests.

use std::fmt::Write as _;

/// A query string under construction.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query(String);

impl Query {
    /// An empty query.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Adds a key and its value.
    #[must_use]
    pub(crate) fn with(mut self, key: &str, value: &str) -> Self {
        self.0.push(if self.0.is_empty() { '?' } else { '&' });
        encode(&mut self.0, key, false);
        self.0.push('=');
        encode(&mut self.0, value, false);
        self
    }

    /// Adds `key=1` if the flag is set.
    #[must_use]
    pub(crate) fn flag(self, key: &str, set: bool) -> Self {
        if set { self.with(key, "1") } else { self }
    }

    /// Adds a key if there is a value for it.
    #[must_use]
    pub(crate) fn optional(self, key: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.with(key, value),
            None => self,
        }
    }

    /// The query with its `?`, or nothing.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// A name as a part of a path; slashes stay, as names of images have them.
pub(crate) fn segment(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    encode(&mut out, name, true);
    out
}

fn encode(out: &mut String, text: &str, path: bool) {
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            b'/' | b':' | b'@' if path => out.push(char::from(byte)),
            _ => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_encoded() {
        let query = Query::new().with("filters", r#"{"label":{"a=b":true}}"#).flag("all", true).flag("size", false);
        assert_eq!(query.as_str(), "?filters=%7B%22label%22%3A%7B%22a%3Db%22%3Atrue%7D%7D&all=1");
        assert_eq!(Query::new().as_str(), "");
        assert_eq!(segment("localhost:5000/a/b:1@sha256:x"), "localhost:5000/a/b:1@sha256:x");
        assert_eq!(segment("a b?c#d%"), "a%20b%3Fc%23d%25");
    }
}
