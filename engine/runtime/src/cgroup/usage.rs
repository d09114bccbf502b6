//! What a container has used.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use super::{Cgroup, files};

/// What a container has used so far. What this machine does not count is zero, empty or `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processors.
    pub cpu: CpuUsage,
    /// Memory.
    pub memory: MemoryUsage,
    /// Processes and threads.
    pub pids: PidsUsage,
    /// Disks.
    pub io: Vec<IoUsage>,
}

/// Time on processors, in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuUsage {
    /// All of it.
    pub total: u64,
    /// In programs.
    pub user: u64,
    /// In the kernel.
    pub system: u64,
    /// By processor; empty in version 2.
    pub by_processor: Vec<u64>,
    /// Periods of the quota in which something ran.
    pub periods: u64,
    /// Periods in which the quota was used up.
    pub throttled_periods: u64,
    /// How long processes had to wait for the next period.
    pub throttled: u64,
}

/// Memory, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryUsage {
    /// Now, with the cache of files.
    pub usage: u64,
    /// The most so far.
    pub peak: Option<u64>,
    /// The limit; `None` is none.
    pub limit: Option<u64>,
    /// How often the limit was hit.
    pub failures: u64,
    /// Every number of `memory.stat`.
    pub details: BTreeMap<String, u64>,
}

/// Processes and threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PidsUsage {
    /// Now.
    pub current: u64,
    /// The limit; `None` is none.
    pub limit: Option<u64>,
}

/// What went to and from a disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IoUsage {
    /// The major number of the disk.
    pub major: u32,
    /// Its minor number.
    pub minor: u32,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub write_bytes: u64,
    /// Reads.
    pub reads: u64,
    /// Writes.
    pub writes: u64,
}

/// Version 1 counts in hundredths of a second.
const TICK: u64 = 10_000_000;

