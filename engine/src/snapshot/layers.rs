//! The unpacked layers, each once per root, whoever shares it.
//!
//! A layer is *staged* in a directory of its own, then *published* by a rename inside the state transaction that
//! records it, after a sync. A layer whose record is missing is not there, whatever the directory says; a layer that
//! nothing holds is *retired* by a rename and removed at leisure.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::{DirBuilder, Permissions};
use std::io::BufRead;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine_sys::path::{Root, remove_all};
use rustix::fs::{self, AtFlags, FlockOperation, Mode, RenameFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::stream::Hashing;
use super::tar::Archive;
use super::{Error, Limits, Unpacked, extract};
use crate::oci::Digest;
use crate::state::{Snapshot, Table, Transaction};

/// The layers beneath one root directory. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Layers {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    directory: Root,
    limits: Limits,
}

/// A layer that is there and whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// The digest of its uncompressed archive.
    pub diff_id: Digest,
    /// Its unpacked tree.
    pub path: PathBuf,
    /// What it holds.
    pub record: LayerRecord,
}

/// What the state store keeps of a layer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LayerRecord {
    /// Bytes of all its files.
    pub size: u64,
    /// Its entries.
    pub entries: u64,
    /// Bytes of its uncompressed archive.
    pub archive_size: u64,
    /// The blob it was unpacked from, if that is kept.
    pub blob: Option<Digest>,
}

/// A directory that a layer is being unpacked to; removed when dropped.
#[derive(Debug)]
pub struct Staging {
    layers: Layers,
    name: OsString,
    directory: Option<OwnedFd>,
}

/// An unpacked layer that is not published; removed when dropped.
#[derive(Debug)]
pub struct Staged {
    /// What its archive's bytes are.
    pub diff_id: Digest,
    /// Bytes of the archive.
    pub archive_size: u64,
    /// What is in it.
    pub unpacked: Unpacked,
    staging: Staging,
}

/// A layer that has been moved away and has yet to be removed, which dropping does; it takes its time.
#[derive(Debug)]
pub struct Retired {
    layers: Layers,
    name: OsString,
}

const TEMPORARY: &[u8] = b".tmp-";

impl Layers {
    /// Opens the layers beneath `root`, the engine's root directory.
    pub fn open(root: &Path) -> Result<Self, Error> {
        Self::with_limits(root, Limits::default())
    }

    /// The same, with other limits for what is unpacked.
    pub fn with_limits(root: &Path, limits: Limits) -> Result<Self, Error> {
        let path = root.join("layers");
        let what = || Error::host(format!("make {}", path.display()));
        DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(what())?;
        // Layers hold other people's set-id programs: nobody else may come near them (CVE-2021-41091).
        std::fs::set_permissions(&path, Permissions::from_mode(0o700)).map_err(what())?;
        let directory = Root::open(&path).map_err(Error::host(format!("open {}", path.display())))?;
        Ok(Self { shared: Arc::new(Shared { path, directory, limits }) })
    }

    /// Where the layer is, when it is there.
    pub fn path(&self, diff_id: &Digest) -> PathBuf {
        self.shared.path.join(diff_id.hex())
    }

    /// The layer, if it is there and whole.
    pub fn get(&self, state: &Snapshot<'_>, diff_id: &Digest) -> Result<Option<Layer>, Error> {
        let Some(record) = state.get::<LayerRecord>(Table::Layer, &diff_id.to_string())? else { return Ok(None) };
        let there = self.is_directory(diff_id);
        Ok(there.then(|| Layer { diff_id: *diff_id, path: self.path(diff_id), record }))
    }

    fn is_directory(&self, diff_id: &Digest) -> bool {
        fs::statat(&self.shared.directory, diff_id.hex(), AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|found| fs::FileType::from_raw_mode(found.st_mode) == fs::FileType::Directory)
    }

    /// A new directory to unpack a layer to.
    pub fn stage(&self) -> Result<Staging, Error> {
        let fail = |source: std::io::Error| Error::Host { what: "make a directory for a layer".to_owned(), source };
        let parent = &self.shared.directory;
        loop {
            let name = temporary_name().map_err(fail)?;
            match fs::mkdirat(parent, &name, Mode::from_raw_mode(0o755)) {
                Err(Errno::EXIST) => continue,
                made => made.map_err(|error| fail(error.into()))?,
            }
            let Ok(directory) = parent.directory(Path::new(&name)) else { continue };
            // Whoever sweeps takes a directory without a lock for a leftover; between mkdir and here that is us.
            if fs::flock(directory.as_fd(), FlockOperation::NonBlockingLockExclusive).is_err() {
                continue;
            }
            let same = match (fs::statat(parent, &name, AtFlags::SYMLINK_NOFOLLOW), fs::fstat(&directory)) {
                (Ok(named), Ok(held)) => named.st_ino == held.st_ino,
                _ => false,
            };
            if !same {
                continue;
            }
            // Whatever the mask of the process and the set-group-id bit of the parent made of it.
            fs::fchmod(&directory, Mode::from_raw_mode(0o755)).map_err(|error| fail(error.into()))?;
            return Ok(Staging { layers: self.clone(), name, directory: Some(directory.into_fd()) });
        }
    }

