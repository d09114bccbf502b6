//! Images: loaded, pulled, named and removed.

use std::fs;

use crate::support::archive::{Compression, busybox, compressed};
use crate::support::client::Client;
use crate::support::daemon::Daemon;
use crate::support::eventually;
use crate::support::registry::{Registry, Setup, TLS};

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
    let shown = daemon.get(&format!("/images/{name}/json?manifests=1"));
    assert_eq!((&shown["Descriptor"], &shown["Manifests"][0]["Descriptor"]), (&manifest, &manifest));
    client.run(&daemon, &["rmi", name]).ok();
    // `run` pulls what is missing, by digest too, and says so on standard error.
    let said = client.run(&daemon, &["run", "--rm", name, "cat", "/etc/replaced"]).code(0);
    assert_eq!(said.stdout, "second\n");
    assert!(said.stderr.contains("Unable to find image"), "{said:?}");
    client.run(&daemon, &["rmi", name]).ok();
    client.run(&daemon, &["pull", &format!("127.0.0.1:5000/team/busybox@{digest}")]).ok();
    // It has a digest and no tag, and is listed by what it has.
    let format = ["images", "--format", "{{.Repository}} {{.Tag}} {{.ID}}"];
    let listed = |more: &[&str]| client.run(&daemon, &[&format[..], more].concat()).ok();
    let line = format!("127.0.0.1:5000/team/busybox <none> {}", &image.id()["sha256:".len()..][..12]);
    for filter in ["127.0.0.1:5000/team/busybox", "127.0.0.1:5000/*/busy*"] {
        assert_eq!(listed(&[filter]), line);
    }
    for filter in ["dangling=true", "dangling=false"] {
        assert_eq!(listed(&["-f", filter]), line);
    }
    assert_eq!(listed(&["other"]), "");
    let said = client.run(&daemon, &["pull", "127.0.0.1:5000/team/nothing"]).code(1);
    assert!(said.stderr.contains("not found") || said.stderr.contains("manifest unknown"), "{said:?}");
    daemon.finish();
}

/// The digest in what a push or a pull says.
fn digest_in(said: &str) -> String {
    let at = said.find("sha256:").unwrap_or_else(|| panic!("no digest in: {said}"));
    said[at..at + "sha256:".len() + 64].to_owned()
}

