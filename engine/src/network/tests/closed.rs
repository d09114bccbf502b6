//! What a network may be closed to: neighbours that say they are somebody else, the host itself, and what a cloud tells its
//! machine. And who may come to it by the side.

use std::net::{Ipv6Addr, SocketAddr, UdpSocket};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, ipproto};

use super::custom::{make, on};
use super::*;

const GUARD: &str = "engine.bridge.guard";
const HOST_OPTION: &str = "engine.bridge.host";
const METADATA: &str = "engine.bridge.metadata";
const TRUSTED: &str = "com.docker.network.bridge.trusted_host_interfaces";

fn change(container: &Container, of: impl Fn(u32) -> engine_sys::netlink::Message) {
    let mut inside = container.namespace.inside();
    let eth0 = link::find_link(&mut inside, "eth0").unwrap().unwrap();
    inside.request(&mut [of(eth0.index)]).unwrap();
}

/// As a container does that may change its network: it takes one more address, and answers for it.
fn claim(container: &Container, address: Ipv4Addr) {
    change(container, |eth0| link::add_address(eth0, address, Subnet::of(address, 24).unwrap()));
}

fn claim_v6(container: &Container, address: Ipv6Addr) {
    change(container, |eth0| link::add_address(eth0, address, Subnet::of(address, 64).unwrap()));
}

/// Takes another hardware address.
fn disguise(container: &Container, mac: [u8; 6]) {
    change(container, |eth0| {
        let mut fixed = [0; 16];
        fixed[4..8].copy_from_slice(&eth0.to_ne_bytes());
        engine_sys::netlink::Message::new(16, engine_sys::netlink::ACK).put(&fixed).attribute(1, &mac)
    });
}

fn dial_v6(from: &Container, address: Ipv6Addr, port: u16) -> bool {
    let to = SocketAddr::from((address, port));
    in_network(from.namespace.as_fd(), || TcpStream::connect_timeout(&to, Duration::from_millis(400))).is_ok()
}

/// Whether a datagram from one port reaches a neighbour.
fn datagram_reaches(from: &Container, at: (Ipv4Addr, u16), to: &Container, address: Ipv4Addr) -> bool {
    let receiver = in_network(to.namespace.as_fd(), || UdpSocket::bind("0.0.0.0:6000")).unwrap();
    receiver.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let sender = in_network(from.namespace.as_fd(), || UdpSocket::bind(at)).unwrap();
    (0..3).any(|_| {
        let _ = sender.send_to(b"hello", (address, 6000));
        receiver.recv(&mut [0; 8]).is_ok()
    })
}

/// Whether a neighbour hears that somebody is a router.
fn router_reaches(from: &Container, to: &Container, address: Ipv6Addr) -> bool {
    let raw = |container: &Container| {
        let open = || Ok(rustix::net::socket(AddressFamily::INET6, SocketType::RAW, Some(ipproto::ICMPV6))?);
        in_network(container.namespace.as_fd(), open).unwrap()
    };
    let (sender, receiver) = (raw(from), raw(to));
    let mut advertisement = [0; 16];
    advertisement[0] = 134;
    (0..20).any(|_| {
        let to = std::net::SocketAddrV6::new(address, 0, 0, 0);
        let _ = rustix::net::sendto(&sender, &advertisement, SendFlags::DONTWAIT, &to);
        std::thread::sleep(Duration::from_millis(10));
        let mut message = [0; 256];
        let mut kinds = std::iter::from_fn(|| {
            let received = rustix::net::recv(&receiver, &mut message, RecvFlags::DONTWAIT);
            received.is_ok().then_some(message[0])
        });
        kinds.any(|kind| kind == 134)
    })
}

