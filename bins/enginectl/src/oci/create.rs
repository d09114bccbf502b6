//! `create`, `start`, and both at once: `run`.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use engine_runtime::spec::{Process, Spec};
use engine_runtime::unattended::Begun;
use engine_runtime::{Bundle, Rootfs, Runtime, Unattended, defaults, hooks};
use engine_sys::process;
use jiff::Timestamp;

use super::capabilities;
use super::console::Socket;
use super::failure::Failure;
use super::flags::{Flag, Place, switch, value};
use super::foreground::Foreground;
use super::kill::SIGKILL;
use super::pidfd::{self, PIDFD_SOCKET, Receiver};
use super::state::{self, Configuration, Record, Status};
use super::{CGROUP, Call, Verb};

pub(super) const CREATE: Verb = Verb {
    name: "create",
    words: "ID",
    about: "Make a container that waits for its start",
    flags: &[BUNDLE, CONSOLE_SOCKET, PIDFD_SOCKET, PID_FILE, NO_PIVOT, NO_NEW_KEYRING, PRESERVE_FDS],
    place: Place::Anywhere,
    count: (1, 1),
    run: |call| create(call).map_err(|failure| failure.within("create failed")),
};

pub(super) const RUN: Verb = Verb {
    name: "run",
    words: "ID",
    about: "Make a container and start it",
    flags: &[
        BUNDLE,
        CONSOLE_SOCKET,
        PIDFD_SOCKET,
        switch(&["detach", "d"], "do not wait for the container's end"),
        switch(&["keep"], "do not delete the container at its end"),
        PID_FILE,
        switch(&["no-subreaper"], "accepted: orphans of the container are never adopted"),
        NO_PIVOT,
        NO_NEW_KEYRING,
        PRESERVE_FDS,
    ],
    place: Place::Anywhere,
    count: (1, 1),
    run: |call| run(call).map_err(|failure| failure.within("run failed")),
};

pub(super) const START: Verb = Verb {
    name: "start",
    words: "ID",
    about: "Start the program of a container that was created",
    flags: &[],
    place: Place::Anywhere,
    count: (1, 1),
    run: start,
};

const BUNDLE: Flag = value(&["bundle", "b"], "the directory with config.json (default: the working directory)");
const CONSOLE_SOCKET: Flag = value(&["console-socket"], "send the terminal's master to this socket");
pub(super) const PID_FILE: Flag = value(&["pid-file"], "write the process's pid to this file");
const NO_PIVOT: Flag = switch(&["no-pivot"], "not supported: the root is always pivoted to");
const NO_NEW_KEYRING: Flag = switch(&["no-new-keyring"], "keep the caller's session keyring");
pub(super) const PRESERVE_FDS: Flag = value(&["preserve-fds"], "pass on so many descriptors from 3 on");

fn create(call: &Call<'_>) -> Result<u8, Failure> {
    let runtime = call.runtime()?;
    let asked = Asked::read(call, true, true)?;
    let begun = asked.launch(call, &runtime)?;
    asked.hand_out(call, &runtime, &begun)?;
    Ok(0)
}

fn run(call: &Call<'_>) -> Result<u8, Failure> {
    let runtime = call.runtime()?;
    let detach = call.given.is_on("detach");
    let asked = Asked::read(call, detach, false)?;
    // Signals that come from here on are the container's.
    let foreground = if detach { None } else { Some(Foreground::new()?) };
    let begun = asked.launch(call, &runtime)?;
    asked.hand_out(call, &runtime, &begun)?;
    let Some(foreground) = foreground else { return Ok(0) };
    let code = foreground.wait(call.io, &begun);
    if !call.given.is_on("keep") {
        if code.is_err() {
            let _ = process::signal(&begun.process, SIGKILL);
        }
        runtime.remove(call.id())?;
        state::after_end(call, &asked.bundle);
    }
    code
}

