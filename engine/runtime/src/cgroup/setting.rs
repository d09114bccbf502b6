//! What a container may use, as files of its cgroup and the values that are written to them. Pure.

use std::collections::{BTreeMap, HashMap};

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources, LinuxThrottleDevice};

use super::Layout;
use crate::Error;

/// The version of the hierarchy that a controller is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    One,
    Two,
}

/// A value of a cgroup file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    pub(crate) version: Version,
    /// The controller, by which the hierarchy of version 1 is found.
    pub(crate) controller: String,
    pub(crate) file: String,
    pub(crate) value: String,
    /// What else the kernel may call the file, and the value for it: disk weights exist under two names.
    pub(crate) otherwise: Option<(&'static str, String)>,
}

/// The settings in the order in which they are written.
pub(crate) fn settings(resources: &LinuxResources, layout: &Layout) -> Result<Vec<Setting>, Error> {
    let mut all = Settings { layout, list: Vec::new() };
    if let Some(memory) = resources.memory() {
        all.memory(memory)?;
    }
    if let Some(cpu) = resources.cpu() {
        all.cpu(cpu)?;
    }
    if let Some(pids) = resources.pids() {
        match pids.limit() {
            0 => {}
            limit if limit < 0 => all.push("pids", "pids.max", "pids.max", "max")?,
            limit => all.push("pids", "pids.max", "pids.max", limit)?,
        }
    }
    if let Some(io) = resources.block_io() {
        all.block_io(io)?;
    }
    for limit in resources.hugepage_limits().iter().flatten() {
        let size = limit.page_size();
        let good = size.strip_suffix("KB").or(size.strip_suffix("MB")).or(size.strip_suffix("GB"));
        if !good.is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())) {
            return Err(Error::Invalid(format!("huge page size {size:?} is not of the form 2MB")));
        }
        let (one, two) = (format!("hugetlb.{size}.limit_in_bytes"), format!("hugetlb.{size}.max"));
        all.push("hugetlb", &one, &two, limit.limit())?;
        // What is reserved counts too, so that a container that maps more is told and not killed.
        let (one, two) = (format!("hugetlb.{size}.rsvd.limit_in_bytes"), format!("hugetlb.{size}.rsvd.max"));
        all.push("hugetlb", &one, &two, limit.limit())?;
    }
    if let Some(network) = resources.network() {
        if let Some(class) = network.class_id() {
            all.push_one("net_cls", "net_cls.classid", class, "a network class")?;
        }
        for priority in network.priorities().iter().flatten() {
            let value = format!("{} {}", priority.name(), priority.priority());
            all.push_one("net_prio", "net_prio.ifpriomap", value, "network priorities")?;
        }
    }
    let rdma: BTreeMap<_, _> = resources.rdma().iter().flatten().collect();
    for (device, limit) in rdma {
        if limit.hca_handles().is_none() && limit.hca_objects().is_none() {
            return Err(Error::Invalid(format!("the limit of the RDMA device {device} says nothing")));
        }
        let part = |name, limit: Option<u32>| limit.map(|limit| format!(" {name}={limit}")).unwrap_or_default();
        let value =
            format!("{device}{}{}", part("hca_handle", limit.hca_handles()), part("hca_object", limit.hca_objects()));
        all.push("rdma", "rdma.max", "rdma.max", value)?;
    }
    all.unified(resources.unified().as_ref())?;
    Ok(all.list)
}

struct Settings<'a> {
    layout: &'a Layout,
    list: Vec<Setting>,
}

