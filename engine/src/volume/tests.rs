//! Volumes from their making to their end, and after the death of whoever worked on them.

use super::*;
use crate::error::ErrorKind;

pub(super) struct Fixture {
    pub(super) root: tempfile::TempDir,
    pub(super) volumes: Volumes,
    state: State,
    events: Events,
}

pub(super) fn fixture() -> Fixture {
    let root = tempfile::tempdir().unwrap();
    let state = State::open(root.path()).unwrap();
    let events = Events::new();
    let volumes = Volumes::open(root.path(), state.clone(), events.clone()).unwrap();
    Fixture { root, volumes, state, events }
}

impl Fixture {
    fn hold(&self, name: &Name) -> ContainerId {
        let id = ContainerId::random();
        self.state.write(Durability::Process, |tx| hold(tx, name, &id)).unwrap();
        id
    }

    fn release(&self, id: &ContainerId) {
        let by = (Table::Container, id.as_str());
        self.state.write(Durability::Process, |tx| tx.release_all(by)).unwrap();
    }

    fn reopen(&self) -> Volumes {
        Volumes::open(self.root.path(), self.state.clone(), self.events.clone()).unwrap()
    }

    fn directories(&self) -> Vec<String> {
        let entries = fs::read_dir(self.root.path().join("volumes")).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[tokio::test]
async fn made_once_and_found_again() {
    let f = fixture();
    let made = f.volumes.create(VolumeSpec::named("data").label("tier", "db")).await.unwrap();
    assert_eq!(made.mountpoint(), f.root.path().join("volumes/data/_data"));
    assert_eq!((mode(made.mountpoint()), mode(made.mountpoint().parent().unwrap())), (0o755, 0o711));
    assert_eq!(mode(&f.root.path().join("volumes")), 0o711);
    fs::write(made.mountpoint().join("file"), "kept").unwrap();

    let again = f.volumes.create(VolumeSpec::named("data").label("tier", "other")).await.unwrap();
    assert_eq!(again.labels(), made.labels());
    assert_eq!(again.created(), made.created());
    let got = f.reopen().get("data").await.unwrap();
    assert_eq!(got.labels()["tier"], "db");
    assert!(!got.is_anonymous());
    assert_eq!(got.size().await.unwrap(), 4);
    assert_eq!(f.volumes.list().await.unwrap().len(), 1);
}

#[tokio::test]
async fn nameless_ones() {
    let f = fixture();
    let made = f.volumes.create(VolumeSpec::anonymous()).await.unwrap();
    assert!(made.is_anonymous() && made.name().as_str().len() == 64);
    assert_eq!(made.labels()[ANONYMOUS_LABEL], "");
    assert_ne!(f.volumes.create(VolumeSpec::anonymous()).await.unwrap().name(), made.name());
}

#[tokio::test]
async fn refusals() {
    let f = fixture();
    let cases = [
        (VolumeSpec::named("../x"), ErrorKind::Invalid, "includes invalid characters"),
        (VolumeSpec::named("x"), ErrorKind::Invalid, "too short"),
        (VolumeSpec::named("data").driver("nfs"), ErrorKind::NotFound, "plugin \"nfs\" not found"),
        (VolumeSpec::named("data").option("type", "tmpfs"), ErrorKind::Invalid, "missing required option: \"device\""),
    ];
    for (spec, kind, text) in cases {
        let error = f.volumes.create(spec).await.unwrap_err();
        assert!(error.kind() == kind && error.to_string().contains(text), "{error}");
    }
    for name in ["nope", "../..", ""] {
        let error = f.volumes.get(name).await.unwrap_err();
        assert_eq!((error.kind(), error.to_string()), (ErrorKind::NotFound, format!("get {name}: no such volume")));
        assert_eq!(f.volumes.remove(name).await.unwrap_err().kind(), ErrorKind::NotFound);
    }
    assert!(f.directories().is_empty());
}

#[tokio::test]
async fn one_in_use_stays() {
    let f = fixture();
    let volume = f.volumes.create(VolumeSpec::named("data").driver("local")).await.unwrap();
    let id = f.hold(volume.name());
    let error = f.volumes.remove("data").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(error.to_string(), format!("remove data: volume is in use - [{id}]"));
    assert_eq!(f.volumes.holders(volume.name()).await.unwrap(), [id.to_string()]);
    assert!(volume.mountpoint().is_dir());

    f.release(&id);
    fs::create_dir_all(volume.mountpoint().join("a/b")).unwrap();
    f.volumes.remove("data").await.unwrap();
    assert!(f.directories().is_empty());
    let after = f.state.write(Durability::Process, |tx| hold(tx, volume.name(), &id)).unwrap_err();
    assert_eq!(after.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn pruning_takes_what_nobody_holds_and_the_caller_wants() {
    let f = fixture();
    let nameless = f.volumes.create(VolumeSpec::anonymous()).await.unwrap();
    fs::write(nameless.mountpoint().join("file"), "12345").unwrap();
    let held = f.volumes.create(VolumeSpec::anonymous()).await.unwrap();
    f.hold(held.name());
    f.volumes.create(VolumeSpec::named("named")).await.unwrap();
    let pruned = f.volumes.prune(Volume::is_anonymous).await.unwrap();
    assert_eq!(pruned, Pruned { names: vec![nameless.name().to_string()], reclaimed: 5 });
    let told = f.events.recent(0).pop().unwrap();
    assert_eq!(
        (told.kind, told.action.as_str(), told.attributes["reclaimed"].as_str()),
        (EventType::Volume, "prune", "5")
    );
    assert_eq!(f.volumes.list().await.unwrap().len(), 2);
    assert_eq!(f.volumes.prune(|_| true).await.unwrap().names, ["named"]);
}

#[tokio::test]
async fn events_tell_of_both_ends() {
    let f = fixture();
    f.volumes.create(VolumeSpec::named("data")).await.unwrap();
    f.volumes.create(VolumeSpec::named("data")).await.unwrap();
    f.volumes.remove("data").await.unwrap();
    f.volumes.prune(|_| true).await.unwrap();
    let told: Vec<_> = f.events.recent(0).into_iter().map(|e| (e.kind, e.action.clone(), e.id.clone())).collect();
    let expected = [("create", "data"), ("destroy", "data"), ("prune", "")];
    let expected = expected.map(|(action, id)| (EventType::Volume, action.to_owned(), id.to_owned()));
    assert_eq!(told, expected);
}

#[tokio::test]
async fn what_a_killed_engine_left_is_put_right() {
    let f = fixture();
    let root = f.root.path().join("volumes");
    f.volumes.create(VolumeSpec::named("lost")).await.unwrap();
    fs::remove_dir_all(root.join("lost")).unwrap();
    fs::create_dir_all(root.join("uncommitted/_data")).unwrap();
    fs::write(root.join("uncommitted/reserved"), "").unwrap();
    fs::create_dir_all(root.join("half")).unwrap();
    fs::create_dir_all(root.join("precious/_data/file")).unwrap();
    fs::create_dir_all(root.join(format!("{REMOVED}1/_data/deep"))).unwrap();
    let volumes = f.reopen();
    let mut left = f.directories();
    left.sort();
    assert_eq!(left, ["lost", "precious"]);
    assert!(volumes.get("lost").await.unwrap().mountpoint().is_dir());
    let found = volumes.create(VolumeSpec::named("precious")).await.unwrap();
    assert!(found.mountpoint().join("file").is_dir());
}

#[tokio::test]
async fn two_at_once_make_one() {
    let f = fixture();
    let other = f.reopen();
    let create = |volumes: Volumes| tokio::spawn(async move { volumes.create(VolumeSpec::named("data")).await });
    let (one, two) = (create(f.volumes.clone()), create(other));
    assert_eq!(one.await.unwrap().unwrap().created(), two.await.unwrap().unwrap().created());
    assert_eq!(f.events.recent(0).len(), 1);
}

#[tokio::test]
async fn a_reserved_one_stays_until_it_is_held_or_given_up() {
    let f = fixture();
    // Other engines on the root are no different.
    let other = f.reopen();
    f.volumes.create(VolumeSpec::named("data")).await.unwrap();
    let (one, two) = (
        f.volumes.reserve(VolumeSpec::named("data")).await.unwrap(),
        other.reserve(VolumeSpec::named("data")).await.unwrap(),
    );
    let nameless = f.volumes.reserve(VolumeSpec::anonymous()).await.unwrap();
    for volumes in [&f.volumes, &other] {
        let error = volumes.remove("data").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert_eq!(error.to_string(), "remove data: volume is in use - [a container that is being made]");
        assert_eq!(volumes.prune(|_| true).await.unwrap(), Pruned::default());
    }
    drop(one);
    assert_eq!(f.volumes.remove("data").await.unwrap_err().kind(), ErrorKind::Conflict);
    let id = f.hold(two.volume.name());
    drop(two);
    let error = f.volumes.remove("data").await.unwrap_err().to_string();
    assert_eq!(error, format!("remove data: volume is in use - [{id}]"));
    f.release(&id);
    // The mark of who was killed is locked by nobody.
    fs::write(f.root.path().join("volumes/data/reserved"), "").unwrap();
    f.volumes.remove("data").await.unwrap();
    f.volumes.give_back(nameless).unwrap();
    assert!(f.directories().is_empty());
}

#[tokio::test]
async fn one_of_a_container_that_is_not_made_goes_unless_somebody_wants_it() {
    let f = fixture();
    let reserve = |name: &str| f.volumes.reserve(VolumeSpec::named(name));
    let left = || {
        let mut left = f.directories();
        left.sort();
        left
    };
    let alone = reserve("alone").await.unwrap();
    fs::write(alone.volume.mountpoint().join("copied"), "of the image").unwrap();
    f.volumes.give_back(alone).unwrap();
    assert!(left().is_empty() && f.volumes.get("alone").await.is_err());

    f.volumes.create(VolumeSpec::named("there")).await.unwrap();
    f.volumes.give_back(reserve("there").await.unwrap()).unwrap();
    let asked = reserve("asked").await.unwrap();
    f.volumes.create(VolumeSpec::named("asked")).await.unwrap();
    f.volumes.give_back(asked).unwrap();
    let (shared, by_another) = (reserve("shared").await.unwrap(), reserve("shared").await.unwrap());
    f.volumes.give_back(shared).unwrap();
    f.hold(by_another.volume.name());
    drop(by_another);
    // Nobody knows whose this is.
    let lost = f.root.path().join("volumes/lost/_data/file");
    fs::create_dir_all(&lost).unwrap();
    f.volumes.give_back(reserve("lost").await.unwrap()).unwrap();
    assert_eq!(left(), ["asked", "lost", "shared", "there"]);
    assert!(lost.is_dir());
}

#[tokio::test]
async fn removing_and_reserving_do_not_meet() {
    let f = fixture();
    let other = f.reopen();
    let done = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let over = Arc::clone(&done);
    let remover = tokio::spawn(async move {
        while !over.load(std::sync::atomic::Ordering::Relaxed) {
            match other.remove("data").await {
                Ok(()) | Err(Error::InUse { .. } | Error::NotFound(_)) => {}
                Err(error) => panic!("{error}"),
            }
            tokio::task::yield_now().await;
        }
    });
    for _ in 0..50 {
        let reserved = f.volumes.reserve(VolumeSpec::named("data")).await.unwrap();
        reserved.volume.populate(Vec::new(), "/srv".into()).await.unwrap();
        let id = f.hold(reserved.volume.name());
        drop(reserved);
        assert!(f.volumes.get("data").await.unwrap().mountpoint().is_dir());
        f.release(&id);
    }
    done.store(true, std::sync::atomic::Ordering::Relaxed);
    remover.await.unwrap();
}
