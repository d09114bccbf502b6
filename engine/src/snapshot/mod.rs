//! Layer trees and what containers write above them: `<root>/layers/<diff id>/` are the unpacked layers, each on its
//! own, and `<root>/containers/<id>/` has what one container changed.

mod ahead;
pub(crate) mod decode;
mod extract;
mod framing;
mod holes;
#[cfg(test)]
mod hostile;
pub(crate) mod inflated;
mod layers;
pub(crate) mod merged;
pub(crate) mod pieces;
#[cfg(test)]
mod seeded;
mod stream;
pub mod tar;
pub(crate) mod tree;
mod upper;

use std::io::{self, BufRead, Read};

use crate::error::ErrorKind;
use crate::oci::Digest;
use crate::state;

pub use extract::{Limits, Unpacked};
pub(crate) use framing::Part;
pub use framing::Rebuilt;
pub use layers::{Layer, LayerRecord, Layers, Retired, Staged, Staging};
pub use tree::{Change, ChangeKind};
pub use upper::{Snapshots, Upper};

/// What can go wrong with layers.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The archive is damaged, or has what no image has.
    #[error("unpack archive: {0}")]
    Archive(#[from] tar::Error),
    /// An entry that no honest layer has.
    #[error("unpack archive: entry {name:?} is refused: {reason}")]
    Refused {
        /// The entry's name.
        name: String,
        /// Why.
        reason: &'static str,
    },
    /// The host cannot make an entry.
    #[error("unpack archive: make {name:?}: {source}")]
    Entry {
        /// The entry's name.
        name: String,
        /// What the kernel says.
        source: std::io::Error,
    },
    /// A directory would have to take the place of a file, or the other way round.
    #[error("{0}")]
    Kinds(String),
    /// What a container has written has a path that no layer can have.
    #[error(
        "the path {path:?}... has {length} bytes, in an image it may have {longest}: move what is there further up, remove it, \
         or keep it in a volume (an export has paths of any length)"
    )]
    LongPath {
        /// How the path begins.
        path: String,
        /// Bytes of all of it, or of the part of it that is too long already.
        length: usize,
        /// The most that are allowed: as many as the kernel takes at once.
        longest: u64,
    },
    /// The layer is larger than allowed.
    #[error("unpack archive: it has {0}; that is more than this engine unpacks")]
    Limit(String),
    /// The disk is as good as full.
    #[error("unpack archive: no space left on the file system, save what is kept free for the engine itself")]
    Full,
    /// The bytes are not those of the layer.
    #[error("layer verification failed: expected {expected}, got {found}")]
    Mismatch {
        /// What the image says.
        expected: Digest,
        /// What the bytes are.
        found: Digest,
    },
    /// A layer that was there went away before the image was complete.
    #[error("layer {0} was removed in the meantime: try again")]
    Vanished(Digest),
    /// The host failed us.
    #[error("{what}: {source}")]
    Host {
        /// What was tried on what.
        what: String,
        /// What the kernel says.
        source: std::io::Error,
    },
    /// The state store failed.
    #[error(transparent)]
    State(#[from] state::Error),
}

/// What was compressed with gzip or zstd, as layers are, or with xz or bzip2; bytes that are not are given as they are.
///
/// # Errors
/// When the first bytes cannot be read.
pub fn uncompressed<R: BufRead>(reader: R) -> io::Result<impl Read> {
    decode::Decoded::any(reader)
}

impl Error {
    /// What kind of error it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Archive(tar::Error::Read(_)) => ErrorKind::Unavailable,
            Self::Archive(_)
            | Self::Refused { .. }
            | Self::Kinds(_)
            | Self::LongPath { .. }
            | Self::Limit(_)
            | Self::Mismatch { .. } => ErrorKind::Invalid,
            Self::Full | Self::Vanished(_) => ErrorKind::Unavailable,
            Self::Entry { .. } | Self::Host { .. } => ErrorKind::Internal,
            Self::State(error) => error.kind(),
        }
    }

    pub(crate) fn host(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        |source| Self::Host { what, source }
    }
}
