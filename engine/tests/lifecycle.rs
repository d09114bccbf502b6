//! Containers from create to remove, on a real kernel. Needs root.
#![allow(clippy::unwrap_used)]

mod place;

use std::time::Duration;

use engine::container::{CommitOptions, CopyOptions, Status};
use engine::volume::VolumeSpec;
use engine::{Engine, ErrorKind, MountSpec, RemoveOptions, StopOptions, WaitCondition};
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

#[tokio::test]
async fn files_are_copied_into_a_container_before_its_first_start() {
    let place = Place::new();
    let engine = place.engine().await;
    let script = "cat /words /kept/words; stat -c '%a %u' /words; rm /words; echo more > /kept/later";
    let container = engine.containers().create(shell(script).bind("kept:/kept")).await.unwrap();
    for (path, content) in [("/", b"in the root\n".as_slice()), ("/kept", b"in a volume\n")] {
        container.copy_to(path, archive("words", content).as_slice(), CopyOptions::default()).await.unwrap();
    }
    let nowhere = container.copy_to("/nope", archive("words", b"").as_slice(), CopyOptions::default()).await;
    assert_eq!(nowhere.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(container.record().state.status, Status::Created);
    let stat = container.stat_path("/words").await.unwrap();
    assert_eq!((stat.name.as_str(), stat.size), ("words", 12));
    assert_eq!(output_of(&container).await, ("in the root\nin a volume\n640 7\n".to_owned(), 0));
    assert_eq!(container.stat_path("/words").await.unwrap_err().kind(), ErrorKind::NotFound);
    for (path, size) in [("/kept/words", 12), ("/kept/later", 5)] {
        assert_eq!(container.stat_path(path).await.unwrap().size, size, "{path}");
    }
}

#[tokio::test]
async fn a_commit_that_is_given_up_makes_nothing_and_leaves_nothing_paused() {
    let place = Place::new();
    let engine = place.engine().await;
    let script = "dd if=/dev/zero of=/large bs=1048576 count=200 2>/dev/null; echo up; sleep 1000";
    let container = engine.containers().create(shell(script)).await.unwrap();
    container.start().await.unwrap();
    says(&container, "up").await;
    let status = || container.record().state.status;
    let becomes = async |wanted: Status| {
        while status() != wanted {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        made = container.commit(CommitOptions::default()) => panic!("nobody saw it paused: {made:?}"),
        () = becomes(Status::Paused) => {}
    }
    tokio::time::timeout(Duration::from_secs(60), becomes(Status::Running)).await.unwrap();
    assert_eq!(engine.images().list().await.unwrap().len(), 1);
    let image = container.commit(CommitOptions::default()).await.unwrap();
    assert_eq!((image.layers().len(), status()), (2, Status::Running));
    container.remove(RemoveOptions::default().force(true)).await.unwrap();
}

/// A tar archive of one file.
fn archive(name: &str, content: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.set_size(content.len() as u64);
    header.set_mode(0o640);
    header.set_uid(7);
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_data(&mut header, name, content).unwrap();
    archive.into_inner().unwrap()
}

#[tokio::test]
async fn a_program_that_is_not_there_is_told_in_dockers_words() {
    let place = Place::new();
    let engine = place.engine().await;
    for (program, code, words) in [
        ("nope", 127, "exec: \"nope\": executable file not found in $PATH"),
        ("/nope", 127, "no such file or directory"),
        ("/etc/passwd", 126, "permission denied"),
    ] {
        let container = engine.containers().create(shell("").command([program])).await.unwrap();
        let error = container.start().await.unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
        assert_eq!(error.kind(), ErrorKind::Invalid);
        let record = container.record();
        assert_eq!((record.state.status, record.state.exit_code), (Status::Created, code));
        assert!(record.state.error.contains(words));
        container.remove(RemoveOptions::default()).await.unwrap();
    }
    let once = engine.containers().create(shell("").command(["nope"]).auto_remove(true)).await.unwrap();
    let removed = once.waiter(WaitCondition::Removed);
    once.start().await.unwrap_err();
    assert_eq!(removed.await.unwrap().code, 127);
    assert!(engine.containers().get(once.id().as_str()).await.is_err());
}

#[tokio::test]
async fn names_are_unique_and_can_be_changed() {
    let place = Place::new();
    let engine = place.engine().await;
    let one = engine.containers().create(shell("true").name("one")).await.unwrap();
    let error = engine.containers().create(shell("true").name("/one")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(
        error.to_string(),
        format!(
            "Conflict. The container name \"/one\" is already in use by container \"{}\". You have to remove (or rename) that container to be able to reuse that name.",
            one.id()
        )
    );
    let other = engine.containers().create(shell("true")).await.unwrap();
    assert!(other.name().contains('_'), "{}", other.name());
    assert_eq!(other.rename("one").await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(one.rename("one").await.unwrap_err().kind(), ErrorKind::Invalid);
    one.rename("first").await.unwrap();
    other.rename("one").await.unwrap();
    for (name, container) in [("first", &one), ("/one", &other)] {
        assert_eq!(engine.containers().get(name).await.unwrap().id(), container.id());
    }
    assert_eq!(engine.containers().get(&one.id().as_str()[..12]).await.unwrap().id(), one.id());
    let error = engine.containers().create(shell("true").name("a b")).await.unwrap_err();
    assert_eq!(error.to_string(), "Invalid container name (a b), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed");
}

#[tokio::test]
async fn concurrent_creates_of_one_name_give_one_container() {
    let place = Place::new();
    let engine = place.engine().await;
    let create =
        |at| engine.containers().create(shell("true").name("only").bind(format!("of-{at}:/v")).bind("all:/all"));
    let made = futures_util::future::join_all((0..8).map(create)).await;
    let made: Vec<_> = made.into_iter().flatten().collect();
    assert_eq!(made.len(), 1);
    let directories = std::fs::read_dir(place.directory.path().join("containers")).unwrap().count();
    assert_eq!(directories, 1, "those that lost left something");
    let mut left: Vec<_> = made[0].record().mounts.iter().filter_map(|mount| mount.name.clone()).collect();
    left.sort();
    assert_eq!(volumes(&engine).await, left);
}

/// The names of all volumes, in order.
async fn volumes(engine: &Engine) -> Vec<String> {
    engine.volumes().list().await.unwrap().iter().map(|volume| volume.name().to_string()).collect()
}

#[tokio::test]
async fn a_create_that_is_refused_leaves_no_volume_of_its_own() {
    let place = Place::new();
    let engine = place.engine().await;
    engine.volumes().create(VolumeSpec::named("kept")).await.unwrap();
    engine.containers().create(shell("true").name("dup")).await.unwrap();
    let spec = || shell("true").bind("kept:/a").bind("new:/b").bind("/c");
    let error = engine.containers().create(spec().name("dup")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    // Nobody told of one that was not needed.
    assert!(!engine.events().recent(0).iter().any(|event| event.id == "new"));
    // What is found out when volumes are there already.
    let error = engine.containers().create(spec().mount(MountSpec::image("nope", "/z"))).await.unwrap_err();
    assert_eq!(error.to_string(), "No such image: nope:latest");
    let error = engine.containers().create(spec().bind("x:/z")).await.unwrap_err();
    assert!(error.to_string().contains("volume name is too short"), "{error}");
    assert_eq!(volumes(&engine).await, ["kept"]);
}

#[tokio::test]
async fn a_volume_is_not_removed_beneath_a_container_that_is_being_made() {
    let place = Place::new();
    let engine = place.engine().await;
    for _ in 0..20 {
        engine.volumes().create(VolumeSpec::named("same")).await.unwrap();
        let create = engine.containers().create(shell("true").bind("same:/x"));
        let (made, removed) = tokio::join!(create, engine.volumes().remove("same"));
        let container = made.unwrap();
        if let Err(error) = removed {
            assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
        }
        assert_eq!(engine.volumes().remove("same").await.unwrap_err().kind(), ErrorKind::Conflict);
        container.remove(engine::RemoveOptions::default()).await.unwrap();
    }
}

#[tokio::test]
async fn a_paused_container_stands_still() {
    let place = Place::new();
    let engine = place.engine().await;
    let container = engine.containers().create(shell("while :; do sleep 0.01; done")).await.unwrap();
    assert_eq!(container.pause().await.unwrap_err().kind(), ErrorKind::Conflict);
    container.start().await.unwrap();
    container.pause().await.unwrap();
    assert_eq!(container.record().state.status, Status::Paused);
    let error = container.exec(engine::ExecSpec::new(["true"])).await.unwrap_err();
    assert!(error.to_string().ends_with("is paused, unpause the container before exec"), "{error}");
    assert!(container.pause().await.unwrap_err().to_string().ends_with("is already paused"));
    let error = container.remove(RemoveOptions::default()).await.unwrap_err();
    assert!(error.to_string().contains("container is paused"), "{error}");
    container.unpause().await.unwrap();
    assert!(container.unpause().await.unwrap_err().to_string().ends_with("is not paused"));
    container.pause().await.unwrap();
    container.stop(StopOptions::default().timeout(0)).await.unwrap();
    assert_eq!(container.record().state.exit_code, 137);
}

#[tokio::test]
async fn removing_takes_everything_away() {
    let place = Place::new();
    let engine = place.engine().await;
    let container = engine.containers().create(shell("sleep 100").volume("/data")).await.unwrap();
    container.start().await.unwrap();
    let error = container.remove(RemoveOptions::default()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "cannot remove container \"/{}\": container is running: stop the container before removing or force remove",
            container.name()
        )
    );
    assert_eq!(engine.volumes().list().await.unwrap().len(), 1);
    container.remove(RemoveOptions::default().force(true).volumes(true)).await.unwrap();
    assert_eq!(engine.volumes().list().await.unwrap().len(), 0);
    assert_eq!(container.start().await.unwrap_err().kind(), ErrorKind::NotFound);
    // The files are taken away when nobody waits for it; at the latest now.
    engine.shutdown().await;
    for kind in ["containers", "run/containers"] {
        let left: Vec<_> = std::fs::read_dir(place.directory.path().join(kind)).unwrap().flatten().collect();
        assert!(left.is_empty(), "{left:?}");
    }
    let cgroup = format!("/sys/fs/cgroup/memory/{}/{}", place.settings().cgroup_parent, container.id());
    assert!(!std::path::Path::new(&cgroup).exists());
}

#[tokio::test]
async fn one_that_removes_itself_is_gone_after_its_end() {
    let place = Place::new();
    let engine = place.engine().await;
    let container = engine.containers().create(shell("exit 4").auto_remove(true)).await.unwrap();
    let removed = container.waiter(WaitCondition::Removed);
    container.start().await.unwrap();
    assert_eq!(removed.await.unwrap().code, 4);
    assert!(engine.containers().get(container.id().as_str()).await.is_err());
    let restarted = engine.containers().create(shell("while :; do sleep 0.02; done").auto_remove(true)).await.unwrap();
    restarted.start().await.unwrap();
    restarted.restart(StopOptions::default().timeout(0)).await.unwrap();
    assert_eq!(restarted.record().state.status, Status::Running);
    restarted.remove(RemoveOptions::default().force(true)).await.unwrap();
}

#[tokio::test]
async fn one_that_cannot_join_another_is_a_failed_start() {
    let place = Place::new();
    let engine = place.engine().await;
    let other = engine.containers().create(shell("true").name("other")).await.unwrap();
    let joins = || shell("true").network("container:other".parse().unwrap());
    let kept = engine.containers().create(joins()).await.unwrap();
    let error = kept.start().await.unwrap_err();
    assert!(error.to_string().starts_with("cannot join network namespace of a non running container"), "{error}");
    assert_eq!(kept.record().state.exit_code, 128);
    let gone = engine.containers().create(joins().auto_remove(true)).await.unwrap();
    let removed = gone.waiter(WaitCondition::Removed);
    gone.start().await.unwrap_err();
    removed.await.unwrap();
    assert_eq!(engine.containers().get(gone.id().as_str()).await.unwrap_err().kind(), ErrorKind::NotFound);
    drop(other);
}

#[tokio::test]
async fn the_story_of_a_run_is_told_in_order() {
    let place = Place::new();
    let engine = place.engine().await;
    let since = engine.events().recent(0).last().map_or(0, |event| event.at_nanos + 1);
    let container = engine.containers().create(shell("exit 3").auto_remove(true)).await.unwrap();
    let attached = container.attach(engine::AttachOptions::output()).await.unwrap();
    let removed = container.waiter(WaitCondition::Removed);
    container.start().await.unwrap();
    removed.await.unwrap();
    drop(attached);
    let told: Vec<String> =
        engine.events().recent(since).iter().map(|event| format!("{} {}", event.kind, event.action)).collect();
    assert_eq!(
        told,
        [
            "container create",
            "container attach",
            "network connect",
            "container start",
            "container die",
            "network disconnect",
            "container destroy"
        ]
    );
    let die = engine.events().recent(since).iter().find(|event| event.action == "die").cloned().unwrap();
    assert_eq!((die.attributes["exitCode"].as_str(), die.attributes["image"].as_str()), ("3", "busybox"));
}

#[tokio::test]
async fn a_shutdown_leaves_nothing_to_clear_away() {
    let place = Place::new();
    let engine = place.engine().await;
    for _ in 0..4 {
        let container = engine.containers().create(shell("true")).await.unwrap();
        container.start().await.unwrap();
        container.wait().await.unwrap();
    }
    engine.shutdown().await;
    assert_eq!(std::fs::read_dir(place.directory.path().join("run/containers")).unwrap().count(), 0);
    let cgroup = format!("/sys/fs/cgroup/memory/{}", place.settings().cgroup_parent);
    let left = std::fs::read_dir(cgroup).into_iter().flatten().flatten().filter(|entry| entry.path().is_dir()).count();
    assert_eq!(left, 0);
}

#[tokio::test]
async fn a_container_may_open_as_many_files_as_the_settings_say() {
    let place = Place::new();
    let mut settings = place.without_bridge();
    settings.open_files = Some(200);
    let engine = Engine::open(settings).await.unwrap();
    place::with_busybox(&engine).await;
    assert_eq!(run(&engine, shell("ulimit -n")).await, ("200\n".to_owned(), 0));
    let more = shell("ulimit -n").ulimit(engine::settings::Ulimit::new("nofile", 300, 300));
    assert_eq!(run(&engine, more).await, ("300\n".to_owned(), 0));
}
