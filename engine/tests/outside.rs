//! Containers of another OCI runtime, which is a script here whose containers are processes of the host.
#![allow(clippy::unwrap_used)]

mod place;

use std::os::unix::fs::PermissionsExt as _;

use engine::container::ExecSpec;
use engine::{Engine, ErrorKind, RemoveOptions, WaitCondition};
use place::{Place, says, shell};
use tokio::io::AsyncReadExt as _;

/// Writes each verb and its parent to `calls` beside itself.
const SCRIPT: &str = r#"#!/bin/sh
here=${0%/*}
while [ $# -gt 0 ]; do
  case $1 in
    --root) state=$2; shift ;;
    --bundle | --log | --log-format | --process) shift ;;
    --pid-file) pid_file=$2; shift ;;
    -*) ;;
    *) if [ -z "$verb" ]; then verb=$1; else id=$1; fi ;;
  esac
  shift
done
echo "$verb $PPID" >>"$here/calls"
case $verb in
  create)
    mkdir -p "$state/$id" && mkfifo "$state/$id/start"
    (read go <"$state/$id/start"; echo started; exec sleep 1000) &
    echo -n $! >"$pid_file" ;;
  start) echo go >"$state/$id/start" ;;
  exec) (sleep 0.05; echo short; exit 3) & echo -n $! >"$pid_file" ;;
  delete) rm -r "$state/$id" ;;
esac
"#;

/// Puts the script where a runtime is expected, and says what it was called for there.
fn install(place: &Place, name: &str) -> String {
    let directory = place.directory.path().join(name);
    std::fs::create_dir(&directory).unwrap();
    std::fs::write(directory.join("script"), SCRIPT).unwrap();
    // By another process: a file that is open for writing here could not be executed.
    let paths = [directory.join("script"), directory.join("runtime")];
    assert!(std::process::Command::new("cp").args(&paths).status().unwrap().success());
    std::fs::set_permissions(&paths[1], std::fs::Permissions::from_mode(0o755)).unwrap();
    directory.join("runtime").to_str().unwrap().to_owned()
}

fn verbs(place: &Place, name: &str) -> Vec<String> {
    let text = std::fs::read_to_string(place.directory.path().join(name).join("calls")).unwrap_or_default();
    let own = std::process::id().to_string();
    text.lines()
        .map(|line| {
            let (verb, parent) = line.split_once(' ').unwrap();
            assert_ne!(parent, own, "{verb} is a child of this program");
            verb.to_owned()
        })
        .collect()
}

async fn exec(container: &engine::Container) -> (String, i32) {
    let exec = container.exec(ExecSpec::new(["anything"])).await.unwrap();
    let mut text = String::new();
    exec.attach().await.unwrap().read_to_string(&mut text).await.unwrap();
    (text, exec.wait().await.unwrap())
}

#[tokio::test]
async fn the_runtime_that_was_found_at_create_is_the_containers_for_good() {
    let place = Place::new();
    let (first, second) = (install(&place, "first"), install(&place, "second"));
    let engine = Engine::open(place.without_bridge().runtime("other", &first)).await.unwrap();
    place::with_busybox(&engine).await;
    let spec = |name: &str| {
        let mut spec = shell("true").name(name);
        spec.host.runtime = "other".to_owned();
        spec
    };
    let container = engine.containers().create(spec("long")).await.unwrap();
    container.start().await.unwrap();
    says(&container, "started").await;
    drop((engine, container));
    // The name means another program now, and then none.
    let next = Engine::open(place.without_bridge().runtime("other", &second)).await.unwrap();
    let container = next.containers().get("long").await.unwrap();
    assert_eq!(exec(&container).await, ("short\n".to_owned(), 3));
    drop((next, container));
    let last = Engine::open(place.without_bridge()).await.unwrap();
    let container = last.containers().get("long").await.unwrap();
    assert_eq!(exec(&container).await, ("short\n".to_owned(), 3));
    container.kill("KILL").await.unwrap();
    assert_eq!(container.wait().await.unwrap().code, 137);
    container.start().await.unwrap();
    container.remove(RemoveOptions::default().force(true)).await.unwrap();
    last.shutdown().await;
    let life = ["create", "start"];
    assert_eq!(verbs(&place, "first"), [&life[..], &["exec", "exec", "delete"], &life, &["delete"]].concat());
    assert!(verbs(&place, "second").is_empty());
}

#[tokio::test]
async fn one_that_removes_itself_is_deleted_by_its_runtime() {
    let place = Place::new();
    let program = install(&place, "one");
    let engine = Engine::open(place.without_bridge().runtime("other", &program)).await.unwrap();
    place::with_busybox(&engine).await;
    let mut spec = shell("true").auto_remove(true);
    spec.host.runtime = "other".to_owned();
    let container = engine.containers().create(spec).await.unwrap();
    let removed = container.waiter(WaitCondition::Removed);
    container.start().await.unwrap();
    container.kill("KILL").await.unwrap();
    assert_eq!(removed.await.unwrap().code, 137);
    engine.shutdown().await;
    assert_eq!(verbs(&place, "one"), ["create", "start", "delete"]);
}

#[tokio::test]
async fn a_runtime_whose_program_is_not_there_is_told_at_create() {
    let place = Place::new();
    let engine = Engine::open(place.without_bridge().runtime("other", "/no/such/program")).await.unwrap();
    place::with_busybox(&engine).await;
    let mut spec = shell("true");
    spec.host.runtime = "other".to_owned();
    let error = engine.containers().create(spec).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("/no/such/program"), "{error}");
}
