//! Who reaches whom.

use std::process::{Child, Stdio};

use crate::support::client::Client;
use crate::support::daemon::Daemon;
use crate::support::eventually;
use crate::support::network::{NameServer, Network};

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

pub fn made_and_removed(client: Client) {
    let daemon = Daemon::with_busybox();
    let create = [
        "network",
        "create",
        "--subnet",
        "10.9.0.0/24",
        "--ip-range",
        "10.9.0.128/25",
        "--gateway",
        "10.9.0.254",
        "--aux-address",
        "router=10.9.0.129",
        "--label",
        "team=a",
        "--internal",
        "-o",
        "com.docker.network.bridge.enable_icc=true",
        "back",
    ];
    let id = client.run(&daemon, &create).ok();
    assert_eq!(id.len(), 64);
    let format = "{{.Name}} {{.Driver}} {{.Internal}} {{json .IPAM.Config}} {{json .Labels}} {{json .Options}}";
    let shown = client.run(&daemon, &["network", "inspect", "-f", format, "back"]).ok();
    for part in [
        "back bridge true",
        r#""Subnet":"10.9.0.0/24","IPRange":"10.9.0.128/25","Gateway":"10.9.0.254","AuxiliaryAddresses":{"router":"10.9.0.129"}"#,
        r#"{"team":"a"}"#,
        r#"{"com.docker.network.bridge.enable_icc":"true"}"#,
    ] {
        assert!(shown.contains(part), "{shown}");
    }
    let twice = client.run(&daemon, &["network", "create", "back"]).code(1);
    assert!(twice.stderr.contains("network with name back already exists"), "{twice:?}");
    client.run(&daemon, &["run", "-d", "--name", "one", "--network", "back", "busybox", "sleep", "1000"]).ok();
    let address = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{.Gateway}}|{{end}}";
    // The first of the range is somebody else's; an internal network has no gateway.
    assert_eq!(client.run(&daemon, &["inspect", "-f", address, "one"]).ok(), "10.9.0.128 |");
    let members = "{{range .Containers}}{{.Name}} {{.IPv4Address}}{{end}}";
    assert_eq!(client.run(&daemon, &["network", "inspect", "-f", members, "back"]).ok(), "one 10.9.0.128/24");
    let used = client.run(&daemon, &["network", "rm", "back"]).code(1);
    assert!(used.stderr.contains("network back has active endpoints"), "{used:?}");
    assert_eq!(client.run(&daemon, &["network", "ls", "-q", "--filter", "label=team=a"]).ok(), id[..12]);
    client.run(&daemon, &["network", "create", "idle"]).ok();
    let pruned = client.run(&daemon, &["network", "prune", "-f"]).ok();
    assert_eq!(pruned.trim(), "Deleted Networks:\nidle");
    client.run(&daemon, &["rm", "-f", "one"]).ok();
    assert_eq!(client.run(&daemon, &["network", "rm", "back"]).ok(), "back");
    assert!(client.run(&daemon, &["network", "rm", "bridge"]).code(1).stderr.contains("pre-defined"));
    daemon.finish();
}

