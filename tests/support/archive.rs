//! Image archives made on the spot from the machine's static busybox, in every shape that `load` takes.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::sync::OnceLock;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// The name of the image in all archives.
pub const IMAGE: &str = "busybox:latest";

/// What is in an image, before it is put into one of the shapes.
#[derive(Debug, Clone)]
pub struct Image {
    pub reference: String,
    pub layers: Vec<Vec<u8>>,
    pub config: Value,
}

/// How the layers of an archive are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    fn apply(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::None => bytes.to_vec(),
            Self::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(bytes).unwrap();
                encoder.finish().unwrap()
            }
            Self::Zstd => zstd::encode_all(bytes, 1).unwrap(),
        }
    }

    fn media_type(self) -> &'static str {
        match self {
            Self::None => "application/vnd.oci.image.layer.v1.tar",
            Self::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
            Self::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
        }
    }
}

/// The busybox image: its programs in one layer; a second one adds, replaces and removes.
pub fn busybox() -> &'static Image {
    static MADE: OnceLock<Image> = OnceLock::new();
    MADE.get_or_init(|| {
        let program = std::fs::read("/bin/busybox").expect("busybox-static is not installed: run scripts/test");
        let applets = std::process::Command::new("/bin/busybox").arg("--list").output().unwrap();
        let mut lower = Layer::default();
        for (directory, mode) in
            [("bin", 0o755), ("etc", 0o755), ("root", 0o700), ("tmp", 0o1777), ("var", 0o755), ("srv", 0o755)]
        {
            lower.directory(directory, mode);
        }
        lower.file("bin/busybox", 0o755, &program);
        for applet in String::from_utf8(applets.stdout).unwrap().lines().filter(|applet| *applet != "busybox") {
            lower.link(&format!("bin/{applet}"), "busybox");
        }
        lower.file("etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\nworker:x:1000:1001::/srv:/bin/sh\n");
        lower.file("etc/group", 0o644, b"root:x:0:\nworkers:x:1001:\nextra:x:1002:worker\n");
        lower.file("etc/removed", 0o644, b"gone in the second layer\n");
        lower.file("etc/replaced", 0o644, b"first\n");
        let mut upper = Layer::default();
        upper.directory("etc", 0o755);
        upper.file("etc/.wh.removed", 0o644, b"");
        upper.file("etc/replaced", 0o644, b"second\n");
        upper.directory("srv", 0o755);
        upper.directory("srv/data", 0o750);
        upper.file("srv/data/seed", 0o640, b"of the image\n");
        Image::new(IMAGE, vec![lower.finish(), upper.finish()])
    })
}

/// An image that takes a while: layers of many small files and a large one, which do not compress.
pub fn slow(reference: &str) -> Image {
    let mut noise = 0x9e37_79b9_7f4a_7c15_u64;
    let mut byte = || {
        noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        noise.to_be_bytes()[0]
    };
    let layers = (0..3).map(|number| {
        let mut layer = Layer::default();
        layer.directory(&format!("layer{number}"), 0o755);
        for file in 0..150 {
            layer.file(&format!("layer{number}/file{file}"), 0o644, &(0..700).map(|_| byte()).collect::<Vec<u8>>());
        }
        layer.file(&format!("layer{number}/large"), 0o644, &(0..1_000_000).map(|_| byte()).collect::<Vec<u8>>());
        layer.finish()
    });
    Image::new(reference, layers.collect())
}

impl Image {
    fn new(reference: &str, layers: Vec<Vec<u8>>) -> Self {
        let ids: Vec<String> = layers.iter().map(|layer| format!("sha256:{}", hex(layer))).collect();
        let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        let config = json!({
            "architecture": architecture,
            "os": "linux",
            "created": "2024-01-02T03:04:05Z",
            "config": {
                "Env": ["PATH=/bin", "FROM_IMAGE=yes"],
                "Cmd": ["sh"],
                "Labels": {"org.example.kind": "test"},
            },
            "rootfs": {"type": "layers", "diff_ids": ids},
            "history": [{"created_by": "first"}, {"created_by": "second"}],
        });
        Self { reference: reference.to_owned(), layers, config }
    }

    /// The same under another name.
    #[must_use]
    pub fn named(&self, reference: &str) -> Self {
        Self { reference: reference.to_owned(), ..self.clone() }
    }

