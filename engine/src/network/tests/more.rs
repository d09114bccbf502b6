//! Many at once, ends at any moment, and what the kernel remembers.

use std::net::UdpSocket;

use super::ways::nft;
use super::*;

#[test]
fn two_hundred_at_once_have_addresses_of_their_own_and_leave_nothing() {
    const AT_ONCE: usize = 8;
    const EACH: usize = 25;
    let machine = Machine::new();
    let networks = machine.open(&machine.settings());
    let taken: Vec<(Container, Endpoint)> = std::thread::scope(|scope| {
        let some = || {
            let connect = |_| {
                let container = Container::new(&networks);
                let request = container.request().publish(vec![publish([0; 4], 0)]);
                let endpoint = machine.connect(&networks, &request).unwrap();
                (container, endpoint)
            };
            (0..EACH).map(connect).collect::<Vec<_>>()
        };
        let threads: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(some)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let all = AT_ONCE * EACH;
    let unique = |of: &dyn Fn(&Interface) -> String| {
        taken.iter().map(|(_, endpoint)| of(interface(endpoint))).collect::<BTreeSet<_>>().len()
    };
    assert_eq!(unique(&|interface| interface.address.unwrap().to_string()), all);
    assert_eq!(unique(&|interface| interface.host_name.clone()), all);
    assert_eq!(unique(&|interface| interface.ports[0].host_port.to_string()), all);
    assert!(firewall::is_in_place(&mut machine.filter(), &wanted_rules(&networks)).unwrap());
    let (first, last) = (&taken[0], &taken[all - 1]);
    let listener = listen(&last.0.namespace);
    talk(first.0.namespace.as_fd(), &listener, interface(&last.1).address.unwrap());
    std::thread::scope(|scope| {
        for some in taken.chunks(EACH) {
            scope.spawn(|| some.iter().for_each(|(container, _)| networks.disconnect_blocking(&container.id).unwrap()));
        }
    });
    for table in [Table::Address, Table::Endpoint, Table::Port] {
        assert!(networks.shared.state.read(|look| look.keys(table)).unwrap().is_empty(), "{table}");
    }
    assert!(networks.in_use().unwrap().ports.is_empty());
    assert!(firewall::is_in_place(&mut machine.filter(), &wanted_rules(&networks)).unwrap());
    drop((listener, taken));
    assert!(networks.teardown_blocking().unwrap());
    wait_until(|| machine.links() == ["lan0", "up0"]);
}

#[test]
fn datagrams_of_an_old_flow_reach_the_new_owner_of_a_port() {
    let machine = Machine::new();
    let networks = machine.open(&machine.settings());
    let udp = || vec![Publish { protocol: port::Protocol::Udp, port: 5000, ..publish([0; 4], 9090) }];
    let asking = in_network(machine.world.as_fd(), || UdpSocket::bind("0.0.0.0:0")).unwrap();
    asking.connect((UPLINK, 9090)).unwrap();
    let receive = |container: &Container| {
        let socket = in_network(container.namespace.as_fd(), || UdpSocket::bind("0.0.0.0:5000")).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        socket
    };
    // The same flow all the time: one address and port asks one address and port.
    for _ in 0..3 {
        let container = Container::new(&networks);
        let socket = receive(&container);
        machine.connect(&networks, &container.request().publish(udp())).unwrap();
        wait_until(|| {
            // An error of before, when nobody had the port, is told now.
            let _ = asking.send(b"hello");
            socket.recv(&mut [0; 8]).is_ok()
        });
        networks.disconnect_blocking(&container.id).unwrap();
    }
}

#[test]
fn who_calls_while_there_are_no_rules_is_turned_away() {
    let machine = Machine::new();
    let networks = machine.open(&machine.settings());
    let container = Container::new(&networks);
    machine.connect(&networks, &container.request().publish(vec![publish([0; 4], 8080)])).unwrap();
    let listener = listen(&container.namespace);
    let call = || {
        let stream = in_network(machine.world.as_fd(), || TcpStream::connect((UPLINK, 8080))).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    };
    assert!(!networks.keep_rules_blocking().unwrap());
    nft(&machine, "flush ruleset");
    let mut lost = call();
    assert!(networks.keep_rules_blocking().unwrap());
    assert_eq!(lost.read(&mut [0; 1]).unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    // Another engine of this root was quicker: there is nothing to put back, and somebody has called.
    nft(&machine, "flush ruleset");
    let mut lost = call();
    let rules = firewall::tables(&networks.shared.policy.table, &networks.in_use().unwrap());
    let guards = networks.shared.state.read(crate::network::watch::remembered_guards).unwrap();
    firewall::apply(&mut machine.filter(), &[rules, guards].concat()).unwrap();
    assert!(!networks.keep_rules_blocking().unwrap());
    assert_eq!(lost.read(&mut [0; 1]).unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    let mut found = call();
    listener.accept().unwrap().0.write_all(b"!").unwrap();
    found.read_exact(&mut [0; 1]).unwrap();
}

#[test]
fn a_flush_under_load_is_over_soon() {
    let machine = Machine::new();
    let networks = machine.open(&machine.settings());
    let container = Container::new(&networks);
    machine.connect(&networks, &container.request().publish(vec![publish([0; 4], 8080)])).unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let (host, watching) = (machine.host.try_clone().unwrap(), networks.clone());
    let watcher = std::thread::spawn(move || {
        in_network(host.as_fd(), || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let watch = tokio::spawn(watching.watch());
                let _ = stopped.await;
                watch.abort();
            });
            Ok(())
        })
    });
    let listener = listen(&container.namespace);
    listener.set_nonblocking(true).unwrap();
    let ended = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Connections all the time, from outside; each that comes in is told.
        let accepting = scope.spawn(|| {
            let mut count = 0;
            while !ended.load(std::sync::atomic::Ordering::Relaxed) {
                let Ok((mut stream, _)) = listener.accept() else {
                    std::thread::sleep(Duration::from_millis(1));
                    continue;
                };
                let _ = stream.write_all(b"!");
                count += 1;
            }
            count
        });
        let ask = || {
            let patience = Duration::from_millis(200);
            let dialled =
                in_network(machine.world.as_fd(), || TcpStream::connect_timeout(&(UPLINK, 8080).into(), patience));
            dialled.is_ok_and(|mut stream| {
                stream.set_read_timeout(Some(patience)).unwrap();
                stream.read_exact(&mut [0; 1]).is_ok()
            })
        };
        for _ in 0..4 {
            wait_until(ask);
            nft(&machine, "flush ruleset");
            wait_until(|| firewall::is_in_place(&mut machine.filter(), &wanted_rules(&networks)).unwrap());
            wait_until(ask);
        }
        ended.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(accepting.join().unwrap() >= 8);
    });
    drop(stop);
    watcher.join().unwrap().unwrap();
}
