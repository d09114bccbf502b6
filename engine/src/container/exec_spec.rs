//! What is asked for when a further process is started in a container, and how such a process stands.

use serde::{Deserialize, Serialize};

use super::attach::DetachKeys;
use crate::id::{ContainerId, ExecId};

/// A further process in a running container.
///
/// ```
/// use engine::ExecSpec;
/// let spec = ExecSpec::new(["sh", "-c", "id"]).user("nobody").env("A", "b");
/// assert_eq!(spec.env, ["A=b"]);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExecSpec {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Variables on top of the container's, as `NAME=value`; `NAME` alone takes one away.
    pub env: Vec<String>,
    /// `user[:group]`; that of the container when empty.
    pub user: String,
    /// Absolute path; that of the container when empty.
    pub working_dir: String,
    /// Give it a terminal.
    pub tty: bool,
    /// Its standard input can be attached.
    pub attach_stdin: bool,
    /// Its standard output goes to the client.
    pub attach_stdout: bool,
    /// Its standard error goes to the client.
    pub attach_stderr: bool,
    /// Every capability.
    pub privileged: bool,
    /// What detaches a client when it is typed at the terminal.
    pub detach_keys: DetachKeys,
    /// First size of the terminal, rows and columns.
    pub console_size: Option<(u16, u16)>,
}

impl ExecSpec {
    /// Runs a program with both outputs attached and nothing else asked for.
    pub fn new<S: Into<String>>(command: impl IntoIterator<Item = S>) -> Self {
        Self {
            command: command.into_iter().map(Into::into).collect(),
            attach_stdout: true,
            attach_stderr: true,
            ..Self::default()
        }
    }

    /// Adds a variable.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<str>, value: impl AsRef<str>) -> Self {
        self.env.push(format!("{}={}", name.as_ref(), value.as_ref()));
        self
    }

    /// Sets the user.
    #[must_use]
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.user = user.into();
        self
    }

    /// Sets the working directory.
    #[must_use]
    pub fn working_dir(mut self, path: impl Into<String>) -> Self {
        self.working_dir = path.into();
        self
    }

    /// Gives it a terminal.
    #[must_use]
    pub fn tty(mut self, tty: bool) -> Self {
        self.tty = tty;
        self
    }

    /// Lets standard input be attached.
    #[must_use]
    pub fn stdin(mut self, stdin: bool) -> Self {
        self.attach_stdin = stdin;
        self
    }

    /// Gives it every capability.
    #[must_use]
    pub fn privileged(mut self, privileged: bool) -> Self {
        self.privileged = privileged;
        self
    }
}

/// How a process started in a container stands.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExecRecord {
    /// Its id.
    pub id: ExecId,
    /// The container it is in.
    pub container: ContainerId,
    /// What was asked for.
    pub spec: ExecSpec,
    /// How far it has come.
    pub state: ExecState,
}

/// How far a process started in a container has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ExecState {
    /// It has not been started.
    #[default]
    Created,
    /// It is being started.
    Starting,
    /// It runs.
    Running {
        /// Its process id on the host.
        pid: u32,
    },
    /// It has ended, or could not be started.
    Exited {
        /// The exit code; 128 and the signal's number when a signal ended it, 126 or 127 when it could not be started.
        code: i32,
        /// Its process id while it ran; 0 when it never did.
        pid: u32,
    },
}

impl ExecState {
    /// Whether it runs.
    #[must_use]
    pub fn is_running(self) -> bool {
        matches!(self, Self::Starting | Self::Running { .. })
    }

    /// The exit code, once there is one.
    #[must_use]
    pub fn exit_code(self) -> Option<i32> {
        if let Self::Exited { code, .. } = self { Some(code) } else { None }
    }

    /// Its process id on the host; 0 when it never ran.
    #[must_use]
    pub fn pid(self) -> u32 {
        match self {
            Self::Running { pid } | Self::Exited { pid, .. } => pid,
            Self::Created | Self::Starting => 0,
        }
    }
}
