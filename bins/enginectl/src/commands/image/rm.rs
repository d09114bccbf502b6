//! `enginectl rmi`.

use engine_api::image::ImageDelete;

use crate::client::{Query, parse, segment};
use crate::commands::several::each;
use crate::error::Error;
use crate::session::Session;

/// Remove images
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Also when containers or other names use them
    #[arg(short = 'f', long)]
    force: bool,
    /// Keep untagged parents
    #[arg(long)]
    no_prune: bool,
    /// Only if they are for this platform, as linux/amd64
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<String>,
    /// Names or ids
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
}

pub(crate) async fn run(args: Args, session: &mut Session) -> Result<u8, Error> {
    let client = session.client()?;
    let platform = args.platform.as_deref().map(super::load::platform).transpose()?;
    let query = Query::new().flag("force", args.force).flag("noprune", args.no_prune);
    let query = query.optional("platforms", platform.as_deref());
    let mut code = 0;
    // One after the other: what one removes another may refer to.
    for image in &args.images {
        let removed = each(session, &client, std::slice::from_ref(image), |name| {
            let (client, query) = (client.clone(), query.clone());
            async move {
                let path = format!("/images/{}", segment(&name));
                let answer: Vec<ImageDelete> = parse(&path, &client.delete(&path, &query).await?)?;
                let line = |item: &ImageDelete| match (item.untagged.as_str(), item.deleted.as_str()) {
                    ("", deleted) => format!("Deleted: {deleted}"),
                    (untagged, _) => format!("Untagged: {untagged}"),
                };
                Ok(answer.iter().map(line).collect::<Vec<_>>().join("\n"))
            }
        });
        let failed = removed.await?;
        code = code.max(failed);
    }
    Ok(code)
}
