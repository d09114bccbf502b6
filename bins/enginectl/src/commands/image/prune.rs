//! `enginectl image prune`.

use engine_api::filter::Filters;
use engine_api::image::ImagePrune;

use crate::client::{Payload, Query, parse};
use crate::commands::filters;
use crate::commands::prompt::confirm;
use crate::error::Error;
use crate::output::size;
use crate::session::Session;

/// Remove images that nobody uses
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Also those with a name
    #[arg(short = 'a', long)]
    all: bool,
    /// Only those, as until=24h or label=NAME
    #[arg(long, value_name = "FILTER")]
    filter: Vec<String>,
    /// Do not ask
    #[arg(short = 'f', long)]
    force: bool,
}

pub(crate) async fn run(args: Args, session: &mut Session) -> Result<u8, Error> {
    let mut filters = filters::parse(&args.filter)?;
    filters.add("dangling", if args.all { "false" } else { "true" });
    let warning = if args.all {
        "WARNING! This will remove all images without at least one container associated to them."
    } else {
        "WARNING! This will remove all dangling images."
    };
    if !args.force && !confirm(session, warning)? {
        return Ok(0);
    }
    let (removed, reclaimed) = remove(&filters, session).await?;
    session.print(format!("{removed}Total reclaimed space: {}\n", size::decimal(reclaimed)))?;
    Ok(0)
}

/// Removes them; answers what is told of it, and how many bytes they had.
pub(crate) async fn remove(filters: &Filters, session: &mut Session) -> Result<(String, i64), Error> {
    let (path, query) = ("/images/prune", filters::with(Query::new(), filters));
    let answer: ImagePrune = parse(path, &session.client()?.post(path, &query, Payload::Empty).await?)?;
    let deleted = answer.images_deleted.unwrap_or_default();
    let mut text = String::new();
    if !deleted.is_empty() {
        text.push_str("Deleted Images:\n");
        for item in &deleted {
            match (item.untagged.as_str(), item.deleted.as_str()) {
                ("", deleted) => text.push_str(&format!("deleted: {deleted}\n")),
                (untagged, _) => text.push_str(&format!("untagged: {untagged}\n")),
            }
        }
        text.push('\n');
    }
    Ok((text, i64::try_from(answer.space_reclaimed).unwrap_or(i64::MAX)))
}
