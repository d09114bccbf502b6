//! What a container may take: what makes sense, what this machine can bound, and changing it while the container runs.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use engine_runtime::cgroup::Layout;
use engine_runtime::spec::{LinuxBlockIo, LinuxThrottleDeviceBuilder, LinuxWeightDeviceBuilder};

use super::Error;
use super::host_config::{DeviceRate, Resources};

/// The least memory, in bytes.
const MIN_MEMORY: i64 = 6 << 20;

/// What this machine can bound.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Abilities {
    /// Memory.
    pub memory: bool,
    /// Swap.
    pub swap: bool,
    /// Memory that is kept when the host runs short.
    pub reservation: bool,
    /// How readily memory is swapped.
    pub swappiness: bool,
    /// Stopping in place of killing when memory is used up.
    pub oom_kill_disable: bool,
    /// Shares of the processors.
    pub cpu_shares: bool,
    /// Periods and quotas of the processors.
    pub cpu_quota: bool,
    /// Real-time processor time.
    pub cpu_realtime: bool,
    /// Sets of processors.
    pub cpuset: bool,
    /// Processes.
    pub pids: bool,
    /// Shares of disks.
    pub io_weight: bool,
    /// Shares of single disks.
    pub io_weight_device: bool,
    /// Rates of single disks.
    pub io_rate: bool,
    /// The processors that there are, as `0-3`.
    pub cpus: String,
    /// The memory nodes that there are.
    pub mems: String,
}

impl Abilities {
    /// Looks at the mounted hierarchies.
    pub(crate) fn look(layout: &Layout) -> Self {
        let one = |controller: &str| {
            layout.hierarchies.iter().find(|hierarchy| hierarchy.controllers.iter().any(|name| name == controller))
        };
        let has_one =
            |controller: &str, file: &str| one(controller).is_some_and(|hierarchy| hierarchy.mount.join(file).exists());
        let two = |controller: &str| {
            layout.unified.as_ref().filter(|unified| unified.controllers.iter().any(|name| name == controller))
        };
        // The root of version 2 has none of the files that bound: the first cgroup below it does.
        let below = layout.unified.as_ref().and_then(|unified| first_directory(&unified.mount));
        let has_two = |controller: &str, file: &str| {
            two(controller).is_some() && below.as_ref().is_none_or(|below| below.join(file).exists())
        };
        let list = |file: &str| {
            let path = one("cpuset").map(|hierarchy| hierarchy.mount.join(file));
            let path = path.or_else(|| two("cpuset").map(|unified| unified.mount.join(format!("{file}.effective"))));
            path.and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default().trim().to_owned()
        };
        let weights = ["blkio.weight", "blkio.bfq.weight"];
        let devices = ["blkio.weight_device", "blkio.bfq.weight_device"];
        Self {
            memory: one("memory").is_some() || two("memory").is_some(),
            swap: has_one("memory", "memory.memsw.limit_in_bytes") || has_two("memory", "memory.swap.max"),
            reservation: one("memory").is_some() || two("memory").is_some(),
            swappiness: has_one("memory", "memory.swappiness"),
            oom_kill_disable: has_one("memory", "memory.oom_control"),
            cpu_shares: one("cpu").is_some() || two("cpu").is_some(),
            cpu_quota: has_one("cpu", "cpu.cfs_quota_us") || has_two("cpu", "cpu.max"),
            cpu_realtime: has_one("cpu", "cpu.rt_runtime_us"),
            cpuset: one("cpuset").is_some() || two("cpuset").is_some(),
            pids: one("pids").is_some() || two("pids").is_some(),
            io_weight: weights.iter().any(|file| has_one("blkio", file))
                || ["io.weight", "io.bfq.weight"].iter().any(|file| has_two("io", file)),
            io_weight_device: devices.iter().any(|file| has_one("blkio", file))
                || ["io.weight", "io.bfq.weight"].iter().any(|file| has_two("io", file)),
            io_rate: has_one("blkio", "blkio.throttle.read_bps_device") || has_two("io", "io.max"),
            cpus: list("cpuset.cpus"),
            mems: list("cpuset.mems"),
        }
    }

