//! What goes on by itself, and what can be changed and seen meanwhile: restarts, health, bounds and use.

use crate::support::client::Client;
use crate::support::daemon::Daemon;
use crate::support::eventually;

fn shown(client: Client, daemon: &Daemon, name: &str, format: &str) -> String {
    client.run(daemon, &["inspect", "-f", format, name]).ok()
}

pub fn restarts_and_health(client: Client) {
    let mut daemon = Daemon::with_busybox();
    let failing = ["run", "-d", "--restart", "on-failure:2", "--name", "fails", "busybox", "sh", "-c", "exit 3"];
    client.run(&daemon, &failing).ok();
    let format = "{{.State.Status}} {{.State.ExitCode}} {{.RestartCount}}";
    eventually("it is given up", || (shown(client, &daemon, "fails", format) == "exited 3 2").then_some(()));
    let script = "trap 'exit 0' TERM; while :; do sleep 0.05; done";
    for name in ["goes-on", "is-stopped"] {
        let health = ["--health-cmd", "echo well", "--health-interval", "100ms"];
        let run = ["run", "-d", "--restart", "unless-stopped", "--name", name];
        client.run(&daemon, &[&run[..], &health, &["busybox", "sh", "-c", script]].concat()).ok();
        eventually("it is healthy", || client.run(&daemon, &["ps"]).ok().contains("(healthy)").then_some(()));
    }
    client.run(&daemon, &["stop", "is-stopped"]).ok();
    daemon.kill();
    daemon.begin();
    assert_eq!(shown(client, &daemon, "goes-on", "{{.State.Status}} {{.State.Health.Status}}"), "running healthy");
    assert_eq!(shown(client, &daemon, "is-stopped", "{{.State.Status}}"), "exited");
    let healthy = client.run(&daemon, &["ps", "--filter", "health=healthy", "--format", "{{.Names}}"]).ok();
    assert_eq!(healthy, "goes-on");
    let log = "{{range .State.Health.Log}}{{.ExitCode}} {{.Output}}{{end}}";
    eventually("it is asked again", || shown(client, &daemon, "goes-on", log).contains("0 well").then_some(()));
    client.run(&daemon, &["rm", "-f", "fails", "goes-on", "is-stopped"]).ok();
    daemon.finish();
}

pub fn bounds_and_use(client: Client) {
    let daemon = Daemon::with_busybox();
    client.run(&daemon, &["run", "-d", "-m", "64m", "--name", "one", "busybox", "sleep", "1000"]).ok();
    let used = client.run(&daemon, &["stats", "--no-stream", "--format", "{{.Name}} {{.PIDs}} {{.MemUsage}}", "one"]);
    let used = used.ok();
    assert!(used.starts_with("one 1 ") && used.ends_with(" / 64MiB"), "{used}");
    client.run(&daemon, &["create", "--name", "off", "busybox", "true"]).ok();
    let used = client.run(&daemon, &["stats", "--no-stream", "-a", "--format", "{{.Name}} {{.PIDs}}"]).ok();
    let mut lines: Vec<_> = used.lines().collect();
    lines.sort_unstable();
    assert!(lines.len() == 2 && lines[0].starts_with("off ") && lines[1] == "one 1", "{used}");
    let used = client.run(&daemon, &["stats", "--no-stream", "--format", "{{.Container}}", "off", "one"]).ok();
    assert_eq!(
        {
            let mut names: Vec<_> = used.lines().collect();
            names.sort_unstable();
            names
        },
        ["off", "one"]
    );
    let said = client.run(&daemon, &["stats", "--no-stream", "one", "nope"]);
    assert!(said.stderr.contains("No such container: nope"), "{said:?}");
    client.run(&daemon, &["rm", "off"]).ok();
    client.run(&daemon, &["update", "-m", "96m", "--memory-swap", "200m", "--restart", "always", "one"]).ok();
    let format = "{{.HostConfig.Memory}} {{.HostConfig.RestartPolicy.Name}}";
    assert_eq!(shown(client, &daemon, "one", format), format!("{} always", 96 << 20));
    let limit = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max";
    assert_eq!(client.run(&daemon, &["exec", "one", "sh", "-c", limit]).ok(), (96 << 20).to_string());
    let said = client.run(&daemon, &["update", "-m", "1k", "one"]).code(1);
    assert!(said.stderr.contains("Minimum memory limit allowed is 6MB"), "{said:?}");
    let top = client.run(&daemon, &["top", "one"]).ok();
    let titles: Vec<_> = top.lines().next().unwrap_or_default().split_whitespace().collect();
    assert_eq!(titles, ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]);
    let chosen = client.run(&daemon, &["top", "one", "-o", "pid,args:5", "--sort=-pid"]).ok();
    let words: Vec<_> = chosen.split_whitespace().collect();
    assert_eq!((words[..2].to_vec(), words[3]), (vec!["PID", "COMMAND"], "sleep"), "{chosen}");
    client.run(&daemon, &["exec", "-u", "nobody-here", "one", "true"]).code(126);
    if matches!(client, Client::Enginectl) {
        let mut screen = client.terminal(&daemon, &["top", "--live", "one"]);
        screen.expect("PID");
        screen.expect("%CPU");
        screen.expect("sleep");
        // It is written over, until the container has ended.
        screen.expect("\x1b[H");
        screen.expect("sleep");
        client.run(&daemon, &["kill", "one"]).ok();
        assert_eq!(screen.wait(), 0);
        let tops = ["events", "--since", "1h", "--until", "0s", "--filter", "event=top", "--format", "{{.Action}}"];
        assert_eq!(client.run(&daemon, &tops).ok(), "top\ntop\ntop");
        client.run(&daemon, &["top", "--live", "one"]).code(1);
    }
    client.run(&daemon, &["rm", "-f", "one"]).ok();
    daemon.finish();
}

