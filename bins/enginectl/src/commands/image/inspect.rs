//! `enginectl image inspect`.

use crate::commands::inspect::{Kind, show};
use crate::error::Error;
use crate::session::Session;

/// Show everything about images
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print by a template, or json
    #[arg(short = 'f', long, value_name = "FORMAT")]
    format: Option<String>,
    /// Names or ids
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
}

pub(crate) async fn run(args: Args, session: &mut Session) -> Result<u8, Error> {
    show(session, &args.images, args.format.as_deref(), &[Kind::Image], false).await
}
