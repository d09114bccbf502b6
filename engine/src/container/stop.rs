//! Signals to a running container: kill, stop, restart, pause and unpause.

use std::time::Duration;

use super::inventory::{blocking, not_running, uninterrupted};
use super::live::Live;
use super::record::Record;
use super::start::Begin;
use super::status::Status;
use super::{Container, Error, WaitCondition};

/// Seconds until a stop kills, when neither the container nor whoever stops it says so.
const DEFAULT_TIMEOUT: i64 = 10;
/// How long the kernel may take to end a killed process.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);

/// The cgroup of a container that has ended goes before its task hears of the end.
fn unless_ended(done: Result<(), engine_runtime::Error>, record: &Record) -> Result<(), Error> {
    use rustix::io::Errno;
    match done {
        Err(engine_runtime::Error::Io { source, .. })
            if matches!(Errno::from_io_error(&source), Some(Errno::NOENT | Errno::NODEV)) =>
        {
            Err(not_running(record.id.as_str()))
        }
        done => Ok(done?),
    }
}

/// How a container is stopped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StopOptions {
    /// The signal that asks it to end, by name or number; its own when none is given.
    pub signal: Option<String>,
    /// Seconds until it is killed; -1 waits without end; its own when none is given.
    pub timeout: Option<i64>,
}

impl StopOptions {
    /// Sets [`StopOptions::signal`].
    #[must_use]
    pub fn signal(mut self, signal: impl Into<String>) -> Self {
        self.signal = Some(signal.into());
        self
    }

    /// Sets [`StopOptions::timeout`].
    #[must_use]
    pub fn timeout(mut self, seconds: i64) -> Self {
        self.timeout = Some(seconds);
        self
    }
}

impl Container {
    /// Sends a signal, by name (with or without `SIG`) or number; nothing stands for `KILL`, which is waited for.
    ///
    /// # Errors
    /// When it does not run, or there is no such signal.
    pub async fn kill(&self, signal: &str) -> Result<(), Error> {
        let signal = if signal.is_empty() { KILL } else { parse_signal(signal)? };
        self.owned()?;
        let record = self.inner.record();
        if (signal == KILL || signal == own_signal(&record).unwrap_or(TERM)) && self.stop_between_runs()? {
            return Ok(());
        }
        let cannot =
            || Error::conflict(format!("cannot kill container: {}: {}", record.name, not_running(record.id.as_str())));
        let live = self.inner.live().filter(|_| record.state.status.has_process()).ok_or_else(cannot)?;
        let over = self.inner.register(WaitCondition::NotRunning);
        let to_end = signal == KILL || signal == own_signal(&record).unwrap_or(TERM);
        if !self.send(&live, signal, to_end)? {
            return Ok(());
        }
        if signal == KILL {
            let _ = tokio::time::timeout(KILL_TIMEOUT, over).await;
        }
        Ok(())
    }

    /// Sends a signal that means to end it; a container that is paused goes on, to hear it. False when it had ended by
    /// itself just before, and is kept from being started again.
    fn send(&self, live: &Live, signal: i32, to_end: bool) -> Result<bool, Error> {
        if to_end {
            let marked = self.inner.change(&self.shared, |record| {
                let mut record = record.clone();
                record.state.stopped_on_purpose = true;
                Ok(record)
            });
            marked?;
            if self.stop_between_runs()? {
                return Ok(false);
            }
        }
        let there = live.signal(signal)?;
        if there && to_end && self.inner.record().state.status == Status::Paused {
            self.shared.parts.runtime.cgroup(self.inner.id.as_str())?.thaw()?;
            self.inner.change_state(&self.shared, |state| state.unpaused())?;
        }
        self.shared.tell(&self.inner.record(), "kill", &[("signal", signal.to_string())]);
        Ok(true)
    }

    /// Asks it to end, and kills it when it has not after a while.
    ///
    /// # Errors
    /// When it does not run ([`NotModified`](crate::error::ErrorKind::NotModified)), or there is no such signal.
    pub async fn stop(&self, options: StopOptions) -> Result<(), Error> {
        let this = self.clone();
        uninterrupted(async move {
            let _turn = this.inner.lifecycle.lock().await;
            this.stop_in_turn(&options).await
        })
        .await
    }

    async fn stop_in_turn(&self, options: &StopOptions) -> Result<(), Error> {
        self.owned()?;
        let record = self.inner.record();
        let stopped = || Error::NotModified(format!("container {} is already stopped", record.id));
        let signal = match options.signal.as_deref().filter(|signal| !signal.is_empty()) {
            Some(signal) => parse_signal(signal)?,
            None => own_signal(&record).unwrap_or(TERM),
        };
        if self.stop_between_runs()? {
            self.shared.tell(&self.inner.record(), "stop", &[]);
            return Ok(());
        }
        let live = self.inner.live().filter(|_| record.state.status.has_process()).ok_or_else(stopped)?;
        let mut over = self.inner.register(WaitCondition::NotRunning);
        let sent = self.send(&live, signal, true)?;
        let seconds = options.timeout.or(record.config.stop_timeout).unwrap_or(DEFAULT_TIMEOUT);
        let ended = match u64::try_from(seconds) {
            _ if !sent => true,
            Ok(seconds) => tokio::time::timeout(Duration::from_secs(seconds), &mut over).await.is_ok(),
            Err(_) => (&mut over).await.is_ok(),
        };
        if !ended {
            self.send(&live, KILL, true)?;
            // Whoever hangs in the kernel may never end; the container is not stopped then.
            if tokio::time::timeout(KILL_TIMEOUT, over).await.is_err() {
                return Err(Error::Internal(format!("container {} did not end after it was killed", record.id)));
            }
        }
        self.inner.settle().await.or_else(gone_is_stopped)?;
        self.shared.tell(&self.inner.record(), "stop", &[]);
        Ok(())
    }

