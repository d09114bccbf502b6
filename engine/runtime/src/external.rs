//! Containers that another OCI runtime makes, a program of the host that is called as containerd calls it: `create`, `start`,
//! `exec`, `delete`. It is never a child of this program: the container's monitor calls it, and for `start` and `delete` a
//! process that the spawner makes. Each call has a bound in time.
//!
//! The container's root and its mounts that are no path of the host are put together in a mount namespace that only the runtime is
//! in, so that nothing is mounted on the host. The monitor is the runtime's parent and the nearest subreaper: the process that the
//! runtime leaves is its child, like any other. The run directory is the OCI bundle and holds the runtime's own state, so that
//! nothing is left anywhere else.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use oci_spec::runtime::{LinuxNamespaceType, LinuxSeccomp, Process, Spec};
use serde::{Deserialize, Serialize};

use crate::protocol::{Failure, Reason};
use crate::spawner::LaunchError;
use crate::{Bundle, Error, Host, Runtime, plan, seccomp};

/// Where programs are looked for that are named without a slash.
pub(crate) const SEARCH_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Names in the run directory.
pub(crate) const ROOTFS: &str = "rootfs";
pub(crate) const TREES: &str = "trees";
pub(crate) const INIT: &str = "init";
const STATE: &str = "runtime";
const CONFIG: &str = "config.json";
const BY: &str = "made-by.json";
/// The version of the specification that runtimes are told: every one of them knows it.
const VERSION: &str = "1.0.2";
/// How long a runtime may take for one call. Those that begin with a virtual machine take some seconds.
const PATIENCE: Duration = Duration::from_secs(60);
/// The most of what a runtime says that is read, in bytes.
const MAX_SAID: u64 = 64 << 10;

/// An OCI runtime of the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct External {
    /// The program: a path, or a name that is looked for in the usual directories of programs.
    pub program: String,
    /// What comes before the engine's own arguments.
    pub arguments: Vec<String>,
    /// How long it may take for one call; then it is killed, and the call has failed.
    pub patience: Duration,
}

impl External {
    /// A runtime without arguments of its own, that may take a minute.
    #[must_use]
    pub fn new(program: impl Into<String>) -> Self {
        Self { program: program.into(), arguments: Vec::new(), patience: PATIENCE }
    }

    /// The same with the path of its program, which is looked for now and is not again: what a name means may change while a
    /// container lives.
    ///
    /// # Errors
    /// [`Error::Io`] when no program is there that can be executed.
    pub fn found(mut self) -> Result<Self, Error> {
        let (_, directories) = SEARCH_PATH.split_once('=').unwrap_or_default();
        let named = Path::new(&self.program);
        let places: Vec<PathBuf> = match self.program.contains('/') {
            true => vec![named.to_owned()],
            false => directories.split(':').map(|directory| Path::new(directory).join(named)).collect(),
        };
        let program = places.into_iter().find(|path| is_program(path));
        let missing = || Error::io("find the OCI runtime", named)(io::ErrorKind::NotFound.into());
        self.program = program.and_then(|path| path.to_str().map(str::to_owned)).ok_or_else(missing)?;
        Ok(self)
    }

    /// The program and everything before the verb, for a container with this run directory; what goes wrong is written to `NAME.log`.
    pub(crate) fn words(&self, directory: &Path, name: &str) -> Vec<String> {
        let path = |name: &str| directory.join(name).display().to_string();
        let mut words = vec![self.program.clone()];
        words.extend(self.arguments.iter().cloned());
        let log = path(&format!("{name}.log"));
        words.extend(["--root".to_owned(), path(STATE), "--log".to_owned(), log]);
        words.extend(["--log-format", "json"].map(str::to_owned));
        words
    }

    /// Why a call failed that ended with this code.
    fn failure(&self, directory: &Path, name: &str, verb: &str, code: i32) -> Error {
        let message = said(&directory.join(format!("{name}.log"))).unwrap_or_else(|| match code {
            0 => format!("{} {verb} left no process", self.program),
            code => format!("{} {verb} ended with code {code} and said nothing", self.program),
        });
        let exit_code = exit_code(&message);
        Error::Process { message, exit_code }
    }
}

