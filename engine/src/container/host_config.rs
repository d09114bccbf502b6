//! How a container is tied to its host: mounts, network, namespaces, privileges and resources. The same structure
//! holds what was asked for and, its gaps filled, what was decided.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::modes::{IpcMode, NamespaceMode, NetworkMode, RestartPolicy};
use super::mounts::MountSpec;
use crate::settings::Ulimit;

/// How a container is tied to its host.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct HostConfig {
    /// Binds and volumes as `source:destination[:options]`.
    pub binds: Vec<String>,
    /// Mounts in full.
    pub mounts: Vec<MountSpec>,
    /// Memory at a path, with options as `mount -o` takes them.
    pub tmpfs: BTreeMap<String, String>,
    /// Containers whose mounts this one has too, as `container[:ro|rw]`.
    pub volumes_from: Vec<String>,
    /// Driver of volumes that are made for this container.
    pub volume_driver: String,
    /// The network it is on.
    pub network_mode: NetworkMode,
    /// Ports of the host by port of the container, as `80/tcp`.
    pub port_bindings: BTreeMap<String, Vec<PortBinding>>,
    /// Give each exposed port one of the host's.
    pub publish_all_ports: bool,
    /// Every capability, every device, nothing masked.
    pub privileged: bool,
    /// The root file system cannot be written to.
    pub readonly_rootfs: bool,
    /// Capabilities more than the default ones, with or without `CAP_`; `ALL` is all.
    pub cap_add: Vec<String>,
    /// Capabilities fewer than the default ones, with or without `CAP_`; `ALL` is all.
    pub cap_drop: Vec<String>,
    /// `no-new-privileges[=true|false]`, `seccomp=unconfined|builtin|<json>`, `apparmor=…`, `label=…`, `systempaths=unconfined`.
    pub security_opt: Vec<String>,
    /// Supplementary groups, by number or by name in the container.
    pub group_add: Vec<String>,
    /// Whose processes it sees.
    pub pid_mode: NamespaceMode,
    /// Whose shared memory it sees.
    pub ipc_mode: IpcMode,
    /// Whose host name it has.
    pub uts_mode: NamespaceMode,
    /// Whose user ids it has.
    pub userns_mode: NamespaceMode,
    /// Whose cgroups it sees.
    pub cgroupns_mode: NamespaceMode,
    /// Name servers.
    pub dns: Vec<String>,
    /// Search domains.
    pub dns_search: Vec<String>,
    /// Options of `resolv.conf`.
    pub dns_options: Vec<String>,
    /// More lines of `/etc/hosts`, as `host:address`.
    pub extra_hosts: Vec<String>,
    /// Size of `/dev/shm`, in bytes; 0 leaves it to the engine.
    pub shm_size: u64,
    /// Kernel parameters of the container's own namespaces.
    pub sysctls: BTreeMap<String, String>,
    /// Limits of `setrlimit`.
    pub ulimits: Vec<Ulimit>,
    /// Devices of the host.
    pub devices: Vec<DeviceMapping>,
    /// Rules of the device cgroup, as `c 1:3 rwm`.
    pub device_cgroup_rules: Vec<String>,
    /// Devices that specifications of the host describe (CDI), such as GPUs.
    pub device_requests: Vec<DeviceRequest>,
    /// How soon the kernel kills it when memory runs out, -1000 to 1000.
    pub oom_score_adj: i32,
    /// Memory, processor and other bounds.
    pub resources: Resources,
    /// Where output goes.
    pub log: LogConfig,
    /// What happens after its end.
    pub restart_policy: RestartPolicy,
    /// Remove it when its process has ended.
    pub auto_remove: bool,
    /// Paths that nothing can be read from; the default ones when none are given.
    pub masked_paths: Option<Vec<String>>,
    /// Paths that cannot be written to; the default ones when none are given.
    pub readonly_paths: Option<Vec<String>>,
    /// First size of the terminal, rows and columns.
    pub console_size: Option<(u16, u16)>,
    /// Notes for whoever reads the container's runtime configuration.
    pub annotations: BTreeMap<String, String>,
    /// Run a small init as process 1; left to the engine's settings when not said.
    pub init: Option<bool>,
    /// Name of the runtime; only the engine's own is there.
    pub runtime: String,
    /// Links to other containers, as `container:alias`.
    pub links: Vec<String>,
    /// Cgroup beneath which the container's own is made, instead of the engine's.
    pub cgroup_parent: String,
    /// Options of the storage driver.
    pub storage_opt: BTreeMap<String, String>,
    /// Isolation technology as asked for; it means something on Windows only.
    pub isolation: String,
    /// File that the id is written to; kept for inspect, the client writes it.
    pub container_id_file: String,
}

