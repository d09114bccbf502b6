//! `enginectl container inspect`.

use crate::client::Query;
use crate::commands::inspect::{Kind, show};
use crate::error::Error;
use crate::session::Session;

/// Show everything about containers
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print by a template, or json
    #[arg(short = 'f', long, value_name = "FORMAT")]
    format: Option<String>,
    /// Add the sizes
    #[arg(short = 's', long)]
    size: bool,
    /// Names or ids
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

pub(crate) async fn run(args: Args, session: &mut Session) -> Result<u8, Error> {
    let query = Query::new().flag("size", args.size);
    show(session, &args.containers, args.format.as_deref(), &[Kind::Container], &query).await
}
