//! The name service of containers on networks with names: at 127.0.0.11 in each of their namespaces, all answered by one
//! server.
//!
//! Its sockets are opened inside the namespace, at ports of their own, and two rules there lead port 53 to them: a container
//! may be a name server itself. When an engine is gone, its sockets are too; the next one opens them again.

mod message;
mod names;
mod socket;
mod upstream;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

use self::message::{Code, MAX_ANSWER, Odd, Question, Record};
use self::names::Names;
use self::upstream::{Servers, Upstream};
use super::record::Endpoint;
use super::{Error, NetworkNamespace, Networks};
use crate::id::ContainerId;
use crate::state::{State, Table};

/// Reads bytes as a question for a name and as an answer of a server; false when they are neither. For those who want to know
/// what the name service makes of foreign bytes.
pub fn read_name_message(bytes: &[u8]) -> bool {
    let answer = message::lifetimes(bytes).is_some();
    match message::read(bytes) {
        Ok(question) => {
            let _ = message::reversed(&question.name);
            true
        }
        Err(_) => answer,
    }
}

/// The longest question by datagram.
const MAX_QUESTION: usize = 4096;
/// The most questions of one container that wait for servers outside, and the most connections.
const MAX_WAITING: usize = 256;
const MAX_CONNECTIONS: usize = 32;
/// How long a connection may say nothing.
const SILENCE: Duration = Duration::from_secs(10);

/// The one server.
#[derive(Debug)]
pub(super) struct Resolver {
    shared: Arc<Shared>,
    running: Mutex<HashMap<ContainerId, AbortHandle>>,
    /// Where it runs: that of whoever opened the networks.
    runtime: Option<Handle>,
}

#[derive(Debug)]
struct Shared {
    state: State,
    /// The names, and the version of the state that they are of.
    names: RwLock<(Option<i64>, Arc<Names>)>,
    upstream: Upstream,
    /// So that not everybody is told the same address first.
    turn: AtomicUsize,
}

impl Resolver {
    pub(super) fn new(state: &State) -> Self {
        Self {
            shared: Arc::new(Shared {
                state: state.clone(),
                names: RwLock::default(),
                upstream: Upstream::default(),
                turn: AtomicUsize::new(0),
            }),
            running: Mutex::default(),
            runtime: Handle::try_current().ok(),
        }
    }

    fn running(&self) -> MutexGuard<'_, HashMap<ContainerId, AbortHandle>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the service of a container. Its namespace is let go of.
    pub(super) fn stop(&self, container: &ContainerId) {
        if let Some(task) = self.running().remove(container) {
            task.abort();
        }
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        for (_, task) in self.running().drain() {
            task.abort();
        }
    }
}

impl Networks {
    /// Looks names up for a container from now on, in its namespace; `servers` are asked for what is outside, or those of
    /// the host when there are none. Fine when it is done already. Needs that the networks were opened within a tokio runtime.
    ///
    /// # Errors
    /// When the namespace cannot be entered or changed.
    pub fn resolve_blocking(
        &self,
        container: &ContainerId,
        namespace: &NetworkNamespace,
        servers: Vec<IpAddr>,
    ) -> Result<(), Error> {
        let resolver = &self.shared.resolver;
        if resolver.running().get(container).is_some_and(|task| !task.is_finished()) {
            return Ok(());
        }
        let runtime = resolver.runtime.clone().or_else(|| Handle::try_current().ok()).ok_or(Error::Interrupted)?;
        let (udp, tcp) = socket::open(container, namespace.as_fd())?;
        let namespace = Arc::new(namespace.to_fd()?);
        let shared = Arc::clone(&resolver.shared);
        let open = || -> std::io::Result<(UdpSocket, TcpListener)> {
            let _inside = runtime.enter();
            Ok((UdpSocket::from_std(udp)?, TcpListener::from_std(tcp)?))
        };
        let (udp, tcp) = open().map_err(Error::system("open the name service of a container"))?;
        let service = Service { shared, container: *container, servers: Servers { asked: servers, namespace } };
        let task = runtime.spawn(Arc::new(service).serve(udp, tcp));
        if let Some(before) = resolver.running().insert(*container, task.abort_handle()) {
            before.abort();
        }
        Ok(())
    }

    /// Whether a container's ends are such that names are looked up for it.
    pub fn has_names(endpoints: &[Endpoint]) -> bool {
        endpoints.iter().any(|endpoint| endpoint.interface.is_some() && endpoint.network_name != super::BRIDGE)
    }
}

/// The service of one container.
struct Service {
    shared: Arc<Shared>,
    container: ContainerId,
    servers: Servers,
}

