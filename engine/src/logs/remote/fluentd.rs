//! Fluentd's forward protocol: a MessagePack array of tag, time and record for each line, and the server's word that it has it.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::address::{Address, Connection, PATIENCE};
use super::{Partial, Source, Tries, duration, message, number, truth};
use crate::logs::{LogLine, Output};
use crate::settings::Bytes;
use crate::tls::Trust;

const PORT: u16 = 24224;

/// A connection to a fluentd.
#[derive(Debug)]
pub(crate) struct Fluentd {
    connection: Connection,
    precise: bool,
    /// The server says what it has got.
    acknowledged: bool,
    /// How long a line may take.
    patience: Duration,
    source: Source,
}

fn address(options: &BTreeMap<String, String>) -> Result<Address, String> {
    let text = options.get("fluentd-address").map_or("127.0.0.1", String::as_str);
    match Address::parse(text, PORT)? {
        address @ (Address::Tcp(_) | Address::Tls(_) | Address::Unix(_)) => Ok(address),
        _ => Err(format!("fluentd: {text:?} needs to be tcp:// or unix://")),
    }
}

/// The tries: doubled from the first wait on, or at one interval.
pub(super) fn tries(options: &BTreeMap<String, String>) -> Result<Tries, String> {
    let mut tries = Tries { most: number(options, "fluentd-max-retries")?, ..Tries::default() };
    if let Some(first) = duration(options, "fluentd-retry-wait")? {
        (tries.first, tries.longest) = (first, first.max(tries.longest));
    }
    if let Some(interval) = duration(options, "fluentd-async-reconnect-interval")? {
        if !(Duration::from_millis(100)..=Duration::from_secs(10)).contains(&interval) {
            return Err("fluentd-async-reconnect-interval must be between 100ms and 10s".to_owned());
        }
        (tries.first, tries.longest) = (interval, interval);
    }
    Ok(tries)
}

fn patience(options: &BTreeMap<String, String>) -> Result<Duration, String> {
    Ok(duration(options, "fluentd-write-timeout")?.filter(|timeout| !timeout.is_zero()).unwrap_or(PATIENCE))
}

pub(super) fn check(options: &BTreeMap<String, String>) -> Result<(), String> {
    for name in ["fluentd-sub-second-precision", "fluentd-async", "fluentd-request-ack"] {
        truth(options, name)?;
    }
    tries(options)?;
    patience(options)?;
    // What waits lies in the log's own files, and they have their own bounds.
    if let Some(limit) = options.get("fluentd-buffer-limit") {
        limit.parse::<Bytes>().map_err(|_| format!("invalid value for fluentd-buffer-limit: {limit}"))?;
    }
    address(options).map(drop)
}

impl Fluentd {
    pub(super) async fn connect(options: &BTreeMap<String, String>, source: Source) -> Result<Self, String> {
        let precise = truth(options, "fluentd-sub-second-precision")?;
        let (acknowledged, patience) = (truth(options, "fluentd-request-ack")?, patience(options)?);
        let connection = address(options)?.connect(&Trust::default()).await?;
        Ok(Self { connection, precise, acknowledged, patience, source })
    }

    pub(super) async fn send(&mut self, line: &LogLine, partial: Option<&Partial>) -> io::Result<()> {
        let mut chunk = [0; 16];
        if self.acknowledged {
            getrandom::fill(&mut chunk).map_err(|error| io::Error::other(error.to_string()))?;
        }
        let chunk = self.acknowledged.then(|| STANDARD.encode(chunk));
        let (event, patience) = (self.event(line, partial, chunk.as_deref()), self.patience);
        let sent = async {
            self.connection.send_at_leisure(&event).await?;
            match &chunk {
                Some(chunk) => self.hear_of(chunk).await,
                None => Ok(()),
            }
        };
        tokio::time::timeout(patience, sent).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }

