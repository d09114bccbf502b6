//! Images from end to end: archives are made, loaded, named and removed.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;

use futures_util::StreamExt;
use serde_json::{Value, json};

use super::liar::{Liar, Reply};
use super::outward::kept_by_a_registry;
use super::*;
use crate::id::ContainerId;
use crate::oci::{Digest, ImageConfig, Platform, Reference};
use crate::state::{Durability, Table};

pub(super) struct Scene {
    pub(super) root: tempfile::TempDir,
    pub(super) state: State,
    pub(super) images: Images,
}

impl Scene {
    pub(super) fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let state = State::open(root.path()).unwrap();
        let images = open(root.path(), &state);
        Self { root, state, images }
    }

    pub(super) async fn load(&self, archive: Vec<u8>) -> Result<Vec<Loaded>, Error> {
        self.images.load(std::io::Cursor::new(archive)).await
    }

    async fn names(&self) -> Vec<String> {
        let mut names = Vec::new();
        for image in self.images.list().await.unwrap() {
            names.extend(image.references().iter().map(ToString::to_string));
        }
        names.sort();
        names
    }

    /// Layers, blobs and everything in the making; a layer and the framing of its archive are one.
    pub(super) fn stored(&self) -> usize {
        let names = |path: &str| -> BTreeSet<String> {
            let entries = std::fs::read_dir(self.root.path().join(path)).unwrap();
            let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            // What came of a blob stays for a while, for a pull that goes on.
            names.filter(|name| !name.starts_with(".part-")).collect()
        };
        let layers = names("layers");
        let framed = |name: &&String| name.strip_suffix(".framing").is_some_and(|layer| layers.contains(layer));
        layers.len() - layers.iter().filter(framed).count() + names("blobs/sha256").len()
    }

    /// Waits for removals that go on beside.
    pub(super) async fn settles_at(&self, stored: usize) {
        for _ in 0..500 {
            if self.stored() == stored {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        assert_eq!(self.stored(), stored);
    }

    fn hold(&self, image: &Image) -> ContainerId {
        let container = ContainerId::random();
        let (of, by) = ((Table::Image, image.id().as_str()), (Table::Container, container.as_str()));
        self.state.write::<_, state::Error>(Durability::Process, |tx| tx.hold(of, by)).unwrap();
        container
    }
}

/// A layer with one file.
pub(super) fn layer(name: &str) -> Vec<u8> {
    Rootfs::new().file(name, 0o644, format!("contents of {name}")).into_archive()
}

/// As [`saved`] of one name, with layers that are compressed.
pub(super) fn saved_compressed(name: &str, layers: &[Vec<u8>]) -> Vec<u8> {
    let compressed: Vec<_> = layers.iter().map(|layer| zstd::encode_all(layer.as_slice(), 1).unwrap()).collect();
    archive_of(
        &compressed,
        config(layers),
        |config, paths| json!([{"Config": config, "RepoTags": [name], "Layers": paths}]),
    )
}

pub(super) fn config(layers: &[Vec<u8>]) -> Vec<u8> {
    let diff_ids: Vec<Digest> = layers.iter().map(|layer| Digest::of(layer)).collect();
    json!({
        "architecture": "amd64", "os": "linux", "config": {"Cmd": ["sh"], "Labels": {"a": "b"}},
        "rootfs": {"type": "layers", "diff_ids": diff_ids}
    })
    .to_string()
    .into_bytes()
}

pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// What `docker save` writes: `<id>/layer.tar`, `<digits>.json`, `manifest.json`.
pub(super) fn saved(tags: &[&str], layers: &[Vec<u8>]) -> Vec<u8> {
    archive_of(layers, config(layers), |config, paths| json!([{"Config": config, "RepoTags": tags, "Layers": paths}]))
}

pub(super) fn archive_of(
    layers: &[Vec<u8>],
    config: Vec<u8>,
    manifest: impl FnOnce(String, Vec<String>) -> Value,
) -> Vec<u8> {
    let mut rootfs = Rootfs::new();
    let mut paths = Vec::new();
    for (index, layer) in layers.iter().enumerate() {
        let path = format!("{index:064x}/layer.tar");
        rootfs = rootfs.file(format!("{index:064x}/VERSION"), 0o644, "1.0").file(&*path, 0o644, layer);
        paths.push(path);
    }
    let name = format!("{}.json", Digest::of(&config).hex());
    let manifest = manifest(name.clone(), paths).to_string();
    rootfs.file(&*name, 0o644, config).file("manifest.json", 0o644, manifest).into_archive()
}

fn descriptor(bytes: &[u8], media_type: &str) -> Value {
    json!({"mediaType": media_type, "digest": Digest::of(bytes), "size": bytes.len()})
}

/// An OCI layout.
pub(super) fn layout(name: &str, layers: &[Vec<u8>], stored: &[Vec<u8>]) -> Vec<u8> {
    use crate::oci::media_type as types;
    let config = config(layers);
    let stored_layers: Vec<_> = stored.iter().map(|bytes| descriptor(bytes, types::OCI_LAYER_GZIP)).collect();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": types::OCI_MANIFEST,
        "config": descriptor(&config, types::OCI_CONFIG), "layers": stored_layers
    });
    let manifest = manifest.to_string().into_bytes();
    let mut entry = descriptor(&manifest, types::OCI_MANIFEST);
    entry["annotations"] = json!({"io.containerd.image.name": name});
    let index = json!({"schemaVersion": 2, "manifests": [entry]}).to_string();
    let mut rootfs = Rootfs::new().file("oci-layout", 0o644, r#"{"imageLayoutVersion":"1.0.0"}"#);
    for blob in [vec![config, manifest], stored.to_vec()].concat() {
        rootfs = rootfs.file(format!("blobs/sha256/{}", Digest::of(&blob).hex()), 0o644, blob);
    }
    rootfs.file("index.json", 0o644, index).into_archive()
}

