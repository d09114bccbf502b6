//! Who owns a container: each engine holds a lock on a file of its own for as long as it lives, however it ends.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{FlockOperation, flock};

use super::Error;

/// One engine among those that share a run directory. Its lock is freed when this is dropped or the program ends.
#[derive(Debug)]
pub(crate) struct Instance {
    name: String,
    directory: PathBuf,
    lock: Mutex<Option<File>>,
}

impl Instance {
    /// Takes a place among the engines of this run directory.
    pub(crate) fn register(run: &Path) -> Result<Self, Error> {
        let directory = run.join("engines");
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)
            .map_err(|error| Error::io("make", &directory, error))?;
        let name = crate::id::ContainerId::random().short().to_owned();
        // Locked before it has its name, so that nobody ever finds it unlocked.
        let draft = directory.join(format!(".{name}"));
        let lock = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&draft)
            .map_err(|error| Error::io("make", &draft, error))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|error| Error::io("lock", &draft, error))?;
        std::fs::rename(&draft, directory.join(&name)).map_err(|error| Error::io("rename", &draft, error))?;
        Ok(Self { name, directory, lock: Mutex::new(Some(lock)) })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Whether an engine of this name lives. The file of one that does not is taken away.
    pub(super) fn lives(&self, name: &str) -> bool {
        if name == self.name {
            return true;
        }
        // A name out of a damaged record must not lead anywhere else.
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return false;
        }
        let path = self.directory.join(name);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) => return error.kind() != io::ErrorKind::NotFound,
        };
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return true;
        }
        // Names are never used again, so whoever comes next finds nothing.
        let _ = std::fs::remove_file(&path);
        false
    }

    /// Whether no other engine lives; while there are no others it costs one look at a directory.
    pub(super) fn is_alone(&self) -> bool {
        let Ok(entries) = std::fs::read_dir(&self.directory) else { return false };
        !entries.flatten().any(|entry| {
            let other = entry.file_name();
            let other = other.to_string_lossy();
            other != self.name && !other.starts_with('.') && self.lives(&other)
        })
    }

    /// Gives up the place: from now on this engine counts as gone.
    pub(super) fn resign(&self) {
        if let Some(lock) = self.lock.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = std::fs::remove_file(self.directory.join(&self.name));
            drop(lock);
        }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.resign();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_engine_lives_as_long_as_its_lock() {
        let run = tempfile::tempdir().unwrap();
        let one = Instance::register(run.path()).unwrap();
        assert!(one.is_alone() && one.lives(one.name()));
        let other = Instance::register(run.path()).unwrap();
        assert!(!one.is_alone() && one.lives(other.name()) && other.lives(one.name()));
        let name = other.name().to_owned();
        drop(other);
        assert!(one.is_alone() && !one.lives(&name));
    }

    #[test]
    fn what_a_killed_engine_left_is_taken_away() {
        let run = tempfile::tempdir().unwrap();
        let one = Instance::register(run.path()).unwrap();
        let left = run.path().join("engines/0123456789ab");
        std::fs::write(&left, "").unwrap();
        assert!(!one.lives("0123456789ab") && !left.exists());
        std::fs::write(&left, "").unwrap();
        assert!(one.is_alone() && !left.exists());
        assert!(!one.lives("../engines") && !one.lives(""));
    }
}
