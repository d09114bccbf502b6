//! Text as it is written in HTML, in JavaScript and in the query of an address, as Go's templates do it.

use std::fmt::Write as _;

/// For the text or an attribute of an HTML document.
pub(super) fn html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\0' => out.push(char::REPLACEMENT_CHARACTER),
            other => out.push(other),
        }
    }
    out
}

/// For a string in JavaScript, also one in HTML.
pub(super) fn javascript(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\\' | '\'' | '"' => out.extend(['\\', character]),
            '<' | '>' | '&' | '=' => {
                let _ = write!(out, "\\u{:04X}", character as u32);
            }
            // What cannot be seen.
            _ if character.is_control() || (!character.is_ascii() && character.escape_debug().len() > 1) => {
                let _ = write!(out, "\\u{:04X}", character as u32);
            }
            other => out.push(other),
        }
    }
    out
}

/// For a value in the query of an address.
pub(super) fn query(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            b' ' => out.push('+'),
            other => {
                let _ = write!(out, "%{other:02X}");
            }
        }
    }
    out
}
