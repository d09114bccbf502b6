//! `enginectl stats`.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::time::Duration;

use engine_api::container::ContainerSummary;
use engine_api::stats::{BlkioEntry, CpuStats, MemoryStats, Stats};
use futures_util::stream::{self, StreamExt};

use super::path;
use crate::client::{Client, Query};
use crate::error::Error;
use crate::output::format::{Columns, Row, list};
use crate::output::screen::redrawn;
use crate::output::size;
use crate::session::Session;

/// Show what containers use, as a screen that is kept up to date
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Also those that do not run
    #[arg(short = 'a', long)]
    all: bool,
    /// Print by a template, table TEMPLATE, table or json
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Print it once
    #[arg(long)]
    no_stream: bool,
    /// Cut nothing off
    #[arg(long)]
    no_trunc: bool,
    /// In the order of this: name, cpu, memory, network, block or pids; the newest first when it is not given
    #[arg(long, value_name = "WHAT")]
    sort: Option<Order>,
    /// Names or ids; those that run when none are given
    #[arg(value_name = "CONTAINER")]
    containers: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Order {
    Name,
    Cpu,
    Memory,
    Network,
    Block,
    Pids,
}

const COLUMNS: Columns = &[
    ("Container", "CONTAINER"),
    ("ID", "CONTAINER ID"),
    ("Name", "NAME"),
    ("CPUPerc", "CPU %"),
    ("MemUsage", "MEM USAGE / LIMIT"),
    ("MemPerc", "MEM %"),
    ("NetIO", "NET I/O"),
    ("BlockIO", "BLOCK I/O"),
    ("PIDs", "PIDS"),
];
const SHOWN: &[&str] = &["ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs"];

/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(1);
/// How many requests are under way at once: most of the time of each the daemon waits.
const AT_ONCE: usize = 128;

pub(crate) async fn run(args: Args, session: &mut Session) -> Result<u8, Error> {
    let client = session.client()?;
    let mut before: HashMap<String, CpuStats> = HashMap::new();
    let mut at_once = true;
    loop {
        let began = tokio::time::Instant::now();
        // The first look is compared with a moment before by the daemon, each further one with the one before.
        let first = before.is_empty();
        let looks = if at_once { together(&args, &client, first).await? } else { None };
        let looks = match looks {
            Some(looks) => looks,
            None => {
                at_once = false;
                one_by_one(&args, &client, first).await?
            }
        };
        let mut uses = Vec::new();
        for (name, stats) in looks {
            let last = before.get(&stats.id).unwrap_or(&stats.precpu_stats);
            uses.push(Use::of(name, &stats, last));
            before.insert(stats.id, stats.cpu_stats);
        }
        if let Some(order) = args.sort {
            uses.sort_by(|one, other| one.compare(other, order));
        }
        let screen = session.io.stdout.is_terminal() && !args.no_stream && args.format.is_none();
        let rows = uses.iter().map(|usage| usage.row(args.no_trunc)).collect();
        let text = list(args.format.as_deref(), COLUMNS, SHOWN, rows, session.width().filter(|_| screen))?;
        session.print(if screen { redrawn(&text, session) } else { text })?;
        if args.no_stream {
            return Ok(0);
        }
        tokio::time::sleep_until(began + INTERVAL).await;
    }
}

/// All in one answer, which only this engine's own daemon gives; nothing from another.
async fn together(args: &Args, client: &Client, first: bool) -> Result<Option<Vec<(String, Stats)>>, Error> {
    let mut query = Query::new().flag("all", args.all).flag("one-shot", !first);
    for name in &args.containers {
        query = query.with("name", name);
    }
    let all: Vec<Stats> = match client.get_as("/containers/stats", &query).await {
        Err(Error::Daemon { status: 404, message }) if message == "page not found" => return Ok(None),
        answer => answer?,
    };
    let mut names = args.containers.iter().cloned();
    Ok(Some(all.into_iter().map(|stats| (names.next().unwrap_or_else(|| short(&stats.id)), stats)).collect()))
}

