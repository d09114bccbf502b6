//! Files into containers and out of them.

use std::fs;
use std::path::PathBuf;

use crate::support::client::Client;
use crate::support::daemon::Daemon;

/// A directory on this side with something of everything.
fn here(daemon: &Daemon) -> PathBuf {
    let here = daemon.home().join("here");
    fs::create_dir_all(here.join("tree/sub")).unwrap();
    fs::write(here.join("file"), "of the host\n").unwrap();
    fs::write(here.join("tree/sub/deep"), "deep\n").unwrap();
    std::os::unix::fs::symlink("sub/deep", here.join("tree/link")).unwrap();
    here
}

fn inside(client: Client, daemon: &Daemon, script: &str) -> String {
    client.run(daemon, &["exec", "box", "sh", "-c", script]).ok()
}

pub fn into_and_out_of(client: Client) {
    let daemon = Daemon::with_busybox();
    let here = here(&daemon);
    let at = |name: &str| here.join(name).to_str().unwrap().to_owned();
    let cp = |arguments: &[&str]| client.run(&daemon, &[&["cp"], arguments].concat());
    client.run(&daemon, &["run", "-d", "--name", "box", "-v", "data:/data", "busybox", "sleep", "1000"]).ok();
    for (source, target, script, expected) in [
        ("file", "/root", "cat /root/file", "of the host"),
        ("file", "/root/other", "cat /root/other", "of the host"),
        ("file", "/data/", "cat /data/file", "of the host"),
        ("tree", "/root", "cat /root/tree/link", "deep"),
        ("tree", "/root/new", "cat /root/new/sub/deep", "deep"),
        ("tree/.", "/root", "cat /root/sub/deep", "deep"),
    ] {
        cp(&[&at(source), &format!("box:{target}")]).ok();
        assert_eq!(inside(client, &daemon, script), expected, "{source} {target}");
    }
    inside(client, &daemon, "mkdir /root/real; ln -s /root/real /root/alias; ln -s tree/sub/deep /root/to-deep");
    cp(&[&at("file"), "box:/root/alias"]).ok();
    assert_eq!(inside(client, &daemon, "ls /root/real"), "file");
    for (source, target, seen, expected) in [
        ("/root/tree", "out", "out/sub/deep", "deep\n"),
        ("/root/tree", "", "tree/sub/deep", "deep\n"),
        ("/root/tree/.", "flat", "flat/sub/deep", "deep\n"),
        ("/root/other", "renamed", "renamed", "of the host\n"),
        ("/data/file", "file2", "file2", "of the host\n"),
    ] {
        cp(&[&format!("box:{source}"), &at(target)]).ok();
        assert_eq!(fs::read_to_string(here.join(seen)).unwrap(), expected, "{source} {target}");
    }
    cp(&["box:/root/to-deep", &at("as-link")]).ok();
    assert_eq!(fs::read_link(here.join("as-link")).unwrap().to_str(), Some("tree/sub/deep"));
    cp(&["-L", "box:/root/to-deep", &at("followed")]).ok();
    assert_eq!(fs::read_to_string(here.join("followed")).unwrap(), "deep\n");

    for (source, target, words) in [
        ("box:/nowhere".to_owned(), at("x"), "Could not find the file /nowhere in container box"),
        (at("tree"), "box:/root/file".to_owned(), "cannot copy directory"),
        (at("file"), "box:/nowhere/x".to_owned(), "Could not find the file /nowhere in container box"),
        (at("file"), "box:/root/none/".to_owned(), "no such directory"),
        ("box:/root/tree".to_owned(), at("file"), "cannot copy directory"),
        ("box:/root/file".to_owned(), at("none/x"), "does not exist"),
    ] {
        let said = cp(&[&source, &target]).code(1);
        assert!(said.stderr.contains(words), "{source} {target}: {said:?}");
    }
    client.run(&daemon, &["rm", "-f", "box"]).ok();
    client.run(&daemon, &["volume", "rm", "data"]).ok();
    daemon.finish();
}

pub fn with_its_options(client: Client) {
    let daemon = Daemon::with_busybox();
    let here = here(&daemon);
    let at = |name: &str| here.join(name).to_str().unwrap().to_owned();
    client.run(&daemon, &["run", "-d", "--name", "box", "-u", "worker", "busybox", "sleep", "1000"]).ok();
    std::os::unix::fs::chown(here.join("file"), Some(7), Some(8)).unwrap();
    std::os::unix::fs::symlink("file", here.join("alias")).unwrap();
    for (options, source, target, expected) in [
        (&["-q"][..], "file", "/tmp/numbers", "7 8 regular file"),
        (&["-a"], "file", "/tmp/user", "1000 1001 regular file"),
        (&[], "alias", "/tmp/link", "0 0 symbolic link"),
        (&["-L"], "alias", "/tmp/followed", "7 8 regular file"),
    ] {
        let said = client.run(&daemon, &[&["cp"], options, &[&at(source), &format!("box:{target}")]].concat()).code(0);
        assert_eq!(said.stderr, "", "nobody is at a terminal");
        assert_eq!(inside(client, &daemon, &format!("stat -c '%u %g %F' {target}")), expected, "{options:?} {target}");
    }
    // An archive on standard input, into a directory only.
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_dir_all("packed", here.join("tree")).unwrap();
    let archive = archive.into_inner().unwrap();
    client.run_with(&daemon, &["cp", "-", "box:/tmp"], &archive).code(0);
    assert_eq!(inside(client, &daemon, "cat /tmp/packed/sub/deep"), "deep");
    let said = client.run_with(&daemon, &["cp", "-", "box:/tmp/user"], &archive).code(1);
    assert!(said.stderr.contains("must be a directory"), "{said:?}");
    for (arguments, words) in [
        (["box:/tmp/user", "box:/tmp/x"], "copying between containers is not supported"),
        (["/etc/passwd", "/etc/group"], "must specify at least one container source"),
    ] {
        let said = client.run(&daemon, &[&["cp"], &arguments[..]].concat()).code(1);
        assert!(said.stderr.contains(words), "{said:?}");
    }
    client.run(&daemon, &["rm", "-f", "box"]).ok();
    daemon.finish();
}

