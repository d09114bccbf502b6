//! Sets and maps of the packet filter: what rules look things up in, so that their number does not grow with what there is.

use std::collections::BTreeSet;
use std::net::IpAddr;

use engine_sys::netlink::{ACK, CREATE, Message, attributes, text, u32_be};

use super::ruleset::{Family, LIST_ITEM, NAME, message, padded};
use crate::network::port::PublishedPort;

const NEW_SET: u16 = 9;
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;
const KEY: u16 = 1;
const DATA: u16 = 2;
const KEY_END: u16 = 10;

/// What a key is made of. Each part takes a multiple of four bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Interface,
    /// An address of the table's family.
    Address,
    /// An address of this family, in tables that see several.
    AddressOf(Family),
    Hardware,
    FrameType,
    Protocol,
    Port,
}

impl Part {
    /// As `nft` numbers types.
    fn number(self, family: Family) -> u32 {
        match (self, family) {
            (Self::Interface, _) => 41,
            (Self::Address | Self::AddressOf(Family::Ipv6), Family::Ipv6) | (Self::AddressOf(Family::Ipv6), _) => 8,
            (Self::Address | Self::AddressOf(_), _) => 7,
            (Self::Hardware, _) => 9,
            (Self::FrameType, _) => 10,
            (Self::Protocol, _) => 12,
            (Self::Port, _) => 13,
        }
    }

    fn len(self, family: Family) -> u32 {
        match self {
            Self::Interface => NAME as u32,
            Self::Address => family.width().into(),
            Self::AddressOf(family) => family.width().into(),
            Self::Hardware => 6,
            Self::FrameType => 2,
            Self::Protocol => 1,
            Self::Port => 2,
        }
    }
}

/// The type and the length of several parts.
fn join(parts: &[Part], family: Family) -> (u32, u32) {
    let add = |(kind, len), part: &Part| (kind << 6 | part.number(family), len + part.len(family).next_multiple_of(4));
    match parts {
        [one] => (one.number(family), one.len(family)),
        several => several.iter().fold((0, 0), add),
    }
}

/// What is known of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holds {
    /// That it is in the set.
    Nothing,
    /// A value of these parts.
    Value(&'static [Part]),
    /// What becomes of the packet.
    Verdict,
}

/// A set or a map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Set {
    pub(crate) name: &'static str,
    pub(crate) key: &'static [Part],
    pub(crate) holds: Holds,
    /// Keys can be ranges.
    pub(crate) ranges: bool,
    pub(crate) elements: BTreeSet<Element>,
}

/// A key, or a range of them, and what is known of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Element {
    pub(crate) key: Vec<u8>,
    /// The last key of the range, where keys can be ranges.
    pub(crate) last: Option<Vec<u8>>,
    pub(crate) data: Data,
}

/// What a map has for a key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Data {
    Nothing,
    Value(Vec<u8>),
    Verdict(Verdict),
}

/// What becomes of a packet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    /// It may pass.
    Accept,
    /// Another chain decides.
    GoTo(String),
    /// Something that we never say.
    Other(u32),
}

const ACCEPT: u32 = 1;
/// `NFT_GOTO`, which is -4.
const GO_TO: u32 = 0xffff_fffc;

impl Element {
    /// Interfaces, one after the other.
    pub(crate) fn interfaces(names: &[&str], data: Data) -> Self {
        Self { key: names.iter().flat_map(|name| padded(name)).collect(), last: None, data }
    }

    /// As the kernel tells of it.
    pub(super) fn read(item: &[u8]) -> Option<Self> {
        let part = |kind| attributes(item).find(|attribute| attribute.kind == kind).map(|part| part.content);
        let value = |part| attributes(part).find(|inner| inner.kind == DATA_VALUE).map(|value| value.content.to_vec());
        let data = match part(DATA) {
            None => Data::Nothing,
            Some(data) => match value(data) {
                Some(value) => Data::Value(value),
                None => Data::Verdict(read_verdict(data)?),
            },
        };
        Some(Self { key: value(part(KEY)?)?, last: part(KEY_END).and_then(value), data })
    }

    pub(super) fn encode(&self, item: Message) -> Message {
        let value = |item: Message, kind, bytes: &[u8]| item.nest(kind, |data| data.attribute(DATA_VALUE, bytes));
        let item = value(item, KEY, &self.key);
        let item = match &self.last {
            Some(last) => value(item, KEY_END, last),
            None => item,
        };
        match &self.data {
            Data::Nothing => item,
            Data::Value(bytes) => value(item, DATA, bytes),
            Data::Verdict(verdict) => item.nest(DATA, |data| {
                data.nest(DATA_VERDICT, |into| match verdict {
                    Verdict::Accept => into.u32_be(1, ACCEPT),
                    Verdict::GoTo(chain) => into.u32_be(1, GO_TO).text(2, chain),
                    Verdict::Other(code) => into.u32_be(1, *code),
                })
            }),
        }
    }

    /// At most how many bytes it takes in a message.
    fn size(&self) -> usize {
        let data = match &self.data {
            Data::Nothing => 0,
            Data::Value(value) => value.len(),
            Data::Verdict(Verdict::GoTo(chain)) => chain.len() + 16,
            Data::Verdict(_) => 16,
        };
        self.key.len() + self.last.as_ref().map_or(0, Vec::len) + data + 40
    }
}