    /// Stops it when it runs, and starts it.
    ///
    /// # Errors
    /// As [`Container::stop`] and [`Container::start`].
    pub async fn restart(&self, options: StopOptions) -> Result<(), Error> {
        let this = self.clone();
        uninterrupted(async move {
            let _turn = this.inner.lifecycle.lock().await;
            // Otherwise one that is removed at its end would be.
            this.inner.set_restarting(true);
            let stopped = match this.stop_in_turn(&options).await {
                Err(Error::NotModified(_)) => Ok(()),
                other => other,
            };
            let started = match stopped {
                Ok(()) => this.start_in_turn(Begin::Asked, None).await,
                Err(error) => Err(error),
            };
            this.inner.set_restarting(false);
            started?;
            this.shared.tell(&this.inner.record(), "restart", &[]);
            Ok(())
        })
        .await
    }

    /// Freezes all of its processes.
    ///
    /// # Errors
    /// When it does not run, or is paused already.
    pub async fn pause(&self) -> Result<(), Error> {
        let this = self.clone();
        uninterrupted(async move {
            let _turn = this.inner.lifecycle.lock().await;
            this.owned()?;
            let record = this.inner.record();
            match record.state.status {
                Status::Running => {}
                Status::Paused => return Err(Error::conflict(format!("container {} is already paused", record.id))),
                _ => return Err(not_running(record.id.as_str())),
            }
            let cgroup = this.shared.parts.runtime.cgroup(record.id.as_str())?;
            let frozen = cgroup.clone();
            blocking(move || unless_ended(frozen.freeze(), &record)).await?;
            match this.inner.change_state(&this.shared, |state| state.paused()) {
                Ok(record) => {
                    this.shared.tell(&record, "pause", &[]);
                    Ok(())
                }
                Err(error) => {
                    unless_ended(cgroup.thaw(), &this.inner.record())?;
                    Err(error)
                }
            }
        })
        .await
    }

    /// Lets a paused container go on.
    ///
    /// # Errors
    /// When it is not paused.
    pub async fn unpause(&self) -> Result<(), Error> {
        let this = self.clone();
        uninterrupted(async move {
            let _turn = this.inner.lifecycle.lock().await;
            this.owned()?;
            let record = this.inner.record();
            if record.state.status != Status::Paused {
                return Err(Error::conflict(format!("Container {} is not paused", record.id)));
            }
            unless_ended(this.shared.parts.runtime.cgroup(record.id.as_str())?.thaw(), &record)?;
            let record = this.inner.change_state(&this.shared, |state| state.unpaused())?;
            this.shared.tell(&record, "unpause", &[]);
            Ok(())
        })
        .await
    }
}

fn gone_is_stopped(error: Error) -> Result<(), Error> {
    if matches!(error, Error::NoSuchContainer(_)) { Ok(()) } else { Err(error) }
}

fn own_signal(record: &super::Record) -> Option<i32> {
    // One that is not known has been refused at create, or comes from the image and is no reason not to stop.
    record.config.stop_signal.as_deref().and_then(|signal| parse_signal(signal).ok())
}

/// Reads a signal: a number, or a name with or without `SIG`, such as `TERM` or `RTMIN+3`.
pub(super) fn parse_signal(text: &str) -> Result<i32, Error> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let real_time = |base: i32, rest: &str, sign: i32| {
        if rest.is_empty() { Some(base) } else { rest[1..].parse::<i32>().ok()?.checked_mul(sign)?.checked_add(base) }
    };
    let number = if let Ok(number) = text.parse::<i32>() {
        Some(number)
    } else if let Some(rest) = name.strip_prefix("RTMIN").filter(|rest| rest.is_empty() || rest.starts_with('+')) {
        real_time(RTMIN, rest, 1)
    } else if let Some(rest) = name.strip_prefix("RTMAX").filter(|rest| rest.is_empty() || rest.starts_with('-')) {
        real_time(RTMAX, rest, -1)
    } else {
        SIGNALS.iter().find(|(known, _)| *known == name).map(|(_, number)| *number)
    };
    number
        .filter(|number| (1..=RTMAX).contains(number))
        .ok_or_else(|| Error::invalid(format!("invalid signal: {}", text.chars().take(64).collect::<String>())))
}

const KILL: i32 = 9;
const TERM: i32 = 15;
/// The first real-time signal that the C library leaves to programs.
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

const SIGNALS: [(&str, i32); 35] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("IOT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("POLL", 29),
    ("PWR", 30),
    ("SYS", 31),
    ("UNUSED", 31),
];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn signals_are_read_in_every_form() {
        for (text, number) in
            [("9", 9), ("KILL", 9), ("SIGKILL", 9), ("sigterm", 15), ("RTMIN", 34), ("SIGRTMIN+3", 37), ("RTMAX-1", 63)]
        {
            assert_eq!(parse_signal(text).unwrap(), number, "{text}");
        }
        for wrong in ["", "0", "-1", "65", "SIGNOPE", "RTMIN+99", "RTMAX-99999999999", "RTMIN3"] {
            assert_eq!(parse_signal(wrong).unwrap_err().to_string(), format!("invalid signal: {wrong}"));
        }
    }
}
