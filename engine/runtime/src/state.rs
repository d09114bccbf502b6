//! Where a container is in its life, as whoever comes by can see it.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::protocol::{Event, Request, Stage};
use crate::{Cgroup, Error, ExitRecord, Monitor, monitor::MonitorError};

/// How long a monitor may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where a container is in its life, in the words of the OCI specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It is being made: hooks are run, or it has not come as far as that.
    Creating,
    /// It is made and waits for its start.
    Created,
    /// Its process runs.
    Running,
    /// Its processes are stopped for a while.
    Paused,
    /// It has ended.
    Stopped,
}

impl Status {
    /// The word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }
}

/// What [`crate::Runtime::state`] has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerState {
    /// Where it is in its life.
    pub status: Status,
    /// Init's pid, as the host sees it, while there is one.
    pub pid: Option<u32>,
    /// How it ended.
    pub exit: Option<ExitRecord>,
    /// Its monitor is gone without a record: it was killed, and the container's process with it. What else of the container
    /// still runs is in its cgroup, and goes with [`crate::Runtime::remove`].
    pub lost: bool,
}

pub(crate) fn look(directory: &Path, socket: &str, cgroup: &Cgroup) -> Result<ContainerState, Error> {
    let stopped =
        |exit: Option<ExitRecord>| ContainerState { status: Status::Stopped, pid: None, lost: exit.is_none(), exit };
    if !directory.is_dir() {
        let name = directory.file_name().unwrap_or_default().to_string_lossy();
        return Err(Error::NotFound(format!("container {name}")));
    }
    let path = directory.join(socket);
    let monitor = Monitor::connect(&path).map_err(Error::Monitor)?;
    let answer = monitor.map(|monitor| ask(&monitor)).transpose().map_err(Error::Monitor)?.flatten();
    let record = || ExitRecord::read(directory).map_err(Error::Monitor);
    let Some((stage, pid)) = answer else {
        let exit = record()?;
        // Whoever makes the container makes the socket before the monitor is there.
        let made = path.exists() || exit.is_some();
        let creating = ContainerState { status: Status::Creating, pid: None, exit: None, lost: false };
        return Ok(if made { stopped(exit) } else { creating });
    };
    let status = match stage {
        Stage::Creating => Status::Creating,
        Stage::Waiting => Status::Created,
        Stage::Running if cgroup.is_frozen().unwrap_or(false) => Status::Paused,
        Stage::Running => Status::Running,
        Stage::Exited => return Ok(stopped(record()?)),
    };
    Ok(ContainerState { status, pid: Some(pid), exit: None, lost: false })
}

/// `None` when the monitor went away meanwhile.
fn ask(monitor: &Monitor) -> Result<Option<(Stage, u32)>, MonitorError> {
    let deadline = Instant::now() + PATIENCE;
    if monitor.send(&Request::Status {}, &[]).is_err() {
        return Ok(None);
    }
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if !engine_sys::process::wait(monitor, Some(left)).map_err(MonitorError::Receive)? {
            return Err(MonitorError::Receive(std::io::ErrorKind::TimedOut.into()));
        }
        match monitor.try_receive()? {
            Some((Event::Status { stage, pid, .. }, _)) => return Ok(Some((stage, pid))),
            Some((Event::Closed {}, _)) => return Ok(None),
            _ => {}
        }
    }
}
