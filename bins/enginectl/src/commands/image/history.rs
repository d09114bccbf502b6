//! `enginectl history`.

use engine_api::image::HistoryItem;

use crate::client::{Query, segment};
use crate::error::Error;
use crate::output::format::{Columns, Row, list};
use crate::output::table::cut;
use crate::output::{size, time};
use crate::session::Session;

/// Show how an image was made, the newest layer first
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print by a template, table TEMPLATE, table or json
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Sizes and times for people
    #[arg(short = 'H', long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true",
          value_parser = crate::args::truth, action = clap::ArgAction::Set)]
    human: bool,
    /// Cut nothing off
    #[arg(long)]
    no_trunc: bool,
    /// The image must be for this platform, as linux/amd64
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<String>,
    /// Only the ids
    #[arg(short = 'q', long)]
    quiet: bool,
    /// Name or id
    #[arg(value_name = "IMAGE")]
    image: String,
}

const COLUMNS: Columns = &[
    ("ID", "IMAGE"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("CreatedBy", "CREATED BY"),
    ("Size", "SIZE"),
    ("Comment", "COMMENT"),
];

pub(crate) async fn run(args: Args, session: &mut Session) -> Result<u8, Error> {
    let path = format!("/images/{}/history", segment(&args.image));
    let platform = args.platform.as_deref().map(super::load::platform).transpose()?;
    let query = Query::new().optional("platform", platform.as_deref());
    let history: Vec<HistoryItem> = session.client()?.get_as(&path, &query).await?;
    if args.quiet && args.format.is_none() {
        session.print(history.iter().map(|item| short(&item.id, args.no_trunc) + "\n").collect::<String>())?;
        return Ok(0);
    }
    let now = time::now_seconds();
    let rows = history.iter().map(|item| row(item, &args, now)).collect();
    let shown = ["ID", if args.human { "CreatedSince" } else { "CreatedAt" }, "CreatedBy", "Size", "Comment"];
    let width = if args.no_trunc { None } else { session.width() };
    session.print(list(args.format.as_deref(), COLUMNS, &shown, rows, width)?)?;
    Ok(0)
}

fn short(id: &str, whole: bool) -> String {
    let digits = id.strip_prefix("sha256:");
    match digits {
        Some(digits) if !whole => digits.chars().take(12).collect(),
        _ => id.to_owned(),
    }
}

fn row(item: &HistoryItem, args: &Args, now: i64) -> Row {
    let line = item.created_by.replace(['\t', '\n'], " ");
    let by = if args.no_trunc { line } else { cut(&line, 45) };
    Row::new([
        ("ID", short(&item.id, args.no_trunc).into()),
        ("CreatedSince", time::ago(item.created, now).into()),
        ("CreatedAt", time::rfc3339(item.created).into()),
        ("CreatedBy", by.into()),
        ("Size", if args.human { size::short(item.size) } else { item.size.to_string() }.into()),
        ("Comment", item.comment.as_str().into()),
    ])
}