fn is_program(path: &Path) -> bool {
    let executable = rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok();
    executable && path.metadata().is_ok_and(|found| found.is_file())
}

/// Where a runtime that a monitor calls says what went wrong.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    by: External,
    directory: PathBuf,
    name: String,
    verb: &'static str,
}

impl Outcome {
    /// The error behind a failure, if it is the runtime's.
    pub(crate) fn error(&self, failure: Failure) -> Option<Error> {
        match failure.reason {
            Reason::RuntimeFailed => {
                let error = self.by.failure(&self.directory, &self.name, self.verb, failure.errno);
                let Error::Process { message, exit_code } = error else { return Some(error) };
                let message = message.strip_prefix("exec failed: ").map(str::to_owned).unwrap_or(message);
                Some(Error::Process { message, exit_code })
            }
            Reason::RuntimeTimedOut => {
                let (program, seconds) = (&self.by.program, self.by.patience.as_secs_f32());
                let message = format!("{program} {} did not end in {seconds} s and was killed", self.verb);
                Some(Error::Process { message, exit_code: 128 })
            }
            Reason::NotInPath | Reason::NotFound | Reason::PermissionDenied | Reason::IsDirectory | Reason::Execute => {
                Some(Error::Process {
                    message: format!("the OCI runtime {:?} cannot be run: {:?}", self.by.program, failure.reason),
                    exit_code: 128,
                })
            }
            _ => None,
        }
    }
}

/// The latest error in a log of lines of JSON; of another log the last line.
fn said(log: &Path) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Line {
        #[serde(default)]
        level: String,
        msg: String,
    }
    let mut text = Vec::new();
    File::open(log).ok()?.take(MAX_SAID).read_to_end(&mut text).ok()?;
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<Line> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let error = lines.iter().rev().find(|line| matches!(line.level.as_str(), "error" | "fatal")).or(lines.last());
    let said = match error {
        Some(line) => line.msg.trim().to_owned(),
        None => text.lines().rev().find(|line| !line.trim().is_empty())?.trim().to_owned(),
    };
    Some(said).filter(|said| !said.is_empty())
}

/// What a shell would report; the runtimes say it in words only.
fn exit_code(message: &str) -> i32 {
    match message {
        text if text.contains("executable file not found") || text.contains("no such file or directory") => 127,
        text if text.contains("permission denied") || text.contains("exec format error") => 126,
        _ => 128,
    }
}

/// A launch by an external runtime, until the network is known.
#[derive(Debug)]
pub(crate) struct Outside {
    spec: Spec,
    pub(crate) outcome: Outcome,
}

impl Outside {
    pub(crate) fn new(
        bundle: &Bundle,
        by: &External,
        directory: &Path,
        cgroup: &Path,
        host: &Host,
    ) -> Result<Self, Error> {
        for (set, what) in [
            (bundle.user.is_some() || !bundle.additional_groups.is_empty(), "users and groups by name"),
            (bundle.init, "the engine's own init"),
        ] {
            if set {
                return Err(Error::Unsupported(format!("{what} with the OCI runtime {}", by.program)));
            }
        }
        let spec = told(bundle, directory, cgroup, host)?;
        let outcome =
            Outcome { by: by.clone(), directory: directory.to_owned(), name: INIT.to_owned(), verb: "create" };
        Ok(Self { spec, outcome })
    }

    /// Writes down by whom the container is made: whoever has to do with it later asks the same program.
    pub(crate) fn remember(&self) -> Result<(), Error> {
        write_json(&self.outcome.directory.join(BY), &self.outcome.by)
    }

