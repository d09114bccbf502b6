//! The client for humans: Docker's commands and flags against a daemon that speaks the Docker Engine API. Beside it, without a
//! daemon, the command line of an OCI runtime for other engines.
//!
//! [`run`] is the whole program: it takes arguments and streams, and gives the exit code.

mod archive;
mod args;
mod client;
mod commands;
mod credentials;
mod error;
mod oci;
mod output;
mod session;
mod terminal;

use std::ffi::OsString;
use std::process::ExitCode;

pub use session::{Environment, Io};

/// Runs the client with these arguments (the first is the program's name) on these streams.
pub fn run(arguments: impl IntoIterator<Item = OsString>, io: Io) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let arguments = args::asked_for_help(&arguments).unwrap_or(arguments);
    if let Some(begins) = oci::begins(&arguments) {
        return ExitCode::from(oci::run(&arguments[begins..], &io));
    }
    let call = match args::parse(arguments, &io) {
        Ok(call) => call,
        Err(code) => return ExitCode::from(code),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = std::io::Write::write_all(&mut &io.stderr, format!("enginectl: start: {error}\n").as_bytes());
            return ExitCode::FAILURE;
        }
    };
    let mut session = session::Session::new(io, call.choices);
    let code = runtime.block_on(async {
        match (call.run)(call.matches, &mut session).await {
            Ok(code) => code,
            Err(error) => {
                if !error.is_silent() {
                    session.complain(&error);
                }
                if let Ok(client) = session.client()
                    && let Some(hint) = commands::suggest::suggest(&session, &client, &error).await
                {
                    session.complain(hint);
                }
                error.exit_code()
            }
        }
    });
    // A thread may still read standard input: it must not be waited for.
    runtime.shutdown_background();
    ExitCode::from(code)
}