pub fn several_at_once(client: Client) {
    let daemon = Daemon::with_busybox();
    for network in ["front", "back"] {
        client.run(&daemon, &["network", "create", network]).ok();
    }
    client.run(&daemon, &["run", "-d", "--name", "db", "--network", "back", "busybox", "sleep", "1000"]).ok();
    client.run(&daemon, &["run", "-d", "--name", "web", "--network", "front", "busybox", "sleep", "1000"]).ok();
    let back = client.run(&daemon, &["network", "inspect", "-f", "{{.Id}}", "back"]).ok();
    for network in ["back", &back, &back[..12]] {
        let filter = format!("network={network}");
        assert_eq!(client.run(&daemon, &["ps", "--filter", &filter, "--format", "{{.Names}}"]).ok(), "db");
    }
    let of = |container: &str, network: &str| {
        let format = format!("{{{{(index .NetworkSettings.Networks \"{network}\").IPAddress}}}}");
        client.run(&daemon, &["inspect", "-f", &format, container]).ok()
    };
    let ping = |from: &str, to: &str| client.run(&daemon, &["exec", from, "ping", "-c", "1", "-W", "2", to]).code;
    let db = of("db", "back");
    assert_eq!(ping("web", &db), 1, "networks are kept apart");
    // While it runs, it gets an interface, an address and a line in its hosts file, and loses them again.
    client.run(&daemon, &["network", "connect", "--alias", "www", "back", "web"]).ok();
    assert_eq!(ping("web", &db), 0);
    assert_eq!((ping("web", "db"), ping("db", "www"), ping("db", "web.back")), (0, 0, 0), "by name");
    let web = of("web", "back");
    assert_eq!(ping("db", &web), 0);
    let hosts = client.run(&daemon, &["exec", "web", "cat", "/etc/hosts"]).ok();
    assert!(hosts.contains(&format!("\n{web}\t")), "{hosts}");
    let again = client.run(&daemon, &["network", "connect", "back", "web"]).code(1);
    assert!(again.stderr.contains("endpoint with name web already exists in network back"), "{again:?}");
    client.run(&daemon, &["network", "disconnect", "back", "web"]).ok();
    assert_eq!((ping("web", &db), ping("web", "db")), (1, 1));
    let links = client.run(&daemon, &["exec", "web", "ls", "/sys/class/net"]).ok();
    assert_eq!(links.split_whitespace().collect::<Vec<_>>(), ["eth0", "lo"]);
    let hosts = client.run(&daemon, &["exec", "web", "cat", "/etc/hosts"]).ok();
    assert!(!hosts.contains(&web), "{hosts}");
    // What does not run is connected when it starts; a network is removed when nobody runs on it.
    client.run(&daemon, &["stop", "-t", "0", "web"]).ok();
    client.run(&daemon, &["network", "connect", "back", "web"]).ok();
    client.run(&daemon, &["start", "web"]).ok();
    assert_eq!(ping("web", &db), 0);
    let networks = "{{range $name, $_ := .NetworkSettings.Networks}}{{$name}} {{end}}";
    assert_eq!(client.run(&daemon, &["inspect", "-f", networks, "web"]).ok().trim(), "back front");
    client.run(&daemon, &["rm", "-f", "web", "db"]).ok();
    client.run(&daemon, &["network", "rm", "front", "back"]).ok();
    daemon.finish();
}

pub fn names_are_looked_up(client: Client) {
    let mut daemon = Daemon::with_busybox();
    // Somebody outside who knows one name.
    let outside = Network::new();
    daemon.network().uplink(&outside);
    let server = NameServer::start(&outside, "far.example", [198, 51, 100, 77]);
    client.run(&daemon, &["network", "create", "n"]).ok();
    client.run(&daemon, &["network", "create", "--internal", "inside"]).ok();
    let run = |name: &str, network: &str, more: &[&str]| {
        let mut arguments = vec!["run", "-d", "--name", name, "--network", network, "--dns", "198.51.100.2"];
        arguments.extend(more);
        arguments.extend(["busybox", "sleep", "1000"]);
        client.run(&daemon, &arguments).ok()
    };
    run("one", "n", &["--network-alias", "both"]);
    let two = run("two", "n", &["--network-alias", "both", "--link", "one:first"]);
    run("alone", "inside", &[]);
    let look = |daemon: &Daemon, from: &str, name: &str| {
        let said = client.run(daemon, &["exec", from, "nslookup", name, "127.0.0.11"]);
        let answers = said.stdout.lines().skip_while(|line| !line.is_empty());
        answers
            .filter_map(|line| line.strip_prefix("Address: ").or(line.split("name = ").nth(1)))
            .collect::<Vec<_>>()
            .join(" ")
    };
    let address = |name: &str| {
        client.run(&daemon, &["inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", name]).ok()
    };
    let (first, second) = (address("one"), address("two"));
    assert_eq!(look(&daemon, "one", "two"), second);
    assert_eq!(look(&daemon, "one", &two[..12]), second, "by its short id");
    assert_eq!((look(&daemon, "two", "FIRST"), look(&daemon, "one", "first")), (first.clone(), String::new()));
    let both = look(&daemon, "two", "both");
    assert!(both.contains(&first) && both.contains(&second), "{both}");
    assert_eq!(look(&daemon, "two", &first), "one.n", "from an address back to the name");
    assert_eq!(look(&daemon, "alone", "two"), "");
    eventually("the server outside answers", || (look(&daemon, "one", "far.example") == "198.51.100.77").then_some(()));
    assert_eq!(look(&daemon, "alone", "far.example"), "", "no question leaves an internal network");
    // The name changes with the container's, and the service is there again after an engine has died.
    client.run(&daemon, &["rename", "two", "second"]).ok();
    assert_eq!((look(&daemon, "one", "second"), look(&daemon, "one", "two")), (second.clone(), String::new()));
    daemon.kill();
    daemon.begin();
    assert_eq!(look(&daemon, "one", "second"), second);
    assert_eq!(look(&daemon, "one", "far.example"), "198.51.100.77");
    drop(server);
    client.run(&daemon, &["rm", "-f", "one", "second", "alone"]).ok();
    client.run(&daemon, &["network", "rm", "n", "inside"]).ok();
    daemon.finish();
}

