//! Which rules the networks need. Decides purely.
//!
//! A rule of ours that lets a packet pass ends our chain only: the host's own rules are asked all the same, and what
//! they drop is dropped. What ours drop is dropped too, so they drop only what goes to our own bridges.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::expression::Expression as E;
use super::ruleset::{Chain, Family, Hook, Rule, Ruleset};
use super::set::{Data, Element, Holds, Part, Port, Set, Verdict};
use crate::network::record::{Bridge, GatewayMode};
use crate::network::subnet::{Address, Subnet};

/// The map of published ports.
const PORTS: &str = "published";
/// The map of published rows of ports that keep their number.
const ROWS: &str = "published_ranges";
/// The ports that are reached at the containers' own addresses.
const OWN: &str = "routed";
/// Our bridges.
const BRIDGES: &str = "bridges";
/// Bridges whose containers may talk to each other, twice each: where a packet comes and where it goes.
const AMONG: &str = "among";
/// What becomes of packets that leave a bridge.
const LEAVING: &str = "leaving";
/// What becomes of packets that come to a bridge from elsewhere.
const COMING: &str = "coming";
/// Interfaces of the host whose packets reach published ports at the containers' own addresses, each with such a bridge.
const TRUSTED: &str = "trusted";
/// Bridges whose containers do not reach the host itself.
const WITHOUT_HOST: &str = "without_host";
/// Bridges whose containers do not reach what tells a machine of itself.
const WITHOUT_METADATA: &str = "without_metadata";

/// Where clouds tell a machine of itself, its keys too. Addresses of the link (169.254.0.0/16) are nothing that a router passes on.
const METADATA: &[(Ipv4Addr, u8)] = &[(Ipv4Addr::new(169, 254, 0, 0), 16), (Ipv4Addr::new(100, 100, 100, 200), 32)];
const METADATA_V6: &[Ipv6Addr] =
    &[Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)];

/// The chains that maps lead to.
const TO_PUBLISHED: &str = "to_published";
const TO_ROUTED: &str = "to_routed";
const TO_DIRECT: &str = "to_direct";
const REFUSED: &str = "refused";

/// The tables of one engine's networks: that of IPv4, and that of IPv6 when a network has it.
pub(crate) fn rules(table: &str, bridges: &[Bridge], ports: &BTreeSet<Port>) -> Vec<Ruleset> {
    let mut rulesets = Vec::new();
    if !bridges.is_empty() {
        let mut rules = Rules::default();
        for bridge in bridges {
            rules.bridge(bridge, bridge.gateway_mode);
            if let Some(block) = &bridge.addresses.v4 {
                rules.answer_loopback(&bridge.interface);
                rules.leave(bridge, block.subnet, bridge.masquerade);
            }
        }
        rulesets.push(rules.into_ruleset(Family::Ipv4, table, ports));
    }
    if bridges.iter().any(|bridge| bridge.addresses.v6.is_some()) {
        let mut rules = Rules::default();
        for bridge in bridges {
            let Some(block) = &bridge.addresses.v6 else { continue };
            rules.bridge(bridge, bridge.gateway_mode_v6);
            rules.leave(bridge, block.subnet, bridge.masquerade_v6);
        }
        rulesets.push(rules.into_ruleset(Family::Ipv6, table, ports));
    }
    rulesets
}

/// The rules of one family while they are collected.
#[derive(Default)]
struct Rules {
    bridges: BTreeSet<Element>,
    among: BTreeSet<Element>,
    leaving: BTreeSet<Element>,
    coming: BTreeSet<Element>,
    trusted: BTreeSet<Element>,
    without_host: BTreeSet<Element>,
    without_metadata: BTreeSet<Element>,
    /// Some bridge lets published ports be reached at the containers' own addresses, from wherever.
    direct: bool,
    leave: Vec<Rule>,
}

