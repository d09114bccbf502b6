//! What a container uses: samples of its cgroup, its network and the machine's time, taken when somebody asks.

use std::sync::Arc;
use std::time::Duration;

use engine_runtime::cgroup::{CpuUsage, Usage};

use super::inventory::{blocking, now};
use super::{Container, Containers, Error, NetworkMode};

/// A sample that was taken between so long and so long ago is good to compare with.
const COMPARABLE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));
/// How long two samples are apart when there is none to compare with.
const APART: Duration = Duration::from_millis(100);
/// The most that is read of a file of interfaces.
const MAX_LEN: u64 = 1 << 20;

/// What a container had used at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sample {
    /// When, in nanoseconds since 1970.
    pub at: i64,
    /// Processors, memory, processes and disks.
    pub usage: Usage,
    /// Processors, memory and the others are counted by cgroups of version 1.
    pub version_one: bool,
    /// Time that all processors of the machine have had since its start, in nanoseconds.
    pub system: u64,
    /// Processors of the machine.
    pub processors: u32,
    /// Memory of the machine, in bytes.
    pub memory: u64,
    /// Its network interfaces, the loopback apart; none when it has the host's.
    pub interfaces: Vec<InterfaceUsage>,
}

impl Sample {
    /// The sample of the same container at its start, when it had used nothing.
    fn at_start(&self, started: i64) -> Self {
        let elapsed = u64::try_from(self.at - started).unwrap_or(0).saturating_mul(u64::from(self.processors));
        let by_processor = vec![0; self.usage.cpu.by_processor.len()];
        let cpu = CpuUsage { by_processor, ..CpuUsage::default() };
        let usage = Usage { cpu, ..Usage::default() };
        Self { at: started, usage, system: self.system.saturating_sub(elapsed), interfaces: Vec::new(), ..*self }
    }
}

/// What went over a network interface since it was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct InterfaceUsage {
    /// Its name in the container.
    pub name: String,
    /// Received.
    pub received: Traffic,
    /// Sent.
    pub sent: Traffic,
}

/// One direction of an interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Traffic {
    /// Bytes.
    pub bytes: u64,
    /// Packets.
    pub packets: u64,
    /// Packets that were broken.
    pub errors: u64,
    /// Packets that were dropped.
    pub dropped: u64,
}

impl Container {
    /// What it has used so far; nothing when it does not run.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub async fn sample(&self) -> Result<Option<Arc<Sample>>, Error> {
        let this = self.clone();
        blocking(move || this.measure(online_processors())).await
    }

    fn measure(&self, processors: u32) -> Result<Option<Arc<Sample>>, Error> {
        let record = self.inner.record();
        let Some(live) = self.inner.live().filter(|_| record.state.status.has_process()) else { return Ok(None) };
        let runtime = &self.shared.parts.runtime;
        let cgroup = runtime.cgroup(record.id.as_str())?;
        let usage = match cgroup.usage() {
            Ok(usage) => usage,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("measure the cgroup", cgroup.path(), error)),
        };
        let has_own = record.config.host.network_mode != NetworkMode::Host;
        let interfaces = if has_own { interfaces(live.pid) } else { Vec::new() };
        if live.has_ended() {
            return Ok(None);
        }
        let layout = &runtime.host().cgroups;
        let version_one =
            layout.hierarchies.iter().any(|hierarchy| hierarchy.controllers.iter().any(|name| name == "memory"));
        let machine = rustix::system::sysinfo();
        let memory = u64::from(machine.mem_unit).saturating_mul(machine.totalram);
        let system = machine_time(processors);
        let sample = Arc::new(Sample { at: now(), usage, version_one, system, processors, memory, interfaces });
        self.inner.keep_sample(Arc::clone(&sample));
        Ok(Some(sample))
    }

    /// A sample that was taken not too long ago, and in this run.
    fn comparable(&self) -> Option<Arc<Sample>> {
        let started = self.inner.record().state.started_at;
        self.inner.kept_sample().filter(|kept| kept.at > started && is_comparable(kept.at))
    }

    /// What it has used so far, and an earlier sample to compare with, which takes a tenth of a second when nobody has asked
    /// in the last ten seconds and it has run for longer; nothing when it does not run.
    ///
    /// # Errors
    /// As [`Container::sample`].
    pub async fn sample_twice(&self) -> Result<Option<(Arc<Sample>, Arc<Sample>)>, Error> {
        let started = self.inner.record().state.started_at;
        let before = match self.comparable() {
            Some(kept) => kept,
            None if is_comparable(started) => {
                return Ok(self.sample().await?.map(|now| (Arc::new(now.at_start(started)), now)));
            }
            None => {
                let Some(first) = self.sample().await? else { return Ok(None) };
                tokio::time::sleep(APART).await;
                first
            }
        };
        Ok(self.sample().await?.map(|now| (before, now)))
    }
}

