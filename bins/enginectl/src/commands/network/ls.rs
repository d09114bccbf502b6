//! `enginectl network ls`.

use engine_api::network::Network;

use crate::client::{Query, segment};
use crate::commands::filters;
use crate::error::Error;
use crate::output::format::{Columns, Raw, Row, is_raw, list, raw};
use crate::output::time;
use crate::session::Session;

/// List networks
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only those, as driver=bridge
    #[arg(short = 'f', long, value_name = "FILTER")]
    filter: Vec<String>,
    /// Print by a template, table TEMPLATE, table, json or raw
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Cut nothing off
    #[arg(long)]
    no_trunc: bool,
    /// Only the ids
    #[arg(short = 'q', long)]
    quiet: bool,
    /// Draw which containers are where
    #[arg(long, conflicts_with_all = ["format", "quiet"])]
    tree: bool,
}

const COLUMNS: Columns = &[
    ("ID", "NETWORK ID"),
    ("Name", "NAME"),
    ("Driver", "DRIVER"),
    ("Scope", "SCOPE"),
    ("IPv4", "IPV4"),
    ("IPv6", "IPV6"),
    ("Internal", "INTERNAL"),
    ("Labels", "LABELS"),
    ("CreatedAt", "CREATED AT"),
];

const RAW: Raw = &[("network_id", "ID"), ("name", "Name"), ("driver", "Driver"), ("scope", "Scope")];

pub(crate) async fn run(args: Args, session: &mut Session) -> Result<u8, Error> {
    let query = filters::with(Query::new(), &filters::parse(&args.filter)?);
    let mut networks: Vec<Network> = session.client()?.get_as("/networks", &query).await?;
    networks.sort_by(|left, right| left.name.cmp(&right.name));
    if args.tree {
        let client = session.client()?;
        let mut whole = Vec::with_capacity(networks.len());
        for network in &networks {
            // The list does not say who is on them. One may have gone in the meantime.
            match client.get_as(&format!("/networks/{}", segment(&network.id)), &Query::new()).await {
                Ok(network) => whole.push(network),
                Err(Error::Daemon { status: 404, .. }) => {}
                Err(error) => return Err(error),
            }
        }
        session.print(super::tree::draw(&whole))?;
        return Ok(0);
    }
    let short = |id: &str| if args.no_trunc { id.to_owned() } else { id.chars().take(12).collect() };
    if args.quiet && args.format.is_none() {
        session.print(networks.iter().map(|network| short(&network.id) + "\n").collect::<String>())?;
        return Ok(0);
    }
    let rows: Vec<Row> = networks
        .iter()
        .map(|network| {
            let labels = network.labels.clone().unwrap_or_default();
            let created = time::local_of(&network.created);
            Row::new([
                ("ID", short(&network.id).into()),
                ("Name", network.name.as_str().into()),
                ("Driver", network.driver.as_str().into()),
                ("Scope", network.scope.as_str().into()),
                ("IPv4", network.enable_ipv4.unwrap_or(true).to_string().into()),
                ("IPv6", network.enable_ipv6.to_string().into()),
                ("Internal", network.internal.to_string().into()),
                (
                    "Labels",
                    labels.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(",").into(),
                ),
                ("CreatedAt", created.into()),
            ])
            .labels(&labels)
        })
        .collect();
    if is_raw(args.format.as_deref()) {
        return session.print(raw(RAW, &rows, args.quiet)).map(|()| 0);
    }
    let width = if args.no_trunc { None } else { session.width() };
    session.print(list(args.format.as_deref(), COLUMNS, &["ID", "Name", "Driver", "Scope"], rows, width)?)?;
    Ok(0)
}
