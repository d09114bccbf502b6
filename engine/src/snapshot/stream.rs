//! Hashing what passes by.

use std::io::{self, BufRead, Read};

use super::pieces::Source;
use crate::oci::{Digest, Hasher};

/// An archive that knows at its end what it was.
pub(super) trait Archived: BufRead {
    /// Reads to the end: the digest of everything, and how much that was.
    fn finish(self) -> io::Result<(Digest, u64)>;
}

/// Hashes each buffer of `reader` when it is first seen, in one go.
#[derive(Debug)]
pub(super) struct Hashing<R> {
    reader: R,
    hasher: Hasher,
    /// Bytes of the reader's buffer that have been hashed and not consumed.
    hashed: usize,
    total: u64,
}

impl<R: BufRead> Hashing<R> {
    pub(super) fn new(reader: R) -> Self {
        Self { reader, hasher: Hasher::new(), hashed: 0, total: 0 }
    }
}

impl<R: BufRead> Archived for Hashing<R> {
    fn finish(mut self) -> io::Result<(Digest, u64)> {
        read_to_end(&mut self)?;
        Ok((self.hasher.finish(), self.total))
    }
}

/// Whoever gave the pieces has hashed them.
impl Archived for Source {
    fn finish(mut self) -> io::Result<(Digest, u64)> {
        read_to_end(&mut self)?;
        self.hashed().ok_or_else(|| io::Error::other("the pieces of an archive were not hashed"))
    }
}

fn read_to_end(reader: &mut impl BufRead) -> io::Result<()> {
    loop {
        let length = reader.fill_buf()?.len();
        if length == 0 {
            return Ok(());
        }
        reader.consume(length);
    }
}

impl<R: BufRead> BufRead for Hashing<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let buffer = self.reader.fill_buf()?;
        if let Some(new) = buffer.get(self.hashed..).filter(|new| !new.is_empty()) {
            self.hasher.update(new);
            self.total += new.len() as u64;
            self.hashed = buffer.len();
        }
        Ok(buffer)
    }

    fn consume(&mut self, length: usize) {
        self.hashed = self.hashed.saturating_sub(length);
        self.reader.consume(length);
    }
}

impl<R: BufRead> Read for Hashing<R> {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        super::pieces::read_buffered(self, target)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_byte_is_hashed_once() {
        let bytes: Vec<u8> = (0..10_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let mut hashing = Hashing::new(io::BufReader::with_capacity(100, bytes.as_slice()));
        let mut piece = [0; 33];
        for _ in 0..50 {
            hashing.read_exact(&mut piece).unwrap();
        }
        assert_eq!(hashing.finish().unwrap(), (Digest::of(&bytes), 10_000));
    }
}
