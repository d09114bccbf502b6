//! `enginectl checkpoint create`.

use engine_api::container::CheckpointCreate;

use super::path;
use crate::client::{Payload, Query};
use crate::error::Error;
use crate::session::Session;

/// Write the processes of a running container to files, from which it can be started later
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The container goes on afterwards
    #[arg(long)]
    leave_running: bool,
    /// Directory of the engine's host that the checkpoint is to be in, an absolute path
    #[arg(long, value_name = "DIRECTORY")]
    checkpoint_dir: Option<String>,
    /// Name or id
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// Name of the new checkpoint
    #[arg(value_name = "CHECKPOINT")]
    checkpoint: String,
}

pub(crate) async fn run(args: Args, session: &mut Session) -> Result<u8, Error> {
    let request = CheckpointCreate {
        checkpoint_id: args.checkpoint.clone(),
        checkpoint_dir: args.checkpoint_dir.unwrap_or_default(),
        exit: !args.leave_running,
    };
    session.client()?.post(&path(&args.container), &Query::new(), Payload::json(&request)?).await?;
    session.print_line(args.checkpoint)?;
    Ok(0)
}
