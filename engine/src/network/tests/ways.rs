//! Other ways than translated ports: addresses that are routed, ports that are relayed, and rules of the host's own.

use std::net::UdpSocket;
use std::process::Command;

use super::custom::{make, on};
use super::*;

/// Rules that the host's owner makes.
pub(super) fn nft(machine: &Machine, rules: &str) {
    let done = in_network(machine.host.as_fd(), || Command::new("nft").arg(rules).output()).unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// The world sends what is for the containers to the machine.
fn route_by_machine(machine: &Machine) {
    let mut inside = machine.world.inside();
    let eth0 = link::find_link(&mut inside, "eth0").unwrap().unwrap();
    inside.request(&mut [link::add_default_route(eth0.index, UPLINK, false)]).unwrap();
}

fn listen_at(container: &Container, port: u16) -> TcpListener {
    in_network(container.namespace.as_fd(), || TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))).unwrap()
}

fn bridge_addresses(machine: &Machine, network: &Network) -> Vec<Ipv4Addr> {
    let mut route = in_network(machine.host.as_fd(), || Netlink::open(Protocol::Route)).unwrap();
    let bridge = link::find_link(&mut route, &network.bridge.as_ref().unwrap().interface).unwrap().unwrap();
    let all = link::addresses::<Ipv4Addr>(&mut route).unwrap();
    all.into_iter().filter(|(index, ..)| *index == bridge.index).map(|(_, address, _)| address).collect()
}

const MODE: &str = "com.docker.network.bridge.gateway_mode_ipv4";

#[test]
fn routed_containers_are_reached_at_their_own_published_ports_only() {
    let machine = Machine::new();
    let networks = machine.open(&machine.settings());
    let routed = make(&machine, &networks, &NetworkSpec::new("routed").option(MODE, "routed")).unwrap();
    make(&machine, &networks, &NetworkSpec::new("bare").option(MODE, "nat-unprotected")).unwrap();
    let (one, two) = (Container::new(&networks), Container::new(&networks));
    // One port of the container may be asked for several times, beside others.
    let next = Publish { port: 4002, ..publish([0; 4], 8081) };
    let ports = vec![publish([0; 4], 8080), publish([0; 4], 9090), next.clone(), Publish { port: 4003, ..next }];
    let request = Connect::new(one.id, "routed").namespace(&one.namespace).publish(ports);
    let endpoint = machine.connect(&networks, &request).unwrap();
    let address = interface(&endpoint).address.unwrap();
    let own = |port, count| PublishedPort {
        protocol: port::Protocol::Tcp,
        port,
        host_address: [0; 4].into(),
        host_port: 0,
        count,
    };
    assert_eq!(interface(&endpoint).ports, [own(4000, 1), own(4002, 2)]);
    // The host's port is nobody's.
    in_network(machine.host.as_fd(), || TcpListener::bind("0.0.0.0:8080")).unwrap();
    route_by_machine(&machine);
    let (published, _other) = (listen(&one.namespace), listen_at(&one, 4001));
    reach(machine.world.as_fd(), address, 4000, &published);
    assert!(refused(machine.world.as_fd(), address, 4001));
    assert!(refused(machine.world.as_fd(), UPLINK, 8080));
    // The container is seen with its own address.
    let server = listen(&machine.world);
    assert_eq!(talk(one.namespace.as_fd(), &server, SERVER), address);
    let bare = on(&machine, &networks, &two, "bare");
    reach(machine.world.as_fd(), interface(&bare).address.unwrap(), 4001, &listen_at(&two, 4001));
    assert!(firewall::is_in_place(&mut machine.filter(), &wanted_rules(&networks)).unwrap());
    networks.disconnect_blocking(&one.id).unwrap();
    assert!(firewall::is_in_place(&mut machine.filter(), &wanted_rules(&networks)).unwrap());
    assert_eq!(bridge_addresses(&machine, &routed).len(), 1);
    let wrong = make(&machine, &networks, &NetworkSpec::new("x").option(MODE, "isolated")).unwrap_err();
    assert_eq!(wrong.to_string(), "gateway mode 'isolated' can only be used for an internal network");
}

