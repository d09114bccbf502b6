//! Networks that somebody makes: their addresses, and who reaches whom.

use std::net::{Ipv6Addr, SocketAddr};

use super::*;

pub(super) fn make(machine: &Machine, networks: &Networks, spec: &NetworkSpec) -> Result<Network, Error> {
    in_network(machine.host.as_fd(), || Ok(networks.create_blocking(spec))).unwrap()
}

pub(super) fn on(machine: &Machine, networks: &Networks, container: &Container, network: &str) -> Endpoint {
    let request = Connect::new(container.id, network).namespace(&container.namespace);
    machine.connect(networks, &request).unwrap()
}

fn reaches(from: &Container, to: Ipv4Addr) -> bool {
    dial(from.namespace.as_fd(), to).is_ok()
}

#[test]
fn networks_are_made_listed_and_removed() {
    let machine = Machine::new();
    let networks = machine.open(&machine.settings());
    let one = make(&machine, &networks, &NetworkSpec::new("one").label("a", "b")).unwrap();
    let two = make(&machine, &networks, &NetworkSpec::new("two")).unwrap();
    let block = |network: &Network| network.addresses().unwrap().v4.unwrap().subnet.to_string();
    // The default bridge's block is kept free too.
    assert_eq!((block(&one), block(&two)), ("172.18.0.0/16".to_owned(), "172.19.0.0/16".to_owned()));
    let again = make(&machine, &networks, &NetworkSpec::new("one")).unwrap_err();
    assert_eq!(again.to_string(), "network with name one already exists");
    let same = make(&machine, &networks, &NetworkSpec::new("three").subnet("172.18.5.0/24")).unwrap_err();
    assert!(same.to_string().contains("Pool overlaps"), "{same}");
    let hosts = make(&machine, &networks, &NetworkSpec::new("three").subnet("198.51.100.0/25")).unwrap_err();
    assert!(hosts.to_string().contains("198.51.100.0/24"), "{hosts}");
    assert!(networks.list().unwrap().iter().any(|network| network.name == "two"));
    // Nothing of it is in the kernel until it is used.
    assert_eq!(machine.links(), ["lan0", "up0"]);
    let container = Container::new(&networks);
    on(&machine, &networks, &container, "two");
    let in_use = networks.remove_blocking("two").unwrap_err();
    assert!(in_use.to_string().starts_with("error while removing network: network two has active endpoints (name:"));
    networks.disconnect_blocking(&container.id).unwrap();
    drop(container);
    networks.remove_blocking("two").unwrap();
    networks.remove_blocking(one.id.short()).unwrap();
    wait_until(|| machine.links() == ["lan0", "up0"]);
    let nothing = firewall::Ruleset { sets: vec![], chains: vec![], ..wanted_rules(&networks) };
    assert!(firewall::is_in_place(&mut machine.filter(), &nothing).unwrap());
    let predefined = networks.remove_blocking("bridge").unwrap_err();
    assert_eq!(predefined.to_string(), "bridge is a pre-defined network and cannot be removed");
}

#[test]
fn networks_are_kept_apart() {
    let machine = Machine::new();
    let networks = machine.open(&machine.settings());
    for name in ["one", "two"] {
        make(&machine, &networks, &NetworkSpec::new(name)).unwrap();
    }
    let inside = make(&machine, &networks, &NetworkSpec::new("inside").internal(true)).unwrap();
    let (a, b, both, c) =
        (Container::new(&networks), Container::new(&networks), Container::new(&networks), Container::new(&networks));
    let address = |endpoint: &Endpoint| interface(endpoint).address.unwrap();
    let in_one = address(&on(&machine, &networks, &a, "one"));
    let in_two = address(&on(&machine, &networks, &b, "two"));
    let first = on(&machine, &networks, &both, "one");
    let second = on(&machine, &networks, &both, "two");
    assert_eq!((interface(&first).name.as_str(), interface(&second).name.as_str()), ("eth0", "eth1"));
    let alone = address(&on(&machine, &networks, &c, "inside"));
    let _listeners: Vec<_> = [&a, &b, &both, &c].map(|container| listen(&container.namespace)).into();
    let world = listen(&machine.world);
    // Each reaches its own network and the world, and no other network.
    assert!(reaches(&a, address(&first)) && reaches(&both, in_one) && reaches(&both, in_two));
    assert!(!reaches(&a, in_two) && !reaches(&b, in_one) && !reaches(&a, address(&second)));
    assert_eq!(talk(a.namespace.as_fd(), &world, SERVER), UPLINK);
    // From an internal one there is no way out, and none in.
    assert!(interface(&on(&machine, &networks, &a, "inside")).gateway.is_none());
    assert!(reaches(&a, alone), "two on one internal network");
    assert!(!reaches(&c, SERVER) && !reaches(&b, alone));
    let gateway = inside.addresses().unwrap().v4.unwrap().gateway.unwrap();
    {
        // Not even for one that makes itself a way.
        let mut route = c.namespace.inside();
        let eth0 = link::find_link(&mut route, "eth0").unwrap().unwrap();
        route.request(&mut [link::add_default_route(eth0.index, gateway, false)]).unwrap();
    }
    assert!(!reaches(&c, SERVER) && !reaches(&c, in_one));
}

