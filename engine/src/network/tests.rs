//! Against the kernel: a machine of its own in a network namespace, with an uplink to a server in another one.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use engine_sys::namespace::{in_network, new_network};
use engine_sys::netlink::{Netlink, Protocol};

use super::*;

mod closed;
mod custom;
mod defaults;
mod killed;
mod lookups;
mod more;
mod ways;

/// A network of this name on this bridge, in use.
pub(super) fn network(name: &str, interface: &str, subnet: Subnet) -> Network {
    let v4 = Some(Block::whole(subnet, true));
    let bridge = Bridge {
        interface: interface.to_owned(),
        addresses: Addresses { v4, v6: None, auxiliary: BTreeMap::new() },
        settled: true,
        mtu: None,
        inter_container: true,
        masquerade: true,
        masquerade_v6: true,
        internal: false,
        host_binding: None,
        interface_prefix: None,
        gateway_mode: GatewayMode::Nat,
        gateway_mode_v6: GatewayMode::Nat,
        inhibit_v4: false,
        trusted: Vec::new(),
        direct_routing: false,
        guarded: false,
        without_host: false,
        without_metadata: false,
    };
    Network {
        id: NetworkId::random(),
        name: name.to_owned(),
        driver: Driver::Bridge,
        created_nanos: 0,
        bridge: Some(bridge),
        direct: None,
        labels: BTreeMap::new(),
        options: BTreeMap::new(),
        address_options: None,
        internal: false,
        attachable: false,
        template: None,
        config_from: None,
    }
}

/// An endpoint with this address on a network of this name.
pub(super) fn endpoint(network: &str, address: &str) -> Endpoint {
    let address: Ipv4Addr = address.parse().unwrap();
    let block = Subnet::of(address, 24).unwrap();
    Endpoint {
        id: crate::id::EndpointId::random(),
        network: NetworkId::random(),
        network_name: network.to_owned(),
        container: ContainerId::random(),
        interface: Some(Interface {
            name: "eth0".to_owned(),
            host_name: "veth0".to_owned(),
            address: Some(address),
            prefix_len: 24,
            gateway: block.at(1),
            v6: None,
            link_local: Vec::new(),
            mac: MacAddress::of(address),
            ports: Vec::new(),
        }),
        names: Vec::new(),
        links: Vec::new(),
        priority: 0,
    }
}

const UPLINK: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const SERVER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);

/// A machine that has no part in the real one's network, and the outside world beside it.
struct Machine {
    host: OwnedFd,
    world: NetworkNamespace,
    root: tempfile::TempDir,
}

impl Machine {
    fn new() -> Self {
        let (host, mut route) = new_network(|| Netlink::open(Protocol::Route)).unwrap();
        // A namespace inherits the switch of the machine that the test runs on.
        in_network(host.as_fd(), || std::fs::write("/proc/sys/net/ipv4/ip_forward", "0")).unwrap();
        let world = NetworkNamespace::create_blocking().unwrap();
        let subnet = Subnet::of(UPLINK, 24).unwrap();
        route.request(&mut [link::make_bridge("lan0", MacAddress::random(), 1400)]).unwrap();
        let lan = link::find_link(&mut route, "lan0").unwrap().unwrap();
        let cable = link::Veth {
            host_name: "up0",
            bridge: lan.index,
            mtu: 1400,
            name: "eth0",
            mac: MacAddress::of(SERVER),
            namespace: world.as_fd(),
        };
        route.request(&mut [link::make_veth(cable)]).unwrap();
        let up = [link::bring_up(1), link::add_address(lan.index, UPLINK, subnet), link::bring_up(lan.index)];
        route.request(&mut up.into_iter().collect::<Vec<_>>()).unwrap();
        route.request(&mut [link::add_default_route(lan.index, SERVER, false)]).unwrap();
        {
            let mut inside = world.inside();
            let server = link::find_link(&mut inside, "eth0").unwrap().unwrap();
            let up = [link::bring_up(server.index), link::add_address(server.index, SERVER, subnet)];
            inside.request(&mut up.into_iter().collect::<Vec<_>>()).unwrap();
        }
        route.request(&mut [link::honour_carrier(0, "up0"), link::honour_carrier(lan.index, "")]).unwrap();
        Self { host, world, root: tempfile::tempdir().unwrap() }
    }

    fn settings(&self) -> Settings {
        Settings::at(self.root.path())
    }

    fn open(&self, settings: &Settings) -> Networks {
        self.try_open(settings).unwrap()
    }

    fn try_open(&self, settings: &Settings) -> Result<Networks, Error> {
        let state = State::open(self.root.path()).unwrap();
        in_network(self.host.as_fd(), || Ok(Networks::open(&state, &Events::new(), settings))).unwrap()
    }

    fn connect(&self, networks: &Networks, request: &Connect) -> Result<Endpoint, Error> {
        // The switches in /proc/sys are those of the thread's namespace.
        in_network(self.host.as_fd(), || Ok(networks.connect_blocking(request))).unwrap()
    }

    fn restore(&self, networks: &Networks) {
        in_network(self.host.as_fd(), || Ok(networks.restore_blocking())).unwrap().unwrap();
    }

    fn read_switch(&self, path: &str) -> String {
        in_network(self.host.as_fd(), || std::fs::read_to_string(path)).unwrap().trim().to_owned()
    }