#[test]
fn ports_are_published_as_the_next_network_does_it() {
    let machine = Machine::new();
    let networks = machine.open(&machine.settings());
    make(&machine, &networks, &NetworkSpec::new("routed").option(MODE, "routed")).unwrap();
    make(&machine, &networks, &NetworkSpec::new("usual")).unwrap();
    let container = Container::new(&networks);
    let asked = vec![publish([0; 4], 8080), Publish { port: 4001, host_ports: None, ..publish([0; 4], 0) }];
    let request = |name: &str| Connect::new(container.id, name).namespace(&container.namespace);
    machine.connect(&networks, &request("routed").publish(asked.clone())).unwrap();
    let detach = |name: &str| {
        let detached = || Ok(networks.detach_blocking(&container.id, name, Some(&container.namespace), &asked));
        in_network(machine.host.as_fd(), detached).unwrap().unwrap();
        let left = networks.endpoints_of(&container.id).unwrap();
        assert!(firewall::is_in_place(&mut machine.filter(), &wanted_rules(&networks)).unwrap());
        interface(&left[0]).clone()
    };
    machine.connect(&networks, &request("usual")).unwrap();
    let listener = listen(&container.namespace);
    let left = detach("routed");
    let hosts: Vec<u16> = left.ports.iter().map(|port| port.host_port).collect();
    assert!(matches!(hosts.as_slice(), [8080, chosen] if *chosen > 0), "{hosts:?}");
    reach(machine.world.as_fd(), UPLINK, 8080, &listener);
    // The port is held as any other.
    in_network(machine.host.as_fd(), || TcpListener::bind("0.0.0.0:8080")).unwrap_err();
    assert_eq!(networks.shared.state.read(|look| look.keys(Table::Port)).unwrap().len(), 2);
    // And back, where the host has none.
    machine.connect(&networks, &request("routed")).unwrap();
    let left = detach("usual");
    assert_eq!(
        left.ports.iter().map(|port| (port.port, port.host_port, port.count)).collect::<Vec<_>>(),
        [(4000, 0, 2)]
    );
    assert!(networks.shared.state.read(|look| look.keys(Table::Port)).unwrap().is_empty());
    in_network(machine.host.as_fd(), || TcpListener::bind("0.0.0.0:8080")).unwrap();
    route_by_machine(&machine);
    reach(machine.world.as_fd(), left.address.unwrap(), 4000, &listener);
    // What somebody has by then is not published, and keeps nobody from going.
    machine.connect(&networks, &request("usual")).unwrap();
    let _program = in_network(machine.host.as_fd(), || TcpListener::bind("0.0.0.0:8080")).unwrap();
    assert!(detach("routed").ports.is_empty());
}

#[test]
fn a_bridge_may_have_no_address() {
    let machine = Machine::new();
    let networks = machine.open(&machine.settings());
    let inhibit = NetworkSpec::new("inhibited").option("com.docker.network.bridge.inhibit_ipv4", "true");
    let isolated = NetworkSpec::new("isolated").internal(true).option(MODE, "isolated");
    for spec in [inhibit, isolated] {
        let network = make(&machine, &networks, &spec).unwrap();
        let (one, two) = (Container::new(&networks), Container::new(&networks));
        on(&machine, &networks, &one, &spec.name);
        let second = on(&machine, &networks, &two, &spec.name);
        assert!(bridge_addresses(&machine, &network).is_empty());
        let listener = listen(&two.namespace);
        talk(one.namespace.as_fd(), &listener, interface(&second).address.unwrap());
        assert!(dial(machine.host.as_fd(), interface(&second).address.unwrap()).is_err(), "{}", spec.name);
    }
}

#[test]
fn a_host_that_drops_what_it_forwards_is_obeyed_and_told_of() {
    let machine = Machine::new();
    let networks = machine.open(&machine.settings());
    let container = Container::new(&networks);
    let endpoint = machine.connect(&networks, &container.request().publish(vec![publish([0; 4], 8080)])).unwrap();
    let listener = listen(&container.namespace);
    reach(machine.world.as_fd(), UPLINK, 8080, &listener);
    assert_eq!(networks.obstacles().unwrap(), []);
    nft(
        &machine,
        "add table inet hosts; add chain inet hosts passing { type filter hook forward priority 5; policy drop; }",
    );
    let told = networks.notices().unwrap();
    let interface_name = networks.get(BRIDGE).unwrap().bridge.unwrap().interface;
    let expected = Notice::ForwardDropped {
        family: "inet".to_owned(),
        table: "hosts".to_owned(),
        chain: "passing".to_owned(),
        bridges: vec![interface_name.clone()],
        relayed: false,
    };
    assert_eq!(told[0], expected);
    assert!(told[1].to_string().contains("8080/tcp"), "{told:?}");
    // No way around it, not even with another connection or after our rules are made again.
    assert!(refused(machine.world.as_fd(), UPLINK, 8080));
    assert!(dial(container.namespace.as_fd(), SERVER).is_err());
    networks.shared.host.lock().unwrap().doubt_rules();
    let other = Container::new(&networks);
    machine.connect(&networks, &other.request()).unwrap();
    assert!(refused(machine.world.as_fd(), UPLINK, 8080));
    // The host itself forwards nothing, and its owner can let it pass.
    reach(machine.host.as_fd(), interface(&endpoint).gateway.unwrap(), 8080, &listener);
    nft(
        &machine,
        &format!(
            "add rule inet hosts passing oifname {interface_name} accept; add rule inet hosts passing iifname {interface_name} accept"
        ),
    );
    reach(machine.world.as_fd(), UPLINK, 8080, &listener);
}

