//! `enginectl search`.

use engine_api::image::SearchResult;

use crate::client::Query;
use crate::commands::filters;
use crate::error::Error;
use crate::output::format::{Columns, Row, list};
use crate::output::table::cut;
use crate::session::Session;

/// Search a registry for images
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only those, as is-official=true or stars=3
    #[arg(short = 'f', long, value_name = "FILTER")]
    filter: Vec<String>,
    /// Print by a template, table TEMPLATE, table or json
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// At most so many
    #[arg(long, value_name = "NUMBER", default_value_t = 0, hide_default_value = true)]
    limit: u32,
    /// Cut nothing off
    #[arg(long)]
    no_trunc: bool,
    /// What to search for; of another registry than Docker Hub as localhost:5000/TERM
    #[arg(value_name = "TERM")]
    term: String,
}

const COLUMNS: Columns = &[
    ("Name", "NAME"),
    ("Description", "DESCRIPTION"),
    ("StarCount", "STARS"),
    ("IsOfficial", "OFFICIAL"),
    ("IsAutomated", "AUTOMATED"),
];

pub(crate) async fn run(args: Args, session: &mut Session) -> Result<u8, Error> {
    let query = Query::new().with("term", &args.term);
    let limit = args.limit.to_string();
    let query = query.optional("limit", (args.limit > 0).then_some(limit.as_str()));
    let query = filters::with(query, &filters::parse(&args.filter)?);
    let found: Vec<SearchResult> = session.client()?.get_as("/images/search", &query).await?;
    let ok = |is: bool| if is { "[OK]" } else { "" };
    let rows = found
        .iter()
        .map(|one| {
            let line = one.description.replace(['\n', '\r', '\t'], " ");
            Row::new([
                ("Name", one.name.as_str().into()),
                ("Description", if args.no_trunc { line } else { cut(&line, 45) }.into()),
                ("StarCount", one.star_count.to_string().into()),
                ("IsOfficial", ok(one.is_official).into()),
                ("IsAutomated", ok(one.is_automated).into()),
            ])
        })
        .collect();
    let shown = ["Name", "Description", "StarCount", "IsOfficial"];
    session.print(list(args.format.as_deref(), COLUMNS, &shown, rows, session.width())?)?;
    Ok(0)
}
