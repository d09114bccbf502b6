//! The daemon may die at any instruction: containers, their output and their exit codes do not suffer, and nothing leaks.
#![allow(clippy::unwrap_used)]

mod disks;
mod images;
mod networks;
mod power;
#[path = "../support/mod.rs"]
mod support;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::client::Client;
use support::daemon::Daemon;
use support::eventually;

const CTL: Client = Client::Enginectl;
const LINES: usize = 100_000;

fn start(daemon: &Daemon, name: &str, options: &[&str], script: &str) {
    let all = [&["run", "-d", "--name", name], options, &["busybox", "sh", "-c", script]].concat();
    CTL.run(daemon, &all).ok();
}

fn field(daemon: &Daemon, name: &str, template: &str) -> String {
    CTL.run(daemon, &["inspect", "-f", template, name]).ok()
}

fn expected_lines() -> String {
    (1..=LINES).map(|number| format!("{number}\n")).collect()
}

/// Whether it has ended; the machine's first process may take its time to reap it.
fn process_is_gone(pid: &str) -> bool {
    let status = std::fs::read_to_string(std::path::Path::new("/proc").join(pid).join("status"));
    status.map_or(true, |status| status.contains("State:\tZ"))
}

#[test]
fn output_and_exit_codes_survive() {
    let mut daemon = Daemon::with_busybox();
    start(&daemon, "writer", &[], &format!("seq 1 {}; sleep 0.3; seq {} {LINES}", LINES / 2, LINES / 2 + 1));
    start(&daemon, "ender", &[], "sleep 0.2; exit 7");
    // Created and not run detached, so that its input ends with that of the first client.
    let speaks = "while read word; do echo \"got $word\"; done; exit 3";
    CTL.run(&daemon, &["create", "-i", "--name", "speaker", "busybox", "sh", "-c", speaks]).ok();
    CTL.run(&daemon, &["start", "speaker"]).ok();
    start(&daemon, "passing", &["--rm"], "sleep 0.2");
    let ender = field(&daemon, "ender", "{{.State.Pid}}");
    let passing = field(&daemon, "passing", "{{.State.Pid}}");
    daemon.kill();
    eventually("they end without a daemon", || (process_is_gone(&ender) && process_is_gone(&passing)).then_some(()));
    daemon.begin();

    assert_eq!(field(&daemon, "ender", "{{.State.Status}} {{.State.ExitCode}}"), "exited 7");
    assert_eq!(CTL.run(&daemon, &["wait", "writer"]).ok(), "0");
    let logs = CTL.run(&daemon, &["logs", "writer"]).code(0).stdout;
    assert!(logs == expected_lines(), "{} of {LINES} lines", logs.lines().count());
    assert_eq!(field(&daemon, "speaker", "{{.State.Status}}"), "running");
    assert_eq!(CTL.run(&daemon, &["exec", "speaker", "echo", "still here"]).ok(), "still here");
    let said = CTL.run_with(&daemon, &["attach", "speaker"], b"word\n").code(3);
    assert_eq!(said.stdout, "got word\n");
    let gone = CTL.run(&daemon, &["inspect", "passing"]);
    assert_eq!(gone.code, 1, "a container that asked to be removed is there: {gone:?}");
    CTL.run(&daemon, &["rm", "writer", "ender", "speaker"]).ok();
    daemon.finish();
}

#[test]
fn an_attached_client_hears_everything_though_the_daemon_is_gone() {
    let mut daemon = Daemon::with_busybox();
    CTL.run(&daemon, &["create", "--name", "writer", "-t", "busybox", "sh", "-c", &format!("seq 1 {LINES}")]).ok();
    let mut stream = UnixStream::connect(daemon.socket()).unwrap();
    let request = "POST /containers/writer/attach?stream=1&stdout=1&stderr=1 HTTP/1.1\r\nHost: engine\r\nConnection: Upgrade\r\n\
                   Upgrade: tcp\r\nContent-Length: 0\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
    CTL.run(&daemon, &["start", "writer"]).ok();
    // Nothing is read yet, so the container stands against a full socket when the daemon dies.
    daemon.kill();
    let mut heard = String::new();
    stream.read_to_string(&mut heard).unwrap();
    assert!(heard.replace("\r\n", "\n") == expected_lines(), "{} of {LINES} lines", heard.lines().count());
    daemon.begin();
    assert_eq!(CTL.run(&daemon, &["wait", "writer"]).ok(), "0");
    CTL.run(&daemon, &["rm", "writer"]).ok();
    daemon.finish();
}