    /// Unpacks, checks and syncs one layer: all that [`commit`](Self::commit) needs. Blocks; see [`Staging::unpack`].
    pub fn apply(&self, diff_id: &Digest, archive: impl BufRead) -> Result<Staged, Error> {
        let staged = self.stage()?.unpack(archive)?;
        staged.verify(diff_id)?;
        self.sync()?;
        Ok(staged)
    }

    /// Writes everything staged to the disk. Blocks.
    pub fn sync(&self) -> Result<(), Error> {
        fs::syncfs(&self.shared.directory).map_err(|error| Error::host("sync the layers")(error.into()))
    }

    /// Makes a layer part of the state: publishes it unless it is there already, records it, and lets `by` hold it.
    /// What has been staged must have been synced before, and what is returned is dropped after the transaction.
    pub fn commit(
        &self,
        transaction: &mut Transaction<'_>,
        diff_id: &Digest,
        staged: Option<Staged>,
        blob: Option<Digest>,
        by: (Table, &str),
    ) -> Result<Option<Staged>, Error> {
        let key = diff_id.to_string();
        let known = self.get(transaction, diff_id)?;
        let surplus = match (known, staged) {
            (Some(layer), staged) => {
                if layer.record.blob.is_none() && blob.is_some() {
                    transaction.put(Table::Layer, &key, &LayerRecord { blob, ..layer.record })?;
                }
                staged
            }
            (None, Some(staged)) => {
                staged.verify(diff_id)?;
                let record = LayerRecord {
                    size: staged.unpacked.bytes,
                    entries: staged.unpacked.entries,
                    archive_size: staged.archive_size,
                    blob,
                };
                let surplus = self.publish(staged)?;
                transaction.put(Table::Layer, &key, &record)?;
                surplus
            }
            (None, None) => return Err(Error::Vanished(*diff_id)),
        };
        transaction.hold((Table::Layer, &key), by)?;
        Ok(surplus)
    }

    /// Gives the staged directory its name. A directory of that name without a record is left over from a crash, and
    /// nobody knows whether it is whole: it is put away.
    fn publish(&self, mut staged: Staged) -> Result<Option<Staged>, Error> {
        let (directory, name) = (&self.shared.directory, staged.diff_id.hex());
        let fail = |error: Errno| Error::host(format!("publish layer {}", staged.diff_id))(error.into());
        match fs::renameat_with(directory, &staged.staging.name, directory, &*name, RenameFlags::NOREPLACE) {
            Ok(()) => {
                staged.staging.directory = None;
                self.sync_names().map(|()| None)
            }
            Err(Errno::EXIST) => {
                fs::renameat_with(directory, &staged.staging.name, directory, &*name, RenameFlags::EXCHANGE)
                    .map_err(fail)?;
                self.sync_names().map(|()| Some(staged))
            }
            Err(error) => Err(fail(error)),
        }
    }

    fn sync_names(&self) -> Result<(), Error> {
        fs::fsync(&self.shared.directory).map_err(|error| Error::host("sync the names of layers")(error.into()))
    }

    /// Moves the layer away and forgets it, if nothing holds it. The hold that went was released in an earlier
    /// transaction, so that a crash in between leaves a layer too many and never one too few.
    pub fn retire(&self, transaction: &mut Transaction<'_>, diff_id: &Digest) -> Result<Option<Retired>, Error> {
        let key = diff_id.to_string();
        if !transaction.holders((Table::Layer, &key))?.is_empty() {
            return Ok(None);
        }
        transaction.delete(Table::Layer, &key)?;
        let fail = |error| Error::host(format!("put layer {diff_id} away"))(error);
        let name = temporary_name().map_err(fail)?;
        let directory = &self.shared.directory;
        match fs::renameat(directory, diff_id.hex(), directory, &name) {
            Ok(()) => Ok(Some(Retired { layers: self.clone(), name })),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(Error::host(format!("put layer {diff_id} away"))(error.into())),
        }
    }

