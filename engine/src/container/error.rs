//! What can go wrong with containers, in the words that Docker's clients know.

use std::path::PathBuf;

use crate::error::ErrorKind;

/// What can go wrong with containers.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no such container.
    #[error("No such container: {0}")]
    NoSuchContainer(String),
    /// There is no such exec.
    #[error("No such exec instance: {0}")]
    NoSuchExec(String),
    /// A prefix fits several ids.
    #[error("multiple IDs found with provided prefix: {0}")]
    Ambiguous(String),
    /// A name is not one.
    #[error("Invalid container name ({0}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")]
    InvalidName(String),
    /// A name is taken.
    #[error(
        "Conflict. The container name \"/{name}\" is already in use by container \"{by}\". You have to remove (or rename) that container to be able to reuse that name."
    )]
    NameInUse {
        /// The name.
        name: String,
        /// Id of the container that has it.
        by: String,
    },
    /// There is no such path in a container.
    #[error("Could not find the file {path} in container {container}")]
    NoSuchPath {
        /// The path.
        path: String,
        /// The container's name.
        container: String,
    },
    /// There is no such checkpoint of a container.
    #[error("checkpoint {checkpoint} does not exist for container {container}")]
    NoSuchCheckpoint {
        /// The checkpoint.
        checkpoint: String,
        /// The container's name.
        container: String,
    },
    /// What was asked for is not allowed.
    #[error("{0}")]
    Denied(String),
    /// What was asked makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// What was asked is not there (yet), or not with this kernel.
    #[error("{0}")]
    Unsupported(String),
    /// What was asked does not go with how the container stands.
    #[error("{0}")]
    Conflict(String),
    /// It is like that already.
    #[error("{0}")]
    NotModified(String),
    /// What was asked cannot be had right now.
    #[error("{0}")]
    Unavailable(String),
    /// A process could not be started; `code` is what the state keeps as the exit code.
    #[error("{message}")]
    Start {
        /// 126: cannot be executed; 127: not found; 128: anything else.
        code: i32,
        /// Docker's text.
        message: String,
    },
    /// The kernel or the file system refused.
    #[error("{what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// The answer.
        source: std::io::Error,
    },
    /// Something that should not happen.
    #[error("{0}")]
    Internal(String),
    /// Of the image.
    #[error(transparent)]
    Image(#[from] crate::image::Error),
    /// Of a snapshot.
    #[error(transparent)]
    Snapshot(#[from] crate::snapshot::Error),
    /// Of the bound of what it writes.
    #[error("--storage-opt size: {0}")]
    Quota(#[from] crate::quota::Error),
    /// Of the network.
    #[error(transparent)]
    Network(#[from] crate::network::Error),
    /// Of the runtime.
    #[error(transparent)]
    Runtime(#[from] engine_runtime::Error),
    /// Of a volume.
    #[error(transparent)]
    Volume(#[from] crate::volume::Error),
    /// Of the state store.
    #[error(transparent)]
    State(#[from] crate::state::Error),
    /// Of the log.
    #[error(transparent)]
    Logs(#[from] crate::logs::Error),
}

impl Error {
    /// The same kind of error, with what was tried before it.
    pub(super) fn within(self, what: &str) -> Self {
        let text = format!("{what}: {self}");
        match self.kind() {
            ErrorKind::Invalid => Self::Invalid(text),
            ErrorKind::Conflict => Self::Conflict(text),
            ErrorKind::Unsupported => Self::Unsupported(text),
            ErrorKind::Unavailable => Self::Unavailable(text),
            _ => Self::Internal(text),
        }
    }

    /// What kind of thing went wrong.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoSuchContainer(_)
            | Self::NoSuchExec(_)
            | Self::NoSuchPath { .. }
            | Self::NoSuchCheckpoint { .. } => ErrorKind::NotFound,
            Self::Denied(_) => ErrorKind::Denied,
            Self::Ambiguous(_) | Self::InvalidName(_) | Self::Invalid(_) | Self::Start { .. } => ErrorKind::Invalid,
            Self::NameInUse { .. } | Self::Conflict(_) => ErrorKind::Conflict,
            Self::Unsupported(_) => ErrorKind::Unsupported,
            Self::NotModified(_) => ErrorKind::NotModified,
            Self::Unavailable(_) => ErrorKind::Unavailable,
            Self::Io { .. } | Self::Internal(_) => ErrorKind::Internal,
            Self::Image(error) => error.kind(),
            Self::Snapshot(error) => error.kind(),
            Self::Quota(error) => error.kind(),
            Self::Network(error) => error.kind(),
            Self::Volume(error) => error.kind(),
            Self::Runtime(error) => match error.kind() {
                engine_runtime::ErrorKind::Invalid | engine_runtime::ErrorKind::Process => ErrorKind::Invalid,
                engine_runtime::ErrorKind::Unsupported => ErrorKind::Unsupported,
                engine_runtime::ErrorKind::Conflict => ErrorKind::Conflict,
                engine_runtime::ErrorKind::NotFound => ErrorKind::NotFound,
                engine_runtime::ErrorKind::Internal => ErrorKind::Internal,
            },
            Self::State(error) => error.kind(),
            Self::Logs(error) => error.kind(),
        }
    }

    pub(super) fn invalid(text: impl Into<String>) -> Self {
        Self::Invalid(text.into())
    }

    pub(super) fn conflict(text: impl Into<String>) -> Self {
        Self::Conflict(text.into())
    }

    pub(super) fn unsupported(text: impl Into<String>) -> Self {
        Self::Unsupported(text.into())
    }

    pub(super) fn io(what: &'static str, path: impl Into<PathBuf>, source: impl Into<std::io::Error>) -> Self {
        Self::Io { what, path: path.into(), source: source.into() }
    }
}
