//! What the state store can fail with.

use std::path::PathBuf;

use rusqlite::ErrorCode;

use super::Table;
use crate::error::ErrorKind;

/// An error of the state store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The store's directory or file cannot be made.
    #[error("make the state store {}: {source}", path.display())]
    Make {
        /// What was to be made.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The store cannot be opened.
    #[error("open the state store {}: {source}; if it is damaged, move it away to begin anew", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// SQLite's answer.
        source: rusqlite::Error,
    },
    /// Another, newer version wrote it.
    #[error("the state store {} has format {found}, this version knows formats up to {known}: use a newer version", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest known one.
        known: u32,
    },
    /// A statement failed.
    #[error("{what}: {source}")]
    Sql {
        /// What was tried.
        what: &'static str,
        /// SQLite's answer.
        source: rusqlite::Error,
    },
    /// The key is taken.
    #[error("the {table} {key:?} is there already")]
    Exists {
        /// The kind of record.
        table: Table,
        /// Its key.
        key: String,
    },
    /// The record does not parse; it was put aside.
    #[error("the record of {table} {key:?} is damaged and was put aside: {reason}")]
    Corrupt {
        /// The kind of record.
        table: Table,
        /// Its key.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The value cannot be written.
    #[error("write the record of {table} {key:?}: {reason}")]
    Unwritable {
        /// The kind of record.
        table: Table,
        /// Its key.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl Error {
    /// What kind of thing went wrong.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Exists { .. } => ErrorKind::Conflict,
            Self::Newer { .. } => ErrorKind::Unsupported,
            Self::Open { source, .. } | Self::Sql { source, .. } => match source.sqlite_error_code() {
                Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::DiskFull) => {
                    ErrorKind::Unavailable
                }
                Some(ErrorCode::PermissionDenied | ErrorCode::ReadOnly) => ErrorKind::Denied,
                _ => ErrorKind::Internal,
            },
            Self::Make { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => ErrorKind::Denied,
            Self::Make { .. } | Self::Corrupt { .. } | Self::Unwritable { .. } => ErrorKind::Internal,
        }
    }

    pub(super) fn sql(what: &'static str, source: rusqlite::Error) -> Self {
        Self::Sql { what, source }
    }
}
