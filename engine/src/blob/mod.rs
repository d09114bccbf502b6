//! Bytes by digest, `<root>/blobs/sha256/<digits>`: manifests and compressed layers, visible only once their digest
//! has been checked, and there only once the state has a record of them.

mod lease;
mod partial;

use std::collections::BTreeSet;
use std::fs::{DirBuilder, File, Permissions};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use engine_sys::file;
use engine_sys::path::Root;
use rustix::fs::{self, AtFlags, Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::error::ErrorKind;
use crate::oci::{Digest, Hasher};
use crate::state::{self, Snapshot, Table, Transaction};

pub use lease::Lease;
pub use partial::Scatter;

/// What can go wrong with blobs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The bytes are not those of the digest.
    #[error("blob verification failed: expected {expected}, got {found}")]
    Mismatch {
        /// What was promised.
        expected: Digest,
        /// What came.
        found: Digest,
    },
    /// There is no such blob.
    #[error("no such blob: {0}")]
    Missing(Digest),
    /// The blob is larger than its reader takes.
    #[error("blob {digest} is larger than {limit} bytes")]
    TooLarge {
        /// Which blob.
        digest: Digest,
        /// What it may have, in bytes.
        limit: u64,
    },
    /// The host failed us.
    #[error("{what}: {source}")]
    Host {
        /// What was tried on what.
        what: String,
        /// What the kernel says.
        source: io::Error,
    },
    /// The state store failed.
    #[error(transparent)]
    State(#[from] state::Error),
}

impl Error {
    /// What kind of error it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Mismatch { .. } | Self::TooLarge { .. } => ErrorKind::Invalid,
            Self::Missing(_) => ErrorKind::NotFound,
            Self::Host { .. } => ErrorKind::Internal,
            Self::State(error) => error.kind(),
        }
    }

    fn host(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        |source| Self::Host { what, source }
    }
}

/// The blobs beneath one root directory. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Blobs {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    directory: Root,
}

/// What the state store keeps of a blob.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BlobRecord {
    /// Its size in bytes.
    pub size: u64,
    /// Its media type; empty when nobody said.
    pub media_type: String,
    /// The layer it unpacks to.
    pub diff_id: Option<Digest>,
}

/// A blob whose bytes have been written and checked, and that has no name yet; removed when dropped.
#[derive(Debug)]
pub struct Sealed {
    digest: Digest,
    writer: Writer,
}

/// A blob in the making; removed when dropped.
#[derive(Debug)]
pub struct Writer {
    blobs: Blobs,
    name: String,
    file: Option<File>,
    hasher: Hasher,
    size: u64,
    /// Bytes that were there before: the first ones that are added must be these, and are not written again.
    existing: u64,
    /// From where on somebody else writes them.
    elsewhere: Arc<AtomicU64>,
    /// What is fetched out of order.
    course: partial::Shared,
    /// What is not ended stays for whoever goes on with it.
    kept: bool,
}

/// What a blob is called while it is fetched: by its digest, so that nobody else fetches it, and another one can go on.
const PARTIAL: &str = ".part-";
/// How long what was fetched of a blob is kept for a pull that goes on.
const PATIENCE: Duration = Duration::from_secs(24 * 60 * 60);

fn nowhere() -> Arc<AtomicU64> {
    Arc::new(AtomicU64::new(u64::MAX))
}

impl Blobs {
    /// Opens the blobs beneath `root`, the engine's root directory.
    pub fn open(root: &Path) -> Result<Self, Error> {
        let top = root.join("blobs");
        let path = top.join("sha256");
        let what = || Error::host(format!("make {}", path.display()));
        DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(what())?;
        std::fs::set_permissions(&top, Permissions::from_mode(0o700)).map_err(what())?;
        let directory = Root::open(&path).map_err(Error::host(format!("open {}", path.display())))?;
        Ok(Self { shared: Arc::new(Shared { path, directory }) })
    }

