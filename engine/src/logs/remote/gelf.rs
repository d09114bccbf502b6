//! GELF 1.1: JSON over UDP, compressed and cut into chunks, or over TCP, ended by zero bytes.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use serde_json::{Map, Value, json};

use super::address::{Address, Connection};
use super::{Source, Tries, message, number};
use crate::logs::{LogLine, Output};
use crate::tls::Trust;

const PORT: u16 = 12201;
/// Bytes of a chunk's payload: a datagram that crosses a usual network whole.
const CHUNK: usize = 1420 - 12;
const MAX_CHUNKS: usize = 128;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Packing {
    None,
    Gzip,
    Zlib,
}

/// A connection to a GELF server.
#[derive(Debug)]
pub(crate) struct Gelf {
    connection: Connection,
    packing: Packing,
    level: Compression,
    /// What is the same in every message.
    fixed: Map<String, Value>,
    number: u64,
}

fn address(options: &BTreeMap<String, String>) -> Result<Address, String> {
    let text = options.get("gelf-address").filter(|text| !text.is_empty());
    let text = text.ok_or_else(|| "gelf-address is a required parameter of the gelf log driver".to_owned())?;
    match Address::parse(text, PORT)? {
        address @ (Address::Udp(_) | Address::Tcp(_)) if text.contains("://") => Ok(address),
        _ => Err(format!("gelf: endpoint {text:?} needs to be udp:// or tcp://")),
    }
}

fn packing(options: &BTreeMap<String, String>) -> Result<(Packing, Compression), String> {
    let packing = match options.get("gelf-compression-type").map(String::as_str) {
        None | Some("gzip") => Packing::Gzip,
        Some("zlib") => Packing::Zlib,
        Some("none") => Packing::None,
        Some(other) => return Err(format!("gelf: invalid compression type {other:?}: use gzip, zlib or none")),
    };
    let level = match options.get("gelf-compression-level") {
        None => Compression::fast(),
        Some(text) => match text.parse::<i32>() {
            Ok(-1) => Compression::default(),
            Ok(level @ 0..=9) => Compression::new(level.unsigned_abs()),
            _ => return Err(format!("gelf: invalid compression level {text:?}: use -1 to 9")),
        },
    };
    Ok((packing, level))
}

/// The tries over TCP; what goes by UDP is sent once.
pub(super) fn tries(options: &BTreeMap<String, String>) -> Result<Tries, String> {
    let mut tries = Tries { most: number(options, "gelf-tcp-max-reconnect")?, ..Tries::default() };
    if let Some(seconds) = number(options, "gelf-tcp-reconnect-delay")? {
        (tries.first, tries.longest) = (Duration::from_secs(seconds), Duration::from_secs(seconds));
    }
    Ok(tries)
}

pub(super) fn check(options: &BTreeMap<String, String>) -> Result<(), String> {
    packing(options)?;
    tries(options)?;
    match address(options)? {
        Address::Udp(_) if options.keys().any(|option| option.starts_with("gelf-tcp-")) => {
            Err("gelf-tcp-max-reconnect and gelf-tcp-reconnect-delay are only valid for TCP".to_owned())
        }
        Address::Tcp(_) if options.keys().any(|option| option.starts_with("gelf-compression")) => {
            Err("gelf: compression is only possible with UDP".to_owned())
        }
        _ => Ok(()),
    }
}

impl Gelf {
    pub(super) async fn connect(options: &BTreeMap<String, String>, source: Source) -> Result<Self, String> {
        let (packing, level) = packing(options)?;
        let connection = address(options)?.connect(&Trust::default()).await?;
        let mut fixed = Map::new();
        let pairs = [
            ("version", "1.1".to_owned()),
            ("host", source.host),
            ("_container_id", source.id),
            ("_container_name", source.name),
            ("_image_id", source.image_id),
            ("_image_name", source.image),
            ("_command", source.command),
            ("_tag", source.tag),
            ("_created", source.created),
        ];
        fixed.extend(pairs.map(|(name, value)| (name.to_owned(), Value::String(value))));
        fixed.extend(source.attributes.into_iter().map(|(name, value)| (format!("_{name}"), Value::String(value))));
        // Any number will do that messages at one time do not share.
        let number = u64::from(std::process::id()) << 32;
        Ok(Self { connection, packing, level, fixed, number })
    }

