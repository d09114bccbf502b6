//! The packet filter: one table of the engine's own in nftables, replaced as a whole and put back when it was lost.

mod expression;
mod rules;
mod ruleset;
mod set;
mod spoof;

use std::collections::BTreeSet;

use engine_sys::netlink::{DUMP, Error, Message, Netlink, attributes, text, u32_be};
use rustix::io::Errno;

pub(crate) use rules::{guard, names, rules};
pub(crate) use ruleset::{Family, Ruleset};
use set::Element;
pub(crate) use set::{Port, Set};
pub(crate) use spoof::End;

use super::record::Bridge;

/// The multicast group of changes (`NFNLGRP_NFTABLES`).
pub(super) const CHANGES: u32 = 7;

const GET_TABLE: u16 = 1;
const GET_CHAIN: u16 = 4;
const GET_RULE: u16 = 7;
const GET_ELEMENTS: u16 = 13;
const GET_GENERATION: u16 = 16;

/// What the tables are made from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct InUse {
    /// The bridges that are in use.
    pub(super) bridges: Vec<Bridge>,
    /// The ports that lead to containers on them.
    pub(super) ports: BTreeSet<Port>,
    /// The ends on guarded ones.
    pub(super) ends: BTreeSet<End>,
}

/// The tables of one engine's networks: one for each family that a network has, and one for the frames of guarded bridges.
pub(super) fn tables(table: &str, in_use: &InUse) -> Vec<Ruleset> {
    let mut tables = rules(table, &in_use.bridges, &in_use.ports);
    if in_use.bridges.iter().any(|bridge| bridge.guarded) {
        tables.push(spoof::guarded(table, &in_use.ends));
    }
    tables
}

/// Makes the tables what they should be, in one transaction.
pub(super) fn apply(socket: &mut Netlink, rulesets: &[Ruleset]) -> Result<(), Error> {
    socket.request(&mut ruleset::exchange(&[], rulesets))
}

/// Makes a table that is probably not there yet. What a transaction removes, the kernel makes whoever closes a socket wait for
/// (some ten milliseconds); one that only makes something costs nobody any time.
pub(super) fn make(socket: &mut Netlink, ruleset: &Ruleset) -> Result<(), Error> {
    match socket.request(&mut ruleset::creation(ruleset)) {
        Err(error) if error.is(Errno::EXIST) => apply(socket, std::slice::from_ref(ruleset)),
        other => other,
    }
}

/// Removes the table of all families. It need not be there.
pub(super) fn remove(socket: &mut Netlink, table: &str) -> Result<(), Error> {
    replace(socket, table, &[])
}

/// Makes the tables what they should be, and takes away those of a family that has none any more, in one transaction.
pub(super) fn replace(socket: &mut Netlink, table: &str, rulesets: &[Ruleset]) -> Result<(), Error> {
    let missing = |family: &Family| !rulesets.iter().any(|ruleset| ruleset.family == *family);
    let mut families = vec![Family::Ipv4, Family::Ipv6];
    // Not every kernel knows tables of bridges, so that of ours is only taken away where it is.
    if has_table(socket, Family::Bridge, table)? {
        families.push(Family::Bridge);
    }
    let gone: Vec<_> = families.into_iter().filter(missing).map(|one| empty(one, table)).collect();
    socket.request(&mut ruleset::exchange(&gone, rulesets))
}

fn empty(family: Family, table: &str) -> Ruleset {
    Ruleset { family, table: table.to_owned(), sets: Vec::new(), chains: Vec::new() }
}

/// Adds ports to the table. Those that are there already stay.
pub(super) fn publish(socket: &mut Netlink, table: &str, ports: &[Port]) -> Result<(), Error> {
    socket.request(&mut ruleset::port_change(true, table, ports))
}

/// Removes ports from the table. Refused as a whole when one is not there.
pub(super) fn unpublish(socket: &mut Netlink, table: &str, ports: &[Port]) -> Result<(), Error> {
    socket.request(&mut ruleset::port_change(false, table, ports))
}

