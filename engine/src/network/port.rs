//! Published ports: ports of the host that lead to containers.
//!
//! The packet filter translates what comes in for them. Beside that the engine holds a socket on each, so that
//! no program of the host takes the port meanwhile, and one that has it already is noticed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::os::fd::OwnedFd;
use std::str::FromStr;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto};
use serde::{Deserialize, Serialize};

use super::Error;
use crate::id::ContainerId;
use crate::state::{Snapshot, Table, Transaction};

/// Where ports that nobody asked for in particular are taken from.
const FREE: RangeInclusive<u16> = 32768..=60999;

/// What is carried to a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Connections.
    Tcp,
    /// Datagrams.
    Udp,
    /// Connections of messages.
    Sctp,
}

impl Protocol {
    /// Its number in IP.
    pub(super) fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

impl FromStr for Protocol {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            "sctp" => Ok(Self::Sctp),
            other => Err(Error::Protocol { name: other.chars().take(32).collect() }),
        }
    }
}

/// A port that is to be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish {
    /// What is carried.
    pub protocol: Protocol,
    /// The container's port.
    pub port: u16,
    /// The host's address; an unspecified one means all of its family, none means what the network says.
    pub host_address: Option<IpAddr>,
    /// The host's port: the first free one of these, or of all when none are named.
    pub host_ports: Option<RangeInclusive<u16>>,
}

/// A port that is published, or several in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PublishedPort {
    /// What is carried.
    pub protocol: Protocol,
    /// The container's port.
    pub port: u16,
    /// The host's address; unspecified means all of them.
    pub host_address: IpAddr,
    /// The host's port; 0 where the container's own is reached without one.
    pub host_port: u16,
    /// How many ports there are: each of those that follow leads to the one that follows.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub count: u16,
}

fn one() -> u16 {
    1
}

fn is_one(count: &u16) -> bool {
    *count == 1
}

impl PublishedPort {
    /// The ports one by one.
    pub fn each(self) -> impl Iterator<Item = Self> {
        // Where the host has no port of its own, there is none to follow either.
        let step = u16::from(self.host_port > 0);
        (0..self.count).map(move |at| Self {
            port: self.port.saturating_add(at),
            host_port: self.host_port.saturating_add(at * step),
            count: 1,
            ..self
        })
    }

    /// The last one of the host's.
    pub(super) fn last_host_port(&self) -> u16 {
        self.host_port.saturating_add(self.count.saturating_sub(1))
    }

    fn key(&self) -> String {
        let Self { protocol, host_port, host_address, .. } = self;
        match self.count {
            0 | 1 => format!("{protocol}/{host_port:05}/{host_address}"),
            _ => format!("{protocol}/{host_port:05}-{:05}/{host_address}", self.last_host_port()),
        }
    }

    /// Whether `next` goes on where this one ends.
    fn leads_on_to(&self, next: &Self) -> bool {
        let same = (self.protocol, self.host_address) == (next.protocol, next.host_address);
        same && (self.host_port > 0) == (next.host_port > 0)
            && self.port.checked_add(self.count) == Some(next.port)
            && (self.host_port == 0 || self.host_port.checked_add(self.count) == Some(next.host_port))
    }
}

/// Puts those that follow each other together; the order is kept otherwise.
fn put_together(ports: impl IntoIterator<Item = PublishedPort>) -> Vec<PublishedPort> {
    let mut together: Vec<PublishedPort> = Vec::new();
    // The last one of each address.
    let mut last: BTreeMap<(Protocol, IpAddr), usize> = BTreeMap::new();
    for port in ports {
        let place = (port.protocol, port.host_address);
        match last.get(&place).and_then(|at| together.get_mut(*at)) {
            Some(before) if before.leads_on_to(&port) => before.count += port.count,
            _ => {
                last.insert(place, together.len());
                together.push(port);
            }
        }
    }
    together
}

/// The sockets that keep ports for us; dropping them gives the ports free.
pub(super) type Claims = Vec<OwnedFd>;

/// Which ports of the host are given out: for each address the first and the last of each row of them.
#[derive(Debug, Default)]
struct Taken(BTreeMap<(Protocol, IpAddr), BTreeMap<u16, u16>>);

