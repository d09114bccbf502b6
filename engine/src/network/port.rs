//! Published ports: ports of the host that lead to containers.
//!
//! The packet filter translates what comes in for them. Beside that the engine holds a socket on each, so that
//! no program of the host takes the port meanwhile, and one that has it already is noticed.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::ops::RangeInclusive;
use std::os::fd::OwnedFd;
use std::str::FromStr;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use serde::{Deserialize, Serialize};

use super::Error;
use crate::id::ContainerId;
use crate::state::{Table, Transaction};

/// Where ports that nobody asked for in particular are taken from.
const FREE: RangeInclusive<u16> = 32768..=60999;

/// What is carried to a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Connections.
    Tcp,
    /// Datagrams.
    Udp,
}

impl Protocol {
    /// Its number in IP.
    pub(super) fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

impl FromStr for Protocol {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            other => Err(Error::Protocol { name: other.chars().take(32).collect() }),
        }
    }
}

/// A port that is to be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish {
    /// What is carried.
    pub protocol: Protocol,
    /// The container's port.
    pub port: u16,
    /// The host's address; unspecified means all of them.
    pub host_address: Ipv4Addr,
    /// The host's port: the first free one of these, or of all when none are named.
    pub host_ports: Option<RangeInclusive<u16>>,
}

/// A port that is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PublishedPort {
    /// What is carried.
    pub protocol: Protocol,
    /// The container's port.
    pub port: u16,
    /// The host's address; unspecified means all of them.
    pub host_address: Ipv4Addr,
    /// The host's port.
    pub host_port: u16,
}

impl PublishedPort {
    /// Ports of one number sort together, whatever their address.
    fn prefix(&self) -> String {
        format!("{}/{:05}/", self.protocol, self.host_port)
    }

    fn key(&self) -> String {
        format!("{}{}", self.prefix(), self.host_address)
    }

    fn clashes(&self, key: &str) -> bool {
        let other = key.rsplit('/').next().and_then(|address| address.parse::<Ipv4Addr>().ok());
        self.host_address.is_unspecified()
            || other.is_none_or(|other| other.is_unspecified() || other == self.host_address)
    }
}

/// The sockets that keep ports for us; dropping them gives the ports free.
pub(super) type Claims = Vec<OwnedFd>;

/// Takes the port, or the first one that is free.
pub(super) fn take(
    transaction: &mut Transaction<'_>,
    container: &ContainerId,
    wanted: &Publish,
    claims: &mut Claims,
) -> Result<PublishedPort, Error> {
    let range = wanted.host_ports.clone().unwrap_or(FREE);
    let mut refusal = None;
    for host_port in range.filter(|port| *port != 0) {
        let port = PublishedPort {
            protocol: wanted.protocol,
            port: wanted.port,
            host_address: wanted.host_address,
            host_port,
        };
        let others = transaction.list_prefix::<ContainerId>(Table::Port, &port.prefix())?;
        if others.iter().any(|(key, _)| port.clashes(key)) {
            refusal.get_or_insert(Error::PortAllocated { address: port.host_address, port: host_port });
            continue;
        }
        match claim(&port) {
            Ok(socket) => {
                transaction.insert(Table::Port, &port.key(), container)?;
                claims.push(socket);
                return Ok(port);
            }
            Err(Errno::ADDRINUSE) => {
                refusal.get_or_insert(Error::PortInUse { address: port.host_address, port: host_port });
            }
            Err(errno) => {
                let what = format!("publish port {}:{host_port}/{}", port.host_address, port.protocol);
                return Err(Error::system(what)(errno.into()));
            }
        }
    }
    Err(refusal.unwrap_or(Error::PortsExhausted))
}

/// Gives a port back.
pub(super) fn free(transaction: &mut Transaction<'_>, port: &PublishedPort) -> Result<(), Error> {
    transaction.delete(Table::Port, &port.key())?;
    Ok(())
}

pub(super) fn key(port: &PublishedPort) -> String {
    port.key()
}

/// A socket that keeps the port from the host's programs.
pub(super) fn claim(port: &PublishedPort) -> Result<OwnedFd, Errno> {
    let kind = match port.protocol {
        Protocol::Tcp => SocketType::STREAM,
        Protocol::Udp => SocketType::DGRAM,
    };
    let socket = rustix::net::socket_with(AddressFamily::INET, kind, SocketFlags::CLOEXEC, None)?;
    if port.protocol == Protocol::Tcp {
        // Connections of the past that the kernel still remembers are no obstacle.
        rustix::net::sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    rustix::net::bind(&socket, &SocketAddrV4::new(port.host_address, port.host_port))?;
    if port.protocol == Protocol::Tcp {
        rustix::net::listen(&socket, 0)?;
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::state::{Durability, State};

    fn wanted(address: [u8; 4], ports: Option<RangeInclusive<u16>>) -> Publish {
        Publish { protocol: Protocol::Tcp, port: 80, host_address: address.into(), host_ports: ports }
    }

    #[test]
    fn ports_clash_on_the_same_or_on_all_addresses() {
        let (_namespace, ()) = engine_sys::namespace::new_network(|| {
            let mut inside = engine_sys::netlink::Netlink::open(engine_sys::netlink::Protocol::Route)?;
            inside.request(&mut [crate::network::link::bring_up(1)]).map_err(|error| error.source)?;
            let root = tempfile::tempdir()?;
            let state = State::open(root.path()).unwrap();
            let container = ContainerId::random();
            let mut claims = Claims::new();
            let mut take = |wanted: Publish| {
                let taken = state.write(Durability::Process, |tx| take(tx, &container, &wanted, &mut claims));
                taken.map(|port| port.host_port).map_err(|error| error.to_string())
            };
            let allocated = |address| Err(format!("Bind for {address} failed: port is already allocated"));
            assert_eq!(take(wanted([127, 0, 0, 1], Some(80..=80))), Ok(80));
            assert_eq!(take(wanted([127, 0, 0, 2], Some(80..=80))), Ok(80));
            assert_eq!(take(wanted([127, 0, 0, 2], Some(80..=80))), allocated("127.0.0.2:80"));
            assert_eq!(take(wanted([0, 0, 0, 0], Some(80..=80))), allocated("0.0.0.0:80"));
            assert_eq!(take(wanted([0, 0, 0, 0], Some(80..=81))), Ok(81));
            assert_eq!(take(wanted([127, 0, 0, 1], Some(81..=81))), allocated("127.0.0.1:81"));
            assert_eq!(take(Publish { protocol: Protocol::Udp, ..wanted([0; 4], Some(80..=80)) }), Ok(80));
            assert_eq!(take(wanted([0, 0, 0, 0], None)), Ok(*FREE.start()));
            // A program of the host has it.
            let _program = std::net::TcpListener::bind("0.0.0.0:90")?;
            let in_use = take(wanted([0, 0, 0, 0], Some(90..=90))).unwrap_err();
            assert_eq!(in_use, "failed to bind host port 0.0.0.0:90: address already in use");
            assert!(take(wanted([9, 9, 9, 9], Some(90..=90))).unwrap_err().contains("9.9.9.9:90/tcp"));
            // What we hold, no program of the host gets.
            assert!(std::net::TcpListener::bind("0.0.0.0:81").is_err());
            claims.clear();
            assert!(std::net::TcpListener::bind("0.0.0.0:81").is_ok());
            Ok(())
        })
        .unwrap();
    }
}
