//! The threads that a layer passes through: the first keeps its bytes as they come, the second inflates them, the third hashes
//! and unpacks what they were.

use std::io;
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use super::Error;
use crate::blob::{Sealed, Writer};
use crate::oci::{Digest, Hasher};
use crate::snapshot::decode::{Decoded, Encoding};
use crate::snapshot::inflated::{Failed, drain};
pub(super) use crate::snapshot::inflated::{PIECE, PIECES};
use crate::snapshot::pieces::{self, Pieces, Sink, Source};
use crate::snapshot::{self, Layers, Staged};

/// As many of what is being kept: it is done sooner than inflating.
const PASSED: usize = 2;

/// A layer that has been kept and unpacked.
#[derive(Debug)]
pub(super) struct Unpacked {
    pub(super) staged: Staged,
    pub(super) encoding: Encoding,
    /// The bytes as they came, if they are kept.
    pub(super) blob: Option<Sealed>,
    /// What they are.
    pub(super) digest: Digest,
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
    let layers = layers.clone();
    spawn("engine-unpack", move || {
        let staged = layers.stage()?.unpack_hashed(archive)?;
        write_out(&layers)?;
        Ok(staged)
    })
}

/// Has what was unpacked written to the disk. The one sync that counts comes before the commit; what is written here, while other
/// layers are still being unpacked, it does not have to wait for: an image of nine layers is there a fifth sooner.
fn write_out(layers: &Layers) -> Result<(), snapshot::Error> {
    layers.sync()
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
    let undo = |passed: Source| {
        let mut decoded = Decoded::new(passed).map_err(read_error)?;
        let encoding = decoded.encoding();
        let (mut hasher, mut piece, mut given) = (Hasher::new(), vec![0; PIECE], 0);
        loop {
            let filled = pieces::fill(&mut decoded, &mut piece).map_err(read_error)?;
            if filled == 0 {
                break;
            }
            given += filled as u64;
            // A few bytes may unpack to any number, and nothing else would end it.
            if given > size {
                return Err(Error::Archive(format!(
                    "blob {digest} unpacks to more than the {size} bytes of layer {diff_id}"
                )));
            }
            hasher.update(&piece[..filled]);
        }
        drain(decoded.into_inner()).map_err(read_error)?;
        match hasher.finish() {
            found if found == diff_id => Ok(encoding),
            found => Err(snapshot::Error::Mismatch { expected: diff_id, found }.into()),
        }
    };
    let (encoding, sealed, _) = kept(bytes, Some(blob), Some(digest), undo)?;
    Ok((sealed, encoding))
}

/// Keeps bytes as they come on a thread of their own, while `undo` does something with them: what that gave, and what they are.
/// Their end comes once they are known to be what they must be.
fn kept<T>(
    bytes: Source,
    blob: Option<Writer>,
    expected: Option<Digest>,
    undo: impl FnOnce(Source) -> Result<T, Error>,
) -> Result<(T, Option<Sealed>, Digest), Error> {
    let (on, passed) = pieces::channel(PASSED);
    let keeping = spawn("engine-keep", move || keep_all(bytes, blob, expected, on))?;
    let undone = undo(passed);
    match (undone, join(keeping)) {
        // One was cut short by the other, which knows why.
        (Err(Error::Cancelled), Err(error)) | (Ok(_), Err(error)) | (Err(error), _) => Err(error),
        (Ok(undone), Ok((sealed, digest))) => Ok((undone, sealed, digest)),
    }
}

fn keep_all(
    mut bytes: Source,
    mut blob: Option<Writer>,
    expected: Option<Digest>,
    on: Sink,
) -> Result<(Option<Sealed>, Digest), Error> {
    let mut hasher = Hasher::new();
    loop {
        let piece = match bytes.piece(PIECE) {
            Ok(piece) => piece,
            Err(error) => {
                if let Some(blob) = blob.as_mut().filter(|_| error.kind() == io::ErrorKind::ConnectionAborted) {
                    blob.keep();
                }
                return Err(read_error(error));
            }
        };
        if piece.is_empty() {
            break;
        }
        if on.send_blocking(piece.clone()).is_err() {
            return Err(Error::Cancelled);
        }
        match &mut blob {
            Some(blob) => blob.write(&piece)?,
            None => hasher.update(&piece),
        }
    }
    let kept = match blob {
        Some(blob) => {
            let sealed = blob.seal(expected.as_ref())?;
            let digest = sealed.digest();
            (Some(sealed), digest)
        }
        None => {
            let found = hasher.finish();
            if let Some(expected) = expected.filter(|expected| *expected != found) {
                return Err(crate::blob::Error::Mismatch { expected, found }.into());
            }
            (None, found)
        }
    };
    let _ = on.finish_blocking();
    Ok(kept)
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
    let Order { layers, blob, digest, diff_id } = order;
    let framed = blob.is_none();
    let ((staged, encoding), blob, digest) = kept(bytes, blob, digest, |passed| {
        let decoded = Decoded::new(passed).map_err(read_error)?;
        let encoding = decoded.encoding();
        let staged = layers.unpack_decoded(decoded, framed)?;
        write_out(&layers)?;
        Ok((staged, encoding))
    })?;
    if let Some(diff_id) = &diff_id {
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

impl From<Failed> for Error {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Read(error) => read_error(error),
            Failed::Unpack(error) => error.into(),
        }
    }
}
