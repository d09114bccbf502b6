//! `enginectl wait`.

use http::Method;

use super::interact::exit_code;
use super::path;
use crate::client::{Payload, Query};
use crate::commands::several::each;
use crate::error::Error;
use crate::session::Session;

/// Wait until containers have ended, and print their exit codes
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Names or ids
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

pub(crate) async fn run(args: Args, session: &mut Session) -> Result<u8, Error> {
    let client = session.client()?;
    let code = each(session, &client, &args.containers, |name| {
        let client = client.clone();
        async move {
            let waiting = client.request(Method::POST, &path(&name, "/wait"), &Query::new(), Payload::Empty).await?;
            Ok(exit_code(client, path(&name, ""), waiting, false).await?.to_string())
        }
    });
    code.await
}
