//! Fluentd's forward protocol: a MessagePack array of tag, time and record for each line.

use std::collections::BTreeMap;
use std::io;

use super::address::{Address, Connection};
use super::{Source, message};
use crate::logs::{LogLine, Output};
use crate::tls::Trust;

const PORT: u16 = 24224;

/// A connection to a fluentd.
#[derive(Debug)]
pub(crate) struct Fluentd {
    connection: Connection,
    precise: bool,
    source: Source,
}

fn address(options: &BTreeMap<String, String>) -> Result<Address, String> {
    let text = options.get("fluentd-address").map_or("127.0.0.1", String::as_str);
    match Address::parse(text, PORT)? {
        address @ (Address::Tcp(_) | Address::Tls(_) | Address::Unix(_)) => Ok(address),
        _ => Err(format!("fluentd: {text:?} needs to be tcp:// or unix://")),
    }
}

fn truth(options: &BTreeMap<String, String>, name: &str) -> Result<bool, String> {
    match options.get(name).map(String::as_str) {
        None | Some("false" | "0") => Ok(false),
        Some("true" | "1") => Ok(true),
        Some(other) => Err(format!("invalid value for {name}: {other}")),
    }
}

pub(super) fn check(options: &BTreeMap<String, String>) -> Result<(), String> {
    truth(options, "fluentd-sub-second-precision")?;
    truth(options, "fluentd-async")?;
    address(options).map(drop)
}

impl Fluentd {
    pub(super) async fn connect(options: &BTreeMap<String, String>, source: Source) -> Result<Self, String> {
        let precise = truth(options, "fluentd-sub-second-precision")?;
        Ok(Self { connection: address(options)?.connect(&Trust::default()).await?, precise, source })
    }

    pub(super) async fn send(&mut self, line: &LogLine) -> io::Result<()> {
        let event = self.event(line);
        self.connection.send(&event).await
    }

    fn event(&self, line: &LogLine) -> Vec<u8> {
        let source = &self.source;
        let stream = if line.output == Output::Stderr { "stderr" } else { "stdout" };
        let name = format!("/{}", source.name);
        let mut record: Vec<(&str, &[u8])> = vec![
            ("container_id", source.id.as_bytes()),
            ("container_name", name.as_bytes()),
            ("source", stream.as_bytes()),
            ("log", message(line)),
        ];
        if !line.bytes.ends_with(b"\n") {
            record.push(("partial_message", b"true"));
        }
        record.extend(source.attributes.iter().map(|(name, value)| (name.as_str(), value.as_bytes())));
        let mut out = vec![0x93];
        text(&mut out, source.tag.as_bytes());
        let (seconds, nanos) = (line.at.div_euclid(1_000_000_000), line.at.rem_euclid(1_000_000_000));
        if self.precise {
            // Fluentd's own type of a time: two numbers of 32 bits.
            out.extend_from_slice(&[0xd7, 0]);
            out.extend_from_slice(&u32::try_from(seconds).unwrap_or(0).to_be_bytes());
            out.extend_from_slice(&u32::try_from(nanos).unwrap_or(0).to_be_bytes());
        } else {
            out.push(0xd3);
            out.extend_from_slice(&seconds.to_be_bytes());
        }
        out.push(0xde);
        out.extend_from_slice(&u16::try_from(record.len()).unwrap_or(u16::MAX).to_be_bytes());
        for (name, value) in record.into_iter().take(usize::from(u16::MAX)) {
            text(&mut out, name.as_bytes());
            text(&mut out, value);
        }
        out
    }
}

/// A string of MessagePack; what is no UTF-8 is made so.
fn text(out: &mut Vec<u8>, bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    match (u8::try_from(text.len()), u16::try_from(text.len())) {
        (Ok(length), _) if length < 32 => out.push(0xa0 | length),
        (Ok(length), _) => out.extend_from_slice(&[0xd9, length]),
        (_, Ok(length)) => {
            out.push(0xda);
            out.extend_from_slice(&length.to_be_bytes());
        }
        _ => {
            out.push(0xdb);
            out.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
        }
    }
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn a_line_is_an_event() {
        let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let options = BTreeMap::from([("fluentd-address".to_owned(), server.local_addr().unwrap().to_string())]);
        let source = Source { id: "0123".to_owned(), name: "web".to_owned(), tag: "t".to_owned(), ..Source::default() };
        let mut fluentd = Fluentd::connect(&options, source).await.unwrap();
        let bytes = bytes::Bytes::from_static(b"hello\n");
        let line = LogLine { output: Output::Stdout, at: 5_000_000_007, continued: false, bytes };
        fluentd.send(&line).await.unwrap();
        fluentd.precise = true;
        let precise = fluentd.event(&line);
        drop(fluentd);
        let (mut stream, _) = server.accept().await.unwrap();
        let mut bytes = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut bytes).await.unwrap();
        let mut expected = b"\x93\xa1t\xd3\0\0\0\0\0\0\0\x05\xde\0\x04".to_vec();
        expected.extend(b"\xaccontainer_id\xa40123\xaecontainer_name\xa4/web\xa6source\xa6stdout\xa3log\xa5hello");
        assert_eq!(bytes, expected);
        assert!(precise.starts_with(b"\x93\xa1t\xd7\0\0\0\0\x05\0\0\0\x07\xde"));
    }

    #[test]
    fn strings_have_the_shortest_head() {
        for (length, head) in [(31, 1), (32, 2), (256, 3), (70_000, 5)] {
            let mut out = Vec::new();
            text(&mut out, &vec![b'x'; length]);
            assert_eq!(out.len(), length + head);
        }
    }
}
