//! The runtime alone: lives and execs through the OCI command line beside crun, runc and youki on the same bundles, many starts at
//! once, what a seccomp filter costs, and what monitors keep in memory. All in one run on one machine.
//!
//! `cargo bench --bench oci_runtime [-- ROUNDS]`; needs root and a C compiler. Only the ratios say something about other machines.
#![allow(clippy::unwrap_used, unreachable_pub)]

mod bundle;
mod commands;
mod library;
mod seccomp;

use std::process::Command;
use std::time::Duration;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let rounds = |at: usize| arguments.get(at).map_or(50, |rounds| rounds.parse().expect("ROUNDS is a number"));
    match arguments.first().map(String::as_str) {
        Some("--commands") => return commands::measure(rounds(1)),
        Some("--help") => return println!("usage: cargo bench --bench oci_runtime [-- ROUNDS]"),
        _ => {}
    }
    // crun refuses to see both versions of cgroups mounted: in a mount namespace of their own all commands see the first alone.
    let script = "if [ -d /sys/fs/cgroup/unified ]; then umount /sys/fs/cgroup/unified; fi; exec \"$@\"";
    let mut apart = Command::new("unshare");
    apart.args(["--mount", "--propagation", "private", "sh", "-c", script, "-"]);
    apart.arg(std::env::current_exe().unwrap()).args(["--commands", &rounds(0).to_string()]);
    assert!(apart.status().unwrap().success());
    library::measure();
    seccomp::measure();
}

/// The middle of some times, and those that a tenth is below and above.
fn summary(times: &mut [Duration]) -> [Duration; 3] {
    times.sort_unstable();
    [5, 1, 9].map(|tenths| times[(times.len() - 1) * tenths / 10])
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