#[test]
fn relayed_ports_obey_what_the_host_lets_in() {
    let runtime = Runtime::start();
    let machine = Machine::new();
    let open = || runtime.open(&machine, &machine.settings().relay_ports(true));
    let networks = open();
    let container = Container::new(&networks);
    let udp = Publish { protocol: port::Protocol::Udp, port: 5000, ..publish([0; 4], 9090) };
    let local = publish([127, 0, 0, 1], 8081);
    let request = container.request().publish(vec![
        publish([0; 4], 8080),
        udp,
        local.clone(),
        Publish { host_address: Some(UPLINK.into()), ..local },
    ]);
    let endpoint = machine.connect(&networks, &request).unwrap();
    let gateway = interface(&endpoint).gateway.unwrap();
    let listener = listen(&container.namespace);
    let echo = in_network(container.namespace.as_fd(), || UdpSocket::bind("0.0.0.0:5000")).unwrap();
    echo.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    nft(&machine, "add table inet hosts; add chain inet hosts in { type filter hook input priority 0; policy drop; }");
    nft(&machine, "add rule inet hosts in iifname != lan0 accept");
    assert!(refused(machine.world.as_fd(), UPLINK, 8080), "the host does not let it in");
    nft(&machine, "add rule inet hosts in tcp dport 8080 accept; add rule inet hosts in udp dport 9090 accept");
    // What is sent passes both ways, and so does the end.
    let mut client = in_network(machine.world.as_fd(), || TcpStream::connect((UPLINK, 8080))).unwrap();
    let (mut server, peer) = listener.accept().unwrap();
    assert_eq!(peer.ip(), IpAddr::V4(gateway));
    let much = vec![7; 3 << 20];
    let sent = much.clone();
    let sending = std::thread::spawn(move || {
        client.write_all(&sent).unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).unwrap();
        answer
    });
    let mut received = Vec::new();
    server.read_to_end(&mut received).unwrap();
    assert!(received == much);
    server.write_all(b"thanks").unwrap();
    drop(server);
    assert_eq!(sending.join().unwrap(), b"thanks");
    let asking = in_network(machine.world.as_fd(), || UdpSocket::bind("0.0.0.0:0")).unwrap();
    asking.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    asking.connect((UPLINK, 9090)).unwrap();
    let mut buffer = [0; 16];
    for question in [b"one", b"two"] {
        asking.send(question).unwrap();
        let (length, from) = echo.recv_from(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], question);
        echo.send_to(b"yes", from).unwrap();
        assert_eq!(asking.recv(&mut buffer).unwrap(), 3);
    }
    // An answer comes from the address that was asked, which may not be the one that the host would take.
    let second = Ipv4Addr::new(198, 51, 100, 9);
    {
        let mut route = in_network(machine.host.as_fd(), || Netlink::open(Protocol::Route)).unwrap();
        let lan = link::find_link(&mut route, "lan0").unwrap().unwrap();
        route.request(&mut [link::add_address(lan.index, second, Subnet::of(second, 24).unwrap())]).unwrap();
    }
    asking.connect((second, 9090)).unwrap();
    asking.send(b"two").unwrap();
    let (_, from) = echo.recv_from(&mut buffer).unwrap();
    echo.send_to(b"yes", from).unwrap();
    assert_eq!(asking.recv(&mut buffer).unwrap(), 3);
    assert!(networks.in_use().unwrap().ports.is_empty(), "nothing is translated");
    // The next engine goes on with it, but for what somebody has taken meanwhile.
    drop(networks);
    let networks = open();
    let taken = || in_network(machine.host.as_fd(), || TcpListener::bind("127.0.0.1:8081"));
    wait_until(|| taken().is_ok());
    let program = taken().unwrap();
    machine.restore(&networks);
    reach(machine.world.as_fd(), UPLINK, 8080, &listener);
    reach(machine.host.as_fd(), UPLINK, 8081, &listener);
    reach(machine.host.as_fd(), Ipv4Addr::LOCALHOST, 8081, &program);
    networks.disconnect_blocking(&container.id).unwrap();
    wait_until(|| in_network(machine.host.as_fd(), || TcpListener::bind("0.0.0.0:8080")).is_ok());
    assert!(refused(machine.world.as_fd(), UPLINK, 8080));
}
