//! `enginectl export`.

use super::path;
use crate::archive::save;
use crate::client::Query;
use crate::error::Error;
use crate::session::Session;

/// Write a container's files, without its volumes, as a tar archive
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Write this file instead of standard output
    #[arg(short = 'o', long, value_name = "FILE")]
    output: Option<String>,
    /// Name or id
    #[arg(value_name = "CONTAINER")]
    container: String,
}

pub(crate) async fn run(args: Args, session: &mut Session) -> Result<u8, Error> {
    save(session, args.output.as_deref(), &path(&args.container, "/export"), &Query::new()).await?;
    Ok(0)
}
