//! A directory tree copied entry by entry, each opened relative to its directory and none through a link.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, RenameFlags, Stat, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::super::{Error, Name};

/// Deeper trees are refused: each level holds two descriptors.
const DEEPEST: usize = 128;
/// The kernel's own bounds for the list of a file's attributes and for one value.
const LARGEST_XATTR: usize = 64 << 10;
/// Files with several names are kept open until the copy is done, this many at most; beyond, names become files of
/// their own.
const MOST_LINKED: usize = 256;

/// One directory being copied.
struct Level {
    source: OwnedFd,
    target: OwnedFd,
    entries: Dir,
    name: CString,
    stat: Stat,
}

/// Copies what is in `source` into the empty `target` and gives that the owner, mode and times of `source`. Returns
/// how many entries were copied.
pub(super) fn tree(name: &Name, source: OwnedFd, target: &OwnedFd) -> Result<u64, Error> {
    let mut path: Vec<CString> = Vec::new();
    let failed = |path: &[CString], last: Option<&CStr>, errno: io::Error| {
        let parts: Vec<_> = path.iter().map(CString::as_c_str).chain(last).map(CStr::to_string_lossy).collect();
        Error::Copy { name: name.clone(), path: parts.join("/"), source: errno }
    };
    let mut copied = 0;
    let mut linked: HashMap<(u64, u64), OwnedFd> = HashMap::new();
    let first = target.try_clone().and_then(|target| level(source, target, CString::default()));
    let mut levels = vec![first.map_err(|error| failed(&[], None, error))?];
    while let Some(top) = levels.last_mut() {
        let entry = match top.entries.read() {
            Some(Ok(entry)) => entry,
            Some(Err(error)) => return Err(failed(&path, None, error.into())),
            None => {
                // Last, since filling a directory changes its times and a mode may forbid to fill it.
                finish(top.source.as_fd(), top.target.as_fd(), &top.stat).map_err(|e| failed(&path, None, e))?;
                levels.pop();
                path.pop();
                continue;
            }
        };
        let file = entry.file_name();
        if matches!(file.to_bytes(), b"." | b"..") {
            continue;
        }
        copied += 1;
        let below = one(top, file, &mut linked).map_err(|error| failed(&path, Some(file), error))?;
        if let Some(below) = below {
            path.push(below.name.clone());
            if levels.len() == DEEPEST {
                let parts: Vec<_> = path.iter().map(|part| part.to_string_lossy()).collect();
                return Err(Error::Depth { name: name.clone(), path: parts.join("/"), limit: DEEPEST });
            }
            levels.push(below);
        }
    }
    Ok(copied)
}

/// Removes everything beneath `directory`, however deep: who writes a volume decides that.
///
/// A subtree below [`DEEPEST`] is moved up to `directory` and removed in the next pass, so that the number of open
/// descriptors is bounded.
pub(super) fn clear(directory: BorrowedFd<'_>) -> io::Result<()> {
    while clear_once(directory)? {}
    Ok(())
}

/// One pass; answers whether something was moved up, so that another is needed.
fn clear_once(directory: BorrowedFd<'_>) -> io::Result<bool> {
    let mut moved = 0_u64;
    let mut levels = vec![(Dir::read_from(directory)?, CString::default())];
    loop {
        let depth = levels.len();
        let Some((entries, _)) = levels.last_mut() else { return Ok(moved > 0) };
        let Some(entry) = entries.read() else {
            let name = levels.pop().map(|(_, name)| name);
            if let (Some((parent, _)), Some(name)) = (levels.last(), name) {
                gone(rustix::fs::unlinkat(parent.fd()?, name, AtFlags::REMOVEDIR))?;
            }
            continue;
        };
        let entry = entry?;
        let file = entry.file_name();
        if matches!(file.to_bytes(), b"." | b"..") {
            continue;
        }
        let here = entries.fd()?;
        match rustix::fs::unlinkat(here, file, AtFlags::empty()) {
            Err(Errno::ISDIR) => {}
            other => {
                gone(other)?;
                continue;
            }
        }
        if depth < DEEPEST {
            let below = open_directory(here, file)?;
            levels.push((Dir::new(below)?, file.to_owned()));
        } else {
            loop {
                moved += 1;
                match rustix::fs::renameat_with(here, file, directory, format!("{moved}"), RenameFlags::NOREPLACE) {
                    Err(Errno::EXIST) => {}
                    other => break gone(other)?,
                }
            }
        }
    }
}

/// What somebody else removed first is gone too.
fn gone(result: rustix::io::Result<()>) -> rustix::io::Result<()> {
    if result == Err(Errno::NOENT) { Ok(()) } else { result }
}

