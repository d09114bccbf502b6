//! The daemon's program.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    engine_sys::memory::return_large_buffers();
    engine_sys::memory::share_heaps();
    engine_sys::memory::merge_at_once();
    match engined::run(engined::Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("engined: {error}");
            ExitCode::FAILURE
        }
    }
}
