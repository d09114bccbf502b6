//! Clients of a container's streams.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use engine_runtime::protocol::plan::Op;
use engine_runtime::protocol::{Attach, Event, INIT, Refusal, Request};

use crate::place::{Place, Wish, eventually, raw, read_all, read_until};

fn detached(container: &mut crate::place::Container<'_>, wanted: u64) -> bool {
    container
        .events
        .wait_for(|event| match event {
            Event::Detached { client, by_keys, .. } if *client == wanted => Some(*by_keys),
            _ => None,
        })
        .0
}

#[test]
fn input_goes_in_and_output_comes_out_until_both_end() {
    let place = Place::new();
    let wish = Wish {
        arguments: &["sh", "-c", "cat; echo end >&2; exit 4"],
        stdin: Some(true),
        wait: true,
        log: Some((0, 1)),
        ..Wish::default()
    };
    let mut container = place.launch(&wish).unwrap();
    let mut client = container.attach(&Attach { stdin_once: true, preface: b"pre", ..raw(1) });
    container.start();
    client.write_all(b"face\nsecond\n").unwrap();
    assert_eq!(read_until(&client, "second\n"), "preface\nsecond\n");
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&client), "end\n", "output goes on after the half-close");
    assert!(!detached(&mut container, 1));
    assert_eq!(container.exit(), 4);
    assert_eq!(place.logged("stdout"), "preface\nsecond\n");
}

#[test]
fn output_is_framed_when_asked_for() {
    let place = Place::new();
    let wish = Wish { arguments: &["sh", "-c", "echo out; echo err >&2"], wait: true, ..Wish::default() };
    let mut container = place.launch(&wish).unwrap();
    let mut all = container.attach(&Attach { framed: true, ..raw(1) });
    let mut errors = container.attach(&Attach { framed: true, stdout: false, ..raw(2) });
    container.start();
    assert_eq!(container.exit(), 0);
    let mut bytes = Vec::new();
    errors.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, b"\x02\0\0\0\0\0\0\x04err\n");
    bytes.clear();
    all.read_to_end(&mut bytes).unwrap();
    let (out, err) = (&b"\x01\0\0\0\0\0\0\x04out\n"[..], &b"\x02\0\0\0\0\0\0\x04err\n"[..]);
    assert!(bytes == [out, err].concat() || bytes == [err, out].concat());
}

#[test]
fn an_end_of_input_without_once_detaches_and_the_container_goes_on() {
    let place = Place::new();
    let wish = Wish {
        arguments: &["sh", "-c", "read a; read b; echo $a $b"],
        stdin: Some(false),
        log: Some((0, 1)),
        ..Wish::default()
    };
    let mut container = place.launch(&wish).unwrap();
    let mut first = container.attach(&raw(1));
    first.write_all(b"one\n").unwrap();
    first.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&first), "");
    assert!(!detached(&mut container, 1));
    let mut second = container.attach(&raw(2));
    second.write_all(b"two\n").unwrap();
    assert_eq!(read_all(&second), "one two\n");
    assert_eq!(container.exit(), 0);
}

#[test]
fn a_slow_client_slows_the_container_and_loses_nothing() {
    let place = Place::new();
    let wish = Wish { arguments: &["seq", "200000"], wait: true, log: Some((0, 1)), ..Wish::default() };
    let mut container = place.launch(&wish).unwrap();
    let client = container.attach(&raw(1));
    container.start();
    std::thread::sleep(Duration::from_millis(300));
    container.events.send(&Request::Status {}, &[]);
    container.events.wait_for(|event| matches!(event, Event::Status { clients: 1, .. }).then_some(()));
    let behind = place.log().len();
    let text = read_all(&client);
    assert!(text.lines().eq((1..=200_000).map(|number| number.to_string())));
    assert_eq!(container.exit(), 0);
    assert!(place.log().len() > behind, "the container was held up");
}

