//! `exec`: a further process in a container.

use std::os::fd::AsFd;
use std::path::PathBuf;

use engine_runtime::spec::{Capabilities, LinuxCapabilities, Process};
use engine_runtime::{Exec, Unattended, capabilities};
use engine_sys::process;

use super::console::Socket;
use super::create::{PID_FILE, PRESERVE_FDS, descriptors, write_pid};
use super::failure::Failure;
use super::flags::{Place, switch, value};
use super::foreground::Foreground;
use super::kill::SIGKILL;
use super::state::{Record, Status};
use super::{Call, Verb};

/// What tells that the process was never there from what it said itself.
const NOT_STARTED: u8 = 255;
/// Bytes of the longest description of a process.
const MAX_PROCESS: u64 = 16 << 20;

pub(super) const EXEC: Verb = Verb {
    name: "exec",
    words: "ID [COMMAND [ARGUMENTS]]",
    about: "Start a further process in a container",
    flags: &[
        value(&["console-socket"], "send the terminal's master to this socket"),
        value(&["cwd"], "the working directory"),
        value(&["env", "e"], "set a variable, NAME=VALUE; may be repeated"),
        switch(&["tty", "t"], "give it a terminal"),
        value(&["user", "u"], "UID or UID:GID"),
        value(&["additional-gids", "g"], "a further group; may be repeated"),
        value(&["process", "p"], "a file that describes the process as the specification does"),
        switch(&["detach", "d"], "do not wait for its end"),
        PID_FILE,
        value(&["process-label"], "SELinux label"),
        value(&["apparmor"], "AppArmor profile"),
        switch(&["no-new-privs"], "it cannot gain privileges"),
        value(&["cap", "c"], "a further capability; may be repeated"),
        PRESERVE_FDS,
        value(&["cgroup"], "not supported: it enters the container's own cgroup"),
        switch(&["ignore-paused"], "start it in a paused container too; it runs when that is resumed"),
    ],
    place: Place::First,
    count: (1, usize::MAX),
    run: |call| exec(call).map_err(|failure| failure.within("exec failed").exits(NOT_STARTED)),
};

fn exec(call: &Call<'_>) -> Result<u8, Failure> {
    let given = &call.given;
    if given.get("cgroup").is_some() {
        return Err(Failure::new("--cgroup is not supported: the process enters the container's own cgroup"));
    }
    let runtime = call.runtime()?;
    let record = Record::read(&runtime, call.id())?;
    match record.status(&runtime)? {
        Status::Stopped => return Err(Failure::new("cannot exec in a stopped container")),
        Status::Paused if !given.is_on("ignore-paused") => {
            return Err(Failure::new("cannot exec in a paused container (use --ignore-paused to override)"));
        }
        _ => {}
    }
    let init = record.init().ok_or_else(|| Failure::new("cannot exec in a stopped container"))?;
    let spec = record.spec(&runtime)?;
    let mut command = match given.get("process") {
        Some(path) => described(path)?,
        None => asked(call, spec.process().as_ref())?,
    };
    let terminal = command.terminal().unwrap_or(false);
    let detach = given.is_on("detach");
    let socket = Socket::asked(given.get("console-socket"), detach, terminal)?;
    let descriptors = descriptors(call, Some(&mut command))?;
    // The container's session keyring cannot be joined from outside of it, so the process gets one of its own.
    let how = Unattended { descriptors, keep_keyring: false };

    let foreground = if detach { None } else { Some(Foreground::new()?) };
    let begun = runtime.exec_unattended(&Exec::new(&record.id, init.as_fd(), &spec, &command), &how)?;
    let handed_out = match (&socket, &begun.terminal) {
        (Some(socket), Some(terminal)) => socket.send(terminal.as_fd()),
        _ => Ok(()),
    };
    if let Err(failure) = handed_out.and_then(|()| write_pid(call, begun.pid)) {
        let _ = process::signal(&begun.process, SIGKILL);
        return Err(failure);
    }
    match foreground {
        Some(foreground) => foreground.wait(call.io, &begun),
        None => Ok(0),
    }
}

/// The process of a file.
fn described(path: &str) -> Result<Process, Failure> {
    let length = std::fs::metadata(path).map_err(Failure::io(format!("open {path}")))?.len();
    if length > MAX_PROCESS {
        return Err(Failure::new(format!("{path} is larger than {MAX_PROCESS} bytes")));
    }
    let bytes = std::fs::read(path).map_err(Failure::io(format!("read {path}")))?;
    serde_json::from_slice(&bytes).map_err(|error| Failure::new(format!("{path} describes no process: {error}")))
}

/// The process of the flags: that of the container, with what is said otherwise.
fn asked(call: &Call<'_>, of_container: Option<&Process>) -> Result<Process, Failure> {
    let given = &call.given;
    let mut command = of_container.cloned().unwrap_or_default();
    let words = given.words.get(1..).unwrap_or_default();
    if words.is_empty() {
        return Err(Failure::new("process args cannot be empty"));
    }
    command.set_args(Some(words.to_vec())).set_terminal(Some(given.is_on("tty"))).set_console_size(None);
    if let Some(directory) = given.get("cwd") {
        command.set_cwd(PathBuf::from(directory));
    }
    let mut variables = command.env().clone().unwrap_or_default();
    variables.extend(given.all("env").map(str::to_owned));
    command.set_env(Some(variables));
    if let Some(label) = given.get("process-label") {
        command.set_selinux_label(Some(label.to_owned()));
    }
    if let Some(profile) = given.get("apparmor") {
        command.set_apparmor_profile(Some(profile.to_owned()));
    }
    if given.is_on("no-new-privs") {
        command.set_no_new_privileges(Some(true));
    }
    if let Some(user) = given.get("user") {
        let number = |text: &str| text.parse().map_err(|_| Failure::new(format!("parsing {text} as an id failed")));
        let (uid, gid) = user.split_once(':').unwrap_or((user, ""));
        let mut who = command.user().clone();
        who.set_uid(number(uid)?);
        if !gid.is_empty() {
            who.set_gid(number(gid)?);
        }
        command.set_user(who);
    }
    let mut groups = command.user().additional_gids().clone().unwrap_or_default();
    for group in given.all("additional-gids") {
        groups.push(group.parse().map_err(|_| Failure::new(format!("parsing {group} as a group failed")))?);
    }
    let mut who = command.user().clone();
    who.set_additional_gids(Some(groups));
    command.set_user(who);
    let more = given
        .all("cap")
        .map(|name| capabilities::parse(name).ok_or_else(|| Failure::new(format!("unknown capability {name:?}"))));
    let more = more.collect::<Result<Capabilities, _>>()?;
    if !more.is_empty() {
        let sets = command.capabilities().clone().unwrap_or_default();
        command.set_capabilities(Some(with(sets, &more)));
    }
    Ok(command)
}

/// More capabilities in the sets that count for a process that executes a program.
fn with(mut sets: LinuxCapabilities, more: &Capabilities) -> LinuxCapabilities {
    let add = |set: &Option<Capabilities>| Some(set.iter().flatten().chain(more).copied().collect::<Capabilities>());
    let (bounding, effective, permitted) = (add(sets.bounding()), add(sets.effective()), add(sets.permitted()));
    sets.set_bounding(bounding).set_effective(effective).set_permitted(permitted);
    sets
}
