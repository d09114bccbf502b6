//! Pulls from registries that lie, stall, break off and lead astray: each is a clear error, and nothing stays behind.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use serde_json::{Value, json};

use super::outward::{kept_by_a_registry, noise};
use super::tests::{Scene, config, gzip, layer};
use super::*;
use crate::oci::{Digest, Platform, Reference, media_type};
use crate::registry::Auth;

/// What a test server answers.
#[derive(Clone)]
pub(super) struct Reply {
    pub(super) status: u16,
    headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    /// Instead of the body's.
    length: Option<u64>,
    /// No length at all, and the body over and over.
    endless: bool,
    /// What passes after each piece of the body.
    pause: Duration,
}

impl Reply {
    pub(super) fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: body.into(), length: None, endless: false, pause: Duration::ZERO }
    }

    pub(super) fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self::new(200, body)
    }

    pub(super) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub(super) fn kind(self, media_type: &str) -> Self {
        self.header("Content-Type", media_type)
    }

    /// As slow as a long way.
    pub(super) fn slow(mut self, pause: Duration) -> Self {
        self.pause = pause;
        self
    }

    /// The part of the body that was asked for.
    pub(super) fn part(mut self, asked: &Asked) -> Self {
        let Some(range) = asked.headers.get("range").and_then(|range| range.strip_prefix("bytes=")) else {
            return self;
        };
        let (start, end) = range.split_once('-').unwrap();
        let start: usize = start.parse().unwrap();
        let end = end.parse().map_or(self.body.len(), |last: usize| last + 1);
        let range = format!("bytes {start}-{}/{}", end - 1, self.body.len());
        self.body = self.body[start..end].to_vec();
        self.status = 206;
        self.header("Content-Range", range)
    }

    pub(super) fn error(status: u16, code: &str, message: &str) -> Self {
        Self::new(status, json!({"errors": [{"code": code, "message": message}]}).to_string()).kind("application/json")
    }
}

/// What is sent before a pause.
const SLICE: usize = 64 << 10;

#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) headers: BTreeMap<String, String>,
    pub(super) body: Vec<u8>,
}

/// A registry on a port of its own. It ends with the test's process; each connection is one answer.
pub(super) struct Liar {
    pub(super) address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Liar {
    pub(super) fn start(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let (log, answer) = (asked.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (log, answer) = (log.clone(), answer.clone());
                std::thread::spawn(move || serve(stream, &log, &*answer));
            }
        });
        Self { address, asked }
    }

    pub(super) fn reference(&self) -> Reference {
        format!("{}/some/image:1", self.address).parse().unwrap()
    }

    pub(super) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

fn serve(mut stream: TcpStream, log: &Mutex<Vec<Asked>>, answer: &(impl Fn(&Asked) -> Reply + ?Sized)) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let method = line.split(' ').next()?.to_owned();
    let path = line.split(' ').nth(1)?.to_owned();
    let mut headers = BTreeMap::new();
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim().split_once(": ") else { break };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let asked = Asked { method, path, headers, body };
    log.lock().unwrap().push(asked.clone());
    let reply = answer(&asked);
    let mut head = format!("HTTP/1.1 {} X\r\nConnection: close\r\n", reply.status);
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    if !reply.endless {
        head += &format!("Content-Length: {}\r\n", reply.length.unwrap_or(reply.body.len() as u64));
    }
    stream.write_all((head + "\r\n").as_bytes()).ok()?;
    let has_body = asked.method != "HEAD";
    loop {
        for piece in reply.body.chunks(SLICE).filter(|_| has_body) {
            stream.write_all(piece).ok()?;
            if !reply.pause.is_zero() {
                std::thread::sleep(reply.pause);
            }
        }
        if !reply.endless {
            break;
        }
    }
    stream.shutdown(Shutdown::Write).ok()?;
    let _ = stream.read(&mut [0]);
    Some(())
}

/// An image as a registry has it: the manifest, and the blobs by digest.
#[derive(Clone)]
struct Store {
    manifest: Vec<u8>,
    blobs: BTreeMap<String, Vec<u8>>,
    layer: String,
    config: String,
}

fn descriptor(bytes: &[u8], media_type: &str) -> Value {
    json!({"mediaType": media_type, "digest": Digest::of(bytes), "size": bytes.len()})
}

