//! The daemon is killed at any moment of a pull, a load, a commit, a prune and while it makes room: the next one starts, every image is whole or
//! absent, nothing is left over, and what was interrupted can be done again.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::CTL;
use crate::support::archive::slow;
use crate::support::daemon::Daemon;
use crate::support::eventually;
use crate::support::registry::{Registry, Setup};

pub(crate) const REMOTE: &str = "127.0.0.1:5000/slow:1";

/// How often the daemon is killed; `ENGINE_KILLS` in the environment says more.
fn kills() -> usize {
    std::env::var("ENGINE_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(16)
}

pub(crate) fn assert_sound(daemon: &Daemon, round: usize, what: &str) {
    // The next engine removes what is left while nobody waits for it.
    eventually(&format!("nothing is left after round {round}, {what}"), || {
        let said = CTL.run(daemon, &["system", "check"]);
        assert_eq!(said.code, 0, "round {round}, {what}: {said:?}");
        if said.stdout.contains("leftover") {
            eprintln!("{}", said.stdout);
            return None;
        }
        Some(())
    });
}

#[test]
fn images_are_whole_or_absent_whenever_the_daemon_is_killed() {
    let mut daemon = Daemon::with_busybox();
    let _registry = Registry::empty(&daemon, &Setup::default());
    let archive = daemon.home().join("slow.tar");
    fs::write(&archive, slow(REMOTE).docker_archive()).unwrap();
    let archive = archive.to_str().unwrap();
    CTL.run(&daemon, &["load", "-i", archive]).ok();
    CTL.run(&daemon, &["push", REMOTE]).ok();
    let script = "for n in $(seq 200); do echo $n >/root/$n; done; dd if=/dev/urandom of=/root/large bs=1M count=2";
    CTL.run(&daemon, &["run", "--name", "writer", "--network", "none", "busybox", "sh", "-c", script]).ok();

    let commands: [&[&str]; 6] = [
        &["load", "-i", archive],
        &["image", "prune", "-af"],
        &["pull", REMOTE],
        &["system", "trim", "-f", "--compressed"],
        &["commit", "writer", "made:1"],
        &["system", "trim", "-f", "--to", "1k"],
    ];
    let mut moment = 0x2545_f491_u32;
    let mut random = move |below: u128| {
        moment ^= moment << 13;
        moment ^= moment >> 17;
        moment ^= moment << 5;
        u128::from(moment) % below.max(1)
    };
    // How long each takes here, so that most are killed in their midst.
    let mut whole = commands.map(|command| {
        let started = Instant::now();
        CTL.run(&daemon, command).ok();
        started.elapsed()
    });
    for round in 0..kills() {
        let number = round % commands.len();
        let (command, what) = (commands[number], commands[number].join(" "));
        // What is pulled or loaded must not be there, and what is made smaller must be.
        match number {
            0 | 2 => drop(CTL.run(&daemon, &["rmi", "-f", REMOTE])),
            3 | 5 => drop(CTL.run(&daemon, &["pull", REMOTE]).ok()),
            _ => {}
        }
        let mut client = CTL.command(&daemon, command);
        let mut client = client.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let pause = random(whole[number].as_micros() * 5 / 4);
        std::thread::sleep(Duration::from_micros(u64::try_from(pause).unwrap()));
        daemon.kill();
        client.kill().unwrap();
        client.wait().unwrap();
        daemon.begin();
        assert_sound(&daemon, round, &what);
        let started = Instant::now();
        CTL.run(&daemon, command).ok();
        whole[number] = started.elapsed();
    }
    assert_sound(&daemon, kills(), "all of it");
    CTL.run(&daemon, &["rm", "writer"]).ok();
    for (directory, id) in [("layer0", "file0"), ("layer2", "large")] {
        CTL.run(&daemon, &["pull", REMOTE]).ok();
        CTL.run(&daemon, &["create", "--name", id, REMOTE, "x"]).ok();
        let copied = daemon.home().join(id);
        CTL.run(&daemon, &["cp", &format!("{id}:/{directory}/{id}"), copied.to_str().unwrap()]).ok();
        assert!(fs::metadata(copied).unwrap().len() > 0);
        CTL.run(&daemon, &["rm", id]).ok();
    }
    daemon.finish();
}
