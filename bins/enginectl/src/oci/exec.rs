//! `exec`: a further process in a container.

use std::os::fd::AsFd;
use std::path::PathBuf;

use engine_runtime::cgroup::Subgroup;
use engine_runtime::spec::{Capabilities, LinuxCapabilities, Process};
use engine_runtime::unattended::Begun;
use engine_runtime::{Exec, Unattended, capabilities};
use engine_sys::process;

use super::capabilities::warn_of_missing;
use super::console::Socket;
use super::create::{PID_FILE, PRESERVE_FDS, descriptors, write_pid};
use super::failure::Failure;
use super::flags::{Place, switch, value};
use super::foreground::Foreground;
use super::kill::SIGKILL;
use super::pidfd::{self, PIDFD_SOCKET, Receiver};
use super::state::{Record, Status};
use super::{Call, Verb, document};

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
        PIDFD_SOCKET,
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
        value(
            &["cgroup"],
            "a cgroup beneath the container's, [CONTROLLER[,CONTROLLER]:]PATH; may be repeated with controllers",
        ),
        switch(&["ignore-paused"], "start it in a paused container too; it runs when that is resumed"),
    ],
    place: Place::First,
    count: (1, usize::MAX),
    run: |call| exec(call).map_err(|failure| failure.within("exec failed").exits(NOT_STARTED)),
};

fn exec(call: &Call<'_>) -> Result<u8, Failure> {
    let given = &call.given;
    let subgroups = subgroups(given.all("cgroup"))?;
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
    let (mut command, unknown) = match given.get("process") {
        Some(path) => described(path, spec.process().as_ref())?,
        None => (asked(call, spec.process().as_ref())?, Vec::new()),
    };
    let terminal = command.terminal().unwrap_or(false);
    let detach = given.is_on("detach");
    let socket = Socket::asked(given.get("console-socket"), detach, terminal)?;
    let receiver = Receiver::asked(call)?;
    let descriptors = descriptors(call, Some(&mut command))?;
    // The container's session keyring cannot be joined from outside of it, so the process gets one of its own.
    let how = Unattended { descriptors, keep_keyring: false };

    let foreground = if detach { None } else { Some(Foreground::new()?) };
    let mut exec = Exec::new(&record.id, init.as_fd(), &spec, &command);
    exec.subgroups = &subgroups;
    let begun = runtime.exec_unattended(&exec, &how)?;
    if let Err(failure) = hand_out(call, &begun, socket.as_ref(), receiver.as_ref()) {
        let _ = process::signal(&begun.process, SIGKILL);
        return Err(failure);
    }
    warn_of_missing(call, &runtime, &spec, Some(&command), &unknown);
    match foreground {
        Some(foreground) => foreground.wait(call.io, &begun),
        None => Ok(0),
    }
}

/// Tells the caller of the process, by all the ways that it has asked for.
fn hand_out(
    call: &Call<'_>,
    begun: &Begun,
    socket: Option<&Socket>,
    receiver: Option<&Receiver>,
) -> Result<(), Failure> {
    if let (Some(socket), Some(terminal)) = (socket, &begun.terminal) {
        socket.send(terminal.as_fd())?;
    }
    if let Some(receiver) = receiver {
        receiver.send(pidfd::FURTHER, begun.process.as_fd())?;
    }
    write_pid(call, begun.pid)
}

/// The process of a file.
fn described(path: &str, of_container: Option<&Process>) -> Result<(Process, Vec<String>), Failure> {
    let length = std::fs::metadata(path).map_err(Failure::io(format!("open {path}")))?.len();
    if length > MAX_PROCESS {
        return Err(Failure::new(format!("{path} is larger than {MAX_PROCESS} bytes")));
    }
    let bytes = std::fs::read(path).map_err(Failure::io(format!("read {path}")))?;
    let (mut command, unknown) =
        document::read(&bytes, &[]).map_err(|error| Failure::new(format!("{path} describes no process: {error}")))?;
    if let Some(own) = of_container {
        complete(&mut command, own);
    }
    Ok((command, unknown))
}

