//! Images on their way out: saved and pushed, with digests that survive.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::StreamExt;
use serde_json::Value;

use super::liar::{Asked, Liar, Reply};
use super::tests::{Scene, archive_of, config, layer, saved, saved_compressed};
use super::*;
use crate::oci::{Digest, Reference, media_type};
use crate::registry::Auth;

#[derive(Default)]
struct Held {
    blobs: BTreeMap<String, Vec<u8>>,
    /// Which repository knows which blob.
    known: BTreeSet<(String, String)>,
    manifests: BTreeMap<(String, String), (String, Vec<u8>)>,
    uploads: BTreeMap<String, Vec<u8>>,
}

/// Blobs by digest.
pub(super) type Shown = Arc<Mutex<BTreeMap<String, Vec<u8>>>>;

/// A registry that keeps what it is given.
pub(super) fn registry(spoil: impl Fn(&Asked) -> Option<Reply> + Send + Sync + 'static) -> (Liar, Shown) {
    let held = Mutex::new(Held::default());
    let seen: Shown = Arc::default();
    let shown = seen.clone();
    let liar = Liar::start(move |asked| {
        if let Some(reply) = spoil(asked) {
            return reply;
        }
        let mut held = held.lock().unwrap();
        let reply = answer(&mut held, asked);
        shown.lock().unwrap().clone_from(&held.blobs);
        reply
    });
    (liar, seen)
}

fn answer(held: &mut Held, asked: &Asked) -> Reply {
    let (path, query) = asked.path.split_once('?').unwrap_or((&asked.path, ""));
    let field = |name: &str| {
        let found = query.split('&').find_map(|pair| pair.strip_prefix(&format!("{name}=")));
        found.map(|value| value.replace("%3A", ":").replace("%2F", "/"))
    };
    let rest = path.strip_prefix("/v2/").unwrap();
    let unknown = || Reply::error(404, "BLOB_UNKNOWN", "blob unknown");
    if let Some((repository, name)) = rest.split_once("/manifests/") {
        let repository = repository.to_owned();
        if asked.method == "PUT" {
            let kind = asked.headers["content-type"].clone();
            let digest = Digest::of(&asked.body).to_string();
            for name in [name.to_owned(), digest.clone()] {
                held.manifests.insert((repository.clone(), name), (kind.clone(), asked.body.clone()));
            }
            return Reply::new(201, "").header("Docker-Content-Digest", digest);
        }
        return match held.manifests.get(&(repository, name.to_owned())) {
            Some((kind, bytes)) => Reply::ok(bytes.clone()).kind(kind),
            None => Reply::error(404, "MANIFEST_UNKNOWN", "manifest unknown"),
        };
    }
    if let Some(repository) = rest.strip_suffix("/tags/list") {
        let tags: Vec<_> = held.manifests.keys().filter(|(of, name)| of == repository && !name.contains(':')).collect();
        // One a page.
        let at = field("last").map_or(0, |last| tags.iter().position(|(_, tag)| *tag == last).unwrap() + 1);
        let page = serde_json::json!({"name": repository, "tags": [tags[at].1]}).to_string();
        return match at + 1 < tags.len() {
            true => Reply::ok(page)
                .header("Link", format!("</v2/{repository}/tags/list?last={}>; rel=\"next\"", tags[at].1)),
            false => Reply::ok(page),
        };
    }
    let (repository, name) = rest.split_once("/blobs/").unwrap();
    if let Some(upload) = name.strip_prefix("uploads/") {
        if asked.method == "POST" {
            if let (Some(digest), Some(from)) = (field("mount"), field("from"))
                && held.known.contains(&(from, digest.clone()))
            {
                held.known.insert((repository.to_owned(), digest));
                return Reply::new(201, "");
            }
            let id = format!("upload{}", held.uploads.len());
            held.uploads.insert(id.clone(), Vec::new());
            return Reply::new(202, "").header("Location", format!("/v2/{repository}/blobs/uploads/{id}?state=x"));
        }
        let bytes = held.uploads.get_mut(upload).unwrap();
        let range = |bytes: &[u8]| format!("0-{}", bytes.len().saturating_sub(1));
        let here = Reply::new(202, "").header("Location", asked.path.clone());
        match asked.method.as_str() {
            "GET" => return here.header("Range", range(bytes)),
            "PATCH" => {
                let from: usize = asked.headers["content-range"].split('-').next().unwrap().parse().unwrap();
                if from != bytes.len() {
                    return Reply::error(416, "RANGE_INVALID", "wrong place");
                }
                bytes.extend_from_slice(&asked.body);
                let range = range(bytes);
                return here.header("Range", range);
            }
            _ => bytes.extend_from_slice(&asked.body),
        }
        let digest = field("digest").unwrap();
        if Digest::of(bytes).to_string() != digest {
            return Reply::error(400, "DIGEST_INVALID", "provided digest did not match uploaded content");
        }
        let bytes = bytes.clone();
        held.blobs.insert(digest.clone(), bytes);
        held.known.insert((repository.to_owned(), digest));
        return Reply::new(201, "");
    }
    match held.blobs.get(name).filter(|_| held.known.contains(&(repository.to_owned(), name.to_owned()))) {
        Some(bytes) => Reply::ok(bytes.clone()),
        None => unknown(),
    }
}