    /// The id: the digest of the configuration.
    pub fn id(&self) -> String {
        format!("sha256:{}", hex(&serde_json::to_vec(&self.config).unwrap()))
    }

    /// As `docker save` writes it.
    pub fn docker_archive(&self) -> Vec<u8> {
        let config = serde_json::to_vec(&self.config).unwrap();
        let config_name = format!("{}.json", hex(&config));
        let mut archive = Layer::default();
        let mut names = Vec::new();
        for layer in &self.layers {
            let directory = hex(layer);
            archive.directory(&directory, 0o755);
            names.push(format!("{directory}/layer.tar"));
            archive.file(&format!("{directory}/layer.tar"), 0o644, layer);
        }
        archive.file(&config_name, 0o644, &config);
        let manifest = json!([{"Config": config_name, "RepoTags": [self.reference], "Layers": names}]);
        archive.file("manifest.json", 0o644, &serde_json::to_vec(&manifest).unwrap());
        archive.finish()
    }

    /// Blobs by digest, the last one being the manifest.
    pub fn blobs(&self, compression: Compression) -> (BTreeMap<String, Vec<u8>>, Value) {
        let mut blobs = BTreeMap::new();
        let mut add = |bytes: Vec<u8>, media_type: &str| {
            let digest = hex(&bytes);
            let descriptor =
                json!({"mediaType": media_type, "digest": format!("sha256:{digest}"), "size": bytes.len()});
            blobs.insert(digest, bytes);
            descriptor
        };
        let layers: Vec<Value> =
            self.layers.iter().map(|layer| add(compression.apply(layer), compression.media_type())).collect();
        let config = add(serde_json::to_vec(&self.config).unwrap(), "application/vnd.oci.image.config.v1+json");
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let manifest = json!({"schemaVersion": 2, "mediaType": kind, "config": config, "layers": layers});
        let descriptor = add(serde_json::to_vec(&manifest).unwrap(), kind);
        (blobs, descriptor)
    }

    /// An OCI image layout in a tar.
    pub fn oci_archive(&self, compression: Compression) -> Vec<u8> {
        let (blobs, mut descriptor) = self.blobs(compression);
        descriptor["annotations"] = json!({
            "io.containerd.image.name": format!("docker.io/library/{}", self.reference),
            "org.opencontainers.image.ref.name": self.reference.rsplit(':').next(),
        });
        let mut archive = Layer::default();
        archive.file("oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#);
        let index = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [descriptor],
        });
        archive.file("index.json", 0o644, &serde_json::to_vec(&index).unwrap());
        archive.directory("blobs", 0o755);
        archive.directory("blobs/sha256", 0o755);
        for (digest, bytes) in &blobs {
            archive.file(&format!("blobs/sha256/{digest}"), 0o644, bytes);
        }
        archive.finish()
    }
}

/// Compresses a whole archive.
pub fn compressed(archive: &[u8], compression: Compression) -> Vec<u8> {
    compression.apply(archive)
}

/// A file with the busybox image as `docker save` writes it, made once for all suites.
pub fn busybox_file() -> PathBuf {
    let archive = busybox().docker_archive();
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("busybox-{}.tar", &hex(&archive)[..16]));
    if !file.exists() {
        let mut part = tempfile::NamedTempFile::new_in(file.parent().unwrap()).unwrap();
        part.write_all(&archive).unwrap();
        part.persist(&file).unwrap();
    }
    file
}

/// The digest of some bytes, in hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

struct Layer(tar::Builder<Vec<u8>>);

impl Default for Layer {
    fn default() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }
}

impl Layer {
    fn header(kind: tar::EntryType, mode: u32, size: usize) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_700_000_000);
        header.set_size(size as u64);
        header
    }

    fn directory(&mut self, path: &str, mode: u32) {
        let mut header = Self::header(tar::EntryType::Directory, mode, 0);
        self.0.append_data(&mut header, format!("{path}/"), &[][..]).unwrap();
    }

    fn file(&mut self, path: &str, mode: u32, content: &[u8]) {
        let mut header = Self::header(tar::EntryType::Regular, mode, content.len());
        self.0.append_data(&mut header, path, content).unwrap();
    }

    fn link(&mut self, path: &str, target: &str) {
        let mut header = Self::header(tar::EntryType::Symlink, 0o777, 0);
        self.0.append_link(&mut header, path, target).unwrap();
    }

    fn finish(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}
