//! Takes a request apart by Docker's habits: its booleans, its numbers, its filters, and its rules for JSON bodies.

use bytes::Bytes;
use engine_api::filter::Filters;
use engine_api::json;
use http::{HeaderMap, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use serde::de::DeserializeOwned;

use crate::error::Error;

/// Most bytes of a JSON body.
const BODY: usize = 4 << 20;

/// The query of a request, decoded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn parse(query: Option<&str>) -> Self {
        let pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        let pair = |pair: &str| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name, true), decode(value, true))
        };
        Self(pairs.map(pair).collect())
    }

    /// The first value; None when the parameter is missing.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The first value; empty when the parameter is missing.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.get(name).unwrap_or_default()
    }

    /// All values.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// False for a missing parameter and for Docker's words for it; true for all else.
    pub(crate) fn boolean(&self, name: &str) -> bool {
        let value = self.text(name).trim().to_ascii_lowercase();
        !matches!(value.as_str(), "" | "0" | "no" | "false" | "none")
    }

    /// As [`Query::boolean`], with another value for a missing parameter.
    pub(crate) fn boolean_or(&self, name: &str, default: bool) -> bool {
        if self.get(name).is_some() { self.boolean(name) } else { default }
    }

    /// A whole number; None when it is missing or empty.
    pub(crate) fn integer(&self, name: &str) -> Result<Option<i64>, Error> {
        let text = self.text(name);
        if text.is_empty() {
            return Ok(None);
        }
        let error = || Error::invalid(format!("strconv.Atoi: parsing \"{text}\": invalid syntax"));
        text.parse().map(Some).map_err(|_| error())
    }

    /// The parameter `filters`, of which only `known` ones may be used.
    pub(crate) fn filters(&self, known: &[&str]) -> Result<Filters, Error> {
        let filters = Filters::parse(self.text("filters"))?;
        filters.check(known)?;
        Ok(filters)
    }
}

/// Undoes percent encoding. What is no valid encoding stays as it is.
pub(crate) fn decode(text: &str, plus_is_space: bool) -> String {
    if !text.contains(['%', '+']) {
        return text.to_owned();
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = |digit: &u8| char::from(*digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
        let (byte, tail) = match (first, tail) {
            (b'+', _) if plus_is_space => (b' ', tail),
            (b'%', [high, low, after @ ..]) => match (hex(high), hex(low)) {
                (Some(high), Some(low)) => (high << 4 | low, after),
                _ => (b'%', tail),
            },
            _ => (*first, tail),
        };
        bytes.push(byte);
        rest = tail;
    }
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// A JSON body, or None when there is no body.
pub(crate) async fn optional_json<T: DeserializeOwned>(
    headers: &HeaderMap,
    body: Incoming,
) -> Result<Option<T>, Error> {
    let empty = body.is_end_stream();
    check_content_type(headers, empty)?;
    if empty {
        return Ok(None);
    }
    document(&read(body).await?).map(Some)
}

/// A JSON body that must be there.
pub(crate) async fn json<T: DeserializeOwned>(headers: &HeaderMap, body: Incoming) -> Result<T, Error> {
    check_content_type(headers, body.is_end_stream())?;
    document(&read(body).await?)
}

/// All of a body, if it is not too long.
async fn read(body: Incoming) -> Result<Bytes, Error> {
    let collected = Limited::new(body, BODY).collect().await.map_err(|error| {
        if error.is::<LengthLimitError>() {
            Error::invalid(format!("the body of the request is longer than {BODY} bytes"))
        } else {
            Error::invalid(format!("invalid JSON: the body of the request could not be read: {error}"))
        }
    })?;
    Ok(collected.to_bytes())
}

fn document<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(Error::invalid("invalid JSON: got EOF while reading request body"));
    }
    json::from_slice(bytes).map_err(|error| {
        let text = error.to_string();
        if text.starts_with("trailing characters") {
            Error::invalid("unexpected content after JSON")
        } else {
            Error::invalid(format!("invalid JSON: {text}"))
        }
    })
}