    fn links(&self) -> Vec<String> {
        let mut route = in_network(self.host.as_fd(), || Netlink::open(Protocol::Route)).unwrap();
        link::links(&mut route).unwrap().into_iter().map(|link| link.name).filter(|name| name != "lo").collect()
    }

    fn filter(&self) -> Netlink {
        in_network(self.host.as_fd(), || Netlink::open(Protocol::Netfilter)).unwrap()
    }
}

/// A runtime that runs on a thread of its own until it is dropped.
struct Runtime {
    handle: tokio::runtime::Handle,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Runtime {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let handle = runtime.handle().clone();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let _ = runtime.block_on(stopped);
        });
        Self { handle, stop: Some(stop), thread: Some(thread) }
    }

    /// Networks that relay and answer on this runtime.
    fn open(&self, machine: &Machine, settings: &Settings) -> Networks {
        let state = State::open(machine.root.path()).unwrap();
        let opened = in_network(machine.host.as_fd(), || {
            let _inside = self.handle.enter();
            Ok(Networks::open(&state, &Events::new(), settings))
        });
        opened.unwrap().unwrap()
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A container as far as networks are concerned.
struct Container {
    id: ContainerId,
    namespace: NetworkNamespace,
}

impl Container {
    fn new(networks: &Networks) -> Self {
        let id = ContainerId::random();
        let insert = |tx: &mut Transaction<'_>| tx.insert(Table::Container, id.as_str(), "a container");
        networks.shared.state.write(Durability::Process, insert).unwrap();
        Self { id, namespace: NetworkNamespace::create_blocking().unwrap() }
    }

    fn request(&self) -> Connect {
        Connect::new(self.id, BRIDGE).namespace(&self.namespace)
    }
}

/// The tables that there should be.
fn wanted_tables(networks: &Networks) -> Vec<firewall::Ruleset> {
    firewall::tables(&networks.shared.policy.table, &networks.in_use().unwrap())
}

fn wanted_rules(networks: &Networks) -> firewall::Ruleset {
    wanted_tables(networks).into_iter().next().unwrap_or_else(|| {
        let (family, table) = (firewall::Family::Ipv4, networks.shared.policy.table.clone());
        firewall::Ruleset { family, table, sets: Vec::new(), chains: Vec::new() }
    })
}

fn interface(endpoint: &Endpoint) -> &Interface {
    endpoint.interface.as_ref().unwrap()
}

fn listen(namespace: &NetworkNamespace) -> TcpListener {
    in_network(namespace.as_fd(), || TcpListener::bind((Ipv4Addr::UNSPECIFIED, 4000))).unwrap()
}

/// Tries for long enough to be sure, but not for as long as TCP would.
fn dial(namespace: impl AsFd, address: Ipv4Addr) -> std::io::Result<TcpStream> {
    in_network(namespace.as_fd(), || TcpStream::connect_timeout(&(address, 4000).into(), Duration::from_millis(400)))
}

/// Says "hi" over a connection and returns whom the listener saw.
fn talk(from: impl AsFd, listener: &TcpListener, to: Ipv4Addr) -> Ipv4Addr {
    let mut client = in_network(from.as_fd(), || TcpStream::connect((to, 4000))).unwrap();
    let (mut server, peer) = listener.accept().unwrap();
    client.write_all(b"hi").unwrap();
    let mut bytes = [0; 2];
    server.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"hi");
    match peer.ip() {
        std::net::IpAddr::V4(address) => address,
        std::net::IpAddr::V6(address) => panic!("{address}"),
    }
}

#[test]
fn containers_reach_each_other_the_host_and_the_world() {
    let machine = Machine::new();
    let networks = machine.open(&machine.settings());
    let (one, two) = (Container::new(&networks), Container::new(&networks));
    let first = machine.connect(&networks, &one.request()).unwrap();
    let second = machine.connect(&networks, &two.request()).unwrap();
    let (first, second) = (interface(&first), interface(&second));
    assert_eq!(
        (first.address.unwrap(), first.gateway.unwrap()),
        (Ipv4Addr::new(172, 17, 0, 2), Ipv4Addr::new(172, 17, 0, 1))
    );
    assert_eq!((second.address.unwrap(), second.prefix_len), (Ipv4Addr::new(172, 17, 0, 3), 16));
    assert_eq!(second.mac.to_string(), "02:42:ac:11:00:03");

    let listener = listen(&two.namespace);
    assert_eq!(talk(one.namespace.as_fd(), &listener, second.address.unwrap()), first.address.unwrap());
    assert_eq!(talk(machine.host.as_fd(), &listener, second.address.unwrap()), first.gateway.unwrap());
    // The world sees the host's address only.
    let server = listen(&machine.world);
    assert_eq!(talk(one.namespace.as_fd(), &server, SERVER), UPLINK);
}

