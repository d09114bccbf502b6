//! The functions a template may call: Go's own and the ones Docker adds.

use std::cmp::Ordering;
use std::fmt::Write as _;

use super::escape;
use crate::output::value::Value;

const NAMES: &[&str] = &[
    "and", "call", "eq", "ge", "gt", "html", "index", "join", "js", "json", "le", "len", "lower", "lt", "ne", "not",
    "or", "pad", "print", "printf", "println", "slice", "split", "title", "truncate", "upper", "urlquery",
];

pub(super) fn exists(name: &str) -> bool {
    NAMES.contains(&name)
}

pub(super) fn call(name: &str, arguments: &[Value]) -> Result<Value, String> {
    Ok(match (name, arguments) {
        ("json", [value]) => Value::from(value.compact()),
        ("len", [value]) => Value::from(length(value)? as i64),
        ("not", [value]) => Value::from(!value.is_true()),
        ("index", [value, keys @ ..]) => index(value, keys)?,
        ("slice", [value, bounds @ ..]) => slice(value, bounds)?,
        ("join", [list, separator]) => join(list, text(separator)?)?,
        ("split", [value, separator]) => split(text(value)?, text(separator)?),
        ("lower", [value]) => Value::from(text(value)?.to_lowercase()),
        ("upper", [value]) => Value::from(text(value)?.to_uppercase()),
        ("title", [value]) => Value::from(title(text(value)?)),
        ("truncate", [value, length]) => Value::from(text(value)?.chars().take(count(length)?).collect::<String>()),
        ("pad", [value, before, after]) => {
            let value = text(value)?;
            // An empty text stays empty.
            let (before, after) = if value.is_empty() { (0, 0) } else { (count(before)?, count(after)?) };
            Value::from(format!("{}{value}{}", " ".repeat(before), " ".repeat(after)))
        }
        ("eq", [first, others @ ..]) if !others.is_empty() => {
            let mut equal = false;
            for other in others {
                equal |= same(first, other)?;
            }
            Value::from(equal)
        }
        ("ne", [left, right]) => Value::from(!same(left, right)?),
        ("lt", [left, right]) => Value::from(order(left, right)?.is_lt()),
        ("le", [left, right]) => Value::from(order(left, right)?.is_le()),
        ("gt", [left, right]) => Value::from(order(left, right)?.is_gt()),
        ("ge", [left, right]) => Value::from(order(left, right)?.is_ge()),
        ("print", values) => Value::from(print(values)),
        ("html", values) if !values.is_empty() => Value::from(escape::html(&print(values))),
        ("js", values) if !values.is_empty() => Value::from(escape::javascript(&print(values))),
        ("urlquery", values) if !values.is_empty() => Value::from(escape::query(&print(values))),
        ("println", values) => {
            Value::from(format!("{}\n", values.iter().map(Value::to_string).collect::<Vec<_>>().join(" ")))
        }
        ("printf", [Value::String(format), values @ ..]) => Value::from(printf(format, values)),
        ("printf", [_, ..]) => return Err("the format must be a string".to_owned()),
        (_, arguments) => return Err(format!("wrong number of args: got {}", arguments.len())),
    })
}

fn text(value: &Value) -> Result<&str, String> {
    value.as_str().ok_or_else(|| format!("wrong type for value; expected string; got {value}"))
}

fn count(value: &Value) -> Result<usize, String> {
    let number = value.as_i64().ok_or_else(|| format!("wrong type for value; expected int; got {value}"))?;
    usize::try_from(number).ok().filter(|count| *count <= 1 << 20).ok_or_else(|| format!("{number} is out of range"))
}

fn length(value: &Value) -> Result<usize, String> {
    match value {
        Value::String(text) => Ok(text.len()),
        Value::Array(items) => Ok(items.len()),
        Value::Object(members) => Ok(members.len()),
        // A nil list or map of the daemon is `null` on the wire.
        Value::Null => Ok(0),
        Value::Bool(_) | Value::Number(_) => Err(format!("len of {value}")),
    }
}

