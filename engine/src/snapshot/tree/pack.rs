//! A tree of files as a tar archive. Every name is looked up in an open directory and no link is followed, so that
//! whoever changes the tree meanwhile changes what is in the archive and nothing else. What is gone when its turn comes is
//! not in it.

use std::collections::HashMap;
use std::ffi::{CString, OsStr};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use bytes::{Bytes, BytesMut};
use engine_sys::file;
use rustix::fs::{self, AtFlags, Dir, FileType, Stat};
use rustix::io::Errno;
use tokio::sync::mpsc;

use super::super::Error;
use super::super::tar::{Entry, Kind, MAX_NAME, Writer, show};
use super::{DEEPEST, is_made_up, open_directory, open_file};

/// Bytes that are handed on at once.
const PIECE: usize = 512 << 10;
/// Levels whose directories stay open, besides the first; those above are opened again from below, or by their names.
const OPEN: usize = 48;
/// Files with several names that are remembered; further ones become files of their own.
const MOST_LINKED: usize = 1 << 20;
/// The largest attribute value that is kept.
const LARGEST_ATTRIBUTE: usize = 64 << 10;

/// How much of a long path is shown.
const SHOWN: usize = 200;

/// What the archive's first entry is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Top<'a> {
    /// The directory itself, by this name, and what is in it.
    Directory(&'a [u8]),
    /// What is in the directory.
    Contents,
}

/// Writes one archive, piece by piece, to whoever reads the other end of the channel.
#[derive(Debug)]
pub(crate) struct Packer {
    out: Writer<Pieces>,
    linked: HashMap<(u64, u64), Vec<u8>>,
    /// The tree is what overlayfs wrote: its marks become those of layers.
    upper: bool,
}

/// What the engine's own mounts lie on; whoever writes to one of them writes somewhere else.
const STUBS: [&[u8]; 3] = [b"etc/hosts", b"etc/hostname", b"etc/resolv.conf"];

/// Packs what a container has written as a layer, with whiteouts for what it has removed.
pub(crate) fn pack_upper(upper: &Path, sender: mpsc::Sender<Result<Bytes, Error>>) -> Result<(), Error> {
    let root = engine_sys::path::Root::open(upper);
    let root = root.map_err(Error::host(format!("open {}", upper.display())))?;
    let mut packer = Packer { upper: true, ..Packer::new(sender) };
    packer.tree(root.into_fd(), Top::Contents)?;
    packer.finish()
}

/// A directory on the way.
struct Level {
    directory: Option<OwnedFd>,
    identity: (u64, u64),
    /// Names that are still to be done, the last one first.
    names: Vec<CString>,
    /// Length of the path of this directory.
    path: usize,
}

impl Packer {
    /// An archive that goes to `sender`.
    pub(crate) fn new(sender: mpsc::Sender<Result<Bytes, Error>>) -> Self {
        Self {
            out: Writer::new(Pieces { sender, buffer: BytesMut::with_capacity(PIECE) }),
            linked: HashMap::new(),
            upper: false,
        }
    }

    /// Adds one file, link or node: `name` in `parent`, as `shown`. A directory is added without what is in it.
    pub(crate) fn one(&mut self, parent: BorrowedFd<'_>, name: &OsStr, shown: &[u8]) -> Result<(), Error> {
        self.node(parent, name, shown).map_err(|source| failed(shown, source))
    }