fn store(names: &[&str]) -> Store {
    let layers: Vec<_> = names.iter().map(|name| layer(name)).collect();
    let packed: Vec<_> = layers.iter().map(|layer| gzip(layer)).collect();
    let config = config(&layers);
    let manifest = json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST,
        "config": descriptor(&config, media_type::OCI_CONFIG),
        "layers": packed.iter().map(|bytes| descriptor(bytes, media_type::OCI_LAYER_GZIP)).collect::<Vec<_>>()
    });
    let (first, of_config) = (Digest::of(&packed[0]).to_string(), Digest::of(&config).to_string());
    let blobs = packed.into_iter().chain([config]).map(|bytes| (Digest::of(&bytes).to_string(), bytes)).collect();
    Store { manifest: manifest.to_string().into_bytes(), blobs, layer: first, config: of_config }
}

impl Store {
    /// An honest answer.
    fn answer(&self, asked: &Asked) -> Reply {
        let name = asked.path.rsplit('/').next().unwrap();
        if asked.path.contains("/manifests/") {
            return match name == "1" || name == Digest::of(&self.manifest).to_string() {
                true => Reply::ok(self.manifest.clone()).kind(media_type::OCI_MANIFEST),
                false => Reply::error(404, "MANIFEST_UNKNOWN", "manifest unknown"),
            };
        }
        self.blobs
            .get(name)
            .map_or_else(|| Reply::error(404, "BLOB_UNKNOWN", "blob unknown"), |bytes| Reply::ok(bytes.clone()))
    }

    fn is_layer(&self, asked: &Asked) -> bool {
        asked.path.ends_with(&self.layer)
    }
}

async fn pull(scene: &Scene, liar: &Liar) -> Result<Image, Error> {
    scene.images.pull(&liar.reference(), PullOptions::default()).await
}

