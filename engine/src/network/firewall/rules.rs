//! Which rules the networks need. Decides purely.
//!
//! A rule of ours that lets a packet pass ends our chain only: the host's own rules are asked all the same, and what
//! they drop is dropped. What ours drop is dropped too, so they drop only what goes to our own bridges.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use super::expression::Expression as E;
use super::ruleset::{Chain, Hook, InterfaceSet, Port, PortMap, Rule, Ruleset};
use crate::network::Subnet;
use crate::network::record::Bridge;

/// The map of published ports.
pub(super) const PORTS: &str = "published";

/// The table of one engine's networks.
pub(crate) fn rules(table: &str, bridges: &[Bridge], ports: BTreeSet<Port>) -> Ruleset {
    let loopback = Subnet::of(Ipv4Addr::LOCALHOST, 8).into_iter();
    let (mut raw, mut forward, mut leave) = (Vec::new(), Vec::new(), Vec::new());
    for bridge in bridges {
        let name = &bridge.interface;
        let to = E::leaves_by(name);
        for loopback in loopback.clone() {
            // The host's own programs reach published ports by its loopback, for which the bridge must route it.
            let by = E::comes_by(name);
            raw.push(rule(
                format!("{name}: nothing to the host's loopback"),
                [&by[..], &E::to(loopback), &[E::Counter, E::Drop]],
            ));
            raw.push(rule(
                format!("{name}: nothing from the host's loopback"),
                [&by[..], &E::from(loopback), &[E::Counter, E::Drop]],
            ));
            leave.push(rule(
                format!("{name}: the host's loopback to published ports"),
                [&E::from(loopback)[..], &to, &[E::Masquerade]],
            ));
        }
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
        // Else the answer would go to the neighbour directly, with an address that it did not ask.
        leave.push(rule(
            format!("{name}: {} to published ports of neighbours", bridge.subnet),
            [&E::from(bridge.subnet)[..], &to, &E::to_a_published_port(), &[E::Masquerade]],
        ));
        if bridge.masquerade {
            leave.push(rule(
                format!("{name}: {} leaves with the host's address", bridge.subnet),
                [&E::from(bridge.subnet)[..], &E::leaves_by_another_than(name), &[E::Masquerade]],
            ));
        }
    }
    let mut come = Vec::new();
    // Neighbours on the link can send packets to the loopback; what is published there only is not for them.
    come.extend(
        loopback.map(|block| rule("the loopback is the host's own".to_owned(), [&E::to(block)[..], &[E::Accept]])),
    );
    come.extend(to_ports());
    let chain = |name, hook, rules| Chain { name, hook, rules };
    let chains = vec![
        chain("raw", Hook::Raw, raw),
        chain("prerouting", Hook::TranslateDestination, come),
        chain("output", Hook::TranslateOwnDestination, to_ports().to_vec()),
        chain("forward", Hook::Forward, forward),
        chain("postrouting", Hook::TranslateSource, leave),
    ];
    Ruleset { table: table.to_owned(), sets: Vec::new(), ports: Some(PortMap { name: PORTS, ports }), chains }
}

/// Published ports of one address of the host, then those of all.
fn to_ports() -> [Rule; 2] {
    let to = |comment: &str, first| {
        let find = [first, E::KeyProtocol, E::KeyPort, E::Find(PORTS), E::TranslateDestination];
        rule(comment.to_owned(), [&E::to_the_host()[..], &find])
    };
    [
        to("ports of one address of the host", E::KeyDestination),
        to("ports of all addresses of the host", E::KeyAnyAddress),
    ]
}

/// The table that keeps a host from becoming a router between its own interfaces when an engine turns forwarding on:
/// between the interfaces that were there at that moment nothing was forwarded before, and nothing is afterwards.
pub(crate) fn guard(table: &str, interfaces: Vec<String>) -> Ruleset {
    const SET: &str = "guarded";
    let between = [E::InputInterface, E::In(SET), E::OutputInterface, E::In(SET), E::Counter, E::Drop];
    let rule = rule("forwarding was off before a container engine turned it on".to_owned(), [&between[..]]);
    Ruleset {
        table: table.to_owned(),
        ports: None,
        sets: vec![InterfaceSet { name: SET, interfaces }],
        chains: vec![Chain { name: "forward", hook: Hook::Forward, rules: vec![rule] }],
    }
}

fn rule<const N: usize>(comment: String, parts: [&[E]; N]) -> Rule {
    Rule { comment, expressions: parts.concat() }
}
