//! `enginectl checkpoint rm`.

use super::path;
use crate::client::{Query, segment};
use crate::error::Error;
use crate::session::Session;

/// Remove a checkpoint
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Directory of the engine's host that the checkpoint is in, an absolute path
    #[arg(long, value_name = "DIRECTORY")]
    checkpoint_dir: Option<String>,
    /// Name or id
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// Name of the checkpoint
    #[arg(value_name = "CHECKPOINT")]
    checkpoint: String,
}

pub(crate) async fn run(args: Args, session: &mut Session) -> Result<u8, Error> {
    let query = Query::new().optional("dir", args.checkpoint_dir.as_deref());
    session.client()?.delete(&format!("{}/{}", path(&args.container), segment(&args.checkpoint)), &query).await?;
    Ok(0)
}
