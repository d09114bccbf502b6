//! One line of a json-file log: `{"log":"…","stream":"stdout","time":"…"}`, perhaps with `"attrs":{…},` before the time, read without
//! building a document.

use serde::Deserialize;

/// Which of the two outputs something was written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A line as it lies in the log, its message still escaped.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Record<'a> {
    /// The message between its quotes.
    escaped: &'a [u8],
    pub(super) output: Output,
    /// RFC 3339 with up to nine digits of a second.
    pub(super) time: &'a [u8],
}

impl<'a> Record<'a> {
    /// Reads a line in the order of fields that the monitor (and Docker) writes; `None` for every other line.
    pub(super) fn parse(line: &'a [u8]) -> Option<Self> {
        let rest = line.strip_prefix(b"{\"log\":\"")?;
        let length = end_of_string(rest)?;
        let (escaped, rest) = rest.split_at(length);
        let rest = rest.strip_prefix(b"\",\"stream\":\"std")?;
        let (output, rest) = match rest.get(..3)? {
            b"out" => (Output::Stdout, &rest[3..]),
            b"err" => (Output::Stderr, &rest[3..]),
            _ => return None,
        };
        let time = match rest.strip_prefix(b"\",\"time\":\"") {
            Some(time) => time.strip_suffix(b"\"}")?,
            None => after_attributes(rest)?,
        };
        // Nothing but a time has this form, so there is nothing after it either.
        (time.len() <= 35 && time.first().is_some_and(u8::is_ascii_digit) && !time.contains(&b'"')).then_some(Self {
            escaped,
            output,
            time,
        })
    }

    /// Whether the message ends a line; one that was too long for a record goes on in the next.
    pub(super) fn ends_line(&self) -> bool {
        self.escaped.ends_with(b"\\n")
            && self.escaped[..self.escaped.len() - 1].iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1
    }

    /// Appends the message as it was written.
    pub(super) fn unescape_into(&self, out: &mut Vec<u8>) -> Option<()> {
        let mut rest = self.escaped;
        loop {
            let Some(at) = rest.iter().position(|byte| *byte == b'\\') else {
                out.extend_from_slice(rest);
                return Some(());
            };
            out.extend_from_slice(&rest[..at]);
            let plain = match rest.get(at + 1)? {
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'b' => 8,
                b'f' => 12,
                same @ (b'"' | b'\\' | b'/') => *same,
                b'u' => {
                    let (character, length) = unicode(&rest[at..])?;
                    out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                    rest = &rest[at + length..];
                    continue;
                }
                _ => return None,
            };
            out.push(plain);
            rest = &rest[at + 2..];
        }
    }
}

/// The time behind attributes, of which nothing is wanted here.
fn after_attributes(rest: &[u8]) -> Option<&[u8]> {
    let rest = rest.strip_prefix(b"\",\"attrs\":{")?.strip_suffix(b"\"}")?;
    let quote = rest.iter().rposition(|byte| *byte == b'"')?;
    rest[..=quote].ends_with(b"},\"time\":\"").then_some(&rest[quote + 1..])
}

fn end_of_string(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += text.get(at..)?.iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
        if text[at] == b'"' {
            return Some(at);
        }
        at += 2;
    }
}

/// The character of `\uXXXX` (or of two of them) at the beginning of `text`, and how many bytes it took.
fn unicode(text: &[u8]) -> Option<(char, usize)> {
    let unit = |at: usize| {
        let escape = text.get(at..at + 6)?;
        let digits = std::str::from_utf8(escape.strip_prefix(b"\\u")?).ok()?;
        u16::from_str_radix(digits, 16).ok()
    };
    let first = unit(0)?;
    if let Some(character) = char::from_u32(first.into()) {
        return Some((character, 6));
    }
    match unit(6).map(|second| char::decode_utf16([first, second]).next()) {
        Some(Some(Ok(character))) => Some((character, 12)),
        _ => Some((char::REPLACEMENT_CHARACTER, 6)),
    }
}

/// A line whose fields lie in another order or are more.
#[derive(Deserialize)]
pub(super) struct Foreign<'a> {
    #[serde(default)]
    pub(super) log: String,
    #[serde(default)]
    stream: &'a str,
    pub(super) time: &'a str,
}

impl<'a> Foreign<'a> {
    pub(super) fn parse(line: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(line).ok()
    }

    pub(super) fn output(&self) -> Output {
        if self.stream == "stderr" { Output::Stderr } else { Output::Stdout }
    }
}

/// Nanoseconds since 1970 of an RFC 3339 time in UTC.
pub(super) fn nanoseconds(time: &[u8]) -> Option<i64> {
    let number = |range: std::ops::Range<usize>| {
        time.get(range)?
            .iter()
            .try_fold(0_i64, |sum, digit| digit.is_ascii_digit().then(|| sum * 10 + i64::from(digit - b'0')))
    };
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    let punctuation = [time[4], time[7], time[10], time[13], time[16]];
    if punctuation != *b"--T::" || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let tail = &time[19..];
    let digits = match tail.strip_prefix(b".") {
        Some(fraction) => fraction.iter().take_while(|byte| byte.is_ascii_digit()).count(),
        None => 0,
    };
    let mut fraction = if digits > 0 { number(20..20 + digits.min(9))? } else { 0 };
    for _ in digits.min(9)..9 {
        fraction *= 10;
    }
    let zone = if digits > 0 { &tail[1 + digits..] } else { tail };
    let offset = match zone {
        b"Z" => 0,
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let pair = |a: &u8, b: &u8| Some(i64::from((*a as char).to_digit(10)? * 10 + (*b as char).to_digit(10)?));
            (pair(h1, h2)? * 3600 + pair(m1, m2)? * 60) * if *sign == b'-' { -1 } else { 1 }
        }
        _ => return None,
    };
    // Days since 1970, with the year begun in March so that the leap day is its last.
    let shifted = if month <= 2 { year - 1 } else { year };
    let era = shifted.div_euclid(400);
    let year_of_era = shifted.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468;
    let seconds = days * 86_400 + hour * 3600 + minute * 60 + second - offset;
    seconds.checked_mul(1_000_000_000)?.checked_add(fraction)
}