pub fn links_on_the_default_bridge(client: Client) {
    let daemon = Daemon::with_busybox();
    let db = ["run", "-d", "--name", "db", "--expose", "80", "-e", "KEY=secret", "busybox", "sleep", "1000"];
    let id = client.run(&daemon, &db).ok();
    let script = "ping -c 1 -W 2 store > /dev/null && grep store /etc/hosts | cut -f 2; env | grep ^STORE | sort";
    let run = ["run", "--rm", "--name", "web", "--link", "db:store", "busybox", "sh", "-c", script];
    let said = client.run(&daemon, &run).ok();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[0], format!("store {} db", &id[..12]), "{said}");
    assert!(lines.contains(&"STORE_ENV_KEY=secret") && lines.contains(&"STORE_NAME=/web/store"), "{said}");
    assert!(lines.iter().any(|line| line.starts_with("STORE_PORT_80_TCP=tcp://172.17.0.")), "{said}");
    // What is executed is told the same, and the container's own variables go first.
    let own = ["-e", "STORE_ENV_KEY=own", "busybox", "sleep", "1000"];
    client.run(&daemon, &[&["run", "-d", "--name", "lasting", "--link", "db:store"], &own[..]].concat()).ok();
    let said = client.run(&daemon, &["exec", "-e", "STORE_NAME=mine", "lasting", "env"]).ok();
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines.iter().any(|line| line.starts_with("STORE_PORT_80_TCP=tcp://172.17.0.")), "{said}");
    assert!(lines.contains(&"STORE_ENV_KEY=own") && lines.contains(&"STORE_NAME=mine"), "{said}");
    client.run(&daemon, &["create", "--name", "apart", "--link", "db:store", "busybox", "true"]).ok();
    assert_eq!(daemon.request("DELETE", "/containers/apart/other?link=1").0, 404);
    assert_eq!(daemon.request("DELETE", "/containers/apart/store?link=1").0, 204);
    assert!(daemon.get("/containers/apart/json")["HostConfig"]["Links"].is_null());
    client.run(&daemon, &["rm", "apart"]).ok();
    let missing = client.run(&daemon, &["create", "--link", "nobody", "busybox", "true"]).code(1);
    assert!(missing.stderr.contains("could not get container for nobody"), "{missing:?}");
    client.run(&daemon, &["stop", "-t", "0", "db"]).ok();
    let stopped = client.run(&daemon, &["run", "--rm", "--name", "web", "--link", "db:store", "busybox", "true"]);
    assert!(stopped.stderr.contains("Cannot link to a non running container: /db AS /web/store"), "{stopped:?}");
    // One may still get in where a link leads nowhere.
    let said = client.run(&daemon, &["exec", "lasting", "env"]).ok();
    assert!(said.contains("STORE_ENV_KEY=own") && !said.contains("STORE_PORT"), "{said}");
    client.run(&daemon, &["rm", "-f", "db", "lasting"]).ok();
    daemon.finish();
}

/// What is served at a port of the daemon's host.
fn page(daemon: &Daemon, address: &str, port: &str) -> String {
    let mut ask = daemon.network().command("/bin/busybox");
    let said = crate::support::run(ask.args(["nc", "-w", "5", address, port]), b"GET / HTTP/1.0\r\n\r\n");
    said.stdout.lines().last().unwrap_or_default().to_owned()
}