    /// Where the blob is, when it is there.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.shared.path.join(digest.hex())
    }

    /// The record of a blob, if it is there and whole.
    pub fn get(&self, state: &Snapshot<'_>, digest: &Digest) -> Result<Option<BlobRecord>, Error> {
        let record = state.get::<BlobRecord>(Table::Blob, &digest.to_string())?;
        Ok(record.filter(|_| self.is_file(digest)))
    }

    fn is_file(&self, digest: &Digest) -> bool {
        fs::statat(&self.shared.directory, digest.hex(), AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    /// Opens a blob for reading.
    pub fn file(&self, digest: &Digest) -> Result<File, Error> {
        match fs::openat(&self.shared.directory, digest.hex(), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
            Ok(file) => Ok(file.into()),
            Err(Errno::NOENT) => Err(Error::Missing(*digest)),
            Err(error) => Err(Error::host(format!("open blob {digest}"))(error.into())),
        }
    }

    /// All bytes of a small blob, checked again.
    pub fn read(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        let mut file = self.file(digest)?.take(limit.saturating_add(1));
        file.read_to_end(&mut bytes).map_err(Error::host(format!("read blob {digest}")))?;
        if bytes.len() as u64 > limit {
            return Err(Error::TooLarge { digest: *digest, limit });
        }
        match Digest::of(&bytes) {
            found if found == *digest => Ok(bytes),
            found => Err(Error::Mismatch { expected: *digest, found }),
        }
    }

    /// What is wrong with a stored blob: nothing, or why its bytes are not those of its digest. Reads all of it.
    pub fn fault(&self, digest: &Digest, record: &BlobRecord) -> Result<Option<String>, Error> {
        let mut file = match self.file(digest) {
            Err(Error::Missing(_)) => return Ok(Some("it is missing".to_owned())),
            other => other?,
        };
        let (mut hasher, mut piece, mut size) = (Hasher::new(), vec![0; 256 << 10], 0_u64);
        loop {
            match file.read(&mut piece) {
                Ok(0) => break,
                Ok(length) => {
                    hasher.update(&piece[..length]);
                    size += length as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if file::is_shortage(&error) => {
                    return Err(Error::host(format!("read blob {digest}"))(error));
                }
                // A disk that cannot read it any more has lost it.
                Err(error) => return Ok(Some(format!("it cannot be read: {error}"))),
            }
        }
        if size != record.size {
            return Ok(Some(format!("it has {size} bytes and should have {}", record.size)));
        }
        let found = hasher.finish();
        Ok((found != *digest).then(|| format!("its bytes are those of {found}")))
    }

    /// A new blob.
    pub fn writer(&self) -> Result<Writer, Error> {
        let fail = |error: io::Error| Error::host("make a blob")(error);
        loop {
            let (name, file) =
                file::temporary(self.shared.directory.as_fd(), Mode::from_raw_mode(0o600)).map_err(fail)?;
            // The sweeper leaves alone what is locked. Whoever looks for leftovers may have it for a moment.
            file::lock(file.as_fd()).map_err(fail)?;
            if fs::fstat(&file).map_err(|error| fail(error.into()))?.st_nlink == 0 {
                continue;
            }
            return Ok(Writer {
                blobs: self.clone(),
                name,
                file: Some(file.into()),
                hasher: Hasher::new(),
                size: 0,
                existing: 0,
                elsewhere: nowhere(),
                course: partial::Shared::default(),
                kept: false,
            });
        }
    }

    /// Writes a small blob.
    pub fn put(&self, bytes: &[u8]) -> Result<Sealed, Error> {
        let mut writer = self.writer()?;
        writer.write(bytes)?;
        writer.seal(None)
    }

    /// Writes everything stored to the disk. Blocks.
    pub fn sync(&self) -> Result<(), Error> {
        fs::syncfs(&self.shared.directory).map_err(|error| Error::host("sync the blobs")(error.into()))
    }

    /// Makes a blob part of the state and lets `by` hold it. What was sealed has been synced before; without it, the
    /// blob must be there, and is [`Missing`](Error::Missing) should somebody have removed it meanwhile.
    pub fn commit(
        &self,
        transaction: &mut Transaction<'_>,
        digest: &Digest,
        sealed: Option<Sealed>,
        record: &BlobRecord,
        by: (Table, &str),
    ) -> Result<(), Error> {
        let key = digest.to_string();
        let known = self.get(transaction, digest)?.is_some();
        match sealed.filter(|sealed| sealed.digest == *digest) {
            Some(_) if known => {}
            // What has this name without a record may be torn, and is replaced.
            Some(sealed) => sealed.publish()?,
            None if known => {}
            None => return Err(Error::Missing(*digest)),
        }
        transaction.put(Table::Blob, &key, record)?;
        Ok(transaction.hold((Table::Blob, &key), by)?)
    }

    /// The same for a blob whose bytes here are not to be believed: those that were sealed take their place.
    pub fn replace(
        &self,
        transaction: &mut Transaction<'_>,
        sealed: Sealed,
        record: &BlobRecord,
        by: (Table, &str),
    ) -> Result<(), Error> {
        let key = sealed.digest.to_string();
        sealed.publish()?;
        transaction.put(Table::Blob, &key, record)?;
        Ok(transaction.hold((Table::Blob, &key), by)?)
    }

    /// Removes and forgets the blob, if nothing holds it; the hold was released in an earlier transaction.
    pub fn retire(&self, transaction: &mut Transaction<'_>, digest: &Digest) -> Result<bool, Error> {
        let key = digest.to_string();
        if !transaction.holders((Table::Blob, &key))?.is_empty() {
            return Ok(false);
        }
        transaction.delete(Table::Blob, &key)?;
        match fs::unlinkat(&self.shared.directory, digest.hex(), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(true),
            Err(error) => Err(Error::host(format!("remove blob {digest}"))(error.into())),
        }
    }

    /// Removes every blob that nothing holds, and every file that no record speaks of.
    pub fn collect(&self, transaction: &mut Transaction<'_>) -> Result<(), Error> {
        let fail = || Error::host("look for blobs that nothing holds");
        let mut found: BTreeSet<Digest> =
            transaction.keys(Table::Blob)?.iter().filter_map(|key| key.parse().ok()).collect();
        for entry in std::fs::read_dir(&self.shared.path).map_err(fail())? {
            let name = entry.map_err(fail())?.file_name();
            found.extend(name.to_str().and_then(|name| Digest::from_hex(name).ok()));
        }
        for digest in found {
            self.retire(transaction, &digest)?;
        }
        Ok(())
    }

    /// Counts what crashed programs left and what no record speaks of.
    pub fn leftovers(&self, transaction: &Transaction<'_>) -> Result<usize, Error> {
        let fail = || Error::host("look for leftovers of blobs");
        let mut count = 0;
        for entry in std::fs::read_dir(&self.shared.path).map_err(fail())? {
            let name = entry.map_err(fail())?.file_name();
            let is_leftover = match name.to_str().map(Digest::from_hex) {
                Some(Ok(digest)) => !transaction.contains(Table::Blob, &digest.to_string())?,
                _ => name.as_bytes().starts_with(b".tmp-") && file::is_unlocked(self.shared.directory.as_fd(), &name),
            };
            count += usize::from(is_leftover);
        }
        Ok(count)
    }

    /// Removes what crashed programs left: files in the making that nobody has locked. What was fetched of a blob stays for a
    /// day, for a pull that goes on.
    pub fn sweep(&self) -> Result<(), Error> {
        self.sweep_after(PATIENCE)
    }

    /// The same, and no pull goes on where another one was.
    pub fn forget_partials(&self) -> Result<(), Error> {
        self.sweep_after(Duration::ZERO)
    }

    fn sweep_after(&self, patience: Duration) -> Result<(), Error> {
        let fail = || Error::host("look for leftovers of blobs");
        for entry in std::fs::read_dir(&self.shared.path).map_err(fail())? {
            let name = entry.map_err(fail())?.file_name();
            let begins = |with: &str| name.as_bytes().starts_with(with.as_bytes());
            let is_partial = begins(PARTIAL);
            if !is_partial && !begins(".tmp-") && !begins(lease::MARK) {
                continue;
            }
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let Ok(file) = fs::openat(&self.shared.directory, &name, flags, Mode::empty()) else { continue };
            let file = File::from(file);
            let changed = file.metadata().and_then(|found| found.modified()).ok();
            if is_partial && changed.is_some_and(|time| time.elapsed().is_ok_and(|age| age < patience)) {
                continue;
            }
            if file::lock_abandoned(file.as_fd()) {
                let _ = fs::unlinkat(&self.shared.directory, &name, AtFlags::empty());
            }
        }
        Ok(())
    }
}

impl Writer {
    /// Adds bytes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let Some(file) = &self.file else { return Ok(()) };
        self.hasher.update(bytes);
        let (begin, end) = (self.size, self.size + bytes.len() as u64);
        self.size = end;
        // What is there already, or written by somebody else, is only looked at.
        let from = self.existing.clamp(begin, end);
        let to = self.elsewhere.load(Ordering::Acquire).clamp(from, end);
        let place = |at: u64| usize::try_from(at - begin).unwrap_or(usize::MAX).min(bytes.len());
        file.write_all_at(&bytes[place(from)..place(to)], from).map_err(Error::host("write a blob"))
    }

    /// Whoever gave the bytes has gone: what came stays for another attempt.
    pub fn keep(&mut self) {
        self.kept = self.name.starts_with(PARTIAL);
    }

    /// Bytes written so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Ends the blob, if its bytes are the expected ones.
    pub fn seal(mut self, expected: Option<&Digest>) -> Result<Sealed, Error> {
        if let Some(file) = &self.file {
            // What was fetched before may be longer, and what was fetched out of order has a map behind it.
            let fail = |error: io::Error| Error::host("shorten a blob")(error);
            if file.metadata().map_err(fail)?.len() > self.size {
                file.set_len(self.size).map_err(fail)?;
            }
        }
        let digest = std::mem::take(&mut self.hasher).finish();
        match expected {
            Some(expected) if *expected != digest => Err(Error::Mismatch { expected: *expected, found: digest }),
            _ => Ok(Sealed { digest, writer: self }),
        }
    }
}

impl Sealed {
    /// What the bytes are.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// How many they are.
    pub fn size(&self) -> u64 {
        self.writer.size
    }

    fn publish(mut self) -> Result<(), Error> {
        let directory = &self.writer.blobs.shared.directory;
        let fail = |error: Errno| Error::host(format!("store blob {}", self.digest))(error.into());
        fs::renameat(directory, &*self.writer.name, directory, self.digest.hex()).map_err(fail)?;
        self.writer.file = None;
        fs::fsync(&self.writer.blobs.shared.directory).map_err(fail)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        partial::end(&self.course);
        if self.file.is_some() && !self.kept {
            let _ = fs::unlinkat(&self.blobs.shared.directory, &*self.name, AtFlags::empty());
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::state::{Durability, State};

    fn files(root: &Path) -> usize {
        std::fs::read_dir(root.join("blobs/sha256")).unwrap().count()
    }

    fn commit(state: &State, blobs: &Blobs, sealed: Option<Sealed>, digest: &Digest, by: &str) -> Result<(), Error> {
        let record = BlobRecord { size: 1, ..BlobRecord::default() };
        state.write(Durability::Process, |tx| blobs.commit(tx, digest, sealed, &record, (Table::Image, by)))
    }

    #[test]
    fn only_checked_bytes_become_visible() {
        let root = tempfile::tempdir().unwrap();
        let state = State::open(root.path()).unwrap();
        let blobs = Blobs::open(root.path()).unwrap();
        let mut writer = blobs.writer().unwrap();
        writer.write(b"hel").unwrap();
        writer.write(b"lo").unwrap();
        let digest = Digest::of(b"hello");
        let sealed = writer.seal(Some(&digest)).unwrap();
        assert_eq!((sealed.size(), sealed.digest()), (5, digest));
        assert!(matches!(blobs.read(&digest, 5), Err(Error::Missing(_))));
        // A torn file that a crash left under the name.
        std::fs::write(blobs.path(&digest), "hel").unwrap();
        commit(&state, &blobs, Some(sealed), &digest, "i").unwrap();
        assert_eq!(blobs.read(&digest, 5).unwrap(), b"hello");
        assert!(matches!(blobs.read(&digest, 4), Err(Error::TooLarge { .. })));
        let mut writer = blobs.writer().unwrap();
        writer.write(b"other").unwrap();
        assert!(matches!(writer.seal(Some(&digest)), Err(Error::Mismatch { .. })));
        drop(blobs.writer().unwrap());
        drop(blobs.put(b"never committed").unwrap());
        commit(&state, &blobs, Some(blobs.put(b"hello").unwrap()), &digest, "i").unwrap();
        assert_eq!(files(root.path()), 1);
        std::fs::write(blobs.path(&digest), "hallo").unwrap();
        assert!(matches!(blobs.read(&digest, 5), Err(Error::Mismatch { .. })));
    }

    #[test]
    fn a_blob_lives_as_long_as_something_holds_it() {
        let root = tempfile::tempdir().unwrap();
        let state = State::open(root.path()).unwrap();
        let blobs = Blobs::open(root.path()).unwrap();
        let sealed = blobs.put(b"x").unwrap();
        let digest = sealed.digest();
        let get = || state.read(|snapshot| blobs.get(snapshot, &digest)).unwrap();
        assert_eq!(get(), None);
        commit(&state, &blobs, Some(sealed), &digest, "i").unwrap();
        assert_eq!(get().unwrap().size, 1);
        let retire = || state.write(Durability::Process, |tx| blobs.retire(tx, &digest)).unwrap();
        assert!(!retire());
        state.write::<_, Error>(Durability::Process, |tx| Ok(tx.release_all((Table::Image, "i"))?)).unwrap();
        assert!(retire());
        assert_eq!((get(), files(root.path())), (None, 0));
        assert!(matches!(commit(&state, &blobs, None, &digest, "i"), Err(Error::Missing(_))));
    }

    #[test]
    fn a_blob_is_fetched_by_one_and_gone_on_with_by_the_next() {
        let root = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(root.path()).unwrap();
        let digest = Digest::of(b"hello world");
        let mut first = blobs.claim(&digest, 11).unwrap().unwrap();
        assert!(blobs.claim(&digest, 11).unwrap().is_none());
        assert!(first.existing().unwrap().is_none());
        first.write(b"hello ").unwrap();
        first.keep();
        drop(first);
        blobs.sweep().unwrap();
        let mut second = blobs.claim(&digest, 11).unwrap().unwrap();
        let (length, mut file) = second.existing().unwrap().unwrap();
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        assert_eq!((length, bytes.as_slice()), (6, &b"hello "[..]));
        second.write(b"hel").unwrap();
        second.write(b"lo wor").unwrap();
        second.write(b"ld").unwrap();
        second.seal(Some(&digest)).unwrap().publish().unwrap();
        assert_eq!(blobs.read(&digest, 11).unwrap(), b"hello world");
        // What is longer than it can be, and what nobody wants to go on with.
        let other = Digest::of(b"x");
        std::fs::write(root.path().join(format!("blobs/sha256/.part-{}", other.hex())), "xyz").unwrap();
        assert!(blobs.claim(&other, 1).unwrap().unwrap().existing().unwrap().is_none());
        assert_eq!(files(root.path()), 1);
        let old = root.path().join(format!("blobs/sha256/.part-{}", other.hex()));
        std::fs::write(&old, "x").unwrap();
        File::open(&old).unwrap().set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        blobs.sweep().unwrap();
        assert_eq!(files(root.path()), 1);
    }

    #[test]
    fn who_looks_for_leftovers_disturbs_nobody() {
        let root = tempfile::tempdir().unwrap();
        let (blobs, state) = (Blobs::open(root.path()).unwrap(), State::open(root.path()).unwrap());
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            for sweeps in [true, false] {
                let (blobs, state, done) = (&blobs, &state, &done);
                scope.spawn(move || {
                    while !done.load(std::sync::atomic::Ordering::Relaxed) {
                        if sweeps {
                            blobs.sweep().unwrap();
                        } else {
                            state.write(Durability::Process, |tx| blobs.leftovers(tx)).unwrap();
                        }
                    }
                });
            }
            for _ in 0..300 {
                let name = blobs.writer().unwrap().name.clone();
                assert!(!root.path().join("blobs/sha256").join(name).exists());
                let writer = blobs.writer().unwrap();
                assert!(root.path().join("blobs/sha256").join(&writer.name).exists());
            }
            done.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        assert_eq!(files(root.path()), 0);
    }

    #[test]
    fn leftovers_are_swept_and_work_in_progress_is_not() {
        let root = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(root.path()).unwrap();
        let mut writer = blobs.writer().unwrap();
        std::fs::write(root.path().join("blobs/sha256/.tmp-dead"), "x").unwrap();
        blobs.sweep().unwrap();
        assert_eq!(files(root.path()), 1);
        writer.write(b"y").unwrap();
        drop(writer);
        assert_eq!(files(root.path()), 0);
    }
}
