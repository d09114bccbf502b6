//! Syslog, in the forms that Docker sends: RFC 3164, RFC 5424, and without a format the short form of local sockets. Times are in the
//! host's time zone.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use jiff::tz::TimeZone;
use jiff::{Timestamp, ZonedDateTime};

use super::address::{Address, Connection};
use super::{Source, message};
use crate::logs::{LogLine, Output};
use crate::tls::Trust;

const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp", "ntp",
    "audit", "alert", "clock", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
];
const PORT: u16 = 514;
/// Tells the host's time zone.
const ZONE: &str = "/etc/localtime";
/// Where the host's own syslog listens.
const LOCAL: [&str; 3] = ["/dev/log", "/var/run/syslog", "/var/run/log"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    /// Without the host's name.
    Local,
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
    zone: TimeZone,
    source: Source,
}

fn facility(options: &BTreeMap<String, String>) -> Result<usize, String> {
    let Some(text) = options.get("syslog-facility").filter(|text| !text.is_empty()) else { return Ok(3) };
    let known = FACILITIES.iter().position(|name| name == text);
    let number = || text.parse::<usize>().ok().filter(|number| *number < FACILITIES.len());
    known.or_else(number).ok_or_else(|| format!("invalid syslog facility: {text}"))
}

fn format(options: &BTreeMap<String, String>) -> Result<Format, String> {
    Ok(match options.get("syslog-format").map(String::as_str) {
        None | Some("") => Format::Local,
        Some("rfc3164") => Format::Rfc3164,
        Some("rfc5424") => Format::Rfc5424,
        Some("rfc5424micro") => Format::Rfc5424Micro,
        Some(other) => return Err(format!("invalid syslog format: {other}")),
    })
}

fn address(options: &BTreeMap<String, String>) -> Result<Option<Address>, String> {
    options.get("syslog-address").filter(|text| !text.is_empty()).map(|text| Address::parse(text, PORT)).transpose()
}

/// Whom a server that is spoken to by TLS is compared with.
fn trust(options: &BTreeMap<String, String>) -> Trust {
    let file = |name: &str| options.get(name).filter(|path| !path.is_empty()).map(PathBuf::from);
    Trust {
        authorities: file("syslog-tls-ca-cert").into_iter().collect(),
        identity: file("syslog-tls-cert").zip(file("syslog-tls-key")),
        // As Docker has it: what counts is that the option is there.
        unchecked: options.contains_key("syslog-tls-skip-verify"),
        ..Trust::default()
    }
}

pub(super) fn check(options: &BTreeMap<String, String>) -> Result<(), String> {
    facility(options)?;
    format(options)?;
    let address = address(options)?;
    if let Some(option) = options.keys().find(|option| option.starts_with("syslog-tls-"))
        && !matches!(address, Some(Address::Tls(_)))
    {
        return Err(format!("log option '{option}' is for an address such as tcp+tls://host:port"));
    }
    if options.contains_key("syslog-tls-cert") != options.contains_key("syslog-tls-key") {
        return Err("syslog-tls-cert and syslog-tls-key belong together".to_owned());
    }
    Ok(())
}

impl Syslog {
    pub(super) async fn connect(options: &BTreeMap<String, String>, source: Source) -> Result<Self, String> {
        let (format, facility) = (format(options)?, facility(options)?);
        let connection = match address(options)? {
            Some(address) => address.connect(&trust(options)).await?,
            None => local().await?,
        };
        // A host that tells none has UTC.
        let zone = std::fs::read(ZONE).ok().and_then(|rules| TimeZone::tzif("Local", &rules).ok());
        Ok(Self { connection, format, facility, zone: zone.unwrap_or(TimeZone::UTC), source })
    }

    pub(super) async fn send(&mut self, line: &LogLine) -> io::Result<()> {
        // As with Docker, a line without anything in it is none.
        if message(line).is_empty() {
            return Ok(());
        }
        let mut text = self.head(line).into_bytes();
        text.extend_from_slice(message(line));
        text.push(b'\n');
        if self.has_lengths() {
            let length = format!("{} ", text.len());
            text.splice(..0, length.into_bytes());
        }
        self.connection.send(&text).await
    }

    /// RFC 5425 begins each message with its length.
    fn has_lengths(&self) -> bool {
        matches!(self.connection, Connection::Tls(_)) && matches!(self.format, Format::Rfc5424 | Format::Rfc5424Micro)
    }

