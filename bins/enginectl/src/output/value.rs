//! JSON as it came: objects keep their order and numbers their digits, so that what is printed is what the daemon said.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// One JSON value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number, in its decimal text.
    Number(String),
    /// A string.
    String(String),
    /// A list.
    Array(Vec<Self>),
    /// An object, in the order of its source.
    Object(Vec<(String, Self)>),
}

impl Value {
    /// Parses a whole JSON text.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(text)
    }

    /// A member of an object by its exact name.
    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Object(members) => members.iter().find(|(name, _)| name == key).map(|(_, value)| value),
            _ => None,
        }
    }

    /// A member by its exact name, else by its name in any case: Go templates say `.ID` where the wire says `Id`.
    pub(crate) fn field(&self, name: &str) -> Option<&Self> {
        self.get(name).or_else(|| match self {
            Self::Object(members) => {
                members.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
            }
            _ => None,
        })
    }

    /// The text of a string; nothing of anything else.
    pub(crate) fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// A whole number.
    pub(crate) fn as_i64(&self) -> Option<i64> {
        match self {
            Self::Number(digits) => digits.parse().ok(),
            _ => None,
        }
    }

    /// What Go's templates take for true: everything but zero values and empty collections.
    pub(crate) fn is_true(&self) -> bool {
        match self {
            Self::Null => false,
            Self::Bool(flag) => *flag,
            Self::Number(digits) => digits.parse::<f64>().is_ok_and(|number| number != 0.0),
            Self::String(text) => !text.is_empty(),
            Self::Array(items) => !items.is_empty(),
            Self::Object(members) => !members.is_empty(),
        }
    }

    /// The members of an object in the order of their names, as Go prints and ranges over maps.
    pub(crate) fn sorted_members(&self) -> Vec<&(String, Self)> {
        let Self::Object(members) = self else { return Vec::new() };
        let mut sorted: Vec<_> = members.iter().collect();
        sorted.sort_by(|left, right| left.0.cmp(&right.0));
        sorted
    }

    /// JSON on one line.
    pub(crate) fn compact(&self) -> String {
        let mut text = String::new();
        self.write_json(&mut text, None, 0);
        text
    }

    /// JSON with an indent of so many spaces a level; empty collections stay on one line.
    pub(crate) fn pretty(&self, indent: usize) -> String {
        let mut text = String::new();
        self.write_json(&mut text, Some(indent), 0);
        text
    }

    fn write_json(&self, out: &mut String, indent: Option<usize>, depth: usize) {
        let line = |out: &mut String, depth: usize| {
            if let Some(width) = indent {
                out.push('\n');
                out.extend(std::iter::repeat_n(' ', width * depth));
            }
        };
        match self {
            Self::Null => out.push_str("null"),
            Self::Bool(flag) => out.push_str(if *flag { "true" } else { "false" }),
            Self::Number(digits) => out.push_str(digits),
            Self::String(text) => write_json_string(out, text),
            Self::Array(items) if items.is_empty() => out.push_str("[]"),
            Self::Array(items) => {
                out.push('[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    line(out, depth + 1);
                    item.write_json(out, indent, depth + 1);
                }
                line(out, depth);
                out.push(']');
            }
            Self::Object(members) if members.is_empty() => out.push_str("{}"),
            Self::Object(members) => {
                out.push('{');
                for (index, (name, value)) in members.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    line(out, depth + 1);
                    write_json_string(out, name);
                    out.push_str(if indent.is_some() { ": " } else { ":" });
                    value.write_json(out, indent, depth + 1);
                }
                line(out, depth);
                out.push('}');
            }
        }
    }
}

/// As Go's `%v`: lists in brackets, objects as `map[key:value]` in the order of the keys.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("<no value>"),
            Self::Bool(flag) => write!(f, "{flag}"),
            Self::Number(digits) => f.write_str(digits),
            Self::String(text) => f.write_str(text),
            Self::Array(items) => {
                f.write_str("[")?;
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        f.write_str(" ")?;
                    }
                    write!(f, "{item}")?;
                }
                f.write_str("]")
            }
            Self::Object(_) => {
                f.write_str("map[")?;
                for (index, (name, value)) in self.sorted_members().into_iter().enumerate() {
                    if index > 0 {
                        f.write_str(" ")?;
                    }
                    write!(f, "{name}:{value}")?;
                }
                f.write_str("]")
            }
        }
    }
}

fn write_json_string(out: &mut String, text: &str) {
    use fmt::Write as _;
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            control if (control as u32) < 0x20 => {
                let _ = write!(out, "\\u{:04x}", control as u32);
            }
            other => out.push(other),
        }
    }
    out.push('"');
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::String(text)
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Bool(flag)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Number(number.to_string())
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Build;
        impl<'de> Visitor<'de> for Build {
            type Value = Value;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON value")
            }
            fn visit_unit<E>(self) -> Result<Value, E> {
                Ok(Value::Null)
            }
            fn visit_bool<E>(self, flag: bool) -> Result<Value, E> {
                Ok(Value::Bool(flag))
            }
            fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
                Ok(Value::Number(number.to_string()))
            }
            fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
                Ok(Value::Number(number.to_string()))
            }
            fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
                Ok(Value::Number(number.to_string()))
            }
            fn visit_str<E>(self, text: &str) -> Result<Value, E> {
                Ok(Value::String(text.to_owned()))
            }
            fn visit_string<E>(self, text: String) -> Result<Value, E> {
                Ok(Value::String(text))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element()? {
                    list.push(item);
                }
                Ok(Value::Array(list))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
                let mut list = Vec::new();
                while let Some(member) = members.next_entry()? {
                    list.push(member);
                }
                Ok(Value::Object(list))
            }
        }
        deserializer.deserialize_any(Build)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn order_and_digits_survive() {
        let text = r#"{"b":1,"a":[true,null,-2,1.5],"c":{"x":"q\"<&>"},"big":18446744073709551615}"#;
        assert_eq!(Value::parse(text.as_bytes()).unwrap().compact(), text);
    }

    #[test]
    fn pretty_is_as_docker_indents() {
        let value = Value::parse(br#"[{"Id":"x","Labels":{},"Mounts":[],"State":{"Pid":1}}]"#).unwrap();
        assert_eq!(
            value.pretty(4),
            "[\n    {\n        \"Id\": \"x\",\n        \"Labels\": {},\n        \"Mounts\": [],\n        \"State\": {\n            \"Pid\": 1\n        }\n    }\n]"
        );
    }

    #[test]
    fn display_is_as_go_prints() {
        let value = Value::parse(br#"{"b":[1,"x"],"a":null}"#).unwrap();
        assert_eq!(value.to_string(), "map[a:<no value> b:[1 x]]");
    }

    #[test]
    fn broken_and_bottomless_text_is_an_error() {
        assert!(Value::parse(b"{\"a\":").is_err());
        assert!(Value::parse("[".repeat(100_000).as_bytes()).is_err());
    }
}
