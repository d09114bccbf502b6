//! A store that is damaged in every way: a check finds it, a repair mends it, and what cannot be mended is said.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::liar::Liar;
use super::outward::{put, registry, save, shelved};
use super::tests::{Scene, layer, saved};
use super::*;
use crate::id::ContainerId;
use crate::oci::{Digest, Reference};
use crate::state::{Durability, Table};

async fn check(scene: &Scene, repair: bool) -> Checked {
    scene.images.check(CheckOptions { repair, ..CheckOptions::default() }).await.unwrap()
}

async fn assert_sound(scene: &Scene) {
    // What was replaced is removed while nobody waits.
    for _ in 0..200 {
        let checked = check(scene, false).await;
        assert_eq!(checked.problems, []);
        if checked.leftovers == 0 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("something is left");
}

/// A layer with everything that can be damaged.
fn rich() -> Vec<u8> {
    Rootfs::new()
        .file("dir/file", 0o644, "contents")
        .file("dir/other", 0o755, vec![9; 100_000])
        .file("empty", 0o600, "")
        .symlink("link", "dir/file")
        .into_archive()
}

type Damage = fn(&Path);

/// What may happen to an unpacked layer, and what a check says of it.
const DAMAGES: [(&str, Damage); 8] = [
    ("/dir/file: has another size", |tree| fs::write(tree.join("dir/file"), "").unwrap()),
    ("/dir/file: has other contents", |tree| fs::write(tree.join("dir/file"), "CONTENTS").unwrap()),
    ("/empty: is missing", |tree| fs::remove_file(tree.join("empty")).unwrap()),
    ("/dir: is missing", |tree| fs::remove_dir_all(tree.join("dir")).unwrap()),
    ("/new: should not be there", |tree| fs::write(tree.join("new"), "").unwrap()),
    ("/dir/other: has another mode", |tree| {
        fs::set_permissions(tree.join("dir/other"), fs::Permissions::from_mode(0o4755)).unwrap();
    }),
    ("/link: leads elsewhere", |tree| {
        fs::remove_file(tree.join("link")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", tree.join("link")).unwrap();
        let times = engine_sys::file::times(0, 0);
        let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::utimensat(rustix::fs::CWD, tree.join("link"), &times, flags).unwrap();
    }),
    ("its directory cannot be opened", |tree| fs::remove_dir_all(tree).unwrap()),
];

fn tree(scene: &Scene, image: &Image) -> PathBuf {
    scene.images.layers().path(&image.layers()[0])
}

#[tokio::test]
async fn a_damaged_layer_is_found_and_unpacked_again() {
    let (_liar, name, _) = shelved(&[rich()]).await;
    let scene = Scene::new();
    let image = scene.images.pull(&name, PullOptions::default()).await.unwrap();
    assert_sound(&scene).await;
    let before = save(&scene, &[&name.to_string()]).await.unwrap();
    for (text, damage) in DAMAGES {
        damage(&tree(&scene, &image));
        for (repair, is_sound) in [(false, false), (true, true)] {
            let checked = check(&scene, repair).await;
            let [problem] = &checked.problems[..] else { panic!("{text}: {checked:?}") };
            assert_eq!(problem.subject, Subject::Layer(image.layers()[0]));
            assert!(problem.found.contains(text), "{text}: {problem}");
            assert_eq!((problem.images.as_slice(), checked.is_sound()), (&[name.to_string()][..], is_sound));
        }
        assert_sound(&scene).await;
        assert_eq!(fs::read_to_string(tree(&scene, &image).join("dir/file")).unwrap(), "contents");
    }
    assert!(save(&scene, &[&name.to_string()]).await.unwrap() == before);
    scene.settles_at(3).await;
}

#[tokio::test]
async fn a_layer_whose_blob_is_not_kept_is_compared_with_its_framing() {
    let scene = Scene::new();
    let image = scene.load(saved(&["x:1"], &[rich()])).await.unwrap().remove(0).image;
    assert_sound(&scene).await;
    let framing = tree(&scene, &image).with_extension("framing");
    // Modes, owners and what is strange are seen and mended: the contents are there, and the framing has the rest.
    for index in [2, 4, 5, 6] {
        let (text, damage) = DAMAGES[index];
        damage(&tree(&scene, &image));
        assert!(check(&scene, false).await.problems[0].found.contains(text), "{text}");
        assert!(check(&scene, true).await.is_sound());
        assert_sound(&scene).await;
    }
    // Contents are not to be had again, for nobody knows from where.
    let (whole, file) = (fs::read(&framing).unwrap(), tree(&scene, &image).join("dir/file"));
    fs::write(&file, "CONTENTS").unwrap();
    let checked = check(&scene, true).await;
    let Outcome::Beyond(why) = &checked.problems[0].outcome else { panic!("{checked:?}") };
    assert!(why.contains("no registry is known to have x:1"), "{why}");
    assert!(!checked.is_sound());
    fs::write(&framing, &whole[..10]).unwrap();
    assert!(!check(&scene, true).await.is_sound());
    fs::remove_file(&framing).unwrap();
    assert!(!check(&scene, true).await.is_sound());
    // The image is loaded again, and all is well.
    scene.images.remove("x:1", RemoveOptions::default()).await.unwrap();
    scene.load(saved(&["x:1"], &[rich()])).await.unwrap();
    assert_sound(&scene).await;
}

fn blobs(scene: &Scene) -> BTreeSet<PathBuf> {
    fs::read_dir(scene.root.path().join("blobs/sha256")).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[tokio::test]
async fn damaged_blobs_are_found_and_fetched_again() {
    let (liar, name, _) = shelved(&[rich(), layer("b")]).await;
    let scene = Scene::new();
    let image = scene.images.pull(&name, PullOptions::default()).await.unwrap();
    let before = save(&scene, &[&name.to_string()]).await.unwrap();
    let damages: [(&str, Damage); 4] = [
        ("its bytes are those of", |blob| {
            let mut bytes = fs::read(blob).unwrap();
            bytes[20] ^= 1;
            fs::write(blob, bytes).unwrap();
        }),
        ("it has 0 bytes", |blob| fs::write(blob, "").unwrap()),
        ("it has", |blob| fs::write(blob, [fs::read(blob).unwrap(), vec![0]].concat()).unwrap()),
        ("it is missing", |blob| fs::remove_file(blob).unwrap()),
    ];
    for blob in blobs(&scene) {
        for (text, damage) in &damages {
            damage(&blob);
            let checked = check(&scene, false).await;
            assert_eq!(checked.problems.len(), 1, "{checked:?}");
            assert!(checked.problems[0].found.contains(text), "{text}: {checked:?}");
            let asked = liar.asked().len();
            let checked = check(&scene, true).await;
            assert!(checked.is_sound(), "{checked:?}");
            // Only what was damaged, and the way to it.
            assert!(liar.asked().len() - asked <= 3, "{:?}", liar.asked().split_off(asked));
            assert_sound(&scene).await;
        }
    }
    // All at once, layers too.
    blobs(&scene).iter().for_each(|blob| fs::write(blob, "x").unwrap());
    fs::remove_dir_all(tree(&scene, &image)).unwrap();
    assert!(check(&scene, true).await.is_sound());
    assert_sound(&scene).await;
    assert!(save(&scene, &[&name.to_string()]).await.unwrap() == before);
    scene.settles_at(5).await;
}

#[tokio::test]
async fn what_cannot_be_fetched_again_stays_as_it_is() {
    let (liar, name, _) = shelved(&[rich()]).await;
    let scene = Scene::new();
    let image = scene.images.pull(&name, PullOptions::default()).await.unwrap();
    let gone: Reference = format!("{}/gone:1", liar.address).parse().unwrap();
    // As if it had been pulled from where it is not any more.
    scene
        .state
        .write(Durability::Process, |tx| {
            let digest = name.with_digest(image.manifest().unwrap());
            super::tag::unname(tx, image.id(), &digest)?;
            super::tag::name(tx, image.id(), &gone.with_digest(image.manifest().unwrap()))
        })
        .unwrap();
    let manifest = Digest::from_hex(image.manifest().unwrap().hex().as_str()).unwrap();
    for blob in blobs(&scene) {
        let bytes = fs::read(&blob).unwrap();
        fs::write(&blob, "x").unwrap();
        let checked = check(&scene, true).await;
        let Outcome::Beyond(why) = &checked.problems[0].outcome else { panic!("{checked:?}") };
        assert!(why.contains("cannot be fetched from"), "{why}");
        fs::write(&blob, bytes).unwrap();
        assert_sound(&scene).await;
    }
    assert_eq!(scene.images.get(&name.to_string()).await.unwrap().manifest(), Some(manifest));
}

#[tokio::test]
async fn a_repair_that_is_cut_short_leaves_everything_as_it_was() {
    let (liar, name, stalls) = stalling(&[rich()]).await;
    let scene = Scene::new();
    let image = scene.images.pull(&name, PullOptions::default()).await.unwrap();
    let before = records(&scene);
    // The layer and its blob are damaged, and while they are fetched again nothing comes.
    fs::write(tree(&scene, &image).join("dir/file"), "CONTENTS").unwrap();
    blobs(&scene).iter().for_each(|blob| fs::write(blob, "x").unwrap());
    stalls.store(true, Ordering::SeqCst);
    let asked = liar.asked().len();
    let options = CheckOptions { repair: true, ..CheckOptions::default() };
    {
        let mut repair = scene.images.check(options);
        while liar.asked().len() == asked {
            let _ = futures_util::poll!(&mut repair);
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    }
    assert_eq!(records(&scene), before);
    stalls.store(false, Ordering::SeqCst);
    assert!(check(&scene, true).await.is_sound());
    assert_eq!(records(&scene), before);
    assert_sound(&scene).await;
}

/// The records of everything that images are made of, and who holds it.
fn records(scene: &Scene) -> Vec<String> {
    let read = scene.state.read::<_, state::Error>(|state| {
        let mut found = Vec::new();
        for table in [Table::Image, Table::Layer, Table::Blob] {
            for key in state.keys(table)? {
                found.push(format!("{key} {:?}", state.holders((table, &key))?));
            }
        }
        Ok(found)
    });
    read.unwrap()
}

/// A registry that has an image, and whose manifests do not come while it is told so.
async fn stalling(layers: &[Vec<u8>]) -> (Liar, Reference, Arc<AtomicBool>) {
    let stalls = Arc::new(AtomicBool::new(false));
    let told = stalls.clone();
    let (liar, _) = registry(move |_| {
        while told.load(Ordering::SeqCst) {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        None
    });
    let name = put(&liar, layers).await.0;
    (liar, name, stalls)
}

#[tokio::test]
async fn what_a_running_pull_holds_is_no_garbage() {
    let scene = Scene::new();
    let image = scene.load(saved(&["x:1"], &[rich()])).await.unwrap().remove(0).image;
    let coming = Digest::of(b"an image that is being pulled");
    let layer = image.layers()[0].to_string();
    let held = || {
        let holders = scene.state.read::<_, state::Error>(|state| state.holders((Table::Layer, &layer))).unwrap();
        holders.contains(&(Table::Image, coming.to_string()))
    };
    let lease = scene.images.blobs().lease(&coming.hex()).unwrap();
    let by = (Table::Image, coming.to_string());
    scene
        .state
        .write::<_, state::Error>(Durability::Process, |tx| tx.hold((Table::Layer, &layer), (by.0, &by.1)))
        .unwrap();
    assert_eq!(check(&scene, true).await.leftovers, 0);
    assert!(held());
    drop(lease);
    assert_eq!(check(&scene, false).await.leftovers, 1);
    assert_eq!(check(&scene, true).await.leftovers, 0);
    assert!(!held());
}

#[tokio::test]
async fn nothing_is_exchanged_beneath_what_runs_and_leftovers_are_counted() {
    let (_liar, name, _) = shelved(&[rich()]).await;
    let scene = Scene::new();
    let image = scene.images.pull(&name, PullOptions::default()).await.unwrap();
    let container = ContainerId::random();
    let (of, by) = ((Table::Image, image.id().as_str()), (Table::Container, container.as_str()));
    scene.state.write::<_, state::Error>(Durability::Process, |tx| tx.hold(of, by)).unwrap();
    (DAMAGES[0].1)(&tree(&scene, &image));
    let options = |running| CheckOptions { repair: true, running, ..CheckOptions::default() };
    let checked = scene.images.check(options([container].into())).await.unwrap();
    let Outcome::Beyond(why) = &checked.problems[0].outcome else { panic!("{checked:?}") };
    assert!(why.contains("is on it"), "{why}");
    assert_eq!(fs::read(tree(&scene, &image).join("dir/file")).unwrap(), b"");
    assert!(scene.images.check(options(BTreeSet::new())).await.unwrap().is_sound());
    let stray = Digest::of(b"stray");
    for name in ["layers/.tmp-dead", &format!("layers/{}", stray.hex()), "blobs/sha256/.tmp-dead"] {
        fs::create_dir(scene.root.path().join(name)).unwrap();
    }
    fs::write(scene.root.path().join(format!("blobs/sha256/{}", stray.hex())), "x").unwrap();
    fs::remove_dir(scene.root.path().join("blobs/sha256/.tmp-dead")).unwrap();
    fs::write(scene.root.path().join("blobs/sha256/.tmp-dead"), "x").unwrap();
    scene
        .state
        .write::<_, state::Error>(Durability::Process, |tx| {
            tx.hold((Table::Layer, &image.layers()[0].to_string()), (Table::Image, &stray.to_string()))
        })
        .unwrap();
    let checked = check(&scene, false).await;
    assert_eq!((checked.problems.len(), checked.leftovers), (0, 5));
    assert_eq!(check(&scene, true).await.leftovers, 0);
    assert_sound(&scene).await;
}

#[tokio::test]
async fn records_that_are_gone_are_made_anew() {
    let (_liar, name, _) = shelved(&[rich()]).await;
    let scene = Scene::new();
    let image = scene.images.pull(&name, PullOptions::default()).await.unwrap();
    let keys = [(Table::Layer, image.layers()[0].to_string()), (Table::Blob, image.manifest().unwrap().to_string())];
    for (table, key) in keys {
        scene.state.write::<_, state::Error>(Durability::Process, |tx| tx.delete(table, &key)).unwrap();
        let checked = check(&scene, false).await;
        assert!(checked.problems.iter().any(|problem| problem.found == "it is not recorded"), "{checked:?}");
        assert!(check(&scene, true).await.is_sound());
        assert_sound(&scene).await;
    }
}
