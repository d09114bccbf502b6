//! `kill` and `delete`.

use std::os::fd::AsFd;
use std::time::Duration;

use engine_runtime::Runtime;
use engine_runtime::spec::{LinuxNamespaceType, Spec};
use engine_sys::process;

use super::failure::Failure;
use super::flags::{Place, switch};
use super::state::{self, Record, Status};
use super::{Call, Verb};

pub(super) const SIGKILL: i32 = 9;
/// How long a killed process may take to be gone.
const GONE: Duration = Duration::from_secs(10);

pub(super) const KILL: Verb = Verb {
    name: "kill",
    words: "ID [SIGNAL]",
    about: "Send a signal to a container's init process (TERM by default)",
    flags: &[switch(&["all", "a"], "send it to all processes of the container")],
    place: Place::Anywhere,
    count: (1, 2),
    run: kill,
};

pub(super) const DELETE: Verb = Verb {
    name: "delete",
    words: "ID",
    about: "Delete what is left of a container",
    flags: &[switch(&["force", "f"], "kill the container if it runs")],
    place: Place::Anywhere,
    count: (1, 1),
    run: delete,
};

fn kill(call: &Call<'_>) -> Result<u8, Failure> {
    let word = call.given.words.get(1).map_or("SIGTERM", String::as_str);
    let signal = number(word).ok_or_else(|| Failure::new(format!("unknown signal {word:?}")))?;
    let runtime = call.runtime()?;
    let record = Record::read(&runtime, call.id())?;
    let init = record.init();
    let stopped = || Failure::new("container not running");
    if signal == 0 {
        // Only whether there is somebody.
        return init.map(|_| 0).ok_or_else(stopped);
    }
    let shared = !has_pid_namespace(&record.spec(&runtime)?);
    // Without a pid namespace of its own the death of init ends nobody else.
    if call.given.is_on("all") || (signal == SIGKILL && shared && init.is_some()) {
        kill_all(&runtime, call.id(), signal)?;
        return Ok(0);
    }
    let sent = process::signal(init.ok_or_else(stopped)?.as_fd(), signal);
    if !sent.map_err(Failure::io("unable to signal init"))? {
        return Err(stopped());
    }
    if signal == SIGKILL {
        // Who is stopped by version 1 of cgroups dies when it goes on.
        let cgroup = runtime.cgroup(call.id())?;
        if cgroup.is_frozen().unwrap_or(false) {
            cgroup.thaw()?;
        }
    }
    Ok(0)
}

fn kill_all(runtime: &Runtime, id: &str, signal: i32) -> Result<(), Failure> {
    let cgroup = runtime.cgroup(id)?;
    if signal == SIGKILL {
        return Ok(cgroup.kill()?);
    }
    for pid in cgroup.pids()? {
        // Who is gone meanwhile needs no signal.
        if let Ok(process) = process::open(pid) {
            process::signal(process, signal).map_err(Failure::io(format!("signal process {pid}")))?;
        }
    }
    Ok(())
}

fn delete(call: &Call<'_>) -> Result<u8, Failure> {
    let runtime = call.runtime()?;
    let id = call.id();
    let force = call.given.is_on("force");
    let directory = state::directory(&runtime, id)?;
    let record = match Record::read(&runtime, id) {
        Ok(record) => record,
        Err(_) if force && !directory.exists() => return Ok(0),
        // What a creation that was cut short has left.
        Err(_) if force => {
            runtime.remove(id)?;
            return Ok(0);
        }
        Err(failure) => return Err(failure),
    };
    let status = record.status(&runtime)?;
    if !force && !matches!(status, Status::Stopped | Status::Created) {
        return Err(Failure::new(format!("cannot delete container {id} that is not stopped: {}", status.name())));
    }
    if let Some(init) = record.init() {
        runtime.cgroup(id)?.kill()?;
        process::signal(&init, SIGKILL).map_err(Failure::io("unable to signal init"))?;
        if !process::wait(&init, Some(GONE)).map_err(Failure::io("wait for init"))? {
            return Err(Failure::new("container init still running"));
        }
    }
    let bundle = record.launched(&runtime);
    runtime.remove(id)?;
    if let Ok(bundle) = bundle {
        state::after_end(call, &bundle);
    }
    Ok(0)
}

fn has_pid_namespace(spec: &Spec) -> bool {
    let namespaces = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
    namespaces
        .into_iter()
        .flatten()
        .any(|namespace| namespace.typ() == LinuxNamespaceType::Pid && namespace.path().is_none())
}

/// The number of a signal that is given as a number or by name, with or without `SIG`.
fn number(word: &str) -> Option<i32> {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM",
        "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF",
        "WINCH", "IO", "PWR", "SYS",
    ];
    if let Ok(number) = word.parse::<i32>() {
        return (0..=64).contains(&number).then_some(number);
    }
    let upper = word.to_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(at) = NAMES.iter().position(|known| *known == name) {
        return i32::try_from(at + 1).ok();
    }
    let (from, sign) = match name.get(..5)? {
        "RTMIN" => (34, 1),
        "RTMAX" => (64, -1),
        _ => return None,
    };
    let rest = name[5..].trim_start_matches(['+', '-']);
    let offset: i32 = if rest.is_empty() { 0 } else { rest.parse().ok()? };
    Some(from + sign * offset).filter(|number| (34..=64).contains(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        let words = ["0", "9", "KILL", "SIGKILL", "sigterm", "SYS", "RTMIN+3", "SIGRTMAX-1", "RTMIN"];
        assert_eq!(words.map(number), [0, 9, 9, 9, 15, 31, 37, 63, 34].map(Some));
        assert_eq!(["", "65", "NOPE", "-9", "RTMIN+40", "SIG"].map(number), [None; 6]);
    }
}