impl Taken {
    fn read(look: &Snapshot<'_>) -> Result<Self, Error> {
        let mut taken = Self::default();
        for key in look.keys(Table::Port)? {
            let mut parts = key.split('/');
            let (Some(protocol), Some(ports), Some(address)) = (parts.next(), parts.next(), parts.next()) else {
                continue;
            };
            let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
            if let (Ok(protocol), Ok(first), Ok(last), Ok(address)) =
                (protocol.parse(), first.parse(), last.parse(), address.parse())
            {
                taken.0.entry((protocol, address)).or_default().insert(first, last);
            }
        }
        Ok(taken)
    }

    /// Whether somebody has it, at this address or at all of its family.
    fn has(&self, protocol: Protocol, address: IpAddr, port: u16) -> bool {
        let clashes = |other: &IpAddr| {
            other.is_ipv4() == address.is_ipv4()
                && (*other == address || other.is_unspecified() || address.is_unspecified())
        };
        let rows = self.0.iter().filter(|((of, other), _)| *of == protocol && clashes(other)).map(|(_, rows)| rows);
        rows.flat_map(|rows| rows.range(..=port).next_back()).any(|(_, last)| *last >= port)
    }

    fn add(&mut self, protocol: Protocol, address: IpAddr, port: u16) {
        let rows = self.0.entry((protocol, address)).or_default();
        match rows.range_mut(..port).next_back() {
            Some((_, last)) if last.checked_add(1) == Some(port) => *last = port,
            _ => {
                rows.insert(port, port);
            }
        }
    }
}

/// A port that is to be published, and where.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    pub(super) publish: &'a Publish,
    /// The host's addresses.
    pub(super) addresses: Vec<IpAddr>,
    /// Unspecified addresses of the families whose containers are reached at their own addresses.
    pub(super) routed: Vec<IpAddr>,
}

/// Takes ports on all addresses that are said of each, or the first ones that are free on all of them, and says which.
/// Those that follow each other are one.
pub(super) fn take(
    transaction: &mut Transaction<'_>,
    container: &ContainerId,
    wanted: &[Wanted<'_>],
    claims: &mut Claims,
) -> Result<Vec<PublishedPort>, Error> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let mut taken = Taken::read(transaction)?;
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by_key(|at| wanted.get(*at).map(|wanted| (wanted.publish.protocol, wanted.publish.port)));
    let is_chosen = |at: &usize| {
        let range = wanted.get(*at).and_then(|wanted| wanted.publish.host_ports.as_ref());
        range.is_some_and(|range| range.len() == 1)
    };
    let mut chosen = vec![0; wanted.len()];
    // Those that name a port go first: nobody else is to be given it.
    for first in [true, false] {
        let mut next = BTreeMap::new();
        for at in order.iter().filter(|at| is_chosen(at) == first) {
            if let (Some(wanted), Some(chosen)) = (wanted.get(*at), chosen.get_mut(*at))
                && !wanted.addresses.is_empty()
            {
                *chosen = choose(&mut taken, wanted.publish, &wanted.addresses, &mut next, claims)?;
            }
        }
    }
    let ports = order.iter().filter_map(|at| Some((wanted.get(*at)?, *chosen.get(*at)?)));
    let ports = ports.flat_map(|(wanted, host_port)| {
        let Publish { protocol, port, .. } = *wanted.publish;
        let of = move |address: &IpAddr, host_port| PublishedPort {
            protocol,
            port,
            host_address: *address,
            host_port,
            count: 1,
        };
        let routed = wanted.routed.iter().map(move |address| of(address, 0));
        wanted.addresses.iter().map(move |address| of(address, host_port)).chain(routed)
    });
    // What several ports of the host were said to lead to is reached at the container's address once.
    let mut own = BTreeSet::new();
    let ports = ports.filter(|port| port.host_port > 0 || own.insert(*port));
    let ports = put_together(ports);
    for port in ports.iter().filter(|port| port.host_port > 0) {
        transaction.insert(Table::Port, &port.key(), container)?;
    }
    Ok(ports)
}

