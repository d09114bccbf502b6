//! `exec`: more processes in a running container.

use crate::support::client::Client;
use crate::support::daemon::Daemon;

fn with_sleeper(client: Client) -> Daemon {
    let daemon = Daemon::with_busybox();
    client.run(&daemon, &["run", "-d", "--name", "one", "-e", "A=b", "-w", "/srv", "busybox", "sleep", "1000"]).ok();
    daemon
}

fn finish(client: Client, daemon: Daemon) {
    client.run(&daemon, &["rm", "-f", "one"]).ok();
    daemon.finish();
}

pub fn beside_the_first_process(client: Client) {
    let daemon = with_sleeper(client);
    let exec = |arguments: &[&str]| client.run(&daemon, &[&["exec"], arguments].concat());
    let said = exec(&["one", "sh", "-c", "echo $A; pwd; id -u; echo err >&2; hostname"]).code(0);
    let hostname = client.run(&daemon, &["inspect", "-f", "{{.Config.Hostname}}", "one"]).ok();
    assert_eq!((said.stdout, said.stderr.as_str()), (format!("b\n/srv\n0\n{hostname}\n"), "err\n"));
    assert_eq!(
        exec(&["-e", "A=c", "-w", "/tmp", "-u", "worker", "one", "sh", "-c", "echo $A; pwd; id -u; id -G"]).ok(),
        "c\n/tmp\n1000\n1001 1002"
    );
    // Same namespaces and cgroups, same privileges.
    let namespaces = "for n in pid net mnt ipc uts; do [ $(readlink /proc/self/ns/$n) = $(readlink /proc/1/ns/$n) ] || echo $n; done; \
                      cmp /proc/self/cgroup /proc/1/cgroup; \
                      [ \"$(grep Cap /proc/self/status)\" = \"$(grep Cap /proc/1/status)\" ] || echo capabilities";
    assert_eq!(exec(&["one", "sh", "-c", namespaces]).ok(), "");
    exec(&["-d", "one", "sh", "-c", "echo done > /tmp/done"]).ok();
    crate::support::eventually("the detached one ran", || {
        exec(&["one", "cat", "/tmp/done"]).stdout.contains("done").then_some(())
    });
    finish(client, daemon);
}

pub fn its_exit_codes(client: Client) {
    let daemon = with_sleeper(client);
    for code in [0, 5, 255] {
        client.run(&daemon, &["exec", "one", "sh", "-c", &format!("exit {code}")]).code(code);
    }
    client.run(&daemon, &["exec", "one", "sh", "-c", "kill -9 $$"]).code(137);
    let said = client.run(&daemon, &["exec", "one", "nope"]).code(127);
    assert!(format!("{}{}", said.stdout, said.stderr).contains("executable file not found"), "{said:?}");
    client.run(&daemon, &["exec", "one", "/etc/passwd"]).code(126);
    finish(client, daemon);
}

pub fn with_input(client: Client) {
    let daemon = with_sleeper(client);
    let lines: String = (0..20_000).map(|number| format!("line {number}\n")).collect();
    let said = client.run_with(&daemon, &["exec", "-i", "one", "cat"], lines.as_bytes()).code(0);
    assert!(said.stdout == lines, "{} bytes of {}", said.stdout.len(), lines.len());
    assert_eq!(client.run_with(&daemon, &["exec", "one", "cat"], b"unheard").ok(), "");
    finish(client, daemon);
}

pub fn on_a_terminal(client: Client) {
    let daemon = with_sleeper(client);
    let mut terminal = client.terminal(&daemon, &["exec", "-it", "one", "sh"]);
    terminal.expect("/srv # ");
    terminal.resize(33, 99);
    terminal.send("until [ \"$(stty size)\" = '33 99' ]; do sleep 0.01; done; echo sized-$?\r");
    terminal.expect("sized-0");
    terminal.send("exit 8\r");
    assert_eq!(terminal.wait(), 8);
    finish(client, daemon);
}

pub fn only_where_something_runs(client: Client) {
    let daemon = Daemon::with_busybox();
    client.run(&daemon, &["run", "--name", "one", "busybox", "true"]).ok();
    let said = client.run(&daemon, &["exec", "one", "true"]).code(1);
    assert!(said.stderr.contains("is not running"), "{said:?}");
    let said = client.run(&daemon, &["exec", "two", "true"]).code(1);
    assert!(said.stderr.contains("No such container: two"), "{said:?}");
    finish(client, daemon);
}
