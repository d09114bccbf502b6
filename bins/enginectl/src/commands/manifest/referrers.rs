//! `enginectl manifest referrers`.

use engine_api::image::{Descriptor, DistributionReferrers};
use http::Method;

use crate::client::{Payload, Query, parse, segment, whole};
use crate::commands::image::pull::credentials;
use crate::error::Error;
use crate::output::format::{Columns, Row, list};
use crate::output::size;
use crate::session::Session;

/// List what refers to an image at its registry: signatures, bills of materials, attestations
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only those of this type, as application/spdx+json
    #[arg(long, value_name = "TYPE")]
    artifact_type: Option<String>,
    /// Print by a template, table TEMPLATE, table or json
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// What refers to the image for this platform, and not to all of it
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<String>,
    /// Only the digests
    #[arg(short = 'q', long)]
    quiet: bool,
    /// The image
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    image: String,
}

const COLUMNS: Columns = &[
    ("Digest", "DIGEST"),
    ("ArtifactType", "ARTIFACT TYPE"),
    ("Size", "SIZE"),
    ("CreatedAt", "CREATED AT"),
    ("Annotations", "ANNOTATIONS"),
    ("MediaType", "MEDIA TYPE"),
];

pub(crate) async fn run(args: Args, session: &mut Session) -> Result<u8, Error> {
    let payload = credentials(session, &args.image).map_or(Payload::Empty, Payload::Registry);
    let path = format!("/distribution/{}/referrers", segment(&args.image));
    let query = Query::new()
        .optional("artifactType", args.artifact_type.as_deref())
        .optional("platform", args.platform.as_deref());
    let response = session.client()?.request(Method::GET, &path, &query, payload).await?;
    let found: DistributionReferrers = parse(&path, &whole(&path, response).await?)?;
    if args.quiet && args.format.is_none() {
        session.print(found.referrers.iter().map(|one| format!("{}\n", one.digest)).collect::<String>())?;
        return Ok(0);
    }
    let rows = found.referrers.iter().map(row).collect();
    let shown = ["Digest", "ArtifactType", "Size", "CreatedAt"];
    session.print(list(args.format.as_deref(), COLUMNS, &shown, rows, session.width())?)?;
    Ok(0)
}

const CREATED: &str = "org.opencontainers.image.created";

fn row(referrer: &Descriptor) -> Row {
    let notes = referrer.annotations.iter().filter(|(name, _)| *name != CREATED);
    let notes: Vec<String> = notes.map(|(name, value)| format!("{name}={value}")).collect();
    Row::new([
        ("Digest", referrer.digest.as_str().into()),
        ("ArtifactType", referrer.artifact_type.as_str().into()),
        ("Size", size::decimal(referrer.size).into()),
        ("CreatedAt", referrer.annotations.get(CREATED).map_or("", String::as_str).into()),
        ("Annotations", notes.join(",").into()),
        ("MediaType", referrer.media_type.as_str().into()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_referrer_is_a_line() {
        let referrer = Descriptor {
            digest: "sha256:0".to_owned(),
            artifact_type: "application/spdx+json".to_owned(),
            size: 1500,
            annotations: [(CREATED.to_owned(), "2026-01-01".to_owned()), ("a".to_owned(), "b".to_owned())].into(),
            ..Descriptor::default()
        };
        let format = "{{.Digest}} {{.ArtifactType}} {{.Size}} {{.CreatedAt}} {{.Annotations}}";
        let text = list(Some(format), COLUMNS, &[], vec![row(&referrer)], None);
        assert_eq!(text.unwrap_or_default(), "sha256:0 application/spdx+json 1.5kB 2026-01-01 a=b\n");
    }
}
