//! The journal of systemd, by its native protocol.

use std::io;
use std::path::Path;

use jiff::Timestamp;
use tokio::net::UnixDatagram;

use super::{Partial, Source, message};
use crate::logs::{LogLine, Output};

const SOCKET: &str = "/run/systemd/journal/socket";

/// A connection to the journal.
#[derive(Debug)]
pub(crate) struct Journald {
    socket: UnixDatagram,
    /// The fields that every entry has.
    fixed: Vec<u8>,
}

impl Journald {
    pub(super) fn connect(source: Source) -> Result<Self, String> {
        Self::connect_to(Path::new(SOCKET), source)
    }

    fn connect_to(path: &Path, source: Source) -> Result<Self, String> {
        let connected = UnixDatagram::unbound().and_then(|socket| socket.connect(path).map(|()| socket));
        let socket = connected
            .map_err(|error| format!("journald is not enabled on this host: connect to {}: {error}", path.display()))?;
        let mut fixed = Vec::new();
        let short: String = source.id.chars().take(12).collect();
        for (name, value) in [
            ("CONTAINER_ID", short.as_str()),
            ("CONTAINER_ID_FULL", &source.id),
            ("CONTAINER_NAME", &source.name),
            ("CONTAINER_TAG", &source.tag),
            ("IMAGE_NAME", &source.image),
            ("SYSLOG_IDENTIFIER", &source.tag),
        ] {
            field(&mut fixed, name, value.as_bytes());
        }
        for (name, value) in &source.attributes {
            field(&mut fixed, &field_name(name), value.as_bytes());
        }
        Ok(Self { socket, fixed })
    }

    pub(super) async fn send(&mut self, line: &LogLine, partial: Option<&Partial>) -> io::Result<()> {
        let mut entry = self.fixed.clone();
        // The journal's own time is that at which it heard of the line.
        if let Ok(at) = Timestamp::from_nanosecond(line.at.into()) {
            field(&mut entry, "SYSLOG_TIMESTAMP", at.to_string().as_bytes());
        }
        field(&mut entry, "PRIORITY", if line.output == Output::Stderr { b"3" } else { b"6" });
        if let Some(partial) = partial {
            field(&mut entry, "CONTAINER_PARTIAL_ID", partial.id.as_bytes());
            field(&mut entry, "CONTAINER_PARTIAL_ORDINAL", partial.ordinal.to_string().as_bytes());
            field(&mut entry, "CONTAINER_PARTIAL_LAST", if partial.last { b"true" } else { b"false" });
            if !partial.last {
                field(&mut entry, "CONTAINER_PARTIAL_MESSAGE", b"true");
            }
        }
        field(&mut entry, "MESSAGE", message(line));
        self.socket.send(&entry).await.map(drop)
    }
}

/// `NAME=value` and a newline; a value with newlines has its length before it.
fn field(entry: &mut Vec<u8>, name: &str, value: &[u8]) {
    entry.extend_from_slice(name.as_bytes());
    if value.contains(&b'\n') {
        entry.push(b'\n');
        entry.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        entry.push(b'=');
    }
    entry.extend_from_slice(value);
    entry.push(b'\n');
}

/// Upper case, digits and underlines, not with an underline first: all else the journal refuses.
fn field_name(name: &str) -> String {
    let plain = |character: char| if character.is_ascii_alphanumeric() { character.to_ascii_uppercase() } else { '_' };
    let name: String = name.chars().map(plain).take(64).collect();
    name.trim_start_matches(|character: char| character == '_' || character.is_ascii_digit()).to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn a_line_is_an_entry() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("socket");
        assert!(Journald::connect_to(&path, Source::default()).unwrap_err().contains("not enabled on this host"));
        let server = UnixDatagram::bind(&path).unwrap();
        let source = Source { id: "0123456789abcdef".to_owned(), tag: "web".to_owned(), ..Source::default() };
        let mut journald = Journald::connect_to(&path, source).unwrap();
        let bytes = bytes::Bytes::from_static(b"hello\n");
        let mut line = LogLine { output: Output::Stderr, at: 1, continued: false, bytes };
        journald.send(&line, None).await.unwrap();
        let mut buffer = [0; 1024];
        let count = server.recv(&mut buffer).await.unwrap();
        let text = String::from_utf8_lossy(&buffer[..count]).into_owned();
        assert!(text.starts_with("CONTAINER_ID=0123456789ab\nCONTAINER_ID_FULL=0123456789abcdef\n"), "{text}");
        assert!(
            text.ends_with(
                "SYSLOG_IDENTIFIER=web\nSYSLOG_TIMESTAMP=1970-01-01T00:00:00.000000001Z\nPRIORITY=3\nMESSAGE=hello\n"
            ),
            "{text}"
        );
        line.bytes = line.bytes.slice(..5);
        for last in [false, true] {
            let partial = Partial { id: "ab".to_owned(), ordinal: 3, last };
            journald.send(&line, Some(&partial)).await.unwrap();
            let count = server.recv(&mut buffer).await.unwrap();
            let text = String::from_utf8_lossy(&buffer[..count]).into_owned();
            let more = if last { "" } else { "CONTAINER_PARTIAL_MESSAGE=true\n" };
            let fields = "CONTAINER_PARTIAL_ID=ab\nCONTAINER_PARTIAL_ORDINAL=3\nCONTAINER_PARTIAL_LAST=";
            assert!(text.ends_with(&format!("{fields}{last}\n{more}MESSAGE=hello\n")), "{text}");
        }
    }

    #[test]
    fn fields_are_the_journals() {
        assert_eq!([field_name("com.example-x"), field_name("_9a")], ["COM_EXAMPLE_X", "A"]);
        let mut entry = Vec::new();
        field(&mut entry, "A", b"b\nc");
        assert_eq!(entry, b"A\n\x03\0\0\0\0\0\0\0b\nc\n");
    }
}