/// Appends a time with exactly nine digits of a second, and a space.
pub(super) fn fixed_time_into(time: &[u8], out: &mut Vec<u8>) {
    let whole = time.get(..19).unwrap_or(time);
    out.extend_from_slice(whole);
    let tail = &time[whole.len()..];
    let fraction = tail.strip_prefix(b".").unwrap_or_default();
    let digits = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
    out.push(b'.');
    out.extend_from_slice(&fraction[..digits.min(9)]);
    for _ in digits.min(9)..9 {
        out.push(b'0');
    }
    let zone = if digits > 0 { &fraction[digits..] } else { tail };
    out.extend_from_slice(zone);
    out.push(b' ');
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn message(line: &str) -> Option<String> {
        let mut out = Vec::new();
        Record::parse(line.as_bytes())?.unescape_into(&mut out)?;
        Some(String::from_utf8(out).unwrap())
    }

    fn line(log: &str) -> String {
        format!(r#"{{"log":"{log}","stream":"stderr","time":"2026-01-02T03:04:05.6Z"}}"#)
    }

    #[test]
    fn a_record_is_read() {
        let text = line("hello\\n");
        let record = Record::parse(text.as_bytes()).unwrap();
        assert_eq!((record.output, record.time), (Output::Stderr, &b"2026-01-02T03:04:05.6Z"[..]));
        assert!(record.ends_line());
        assert_eq!(message(&text).unwrap(), "hello\n");
    }

    #[test]
    fn a_record_with_attributes_is_read() {
        for attributes in [r#"{"a":"1","tag":"x"}"#, r#"{"a":"\"},\"time\":\"2"}"#, "{}"] {
            let text = line("hello\\n").replace(",\"time", &format!(",\"attrs\":{attributes},\"time"));
            let record = Record::parse(text.as_bytes()).unwrap();
            assert_eq!((record.output, record.time), (Output::Stderr, &b"2026-01-02T03:04:05.6Z"[..]));
            assert!(record.ends_line());
            // Cut off anywhere it is none.
            assert!((0..text.len()).all(|end| Record::parse(&text.as_bytes()[..end]).is_none()));
        }
    }

    #[test]
    fn escapes_are_taken_back() {
        assert_eq!(message(&line(r#"\"a\\\t\u001b\u00e9\u2028\ud83d\ude00\/"#)).unwrap(), "\"a\\\t\u{1b}é\u{2028}😀/");
        assert_eq!(message(&line(r"\ud83dx")).unwrap(), "\u{fffd}x");
        for broken in [r"\x", r"\u12", r"\"] {
            assert_eq!(message(&line(broken)), None, "{broken}");
        }
    }

    #[test]
    fn a_backslash_before_an_n_does_not_end_a_line() {
        for (log, ends) in [(r"a\n", true), (r"a\\n", false), (r"a\\\n", true), ("a", false), ("", false)] {
            assert_eq!(Record::parse(line(log).as_bytes()).unwrap().ends_line(), ends, "{log}");
        }
    }

    #[test]
    fn what_the_monitor_does_not_write_is_left_to_the_other_reader() {
        for other in ["", "{", r#"{"log":"x"}"#, r#"{"log":"x","stream":"stdin","time":"2026"}"#, "{\"log\":\"x"] {
            assert_eq!(Record::parse(other.as_bytes()), None, "{other}");
        }
        let foreign =
            Foreign::parse(br#"{"stream":"stderr","log":"x\n","attrs":{"a":"b"},"time":"2026-01-02T03:04:05Z"}"#)
                .unwrap();
        assert_eq!((foreign.log.as_str(), foreign.output()), ("x\n", Output::Stderr));
    }

    #[test]
    fn times_are_read_and_filled_up() {
        for (text, nanos) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-03-01T00:00:00Z", 951_868_800_000_000_000),
            ("2026-01-02T03:04:05.6Z", 1_767_323_045_600_000_000),
            ("2026-01-02T04:04:05.123456789+01:00", 1_767_323_045_123_456_789),
        ] {
            assert_eq!(nanoseconds(text.as_bytes()), Some(nanos), "{text}");
        }
        for text in [
            "",
            "2026",
            "2026-13-01T00:00:00Z",
            "2026-01-02T03:04:05",
            "2026-01-02T03:04:05.xZ",
            "2026-01-02 03:04:05Z",
        ] {
            assert_eq!(nanoseconds(text.as_bytes()), None, "{text}");
        }
        for (text, fixed) in [
            ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05.000000000Z "),
            ("2026-01-02T03:04:05.12Z", "2026-01-02T03:04:05.120000000Z "),
        ] {
            let mut out = Vec::new();
            fixed_time_into(text.as_bytes(), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), fixed);
        }
    }
}