fn open(root: &Path, state: &State) -> Images {
    Images::open(root, state.clone(), Events::new(), &RegistrySettings::default()).unwrap()
}

#[tokio::test]
async fn a_saved_image_is_loaded_and_found_by_every_name() {
    let scene = Scene::new();
    let layers = [layer("a"), layer("b"), layer("a")];
    let loaded = scene.load(saved(&["x:1", "localhost:5000/y:2"], &layers)).await.unwrap();
    assert_eq!(loaded.len(), 2);
    let image = &loaded[0].image;
    assert_eq!(image.id().to_string(), Digest::of(&config(&layers)).to_string());
    assert_eq!(image.raw_config().as_bytes(), config(&layers));
    assert_eq!(image.config().config.cmd.as_deref(), Some(["sh".to_owned()].as_slice()));
    assert_eq!(image.layers().len(), 3);
    assert_eq!(image.size(), 3 * 13);
    for name in [
        "x:1",
        "docker.io/library/x:1",
        "localhost:5000/y:2",
        image.id().as_str(),
        image.id().hex(),
        image.id().short(),
        &image.id().as_str()[..20],
    ] {
        assert_eq!(scene.images.get(name).await.unwrap().id(), image.id(), "{name}");
    }
    let path = scene.images.layers().path(&image.layers()[1]);
    assert_eq!(std::fs::read_to_string(path.join("b")).unwrap(), "contents of b");
    // Two layers, the equal ones once; plain layers are not kept as archives.
    assert_eq!(scene.stored(), 2);
    let events: Vec<_> = scene.images.shared.events.recent(0).iter().map(|event| event.action.clone()).collect();
    assert_eq!(events, ["load"]);
}

