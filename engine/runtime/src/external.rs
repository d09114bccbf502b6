//! Containers that another OCI runtime makes, a program of the host that is called as containerd calls it: `create`, `start`,
//! `exec`, `delete`.
//!
//! The container's root and its mounts that are no path of the host are put together in a mount namespace that only the runtime is
//! in, so that nothing is mounted on the host. The monitor is the runtime's parent and the nearest subreaper: the process that the
//! runtime leaves is its child, like any other. The run directory is the OCI bundle and holds the runtime's own state, so that
//! nothing is left anywhere else.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use oci_spec::runtime::{LinuxNamespaceType, LinuxSeccomp, Process, Spec};

use crate::protocol::{Failure, Reason};
use crate::{Bundle, Error, Host, Runtime, seccomp};

/// Where programs are looked for that are named without a slash.
pub(crate) const SEARCH_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Names in the run directory.
pub(crate) const ROOTFS: &str = "rootfs";
pub(crate) const TREES: &str = "trees";
pub(crate) const INIT: &str = "init";
const STATE: &str = "runtime";
const CONFIG: &str = "config.json";
/// The version of the specification that runtimes are told: every one of them knows it.
const VERSION: &str = "1.0.2";
/// How long a runtime may take to start or delete a container.
const PATIENCE: Duration = Duration::from_secs(60);
/// The most of what a runtime says that is read, in bytes.
const MAX_SAID: u64 = 64 << 10;

/// An OCI runtime of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct External {
    /// The program: a path, or a name that is looked for in the usual directories of programs.
    pub program: String,
    /// What comes before the engine's own arguments.
    pub arguments: Vec<String>,
}

impl External {
    /// A runtime without arguments of its own.
    #[must_use]
    pub fn new(program: impl Into<String>) -> Self {
        Self { program: program.into(), arguments: Vec::new() }
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

    /// Calls the runtime and waits for its end.
    fn call(&self, directory: &Path, name: &str, verb: &[&str]) -> Result<(), Error> {
        let words = self.words(directory, name);
        let failed = |source| Error::io("run the OCI runtime", &self.program)(source);
        let (_, path) = SEARCH_PATH.split_once('=').unwrap_or_default();
        let mut child = Command::new(&self.program)
            .args(&words[1..])
            .args(verb)
            .env_clear()
            .env("PATH", path)
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(failed)?;
        let deadline = Instant::now() + PATIENCE;
        let mut pause = Duration::from_millis(1);
        let status = loop {
            match child.try_wait().map_err(failed)? {
                Some(status) => break status,
                None if Instant::now() > deadline => {
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err(Error::Process {
                        message: format!("{} {} did not end in {} s", self.program, verb[0], PATIENCE.as_secs()),
                        exit_code: 128,
                    });
                }
                None => std::thread::sleep(pause),
            }
            pause = (pause * 2).min(Duration::from_millis(20));
        };
        if status.success() {
            Ok(())
        } else {
            Err(self.failure(directory, name, verb[0], status.code().unwrap_or(128)))
        }
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
    /// Has a container started that an external runtime has made and that waits for it. Blocks.
    ///
    /// # Errors
    /// [`Error::Process`] with what the runtime says, [`Error::Io`].
    pub fn start_external(&self, id: &str, by: &External) -> Result<(), Error> {
        by.call(&self.run_directory(id)?, "start", &["start", id])
    }

    /// Has an external runtime forget a container, killing what is left of it. Nothing when it has made none. Blocks.
    ///
    /// # Errors
    /// [`Error::Process`] with what the runtime says, [`Error::Io`].
    pub fn delete_external(&self, id: &str, by: &External) -> Result<(), Error> {
        let directory = self.run_directory(id)?;
        if !directory.join(STATE).exists() {
            return Ok(());
        }
        by.call(&directory, "delete", &["delete", "--force", id])
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
    fn a_runtime_that_is_missing_or_fails_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let call = |program: &str| External::new(program).call(directory.path(), "x", &["start", "c"]);
        assert!(call("true").is_ok());
        assert_eq!(call("/bin/false").unwrap_err().to_string(), "/bin/false start ended with code 1 and said nothing");
        assert!(call("no-such-runtime").unwrap_err().to_string().starts_with("run the OCI runtime no-such-runtime"));
    }
}
