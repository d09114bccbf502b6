//! `enginectl save`.

use crate::archive::save;
use crate::client::Query;
use crate::error::Error;
use crate::session::Session;

/// Write images to a tar archive, or to standard output
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Write this file instead of standard output
    #[arg(short = 'o', long, value_name = "FILE")]
    output: Option<String>,
    /// The images must be for this platform, as linux/amd64
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<String>,
    /// Names or ids
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
}

pub(crate) async fn run(args: Args, session: &mut Session) -> Result<u8, Error> {
    let mut query = Query::new();
    for image in &args.images {
        query = query.with("names", image);
    }
    let platform = args.platform.as_deref().map(super::load::platform).transpose()?;
    query = query.optional("platform", platform.as_deref());
    save(session, args.output.as_deref(), "/images/get", &query).await?;
    Ok(0)
}
