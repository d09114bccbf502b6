//! Further processes in a running container.

use std::io::Write;
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use engine_runtime::protocol::{Attach, Event, Reason, Refusal, Request};
use engine_sys::memfd;

use crate::place::{Container, PATIENCE, Place, Wish, eventually, exec_plan, is_gone, raw, read_all, read_until};

fn sleeper(place: &Place) -> Container<'_> {
    place.launch(&Wish { arguments: &["sleep", "1000"], ..Wish::default() }).unwrap()
}

fn exec(container: &Container<'_>, id: u64, wish: &Wish<'_>, attach: Option<Attach<'_>>) -> Option<UnixStream> {
    let plan: OwnedFd = memfd::sealed("plan", exec_plan(wish).as_bytes(), memfd::Use::Read).unwrap();
    let Some(attach) = attach else {
        container.events.send(&Request::Exec { id }, &[plan.as_fd(), container.process.as_fd()]);
        return None;
    };
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = Request::ExecAttached { id, attach };
    container.events.send(&request, &[theirs.as_fd(), plan.as_fd(), container.process.as_fd()]);
    Some(ours)
}

fn code(container: &mut Container<'_>, wanted: u64) -> i32 {
    container
        .events
        .wait_for(|event| match event {
            Event::ExecExited { id, code } if *id == wanted => Some(*code),
            Event::ExecFailed { id, failure } if *id == wanted => panic!("{failure:?}"),
            _ => None,
        })
        .0
}

fn to(client: u64, process: u64) -> Attach<'static> {
    Attach { process, stdin_once: true, ..raw(client) }
}

#[test]
fn a_further_process_runs_beside_init() {
    let place = Place::new();
    let mut container = sleeper(&place);
    let wish = Wish {
        arguments: &["sh", "-c", "cat; hostname; id -u; ls /; exit 7"],
        stdin: Some(true),
        user: Some("build"),
        ..Wish::default()
    };
    let mut client = exec(&container, 1, &wish, Some(to(1, 1))).unwrap();
    let (pid, descriptors) = container.events.wait_for(|event| match event {
        Event::ExecStarted { id: 1, pid } => Some(*pid),
        _ => None,
    });
    assert_eq!(descriptors.len(), 1);
    assert_eq!(crate::place::parent_of(pid), container.monitor_pid());
    let namespaces = |pid: u32| {
        ["pid", "mnt", "uts", "ipc"].map(|kind| std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap())
    };
    assert_eq!(namespaces(pid), namespaces(container.pid));
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    assert_eq!(open, 3, "no descriptor of the host came along");
    client.write_all(b"typed\n").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&client), "typed\nbox\n1001\nbin\ndev\netc\nhome\nproc\nroot\nsys\ntmp\n");
    assert_eq!(code(&mut container, 1), 7);
    assert!(!is_gone(container.pid));
}

#[test]
fn a_further_process_has_its_own_terminal() {
    let place = Place::new();
    let mut container = sleeper(&place);
    let wish = Wish {
        arguments: &["sh", "-c", "tty; stty size; read a; echo got $a"],
        stdin: Some(true),
        terminal: true,
        ..Wish::default()
    };
    let mut client = exec(&container, 3, &wish, Some(to(1, 3))).unwrap();
    client.write_all(b"x\n").unwrap();
    let text = read_until(&client, "got x\r\n");
    assert!(text.contains("/dev/pts/0\r\n") && text.contains("33 77\r\n"), "{text:?}");
    assert_eq!(code(&mut container, 3), 0);
}

#[test]
fn what_cannot_be_started_is_told_and_the_client_let_go() {
    let place = Place::new();
    let mut container = sleeper(&place);
    for (id, argument, user, reason) in [
        (1, "nope", None, Reason::NotInPath),
        (2, "/bin", None, Reason::IsDirectory),
        (3, "true", Some("nobody"), Reason::NoSuchUser),
    ] {
        let client =
            exec(&container, id, &Wish { arguments: &[argument], user, ..Wish::default() }, Some(to(id, id))).unwrap();
        let (failure, _) = container.events.wait_for(|event| match event {
            Event::ExecFailed { id: failed, failure } if *failed == id => Some(*failure),
            _ => None,
        });
        assert_eq!(failure.reason, reason);
        assert_eq!(read_all(&client), "");
    }
    exec(&container, 1, &Wish { arguments: &["true"], ..Wish::default() }, None);
    assert_eq!(code(&mut container, 1), 0);
}

