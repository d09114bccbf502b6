//! Marks of work on something, for as long as who works is alive: a file that is locked, by whichever program. Who looks for what
//! crashed programs left finds their marks unlocked.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{self, AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

/// Such a mark; several may work on the same thing. Gone when dropped.
#[derive(Debug)]
pub struct Lease {
    directory: OwnedFd,
    name: OsString,
    file: OwnedFd,
}

impl Lease {
    /// Marks by the file `name` in `directory`. Waits for a moment, at most.
    ///
    /// # Errors
    /// What the kernel says of making and locking the file.
    pub fn take(directory: impl AsFd, name: impl Into<OsString>) -> io::Result<Self> {
        let name = name.into();
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        loop {
            let file = fs::openat(&directory, &*name, flags, Mode::from_raw_mode(0o600))?;
            match fs::flock(&file, FlockOperation::LockShared) {
                Err(Errno::INTR) => continue,
                locked => locked?,
            }
            // Who ended the one before took the file with it.
            if fs::fstat(&file)?.st_nlink > 0 {
                return Ok(Self { directory: directory.as_fd().try_clone_to_owned()?, name, file });
            }
        }
    }

    /// Whether somebody who is alive has marked by this file.
    pub fn is_taken(directory: impl AsFd, name: impl AsRef<OsStr>) -> bool {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match fs::openat(directory, name.as_ref(), flags, Mode::empty()) {
            Ok(file) => fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err(),
            Err(error) => error != Errno::NOENT,
        }
    }

    /// Whether nobody else works on it. Who is told so is alone until the lease is dropped; to who is not, the lease is of no
    /// use any more, since the last one is to find itself alone.
    pub fn is_last(&self) -> bool {
        fs::flock(&self.file, FlockOperation::NonBlockingLockExclusive).is_ok()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.is_last() {
            let _ = fs::unlinkat(&self.directory, &*self.name, AtFlags::empty());
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_last_one_who_works_on_something_takes_its_mark_away() {
        let room = tempfile::tempdir().unwrap();
        let directory = std::fs::File::open(room.path()).unwrap();
        let mark = room.path().join("mark");
        assert!(!Lease::is_taken(&directory, "mark"));
        let (one, other) = (Lease::take(&directory, "mark").unwrap(), Lease::take(&directory, "mark").unwrap());
        assert!(Lease::is_taken(&directory, "mark") && !Lease::is_taken(&directory, "more"));
        drop(one);
        assert!(Lease::is_taken(&directory, "mark") && other.is_last());
        drop(other);
        assert!(!Lease::is_taken(&directory, "mark") && !mark.exists());
        // Who was killed leaves a file that nobody has locked.
        std::fs::write(&mark, "").unwrap();
        assert!(!Lease::is_taken(&directory, "mark"));
        drop(Lease::take(&directory, "mark").unwrap());
        assert!(!mark.exists());
        assert!(Lease::take(&directory, "no/such").is_err());
    }
}
