//! `enginectl ps`.

use engine_api::container::ContainerSummary;

use super::ports;
use crate::client::Query;
use crate::commands::filters;
use crate::error::Error;
use crate::output::format::{Columns, Raw, Row, is_raw, list, raw};
use crate::output::table::cut;
use crate::output::value::Value;
use crate::output::{size, time};
use crate::session::Session;

/// List containers
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Also those that do not run
    #[arg(short = 'a', long)]
    all: bool,
    /// Only those, as status=exited or label=NAME
    #[arg(short = 'f', long, value_name = "FILTER")]
    filter: Vec<String>,
    /// Print by a template, table TEMPLATE, table, json or raw
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Only the last so many, of all
    #[arg(short = 'n', long, value_name = "NUMBER")]
    last: Option<i64>,
    /// Only the last one, of all
    #[arg(short = 'l', long)]
    latest: bool,
    /// Cut nothing off
    #[arg(long)]
    no_trunc: bool,
    /// Only the ids
    #[arg(short = 'q', long)]
    quiet: bool,
    /// Also the sizes
    #[arg(short = 's', long)]
    size: bool,
    /// The processes of each as a tree
    #[arg(long, conflicts_with_all = ["quiet", "format", "size"])]
    tree: bool,
}

pub(crate) const COLUMNS: Columns = &[
    ("ID", "CONTAINER ID"),
    ("Image", "IMAGE"),
    ("Command", "COMMAND"),
    ("RunningFor", "CREATED"),
    ("Status", "STATUS"),
    ("Ports", "PORTS"),
    ("Names", "NAMES"),
    ("Size", "SIZE"),
    ("CreatedAt", "CREATED AT"),
    ("State", "STATE"),
    ("Labels", "LABELS"),
    ("Mounts", "MOUNTS"),
    ("LocalVolumes", "LOCAL VOLUMES"),
    ("Networks", "NETWORKS"),
    ("Platform", "PLATFORM"),
];

const RAW: Raw = &[
    ("container_id", "ID"),
    ("image", "Image"),
    ("command", "Command"),
    ("created_at", "CreatedAt"),
    ("state", "State"),
    ("status", "Status"),
    ("names", "Names"),
    ("labels", "Labels"),
    ("ports", "Ports"),
    ("size", "Size"),
];

pub(crate) async fn run(args: Args, session: &mut Session) -> Result<u8, Error> {
    let limit = if args.latest { Some(1) } else { args.last.filter(|last| *last > 0) };
    let wants_size = args.size || args.format.as_deref().is_some_and(shows_size);
    let query = Query::new()
        .flag("all", args.all || limit.is_some())
        .optional("limit", limit.map(|limit| limit.to_string()).as_deref())
        .flag("size", wants_size && !args.quiet);
    let query = filters::with(query, &filters::parse(&args.filter)?);
    let client = session.client()?;
    let containers: Vec<ContainerSummary> = client.get_as("/containers/json", &query).await?;
    if args.tree {
        let width = if args.no_trunc { None } else { session.width() };
        return session.print(super::tree::tree(&containers, &client, width).await?).map(|()| 0);
    }
    if args.quiet && args.format.is_none() {
        let id = |container: &ContainerSummary| short(&container.id, args.no_trunc) + "\n";
        session.print(containers.iter().map(id).collect::<String>())?;
        return Ok(0);
    }
    let mut shown = vec!["ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names"];
    if args.size {
        shown.push("Size");
    }
    let now = time::now_seconds();
    let rows: Vec<Row> = containers.iter().map(|container| row(container, args.no_trunc, now)).collect();
    if is_raw(args.format.as_deref()) {
        let fields = if args.size { RAW } else { &RAW[..RAW.len() - 1] };
        return session.print(raw(fields, &rows, args.quiet)).map(|()| 0);
    }
    let width = if args.no_trunc { None } else { session.width() };
    session.print(list(args.format.as_deref(), COLUMNS, &shown, rows, width)?)?;
    Ok(0)
}

/// Sizes cost the daemon a walk through files, so they are only asked for where they are shown.
fn shows_size(format: &str) -> bool {
    let dense: String = format.split_whitespace().collect();
    dense.contains(".Size") || dense.contains("{{json.}}")
}

