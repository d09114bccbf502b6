//! `enginectl container prune`.

use engine_api::container::ContainerPrune;
use engine_api::filter::Filters;

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
    let (removed, reclaimed) = remove(&filters, session).await?;
    session.print(format!("{removed}Total reclaimed space: {}\n", size::decimal(reclaimed)))?;
    Ok(0)
}

/// Removes them; answers what is told of it, and how many bytes they had.
pub(crate) async fn remove(filters: &Filters, session: &mut Session) -> Result<(String, i64), Error> {
    let (path, query) = ("/containers/prune", filters::with(Query::new(), filters));
    let answer: ContainerPrune = parse(path, &session.client()?.post(path, &query, Payload::Empty).await?)?;
    let deleted = answer.containers_deleted.unwrap_or_default();
    let mut text = String::new();
    if !deleted.is_empty() {
        text.push_str(&format!("Deleted Containers:\n{}\n\n", deleted.join("\n")));
    }
    Ok((text, i64::try_from(answer.space_reclaimed).unwrap_or(i64::MAX)))
}
