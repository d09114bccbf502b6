//! Where a container is in its life. Every change is one of the pure functions of this file.
//!
//! ```text
//!   create ──► Created ─────── started ──────► Running ◄──── unpaused ──── Paused
//!                 │  ▲                           │  └───────── paused ───────►│
//!                 │  └ start_failed              │                            │
//!                 │                   exited, restarting ◄────────────────┘
//!                 │                              ▼
//!                 │      Exited ◄─ given_up ─ Restarting ── started ──► Running …
//!                 │      Exited ── resumed ──►
//!                 │      Exited ── started ──► Running …
//!                 └────────► removing ◄──────────┘ (Exited)
//!                               │
//!                            Removing ──► gone, or Dead when something could not be taken away (removing again)
//! ```

use serde::{Deserialize, Serialize};

/// Where a container is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Status {
    /// Made, never started.
    #[default]
    Created,
    /// Its process is there.
    Running,
    /// Its processes are there and frozen.
    Paused,
    /// Between two runs of a restart policy.
    Restarting,
    /// Its process has ended.
    Exited,
    /// It is being taken away.
    Removing,
    /// It could not be taken away completely.
    Dead,
}

impl Status {
    /// Docker's word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Exited => "exited",
            Self::Removing => "removing",
            Self::Dead => "dead",
        }
    }

    /// The status that a word stands for.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Created, Self::Running, Self::Paused, Self::Restarting, Self::Exited, Self::Removing, Self::Dead]
            .into_iter()
            .find(|status| status.as_str() == word)
    }

    /// Whether it runs, or does so again in a moment.
    #[must_use]
    pub fn goes_on(self) -> bool {
        self.has_process() || self == Self::Restarting
    }

    /// Whether there is a process, frozen or not.
    #[must_use]
    pub fn has_process(self) -> bool {
        matches!(self, Self::Running | Self::Paused)
    }
}

/// The part of a container that changes. Times are nanoseconds since 1970, 0 for never.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct ContainerState {
    /// Where it is in its life.
    pub status: Status,
    /// Process id of its first process on the host; 0 while there is none.
    pub pid: u32,
    /// Exit code of its last run, 128 and the signal's number when one ended it.
    pub exit_code: i32,
    /// Why its last start failed.
    pub error: String,
    /// The kernel killed a process of its last run because memory was used up.
    pub oom_killed: bool,
    /// When its last run began.
    pub started_at: i64,
    /// When its last run ended.
    pub finished_at: i64,
    /// It was stopped or killed on purpose since its last start.
    pub stopped_on_purpose: bool,
}

/// A change that the present status does not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refused(pub(super) Status);

impl ContainerState {
    pub(super) fn started(&self, pid: u32, at: i64) -> Result<Self, Refused> {
        match self.status {
            Status::Created | Status::Exited | Status::Restarting => Ok(Self {
                status: Status::Running,
                pid,
                exit_code: 0,
                error: String::new(),
                oom_killed: false,
                started_at: at,
                finished_at: self.finished_at,
                stopped_on_purpose: false,
            }),
            status => Err(Refused(status)),
        }
    }

    /// A start that failed leaves the status as it was and says why.
    pub(super) fn start_failed(&self, exit_code: i32, error: String) -> Self {
        Self { exit_code, error, pid: 0, ..self.clone() }
    }

    pub(super) fn exited(&self, exit_code: i32, oom_killed: bool, at: i64) -> Result<Self, Refused> {
        if !self.status.has_process() {
            return Err(Refused(self.status));
        }
        // Clocks are set back at times; an end is never before its beginning.
        let finished_at = at.max(self.started_at);
        let oom_killed = self.oom_killed || oom_killed;
        Ok(Self { status: Status::Exited, pid: 0, exit_code, oom_killed, finished_at, ..self.clone() })
    }

    /// After the kernel has killed one of its processes for want of memory; nothing when that is known.
    pub(super) fn out_of_memory(&self) -> Option<Self> {
        (self.status.has_process() && !self.oom_killed).then(|| Self { oom_killed: true, ..self.clone() })
    }

    /// As [`ContainerState::exited`] when its policy starts it again.
    pub(super) fn restarting(&self, exit_code: i32, oom_killed: bool, at: i64) -> Result<Self, Refused> {
        Ok(Self { status: Status::Restarting, ..self.exited(exit_code, oom_killed, at)? })
    }

    /// Its policy starts one again that does not run.
    pub(super) fn resumed(&self) -> Result<Self, Refused> {
        match self.status {
            Status::Exited | Status::Restarting => {
                Ok(Self { status: Status::Restarting, stopped_on_purpose: false, ..self.clone() })
            }
            status => Err(Refused(status)),
        }
    }