    /// Adds a directory and everything beneath it.
    pub(crate) fn tree(&mut self, directory: OwnedFd, top: Top<'_>) -> Result<(), Error> {
        let mut path = Vec::new();
        if let Top::Directory(name) = top {
            path.extend_from_slice(name);
            path.push(b'/');
            let add = || {
                let found = fs::fstat(&directory)?;
                Ok((header(Kind::Directory, &path, &found), attributes(directory.as_fd())?))
            };
            let (mut entry, kept) = add().map_err(|source| failed(&path, source))?;
            entry.attributes = kept;
            self.out.header(&entry).map_err(|source| failed(&path, source))?;
        }
        let mut levels = vec![level(directory, path.len()).map_err(|source| failed(&path, source))?];
        while let Some(top) = levels.last_mut() {
            path.truncate(top.path);
            let Some(name) = top.names.pop() else {
                ascend(&mut levels, &path).map_err(|source| failed(&path, source))?;
                continue;
            };
            path.extend_from_slice(name.to_bytes());
            if self.upper && path.len() as u64 >= MAX_NAME {
                let (begins, longest) = (show(&path[..path.len().min(SHOWN)]), MAX_NAME - 1);
                return Err(Error::LongPath { path: begins, length: path.len(), longest });
            }
            let Some(parent) = &top.directory else { continue };
            let parent = parent.as_fd();
            let below = self.step(parent, OsStr::from_bytes(name.to_bytes()), &mut path);
            let Some(below) = below.map_err(|source| failed(&path, source))? else { continue };
            if levels.len() >= DEEPEST {
                return Err(Error::Limit(format!("{} within {DEEPEST} directories", show(&path))));
            }
            levels.push(level(below, path.len()).map_err(|source| failed(&path, source))?);
            let above = levels.len().checked_sub(OPEN + 1).filter(|above| *above > 0);
            if let Some(above) = above.and_then(|above| levels.get_mut(above)) {
                above.directory = None;
            }
        }
        Ok(())
    }

    /// Ends the archive.
    pub(crate) fn finish(self) -> Result<(), Error> {
        let mut pieces = self.out.finish().map_err(|source| failed(b"", source))?;
        pieces.flush().map_err(|source| failed(b"", source))
    }

    /// Adds one entry; a directory that is to be gone through is returned.
    fn step(&mut self, parent: BorrowedFd<'_>, name: &OsStr, path: &mut Vec<u8>) -> io::Result<Option<OwnedFd>> {
        let Some(found) = there(fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW))? else { return Ok(None) };
        if FileType::from_raw_mode(found.st_mode) != FileType::Directory {
            self.node(parent, name, path)?;
            return Ok(None);
        }
        let directory = match open_directory(parent, name) {
            Err(Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            directory => there(directory)?,
        };
        let Some(directory) = directory else { return Ok(None) };
        let within = fs::fstat(&directory)?;
        path.push(b'/');
        let mut entry = header(Kind::Directory, path, &within);
        // What the kernel makes up is no part of anybody's files.
        let mounted = within.st_dev != fs::fstat(parent)?.st_dev && is_made_up(&directory);
        if !mounted {
            let Some(kept) = there(attributes(directory.as_fd()))? else { return Ok(None) };
            entry.attributes = kept;
        }
        self.out.header(&entry)?;
        if self.upper {
            self.marks(&directory, path)?;
        }
        Ok((!mounted).then_some(directory))
    }

    /// What overlayfs notes on a directory.
    fn marks(&mut self, directory: &OwnedFd, path: &[u8]) -> io::Result<()> {
        let mark = |name: &str| file::attribute(directory.as_fd(), OsStr::new(name));
        if mark("trusted.overlay.redirect")?.is_some() {
            let text = "the directory was moved in a way that only this overlay knows: copy it, and remove the old one";
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        }
        if mark("trusted.overlay.opaque")?.as_deref() == Some(b"y") {
            self.out.header(&Entry::new(Kind::File, [path, b".wh..wh..opq"].concat(), 0o600))?;
        }
        Ok(())
    }

