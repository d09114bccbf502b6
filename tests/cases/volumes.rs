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
    client.run(&daemon, &["volume", "rm", "data"]).ok();
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
