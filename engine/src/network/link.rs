//! Links, addresses and routes: the messages that change them, as data, and what the kernel tells of them.

use std::os::fd::{AsRawFd, BorrowedFd};

use engine_sys::netlink::{
    ACK, CREATE, DUMP, EXCLUSIVE, Error, Message, Netlink, REPLACE, attributes, text, u32_native,
};
use rustix::io::Errno;

use super::subnet::Address;
use super::{MacAddress, Subnet};

const NEW_LINK: u16 = 16;
const DELETE_LINK: u16 = 17;
const GET_LINK: u16 = 18;
const NEW_ADDRESS: u16 = 20;
const DELETE_ADDRESS: u16 = 21;
const GET_ADDRESS: u16 = 22;
const NEW_ROUTE: u16 = 24;
const GET_ROUTE: u16 = 26;

const LINK_ADDRESS: u16 = 1;
const LINK_NAME: u16 = 3;
const LINK_MTU: u16 = 4;
const LINK_PARENT: u16 = 5;
const LINK_MASTER: u16 = 10;
const LINK_INFO: u16 = 18;
const LINK_ALIAS: u16 = 20;
const LINK_NAMESPACE: u16 = 28;
const LINK_DETAIL: u16 = 29;
const INFO_KIND: u16 = 1;
const INFO_DATA: u16 = 2;
const INFO_PORT_KIND: u16 = 4;
const INFO_PORT_DATA: u16 = 5;
const PORT_HAIRPIN: u16 = 4;
const PORT_ISOLATED: u16 = 33;
const VETH_PEER: u16 = 1;
const WITHOUT_STATISTICS: u32 = 8;

const UP: u32 = 1;

/// A pair of interfaces: one on a bridge of the host, its peer in a container.
#[derive(Debug, Clone, Copy)]
pub(super) struct Veth<'a> {
    pub(super) host_name: &'a str,
    pub(super) bridge: u32,
    pub(super) mtu: u32,
    pub(super) name: &'a str,
    pub(super) mac: MacAddress,
    pub(super) namespace: BorrowedFd<'a>,
}

/// Makes the pair with the peer already in the container's namespace, and the host's end up and on the bridge.
///
/// The peer stays down: one that comes up in this message makes the kernel wait.
pub(super) fn make_veth(veth: Veth<'_>) -> Message {
    let namespace = u32::try_from(veth.namespace.as_raw_fd()).unwrap_or_default();
    link(NEW_LINK, ACK | CREATE | EXCLUSIVE, 0, UP)
        .text(LINK_NAME, veth.host_name)
        .u32(LINK_MTU, veth.mtu)
        .u32(LINK_MASTER, veth.bridge)
        .nest(LINK_INFO, |info| {
            info.text(INFO_KIND, "veth").nest(INFO_DATA, |data| {
                data.nest(VETH_PEER, |peer| {
                    peer.put(&interface(0, 0))
                        .text(LINK_NAME, veth.name)
                        .attribute(LINK_ADDRESS, &veth.mac.bytes())
                        .u32(LINK_MTU, veth.mtu)
                        .u32(LINK_NAMESPACE, namespace)
                })
            })
        })
}

/// An interface on an interface of the host, and its mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LinkKind {
    Macvlan(u32),
    Ipvlan { mode: u16, flags: u16 },
}

/// Makes it in the container's namespace at once.
pub(super) fn make_on(
    kind: LinkKind,
    parent: u32,
    name: &str,
    mac: MacAddress,
    mtu: u32,
    namespace: BorrowedFd<'_>,
) -> Message {
    const MODE: u16 = 1;
    const FLAGS: u16 = 2;
    let namespace = u32::try_from(namespace.as_raw_fd()).unwrap_or_default();
    let message = link(NEW_LINK, ACK | CREATE | EXCLUSIVE, 0, 0)
        .text(LINK_NAME, name)
        .u32(LINK_PARENT, parent)
        .u32(LINK_MTU, mtu)
        .u32(LINK_NAMESPACE, namespace);
    match kind {
        LinkKind::Macvlan(mode) => message
            .attribute(LINK_ADDRESS, &mac.bytes())
            .nest(LINK_INFO, |info| info.text(INFO_KIND, "macvlan").nest(INFO_DATA, |data| data.u32(MODE, mode))),
        LinkKind::Ipvlan { mode, flags } => message.nest(LINK_INFO, |info| {
            info.text(INFO_KIND, "ipvlan").nest(INFO_DATA, |data| {
                let data = data.attribute(MODE, &mode.to_ne_bytes());
                // Kernels before 4.15 know none, and what they do is the first.
                if flags == 0 { data } else { data.attribute(FLAGS, &flags.to_ne_bytes()) }
            })
        }),
    }
}