    pub(super) async fn send(&mut self, line: &LogLine) -> io::Result<()> {
        let text = message(line);
        // What is empty is not allowed.
        if text.is_empty() {
            return Ok(());
        }
        let mut document = self.fixed.clone();
        document.insert("short_message".to_owned(), json!(String::from_utf8_lossy(text)));
        document.insert("level".to_owned(), json!(if line.output == Output::Stderr { 3 } else { 6 }));
        document.insert("timestamp".to_owned(), json!(seconds(line.at)));
        let mut bytes = serde_json::to_vec(&document)?;
        if !self.connection.is_datagram() {
            bytes.push(0);
            return self.connection.send(&bytes).await;
        }
        let packed = self.pack(bytes)?;
        for chunk in self.chunks(&packed) {
            self.connection.send(&chunk).await?;
        }
        Ok(())
    }

    fn pack(&self, bytes: Vec<u8>) -> io::Result<Vec<u8>> {
        match self.packing {
            Packing::None => Ok(bytes),
            Packing::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), self.level);
                encoder.write_all(&bytes)?;
                encoder.finish()
            }
            Packing::Zlib => {
                let mut encoder = ZlibEncoder::new(Vec::new(), self.level);
                encoder.write_all(&bytes)?;
                encoder.finish()
            }
        }
    }

    /// The datagrams of a message; none when it is too long for the protocol.
    fn chunks(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        if bytes.len() <= CHUNK {
            return vec![bytes.to_vec()];
        }
        let count = bytes.len().div_ceil(CHUNK);
        let Some(count) = u8::try_from(count).ok().filter(|count| usize::from(*count) <= MAX_CHUNKS) else {
            return Vec::new();
        };
        self.number += 1;
        let head = |index: u8| [&[0x1e, 0x0f], &self.number.to_be_bytes()[..], &[index, count]].concat();
        bytes.chunks(CHUNK).zip(0..).map(|(chunk, index)| [head(index), chunk.to_vec()].concat()).collect()
    }
}

#[allow(clippy::cast_precision_loss, reason = "the protocol wants a number with a point")]
fn seconds(nanos: i64) -> f64 {
    (nanos / 1_000_000) as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Read as _;

    use super::*;

    fn line(text: &str) -> LogLine {
        LogLine { output: Output::Stderr, at: 1_500_000_000, continued: false, bytes: text.to_owned().into() }
    }

    #[tokio::test]
    async fn messages_are_packed_and_cut() {
        let server = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = format!("udp://{}", server.local_addr().unwrap());
        let with = |packing: &str| {
            let pairs = [("gelf-address", address.as_str()), ("gelf-compression-type", packing)];
            pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
        };
        let source = Source { name: "web".to_owned(), ..Source::default() };
        let mut gelf = Gelf::connect(&with("gzip"), source.clone()).await.unwrap();
        gelf.send(&line("hello\n")).await.unwrap();
        let mut buffer = [0; 2000];
        let count = server.recv(&mut buffer).await.unwrap();
        let mut text = String::new();
        flate2::read::GzDecoder::new(&buffer[..count]).read_to_string(&mut text).unwrap();
        let document: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&document["short_message"], &document["_container_name"]), (&json!("hello"), &json!("web")));
        assert_eq!((&document["level"], &document["timestamp"]), (&json!(3), &json!(1.5)));

        let mut gelf = Gelf::connect(&with("none"), source).await.unwrap();
        gelf.send(&line(&"x".repeat(4000))).await.unwrap();
        let mut whole = Vec::new();
        for index in 0..3 {
            let count = server.recv(&mut buffer).await.unwrap();
            assert_eq!((&buffer[..2], buffer[10], buffer[11]), (&[0x1e, 0x0f][..], index, 3));
            whole.extend_from_slice(&buffer[12..count]);
        }
        let document: Value = serde_json::from_slice(&whole).unwrap();
        assert_eq!(document["short_message"].as_str().unwrap().len(), 4000);
        assert!(gelf.chunks(&vec![0; CHUNK * 200]).is_empty());
    }

    #[tokio::test]
    async fn over_tcp_messages_end_with_a_zero_byte() {
        let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("tcp://{}", server.local_addr().unwrap());
        let options = BTreeMap::from([("gelf-address".to_owned(), address)]);
        let mut gelf = Gelf::connect(&options, Source::default()).await.unwrap();
        gelf.send(&line("hello\n")).await.unwrap();
        drop(gelf);
        let (mut stream, _) = server.accept().await.unwrap();
        let mut bytes = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut bytes).await.unwrap();
        assert_eq!(bytes.pop(), Some(0));
        assert!(serde_json::from_slice::<Value>(&bytes).is_ok());
    }
}
