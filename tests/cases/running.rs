//! `run`: what goes in, what comes out, and where the process finds itself.

use crate::support::client::Client;
use crate::support::daemon::Daemon;

pub fn input_goes_through(client: Client) {
    let daemon = Daemon::with_busybox();
    let lines: String = (0..100_000).map(|number| format!("line {number}\n")).collect();
    let said = client.run_with(&daemon, &["run", "--rm", "-i", "busybox", "cat"], lines.as_bytes()).code(0);
    assert!(said.stdout == lines, "{} bytes of {} came back", said.stdout.len(), lines.len());
    // Without -i there is no input.
    assert_eq!(client.run_with(&daemon, &["run", "--rm", "busybox", "cat"], b"unheard").ok(), "");
    daemon.finish();
}

pub fn exit_codes(client: Client) {
    let daemon = Daemon::with_busybox();
    for code in [0, 1, 3, 42, 255] {
        client.run(&daemon, &["run", "--rm", "busybox", "sh", "-c", &format!("exit {code}")]).code(code);
    }
    // A child that dies of a signal, as the shell reports it.
    client.run(&daemon, &["run", "--rm", "busybox", "sh", "-c", "sh -c 'kill -9 $$'; exit $?"]).code(137);
    client.run(&daemon, &["run", "--rm", "busybox", "true"]).code(0);
    client.run(&daemon, &["run", "--rm", "busybox", "false"]).code(1);
    daemon.finish();
}

pub fn failures_before_the_start(client: Client) {
    let daemon = Daemon::with_busybox();
    let said = client.run(&daemon, &["run", "--rm", "busybox", "nope"]).code(127);
    assert!(said.stderr.contains("exec: \"nope\": executable file not found in $PATH"), "{said:?}");
    let said = client.run(&daemon, &["run", "--rm", "busybox", "/nope"]).code(127);
    assert!(said.stderr.contains("no such file or directory"), "{said:?}");
    let said = client.run(&daemon, &["run", "--rm", "busybox", "/etc/passwd"]).code(126);
    assert!(said.stderr.contains("permission denied"), "{said:?}");
    client.run(&daemon, &["run", "--rm", "busybox", "/etc"]).code(126);
    let said = client.run(&daemon, &["run", "--rm", "--network", "nowhere", "busybox", "true"]).code(125);
    assert!(said.stderr.contains("network nowhere not found"), "{said:?}");
    let said = client.run(&daemon, &["run", "--rm", "-u", "nobody-here", "busybox", "true"]);
    assert!([125, 126].contains(&said.code) && said.stderr.contains("nobody-here"), "{said:?}");
    client.run(&daemon, &["run", "--rm", "--pull", "never", "not-there", "true"]).code(125);
    client.run(&daemon, &["run", "--no-such-flag", "busybox"]).code(125);
    daemon.finish();
}

pub fn streams_stay_apart(client: Client) {
    let daemon = Daemon::with_busybox();
    let said = client.run(&daemon, &["run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2"]).code(0);
    assert_eq!((said.stdout.as_str(), said.stderr.as_str()), ("out\n", "err\n"));
    daemon.finish();
}

pub fn environment_directory_user_and_name(client: Client) {
    let daemon = Daemon::with_busybox();
    let run = |arguments: &[&str], script: &str| {
        let all = [&["run", "--rm"], arguments, &["busybox", "sh", "-c", script]].concat();
        client.run(&daemon, &all).ok()
    };
    assert_eq!(run(&["-e", "A=b c", "-e", "EMPTY="], "echo $A-$EMPTY-$FROM_IMAGE-$HOME"), "b c--yes-/root");
    assert_eq!(run(&["-w", "/srv/data"], "pwd"), "/srv/data");
    assert_eq!(run(&["-w", "/not/there/yet"], "pwd"), "/not/there/yet");
    assert_eq!(run(&["-u", "worker"], "id -u; id -g; id -G; echo $HOME"), "1000\n1001\n1001 1002\n/srv");
    assert_eq!(run(&["-u", "1234:5678"], "id -u; id -g; id -G"), "1234\n5678\n5678");
    assert_eq!(run(&["--hostname", "here"], "hostname; cat /etc/hostname"), "here\nhere");
    assert_eq!(run(&["--entrypoint", "echo"], "x"), "sh -c x");
    assert_eq!(run(&[], "echo $$"), "1");
    daemon.finish();
}

pub fn the_root_file_system_is_the_images(client: Client) {
    let daemon = Daemon::with_busybox();
    let run = |arguments: &[&str], script: &str| {
        client.run(&daemon, &[&["run", "--rm"], arguments, &["busybox", "sh", "-c", script]].concat())
    };
    assert_eq!(run(&[], "cat /etc/replaced; test -e /etc/removed || echo gone").ok(), "second\ngone");
    assert_eq!(run(&[], "echo mine > /etc/replaced; cat /etc/replaced").ok(), "mine");
    assert_eq!(run(&[], "cat /etc/replaced").ok(), "second");
    let said = run(&["--read-only"], "echo x > /file").code(1);
    assert!(said.stderr.contains("Read-only file system"), "{said:?}");
    assert_eq!(run(&["--read-only", "--tmpfs", "/tmp"], "echo x > /tmp/file; cat /tmp/file").ok(), "x");
    // Nothing of the host, and the usual parts masked.
    assert_eq!(run(&[], "cat /proc/kcore | wc -c; ls /proc/1/root/ | grep -c tmp").ok(), "0\n1");
    assert_eq!(run(&[], "echo x > /proc/sys/kernel/domainname").code, 1);
    assert_eq!(
        run(&[], "test -c /dev/null && test -d /dev/pts && test -d /dev/shm && ls /dev | grep -c sda").stdout,
        "0\n"
    );
    daemon.finish();
}