/// Makes an interface that leads nowhere and is always ready, which a bridge without ports is not.
pub(super) fn make_dummy(name: &str, mac: MacAddress) -> Message {
    link(NEW_LINK, ACK | CREATE | EXCLUSIVE, 0, 0)
        .text(LINK_NAME, name)
        .attribute(LINK_ADDRESS, &mac.bytes())
        .nest(LINK_INFO, |info| info.text(INFO_KIND, "dummy"))
}

/// The same for kernels that have no dummies: one end of a pair whose other end nobody uses, and which has to be up too.
pub(super) fn make_stub(name: &str, mac: MacAddress, peer: &str) -> Message {
    link(NEW_LINK, ACK | CREATE | EXCLUSIVE, 0, 0).text(LINK_NAME, name).attribute(LINK_ADDRESS, &mac.bytes()).nest(
        LINK_INFO,
        |info| {
            info.text(INFO_KIND, "veth")
                .nest(INFO_DATA, |data| data.nest(VETH_PEER, |end| end.put(&interface(0, 0)).text(LINK_NAME, peer)))
        },
    )
}

pub(super) fn bring_up_named(name: &str) -> Message {
    link(NEW_LINK, ACK, 0, UP).text(LINK_NAME, name)
}

pub(super) fn make_vlan(name: &str, under: u32, number: u16) -> Message {
    const NUMBER: u16 = 1;
    link(NEW_LINK, ACK | CREATE | EXCLUSIVE, 0, 0)
        .text(LINK_NAME, name)
        .u32(LINK_PARENT, under)
        .nest(LINK_INFO, |info| {
            info.text(INFO_KIND, "vlan").nest(INFO_DATA, |data| data.attribute(NUMBER, &number.to_ne_bytes()))
        })
}

/// How a port of a bridge treats its packets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Port {
    /// Does not talk to other ports that are isolated too.
    pub(super) isolated: bool,
    /// Sends back what came from it, when that is where it goes: a container that asks its own published port.
    pub(super) hairpin: bool,
}

pub(super) fn set_port(name: &str, port: Port) -> Message {
    link(NEW_LINK, ACK, 0, 0).text(LINK_NAME, name).nest(LINK_INFO, |info| {
        info.text(INFO_PORT_KIND, "bridge").nest(INFO_PORT_DATA, |data| {
            data.attribute(PORT_ISOLATED, &[port.isolated.into()]).attribute(PORT_HAIRPIN, &[port.hairpin.into()])
        })
    })
}

pub(super) fn set_hairpin(name: &str) -> Message {
    link(NEW_LINK, ACK, 0, 0).text(LINK_NAME, name).nest(LINK_INFO, |info| {
        info.text(INFO_PORT_KIND, "bridge").nest(INFO_PORT_DATA, |data| data.attribute(PORT_HAIRPIN, &[1]))
    })
}

pub(super) fn make_bridge(name: &str, mac: MacAddress, mtu: u32) -> Message {
    link(NEW_LINK, ACK | CREATE | EXCLUSIVE, 0, 0)
        .text(LINK_NAME, name)
        // Its own address, or it would take that of whichever port has the lowest and change it as ports come and go.
        .attribute(LINK_ADDRESS, &mac.bytes())
        .u32(LINK_MTU, mtu)
        .nest(LINK_INFO, |info| info.text(INFO_KIND, "bridge"))
}

pub(super) fn bring_up(index: u32) -> Message {
    link(NEW_LINK, ACK, index, UP)
}

/// As [`bring_up`], with a text that says whose the link is.
pub(super) fn bring_up_as(index: u32, alias: &str) -> Message {
    link(NEW_LINK, ACK, index, UP).text(LINK_ALIAS, alias)
}

pub(super) fn delete_link(index: u32) -> Message {
    link(DELETE_LINK, ACK, index, 0)
}

pub(super) fn delete_link_named(name: &str) -> Message {
    link(DELETE_LINK, ACK, 0, 0).text(LINK_NAME, name)
}

pub(super) fn add_address<A: Address>(index: u32, address: A, subnet: Subnet<A>) -> Message {
    address_message(NEW_ADDRESS, ACK | CREATE | REPLACE, index, address, subnet)
}

