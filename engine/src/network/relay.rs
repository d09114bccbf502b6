//! Published ports without translation: the engine listens on them itself and passes on what comes.
//!
//! That costs a program's time, but what comes has passed the host's own rules for what is meant for it (the chain INPUT, which
//! ufw and its kind write), as for any program that listens. Containers see the bridge's address as that of who calls.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use engine_sys::datagram::{self, Local};
use engine_sys::namespace::in_network;
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt};
use rustix::pipe::{PipeFlags, SpliceFlags};
use tokio::io::Interest;
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

use super::firewall::Port;
use super::port::{Claims, Places};
use super::{Error, Protocol};
use crate::id::ContainerId;

/// The most connections of one port, and the most peers of one port for datagrams.
const MAX_CONNECTIONS: usize = 1024;
const MAX_PEERS: usize = 1024;
/// How long a container may take to accept.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a peer that sends datagrams is remembered without any.
const MEMORY: Duration = Duration::from_secs(90);
/// How long a datagram may wait for room.
const CROWDED: Duration = Duration::from_millis(20);
/// How much is passed on at once.
const PIECE: usize = 64 << 10;
const DATAGRAM: usize = 65_535;
const BACKLOG: i32 = 512;
/// Whether a quiet connection has another end still: asked after this time, and then some times more.
const QUIET: Duration = Duration::from_secs(60);
const ASK_AGAIN: Duration = Duration::from_secs(15);
const ASKED: u32 = 5;

/// The namespace to make sockets in, when it is another one than the program's.
type Host = Option<Arc<OwnedFd>>;

/// Where each address and port of the host leads.
type Targets = Arc<RwLock<HashMap<(Protocol, SocketAddr), SocketAddr>>>;

/// The ports that are relayed, by container.
#[derive(Debug, Default)]
pub(super) struct Relays {
    running: Mutex<HashMap<ContainerId, Relay>>,
    runtime: Option<Handle>,
    /// The network namespace of the host, when it is not that of the program.
    elsewhere: Option<Arc<OwnedFd>>,
}

#[derive(Debug, Default)]
struct Relay {
    targets: Targets,
    tasks: Vec<Listening>,
    /// Ports that are only held.
    held: Vec<OwnedFd>,
}

/// A port that is listened at, until this is dropped.
#[derive(Debug)]
struct Listening {
    protocol: Protocol,
    at: SocketAddr,
    /// It is for both families of addresses.
    both: bool,
    task: AbortHandle,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Relays {
    /// Relays on the runtime that the caller is in, if in any.
    pub(super) fn new() -> Self {
        let place = |path| std::fs::File::open(path).and_then(|file| Ok((file.metadata()?.ino(), file)));
        let elsewhere = match (place("/proc/thread-self/ns/net"), place("/proc/self/ns/net")) {
            (Ok((here, file)), Ok((usual, _))) if here != usual => Some(Arc::new(file.into())),
            _ => None,
        };
        Self { running: Mutex::default(), runtime: Handle::try_current().ok(), elsewhere }
    }

    fn running(&self) -> MutexGuard<'_, HashMap<ContainerId, Relay>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Listens at `claims` and passes on to where `ports` lead: at all of them, or it fails. Where there is a relay already, it
    /// leads there from now on, and listens at `claims` too.
    pub(super) fn start(&self, container: &ContainerId, ports: &[Port], claims: Claims) -> Result<(), Error> {
        let mut failed = self.start_what_can_be(container, ports, claims)?;
        match failed.pop() {
            None => Ok(()),
            Some(error) => Err(Error::system("listen at a published port")(error)),
        }
    }

    /// As [`Self::start`]; those that cannot be listened at keep none of the others from it, and are told of.
    pub(super) fn start_what_can_be(
        &self,
        container: &ContainerId,
        ports: &[Port],
        claims: Claims,
    ) -> Result<Vec<io::Error>, Error> {
        let mut targets = HashMap::new();
        for port in ports.iter().flat_map(|port| port.each()).filter(|port| port.published.host_port > 0) {
            let target = SocketAddr::new(port.address, port.published.port);
            let at = SocketAddr::new(port.published.host_address, port.published.host_port);
            targets.entry((port.published.protocol, at)).or_insert(target);
        }
        let runtime = self.runtime.clone().or_else(|| Handle::try_current().ok()).ok_or(Error::Interrupted)?;
        let mut running = self.running();
        let relay = running.entry(*container).or_default();
        *relay.targets.write().unwrap_or_else(PoisonError::into_inner) = targets;
        let _inside = runtime.enter();
        let mut failed = Vec::new();
        for claim in claims {
            if sockopt::socket_protocol(&claim).is_ok_and(|protocol| protocol == Some(ipproto::SCTP)) {
                relay.held.push(claim);
                continue;
            }
            match listen(claim, &relay.targets, &runtime, &self.elsewhere) {
                Ok(task) => relay.tasks.push(task),
                Err(error) => failed.push(error),
            }
        }
        Ok(failed)
    }

    /// Listens no longer at a container's ports that are none of these.
    pub(super) fn keep(&self, container: &ContainerId, places: &Places) {
        let mut running = self.running();
        let Some(relay) = running.get_mut(container) else { return };
        relay.tasks.retain(|one| !places.needed(one.protocol, one.at, one.both).is_empty());
        super::port::keep_claims(&mut relay.held, places);
    }

    /// Whether a container's ports are relayed here.
    pub(super) fn has(&self, container: &ContainerId) -> bool {
        self.running().contains_key(container)
    }

    /// Ends all that a container's ports relay.
    pub(super) fn stop(&self, container: &ContainerId) {
        self.running().remove(container);
    }
}

fn listen(claim: OwnedFd, targets: &Targets, runtime: &Handle, host: &Host) -> io::Result<Listening> {
    let kind = sockopt::socket_type(&claim)?;
    let (targets, host) = (Arc::clone(targets), host.clone());
    let both = sockopt::socket_domain(&claim)? == AddressFamily::INET6 && !sockopt::ipv6_v6only(&claim)?;
    rustix::io::ioctl_fionbio(&claim, true)?;
    if kind == SocketType::DGRAM {
        datagram::tell_addressed(&claim)?;
        let socket = UdpSocket::from_std(claim.into())?;
        let at = socket.local_addr()?;
        let target = move || find(&targets, Protocol::Udp, at, both);
        let task = runtime.spawn(datagrams(Arc::new(socket), target, host)).abort_handle();
        return Ok(Listening { protocol: Protocol::Udp, at, both, task });
    }
    rustix::net::listen(&claim, BACKLOG)?;
    let listener = TcpListener::from_std(claim.into())?;
    let at = listener.local_addr()?;
    let target = move || find(&targets, Protocol::Tcp, at, both);
    let task = runtime.spawn(connections(listener, target, host)).abort_handle();
    Ok(Listening { protocol: Protocol::Tcp, at, both, task })
}

/// Where what comes to a socket goes. One socket may be for both families: then IPv4 leads to the container, if it has any.
fn find(targets: &Targets, protocol: Protocol, at: SocketAddr, both: bool) -> Option<SocketAddr> {
    let targets = targets.read().unwrap_or_else(PoisonError::into_inner);
    let of = |at| targets.get(&(protocol, at)).copied();
    let any = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), at.port());
    // What a socket says of its scope is no part of what was asked for.
    let at = SocketAddr::new(at.ip(), at.port());
    if both { of(any).or_else(|| of(at)) } else { of(at) }
}

