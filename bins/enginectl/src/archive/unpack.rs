//! A tar archive unpacked into a directory of this machine. What is in it comes from a container and may be hostile: no
//! entry leads out of the directory, and none is written through a link.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, ResolveFlags, Timespec, Timestamps};
use rustix::io::Errno;
use tar::{Archive, Entry, EntryType};

use crate::error::Error;

/// What the entries are called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Renamed {
    /// The first part of all names, which is taken away.
    pub(crate) from: Option<String>,
    /// What is put there instead.
    pub(crate) to: Option<String>,
}

/// Directories on the way to an entry.
const DEEPEST: usize = 1024;
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Unpacks everything into `directory`, which is there.
pub(crate) fn unpack(archive: &mut dyn Read, directory: &Path, names: &Renamed) -> Result<(), Error> {
    let failed = |what: String| Error::io(what);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = fs::open(directory, flags, Mode::empty())
        .map_err(|errno| failed(format!("open {}", directory.display()))(errno.into()))?;
    let mut unpacking = Unpacking { root, names, directories: Vec::new() };
    let mut archive = Archive::new(archive);
    let entries = archive.entries().map_err(failed("read the archive".to_owned()))?;
    for entry in entries {
        let mut entry = entry.map_err(failed("read the archive".to_owned()))?;
        let shown = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        unpacking.entry(&mut entry).map_err(failed(format!("write {shown:?}")))?;
    }
    unpacking.finish().map_err(failed("set the times of directories".to_owned()))?;
    // What follows the end of the archive is read, so that the connection can be used again.
    io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(failed("read the archive".to_owned()))?;
    Ok(())
}

struct Unpacking<'a> {
    root: OwnedFd,
    names: &'a Renamed,
    /// Modes and times that wait until everything has been put into the directories.
    directories: Vec<(Vec<Vec<u8>>, Mode, Timestamps)>,
}

