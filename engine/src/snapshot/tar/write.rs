//! Writing tar archives: ustar headers, with a PAX header where they do not suffice.

use std::io::{self, Write};

use super::{BLOCK, Entry, Kind};

/// An archive in the making. It is complete after [`finish`](Self::finish).
#[derive(Debug)]
pub struct Writer<W> {
    writer: W,
}

impl<W: Write> Writer<W> {
    /// Writes to `writer` from here on.
    pub fn new(writer: W) -> Self {
        Self { writer }
    }

    /// Adds an entry; `contents` are those of a file, whose `size` is taken from them.
    pub fn entry(&mut self, entry: &Entry, contents: &[u8]) -> io::Result<()> {
        self.header(&Entry { size: contents.len() as u64, ..entry.clone() })?;
        self.writer.write_all(contents)?;
        self.pad(contents.len() as u64)
    }

    /// Adds a header alone; `entry.size` bytes and [`pad`](Self::pad) are to follow.
    pub fn header(&mut self, entry: &Entry) -> io::Result<()> {
        let extension = extension(entry);
        if !extension.is_empty() {
            let description =
                Entry { size: extension.len() as u64, ..Entry::new(Kind::File, *b"PaxHeaders/entry", 0o644) };
            self.writer.write_all(&block(&description, b'x'))?;
            self.writer.write_all(&extension)?;
            self.pad(extension.len() as u64)?;
        }
        let kind = match entry.kind {
            Kind::File => b'0',
            Kind::Link => b'1',
            Kind::Symlink => b'2',
            Kind::Character => b'3',
            Kind::Block => b'4',
            Kind::Directory => b'5',
            Kind::Fifo => b'6',
        };
        self.writer.write_all(&block(entry, kind))
    }

    /// Fills up the last block of contents of this size.
    pub fn pad(&mut self, size: u64) -> io::Result<()> {
        let padding = size.wrapping_neg() % BLOCK as u64;
        self.writer.write_all(&[0; BLOCK][..usize::try_from(padding).unwrap_or(0)])
    }

    /// Where the archive goes, for contents that are written piece by piece.
    pub fn get_mut(&mut self) -> &mut W {
        &mut self.writer
    }

    /// Writes the end mark.
    pub fn finish(mut self) -> io::Result<W> {
        self.writer.write_all(&[0; 2 * BLOCK])?;
        Ok(self.writer)
    }
}

const NAME: usize = 100;
const MAX_SIZE: u64 = 0o777_7777_7777;
const MAX_OWNER: u64 = 0o777_7777;

fn extension(entry: &Entry) -> Vec<u8> {
    let mut records = Vec::new();
    let mut add = |key: &[u8], value: &[u8]| record(&mut records, key, value);
    if entry.path.len() > NAME {
        add(b"path", &entry.path);
    }
    if entry.link.len() > NAME {
        add(b"linkpath", &entry.link);
    }
    for (key, value, most) in
        [("size", entry.size, MAX_SIZE), ("uid", entry.user, MAX_OWNER), ("gid", entry.group, MAX_OWNER)]
    {
        if value > most {
            add(key.as_bytes(), value.to_string().as_bytes());
        }
    }
    let (seconds, nanoseconds) = entry.modified;
    if nanoseconds > 0 || seconds < 0 || seconds.cast_unsigned() > MAX_SIZE {
        // A fraction before 1970 counts backwards.
        let text = match (seconds, nanoseconds) {
            (seconds, 0) => seconds.to_string(),
            (..0, nanoseconds) => format!("-{}.{:09}", -(seconds + 1), 1_000_000_000 - nanoseconds),
            _ => format!("{seconds}.{nanoseconds:09}"),
        };
        add(b"mtime", text.as_bytes());
    }
    for (name, value) in &entry.attributes {
        add(&[b"SCHILY.xattr.", name.as_slice()].concat(), value);
    }
    records
}

/// `length key=value\n`, the length counting itself.
fn record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length.to_string().len() + rest != length {
        length = length.to_string().len() + rest;
    }
    records.extend_from_slice(format!("{length} ").as_bytes());
    records.extend_from_slice(key);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}

fn block(entry: &Entry, kind: u8) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &entry.path[..entry.path.len().min(NAME)]);
    put(100, format!("{:07o}", entry.mode & 0o7777).as_bytes());
    put(108, format!("{:07o}", entry.user.min(MAX_OWNER)).as_bytes());
    put(116, format!("{:07o}", entry.group.min(MAX_OWNER)).as_bytes());
    put(124, format!("{:011o}", entry.size.min(MAX_SIZE)).as_bytes());
    put(136, format!("{:011o}", u64::try_from(entry.modified.0).unwrap_or(0).min(MAX_SIZE)).as_bytes());
    put(148, b"        ");
    put(156, &[kind]);
    put(157, &entry.link[..entry.link.len().min(NAME)]);
    put(257, b"ustar\x0000");
    if matches!(entry.kind, Kind::Character | Kind::Block) {
        put(329, format!("{:07o}", entry.device.0.min(MAX_OWNER)).as_bytes());
        put(337, format!("{:07o}", entry.device.1.min(MAX_OWNER)).as_bytes());
    }
    let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    block
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::Archive;
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let long = "long/".repeat(60).into_bytes();
        let entries = [
            Entry { user: 5_000_000, modified: (-1, 500_000_000), ..Entry::new(Kind::File, *b"f", 0o4755) },
            Entry { modified: (-7, 0), ..Entry::new(Kind::Directory, long.clone(), 0o755) },
            Entry { modified: (7, 1), ..Entry::new(Kind::Symlink, *b"s", 0o777).to(long) },
            Entry { device: (1, 3), ..Entry::new(Kind::Character, *b"c", 0o666) },
            Entry { attributes: vec![(b"user.x".to_vec(), vec![0, 255, b'\n'])], ..Entry::new(Kind::Fifo, *b"p", 0) },
        ];
        let mut writer = Writer::new(Vec::new());
        for entry in &entries {
            writer.entry(entry, if entry.kind == Kind::File { b"contents" } else { b"" }).unwrap();
        }
        let bytes = writer.finish().unwrap();
        let mut archive = Archive::new(bytes.as_slice());
        for mut entry in entries {
            entry.size = if entry.kind == Kind::File { 8 } else { 0 };
            assert_eq!(archive.next_entry().unwrap().unwrap(), entry);
        }
        assert_eq!(archive.next_entry().unwrap(), None);
    }
}