/// What a file leaves open of the confinement and of the limits of a process is as for the container's own: who does not know of
/// a profile or a label must not be without it.
fn complete(command: &mut Process, own: &Process) {
    let says_nothing = |text: &Option<String>| text.as_ref().is_none_or(String::is_empty);
    if command.capabilities().is_none() {
        command.set_capabilities(own.capabilities().clone());
    }
    if command.no_new_privileges().is_none() {
        command.set_no_new_privileges(own.no_new_privileges());
    }
    if says_nothing(command.apparmor_profile()) {
        command.set_apparmor_profile(own.apparmor_profile().clone());
    }
    if says_nothing(command.selinux_label()) {
        command.set_selinux_label(own.selinux_label().clone());
    }
    if command.rlimits().as_ref().is_none_or(Vec::is_empty) {
        command.set_rlimits(own.rlimits().clone());
    }
    if command.oom_score_adj().is_none() {
        command.set_oom_score_adj(own.oom_score_adj());
    }
    if command.io_priority().is_none() {
        command.set_io_priority(*own.io_priority());
    }
    if command.scheduler().is_none() {
        command.set_scheduler(own.scheduler().clone());
    }
    if command.exec_cpu_affinity().is_none() {
        command.set_exec_cpu_affinity(own.exec_cpu_affinity().clone());
    }
    if command.user().umask().is_none() {
        let umask = own.user().umask();
        command.user_mut().set_umask(umask);
    }
}

/// Cgroups beneath the container's: one path for all hierarchies, or paths with the controllers that they are for.
fn subgroups<'a>(words: impl Iterator<Item = &'a str>) -> Result<Vec<Subgroup>, Failure> {
    let mut all: Vec<Subgroup> = Vec::new();
    for word in words {
        let invalid = |text: &str| Failure::new(format!("invalid --cgroup argument: {word} ({text})"));
        let (controllers, path) = match word.split_once(':') {
            Some((controllers, path)) => (controllers.split(',').map(str::to_owned).collect(), path),
            None => (Vec::new(), word),
        };
        if controllers.iter().any(String::is_empty) {
            return Err(invalid("empty controller prefix"));
        }
        let known = |name: &String| all.iter().any(|other| other.controllers.contains(name));
        if let Some(twice) = controllers.iter().find(|name| known(name)) {
            return Err(invalid(&format!("controller {twice} specified multiple times")));
        }
        all.push(Subgroup { controllers, path: PathBuf::from(path) });
    }
    if all.len() > 1 && all.iter().any(|one| one.controllers.is_empty()) {
        return Err(Failure::new("invalid --cgroup argument: one path is for all controllers, several need theirs"));
    }
    Ok(all)
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn cgroups_have_a_path_or_controllers_and_a_path() {
        let read = |words: &[&str]| subgroups(words.iter().copied());
        let one = |controllers: &[&str], path: &str| Subgroup {
            controllers: controllers.iter().map(|&name| name.to_owned()).collect(),
            path: path.into(),
        };
        assert_eq!(read(&[]).unwrap(), []);
        assert_eq!(read(&["/a/b"]).unwrap(), [one(&[], "/a/b")]);
        assert_eq!(
            read(&["cpu,cpuacct:x", "memory:y"]).unwrap(),
            [one(&["cpu", "cpuacct"], "x"), one(&["memory"], "y")]
        );
        for (words, text) in [
            (&[":x"][..], "empty controller"),
            (&["cpu,:x"], "empty controller"),
            (&["cpu:x", "cpu:y"], "multiple times"),
            (&["x", "cpu:y"], "several need theirs"),
        ] {
            assert!(read(words).unwrap_err().to_string().contains(text), "{words:?}");
        }
    }

    #[test]
    fn what_a_file_leaves_open_is_as_for_the_container() {
        let own: Process = serde_json::from_str(
            r#"{"user": {"uid": 0, "gid": 0, "umask": 63}, "cwd": "/", "noNewPrivileges": true, "apparmorProfile": "p",
                "selinuxLabel": "l", "oomScoreAdj": 5, "capabilities": {"bounding": ["CAP_KILL"]},
                "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 1, "hard": 2}],
                "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 3}, "scheduler": {"policy": "SCHED_IDLE"},
                "execCPUAffinity": {"initial": "0", "final": "0"}}"#,
        )
        .unwrap();
        let mut bare: Process = serde_json::from_str(r#"{"user": {"uid": 0, "gid": 0}, "cwd": "/"}"#).unwrap();
        complete(&mut bare, &own);
        assert_eq!(bare, own);
        let said = r#"{"user": {"uid": 0, "gid": 0, "umask": 0}, "cwd": "/", "noNewPrivileges": false,
            "apparmorProfile": "unconfined", "selinuxLabel": "m", "oomScoreAdj": 0, "capabilities": {},
            "rlimits": [{"type": "RLIMIT_CPU", "soft": 1, "hard": 2}],
            "ioPriority": {"class": "IOPRIO_CLASS_RT", "priority": 0}, "scheduler": {"policy": "SCHED_OTHER"},
            "execCPUAffinity": {}}"#;
        let mut said: Process = serde_json::from_str(said).unwrap();
        let before = said.clone();
        complete(&mut said, &own);
        assert_eq!(said, before, "what it says counts");
    }
}
