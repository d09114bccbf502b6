//! `enginectl manifest inspect`.

use std::io::Write;

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
    /// Print the manifest or index itself, byte for byte
    #[arg(long)]
    raw: bool,
    /// The image
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    image: String,
}

const COLUMNS: Columns = &[
    ("Digest", "DIGEST"),
    ("MediaType", "MEDIA TYPE"),
    ("Size", "SIZE"),
    ("Platforms", "PLATFORMS"),
    ("ArtifactType", "ARTIFACT TYPE"),
];

pub(crate) async fn run(args: Args, session: &mut Session) -> Result<u8, Error> {
    let payload = credentials(session, &args.image).map_or(Payload::Empty, Payload::Registry);
    if args.raw {
        if args.format.is_some() {
            return Err(Error::Invalid("--raw and --format cannot be used together".to_owned()));
        }
        let path = format!("/distribution/{}/manifest", segment(&args.image));
        let response = session.client()?.request(Method::GET, &path, &Query::new(), payload).await?;
        let document = whole(&path, response).await?;
        (&session.io.stdout).write_all(&document).map_err(Error::io("write to standard output"))?;
        return Ok(0);
    }
    let path = format!("/distribution/{}/json", segment(&args.image));
    let response = session.client()?.request(Method::GET, &path, &Query::new(), payload).await?;
    let found: DistributionInspect = parse(&path, &whole(&path, response).await?)?;
    let platforms: Vec<String> = found.platforms.iter().map(shown).collect();
    let row = Row::new([
        ("Digest", found.descriptor.digest.as_str().into()),
        ("MediaType", found.descriptor.media_type.as_str().into()),
        ("Size", found.descriptor.size.to_string().into()),
        ("Platforms", platforms.join(",").into()),
        ("ArtifactType", found.descriptor.artifact_type.as_str().into()),
    ]);
    let columns = ["Digest", "MediaType", "Size", "Platforms"];
    session.print(list(args.format.as_deref(), COLUMNS, &columns, vec![row], session.width())?)?;
    Ok(0)
}

fn shown(platform: &Platform) -> String {
    let variant = if platform.variant.is_empty() { String::new() } else { format!("/{}", platform.variant) };
    format!("{}/{}{variant}", platform.os, platform.architecture)
}
