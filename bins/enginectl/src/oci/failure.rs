//! Why a command failed, and where that is written: callers read the last error of the log.

use std::fmt;
use std::fs::OpenOptions;
use std::io::Write;

use engine_runtime::Error;
use jiff::Timestamp;

use crate::session::Io;

/// Why a command failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The command line makes no sense.
    Usage(String),
    /// Help was asked for.
    Help,
    /// What was tried did not succeed.
    Told {
        /// The text.
        text: String,
        /// The exit code.
        code: u8,
    },
}

impl Failure {
    /// A failure with the usual exit code.
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self::Told { text: text.into(), code: 1 }
    }

    /// What goes wrong with a file.
    pub(super) fn io(what: impl fmt::Display) -> impl FnOnce(std::io::Error) -> Self {
        move |error| Self::new(format!("{what}: {}", plain(&error)))
    }

    /// Says in which command it happened.
    pub(super) fn within(self, command: &str) -> Self {
        match self {
            Self::Told { text, code } => Self::Told { text: format!("{command}: {text}"), code },
            other => other,
        }
    }

    /// With another exit code.
    pub(super) fn exits(self, code: u8) -> Self {
        match self {
            Self::Told { text, .. } => Self::Told { text, code },
            other => other,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(text) | Self::Told { text, .. } => f.write_str(text),
            Self::Help => f.write_str("help"),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Exists(_) => Self::new("container with given ID already exists"),
            other => Self::new(other.to_string()),
        }
    }
}

impl From<engine_runtime::monitor::MonitorError> for Failure {
    fn from(error: engine_runtime::monitor::MonitorError) -> Self {
        Self::new(error.to_string())
    }
}

/// The kernel's words as the other runtimes write them: in lower case and without the number.
fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.rsplit_once(" (os error").map_or(text.as_str(), |(text, _)| text);
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

/// Where failures are written, as `--log` and `--log-format` say.
#[derive(Clone, Debug, Default)]
pub(super) struct Log {
    path: Option<String>,
    json: bool,
}

impl Log {
    /// `path`: a file, which is added to; none is standard error. `format`: `text` or `json`.
    pub(super) fn new(path: Option<&str>, format: Option<&str>) -> Result<Self, Failure> {
        let json = match format.unwrap_or("text") {
            "text" => false,
            "json" => true,
            other => return Err(Failure::new(format!("unknown log-format {other:?}"))),
        };
        Ok(Self { path: path.map(str::to_owned), json })
    }

    /// Writes an error; to standard error too when there is a log, since somebody may look at either.
    pub(super) fn error(&self, io: &Io, text: &str) {
        self.write(io, "error", text);
        if self.path.is_some() {
            let _ = (&io.stderr).write_all(format!("{text}\n").as_bytes());
        }
    }

    /// Writes what was no failure.
    pub(super) fn warning(&self, io: &Io, text: &str) {
        self.write(io, "warning", text);
    }

    fn write(&self, io: &Io, level: &str, text: &str) {
        let time = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ");
        let line = if self.json {
            let object = serde_json::json!({ "level": level, "msg": text, "time": time.to_string() });
            format!("{object}\n")
        } else {
            format!("time=\"{time}\" level={level} msg={}\n", serde_json::json!(text))
        };
        let Some(path) = &self.path else {
            let _ = (&io.stderr).write_all(line.as_bytes());
            return;
        };
        let log = OpenOptions::new().append(true).create(true).open(path);
        if let Err(error) = log.and_then(|mut log| log.write_all(line.as_bytes())) {
            let _ = (&io.stderr).write_all(format!("write the log {path}: {error}\n").as_bytes());
        }
    }
}