pub fn ports_of_every_form(client: Client) {
    let daemon = Daemon::with_busybox();
    let serve = "mkdir -p /www && echo served > /www/index.html && exec httpd -f -p 80 -h /www";
    let mut run = vec!["run", "-d", "--name", "web", "--expose", "7000", "-P"];
    let asked = [
        "8080:80",
        "127.0.0.1:8081:80",
        "8100-8101:80",
        "9000-9003:9000-9003",
        "5353:53/udp",
        "38412:38412/sctp",
        "127.0.0.1::80",
    ];
    run.extend(asked.iter().flat_map(|port| ["-p", *port]));
    client.run(&daemon, &[&run[..], &["busybox", "sh", "-c", serve]].concat()).ok();
    let told = client.run(&daemon, &["port", "web"]).ok();
    for line in [
        "80/tcp -> 0.0.0.0:8080",
        "80/tcp -> 127.0.0.1:8081",
        "80/tcp -> 0.0.0.0:8100",
        "9000/tcp -> 0.0.0.0:9000",
        "9003/tcp -> 0.0.0.0:9003",
        "53/udp -> 0.0.0.0:5353",
        "38412/sctp -> 0.0.0.0:38412",
    ] {
        assert!(told.lines().any(|other| other == line), "{line}\n{told}");
    }
    let chosen = |of: &str| -> u16 { told.lines().find_map(|line| line.strip_prefix(of)).unwrap().parse().unwrap() };
    let (exposed, local) = (chosen("7000/tcp -> 0.0.0.0:"), {
        let all = told.lines().filter_map(|line| line.strip_prefix("80/tcp -> 127.0.0.1:"));
        all.filter(|port| *port != "8081").map(|port| port.parse::<u16>().unwrap()).next().unwrap()
    });
    assert!((32768..=60999).contains(&exposed) && (32768..=60999).contains(&local), "{told}");
    eventually("it serves", || (page(&daemon, "127.0.0.1", "8080") == "served").then_some(()));
    for port in ["8081", "8100", &local.to_string()] {
        assert_eq!(page(&daemon, "127.0.0.1", port), "served", "{port}");
    }
    // Somebody throws all rules away: they come back by themselves.
    let nft = |arguments: &[&str]| crate::support::run(daemon.network().command("nft").args(arguments), b"").ok();
    nft(&["flush", "ruleset"]);
    eventually("the rules are back", || nft(&["list", "ruleset"]).contains("published").then_some(()));
    assert_eq!(page(&daemon, "127.0.0.1", "8080"), "served");
    assert_eq!(page(&daemon, "127.0.0.1", "8101"), "");
    // A port that is taken is found before the start; the container is there, as it was made.
    let taken = client.run(&daemon, &["run", "-d", "--name", "two", "-p", "8080:80", "busybox", "true"]).code(125);
    let words =
        "failed to set up container networking: driver failed programming external connectivity on endpoint two (";
    assert!(taken.stderr.contains(words), "{taken:?}");
    assert!(taken.stderr.contains("): Bind for 0.0.0.0:8080 failed: port is already allocated"), "{taken:?}");
    assert_eq!(client.run(&daemon, &["inspect", "-f", "{{.State.Status}}", "two"]).ok(), "created");
    // The next of a range is taken instead, and a port is free once its container has ended.
    let next = ["run", "-d", "--name", "three", "-p", "8100-8101:80", "busybox", "sleep", "1000"];
    client.run(&daemon, &next).ok();
    assert_eq!(client.run(&daemon, &["port", "three", "80"]).ok(), "0.0.0.0:8101");
    client.run(&daemon, &["stop", "-t", "0", "web"]).ok();
    client.run(&daemon, &["start", "two"]).ok();
    client.run(&daemon, &["rm", "-f", "web", "two", "three"]).ok();
    daemon.finish();
}

pub fn the_host_by_a_name(client: Client) {
    let daemon = Daemon::with_busybox();
    client.run(&daemon, &["network", "create", "--internal", "--subnet", "10.9.0.0/24", "inside"]).ok();
    for (network, address) in
        [("bridge", "172.17.0.1"), ("host", "127.0.0.1"), ("inside", "10.9.0.1"), ("none", "172.17.0.1")]
    {
        let ask = ["--add-host", "up:host-gateway", "busybox", "sh", "-c", "grep up$ /etc/hosts | cut -f 1"];
        let said = client.run(&daemon, &[&["run", "--rm", "--network", network], &ask[..]].concat()).ok();
        assert_eq!(said, address, "{network}");
    }
    client.run(&daemon, &["network", "rm", "inside"]).ok();
    daemon.finish();
}