    /// Takes out what this machine cannot bound; answers Docker's warnings, one for each.
    pub(super) fn discard(&self, resources: &mut Resources) -> Vec<String> {
        let mut warnings = Vec::new();
        let mut warn = |missing: bool, text: &str| {
            if missing {
                warnings.push(text.to_owned());
            }
            missing
        };
        if warn(
            resources.memory > 0 && !self.memory,
            "Your kernel does not support memory limit capabilities or the cgroup is not mounted. Limitation discarded.",
        ) {
            (resources.memory, resources.memory_swap) = (0, -1);
        }
        if warn(
            resources.memory > 0 && resources.memory_swap != -1 && !self.swap,
            "Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited without swap.",
        ) {
            resources.memory_swap = -1;
        }
        if warn(
            resources.memory_swappiness.is_some() && !self.swappiness,
            "Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. Memory swappiness discarded.",
        ) {
            resources.memory_swappiness = None;
        }
        if warn(
            resources.memory_reservation > 0 && !self.reservation,
            "Your kernel does not support memory soft limit capabilities or the cgroup is not mounted. Limitation discarded.",
        ) {
            resources.memory_reservation = 0;
        }
        if warn(
            resources.oom_kill_disable && !self.oom_kill_disable,
            "Your kernel does not support OomKillDisable. OomKillDisable discarded.",
        ) {
            resources.oom_kill_disable = false;
        }
        warn(
            resources.oom_kill_disable && resources.memory == 0,
            "OOM killer is disabled for the container, but no memory limit is set, this can result in the system running out of resources.",
        );
        if warn(
            resources.pids_limit.is_some_and(|limit| limit > 0) && !self.pids,
            "Your kernel does not support PIDs limit capabilities or the cgroup is not mounted. PIDs limit discarded.",
        ) {
            resources.pids_limit = None;
        }
        if warn(
            resources.cpu_shares > 0 && !self.cpu_shares,
            "Your kernel does not support CPU shares or the cgroup is not mounted. Shares discarded.",
        ) {
            resources.cpu_shares = 0;
        }
        if warn(
            (resources.cpu_period != 0 || resources.cpu_quota != 0) && !self.cpu_quota,
            "Your kernel does not support CPU CFS scheduler. CPU period/quota discarded.",
        ) {
            (resources.cpu_period, resources.cpu_quota) = (0, 0);
        }
        if warn(
            (!resources.cpuset_cpus.is_empty() || !resources.cpuset_mems.is_empty()) && !self.cpuset,
            "Your kernel does not support cpuset or the cgroup is not mounted. Cpuset discarded.",
        ) {
            resources.cpuset_cpus.clear();
            resources.cpuset_mems.clear();
        }
        if warn(
            resources.blkio_weight > 0 && !self.io_weight,
            "Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded.",
        ) {
            resources.blkio_weight = 0;
        }
        if warn(
            !resources.blkio_weight_devices.is_empty() && !self.io_weight_device,
            "Your kernel does not support Block I/O weight_device or the cgroup is not mounted. Weight-device discarded.",
        ) {
            resources.blkio_weight_devices.clear();
        }
        for (rates, text) in [
            (
                &mut resources.device_read_bps,
                "Your kernel does not support BPS Block I/O read limit or the cgroup is not mounted. Block I/O BPS read limit discarded.",
            ),
            (
                &mut resources.device_write_bps,
                "Your kernel does not support BPS Block I/O write limit or the cgroup is not mounted. Block I/O BPS write limit discarded.",
            ),
            (
                &mut resources.device_read_iops,
                "Your kernel does not support IOPS Block read limit or the cgroup is not mounted. Block I/O IOPS read limit discarded.",
            ),
            (
                &mut resources.device_write_iops,
                "Your kernel does not support IOPS Block write limit or the cgroup is not mounted. Block I/O IOPS write limit discarded.",
            ),
        ] {
            if warn(!rates.is_empty() && !self.io_rate, text) {
                rates.clear();
            }
        }
        warnings
    }

