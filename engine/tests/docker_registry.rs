//! Pulls from the registry that others use, Debian's `docker-registry`, which has to be installed
//! (`apt-get install docker-registry`); it runs on a port of its own and is ended with the test.
#![allow(clippy::unwrap_used, missing_docs)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use engine::events::Events;
use engine::image::{Images, PullOptions, RemoveOptions, Rootfs};
use engine::oci::{Digest, Platform, Reference, media_type};
use engine::settings::RegistrySettings;
use engine::state::State;
use serde_json::{Value, json};

struct Registry {
    child: Child,
    address: String,
    _directory: tempfile::TempDir,
}

impl Registry {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        // Free a moment ago; nobody else takes ports of the loopback at random in between.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let config = json!({
            "version": 0.1,
            "log": {"level": "error", "accesslog": {"disabled": true}},
            "storage": {"filesystem": {"rootdirectory": directory.path().join("storage")}},
            "http": {"addr": address}
        });
        let path = directory.path().join("config.yml");
        // YAML has JSON within it.
        std::fs::write(&path, config.to_string()).unwrap();
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&path)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("docker-registry runs: is the Debian package installed?");
        let registry = Self { child, address, _directory: directory };
        let end = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(&registry.address).is_err() {
            assert!(Instant::now() < end, "the registry does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        registry
    }

    fn ask(&self, method: &str, path: &str, kind: &str, body: &[u8]) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let answer = String::from_utf8_lossy(&answer).into_owned();
        (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer)
    }

    fn push_blob(&self, repository: &str, bytes: &[u8]) -> Value {
        let (status, answer) = self.ask("POST", &format!("/v2/{repository}/blobs/uploads/"), "", b"");
        assert_eq!(status, 202, "{answer}");
        let location = answer.lines().find_map(|line| line.strip_prefix("Location: ")).unwrap().trim();
        let location = location.strip_prefix(&format!("http://{}", self.address)).unwrap_or(location);
        let digest = Digest::of(bytes);
        let (status, answer) =
            self.ask("PUT", &format!("{location}&digest={digest}"), "application/octet-stream", bytes);
        assert_eq!(status, 201, "{answer}");
        json!({"digest": digest, "size": bytes.len()})
    }

    fn push_manifest(&self, repository: &str, name: &str, kind: &str, manifest: &Value) -> Value {
        let bytes = manifest.to_string();
        let (status, answer) = self.ask("PUT", &format!("/v2/{repository}/manifests/{name}"), kind, bytes.as_bytes());
        assert_eq!(status, 201, "{answer}");
        json!({"mediaType": kind, "digest": Digest::of(bytes.as_bytes()), "size": bytes.len()})
    }

    /// Pushes an image with one layer per compression; its index is `tag`.
    fn push(&self, repository: &str, tag: &str) -> Digest {
        let plain = ["one", "two", "three"]
            .map(|name| Rootfs::new().directory("d", 0o755).file(format!("d/{name}"), 0o644, name).into_archive());
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&plain[0]).unwrap();
        let layers = [
            (media_type::OCI_LAYER_GZIP, encoder.finish().unwrap()),
            (media_type::OCI_LAYER_ZSTD, zstd::encode_all(plain[1].as_slice(), 3).unwrap()),
            (media_type::OCI_LAYER, plain[2].clone()),
        ];
        let host = Platform::host();
        let config = json!({
            "architecture": host.architecture, "os": "linux", "config": {"Cmd": ["/d/one"]},
            "rootfs": {"type": "layers", "diff_ids": plain.iter().map(|layer| Digest::of(layer)).collect::<Vec<_>>()}
        });
        let config = config.to_string().into_bytes();
        let mut of_config = self.push_blob(repository, &config);
        of_config["mediaType"] = media_type::OCI_CONFIG.into();
        let layers: Vec<_> = layers
            .iter()
            .map(|(kind, bytes)| {
                let mut descriptor = self.push_blob(repository, bytes);
                descriptor["mediaType"] = (*kind).into();
                descriptor
            })
            .collect();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "config": of_config, "layers": layers
        });
        let mut entry = self.push_manifest(repository, "single", media_type::OCI_MANIFEST, &manifest);
        entry["platform"] = serde_json::to_value(&host).unwrap();
        let index = json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [entry]});
        self.push_manifest(repository, tag, media_type::OCI_INDEX, &index);
        Digest::of(&config)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn images(root: &Path, settings: &RegistrySettings) -> Images {
    Images::open(root, State::open(root).unwrap(), Events::new(), settings).unwrap()
}