fn index(value: &Value, keys: &[Value]) -> Result<Value, String> {
    let mut value = value;
    for key in keys {
        value = match value {
            Value::Array(items) => {
                let at = key.as_i64().ok_or_else(|| format!("cannot index slice/array with {key}"))?;
                usize::try_from(at)
                    .ok()
                    .and_then(|at| items.get(at))
                    .ok_or_else(|| format!("index out of range: {at}"))?
            }
            Value::Object(_) => {
                // A key that is not there is the zero value, as of Go's maps.
                match value.get(text(key)?) {
                    Some(member) => member,
                    None => return Ok(Value::from("")),
                }
            }
            Value::String(string) => {
                let at = key.as_i64().ok_or_else(|| format!("cannot index string with {key}"))?;
                let byte = usize::try_from(at).ok().and_then(|at| string.as_bytes().get(at));
                return byte
                    .map(|byte| Value::from(i64::from(*byte)))
                    .ok_or_else(|| format!("index out of range: {at}"));
            }
            Value::Null => return Err("index of untyped nil".to_owned()),
            Value::Bool(_) | Value::Number(_) => return Err(format!("can't index item {value}")),
        };
    }
    Ok(value.clone())
}

fn slice(value: &Value, bounds: &[Value]) -> Result<Value, String> {
    let total = length(value)?;
    let bound = |at: usize, otherwise: usize| bounds.get(at).map_or(Ok(otherwise), count);
    let (from, to) = (bound(0, 0)?, bound(1, total)?);
    if bounds.len() > 2 || from > to || to > total {
        return Err(format!("index out of range: {to}"));
    }
    match value {
        Value::String(text) => {
            text.get(from..to).map(Value::from).ok_or_else(|| format!("index {from} is inside a character"))
        }
        Value::Array(items) => Ok(Value::Array(items[from..to].to_vec())),
        _ => Err(format!("can't slice item of {value}")),
    }
}

fn join(list: &Value, separator: &str) -> Result<Value, String> {
    match list {
        Value::Array(items) => Ok(Value::from(items.iter().map(Value::to_string).collect::<Vec<_>>().join(separator))),
        Value::Null => Ok(Value::from("")),
        _ => Err(format!("wrong type for value; expected []string; got {list}")),
    }
}

fn split(text: &str, separator: &str) -> Value {
    if separator.is_empty() {
        return Value::Array(text.chars().map(|character| Value::from(character.to_string())).collect());
    }
    Value::Array(text.split(separator).map(Value::from).collect())
}

fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut start = true;
    for character in text.chars() {
        if start {
            out.extend(character.to_uppercase());
        } else {
            out.push(character);
        }
        start = !(character.is_alphanumeric() || character == '_' || character == '\'');
    }
    out
}

fn same(left: &Value, right: &Value) -> Result<bool, String> {
    match (left, right) {
        (Value::Number(a), Value::Number(b)) => Ok(a == b || numbers(left, right)?.0 == numbers(left, right)?.1),
        (Value::Null, _) | (_, Value::Null) => Ok(left == right),
        (Value::Array(_) | Value::Object(_), _) | (_, Value::Array(_) | Value::Object(_)) => {
            Err("non-comparable type".to_owned())
        }
        (Value::String(_), Value::String(_)) | (Value::Bool(_), Value::Bool(_)) => Ok(left == right),
        _ => Err("incompatible types for comparison".to_owned()),
    }
}

fn numbers(left: &Value, right: &Value) -> Result<(f64, f64), String> {
    match (left, right) {
        (Value::Number(a), Value::Number(b)) => match (a.parse(), b.parse()) {
            (Ok(a), Ok(b)) => Ok((a, b)),
            _ => Err("not a number".to_owned()),
        },
        _ => Err("incompatible types for comparison".to_owned()),
    }
}

fn order(left: &Value, right: &Value) -> Result<Ordering, String> {
    match (left, right) {
        (Value::String(a), Value::String(b)) => Ok(a.cmp(b)),
        _ => match (left.as_i64(), right.as_i64()) {
            (Some(a), Some(b)) => Ok(a.cmp(&b)),
            _ => {
                let (a, b) = numbers(left, right)?;
                Ok(a.total_cmp(&b))
            }
        },
    }
}

/// Go's Sprint: a space between two operands when neither is a string.
fn print(values: &[Value]) -> String {
    let mut out = String::new();
    let mut before_string = true;
    for value in values {
        let is_string = matches!(value, Value::String(_));
        if !before_string && !is_string {
            out.push(' ');
        }
        let _ = write!(out, "{value}");
        before_string = is_string;
    }
    out
}

