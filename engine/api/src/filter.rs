//! The `filters` parameter: `{"label":{"a=b":true}}`, or as older clients write it `{"label":["a=b"]}`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

/// Filters by name. The values of one name are alternatives (labels: all of them must hold).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Filters(BTreeMap<String, BTreeMap<String, bool>>);

/// The parameter is not filters, a filter is not known, or a value is no value of its filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidFilter(String);

impl fmt::Display for InvalidFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for InvalidFilter {}

#[derive(Deserialize)]
#[serde(untagged)]
enum Values {
    Set(BTreeMap<String, bool>),
    List(BTreeSet<String>),
}

impl Filters {
    /// No filter: everything passes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads the parameter in either form. Empty text is no filter.
    pub fn parse(text: &str) -> Result<Self, InvalidFilter> {
        if text.is_empty() {
            return Ok(Self::new());
        }
        let filters: Option<BTreeMap<String, Values>> =
            serde_json::from_str(text).map_err(|_| InvalidFilter("invalid filter".to_owned()))?;
        let set = |values| match values {
            Values::Set(values) => values,
            Values::List(values) => values.into_iter().map(|value| (value, true)).collect(),
        };
        Ok(Self(filters.into_iter().flatten().map(|(name, values)| (name, set(values))).collect()))
    }

    /// Adds a value to the filter `name`.
    pub fn add(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.0.entry(name.into()).or_default().insert(value.into(), true);
    }

    /// True without any filter.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// True when the filter `name` was given.
    pub fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The values of the filter `name`; none when it was not given.
    pub fn get(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.get(name).into_iter().flat_map(BTreeMap::keys).map(String::as_str)
    }

    /// True when the filter `name` was not given or has `value` among its values.
    pub fn allows(&self, name: &str, value: &str) -> bool {
        self.0.get(name).is_none_or(|values| values.is_empty() || values.contains_key(value))
    }

    /// True when the filter `name` was not given, or without a value, or one of its values fulfils `test`.
    pub fn any(&self, name: &str, test: impl FnMut(&str) -> bool) -> bool {
        self.get(name).next().is_none() || self.get(name).any(test)
    }

    /// True when all values of the filter `name`, each `key` or `key=value`, hold for `labels`.
    pub fn all_labels(&self, name: &str, labels: &BTreeMap<String, String>) -> bool {
        self.get(name).all(|wanted| match wanted.split_once('=') {
            Some((key, value)) => labels.get(key).is_some_and(|label| label == value),
            None => labels.contains_key(wanted),
        })
    }

    /// True when no value of the filter `name`, each `key` or `key=value`, holds for `labels`: the filter `label!`.
    pub fn no_label(&self, name: &str, labels: &BTreeMap<String, String>) -> bool {
        !self.get(name).any(|unwanted| match unwanted.split_once('=') {
            Some((key, value)) => labels.get(key).is_some_and(|label| label == value),
            None => labels.contains_key(unwanted),
        })
    }

    /// The filter `name` as a boolean: `default` when it was not given; 1 and true, 0 and false are its values.
    pub fn boolean(&self, name: &str, default: bool) -> Result<bool, InvalidFilter> {
        let mut values = self.get(name);
        match (values.next(), values.next()) {
            (None, _) => Ok(default),
            (Some("1" | "true"), None) => Ok(true),
            (Some("0" | "false"), None) => Ok(false),
            _ => Err(self.invalid(name)),
        }
    }

    /// Refuses filters that are not among `known`.
    pub fn check(&self, known: &[&str]) -> Result<(), InvalidFilter> {
        match self.0.keys().find(|name| !known.contains(&name.as_str())) {
            Some(name) => Err(InvalidFilter(format!("invalid filter '{name}'"))),
            None => Ok(()),
        }
    }

    /// The error for a value that the filter `name` does not have.
    pub fn invalid(&self, name: &str) -> InvalidFilter {
        let values: Vec<_> = self.get(name).collect();
        InvalidFilter(format!("invalid filter '{name}={}'", values.join("', '")))
    }

    /// The parameter as clients send it; empty text when there is no filter.
    pub fn to_json(&self) -> String {
        if self.is_empty() { String::new() } else { serde_json::to_string(&self.0).unwrap_or_default() }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn both_forms_are_read() {
        for text in [r#"{"status":{"exited":true,"dead":true}}"#, r#"{"status":["exited","dead"]}"#] {
            let filters = Filters::parse(text).unwrap();
            assert_eq!(filters.get("status").collect::<Vec<_>>(), ["dead", "exited"]);
            assert!(filters.allows("status", "dead") && !filters.allows("status", "running"));
            assert!(filters.allows("name", "anything"));
            assert!(filters.any("status", |value| value == "dead") && !filters.any("status", |value| value == "x"));
        }
        assert!(Filters::parse("").unwrap().is_empty() && Filters::parse("null").unwrap().is_empty());
        let without_values = Filters::parse(r#"{"name":[],"status":{}}"#).unwrap();
        assert!(without_values.allows("name", "x") && without_values.any("status", |_| false));
    }

    #[test]
    fn what_is_no_filter_is_refused() {
        for text in ["x", "[]", r#"{"a":1}"#, r#"{"a":"b"}"#, r#"{"a":[1]}"#] {
            assert_eq!(Filters::parse(text).unwrap_err().to_string(), "invalid filter", "{text}");
        }
        let filters = Filters::parse(r#"{"nope":["1"]}"#).unwrap();
        assert_eq!(filters.check(&["label"]).unwrap_err().to_string(), "invalid filter 'nope'");
    }

    #[test]
    fn all_labels_must_hold() {
        let labels = BTreeMap::from([("a".to_owned(), "1".to_owned()), ("b".to_owned(), String::new())]);
        let holds = |text: &str| Filters::parse(text).unwrap().all_labels("label", &labels);
        assert!(holds(r#"{"label":["a","b"]}"#) && holds(r#"{"label":["a=1","b="]}"#) && holds("{}"));
        assert!(!holds(r#"{"label":["a","c"]}"#) && !holds(r#"{"label":["a=2"]}"#));
        let none_holds = |text: &str| Filters::parse(text).unwrap().no_label("label!", &labels);
        assert!(
            none_holds(r#"{"label!":["c","a=2"]}"#) && none_holds("{}") && !none_holds(r#"{"label!":["c","a=1"]}"#)
        );
    }

    #[test]
    fn booleans_are_read_as_clients_write_them() {
        let boolean =
            |value: &str| Filters::parse(&format!(r#"{{"dangling":["{value}"]}}"#)).unwrap().boolean("dangling", false);
        assert_eq!(
            (boolean("1"), boolean("true"), boolean("0"), boolean("false")),
            (Ok(true), Ok(true), Ok(false), Ok(false))
        );
        assert_eq!(boolean("yes").unwrap_err().to_string(), "invalid filter 'dangling=yes'");
    }

    #[test]
    fn what_is_written_is_read() {
        let mut filters = Filters::new();
        filters.add("label", "a=b");
        assert_eq!(filters.to_json(), r#"{"label":{"a=b":true}}"#);
        assert_eq!(Filters::parse(&filters.to_json()).unwrap(), filters);
    }
}
