//! What is remembered of networks and of who is connected to them.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Subnet;
use super::port::PublishedPort;
use crate::id::{ContainerId, EndpointId, NetworkId};

/// How a network connects its containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Driver {
    /// By a bridge on the host, with addresses translated on the way out.
    Bridge,
    /// Not at all: the container uses the host's network.
    Host,
    /// Not at all: the container has its loopback only.
    Null,
}

impl fmt::Display for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Bridge => "bridge",
            Self::Host => "host",
            Self::Null => "null",
        })
    }
}

/// A network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Network {
    /// Its id, stable for each root.
    pub id: NetworkId,
    /// Its name, unique for each root.
    pub name: String,
    /// How it connects.
    pub driver: Driver,
    /// When it was made, in nanoseconds since 1970 UTC.
    pub created_nanos: i64,
    /// The bridge, when it is one.
    pub bridge: Option<Bridge>,
    /// Labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// The bridge of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Bridge {
    /// The host's interface.
    pub interface: String,
    /// The block of addresses.
    pub subnet: Subnet,
    /// The bridge's own address, by which containers leave.
    pub gateway: Ipv4Addr,
    /// The part of the block that containers are given addresses of.
    pub range: Subnet,
    /// The block was chosen by the engine, not asked for.
    pub chosen: bool,
    /// Whether the block is in use; until then another one may still be chosen.
    pub settled: bool,
    /// Largest packet in bytes, when it was asked for.
    pub mtu: Option<u32>,
    /// Containers may talk to each other.
    pub inter_container: bool,
    /// Addresses are translated on the way out.
    pub masquerade: bool,
}

impl Bridge {
    /// Takes another block, all of it.
    pub(super) fn move_to(&mut self, subnet: Subnet) {
        self.subnet = subnet;
        self.range = subnet;
        self.gateway = subnet.at(1).unwrap_or(subnet.first());
    }
}

/// A container's end on a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Endpoint {
    /// New with each connection.
    pub id: EndpointId,
    /// The network's id.
    pub network: NetworkId,
    /// The network's name.
    pub network_name: String,
    /// Whose end it is.
    pub container: ContainerId,
    /// What networks with addresses add; none on `host` and `none`.
    pub interface: Option<Interface>,
}

/// A container's interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Interface {
    /// Its name in the container, such as `eth0`.
    pub name: String,
    /// The host's end.
    pub host_name: String,
    /// The container's address.
    pub address: Ipv4Addr,
    /// The prefix length of its subnet.
    pub prefix_len: u8,
    /// Where packets for elsewhere go.
    pub gateway: Ipv4Addr,
    /// The hardware address.
    pub mac: MacAddress,
    /// Ports of the host that lead here.
    #[serde(default)]
    pub ports: Vec<PublishedPort>,
}

/// An Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct MacAddress([u8; 6]);

impl MacAddress {
    /// An address of these bytes.
    pub const fn new(bytes: [u8; 6]) -> Self {
        Self(bytes)
    }

    /// The one that goes with an IPv4 address, so that neighbours who remember the address of a predecessor are right.
    pub const fn of(address: Ipv4Addr) -> Self {
        let [a, b, c, d] = address.octets();
        Self([0x02, 0x42, a, b, c, d])
    }

    /// A locally administered one for one interface.
    pub fn random() -> Self {
        let mut bytes = [0u8; 6];
        // Without randomness the name of the interface is still unique in its network.
        let _ = getrandom::fill(&mut bytes);
        bytes[0] = bytes[0] & 0xfc | 0x02;
        Self(bytes)
    }

    /// Its six bytes.
    pub const fn bytes(self) -> [u8; 6] {
        self.0
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text is no Ethernet address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not a valid mac address")]
pub struct InvalidMac(String);

impl FromStr for MacAddress {
    type Err = InvalidMac;

    fn from_str(text: &str) -> Result<Self, InvalidMac> {
        let invalid = || InvalidMac(text.chars().take(64).collect());
        let mut bytes = [0u8; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit()));
            *byte = part.and_then(|part| u8::from_str_radix(part, 16).ok()).ok_or_else(invalid)?;
        }
        // The lowest bit marks a group, and zero nobody.
        if parts.next().is_some() || bytes[0] & 1 == 1 || bytes == [0; 6] {
            return Err(invalid());
        }
        Ok(Self(bytes))
    }
}

impl Serialize for MacAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MacAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn hardware_addresses_come_from_addresses() {
        let mac = MacAddress::of(Ipv4Addr::new(172, 17, 0, 2));
        assert_eq!(mac.to_string(), "02:42:ac:11:00:02");
        assert_eq!("02-42-AC-11-00-02".parse::<MacAddress>().unwrap(), mac);
        for wrong in
            ["", "02:42:ac:11:00", "02:42:ac:11:00:02:03", "0g:42:ac:11:00:02", "01:00:5e:00:00:01", "2:42:ac:11:0:2"]
        {
            assert!(wrong.parse::<MacAddress>().is_err(), "{wrong}");
        }
        let random = MacAddress::random();
        assert_eq!(random.bytes()[0] & 3, 2);
        assert_eq!(random.to_string().parse::<MacAddress>().unwrap(), random);
    }
}
