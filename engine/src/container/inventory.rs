//! All containers in memory: what list and inspect read, and what the work on one container locks.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use engine_runtime::Runtime;
use tokio::sync::{oneshot, watch};

use super::attach::AttachOptions;
use super::exec;
use super::live::Live;
use super::owner::Instance;
use super::probing::Prober;
use super::record::Record;
use super::resources::Abilities;
use super::stats::Sample;
use super::status::{ContainerState, Refused, Status};
use super::view::Views;
use super::wait::{Exit, WaitCondition, Waiter, Waiters};
use super::{Error, names};
use crate::events::{Event, EventType, Events};
use crate::id::{ContainerId, ExecId, Resolved, resolve};
use crate::image::Images;
use crate::logs::Watcher;
use crate::network::Networks;
use crate::quota::Quotas;
use crate::settings::Settings;
use crate::snapshot::Snapshots;
use crate::state::{Durability, State, Table};
use crate::volume::Volumes;

/// What containers are made with.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) state: State,
    pub(crate) events: Events,
    pub(crate) images: Images,
    pub(crate) snapshots: Snapshots,
    /// Of `<root>/containers`.
    pub(crate) quotas: Quotas,
    pub(crate) networks: Networks,
    pub(crate) volumes: Volumes,
    pub(crate) runtime: Runtime,
    pub(crate) settings: Arc<Settings>,
}

/// What all handles of one engine share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) parts: Parts,
    pub(super) instance: Instance,
    /// `<root>/containers`.
    directory: PathBuf,
    inventory: RwLock<BTreeMap<ContainerId, Arc<Inner>>>,
    pub(super) execs: Mutex<BTreeMap<ExecId, Arc<exec::Inner>>>,
    /// Turns true when the engine is closed.
    pub(super) closing: watch::Sender<bool>,
    abilities: OnceLock<Abilities>,
    /// Asks for health.
    pub(super) prober: Prober,
    /// Turns true when containers may be started by themselves.
    pub(super) ready: watch::Sender<bool>,
    /// Those that are started then, and have no ticket.
    pub(super) reviving: Mutex<Vec<ContainerId>>,
    /// Hears what happens to logs.
    pub(super) watcher: Watcher,
    /// How many removed containers have files yet.
    leaving: Arc<watch::Sender<usize>>,
}

/// A removed container whose files are being taken away, as long as this is kept.
#[derive(Debug)]
pub(super) struct Leaving(Arc<watch::Sender<usize>>);

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

/// One container.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) id: ContainerId,
    /// One piece of work at a time: create, start, stop, remove and their like.
    pub(super) lifecycle: tokio::sync::Mutex<()>,
    /// Who looks at its files.
    pub(super) views: Views,
    /// Held by whoever sends its output elsewhere.
    pub(super) shipping: Arc<tokio::sync::Mutex<()>>,
    /// Held by whoever packs older files of its log.
    pub(super) packing: tokio::sync::Mutex<()>,
    /// One change of the record at a time.
    changing: Mutex<()>,
    /// Held for nanoseconds.
    cell: Mutex<Cell>,
    /// Whether it runs.
    pub(super) running: watch::Sender<bool>,
    /// Whether nothing of its last run is left to be cleared away.
    pub(super) settled: watch::Sender<bool>,
}

#[derive(Debug)]
struct Cell {
    record: Arc<Record>,
    waiters: Waiters,
    live: Option<Arc<Live>>,
    pending: Vec<Pending>,
    /// What it used when somebody asked last.
    sample: Option<Arc<Sample>>,
    /// It goes on after its exit: it is not removed by itself.
    restarting: bool,
    /// Held while its restart is waited for; dropping it ends the wait.
    ticket: Option<oneshot::Sender<()>>,
    /// How long its last restart was waited for.
    delay: Duration,
    gone: bool,
}

/// A client that was attached before the start.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) client: OwnedFd,
    pub(super) preface: Vec<u8>,
    pub(super) framed: bool,
    pub(super) options: AttachOptions,
    pub(super) ended: oneshot::Sender<()>,
}

