//! `enginectl network disconnect`.

use engine_api::network::NetworkDisconnect;

use crate::client::{Payload, Query, segment};
use crate::error::Error;
use crate::session::Session;

/// Take a container off a network
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Also when the container is gone
    #[arg(short = 'f', long)]
    force: bool,
    /// The network
    #[arg(value_name = "NETWORK")]
    network: String,
    /// The container
    #[arg(value_name = "CONTAINER")]
    container: String,
}

pub(crate) async fn run(args: Args, session: &mut Session) -> Result<u8, Error> {
    let request = NetworkDisconnect { container: args.container, force: args.force };
    let path = format!("/networks/{}/disconnect", segment(&args.network));
    session.client()?.post(&path, &Query::new(), Payload::json(&request)?).await?;
    Ok(0)
}
