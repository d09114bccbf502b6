//! The error of this crate.

use std::io;
use std::path::PathBuf;

use crate::monitor::MonitorError;
use crate::spawner::LaunchError;

/// What kind of failure an [`Error`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// What was asked for makes no sense.
    Invalid,
    /// What was asked for makes sense, but this engine or this machine cannot do it.
    Unsupported,
    /// The container's process could not be started for a reason that lies in the container: no such program, not
    /// executable, no such user, a working directory outside of it.
    Process,
    /// There is a container of that name.
    Conflict,
    /// There is no such container.
    NotFound,
    /// The machine failed.
    Internal,
}

/// A failure of the runtime; the text says what was tried on what.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The bundle contradicts itself or the OCI specification.
    #[error("{0}")]
    Invalid(String),
    /// The bundle asks for something that is not supported.
    #[error("not supported: {0}")]
    Unsupported(String),
    /// A container of that name has a run directory or a cgroup.
    #[error("container {0} exists already")]
    Exists(String),
    /// There is no such container, or what is meant of it is gone.
    #[error("{0} does not exist")]
    NotFound(String),
    /// A system call or a file of the machine failed.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// How it failed.
        source: io::Error,
    },
    /// A value was refused by a cgroup file.
    #[error("set {} to {value:?}: {source}", file.display())]
    Resource {
        /// The file of the cgroup.
        file: PathBuf,
        /// What was written.
        value: String,
        /// How it failed.
        source: io::Error,
    },
    /// A cgroup could not be emptied or removed in time.
    #[error("cgroup {} of the container still has processes", path.display())]
    Busy {
        /// The directory that is left.
        path: PathBuf,
    },
    /// The container's process could not be started. The text is what the OCI runtimes say.
    #[error("{message}")]
    Process {
        /// The whole text.
        message: String,
        /// What a shell would report: 127 not found, 126 not executable, 128 otherwise.
        exit_code: i32,
    },
    /// A hook of the specification failed.
    #[error("error running {name}: {reason}")]
    Hook {
        /// Which one, such as `createRuntime hook #0`.
        name: String,
        /// How it failed.
        reason: String,
    },
    /// CRIU did not write a container down, or make it anew.
    #[error("{call}: {reason}")]
    Criu {
        /// Program and verb.
        call: String,
        /// How it failed, with what it said last.
        reason: String,
    },
    /// The process that starts containers, or the new monitor, failed.
    #[error(transparent)]
    Spawner(LaunchError),
    /// The monitor of a container could not be talked to, or its exit record not be read.
    #[error(transparent)]
    Monitor(MonitorError),
}

impl Error {
    /// What kind of failure this is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Invalid(_) => ErrorKind::Invalid,
            Self::Unsupported(_) => ErrorKind::Unsupported,
            Self::Exists(_) => ErrorKind::Conflict,
            Self::NotFound(_) => ErrorKind::NotFound,
            Self::Resource { source, .. } if matches!(source.raw_os_error(), Some(libc::EINVAL | libc::ERANGE)) => {
                ErrorKind::Invalid
            }
            Self::Io { .. }
            | Self::Resource { .. }
            | Self::Busy { .. }
            | Self::Criu { .. }
            | Self::Spawner(_)
            | Self::Monitor(_) => ErrorKind::Internal,
            Self::Process { .. } | Self::Hook { .. } => ErrorKind::Process,
        }
    }

    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}
