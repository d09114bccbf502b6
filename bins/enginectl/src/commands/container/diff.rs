//! `enginectl diff`.

use std::fmt::Write as _;

use engine_api::archive::Change;

use super::path;
use crate::client::Query;
use crate::error::Error;
use crate::session::Session;

/// Show which files of its image a container has changed (C), added (A) or deleted (D)
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name or id
    #[arg(value_name = "CONTAINER")]
    container: String,
}

pub(crate) async fn run(args: Args, session: &mut Session) -> Result<u8, Error> {
    let client = session.client()?;
    let changes: Option<Vec<Change>> = client.get_as(&path(&args.container, "/changes"), &Query::new()).await?;
    let mut text = String::new();
    for change in changes.unwrap_or_default() {
        let kind = match change.kind {
            0 => 'C',
            1 => 'A',
            _ => 'D',
        };
        // Text has room for more.
        let _ = writeln!(text, "{kind} {}", change.path);
    }
    session.print(text)?;
    Ok(0)
}
