//! `enginectl network inspect`.

use crate::client::Query;
use crate::commands::inspect::{Kind, show};
use crate::error::Error;
use crate::session::Session;

/// Show everything about networks
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print by a template, or json
    #[arg(short = 'f', long, value_name = "FORMAT")]
    format: Option<String>,
    /// Ask the engine for all it knows: of a network that is not part of a cluster it tells all in any case
    #[arg(short = 'v', long)]
    verbose: bool,
    /// Names or ids
    #[arg(value_name = "NETWORK", required = true)]
    networks: Vec<String>,
}

pub(crate) async fn run(args: Args, session: &mut Session) -> Result<u8, Error> {
    show(session, &args.networks, args.format.as_deref(), &[Kind::Network], &Query::new().flag("verbose", args.verbose))
        .await
}