/// The most clients that wait for one start.
const MAX_PENDING: usize = 64;

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is done under these locks cannot stop half way.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inner {
    pub(super) fn new(record: Record) -> Self {
        let status = record.state.status;
        Self {
            id: record.id,
            lifecycle: tokio::sync::Mutex::default(),
            views: Views::default(),
            shipping: Arc::default(),
            packing: tokio::sync::Mutex::default(),
            changing: Mutex::default(),
            cell: Mutex::new(Cell {
                record: Arc::new(record),
                waiters: Waiters::default(),
                live: None,
                pending: Vec::new(),
                sample: None,
                restarting: false,
                ticket: None,
                delay: Duration::ZERO,
                gone: false,
            }),
            running: watch::Sender::new(status.goes_on()),
            settled: watch::Sender::new(!status.has_process()),
        }
    }

    pub(super) fn record(&self) -> Arc<Record> {
        Arc::clone(&lock(&self.cell).record)
    }

    pub(super) fn live(&self) -> Option<Arc<Live>> {
        lock(&self.cell).live.clone()
    }

    pub(super) fn set_live(&self, live: Option<Arc<Live>>) {
        lock(&self.cell).live = live;
    }

    pub(super) fn set_restarting(&self, restarting: bool) {
        lock(&self.cell).restarting = restarting;
    }

    pub(super) fn is_restarting(&self) -> bool {
        lock(&self.cell).restarting
    }

    /// Takes away the ticket of the restart that is waited for, and gives a new one.
    pub(super) fn set_ticket(&self, ticket: Option<oneshot::Sender<()>>) {
        lock(&self.cell).ticket = ticket;
    }

    pub(super) fn keep_sample(&self, sample: Arc<Sample>) {
        lock(&self.cell).sample = Some(sample);
    }

    pub(super) fn kept_sample(&self) -> Option<Arc<Sample>> {
        lock(&self.cell).sample.clone()
    }

    /// Changes how long the last restart was waited for.
    pub(super) fn delay(&self, next: impl FnOnce(Duration) -> Duration) -> Duration {
        let mut cell = lock(&self.cell);
        cell.delay = next(cell.delay);
        cell.delay
    }

    /// Takes a record that another engine wrote.
    pub(super) fn replace(&self, record: Record) {
        self.running.send_replace(record.state.status.goes_on());
        lock(&self.cell).record = Arc::new(record);
    }

    pub(super) fn register(&self, condition: WaitCondition) -> Waiter {
        let mut cell = lock(&self.cell);
        let state = Arc::clone(&cell.record);
        if cell.gone { Waiters::over(&state.state) } else { cell.waiters.register(condition, &state.state) }
    }

    /// Keeps a client until the start; gives it back when the container runs already.
    pub(super) fn keep_until_start(&self, pending: Pending) -> Result<Option<Pending>, Error> {
        let mut cell = lock(&self.cell);
        if cell.gone {
            return Err(Error::NoSuchContainer(self.id.to_string()));
        }
        if cell.live.is_some() {
            return Ok(Some(pending));
        }
        cell.pending.retain(|pending| !has_hung_up(&pending.client));
        if cell.pending.len() >= MAX_PENDING {
            return Err(Error::conflict(format!(
                "{MAX_PENDING} clients are attached to container {} already and wait for its start",
                self.id.short()
            )));
        }
        cell.pending.push(pending);
        Ok(None)
    }

    pub(super) fn take_pending(&self) -> Vec<Pending> {
        std::mem::take(&mut lock(&self.cell).pending)
    }

    /// Changes the record, in the state first.
    pub(super) fn change(
        &self,
        shared: &Shared,
        change: impl FnOnce(&Record) -> Result<Record, Error>,
    ) -> Result<Arc<Record>, Error> {
        let _turn = lock(&self.changing);
        let after = Arc::new(change(&self.record())?);
        shared.put(&after)?;
        lock(&self.cell).record = Arc::clone(&after);
        Ok(after)
    }

    /// Changes what is shown, and the state only when that is worth a write; nothing when there is nothing to change.
    pub(super) fn change_lightly(
        &self,
        shared: &Shared,
        change: impl FnOnce(&Record) -> Option<(Record, bool)>,
    ) -> Result<Option<Arc<Record>>, Error> {
        let _turn = lock(&self.changing);
        let Some((after, keep)) = change(&self.record()) else { return Ok(None) };
        let after = Arc::new(after);
        if keep {
            shared.put(&after)?;
        }
        lock(&self.cell).record = Arc::clone(&after);
        Ok(Some(after))
    }

    /// Changes only the status and what goes with it.
    pub(super) fn change_state(
        &self,
        shared: &Shared,
        change: impl FnOnce(&ContainerState) -> Result<ContainerState, Refused>,
    ) -> Result<Arc<Record>, Error> {
        self.change(shared, |record| {
            let state = change(&record.state).map_err(|refused| self.refused(&record.name, refused))?;
            Ok(Record { state, ..record.clone() })
        })
    }

    /// Records the end of a run and wakes who waited for it, `tell` in between.
    pub(super) fn exited(
        &self,
        shared: &Shared,
        state: impl FnOnce(&ContainerState) -> Result<ContainerState, Refused>,
        tell: impl FnOnce(&Record),
    ) -> Result<Arc<Record>, Error> {
        let record = self.change_state(shared, state)?;
        tell(&record);
        self.over(&record);
        Ok(record)
    }

    /// Wakes who waited for the end of a run that is recorded.
    pub(super) fn over(&self, record: &Record) {
        self.running.send_replace(record.state.status.goes_on());
        lock(&self.cell).waiters.exited(&Exit::of(&record.state));
    }

    /// Lets go of the run and of all who wait: the engine is closed.
    pub(super) fn abandon(&self) {
        let mut cell = lock(&self.cell);
        cell.live = None;
        cell.ticket = None;
        cell.pending.clear();
        cell.waiters = Waiters::default();
    }

    /// Wakes everybody: the container is gone.
    pub(super) fn gone(&self) {
        let mut cell = lock(&self.cell);
        cell.gone = true;
        cell.pending.clear();
        let exit = Exit::of(&cell.record.state);
        cell.waiters.removed(&exit);
    }

    pub(super) fn is_gone(&self) -> bool {
        lock(&self.cell).gone
    }

    /// Waits until nothing of the last run is left.
    pub(super) async fn settle(&self) -> Result<(), Error> {
        let mut settled = self.settled.subscribe();
        // The sender is a field of this very container.
        let _ = settled.wait_for(|settled| *settled).await;
        if self.is_gone() { Err(Error::NoSuchContainer(self.id.to_string())) } else { Ok(()) }
    }

    pub(super) fn refused(&self, name: &str, Refused(status): Refused) -> Error {
        let id = self.id.as_str();
        match status {
            Status::Removing => Error::conflict(format!("removal of container {name} is already in progress")),
            Status::Dead => {
                Error::conflict(format!("container {id} is marked for removal and cannot be started or stopped"))
            }
            Status::Paused => Error::conflict(format!("container {id} is paused")),
            Status::Restarting => {
                Error::conflict(format!("container {id} is restarting, wait until the container is running"))
            }
            Status::Running => Error::conflict(format!("container {id} is running")),
            Status::Created | Status::Exited => not_running(id),
        }
    }
}

