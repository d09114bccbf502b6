//! What is no image, and what refers to images: artifacts, and lists of referrers by every kind of registry.
#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::StreamExt;
use serde_json::{Value, json};

use super::liar::{Liar, Reply};
use super::outward::{put, registry};
use super::tests::{Scene, config, gzip, layer};
use super::*;
use crate::oci::{Digest, Platform, Reference, media_type};

const KIND: &str = "application/spdx+json";

fn descriptor(bytes: &[u8], media_type: &str) -> Value {
    json!({"mediaType": media_type, "digest": Digest::of(bytes), "size": bytes.len()})
}

/// An artifact in the form of the specification: an empty configuration, a type, and what it refers to perhaps.
fn artifact(subject: Option<&Value>) -> (Value, Vec<Vec<u8>>) {
    let (empty, contents) = (b"{}".to_vec(), b"{\"spdxVersion\": \"SPDX-2.3\"}".to_vec());
    let mut manifest = json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "artifactType": KIND,
        "config": descriptor(&empty, "application/vnd.oci.empty.v1+json"), "layers": [descriptor(&contents, KIND)],
        "annotations": {"org.opencontainers.image.created": "2026-01-01T00:00:00Z"}
    });
    if let Some(subject) = subject {
        manifest["subject"] = subject.clone();
    }
    (manifest, vec![empty, contents])
}

/// An OCI layout of these manifests, each with its name, and their blobs.
fn layout(manifests: &[(&str, &Value)], blobs: &[Vec<u8>]) -> Vec<u8> {
    let mut rootfs = Rootfs::new().file("oci-layout", 0o644, r#"{"imageLayoutVersion":"1.0.0"}"#);
    let mut entries = Vec::new();
    let documents: Vec<Vec<u8>> = manifests.iter().map(|(_, manifest)| manifest.to_string().into_bytes()).collect();
    for ((name, _), bytes) in manifests.iter().zip(&documents) {
        let mut entry = descriptor(bytes, media_type::OCI_MANIFEST);
        entry["annotations"] = json!({"io.containerd.image.name": name});
        entries.push(entry);
    }
    for blob in documents.iter().chain(blobs) {
        rootfs = rootfs.file(format!("blobs/sha256/{}", Digest::of(blob).hex()), 0o644, blob.clone());
    }
    let index = json!({"schemaVersion": 2, "manifests": entries}).to_string();
    rootfs.file("index.json", 0o644, index).into_archive()
}

/// An image that refers to another one, with a layer that is compressed or not.
fn referring(name: &str, subject: &Value, compressed: bool) -> (Value, Vec<Vec<u8>>) {
    let layers = [layer(name)];
    let config = config(&layers);
    let (bytes, kind) = match compressed {
        true => (gzip(&layers[0]), media_type::OCI_LAYER_GZIP),
        false => (layers[0].clone(), media_type::OCI_LAYER),
    };
    let manifest = json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "config": descriptor(&config, media_type::OCI_CONFIG),
        "layers": [descriptor(&bytes, kind)], "subject": subject, "annotations": {"by": "me"}
    });
    (manifest, vec![config, bytes])
}

/// An image of a registry, and one here that refers to it and has a name of the same repository.
async fn scene(liar: &Liar) -> (Scene, Reference, Reference, Value) {
    let (name, image) = put(liar, &[layer("a")]).await;
    let manifest = image.manifest().map_or_else(|| name.digest(), Some);
    let scene = Scene::new();
    let pulled = scene.images.pull(&name, PullOptions::default()).await.unwrap();
    let digest = pulled.manifest().or(manifest).unwrap();
    let size = scene.images.blobs().read(&digest, 1 << 20).unwrap().len();
    let subject = json!({"mediaType": media_type::DOCKER_MANIFEST, "digest": digest, "size": size});
    let (manifest, blobs) = referring("signature", &subject, true);
    let other = name.with_tag("signature").unwrap();
    scene.load(layout(&[(&other.full(), &manifest)], &blobs)).await.unwrap();
    (scene, name, other, manifest)
}

