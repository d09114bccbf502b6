//! `enginectl manifest inspect`.

use engine_api::image::{DistributionInspect, Platform};
use http::Method;

use crate::client::{Payload, Query, parse, segment, whole};
use crate::commands::image::pull::credentials;
use crate::error::Error;
use crate::output::format::{Columns, Row, list};
use crate::session::Session;

/// Show what a registry has under a name, without fetching it
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print by a template, table TEMPLATE, table or json
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// The image
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    image: String,
}

const COLUMNS: Columns =
    &[("Digest", "DIGEST"), ("MediaType", "MEDIA TYPE"), ("Size", "SIZE"), ("Platforms", "PLATFORMS")];

pub(crate) async fn run(args: Args, session: &mut Session) -> Result<u8, Error> {
    let payload = credentials(session, &args.image).map_or(Payload::Empty, Payload::Registry);
    let path = format!("/distribution/{}/json", segment(&args.image));
    let response = session.client()?.request(Method::GET, &path, &Query::new(), payload).await?;
    let found: DistributionInspect = parse(&path, &whole(&path, response).await?)?;
    let platforms: Vec<String> = found.platforms.iter().map(shown).collect();
    let row = Row::new([
        ("Digest", found.descriptor.digest.as_str().into()),
        ("MediaType", found.descriptor.media_type.as_str().into()),
        ("Size", found.descriptor.size.to_string().into()),
        ("Platforms", platforms.join(",").into()),
    ]);
    let columns = ["Digest", "MediaType", "Size", "Platforms"];
    session.print(list(args.format.as_deref(), COLUMNS, &columns, vec![row], session.width())?)?;
    Ok(0)
}

fn shown(platform: &Platform) -> String {
    let variant = if platform.variant.is_empty() { String::new() } else { format!("/{}", platform.variant) };
    format!("{}/{}{variant}", platform.os, platform.architecture)
}