    /// Writes the bundle's configuration, with the network namespace that was handed over.
    pub(crate) fn write(&mut self, network: Option<&OwnedFd>) -> Result<(), Error> {
        let path = self.outcome.directory.join(CONFIG);
        if let Some(network) = network
            && let Some(linux) = self.spec.linux_mut()
        {
            let mut namespaces = linux.namespaces().clone().unwrap_or_default();
            for namespace in namespaces.iter_mut().filter(|one| one.typ() == LinuxNamespaceType::Network) {
                let here = format!("/proc/{}/fd/{}", std::process::id(), network.as_raw_fd());
                namespace.set_path(Some(PathBuf::from(here)));
            }
            linux.set_namespaces(Some(namespaces));
        }
        write_json(&path, &self.spec)
    }
}

/// The specification as the runtime is told it.
fn told(bundle: &Bundle, directory: &Path, cgroup: &Path, host: &Host) -> Result<Spec, Error> {
    let mut spec = bundle.spec.clone();
    // What is used of later versions is ignored by who does not know it; some refuse a version that they do not know.
    spec.set_version(VERSION.to_owned());
    let readonly = spec.root().as_ref().and_then(oci_spec::runtime::Root::readonly);
    let mut root = oci_spec::runtime::Root::default();
    root.set_path(directory.join(ROOTFS)).set_readonly(readonly);
    spec.set_root(Some(root));
    let mut mounts = spec.mounts().clone().unwrap_or_default();
    for mount in &mut mounts {
        if let Some(at) = bundle.trees.keys().position(|destination| destination == mount.destination()) {
            mount.set_source(Some(directory.join(TREES).join(at.to_string())));
        }
    }
    spec.set_mounts(Some(mounts));
    let filter = filter(bundle, host)?;
    if let Some(linux) = spec.linux_mut() {
        // What is relative would be beneath the runtime's own.
        linux.set_cgroups_path(Some(Path::new("/").join(cgroup)));
        if let Some(filter) = filter {
            linux.set_seccomp(Some(filter));
        }
    }
    if let (Some((rows, columns)), Some(process)) = (bundle.terminal_size, spec.process_mut())
        && process.terminal() == Some(true)
    {
        let size = oci_spec::runtime::BoxBuilder::default().height(rows).width(columns).build();
        process.set_console_size(size.ok());
    }
    Ok(spec)
}

/// The filter that the specification does not have: the runtime is told in full what the engine's own knows by a word.
fn filter(bundle: &Bundle, host: &Host) -> Result<Option<LinuxSeccomp>, Error> {
    let own = bundle.spec.linux().as_ref().is_some_and(|linux| linux.seccomp().is_some());
    if (bundle.docker_filter || own) && !host.features.seccomp {
        return Err(Error::Unsupported("seccomp filters; this kernel has none".to_owned()));
    }
    let docker = || seccomp::Profile::docker().into_resolved(&seccomp::held(&bundle.spec), host);
    Ok(bundle.docker_filter.then(docker))
}

fn write_json(path: &Path, value: &impl serde::Serialize) -> Result<(), Error> {
    let failed = |error: io::Error| Error::io("write", path)(error);
    let text = serde_json::to_vec(value).map_err(|error| failed(error.into()))?;
    fs::write(path, text).map_err(failed)
}

/// What an exec needs on disk; taken away when it has started or failed.
#[derive(Debug)]
pub(crate) struct ExecFiles {
    pub(crate) directory: PathBuf,
    pub(crate) name: String,
    pub(crate) outcome: Outcome,
}

impl ExecFiles {
    pub(crate) fn new(directory: PathBuf, number: u64, by: &External, command: &Process) -> Result<Self, Error> {
        let name = format!("exec-{number}");
        let outcome = Outcome { by: by.clone(), directory: directory.clone(), name: name.clone(), verb: "exec" };
        let files = Self { directory, name, outcome };
        write_json(&files.path("json"), command)?;
        Ok(files)
    }

    pub(crate) fn path(&self, kind: &str) -> PathBuf {
        self.directory.join(format!("{}.{kind}", self.name))
    }
}

impl Drop for ExecFiles {
    fn drop(&mut self) {
        for kind in ["json", "pid", "log", "sock"] {
            // Not every exec has all of them.
            let _ = fs::remove_file(self.path(kind));
        }
    }
}