pub(super) async fn save(scene: &Scene, names: &[&str]) -> Result<Vec<u8>, Error> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut saved = scene.images.save(&names, None).await?;
    let mut bytes = Vec::new();
    while let Some(piece) = saved.next().await {
        bytes.extend_from_slice(&piece?);
    }
    Ok(bytes)
}

/// The files of an archive.
fn files(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut reader = crate::snapshot::tar::Archive::new(archive);
    let mut files = BTreeMap::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        let contents = reader.contents(1 << 30).unwrap().unwrap();
        files.insert(String::from_utf8(entry.path).unwrap(), contents);
    }
    files
}

fn document(files: &BTreeMap<String, Vec<u8>>, name: &str) -> Value {
    serde_json::from_slice(&files[name]).unwrap()
}

#[tokio::test]
async fn what_was_loaded_is_saved_and_loaded_again_as_it_was() {
    let scene = Scene::new();
    let layers = [layer("a"), layer("b")];
    scene.load(saved(&["x:1", "x:2", "y:1"], &layers)).await.unwrap();
    scene.load(saved(&["z:1"], &layers[..1])).await.unwrap();
    let archive = save(&scene, &["x", "z:1"]).await.unwrap();
    assert_eq!(save(&scene, &["x", "z:1"]).await.unwrap(), archive);
    let held = files(&archive);
    let listed = document(&held, "manifest.json");
    assert_eq!(listed[0]["RepoTags"], serde_json::json!(["x:1", "x:2"]));
    assert_eq!(listed[1]["RepoTags"], serde_json::json!(["z:1"]));
    for (at, bytes) in layers.iter().enumerate() {
        // Byte for byte what came, though only the unpacked tree was kept; the shared one is in there once.
        assert_eq!(held[listed[0]["Layers"][at].as_str().unwrap()], *bytes);
    }
    assert_eq!(listed[0]["Layers"][0], listed[1]["Layers"][0]);
    let index = document(&held, "index.json");
    assert_eq!(index["manifests"].as_array().unwrap().len(), 3);
    assert_eq!(index["manifests"][0]["annotations"]["io.containerd.image.name"], "docker.io/library/x:1");
    let other = Scene::new();
    let loaded = other.load(archive.clone()).await.unwrap();
    assert_eq!(loaded.len(), 3);
    let manifest = loaded[0].image.manifest().unwrap();
    assert_eq!(index["manifests"][0]["digest"], manifest.to_string());
    assert_eq!(save(&other, &["x", "z"]).await.unwrap(), archive);
    // By id there is no name, and by name only that one.
    let by_id = files(&save(&other, &[loaded[0].image.id().as_str()]).await.unwrap());
    assert_eq!(document(&by_id, "manifest.json")[0]["RepoTags"], Value::Null);
    let one = files(&save(&other, &["x:2"]).await.unwrap());
    assert_eq!(document(&one, "manifest.json")[0]["RepoTags"], serde_json::json!(["x:2"]));
    assert_eq!(save(&other, &["nothing"]).await.unwrap_err().to_string(), "No such image: nothing:latest");
}

#[tokio::test]
async fn digests_survive_a_push_a_pull_and_a_save() {
    let scene = Scene::new();
    let (liar, blobs) = registry(|_| None);
    let layers = [layer("a"), layer("b"), layer("a")];
    let image = scene.load(saved(&["x:1"], &layers)).await.unwrap().remove(0).image;
    let name: Reference = format!("{}/team/x:1", liar.address).parse().unwrap();
    scene.images.tag(&image, &name).await.unwrap();
    let mut push = scene.images.push(&name, PushOptions::default());
    let progress = push.progress();
    let pushed = push.await.unwrap();
    let news: Vec<_> = progress.map(|news| news.status.to_string()).collect().await;
    assert_eq!(news[0], format!("The push refers to repository [{}/team/x]", liar.address));
    assert_eq!(news.iter().filter(|text| *text == "Pushed").count(), 2);
    let last = format!("1: digest: {} size: {}", pushed[0].digest, pushed[0].size);
    assert_eq!(news[news.len() - 2..], [last.clone(), last]);
    // Two layers, compressed, and the configuration.
    assert_eq!(blobs.lock().unwrap().len(), 3);
    let image = scene.images.get("x:1").await.unwrap();
    assert_eq!(image.digests(), [name.with_digest(pushed[0].digest)]);
    // A second time nothing is sent.
    let before = liar.asked().len();
    assert_eq!(scene.images.push(&name, PushOptions::default()).await.unwrap(), pushed);
    let sent = liar.asked().split_off(before);
    assert!(sent.iter().all(|asked| asked.method == "HEAD" || asked.path.contains("/manifests/")), "{sent:?}");

    let other = Scene::new();
    let pulled = other.images.pull(&name, PullOptions::default()).await.unwrap();
    assert_eq!((pulled.id(), pulled.manifest()), (image.id(), Some(pushed[0].digest)));
    let again: Reference = format!("{}/other/y:2", liar.address).parse().unwrap();
    other.images.tag(&pulled, &again).await.unwrap();
    let mut push = other.images.push(&again, PushOptions::default());
    let progress = push.progress();
    assert_eq!(push.await.unwrap()[0].digest, pushed[0].digest);
    let news: Vec<_> = progress.map(|news| news.status.to_string()).collect().await;
    assert_eq!(news.iter().filter(|text| *text == "Mounted from team/x").count(), 2, "{news:?}");
    let saved = save(&other, &[&again.to_string()]).await.unwrap();
    let third = Scene::new();
    assert_eq!(third.load(saved).await.unwrap()[0].image.manifest(), Some(pushed[0].digest));
    // All that was stored goes with the image.
    let id = image.id().to_string();
    scene.images.remove(&id, RemoveOptions { force: true, ..RemoveOptions::default() }).await.unwrap();
    scene.settles_at(0).await;
}

