//! What is remembered of networks and of who is connected to them.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::create::BlockSpec;
use super::port::PublishedPort;
use super::subnet::{Address, Subnet};
use crate::id::{ContainerId, EndpointId, NetworkId};

/// How a network connects its containers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Driver {
    /// By a bridge on the host, with addresses translated on the way out.
    Bridge,
    /// Not at all: the container uses the host's network.
    Host,
    /// Not at all: the container has its loopback only.
    Null,
    /// Each container has a hardware address of its own on an interface of the host.
    Macvlan,
    /// The containers share the hardware address of an interface of the host.
    Ipvlan,
    /// By a driver of the program that embeds the engine.
    Own(String),
}

impl FromStr for Driver {
    type Err = Infallible;

    fn from_str(name: &str) -> Result<Self, Infallible> {
        Ok(match name {
            "bridge" => Self::Bridge,
            "host" => Self::Host,
            "null" => Self::Null,
            "macvlan" => Self::Macvlan,
            "ipvlan" => Self::Ipvlan,
            other => Self::Own(other.to_owned()),
        })
    }
}

impl fmt::Display for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Bridge => "bridge",
            Self::Host => "host",
            Self::Null => "null",
            Self::Macvlan => "macvlan",
            Self::Ipvlan => "ipvlan",
            Self::Own(name) => name,
        })
    }
}

impl Serialize for Driver {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Driver {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
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
    /// How it connects and by which addresses, when it is no bridge and has addresses.
    #[serde(default)]
    pub direct: Option<Direct>,
    /// Labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The driver's options as they were asked for.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    /// Options of the address management as they were asked for.
    #[serde(default)]
    pub address_options: Option<BTreeMap<String, String>>,
    /// Nothing leaves it and nothing comes in.
    #[serde(default)]
    pub internal: bool,
    /// As asked; of a cluster only.
    #[serde(default)]
    pub attachable: bool,
    /// What others are made like; then nobody is connected to this one.
    #[serde(default)]
    pub template: Option<Template>,
    /// The name of the network that this one was made like.
    #[serde(default)]
    pub config_from: Option<String>,
}

/// What networks that are made like another one have from it, beside its options and labels.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Template {
    /// Blocks of addresses.
    pub blocks: Vec<BlockSpec>,
    /// Without IPv4 addresses.
    pub without_ipv4: bool,
    /// With IPv6 addresses.
    pub ipv6: bool,
}

impl Network {
    /// Its addresses, when it has any.
    #[must_use]
    pub fn addresses(&self) -> Option<&Addresses> {
        let of_bridge = self.bridge.as_ref().map(|bridge| &bridge.addresses);
        of_bridge.or_else(|| self.direct.as_ref().map(|direct| &direct.addresses))
    }

    /// Whether it is one of those that are always there.
    #[must_use]
    pub fn is_predefined(&self) -> bool {
        [super::BRIDGE, super::HOST, super::NONE].contains(&self.name.as_str())
    }

    /// Whether its containers find each other by name.
    #[must_use]
    pub fn has_names(&self) -> bool {
        !self.is_predefined()
    }
}

/// The addresses of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Addresses {
    /// Of IPv4, when it has that.
    #[serde(flatten)]
    pub v4: Option<Block<Ipv4Addr>>,
    /// Of IPv6, when it has that.
    #[serde(default)]
    pub v6: Option<Block<Ipv6Addr>>,
    /// Addresses that are somebody else's, by what they are called.
    #[serde(default)]
    pub auxiliary: BTreeMap<String, IpAddr>,
}

/// The addresses of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(bound = "A: Address")]
#[non_exhaustive]
pub struct Block<A: Address> {
    /// All of them.
    pub subnet: Subnet<A>,
    /// The address by which containers leave: the bridge's own, or that of a router.
    #[serde(serialize_with = "as_text", deserialize_with = "from_text")]
    pub gateway: Option<A>,
    /// The part of the block that containers are given addresses of.
    pub range: Subnet<A>,
    /// The block was chosen by the engine, not asked for.
    pub chosen: bool,
}

fn as_text<A: Address, S: Serializer>(address: &Option<A>, serializer: S) -> Result<S::Ok, S::Error> {
    match address {
        Some(address) => serializer.collect_str(address),
        None => serializer.serialize_none(),
    }
}

