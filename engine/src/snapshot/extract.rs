//! Unpacking a layer: its entries become files beneath one directory and nowhere else, its whiteouts become those of
//! overlayfs, and nothing of it is synced here.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::BufRead;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use engine_sys::file;
use engine_sys::path::{Root, remove_all};
use rustix::fs::{self, AtFlags, FileType, Gid, Mode, OFlags, Timestamps, Uid};
use rustix::io::Errno;

use super::Error;
use super::ahead::Ahead;
use super::framing::{Recorded, Tape};
use super::tar::{Archive, Entry, Kind, show};

/// What unpacking one layer may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Entries of the archive.
    pub entries: u64,
    /// Bytes of all its files.
    pub bytes: u64,
    /// Directories on the way to an entry.
    pub depth: usize,
    /// Bytes of the file system that stay free.
    pub free_bytes: u64,
    /// Inodes of the file system that stay free.
    pub free_inodes: u64,
    /// Bytes that are kept of files which later entries replace, so that the archive can be had back.
    pub replaced: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: 10_000_000,
            bytes: 512 << 30,
            depth: 512,
            free_bytes: 64 << 20,
            free_inodes: 4096,
            replaced: 1 << 30,
        }
    }
}

/// What was unpacked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// Bytes of all files.
    pub bytes: u64,
    /// Entries, whiteouts included.
    pub entries: u64,
}

/// Open directories that are kept; each is a descriptor of the whole process.
const PARENTS: usize = 32;
/// How much is written before the free space is looked at again.
const SPACE_CHECK: u64 = 64 << 20;
const ENTRY_CHECK: u64 = 4096;

const OPAQUE: &str = "trusted.overlay.opaque";

/// Unpacks every entry of `archive` beneath `root`, an empty directory that nobody else writes to.
pub(super) fn unpack<R: BufRead>(
    archive: &mut Archive<Recorded<R>>,
    root: &Root,
    limits: &Limits,
    ahead: &Arc<Ahead>,
) -> Result<Unpacked, Error> {
    let mut extractor = Extractor {
        ahead,
        tape: archive.get_ref().tape().cloned(),
        at: Vec::new(),
        links: false,
        real: None,
        root,
        limits,
        parents: Parents::default(),
        directories: Vec::new(),
        done: Unpacked::default(),
        next_space_check: 0,
        user: rustix::process::geteuid().as_raw(),
        group: rustix::process::getegid().as_raw(),
        // A thread that cannot have its own umask sets each mode a second time.
        exact_modes: file::private_umask().is_ok(),
    };
    while let Some(entry) = archive.next_entry()? {
        extractor.count(&entry)?;
        let name = show(&entry.path);
        extractor.entry(archive, entry).map_err(|error| match error {
            // What the kernel says is worth nothing without the name it says it of.
            Error::Host { what, source } if what.is_empty() => Error::Entry { name, source },
            other => other,
        })?;
    }
    extractor.finish()?;
    Ok(extractor.done)
}

struct Extractor<'a> {
    root: &'a Root,
    limits: &'a Limits,
    ahead: &'a Arc<Ahead>,
    parents: Parents,
    /// Modes and times wait until everything has been put into the directories.
    directories: Vec<Pending>,
    done: Unpacked,
    next_space_check: u64,
    user: u32,
    group: u32,
    exact_modes: bool,
    /// Where what is no file contents is kept, and the path of the entry that is being made, which leads over no link.
    tape: Option<Tape>,
    at: Vec<u8>,
    /// Whether there are links that a path may lead over.
    links: bool,
    /// A parent as entries name it, and where it really is.
    real: Option<(Vec<u8>, Vec<u8>)>,
}

struct Pending {
    path: Vec<u8>,
    mode: u32,
    times: Timestamps,
}

/// Where an entry goes: the cleaned path of its parent and its last name.
pub(super) struct Target {
    pub(super) parent: Vec<u8>,
    pub(super) name: Vec<u8>,
}

/// An error that gets the name of the entry further up.
pub(super) fn host(source: Errno) -> Error {
    Error::Host { what: String::new(), source: source.into() }
}