/// What [`Saved::write_to`] makes of it.
async fn write(saved: Saved) -> Result<Vec<u8>, Error> {
    let file = tempfile::NamedTempFile::new().unwrap();
    let target = file.reopen().unwrap();
    tokio::task::spawn_blocking(move || saved.write_to(&target)).await.unwrap()?;
    Ok(std::fs::read(file.path()).unwrap())
}

/// Layers with files that are gathered and such that the kernel hands on.
fn large_layers() -> [Vec<u8>; 2] {
    ["a", "b"].map(|name| {
        let mut tar = tar::Builder::new(Vec::new());
        for (number, size) in [100, 5000, 700_000, 31 << 10, 33 << 10, 0, 300_001].into_iter().enumerate() {
            let contents: Vec<u8> = (0..size).map(|at: usize| at.to_le_bytes()[number % 3]).collect();
            let mut header = tar::Header::new_ustar();
            header.set_size(size as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, format!("{name}/{number}"), contents.as_slice()).unwrap();
        }
        tar.into_inner().unwrap()
    })
}

#[tokio::test]
async fn an_archive_is_the_same_whichever_way_it_is_taken() {
    let scene = Scene::new();
    let layers = large_layers();
    let packed = saved_compressed("x:1", &layers);
    for archive in [saved(&["x:1"], &layers), packed] {
        scene.load(archive).await.unwrap();
        let names = ["x:1".to_owned()];
        let save = || scene.images.save(&names, None);
        let mut streamed = save().await.unwrap();
        let length = streamed.length();
        let mut bytes = Vec::new();
        while let Some(piece) = streamed.next().await {
            bytes.extend_from_slice(&piece.unwrap());
        }
        assert_eq!(bytes.len() as u64, length);
        assert!(write(save().await.unwrap()).await.unwrap() == bytes);
        // The rest of what was begun with, and of what has ended.
        let mut begun = save().await.unwrap();
        let first = begun.next().await.unwrap().unwrap();
        assert!([&*first, &*write(begun).await.unwrap()].concat() == bytes);
        assert!(write(streamed).await.unwrap().is_empty());
        // Nobody reads it, and there is no room for it.
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        drop(theirs);
        let saved = save().await.unwrap();
        assert!(matches!(saved.write_to(ours), Err(Error::Cancelled)));
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        assert!(matches!(save().await.unwrap().write_to(full), Err(Error::Write(_))));
        scene.images.remove("x:1", RemoveOptions::default()).await.unwrap();
    }
}

#[tokio::test]
async fn a_layer_whose_files_were_touched_is_saved_if_they_are_what_they_were() {
    let scene = Scene::new();
    let layers = large_layers();
    scene.load(saved(&["x:1"], &layers)).await.unwrap();
    let names = ["x:1".to_owned()];
    let whole = write(scene.images.save(&names, None).await.unwrap()).await.unwrap();
    let diff_id = Digest::of(&layers[1]);
    let path = scene.root.path().join("layers").join(diff_id.hex()).join("b/4");
    let contents = std::fs::read(&path).unwrap();
    // Times of files are a few milliseconds behind.
    std::thread::sleep(std::time::Duration::from_millis(20));
    std::fs::write(&path, &contents).unwrap();
    assert!(write(scene.images.save(&names, None).await.unwrap()).await.unwrap() == whole);
    let mut changed = contents.clone();
    changed[7] ^= 1;
    std::fs::write(&path, changed).unwrap();
    for error in [
        write(scene.images.save(&names, None).await.unwrap()).await.unwrap_err(),
        save(&scene, &["x:1"]).await.unwrap_err(),
    ] {
        let text = format!("layer {diff_id}: its files are not what they were when it was unpacked");
        assert_eq!(error.to_string(), text);
    }
    std::fs::write(&path, &contents[1..]).unwrap();
    let error = save(&scene, &["x:1"]).await.unwrap_err().to_string();
    assert!(error.contains("b/4 is not the file that it was"), "{error}");
}