fn from_text<'de, A: Address, D: Deserializer<'de>>(deserializer: D) -> Result<Option<A>, D::Error> {
    let text = Option::<std::borrow::Cow<'_, str>>::deserialize(deserializer)?;
    let read = |text: &str| text.parse().map_err(|_| serde::de::Error::custom(format!("{text:?} is no address")));
    text.map(|text| read(&text)).transpose()
}

impl<A: Address> Block<A> {
    /// A whole block with its first address as the gateway.
    pub(super) fn whole(subnet: Subnet<A>, chosen: bool) -> Self {
        Self { subnet, gateway: Some(subnet.at(1).unwrap_or(subnet.first())), range: subnet, chosen }
    }
}

/// The bridge of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Bridge {
    /// The host's interface.
    pub interface: String,
    /// Its addresses.
    #[serde(flatten)]
    pub addresses: Addresses,
    /// Whether the block is in use; until then another one may still be chosen.
    pub settled: bool,
    /// Largest packet in bytes, when it was asked for.
    pub mtu: Option<u32>,
    /// Containers may talk to each other.
    pub inter_container: bool,
    /// Addresses are translated on the way out.
    pub masquerade: bool,
    /// The same for IPv6.
    #[serde(default = "yes")]
    pub masquerade_v6: bool,
    /// Nothing leaves it and nothing comes in.
    #[serde(default)]
    pub internal: bool,
    /// Where ports are published that name no address of the host; on all of them when there is none.
    #[serde(default)]
    pub host_binding: Option<IpAddr>,
    /// What the names of the containers' interfaces begin with; `eth` when there is none.
    #[serde(default)]
    pub interface_prefix: Option<String>,
    /// How its containers are reached from beyond the host, by IPv4.
    #[serde(default)]
    pub gateway_mode: GatewayMode,
    /// The same for IPv6.
    #[serde(default)]
    pub gateway_mode_v6: GatewayMode,
    /// The bridge has no IPv4 address of its own.
    #[serde(default)]
    pub inhibit_v4: bool,
    /// Interfaces of the host by which published ports are reached at the containers' own addresses too.
    #[serde(default)]
    pub trusted: Vec<String>,
    /// They are reached there from wherever: as the settings say, which is not remembered.
    #[serde(skip)]
    pub direct_routing: bool,
    /// What a container sends has its own addresses, or is thrown away.
    #[serde(default)]
    pub guarded: bool,
    /// Containers do not reach the host itself, only its published ports.
    #[serde(default)]
    pub without_host: bool,
    /// Containers do not reach the addresses at which a cloud tells a machine of itself.
    #[serde(default)]
    pub without_metadata: bool,
}

/// How the containers of a bridge and the world beyond the host reach each other. The names are Docker's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum GatewayMode {
    /// At ports of the host only; addresses are translated.
    #[default]
    Nat,
    /// As [`Self::Nat`], and at the containers' own addresses and all their ports too.
    NatUnprotected,
    /// At the containers' own addresses, but only at published ports; no address is translated.
    Routed,
    /// Not at all, and the host has no address on the bridge.
    Isolated,
}

impl FromStr for GatewayMode {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        Ok(match name {
            "" | "nat" => Self::Nat,
            "nat-unprotected" => Self::NatUnprotected,
            "routed" => Self::Routed,
            "isolated" => Self::Isolated,
            _ => return Err(()),
        })
    }
}

impl GatewayMode {
    /// Whether addresses are translated.
    pub(super) fn translates(self) -> bool {
        matches!(self, Self::Nat | Self::NatUnprotected)
    }
}

fn yes() -> bool {
    true
}

impl Bridge {
    /// The block of IPv4 as the host's side has it: without an address of the bridge where it is to have none.
    pub(super) fn own_v4(&self) -> Option<Block<Ipv4Addr>> {
        let without = self.inhibit_v4 || self.gateway_mode == GatewayMode::Isolated;
        self.addresses.v4.map(|block| Block { gateway: block.gateway.filter(|_| !without), ..block })
    }

    /// The same for IPv6.
    pub(super) fn own_v6(&self) -> Option<Block<Ipv6Addr>> {
        let without = self.gateway_mode_v6 == GatewayMode::Isolated;
        self.addresses.v6.map(|block| Block { gateway: block.gateway.filter(|_| !without), ..block })
    }

