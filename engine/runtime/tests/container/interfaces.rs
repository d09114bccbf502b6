//! Interfaces of the host that a container is given.

use std::os::fd::AsFd;

use engine_runtime::spec::LinuxNetDevice;
use engine_runtime::{Bundle, Error};
use engine_sys::namespace::new_network;
use engine_sys::netlink::{ACK, CREATE, EXCLUSIVE, Message, Netlink, Protocol};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::place::{Place, linux};

/// Runs a test where the network of the host is a namespace with a pair of interfaces, `host0` with addresses and `host1`.
fn in_network_of_its_own(test: impl FnOnce(&Place) + Send) {
    let make = || {
        let mut socket = Netlink::open(Protocol::Route)?;
        let pair = Message::new(16, ACK | CREATE | EXCLUSIVE).put(&[0; 16]).text(3, "host0").nest(18, |info| {
            info.text(1, "veth").nest(2, |data| data.nest(1, |peer| peer.put(&[0; 16]).text(3, "host1")))
        });
        socket.request(&mut [pair]).map_err(|error| std::io::Error::other(error.to_string()))?;
        let number = Message::new(18, 0).put(&[0; 16]).text(3, "host0");
        let mut index = [0; 4];
        let asked = socket.ask(number, |_, content| index.copy_from_slice(&content[4..8]));
        asked.map_err(|error| std::io::Error::other(error.to_string()))?;
        let address = [10, 77, 0, 5];
        let four = Message::new(20, ACK | CREATE).put(&[2, 24, 0, 0]).put(&index);
        let four = four.attribute(2, &address).attribute(1, &address).attribute(4, &[10, 77, 0, 255]);
        let mut long = [0; 16];
        long[0] = 0xfd;
        long[15] = 5;
        let six = Message::new(20, ACK | CREATE).put(&[10, 64, 0, 0]).put(&index).attribute(1, &long);
        let asked = socket.request(&mut [four, six]);
        asked.map_err(|error| std::io::Error::other(error.to_string()))
    };
    let (namespace, ()) = new_network(make).unwrap();
    std::thread::scope(|scope| {
        let inside = scope.spawn(|| {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            test(&Place::new());
        });
        inside.join().unwrap();
    });
}

fn give(bundle: &mut Bundle, devices: &[(&str, &str)]) {
    let device = |name: &str| {
        let mut device = LinuxNetDevice::default();
        device.set_name(Some(name.to_owned()).filter(|name| !name.is_empty()));
        device
    };
    let devices = devices.iter().map(|(name, inside)| ((*name).to_owned(), device(inside))).collect();
    linux(&mut bundle.spec).set_net_devices(Some(devices));
}

#[test]
fn interfaces_move_with_their_addresses() {
    in_network_of_its_own(|place| {
        let mut bundle = place.shell("ip -o addr show dev lan0; ip -o link show dev host1");
        give(&mut bundle, &[("host0", "lan0"), ("host1", "")]);
        let said = place.says(&bundle);
        assert!(said.contains("inet 10.77.0.5/24 brd 10.77.0.255") && said.contains("inet6 fd00::5/64"), "{said}");
        let links: Vec<_> = said.lines().filter(|line| line.contains("host1")).collect();
        assert!(links.iter().any(|line| line.contains(",UP")), "{said}");
        // They went to the container, and with it.
        let mut bundle = place.shell("true");
        give(&mut bundle, &[("host0", "lan0")]);
        let error = place.refuses(&bundle).to_string();
        assert!(error.contains("network device") && error.contains("host0"), "{error}");
    });
}

#[test]
fn names_are_numbered_when_they_are_to_be() {
    in_network_of_its_own(|place| {
        let mut bundle =
            place.shell("ls /sys/class/net | tr '\\n' ' '; ip -o addr show | grep -c 'lan[01].*inet 10.77.0.5/24'");
        give(&mut bundle, &[("host0", "lan%d"), ("host1", "lan%d")]);
        assert_eq!(place.says(&bundle), "lan0 lan1 lo 1\n");
        // Nothing of them has stayed behind to be in the way of what is named anew.
        let links = std::process::Command::new("ip").args(["-o", "link"]).output().unwrap();
        assert!(!String::from_utf8(links.stdout).unwrap().contains("moving"));
    });
}

#[test]
fn what_cannot_move_is_told() {
    in_network_of_its_own(|place| {
        let mut bundle = place.shell("true");
        give(&mut bundle, &[("lo", "lo2")]);
        assert!(place.refuses(&bundle).to_string().contains("network device lo"));
        give(&mut bundle, &[("host0", "same"), ("host1", "same")]);
        assert!(matches!(place.refuses(&bundle), Error::Invalid(_)));
    });
}

#[test]
fn what_has_moved_goes_back_when_another_cannot() {
    in_network_of_its_own(|place| {
        let mut bundle = place.shell("true");
        // They go in the order of their names, and the last one is not there.
        give(&mut bundle, &[("host0", "lan0"), ("host1", ""), ("missing", "")]);
        assert!(place.refuses(&bundle).to_string().contains("network device missing"));
        let list = |arguments: &[&str]| {
            let said = std::process::Command::new("ip").args(arguments).output().unwrap();
            String::from_utf8(said.stdout).unwrap()
        };
        let addresses = list(&["-o", "addr", "show", "dev", "host0"]);
        assert!(addresses.contains("inet 10.77.0.5/24 brd 10.77.0.255"), "{addresses}");
        assert!(addresses.contains("inet6 fd00::5/64"), "{addresses}");
        let links = list(&["-o", "link"]);
        assert!(links.contains("host1") && !links.contains("lan0") && !links.contains(",UP"), "{links}");
        // They can be given to the next one.
        bundle = place.shell("ip -o link");
        give(&mut bundle, &[("host0", "lan0"), ("host1", "")]);
        assert!(place.says(&bundle).contains("lan0"));
    });
}