impl Containers {
    /// What several containers have used so far, at nearly one moment and in their order; nothing of one that does not run.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub async fn samples(&self, containers: &[Container]) -> Result<Vec<Option<Arc<Sample>>>, Error> {
        let containers = containers.to_vec();
        blocking(move || {
            let processors = online_processors();
            containers.iter().map(|container| container.measure(processors)).collect()
        })
        .await
    }

    /// As [`Containers::samples`], with an earlier sample of each to compare with: it takes a tenth of a second for all together
    /// when there is none of the last ten.
    ///
    /// # Errors
    /// As [`Containers::samples`].
    pub async fn samples_twice(
        &self,
        containers: &[Container],
    ) -> Result<Vec<Option<(Arc<Sample>, Arc<Sample>)>>, Error> {
        let started: Vec<i64> = containers.iter().map(|one| one.inner.record().state.started_at).collect();
        let mut before: Vec<_> = containers.iter().map(Container::comparable).collect();
        let lacks = |(before, started): (&Option<Arc<Sample>>, &i64)| before.is_none() && !is_comparable(*started);
        let runs = |one: &Container| one.inner.record().state.status.has_process();
        if before.iter().zip(&started).map(lacks).zip(containers).any(|(lacks, one)| lacks && runs(one)) {
            let first = self.samples(containers).await?;
            tokio::time::sleep(APART).await;
            before = before.into_iter().zip(first).map(|(kept, first)| kept.or(first)).collect();
        }
        let last = self.samples(containers).await?;
        let pairs = before.into_iter().zip(started).zip(last);
        Ok(pairs
            .map(|((before, started), last)| {
                last.map(|last| (before.unwrap_or_else(|| Arc::new(last.at_start(started))), last))
            })
            .collect())
    }
}

/// Whether a moment was not too short and not too long ago.
fn is_comparable(at: i64) -> bool {
    let age = Duration::from_nanos(u64::try_from(now() - at).unwrap_or(0));
    (COMPARABLE.0..=COMPARABLE.1).contains(&age)
}

/// The time of so many processors together. Ticks of `/proc/stat` are too coarse for short intervals.
fn machine_time(processors: u32) -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let nanos = u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0);
    nanos.saturating_mul(u64::from(processors))
}

/// How many processors the machine has.
fn online_processors() -> u32 {
    let processors = std::thread::available_parallelism().map_or(1, |count| u32::try_from(count.get()).unwrap_or(1));
    let online = std::fs::read_to_string("/sys/devices/system/cpu/online").ok().and_then(|text| count(text.trim()));
    online.unwrap_or(processors)
}

/// How many numbers a list such as `0-2,7` has.
fn count(list: &str) -> Option<u32> {
    let length = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        last.parse::<u32>().ok()?.checked_sub(first.parse().ok()?)?.checked_add(1)
    };
    list.split(',').map(length).sum::<Option<u32>>().filter(|count| *count > 0)
}

fn interfaces(pid: u32) -> Vec<InterfaceUsage> {
    use std::io::Read as _;
    let mut text = String::new();
    if let Ok(file) = std::fs::File::open(format!("/proc/{pid}/net/dev")) {
        // One that has gone has none.
        let _ = file.take(MAX_LEN).read_to_string(&mut text);
    }
    parse(&text)
}

/// Two lines of headings, then `name: received… sent…`, eight numbers each.
fn parse(text: &str) -> Vec<InterfaceUsage> {
    let line = |line: &str| {
        let (name, numbers) = line.split_once(':')?;
        let numbers: Vec<u64> = numbers.split_whitespace().map_while(|number| number.parse().ok()).collect();
        let traffic = |at: usize| {
            let [bytes, packets, errors, dropped] = *numbers.get(at..at + 4)?.first_chunk()?;
            Some(Traffic { bytes, packets, errors, dropped })
        };
        let name = name.trim();
        (name != "lo").then_some(())?;
        Some(InterfaceUsage { name: name.to_owned(), received: traffic(0)?, sent: traffic(8)? })
    };
    text.lines().skip(2).filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_are_read() {
        let text = "Inter-|   Receive |  Transmit\n face |bytes packets\n    lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n  eth0:1234 5 6 7 0 0 0 0 890 1 2 3 0 0 0 0\nbad: 1 2\n";
        let traffic = |bytes, packets, errors, dropped| Traffic { bytes, packets, errors, dropped };
        let eth0 =
            InterfaceUsage { name: "eth0".to_owned(), received: traffic(1234, 5, 6, 7), sent: traffic(890, 1, 2, 3) };
        assert_eq!(parse(text), [eth0]);
        assert!(parse("").is_empty());
    }

    #[test]
    fn at_its_start_a_container_had_used_nothing() {
        let cpu = CpuUsage { total: 700, by_processor: vec![300, 400], ..CpuUsage::default() };
        let usage = Usage { cpu, ..Usage::default() };
        let sample = Sample { at: 5000, usage, system: 90_000, processors: 2, memory: 7, ..Sample::default() };
        let start = sample.at_start(2000);
        assert_eq!((start.at, start.system, start.usage.cpu.total), (2000, 84_000, 0));
        assert_eq!((start.usage.cpu.by_processor.as_slice(), start.processors, start.memory), (&[0, 0][..], 2, 7));
    }

    #[test]
    fn processors_are_counted() {
        assert_eq!(
            [count("0"), count("0-3"), count("0-1,4,6-7"), count(""), count("3-1")],
            [Some(1), Some(4), Some(5), None, None]
        );
        let processors = online_processors();
        let time = machine_time(processors);
        assert!(processors > 0 && machine_time(processors) >= time);
    }
}
