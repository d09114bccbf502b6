//! The files of a container as it sees them, volumes and binds included: through its own mounts while it runs, through a
//! mount namespace made for the purpose while it does not.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Weak};

use engine_sys::mount::{self, Below};
use engine_sys::namespace;
use engine_sys::path::Root;
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;
use tokio::sync::OwnedRwLockReadGuard;

use super::inventory::{Shared, blocking};
use super::live::Live;
use super::mounts::{MountKind, MountPoint};
use super::record::Record;
use super::{Container, Error, sources, start};
use crate::snapshot::{Upper, merged};

/// What a container is looked at through. It does not start while somebody has one.
#[derive(Debug)]
pub(super) struct View {
    root: Root,
    /// Keeps the mounts of a container that does not run.
    namespace: Option<OwnedFd>,
    mounted_for: Option<(Arc<Shared>, Arc<Record>)>,
    _turn: OwnedRwLockReadGuard<()>,
}

impl Drop for View {
    fn drop(&mut self) {
        self.namespace = None;
        if let Some((shared, record)) = &self.mounted_for {
            sources::let_go(shared, record);
        }
    }
}

/// The views of one container.
#[derive(Debug, Default)]
pub(super) struct Views {
    /// Held for reading by each view, for writing by a start: an overlay is mounted once at a time.
    turn: Arc<tokio::sync::RwLock<()>>,
    /// The mounts of a container that does not run, for all who look at once.
    stopped: tokio::sync::Mutex<Weak<View>>,
}

impl Views {
    /// Waits until nobody looks, and lets nobody look until the answer is dropped.
    pub(super) async fn alone(&self) -> impl Drop + use<> {
        Arc::clone(&self.turn).write_owned().await
    }
}

impl View {
    fn new(
        root: OwnedFd,
        namespace: Option<OwnedFd>,
        mounted_for: Option<(Arc<Shared>, Arc<Record>)>,
        turn: OwnedRwLockReadGuard<()>,
    ) -> Self {
        Self { root: Root::from_fd(root), namespace, mounted_for, _turn: turn }
    }

    pub(super) fn root(&self) -> &Root {
        &self.root
    }
}

/// A root file system alone, without what is mounted in it. The container does not start while somebody has one.
#[derive(Debug)]
pub(super) struct Bare {
    pub(super) root: Root,
    _turn: OwnedRwLockReadGuard<()>,
}

impl Container {
    /// Looks at its files. Whoever drops the view may block for a moment.
    pub(super) async fn view(&self) -> Result<Arc<View>, Error> {
        loop {
            let (turn, live) = self.look().await?;
            let Some(live) = live else { return self.view_of_stopped(turn).await };
            match blocking(move || Ok(namespace::in_mounts(live.process(), open_root))).await? {
                Ok(root) => return Ok(Arc::new(View::new(root, None, None, turn))),
                // It has just ended, and is looked at as one that does not run as soon as that is known.
                Err(error) if ended(&error) => {}
                Err(error) => return Err(self.cannot_look(error)),
            }
        }
    }

    /// Looks at its root file system alone.
    pub(super) async fn bare(&self) -> Result<Bare, Error> {
        loop {
            let (turn, live) = self.look().await?;
            let Upper { mut lower, upper, .. } = self.overlay();
            lower.insert(0, upper);
            let runs = live.is_some();
            let opened = blocking(move || {
                Ok(match live {
                    Some(live) => {
                        let copy = || mount::copy(Path::new("/"), Below::Left);
                        namespace::in_mounts(live.process(), copy)
                            .and_then(|mount| merged::reopened(&mount))
                            .map(Root::from_fd)
                    }
                    None => merged::root(&lower).and_then(|root| root.ok_or_else(|| io::ErrorKind::NotFound.into())),
                })
            });
            match opened.await? {
                Ok(root) => return Ok(Bare { root, _turn: turn }),
                Err(error) if runs && ended(&error) => {}
                Err(error) => return Err(self.cannot_look(error)),
            }
        }
    }

    /// Keeps it from starting, and says whether it runs.
    async fn look(&self) -> Result<(OwnedRwLockReadGuard<()>, Option<Arc<Live>>), Error> {
        self.owned()?;
        let turn = Arc::clone(&self.inner.views.turn).read_owned().await;
        let runs = self.inner.live().filter(|live| !engine_sys::process::wait(live.process(), NOW).unwrap_or(true));
        if runs.is_none() {
            self.inner.settle().await?;
        }
        if self.inner.is_gone() {
            return Err(Error::NoSuchContainer(self.inner.id.to_string()));
        }
        Ok((turn, runs))
    }

