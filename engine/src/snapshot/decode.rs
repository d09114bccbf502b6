//! Undoing compression, recognised by its first bytes.

use std::io::{self, BufRead, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::pieces::{Buffers, Filled, Pieces};

/// How bytes are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Plain,
    Gzip,
    Zstd,
    Bzip2,
    Xz,
}

impl Encoding {
    /// Whether layers of images may be compressed so.
    pub(crate) fn is_of_layers(self) -> bool {
        matches!(self, Self::Plain | Self::Gzip | Self::Zstd)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Plain => "nothing",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Bzip2 => "bzip2",
            Self::Xz => "xz",
        }
    }
}

const HEAD: usize = 6;

/// Kibibytes that a stream of xz may need: twice as much as its own program asks for at most.
const XZ_MEMORY: u32 = 128 << 10;

/// Recognises compression.
pub(crate) fn recognise(head: &[u8]) -> Encoding {
    match head {
        [0x1f, 0x8b, 0x08, ..] => Encoding::Gzip,
        // The frame itself, or a skippable one before it.
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Encoding::Zstd,
        [b'B', b'Z', b'h', ..] => Encoding::Bzip2,
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Encoding::Xz,
        _ => Encoding::Plain,
    }
}

/// A reader whose first bytes have been looked at.
pub(crate) struct Peeked<R> {
    head: Vec<u8>,
    at: usize,
    rest: R,
}

impl<R: BufRead> Peeked<R> {
    /// Looks at the first `length` bytes, or all of them if there are fewer.
    pub(crate) fn new(mut rest: R, length: usize) -> io::Result<Self> {
        let mut head = Vec::new();
        while head.len() < length {
            let buffer = rest.fill_buf()?;
            if buffer.is_empty() {
                break;
            }
            let step = buffer.len().min(length - head.len());
            head.extend_from_slice(&buffer[..step]);
            rest.consume(step);
        }
        Ok(Self { head, at: 0, rest })
    }

    /// The bytes that have been looked at.
    pub(crate) fn head(&self) -> &[u8] {
        &self.head
    }
}

impl<R: Pieces> Pieces for Peeked<R> {
    fn piece(&mut self, most: usize) -> io::Result<Bytes> {
        let head = &self.head[self.at..];
        if head.is_empty() {
            return self.rest.piece(most);
        }
        let piece = Bytes::copy_from_slice(&head[..head.len().min(most)]);
        self.at += piece.len();
        Ok(piece)
    }
}

impl<R: BufRead> Read for Peeked<R> {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        super::pieces::read_buffered(self, target)
    }
}

impl<R: BufRead> BufRead for Peeked<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at < self.head.len() { Ok(&self.head[self.at..]) } else { self.rest.fill_buf() }
    }

    fn consume(&mut self, length: usize) {
        if self.at < self.head.len() { self.at += length } else { self.rest.consume(length) }
    }
}

/// A reader of what was compressed.
pub(crate) struct Decoded<R: BufRead> {
    inner: Inner<Counting<Peeked<R>>>,
    taken: Arc<AtomicU64>,
    given: u64,
    harmless: u64,
}

enum Inner<R: BufRead> {
    Plain(R),
    Gzip(Box<flate2::bufread::MultiGzDecoder<R>>),
    Zstd(zstd::stream::read::Decoder<'static, R>),
    Bzip2(Box<bzip2::bufread::MultiBzDecoder<R>>),
    Xz(Box<lzma_rust2::XzReader<R>>),
}

/// Beyond this much, contents that were a small part of it are taken for a bomb.
const HARMLESS: u64 = 4 << 30;
const RATIO: u64 = 500;

impl<R: BufRead> Decoded<R> {
    /// A reader of a layer.
    pub(crate) fn new(reader: R) -> io::Result<Self> {
        let decoded = Self::any(reader)?;
        let encoding = decoded.encoding();
        if encoding.is_of_layers() {
            return Ok(decoded);
        }
        Err(io::Error::new(io::ErrorKind::Unsupported, format!("compression with {}", encoding.name())))
    }

    /// A reader of what people send, who have more ways to compress than registries.
    pub(crate) fn any(reader: R) -> io::Result<Self> {
        Self::bounded(reader, HARMLESS)
    }