#[test]
fn the_world_does_not_reach_containers_around_the_ports() {
    let machine = Machine::new();
    let networks = machine.open(&machine.settings());
    let container = Container::new(&networks);
    let endpoint = machine.connect(&networks, &container.request()).unwrap();
    let address = interface(&endpoint).address.unwrap();
    let _listener = listen(&container.namespace);
    {
        // The neighbour sends packets for the containers to the host, as anybody on its link can.
        let mut inside = machine.world.inside();
        let eth0 = link::find_link(&mut inside, "eth0").unwrap().unwrap();
        inside.request(&mut [link::add_default_route(eth0.index, UPLINK, false)]).unwrap();
    }
    assert!(dial(machine.world.as_fd(), address).is_err());
    firewall::remove(&mut machine.filter(), &networks.shared.policy.table).unwrap();
    assert!(dial(machine.world.as_fd(), address).is_ok(), "it is the rules that protect");
    // The next connection, of whomever, brings them back.
    let other = Container::new(&networks);
    machine.connect(&networks, &other.request()).unwrap();
    assert!(dial(machine.world.as_fd(), address).is_err());
}

fn publish(address: [u8; 4], host_port: u16) -> Publish {
    let host_ports = (host_port > 0).then_some(host_port..=host_port);
    Publish { protocol: port::Protocol::Tcp, port: 4000, host_address: Some(IpAddr::V4(address.into())), host_ports }
}

/// Connects to the machine's port and expects the container to answer.
fn reach(from: impl AsFd, address: Ipv4Addr, port: u16, listener: &TcpListener) -> Ipv4Addr {
    // A lost packet is sent again within that time, for what the kernel before 6.8 loses.
    let patience = Duration::from_secs(10);
    let _client = in_network(from.as_fd(), || TcpStream::connect_timeout(&(address, port).into(), patience)).unwrap();
    match listener.accept().unwrap().1.ip() {
        std::net::IpAddr::V4(address) => address,
        std::net::IpAddr::V6(address) => panic!("{address}"),
    }
}

fn refused(from: impl AsFd, address: Ipv4Addr, port: u16) -> bool {
    let patience = Duration::from_millis(400);
    in_network(from.as_fd(), || TcpStream::connect_timeout(&(address, port).into(), patience)).is_err()
}

#[test]
fn published_ports_are_reached_from_everywhere() {
    let machine = Machine::new();
    let networks = machine.open(&machine.settings());
    let (one, two) = (Container::new(&networks), Container::new(&networks));
    let request = one.request().publish(vec![publish([0; 4], 8080), publish([0; 4], 0)]);
    let endpoint = machine.connect(&networks, &request).unwrap();
    machine.connect(&networks, &two.request()).unwrap();
    let chosen = interface(&endpoint).ports[1].host_port;
    let gateway = interface(&endpoint).gateway.unwrap();
    let listener = listen(&one.namespace);
    for port in [8080, chosen] {
        // The container sees who comes from outside.
        assert_eq!(reach(machine.world.as_fd(), UPLINK, port, &listener), SERVER);
        assert_eq!(reach(machine.host.as_fd(), Ipv4Addr::LOCALHOST, port, &listener), gateway);
        reach(machine.host.as_fd(), UPLINK, port, &listener);
        assert_eq!(reach(two.namespace.as_fd(), UPLINK, port, &listener), gateway);
        reach(two.namespace.as_fd(), gateway, port, &listener);
        reach(one.namespace.as_fd(), gateway, port, &listener);
    }
    let taken = machine.connect(&networks, &Container::new(&networks).request().publish(vec![publish([0; 4], 8080)]));
    let taken = taken.unwrap_err().to_string();
    let words = "failed to set up container networking: driver failed programming external connectivity on endpoint ";
    assert!(taken.starts_with(words), "{taken}");
    assert!(taken.ends_with("): Bind for 0.0.0.0:8080 failed: port is already allocated"), "{taken}");
    assert!(in_network(machine.host.as_fd(), || TcpListener::bind("0.0.0.0:8080")).is_err());

    let before = networks.endpoints(&endpoint.network).unwrap().len();
    networks.disconnect_blocking(&one.id).unwrap();
    assert_eq!(networks.endpoints(&endpoint.network).unwrap().len(), before - 1);
    assert!(firewall::is_in_place(&mut machine.filter(), &wanted_rules(&networks)).unwrap());
    assert!(networks.in_use().unwrap().ports.is_empty());
    assert!(networks.shared.state.read(|look| look.keys(Table::Port)).unwrap().is_empty());
    assert!(in_network(machine.host.as_fd(), || TcpListener::bind("0.0.0.0:8080")).is_ok());
}

