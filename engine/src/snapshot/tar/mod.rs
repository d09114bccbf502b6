//! Tar archives, read and written. Reading: ustar, GNU long names, files with holes and PAX, the way Go's `archive/tar` (and so Docker) reads them, with
//! bounds on everything that is kept in memory. Nothing here touches a file system.

mod sparse;
mod write;

use std::io::{self, BufRead};

use bytes::Bytes;

use super::pieces::Pieces;
pub use sparse::Extent;
pub use write::Writer;

const BLOCK: usize = 512;
/// The largest PAX header: extended attributes of 64 KiB each fit in, several times.
const MAX_PAX: u64 = 1 << 20;
/// The longest name, in bytes: what the kernel takes.
pub(super) const MAX_NAME: u64 = 4096;
/// Headers that describe one following entry.
const MAX_META: usize = 16;

/// What is wrong with an archive.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Reading failed.
    #[error(transparent)]
    Read(#[from] io::Error),
    /// The archive ends within an entry.
    #[error("the archive ends early")]
    Truncated,
    /// Not a tar archive, or a damaged one.
    #[error("invalid tar header: {0}")]
    Header(String),
    /// Valid, but nothing that an image holds.
    #[error("unsupported tar entry {name:?}: {what}")]
    Unsupported {
        /// The entry.
        name: String,
        /// What it is.
        what: &'static str,
    },
}

impl Entry {
    /// An entry without contents that belongs to root and was changed in 1970.
    pub fn new(kind: Kind, path: impl Into<Vec<u8>>, mode: u32) -> Self {
        Self {
            kind,
            path: path.into(),
            link: Vec::new(),
            size: 0,
            mode,
            user: 0,
            group: 0,
            modified: (0, 0),
            device: (0, 0),
            attributes: Vec::new(),
            extents: None,
        }
    }

    /// The same with a target, for links.
    #[must_use]
    pub fn to(mut self, link: impl Into<Vec<u8>>) -> Self {
        self.link = link.into();
        self
    }
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file; its bytes follow.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A hard link to an earlier entry.
    Link,
    /// A character device.
    Character,
    /// A block device.
    Block,
    /// A named pipe.
    Fifo,
}

/// The header of an entry, as the archive says, unchecked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub kind: Kind,
    /// Its name, without NUL.
    pub path: Vec<u8>,
    /// The target of a link, without NUL.
    pub link: Vec<u8>,
    /// Bytes of the file, which follow unless it has holes; 0 except for files.
    pub size: u64,
    /// The permission bits, set-id and sticky bits.
    pub mode: u32,
    /// The owner.
    pub user: u64,
    /// The group.
    pub group: u64,
    /// When its content was changed: seconds and nanoseconds since 1970.
    pub modified: (i64, u32),
    /// Major and minor number of a device.
    pub device: (u64, u64),
    /// Extended attributes (`SCHILY.xattr.*`).
    pub attributes: Vec<(Vec<u8>, Vec<u8>)>,
    /// Of a file with holes, what else there is of it: these parts follow, one behind the other.
    pub extents: Option<Vec<Extent>>,
}

/// An archive that is read once, from its beginning to its end.
#[derive(Debug)]
pub struct Archive<R> {
    reader: R,
    /// Bytes of the current entry that have not been read.
    rest: u64,
    padding: u64,
    ended: bool,
}

#[derive(Default)]
struct Extension {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    user: Option<u64>,
    group: Option<u64>,
    modified: Option<(i64, u32)>,
    attributes: Vec<(Vec<u8>, Vec<u8>)>,
    sparse: sparse::Records,
}

impl<R: BufRead> Archive<R> {
    /// Reads from the beginning of `reader`.
    pub fn new(reader: R) -> Self {
        Self { reader, rest: 0, padding: 0, ended: false }
    }