pub fn limits_hold(client: Client) {
    let daemon = Daemon::with_busybox();
    let script = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/pids/pids.max 2>/dev/null \
                  || cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/pids.max";
    let limits = ["run", "--rm", "-m", "32m", "--pids-limit", "50", "busybox", "sh", "-c", script];
    assert_eq!(client.run(&daemon, &limits).ok(), "33554432\n50");
    let eater =
        ["run", "--name", "eater", "-m", "16m", "--memory-swap", "16m", "busybox", "sh", "-c", "tail /dev/zero"];
    client.run(&daemon, &eater).code(137);
    assert_eq!(client.run(&daemon, &["inspect", "-f", "{{.State.OOMKilled}}", "eater"]).ok(), "true");
    client.run(&daemon, &["rm", "eater"]).ok();
    let files = ["run", "--rm", "--ulimit", "nofile=100:200", "busybox", "sh", "-c", "ulimit -Sn; ulimit -Hn"];
    assert_eq!(client.run(&daemon, &files).ok(), "100\n200");
    daemon.finish();
}

pub fn privileges_are_dockers(client: Client) {
    let daemon = Daemon::with_busybox();
    let status = |arguments: &[&str]| {
        let script = ["busybox", "grep", "-E", "^(CapEff|CapBnd|Seccomp|NoNewPrivs):", "/proc/1/status"];
        client.run(&daemon, &[&["run", "--rm"], arguments, &script].concat()).ok()
    };
    let capabilities = |text: &str| {
        let line = text.lines().find(|line| line.starts_with("CapEff")).unwrap();
        u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap()
    };
    // Docker's fourteen, of which this machine may have fewer to give.
    let own = std::fs::read_to_string("/proc/self/status").unwrap();
    let bounding = own.lines().find_map(|line| line.strip_prefix("CapBnd:\t")).unwrap();
    let bounding = u64::from_str_radix(bounding, 16).unwrap();
    let usual = status(&[]);
    assert_eq!(capabilities(&usual), 0xa804_25fb & bounding, "{usual}");
    assert!(usual.contains("Seccomp:\t2"), "{usual}");
    assert_eq!(capabilities(&status(&["--cap-drop", "ALL"])), 0);
    assert_eq!(capabilities(&status(&["--cap-drop", "ALL", "--cap-add", "CHOWN"])), 1);
    let privileged = status(&["--privileged"]);
    assert_eq!(capabilities(&privileged), bounding, "{privileged}");
    assert!(privileged.contains("Seccomp:\t0"), "{privileged}");
    assert!(status(&["--security-opt", "no-new-privileges"]).contains("NoNewPrivs:\t1"));
    let refused = client.run(&daemon, &["run", "--rm", "busybox", "mount", "-t", "tmpfs", "x", "/tmp"]);
    assert_ne!(refused.code, 0, "{refused:?}");
    daemon.finish();
}

pub fn removed_when_asked(client: Client) {
    let daemon = Daemon::with_busybox();
    client.run(&daemon, &["run", "--rm", "busybox", "true"]).ok();
    assert_eq!(client.run(&daemon, &["ps", "-aq"]).ok(), "");
    client.run(&daemon, &["run", "--name", "kept", "busybox", "true"]).ok();
    assert_eq!(client.run(&daemon, &["ps", "-a", "--format", "{{.Names}}"]).ok(), "kept");
    client.run(&daemon, &["rm", "kept"]).ok();
    daemon.finish();
}

pub fn names_are_unique(client: Client) {
    let daemon = Daemon::with_busybox();
    let id = client.run(&daemon, &["run", "-d", "--name", "one", "busybox", "sleep", "1000"]).ok();
    assert!(id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id:?}");
    let said = client.run(&daemon, &["run", "--name", "one", "busybox", "true"]).code(125);
    assert!(said.stderr.contains("The container name \"/one\" is already in use by container"), "{said:?}");
    let said = client.run(&daemon, &["run", "--name", "a/b", "busybox", "true"]).code(125);
    assert!(said.stderr.contains("Invalid container name"), "{said:?}");
    // By name, id and any unique beginning of it.
    for name in ["one", &id, &id[..12], &id[..5]] {
        assert_eq!(client.run(&daemon, &["inspect", "-f", "{{.Id}}", name]).ok(), id);
    }
    client.run(&daemon, &["rm", "-f", "one"]).ok();
    daemon.finish();
}