    /// Takes another block, all of it.
    pub(super) fn move_to(&mut self, subnet: Subnet) {
        self.addresses.v4 = Some(Block::whole(subnet, true));
    }
}

/// A network that is no bridge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Direct {
    /// The host's interface that it is on; empty when the driver needs none.
    pub parent: String,
    /// The driver's mode, such as `bridge` or `l2`.
    pub mode: String,
    /// How those on one parent treat each other where the mode does not say it (ipvlan): `bridge`, `private` or `vepa`; empty is
    /// the first.
    #[serde(default)]
    pub flag: String,
    /// Its addresses.
    #[serde(flatten)]
    pub addresses: Addresses,
    /// Largest packet in bytes, when it was asked for.
    #[serde(default)]
    pub mtu: Option<u32>,
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
    /// What the container is called on this network, its own name first.
    #[serde(default)]
    pub names: Vec<String>,
    /// Names that this container alone has for others.
    #[serde(default)]
    pub links: Vec<Link>,
    /// The endpoint with the highest one leads elsewhere.
    #[serde(default)]
    pub priority: i64,
}

/// A name that one container has for another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Link {
    /// The other container: a name or an id.
    pub target: String,
    /// What it is called.
    pub alias: String,
}

impl Link {
    /// Reads `container[:alias]`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (target, alias) = text.split_once(':').unwrap_or((text, text));
        let (target, alias) = (target.trim_start_matches('/'), alias.rsplit('/').next().unwrap_or_default());
        let valid = !target.is_empty() && !alias.is_empty() && !alias.contains(|c: char| c == ':' || c.is_whitespace());
        valid.then(|| Self { target: target.to_owned(), alias: alias.to_owned() })
    }
}

/// A container's interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Interface {
    /// Its name in the container, such as `eth0`.
    pub name: String,
    /// The host's end; empty when there is none.
    pub host_name: String,
    /// The container's address of IPv4, when the network has that.
    #[serde(default)]
    pub address: Option<Ipv4Addr>,
    /// The prefix length of its subnet; 0 without an address.
    pub prefix_len: u8,
    /// Where packets for elsewhere go; nowhere when there is none.
    pub gateway: Option<Ipv4Addr>,
    /// The address of IPv6, when the network has that.
    #[serde(default)]
    pub v6: Option<Interface6>,
    /// Further addresses, of the link only.
    #[serde(default)]
    pub link_local: Vec<IpAddr>,
    /// The hardware address.
    pub mac: MacAddress,
    /// Ports of the host that lead here.
    #[serde(default)]
    pub ports: Vec<PublishedPort>,
}

/// The IPv6 side of a container's interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Interface6 {
    /// The container's address.
    pub address: Ipv6Addr,
    /// The prefix length of its subnet.
    pub prefix_len: u8,
    /// Where packets for elsewhere go; nowhere when there is none.
    pub gateway: Option<Ipv6Addr>,
}

/// An Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
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

    /// A locally administered one that always goes with this text.
    pub(super) fn of_text(text: &str) -> Self {
        let digest = <sha2::Sha256 as sha2::Digest>::digest(text);
        let mut bytes = [0u8; 6];
        bytes.copy_from_slice(&digest[..6]);
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
    fn a_bridge_of_the_first_format_is_still_read() {
        let old = r#"{"interface":"engine0","subnet":"172.17.0.0/16","gateway":"172.17.0.1","range":"172.17.0.0/16",
            "chosen":true,"settled":true,"mtu":null,"inter_container":true,"masquerade":true}"#;
        let bridge: Bridge = serde_json::from_str(old).unwrap();
        assert_eq!(bridge.addresses.v4.unwrap().gateway, Some(Ipv4Addr::new(172, 17, 0, 1)));
        let again: Bridge = serde_json::from_str(&serde_json::to_string(&bridge).unwrap()).unwrap();
        assert_eq!(again, bridge);
    }

    #[test]
    fn links_have_a_target_and_a_name() {
        let parse = |text| Link::parse(text).map(|link| (link.target, link.alias));
        assert_eq!(parse("db"), Some(("db".into(), "db".into())));
        assert_eq!(parse("/db:/web/data"), Some(("db".into(), "data".into())));
        for wrong in ["", ":", "a:", ":a", "a:b:c", "a:b c"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

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