#[tokio::test]
async fn a_blob_of_another_length_is_not_saved() {
    let layers = [layer("a")];
    let (_liar, name, _) = shelved(&layers).await;
    let scene = Scene::new();
    scene.images.pull(&name, PullOptions::default()).await.unwrap();
    let blob = scene.images.packed(&scene.images.list().await.unwrap()[0].layers()[0]).unwrap();
    let path = scene.root.path().join("blobs/sha256").join(blob.digest.hex());
    std::fs::OpenOptions::new().append(true).open(&path).and_then(|file| file.set_len(blob.size + 1)).unwrap();
    let error = save(&scene, &[&name.to_string()]).await.unwrap_err().to_string();
    assert!(error.contains(&format!("has {} bytes instead of {}", blob.size + 1, blob.size)), "{error}");
}

#[tokio::test]
async fn a_layer_that_is_here_in_another_form_keeps_the_digest_of_its_image() {
    let layers = [layer("a"), layer("b")];
    let (liar, name, image) = shelved(&layers).await;
    // The same layers from elsewhere: plain, and compressed in another way.
    let compressed = saved_compressed("y:1", &layers);
    for archive in [saved(&["y:1"], &layers), compressed] {
        let scene = Scene::new();
        let before = scene.load(archive).await.unwrap().remove(0).image;
        assert_eq!(before.id(), image.id());
        let pulled = scene.images.pull(&name, PullOptions::default()).await.unwrap();
        let manifest = pulled.manifest().unwrap();
        let again: Reference = format!("{}/again:1", liar.address).parse().unwrap();
        scene.images.tag(&pulled, &again).await.unwrap();
        let pushed = scene.images.push(&again, PushOptions::default()).await.unwrap();
        assert_eq!(pushed[0].digest, manifest);
        let held = files(&save(&scene, &[&again.to_string()]).await.unwrap());
        assert!(held.contains_key(&format!("blobs/sha256/{}", manifest.hex())));
        // Nothing is fetched again.
        let asked = liar.asked().len();
        scene.images.pull(&name, PullOptions::default()).await.unwrap();
        assert_eq!(liar.asked().len(), asked + 1);
        // Each stored thing is counted once.
        let usage = scene.images.usage().await.unwrap();
        assert_eq!((usage.images.len(), usage.images[0].size), (1, usage.total));
        for name in scene.images.list().await.unwrap()[0].references() {
            scene.images.remove(&name.to_string(), RemoveOptions::default()).await.unwrap();
        }
        scene.settles_at(0).await;
    }
}

/// What a registry has of an image whose layers it keeps compressed in some way.
pub(super) fn kept_by_a_registry(compressed: &[Vec<u8>], config: &[u8]) -> impl Fn(&Asked) -> Option<Reply> + use<> {
    let descriptor = |bytes: &[u8], kind: &str| serde_json::json!({"mediaType": kind, "digest": Digest::of(bytes), "size": bytes.len()});
    let layers: Vec<_> = compressed.iter().map(|bytes| descriptor(bytes, media_type::OCI_LAYER_ZSTD)).collect();
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST,
        "config": descriptor(config, media_type::OCI_CONFIG), "layers": layers
    });
    let manifest = manifest.to_string();
    let blobs: BTreeMap<String, Vec<u8>> = compressed
        .iter()
        .map(Vec::as_slice)
        .chain([config])
        .map(|bytes| (Digest::of(bytes).to_string(), bytes.to_vec()))
        .collect();
    move |asked| match asked.path.contains("/manifests/") {
        true => Some(Reply::ok(manifest.clone()).kind(media_type::OCI_MANIFEST)),
        false => blobs.get(asked.path.rsplit('/').next()?).map(|bytes| Reply::ok(bytes.clone())),
    }
}

fn serving(compressed: &[Vec<u8>], config: &[u8]) -> Liar {
    let answer = kept_by_a_registry(compressed, config);
    Liar::start(move |asked| answer(asked).unwrap_or_else(|| Reply::error(404, "BLOB_UNKNOWN", "blob unknown")))
}

