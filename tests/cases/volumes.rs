//! Volumes and host directories in containers.

use crate::support::client::Client;
use crate::support::daemon::Daemon;

fn script(client: Client, daemon: &Daemon, mount: &[&str], script: &str) -> String {
    client.run(daemon, &[&["run", "--rm"], mount, &["busybox", "sh", "-c", script]].concat()).ok()
}

pub fn they_outlive_containers(client: Client) {
    let daemon = Daemon::with_busybox();
    assert_eq!(client.run(&daemon, &["volume", "create", "--label", "a=b", "data"]).ok(), "data");
    script(client, &daemon, &["-v", "data:/data"], "echo kept > /data/file");
    assert_eq!(
        script(client, &daemon, &["-v", "data:/other:ro"], "cat /other/file; echo x > /other/x || echo refused"),
        "kept\nrefused"
    );
    let shown = client
        .run(&daemon, &["volume", "inspect", "-f", "{{.Name}} {{.Driver}} {{.Scope}} {{.Labels.a}}", "data"])
        .ok();
    assert_eq!(shown, "data local local b");
    let id = client.run(&daemon, &["create", "-v", "data:/data", "busybox"]).ok();
    let said = client.run(&daemon, &["volume", "rm", "data"]).code(1);
    assert!(said.stderr.contains(&format!("remove data: volume is in use - [{id}]")), "{said:?}");
    client.run(&daemon, &["rm", &id]).ok();
    assert_eq!(client.run(&daemon, &["volume", "ls", "-q"]).ok(), "data");
    client.run(&daemon, &["volume", "rm", "data"]).ok();
    let said = client.run(&daemon, &["volume", "inspect", "data"]).code(1);
    assert!(said.stderr.contains("no such volume"), "{said:?}");
    daemon.finish();
}

pub fn filled_from_the_image(client: Client) {
    let daemon = Daemon::with_busybox();
    let look = "cat /srv/data/seed; stat -c '%a %n' /srv/data /srv/data/seed";
    let expected = "of the image\n750 /srv/data\n640 /srv/data/seed";
    assert_eq!(script(client, &daemon, &["-v", "data:/srv/data"], look), expected);
    script(client, &daemon, &["-v", "data:/srv/data"], "rm /srv/data/seed; touch /srv/data/mine");
    assert_eq!(script(client, &daemon, &["-v", "data:/srv/data"], "ls /srv/data"), "mine");
    // What is elsewhere by its options is filled there.
    let elsewhere = daemon.home().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    let device = format!("device={}", elsewhere.display());
    let options = ["--opt", "type=none", "--opt", "o=bind", "--opt", &device, "other"];
    client.run(&daemon, &[&["volume", "create"][..], &options].concat()).ok();
    assert_eq!(script(client, &daemon, &["-v", "other:/srv/data"], look), expected);
    assert_eq!(std::fs::read(elsewhere.join("seed")).unwrap(), b"of the image\n");
    // As it is mounted there it stays in the container, which may write as far as it is concerned.
    let options = ["--opt", "type=none", "--opt", "o=bind,ro,noexec", "--opt", &device, "kept"];
    client.run(&daemon, &[&["volume", "create"][..], &options].concat()).ok();
    let look = "cat /mnt/seed; touch /mnt/no 2>/dev/null || echo kept; grep -c ' /mnt ro,noexec' /proc/self/mountinfo";
    assert_eq!(script(client, &daemon, &["-v", "kept:/mnt"], look), "of the image\nkept\n1");
    client.run(&daemon, &["volume", "rm", "data", "other", "kept"]).ok();
    daemon.finish();
}

pub fn nameless_ones_go_along(client: Client) {
    let daemon = Daemon::with_busybox();
    script(client, &daemon, &["-v", "/data"], "echo x > /data/file");
    assert_eq!(client.run(&daemon, &["volume", "ls", "-q"]).ok(), "");
    client.run(&daemon, &["run", "--name", "one", "-v", "/data", "busybox", "true"]).ok();
    let name = client.run(&daemon, &["volume", "ls", "-q"]).ok();
    assert_eq!(name.len(), 64);
    client.run(&daemon, &["rm", "one"]).ok();
    assert_eq!(client.run(&daemon, &["volume", "ls", "-q"]).ok(), name);
    let said = client.run(&daemon, &["volume", "prune", "-f"]).ok();
    assert!(said.contains(&name), "{said}");
    client.run(&daemon, &["run", "--name", "two", "-v", "/data", "busybox", "true"]).ok();
    client.run(&daemon, &["rm", "-v", "two"]).ok();
    assert_eq!(client.run(&daemon, &["volume", "ls", "-q"]).ok(), "");
    daemon.finish();
}

