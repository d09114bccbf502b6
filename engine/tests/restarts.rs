//! Restart policies, on a real kernel. Needs root.
#![allow(clippy::unwrap_used)]

mod place;

use std::time::Duration;

use engine::container::{RestartPolicy, Status};
use engine::events::{EventType, News, Subscription};
use engine::{Container, ContainerSpec, Engine, ErrorKind, RemoveOptions, StopOptions};
use place::{Place, shell};

fn spec(script: &str, policy: RestartPolicy) -> ContainerSpec {
    let mut spec = shell(script);
    spec.host.restart_policy = policy;
    spec
}

async fn told(events: &mut Subscription, container: &Container, action: &str) {
    loop {
        if let News::Event(event) = events.next().await
            && event.kind == EventType::Container
            && event.id == container.id().as_str()
            && event.action == action
        {
            return;
        }
    }
}

/// Looks again until it is so. Only for what no event tells.
async fn until(what: &str, so: impl Fn() -> bool) {
    for _ in 0..3000 {
        if so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("never came true: {what}");
}

#[tokio::test]
async fn a_failing_container_is_started_again_as_often_as_its_policy_says() {
    let place = Place::new();
    let engine = place.engine().await;
    let container = engine.containers().create(spec("echo run; exit 3", RestartPolicy::OnFailure(2))).await.unwrap();
    let mut events = engine.events().subscribe();
    container.start().await.unwrap();
    for _ in 0..3 {
        told(&mut events, &container, "start").await;
        told(&mut events, &container, "die").await;
    }
    until("it has ended", || container.record().state.status == Status::Exited).await;
    let record = container.record();
    assert_eq!((record.restart_count, record.state.exit_code), (2, 3));
    let text = std::fs::read_to_string(container.log_path().unwrap()).unwrap();
    assert_eq!(text.lines().count(), 3);
    // A start by hand counts from the beginning.
    container.start().await.unwrap();
    told(&mut events, &container, "start").await;
    told(&mut events, &container, "start").await;
    assert_eq!(container.record().restart_count, 1);
    container.remove(RemoveOptions::default().force(true)).await.unwrap();

    let fine = engine.containers().create(spec("true", RestartPolicy::OnFailure(2))).await.unwrap();
    fine.start().await.unwrap();
    assert_eq!(fine.wait().await.unwrap().code, 0);
    until("it has ended", || fine.record().state.status == Status::Exited).await;
    assert_eq!(fine.record().restart_count, 0);
}

#[tokio::test]
async fn what_is_stopped_on_purpose_stays_stopped() {
    let place = Place::new();
    let engine = place.engine().await;
    let container = engine
        .containers()
        .create(spec("trap 'exit 0' TERM; while :; do sleep 0.05; done", RestartPolicy::Always))
        .await
        .unwrap();
    let mut events = engine.events().subscribe();
    container.start().await.unwrap();
    container.stop(StopOptions::default()).await.unwrap();
    assert_eq!(container.record().state.status, Status::Exited);
    container.start().await.unwrap();
    container.kill("KILL").await.unwrap();
    assert_eq!(container.record().state.status, Status::Exited);
    container.start().await.unwrap();
    // Whoever kills its process from outside does not ask for an end.
    let _ = events.try_next();
    let pid = container.record().state.pid;
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(pid.cast_signed()).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    until("it runs again", || {
        let record = container.record();
        record.state.status == Status::Running && record.state.pid != pid && record.restart_count == 1
    })
    .await;
    container.restart(StopOptions::default()).await.unwrap();
    assert_eq!((container.record().state.status, container.record().restart_count), (Status::Running, 0));
    let error = container.remove(RemoveOptions::default()).await.unwrap_err();
    assert!(error.to_string().contains("container is running"), "{error}");
    container.remove(RemoveOptions::default().force(true)).await.unwrap();
}

#[tokio::test]
async fn between_two_runs_it_can_be_stopped_started_and_removed() {
    let place = Place::new();
    let engine = place.engine().await;
    let container = engine.containers().create(spec("exit 1", RestartPolicy::Always)).await.unwrap();
    let between = async || {
        container.start().await.unwrap();
        // The waits grow, so that it is soon found between two runs.
        until("it is between two runs", || {
            let record = container.record();
            record.state.status == Status::Restarting && record.restart_count > 3
        })
        .await;
    };
    between().await;
    let error = container.exec(engine::ExecSpec::new(["true"])).await.unwrap_err();
    assert!(error.to_string().contains("is restarting, wait until the container is running"), "{error}");
    let error = container.remove(RemoveOptions::default()).await.unwrap_err();
    assert!(error.to_string().contains("container is restarting"), "{error}");
    container.stop(StopOptions::default()).await.unwrap();
    let stopped = container.record();
    assert_eq!((stopped.state.status, stopped.state.exit_code), (Status::Exited, 1));
    assert_eq!(container.wait().await.unwrap().code, 1);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(container.record(), stopped);
    between().await;
    container.kill("").await.unwrap();
    assert_eq!(container.record().state.status, Status::Exited);
    between().await;
    container.remove(RemoveOptions::default().force(true)).await.unwrap();
    assert_eq!(engine.containers().get(container.id().as_str()).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn the_next_engine_goes_on_with_what_the_last_one_left() {
    let place = Place::new();
    let engine = place.engine().await;
    let script = "trap 'exit 0' TERM; while :; do sleep 0.05; done";
    let make = async |name: &str, policy, script: &str| {
        engine.containers().create(spec(script, policy).name(name)).await.unwrap()
    };
    let always = make("always", RestartPolicy::Always, script).await;
    let unless = make("unless", RestartPolicy::UnlessStopped, script).await;
    let dies = make("dies", RestartPolicy::UnlessStopped, script).await;
    let never = make("never", RestartPolicy::Always, script).await;
    let mut needs = spec("sleep 1000", RestartPolicy::Always).name("needs");
    needs.host.network_mode = engine::NetworkMode::Container("always".to_owned());
    let needs = engine.containers().create(needs).await.unwrap();
    for container in [&always, &unless, &dies, &needs] {
        container.start().await.unwrap();
    }
    for container in [&always, &unless, &needs] {
        container.stop(StopOptions::default().timeout(0)).await.unwrap();
    }
    let pid = dies.record().state.pid;
    drop((always, unless, dies, never, needs));
    engine.shutdown().await;
    drop(engine);
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(pid.cast_signed()).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();

    let engine = Engine::open(place.without_bridge()).await.unwrap();
    let get = async |name: &str| engine.containers().get(name).await.unwrap();
    for name in ["always", "dies", "needs"] {
        let container = get(name).await;
        until(name, || container.record().state.status == Status::Running).await;
    }
    assert_eq!(get("unless").await.record().state.status, Status::Exited);
    assert_eq!(get("never").await.record().state.status, Status::Created);
    assert_eq!((get("always").await.record().restart_count, get("dies").await.record().restart_count), (0, 1));
    for name in ["always", "dies", "needs", "unless", "never"] {
        get(name).await.remove(RemoveOptions::default().force(true)).await.unwrap();
    }
}

#[tokio::test]
async fn a_policy_and_removal_at_the_end_exclude_each_other() {
    let place = Place::new();
    let engine = place.engine().await;
    let error = engine.containers().create(spec("true", RestartPolicy::Always).auto_remove(true)).await.unwrap_err();
    assert_eq!(error.to_string(), "can't create 'AutoRemove' container with restart policy");
}