pub fn a_shared_one_ends_with_its_owner(client: Client) {
    let daemon = Daemon::with_busybox();
    client.run(&daemon, &["run", "-d", "--name", "owner", "busybox", "sleep", "1000"]).ok();
    let guest = ["run", "-d", "--name", "guest", "--network", "container:owner", "busybox", "sleep", "1000"];
    client.run(&daemon, &guest).ok();
    // A guest may have guests.
    let inner = ["run", "-d", "--name", "inner", "--network", "container:guest", "busybox", "sleep", "1000"];
    client.run(&daemon, &inner).ok();
    let hosts = |name: &str| client.run(&daemon, &["exec", name, "cat", "/etc/hosts"]).ok();
    assert_eq!(hosts("inner"), hosts("owner"));
    let links = || client.run(&daemon, &["exec", "inner", "ls", "/sys/class/net"]).ok();
    assert_eq!(links().split_whitespace().collect::<Vec<_>>(), ["eth0", "lo"]);
    client.run(&daemon, &["stop", "-t", "0", "guest", "owner"]).ok();
    // Its address is soon somebody else's.
    eventually("the interface is gone", || (links() == "lo").then_some(()));
    client.run(&daemon, &["rm", "-f", "owner", "guest", "inner"]).ok();
    daemon.finish();
}

pub fn closed_further(client: Client) {
    let daemon = Daemon::with_busybox();
    let options = ["engine.bridge.guard=true", "engine.bridge.host=false", "engine.bridge.metadata=false"];
    let mut create = vec!["network", "create", "--subnet", "10.9.0.0/24"];
    create.extend(options.iter().flat_map(|option| ["-o", *option]));
    client.run(&daemon, &[&create[..], &["closed"]].concat()).ok();
    let shown = client.run(&daemon, &["network", "inspect", "-f", "{{json .Options}}", "closed"]).ok();
    assert!(shown.contains(r#""engine.bridge.guard":"true""#), "{shown}");
    let wrong = client.run(&daemon, &["network", "create", "-o", "engine.bridge.guard=maybe", "x"]).code(1);
    assert!(wrong.stderr.contains("neither true nor false"), "{wrong:?}");
    client.run(&daemon, &["run", "-d", "--name", "one", "--network", "closed", "busybox", "sleep", "1000"]).ok();
    let liar =
        ["run", "-d", "--name", "liar", "--network", "closed", "--cap-add", "NET_ADMIN", "busybox", "sleep", "1000"];
    client.run(&daemon, &liar).ok();
    let ping = |from: &str, to: &str| client.run(&daemon, &["exec", from, "ping", "-c", "1", "-W", "2", to]).code;
    assert_eq!((ping("one", "liar"), ping("liar", "one")), (0, 0));
    client.run(&daemon, &["exec", "liar", "ip", "addr", "add", "10.9.0.77/24", "dev", "eth0"]).ok();
    assert_eq!((ping("one", "10.9.0.77"), ping("one", "liar")), (1, 0));
    client.run(&daemon, &["rm", "-f", "one", "liar"]).ok();
    client.run(&daemon, &["network", "rm", "closed"]).ok();
    daemon.finish();
}

pub fn on_an_interface_of_the_host(client: Client) {
    let daemon = Daemon::with_busybox();
    let option = ["-o", "macvlan_mode=bridge", "--subnet", "10.9.0.0/24", "lan"];
    client.run(&daemon, &[&["network", "create", "-d", "macvlan"], &option[..]].concat()).ok();
    let one = client.run(&daemon, &["run", "-d", "--name", "one", "--network", "lan", "busybox", "sleep", "1000"]);
    if one.code == 0 {
        let address = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
        let address = client.run(&daemon, &["inspect", "-f", address, "one"]).ok();
        let script = format!("ping -c 1 -W 2 {address} && nslookup one 127.0.0.11 | grep -q 'Address: {address}'");
        client.run(&daemon, &["run", "--rm", "--network", "lan", "busybox", "sh", "-c", &script]).ok();
    } else {
        // The kernel of some machines has no such thing, and must say so.
        assert!(one.stderr.contains("has no macvlan"), "{one:?}");
    }
    let wrong = client.run(&daemon, &["network", "create", "-d", "macvlan", "-o", "macvlan_mode=l2", "x"]).code(1);
    assert!(wrong.stderr.contains("unknown macvlan mode"), "{wrong:?}");
    let option = ["-o", "ipvlan_flag=private", "--subnet", "10.8.0.0/24", "shared"];
    client.run(&daemon, &[&["network", "create", "-d", "ipvlan"], &option[..]].concat()).ok();
    let two = client.run(&daemon, &["run", "--rm", "--network", "shared", "busybox", "ip", "-o", "link"]);
    assert!(two.code == 0 && two.stdout.contains("eth0") || two.stderr.contains("has no ipvlan"), "{two:?}");
    client.run(&daemon, &["rm", "-f", "one"]).ok();
    client.run(&daemon, &["network", "rm", "lan", "shared"]).ok();
    daemon.finish();
}
