//! A container's life, from created to gone.

use crate::support::client::Client;
use crate::support::daemon::Daemon;
use crate::support::eventually;

fn status(client: Client, daemon: &Daemon, name: &str) -> String {
    client.run(daemon, &["inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", name]).ok()
}

fn sleeper(client: Client, daemon: &Daemon, name: &str) -> String {
    client.run(daemon, &["run", "-d", "--name", name, "busybox", "sleep", "1000"]).ok()
}

pub fn from_created_to_gone(client: Client) {
    let daemon = Daemon::with_busybox();
    client.run(&daemon, &["create", "--name", "one", "busybox", "sh", "-c", "echo hello; exit 4"]).ok();
    assert_eq!(status(client, &daemon, "one"), "created 0");
    let said = client.run(&daemon, &["start", "-a", "one"]).code(4);
    assert_eq!(said.stdout, "hello\n");
    assert_eq!(status(client, &daemon, "one"), "exited 4");
    // It can be started again; its output is added to what it said before.
    client.run(&daemon, &["start", "one"]).ok();
    assert_eq!(client.run(&daemon, &["wait", "one"]).ok(), "4");
    assert_eq!(client.run(&daemon, &["logs", "one"]).ok(), "hello\nhello");
    client.run(&daemon, &["rm", "one"]).ok();
    let said = client.run(&daemon, &["inspect", "one"]).code(1);
    assert!(said.stderr.to_lowercase().contains("no such object: one"), "{said:?}");
    let said = client.run(&daemon, &["start", "one"]).code(1);
    assert!(said.stderr.contains("No such container: one"), "{said:?}");
    daemon.finish();
}

pub fn stop_waits_then_kills(client: Client) {
    let daemon = Daemon::with_busybox();
    let polite = "trap 'echo bye; exit 9' TERM; echo ready; while :; do sleep 0.05; done";
    client.run(&daemon, &["run", "-d", "--name", "polite", "busybox", "sh", "-c", polite]).ok();
    eventually("it is ready", || client.run(&daemon, &["logs", "polite"]).stdout.contains("ready").then_some(()));
    client.run(&daemon, &["stop", "polite"]).ok();
    assert_eq!(status(client, &daemon, "polite"), "exited 9");
    assert!(client.run(&daemon, &["logs", "polite"]).ok().ends_with("bye"));
    // Process 1 without a handler hears no signal but the last one.
    sleeper(client, &daemon, "deaf");
    client.run(&daemon, &["stop", "-t", "1", "deaf"]).ok();
    assert_eq!(status(client, &daemon, "deaf"), "exited 137");
    // Stopping what is stopped is no error.
    client.run(&daemon, &["stop", "deaf"]).ok();
    client.run(&daemon, &["rm", "polite", "deaf"]).ok();
    daemon.finish();
}

pub fn kill_and_wait(client: Client) {
    let daemon = Daemon::with_busybox();
    sleeper(client, &daemon, "one");
    let mut waiting = client.command(&daemon, &["wait", "one"]);
    let waiting = std::thread::spawn(move || crate::support::run(&mut waiting, b"").ok());
    client.run(&daemon, &["kill", "one"]).ok();
    assert_eq!(waiting.join().unwrap(), "137");
    assert_eq!(status(client, &daemon, "one"), "exited 137");
    let said = client.run(&daemon, &["kill", "one"]).code(1);
    assert!(said.stderr.contains("is not running"), "{said:?}");
    let said = client.run(&daemon, &["run", "-d", "--name", "one", "busybox", "true"]).code(125);
    assert!(said.stderr.contains("already in use"), "{said:?}");
    let handler = "trap 'exit 12' USR1; echo ready; while :; do sleep 0.05; done";
    client.run(&daemon, &["run", "-d", "--name", "two", "busybox", "sh", "-c", handler]).ok();
    eventually("it is ready", || client.run(&daemon, &["logs", "two"]).stdout.contains("ready").then_some(()));
    client.run(&daemon, &["kill", "-s", "USR1", "two"]).ok();
    assert_eq!(client.run(&daemon, &["wait", "two"]).ok(), "12");
    let said = client.run(&daemon, &["kill", "-s", "NOSIGNAL", "two"]).code(1);
    assert!(said.stderr.to_lowercase().contains("signal"), "{said:?}");
    client.run(&daemon, &["rm", "one", "two"]).ok();
    daemon.finish();
}

pub fn pause_stands_still(client: Client) {
    let daemon = Daemon::with_busybox();
    sleeper(client, &daemon, "one");
    client.run(&daemon, &["pause", "one"]).ok();
    assert_eq!(status(client, &daemon, "one"), "paused 0");
    let said = client.run(&daemon, &["exec", "one", "true"]);
    assert!(said.code != 0 && said.stderr.contains("is paused"), "{said:?}");
    let said = client.run(&daemon, &["pause", "one"]).code(1);
    assert!(said.stderr.contains("already paused"), "{said:?}");
    client.run(&daemon, &["unpause", "one"]).ok();
    client.run(&daemon, &["exec", "one", "true"]).ok();
    client.run(&daemon, &["pause", "one"]).ok();
    client.run(&daemon, &["rm", "-f", "one"]).ok();
    daemon.finish();
}