#[test]
fn what_is_asked_of_an_endpoint_is_given() {
    let machine = Machine::new();
    let networks = machine.open(&machine.settings());
    make(&machine, &networks, &NetworkSpec::new("n").subnet("10.9.0.0/24")).unwrap();
    make(&machine, &networks, &NetworkSpec::new("chosen")).unwrap();
    let container = Container::new(&networks);
    let options = BTreeMap::from([
        ("com.docker.network.endpoint.ifname".to_owned(), "front".to_owned()),
        ("com.docker.network.endpoint.sysctls".to_owned(), "net.ipv4.conf.IFNAME.log_martians=1".to_owned()),
    ]);
    let request = Connect::new(container.id, "n")
        .namespace(&container.namespace)
        .address(Some([10, 9, 0, 77].into()))
        .mac(Some("02:00:00:00:00:07".parse().unwrap()))
        .link_local(vec!["169.254.7.7".parse().unwrap(), "fe80::77".parse().unwrap()])
        .options(options);
    machine.connect(&networks, &request).unwrap();
    let switch = "/proc/sys/net/ipv4/conf/front/log_martians";
    assert_eq!(in_network(container.namespace.as_fd(), || std::fs::read_to_string(switch)).unwrap(), "1\n");
    {
        let mut inside = container.namespace.inside();
        let front = link::find_link(&mut inside, "front").unwrap().unwrap();
        assert_eq!(front.mac.unwrap().to_string(), "02:00:00:00:00:07");
        let addresses: Vec<Ipv4Addr> =
            link::addresses(&mut inside).unwrap().into_iter().map(|(_, one, _)| one).collect();
        assert!(addresses.contains(&[10, 9, 0, 77].into()) && addresses.contains(&[169, 254, 7, 7].into()));
        let addresses = link::addresses::<Ipv6Addr>(&mut inside).unwrap();
        assert!(addresses.iter().any(|(_, address, _)| address.to_string() == "fe80::77"));
    }
    let other = Container::new(&networks);
    let request = |network: &str| Connect::new(other.id, network).namespace(&other.namespace);
    let chosen = machine.connect(&networks, &request("chosen").address(Some([172, 18, 0, 9].into()))).unwrap_err();
    assert!(chosen.to_string().contains("user configured subnets"), "{chosen}");
    for switch in ["net.ipv4.conf.IFNAME.nope=1", "kernel.hostname=x", "net.ipv4.conf.../../x.IFNAME=1"] {
        let options = BTreeMap::from([("com.docker.network.endpoint.sysctls".to_owned(), switch.to_owned())]);
        machine.connect(&networks, &request("n").options(options)).unwrap_err();
    }
    assert_eq!(networks.endpoints_of(&other.id).unwrap(), []);
}