    /// The next entry; what was not read of the one before is skipped.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, Error> {
        let skipped = self.rest + self.padding;
        (self.rest, self.padding) = (0, 0);
        self.skip(skipped)?;
        let mut extension = Extension::default();
        let (mut name, mut link) = (None, None);
        let mut described = false;
        for _ in 0..=MAX_META {
            let Some(block) = self.header()? else {
                if described {
                    return Err(Error::Truncated);
                }
                return Ok(None);
            };
            let kind = block[156];
            let size = size_of(&block)?;
            match kind {
                b'g' => {
                    // Docker and Go do not apply global headers; `git archive` leaves a comment in one.
                    self.body(size, MAX_PAX)?;
                    continue;
                }
                b'x' => extension = pax(&self.body(size, MAX_PAX)?)?,
                b'L' => name = Some(until_nul(&self.body(size, MAX_NAME + 1)?).to_vec()),
                b'K' => link = Some(until_nul(&self.body(size, MAX_NAME + 1)?).to_vec()),
                _ => return self.entry(&block, kind, size, extension, name, link).map(Some),
            }
            described = true;
        }
        Err(Error::Header("too many headers describe one entry".to_owned()))
    }

    fn entry(
        &mut self,
        block: &[u8; BLOCK],
        kind: u8,
        size: u64,
        mut extension: Extension,
        name: Option<Vec<u8>>,
        link: Option<Vec<u8>>,
    ) -> Result<Entry, Error> {
        let path = name.or(extension.path.take()).unwrap_or_else(|| name_of(block));
        let link = link.or(extension.link.take()).unwrap_or_else(|| until_nul(&block[157..257]).to_vec());
        let unsupported = |what| Err(Error::Unsupported { name: show(&path), what });
        let kind = match kind {
            0 if path.ends_with(b"/") => Kind::Directory,
            0 | b'0' | b'7' | b'S' => Kind::File,
            b'1' => Kind::Link,
            b'2' => Kind::Symlink,
            b'3' => Kind::Character,
            b'4' => Kind::Block,
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            _ => return unsupported("an entry of an unknown type"),
        };
        // Other entries have no body, whatever size they give; so says Go, and so must we, or we would read another
        // archive than Docker does.
        let size = if kind == Kind::File { extension.size.unwrap_or(size) } else { 0 };
        if path.len() as u64 > MAX_NAME || link.len() as u64 > MAX_NAME {
            return Err(Error::Header(format!("the name {:?}... is too long", show(&path[..path.len().min(80)]))));
        }
        let sparse = match kind {
            Kind::File => sparse::read(block, &mut extension, size, &mut Following(self))?,
            _ => None,
        };
        let map_size = sparse.as_ref().map_or(0, |sparse| sparse.map_size);
        let (path, whole, extents) = match sparse {
            Some(sparse) => (sparse.name.unwrap_or(path), sparse.size, Some(sparse.extents)),
            None => (path, size, None),
        };
        self.rest = size - map_size;
        self.padding = size.wrapping_neg() % BLOCK as u64;
        size.checked_add(BLOCK as u64).ok_or_else(|| Error::Header("the size is out of range".to_owned()))?;
        let number = |range: std::ops::Range<usize>| unsigned(&block[range]);
        let device =
            if matches!(kind, Kind::Character | Kind::Block) { (number(329..337)?, number(337..345)?) } else { (0, 0) };
        Ok(Entry {
            kind,
            path,
            link,
            size: whole,
            mode: u32::try_from(number(100..108)? & 0o7777).unwrap_or(0),
            user: extension.user.map_or_else(|| number(108..116), Ok)?,
            group: extension.group.map_or_else(|| number(116..124), Ok)?,
            modified: extension.modified.map_or_else(|| signed(&block[136..148]).map(|seconds| (seconds, 0)), Ok)?,
            device,
            attributes: extension.attributes,
            extents,
        })
    }

    /// The next bytes of the current entry as they lie in the reader's buffer; empty at its end.
    pub fn chunk(&mut self) -> Result<&[u8], Error> {
        if self.rest == 0 {
            return Ok(&[]);
        }
        let chunk = self.reader.fill_buf()?;
        if chunk.is_empty() {
            return Err(Error::Truncated);
        }
        let length = usize::try_from(self.rest).unwrap_or(usize::MAX).min(chunk.len());
        Ok(&chunk[..length])
    }

    /// Marks bytes of the last [`chunk`](Self::chunk) as read.
    pub fn consume(&mut self, length: usize) {
        self.rest = self.rest.saturating_sub(length as u64);
        self.reader.consume(length);
    }

    /// As [`chunk`](Self::chunk), read and to be kept.
    pub(crate) fn piece(&mut self) -> Result<Bytes, Error>
    where
        R: Pieces,
    {
        if self.rest == 0 {
            return Ok(Bytes::new());
        }
        let piece = self.reader.piece(usize::try_from(self.rest).unwrap_or(usize::MAX))?;
        if piece.is_empty() {
            return Err(Error::Truncated);
        }
        self.rest -= piece.len() as u64;
        Ok(piece)
    }

    /// All bytes of the current entry, if they are at most `limit`.
    pub fn contents(&mut self, limit: u64) -> Result<Option<Vec<u8>>, Error> {
        if self.rest > limit {
            return Ok(None);
        }
        let mut contents = Vec::new();
        loop {
            let chunk = self.chunk()?;
            let length = chunk.len();
            if length == 0 {
                return Ok(Some(contents));
            }
            contents.extend_from_slice(chunk);
            self.consume(length);
        }
    }

    /// Bytes of the current entry that have not been read.
    pub fn rest(&self) -> u64 {
        self.rest
    }

    /// The reader.
    pub fn get_ref(&self) -> &R {
        &self.reader
    }

    /// The reader, where the archive has been read to.
    pub fn into_inner(self) -> R {
        self.reader
    }

    fn skip(&mut self, mut length: u64) -> Result<(), Error> {
        while length > 0 {
            let available = self.reader.fill_buf()?.len();
            if available == 0 {
                return Err(Error::Truncated);
            }
            let step = usize::try_from(length).unwrap_or(usize::MAX).min(available);
            self.reader.consume(step);
            length -= step as u64;
        }
        Ok(())
    }

    fn body(&mut self, size: u64, limit: u64) -> Result<Vec<u8>, Error> {
        if size > limit {
            return Err(Error::Header(format!("a header of {size} bytes is larger than {limit} bytes")));
        }
        (self.rest, self.padding) = (size, size.wrapping_neg() % BLOCK as u64);
        let body = self.contents(limit)?.unwrap_or_default();
        let padding = std::mem::take(&mut self.padding);
        self.skip(padding)?;
        Ok(body)
    }

    fn block(&mut self) -> Result<Option<[u8; BLOCK]>, Error> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            let available = self.reader.fill_buf()?;
            if available.is_empty() {
                return if filled == 0 { Ok(None) } else { Err(Error::Truncated) };
            }
            let step = available.len().min(BLOCK - filled);
            block[filled..filled + step].copy_from_slice(&available[..step]);
            self.reader.consume(step);
            filled += step;
        }
        Ok(Some(block))
    }

    /// A header block whose sum is right; `None` at the end.
    fn header(&mut self) -> Result<Option<[u8; BLOCK]>, Error> {
        if self.ended {
            return Ok(None);
        }
        let Some(block) = self.block()? else {
            self.ended = true;
            return Ok(None);
        };
        if block != [0; BLOCK] {
            return if is_header(&block) { Ok(Some(block)) } else { Err(Error::Header("wrong check sum".to_owned())) };
        }
        self.ended = true;
        match self.block()? {
            Some(next) if next != [0; BLOCK] => Err(Error::Header("an entry follows the end mark".to_owned())),
            _ => Ok(None),
        }
    }
}

