//! The part of a container's configuration that depends on the host, complete with Go's zero values.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::container::{PortMap, strings};
use crate::is_zero;

/// What depends on the host. Numbers that are 0 mean that nothing was asked for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HostConfig {
    /// `source:destination[:options]`.
    pub binds: Option<Vec<String>>,
    /// A file of the client that gets the id.
    #[serde(rename = "ContainerIDFile")]
    pub container_id_file: String,
    /// Where output goes.
    pub log_config: LogConfig,
    /// default, bridge, host, none, `container:NAME` or a network's name.
    pub network_mode: String,
    /// What is published where.
    pub port_bindings: Option<PortMap>,
    /// When it is started again.
    pub restart_policy: RestartPolicy,
    /// Removed when it has ended.
    pub auto_remove: bool,
    /// Of volumes without a driver.
    pub volume_driver: String,
    /// Containers whose mounts it gets, `NAME[:ro]`.
    pub volumes_from: Option<Vec<String>>,
    /// Rows and columns of the terminal.
    pub console_size: [u32; 2],
    /// Annotations of the runtime's spec.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,

    /// Capabilities beyond the default ones.
    #[serde(deserialize_with = "strings")]
    pub cap_add: Option<Vec<String>>,
    /// Default capabilities that are taken away.
    #[serde(deserialize_with = "strings")]
    pub cap_drop: Option<Vec<String>>,
    /// private or host.
    pub cgroupns_mode: String,
    /// Name servers.
    pub dns: Option<Vec<String>>,
    /// Options of the resolver.
    pub dns_options: Option<Vec<String>>,
    /// Search domains.
    pub dns_search: Option<Vec<String>>,
    /// `name:address`.
    pub extra_hosts: Option<Vec<String>>,
    /// Further groups.
    pub group_add: Option<Vec<String>>,
    /// private, shareable, host, none or `container:NAME`.
    pub ipc_mode: String,
    /// `container:NAME` or empty.
    pub cgroup: String,
    /// `container:alias`.
    pub links: Option<Vec<String>>,
    /// -1000 to 1000.
    pub oom_score_adj: i64,
    /// host or `container:NAME`; empty means its own.
    pub pid_mode: String,
    /// All capabilities and devices, no confinement.
    pub privileged: bool,
    /// Publish all exposed ports.
    pub publish_all_ports: bool,
    /// The root file system cannot be written.
    pub readonly_rootfs: bool,
    /// `seccomp=...`, `no-new-privileges` and so on.
    pub security_opt: Option<Vec<String>>,
    /// Options of the storage driver.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_opt: Option<BTreeMap<String, String>>,
    /// Path to mount options.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tmpfs: Option<BTreeMap<String, String>>,
    /// host or empty.
    #[serde(rename = "UTSMode")]
    pub uts_mode: String,
    /// host or empty.
    pub userns_mode: String,
    /// Bytes of /dev/shm.
    pub shm_size: i64,
    /// Kernel parameters of its namespaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sysctls: Option<BTreeMap<String, String>>,
    /// Empty means the default one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub runtime: String,
    /// Of Windows only.
    pub isolation: String,

    /// Weight of CPU time; 1024 is usual.
    pub cpu_shares: i64,
    /// Bytes.
    pub memory: i64,
    /// 10⁹ is one CPU.
    pub nano_cpus: i64,
    /// The cgroup under which its own one is made.
    pub cgroup_parent: String,
    /// 10 to 1000.
    pub blkio_weight: u16,
    /// Weights of devices.
    pub blkio_weight_device: Option<Vec<WeightDevice>>,
    /// Bytes a second.
    pub blkio_device_read_bps: Option<Vec<ThrottleDevice>>,
    /// Bytes a second.
    pub blkio_device_write_bps: Option<Vec<ThrottleDevice>>,
    /// Operations a second.
    #[serde(rename = "BlkioDeviceReadIOps")]
    pub blkio_device_read_iops: Option<Vec<ThrottleDevice>>,
    /// Operations a second.
    #[serde(rename = "BlkioDeviceWriteIOps")]
    pub blkio_device_write_iops: Option<Vec<ThrottleDevice>>,
    /// Microseconds.
    pub cpu_period: i64,
    /// Microseconds a period.
    pub cpu_quota: i64,
    /// Microseconds.
    pub cpu_realtime_period: i64,
    /// Microseconds.
    pub cpu_realtime_runtime: i64,
    /// Such as `0-2,7`.
    pub cpuset_cpus: String,
    /// Such as `0,1`.
    pub cpuset_mems: String,
    /// Devices of the host.
    pub devices: Option<Vec<DeviceMapping>>,
    /// Such as `c 42:* rwm`.
    pub device_cgroup_rules: Option<Vec<String>>,
    /// Devices of drivers, such as GPUs.
    pub device_requests: Option<Vec<DeviceRequest>>,
    /// Bytes; deprecated.
    #[serde(skip_serializing_if = "is_zero")]
    pub kernel_memory: i64,
    /// Bytes.
    #[serde(rename = "KernelMemoryTCP", skip_serializing_if = "is_zero")]
    pub kernel_memory_tcp: i64,
    /// Bytes below which memory is taken last.
    pub memory_reservation: i64,
    /// Bytes of memory and swap together; -1 is no limit.
    pub memory_swap: i64,
    /// 0 to 100.
    pub memory_swappiness: Option<i64>,
    /// Do not kill, let wait.
    pub oom_kill_disable: Option<bool>,
    /// 0 and -1 are no limit.
    pub pids_limit: Option<i64>,
    /// Limits of its processes.
    pub ulimits: Option<Vec<Ulimit>>,
    /// Of Windows only.
    pub cpu_count: i64,
    /// Of Windows only.
    pub cpu_percent: i64,
    /// Of Windows only.
    #[serde(rename = "IOMaximumIOps")]
    pub io_maximum_iops: u64,
    /// Of Windows only.
    #[serde(rename = "IOMaximumBandwidth")]
    pub io_maximum_bandwidth: u64,

    /// Mounts in long form.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mounts: Option<Vec<Mount>>,
    /// Paths that are hidden; None means the default ones.
    pub masked_paths: Option<Vec<String>>,
    /// Paths that cannot be written; None means the default ones.
    pub readonly_paths: Option<Vec<String>>,
    /// Run an init that reaps; None means as the daemon is configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<bool>,
}