#[test]
fn the_way_out_and_the_ports_go_over_to_another_network() {
    let machine = Machine::new();
    let networks = machine.open(&machine.settings());
    for name in ["a", "b"] {
        make(&machine, &networks, &NetworkSpec::new(name)).unwrap();
    }
    let container = Container::new(&networks);
    let publish =
        Publish { protocol: port::Protocol::Tcp, port: 4000, host_address: None, host_ports: Some(4000..=4000) };
    let request = Connect::new(container.id, "a").namespace(&container.namespace).publish(vec![publish]);
    let first = machine.connect(&networks, &request).unwrap();
    let request = Connect::new(container.id, "b").namespace(&container.namespace).priority(1);
    let second = machine.connect(&networks, &request).unwrap();
    let world = listen(&machine.world);
    let route = || {
        let mut inside = container.namespace.inside();
        let uplink = link::routes::<Ipv4Addr>(&mut inside).unwrap().uplink.unwrap();
        link::find_link_by_index(&mut inside, uplink).unwrap().unwrap().name
    };
    assert_eq!(route(), "eth1");
    networks.detach_blocking(&container.id, "b", Some(&container.namespace), &[]).unwrap();
    assert_eq!(route(), "eth0");
    let third = on(&machine, &networks, &container, "b");
    assert_ne!(interface(&second).address.unwrap(), interface(&third).address.unwrap());
    let listener = listen(&container.namespace);
    talk(machine.world.as_fd(), &listener, UPLINK);
    in_network(machine.host.as_fd(), || {
        networks.detach_blocking(&container.id, "a", Some(&container.namespace), &[]).unwrap();
        Ok(())
    })
    .unwrap();
    assert_eq!(route(), "eth1");
    // The port is where it was, and leads to the other address.
    talk(machine.world.as_fd(), &listener, UPLINK);
    assert_eq!(talk(container.namespace.as_fd(), &world, SERVER), UPLINK);
    let left = networks.endpoints_of(&container.id).unwrap();
    assert_eq!(interface(&left[0]).ports, interface(&first).ports);
    assert!(firewall::is_in_place(&mut machine.filter(), &wanted_rules(&networks)).unwrap());
}

#[test]
fn networks_are_made_of_a_configuration() {
    let machine = Machine::new();
    let networks = machine.open(&machine.settings());
    let mut asked = NetworkSpec::new("office").subnet("10.9.0.0/24").option("com.docker.network.driver.mtu", "1300");
    asked.labels.insert("team".to_owned(), "a".to_owned());
    asked.config_only = true;
    let template = make(&machine, &networks, &asked).unwrap();
    assert_eq!((template.driver.to_string().as_str(), template.addresses()), ("null", None));
    let of_office = |name: &str| NetworkSpec { config_from: "office".to_owned(), ..NetworkSpec::new(name) };
    let made = make(&machine, &networks, &of_office("floor").internal(true)).unwrap();
    assert_eq!(made.addresses().unwrap().v4.unwrap().subnet.to_string(), "10.9.0.0/24");
    assert_eq!(
        (made.bridge.as_ref().unwrap().mtu, made.labels["team"].as_str(), made.internal),
        (Some(1300), "a", true)
    );
    assert_eq!(made.config_from.as_deref(), Some("office"));
    let refused = |spec: NetworkSpec| make(&machine, &networks, &spec).unwrap_err().to_string();
    assert!(refused(of_office("second")).contains("overlap"), "the block is in use");
    assert!(refused(of_office("x").subnet("10.8.0.0/24")).contains("user specified configurations"));
    assert!(refused(of_office("x").option("com.docker.network.driver.mtu", "1")).contains("driver options"));
    assert!(refused(NetworkSpec { config_only: true, ..of_office("x") }).contains("cannot depend on another"));
    assert!(
        refused(NetworkSpec { config_from: "floor".to_owned(), ..NetworkSpec::new("x") }).contains("--config-only")
    );
    assert!(refused(NetworkSpec { config_only: true, ..NetworkSpec::new("x").internal(true) }).contains("operator"));
    // It is nobody's network itself.
    let container = Container::new(&networks);
    let request = Connect::new(container.id, "office").namespace(&container.namespace);
    assert!(machine.connect(&networks, &request).unwrap_err().to_string().contains("configuration"));
    let remove = |name: &str| in_network(machine.host.as_fd(), || Ok(networks.remove_blocking(name))).unwrap();
    assert_eq!(remove("office").unwrap_err().to_string(), "configuration network \"office\" is in use");
    remove("floor").unwrap();
    remove("office").unwrap();
}

