//! The part of Go's templates that `--format` is used for: fields, pipelines, variables, conditions, loops, functions and
//! templates in templates, with errors that say where.

mod escape;
mod evaluate;
mod functions;
mod parse;
mod zero;

use std::fmt;

use crate::output::value::Value;

/// A template that was parsed.
#[derive(Debug)]
pub(crate) struct Template {
    parsed: parse::Parsed,
}

/// What is wrong with a template, and where: lines from 1, columns in bytes from 0, as Go counts them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Error {
    line: usize,
    column: usize,
    text: String,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "template: :{}:{}: {}", self.line, self.column, self.text)
    }
}

impl std::error::Error for Error {}

impl Template {
    /// Parses a template. `\t` and `\n` written as two characters are not special here.
    pub(crate) fn parse(source: &str) -> Result<Self, Error> {
        Ok(Self { parsed: parse::parse(source)? })
    }

    /// The text of the template for one value. `labels` is what the method `.Label "name"` looks into.
    pub(crate) fn render(&self, root: &Value, labels: Option<&Value>) -> Result<String, Error> {
        evaluate::render(&self.parsed, root, evaluate::Manner { labels, ..evaluate::Manner::default() })
    }

    /// The text of the template for the names of columns: `.Label "a.the-name"` is `the name`.
    pub(crate) fn render_header(&self, names: &Value) -> Result<String, Error> {
        evaluate::render(&self.parsed, names, evaluate::Manner { header: true, ..evaluate::Manner::default() })
    }

    /// The text of the template for an object of the API, where members that the wire leaves out have the zero values that
    /// they stand for.
    pub(crate) fn render_object(&self, object: &Value) -> Result<String, Error> {
        evaluate::render(&self.parsed, object, evaluate::Manner { object: true, ..evaluate::Manner::default() })
    }
}

/// Where a byte of the source is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Position {
    line: usize,
    column: usize,
}

impl Position {
    fn of(source: &str, offset: usize) -> Self {
        let before = &source[..offset];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().len();
        Self { line, column }
    }

    fn error(self, text: impl Into<String>) -> Error {
        Error { line: self.line, column: self.column, text: text.into() }
    }
}

#[cfg(test)]
mod tests;
