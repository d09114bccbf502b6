//! `enginectl system df`.

use engine_api::container::ContainerSummary;
use engine_api::image::ImageSummary;
use engine_api::system::DiskUsage;

use crate::client::Query;
use crate::commands::container::ps;
use crate::commands::image::ls;
use crate::commands::volume::ls as volumes;
use crate::error::Error;
use crate::output::format::{self, Columns, Raw, Row, is_raw, list, raw};
use crate::output::value::Value;
use crate::output::{size, time};
use crate::session::Session;

/// Show what takes room on the disk
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print by a template, table TEMPLATE, table, json or raw; with --verbose by a template over all, table or json
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Each image, container and volume
    #[arg(short = 'v', long)]
    verbose: bool,
}

const COLUMNS: Columns = &[
    ("Type", "TYPE"),
    ("TotalCount", "TOTAL"),
    ("Active", "ACTIVE"),
    ("Size", "SIZE"),
    ("Reclaimable", "RECLAIMABLE"),
];

const RAW: Raw = &[
    ("type", "Type"),
    ("total", "TotalCount"),
    ("active", "Active"),
    ("size", "Size"),
    ("reclaimable", "Reclaimable"),
];

pub(crate) async fn run(args: Args, session: &mut Session) -> Result<u8, Error> {
    let usage: DiskUsage = session.client()?.get_as("/system/df", &Query::new()).await?;
    if args.verbose {
        match args.format.as_deref().map(str::trim) {
            None | Some("" | "table") => session.print(details(&usage)?)?,
            Some("raw") => {
                return Err(Error::Invalid(
                    "--verbose has no format raw: json and templates have all there is".to_owned(),
                ));
            }
            Some(format) => session.print_line(format::single(format, &whole(&usage))?)?,
        }
        return Ok(0);
    }
    let kinds = kinds(&usage);
    let rows: Vec<Row> = kinds.iter().cloned().map(Kind::row).collect();
    if is_raw(args.format.as_deref()) {
        return session.print(raw(RAW, &rows, false)).map(|()| 0);
    }
    let shown = ["Type", "TotalCount", "Active", "Size", "Reclaimable"];
    let text = list(args.format.as_deref(), COLUMNS, &shown, rows, session.width())?;
    session.print(match session.width().filter(|_| args.format.is_none()) {
        Some(width) => with_bars(&text, &kinds, width),
        None => text,
    })?;
    Ok(0)
}

/// The longest bar, and the shortest that tells anything.
const BAR: std::ops::RangeInclusive<usize> = 8..=40;

/// For people at a terminal: how large each kind is beside the largest, what is in use full and what can be had back light.
fn with_bars(text: &str, kinds: &[Kind], width: usize) -> String {
    let longest = text.lines().map(|line| line.chars().count()).max().unwrap_or(0);
    let room = width.saturating_sub(longest + 3).min(*BAR.end());
    let largest = kinds.iter().map(|kind| kind.size).max().unwrap_or(0);
    if room < *BAR.start() || largest <= 0 {
        return text.to_owned();
    }
    let cells = |bytes: i64| {
        let cells = i128::from(bytes.max(0)) * room as i128 / i128::from(largest);
        // What is there is seen.
        usize::try_from(cells).unwrap_or(0).max(usize::from(bytes > 0))
    };
    let mut lines = text.lines();
    let mut shown = format!("{}\n", lines.next().unwrap_or_default());
    for (line, kind) in lines.zip(kinds) {
        let all = cells(kind.size);
        let light = cells(kind.reclaimable).min(all);
        let bar = "█".repeat(all - light) + &"░".repeat(light);
        let padding = " ".repeat(longest + 3 - line.chars().count());
        shown.push_str(format!("{line}{padding}{bar}").trim_end());
        shown.push('\n');
    }
    shown
}

/// A line of the overview.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Kind {
    name: &'static str,
    total: usize,
    active: usize,
    size: i64,
    reclaimable: i64,
}

impl Kind {
    fn row(self) -> Row {
        let mut reclaimable = size::decimal(self.reclaimable);
        // Docker tells the share of everything but of builds.
        if self.size > 0 && self.name != "Build Cache" {
            reclaimable.push_str(&format!(" ({}%)", self.reclaimable.saturating_mul(100) / self.size));
        }
        Row::new([
            ("Type", self.name.into()),
            ("TotalCount", self.total.to_string().into()),
            ("Active", self.active.to_string().into()),
            ("Size", size::decimal(self.size).into()),
            ("Reclaimable", reclaimable.into()),
        ])
    }
}