#[test]
fn nobody_is_somebody_else_on_a_guarded_network() {
    let machine = Machine::new();
    let networks = machine.open(&machine.settings());
    let dual = |name: &str, third: u8| {
        let spec = NetworkSpec::new(name).ipv6(true).subnet(format!("10.9.{third}.0/24"));
        spec.subnet(format!("fd00:{third}::/64"))
    };
    make(&machine, &networks, &dual("open", 1)).unwrap();
    make(&machine, &networks, &dual("guarded", 2).option(GUARD, "true")).unwrap();
    for (network, third, guarded) in [("open", 1, false), ("guarded", 2, true)] {
        let (liar, other) = (Container::new(&networks), Container::new(&networks));
        let own = interface(&on(&machine, &networks, &liar, network)).clone();
        let victim = interface(&on(&machine, &networks, &other, network)).clone();
        let (address, v6) = (victim.address.unwrap(), victim.v6.clone().unwrap().address);
        // What is its own passes, both ways and out of the network.
        let listener = listen(&other.namespace);
        assert_eq!(talk(liar.namespace.as_fd(), &listener, address), own.address.unwrap());
        talk(machine.host.as_fd(), &listener, address);
        let mine = listen(&liar.namespace);
        assert_eq!(talk(other.namespace.as_fd(), &mine, own.address.unwrap()), address);
        assert_eq!(talk(liar.namespace.as_fd(), &listen(&machine.world), SERVER), UPLINK);
        let _listener = in_network(other.namespace.as_fd(), || TcpListener::bind((v6, 4001))).unwrap();
        wait_until(|| dial_v6(&liar, v6, 4001));
        // It says that it has an address, of a neighbour or of the gateway; sends from it; and answers for it.
        let claimed = Ipv4Addr::new(10, 9, third, 77);
        claim(&liar, claimed);
        assert_eq!(dial(other.namespace.as_fd(), claimed).is_ok(), !guarded, "{network}: who has an address");
        assert_eq!(dial(machine.host.as_fd(), claimed).is_ok(), !guarded, "{network}: the same, asked by the host");
        let forged = datagram_reaches(&liar, (claimed, 6001), &other, address);
        assert_eq!(forged, !guarded, "{network}: packets of others");
        let claimed_v6: Ipv6Addr = format!("fd00:{third}::77").parse().unwrap();
        claim_v6(&liar, claimed_v6);
        let _mine = in_network(liar.namespace.as_fd(), || TcpListener::bind((claimed_v6, 4002))).unwrap();
        if guarded {
            assert!(!dial_v6(&other, claimed_v6, 4002), "who has an address of IPv6");
        } else {
            wait_until(|| dial_v6(&other, claimed_v6, 4002));
        }
        // It says that it is a router, or gives addresses out.
        assert_eq!(router_reaches(&liar, &other, v6), !guarded, "{network}: a router");
        let server = datagram_reaches(&liar, (own.address.unwrap(), 67), &other, address);
        assert_eq!(server, !guarded, "{network}: a server of addresses");
        assert!(datagram_reaches(&liar, (own.address.unwrap(), 6002), &other, address), "{network}: any other");
        // It has another's hardware address.
        disguise(&liar, victim.mac.bytes().map(|byte| byte ^ 4));
        let disguised = datagram_reaches(&liar, (own.address.unwrap(), 6003), &other, address);
        assert_eq!(disguised, !guarded, "{network}: frames of others");
        if guarded {
            // What was flushed comes back with the guard, and who leaves takes it along.
            let tables = || wanted_tables(&networks);
            assert_eq!(tables().len(), 3);
            let in_place = || tables().iter().all(|one| firewall::is_in_place(&mut machine.filter(), one).unwrap());
            assert!(in_place());
            super::ways::nft(&machine, "flush ruleset");
            assert!(!in_place());
            machine.restore(&networks);
            assert!(in_place());
            networks.detach_blocking(&liar.id, network, Some(&liar.namespace), &[]).unwrap();
            assert!(in_place());
            networks.disconnect_blocking(&other.id).unwrap();
            assert!(in_place() && networks.in_use().unwrap().ends.is_empty());
        }
    }
    networks.remove_blocking("guarded").unwrap();
    let table = &networks.shared.policy.table;
    let listed =
        in_network(machine.host.as_fd(), || std::process::Command::new("nft").args(["list", "tables"]).output());
    let listed = String::from_utf8(listed.unwrap().stdout).unwrap();
    assert!(listed.contains(&format!("ip {table}")) && !listed.contains("bridge"), "{listed}");
    let mut without = machine.settings();
    without.firewall = false;
    let refused = make(&machine, &machine.open(&without), &NetworkSpec::new("x").option(GUARD, "true")).unwrap_err();
    assert!(refused.to_string().contains("packet filter off"), "{refused}");
}