    async fn view_of_stopped(&self, turn: OwnedRwLockReadGuard<()>) -> Result<Arc<View>, Error> {
        let mut stopped = self.inner.views.stopped.lock().await;
        if let Some(view) = stopped.upgrade() {
            return Ok(view);
        }
        let (shared, record) = (Arc::clone(&self.shared), self.inner.record());
        let mounted_for = Some((Arc::clone(&self.shared), Arc::clone(&record)));
        let made = blocking(move || {
            let overlay = shared.parts.snapshots.prepare(&record.id, &record.layers)?;
            start::clean_volatile(&overlay)?;
            let place = shared.directory(&record.id);
            Ok(namespace::new_mounts(|| Ok(assemble(&shared, &record, &overlay, &place))))
        });
        let (namespace, root) = made.await?.map_err(|error| self.cannot_look(error))?;
        let root = root?;
        let view = Arc::new(View::new(root, Some(namespace), mounted_for, turn));
        *stopped = Arc::downgrade(&view);
        Ok(view)
    }

    fn cannot_look(&self, error: io::Error) -> Error {
        Error::io("look at the files of container", self.inner.id.as_str(), error)
    }
}

const NOW: Option<std::time::Duration> = Some(std::time::Duration::ZERO);

/// Whether a process cannot be joined because it is no more.
fn ended(error: &io::Error) -> bool {
    [Errno::SRCH, Errno::INVAL].iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

fn open_root() -> io::Result<OwnedFd> {
    Ok(rustix::fs::open("/", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// Makes a container's root this thread's, with its volumes and binds, and nothing else. `place` is a directory of the
/// engine's own to mount upon.
fn assemble(shared: &Shared, record: &Record, overlay: &Upper, place: &Path) -> Result<OwnedFd, Error> {
    let failed = |error: io::Error| Error::io("put together the files of container", record.id.as_str(), error);
    let root = mount_root(overlay, place).map_err(failed)?;
    for point in record.mounts.iter().filter(|point| point.kind != MountKind::Tmpfs) {
        let tree = sources::tree(shared, record, point)?;
        attach(&root, point, tree).map_err(failed)?;
    }
    if record.config.host.readonly_rootfs {
        mount::set_read_only(&root, Below::Left).map_err(failed)?;
    }
    enter(&root).map_err(failed)?;
    Ok(root.into_fd())
}

fn mount_root(overlay: &Upper, place: &Path) -> io::Result<Root> {
    let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let place = rustix::fs::open(place, directory, Mode::empty())?;
    let mount = merged::writable(overlay)?;
    mount::attach(mount.as_fd(), place.as_fd())?;
    Ok(Root::from_fd(merged::reopened(&mount)?))
}

/// Makes it the root, and lets go of what is the host's.
fn enter(root: &Root) -> io::Result<()> {
    rustix::process::fchdir(root)?;
    rustix::process::pivot_root(".", ".")?;
    // What is below the new root now is the host's.
    Ok(rustix::mount::unmount(".", UnmountFlags::DETACH)?)
}

fn attach(root: &Root, point: &MountPoint, tree: Option<OwnedFd>) -> io::Result<()> {
    let below = if point.non_recursive { Below::Left } else { Below::Included };
    let mount = match tree {
        Some(tree) => tree,
        None => match mount::copy(Path::new(&point.source), below) {
            // A start would refuse it, or make it; there is nothing to be seen until then.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            mount => mount?,
        },
    };
    if let Some(map) = &point.id_map {
        map.apply(&mount, below)?;
    }
    if !point.writable {
        mount::set_read_only(&mount, if point.read_only_non_recursive { Below::Left } else { Below::Included })?;
    }
    let destination = Path::new(&point.destination);
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&mount)?.st_mode);
    let target = if kind == FileType::Directory {
        root.make_directory(destination, Mode::from(0o755))?.into_fd()
    } else {
        file(root, destination)?
    };
    mount::attach(mount.as_fd(), target.as_fd())
}

/// Opens what a file is mounted upon, made if it is missing.
fn file(root: &Root, path: &Path) -> io::Result<OwnedFd> {
    match root.file(path, OFlags::PATH, Mode::empty()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        found => return found,
    }
    if let Some(parent) = path.parent() {
        root.make_directory(parent, Mode::from(0o755))?;
    }
    root.file(path, OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::from(0o644))
}