    /// Removes what crashed programs left: directories that nobody has locked. Blocks.
    pub fn sweep(&self) -> Result<(), Error> {
        let fail = || Error::host("look for leftovers of layers");
        for entry in std::fs::read_dir(&self.shared.path).map_err(fail())? {
            let name = entry.map_err(fail())?.file_name();
            if !name.as_bytes().starts_with(TEMPORARY) {
                continue;
            }
            let Ok(directory) = self.shared.directory.directory(Path::new(&name)) else { continue };
            if fs::flock(directory.as_fd(), FlockOperation::NonBlockingLockExclusive).is_ok() {
                self.remove(&name)?;
            }
        }
        Ok(())
    }

    /// Retires every layer that nothing holds, and every directory that no record speaks of.
    pub fn collect(&self, transaction: &mut Transaction<'_>) -> Result<Vec<Retired>, Error> {
        let fail = || Error::host("look for layers that nothing holds");
        let mut found: BTreeSet<Digest> =
            transaction.keys(Table::Layer)?.iter().filter_map(|key| key.parse().ok()).collect();
        for entry in std::fs::read_dir(&self.shared.path).map_err(fail())? {
            let name = entry.map_err(fail())?.file_name();
            found.extend(name.to_str().and_then(|name| Digest::from_hex(name).ok()));
        }
        let mut retired = Vec::new();
        for diff_id in found {
            retired.extend(self.retire(transaction, &diff_id)?);
        }
        Ok(retired)
    }

    fn remove(&self, name: &OsStr) -> Result<(), Error> {
        remove_all(self.shared.directory.as_fd(), name)
            .map_err(Error::host(format!("remove {}", self.shared.path.join(name).display())))
    }
}

fn temporary_name() -> std::io::Result<OsString> {
    Ok(format!(".tmp-{:016x}", engine_sys::file::random()?).into())
}

impl Staging {
    /// Unpacks an uncompressed archive, and hashes it to its very end. Blocks, and gives the calling thread a umask and
    /// a working directory of its own: call it from a thread made for it.
    pub fn unpack(self, archive: impl BufRead) -> Result<Staged, Error> {
        let root = self.layers.shared.directory.directory(Path::new(&self.name));
        let root = root.map_err(Error::host("open the directory of a layer"))?;
        let mut archive = Archive::new(Hashing::new(archive));
        let unpacked = extract::unpack(&mut archive, &root, &self.layers.shared.limits)?;
        let (diff_id, archive_size) = archive.into_inner().finish().map_err(super::tar::Error::Read)?;
        Ok(Staged { diff_id, archive_size, unpacked, staging: self })
    }

    /// The directory; for tests and for layers that are not archives.
    pub fn path(&self) -> PathBuf {
        self.layers.shared.path.join(&self.name)
    }
}

impl Staged {
    /// Whether these are the bytes of `diff_id`.
    pub fn verify(&self, diff_id: &Digest) -> Result<(), Error> {
        if self.diff_id == *diff_id {
            return Ok(());
        }
        Err(Error::Mismatch { expected: *diff_id, found: self.diff_id })
    }

    /// The unpacked tree.
    pub fn path(&self) -> PathBuf {
        self.staging.path()
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // The lock is held until everything is gone: nobody else has to sweep.
        if let Some(lock) = self.directory.take() {
            remove_beside(self.layers.clone(), std::mem::take(&mut self.name), Some(lock));
        }
    }
}

impl Retired {
    /// Removes the tree here and now. Blocks.
    pub fn remove(mut self) {
        remove(&self.layers, &std::mem::take(&mut self.name));
    }
}

impl Drop for Retired {
    fn drop(&mut self) {
        if !self.name.is_empty() {
            remove_beside(self.layers.clone(), std::mem::take(&mut self.name), None);
        }
    }
}

fn remove(layers: &Layers, name: &OsStr) {
    if let Err(error) = layers.remove(name) {
        tracing::warn!(%error, "a leftover stays until the next start");
    }
}

/// Removes a tree, and keeps no task of an async program waiting for it.
fn remove_beside(layers: Layers, name: OsString, lock: Option<OwnedFd>) {
    let remove = move || {
        remove(&layers, &name);
        drop(lock);
    };
    if tokio::runtime::Handle::try_current().is_err() {
        return remove();
    }
    let thread = std::thread::Builder::new().name("engine-remove".to_owned());
    if let Err(error) = thread.spawn(remove) {
        tracing::warn!(%error, "a leftover stays until the next start");
    }
}