    /// Waits for `{"ack": chunk}`.
    async fn hear_of(&mut self, chunk: &str) -> io::Result<()> {
        let mut map = [0];
        self.connection.receive(&mut map).await?;
        let is_answer =
            map == [0x81] && self.hear_text().await? == b"ack" && self.hear_text().await? == chunk.as_bytes();
        if is_answer {
            Ok(())
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidData, "it acknowledges something else"))
        }
    }

    /// A short string.
    async fn hear_text(&mut self) -> io::Result<Vec<u8>> {
        let mut head = [0];
        self.connection.receive(&mut head).await?;
        let mut length = [head[0] & 0x1f];
        match head[0] {
            0xa0..=0xbf => {}
            0xc4 | 0xd9 => self.connection.receive(&mut length).await?,
            _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "it answers what is no text")),
        }
        let mut text = vec![0; length[0].into()];
        self.connection.receive(&mut text).await?;
        Ok(text)
    }

    fn event(&self, line: &LogLine, partial: Option<&Partial>, chunk: Option<&str>) -> Vec<u8> {
        let source = &self.source;
        let stream = if line.output == Output::Stderr { "stderr" } else { "stdout" };
        let name = format!("/{}", source.name);
        let mut record: Vec<(&str, &[u8])> = vec![
            ("container_id", source.id.as_bytes()),
            ("container_name", name.as_bytes()),
            ("source", stream.as_bytes()),
            ("log", message(line)),
        ];
        let ordinal = partial.map(|partial| partial.ordinal.to_string()).unwrap_or_default();
        if let Some(partial) = partial {
            record.push(("partial_message", b"true"));
            record.push(("partial_id", partial.id.as_bytes()));
            record.push(("partial_ordinal", ordinal.as_bytes()));
            record.push(("partial_last", if partial.last { b"true" } else { b"false" }));
        }
        record.extend(source.attributes.iter().map(|(name, value)| (name.as_str(), value.as_bytes())));
        let mut out = vec![if chunk.is_some() { 0x94 } else { 0x93 }];
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
        if let Some(chunk) = chunk {
            out.push(0x81);
            text(&mut out, b"chunk");
            text(&mut out, chunk.as_bytes());
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
        fluentd.send(&line, None).await.unwrap();
        fluentd.precise = true;
        let precise = fluentd.event(&line, None, None);
        let partial = Partial { id: "ab".to_owned(), ordinal: 12, last: true };
        let last = fluentd.event(&line, Some(&partial), None);
        let partial = Partial { last: false, ..partial };
        let middle = fluentd.event(&line, Some(&partial), None);
        drop(fluentd);
        let (mut stream, _) = server.accept().await.unwrap();
        let mut bytes = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut bytes).await.unwrap();
        let mut expected = b"\x93\xa1t\xd3\0\0\0\0\0\0\0\x05\xde\0\x04".to_vec();
        expected.extend(b"\xaccontainer_id\xa40123\xaecontainer_name\xa4/web\xa6source\xa6stdout\xa3log\xa5hello");
        assert_eq!(bytes, expected);
        let fields = b"\xafpartial_message\xa4true\xaapartial_id\xa2ab\xafpartial_ordinal\xa212\xacpartial_last";
        assert!(last.ends_with(&[&fields[..], b"\xa4true"].concat()));
        assert!(middle.ends_with(&[&fields[..], b"\xa5false"].concat()));
        assert!(precise.starts_with(b"\x93\xa1t\xd7\0\0\0\0\x05\0\0\0\x07\xde"));
    }

    #[tokio::test]
    async fn a_line_counts_when_the_server_says_that_it_has_it() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap().to_string();
        let options = [("fluentd-address", address.as_str()), ("fluentd-request-ack", "true")];
        let options = options.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let mut fluentd = Fluentd::connect(&options, Source::default()).await.unwrap();
        let (mut stream, _) = server.accept().await.unwrap();
        let bytes = bytes::Bytes::from_static(b"hello\n");
        let line = LogLine { output: Output::Stdout, at: 1, continued: false, bytes };
        for right in [true, false] {
            let serve = async {
                let mut event = vec![0; fluentd_length(&line)];
                stream.read_exact(&mut event).await.unwrap();
                assert_eq!((event[0], &event[event.len() - 32..event.len() - 25]), (0x94, &b"\x81\xa5chunk"[..]));
                let mut chunk = event[event.len() - 24..].to_vec();
                if !right {
                    chunk[0] ^= 1;
                }
                stream.write_all(&[b"\x81\xa3ack\xb8", &chunk[..]].concat()).await.unwrap();
            };
            let (sent, ()) = tokio::join!(fluentd.send(&line, None), serve);
            assert_eq!(sent.is_ok(), right, "{sent:?}");
        }
        drop(stream);
        fluentd.send(&line, None).await.unwrap_err();
    }

    /// Bytes of the event of a source without a name.
    fn fluentd_length(line: &LogLine) -> usize {
        let names =
            ["container_id", "container_name", "source", "log"].iter().map(|name| name.len() + 1).sum::<usize>();
        // Array, tag, time, head of the map, "", "/", "stdout" and the line, and the option.
        1 + 1 + 9 + 3 + names + 1 + 2 + 7 + message(line).len() + 1 + 1 + 6 + 25
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