#[test]
fn a_network_may_have_ipv6_only() {
    let runtime = Runtime::start();
    let machine = Machine::new();
    let pool = crate::settings::AddressPool { base: "fd00:7::".parse().unwrap(), prefix_len: 48, subnet_len: 64 };
    let mut settings = machine.settings();
    settings.address_pools_v6 = vec![pool];
    let networks = runtime.open(&machine, &settings);
    let neither = make(&machine, &networks, &NetworkSpec::new("x").without_ipv4(true)).unwrap_err();
    assert!(neither.to_string().contains("IPv4 or IPv6 must be enabled"), "{neither}");
    let block = NetworkSpec::new("x").without_ipv4(true).ipv6(true).subnet("10.9.0.0/24");
    assert!(make(&machine, &networks, &block).unwrap_err().to_string().contains("disabled"));
    let network = make(&machine, &networks, &NetworkSpec::new("six").without_ipv4(true).ipv6(true)).unwrap();
    let addresses = network.addresses().unwrap();
    assert_eq!((addresses.v4, addresses.v6.unwrap().subnet.to_string().as_str()), (None, "fd00:7::/64"));
    let second = make(&machine, &networks, &NetworkSpec::new("dual").ipv6(true)).unwrap();
    assert_eq!(second.addresses().unwrap().v6.unwrap().subnet.to_string(), "fd00:7:0:1::/64");
    let (one, two) = (Container::new(&networks), Container::new(&networks));
    let asked =
        Publish { protocol: port::Protocol::Tcp, port: 4000, host_address: None, host_ports: Some(8080..=8080) };
    let request = Connect::new(one.id, "six").namespace(&one.namespace);
    let with_v4 = machine.connect(&networks, &request.clone().address(Some([10, 9, 0, 2].into()))).unwrap_err();
    assert!(with_v4.to_string().contains("no IPv4"), "{with_v4}");
    let endpoint = machine.connect(&networks, &request.publish(vec![asked])).unwrap();
    let end = interface(&endpoint);
    let v6 = end.v6.clone().unwrap();
    assert_eq!((end.address, end.gateway, v6.address.to_string().as_str()), (None, None, "fd00:7::2"));
    machine.connect(&networks, &Connect::new(two.id, "six").namespace(&two.namespace)).unwrap();
    let found: Vec<_> = link::addresses::<Ipv4Addr>(&mut one.namespace.inside()).unwrap();
    assert!(found.iter().all(|(_, address, _)| address.is_loopback()), "{found:?}");
    let _listener = in_network(one.namespace.as_fd(), || TcpListener::bind((Ipv6Addr::UNSPECIFIED, 4000))).unwrap();
    let dial = |from: std::os::fd::BorrowedFd<'_>, address: &str, port| {
        let to = SocketAddr::new(address.parse().unwrap(), port);
        in_network(from, || TcpStream::connect_timeout(&to, Duration::from_millis(400))).is_ok()
    };
    wait_until(|| dial(two.namespace.as_fd(), "fd00:7::2", 4000));
    wait_until(|| dial(machine.host.as_fd(), "fd00:7::1", 8080));
    // The other family leads there too, from outside and from the host.
    wait_until(|| dial(machine.world.as_fd(), &UPLINK.to_string(), 8080));
    wait_until(|| dial(machine.host.as_fd(), "127.0.0.1", 8080));
    let rules = wanted_tables(&networks);
    assert!(rules.iter().all(|ruleset| firewall::is_in_place(&mut machine.filter(), ruleset).unwrap()));
    for container in [&one, &two] {
        networks.disconnect_blocking(&container.id).unwrap();
    }
    wait_until(|| in_network(machine.host.as_fd(), || TcpListener::bind("[::]:8080")).is_ok());
    let left = networks.shared.state.read(|look| look.keys(Table::Address)).unwrap();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn both_families_reach_and_are_kept_apart() {
    let runtime = Runtime::start();
    let machine = Machine::new();
    let networks = runtime.open(&machine, &machine.settings());
    let dual = NetworkSpec::new("dual").ipv6(true).subnet("fd00:9::/64");
    make(&machine, &networks, &dual).unwrap();
    make(&machine, &networks, &NetworkSpec::new("other").ipv6(true)).unwrap();
    let (one, two, far) = (Container::new(&networks), Container::new(&networks), Container::new(&networks));
    let publish =
        Publish { protocol: port::Protocol::Tcp, port: 4000, host_address: None, host_ports: Some(8080..=8080) };
    let request = Connect::new(one.id, "dual").namespace(&one.namespace).publish(vec![publish]);
    let endpoint = machine.connect(&networks, &request).unwrap();
    let v6 = interface(&endpoint).v6.clone().unwrap();
    assert_eq!((v6.address.to_string(), v6.prefix_len), ("fd00:9::2".to_owned(), 64));
    let asked: Ipv6Addr = "fd00:9::77".parse().unwrap();
    let request = Connect::new(two.id, "dual").namespace(&two.namespace).address_v6(Some(asked));
    assert_eq!(interface(&machine.connect(&networks, &request).unwrap()).v6.as_ref().unwrap().address, asked);
    on(&machine, &networks, &far, "other");
    let _listener = in_network(one.namespace.as_fd(), || TcpListener::bind((Ipv6Addr::UNSPECIFIED, 4000))).unwrap();
    let dial = |from: &OwnedFd, address: Ipv6Addr, port| {
        let to = SocketAddr::from((address, port));
        in_network(from.as_fd(), || TcpStream::connect_timeout(&to, Duration::from_millis(400))).is_ok()
    };
    let namespace = |container: &Container| container.namespace.to_fd().unwrap();
    wait_until(|| dial(&namespace(&two), v6.address, 4000));
    assert!(!dial(&namespace(&far), v6.address, 4000));
    // By the host's own address, from the host and from another network.
    let gateway = "fd00:9::1".parse().unwrap();
    wait_until(|| dial(&machine.host, gateway, 8080));
    wait_until(|| dial(&namespace(&far), gateway, 8080));
    wait_until(|| dial(&machine.host, Ipv6Addr::LOCALHOST, 8080));
    assert_eq!(machine.read_switch("/proc/sys/net/ipv6/conf/all/forwarding"), "1");
    // Nobody on the network tells the host or a neighbour where to send what leaves.
    let bridge = networks.get("dual").unwrap().bridge.unwrap().interface;
    assert_eq!(machine.read_switch(&format!("/proc/sys/net/ipv6/conf/{bridge}/accept_ra")), "0");
    let inside = || std::fs::read_to_string("/proc/sys/net/ipv6/conf/eth0/accept_ra");
    assert_eq!(in_network(two.namespace.as_fd(), inside).unwrap().trim(), "0");
    let rules = wanted_tables(&networks);
    assert!(rules.iter().all(|ruleset| firewall::is_in_place(&mut machine.filter(), ruleset).unwrap()));
    assert_eq!(networks.in_use().unwrap().ports.len(), 2);
    for container in [&one, &two, &far] {
        networks.disconnect_blocking(&container.id).unwrap();
    }
    let keys = |table| networks.shared.state.read(|look| look.keys(table)).unwrap();
    assert!(keys(Table::Address).is_empty() && keys(Table::Port).is_empty());
}

