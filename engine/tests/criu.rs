//! Checkpoints by CRIU itself, of a program that counts in memory. Needs root, CRIU with a kernel that it gets along with, and GNU
//! tar; `tests/cgroup2/run` boots a machine that has them.
#![allow(clippy::unwrap_used)]

mod place;

use std::time::Duration;

use engine::container::{CheckpointOptions, ExecSpec, Status};
use engine::{Container, ContainerSpec, Engine, ErrorKind, NetworkMode, RemoveOptions};
use place::{Place, shell};
use tokio::io::AsyncReadExt as _;

const COUNTING: &str = "i=0; while :; do echo $i; i=$((i+1)); sleep 0.1; done";

async fn started(engine: &Engine, spec: ContainerSpec) -> Container {
    let container = engine.containers().create(spec).await.unwrap();
    container.start().await.unwrap();
    container
}

/// The numbers that it has counted so far, in all of its runs.
fn counted(container: &Container) -> Vec<u64> {
    let text = std::fs::read_to_string(container.log_path().unwrap()).unwrap_or_default();
    let number = |line: &str| line.split("\"log\":\"").nth(1)?.split('\\').next()?.parse().ok();
    text.lines().filter_map(number).collect()
}

/// As [`counted`], once there are so many.
async fn until_counted(container: &Container, least: usize) -> Vec<u64> {
    for _ in 0..1200 {
        let numbers = counted(container);
        if numbers.len() >= least {
            return numbers;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("it does not count: {:?}", counted(container));
}

fn status(container: &Container) -> Status {
    container.record().state.status
}

/// What a checkpoint was tried for and how that was refused.
async fn refused(container: &Container, name: &str, options: CheckpointOptions) -> (ErrorKind, String) {
    let error = container.checkpoint(name, options).await.unwrap_err();
    (error.kind(), error.to_string())
}

#[tokio::test]
async fn a_start_goes_on_from_where_the_checkpoint_was() {
    let place = Place::new();
    let engine = place.engine().await;
    let container = started(&engine, shell(COUNTING).tmpfs("/run", "size=1m")).await;
    until_counted(&container, 5).await;
    container.checkpoint("first", CheckpointOptions::default()).await.unwrap();
    assert_eq!((status(&container), container.record().state.exit_code), (Status::Exited, 137));
    assert_eq!(container.checkpoints(None).await.unwrap(), ["first"]);
    let before = counted(&container);
    assert_eq!(before, (0..before.len() as u64).collect::<Vec<_>>());
    // Twice from the same one.
    for round in 1..=2 {
        let seen = counted(&container).len();
        container.start_from("first", None).await.unwrap();
        let numbers = until_counted(&container, seen + 5).await;
        let first = before.len() as u64;
        assert_eq!(numbers[seen..seen + 5], [first, first + 1, first + 2, first + 3, first + 4], "round {round}");
        container.kill("KILL").await.unwrap();
        container.wait().await.unwrap();
    }
    // Any other start begins anew.
    let seen = counted(&container).len();
    container.start().await.unwrap();
    assert_eq!(until_counted(&container, seen + 1).await[seen], 0);
    assert_eq!(container.start_from("first", None).await.unwrap_err().kind(), ErrorKind::NotModified);
    container.remove_checkpoint("first", None).await.unwrap();
    assert!(container.checkpoints(None).await.unwrap().is_empty());
    container.remove(RemoveOptions::default().force(true)).await.unwrap();
}

/// What it says of itself when it is asked by a signal.
async fn told(container: &Container) -> Vec<String> {
    let log = || std::fs::read_to_string(container.log_path().unwrap()).unwrap();
    let before = log().len();
    container.kill("USR1").await.unwrap();
    for _ in 0..600 {
        let said = log()[before..].to_owned();
        if said.contains("that is all") {
            let lines =
                said.lines().filter_map(|line| Some(line.split("\"log\":\"").nth(1)?.split('"').next()?.to_owned()));
            return lines.filter(|line| line.trim_end_matches("\\n").parse::<u64>().is_err()).collect();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("it does not hear: {}", log());
}

#[tokio::test]
async fn what_is_left_running_goes_on_and_is_as_confined_as_before() {
    let place = Place::new();
    let engine = place.engine().await;
    let room = tempfile::tempdir().unwrap();
    let bind = format!("{}:/bound:ro", room.path().display());
    let script = format!(
        "echo kept >/run/file; trap 'grep -E \"Cap|Secc|NoNew\" /proc/self/status; cat /proc/self/cgroup; echo $(wc -c </proc/kcore) bytes; \
         (echo 1 >/proc/sys/vm/swappiness) 2>&1; touch /bound/x 2>&1; ls /sys/firmware | wc -l | sed s/^/firmware/; hostname; \
         cat /run/file; ls /sys/fs/cgroup/cgroup.procs; mount | grep -v overlay | cut -d\" \" -f 3,5- | sort; echo that is all' USR1; {COUNTING}"
    );
    let spec = shell(&script).bind(bind).bind("data:/data").tmpfs("/run", "size=1m").pids_limit(50);
    let container = started(&engine, spec).await;
    until_counted(&container, 3).await;
    container.checkpoint("going-on", CheckpointOptions::default().leave_running(true)).await.unwrap();
    assert_eq!(status(&container), Status::Running);
    let seen = counted(&container).len();
    until_counted(&container, seen + 3).await;
    let before = told(&container).await;
    for line in ["Seccomp:\\u00092\\n", "0::/\\n", "0 bytes\\n", "firmware0\\n", "kept\\n"] {
        assert!(before.iter().any(|said| said == line), "{line}: {before:?}");
    }
    assert_eq!(before.iter().filter(|said| said.contains("Read-only file system")).count(), 2, "{before:?}");
    container.kill("KILL").await.unwrap();
    container.wait().await.unwrap();
    let seen = counted(&container).len();
    container.start_from("going-on", None).await.unwrap();
    until_counted(&container, seen + 3).await;
    assert_eq!(told(&container).await, before);
    // What runs is a container like any other.
    let exec = container.exec(ExecSpec::new(["cat", "/run/file"])).await.unwrap();
    let mut text = String::new();
    exec.attach().await.unwrap().read_to_string(&mut text).await.unwrap();
    assert_eq!((text.as_str(), exec.wait().await.unwrap()), ("kept\n", 0));
    container.pause().await.unwrap();
    container.unpause().await.unwrap();
    assert!(container.sample().await.unwrap().is_some());
    let directory = container.directory();
    container.remove(RemoveOptions::default().force(true)).await.unwrap();
    engine.shutdown().await;
    assert!(!directory.exists());
}

/// What a container says to who connects to it.
async fn heard(container: &Container) -> String {
    let endpoints = container.record().endpoints.clone();
    let address = endpoints[0].interface.as_ref().unwrap().address.unwrap();
    for _ in 0..200 {
        if let Ok(mut stream) = tokio::net::TcpStream::connect((address, 7000)).await {
            let mut text = String::new();
            stream.read_to_string(&mut text).await.unwrap();
            return text;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("nothing answers at {address}");
}

#[tokio::test]
async fn one_on_a_bridge_listens_again() {
    let place = Place::new();
    let engine = Engine::open(place.settings()).await.unwrap();
    place::with_busybox(&engine).await;
    let script = format!("nc -ll -p 7000 -e sh -c 'hostname; cat /proc/net/dev | wc -l' & {COUNTING}");
    let spec = || shell(&script).network(NetworkMode::Default).hostname("box");
    let container = started(&engine, spec()).await;
    assert_eq!(heard(&container).await, "box\n4\n");
    container.checkpoint("listening", CheckpointOptions::default()).await.unwrap();
    // Whoever comes first has the address that was free.
    let other = started(&engine, spec()).await;
    container.start_from("listening", None).await.unwrap();
    let seen = counted(&container).len();
    until_counted(&container, seen + 3).await;
    for one in [&container, &other] {
        assert_eq!(heard(one).await, "box\n4\n");
        one.remove(RemoveOptions::default().force(true)).await.unwrap();
    }
    engine.shutdown().await;
}

#[tokio::test]
async fn checkpoints_lie_where_they_are_asked_for() {
    let place = Place::new();
    let engine = place.engine().await;
    let room = tempfile::tempdir().unwrap();
    let elsewhere = CheckpointOptions::default().directory(room.path());
    let container = started(&engine, shell(COUNTING).network(NetworkMode::Host)).await;
    until_counted(&container, 3).await;
    container.checkpoint("moved", elsewhere.clone()).await.unwrap();
    assert!(container.checkpoints(None).await.unwrap().is_empty());
    assert_eq!(container.checkpoints(Some(room.path())).await.unwrap(), ["moved"]);
    assert_eq!(container.start_from("moved", None).await.unwrap_err().kind(), ErrorKind::NotFound);
    let seen = counted(&container).len();
    container.start_from("moved", Some(room.path())).await.unwrap();
    assert_eq!(until_counted(&container, seen + 1).await[seen], seen as u64);
    let (kind, error) = refused(&container, "moved", elsewhere).await;
    assert_eq!(kind, ErrorKind::Conflict, "{error}");
    container.remove_checkpoint("moved", Some(room.path())).await.unwrap();
    assert_eq!(std::fs::read_dir(room.path()).unwrap().count(), 0);
    container.remove(RemoveOptions::default().force(true)).await.unwrap();
}

#[tokio::test]
async fn what_criu_cannot_write_down_goes_on_and_leaves_nothing() {
    let place = Place::new();
    let engine = place.engine().await;
    // A file that was deleted and is too large to be taken along.
    let script = format!("exec 7>/large; dd if=/dev/zero of=/large bs=1M count=300 2>/dev/null; rm /large; {COUNTING}");
    let container = started(&engine, shell(&script)).await;
    until_counted(&container, 3).await;
    let (kind, error) = refused(&container, "never", CheckpointOptions::default()).await;
    assert_eq!(kind, ErrorKind::Internal);
    assert!(error.contains("criu dump: it ended with code 1: ") && error.contains("ghost"), "{error}");
    assert_eq!(std::fs::read_dir(container.directory().join("checkpoints")).unwrap().count(), 0);
    let seen = counted(&container).len();
    until_counted(&container, seen + 3).await;
    assert!(!container.record().state.stopped_on_purpose);
    container.remove(RemoveOptions::default().force(true)).await.unwrap();
}