#[test]
fn a_failed_connection_leaves_no_guard() {
    let machine = Machine::new();
    let networks = machine.open(&machine.settings());
    make(&machine, &networks, &NetworkSpec::new("guarded").option(GUARD, "true")).unwrap();
    let container = Container::new(&networks);
    on(&machine, &networks, &container, "guarded");
    // Another one whose namespace has an eth0 already.
    let other = Container { id: ContainerId::random(), namespace: container.namespace.clone() };
    let request = Connect::new(other.id, "guarded").namespace(&other.namespace);
    machine.connect(&networks, &request).unwrap_err();
    assert_eq!(networks.in_use().unwrap().ends.len(), 1);
    assert!(wanted_tables(&networks).iter().all(|one| firewall::is_in_place(&mut machine.filter(), one).unwrap()));
}

#[test]
fn a_network_may_be_closed_to_the_host() {
    let machine = Machine::new();
    let networks = machine.open(&machine.settings());
    make(&machine, &networks, &NetworkSpec::new("open").subnet("10.9.1.0/24")).unwrap();
    let closed = NetworkSpec::new("closed").subnet("10.9.2.0/24").ipv6(true).subnet("fd00:2::/64");
    make(&machine, &networks, &closed.option(HOST_OPTION, "false")).unwrap();
    let (one, two, serving) = (Container::new(&networks), Container::new(&networks), Container::new(&networks));
    on(&machine, &networks, &one, "open");
    let endpoint = on(&machine, &networks, &two, "closed");
    let request = Connect::new(serving.id, "open").namespace(&serving.namespace);
    machine.connect(&networks, &request.publish(vec![publish([0; 4], 8080)])).unwrap();
    let listener = listen(&serving.namespace);
    let _secret = in_network(machine.host.as_fd(), || TcpListener::bind("[::]:9090")).unwrap();
    let gateway = |third| Ipv4Addr::new(10, 9, third, 1);
    assert!(!refused(one.namespace.as_fd(), gateway(1), 9090));
    // By none of the host's addresses.
    for address in [gateway(2), gateway(1), UPLINK] {
        assert!(refused(two.namespace.as_fd(), address, 9090), "{address}");
    }
    assert!(!dial_v6(&two, "fd00:2::1".parse().unwrap(), 9090));
    // Ports that are published are for everybody; the world is where it was, and the host reaches its containers.
    reach(two.namespace.as_fd(), gateway(2), 8080, &listener);
    assert_eq!(talk(two.namespace.as_fd(), &listen(&machine.world), SERVER), UPLINK);
    let own = listen(&two.namespace);
    talk(machine.host.as_fd(), &own, interface(&endpoint).address.unwrap());
    assert!(wanted_tables(&networks).iter().all(|one| firewall::is_in_place(&mut machine.filter(), one).unwrap()));
    firewall::remove(&mut machine.filter(), &networks.shared.policy.table).unwrap();
    assert!(!refused(two.namespace.as_fd(), gateway(2), 9090), "it is the rules that protect");
}

