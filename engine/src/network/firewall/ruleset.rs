//! A table of the packet filter as data, and its encoding into one transaction that replaces the whole table.

use std::collections::BTreeSet;
use std::net::IpAddr;

use engine_sys::netlink::{ACK, CREATE, Message};

use super::expression::Expression;
use crate::network::port::PublishedPort;

pub(super) const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const NEW_TABLE: u16 = 0;
const DELETE_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const NEW_RULE: u16 = 6;
const NEW_SET: u16 = 9;
const NEW_ELEMENTS: u16 = 12;
const DELETE_ELEMENTS: u16 = 14;
const APPEND: u16 = 0x800;
const LIST_ITEM: u16 = 1;
const DATA_VALUE: u16 = 1;

/// An interface's name as the kernel compares it.
pub(super) const NAME: usize = 16;

/// Which packets a table sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    Ipv4,
    Ipv6,
}

impl Family {
    /// As the packet filter numbers it.
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Ipv4 => 2,
            Self::Ipv6 => 10,
        }
    }

    /// Bytes of an address.
    pub(super) fn width(self) -> u8 {
        match self {
            Self::Ipv4 => 4,
            Self::Ipv6 => 16,
        }
    }
}

/// One table of rules for one family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ruleset {
    pub(crate) family: Family,
    pub(crate) table: String,
    pub(crate) sets: Vec<InterfaceSet>,
    pub(crate) ports: Option<PortMap>,
    pub(crate) chains: Vec<Chain>,
}

/// Interfaces by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InterfaceSet {
    pub(crate) name: &'static str,
    pub(crate) interfaces: Vec<String>,
}

/// Where ports of the host lead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PortMap {
    pub(crate) name: &'static str,
    pub(crate) ports: BTreeSet<Port>,
}

/// A port of the host and where it leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Port {
    pub(crate) published: PublishedPort,
    pub(crate) address: IpAddr,
}

impl Port {
    /// Whose table it belongs in.
    pub(crate) fn family(&self) -> Family {
        if self.address.is_ipv4() { Family::Ipv4 } else { Family::Ipv6 }
    }

    /// Address, protocol and port, each padded to four bytes.
    pub(super) fn key(&self) -> Vec<u8> {
        let mut key = bytes(self.published.host_address);
        key.extend([self.published.protocol.number(), 0, 0, 0]);
        key.extend(self.published.host_port.to_be_bytes());
        key.extend([0, 0]);
        key
    }

    /// Address and port, each padded to four bytes.
    pub(super) fn value(&self) -> Vec<u8> {
        let mut value = bytes(self.address);
        value.extend(self.published.port.to_be_bytes());
        value.extend([0, 0]);
        value
    }
}

fn bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// Rules that packets pass at one hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chain {
    pub(crate) name: &'static str,
    pub(crate) hook: Hook,
    pub(crate) rules: Vec<Rule>,
}

/// Where a chain is hooked in, and how early among others. All let pass what no rule decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hook {
    /// What the host routes through, at the usual place of filters.
    Forward,
    /// What comes in, before anything else has looked at it.
    Raw,
    /// What comes in, where destinations are translated.
    TranslateDestination,
    /// What the host itself sends, where destinations are translated.
    TranslateOwnDestination,
    /// What leaves the host, where sources are translated.
    TranslateSource,
}

impl Hook {
    /// Kind, number and priority.
    fn place(self) -> (&'static str, u32, i32) {
        match self {
            Self::Forward => ("filter", 2, 0),
            Self::Raw => ("filter", 0, -300),
            Self::TranslateDestination => ("nat", 0, -100),
            Self::TranslateOwnDestination => ("nat", 3, -100),
            Self::TranslateSource => ("nat", 4, 100),
        }
    }
}

/// Expressions that are passed one after the other until one says no or decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rule {
    /// Shown by `nft list ruleset`, and how a rule is known again.
    pub(crate) comment: String,
    pub(crate) expressions: Vec<Expression>,
}

pub(super) fn message(family: Family, kind: u16, flags: u16) -> Message {
    Message::new(SUBSYSTEM << 8 | kind, flags).put(&[family.number(), 0, 0, 0])
}

fn boundary(kind: u16) -> Message {
    // The last two bytes say whose transaction it is.
    Message::new(kind, 0).put(&[0, 0, 0, SUBSYSTEM as u8])
}

/// One transaction after which the tables of `gone` are not there, and the others as described, whatever they were before.
pub(super) fn exchange(gone: &[Ruleset], rulesets: &[Ruleset]) -> Vec<Message> {
    transaction(gone.iter().flat_map(Ruleset::removal).chain(rulesets.iter().flat_map(Ruleset::replacement)))
}

fn transaction(orders: impl Iterator<Item = Message>) -> Vec<Message> {
    let mut messages = vec![boundary(BATCH_BEGIN)];
    messages.extend(orders);
    messages.push(boundary(BATCH_END));
    messages
}

impl Ruleset {
    /// Orders after which the table is as described, whatever it was before.
    fn replacement(&self) -> Vec<Message> {
        // Deleting needs it to be there; making what is there is fine.
        let mut messages = vec![self.make_table(), self.remove_table(), self.make_table()];
        let sets = self.sets.iter().zip(1..);
        messages.extend(sets.flat_map(|(set, id)| self.make_set(set, id)));
        if let Some(map) = &self.ports {
            messages.push(self.make_map(map));
            messages.extend(change_ports(NEW_ELEMENTS, self.family, &self.table, map.name, map.ports.iter()));
        }
        messages.extend(self.chains.iter().map(|chain| self.make_chain(chain)));
        for chain in &self.chains {
            messages.extend(chain.rules.iter().map(|rule| self.make_rule(chain.name, rule)));
        }
        messages
    }