#[test]
fn ten_thousand_ports_in_a_row_are_one_and_lead_each_to_its_own() {
    let machine = Machine::new();
    let networks = machine.open(&machine.settings());
    let one = Container::new(&networks);
    let row = |first: u16, count: u16, by: u16, protocol| {
        (0..count).map(move |at| Publish {
            protocol,
            port: first + at,
            host_address: Some(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
            host_ports: Some(first + by + at..=first + by + at),
        })
    };
    let tcp = port::Protocol::Tcp;
    // A process may have this many sockets; the row is as long as that allows here.
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, raised).unwrap();
    let count = if limit.maximum.is_none_or(|most| most > 12000) { 10000 } else { 500 };
    let ports = row(3000, count, 0, tcp).chain(row(20000, 40, 1000, tcp)).collect();
    let endpoint = machine.connect(&networks, &one.request().publish(ports)).unwrap();
    let published = &interface(&endpoint).ports;
    assert_eq!(published.iter().map(|row| row.count).collect::<Vec<_>>(), [count, 40]);
    assert_eq!(networks.shared.state.read(|look| look.keys(Table::Port)).unwrap().len(), 2);
    // The last one, the one that is listened at, and one that is moved.
    let listener = listen(&one.namespace);
    if count > 1000 {
        assert_eq!(reach(machine.world.as_fd(), UPLINK, 4000, &listener), SERVER);
    }
    let at = |port| in_network(one.namespace.as_fd(), || TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))).unwrap();
    if count > 9000 {
        reach(machine.host.as_fd(), Ipv4Addr::LOCALHOST, 3000 + count - 1, &at(3000 + count - 1));
    }
    reach(machine.world.as_fd(), UPLINK, 21007, &at(20007));
    assert!(refused(machine.world.as_fd(), UPLINK, 20007));
    // Somebody else in the middle of it.
    let other = Container::new(&networks).request().publish(vec![publish([0; 4], 3333)]);
    let taken = machine.connect(&networks, &other).unwrap_err().to_string();
    assert!(taken.ends_with("Bind for 0.0.0.0:3333 failed: port is already allocated"), "{taken}");
    assert!(in_network(machine.host.as_fd(), || TcpListener::bind("0.0.0.0:3333")).is_err());
    networks.disconnect_blocking(&one.id).unwrap();
    assert!(networks.shared.state.read(|look| look.keys(Table::Port)).unwrap().is_empty());
    assert!(firewall::is_in_place(&mut machine.filter(), &wanted_rules(&networks)).unwrap());
}

#[test]
fn ports_of_the_loopback_are_for_the_host_only() {
    let machine = Machine::new();
    let networks = machine.open(&machine.settings());
    let (one, two) = (Container::new(&networks), Container::new(&networks));
    let endpoint = machine.connect(&networks, &one.request().publish(vec![publish([127, 0, 0, 1], 8080)])).unwrap();
    machine.connect(&networks, &two.request()).unwrap();
    let listener = listen(&one.namespace);
    reach(machine.host.as_fd(), Ipv4Addr::LOCALHOST, 8080, &listener);
    assert!(refused(machine.world.as_fd(), UPLINK, 8080));
    assert!(refused(two.namespace.as_fd(), interface(&endpoint).gateway.unwrap(), 8080));
    // Neither by sending what is for the loopback over the wire.
    let secret = in_network(machine.host.as_fd(), || TcpListener::bind("127.0.0.1:9090")).unwrap();
    for (namespace, gateway) in [(&two.namespace, interface(&endpoint).gateway.unwrap()), (&machine.world, UPLINK)] {
        in_network(namespace.as_fd(), || std::fs::write("/proc/sys/net/ipv4/conf/eth0/route_localnet", "1")).unwrap();
        let mut inside = namespace.inside();
        let eth0 = link::find_link(&mut inside, "eth0").unwrap().unwrap();
        // Away with the own loopback, and the neighbour's is reached by its gateway.
        inside
            .request(&mut [link::delete_address(1, Ipv4Addr::LOCALHOST, Subnet::of(Ipv4Addr::LOCALHOST, 8).unwrap())])
            .unwrap();
        if link::routes::<Ipv4Addr>(&mut inside).unwrap().uplink.is_none() {
            inside.request(&mut [link::add_default_route(eth0.index, gateway, false)]).unwrap();
        }
        drop(inside);
        for port in [8080, 9090] {
            assert!(refused(namespace.as_fd(), Ipv4Addr::LOCALHOST, port), "{gateway} {port}");
        }
    }
    firewall::remove(&mut machine.filter(), &networks.shared.policy.table).unwrap();
    assert!(!refused(two.namespace.as_fd(), Ipv4Addr::LOCALHOST, 9090), "it is the rules that protect");
    drop(secret);
}

#[test]
fn published_ports_survive_the_engine_and_a_flush() {
    let machine = Machine::new();
    let networks = machine.open(&machine.settings());
    let container = Container::new(&networks);
    machine.connect(&networks, &container.request().publish(vec![publish([0; 4], 8080)])).unwrap();
    drop(networks);
    let listener = listen(&container.namespace);
    reach(machine.world.as_fd(), UPLINK, 8080, &listener);

    let networks = machine.open(&machine.settings());
    firewall::remove(&mut machine.filter(), &networks.shared.policy.table).unwrap();
    machine.restore(&networks);
    reach(machine.world.as_fd(), UPLINK, 8080, &listener);
    assert!(in_network(machine.host.as_fd(), || TcpListener::bind("0.0.0.0:8080")).is_err());
    // Gone behind our back, they are no obstacle to leaving.
    firewall::remove(&mut machine.filter(), &networks.shared.policy.table).unwrap();
    networks.disconnect_blocking(&container.id).unwrap();
    assert!(firewall::is_in_place(&mut machine.filter(), &wanted_rules(&networks)).unwrap());
    assert!(networks.teardown_blocking().unwrap());
}

#[test]
fn kept_apart_containers_do_not_reach_each_other() {
    let machine = Machine::new();
    let mut settings = machine.settings();
    settings.bridge.inter_container = false;
    let networks = machine.open(&settings);
    let (one, two) = (Container::new(&networks), Container::new(&networks));
    machine.connect(&networks, &one.request()).unwrap();
    let second = machine.connect(&networks, &two.request()).unwrap();
    let listener = listen(&two.namespace);
    assert!(dial(one.namespace.as_fd(), interface(&second).address.unwrap()).is_err());
    let server = listen(&machine.world);
    assert_eq!(talk(one.namespace.as_fd(), &server, SERVER), UPLINK);
    talk(machine.host.as_fd(), &listener, interface(&second).address.unwrap());
}

