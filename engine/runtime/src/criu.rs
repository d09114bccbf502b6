//! Containers whose processes are written down and made anew by CRIU, a program of the host that is called by its command line.
//! It is never a child of this program: a process that the spawner makes calls it to write a container down, and the new monitor
//! of a container to make it anew, as the parent of what is made.
//!
//! What comes from outside of the container is not written down, but named: the sources of bind mounts, the cgroup, the network
//! namespace, the pipes of the standard streams. Beside the images [`Noted`] says which these were.

mod outside;

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use oci_spec::runtime::{LinuxNamespaceType as Kind, Spec};
use serde::{Deserialize, Serialize};

pub(crate) use outside::sources;
use outside::{CgroupMount, Table};

use crate::cgroup::Places;
use crate::external::{External, INIT, ROOTFS};
use crate::protocol::{Failure, Reason};
use crate::spawner::LaunchError;
use crate::{Bundle, Error, Runtime, plan};

/// The name under which the program is looked for in the usual directories of programs.
pub const PROGRAM: &str = "criu";
/// The file beside the images that says what was outside of the container.
pub const NOTED: &str = "engine.json";
/// The image that CRIU writes last: when it is there all others are.
const LAST_IMAGE: &str = "inventory.img";
/// The file in the run directory that has what CRIU says.
pub(crate) const LOG: &str = "criu.log";
/// Where CRIU has the standard streams of the container that it makes, and its network namespace.
pub(crate) const STREAMS_NUMBER: u32 = 100;
pub(crate) const NETWORK_NUMBER: u32 = 103;
/// By what name the images know the network namespace.
const NETWORK: &str = "engine-network";
/// How long CRIU may take. Whoever kills it in the middle harms the container, so this is for what hangs.
const PATIENCE: Duration = Duration::from_secs(600);
/// The most that is read of what CRIU says, and of a mount table, in bytes.
const MAX_READ: u64 = 4 << 20;
/// How many of the last lines about errors are told.
const LINES: usize = 3;
/// Deleted files that are open are written down up to this size.
const GHOSTS: &str = "256M";

/// The program that writes processes down and makes them anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Criu {
    /// The program: a path, or a name that is looked for in the usual directories of programs.
    pub program: String,
    /// How long it may take for one call; then it is killed, and the call has failed.
    pub patience: Duration,
}

impl Criu {
    /// A program that may take ten minutes.
    #[must_use]
    pub fn new(program: impl Into<String>) -> Self {
        Self { program: program.into(), patience: PATIENCE }
    }

    /// The same with the path of its program.
    ///
    /// # Errors
    /// [`Error::Unsupported`] when no program is there that can be executed.
    pub fn found(self) -> Result<Self, Error> {
        match External::new(self.program.as_str()).found() {
            Ok(External { program, .. }) => Ok(Self { program, ..self }),
            Err(_) => Err(Error::Unsupported(format!(
                "checkpoints need the program CRIU on the engine's host; there is no {:?}",
                self.program
            ))),
        }
    }

    fn failure(&self, verb: &str, directory: &Path, failure: Failure) -> Option<Error> {
        let reason = match failure.reason {
            Reason::RuntimeFailed if failure.errno == 0 => "it left no process that lives".to_owned(),
            Reason::RuntimeFailed => {
                let code = failure.errno;
                let said = said(&directory.join(LOG)).unwrap_or_else(|| "it said nothing".to_owned());
                format!("it ended with code {code}: {said}")
            }
            Reason::RuntimeTimedOut => {
                format!("it did not end in {} s and was killed", self.patience.as_secs_f32())
            }
            Reason::NotInPath | Reason::NotFound | Reason::PermissionDenied | Reason::IsDirectory | Reason::Execute => {
                format!("it cannot be run: {:?}", failure.reason)
            }
            _ => return None,
        };
        Some(Error::Criu { call: format!("{} {verb}", self.program), reason })
    }
}

/// The last lines about errors; of a log without any the last line.
fn said(log: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    File::open(log).ok()?.take(MAX_READ).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
    let errors: Vec<&str> = lines().filter(|line| line.contains("Error") || line.contains("rror:")).collect();
    match errors.as_slice() {
        [] => lines().next_back().map(str::to_owned),
        errors => Some(errors[errors.len().saturating_sub(LINES)..].join("; ")),
    }
}

/// Why the launch of a container from a checkpoint failed.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    by: Criu,
    directory: PathBuf,
}

impl Outcome {
    pub(crate) fn error(&self, failure: Failure) -> Option<Error> {
        self.by.failure("restore", &self.directory, failure)
    }
}

