//! An archive unpacked into a directory of a tree that is in use: entries replace what is there, and what somebody changes
//! meanwhile leads nowhere else than within the root.

use std::ffi::OsStr;
use std::io::BufRead;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use engine_sys::file;
use engine_sys::path::{Root, remove_all};
use rustix::fs::{self, AtFlags, FileType, Gid, Mode, OFlags, Timestamps, Uid};
use rustix::io::Errno;

use super::super::Error;
use super::super::extract::{Parents, Target, clean, device, gone, host, join, kept, split, times, tolerate};
use super::super::tar::{Archive, Entry, Kind, show};
use super::is_made_up;

/// How an archive is unpacked.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Manner {
    /// A directory is not replaced by what is none, and the other way round.
    pub(crate) same_kinds: bool,
    /// Who everything belongs to; who the archive says, if nobody.
    pub(crate) owner: Option<(u32, u32)>,
    /// The directory itself gets owner and mode of the archive's `./`.
    pub(crate) top: bool,
}

/// More entries than anybody copies.
const ENTRIES: u64 = 10_000_000;
/// What `EOVERFLOW` means of an owner.
const LEFT_OUT: &str = "the idmap of the mount that it goes to leaves out its owner, or root, who makes it: \
     name both in the map, or have a process of the container write it that runs as somebody of the map";
/// What `EACCES` means where root asks.
const FOREIGN: &str = "root may not write there: the directory's owner is left out by the idmap of its mount, \
     or its file system refuses root: name the owner in the map, or have somebody write it who may";
/// Directories on the way to an entry.
const DEPTH: usize = 512;

/// Unpacks `archive` into the directory `base`, a clean path within `root`.
pub(crate) fn put<R: BufRead>(archive: &mut Archive<R>, root: &Root, base: &[u8], manner: Manner) -> Result<(), Error> {
    let exact_modes = file::private_umask().is_ok();
    let mut putting = Putting { root, base, manner, parents: Parents::default(), directories: Vec::new(), exact_modes };
    let mut entries = 0;
    while let Some(entry) = archive.next_entry()? {
        entries += 1;
        if entries > ENTRIES {
            return Err(Error::Limit(format!("more than {ENTRIES} entries")));
        }
        let name = show(&entry.path);
        putting.entry(archive, &entry).map_err(|error| match error {
            Error::Host { source, .. } if Errno::from_io_error(&source) == Some(Errno::OVERFLOW) => {
                Error::Refused { name, reason: LEFT_OUT }
            }
            Error::Host { source, .. } if Errno::from_io_error(&source) == Some(Errno::ACCESS) => {
                Error::Refused { name, reason: FOREIGN }
            }
            Error::Host { what, source } if what.is_empty() => Error::Entry { name, source },
            other => other,
        })?;
    }
    putting.finish()
}

struct Putting<'a> {
    root: &'a Root,
    base: &'a [u8],
    manner: Manner,
    parents: Parents,
    /// Times wait until everything has been put into the directories.
    directories: Vec<(Vec<u8>, Timestamps)>,
    exact_modes: bool,
}