pub fn what_a_log_driver_knows(client: Client) {
    let daemon = Daemon::with_busybox();
    let options = ["--label", "tier=db", "--log-opt", "labels=tier", "--log-opt", "tag={{.Name}}"];
    let run = ["run", "--name", "one"];
    client.run(&daemon, &[&run[..], &options, &["busybox", "echo", "hello"]].concat()).ok();
    assert_eq!(client.run(&daemon, &["logs", "--details", "one"]).ok(), "tag=one,tier=db hello");
    let said = client.run(&daemon, &["run", "--log-driver", "bogus", "busybox", "true"]).code(125);
    assert!(said.stderr.contains("no log driver named 'bogus' is registered"), "{said:?}");
    client.run(&daemon, &["run", "--name", "two", "--log-driver", "local", "busybox", "echo", "kept"]).ok();
    assert_eq!(client.run(&daemon, &["logs", "two"]).ok(), "kept");
    client.run(&daemon, &["rm", "one", "two"]).ok();
    daemon.finish();
}

pub fn another_runtime(client: Client) {
    let mut daemon = Daemon::with_busybox();
    assert!(client.run(&daemon, &["info", "-f", "{{json .Runtimes}}"]).ok().contains("/engine-oci"));
    let said = client.run(&daemon, &["run", "--runtime", "kata", "busybox", "true"]).code(125);
    assert!(said.stderr.contains("unknown or invalid runtime name: kata"), "{said:?}");
    fn run<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
        [&["run", "--runtime", "oci"], arguments].concat()
    }
    let script = "cat; id -u; id -G; cat /img/etc/passwd | head -n1; echo err >&2; exit 3";
    let image = "type=image,source=busybox,destination=/img";
    let whole = run(&["-i", "--rm", "-u", "worker", "--mount", image, "busybox", "sh", "-c", script]);
    let said = client.run_with(&daemon, &whole, b"typed\n").code(3);
    assert!(said.stdout.starts_with("typed\n1000\n1001 1002\nroot:"), "{said:?}");
    assert_eq!(said.stderr, "err\n");
    let said = client.run(&daemon, &run(&["--rm", "busybox", "nope"])).code(127);
    assert!(said.stderr.contains("executable file not found"), "{said:?}");

    let script = "trap 'echo bye; exit 7' TERM; while :; do sleep 0.05; done";
    client.run(&daemon, &run(&["-d", "--name", "one", "-v", "kept:/srv", "busybox", "sh", "-c", script])).ok();
    for process in ["self", "1"] {
        let status = format!("/proc/{process}/status");
        assert_eq!(client.run(&daemon, &["exec", "one", "grep", "Seccomp:", &status]).ok(), "Seccomp:\t2");
    }
    client.run(&daemon, &["exec", "one", "sh", "-c", "exit 5"]).code(5);
    client.run(&daemon, &["exec", "one", "nope"]).code(127);
    let place = "readlink -f /proc/self/ns/pid; id -u; pwd";
    let other = client.run(&daemon, &["exec", "-u", "worker", "-w", "/tmp", "one", "sh", "-c", place]).ok();
    assert!(other.ends_with("\n1000\n/tmp"), "{other}");
    let mut terminal = client.terminal(&daemon, &["exec", "-it", "one", "sh"]);
    terminal.expect("# ");
    terminal.resize(33, 99);
    terminal.send("until [ \"$(stty size)\" = '33 99' ]; do sleep 0.01; done; echo sized-$?\r");
    terminal.expect("sized-0");
    terminal.send("exit 4\r");
    assert_eq!(terminal.wait(), 4);
    client.run(&daemon, &["pause", "one"]).ok();
    client.run(&daemon, &["unpause", "one"]).ok();
    // Neither the daemon nor the runtime is needed for it to go on, and for its end to be known.
    daemon.kill();
    daemon.begin();
    client.run(&daemon, &["exec", "one", "true"]).ok();
    client.run(&daemon, &["stop", "one"]).ok();
    assert_eq!(shown(client, &daemon, "one", "{{.State.Status}} {{.State.ExitCode}}"), "exited 7");
    assert_eq!(client.run(&daemon, &["logs", "one"]).ok(), "bye");
    client.run(&daemon, &["start", "one"]).ok();
    client.run(&daemon, &["rm", "-f", "one"]).ok();
    client.run(&daemon, &["volume", "rm", "kept"]).ok();
    daemon.finish();
}

