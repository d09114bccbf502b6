//! The connection to a running container: its monitor, its process, and who waits for an answer of the monitor.

use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsFd as _, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use engine_runtime::protocol::{Failure, Refusal, Request};
use engine_runtime::{CompiledExec, Monitor};
use tokio::sync::oneshot;

use super::Error;
use super::inventory::lock;

/// A running container.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) monitor: Arc<Monitor>,
    /// The pidfd of its first process.
    process: OwnedFd,
    pub(super) pid: u32,
    numbers: AtomicU64,
    waiting: Mutex<Waiting>,
    /// The exec that asks for its health, once it was compiled.
    question: Mutex<Option<Arc<CompiledExec>>>,
}

/// Who waits for what of the monitor.
#[derive(Debug, Default)]
struct Waiting {
    clients: HashMap<u64, Client>,
    execs: HashMap<u64, Exec>,
    /// Who wants to know what the monitor has said so far, in the order of asking.
    looks: VecDeque<oneshot::Sender<u32>>,
    /// The monitor is not heard any more.
    silent: bool,
}

#[derive(Debug)]
struct Client {
    attached: Option<oneshot::Sender<Result<LogPosition, Refused>>>,
    ended: Option<oneshot::Sender<()>>,
}

#[derive(Debug)]
struct Exec {
    started: Option<oneshot::Sender<Result<u32, ExecFailure>>>,
    ended: Option<oneshot::Sender<i32>>,
}

/// Where the log stood when a client was connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LogPosition {
    /// Bytes written since birth.
    pub(super) position: u64,
    /// Of those, the bytes before the present file.
    pub(super) file_start: u64,
}

/// A request that the monitor did not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) refusal: Refusal,
    pub(super) errno: i32,
}

/// Why an exec does not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ExecFailure {
    Step(Failure),
    Refused(Refused),
}

impl Live {
    pub(super) fn new(monitor: Monitor, process: OwnedFd, pid: u32, first_number: u64) -> Self {
        Self {
            monitor: Arc::new(monitor),
            process,
            pid,
            numbers: AtomicU64::new(first_number),
            waiting: Mutex::default(),
            question: Mutex::default(),
        }
    }

    /// Whether its first process has ended.
    pub(super) fn has_ended(&self) -> bool {
        !matches!(engine_sys::process::wait(&self.process, Some(std::time::Duration::ZERO)), Ok(false))
    }

