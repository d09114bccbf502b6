//! Marks of work that holds blobs and layers for something that is not there yet, for as long as who works is alive: who
//! looks for what crashed programs left, in whatever program, finds them locked.

use std::fs::File;
use std::os::fd::AsFd;

use rustix::fs::{self, AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::{Blobs, Error};

/// What their names begin with.
pub(super) const MARK: &str = ".hold-";

/// Such a mark; several may work for the same thing. Gone when dropped.
#[derive(Debug)]
pub struct Lease {
    blobs: Blobs,
    name: String,
    file: File,
}

impl Blobs {
    /// Marks that somebody works for `what`, the digits of an id. Waits for a moment, at most.
    pub fn lease(&self, what: &str) -> Result<Lease, Error> {
        let fail = |error: Errno| Error::host(format!("mark what is held for {what}"))(error.into());
        let name = format!("{MARK}{what}");
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        loop {
            let file = fs::openat(&self.shared.directory, &*name, flags, Mode::from_raw_mode(0o600)).map_err(fail)?;
            match fs::flock(&file, FlockOperation::LockShared) {
                Err(Errno::INTR) => continue,
                locked => locked.map_err(fail)?,
            }
            // Who ended the one before took the file with it.
            if fs::fstat(&file).map_err(fail)?.st_nlink > 0 {
                return Ok(Lease { blobs: self.clone(), name, file: file.into() });
            }
        }
    }

    /// Whether somebody who is alive works for `what`.
    pub fn is_leased(&self, what: &str) -> bool {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match fs::openat(&self.shared.directory, format!("{MARK}{what}"), flags, Mode::empty()) {
            Ok(file) => fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err(),
            Err(error) => error != Errno::NOENT,
        }
    }
}

impl Lease {
    /// Whether nobody else works for it. Who is told so is alone until the lease is dropped; to who is not, the lease is
    /// of no use any more, since the last one is to find itself alone.
    pub fn is_last(&self) -> bool {
        fs::flock(self.file.as_fd(), FlockOperation::NonBlockingLockExclusive).is_ok()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.is_last() {
            let _ = fs::unlinkat(&self.blobs.shared.directory, &*self.name, AtFlags::empty());
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_last_one_who_works_for_something_takes_its_mark_away() {
        let root = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(root.path()).unwrap();
        let files = || std::fs::read_dir(root.path().join("blobs/sha256")).unwrap().count();
        let (one, other) = (blobs.lease("abc").unwrap(), blobs.lease("abc").unwrap());
        assert!(blobs.is_leased("abc") && !blobs.is_leased("abd"));
        blobs.sweep().unwrap();
        assert_eq!(files(), 1);
        assert!(!one.is_last());
        assert!(other.is_last());
        drop(one);
        assert!(blobs.is_leased("abc"));
        drop(other);
        assert_eq!((blobs.is_leased("abc"), files()), (false, 0));
        // Who was killed leaves a file that nobody has locked.
        std::fs::write(root.path().join("blobs/sha256/.hold-abc"), "").unwrap();
        assert!(!blobs.is_leased("abc"));
        blobs.sweep().unwrap();
        assert_eq!(files(), 0);
    }
}