    fn bounded(reader: R, harmless: u64) -> io::Result<Self> {
        let reader = Peeked::new(reader, HEAD)?;
        let encoding = recognise(&reader.head);
        let taken = Arc::new(AtomicU64::new(0));
        let reader = Counting { reader, count: taken.clone() };
        let inner = match encoding {
            Encoding::Plain => Inner::Plain(reader),
            Encoding::Gzip => Inner::Gzip(Box::new(flate2::bufread::MultiGzDecoder::new(reader))),
            Encoding::Zstd => Inner::Zstd(zstd::stream::read::Decoder::with_buffer(reader)?),
            Encoding::Bzip2 => Inner::Bzip2(Box::new(bzip2::bufread::MultiBzDecoder::new(reader))),
            Encoding::Xz => Inner::Xz(Box::new(lzma_rust2::XzReader::new_mem_limit(reader, true, XZ_MEMORY))),
        };
        Ok(Self { inner, taken, given: 0, harmless })
    }

    pub(crate) fn encoding(&self) -> Encoding {
        match self.inner {
            Inner::Plain(_) => Encoding::Plain,
            Inner::Gzip(_) => Encoding::Gzip,
            Inner::Zstd(_) => Encoding::Zstd,
            Inner::Bzip2(_) => Encoding::Bzip2,
            Inner::Xz(_) => Encoding::Xz,
        }
    }

    /// The compressed bytes that follow the last frame.
    pub(crate) fn into_inner(self) -> Peeked<R> {
        match self.inner {
            Inner::Plain(reader) => reader.reader,
            Inner::Gzip(decoder) => decoder.into_inner().reader,
            Inner::Zstd(decoder) => decoder.finish().reader,
            Inner::Bzip2(decoder) => decoder.into_inner().reader,
            Inner::Xz(decoder) => decoder.into_inner().reader,
        }
    }
}

impl<R: Pieces + 'static> Decoded<R> {
    /// In pieces: what is not compressed as it comes, and the rest in buffers of these.
    pub(crate) fn into_pieces(self, buffers: Buffers) -> Box<dyn Pieces> {
        match self.inner {
            Inner::Plain(reader) => Box::new(reader.reader),
            _ => Box::new(Filled::new(self, buffers)),
        }
    }
}

impl<R: BufRead> Read for Decoded<R> {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        let length = match &mut self.inner {
            Inner::Plain(reader) => reader.read(target)?,
            Inner::Gzip(decoder) => decoder.read(target)?,
            Inner::Zstd(decoder) => decoder.read(target)?,
            Inner::Bzip2(decoder) => decoder.read(target)?,
            Inner::Xz(decoder) => decoder.read(target)?,
        };
        self.given += length as u64;
        if self.given > self.harmless && self.given / RATIO > self.taken.load(Ordering::Relaxed) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("decompression bomb: {} bytes unpack to more than {} bytes", self.given / RATIO, self.given),
            ));
        }
        Ok(length)
    }
}

struct Counting<R> {
    reader: R,
    count: Arc<AtomicU64>,
}

impl<R: BufRead> Read for Counting<R> {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        let length = self.reader.read(target)?;
        self.count.fetch_add(length as u64, Ordering::Relaxed);
        Ok(length)
    }
}

