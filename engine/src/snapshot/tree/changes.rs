//! What a container has changed: its upper directory compared with what lies below.

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use engine_sys::file;
use rustix::fs::{self, AtFlags, Dir, FileType, Stat};
use rustix::io::Errno;

use super::super::Error;
use super::super::tar::show;
use super::{DEEPEST, open_directory};

/// More changes than anybody looks at.
const MOST: usize = 10_000_000;

/// One path that is not as the image has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Absolute path in the container; bytes that are no text are replaced.
    pub path: String,
    /// What happened to it.
    pub kind: ChangeKind,
}

/// What happened to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// It is another one now, or what is in it has changed.
    Modified,
    /// It is new.
    Added,
    /// It is gone.
    Deleted,
}

/// Compares `upper` with `lower`, the image's layers as one. What `is_stub` names is not looked at as long as it is empty:
/// the engine made it to mount something there.
pub(crate) fn changes(
    upper: OwnedFd,
    lower: Option<OwnedFd>,
    is_stub: &dyn Fn(&[u8]) -> bool,
) -> Result<Vec<Change>, Error> {
    let mut walk = Walk { is_stub, found: Vec::new() };
    let mut path = Vec::new();
    walk.directory(upper, lower, &mut path, 0)?;
    Ok(walk.found)
}

struct Walk<'a> {
    is_stub: &'a dyn Fn(&[u8]) -> bool,
    found: Vec<Change>,
}

/// What a directory's walk has met.
#[derive(Default)]
struct Met {
    stubs: bool,
}

impl Walk<'_> {
    fn directory(
        &mut self,
        upper: OwnedFd,
        lower: Option<OwnedFd>,
        path: &mut Vec<u8>,
        depth: usize,
    ) -> Result<Met, Error> {
        if depth > DEEPEST {
            return Err(Error::Limit(format!("directories within {DEEPEST} others")));
        }
        let mut met = Met::default();
        let length = path.len();
        let at = |path: &[u8]| {
            let what = format!("compare {:?}", show(path));
            move |source: io::Error| Error::Host { what, source }
        };
        let names = names(upper.as_fd()).map_err(at(path))?;
        let opaque = file::attribute(upper.as_fd(), OsStr::new("trusted.overlay.opaque")).map_err(at(path))?;
        let hidden = opaque.as_deref() == Some(b"y");
        for name in &names {
            path.truncate(length);
            path.push(b'/');
            path.extend_from_slice(name.to_bytes());
            self.entry(upper.as_fd(), lower.as_ref().map(OwnedFd::as_fd), name, path, depth, &mut met).map_err(
                |error| match error {
                    Failed::Io(source) => at(path)(source),
                    Failed::Whole(error) => error,
                },
            )?;
        }
        if hidden && let Some(lower) = &lower {
            for name in self::names(lower.as_fd()).map_err(at(path))? {
                if names.binary_search(&name).is_err() {
                    path.truncate(length);
                    path.push(b'/');
                    path.extend_from_slice(name.to_bytes());
                    self.add(path, ChangeKind::Deleted)?;
                }
            }
        }
        path.truncate(length);
        Ok(met)
    }

    fn entry(
        &mut self,
        upper: BorrowedFd<'_>,
        lower: Option<BorrowedFd<'_>>,
        name: &CStr,
        path: &mut Vec<u8>,
        depth: usize,
        met: &mut Met,
    ) -> Result<(), Failed> {
        let Some(now) = stat(upper, name)? else { return Ok(()) };
        let before = lower.map(|lower| stat(lower, name)).transpose()?.flatten();
        let kind = FileType::from_raw_mode(now.st_mode);
        if kind == FileType::CharacterDevice && now.st_rdev == 0 {
            if before.is_some() {
                self.add(path, ChangeKind::Deleted)?;
            }
            return Ok(());
        }
        if before.is_none() && (self.is_stub)(path) && is_empty(upper, name, &now)? {
            met.stubs = true;
            return Ok(());
        }
        if kind != FileType::Directory {
            self.add(path, if before.is_some() { ChangeKind::Modified } else { ChangeKind::Added })?;
            return Ok(());
        }
        let as_name = OsStr::from_bytes(name.to_bytes());
        let directory = open_directory(upper, as_name).map_err(io::Error::from)?;
        let below = match (lower, &before) {
            (Some(lower), Some(before)) if FileType::from_raw_mode(before.st_mode) == FileType::Directory => {
                Some(open_directory(lower, as_name).map_err(io::Error::from)?)
            }
            _ => None,
        };
        let was_directory = below.is_some();
        // Its place is before what is in it, and whether it has one is known afterwards.
        let place = self.found.len();
        self.add(path, if before.is_some() { ChangeKind::Modified } else { ChangeKind::Added })?;
        let within = self.directory(directory, below, path, depth + 1)?;
        if self.found.len() > place + 1 {
            return Ok(());
        }
        if before.is_none() && within.stubs {
            // It was made for what is mounted in it.
            self.found.truncate(place);
            met.stubs = true;
        } else if let Some(before) = before.filter(|_| was_directory) {
            let same = (before.st_mode, before.st_uid, before.st_gid) == (now.st_mode, now.st_uid, now.st_gid);
            let touched = (before.st_mtime, before.st_mtime_nsec) != (now.st_mtime, now.st_mtime_nsec);
            if same && (!touched || within.stubs) {
                self.found.truncate(place);
                met.stubs |= within.stubs;
            }
        }
        Ok(())
    }

    fn add(&mut self, path: &[u8], kind: ChangeKind) -> Result<(), Error> {
        if self.found.len() >= MOST {
            return Err(Error::Limit(format!("more than {MOST} changes")));
        }
        self.found.push(Change { path: String::from_utf8_lossy(path).into_owned(), kind });
        Ok(())
    }
}

enum Failed {
    Io(io::Error),
    Whole(Error),
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Whole(error)
    }
}

pub(super) fn stat(directory: BorrowedFd<'_>, name: &CStr) -> io::Result<Option<Stat>> {
    match fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        found => Ok(Some(found?)),
    }
}

fn is_empty(parent: BorrowedFd<'_>, name: &CStr, found: &Stat) -> io::Result<bool> {
    match FileType::from_raw_mode(found.st_mode) {
        FileType::RegularFile => Ok(found.st_size == 0),
        FileType::Directory => {
            let directory = open_directory(parent, OsStr::from_bytes(name.to_bytes()))?;
            Ok(names(directory.as_fd())?.is_empty())
        }
        _ => Ok(false),
    }
}

/// Names of a directory's entries in order.
pub(super) fn names(directory: BorrowedFd<'_>) -> io::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}
