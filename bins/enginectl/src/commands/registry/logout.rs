//! `enginectl logout`.

use crate::credentials::{Store, server_of};
use crate::error::Error;
use crate::session::Session;

/// Forget the login to a registry
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The registry; Docker Hub when not given
    #[arg(value_name = "SERVER")]
    server: Option<String>,
}

pub(crate) async fn run(args: Args, session: &mut Session) -> Result<u8, Error> {
    let server = server_of(args.server.as_deref().unwrap_or("docker.io"));
    session.print_line(format!("Removing login credentials for {server}"))?;
    Store::open(session)?.erase(&server)?;
    Ok(0)
}
