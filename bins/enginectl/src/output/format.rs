//! `--format`: a table, a table of a template, JSON, or a template a line.

use crate::error::Error;
use crate::output::table::Table;
use crate::output::template::{self, Template};
use crate::output::value::Value;

/// What a list can show: the name of each field in templates, and its header in tables.
pub(crate) type Columns = &'static [(&'static str, &'static str)];

/// One thing of a list.
#[derive(Debug, Default)]
pub(crate) struct Row {
    fields: Vec<(String, Value)>,
    labels: Vec<(String, Value)>,
}

impl Row {
    /// A row of these fields.
    pub(crate) fn new<const N: usize>(fields: [(&str, Value); N]) -> Self {
        let mut fields: Vec<_> = fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        // As JSON it is in the order of the names.
        fields.sort_by(|left, right| left.0.cmp(&right.0));
        Self { fields, labels: Vec::new() }
    }

    /// Adds a field.
    pub(crate) fn with(mut self, name: &str, value: Value) -> Self {
        let at = self.fields.partition_point(|(known, _)| known.as_str() < name);
        self.fields.insert(at, (name.to_owned(), value));
        self
    }

    /// Adds what `.Label "name"` finds.
    pub(crate) fn labels<'l>(mut self, labels: impl IntoIterator<Item = (&'l String, &'l String)>) -> Self {
        self.labels = labels.into_iter().map(|(name, value)| (name.clone(), Value::from(value.as_str()))).collect();
        self
    }

    /// The row as JSON.
    pub(crate) fn into_value(self) -> Value {
        Value::Object(self.fields)
    }

    fn text(&self, field: &str) -> String {
        self.fields.iter().find(|(name, _)| name == field).map(|(_, value)| value.to_string()).unwrap_or_default()
    }
}

/// The text of a list. `shown` are the columns of the plain table; `width` is the terminal's, if it shall fit one.
pub(crate) fn list(
    format: Option<&str>,
    columns: Columns,
    shown: &[&str],
    rows: Vec<Row>,
    width: Option<usize>,
) -> Result<String, Error> {
    match format.map(str::trim).unwrap_or_default() {
        "" | "table" => {
            let header =
                |field: &&str| columns.iter().find(|(name, _)| name == field).map_or("", |(_, header)| *header);
            let mut table = Table::new(shown.iter().map(header));
            for row in &rows {
                table.row(shown.iter().map(|field| row.text(field)));
            }
            Ok(table.render(width))
        }
        "json" => Ok(rows.into_iter().map(|row| Value::Object(row.fields).compact() + "\n").collect()),
        text => match text.strip_prefix("table ") {
            Some(template) => {
                let template = parse(template)?;
                let names = columns.iter().map(|(name, header)| ((*name).to_owned(), Value::from(*header))).collect();
                let mut text = template.render_header(&Value::Object(names)).map_err(|error| failed(&error))? + "\n";
                for row in rows {
                    text.push_str(&render(&template, &Value::Object(row.fields), &Value::Object(row.labels))?);
                    text.push('\n');
                }
                Ok(Table::from_tabbed(&text).render(None))
            }
            None => {
                let template = parse(text)?;
                let mut text = String::new();
                for row in rows {
                    text.push_str(&render(&template, &Value::Object(row.fields), &Value::Object(row.labels))?);
                    text.push('\n');
                }
                Ok(text)
            }
        },
    }
}

/// The fields of docker's format `raw`, in its order: the name of each there and in templates.
pub(crate) type Raw = &'static [(&'static str, &'static str)];

/// Whether that format is asked for.
pub(crate) fn is_raw(format: Option<&str>) -> bool {
    format.is_some_and(|format| format.trim() == "raw")
}