/// Guards an end, before it is there.
pub(super) fn guard_end(socket: &mut Netlink, table: &str, end: &End) -> Result<(), Error> {
    socket.request(&mut ruleset::set_change(true, Family::Bridge, table, &spoof::of_ends([end])))
}

/// Ends that. Refused as a whole when a part of it is not there.
pub(super) fn unguard_end(socket: &mut Netlink, table: &str, end: &End) -> Result<(), Error> {
    socket.request(&mut ruleset::set_change(false, Family::Bridge, table, &spoof::of_ends([end])))
}

/// Whether the kernel has tables of bridges; `table` is a name that nobody has.
pub(super) fn knows_bridges(socket: &mut Netlink, table: &str) -> Result<bool, Error> {
    match socket.request(&mut ruleset::trial(Family::Bridge, table)) {
        Ok(()) => Ok(true),
        Err(error) if error.is(Errno::OPNOTSUPP) || error.is(Errno::NOENT) || error.is(Errno::AFNOSUPPORT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether somebody has made such a table.
pub(super) fn has_table(socket: &mut Netlink, family: Family, table: &str) -> Result<bool, Error> {
    let question = ruleset::message(family, GET_TABLE, engine_sys::netlink::ACK).text(1, table);
    match socket.ask(question, |_, _| {}) {
        Ok(()) => Ok(true),
        Err(error) if error.is(Errno::NOENT) || error.is(Errno::OPNOTSUPP) || error.is(Errno::AFNOSUPPORT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// A number that changes with every change of the packet filter, by whomever.
pub(super) fn generation(socket: &mut Netlink) -> Result<u32, Error> {
    let mut found = None;
    let question = ruleset::message(Family::Ipv4, GET_GENERATION, engine_sys::netlink::ACK);
    socket.ask(question, |_, content| {
        found = attributes(content.get(4..).unwrap_or_default())
            .find(|attribute| attribute.kind == 1)
            .and_then(|attribute| u32_be(attribute.content));
    })?;
    found.ok_or_else(|| Errno::PROTO.into())
}

/// Whether all our rules and ports are there, in their chains and in order, and no others.
pub(super) fn is_in_place(socket: &mut Netlink, ruleset: &Ruleset) -> Result<bool, Error> {
    let wanted = ruleset.chains.iter().flat_map(|chain| {
        let of_chain = |rule: &ruleset::Rule| (chain.name.to_owned(), ruleset::comment(&rule.comment));
        chain.rules.iter().map(of_chain).collect::<Vec<_>>()
    });
    let mut wanted: Vec<_> = wanted.collect();
    let mut found = present(socket, ruleset.family, &ruleset.table)?;
    // The order within a chain is kept, that of chains is the kernel's.
    wanted.sort_by(|one, other| one.0.cmp(&other.0));
    found.sort_by(|one, other| one.0.cmp(&other.0));
    if found != wanted {
        return Ok(false);
    }
    for set in &ruleset.sets {
        if !has_elements(socket, ruleset, set)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether a set has exactly its elements. While the kernel moves those of a large set that has just grown to a larger table, it
/// leaves some out when it tells of them, so that one look is not enough to miss any.
fn has_elements(socket: &mut Netlink, ruleset: &Ruleset, set: &Set) -> Result<bool, Error> {
    const LOOKS: u32 = 6;
    for look in 0..LOOKS {
        let found = elements(socket, ruleset.family, &ruleset.table, set.name)?;
        if found == set.elements {
            return Ok(true);
        }
        if !found.is_subset(&set.elements) {
            return Ok(false);
        }
        std::thread::sleep(std::time::Duration::from_millis(1 << look));
    }
    Ok(false)
}

/// What a set or map has; nothing when there is none.
fn elements(socket: &mut Netlink, family: Family, table: &str, set: &str) -> Result<BTreeSet<Element>, Error> {
    let question = ruleset::message(family, GET_ELEMENTS, DUMP).text(1, table).text(2, set);
    let mut found = BTreeSet::new();
    let dumped = socket.dump(&question, |part| match part {
        None => found.clear(),
        Some((_, content)) => {
            let list = attributes(content.get(4..).unwrap_or_default()).find(|attribute| attribute.kind == 3);
            found.extend(
                attributes(list.map_or(&[][..], |list| list.content)).filter_map(|item| Element::read(item.content)),
            );
        }
    });
    match dumped {
        Ok(()) => Ok(found),
        Err(error) if error.is(Errno::NOENT) => Ok(BTreeSet::new()),
        Err(error) => Err(error),
    }
}

/// Reads the content of a message as each of those that are asked for here, and says how many it is.
pub(super) fn read_anything(content: &[u8]) -> usize {
    let list = attributes(content.get(4..).unwrap_or_default()).find(|attribute| attribute.kind == 3);
    let elements = attributes(list.map_or(&[][..], |list| list.content)).filter_map(|item| Element::read(item.content));
    let known = [
        read_rule(content, "engine").is_some(),
        read_dropping_chain(content).is_some(),
        Element::read(content).is_some(),
        elements.count() > 0,
    ];
    known.into_iter().filter(|known| *known).count()
}

/// A chain of somebody's that drops what it does not let pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HostChain {
    pub(super) family: u8,
    pub(super) table: String,
    pub(super) name: String,
}

/// The family of tables that see both IPv4 and IPv6.
const BOTH: u8 = 1;

impl HostChain {
    /// As `nft` calls it.
    pub(super) fn family_name(&self) -> &'static str {
        match self.family {
            BOTH => "inet",
            family if family == Family::Ipv6.number() => "ip6",
            _ => "ip",
        }
    }
}

/// The chains, of whomever, that drop what is forwarded unless a rule lets it pass.
pub(super) fn dropping_chains(socket: &mut Netlink) -> Result<Vec<HostChain>, Error> {
    let question = Message::new(ruleset::SUBSYSTEM << 8 | GET_CHAIN, DUMP).put(&[0, 0, 0, 0]);
    let mut found = Vec::new();
    socket.dump(&question, |part| match part {
        None => found.clear(),
        Some((_, content)) => found.extend(read_dropping_chain(content)),
    })?;
    Ok(found)
}

fn read_dropping_chain(content: &[u8]) -> Option<HostChain> {
    const FORWARD: u32 = 2;
    const DROP: u32 = 0;
    let family = *content.first()?;
    let part = |kind| attributes(content.get(4..)?).find(|attribute| attribute.kind == kind).map(|part| part.content);
    let hook = attributes(part(4)?).find(|attribute| attribute.kind == 1).and_then(|number| u32_be(number.content))?;
    let known = [BOTH, Family::Ipv4.number(), Family::Ipv6.number()].contains(&family);
    let drops = known && hook == FORWARD && u32_be(part(5)?)? == DROP;
    drops.then_some(HostChain { family, table: text(part(1)?).to_owned(), name: text(part(3)?).to_owned() })
}

/// The rules of a table, by chain and comment.
fn present(socket: &mut Netlink, family: Family, table: &str) -> Result<Vec<(String, Vec<u8>)>, Error> {
    let question: Message = ruleset::message(family, GET_RULE, DUMP).text(1, table);
    let mut found = Vec::new();
    let dumped = socket.dump(&question, |part| match part {
        None => found.clear(),
        Some((_, content)) => found.extend(read_rule(content, table)),
    });
    match dumped {
        Ok(()) => Ok(found),
        Err(error) if error.is(Errno::NOENT) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn read_rule(content: &[u8], table: &str) -> Option<(String, Vec<u8>)> {
    let (mut of_table, mut chain, mut comment) = ("", "", &[][..]);
    for attribute in attributes(content.get(4..)?) {
        match attribute.kind {
            1 => of_table = text(attribute.content),
            2 => chain = text(attribute.content),
            7 => comment = attribute.content,
            _ => {}
        }
    }
    (of_table == table).then(|| (chain.to_owned(), comment.to_owned()))
}

#[cfg(test)]
mod tests;
