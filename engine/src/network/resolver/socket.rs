//! The sockets of a container's name service, inside its namespace, and the rules that lead port 53 to them.

use std::net::{TcpListener, UdpSocket};
use std::os::fd::BorrowedFd;

use engine_sys::namespace::in_network;
use engine_sys::netlink::{Netlink, Protocol};

use crate::id::ContainerId;
use crate::network::files::RESOLVER;
use crate::network::{Error, firewall};

/// The first of the ports that a container's services are looked for at, and how many there are.
const FIRST: u16 = 40_000;
const COUNT: u16 = 20_000;
const TRIES: u16 = 64;

/// Opens the sockets: at the same ports as another engine before, when they are free, so that flows that the kernel
/// remembers still lead to them.
pub(super) fn open(container: &ContainerId, namespace: BorrowedFd<'_>) -> Result<(UdpSocket, TcpListener), Error> {
    let seed = u16::from_str_radix(container.as_str().get(..4).unwrap_or_default(), 16).unwrap_or_default();
    let ports = (0..TRIES).map(|number| FIRST + (seed % COUNT + number) % COUNT);
    let opened = in_network(namespace, || {
        let mut opened = Err(std::io::ErrorKind::AddrInUse.into());
        for port in ports {
            opened = UdpSocket::bind((RESOLVER, port)).and_then(|udp| Ok((udp, TcpListener::bind((RESOLVER, port))?)));
            match &opened {
                Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {}
                _ => break,
            }
        }
        let (udp, tcp) = opened?;
        udp.set_nonblocking(true)?;
        tcp.set_nonblocking(true)?;
        let filter = Netlink::open(Protocol::Netfilter)?;
        Ok((udp, tcp, filter))
    });
    let (udp, tcp, mut filter) = opened.map_err(Error::system("open the name service of a container"))?;
    let port = udp.local_addr().map_err(Error::system("look at a container's name service"))?.port();
    firewall::make(&mut filter, &firewall::names(RESOLVER, port))
        .map_err(Error::kernel("lead a container's port 53 to its name service (nftables)"))?;
    Ok((udp, tcp))
}