/// What follows a header, block by block.
struct Following<'a, R>(&'a mut Archive<R>);

impl<R: BufRead> sparse::Source for Following<'_, R> {
    fn block(&mut self) -> Result<[u8; BLOCK], Error> {
        self.0.block()?.ok_or(Error::Truncated)
    }
}

/// Whether the first block of a file is one of a tar archive, an empty archive included.
pub fn looks_like_tar(start: &[u8]) -> bool {
    match start.first_chunk::<BLOCK>() {
        Some(block) => *block == [0; BLOCK] || is_header(block),
        None => false,
    }
}

fn is_header(block: &[u8; BLOCK]) -> bool {
    let Ok(stated) = octal(&block[148..156]) else { return false };
    let (mut unsigned, mut signed) = (8 * u64::from(b' '), 8 * i64::from(b' '));
    for byte in block[..148].iter().chain(&block[156..]) {
        unsigned += u64::from(*byte);
        signed += i64::from(byte.cast_signed());
    }
    stated == unsigned || i64::try_from(stated) == Ok(signed)
}

fn name_of(block: &[u8; BLOCK]) -> Vec<u8> {
    let name = until_nul(&block[..100]);
    // GNU headers keep times where POSIX ones keep the first part of a long name.
    let prefix = if &block[257..263] == b"ustar\0" { until_nul(&block[345..500]) } else { &[] };
    if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
}