impl Service {
    /// All that belongs to it ends with it.
    async fn serve(self: Arc<Self>, udp: UdpSocket, tcp: TcpListener) {
        let udp = Arc::new(udp);
        let mut work = JoinSet::new();
        let waiting = Arc::new(Semaphore::new(MAX_WAITING));
        let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut buffer = vec![0; MAX_QUESTION];
        loop {
            tokio::select! {
                received = udp.recv_from(&mut buffer) => match received {
                    Ok((length, from)) => {
                        let query = &buffer[..length];
                        match self.at_once(query, false) {
                            Answer::Nothing => {}
                            Answer::Known(answer) => {
                                // One that does not fit its queue is asked again.
                                let _ = udp.try_send_to(&answer, from);
                            }
                            Answer::Elsewhere(question) => {
                                // More than that is not answered: who asks tries again.
                                let Ok(permit) = Arc::clone(&waiting).try_acquire_owned() else { continue };
                                let (service, udp, query) = (Arc::clone(&self), Arc::clone(&udp), query.to_vec());
                                work.spawn(async move {
                                    let answer = service.elsewhere(&query, &question, false).await;
                                    let _ = udp.send_to(&answer, from).await;
                                    drop(permit);
                                });
                            }
                        }
                    }
                    Err(error) => self.rest(&error).await,
                },
                accepted = tcp.accept() => match accepted {
                    Ok((stream, _)) => {
                        let Ok(permit) = Arc::clone(&connections).try_acquire_owned() else { continue };
                        let service = Arc::clone(&self);
                        work.spawn(async move {
                            // How it ends is the container's business.
                            let _ = service.converse(stream).await;
                            drop(permit);
                        });
                    }
                    Err(error) => self.rest(&error).await,
                },
                Some(_) = work.join_next(), if !work.is_empty() => {}
            }
        }
    }

    /// After an error of a socket, which may be one of many.
    async fn rest(&self, error: &std::io::Error) {
        tracing::debug!(container = %self.container, %error, "a name service's socket failed");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }

    async fn converse(&self, mut stream: TcpStream) -> std::io::Result<()> {
        loop {
            let length = timeout(SILENCE, stream.read_u16()).await.map_err(|_| std::io::ErrorKind::TimedOut)??;
            let mut query = vec![0; usize::from(length)];
            timeout(SILENCE, stream.read_exact(&mut query)).await.map_err(|_| std::io::ErrorKind::TimedOut)??;
            let answer = match self.at_once(&query, true) {
                Answer::Nothing => return Ok(()),
                Answer::Known(answer) => answer,
                Answer::Elsewhere(question) => self.elsewhere(&query, &question, true).await,
            };
            let length = u16::try_from(answer.len()).map_err(|_| std::io::ErrorKind::InvalidData)?;
            let mut whole = length.to_be_bytes().to_vec();
            whole.extend(answer);
            timeout(SILENCE, stream.write_all(&whole)).await.map_err(|_| std::io::ErrorKind::TimedOut)??;
        }
    }

    /// What can be said without asking anybody.
    fn at_once(&self, query: &[u8], tcp: bool) -> Answer {
        let question = match message::read(query) {
            Ok(question) => question,
            Err(Odd::Silent) => return Answer::Nothing,
            Err(Odd::Refused(code)) => return Answer::Known(message::answer(query, None, code, &[], MAX_ANSWER)),
        };
        let limit = if tcp { usize::from(u16::MAX) } else { question.room() };
        let known =
            |code, records: &[Record]| Answer::Known(message::answer(query, Some(&question), code, records, limit));
        let names = match self.shared.names() {
            Ok(names) => names,
            Err(error) => {
                tracing::error!(%error, "the names of containers cannot be looked up");
                return known(Code::Failed, &[]);
            }
        };
        if question.is_of_internet() {
            if let Some(found) = names.find(&self.container, &question.name) {
                let mut records: Vec<Record> = match question.kind {
                    message::A => found.iter().filter_map(|addresses| addresses.v4.map(Record::A)).collect(),
                    message::AAAA => found.iter().filter_map(|addresses| addresses.v6.map(Record::Aaaa)).collect(),
                    // It is there, and has nothing of the kind.
                    _ => Vec::new(),
                };
                if records.len() > 1 {
                    let turn = self.shared.turn.fetch_add(1, Ordering::Relaxed) % records.len();
                    records.rotate_left(turn);
                }
                return known(Code::Fine, &records);
            }
            let pointer = (question.kind == message::PTR)
                .then(|| names.pointer(&self.container, message::reversed(&question.name)?))
                .flatten();
            if let Some(name) = pointer {
                return known(Code::Fine, &[Record::Pointer(name.to_owned())]);
            }
        }
        // From a network without a way out no question finds one either.
        if !names.may_ask_elsewhere(&self.container) {
            return known(Code::Failed, &[]);
        }
        Answer::Elsewhere(question)
    }

    async fn elsewhere(&self, query: &[u8], question: &Question, tcp: bool) -> Vec<u8> {
        let answer = self.shared.upstream.ask(&self.servers, query, question, tcp).await;
        answer.unwrap_or_else(|| message::answer(query, Some(question), Code::Failed, &[], MAX_ANSWER))
    }
}

enum Answer {
    Nothing,
    Known(Vec<u8>),
    Elsewhere(Question),
}

impl Shared {
    /// The names as they are now, whichever engine has changed them.
    fn names(&self) -> Result<Arc<Names>, Error> {
        let version = self.state.version()?;
        {
            let known = self.names.read().unwrap_or_else(PoisonError::into_inner);
            if known.0 == Some(version) {
                return Ok(Arc::clone(&known.1));
            }
        }
        let endpoints = self.state.read(|look| look.list::<Endpoint>(Table::Endpoint))?;
        let endpoints: Vec<Endpoint> = endpoints.into_iter().map(|(_, endpoint)| endpoint).collect();
        let names = Arc::new(Names::of(&endpoints));
        // The version was asked before: what changes meanwhile is seen the next time.
        *self.names.write().unwrap_or_else(PoisonError::into_inner) = (Some(version), Arc::clone(&names));
        Ok(names)
    }
}
