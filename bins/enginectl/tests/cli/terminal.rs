//! The user's terminal is as it was, however the client ends.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use super::daemon::{Daemon, Moment};

struct Terminal {
    keyboard: File,
    line: File,
}

impl Terminal {
    fn new() -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let line = File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
        tcsetwinsize(&line, Winsize { ws_row: 33, ws_col: 101, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        Self { keyboard: File::from(master), line }
    }

    fn spawn(&self, command: &mut Command) -> Child {
        command
            .stdin(self.line.try_clone().unwrap())
            .stdout(self.line.try_clone().unwrap())
            .stderr(self.line.try_clone().unwrap())
            .spawn()
            .unwrap()
    }

    fn echoes(&self) -> bool {
        tcgetattr(&self.line).unwrap().local_modes.contains(LocalModes::ECHO)
    }

    fn until_raw(&self) {
        let begin = Instant::now();
        while self.echoes() {
            assert!(begin.elapsed() < Duration::from_secs(30), "the terminal never became raw");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn read(&mut self) -> String {
        let mut buffer = [0; 4096];
        let count = self.keyboard.read(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..count]).into_owned()
    }

    /// All that was written, once nobody else has the terminal; the kernel may hand it over in pieces.
    fn read_to_end(mut self) -> String {
        drop(self.line);
        let mut all = Vec::new();
        // A terminal that nobody has any more is an error to read.
        let _ = self.keyboard.read_to_end(&mut all);
        String::from_utf8_lossy(&all).into_owned()
    }
}

/// A container with a terminal that shows what is typed, in brackets, until it is told to end.
fn container(end: Moment) -> Daemon {
    Daemon::start(move |request, connection| match request.path.as_str() {
        "/containers/create" => connection.answer(201, r#"{"Id":"c1"}"#),
        "/containers/c1/exec" => connection.answer(201, r#"{"Id":"e1"}"#),
        "/containers/c1/attach" | "/exec/e1/start" => {
            connection.upgrade();
            connection.send(b"# ");
            let input = connection.read_to_end();
            connection.send(&input);
            connection.close();
        }
        "/containers/c1/wait" => {
            connection.begin(200, "application/json");
            end.wait();
            connection.chunk(b"{\"StatusCode\":4}");
            connection.send(b"0\r\n\r\n");
        }
        _ => connection.answer(204, ""),
    })
}

#[test]
fn the_detach_keys_leave_it_running() {
    let daemon = container(Moment::default());
    let mut terminal = Terminal::new();
    let mut child = terminal.spawn(&mut daemon.command("run -it busybox sh"));
    terminal.until_raw();
    assert_eq!(terminal.read(), "# ");
    terminal.keyboard.write_all(b"\x10\x11").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(terminal.echoes());
    daemon.request("/containers/create", |request| {
        assert_eq!(request.json()["HostConfig"]["ConsoleSize"], serde_json::json!([33, 101]));
        assert_eq!(request.json()["Tty"], true);
    });
    assert!(!daemon.asked().iter().any(|asked| asked.ends_with("/resize")), "the size was told at creation");
}

#[test]
fn a_signal_restores_the_terminal() {
    let daemon = container(Moment::default());
    let terminal = Terminal::new();
    let mut child = terminal.spawn(&mut daemon.command("exec -it c1 sh"));
    terminal.until_raw();
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(143));
    assert!(terminal.echoes());
}

#[test]
fn a_broken_connection_restores_the_terminal() {
    let end = Moment::default();
    let ended = end.clone();
    let daemon = Daemon::start(move |request, connection| match request.path.as_str() {
        "/containers/create" => connection.answer(201, r#"{"Id":"c1"}"#),
        "/containers/c1/attach" => {
            connection.upgrade();
            ended.wait();
            connection.close();
        }
        "/containers/c1/wait" => {
            connection.begin(200, "application/json");
            ended.wait();
            connection.chunk(b"{\"StatusCode\":4}");
            connection.send(b"0\r\n\r\n");
        }
        _ => connection.answer(204, ""),
    });
    let terminal = Terminal::new();
    let mut child = terminal.spawn(&mut daemon.command("run -it busybox sh"));
    terminal.until_raw();
    end.happened();
    assert_eq!(child.wait().unwrap().code(), Some(4));
    assert!(terminal.echoes());
}

#[test]
fn a_change_of_the_window_is_told() {
    let resized = Moment::default();
    let (told, started) = (resized.clone(), Moment::default());
    let running = started.clone();
    let daemon = Daemon::start(move |request, connection| match request.path.as_str() {
        "/containers/create" => connection.answer(201, r#"{"Id":"c1"}"#),
        "/containers/c1/attach" => {
            connection.upgrade();
            told.wait();
            connection.close();
        }
        "/containers/c1/wait" => {
            connection.begin(200, "application/json");
            told.wait();
            connection.chunk(b"{\"StatusCode\":0}");
            connection.send(b"0\r\n\r\n");
        }
        "/containers/c1/resize" => {
            connection.answer(200, "");
            told.happened();
        }
        _ => {
            connection.answer(204, "");
            started.happened();
        }
    });
    let terminal = Terminal::new();
    let mut child = terminal.spawn(&mut daemon.command("run -it busybox sh"));
    running.wait();
    tcsetwinsize(&terminal.line, Winsize { ws_row: 50, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    // Without a controlling terminal the kernel sends none.
    kill_process(Pid::from_child(&child), Signal::WINCH).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    daemon.request("/containers/c1/resize", |request| assert_eq!(request.query, "h=50&w=120"));
    resized.wait();
}

#[test]
fn a_terminal_needs_a_terminal() {
    let finished = container(Moment::default()).run("run -it busybox sh");
    assert_eq!((finished.code, finished.stderr.as_str()), (Some(1), "the input device is not a TTY\n"));
}

#[test]
fn a_table_fits_the_terminal() {
    let daemon = Daemon::start(|_, connection| {
        let name = "n".repeat(200);
        connection.answer(
            200,
            &format!("[{{\"Id\":\"4c01\",\"Names\":[\"/{name}\"],\"Image\":\"busybox\",\"Command\":\"sh\"}}]"),
        );
    });
    let terminal = Terminal::new();
    let mut child = terminal.spawn(&mut daemon.command("ps"));
    assert!(child.wait().unwrap().success());
    let text = terminal.read_to_end();
    assert!(text.contains('…') && text.lines().all(|line| line.chars().count() <= 101), "{text}");
}

#[test]
fn a_near_name_is_suggested_to_people() {
    let daemon = Daemon::start(|request, connection| match request.path.as_str() {
        "/containers/json" => connection.answer(200, r#"[{"Id":"4c01","Names":["/web"]}]"#),
        _ => connection.answer(404, r#"{"message":"No such container: wbe"}"#),
    });
    let terminal = Terminal::new();
    let mut child = terminal.spawn(&mut daemon.command("stop wbe"));
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert_eq!(
        terminal.read_to_end(),
        "Error response from daemon: No such container: wbe\r\nDid you mean \"web\"?\r\n"
    );
    assert_eq!(daemon.run("stop wbe").stderr, "Error response from daemon: No such container: wbe\n");
}