fn level(source: OwnedFd, target: OwnedFd, name: CString) -> io::Result<Level> {
    let stat = rustix::fs::fstat(&source)?;
    let entries = Dir::read_from(&source)?;
    Ok(Level { source, target, entries, name, stat })
}

fn open_directory(parent: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

/// Copies one entry; a directory is made and returned, to be gone through next.
fn one(within: &Level, name: &CStr, linked: &mut HashMap<(u64, u64), OwnedFd>) -> io::Result<Option<Level>> {
    let (source, target) = (within.source.as_fd(), within.target.as_fd());
    let stat = rustix::fs::statat(source, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    let identity = (stat.st_dev, stat.st_ino);
    if kind != FileType::Directory
        && stat.st_nlink > 1
        && let Some(first) = linked.get(&identity)
    {
        rustix::fs::linkat(first, c"", target, name, AtFlags::EMPTY_PATH)?;
        return Ok(None);
    }
    match kind {
        FileType::Directory => {
            rustix::fs::mkdirat(target, name, Mode::RWXU)?;
            let (source, target) = (open_directory(source, name)?, open_directory(target, name)?);
            return level(source, target, name.to_owned()).map(Some);
        }
        FileType::RegularFile => {
            let from = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let mut from = File::from(rustix::fs::openat(source, name, from, Mode::empty())?);
            let to = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let mut to = File::from(rustix::fs::openat(target, name, to, Mode::RUSR | Mode::WUSR)?);
            io::copy(&mut from, &mut to)?;
            finish(from.as_fd(), to.as_fd(), &stat)?;
        }
        FileType::Symlink => {
            let text = rustix::fs::readlinkat(source, name, Vec::new())?;
            rustix::fs::symlinkat(text, target, name)?;
            own_by_name(target, name, &stat)?;
        }
        FileType::Fifo | FileType::Socket | FileType::CharacterDevice | FileType::BlockDevice => {
            rustix::fs::mknodat(target, name, kind, Mode::empty(), stat.st_rdev)?;
            own_by_name(target, name, &stat)?;
        }
        FileType::Unknown => return Err(io::Error::other("a kind of file that this system does not know")),
    }
    if stat.st_nlink > 1 && linked.len() < MOST_LINKED {
        let path = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        linked.insert(identity, rustix::fs::openat(target, name, path, Mode::empty())?);
    }
    Ok(None)
}

/// Owner, mode and time of what is not opened. A link has no mode of its own.
fn own_by_name(target: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> io::Result<()> {
    let (user, group) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    rustix::fs::chownat(target, name, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
        // Through a descriptor of the node itself, so that a name exchanged for a link in between is not followed.
        let node = rustix::fs::openat(target, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        rustix::fs::chmod(by_descriptor(&node), Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    }
    rustix::fs::utimensat(target, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(())
}

fn by_descriptor(node: &OwnedFd) -> String {
    use std::os::fd::AsRawFd;
    format!("/proc/self/fd/{}", node.as_raw_fd())
}

/// Owner, mode, attributes and times, in the order in which one does not undo another.
fn finish(source: BorrowedFd<'_>, target: BorrowedFd<'_>, stat: &Stat) -> io::Result<()> {
    rustix::fs::fchown(target, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    rustix::fs::fchmod(target, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    attributes(source, target)?;
    rustix::fs::futimens(target, &times(stat))?;
    Ok(())
}

fn times(stat: &Stat) -> Timestamps {
    let accessed = Timespec { tv_sec: stat.st_atime, tv_nsec: i64::try_from(stat.st_atime_nsec).unwrap_or(0) };
    let modified = Timespec { tv_sec: stat.st_mtime, tv_nsec: i64::try_from(stat.st_mtime_nsec).unwrap_or(0) };
    Timestamps { last_access: accessed, last_modification: modified }
}

fn attributes(source: BorrowedFd<'_>, target: BorrowedFd<'_>) -> io::Result<()> {
    let mut names = Vec::with_capacity(LARGEST_XATTR);
    match rustix::fs::flistxattr(source, rustix::buffer::spare_capacity(&mut names)) {
        Ok(_) => {}
        Err(Errno::NOTSUP) => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        if name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.") {
            continue;
        }
        let mut value = Vec::with_capacity(LARGEST_XATTR);
        rustix::fs::fgetxattr(source, name, rustix::buffer::spare_capacity(&mut value))?;
        match rustix::fs::fsetxattr(target, name, &value, XattrFlags::empty()) {
            // A volume may lie on a file system that has fewer attributes than the image's.
            Ok(()) | Err(Errno::NOTSUP) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