/// No content type is needed without a body, and any that says JSON will do.
fn check_content_type(headers: &HeaderMap, empty: bool) -> Result<(), Error> {
    let value = headers.get(header::CONTENT_TYPE).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let Some(value) = value.filter(|value| !value.is_empty()) else {
        let missing = || Error::invalid("malformed Content-Type header (): mime: no media type");
        return if empty { Ok(()) } else { Err(missing()) };
    };
    let media_type = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let token = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?=".contains(&byte))
    };
    if !media_type.split('/').all(token) || media_type.matches('/').count() > 1 {
        return Err(Error::invalid(format!(
            "malformed Content-Type header ({value}): mime: expected token after slash"
        )));
    }
    if media_type != "application/json" {
        return Err(Error::invalid(format!("unsupported Content-Type header ({value}): must be 'application/json'")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use http::HeaderValue;

    #[test]
    fn booleans_are_dockers() {
        let query = Query::parse(Some("a=1&b=0&c=False&d=no&e=none&f=&g&h=yes&i=%20"));
        for (name, value) in [
            ("a", true),
            ("b", false),
            ("c", false),
            ("d", false),
            ("e", false),
            ("f", false),
            ("g", false),
            ("h", true),
            ("i", false),
            ("z", false),
        ] {
            assert_eq!(query.boolean(name), value, "{name}");
        }
        assert!(query.boolean_or("z", true) && !query.boolean_or("b", true));
    }

    #[test]
    fn values_are_decoded() {
        let query = Query::parse(Some("filters=%7B%22label%22%3A%5B%22a%3Db%22%5D%7D&n=a+b%2Fc&n=2&bad=%zz%2"));
        assert_eq!(query.filters(&["label"]).unwrap().get("label").collect::<Vec<_>>(), ["a=b"]);
        assert_eq!(query.all("n").collect::<Vec<_>>(), ["a b/c", "2"]);
        assert_eq!(query.text("bad"), "%zz%2");
        assert_eq!(decode("a+b%2Fc", false), "a+b/c");
    }

    #[test]
    fn unknown_filters_and_numbers_are_refused() {
        let query = Query::parse(Some("filters=%5B%5D&t=x"));
        assert_eq!(query.filters(&[]).unwrap_err().message, "invalid filter");
        assert_eq!(query.integer("t").unwrap_err().message, "strconv.Atoi: parsing \"x\": invalid syntax");
        assert_eq!(query.integer("none").unwrap(), None);
    }

    #[test]
    fn content_types_follow_dockers_rules() {
        let check = |value: Option<&'static str>, empty| {
            let headers = value.map(|value| (header::CONTENT_TYPE, HeaderValue::from_static(value)));
            check_content_type(&headers.into_iter().collect(), empty).map_err(|error| error.message)
        };
        assert_eq!(check(None, true), Ok(()));
        assert_eq!(check(Some("application/json"), false), Ok(()));
        assert_eq!(check(Some("Application/JSON; charset=utf-8"), false), Ok(()));
        assert_eq!(check(None, false), Err("malformed Content-Type header (): mime: no media type".into()));
        assert_eq!(
            check(Some("text/plain"), true),
            Err("unsupported Content-Type header (text/plain): must be 'application/json'".into())
        );
        assert!(check(Some("text/"), false).unwrap_err().starts_with("malformed Content-Type header (text/)"));
    }

    #[test]
    fn documents_are_checked_to_their_end() {
        let read = |text: &str| document::<Vec<u8>>(text.as_bytes()).map_err(|error| error.message);
        assert_eq!(read("[1] \n"), Ok(vec![1]));
        assert_eq!(read(" "), Err("invalid JSON: got EOF while reading request body".into()));
        assert_eq!(read("[1] [2]"), Err("unexpected content after JSON".into()));
        assert!(read("[1").unwrap_err().starts_with("invalid JSON: "));
    }
}