/// The first of the wanted ports that nobody has, engine or program; `next` is where free ones are looked for.
fn choose(
    taken: &mut Taken,
    wanted: &Publish,
    addresses: &[IpAddr],
    next: &mut BTreeMap<Protocol, u16>,
    claims: &mut Claims,
) -> Result<u16, Error> {
    let any = wanted.host_ports.is_none();
    let range = wanted.host_ports.clone().unwrap_or(FREE);
    let start = next.get(&wanted.protocol).copied().filter(|_| any).unwrap_or(*range.start());
    let mut refusal = None;
    for port in (start..=*range.end()).chain(*range.start()..start).filter(|port| *port != 0) {
        if let Some(address) = addresses.iter().find(|address| taken.has(wanted.protocol, **address, port)) {
            refusal.get_or_insert(Error::PortAllocated { address: *address, port });
            continue;
        }
        match claim_at(wanted.protocol, addresses, port) {
            Ok(sockets) => claims.extend(sockets),
            Err((address, Errno::ADDRINUSE)) => {
                refusal.get_or_insert(Error::PortInUse { protocol: wanted.protocol, address, port });
                continue;
            }
            Err((address, errno)) => {
                let what = format!("publish port {}/{}", SocketAddr::new(address, port), wanted.protocol);
                return Err(Error::system(what)(errno.into()));
            }
        }
        for address in addresses {
            taken.add(wanted.protocol, *address, port);
        }
        if any {
            next.insert(wanted.protocol, port.saturating_add(1));
        }
        return Ok(port);
    }
    Err(refusal.unwrap_or(Error::PortsExhausted))
}

/// Writes a port down that the container has had already.
pub(super) fn keep(
    transaction: &mut Transaction<'_>,
    container: &ContainerId,
    port: &PublishedPort,
) -> Result<(), Error> {
    if port.host_port == 0 {
        return Ok(());
    }
    Ok(transaction.put(Table::Port, &port.key(), container)?)
}

/// Gives a port back.
pub(super) fn free(transaction: &mut Transaction<'_>, port: &PublishedPort) -> Result<(), Error> {
    if port.host_port > 0 {
        transaction.delete(Table::Port, &port.key())?;
    }
    Ok(())
}

pub(super) fn key(port: &PublishedPort) -> String {
    port.key()
}

/// Holds ports that a container has, as far as nobody has taken them meanwhile; those that somebody has are the second part.
pub(super) fn claim(ports: &[PublishedPort]) -> (Claims, Vec<PublishedPort>) {
    let mut addresses: BTreeMap<(Protocol, u16), Vec<PublishedPort>> = BTreeMap::new();
    for port in ports.iter().filter(|port| port.host_port > 0).flat_map(|port| port.each()) {
        addresses.entry((port.protocol, port.host_port)).or_default().push(port);
    }
    let (mut claims, mut lost) = (Claims::new(), Vec::new());
    for ((protocol, host_port), ports) in addresses {
        let all: Vec<IpAddr> = ports.iter().map(|port| port.host_address).collect();
        if let Ok(held) = claim_at(protocol, &all, host_port) {
            claims.extend(held);
            continue;
        }
        // One that is taken loses none of the others.
        for port in ports {
            match claim_at(protocol, &[port.host_address], host_port) {
                Ok(held) => claims.extend(held),
                Err(_) => lost.push(port),
            }
        }
    }
    (claims, lost)
}

/// Ports of the host, one by one.
#[derive(Debug)]
pub(super) struct Places(BTreeSet<(Protocol, SocketAddr)>);

impl Places {
    pub(super) fn of<'a>(ports: impl IntoIterator<Item = &'a PublishedPort>) -> Self {
        let each = ports.into_iter().flat_map(|port| port.each()).filter(|port| port.host_port > 0);
        Self(each.map(|port| (port.protocol, SocketAddr::new(port.host_address, port.host_port))).collect())
    }

    /// Which of the addresses are needed that a socket is bound to; `both` makes that of IPv6 two.
    pub(super) fn needed(&self, protocol: Protocol, at: SocketAddr, both: bool) -> Vec<IpAddr> {
        // What a socket says of its scope is no part of what was asked for.
        let of_v4 = both.then_some(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let addresses = [at.ip()].into_iter().chain(of_v4);
        addresses.filter(|address| self.0.contains(&(protocol, SocketAddr::new(*address, at.port())))).collect()
    }
}

