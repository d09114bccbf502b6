//! Syslog, in the forms that Docker sends: RFC 3164, RFC 5424, and the short form of local sockets. Times are in UTC.

use std::collections::BTreeMap;
use std::io;

use jiff::Timestamp;

use super::address::{Address, Connection};
use super::{Source, message};
use crate::logs::{LogLine, Output};

const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp", "ntp",
    "audit", "alert", "clock", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
];
const PORT: u16 = 514;
/// Where the host's own syslog listens.
const LOCAL: [&str; 3] = ["/dev/log", "/var/run/syslog", "/var/run/log"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Local,
    Plain,
    Rfc3164,
    Rfc5424,
    Rfc5424Micro,
}

/// A connection to a syslog.
#[derive(Debug)]
pub(crate) struct Syslog {
    connection: Connection,
    format: Format,
    facility: usize,
    source: Source,
}

fn facility(options: &BTreeMap<String, String>) -> Result<usize, String> {
    let Some(text) = options.get("syslog-facility").filter(|text| !text.is_empty()) else { return Ok(3) };
    let known = FACILITIES.iter().position(|name| name == text);
    let number = || text.parse::<usize>().ok().filter(|number| *number < FACILITIES.len());
    known.or_else(number).ok_or_else(|| format!("invalid syslog facility: {text}"))
}

fn format(options: &BTreeMap<String, String>, local: bool) -> Result<Format, String> {
    Ok(match options.get("syslog-format").map(String::as_str) {
        None | Some("") if local => Format::Local,
        None | Some("") => Format::Plain,
        Some("rfc3164") => Format::Rfc3164,
        Some("rfc5424") => Format::Rfc5424,
        Some("rfc5424micro") => Format::Rfc5424Micro,
        Some(other) => return Err(format!("invalid syslog format: {other}")),
    })
}

fn address(options: &BTreeMap<String, String>) -> Result<Option<Address>, String> {
    options.get("syslog-address").filter(|text| !text.is_empty()).map(|text| Address::parse(text, PORT)).transpose()
}

pub(super) fn check(options: &BTreeMap<String, String>) -> Result<(), String> {
    facility(options)?;
    format(options, false)?;
    address(options).map(drop)
}

impl Syslog {
    pub(super) async fn connect(options: &BTreeMap<String, String>, source: Source) -> Result<Self, String> {
        let address = address(options)?;
        let format = format(options, address.is_none())?;
        let facility = facility(options)?;
        let connection = match address {
            Some(address) => address.connect().await?,
            None => local().await?,
        };
        Ok(Self { connection, format, facility, source })
    }

    pub(super) async fn send(&mut self, line: &LogLine) -> io::Result<()> {
        let mut text = self.head(line).into_bytes();
        text.extend_from_slice(message(line));
        if !self.connection.is_datagram() {
            text.push(b'\n');
        }
        self.connection.send(&text).await
    }

    fn head(&self, line: &LogLine) -> String {
        let severity = if line.output == Output::Stderr { 3 } else { 6 };
        let priority = self.facility * 8 + severity;
        let time = Timestamp::from_nanosecond(line.at.into()).unwrap_or_default();
        let (host, tag) = (&self.source.host, &self.source.tag);
        match self.format {
            Format::Local => format!("<{priority}>{} {tag}: ", time.strftime("%b %e %H:%M:%S")),
            Format::Plain => format!("<{priority}>{} {host} {tag}: ", time.strftime("%Y-%m-%dT%H:%M:%SZ")),
            Format::Rfc3164 => format!("<{priority}>{} {host} {tag}: ", time.strftime("%b %e %H:%M:%S")),
            Format::Rfc5424 => {
                format!("<{priority}>1 {} {host} {tag} - {tag} - ", time.strftime("%Y-%m-%dT%H:%M:%SZ"))
            }
            Format::Rfc5424Micro => {
                format!("<{priority}>1 {} {host} {tag} - {tag} - ", time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ"))
            }
        }
    }
}

async fn local() -> Result<Connection, String> {
    for path in LOCAL {
        for address in [Address::UnixDatagram(path.into()), Address::Unix(path.into())] {
            if let Ok(connection) = address.connect().await {
                return Ok(connection);
            }
        }
    }
    Err(format!("this host has no syslog at {}: give syslog-address", LOCAL.join(", ")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn lines_are_sent_in_every_form() {
        let server = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = format!("udp://{}", server.local_addr().unwrap());
        let at = 1_700_000_000_123_456_789;
        for (format, output, expected) in [
            ("", Output::Stdout, "<30>2023-11-14T22:13:20Z box web: hello"),
            ("rfc3164", Output::Stderr, "<27>Nov 14 22:13:20 box web: hello"),
            ("rfc5424", Output::Stdout, "<30>1 2023-11-14T22:13:20Z box web - web - hello"),
            ("rfc5424micro", Output::Stdout, "<30>1 2023-11-14T22:13:20.123456Z box web - web - hello"),
        ] {
            let options = [("syslog-address", address.as_str()), ("syslog-format", format)];
            let options = options.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
            let source = Source { host: "box".to_owned(), tag: "web".to_owned(), ..Source::default() };
            let mut syslog = Syslog::connect(&options, source).await.unwrap();
            let bytes = bytes::Bytes::from_static(b"hello\n");
            syslog.send(&LogLine { output, at, continued: false, bytes }).await.unwrap();
            let mut buffer = [0; 512];
            let count = server.recv(&mut buffer).await.unwrap();
            assert_eq!(String::from_utf8_lossy(&buffer[..count]), expected);
        }
    }

    #[test]
    fn facilities_by_name_and_number() {
        let of = |text: &str| facility(&BTreeMap::from([("syslog-facility".to_owned(), text.to_owned())]));
        assert_eq!((of("local7"), of("daemon"), of("16"), of("")), (Ok(23), Ok(3), Ok(16), Ok(3)));
        assert!(of("24").is_err() && of("bogus").is_err());
    }
}
