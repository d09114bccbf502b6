//! One layer over several connections: fetched so where one alone is slow, gone on with after a restart, and as good as any
//! other way when a registry does not play along.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use super::liar::{Asked, Liar, Reply};
use super::outward::{kept_by_a_registry, noise};
use super::scattered::Scattering;
use super::tests::{Scene, config};
use super::*;
use crate::oci::Digest;
use crate::settings::RegistrySettings;

const SIZE: usize = 3 << 20;

/// An engine that does so with layers of a test's size, on the root of a scene: as after a restart.
fn open(scene: &mut Scene) {
    let events = crate::events::Events::new();
    let images = Images::open(scene.root.path(), scene.state.clone(), events, &RegistrySettings::default()).unwrap();
    let mut shared = Arc::into_inner(images.shared).unwrap();
    shared.scattering = Scattering { after: 256 << 10, rest: 1 << 20, piece: 300_000 };
    scene.images = Images { shared: Arc::new(shared), room: Arc::default() };
}

/// A layer that is not worth compressing, and what a registry says that has it so.
fn large() -> (Vec<u8>, impl Fn(&Asked) -> Option<Reply> + use<>) {
    let layer = noise(7, SIZE);
    let packed = zstd::encode_all(layer.as_slice(), 1).unwrap();
    (layer.clone(), kept_by_a_registry(&[packed], &config(&[layer])))
}

fn is_large(reply: &Reply) -> bool {
    reply.body.len() > SIZE / 2
}

fn assert_whole(scene: &Scene, image: &Image) {
    let file = scene.images.layers().path(&image.layers()[0]).join("noise7");
    assert_eq!(std::fs::metadata(file).unwrap().len(), SIZE as u64);
    let manifest = scene.images.blobs().read(&image.manifest().unwrap(), 1 << 20).unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    let blob: Digest = manifest["layers"][0]["digest"].as_str().unwrap().parse().unwrap();
    assert_eq!(scene.images.blobs().read(&blob, 1 << 30).unwrap().len() as u64, manifest["layers"][0]["size"]);
}

/// The parts of blobs that were asked for.
fn parts(asked: &[Asked]) -> Vec<(usize, Option<usize>)> {
    let ranges = asked.iter().filter_map(|asked| asked.headers.get("range")?.strip_prefix("bytes="));
    ranges
        .map(|range| range.split_once('-').unwrap())
        .map(|(from, to)| (from.parse().unwrap(), to.parse().ok()))
        .collect()
}

#[tokio::test]
async fn a_slow_layer_comes_over_several_connections_and_the_rest_after_a_restart() {
    let mut scene = Scene::new();
    open(&mut scene);
    let (_, answer) = large();
    let stops = Arc::new(AtomicBool::new(true));
    let (told, count) = (stops.clone(), AtomicUsize::new(0));
    let liar = Liar::start(move |asked| {
        let reply = answer(asked).unwrap();
        if !is_large(&reply) {
            return reply;
        }
        let reply = reply.part(asked);
        // One of the first pieces never comes, those behind it do.
        let is_part = asked.headers.contains_key("range");
        let never = is_part && told.load(Ordering::SeqCst) && count.fetch_add(1, Ordering::SeqCst) == 1;
        reply.slow(if never { Duration::from_secs(3600) } else { Duration::from_millis(5) })
    });
    {
        let mut pull = scene.images.pull(&liar.reference(), PullOptions::default());
        // Some pieces, each by a request of its own.
        while parts(&liar.asked()).len() < 6 {
            assert!(futures_util::poll!(&mut pull).is_pending());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    // The layer's thread notices soon that nobody sends any more.
    tokio::time::sleep(Duration::from_millis(50)).await;
    stops.store(false, Ordering::SeqCst);
    open(&mut scene);
    let asked = liar.asked().len();
    let image = scene.images.pull(&liar.reference(), PullOptions::default()).await.unwrap();
    assert_whole(&scene, &image);
    let after = parts(&liar.asked()[asked..]);
    let again: usize = after.iter().map(|(from, end)| end.map_or(SIZE, |end| end + 1).saturating_sub(*from)).sum();
    assert!(again < SIZE - 300_000, "{again} bytes were fetched again: {after:?}");
    assert!(!after.iter().any(|(from, _)| *from == 0), "{after:?}");
    scene.images.remove(&liar.reference().to_string(), RemoveOptions::default()).await.unwrap();
    scene.settles_at(0).await;
}

#[tokio::test]
async fn a_registry_without_ranges_gives_the_whole() {
    let mut scene = Scene::new();
    open(&mut scene);
    let (_, answer) = large();
    let liar = Liar::start(move |asked| {
        let reply = answer(asked).unwrap();
        let pause = if is_large(&reply) { Duration::from_millis(5) } else { Duration::ZERO };
        reply.slow(pause)
    });
    let image = scene.images.pull(&liar.reference(), PullOptions::default()).await.unwrap();
    assert_whole(&scene, &image);
    assert!(!parts(&liar.asked()).is_empty());
}

#[tokio::test]
async fn what_a_loss_of_power_has_left_is_fetched_anew() {
    let scene = Scene::new();
    let (_, answer) = large();
    let liar = Liar::start(move |asked| {
        let reply = answer(asked).unwrap();
        if is_large(&reply) { reply.part(asked) } else { reply }
    });
    scene.images.pull(&liar.reference(), PullOptions::default()).await.unwrap();
    scene.images.remove(&liar.reference().to_string(), RemoveOptions::default()).await.unwrap();
    let blobs: Vec<String> =
        liar.asked().iter().filter_map(|asked| Some(asked.path.split("sha256:").nth(1)?.to_owned())).collect();
    // Names and lengths were on the disk, and the bytes were not.
    for blob in blobs {
        std::fs::write(scene.root.path().join(format!("blobs/sha256/.part-{blob}")), vec![0; 100_000]).unwrap();
    }
    let image = scene.images.pull(&liar.reference(), PullOptions::default()).await.unwrap();
    assert_whole(&scene, &image);
    assert!(parts(&liar.asked()).contains(&(100_000, None)));
}

#[tokio::test]
async fn other_bytes_than_those_that_were_asked_for_are_refused() {
    let mut scene = Scene::new();
    open(&mut scene);
    let (_, answer) = large();
    let liar = Liar::start(move |asked| {
        let reply = answer(asked).unwrap();
        if !is_large(&reply) {
            return reply;
        }
        if asked.headers.contains_key("range") {
            return Reply::new(206, reply.part(asked).body).header("Content-Range", "bytes 1-300000/3145728");
        }
        reply.slow(Duration::from_millis(5))
    });
    let error = scene.images.pull(&liar.reference(), PullOptions::default()).await.unwrap_err();
    assert!(error.to_string().contains("other bytes than those"), "{error}");
    assert!(scene.images.list().await.unwrap().is_empty());
}
