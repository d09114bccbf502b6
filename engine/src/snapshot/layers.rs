//! The unpacked layers, each once per root, whoever shares it.
//!
//! A layer is *staged* in a directory of its own, then *published* by a rename inside the state transaction that
//! records it, after a sync. A layer whose record is missing is not there, whatever the directory says; a layer that
//! nothing holds is *retired* by a rename and removed at leisure.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::{DirBuilder, File, Permissions};
use std::io::BufRead;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine_sys::file::{is_shortage, is_unlocked, lock_abandoned};
use engine_sys::path::{Root, remove_all};
use rustix::fs::{self, AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::ahead::Ahead;
use super::framing::{Rebuilt, Recorded, Tape};
use super::inflated::Further;
use super::pieces::Source;
use super::stream::{Archived, Hashing};
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
    ahead: Arc<Ahead>,
    further: Arc<Further>,
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
    /// Whether the framing of its archive is kept beside it, so that the archive can be had back.
    pub framing: bool,
    /// Whether the blobs that it came in were given up: they are not missed, and not fetched again.
    pub bare: bool,
}

/// A directory that a layer is being unpacked to; removed when dropped.
#[derive(Debug)]
pub struct Staging {
    layers: Layers,
    name: OsString,
    directory: Option<OwnedFd>,
    /// The framing, locked like the directory.
    framing: Option<File>,
    /// A moment before it was made, in seconds since 1970.
    made: i64,
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
const FRAMING: &str = ".framing";

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
        Ok(Self {
            shared: Arc::new(Shared { path, directory, limits, ahead: Arc::default(), further: Arc::default() }),
        })
    }

    pub(super) fn further(&self) -> &Arc<Further> {
        &self.shared.further
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
            // Whoever only counts leftovers lets go of it at once.
            engine_sys::file::lock(directory.as_fd()).map_err(fail)?;
            let same = match (fs::statat(parent, &name, AtFlags::SYMLINK_NOFOLLOW), fs::fstat(&directory)) {
                (Ok(named), Ok(held)) => named.st_ino == held.st_ino,
                _ => false,
            };
            if !same {
                continue;
            }
            // Whatever the mask of the process and the set-group-id bit of the parent made of it.
            fs::fchmod(&directory, Mode::from_raw_mode(0o755)).map_err(|error| fail(error.into()))?;
            // File systems are a little behind with their clocks.
            let made = jiff::Timestamp::now().as_second() - 1;
            let directory = Some(directory.into_fd());
            return Ok(Staging { layers: self.clone(), name, directory, framing: None, made });
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
            (Some(layer), mut staged) => {
                let mut record = layer.record.clone();
                record.blob = record.blob.or(blob);
                if !record.framing && record.blob.is_none() {
                    // Whoever unpacked it first kept no way back to the archive.
                    if let Some(staged) = &mut staged {
                        staged.verify(diff_id)?;
                        record.framing = self.publish_framing(staged)?;
                    }
                }
                if record != layer.record {
                    transaction.put(Table::Layer, &key, &record)?;
                }
                staged
            }
            (None, Some(mut staged)) => {
                staged.verify(diff_id)?;
                let framing = self.publish_framing(&mut staged)?;
                let record = LayerRecord {
                    framing,
                    size: staged.unpacked.bytes,
                    entries: staged.unpacked.entries,
                    archive_size: staged.archive_size,
                    blob,
                    bare: false,
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

    /// Gives the framing its name, if there is one.
    fn publish_framing(&self, staged: &mut Staged) -> Result<bool, Error> {
        if staged.staging.framing.is_none() {
            return Ok(false);
        }
        let (directory, name) = (&self.shared.directory, framing_name(&staged.diff_id));
        fs::renameat(directory, staged.staging.framing_name(), directory, &name)
            .map_err(|error| Error::host(format!("publish the framing of layer {}", staged.diff_id))(error.into()))?;
        staged.staging.framing = None;
        Ok(true)
    }

    /// Bytes of the framing of a layer, if it has one.
    pub fn framing_size(&self, diff_id: &Digest) -> u64 {
        let found = fs::statat(&self.shared.directory, framing_name(diff_id), AtFlags::SYMLINK_NOFOLLOW);
        found.map_or(0, |found| u64::try_from(found.st_size).unwrap_or(0))
    }

    /// The uncompressed archive of a layer whose framing is kept, byte for byte; whoever reads it checks the digest.
    pub fn archive(&self, diff_id: &Digest) -> Result<Rebuilt, Error> {
        let fail = || Error::host(format!("put the archive of layer {diff_id} together"));
        let root = self.shared.directory.directory(Path::new(&diff_id.hex())).map_err(fail())?;
        let open = || {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = fs::openat(&self.shared.directory, framing_name(diff_id), flags, Mode::empty())?;
            Ok(File::from(file))
        };
        let spare = || {
            let (name, file) = engine_sys::file::temporary(self.shared.directory.as_fd(), Mode::from_raw_mode(0o600))?;
            fs::unlinkat(&self.shared.directory, &*name, AtFlags::empty())?;
            Ok(File::from(file))
        };
        Rebuilt::new(root, open, spare).map_err(fail())
    }

    /// How the layer differs from what was unpacked anew; `None` if it does not.
    pub fn difference(&self, staged: &Staged) -> Result<Option<String>, Error> {
        let what = format!("compare layer {}", staged.diff_id);
        let root = match self.shared.directory.directory(Path::new(&staged.diff_id.hex())) {
            Ok(root) => root,
            Err(error) if is_shortage(&error) => return Err(Error::host(what)(error)),
            Err(error) => return Ok(Some(format!("its directory cannot be opened: {error}"))),
        };
        let other = self.shared.directory.directory(Path::new(&staged.staging.name));
        let other = other.map_err(Error::host(what.clone()))?;
        match super::tree::difference(root.into_fd(), other.into_fd(), staged.staging.made) {
            Ok(found) => Ok(found),
            Err(error) if is_shortage(&error) => Err(Error::host(what)(error)),
            Err(error) => Ok(Some(format!("it cannot be read: {error}"))),
        }
    }

    /// Puts what was unpacked anew in the place of a damaged layer, whose tree is returned and dropped after the
    /// transaction. What has been staged must have been synced before. `blob` is what it was unpacked from, if that is not
    /// what it was unpacked from the first time.
    pub fn replace(
        &self,
        transaction: &mut Transaction<'_>,
        mut staged: Staged,
        blob: Option<Digest>,
    ) -> Result<Option<Staged>, Error> {
        let (key, diff_id) = (staged.diff_id.to_string(), staged.diff_id);
        let record = transaction.get::<LayerRecord>(Table::Layer, &key)?.ok_or(Error::Vanished(diff_id))?;
        let framing = self.publish_framing(&mut staged)?;
        let record = LayerRecord {
            size: staged.unpacked.bytes,
            entries: staged.unpacked.entries,
            archive_size: staged.archive_size,
            // An old framing may be what is damaged. Where a blob has come, it is not needed.
            framing: framing || (record.framing && blob.is_none()),
            blob: blob.or(record.blob),
            bare: record.bare && blob.is_none(),
        };
        let damaged = self.publish(staged)?;
        transaction.put(Table::Layer, &key, &record)?;
        Ok(damaged)
    }

    /// Keeps the framing of what was unpacked anew for a layer that is here and has none: whether it has one now. The tree
    /// that was staged is not needed any more, and dropped after the transaction. What has been staged must have been synced
    /// before.
    pub fn add_framing(&self, transaction: &mut Transaction<'_>, staged: &mut Staged) -> Result<bool, Error> {
        let (key, diff_id) = (staged.diff_id.to_string(), staged.diff_id);
        let record = transaction.get::<LayerRecord>(Table::Layer, &key)?.ok_or(Error::Vanished(diff_id))?;
        let framing = record.framing || self.publish_framing(staged)?;
        if framing && !record.framing {
            self.sync_names()?;
        }
        transaction.put(Table::Layer, &key, &LayerRecord { framing, ..record })?;
        Ok(framing)
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
        match fs::unlinkat(directory, framing_name(diff_id), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(Error::host(format!("remove the framing of layer {diff_id}"))(error.into())),
        }
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
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let Ok(entry) = fs::openat(&self.shared.directory, &name, flags, Mode::empty()) else { continue };
            if lock_abandoned(entry.as_fd()) {
                self.remove(&name)?;
            }
        }
        Ok(())
    }

    /// Counts what crashed programs left and what no record speaks of.
    pub fn leftovers(&self, transaction: &Transaction<'_>) -> Result<usize, Error> {
        let fail = || Error::host("look for leftovers of layers");
        let mut count = 0;
        for entry in std::fs::read_dir(&self.shared.path).map_err(fail())? {
            let name = entry.map_err(fail())?.file_name();
            let hex = name.to_str().map(|name| name.strip_suffix(FRAMING).unwrap_or(name));
            let is_leftover = match hex.map(Digest::from_hex) {
                Some(Ok(diff_id)) => !transaction.contains(Table::Layer, &diff_id.to_string())?,
                _ => name.as_bytes().starts_with(TEMPORARY) && is_unlocked(self.shared.directory.as_fd(), &name),
            };
            count += usize::from(is_leftover);
        }
        Ok(count)
    }

    /// Retires every layer that nothing holds, and every directory that no record speaks of.
    pub fn collect(&self, transaction: &mut Transaction<'_>) -> Result<Vec<Retired>, Error> {
        let fail = || Error::host("look for layers that nothing holds");
        let mut found: BTreeSet<Digest> =
            transaction.keys(Table::Layer)?.iter().filter_map(|key| key.parse().ok()).collect();
        for entry in std::fs::read_dir(&self.shared.path).map_err(fail())? {
            let name = entry.map_err(fail())?.file_name();
            let hex = name.to_str().map(|name| name.strip_suffix(FRAMING).unwrap_or(name));
            found.extend(hex.and_then(|hex| Digest::from_hex(hex).ok()));
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

fn framing_name(diff_id: &Digest) -> String {
    format!("{}{FRAMING}", diff_id.hex())
}

impl Staging {
    /// Unpacks an uncompressed archive, and hashes it to its very end. Blocks, and gives the calling thread a umask and
    /// a working directory of its own: call it from a thread made for it.
    pub fn unpack(self, archive: impl BufRead) -> Result<Staged, Error> {
        self.unpack_with(Hashing::new(archive), false)
    }

    /// As [`unpack`](Self::unpack), and keeps the framing, so that [`Layers::archive`] gives the archive back.
    pub fn unpack_framed(self, archive: impl BufRead) -> Result<Staged, Error> {
        self.unpack_with(Hashing::new(archive), true)
    }

    /// As [`unpack_framed`](Self::unpack_framed), of pieces that are hashed by who gives them ([`super::pieces::hashed`]).
    pub(crate) fn unpack_hashed(self, pieces: Source) -> Result<Staged, Error> {
        self.unpack_with(pieces, true)
    }

    fn tape(&mut self) -> Result<Tape, Error> {
        let fail = || Error::host("keep the framing of a layer");
        let file = self.make_framing().map_err(fail())?;
        let tape = Tape::new(file.try_clone().map_err(fail())?, self.layers.shared.limits.replaced).map_err(fail())?;
        self.framing = Some(file);
        Ok(tape)
    }

    fn unpack_with(mut self, archive: impl Archived, framed: bool) -> Result<Staged, Error> {
        let tape = if framed { Some(self.tape()?) } else { None };
        let root = self.layers.shared.directory.directory(Path::new(&self.name));
        let root = root.map_err(Error::host("open the directory of a layer"))?;
        let mut archive = Archive::new(Recorded::new(archive, tape.clone()));
        let unpacked = extract::unpack(&mut archive, &root, &self.layers.shared.limits, &self.layers.shared.ahead)?;
        let archive = archive.into_inner().finish().map_err(super::tar::Error::Read)?;
        let (diff_id, archive_size) = archive.finish().map_err(super::tar::Error::Read)?;
        if let Some(tape) = tape
            && !tape.finish().map_err(Error::host("keep the framing of a layer"))?
        {
            self.drop_framing();
        }
        Ok(Staged { diff_id, archive_size, unpacked, staging: self })
    }

    fn framing_name(&self) -> OsString {
        let mut name = self.name.clone();
        name.push(FRAMING);
        name
    }

    /// A new file beside the directory, locked against whoever sweeps.
    fn make_framing(&self) -> std::io::Result<File> {
        let (directory, name) = (&self.layers.shared.directory, self.framing_name());
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        loop {
            let file = match fs::openat(directory, &name, flags, Mode::from_raw_mode(0o600)) {
                Ok(file) => file,
                // Left by the round before, which a sweeper was about to take.
                Err(Errno::EXIST) => {
                    let _ = fs::unlinkat(directory, &name, AtFlags::empty());
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            engine_sys::file::lock(file.as_fd())?;
            if fs::statat(directory, &name, AtFlags::SYMLINK_NOFOLLOW)
                .is_ok_and(|named| fs::fstat(&file).is_ok_and(|held| held.st_ino == named.st_ino))
            {
                return Ok(file.into());
            }
        }
    }

    fn drop_framing(&mut self) {
        if self.framing.take().is_some() {
            let _ = fs::unlinkat(&self.layers.shared.directory, self.framing_name(), AtFlags::empty());
        }
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

    /// Removes it here and now. Blocks.
    pub fn remove(mut self) {
        self.staging.drop_framing();
        if let Some(lock) = self.staging.directory.take() {
            remove(&self.staging.layers, &std::mem::take(&mut self.staging.name));
            drop(lock);
        }
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        self.drop_framing();
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
