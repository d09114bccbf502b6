//! What a command works with: the three streams, the environment, and the daemon.

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{IsTerminal, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use crate::client::{Client, Host};
use crate::error::Error;

/// Looks up an environment variable.
pub type Environment = Box<dyn Fn(&str) -> Option<OsString>>;

/// The streams and the environment of one call of the client. Nothing else of the process is read.
pub struct Io {
    /// Read by commands that take input.
    pub stdin: File,
    /// Results go here.
    pub stdout: File,
    /// Errors and progress go here.
    pub stderr: File,
    /// Looks up an environment variable.
    pub environment: Environment,
}

impl Io {
    /// The process's own streams and environment.
    ///
    /// # Errors
    /// When the descriptors of the process cannot be duplicated.
    pub fn standard() -> std::io::Result<Self> {
        let own = |fd: std::io::Result<OwnedFd>| {
            fd.map(File::from).or_else(|_| File::options().read(true).write(true).open("/dev/null"))
        };
        Ok(Self {
            stdin: own(std::io::stdin().as_fd().try_clone_to_owned())?,
            stdout: own(std::io::stdout().as_fd().try_clone_to_owned())?,
            stderr: own(std::io::stderr().as_fd().try_clone_to_owned())?,
            environment: Box::new(|name| std::env::var_os(name)),
        })
    }

    /// An environment variable that is set and not empty.
    pub(crate) fn variable(&self, name: &str) -> Option<String> {
        (self.environment)(name).and_then(|value| value.into_string().ok()).filter(|value| !value.is_empty())
    }
}

impl fmt::Debug for Io {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Io").field("stdin", &self.stdin).field("stdout", &self.stdout).finish_non_exhaustive()
    }
}

/// What the flags before the command say.
#[derive(Clone, Debug, Default)]
pub(crate) struct Choices {
    /// Where the daemon is.
    pub(crate) host: Option<String>,
    /// The directory of the settings.
    pub(crate) config: Option<String>,
    /// Tell what the daemon is asked.
    pub(crate) debug: bool,
}

/// One call of the client.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) io: Io,
    choices: Choices,
    client: Option<Client>,
}

impl Session {
    /// Nothing is connected yet.
    pub(crate) fn new(io: Io, choices: Choices) -> Self {
        Self { io, choices, client: None }
    }

    /// Whether it is told what the daemon is asked.
    pub(crate) fn debug(&self) -> bool {
        self.choices.debug
    }

    /// The directory of the settings.
    pub(crate) fn settings(&self) -> Result<PathBuf, Error> {
        let chosen = self.choices.config.clone().filter(|directory| !directory.is_empty());
        chosen
            .or_else(|| self.io.variable("DOCKER_CONFIG"))
            .or_else(|| self.io.variable("HOME").map(|home| format!("{home}/.docker")))
            .map(PathBuf::from)
            .ok_or_else(|| Error::Invalid("neither DOCKER_CONFIG nor HOME says where logins are kept".to_owned()))
    }

    /// The daemon; nothing is connected before the first request.
    pub(crate) fn client(&mut self) -> Result<Client, Error> {
        if let Some(client) = &self.client {
            return Ok(client.clone());
        }
        let asked = self.choices.host.clone();
        let asked = asked.or_else(|| self.io.variable("ENGINE_HOST")).or_else(|| self.io.variable("DOCKER_HOST"));
        let host = match asked {
            Some(text) => Host::parse(&text)?,
            None => Host::default(),
        };
        if matches!(host, Host::Tcp(_)) && self.io.variable("DOCKER_TLS_VERIFY").is_some() {
            return Err(Error::Invalid(
                "DOCKER_TLS_VERIFY is set, but enginectl does not speak TLS yet: unset it, or use a unix socket"
                    .to_owned(),
            ));
        }
        let told = if self.choices.debug { Some(duplicate(&self.io.stderr)?) } else { None };
        let client = Client::new(host, self.io.variable("DOCKER_API_VERSION"), told)?;
        self.client = Some(client.clone());
        Ok(client)
    }

    /// Writes to standard output, all at once.
    pub(crate) fn print(&self, text: impl AsRef<[u8]>) -> Result<(), Error> {
        (&self.io.stdout).write_all(text.as_ref()).map_err(Error::io("write to standard output"))
    }

    /// Writes a line to standard output.
    pub(crate) fn print_line(&self, text: impl fmt::Display) -> Result<(), Error> {
        self.print(format!("{text}\n"))
    }

    /// Writes a line to standard error; if nobody reads it there is nobody to tell.
    pub(crate) fn complain(&self, text: impl fmt::Display) {
        let _ = (&self.io.stderr).write_all(format!("{text}\n").as_bytes());
    }

    /// The columns of the terminal that standard output is, if it is one.
    pub(crate) fn width(&self) -> Option<usize> {
        if !self.io.stdout.is_terminal() {
            return None;
        }
        crate::terminal::size(self.io.stdout.as_fd()).map(|(_, columns)| usize::from(columns))
    }
}

/// A second handle on a stream, for a thread of its own.
pub(crate) fn duplicate(file: &File) -> Result<File, Error> {
    file.try_clone().map_err(Error::io("duplicate a standard stream"))
}
