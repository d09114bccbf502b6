//! `enginectl system trim`.

use engine_api::system::{TrimReport, TrimRequest};

use crate::client::{Payload, Query, parse};
use crate::commands::prompt::confirm;
use crate::error::Error;
use crate::output::size;
use crate::session::Session;

/// Make room: remove what nobody has used for the longest time, until images fit
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Give up the compressed layers of all images, which are made again where they are needed
    #[arg(long)]
    compressed: bool,
    /// Do not ask
    #[arg(short = 'f', long)]
    force: bool,
    /// Room that images may take, such as 20g [default: the daemon's image-quota]
    #[arg(long, value_name = "SIZE")]
    to: Option<String>,
}

const PATH: &str = "/system/trim";

pub(crate) async fn run(args: Args, session: &mut Session) -> Result<u8, Error> {
    let to = args.to.as_deref().map(size::parse).transpose().map_err(Error::Invalid)?;
    let request = TrimRequest { to: to.and_then(|to| u64::try_from(to).ok()), compressed: args.compressed };
    let mut warning = "WARNING! This will remove ".to_owned();
    match (&args.to, args.compressed) {
        (None, true) => warning.push_str("the compressed layers of all images."),
        (None, false) => warning.push_str("images without containers until all take no more than the daemon's quota."),
        (Some(to), _) => warning.push_str(&format!("images without containers until all take no more than {to}.")),
    }
    if !args.force && !confirm(session, &warning)? {
        return Ok(0);
    }
    let report: TrimReport =
        parse(PATH, &session.client()?.post(PATH, &Query::new(), Payload::json(&request)?).await?)?;
    session.print(shown(&report))?;
    Ok(0)
}

fn shown(report: &TrimReport) -> String {
    let mut text = String::new();
    for item in &report.images_deleted {
        match (item.untagged.as_str(), item.deleted.as_str()) {
            ("", deleted) => text.push_str(&format!("deleted: {deleted}\n")),
            (untagged, _) => text.push_str(&format!("untagged: {untagged}\n")),
        }
    }
    if report.compressed_layers > 0 {
        let plural = if report.compressed_layers == 1 { "" } else { "s" };
        text.push_str(&format!("gave up {} compressed layer{plural}\n", report.compressed_layers));
    }
    let bytes = |number: u64| size::decimal(i64::try_from(number).unwrap_or(i64::MAX));
    let (gone, left) = (bytes(report.space_reclaimed), bytes(report.size));
    text + &format!("Total reclaimed space: {gone}, images take {left}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine_api::image::ImageDelete;

    #[test]
    fn what_went_is_told() {
        let gone =
            |untagged: &str, deleted: &str| ImageDelete { untagged: untagged.to_owned(), deleted: deleted.to_owned() };
        let report = TrimReport {
            images_deleted: vec![gone("a:1", ""), gone("", "sha256:0")],
            compressed_layers: 1,
            space_reclaimed: 1000,
            size: 2_500_000,
        };
        assert_eq!(
            shown(&report),
            "untagged: a:1\ndeleted: sha256:0\ngave up 1 compressed layer\nTotal reclaimed space: 1kB, images take 2.5MB\n"
        );
    }
}