    /// A number that no client and no exec of this container has.
    pub(super) fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn process(&self) -> BorrowedFd<'_> {
        self.process.as_fd()
    }

    pub(super) fn send(&self, request: &Request<'_>, descriptors: &[BorrowedFd<'_>]) -> Result<(), Error> {
        self.monitor
            .send(request, descriptors)
            .map_err(|error| Error::Internal(format!("talk to the monitor of the container: {error}")))
    }

    pub(super) fn question(&self) -> Option<Arc<CompiledExec>> {
        lock(&self.question).clone()
    }

    pub(super) fn keep_question(&self, compiled: &Arc<CompiledExec>) {
        *lock(&self.question) = Some(Arc::clone(compiled));
    }

    /// Sends a signal to the container's first process; false when it is gone.
    pub(super) fn signal(&self, number: i32) -> Result<bool, Error> {
        engine_sys::process::signal(&self.process, number)
            .map_err(|error| Error::Internal(format!("send signal {number} to process {}: {error}", self.pid)))
    }

    /// Waits for a client to be connected, and for its end.
    pub(super) fn expect_client(
        &self,
        client: u64,
    ) -> (oneshot::Receiver<Result<LogPosition, Refused>>, oneshot::Receiver<()>) {
        let (attached, is_attached) = oneshot::channel();
        let (ended, has_ended) = oneshot::channel();
        self.waiting().clients.insert(client, Client { attached: Some(attached), ended: Some(ended) });
        (is_attached, has_ended)
    }

    /// Tells `ended` when a client that was connected before the start leaves.
    pub(super) fn expect_end_of(&self, client: u64, ended: oneshot::Sender<()>) {
        self.waiting().clients.insert(client, Client { attached: None, ended: Some(ended) });
    }

    pub(super) fn expect_exec(
        &self,
        exec: u64,
    ) -> (oneshot::Receiver<Result<u32, ExecFailure>>, oneshot::Receiver<i32>) {
        let (started, has_started) = oneshot::channel();
        let (ended, has_ended) = oneshot::channel();
        self.waiting().execs.insert(exec, Exec { started: Some(started), ended: Some(ended) });
        (has_started, has_ended)
    }

    pub(super) fn forget(&self, number: u64) {
        let mut waiting = self.waiting();
        waiting.clients.remove(&number);
        waiting.execs.remove(&number);
    }

    // Whoever does not wait any more is no reason to worry in any of these.

    pub(super) fn attached(&self, client: u64, position: LogPosition) {
        if let Some(attached) = self.waiting().clients.get_mut(&client).and_then(|client| client.attached.take()) {
            let _ = attached.send(Ok(position));
        }
    }

    /// Whether the client was one of this engine's.
    pub(super) fn detached(&self, client: u64) {
        let client = self.waiting().clients.remove(&client);
        if let Some(ended) = client.and_then(|client| client.ended) {
            let _ = ended.send(());
        }
    }

    pub(super) fn exec_started(&self, exec: u64, pid: u32) {
        if let Some(started) = self.waiting().execs.get_mut(&exec).and_then(|exec| exec.started.take()) {
            let _ = started.send(Ok(pid));
        }
    }

    pub(super) fn exec_failed(&self, exec: u64, failure: Failure) {
        let exec = self.waiting().execs.remove(&exec);
        if let Some(started) = exec.and_then(|exec| exec.started) {
            let _ = started.send(Err(ExecFailure::Step(failure)));
        }
    }

    pub(super) fn exec_ended(&self, exec: u64, code: i32) {
        let exec = self.waiting().execs.remove(&exec);
        if let Some(ended) = exec.and_then(|exec| exec.ended) {
            let _ = ended.send(code);
        }
    }

    pub(super) fn refused(&self, subject: u64, refused: Refused) {
        let mut waiting = self.waiting();
        if let Some(attached) = waiting.clients.remove(&subject).and_then(|client| client.attached) {
            let _ = attached.send(Err(refused));
        }
        // An exec that was refused another request goes on.
        let exec = waiting.execs.get_mut(&subject).and_then(|exec| exec.started.take());
        if let Some(started) = exec {
            waiting.execs.remove(&subject);
            let _ = started.send(Err(ExecFailure::Refused(refused)));
        }
    }

    /// Returns when everything that the monitor has said by now was heard: how many execs it has, or nothing when it is not heard
    /// any more.
    pub(super) async fn catch_up(&self) -> Option<u32> {
        let heard = {
            // Questions and those who ask them stand in one order.
            let mut waiting = self.waiting();
            // It may linger for a client that is slow, and be asked, but nobody hears the answer.
            if waiting.silent || self.send(&Request::Status {}, &[]).is_err() {
                return None;
            }
            let (sender, heard) = oneshot::channel();
            waiting.looks.push_back(sender);
            heard
        };
        heard.await.ok()
    }

    pub(super) fn caught_up(&self, execs: u32) {
        if let Some(look) = self.waiting().looks.pop_front() {
            let _ = look.send(execs);
        }
    }

    /// Whether an exec is expected to end yet.
    pub(super) fn expects_end_of(&self, exec: u64) -> bool {
        self.waiting().execs.contains_key(&exec)
    }

    /// The monitor is not heard any more: nobody has anything to wait for.
    pub(super) fn fall_silent(&self) {
        *self.waiting() = Waiting { silent: true, ..Waiting::default() };
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        lock(&self.waiting)
    }
}

/// The monitor's socket as tokio polls it.
#[derive(Debug)]
pub(super) struct Polled(pub(super) Arc<Monitor>);

impl AsRawFd for Polled {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use rustix::net::{AddressFamily, SocketAddrUnix, SocketType};

    use super::*;

    #[tokio::test]
    async fn the_answer_of_a_monitor_that_is_not_heard_any_more_is_not_waited_for() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("monitor");
        let listener = rustix::net::socket(AddressFamily::UNIX, SocketType::SEQPACKET, None).unwrap();
        rustix::net::bind(&listener, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        rustix::net::listen(&listener, 1).unwrap();
        let monitor = Monitor::connect(&path).unwrap().unwrap();
        // It takes what it is asked.
        let _monitor = rustix::net::accept(&listener).unwrap();
        let live = Live::new(monitor, std::fs::File::open("/dev/null").unwrap().into(), 1, 1);
        let answer = async {
            tokio::task::yield_now().await;
            live.caught_up(3);
        };
        assert_eq!(tokio::join!(live.catch_up(), answer).0, Some(3));
        let silence = async {
            tokio::task::yield_now().await;
            live.fall_silent();
        };
        assert_eq!(tokio::join!(live.catch_up(), silence).0, None);
        let asked = tokio::time::timeout(Duration::from_secs(10), live.catch_up()).await;
        assert_eq!(asked.unwrap(), None);
    }
}
