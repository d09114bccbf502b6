//! What is created on the host has one owner and is gone when the owner is, however often.
#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

use std::sync::atomic::{AtomicUsize, Ordering};

use support::client::Client;
use support::daemon::Daemon;

const CTL: Client = Client::Enginectl;

fn life(daemon: &Daemon, network: &str) {
    let run = ["run", "--rm", "--network", network, "-v", "/data", "busybox", "sh", "-c", "echo hello; exit 3"];
    let said = CTL.run(daemon, &run).code(3);
    assert_eq!(said.stdout, "hello\n", "{said:?}");
}

/// Lives before the first count: what is opened once and kept, such as the spawner, is no leak.
fn warmed_up() -> Daemon {
    let daemon = Daemon::with_busybox();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| life(&daemon, "bridge"));
        }
    });
    daemon.scene().assert_clean();
    daemon
}

/// The most descriptors of the state that an engine keeps: the writer and three idle readers hold two each and share one,
/// and SQLite keeps that of a connection which was closed while another had a lock, for the next one to use: at most as
/// many as there were readers at once.
const STATE_DESCRIPTORS: usize = 2 * 4 + 1 + 8;

/// How many are of the state, and how many are not.
fn count(descriptors: &[String]) -> (usize, usize) {
    let state = descriptors.iter().filter(|name| name.contains("/engine.db")).count();
    (state, descriptors.len() - state)
}

#[track_caller]
fn descriptors_stay(daemon: &Daemon, before: &[String]) {
    // A connection that was just closed may still be counted.
    let start = std::time::Instant::now();
    loop {
        let now = daemon.scene().descriptors();
        let ((_, others_before), (state, others)) = (count(before), count(&now));
        if others <= others_before + 2 && state <= STATE_DESCRIPTORS {
            return;
        }
        assert!(start.elapsed() < support::PATIENCE, "descriptors stay open:\n{before:#?}\nbecame\n{now:#?}");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

#[test]
fn three_hundred_in_a_row() {
    let daemon = warmed_up();
    let before = daemon.scene().descriptors();
    for _ in 0..300 {
        life(&daemon, "bridge");
    }
    descriptors_stay(&daemon, &before);
    daemon.finish();
}

#[test]
fn a_hundred_eight_at_a_time() {
    let daemon = warmed_up();
    let before = daemon.scene().descriptors();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while next.fetch_add(1, Ordering::Relaxed) < 100 {
                    life(&daemon, "bridge");
                }
            });
        }
    });
    descriptors_stay(&daemon, &before);
    daemon.finish();
}

#[test]
fn starts_that_fail_leave_nothing() {
    let daemon = warmed_up();
    let before = daemon.scene().descriptors();
    for _ in 0..20 {
        CTL.run(&daemon, &["run", "--rm", "busybox", "nope"]).code(127);
        CTL.run(&daemon, &["run", "--rm", "-u", "nobody-here", "busybox", "true"]);
        CTL.run(&daemon, &["run", "--rm", "--mount", "type=bind,src=/no/where,dst=/x", "busybox", "true"]).code(125);
    }
    assert_eq!(CTL.run(&daemon, &["ps", "-aq"]).ok(), "");
    descriptors_stay(&daemon, &before);
    daemon.finish();
}

#[test]
fn execs_and_log_readers_leave_nothing() {
    let daemon = warmed_up();
    CTL.run(&daemon, &["run", "-d", "--name", "one", "busybox", "sh", "-c", "echo hi; sleep 1000"]).ok();
    let exec = || CTL.run(&daemon, &["exec", "one", "true"]).code(0);
    exec();
    let before = daemon.scene().descriptors();
    for _ in 0..100 {
        exec();
        CTL.run(&daemon, &["logs", "one"]).ok();
    }
    descriptors_stay(&daemon, &before);
    CTL.run(&daemon, &["rm", "-f", "one"]).ok();
    daemon.finish();
}