impl Rules {
    /// What may pass a bridge, and what not.
    fn bridge(&mut self, bridge: &Bridge, mode: GatewayMode) {
        let name = bridge.interface.as_str();
        let go_to = |chain: &str| Data::Verdict(Verdict::GoTo(chain.to_owned()));
        self.bridges.insert(Element::interfaces(&[name], Data::Nothing));
        if bridge.inter_container {
            // Bridged packets come here when the host filters them; routed ones never do.
            self.among.insert(Element::interfaces(&[name, name], Data::Verdict(Verdict::Accept)));
        }
        let closed = bridge.internal || mode == GatewayMode::Isolated;
        if closed {
            self.leaving.insert(Element::interfaces(&[name], go_to(REFUSED)));
        }
        for (closed, set) in
            [(bridge.without_host, &mut self.without_host), (bridge.without_metadata, &mut self.without_metadata)]
        {
            set.extend(closed.then(|| Element::interfaces(&[name], Data::Nothing)));
        }
        if !closed && mode == GatewayMode::Nat {
            let trusted = bridge.trusted.iter().map(|trusted| Element::interfaces(&[trusted, name], Data::Nothing));
            self.trusted.extend(trusted);
        }
        let coming = match mode {
            _ if closed => go_to(REFUSED),
            GatewayMode::Nat if bridge.direct_routing => {
                self.direct = true;
                go_to(TO_DIRECT)
            }
            GatewayMode::NatUnprotected => Data::Verdict(Verdict::Accept),
            GatewayMode::Routed => go_to(TO_ROUTED),
            _ => go_to(TO_PUBLISHED),
        };
        self.coming.insert(Element::interfaces(&[name], coming));
    }

