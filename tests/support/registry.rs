//! A real registry for tests.

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};

use super::archive::{Compression, Image};
use super::daemon::Daemon;
use super::{eventually, programs};

/// Debian's registry, in the daemon's network.
pub struct Registry {
    process: Child,
    _files: tempfile::TempDir,
}

/// How a registry is set up.
#[derive(Default)]
pub struct Setup {
    /// Host and port; 127.0.0.1:5000 when empty.
    pub address: String,
    /// Names and passwords, as `htpasswd` writes them.
    pub accounts: Option<&'static str>,
    /// With TLS, and a certificate of the client.
    pub tls: bool,
}

impl Registry {
    /// One that has an image; filled by hand.
    pub fn start(daemon: &Daemon, image: &Image, repository: &str, tag: &str, compression: Compression) -> Self {
        let files = tempfile::tempdir().unwrap();
        let top = files.path().join("docker/registry/v2");
        let (blobs, manifest) = image.blobs(compression);
        let of_repository = top.join("repositories").join(repository);
        let link = |path: &Path, digest: &str| {
            fs::create_dir_all(path).unwrap();
            fs::write(path.join("link"), format!("sha256:{digest}")).unwrap();
        };
        for (digest, bytes) in &blobs {
            let blob = top.join("blobs/sha256").join(&digest[..2]).join(digest);
            fs::create_dir_all(&blob).unwrap();
            fs::write(blob.join("data"), bytes).unwrap();
            link(&of_repository.join("_layers/sha256").join(digest), digest);
        }
        let digest = manifest["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
        link(&of_repository.join("_manifests/revisions/sha256").join(digest), digest);
        let tags = of_repository.join("_manifests/tags").join(tag);
        link(&tags.join("current"), digest);
        link(&tags.join("index/sha256").join(digest), digest);
        Self::serve(daemon, files, &Setup::default())
    }

    /// One that has nothing.
    pub fn empty(daemon: &Daemon, setup: &Setup) -> Self {
        Self::serve(daemon, tempfile::tempdir().unwrap(), setup)
    }

    fn serve(daemon: &Daemon, files: tempfile::TempDir, setup: &Setup) -> Self {
        let address = if setup.address.is_empty() { "127.0.0.1:5000" } else { &setup.address };
        let settings = files.path().join("settings.yml");
        let root = files.path().display();
        let mut http = format!("http: {{addr: '{address}'");
        if setup.tls {
            for name in TLS {
                fs::write(files.path().join(name.0), name.1).unwrap();
            }
            http += &format!(
                ", tls: {{certificate: {root}/server.crt, key: {root}/server.key, clientcas: [{root}/ca.crt]}}"
            );
        }
        let mut text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {root}}}}}\n{http}}}\n"
        );
        if let Some(accounts) = setup.accounts {
            fs::write(files.path().join("htpasswd"), accounts).unwrap();
            text += &format!("auth: {{htpasswd: {{realm: test, path: {root}/htpasswd}}}}\n");
        }
        fs::write(&settings, text).unwrap();
        let mut command = daemon.network().command(programs::borrowed("docker-registry"));
        command.arg("serve").arg(settings).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().unwrap();
        let (host, port) = address.rsplit_once(':').unwrap();
        eventually("the registry listens", || {
            let mut probe = daemon.network().command("/bin/busybox");
            let said = super::run(probe.args(["nc", host, port]), b"");
            (said.code == 0).then_some(())
        });
        Self { process, _files: files }
    }
}

/// Keys and certificates of an authority of its own.
pub const TLS: [(&str, &str); 3] = [
    ("ca.crt", include_str!("tls/ca.crt")),
    ("server.crt", include_str!("tls/server.crt")),
    ("server.key", include_str!("tls/server.key")),
];

impl Drop for Registry {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}
