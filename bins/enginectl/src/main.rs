//! The program `enginectl`; all of it is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    match enginectl::Io::standard() {
        Ok(io) => enginectl::run(std::env::args_os(), io),
        Err(_) => ExitCode::FAILURE,
    }
}