    /// The host's own programs reach published ports by its loopback, for which the bridge must route it.
    fn answer_loopback(&mut self, name: &str) {
        let Some(loopback) = Subnet::of(Ipv4Addr::LOCALHOST, 8) else { return };
        self.leave.push(rule(
            format!("{name}: the host's loopback to published ports"),
            [&E::from(loopback)[..], &E::leaves_by(name), &[E::Masquerade]],
        ));
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
        let loopback = Subnet::of(Ipv4Addr::LOCALHOST, 8).filter(|_| family == Family::Ipv4);
        let mut raw = Vec::new();
        let mut come = Vec::new();
        if let Some(loopback) = loopback {
            let by = E::comes_by_one_of(BRIDGES);
            for (what, way) in [("to", E::to(loopback)), ("from", E::from(loopback))] {
                let comment = format!("bridges: nothing {what} the host's loopback");
                raw.push(rule(comment, [&by[..], &way, &[E::Counter, E::Drop]]));
            }
            // Neighbours on the link can send packets to the loopback; what is published there only is not for them.
            come.push(rule("the loopback is the host's own".to_owned(), [&E::to(loopback)[..], &[E::Accept]]));
        }
        if !self.without_metadata.is_empty() {
            let by = E::comes_by_one_of(WITHOUT_METADATA);
            raw.extend(to_metadata(family).into_iter().map(|to| {
                rule("nothing to what tells this machine of itself".to_owned(), [&by[..], &to, &[E::Counter, E::Drop]])
            }));
        }
        come.extend(to_ports());
        let mut out = Vec::new();
        if let Some(loopback) = Subnet::of(Ipv6Addr::LOCALHOST, 128).filter(|_| family == Family::Ipv6) {
            // The kernel would never route it: the engine listens there.
            out.push(rule("the loopback is not routed".to_owned(), [&E::to(loopback)[..], &[E::Accept]]));
        }
        out.extend(to_ports());
        let known = || {
            let answers = "answers and what belongs to them".to_owned();
            let ports = "published ports".to_owned();
            [
                rule(answers, [&E::of_a_known_connection()[..], &[E::Accept]]),
                rule(ports, [&E::to_a_published_port()[..], &[E::Accept]]),
            ]
        };
        let refuse = || rule("nothing else, from wherever".to_owned(), [&[E::Counter, E::Drop]]);
        let own = [E::KeyDestination, E::KeyProtocol, E::KeyPort, E::In(OWN), E::Accept];
        let routed = [
            rule("errors and reachability".to_owned(), [&E::is_a_message_of_the_network(family)[..], &[E::Accept]]),
            rule("ports at the containers' own addresses".to_owned(), [&own[..]]),
        ];
        let forward = vec![
            rule(
                "containers of a network among each other".to_owned(),
                [&[E::KeyInput, E::KeyOutput, E::Decide(AMONG)][..]],
            ),
            // Before anything is let through: what another network lets in must not come from there.
            rule("what leaves a closed network".to_owned(), [&[E::InputInterface, E::Decide(LEAVING)][..]]),
            rule("what comes to a network".to_owned(), [&[E::OutputInterface, E::Decide(COMING)][..]]),
        ];
        let chain = |name, hook, rules| Chain { name, hook: Some(hook), rules };
        let inner = |name, rules| Chain { name, hook: None, rules };
        let direct = || rule("ports at the containers' own addresses".to_owned(), [&own[..]]);
        let by_trusted = (!self.trusted.is_empty()).then(|| {
            let by = [E::KeyInput, E::KeyOutput, E::In(TRUSTED)];
            rule("the same by interfaces that are trusted".to_owned(), [&by[..], &own])
        });
        let mut chains = vec![
            inner(TO_PUBLISHED, known().into_iter().chain(by_trusted).chain([refuse()]).collect()),
            inner(TO_ROUTED, known().into_iter().chain(routed).chain([refuse()]).collect()),
            inner(REFUSED, vec![refuse()]),
            chain("raw", Hook::Raw, raw),
            chain("prerouting", Hook::TranslateDestination, come),
            chain("output", Hook::TranslateOwnDestination, out),
            chain("forward", Hook::Forward, forward),
            chain("postrouting", Hook::TranslateSource, self.leave),
        ];
        if self.direct {
            chains.push(inner(TO_DIRECT, known().into_iter().chain([direct(), refuse()]).collect()));
        }
        if !self.without_host.is_empty() {
            let by = E::comes_by_one_of(WITHOUT_HOST);
            let errors = E::is_a_message_of_the_network(family);
            let answers = [&by[..], &E::of_a_known_connection(), &[E::Accept]];
            chains.push(chain(
                "input",
                Hook::Input,
                vec![
                    rule("answers to the host".to_owned(), answers),
                    rule("errors and reachability".to_owned(), [&by[..], &errors, &[E::Accept]]),
                    rule("nothing else to the host".to_owned(), [&by[..], &[E::Counter, E::Drop]]),
                ],
            ));
        }
        let of_bridges = |name, key, holds, elements| Set { name, key, holds, ranges: false, elements };
        let mut sets = of_ports(ports.iter().filter(|port| port.family() == family));
        sets.extend([
            of_bridges(BRIDGES, &[Part::Interface], Holds::Nothing, self.bridges),
            of_bridges(AMONG, &[Part::Interface, Part::Interface], Holds::Verdict, self.among),
            of_bridges(LEAVING, &[Part::Interface], Holds::Verdict, self.leaving),
            of_bridges(COMING, &[Part::Interface], Holds::Verdict, self.coming),
        ]);
        // Those that hardly any host has are there where they are asked.
        let rare: [(_, &[Part], _); 3] = [
            (TRUSTED, &[Part::Interface, Part::Interface], self.trusted),
            (WITHOUT_HOST, &[Part::Interface], self.without_host),
            (WITHOUT_METADATA, &[Part::Interface], self.without_metadata),
        ];
        let rare = rare.into_iter().filter(|(.., elements)| !elements.is_empty());
        sets.extend(rare.map(|(name, key, elements)| of_bridges(name, key, Holds::Nothing, elements)));
        Ruleset { family, table: table.to_owned(), sets, chains }
    }
}