#[test]
fn the_bridge_is_made_late_and_as_it_should_be() {
    let machine = Machine::new();
    let networks = machine.open(&machine.settings());
    let before = networks.get(BRIDGE).unwrap().bridge.unwrap();
    assert!(!before.settled && before.addresses.v4.unwrap().subnet.to_string() == "172.17.0.0/16");
    assert_eq!(machine.links(), ["lan0", "up0"]);
    let container = Container::new(&networks);
    machine.connect(&networks, &container.request()).unwrap();
    let bridge = networks.get(BRIDGE).unwrap().bridge.unwrap();
    assert!(bridge.settled && bridge.interface.starts_with("eng"));
    let mut route = in_network(machine.host.as_fd(), || Netlink::open(Protocol::Route)).unwrap();
    let link = link::find_link(&mut route, &bridge.interface).unwrap().unwrap();
    assert_eq!((link.mtu, link.up, link.kind.as_str()), (1400, true, "bridge"));
    let switch = |name| machine.read_switch(&format!("/proc/sys/net/ipv6/conf/{}/{name}", bridge.interface));
    assert_eq!((switch("accept_ra"), switch("disable_ipv6")), ("0".to_owned(), "1".to_owned()));
    assert_eq!(machine.read_switch("/proc/sys/net/ipv4/ip_forward"), "1");
    let inside =
        in_network(container.namespace.as_fd(), || std::fs::read_to_string("/proc/thread-self/net/if_inet6")).unwrap();
    assert!(!inside.contains("eth0"), "{inside}");
}

#[test]
fn forwarding_is_turned_on_without_making_a_router() {
    let machine = Machine::new();
    assert_eq!(machine.read_switch("/proc/sys/net/ipv4/ip_forward"), "0");
    let networks = machine.open(&machine.settings());
    let container = Container::new(&networks);
    machine.connect(&networks, &container.request()).unwrap();
    let guard = networks.shared.state.read(watch::remembered_guards).unwrap().remove(0);
    assert_eq!(guard.sets[0].interfaces(), ["lan0"]);
    assert!(firewall::is_in_place(&mut machine.filter(), &guard).unwrap());
    // Another engine on this root keeps it too.
    firewall::remove(&mut machine.filter(), &guard.table).unwrap();
    let other = machine.open(&machine.settings());
    machine.restore(&other);
    assert!(firewall::is_in_place(&mut machine.filter(), &guard).unwrap());
}

#[test]
fn a_host_that_forwards_already_is_left_alone() {
    let machine = Machine::new();
    in_network(machine.host.as_fd(), || std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")).unwrap();
    let networks = machine.open(&machine.settings());
    let container = Container::new(&networks);
    machine.connect(&networks, &container.request()).unwrap();
    assert!(networks.shared.state.read(watch::remembered_guards).unwrap().is_empty());
}

#[test]
fn a_hundred_connections_leave_nothing() {
    let machine = Machine::new();
    let networks = machine.open(&machine.settings());
    let mut generation = None;
    for _ in 0..100 {
        let container = Container::new(&networks);
        machine.connect(&networks, &container.request()).unwrap();
        networks.disconnect_blocking(&container.id).unwrap();
        let now = firewall::generation(&mut machine.filter()).unwrap();
        assert_eq!(*generation.get_or_insert(now), now, "a connection changes no rule");
    }
    let look = |table| networks.shared.state.read(|look| look.keys(table)).unwrap();
    assert!(look(Table::Address).is_empty());
    assert!(look(Table::Endpoint).is_empty());
    let bridge = networks.get(BRIDGE).unwrap().bridge.unwrap().interface;
    wait_until(|| machine.links() == ["lan0", "up0", &bridge]);
    assert!(networks.teardown_blocking().unwrap());
    assert_eq!(machine.links(), ["lan0", "up0"]);
    let nothing = firewall::Ruleset { sets: vec![], chains: vec![], ..wanted_rules(&networks) };
    assert!(firewall::is_in_place(&mut machine.filter(), &nothing).unwrap());
}

/// The kernel removes the interfaces of a dead namespace when it has time.
fn wait_until(mut done: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(60), "it never came to that");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn networks_in_use_are_not_torn_down_and_come_up_again_after_it() {
    let machine = Machine::new();
    let networks = machine.open(&machine.settings());
    let container = Container::new(&networks);
    machine.connect(&networks, &container.request()).unwrap();
    assert!(!networks.teardown_blocking().unwrap());
    networks.disconnect_blocking(&container.id).unwrap();
    // By another engine on the same root, behind the back of the first.
    assert!(machine.open(&machine.settings()).teardown_blocking().unwrap());
    let next = Container::new(&networks);
    let endpoint = machine.connect(&networks, &next.request()).unwrap();
    assert_eq!(talk(next.namespace.as_fd(), &listen(&machine.world), SERVER), UPLINK);
    assert_eq!(interface(&endpoint).address.unwrap(), Ipv4Addr::new(172, 17, 0, 2));
}

#[test]
fn a_bridge_that_somebody_removed_is_made_again() {
    let machine = Machine::new();
    let networks = machine.open(&machine.settings());
    let container = Container::new(&networks);
    machine.connect(&networks, &container.request()).unwrap();
    let bridge = networks.get(BRIDGE).unwrap().bridge.unwrap();
    let mut route = in_network(machine.host.as_fd(), || Netlink::open(Protocol::Route)).unwrap();
    route.request(&mut [link::delete_link_named(&bridge.interface)]).unwrap();
    let next = Container::new(&networks);
    machine.connect(&networks, &next.request()).unwrap();
    assert_eq!(talk(next.namespace.as_fd(), &listen(&machine.world), SERVER), UPLINK);
}

#[test]
fn an_interrupted_connection_is_cleaned_up_by_the_next_start() {
    let machine = Machine::new();
    let networks = machine.open(&machine.settings());
    let gone = Container::new(&networks);
    machine.connect(&networks, &gone.request()).unwrap();
    // As if the engine died here, and the container's record was never written or has been removed.
    let delete = |tx: &mut Transaction<'_>| {
        tx.delete(Table::Container, gone.id.as_str())?;
        tx.put(Table::Address, &lease::key(&NetworkId::random(), UPLINK), &lease::Lease { container: gone.id })
    };
    networks.shared.state.write(Durability::Process, delete).unwrap();
    drop((networks, gone));
    let networks = machine.open(&machine.settings());
    machine.restore(&networks);
    let look = |table| networks.shared.state.read(|look| look.keys(table)).unwrap();
    assert!(look(Table::Address).is_empty() && look(Table::Endpoint).is_empty());
    assert!(networks.teardown_blocking().unwrap());
    wait_until(|| machine.links() == ["lan0", "up0"]);
}

