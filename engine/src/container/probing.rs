//! Asking running containers for their health: one queue of times and one task for all of them, which there is only while
//! somebody is to be asked.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use rustix::thread::ThreadNameSpaceType;
use tokio::sync::{Notify, oneshot};

use super::health::{Health, HealthAnswer, HealthStatus, MAX_OUTPUT, OnUnhealthy, Probe, Rhythm, on_unhealthy, probe};
use super::inventory::{Inner, Shared, lock, now};
use super::live::Live;
use super::record::Record;
use super::status::Status;
use super::{Container, Error, ExecSpec, StopOptions};

/// How long a process may take to start, which is not the time that it has to answer.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// How long output is waited for once the process that was asked has ended.
const LAST_OUTPUT: Duration = Duration::from_millis(250);

/// How much of its wait a question may be early to go along with another: a machine that wakes up for one does little more for
/// several.
const EARLY: u32 = 32;
/// The most that a question is early.
const MAX_EARLY: Duration = Duration::from_millis(250);
/// How many go along. Without a bound all of a machine would in time be asked at once.
const TOGETHER: usize = 8;

/// Who is asked when.
#[derive(Debug, Default)]
pub(super) struct Prober {
    queue: Mutex<Queue>,
    earlier: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    times: BinaryHeap<Reverse<Due>>,
    /// There is a task that waits for the first of them.
    served: bool,
    number: u64,
}

/// One question to one run of a container.
#[derive(Debug)]
struct Due {
    at: Instant,
    /// From when on it may go along with another.
    from: Instant,
    number: u64,
    inner: Weak<Inner>,
    live: Weak<Live>,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

impl Due {
    fn new(now: Instant, wait: Duration, number: u64, inner: Weak<Inner>, live: Weak<Live>) -> Self {
        let at = now + wait;
        Self { at, from: at - (wait / EARLY).min(MAX_EARLY), number, inner, live }
    }
}

impl Prober {
    fn add(&self, now: Instant, wait: Duration, inner: &Arc<Inner>, live: &Arc<Live>) -> bool {
        let mut queue = lock(&self.queue);
        queue.number += 1;
        let due = Due::new(now, wait, queue.number, Arc::downgrade(inner), Arc::downgrade(live));
        let first = queue.times.peek().is_none_or(|Reverse(first)| due.at < first.at);
        queue.times.push(Reverse(due));
        let unserved = !std::mem::replace(&mut queue.served, true);
        drop(queue);
        if first {
            self.earlier.notify_one();
        }
        unserved
    }

    /// Those whose time has come with some whose time is near, and when the next one's comes; nobody serves the queue any more
    /// when it is empty.
    fn take(&self, now: Instant) -> (Vec<Due>, Option<Instant>) {
        let mut queue = lock(&self.queue);
        let mut due = Vec::new();
        while let Some(first) = queue.times.peek() {
            let goes_along = !due.is_empty() && due.len() < TOGETHER && first.0.from <= now;
            if first.0.at > now && !goes_along {
                return (due, Some(first.0.at));
            }
            due.extend(queue.times.pop().map(|Reverse(first)| first));
        }
        queue.served = !due.is_empty();
        // Who is due comes back, so that a queue of one is served on.
        let next = queue.served.then(|| now + Duration::from_secs(1));
        (due, next)
    }
}

/// Asks a run of a container from now on when it has a health check. Must be called within a tokio runtime.
pub(super) fn watch(shared: &Arc<Shared>, inner: &Arc<Inner>, live: &Arc<Live>) {
    let record = inner.record();
    let (Some(health), Some(check)) = (&record.health, &record.config.healthcheck) else { return };
    let rhythm = Rhythm::of(check);
    let spread = inner.id.as_str().get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok()).unwrap_or_default();
    let wait = rhythm.wait_of_restored(health, record.state.started_at, now(), spread);
    ask_in(shared, inner, live, wait);
}

fn ask_in(shared: &Arc<Shared>, inner: &Arc<Inner>, live: &Arc<Live>, wait: Duration) {
    if shared.prober.add(Instant::now(), wait, inner, live) {
        tokio::spawn(serve(Arc::clone(shared)));
    }
}

