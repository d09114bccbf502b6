//! What containers may take, and what they use, on a real kernel. Needs root.
#![allow(clippy::unwrap_used)]

mod place;

use engine::container::{Change, Resources, RestartPolicy, Status};
use engine::events::EventType;
use engine::{Bytes, Engine, ErrorKind, RemoveOptions};
use place::{Place, shell};

const MIB: i64 = 1 << 20;

async fn in_it(container: &engine::Container, script: &str) -> String {
    let exec = container.exec(engine::ExecSpec::new(["sh", "-c", script])).await.unwrap();
    let mut attached = exec.attach().await.unwrap();
    let mut bytes = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(&mut attached, &mut bytes).await.unwrap();
    String::from_utf8(bytes).unwrap().trim().to_owned()
}

fn change(set: impl FnOnce(&mut Resources)) -> Change {
    let mut change = Change::default();
    set(&mut change.resources);
    change
}

#[tokio::test]
async fn a_running_container_is_given_other_bounds() {
    let place = Place::new();
    let engine = place.engine().await;
    let abilities = engine.containers().abilities();
    assert!(abilities.memory && abilities.pids && abilities.cpu_quota, "{abilities:?}");
    let container =
        engine.containers().create(shell("sleep 1000").memory(Bytes::mib(64)).pids_limit(50)).await.unwrap();
    container.start().await.unwrap();
    let warnings = container
        .update(change(|resources| {
            (resources.memory, resources.memory_swap) = (96 * MIB, 200 * MIB);
            resources.pids_limit = Some(70);
            resources.cpu_quota = 20_000;
        }))
        .await
        .unwrap();
    assert!(warnings.is_empty() || !abilities.swap, "{warnings:?}");
    let limits = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null;
        cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2>/dev/null";
    let limits: Vec<_> = in_it(&container, limits).await.lines().map(str::to_owned).collect();
    assert_eq!(limits, [(96 * MIB).to_string(), "70".to_owned()]);
    let kept = container.record().config.host.resources.clone();
    assert_eq!((kept.memory, kept.pids_limit, kept.cpu_quota), (96 * MIB, Some(70), 20_000));
    // What cannot be leaves everything as it was.
    let error = container.update(change(|resources| resources.memory = 1)).await.unwrap_err();
    assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Invalid, "Minimum memory limit allowed is 6MB"));
    let error = container.update(change(|resources| resources.memory = 500 * MIB)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().starts_with(&format!("Cannot update container {}: ", container.id())), "{error}");
    let error = container.update(change(|resources| resources.nano_cpus = 1_000_000_000)).await.unwrap_err();
    assert!(error.to_string().contains("CPU Quota has already been set"), "{error}");
    assert_eq!(container.record().config.host.resources, kept);
    container.remove(RemoveOptions::default().force(true)).await.unwrap();
}

