//! The processes of a cgroup: who they are, stopping them all, going on, and killing them all.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::{Cgroup, files};
use crate::Error;

/// How long the kernel may take to stop all processes.
const FREEZE_TIMEOUT: Duration = Duration::from_secs(10);
/// How many cgroups beneath that of a container are looked at; more are a sign of an attack.
const MAX_CHILDREN: usize = 10_000;

impl Cgroup {
    /// The processes in it and beneath it, as the host counts them.
    ///
    /// # Errors
    /// [`Error::Io`]; a cgroup that is gone has no processes.
    pub fn pids(&self) -> Result<Vec<u32>, Error> {
        let places = &self.places;
        let directory = places.controller("pids").or_else(|| places.directories().next());
        let Some(directory) = directory else { return Ok(Vec::new()) };
        let mut directories = vec![directory.clone()];
        directories.extend(children(&directory).map_err(Error::io("list", &directory))?);
        let mut pids = Vec::new();
        for directory in directories {
            let file = directory.join("cgroup.procs");
            match files::read(&file) {
                Ok(text) => {
                    pids.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()).filter(|pid| *pid > 0));
                }
                Err(error) if is_gone(&error) => {}
                Err(error) => return Err(Error::io("read", file)(error)),
            }
        }
        pids.sort_unstable();
        pids.dedup();
        Ok(pids)
    }

    /// Stops all processes; returns when they have stopped.
    ///
    /// # Errors
    /// [`Error::Io`] when they have not stopped after ten seconds (they go on then), [`Error::Unsupported`] when this machine
    /// cannot do it.
    pub fn freeze(&self) -> Result<(), Error> {
        let deadline = Instant::now() + FREEZE_TIMEOUT;
        let mut wait = Duration::from_micros(50);
        let (file, value) = self.freezer(true)?;
        loop {
            // In version 1 a process that was forked meanwhile is only caught by writing it again.
            files::write(&file, value).map_err(Error::io("write", &file))?;
            if self.is_frozen()? {
                return Ok(());
            }
            if Instant::now() > deadline {
                self.thaw()?;
                return Err(Error::io("freeze with", file)(io::ErrorKind::TimedOut.into()));
            }
            std::thread::sleep(wait);
            wait = (wait * 2).min(Duration::from_millis(10));
        }
    }

    /// Lets all processes go on.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Unsupported`].
    pub fn thaw(&self) -> Result<(), Error> {
        let (file, value) = self.freezer(false)?;
        files::write(&file, value).map_err(Error::io("write", file))
    }

    /// Whether all processes are stopped.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Unsupported`].
    pub fn is_frozen(&self) -> Result<bool, Error> {
        if let Some(directory) = self.places.controller("freezer") {
            let file = directory.join("freezer.state");
            return Ok(files::read(&file).map_err(Error::io("read", file))?.trim() == "FROZEN");
        }
        let directory = self.unified()?;
        let file = directory.join("cgroup.events");
        let events = files::table(&file).map_err(Error::io("read", file))?;
        Ok(events.iter().any(|(name, number)| name == "frozen" && *number == 1))
    }

    fn freezer(&self, stop: bool) -> Result<(PathBuf, &'static str), Error> {
        if let Some(directory) = self.places.controller("freezer") {
            return Ok((directory.join("freezer.state"), if stop { "FROZEN" } else { "THAWED" }));
        }
        Ok((self.unified()?.join("cgroup.freeze"), if stop { "1" } else { "0" }))
    }

    fn unified(&self) -> Result<PathBuf, Error> {
        let none = || Error::Unsupported("pausing: this machine has no cgroup that could do it".to_owned());
        self.places.unified().ok_or_else(none)
    }

    /// Kills all processes, those that are stopped too. They are gone a moment later.
    ///
    /// # Errors
    /// [`Error::Io`]; a cgroup that is gone has nobody to kill.
    pub fn kill(&self) -> Result<(), Error> {
        // Version 2 does it in one step that nobody escapes (Linux 5.14). Every process is in it, in the hybrid layout too.
        let kills = self.places.layout().unified.as_ref().is_some_and(|unified| unified.kills);
        if let Some(directory) = self.places.unified().filter(|_| kills) {
            match files::write(&directory.join("cgroup.kill"), "1") {
                Ok(()) => {
                    // Who is stopped by version 1 dies when it goes on.
                    let frozen = self.places.controller("freezer").is_some() && self.is_frozen().unwrap_or(false);
                    return if frozen { self.thaw() } else { Ok(()) };
                }
                Err(error) if is_gone(&error) => {}
                Err(error) => return Err(Error::io("kill", directory)(error)),
            }
        }
        // Stopped, nobody forks away. Where they cannot be stopped, the loop catches up with them.
        for _ in 0..10 {
            let frozen = self.freeze().is_ok();
            let pids = self.pids()?;
            for pid in &pids {
                let pid = i32::try_from(*pid).ok().and_then(Pid::from_raw);
                if let Some(pid) = pid {
                    // Who is gone already is what was wanted.
                    let _ = kill_process(pid, Signal::KILL);
                }
            }
            if self.exists() {
                let _ = self.thaw();
            }
            if pids.is_empty() || frozen {
                break;
            }
        }
        Ok(())
    }

    /// How often the kernel has killed a process in it for want of memory.
    ///
    /// # Errors
    /// [`Error::Io`]. A machine without the counter has never done it.
    pub fn oom_kills(&self) -> Result<u64, Error> {
        let Some(file) = self.places.oom_counter() else { return Ok(0) };
        let counters = files::table(&file).map_err(Error::io("read", file))?;
        Ok(counters.iter().find(|(name, _)| name == "oom_kill").map_or(0, |(_, number)| *number))
    }
}

/// The file or its directory is not there, or it is being taken away.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ENODEV)
}

/// The cgroups beneath `path`, each before those beneath itself.
pub(super) fn children(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found: Vec<PathBuf> = Vec::new();
    let mut next = Some(path.to_path_buf());
    let mut at = 0;
    while let Some(directory) = next {
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) if is_gone(&error) => return Ok(found),
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                found.push(entry.path());
            }
            if found.len() > MAX_CHILDREN {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
        }
        next = found.get(at).cloned();
        at += 1;
    }
    Ok(found)
}
