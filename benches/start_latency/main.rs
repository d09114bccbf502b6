//! How long a container takes to start and to end, and what it leaves in memory while it runs: the engine beside the
//! kernel's own floor and the runtimes that are installed, all in one run on one machine.
//!
//! `cargo bench --bench start_latency [-- ROUNDS]`; needs root. Only the ratios say something about other machines.
#![allow(clippy::unwrap_used, unreachable_pub)]

#[path = "../../tests/support/mod.rs"]
mod support;

mod engine;
mod floor;
mod in_process;
mod memory;
mod peers;
mod series;

use series::Table;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.first().map(String::as_str) {
        // The same program inside another namespace, measuring one command again and again, or being the engine.
        Some("--repeat") => return series::repeat_command(&arguments[1..]),
        Some("--in-process") => return in_process::lives(arguments[1].parse().unwrap()),
        Some("--help") => return println!("usage: cargo bench --bench start_latency [-- ROUNDS]"),
        _ => {}
    }
    let rounds: usize = arguments.first().map_or(100, |rounds| rounds.parse().expect("ROUNDS is a number"));
    let floor = floor::measure(rounds * 2);
    let mut table = Table::new(&floor);
    peers::measure(&mut table, rounds);
    in_process::measure(&mut table, rounds);
    engine::measure(&mut table, rounds);
    println!("\n{table}");
    println!("{}", memory::measure());
}