fn size_of(block: &[u8; BLOCK]) -> Result<u64, Error> {
    unsigned(&block[124..136])
}

fn until_nul(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn octal(field: &[u8]) -> Result<u64, Error> {
    let text = until_nul(field).trim_ascii();
    let mut value: u64 = 0;
    for digit in text {
        let digit = match digit {
            b'0'..=b'7' => u64::from(digit - b'0'),
            _ => return Err(Error::Header(format!("{:?} is no octal number", show(text)))),
        };
        value = value.checked_mul(8).and_then(|v| v.checked_add(digit)).ok_or_else(|| out_of_range(text))?;
    }
    Ok(value)
}

fn signed(field: &[u8]) -> Result<i64, Error> {
    let Some(first) = field.first().filter(|byte| **byte & 0x80 != 0) else {
        return i64::try_from(octal(field)?).map_err(|_| out_of_range(field));
    };
    // Two's complement, the top bit being the mark of this form and the one below it the sign.
    let mut value: i128 = if first & 0x40 != 0 { -1 } else { 0 };
    for (at, byte) in field.iter().enumerate() {
        let (byte, bits) = if at == 0 { (byte & 0x3f, 6) } else { (*byte, 8) };
        value = (value << bits) | i128::from(byte);
    }
    i64::try_from(value).map_err(|_| out_of_range(field))
}

fn unsigned(field: &[u8]) -> Result<u64, Error> {
    u64::try_from(signed(field)?).map_err(|_| out_of_range(field))
}

fn out_of_range(field: &[u8]) -> Error {
    Error::Header(format!("the number {:?} is out of range", show(field)))
}

fn pax(body: &[u8]) -> Result<Extension, Error> {
    let mut extension = Extension::default();
    let mut rest = body;
    while !rest.is_empty() {
        let invalid = || Error::Header("a malformed PAX record".to_owned());
        let space = rest.iter().position(|byte| *byte == b' ').ok_or_else(invalid)?;
        let length: usize = text(&rest[..space]).and_then(|text| text.parse().ok()).ok_or_else(invalid)?;
        let record = rest.get(space + 1..length).and_then(|record| record.strip_suffix(b"\n")).ok_or_else(invalid)?;
        rest = &rest[length..];
        let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(invalid)?;
        let (key, value) = (&record[..equals], &record[equals + 1..]);
        let number = || text(value).and_then(|text| text.parse::<u64>().ok()).ok_or_else(invalid);
        match key {
            b"path" | b"linkpath" => {
                if value.contains(&0) {
                    return Err(Error::Header("a name with NUL".to_owned()));
                }
                let value = Some(value.to_vec()).filter(|value| !value.is_empty());
                if key == b"path" { extension.path = value } else { extension.link = value }
            }
            b"size" => extension.size = Some(number()?),
            b"uid" => extension.user = Some(number()?),
            b"gid" => extension.group = Some(number()?),
            b"mtime" => extension.modified = Some(text(value).and_then(time).ok_or_else(invalid)?),
            _ => {
                if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
                    extension.sparse.take(key, value)?;
                } else if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    if name.is_empty() || name.contains(&0) {
                        return Err(invalid());
                    }
                    extension.attributes.retain(|(other, _)| other != name);
                    extension.attributes.push((name.to_vec(), value.to_vec()));
                }
            }
        }
    }
    Ok(extension)
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

/// `-12.5` and the like.
fn time(text: &str) -> Option<(i64, u32)> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digits = &fraction[..fraction.len().min(9)];
    let nanoseconds: u32 = format!("{digits:0<9}").parse().ok()?;
    if whole.starts_with('-') && nanoseconds > 0 {
        return Some((seconds.checked_sub(1)?, 1_000_000_000 - nanoseconds));
    }
    Some((seconds, nanoseconds))
}