#[tokio::test]
async fn what_is_not_there_is_said_in_dockers_words() {
    let scene = Scene::new();
    scene.load(saved(&["abc:1"], &[layer("a")])).await.unwrap();
    let text = |name: &'static str| async { scene.images.get(name).await.unwrap_err().to_string() };
    assert_eq!(text("nope").await, "No such image: nope:latest");
    assert_eq!(text("abc:2").await, "No such image: abc:2");
    assert_eq!(text("a.b/c").await, "No such image: a.b/c:latest");
    assert_eq!(text("sha256:abcdef").await, "No such image: sha256:abcdef");
    let id = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    assert_eq!(text(id).await, format!("No such image: {id}"));
    assert_eq!(text("Abc").await, "invalid reference format: repository name (Abc) must be lowercase");
    let error = scene.images.get("../x").await.unwrap_err();
    assert_eq!((error.to_string().as_str(), error.kind()), ("invalid reference format", ErrorKind::Invalid));
}

#[tokio::test]
async fn archives_may_be_compressed_outside_and_inside() {
    let layers = [layer("a"), layer("b")];
    let plain = saved(&["x:1"], &layers);
    let packed = [gzip(&layers[0]), zstd::encode_all(layers[1].as_slice(), 1).unwrap()];
    let inside = archive_of(
        &packed,
        config(&layers),
        |config, paths| json!([{"Config": config, "RepoTags": ["x:1"], "Layers": paths}]),
    );
    let oci = layout("docker.io/library/x:1", &layers, &packed);
    for (what, archive, stored) in [
        ("plain", plain.clone(), 2),
        ("gzip", gzip(&plain), 2),
        ("zstd", zstd::encode_all(plain.as_slice(), 1).unwrap(), 2),
        ("compressed layers", inside, 4),
        ("layout", oci.clone(), 5),
        ("compressed layout", gzip(&oci), 5),
    ] {
        let scene = Scene::new();
        let mut load = scene.images.load(std::io::Cursor::new(archive));
        let mut progress = load.progress();
        let loaded = load.await.unwrap();
        assert_eq!(loaded[0].reference.as_ref().unwrap().to_string(), "x:1", "{what}");
        assert_eq!(loaded[0].image.layers().len(), 2);
        assert_eq!(scene.stored(), stored, "{what}");
        let mut last = None;
        while let Some(news) = progress.next().await {
            last = Some(news.status.to_string());
        }
        assert_eq!(last.as_deref(), Some("Loaded image: x:1"));
    }
}

#[tokio::test]
async fn one_archive_may_hold_several_images_and_links_between_layers() {
    let scene = Scene::new();
    let shared = layer("shared");
    let (one, two) = (config(std::slice::from_ref(&shared)), config(&[shared.clone(), layer("b")]));
    let manifest = json!([
        {"Config": "one.json", "RepoTags": ["x:1"], "Layers": ["1/layer.tar"]},
        {"Config": "two.json", "RepoTags": null, "Layers": ["2/layer.tar", "3/layer.tar"]}
    ]);
    let archive = Rootfs::new()
        .file("1/layer.tar", 0o644, &shared)
        .symlink("2/layer.tar", "../1/layer.tar")
        .file("3/layer.tar", 0o644, layer("b"))
        .file("one.json", 0o644, one)
        .file("two.json", 0o644, two)
        .file("manifest.json", 0o644, manifest.to_string())
        .into_archive();
    let loaded = scene.load(archive).await.unwrap();
    assert_eq!(loaded.len(), 2);
    assert!(loaded[1].reference.is_none());
    assert_eq!(loaded[1].image.layers()[0], loaded[0].image.layers()[0]);
    assert_eq!((scene.names().await, scene.stored()), (vec!["x:1".to_owned()], 2));
}