fn kinds(usage: &DiskUsage) -> Vec<Kind> {
    let images = usage.images.as_deref().unwrap_or_default();
    let containers = usage.containers.as_deref().unwrap_or_default();
    let volumes = usage.volumes.as_deref().unwrap_or_default();
    // What an image shares goes with none of its holders alone.
    let used = |image: &&ImageSummary| image.containers > 0;
    let in_use: i64 = images.iter().filter(used).map(|image| image.size - image.shared_size.max(0)).sum();
    let lives = |state: &str| matches!(state, "running" | "paused" | "restarting");
    let written = |rw: Option<i64>| rw.unwrap_or(0);
    let bytes = |volume: &&engine_api::volume::Volume| volume.usage_data.as_ref().map_or(0, |usage| usage.size.max(0));
    let is_free =
        |volume: &&engine_api::volume::Volume| volume.usage_data.as_ref().is_some_and(|usage| usage.ref_count == 0);
    let held =
        |volume: &&engine_api::volume::Volume| volume.usage_data.as_ref().is_some_and(|usage| usage.ref_count > 0);
    vec![
        Kind {
            name: "Images",
            total: images.len(),
            active: images.iter().filter(used).count(),
            size: usage.layers_size,
            reclaimable: (usage.layers_size - in_use).max(0),
        },
        Kind {
            name: "Containers",
            total: containers.len(),
            active: containers.iter().filter(|container| lives(&container.state)).count(),
            size: containers.iter().map(|container| written(container.size_rw)).sum(),
            reclaimable: containers
                .iter()
                .filter(|container| !lives(&container.state))
                .map(|container| written(container.size_rw))
                .sum(),
        },
        Kind {
            name: "Local Volumes",
            total: volumes.len(),
            active: volumes.iter().filter(held).count(),
            size: volumes.iter().map(|volume| bytes(&volume)).sum(),
            reclaimable: volumes.iter().filter(is_free).map(|volume| bytes(&volume)).sum(),
        },
        Kind {
            name: "Build Cache",
            total: usage.build_cache.as_ref().map_or(0, Vec::len),
            active: 0,
            size: 0,
            reclaimable: 0,
        },
    ]
}

const IMAGES: Columns = &[
    ("Repository", "REPOSITORY"),
    ("Tag", "TAG"),
    ("ID", "IMAGE ID"),
    ("CreatedSince", "CREATED"),
    ("Size", "SIZE"),
    ("SharedSize", "SHARED SIZE"),
    ("UniqueSize", "UNIQUE SIZE"),
    ("Containers", "CONTAINERS"),
    ("LastUsed", "LAST USED"),
];
const VOLUMES: Columns = &[("Name", "VOLUME NAME"), ("Links", "LINKS"), ("Size", "SIZE")];
const BUILDS: Columns = &[
    ("ID", "CACHE ID"),
    ("CacheType", "CACHE TYPE"),
    ("Size", "SIZE"),
    ("CreatedSince", "CREATED"),
    ("LastUsedSince", "LAST USED"),
    ("UsageCount", "USAGE"),
    ("Shared", "SHARED"),
];

/// All there is, for templates and as JSON.
fn whole(usage: &DiskUsage) -> Value {
    let now = time::now_seconds();
    let list = |rows: Vec<Row>| Value::Array(rows.into_iter().map(Row::into_value).collect());
    let images = usage.images.iter().flatten().flat_map(|image| ls::rows(image, true, now)).collect();
    let containers = usage.containers.iter().flatten().map(|container| own_room(container, true, now)).collect();
    let volumes = usage.volumes.iter().flatten().map(volumes::row).collect();
    Value::Object(vec![
        ("Images".to_owned(), list(images)),
        ("Containers".to_owned(), list(containers)),
        ("Volumes".to_owned(), list(volumes)),
        ("BuildCache".to_owned(), list(Vec::new())),
    ])
}

/// A container with the room that it takes itself: that of its image is the image's.
fn own_room(container: &ContainerSummary, whole: bool, now: i64) -> Row {
    ps::row(&ContainerSummary { size_root_fs: None, ..container.clone() }, whole, now)
}

