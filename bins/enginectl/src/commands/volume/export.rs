//! `enginectl volume export`.

use crate::archive::save;
use crate::client::{Query, segment};
use crate::error::Error;
use crate::session::Session;

/// Write what is in a volume as a tar archive
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Write this file instead of standard output
    #[arg(short = 'o', long, value_name = "FILE")]
    output: Option<String>,
    /// Name
    #[arg(value_name = "VOLUME")]
    volume: String,
}

pub(crate) async fn run(args: Args, session: &mut Session) -> Result<u8, Error> {
    let path = format!("/volumes/{}/archive", segment(&args.volume));
    save(session, args.output.as_deref(), &path, &Query::new()).await?;
    Ok(0)
}
