//! `enginectl network prune`.

use engine_api::filter::Filters;
use engine_api::network::NetworkPrune;

use crate::client::{Payload, Query, parse};
use crate::commands::filters;
use crate::commands::prompt::confirm;
use crate::error::Error;
use crate::session::Session;

/// Remove networks that no container is on
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only those, as until=24h or label=NAME
    #[arg(long, value_name = "FILTER")]
    filter: Vec<String>,
    /// Do not ask
    #[arg(short = 'f', long)]
    force: bool,
}

const WARNING: &str = "WARNING! This will remove all custom networks not used by at least one container.";

pub(crate) async fn run(args: Args, session: &mut Session) -> Result<u8, Error> {
    let filters = filters::parse(&args.filter)?;
    if !args.force && !confirm(session, WARNING)? {
        return Ok(0);
    }
    let removed = remove(&filters, session).await?;
    session.print(removed)?;
    Ok(0)
}

/// Removes them; answers what is told of it.
pub(crate) async fn remove(filters: &Filters, session: &mut Session) -> Result<String, Error> {
    let (path, query) = ("/networks/prune", filters::with(Query::new(), filters));
    let answer: NetworkPrune = parse(path, &session.client()?.post(path, &query, Payload::Empty).await?)?;
    let deleted = answer.networks_deleted.unwrap_or_default();
    Ok(if deleted.is_empty() { String::new() } else { format!("Deleted Networks:\n{}\n\n", deleted.join("\n")) })
}
