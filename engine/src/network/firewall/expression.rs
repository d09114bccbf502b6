//! What a rule is made of: the few expressions that the engine needs, as the kernel knows them.

use engine_sys::netlink::Message;

use super::ruleset::{Family, padded};
use crate::network::subnet::{Address, Subnet};

const REGISTER: u32 = 1;
/// The first of the small registers, which hold the parts of a key one after the other. It is the same as the one above.
const KEY: u32 = 8;
/// Where a map puts what it found, behind the longest key.
const FOUND: u32 = 16;
/// Where verdicts go.
const VERDICT_REGISTER: u32 = 0;
const FRAME_HEADER: u32 = 0;
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;

/// One step of a rule. Values travel in one register.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expression {
    /// Loads the name of the interface that the packet came by.
    InputInterface,
    /// Loads the name of the interface that the packet leaves by.
    OutputInterface,
    /// Loads the source address.
    Source,
    /// Loads the destination address.
    Destination,
    /// Loads whose the destination address is.
    DestinationType,
    /// Loads the state of the connection that the packet is of, as bits.
    ConnectionState,
    /// Loads what is known of the connection, as bits.
    ConnectionStatus,
    /// Keeps these bits of what was loaded.
    Mask(Vec<u8>),
    /// Goes on when what was loaded is this.
    Equal(Vec<u8>),
    /// Goes on when what was loaded is not this.
    Different(Vec<u8>),
    /// Goes on when what was loaded is in the set.
    In(&'static str),
    /// Goes on when what was loaded is not in the set.
    NotIn(&'static str),
    /// First part of the key of [`Self::Find`]: the destination address.
    KeyDestination,
    /// First part of the key of [`Self::Find`]: no address in particular.
    KeyAnyAddress,
    /// Second part of the key of [`Self::Find`]: the protocol.
    KeyProtocol,
    /// Third part of the key of [`Self::Find`]: the destination port.
    KeyPort,
    /// Goes on with an address and a port when the map has the key.
    Find(&'static str),
    /// First part of the key of [`Self::Decide`]: the name of the interface that the packet came by.
    KeyInput,
    /// Second part of that: the name of the interface that it leaves by.
    KeyOutput,
    /// Does what the map says of what was loaded; goes on when it says nothing.
    Decide(&'static str),
    /// Loads the protocol.
    Protocol,
    /// Loads the destination port.
    DestinationPort,
    /// Loads the source port.
    SourcePort,
    /// Loads what a frame carries.
    FrameType,
    /// Loads the kind of a message of the network (ICMP).
    MessageKind,
    /// Second part of a key, behind [`Self::KeyInput`]: the hardware address that a frame comes from.
    KeyFrameSource,
    /// Second part of such a key: the address that a packet comes from.
    KeySource(Family),
    /// Second part of such a key: the hardware address that a message of ARP tells of.
    KeyArpHardware,
    /// Second part of such a key: the address that a message of ARP tells of.
    KeyArpAddress,
    /// Second part of such a key: the address that a neighbour of IPv6 tells of.
    KeyNeighbour,
    /// As if [`Self::Find`] had found this address.
    GiveAddress(Vec<u8>),
    /// As if [`Self::Find`] had found this port.
    GivePort(u16),
    /// Puts what was found in place of the destination.
    TranslateDestination,
    /// Puts the address that was found in place of the destination's; the port stays.
    TranslateAddress,
    /// Counts packets and bytes.
    Counter,
    /// Lets the packet pass this chain; chains of others are still asked.
    Accept,
    /// Throws the packet away.
    Drop,
    /// Puts the address of the outgoing interface in place of the source.
    Masquerade,
}

/// The number of the messages of the network in IPv6.
const MESSAGES_V6: u8 = 58;

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FrameType {
    Ipv4,
    Arp,
    Ipv6,
}

impl FrameType {
    pub(crate) fn bytes(self) -> [u8; 2] {
        match self {
            Self::Ipv4 => [0x08, 0x00],
            Self::Arp => [0x08, 0x06],
            Self::Ipv6 => [0x86, 0xdd],
        }
    }
}

/// Bits of [`Expression::ConnectionState`].
const ESTABLISHED: u32 = 2;
const RELATED: u32 = 4;
/// A bit of [`Expression::ConnectionStatus`]: the destination was translated.
const DESTINATION_TRANSLATED: u32 = 0x20;

impl Expression {
    /// The packet came by one of the interfaces.
    pub(crate) fn comes_by_one_of(set: &'static str) -> [Self; 2] {
        [Self::InputInterface, Self::In(set)]
    }

    pub(crate) fn leaves_by(interface: &str) -> [Self; 2] {
        [Self::OutputInterface, Self::Equal(padded(interface).to_vec())]
    }

    pub(crate) fn leaves_by_another_than(interface: &str) -> [Self; 2] {
        [Self::OutputInterface, Self::Different(padded(interface).to_vec())]
    }

    pub(crate) fn from<A: Address>(subnet: Subnet<A>) -> [Self; 3] {
        [Self::Source, Self::Mask(subnet.mask().bytes()), Self::Equal(subnet.first().bytes())]
    }

    pub(crate) fn to<A: Address>(subnet: Subnet<A>) -> [Self; 3] {
        let [_, mask, equal] = Self::from(subnet);
        [Self::Destination, mask, equal]
    }

    /// The packet goes to this port.
    pub(crate) fn to_port(protocol: u8, port: u16) -> [Self; 4] {
        let port = port.to_be_bytes().to_vec();
        [Self::Protocol, Self::Equal(vec![protocol]), Self::DestinationPort, Self::Equal(port)]
    }

    /// The frame carries this.
    pub(crate) fn carries(frame: FrameType) -> [Self; 2] {
        [Self::FrameType, Self::Equal(frame.bytes().to_vec())]
    }

    /// The packet is a message of IPv6's network of this kind.
    pub(crate) fn is_a_message_of_v6(kind: u8) -> [Self; 4] {
        [Self::Protocol, Self::Equal(vec![MESSAGES_V6]), Self::MessageKind, Self::Equal(vec![kind])]
    }

    /// The packet comes from this port of datagrams.
    pub(crate) fn from_datagram_port(port: u16) -> [Self; 4] {
        const UDP: u8 = 17;
        let port = port.to_be_bytes().to_vec();
        [Self::Protocol, Self::Equal(vec![UDP]), Self::SourcePort, Self::Equal(port)]
    }

    /// The packet is one by which hosts tell of errors and reachability.
    pub(crate) fn is_a_message_of_the_network(family: Family) -> [Self; 2] {
        let number = match family {
            Family::Ipv6 => MESSAGES_V6,
            _ => 1,
        };
        [Self::Protocol, Self::Equal(vec![number])]
    }

    /// The destination is an address of the host.
    pub(crate) fn to_the_host() -> [Self; 2] {
        const LOCAL: u32 = 2;
        [Self::DestinationType, Self::Equal(LOCAL.to_ne_bytes().to_vec())]
    }

    /// The packet belongs to a connection that was let through before.
    pub(crate) fn of_a_known_connection() -> [Self; 3] {
        Self::any_bit(Self::ConnectionState, ESTABLISHED | RELATED)
    }

    /// The connection was made to a published port, not to the container itself.
    pub(crate) fn to_a_published_port() -> [Self; 3] {
        Self::any_bit(Self::ConnectionStatus, DESTINATION_TRANSLATED)
    }

    fn any_bit(load: Self, bits: u32) -> [Self; 3] {
        [load, Self::Mask(bits.to_ne_bytes().to_vec()), Self::Different(vec![0; 4])]
    }

    /// The kernel's name of it.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::InputInterface | Self::OutputInterface | Self::KeyInput | Self::KeyOutput => "meta",
            Self::Source | Self::Destination | Self::KeyDestination | Self::KeyPort => "payload",
            Self::DestinationType => "fib",
            Self::KeyAnyAddress => "immediate",
            Self::KeyProtocol => "meta",
            Self::Protocol => "meta",
            Self::DestinationPort | Self::SourcePort | Self::MessageKind => "payload",
            Self::FrameType => "meta",
            Self::KeyFrameSource | Self::KeySource(_) | Self::KeyNeighbour => "payload",
            Self::KeyArpHardware | Self::KeyArpAddress => "payload",
            Self::GiveAddress(_) | Self::GivePort(_) => "immediate",
            Self::Find(_) | Self::Decide(_) => "lookup",
            Self::TranslateDestination | Self::TranslateAddress => "nat",
            Self::ConnectionState | Self::ConnectionStatus => "ct",
            Self::Mask(_) => "bitwise",
            Self::Equal(_) | Self::Different(_) => "cmp",
            Self::In(_) | Self::NotIn(_) => "lookup",
            Self::Counter => "counter",
            Self::Accept | Self::Drop => "immediate",
            Self::Masquerade => "masq",
        }
    }

    pub(super) fn encode(&self, into: Message, family: Family) -> Message {
        let width = u32::from(family.width());
        // Where the addresses are in the header, source and destination.
        let (source, destination) = match family {
            Family::Ipv6 => (8, 24),
            _ => (12, 16),
        };
        // Behind the name of an interface.
        const BEHIND_NAME: u32 = KEY + 4;
        // In registers of four bytes.
        let behind_address = KEY + width / 4;
        match self {
            Self::InputInterface => into.u32_be(1, REGISTER).u32_be(2, 6),
            Self::OutputInterface => into.u32_be(1, REGISTER).u32_be(2, 7),
            Self::Source => payload(into, REGISTER, NETWORK_HEADER, source, width),
            Self::Destination => payload(into, REGISTER, NETWORK_HEADER, destination, width),
            // The kind of the address (3), of the destination (2).
            Self::DestinationType => into.u32_be(1, REGISTER).u32_be(2, 3).u32_be(3, 2),
            Self::KeyDestination => payload(into, KEY, NETWORK_HEADER, destination, width),
            Self::KeyAnyAddress => {
                into.u32_be(1, KEY).nest(2, |data| data.attribute(DATA_VALUE, &vec![0; usize::from(family.width())]))
            }
            Self::KeyProtocol => into.u32_be(1, behind_address).u32_be(2, 16),
            Self::KeyPort => payload(into, behind_address + 1, TRANSPORT_HEADER, 2, 2),
            Self::Find(map) => into.text(1, map).u32_be(2, KEY).u32_be(3, FOUND),
            Self::KeyInput => into.u32_be(1, KEY).u32_be(2, 6),
            Self::KeyOutput => into.u32_be(1, BEHIND_NAME).u32_be(2, 7),
            Self::Decide(map) => into.text(1, map).u32_be(2, KEY).u32_be(3, VERDICT_REGISTER),
            Self::TranslateAddress => into.u32_be(1, 1).u32_be(2, family.number().into()).u32_be(3, FOUND),
            Self::Protocol => into.u32_be(1, REGISTER).u32_be(2, 16),
            Self::DestinationPort => payload(into, REGISTER, TRANSPORT_HEADER, 2, 2),
            Self::SourcePort => payload(into, REGISTER, TRANSPORT_HEADER, 0, 2),
            Self::MessageKind => payload(into, REGISTER, TRANSPORT_HEADER, 0, 1),
            Self::FrameType => into.u32_be(1, REGISTER).u32_be(2, 1),
            Self::KeyFrameSource => payload(into, BEHIND_NAME, FRAME_HEADER, 6, 6),
            Self::KeySource(Family::Ipv6) => payload(into, BEHIND_NAME, NETWORK_HEADER, 8, 16),
            Self::KeySource(_) => payload(into, BEHIND_NAME, NETWORK_HEADER, 12, 4),
            Self::KeyArpHardware => payload(into, BEHIND_NAME, NETWORK_HEADER, 8, 6),
            Self::KeyArpAddress => payload(into, BEHIND_NAME, NETWORK_HEADER, 14, 4),
            Self::KeyNeighbour => payload(into, BEHIND_NAME, TRANSPORT_HEADER, 8, 16),
            Self::GiveAddress(address) => into.u32_be(1, FOUND).nest(2, |data| data.attribute(DATA_VALUE, address)),
            Self::GivePort(port) => {
                into.u32_be(1, FOUND + width / 4).nest(2, |data| data.attribute(DATA_VALUE, &port.to_be_bytes()))
            }
            // Of the destination (1), by family: address and port.
            Self::TranslateDestination => {
                into.u32_be(1, 1).u32_be(2, family.number().into()).u32_be(3, FOUND).u32_be(5, FOUND + width / 4)
            }
            Self::ConnectionState => into.u32_be(1, REGISTER).u32_be(2, 0),
            Self::ConnectionStatus => into.u32_be(1, REGISTER).u32_be(2, 2),
            Self::Mask(mask) => into
                .u32_be(1, REGISTER)
                .u32_be(2, REGISTER)
                .u32_be(3, u32::try_from(mask.len()).unwrap_or_default())
                .nest(4, |value| value.attribute(DATA_VALUE, mask))
                .nest(5, |value| value.attribute(DATA_VALUE, &vec![0; mask.len()])),
            Self::Equal(value) => compare(into, 0, value),
            Self::Different(value) => compare(into, 1, value),
            Self::In(set) => into.text(1, set).u32_be(2, REGISTER),
            // The flag: what is found ends the rule.
            Self::NotIn(set) => into.text(1, set).u32_be(2, REGISTER).u32_be(5, 1),
            Self::Counter | Self::Masquerade => into,
            Self::Accept => verdict(into, 1),
            Self::Drop => verdict(into, 0),
        }
    }
}

fn payload(into: Message, register: u32, header: u32, offset: u32, length: u32) -> Message {
    into.u32_be(1, register).u32_be(2, header).u32_be(3, offset).u32_be(4, length)
}

fn compare(into: Message, operation: u32, value: &[u8]) -> Message {
    into.u32_be(1, REGISTER).u32_be(2, operation).nest(3, |data| data.attribute(DATA_VALUE, value))
}

fn verdict(into: Message, code: u32) -> Message {
    into.u32_be(1, VERDICT_REGISTER).nest(2, |data| data.nest(DATA_VERDICT, |verdict| verdict.u32_be(1, code)))
}