    fn node(&mut self, parent: BorrowedFd<'_>, name: &OsStr, path: &[u8]) -> io::Result<()> {
        let Some(found) = there(fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW))? else { return Ok(()) };
        let kind = FileType::from_raw_mode(found.st_mode);
        if self.upper {
            if kind == FileType::CharacterDevice && found.st_rdev == 0 {
                let (directory, name) =
                    path.split_at(path.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1));
                return self.out.header(&Entry::new(Kind::File, [directory, b".wh.", name].concat(), 0o600));
            }
            if kind == FileType::RegularFile && found.st_size == 0 && STUBS.contains(&path) {
                return Ok(());
            }
        }
        let identity = (found.st_dev, found.st_ino);
        if kind != FileType::Directory
            && found.st_nlink > 1
            && let Some(first) = self.linked.get(&identity)
        {
            return self.out.header(&header(Kind::Link, path, &found).to(first.clone()));
        }
        match kind {
            FileType::RegularFile => {
                // Something else may have taken its place meanwhile: it is as good as gone.
                let Some((file, found)) = there(open_file(parent, name))?.flatten() else { return Ok(()) };
                self.file(&file, path, &found)?;
            }
            FileType::Symlink => {
                let target = match fs::readlinkat(parent, name, Vec::new()) {
                    Err(Errno::INVAL) => return Ok(()),
                    target => there(target)?,
                };
                let Some(target) = target else { return Ok(()) };
                self.out.header(&header(Kind::Symlink, path, &found).to(target.into_bytes()))?;
            }
            FileType::CharacterDevice | FileType::BlockDevice => {
                let character = kind == FileType::CharacterDevice;
                let mut entry = header(if character { Kind::Character } else { Kind::Block }, path, &found);
                entry.device = (fs::major(found.st_rdev).into(), fs::minor(found.st_rdev).into());
                self.out.header(&entry)?;
            }
            FileType::Fifo => self.out.header(&header(Kind::Fifo, path, &found))?,
            FileType::Directory => {
                let path = [path, b"/"].concat();
                self.out.header(&header(Kind::Directory, &path, &found))?;
            }
            // A socket is nothing without who listens on it.
            FileType::Socket | FileType::Unknown => return Ok(()),
        }
        if kind != FileType::Directory && found.st_nlink > 1 && self.linked.len() < MOST_LINKED {
            self.linked.insert(identity, path.to_vec());
        }
        Ok(())
    }

    fn file(&mut self, file: &OwnedFd, path: &[u8], found: &Stat) -> io::Result<()> {
        if is_made_up(file) {
            let text = "a file that the kernel makes up is not copied: read it with exec";
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        }
        let mut entry = header(Kind::File, path, found);
        let Some(kept) = there(attributes(file.as_fd()))? else { return Ok(()) };
        entry.attributes = kept;
        self.out.header(&entry)?;
        let mut rest = entry.size;
        while rest > 0 {
            let read = self.out.get_mut().read_from(file.as_fd(), rest)?;
            if read == 0 {
                break;
            }
            rest -= read;
        }
        // It became shorter: the archive has the size that was said.
        while rest > 0 {
            let zeros = [0; 4096];
            let step = usize::try_from(rest).unwrap_or(usize::MAX).min(zeros.len());
            self.out.get_mut().write_all(&zeros[..step])?;
            rest -= step as u64;
        }
        self.out.pad(entry.size)
    }
}

fn failed(path: &[u8], source: io::Error) -> Error {
    Error::Host { what: format!("read {:?}", show(path)), source }
}

/// What is asked of something that may have been taken away a moment ago; nothing if it was.
fn there<T, E: Into<io::Error>>(asked: Result<T, E>) -> io::Result<Option<T>> {
    match asked.map_err(Into::into) {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::NOENT | Errno::STALE)) => Ok(None),
        Err(error) => Err(error),
    }
}

fn level(directory: OwnedFd, path: usize) -> io::Result<Level> {
    let identity = identity(&directory)?;
    let mut names = Vec::new();
    // One that was removed has nothing in it any more.
    if let Some(entries) = there(Dir::read_from(&directory))? {
        for entry in entries {
            let Some(entry) = there(entry)? else { break };
            let name = entry.file_name();
            if !matches!(name.to_bytes(), b"." | b"..") {
                names.push(name.to_owned());
            }
        }
    }
    names.sort_unstable_by(|one, other| other.cmp(one));
    Ok(Level { directory: Some(directory), identity, names, path })
}

fn identity(directory: &OwnedFd) -> rustix::io::Result<(u64, u64)> {
    let found = fs::fstat(directory)?;
    Ok((found.st_dev, found.st_ino))
}

