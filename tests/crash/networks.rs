//! The daemon is killed before one message to the kernel after the other, while a container is connected, disconnected and
//! started with a port: afterwards all sides say the same of its networks, and nothing is held that nobody has.

use std::path::Path;
use std::process::Stdio;

use crate::disks::Tracer;
use crate::support::daemon::Daemon;
use crate::support::eventually;
use crate::{CTL, assert_networks_agree, start};

/// Every step when that is asked for; else some of them.
fn stride() -> usize {
    std::env::var("ENGINE_STEPS").ok().and_then(|text| text.parse().ok()).unwrap_or(4)
}

/// Runs a command while the daemon is to be killed before that message; whether it was.
fn killed_before(daemon: &mut Daemon, step: usize, command: &[&str]) -> bool {
    let inject = format!("inject=sendmsg:signal=KILL:when={step}");
    let tracer = Tracer::attach(daemon, &["-e", "trace=sendmsg", "-e", &inject], Path::new("/dev/null"));
    let mut client = CTL.command(daemon, command);
    let fine = client.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success();
    if !fine {
        let log = daemon.log();
        eventually(&format!("{command:?} failed, and the daemon has ended:\n{log}"), || {
            daemon.has_ended().then_some(())
        });
    }
    tracer.detach();
    // It may have answered before it met its end.
    let killed = !fine || CTL.run(daemon, &["version"]).code != 0;
    if killed {
        daemon.kill();
        daemon.begin();
    }
    killed
}

#[test]
fn networks_agree_after_a_kill_before_any_step() {
    let mut daemon = Daemon::with_busybox();
    let networks = ["one", "two"];
    CTL.run(&daemon, &["network", "create", "one"]).ok();
    CTL.run(&daemon, &["network", "create", "--ipv6", "-o", "engine.bridge.guard=true", "two"]).ok();
    start(&daemon, "con", &["--network", "one", "-p", "7777:80"], "sleep 1000");
    let mut kills = [0; 3];
    for (at, action) in ["connect", "disconnect"].into_iter().enumerate() {
        let connects = action == "connect";
        for step in (1..).step_by(stride()) {
            let is_connected = assert_networks_agree(&daemon, "con", &networks) == 2;
            if is_connected == connects {
                let back = if connects { "disconnect" } else { "connect" };
                CTL.run(&daemon, &["network", back, "two", "con"]).ok();
            }
            if !killed_before(&mut daemon, step, &["network", action, "two", "con"]) {
                break;
            }
            kills[at] += 1;
        }
        assert_networks_agree(&daemon, "con", &networks);
    }
    // A start with a port, likewise: afterwards the port is free for the next.
    let run = ["run", "-d", "--name", "pub", "--network", "two", "-p", "8888:80", "-p", "9000-9100:9000-9100"];
    let run = [&run[..], &["busybox", "sleep", "1000"]].concat();
    for step in (1..).step_by(stride()) {
        let killed = killed_before(&mut daemon, step, &run);
        CTL.run(&daemon, &["rm", "-f", "pub"]);
        if !killed {
            break;
        }
        kills[2] += 1;
        CTL.run(&daemon, &run).ok();
        CTL.run(&daemon, &["rm", "-f", "pub"]).ok();
    }
    assert!(kills.iter().all(|kills| kills * stride() > 4), "{kills:?}");
    CTL.run(&daemon, &["rm", "-f", "con"]).ok();
    CTL.run(&daemon, &["network", "rm", "one", "two"]).ok();
    daemon.finish();
}