#[test]
fn a_network_may_be_closed_to_what_a_cloud_tells_its_machine() {
    let machine = Machine::new();
    let networks = machine.open(&machine.settings());
    for (name, option) in [("open", "true"), ("closed", "false")] {
        make(&machine, &networks, &NetworkSpec::new(name).option(METADATA, option)).unwrap();
    }
    let (one, two) = (Container::new(&networks), Container::new(&networks));
    on(&machine, &networks, &one, "open");
    on(&machine, &networks, &two, "closed");
    let metadata = Ipv4Addr::new(169, 254, 169, 254);
    {
        let mut inside = machine.world.inside();
        let eth0 = link::find_link(&mut inside, "eth0").unwrap().unwrap();
        inside.request(&mut [link::add_address(eth0.index, metadata, Subnet::of(metadata, 32).unwrap())]).unwrap();
    }
    let listener = listen(&machine.world);
    talk(machine.host.as_fd(), &listener, metadata);
    talk(one.namespace.as_fd(), &listener, metadata);
    assert!(dial(two.namespace.as_fd(), metadata).is_err());
    assert_eq!(talk(two.namespace.as_fd(), &listener, SERVER), UPLINK);
    assert!(wanted_tables(&networks).iter().all(|one| firewall::is_in_place(&mut machine.filter(), one).unwrap()));
}

#[test]
fn trusted_interfaces_reach_published_ports_at_the_containers_own_addresses() {
    let machine = Machine::new();
    let networks = machine.open(&machine.settings());
    make(&machine, &networks, &NetworkSpec::new("trusting").option(TRUSTED, "vxlan.1:lan0")).unwrap();
    make(&machine, &networks, &NetworkSpec::new("usual")).unwrap();
    let (one, two) = (Container::new(&networks), Container::new(&networks));
    let row = (0..3u16).map(|at| Publish { port: 4000 + at, ..publish([127, 0, 0, 1], 8080 + at) });
    let connect = |container: &Container, network: &str, ports: Vec<Publish>| {
        let request = Connect::new(container.id, network).namespace(&container.namespace).publish(ports);
        interface(&machine.connect(&networks, &request).unwrap()).address.unwrap()
    };
    let trusting = connect(&one, "trusting", row.collect());
    let usual = connect(&two, "usual", vec![publish([127, 0, 0, 1], 9090)]);
    {
        let mut inside = machine.world.inside();
        let eth0 = link::find_link(&mut inside, "eth0").unwrap().unwrap();
        inside.request(&mut [link::add_default_route(eth0.index, UPLINK, false)]).unwrap();
    }
    let at = |container: &Container, port| {
        in_network(container.namespace.as_fd(), || TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))).unwrap()
    };
    let listeners = [at(&one, 4000), at(&one, 4002), at(&one, 4003), at(&two, 4000)];
    reach(machine.world.as_fd(), trusting, 4000, &listeners[0]);
    reach(machine.world.as_fd(), trusting, 4002, &listeners[1]);
    assert!(refused(machine.world.as_fd(), trusting, 4003), "it is not published");
    assert!(refused(machine.world.as_fd(), usual, 4000), "that network trusts nobody");
    assert!(refused(two.namespace.as_fd(), trusting, 4000), "a neighbour is no trusted interface");
    reach(machine.host.as_fd(), Ipv4Addr::LOCALHOST, 8080, &listeners[0]);
    let in_place = |networks: &Networks| {
        wanted_tables(networks).iter().all(|one| firewall::is_in_place(&mut machine.filter(), one).unwrap())
    };
    assert!(in_place(&networks));
    // The settings may trust everybody: at published ports.
    let mut settings = machine.settings();
    settings.direct_routing = true;
    drop(networks);
    let networks = machine.open(&settings);
    machine.restore(&networks);
    reach(machine.world.as_fd(), usual, 4000, &listeners[3]);
    assert!(refused(machine.world.as_fd(), trusting, 4003));
    assert!(in_place(&networks));
    for container in [&one, &two] {
        networks.disconnect_blocking(&container.id).unwrap();
    }
    assert!(in_place(&networks) && networks.in_use().unwrap().ports.is_empty());
}