pub(super) fn not_running(id: &str) -> Error {
    Error::conflict(format!("container {id} is not running"))
}

fn has_hung_up(socket: &OwnedFd) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut fds = [PollFd::new(socket, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut fds, Some(&now)).is_ok() && fds[0].revents().intersects(PollFlags::HUP | PollFlags::ERR)
}

impl Shared {
    pub(super) fn new(parts: Parts, instance: Instance) -> Self {
        let directory = parts.settings.root.join("containers");
        Self {
            parts,
            instance,
            directory,
            inventory: RwLock::default(),
            execs: Mutex::default(),
            closing: watch::Sender::new(false),
            abilities: OnceLock::new(),
            prober: Prober::default(),
            ready: watch::Sender::new(false),
            reviving: Mutex::default(),
            watcher: Watcher::default(),
            leaving: Arc::new(watch::Sender::new(0)),
        }
    }

    /// Counts one more removed container whose files are yet to be taken away.
    pub(super) fn leave(&self) -> Leaving {
        self.leaving.send_modify(|count| *count += 1);
        Leaving(Arc::clone(&self.leaving))
    }

    /// Waits until nothing is left of removed containers.
    pub(super) async fn left(&self) {
        // The sender is a field of this.
        let _ = self.leaving.subscribe().wait_for(|count| *count == 0).await;
    }