impl Extractor<'_> {
    fn count(&mut self, entry: &Entry) -> Result<(), Error> {
        self.done.entries += 1;
        self.done.bytes = self.done.bytes.saturating_add(entry.size);
        if self.done.entries > self.limits.entries {
            return Err(Error::Limit(format!("more than {} entries", self.limits.entries)));
        }
        if self.done.bytes > self.limits.bytes {
            return Err(Error::Limit(format!("more than {} bytes of files", self.limits.bytes)));
        }
        if self.done.entries % ENTRY_CHECK == 1 {
            self.check_space()?;
        }
        Ok(())
    }

    fn check_space(&self) -> Result<(), Error> {
        let space = fs::fstatvfs(self.root).map_err(host)?;
        let free = space.f_bavail.saturating_mul(space.f_frsize);
        // Some file systems have no fixed number of inodes and say 0 of 0.
        if free < self.limits.free_bytes || (space.f_files > 0 && space.f_favail < self.limits.free_inodes) {
            return Err(Error::Full);
        }
        Ok(())
    }

    fn entry<R: BufRead>(&mut self, archive: &mut Archive<Recorded<R>>, entry: Entry) -> Result<(), Error> {
        let path = clean(&entry.path, self.limits.depth)?;
        if path.is_empty() {
            return match entry.kind {
                Kind::Directory => self.directory_settings(path, &entry, self.root.as_fd(), OsStr::new(".")),
                _ => Err(Error::Refused { name: show(&entry.path), reason: "it replaces the root directory" }),
            };
        }
        let target = split(path);
        if let Some(hidden) = target.name.strip_prefix(b".wh.") {
            return self.whiteout(&entry, &target, hidden);
        }
        let parent = self.parents.get(self.root, &target.parent)?;
        self.locate(&target, parent.as_fd());
        let name = OsStr::from_bytes(&target.name);
        match entry.kind {
            Kind::File => self.regular(archive, &entry, parent.as_fd(), name),
            Kind::Directory => {
                let path = join(&target);
                self.directory(parent.as_fd(), name)?;
                self.directory_settings(path, &entry, parent.as_fd(), name)
            }
            Kind::Symlink => {
                if entry.link.is_empty() {
                    return Err(Error::Refused { name: show(&entry.path), reason: "a symbolic link to nothing" });
                }
                let link = OsStr::from_bytes(&entry.link);
                self.links = true;
                self.fresh(parent.as_fd(), name, || fs::symlinkat(link, &*parent, name))?;
                self.node_settings(&entry, parent.as_fd(), name)
            }
            Kind::Link => self.link(&entry, &target, parent.as_fd(), name),
            Kind::Character | Kind::Block | Kind::Fifo => {
                let kind = match entry.kind {
                    Kind::Character => FileType::CharacterDevice,
                    Kind::Block => FileType::BlockDevice,
                    _ => FileType::Fifo,
                };
                let device = device(&entry)?;
                let mode = Mode::from_raw_mode(entry.mode);
                self.fresh(parent.as_fd(), name, || fs::mknodat(&*parent, name, kind, mode, device))?;
                self.node_settings(&entry, parent.as_fd(), name)?;
                // A change of the owner clears the set-id bits here, too.
                if !self.exact_modes || entry.mode & 0o6000 != 0 {
                    // What was just made is no link, and nobody else is in here.
                    fs::chmodat(&*parent, name, mode, AtFlags::empty()).map_err(host)?;
                }
                Ok(())
            }
        }
    }

    /// Finds out where the entry really is, for whoever wants the archive back when links have changed.
    fn locate(&mut self, target: &Target, parent: BorrowedFd<'_>) {
        let Some(tape) = &self.tape else { return };
        if !self.links {
            self.at = join(target);
            return;
        }
        let known = self.real.take().filter(|(path, _)| *path == target.parent);
        let real = match known {
            Some((_, real)) => real,
            None => real_path(self.root, parent).unwrap_or_else(|| {
                tape.lose();
                target.parent.clone()
            }),
        };
        self.at = if real.is_empty() { target.name.clone() } else { [&*real, b"/", &*target.name].concat() };
        self.real = Some((target.parent.clone(), real));
    }

    fn regular<R: BufRead>(
        &mut self,
        archive: &mut Archive<Recorded<R>>,
        entry: &Entry,
        parent: BorrowedFd<'_>,
        name: &OsStr,
    ) -> Result<(), Error> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(entry.mode);
        let file = self.fresh(parent, name, || fs::openat(parent, name, flags, mode))?;
        if let Some(tape) = self.tape.as_ref().filter(|_| entry.size > 0 && entry.extents.is_none()) {
            tape.contents(&self.at, entry.size);
        }
        if let Some(extents) = &entry.extents {
            // Its parts stay in the framing as they came.
            let mut written = 0;
            super::holes::write(archive, file.as_fd(), (entry.size, extents), |length| {
                written += length;
                if written <= SPACE_CHECK {
                    return Ok(());
                }
                written = 0;
                self.check_space()
            })?;
        }
        loop {
            let chunk = archive.chunk()?;
            let length = chunk.len();
            if length == 0 {
                break;
            }
            file::write_all(file.as_fd(), chunk).map_err(|source| Error::Host { what: String::new(), source })?;
            archive.consume(length);
            if entry.size > SPACE_CHECK {
                self.next_space_check += length as u64;
                if self.next_space_check > SPACE_CHECK {
                    self.next_space_check = 0;
                    self.check_space()?;
                }
            }
        }
        if let Some(tape) = &self.tape {
            tape.framing();
        }
        let owner = self.owner(entry)?;
        if let Some((user, group)) = owner {
            fs::fchown(&file, Some(user), Some(group)).map_err(host)?;
        }
        // A change of the owner clears the set-id bits.
        if !self.exact_modes || (owner.is_some() && entry.mode & 0o6000 != 0) {
            fs::fchmod(&file, mode).map_err(host)?;
        }
        for (attribute, value) in kept(&entry.attributes) {
            tolerate(file::set_attribute(file.as_fd(), OsStr::from_bytes(attribute), value))?;
        }
        fs::futimens(&file, &times(entry)).map_err(host)?;
        self.ahead.wrote(entry.size, self.root.as_fd());
        Ok(())
    }

    /// Makes a directory, unless there is one.
    fn directory(&mut self, parent: BorrowedFd<'_>, name: &OsStr) -> Result<(), Error> {
        let made = || fs::mkdirat(parent, name, Mode::from_raw_mode(0o755));
        match made() {
            Ok(()) => return Ok(()),
            Err(Errno::EXIST) => {}
            Err(error) => return Err(host(error)),
        }
        let found = fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).map_err(host)?;
        if FileType::from_raw_mode(found.st_mode) == FileType::Directory {
            return Ok(());
        }
        self.remove(parent, name)?;
        made().map_err(host)?;
        if is_whiteout(&found) {
            // The layer hides what is below and has a directory of that name: nothing of the lower one shows.
            self.hide_lower(parent, name)?;
        }
        Ok(())
    }

    fn hide_lower(&self, parent: BorrowedFd<'_>, name: &OsStr) -> Result<(), Error> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = fs::openat(parent, name, flags, Mode::empty()).map_err(host)?;
        file::set_attribute(directory.as_fd(), OsStr::new(OPAQUE), b"y")
            .map_err(|source| Error::Host { what: "mark a directory as opaque".to_owned(), source })
    }

    fn directory_settings(
        &mut self,
        path: Vec<u8>,
        entry: &Entry,
        parent: BorrowedFd<'_>,
        name: &OsStr,
    ) -> Result<(), Error> {
        if let Some((user, group)) = self.owner(entry)? {
            fs::chownat(parent, name, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW).map_err(host)?;
        }
        if kept(&entry.attributes).next().is_some() {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let directory = fs::openat(parent, name, flags, Mode::empty()).map_err(host)?;
            for (attribute, value) in kept(&entry.attributes) {
                tolerate(file::set_attribute(directory.as_fd(), OsStr::from_bytes(attribute), value))?;
            }
        }
        self.directories.push(Pending { path, mode: entry.mode, times: times(entry) });
        Ok(())
    }

    fn link(&mut self, entry: &Entry, target: &Target, parent: BorrowedFd<'_>, name: &OsStr) -> Result<(), Error> {
        let from = clean(&entry.link, self.limits.depth)?;
        if from.is_empty() {
            return Err(Error::Refused { name: show(&entry.path), reason: "a hard link to the root directory" });
        }
        let from = split(from);
        if from.parent == target.parent && from.name == target.name {
            // A link to itself changes nothing, and must not remove what it is linked to.
            return Ok(());
        }
        let directory = self.parents.existing(self.root, &from.parent)?;
        let original = OsStr::from_bytes(&from.name);
        self.fresh(parent, name, || fs::linkat(&*directory, original, parent, name, AtFlags::empty()))
    }

    fn whiteout(&mut self, entry: &Entry, target: &Target, hidden: &[u8]) -> Result<(), Error> {
        if hidden == b".wh..opq" {
            return self.opaque(&target.parent);
        }
        if hidden.starts_with(b".wh.") {
            // Notes of AUFS to itself.
            return Ok(());
        }
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(Error::Refused { name: show(&entry.path), reason: "a whiteout of no name" });
        }
        let parent = self.parents.get(self.root, &target.parent)?;
        let name = OsStr::from_bytes(hidden);
        match fs::mknodat(&*parent, name, FileType::CharacterDevice, Mode::empty(), 0) {
            Ok(()) => return Ok(()),
            Err(Errno::EXIST) => {}
            Err(error) => return Err(host(error)),
        }
        // Whiteouts hide lower layers only: what this layer itself has there stays, and stays alone.
        let found = fs::statat(&*parent, name, AtFlags::SYMLINK_NOFOLLOW).map_err(host)?;
        if FileType::from_raw_mode(found.st_mode) == FileType::Directory {
            self.hide_lower(parent.as_fd(), name)?;
        }
        Ok(())
    }

    fn opaque(&mut self, path: &[u8]) -> Result<(), Error> {
        self.parents.get(self.root, path)?;
        if path.is_empty() {
            return file::set_attribute(self.root.as_fd(), OsStr::new(OPAQUE), b"y")
                .map_err(|source| Error::Host { what: "mark the root as opaque".to_owned(), source });
        }
        let directory = self.root.directory(Path::new(OsStr::from_bytes(path)));
        let directory = directory.map_err(|source| Error::Host { what: String::new(), source })?;
        file::set_attribute(directory.as_fd(), OsStr::new(OPAQUE), b"y")
            .map_err(|source| Error::Host { what: "mark a directory as opaque".to_owned(), source })
    }

    /// Makes a new entry; what an earlier entry of this name left is removed first.
    fn fresh<T>(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &OsStr,
        make: impl Fn() -> Result<T, Errno>,
    ) -> Result<T, Error> {
        match make() {
            Ok(made) => Ok(made),
            Err(Errno::EXIST) => {
                self.remove(parent, name)?;
                make().map_err(host)
            }
            Err(error) => Err(host(error)),
        }
    }

    fn remove(&mut self, parent: BorrowedFd<'_>, name: &OsStr) -> Result<(), Error> {
        if let Some(tape) = &self.tape
            && keep(tape, self.root, &self.at, parent, name).is_err()
        {
            tape.lose();
        }
        self.real = None;
        // A kept descriptor may be of a directory that goes, or have been found through a link that goes.
        self.parents.forget();
        remove_all(parent, name).map_err(|source| Error::Host { what: String::new(), source })
    }

    /// Who the entry is to belong to, when that is not who it belongs to anyway.
    fn owner(&self, entry: &Entry) -> Result<Option<(Uid, Gid)>, Error> {
        let id = |id: u64| u32::try_from(id).ok().filter(|id| *id != u32::MAX);
        let (Some(user), Some(group)) = (id(entry.user), id(entry.group)) else {
            return Err(Error::Refused { name: show(&entry.path), reason: "its owner is out of range" });
        };
        Ok((user != self.user || group != self.group).then(|| (Uid::from_raw(user), Gid::from_raw(group))))
    }

    fn node_settings(&self, entry: &Entry, parent: BorrowedFd<'_>, name: &OsStr) -> Result<(), Error> {
        if let Some((user, group)) = self.owner(entry)? {
            fs::chownat(parent, name, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW).map_err(host)?;
        }
        for (attribute, value) in kept(&entry.attributes) {
            tolerate(file::set_attribute_at(parent, name, OsStr::from_bytes(attribute), value))?;
        }
        fs::utimensat(parent, name, &times(entry), AtFlags::SYMLINK_NOFOLLOW).map_err(host)
    }

    fn finish(&mut self) -> Result<(), Error> {
        for Pending { path, mode, times } in std::mem::take(&mut self.directories) {
            let name = Path::new(OsStr::from_bytes(if path.is_empty() { b"." } else { &path }));
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
            match self.root.file(name, flags, Mode::empty()) {
                Ok(directory) => {
                    fs::fchmod(&directory, Mode::from_raw_mode(mode)).map_err(host)?;
                    fs::futimens(&directory, &times).map_err(host)?;
                }
                // A later entry of this name, or of one on the way to it, was something else.
                Err(error) if gone(&error) => {}
                Err(source) => return Err(Error::Entry { name: show(&path), source }),
            }
        }
        Ok(())
    }
}

