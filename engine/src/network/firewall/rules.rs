//! Which rules the networks need. Decides purely.
//!
//! A rule of ours that lets a packet pass ends our chain only: the host's own rules are asked all the same, and what
//! they drop is dropped. What ours drop is dropped too, so they drop only what goes to our own bridges.

use super::expression::Expression as E;
use super::ruleset::{Chain, Hook, InterfaceSet, Rule, Ruleset};
use crate::network::record::Bridge;

/// The table of one engine's networks.
pub(crate) fn rules(table: &str, bridges: &[Bridge]) -> Ruleset {
    let mut forward = Vec::new();
    let mut translate = Vec::new();
    for bridge in bridges {
        let name = &bridge.interface;
        let to = E::leaves_by(name);
        forward.push(rule(
            format!("{name}: answers and what belongs to them"),
            [&to[..], &E::of_a_known_connection(), &[E::Accept]],
        ));
        if bridge.inter_container {
            // Bridged packets come here when the host filters them; routed ones never do.
            forward.push(rule(
                format!("{name}: containers among each other"),
                [&to[..], &E::comes_by(name), &[E::Accept]],
            ));
        }
        forward.push(rule(format!("{name}: published ports"), [&to[..], &E::to_a_published_port(), &[E::Accept]]));
        forward.push(rule(format!("{name}: nothing else, from wherever"), [&to[..], &[E::Counter, E::Drop]]));
        if bridge.masquerade {
            translate.push(rule(
                format!("{name}: {} leaves with the host's address", bridge.subnet),
                [&E::from(bridge.subnet)[..], &E::leaves_by_another_than(name), &[E::Masquerade]],
            ));
        }
    }
    let chains = vec![
        Chain { name: "forward", hook: Hook::Forward, rules: forward },
        Chain { name: "postrouting", hook: Hook::TranslateSource, rules: translate },
    ];
    Ruleset { table: table.to_owned(), sets: Vec::new(), chains }
}

/// The table that keeps a host from becoming a router between its own interfaces when an engine turns forwarding on:
/// between the interfaces that were there at that moment nothing was forwarded before, and nothing is afterwards.
pub(crate) fn guard(table: &str, interfaces: Vec<String>) -> Ruleset {
    const SET: &str = "guarded";
    let between = [E::InputInterface, E::In(SET), E::OutputInterface, E::In(SET), E::Counter, E::Drop];
    let rule = rule("forwarding was off before a container engine turned it on".to_owned(), [&between[..]]);
    Ruleset {
        table: table.to_owned(),
        sets: vec![InterfaceSet { name: SET, interfaces }],
        chains: vec![Chain { name: "forward", hook: Hook::Forward, rules: vec![rule] }],
    }
}

fn rule<const N: usize>(comment: String, parts: [&[E]; N]) -> Rule {
    Rule { comment, expressions: parts.concat() }
}