impl<R: BufRead> BufRead for Counting<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.reader.fill_buf()
    }

    fn consume(&mut self, length: usize) {
        self.count.fetch_add(length as u64, Ordering::Relaxed);
        self.reader.consume(length);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::Write;

    fn decode(bytes: &[u8]) -> io::Result<(Encoding, Vec<u8>)> {
        let mut decoded = Decoded::any(io::BufReader::with_capacity(5, bytes))?;
        let mut contents = Vec::new();
        decoded.read_to_end(&mut contents)?;
        Ok((decoded.encoding(), contents))
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn each_encoding_is_recognised_and_undone() {
        assert_eq!(decode(b"plain text").unwrap(), (Encoding::Plain, b"plain text".to_vec()));
        assert_eq!(decode(b"").unwrap(), (Encoding::Plain, Vec::new()));
        let members = [gzip(b"one "), gzip(b"two")].concat();
        assert_eq!(decode(&members).unwrap(), (Encoding::Gzip, b"one two".to_vec()));
        let frames = [zstd::encode_all(&b"one "[..], 1).unwrap(), zstd::encode_all(&b"two"[..], 1).unwrap()].concat();
        assert_eq!(decode(&frames).unwrap(), (Encoding::Zstd, b"one two".to_vec()));
        for (bytes, encoding) in [(XZ, Encoding::Xz), (BZIP2, Encoding::Bzip2)] {
            let twice = [bytes, bytes].concat();
            assert_eq!(decode(&twice).unwrap(), (encoding, b"one twoone two".to_vec()));
            let refused = Decoded::new(bytes).err().unwrap();
            assert_eq!(refused.to_string(), format!("compression with {}", encoding.name()));
        }
    }

    #[test]
    fn what_is_not_compressed_stays_where_it_is() {
        for (sent, expected) in [(b"plain text".to_vec(), "plain text"), (gzip(b"packed text"), "packed text")] {
            let (sink, source) = crate::snapshot::pieces::channel(2);
            let sent = Bytes::from(sent);
            sink.send_blocking(sent.clone()).unwrap();
            sink.finish_blocking().unwrap();
            let mut pieces = Decoded::any(source).unwrap().into_pieces(Buffers::new(100));
            let first = [pieces.piece(4).unwrap(), pieces.piece(100).unwrap()].concat();
            let last = pieces.piece(100).unwrap();
            assert_eq!(String::from_utf8([&*first, &*last].concat()).unwrap(), expected);
            assert_eq!(
                std::ptr::eq(last.as_ptr(), sent[HEAD.min(sent.len() - 1)..].as_ptr()),
                expected == "plain text"
            );
            assert!(pieces.piece(1).unwrap().is_empty());
        }
    }

    const XZ: &[u8] = b"\xfd7zXZ\x00\x00\x04\xe6\xd6\xb4F\x02\x00!\x01\x0c\x00\x00\x00\x8f\x98A\x9c\x01\x00\x06one two\x00\x0082d\x95\x8bX#|\x00\x01\x1f\x07\x16.\xb8s\x1f\xb6\xf3}\x01\x00\x00\x00\x00\x04YZ";
    const BZIP2: &[u8] = b"BZh91AY&SY\x81\x842\x89\x00\x00\x01\x91\x80@\x00\x02\x01\x84\x80 \x00!\x80\x0c\x0185\xdc]\xc9\x14\xe1BB\x06\x10\xca$";

    #[test]
    fn a_bomb_goes_off_early() {
        const HARMLESS: u64 = 1 << 20;
        let inflate = |bytes: &[u8]| {
            let mut decoded = Decoded::bounded(bytes, HARMLESS)?;
            let copied = io::copy(&mut decoded, &mut io::sink());
            assert!(copied.is_ok() || decoded.given < 2 * HARMLESS, "{}", decoded.given);
            copied
        };
        let zeros = vec![0; 16 << 20];
        let mut small = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        small.write_all(&zeros).unwrap();
        for bomb in [small.finish().unwrap(), zstd::encode_all(zeros.as_slice(), 1).unwrap()] {
            let error = inflate(&bomb).unwrap_err().to_string();
            assert!(error.starts_with("decompression bomb: "), "{error}");
            assert_eq!(decode(&bomb).unwrap().1.len(), zeros.len());
        }
        // Little that is made of little, and much that is made of much, is none.
        assert_eq!(inflate(&gzip(&zeros[..HARMLESS as usize])).unwrap(), HARMLESS);
        let mut state = 1_u32;
        let noise: Vec<u8> = (0..3 << 20)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                state.to_be_bytes()[0]
            })
            .collect();
        assert_eq!(inflate(&gzip(&noise)).unwrap(), noise.len() as u64);
        assert_eq!(inflate(&zeros).unwrap(), zeros.len() as u64);
    }

    #[test]
    fn damaged_streams_are_errors() {
        let whole = gzip(&[7; 5000]);
        decode(&whole[..whole.len() - 3]).unwrap_err();
        let mut flipped = whole;
        let last = flipped.len() - 6;
        flipped[last] ^= 1;
        decode(&flipped).unwrap_err();
        let whole = zstd::encode_all(&[7; 5000][..], 1).unwrap();
        decode(&whole[..whole.len() - 1]).unwrap_err();
        for whole in [XZ, BZIP2] {
            for length in HEAD..whole.len() {
                decode(&whole[..length]).unwrap_err();
            }
            let mut flipped = whole.to_vec();
            flipped[whole.len() / 2] ^= 1;
            decode(&flipped).unwrap_err();
        }
    }

    #[test]
    fn a_stream_that_needs_much_memory_is_refused() {
        // The size of the dictionary is a byte of the block's head, whose checksum is made anew.
        let mut hungry = XZ.to_vec();
        assert_eq!(&hungry[14..16], b"\x21\x01");
        hungry[16] = 40;
        let mut sum = flate2::Crc::new();
        sum.update(&hungry[12..20]);
        hungry[20..24].copy_from_slice(&sum.sum().to_le_bytes());
        let error = decode(&hungry).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::OutOfMemory, "{error}");
    }
}
