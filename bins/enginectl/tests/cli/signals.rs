//! A process that takes no notice of signals is left in the end.

use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};

use rustix::process::{Pid, Signal, kill_process};

use super::daemon::{Daemon, Finished, Moment};

const ABOUT: &str = r#"{"Id":"c1","State":{"Running":true},"Config":{"OpenStdin":true},"HostConfig":{}}"#;
const FORCED: &str = "\ngot 3 SIGTERM/SIGINTs, forcefully exiting\n";

/// A container that never ends, and the paths that are asked for, as they are asked for. What is asked at `silent` is not answered.
fn stubborn(silent: &'static str) -> (Daemon, Receiver<String>) {
    let (asked, paths) = channel();
    let daemon = Daemon::start(move |request, connection| {
        match request.path.as_str() {
            "/containers/create" => connection.answer(201, r#"{"Id":"c1"}"#),
            "/containers/c1/json" => connection.answer(200, ABOUT),
            "/containers/c1/attach" => {
                connection.upgrade();
                connection.frame(1, b"x");
            }
            "/containers/c1/wait" => connection.begin(200, "application/json"),
            path if path == silent => {}
            _ => connection.answer(204, ""),
        }
        let _ = asked.send(request.path.clone());
        if matches!(request.path.as_str(), "/containers/c1/attach" | "/containers/c1/wait") || request.path == silent {
            Moment::default().wait();
        }
    });
    (daemon, paths)
}

fn spawn(daemon: &Daemon, line: &str) -> Child {
    let mut command = daemon.command(line);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn send(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

fn until(paths: &Receiver<String>, wanted: &str) {
    while paths.recv().unwrap() != wanted {}
}

fn is_forced(child: Child) -> bool {
    let finished = Finished::from(child.wait_with_output().unwrap());
    finished.code == Some(1) && finished.stderr == FORCED
}

#[test]
fn three_signals_end_the_client_of_a_process_that_takes_no_notice() {
    for line in ["run -i busybox x", "run --rm busybox x", "start -a c1", "start -i c1"] {
        let (daemon, paths) = stubborn("");
        let child = spawn(&daemon, line);
        until(&paths, "/containers/c1/start");
        for signal in [Signal::INT, Signal::USR1, Signal::TERM, Signal::INT] {
            send(&child, signal);
            until(&paths, "/containers/c1/kill");
        }
        assert!(is_forced(child), "{line}");
        assert!(!daemon.asked().iter().any(|asked| asked.starts_with("DELETE")), "{line}");
    }
}

#[test]
fn attach_ends_as_well() {
    let (daemon, paths) = stubborn("");
    let mut child = spawn(&daemon, "attach c1");
    let mut shown = child.stdout.take().unwrap();
    // What is shown is shown by one that listens.
    std::io::Read::read_exact(&mut shown, &mut [0]).unwrap();
    for signal in [Signal::INT, Signal::INT, Signal::INT] {
        send(&child, signal);
        until(&paths, "/containers/c1/kill");
    }
    assert!(is_forced(child));
}

#[test]
fn a_daemon_that_hangs_keeps_nobody() {
    let (daemon, paths) = stubborn("/containers/c1/kill");
    let child = spawn(&daemon, "run busybox x");
    until(&paths, "/containers/c1/start");
    send(&child, Signal::INT);
    until(&paths, "/containers/c1/kill");
    // Two of one number would be one.
    send(&child, Signal::TERM);
    send(&child, Signal::INT);
    assert!(is_forced(child));
}

#[test]
fn one_that_runs_already_is_attached_to() {
    let ended = Moment::default();
    let daemon = Daemon::start(move |request, connection| match request.path.as_str() {
        "/containers/c1/json" => connection.answer(200, ABOUT),
        "/containers/c1/attach" => {
            connection.upgrade();
            let input = connection.read_to_end();
            connection.frame(1, &input.to_ascii_uppercase());
            connection.close();
            ended.happened();
        }
        "/containers/c1/wait" => {
            connection.begin(200, "application/json");
            ended.wait();
            connection.chunk(b"{\"StatusCode\":6}");
            connection.send(b"0\r\n\r\n");
        }
        "/containers/c1/start" => connection.answer(304, ""),
        _ => connection.answer(404, r#"{"message":"page not found"}"#),
    });
    let finished = daemon.run_with("start -ai c1", b"more");
    assert_eq!(finished, Finished { code: Some(6), stdout: "MORE".to_owned(), stderr: String::new() });
}