/// Keeps what is about to go, `path` and everything in it, for whoever wants the archive back.
fn keep(tape: &Tape, root: &Root, path: &[u8], parent: BorrowedFd<'_>, name: &OsStr) -> std::io::Result<()> {
    let mut directories = Vec::new();
    keep_one(tape, path.to_vec(), parent, name, &mut directories)?;
    while let Some(path) = directories.pop() {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = root.file_without_links(Path::new(OsStr::from_bytes(&path)), flags, Mode::empty())?;
        for entry in fs::Dir::read_from(&directory)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if !matches!(name, b"." | b"..") {
                let path = [&*path, b"/", name].concat();
                keep_one(tape, path, directory.as_fd(), OsStr::from_bytes(name), &mut directories)?;
            }
        }
    }
    Ok(())
}

fn keep_one(
    tape: &Tape,
    path: Vec<u8>,
    parent: BorrowedFd<'_>,
    name: &OsStr,
    directories: &mut Vec<Vec<u8>>,
) -> std::io::Result<()> {
    let found = fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    match FileType::from_raw_mode(found.st_mode) {
        FileType::RegularFile if found.st_size > 0 => {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = fs::openat(parent, name, flags, Mode::empty())?;
            tape.replaced(&path, found.st_size.unsigned_abs(), std::fs::File::from(file));
        }
        FileType::Directory => directories.push(path),
        _ => {}
    }
    Ok(())
}

