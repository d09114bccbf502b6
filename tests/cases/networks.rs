//! Who reaches whom.

use std::process::{Child, Stdio};

use crate::support::client::Client;
use crate::support::daemon::Daemon;
use crate::support::eventually;
use crate::support::network::Network;

/// A web server with one file, somewhere else.
struct Server {
    process: Child,
    network: Network,
    _files: tempfile::TempDir,
}

impl Server {
    fn start() -> Self {
        let network = Network::new();
        let files = tempfile::tempdir().unwrap();
        std::fs::write(files.path().join("file"), "from afar\n").unwrap();
        let mut command = network.command("/bin/busybox");
        command.args(["httpd", "-f", "-p", "8080", "-h"]).arg(files.path());
        let process = command.stdin(Stdio::null()).spawn().unwrap();
        Self { process, network, _files: files }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

pub fn outbound_traffic(client: Client) {
    let daemon = Daemon::with_busybox();
    let server = Server::start();
    daemon.network().uplink(&server.network);
    eventually("the server listens", || {
        let mut probe = daemon.network().command("/bin/busybox");
        crate::support::run(probe.args(["nc", "-w", "1", "198.51.100.2", "8080"]), b"").stderr.is_empty().then_some(())
    });
    // The server knows no way back to the container's address: only a translated one gets an answer.
    for network in ["bridge", "host"] {
        let ask = ["run", "--rm", "-i", "--network", network, "busybox", "nc", "-w", "10", "198.51.100.2", "8080"];
        let said = client.run_with(&daemon, &ask, b"GET /file HTTP/1.0\r\n\r\n").code(0);
        assert!(said.stdout.contains(" 200 OK") && said.stdout.ends_with("from afar\n"), "{network}: {said:?}");
    }
    daemon.finish();
}

pub fn neighbours(client: Client) {
    let daemon = Daemon::with_busybox();
    let listen = "echo hello from one | nc -l -p 7000";
    client.run(&daemon, &["run", "-d", "--name", "one", "busybox", "sh", "-c", listen]).ok();
    let address = client.run(&daemon, &["inspect", "-f", "{{.NetworkSettings.IPAddress}}", "one"]).ok();
    let ask = format!("until nc {address} 7000 < /dev/null; do sleep 0.05; done");
    assert_eq!(client.run(&daemon, &["run", "--rm", "busybox", "sh", "-c", &ask]).ok(), "hello from one");
    // Each has an address of its own, written into its hosts file; the gateway is the bridge.
    let script = "grep \"$(hostname)\" /etc/hosts | cut -f 1; ip route | head -n 1; cat /sys/class/net/eth0/operstate";
    let said = client.run(&daemon, &["run", "--rm", "busybox", "sh", "-c", script]).ok();
    let lines: Vec<&str> = said.lines().collect();
    assert_ne!(lines[0], address);
    assert!(lines[1].starts_with("default via ") && lines[2] == "up", "{said}");
    client.run(&daemon, &["rm", "-f", "one"]).ok();
    daemon.finish();
}

pub fn none_is_alone(client: Client) {
    let daemon = Daemon::with_busybox();
    let none = ["run", "--rm", "--network", "none", "busybox", "sh", "-c", "ls /sys/class/net; ip -4 -o addr show lo"];
    let said = client.run(&daemon, &none).ok();
    assert!(said.starts_with("lo\n") && said.contains("127.0.0.1/8") && said.lines().count() == 2, "{said}");
    let listed = client.run(&daemon, &["network", "ls", "--format", "{{.Name}} {{.Driver}} {{.Scope}}"]).ok();
    let mut listed: Vec<&str> = listed.lines().collect();
    listed.sort_unstable();
    assert_eq!(listed, ["bridge bridge local", "host host local", "none null local"]);
    daemon.finish();
}