    fn head(&self, line: &LogLine) -> String {
        let severity = if line.output == Output::Stderr { 3 } else { 6 };
        let priority = self.facility * 8 + severity;
        let time = Timestamp::from_nanosecond(line.at.into()).unwrap_or_default().to_zoned_datetime(self.zone.clone());
        let (host, tag, pid) = (&self.source.host, &self.source.tag, std::process::id());
        let stamp = || time.strftime("%b %e %H:%M:%S");
        match self.format {
            Format::Local => format!("<{priority}>{} {tag}[{pid}]: ", stamp()),
            Format::Rfc3164 => format!("<{priority}>{} {host} {tag}[{pid}]: ", stamp()),
            Format::Rfc5424 | Format::Rfc5424Micro => {
                let time = rfc3339(&time, self.format == Format::Rfc5424Micro);
                format!("<{priority}>1 {time} {host} {tag} {pid} {tag} - ")
            }
        }
    }
}

/// To the second, or to the microsecond.
fn rfc3339(time: &ZonedDateTime, precise: bool) -> String {
    let zone = if time.offset().is_zero() { "Z" } else { "%:z" };
    let fraction = if precise { ".%6f" } else { "" };
    time.strftime(&format!("%Y-%m-%dT%H:%M:%S{fraction}{zone}")).to_string()
}

