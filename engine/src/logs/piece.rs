//! One file of a log, which may be packed: read from its beginning as it is unpacked, and from other places in an unpacked copy
//! without a name.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use flate2::bufread::GzDecoder;
use rustix::fs::{MemfdFlags, Mode, OFlags};

use super::record::{Record, nanoseconds};

/// A first record is not looked for beyond this, in bytes.
const LONGEST_RECORD: usize = 128 << 10;

/// What the packed form says of the file that it was made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Origin {
    /// Its inode.
    pub(super) inode: u64,
    /// The time of its first record, in nanoseconds since 1970; 0 when it is not known.
    pub(super) first_time: i64,
}

/// The name of the field in the head of a packed file that has an [`Origin`].
const FIELD: [u8; 4] = [b'E', b'l', 16, 0];

impl Origin {
    /// As it stands in the extra field of the head (RFC 1952, 2.3.1.1).
    pub(super) fn to_bytes(self) -> Vec<u8> {
        [&FIELD[..], &self.inode.to_le_bytes(), &self.first_time.to_le_bytes()].concat()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (inode, first_time) = bytes.strip_prefix(&FIELD)?.split_at_checked(8)?;
        Some(Self {
            inode: u64::from_le_bytes(inode.try_into().ok()?),
            first_time: i64::from_le_bytes(first_time.try_into().ok()?),
        })
    }
}

/// One file of a log.
#[derive(Debug)]
pub(super) struct Piece {
    contents: Contents,
    /// The inode of the file that is open.
    own: u64,
    /// The inode of the file as it was written, which other files may have had since.
    identity: u64,
    /// Of a packed one, if its head tells.
    first_time: Option<i64>,
    /// A packed one that is read from an unpacked copy.
    packed: Option<File>,
}

#[derive(Debug)]
enum Contents {
    Plain(File),
    /// The directory is where a copy can be made.
    Packed(Box<GzDecoder<io::BufReader<File>>>, PathBuf),
}

impl Piece {
    /// A file that is as it was written.
    pub(super) fn plain(file: File) -> io::Result<Self> {
        let own = file.metadata()?.ino();
        Ok(Self { contents: Contents::Plain(file), own, identity: own, first_time: None, packed: None })
    }

    /// A packed file of a log in `directory`.
    pub(super) fn packed(file: File, directory: &Path) -> io::Result<Self> {
        let own = file.metadata()?.ino();
        let decoder = GzDecoder::new(io::BufReader::new(file));
        let origin = decoder.header().and_then(|header| header.extra()).and_then(Origin::from_bytes);
        Ok(Self {
            contents: Contents::Packed(Box::new(decoder), directory.to_owned()),
            own,
            identity: origin.map_or(own, |origin| origin.inode),
            first_time: origin.map(|origin| origin.first_time).filter(|time| *time > 0),
            packed: None,
        })
    }

    /// The inode of the file that is open, which is no other file's as long as this is kept.
    pub(super) fn inode(&self) -> u64 {
        self.own
    }

    /// Whether both are the same file, before or after it was packed.
    pub(super) fn is(&self, other: &Self) -> io::Result<bool> {
        // Both are open: no other file has this inode.
        if self.own == other.own {
            return Ok(true);
        }
        let forms_differ = self.is_packed() != other.is_packed();
        Ok(forms_differ && self.identity == other.identity && self.first_time()? == other.first_time()?)
    }

    fn is_packed(&self) -> bool {
        self.packed.is_some() || matches!(self.contents, Contents::Packed(..))
    }

    /// The time of its first record, in nanoseconds since 1970.
    pub(super) fn first_time(&self) -> io::Result<Option<i64>> {
        let Contents::Plain(file) = &self.contents else { return Ok(self.first_time) };
        let mut block = vec![0; LONGEST_RECORD];
        let mut filled = 0;
        while filled < block.len() && !block[..filled].contains(&b'\n') {
            match file.read_at(&mut block[filled..], filled as u64)? {
                0 => break,
                count => filled += count,
            }
        }
        let line = block[..filled].split(|byte| *byte == b'\n').next();
        Ok(line.and_then(Record::parse).and_then(|record| nanoseconds(record.time)))
    }

    /// Reads on.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.contents {
            Contents::Plain(file) => file.read(buffer),
            Contents::Packed(decoder, _) => decoder.read(buffer),
        }
    }

    /// How far it was read; a packed one is no file that grows, so nobody asks.
    pub(super) fn position(&mut self) -> io::Result<u64> {
        match &mut self.contents {
            Contents::Plain(file) => file.stream_position(),
            Contents::Packed(..) => Ok(0),
        }
    }

    /// The file, unpacked.
    pub(super) fn seekable(&mut self) -> io::Result<&mut File> {
        if let Contents::Packed(decoder, directory) = &mut self.contents {
            let packed = decoder.get_mut().get_mut();
            packed.rewind()?;
            let mut whole = GzDecoder::new(io::BufReader::new(packed));
            let mut copy = nameless(directory)?;
            io::copy(&mut whole, &mut copy)?;
            copy.rewind()?;
            if let Contents::Packed(decoder, _) = std::mem::replace(&mut self.contents, Contents::Plain(copy)) {
                self.packed = Some(decoder.into_inner().into_inner());
            }
        }
        match &mut self.contents {
            Contents::Plain(file) => Ok(file),
            Contents::Packed(..) => Err(io::Error::other("a packed file was not unpacked")),
        }
    }
}

/// A file that is gone with its last user: on the disk of the log, or in memory where a disk has no such files.
fn nameless(directory: &Path) -> io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    match rustix::fs::open(directory, flags, Mode::RUSR | Mode::WUSR) {
        Ok(file) => Ok(file.into()),
        Err(_) => Ok(rustix::fs::memfd_create("log", MemfdFlags::CLOEXEC)?.into()),
    }
}
