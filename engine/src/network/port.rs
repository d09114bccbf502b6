//! Published ports: ports of the host that lead to containers.
//!
//! The packet filter translates what comes in for them. Beside that the engine holds a socket on each, so that
//! no program of the host takes the port meanwhile, and one that has it already is noticed.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::os::fd::OwnedFd;
use std::str::FromStr;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto};
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
    /// Connections of messages.
    Sctp,
}

impl Protocol {
    /// Its number in IP.
    pub(super) fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

impl FromStr for Protocol {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            "sctp" => Ok(Self::Sctp),
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
    /// The host's address; an unspecified one means all of its family, none means what the network says.
    pub host_address: Option<IpAddr>,
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
    pub host_address: IpAddr,
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
        let Some(other) = key.rsplit('/').next().and_then(|address| address.parse::<IpAddr>().ok()) else {
            return true;
        };
        self.host_address.is_ipv4() == other.is_ipv4()
            && (self.host_address.is_unspecified() || other.is_unspecified() || other == self.host_address)
    }
}

/// The sockets that keep ports for us; dropping them gives the ports free.
pub(super) type Claims = Vec<OwnedFd>;

/// Takes the port on all of `addresses`, or the first one that is free on all of them.
pub(super) fn take(
    transaction: &mut Transaction<'_>,
    container: &ContainerId,
    wanted: &Publish,
    addresses: &[IpAddr],
    claims: &mut Claims,
) -> Result<Vec<PublishedPort>, Error> {
    let range = wanted.host_ports.clone().unwrap_or(FREE);
    let mut refusal = None;
    for host_port in range.filter(|port| *port != 0) {
        match take_one(transaction, wanted, addresses, host_port) {
            Ok((ports, sockets)) => {
                for port in &ports {
                    transaction.insert(Table::Port, &port.key(), container)?;
                }
                claims.extend(sockets);
                return Ok(ports);
            }
            Err(error @ (Error::PortAllocated { .. } | Error::PortInUse { .. })) => {
                refusal.get_or_insert(error);
            }
            Err(error) => return Err(error),
        }
    }
    Err(refusal.unwrap_or(Error::PortsExhausted))
}

fn take_one(
    transaction: &Transaction<'_>,
    wanted: &Publish,
    addresses: &[IpAddr],
    host_port: u16,
) -> Result<(Vec<PublishedPort>, Claims), Error> {
    let (mut ports, mut sockets) = (Vec::new(), Claims::new());
    for host_address in addresses {
        let port =
            PublishedPort { protocol: wanted.protocol, port: wanted.port, host_address: *host_address, host_port };
        let others = transaction.list_prefix::<ContainerId>(Table::Port, &port.prefix())?;
        if others.iter().any(|(key, _)| port.clashes(key)) {
            return Err(Error::PortAllocated { address: port.host_address, port: host_port });
        }
        match claim(&port) {
            Ok(socket) => sockets.push(socket),
            // Without the kernel's SCTP no program of the host has such a port either.
            Err(Errno::PROTONOSUPPORT) if wanted.protocol == Protocol::Sctp => {}
            Err(Errno::ADDRINUSE) => return Err(Error::PortInUse { address: port.host_address, port: host_port }),
            Err(errno) => {
                let what = format!("publish port {}/{}", SocketAddr::new(port.host_address, host_port), port.protocol);
                return Err(Error::system(what)(errno.into()));
            }
        }
        ports.push(port);
    }
    Ok((ports, sockets))
}

/// Writes a port down that the container has had already.
pub(super) fn keep(
    transaction: &mut Transaction<'_>,
    container: &ContainerId,
    port: &PublishedPort,
) -> Result<(), Error> {
    Ok(transaction.put(Table::Port, &port.key(), container)?)
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
    let (kind, protocol) = match port.protocol {
        Protocol::Tcp => (SocketType::STREAM, None),
        Protocol::Udp => (SocketType::DGRAM, None),
        Protocol::Sctp => (SocketType::STREAM, Some(ipproto::SCTP)),
    };
    let family = if port.host_address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, protocol)?;
    if family == AddressFamily::INET6 {
        // All addresses of IPv6 are not those of IPv4 too.
        rustix::net::sockopt::set_ipv6_v6only(&socket, true)?;
    }
    if port.protocol == Protocol::Tcp {
        // Connections of the past that the kernel still remembers are no obstacle.
        rustix::net::sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    rustix::net::bind(&socket, &SocketAddr::new(port.host_address, port.host_port))?;
    if port.protocol != Protocol::Udp {
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
        Publish { protocol: Protocol::Tcp, port: 80, host_address: Some(address.into()), host_ports: ports }
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
                let addresses = [wanted.host_address.unwrap()];
                let taken =
                    state.write(Durability::Process, |tx| take(tx, &container, &wanted, &addresses, &mut claims));
                taken.map(|ports| ports[0].host_port).map_err(|error| error.to_string())
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
