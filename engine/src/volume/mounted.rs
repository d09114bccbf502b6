//! Volumes that are no directory of the engine's: mounted once for all containers that use them, in a mount namespace that
//! nobody is in, so that the host's own table stays as it is.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use engine_sys::mount::{self, Below};
use engine_sys::namespace;
use engine_sys::path::Root;
use rustix::fs::{Mode, OFlags};
use rustix::mount::UnmountFlags;

use super::{Error, Name, Volume, Volumes, driver, local, populate};
use crate::id::ContainerId;

/// What is mounted, and for whom.
#[derive(Debug, Default)]
pub(super) struct Mounted {
    namespace: Option<OwnedFd>,
    volumes: BTreeMap<Name, BTreeSet<ContainerId>>,
}

impl Volumes {
    /// A mount of a volume for a container, attached nowhere; nothing when the volume's own path says all. With `subpath` the
    /// mount is of that path in the volume, which no link leads out of.
    ///
    /// `find` may know a mount of the volume that a container has from an earlier engine. Blocks.
    pub(crate) fn tree(
        &self,
        name: &str,
        by: &ContainerId,
        subpath: Option<&str>,
        find: impl FnOnce() -> Option<OwnedFd>,
    ) -> Result<Option<OwnedFd>, Error> {
        let name: Name = name.parse()?;
        let volume = self.look(&name)?.ok_or_else(|| Error::NotFound(name.to_string()))?;
        let place = volume.mountpoint();
        if !volume.is_elsewhere() {
            return subpath.map(|subpath| part(place, subpath)).transpose();
        }
        let failed = |source| failed(&volume, source);
        let mut mounted = self.mounted.lock().unwrap_or_else(PoisonError::into_inner);
        if !mounted.volumes.contains_key(&name) {
            let whole = match find() {
                Some(whole) => whole,
                None => self.contents(&volume)?,
            };
            let attach = || {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                mount::attach(whole.as_fd(), rustix::fs::open(place, flags, Mode::empty())?.as_fd())
            };
            match &mounted.namespace {
                Some(namespace) => namespace::in_mounts(namespace.as_fd(), attach).map_err(failed)?,
                None => mounted.namespace = Some(namespace::new_mounts(attach).map_err(failed)?.0),
            }
        }
        mounted.volumes.entry(name).or_default().insert(*by);
        let Some(namespace) = &mounted.namespace else { return Ok(None) };
        let copied = namespace::in_mounts(namespace.as_fd(), || {
            Ok(match subpath {
                Some(subpath) => part(place, subpath),
                None => mount::copy(place, Below::Included).map_err(failed),
            })
        });
        copied.map_err(failed)?.map(Some)
    }

    /// A container has no use for its volumes any more: what nobody else uses is unmounted. Blocks.
    pub(crate) fn let_go(&self, by: &ContainerId) {
        let mut mounted = self.mounted.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free = Vec::new();
        let mut unused = Vec::new();
        mounted.volumes.retain(|name, users| {
            users.remove(by);
            if users.is_empty() {
                free.push(self.home(name).join(super::DATA));
                unused.push(name.clone());
            }
            !users.is_empty()
        });
        if mounted.volumes.is_empty() {
            // Everything in it goes with it.
            mounted.namespace = None;
        } else if let Some(namespace) = &mounted.namespace {
            for place in free {
                let unmounted = namespace::in_mounts(namespace.as_fd(), || {
                    Ok(rustix::mount::unmount(&place, UnmountFlags::DETACH)?)
                });
                if let Err(error) = unmounted {
                    tracing::warn!(path = %place.display(), %error, "a volume stays mounted until the engine ends");
                }
            }
        }
        for name in unused {
            if let Err(error) = self.unmount(&name) {
                tracing::warn!(volume = %name, %error, "the driver of a volume does not let go of it");
            }
        }
    }

    /// The whole of a volume that is elsewhere.
    fn contents(&self, volume: &Volume) -> Result<OwnedFd, Error> {
        let failed = |source| failed(volume, source);
        let Some(driver) = self.driver(volume.name.as_str(), volume.driver())? else {
            return local::open(volume.options()).map_err(failed);
        };
        let place = driver.mount(volume).map_err(|error| driver::failed(volume, error))?;
        mount::copy(&place, Below::Included).map_err(|source| {
            // Nobody has it, so nobody will let go of it.
            if let Err(error) = driver.unmount(volume) {
                tracing::warn!(volume = %volume.name, %error, "the driver of a volume does not let go of it");
            }
            Error::Mount {
                device: place.display().to_string(),
                mountpoint: volume.mountpoint().display().to_string(),
                data: String::new(),
                source,
            }
        })
    }

    fn unmount(&self, name: &Name) -> Result<(), Error> {
        let Some(volume) = self.look(name)? else { return Ok(()) };
        match self.driver(name.as_str(), volume.driver())? {
            Some(driver) => driver.unmount(&volume).map_err(|error| driver::failed(&volume, error)),
            None => Ok(()),
        }
    }

    /// As [`Volume::populate`], for a volume that is elsewhere, which is mounted meanwhile for a container that does not run.
    /// One that cannot be written is left as it is. Blocks.
    pub(crate) fn populate_elsewhere(
        &self,
        volume: &Volume,
        by: &ContainerId,
        layers: &[PathBuf],
        path: &Path,
        find: impl FnOnce() -> Option<OwnedFd>,
    ) -> Result<bool, Error> {
        let fill = || {
            let Some(tree) = self.tree(volume.name.as_str(), by, None, find)? else { return Ok(false) };
            let failed = |source| failed(volume, source);
            let flags = rustix::fs::fstatvfs(&tree).map_err(|error| failed(error.into()))?.f_flag;
            let is_directory =
                rustix::fs::fstat(&tree).is_ok_and(|found| rustix::fs::FileType::from_raw_mode(found.st_mode).is_dir());
            if flags.contains(rustix::fs::StatVfsMountFlags::RDONLY) || !is_directory {
                return Ok(false);
            }
            let data = crate::snapshot::merged::reopened(&tree).map_err(failed)?;
            let home = self.home(&volume.name);
            populate::populate(&volume.name, &home, Some(data), layers, path)
        };
        let filled = fill();
        self.let_go(by);
        filled
    }
}

fn failed(volume: &Volume, source: io::Error) -> Error {
    let option = |key: &str| volume.options().get(key).cloned().unwrap_or_default();
    Error::Mount {
        device: option("device"),
        mountpoint: volume.mountpoint().display().to_string(),
        data: option("o"),
        source,
    }
}

/// A mount of a path in a volume. A symbolic link means what it would mean if the volume were all there is.
fn part(volume: &Path, path: &str) -> Result<OwnedFd, Error> {
    let opened = Root::open(volume)
        .and_then(|root| root.file(Path::new(path), OFlags::PATH, Mode::empty()))
        .and_then(|place| mount::copy_open(place.as_fd(), Below::Included));
    opened.map_err(|source| Error::Subpath { path: path.to_owned(), source })
}
