//! The threads that a layer passes through: one keeps and inflates its bytes, the other hashes and unpacks them.

use std::io::{self, BufRead, Read};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use super::Error;
use crate::blob::{Sealed, Writer};
use crate::oci::{Digest, Hasher};
use crate::snapshot::decode::{Decoded, Encoding};
use crate::snapshot::pieces::{self, Buffers, Source};
use crate::snapshot::{self, Layers, Staged, Staging};

/// Bytes that are handed on at once, and how many such pieces may wait.
pub(super) const PIECE: usize = 256 << 10;
pub(super) const PIECES: usize = 8;

/// A layer that has been kept and unpacked.
#[derive(Debug)]
pub(super) struct Unpacked {
    pub(super) staged: Staged,
    pub(super) encoding: Encoding,
    /// The bytes as they came, if they are kept.
    pub(super) blob: Option<Sealed>,
    /// What they are.
    pub(super) digest: Option<Digest>,
}

/// Bytes that have only been kept.
pub(super) type Preserved = (Option<Sealed>, Encoding);

/// What is to become of a layer's bytes.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) layers: Layers,
    /// Where they are kept as they came; if they are not, what they were can be had back without them.
    pub(super) blob: Option<Writer>,
    /// What they must be, as they come.
    pub(super) digest: Option<Digest>,
    /// What they must be, uncompressed.
    pub(super) diff_id: Option<Digest>,
}

/// Unpacks an uncompressed layer on a thread of its own. Its archive can be had back from the tree. `archive` is hashed by who
/// gives it.
pub(super) fn plain(layers: &Layers, archive: Source) -> Result<JoinHandle<Result<Staged, snapshot::Error>>, Error> {
    stage(layers, |staging| staging.unpack_hashed(archive))
}

/// Unpacks on a thread of its own.
fn stage(
    layers: &Layers,
    unpack: impl FnOnce(Staging) -> Result<Staged, snapshot::Error> + Send + 'static,
) -> Result<JoinHandle<Result<Staged, snapshot::Error>>, Error> {
    let layers = layers.clone();
    spawn("engine-unpack", move || {
        let staged = unpack(layers.stage()?)?;
        // The one sync that counts comes before the commit. What is written here, while other layers are still being
        // unpacked, it does not have to wait for: an image of nine layers is there a fifth sooner.
        layers.sync()?;
        Ok(staged)
    })
}

/// Keeps and unpacks a layer as it comes, on threads of their own.
pub(super) fn any(order: Order, bytes: Source) -> Result<JoinHandle<Result<Unpacked, Error>>, Error> {
    spawn("engine-inflate", move || inflate(order, bytes))
}

/// The same for the async side.
pub(super) fn any_async(order: Order, bytes: Source) -> Result<oneshot::Receiver<Result<Unpacked, Error>>, Error> {
    let (sender, receiver) = oneshot::channel();
    spawn("engine-inflate", move || {
        // When nobody waits any more, the layer is dropped here, and with it what was unpacked.
        let _ = sender.send(inflate(order, bytes));
    })?;
    Ok(receiver)
}

/// Only keeps bytes as they come, on a thread: those of a layer that is there already, in another form, and of whose
/// archive it is known how long it is.
pub(super) fn keep_async(
    blob: Writer,
    digest: Digest,
    layer: (Digest, u64),
    bytes: Source,
) -> Result<oneshot::Receiver<Result<Preserved, Error>>, Error> {
    let (sender, receiver) = oneshot::channel();
    spawn("engine-inflate", move || {
        let _ = sender.send(keep(blob, digest, layer, bytes));
    })?;
    Ok(receiver)
}