impl Putting<'_> {
    /// Where a name of the archive is in the root; `None` for the directory itself.
    fn target(&self, name: &[u8]) -> Result<Option<Target>, Error> {
        let path = clean(name, DEPTH)?;
        if path.is_empty() {
            return Ok(None);
        }
        let inside = split(path);
        let within = Target { parent: self.base.to_vec(), name: inside.parent };
        let parent = match (within.parent.is_empty(), within.name.is_empty()) {
            (_, true) => within.parent,
            (true, _) => within.name,
            _ => join(&within),
        };
        Ok(Some(Target { parent, name: inside.name }))
    }

    fn entry<R: BufRead>(&mut self, archive: &mut Archive<R>, entry: &Entry) -> Result<(), Error> {
        let Some(target) = self.target(&entry.path)? else {
            // The directory that everything goes into stays what it is, unless it is meant too.
            return match entry.kind {
                Kind::Directory if self.manner.top => self.top(entry),
                Kind::Directory => Ok(()),
                _ => Err(Error::Refused { name: show(&entry.path), reason: "it replaces the directory itself" }),
            };
        };
        let parent = self.parents.get(self.root, &target.parent)?;
        let (parent, name) = (parent.as_fd(), OsStr::from_bytes(&target.name));
        if is_made_up(parent) {
            return Err(Error::Refused {
                name: show(&entry.path),
                reason: "it goes to a file system that the kernel makes up",
            });
        }
        let is_directory = self.make_way(entry, parent, name)?;
        match entry.kind {
            Kind::Directory => {
                if !is_directory {
                    fs::mkdirat(parent, name, Mode::RWXU).map_err(host)?;
                }
                self.directory(entry, &target, parent, name)
            }
            Kind::File => self.regular(archive, entry, parent, name),
            Kind::Symlink => {
                if entry.link.is_empty() {
                    return Err(Error::Refused { name: show(&entry.path), reason: "a symbolic link to nothing" });
                }
                fs::symlinkat(OsStr::from_bytes(&entry.link), parent, name).map_err(host)?;
                self.node(entry, parent, name)
            }
            Kind::Link => {
                let Some(from) = self.target(&entry.link)? else {
                    return Err(Error::Refused {
                        name: show(&entry.path),
                        reason: "a hard link to the directory itself",
                    });
                };
                let directory = self.parents.existing(self.root, &from.parent)?;
                let original = OsStr::from_bytes(&from.name);
                fs::linkat(&*directory, original, parent, name, AtFlags::empty()).map_err(host)
            }
            Kind::Character | Kind::Block | Kind::Fifo => {
                let kind = match entry.kind {
                    Kind::Character => FileType::CharacterDevice,
                    Kind::Block => FileType::BlockDevice,
                    _ => FileType::Fifo,
                };
                let mode = Mode::from_raw_mode(entry.mode);
                fs::mknodat(parent, name, kind, mode, device(entry)?).map_err(host)?;
                self.node(entry, parent, name)
            }
        }
    }

    /// Takes away what is in the way of an entry; answers whether a directory is there that the entry is merged with.
    fn make_way(&mut self, entry: &Entry, parent: BorrowedFd<'_>, name: &OsStr) -> Result<bool, Error> {
        let found = match fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(false),
            found => found.map_err(host)?,
        };
        let kind = FileType::from_raw_mode(found.st_mode);
        let (is_directory, becomes_directory) = (kind == FileType::Directory, entry.kind == Kind::Directory);
        if self.manner.same_kinds && is_directory != becomes_directory {
            let text = if is_directory {
                format!("cannot overwrite directory {:?} with non-directory", show(&entry.path))
            } else {
                format!("cannot overwrite non-directory {:?} with directory", show(&entry.path))
            };
            return Err(Error::Kinds(text));
        }
        if is_directory && becomes_directory {
            return Ok(true);
        }
        // A kept descriptor may be of a directory that goes, or have been found through a link that goes.
        self.parents.forget();
        match remove_all(parent, name) {
            // What is mounted there is written to and not replaced.
            Err(error)
                if error.raw_os_error() == Some(Errno::BUSY.raw_os_error())
                    && kind == FileType::RegularFile
                    && entry.kind == Kind::File =>
            {
                Ok(false)
            }
            removed => removed.map(|()| false).map_err(|source| Error::Host { what: String::new(), source }),
        }
    }

    fn regular<R: BufRead>(
        &self,
        archive: &mut Archive<R>,
        entry: &Entry,
        parent: BorrowedFd<'_>,
        name: &OsStr,
    ) -> Result<(), Error> {
        let mode = Mode::from_raw_mode(entry.mode & 0o777);
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = fs::openat(parent, name, flags | OFlags::CREATE | OFlags::EXCL, mode);
        let file = match made {
            // A file that is a mount: a pipe or a device that was put there instead is not waited for.
            Err(Errno::EXIST) => {
                let file = fs::openat(parent, name, flags | OFlags::NONBLOCK, Mode::empty()).map_err(host)?;
                let found = fs::fstat(&file).map_err(host)?;
                if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
                    return Err(host(Errno::BUSY));
                }
                fs::ftruncate(&file, 0).map_err(host)?;
                file
            }
            made => made.map_err(host)?,
        };
        if let Some(extents) = &entry.extents {
            crate::snapshot::holes::write(archive, file.as_fd(), (entry.size, extents), |_| Ok(()))?;
        }
        loop {
            let chunk = archive.chunk()?;
            let length = chunk.len();
            if length == 0 {
                break;
            }
            file::write_all(file.as_fd(), chunk).map_err(|source| Error::Host { what: String::new(), source })?;
            archive.consume(length);
        }
        let (user, group) = self.owner(entry)?;
        fs::fchown(&file, Some(user), Some(group)).map_err(host)?;
        fs::fchmod(&file, Mode::from_raw_mode(entry.mode)).map_err(host)?;
        for (attribute, value) in kept(&entry.attributes) {
            tolerate(file::set_attribute(file.as_fd(), OsStr::from_bytes(attribute), value))?;
        }
        fs::futimens(&file, &times(entry)).map_err(host)
    }

    fn top(&self, entry: &Entry) -> Result<(), Error> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let base = if self.base.is_empty() { b"." } else { self.base };
        let directory = self.root.file(Path::new(OsStr::from_bytes(base)), flags, Mode::empty());
        let directory = directory.map_err(Error::host("open the directory"))?;
        let (user, group) = self.owner(entry)?;
        fs::fchown(&directory, Some(user), Some(group)).map_err(host)?;
        fs::fchmod(&directory, Mode::from_raw_mode(entry.mode)).map_err(host)
    }

    fn directory(&mut self, entry: &Entry, target: &Target, parent: BorrowedFd<'_>, name: &OsStr) -> Result<(), Error> {
        let directory = super::open_directory(parent, name).map_err(host)?;
        let (user, group) = self.owner(entry)?;
        fs::fchown(&directory, Some(user), Some(group)).map_err(host)?;
        fs::fchmod(&directory, Mode::from_raw_mode(entry.mode)).map_err(host)?;
        for (attribute, value) in kept(&entry.attributes) {
            tolerate(file::set_attribute(directory.as_fd(), OsStr::from_bytes(attribute), value))?;
        }
        self.directories.push((join(target), times(entry)));
        Ok(())
    }

    /// Owner, mode, attributes and times of what cannot be opened without doing something.
    fn node(&self, entry: &Entry, parent: BorrowedFd<'_>, name: &OsStr) -> Result<(), Error> {
        let (user, group) = self.owner(entry)?;
        fs::chownat(parent, name, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW).map_err(host)?;
        if entry.kind != Kind::Symlink && (!self.exact_modes || entry.mode & 0o6000 != 0) {
            use std::os::fd::AsRawFd as _;
            let handle = fs::openat(parent, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
            let handle = handle.map_err(host)?;
            if FileType::from_raw_mode(fs::fstat(&handle).map_err(host)?.st_mode) != FileType::Symlink {
                let path = format!("/proc/self/fd/{}", handle.as_raw_fd());
                fs::chmod(path, Mode::from_raw_mode(entry.mode)).map_err(host)?;
            }
        }
        fs::utimensat(parent, name, &times(entry), AtFlags::SYMLINK_NOFOLLOW).map_err(host)
    }

    fn owner(&self, entry: &Entry) -> Result<(Uid, Gid), Error> {
        if let Some((user, group)) = self.manner.owner {
            return Ok((Uid::from_raw(user), Gid::from_raw(group)));
        }
        let id = |id: u64| u32::try_from(id).ok().filter(|id| *id != u32::MAX);
        match (id(entry.user), id(entry.group)) {
            (Some(user), Some(group)) => Ok((Uid::from_raw(user), Gid::from_raw(group))),
            _ => Err(Error::Refused { name: show(&entry.path), reason: "its owner is out of range" }),
        }
    }

    fn finish(self) -> Result<(), Error> {
        for (path, times) in self.directories {
            match self.root.file(Path::new(OsStr::from_bytes(&path)), super::DIRECTORY, Mode::empty()) {
                Ok(directory) => fs::futimens(&directory, &times).map_err(host)?,
                // A later entry of this name was something else, or somebody took it away.
                Err(error) if gone(&error) => {}
                Err(source) => return Err(Error::Entry { name: show(&path), source }),
            }
        }
        Ok(())
    }
}