/// The text of a list as `raw`: a line for each field, and an empty one behind each thing; only the first field when it is to be
/// quiet.
pub(crate) fn raw(fields: Raw, rows: &[Row], quiet: bool) -> String {
    let shown = if quiet { &fields[..1] } else { fields };
    let mut text = String::new();
    for row in rows {
        for (name, field) in shown {
            text.push_str(format!("{name}: {}", row.text(field)).trim_end());
            text.push('\n');
        }
        if !quiet {
            text.push('\n');
        }
    }
    text
}

/// The text of one object of the API: JSON on a line, or a template.
pub(crate) fn single(format: &str, value: &Value) -> Result<String, Error> {
    if format.trim() == "json" {
        return Ok(value.compact());
    }
    let template = parse_object(format)?;
    template.render_object(value).map_err(|error| Error::Invalid(format!("template parsing error: {error}")))
}

/// The template of a list, where `\t` and `\n` are written as two characters.
pub(crate) fn parse(format: &str) -> Result<Template, Error> {
    parsed(format).map_err(|error| Error::Invalid(format!("failed to parse template: {error}")))
}

/// The template of an object; Docker's words and exit code for what is wrong with it are others.
pub(crate) fn parse_object(format: &str) -> Result<Template, Error> {
    parsed(format).map_err(|error| Error::Template(format!("template parsing error: {error}")))
}

fn parsed(format: &str) -> Result<Template, template::Error> {
    Template::parse(&format.replace("\\t", "\t").replace("\\n", "\n"))
}

fn render(template: &Template, row: &Value, labels: &Value) -> Result<String, Error> {
    template.render(row, Some(labels)).map_err(|error| failed(&error))
}

fn failed(error: &template::Error) -> Error {
    Error::Invalid(format!("failed to execute template: {error}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::collections::BTreeMap;

    const COLUMNS: Columns = &[("ID", "CONTAINER ID"), ("Names", "NAMES"), ("Labels", "LABELS")];

    fn rows() -> Vec<Row> {
        let labels = BTreeMap::from([("a".to_owned(), "1".to_owned())]);
        vec![
            Row::new([("ID", "4c01db0b339c".into()), ("Names", "web".into()), ("Labels", "a=1".into())])
                .labels(&labels),
        ]
    }

    fn check(format: Option<&str>, expected: &str) {
        assert_eq!(list(format, COLUMNS, &["ID", "Names"], rows(), None).unwrap(), expected, "{format:?}");
    }

    #[test]
    fn every_form_of_a_list() {
        check(None, "CONTAINER ID   NAMES\n4c01db0b339c   web\n");
        check(Some("table"), "CONTAINER ID   NAMES\n4c01db0b339c   web\n");
        check(Some("table {{.Names}}\\t{{.ID}}"), "NAMES     CONTAINER ID\nweb       4c01db0b339c\n");
        check(Some("table {{.ID}}\\t{{.Label \"x.the-a\"}}"), "CONTAINER ID   the a\n4c01db0b339c   \n");
        check(Some("json"), "{\"ID\":\"4c01db0b339c\",\"Labels\":\"a=1\",\"Names\":\"web\"}\n");
        check(Some("{{json .}}"), "{\"ID\":\"4c01db0b339c\",\"Labels\":\"a=1\",\"Names\":\"web\"}\n");
        const RAW: Raw = &[("container_id", "ID"), ("names", "Names"), ("ports", "Ports")];
        assert!(is_raw(Some("raw")) && !is_raw(Some("raw {{.ID}}")) && !is_raw(None));
        assert_eq!(raw(RAW, &rows(), false), "container_id: 4c01db0b339c\nnames: web\nports:\n\n");
        assert_eq!(raw(RAW, &rows(), true), "container_id: 4c01db0b339c\n");
        check(Some("{{.Names}}={{.Label \"a\"}}"), "web=1\n");
        assert_eq!(
            list(Some("{{.Nope}}"), COLUMNS, &[], rows(), None).unwrap_err().to_string(),
            "failed to execute template: template: :1:2: executing \"\" at <.Nope>: map has no entry for key \"Nope\""
        );
    }
}
