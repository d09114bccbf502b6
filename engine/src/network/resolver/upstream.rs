//! Questions that no container is the answer to: asked of the servers outside, and their answers remembered for as long as
//! they say.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use engine_sys::namespace::in_network;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::message::{self, Question};
use crate::network::files;

/// How long one server may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often all servers are asked.
const ROUNDS: usize = 2;
/// The most servers that are asked.
const MAX_SERVERS: usize = 6;
/// The most answers that are remembered, the longest, and for how long at most.
const MAX_ANSWERS: usize = 2048;
const MAX_LENGTH: usize = 1500;
const MAX_LIFE: Duration = Duration::from_secs(300);
/// The longest answer by datagram.
const DATAGRAM: usize = 65_535;

/// Whom a container's questions go to.
#[derive(Debug, Clone)]
pub(super) struct Servers {
    /// Those that were asked for; the host's when empty.
    pub(super) asked: Vec<IpAddr>,
    /// The container's namespace, for servers on its own loopback.
    pub(super) namespace: Arc<OwnedFd>,
}

/// A foreign answer that is remembered.
#[derive(Debug)]
struct Answer {
    bytes: Vec<u8>,
    /// Where its times to live are.
    places: Vec<usize>,
    came: Instant,
    life: Duration,
}

type Key = (Vec<IpAddr>, Vec<u8>);

/// What outside servers have said, and which servers the host has.
#[derive(Debug, Default)]
pub(super) struct Upstream {
    answers: Mutex<HashMap<Key, Answer>>,
    host: Mutex<Option<OfHost>>,
}

/// The servers of the host as they were read.
#[derive(Debug, Clone)]
struct OfHost {
    servers: Vec<IpAddr>,
    modified: Option<SystemTime>,
    looked: Instant,
}

impl OfHost {
    /// What the file says now. It is read again when it was written since, or another has taken its place.
    fn look(known: Option<&Self>, file: &Path) -> Self {
        let modified = std::fs::metadata(file).and_then(|file| file.modified()).ok();
        let same = known.filter(|known| modified.is_some() && known.modified == modified);
        let servers = match same {
            Some(known) => known.servers.clone(),
            None => {
                let text = std::fs::read_to_string(file).unwrap_or_default();
                let servers = files::servers(&text);
                if servers.is_empty() { files::PUBLIC_SERVERS.to_vec() } else { servers }
            }
        };
        Self { servers, modified, looked: Instant::now() }
    }
}

impl Upstream {
    /// The answer of the servers; nothing when none of them gives one.
    pub(super) async fn ask(&self, servers: &Servers, query: &[u8], question: &Question, tcp: bool) -> Option<Vec<u8>> {
        let asked = if servers.asked.is_empty() { self.of_host() } else { servers.asked.clone() };
        let key = (asked, query.get(2..)?.to_vec());
        if !tcp && let Some(known) = self.known(&key, query) {
            return Some(known);
        }
        let mut last = None;
        for server in key.0.iter().cycle().take(key.0.len().min(MAX_SERVERS) * ROUNDS) {
            let own = server.is_loopback() && !servers.asked.is_empty();
            let inside = own.then(|| Arc::clone(&servers.namespace));
            let asked = if tcp {
                by_connection(*server, query, inside).await
            } else {
                by_datagram(*server, query, question, inside).await
            };
            match asked {
                Ok(answer) if message::belongs(&answer, query, question) => {
                    // Refused and failed: another one may know.
                    if matches!(message::code(&answer), 0 | 3) {
                        if !tcp && !message::is_cut(&answer) {
                            self.remember(key, &answer);
                        }
                        return Some(answer);
                    }
                    last = Some(answer);
                }
                Ok(_) => {}
                Err(error) => tracing::debug!(%server, %error, "a name server does not answer"),
            }
        }
        last
    }

    /// The host's own servers, read again when its file has changed.
    fn of_host(&self) -> Vec<IpAddr> {
        const CALM: Duration = Duration::from_secs(1);
        let mut host = self.host.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = host.as_ref().filter(|known| known.looked.elapsed() < CALM) {
            return known.servers.clone();
        }
        let now = OfHost::look(host.as_ref(), Path::new(files::RESOLV_CONF));
        let servers = now.servers.clone();
        *host = Some(now);
        servers
    }

    fn known(&self, key: &Key, query: &[u8]) -> Option<Vec<u8>> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = answers.get(key)?;
        let age = answer.came.elapsed();
        if age >= answer.life {
            return None;
        }
        let mut bytes = answer.bytes.clone();
        bytes[..2].copy_from_slice(query.get(..2)?);
        let age = u32::try_from(age.as_secs()).unwrap_or(u32::MAX);
        for place in &answer.places {
            let life = bytes.get_mut(*place..place + 4)?;
            let left = u32::from_be_bytes([life[0], life[1], life[2], life[3]]).saturating_sub(age);
            life.copy_from_slice(&left.to_be_bytes());
        }
        Some(bytes)
    }

    fn remember(&self, key: Key, answer: &[u8]) {
        let Some((places, shortest)) = message::lifetimes(answer) else { return };
        let life = MAX_LIFE.min(Duration::from_secs(shortest.into()));
        if life.is_zero() || answer.len() > MAX_LENGTH {
            return;
        }
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if answers.len() >= MAX_ANSWERS {
            answers.retain(|_, answer| answer.came.elapsed() < answer.life);
            if answers.len() >= MAX_ANSWERS {
                answers.clear();
            }
        }
        answers.insert(key, Answer { bytes: answer.to_vec(), places, came: Instant::now(), life });
    }
}