/// Goes up one level. A directory that was closed is found again from below, and must be the same. If it is not there any
/// more, since one of the two was moved, it is looked for where it was; what is not there either is gone with all that is in it.
fn ascend(levels: &mut Vec<Level>, path: &[u8]) -> io::Result<()> {
    let Some(done) = levels.pop() else { return Ok(()) };
    let Some(above) = levels.last_mut().filter(|above| above.directory.is_none()) else { return Ok(()) };
    let below = done.directory.as_ref().map(|below| open_directory(below.as_fd(), OsStr::new("..")));
    if let Some(directory) = below.and_then(Result::ok)
        && identity(&directory)? == above.identity
    {
        above.directory = Some(directory);
        return Ok(());
    }
    let mut found = 0;
    while let Some([above, level, ..]) = levels.get_mut(found..) {
        let Some(parent) = &above.directory else { break };
        let name = path.get(above.path..level.path).and_then(|name| name.strip_suffix(b"/")).unwrap_or_default();
        if level.directory.is_none() {
            match open_directory(parent.as_fd(), OsStr::from_bytes(name)) {
                Ok(directory) if identity(&directory)? == level.identity => level.directory = Some(directory),
                Ok(_) | Err(Errno::NOENT | Errno::STALE | Errno::NOTDIR | Errno::LOOP) => break,
                Err(error) => return Err(error.into()),
            }
        }
        found += 1;
        // Only the first stays open, and those that are about to be read.
        if found > 1
            && found + OPEN < levels.len()
            && let Some(above) = levels.get_mut(found - 1)
        {
            above.directory = None;
        }
    }
    levels.truncate(found + 1);
    Ok(())
}

fn header(kind: Kind, path: &[u8], found: &Stat) -> Entry {
    Entry {
        size: if kind == Kind::File { u64::try_from(found.st_size).unwrap_or(0) } else { 0 },
        user: found.st_uid.into(),
        group: found.st_gid.into(),
        modified: (found.st_mtime, u32::try_from(found.st_mtime_nsec).unwrap_or(0)),
        ..Entry::new(kind, path, found.st_mode & 0o7777)
    }
}

/// The capabilities of a program and what users attach; nothing that belongs to the host or to overlayfs.
fn attributes(file: BorrowedFd<'_>) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut list = [0_u8; 4096];
    let length = match fs::flistxattr(file, &mut list) {
        Ok(0) | Err(Errno::NOTSUP) => return Ok(Vec::new()),
        // More names than anybody needs: they are left out.
        Err(Errno::RANGE | Errno::TOOBIG) => return Ok(Vec::new()),
        length => length?,
    };
    let mut kept = Vec::new();
    for name in list[..length].split(|byte| *byte == 0) {
        let wanted = name == b"security.capability"
            || (name.starts_with(b"user.") && !name.starts_with(b"user.overlay."))
            || name.starts_with(b"system.posix_acl_");
        if !wanted {
            continue;
        }
        let mut value = Vec::with_capacity(LARGEST_ATTRIBUTE);
        match fs::fgetxattr(file, name, rustix::buffer::spare_capacity(&mut value)) {
            Ok(_) => kept.push((name.to_vec(), value)),
            Err(Errno::NODATA | Errno::NOTSUP | Errno::RANGE | Errno::TOOBIG) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(kept)
}

/// Collects bytes and hands them on in large pieces.
#[derive(Debug)]
struct Pieces {
    sender: mpsc::Sender<Result<Bytes, Error>>,
    buffer: BytesMut,
}

impl Pieces {
    /// Reads at most `most` bytes of a file into the next piece.
    fn read_from(&mut self, file: BorrowedFd<'_>, most: u64) -> io::Result<u64> {
        self.make_room()?;
        let room = PIECE.saturating_sub(self.buffer.len()).min(usize::try_from(most).unwrap_or(usize::MAX));
        let before = self.buffer.len();
        // Zeroing what is overwritten at once costs a tenth of the copy, and needs no unsafe.
        self.buffer.resize(before + room, 0);
        let read = loop {
            match rustix::io::read(file, &mut self.buffer[before..]) {
                Err(Errno::INTR) => {}
                read => break read,
            }
        };
        self.buffer.truncate(before + *read.as_ref().unwrap_or(&0));
        Ok(read? as u64)
    }

    fn make_room(&mut self) -> io::Result<()> {
        if self.buffer.len() >= PIECE {
            self.flush()?;
        }
        self.buffer.reserve(PIECE.saturating_sub(self.buffer.len()));
        Ok(())
    }
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.make_room()?;
        let step = bytes.len().min(PIECE - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..step]);
        Ok(step)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let gone = |_| io::Error::new(io::ErrorKind::ConnectionAborted, "nobody reads the archive any more");
        self.sender.blocking_send(Ok(self.buffer.split().freeze())).map_err(gone)
    }
}
