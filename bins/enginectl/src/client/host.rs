//! Where the daemon is.

use std::fmt;
use std::path::PathBuf;

use crate::error::Error;

/// The address of a daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    /// A unix socket.
    Unix(PathBuf),
    /// `host:port` without TLS.
    Tcp(String),
}

/// Where engined listens unless told otherwise.
const DEFAULT_SOCKET: &str = "/run/engine.sock";

impl Default for Host {
    fn default() -> Self {
        Self::Unix(PathBuf::from(DEFAULT_SOCKET))
    }
}

impl Host {
    /// `unix:///path`, `tcp://host:port`, `http://host:port` or `host:port`.
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        let text = text.trim();
        let invalid = |why: &str| Error::Invalid(format!("invalid address of the engine {text:?}: {why}"));
        match text.split_once("://") {
            Some(("unix", "")) => Ok(Self::default()),
            Some(("unix", path)) => Ok(Self::Unix(PathBuf::from(path))),
            Some(("tcp" | "http", address)) => {
                Self::tcp(address).ok_or_else(|| invalid("a host and a port are needed"))
            }
            Some((scheme @ ("https" | "ssh" | "npipe" | "fd"), _)) => {
                Err(invalid(&format!("{scheme}:// is not supported yet, use unix:// or tcp://")))
            }
            Some((scheme, _)) => Err(invalid(&format!("unknown scheme {scheme}://, use unix:// or tcp://"))),
            None if text.starts_with('/') => Ok(Self::Unix(PathBuf::from(text))),
            None => Self::tcp(text).ok_or_else(|| invalid("use unix:///path or tcp://host:port")),
        }
    }

    fn tcp(address: &str) -> Option<Self> {
        let address = address.trim_end_matches('/');
        if address.contains('/') || address.is_empty() {
            return None;
        }
        let has_port =
            address.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
                && !address.ends_with(']');
        if has_port {
            return Some(Self::Tcp(address.to_owned()));
        }
        let plain = !address.contains(':') || (address.starts_with('[') && address.ends_with(']'));
        plain.then(|| Self::Tcp(format!("{address}:2375")))
    }

    /// What goes into the Host header.
    pub(crate) fn authority(&self) -> &str {
        match self {
            // Docker's own dummy: a name that is valid everywhere and resolved nowhere.
            Self::Unix(_) => "api.moby.localhost",
            Self::Tcp(address) => address,
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let check = |text: &str, expected: &str| {
            assert_eq!(Host::parse(text).map(|host| host.to_string()).ok().as_deref(), Some(expected), "{text}");
        };
        check("unix:///tmp/x.sock", "unix:///tmp/x.sock");
        check("unix://", "unix:///run/engine.sock");
        check("/tmp/x.sock", "unix:///tmp/x.sock");
        check("tcp://127.0.0.1:2375", "tcp://127.0.0.1:2375");
        check("tcp://localhost", "tcp://localhost:2375");
        check("http://localhost:80/", "tcp://localhost:80");
        check("localhost:2376", "tcp://localhost:2376");
        check("tcp://[::1]:2375", "tcp://[::1]:2375");
        check("tcp://[::1]", "tcp://[::1]:2375");
        for text in ["tcp://", "ssh://me@there", "foo://x", "tcp://a/b", "tcp://:x"] {
            assert!(Host::parse(text).is_err(), "{text}");
        }
    }
}