#[tokio::test]
async fn an_image_holds_its_layers_in_its_own_form() {
    let layers = [layer("a")];
    let (_liar, name, _) = shelved(&layers).await;
    let own = [zstd::encode_all(layers[0].as_slice(), 1).unwrap()];
    let others: Vec<Vec<u8>> = (1..3).map(|count| [config(&layers), vec![b' '; count]].concat()).collect();
    let liars: Vec<Liar> = others.iter().map(|config| serving(&own, config)).collect();
    let scene = Scene::new();
    // The layer comes in one form, and two other images have it in another one.
    scene.images.pull(&name, PullOptions::default()).await.unwrap();
    let first = scene.images.pull(&liars[0].reference(), PullOptions::default()).await.unwrap();
    let second = scene.images.pull(&liars[1].reference(), PullOptions::default()).await.unwrap();
    // Of the second nothing but the manifest and the configuration had to come.
    assert_eq!(liars[1].asked().len(), 2);
    scene.images.remove(&liars[0].reference().to_string(), RemoveOptions::default()).await.unwrap();
    scene.images.remove(&name.to_string(), RemoveOptions::default()).await.unwrap();
    assert_ne!(first.id(), second.id());
    assert!(scene.images.blobs().path(&Digest::of(&own[0])).exists());
    let held = files(&save(&scene, &[&liars[1].reference().to_string()]).await.unwrap());
    assert!(held.contains_key(&format!("blobs/sha256/{}", second.manifest().unwrap().hex())));
    scene.images.remove(&liars[1].reference().to_string(), RemoveOptions::default()).await.unwrap();
    scene.settles_at(0).await;
}

#[tokio::test]
async fn a_bomb_that_passes_for_a_known_layer_is_not_unpacked() {
    let layers = [layer("a")];
    let scene = Scene::new();
    scene.load(saved(&["x:1"], &layers)).await.unwrap();
    let mut bomb = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    std::io::copy(&mut std::io::Read::take(std::io::repeat(0), 1 << 30), &mut bomb).unwrap();
    let liar = serving(&[bomb.finish().unwrap()], &config(&layers));
    let error = scene.images.pull(&liar.reference(), PullOptions::default()).await.unwrap_err();
    assert!(error.to_string().contains("unpacks to more than"), "{error}");
    assert_eq!((error.kind(), scene.stored()), (ErrorKind::Invalid, 1));
}

#[tokio::test]
async fn a_layer_outlives_the_blob_that_it_came_from() {
    let layers = [layer("a")];
    let (_liar, name, _) = shelved(&layers).await;
    let scene = Scene::new();
    // Another image has the same layer in another form.
    let mut other = config(&layers);
    other.push(b'\n');
    let compressed = [zstd::encode_all(layers[0].as_slice(), 1).unwrap()];
    let archive = archive_of(
        &compressed,
        other,
        |config, paths| serde_json::json!([{"Config": config, "RepoTags": ["y:1"], "Layers": paths}]),
    );
    scene.images.pull(&name, PullOptions::default()).await.unwrap();
    scene.load(archive).await.unwrap();
    scene.images.remove(&name.to_string(), RemoveOptions::default()).await.unwrap();
    let held = files(&save(&scene, &["y:1"]).await.unwrap());
    assert!(held.contains_key(&format!("blobs/sha256/{}", Digest::of(&compressed[0]).hex())));
    // A layer and its blob; what was loaded so had no manifest.
    scene.settles_at(2).await;
}

#[tokio::test]
async fn without_kept_blobs_a_push_compresses_anew_and_a_save_is_exact() {
    let mut scene = Scene::new();
    let settings = crate::settings::RegistrySettings { keep_blobs: false, ..Default::default() };
    scene.images =
        Images::open(scene.root.path(), scene.state.clone(), crate::events::Events::new(), &settings).unwrap();
    let (liar, _) = registry(|_| None);
    let first = Scene::new();
    let image = first.load(saved(&["x:1"], &[layer("a")])).await.unwrap().remove(0).image;
    let name: Reference = format!("{}/x:1", liar.address).parse().unwrap();
    first.images.tag(&image, &name).await.unwrap();
    let pushed = first.images.push(&name, PushOptions::default()).await.unwrap();
    let pulled = scene.images.pull(&name, PullOptions::default()).await.unwrap();
    // The layer and the manifest.
    assert_eq!((pulled.id(), scene.stored()), (image.id(), 2));
    let held = files(&save(&scene, &[&name.to_string()]).await.unwrap());
    assert!(held.values().any(|bytes| *bytes == layer("a")));
    // The same program compresses the same bytes to the same bytes.
    assert_eq!(scene.images.push(&name, PushOptions::default()).await.unwrap(), pushed);
}

#[tokio::test]
async fn an_upload_that_breaks_goes_on_in_pieces() {
    let scene = Scene::new();
    let broken = AtomicUsize::new(0);
    let (liar, blobs) = registry(move |asked| {
        let is_upload = asked.path.contains("/uploads/") && !asked.body.is_empty();
        (is_upload && broken.fetch_add(1, Ordering::Relaxed) < 2).then(|| Reply::new(502, "bad gateway"))
    });
    let large = Rootfs::new().file("large", 0o644, vec![7; 3_000_000]).into_archive();
    let image = scene.load(saved(&["x:1"], &[large])).await.unwrap().remove(0).image;
    let name: Reference = format!("{}/x:1", liar.address).parse().unwrap();
    scene.images.tag(&image, &name).await.unwrap();
    scene.images.push(&name, PushOptions::default()).await.unwrap();
    assert_eq!(blobs.lock().unwrap().len(), 2);
    assert!(liar.asked().iter().any(|asked| asked.method == "PATCH"));
}

