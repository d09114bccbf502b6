//! `--filter key=value` to what the daemon takes.

use engine_api::filter::Filters;

use crate::client::Query;
use crate::error::Error;

/// The filters of the command line.
pub(crate) fn parse(words: &[String]) -> Result<Filters, Error> {
    let mut filters = Filters::new();
    for word in words {
        let (key, value) = word
            .split_once('=')
            .ok_or_else(|| Error::Flag(format!("invalid filter {word:?}: write it as key=value")))?;
        filters.add(key.trim().to_ascii_lowercase().as_str(), value.trim());
    }
    Ok(filters)
}

/// Adds the filters to a query, if there are any.
pub(crate) fn with(query: Query, filters: &Filters) -> Query {
    if filters.is_empty() { query } else { query.with("filters", &filters.to_json()) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn filters_are_keys_and_values() {
        let filters = parse(&["label=a=b".to_owned(), "Status=exited".to_owned(), "status=dead".to_owned()]).unwrap();
        assert_eq!(filters.to_json(), r#"{"label":{"a=b":true},"status":{"dead":true,"exited":true}}"#);
        assert_eq!(parse(&["x".to_owned()]).unwrap_err().exit_code(), 125);
        assert_eq!(with(Query::new(), &Filters::new()).as_str(), "");
    }
}
