//! Images: loaded, pulled, named and removed.

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};

use crate::support::archive::{Compression, Image, busybox, compressed};
use crate::support::client::Client;
use crate::support::daemon::Daemon;
use crate::support::{eventually, programs};

fn load(client: Client, daemon: &Daemon, archive: &[u8]) -> crate::support::Said {
    client.run_with(daemon, &["load"], archive)
}

pub fn every_shape_of_archive(client: Client) {
    let image = busybox();
    let docker = image.docker_archive();
    let shapes = [
        compressed(&docker, Compression::Gzip),
        compressed(&docker, Compression::Zstd),
        image.oci_archive(Compression::None),
        image.oci_archive(Compression::Gzip),
        image.oci_archive(Compression::Zstd),
        docker,
    ];
    let daemon = Daemon::start();
    for shape in &shapes {
        let said = load(client, &daemon, shape).ok();
        assert!(said.contains("Loaded image: busybox:latest"), "{said}");
        assert_eq!(client.run(&daemon, &["inspect", "-f", "{{.Id}}", "busybox"]).ok(), image.id());
        assert_eq!(client.run(&daemon, &["run", "--rm", "busybox", "cat", "/etc/replaced"]).ok(), "second");
        client.run(&daemon, &["rmi", "busybox"]).ok();
        assert_eq!(client.run(&daemon, &["images", "-q"]).ok(), "");
    }
    // Nothing of what was removed stays on disk.
    for directory in ["layers", "blobs/sha256"] {
        let left: Vec<_> = fs::read_dir(daemon.root().join(directory)).into_iter().flatten().flatten().collect();
        assert!(left.is_empty(), "{left:?}");
    }
    daemon.finish();
}

pub fn names_and_removal(client: Client) {
    let daemon = Daemon::with_busybox();
    let id = busybox().id();
    let short = &id["sha256:".len()..][..12];
    client.run(&daemon, &["tag", "busybox", "example.test/team/tools:v1"]).ok();
    let listed = client.run(&daemon, &["images", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}"]).ok();
    let mut listed: Vec<&str> = listed.lines().collect();
    listed.sort_unstable();
    assert_eq!(listed, [format!("busybox:latest {short}"), format!("example.test/team/tools:v1 {short}")]);
    let said = client.run(&daemon, &["rmi", "busybox"]).ok();
    assert_eq!(said, "Untagged: busybox:latest");
    let said = client.run(&daemon, &["inspect", "busybox"]).code(1);
    assert!(said.stderr.to_lowercase().contains("no such object: busybox"), "{said:?}");
    // By a unique beginning of the id; a container that uses it keeps it.
    let container = client.run(&daemon, &["create", short]).ok();
    let said = client.run(&daemon, &["rmi", "example.test/team/tools:v1"]).code(1);
    assert!(said.stderr.contains("conflict") && said.stderr.contains(&container[..12]), "{said:?}");
    client.run(&daemon, &["rm", &container]).ok();
    let said = client.run(&daemon, &["rmi", "example.test/team/tools:v1"]).ok();
    assert!(said.contains(&format!("Deleted: {id}")), "{said}");
    let said = client.run(&daemon, &["rmi", "busybox"]).code(1);
    assert!(said.stderr.contains("No such image: busybox"), "{said:?}");
    daemon.finish();
}

pub fn hostile_archives(client: Client) {
    let daemon = Daemon::start();
    let image = busybox();
    let whole = image.docker_archive();
    let oci = image.oci_archive(Compression::Gzip);
    let mut forged = image.clone();
    forged.layers[0].push(0);
    let mut wrong_content = oci.clone();
    let middle = wrong_content.len() / 2;
    wrong_content[middle] ^= 0xff;
    let cases: [(&str, &[u8]); 5] = [
        ("nothing", b""),
        ("no archive", b"this is no archive"),
        ("cut short", &whole[..whole.len() / 2]),
        ("a layer that its configuration does not know", &forged.docker_archive()),
        ("a blob that is not what its name says", &wrong_content),
    ];
    for (what, archive) in cases {
        let said = load(client, &daemon, archive);
        assert!(said.code != 0, "{what} was loaded: {said:?}");
        assert_eq!(client.run(&daemon, &["images", "-aq"]).ok(), "", "{what}");
    }
    assert!(load(client, &daemon, &whole).ok().contains("Loaded image"), "the daemon lives on");
    daemon.finish();
}

/// Debian's registry, filled by hand and reachable at 127.0.0.1:5000 in the daemon's network.
struct Registry {
    process: Child,
    _files: tempfile::TempDir,
}

impl Registry {
    fn start(daemon: &Daemon, image: &Image, repository: &str, tag: &str, compression: Compression) -> Self {
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
        let settings = files.path().join("settings.yml");
        let root = files.path().display();
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {root}}}}}\nhttp: {{addr: '127.0.0.1:5000'}}\n"
        );
        fs::write(&settings, text).unwrap();
        let mut command = daemon.network().command(programs::borrowed("docker-registry"));
        command.arg("serve").arg(settings).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().unwrap();
        eventually("the registry answers", || {
            let mut probe = daemon.network().command("/bin/busybox");
            let said = crate::support::run(probe.args(["wget", "-qO-", "http://127.0.0.1:5000/v2/"]), b"");
            (said.code == 0).then_some(())
        });
        Self { process, _files: files }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

pub fn pulled_from_a_registry(client: Client) {
    let daemon = Daemon::start();
    let image = busybox();
    let name = "127.0.0.1:5000/team/busybox:v1";
    let _registry = Registry::start(&daemon, image, "team/busybox", "v1", Compression::Gzip);
    let said = client.run(&daemon, &["pull", name]).ok();
    assert!(said.contains("Status: Downloaded newer image for 127.0.0.1:5000/team/busybox:v1"), "{said}");
    let (_, manifest) = image.blobs(Compression::Gzip);
    let digest = manifest["digest"].as_str().unwrap();
    assert!(said.contains(&format!("Digest: {digest}")), "{said}");
    let said = client.run(&daemon, &["pull", name]).ok();
    assert!(said.contains("Status: Image is up to date"), "{said}");
    assert_eq!(client.run(&daemon, &["inspect", "-f", "{{.Id}}", name]).ok(), image.id());
    client.run(&daemon, &["rmi", name]).ok();
    // `run` pulls what is missing, by digest too, and says so on standard error.
    let said = client.run(&daemon, &["run", "--rm", name, "cat", "/etc/replaced"]).code(0);
    assert_eq!(said.stdout, "second\n");
    assert!(said.stderr.contains("Unable to find image"), "{said:?}");
    client.run(&daemon, &["pull", &format!("127.0.0.1:5000/team/busybox@{digest}")]).ok();
    let said = client.run(&daemon, &["pull", "127.0.0.1:5000/team/nothing"]).code(1);
    assert!(said.stderr.contains("not found") || said.stderr.contains("manifest unknown"), "{said:?}");
    daemon.finish();
}