/// What was outside of a container when it was written down.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Noted {
    /// The container was to end.
    pub exit: bool,
    /// Mount points of bind mounts.
    pub(crate) mounts: Vec<String>,
    pub(crate) cgroups: Vec<CgroupMount>,
    /// The pipes that standard input, output and error were, as `pipe:[7]`.
    pub(crate) streams: [Option<String>; 3],
    /// It had a network namespace, which is that of whoever starts it.
    pub(crate) network: bool,
}

impl Noted {
    /// Reads what was noted beside the images in a directory.
    ///
    /// # Errors
    /// [`Error::Io`] when it is not there, or is none of this engine.
    pub fn read(images: &Path) -> Result<Self, Error> {
        let path = images.join(NOTED);
        let file = File::open(&path).map_err(Error::io("open", &path))?;
        serde_json::from_reader(file.take(MAX_READ)).map_err(|error| Error::io("read", &path)(error.into()))
    }

    /// Whether CRIU has written everything that belongs to a checkpoint, also when nobody was left to hear of it.
    #[must_use]
    pub fn is_complete(images: &Path) -> bool {
        images.join(LAST_IMAGE).metadata().is_ok_and(|found| found.len() > 0)
    }
}

/// A container that is to be written down.
#[derive(Clone, Copy, Debug)]
pub struct Dump<'a> {
    /// As it would be launched now.
    pub bundle: &'a Bundle,
    /// Its init, as the host sees it.
    pub pid: u32,
    /// An empty directory for the images.
    pub images: &'a Path,
    /// It goes on afterwards; otherwise it is killed.
    pub leave_running: bool,
}

/// Refuses what CRIU cannot make anew, or what would not be the same afterwards.
pub(crate) fn check(bundle: &Bundle) -> Result<(), Error> {
    let spec = &bundle.spec;
    let namespaces = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
    let joins = |kind: Kind| namespaces.into_iter().flatten().any(|one| one.typ() == kind && one.path().is_some());
    let refused = [
        (spec.process().as_ref().is_some_and(|process| process.terminal() == Some(true)), "a terminal"),
        (!has_new(spec, Kind::Pid), "a pid namespace that is not its own"),
        (joins(Kind::Ipc), "the shared memory of another container"),
        (joins(Kind::Uts) || joins(Kind::Mount) || joins(Kind::Cgroup), "namespaces of others"),
        (has_new(spec, Kind::User) || joins(Kind::User), "a user namespace"),
        (bundle.init, "the engine's own init (--init)"),
    ];
    match refused.into_iter().find(|(set, _)| *set) {
        Some((_, what)) => Err(Error::Unsupported(format!("a checkpoint of a container with {what}"))),
        None => Ok(()),
    }
}

/// Refuses a cgroup that could not be made before CRIU is called.
pub(crate) fn check_cgroup(places: &Places) -> Result<(), Error> {
    match places.unit() {
        Some(_) => Err(Error::Unsupported("a checkpoint of a container in a cgroup that systemd makes".to_owned())),
        None => Ok(()),
    }
}

/// Whether the container has a new namespace of this kind.
pub(crate) fn has_new(spec: &Spec, kind: Kind) -> bool {
    let namespaces = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
    namespaces.into_iter().flatten().any(|one| one.typ() == kind && one.path().is_none())
}

/// What both calls are told.
const BOTH: [&str; 7] = [
    // Cgroups are the engine's.
    "--manage-cgroups=ignore",
    // What was connected finds another network, as after a restart of the machine.
    "--tcp-close",
    "--network-lock",
    "nftables",
    "--file-locks",
    "--ext-unix-sk",
    "-v2",
];

fn common(by: &Criu, verb: &str, directory: &Path, images: &Path) -> Vec<String> {
    let mut words = vec![by.program.clone(), verb.to_owned()];
    words.extend(["--images-dir".to_owned(), images.display().to_string()]);
    words.extend(["--work-dir".to_owned(), directory.display().to_string()]);
    words.extend(["--log-file", LOG].into_iter().chain(BOTH).map(str::to_owned));
    words
}

fn dump_words(by: &Criu, directory: &Path, dump: &Dump<'_>, noted: &Noted) -> Result<Vec<String>, Error> {
    let mut words = common(by, "dump", directory, dump.images);
    words.extend(["--tree".to_owned(), dump.pid.to_string()]);
    words.extend(["--ghost-limit", GHOSTS].map(str::to_owned));
    if dump.leave_running {
        words.push("--leave-running".to_owned());
    }
    for (at, name) in noted.outside() {
        words.extend(["--external".to_owned(), format!("mnt[{at}]:{name}")]);
    }
    if noted.network {
        let path = format!("/proc/{}/ns/net", dump.pid);
        let inode = fs::metadata(&path).map_err(Error::io("look at", &path))?.ino();
        words.extend(["--external".to_owned(), format!("net[{inode}]:{NETWORK}")]);
    }
    Ok(words)
}