impl Unpacking<'_> {
    /// The parts of a name, renamed.
    fn parts(&self, name: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        let mut parts: Vec<Vec<u8>> = Vec::new();
        let mut given = name.split(|byte| *byte == b'/').filter(|part| !part.is_empty()).peekable();
        match &self.names.from {
            Some(from) if given.peek() == Some(&from.as_bytes()) => {
                given.next();
                parts.extend(self.names.to.iter().map(|to| to.clone().into_bytes()));
            }
            Some(_) => {}
            None => parts.extend(self.names.to.iter().map(|to| to.clone().into_bytes())),
        }
        for part in given.filter(|part| *part != b".") {
            if part == b".." {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "it leads out of the archive"));
            }
            parts.push(part.to_vec());
        }
        if parts.len() > DEEPEST {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is too deep"));
        }
        Ok(parts)
    }

    /// Opens a directory beneath the root, through no link, and makes what is missing.
    fn parent(&self, parts: &[Vec<u8>]) -> io::Result<OwnedFd> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let path = if parts.is_empty() { b".".to_vec() } else { parts.join(&b'/') };
        match fs::openat2(&self.root, OsStr::from_bytes(&path), DIRECTORY, Mode::empty(), resolve) {
            Err(Errno::NOENT) => {}
            opened => return Ok(opened?),
        }
        let mut at = fs::openat(&self.root, ".", DIRECTORY, Mode::empty())?;
        for part in parts {
            let part = OsStr::from_bytes(part);
            match fs::mkdirat(&at, part, Mode::from(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
            at = fs::openat(&at, part, DIRECTORY, Mode::empty())?;
        }
        Ok(at)
    }

    fn entry(&mut self, entry: &mut Entry<'_, impl Read>) -> io::Result<()> {
        let parts = self.parts(&entry.path_bytes())?;
        let Some((name, above)) = parts.split_last() else {
            // The directory that everything goes into stays what it is.
            return Ok(());
        };
        let parent = self.parent(above)?;
        let name = OsStr::from_bytes(name);
        let header = entry.header().clone();
        let mode = Mode::from_raw_mode(header.mode()? & 0o7777);
        let kind = header.entry_type();
        let times = times(header.mtime()?);
        let is_there = self.make_way(&parent, name, kind)?;
        match kind {
            EntryType::Directory => {
                if !is_there {
                    fs::mkdirat(&parent, name, Mode::RWXU)?;
                }
                self.directories.push((parts, mode, times));
                return Ok(());
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file = fs::openat(&parent, name, flags, Mode::RUSR | Mode::WUSR)?;
                let mut file = std::fs::File::from(file);
                let mut buffer = vec![0; 256 << 10];
                loop {
                    let read = entry.read(&mut buffer)?;
                    if read == 0 {
                        break;
                    }
                    io::Write::write_all(&mut file, &buffer[..read])?;
                }
                fs::fchmod(&file, mode)?;
                return Ok(fs::futimens(&file, &times)?);
            }
            EntryType::Symlink => {
                let target = entry.link_name_bytes().unwrap_or_default();
                fs::symlinkat(OsStr::from_bytes(&target), &parent, name)?;
            }
            EntryType::Link => {
                let target = self.parts(&entry.link_name_bytes().unwrap_or_default())?;
                let Some((original, above)) = target.split_last() else {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "a hard link to the directory itself"));
                };
                let from = self.parent(above)?;
                return Ok(fs::linkat(&from, OsStr::from_bytes(original), &parent, name, AtFlags::empty())?);
            }
            EntryType::Char | EntryType::Block | EntryType::Fifo => {
                let (node, device) = match kind {
                    EntryType::Fifo => (FileType::Fifo, 0),
                    EntryType::Char => (FileType::CharacterDevice, device(&header)?),
                    _ => (FileType::BlockDevice, device(&header)?),
                };
                fs::mknodat(&parent, name, node, mode, device)?;
            }
            EntryType::XGlobalHeader => return Ok(()),
            _ => return Err(io::Error::new(io::ErrorKind::Unsupported, "an entry of an unknown type")),
        }
        Ok(fs::utimensat(&parent, name, &times, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Takes away what is in the way; answers whether a directory is there to be merged with.
    fn make_way(&self, parent: &OwnedFd, name: &OsStr, kind: EntryType) -> io::Result<bool> {
        let found = match fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(false),
            found => FileType::from_raw_mode(found?.st_mode),
        };
        match (found == FileType::Directory, kind == EntryType::Directory) {
            (true, true) => Ok(true),
            (true, false) => Err(io::Error::other("cannot overwrite directory with non-directory")),
            (false, true) => Err(io::Error::other("cannot overwrite non-directory with directory")),
            (false, false) => Ok(fs::unlinkat(parent, name, AtFlags::empty()).map(|()| false)?),
        }
    }

    fn finish(&mut self) -> io::Result<()> {
        // The deepest first: a mode may forbid to go further down.
        for (parts, mode, times) in std::mem::take(&mut self.directories).into_iter().rev() {
            let directory = self.parent(&parts)?;
            fs::futimens(directory.as_fd(), &times)?;
            fs::fchmod(&directory, mode)?;
        }
        Ok(())
    }
}

fn device(header: &tar::Header) -> io::Result<u64> {
    Ok(fs::makedev(header.device_major()?.unwrap_or(0), header.device_minor()?.unwrap_or(0)))
}

