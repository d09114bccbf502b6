//! `enginectl volume inspect`.

use crate::client::Query;
use crate::commands::inspect::{Kind, show};
use crate::error::Error;
use crate::session::Session;

/// Show everything about volumes
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print by a template, or json
    #[arg(short = 'f', long, value_name = "FORMAT")]
    format: Option<String>,
    /// Names
    #[arg(value_name = "VOLUME", required = true)]
    volumes: Vec<String>,
}

pub(crate) async fn run(args: Args, session: &mut Session) -> Result<u8, Error> {
    show(session, &args.volumes, args.format.as_deref(), &[Kind::Volume], &Query::new()).await
}
