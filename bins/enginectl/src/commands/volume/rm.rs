//! `enginectl volume rm`.

use crate::client::{Query, segment};
use crate::commands::several::each;
use crate::error::Error;
use crate::session::Session;

/// Remove volumes that no container uses
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Also when the driver fails
    #[arg(short = 'f', long)]
    force: bool,
    /// Names
    #[arg(value_name = "VOLUME", required = true)]
    volumes: Vec<String>,
}

pub(crate) async fn run(args: Args, session: &mut Session) -> Result<u8, Error> {
    let client = session.client()?;
    let query = Query::new().flag("force", args.force);
    let code = each(session, &client, &args.volumes, |name| {
        let (client, query) = (client.clone(), query.clone());
        async move {
            client.delete(&format!("/volumes/{}", segment(&name)), &query).await?;
            Ok(name)
        }
    });
    code.await
}
