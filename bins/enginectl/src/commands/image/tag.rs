//! `enginectl tag`.

use crate::client::{Payload, Query, segment};
use crate::commands::reference::Reference;
use crate::error::Error;
use crate::session::Session;

/// Give an image a further name
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The image
    #[arg(value_name = "IMAGE")]
    image: String,
    /// The new name
    #[arg(value_name = "NAME[:TAG]")]
    name: String,
}

pub(crate) async fn run(args: Args, session: &mut Session) -> Result<u8, Error> {
    let name = Reference::parse(&args.name);
    if name.digest.is_some() {
        return Err(Error::Invalid("refusing to create a tag with a digest reference".to_owned()));
    }
    let query = Query::new().with("repo", &name.repository).with("tag", name.tag.as_deref().unwrap_or("latest"));
    session.client()?.post(&format!("/images/{}/tag", segment(&args.image)), &query, Payload::Empty).await?;
    Ok(0)
}