/// Where output goes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct LogConfig {
    /// The driver; empty means the daemon's default.
    #[serde(rename = "Type")]
    pub kind: String,
    /// Options of the driver.
    pub config: Option<BTreeMap<String, String>>,
}

/// When a container is started again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RestartPolicy {
    /// no, always, unless-stopped or on-failure; empty means no.
    pub name: String,
    /// Of on-failure; 0 is no limit.
    pub maximum_retry_count: i64,
}

/// The weight of a device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct WeightDevice {
    /// Path on the host.
    pub path: String,
    /// 10 to 1000.
    pub weight: u16,
}

/// The limit of a device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ThrottleDevice {
    /// Path on the host.
    pub path: String,
    /// Bytes or operations a second.
    pub rate: u64,
}

/// A device of the host in the container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DeviceMapping {
    /// Path on the host.
    pub path_on_host: String,
    /// Path in the container.
    pub path_in_container: String,
    /// Some of `rwm`.
    pub cgroup_permissions: String,
}

/// Devices of a driver.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DeviceRequest {
    /// The driver's name.
    pub driver: String,
    /// How many; -1 is all.
    pub count: i64,
    /// Or which.
    #[serde(rename = "DeviceIDs")]
    pub device_ids: Option<Vec<String>>,
    /// What they must be able to do: one of the lists.
    pub capabilities: Option<Vec<Vec<String>>>,
    /// Options of the driver.
    pub options: Option<BTreeMap<String, String>>,
}

/// A limit of processes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Ulimit {
    /// Such as `nofile`.
    pub name: String,
    /// -1 is no limit.
    pub hard: i64,
    /// -1 is no limit.
    pub soft: i64,
}

/// A mount in long form.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Mount {
    /// bind, volume, tmpfs, image.
    #[serde(rename = "Type", skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Path on the host, or the volume's name; empty means an anonymous volume.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// Path in the container.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub target: String,
    /// Not writable.
    #[serde(skip_serializing_if = "is_zero")]
    pub read_only: bool,
    /// Of macOS only.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub consistency: String,
    /// Of binds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bind_options: Option<BindOptions>,
    /// Of volumes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_options: Option<VolumeOptions>,
    /// Of images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_options: Option<ImageOptions>,
    /// Of tmpfs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tmpfs_options: Option<TmpfsOptions>,
    /// Owners that are shown as others, of binds and volumes: `uids=1000-0-1;gids=1000-0-1`. An extension of this engine.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub id_map: String,
}

/// Of bind mounts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct BindOptions {
    /// rprivate and so on.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub propagation: String,
    /// Without the mounts below the source.
    #[serde(skip_serializing_if = "is_zero")]
    pub non_recursive: bool,
    /// Make the source when it is not there.
    #[serde(skip_serializing_if = "is_zero")]
    pub create_mountpoint: bool,
    /// Read-only at the top only.
    #[serde(skip_serializing_if = "is_zero")]
    pub read_only_non_recursive: bool,
    /// Refuse when the kernel cannot make all of it read-only.
    #[serde(skip_serializing_if = "is_zero")]
    pub read_only_force_recursive: bool,
}

/// Of volume mounts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct VolumeOptions {
    /// Do not fill an empty volume from the image.
    #[serde(skip_serializing_if = "is_zero")]
    pub no_copy: bool,
    /// Labels of a volume that is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// A path in the volume.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subpath: String,
    /// The driver of a volume that is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver_config: Option<DriverConfig>,
}

/// A driver with its options.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DriverConfig {
    /// The driver's name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Options of the driver.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub options: Option<BTreeMap<String, String>>,
}

/// Of image mounts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageOptions {
    /// A path in the image.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subpath: String,
}

/// Of tmpfs mounts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct TmpfsOptions {
    /// 0 is no limit.
    #[serde(skip_serializing_if = "is_zero")]
    pub size_bytes: i64,
    /// Permissions of the top.
    #[serde(skip_serializing_if = "is_zero")]
    pub mode: u32,
    /// `[name]` or `[name, value]`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<Vec<String>>,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_zero_value_is_complete() {
        let value = serde_json::to_value(HostConfig::default()).unwrap();
        let members = value.as_object().unwrap();
        for name in
            ["Binds", "CapAdd", "Dns", "DnsOptions", "PortBindings", "Devices", "Ulimits", "MaskedPaths", "PidsLimit"]
        {
            assert!(members[name].is_null(), "{name}");
        }
        for name in ["Memory", "NanoCpus", "CpuQuota", "IOMaximumIOps", "ShmSize", "MemorySwap"] {
            assert_eq!(members[name], 0, "{name}");
        }
        for name in ["Mounts", "Init", "Tmpfs", "Sysctls", "Runtime", "KernelMemory", "Annotations"] {
            assert!(!members.contains_key(name), "{name}");
        }
        assert_eq!(members["ConsoleSize"], serde_json::json!([0, 0]));
        assert_eq!(members["LogConfig"], serde_json::json!({"Type": "", "Config": null}));
        assert!(
            members.contains_key("UTSMode")
                && members.contains_key("BlkioDeviceReadIOps")
                && members.contains_key("ContainerIDFile")
        );
    }
}