fn read_verdict(data: &[u8]) -> Option<Verdict> {
    let verdict = attributes(data).find(|attribute| attribute.kind == DATA_VERDICT)?.content;
    let part = |kind| attributes(verdict).find(|attribute| attribute.kind == kind).map(|part| part.content);
    Some(match u32_be(part(1)?)? {
        ACCEPT => Verdict::Accept,
        GO_TO => Verdict::GoTo(text(part(2)?).to_owned()),
        other => Verdict::Other(other),
    })
}

impl Set {
    /// The names in a set of interfaces.
    pub(crate) fn interfaces(&self) -> Vec<String> {
        self.elements.iter().map(|element| text(&element.key).to_owned()).collect()
    }

    pub(super) fn make(&self, family: Family, table: &str, id: u32) -> Message {
        const RANGES: u32 = 4;
        const IS_MAP: u32 = 8;
        const SEVERAL_PARTS: u32 = 0x80;
        const TYPE_VERDICT: u32 = 0xffff_ff00;
        let (key_type, key_len) = join(self.key, family);
        let map = if self.holds == Holds::Nothing { 0 } else { IS_MAP };
        let ranges = if self.ranges { RANGES | SEVERAL_PARTS } else { 0 };
        let make = message(family, NEW_SET, ACK | CREATE)
            .text(1, table)
            .text(2, self.name)
            .u32_be(3, map | ranges)
            .u32_be(4, key_type)
            .u32_be(5, key_len);
        let make = match self.holds {
            Holds::Nothing => make,
            Holds::Value(parts) => {
                let (value_type, value_len) = join(parts, family);
                make.u32_be(6, value_type).u32_be(7, value_len)
            }
            Holds::Verdict => make.u32_be(6, TYPE_VERDICT),
        };
        let make = if self.ranges {
            make.nest(9, |description| {
                description.nest(2, |parts| {
                    let one =
                        |list: Message, part: &Part| list.nest(LIST_ITEM, |item| item.u32_be(1, part.len(family)));
                    self.key.iter().fold(parts, one)
                })
            })
        } else {
            make
        };
        make.u32_be(10, id)
    }

    /// Orders that add the elements, or remove them.
    pub(super) fn change(&self, kind: u16, family: Family, table: &str) -> Vec<Message> {
        // An attribute has at most 64 kB.
        const AT_ONCE: usize = 60 << 10;
        let largest = self.elements.iter().map(Element::size).max().unwrap_or(1);
        let elements: Vec<_> = self.elements.iter().collect();
        let some = elements.chunks(AT_ONCE / largest.max(1)).map(|some| {
            message(family, kind, ACK | CREATE).text(1, table).text(2, self.name).nest(3, |list| {
                some.iter().fold(list, |list, element| list.nest(LIST_ITEM, |item| element.encode(item)))
            })
        });
        some.collect()
    }
}

/// Ports of the host in a row, and where they lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Port {
    pub(crate) published: PublishedPort,
    pub(crate) address: IpAddr,
    /// They are known at the container's own address too, for those who may reach it there.
    pub(crate) direct: bool,
}

impl Port {
    /// Whose table it belongs in.
    pub(crate) fn family(&self) -> Family {
        if self.address.is_ipv4() { Family::Ipv4 } else { Family::Ipv6 }
    }

    /// Whether all ports of the row keep their number.
    pub(super) fn is_straight(&self) -> bool {
        self.published.count > 1 && self.published.port == self.published.host_port
    }

    /// The ports one by one.
    pub(crate) fn each(self) -> impl Iterator<Item = Self> {
        self.published.each().map(move |published| Self { published, ..self })
    }

    /// The host's address, the protocol and port, each padded to four bytes, and where it leads.
    pub(super) fn to_one(self) -> Element {
        let published = &self.published;
        let mut value = bytes(self.address);
        value.extend(port_bytes(published.port));
        let key = key(published.host_address, published, published.host_port);
        Element { key, last: None, data: Data::Value(value) }
    }

    /// The same of the whole row; the number stays.
    pub(super) fn to_range(self) -> Element {
        let published = &self.published;
        let key = |port| key(published.host_address, published, port);
        let last = key(published.last_host_port());
        Element { key: key(published.host_port), last: Some(last), data: Data::Value(bytes(self.address)) }
    }

    /// The container's own ports.
    pub(super) fn to_own(self) -> Element {
        let published = &self.published;
        let last = published.port.saturating_add(published.count.saturating_sub(1));
        let key = |port| key(self.address, published, port);
        Element { key: key(published.port), last: Some(key(last)), data: Data::Nothing }
    }
}

fn key(address: IpAddr, published: &PublishedPort, port: u16) -> Vec<u8> {
    let mut key = bytes(address);
    key.extend([published.protocol.number(), 0, 0, 0]);
    key.extend(port_bytes(port));
    key
}

fn port_bytes(port: u16) -> [u8; 4] {
    let [high, low] = port.to_be_bytes();
    [high, low, 0, 0]
}

pub(super) fn bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}
