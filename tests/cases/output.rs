//! What containers said, afterwards and while they speak.

use crate::support::client::Client;
use crate::support::daemon::Daemon;

pub fn logs_are_kept(client: Client) {
    let daemon = Daemon::with_busybox();
    let script = "for i in $(seq 1 1000); do echo line $i; done; sleep 0.3; echo problem >&2";
    client.run(&daemon, &["run", "--name", "one", "busybox", "sh", "-c", script]).code(0);
    let said = client.run(&daemon, &["logs", "one"]).code(0);
    let expected: String = (1..=1000).map(|number| format!("line {number}\n")).collect();
    assert!(said.stdout == expected && said.stderr == "problem\n", "{} lines", said.stdout.lines().count());
    let said = client.run(&daemon, &["logs", "--tail", "3", "one"]).code(0);
    assert_eq!((said.stdout.as_str(), said.stderr.as_str()), ("line 999\nline 1000\n", "problem\n"));
    let said = client.run(&daemon, &["logs", "-t", "--tail", "1", "one"]).code(0);
    let (time, text) = said.stderr.split_once(' ').unwrap();
    assert!(
        time.len() == "2024-01-02T03:04:05.000000000Z".len() && time.ends_with('Z') && text == "problem\n",
        "{time}"
    );
    client.run(&daemon, &["rm", "one"]).ok();
    let said = client.run(&daemon, &["run", "--log-driver", "none", "--name", "two", "busybox", "echo", "heard"]).ok();
    assert_eq!(said, "heard");
    let said = client.run(&daemon, &["logs", "two"]).code(1);
    assert!(said.stderr.contains("does not support reading"), "{said:?}");
    client.run(&daemon, &["rm", "two"]).ok();
    daemon.finish();
}

pub fn logs_follow_to_the_end(client: Client) {
    let daemon = Daemon::with_busybox();
    let script = "for i in $(seq 1 200); do echo line $i; [ $((i % 20)) = 0 ] && sleep 0.01; done";
    client.run(&daemon, &["run", "-d", "--name", "one", "busybox", "sh", "-c", script]).ok();
    let expected: String = (1..=200).map(|number| format!("line {number}\n")).collect();
    assert_eq!(client.run(&daemon, &["logs", "-f", "one"]).code(0).stdout, expected);
    client.run(&daemon, &["wait", "one"]).ok();
    assert_eq!(client.run(&daemon, &["logs", "-f", "one"]).code(0).stdout, expected);
    client.run(&daemon, &["rm", "one"]).ok();
    daemon.finish();
}

pub fn long_lines_and_no_newline(client: Client) {
    let daemon = Daemon::with_busybox();
    let script = "head -c 100000 /dev/zero | tr '\\0' x; echo; printf 'no end'";
    let said = client.run(&daemon, &["run", "--name", "one", "busybox", "sh", "-c", script]).code(0);
    let expected = format!("{}\nno end", "x".repeat(100_000));
    assert!(said.stdout == expected, "{} bytes", said.stdout.len());
    let said = client.run(&daemon, &["logs", "one"]).code(0);
    assert!(said.stdout == expected, "{} bytes", said.stdout.len());
    client.run(&daemon, &["rm", "one"]).ok();
    daemon.finish();
}