    /// It is not started again.
    pub(super) fn given_up(&self) -> Result<Self, Refused> {
        match self.status {
            Status::Restarting => Ok(Self { status: Status::Exited, stopped_on_purpose: true, ..self.clone() }),
            status => Err(Refused(status)),
        }
    }

    pub(super) fn paused(&self) -> Result<Self, Refused> {
        match self.status {
            Status::Running => Ok(Self { status: Status::Paused, ..self.clone() }),
            status => Err(Refused(status)),
        }
    }

    pub(super) fn unpaused(&self) -> Result<Self, Refused> {
        match self.status {
            Status::Paused => Ok(Self { status: Status::Running, ..self.clone() }),
            status => Err(Refused(status)),
        }
    }

    pub(super) fn removing(&self) -> Result<Self, Refused> {
        match self.status {
            Status::Created | Status::Exited | Status::Dead => {
                Ok(Self { status: Status::Removing, pid: 0, ..self.clone() })
            }
            status => Err(Refused(status)),
        }
    }

    pub(super) fn dead(&self, error: String) -> Result<Self, Refused> {
        match self.status {
            Status::Removing => Ok(Self { status: Status::Dead, error, ..self.clone() }),
            status => Err(Refused(status)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_life_from_create_to_remove() {
        let created = ContainerState::default();
        let running = created.started(42, 7).unwrap();
        assert_eq!((running.status, running.pid, running.started_at), (Status::Running, 42, 7));
        let paused = running.paused().unwrap();
        assert_eq!(paused.unpaused().unwrap(), running);
        let exited = running.exited(137, true, 9).unwrap();
        assert_eq!((exited.status, exited.pid, exited.exit_code, exited.oom_killed), (Status::Exited, 0, 137, true));
        let again = exited.started(43, 11).unwrap();
        assert_eq!((again.exit_code, again.oom_killed, again.finished_at), (0, false, 9));
        let short = again.out_of_memory().unwrap();
        assert_eq!((short.status, short.oom_killed, short.out_of_memory()), (Status::Running, true, None));
        assert!(short.exited(0, false, 12).unwrap().oom_killed);
        assert_eq!(exited.out_of_memory(), None);
        assert_eq!(exited.removing().unwrap().status, Status::Removing);
        assert_eq!(
            exited.removing().unwrap().dead("busy".to_owned()).unwrap().removing().unwrap().status,
            Status::Removing
        );
    }

    #[test]
    fn a_failed_start_keeps_the_status() {
        let failed = ContainerState::default().start_failed(127, "no such program".to_owned());
        assert_eq!((failed.status, failed.exit_code), (Status::Created, 127));
    }

    #[test]
    fn between_two_runs() {
        let running = ContainerState::default().started(42, 7).unwrap();
        let between = running.restarting(3, false, 9).unwrap();
        assert_eq!((between.status, between.pid, between.exit_code), (Status::Restarting, 0, 3));
        assert_eq!(between.removing(), Err(Refused(Status::Restarting)));
        assert_eq!(between.exited(0, false, 9), Err(Refused(Status::Restarting)));
        assert_eq!(between.started(43, 11).unwrap().status, Status::Running);
        let over = between.given_up().unwrap();
        assert_eq!((over.status, over.exit_code, over.stopped_on_purpose), (Status::Exited, 3, true));
        assert_eq!(over.given_up(), Err(Refused(Status::Exited)));
        assert_eq!(over.resumed().unwrap().status, Status::Restarting);
        assert_eq!(running.resumed(), Err(Refused(Status::Running)));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let created = ContainerState::default();
        let running = created.started(1, 1).unwrap();
        assert_eq!(running.started(2, 2), Err(Refused(Status::Running)));
        assert_eq!(running.removing(), Err(Refused(Status::Running)));
        assert_eq!(running.unpaused(), Err(Refused(Status::Running)));
        assert_eq!(created.exited(0, false, 1), Err(Refused(Status::Created)));
        assert_eq!(created.paused(), Err(Refused(Status::Created)));
        assert_eq!(running.paused().unwrap().removing(), Err(Refused(Status::Paused)));
        assert_eq!(created.dead(String::new()), Err(Refused(Status::Created)));
        let removing = created.removing().unwrap();
        assert_eq!(removing.started(1, 1), Err(Refused(Status::Removing)));
        assert_eq!(removing.removing(), Err(Refused(Status::Removing)));
    }

    #[test]
    fn words_are_dockers() {
        assert_eq!(Status::from_word("running"), Some(Status::Running));
        assert_eq!(Status::from_word("bogus"), None);
    }
}