/// For messages.
pub(crate) fn show(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(255)]).into_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn header(name: &str, kind: u8, size: u64) -> Vec<u8> {
        let mut block = vec![0; BLOCK];
        block[..name.len()].copy_from_slice(name.as_bytes());
        block[100..107].copy_from_slice(b"0000644");
        block[108..115].copy_from_slice(b"0000001");
        block[116..123].copy_from_slice(b"0000002");
        block[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
        block[136..147].copy_from_slice(b"00000000012");
        block[156] = kind;
        block[257..263].copy_from_slice(b"ustar\0");
        seal(&mut block);
        block
    }

    fn seal(block: &mut [u8]) {
        block[148..156].fill(b' ');
        let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
        block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    }

    fn padded(mut bytes: Vec<u8>) -> Vec<u8> {
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        bytes
    }

    fn with_body(name: &str, kind: u8, body: &[u8]) -> Vec<u8> {
        [header(name, kind, body.len() as u64), padded(body.to_vec())].concat()
    }

    fn record(key: &str, value: &[u8]) -> Vec<u8> {
        let rest = [format!(" {key}=").as_bytes(), value, b"\n"].concat();
        let mut length = rest.len() + 1;
        while length.to_string().len() + rest.len() != length {
            length = length.to_string().len() + rest.len();
        }
        [length.to_string().into_bytes(), rest].concat()
    }

    fn read(bytes: &[u8]) -> Result<Vec<(Entry, Vec<u8>)>, Error> {
        // A small buffer, so that everything is split somewhere.
        let mut archive = Archive::new(io::BufReader::with_capacity(7, bytes));
        let mut entries = Vec::new();
        while let Some(entry) = archive.next_entry()? {
            let contents = archive.contents(1 << 20)?.unwrap_or_default();
            entries.push((entry, contents));
        }
        Ok(entries)
    }

    #[test]
    fn plain_entries_are_read() {
        let bytes = [with_body("a", b'0', b"hello"), header("d/", 0, 0), vec![0; 1024], b"junk".to_vec()].concat();
        let entries = read(&bytes).unwrap();
        assert_eq!(entries.len(), 2);
        let (entry, contents) = &entries[0];
        assert_eq!((entry.kind, entry.mode, entry.user, entry.group), (Kind::File, 0o644, 1, 2));
        assert_eq!((entry.path.as_slice(), entry.modified, contents.as_slice()), (&b"a"[..], (10, 0), &b"hello"[..]));
        assert_eq!(entries[1].0.kind, Kind::Directory);
        assert!(read(&[]).unwrap().is_empty());
        assert!(read(&[0; 512]).unwrap().is_empty());
    }

    #[test]
    fn unread_contents_are_skipped() {
        let bytes = [with_body("a", b'0', &[7; 1000]), with_body("b", b'0', b"x")].concat();
        let mut archive = Archive::new(bytes.as_slice());
        archive.next_entry().unwrap().unwrap();
        archive.chunk().unwrap();
        archive.consume(3);
        assert_eq!(archive.rest(), 997);
        assert_eq!(archive.next_entry().unwrap().unwrap().path, b"b");
    }

    #[test]
    fn long_names_come_from_gnu_and_pax_headers() {
        let long = "x/".repeat(500);
        let pax_body = [
            record("path", b"p"),
            record("linkpath", "ü".as_bytes()),
            record("mtime", b"-1.25"),
            record("uid", b"70000"),
            record("size", b"3"),
            record("SCHILY.xattr.security.capability", &[1, 0, 10]),
            record("comment", b"ignored"),
        ]
        .concat();
        let bytes = [
            with_body("././@LongLink", b'L', format!("{long}\0").as_bytes()),
            header("short", b'5', 0),
            with_body("x", b'x', &pax_body),
            header("q", b'0', 0),
            padded(b"abc".to_vec()),
            with_body("g", b'g', &record("path", b"global")),
            header("last", b'6', 0),
        ]
        .concat();
        let entries = read(&bytes).unwrap();
        assert_eq!(entries[0].0.path, long.as_bytes());
        let (entry, contents) = &entries[1];
        assert_eq!((entry.path.as_slice(), entry.link.as_slice()), (&b"p"[..], "ü".as_bytes()));
        assert_eq!((entry.modified, entry.user, entry.size), ((-2, 750_000_000), 70000, 3));
        assert_eq!(entry.attributes, [(b"security.capability".to_vec(), vec![1, 0, 10])]);
        assert_eq!(contents, b"abc");
        assert_eq!((entries[2].0.path.as_slice(), entries[2].0.kind), (&b"last"[..], Kind::Fifo));
    }

    /// The old way: parts in the header, and how large the file is.
    fn with_map(mut block: Vec<u8>, parts: &[(u64, u64)], size: u64) -> Vec<u8> {
        for (at, (offset, length)) in parts.iter().enumerate() {
            let begin = 386 + 24 * at;
            block[begin..begin + 11].copy_from_slice(format!("{offset:011o}").as_bytes());
            block[begin + 12..begin + 23].copy_from_slice(format!("{length:011o}").as_bytes());
        }
        block[483..494].copy_from_slice(format!("{size:011o}").as_bytes());
        block[257..265].copy_from_slice(b"ustar  \0");
        seal(&mut block);
        [block, padded(b"hello".to_vec())].concat()
    }

    fn with_more(mut block: Vec<u8>) -> Vec<u8> {
        block[482] = 1;
        seal(&mut block);
        block
    }

    fn sparse_as(records: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
        let records: Vec<u8> =
            records.iter().flat_map(|(key, value)| record(&format!("GNU.sparse.{key}"), value.as_bytes())).collect();
        [with_body("x", b'x', &records), with_body("GNUSparseFile.0/f", b'0', body)].concat()
    }

    #[test]
    fn files_with_holes_are_read_in_every_form() {
        let parts =
            [Extent { offset: 0, length: 2 }, Extent { offset: 6, length: 3 }, Extent { offset: 20, length: 0 }];
        let within = [b"3\n0\n2\n6\n3\n20\n0\n".to_vec(), vec![0; BLOCK - 15], b"hello".to_vec()].concat();
        let forms = [
            with_map(header("name", b'S', 5), &[(0, 2), (6, 3), (20, 0)], 20),
            sparse_as(
                &[
                    ("size", "20"),
                    ("numblocks", "3"),
                    ("offset", "0"),
                    ("numbytes", "2"),
                    ("offset", "6"),
                    ("numbytes", "3"),
                    ("offset", "20"),
                    ("numbytes", "0"),
                    ("name", "name"),
                ],
                b"hello",
            ),
            sparse_as(&[("size", "20"), ("map", "0,2,6,3,20,0"), ("name", "name")], b"hello"),
            sparse_as(&[("major", "1"), ("minor", "0"), ("realsize", "20"), ("name", "name")], &within),
        ];
        for (form, bytes) in forms.iter().enumerate() {
            let entries = read(&[bytes.clone(), with_body("next", b'0', b"x")].concat()).unwrap();
            let (entry, contents) = &entries[0];
            assert_eq!((entry.path.as_slice(), entry.size, entry.kind), (&b"name"[..], 20, Kind::File), "form {form}");
            assert_eq!(
                (entry.extents.as_deref(), contents.as_slice()),
                (Some(&parts[..]), &b"hello"[..]),
                "form {form}"
            );
            assert_eq!((entries[1].0.path.as_slice(), &entries[1].0.extents), (&b"next"[..], &None), "form {form}");
        }
    }

    #[test]
    fn posix_prefixes_and_binary_numbers_are_read() {
        let mut block = header("name", b'0', 0);
        block[345..348].copy_from_slice(b"a/b");
        block[136..148].copy_from_slice(&[0xff, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 0xfe]);
        block[124..136].copy_from_slice(&[0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
        seal(&mut block);
        let entries = read(&[block, padded(b"hi".to_vec())].concat()).unwrap();
        assert_eq!((entries[0].0.path.as_slice(), entries[0].0.modified), (&b"a/b/name"[..], (-2, 0)));
        assert_eq!(entries[0].1, b"hi");
    }

    #[test]
    fn damaged_archives_are_errors() {
        let good = with_body("a", b'0', b"hello");
        let mut flipped = good.clone();
        flipped[0] ^= 1;
        let mut negative = header("a", b'0', 0);
        negative[124..136].fill(0xff);
        seal(&mut negative);
        for (what, bytes) in [
            ("cut body", good[..515].to_vec()),
            ("cut padding", [good[..600].to_vec()].concat()),
            ("cut header", good[..100].to_vec()),
            ("wrong sum", flipped),
            ("negative size", negative),
            ("entry after one zero block", [vec![0; 512], good.clone()].concat()),
            ("a description of nothing", with_body("x", b'x', &record("path", b"p"))),
            ("an old map of other parts", with_map(header("s", b'S', 5), &[(0, 4)], 10)),
            ("parts that overlap", with_map(header("s", b'S', 5), &[(0, 4), (3, 1)], 10)),
            ("parts beyond the end", with_map(header("s", b'S', 5), &[(6, 5)], 10)),
            ("a map without an end", with_more(header("s", b'S', 0))),
            (
                "pax sparse without size",
                [with_body("x", b'x', &record("GNU.sparse.map", b"0,5")), good.clone()].concat(),
            ),
            ("pax sparse, half a part", sparse_as(&[("size", "9"), ("map", "0,5,7")], b"hello")),
            ("pax sparse of the future", sparse_as(&[("major", "2"), ("minor", "0"), ("realsize", "9")], b"hello")),
            ("pax sparse without its map", sparse_as(&[("major", "1"), ("minor", "0"), ("realsize", "9")], b"hello")),
            ("pax sparse, many parts", sparse_as(&[("major", "1"), ("minor", "0"), ("realsize", "9")], b"999999999\n")),
            ("pax sparse, a name with NUL", sparse_as(&[("size", "5"), ("map", "0,5"), ("name", "a\0b")], b"hello")),
            ("pax sparse, lengths first", sparse_as(&[("size", "5"), ("numbytes", "5"), ("offset", "0")], b"hello")),
            ("unknown type", header("s", b'V', 0)),
            ("pax length", [with_body("x", b'x', b"99 path=a\n"), good.clone()].concat()),
            ("pax length 0", [with_body("x", b'x', b"0 path=a\n"), good.clone()].concat()),
            ("pax size", [with_body("x", b'x', &record("size", b"-1")), good.clone()].concat()),
            ("pax huge size", [with_body("x", b'x', &record("size", b"18446744073709551615")), good.clone()].concat()),
            ("pax NUL", [with_body("x", b'x', &record("path", b"a\0b")), good.clone()].concat()),
            ("huge pax", header("x", b'x', 2 << 20)),
            ("huge name", header("x", b'L', 8192)),
            ("endless headers", with_body("x", b'g', &record("comment", b"x")).repeat(50)),
        ] {
            // Skipping to the next entry is what meets a cut padding.
            assert!(read(&bytes).is_err(), "{what}");
        }
    }

    #[test]
    fn archives_are_recognised_by_their_first_block() {
        assert!(looks_like_tar(&header("a", b'0', 0)));
        assert!(looks_like_tar(&[0; 1024]));
        assert!(!looks_like_tar(b"{}"));
        assert!(!looks_like_tar(&[b'{'; 512]));
    }

    proptest::proptest! {
        #[test]
        fn damage_is_met_without_panic(flips in proptest::collection::vec((0_usize..4096, proptest::num::u8::ANY), 0..8), length in 0_usize..4096) {
            let mut bytes = [
                with_body("x", b'x', &record("path", b"p")),
                with_body("a", b'0', b"hello"),
                with_body("long", b'L', &[b'n'; 300]),
                header("d", b'5', 0),
                vec![0; 1024],
            ]
            .concat();
            for (at, value) in flips {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = value;
                    // Damage that the sum gives away is no test of what comes after it.
                    let start = at / BLOCK * BLOCK;
                    if bytes[start + 257..start + 262] == *b"ustar" {
                        seal(&mut bytes[start..start + BLOCK]);
                    }
                }
            }
            bytes.truncate(length);
            let _ = read(&bytes);
        }
    }
}