pub fn pushed_and_saved(client: Client) {
    let daemon = Daemon::with_busybox();
    let registry = Registry::empty(&daemon, &Setup::default());
    let id = busybox().id();
    let name = "127.0.0.1:5000/team/busybox:v1";
    client.run(&daemon, &["tag", "busybox", name]).ok();
    let said = client.run(&daemon, &["push", name]).ok();
    assert!(said.contains("The push refers to repository [127.0.0.1:5000/team/busybox]"), "{said}");
    assert!(said.contains("v1: digest: sha256:"), "{said}");
    let digest = digest_in(&said);
    let said = client.run(&daemon, &["push", name]).ok();
    assert!(said.contains("Layer already exists") && said.contains(&digest), "{said}");
    // Away with it, and back.
    client.run(&daemon, &["rmi", "-f", &id]).ok();
    assert_eq!(client.run(&daemon, &["images", "-q"]).ok(), "");
    assert!(client.run(&daemon, &["pull", name]).ok().contains(&digest));
    let digests = client.run(&daemon, &["inspect", "-f", "{{json .RepoDigests}}", name]).ok();
    assert_eq!(digests, format!("[\"127.0.0.1:5000/team/busybox@{digest}\"]"));
    // Another repository takes over what is there, and all tags go at once.
    for tag in ["1", "2"] {
        client.run(&daemon, &["tag", name, &format!("127.0.0.1:5000/other:{tag}")]).ok();
    }
    let said = client.run(&daemon, &["push", "--all-tags", "127.0.0.1:5000/other"]).ok();
    assert!(said.contains("Mounted from team/busybox") && said.matches(&digest).count() >= 2, "{said}");
    client.run(&daemon, &["rmi", "-f", &id]).ok();
    client.run(&daemon, &["pull", "--all-tags", "127.0.0.1:5000/other"]).ok();
    let tags = client.run(&daemon, &["images", "--format", "{{.Tag}}", "127.0.0.1:5000/other"]).ok();
    assert_eq!(tags.lines().collect::<std::collections::BTreeSet<_>>(), ["1", "2"].into());
    // Saved, loaded, and still what it was.
    let file = daemon.home().join("saved.tar");
    client.run(&daemon, &["save", "-o", file.to_str().unwrap(), "127.0.0.1:5000/other"]).ok();
    client.run(&daemon, &["rmi", "-f", &id]).ok();
    let said = client.run(&daemon, &["load", "-i", file.to_str().unwrap()]).ok();
    assert!(said.contains("Loaded image: 127.0.0.1:5000/other:1"), "{said}");
    let said = client.run(&daemon, &["push", "127.0.0.1:5000/third:x"]).code(1);
    assert!(said.stderr.contains("does not exist locally"), "{said:?}");
    client.run(&daemon, &["tag", "127.0.0.1:5000/other:2", "127.0.0.1:5000/third:x"]).ok();
    assert!(client.run(&daemon, &["push", "127.0.0.1:5000/third:x"]).ok().contains(&digest));
    let seen = daemon.get("/distribution/127.0.0.1:5000/third:x/json");
    assert_eq!(seen["Descriptor"]["digest"], digest);
    assert_eq!(seen["Platforms"][0]["os"], "linux");
    assert_eq!(client.run(&daemon, &["run", "--rm", "127.0.0.1:5000/third:x", "cat", "/etc/replaced"]).ok(), "second");
    let said = client.run(&daemon, &["search", "127.0.0.1:5000/busybox"]).code(1);
    assert!(said.stderr.contains("does not offer search"), "{said:?}");
    if client == Client::Enginectl {
        let check = |more: &[&str]| client.run(&daemon, &[&["system", "check"], more].concat());
        assert!(check(&[]).ok().ends_with(" are sound"));
        for blob in fs::read_dir(daemon.root().join("blobs/sha256")).unwrap() {
            fs::write(blob.unwrap().path(), "x").unwrap();
        }
        let said = check(&[]).code(1);
        assert!(
            said.stdout.contains("it has 1 bytes and should have ") && said.stdout.contains("--repair"),
            "{said:?}"
        );
        let said = check(&["--repair"]).ok();
        assert!(said.contains("repaired: it was fetched again from 127.0.0.1:5000/"), "{said}");
        assert!(check(&[]).ok().ends_with(" are sound"));
    }
    let usage = client.run(&daemon, &["system", "df", "--format", "{{.Type}} {{.TotalCount}} {{.Active}}"]).ok();
    assert_eq!(usage.lines().next(), Some("Images 1 0"));
    assert!(client.run(&daemon, &["system", "df", "-v"]).ok().contains("Local Volumes space usage:"));
    let said = client.run(&daemon, &["image", "prune", "-a", "-f"]).ok();
    assert!(said.contains(&format!("deleted: {id}")) && said.contains("Total reclaimed space: "), "{said}");
    for directory in ["layers", "blobs/sha256"] {
        let left: Vec<_> = fs::read_dir(daemon.root().join(directory)).into_iter().flatten().flatten().collect();
        assert!(left.is_empty(), "{left:?}");
    }
    drop(registry);
    daemon.finish();
}

pub fn committed(client: Client) {
    let daemon = Daemon::with_busybox();
    let script = "mkdir /made && echo new >/made/file && rm /etc/replaced && ln /made/file /made/link && rm -r /srv/data && \
                  mkdir /srv/data && echo x >/srv/data/own && sleep 1000";
    client.run(&daemon, &["run", "-d", "--name", "box", "-e", "A=1", "busybox", "sh", "-c", script]).ok();
    eventually("the files are there", || {
        (client.run(&daemon, &["exec", "box", "test", "-e", "/srv/data/own"]).code == 0).then_some(())
    });
    let change = ["-c", "CMD cat /made/link", "-c", "ENV B=2", "-c", "LABEL of=tests"];
    let said = client
        .run(&daemon, &[&["commit", "-a", "me", "-m", "a remark"], &change[..], &["box", "mine:1"]].concat())
        .ok();
    assert_eq!(client.run(&daemon, &["inspect", "-f", "{{.Id}}", "mine:1"]).ok(), said);
    assert_eq!(client.run(&daemon, &["inspect", "-f", "{{.State.Status}}", "box"]).ok(), "running");
    assert_eq!(client.run(&daemon, &["run", "--rm", "mine:1"]).ok(), "new");
    let look = "ls /etc/replaced; ls /srv/data; echo $A$B; stat -c %h /made/file";
    let said = client.run(&daemon, &["run", "--rm", "mine:1", "sh", "-c", look]);
    assert_eq!(said.stdout, "own\n12\n2\n", "{said:?}");
    let history = client.run(&daemon, &["history", "--format", "{{.Comment}}", "mine:1"]).ok();
    assert_eq!(history.lines().next(), Some("a remark"));
    let said = client.run(&daemon, &["commit", "-c", "RUN x", "box"]).code(1);
    assert!(said.stderr.contains("RUN is not a valid change command"), "{said:?}");
    // What it was built upon cannot go before it.
    client.run(&daemon, &["rm", "-f", "box"]).ok();
    let said = client.run(&daemon, &["rmi", &busybox().id()]).code(1);
    assert!(said.stderr.contains("image has dependent child images"), "{said:?}");
    // It is saved and loaded as it is, though no archive of it was ever kept.
    let file = daemon.home().join("mine.tar");
    client.run(&daemon, &["save", "-o", file.to_str().unwrap(), "mine:1"]).ok();
    client.run(&daemon, &["rmi", "mine:1"]).ok();
    client.run(&daemon, &["load", "-i", file.to_str().unwrap()]).ok();
    assert_eq!(client.run(&daemon, &["run", "--rm", "mine:1"]).ok(), "new");
    let exported = client.run(&daemon, &["run", "--name", "two", "mine:1", "true"]).ok();
    assert_eq!(exported, "");
    let tar = daemon.home().join("tree.tar");
    client.run(&daemon, &["export", "-o", tar.to_str().unwrap(), "two"]).ok();
    client.run(&daemon, &["import", "-c", "CMD [\"cat\", \"/made/file\"]", tar.to_str().unwrap(), "flat:1"]).ok();
    assert_eq!(client.run(&daemon, &["run", "--rm", "flat:1"]).ok(), "new");
    assert_eq!(client.run(&daemon, &["inspect", "-f", "{{.Comment}}", "flat:1"]).ok(), "Imported from -");
    client.run(&daemon, &["rm", "two"]).ok();
    let mut server = daemon.network().command("/bin/busybox");
    server.args(["httpd", "-f", "-p", "127.0.0.1:8088", "-h", daemon.home().to_str().unwrap()]);
    let mut server = server.spawn().unwrap();
    eventually("the archive is fetched by its address", || {
        let said = client.run(&daemon, &["import", "-m", "from afar", "http://127.0.0.1:8088/tree.tar", "web:1"]);
        (said.code == 0).then_some(())
    });
    server.kill().unwrap();
    server.wait().unwrap();
    assert_eq!(client.run(&daemon, &["run", "--rm", "web:1", "cat", "/made/file"]).ok(), "new");
    assert_eq!(client.run(&daemon, &["history", "--format", "{{.Comment}}", "web:1"]).ok(), "from afar");
    daemon.finish();
}

