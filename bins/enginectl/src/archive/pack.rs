//! Files of this machine as a tar archive.

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use tar::{Builder, EntryType, Header};

/// Deeper directories are a loop of mounts, or a joke.
const DEEPEST: usize = 1024;
/// What is read of a file at once.
const BUFFER: usize = 256 << 10;
/// What the contents of a file are filled up to a multiple of.
const BLOCK: u64 = 512;

/// What is packed, and what it is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    /// A file, link or directory.
    pub(crate) path: PathBuf,
    /// The name of the first entry; without one, what is in the directory is packed.
    pub(crate) name: Option<String>,
}

/// Packs it. Links are packed as links.
pub(crate) fn pack(source: &Source, out: &mut dyn Write) -> io::Result<()> {
    let mut packer = Packer { builder: Builder::new(out), buffer: vec![0; BUFFER], linked: HashMap::new() };
    let metadata = fs::symlink_metadata(&source.path).map_err(about(&source.path))?;
    match &source.name {
        Some(name) => packer.entry(&source.path, Path::new(name), &metadata, 0)?,
        None => packer.children(&source.path, Path::new(""), 0)?,
    }
    packer.builder.into_inner()?.flush()
}

struct Packer<W: Write> {
    builder: Builder<W>,
    buffer: Vec<u8>,
    linked: HashMap<(u64, u64), PathBuf>,
}

impl<W: Write> Packer<W> {
    fn entry(&mut self, path: &Path, name: &Path, metadata: &Metadata, depth: usize) -> io::Result<()> {
        let kind = metadata.file_type();
        let mut header = Header::new_gnu();
        header.set_metadata(metadata);
        header.set_size(0);
        let identity = (metadata.dev(), metadata.ino());
        if !kind.is_dir() && metadata.nlink() > 1 {
            if let Some(first) = self.linked.get(&identity) {
                header.set_entry_type(EntryType::Link);
                return self.builder.append_link(&mut header, name, first);
            }
            self.linked.insert(identity, name.to_owned());
        }
        if kind.is_dir() {
            header.set_entry_type(EntryType::Directory);
            self.builder.append_data(&mut header, name.join(""), io::empty())?;
            return self.children(path, name, depth);
        }
        if kind.is_symlink() {
            header.set_entry_type(EntryType::Symlink);
            let target = fs::read_link(path).map_err(about(path))?;
            return self.builder.append_link(&mut header, name, target);
        }
        if kind.is_file() {
            let file = File::open(path).map_err(about(path))?;
            let metadata = file.metadata().map_err(about(path))?;
            header.set_entry_type(EntryType::Regular);
            header.set_size(metadata.len());
            self.builder.append_data(&mut header, name, io::empty())?;
            return self.contents(&file, metadata.len(), path);
        }
        if kind.is_socket() {
            return Ok(());
        }
        header.set_entry_type(if kind.is_char_device() {
            EntryType::Char
        } else if kind.is_block_device() {
            EntryType::Block
        } else {
            EntryType::Fifo
        });
        if !kind.is_fifo() {
            header.set_device_major(rustix::fs::major(metadata.rdev()))?;
            header.set_device_minor(rustix::fs::minor(metadata.rdev()))?;
        }
        self.builder.append_data(&mut header, name, io::empty())
    }

    /// The contents behind a header, in large pieces, and the zeros that fill the last block. A file that grows has the size that
    /// was said; one that shrinks is filled up.
    fn contents(&mut self, file: &File, size: u64, path: &Path) -> io::Result<()> {
        let mut contents = file.take(size).chain(io::repeat(0)).take(size.next_multiple_of(BLOCK));
        loop {
            match contents.read(&mut self.buffer) {
                Ok(0) => return Ok(()),
                Ok(read) => self.builder.get_mut().write_all(&self.buffer[..read])?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(about(path)(error)),
            }
        }
    }

    fn children(&mut self, path: &Path, name: &Path, depth: usize) -> io::Result<()> {
        if depth > DEEPEST {
            return Err(io::Error::other(format!("{} is within {DEEPEST} directories", path.display())));
        }
        let mut names: Vec<_> = fs::read_dir(path)
            .map_err(about(path))?
            .map(|entry| entry.map(|entry| entry.file_name()))
            .collect::<io::Result<_>>()
            .map_err(about(path))?;
        names.sort_by(|one, other| one.as_bytes().cmp(other.as_bytes()));
        for child in names {
            let below = path.join(&child);
            match fs::symlink_metadata(&below) {
                // It was there a moment ago.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                metadata => self.entry(&below, &name.join(&child), &metadata.map_err(about(&below))?, depth + 1)?,
            }
        }
        Ok(())
    }
}

fn about(path: &Path) -> impl FnOnce(io::Error) -> io::Error + use<> {
    let shown = path.display().to_string();
    move |error| io::Error::new(error.kind(), format!("{shown}: {error}"))
}
