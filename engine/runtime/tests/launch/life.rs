//! From launch to exit, whoever dies.

use std::fs;
use std::time::Duration;

use engine_runtime::monitor::{ExitRecord, Monitor};
use engine_runtime::protocol::{Event, Request, Stage};

use crate::place::{Container, Events, Init, Place, Wish, eventually, is_gone, parent_of};

/// The engine dies: its connection is closed.
fn leave(container: Container<'_>) -> Init {
    let Container { events, process, .. } = container;
    drop(events);
    process
}

#[test]
fn a_program_runs_and_its_code_is_told() {
    let place = Place::new();
    assert_eq!(place.shell("exit 42").0, 42);
    assert_eq!(place.shell("echo out; exit 0"), (0, "out\n".to_owned()));
}

#[test]
fn a_signal_is_told_as_shells_do() {
    let place = Place::new();
    let mut container = place.launch(&Wish { arguments: &["sleep", "1000"], ..Wish::default() }).unwrap();
    assert!(!container.waiting);
    assert_eq!(fs::read_link(format!("/proc/{}/exe", container.pid)).unwrap().file_name().unwrap(), "busybox");
    engine_sys::process::signal(&container.process, 9).unwrap();
    assert_eq!(container.exit(), 137);
}

#[test]
fn standard_output_and_error_are_logged_line_by_line() {
    let place = Place::new();
    let wish = Wish {
        arguments: &["sh", "-c", "echo one; echo two >&2; printf '<\\033'"],
        log: Some((0, 1)),
        ..Wish::default()
    };
    assert_eq!(place.launch(&wish).unwrap().exit(), 0);
    assert_eq!((place.logged("stdout"), place.logged("stderr")), ("one\n<\u{1b}".to_owned(), "two\n".to_owned()));
    assert!(place.log().contains(r#"{"log":"\u003c\u001b","stream":"stdout","time":""#), "{}", place.log());
}

#[test]
fn a_lot_of_output_is_logged_whole_and_rotated() {
    let place = Place::new();
    let wish = Wish { arguments: &["seq", "100000"], log: Some((1 << 20, 20)), ..Wish::default() };
    assert_eq!(place.launch(&wish).unwrap().exit(), 0);
    let mut all = String::new();
    let directory = place.directory.path().join("log");
    for number in (1..20).rev() {
        all += &fs::read_to_string(directory.join(format!("log.{number}"))).unwrap_or_default();
    }
    assert!(!all.is_empty());
    all += &place.log();
    let texts = all.lines().map(|line| line.split_once("\",\"stream").unwrap().0.trim_start_matches("{\"log\":\""));
    assert!(texts.eq((1..=100_000).map(|number| format!("{number}\\n"))));
}

#[test]
fn init_waits_for_start() {
    let place = Place::new();
    let mut container =
        place.launch(&Wish { arguments: &["sh", "-c", "exit 3"], wait: true, ..Wish::default() }).unwrap();
    assert!(container.waiting);
    container.events.send(&Request::Status {}, &[]);
    let (stage, descriptors) = container.events.wait_for(|event| match event {
        Event::Status { stage, .. } => Some(*stage),
        _ => None,
    });
    assert_eq!((stage, descriptors.len()), (Stage::Waiting, 1));
    container.start();
    assert_eq!(container.exit(), 3);
}

#[test]
fn nobody_is_left_after_the_end() {
    let place = Place::new();
    let arguments = ["sh", "-c", "sleep 1000 & exit 0"];
    let mut container = place.launch(&Wish { arguments: &arguments, wait: true, ..Wish::default() }).unwrap();
    let (monitor, init) = (container.monitor_pid(), container.pid);
    container.start();
    assert_eq!(container.exit(), 0);
    eventually("the monitor is gone", || is_gone(monitor));
    assert!(is_gone(init));
    assert!(Monitor::connect(&place.socket()).unwrap().is_none());
    let root = place.root();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(root.to_str().unwrap()), "the host's mount table stays as it was");
}

#[test]
fn a_container_lives_on_without_its_engine_and_is_found_again() {
    let place = Place::new();
    let wish = Wish {
        arguments: &["sh", "-c", "echo before; read line; exit 9"],
        stdin: Some(true),
        log: Some((0, 1)),
        ..Wish::default()
    };
    let container = place.launch(&wish).unwrap();
    let pid = container.pid;
    let _process = leave(container);
    let mut events = Events::connect(&place.socket()).unwrap();
    events.send(&Request::Subscribe {}, &[]);
    events.send(&Request::Status {}, &[]);
    let (found, descriptors) = events.wait_for(|event| match event {
        Event::Status { stage: Stage::Running, pid, .. } => Some(*pid),
        _ => None,
    });
    assert_eq!((found, descriptors.len()), (pid, 1));
    events.send(&Request::CloseStdin { process: 0 }, &[]);
    let (code, _) = events.wait_for(|event| match event {
        Event::Exited { code, .. } => Some(*code),
        _ => None,
    });
    assert_eq!(code, 9);
    assert_eq!(place.logged("stdout"), "before\n");
}

#[test]
fn a_container_that_ends_alone_leaves_its_record() {
    let place = Place::new();
    let wish = Wish { arguments: &["sh", "-c", "sleep 0.1; exit 5"], ..Wish::default() };
    let _process = leave(place.launch(&wish).unwrap());
    eventually("there is a record", || ExitRecord::read(&place.run()).unwrap().is_some_and(|record| record.code == 5));
    eventually("nobody listens", || Monitor::connect(&place.socket()).unwrap().is_none());
}

#[test]
fn a_container_that_shall_dies_with_its_engine() {
    let place = Place::new();
    let wish = Wish { arguments: &["sleep", "1000"], die_with_launcher: true, ..Wish::default() };
    let container = place.launch(&wish).unwrap();
    let (pid, monitor) = (container.pid, container.monitor_pid());
    let _process = leave(container);
    eventually("both are gone", || is_gone(pid) && is_gone(monitor));
    assert_eq!(ExitRecord::read(&place.run()).unwrap().unwrap().code, 137);
}

#[test]
fn a_container_does_not_outlive_its_monitor() {
    let place = Place::new();
    let container =
        place.launch(&Wish { arguments: &["sleep", "1000"], user: Some("build"), ..Wish::default() }).unwrap();
    let monitor = engine_sys::process::open(container.monitor_pid()).unwrap();
    engine_sys::process::signal(&monitor, 9).unwrap();
    assert!(engine_sys::process::wait(&container.process, Some(Duration::from_secs(30))).unwrap());
}

#[test]
fn the_spawner_is_no_child_and_is_started_again() {
    let place = Place::new();
    let container = place.launch(&Wish { arguments: &["sleep", "1000"], ..Wish::default() }).unwrap();
    let spawner = parent_of(container.monitor_pid());
    assert_ne!(parent_of(spawner), std::process::id());
    assert_eq!(fs::read_to_string(format!("/proc/{spawner}/comm")).unwrap().trim(), "engine-spawner");
    assert_eq!(fs::read_link(format!("/proc/{spawner}/cwd")).unwrap().to_str(), Some("/"));
    assert_eq!(fs::read_dir(format!("/proc/{spawner}/fd")).unwrap().count(), 4, "its streams and the connection");
    let process = engine_sys::process::open(spawner).unwrap();
    engine_sys::process::signal(&process, 9).unwrap();
    engine_sys::process::wait(&process, None).unwrap();
    assert!(!is_gone(container.pid), "containers live on");
    engine_sys::process::signal(&container.process, 9).unwrap();
    engine_sys::process::wait(&container.process, None).unwrap();
    assert_eq!(place.shell("echo again").1, "again\n");
}

#[test]
fn the_spawner_ends_with_its_engine() {
    let place = Place::new();
    let container = place.launch(&Wish { arguments: &["sleep", "1000"], ..Wish::default() }).unwrap();
    let spawner = parent_of(container.monitor_pid());
    engine_sys::process::signal(&container.process, 9).unwrap();
    drop(container);
    drop(place);
    eventually("the spawner is gone", || is_gone(spawner));
}

#[test]
fn many_containers_at_once() {
    let place = Place::new();
    std::thread::scope(|scope| {
        for number in 0..8 {
            let (place, spawner) = (Place::new(), &place.spawner);
            scope.spawn(move || {
                for _ in 0..5 {
                    let command = format!("exit {number}");
                    let (plan, descriptors) =
                        place.plan(&Wish { arguments: &["sh", "-c", &command], ..Wish::default() });
                    let borrowed: Vec<_> = descriptors.iter().map(std::os::fd::AsFd::as_fd).collect();
                    let launched = spawner.launch(&plan, &borrowed).unwrap();
                    assert!(
                        matches!(launched.monitor.receive().unwrap().0, Event::Exited { code, .. } if code == number)
                    );
                }
            });
        }
    });
}
