//! `enginectl image inspect`.

use super::load::platform;
use crate::client::Query;
use crate::commands::inspect::{Kind, show};
use crate::error::Error;
use crate::session::Session;

/// Show everything about images
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print by a template, or json
    #[arg(short = 'f', long, value_name = "FORMAT")]
    format: Option<String>,
    /// The images must be for this platform, as linux/amd64
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<String>,
    /// Names or ids
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
}

pub(crate) async fn run(args: Args, session: &mut Session) -> Result<u8, Error> {
    let platform = args.platform.as_deref().map(platform).transpose()?;
    let query = Query::new().optional("platform", platform.as_deref());
    show(session, &args.images, args.format.as_deref(), &[Kind::Image], &query).await
}