/// `sources` are the paths of all that [`Noted::outside`] names.
pub(crate) fn restore_words(
    by: &Criu,
    directory: &Path,
    images: &Path,
    noted: &Noted,
    sources: &[PathBuf],
) -> Vec<String> {
    let mut words = common(by, "restore", directory, images);
    // The monitor is the parent of what is made.
    words.extend(["--restore-detached", "--restore-sibling", "--pidfile"].map(str::to_owned));
    words.push(directory.join(format!("{INIT}.pid")).display().to_string());
    words.extend(["--root".to_owned(), directory.join(ROOTFS).display().to_string()]);
    for ((_, name), source) in noted.outside().zip(sources) {
        words.extend(["--external".to_owned(), format!("mnt[{name}]:{}", source.display())]);
    }
    if noted.network {
        words.extend(["--inherit-fd".to_owned(), format!("fd[{NETWORK_NUMBER}]:{NETWORK}")]);
    }
    for (number, pipe) in (STREAMS_NUMBER..).zip(&noted.streams) {
        if let Some(pipe) = pipe {
            words.extend(["--inherit-fd".to_owned(), format!("fd[{number}]:{pipe}")]);
        }
    }
    words
}

/// The pipe that a standard stream of a process is.
fn pipe_of(pid: u32, number: usize) -> Option<String> {
    let target = fs::read_link(format!("/proc/{pid}/fd/{number}")).ok()?;
    target.to_str().filter(|target| target.starts_with("pipe:[")).map(str::to_owned)
}

fn read_bounded(path: &str) -> Result<String, Error> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(MAX_READ).read_to_string(&mut text));
    read.map_err(Error::io("read", path))?;
    Ok(text)
}

impl Runtime {
    /// Writes a container down. When that fails it goes on as before, and what lies in the directory is of no use. It may take
    /// as long as all of its memory takes to be written. Blocks.
    ///
    /// # Errors
    /// [`Error::Criu`] with what CRIU says, [`Error::Unsupported`] for what cannot be written down, [`Error::Io`].
    pub fn checkpoint(&self, by: &Criu, dump: &Dump<'_>) -> Result<(), Error> {
        check(dump.bundle)?;
        let spec = &dump.bundle.spec;
        let directory = self.run_directory(&dump.bundle.id)?;
        let cgroup = self.cgroup(&dump.bundle.id)?;
        check_cgroup(cgroup.places())?;
        let inside = Table::parse(&read_bounded(&format!("/proc/{}/mountinfo", dump.pid))?);
        let host = Table::parse(&read_bounded("/proc/self/mountinfo")?);
        let (mounts, cgroups) = outside::found(&inside, &host, spec, cgroup.path())?;
        let noted = Noted {
            exit: !dump.leave_running,
            mounts,
            cgroups,
            streams: [0, 1, 2].map(|number| pipe_of(dump.pid, number)),
            network: outside::has_network(spec),
        };
        let words = dump_words(by, &directory, dump, &noted)?;
        let path = dump.images.join(NOTED);
        let text = serde_json::to_vec(&noted).map_err(|error| Error::io("write", &path)(error.into()))?;
        fs::write(&path, text).map_err(Error::io("write", &path))?;
        forget(&directory.join(LOG))?;
        let plan = plan::criu::call(by, words, &directory, self.host())?;
        let descriptors = plan.resources().iter().map(crate::runtime::open).collect::<Result<Vec<_>, _>>()?;
        let borrowed: Vec<_> = descriptors.iter().map(std::os::fd::AsFd::as_fd).collect();
        match self.spawner().launch(plan.bytes(), &borrowed) {
            Ok(_) => Ok(()),
            Err(LaunchError::Step { index, errno, reason }) => {
                let failure = Failure { index, errno, reason };
                let reason = || format!("{reason:?}, errno {errno}");
                Err(by
                    .failure("dump", &directory, failure)
                    .unwrap_or_else(|| Error::Criu { call: format!("{} dump", by.program), reason: reason() }))
            }
            Err(error) => Err(Error::Spawner(error)),
        }
    }
}

pub(crate) fn outcome(by: &Criu, directory: &Path) -> Outcome {
    Outcome { by: by.clone(), directory: directory.to_owned() }
}

fn forget(file: &Path) -> Result<(), Error> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", file)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
