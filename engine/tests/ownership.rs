//! Who owns a container when engines come and go. Needs root.
#![allow(clippy::unwrap_used)]

mod place;

use std::os::unix::process::ExitStatusExt as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use engine::container::Status;
use engine::{ContainerFilter, Engine, ErrorKind, ExecSpec, Lifetime, LogOptions, RemoveOptions, WaitCondition};
use place::{Place, says, shell};
use tokio::io::AsyncReadExt as _;

fn lives(pid: u32) -> bool {
    // A zombie waits for its parent only.
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

async fn until(what: impl Fn() -> bool) {
    for _ in 0..1000 {
        if what() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it did not happen");
}

#[tokio::test]
async fn a_container_of_the_engine_ends_with_it() {
    let place = Place::new();
    let engine = place.engine().await;
    let container =
        engine.containers().create(shell("sleep 1000").name("short").lifetime(Lifetime::Engine)).await.unwrap();
    container.start().await.unwrap();
    let pid = container.record().state.pid;
    assert!(lives(pid));
    drop(engine);
    drop(container);
    until(|| !lives(pid)).await;
    let next = Engine::open(place.without_bridge()).await.unwrap();
    let container = next.containers().get("short").await.unwrap();
    assert_eq!(container.wait().await.unwrap().code, 137);
    container.remove(RemoveOptions::default()).await.unwrap();
}

#[tokio::test]
async fn a_shutdown_ends_what_lives_no_longer_and_waits_for_it() {
    let place = Place::new();
    let engine = place.engine().await;
    let short = engine.containers().create(shell("sleep 1000").lifetime(Lifetime::Engine)).await.unwrap();
    let long = engine.containers().create(shell("sleep 1000").name("long")).await.unwrap();
    short.start().await.unwrap();
    long.start().await.unwrap();
    engine.shutdown().await;
    assert_eq!((short.record().state.status, short.record().state.exit_code), (Status::Exited, 137));
    assert!(lives(long.record().state.pid));
    drop(engine);
    let next = Engine::open(place.without_bridge()).await.unwrap();
    let long = next.containers().get("long").await.unwrap();
    assert_eq!(long.record().state.status, Status::Running);
    long.remove(RemoveOptions::default().force(true)).await.unwrap();
}

#[tokio::test]
async fn an_independent_container_is_taken_over() {
    let place = Place::new();
    let engine = place.engine().await;
    let container = engine.containers().create(shell("while :; do date; sleep 0.02; done").name("long")).await.unwrap();
    container.start().await.unwrap();
    let pid = container.record().state.pid;
    drop((engine, container));
    let next = Engine::open(place.without_bridge()).await.unwrap();
    let container = next.containers().get("long").await.unwrap();
    assert_eq!((container.record().state.status, container.record().state.pid), (Status::Running, pid));
    let exec = container.exec(ExecSpec::new(["echo", "still"])).await.unwrap();
    let mut text = String::new();
    exec.attach().await.unwrap().read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "still\n");
    container.pause().await.unwrap();
    container.unpause().await.unwrap();
    let end = container.waiter(WaitCondition::NextExit);
    container.kill("KILL").await.unwrap();
    assert_eq!(end.await.unwrap().code, 137);
    assert!(!container.logs(LogOptions::default()).unwrap().next_batch().await.unwrap().unwrap().is_empty());
    container.start().await.unwrap();
    container.remove(RemoveOptions::default().force(true)).await.unwrap();
}

#[tokio::test]
async fn what_ended_unwatched_has_its_exit_code() {
    let place = Place::new();
    let engine = place.engine().await;
    let gate = place.directory.path().join("gate");
    std::fs::create_dir(&gate).unwrap();
    let wait = |code: u32| format!("while [ ! -e /gate/open ]; do sleep 0.01; done; exit {code}");
    let bind = format!("{}:/gate", gate.display());
    let kept = engine.containers().create(shell(&wait(6)).bind(&bind).name("kept")).await.unwrap();
    let once = engine.containers().create(shell(&wait(7)).bind(&bind).name("once").auto_remove(true)).await.unwrap();
    kept.start().await.unwrap();
    once.start().await.unwrap();
    let pids = [kept.record().state.pid, once.record().state.pid];
    drop((engine, kept, once));
    std::fs::write(gate.join("open"), "").unwrap();
    until(|| pids.iter().all(|pid| !lives(*pid))).await;
    let next = Engine::open(place.without_bridge()).await.unwrap();
    let kept = next.containers().get("kept").await.unwrap();
    assert_eq!(kept.wait().await.unwrap().code, 6);
    let gone = next.containers().get("once").await;
    assert_eq!(gone.unwrap_err().kind(), ErrorKind::NotFound);
    kept.remove(RemoveOptions::default()).await.unwrap();
}

#[tokio::test]
async fn two_engines_see_each_other() {
    let place = Place::new();
    let one = place.engine().await;
    let two = Engine::open(place.without_bridge()).await.unwrap();
    let container = one.containers().create(shell("echo up; sleep 1000").name("ones")).await.unwrap();
    container.start().await.unwrap();
    says(&container, "up").await;
    let seen = two.containers().get("ones").await.unwrap();
    assert_eq!(seen.record().state.status, Status::Running);
    assert_eq!(two.containers().list(&ContainerFilter::new()).unwrap().len(), 1);
    let error = seen.remove(RemoveOptions::default().force(true)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().contains("belongs to another running engine"), "{error}");
    assert_eq!(two.containers().create(shell("true").name("ones")).await.unwrap_err().kind(), ErrorKind::Conflict);
    drop((one, container));
    // Whoever asks next finds it without an owner.
    let mut taken = false;
    for _ in 0..500 {
        if two.containers().get("ones").await.unwrap().stop(engine::StopOptions::default().timeout(0)).await.is_ok() {
            taken = true;
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(taken, "the container was never taken over");
    two.containers().get("ones").await.unwrap().remove(RemoveOptions::default()).await.unwrap();
}

/// The program itself, run a second time as the engine that is killed.
const CHILD: &str = "ENGINE_TEST_CHILD_ROOT";

#[tokio::test]
async fn the_engine_that_is_killed() {
    // Only when it is run by the test below; on its own there is nothing to do for it.
    let Some(root) = std::env::var_os(CHILD) else { return };
    let root = std::path::PathBuf::from(root);
    let name = root.file_name().unwrap().to_str().unwrap().trim_start_matches('.').to_owned();
    let settings = engine::Settings::at(&root)
        .cgroup_parent(format!("engine-test-{name}"))
        .bridge(engine::settings::BridgeSettings::disabled())
        .firewall(false);
    let engine = Engine::open(settings).await.unwrap();
    for (name, lifetime) in [("short", Lifetime::Engine), ("long", Lifetime::Independent)] {
        let container = engine.containers().create(shell("sleep 1000").name(name).lifetime(lifetime)).await.unwrap();
        container.start().await.unwrap();
    }
    std::fs::write(root.join("ready"), "").unwrap();
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn a_killed_engine_leaves_nothing_undone() {
    let place = Place::new();
    drop(place.engine().await);
    let root = place.directory.path().to_owned();
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_engine_that_is_killed"])
        .env(CHILD, &root)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    until(|| root.join("ready").exists()).await;
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(9));
    // A create that was cut off.
    let stray = root.join("containers").join("a".repeat(64));
    std::fs::create_dir_all(stray.join("upper")).unwrap();
    let next = Engine::open(place.without_bridge()).await.unwrap();
    assert!(!stray.exists());
    let short = next.containers().get("short").await.unwrap();
    assert_eq!(short.wait().await.unwrap().code, 137);
    let long = next.containers().get("long").await.unwrap();
    assert_eq!(long.record().state.status, Status::Running);
    for container in [short, long] {
        container.remove(RemoveOptions::default().force(true)).await.unwrap();
    }
    next.shutdown().await;
    drop(next);
    for kind in ["containers", "run/containers", "run/engines"] {
        let left: Vec<_> = std::fs::read_dir(root.join(kind)).unwrap().flatten().map(|entry| entry.path()).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[test]
fn a_removed_container_is_gone_when_the_program_ends_at_once() {
    let place = Place::new();
    let ended = AtomicBool::new(false);
    let left = std::thread::scope(|scope| {
        // Threads wake up late on a busy machine, so that the runtime ends before it begins what nobody waits for.
        for _ in 0..8 {
            scope.spawn(|| {
                while !ended.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let removed = std::panic::catch_unwind(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let (_engine, files) = runtime.block_on(async {
                let engine = place.engine().await;
                let container = engine.containers().create(shell("true")).await.unwrap();
                let files = place.directory.path().join("containers").join(container.id().as_str());
                assert!(files.exists());
                container.remove(RemoveOptions::default()).await.unwrap();
                (engine, files)
            });
            drop(runtime);
            files.exists()
        });
        ended.store(true, Ordering::Relaxed);
        removed
    });
    assert!(!left.unwrap());
}