/// A process that connects containers is killed wherever it is; the next one cleans up after it.
#[test]
fn a_killed_engine_leaves_nothing_that_the_next_does_not_clean() {
    const ROOT: &str = "ENGINE_NETWORK_TEST_ROOT";
    if let Some(root) = std::env::var_os(ROOT) {
        let state = State::open(Path::new(&root)).unwrap();
        let networks = Networks::open(&state, &Events::new(), &Settings::at(&root)).unwrap();
        let start = std::time::Instant::now();
        // In case that nobody kills it.
        while start.elapsed() < Duration::from_secs(30) {
            let id = ContainerId::random();
            let namespace = NetworkNamespace::create_blocking().unwrap();
            let row = (0..20).map(|at| Publish { port: 5000 + at, ..publish([0; 4], 5000 + at) });
            let ports = row.chain([publish([0; 4], 0)]).collect();
            networks.connect_blocking(&Connect::new(id, BRIDGE).namespace(&namespace).publish(ports)).unwrap();
            std::fs::write(Path::new(&root).join("running"), "").unwrap();
            // The ports go over to it, and away with it.
            networks.connect_blocking(&Connect::new(id, "other").namespace(&namespace)).unwrap();
            networks.detach_blocking(&id, BRIDGE, Some(&namespace), &[]).unwrap();
            networks.disconnect_blocking(&id).unwrap();
        }
        return;
    }
    let machine = Machine::new();
    custom::make(&machine, &machine.open(&machine.settings()), &NetworkSpec::new("other")).unwrap();
    let running = machine.root.path().join("running");
    for round in 0..12 {
        let mut child = in_network(machine.host.as_fd(), || {
            std::process::Command::new(std::env::current_exe()?)
                .args(["--exact", "network::tests::a_killed_engine_leaves_nothing_that_the_next_does_not_clean"])
                .env(ROOT, machine.root.path())
                .stdout(std::process::Stdio::null())
                .spawn()
        })
        .unwrap();
        wait_until(|| running.exists());
        std::thread::sleep(Duration::from_micros(900 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        std::fs::remove_file(&running).unwrap();
        let networks = machine.open(&machine.settings());
        machine.restore(&networks);
        for table in [Table::Address, Table::Endpoint, Table::Port] {
            assert!(networks.shared.state.read(|look| look.keys(table)).unwrap().is_empty(), "{table}");
        }
        assert!(networks.teardown_blocking().unwrap());
        wait_until(|| machine.links() == ["lan0", "up0"]);
    }
}

#[test]
fn restore_brings_bridge_and_rules_back() {
    let machine = Machine::new();
    let networks = machine.open(&machine.settings());
    let container = Container::new(&networks);
    machine.connect(&networks, &container.request()).unwrap();
    let bridge = networks.get(BRIDGE).unwrap().bridge.unwrap();
    let mut route = in_network(machine.host.as_fd(), || Netlink::open(Protocol::Route)).unwrap();
    route.request(&mut [link::delete_link_named(&bridge.interface)]).unwrap();
    firewall::remove(&mut machine.filter(), &networks.shared.policy.table).unwrap();
    drop(networks);

    let networks = machine.open(&machine.settings());
    machine.restore(&networks);
    machine.restore(&networks);
    assert!(machine.links().contains(&bridge.interface));
    let rules = wanted_rules(&networks);
    assert!(!rules.chains[0].rules.is_empty());
    assert!(firewall::is_in_place(&mut machine.filter(), &rules).unwrap());
}

#[test]
fn a_failed_connection_leaves_nothing() {
    let machine = Machine::new();
    let networks = machine.open(&machine.settings());
    let container = Container::new(&networks);
    let endpoint = machine.connect(&networks, &container.request()).unwrap();
    let again = machine.connect(&networks, &container.request()).unwrap_err();
    assert_eq!(again.kind(), crate::error::ErrorKind::Denied, "{again}");
    // Another container whose namespace has an eth0 already.
    let other = Container { id: ContainerId::random(), namespace: container.namespace.clone() };
    let taken = machine.connect(&networks, &other.request()).unwrap_err();
    assert!(taken.to_string().contains("File exists"), "{taken}");
    assert_eq!(networks.endpoints(&endpoint.network).unwrap(), std::slice::from_ref(&endpoint));
    assert_eq!(machine.links().len(), 4, "{:?}", machine.links());
    let address = Some(interface(&endpoint).address.unwrap());
    let third = Container::new(&networks);
    let in_use = machine.connect(&networks, &third.request().address(address)).unwrap_err();
    assert_eq!(in_use.to_string(), "Address already in use: 172.17.0.2 of network bridge");
}

#[test]
fn a_container_is_taken_off_a_network_while_it_lives() {
    let machine = Machine::new();
    let networks = machine.open(&machine.settings());
    let container = Container::new(&networks);
    machine.connect(&networks, &container.request()).unwrap();
    networks.detach_blocking(&container.id, BRIDGE, Some(&container.namespace), &[]).unwrap();
    assert_eq!(machine.links().len(), 3);
    let missing = networks.detach_blocking(&container.id, BRIDGE, Some(&container.namespace), &[]).unwrap_err();
    assert!(missing.to_string().contains("is not connected to network bridge"), "{missing}");
    let back = machine.connect(&networks, &container.request()).unwrap();
    assert_eq!(interface(&back).address.unwrap(), Ipv4Addr::new(172, 17, 0, 3));
}

#[test]
fn host_and_none_connect_nothing_but_are_remembered() {
    let machine = Machine::new();
    let networks = machine.open(&machine.settings());
    let container = Container::new(&networks);
    for name in [HOST, NONE] {
        let endpoint = machine.connect(&networks, &Connect::new(container.id, name)).unwrap();
        assert_eq!((endpoint.interface.as_ref(), endpoint.network_name.as_str()), (None, name));
        let address = Connect::new(container.id, name).address(Some(SERVER));
        assert!(matches!(machine.connect(&networks, &address), Err(Error::Invalid { .. })));
    }
    assert_eq!(networks.endpoints_of(&container.id).unwrap().len(), 2);
    assert!(matches!(machine.connect(&networks, &Connect::new(container.id, BRIDGE)), Err(Error::NoNamespace { .. })));
    networks.disconnect_blocking(&container.id).unwrap();
    networks.disconnect_blocking(&container.id).unwrap();
    assert!(networks.endpoints_of(&container.id).unwrap().is_empty());
    assert_eq!(machine.links(), ["lan0", "up0"]);
}

#[test]
fn networks_are_found_by_id_name_and_prefix_and_keep_their_ids() {
    let machine = Machine::new();
    let networks = machine.open(&machine.settings());
    let bridge = networks.get(BRIDGE).unwrap();
    assert_eq!(networks.get(bridge.id.as_str()).unwrap(), bridge);
    assert_eq!(networks.get(bridge.id.short()).unwrap(), bridge);
    let missing = networks.get("nope").unwrap_err();
    assert_eq!(missing.to_string(), "network nope not found");
    assert_eq!(missing.kind(), crate::error::ErrorKind::NotFound);
    let names: Vec<_> = networks.list().unwrap().into_iter().map(|network| network.name).collect();
    assert_eq!(names, ["bridge", "host", "none"]);
    assert_eq!(machine.open(&machine.settings()).get(BRIDGE).unwrap().id, bridge.id);
    let mut disabled = machine.settings();
    disabled.bridge = BridgeSettings::disabled();
    let disabled = machine.open(&disabled);
    assert!(matches!(disabled.get(BRIDGE), Err(Error::NotFound { .. })));
    assert_eq!(disabled.list().unwrap().len(), 2);
}

#[test]
fn settings_decide_the_bridge_until_somebody_is_connected() {
    let machine = Machine::new();
    let ten = |third| {
        let address = Ipv4Addr::new(10, 20, third, 1);
        Settings { bridge: BridgeSettings::default().name("eng-test").address(address, 24), ..machine.settings() }
    };
    let bridge = |networks: &Networks| networks.get(BRIDGE).unwrap().bridge.unwrap();
    assert_eq!(bridge(&machine.open(&ten(1))).addresses.v4.unwrap().subnet.to_string(), "10.20.1.0/24");
    let networks = machine.open(&ten(2));
    let container = Container::new(&networks);
    let endpoint = machine.connect(&networks, &container.request()).unwrap();
    assert_eq!(interface(&endpoint).address.unwrap(), Ipv4Addr::new(10, 20, 2, 2));
    assert_eq!(bridge(&machine.open(&ten(3))).addresses.v4.unwrap().subnet.to_string(), "10.20.2.0/24");
    networks.disconnect_blocking(&container.id).unwrap();

    let networks = machine.open(&ten(3));
    let container = Container::new(&networks);
    let endpoint = machine.connect(&networks, &container.request()).unwrap();
    assert_eq!(interface(&endpoint).gateway.unwrap(), Ipv4Addr::new(10, 20, 3, 1));
    assert_eq!(talk(container.namespace.as_fd(), &listen(&machine.world), SERVER), UPLINK);
    let mut route = in_network(machine.host.as_fd(), || Netlink::open(Protocol::Route)).unwrap();
    let on_bridge: Vec<_> = link::addresses(&mut route).unwrap().into_iter().map(|(_, address, _)| address).collect();
    assert!(!on_bridge.contains(&Ipv4Addr::new(10, 20, 2, 1)), "{on_bridge:?}");
    for (name, address, prefix_len) in
        [("a/b", [10, 0, 0, 1], 24), ("", [10, 0, 0, 1], 24), ("x", [10, 0, 0, 0], 24), ("x", [10, 0, 0, 1], 31)]
    {
        let wrong = BridgeSettings::default().name(name).address(address.into(), prefix_len);
        let error = machine.try_open(&Settings { bridge: wrong, ..machine.settings() }).unwrap_err();
        assert_eq!(error.kind(), crate::error::ErrorKind::Invalid, "{error}");
    }
}

#[test]
fn engines_on_two_roots_live_side_by_side() {
    let machine = Machine::new();
    let other_root = tempfile::tempdir().unwrap();
    let one = machine.open(&machine.settings());
    let state = State::open(other_root.path()).unwrap();
    let settings = Settings::at(other_root.path());
    let two =
        in_network(machine.host.as_fd(), || Ok(Networks::open(&state, &Events::new(), &settings))).unwrap().unwrap();
    // Both guess the same addresses; the one who comes second settles for others.
    assert_eq!(one.get(BRIDGE).unwrap().addresses(), two.get(BRIDGE).unwrap().addresses());
    let (first, second) = (Container::new(&one), Container::new(&two));
    machine.connect(&one, &first.request()).unwrap();
    let endpoint = machine.connect(&two, &second.request()).unwrap();
    assert_eq!(interface(&endpoint).address.unwrap(), Ipv4Addr::new(172, 18, 0, 2));
    let server = listen(&machine.world);
    assert_eq!(talk(first.namespace.as_fd(), &server, SERVER), UPLINK);
    assert_eq!(talk(second.namespace.as_fd(), &server, SERVER), UPLINK);
    let _listener = listen(&second.namespace);
    assert!(dial(first.namespace.as_fd(), interface(&endpoint).address.unwrap()).is_err(), "networks are kept apart");
}

#[test]
fn a_foreign_interface_of_the_bridges_name_is_not_touched() {
    let machine = Machine::new();
    let settings = Settings { bridge: BridgeSettings::default().name("up0"), ..machine.settings() };
    let networks = machine.open(&settings);
    let container = Container::new(&networks);
    let error = machine.connect(&networks, &container.request()).unwrap_err();
    assert!(matches!(error, Error::NoBridge { .. }), "{error}");
    // A bridge of the host's own is used, and stays when we go.
    let settings = Settings { bridge: BridgeSettings::default().name("lan0"), ..machine.settings() };
    let networks = machine.open(&settings);
    machine.connect(&networks, &container.request()).unwrap();
    networks.disconnect_blocking(&container.id).unwrap();
    assert!(networks.teardown_blocking().unwrap());
    drop(container);
    wait_until(|| machine.links() == ["lan0", "up0"]);
}

#[test]
fn rules_that_somebody_flushes_are_put_back() {
    let machine = Machine::new();
    let networks = machine.open(&machine.settings());
    let container = Container::new(&networks);
    machine.connect(&networks, &container.request()).unwrap();
    let table = networks.shared.policy.table.clone();
    let rules = wanted_rules(&networks);
    let watching = networks.clone();
    in_network(machine.host.as_fd(), || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let watch = tokio::spawn(watching.watch());
            tokio::time::sleep(Duration::from_millis(50)).await;
            firewall::remove(&mut machine.filter(), &table).unwrap();
            let start = std::time::Instant::now();
            while !firewall::is_in_place(&mut machine.filter(), &rules).unwrap() {
                assert!(start.elapsed() < Duration::from_secs(20), "nobody put them back");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            watch.abort();
        });
        Ok(())
    })
    .unwrap();
}