pub fn devices_by_name(client: Client) {
    let daemon = Daemon::with_busybox();
    let said = client.run(&daemon, &["run", "--rm", "--gpus", "all", "busybox", "true"]).code(125);
    assert!(said.stderr.contains("could not select device driver \"\" with capabilities: [[gpu]]"), "{said:?}");
    let hooked = daemon.home().join("hooked");
    let specification = serde_json::json!({"cdiVersion": "0.6.0", "kind": "vendor.com/toy",
    "containerEdits": {"env": ["TOYS=yes"]},
    "devices": [{"name": "ball", "containerEdits": {
        "deviceNodes": [{"path": "/dev/ball", "hostPath": "/dev/zero", "permissions": "r"}],
        "mounts": [{"hostPath": "/bin", "containerPath": "/toys", "options": ["ro"]}],
        "hooks": [{"hookName": "createRuntime", "path": "/bin/busybox", "args": ["busybox", "touch", hooked]}],
    }}]});
    std::fs::create_dir(daemon.devices()).unwrap();
    std::fs::write(daemon.devices().join("toy.json"), specification.to_string()).unwrap();
    let script = "echo $TOYS; head -c 3 /dev/ball | od -An -tx1; ls /toys/busybox";
    let run = ["run", "--name", "one", "--device", "vendor.com/toy=ball", "busybox", "sh", "-c", script];
    let said = client.run(&daemon, &run).code(0);
    assert_eq!(said.stdout, "yes\n 00 00 00\n/toys/busybox\n", "{said:?}");
    assert!(hooked.exists());
    let shown = shown(client, &daemon, "one", "{{json .HostConfig.DeviceRequests}}");
    assert!(shown.contains("\"vendor.com/toy=ball\""), "{shown}");
    let said = client.run(&daemon, &["run", "--rm", "--device", "vendor.com/toy=bat", "busybox", "true"]).code(125);
    let text = "CDI device injection failed: unresolvable CDI devices vendor.com/toy=bat";
    assert!(said.stderr.contains(text), "{said:?}");
    client.run(&daemon, &["rm", "one"]).ok();
    daemon.finish();
}

/// Stands in for CRIU: what it makes anew says so.
const CRIU: &str = r#"#!/bin/sh
verb=$1
while [ $# -gt 0 ]; do
  case $1 in
    --images-dir) images=$2 ;;
    --pidfile) pid_file=$2 ;;
    --tree) tree=$2 ;;
    --leave-running) leave=yes ;;
  esac
  shift
done
case $verb in
  dump) echo x >"$images/inventory.img"; [ -n "$leave" ] || kill -9 "$tree" ;;
  restore) (exec >/proc/self/fd/101 2>&1; echo here again; exec sleep 1000) & echo $! >"$pid_file" ;;
esac
"#;

pub fn checkpoints(client: Client) {
    let daemon = Daemon::with_busybox();
    client.run(&daemon, &["run", "-d", "--name", "one", "busybox", "sleep", "1000"]).ok();
    let refused = client.run(&daemon, &["checkpoint", "create", "one", "first"]).code(1).stderr;
    let why = ["experimental features enabled", "need the program CRIU on the engine's host"];
    assert!(why.iter().any(|why| refused.contains(why)), "{refused}");
    // Copied by another process: a file that is open for writing here could not be executed.
    let script = daemon.criu().with_extension("sh");
    std::fs::write(&script, CRIU).unwrap();
    let copied = std::process::Command::new("install").args([&script, &daemon.criu()]).status().unwrap();
    assert!(copied.success());
    assert_eq!(client.run(&daemon, &["version", "-f", "{{.Server.Experimental}}"]).ok(), "true");
    assert_eq!(client.run(&daemon, &["checkpoint", "create", "one", "first"]).ok(), "first");
    assert_eq!(shown(client, &daemon, "one", "{{.State.Status}} {{.State.ExitCode}}"), "exited 137");
    let listed = client.run(&daemon, &["checkpoint", "ls", "one"]).ok();
    assert_eq!(listed.lines().map(str::trim).collect::<Vec<_>>(), ["CHECKPOINT NAME", "first"]);
    client.run(&daemon, &["start", "--checkpoint", "first", "one"]).ok();
    eventually("it is there again", || (client.run(&daemon, &["logs", "one"]).ok() == "here again").then_some(()));
    client.run(&daemon, &["checkpoint", "create", "--leave-running", "one", "second"]).ok();
    assert_eq!(shown(client, &daemon, "one", "{{.State.Status}}"), "running");
    client.run(&daemon, &["checkpoint", "rm", "one", "first"]).ok();
    assert!(!client.run(&daemon, &["checkpoint", "ls", "one"]).ok().contains("first"));
    let missing = client.run(&daemon, &["checkpoint", "rm", "one", "first"]).code(1).stderr;
    assert!(missing.contains("checkpoint first does not exist for container one"), "{missing}");
    client.run(&daemon, &["rm", "-f", "one"]).ok();
    daemon.finish();
}
