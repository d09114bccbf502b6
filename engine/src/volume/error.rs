//! What can go wrong with a volume.

use std::io;

use super::Name;
use crate::error::ErrorKind;
use crate::state;

/// Why something with a volume did not work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nothing has this name.
    #[error("get {0}: no such volume")]
    NotFound(String),
    /// A name must be a plain name: it becomes that of a directory.
    #[error(
        "create {0}: \"{0}\" includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" \
         are allowed. If you intended to pass a host directory, use absolute path"
    )]
    Name(String),
    /// One character is too few, and more than 255 bytes do not fit a directory's name.
    #[error("volume name is too {how}, names should have 2 to 255 characters")]
    NameLength {
        /// `short` or `long`.
        how: &'static str,
    },
    /// Only the driver `local` is there.
    #[error("create {name}: error looking up volume plugin {driver}: plugin \"{driver}\" not found")]
    Driver {
        /// The volume that was asked for.
        name: String,
        /// The driver that was asked for.
        driver: String,
    },
    /// A driver with this name is there already.
    #[error("a volume driver cannot be called {driver:?}: there is one of that name, or it is none")]
    DriverTaken {
        /// The name.
        driver: String,
    },
    /// A driver that a program brought could not do it.
    #[error("volume {name}: driver {driver}: {source}")]
    OfDriver {
        /// The volume.
        name: String,
        /// Its driver.
        driver: String,
        /// What the driver said.
        source: super::DriverError,
    },
    /// Options that say nothing that can be mounted.
    #[error("create {name}: {what}")]
    Options {
        /// The volume that was asked for.
        name: String,
        /// What is wrong.
        what: String,
    },
    /// The size of a volume cannot be bounded.
    #[error("create {name}: quota size requested but no quota support: {source}")]
    Quota {
        /// The volume that was asked for.
        name: String,
        /// Why.
        source: crate::quota::Error,
    },
    /// What a volume's options say cannot be mounted.
    #[error("failed to mount local volume: mount {device}:{mountpoint}, data: {data}: {source}")]
    Mount {
        /// What is mounted.
        device: String,
        /// The volume's directory.
        mountpoint: String,
        /// The options.
        data: String,
        /// What the system said.
        source: io::Error,
    },
    /// A part of a volume cannot be mounted.
    #[error("cannot access path {path}: {source}")]
    Subpath {
        /// The path in the volume.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// Its files are not where the engine has them.
    #[error("volume {name}: {what}")]
    Files {
        /// The volume.
        name: String,
        /// Why.
        what: String,
    },
    /// Its files cannot be packed, or an archive cannot be unpacked into it.
    #[error("volume {name}: {source}")]
    Archive {
        /// The volume.
        name: String,
        /// What went wrong.
        source: crate::snapshot::Error,
    },
    /// Somebody holds it.
    #[error("remove {name}: volume is in use - [{}]", holders.join(", "))]
    InUse {
        /// The volume.
        name: Name,
        /// Ids of the containers that use it.
        holders: Vec<String>,
    },
    /// A file of an image could not be copied into a new volume.
    #[error("volume {name}: copying {path:?} of the image: {source}")]
    Copy {
        /// The volume.
        name: Name,
        /// The path inside the image's directory.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// The image's directory is nested deeper than anything sensible.
    #[error("volume {name}: {path:?} of the image is nested too deeply to be copied ({limit} directories at most)")]
    Depth {
        /// The volume.
        name: Name,
        /// The path inside the image's directory.
        path: String,
        /// The bound.
        limit: usize,
    },
    /// Something on disk.
    #[error("volume {name}: {what}: {source}")]
    Io {
        /// The volume, or what names it.
        name: String,
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The records could not be read or written.
    #[error(transparent)]
    State(#[from] state::Error),
}

impl Error {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound(_) | Self::Driver { .. } => ErrorKind::NotFound,
            Self::Name(_)
            | Self::NameLength { .. }
            | Self::Depth { .. }
            | Self::Options { .. }
            | Self::Mount { .. }
            | Self::Subpath { .. }
            | Self::Files { .. } => ErrorKind::Invalid,
            Self::Archive { source, .. } => source.kind(),
            Self::Quota { source, .. } => source.kind(),
            Self::InUse { .. } | Self::DriverTaken { .. } => ErrorKind::Conflict,
            Self::Copy { .. } | Self::Io { .. } | Self::OfDriver { .. } => ErrorKind::Internal,
            Self::State(error) => error.kind(),
        }
    }

    pub(super) fn io(name: impl Into<String>, what: &'static str, source: impl Into<io::Error>) -> Self {
        Self::Io { name: name.into(), what, source: source.into() }
    }
}
