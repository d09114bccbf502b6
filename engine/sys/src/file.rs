//! Files with everything a layer can hold (attributes, owners, times), and writes that are whole or absent.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{self, AtFlags, Gid, Mode, OFlags, RenameFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

/// Gives a symbolic link, device or fifo an extended attribute; the name is not followed.
pub fn set_attribute_at(parent: BorrowedFd<'_>, name: &OsStr, attribute: &OsStr, value: &[u8]) -> io::Result<()> {
    // There is no call for an entry of a directory before Linux 6.13; our own descriptor is as good a handle.
    let mut path = format!("/proc/self/fd/{}/", parent.as_raw_fd()).into_bytes();
    path.extend_from_slice(name.as_bytes());
    Ok(fs::lsetxattr(path, attribute, value, XattrFlags::empty())?)
}

/// Gives an open file or directory an extended attribute.
pub fn set_attribute(file: BorrowedFd<'_>, attribute: &OsStr, value: &[u8]) -> io::Result<()> {
    Ok(fs::fsetxattr(file, attribute, value, XattrFlags::empty())?)
}

/// An extended attribute of an open file or directory, `None` when it has no such one. `E2BIG` or `ERANGE` when it
/// has more than 64 KiB.
pub fn attribute(file: BorrowedFd<'_>, attribute: &OsStr) -> io::Result<Option<Vec<u8>>> {
    let mut value = vec![0; 64 << 10];
    match fs::fgetxattr(file, attribute, &mut value) {
        Ok(length) => {
            value.truncate(length);
            Ok(Some(value))
        }
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Changes the owner of an entry, not following it.
pub fn set_owner_at(parent: BorrowedFd<'_>, name: &OsStr, user: u32, group: u32) -> io::Result<()> {
    let (user, group) = (Uid::from_raw(user), Gid::from_raw(group));
    Ok(fs::chownat(parent, name, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Both times of a file, from seconds and nanoseconds since 1970.
pub fn times(seconds: i64, nanoseconds: u32) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds.min(999_999_999).into() };
    Timestamps { last_access: time, last_modification: time }
}

/// Sets the times of an entry, not following it.
pub fn set_times_at(parent: BorrowedFd<'_>, name: &OsStr, times: &Timestamps) -> io::Result<()> {
    Ok(fs::utimensat(parent, name, times, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Whether a replaced file is safe against power loss when the call returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// It survives the death of any process.
    No,
    /// File and directory have been synced.
    Yes,
}

/// Writes `name` in `directory` with these bytes and exactly this mode: readers see the old file or the new one.
pub fn replace(directory: BorrowedFd<'_>, name: &OsStr, bytes: &[u8], mode: Mode, sync: Sync) -> io::Result<()> {
    let (temporary, file) = temporary(directory, mode)?;
    let written = (|| {
        write_all(file.as_fd(), bytes)?;
        fs::fchmod(&file, mode)?;
        if sync == Sync::Yes {
            fs::fdatasync(&file)?;
        }
        fs::renameat(directory, &*temporary, directory, name)?;
        if sync == Sync::Yes {
            fs::fsync(directory)?;
        }
        Ok(())
    })();
    if written.is_err() {
        let _ = fs::unlinkat(directory, &*temporary, AtFlags::empty());
    }
    written
}

/// Makes `name` in `directory` with these bytes unless it is there: whether it was made.
pub fn create(directory: BorrowedFd<'_>, name: &OsStr, bytes: &[u8], mode: Mode) -> io::Result<bool> {
    let (temporary, file) = temporary(directory, mode)?;
    let written = (|| {
        write_all(file.as_fd(), bytes)?;
        fs::fchmod(&file, mode)?;
        match fs::renameat_with(directory, &*temporary, directory, name, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => {
                fs::unlinkat(directory, &*temporary, AtFlags::empty())?;
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    })();
    if written.is_err() {
        let _ = fs::unlinkat(directory, &*temporary, AtFlags::empty());
    }
    written
}

/// A new file of a name that begins with `.tmp-` and that nobody else has.
pub fn temporary(directory: BorrowedFd<'_>, mode: Mode) -> io::Result<(String, OwnedFd)> {
    loop {
        let name = format!(".tmp-{:016x}", random()?);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match fs::openat(directory, &*name, flags, mode) {
            Ok(file) => return Ok((name, file)),
            Err(Errno::EXIST | Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Whether nobody has locked what `name` is beneath `directory`: whoever made it has gone.
pub fn is_unlocked(directory: BorrowedFd<'_>, name: &OsStr) -> bool {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let Ok(file) = fs::openat(directory, name, flags, Mode::empty()) else { return false };
    fs::flock(&file, fs::FlockOperation::NonBlockingLockShared).is_ok()
}

/// Locks a file for this descriptor alone if whoever made it has gone; whether that is so. Who only looks by [`is_unlocked`] has it
/// for a moment, and is waited for.
pub fn lock_abandoned(file: BorrowedFd<'_>) -> bool {
    (0..5).any(|attempt| {
        if attempt > 0 {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        fs::flock(file, fs::FlockOperation::NonBlockingLockExclusive).is_ok()
    })
}

/// Locks a file for this descriptor alone, and waits for others to let go of it.
pub fn lock(file: BorrowedFd<'_>) -> io::Result<()> {
    loop {
        match fs::flock(file, fs::FlockOperation::LockExclusive) {
            Err(Errno::INTR) => {}
            locked => return Ok(locked?),
        }
    }
}

/// Whether an error says that the host is short of something just now, and nothing about the file.
pub fn is_shortage(error: &io::Error) -> bool {
    let short = [
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOMEM,
        Errno::NOBUFS,
        Errno::AGAIN,
        Errno::INTR,
        Errno::NOSPC,
        Errno::DQUOT,
        Errno::ROFS,
        Errno::ACCESS,
        Errno::PERM,
    ];
    Errno::from_io_error(error).is_some_and(|error| short.contains(&error))
}

/// A random number from the kernel.
pub fn random() -> io::Result<u64> {
    let mut bytes = [0; 8];
    let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    if filled != bytes.len() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(u64::from_ne_bytes(bytes))
}

/// Writes all of `bytes` to a descriptor.
pub fn write_all(file: BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(file, bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Gives this thread a umask of its own, 0, so that files get the mode they are made with in one call. For threads
/// that end with their task: the working directory is the thread's own from here on, too.
pub fn private_umask() -> io::Result<()> {
    // SAFETY: only CLONE_FS is unshared, which parts no memory and no descriptors; the standard library keeps no
    // assumption about the file system attributes of a thread.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::FS)? };
    rustix::process::umask(Mode::empty());
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::path::Root;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    #[test]
    fn replacing_is_whole_and_leaves_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::open(directory.path()).unwrap();
        for (text, sync) in [("one", Sync::No), ("two", Sync::Yes)] {
            replace(root.as_fd(), OsStr::new("x"), text.as_bytes(), Mode::from(0o646), sync).unwrap();
            let path = directory.path().join("x");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o7777, 0o646);
        }
        assert!(!create(root.as_fd(), OsStr::new("x"), b"three", Mode::from(0o600)).unwrap());
        assert!(create(root.as_fd(), OsStr::new("y"), b"three", Mode::from(0o600)).unwrap());
        std::fs::create_dir(directory.path().join("dir")).unwrap();
        replace(root.as_fd(), OsStr::new("dir"), b"", Mode::from(0o600), Sync::No).unwrap_err();
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 3);
    }

    #[test]
    fn attributes_owners_and_times_are_those_of_the_link_itself() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::open(directory.path()).unwrap();
        let (target, link) = (directory.path().join("target"), directory.path().join("link"));
        std::fs::write(&target, "").unwrap();
        symlink("target", &link).unwrap();
        let before = target.metadata().unwrap();
        set_times_at(root.as_fd(), OsStr::new("link"), &times(-5, 7)).unwrap();
        set_owner_at(root.as_fd(), OsStr::new("link"), 12, 34).unwrap();
        let of_link = link.symlink_metadata().unwrap();
        assert_eq!((of_link.mtime(), of_link.mtime_nsec(), of_link.uid(), of_link.gid()), (-5, 7, 12, 34));
        let after = target.metadata().unwrap();
        assert_eq!((before.mtime(), before.uid()), (after.mtime(), after.uid()));
        let file = std::fs::File::open(&target).unwrap();
        let name = OsStr::new("trusted.x");
        if set_attribute_at(root.as_fd(), OsStr::new("link"), name, b"1").is_ok() {
            assert_eq!(attribute(file.as_fd(), name).unwrap(), None);
            set_attribute(file.as_fd(), name, b"2").unwrap();
            assert_eq!(attribute(file.as_fd(), name).unwrap().as_deref(), Some(b"2".as_slice()));
        }
    }

    #[test]
    fn what_somebody_makes_is_not_abandoned() {
        let directory = tempfile::tempdir().unwrap();
        let open = || std::fs::File::create(directory.path().join("x")).unwrap();
        let (maker, other) = (open(), open());
        lock(maker.as_fd()).unwrap();
        assert!(!lock_abandoned(other.as_fd()));
        assert!(!is_unlocked(Root::open(directory.path()).unwrap().as_fd(), OsStr::new("x")));
        drop(maker);
        assert!(is_unlocked(Root::open(directory.path()).unwrap().as_fd(), OsStr::new("x")));
        assert!(lock_abandoned(other.as_fd()));
    }

    #[test]
    fn a_private_umask_is_private() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x");
        let made = path.clone();
        std::thread::spawn(move || {
            private_umask().unwrap();
            fs::open(&made, OFlags::CREATE | OFlags::WRONLY, Mode::from(0o666)).unwrap();
        })
        .join()
        .unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o666);
    }
}
