//! Programs that link the library: alone, several at once on one root, beside the daemon, and when they die.
#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use support::client::Client;
use support::daemon::Daemon;
use support::leaks::Scene;
use support::network::Network;
use support::{archive, eventually, programs, run};

/// A root that programs share, with the eyes for what they leave.
struct Place {
    room: tempfile::TempDir,
    network: Network,
}

impl Place {
    fn new() -> Self {
        Self { room: tempfile::Builder::new().prefix("engine-test-").tempdir().unwrap(), network: Network::new() }
    }

    fn command(&self, example: &str) -> Command {
        let mut command = self.network.command(programs::example(example));
        command.arg(self.root()).arg(archive::busybox_file());
        command
    }

    fn root(&self) -> PathBuf {
        self.room.path().join("root")
    }

    /// Every example works beneath the default cgroup, which other tests use too, so that processes and files are what
    /// is looked at.
    fn scene(&self) -> Scene<'_> {
        let (root, run) = (self.root(), self.root().join("run"));
        Scene { room: self.room.path(), root, run, network: &self.network, cgroup: "engine-test-none", daemon: None }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.scene().remove();
    }
}

/// Whether it lives; a dead one that nobody has reaped yet does not.
fn runs(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

#[test]
fn a_program_is_an_engine() {
    let place = Place::new();
    let said = run(place.command("run_container").args(["sh", "-c", "echo out; echo err >&2; exit 3"]), b"").code(3);
    assert_eq!((said.stdout.as_str(), said.stderr.as_str()), ("out\n", "err\n"));
    let said = run(place.command("run_container").arg("nope"), b"").code(1);
    assert!(said.stderr.contains("executable file not found"), "{said:?}");
    place.scene().assert_clean();
}

#[test]
fn several_at_once_share_one_root() {
    let place = Place::new();
    std::thread::scope(|scope| {
        for number in 0..8 {
            let place = &place;
            scope.spawn(move || {
                let text = format!("number {number}");
                assert_eq!(run(place.command("run_container").args(["echo", &text]), b"").ok(), text);
            });
        }
    });
    place.scene().assert_clean();
    // The layers were unpacked once and are shared.
    let layers =
        std::fs::read_dir(place.root().join("layers")).unwrap().filter(|entry| entry.as_ref().unwrap().path().is_dir());
    assert_eq!(layers.count(), archive::busybox().layers.len());
}

/// Starts `two_lifetimes`; its process, and those of its two containers.
fn two_lifetimes(mut command: Command) -> (Child, u32, u32) {
    let mut host = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(host.stdout.take().unwrap()).lines();
    let mut pid = |name: &str| {
        let line = lines.next().unwrap().unwrap();
        line.strip_prefix(name).unwrap().trim().parse::<u32>().unwrap()
    };
    let (mortal, lasting) = (pid("mortal"), pid("lasting"));
    (host, mortal, lasting)
}

#[test]
fn when_the_program_is_killed_a_container_dies_or_lives_as_was_asked() {
    let place = Place::new();
    let (mut host, mortal, lasting) = two_lifetimes(place.command("two_lifetimes"));
    assert!(runs(mortal) && runs(lasting));
    host.kill().unwrap();
    host.wait().unwrap();
    eventually("the mortal one dies with its program", || (!runs(mortal)).then_some(()));
    assert!(runs(lasting));
    // The next engine on this root finds both: one to clean up after, one that is its own now.
    assert_eq!(run(place.command("run_container").args(["echo", "next"]), b"").ok(), "next");
    assert!(runs(lasting));
}

#[test]
fn a_program_beside_the_daemon_and_the_daemon_after_it() {
    let mut daemon = Daemon::with_busybox();
    // The daemon's run directory is not beneath its root, so the program is told the same two by a link.
    std::os::unix::fs::symlink(daemon.run_directory(), daemon.root().join("run")).unwrap();
    let example = |name: &str| {
        let mut command = daemon.network().command(programs::example(name));
        command.arg(daemon.root()).arg(archive::busybox_file());
        command
    };
    assert_eq!(run(example("run_container").args(["echo", "beside"]), b"").ok(), "beside");
    let (mut host, mortal, lasting) = two_lifetimes(example("two_lifetimes"));
    host.kill().unwrap();
    host.wait().unwrap();
    eventually("the mortal one dies with its program", || (!runs(mortal)).then_some(()));
    assert!(runs(lasting));
    daemon.stop();
    daemon.begin();
    let ctl = |arguments: &[&str]| Client::Enginectl.run(&daemon, arguments).ok();
    assert_eq!(ctl(&["inspect", "-f", "{{.State.Status}} {{.State.Pid}}", "lasting"]), format!("running {lasting}"));
    assert_eq!(ctl(&["exec", "lasting", "echo", "well"]), "well");
    assert_ne!(ctl(&["inspect", "-f", "{{.State.Status}}", "mortal"]), "running");
    ctl(&["rm", "-f", "lasting", "mortal"]);
    daemon.finish();
}

#[test]
fn a_program_with_a_network_driver_of_its_own() {
    let place = Place::new();
    let mut command = place.command("own_network_driver");
    // It runs `ip`.
    let ip = programs::borrowed("ip").parent().unwrap().to_owned();
    command.env("PATH", format!("{}:{}", ip.display(), std::env::var("PATH").unwrap_or_default()));
    let said = run(&mut command, b"").ok();
    assert!(said.contains("inet 10.99.0.2/24"), "{said}");
    eventually("its cable goes with the container", || {
        (!place.network.links().iter().any(|link| link.starts_with("cable"))).then_some(())
    });
}

#[test]
fn a_program_with_a_volume_driver_of_its_own() {
    let place = Place::new();
    let said = run(&mut place.command("own_volume_driver"), b"").ok();
    assert_eq!(said, "seed\nwritten\non the rack: written\nleft: 0");
}
