//! `enginectl checkpoint ls`.

use engine_api::container::Checkpoint;

use super::path;
use crate::client::Query;
use crate::error::Error;
use crate::output::format::{Columns, Row, list};
use crate::session::Session;

/// List the checkpoints of a container
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Directory of the engine's host that the checkpoints are in, an absolute path
    #[arg(long, value_name = "DIRECTORY")]
    checkpoint_dir: Option<String>,
    /// Name or id
    #[arg(value_name = "CONTAINER")]
    container: String,
}

const COLUMNS: Columns = &[("Name", "CHECKPOINT NAME")];

pub(crate) async fn run(args: Args, session: &mut Session) -> Result<u8, Error> {
    let query = Query::new().optional("dir", args.checkpoint_dir.as_deref());
    let all: Vec<Checkpoint> = session.client()?.get_as(&path(&args.container), &query).await?;
    let rows = all.iter().map(|one| Row::new([("Name", one.name.as_str().into())])).collect();
    session.print(list(None, COLUMNS, &["Name"], rows, session.width())?)?;
    Ok(0)
}
