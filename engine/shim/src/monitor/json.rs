//! Records of Docker's json-file log: `{"log":"…","stream":"stdout","time":"…Z"}` and a newline each, with `"attrs":{…},` before the
//! time where there are some.

/// The most bytes that a record of a line of [`MAX_LINE`] bytes can have.
pub(crate) const MAX_RECORD: usize = MAX_LINE * 6 + 128;
/// A longer line becomes several records, of which only the last one's text ends in a newline.
pub(crate) const MAX_LINE: usize = 16 << 10;

/// Appends to a buffer that the caller has made large enough; what does not fit is dropped.
#[derive(Debug)]
pub(crate) struct Writer<'a> {
    buffer: &'a mut [u8],
    pub(crate) length: usize,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(buffer: &'a mut [u8], length: usize) -> Self {
        Self { buffer, length }
    }

    fn put(&mut self, bytes: &[u8]) {
        if let Some(place) = self.buffer.get_mut(self.length..self.length + bytes.len()) {
            place.copy_from_slice(bytes);
            self.length += bytes.len();
        }
    }

    /// A record of `line`, with its newline unless more of the line follows. `attributes` are a JSON object or nothing.
    pub(crate) fn record(&mut self, line: &[u8], newline: bool, tail: &Tail, attributes: &[u8]) {
        self.put(b"{\"log\":\"");
        self.escaped(line);
        let (stream, time) = tail.as_bytes().split_at(if attributes.is_empty() { tail.length } else { tail.time_at });
        self.put(if newline { stream } else { &stream[NEWLINE.len()..] });
        if !attributes.is_empty() {
            self.put(ATTRIBUTES);
            self.put(attributes);
            self.put(time);
        }
    }

    fn escaped(&mut self, text: &[u8]) {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let mut plain = 0;
        let mut at = 0;
        while let Some(&byte) = text.get(at) {
            if (0x20..0x80).contains(&byte) && !matches!(byte, b'"' | b'\\' | b'<' | b'>' | b'&') {
                at += 1;
                continue;
            }
            let length = if byte < 0x80 { 1 } else { sequence_length(&text[at..]) };
            let separator = text[at..].starts_with(b"\xe2\x80\xa8") || text[at..].starts_with(b"\xe2\x80\xa9");
            if byte >= 0x80 && length > 0 && !separator {
                at += length;
                continue;
            }
            self.put(&text[plain..at]);
            match byte {
                b'"' | b'\\' => self.put(&[b'\\', byte]),
                b'\n' => self.put(b"\\n"),
                b'\r' => self.put(b"\\r"),
                0..0x80 => {
                    self.put(&[b'\\', b'u', b'0', b'0', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]])
                }
                _ if separator => self.put(&[b'\\', b'u', b'2', b'0', b'2', HEX[usize::from(text[at + 2] & 15)]]),
                _ => self.put(b"\\ufffd"),
            }
            at += length.max(1);
            plain = at;
        }
        self.put(&text[plain..]);
    }
}

/// How long the UTF-8 sequence is that the text begins with; 0 when it is none.
fn sequence_length(text: &[u8]) -> usize {
    let (length, second) = match text[0] {
        0xc2..=0xdf => (2, 0x80..=0xbf),
        0xe0 => (3, 0xa0..=0xbf),
        0xed => (3, 0x80..=0x9f),
        0xe1..=0xef => (3, 0x80..=0xbf),
        0xf0 => (4, 0x90..=0xbf),
        0xf1..=0xf3 => (4, 0x80..=0xbf),
        0xf4 => (4, 0x80..=0x8f),
        _ => return 0,
    };
    let Some(sequence) = text.get(..length) else { return 0 };
    let good = second.contains(&sequence[1]) && sequence[2..].iter().all(|byte| (0x80..=0xbf).contains(byte));
    if good { length } else { 0 }
}

/// A line's own end.
const NEWLINE: &[u8] = b"\\n";
/// What attributes begin with.
const ATTRIBUTES: &[u8] = b",\"attrs\":";
/// The bytes that a record is longer by when it has attributes of this length.
pub(crate) const fn attributes_in_record(length: usize) -> usize {
    if length == 0 { 0 } else { ATTRIBUTES.len() + length }
}

/// What follows a line, the end of the line first. The lines of one piece of output have the same.
#[derive(Debug)]
pub(crate) struct Tail {
    of: (&'static str, u64),
    text: [u8; 80],
    length: usize,
    /// Where the field of the time begins, with its comma.
    time_at: usize,
}

impl Tail {
    /// For lines of `stream`, at most eight letters, that came at `time` in nanoseconds since 1970.
    pub(crate) fn new(stream: &'static str, time: u64) -> Self {
        let mut text = [0; 80];
        let mut writer = Writer::new(&mut text, 0);
        for part in [NEWLINE, b"\",\"stream\":\"", stream.as_bytes(), b"\""] {
            writer.put(part);
        }
        let time_at = writer.length;
        for part in [b",\"time\":\"", Timestamp::new(time).as_bytes(), b"\"}\n"] {
            writer.put(part);
        }
        let length = writer.length;
        Self { of: (stream, time), text, length, time_at }
    }

    /// Whether it is that of these lines.
    pub(crate) fn is_of(&self, stream: &'static str, time: u64) -> bool {
        self.of == (stream, time)
    }

