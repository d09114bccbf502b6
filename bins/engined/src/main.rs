//! The daemon's program.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match engined::run(engined::Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("engined: {error}");
            ExitCode::FAILURE
        }
    }
}