async fn serve(shared: Arc<Shared>) {
    let mut closing = shared.closing.subscribe();
    loop {
        let (due, next) = shared.prober.take(Instant::now());
        for due in due {
            let (Some(inner), Some(live)) = (due.inner.upgrade(), due.live.upgrade()) else { continue };
            tokio::spawn(ask(Arc::clone(&shared), inner, live));
        }
        let Some(next) = next else { return };
        tokio::select! {
            _ = closing.wait_for(|closing| *closing) => return,
            () = tokio::time::sleep_until(next.into()) => {}
            () = shared.prober.earlier.notified() => {}
        }
    }
}

async fn ask(shared: Arc<Shared>, inner: Arc<Inner>, live: Arc<Live>) {
    let same_run = || inner.live().is_some_and(|now| Arc::ptr_eq(&now, &live));
    let record = inner.record();
    let (Some(probe), Some(check)) = (probe(&record.config), &record.config.healthcheck) else { return };
    if !same_run() || record.health.is_none() {
        return;
    }
    let rhythm = Rhythm::of(check);
    if record.state.status == Status::Running {
        let container = Container { shared: Arc::clone(&shared), inner: Arc::clone(&inner) };
        let start = now();
        let (exit_code, output) = container.answer(&live, probe, rhythm.timeout).await;
        let answer = HealthAnswer { start, end: now(), exit_code, output };
        // It may have ended or been frozen over the question.
        if same_run() && inner.record().state.status == Status::Running {
            container.heard(answer, &rhythm);
        }
    }
    let record = inner.record();
    if let Some(health) = record.health.as_ref().filter(|_| same_run() && shared.open().is_ok()) {
        ask_in(&shared, &inner, &live, rhythm.wait(health, record.state.started_at, now()));
    }
}

impl Container {
    /// Notes an answer, and does what follows from it.
    fn heard(&self, answer: HealthAnswer, rhythm: &Rhythm) {
        let (shared, inner) = (&self.shared, &self.inner);
        let mut before = None;
        let after = inner.change_lightly(shared, |record| {
            let health = record.health.as_ref()?;
            let next = health.after(answer, rhythm, record.state.started_at);
            before = Some(health.status);
            // The answers themselves are not worth a write each.
            let keep = next.status != health.status || next.failing_streak != health.failing_streak;
            Some((Record { health: Some(next), ..record.clone() }, keep))
        });
        let record = match after {
            Ok(Some(record)) => record,
            Ok(None) => return,
            Err(error) => {
                tracing::error!(container = %inner.id, %error, "the health of a container cannot be recorded");
                return;
            }
        };
        let status = record.health.as_ref().map(|health| health.status).unwrap_or_default();
        if before == Some(status) {
            return;
        }
        shared.tell(&record, format!("health_status: {}", status.as_str()), &[]);
        if status == HealthStatus::Unhealthy {
            self.help(&record);
        }
    }

    /// Does with one that became unhealthy what was asked for.
    fn help(&self, record: &Record) {
        let action = on_unhealthy(&record.config).unwrap_or(OnUnhealthy::Nothing);
        let this = self.clone();
        tokio::spawn(async move {
            let done = match action {
                OnUnhealthy::Nothing => return,
                OnUnhealthy::Restart => this.restart(StopOptions::default()).await,
                OnUnhealthy::Stop => this.stop(StopOptions::default()).await,
                // Not on purpose: its restart policy decides what follows.
                OnUnhealthy::Kill => this.live().and_then(|live| live.signal(9)).map(drop),
            };
            if let Err(error) = done {
                tracing::error!(container = %this.inner.id, %error, ?action, "nothing could be done for an unhealthy container");
            }
        });
    }

    /// Asks, and tells the exit code and the output; -1 and the reason when there is no answer.
    async fn answer(&self, live: &Arc<Live>, probe: Probe, timeout: Duration) -> (i32, String) {
        let answered = match probe {
            Probe::Command(spec) => self.command_answer(spec, timeout).await,
            Probe::Tcp(address) => self.network_answer(live, timeout, move |deadline| connect(address, deadline)).await,
            Probe::Http { address, host, path } => {
                self.network_answer(live, timeout, move |deadline| request(address, &host, &path, deadline)).await
            }
        };
        answered.unwrap_or_else(|error| (-1, error.to_string()))
    }