fn keep(blob: Writer, digest: Digest, layer: (Digest, u64), bytes: Source) -> Result<Preserved, Error> {
    let (diff_id, size) = layer;
    let keeping = Keeping { reader: bytes, blob: Some(blob), hasher: None, kept: 0 };
    let mut decoded = Decoded::new(keeping).map_err(read_error)?;
    let encoding = decoded.encoding();
    let (mut hasher, mut piece, mut given) = (Hasher::new(), vec![0; PIECE], 0);
    loop {
        match decoded.read(&mut piece) {
            Ok(0) => break,
            Ok(length) => {
                given += length as u64;
                // A few bytes may unpack to any number, and nothing else would end it.
                if given > size {
                    return Err(Error::Archive(format!(
                        "blob {digest} unpacks to more than the {size} bytes of layer {diff_id}"
                    )));
                }
                hasher.update(&piece[..length]);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(read_error(error)),
        }
    }
    let rest = drained(decoded)?;
    let (sealed, _) = rest.seal(Some(&digest))?;
    match hasher.finish() {
        found if found == diff_id => Ok((sealed, encoding)),
        found => Err(snapshot::Error::Mismatch { expected: diff_id, found }.into()),
    }
}

/// What follows the last frame belongs to the bytes as well.
fn drained(decoded: Decoded<Keeping>) -> Result<Keeping, Error> {
    let mut rest = decoded.into_inner();
    loop {
        let length = rest.fill_buf().map_err(read_error)?.len();
        if length == 0 {
            return Ok(rest.into_inner());
        }
        rest.consume(length);
    }
}

pub(super) fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, Error> {
    std::thread::Builder::new().name(name.to_owned()).spawn(work).map_err(|source| {
        Error::Snapshot(snapshot::Error::Host { what: "start a thread for a layer".to_owned(), source })
    })
}

/// The result of a thread; a panic is a bug, and is passed on as one.
pub(super) fn join<T>(thread: JoinHandle<T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn inflate(order: Order, bytes: Source) -> Result<Unpacked, Error> {
    let framed = order.blob.is_none();
    let hasher = if framed { Some(Hasher::new()) } else { None };
    let keeping = Keeping { reader: bytes, blob: order.blob, hasher, kept: 0 };
    let mut decoded = Decoded::new(keeping).map_err(read_error)?;
    let encoding = decoded.encoding();
    let (sink, archive) = pieces::channel(PIECES);
    let unpacking =
        stage(
            &order.layers,
            move |staging| {
                if framed { staging.unpack_framed(archive) } else { staging.unpack(archive) }
            },
        )?;
    let buffers = Buffers::new(PIECE);
    let pumped = (|| {
        loop {
            let mut piece = buffers.take();
            // Inflating gives what it has at hand; a piece is worth filling, for each is a hand-over and a write.
            let filled = pieces::fill(&mut decoded, &mut piece).map_err(read_error)?;
            if filled == 0 {
                break;
            }
            if sink.send_blocking(piece.filled(filled)).is_err() {
                // The other thread has failed and says why below.
                return Ok(None);
            }
        }
        drained(decoded)?.seal(order.digest.as_ref()).map(Some)
    })();
    let pumped = match pumped {
        Ok(Some(blob)) => {
            // Only now: bytes that are not those of the digest must not become a layer.
            let _ = sink.finish_blocking();
            Ok(Some(blob))
        }
        other => {
            drop(sink);
            other
        }
    };
    let staged = join(unpacking);
    let Some((blob, digest)) = pumped? else {
        return Err(staged.err().map_or(Error::Cancelled, Error::Snapshot));
    };
    let staged = staged?;
    if let Some(diff_id) = &order.diff_id {
        staged.verify(diff_id)?;
    }
    Ok(Unpacked { staged, encoding, blob, digest })
}

/// What an error of reading is about: the bytes, or that nobody sends them any more.
pub(super) fn read_error(error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::ConnectionAborted => Error::Cancelled,
        io::ErrorKind::Unsupported => Error::Unsupported(error.to_string()),
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => Error::Archive(error.to_string()),
        io::ErrorKind::UnexpectedEof => Error::Archive("it ends early".to_owned()),
        _ => Error::Read(error),
    }
}

/// Keeps each buffer of `reader` when it is first seen.
struct Keeping {
    reader: Source,
    blob: Option<Writer>,
    /// Hashes what is not kept.
    hasher: Option<Hasher>,
    kept: usize,
}

impl Keeping {
    /// What was kept, and what the bytes are.
    fn seal(self, expected: Option<&Digest>) -> Result<(Option<Sealed>, Option<Digest>), Error> {
        if let Some(blob) = self.blob {
            let sealed = blob.seal(expected)?;
            let digest = sealed.digest();
            return Ok((Some(sealed), Some(digest)));
        }
        match (self.hasher.map(Hasher::finish), expected) {
            (Some(found), Some(expected)) if found != *expected => {
                Err(crate::blob::Error::Mismatch { expected: *expected, found }.into())
            }
            (found, _) => Ok((None, found)),
        }
    }
}

impl BufRead for Keeping {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let buffer = match self.reader.fill_buf() {
            Err(error) => {
                if let Some(blob) = self.blob.as_mut().filter(|_| error.kind() == io::ErrorKind::ConnectionAborted) {
                    blob.keep();
                }
                return Err(error);
            }
            Ok(buffer) => buffer,
        };
        if let Some(new) = buffer.get(self.kept..).filter(|new| !new.is_empty()) {
            if let Some(blob) = &mut self.blob {
                blob.write(new).map_err(io::Error::other)?;
            }
            if let Some(hasher) = &mut self.hasher {
                hasher.update(new);
            }
            self.kept = buffer.len();
        }
        Ok(buffer)
    }

    fn consume(&mut self, length: usize) {
        self.kept = self.kept.saturating_sub(length);
        self.reader.consume(length);
    }
}

impl Read for Keeping {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        pieces::read_buffered(self, target)
    }
}