#[test]
fn killed_at_any_moment_nothing_is_half_there() {
    let mut daemon = Daemon::with_busybox();
    let mut moment = 0x2545_f491_u32;
    for round in 0..40 {
        let mut client = CTL.command(&daemon, &["run", "--rm", "-v", "data:/data", "busybox", "sh", "-c", "exit 0"]);
        let mut client = client.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        moment ^= moment << 13;
        moment ^= moment >> 17;
        moment ^= moment << 5;
        std::thread::sleep(Duration::from_micros(u64::from(moment % 60_000)));
        daemon.kill();
        client.kill().unwrap();
        client.wait().unwrap();
        daemon.begin();
        if round % 10 == 9 {
            assert_eq!(CTL.run(&daemon, &["run", "--rm", "busybox", "echo", "well"]).ok(), "well");
        }
    }
    // One that was created, or never started, may be there; it can be removed.
    for id in CTL.run(&daemon, &["ps", "-aq"]).ok().lines() {
        CTL.run(&daemon, &["rm", "-f", id]).ok();
    }
    CTL.run(&daemon, &["volume", "prune", "-af"]).ok();
    assert_eq!(CTL.run(&daemon, &["volume", "ls", "-q"]).ok(), "");
    daemon.finish();
}

#[test]
fn a_killed_monitor_ends_its_container_only() {
    let daemon = Daemon::with_busybox();
    start(&daemon, "one", &[], "sleep 1000");
    start(&daemon, "two", &[], "sleep 1000");
    let pid = field(&daemon, "one", "{{.State.Pid}}");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let monitor = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim().parse().unwrap();
    kill(Pid::from_raw(monitor), Signal::SIGKILL).unwrap();
    eventually("the container is found dead", || {
        let status = field(&daemon, "one", "{{.State.Status}}");
        (status == "exited" || status == "dead").then_some(())
    });
    assert_ne!(field(&daemon, "one", "{{.State.ExitCode}}"), "0");
    eventually("its process is gone", || process_is_gone(&pid).then_some(()));
    assert_eq!(CTL.run(&daemon, &["exec", "two", "echo", "well"]).ok(), "well");
    CTL.run(&daemon, &["rm", "-f", "one", "two"]).ok();
    daemon.finish();
}

#[test]
fn a_clean_end_leaves_containers_running() {
    let mut daemon = Daemon::with_busybox();
    start(&daemon, "one", &[], "sleep 1000");
    let pid = field(&daemon, "one", "{{.State.Pid}}");
    daemon.stop();
    assert!(!process_is_gone(&pid));
    daemon.begin();
    assert_eq!(field(&daemon, "one", "{{.State.Status}} {{.State.Pid}}"), format!("running {pid}"));
    CTL.run(&daemon, &["rm", "-f", "one"]).ok();
    daemon.finish();
}

/// What a container has on networks, seen from three sides: itself, its inspect, and the networks' inspect.
fn assert_networks_agree(daemon: &Daemon, name: &str, networks: &[&str]) -> usize {
    let listed = field(daemon, name, "{{range $n, $_ := .NetworkSettings.Networks}}{{$n}} {{end}}");
    let links = CTL.run(daemon, &["exec", name, "ls", "/sys/class/net"]).ok();
    let links = links.split_whitespace().filter(|link| link.starts_with("eth")).count();
    let members = networks.iter().filter(|network| {
        let format = "{{range .Containers}}{{.Name}} {{end}}";
        CTL.run(daemon, &["network", "inspect", "-f", format, network]).ok().split(' ').any(|member| member == name)
    });
    let (listed, members) = (listed.split_whitespace().count(), members.count());
    assert_eq!(
        (listed, members),
        (links, links),
        "in inspect and on the networks, against what it has:\n{}",
        daemon.log()
    );
    links
}

#[test]
fn networks_agree_after_a_kill_at_any_step_of_connecting() {
    let mut daemon = Daemon::with_busybox();
    let networks = ["one", "two"];
    for network in networks {
        CTL.run(&daemon, &["network", "create", network]).ok();
    }
    start(&daemon, "con", &["--network", "one", "-p", "7777:80"], "sleep 1000");
    for round in 0..8 {
        // To and fro, killed a little later each time.
        let connects = assert_networks_agree(&daemon, "con", &networks) == 1;
        let action = if connects { "connect" } else { "disconnect" };
        let mut command = CTL.command(&daemon, &["network", action, "two", "con"]);
        let mut client = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(2 + 6 * round));
        daemon.kill();
        client.wait().unwrap();
        daemon.begin();
    }
    assert_networks_agree(&daemon, "con", &networks);
    // A start with a port, likewise: afterwards the port is free for the next.
    for round in 0..3 {
        let run = ["run", "-d", "--name", "pub", "--network", "two", "-p", "8888:80", "busybox", "sleep", "1000"];
        let mut command = CTL.command(&daemon, &run);
        let mut client = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(10 + 15 * round));
        daemon.kill();
        client.wait().unwrap();
        daemon.begin();
        CTL.run(&daemon, &["rm", "-f", "pub"]);
        CTL.run(&daemon, &run).ok();
        CTL.run(&daemon, &["rm", "-f", "pub"]).ok();
    }
    CTL.run(&daemon, &["rm", "-f", "con"]).ok();
    CTL.run(&daemon, &["network", "rm", "one", "two"]).ok();
    daemon.finish();
}
