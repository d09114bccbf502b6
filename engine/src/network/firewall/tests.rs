#![allow(clippy::unwrap_used)]
use std::collections::BTreeSet;
use std::fmt::Write;

use engine_sys::namespace::new_network;
use engine_sys::netlink::Protocol;

use super::expression::Expression;
use super::*;
use crate::network::PublishedPort;
use crate::network::record::Bridge;

fn bridge(interface: &str, subnet: &str, inter_container: bool) -> Bridge {
    let network = crate::network::tests::network("n", interface, subnet.parse().unwrap());
    let bridge = network.bridge.unwrap();
    Bridge { inter_container, masquerade: inter_container, ..bridge }
}

/// The table of the one family that there is.
fn only(rulesets: Vec<Ruleset>) -> Ruleset {
    assert_eq!(rulesets.len(), 1);
    rulesets.into_iter().next().unwrap()
}

/// One table, in a transaction of its own.
fn apply(socket: &mut Netlink, ruleset: &Ruleset) -> Result<(), Error> {
    super::apply(socket, std::slice::from_ref(ruleset))
}

fn port(number: u16) -> Port {
    let published = PublishedPort {
        protocol: crate::network::Protocol::Udp,
        port: 8000,
        host_address: "127.0.0.1".parse().unwrap(),
        host_port: number,
        count: 1,
    };
    Port { published, address: "10.0.0.2".parse().unwrap(), direct: false }
}

#[test]
fn a_table_is_made_or_made_anew() {
    let (_namespace, mut socket) = new_network(|| Netlink::open(Protocol::Netfilter)).unwrap();
    for port in [5001u16, 6002] {
        let wanted = names(std::net::Ipv4Addr::new(127, 0, 0, 11), port);
        make(&mut socket, &wanted).unwrap();
        assert!(is_in_place(&mut socket, &wanted).unwrap());
        let mut rules = Vec::new();
        let question = ruleset::message(Family::Ipv4, GET_RULE, DUMP).text(1, "engine_names");
        let collect = |part: Option<(u16, &[u8])>| match part {
            None => rules.clear(),
            Some((_, content)) => rules.push(content.windows(2).any(|bytes| bytes == port.to_be_bytes())),
        };
        socket.dump(&question, collect).unwrap();
        assert_eq!(rules, [true, true]);
    }
}

#[test]
fn ports_come_and_go() {
    let (_namespace, mut socket) = new_network(|| Netlink::open(Protocol::Netfilter)).unwrap();
    let ruleset = |ports: &[u16]| {
        let ports: BTreeSet<Port> = ports.iter().map(|number| port(*number)).collect();
        only(rules("engine_1", &[bridge("br1", "10.0.0.0/24", true)], &ports))
    };
    apply(&mut socket, &ruleset(&[80])).unwrap();
    publish(&mut socket, "engine_1", &[port(81), port(82)]).unwrap();
    publish(&mut socket, "engine_1", &[port(82)]).unwrap();
    assert!(is_in_place(&mut socket, &ruleset(&[80, 81, 82])).unwrap());
    unpublish(&mut socket, "engine_1", &[port(80), port(82)]).unwrap();
    assert!(is_in_place(&mut socket, &ruleset(&[81])).unwrap());
    let missing = unpublish(&mut socket, "engine_1", &[port(81), port(83)]).unwrap_err();
    assert!(missing.is(Errno::NOENT), "{missing}");
    assert!(is_in_place(&mut socket, &ruleset(&[81])).unwrap());
    // More than the buffer of a socket holds.
    let many: Vec<u16> = (1000..21000).collect();
    apply(&mut socket, &ruleset(&many)).unwrap();
    assert!(is_in_place(&mut socket, &ruleset(&many)).unwrap());
    assert_eq!(port(80).to_one().key, [127, 0, 0, 1, 17, 0, 0, 0, 0, 80, 0, 0]);
    assert_eq!(port(80).to_one().data, set::Data::Value(vec![10, 0, 0, 2, 0x1f, 0x40, 0, 0]));
}

