//! What happens in the directories of logs. All who wait for it share one instance of inotify, of which a user has few.

use std::collections::HashMap;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// A file of the log may have become an older one.
const TURNS: WatchFlags = WatchFlags::CREATE.union(WatchFlags::MOVED_TO);
/// Something was written, too.
const GROWTH: WatchFlags = TURNS.union(WatchFlags::MODIFY);

/// Tells of what happens in directories. Clones share one instance of inotify, which is there as long as somebody waits.
#[derive(Clone, Debug, Default)]
pub struct Watcher(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    listening: Option<Listening>,
    /// By the kernel's number of a directory, which is never used again in an instance.
    watches: HashMap<i32, Vec<Watched>>,
    /// How many watches there have been.
    count: u64,
}

#[derive(Debug)]
struct Listening {
    instance: Arc<OwnedFd>,
    task: AbortHandle,
}

#[derive(Debug)]
struct Watched {
    number: u64,
    news: WatchFlags,
    heard: watch::Sender<()>,
}

/// Hears of one directory as long as it is kept.
#[derive(Debug)]
pub(crate) struct Watch {
    watcher: Watcher,
    directory: PathBuf,
    descriptor: i32,
    number: u64,
    heard: watch::Receiver<()>,
}

impl Watcher {
    /// Hears from now on when a file in a directory grows or becomes an older one. Must be called within a tokio runtime.
    pub(crate) fn growth(&self, directory: &Path) -> io::Result<Watch> {
        self.watch(directory, GROWTH)
    }

    /// Hears from now on when a file in a directory may have become an older one. Must be called within a tokio runtime.
    pub(crate) fn turns(&self, directory: &Path) -> io::Result<Watch> {
        self.watch(directory, TURNS)
    }

    fn watch(&self, directory: &Path, news: WatchFlags) -> io::Result<Watch> {
        let (mut state, instance) = loop {
            let state = self.lock();
            match &state.listening {
                Some(Listening { instance, .. }) => {
                    let instance = Arc::clone(instance);
                    break (state, instance);
                }
                None => drop(state),
            }
            self.listen()?;
        };
        let descriptor = match inotify::add_watch(&instance, directory, news | WatchFlags::MASK_ADD) {
            Ok(descriptor) => descriptor,
            Err(error) => {
                end_unless_watched(state);
                return Err(error.into());
            }
        };
        state.count += 1;
        let number = state.count;
        let (sender, heard) = watch::channel(());
        state.watches.entry(descriptor).or_default().push(Watched { number, news, heard: sender });
        drop(state);
        Ok(Watch { watcher: self.clone(), directory: directory.to_owned(), descriptor, number, heard })
    }