async fn local() -> Result<Connection, String> {
    for path in LOCAL {
        for address in [Address::UnixDatagram(path.into()), Address::Unix(path.into())] {
            if let Ok(connection) = address.connect(&Trust::default()).await {
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
        let hours = |hours| TimeZone::fixed(jiff::tz::Offset::constant(hours));
        for (format, output, zone, expected) in [
            ("", Output::Stdout, hours(0), "<30>Nov 14 22:13:20 web[PID]: hello\n"),
            ("", Output::Stdout, hours(-14), "<30>Nov 14 08:13:20 web[PID]: hello\n"),
            ("rfc3164", Output::Stderr, hours(0), "<27>Nov 14 22:13:20 box web[PID]: hello\n"),
            ("rfc5424", Output::Stdout, hours(0), "<30>1 2023-11-14T22:13:20Z box web PID web - hello\n"),
            ("rfc5424", Output::Stdout, hours(2), "<30>1 2023-11-15T00:13:20+02:00 box web PID web - hello\n"),
            ("rfc5424micro", Output::Stdout, hours(0), "<30>1 2023-11-14T22:13:20.123456Z box web PID web - hello\n"),
        ] {
            let options = [("syslog-address", address.as_str()), ("syslog-format", format)];
            let options = options.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
            let source = Source { host: "box".to_owned(), tag: "web".to_owned(), ..Source::default() };
            let mut syslog = Syslog::connect(&options, source).await.unwrap();
            syslog.zone = zone;
            for text in ["\n", "hello\n"] {
                let bytes = bytes::Bytes::from_static(text.as_bytes());
                syslog.send(&LogLine { output, at, continued: false, bytes }).await.unwrap();
            }
            let mut buffer = [0; 512];
            let count = server.recv(&mut buffer).await.unwrap();
            let expected = expected.replace("PID", &std::process::id().to_string());
            assert_eq!(String::from_utf8_lossy(&buffer[..count]), expected);
        }
        // The fifth of a month is " 5".
        let options = [("syslog-address".to_owned(), address)].into();
        let mut syslog = Syslog::connect(&options, Source::default()).await.unwrap();
        syslog.zone = TimeZone::UTC;
        let bytes = bytes::Bytes::from_static(b"x\n");
        let line = LogLine { output: Output::Stdout, at: 4 * 86_400_000_000_000, continued: false, bytes };
        assert!(syslog.head(&line).starts_with("<30>Jan  5 00:00:00 "));
    }

    fn file(name: &str) -> String {
        format!("{}/tests/tls/{name}", env!("CARGO_MANIFEST_DIR"))
    }

    /// A server that wants to know its clients, and what comes from the first that it lets in.
    async fn server() -> (String, tokio::task::JoinHandle<io::Result<String>>) {
        use rustls::pki_types::pem::PemObject as _;
        use rustls::pki_types::{CertificateDer, PrivateKeyDer};
        use tokio::io::AsyncReadExt as _;
        let certificates = |name: &str| vec![CertificateDer::from_pem_file(file(name)).unwrap()];
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = rustls::RootCertStore::empty();
        roots.add(certificates("ca.crt").remove(0)).unwrap();
        let clients = rustls::server::WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(clients.build().unwrap())
            .with_single_cert(certificates("server.crt"), PrivateKeyDer::from_pem_file(file("server.key")).unwrap())
            .unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("tcp+tls://{}", listener.local_addr().unwrap());
        let served = tokio::spawn(async move {
            let (stream, _) = listener.accept().await?;
            let mut stream = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config)).accept(stream).await?;
            let mut bytes = Vec::new();
            // A client that goes without a farewell is none the worse.
            let _ = stream.read_to_end(&mut bytes).await;
            Ok(String::from_utf8(bytes).unwrap())
        });
        (address, served)
    }

    async fn sent(options: &[(&str, String)]) -> (Result<(), String>, io::Result<String>) {
        let (address, served) = server().await;
        let mut all: BTreeMap<String, String> =
            options.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        all.insert("syslog-address".to_owned(), address);
        let source = Source { host: "box".to_owned(), tag: "web".to_owned(), ..Source::default() };
        let said = async {
            let mut syslog = Syslog::connect(&all, source).await?;
            for text in ["one\n", "two\n"] {
                let bytes = bytes::Bytes::from_static(text.as_bytes());
                let line = LogLine { output: Output::Stdout, at: 0, continued: false, bytes };
                syslog.send(&line).await.map_err(|error| error.to_string())?;
            }
            Ok(())
        };
        let said = said.await;
        if said.is_err() {
            // It may never have been connected to.
            served.abort();
            return (said, Err(io::ErrorKind::NotConnected.into()));
        }
        (said, served.await.unwrap())
    }

    #[tokio::test]
    async fn by_tls_both_sides_know_each_other() {
        let identity = [("syslog-tls-cert", file("client.crt")), ("syslog-tls-key", file("client.key"))];
        let authority = ("syslog-tls-ca-cert", file("ca.crt"));
        let (said, heard) = sent(&[&identity[..], std::slice::from_ref(&authority)].concat()).await;
        said.unwrap();
        let pid = std::process::id();
        let heard = heard.unwrap();
        let [one, two] = heard.lines().collect::<Vec<_>>()[..] else { panic!("{heard}") };
        assert!(one.ends_with(&format!(" web[{pid}]: one")) && two.ends_with(&format!(" web[{pid}]: two")), "{heard}");
        // RFC 5425 tells how long each message is.
        let format = ("syslog-format", "rfc5424".to_owned());
        let (said, heard) = sent(&[&identity[..], &[authority.clone(), format]].concat()).await;
        said.unwrap();
        let heard = heard.unwrap();
        let (length, rest) = heard.split_once(' ').unwrap();
        let (one, two) = rest.split_at(length.parse().unwrap());
        assert!(one.starts_with("<30>1 ") && one.ends_with(&format!(" box web {pid} web - one\n")), "{heard}");
        assert!(two.starts_with(&format!("{length} <30>1 ")) && two.ends_with(" - two\n"), "{heard}");
        let (said, heard) = sent(&[&identity[..], &[("syslog-tls-skip-verify", "true".to_owned())]].concat()).await;
        assert!(said.is_ok() && heard.unwrap().ends_with("two\n"));
    }

    #[tokio::test]
    async fn by_tls_nobody_else_is_spoken_to() {
        let identity = [("syslog-tls-cert", file("client.crt")), ("syslog-tls-key", file("client.key"))];
        let (said, heard) = sent(&identity).await;
        let error = said.unwrap_err();
        assert!(error.contains("certificate") && heard.is_err(), "{error}");
        // The server does not know who we are.
        let (_, heard) = sent(&[("syslog-tls-ca-cert", file("ca.crt"))]).await;
        assert!(heard.is_err());
        let (said, _) = sent(&[("syslog-tls-ca-cert", file("missing.crt"))]).await;
        assert!(said.unwrap_err().contains("missing.crt"));
    }

    #[test]
    fn facilities_by_name_and_number() {
        let of = |text: &str| facility(&BTreeMap::from([("syslog-facility".to_owned(), text.to_owned())]));
        assert_eq!((of("local7"), of("daemon"), of("16"), of("")), (Ok(23), Ok(3), Ok(16), Ok(3)));
        assert!(of("24").is_err() && of("bogus").is_err());
    }
}
