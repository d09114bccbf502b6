//! Image formats as data: digests, references, manifests, indexes and configurations, parsed with bounds and
//! never trusted. Sources: the OCI image and distribution specifications and Docker's image manifest v2 schema 2.

mod config;
mod digest;
mod manifest;
mod platform;
mod reference;

pub use config::{Execution, Healthcheck, History, ImageConfig, RootFs};
pub use digest::{Digest, Hasher};
pub(crate) use manifest::told_by;
pub use manifest::{Descriptor, Document, Index, Manifest, media_type};
pub use platform::Platform;
pub use reference::Reference;

use crate::error::ErrorKind;

/// What cannot be read as an image format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Not `sha256:` and 64 hexadecimal digits.
    #[error("invalid digest {0:?}: expected sha256: and 64 hexadecimal digits")]
    Digest(String),
    /// Not a name of an image; the text is the one that Docker gives.
    #[error("{0}")]
    Reference(String),
    /// Not `os[/architecture[/variant]]`.
    #[error("invalid platform {0:?}: expected os[/architecture[/variant]]")]
    Platform(String),
    /// A document is larger than its bound.
    #[error("{what} of {size} bytes is larger than {limit} bytes")]
    TooLarge {
        /// Which document.
        what: &'static str,
        /// Its size in bytes.
        size: u64,
        /// What it may have at most, in bytes.
        limit: u64,
    },
    /// A document is not what it says it is.
    #[error("invalid {what}: {reason}")]
    Document {
        /// Which document.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A format that is known and not supported.
    #[error("{0}")]
    Unsupported(String),
    /// No entry of an index fits the platform.
    #[error("no matching manifest for {0} in the manifest list entries")]
    NoPlatform(Platform),
}

impl Error {
    /// What kind of error it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoPlatform(_) => ErrorKind::NotFound,
            Self::Unsupported(_) => ErrorKind::Unsupported,
            Self::Digest(_)
            | Self::Reference(_)
            | Self::Platform(_)
            | Self::TooLarge { .. }
            | Self::Document { .. } => ErrorKind::Invalid,
        }
    }

    fn document(what: &'static str, reason: impl ToString) -> Self {
        Self::Document { what, reason: reason.to_string() }
    }
}