    /// Begins to listen, without the lock: a runtime that ends drops what is spawned in it at once.
    fn listen(&self) -> io::Result<()> {
        let instance = Arc::new(inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?);
        #[allow(deprecated, reason = "an OwnedFd names one descriptor for as long as it lives")]
        let ready = AsyncFd::new(Arc::clone(&instance))?;
        let over = Over { state: Arc::downgrade(&self.0), instance: Arc::downgrade(&instance) };
        let task = tokio::spawn(async move { over.listen(ready).await }).abort_handle();
        let mut state = self.lock();
        if task.is_finished() {
            return Err(io::Error::other("the runtime is about to end"));
        }
        if state.listening.is_some() {
            // Somebody was faster.
            drop(state);
            task.abort();
        } else {
            state.listening = Some(Listening { instance, task });
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.0)
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    // What is done under this lock cannot stop half way.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gives the instance back when nobody waits any more.
fn end_unless_watched(mut state: MutexGuard<'_, State>) {
    let ended = if state.watches.is_empty() { state.listening.take() } else { None };
    drop(state);
    if let Some(listening) = ended {
        listening.task.abort();
    }
}

impl Watch {
    /// Waits until something has happened since the last time.
    ///
    /// # Errors
    /// When the runtime in which the first one began to wait is gone.
    pub(crate) async fn next(&mut self) -> io::Result<()> {
        self.heard.changed().await.map_err(|_| io::Error::other("what happens to logs is not heard any more"))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut state = self.watcher.lock();
        let Some(watched) = state.watches.get_mut(&self.descriptor) else { return end_unless_watched(state) };
        watched.retain(|one| one.number != self.number);
        let left = watched.iter().fold(WatchFlags::empty(), |all, one| all | one.news);
        if left.is_empty() {
            state.watches.remove(&self.descriptor);
        }
        if let Some(Listening { instance, .. }) = &state.listening {
            let unwanted = if left.is_empty() {
                Some(self.descriptor)
            } else {
                // Another directory that is there by now is none of ours.
                let wanted = inotify::add_watch(instance, &self.directory, left);
                wanted.ok().filter(|number| *number != self.descriptor)
            };
            if let Some(unwanted) = unwanted {
                // A directory that is gone is watched no more.
                let _ = inotify::remove_watch(instance, unwanted);
            }
        }
        end_unless_watched(state);
    }
}

/// Whoever listens for all. When it ends, so do all who wait.
struct Over {
    state: Weak<Mutex<State>>,
    instance: Weak<OwnedFd>,
}

impl Over {
    async fn listen(self, ready: AsyncFd<Arc<OwnedFd>>) {
        let mut buffer = [MaybeUninit::uninit(); 16 << 10];
        loop {
            let Ok(mut guard) = ready.readable().await else { return };
            let mut events = inotify::Reader::new(ready.get_ref(), &mut buffer);
            let Some(state) = self.state.upgrade() else { return };
            loop {
                match events.next() {
                    Ok(event) => hand_on(&lock(&state), event.wd(), event.events()),
                    Err(Errno::INTR) => {}
                    Err(Errno::AGAIN) => break,
                    Err(error) => {
                        tracing::error!(%error, "what happens to logs cannot be heard");
                        return;
                    }
                }
            }
            guard.clear_ready();
        }
    }
}

impl Drop for Over {
    fn drop(&mut self) {
        let Some(state) = self.state.upgrade() else { return };
        let mut state = lock(&state);
        let same = |listening: &Listening| Weak::as_ptr(&self.instance) == Arc::as_ptr(&listening.instance);
        if state.listening.as_ref().is_some_and(same) {
            state.listening = None;
            state.watches.clear();
        }
    }
}

fn hand_on(state: &State, descriptor: i32, events: ReadFlags) {
    // So much happened that the kernel forgot what it was.
    if events.contains(ReadFlags::QUEUE_OVERFLOW) {
        for one in state.watches.values().flatten() {
            let _ = one.heard.send(());
        }
        return;
    }
    let of_interest = |news: WatchFlags| {
        news.bits() & events.bits() != 0 || events.intersects(ReadFlags::IGNORED | ReadFlags::UNMOUNT)
    };
    for one in state.watches.get(&descriptor).into_iter().flatten().filter(|one| of_interest(one.news)) {
        // Whoever has just gone need not hear it.
        let _ = one.heard.send(());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use super::*;

    async fn hears(watch: &mut Watch) -> bool {
        tokio::time::timeout(Duration::from_secs(10), watch.next()).await.is_ok_and(|heard| heard.is_ok())
    }

    fn is_quiet(watch: &Watch) -> bool {
        !watch.heard.has_changed().unwrap()
    }

    #[tokio::test]
    async fn more_directories_are_watched_than_a_user_has_instances() {
        let most = std::fs::read_to_string("/proc/sys/fs/inotify/max_user_instances").unwrap();
        let most: usize = most.trim().parse().unwrap();
        let room = tempfile::tempdir().unwrap();
        let watcher = Watcher::default();
        let directory = |number: usize| room.path().join(number.to_string());
        let mut watches: Vec<_> = (0..most.min(2000) + 8)
            .map(|number| {
                std::fs::create_dir(directory(number)).unwrap();
                watcher.turns(&directory(number)).unwrap()
            })
            .collect();
        std::fs::write(directory(3).join("log"), "").unwrap();
        assert!(hears(&mut watches[3]).await);
        assert!(watches.iter().all(is_quiet));
        drop(watches);
        assert!(watcher.lock().listening.is_none() && watcher.lock().watches.is_empty());
    }

    #[tokio::test]
    async fn everybody_hears_what_he_waits_for() {
        let room = tempfile::tempdir().unwrap();
        let watcher = Watcher::default();
        let log = room.path().join("log");
        std::fs::write(&log, "").unwrap();
        let mut turns = watcher.turns(room.path()).unwrap();
        let mut growth = watcher.growth(room.path()).unwrap();
        std::fs::write(&log, "more").unwrap();
        assert!(hears(&mut growth).await && is_quiet(&turns));
        std::fs::rename(&log, room.path().join("log.1")).unwrap();
        assert!(hears(&mut growth).await && hears(&mut turns).await);
        drop(growth);
        // Nobody asks for what is written any more.
        std::fs::write(room.path().join("log.1"), "more").unwrap();
        std::fs::write(&log, "").unwrap();
        assert!(hears(&mut turns).await);
        let mut again = watcher.growth(room.path()).unwrap();
        std::fs::write(&log, "more").unwrap();
        assert!(hears(&mut again).await && is_quiet(&turns));
        std::fs::remove_dir_all(room.path()).unwrap();
        assert!(hears(&mut turns).await);
    }

    #[tokio::test]
    async fn a_directory_that_is_not_there_is_an_error_and_nothing_is_left_of_it() {
        let watcher = Watcher::default();
        let error = watcher.growth(Path::new("/nowhere/at/all")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(watcher.lock().listening.is_none());
    }

    #[test]
    fn who_waits_is_told_when_the_runtime_that_listens_is_gone() {
        let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let room = tempfile::tempdir().unwrap();
        let watcher = Watcher::default();
        let first = runtime();
        let mut watch = first.block_on(async { watcher.growth(room.path()).unwrap() });
        drop(first);
        runtime().block_on(async {
            watch.next().await.unwrap_err();
            // Another one listens from then on.
            let mut again = watcher.growth(room.path()).unwrap();
            std::fs::write(room.path().join("log"), "").unwrap();
            assert!(hears(&mut again).await);
        });
    }
}