#[test]
fn a_client_that_vanishes_is_dropped() {
    let place = Place::new();
    let wish = Wish { arguments: &["sh", "-c", "seq 100000; exit 6"], wait: true, ..Wish::default() };
    let mut container = place.launch(&wish).unwrap();
    let client = container.attach(&raw(1));
    let other = container.attach(&Attach { stdin: false, ..raw(2) });
    container.start();
    drop(client);
    assert!(!detached(&mut container, 1));
    assert_eq!(read_all(&other).lines().count(), 100_000);
    assert_eq!(container.exit(), 6);
}

#[test]
fn a_process_that_does_not_read_holds_its_client_up() {
    let place = Place::new();
    let wish = Wish { arguments: &["sh", "-c", "sleep 0.3; wc -c"], stdin: Some(true), ..Wish::default() };
    let mut container = place.launch(&wish).unwrap();
    let mut client = container.attach(&Attach { stdin_once: true, ..raw(1) });
    let sender = client.try_clone().unwrap();
    let writer = std::thread::spawn(move || {
        let mut sender = sender;
        sender.write_all(&vec![b'x'; 3 << 20]).unwrap();
        // Everything that was sent before a full close arrives.
        sender.shutdown(Shutdown::Write).unwrap();
    });
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    writer.join().unwrap();
    assert_eq!(text, format!("{}\n", 3 << 20));
    assert_eq!(container.exit(), 0);
}

#[test]
fn what_was_sent_before_a_full_close_arrives() {
    let place = Place::new();
    let wish =
        Wish { arguments: &["sh", "-c", "sleep 0.2; cat"], stdin: Some(true), log: Some((0, 1)), ..Wish::default() };
    let mut container = place.launch(&wish).unwrap();
    let mut client = container.attach(&Attach { stdin_once: true, ..raw(1) });
    client.write_all(&[b'x'; 100_000]).unwrap();
    drop(client);
    assert_eq!(container.exit(), 0);
    assert_eq!(place.logged("stdout").len(), 100_000);
}

#[test]
fn a_terminal_has_a_size_and_can_be_detached_from() {
    let place = Place::new();
    let command = "tty; stty size; read a; stty size; echo got $a; read b; echo got $b";
    let wish = Wish {
        arguments: &["sh", "-c", command],
        stdin: Some(true),
        terminal: true,
        wait: true,
        log: Some((0, 1)),
        ..Wish::default()
    };
    let mut container = place.launch(&wish).unwrap();
    let keys = Attach { detach_keys: b"\x10\x11", stdin_once: true, ..raw(1) };
    let mut client = container.attach(&keys);
    container.start();
    assert_eq!(read_until(&client, "33 77\r\n"), "/dev/pts/0\r\n33 77\r\n");
    container.events.send(&Request::Resize { process: INIT, rows: 40, columns: 100 }, &[]);
    client.write_all(b"one\n").unwrap();
    let text = read_until(&client, "got one\r\n");
    assert!(text.contains("40 100\r\n"), "{text:?}");
    client.write_all(b"\x10").unwrap();
    client.write_all(b"\x11ignored").unwrap();
    assert_eq!(read_all(&client), "");
    assert!(detached(&mut container, 1));
    let mut again = container.attach(&Attach { client: 2, ..keys });
    again.write_all(b"two\n").unwrap();
    read_until(&again, "got two\r\n");
    assert_eq!(container.exit(), 0);
    assert!(place.logged("stdout").contains("got two\r\n"));
}

#[test]
fn the_console_is_the_terminal() {
    let place = Place::new();
    let wish = Wish {
        arguments: &["sh", "-c", "echo console >/dev/console; echo own >/dev/tty; id -u"],
        terminal: true,
        user: Some("build"),
        before_pivot: vec![Op::MakeNode { path: c"dev/tty", mode: 0o20666, major: 5, minor: 0, uid: 0, gid: 0 }],
        log: Some((0, 1)),
        ..Wish::default()
    };
    let mut container = place.launch(&wish).unwrap();
    assert_eq!(container.exit(), 0);
    assert_eq!(place.logged("stdout"), "console\r\nown\r\n1001\r\n");
}