#[tokio::test]
async fn what_may_not_be_taken_over_is_sent() {
    let (liar, _) = registry(|asked| {
        let refused = asked.path.contains("mount=");
        refused.then(|| Reply::error(401, "UNAUTHORIZED", "not yours").header("WWW-Authenticate", "Basic realm=\"x\""))
    });
    let scene = Scene::new();
    let image = scene.load(saved(&["x:1"], &[layer("a")])).await.unwrap().remove(0).image;
    let auth = Auth { username: "me".to_owned(), password: "secret".to_owned(), ..Auth::default() };
    for repository in ["theirs", "mine"] {
        let name: Reference = format!("{}/{repository}:1", liar.address).parse().unwrap();
        scene.images.tag(&image, &name).await.unwrap();
        scene.images.push(&name, PushOptions { auth: auth.clone(), ..PushOptions::default() }).await.unwrap();
    }
    assert!(liar.asked().iter().any(|asked| asked.path.contains("from=theirs")));
    let uploads = liar.asked().iter().filter(|asked| asked.method == "PUT" && asked.path.contains("/uploads/")).count();
    assert_eq!(uploads, 4);
}

#[tokio::test]
async fn a_registry_that_takes_pieces_and_has_none_of_them_is_given_up() {
    let scene = Scene::new();
    let (liar, _) = registry(|asked| match asked.method.as_str() {
        "PUT" if asked.path.contains("/uploads/") => Some(Reply::new(502, "bad gateway")),
        "PATCH" => Some(Reply::new(202, "").header("Location", asked.path.clone()).header("Range", "0-5")),
        _ => None,
    });
    let image = scene.load(saved(&["x:1"], &[layer("a")])).await.unwrap().remove(0).image;
    let name: Reference = format!("{}/x:1", liar.address).parse().unwrap();
    scene.images.tag(&image, &name).await.unwrap();
    let error = scene.images.push(&name, PushOptions::default()).await.unwrap_err();
    assert!(error.to_string().contains("has no more of it than before"), "{error}");
}

#[tokio::test]
async fn pushes_that_are_refused_say_why() {
    let scene = Scene::new();
    let image = scene.load(saved(&["x:1"], &[layer("a")])).await.unwrap().remove(0).image;
    let (denying, _) = registry(|asked| {
        (asked.method == "POST").then(|| Reply::error(403, "DENIED", "requested access to the resource is denied"))
    });
    let (lying, _) = registry(|asked| {
        (asked.method == "PUT" && asked.path.contains("/manifests/"))
            .then(|| Reply::new(201, "").header("Docker-Content-Digest", Digest::of(b"x").to_string()))
    });
    let (leading, _) = registry(|asked| {
        (asked.method == "POST").then(|| Reply::new(202, "").header("Location", "file:///etc/passwd"))
    });
    let (full, _) = registry(|asked| (asked.method == "POST").then(|| Reply::error(507, "UNKNOWN", "no space left")));
    let (busy, _) = registry(|asked| {
        let is_upload = asked.method == "PUT" && asked.path.contains("/uploads/");
        is_upload.then(|| Reply::error(429, "TOOMANYREQUESTS", "come back tomorrow").header("Retry-After", "86400"))
    });
    for (liar, text) in [
        (busy, "toomanyrequests: come back tomorrow"),
        (denying, "push access denied for"),
        (lying, "verification of the manifest that was put failed"),
        (leading, "which is no address"),
        (full, "no space left"),
    ] {
        let name: Reference = format!("{}/x:1", liar.address).parse().unwrap();
        scene.images.tag(&image, &name).await.unwrap();
        let error = scene.images.push(&name, PushOptions::default()).await.unwrap_err();
        assert!(error.to_string().contains(text), "{text:?} is not in: {error}");
        // Nobody is asked again before he wants to be.
        let is_upload = |asked: &Asked| asked.method == "PUT" && asked.path.contains("/uploads/");
        assert!(liar.asked().into_iter().filter(is_upload).count() <= 2, "{text}");
        assert!(scene.images.get("x:1").await.unwrap().digests().is_empty());
    }
    let missing = scene.images.push(&"nothing".parse().unwrap(), PushOptions::default()).await.unwrap_err();
    assert_eq!(missing.to_string(), "An image does not exist locally with the tag: nothing");
    let digest: Reference = format!("x@{}", Digest::of(b"x")).parse().unwrap();
    let error = scene.images.push(&digest, PushOptions::default()).await.unwrap_err();
    assert_eq!(error.to_string(), "cannot push a digest reference");
}

