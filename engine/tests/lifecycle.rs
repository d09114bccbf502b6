//! Containers from create to remove, on a real kernel. Needs root.
#![allow(clippy::unwrap_used)]

mod place;

use engine::container::Status;
use engine::{ErrorKind, RemoveOptions, StopOptions, WaitCondition};
use place::{Place, output_of, run, says, shell};

#[tokio::test]
async fn a_container_runs_and_tells_its_exit_code() {
    let place = Place::new();
    let engine = place.engine().await;
    let container = engine.containers().create(shell("echo out; echo err >&2; exit 7").name("seven")).await.unwrap();
    assert_eq!(container.record().state.status, Status::Created);
    let next = container.waiter(WaitCondition::NextExit);
    container.start().await.unwrap();
    assert_eq!(next.await.unwrap().code, 7);
    let record = container.record();
    assert_eq!((record.state.status, record.state.exit_code, record.state.pid), (Status::Exited, 7, 0));
    assert!(record.state.started_at > 0 && record.state.finished_at >= record.state.started_at);
    let removed = container.waiter(WaitCondition::Removed);
    container.remove(RemoveOptions::default()).await.unwrap();
    assert_eq!(removed.await.unwrap().code, 7);
    assert_eq!(engine.containers().get("seven").await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn output_of_a_fast_process_is_not_lost() {
    let place = Place::new();
    let engine = place.engine().await;
    for _ in 0..5 {
        assert_eq!(run(&engine, shell("echo hello")).await, ("hello\n".to_owned(), 0));
    }
}

#[tokio::test]
async fn a_stopped_container_can_be_started_again() {
    let place = Place::new();
    let engine = place.engine().await;
    let container =
        engine.containers().create(shell("trap 'exit 3' TERM; echo up; while :; do sleep 0.05; done")).await.unwrap();
    container.start().await.unwrap();
    says(&container, "up").await;
    assert_eq!(container.start().await.unwrap_err().kind(), ErrorKind::NotModified);
    container.stop(StopOptions::default()).await.unwrap();
    assert_eq!(container.record().state.exit_code, 3);
    assert_eq!(container.stop(StopOptions::default()).await.unwrap_err().kind(), ErrorKind::NotModified);
    container.restart(StopOptions::default()).await.unwrap();
    container.kill("").await.unwrap();
    assert_eq!(container.wait().await.unwrap().code, 137);
    let (output, _) = {
        let again = engine.containers().create(shell("cat /etc/hostname; hostname")).await.unwrap();
        output_of(&again).await
    };
    let names: Vec<_> = output.lines().collect();
    assert_eq!((names.len(), names[0]), (2, names[1]));
}