fn short(id: &str, whole: bool) -> String {
    if whole { id.to_owned() } else { id.chars().take(12).collect() }
}

pub(crate) fn row(container: &ContainerSummary, whole: bool, now: i64) -> Row {
    let names: Vec<&str> = container
        .names
        .iter()
        .map(|name| name.strip_prefix('/').unwrap_or(name))
        .filter(|name| whole || !name.contains('/'))
        .collect();
    let command = if whole { container.command.clone() } else { cut(&container.command, 20) };
    let mounts: Vec<String> = container
        .mounts
        .iter()
        .map(|mount| if mount.name.is_empty() { &mount.source } else { &mount.name })
        .map(|name| if whole { name.clone() } else { cut(name, 15) })
        .collect();
    let networks = container.network_settings.iter().flat_map(|settings| settings.networks.keys().cloned());
    let labels: Vec<String> = container.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    Row::new([
        ("ID", short(&container.id, whole).into()),
        ("Names", names.join(",").into()),
        ("Image", image(container, whole).into()),
        ("Command", Value::from(command).compact().into()),
        ("CreatedAt", time::local(container.created).into()),
        ("RunningFor", time::ago(container.created, now).into()),
        ("Ports", ports::display(&container.ports).into()),
        ("State", container.state.as_str().into()),
        ("Status", container.status.as_str().into()),
        ("Size", sizes(container).into()),
        ("Labels", labels.join(",").into()),
        ("Mounts", mounts.join(",").into()),
        ("LocalVolumes", container.mounts.iter().filter(|mount| mount.driver == "local").count().to_string().into()),
        ("Platform", Value::Null),
        ("Networks", networks.collect::<Vec<_>>().join(",").into()),
    ])
    .labels(&container.labels)
}

/// An image that is an id is cut as ids are; a name is without its digest.
fn image(container: &ContainerSummary, whole: bool) -> String {
    let image = container.image.as_str();
    if image.is_empty() {
        return "<no image>".to_owned();
    }
    if whole {
        return image.to_owned();
    }
    let digits = image.strip_prefix("sha256:").unwrap_or(image);
    if container.image_id.strip_prefix("sha256:").is_some_and(|id| id == digits) {
        return short(digits, false);
    }
    match image.split_once('@') {
        Some((name, _)) if !name.is_empty() => name.to_owned(),
        _ => image.to_owned(),
    }
}

fn sizes(container: &ContainerSummary) -> String {
    let written = size::short(container.size_rw.unwrap_or(0));
    match container.size_root_fs {
        Some(all) if all > 0 => format!("{written} (virtual {})", size::short(all)),
        _ => written,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn summary() -> ContainerSummary {
        ContainerSummary {
            id: "4c01db0b339c4c01db0b339c".to_owned(),
            names: vec!["/web".to_owned(), "/other/link".to_owned()],
            image: "busybox@sha256:00".to_owned(),
            image_id: "sha256:4c01db0b339c4c01".to_owned(),
            command: "sh -c 'while true; do sleep 1; done'".to_owned(),
            created: 1000,
            state: "running".to_owned(),
            status: "Up 2 minutes".to_owned(),
            size_rw: Some(1234),
            size_root_fs: Some(5_000_000),
            ..ContainerSummary::default()
        }
    }

    #[test]
    fn a_line_reads_as_docker_s() {
        let format =
            "{{.ID}}|{{.Image}}|{{.Command}}|{{.RunningFor}}|{{.Status}}|{{.Names}}|{{.Size}}|{{.LocalVolumes}}";
        let text = |whole| list(Some(format), COLUMNS, &[], vec![row(&summary(), whole, 1120)], None).unwrap();
        assert_eq!(
            text(false),
            "4c01db0b339c|busybox|\"sh -c 'while true; …\"|2 minutes ago|Up 2 minutes|web|1.23kB (virtual 5MB)|0\n"
        );
        assert!(text(true).contains("|busybox@sha256:00|\"sh -c 'while true; do sleep 1; done'\"|"));
    }

    #[test]
    fn an_id_as_image_is_cut() {
        let mut container = summary();
        container.image = "sha256:4c01db0b339c4c01".to_owned();
        assert_eq!(image(&container, false), "4c01db0b339c");
        container.image.clear();
        assert_eq!(image(&container, false), "<no image>");
    }
}
