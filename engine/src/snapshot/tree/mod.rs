//! Trees of files that somebody may be changing while they are read or written: packed into archives, unpacked from them,
//! and compared with what lies below.

mod changes;
mod compare;
mod pack;
mod put;
#[cfg(test)]
mod tests;

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{self, FileType, Mode, OFlags, Stat};

pub(crate) use changes::changes;
pub use changes::{Change, ChangeKind};
pub(crate) use compare::difference;
pub(crate) use pack::{Packer, Top, pack_upper};
pub(crate) use put::{Manner, put};

/// Deeper directories are refused: who owns a tree decides how deep it is.
const DEEPEST: usize = 1024;

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

fn open_directory(parent: BorrowedFd<'_>, name: &OsStr) -> rustix::io::Result<OwnedFd> {
    fs::openat(parent, name, DIRECTORY, Mode::empty())
}

/// Opens a regular file for reading, and nothing that was put in its place: opening a device or a pipe does something.
fn open_file(parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<Option<(OwnedFd, Stat)>> {
    let handle = fs::openat(parent, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let found = fs::fstat(&handle)?;
    if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
        return Ok(None);
    }
    let path = format!("/proc/self/fd/{}", handle.as_raw_fd());
    let file = fs::open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?;
    Ok(Some((file, found)))
}

/// Whether a directory is on a file system that the kernel makes up: reading and writing there does things.
pub(crate) fn is_made_up(place: impl AsFd) -> bool {
    // proc, sysfs, cgroup and cgroup2, devpts, mqueue, debugfs, tracefs, securityfs, bpf, configfs, pstore, efivarfs,
    // selinuxfs, binfmt_misc, fusectl, autofs.
    const KINDS: [u64; 17] = [
        0x9fa0,
        0x6265_6572,
        0x0027_e0eb,
        0x6367_7270,
        0x1cd1,
        0x1980_0202,
        0x6462_6720,
        0x7472_6163,
        0x7363_6673,
        0xcafe_4a11,
        0x6265_6570,
        0x6165_676c,
        0xde5e_81e4,
        0xf97c_ff8c,
        0x4249_4e4d,
        0x6573_5543,
        0x0187,
    ];
    match fs::fstatfs(place) {
        Ok(found) => u64::try_from(found.f_type).is_ok_and(|kind| KINDS.contains(&(kind & 0xffff_ffff))),
        Err(_) => true,
    }
}