/// Pulls, expects an error with this text, and that nothing is left.
async fn refuses(text: &str, answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Error {
    let (scene, liar) = (Scene::new(), Liar::start(answer));
    let error = pull(&scene, &liar).await.unwrap_err();
    assert!(error.to_string().contains(text), "{text:?} is not in: {error}");
    assert!(scene.images.list().await.unwrap().is_empty());
    scene.settles_at(0).await;
    error
}

#[tokio::test]
async fn an_honest_registry_is_pulled_from_once() {
    let scene = Scene::new();
    let held = store(&["a", "b", "a"]);
    let (serving, manifest) = (held.clone(), Digest::of(&held.manifest));
    let liar = Liar::start(move |asked| serving.answer(asked));
    let mut pull = scene.images.pull(&liar.reference(), PullOptions::default());
    let progress = pull.progress();
    let image = pull.await.unwrap();
    assert_eq!(image.references(), [liar.reference()]);
    assert_eq!(image.digests(), [liar.reference().with_digest(manifest)]);
    assert_eq!(image.manifest(), Some(manifest));
    let path = scene.images.layers().path(&image.layers()[1]);
    assert_eq!(std::fs::read_to_string(path.join("b")).unwrap(), "contents of b");
    // Two layers, their blobs and the manifest.
    assert_eq!(scene.stored(), 5);
    let news: Vec<_> = progress.map(|news| news.status.to_string()).collect().await;
    assert_eq!(news[0], "Pulling from some/image");
    assert_eq!(news[1..4], ["Pulling fs layer", "Pulling fs layer", "Already exists"]);
    assert_eq!(news.iter().filter(|text| *text == "Pull complete").count(), 2);
    let reference = liar.reference();
    assert_eq!(
        news[news.len() - 2..],
        [format!("Digest: {manifest}"), format!("Status: Downloaded newer image for {reference}")]
    );
    let before = liar.asked().len();
    let mut again = scene.images.pull(&reference, PullOptions::default());
    let progress = again.progress();
    assert_eq!(again.await.unwrap().id(), image.id());
    let news: Vec<_> = progress.map(|news| news.status.to_string()).collect().await;
    assert_eq!(news[1..], [format!("Digest: {manifest}"), format!("Status: Image is up to date for {reference}")]);
    // The manifest says that all is here.
    assert_eq!(liar.asked().len() - before, 1);
    let by_digest = reference.with_digest(manifest);
    assert_eq!(scene.images.pull(&by_digest, PullOptions::default()).await.unwrap().id(), image.id());
    let removed = scene.images.remove(&reference.to_string(), RemoveOptions::default()).await.unwrap();
    assert_eq!(removed.len(), 2 + 1 + 2);
    scene.settles_at(0).await;
}

#[tokio::test]
async fn wrong_bytes_are_refused() {
    let held = store(&["a"]);
    let other = gzip(&layer("another-one"));
    let (s, bytes) = (held.clone(), other.clone());
    refuses("it should have", move |asked| if s.is_layer(asked) { Reply::ok(bytes.clone()) } else { s.answer(asked) })
        .await;
    // The right size, other bytes.
    let s = held.clone();
    refuses("verification failed", move |asked| {
        let mut reply = s.answer(asked);
        if s.is_layer(asked) {
            // The header's time, which inflating does not look at.
            reply.body[4] ^= 1;
        }
        reply
    })
    .await;
    let s = held.clone();
    refuses("verification of the configuration failed", move |asked| {
        let mut reply = s.answer(asked);
        if asked.path.ends_with(&s.config) {
            reply.body[0] = b' ';
        }
        reply
    })
    .await;
    // The manifest is not what its header or its name says.
    let s = held.clone();
    refuses("verification of the manifest failed", move |asked| {
        s.answer(asked).header("Docker-Content-Digest", Digest::of(b"x").to_string())
    })
    .await;
    // The layer is what the manifest says, and not what the configuration says.
    let mut lying = held.clone();
    let mut manifest: Value = serde_json::from_slice(&held.manifest).unwrap();
    manifest["layers"][0] = descriptor(&other, media_type::OCI_LAYER_GZIP);
    lying.manifest = manifest.to_string().into_bytes();
    lying.blobs.insert(Digest::of(&other).to_string(), other);
    refuses("layer verification failed", move |asked| lying.answer(asked)).await;
}

#[tokio::test]
async fn wrong_sizes_are_refused() {
    let held = store(&["a"]);
    let resized = |size: u64| {
        let mut held = held.clone();
        let mut manifest: Value = serde_json::from_slice(&held.manifest).unwrap();
        manifest["layers"][0]["size"] = size.into();
        held.manifest = manifest.to_string().into_bytes();
        held
    };
    for size in [5, 100_000] {
        let s = resized(size);
        refuses("it should have", move |asked| s.answer(asked)).await;
        let s = resized(size);
        // Without a length to compare, by count.
        let text = if size == 5 { "more than 5 bytes" } else { "more than 100000 bytes" };
        refuses(text, move |asked| Reply { endless: s.is_layer(asked), ..s.answer(asked) }).await;
    }
    let s = resized(u64::MAX);
    refuses("it should have", move |asked| s.answer(asked)).await;
    refuses("more than 4194304 bytes", |_| Reply { endless: true, ..Reply::ok(vec![b' '; 65536]) }).await;
    let mut large = held.clone();
    let mut manifest: Value = serde_json::from_slice(&held.manifest).unwrap();
    manifest["config"]["size"] = (1_u64 << 40).into();
    large.manifest = manifest.to_string().into_bytes();
    refuses("larger than", move |asked| large.answer(asked)).await;
}

#[tokio::test]
async fn ambiguous_and_malformed_documents_are_refused() {
    let held = store(&["a"]);
    let with = |change: &dyn Fn(&mut Value)| {
        let mut manifest: Value = serde_json::from_slice(&held.manifest).unwrap();
        change(&mut manifest);
        let body = manifest.to_string();
        move |_: &Asked| Reply::ok(body.clone())
    };
    refuses("both a manifest and an index", with(&|m| m["manifests"] = json!([]))).await;
    refuses("schema 1 is not supported", with(&|m| m["schemaVersion"] = 1.into())).await;
    refuses("invalid manifest", with(&|m| m["layers"][0]["digest"] = "sha256:../../../etc/passwd".into())).await;
    refuses("no image that can be run", with(&|m| m["config"]["mediaType"] = "application/vnd.x.chart".into())).await;
    refuses("invalid manifest", |_| Reply::ok("<html>")).await;
    let s = held.clone();
    refuses("was served as", move |asked| {
        let mut reply = s.answer(asked);
        if asked.path.contains("/manifests/") {
            reply.headers.clear();
            reply = reply.kind(media_type::DOCKER_MANIFEST);
        }
        reply
    })
    .await;
    let mut fewer = held.clone();
    let mut manifest: Value = serde_json::from_slice(&held.manifest).unwrap();
    manifest["layers"] = json!([]);
    fewer.manifest = manifest.to_string().into_bytes();
    refuses("0 layers, but its configuration names 1", move |asked| fewer.answer(asked)).await;
}

#[tokio::test]
async fn the_platform_decides_and_indexes_have_a_depth() {
    let held = store(&["a"]);
    let entry = |bytes: &[u8], kind: &str, platform: &str| {
        let mut entry = descriptor(bytes, kind);
        entry["platform"] = serde_json::to_value(platform.parse::<Platform>().unwrap()).unwrap();
        entry
    };
    let host = Platform::host().to_string();
    let index = json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [
        entry(b"another", media_type::OCI_MANIFEST, "linux/mips64"),
        entry(&held.manifest, media_type::OCI_MANIFEST, &host),
    ]});
    let body = index.to_string();
    let s = held.clone();
    // Registries say what they serve in several ways, or not at all.
    let serving = move |kind: &str| {
        let (body, s, kind) = (body.clone(), s.clone(), kind.to_owned());
        move |asked: &Asked| match asked.path.ends_with("/manifests/1") {
            true => Reply::ok(body.clone()).kind(media_type::OCI_INDEX),
            false if asked.path.contains("/manifests/") => Reply::ok(s.manifest.clone()).kind(&kind),
            false => s.answer(asked),
        }
    };
    for kind in [format!("{}; charset=utf-8", media_type::OCI_MANIFEST), "application/json".to_owned()] {
        let liar = Liar::start(serving(&kind));
        let kept = Scene::new();
        let image = pull(&kept, &liar).await.unwrap();
        let manifest = kept.images.manifest(&image).await.unwrap().unwrap();
        assert_eq!(
            (manifest.media_type.as_str(), manifest.digest),
            (media_type::OCI_MANIFEST, Digest::of(&held.manifest))
        );
    }
    let mut lying = index.clone();
    lying["manifests"][1]["mediaType"] = media_type::DOCKER_MANIFEST.into();
    let (lying, s) = (lying.to_string(), held.clone());
    refuses("was served as", move |asked| match asked.path.ends_with("/manifests/1") {
        true => Reply::ok(lying.clone()).kind(media_type::OCI_INDEX),
        false if asked.path.contains("/manifests/") => Reply::ok(s.manifest.clone()).kind("application/json"),
        false => s.answer(asked),
    })
    .await;
    let (scene, liar) = (Scene::new(), Liar::start(serving(media_type::OCI_MANIFEST)));
    let image = pull(&scene, &liar).await.unwrap();
    // The name's digest is that of the index, the manifest that of the image.
    assert_eq!(image.digests()[0].digest(), Some(Digest::of(index.to_string().as_bytes())));
    assert_eq!(image.manifest(), Some(Digest::of(&held.manifest)));
    let options = PullOptions { platform: Some("linux/s390x".parse().unwrap()), ..PullOptions::default() };
    let error = scene.images.pull(&liar.reference(), options).await.unwrap_err();
    assert_eq!(error.to_string(), "no matching manifest for linux/s390x in the manifest list entries");
    // Indexes all the way down.
    let mut inner = held.manifest.clone();
    let mut documents = BTreeMap::new();
    let mut kind = media_type::OCI_MANIFEST;
    for _ in 0..6 {
        let outer =
            json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [entry(&inner, kind, &host)]});
        documents.insert(Digest::of(&inner).to_string(), inner);
        inner = outer.to_string().into_bytes();
        kind = media_type::OCI_INDEX;
    }
    refuses("too deep", move |asked| {
        let name = asked.path.rsplit('/').next().unwrap();
        Reply::ok(documents.get(name).cloned().unwrap_or_else(|| inner.clone())).kind(media_type::OCI_INDEX)
    })
    .await;
}

