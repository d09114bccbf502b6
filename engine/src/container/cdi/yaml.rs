//! YAML as far as configuration files are written in it, read as if it were JSON.

use serde_json::{Map, Number, Value};
use yaml_rust2::parser::{Event, Parser};
use yaml_rust2::scanner::TScalarStyle;

/// How deep values may lie in each other.
const MAX_DEPTH: usize = 64;
/// The most values of a document.
const MAX_VALUES: usize = 100_000;

/// The one document of a text. Aliases, which can grow without bound, are refused.
pub(super) fn read(text: &str) -> Result<Value, String> {
    let mut reader = Reader::default();
    let mut parser = Parser::new_from_str(text);
    // One by one: read as a whole, depth would be that of the stack.
    loop {
        match parser.next_token().map_err(|error| error.to_string())?.0 {
            Event::StreamEnd => break,
            event => reader.take(event)?,
        }
    }
    reader.document.ok_or_else(|| "it is empty".to_owned())
}

#[derive(Debug, Default)]
struct Reader {
    /// What is begun, the innermost last.
    open: Vec<Open>,
    document: Option<Value>,
    values: usize,
}

#[derive(Debug)]
enum Open {
    Sequence(Vec<Value>),
    /// With the key whose value comes next.
    Mapping(Map<String, Value>, Option<String>),
}

impl Reader {
    fn take(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Alias(_) => Err("aliases are not supported".to_owned()),
            Event::DocumentStart if self.document.is_some() => Err("it has several documents".to_owned()),
            Event::Scalar(text, style, _, _) => self.put(scalar(text, style)),
            Event::SequenceStart(..) => self.begin(Open::Sequence(Vec::new())),
            Event::MappingStart(..) => self.begin(Open::Mapping(Map::new(), None)),
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Open::Sequence(values)) => self.put(Value::Array(values)),
                Some(Open::Mapping(members, _)) => self.put(Value::Object(members)),
                None => Err("it ends too often".to_owned()),
            },
            _ => Ok(()),
        }
    }

    fn begin(&mut self, open: Open) -> Result<(), String> {
        if self.open.len() >= MAX_DEPTH {
            return Err(format!("it is deeper than {MAX_DEPTH} levels"));
        }
        self.open.push(open);
        Ok(())
    }

    fn put(&mut self, value: Value) -> Result<(), String> {
        self.values += 1;
        if self.values > MAX_VALUES {
            return Err(format!("it has more than {MAX_VALUES} values"));
        }
        match self.open.last_mut() {
            None => self.document = Some(value),
            Some(Open::Sequence(values)) => values.push(value),
            Some(Open::Mapping(members, key)) => match (key.take(), value) {
                (Some(key), value) => {
                    members.insert(key, value);
                }
                (None, Value::String(text)) => *key = Some(text),
                (None, value @ (Value::Number(_) | Value::Bool(_))) => *key = Some(value.to_string()),
                (None, _) => return Err("a key is no text".to_owned()),
            },
        }
        Ok(())
    }
}

/// What a scalar is: only plain ones are anything but text.
fn scalar(text: String, style: TScalarStyle) -> Value {
    if style != TScalarStyle::Plain {
        return Value::String(text);
    }
    match text.as_str() {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    let octal = text.strip_prefix("0o").or_else(|| text.strip_prefix('0')).filter(|digits| !digits.is_empty());
    if let Some(number) = octal.and_then(|digits| u64::from_str_radix(digits, 8).ok()) {
        return Value::Number(number.into());
    }
    if let Some(number) = text.strip_prefix("0x").and_then(|digits| u64::from_str_radix(digits, 16).ok()) {
        return Value::Number(number.into());
    }
    if let Ok(number) = text.parse::<i64>() {
        return Value::Number(number.into());
    }
    let numeric = text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    match text.parse::<f64>().ok().filter(|_| numeric).and_then(Number::from_f64) {
        Some(number) => Value::Number(number),
        None => Value::String(text),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn it_is_read_as_json() {
        let text = "---\ncdiVersion: 0.5.0\nkind: vendor.com/net\nlist:\n- name: \"0\"\n  fileMode: 0666\n  on: true\n  none:\n- {a: [1, -2, 1.5]}\n";
        assert_eq!(
            read(text).unwrap(),
            json!({"cdiVersion": "0.5.0", "kind": "vendor.com/net", "list": [
                {"name": "0", "fileMode": 438, "on": true, "none": null}, {"a": [1, -2, 1.5]}]})
        );
        assert_eq!(read("{\"a\": [\"b\", 1]}").unwrap(), json!({"a": ["b", 1]}));
    }

    #[test]
    fn what_grows_without_bound_is_refused() {
        for text in [
            "",
            "a: &x 1\nb: *x\n",
            "a: 1\n---\nb: 2\n",
            "a: [",
            &"[".repeat(1000),
            &format!("{}{}", "[".repeat(100), "]".repeat(100)),
            &"- 1\n".repeat(MAX_VALUES + 1),
            "? [1]\n: 2\n",
        ] {
            assert!(read(text).is_err(), "{text:.20}");
        }
    }
}
