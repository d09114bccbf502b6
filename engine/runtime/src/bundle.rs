//! What the runtime is told: the OCI specification of a container and what that specification has no words for.

use std::collections::BTreeMap;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use oci_spec::runtime::{Process, Spec};

use crate::cgroup::Subgroup;

/// A container as the runtime is told it. Nothing is opened or made before [`crate::Runtime::launch`].
#[derive(Clone, Debug)]
pub struct Bundle {
    /// The name of the container: 1 to 128 letters, digits, `_`, `.` and `-`, beginning with a letter or a digit.
    /// It names the cgroup and the run directory.
    pub id: String,
    /// The OCI runtime specification. `root.path` is not looked at (see [`Bundle::rootfs`]), `root.readonly` is.
    /// What is not supported is refused when the bundle is compiled, never passed over.
    pub spec: Spec,
    /// Where the file system comes from.
    pub rootfs: Rootfs,
    /// Docker's seccomp profile, fitted to the bounding set of the specification's process, in place of a filter of the
    /// specification: it is compiled once for each set and not looked up by its hundreds of names.
    pub docker_filter: bool,
    /// Sources of bind mounts that are at hand, by their clean destination: mounts that are attached nowhere, each for one launch.
    /// The source that the specification names is not looked at.
    pub trees: BTreeMap<PathBuf, Arc<OwnedFd>>,
    /// Standard input of the process. With a terminal [`Stdin::Null`] means that nobody types.
    pub stdin: Stdin,
    /// Where standard output and standard error go.
    pub output: Output,
    /// The first size of the terminal as rows and columns; only looked at when the specification asks for a terminal.
    pub terminal_size: Option<(u16, u16)>,
    /// The container is killed when the program that launched it ends.
    pub tasks_die_with_launcher: bool,
    /// A user in Docker's form (`user`, `uid`, `user:group`, `uid:gid`), resolved in the container's own `/etc/passwd`
    /// and `/etc/group`. `None`: the numbers of `process.user`.
    pub user: Option<String>,
    /// Supplementary groups, by number or by a name of the container's `/etc/group`, beside those of
    /// `process.user.additionalGids`.
    pub additional_groups: Vec<String>,
    /// Make the working directory when the image has none.
    pub make_working_directory: bool,
    /// The directory of the OCI bundle, which hooks are told of.
    pub directory: Option<PathBuf>,
    /// The program is run by a small init, which is the first process: it hands signals on and takes in orphans.
    pub init: bool,
    /// Do not execute the process before [`crate::Runtime::connect`]'s monitor is sent `Start` (OCI's create).
    pub wait_for_start: bool,
}

impl Bundle {
    /// A bundle with nothing on its input and output.
    #[must_use]
    pub fn new(id: impl Into<String>, spec: Spec, rootfs: Rootfs) -> Self {
        Self {
            id: id.into(),
            spec,
            rootfs,
            docker_filter: false,
            trees: BTreeMap::new(),
            stdin: Stdin::Null,
            output: Output::Discard,
            terminal_size: None,
            tasks_die_with_launcher: false,
            user: None,
            additional_groups: Vec::new(),
            make_working_directory: false,
            directory: None,
            init: false,
            wait_for_start: false,
        }
    }
}

/// Where the root file system of a container comes from. All paths are absolute paths of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rootfs {
    /// A directory that is used as it is; the container writes into it.
    Directory(PathBuf),
    /// An overlay, mounted in the container's mount namespace only.
    Overlay {
        /// The image's layers, topmost first; at least one.
        lower: Vec<PathBuf>,
        /// Takes what the container writes.
        upper: PathBuf,
        /// Scratch of the kernel, on the same file system as `upper`.
        work: PathBuf,
        /// Nothing is synced, not even when the container ends: for what is thrown away anyway. Refused by the kernel for
        /// an `upper` that was mounted so before and not cleaned.
        volatile: bool,
    },
}

/// Standard input of a container's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stdin {
    /// `/dev/null`.
    Null,
    /// Clients that attach write to it.
    Open {
        /// It is closed when the first client that brought it closes its side.
        once: bool,
    },
}

/// Where standard output and standard error go. Attached clients get a copy in every case but [`Output::Discard`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// `/dev/null`, at no cost; nobody can attach to it.
    Discard,
    /// To attached clients only (log driver `none`).
    AttachOnly,
    /// Records of Docker's json-file format.
    JsonLog {
        /// The directory of the host that holds the log; it must be there.
        directory: PathBuf,
        /// The name of the log's file in `directory`; older files are `name.1`, `name.2` and so on, packed ones `name.1.gz`.
        name: String,
        /// Bytes after which a new file is begun; 0 is no bound.
        max_size: u64,
        /// Nanoseconds after which a new file is begun; 0 is no bound.
        max_age: u64,
        /// How many files are kept, the current one among them; at least 1.
        max_files: u32,
        /// A JSON object that every record has as `attrs`, of at most 64 KiB; empty for none.
        attributes: String,
    },
}

/// How a process is launched that has no monitor: it is a child of the calling process, has its standard streams, and goes
/// to whoever looks after the caller's orphans when that ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unattended {
    /// So many descriptors of the caller, from 3 on, are passed on. All of them must be open and not close-on-exec.
    pub descriptors: u32,
    /// The process stays in the session keyring of the caller.
    pub keep_keyring: bool,
}

/// A further process of a running container.
#[derive(Clone, Copy, Debug)]
pub struct Exec<'a> {
    /// The name of the container.
    pub id: &'a str,
    /// A pidfd of the container's init.
    pub init: BorrowedFd<'a>,
    /// The specification that the container was launched with: the new process gets its seccomp filter.
    pub spec: &'a Spec,
    /// As [`Bundle::docker_filter`] of the container.
    pub docker_filter: bool,
    /// What is executed. Without capabilities of its own it gets none, so they are usually those of `spec`.
    pub command: &'a Process,
    /// A user in Docker's form, as [`Bundle::user`].
    pub user: Option<&'a str>,
    /// As [`Bundle::additional_groups`].
    pub additional_groups: &'a [String],
    /// All capabilities that this machine gives, in place of those of `command`. The seccomp filter stays.
    pub privileged: bool,
    /// Cgroups beneath the container's own that it enters in place of that.
    pub subgroups: &'a [Subgroup],
    /// Standard input.
    pub stdin: Stdin,
    /// Nobody will attach to its output: it goes to `/dev/null`.
    pub discard_output: bool,
}

impl<'a> Exec<'a> {
    /// A process with nothing on its input, whose output attached clients get.
    #[must_use]
    pub fn new(id: &'a str, init: BorrowedFd<'a>, spec: &'a Spec, command: &'a Process) -> Self {
        Self {
            id,
            init,
            spec,
            docker_filter: false,
            command,
            user: None,
            additional_groups: &[],
            privileged: false,
            subgroups: &[],
            stdin: Stdin::Null,
            discard_output: false,
        }
    }
}