pub(super) fn delete_address<A: Address>(index: u32, address: A, subnet: Subnet<A>) -> Message {
    address_message(DELETE_ADDRESS, ACK, index, address, subnet)
}

/// The number of an address's family.
fn family<A: Address>() -> u8 {
    if A::BITS == 32 { libc::AF_INET as u8 } else { libc::AF_INET6 as u8 }
}

fn address_message<A: Address>(kind: u16, flags: u16, index: u32, address: A, subnet: Subnet<A>) -> Message {
    // Nobody else can have it: the kernel need not ask around first, which takes it a second.
    const WITHOUT_ASKING: u8 = 2;
    let of_v4 = A::BITS == 32;
    let fixed = [family::<A>(), subnet.prefix_len(), if of_v4 { 0 } else { WITHOUT_ASKING }, 0];
    let message = Message::new(kind, flags)
        .put(&fixed)
        .put(&index.to_ne_bytes())
        .attribute(2, &address.bytes())
        .attribute(1, &address.bytes());
    if of_v4 { message.attribute(4, &subnet.broadcast().bytes()) } else { message }
}

/// The way to everywhere else; another one gives way with `replace`, without it is an obstacle.
pub(super) fn add_default_route<A: Address>(index: u32, gateway: A, replace: bool) -> Message {
    const MAIN: u8 = 254;
    const BY_ADMINISTRATOR: u8 = 3;
    const UNICAST: u8 = 1;
    let flags = if replace { REPLACE } else { EXCLUSIVE };
    Message::new(NEW_ROUTE, ACK | CREATE | flags)
        .put(&[family::<A>(), 0, 0, 0, MAIN, BY_ADMINISTRATOR, 0, UNICAST, 0, 0, 0, 0])
        .attribute(5, &gateway.bytes())
        .u32(4, index)
}

/// The way to everywhere else is the link itself.
pub(super) fn add_route_to_link(index: u32) -> Message {
    const MAIN: u8 = 254;
    const BY_ADMINISTRATOR: u8 = 3;
    const OF_LINK: u8 = 253;
    const UNICAST: u8 = 1;
    Message::new(NEW_ROUTE, ACK | CREATE | REPLACE)
        .put(&[libc::AF_INET as u8, 0, 0, 0, MAIN, BY_ADMINISTRATOR, OF_LINK, UNICAST, 0, 0, 0, 0])
        .u32(4, index)
}

fn link(kind: u16, flags: u16, index: u32, set: u32) -> Message {
    Message::new(kind, flags).put(&interface(index, set))
}

/// `struct ifinfomsg`: family, padding, type, index, flags, and which flags to change.
fn interface(index: u32, set: u32) -> [u8; 16] {
    let mut fixed = [0; 16];
    fixed[4..8].copy_from_slice(&index.to_ne_bytes());
    fixed[8..12].copy_from_slice(&set.to_ne_bytes());
    fixed[12..16].copy_from_slice(&set.to_ne_bytes());
    fixed
}

/// What the kernel tells of a link.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) name: String,
    /// Such as `bridge`; empty for hardware.
    pub(super) kind: String,
    /// Whose it is, when somebody has noted that.
    pub(super) alias: String,
    pub(super) mtu: u32,
    pub(super) mac: Option<MacAddress>,
    pub(super) up: bool,
}

impl Link {
    pub(super) fn read(content: &[u8]) -> Option<Self> {
        let mut found = Self {
            index: u32_native(content.get(4..)?)?,
            up: u32_native(content.get(8..)?)? & UP != 0,
            ..Self::default()
        };
        for attribute in attributes(content.get(16..)?) {
            match attribute.kind {
                LINK_NAME => text(attribute.content).clone_into(&mut found.name),
                LINK_ALIAS => text(attribute.content).clone_into(&mut found.alias),
                LINK_ADDRESS => found.mac = attribute.content.first_chunk().map(|bytes| MacAddress::new(*bytes)),
                LINK_MTU => found.mtu = u32_native(attribute.content)?,
                LINK_INFO => {
                    let kind = attributes(attribute.content).find(|inner| inner.kind == INFO_KIND);
                    found.kind = kind.map(|inner| text(inner.content).to_owned()).unwrap_or_default();
                }
                _ => {}
            }
        }
        Some(found)
    }
}

pub(super) fn find_link(socket: &mut Netlink, name: &str) -> Result<Option<Link>, Error> {
    let question = link(GET_LINK, ACK, 0, 0).text(LINK_NAME, name).u32(LINK_DETAIL, WITHOUT_STATISTICS);
    one_link(socket, question)
}

