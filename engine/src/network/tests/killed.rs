//! An engine that is killed before one step after the other: each message to the kernel, each write of the state.

use std::process::{Command, Stdio};

use super::custom::make;
use super::*;

const ROOT: &str = "ENGINE_NETWORK_STEPS";
const NAME: &str = "network::tests::killed::killed_before_any_step_nothing_is_left_that_the_next_does_not_clean";

/// A life of a container on networks, and of a network.
fn life(root: &Path) {
    let state = State::open(root).unwrap();
    let networks = Networks::open(&state, &Events::new(), &Settings::at(root)).unwrap();
    networks.restore_blocking().unwrap();
    let id = ContainerId::random();
    let namespace = NetworkNamespace::create_blocking().unwrap();
    let row = (0..20).map(|at| Publish { port: 5000 + at, ..publish([0; 4], 5000 + at) });
    let ports = row.chain([publish([0; 4], 0)]).collect();
    networks.connect_blocking(&Connect::new(id, BRIDGE).namespace(&namespace).publish(ports)).unwrap();
    // The ports go over to it, and away with it.
    networks.connect_blocking(&Connect::new(id, "other").namespace(&namespace)).unwrap();
    networks.detach_blocking(&id, BRIDGE, Some(&namespace), &[]).unwrap();
    networks.create_blocking(&NetworkSpec::new("third")).unwrap();
    networks.connect_blocking(&Connect::new(id, "third").namespace(&namespace)).unwrap();
    networks.disconnect_blocking(&id).unwrap();
    networks.remove_blocking("third").unwrap();
    std::fs::write(root.join("whole"), "").unwrap();
}

#[test]
fn killed_before_any_step_nothing_is_left_that_the_next_does_not_clean() {
    if let Some(root) = std::env::var_os(ROOT) {
        life(Path::new(&root));
        return;
    }
    // Every step when that is asked for; else some of them.
    let stride: usize = std::env::var("ENGINE_STEPS").ok().and_then(|text| text.parse().ok()).unwrap_or(5);
    let machine = Machine::new();
    let other = NetworkSpec::new("other").ipv6(true).option("engine.bridge.guard", "true");
    make(&machine, &machine.open(&machine.settings()), &other).unwrap();
    let whole = machine.root.path().join("whole");
    let mut kills = 0;
    for calls in ["sendmsg", "pwrite64"] {
        for step in (1..).step_by(stride) {
            let ended = in_network(machine.host.as_fd(), || {
                Command::new("strace")
                    .args(["-f", "-o", "/dev/null", "-e", &format!("trace={calls}")])
                    .args(["-e", &format!("inject={calls}:signal=KILL:when={step}")])
                    .arg(std::env::current_exe()?)
                    .args(["--exact", NAME])
                    .env(ROOT, machine.root.path())
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .status()
            })
            .unwrap();
            let networks = machine.open(&machine.settings());
            machine.restore(&networks);
            for table in [Table::Address, Table::Endpoint, Table::Port] {
                let left = networks.shared.state.read(|look| look.keys(table)).unwrap();
                assert!(left.is_empty(), "before {calls} number {step}: {table} {left:?}");
            }
            for table in wanted_tables(&networks) {
                let mut filter = machine.filter();
                // It may not have been made yet; what is there is as it should be.
                let is_there = firewall::has_table(&mut filter, table.family, &table.table).unwrap();
                let whole = firewall::is_in_place(&mut filter, &table).unwrap();
                assert!(whole || !is_there, "before {calls} number {step}: the rules of {:?}", table.family);
            }
            match networks.remove_blocking("third") {
                Ok(()) | Err(Error::NotFound { .. }) => {}
                Err(error) => panic!("before {calls} number {step}: {error}"),
            }
            assert!(networks.teardown_blocking().unwrap(), "before {calls} number {step}");
            wait_until(|| machine.links() == ["lan0", "up0"]);
            // It may still have been killed while it closed the state.
            if whole.exists() {
                std::fs::remove_file(&whole).unwrap();
                break;
            }
            assert!(!ended.success(), "before {calls} number {step}");
            kills += 1;
        }
    }
    assert!(kills * stride > 60, "{kills}");
}
