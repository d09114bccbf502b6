#![allow(clippy::unwrap_used, missing_docs)]
//! The calls of the OCI command line are killed at one step after the other, and so are the processes that they have made so
//! far: at each stop of a system call. A further call finds what there is, says the truth about it, and takes all of it away.

// What the tests of the command line have is used here, not all of it.
#[allow(dead_code, unused_imports)]
#[path = "../oci/place.rs"]
mod place;
#[allow(dead_code)]
#[path = "../../../../engine/runtime/tests/survival/tracer.rs"]
mod tracer;

use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use place::Place;
use rustix::process::{Pid, WaitOptions, waitpid};
use tracer::{Role, Target, children, until_gone};

const PATIENCE: Duration = Duration::from_secs(30);
/// Of each call and of what it makes, so many steps have their kill: 168 in all.
const KILLS: u32 = 24;
/// Who is the program that was called; whom it makes is the other one.
const CALL: Role = Role::Spawner;
const MADE: Role = Role::Monitor;

/// Calls the program, and kills `target` meanwhile. Says how many steps each had and whether the program succeeded.
fn call(place: &Place, arguments: &[&str], target: Target) -> ([u32; 3], bool) {
    let program = place.command(arguments);
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", "read line; kill -URG $$; exec \"$0\" \"$@\""]).arg(program.get_program());
    shell.args(program.get_args()).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    until_gone(&mut shell.spawn().unwrap(), target)
}

/// Whoever has ended is reaped; who is left?
fn left() -> Vec<u32> {
    let all = children(std::process::id());
    let living = |pid: &u32| {
        let pid = Pid::from_raw(pid.cast_signed());
        !matches!(waitpid(pid, WaitOptions::NOHANG), Ok(Some(_)) | Err(rustix::io::Errno::CHILD))
    };
    all.into_iter().filter(living).collect()
}

fn status(place: &Place) -> Option<String> {
    left();
    let output = place.call(&["state", &place.id]);
    if output.status.success() {
        let state: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        return Some(state["status"].as_str().unwrap().to_owned());
    }
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("does not exist"), "{text}");
    None
}

/// Takes the container away, of which nothing may be left.
fn delete(place: &Place, at: &str) {
    let output = place.call(&["delete", "--force", &place.id]);
    assert!(output.status.success(), "{at}: {}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(place.left(), Vec::<PathBuf>::new(), "{at}");
    until_left(0, at);
}

/// Waits until at most so many processes are there.
fn until_left(count: usize, at: &str) {
    let deadline = Instant::now() + PATIENCE;
    while left().len() > count {
        assert!(Instant::now() < deadline, "{at}: processes are left: {:?}", left());
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// `run` does one part of a life and checks what came of it; what it says are the steps.
fn at_every_step(place: &Place, part: &str, roles: &[Role], run: impl Fn(Target, &str) -> [u32; 3]) {
    let steps = run(Target::nobody(), part);
    delete(place, part);
    for role in roles {
        let steps = steps[*role as usize];
        assert!(steps >= KILLS, "{part}: {steps} steps");
        for kill in 0..KILLS {
            let step = 1 + kill * steps / KILLS;
            let at = format!("{part}, {role:?} killed at step {step} of {steps}");
            run(Target::new(*role, step), &at);
            delete(place, &at);
        }
    }
}

#[test]
fn killed_at_every_step() {
    let place = Place::new("survival", "sleep 1000");
    let bundle = place.text("bundle");
    let create = ["create", "--bundle", &bundle, &place.id];
    let running = || {
        assert_eq!(place.leave(&create), 0, "{}", place.out());
        assert_eq!(place.leave(&["start", &place.id]), 0, "{}", place.out());
    };

    at_every_step(&place, "create", &[CALL, MADE], |target, at| {
        let (steps, succeeded) = call(&place, &create, target);
        let status = status(&place);
        match target.role() {
            None => assert_eq!((succeeded, status.as_deref()), (true, Some("created")), "{at}"),
            // What was made has gone with it, or all of it was there.
            Some(MADE) if !succeeded => assert_eq!((status, place.left()), (None, Vec::new()), "{at}"),
            Some(_) => assert!(matches!(status.as_deref(), None | Some("created" | "stopped")), "{at}: {status:?}"),
        }
        steps
    });
    at_every_step(&place, "start", &[CALL], |target, at| {
        assert_eq!(place.leave(&create), 0, "{}", place.out());
        let (steps, succeeded) = call(&place, &["start", &place.id], target);
        let known = status(&place);
        if known.as_deref() == Some("created") {
            assert_eq!(place.leave(&["start", &place.id]), 0, "{at}: {}", place.out());
        }
        assert!(succeeded || target.role().is_some(), "{at}");
        assert_eq!(status(&place).as_deref(), Some("running"), "{at}, {known:?} before");
        steps
    });
    at_every_step(&place, "exec", &[CALL, MADE], |target, at| {
        running();
        let (steps, succeeded) = call(&place, &["exec", &place.id, "sh", "-c", "true"], target);
        assert!(succeeded || target.role().is_some(), "{at}");
        assert_eq!(status(&place).as_deref(), Some("running"), "{at}");
        assert_eq!(place.call(&["exec", &place.id, "sh", "-c", "exit 3"]).status.code(), Some(3), "{at}");
        // Init cannot end before the others of its namespace are reaped, and who has lost its parent is reaped here.
        until_left(1, at);
        steps
    });
    at_every_step(&place, "kill", &[CALL], |target, at| {
        running();
        let (steps, succeeded) = call(&place, &["kill", &place.id, "KILL"], target);
        assert!(succeeded || target.role().is_some(), "{at}");
        let output = place.call(&["kill", &place.id, "KILL"]);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() || text.contains("container not running"), "{at}: {text}");
        steps
    });
    at_every_step(&place, "delete", &[CALL], |target, at| {
        running();
        let (steps, succeeded) = call(&place, &["delete", "--force", &place.id], target);
        assert!(succeeded || target.role().is_some(), "{at}");
        if succeeded {
            assert_eq!((status(&place), place.left()), (None, Vec::new()), "{at}");
        }
        steps
    });
}
