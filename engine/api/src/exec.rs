//! Exec: a further process in a running container.

use serde::{Deserialize, Serialize};

use crate::container::strings;

/// `POST /containers/{id}/exec`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ExecCreate {
    /// `user[:group]`; empty means the container's.
    pub user: String,
    /// With all capabilities.
    pub privileged: bool,
    /// With a terminal.
    pub tty: bool,
    /// Rows and columns of the terminal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub console_size: Option<[u32; 2]>,
    /// Connect stdin at start.
    pub attach_stdin: bool,
    /// Connect stderr at start.
    pub attach_stderr: bool,
    /// Connect stdout at start.
    pub attach_stdout: bool,
    /// Keys that detach, such as `ctrl-p,ctrl-q`.
    pub detach_keys: String,
    /// Further environment, `NAME=value`.
    pub env: Option<Vec<String>>,
    /// Empty means the container's.
    pub working_dir: String,
    /// The program and its arguments.
    #[serde(deserialize_with = "strings")]
    pub cmd: Option<Vec<String>>,
}

/// Answer to [`ExecCreate`] and other requests that make something with an id.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct IdResponse {
    /// The id.
    pub id: String,
}

/// `POST /exec/{id}/start`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ExecStart {
    /// Answer as soon as it runs, connect nothing.
    pub detach: bool,
    /// Must be what was said at creation.
    pub tty: bool,
    /// Rows and columns of the terminal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub console_size: Option<[u32; 2]>,
}

/// `GET /exec/{id}/json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ExecInspect {
    /// Its id.
    #[serde(rename = "ID")]
    pub id: String,
    /// True while the process lives.
    pub running: bool,
    /// None until the process has ended.
    pub exit_code: Option<i32>,
    /// What runs.
    pub process_config: ProcessConfig,
    /// Stdin is or was connected.
    pub open_stdin: bool,
    /// Stderr is or was connected.
    pub open_stderr: bool,
    /// Stdout is or was connected.
    pub open_stdout: bool,
    /// True when it has ended and may be forgotten.
    pub can_remove: bool,
    /// Where it runs.
    #[serde(rename = "ContainerID")]
    pub container_id: String,
    /// Keys that detach, in base64.
    pub detach_keys: String,
    /// On the host; 0 when it does not run.
    pub pid: i64,
}

/// The process of an exec.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProcessConfig {
    /// With a terminal.
    pub tty: bool,
    /// The program.
    pub entrypoint: String,
    /// Its arguments.
    pub arguments: Option<Vec<String>>,
    /// With all capabilities.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub privileged: Option<bool>,
    /// `user[:group]`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user: String,
}
