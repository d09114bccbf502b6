//! A table of the packet filter as data, and its encoding into one transaction that replaces the whole table.

use engine_sys::netlink::{ACK, CREATE, EXCLUSIVE, Message};

use super::expression::Expression;
use super::rules;
use super::set::{Port, Set};

pub(super) const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const NEW_TABLE: u16 = 0;
const DELETE_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const NEW_RULE: u16 = 6;
const NEW_ELEMENTS: u16 = 12;
const DELETE_ELEMENTS: u16 = 14;
const APPEND: u16 = 0x800;
pub(super) const LIST_ITEM: u16 = 1;

/// An interface's name as the kernel compares it.
pub(super) const NAME: usize = 16;

/// Which packets a table sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    Ipv4,
    Ipv6,
    /// Frames that bridges pass on, whatever they carry.
    Bridge,
}

impl Family {
    /// As the packet filter numbers it.
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Ipv4 => 2,
            Self::Ipv6 => 10,
            Self::Bridge => 7,
        }
    }

    /// Bytes of an address, where there is one kind of it.
    pub(super) fn width(self) -> u8 {
        match self {
            Self::Ipv4 => 4,
            Self::Ipv6 => 16,
            Self::Bridge => 0,
        }
    }
}

/// One table of rules for one family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ruleset {
    pub(crate) family: Family,
    pub(crate) table: String,
    pub(crate) sets: Vec<Set>,
    pub(crate) chains: Vec<Chain>,
}

/// Rules that packets pass one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chain {
    pub(crate) name: &'static str,
    /// None for one that only maps lead to.
    pub(crate) hook: Option<Hook>,
    pub(crate) rules: Vec<Rule>,
}

/// Where a chain is hooked in, and how early among others. All let pass what no rule decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hook {
    /// What the host routes through, at the usual place of filters.
    Forward,
    /// What is for the host itself, at the usual place of filters.
    Input,
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
            Self::Input => ("filter", 1, 0),
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

/// One transaction that makes a table.
pub(super) fn creation(ruleset: &Ruleset) -> Vec<Message> {
    transaction(ruleset.creation().into_iter())
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
        messages.extend(self.content());
        messages
    }

    /// Orders that make the table, which must not be there.
    fn creation(&self) -> Vec<Message> {
        let make = message(self.family, NEW_TABLE, ACK | CREATE | EXCLUSIVE).text(1, &self.table).u32_be(2, 0);
        let mut messages = vec![make];
        messages.extend(self.content());
        messages
    }

    /// Orders that fill the table, which is empty.
    fn content(&self) -> Vec<Message> {
        let mut messages = Vec::new();
        messages.extend(self.sets.iter().zip(1..).map(|(set, id)| set.make(self.family, &self.table, id)));
        messages.extend(self.chains.iter().map(|chain| self.make_chain(chain)));
        // Some lead to chains.
        for set in &self.sets {
            messages.extend(set.change(NEW_ELEMENTS, self.family, &self.table));
        }
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

    fn make_chain(&self, chain: &Chain) -> Message {
        const ACCEPT: u32 = 1;
        let make = message(self.family, NEW_CHAIN, ACK | CREATE).text(1, &self.table).text(3, chain.name);
        let Some((kind, number, priority)) = chain.hook.map(Hook::place) else { return make };
        make.nest(4, |hook| hook.u32_be(1, number).attribute(2, &priority.to_be_bytes()))
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
pub(super) fn port_change(add: bool, table: &str, ports: &[Port]) -> Vec<Message> {
    let kind = if add { NEW_ELEMENTS } else { DELETE_ELEMENTS };
    transaction([Family::Ipv4, Family::Ipv6].into_iter().flat_map(|family| {
        let sets = rules::of_ports(ports.iter().filter(|port| port.family() == family));
        sets.into_iter().flat_map(move |set| set.change(kind, family, table))
    }))
}

/// One transaction that adds elements to the sets of a table, or removes them.
pub(super) fn set_change(add: bool, family: Family, table: &str, sets: &[Set]) -> Vec<Message> {
    let kind = if add { NEW_ELEMENTS } else { DELETE_ELEMENTS };
    transaction(sets.iter().flat_map(|set| set.change(kind, family, table)))
}

/// One transaction that makes a table and takes it away: it tells whether the kernel has tables of the family.
pub(super) fn trial(family: Family, table: &str) -> Vec<Message> {
    let empty = Ruleset { family, table: table.to_owned(), sets: Vec::new(), chains: Vec::new() };
    transaction(empty.removal().into_iter())
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