pub fn restart_and_rename(client: Client) {
    let daemon = Daemon::with_busybox();
    sleeper(client, &daemon, "one");
    let pid = || client.run(&daemon, &["inspect", "-f", "{{.State.Pid}}", "one"]).ok();
    let before = pid();
    client.run(&daemon, &["restart", "-t", "0", "one"]).ok();
    assert_ne!(pid(), before);
    sleeper(client, &daemon, "two");
    client.run(&daemon, &["rename", "one", "two"]).code(1);
    client.run(&daemon, &["rename", "one", "three"]).ok();
    assert_eq!(client.run(&daemon, &["inspect", "-f", "{{.Name}}", "three"]).ok(), "/three");
    client.run(&daemon, &["rm", "one"]).code(1);
    let said = client.run(&daemon, &["rm", "three"]).code(1);
    assert!(said.stderr.contains("container is running"), "{said:?}");
    client.run(&daemon, &["rm", "-f", "two", "three"]).ok();
    daemon.finish();
}

pub fn listing(client: Client) {
    let daemon = Daemon::with_busybox();
    sleeper(client, &daemon, "runs");
    client.run(&daemon, &["run", "--name", "ended", "--label", "kind=short", "busybox", "sh", "-c", "exit 2"]).code(2);
    let names = |arguments: &[&str]| {
        let all = [&["ps", "--format", "{{.Names}}"], arguments].concat();
        let mut names: Vec<String> = client.run(&daemon, &all).ok().lines().map(str::to_owned).collect();
        names.sort();
        names.join(" ")
    };
    assert_eq!(names(&[]), "runs");
    assert_eq!(names(&["-a"]), "ended runs");
    assert_eq!(names(&["-a", "--filter", "status=exited"]), "ended");
    assert_eq!(names(&["-a", "--filter", "exited=2"]), "ended");
    assert_eq!(names(&["-a", "--filter", "label=kind=short"]), "ended");
    assert_eq!(names(&["-a", "--filter", "name=run"]), "runs");
    assert_eq!(names(&["-a", "--filter", "ancestor=busybox"]), "ended runs");
    assert_eq!(names(&["-n", "1"]), "ended");
    let table = client.run(&daemon, &["ps", "-a"]).ok();
    let head = table.lines().next().unwrap();
    assert_eq!(
        head.split_whitespace().collect::<Vec<_>>().join(" "),
        "CONTAINER ID IMAGE COMMAND CREATED STATUS PORTS NAMES"
    );
    assert!(table.contains("Exited (2)") && table.contains("Up "), "{table}");
    client.run(&daemon, &["rm", "-f", "runs", "ended"]).ok();
    daemon.finish();
}

pub fn inspecting(client: Client) {
    let daemon = Daemon::with_busybox();
    let create = ["create", "--name", "one", "-e", "A=b", "-m", "64m", "--label", "x=y", "-t", "busybox", "echo", "hi"];
    let id = client.run(&daemon, &create).ok();
    let shown: serde_json::Value = serde_json::from_str(&client.run(&daemon, &["inspect", "one"]).ok()).unwrap();
    let one = &shown[0];
    assert_eq!(one["Id"], id.as_str());
    assert_eq!(one["Name"], "/one");
    assert_eq!((&one["Path"], &one["Args"]), (&"echo".into(), &serde_json::json!(["hi"])));
    assert_eq!(one["State"]["Status"], "created");
    assert_eq!(one["HostConfig"]["Memory"], 64 << 20);
    assert_eq!(one["Config"]["Tty"], true);
    assert_eq!(one["Config"]["Labels"], serde_json::json!({"x": "y", "org.example.kind": "test"}));
    let env = one["Config"]["Env"].as_array().unwrap();
    assert!(env.contains(&"A=b".into()) && env.contains(&"FROM_IMAGE=yes".into()), "{env:?}");
    assert_eq!(one["Image"], crate::support::archive::busybox().id().as_str());
    client.run(&daemon, &["rm", "one"]).ok();
    daemon.finish();
}

pub fn attaching_twice(client: Client) {
    let daemon = Daemon::with_busybox();
    let script = "read line; echo got $line; exit 6";
    // The second is to one that runs, which nobody starts again.
    for second in [&["attach", "one"][..], &["start", "-ai", "one"]] {
        client.run(&daemon, &["create", "-i", "--name", "one", "busybox", "sh", "-c", script]).ok();
        let mut onlooker = client.command(&daemon, &["start", "-a", "one"]);
        let onlooker = std::thread::spawn(move || crate::support::run(&mut onlooker, b""));
        eventually("it runs", || status(client, &daemon, "one").starts_with("running").then_some(()));
        let said = client.run_with(&daemon, second, b"word\n").code(6);
        assert_eq!(said.stdout, "got word\n");
        assert_eq!(onlooker.join().unwrap().code(6).stdout, "got word\n");
        client.run(&daemon, &["rm", "one"]).ok();
    }
    daemon.finish();
}