/// Lets go of the ports that are none of these.
pub(super) fn keep_claims(claims: &mut Claims, places: &Places) {
    let all = std::mem::take(claims);
    for claim in all {
        // One that says nothing of itself is rather kept.
        let Some((protocol, at, both)) = place_of(&claim) else {
            claims.push(claim);
            continue;
        };
        let needed = places.needed(protocol, at, both);
        if needed.len() == 1 + usize::from(both) {
            claims.push(claim);
            continue;
        }
        drop(claim);
        // One socket was for both families: what is left of it takes one of its own.
        for address in needed {
            match claim_one(protocol, address, at.port(), false) {
                Ok(held) => claims.push(held),
                Err(error) => tracing::warn!(%address, port = at.port(), %error, "a published port is no longer held"),
            }
        }
    }
}

/// Ends the connections that have come to us instead of to the containers: who calls hears it and calls again, and does not wait
/// for an answer that nobody gives.
pub(super) fn turn_away<'a>(claims: impl IntoIterator<Item = &'a OwnedFd>) {
    // No claim has a queue of more than a few, however many go on calling.
    const MOST: usize = 16;
    for claim in claims {
        for _ in 0..MOST {
            // Datagrams are nothing that can be accepted.
            let Ok(connection) = rustix::net::accept_with(claim, SocketFlags::CLOEXEC) else { break };
            let _ = rustix::net::sockopt::set_socket_linger(&connection, Some(Duration::ZERO));
        }
    }
}

/// What a claim is for, and whether it is for both families.
fn place_of(claim: &OwnedFd) -> Option<(Protocol, SocketAddr, bool)> {
    use rustix::net::sockopt;
    let at = SocketAddr::try_from(rustix::net::getsockname(claim).ok()?).ok()?;
    let protocol = match sockopt::socket_type(claim).ok()? {
        SocketType::DGRAM => Protocol::Udp,
        _ if sockopt::socket_protocol(claim).is_ok_and(|protocol| protocol == Some(ipproto::SCTP)) => Protocol::Sctp,
        _ => Protocol::Tcp,
    };
    let both = at.is_ipv6() && at.ip().is_unspecified() && !sockopt::ipv6_v6only(claim).ok()?;
    Some((protocol, at, both))
}

/// Sockets that keep a port at these addresses from the host's programs.
fn claim_at(protocol: Protocol, addresses: &[IpAddr], port: u16) -> Result<Claims, (IpAddr, Errno)> {
    let all = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
    if protocol != Protocol::Sctp
        && addresses == all
        && let Ok(both) = claim_one(protocol, all[1], port, true)
    {
        return Ok(vec![both]);
    }
    let mut claims = Claims::new();
    for address in addresses {
        match claim_one(protocol, *address, port, false) {
            Ok(socket) => claims.push(socket),
            // Without the kernel's SCTP no program of the host has such a port either.
            Err(Errno::PROTONOSUPPORT) if protocol == Protocol::Sctp => {}
            Err(errno) => return Err((*address, errno)),
        }
    }
    Ok(claims)
}

