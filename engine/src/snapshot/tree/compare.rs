//! Whether two trees are the same in everything that a layer may give its files.

use std::collections::HashMap;
use std::ffi::{CStr, OsStr};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use engine_sys::file;
use rustix::fs::{self, FileType, Stat};
use rustix::io::Errno;

use super::changes::{names, stat};
use super::{DEEPEST, open_directory, open_file};
use crate::snapshot::tar::show;

/// Names of attributes of one file, in bytes.
const LIST: usize = 64 << 10;
/// What is read of two files at once.
const PIECE: usize = 64 << 10;

/// The first path at which `one` is not as `other`, and how it differs. `other` was made after `made`, in seconds since
/// 1970: directories with a later time got none from anybody.
pub(crate) fn difference(one: OwnedFd, other: OwnedFd, made: i64) -> io::Result<Option<String>> {
    let (one_found, other_found) = (fs::fstat(&one)?, fs::fstat(&other)?);
    let mut walk = Walk { made, twins: HashMap::new(), pieces: [vec![0; PIECE], vec![0; PIECE]] };
    let found = match Walk::settings(&one_found, &other_found) {
        Some(what) => Some((Vec::new(), what)),
        None => match walk.directory(&one, &other, &[], 0)? {
            None if walk.is_later(&one_found, &other_found) => Some((Vec::new(), "has another time")),
            found => found,
        },
    };
    Ok(found.map(|(path, what)| format!("/{}: {what}", show(&path))))
}