#[tokio::test]
async fn tokens_are_good_for_all_that_is_done_and_remembered() {
    let scene = Scene::new();
    let asked_for: Arc<Mutex<Vec<String>>> = Arc::default();
    let log = asked_for.clone();
    let (liar, _) = registry(move |asked| {
        if asked.path.starts_with("/token") {
            log.lock().unwrap().push(asked.path.clone());
            return Some(Reply::ok(r#"{"token":"t"}"#));
        }
        let host = &asked.headers["host"];
        let challenge = format!("Bearer realm=\"http://{host}/token\",service=\"s\",scope=\"repository:x:pull\"");
        (asked.headers.get("authorization").map(String::as_str) != Some("Bearer t"))
            .then(|| Reply::error(401, "UNAUTHORIZED", "authentication required").header("WWW-Authenticate", challenge))
    });
    let image = scene.load(saved(&["x:1"], &[layer("a"), layer("b")])).await.unwrap().remove(0).image;
    let name: Reference = format!("{}/x:1", liar.address).parse().unwrap();
    scene.images.tag(&image, &name).await.unwrap();
    let auth = Auth { username: "me".to_owned(), password: "secret".to_owned(), ..Auth::default() };
    let options = || PushOptions { auth: auth.clone(), ..PushOptions::default() };
    let pushed = scene.images.push(&name, options()).await.unwrap();
    let first = asked_for.lock().unwrap().len();
    assert!(asked_for.lock().unwrap()[0].contains("scope=repository%3Ax%3Apull%2Cpush"), "{asked_for:?}");
    scene.images.push(&name, options()).await.unwrap();
    assert_eq!(asked_for.lock().unwrap().len(), first);
    // Who is somebody else does not get it.
    let other = PushOptions { auth: Auth { username: "you".to_owned(), ..auth.clone() }, ..PushOptions::default() };
    scene.images.push(&name, other).await.unwrap();
    assert!(asked_for.lock().unwrap().len() > first);
    assert_eq!(pushed.len(), 1);
}

/// An image of several layers in a registry that counts how often each blob is fetched.
pub(super) async fn shelved(layers: &[Vec<u8>]) -> (Liar, Reference, Image) {
    let (liar, _) = registry(|_| None);
    let (name, image) = put(&liar, layers).await;
    (liar, name, image)
}

/// Pushes an image of these layers.
pub(super) async fn put(liar: &Liar, layers: &[Vec<u8>]) -> (Reference, Image) {
    let scene = Scene::new();
    let image = scene.load(saved(&["x:1"], layers)).await.unwrap().remove(0).image;
    let name: Reference = format!("{}/x:1", liar.address).parse().unwrap();
    scene.images.tag(&image, &name).await.unwrap();
    scene.images.push(&name, PushOptions::default()).await.unwrap();
    (name, image)
}

pub(super) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    };
    Rootfs::new().file(format!("noise{seed}"), 0o644, (0..length).map(|_| next()).collect::<Vec<u8>>()).into_archive()
}

#[tokio::test]
async fn two_programs_that_pull_at_once_fetch_each_layer_once() {
    let layers: Vec<_> = (1..6).map(|seed| noise(seed, 400_000)).collect();
    let (liar, name, image) = shelved(&layers).await;
    let before = liar.asked().len();
    let scene = Scene::new();
    let mut pulls = Vec::new();
    for _ in 0..4 {
        // Each is a program of its own, with its own connection to the state.
        let state = State::open(scene.root.path()).unwrap();
        let settings = crate::settings::RegistrySettings::default();
        let images = Images::open(scene.root.path(), state, crate::events::Events::new(), &settings).unwrap();
        let name = name.clone();
        pulls.push(tokio::spawn(async move { images.pull(&name, PullOptions::default()).await }));
    }
    for pull in pulls {
        assert_eq!(pull.await.unwrap().unwrap().id(), image.id());
    }
    let mut fetched: BTreeMap<String, usize> = BTreeMap::new();
    for asked in liar.asked().split_off(before) {
        if asked.method == "GET" && asked.path.contains("/blobs/") && !asked.path.contains(image.id().hex()) {
            *fetched.entry(asked.path).or_default() += 1;
        }
    }
    assert_eq!(fetched.len(), 5);
    assert!(fetched.values().all(|times| *times == 1), "{fetched:?}");
    // Layers, blobs and the manifest, and nothing in the making.
    scene.settles_at(11).await;
}

