//! What can go wrong for a command, in the words its user reads, and the exit code of each.

use std::io;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum Error {
    /// The daemon said no.
    #[error("Error response from daemon: {message}")]
    Daemon {
        /// HTTP status.
        status: u16,
        /// The daemon's own words.
        message: String,
    },
    /// What was asked makes no sense; nothing was done.
    #[error("{0}")]
    Invalid(String),
    /// The value of a flag makes no sense.
    #[error("{0}")]
    Flag(String),
    /// A template for what is no list makes no sense.
    #[error("{0}")]
    Template(String),
    /// A terminal was asked for, and there is none.
    #[error("the input device is not a TTY")]
    NotATerminal,
    /// Nobody answers at the daemon's address.
    #[error(
        "cannot connect to the engine at {host}: {source}. Is engined running there? \
         Start it with `engined` as root, or name another address with -H or ENGINE_HOST"
    )]
    Unreachable {
        /// The address that was tried.
        host: String,
        /// Why it failed.
        source: io::Error,
    },
    /// A local file or stream.
    #[error("{what}: {source}")]
    Io {
        /// What was tried on what.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
    /// The connection to the daemon broke.
    #[error("{what}: {source}")]
    Http {
        /// The request that was under way.
        what: String,
        /// Why it failed.
        source: hyper::Error,
    },
    /// The daemon answered something else than the API says.
    #[error("{0}")]
    Protocol(String),
    /// The user left by the detach keys.
    #[error("read escape sequence")]
    Detached,
    /// The user wanted to leave a process that takes no notice of it.
    #[error("\ngot 3 SIGTERM/SIGINTs, forcefully exiting")]
    Forced,
    /// A signal ended the client; the terminal is as it was.
    #[error("ended by signal {0}")]
    Signalled(i32),
    /// The reader of our output has gone.
    #[error("the reader of the output has gone")]
    BrokenPipe,
}

impl Error {
    /// An error of a local file or stream.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| {
            if source.kind() == io::ErrorKind::BrokenPipe { Self::BrokenPipe } else { Self::Io { what, source } }
        }
    }

    /// True when the daemon said that there is no such thing.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Daemon { status: 404, .. })
    }

    /// Whether there is anything to tell the user.
    pub(crate) fn is_silent(&self) -> bool {
        matches!(self, Self::Signalled(_) | Self::BrokenPipe)
    }

    /// The exit code of most commands.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Signalled(number) => 128u8.saturating_add(u8::try_from(*number).unwrap_or(127)),
            Self::BrokenPipe => 141,
            Self::Flag(_) => 125,
            Self::Template(_) => 64,
            _ => 1,
        }
    }

    /// The exit code of `run` and `start -a`: 127 for a program that is not there, 126 for one that cannot run, else 125.
    pub(crate) fn start_exit_code(&self) -> u8 {
        match self {
            Self::Signalled(_) | Self::Forced | Self::BrokenPipe => self.exit_code(),
            Self::Daemon { message, .. } => {
                let has = |text: &str| message.contains(text);
                if has("executable file not found")
                    || has("no such file or directory")
                    || has("system cannot find the file")
                {
                    127
                } else if has("permission denied") || has("not a directory") || has("is a directory") {
                    126
                } else {
                    125
                }
            }
            _ => 125,
        }
    }
}

/// What `map_err` of a parser of flags wants.
impl From<String> for Error {
    fn from(text: String) -> Self {
        Self::Invalid(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_follow_the_daemon_s_words() {
        let code = |message: &str| Error::Daemon { status: 400, message: message.to_owned() }.start_exit_code();
        assert_eq!(code("exec: \"nope\": executable file not found in $PATH: unknown"), 127);
        assert_eq!(code("exec: \"/x\": stat /x: no such file or directory: unknown"), 127);
        assert_eq!(code("exec: \"/etc/passwd\": permission denied: unknown"), 126);
        assert_eq!(code("exec: \"/etc\": is a directory: unknown"), 126);
        assert_eq!(code("Conflict. The container name \"/x\" is already in use"), 125);
        assert_eq!(Error::Invalid("x".to_owned()).start_exit_code(), 125);
        assert_eq!(Error::Signalled(15).exit_code(), 143);
        assert_eq!(Error::Forced.start_exit_code(), 1);
        assert_eq!(Error::Detached.exit_code(), 1);
    }
}