#[tokio::test]
async fn a_broken_connection_is_taken_up_where_it_broke() {
    for ranges in [true, false] {
        let held = store(&["a"]);
        let attempts = Arc::new(AtomicUsize::new(0));
        let (s, count) = (held.clone(), attempts.clone());
        let liar = Liar::start(move |asked| {
            let mut reply = s.answer(asked);
            if !s.is_layer(asked) {
                return reply;
            }
            let whole = reply.body.clone();
            let from = asked
                .headers
                .get("range")
                .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
            if let Some(from) = from.filter(|_| ranges) {
                reply.status = 206;
                reply.body = whole[from..].to_vec();
            }
            reply.length = Some(reply.body.len() as u64);
            if count.fetch_add(1, Ordering::SeqCst) < 2 {
                reply.body.truncate(20);
            }
            reply
        });
        let scene = Scene::new();
        pull(&scene, &liar).await.unwrap();
        assert_eq!(attempts.load(Ordering::SeqCst), 3);
        assert_eq!(scene.stored(), 3);
    }
}

#[tokio::test]
async fn a_registry_that_never_gives_everything_is_given_up() {
    let held = store(&["a"]);
    let s = held.clone();
    refuses("the answer broke off", move |asked| {
        let mut reply = s.answer(asked);
        if s.is_layer(asked) {
            reply.length = Some(reply.body.len() as u64);
            reply.body.truncate(9);
        }
        reply
    })
    .await;
}