/// A path and what is wrong with it.
type Difference = Option<(Vec<u8>, &'static str)>;

struct Walk {
    made: i64,
    /// Files with several names, by their inodes.
    twins: HashMap<u64, u64>,
    pieces: [Vec<u8>; 2],
}

impl Walk {
    fn directory(&mut self, one: &OwnedFd, other: &OwnedFd, path: &[u8], depth: usize) -> io::Result<Difference> {
        if depth > DEEPEST {
            return Err(Errno::NAMETOOLONG.into());
        }
        if attributes(one.as_fd())? != attributes(other.as_fd())? {
            return Ok(Some((path.to_vec(), "has other attributes")));
        }
        let (here, there) = (names(one.as_fd())?, names(other.as_fd())?);
        let within = |name: &CStr| {
            let name = name.to_bytes();
            if path.is_empty() { name.to_vec() } else { [path, b"/", name].concat() }
        };
        if let Some(missing) = there.iter().find(|name| here.binary_search(name).is_err()) {
            return Ok(Some((within(missing), "is missing")));
        }
        if let Some(strange) = here.iter().find(|name| there.binary_search(name).is_err()) {
            return Ok(Some((within(strange), "should not be there")));
        }
        for name in &here {
            let found = self.entry(one.as_fd(), other.as_fd(), name, within(name), depth)?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    fn entry(
        &mut self,
        one: BorrowedFd<'_>,
        other: BorrowedFd<'_>,
        name: &CStr,
        path: Vec<u8>,
        depth: usize,
    ) -> io::Result<Difference> {
        let gone = || io::Error::from(io::ErrorKind::NotFound);
        let (here, there) = (stat(one, name)?.ok_or_else(gone)?, stat(other, name)?.ok_or_else(gone)?);
        if let Some(what) = Self::settings(&here, &there) {
            return Ok(Some((path, what)));
        }
        let name = OsStr::from_bytes(name.to_bytes());
        let found = match FileType::from_raw_mode(here.st_mode) {
            FileType::Directory => {
                let (one, other) = (open_directory(one, name)?, open_directory(other, name)?);
                let found = self.directory(&one, &other, &path, depth + 1)?;
                if found.is_some() {
                    return Ok(found);
                }
                None
            }
            FileType::RegularFile => self.file(one, other, name, &here, &there)?,
            FileType::Symlink if fs::readlinkat(one, name, Vec::new())? != fs::readlinkat(other, name, Vec::new())? => {
                Some("leads elsewhere")
            }
            _ if attributes_at(one, name)? != attributes_at(other, name)? => Some("has other attributes"),
            _ => None,
        };
        let found = found.or_else(|| self.is_later(&here, &there).then_some("has another time"));
        Ok(found.map(|what| (path, what)))
    }

    fn file(
        &mut self,
        one: BorrowedFd<'_>,
        other: BorrowedFd<'_>,
        name: &OsStr,
        here: &Stat,
        there: &Stat,
    ) -> io::Result<Option<&'static str>> {
        if here.st_size != there.st_size {
            return Ok(Some("has another size"));
        }
        if here.st_nlink > 1 || there.st_nlink > 1 {
            let twin = *self.twins.entry(here.st_ino).or_insert(there.st_ino);
            if here.st_nlink != there.st_nlink || twin != there.st_ino {
                return Ok(Some("has other links"));
            }
        }
        let gone = || io::Error::from(io::ErrorKind::NotFound);
        let (one, _) = open_file(one, name)?.ok_or_else(gone)?;
        let (other, _) = open_file(other, name)?.ok_or_else(gone)?;
        if attributes(one.as_fd())? != attributes(other.as_fd())? {
            return Ok(Some("has other attributes"));
        }
        let (mut one, mut other) = (File::from(one), File::from(other));
        let [mine, theirs] = &mut self.pieces;
        loop {
            let length = fill(&mut one, mine)?;
            if length != fill(&mut other, theirs)? || mine[..length] != theirs[..length] {
                return Ok(Some("has other contents"));
            }
            if length == 0 {
                return Ok(None);
            }
        }
    }

    /// What is not the same of what `stat` tells.
    fn settings(one: &Stat, other: &Stat) -> Option<&'static str> {
        let kind = |found: &Stat| FileType::from_raw_mode(found.st_mode);
        if kind(one) != kind(other) {
            return Some("is something else");
        }
        if one.st_mode != other.st_mode {
            return Some("has another mode");
        }
        if (one.st_uid, one.st_gid) != (other.st_uid, other.st_gid) {
            return Some("has another owner");
        }
        (one.st_rdev != other.st_rdev).then_some("is another device")
    }

    /// Whether the times are not the same: often that is what also tells of another difference, so it is asked last.
    fn is_later(&self, one: &Stat, other: &Stat) -> bool {
        // The time of a whiteout is that of its making, and so is that of a directory that the archive does not speak of.
        let is_own = match FileType::from_raw_mode(one.st_mode) {
            FileType::CharacterDevice => one.st_rdev == 0,
            FileType::Directory => other.st_mtime >= self.made,
            _ => false,
        };
        let is_other = (one.st_mtime, one.st_mtime_nsec) != (other.st_mtime, other.st_mtime_nsec);
        is_other && !is_own
    }
}

/// Attributes by name: those that a layer gives, and how overlayfs is steered.
type Attributes = Vec<(Vec<u8>, Vec<u8>)>;

fn attributes(of: BorrowedFd<'_>) -> io::Result<Attributes> {
    let mut list = vec![0; LIST];
    let length = match fs::flistxattr(of, &mut list) {
        Err(Errno::NOTSUP) => 0,
        length => length?,
    };
    chosen(&list[..length], |name| file::attribute(of, name))
}

/// Of what cannot be opened without doing something.
fn attributes_at(parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<Attributes> {
    let path = [format!("/proc/self/fd/{}/", parent.as_raw_fd()).as_bytes(), name.as_bytes()].concat();
    let mut list = vec![0; LIST];
    let length = match fs::llistxattr(path.as_slice(), &mut list) {
        Err(Errno::NOTSUP) => 0,
        length => length?,
    };
    chosen(&list[..length], |name| {
        let mut value = vec![0; LIST];
        match fs::lgetxattr(path.as_slice(), name, &mut value) {
            Ok(length) => {
                value.truncate(length);
                Ok(Some(value))
            }
            Err(Errno::NODATA) => Ok(None),
            Err(error) => Err(error.into()),
        }
    })
}

fn chosen(list: &[u8], get: impl Fn(&OsStr) -> io::Result<Option<Vec<u8>>>) -> io::Result<Attributes> {
    let mut found = Vec::new();
    for name in list.split(|byte| *byte == 0) {
        let given = name == b"security.capability"
            || [&b"user."[..], b"trusted.", b"system.posix_acl_"].iter().any(|start| name.starts_with(start));
        if given && let Some(value) = get(OsStr::from_bytes(name))? {
            found.push((name.to_vec(), value));
        }
    }
    found.sort_unstable();
    Ok(found)
}

fn fill(file: &mut File, piece: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < piece.len() {
        match file.read(&mut piece[filled..]) {
            Ok(0) => break,
            Ok(length) => filled += length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::Path;

    use rustix::fs::AtFlags;

    use super::*;

    fn make(root: &Path) {
        std::fs::create_dir_all(root.join("d/e")).unwrap();
        std::fs::write(root.join("d/f"), "contents").unwrap();
        std::fs::write(root.join("large"), vec![7; 3 * PIECE + 5]).unwrap();
        std::fs::hard_link(root.join("d/f"), root.join("d/twin")).unwrap();
        std::fs::write(root.join("d/single"), "contents").unwrap();
        symlink("f", root.join("d/link")).unwrap();
        fs::mknodat(fs::CWD, root.join("gone"), FileType::CharacterDevice, fs::Mode::empty(), 0).unwrap();
        fs::mknodat(fs::CWD, root.join("pipe"), FileType::Fifo, fs::Mode::from_raw_mode(0o600), 0).unwrap();
        still(root);
    }

    /// Sets all times to one, so that only what is changed differs.
    fn still(root: &Path) {
        for name in ["d/f", "d/single", "large", "d/link", "pipe", "d/e", "d", "."] {
            let times = file::times(1_000_000_000, 5);
            fs::utimensat(fs::CWD, root.join(name), &times, AtFlags::SYMLINK_NOFOLLOW).ok();
        }
    }

    #[test]
    fn every_difference_is_found() {
        let open = |path: &Path| fs::open(path, super::super::DIRECTORY, fs::Mode::empty()).unwrap();
        let changed = |change: &dyn Fn(&Path)| {
            let room = tempfile::tempdir().unwrap();
            let roots = ["one", "other"].map(|name| room.path().join(name));
            roots.iter().for_each(|root| make(root));
            change(&roots[0]);
            still(&roots[0]);
            difference(open(&roots[0]), open(&roots[1]), i64::MAX).unwrap()
        };
        assert_eq!(changed(&|_| {}), None);
        let differs = |text: &str, change: &dyn Fn(&Path)| {
            let found = changed(change);
            assert!(found.as_ref().is_some_and(|found| found.contains(text)), "{text}: {found:?}");
        };
        differs("/large: has other contents", &|root| {
            let mut bytes = vec![7; 3 * PIECE + 5];
            bytes[3 * PIECE] = 8;
            std::fs::write(root.join("large"), bytes).unwrap();
        });
        differs("/d/single: has another size", &|root| std::fs::write(root.join("d/single"), "").unwrap());
        differs("/d/single: is missing", &|root| std::fs::remove_file(root.join("d/single")).unwrap());
        differs("/d/new: should not be there", &|root| std::fs::write(root.join("d/new"), "").unwrap());
        differs("/d/single: has another mode", &|root| {
            std::fs::set_permissions(root.join("d/single"), PermissionsExt::from_mode(0o4755)).unwrap();
        });
        differs("/d/e: has another owner", &|root| std::os::unix::fs::chown(root.join("d/e"), Some(7), None).unwrap());
        differs("/d/link: leads elsewhere", &|root| {
            std::fs::remove_file(root.join("d/link")).unwrap();
            symlink("g", root.join("d/link")).unwrap();
        });
        differs("has other links", &|root| {
            std::fs::remove_file(root.join("d/twin")).unwrap();
            std::fs::write(root.join("d/twin"), "contents").unwrap();
        });
        differs("/d/e: is something else", &|root| {
            std::fs::remove_dir(root.join("d/e")).unwrap();
            std::fs::write(root.join("d/e"), "").unwrap();
        });
        differs("/gone: is another device", &|root| {
            std::fs::remove_file(root.join("gone")).unwrap();
            let device = fs::makedev(1, 3);
            fs::mknodat(fs::CWD, root.join("gone"), FileType::CharacterDevice, fs::Mode::empty(), device).unwrap();
        });
        for name in ["d/single", "d/e"] {
            differs("has other attributes", &|root| {
                let of = File::open(root.join(name)).unwrap();
                file::set_attribute(of.as_fd(), OsStr::new("trusted.overlay.opaque"), b"y").unwrap();
            });
        }
        let room = tempfile::tempdir().unwrap();
        let roots = ["one", "other"].map(|name| room.path().join(name));
        roots.iter().for_each(|root| make(root));
        std::fs::File::open(roots[0].join("d/single")).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
        let found = difference(open(&roots[0]), open(&roots[1]), i64::MAX).unwrap();
        assert_eq!(found.as_deref(), Some("/d/single: has another time"));
    }
}