impl Runtime {
    /// The runtime that a container was made by, when that was another one and the container was not removed.
    ///
    /// # Errors
    /// [`Error::Invalid`] for what is no name of a container, [`Error::Io`].
    pub fn external(&self, id: &str) -> Result<Option<External>, Error> {
        let path = self.run_directory(id)?.join(BY);
        match File::open(&path) {
            Ok(file) => serde_json::from_reader(file.take(MAX_SAID))
                .map(Some)
                .map_err(|error| Error::io("read", &path)(error.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("open", &path)(error)),
        }
    }

    /// Has a container started that an external runtime has made and that waits for it. Blocks.
    ///
    /// # Errors
    /// [`Error::Process`] with what the runtime says, [`Error::NotFound`] when none has made it, [`Error::Io`].
    pub fn start_external(&self, id: &str) -> Result<(), Error> {
        let by = self.external(id)?.ok_or_else(|| Error::NotFound(id.to_owned()))?;
        self.call(&by, id, "start", &["start"])
    }

    /// Has the external runtime that made a container forget it, killing what is left of it. Nothing when none has made it.
    /// Blocks.
    ///
    /// # Errors
    /// [`Error::Process`] with what the runtime says, [`Error::Io`].
    pub fn delete_external(&self, id: &str) -> Result<(), Error> {
        let Some(by) = self.external(id)? else { return Ok(()) };
        if !self.run_directory(id)?.join(STATE).exists() {
            return Ok(());
        }
        self.call(&by, id, "delete", &["delete", "--force"])
    }

    /// Calls a runtime for something else than to make a process, and waits for its end.
    fn call(&self, by: &External, id: &str, name: &str, verb: &[&'static str]) -> Result<(), Error> {
        let directory = self.run_directory(id)?;
        let plan = plan::external::call(id, by, &directory, name, verb, self.host())?;
        let outcome = Outcome { by: by.clone(), directory, name: name.to_owned(), verb: verb[0] };
        // Nobody but a container is launched so that it stays: what is told is the end.
        match self.spawner().launch(plan.bytes(), &[]) {
            Ok(_) => Ok(()),
            Err(LaunchError::Step { index, errno, reason }) => {
                let failure = Failure { index, errno, reason };
                let message = || format!("call {} {}: {reason:?}, errno {errno}", by.program, verb[0]);
                Err(outcome.error(failure).unwrap_or_else(|| Error::Process { message: message(), exit_code: 128 }))
            }
            Err(error) => Err(Error::Spawner(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_a_runtime_said_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("x.log");
        let said = |text: &str| {
            fs::write(&log, text).unwrap();
            super::said(&log)
        };
        let lines = "{\"level\":\"warning\",\"msg\":\"a\"}\n{\"level\":\"error\",\"msg\":\"b\"}\n{\"level\":\"info\",\"msg\":\"c\"}\n";
        assert_eq!(said(lines).as_deref(), Some("b"));
        assert_eq!(said("some words\n\n").as_deref(), Some("some words"));
        assert_eq!(said(""), None);
        assert_eq!(super::said(Path::new("/nonexistent")), None);
    }

    #[test]
    fn codes_are_those_of_a_shell() {
        assert_eq!(exit_code("exec: \"x\": executable file not found in $PATH"), 127);
        assert_eq!(exit_code("exec: \"/etc/passwd\": permission denied"), 126);
        assert_eq!(exit_code("anything else"), 128);
    }

    #[test]
    fn a_program_is_found_once() {
        let found = External::new("true").found().unwrap();
        assert!(found.program.ends_with("/bin/true"), "{found:?}");
        assert_eq!(found.clone().found().unwrap(), found);
        for nothing in ["no-such-runtime", "/no/such/runtime", "/etc/passwd", "/bin", ""] {
            let error = External::new(nothing).found().unwrap_err().to_string();
            assert!(error.starts_with("find the OCI runtime"), "{error}");
        }
    }
}
