//! `enginectl rm`.

use super::path;
use crate::client::Query;
use crate::commands::several::each;
use crate::error::Error;
use crate::session::Session;

/// Remove containers
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Also running ones, which are killed
    #[arg(short = 'f', long)]
    force: bool,
    /// Remove the link of that name, not the container
    #[arg(short = 'l', long)]
    link: bool,
    /// Also their anonymous volumes
    #[arg(short = 'v', long)]
    volumes: bool,
    /// Names or ids
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

pub(crate) async fn run(args: Args, session: &mut Session) -> Result<u8, Error> {
    let client = session.client()?;
    let query = Query::new().flag("v", args.volumes).flag("link", args.link).flag("force", args.force);
    let force = args.force;
    let failed = std::cell::Cell::new(0u32);
    let code = each(session, &client, &args.containers, |name| {
        let (client, query, failed) = (client.clone(), query.clone(), &failed);
        async move {
            let trimmed = name.trim_matches('/');
            if trimmed.is_empty() {
                return Err(Error::Invalid("container name cannot be empty".to_owned()));
            }
            let result = client.delete(&path(trimmed, ""), &query).await;
            if let Err(error) = &result {
                failed.set(failed.get() + u32::from(!(force && error.is_not_found())));
            }
            result.map(|_| name)
        }
    });
    let code = code.await?;
    // By force, what is not there is gone already: said, but no failure.
    Ok(if failed.get() == 0 { 0 } else { code })
}