impl Cgroup {
    /// What it has used so far: about a dozen short reads.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] when it does not exist. A single number that cannot be read is taken as not counted.
    pub fn usage(&self) -> io::Result<Usage> {
        if !self.exists() {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(Usage { cpu: self.cpu(), memory: self.memory(), pids: self.pids_usage(), io: self.io() })
    }

    fn cpu(&self) -> CpuUsage {
        let mut usage = CpuUsage::default();
        if let Some(directory) = self.places.controller("cpuacct") {
            usage.total = number(&directory, "cpuacct.usage");
            let ticks = table(&directory, "cpuacct.stat");
            usage.user = get(&ticks, "user") * TICK;
            usage.system = get(&ticks, "system") * TICK;
            let all = files::read(&directory.join("cpuacct.usage_percpu")).unwrap_or_default();
            usage.by_processor = all.split_whitespace().filter_map(|number| number.parse().ok()).collect();
        }
        if let Some(directory) = self.places.controller("cpu") {
            let stat = table(&directory, "cpu.stat");
            usage.periods = get(&stat, "nr_periods");
            usage.throttled_periods = get(&stat, "nr_throttled");
            usage.throttled = get(&stat, "throttled_time");
        } else if let Some(directory) = self.places.unified() {
            let stat = table(&directory, "cpu.stat");
            let nanos = |name| get(&stat, name).saturating_mul(1000);
            (usage.total, usage.user, usage.system) = (nanos("usage_usec"), nanos("user_usec"), nanos("system_usec"));
            usage.periods = get(&stat, "nr_periods");
            usage.throttled_periods = get(&stat, "nr_throttled");
            usage.throttled = nanos("throttled_usec");
        }
        usage
    }

    fn memory(&self) -> MemoryUsage {
        let mut usage = MemoryUsage::default();
        if let Some(directory) = self.places.controller("memory") {
            usage.usage = number(&directory, "memory.usage_in_bytes");
            usage.peak = files::number(&directory.join("memory.max_usage_in_bytes")).ok().flatten();
            usage.limit = files::number(&directory.join("memory.limit_in_bytes")).ok().flatten();
            usage.failures = number(&directory, "memory.failcnt");
            usage.details = table(&directory, "memory.stat");
        } else if let Some(directory) = self.places.unified() {
            usage.usage = number(&directory, "memory.current");
            usage.peak = files::number(&directory.join("memory.peak")).ok().flatten();
            usage.limit = files::number(&directory.join("memory.max")).ok().flatten();
            usage.failures = get(&table(&directory, "memory.events"), "max");
            usage.details = table(&directory, "memory.stat");
        }
        usage
    }

    fn pids_usage(&self) -> PidsUsage {
        let Some(directory) = self.places.controller("pids").or_else(|| self.places.unified()) else {
            return PidsUsage::default();
        };
        PidsUsage {
            current: number(&directory, "pids.current"),
            limit: files::number(&directory.join("pids.max")).ok().flatten(),
        }
    }

    fn io(&self) -> Vec<IoUsage> {
        if let Some(directory) = self.places.controller("blkio") {
            let read = |name| files::read(&directory.join(name)).unwrap_or_default();
            return throttle(
                &read("blkio.throttle.io_service_bytes_recursive"),
                &read("blkio.throttle.io_serviced_recursive"),
            );
        }
        self.places
            .unified()
            .map_or(Vec::new(), |directory| io_stat(&files::read(&directory.join("io.stat")).unwrap_or_default()))
    }
}

fn number(directory: &Path, file: &str) -> u64 {
    files::number(&directory.join(file)).ok().flatten().unwrap_or(0)
}

fn table(directory: &Path, file: &str) -> BTreeMap<String, u64> {
    files::table(&directory.join(file)).unwrap_or_default().into_iter().collect()
}

fn get(table: &BTreeMap<String, u64>, name: &str) -> u64 {
    table.get(name).copied().unwrap_or(0)
}

fn device(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// Lines `8:0 Read 4096` of version 1.
fn throttle(bytes: &str, counts: &str) -> Vec<IoUsage> {
    let mut disks: BTreeMap<(u32, u32), IoUsage> = BTreeMap::new();
    for (text, counting) in [(bytes, false), (counts, true)] {
        for line in text.lines() {
            let mut words = line.split(' ');
            let (Some(device), Some(what), Some(Ok(number))) =
                (words.next().and_then(device), words.next(), words.next().map(str::parse))
            else {
                continue;
            };
            let disk = disks.entry(device).or_default();
            (disk.major, disk.minor) = device;
            match (what, counting) {
                ("Read", false) => disk.read_bytes = number,
                ("Write", false) => disk.write_bytes = number,
                ("Read", true) => disk.reads = number,
                ("Write", true) => disk.writes = number,
                _ => {}
            }
        }
    }
    disks.into_values().collect()
}

/// Lines `8:0 rbytes=4096 wbytes=0 …` of version 2.
fn io_stat(text: &str) -> Vec<IoUsage> {
    let line = |line: &str| {
        let (at, rest) = line.split_once(' ')?;
        let (major, minor) = device(at)?;
        let mut disk = IoUsage { major, minor, ..IoUsage::default() };
        for (name, number) in rest.split(' ').filter_map(|word| word.split_once('=')) {
            let number = number.parse().unwrap_or(0);
            match name {
                "rbytes" => disk.read_bytes = number,
                "wbytes" => disk.write_bytes = number,
                "rios" => disk.reads = number,
                "wios" => disk.writes = number,
                _ => {}
            }
        }
        Some(disk)
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_tell_the_same_of_disks() {
        let one = throttle("8:0 Read 4096\n8:0 Write 10\n8:0 Total 4106\nTotal 4106\n", "8:0 Read 1\n8:0 Write 2\n");
        let two = io_stat("8:0 rbytes=4096 wbytes=10 rios=1 wios=2 dbytes=0 dios=0\nnonsense\n");
        assert_eq!(one, two);
        assert_eq!(one[0].writes, 2);
    }
}