#[test]
fn a_network_on_an_interface_of_the_host() {
    let machine = Machine::new();
    let networks = machine.open(&machine.settings());
    let spec = NetworkSpec::new("lan").driver("macvlan").subnet("198.51.100.0/24").option("parent", "lan0");
    make(&machine, &networks, &spec).unwrap();
    let (one, two) = (Container::new(&networks), Container::new(&networks));
    let connect = |container: &Container, last: u8| {
        let request = Connect::new(container.id, "lan").namespace(&container.namespace);
        machine.connect(&networks, &request.address(Some([198, 51, 100, last].into())))
    };
    let first = match connect(&one, 50) {
        // The kernel of some machines has no such thing, and must say so.
        Err(error) => {
            assert!(error.to_string().contains("has no macvlan"), "{error}");
            return;
        }
        Ok(endpoint) => endpoint,
    };
    let second = connect(&two, 51).unwrap();
    let listener = listen(&two.namespace);
    assert_eq!(
        talk(one.namespace.as_fd(), &listener, interface(&second).address.unwrap()),
        interface(&first).address.unwrap()
    );
    networks.detach_blocking(&one.id, "lan", Some(&one.namespace), &[]).unwrap();
    assert!(link::find_link(&mut one.namespace.inside(), "eth0").unwrap().is_none());
    let missing = NetworkSpec::new("nowhere").driver("macvlan").option("parent", "eth9");
    make(&machine, &networks, &missing).unwrap();
    let request = Connect::new(one.id, "nowhere").namespace(&one.namespace);
    let error = machine.connect(&networks, &request).unwrap_err();
    assert!(error.to_string().contains("parent interface eth9 was not found"), "{error}");
    // Without a parent it is on an interface without any way out, which goes with the network.
    make(&machine, &networks, &NetworkSpec::new("alone").driver("macvlan")).unwrap();
    let first = on(&machine, &networks, &one, "alone");
    assert!(machine.links().iter().any(|link| link.starts_with("dm-")));
    let second = on(&machine, &networks, &two, "alone");
    let [from, to] = [&first, &second].map(|endpoint| interface(endpoint).address.unwrap());
    assert_eq!(talk(one.namespace.as_fd(), &listener, to), from);
    networks.disconnect_blocking(&one.id).unwrap();
    networks.disconnect_blocking(&two.id).unwrap();
    networks.remove_blocking("alone").unwrap();
    assert!(!machine.links().iter().any(|link| link.starts_with("dm-") || link.starts_with("dp-")));
}