#[test]
fn many_run_at_once_and_none_is_left() {
    let place = Place::new();
    let mut container = sleeper(&place);
    let monitor = container.monitor_pid();
    let open = || std::fs::read_dir(format!("/proc/{monitor}/fd")).unwrap().count();
    let before = open();
    let mut clients = Vec::new();
    for id in 1..=60 {
        let command = format!("echo {id}; exit {}", id % 50);
        clients.push(
            exec(&container, id, &Wish { arguments: &["sh", "-c", &command], ..Wish::default() }, Some(to(id, id)))
                .unwrap(),
        );
    }
    for (id, client) in (1..).zip(&clients) {
        assert_eq!(read_all(client), format!("{id}\n"));
        assert_eq!(u64::try_from(code(&mut container, id)).unwrap(), id % 50);
    }
    eventually("everything is closed", || open() == before);
    let children = std::fs::read_to_string(format!("/proc/{monitor}/task/{monitor}/children")).unwrap();
    assert_eq!(children.trim(), container.pid.to_string());
}

#[test]
fn more_than_a_thousand_run_at_once() {
    let place = Place::new();
    let mut container = sleeper(&place);
    // Half of them with somebody who listens; each with the limit of files that containers have, not the monitor's.
    let soft = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(0);
    let mut clients = Vec::new();
    let script = "ulimit -n; read line; echo over";
    for id in 1..=1100 {
        let quiet = Wish { arguments: &["sleep", "1000"], ..Wish::default() };
        let wish = Wish { arguments: &["sh", "-c", script], stdin: Some(true), ..Wish::default() };
        match id % 2 {
            0 => clients.push(exec(&container, id, &wish, Some(to(id, id))).unwrap()),
            _ => assert!(exec(&container, id, &quiet, None).is_none()),
        }
        container.events.wait_for(|event| match event {
            Event::ExecStarted { id: started, .. } if *started == id => Some(()),
            Event::ExecFailed { id: failed, failure } if *failed == id => panic!("{id}: {failure:?}"),
            _ => None,
        });
    }
    for (id, client) in (2..).step_by(2).zip(&mut clients) {
        client.write_all(b"\n").unwrap();
        assert_eq!(read_all(client), format!("{soft}\nover\n"));
        assert_eq!(code(&mut container, id), 0);
    }
    container.events.send(&Request::Signal { process: 1, signal: 15 }, &[]);
    assert_eq!(code(&mut container, 1), 143);
    // The others end all at once, and the engine is told of each.
    engine_sys::process::signal(&container.process, 9).unwrap();
    for id in (3..=1100).step_by(2) {
        assert_eq!(code(&mut container, id), 137);
    }
    assert_eq!(container.exit(), 137);
}

#[test]
fn execs_end_with_init_and_can_be_signalled() {
    let place = Place::new();
    let mut container = sleeper(&place);
    let wish = Wish { arguments: &["sleep", "1000"], ..Wish::default() };
    for id in [1, 2] {
        exec(&container, id, &wish, None);
        container
            .events
            .wait_for(|event| matches!(event, Event::ExecStarted { id: started, .. } if *started == id).then_some(()));
    }
    exec(&container, 2, &wish, None);
    assert_eq!(container.events.refusal(), Refusal::Taken);
    container.events.send(&Request::Signal { process: 1, signal: 15 }, &[]);
    assert_eq!(code(&mut container, 1), 143);
    engine_sys::process::signal(&container.process, 9).unwrap();
    assert_eq!(code(&mut container, 2), 137);
    assert_eq!(container.exit(), 137);
}

#[test]
fn what_an_exec_leaves_behind_does_not_hold_its_end_up() {
    let place = Place::new();
    let mut container = sleeper(&place);
    let wish = Wish { arguments: &["sh", "-c", "echo said; sleep 1000 & exit 2"], ..Wish::default() };
    let client = exec(&container, 1, &wish, Some(to(1, 1))).unwrap();
    assert_eq!(read_all(&client), "said\n");
    assert_eq!(code(&mut container, 1), 2);
}