#[test]
fn routes_into_a_block_are_an_obstacle_and_ones_own_bridge_is_none() {
    let machine = Machine::new();
    let networks = machine.open(&machine.settings());
    let route = |arguments: &str| {
        let words: Vec<&str> = arguments.split(' ').collect();
        let done = in_network(machine.host.as_fd(), || std::process::Command::new("ip").args(&words).output());
        assert!(done.unwrap().status.success(), "{arguments}");
    };
    route("route add 10.60.5.0/24 via 198.51.100.2");
    route("route add 10.61.0.0/16 via 198.51.100.2");
    route("route add 10.62.0.7/32 via 198.51.100.2");
    let refused = make(&machine, &networks, &NetworkSpec::new("x").subnet("10.60.0.0/16")).unwrap_err();
    assert!(refused.to_string().contains("10.60.0.0/16 and 10.60.5.0/24"), "{refused}");
    // More than the block, or a single address of it, is said less or more exactly and is in nobody's way.
    make(&machine, &networks, &NetworkSpec::new("within").subnet("10.61.7.0/24")).unwrap();
    make(&machine, &networks, &NetworkSpec::new("around").subnet("10.62.0.0/24")).unwrap();
    // A bridge that the host's owner has made, with the addresses that the network is to have.
    route("link add br-own type bridge");
    route("addr add 10.63.0.1/24 dev br-own");
    route("link set br-own up");
    let own = NetworkSpec::new("own").subnet("10.63.0.0/24").option("com.docker.network.bridge.name", "br-own");
    make(&machine, &networks, &own).unwrap();
    let container = Container::new(&networks);
    let endpoint = on(&machine, &networks, &container, "own");
    talk(machine.host.as_fd(), &listen(&container.namespace), interface(&endpoint).address.unwrap());
    let other = make(&machine, &networks, &NetworkSpec::new("other").subnet("10.63.0.0/25")).unwrap_err();
    assert!(other.to_string().contains("overlaps"), "{other}");
    networks.disconnect_blocking(&container.id).unwrap();
    networks.remove_blocking("own").unwrap();
    assert!(machine.links().contains(&"br-own".to_owned()), "it is not ours");
}

#[test]
fn the_host_is_known_by_its_address_on_the_containers_network() {
    let machine = Machine::new();
    let networks = machine.open(&machine.settings());
    let default: Vec<IpAddr> = vec!["172.17.0.1".parse().unwrap()];
    assert_eq!(networks.host_addresses(&[]).unwrap(), default);
    let dual = NetworkSpec::new("dual").subnet("10.9.0.0/24").ipv6(true).subnet("fd00:9::/64");
    make(&machine, &networks, &dual.internal(true)).unwrap();
    let container = Container::new(&networks);
    let endpoint = on(&machine, &networks, &container, "dual");
    let both: Vec<IpAddr> = vec!["10.9.0.1".parse().unwrap(), "fd00:9::1".parse().unwrap()];
    assert_eq!(networks.host_addresses(std::slice::from_ref(&endpoint)).unwrap(), both);
    let second = machine.connect(&networks, &container.request()).unwrap();
    // The one that leads elsewhere goes first.
    assert_eq!(networks.host_addresses(&[endpoint, second]).unwrap(), default);
}

#[test]
fn what_others_share_is_cut_off_before_its_addresses_are_free() {
    let machine = Machine::new();
    let networks = machine.open(&machine.settings());
    make(&machine, &networks, &NetworkSpec::new("second")).unwrap();
    let container = Container::new(&networks);
    machine.connect(&networks, &container.request()).unwrap();
    on(&machine, &networks, &container, "second");
    // Somebody else is in its namespace and stays there.
    networks.cut_off_blocking(&container.id, &container.namespace).unwrap();
    networks.disconnect_blocking(&container.id).unwrap();
    for name in ["eth0", "eth1"] {
        assert_eq!(link::find_link(&mut container.namespace.inside(), name).unwrap(), None);
    }
    assert!(!machine.links().iter().any(|link| link.starts_with("veth")));
    // Fine when nothing is left.
    networks.cut_off_blocking(&container.id, &container.namespace).unwrap();
}
