//! The packet filter: one table of the engine's own in nftables, replaced as a whole and put back when it was lost.

mod expression;
mod rules;
mod ruleset;

use engine_sys::netlink::{DUMP, Error, Message, Netlink, attributes, text, u32_be};
use rustix::io::Errno;

pub(crate) use rules::{guard, rules};
pub(crate) use ruleset::Ruleset;

/// The multicast group of changes (`NFNLGRP_NFTABLES`).
pub(super) const CHANGES: u32 = 7;

const GET_RULE: u16 = 7;
const GET_GENERATION: u16 = 16;

/// Makes the table what it should be, in one transaction.
pub(super) fn apply(socket: &mut Netlink, ruleset: &Ruleset) -> Result<(), Error> {
    socket.request(&mut ruleset.replacement())
}

/// Removes the table. It need not be there.
pub(super) fn remove(socket: &mut Netlink, table: &str) -> Result<(), Error> {
    let empty = Ruleset { table: table.to_owned(), sets: Vec::new(), chains: Vec::new() };
    socket.request(&mut empty.removal())
}

/// A number that changes with every change of the packet filter, by whomever.
pub(super) fn generation(socket: &mut Netlink) -> Result<u32, Error> {
    let mut found = None;
    let question = ruleset::message(GET_GENERATION, engine_sys::netlink::ACK);
    socket.ask(question, |_, content| {
        found = attributes(content.get(4..).unwrap_or_default())
            .find(|attribute| attribute.kind == 1)
            .and_then(|attribute| u32_be(attribute.content));
    })?;
    found.ok_or_else(|| Errno::PROTO.into())
}

/// Whether all our rules are there, in their chains and in order, and no others.
pub(super) fn is_in_place(socket: &mut Netlink, ruleset: &Ruleset) -> Result<bool, Error> {
    let wanted = ruleset.chains.iter().flat_map(|chain| {
        let of_chain = |rule: &ruleset::Rule| (chain.name.to_owned(), ruleset::comment(&rule.comment));
        chain.rules.iter().map(of_chain).collect::<Vec<_>>()
    });
    let mut wanted: Vec<_> = wanted.collect();
    let mut found = present(socket, &ruleset.table)?;
    // The order within a chain is kept, that of chains is the kernel's.
    wanted.sort_by(|one, other| one.0.cmp(&other.0));
    found.sort_by(|one, other| one.0.cmp(&other.0));
    Ok(found == wanted)
}

/// The rules of a table, by chain and comment.
fn present(socket: &mut Netlink, table: &str) -> Result<Vec<(String, Vec<u8>)>, Error> {
    let question: Message = ruleset::message(GET_RULE, DUMP).text(1, table);
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