/// A port of the host that leads to one of the container's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PortBinding {
    /// Address of the host; all when empty.
    pub host_ip: String,
    /// Port or range of the host; chosen by the engine when empty.
    pub host_port: String,
}

/// Devices by name or number, of whoever has them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeviceRequest {
    /// `cdi` for devices by their whole names; empty for whoever has what is asked for.
    pub driver: String,
    /// How many; -1 is all.
    pub count: i64,
    /// Or which: with `cdi` as `vendor.com/class=name`.
    pub device_ids: Vec<String>,
    /// What they must be able to do: all of one of the lists.
    pub capabilities: Vec<Vec<String>>,
    /// Options of the driver, as asked.
    pub options: BTreeMap<String, String>,
}

/// A device of the host in the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceMapping {
    /// Path on the host; a directory stands for the devices in it.
    pub path_on_host: String,
    /// Path in the container.
    pub path_in_container: String,
    /// Some of `r`, `w` and `m`.
    pub cgroup_permissions: String,
}

/// Bounds on what a container takes; 0 (or nothing) means no bound of its own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Resources {
    /// Memory, in bytes.
    pub memory: i64,
    /// Memory and swap together, in bytes; -1 leaves swap unbounded.
    pub memory_swap: i64,
    /// Memory that it keeps when the host runs short, in bytes.
    pub memory_reservation: i64,
    /// How readily its anonymous memory is swapped, 0 to 100.
    pub memory_swappiness: Option<i64>,
    /// The kernel stops it instead of killing it when its memory is used up.
    pub oom_kill_disable: bool,
    /// Share of the processors against others, 2 to 262144.
    pub cpu_shares: i64,
    /// Length of a period, in microseconds.
    pub cpu_period: i64,
    /// Processor time in a period, in microseconds.
    pub cpu_quota: i64,
    /// Processors, in billionths.
    pub nano_cpus: i64,
    /// Processors that it may run on, as `0-2,4`.
    pub cpuset_cpus: String,
    /// Memory nodes that it may use.
    pub cpuset_mems: String,
    /// Real-time period, in microseconds.
    pub cpu_realtime_period: i64,
    /// Real-time processor time in a period, in microseconds.
    pub cpu_realtime_runtime: i64,
    /// Processes and threads; -1 or 0 for any number.
    pub pids_limit: Option<i64>,
    /// Share of block devices against others, 10 to 1000.
    pub blkio_weight: u16,
    /// The same of single devices.
    pub blkio_weight_devices: Vec<DeviceWeight>,
    /// Bytes a second that are read from single devices.
    pub device_read_bps: Vec<DeviceRate>,
    /// Bytes a second that are written to single devices.
    pub device_write_bps: Vec<DeviceRate>,
    /// Reads a second from single devices.
    pub device_read_iops: Vec<DeviceRate>,
    /// Writes a second to single devices.
    pub device_write_iops: Vec<DeviceRate>,
}

/// The share of one block device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceWeight {
    /// Path on the host.
    pub path: String,
    /// 10 to 1000; 0 takes it away.
    pub weight: u16,
}

/// The rate of one block device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRate {
    /// Path on the host.
    pub path: String,
    /// Bytes or operations a second; 0 takes it away.
    pub rate: u64,
}

/// Where output goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogConfig {
    /// `json-file` or `none`; the engine's default when empty.
    pub driver: String,
    /// Options of the driver.
    pub options: BTreeMap<String, String>,
}