impl Settings<'_> {
    fn version(&self, controller: &str) -> Option<Version> {
        if self.layout.hierarchy(controller).is_some() {
            return Some(Version::One);
        }
        // Version 2 calls it io.
        let two = if controller == "blkio" { "io" } else { controller };
        self.layout.unified_has(two).then_some(Version::Two)
    }

    fn put(&mut self, version: Version, controller: &str, file: &str, value: impl ToString) {
        let (controller, file, value) = (controller.to_owned(), file.to_owned(), value.to_string());
        self.list.push(Setting { version, controller, file, value, otherwise: None });
    }

    /// A setting whose value is the same in both versions.
    fn push(&mut self, controller: &str, one: &str, two: &str, value: impl ToString) -> Result<(), Error> {
        let version = self.need(controller)?;
        self.put(version, controller, if version == Version::One { one } else { two }, value);
        Ok(())
    }

    /// A setting that only version 1 has.
    fn push_one(&mut self, controller: &str, file: &str, value: impl ToString, what: &str) -> Result<(), Error> {
        match self.version(controller) {
            Some(Version::One) => self.put(Version::One, controller, file, value),
            _ => return Err(Error::Unsupported(format!("{what}: cgroup version 2 does not have it"))),
        }
        Ok(())
    }

    fn need(&self, controller: &str) -> Result<Version, Error> {
        self.version(controller)
            .ok_or_else(|| Error::Unsupported(format!("the limit: this machine has no cgroup controller {controller}")))
    }

    fn memory(&mut self, memory: &LinuxMemory) -> Result<(), Error> {
        #[allow(deprecated, reason = "what is obsolete has to be refused too")]
        let kernel = memory.kernel();
        if kernel.is_some_and(|limit| limit > 0) {
            return Err(Error::Unsupported("a limit of kernel memory; the kernel dropped it".to_owned()));
        }
        if memory.use_hierarchy() == Some(false) {
            return Err(Error::Unsupported(
                "memory.useHierarchy false; the kernel always counts the whole tree".to_owned(),
            ));
        }
        let set = |value: Option<i64>| value.filter(|value| *value != 0);
        let (limit, swap) = (set(memory.limit()), set(memory.swap()));
        // Memory without a bound has swap without a bound.
        let swap = if limit == Some(-1) && swap.is_none() { Some(-1) } else { swap };
        let bytes = |value: i64| if value < 0 { "max".to_owned() } else { value.to_string() };
        let bytes_one = |value: i64| if value < 0 { "-1".to_owned() } else { value.to_string() };
        if limit.is_some() || swap.is_some() {
            match self.need("memory")? {
                Version::One => {
                    for (file, value) in [("memory.limit_in_bytes", limit), ("memory.memsw.limit_in_bytes", swap)] {
                        if let Some(value) = value {
                            self.put(Version::One, "memory", file, bytes_one(value));
                        }
                    }
                }
                Version::Two => {
                    // Here swap is counted alone, there together with memory.
                    match (swap, limit) {
                        (None, _) => {}
                        (Some(swap), _) if swap < 0 => self.put(Version::Two, "memory", "memory.swap.max", "max"),
                        (Some(swap), Some(limit)) if limit > 0 && swap >= limit => {
                            self.put(Version::Two, "memory", "memory.swap.max", swap - limit);
                        }
                        _ => {
                            return Err(Error::Invalid(
                                "a limit of memory with swap needs a limit of memory that is not above it".to_owned(),
                            ));
                        }
                    }
                    if let Some(limit) = limit {
                        self.put(Version::Two, "memory", "memory.max", bytes(limit));
                    }
                }
            }
        }
        if let Some(low) = set(memory.reservation()) {
            let version = self.need("memory")?;
            match version {
                Version::One => self.put(version, "memory", "memory.soft_limit_in_bytes", bytes_one(low)),
                Version::Two => self.put(version, "memory", "memory.low", bytes(low)),
            }
        }
        if let Some(tcp) = set(memory.kernel_tcp()) {
            self.push_one("memory", "memory.kmem.tcp.limit_in_bytes", tcp, "a limit of TCP buffers")?;
        }
        if let Some(swappiness) = memory.swappiness() {
            if swappiness > 100 {
                return Err(Error::Invalid(format!("memory swappiness {swappiness} is not between 0 and 100")));
            }
            self.push_one("memory", "memory.swappiness", swappiness, "memory swappiness")?;
        }
        if memory.disable_oom_killer() == Some(true) {
            self.push_one("memory", "memory.oom_control", 1, "disabling the OOM killer")?;
        }
        Ok(())
    }

    fn cpu(&mut self, cpu: &LinuxCpu) -> Result<(), Error> {
        let set = |value: Option<u64>| value.filter(|value| *value != 0);
        if let Some(shares) = set(cpu.shares()) {
            match self.need("cpu")? {
                Version::One => self.put(Version::One, "cpu", "cpu.shares", shares),
                Version::Two => self.put(Version::Two, "cpu", "cpu.weight", weight(shares)),
            }
        }
        let (period, quota) = (set(cpu.period()), cpu.quota().filter(|quota| *quota != 0));
        if period.is_some() || quota.is_some() {
            match self.need("cpu")? {
                Version::One => {
                    if let Some(period) = period {
                        self.put(Version::One, "cpu", "cpu.cfs_period_us", period);
                    }
                    if let Some(quota) = quota {
                        self.put(Version::One, "cpu", "cpu.cfs_quota_us", quota);
                    }
                }
                Version::Two => {
                    let quota = quota.filter(|quota| *quota > 0).map_or("max".to_owned(), |quota| quota.to_string());
                    let value = format!("{quota} {}", period.unwrap_or(100_000));
                    self.put(Version::Two, "cpu", "cpu.max", value);
                }
            }
        }
        if let Some(burst) = cpu.burst() {
            self.push("cpu", "cpu.cfs_burst_us", "cpu.max.burst", burst)?;
        }
        if let Some(idle) = cpu.idle() {
            self.push("cpu", "cpu.idle", "cpu.idle", idle)?;
        }
        if let Some(period) = set(cpu.realtime_period()) {
            self.push_one("cpu", "cpu.rt_period_us", period, "a period of realtime")?;
        }
        if let Some(runtime) = cpu.realtime_runtime().filter(|runtime| *runtime != 0) {
            self.push_one("cpu", "cpu.rt_runtime_us", runtime, "a limit of realtime")?;
        }
        for (file, list) in [("cpuset.cpus", cpu.cpus()), ("cpuset.mems", cpu.mems())] {
            let Some(list) = list.as_ref().filter(|list| !list.is_empty()) else { continue };
            if !list.bytes().all(|b| b.is_ascii_digit() || b == b',' || b == b'-') {
                return Err(Error::Invalid(format!("{file} {list:?} is not of the form 0-3,5")));
            }
            self.push("cpuset", file, file, list)?;
        }
        Ok(())
    }

    fn block_io(&mut self, io: &LinuxBlockIo) -> Result<(), Error> {
        if io.leaf_weight().is_some_and(|weight| weight != 0) {
            return Err(Error::Unsupported("a leaf weight of disks; the kernel dropped it".to_owned()));
        }
        let scaled = |weight: u16| 1 + (u64::from(weight).clamp(10, 1000) - 10) * 9999 / 990;
        if let Some(weight) = io.weight().filter(|weight| *weight != 0) {
            match self.need("blkio")? {
                Version::One => self.alternatives(
                    Version::One,
                    ("blkio.weight", weight.to_string()),
                    ("blkio.bfq.weight", weight.to_string()),
                ),
                Version::Two => self.alternatives(
                    Version::Two,
                    ("io.bfq.weight", weight.to_string()),
                    ("io.weight", format!("default {}", scaled(weight))),
                ),
            }
        }
        for device in io.weight_device().iter().flatten() {
            if device.leaf_weight().is_some_and(|weight| weight != 0) {
                return Err(Error::Unsupported("a leaf weight of a disk; the kernel dropped it".to_owned()));
            }
            let Some(weight) = device.weight().filter(|weight| *weight != 0) else { continue };
            let value = format!("{}:{} {weight}", device.major(), device.minor());
            match self.need("blkio")? {
                Version::One => self.alternatives(
                    Version::One,
                    ("blkio.weight_device", value.clone()),
                    ("blkio.bfq.weight_device", value),
                ),
                Version::Two => self.alternatives(
                    Version::Two,
                    ("io.bfq.weight", value),
                    ("io.weight", format!("{}:{} {}", device.major(), device.minor(), scaled(weight))),
                ),
            }
        }
        let throttles: [(&Option<Vec<LinuxThrottleDevice>>, &str, &str); 4] = [
            (io.throttle_read_bps_device(), "blkio.throttle.read_bps_device", "rbps"),
            (io.throttle_write_bps_device(), "blkio.throttle.write_bps_device", "wbps"),
            (io.throttle_read_iops_device(), "blkio.throttle.read_iops_device", "riops"),
            (io.throttle_write_iops_device(), "blkio.throttle.write_iops_device", "wiops"),
        ];
        for (devices, one, two) in throttles {
            for device in devices.iter().flatten() {
                let at = format!("{}:{}", device.major(), device.minor());
                match self.need("blkio")? {
                    Version::One => self.put(Version::One, "blkio", one, format!("{at} {}", device.rate())),
                    Version::Two => {
                        let rate = if device.rate() == 0 { "max".to_owned() } else { device.rate().to_string() };
                        self.put(Version::Two, "blkio", "io.max", format!("{at} {two}={rate}"));
                    }
                }
            }
        }
        Ok(())
    }

    fn alternatives(&mut self, version: Version, first: (&str, String), second: (&'static str, String)) {
        self.put(version, "blkio", first.0, first.1);
        if let Some(setting) = self.list.last_mut() {
            setting.otherwise = Some(second);
        }
    }

    /// Files of version 2 by their names.
    fn unified(&mut self, files: Option<&HashMap<String, String>>) -> Result<(), Error> {
        let mut files: Vec<_> = files.into_iter().flatten().collect();
        files.sort();
        for (file, value) in files {
            let whole = file.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
            let controller = file.split_once('.').map(|(controller, _)| controller).filter(|c| !c.is_empty() && whole);
            let Some(controller) = controller else {
                return Err(Error::Invalid(format!("unified resource {file:?} is not the name of a cgroup file")));
            };
            if controller == "cgroup" {
                return Err(Error::Invalid(format!("unified resource {file:?} belongs to the engine")));
            }
            if !self.layout.unified_has(controller) {
                return Err(Error::Unsupported(format!(
                    "unified resource {file:?}: this machine has no cgroup version 2 controller {controller}"
                )));
            }
            self.put(Version::Two, controller, file, value);
        }
        Ok(())
    }
}