#[tokio::test]
async fn one_that_does_not_run_has_its_new_bounds_from_the_next_start_on() {
    let place = Place::new();
    let engine = place.engine().await;
    let container = engine.containers().create(shell("exit 1")).await.unwrap();
    let mut change = change(|resources| resources.pids_limit = Some(33));
    change.restart_policy = Some(RestartPolicy::OnFailure(1));
    container.update(change).await.unwrap();
    container.start().await.unwrap();
    let mut events = engine.events().subscribe();
    while container.record().state.status != engine::container::Status::Exited {
        events.next().await;
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(container.record().restart_count, 1);
    let gone = engine.containers().create(shell("true").auto_remove(true)).await.unwrap();
    let mut policy = Change::default();
    policy.restart_policy = Some(RestartPolicy::Always);
    assert!(gone.update(policy).await.unwrap_err().to_string().contains("AutoRemove is enabled"));
}

#[tokio::test]
async fn what_it_uses_is_sampled() {
    let place = Place::new();
    let engine = place.engine().await;
    let container =
        engine.containers().create(shell("echo up; while :; do :; done").memory(Bytes::mib(64))).await.unwrap();
    assert_eq!(container.sample().await.unwrap(), None);
    container.start().await.unwrap();
    place::says(&container, "up").await;
    let (before, after) = container.sample_twice().await.unwrap().unwrap();
    assert!(after.at > before.at && after.system > before.system && after.processors > 0);
    assert!(after.usage.cpu.total > before.usage.cpu.total, "{before:?} {after:?}");
    assert_eq!(after.usage.memory.limit, Some(64 << 20));
    assert!(after.usage.memory.usage > 0 && after.memory > 64 << 20 && after.usage.pids.current >= 1);
    assert!(after.interfaces.is_empty());
    container.remove(RemoveOptions::default().force(true)).await.unwrap();
    assert_eq!(container.sample().await.unwrap(), None);
    assert!(container.is_gone());
}

#[tokio::test]
async fn a_container_that_takes_too_much_memory_is_killed_and_says_so() {
    let place = Place::new();
    let engine = place.engine().await;
    let mut spec = shell("exec tail /dev/zero").memory(Bytes::mib(8));
    spec.host.resources.memory_swap = 8 * MIB;
    let begun = now();
    let container = engine.containers().create(spec).await.unwrap();
    container.start().await.unwrap();
    assert_eq!(container.wait().await.unwrap().code, 137);
    assert!(container.record().state.oom_killed);
    assert_eq!(told(&engine, begun), ["create", "start", "oom", "die"]);
    container.remove(RemoveOptions::default()).await.unwrap();
}

#[tokio::test]
async fn one_that_goes_on_when_memory_was_used_up_says_so_meanwhile() {
    let place = Place::new();
    let engine = place.engine().await;
    let mut spec = shell("tail /dev/zero; while :; do sleep 0.1; done").memory(Bytes::mib(8));
    spec.host.resources.memory_swap = 8 * MIB;
    let begun = now();
    let container = engine.containers().create(spec).await.unwrap();
    container.start().await.unwrap();
    for _ in 0..600 {
        if container.record().state.oom_killed {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let state = container.record().state.clone();
    assert_eq!((state.status, state.oom_killed), (Status::Running, true));
    container.kill("KILL").await.unwrap();
    container.wait().await.unwrap();
    assert!(container.record().state.oom_killed);
    let told = told(&engine, begun);
    assert_eq!(told.iter().filter(|action| *action == "oom").count(), 1, "{told:?}");
    container.remove(RemoveOptions::default()).await.unwrap();
}

/// Nanoseconds since 1970.
fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_nanos()).unwrap()
}

/// What happened to containers since then.
fn told(engine: &Engine, since: i64) -> Vec<String> {
    let events = engine.events().recent(since);
    events.iter().filter(|event| event.kind == EventType::Container).map(|event| event.action.clone()).collect()
}

#[tokio::test]
async fn realtime_scheduling_is_had_of_the_part_that_containers_were_given() {
    let place = Place::new();
    let asked = || {
        let mut spec = shell("sleep 1000");
        spec.host.resources.cpu_realtime_runtime = 40_000;
        spec.host.resources.cpu_realtime_period = 150_000;
        spec
    };
    let engine = place.engine().await;
    if !engine.containers().abilities().cpu_realtime {
        assert!(engine.containers().create(asked()).await.unwrap_err().to_string().contains("real-time"));
        return;
    }
    let without = engine.containers().create(asked()).await.unwrap();
    assert!(without.start().await.unwrap_err().to_string().contains("cpu.rt_runtime_us"));
    without.remove(RemoveOptions::default()).await.unwrap();
    drop((without, engine));
    let mut settings = place.without_bridge();
    settings.realtime = Some(engine::cgroup::Realtime { period: 1_000_000, runtime: 300_000 });
    let engine = engine::Engine::open(settings).await.unwrap();
    let container = engine.containers().create(asked()).await.unwrap();
    container.start().await.unwrap();
    let budget = "cat /sys/fs/cgroup/cpu/cpu.rt_period_us /sys/fs/cgroup/cpu/cpu.rt_runtime_us";
    assert_eq!(in_it(&container, budget).await, "150000\n40000");
    container.remove(RemoveOptions::default().force(true)).await.unwrap();
}

#[tokio::test]
async fn several_are_measured_at_once() {
    let place = Place::new();
    let engine = place.engine().await;
    let mut containers = Vec::new();
    for name in ["one", "two", "off"] {
        let container = engine.containers().create(shell("sleep 1000").name(name)).await.unwrap();
        if name != "off" {
            container.start().await.unwrap();
        }
        containers.push(container);
    }
    let all = engine.containers();
    let once = all.samples(&containers).await.unwrap();
    assert_eq!(once.iter().map(Option::is_some).collect::<Vec<_>>(), [true, true, false]);
    assert!(once[0].as_ref().unwrap().usage.memory.usage > 0);
    let twice = all.samples_twice(&containers).await.unwrap();
    assert_eq!(twice.iter().map(Option::is_some).collect::<Vec<_>>(), [true, true, false]);
    assert!(twice.iter().flatten().all(|(before, now)| before.at < now.at));
    assert!(all.samples(&[]).await.unwrap().is_empty());
    for container in containers {
        container.remove(RemoveOptions::default().force(true)).await.unwrap();
    }
}
