//! `enginectl container prune`.

use engine_api::container::ContainerPrune;

use crate::client::{Payload, Query, parse};
use crate::commands::filters;
use crate::commands::prompt::confirm;
use crate::error::Error;
use crate::output::size;
use crate::session::Session;

/// Remove all containers that do not run
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only those, as until=24h or label=NAME
    #[arg(long, value_name = "FILTER")]
    filter: Vec<String>,
    /// Do not ask
    #[arg(short = 'f', long)]
    force: bool,
}

pub(crate) async fn run(args: Args, session: &mut Session) -> Result<u8, Error> {
    let filters = filters::parse(&args.filter)?;
    if !args.force && !confirm(session, "WARNING! This will remove all stopped containers.")? {
        return Ok(0);
    }
    let query = filters::with(Query::new(), &filters);
    let answer: ContainerPrune =
        parse("/containers/prune", &session.client()?.post("/containers/prune", &query, Payload::Empty).await?)?;
    let mut text = String::new();
    let deleted = answer.containers_deleted.unwrap_or_default();
    if !deleted.is_empty() {
        text.push_str(&format!("Deleted Containers:\n{}\n\n", deleted.join("\n")));
    }
    text.push_str(&format!("Total reclaimed space: {}\n", size::decimal(answer.space_reclaimed as i64)));
    session.print(text)?;
    Ok(0)
}
