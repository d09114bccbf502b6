//! The lines of a progress stream: one JSON object a line, from pull, push, load and build.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::is_zero;

/// One line.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProgressLine {
    /// Text that is printed as it is.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stream: String,
    /// What happens to `id`, or to the whole.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub status: String,
    /// How far it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress_detail: Option<ProgressDetail>,
    /// The same, drawn as a bar.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub progress: String,
    /// What the line is about: a layer in 12 digits, or a tag.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// Set on the last line of a failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_detail: Option<ErrorDetail>,
    /// The message of `error_detail` again.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub error: String,
    /// A result for programs, such as the id of what was built.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aux: Option<Value>,
}

/// How far something is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", default)]
pub struct ProgressDetail {
    /// What is done.
    #[serde(skip_serializing_if = "is_zero")]
    pub current: i64,
    /// What there is to do; 0 when it is not known.
    #[serde(skip_serializing_if = "is_zero")]
    pub total: i64,
    /// When it began, in seconds since 1970.
    #[serde(skip_serializing_if = "is_zero")]
    pub start: i64,
    /// True when the numbers mean nothing to people.
    #[serde(skip_serializing_if = "is_zero")]
    pub hidecounts: bool,
    /// The unit of the numbers; bytes when empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub units: String,
}

/// Why a stream ends before its work is done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ErrorDetail {
    /// The exit code of a failed build step; 0 otherwise.
    #[serde(skip_serializing_if = "is_zero")]
    pub code: i64,
    /// What went wrong.
    pub message: String,
}

impl ProgressLine {
    /// A line of text.
    pub fn stream(text: impl Into<String>) -> Self {
        Self { stream: text.into(), ..Self::default() }
    }

    /// A line about the whole.
    pub fn status(status: impl Into<String>) -> Self {
        Self { status: status.into(), ..Self::default() }
    }

    /// The last line of a failure.
    pub fn failure(message: impl Into<String>) -> Self {
        let message = message.into();
        Self { error: message.clone(), error_detail: Some(ErrorDetail { code: 0, message }), ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn lines_have_only_what_they_say() {
        let text = |line: &ProgressLine| serde_json::to_string(line).unwrap();
        assert_eq!(text(&ProgressLine::stream("a\n")), r#"{"stream":"a\n"}"#);
        assert_eq!(text(&ProgressLine::failure("no")), r#"{"errorDetail":{"message":"no"},"error":"no"}"#);
        let line = ProgressLine {
            status: "Waiting".into(),
            id: "0123456789ab".into(),
            progress_detail: Some(ProgressDetail::default()),
            ..ProgressLine::default()
        };
        assert_eq!(text(&line), r#"{"status":"Waiting","progressDetail":{},"id":"0123456789ab"}"#);
    }
}