    /// Refuses what is not there on this machine.
    pub(super) fn check(&self, resources: &Resources) -> Result<(), Error> {
        if (resources.cpu_realtime_period != 0 || resources.cpu_realtime_runtime != 0) && !self.cpu_realtime {
            return Err(Error::invalid("Your kernel does not support CPU real-time scheduler"));
        }
        if resources.nano_cpus > 0 && !self.cpu_quota {
            return Err(Error::invalid(
                "NanoCPUs can not be set, as your kernel does not support CPU CFS scheduler or the cgroup is not mounted",
            ));
        }
        for (asked, there, what) in
            [(&resources.cpuset_cpus, &self.cpus, "CPUs"), (&resources.cpuset_mems, &self.mems, "memory nodes")]
        {
            let known = numbers(there).unwrap_or_default();
            if !known.is_empty() && !numbers(asked).unwrap_or_default().is_subset(&known) {
                return Err(Error::invalid(format!(
                    "Requested {what} are not available - requested {asked}, available: {there}"
                )));
            }
        }
        Ok(())
    }
}

fn first_directory(mount: &Path) -> Option<PathBuf> {
    std::fs::read_dir(mount).ok()?.flatten().map(|entry| entry.path()).find(|path| path.is_dir())
}

/// The numbers of a list such as `0-2,7`; nothing when it is none.
fn numbers(list: &str) -> Option<BTreeSet<u32>> {
    const MOST: u32 = 8192;
    let mut all = BTreeSet::new();
    for part in list.split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || last > MOST {
            return None;
        }
        all.extend(first..=last);
    }
    Some(all)
}

/// Refuses what makes no sense on any machine, in Docker's words. `update` is of a container that has bounds already.
pub(super) fn check(resources: &Resources, cpus: usize, update: bool) -> Result<(), Error> {
    let invalid = |text: &str| Err(Error::invalid(text));
    let memory = resources.memory;
    if memory != 0 && memory < MIN_MEMORY {
        return invalid("Minimum memory limit allowed is 6MB");
    }
    if memory > 0 && resources.memory_swap > 0 && resources.memory_swap < memory {
        return invalid("Minimum memoryswap limit should be larger than memory limit, see usage");
    }
    if memory == 0 && resources.memory_swap > 0 && !update {
        return invalid("You should always set the Memory limit when using Memoryswap limit, see usage");
    }
    if resources.memory_swap < -1 {
        return Err(Error::invalid(format!("invalid memory and swap limit: {}", resources.memory_swap)));
    }
    if resources.memory_reservation != 0 && resources.memory_reservation < MIN_MEMORY {
        return invalid("Minimum memory reservation allowed is 6MB");
    }
    if memory > 0 && resources.memory_reservation > memory {
        return invalid("Minimum memory limit can not be less than memory reservation limit, see usage");
    }
    if let Some(swappiness) = resources.memory_swappiness
        && !(0..=100).contains(&swappiness)
    {
        return Err(Error::invalid(format!("Invalid value: {swappiness}, valid memory swappiness range is 0-100")));
    }
    if resources.nano_cpus != 0 {
        if resources.cpu_period > 0 {
            return invalid("Conflicting options: Nano CPUs and CPU Period cannot both be set");
        }
        if resources.cpu_quota > 0 {
            return invalid("Conflicting options: Nano CPUs and CPU Quota cannot both be set");
        }
        // A hundredth is the least that the kernel can give out.
        if resources.nano_cpus < 10_000_000
            || resources.nano_cpus > i64::try_from(cpus).unwrap_or(i64::MAX).saturating_mul(1_000_000_000)
        {
            return Err(Error::invalid(format!(
                "range of CPUs is from 0.01 to {cpus}.00, as there are only {cpus} CPUs available"
            )));
        }
    }
    if resources.cpu_period != 0 && !(1000..=1_000_000).contains(&resources.cpu_period) {
        return invalid("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)");
    }
    if resources.cpu_quota > 0 && resources.cpu_quota < 1000 {
        return invalid("CPU cfs quota can not be less than 1ms (i.e. 1000)");
    }
    if resources.cpu_shares < 0 {
        return Err(Error::invalid(format!(
            "invalid CPU shares ({}): value must be a positive integer",
            resources.cpu_shares
        )));
    }
    let period = if resources.cpu_realtime_period == 0 { 1_000_000 } else { resources.cpu_realtime_period };
    if period < 0 || resources.cpu_realtime_runtime > period {
        return invalid("cpu real-time runtime cannot be higher than cpu real-time period");
    }
    if resources.blkio_weight > 0 && !(10..=1000).contains(&resources.blkio_weight) {
        return invalid("Range of blkio weight is from 10 to 1000");
    }
    for (set, what) in [(&resources.cpuset_cpus, "cpus"), (&resources.cpuset_mems, "mems")] {
        if numbers(set).is_none() {
            return Err(Error::invalid(format!("Invalid value {set} for cpuset {what}")));
        }
    }
    block_io(resources).map(drop)
}

