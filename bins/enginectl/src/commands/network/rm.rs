//! `enginectl network rm`.

use crate::client::{Query, segment};
use crate::commands::several::each;
use crate::error::Error;
use crate::session::Session;

/// Remove networks that no container is on
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Say nothing of networks that are not there
    #[arg(short = 'f', long)]
    force: bool,
    /// Names or ids
    #[arg(value_name = "NETWORK", required = true)]
    networks: Vec<String>,
}

pub(crate) async fn run(args: Args, session: &mut Session) -> Result<u8, Error> {
    let client = session.client()?;
    let code = each(session, &client, &args.networks, |name| {
        let client = client.clone();
        async move {
            match client.delete(&format!("/networks/{}", segment(&name)), &Query::new()).await {
                Err(Error::Daemon { status: 404, .. }) if args.force => Ok(String::new()),
                other => other.map(|_| name),
            }
        }
    });
    code.await
}