/// Each by a request of its own.
async fn one_by_one(args: &Args, client: &Client, first: bool) -> Result<Vec<(String, Stats)>, Error> {
    let query = Query::new().with("stream", "0").flag("one-shot", !first);
    let looks = stream::iter(names(args, client).await?).map(|name| {
        let (client, query) = (client.clone(), query.clone());
        async move { (client.get_as::<Stats>(&path(&name, "/stats"), &query).await, name) }
    });
    let mut all = Vec::new();
    for (stats, name) in looks.buffered(AT_ONCE).collect::<Vec<_>>().await {
        match stats {
            Ok(stats) if args.containers.is_empty() => all.push((short(&name), stats)),
            Ok(stats) => all.push((name, stats)),
            // It went between the list and the look.
            Err(Error::Daemon { status: 404, .. }) if args.containers.is_empty() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(all)
}

/// What a container is called that nobody named.
fn short(id: &str) -> String {
    id.chars().take(12).collect()
}

async fn names(args: &Args, client: &Client) -> Result<Vec<String>, Error> {
    if !args.containers.is_empty() {
        return Ok(args.containers.clone());
    }
    let query = Query::new().flag("all", args.all);
    let all: Vec<ContainerSummary> = client.get_as("/containers/json", &query).await?;
    Ok(all.into_iter().map(|container| container.id).collect())
}

/// What one container uses.
#[derive(Debug, Default)]
struct Use {
    container: String,
    id: String,
    name: String,
    runs: bool,
    cpu: f64,
    memory: u64,
    limit: u64,
    received: u64,
    sent: u64,
    read: u64,
    written: u64,
    pids: u64,
}

impl Use {
    fn of(container: String, stats: &Stats, before: &CpuStats) -> Self {
        let sum = |value: fn(&engine_api::stats::NetworkStats) -> u64| stats.networks.values().map(value).sum();
        let blocks = |letter: u8| {
            let entries = stats.blkio_stats.io_service_bytes_recursive.iter().flatten();
            entries.filter(|entry| of(entry, letter)).map(|entry| entry.value).sum()
        };
        Self {
            container,
            id: stats.id.clone(),
            name: stats.name.trim_start_matches('/').to_owned(),
            runs: stats.cpu_stats.system_cpu_usage > 0,
            cpu: percent_of_processors(&stats.cpu_stats, before),
            memory: without_cache(&stats.memory_stats),
            limit: stats.memory_stats.limit,
            received: sum(|network| network.rx_bytes),
            sent: sum(|network| network.tx_bytes),
            read: blocks(b'r'),
            written: blocks(b'w'),
            pids: stats.pids_stats.current,
        }
    }

    fn memory_percent(&self) -> f64 {
        if self.limit == 0 { 0.0 } else { 100.0 * ratio(self.memory, self.limit) }
    }

    fn compare(&self, other: &Self, order: Order) -> std::cmp::Ordering {
        match order {
            Order::Name => self.name.cmp(&other.name),
            Order::Cpu => other.cpu.total_cmp(&self.cpu),
            Order::Memory => other.memory.cmp(&self.memory),
            Order::Network => (other.received + other.sent).cmp(&(self.received + self.sent)),
            Order::Block => (other.read + other.written).cmp(&(self.read + self.written)),
            Order::Pids => other.pids.cmp(&self.pids),
        }
    }

    fn row(&self, whole: bool) -> Row {
        let bytes = |number: u64| size::decimal(i64::try_from(number).unwrap_or(i64::MAX));
        let memory = |number: u64| size::binary(i64::try_from(number).unwrap_or(i64::MAX));
        let or_none = |text: String| if self.runs { text } else { "--".to_owned() };
        let pair =
            |one: String, other: String| if self.runs { format!("{one} / {other}") } else { "-- / --".to_owned() };
        let id = if whole { self.id.clone() } else { short(&self.id) };
        Row::new([
            ("Container", self.container.as_str().into()),
            ("ID", id.into()),
            ("Name", self.name.as_str().into()),
            ("CPUPerc", or_none(format!("{:.2}%", self.cpu)).into()),
            ("MemUsage", pair(memory(self.memory), memory(self.limit)).into()),
            ("MemPerc", or_none(format!("{:.2}%", self.memory_percent())).into()),
            ("NetIO", pair(bytes(self.received), bytes(self.sent)).into()),
            ("BlockIO", pair(bytes(self.read), bytes(self.written)).into()),
            ("PIDs", or_none(self.pids.to_string()).into()),
        ])
    }
}

fn of(entry: &BlkioEntry, letter: u8) -> bool {
    entry.op.bytes().next().is_some_and(|first| first.eq_ignore_ascii_case(&letter))
}

#[allow(clippy::cast_precision_loss, reason = "shown with two digits")]
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// 100 for one processor that is used up.
fn percent_of_processors(now: &CpuStats, before: &CpuStats) -> f64 {
    let used = now.cpu_usage.total_usage.saturating_sub(before.cpu_usage.total_usage);
    let passed = now.system_cpu_usage.saturating_sub(before.system_cpu_usage);
    100.0 * f64::from(now.online_cpus.max(1)) * ratio(used, passed)
}

/// Memory without the files that the kernel can forget at once.
fn without_cache(memory: &MemoryStats) -> u64 {
    let cache = ["total_inactive_file", "inactive_file"].iter().find_map(|name| memory.stats.get(*name));
    cache.filter(|cache| **cache < memory.usage).map_or(memory.usage, |cache| memory.usage - cache)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const NOW: &str = r#"{"id":"0123456789abcdef","name":"/web","pids_stats":{"current":3},
        "cpu_stats":{"cpu_usage":{"total_usage":3000},"system_cpu_usage":20000,"online_cpus":2},
        "precpu_stats":{"cpu_usage":{"total_usage":1000},"system_cpu_usage":12000},
        "memory_stats":{"usage":3145728,"limit":4194304,"stats":{"inactive_file":1048576}},
        "blkio_stats":{"io_service_bytes_recursive":[{"op":"Read","value":1000},{"op":"write","value":2000},{"op":"Total","value":3000}]},
        "networks":{"eth0":{"rx_bytes":500,"tx_bytes":7},"eth1":{"rx_bytes":500}}}"#;

    fn usage() -> Use {
        let stats: Stats = serde_json::from_str(NOW).unwrap();
        Use::of("web".to_owned(), &stats, &stats.precpu_stats)
    }

    #[test]
    fn a_line_reads_as_docker_s() {
        let text = list(None, COLUMNS, SHOWN, vec![usage().row(false)], None).unwrap();
        let mut lines = text.lines();
        assert!(lines.next().unwrap().starts_with("CONTAINER ID   NAME"));
        let words: Vec<_> = lines.next().unwrap().split_whitespace().collect();
        assert_eq!(words.join(" "), "0123456789ab web 50.00% 2MiB / 4MiB 50.00% 1kB / 7B 1kB / 2kB 3");
    }

    #[test]
    fn one_that_does_not_run_has_no_numbers() {
        let stats = Stats { id: "0123456789abcdef".to_owned(), name: "/off".to_owned(), ..Stats::default() };
        let usage = Use::of("off".to_owned(), &stats, &CpuStats::default());
        let text =
            list(Some("{{.Name}} {{.CPUPerc}} {{.MemUsage}} {{.PIDs}}"), COLUMNS, SHOWN, vec![usage.row(true)], None);
        assert_eq!(text.unwrap(), "off -- -- / -- --\n");
    }

    #[test]
    fn the_most_comes_first() {
        let less = Use { cpu: 1.0, memory: 9, name: "b".to_owned(), ..Use::default() };
        let more = Use { cpu: 2.0, memory: 1, name: "a".to_owned(), ..Use::default() };
        assert!(more.compare(&less, Order::Cpu).is_lt() && more.compare(&less, Order::Memory).is_gt());
        assert!(more.compare(&less, Order::Name).is_lt() && more.compare(&less, Order::Pids).is_eq());
    }
}
