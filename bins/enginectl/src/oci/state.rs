//! What is written down of a container in its run directory, and what it is doing now.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use engine_runtime::spec::Spec;
use engine_runtime::{Bundle, Error, Rootfs, Runtime, hooks};
use engine_sys::{file, process};
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

use super::failure::Failure;
use super::{Call, document};

const STATE: &str = "state.json";
const CONFIG: &str = "config.json";
/// Bytes of the longest configuration that is read.
const MAX_CONFIG: u64 = 16 << 20;

/// What is known of a container since its creation.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record {
    pub(super) id: String,
    pub(super) pid: u32,
    /// When init was born, in ticks since the machine was: another process with its pid has another.
    pub(super) started: u64,
    pub(super) bundle: PathBuf,
    pub(super) rootfs: PathBuf,
    pub(super) created: String,
    #[serde(default)]
    pub(super) annotations: HashMap<String, String>,
    pub(super) oci_version: String,
}

/// What a container is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Created,
    Running,
    Paused,
    Stopped,
}

impl Status {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }
}

/// The state as it is shown.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Shown {
    oci_version: String,
    pub(super) id: String,
    pub(super) pid: u32,
    pub(super) status: &'static str,
    pub(super) bundle: PathBuf,
    rootfs: PathBuf,
    pub(super) created: String,
    #[serde(skip_serializing_if = "HashMap::is_empty")]
    annotations: HashMap<String, String>,
    /// Only lists say it.
    pub(super) owner: String,
}

impl Record {
    /// Reads the record of a container.
    pub(super) fn read(runtime: &Runtime, id: &str) -> Result<Self, Failure> {
        let path = directory(runtime, id)?.join(STATE);
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|error| Failure::new(format!("unable to read {}: {error}", path.display()))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(Failure::new("container does not exist")),
            Err(error) => Err(Failure::io(format!("read {}", path.display()))(error)),
        }
    }

    /// Writes the record, whole or not at all, with the configuration beside it.
    pub(super) fn write(&self, runtime: &Runtime, config: &[u8]) -> Result<(), Failure> {
        let path = directory(runtime, &self.id)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = rustix::fs::open(&path, flags, Mode::empty()).map_err(std::io::Error::from);
        let open = open.map_err(Failure::io(format!("open {}", path.display())))?;
        let state = serde_json::to_vec(self).map_err(|error| Failure::new(error.to_string()))?;
        for (name, bytes) in [(CONFIG, config), (STATE, &state)] {
            file::replace(open.as_fd(), name.as_ref(), bytes, Mode::RUSR | Mode::WUSR, file::Sync::No)
                .map_err(Failure::io(format!("write {}", path.join(name).display())))?;
        }
        Ok(())
    }

    /// The specification that the container was created with.
    pub(super) fn spec(&self, runtime: &Runtime) -> Result<Spec, Failure> {
        Configuration::read(&directory(runtime, &self.id)?.join(CONFIG)).map(|read| read.spec)
    }

    /// The bundle that it was launched with.
    pub(super) fn launched(&self, runtime: &Runtime) -> Result<Bundle, Failure> {
        let mut bundle = Bundle::new(&self.id, self.spec(runtime)?, Rootfs::Directory(self.rootfs.clone()));
        bundle.wait_for_start = true;
        bundle.directory = Some(self.bundle.clone());
        Ok(bundle)
    }

    /// The pidfd of init, unless it is gone.
    pub(super) fn init(&self) -> Option<OwnedFd> {
        // Opened first: whose pidfd this is can then be looked at in peace.
        let open = process::open(self.pid).ok()?;
        let (state, started) = birth(self.pid)?;
        (started == self.started && !matches!(state, 'Z' | 'X')).then_some(open)
    }

    /// What it is doing now.
    pub(super) fn status(&self, runtime: &Runtime) -> Result<Status, Failure> {
        if self.init().is_none() {
            return Ok(Status::Stopped);
        }
        let frozen = match runtime.cgroup(&self.id)?.is_frozen() {
            Ok(frozen) => frozen,
            // This machine cannot stop anybody, or the cgroup is gone.
            Err(Error::Unsupported(_) | Error::Io { .. }) => false,
            Err(error) => return Err(error.into()),
        };
        if frozen {
            return Ok(Status::Paused);
        }
        Ok(if runtime.is_waiting(&self.id)? { Status::Created } else { Status::Running })
    }

    /// The state as it is shown.
    pub(super) fn show(self, runtime: &Runtime) -> Result<Shown, Failure> {
        let status = self.status(runtime)?;
        let pid = if status == Status::Stopped { 0 } else { self.pid };
        Ok(Shown {
            oci_version: self.oci_version,
            id: self.id,
            pid,
            status: status.name(),
            bundle: self.bundle,
            rootfs: self.rootfs,
            created: self.created,
            annotations: self.annotations,
            owner: String::new(),
        })
    }
}

/// Runs the hooks of a container that is gone. One that fails is told of, and changes nothing.
pub(super) fn after_end(call: &Call<'_>, bundle: &Bundle) {
    let hooks = bundle.spec.hooks().as_ref().and_then(|hooks| hooks.poststop().as_deref());
    if let Err(error) = hooks::run("poststop", hooks, &hooks::State::new(bundle, "stopped", None)) {
        call.warn(&error.to_string());
    }
}

/// The run directory of a container.
pub(super) fn directory(runtime: &Runtime, id: &str) -> Result<PathBuf, Failure> {
    runtime.run_directory(id).map_err(|_| Failure::new("invalid container ID format"))
}

/// A configuration as its caller has written it.
#[derive(Debug)]
pub(super) struct Configuration {
    pub(super) spec: Spec,
    pub(super) bytes: Vec<u8>,
    /// Names of capabilities that nobody knows; they are not in `spec`.
    pub(super) unknown: Vec<String>,
}

impl Configuration {
    /// Reads a file.
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let mut bytes = Vec::new();
        let read = File::open(path).and_then(|file| file.take(MAX_CONFIG + 1).read_to_end(&mut bytes));
        match read {
            Ok(_) if bytes.len() as u64 > MAX_CONFIG => {
                return Err(Failure::new(format!("{} is larger than {MAX_CONFIG} bytes", path.display())));
            }
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Failure::new(format!("JSON specification file {} not found", path.display())));
            }
            Err(error) => return Err(Failure::io(format!("open {}", path.display()))(error)),
        }
        let (spec, unknown): (Spec, _) = document::read(&bytes, &["process"])
            .map_err(|error| Failure::new(format!("{} is no OCI runtime specification: {error}", path.display())))?;
        // Of one version all that is newer may be passed over, says the specification.
        if spec.version().split('.').next() != Some("1") {
            return Err(Failure::new(format!("{}: ociVersion {:?} is not supported", path.display(), spec.version())));
        }
        Ok(Self { spec, bytes, unknown })
    }
}

/// The state of a process and when it was born.
pub(super) fn birth(pid: u32) -> Option<(char, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold anything, also blanks and parentheses.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_process_is_known_by_its_birth() {
        let (state, started) = birth(std::process::id()).unwrap();
        assert!(matches!(state, 'R' | 'S'));
        assert_eq!(birth(std::process::id()).unwrap().1, started);
        assert!(birth(1).unwrap().1 <= started);
    }
}