fn start(call: &Call<'_>) -> Result<u8, Failure> {
    let runtime = call.runtime()?;
    let record = Record::read(&runtime, call.id())?;
    let refused = |text: &str| Err(Failure::new(text));
    match record.status(&runtime)? {
        Status::Created => {}
        Status::Stopped => return refused("cannot start a container that has stopped"),
        Status::Running => return refused("cannot start an already running container"),
        Status::Paused => return refused("cannot start a container in the paused state"),
    }
    let bundle = record.launched(&runtime)?;
    runtime.start_unattended(&bundle)?;
    let hooks = bundle.spec.hooks().as_ref().and_then(|hooks| hooks.poststart().as_deref());
    let done = hooks::run("poststart", hooks, &hooks::State::new(&bundle, "running", Some(record.pid)));
    if done.is_err()
        && let Some(init) = record.init()
    {
        // The failure that led here is the one that is reported.
        let _ = process::signal(&init, SIGKILL);
    }
    done?;
    Ok(0)
}

/// What `create` and `run` were asked for.
#[derive(Debug)]
struct Asked {
    bundle: Bundle,
    directory: PathBuf,
    rootfs: PathBuf,
    config: Vec<u8>,
    /// Capabilities that it asks for and nobody knows.
    unknown: Vec<String>,
    how: Unattended,
    socket: Option<Socket>,
    receiver: Option<Receiver>,
}

impl Asked {
    fn read(call: &Call<'_>, detach: bool, wait_for_start: bool) -> Result<Self, Failure> {
        if call.given.is_on("no-pivot") {
            return Err(Failure::new("--no-pivot is not supported: without pivot_root a container can leave its root"));
        }
        let directory = std::path::absolute(call.given.get("bundle").unwrap_or("."))
            .and_then(|path| path.canonicalize())
            .map_err(Failure::io("look for the bundle"))?;
        let Configuration { mut spec, bytes: config, unknown } = Configuration::read(&directory.join("config.json"))?;
        let rootfs = rootfs(&directory, &spec)?;
        let terminal = spec.process().as_ref().and_then(Process::terminal).unwrap_or(false);
        let socket = Socket::asked(call.given.get("console-socket"), detach, terminal)?;
        let receiver = Receiver::asked(call)?;
        let descriptors = descriptors(call, spec.process_mut().as_mut())?;
        let how = Unattended { descriptors, keep_keyring: call.given.is_on("no-new-keyring") };
        allow_harmless_devices(&mut spec);
        name_cgroup(&mut spec, call.id(), call.systemd)?;
        let mut bundle = Bundle::new(call.id(), spec, Rootfs::Directory(rootfs.clone()));
        bundle.wait_for_start = wait_for_start;
        bundle.make_working_directory = true;
        bundle.directory = Some(directory.clone());
        Ok(Self { bundle, directory, rootfs, config, unknown, how, socket, receiver })
    }

    fn launch(&self, call: &Call<'_>, runtime: &Runtime) -> Result<Begun, Failure> {
        runtime.run_directory(&self.bundle.id).map_err(|_| Failure::new("invalid container ID format"))?;
        let begun = runtime.launch_unattended(&self.bundle, &self.how)?;
        let spec = &self.bundle.spec;
        capabilities::warn_of_missing(call, runtime, spec, spec.process().as_ref(), &self.unknown);
        Ok(begun)
    }

    /// Gives the caller what it asked for, and writes the container down. When that fails nothing is left.
    fn hand_out(&self, call: &Call<'_>, runtime: &Runtime, begun: &Begun) -> Result<(), Failure> {
        let done = self.write_down(runtime, begun).and_then(|()| {
            if let (Some(socket), Some(terminal)) = (&self.socket, &begun.terminal) {
                socket.send(terminal.as_fd())?;
            }
            if let Some(receiver) = &self.receiver {
                receiver.send(pidfd::FIRST, begun.process.as_fd())?;
            }
            write_pid(call, begun.pid)
        });
        if done.is_err() {
            let _ = process::signal(&begun.process, SIGKILL);
            let _ = runtime.remove(&self.bundle.id);
        }
        done
    }

    fn write_down(&self, runtime: &Runtime, begun: &Begun) -> Result<(), Failure> {
        let spec = &self.bundle.spec;
        let record = Record {
            id: self.bundle.id.clone(),
            pid: begun.pid,
            started: state::birth(begun.pid).map_or(0, |(_, started)| started),
            bundle: self.directory.clone(),
            rootfs: self.rootfs.clone(),
            created: Timestamp::now().to_string(),
            annotations: spec.annotations().clone().unwrap_or_default(),
            oci_version: spec.version().clone(),
        };
        record.write(runtime, &self.config)
    }
}

