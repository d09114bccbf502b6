//! Health checks, on a real kernel. Needs root.
#![allow(clippy::unwrap_used)]

mod place;

use engine::container::{HealthStatus, RestartPolicy, Status};
use engine::events::{EventType, News, Subscription};
use engine::oci::Healthcheck;
use engine::{Container, ContainerFilter, ContainerSpec, Engine, RemoveOptions, StopOptions};
use place::{Place, shell};

const MILLISECOND: i64 = 1_000_000;

/// Runs on until it is told to end.
const RUNS: &str = "trap 'exit 0' TERM; while :; do sleep 0.05; done";

fn asked(script: &str, test: &[&str]) -> ContainerSpec {
    let mut spec = shell(script);
    spec.healthcheck = Some(Healthcheck {
        test: test.iter().map(|&word| word.to_owned()).collect(),
        interval: 20 * MILLISECOND,
        retries: 2,
        ..Healthcheck::default()
    });
    spec
}

/// Waits for an event of a container and answers what else happened to it meanwhile.
async fn told(events: &mut Subscription, container: &Container, action: &str) -> Vec<String> {
    let mut before = Vec::new();
    loop {
        if let News::Event(event) = events.next().await
            && event.kind == EventType::Container
            && event.id == container.id().as_str()
        {
            if event.action == action {
                return before;
            }
            before.push(event.action.clone());
        }
    }
}

fn status(container: &Container) -> HealthStatus {
    container.record().health.as_ref().unwrap().status
}

#[tokio::test]
async fn a_container_is_asked_and_told_of() {
    let place = Place::new();
    let engine = place.engine().await;
    let spec = asked(RUNS, &["CMD-SHELL", "echo asked; test -e /well"]).name("it");
    let container = engine.containers().create(spec).await.unwrap();
    assert!(container.record().health.is_none());
    let mut events = engine.events().subscribe();
    container.start().await.unwrap();
    assert_eq!(status(&container), HealthStatus::Starting);
    told(&mut events, &container, "health_status: unhealthy").await;
    let health = container.record().health.clone().unwrap();
    assert!(health.failing_streak >= 2);
    let answer = health.log.last().unwrap();
    assert_eq!((answer.exit_code, answer.output.as_str()), (1, "asked\n"));
    assert!(answer.start >= container.record().state.started_at && answer.end >= answer.start);
    container.exec(engine::ExecSpec::new(["touch", "/well"])).await.unwrap().start().await.unwrap();
    let between = told(&mut events, &container, "health_status: healthy").await;
    // What the engine itself runs in it is no news.
    assert!(!between.iter().any(|action| action.contains("echo asked")), "{between:?}");
    let with = |word: &str| engine.containers().list(&ContainerFilter::new().with("health", word).unwrap()).unwrap();
    assert_eq!((with("healthy").len(), with("unhealthy").len(), with("none").len()), (1, 0, 0));
    container.stop(StopOptions::default()).await.unwrap();
    assert_eq!(status(&container), HealthStatus::Unhealthy);
    container.start().await.unwrap();
    assert_eq!(status(&container), HealthStatus::Starting);
    told(&mut events, &container, "health_status: healthy").await;
    assert!(container.record().health.as_ref().unwrap().log.len() <= 5);
    container.remove(RemoveOptions::default().force(true)).await.unwrap();
}

#[tokio::test]
async fn one_that_does_not_answer_in_time_is_ended() {
    let place = Place::new();
    let engine = place.engine().await;
    let mut spec = asked(RUNS, &["CMD", "sh", "-c", "echo begun; exec sleep 1000"]);
    spec.healthcheck.as_mut().unwrap().timeout = 200 * MILLISECOND;
    let container = engine.containers().create(spec).await.unwrap();
    let mut events = engine.events().subscribe();
    container.start().await.unwrap();
    told(&mut events, &container, "health_status: unhealthy").await;
    let health = container.record().health.clone().unwrap();
    let answer = health.log.last().unwrap();
    assert_eq!((answer.exit_code, answer.output.as_str()), (-1, "Health check exceeded timeout (200ms): begun\n"));
    let ends = container.top("-ef").await.unwrap();
    assert!(ends.processes.iter().filter(|line| line.iter().any(|word| word.contains("sleep 1000"))).count() <= 1);
    container.remove(RemoveOptions::default().force(true)).await.unwrap();

    let nothing = engine.containers().create(asked(RUNS, &["CMD", "nope"])).await.unwrap();
    nothing.start().await.unwrap();
    told(&mut events, &nothing, "health_status: unhealthy").await;
    let answer = nothing.record().health.clone().unwrap().log.pop().unwrap();
    assert_eq!(answer.exit_code, -1);
    assert!(answer.output.contains("executable file not found in $PATH"), "{}", answer.output);
    nothing.remove(RemoveOptions::default().force(true)).await.unwrap();
}

