//! Starts containers through the spawner: a small process of the embedded program, started when it is first
//! needed and again when it died.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use engine_sys::{memfd, process, socket};

use crate::monitor::{Monitor, MonitorError};
use crate::protocol::{Event, MAX_MESSAGE, PlanBytes, Reason, Request};

/// How long a new spawner may take to say that it is ready.
const READY_TIMEOUT: Duration = Duration::from_secs(20);
/// What the process calls itself.
const PROCESS_NAME: &str = "engine-spawner";
/// The name of the program in the run directory, where memory files may not be executed.
const PROGRAM_NAME: &str = "engine-shim";

/// Why a container could not be launched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LaunchError {
    /// The spawner could not be started.
    #[error("cannot start the spawner: {0}")]
    Spawner(#[source] io::Error),
    /// The plan could not be handed over.
    #[error("cannot hand the plan over: {0}")]
    HandOver(#[source] io::Error),
    /// A step of the plan failed; nothing of the container is left.
    #[error("step {index} of the plan failed: {reason:?}, errno {errno}")]
    Step {
        /// The place of the operation in the plan.
        index: u32,
        /// The errno, or 0.
        errno: i32,
        /// Why.
        reason: Reason,
    },
    /// A hook failed that had to be run before the container goes on; nothing of the container is left.
    #[error(transparent)]
    Hooks(Box<crate::Error>),
    /// The monitor died or could not be understood.
    #[error("the monitor of the container went away while it was being started")]
    Lost,
}

/// A process that does nothing, until it is dropped.
#[derive(Debug)]
pub(crate) struct First {
    process: Child,
    connection: Option<OwnedFd>,
}

impl First {
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for First {
    fn drop(&mut self) {
        self.connection = None;
        // A host that ignores SIGCHLD has nothing to wait for.
        let _ = self.process.wait();
    }
}

/// A container that was launched.
#[derive(Debug)]
pub struct Launched {
    /// The connection to its monitor; it is subscribed from birth.
    pub monitor: Monitor,
    /// Init's pid, as the host sees it.
    pub pid: u32,
    /// Init's pidfd.
    pub process: OwnedFd,
    /// Init waits for [`Request::Start`]; otherwise the program runs already.
    pub waiting: bool,
}

/// Starts containers. One per Engine; dropping it ends the process behind it, but no container.
#[derive(Debug)]
pub struct Spawner {
    directory: PathBuf,
    open_files: Option<u64>,
    connection: Mutex<Option<Arc<OwnedFd>>>,
}

impl Spawner {
    /// Nothing is started yet. Where memory files may not be executed, the program is put into `run_directory`.
    #[must_use]
    pub fn new(run_directory: &Path) -> Self {
        Self { directory: run_directory.to_path_buf(), open_files: None, connection: Mutex::new(None) }
    }

    /// Sets how many files everything that it starts may have open at first.
    #[must_use]
    pub fn open_files(mut self, count: Option<u64>) -> Self {
        self.open_files = count;
        self
    }

    /// Starts the process now, so that the first launch is as fast as the others.
    ///
    /// # Errors
    /// [`LaunchError::Spawner`].
    pub fn warm(&self) -> Result<(), LaunchError> {
        self.connection().map(drop).map_err(LaunchError::Spawner)
    }

    /// Launches a container. Blocks until `execve` of its program succeeded (or init waits for start), or a step failed.
    ///
    /// # Errors
    /// [`LaunchError`].
    pub fn launch(&self, plan: &PlanBytes, descriptors: &[BorrowedFd<'_>]) -> Result<Launched, LaunchError> {
        self.launch_with(plan, descriptors, &mut |_| Ok(()))
    }

    /// As [`Spawner::launch`]. When the plan waits for hooks, `hooks` is called with init's pid and lets it go on or not.
    ///
    /// # Errors
    /// [`LaunchError`].
    pub fn launch_with(
        &self,
        plan: &PlanBytes,
        descriptors: &[BorrowedFd<'_>],
        hooks: &mut dyn FnMut(u32) -> Result<(), LaunchError>,
    ) -> Result<Launched, LaunchError> {
        if descriptors.len() != plan.descriptors() {
            return Err(LaunchError::HandOver(io::ErrorKind::InvalidInput.into()));
        }
        let file = plan.to_file().map_err(LaunchError::HandOver)?;
        let mut message = [0; 64];
        let length = Request::Launch {}.encode(&mut message).ok_or(LaunchError::Lost)?;
        let message = &message[..length];

        let mut tries = 0;
        loop {
            tries += 1;
            let spawner = self.connection().map_err(LaunchError::Spawner)?;
            let (ours, theirs) = socket::pair().map_err(LaunchError::HandOver)?;
            let mut all = vec![theirs.as_fd(), file.as_fd()];
            all.extend_from_slice(descriptors);
            let sent = socket::send(&*spawner, message, &all, true);
            drop(theirs);
            let outcome = match sent {
                Ok(()) => receive_outcome(ours, hooks),
                Err(error) if is_gone(&error) => Err(LaunchError::Lost),
                Err(error) => return Err(LaunchError::HandOver(error)),
            };
            match outcome {
                // The message died with the spawner: no monitor was made of it.
                Err(LaunchError::Lost) if tries < 3 && has_ended(&spawner) => self.forget(&spawner),
                outcome => return outcome,
            }
        }
    }

    /// The connection to a spawner that lives as far as is known.
    fn connection(&self) -> io::Result<Arc<OwnedFd>> {
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(living) = connection.as_ref() {
            return Ok(Arc::clone(living));
        }
        let started = Arc::new(self.start()?);
        *connection = Some(Arc::clone(&started));
        Ok(started)
    }

    /// Takes a dead connection away, unless somebody else has already replaced it.
    fn forget(&self, dead: &Arc<OwnedFd>) {
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        if connection.as_ref().is_some_and(|present| Arc::ptr_eq(present, dead)) {
            *connection = None;
        }
    }

    fn start(&self) -> io::Result<OwnedFd> {
        self.with_program(|program| spawn(program, self.open_files))
    }

    /// A process that does nothing: systemd makes no cgroup without one.
    pub(crate) fn first(&self) -> Result<First, LaunchError> {
        let started = || {
            let (ours, theirs) = socket::pair()?;
            // It waits for a plan that never comes.
            let process = self.with_program(|program| {
                let mut command = Command::new(program);
                command.arg0(PROCESS_NAME).env_clear().arg(theirs.as_raw_fd().to_string());
                command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
                process::spawn_with(&mut command, theirs.as_fd())
            })?;
            Ok(First { process, connection: Some(ours) })
        };
        started().map_err(LaunchError::Spawner)
    }

    /// Does something with the path of the program.
    pub(crate) fn with_program<T>(&self, run: impl Fn(&Path) -> io::Result<T>) -> io::Result<T> {
        let from_memory = memfd::sealed(PROCESS_NAME, engine_shim::PROGRAM, memfd::Use::Execute)
            .and_then(|program| run(Path::new(&format!("/proc/self/fd/{}", program.as_raw_fd()))));
        match from_memory {
            Ok(done) => Ok(done),
            // `vm.memfd_noexec`, a security module, or no /proc.
            Err(_) => run(&self.program_file()?),
        }
    }

    /// The program as a file, put in place whole and only once.
    fn program_file(&self) -> io::Result<PathBuf> {
        let path = self.directory.join(PROGRAM_NAME);
        if std::fs::read(&path).is_ok_and(|present| present == engine_shim::PROGRAM) {
            return Ok(path);
        }
        std::fs::create_dir_all(&self.directory)?;
        let draft = self.directory.join(format!("{PROGRAM_NAME}.{}", std::process::id()));
        let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o700).open(&draft)?;
        io::Write::write_all(&mut file, engine_shim::PROGRAM)?;
        file.set_permissions(std::fs::Permissions::from_mode(0o500))?;
        drop(file);
        std::fs::rename(&draft, &path)?;
        Ok(path)
    }
}

/// Starts the program and waits until the process that stays has said that it is ready. The one that was started here
/// forks and ends, so that the host program keeps no child.
fn spawn(program: &Path, open_files: Option<u64>) -> io::Result<OwnedFd> {
    let (ours, theirs) = socket::pair()?;
    let mut command = Command::new(program);
    command.arg0(PROCESS_NAME).env_clear().stdin(theirs).stdout(Stdio::null()).stderr(Stdio::null());
    if let Some(count) = open_files {
        process::limit_open_files(&mut command, count);
    }
    let mut child = command.spawn()?;
    // A host that ignores SIGCHLD has nothing to wait for.
    let _ = child.wait();
    if !process::wait(&ours, Some(READY_TIMEOUT))? {
        return Err(io::ErrorKind::TimedOut.into());
    }
    let mut buffer = [0; MAX_MESSAGE];
    let (length, _) = socket::receive(&ours, &mut buffer, false)?;
    match Event::decode(&buffer[..length]) {
        Some(Event::Ready {}) => Ok(ours),
        _ => Err(io::ErrorKind::ConnectionAborted.into()),
    }
}

fn receive_outcome(
    ours: OwnedFd,
    hooks: &mut dyn FnMut(u32) -> Result<(), LaunchError>,
) -> Result<Launched, LaunchError> {
    let monitor = Monitor::from_socket(ours);
    loop {
        let (event, descriptors) = monitor.receive().map_err(|error| match error {
            MonitorError::Receive(source) => LaunchError::HandOver(source),
            _ => LaunchError::Lost,
        })?;
        let (pid, waiting) = match event {
            Event::Started { pid } => (pid, false),
            Event::Waiting { pid } => (pid, true),
            Event::Prepared { pid } => {
                hooks(pid)?;
                monitor.send(&Request::Continue {}, &[]).map_err(|_| LaunchError::Lost)?;
                continue;
            }
            Event::StartFailed { failure } => {
                return Err(LaunchError::Step { index: failure.index, errno: failure.errno, reason: failure.reason });
            }
            _ => return Err(LaunchError::Lost),
        };
        let process = descriptors.into_iter().next().ok_or(LaunchError::Lost)?;
        return Ok(Launched { monitor, pid, process, waiting });
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::NotConnected)
}

/// Whether the other side of a connection on which nothing is ever received any more has ended.
fn has_ended(socket: &OwnedFd) -> bool {
    match socket::receive(socket, &mut [0; 64], false) {
        Ok((length, _)) => length == 0,
        Err(error) => error.kind() != io::ErrorKind::WouldBlock,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_program_can_be_started_from_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let spawner = Spawner::new(&directory.path().join("run"));
        let path = spawner.program_file().unwrap();
        assert_eq!(spawner.program_file().unwrap(), path);
        assert_eq!(std::fs::read_dir(directory.path().join("run")).unwrap().count(), 1);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o500);
        // Another test may start a spawner while the file was open for writing, and hold it for a moment.
        let socket = (0..50)
            .find_map(|_| spawn(&path, None).map_err(|_| std::thread::sleep(Duration::from_millis(20))).ok())
            .expect("a spawner");
        assert!(!has_ended(&socket));
    }

    #[test]
    fn a_damaged_file_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let spawner = Spawner::new(directory.path());
        std::fs::write(directory.path().join(PROGRAM_NAME), "damaged").unwrap();
        assert_eq!(std::fs::read(spawner.program_file().unwrap()).unwrap(), engine_shim::PROGRAM);
    }

    #[test]
    fn a_program_that_is_no_spawner_is_an_error() {
        assert!(spawn(Path::new("/bin/true"), None).is_err());
        assert!(spawn(Path::new("/no/such/program"), None).is_err());
    }

    #[test]
    fn a_plan_needs_its_descriptors() {
        let spawner = Spawner::new(Path::new("/nowhere"));
        let plan = crate::protocol::PlanWriter::new().finish(1).unwrap();
        assert!(matches!(spawner.launch(&plan, &[]), Err(LaunchError::HandOver(_))));
    }
}
