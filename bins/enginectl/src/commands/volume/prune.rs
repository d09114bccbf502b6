//! `enginectl volume prune`.

use engine_api::filter::Filters;
use engine_api::volume::VolumePrune;

use crate::client::{Payload, Query, parse};
use crate::commands::filters;
use crate::commands::prompt::confirm;
use crate::error::Error;
use crate::output::size;
use crate::session::Session;

/// Remove anonymous volumes that no container uses
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Also those with a name
    #[arg(short = 'a', long)]
    all: bool,
    /// Only those, as label=NAME
    #[arg(long, value_name = "FILTER")]
    filter: Vec<String>,
    /// Do not ask
    #[arg(short = 'f', long)]
    force: bool,
}

pub(crate) async fn run(args: Args, session: &mut Session) -> Result<u8, Error> {
    let mut filters = filters::parse(&args.filter)?;
    if args.all {
        filters.add("all", "true");
    }
    let which = if args.all { "all" } else { "anonymous" };
    let warning = format!("WARNING! This will remove {which} local volumes not used by at least one container.");
    if !args.force && !confirm(session, &warning)? {
        return Ok(0);
    }
    let (removed, reclaimed) = remove(&filters, session).await?;
    session.print(format!("{removed}Total reclaimed space: {}\n", size::decimal(reclaimed)))?;
    Ok(0)
}

/// Removes them; answers what is told of it, and how many bytes they had.
pub(crate) async fn remove(filters: &Filters, session: &mut Session) -> Result<(String, i64), Error> {
    let (path, query) = ("/volumes/prune", filters::with(Query::new(), filters));
    let answer: VolumePrune = parse(path, &session.client()?.post(path, &query, Payload::Empty).await?)?;
    let deleted = answer.volumes_deleted.unwrap_or_default();
    let mut text = String::new();
    if !deleted.is_empty() {
        text.push_str(&format!("Deleted Volumes:\n{}\n\n", deleted.join("\n")));
    }
    Ok((text, i64::try_from(answer.space_reclaimed).unwrap_or(i64::MAX)))
}