#[tokio::test]
async fn what_lies_is_refused_and_leaves_nothing() {
    let layers = [layer("a")];
    let good = config(&layers);
    let lying = |config: Vec<u8>, manifest: Value| {
        Rootfs::new()
            .file("l/layer.tar", 0o644, &layers[0])
            .file("c.json", 0o644, config)
            .file("manifest.json", 0o644, manifest.to_string())
            .into_archive()
    };
    let entry = |config: &str, layers: &[&str]| json!([{"Config": config, "RepoTags": ["x:1"], "Layers": layers}]);
    let packed = gzip(&layers[0]);
    let mut torn = packed.clone();
    torn.truncate(packed.len() - 9);
    for (what, archive, text) in [
        ("not an archive", b"hello".to_vec(), "invalid archive"),
        ("empty", Vec::new(), "does not contain"),
        ("empty archive", vec![0; 1024], "does not contain"),
        ("other layers", lying(config(&[layer("b")]), entry("c.json", &["l/layer.tar"])), "invalid diffID for layer 0"),
        ("fewer layers", lying(good.clone(), entry("c.json", &[])), "layers length mismatch: expected 1, got 0"),
        ("no config", lying(good.clone(), entry("d.json", &["l/layer.tar"])), "no document"),
        ("no layer", lying(good.clone(), entry("c.json", &["../../etc/passwd"])), "no layer"),
        ("traversal", lying(good.clone(), entry("../../c.json", &["l/layer.tar"])), "no document"),
        ("bad config", lying(b"{}".to_vec(), entry("c.json", &["l/layer.tar"])), "invalid image configuration"),
        ("bad manifest", lying(good.clone(), json!({"Config": 1})), "invalid manifest.json"),
        (
            "bad tag",
            lying(good.clone(), json!([{"Config": "c.json", "RepoTags": ["X:1"], "Layers": ["l/layer.tar"]}])),
            "lowercase",
        ),
        ("no images", lying(good.clone(), json!([])), "no image"),
        (
            "a config of another name",
            Rootfs::new()
                .file("l/layer.tar", 0o644, &layers[0])
                .file(format!("{}.json", Digest::of(b"x").hex()), 0o644, good.clone())
                .file(
                    "manifest.json",
                    0o644,
                    entry(&format!("{}.json", Digest::of(b"x").hex()), &["l/layer.tar"]).to_string(),
                )
                .into_archive(),
            "verification failed",
        ),
        ("torn layer", layout("x:1", &layers, &[torn]), "invalid archive"),
        (
            "a blob of another name",
            Rootfs::new()
                .file(format!("blobs/sha256/{}", Digest::of(b"x").hex()), 0o644, &packed)
                .file("index.json", 0o644, json!({"schemaVersion": 2, "manifests": [descriptor(b"x", "")]}).to_string())
                .into_archive(),
            "no document",
        ),
        (
            "a link in a circle",
            Rootfs::new()
                .symlink("a", "b")
                .symlink("b", "a")
                .file("manifest.json", 0o644, entry("a", &[]).to_string())
                .into_archive(),
            "circle",
        ),
    ] {
        let scene = Scene::new();
        let error = scene.load(archive).await.unwrap_err();
        assert!(error.to_string().contains(text), "{what}: {error}");
        assert_eq!(error.kind(), ErrorKind::Invalid, "{what}: {error}");
        scene.settles_at(0).await;
        assert!(scene.images.list().await.unwrap().is_empty());
    }
    let scene = Scene::new();
    let whole = saved(&["x:1"], &layers);
    scene.load(whole[..whole.len() / 3].to_vec()).await.unwrap_err();
    scene.settles_at(0).await;
}