/// All connections of one port. They end with it.
async fn connections(listener: TcpListener, target: impl Fn() -> Option<SocketAddr>, host: Host) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut work = JoinSet::new();
    loop {
        while work.try_join_next().is_some() {}
        // Who finds no room waits in the kernel's queue.
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let Some(target) = target() else { continue };
                let host = host.clone();
                work.spawn(async move {
                    // How a connection ends is the business of both ends.
                    let _ = connection(stream, target, &host).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "a published port accepts nothing");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
}

async fn connection(outside: TcpStream, target: SocketAddr, host: &Host) -> io::Result<()> {
    let socket = TcpSocket::from_std_stream(open(host, target.ip(), SocketType::STREAM).await?.into());
    let inside = timeout(PATIENCE, socket.connect(target)).await.map_err(|_| io::ErrorKind::TimedOut)??;
    stay_awake(&outside)?;
    stay_awake(&inside)?;
    tokio::try_join!(pass(&outside, &inside), pass(&inside, &outside)).map(|_| ())
}

/// Nothing waits to be sent, and an end that is gone without a word is noticed: neither of the two programs sees the other's.
fn stay_awake(connection: &TcpStream) -> io::Result<()> {
    connection.set_nodelay(true)?;
    sockopt::set_socket_keepalive(connection, true)?;
    sockopt::set_tcp_keepidle(connection, QUIET)?;
    sockopt::set_tcp_keepintvl(connection, ASK_AGAIN)?;
    Ok(sockopt::set_tcp_keepcnt(connection, ASKED)?)
}

/// Passes on until the end, and the end too. The bytes stay in the kernel.
async fn pass(from: &TcpStream, to: &TcpStream) -> io::Result<()> {
    let (out, into) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
    let some = |from: &dyn AsFd, to: &dyn AsFd, length| {
        rustix::pipe::splice(from.as_fd(), None, to.as_fd(), None, length, flags).map_err(io::Error::from)
    };
    loop {
        // The pipe is empty here: it is the connection that is waited for.
        let mut left = from.async_io(Interest::READABLE, || some(from, &into, PIECE)).await?;
        if left == 0 {
            return match rustix::net::shutdown(to, rustix::net::Shutdown::Write) {
                // It has ended already.
                Err(rustix::io::Errno::NOTCONN) => Ok(()),
                other => Ok(other?),
            };
        }
        while left > 0 {
            left -= to.async_io(Interest::WRITABLE, || some(&out, to, left)).await?;
        }
    }
}

/// The datagrams of one port: who sends some, and to which address, has a socket of its own towards the container, for the answers.
async fn datagrams(socket: Arc<UdpSocket>, target: impl Fn() -> Option<SocketAddr>, host: Host) {
    let mut peers: HashMap<(SocketAddr, Option<Local>), (Arc<UdpSocket>, AbortHandle)> = HashMap::new();
    let mut work = JoinSet::new();
    let mut buffer = vec![0; DATAGRAM];
    loop {
        let received = socket.async_io(Interest::READABLE, || datagram::receive(&*socket, &mut buffer)).await;
        let (length, peer) = match received {
            Ok(received) => (received.length, (received.from, received.to)),
            Err(error) => {
                tracing::debug!(%error, "a published port receives nothing");
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            }
        };
        let Some(target) = target() else { continue };
        while work.try_join_next().is_some() {}
        let known = peers.get(&peer).filter(|(inside, answers)| {
            !answers.is_finished() && inside.peer_addr().is_ok_and(|known| known == target)
        });
        let inside = match known {
            Some((inside, _)) => Arc::clone(inside),
            None => {
                peers.retain(|_, (_, answers)| !answers.is_finished());
                if peers.len() >= MAX_PEERS {
                    continue;
                }
                let Ok(inside) = towards(&host, target).await else { continue };
                let inside = Arc::new(inside);
                let answers = work.spawn(answers(Arc::clone(&inside), Arc::clone(&socket), peer));
                peers.insert(peer, (Arc::clone(&inside), answers));
                inside
            }
        };
        // What does not fit a queue is lost, as anywhere on the way.
        let _ = timeout(CROWDED, inside.send(buffer.get(..length).unwrap_or_default())).await;
    }
}

async fn towards(host: &Host, target: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::from_std(open(host, target.ip(), SocketType::DGRAM).await?.into())?;
    socket.connect(target).await?;
    Ok(socket)
}

/// A socket of the host.
async fn open(host: &Host, towards: IpAddr, kind: SocketType) -> io::Result<OwnedFd> {
    let family = if towards.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let open = move || rustix::net::socket_with(family, kind, flags, None).map_err(io::Error::from);
    let Some(host) = host.clone() else { return open() };
    let opened = tokio::task::spawn_blocking(move || in_network(host.as_fd(), open));
    opened.await.map_err(io::Error::other)?
}

/// They come from the address that was asked, as any other program's.
async fn answers(inside: Arc<UdpSocket>, outside: Arc<UdpSocket>, (peer, asked): (SocketAddr, Option<Local>)) {
    let mut buffer = vec![0; DATAGRAM];
    loop {
        match timeout(MEMORY, inside.recv(&mut buffer)).await {
            Ok(Ok(length)) => {
                let answer = buffer.get(..length).unwrap_or_default();
                let sent =
                    outside.async_io(Interest::WRITABLE, || datagram::send(&*outside, answer, peer, asked)).await;
                // Whom everybody hears (broadcast) cannot be who answers.
                if sent.is_err_and(|error| error.raw_os_error() == Some(rustix::io::Errno::INVAL.raw_os_error())) {
                    let _ = outside.send_to(answer, peer).await;
                }
            }
            // Nobody listens there now; that may change.
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Ok(Err(_)) | Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn each_address_of_the_host_leads_where_it_was_said() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let pairs = [
            ("127.0.0.1:80", "172.17.0.2:22"),
            ("203.0.113.5:80", "172.17.0.2:80"),
            ("0.0.0.0:81", "172.17.0.2:81"),
            ("[::]:81", "[fd00::2]:81"),
            ("[::]:82", "[fd00::2]:82"),
        ];
        let targets = pairs.map(|(from, to)| ((Protocol::Tcp, at(from)), at(to)));
        let targets: Targets = Arc::new(RwLock::new(targets.into()));
        let found = |from, both| find(&targets, Protocol::Tcp, at(from), both).map(|to| to.to_string());
        assert_eq!(found("127.0.0.1:80", false).unwrap(), "172.17.0.2:22");
        assert_eq!(found("203.0.113.5:80", false).unwrap(), "172.17.0.2:80");
        assert_eq!(found("[::]:81", true).unwrap(), "172.17.0.2:81");
        assert_eq!(found("[::]:81", false).unwrap(), "[fd00::2]:81");
        assert_eq!(found("[::]:82", true).unwrap(), "[fd00::2]:82");
        assert_eq!(found("192.0.2.1:80", false), None);
    }

    #[tokio::test]
    async fn quiet_connections_are_asked_after() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        stay_awake(&stream).unwrap();
        assert!(sockopt::socket_keepalive(&stream).unwrap() && stream.nodelay().unwrap());
        assert_eq!(sockopt::tcp_keepidle(&stream).unwrap(), QUIET);
        let asked = (sockopt::tcp_keepintvl(&stream).unwrap(), sockopt::tcp_keepcnt(&stream).unwrap());
        assert_eq!(asked, (ASK_AGAIN, ASKED));
    }
}
