//! Which rules the networks need. Decides purely.
//!
//! A rule of ours that lets a packet pass ends our chain only: the host's own rules are asked all the same, and what
//! they drop is dropped. What ours drop is dropped too, so they drop only what goes to our own bridges.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use super::expression::Expression as E;
use super::ruleset::{Chain, Family, Hook, InterfaceSet, Port, PortMap, Rule, Ruleset};
use crate::network::record::Bridge;
use crate::network::subnet::{Address, Subnet};

/// The map of published ports.
pub(super) const PORTS: &str = "published";

/// The tables of one engine's networks: that of IPv4, and that of IPv6 when a network has it.
pub(crate) fn rules(table: &str, bridges: &[Bridge], ports: &BTreeSet<Port>) -> Vec<Ruleset> {
    let mut rulesets = Vec::new();
    if !bridges.is_empty() {
        let mut rules = Rules::default();
        for bridge in bridges {
            rules.keep_from_loopback(&bridge.interface);
            rules.forward(bridge);
            rules.leave(bridge, bridge.addresses.v4.subnet, bridge.masquerade);
        }
        rulesets.push(rules.into_ruleset(Family::Ipv4, table, ports));
    }
    if bridges.iter().any(|bridge| bridge.addresses.v6.is_some()) {
        let mut rules = Rules::default();
        for bridge in bridges {
            let Some(block) = &bridge.addresses.v6 else { continue };
            rules.forward(bridge);
            rules.leave(bridge, block.subnet, bridge.masquerade_v6);
        }
        rulesets.push(rules.into_ruleset(Family::Ipv6, table, ports));
    }
    rulesets
}

/// The rules of one family while they are collected.
#[derive(Default)]
struct Rules {
    raw: Vec<Rule>,
    /// Before anything is let through.
    inside: Vec<Rule>,
    forward: Vec<Rule>,
    leave: Vec<Rule>,
}

impl Rules {
    /// The host's own programs reach published ports by its loopback, for which the bridge must route it.
    fn keep_from_loopback(&mut self, name: &str) {
        let Some(loopback) = Subnet::of(Ipv4Addr::LOCALHOST, 8) else { return };
        let by = E::comes_by(name);
        let ways = [
            ("nothing to the host's loopback", E::to(loopback)),
            ("nothing from the host's loopback", E::from(loopback)),
        ];
        for (what, way) in ways {
            self.raw.push(rule(format!("{name}: {what}"), [&by[..], &way, &[E::Counter, E::Drop]]));
        }
        self.leave.push(rule(
            format!("{name}: the host's loopback to published ports"),
            [&E::from(loopback)[..], &E::leaves_by(name), &[E::Masquerade]],
        ));
    }

    fn forward(&mut self, bridge: &Bridge) {
        let name = &bridge.interface;
        let (to, by) = (E::leaves_by(name), E::comes_by(name));
        if bridge.internal {
            let out = E::leaves_by_another_than(name);
            self.inside.push(rule(format!("{name}: nothing leaves it"), [&by[..], &out, &[E::Counter, E::Drop]]));
        } else {
            self.forward.push(rule(
                format!("{name}: answers and what belongs to them"),
                [&to[..], &E::of_a_known_connection(), &[E::Accept]],
            ));
        }
        if bridge.inter_container {
            // Bridged packets come here when the host filters them; routed ones never do.
            self.forward.push(rule(format!("{name}: containers among each other"), [&to[..], &by, &[E::Accept]]));
        }
        if !bridge.internal {
            self.forward
                .push(rule(format!("{name}: published ports"), [&to[..], &E::to_a_published_port(), &[E::Accept]]));
        }
        self.forward.push(rule(format!("{name}: nothing else, from wherever"), [&to[..], &[E::Counter, E::Drop]]));
    }

    fn leave<A: Address>(&mut self, bridge: &Bridge, subnet: Subnet<A>, masquerade: bool) {
        let name = &bridge.interface;
        let to = E::leaves_by(name);
        if bridge.internal {
            return;
        }
        // Else the answer would go to the neighbour directly, with an address that it did not ask.
        self.leave.push(rule(
            format!("{name}: {subnet} to published ports of neighbours"),
            [&E::from(subnet)[..], &to, &E::to_a_published_port(), &[E::Masquerade]],
        ));
        if masquerade {
            self.leave.push(rule(
                format!("{name}: {subnet} leaves with the host's address"),
                [&E::from(subnet)[..], &E::leaves_by_another_than(name), &[E::Masquerade]],
            ));
        }
    }

    fn into_ruleset(self, family: Family, table: &str, ports: &BTreeSet<Port>) -> Ruleset {
        let mut come = Vec::new();
        let loopback = Subnet::of(Ipv4Addr::LOCALHOST, 8).filter(|_| family == Family::Ipv4);
        // Neighbours on the link can send packets to the loopback; what is published there only is not for them.
        come.extend(
            loopback.map(|block| rule("the loopback is the host's own".to_owned(), [&E::to(block)[..], &[E::Accept]])),
        );
        come.extend(to_ports());
        let chain = |name, hook, rules| Chain { name, hook, rules };
        let chains = vec![
            chain("raw", Hook::Raw, self.raw),
            chain("prerouting", Hook::TranslateDestination, come),
            chain("output", Hook::TranslateOwnDestination, to_ports().to_vec()),
            chain("forward", Hook::Forward, self.inside.into_iter().chain(self.forward).collect()),
            chain("postrouting", Hook::TranslateSource, self.leave),
        ];
        let ports = ports.iter().filter(|port| port.family() == family).copied().collect();
        Ruleset {
            family,
            table: table.to_owned(),
            sets: Vec::new(),
            ports: Some(PortMap { name: PORTS, ports }),
            chains,
        }
    }
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
pub(crate) fn guard(family: Family, table: &str, interfaces: Vec<String>) -> Ruleset {
    const SET: &str = "guarded";
    let between = [E::InputInterface, E::In(SET), E::OutputInterface, E::In(SET), E::Counter, E::Drop];
    let rule = rule("forwarding was off before a container engine turned it on".to_owned(), [&between[..]]);
    Ruleset {
        family,
        table: table.to_owned(),
        ports: None,
        sets: vec![InterfaceSet { name: SET, interfaces }],
        chains: vec![Chain { name: "forward", hook: Hook::Forward, rules: vec![rule] }],
    }
}

/// The table inside a container's namespace that leads questions for names to the port where they are answered.
pub(crate) fn names(address: Ipv4Addr, port: u16) -> Ruleset {
    let lead = |protocol: u8, name: &str| {
        let [load, mask, equal] = match Subnet::of(address, 32) {
            Some(one) => E::to(one),
            None => E::to(Subnet::<Ipv4Addr>::everything()),
        };
        let give = [E::GiveAddress(address.octets().to_vec()), E::GivePort(port), E::TranslateDestination];
        rule(format!("names by {name}"), [&[load, mask, equal][..], &E::to_port(protocol, 53), &give])
    };
    Ruleset {
        family: Family::Ipv4,
        table: "engine_names".to_owned(),
        sets: Vec::new(),
        ports: None,
        chains: vec![Chain {
            name: "output",
            hook: Hook::TranslateOwnDestination,
            rules: vec![lead(17, "datagrams"), lead(6, "connections")],
        }],
    }
}

fn rule<const N: usize>(comment: String, parts: [&[E]; N]) -> Rule {
    Rule { comment, expressions: parts.concat() }
}