#[tokio::test]
async fn a_registry_without_a_list_of_referrers_has_them_under_a_tag() {
    let refused = AtomicUsize::new(0);
    // Somebody else changes the index in the meantime, once.
    let (liar, _) = registry(move |asked| {
        if asked.path.contains("/referrers/") {
            return Some(Reply::new(404, "404 page not found\n"));
        }
        let is_index = asked.method == "PUT" && asked.path.contains("/manifests/sha256-");
        (is_index && refused.fetch_add(1, Ordering::Relaxed) == 0).then(|| Reply::new(412, ""))
    });
    let (scene, name, other, manifest) = scene(&liar).await;
    let options = ReferrerOptions::default();
    assert_eq!(scene.images.referrers(&name, &options).await.unwrap().referrers, []);
    let pushed = scene.images.push(&other, PushOptions::default()).await.unwrap();
    // What refers to something is pushed as it is.
    assert_eq!(pushed[0].digest, Digest::of(manifest.to_string().as_bytes()));
    scene.images.push(&other, PushOptions::default()).await.unwrap();
    let found = scene.images.referrers(&name, &options).await.unwrap();
    assert_eq!(found.subject.digest.to_string(), manifest["subject"]["digest"].as_str().unwrap());
    let [referrer] = found.referrers.as_slice() else { panic!("{:?}", found.referrers) };
    assert_eq!((referrer.digest, referrer.size), (pushed[0].digest, pushed[0].size));
    assert_eq!(referrer.artifact_type.as_deref(), Some(media_type::OCI_CONFIG));
    assert_eq!(referrer.annotations["by"], "me");
    for (kind, count) in [(media_type::OCI_CONFIG, 1), (KIND, 0)] {
        let options = ReferrerOptions { kind: Some(kind.to_owned()), ..ReferrerOptions::default() };
        assert_eq!(scene.images.referrers(&name, &options).await.unwrap().referrers.len(), count, "{kind}");
    }
    // One that is not pushed as it is, since nobody wants to fetch a plain archive, refers to the same.
    let plain = name.with_tag("plain").unwrap();
    let (manifest, blobs) = referring("plain", &manifest["subject"], false);
    scene.load(layout(&[(&plain.full(), &manifest)], &blobs)).await.unwrap();
    scene.images.push(&plain, PushOptions::default()).await.unwrap();
    let found = scene.images.referrers(&name, &ReferrerOptions::default()).await.unwrap();
    assert_eq!(found.referrers.iter().map(|one| one.annotations["by"].as_str()).collect::<Vec<_>>(), ["me", "me"]);
    let options = ReferrerOptions { platform: Some("linux/s390x".parse::<Platform>().unwrap()), ..options };
    // What is no index is for whoever it is for.
    assert_eq!(scene.images.referrers(&name, &options).await.unwrap().referrers.len(), 2);
    let missing = name.with_tag("nothing").unwrap();
    let error = scene.images.referrers(&missing, &ReferrerOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_registry_that_lists_referrers_is_asked_page_by_page() {
    let (liar, _) = registry(|asked| {
        let (path, query) = asked.path.split_once('?').unwrap_or((&asked.path, ""));
        if asked.method == "PUT" && asked.path.contains("/manifests/") {
            let subject = serde_json::from_slice::<Value>(&asked.body).unwrap()["subject"]["digest"].clone();
            // It says that it has understood what the manifest refers to.
            return subject.as_str().map(|subject| Reply::new(201, "").header("OCI-Subject", subject));
        }
        let (repository, _) = path.split_once("/referrers/")?;
        let entry = |text: &str, kind: &str| {
            let mut entry = descriptor(text.as_bytes(), media_type::OCI_MANIFEST);
            entry["artifactType"] = kind.into();
            entry
        };
        let (entries, next) = match query.contains("page=2") {
            false => (vec![entry("one", KIND)], true),
            true => (vec![entry("two", "application/other"), entry("three", KIND)], false),
        };
        let index = json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": entries}).to_string();
        let reply = Reply::ok(index).kind(media_type::OCI_INDEX);
        Some(match next {
            true => reply.header("Link", format!("<{repository}/referrers/x?page=2>; rel=\"next\"")),
            false => reply,
        })
    });
    let (scene, name, other, _) = scene(&liar).await;
    scene.images.push(&other, PushOptions::default()).await.unwrap();
    assert!(!liar.asked().iter().any(|asked| asked.path.contains("/manifests/sha256-")));
    let found = scene.images.referrers(&name, &ReferrerOptions::default()).await.unwrap();
    assert_eq!(found.referrers.len(), 3);
    let options = ReferrerOptions { kind: Some(KIND.to_owned()), ..ReferrerOptions::default() };
    let found = scene.images.referrers(&name, &options).await.unwrap();
    // It was asked for one kind, and gave others all the same.
    assert_eq!(found.referrers.len(), 2);
    let asked = liar.asked();
    assert!(asked.iter().any(|asked| asked.path.ends_with("?artifactType=application%2Fspdx%2Bjson")), "{asked:?}");
}

#[tokio::test]
async fn lists_of_referrers_that_lie_are_refused() {
    let index = json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": []}).to_string();
    let manifest = artifact(None).0.to_string();
    for (body, link, text) in [
        (index.clone(), Some("</v2/x/referrers/y>; rel=\"next\""), "more than 64 pages"),
        (index.clone(), Some("<http://169.254.169.254/v2/>; rel=\"next\""), "the next page of its list is at"),
        (manifest, None, "its list of referrers is no index"),
        ("[]".to_owned(), None, "invalid manifest"),
        (" ".repeat(5 << 20), None, "more than 4194304 bytes"),
    ] {
        let (liar, _) = registry(move |asked| {
            let reply = || Reply::ok(body.clone()).kind(media_type::OCI_INDEX);
            asked.path.contains("/referrers/").then(|| match link {
                Some(link) => reply().header("Link", link),
                None => reply(),
            })
        });
        let (name, _) = put(&liar, &[layer("a")]).await;
        let error = Scene::new().images.referrers(&name, &ReferrerOptions::default()).await.unwrap_err();
        assert!(error.to_string().contains(text), "{text:?} is not in: {error}");
    }
}

#[tokio::test]
async fn an_artifact_is_no_image_and_says_what_it_is() {
    let (manifest, _) = artifact(None);
    let bytes = manifest.to_string();
    let liar = Liar::start(move |asked| match asked.path.contains("/manifests/") {
        true => Reply::ok(bytes.clone()).kind(media_type::OCI_MANIFEST),
        false => Reply::error(404, "BLOB_UNKNOWN", "blob unknown"),
    });
    let scene = Scene::new();
    let error = scene.images.pull(&liar.reference(), PullOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    let text = "an artifact of type \"application/spdx+json\" is no image that can be run";
    assert_eq!(error.to_string(), text);
    // It can be looked at, and nothing of it has to be an image's.
    let found = scene.images.look_up(&liar.reference(), &crate::registry::Auth::default()).await.unwrap();
    assert_eq!((found.descriptor.artifact_type.as_deref(), found.platforms.len()), (Some(KIND), 0));
    // Alone in an archive it is an error, and beside an image it is passed over.
    let (manifest, blobs) = artifact(None);
    let error = scene.load(layout(&[("x:sbom", &manifest)], &blobs)).await.unwrap_err();
    assert_eq!((error.kind(), error.to_string()), (ErrorKind::Unsupported, text.to_owned()));
    scene.settles_at(0).await;
    let (image, more) = referring("a", &descriptor(b"x", media_type::OCI_MANIFEST), true);
    let loaded = scene.load(layout(&[("x:sbom", &manifest), ("x:1", &image)], &[blobs, more].concat())).await.unwrap();
    assert_eq!(loaded.len(), 1);
    assert_eq!(loaded[0].reference.as_ref().unwrap().to_string(), "x:1");
}

#[tokio::test]
async fn a_pull_of_all_tags_passes_over_what_is_no_image() {
    let artifact = artifact(None).0.to_string();
    let signature = format!("sha256-{}.sig", Digest::of(b"x").hex());
    let tags = json!({"tags": [signature, "1", "sbom"]}).to_string();
    let (liar, _) = registry(move |asked| match asked.path.as_str() {
        path if path.contains("/tags/list") => Some(Reply::ok(tags.clone())),
        path if path.ends_with("/manifests/sbom") => Some(Reply::ok(artifact.clone()).kind(media_type::OCI_MANIFEST)),
        _ => None,
    });
    let (name, image) = put(&liar, &[layer("a")]).await;
    let scene = Scene::new();
    let mut pull = scene.images.pull_all(&name, PullOptions::default());
    let progress = pull.progress();
    let pulled = pull.await.unwrap();
    assert_eq!(pulled.iter().map(Image::id).collect::<Vec<_>>(), [image.id()]);
    let news: Vec<Progress> = progress.collect().await;
    let over: Vec<_> = news.iter().filter(|news| news.status.to_string().starts_with("Passed over: ")).collect();
    assert_eq!(over.iter().filter_map(|news| news.id.as_deref()).collect::<Vec<_>>(), ["sbom", &signature]);
}