#[tokio::test]
async fn a_line_that_breaks_again_and_again_brings_everything_in_the_end() {
    const AT_ONCE: usize = 300 << 10;
    let layer = noise(3, 6 * AT_ONCE);
    let packed = zstd::encode_all(layer.as_slice(), 1).unwrap();
    let (length, answer) = (packed.len(), kept_by_a_registry(&[packed], &config(&[layer])));
    assert!(length > 5 * AT_ONCE);
    let liar = Liar::start(move |asked| {
        let mut reply = answer(asked).unwrap_or_else(|| Reply::new(404, "")).part(asked);
        reply.length = Some(reply.body.len() as u64);
        reply.body.truncate(AT_ONCE);
        reply
    });
    let scene = Scene::new();
    pull(&scene, &liar).await.unwrap();
    let times = liar.asked().iter().filter(|asked| asked.headers.contains_key("range")).count();
    assert_eq!(times, length.div_ceil(AT_ONCE) - 1);
}

#[tokio::test]
async fn a_busy_registry_is_asked_again() {
    let (held, count) = (store(&["a"]), AtomicUsize::new(0));
    let liar = Liar::start(move |asked| match count.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::error(429, "TOOMANYREQUESTS", "slow down").header("Retry-After", "0"),
        1 => Reply::new(503, ""),
        _ => held.answer(asked),
    });
    pull(&Scene::new(), &liar).await.unwrap();
    // One that breaks off in the midst of its first word is asked again, too.
    let (held, count) = (store(&["a"]), AtomicUsize::new(0));
    let liar = Liar::start(move |asked| match count.fetch_add(1, Ordering::SeqCst) {
        0 => Reply { length: Some(10_000), ..held.answer(asked) },
        _ => held.answer(asked),
    });
    pull(&Scene::new(), &liar).await.unwrap();
    let error = refuses("toomanyrequests: slow down", |_| {
        Reply::error(429, "TOOMANYREQUESTS", "slow down").header("Retry-After", "3600")
    })
    .await;
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn who_gives_tokens_is_asked_again_when_he_is_busy() {
    let (held, count) = (store(&["a"]), AtomicUsize::new(0));
    let realm = Liar::start(move |_| match count.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::error(429, "TOOMANYREQUESTS", "slow down").header("Retry-After", "0"),
        1 => Reply::new(503, ""),
        _ => Reply::ok(json!({"token": "abc"}).to_string()),
    });
    let challenge = format!("Bearer realm=\"http://{}/token\"", realm.address);
    let liar = Liar::start(move |asked| match asked.headers.get("authorization").map(String::as_str) {
        Some("Bearer abc") => held.answer(asked),
        _ => Reply::new(401, "").header("WWW-Authenticate", &*challenge),
    });
    pull(&Scene::new(), &liar).await.unwrap();
    assert_eq!(realm.asked().len(), 3);
    let realm = Liar::start(|_| Reply::new(429, "").header("Retry-After", "3600"));
    let challenge = format!("Bearer realm=\"http://{}/token\"", realm.address);
    let error = refuses("toomanyrequests", move |_| Reply::new(401, "").header("WWW-Authenticate", &*challenge)).await;
    assert_eq!((error.kind(), realm.asked().len()), (ErrorKind::Unavailable, 1));
}

#[tokio::test]
async fn refusals_have_dockers_words() {
    let texts = |error: Error| (error.kind(), error.to_string());
    for (reply, kind, text) in [
        (
            Reply::error(404, "MANIFEST_UNKNOWN", "manifest unknown"),
            ErrorKind::NotFound,
            "manifest for X not found: manifest unknown: manifest unknown",
        ),
        (
            Reply::error(404, "NAME_UNKNOWN", "repository name not known to registry"),
            ErrorKind::NotFound,
            "repository N not found: name unknown: repository name not known to registry",
        ),
        (
            Reply::error(401, "DENIED", "requested access to the resource is denied"),
            ErrorKind::NotFound,
            "pull access denied for N, repository does not exist or may require 'docker login': denied: requested access to the resource is denied",
        ),
        (
            Reply::error(403, "DENIED", "no\x1b[31m"),
            ErrorKind::NotFound,
            "pull access denied for N, repository does not exist or may require 'docker login': denied: no[31m",
        ),
        (Reply::new(404, "plain words"), ErrorKind::NotFound, "manifest for X not found: plain words"),
    ] {
        let (scene, liar) = (Scene::new(), Liar::start(move |_| reply.clone()));
        let (found, shown) = texts(pull(&scene, &liar).await.unwrap_err());
        let reference = liar.reference();
        let text = text.replace('X', &reference.to_string()).replace('N', &reference.familiar_name());
        assert_eq!((found, shown), (kind, text));
    }
    let scene = Scene::new();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = scene.images.pull(&format!("{free}/x").parse().unwrap(), PullOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("Connection refused"), "{error}");
}

