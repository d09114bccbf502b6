//! `enginectl kill`.

use super::path;
use crate::client::{Payload, Query};
use crate::commands::several::each;
use crate::error::Error;
use crate::session::Session;

/// Send a signal to containers, SIGKILL unless told otherwise
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The signal
    #[arg(short = 's', long, value_name = "SIGNAL")]
    signal: Option<String>,
    /// Names or ids
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

pub(crate) async fn run(args: Args, session: &mut Session) -> Result<u8, Error> {
    let client = session.client()?;
    let query = Query::new().optional("signal", args.signal.as_deref());
    let code = each(session, &client, &args.containers, |name| {
        let (client, query) = (client.clone(), query.clone());
        async move {
            client.post(&path(&name, "/kill"), &query, Payload::Empty).await?;
            Ok(name)
        }
    });
    code.await
}