#[tokio::test]
async fn what_attacks_is_refused_by_load_import_and_pull_and_a_good_one_works_afterwards() {
    let outside = tempfile::tempdir().unwrap();
    let (secret, directory) = (outside.path().join("secret"), outside.path().to_str().unwrap());
    std::fs::write(&secret, "secret").unwrap();
    let into = |rootfs: Rootfs, name: &str| rootfs.file(name, 0o644, "attack").into_archive();
    let attacks = [
        into(Rootfs::new().symlink("a", directory), "a/secret"),
        into(Rootfs::new().link("a", secret.to_str().unwrap()), "a"),
        into(Rootfs::new(), &format!("../../../../../../../..{directory}/secret")),
        into(Rootfs::new().directory("d/", 0o755).symlink("d", directory), "d/secret"),
        into(Rootfs::new().symlink("a", directory), "a/.wh.secret"),
        into(Rootfs::new().symlink("a", directory), "a/.wh..wh..opq"),
        Rootfs::new().link("passwd", "/etc/passwd").into_archive(),
    ];
    let scene = Scene::new();
    for (number, attack) in attacks.iter().enumerate() {
        let loaded = scene.load(saved(&["x:1"], std::slice::from_ref(attack))).await;
        let imported = scene.images.import(std::io::Cursor::new(attack.clone()), ImportOptions::default()).await;
        let packed = zstd::encode_all(attack.as_slice(), 1).unwrap();
        let served = kept_by_a_registry(&[packed], &config(std::slice::from_ref(attack)));
        let liar = Liar::start(move |asked| served(asked).unwrap_or_else(|| Reply::new(404, "")));
        let pulled = scene.images.pull(&liar.reference(), PullOptions::default()).await;
        assert!(
            loaded.is_err() && imported.is_err() && pulled.is_err(),
            "{number}: {loaded:?} {imported:?} {pulled:?}"
        );
        assert_eq!(std::fs::read_to_string(&secret).unwrap(), "secret");
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1);
        scene.settles_at(0).await;
    }
    // What only seems to lead out stays inside.
    let inside = into(Rootfs::new().symlink("a", "../../../../../../../.."), &format!("a{directory}/secret"));
    let image = scene.load(saved(&["x:1"], &[inside])).await.unwrap().remove(0).image;
    let made = scene.images.layers().path(&image.layers()[0]).join(directory.trim_start_matches('/')).join("secret");
    assert_eq!(std::fs::read_to_string(made).unwrap(), "attack");
    assert_eq!(std::fs::read_to_string(&secret).unwrap(), "secret");
    scene.load(saved(&["x:1"], &[layer("a")])).await.unwrap();
    assert_eq!(scene.names().await, ["x:1"]);
}

#[tokio::test]
async fn a_load_that_is_dropped_leaves_nothing() {
    let scene = Scene::new();
    let archive = saved(&["x:1"], &[layer("a"), layer("b")]);
    let (mut writer, reader) = tokio::io::duplex(1 << 20);
    tokio::io::AsyncWriteExt::write_all(&mut writer, &archive[..2000]).await.unwrap();
    let load = scene.images.load(reader);
    assert!(tokio::time::timeout(std::time::Duration::from_millis(200), load).await.is_err());
    scene.settles_at(0).await;
}

