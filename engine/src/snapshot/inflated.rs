//! A layer from the bytes that it came in to files: one thread inflates them, another one hashes and unpacks what they were.

use std::io::{self, BufRead};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::decode::Decoded;
use super::pieces::{self, Buffers, Sink};
use super::{Error, Layers, Staged, tar};

/// Bytes that are handed on at once, and how many such pieces may wait.
pub(crate) const PIECE: usize = 256 << 10;
pub(crate) const PIECES: usize = 8;

/// Further pieces that all layers on their way may have together, and one of them alone: many small files take longer than to inflate
/// them and a large one does not, and neither thread is to wait for the other meanwhile.
const FURTHER: usize = 64;
const FURTHER_OF_ONE: usize = 32;

/// How many of the further pieces are left.
#[derive(Debug)]
pub(super) struct Further(AtomicUsize);

impl Default for Further {
    fn default() -> Self {
        Self(AtomicUsize::new(FURTHER))
    }
}

/// Further pieces that a layer has while it is on its way.
struct Granted {
    from: Arc<Further>,
    pieces: usize,
}

impl Further {
    fn grant(self: &Arc<Self>) -> Granted {
        let take = |left: usize| Some(left - left.min(FURTHER_OF_ONE));
        let before = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).unwrap_or(0);
        Granted { from: self.clone(), pieces: before.min(FURTHER_OF_ONE) }
    }
}

impl Drop for Granted {
    fn drop(&mut self) {
        self.from.0.fetch_add(self.pieces, Ordering::Relaxed);
    }
}

/// Why bytes have not become a tree.
#[derive(Debug)]
pub(crate) enum Failed {
    /// They cannot be read or inflated.
    Read(io::Error),
    /// What they were cannot be unpacked.
    Unpack(Error),
}

impl From<Failed> for Error {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Read(error) => tar::Error::Read(error).into(),
            Failed::Unpack(error) => error,
        }
    }
}

impl Layers {
    /// Unpacks a layer as registries have it: compressed with gzip or zstd, or plain. It is inflated by the thread that calls this, and
    /// unpacked by another one. Its digest is not checked, and nothing is synced ([`apply`](Self::apply) does both). Blocks.
    ///
    /// # Errors
    /// When it cannot be read, is no layer, or cannot be unpacked.
    pub fn unpack(&self, bytes: impl BufRead) -> Result<Staged, Error> {
        let decoded = Decoded::new(bytes).map_err(Failed::Read)?;
        Ok(self.unpack_decoded(decoded, false)?)
    }

    /// The same of bytes whose compression is known, for whose archive the framing may be kept. They are read to their end before
    /// the layer is taken for whole.
    pub(crate) fn unpack_decoded(&self, decoded: Decoded<impl BufRead>, framed: bool) -> Result<Staged, Failed> {
        let granted = self.further().grant();
        let (sink, archive) = pieces::channel(PIECES + granted.pieces);
        let layers = self.clone();
        // A thread of its own also because it gets a umask of its own.
        let unpacking = thread::Builder::new().name("engine-unpack".to_owned()).spawn(move || {
            let staging = layers.stage()?;
            if framed { staging.unpack_framed(archive) } else { staging.unpack(archive) }
        });
        let unpacking = unpacking.map_err(Error::host("start a thread for a layer")).map_err(Failed::Unpack)?;
        let pumped = pump(decoded, sink);
        let unpacked = unpacking.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        match (pumped, unpacked) {
            // The other thread has nothing more to say than that it was cut short.
            (Err(error), _) => Err(Failed::Read(error)),
            (Ok(_), Err(error)) => Err(Failed::Unpack(error)),
            (Ok(()), Ok(staged)) => Ok(staged),
        }
    }
}

/// Gives everything to `sink`, or until that has failed and knows why.
fn pump(mut decoded: Decoded<impl BufRead>, sink: Sink) -> io::Result<()> {
    let buffers = Buffers::new(PIECE);
    loop {
        let mut piece = buffers.take();
        // Inflating gives what it has at hand; a piece is worth filling, for each is a hand-over and a write.
        let filled = pieces::fill(&mut decoded, &mut piece)?;
        if filled == 0 {
            break;
        }
        if sink.send_blocking(piece.filled(filled)).is_err() {
            return Ok(());
        }
    }
    // Only now: bytes that are not those of the digest must not become a layer.
    drain(decoded.into_inner())?;
    let _ = sink.finish_blocking();
    Ok(())
}

/// What follows the last frame belongs to the bytes as well.
pub(crate) fn drain(mut rest: impl BufRead) -> io::Result<()> {
    loop {
        let length = rest.fill_buf()?.len();
        if length == 0 {
            return Ok(());
        }
        rest.consume(length);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::tar::{Entry, Kind, Writer};
    use super::*;
    use crate::oci::Digest;

    fn archive() -> Vec<u8> {
        let mut writer = Writer::new(Vec::new());
        let contents: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[1]).collect();
        for size in [5, 3_000_000, 700_000] {
            writer.entry(&Entry::new(Kind::File, format!("f{size}"), 0o644), &contents[..size]).unwrap();
        }
        writer.finish().unwrap()
    }

    #[test]
    fn a_layer_is_the_same_however_it_is_compressed() {
        let root = tempfile::tempdir().unwrap();
        let layers = Layers::open(root.path()).unwrap();
        let archive = archive();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        io::Write::write_all(&mut gzip, &archive).unwrap();
        for bytes in [archive.clone(), gzip.finish().unwrap(), zstd::encode_all(archive.as_slice(), 1).unwrap()] {
            let staged = layers.unpack(bytes.as_slice()).unwrap();
            assert_eq!((staged.diff_id, staged.archive_size), (Digest::of(&archive), archive.len() as u64));
            assert_eq!(staged.unpacked.bytes, 3_700_005);
            // What is missing, at the end or in the middle, is missed.
            for length in [bytes.len() - 2000, bytes.len() / 2, 1] {
                layers.unpack(&bytes[..length]).unwrap_err();
            }
        }
        assert_eq!(std::fs::read_dir(root.path().join("layers")).unwrap().count(), 0);
    }

    #[test]
    fn further_pieces_are_given_back() {
        let further = Arc::new(Further::default());
        let granted: Vec<Granted> = (0..4).map(|_| further.grant()).collect();
        assert_eq!(granted.iter().map(|granted| granted.pieces).collect::<Vec<_>>(), [32, 32, 0, 0]);
        drop(granted);
        assert_eq!(further.0.load(Ordering::Relaxed), FURTHER);
    }

    #[test]
    fn what_cannot_be_unpacked_says_so_and_not_that_it_was_cut_short() {
        let root = tempfile::tempdir().unwrap();
        let limits = super::super::Limits { bytes: 1 << 20, ..Default::default() };
        let layers = Layers::with_limits(root.path(), limits).unwrap();
        let error = layers.unpack(archive().as_slice()).unwrap_err();
        assert!(matches!(error, Error::Limit(_)), "{error}");
        let error = layers.unpack(&b"BZh9 is none of those"[..]).unwrap_err();
        assert!(error.to_string().contains("compression with bzip2"), "{error}");
    }
}