/// A socket for a port at one address; `both` makes all addresses of IPv6 those of IPv4 too.
fn claim_one(protocol: Protocol, address: IpAddr, port: u16, both: bool) -> Result<OwnedFd, Errno> {
    let (kind, number) = match protocol {
        Protocol::Tcp => (SocketType::STREAM, None),
        Protocol::Udp => (SocketType::DGRAM, None),
        Protocol::Sctp => (SocketType::STREAM, Some(ipproto::SCTP)),
    };
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, kind, flags, number)?;
    if family == AddressFamily::INET6 {
        rustix::net::sockopt::set_ipv6_v6only(&socket, !both)?;
    }
    if protocol == Protocol::Tcp {
        // Connections of the past that the kernel still remembers are no obstacle.
        rustix::net::sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    rustix::net::bind(&socket, &SocketAddr::new(address, port))?;
    if protocol != Protocol::Udp {
        rustix::net::listen(&socket, 0)?;
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::state::{Durability, State};

    fn wanted(address: [u8; 4], ports: Option<RangeInclusive<u16>>) -> Publish {
        Publish { protocol: Protocol::Tcp, port: 80, host_address: Some(address.into()), host_ports: ports }
    }

    #[test]
    fn ports_clash_on_the_same_or_on_all_addresses() {
        let (_namespace, ()) = engine_sys::namespace::new_network(|| {
            let mut inside = engine_sys::netlink::Netlink::open(engine_sys::netlink::Protocol::Route)?;
            inside.request(&mut [crate::network::link::bring_up(1)]).map_err(|error| error.source)?;
            let root = tempfile::tempdir()?;
            let state = State::open(root.path()).unwrap();
            let container = ContainerId::random();
            let mut claims = Claims::new();
            let mut take = |wanted: Publish| {
                let addresses = vec![wanted.host_address.unwrap()];
                let wanted = [Wanted { publish: &wanted, addresses, routed: Vec::new() }];
                let taken = state.write(Durability::Process, |tx| take(tx, &container, &wanted, &mut claims));
                taken.map(|ports| ports[0].host_port).map_err(|error| error.to_string())
            };
            let allocated = |address| Err(format!("Bind for {address} failed: port is already allocated"));
            assert_eq!(take(wanted([127, 0, 0, 1], Some(80..=80))), Ok(80));
            assert_eq!(take(wanted([127, 0, 0, 2], Some(80..=80))), Ok(80));
            assert_eq!(take(wanted([127, 0, 0, 2], Some(80..=80))), allocated("127.0.0.2:80"));
            assert_eq!(take(wanted([0, 0, 0, 0], Some(80..=80))), allocated("0.0.0.0:80"));
            assert_eq!(take(wanted([0, 0, 0, 0], Some(80..=81))), Ok(81));
            assert_eq!(take(wanted([127, 0, 0, 1], Some(81..=81))), allocated("127.0.0.1:81"));
            assert_eq!(take(Publish { protocol: Protocol::Udp, ..wanted([0; 4], Some(80..=80)) }), Ok(80));
            assert_eq!(take(wanted([0, 0, 0, 0], None)), Ok(*FREE.start()));
            // A program of the host has it.
            let _program = std::net::TcpListener::bind("0.0.0.0:90")?;
            let in_use = take(wanted([0, 0, 0, 0], Some(90..=90))).unwrap_err();
            assert_eq!(in_use, "failed to bind host port 0.0.0.0:90/tcp: address already in use");
            assert!(take(wanted([9, 9, 9, 9], Some(90..=90))).unwrap_err().contains("9.9.9.9:90/tcp"));
            // What we hold, no program of the host gets.
            assert!(std::net::TcpListener::bind("0.0.0.0:81").is_err());
            claims.clear();
            assert!(std::net::TcpListener::bind("0.0.0.0:81").is_ok());
            Ok(())
        })
        .unwrap();
    }

    #[test]
    fn connections_of_the_past_are_no_obstacle() {
        let (_namespace, ()) = engine_sys::namespace::new_network(|| {
            let mut inside = engine_sys::netlink::Netlink::open(engine_sys::netlink::Protocol::Route)?;
            inside.request(&mut [crate::network::link::bring_up(1)]).map_err(|error| error.source)?;
            let listener = std::net::TcpListener::bind("127.0.0.1:80")?;
            let client = std::net::TcpStream::connect("127.0.0.1:80")?;
            // Who ends first remembers the connection for a minute.
            drop(listener.accept()?);
            drop((client, listener));
            assert!(std::fs::read_to_string("/proc/thread-self/net/tcp")?.contains(":0050 "), "it is remembered");
            claim_one(Protocol::Tcp, Ipv4Addr::UNSPECIFIED.into(), 80, false).unwrap();
            Ok(())
        })
        .unwrap();
    }

    #[test]
    fn claims_of_ports_that_were_given_up_are_let_go() {
        let (_namespace, ()) = engine_sys::namespace::new_network(|| {
            let mut inside = engine_sys::netlink::Netlink::open(engine_sys::netlink::Protocol::Route)?;
            inside.request(&mut [crate::network::link::bring_up(1)]).map_err(|error| error.source)?;
            let of = |protocol, address: &str, host_port| {
                let host_address = address.parse().unwrap();
                PublishedPort { protocol, port: 80, host_address, host_port, count: 1 }
            };
            let tcp = |address, port| of(Protocol::Tcp, address, port);
            let both = [tcp("0.0.0.0", 80), tcp("::", 80)];
            let others = [tcp("127.0.0.1", 81), of(Protocol::Udp, "127.0.0.1", 81), tcp("127.0.0.1", 82)];
            let (mut claims, lost) = claim(&[&both[..], &others].concat());
            assert_eq!((claims.len(), lost.len()), (4, 0));
            keep_claims(&mut claims, &Places::of(&[both[0], others[1], others[2]]));
            let free = |address: &str| std::net::TcpListener::bind(address).is_ok();
            // What is left of both families is one; the other is free.
            assert!(free("[::1]:80") && !free("127.0.0.1:80"));
            assert!(free("127.0.0.1:81") && !free("127.0.0.1:82"));
            assert!(std::net::UdpSocket::bind("127.0.0.1:81").is_err());
            keep_claims(&mut claims, &Places::of(&[]));
            assert!(claims.is_empty() && free("127.0.0.1:80"));
            Ok(())
        })
        .unwrap();
    }

    #[test]
    fn ports_in_a_row_are_one() {
        let of = |port, host_port, address: &str| PublishedPort {
            protocol: Protocol::Tcp,
            port,
            host_address: address.parse().unwrap(),
            host_port,
            count: 1,
        };
        let mixed = [of(1, 5, "0.0.0.0"), of(1, 5, "::"), of(2, 6, "0.0.0.0"), of(2, 6, "::"), of(4, 7, "0.0.0.0")];
        let together = put_together(mixed);
        let told: Vec<_> = together.iter().map(|port| (port.key(), port.port, port.count)).collect();
        assert_eq!(
            told,
            [
                ("tcp/00005-00006/0.0.0.0".to_owned(), 1, 2),
                ("tcp/00005-00006/::".to_owned(), 1, 2),
                ("tcp/00007/0.0.0.0".to_owned(), 4, 1)
            ]
        );
        let each: Vec<_> = together.iter().flat_map(|port| port.each()).collect();
        assert_eq!(each.iter().copied().collect::<std::collections::BTreeSet<_>>(), mixed.into());
        let all = of(1, 1, "::");
        assert_eq!(PublishedPort { count: u16::MAX, ..all }.each().last().unwrap().host_port, u16::MAX);
        assert_eq!(put_together((1..=u16::MAX).map(|number| of(number, number, "::"))).len(), 1);
        // Those of an engine that knew no rows.
        let old: PublishedPort =
            serde_json::from_str(r#"{"protocol":"tcp","port":1,"host_address":"::","host_port":1}"#).unwrap();
        assert_eq!(old, all);
        assert!(!serde_json::to_string(&all).unwrap().contains("count"));
    }

    #[test]
    fn what_is_in_the_middle_of_a_row_is_taken() {
        let mut taken = Taken::default();
        for port in 100..200 {
            taken.add(Protocol::Tcp, "127.0.0.1".parse().unwrap(), port);
        }
        assert_eq!(taken.0.values().map(BTreeMap::len).sum::<usize>(), 1);
        let has = |address: &str, port| taken.has(Protocol::Tcp, address.parse().unwrap(), port);
        assert!(has("127.0.0.1", 100) && has("0.0.0.0", 150) && has("127.0.0.1", 199));
        assert!(!has("127.0.0.1", 99) && !has("127.0.0.1", 200) && !has("127.0.0.2", 150) && !has("::", 150));
        assert!(!taken.has(Protocol::Udp, "0.0.0.0".parse().unwrap(), 150));
    }
}