    /// Orders after which there is no such table.
    fn removal(&self) -> Vec<Message> {
        vec![self.make_table(), self.remove_table()]
    }

    fn make_table(&self) -> Message {
        message(self.family, NEW_TABLE, ACK | CREATE).text(1, &self.table).u32_be(2, 0)
    }

    fn remove_table(&self) -> Message {
        message(self.family, DELETE_TABLE, ACK).text(1, &self.table)
    }

    fn make_set(&self, set: &InterfaceSet, id: u32) -> Vec<Message> {
        const INTERFACE_NAME: u32 = 41;
        let make = message(self.family, NEW_SET, ACK | CREATE)
            .text(1, &self.table)
            .text(2, set.name)
            .u32_be(3, 0)
            .u32_be(4, INTERFACE_NAME)
            .u32_be(5, NAME as u32)
            .u32_be(10, id);
        let mut messages = vec![make];
        // An attribute has at most 64 kB, enough for 1,600 names.
        for some in set.interfaces.chunks(1000) {
            let elements =
                message(self.family, NEW_ELEMENTS, ACK | CREATE).text(1, &self.table).text(2, set.name).u32_be(4, id);
            messages.push(elements.nest(3, |list| {
                some.iter().fold(list, |list, interface| {
                    let key = |item: Message| item.nest(1, |key| key.attribute(DATA_VALUE, &padded(interface)));
                    list.nest(LIST_ITEM, key)
                })
            }));
        }
        messages
    }

    fn make_map(&self, map: &PortMap) -> Message {
        // As `nft` numbers types: an address, a protocol and a port; an address and a port.
        let address = match self.family {
            Family::Ipv4 => 7,
            Family::Ipv6 => 8,
        };
        let key_type: u32 = address << 12 | 12 << 6 | 13;
        let value_type: u32 = address << 6 | 13;
        let width = u32::from(self.family.width());
        const IS_MAP: u32 = 8;
        const ID: u32 = 1 << 16;
        message(self.family, NEW_SET, ACK | CREATE)
            .text(1, &self.table)
            .text(2, map.name)
            .u32_be(3, IS_MAP)
            .u32_be(4, key_type)
            .u32_be(5, width + 8)
            .u32_be(6, value_type)
            .u32_be(7, width + 4)
            .u32_be(10, ID)
    }

    fn make_chain(&self, chain: &Chain) -> Message {
        const ACCEPT: u32 = 1;
        let (kind, number, priority) = chain.hook.place();
        message(self.family, NEW_CHAIN, ACK | CREATE)
            .text(1, &self.table)
            .text(3, chain.name)
            .nest(4, |hook| hook.u32_be(1, number).attribute(2, &priority.to_be_bytes()))
            .u32_be(5, ACCEPT)
            .text(7, kind)
    }

    fn make_rule(&self, chain: &str, rule: &Rule) -> Message {
        message(self.family, NEW_RULE, ACK | CREATE | APPEND)
            .text(1, &self.table)
            .text(2, chain)
            .nest(4, |list| {
                rule.expressions.iter().fold(list, |list, expression| {
                    list.nest(LIST_ITEM, |item| {
                        item.text(1, expression.name()).nest(2, |content| expression.encode(content, self.family))
                    })
                })
            })
            .attribute(7, &comment(&rule.comment))
    }
}

/// One transaction that adds ports to the maps of both families or removes them.
pub(super) fn port_change(add: bool, table: &str, map: &str, ports: &[Port]) -> Vec<Message> {
    let kind = if add { NEW_ELEMENTS } else { DELETE_ELEMENTS };
    transaction([Family::Ipv4, Family::Ipv6].into_iter().flat_map(|family| {
        change_ports(kind, family, table, map, ports.iter().filter(move |port| port.family() == family))
    }))
}

fn change_ports<'a>(
    kind: u16,
    family: Family,
    table: &str,
    map: &str,
    ports: impl Iterator<Item = &'a Port>,
) -> Vec<Message> {
    let ports: Vec<_> = ports.collect();
    // An attribute has at most 64 kB.
    let some = ports.chunks(600).map(|some| {
        message(family, kind, ACK | CREATE).text(1, table).text(2, map).nest(3, |list| {
            some.iter().fold(list, |list, port| {
                list.nest(LIST_ITEM, |item| {
                    item.nest(1, |key| key.attribute(DATA_VALUE, &port.key()))
                        .nest(2, |value| value.attribute(DATA_VALUE, &port.value()))
                })
            })
        })
    });
    some.collect()
}

/// The layout in which `nft` keeps comments: a type, a length, and the text with its closing zero.
pub(super) fn comment(text: &str) -> Vec<u8> {
    let text: String = text.chars().filter(char::is_ascii).take(127).collect();
    let mut bytes = vec![0, text.len() as u8 + 1];
    bytes.extend(text.as_bytes());
    bytes.push(0);
    bytes
}

pub(super) fn padded(interface: &str) -> [u8; NAME] {
    let mut name = [0; NAME];
    // The kernel's names have at most 15 bytes; a longer one matches nothing.
    let length = interface.len().min(NAME - 1);
    name[..length].copy_from_slice(&interface.as_bytes()[..length]);
    name
}
