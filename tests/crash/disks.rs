//! Disks that fail: system calls of the daemon answer with errors, one after the other. What was asked for fails with a clear
//! error, nothing is spoilt, and the same works afterwards. And what is written before power may be lost: the order of
//! writes, renames and syncs is one after which a committed image has all its bytes.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::CTL;
use crate::images::{REMOTE, assert_sound};
use crate::support::archive::slow;
use crate::support::daemon::Daemon;
use crate::support::registry::{Registry, Setup};
use crate::support::{eventually, programs};

/// The daemon's system calls, looked at or spoilt for as long as this lives.
pub(crate) struct Tracer {
    process: Child,
}

impl Tracer {
    pub(crate) fn attach(daemon: &Daemon, options: &[&str], output: &Path) -> Self {
        let said = daemon.home().join("strace");
        let mut command = std::process::Command::new(programs::borrowed("strace"));
        command.args(["-f", "-p", &daemon.pid().to_string()]).args(options).arg("-o").arg(output);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(fs::File::create(&said).unwrap());
        let process = command.spawn().unwrap();
        // It says so once it has all threads.
        eventually("the daemon is traced", || fs::read_to_string(&said).unwrap().contains(" attached").then_some(()));
        Self { process }
    }

    pub(crate) fn detach(mut self) {
        // It may have ended with the daemon.
        if self.process.try_wait().unwrap().is_some() {
            return;
        }
        kill(Pid::from_raw(self.process.id().cast_signed()), Signal::SIGTERM).unwrap();
        let asked = Instant::now();
        while self.process.try_wait().unwrap().is_none() {
            // A daemon that dies while it is asked is waited for in an order in which its threads do not go.
            if asked.elapsed() > Duration::from_secs(2) {
                self.process.kill().unwrap();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

pub(crate) fn archive(daemon: &Daemon) -> PathBuf {
    let archive = daemon.home().join("slow.tar");
    fs::write(&archive, slow(REMOTE).docker_archive()).unwrap();
    archive
}

/// The disk fails for one command, from one call of a kind on. Whether the command noticed.
fn fails(daemon: &Daemon, (calls, error, moment): (&str, &str, usize), command: &[&str]) -> bool {
    // From that moment on nothing goes any more, as with a disk that is gone.
    let inject = format!("inject={calls}:error={error}:when={moment}+");
    let tracer = Tracer::attach(daemon, &["-e", &format!("trace={calls}"), "-e", &inject], Path::new("/dev/null"));
    let said = CTL.run(daemon, command);
    tracer.detach();
    if said.code != 0 {
        assert!(said.stderr.len() > 20, "{command:?} {inject}: {said:?}");
    }
    // What could not be removed then goes with a repair, or at the next start.
    CTL.run(daemon, &["system", "check", "--repair"]).ok();
    assert_sound(daemon, moment, &format!("{command:?} {inject}"));
    said.code != 0
}

#[test]
fn a_disk_that_fails_is_an_error_and_spoils_nothing() {
    let daemon = Daemon::with_busybox();
    let archive = archive(&daemon);
    let load = ["load", "-i", archive.to_str().unwrap()];
    let cases: [(&str, &str, &[usize]); 5] = [
        ("syncfs", "EIO", &[1, 3]),
        ("fsync,fdatasync", "EIO", &[1, 3]),
        ("renameat,renameat2", "EIO", &[1, 4]),
        ("mkdirat", "ENOSPC", &[2]),
        ("pwrite64", "ENOSPC", &[1]),
    ];
    for (calls, error, moments) in cases {
        for moment in moments {
            let failed = fails(&daemon, (calls, error, *moment), &load);
            let listed = CTL.run(&daemon, &["images", "-q", REMOTE]).ok();
            assert_eq!(failed, listed.is_empty(), "{calls} {error} {moment}");
            CTL.run(&daemon, &load).ok();
            assert_sound(&daemon, *moment, "loaded after it");
            CTL.run(&daemon, &["rmi", "-f", REMOTE]).ok();
        }
    }
    daemon.finish();
}

#[test]
fn a_disk_that_fails_spoils_nothing_of_a_pull_a_commit_a_prune_and_of_making_room() {
    let daemon = Daemon::with_busybox();
    let _registry = Registry::empty(&daemon, &Setup::default());
    let archive = archive(&daemon);
    CTL.run(&daemon, &["load", "-i", archive.to_str().unwrap()]).ok();
    CTL.run(&daemon, &["push", REMOTE]).ok();
    let script = "dd if=/dev/urandom of=/root/large bs=1M count=2";
    CTL.run(&daemon, &["run", "--name", "writer", "--network", "none", "busybox", "sh", "-c", script]).ok();
    let commands: [&[&str]; 5] = [
        &["pull", REMOTE],
        &["commit", "writer", "made:1"],
        &["image", "prune", "-af"],
        &["system", "trim", "-f", "--compressed"],
        &["system", "trim", "-f", "--to", "1k"],
    ];
    let mut failures = 0;
    for command in commands {
        let is_pull = command[0] == "pull";
        for case in [("fsync,fdatasync", "EIO", 1), ("pwrite64", "ENOSPC", 1)] {
            match is_pull {
                true => drop(CTL.run(&daemon, &["rmi", "-f", REMOTE])),
                false => drop(CTL.run(&daemon, &["pull", REMOTE]).ok()),
            }
            let failed = fails(&daemon, case, command);
            failures += usize::from(failed);
            if is_pull {
                let listed = CTL.run(&daemon, &["images", "-q", REMOTE]).ok();
                assert_eq!(failed, listed.is_empty(), "{case:?}");
            }
            // The same works when the disk does.
            CTL.run(&daemon, command).ok();
            assert_sound(&daemon, 0, &format!("{command:?} after {case:?}"));
        }
    }
    assert!(failures >= commands.len(), "only {failures} commands have met the failures");
    CTL.run(&daemon, &["rm", "writer"]).ok();
    daemon.finish();
}

/// One call as the trace has it: its name and the whole line.
pub(crate) fn calls(trace: &str) -> Vec<(String, String)> {
    // What was interrupted by another thread's call is put together again.
    let mut begun: std::collections::BTreeMap<String, String> = std::collections::BTreeMap::new();
    let mut found = Vec::new();
    for line in trace.lines() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let rest = rest.trim_start();
        let whole = if let Some(start) = rest.strip_suffix("<unfinished ...>") {
            begun.insert(thread.to_owned(), start.to_owned());
            continue;
        } else if let Some((_, end)) = rest.split_once(" resumed>") {
            begun.remove(thread).unwrap_or_default() + end
        } else {
            rest.to_owned()
        };
        if let Some((name, _)) = whole.split_once('(') {
            found.push((name.to_owned(), whole.clone()));
        }
    }
    found
}

/// The name that a rename gives: the second of two, both of which strace shows whole whatever the length of strings.
pub(crate) fn target(line: &str) -> &str {
    line.rsplit('"').nth(1).unwrap_or_default()
}

#[test]
fn what_a_rename_gives_is_the_second_name() {
    let line = r#"renameat2(9</r/layers>, ".tmp-1", 9</r/layers>, "ab.framing", RENAME_NOREPLACE) = 0"#;
    assert_eq!(target(line), "ab.framing");
    assert_eq!(target(r#"renameat(9</r/layers>, "ab", 9</r/layers>, ".tmp-2") = 0"#), ".tmp-2");
}

#[test]
fn what_is_committed_was_synced_in_an_order_that_survives_a_loss_of_power() {
    let daemon = Daemon::with_busybox();
    let archive = archive(&daemon);
    let output = daemon.home().join("trace");
    let traced = "trace=write,pwrite64,renameat,renameat2,fsync,fdatasync,syncfs";
    let tracer = Tracer::attach(&daemon, &["-y", "-s", "0", "-e", traced], &output);
    CTL.run(&daemon, &["load", "-i", archive.to_str().unwrap()]).ok();
    tracer.detach();
    let mut trace = String::new();
    fs::File::open(&output).unwrap().read_to_string(&mut trace).unwrap();
    let root = daemon.root().canonicalize().unwrap();
    let root = root.to_str().unwrap();
    let stores = [format!("{root}/layers"), format!("{root}/blobs")];
    let mut unsynced: BTreeSet<String> = BTreeSet::new();
    let mut unnamed: BTreeSet<String> = BTreeSet::new();
    let (mut written, mut renamed, mut committed) = (0, 0, 0);
    for (name, line) in calls(&trace) {
        let path = line.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map_or("", |(path, _)| path);
        let is_stored = stores.iter().any(|store| path.starts_with(store.as_str()));
        match name.as_str() {
            // What has been written may be lost until all of it is synced.
            "write" | "pwrite64" if is_stored => {
                unsynced.insert(path.to_owned());
                written += 1;
            }
            "syncfs" if line.ends_with("= 0") => unsynced.clear(),
            // Bytes may not get a name for good before they are on the disk. What is put away gets a temporary one.
            "renameat" | "renameat2" if is_stored && !target(&line).starts_with(".tmp-") => {
                assert!(unsynced.is_empty(), "{line}\nbut not synced: {unsynced:?}");
                unnamed.insert(path.to_owned());
                renamed += 1;
            }
            "fsync" if line.ends_with("= 0") => {
                unnamed.remove(path);
            }
            _ => {}
        }
        // The commit itself: all names that it speaks of are on the disk.
        if matches!(name.as_str(), "fdatasync" | "fsync") && path.contains("engine.db") {
            assert!(unnamed.is_empty(), "committed, but without synced names: {unnamed:?}");
            committed += usize::from(renamed > 0);
        }
    }
    assert!(written > 6 && renamed >= 3 && committed >= 1, "{written} {renamed} {committed}\n{trace}");
    CTL.run(&daemon, &["rmi", "-f", REMOTE]).ok();
    daemon.finish();
}