/// Go's Sprintf for the verbs that make sense on JSON: `%v %s %q %d %x %X %t %f %g %e %c %%` with flags, width, precision.
fn printf(format: &str, values: &[Value]) -> String {
    let mut out = String::new();
    let mut values = values.iter();
    let mut rest = format.chars().peekable();
    while let Some(character) = rest.next() {
        if character != '%' {
            out.push(character);
            continue;
        }
        let (mut left, mut zero, mut plus, mut sharp) = (false, false, false, false);
        while let Some(flag) = rest.next_if(|c| matches!(c, '-' | '0' | '+' | ' ' | '#')) {
            left |= flag == '-';
            zero |= flag == '0';
            plus |= flag == '+';
            sharp |= flag == '#';
        }
        let mut digits = String::new();
        while let Some(digit) = rest.next_if(char::is_ascii_digit) {
            digits.push(digit);
        }
        let width = digits.parse::<usize>().unwrap_or(0).min(1 << 16);
        let precision = rest.next_if_eq(&'.').map(|_| {
            let mut digits = String::new();
            while let Some(digit) = rest.next_if(char::is_ascii_digit) {
                digits.push(digit);
            }
            digits.parse::<usize>().unwrap_or(0).min(1 << 10)
        });
        let Some(verb) = rest.next() else {
            out.push_str("%!(NOVERB)");
            break;
        };
        if verb == '%' {
            out.push('%');
            continue;
        }
        let Some(value) = values.next() else {
            let _ = write!(out, "%!{verb}(MISSING)");
            continue;
        };
        let mut shown = one(verb, value, precision, sharp);
        let numeric = matches!(value, Value::Number(_));
        if plus && numeric && !shown.starts_with('-') {
            shown.insert(0, '+');
        }
        let missing = width.saturating_sub(shown.chars().count());
        if left {
            shown.extend(std::iter::repeat_n(' ', missing));
        } else if zero && numeric {
            let sign = usize::from(shown.starts_with(['-', '+']));
            shown.insert_str(sign, &"0".repeat(missing));
        } else {
            shown.insert_str(0, &" ".repeat(missing));
        }
        out.push_str(&shown);
    }
    let extra: Vec<String> = values.map(|value| format!("{}={value}", go_type(value))).collect();
    if !extra.is_empty() {
        let _ = write!(out, "%!(EXTRA {})", extra.join(", "));
    }
    out
}

fn one(verb: char, value: &Value, precision: Option<usize>, sharp: bool) -> String {
    match (verb, value) {
        ('q', Value::String(text)) => Value::from(text.as_str()).compact(),
        ('v', Value::String(text)) if sharp => Value::from(text.as_str()).compact(),
        ('s' | 'v', _) => {
            let text = value.to_string();
            match precision {
                Some(limit) if matches!(value, Value::String(_)) => text.chars().take(limit).collect(),
                _ => text,
            }
        }
        ('t', Value::Bool(flag)) => flag.to_string(),
        ('d', Value::Number(digits)) if digits.parse::<i64>().is_ok() || digits.parse::<u64>().is_ok() => {
            digits.clone()
        }
        ('x', Value::String(text)) => text.bytes().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        }),
        ('x' | 'X' | 'o' | 'b' | 'c', Value::Number(digits)) => match (digits.parse::<i64>(), verb) {
            (Ok(number), 'x') => format!("{number:x}"),
            (Ok(number), 'X') => format!("{number:X}"),
            (Ok(number), 'o') => format!("{number:o}"),
            (Ok(number), 'b') => format!("{number:b}"),
            (Ok(number), _) => {
                u32::try_from(number).ok().and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER).to_string()
            }
            _ => format!("%!{verb}(float64={digits})"),
        },
        ('f' | 'F' | 'e' | 'g', Value::Number(digits)) => match (digits.parse::<f64>(), verb) {
            (Ok(number), 'e') => format!("{number:.*e}", precision.unwrap_or(6)),
            (Ok(number), 'g') => number.to_string(),
            (Ok(number), _) => format!("{number:.*}", precision.unwrap_or(6)),
            _ => format!("%!{verb}({digits})"),
        },
        (verb, value) => format!("%!{verb}({}={value})", go_type(value)),
    }
}

pub(super) fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(_) => "int",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}