    /// What this machine can bound; looked up once, when somebody asks for a bound.
    pub(super) fn abilities(&self) -> &Abilities {
        self.abilities.get_or_init(|| Abilities::look(&self.parts.runtime.host().cgroups))
    }

    /// Where a container's files lie.
    pub(super) fn directory(&self, id: &ContainerId) -> PathBuf {
        self.directory.join(id.as_str())
    }

    pub(super) fn containers_directory(&self) -> &std::path::Path {
        &self.directory
    }

    /// Refuses to go on once the engine is closed: its containers may belong to another one by then.
    pub(super) fn open(&self) -> Result<(), Error> {
        if *self.closing.borrow() { Err(Error::Unavailable("the engine is closed".to_owned())) } else { Ok(()) }
    }

    pub(super) fn put(&self, record: &Record) -> Result<(), Error> {
        self.open()?;
        self.parts
            .state
            .write(Durability::Process, |tx| tx.put(Table::Container, record.id.as_str(), record).map_err(Error::from))
    }

    pub(super) fn all(&self) -> Vec<Arc<Inner>> {
        self.read().values().cloned().collect()
    }

    pub(super) fn by_id(&self, id: &ContainerId) -> Option<Arc<Inner>> {
        self.read().get(id).cloned()
    }

    pub(super) fn add(&self, inner: Arc<Inner>) {
        self.inventory.write().unwrap_or_else(PoisonError::into_inner).insert(inner.id, inner);
    }

    pub(super) fn forget(&self, id: &ContainerId) {
        self.inventory.write().unwrap_or_else(PoisonError::into_inner).remove(id);
        lock(&self.execs).retain(|_, exec| exec.container() != *id);
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<ContainerId, Arc<Inner>>> {
        self.inventory.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Finds a container: a whole id, then a name, then the beginning of an id.
    pub(super) fn find(&self, text: &str) -> Result<Arc<Inner>, Error> {
        let missing = || Error::NoSuchContainer(text.chars().take(256).collect());
        let inventory = self.read();
        if let Some(found) = text.parse().ok().and_then(|id: ContainerId| inventory.get(&id)) {
            return Ok(Arc::clone(found));
        }
        if let Ok(name) = names::checked(text)
            && let Some(found) = inventory.values().find(|inner| inner.record().name == name)
        {
            return Ok(Arc::clone(found));
        }
        match resolve(inventory.keys(), text) {
            Resolved::One(id) => inventory.get(id).cloned().ok_or_else(missing),
            Resolved::None => Err(missing()),
            Resolved::Many => Err(Error::Ambiguous(text.to_owned())),
        }
    }

    /// Tells which volumes a container has got (`mount`) or has no more (`unmount`).
    pub(super) fn tell_volumes(&self, record: &Record, action: &str) {
        for mount in &record.mounts {
            let Some(name) = &mount.name else { continue };
            let mut event = Event::new(EventType::Volume, action, name.as_str())
                .attribute("container", record.id.as_str())
                .attribute("driver", mount.driver.as_deref().unwrap_or(crate::volume::DRIVER));
            if action == "mount" {
                event = event
                    .attribute("destination", &mount.destination)
                    .attribute("propagation", mount.propagation.as_str())
                    .attribute("read/write", mount.writable.to_string());
            }
            self.parts.events.publish(event);
        }
    }

    /// Tells what happened to a container.
    pub(super) fn tell(&self, record: &Record, action: impl Into<String>, more: &[(&str, String)]) {
        let event = Event::new(EventType::Container, action, record.id.as_str())
            .attributes(record.config.labels.clone())
            .attribute("image", &record.config.image)
            .attribute("name", &record.name)
            .attributes(more.iter().map(|(name, value)| (*name, value.as_str())));
        self.parts.events.publish(event);
    }
}

/// Runs to its end even when whoever asked for it does not wait any more.
pub(super) async fn uninterrupted<T: Send + 'static>(
    work: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Error> {
    tokio::spawn(work).await.map_err(interrupted)?
}

/// Runs where it may wait for the kernel.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(interrupted)?
}

fn interrupted(error: tokio::task::JoinError) -> Error {
    Error::Internal(format!("the work on a container was interrupted: {error}"))
}

/// Nanoseconds since 1970.
pub(super) fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
