//! `run -it` with somebody at the terminal.

use crate::support::client::Client;
use crate::support::daemon::Daemon;
use crate::support::eventually;

pub fn a_shell(client: Client) {
    let daemon = Daemon::with_busybox();
    let mut terminal = client.terminal(&daemon, &["run", "--rm", "-it", "--name", "shell", "busybox", "sh"]);
    terminal.expect("/ # ");
    // The size follows, at the start and later. The first one may arrive a moment after the prompt.
    terminal.send("until [ \"$(stty size)\" = '24 80' ]; do sleep 0.01; done; echo first-$?\r");
    terminal.expect("first-0");
    terminal.resize(50, 132);
    terminal.send("until [ \"$(stty size)\" = '50 132' ]; do sleep 0.01; done; echo second-$?\r");
    terminal.expect("second-0");
    // ^C reaches the process in front, and only that.
    terminal.send("sleep 1000\r");
    let processes = || client.run(&daemon, &["exec", "shell", "ps"]).stdout;
    eventually("sleep runs", || processes().contains("sleep 1000").then_some(()));
    terminal.send("\x03");
    terminal.send("echo after-$?\r");
    terminal.expect("after-130");
    terminal.send("tty; exit 5\r");
    terminal.expect("/dev/pts/0");
    assert_eq!(terminal.wait(), 5);
    daemon.finish();
}

pub fn detach_and_attach_again(client: Client) {
    let daemon = Daemon::with_busybox();
    let mut first = client.terminal(&daemon, &["run", "-it", "--name", "shell", "busybox", "sh"]);
    first.expect("/ # ");
    first.send("MEMORY=kept\r");
    first.expect("/ # ");
    first.send("\x10\x11");
    assert_eq!(first.wait(), 0);
    assert_eq!(client.run(&daemon, &["inspect", "-f", "{{.State.Status}}", "shell"]).ok(), "running");
    let mut second = client.terminal(&daemon, &["attach", "--detach-keys", "ctrl-a,x", "shell"]);
    second.send("echo still-$MEMORY\r");
    second.expect("still-kept");
    second.send("\x01x");
    second.wait();
    let mut third = client.terminal(&daemon, &["attach", "shell"]);
    third.send("exit 7\r");
    assert_eq!(third.wait(), 7);
    client.run(&daemon, &["rm", "shell"]).ok();
    daemon.finish();
}