async fn by_datagram(
    server: IpAddr,
    query: &[u8],
    question: &Question,
    inside: Option<Arc<OwnedFd>>,
) -> std::io::Result<Vec<u8>> {
    let from: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    // A port of its own for each question: nobody can guess where its answer is awaited.
    let bind = move || std::net::UdpSocket::bind((from, 0));
    let socket = match inside {
        None => bind()?,
        Some(namespace) => within(namespace, bind).await?,
    };
    socket.set_nonblocking(true)?;
    let socket = UdpSocket::from_std(socket)?;
    socket.connect((server, 53)).await?;
    let mut numbered = query.to_vec();
    let mut number = [0; 2];
    getrandom::fill(&mut number).map_err(|error| std::io::Error::other(error.to_string()))?;
    numbered[..2].copy_from_slice(&number);
    socket.send(&numbered).await?;
    let mut answer = vec![0; DATAGRAM];
    let received = timeout(PATIENCE, async {
        loop {
            let length = socket.recv(&mut answer).await?;
            if message::belongs(&answer[..length], &numbered, question) {
                return Ok::<_, std::io::Error>(length);
            }
        }
    });
    let length = received.await.map_err(|_| std::io::ErrorKind::TimedOut)??;
    answer.truncate(length);
    answer[..2].copy_from_slice(&query[..2]);
    Ok(answer)
}

async fn by_connection(server: IpAddr, query: &[u8], inside: Option<Arc<OwnedFd>>) -> std::io::Result<Vec<u8>> {
    let exchange = async {
        let mut stream = match inside {
            None => TcpStream::connect((server, 53)).await?,
            Some(namespace) => {
                let connect = move || std::net::TcpStream::connect_timeout(&SocketAddr::new(server, 53), PATIENCE);
                let stream = within(namespace, connect).await?;
                stream.set_nonblocking(true)?;
                TcpStream::from_std(stream)?
            }
        };
        let length = u16::try_from(query.len()).map_err(|_| std::io::ErrorKind::InvalidInput)?;
        stream.write_all(&length.to_be_bytes()).await?;
        stream.write_all(query).await?;
        let mut answer = vec![0; usize::from(stream.read_u16().await?)];
        stream.read_exact(&mut answer).await?;
        Ok(answer)
    };
    timeout(PATIENCE * 2, exchange).await.map_err(|_| std::io::ErrorKind::TimedOut)?
}

/// Makes a socket in the container's namespace.
async fn within<T: Send + 'static>(
    namespace: Arc<OwnedFd>,
    make: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    use std::os::fd::AsFd as _;
    let made = tokio::task::spawn_blocking(move || in_network(namespace.as_fd(), make));
    made.await.map_err(std::io::Error::other)?
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn changes_of_the_host_s_own_file_are_followed() {
        let room = tempfile::tempdir().unwrap();
        let file = room.path().join("resolv.conf");
        let told = |known: Option<&OfHost>| {
            let now = OfHost::look(known, &file);
            let servers = now.servers.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
            (now, servers)
        };
        let write = |text: &str, second: u64| {
            std::fs::write(&file, text).unwrap();
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(second);
            std::fs::File::options().write(true).open(&file).unwrap().set_modified(time).unwrap();
        };
        let (_, none) = told(None);
        assert_eq!(none, "8.8.8.8 8.8.4.4", "without a file public ones are asked");
        write("nameserver 192.0.2.1\nnameserver 2001:db8::1\n", 10);
        let (known, servers) = told(None);
        assert_eq!(servers, "192.0.2.1 2001:db8::1");
        write("nameserver 192.0.2.9\n", 10);
        assert_eq!(told(Some(&known)).1, servers, "nothing is read that was not written since");
        write("nameserver 192.0.2.9\n", 5);
        assert_eq!(told(Some(&known)).1, "192.0.2.9", "an older one has taken its place");
        std::fs::remove_file(&file).unwrap();
        assert_eq!(told(Some(&known)).1, none);
    }

    #[test]
    fn answers_are_remembered_for_as_long_as_they_live() {
        let upstream = Upstream::default();
        let mut query = vec![1, 2, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, b'a', 0, 0, 1, 0, 1];
        let question = message::read(&query).unwrap();
        let records = [message::Record::A(Ipv4Addr::new(9, 9, 9, 9))];
        let answer = message::answer(&query, Some(&question), message::Code::Fine, &records, 512);
        let key = (vec![IpAddr::V4(Ipv4Addr::LOCALHOST)], query[2..].to_vec());
        assert_eq!(upstream.known(&key, &query), None);
        upstream.remember(key.clone(), &answer);
        query[0] = 7;
        let known = upstream.known(&key, &query).unwrap();
        assert_eq!((known[0], &known[2..]), (7, &answer[2..]));
        // One whose time is over is not told any more, and one without any time is not kept.
        upstream.answers.lock().unwrap().get_mut(&key).unwrap().life = Duration::ZERO;
        assert_eq!(upstream.known(&key, &query), None);
        let unknown = message::answer(&query, Some(&question), message::Code::Unknown, &[], 512);
        upstream.remember((Vec::new(), Vec::new()), &unknown);
        assert_eq!(upstream.answers.lock().unwrap().len(), 1);
        for number in 0..MAX_ANSWERS as u32 {
            upstream.remember((Vec::new(), number.to_be_bytes().to_vec()), &answer);
        }
        assert!(upstream.answers.lock().unwrap().len() <= MAX_ANSWERS);
    }
}
