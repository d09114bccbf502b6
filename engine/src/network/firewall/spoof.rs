//! Against containers that say they are somebody else: what comes by a guarded port of a bridge has the addresses of its
//! container, and is nothing by which routers and servers of addresses tell others what to do. Decides purely.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::expression::{Expression as E, FrameType};
use super::ruleset::{Chain, Family, Hook, Rule, Ruleset, padded};
use super::set::{Data, Element, Holds, Part, Set, bytes};
use crate::network::MacAddress;
use crate::network::record::Interface;

/// The guarded ports.
const PORTS: &str = "guarded";
/// Which hardware address comes by which port.
const HARDWARE: &str = "hardware";
/// Which addresses come by which port.
const ADDRESSES: &str = "addresses";
const ADDRESSES_V6: &str = "addresses_v6";
/// What frames may carry.
const TYPES: &str = "types";

/// Kinds of messages of IPv6's network.
const ROUTER_ADVERTISEMENT: u8 = 134;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
const REDIRECT: u8 = 137;
/// Where those answer who give addresses out (DHCP).
const ADDRESS_SERVER: u16 = 67;
const ADDRESS_SERVER_V6: u16 = 547;

/// A guarded port, and who is behind it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct End {
    port: String,
    mac: MacAddress,
    addresses: Vec<IpAddr>,
}

impl End {
    /// The end of a container. Whoever asks for an address, or whether somebody has it, does so without one.
    pub(crate) fn of(interface: &Interface) -> Self {
        let mut addresses = interface.link_local.clone();
        addresses.extend(interface.address.map(IpAddr::V4));
        addresses.extend(interface.v6.as_ref().map(|v6| IpAddr::V6(v6.address)));
        if addresses.iter().any(IpAddr::is_ipv6) {
            addresses.extend([IpAddr::V6(of_the_link(interface.mac)), Ipv6Addr::UNSPECIFIED.into()]);
        }
        if addresses.iter().any(IpAddr::is_ipv4) {
            addresses.push(Ipv4Addr::UNSPECIFIED.into());
        }
        Self { port: interface.host_name.clone(), mac: interface.mac, addresses }
    }
}

/// The address of the link that the kernel gives an interface (RFC 4291, appendix A).
fn of_the_link(mac: MacAddress) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.bytes();
    Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}

/// The table that looks at what comes by guarded ports.
pub(crate) fn guarded(table: &str, ends: &BTreeSet<End>) -> Ruleset {
    let drop = |comment: &str, parts: &[&[E]]| {
        let expressions = [&parts.concat()[..], &[E::Counter, E::Drop]].concat();
        Rule { comment: comment.to_owned(), expressions }
    };
    let unless = |what, set| [E::KeyInput, what, E::NotIn(set)];
    let (v4, v6, arp) = (E::carries(FrameType::Ipv4), E::carries(FrameType::Ipv6), E::carries(FrameType::Arp));
    let accept = [E::InputInterface, E::NotIn(PORTS), E::Accept].to_vec();
    let rules = vec![
        Rule { comment: "ports that nobody guards".to_owned(), expressions: accept },
        drop("frames of others", &[&unless(E::KeyFrameSource, HARDWARE)]),
        drop("frames with something unknown", &[&[E::FrameType, E::NotIn(TYPES)]]),
        drop("who has an address: told for others", &[&arp, &unless(E::KeyArpHardware, HARDWARE)]),
        drop("who has an address: told of others", &[&arp, &unless(E::KeyArpAddress, ADDRESSES)]),
        drop("packets of others", &[&v4, &unless(E::KeySource(Family::Ipv4), ADDRESSES)]),
        drop("packets of others", &[&v6, &unless(E::KeySource(Family::Ipv6), ADDRESSES_V6)]),
        drop(
            "who has an address: told of others",
            &[&v6, &E::is_a_message_of_v6(NEIGHBOUR_ADVERTISEMENT), &unless(E::KeyNeighbour, ADDRESSES_V6)],
        ),
        drop("a router", &[&v6, &E::is_a_message_of_v6(ROUTER_ADVERTISEMENT)]),
        drop("another way", &[&v6, &E::is_a_message_of_v6(REDIRECT)]),
        drop("a server of addresses", &[&v4, &E::from_datagram_port(ADDRESS_SERVER)]),
        drop("a server of addresses", &[&v6, &E::from_datagram_port(ADDRESS_SERVER_V6)]),
    ];
    let mut sets = of_ends(ends);
    let types = [FrameType::Ipv4, FrameType::Arp, FrameType::Ipv6];
    let types = types.map(|one| Element { key: one.bytes().to_vec(), last: None, data: Data::Nothing });
    sets.push(set(TYPES, &[Part::FrameType], types.into()));
    let chains = vec![Chain { name: "guard", hook: Some(Hook::Raw), rules }];
    Ruleset { family: Family::Bridge, table: table.to_owned(), sets, chains }
}

/// What the sets have of these ends.
pub(super) fn of_ends<'a>(ends: impl IntoIterator<Item = &'a End>) -> Vec<Set> {
    let (mut ports, mut hardware) = (BTreeSet::new(), BTreeSet::new());
    let (mut addresses, mut addresses_v6) = (BTreeSet::new(), BTreeSet::new());
    for end in ends {
        let with = |more: &[u8]| {
            let mut key = [&padded(&end.port)[..], more].concat();
            key.resize(key.len().next_multiple_of(4), 0);
            Element { key, last: None, data: Data::Nothing }
        };
        ports.insert(with(&[]));
        hardware.insert(with(&end.mac.bytes()));
        for address in &end.addresses {
            let set = if address.is_ipv4() { &mut addresses } else { &mut addresses_v6 };
            set.insert(with(&bytes(*address)));
        }
    }
    vec![
        set(PORTS, &[Part::Interface], ports),
        set(HARDWARE, &[Part::Interface, Part::Hardware], hardware),
        set(ADDRESSES, &[Part::Interface, Part::AddressOf(Family::Ipv4)], addresses),
        set(ADDRESSES_V6, &[Part::Interface, Part::AddressOf(Family::Ipv6)], addresses_v6),
    ]
}

fn set(name: &'static str, key: &'static [Part], elements: BTreeSet<Element>) -> Set {
    Set { name, key, holds: Holds::Nothing, ranges: false, elements }
}