#[tokio::test]
async fn a_connection_whose_caller_gives_up_is_undone() {
    let machine = Machine::new();
    let networks = machine.open(&machine.settings());
    // On a namespace in use, so that the thread's own switches of the host are not written.
    let container = Container::new(&networks);
    machine.connect(&networks, &container.request()).unwrap();
    let next = Container::new(&networks);
    let network = networks.get(BRIDGE).unwrap().id;
    let mut connect = Box::pin(networks.connect(next.request()));
    assert!(futures_util::poll!(connect.as_mut()).is_pending());
    drop(connect);
    let alone = || networks.endpoints(&network).unwrap().len() == 1;
    let start = std::time::Instant::now();
    while !alone() || machine.links().len() != 4 {
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", machine.links());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn names_go_with_the_root() {
    let plain = Names::of(Path::new(DEFAULT_ROOT));
    assert_eq!((plain.bridge.as_str(), plain.table.as_str()), ("engine0", "engine"));
    let root = tempfile::tempdir().unwrap();
    let names = Names::of(root.path());
    assert!(names.bridge.len() <= 15 && names.table.starts_with("engine_"));
    assert_eq!(Names::of(&root.path().join(".")), names);
    assert_eq!(Settings::default().root, Path::new(DEFAULT_ROOT));
}