fn auth() -> PullOptions {
    let auth = Auth { username: "user".to_owned(), password: "secret".to_owned(), ..Auth::default() };
    PullOptions { auth, ..PullOptions::default() }
}

const BASIC: &str = "Basic dXNlcjpzZWNyZXQ=";

#[tokio::test]
async fn tokens_and_passwords_are_shown_to_who_asks_for_them() {
    // A password.
    let held = store(&["a"]);
    let s = held.clone();
    let liar = Liar::start(move |asked| match asked.headers.get("authorization").map(String::as_str) {
        Some(BASIC) => s.answer(asked),
        _ => {
            Reply::error(401, "UNAUTHORIZED", "authentication required").header("WWW-Authenticate", "Basic realm=\"x\"")
        }
    });
    let scene = Scene::new();
    let error = pull(&scene, &liar).await.unwrap_err();
    assert!(error.to_string().starts_with("pull access denied for"), "{error}");
    scene.images.pull(&liar.reference(), auth()).await.unwrap();
    // A token, which the password is exchanged for at another port of the same host.
    let realm = Liar::start(|asked| {
        assert!(asked.path.contains("service=s"), "{}", asked.path);
        assert!(asked.path.contains("scope=repository%3Asome%2Fimage%3Apull"), "{}", asked.path);
        match asked.headers.get("authorization").map(String::as_str) {
            Some(BASIC) => Reply::ok(json!({"token": "abc"}).to_string()),
            _ => Reply::ok(json!({"access_token": "anybody"}).to_string()),
        }
    });
    let challenge = format!("Bearer realm=\"http://{}/token\",service=\"s\"", realm.address);
    let answer = move |asked: &Asked| match asked.headers.get("authorization").map(String::as_str) {
        Some("Bearer abc" | "Bearer anybody") => held.answer(asked),
        _ => Reply::error(401, "UNAUTHORIZED", "authentication required").header("WWW-Authenticate", &*challenge),
    };
    let liar = Liar::start(answer);
    scene.images.pull(&liar.reference(), auth()).await.unwrap();
    // One token serves the whole pull.
    assert_eq!(realm.asked().len(), 1);
    pull(&Scene::new(), &liar).await.unwrap();
}