fn details(usage: &DiskUsage) -> Result<String, Error> {
    let now = time::now_seconds();
    let mut text = "Images space usage:\n\n".to_owned();
    let rows = usage.images.iter().flatten().flat_map(|image| {
        let used = image.last_used.map_or_else(|| "N/A".to_owned(), |used| time::ago(used, now));
        ls::rows(image, false, now).into_iter().map(move |row| row.with("LastUsed", used.as_str().into()))
    });
    let shown: Vec<&str> = IMAGES.iter().map(|(name, _)| *name).collect();
    text.push_str(&list(None, IMAGES, &shown, rows.collect(), None)?);
    text.push_str("\nContainers space usage:\n\n");
    let rows = usage.containers.iter().flatten().map(|container| own_room(container, false, now)).collect();
    let shown = ["ID", "Image", "Command", "LocalVolumes", "Size", "RunningFor", "Status", "Names"];
    text.push_str(&list(None, ps::COLUMNS, &shown, rows, None)?);
    text.push_str("\nLocal Volumes space usage:\n\n");
    let rows = usage.volumes.iter().flatten().map(|volume| {
        let usage = volume.usage_data.clone().unwrap_or_default();
        Row::new([
            ("Name", volume.name.as_str().into()),
            ("Links", usage.ref_count.to_string().into()),
            ("Size", size::short(usage.size.max(0)).into()),
        ])
    });
    text.push_str(&list(None, VOLUMES, &["Name", "Links", "Size"], rows.collect(), None)?);
    text.push_str("\nBuild cache usage: 0B\n\n");
    let shown: Vec<&str> = BUILDS.iter().map(|(name, _)| *name).collect();
    text.push_str(&list(None, BUILDS, &shown, Vec::new(), None)?);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine_api::volume::{UsageData, Volume};

    #[test]
    fn bars_show_what_is_in_use_and_what_can_be_had_back() {
        let kind = |name, size, reclaimable| Kind { name, total: 1, active: 1, size, reclaimable };
        let kinds = [kind("Images", 1000, 500), kind("Containers", 10, 0), kind("Local Volumes", 0, 0)];
        let text = "TYPE\nImages\nContainers\nLocal Volumes\n";
        assert_eq!(with_bars(text, &kinds, 26), "TYPE\nImages          █████░░░░░\nContainers      █\nLocal Volumes\n");
        // Where there is no room, and nothing to show, there are none.
        assert_eq!(with_bars(text, &kinds, 20), text);
        assert_eq!(with_bars(text, &[kind("Images", 0, 0)], 80), text);
    }

    #[test]
    fn what_is_used_is_not_reclaimable() {
        let image = |size: i64, shared_size: i64, containers: i64| ImageSummary {
            size,
            shared_size,
            containers,
            ..ImageSummary::default()
        };
        let container = |state: &str, size: i64| ContainerSummary {
            state: state.to_owned(),
            size_rw: Some(size),
            size_root_fs: Some(700),
            ..ContainerSummary::default()
        };
        let volume =
            |ref_count: i64, size: i64| Volume { usage_data: Some(UsageData { ref_count, size }), ..Volume::default() };
        let usage = DiskUsage {
            layers_size: 1000,
            images: Some(vec![image(700, 200, 1), image(500, 200, 0)]),
            containers: Some(vec![container("running", 10), container("exited", 5)]),
            volumes: Some(vec![volume(0, 7), volume(2, 3)]),
            build_cache: Some(Vec::new()),
        };
        let numbers: Vec<_> = kinds(&usage).into_iter().map(|k| (k.total, k.active, k.size, k.reclaimable)).collect();
        assert_eq!(numbers, [(2, 1, 1000, 500), (2, 1, 15, 5), (2, 1, 10, 7), (0, 0, 0, 0)]);
        let text =
            list(None, COLUMNS, &["Type", "Reclaimable"], kinds(&usage).into_iter().map(Kind::row).collect(), None);
        assert!(text.unwrap_or_default().contains("500B (50%)"));
        let text = details(&usage).unwrap_or_default();
        let shown = |template: &str| format::single(template, &whole(&usage)).unwrap_or_default();
        assert_eq!(shown("{{range .Containers}}{{.State}} {{.Size}} {{end}}"), "running 10B exited 5B ");
        assert_eq!(shown("{{range .Volumes}}{{.Links}}/{{.Size}} {{end}}{{json .BuildCache}}"), "0/7B 2/3B []");
        assert!(!text.contains("virtual"), "{text}");
        assert!(text.contains("Build cache usage: 0B") && text.contains("LAST USED") && text.contains("N/A"), "{text}");
    }
}