    fn as_bytes(&self) -> &[u8] {
        &self.text[..self.length]
    }
}

/// A time as RFC 3339 in UTC, with the fraction's trailing zeros left out.
#[derive(Clone, Copy, Debug)]
struct Timestamp {
    text: [u8; 30],
    length: usize,
}

impl Timestamp {
    /// `nanoseconds` since 1970.
    fn new(nanoseconds: u64) -> Self {
        let (seconds, fraction) = (nanoseconds / 1_000_000_000, nanoseconds % 1_000_000_000);
        let (days, second) = (seconds / 86_400, seconds % 86_400);
        // Days counted from the first of March of the year 0, in cycles of 400 years.
        let from_march = days + 719_468;
        let (cycle, day_of_cycle) = (from_march / 146_097, from_march % 146_097);
        let year_of_cycle = (day_of_cycle - day_of_cycle / 1460 + day_of_cycle / 36_524 - day_of_cycle / 146_096) / 365;
        let day_of_year = day_of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        let year = cycle * 400 + year_of_cycle + u64::from(month <= 2);

        let mut text = *b"0000-00-00T00:00:00.000000000Z";
        let mut put = |at: usize, digits: usize, mut value: u64| {
            for place in text[at..at + digits].iter_mut().rev() {
                *place = b'0' + (value % 10) as u8;
                value /= 10;
            }
        };
        put(0, 4, year);
        put(5, 2, month);
        put(8, 2, day);
        put(11, 2, second / 3600);
        put(14, 2, second / 60 % 60);
        put(17, 2, second % 60);
        put(20, 9, fraction);
        let mut length = 29;
        while text[length - 1] == b'0' && length > 20 {
            length -= 1;
        }
        if length == 20 {
            length = 19;
        }
        text[length] = b'Z';
        Self { text, length: length + 1 }
    }

    fn as_bytes(&self) -> &[u8] {
        &self.text[..self.length]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::String;

    fn record(line: &[u8], newline: bool) -> String {
        let mut buffer = [0; 512];
        let mut writer = Writer::new(&mut buffer, 0);
        writer.record(line, newline, &Tail::new("stdout", 0), b"");
        let length = writer.length;
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    fn escaped(line: &[u8]) -> String {
        let record = record(line, false);
        record.strip_prefix(r#"{"log":""#).unwrap().split_once(r#"","stream""#).unwrap().0.into()
    }

    #[test]
    fn a_record_has_its_fields_in_order() {
        assert_eq!(
            record(b"hi", true),
            "{\"log\":\"hi\\n\",\"stream\":\"stdout\",\"time\":\"1970-01-01T00:00:00Z\"}\n"
        );
        assert_eq!(record(b"hi", false), "{\"log\":\"hi\",\"stream\":\"stdout\",\"time\":\"1970-01-01T00:00:00Z\"}\n");
    }

    #[test]
    fn attributes_stand_before_the_time() {
        for (newline, end) in [(true, "\\n"), (false, "")] {
            let mut buffer = [0; 512];
            let mut writer = Writer::new(&mut buffer, 0);
            writer.record(b"hi", newline, &Tail::new("stderr", 0), b"{\"a\":\"1\"}");
            let length = writer.length;
            let text = String::from_utf8(buffer[..length].to_vec()).unwrap();
            let fields = r#"","stream":"stderr","attrs":{"a":"1"},"time":"1970-01-01T00:00:00Z"}"#;
            assert_eq!(text, std::format!("{{\"log\":\"hi{end}{fields}\n"));
        }
    }

    #[test]
    fn what_json_cannot_hold_is_escaped() {
        assert_eq!(escaped(b"a\"b\\c"), r#"a\"b\\c"#);
        assert_eq!(escaped(b"\t\r\x00\x1b\x7f"), "\\u0009\\r\\u0000\\u001b\u{7f}");
        assert_eq!(escaped(b"<a&b>"), r"\u003ca\u0026b\u003e");
        assert_eq!(escaped("grün 漢字 🦀".as_bytes()), "grün 漢字 🦀");
        assert_eq!(escaped("a\u{2028}b\u{2029}c".as_bytes()), r"a\u2028b\u2029c");
    }

    #[test]
    fn what_is_no_utf8_is_replaced_byte_by_byte() {
        assert_eq!(escaped(b"\xff"), r"\ufffd");
        assert_eq!(escaped(b"a\xc3"), r"a\ufffd");
        assert_eq!(escaped(b"\xe6\xbc"), r"\ufffd\ufffd");
        assert_eq!(escaped(b"\xc0\xaf\xed\xa0\x80\xf5z"), r"\ufffd\ufffd\ufffd\ufffd\ufffd\ufffdz");
        for byte in 0..=255u8 {
            let line = [byte, byte, b'x'];
            let valid = String::from_utf8_lossy(&line);
            assert_eq!(escaped(&line).contains("ufffd"), valid.contains('\u{fffd}'), "{byte:#x}");
        }
    }

    #[test]
    fn times_are_written_without_trailing_zeros() {
        let text = |nanoseconds| String::from_utf8(Timestamp::new(nanoseconds).as_bytes().to_vec()).unwrap();
        assert_eq!(text(951_782_400_000_000_000), "2000-02-29T00:00:00Z");
        assert_eq!(text(1_709_251_199_999_999_999), "2024-02-29T23:59:59.999999999Z");
        assert_eq!(text(1_767_225_600_120_000_000), "2026-01-01T00:00:00.12Z");
        assert_eq!(text(4_107_542_400_000_000_001), "2100-03-01T00:00:00.000000001Z");
        assert_eq!(text(1_000_000_010_000_000_000), "2001-09-09T01:46:50Z");
    }

    #[test]
    fn the_longest_record_fits() {
        let mut buffer = std::vec![0; MAX_RECORD];
        let mut writer = Writer::new(&mut buffer, 0);
        writer.record(&[1; MAX_LINE], true, &Tail::new("stderr", 1), b"");
        let length = writer.length;
        assert!(buffer[..length].ends_with(b"\"}\n"));
    }
}