#[tokio::test]
async fn a_token_that_is_not_good_any_more_is_fetched_anew() {
    let held = store(&["a"]);
    let issued = Arc::new(AtomicUsize::new(0));
    let count = issued.clone();
    // Tokens are had for a refresh token only, each time another one.
    let realm = Liar::start(move |asked| {
        let body = String::from_utf8(asked.body.clone()).unwrap();
        let fields: Vec<&str> = body.split('&').collect();
        let wanted = ["grant_type=refresh_token", "refresh_token=r%2F1", "scope=repository%3Asome%2Fimage%3Apull"];
        match asked.method == "POST" && wanted.iter().all(|field| fields.contains(field)) {
            true => {
                Reply::ok(json!({"access_token": format!("t{}", count.fetch_add(1, Ordering::SeqCst))}).to_string())
            }
            false => Reply::error(401, "UNAUTHORIZED", "no refresh token"),
        }
    });
    let challenge = format!("Bearer realm=\"http://{}/token\",service=\"s\"", realm.address);
    // Only the latest is good, and after the second manifest not even that.
    let (latest, manifests) = (issued.clone(), AtomicUsize::new(0));
    let liar = Liar::start(move |asked| {
        let good = format!("Bearer t{}", latest.load(Ordering::SeqCst).wrapping_sub(1));
        let expires = asked.path.contains("/manifests/") && manifests.fetch_add(1, Ordering::SeqCst) == 2;
        if expires || asked.headers.get("authorization") != Some(&good) {
            return Reply::error(401, "UNAUTHORIZED", "token expired").header("WWW-Authenticate", &*challenge);
        }
        held.answer(asked)
    });
    let scene = Scene::new();
    let auth = Auth { identity_token: "r/1".to_owned(), ..Auth::default() };
    let options = || PullOptions { auth: auth.clone(), ..PullOptions::default() };
    scene.images.pull(&liar.reference(), options()).await.unwrap();
    assert_eq!(issued.load(Ordering::SeqCst), 1);
    scene.images.pull(&liar.reference(), options()).await.unwrap();
    assert_eq!(issued.load(Ordering::SeqCst), 2);
    // Who has no such token gets none.
    let error = Scene::new().images.pull(&liar.reference(), super::PullOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");
}

#[tokio::test]
async fn a_login_gives_what_stands_for_the_password_where_there_is_such_a_thing() {
    let realm = Liar::start(|asked| match (asked.method.as_str(), asked.headers.get("authorization")) {
        ("GET", Some(basic)) if basic == BASIC && asked.path.contains("offline_token=true") => {
            Reply::ok(json!({"token": "abc", "refresh_token": "lasting"}).to_string())
        }
        ("GET", Some(basic)) if basic == BASIC => Reply::ok(json!({"token": "abc"}).to_string()),
        ("POST", _) if String::from_utf8_lossy(&asked.body).contains("refresh_token=lasting") => {
            Reply::ok(json!({"access_token": "abc"}).to_string())
        }
        _ => Reply::error(401, "UNAUTHORIZED", "who is that"),
    });
    let (held, challenge) = (store(&["a"]), format!("Bearer realm=\"http://{}/token\"", realm.address));
    let liar = Liar::start(move |asked| match asked.headers.get("authorization").map(String::as_str) {
        Some("Bearer abc") if asked.path == "/v2/" => Reply::ok("{}"),
        Some("Bearer abc") => held.answer(asked),
        _ => Reply::new(401, "").header("WWW-Authenticate", &*challenge),
    });
    let scene = Scene::new();
    let (client, server) = (scene.images.registry(), liar.address.to_string());
    let token = client.log_in(&server, &auth().auth).await.unwrap();
    assert_eq!(token.as_deref(), Some("lasting"));
    let lasting = Auth { identity_token: "lasting".to_owned(), ..Auth::default() };
    assert_eq!(client.log_in(&server, &lasting).await.unwrap(), token);
    scene.images.pull(&liar.reference(), PullOptions { auth: lasting, ..PullOptions::default() }).await.unwrap();
    // A pull has no use for another one.
    Scene::new().images.pull(&liar.reference(), auth()).await.unwrap();
    let asked: Vec<_> = realm.asked().iter().map(|asked| asked.path.contains("offline_token")).collect();
    assert_eq!(asked, [true, false, false, false]);
    let wrong = Auth { password: "wrong".to_owned(), ..auth().auth };
    assert_eq!(client.log_in(&server, &wrong).await.unwrap_err().kind(), ErrorKind::Unauthorized);
    // Who takes the password itself gives nothing for it.
    let simple = Liar::start(|asked| match asked.headers.get("authorization").map(String::as_str) {
        Some(BASIC) => Reply::ok("{}"),
        _ => Reply::new(401, "").header("WWW-Authenticate", "Basic realm=\"x\""),
    });
    assert_eq!(client.log_in(&simple.address.to_string(), &auth().auth).await.unwrap(), None);
}

#[tokio::test]
async fn a_registry_that_is_never_content_is_asked_twice() {
    let scene = Scene::new();
    let liar =
        Liar::start(|_| Reply::error(401, "UNAUTHORIZED", "again").header("WWW-Authenticate", "Basic realm=\"x\""));
    let error = scene.images.pull(&liar.reference(), auth()).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string()),
        (ErrorKind::Unauthorized, "unauthorized: unauthorized: again".to_owned())
    );
    assert_eq!(liar.asked().len(), 2);
    for realm in ["http://169.254.169.254/x", "file:///etc/passwd", "https://user:p@example.org/", "ftp://x/"] {
        let header = format!("Bearer realm=\"{realm}\"");
        refuses("sends us to", move |_| Reply::new(401, "").header("WWW-Authenticate", &*header)).await;
    }
    let token = Liar::start(|_| Reply { endless: true, ..Reply::ok(vec![b' '; 4096]) });
    let header = format!("Bearer realm=\"http://{}/\"", token.address);
    refuses("more than 65536 bytes", move |_| Reply::new(401, "").header("WWW-Authenticate", &*header)).await;
    let token = Liar::start(|_| Reply::ok(json!({"token": "a\r\nX-Evil: 1"}).to_string()));
    let header = format!("Bearer realm=\"http://{}/\"", token.address);
    refuses("its token is none", move |_| Reply::new(401, "").header("WWW-Authenticate", &*header)).await;
}

