//! What stays in memory: the daemon's and a monitor's share, as the kernel counts it.

use std::fs;

use crate::support::client::Client;
use crate::support::daemon::Daemon;

/// Proportional and resident size of a process, in bytes.
#[derive(Debug, Clone, Copy)]
struct Size {
    proportional: u64,
    resident: u64,
}

fn size(pid: u32) -> Size {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let field = |name: &str| {
        let line = rollup.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().next().unwrap().parse::<u64>().unwrap() << 10
    };
    Size { proportional: field("Pss:"), resident: field("Rss:") }
}

fn parent(pid: u32) -> u32 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim().parse().unwrap()
}

/// Measures a fresh daemon, then with 50 containers, and their monitors.
pub fn measure() -> String {
    let daemon = Daemon::with_busybox();
    let idle = size(daemon.pid());
    for _ in 0..50 {
        Client::Enginectl.run(&daemon, &["run", "-d", "busybox", "sleep", "1000"]).ok();
    }
    let busy = size(daemon.pid());
    let ids = Client::Enginectl.run(&daemon, &["ps", "-q"]).ok();
    let pid = |id: &str| {
        let shown = Client::Enginectl.run(&daemon, &["inspect", "-f", "{{.State.Pid}}", id]).ok();
        shown.parse::<u32>().unwrap()
    };
    let mut monitors: Vec<Size> = ids.lines().map(|id| size(parent(pid(id)))).collect();
    monitors.sort_unstable_by_key(|size| size.proportional);
    let monitor = monitors[monitors.len() / 2];
    let remove: Vec<&str> = ["rm", "-f"].into_iter().chain(ids.lines()).collect();
    Client::Enginectl.run(&daemon, &remove).ok();
    daemon.finish();
    let kilobytes = |bytes: u64| format!("{} kB", bytes >> 10);
    let mut text = format!("{:28}  {:>10}  {:>10}\n", "memory", "PSS", "RSS");
    for (what, size) in [("engined, idle", idle), ("engined, 50 containers", busy), ("monitor, each of 50", monitor)] {
        let (proportional, resident) = (kilobytes(size.proportional), kilobytes(size.resident));
        text.push_str(&format!("{what:28}  {proportional:>10}  {resident:>10}\n"));
    }
    text
}