/// A ruleset in words.
fn tell(ruleset: &Ruleset) -> String {
    let mut text = format!("table {}\n", ruleset.table);
    for set in ruleset.sets.iter().filter(|set| !set.elements.is_empty()) {
        let words = |bytes: &[u8]| match bytes.len() % ruleset::NAME {
            0 => bytes.chunks(ruleset::NAME).map(text_of).collect::<Vec<_>>().join("+"),
            _ => format!("{bytes:?}"),
        };
        let told: Vec<_> =
            set.elements.iter().map(|element| format!("{} {:?}", words(&element.key), element.data)).collect();
        writeln!(text, "  {} {}", set.name, told.join(", ")).unwrap();
    }
    for chain in &ruleset.chains {
        let hook = chain.hook.map(|hook| format!(" {hook:?}")).unwrap_or_default();
        writeln!(text, "  chain {}{hook}", chain.name).unwrap();
        for rule in &chain.rules {
            let steps: Vec<_> = rule.expressions.iter().map(tell_expression).collect();
            writeln!(text, "    {}  # {}", steps.join(" "), rule.comment).unwrap();
        }
    }
    text
}

fn text_of(name: &[u8]) -> String {
    text(name).to_owned()
}

fn tell_expression(expression: &Expression) -> String {
    let value = |value: &[u8]| match value.len() {
        ruleset::NAME if value[0].is_ascii_alphanumeric() => text(value).to_owned(),
        _ => format!("{value:?}"),
    };
    match expression {
        Expression::Equal(equal) => format!("= {}", value(equal)),
        Expression::Different(other) => format!("!= {}", value(other)),
        Expression::Mask(mask) => format!("& {mask:?}"),
        other => format!("{other:?}"),
    }
}