/// Version 1's shares (2 to 262144, usually 1024) as version 2's weight (1 to 10000, usually 100): a curve through the two
/// ends and the usual values.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "1 to 10000")]
pub(crate) fn weight(shares: u64) -> u64 {
    let log = (shares.clamp(2, 262_144) as f64).log2();
    let weight = 10_f64.powf((log * log + 125.0 * log) / 612.0 - 7.0 / 34.0);
    // A little less than a whole number is that number.
    ((weight - 1e-9).ceil() as u64).clamp(1, 10_000)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::cgroup::{Hierarchy, Unified};

    fn one() -> Layout {
        let hierarchy = |name: &str| Hierarchy {
            mount: format!("/sys/fs/cgroup/{name}").into(),
            controllers: vec![name.to_owned()],
        };
        let names = ["cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids"];
        Layout { hierarchies: names.map(hierarchy).to_vec(), unified: None, systemd: None }
    }

    fn two() -> Layout {
        let controllers = ["cpu", "cpuset", "io", "memory", "pids", "hugetlb"].map(str::to_owned).to_vec();
        Layout {
            hierarchies: Vec::new(),
            unified: Some(Unified { mount: "/sys/fs/cgroup".into(), controllers, kills: true }),
            systemd: None,
        }
    }

    fn files(json: &str, layout: &Layout) -> Vec<(String, String)> {
        let resources: LinuxResources = serde_json::from_str(json).unwrap();
        settings(&resources, layout).unwrap().into_iter().map(|s| (s.file, s.value)).collect()
    }

    fn refused(json: &str, layout: &Layout) -> String {
        settings(&serde_json::from_str(json).unwrap(), layout).unwrap_err().to_string()
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(file, value)| ((*file).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn memory_with_and_without_swap() {
        let json = r#"{"memory": {"limit": 1000, "swap": 3000, "reservation": 500}}"#;
        assert_eq!(
            files(json, &one()),
            pairs(&[
                ("memory.limit_in_bytes", "1000"),
                ("memory.memsw.limit_in_bytes", "3000"),
                ("memory.soft_limit_in_bytes", "500"),
            ])
        );
        assert_eq!(
            files(json, &two()),
            pairs(&[("memory.swap.max", "2000"), ("memory.max", "1000"), ("memory.low", "500")])
        );
        let unlimited = r#"{"memory": {"limit": -1}}"#;
        assert_eq!(
            files(unlimited, &one()),
            pairs(&[("memory.limit_in_bytes", "-1"), ("memory.memsw.limit_in_bytes", "-1")])
        );
        assert_eq!(files(unlimited, &two()), pairs(&[("memory.swap.max", "max"), ("memory.max", "max")]));
        assert!(refused(r#"{"memory": {"swap": 1000}}"#, &two()).contains("needs a limit"));
        assert!(refused(r#"{"memory": {"limit": 2000, "swap": 1000}}"#, &two()).contains("not above"));
        assert!(refused(r#"{"memory": {"swappiness": 60}}"#, &two()).contains("swappiness"));
        assert_eq!(files(r#"{"memory": {"swappiness": 0}}"#, &one()), pairs(&[("memory.swappiness", "0")]));
        assert!(refused(r#"{"memory": {"kernel": 5}}"#, &one()).contains("kernel memory"));
    }

    #[test]
    fn processors() {
        let json = r#"{"cpu": {"shares": 512, "quota": 50000, "period": 100000, "cpus": "0-1", "mems": "0"}}"#;
        assert_eq!(
            files(json, &one()),
            pairs(&[
                ("cpu.shares", "512"),
                ("cpu.cfs_period_us", "100000"),
                ("cpu.cfs_quota_us", "50000"),
                ("cpuset.cpus", "0-1"),
                ("cpuset.mems", "0"),
            ])
        );
        assert_eq!(
            files(json, &two()),
            pairs(&[("cpu.weight", "59"), ("cpu.max", "50000 100000"), ("cpuset.cpus", "0-1"), ("cpuset.mems", "0")])
        );
        assert_eq!(files(r#"{"cpu": {"quota": -1}}"#, &two()), pairs(&[("cpu.max", "max 100000")]));
        assert!(refused(r#"{"cpu": {"cpus": "0; reboot"}}"#, &one()).contains("0-3,5"));
        assert!(refused(r#"{"cpu": {"realtimeRuntime": 5}}"#, &two()).contains("realtime"));
    }

    #[test]
    fn weights_meet_at_the_usual_values() {
        assert_eq!([0, 2, 1024, 262_144, u64::MAX].map(weight), [1, 1, 100, 10_000, 10_000]);
        assert!((2..300_000).step_by(97).map(weight).is_sorted());
    }

    #[test]
    fn processes_and_disks() {
        assert_eq!(files(r#"{"pids": {"limit": 0}}"#, &one()), []);
        assert_eq!(files(r#"{"pids": {"limit": -1}}"#, &two()), pairs(&[("pids.max", "max")]));
        assert_eq!(files(r#"{"pids": {"limit": 7}}"#, &one()), pairs(&[("pids.max", "7")]));
        let json = r#"{"blockIO": {"weight": 500, "throttleWriteBpsDevice": [{"major": 8, "minor": 16, "rate": 9}]}}"#;
        assert_eq!(
            files(json, &one()),
            pairs(&[("blkio.weight", "500"), ("blkio.throttle.write_bps_device", "8:16 9")])
        );
        assert_eq!(files(json, &two()), pairs(&[("io.bfq.weight", "500"), ("io.max", "8:16 wbps=9")]));
        let resources: LinuxResources = serde_json::from_str(json).unwrap();
        let otherwise = settings(&resources, &two()).unwrap()[0].otherwise.clone();
        assert_eq!(otherwise, Some(("io.weight", "default 4950".to_owned())));
    }

    #[test]
    fn what_is_not_there_is_refused() {
        assert!(refused(r#"{"pids": {"limit": 7}}"#, &Layout::default()).contains("pids"));
        assert!(refused(r#"{"unified": {"memory.high": "5"}}"#, &one()).contains("memory.high"));
        assert_eq!(files(r#"{"unified": {"memory.high": "5"}}"#, &two()), pairs(&[("memory.high", "5")]));
        for bad in ["../x", "cgroup.procs", "memory/../x.y", "memory", ""] {
            assert!(refused(&format!(r#"{{"unified": {{"{bad}": "5"}}}}"#), &two()).contains("unified"), "{bad}");
        }
        let huge = r#"{"hugepageLimits": [{"pageSize": "2MB", "limit": 4096}]}"#;
        assert_eq!(files(huge, &two()), pairs(&[("hugetlb.2MB.max", "4096"), ("hugetlb.2MB.rsvd.max", "4096")]));
        assert!(refused(r#"{"hugepageLimits": [{"pageSize": "../2MB", "limit": 1}]}"#, &two()).contains("2MB"));
        assert!(refused(r#"{"rdma": {"mlx5_1": {}}}"#, &two()).contains("says nothing"));
        let leaf = r#"{"blockIO": {"weightDevice": [{"major": 8, "minor": 0, "leafWeight": 5}]}}"#;
        assert!(refused(leaf, &two()).contains("leaf weight"));
    }
}