#[tokio::test]
async fn redirects_are_followed_without_credentials_and_not_for_ever() {
    let held = store(&["a"]);
    let s = held.clone();
    let elsewhere = Liar::start(move |asked| s.answer(asked));
    let (s, other) = (held.clone(), elsewhere.address);
    let liar = Liar::start(move |asked| match asked.headers.get("authorization").map(String::as_str) {
        Some(BASIC) if s.is_layer(asked) => {
            Reply::new(307, "").header("Location", format!("http://{other}{}", asked.path))
        }
        Some(BASIC) => s.answer(asked),
        _ => Reply::new(401, "").header("WWW-Authenticate", "Basic realm=\"x\""),
    });
    Scene::new().images.pull(&liar.reference(), auth()).await.unwrap();
    assert_eq!(elsewhere.asked().len(), 1);
    assert!(!elsewhere.asked()[0].headers.contains_key("authorization"));
    refuses("leads on more than 5 times", |asked| Reply::new(302, "").header("Location", asked.path.clone())).await;
    for location in ["file:///etc/passwd", "http://user:p@127.0.0.1/", "gopher://x/", "http://"] {
        refuses("which is no address", move |_| Reply::new(302, "").header("Location", location)).await;
    }
    refuses("leads to nowhere", |_| Reply::new(302, "")).await;
}

#[tokio::test]
async fn an_archive_on_the_web_is_imported_by_its_address() {
    let (archive, busy) = (layer("a"), AtomicUsize::new(0));
    let packed = gzip(&archive);
    let liar = Liar::start(move |asked| match asked.path.as_str() {
        "/busy" if busy.fetch_add(1, Ordering::SeqCst) == 0 => Reply::new(503, "").header("Retry-After", "0"),
        "/busy" | "/rootfs.tar.gz?x=y" => Reply::ok(packed.clone()),
        "/elsewhere" => Reply::new(302, "").header("Location", "/rootfs.tar.gz?x=y"),
        "/round" => Reply::new(302, "").header("Location", "/round"),
        "/file" => Reply::new(302, "").header("Location", "file:///etc/passwd"),
        "/cut" => Reply { length: Some(10_000), ..Reply::ok(packed.clone()) },
        "/page" => Reply::ok("<html>"),
        _ => Reply::new(404, "nothing here"),
    });
    let scene = Scene::new();
    let import = |address: &str| scene.images.import_from(address, ImportOptions::default());
    let at = |path: &str| format!("http://{}{path}", liar.address);
    for path in ["/rootfs.tar.gz?x=y", "/elsewhere", "/busy"] {
        let mut import = import(&at(path));
        let progress = import.progress();
        let image = import.await.unwrap();
        assert_eq!(image.layers(), [Digest::of(&archive)]);
        let news: Vec<_> = progress.map(|news| news.status.to_string()).collect().await;
        assert_eq!(news[0], format!("Downloading from {}", at(path)));
        assert_eq!(news.last().unwrap(), image.id().as_str());
    }
    for (address, text) in [
        (at("/round"), "leads on more than 5 times"),
        (at("/file"), "leads where nobody should follow"),
        (at("/cut"), "the answer broke off"),
        (at("/page"), "no tar archive"),
        (at("/nothing"), "404: nothing here"),
        ("file:///etc/passwd".to_owned(), "no address of a file"),
        ("/etc/passwd".to_owned(), "no address of a file"),
        (format!("http://me:secret@{}/x", liar.address), "no address of a file"),
        (String::new(), "no address of a file"),
    ] {
        let error = import(&address).await.unwrap_err().to_string();
        assert!(error.contains(text) && !error.contains("secret"), "{text:?} is not in: {error}");
    }
    scene.settles_at(1).await;
}

#[tokio::test]
async fn a_pull_that_is_dropped_leaves_nothing() {
    let held = store(&["a", "b"]);
    let liar = Liar::start(move |asked| {
        let mut reply = held.answer(asked);
        if held.is_layer(asked) {
            reply.length = Some(reply.body.len() as u64);
            reply.body.truncate(30);
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        reply
    });
    let scene = Scene::new();
    let pull = scene.images.pull(&liar.reference(), PullOptions::default());
    assert!(tokio::time::timeout(std::time::Duration::from_millis(300), pull).await.is_err());
    scene.settles_at(0).await;
}

#[tokio::test]
async fn a_mirror_that_fails_is_passed_over() {
    let held = store(&["a"]);
    let broken = Liar::start(|_| Reply::error(404, "MANIFEST_UNKNOWN", "manifest unknown"));
    let good = Liar::start(move |asked| held.answer(asked));
    let settings = RegistrySettings::default()
        .mirror(format!("http://{}", broken.address))
        .mirror(format!("http://{}/", good.address));
    let scene = Scene::new();
    let images = Images::open(scene.root.path(), scene.state.clone(), Events::new(), &settings).unwrap();
    let image = images.pull(&"some/image:1".parse().unwrap(), auth()).await.unwrap();
    assert_eq!(image.references()[0].full(), "docker.io/some/image:1");
    assert_eq!(broken.asked().len(), 1);
    // The account is Docker Hub's and no mirror's.
    assert!(good.asked().iter().all(|asked| !asked.headers.contains_key("authorization")));
}
