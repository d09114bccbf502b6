//! `enginectl volume ls`.

use engine_api::volume::{Volume, VolumeList};

use crate::client::Query;
use crate::commands::filters;
use crate::error::Error;
use crate::output::format::{Columns, Raw, Row, is_raw, list, raw};
use crate::output::size;
use crate::session::Session;

/// List volumes
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only those, as dangling=true
    #[arg(short = 'f', long, value_name = "FILTER")]
    filter: Vec<String>,
    /// Print by a template, table TEMPLATE, table, json or raw
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Only the names
    #[arg(short = 'q', long)]
    quiet: bool,
}

const COLUMNS: Columns = &[
    ("Driver", "DRIVER"),
    ("Name", "VOLUME NAME"),
    ("Scope", "SCOPE"),
    ("Mountpoint", "MOUNTPOINT"),
    ("Labels", "LABELS"),
    ("Links", "LINKS"),
    ("Size", "SIZE"),
    ("Status", "STATUS"),
    ("Group", "GROUP"),
    ("Availability", "AVAILABILITY"),
];

const RAW: Raw = &[("name", "Name"), ("driver", "Driver")];

pub(crate) async fn run(args: Args, session: &mut Session) -> Result<u8, Error> {
    let query = filters::with(Query::new(), &filters::parse(&args.filter)?);
    let mut answer: VolumeList = session.client()?.get_as("/volumes", &query).await?;
    answer.volumes.sort_by(|left, right| left.name.cmp(&right.name));
    for warning in answer.warnings.iter().flatten() {
        session.complain(format!("WARNING: {warning}"));
    }
    if args.quiet && args.format.is_none() {
        session.print(answer.volumes.iter().map(|volume| format!("{}\n", volume.name)).collect::<String>())?;
        return Ok(0);
    }
    let rows: Vec<Row> = answer.volumes.iter().map(row).collect();
    if is_raw(args.format.as_deref()) {
        return session.print(raw(RAW, &rows, args.quiet)).map(|()| 0);
    }
    session.print(list(args.format.as_deref(), COLUMNS, &["Driver", "Name"], rows, session.width())?)?;
    Ok(0)
}

pub(crate) fn row(volume: &Volume) -> Row {
    let labels = volume.labels.clone().unwrap_or_default();
    let usage = volume.usage_data.as_ref();
    let known = |number: Option<i64>| number.filter(|number| *number >= 0);
    let links = known(usage.map(|usage| usage.ref_count)).map_or("N/A".to_owned(), |links| links.to_string());
    let bytes = known(usage.map(|usage| usage.size)).map_or("N/A".to_owned(), size::short);
    Row::new([
        ("Driver", volume.driver.as_str().into()),
        ("Name", volume.name.as_str().into()),
        ("Scope", volume.scope.as_str().into()),
        ("Mountpoint", volume.mountpoint.as_str().into()),
        ("Labels", labels.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(",").into()),
        ("Links", links.into()),
        ("Size", bytes.into()),
        ("Status", "N/A".into()),
        ("Group", "N/A".into()),
        ("Availability", "N/A".into()),
    ])
    .labels(&labels)
}