pub(super) fn find_link_by_index(socket: &mut Netlink, index: u32) -> Result<Option<Link>, Error> {
    one_link(socket, link(GET_LINK, ACK, index, 0).u32(LINK_DETAIL, WITHOUT_STATISTICS))
}

fn one_link(socket: &mut Netlink, question: Message) -> Result<Option<Link>, Error> {
    let mut found = None;
    match socket.ask(question, |_, content| found = Link::read(content)) {
        Ok(()) => Ok(found),
        Err(error) if error.is(Errno::NODEV) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Makes the kernel honour at once that a link has a carrier now. It would do so some milliseconds later, and lose the
/// first packets until then, which then takes a second. Asking for a link does it (since Linux 6.8).
pub(super) fn honour_carrier(index: u32, name: &str) -> Message {
    let question = link(GET_LINK, ACK, index, 0).u32(LINK_DETAIL, WITHOUT_STATISTICS);
    if index == 0 { question.text(LINK_NAME, name) } else { question }
}

pub(super) fn links(socket: &mut Netlink) -> Result<Vec<Link>, Error> {
    let question = link(GET_LINK, DUMP, 0, 0).u32(LINK_DETAIL, WITHOUT_STATISTICS);
    let mut found = Vec::new();
    socket.dump(&question, |part| match part {
        None => found.clear(),
        Some((_, content)) => found.extend(Link::read(content)),
    })?;
    Ok(found)
}

/// The addresses of all links of one family, as index, address and subnet.
pub(super) fn addresses<A: Address>(socket: &mut Netlink) -> Result<Vec<(u32, A, Subnet<A>)>, Error> {
    let question = Message::new(GET_ADDRESS, DUMP).put(&[family::<A>(), 0, 0, 0]).put(&[0; 4]);
    let mut found = Vec::new();
    socket.dump(&question, |part| match part {
        None => found.clear(),
        Some((_, content)) => found.extend(read_address(content)),
    })?;
    Ok(found)
}

pub(super) fn read_address<A: Address>(content: &[u8]) -> Option<(u32, A, Subnet<A>)> {
    if *content.first()? != family::<A>() {
        return None;
    }
    let (prefix_len, index) = (*content.get(1)?, u32_native(content.get(4..)?)?);
    // The local address (2) differs from the other one (1) at the ends of a tunnel; IPv6 often has only that.
    let find = |kind| attributes(content.get(8..).unwrap_or_default()).find(|attribute| attribute.kind == kind);
    let address = read_number(find(2).or_else(|| find(1))?.content)?;
    Some((index, address, Subnet::of(address, prefix_len)?))
}

fn read_number<A: Address>(bytes: &[u8]) -> Option<A> {
    let bytes = bytes.get(..usize::from(A::BITS / 8))?;
    Some(A::from_number(bytes.iter().fold(0, |number, byte| number << 8 | u128::from(*byte))))
}

/// Where the host's routes lead.
pub(super) struct Routes<A> {
    /// All destinations but the default.
    pub(super) destinations: Vec<Subnet<A>>,
    /// The link of the best default route.
    pub(super) uplink: Option<u32>,
}

pub(super) fn routes<A: Address>(socket: &mut Netlink) -> Result<Routes<A>, Error> {
    let question = Message::new(GET_ROUTE, DUMP).put(&[family::<A>(), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let none = || Routes { destinations: Vec::new(), uplink: None };
    let mut found = none();
    let mut best = u32::MAX;
    socket.dump(&question, |part| {
        let Some((_, content)) = part else {
            found = none();
            best = u32::MAX;
            return;
        };
        let Some((destination, index, priority)) = read_route::<A>(content) else { return };
        if destination.prefix_len() > 0 {
            found.destinations.push(destination);
        } else if index != 0 && (priority < best || found.uplink.is_none()) {
            best = priority;
            found.uplink = Some(index);
        }
    })?;
    Ok(found)
}

pub(super) fn read_route<A: Address>(content: &[u8]) -> Option<(Subnet<A>, u32, u32)> {
    if *content.first()? != family::<A>() {
        return None;
    }
    let (prefix_len, mut address, mut index, mut priority) = (*content.get(1)?, A::from_number(0), 0, 0);
    for attribute in attributes(content.get(12..)?) {
        match attribute.kind {
            1 => address = read_number(attribute.content)?,
            4 => index = u32_native(attribute.content)?,
            6 => priority = u32_native(attribute.content)?,
            _ => {}
        }
    }
    Some((Subnet::of(address, prefix_len)?, index, priority))
}