/// The bounds of disks; the devices are looked up.
pub(super) fn block_io(resources: &Resources) -> Result<Option<LinuxBlockIo>, Error> {
    let mut block = LinuxBlockIo::default();
    let mut any = resources.blkio_weight > 0;
    if any {
        block.set_weight(Some(resources.blkio_weight));
    }
    if !resources.blkio_weight_devices.is_empty() {
        any = true;
        let mut devices = Vec::new();
        for device in &resources.blkio_weight_devices {
            if device.weight > 0 && !(10..=1000).contains(&device.weight) {
                return Err(Error::invalid(format!("invalid weight for device: {}:{}", device.path, device.weight)));
            }
            let (major, minor) = disk(&device.path)?;
            let weight = LinuxWeightDeviceBuilder::default().major(major).minor(minor).weight(device.weight).build();
            devices.push(weight.map_err(unbuilt)?);
        }
        block.set_weight_device(Some(devices));
    }
    let rates = |asked: &[DeviceRate]| {
        let rate = |asked: &DeviceRate| {
            let (major, minor) = disk(&asked.path)?;
            LinuxThrottleDeviceBuilder::default().major(major).minor(minor).rate(asked.rate).build().map_err(unbuilt)
        };
        asked
            .iter()
            .map(rate)
            .collect::<Result<Vec<_>, Error>>()
            .map(|rates| Some(rates).filter(|rates| !rates.is_empty()))
    };
    let all = [
        rates(&resources.device_read_bps)?,
        rates(&resources.device_write_bps)?,
        rates(&resources.device_read_iops)?,
        rates(&resources.device_write_iops)?,
    ];
    any |= all.iter().any(Option::is_some);
    let [read_bps, write_bps, read_iops, write_iops] = all;
    block
        .set_throttle_read_bps_device(read_bps)
        .set_throttle_write_bps_device(write_bps)
        .set_throttle_read_iops_device(read_iops)
        .set_throttle_write_iops_device(write_iops);
    Ok(any.then_some(block))
}

fn unbuilt(error: impl std::fmt::Display) -> Error {
    Error::Internal(format!("say what a disk may do: {error}"))
}

/// The numbers of a device of the host.
fn disk(path: &str) -> Result<(i64, i64), Error> {
    use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
    let wrong = |why: String| Error::invalid(format!("device {path:?}: {why}"));
    if !path.starts_with('/') {
        return Err(wrong("it is not an absolute path".to_owned()));
    }
    let found = std::fs::metadata(path).map_err(|error| wrong(error.to_string()))?;
    if !found.file_type().is_block_device() && !found.file_type().is_char_device() {
        return Err(wrong("it is not a device".to_owned()));
    }
    Ok((rustix::fs::major(found.rdev()).into(), rustix::fs::minor(found.rdev()).into()))
}

