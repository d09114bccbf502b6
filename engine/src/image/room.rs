//! Room: what goes when images take too much, what never does, and what is left of an image whose compressed layers went.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use super::outward::{noise, put, registry, save, shelved};
use super::tests::{Scene, gzip, layer, saved};
use super::*;
use crate::id::ContainerId;
use crate::oci::{Digest, Reference};
use crate::state::{Durability, Table};

/// Images of one layer each, `name:1` with a file of so many bytes.
async fn load(scene: &Scene, names: &[(&str, u64)]) {
    for (name, seed) in names {
        scene.load(saved(&[&format!("{name}:1")], &[noise(*seed, 100_000)])).await.unwrap();
    }
}

async fn names(scene: &Scene) -> Vec<String> {
    let mut names: Vec<String> = scene.images.list().await.unwrap().iter().map(Image::shown).collect();
    names.sort();
    names
}

fn hold(scene: &Scene, image: &Image) -> ContainerId {
    let container = ContainerId::random();
    let (of, by) = ((Table::Image, image.id().as_str()), (Table::Container, container.as_str()));
    let hold = |tx: &mut state::Transaction<'_>| {
        tx.hold(of, by)?;
        use_now(tx, image.id().as_str())
    };
    scene.state.write::<_, state::Error>(Durability::Process, hold).unwrap();
    container
}

#[tokio::test]
async fn what_nobody_has_used_for_the_longest_time_goes_first() {
    let scene = Scene::new();
    load(&scene, &[("a", 1), ("b", 2), ("c", 3), ("d", 4)]).await;
    // One is used by a container, one was used again, one has lost its name.
    let first = scene.images.get("a:1").await.unwrap();
    hold(&scene, &first);
    let second = scene.images.get("b:1").await.unwrap();
    let container = hold(&scene, &second);
    let release = |tx: &mut state::Transaction<'_>| tx.release_all((Table::Container, container.as_str())).map(drop);
    scene.state.write::<_, state::Error>(Durability::Process, release).unwrap();
    scene.load(saved(&["d:1"], &[noise(5, 100_000)])).await.unwrap();
    assert_eq!(scene.images.list().await.unwrap().len(), 5);
    let all = scene.images.usage().await.unwrap().total;

    let trimmed = scene.images.trim(TrimOptions::to(all)).await.unwrap();
    assert_eq!((trimmed.removed.len(), trimmed.reclaimed, trimmed.taken), (0, 0, all));
    let trimmed = scene.images.trim(TrimOptions::to(all - 1)).await.unwrap();
    // The one without a name, though others were used before it.
    assert_eq!(names(&scene).await, ["a:1", "b:1", "c:1", "d:1"]);
    assert_eq!(trimmed.taken + trimmed.reclaimed, all);
    assert!(trimmed.reclaimed > 100_000);
    scene.images.trim(TrimOptions::to(trimmed.taken - 1)).await.unwrap();
    assert_eq!(names(&scene).await, ["a:1", "b:1", "d:1"]);
    // Nothing that was used a moment ago.
    let options = TrimOptions::to(0).spare(Duration::from_secs(60));
    assert!(scene.images.trim(options).await.unwrap().removed.is_empty());
    let trimmed = scene.images.trim(TrimOptions::to(0)).await.unwrap();
    assert_eq!(names(&scene).await, ["a:1"]);
    assert_eq!(trimmed.removed.iter().filter(|gone| matches!(gone, Removed::Untagged(_))).count(), 2);
    assert!(trimmed.taken > 100_000);
    assert_eq!(scene.images.usage().await.unwrap().total, trimmed.taken);
    scene.settles_at(1).await;
}

#[tokio::test]
async fn whoever_stores_an_image_makes_room() {
    let mut scene = Scene::new();
    load(&scene, &[("a", 1), ("b", 2)]).await;
    let room = crate::settings::RoomSettings::quota(250_000).spare(Duration::ZERO);
    scene.images = scene.images.clone().within(room.clone());
    let (_liar, name, _) = shelved(&[noise(3, 100_000)]).await;
    // Both kinds of what comes, and the one that came last stays.
    scene.images.pull(&name, PullOptions::default()).await.unwrap();
    gone(&scene, "a:1").await;
    load(&scene, &[("c", 4)]).await;
    gone(&scene, "b:1").await;
    assert!(scene.images.get("c:1").await.is_ok());
    // What was used a moment ago is spared.
    let other = Scene::new();
    load(&other, &[("a", 1), ("b", 2), ("c", 3)]).await;
    let sparing = other.images.clone().within(room.spare(Duration::from_secs(3600)));
    sparing.load(std::io::Cursor::new(saved(&["d:1"], &[noise(4, 100_000)]))).await.unwrap();
    while sparing.shared.trimming.is_busy() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(names(&other).await, ["a:1", "b:1", "c:1", "d:1"]);
    // And goes later, though nobody stores anything any more.
    let third = Scene::new();
    let brief = third.images.clone().within(crate::settings::RoomSettings::quota(1).spare(Duration::from_millis(50)));
    brief.load(std::io::Cursor::new(saved(&["a:1"], &[noise(1, 100_000)]))).await.unwrap();
    gone(&third, "a:1").await;
}

