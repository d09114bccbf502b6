//! What the settings say of all networks: IPv6 on the default bridge, options of new ones, what is passed on.

use std::net::{Ipv6Addr, SocketAddr};

use super::custom::{make, on};
use super::*;

#[test]
fn the_default_bridge_may_have_ipv6() {
    let machine = Machine::new();
    let v6 = |networks: &Networks| networks.get(BRIDGE).unwrap().addresses().unwrap().v6;
    let mut settings = machine.settings();
    settings.bridge.ipv6 = true;
    let chosen = v6(&machine.open(&settings)).unwrap();
    assert!(chosen.chosen && chosen.subnet.to_string().starts_with("fd") && chosen.subnet.prefix_len() == 64);
    assert_eq!(v6(&machine.open(&settings)), Some(chosen), "what was chosen stays");
    settings.bridge.fixed_range_v6 = Some(("fd00:1::".parse().unwrap(), 64));
    let networks = machine.open(&settings);
    let (one, two) = (Container::new(&networks), Container::new(&networks));
    let first = machine.connect(&networks, &one.request()).unwrap();
    machine.connect(&networks, &two.request()).unwrap();
    let address: Ipv6Addr = "fd00:1::2".parse().unwrap();
    assert_eq!(interface(&first).v6.as_ref().unwrap().address, address);
    let _listener = in_network(one.namespace.as_fd(), || TcpListener::bind((address, 4000))).unwrap();
    let dial = |from: &NetworkNamespace| {
        let to = SocketAddr::from((address, 4000));
        in_network(from.as_fd(), || TcpStream::connect_timeout(&to, Duration::from_millis(400))).is_ok()
    };
    wait_until(|| dial(&two.namespace));
    for container in [&one, &two] {
        networks.disconnect_blocking(&container.id).unwrap();
    }
    settings.bridge.address_v6 = Some(("fd00:1::9".parse().unwrap(), 48));
    let block = v6(&machine.open(&settings)).unwrap();
    assert_eq!(block.gateway.unwrap().to_string(), "fd00:1::9");
    assert_eq!((block.subnet.to_string().as_str(), block.range.to_string().as_str()), ("fd00:1::/48", "fd00:1::/64"));
    settings.bridge.address_v6 = Some(("fd00:2::9".parse().unwrap(), 64));
    let wrong = machine.try_open(&settings).unwrap_err();
    assert!(wrong.to_string().contains("is not in fd00:2::/64"), "{wrong}");
    assert_eq!(v6(&machine.open(&machine.settings())), None);
}

#[test]
fn new_networks_have_the_options_that_the_settings_have_for_them() {
    let machine = Machine::new();
    let mut settings = machine.settings();
    let mtu = "com.docker.network.driver.mtu".to_owned();
    settings.network_options.insert("bridge".to_owned(), BTreeMap::from([(mtu.clone(), "1300".to_owned())]));
    let networks = machine.open(&settings);
    let mtu_of = |spec: NetworkSpec| make(&machine, &networks, &spec).unwrap().bridge.unwrap().mtu;
    assert_eq!(mtu_of(NetworkSpec::new("one")), Some(1300));
    assert_eq!(mtu_of(NetworkSpec::new("two").option(mtu.clone(), "1200")), Some(1200));
    assert_eq!(networks.get("one").unwrap().options[&mtu], "1300", "and they are told");
    let direct = make(&machine, &networks, &NetworkSpec::new("three").driver("macvlan")).unwrap();
    assert!(direct.options.is_empty(), "they are of one driver");
}

#[test]
fn nothing_is_passed_on_where_the_settings_say_so() {
    let runtime = Runtime::start();
    let machine = Machine::new();
    let mut settings = machine.settings();
    settings.pass_on = false;
    let networks = runtime.open(&machine, &settings);
    make(&machine, &networks, &NetworkSpec::new("dual").ipv6(true).subnet("fd00:9::/64")).unwrap();
    make(&machine, &networks, &NetworkSpec::new("six").without_ipv4(true).ipv6(true)).unwrap();
    let (one, two) = (Container::new(&networks), Container::new(&networks));
    let connect = |container: &Container, network: &str, port| {
        let ports = vec![Publish { host_address: None, ..publish([0; 4], port) }];
        let request = Connect::new(container.id, network).namespace(&container.namespace).publish(ports);
        machine.connect(&networks, &request).unwrap()
    };
    connect(&one, "dual", 8080);
    let second = connect(&two, "six", 8081);
    assert!(interface(&second).ports.iter().all(|port| port.host_address.is_ipv6()), "the other family has none");
    let _listener = in_network(one.namespace.as_fd(), || TcpListener::bind((Ipv6Addr::UNSPECIFIED, 4000))).unwrap();
    let dial = |address: &str| {
        let to: SocketAddr = address.parse().unwrap();
        in_network(machine.host.as_fd(), || TcpStream::connect_timeout(&to, Duration::from_millis(400))).is_ok()
    };
    wait_until(|| dial("[fd00:9::1]:8080") && dial("127.0.0.1:8080"));
    // The port of the loopback of IPv6 is held, and nobody listens there.
    assert!(!networks.shared.relays.has(&one.id) && !networks.shared.relays.has(&two.id));
    on(&machine, &networks, &two, "dual");
}
