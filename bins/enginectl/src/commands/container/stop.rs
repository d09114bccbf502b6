//! `enginectl stop`.

use super::path;
use crate::client::{Payload, Query};
use crate::commands::several::each;
use crate::error::Error;
use crate::session::Session;

/// Stop running containers
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Signal to send first
    #[arg(short = 's', long, value_name = "SIGNAL")]
    signal: Option<String>,
    /// Seconds to wait before it is killed; -1 waits for ever
    #[arg(short = 't', long, alias = "time", value_name = "SECONDS")]
    timeout: Option<i64>,
    /// Names or ids
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

pub(crate) async fn run(args: Args, session: &mut Session) -> Result<u8, Error> {
    let client = session.client()?;
    let query = Query::new()
        .optional("signal", args.signal.as_deref())
        .optional("t", args.timeout.map(|seconds| seconds.to_string()).as_deref());
    let code = each(session, &client, &args.containers, |name| {
        let (client, query) = (client.clone(), query.clone());
        async move {
            client.post(&path(&name, "/stop"), &query, Payload::Empty).await?;
            Ok(name)
        }
    });
    code.await
}
