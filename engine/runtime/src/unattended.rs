//! Launches without a monitor, as the command line of an OCI runtime does them: whoever called it looks after the process.
//!
//! The process becomes a child of the calling process and has its standard streams. When the caller ends it goes to the
//! nearest process that looks after orphans, which is how containerd and podman wait for it. One that is to wait for its
//! start listens at a socket in its run directory; what becomes of the start is told there.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::time::Duration;

use engine_sys::{process, socket};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, WaitOptions, waitpid};

use crate::failure::{self, During};
use crate::plan;
use crate::protocol::{Failure, REPORT_LEN, Reason, Report, Request};
use crate::runtime::{PLAN_FILE, SOCKET};
use crate::spawner::LaunchError;
use crate::{Bundle, Error, Exec, Runtime, Unattended};

const PROCESS_NAME: &str = "engine-launcher";
const SIGKILL: i32 = 9;
/// Said of one that ended without a word.
const DIED: Failure = Failure { index: 0, errno: 0, reason: Reason::Died };

/// A process that was launched without a monitor. It is a child of this process, to be waited for by its pid.
#[derive(Debug)]
pub struct Begun {
    /// The pid, as this process sees it.
    pub pid: u32,
    /// The pidfd.
    pub process: OwnedFd,
    /// The master of its terminal, when the specification asks for one.
    pub terminal: Option<OwnedFd>,
}

impl Runtime {
    /// Launches a container that has no monitor: returns once its program runs, or waits for [`Runtime::start_unattended`].
    /// What the bundle says of streams and logs is not looked at.
    ///
    /// # Errors
    /// As [`Runtime::launch`].
    pub fn launch_unattended(&self, bundle: &Bundle, how: &Unattended) -> Result<Begun, Error> {
        self.prepare_as(bundle, false, Some(how))?.launch_by(None, |plan, descriptors, hooks| {
            let file = plan.bytes().to_file().map_err(Error::io("make", PLAN_FILE))?;
            let all: Vec<_> = std::iter::once(file.as_fd()).chain(descriptors.iter().copied()).collect();
            let why = |failure| failure::render(plan.bytes().as_bytes(), failure, During::Launch);
            let begun = self.begin(&all, how, hooks, why)?;
            Ok((begun.pid, bundle.wait_for_start, begun))
        })
    }

    /// Starts a further process in a container, likewise without a monitor: returns once its program runs.
    ///
    /// # Errors
    /// As [`Runtime::exec`], and [`Error::Process`] when the reason lies in the container.
    pub fn exec_unattended(&self, exec: &Exec<'_>, how: &Unattended) -> Result<Begun, Error> {
        let prepared = self.prepare_exec(exec, Some(how))?;
        self.begin(&prepared.descriptors(), how, &|_| Ok(()), |failure| prepared.failed(failure))
    }

    /// Whether a container that was launched without a monitor still waits for its start.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Invalid`] for what is no name of a container.
    pub fn is_waiting(&self, id: &str) -> Result<bool, Error> {
        self.connect_to_waiting(id).map(|connection| connection.is_some())
    }

    /// Lets a container go on that waits; returns once its program runs. `bundle` is what it was launched with.
    ///
    /// # Errors
    /// [`Error::Process`] when the reason lies in the container, [`Error::Invalid`] when it does not wait (any more).
    pub fn start_unattended(&self, bundle: &Bundle) -> Result<(), Error> {
        let id = &bundle.id;
        let connection = self
            .connect_to_waiting(id)?
            .ok_or_else(|| Error::Invalid(format!("container {id} does not wait for its start")))?;
        let failed = |source| Error::Spawner(LaunchError::HandOver(source));
        socket::send(&connection, b"g", &[], true).map_err(failed)?;
        let mut heard = Heard::default();
        while heard.wants_more() {
            heard.take(receive(&connection).map_err(failed)?);
        }
        match heard.failure() {
            None => Ok(()),
            Some(failure) => Err(self.failed_to_start(bundle, false, Some(&Unattended::default()), failure)),
        }
    }

    fn connect_to_waiting(&self, id: &str) -> Result<Option<OwnedFd>, Error> {
        plan::check_id(id)?;
        let path = self.directory(id).join(SOCKET);
        match socket::connect(&path) {
            Ok(connection) => Ok(Some(connection)),
            Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound) => {
                Ok(None)
            }
            Err(error) => Err(Error::io("connect to", path)(error)),
        }
    }

    /// Starts the embedded program, hands it the plan, and listens until the process is what it is to be.
    fn begin(
        &self,
        descriptors: &[BorrowedFd<'_>],
        how: &Unattended,
        hooks: &dyn Fn(u32) -> Result<(), Error>,
        why: impl FnOnce(Failure) -> Error,
    ) -> Result<Begun, Error> {
        let failed = |source| Error::Spawner(LaunchError::HandOver(source));
        let (ours, theirs) = socket::pair().map_err(failed)?;
        let launcher = self.spawner().with_program(|program| {
            let mut command = Command::new(program);
            command.arg0(PROCESS_NAME).env_clear();
            command.arg(theirs.as_raw_fd().to_string()).arg(how.descriptors.to_string());
            process::spawn_with(&mut command, theirs.as_fd())
        });
        let launcher = launcher.map_err(|error| Error::Spawner(LaunchError::Spawner(error)))?;
        let mut family = Family::new(launcher).map_err(failed)?;
        drop(theirs);
        let mut message = [0; 64];
        let length = Request::Launch {}.encode(&mut message).ok_or(Error::Spawner(LaunchError::Lost))?;
        socket::send(&ours, &message[..length], descriptors, true).map_err(failed)?;
        while family.heard.wants_more() {
            let spoken = family.speaks(&ours).map_err(failed)?;
            let news = if spoken { receive(&ours).map_err(failed)? } else { (None, Vec::new()) };
            family.heard.take(news);
            if let Some(pid) = family.heard.wants_hooks() {
                hooks(pid)?;
                socket::send(&ours, b"g", &[], true).map_err(failed)?;
            }
        }
        if let Some(failure) = family.failure() {
            return Err(why(failure));
        }
        family.settle().map_err(failed)
    }
}

