//! `enginectl system prune`.

use crate::commands::prompt::confirm;
use crate::commands::{container, filters, image, network, volume};
use crate::error::Error;
use crate::output::size;
use crate::session::Session;

/// Remove containers that do not run, and networks and images that nobody uses
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Also images with a name
    #[arg(short = 'a', long)]
    all: bool,
    /// Only those, as until=24h or label=NAME
    #[arg(long, value_name = "FILTER")]
    filter: Vec<String>,
    /// Do not ask
    #[arg(short = 'f', long)]
    force: bool,
    /// Also anonymous volumes that no container uses
    #[arg(long)]
    volumes: bool,
}

pub(crate) async fn run(args: Args, session: &mut Session) -> Result<u8, Error> {
    let wanted = filters::parse(&args.filter)?;
    if args.volumes && wanted.contains("until") {
        return Err(Error::Invalid("the \"until\" filter is not supported with \"--volumes\"".to_owned()));
    }
    if !args.force && !confirm(session, &warning(&args))? {
        return Ok(0);
    }
    // In this order: what is removed first may be the only one who used what comes later.
    let (mut text, mut reclaimed) = container::prune::remove(&wanted, session).await?;
    text.push_str(&network::prune::remove(&wanted, session).await?);
    if args.volumes {
        let (removed, bytes) = volume::prune::remove(&wanted, session).await?;
        text.push_str(&removed);
        reclaimed = reclaimed.saturating_add(bytes);
    }
    let mut of_images = wanted;
    of_images.add("dangling", if args.all { "false" } else { "true" });
    let (removed, bytes) = image::prune::remove(&of_images, session).await?;
    text.push_str(&removed);
    let reclaimed = size::decimal(reclaimed.saturating_add(bytes));
    session.print(format!("{text}Total reclaimed space: {reclaimed}\n"))?;
    Ok(0)
}

fn warning(args: &Args) -> String {
    let mut lines = vec!["all stopped containers", "all networks not used by at least one container"];
    if args.volumes {
        lines.push("all anonymous volumes not used by at least one container");
    }
    lines.push(if args.all {
        "all images without at least one container associated to them"
    } else {
        "all dangling images"
    });
    let mut text = "WARNING! This will remove:\n".to_owned();
    for line in lines {
        text.push_str(&format!("  - {line}\n"));
    }
    if !args.filter.is_empty() {
        text.push_str("\n  Items to be pruned will be filtered with:\n");
        for filter in &args.filter {
            text.push_str(&format!("  - {filter}\n"));
        }
    }
    text
}