pub fn registries_that_want_to_know_who_asks(client: Client) {
    let daemon = Daemon::with_busybox();
    daemon.network().ip("addr add 192.0.2.10/32 dev lo");
    // The password is `secret`.
    let accounts = Some("me:$2y$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW\n");
    let setup = Setup { address: "192.0.2.10:5443".to_owned(), accounts, tls: true };
    let _registry = Registry::empty(&daemon, &setup);
    let name = "192.0.2.10:5443/private:1";
    client.run(&daemon, &["tag", "busybox", name]).ok();
    let said = client.run(&daemon, &["push", name]).code(1);
    assert!(said.stderr.contains("certificate"), "nobody vouches for it: {said:?}");
    let certificates = daemon.certificates().join("192.0.2.10:5443");
    fs::create_dir_all(&certificates).unwrap();
    fs::write(certificates.join("ca.crt"), TLS[0].1).unwrap();
    fs::write(certificates.join("client.cert"), include_str!("../support/tls/client.crt")).unwrap();
    fs::write(certificates.join("client.key"), include_str!("../support/tls/client.key")).unwrap();
    let said = client.run(&daemon, &["push", name]).code(1);
    assert!(said.stderr.contains("authentication required") || said.stderr.contains("denied"), "{said:?}");
    let log_in = |password: &[u8]| {
        client.run_with(&daemon, &["login", "-u", "me", "--password-stdin", "192.0.2.10:5443"], password)
    };
    let said = log_in(b"wrong").code(1);
    assert!(said.stderr.contains("401 Unauthorized"), "{said:?}");
    assert!(log_in(b"secret\n").ok().contains("Login Succeeded"));
    let digest = digest_in(&client.run(&daemon, &["push", name]).ok());
    client.run(&daemon, &["rmi", "-f", &busybox().id()]).ok();
    assert!(client.run(&daemon, &["pull", name]).ok().contains(&digest));
    client.run(&daemon, &["logout", "192.0.2.10:5443"]).ok();
    client.run(&daemon, &["rmi", name]).ok();
    let said = client.run(&daemon, &["pull", name]).code(1);
    assert!(said.stderr.contains("authentication required") || said.stderr.contains("denied"), "{said:?}");
    daemon.finish();
}