fn times(seconds: u64) -> Timestamps {
    let time = Timespec { tv_sec: i64::try_from(seconds).unwrap_or(0), tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::super::{Source, pack};
    use super::*;

    fn archive(entries: &[(&str, EntryType, &str)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (name, kind, text) in entries {
            let mut header = tar::Header::new_gnu();
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
            header.set_entry_type(*kind);
            header.set_mode(0o644);
            header.set_mtime(7);
            let contents = if *kind == EntryType::Regular { text.as_bytes() } else { b"" };
            if contents.is_empty() {
                header.as_mut_bytes()[157..157 + text.len()].copy_from_slice(text.as_bytes());
            }
            header.set_size(contents.len() as u64);
            header.set_cksum();
            bytes.extend_from_slice(header.as_bytes());
            bytes.extend_from_slice(contents);
            bytes.resize(bytes.len().next_multiple_of(512), 0);
        }
        bytes.resize(bytes.len() + 1024, 0);
        bytes
    }

    fn renamed(from: &str, to: Option<&str>) -> Renamed {
        Renamed { from: Some(from.to_owned()), to: to.map(str::to_owned) }
    }

    #[test]
    fn what_is_packed_is_unpacked_by_another_name() {
        let room = tempfile::tempdir().unwrap();
        let from = room.path().join("from");
        std::fs::create_dir_all(from.join("deep")).unwrap();
        std::fs::write(from.join("deep/file"), "contents").unwrap();
        for size in [0, 511, 512, 600_001] {
            std::fs::write(from.join(format!("deep/{size}")), vec![7; size]).unwrap();
        }
        std::fs::set_permissions(from.join("deep"), PermissionsExt::from_mode(0o500)).unwrap();
        symlink("deep/file", from.join("link")).unwrap();
        std::fs::hard_link(from.join("deep/file"), from.join("twin")).unwrap();
        let mut bytes = Vec::new();
        pack(&Source { path: from, name: Some("name".to_owned()) }, &mut bytes).unwrap();
        let to = room.path().join("to");
        std::fs::create_dir(&to).unwrap();
        unpack(&mut bytes.as_slice(), &to, &renamed("name", Some("other"))).unwrap();
        assert_eq!(std::fs::read_to_string(to.join("other/link")).unwrap(), "contents");
        assert_eq!(std::fs::read_to_string(to.join("other/twin")).unwrap(), "contents");
        for size in [0, 511, 512, 600_001] {
            assert_eq!(std::fs::read(to.join(format!("other/deep/{size}"))).unwrap(), vec![7; size]);
        }
        assert_eq!(to.join("other/deep").metadata().unwrap().permissions().mode() & 0o777, 0o500);
        std::fs::create_dir(to.join("flat")).unwrap();
        unpack(&mut bytes.as_slice(), &to.join("flat"), &renamed("name", None)).unwrap();
        assert!(to.join("flat/deep/file").exists());
    }

    #[test]
    fn hostile_archives_stay_inside() {
        let room = tempfile::tempdir().unwrap();
        let (to, outside) = (room.path().join("to"), room.path().join("outside"));
        std::fs::create_dir(&to).unwrap();
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("secret"), "secret").unwrap();
        let absolute = outside.to_str().unwrap();
        use EntryType as E;
        for (entries, refused) in [
            (vec![("../outside/x", E::Regular, "x")], true),
            (vec![("a", E::Symlink, absolute), ("a/x", E::Regular, "x")], true),
            (vec![("b", E::Symlink, "../outside"), ("b/x", E::Regular, "x")], true),
            (vec![("c", E::Symlink, absolute), ("c/d/", E::Directory, ""), ("c/d/x", E::Regular, "x")], true),
            (vec![("e", E::Link, "../outside/secret")], true),
            (vec![("f", E::Symlink, "../outside/secret"), ("f", E::Regular, "x")], false),
            (vec![("/g/x", E::Regular, "x")], false),
        ] {
            let result = unpack(&mut archive(&entries).as_slice(), &to, &Renamed::default());
            assert_eq!(result.is_err(), refused, "{entries:?}: {result:?}");
            let found: Vec<_> = std::fs::read_dir(&outside).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            assert_eq!(found, ["secret"], "{entries:?}");
            assert_eq!(std::fs::read_to_string(outside.join("secret")).unwrap(), "secret");
        }
        assert!(to.join("g/x").exists());
    }

    #[test]
    fn kinds_are_kept() {
        let room = tempfile::tempdir().unwrap();
        std::fs::create_dir(room.path().join("directory")).unwrap();
        std::fs::write(room.path().join("file"), "").unwrap();
        for entry in [("directory", EntryType::Regular, "x"), ("file", EntryType::Directory, "")] {
            unpack(&mut archive(&[entry]).as_slice(), room.path(), &Renamed::default()).unwrap_err();
        }
    }
}