#[tokio::test]
async fn an_image_is_made_of_files_at_hand() {
    let scene = Scene::new();
    let program = b"\x7fELF\0[\0[[\0cat\0sh\0\0";
    let name: Reference = "busybox".parse().unwrap();
    let options = ImportOptions::named(name.clone()).command(["sh"]).env("PATH=/bin");
    let image = scene.images.build_from(Rootfs::busybox(program), options).await.unwrap();
    assert_eq!(image.references(), [name]);
    assert_eq!(image.config().platform().os, "linux");
    assert_eq!(image.config().config.env, ["PATH=/bin"]);
    let layer = scene.images.layers().path(&image.layers()[0]);
    assert_eq!(std::fs::read(layer.join("bin/cat")).unwrap(), program);
    assert!(layer.join("sbin/sh").exists());
    let archive = Rootfs::new().file("a", 0o644, "a").into_archive();
    let image = scene.images.import(std::io::Cursor::new(gzip(&archive)), ImportOptions::default()).await.unwrap();
    assert_eq!((image.references().len(), image.layers()), (0, [Digest::of(&archive)].as_slice()));
    let error = scene.images.import(&b"no archive"[..], ImportOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    let digest = ImportOptions::named(format!("x@{}", Digest::of(b"x")).parse().unwrap());
    let error = scene.images.import(std::io::Cursor::new(archive), digest).await.unwrap_err();
    assert_eq!(error.to_string(), "refusing to create a tag with a digest reference");
    scene.settles_at(2).await;
}

#[tokio::test]
async fn names_move_and_images_go_with_their_last_name() {
    let scene = Scene::new();
    let first = scene.load(saved(&["x:1"], &[layer("shared"), layer("a")])).await.unwrap().remove(0).image;
    let second = scene.load(saved(&["x:1"], &[layer("shared"), layer("b")])).await.unwrap().remove(0).image;
    assert_eq!(scene.images.get("x:1").await.unwrap().id(), second.id());
    assert!(scene.images.get(first.id().as_str()).await.unwrap().references().is_empty());
    scene.images.tag(&second, &"y".parse().unwrap()).await.unwrap();
    let digest = second.id().to_string();
    scene.images.tag(&second, &format!("y@{digest}").parse().unwrap()).await.unwrap_err();
    // What would be taken for an id is no name.
    let said = scene.images.tag(&second, &"sha256:abc".parse().unwrap()).await.unwrap_err();
    assert_eq!(said.to_string(), "refusing to create an ambiguous tag using digest algorithm as name");
    let removed = scene.images.remove("x:1", RemoveOptions::default()).await.unwrap();
    assert_eq!(removed, [Removed::Untagged("x:1".to_owned())]);
    assert_eq!((scene.names().await, scene.stored()), (vec!["y:latest".to_owned()], 3));
    let removed = scene.images.remove("y", RemoveOptions::default()).await.unwrap();
    let texts: Vec<_> = removed.iter().map(ToString::to_string).collect();
    let chain = Digest::of(format!("{} {}", second.layers()[0], second.layers()[1]).as_bytes());
    assert_eq!(
        texts,
        ["Untagged: y:latest".to_owned(), format!("Deleted: {}", second.id()), format!("Deleted: {chain}")]
    );
    assert_eq!(scene.images.get("y").await.unwrap_err().to_string(), "No such image: y:latest");
    let removed = scene.images.remove(first.id().short(), RemoveOptions::default()).await.unwrap();
    assert_eq!(removed.len(), 3);
    assert!(scene.images.list().await.unwrap().is_empty());
    scene.settles_at(0).await;
}

#[tokio::test]
async fn images_in_use_are_kept_by_dockers_rules() {
    let scene = Scene::new();
    let image = scene.load(saved(&["x:1"], &[layer("a")])).await.unwrap().remove(0).image;
    let (id, short) = (image.id().to_string(), image.id().short());
    let container = scene.hold(&image);
    let remove = |name: String, options: RemoveOptions| {
        let images = scene.images.clone();
        async move { images.remove(&name, options).await.map_err(|error| (error.kind(), error.to_string())) }
    };
    let forced = || RemoveOptions { force: true, ..RemoveOptions::default() };
    let running = |force| RemoveOptions { force, running: BTreeSet::from([container]), ..RemoveOptions::default() };
    let conflict = |text: String| Err((ErrorKind::Conflict, text));
    assert_eq!(
        remove("x:1".to_owned(), RemoveOptions::default()).await,
        conflict(format!(
            "conflict: unable to remove repository reference \"x:1\" (must force) - container {} is using its \
             referenced image {short}",
            container.short()
        ))
    );
    assert_eq!(
        remove(id.clone(), RemoveOptions::default()).await,
        conflict(format!(
            "conflict: unable to delete {short} (must be forced) - image is being used by stopped container {}",
            container.short()
        ))
    );
    assert_eq!(
        remove(id.clone(), running(true)).await,
        conflict(format!(
            "conflict: unable to delete {short} (cannot be forced) - image is being used by running container {}",
            container.short()
        ))
    );
    scene.images.tag(&image, &"other/y:2".parse().unwrap()).await.unwrap();
    let two = conflict(format!(
        "conflict: unable to delete {short} (must be forced) - image is referenced in multiple repositories"
    ));
    assert_eq!(remove(id.clone(), RemoveOptions::default()).await, two);
    assert_eq!(remove("other/y:2".to_owned(), RemoveOptions::default()).await.unwrap().len(), 1);
    // Forcing the name of an image that runs takes the name alone.
    assert_eq!(remove("x:1".to_owned(), running(true)).await, Ok(vec![Removed::Untagged("x:1".to_owned())]));
    assert_eq!(scene.images.get(&id).await.unwrap().references().len(), 0);
    // Forcing a stopped container's image leaves the container its layers.
    assert_eq!(remove(id.clone(), forced()).await, Ok(vec![Removed::Deleted(id.clone())]));
    assert_eq!(scene.stored(), 1);
    scene.images.collect_garbage().unwrap();
    assert_eq!(scene.stored(), 1);
    let by = (Table::Container, container.as_str());
    scene.state.write::<_, state::Error>(Durability::Process, |tx| tx.release_all(by)).unwrap();
    scene.images.collect_garbage().unwrap();
    scene.settles_at(0).await;
}

#[tokio::test]
async fn several_programs_load_and_remove_at_once() {
    let scene = Scene::new();
    let archives: Vec<_> = (0..4).map(|n| saved(&["same:1"], &[layer("shared"), layer(&n.to_string())])).collect();
    let mut tasks = Vec::new();
    for program in 0..4 {
        let (root, archives) = (scene.root.path().to_owned(), archives.clone());
        tasks.push(tokio::spawn(async move {
            let images = open(&root, &State::open(&root).unwrap());
            for round in 0..5 {
                let archive = archives[(program + round) % archives.len()].clone();
                match images.load(std::io::Cursor::new(archive)).await {
                    Ok(loaded) => {
                        let image = &loaded[0].image;
                        let names = images.get(image.id().as_str()).await.map(|image| image.layers().to_vec());
                        if let Ok(layers) = names {
                            assert_eq!(layers.len(), 2);
                        }
                        let _ = images
                            .remove(image.id().as_str(), RemoveOptions { force: true, ..RemoveOptions::default() })
                            .await;
                    }
                    // Somebody removed what this load had found there.
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}"),
                }
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    for image in scene.images.list().await.unwrap() {
        for diff_id in image.layers() {
            assert!(scene.images.layers().path(diff_id).exists());
        }
        scene
            .images
            .remove(image.id().as_str(), RemoveOptions { force: true, ..RemoveOptions::default() })
            .await
            .unwrap();
    }
    scene.settles_at(0).await;
}

#[test]
fn configurations_of_tests_are_sound() {
    assert!(ImageConfig::parse(&config(&[layer("a")])).is_ok());
}

#[tokio::test]
async fn what_nobody_uses_is_pruned() {
    let scene = Scene::new();
    let build = async |name: Option<&str>, program: &[u8]| {
        let options = ImportOptions { reference: name.map(|name| name.parse().unwrap()), ..ImportOptions::default() };
        scene.images.build_from(Rootfs::busybox(program), options).await.unwrap()
    };
    let held = build(None, b"held").await;
    scene.hold(&held);
    let nameless = build(None, b"nameless").await;
    build(Some("named:1"), b"named").await;

    let before = scene.images.usage().await.unwrap().total;
    let pruned = scene.images.prune(|image| image.references().is_empty()).await.unwrap();
    assert!(pruned.removed.contains(&Removed::Deleted(nameless.id().to_string())), "{:?}", pruned.removed);
    // Also what was kept beside its files.
    assert!(pruned.reclaimed > nameless.size());
    assert_eq!(pruned.reclaimed, before - scene.images.usage().await.unwrap().total);
    let told = scene.images.shared.events.recent(0).pop().unwrap();
    assert_eq!((told.action.as_str(), &told.attributes["reclaimed"]), ("prune", &pruned.reclaimed.to_string()));
    assert_eq!(scene.names().await, ["named:1"]);

    let pruned = scene.images.prune(|_| true).await.unwrap();
    assert!(pruned.removed.contains(&Removed::Untagged("named:1".to_owned())), "{:?}", pruned.removed);
    let left: Vec<_> = scene.images.list().await.unwrap().iter().map(|image| *image.id()).collect();
    assert_eq!(left, [*held.id()]);
    assert_eq!((scene.images.list().await.unwrap()[0].containers(), held.containers()), (1, 0));
    let told = scene.images.shared.events.recent(0);
    let prunes: Vec<_> = told.iter().filter(|event| event.action == "prune").collect();
    assert_eq!((prunes.len(), &prunes[1].attributes["reclaimed"]), (2, &pruned.reclaimed.to_string()));
    assert_eq!(scene.images.prune(|_| true).await.unwrap(), Pruned::default());
}

/// An archive of an image for this platform.
fn saved_for(name: &str, architecture: &str, variant: Option<&str>) -> Vec<u8> {
    let layers = [layer("a")];
    let mut config: Value = serde_json::from_slice(&config(&layers)).unwrap();
    config["architecture"] = architecture.into();
    config["variant"] = variant.into();
    let config = config.to_string().into_bytes();
    archive_of(&layers, config, |config, paths| json!([{"Config": config, "RepoTags": [name], "Layers": paths}]))
}

#[tokio::test]
async fn what_is_given_out_or_removed_by_its_platform_is_for_just_that_one() {
    let scene = Scene::new();
    for (name, architecture, variant) in
        [("old:1", "386", None), ("small:1", "arm", Some("v6")), ("own:1", "arm64", None)]
    {
        scene.load(saved_for(name, architecture, variant)).await.unwrap();
    }
    let platform = |text: &str| Some(text.parse::<Platform>().unwrap());
    let removal = |text: &str| RemoveOptions { platform: platform(text), ..RemoveOptions::default() };
    // A processor that is wanted would run them, and they are not for it all the same.
    for (name, wanted, own) in [
        ("old:1", "linux/amd64", "linux/386"),
        ("small:1", "linux/arm/v7", "linux/arm/v6"),
        ("small:1", "linux/arm64", "linux/arm/v6"),
        ("own:1", "linux/amd64", "linux/arm64"),
    ] {
        let said = format!(
            "image with reference {name} was found but does not provide the specified platform ({wanted}): it is for {own}"
        );
        let error = scene.images.remove(name, removal(wanted)).await.unwrap_err();
        assert_eq!((error.to_string(), error.kind()), (said.clone(), ErrorKind::NotFound));
        let error = scene.images.save(&[name.to_owned()], platform(wanted).as_ref()).await.err().unwrap();
        assert_eq!(error.to_string(), said);
        let options = PushOptions { platform: platform(wanted), ..PushOptions::default() };
        let error = scene.images.push(&name.parse().unwrap(), options).await.unwrap_err();
        assert_eq!(error.to_string(), said);
    }
    assert_eq!(scene.images.list().await.unwrap().len(), 3);
    for (name, wanted) in [("old:1", "linux/i386"), ("small:1", "linux/arm/6"), ("own:1", "linux/aarch64/v8")] {
        scene.images.save(&[name.to_owned()], platform(wanted).as_ref()).await.unwrap();
        scene.images.remove(name, removal(wanted)).await.unwrap();
    }
    assert!(scene.images.list().await.unwrap().is_empty());
}

#[tokio::test]
async fn what_is_loaded_for_a_platform_is_for_just_that_one() {
    let scene = Scene::new();
    let load = async |wanted: &str| {
        let options = LoadOptions { platform: Some(wanted.parse().unwrap()) };
        scene.images.load_with(std::io::Cursor::new(saved_for("old:1", "386", None)), options).await
    };
    let error = load("linux/amd64").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert_eq!(load("linux/386").await.unwrap().len(), 1);
}