#[tokio::test]
async fn an_image_comes_as_it_was_pushed() {
    let registry = Registry::start();
    let id = registry.push("library/box", "1");
    let root = tempfile::tempdir().unwrap();
    let here = images(root.path(), &RegistrySettings::default());
    let name: Reference = format!("{}/library/box:1", registry.address).parse().unwrap();
    let image = here.pull(&name, PullOptions::default()).await.unwrap();
    assert_eq!(image.id().to_string(), id.to_string());
    for (diff_id, file) in image.layers().iter().zip(["one", "two", "three"]) {
        assert_eq!(std::fs::read_to_string(here.layers().path(diff_id).join("d").join(file)).unwrap(), file);
    }
    // By the manifest's own name and by its digest it is the same image, and nothing is fetched twice.
    let single = here.pull(&name.with_tag("single").unwrap(), PullOptions::default()).await.unwrap();
    assert_eq!((single.id(), single.references().len()), (image.id(), 2));
    let by_digest = name.with_digest(single.manifest().unwrap());
    assert_eq!(here.pull(&by_digest, PullOptions::default()).await.unwrap().id(), image.id());
    let error = here.pull(&name.with_tag("nope").unwrap(), PullOptions::default()).await.unwrap_err();
    let expected =
        format!("manifest for {}/library/box:nope not found: manifest unknown: manifest unknown", registry.address);
    assert_eq!(error.to_string(), expected);
    let force = RemoveOptions { force: true, ..RemoveOptions::default() };
    here.remove(image.id().as_str(), force).await.unwrap();
    for directory in ["layers", "blobs/sha256"] {
        assert_eq!(std::fs::read_dir(root.path().join(directory)).unwrap().count(), 0, "{directory}");
    }
}

#[tokio::test]
async fn a_mirror_stands_in_for_docker_hub() {
    let registry = Registry::start();
    registry.push("library/busybox", "latest");
    let root = tempfile::tempdir().unwrap();
    let settings = RegistrySettings::default().mirror(format!("http://{}", registry.address));
    let here = images(root.path(), &settings);
    let image = here.pull(&"busybox".parse().unwrap(), PullOptions::default()).await.unwrap();
    assert_eq!(image.references()[0].full(), "docker.io/library/busybox:latest");
    assert_eq!(here.get("busybox").await.unwrap().id(), image.id());
}

#[tokio::test]
async fn two_programs_pull_into_one_root_at_once() {
    let registry = Registry::start();
    registry.push("box", "1");
    let root = tempfile::tempdir().unwrap();
    let (one, two) =
        (images(root.path(), &RegistrySettings::default()), images(root.path(), &RegistrySettings::default()));
    let name: Reference = format!("{}/box:1", registry.address).parse().unwrap();
    let pull = |images: &Images| images.pull(&name, PullOptions::default());
    let (first, second) = tokio::join!(pull(&one), pull(&two));
    assert_eq!(first.unwrap().id(), second.unwrap().id());
    assert_eq!(one.list().await.unwrap().len(), 1);
    // What one of them had in excess goes beside; three layers stay.
    for _ in 0..500 {
        if std::fs::read_dir(root.path().join("layers")).unwrap().count() == 3 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("surplus layers stay");
}