/// What reports have said so far.
#[derive(Debug, Default)]
struct Heard {
    born: Option<u32>,
    moved: Option<u32>,
    terminal: Option<OwnedFd>,
    prepared: bool,
    waiting: bool,
    executing: bool,
    failed: Option<Failure>,
    ended: bool,
}

impl Heard {
    fn wants_more(&self) -> bool {
        // Who waits may be heard of before the one who made it has said its pid.
        !self.ended && self.failed.is_none() && !(self.waiting && self.born.is_some())
    }

    fn take(&mut self, (report, descriptors): (Option<Report>, Vec<OwnedFd>)) {
        match report {
            None => self.ended = true,
            Some(Report::Born(pid)) => self.born = u32::try_from(pid).ok(),
            Some(Report::Moved(pid)) => self.moved = u32::try_from(pid).ok(),
            Some(Report::Terminal) => self.terminal = descriptors.into_iter().next(),
            Some(Report::Prepared) => self.prepared = true,
            Some(Report::Waiting) => self.waiting = true,
            Some(Report::Executing) => self.executing = true,
            Some(Report::Failed(failure)) => self.failed = Some(failure),
        }
    }

    /// The pid for which hooks are to be run now, once. Who is prepared may be heard of before the one who made it has said its
    /// pid.
    fn wants_hooks(&mut self) -> Option<u32> {
        let pid = self.moved.or(self.born).filter(|_| self.prepared)?;
        self.prepared = false;
        Some(pid)
    }

    fn failure(&self) -> Option<Failure> {
        if self.executing || self.waiting { self.failed } else { Some(self.failed.unwrap_or(DIED)) }
    }
}

/// The processes of a launch that did not come to its end are killed, and nothing of them is left.
#[derive(Debug)]
struct Family {
    launcher: Child,
    /// Readable once the launcher has ended.
    launched: OwnedFd,
    heard: Heard,
}

impl Family {
    fn new(mut launcher: Child) -> io::Result<Self> {
        match process::open(launcher.id()) {
            Ok(launched) => Ok(Self { launcher, launched, heard: Heard::default() }),
            Err(error) => {
                launcher.kill()?;
                launcher.wait()?;
                Err(error)
            }
        }
    }

    /// Waits until there is news. There is none any more when the launcher was killed before it said whom it has made, who may
    /// wait for its start and keep the connection for ever.
    fn speaks(&self, connection: &OwnedFd) -> io::Result<bool> {
        if self.heard.born.is_some() {
            return Ok(true);
        }
        loop {
            let mut news = [PollFd::new(connection, PollFlags::IN), PollFd::new(&self.launched, PollFlags::IN)];
            match poll(&mut news, None) {
                Ok(_) if !news[0].revents().is_empty() => return Ok(true),
                // Looked at once more: its last word may have come between the two.
                Ok(_) => return process::wait(connection, Some(Duration::ZERO)),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn failure(&self) -> Option<Failure> {
        let failure = self.heard.failure();
        // Whom nobody has named cannot be looked after.
        if self.heard.born.is_none() { failure.or(Some(DIED)) } else { failure }
    }

    fn settle(mut self) -> io::Result<Begun> {
        let heard = &mut self.heard;
        let pid = heard.moved.or(heard.born).ok_or(io::ErrorKind::ConnectionAborted)?;
        let process = process::open(pid)?;
        let begun = Begun { pid, process, terminal: heard.terminal.take() };
        // The one that stays is nobody's to end any more.
        if heard.moved.take().is_none() {
            heard.born = None;
        }
        Ok(begun)
    }
}

impl Drop for Family {
    fn drop(&mut self) {
        for pid in [self.heard.moved, self.heard.born].into_iter().flatten() {
            if let Ok(process) = process::open(pid) {
                let _ = process::signal(process, SIGKILL);
            }
            let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
            let _ = waitpid(pid, WaitOptions::empty());
        }
        // It ends by itself at once.
        let _ = self.launcher.wait();
    }
}

/// The next report; `None` is the end of the connection.
fn receive(connection: &OwnedFd) -> io::Result<(Option<Report>, Vec<OwnedFd>)> {
    let mut buffer = [0; REPORT_LEN];
    match socket::receive(connection, &mut buffer, true) {
        Ok((0, _)) => Ok((None, Vec::new())),
        Ok((length, descriptors)) => {
            let report = Report::decode(&buffer[..length]).ok_or(io::ErrorKind::InvalidData)?;
            Ok((Some(report), descriptors))
        }
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok((None, Vec::new())),
        Err(error) => Err(error),
    }
}