/// The bounds after a change of those that `change` names; 0 and nothing leave what was there.
pub(super) fn changed(now: &Resources, change: &Resources) -> Result<Resources, Error> {
    let conflict = |text: &str| Err(Error::conflict(text));
    if change.nano_cpus > 0 && now.cpu_period > 0 {
        return conflict("Conflicting options: Nano CPUs cannot be updated as CPU Period has already been set");
    }
    if change.nano_cpus > 0 && now.cpu_quota > 0 {
        return conflict("Conflicting options: Nano CPUs cannot be updated as CPU Quota has already been set");
    }
    if change.cpu_period > 0 && now.nano_cpus > 0 {
        return conflict("Conflicting options: CPU Period cannot be updated as NanoCPUs has already been set");
    }
    if change.cpu_quota > 0 && now.nano_cpus > 0 {
        return conflict("Conflicting options: CPU Quota cannot be updated as NanoCPUs has already been set");
    }
    // One that may swap without bound (-1) has no limit to stay below.
    if change.memory > now.memory_swap && now.memory_swap >= 0 && change.memory_swap == 0 {
        return conflict(
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time",
        );
    }
    let number = |new: i64, old: i64| if new == 0 { old } else { new };
    let text = |new: &str, old: &str| if new.is_empty() { old.to_owned() } else { new.to_owned() };
    let rates = |new: &[DeviceRate], old: &[DeviceRate]| if new.is_empty() { old.to_vec() } else { new.to_vec() };
    let after = Resources {
        memory: number(change.memory, now.memory),
        memory_swap: number(change.memory_swap, now.memory_swap),
        memory_reservation: number(change.memory_reservation, now.memory_reservation),
        memory_swappiness: now.memory_swappiness,
        oom_kill_disable: now.oom_kill_disable,
        cpu_shares: number(change.cpu_shares, now.cpu_shares),
        cpu_period: number(change.cpu_period, now.cpu_period),
        cpu_quota: number(change.cpu_quota, now.cpu_quota),
        nano_cpus: number(change.nano_cpus, now.nano_cpus),
        cpuset_cpus: text(&change.cpuset_cpus, &now.cpuset_cpus),
        cpuset_mems: text(&change.cpuset_mems, &now.cpuset_mems),
        cpu_realtime_period: number(change.cpu_realtime_period, now.cpu_realtime_period),
        cpu_realtime_runtime: number(change.cpu_realtime_runtime, now.cpu_realtime_runtime),
        pids_limit: change.pids_limit.or(now.pids_limit),
        blkio_weight: if change.blkio_weight == 0 { now.blkio_weight } else { change.blkio_weight },
        blkio_weight_devices: if change.blkio_weight_devices.is_empty() {
            now.blkio_weight_devices.clone()
        } else {
            change.blkio_weight_devices.clone()
        },
        device_read_bps: rates(&change.device_read_bps, &now.device_read_bps),
        device_write_bps: rates(&change.device_write_bps, &now.device_write_bps),
        device_read_iops: rates(&change.device_read_iops, &now.device_read_iops),
        device_write_iops: rates(&change.device_write_iops, &now.device_write_iops),
    };
    if after.memory > 0 && after.memory_swap > 0 && after.memory_swap < after.memory {
        return Err(Error::invalid("Minimum memoryswap limit should be larger than memory limit, see usage"));
    }
    Ok(after)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::container::host_config::DeviceWeight;

    const MIB: i64 = 1 << 20;

    #[test]
    fn lists_of_numbers() {
        assert_eq!(numbers("0-2,7").unwrap().into_iter().collect::<Vec<_>>(), [0, 1, 2, 7]);
        assert!(numbers("").unwrap().is_empty());
        for wrong in ["x", "3-1", "0-", "-", "0-99999999"] {
            assert!(numbers(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn what_the_machine_cannot_bound_is_discarded_with_a_warning() {
        let asked = Resources {
            memory: 64 * MIB,
            memory_swap: 128 * MIB,
            memory_swappiness: Some(5),
            pids_limit: Some(5),
            cpu_shares: 5,
            cpuset_cpus: "0".to_owned(),
            blkio_weight: 100,
            oom_kill_disable: true,
            device_read_bps: vec![DeviceRate { path: "/dev/null".to_owned(), rate: 5 }],
            ..Resources::default()
        };
        let mut left = asked.clone();
        let warnings = Abilities::default().discard(&mut left);
        assert_eq!(left, Resources { memory_swap: -1, ..Resources::default() });
        assert_eq!(warnings.len(), 8, "{warnings:#?}");
        assert!(warnings.iter().all(|warning| warning.starts_with("Your kernel does not support ")));
        let mut left = asked.clone();
        let able = Abilities {
            memory: true,
            swap: true,
            swappiness: true,
            oom_kill_disable: true,
            pids: true,
            cpu_shares: true,
            cpuset: true,
            io_weight: true,
            io_rate: true,
            ..Abilities::default()
        };
        assert!(able.discard(&mut left).is_empty() && left == asked);
    }

    #[test]
    fn processors_that_are_not_there_are_refused() {
        let able = Abilities { cpus: "0-1".to_owned(), mems: "0".to_owned(), ..Abilities::default() };
        let asked = |cpus: &str, mems: &str| {
            let set = Resources { cpuset_cpus: cpus.to_owned(), cpuset_mems: mems.to_owned(), ..Resources::default() };
            able.check(&set).map_err(|error| error.to_string())
        };
        asked("0-1", "0").unwrap();
        assert_eq!(asked("1-2", "").unwrap_err(), "Requested CPUs are not available - requested 1-2, available: 0-1");
        assert!(asked("", "3").unwrap_err().contains("Requested memory nodes are not available"));
        let realtime = Resources { cpu_realtime_runtime: 1, ..Resources::default() };
        assert!(able.check(&realtime).unwrap_err().to_string().contains("real-time"));
    }

    #[test]
    fn disks_are_looked_up() {
        let null = || "/dev/null".to_owned();
        let asked = Resources {
            blkio_weight_devices: vec![DeviceWeight { path: null(), weight: 100 }],
            device_write_iops: vec![DeviceRate { path: null(), rate: 7 }],
            ..Resources::default()
        };
        let block = block_io(&asked).unwrap().unwrap();
        assert_eq!(block.weight_device().as_ref().unwrap()[0].major(), 1);
        let rate = &block.throttle_write_iops_device().as_ref().unwrap()[0];
        assert_eq!((rate.major(), rate.minor(), rate.rate()), (1, 3, 7));
        assert!(block.throttle_read_bps_device().is_none());
        assert_eq!(block_io(&Resources::default()).unwrap(), None);
        for (path, why) in [("/nope", "No such file"), ("/etc/passwd", "not a device"), ("sda", "absolute")] {
            let asked = Resources {
                device_read_bps: vec![DeviceRate { path: path.to_owned(), rate: 1 }],
                ..Resources::default()
            };
            assert!(block_io(&asked).unwrap_err().to_string().contains(why), "{path}");
        }
    }

    #[test]
    fn a_change_leaves_what_it_does_not_name() {
        let now = Resources { memory: 64 * MIB, memory_swap: 128 * MIB, cpu_shares: 7, ..Resources::default() };
        let change = Resources { memory: 100 * MIB, pids_limit: Some(3), ..Resources::default() };
        let after = changed(&now, &change).unwrap();
        assert_eq!((after.memory, after.memory_swap, after.cpu_shares), (100 * MIB, 128 * MIB, 7));
        assert_eq!(after.pids_limit, Some(3));
        let refused = |now: &Resources, change: &Resources| changed(now, change).unwrap_err().to_string();
        let more = Resources { memory: 200 * MIB, ..Resources::default() };
        assert!(refused(&now, &more).starts_with("Memory limit should be smaller than already set memoryswap limit"));
        let swap = Resources { memory: 200 * MIB, memory_swap: 300 * MIB, ..Resources::default() };
        assert_eq!(changed(&now, &swap).unwrap().memory_swap, 300 * MIB);
        let unbounded = Resources { memory_swap: -1, ..now.clone() };
        for change in [&Resources { cpu_shares: 3, ..Resources::default() }, &more] {
            assert_eq!(changed(&unbounded, change).unwrap().memory_swap, -1);
        }
        let less = Resources { memory_swap: 8 * MIB, ..Resources::default() };
        assert!(refused(&now, &less).contains("should be larger than memory limit"));
        let quota = Resources { cpu_quota: 5000, ..Resources::default() };
        let nano = Resources { nano_cpus: 5000, ..Resources::default() };
        assert!(refused(&quota, &nano).contains("CPU Quota has already been set"));
        assert!(refused(&nano, &quota).contains("NanoCPUs has already been set"));
    }
}