#[test]
fn nothing_is_missing_or_twice_between_the_log_and_a_client() {
    let place = Place::new();
    let command = "echo first; printf beg; read a; echo un";
    let wish =
        Wish { arguments: &["sh", "-c", command], stdin: Some(true), wait: true, log: Some((0, 1)), ..Wish::default() };
    let mut container = place.launch(&wish).unwrap();
    let witness = container.attach(&Attach { stdin: false, ..raw(1) });
    container.start();
    read_until(&witness, "beg");
    let (mut client, theirs) = UnixStream::pair().unwrap();
    let attach = Attach { stdin_once: true, ..raw(2) };
    container.events.send(&Request::AttachAfterLog { attach }, &[theirs.as_fd()]);
    drop(theirs);
    let (position, _) = container.events.wait_for(|event| match event {
        Event::Attached { client: 2, log_position, log_file_start: 0 } => Some(*log_position),
        _ => None,
    });
    assert_eq!(position, place.log().len() as u64);
    assert_eq!(place.logged("stdout"), "first\n");
    client.write_all(b"\n").unwrap();
    assert_eq!(read_all(&client), "begun\n");
    assert_eq!(container.exit(), 0);
}

#[test]
fn a_terminal_may_be_closed_by_everybody_and_opened_again() {
    let place = Place::new();
    let command = "exec >/tmp/file 2>&1 </dev/null; sleep 0.2; echo again >/dev/console; exit 8";
    let wish = Wish { arguments: &["sh", "-c", command], terminal: true, log: Some((0, 1)), ..Wish::default() };
    let mut container = place.launch(&wish).unwrap();
    assert_eq!(container.exit(), 8);
    assert_eq!(place.logged("stdout"), "again\r\n");
}

#[test]
fn nonsense_is_refused() {
    let place = Place::new();
    let mut container = place.launch(&Wish { arguments: &["sleep", "1000"], ..Wish::default() }).unwrap();
    let (ours, theirs) = UnixStream::pair().unwrap();
    container.events.send(&Request::Attach { attach: raw(1) }, &[]);
    assert_eq!(container.events.refusal(), Refusal::Malformed);
    container.events.send(&Request::Attach { attach: Attach { process: 7, ..raw(1) } }, &[theirs.as_fd()]);
    assert_eq!(container.events.refusal(), Refusal::NoProcess);
    container.events.send(&Request::Resize { process: INIT, rows: 1, columns: 1 }, &[]);
    assert_eq!(container.events.refusal(), Refusal::NotPossible);
    container.events.send(&Request::Start {}, &[]);
    assert_eq!(container.events.refusal(), Refusal::NotPossible);
    container.events.send(&Request::ReopenLog {}, &[]);
    assert_eq!(container.events.refusal(), Refusal::NotPossible);
    container.events.send(&Request::Signal { process: INIT, signal: 99 }, &[]);
    assert_eq!(container.events.refusal(), Refusal::NotPossible);
    engine_sys::socket::send(container.events.monitor.as_fd(), b"nonsense", &[theirs.as_fd()], false).unwrap();
    assert_eq!(container.events.refusal(), Refusal::Malformed);
    let _client = container.attach(&raw(5));
    container.events.send(&Request::Attach { attach: raw(5) }, &[theirs.as_fd()]);
    assert_eq!(container.events.refusal(), Refusal::Taken);
    drop((ours, theirs));
    let monitor = container.monitor_pid();
    let descriptors = || std::fs::read_dir(format!("/proc/{monitor}/fd")).map_or(0, Iterator::count);
    eventually("refused descriptors are closed", || descriptors() <= 13);
    container.events.send(&Request::Signal { process: INIT, signal: 9 }, &[]);
    assert_eq!(container.exit(), 137);
}