    async fn command_answer(&self, spec: ExecSpec, timeout: Duration) -> Result<(i32, String), Error> {
        let exec = self.unseen_exec(spec);
        let started = tokio::time::timeout(START_TIMEOUT, exec.attach()).await;
        let mut attached = started.map_err(|_| {
            Error::Unavailable(format!("timed out starting health check for container {}", self.inner.id))
        })??;
        let (mut output, mut cut) = (Vec::new(), false);
        let read = async {
            while let Ok(Some((_, bytes))) = attached.next_output().await {
                let room = MAX_OUTPUT - output.len();
                cut |= bytes.len() > room;
                output.extend_from_slice(&bytes[..room.min(bytes.len())]);
            }
        };
        let ended = async {
            let code = exec.wait().await;
            // Whoever it left behind may hold its output open.
            (code, tokio::time::sleep(LAST_OUTPUT).await)
        };
        let code = {
            tokio::pin!(read, ended);
            let both = async {
                tokio::select! {
                    () = &mut read => exec.wait().await,
                    (code, ()) = &mut ended => code,
                }
            };
            tokio::time::timeout(timeout, both).await
        };
        let text = |output: &[u8], cut: bool| {
            let mut text = String::from_utf8_lossy(output).into_owned();
            if cut {
                text.push_str("...");
            }
            text
        };
        match code {
            Ok(code) => Ok((code?, text(&output, cut))),
            Err(_) => {
                exec.signal(9);
                // So that those who die slowly do not pile up.
                let _ = tokio::time::timeout(START_TIMEOUT, exec.wait()).await;
                let said = text(&output, cut);
                let said = if said.is_empty() { said } else { format!(": {said}") };
                Ok((-1, format!("Health check exceeded timeout ({timeout:?}){said}")))
            }
        }
    }

    /// Does something in the network of the container, on a thread of its own that is gone afterwards.
    async fn network_answer(
        &self,
        live: &Arc<Live>,
        timeout: Duration,
        work: impl FnOnce(Instant) -> std::io::Result<(i32, String)> + Send + 'static,
    ) -> Result<(i32, String), Error> {
        let internal = |error: std::io::Error| Error::Internal(format!("enter the network of the container: {error}"));
        let process: OwnedFd = live.process().try_clone_to_owned().map_err(internal)?;
        let (sender, answer) = oneshot::channel();
        let thread = std::thread::Builder::new().name("engine-probe".to_owned()).stack_size(128 << 10);
        let spawned = thread.spawn(move || {
            let done = enter_network(&process).and_then(|()| work(Instant::now() + timeout));
            // Nobody waits any more when the engine is closed.
            let _ = sender.send(done);
        });
        spawned.map_err(internal)?;
        match answer.await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) if is_timeout(&error) => Ok((-1, format!("Health check exceeded timeout ({timeout:?})"))),
            Ok(Err(error)) => Ok((1, error.to_string())),
            Err(_) => Err(Error::Internal("the thread of a health check is gone".to_owned())),
        }
    }
}

/// Moves this thread into the network namespace of a process.
fn enter_network(process: &OwnedFd) -> std::io::Result<()> {
    use std::os::fd::AsFd as _;
    Ok(rustix::thread::move_into_thread_name_spaces(process.as_fd(), ThreadNameSpaceType::NETWORK)?)
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::TimedOut | std::io::ErrorKind::WouldBlock)
}