pub fn host_directories(client: Client) {
    let daemon = Daemon::with_busybox();
    let directory = daemon.home().join("shared");
    std::fs::create_dir(&directory).unwrap();
    std::fs::write(directory.join("in"), "from the host\n").unwrap();
    let host = directory.display();
    assert_eq!(
        script(client, &daemon, &["-v", &format!("{host}:/mnt")], "cat /mnt/in; echo back > /mnt/out"),
        "from the host"
    );
    assert_eq!(std::fs::read_to_string(directory.join("out")).unwrap(), "back\n");
    assert_eq!(
        script(client, &daemon, &["-v", &format!("{host}:/mnt:ro")], "echo x > /mnt/x || echo refused"),
        "refused"
    );
    let mount = format!("type=bind,src={host}/nowhere,dst=/mnt");
    let said = client.run(&daemon, &["run", "--rm", "--mount", &mount, "busybox", "true"]).code(125);
    assert!(said.stderr.contains("bind source path does not exist"), "{said:?}");
    daemon.finish();
}

pub fn every_kind_of_mount(client: Client) {
    let daemon = Daemon::with_busybox();
    let run = |arguments: &[&str]| client.run(&daemon, &[&["run", "--rm"], arguments].concat());
    script(
        client,
        &daemon,
        &["-v", "data:/data"],
        "mkdir -p /data/a/b; echo deep > /data/a/b/file; ln -s /etc /data/out",
    );
    let part = "type=volume,src=data,dst=/part,volume-subpath=a/b,readonly";
    let look = "cat /part/file; touch /part/x 2>&1 | grep -o 'Read-only file system'";
    assert_eq!(script(client, &daemon, &["--mount", part], look), "deep\nRead-only file system");
    for subpath in ["out", "missing", "a/b/file/x"] {
        let mount = format!("type=volume,src=data,dst=/part,volume-subpath={subpath}");
        let said = run(&["--mount", &mount, "busybox", "true"]).code(125);
        assert!(said.stderr.contains("cannot access path"), "{said:?}");
    }
    let image = "type=image,src=busybox,dst=/image";
    let look = "cat /image/srv/data/seed; touch /image/x 2>&1 | grep -o 'Read-only file system'";
    assert_eq!(script(client, &daemon, &["--mount", image], look), "of the image\nRead-only file system");

    // Memory is shared by those who have it at once, and gone with the last of them.
    let options = ["--opt", "type=tmpfs", "--opt", "device=tmpfs", "--opt", "o=size=1m,mode=1777"];
    client.run(&daemon, &[&["volume", "create"], &options[..], &["memory"]].concat()).ok();
    let background =
        ["run", "-d", "--name", "box", "--init", "--ipc", "shareable", "-v", "memory:/memory", "-v", "data:/data:ro"];
    client.run(&daemon, &[&background[..], &["busybox", "sleep", "1000"]].concat()).ok();
    client.run(&daemon, &["exec", "box", "sh", "-c", "echo shared > /memory/file; echo mine > /dev/shm/file"]).ok();
    assert_eq!(
        script(client, &daemon, &["-v", "memory:/m"], "cat /m/file; df -k /m | tail -n 1 | awk '{print $2}'"),
        "shared\n1024"
    );
    let theirs = ["--volumes-from", "box", "--ipc", "container:box"];
    let look = "cat /memory/file /data/a/b/file /dev/shm/file; touch /data/x 2>&1 | grep -o 'Read-only file system'";
    assert_eq!(script(client, &daemon, &theirs, look), "shared\ndeep\nmine\nRead-only file system");
    assert_eq!(client.run(&daemon, &["exec", "box", "cat", "/proc/1/comm"]).ok(), "engine-init");
    client.run(&daemon, &["rm", "-f", "box"]).ok();
    assert_eq!(script(client, &daemon, &["-v", "memory:/m"], "ls /m"), "");
    let said = client.run(&daemon, &["volume", "create", "--opt", "bogus=x"]).code(1);
    assert!(said.stderr.contains("invalid option: \"bogus\""), "{said:?}");
    client.run(&daemon, &["volume", "rm", "memory", "data"]).ok();
    daemon.finish();
}