/// Nothing is allowed but what the specification says, and what every container has: as all OCI runtimes do it.
fn allow_harmless_devices(spec: &mut Spec) {
    let Some(linux) = spec.linux_mut() else { return };
    let mut resources = linux.resources().clone().unwrap_or_default();
    let mut rules = defaults::device_rules();
    let allowed = rules.split_off(1);
    rules.extend(resources.devices().iter().flatten().cloned());
    rules.extend(allowed);
    resources.set_devices(Some(rules));
    linux.set_resources(Some(resources));
}

/// A cgroup that nobody names is right beneath the root: a parent would have to be shared with calls that come and go. With
/// systemd its names say `slice:prefix:name`, and without it no cgroup has such a name.
fn name_cgroup(spec: &mut Spec, id: &str, systemd: bool) -> Result<(), Failure> {
    let Some(linux) = spec.linux_mut() else { return Ok(()) };
    let Some(path) = linux.cgroups_path().as_ref().filter(|path| !path.as_os_str().is_empty()) else {
        let path = if systemd { format!("system.slice:{CGROUP}:{id}") } else { format!("/{CGROUP}-{id}") };
        linux.set_cgroups_path(Some(path.into()));
        return Ok(());
    };
    let named = path.to_str().unwrap_or_default();
    match (systemd, named.split(':').count() == 3 && !named.contains('/')) {
        (true, false) => Err(Failure::new(format!(
            "expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got {named:?} instead"
        ))),
        (false, true) => Err(Failure::new(format!(
            "cgroupsPath {named:?} has the form of a cgroup of systemd's, which takes --systemd-cgroup"
        ))),
        _ => Ok(()),
    }
}

fn rootfs(bundle: &Path, spec: &Spec) -> Result<PathBuf, Failure> {
    let root = spec.root().as_ref().ok_or_else(|| Failure::new("root must not be empty"))?;
    let path = bundle.join(root.path());
    path.canonicalize().map_err(Failure::io(format!("invalid rootfs {:?}", path.display())))
}

/// How many descriptors from 3 on are passed on: those of `--preserve-fds`, and sockets that systemd opened.
pub(super) fn descriptors(call: &Call<'_>, process: Option<&mut Process>) -> Result<u32, Failure> {
    let mut count: u32 = call.given.number("preserve-fds")?.unwrap_or(0);
    if let (Some(process), Some(sockets)) = (process, call.io.variable("LISTEN_FDS")) {
        let sockets: u32 = sockets.parse().map_err(|_| Failure::new(format!("LISTEN_FDS is no number: {sockets}")))?;
        let mut variables = process.env().clone().unwrap_or_default();
        variables.extend([format!("LISTEN_FDS={sockets}"), "LISTEN_PID=1".to_owned()]);
        process.set_env(Some(variables));
        count = count.saturating_add(sockets);
    }
    for number in 3..count.saturating_add(3) {
        if !is_passed_on(number) {
            return Err(Failure::new(format!(
                "unable to stat preserved-fd {} (of {count}): descriptor {number} is not open",
                number - 2
            )));
        }
    }
    Ok(count)
}

/// What the caller gave is not closed on exec; what this program opened is.
fn is_passed_on(number: u32) -> bool {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{number}")).unwrap_or_default();
    let flags = text.lines().find_map(|line| line.strip_prefix("flags:"));
    flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok()).is_some_and(|flags| flags & 0o2_000_000 == 0)
}

/// Writes the pid for the caller, whole or not at all.
pub(super) fn write_pid(call: &Call<'_>, pid: u32) -> Result<(), Failure> {
    let Some(path) = call.given.get("pid-file").map(Path::new) else { return Ok(()) };
    let failed = || format!("write the pid file {}", path.display());
    let name = path.file_name().ok_or_else(|| Failure::new(format!("{} is no path of a file", path.display())))?;
    let draft = path.with_file_name(format!(".{}", name.display()));
    std::fs::write(&draft, pid.to_string()).map_err(Failure::io(failed()))?;
    std::fs::rename(&draft, path).map_err(Failure::io(failed()))
}