pub fn nobody_else_looks_in(client: Client) {
    let daemon = Daemon::with_busybox();
    client
        .run(&daemon, &["run", "-v", "data:/data", "--name", "box", "busybox", "sh", "-c", "echo secret >/data/file"])
        .ok();
    let layer = fs::read_dir(daemon.root().join("layers")).unwrap().next().unwrap().unwrap().path();
    // Whoever is nobody on the host: not even a set-id program of a layer is there for them (CVE-2021-41091).
    let look = |path: &std::path::Path| {
        use std::os::unix::process::CommandExt;
        let mut command = std::process::Command::new("/bin/busybox");
        command.args(["ls", path.to_str().unwrap()]).uid(65534).gid(65534);
        command.output().unwrap()
    };
    // They come to the top, and no further.
    let room = daemon.root().parent().unwrap().to_owned();
    fs::set_permissions(&room, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    assert!(look(&room).status.success());
    let beneath = ["", "layers", "blobs", "blobs/sha256", "containers", "volumes"].map(|name| daemon.root().join(name));
    for path in
        [&beneath[..], &[layer.join("bin/busybox"), daemon.run_directory(), daemon.root().join("engine.db-wal")]]
            .concat()
    {
        let said = look(&path);
        assert!(!said.status.success() || path.ends_with("engine.db-wal"), "{}: {said:?}", path.display());
    }
    let database = std::os::unix::fs::MetadataExt::mode(&daemon.root().join("engine.db").metadata().unwrap());
    assert_eq!(database & 0o077, 0, "{database:o}");
    client.run(&daemon, &["rm", "box"]).ok();
    client.run(&daemon, &["volume", "rm", "data"]).ok();
    daemon.finish();
}

pub fn room_is_made(client: Client) {
    let daemon = Daemon::with_busybox();
    let registry = Registry::empty(&daemon, &Setup::default());
    for name in ["one", "two"] {
        client.run(&daemon, &["tag", "busybox", &format!("127.0.0.1:5000/{name}:1")]).ok();
    }
    client.run(&daemon, &["push", "127.0.0.1:5000/one:1"]).ok();
    let usage = client.run(&daemon, &["system", "df", "-v"]).ok();
    assert!(usage.contains("127.0.0.1:5000/one"), "{usage}");
    if client == Client::Enginectl {
        let container = client.run(&daemon, &["create", "--name", "box", "busybox"]).ok();
        assert!(
            usage.contains("LAST USED") && (usage.contains("second ago") || usage.contains("seconds ago")),
            "{usage}"
        );
        // What images are made of, with the compressed forms that the push has made.
        let tree = client.run(&daemon, &["images", "--tree"]).ok();
        let lines: Vec<&str> = tree.lines().collect();
        assert!(lines[0].contains("busybox:latest") && lines[0].contains(&busybox().id()[7..19]), "{tree}");
        assert!(
            lines[1].starts_with("├─ ") && lines[2].starts_with("├─ ") && lines[3] == "└─ in container: box (created)",
            "{tree}"
        );
        let said = client.run(&daemon, &["images", "--tree", "-q"]).code(1);
        assert!(said.stderr.contains("--tree cannot be combined"), "{said:?}");
        // Nobody refers to it yet.
        let listed = client.run(&daemon, &["manifest", "referrers", "127.0.0.1:5000/one:1"]).ok();
        assert_eq!(
            listed.split_whitespace().collect::<Vec<_>>(),
            ["DIGEST", "ARTIFACT", "TYPE", "SIZE", "CREATED", "AT"]
        );
        let raw = client.run(&daemon, &["manifest", "inspect", "--raw", "127.0.0.1:5000/one:1"]).ok();
        let manifest: serde_json::Value = serde_json::from_str(&raw).unwrap();
        assert_eq!(manifest["config"]["digest"], busybox().id());
        let said = client.run(&daemon, &["image", "referrers", "127.0.0.1:5000/nothing:1"]).code(1);
        assert!(said.stderr.contains("not found"), "{said:?}");
        // The compressed layers go, and a push needs none of them.
        let blobs = || fs::read_dir(daemon.root().join("blobs/sha256")).unwrap().count();
        assert_eq!(blobs(), 3);
        let said = client.run(&daemon, &["system", "trim", "--force", "--compressed"]).ok();
        assert!(said.contains("gave up 2 compressed layers") && blobs() == 1, "{said}");
        assert!(client.run(&daemon, &["push", "127.0.0.1:5000/one:1"]).ok().contains("digest: sha256:"));
        assert!(client.run(&daemon, &["system", "check"]).ok().ends_with(" are sound"));
        // What a container has stays whatever it takes, and goes when the container does.
        let said = client.run(&daemon, &["system", "trim", "-f", "--to", "1k"]).ok();
        assert!(!said.contains("deleted"), "{said}");
        client.run(&daemon, &["rm", &container]).ok();
        let said = client.run(&daemon, &["system", "trim", "-f"]).code(1);
        assert!(said.stderr.contains("no image-quota"), "{said:?}");
        let said = client.run(&daemon, &["system", "trim", "-f", "--to", "1k"]).ok();
        assert!(said.contains("untagged: busybox:latest") && said.ends_with("images take 0B"), "{said}");
        assert_eq!(client.run(&daemon, &["images", "-aq"]).ok(), "");
    }
    drop(registry);
    daemon.finish();
}