/// Where a directory is beneath the root, over no link.
fn real_path(root: &Root, directory: BorrowedFd<'_>) -> Option<Vec<u8>> {
    let read = |fd: BorrowedFd<'_>| {
        let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
        fs::readlink(path, Vec::new()).ok().map(std::ffi::CString::into_bytes)
    };
    let (root, real) = (read(root.as_fd())?, read(directory)?);
    match real.strip_prefix(root.as_slice())? {
        b"" => Some(Vec::new()),
        rest => rest.strip_prefix(b"/").map(<[u8]>::to_vec),
    }
}

pub(super) fn gone(error: &std::io::Error) -> bool {
    [Errno::NOENT, Errno::NOTDIR, Errno::LOOP].iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// Directories that entries were put into lately, held open: a name is resolved once, however many entries follow.
#[derive(Default)]
pub(super) struct Parents {
    open: HashMap<Vec<u8>, (u64, Rc<OwnedFd>)>,
    last: Option<(Vec<u8>, Rc<OwnedFd>)>,
    clock: u64,
}

impl Parents {
    /// The directory `path`, made if it is missing.
    pub(super) fn get(&mut self, root: &Root, path: &[u8]) -> Result<Rc<OwnedFd>, Error> {
        self.find(root, path, true)
    }

    pub(super) fn existing(&mut self, root: &Root, path: &[u8]) -> Result<Rc<OwnedFd>, Error> {
        self.find(root, path, false)
    }

    fn find(&mut self, root: &Root, path: &[u8], make: bool) -> Result<Rc<OwnedFd>, Error> {
        if let Some((last, directory)) = &self.last
            && last == path
        {
            return Ok(directory.clone());
        }
        self.clock += 1;
        if let Some((used, directory)) = self.open.get_mut(path) {
            *used = self.clock;
            self.last = Some((path.to_vec(), directory.clone()));
            return Ok(directory.clone());
        }
        let name = Path::new(OsStr::from_bytes(path));
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let opened = match root.file(name, flags, Mode::empty()) {
            Err(error) if make && error.kind() == std::io::ErrorKind::NotFound => root
                .make_directory(name, Mode::from_raw_mode(0o755))
                .and_then(|_| root.file(name, flags, Mode::empty())),
            other => other,
        };
        let directory = Rc::new(opened.map_err(|source| Error::Host { what: String::new(), source })?);
        if self.open.len() >= PARENTS
            && let Some(oldest) = self.open.iter().min_by_key(|(_, (used, _))| *used).map(|(path, _)| path.clone())
        {
            self.open.remove(&oldest);
        }
        self.open.insert(path.to_vec(), (self.clock, directory.clone()));
        self.last = Some((path.to_vec(), directory.clone()));
        Ok(directory)
    }

    pub(super) fn forget(&mut self) {
        self.open.clear();
        self.last = None;
    }
}

/// A name as a path beneath the root: no leading or doubled `/`, no `.`, no `..`. A name that leads out is refused.
pub(super) fn clean(name: &[u8], depth: usize) -> Result<Vec<u8>, Error> {
    let refuse = |reason| Err(Error::Refused { name: show(name), reason });
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in name.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                if parts.pop().is_none() {
                    return refuse("it leads out of the layer");
                }
            }
            _ if part.contains(&0) => return refuse("a name with NUL"),
            _ => parts.push(part),
        }
    }
    if parts.len() > depth {
        return refuse("it is too deep");
    }
    Ok(parts.join(&b'/'))
}

