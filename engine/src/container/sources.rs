//! What is mounted in a container and is no path of the host: parts of volumes, volumes with options, images, and the shared
//! memory of another container. Each becomes a mount that is attached nowhere until the container has it.

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine_sys::mount::{self, Below};
use engine_sys::namespace;
use engine_sys::path::Root;
use rustix::fs::{Mode, OFlags};

use super::Error;
use super::inventory::{Shared, blocking};
use super::live::Live;
use super::mounts::{MountKind, MountPoint};
use super::record::Record;
use crate::snapshot::merged;
use crate::volume;

pub(super) const SHARED_MEMORY: &str = "/dev/shm";

/// All of a container's, by destination. Blocks.
pub(super) fn trees(
    shared: &Shared,
    record: &Record,
    ipc_of: Option<&Live>,
) -> Result<BTreeMap<PathBuf, Arc<OwnedFd>>, Error> {
    let mut trees = BTreeMap::new();
    for point in &record.mounts {
        if let Some(tree) = tree(shared, record, point)? {
            trees.insert(PathBuf::from(&point.destination), Arc::new(tree));
        }
    }
    if let Some(live) = ipc_of
        && !record.mounts.iter().any(|point| point.destination == SHARED_MEMORY)
    {
        let copied = namespace::in_mounts(live.process(), || mount::copy(Path::new(SHARED_MEMORY), Below::Left));
        let copied = copied.map_err(|error| Error::io("share the memory of", SHARED_MEMORY, error))?;
        trees.insert(PathBuf::from(SHARED_MEMORY), Arc::new(copied));
    }
    Ok(trees)
}

/// The mount of one that needs one. Blocks.
pub(super) fn tree(shared: &Shared, record: &Record, point: &MountPoint) -> Result<Option<OwnedFd>, Error> {
    match (point.kind, &point.name) {
        (MountKind::Volume, Some(name)) if point.subpath.is_some() || point.mounted => {
            let find = || elsewhere(shared, name);
            let subpath = point.subpath.as_deref();
            Ok(shared.parts.volumes.tree(name, &record.id, subpath, find)?)
        }
        (MountKind::Image, _) => {
            let layers = shared.parts.snapshots.of(&record.id, &point.layers).lower;
            let place = shared.directory(&record.id);
            image(&layers, point.subpath.as_deref(), &place).map(Some)
        }
        _ => Ok(None),
    }
}

/// A container has no use for its volumes at the moment. Blocks when one of them has options.
pub(super) fn let_go(shared: &Shared, record: &Record) {
    if record.mounts.iter().any(|point| point.mounted) {
        shared.parts.volumes.let_go(&record.id);
    }
}

/// The same, without keeping an async task waiting.
pub(super) async fn let_go_beside(shared: &Arc<Shared>, record: &Arc<Record>) {
    if record.mounts.iter().any(|point| point.mounted) {
        let (shared, record) = (Arc::clone(shared), Arc::clone(record));
        // It has no result, and whoever waits has no use for one.
        let _ = blocking(move || {
            let_go(&shared, &record);
            Ok(())
        })
        .await;
    }
}

/// The mount of a volume in a container that an earlier engine started, so that both see the same.
pub(super) fn elsewhere(shared: &Shared, name: &str) -> Option<OwnedFd> {
    shared.all().iter().find_map(|inner| {
        let live = inner.live()?;
        let record = inner.record();
        let has = |point: &&MountPoint| {
            // Where owners are shown as others it is not the volume as it is.
            let is_whole = point.subpath.is_none() && point.id_map.is_none();
            point.name.as_deref() == Some(name) && is_whole && point.kind == MountKind::Volume
        };
        let point = record.mounts.iter().find(has)?;
        namespace::in_mounts(live.process(), || mount::copy(Path::new(&point.destination), Below::Left)).ok()
    })
}

/// The files of an image, or a part of them. `place` is a directory to mount upon where nobody sees it.
fn image(layers: &[PathBuf], subpath: Option<&str>, place: &Path) -> Result<OwnedFd, Error> {
    let whole = match layers {
        [only] => mount::copy(only, Below::Left),
        many => merged::merged(many),
    };
    let failed = |error| Error::io("mount the image at", place, error);
    let whole = whole.map_err(failed)?;
    let Some(subpath) = subpath else { return Ok(whole) };
    let part = || {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        mount::attach(whole.as_fd(), rustix::fs::open(place, flags, Mode::empty())?.as_fd())?;
        let root = Root::from_fd(merged::reopened(&whole)?);
        Ok(root
            .file(Path::new(subpath), OFlags::PATH, Mode::empty())
            .and_then(|part| mount::copy_open(part.as_fd(), Below::Left)))
    };
    let (_, part) = namespace::new_mounts(part).map_err(failed)?;
    Ok(part.map_err(|source| volume::Error::Subpath { path: subpath.to_owned(), source })?)
}