/// What the maps have of these ports: a row that keeps its numbers is one element.
pub(super) fn of_ports<'a>(ports: impl Iterator<Item = &'a Port>) -> Vec<Set> {
    const KEY: &[Part] = &[Part::Address, Part::Protocol, Part::Port];
    let (mut one, mut rows, mut own) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for port in ports {
        if port.direct && port.published.host_port > 0 {
            own.insert(port.to_own());
        }
        if port.published.host_port == 0 {
            own.insert(port.to_own());
        } else if port.is_straight() {
            rows.insert(port.to_range());
        } else {
            one.extend(port.each().map(|port| port.to_one()));
        }
    }
    vec![
        Set { name: PORTS, key: KEY, holds: Holds::Value(&[Part::Address, Part::Port]), ranges: false, elements: one },
        Set { name: ROWS, key: KEY, holds: Holds::Value(&[Part::Address]), ranges: true, elements: rows },
        Set { name: OWN, key: KEY, holds: Holds::Nothing, ranges: true, elements: apart(own) },
    ]
}

/// The packet goes to what tells a machine of itself.
fn to_metadata(family: Family) -> Vec<Vec<E>> {
    let v4 = METADATA.iter().filter_map(|(first, len)| Some(E::to(Subnet::of(*first, *len)?).to_vec()));
    let v6 = METADATA_V6.iter().filter_map(|one| Some(E::to(Subnet::of(*one, 128)?).to_vec()));
    if family == Family::Ipv4 { v4.collect() } else { v6.collect() }
}

/// Ranges of which none shares a key with another: those that do are one. They are in order by their first key.
fn apart(ranges: BTreeSet<Element>) -> BTreeSet<Element> {
    let mut merged: Vec<Element> = Vec::new();
    for range in ranges {
        match merged.last_mut() {
            Some(before) if before.last >= Some(range.key.clone()) => before.last = before.last.take().max(range.last),
            _ => merged.push(range),
        }
    }
    merged.into_iter().collect()
}

/// Published ports of one address of the host, then those of all.
fn to_ports() -> [Rule; 4] {
    let to = |comment: &str, first, map, translate| {
        let find = [first, E::KeyProtocol, E::KeyPort, E::Find(map), translate];
        rule(comment.to_owned(), [&E::to_the_host()[..], &find])
    };
    [
        to("ports of one address of the host", E::KeyDestination, PORTS, E::TranslateDestination),
        to("rows of ports of one address of the host", E::KeyDestination, ROWS, E::TranslateAddress),
        to("ports of all addresses of the host", E::KeyAnyAddress, PORTS, E::TranslateDestination),
        to("rows of ports of all addresses of the host", E::KeyAnyAddress, ROWS, E::TranslateAddress),
    ]
}

/// The table that keeps a host from becoming a router between its own interfaces when an engine turns forwarding on:
/// between the interfaces that were there at that moment nothing was forwarded before, and nothing is afterwards.
pub(crate) fn guard(family: Family, table: &str, interfaces: &[String]) -> Ruleset {
    const SET: &str = "guarded";
    let between = [E::InputInterface, E::In(SET), E::OutputInterface, E::In(SET), E::Counter, E::Drop];
    let rule = rule("forwarding was off before a container engine turned it on".to_owned(), [&between[..]]);
    let elements = interfaces.iter().map(|name| Element::interfaces(&[name], Data::Nothing)).collect();
    Ruleset {
        family,
        table: table.to_owned(),
        sets: vec![Set { name: SET, key: &[Part::Interface], holds: Holds::Nothing, ranges: false, elements }],
        chains: vec![Chain { name: "forward", hook: Some(Hook::Forward), rules: vec![rule] }],
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
        chains: vec![Chain {
            name: "output",
            hook: Some(Hook::TranslateOwnDestination),
            rules: vec![lead(17, "datagrams"), lead(6, "connections")],
        }],
    }
}

fn rule<const N: usize>(comment: String, parts: [&[E]; N]) -> Rule {
    Rule { comment, expressions: parts.concat() }
}