pub(super) fn split(path: Vec<u8>) -> Target {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => Target { parent: path[..slash].to_vec(), name: path[slash + 1..].to_vec() },
        None => Target { parent: Vec::new(), name: path },
    }
}

pub(super) fn join(target: &Target) -> Vec<u8> {
    if target.parent.is_empty() { target.name.clone() } else { [&*target.parent, b"/", &*target.name].concat() }
}

pub(super) fn times(entry: &Entry) -> Timestamps {
    file::times(entry.modified.0, entry.modified.1)
}

pub(super) fn device(entry: &Entry) -> Result<u64, Error> {
    let (major, minor) = entry.device;
    match (u32::try_from(major), u32::try_from(minor)) {
        (Ok(major @ 0..0x1000), Ok(minor @ 0..0x10_0000)) => Ok(fs::makedev(major, minor)),
        _ => Err(Error::Refused { name: show(&entry.path), reason: "its device number is out of range" }),
    }
}

fn is_whiteout(found: &fs::Stat) -> bool {
    FileType::from_raw_mode(found.st_mode) == FileType::CharacterDevice && found.st_rdev == 0
}

/// The attributes that a layer may give: none that steer overlayfs or the security modules of the host.
pub(super) fn kept(attributes: &[(Vec<u8>, Vec<u8>)]) -> impl Iterator<Item = (&[u8], &[u8])> {
    attributes.iter().map(|(name, value)| (name.as_slice(), value.as_slice())).filter(|(name, _)| match *name {
        b"security.capability" | b"system.posix_acl_access" | b"system.posix_acl_default" => true,
        _ if name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.") => false,
        _ => name.starts_with(b"user.") || name.starts_with(b"trusted."),
    })
}

/// A file system without extended attributes is no reason to have no image, and neither is a link, which has none.
pub(super) fn tolerate(result: std::io::Result<()>) -> Result<(), Error> {
    let harmless = [Errno::OPNOTSUPP, Errno::PERM].map(|errno| Some(errno.raw_os_error()));
    match result {
        Err(error) if harmless.contains(&error.raw_os_error()) => Ok(()),
        other => other.map_err(|source| Error::Host { what: String::new(), source }),
    }
}
