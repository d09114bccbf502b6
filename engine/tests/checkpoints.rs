//! Checkpoints by a stand-in for CRIU, a script that keeps where a counting program was; with CRIU itself the tests of
//! `tests/criu.rs` run, on a machine that `tests/cgroup2/run` boots.
#![allow(clippy::unwrap_used)]

mod place;

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use engine::container::{CheckpointOptions, RestartPolicy, Status};
use engine::{Container, ContainerSpec, Engine, ErrorKind, RemoveOptions};
use place::{Place, shell, with_busybox};

/// Notes its words in `calls` beside itself. Does what a file `refuse` there says, instead of what it is for.
const SCRIPT: &str = r#"#!/bin/sh
here=${0%/*}
echo "$PPID $*" >>"$here/calls"
verb=$1
shift
while [ $# -gt 0 ]; do
  case $1 in
    --images-dir) images=$2; shift ;;
    --log-file) log=$2; shift ;;
    --work-dir) cd "$2"; shift ;;
    --pidfile) pid_file=$2; shift ;;
    --tree) tree=$2; shift ;;
    --leave-running) leave=yes ;;
  esac
  shift
done
if [ -e "$here/refuse" ]; then
  echo half >"$images/half.img"
  . "$here/refuse"
fi
case $verb in
  dump)
    tail -n 1 "$here/counted" >"$images/count.img"
    echo x >"$images/inventory.img"
    [ -n "$leave" ] || kill -9 "$tree" ;;
  restore)
    ( i=$(cat "$images/count.img"); exec >/proc/self/fd/101 2>/proc/self/fd/102; while :; do echo "anew $i"; i=$((i+1)); sleep 0.02; done ) &
    echo $! >"$pid_file" ;;
esac
"#;

struct World {
    place: Place,
    engine: Engine,
}

impl World {
    async fn new() -> Self {
        let place = Place::new();
        std::fs::write(place.directory.path().join("script"), SCRIPT).unwrap();
        // By another process: a file that is open for writing here could not be executed.
        let paths = [place.directory.path().join("script"), place.directory.path().join("criu")];
        assert!(std::process::Command::new("cp").args(&paths).status().unwrap().success());
        std::fs::set_permissions(&paths[1], std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::write(place.directory.path().join("counted"), "41\n42\n").unwrap();
        let engine = Engine::open(Self::settings(&place)).await.unwrap();
        with_busybox(&engine).await;
        Self { place, engine }
    }

    fn settings(place: &Place) -> engine::Settings {
        place.without_bridge().criu(place.directory.path().join("criu").to_str().unwrap())
    }

    async fn started(&self, spec: ContainerSpec) -> Container {
        let container = self.engine.containers().create(spec).await.unwrap();
        container.start().await.unwrap();
        container
    }

    /// What it was called with, each line begun by its parent, which is never this program.
    fn calls(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.place.directory.path().join("calls")).unwrap_or_default();
        let own = std::process::id().to_string();
        text.lines()
            .map(|line| {
                let (parent, words) = line.split_once(' ').unwrap();
                assert_ne!(parent, own, "{words}");
                words.to_owned()
            })
            .collect()
    }

    fn refuse(&self, how: &str) {
        std::fs::write(self.place.directory.path().join("refuse"), how).unwrap();
    }
}

fn waiting() -> ContainerSpec {
    shell("echo up; exec sleep 1000")
}

fn leftovers(container: &Container) -> Vec<PathBuf> {
    let directory = container.directory().join("checkpoints");
    std::fs::read_dir(directory).map(|all| all.flatten().map(|entry| entry.path()).collect()).unwrap_or_default()
}

async fn until_logged(container: &Container, text: &str) {
    let log = || std::fs::read_to_string(container.log_path().unwrap()).unwrap_or_default();
    for _ in 0..600 {
        if log().contains(text) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{text}: {}", log());
}

#[tokio::test]
async fn a_container_goes_on_from_its_checkpoint() {
    let world = World::new().await;
    assert!(world.engine.containers().has_checkpoints());
    let mut spec = waiting().bind("data:/data");
    spec.host.restart_policy = RestartPolicy::Always;
    let container = world.started(spec).await;
    container.checkpoint("one", CheckpointOptions::default()).await.unwrap();
    // Whatever its policy is.
    let state = container.record().state.clone();
    assert_eq!((state.status, state.exit_code), (Status::Exited, 137));
    assert_eq!(container.checkpoints(None).await.unwrap(), ["one"]);
    let dump = world.calls().remove(0);
    assert!(!dump.contains("--leave-running"), "{dump}");
    for word in [
        "dump --images-dir ",
        "--manage-cgroups=ignore",
        "mnt[/data]:engine-",
        "mnt[/etc/hosts]:engine-",
        "]:engine-network",
    ] {
        assert!(dump.contains(word), "{word}: {dump}");
    }
    container.start_from("one", None).await.unwrap();
    until_logged(&container, "anew 42").await;
    until_logged(&container, "anew 43").await;
    assert_eq!(container.record().state.status, Status::Running);
    let restore = world.calls().pop().unwrap();
    for word in ["--restore-sibling", "fd[103]:engine-network", "fd[101]:pipe:[", "fd[102]:pipe:[", "/rootfs "] {
        assert!(restore.contains(word), "{word}: {restore}");
    }
    // It is stopped, and started anew, as any other.
    container.kill("KILL").await.unwrap();
    container.start().await.unwrap();
    container.remove_checkpoint("one", None).await.unwrap();
    assert!(leftovers(&container).is_empty());
    container.remove(RemoveOptions::default().force(true)).await.unwrap();
}

#[tokio::test]
async fn what_fails_leaves_it_running_and_nothing_else() {
    let world = World::new().await;
    let container = world.started(waiting()).await;
    world.refuse("echo 'Warn  nothing' >$log; echo '(00.1) Error (x.c:1): it is not liked' >>$log; exit 3");
    let error = container.checkpoint("one", CheckpointOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal);
    assert!(
        error.to_string().ends_with("dump: it ended with code 3: (00.1) Error (x.c:1): it is not liked"),
        "{error}"
    );
    // What comes before the log is opened is heard too; and what does not say that it failed is looked at.
    world.refuse("echo 'unrecognized option' >&2; exit 1");
    let error = container.checkpoint("one", CheckpointOptions::default()).await.unwrap_err().to_string();
    assert!(error.ends_with("it ended with code 1: unrecognized option"), "{error}");
    world.refuse("exit 0");
    let error = container.checkpoint("one", CheckpointOptions::default()).await.unwrap_err().to_string();
    assert!(error.ends_with("has written no checkpoint"), "{error}");
    assert!(leftovers(&container).is_empty(), "{:?}", leftovers(&container));
    let state = container.record().state.clone();
    assert!(state.status == Status::Running && !state.stopped_on_purpose);
    std::fs::remove_file(world.place.directory.path().join("refuse")).unwrap();
    container.checkpoint("one", CheckpointOptions::default()).await.unwrap();
    // A start that fails says why, and leaves the checkpoint.
    world.refuse("echo 'Error: no such kernel' >$log; exit 1");
    let error = container.start_from("one", None).await.unwrap_err().to_string();
    assert!(error.ends_with("restore: it ended with code 1: Error: no such kernel"), "{error}");
    world.refuse("exit 0");
    let error = container.start_from("one", None).await.unwrap_err().to_string();
    assert!(error.ends_with("restore: it left no process that lives"), "{error}");
    assert_eq!(container.record().state.status, Status::Exited);
    assert_eq!(container.checkpoints(None).await.unwrap(), ["one"]);
    container.start().await.unwrap();
    container.remove(RemoveOptions::default().force(true)).await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_is_refused_before_anything_is_done() {
    let world = World::new().await;
    let container = world.started(waiting()).await;
    for bad in ["", "x", "../up", "a/b", ".new-one"] {
        let error = container.checkpoint(bad, CheckpointOptions::default()).await.unwrap_err();
        assert_eq!((error.kind(), error.to_string().starts_with("Invalid checkpoint ID")), (ErrorKind::Invalid, true));
    }
    let relative = CheckpointOptions::default().directory("some/where");
    assert_eq!(container.checkpoint("one", relative).await.unwrap_err().kind(), ErrorKind::Invalid);
    for missing in [container.start_from("none", None).await, container.remove_checkpoint("none", None).await] {
        let error = missing.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert_eq!(error.to_string(), format!("checkpoint none does not exist for container {}", container.name()));
    }
    container.pause().await.unwrap();
    let error = container.checkpoint("one", CheckpointOptions::default()).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Conflict && error.to_string().contains("is paused"), "{error}");
    container.unpause().await.unwrap();
    container.checkpoint("one", CheckpointOptions::default().leave_running(true)).await.unwrap();
    assert!(world.calls()[0].contains("--leave-running"));
    assert_eq!(container.record().state.status, Status::Running);
    let error = container.checkpoint("one", CheckpointOptions::default()).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Conflict && error.to_string().contains("already exists"), "{error}");
    assert_eq!(container.start_from("one", None).await.unwrap_err().kind(), ErrorKind::NotModified);
    container.kill("KILL").await.unwrap();
    container.wait().await.unwrap();
    let error = container.checkpoint("two", CheckpointOptions::default()).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Conflict && error.to_string().ends_with("is not running"), "{error}");
    let directory = container.directory();
    container.remove(RemoveOptions::default()).await.unwrap();
    for spec in [waiting().tty(true), waiting().init(true)] {
        let other = world.started(spec).await;
        let error = other.checkpoint("one", CheckpointOptions::default()).await.unwrap_err();
        assert!(
            error.kind() == ErrorKind::Unsupported && error.to_string().contains("checkpoints of a container"),
            "{error}"
        );
        other.remove(RemoveOptions::default().force(true)).await.unwrap();
    }
    let gone = world.started(waiting().auto_remove(true)).await;
    let error = gone.checkpoint("one", CheckpointOptions::default()).await.unwrap_err();
    assert!(error.to_string().contains("is removed when it ends"), "{error}");
    gone.kill("KILL").await.unwrap();
    world.engine.shutdown().await;
    assert!(!directory.exists());
    // Where there is no such program.
    let engine = Engine::open(world.place.without_bridge().criu("/no/such/criu")).await.unwrap();
    assert!(!engine.containers().has_checkpoints());
    let container = engine.containers().create(waiting()).await.unwrap();
    container.start().await.unwrap();
    let error = container.checkpoint("one", CheckpointOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(
        error.to_string().contains("need the program CRIU on the engine's host; there is no \"/no/such/criu\""),
        "{error}"
    );
    container.remove(RemoveOptions::default().force(true)).await.unwrap();
    engine.shutdown().await;
}

#[tokio::test]
async fn what_a_dead_engine_left_half_done_is_finished_or_taken_away() {
    let world = World::new().await;
    let container = world.started(waiting()).await;
    let directory = container.directory().join("checkpoints");
    container.checkpoint("one", CheckpointOptions::default().leave_running(true)).await.unwrap();
    // As if the engine had died: one that had just begun, one that is taken away, one that was finished and ended it.
    let copy = |name: &str| {
        let to = directory.join(name);
        assert!(
            std::process::Command::new("cp").arg("-r").arg(directory.join("one")).arg(&to).status().unwrap().success()
        );
        to
    };
    let noted = |path: &PathBuf, exit: bool| {
        let text = std::fs::read_to_string(path.join("engine.json")).unwrap();
        std::fs::write(path.join("engine.json"), text.replace("\"exit\":false", &format!("\"exit\":{exit}"))).unwrap();
    };
    std::fs::remove_file(copy(".new-begun").join("inventory.img")).unwrap();
    noted(&copy(".new-whole"), true);
    copy(".new-going");
    copy(".old-gone");
    let World { place, engine } = world;
    drop(container);
    engine.shutdown().await;
    drop(engine);
    let engine = Engine::open(World::settings(&place)).await.unwrap();
    let container = engine.containers().list(&Default::default()).unwrap()[0].clone();
    let container = engine.containers().get(container.id.as_str()).await.unwrap();
    assert_eq!(container.checkpoints(None).await.unwrap(), ["one", "whole"]);
    assert_eq!(leftovers(&container).len(), 2);
    assert_eq!(container.record().state.status, Status::Running);
    container.remove(RemoveOptions::default().force(true)).await.unwrap();
    engine.shutdown().await;
}