#[test]
fn two_bridges_one_with_its_containers_kept_apart() {
    let ruleset = only(rules(
        "engine",
        &[bridge("engine0", "172.17.0.0/16", true), bridge("br1", "10.0.0.0/24", false)],
        &BTreeSet::new(),
    ));
    insta::assert_snapshot!(tell(&ruleset), @r#"
    table engine
      bridges br1 Nothing, engine0 Nothing
      among engine0+engine0 Verdict(Accept)
      coming br1 Verdict(GoTo("to_published")), engine0 Verdict(GoTo("to_published"))
      chain to_published
        ConnectionState & [6, 0, 0, 0] != [0, 0, 0, 0] Accept  # answers and what belongs to them
        ConnectionStatus & [32, 0, 0, 0] != [0, 0, 0, 0] Accept  # published ports
        Counter Drop  # nothing else, from wherever
      chain to_routed
        ConnectionState & [6, 0, 0, 0] != [0, 0, 0, 0] Accept  # answers and what belongs to them
        ConnectionStatus & [32, 0, 0, 0] != [0, 0, 0, 0] Accept  # published ports
        Protocol = [1] Accept  # errors and reachability
        KeyDestination KeyProtocol KeyPort In("routed") Accept  # ports at the containers' own addresses
        Counter Drop  # nothing else, from wherever
      chain refused
        Counter Drop  # nothing else, from wherever
      chain raw Raw
        InputInterface In("bridges") Destination & [255, 0, 0, 0] = [127, 0, 0, 0] Counter Drop  # bridges: nothing to the host's loopback
        InputInterface In("bridges") Source & [255, 0, 0, 0] = [127, 0, 0, 0] Counter Drop  # bridges: nothing from the host's loopback
      chain prerouting TranslateDestination
        Destination & [255, 0, 0, 0] = [127, 0, 0, 0] Accept  # the loopback is the host's own
        DestinationType = [2, 0, 0, 0] KeyDestination KeyProtocol KeyPort Find("published") TranslateDestination  # ports of one address of the host
        DestinationType = [2, 0, 0, 0] KeyDestination KeyProtocol KeyPort Find("published_ranges") TranslateAddress  # rows of ports of one address of the host
        DestinationType = [2, 0, 0, 0] KeyAnyAddress KeyProtocol KeyPort Find("published") TranslateDestination  # ports of all addresses of the host
        DestinationType = [2, 0, 0, 0] KeyAnyAddress KeyProtocol KeyPort Find("published_ranges") TranslateAddress  # rows of ports of all addresses of the host
      chain output TranslateOwnDestination
        DestinationType = [2, 0, 0, 0] KeyDestination KeyProtocol KeyPort Find("published") TranslateDestination  # ports of one address of the host
        DestinationType = [2, 0, 0, 0] KeyDestination KeyProtocol KeyPort Find("published_ranges") TranslateAddress  # rows of ports of one address of the host
        DestinationType = [2, 0, 0, 0] KeyAnyAddress KeyProtocol KeyPort Find("published") TranslateDestination  # ports of all addresses of the host
        DestinationType = [2, 0, 0, 0] KeyAnyAddress KeyProtocol KeyPort Find("published_ranges") TranslateAddress  # rows of ports of all addresses of the host
      chain forward Forward
        KeyInput KeyOutput Decide("among")  # containers of a network among each other
        InputInterface Decide("leaving")  # what leaves a closed network
        OutputInterface Decide("coming")  # what comes to a network
      chain postrouting TranslateSource
        Source & [255, 0, 0, 0] = [127, 0, 0, 0] OutputInterface = engine0 Masquerade  # engine0: the host's loopback to published ports
        Source & [255, 255, 0, 0] = [172, 17, 0, 0] OutputInterface = engine0 ConnectionStatus & [32, 0, 0, 0] != [0, 0, 0, 0] Masquerade  # engine0: 172.17.0.0/16 to published ports of neighbours
        Source & [255, 255, 0, 0] = [172, 17, 0, 0] OutputInterface != engine0 Masquerade  # engine0: 172.17.0.0/16 leaves with the host's address
        Source & [255, 0, 0, 0] = [127, 0, 0, 0] OutputInterface = br1 Masquerade  # br1: the host's loopback to published ports
        Source & [255, 255, 255, 0] = [10, 0, 0, 0] OutputInterface = br1 ConnectionStatus & [32, 0, 0, 0] != [0, 0, 0, 0] Masquerade  # br1: 10.0.0.0/24 to published ports of neighbours
    "#);
}

#[test]
fn the_guard() {
    insta::assert_snapshot!(tell(&guard(Family::Ipv4, "engine_guard", &["eth0".into(), "wlan0".into()])), @r#"
    table engine_guard
      guarded eth0 Nothing, wlan0 Nothing
      chain forward Forward
        InputInterface In("guarded") OutputInterface In("guarded") Counter Drop  # forwarding was off before a container engine turned it on
    "#);
}

#[test]
fn a_rule_is_encoded_as_the_kernel_wants_it() {
    let masked = Expression::Mask(vec![255, 255, 0, 0]).encode(Message::new(0, 0), Family::Ipv4);
    let expected: &[&[u8]] = &[
        &[8, 0, 1, 0, 0, 0, 0, 1],
        &[8, 0, 2, 0, 0, 0, 0, 1],
        &[8, 0, 3, 0, 0, 0, 0, 4],
        &[12, 0, 4, 0x80, 8, 0, 1, 0, 255, 255, 0, 0],
        &[12, 0, 5, 0x80, 8, 0, 1, 0, 0, 0, 0, 0],
    ];
    assert_eq!(masked.bytes()[16..], expected.concat());
    let dropped = Expression::Drop.encode(Message::new(0, 0), Family::Ipv4);
    let expected: &[&[u8]] = &[&[8, 0, 1, 0, 0, 0, 0, 0], &[16, 0, 2, 0x80, 12, 0, 2, 0x80, 8, 0, 1, 0, 0, 0, 0, 0]];
    assert_eq!(dropped.bytes()[16..], expected.concat());
    assert_eq!(ruleset::comment("hi"), [0, 3, b'h', b'i', 0]);
    assert_eq!(ruleset::comment(&"x".repeat(500)).len(), 130);
    assert_eq!(ruleset::padded(&"n".repeat(20)), *b"nnnnnnnnnnnnnnn\0");
}

#[test]
fn the_kernel_takes_replaces_and_removes_tables() {
    let (_namespace, mut socket) = new_network(|| Netlink::open(Protocol::Netfilter)).unwrap();
    let one = only(rules("engine_1", &[bridge("br1", "10.0.0.0/24", true)], &BTreeSet::new()));
    let two = only(rules(
        "engine_1",
        &[bridge("br1", "10.0.0.0/24", true), bridge("br2", "10.0.1.0/24", false)],
        &[port(80)].into(),
    ));
    let other = guard(Family::Ipv6, "engine_guard", &(0..2500).map(|number| format!("if{number}")).collect::<Vec<_>>());
    assert!(!is_in_place(&mut socket, &one).unwrap());
    let before = generation(&mut socket).unwrap();
    for ruleset in [&one, &two, &two, &other, &one] {
        apply(&mut socket, ruleset).unwrap();
        assert!(is_in_place(&mut socket, ruleset).unwrap());
    }
    assert!(generation(&mut socket).unwrap() > before);
    assert!(!is_in_place(&mut socket, &two).unwrap());
    remove(&mut socket, "engine_1").unwrap();
    remove(&mut socket, "engine_1").unwrap();
    assert!(!is_in_place(&mut socket, &one).unwrap());
    assert!(is_in_place(&mut socket, &other).unwrap());
}

#[test]
fn a_refused_table_changes_nothing() {
    let (_namespace, mut socket) = new_network(|| Netlink::open(Protocol::Netfilter)).unwrap();
    let good = only(rules("engine", &[bridge("br1", "10.0.0.0/24", true)], &BTreeSet::new()));
    apply(&mut socket, &good).unwrap();
    let mut bad = good.clone();
    bad.chains[0].rules[0].expressions = vec![Expression::In("no such set")];
    assert!(apply(&mut socket, &bad).is_err());
    assert!(is_in_place(&mut socket, &good).unwrap());
}

#[test]
fn both_families_come_and_go_together() {
    let (_namespace, mut socket) = new_network(|| Netlink::open(Protocol::Netfilter)).unwrap();
    let mut dual = bridge("br1", "10.0.0.0/24", true);
    dual.addresses.v6 = Some(crate::network::Block::whole("fd00:1::/64".parse().unwrap(), false));
    let v6 = |number| Port {
        published: PublishedPort { host_address: "::".parse().unwrap(), ..port(number).published },
        address: "fd00:1::2".parse().unwrap(),
        direct: false,
    };
    let both = rules("engine_1", &[dual], &[port(80), v6(80)].into());
    assert_eq!(both.len(), 2);
    super::apply(&mut socket, &both).unwrap();
    publish(&mut socket, "engine_1", &[port(81), v6(81)]).unwrap();
    unpublish(&mut socket, "engine_1", &[port(81), v6(81)]).unwrap();
    assert!(both.iter().all(|ruleset| is_in_place(&mut socket, ruleset).unwrap()));
    insta::assert_snapshot!(tell(&both[1]), @r#"
    table engine_1
      published [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 17, 0, 0, 0, 0, 80, 0, 0] Value([253, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 31, 64, 0, 0])
      bridges br1 Nothing
      among br1+br1 Verdict(Accept)
      coming br1 Verdict(GoTo("to_published"))
      chain to_published
        ConnectionState & [6, 0, 0, 0] != [0, 0, 0, 0] Accept  # answers and what belongs to them
        ConnectionStatus & [32, 0, 0, 0] != [0, 0, 0, 0] Accept  # published ports
        Counter Drop  # nothing else, from wherever
      chain to_routed
        ConnectionState & [6, 0, 0, 0] != [0, 0, 0, 0] Accept  # answers and what belongs to them
        ConnectionStatus & [32, 0, 0, 0] != [0, 0, 0, 0] Accept  # published ports
        Protocol = [58] Accept  # errors and reachability
        KeyDestination KeyProtocol KeyPort In("routed") Accept  # ports at the containers' own addresses
        Counter Drop  # nothing else, from wherever
      chain refused
        Counter Drop  # nothing else, from wherever
      chain raw Raw
      chain prerouting TranslateDestination
        DestinationType = [2, 0, 0, 0] KeyDestination KeyProtocol KeyPort Find("published") TranslateDestination  # ports of one address of the host
        DestinationType = [2, 0, 0, 0] KeyDestination KeyProtocol KeyPort Find("published_ranges") TranslateAddress  # rows of ports of one address of the host
        DestinationType = [2, 0, 0, 0] KeyAnyAddress KeyProtocol KeyPort Find("published") TranslateDestination  # ports of all addresses of the host
        DestinationType = [2, 0, 0, 0] KeyAnyAddress KeyProtocol KeyPort Find("published_ranges") TranslateAddress  # rows of ports of all addresses of the host
      chain output TranslateOwnDestination
        Destination & [255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1] Accept  # the loopback is not routed
        DestinationType = [2, 0, 0, 0] KeyDestination KeyProtocol KeyPort Find("published") TranslateDestination  # ports of one address of the host
        DestinationType = [2, 0, 0, 0] KeyDestination KeyProtocol KeyPort Find("published_ranges") TranslateAddress  # rows of ports of one address of the host
        DestinationType = [2, 0, 0, 0] KeyAnyAddress KeyProtocol KeyPort Find("published") TranslateDestination  # ports of all addresses of the host
        DestinationType = [2, 0, 0, 0] KeyAnyAddress KeyProtocol KeyPort Find("published_ranges") TranslateAddress  # rows of ports of all addresses of the host
      chain forward Forward
        KeyInput KeyOutput Decide("among")  # containers of a network among each other
        InputInterface Decide("leaving")  # what leaves a closed network
        OutputInterface Decide("coming")  # what comes to a network
      chain postrouting TranslateSource
        Source & [255, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 0, 0, 0, 0, 0] = [253, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0] OutputInterface = br1 ConnectionStatus & [32, 0, 0, 0] != [0, 0, 0, 0] Masquerade  # br1: fd00:1::/64 to published ports of neighbours
        Source & [255, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 0, 0, 0, 0, 0] = [253, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0] OutputInterface != br1 Masquerade  # br1: fd00:1::/64 leaves with the host's address
    "#);
    let v4 = rules("engine_1", &[bridge("br1", "10.0.0.0/24", true)], &BTreeSet::new());
    replace(&mut socket, "engine_1", &v4).unwrap();
    assert!(is_in_place(&mut socket, &v4[0]).unwrap() && !is_in_place(&mut socket, &both[1]).unwrap());
    replace(&mut socket, "engine_1", &[]).unwrap();
    assert!(!is_in_place(&mut socket, &v4[0]).unwrap());
}

#[test]
fn an_internal_network_has_no_way_out() {
    let mut inside = bridge("br1", "10.0.0.0/24", true);
    inside.internal = true;
    let ruleset = only(rules("engine", &[bridge("br0", "10.0.1.0/24", true), inside], &BTreeSet::new()));
    let of = |name: &str| ruleset.sets.iter().find(|set| set.name == name).unwrap();
    let refused = Element::interfaces(&["br1"], set::Data::Verdict(set::Verdict::GoTo("refused".to_owned())));
    assert!(of("leaving").elements.iter().eq([&refused]) && of("coming").elements.contains(&refused));
    assert!(of("coming").elements.len() == 2);
}

#[test]
fn rules_of_the_forward_path_do_not_grow_with_networks() {
    let count = |networks: u8| {
        let bridges: Vec<_> =
            (0..networks).map(|number| bridge(&format!("br{number}"), &format!("10.0.{number}.0/24"), true)).collect();
        let ruleset = only(rules("engine", &bridges, &BTreeSet::new()));
        let of = |name: &str| ruleset.chains.iter().find(|chain| chain.name == name).unwrap().rules.len();
        let elements: usize = ruleset.sets.iter().map(|set| set.elements.len()).sum();
        (of("forward"), of("raw"), of("to_published"), of("postrouting"), elements)
    };
    let (one, many) = (count(1), count(100));
    assert_eq!((one.0, one.1, one.2), (many.0, many.1, many.2));
    assert_eq!((one.3 * 100, one.4 * 100), (many.3, many.4), "what grows, grows with their number");
}

#[test]
fn rows_of_ports_are_one_element() {
    let (_namespace, mut socket) = new_network(|| Netlink::open(Protocol::Netfilter)).unwrap();
    let row = |first, last, to| {
        let one = port(first);
        Port { published: PublishedPort { port: to, count: last - first + 1, ..one.published }, ..one }
    };
    let elements = |ports: &[Port]| of_ports(ports).iter().map(|set| set.elements.len()).collect::<Vec<_>>();
    assert_eq!(elements(&[row(1000, 60999, 1000)]), [0, 1, 0]);
    assert_eq!(elements(&[row(1000, 1099, 2000), row(2000, 2099, 2000), port(80)]), [101, 1, 0]);
    let own = PublishedPort { host_port: 0, ..row(1, 50, 80).published };
    assert_eq!(elements(&[Port { published: own, ..port(1) }]), [0, 0, 1]);
    let ruleset = |ports: &[Port]| {
        only(rules("engine_1", &[bridge("br1", "10.0.0.0/24", true)], &ports.iter().copied().collect()))
    };
    let all = [row(1000, 60999, 1000), row(500, 599, 700), port(80), Port { published: own, ..port(1) }];
    apply(&mut socket, &ruleset(&all)).unwrap();
    assert!(is_in_place(&mut socket, &ruleset(&all)).unwrap());
    unpublish(&mut socket, "engine_1", &all[..2]).unwrap();
    assert!(is_in_place(&mut socket, &ruleset(&all[2..])).unwrap());
    publish(&mut socket, "engine_1", &all[..2]).unwrap();
    publish(&mut socket, "engine_1", &all[..2]).unwrap();
    assert!(is_in_place(&mut socket, &ruleset(&all)).unwrap());
    // Rows that share ports, as an engine before this one wrote them down.
    let own = |first, count| Port {
        published: PublishedPort { host_port: 0, port: first, count, ..row(1, 1, 1).published },
        ..port(1)
    };
    let shared = [own(80, 1), own(80, 2), own(81, 20), own(90, 5), own(200, 1)];
    assert_eq!(elements(&shared), [0, 0, 2]);
    apply(&mut socket, &ruleset(&[])).unwrap();
    publish(&mut socket, "engine_1", &shared).unwrap();
    assert!(is_in_place(&mut socket, &ruleset(&shared)).unwrap());
    unpublish(&mut socket, "engine_1", &shared).unwrap();
    assert!(is_in_place(&mut socket, &ruleset(&[])).unwrap());
    // Many rows beside each other.
    let rows: Vec<Port> = (0..500).map(|at| row(1000 + at * 20, 1009 + at * 20, 1000 + at * 20)).collect();
    apply(&mut socket, &ruleset(&[])).unwrap();
    publish(&mut socket, "engine_1", &rows).unwrap();
    assert!(is_in_place(&mut socket, &ruleset(&rows)).unwrap());
}

fn of_ports(ports: &[Port]) -> Vec<Set> {
    super::rules::of_ports(ports.iter())
}

proptest::proptest! {
    /// Nothing that a kernel, or whoever answers in its place, says of tables makes more than an answer of it.
    #[test]
    fn no_answer_is_too_odd(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
        let _ = (Element::read(&bytes), read_rule(&bytes, "engine"), read_dropping_chain(&bytes));
    }

    /// What we say of an element is what we read of it.
    #[test]
    fn elements_are_read_as_they_are_said(
        key in proptest::collection::vec(proptest::prelude::any::<u8>(), 1..40),
        last in proptest::option::of(proptest::collection::vec(proptest::prelude::any::<u8>(), 1..40)),
        value in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..20),
        chain in proptest::option::of("[a-z_]{1,20}"),
    ) {
        let data = match chain {
            Some(chain) => set::Data::Verdict(set::Verdict::GoTo(chain)),
            None if value.is_empty() => set::Data::Nothing,
            None => set::Data::Value(value),
        };
        let element = Element { key, last, data };
        let said = element.encode(Message::new(0, 0));
        proptest::prop_assert_eq!(Element::read(&said.bytes()[16..]), Some(element));
    }
}