async fn gone(scene: &Scene, name: &str) {
    for _ in 0..500 {
        if scene.images.get(name).await.is_err() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{name} is still here: {:?}", names(scene).await);
}

#[tokio::test]
async fn a_use_is_noted_when_an_image_is_stored_named_and_pulled_again() {
    let scene = Scene::new();
    let (_liar, name, _) = shelved(&[layer("a")]).await;
    let used = async || scene.images.get(&name.to_string()).await.unwrap().last_used();
    scene.images.pull(&name, PullOptions::default()).await.unwrap();
    let first = used().await;
    scene.images.pull(&name, PullOptions::default()).await.unwrap();
    let second = used().await;
    assert!(first > 0 && second > first);
    let image = scene.images.get(&name.to_string()).await.unwrap();
    scene.images.tag(&image, &"other:1".parse().unwrap()).await.unwrap();
    assert!(used().await > second);
    scene.images.remove("other:1", RemoveOptions::default()).await.unwrap();
    scene.images.remove(&name.to_string(), RemoveOptions::default()).await.unwrap();
    // Nothing is left of it.
    let uses = scene.state.read::<_, state::Error>(|state| state.keys(Table::Use)).unwrap();
    assert!(uses.is_empty(), "{uses:?}");
}

#[tokio::test]
async fn pulls_and_room_made_at_the_same_time_leave_images_that_are_whole() {
    let layers: Vec<_> = (1..5).map(|seed| noise(seed, 200_000)).collect();
    let (liar, _) = registry(|_| None);
    let mut shelves: Vec<Reference> = Vec::new();
    for (at, some) in [&layers[..2], &layers[1..3], &layers[2..]].iter().enumerate() {
        let scene = Scene::new();
        let image = scene.load(saved(&["x:1"], some)).await.unwrap().remove(0).image;
        let name: Reference = format!("{}/x{at}:1", liar.address).parse().unwrap();
        scene.images.tag(&image, &name).await.unwrap();
        scene.images.push(&name, PushOptions::default()).await.unwrap();
        shelves.push(name);
    }
    let scene = Scene::new();
    let done = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    // Another program, with its own connection to the state, wants everything gone, over and over.
    let (root, ended) = (scene.root.path().to_owned(), done.clone());
    let trimming = tokio::spawn(async move {
        let state = State::open(&root).unwrap();
        let images = Images::open(&root, state, Events::new(), &RegistrySettings::default()).unwrap();
        let mut rounds = 0;
        while !ended.load(std::sync::atomic::Ordering::Relaxed) || rounds < 3 {
            images.trim(TrimOptions::to(0)).await.unwrap();
            rounds += 1;
        }
    });
    for _ in 0..4 {
        for name in &shelves {
            match scene.images.pull(name, PullOptions::default()).await {
                Ok(_) => {}
                // Somebody took a part of it three times over.
                Err(error) => assert!(error.is_race(), "{error}"),
            }
        }
    }
    done.store(true, std::sync::atomic::Ordering::Relaxed);
    trimming.await.unwrap();
    let checked = scene.images.check(CheckOptions::default()).await.unwrap();
    assert!(checked.is_sound(), "{checked:?}");
    let image = scene.images.pull(&shelves[0], PullOptions::default()).await.unwrap();
    assert_eq!(image.layers().len(), 2);
}

async fn blobs(scene: &Scene) -> usize {
    std::fs::read_dir(scene.root.path().join("blobs/sha256")).unwrap().count()
}

#[tokio::test]
async fn an_image_without_its_compressed_layers_is_given_out_as_before() {
    let layers = [noise(1, 100_000), layer("b")];
    let (liar, name, _) = shelved(&layers).await;
    let scene = Scene::new();
    let image = scene.images.pull(&name, PullOptions::default()).await.unwrap();
    let digest = image.manifest().unwrap();
    let before = scene.images.usage().await.unwrap();
    assert!(before.images[0].layers[0].content > 100_000);
    assert_eq!(blobs(&scene).await, 3);
    let trimmed = scene.images.trim(TrimOptions::compressed()).await.unwrap();
    assert_eq!((trimmed.compressed, trimmed.removed.len()), (2, 0));
    // The manifest is left, and the trees with a way back to their archives.
    assert_eq!(blobs(&scene).await, 1);
    let after = scene.images.usage().await.unwrap();
    assert_eq!((after.images[0].size, before.total - after.total), (after.total, trimmed.reclaimed - framings(&after)));
    assert!(scene.images.check(CheckOptions::default()).await.unwrap().is_sound());
    // What went is not missed.
    let asked = liar.asked().len();
    scene.images.pull(&name, PullOptions::default()).await.unwrap();
    assert_eq!(liar.asked().len(), asked + 1);
    // A save has the layers as they are uncompressed.
    let archive = save(&scene, &[&name.to_string()]).await.unwrap();
    let other = Scene::new();
    assert_eq!(other.load(archive).await.unwrap()[0].image.id(), image.id());
    // To a registry that has them nothing is sent; for another one they are compressed again, to the same bytes.
    for liar in [&liar, &registry(|_| None).0] {
        let again: Reference = format!("{}/x:2", liar.address).parse().unwrap();
        let image = scene.images.get(&name.to_string()).await.unwrap();
        scene.images.tag(&image, &again).await.unwrap();
        let pushed = scene.images.push(&again, PushOptions::default()).await.unwrap();
        assert_eq!(pushed[0].digest, digest);
    }
    scene.images.remove(image.id().as_str(), RemoveOptions { force: true, ..RemoveOptions::default() }).await.unwrap();
    scene.settles_at(0).await;
}

/// What is kept beside trees now, in place of what went.
fn framings(usage: &Usage) -> u64 {
    usage.images.iter().flat_map(|image| &image.layers).map(|layer| layer.content).sum()
}

#[tokio::test]
async fn a_damaged_layer_keeps_what_it_can_be_repaired_from() {
    let (_liar, name, _) = shelved(&[layer("a"), layer("b")]).await;
    let scene = Scene::new();
    let image = scene.images.pull(&name, PullOptions::default()).await.unwrap();
    std::fs::write(scene.images.layers().path(&image.layers()[0]).join("a"), "something else").unwrap();
    assert_eq!(scene.images.trim(TrimOptions::compressed()).await.unwrap().compressed, 1);
    let repaired = scene.images.check(CheckOptions { repair: true, ..CheckOptions::default() }).await.unwrap();
    assert!(repaired.is_sound() && repaired.problems.len() == 1, "{repaired:?}");
    assert_eq!(scene.images.trim(TrimOptions::compressed()).await.unwrap().compressed, 1);
    assert!(scene.images.check(CheckOptions::default()).await.unwrap().problems.is_empty());
}

#[tokio::test]
async fn what_containers_have_is_made_smaller_when_nothing_else_can_go() {
    let (liar, _) = registry(|_| None);
    let scene = Scene::new();
    for seed in [1, 2] {
        let (name, _) = put(&liar, &[noise(seed, 100_000)]).await;
        let name = name.with_tag(&seed.to_string()).unwrap();
        let image = scene.images.pull(&name.with_tag("1").unwrap(), PullOptions::default()).await.unwrap();
        scene.images.tag(&image, &name).await.unwrap();
        hold(&scene, &image);
    }
    let all = scene.images.usage().await.unwrap().total;
    let trimmed = scene.images.trim(TrimOptions::to(all - 50_000)).await.unwrap();
    // One was enough: that of the image that was used longer ago.
    assert_eq!((trimmed.compressed, trimmed.removed.len(), trimmed.taken < all - 50_000), (1, 0, true));
    assert_eq!(scene.images.list().await.unwrap().len(), 2);
}

#[tokio::test]
async fn without_kept_blobs_a_layout_of_compressed_layers_is_loaded() {
    let mut scene = Scene::new();
    let settings = RegistrySettings { keep_blobs: false, ..RegistrySettings::default() };
    scene.images = Images::open(scene.root.path(), scene.state.clone(), Events::new(), &settings).unwrap();
    let layers = [layer("a")];
    let packed = [gzip(&layers[0])];
    let archive = super::tests::layout("docker.io/library/x:1", &layers, &packed);
    let image = scene.load(archive).await.unwrap().remove(0).image;
    assert_eq!(image.layers(), [Digest::of(&layers[0])]);
    // The layer and the manifest; what is saved is the same image.
    assert_eq!(scene.stored(), 2);
    let other = Scene::new();
    let again = other.load(save(&scene, &["x:1"]).await.unwrap()).await.unwrap().remove(0).image;
    assert_eq!(again.id(), image.id());
    // Bytes that are not those of the manifest are refused as ever.
    let mut archive = super::tests::layout("docker.io/library/x:1", &layers, &packed);
    let at = archive.windows(packed[0].len()).position(|window| window == packed[0]).unwrap();
    archive[at + 4] ^= 1;
    let error = scene.load(archive).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
}

#[tokio::test]
async fn room_is_made_in_an_empty_store() {
    let scene = Scene::new();
    let trimmed = scene.images.trim(TrimOptions::to(0)).await.unwrap();
    assert_eq!(trimmed, Trimmed::default());
}
