//! `enginectl rename`.

use super::path;
use crate::client::{Payload, Query};
use crate::error::Error;
use crate::session::Session;

/// Give a container another name
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name or id
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// The new name
    #[arg(value_name = "NEW_NAME")]
    name: String,
}

pub(crate) async fn run(args: Args, session: &mut Session) -> Result<u8, Error> {
    let query = Query::new().with("name", &args.name);
    let result = session.client()?.post(&path(&args.container, "/rename"), &query, Payload::Empty).await;
    if let Err(error @ Error::Daemon { .. }) = result {
        session.complain(error);
        return Err(Error::Invalid(format!("Error: failed to rename container named {}", args.container)));
    }
    result?;
    Ok(0)
}