#[tokio::test]
async fn much_output_is_cut() {
    let place = Place::new();
    let engine = place.engine().await;
    let container =
        engine.containers().create(asked(RUNS, &["CMD-SHELL", "head -c 100000 /dev/zero | tr '\\0' x"])).await;
    let container = container.unwrap();
    let mut events = engine.events().subscribe();
    container.start().await.unwrap();
    told(&mut events, &container, "health_status: healthy").await;
    let answer = container.record().health.clone().unwrap().log.pop().unwrap();
    assert_eq!((answer.output.len(), answer.output.ends_with("x...")), (4096 + 3, true));
    container.remove(RemoveOptions::default().force(true)).await.unwrap();
}

#[tokio::test]
async fn its_network_is_asked_from_within() {
    let place = Place::new();
    let engine = place.engine().await;
    let script = "mkdir -p /www; echo fine > /www/up; exec httpd -f -p 127.0.0.1:8080 -h /www";
    let mut events = engine.events().subscribe();
    for (test, code, said) in [
        (["HTTP", "http://localhost:8080/up"], 0, "200 OK"),
        (["HTTP", "http://localhost:8080/nope"], 1, "404"),
        (["TCP", "8080"], 0, "connected to 127.0.0.1:8080"),
        (["TCP", "localhost:8081"], 1, "refused"),
    ] {
        let container = engine.containers().create(asked(script, &test)).await.unwrap();
        container.start().await.unwrap();
        let word = if code == 0 { "health_status: healthy" } else { "health_status: unhealthy" };
        told(&mut events, &container, word).await;
        let answer = container.record().health.clone().unwrap().log.pop().unwrap();
        assert_eq!(answer.exit_code, code, "{answer:?}");
        assert!(answer.output.contains(said), "{answer:?}");
        container.remove(RemoveOptions::default().force(true)).await.unwrap();
    }
}

#[tokio::test]
async fn an_unhealthy_one_is_helped_when_that_was_asked_for() {
    let place = Place::new();
    let engine = place.engine().await;
    let mut events = engine.events().subscribe();
    let make = async |action: &str, policy| {
        let mut spec = asked(RUNS, &["CMD", "false"]);
        spec.host.annotations.insert("engine.health.on-unhealthy".to_owned(), action.to_owned());
        spec.host.restart_policy = policy;
        let container = engine.containers().create(spec).await.unwrap();
        container.start().await.unwrap();
        container
    };
    let restarted = make("restart", RestartPolicy::No).await;
    told(&mut events, &restarted, "restart").await;
    restarted.remove(RemoveOptions::default().force(true)).await.unwrap();
    let stopped = make("stop", RestartPolicy::Always).await;
    told(&mut events, &stopped, "stop").await;
    assert_eq!(stopped.record().state.status, Status::Exited);
    let killed = make("kill", RestartPolicy::Always).await;
    told(&mut events, &killed, "die").await;
    told(&mut events, &killed, "start").await;
    killed.remove(RemoveOptions::default().force(true)).await.unwrap();
}

#[tokio::test]
async fn the_next_engine_knows_and_goes_on_asking() {
    let place = Place::new();
    let engine = place.engine().await;
    let container = engine.containers().create(asked(RUNS, &["CMD", "test", "-e", "/well"]).name("it")).await.unwrap();
    let mut events = engine.events().subscribe();
    container.start().await.unwrap();
    told(&mut events, &container, "health_status: unhealthy").await;
    let seen = container.record().health.clone().unwrap();
    drop(container);
    engine.shutdown().await;
    drop(engine);
    let engine = Engine::open(place.without_bridge()).await.unwrap();
    let mut events = engine.events().subscribe();
    let container = engine.containers().get("it").await.unwrap();
    let known = container.record().health.clone().unwrap();
    assert_eq!(known.status, HealthStatus::Unhealthy);
    assert!(known.failing_streak >= seen.failing_streak && !known.log.is_empty());
    container.exec(engine::ExecSpec::new(["touch", "/well"])).await.unwrap().start().await.unwrap();
    told(&mut events, &container, "health_status: healthy").await;
    container.remove(RemoveOptions::default().force(true)).await.unwrap();
}