pub fn whatever_it_does(client: Client) {
    let daemon = Daemon::with_busybox();
    let here = here(&daemon);
    let file = here.join("file").to_str().unwrap().to_owned();
    let tar = |path: &str| client.run(&daemon, &["cp", &format!("box:{path}"), "-"]).ok();
    client.run(&daemon, &["create", "--name", "box", "-v", "data:/deep/data", "busybox", "sleep", "1000"]).ok();
    client.run(&daemon, &["cp", &file, "box:/deep/data/never-started"]).ok();
    client.run(&daemon, &["cp", &file, "box:/root/never-started"]).ok();
    client.run(&daemon, &["start", "box"]).ok();
    assert_eq!(inside(client, &daemon, "cat /deep/data/never-started /root/never-started"), "of the host\nof the host");
    client.run(&daemon, &["pause", "box"]).ok();
    client.run(&daemon, &["cp", &file, "box:/root/paused"]).ok();
    assert!(tar("/root").contains("root/paused"));
    client.run(&daemon, &["unpause", "box"]).ok();
    client.run(&daemon, &["stop", "-t", "0", "box"]).ok();
    client.run(&daemon, &["cp", &file, "box:/deep/data/stopped"]).ok();
    assert!(tar("/deep").contains("deep/data/stopped"));
    client.run(&daemon, &["start", "box"]).ok();
    assert_eq!(
        inside(client, &daemon, "ls /root /deep/data | grep -v ^$"),
        "/deep/data:\nnever-started\nstopped\n/root:\nnever-started\npaused"
    );
    client.run(&daemon, &["rm", "-f", "box"]).ok();

    let home = here.to_str().unwrap();
    let bind = format!("{home}:/bind:ro");
    client.run(&daemon, &["run", "-d", "--name", "box", "--read-only", "-v", &bind, "busybox", "sleep", "1000"]).ok();
    let refused = || {
        for (path, words) in
            [("/root/x", "container rootfs is marked read-only"), ("/bind/x", "mounted volume is marked read-only")]
        {
            let said = client.run(&daemon, &["cp", &file, &format!("box:{path}")]).code(1);
            assert!(said.stderr.contains(words), "{said:?}");
        }
    };
    refused();
    client.run(&daemon, &["stop", "-t", "0", "box"]).ok();
    refused();
    client.run(&daemon, &["rm", "box"]).ok();
    client.run(&daemon, &["volume", "rm", "data"]).ok();
    daemon.finish();
}

pub fn what_was_changed(client: Client) {
    let daemon = Daemon::with_busybox();
    client.run(&daemon, &["create", "--name", "box", "busybox", "true"]).ok();
    assert_eq!(client.run(&daemon, &["diff", "box"]).ok(), "");
    client.run(&daemon, &["start", "-a", "box"]).ok();
    assert_eq!(client.run(&daemon, &["diff", "box"]).ok(), "");
    client.run(&daemon, &["rm", "box"]).ok();
    let script = "echo x > /root/new; rm /srv/data/seed; mkdir /tmp/made; echo y >> /etc/passwd; sleep 1000";
    client.run(&daemon, &["run", "-d", "--name", "box", "busybox", "sh", "-c", script]).ok();
    let expected =
        "C /etc\nC /etc/passwd\nC /root\nA /root/new\nC /srv\nC /srv/data\nD /srv/data/seed\nC /tmp\nA /tmp/made";
    crate::support::eventually("the changes are seen", || {
        (client.run(&daemon, &["diff", "box"]).ok().replace("C /etc\n", "") == expected.replace("C /etc\n", ""))
            .then_some(())
    });
    client.run(&daemon, &["stop", "-t", "0", "box"]).ok();
    let file = daemon.home().join("export.tar");
    client.run(&daemon, &["export", "-o", file.to_str().unwrap(), "box"]).ok();
    let mut archive = tar::Archive::new(fs::File::open(&file).unwrap());
    let paths: Vec<_> =
        archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().display().to_string()).collect();
    for (path, there) in [("root/new", true), ("bin/busybox", true), ("srv/data/seed", false)] {
        assert_eq!(paths.iter().any(|found| found == path), there, "{path}");
    }
    client.run(&daemon, &["rm", "box"]).ok();
    daemon.finish();
}