fn left(deadline: Instant) -> std::io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(std::io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

fn connect(address: SocketAddr, deadline: Instant) -> std::io::Result<(i32, String)> {
    TcpStream::connect_timeout(&address, left(deadline)?)?;
    Ok((0, format!("connected to {address}\n")))
}

/// Asks for a path; a status from 200 to 399 is good.
fn request(address: SocketAddr, host: &str, path: &str, deadline: Instant) -> std::io::Result<(i32, String)> {
    let mut stream = TcpStream::connect_timeout(&address, left(deadline)?)?;
    stream.set_write_timeout(Some(left(deadline)?))?;
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: engine\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    let mut answer = vec![0; MAX_OUTPUT];
    let mut filled = 0;
    // What does not fit is not waited for.
    while filled < answer.len() {
        stream.set_read_timeout(Some(left(deadline)?))?;
        match stream.read(&mut answer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            // Some servers reset a connection that they have answered.
            Err(_) if filled > 0 => break,
            Err(error) => return Err(error),
        }
    }
    Ok(judged(&answer[..filled]))
}

/// The exit code that an answer stands for, and what is kept of it: the status line and the body.
fn judged(answer: &[u8]) -> (i32, String) {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let line = head.lines().next().unwrap_or_default();
    let status =
        line.strip_prefix("HTTP/1.").and_then(|rest| rest.get(1..)?.trim_start().get(..3)?.parse::<u16>().ok());
    match status {
        Some(status) => (i32::from(!(200..400).contains(&status)), format!("{line}\n{body}")),
        None => (1, format!("no HTTP answer: {}", line.chars().take(64).collect::<String>())),
    }
}

/// Writes down the answers that were only shown so far.
pub(super) fn keep(shared: &Shared) {
    use crate::state::{Durability, Table};
    let asked = shared.all().into_iter().map(|inner| inner.record()).filter(|record| {
        record.health.as_ref().is_some_and(|health: &Health| !health.log.is_empty())
            && super::restore::is_ours(shared, record)
    });
    let kept = shared.parts.state.write(Durability::Process, |tx| -> Result<(), Error> {
        for record in asked {
            tx.put(Table::Container, record.id.as_str(), &*record)?;
        }
        Ok(())
    });
    if let Err(error) = kept {
        tracing::error!(%error, "the latest answers of health checks cannot be recorded");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn who_is_nearly_due_goes_along_with_who_is_due_and_never_alone() {
        let prober = Prober::default();
        let now = Instant::now();
        let add = |wait| {
            let mut queue = lock(&prober.queue);
            queue.number += 1;
            let due = Due::new(now, wait, queue.number, Weak::new(), Weak::new());
            queue.times.push(Reverse(due));
        };
        let seconds = Duration::from_secs;
        (0..20).for_each(|_| add(seconds(10)));
        add(seconds(11));
        let early = now + seconds(10) - Duration::from_millis(200);
        assert_eq!(prober.take(early).0.len(), 0);
        add(seconds(1));
        let (due, next) = prober.take(early);
        assert_eq!((due.len(), next), (TOGETHER, Some(now + seconds(10))));
        assert_eq!(prober.take(now + seconds(10)).0.len(), 20 - (TOGETHER - 1));
        let (due, next) = prober.take(now + seconds(10));
        assert_eq!((due.len(), next), (0, Some(now + seconds(11))));
    }

    #[test]
    fn answers_are_judged_by_their_status() {
        for (answer, code, said) in [
            ("HTTP/1.1 200 OK\r\nA: b\r\n\r\nfine", 0, "HTTP/1.1 200 OK\nfine"),
            ("HTTP/1.0 302 Found\r\n\r\n", 0, "HTTP/1.0 302 Found\n"),
            ("HTTP/1.1 503 Busy\r\n\r\n", 1, "HTTP/1.1 503 Busy\n"),
            ("HTTP/1.1 20", 1, "no HTTP answer: HTTP/1.1 20"),
            ("SSH-2.0-x\r\n", 1, "no HTTP answer: SSH-2.0-x"),
            ("", 1, "no HTTP answer: "),
        ] {
            assert_eq!(judged(answer.as_bytes()), (code, said.to_owned()));
        }
    }

    #[test]
    fn a_server_is_asked_and_one_that_is_silent_is_not_waited_for() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let mut asked = [0; 1024];
            let (mut stream, _) = listener.accept().unwrap();
            let count = stream.read(&mut asked).unwrap();
            stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
            drop(stream);
            // It hears, and says nothing.
            let silent = listener.accept().unwrap();
            (String::from_utf8_lossy(&asked[..count]).into_owned(), silent)
        });
        let soon = || Instant::now() + Duration::from_secs(30);
        assert_eq!(request(address, "here", "/up", soon()).unwrap().0, 0);
        let error = request(address, "here", "/", Instant::now() + Duration::from_millis(50)).unwrap_err();
        assert!(is_timeout(&error), "{error}");
        let (asked, silent) = server.join().unwrap();
        assert!(asked.starts_with("GET /up HTTP/1.1\r\nHost: here\r\n"), "{asked}");
        drop(silent);
        assert!(connect(address, soon()).is_err());
    }
}