#[tokio::test]
async fn a_pull_that_was_cut_short_goes_on_where_it_was() {
    let (liar, name, image) = shelved(&[noise(7, 900_000)]).await;
    let scene = Scene::new();
    let manifest = {
        let mut pull = scene.images.pull(&name, PullOptions::default());
        let _progress = pull.progress();
        pull.await.unwrap().manifest().unwrap()
    };
    let bytes = scene.images.blobs().read(&manifest, 1 << 20).unwrap();
    let manifest: Value = serde_json::from_slice(&bytes).unwrap();
    let digest: Digest = manifest["layers"][0]["digest"].as_str().unwrap().parse().unwrap();
    let whole = scene.images.blobs().read(&digest, 10 << 20).unwrap();
    // As a program that was killed leaves it.
    for (length, spoiled, from) in
        [(300_000, false, Some(300_000)), (whole.len(), false, None), (300_000, true, Some(300_000))]
    {
        let other = Scene::new();
        let part = other.root.path().join(format!("blobs/sha256/.part-{}", digest.hex()));
        let mut partial = whole[..length].to_vec();
        if spoiled {
            partial[100_000] ^= 1;
        }
        std::fs::write(&part, partial).unwrap();
        other.images.collect_garbage().unwrap();
        let before = liar.asked().len();
        let pulled = other.images.pull(&name, PullOptions::default()).await;
        let asked = liar.asked().split_off(before);
        let of_blob: Vec<_> = asked.iter().filter(|asked| asked.path.ends_with(digest.hex().as_str())).collect();
        let ranges: Vec<_> = of_blob.iter().filter_map(|asked| asked.headers.get("range")).collect();
        match from {
            Some(from) => assert_eq!(ranges, [&format!("bytes={from}-")]),
            None => assert!(of_blob.is_empty()),
        }
        // What was wrong is fetched anew.
        assert_eq!(of_blob.len(), usize::from(from.is_some()) + usize::from(spoiled));
        assert_eq!(pulled.unwrap().id(), image.id());
        other.settles_at(3).await;
        assert!(!part.exists());
    }
}

#[tokio::test]
async fn what_a_container_wrote_becomes_a_layer() {
    use std::os::unix::fs::PermissionsExt;
    let scene = Scene::new();
    let base = scene.load(saved(&["base:1"], &[layer("a"), layer("b")])).await.unwrap().remove(0).image;
    let room = tempfile::tempdir().unwrap();
    let upper = room.path().join("upper");
    let make = |name: &str| std::fs::create_dir_all(upper.join(name)).unwrap();
    make("etc");
    make("dir/opaque");
    std::fs::write(upper.join("dir/new"), "new").unwrap();
    std::fs::hard_link(upper.join("dir/new"), upper.join("dir/again")).unwrap();
    std::fs::set_permissions(upper.join("dir/new"), std::fs::Permissions::from_mode(0o4755)).unwrap();
    std::fs::write(upper.join("etc/hosts"), "").unwrap();
    let whiteout = |name: &str| {
        let kind = rustix::fs::FileType::CharacterDevice;
        rustix::fs::mknodat(rustix::fs::CWD, upper.join(name), kind, rustix::fs::Mode::empty(), 0).unwrap();
    };
    whiteout("a");
    let opaque = std::fs::File::open(upper.join("dir/opaque")).unwrap();
    let mark = rustix::fs::fsetxattr(&opaque, "trusted.overlay.opaque", b"y", rustix::fs::XattrFlags::empty());
    mark.unwrap();
    let commit = |layering: Layering| {
        let (images, upper) = (scene.images.clone(), upper.clone());
        tokio::task::spawn_blocking(move || images.layer_on(layering, &upper))
    };
    let mut layering = Layering::new(Some(&base), base.layers().to_vec());
    layering.reference = Some("mine:1".parse().unwrap());
    layering.comment = "remark".to_owned();
    layering.change(None, &["CMD x".to_owned()]).unwrap();
    let image = commit(layering).await.unwrap().unwrap();
    assert_eq!((image.layers().len(), image.parent()), (3, Some(base.id())));
    let history = &image.config().history;
    assert_eq!((history.len(), history[2].comment.as_deref()), (3, Some("remark")));
    let held = files(&save(&scene, &["mine:1"]).await.unwrap());
    let top = held[&format!("blobs/sha256/{}", image.layers()[2].hex())].clone();
    let names: Vec<String> = files(&top).into_keys().collect();
    assert_eq!(names, [".wh.a", "dir/", "dir/again", "dir/new", "dir/opaque/", "dir/opaque/.wh..wh..opq", "etc/"]);
    let tree = scene.images.layers().path(&image.layers()[2]);
    let metadata = std::fs::metadata(tree.join("dir/new")).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o4755);
    assert_eq!(std::os::unix::fs::MetadataExt::nlink(&metadata), 2);
    assert!(tree.join("a").symlink_metadata().is_ok() && !tree.join("etc/hosts").exists());
    // Nothing changed is no layer.
    std::fs::remove_dir_all(&upper).unwrap();
    std::fs::create_dir(&upper).unwrap();
    let same = commit(Layering::new(Some(&base), base.layers().to_vec())).await.unwrap().unwrap();
    assert_eq!(same.layers(), base.layers());
    assert!(same.config().history.last().unwrap().empty_layer);
    let mut lying = Layering::new(Some(&base), base.layers().to_vec());
    lying.reference = Some(format!("x@{}", Digest::of(b"x")).parse().unwrap());
    assert_eq!(commit(lying).await.unwrap().unwrap_err().kind(), ErrorKind::Invalid);
}
