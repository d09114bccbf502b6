//! Where a log goes: `udp://host:port`, `tcp://host:port`, `tcp+tls://host:port`, `unix://path` or `unixgram://path`.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket, UnixDatagram, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::tls::Trust;

/// Where a log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    Udp(String),
    Tcp(String),
    Tls(String),
    Unix(PathBuf),
    UnixDatagram(PathBuf),
}

/// How long a connection may take to be there, and a message to go.
pub(super) const PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);

impl Address {
    /// Reads an address; `port` is the one that is meant when none is given.
    pub(crate) fn parse(text: &str, port: u16) -> Result<Self, String> {
        let (scheme, rest) = text.split_once("://").unwrap_or(("tcp", text));
        let host = || {
            let has_port = match rest.rsplit_once(':') {
                Some((_, number)) => !number.ends_with(']') && number.parse::<u16>().is_ok(),
                None => false,
            };
            if rest.is_empty() || rest.contains(['/', ' ']) {
                return Err(format!("invalid address {text:?} of a log: give host:port"));
            }
            Ok(if has_port { rest.to_owned() } else { format!("{rest}:{port}") })
        };
        let path = || {
            if rest.starts_with('/') {
                Ok(PathBuf::from(rest))
            } else {
                Err(format!("invalid path {rest:?} of a log's socket"))
            }
        };
        match scheme {
            "udp" => host().map(Self::Udp),
            "tcp" => host().map(Self::Tcp),
            "tcp+tls" | "tls" => host().map(Self::Tls),
            "unix" => path().map(Self::Unix),
            "unixgram" => path().map(Self::UnixDatagram),
            _ => Err(format!("logs cannot be sent to {text:?}: use udp, tcp, tcp+tls, unix or unixgram")),
        }
    }

    /// Connects; `trust` says whom, where that matters.
    pub(super) async fn connect(&self, trust: &Trust) -> Result<Connection, String> {
        let connected = async {
            match self {
                Self::Udp(address) => {
                    let found = tokio::net::lookup_host(address).await?.next();
                    let found =
                        found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the name has no address"))?;
                    let socket = UdpSocket::bind(if found.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).await?;
                    socket.connect(found).await?;
                    Ok(Connection::Udp(socket))
                }
                Self::Tcp(address) => Ok(Connection::Tcp(TcpStream::connect(address).await?)),
                Self::Tls(address) => {
                    let host = address.rsplit_once(':').map_or(address.as_str(), |(host, _)| host);
                    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
                    let name = ServerName::try_from(host).map_err(io::Error::other)?;
                    let trust = Trust { peer: self.to_string(), ..trust.clone() };
                    let config = Arc::new(trust.config().map_err(io::Error::other)?);
                    let stream = TcpStream::connect(address).await?;
                    Ok(Connection::Tls(Box::new(TlsConnector::from(config).connect(name, stream).await?)))
                }
                Self::Unix(path) => Ok(Connection::Unix(UnixStream::connect(path).await?)),
                Self::UnixDatagram(path) => {
                    let socket = UnixDatagram::unbound()?;
                    socket.connect(path)?;
                    Ok(Connection::UnixDatagram(socket))
                }
            }
        };
        let failed = |error: io::Error| format!("connect to {self}: {error}");
        tokio::time::timeout(PATIENCE, connected)
            .await
            .map_err(|_| failed(io::ErrorKind::TimedOut.into()))?
            .map_err(failed)
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Udp(address) => write!(f, "udp://{address}"),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
            Self::Tls(address) => write!(f, "tcp+tls://{address}"),
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::UnixDatagram(path) => write!(f, "unixgram://{}", path.display()),
        }
    }
}

/// A connection to an address.
#[derive(Debug)]
pub(super) enum Connection {
    Udp(UdpSocket),
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Unix(UnixStream),
    UnixDatagram(UnixDatagram),
}

impl Connection {
    /// Whether messages keep their bounds by themselves.
    pub(super) fn is_datagram(&self) -> bool {
        matches!(self, Self::Udp(_) | Self::UnixDatagram(_))
    }

    pub(super) async fn send(&mut self, message: &[u8]) -> io::Result<()> {
        let sent = tokio::time::timeout(PATIENCE, self.send_at_leisure(message));
        sent.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }

    /// Sends for as long as whoever asks for it waits.
    pub(super) async fn send_at_leisure(&mut self, message: &[u8]) -> io::Result<()> {
        match self {
            Self::Udp(socket) => match socket.send(message).await {
                // Nobody listens at this moment: a datagram is lost then, as it may be anyway.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
                sent => sent.map(drop),
            },
            Self::UnixDatagram(socket) => socket.send(message).await.map(drop),
            Self::Tcp(stream) => stream.write_all(message).await,
            Self::Tls(stream) => {
                stream.write_all(message).await?;
                stream.flush().await
            }
            Self::Unix(stream) => stream.write_all(message).await,
        }
    }

    /// Fills a buffer with what the other side says over a stream.
    pub(super) async fn receive(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.read_exact(buffer).await.map(drop),
            Self::Tls(stream) => stream.read_exact(buffer).await.map(drop),
            Self::Unix(stream) => stream.read_exact(buffer).await.map(drop),
            Self::Udp(_) | Self::UnixDatagram(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn addresses_are_read() {
        for (text, shown) in [
            ("udp://127.0.0.1:514", "udp://127.0.0.1:514"),
            ("udp://[::1]", "udp://[::1]:9"),
            ("tcp://logs.example", "tcp://logs.example:9"),
            ("logs:7", "tcp://logs:7"),
            ("tcp+tls://logs", "tcp+tls://logs:9"),
            ("unixgram:///dev/log", "unixgram:///dev/log"),
        ] {
            assert_eq!(Address::parse(text, 9).unwrap().to_string(), shown);
        }
        for wrong in ["http://x", "udp://", "unix://x", "tcp://a/b", "tcp+tls://"] {
            assert!(Address::parse(wrong, 9).is_err(), "{wrong}");
        }
    }
}