/// Makes an interface with nothing behind it.
#[derive(Debug)]
struct Dummy;

impl NetworkDriver for Dummy {
    fn name(&self) -> &str {
        "dummy"
    }

    fn check(&self, network: &Network) -> Result<(), DriverError> {
        if network.options.is_empty() { Ok(()) } else { Err("dummy has no options".into()) }
    }

    fn connect(
        &self,
        _: &Network,
        endpoint: &Endpoint,
        namespace: std::os::fd::BorrowedFd<'_>,
    ) -> Result<(), DriverError> {
        let mut inside = in_network(namespace, || Netlink::open(Protocol::Route))?;
        Ok(inside.request(&mut [link::make_bridge(&interface(endpoint).name, interface(endpoint).mac, 1500)])?)
    }

    fn disconnect(&self, _: &Network, _: &Endpoint) -> Result<(), DriverError> {
        Ok(())
    }
}

#[test]
fn a_program_brings_a_driver() {
    let machine = Machine::new();
    let networks = machine.open(&machine.settings());
    let spec = NetworkSpec::new("n").driver("dummy").subnet("10.9.0.0/24");
    let unknown = make(&machine, &networks, &spec).unwrap_err();
    assert_eq!(unknown.kind(), crate::error::ErrorKind::NotFound);
    networks.register(Dummy).unwrap();
    assert!(networks.register(Dummy).is_err());
    assert!(networks.drivers().contains(&"dummy".to_owned()));
    let refused = make(&machine, &networks, &NetworkSpec::new("x").driver("dummy").option("a", "b")).unwrap_err();
    assert_eq!(refused.to_string(), "dummy has no options");
    make(&machine, &networks, &spec).unwrap();
    let container = Container::new(&networks);
    let endpoint = on(&machine, &networks, &container, "n");
    let mut inside = container.namespace.inside();
    let addresses = link::addresses::<Ipv4Addr>(&mut inside).unwrap();
    assert!(addresses.iter().any(|(_, address, _)| *address == interface(&endpoint).address.unwrap()));
    drop(inside);
    networks.disconnect_blocking(&container.id).unwrap();
    networks.remove_blocking("n").unwrap();
}

#[test]
fn a_bridge_without_a_network_goes_at_the_next_start() {
    let machine = Machine::new();
    let networks = machine.open(&machine.settings());
    let network = make(&machine, &networks, &NetworkSpec::new("n")).unwrap();
    let container = Container::new(&networks);
    on(&machine, &networks, &container, "n");
    networks.disconnect_blocking(&container.id).unwrap();
    let bridge = network.bridge.unwrap().interface;
    assert!(machine.links().contains(&bridge));
    // As if an engine had ended between the record and the bridge.
    let forget = |tx: &mut Transaction<'_>| tx.delete(Table::Network, network.id.as_str());
    networks.shared.state.write(Durability::Process, forget).unwrap();
    let next = machine.open(&machine.settings());
    machine.restore(&next);
    assert!(!machine.links().contains(&bridge));
}
