//! What the daemon says about itself and the host.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::is_zero;

/// `GET /version`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct VersionInfo {
    /// The product.
    pub platform: PlatformName,
    /// Its parts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub components: Vec<Component>,
    /// Of the daemon.
    pub version: String,
    /// The newest version of the API.
    pub api_version: String,
    /// The oldest version of the API.
    #[serde(rename = "MinAPIVersion", skip_serializing_if = "String::is_empty")]
    pub min_api_version: String,
    /// What it was built from.
    pub git_commit: String,
    /// Empty: there is no Go in it.
    pub go_version: String,
    /// linux.
    pub os: String,
    /// Such as amd64.
    pub arch: String,
    /// Release of the kernel.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kernel_version: String,
    /// Experimental features are on.
    #[serde(skip_serializing_if = "is_zero")]
    pub experimental: bool,
    /// RFC 3339.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub build_time: String,
}

/// The product's name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PlatformName {
    /// For people.
    pub name: String,
}

/// A part of the product.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Component {
    /// Such as Engine.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Further facts.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub details: BTreeMap<String, String>,
}

/// `GET /info`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct SystemInfo {
    /// Of this data root.
    #[serde(rename = "ID")]
    pub id: String,
    /// All containers.
    pub containers: i64,
    /// Those that run.
    pub containers_running: i64,
    /// Those that are paused.
    pub containers_paused: i64,
    /// Those that do not run.
    pub containers_stopped: i64,
    /// All images.
    pub images: i64,
    /// Of storage.
    pub driver: String,
    /// `[name, value]`.
    pub driver_status: Vec<[String; 2]>,
    /// `[name, value]`; of Windows only.
    pub system_status: Option<Vec<[String; 2]>>,
    /// The drivers there are.
    pub plugins: PluginsInfo,
    /// Memory can be limited.
    pub memory_limit: bool,
    /// Swap can be limited.
    pub swap_limit: bool,
    /// Kernel memory can be limited.
    #[serde(skip_serializing_if = "is_zero")]
    pub kernel_memory: bool,
    /// Kernel memory of TCP can be limited.
    #[serde(rename = "KernelMemoryTCP", skip_serializing_if = "is_zero")]
    pub kernel_memory_tcp: bool,
    /// CPU periods can be set.
    pub cpu_cfs_period: bool,
    /// CPU quotas can be set.
    pub cpu_cfs_quota: bool,
    /// CPU weights can be set.
    #[serde(rename = "CPUShares")]
    pub cpu_shares: bool,
    /// CPUs can be chosen.
    #[serde(rename = "CPUSet")]
    pub cpu_set: bool,
    /// Processes can be limited.
    pub pids_limit: bool,
    /// The kernel forwards packets.
    #[serde(rename = "IPv4Forwarding")]
    pub ipv4_forwarding: bool,
    /// Before 1.50; the kernel filters what passes bridges.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bridge_nf_iptables: Option<bool>,
    /// Before 1.50; the kernel filters what passes bridges.
    #[serde(rename = "BridgeNfIp6tables", skip_serializing_if = "Option::is_none")]
    pub bridge_nf_ip6tables: Option<bool>,
    /// The daemon logs more.
    pub debug: bool,
    /// Open descriptors of the daemon.
    #[serde(rename = "NFd")]
    pub nfd: i64,
    /// The OOM killer can be switched off.
    pub oom_kill_disable: bool,
    /// Tasks of the daemon.
    #[serde(rename = "NGoroutines")]
    pub ngoroutines: i64,
    /// RFC 3339.
    pub system_time: String,
    /// The default one.
    pub logging_driver: String,
    /// cgroupfs.
    pub cgroup_driver: String,
    /// 1 or 2.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cgroup_version: String,
    /// Readers of `/events`.
    #[serde(rename = "NEventsListener")]
    pub nevents_listener: i64,
    /// Release of the kernel.
    pub kernel_version: String,
    /// Such as `Debian GNU/Linux 13 (trixie)`.
    pub operating_system: String,
    /// Such as `13`.
    #[serde(rename = "OSVersion")]
    pub os_version: String,
    /// linux.
    #[serde(rename = "OSType")]
    pub os_type: String,
    /// As uname says it, such as `x86_64`.
    pub architecture: String,
    /// Where `login` goes without a name.
    pub index_server_address: String,
    /// Registries.
    pub registry_config: RegistryConfig,
    /// CPUs of the host.
    #[serde(rename = "NCPU")]
    pub ncpu: i64,
    /// Bytes of the host.
    pub mem_total: i64,
    /// Of clusters only.
    pub generic_resources: Option<Vec<serde_json::Value>>,
    /// Where everything is stored.
    pub docker_root_dir: String,
    /// Of the daemon's own requests.
    pub http_proxy: String,
    /// Of the daemon's own requests.
    pub https_proxy: String,
    /// Of the daemon's own requests.
    pub no_proxy: String,
    /// The host's name.
    pub name: String,
    /// Labels of the daemon.
    pub labels: Vec<String>,
    /// Experimental features are on.
    pub experimental_build: bool,
    /// Of the daemon.
    pub server_version: String,
    /// By name.
    pub runtimes: BTreeMap<String, Runtime>,
    /// The name of one of them.
    pub default_runtime: String,
    /// Cluster.
    pub swarm: SwarmInfo,
    /// Containers survive the daemon.
    pub live_restore_enabled: bool,
    /// Of Windows only.
    pub isolation: String,
    /// The program of `--init`.
    pub init_binary: String,
    /// What the part was built from.
    pub containerd_commit: Commit,
    /// What the part was built from.
    pub runc_commit: Commit,
    /// What the part was built from.
    pub init_commit: Commit,
    /// Such as `name=seccomp,profile=builtin`.
    pub security_options: Vec<String>,
    /// Of products.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub product_license: String,
    /// Where new networks get their subnets from.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub default_address_pools: Vec<AddressPool>,
    /// Since 1.49.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub firewall_backend: Option<FirewallInfo>,
    /// Directories with CDI specs.
    #[serde(rename = "CDISpecDirs")]
    pub cdi_spec_dirs: Vec<String>,
    /// Since 1.50: the devices that they name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub discovered_devices: Vec<DeviceInfo>,
    /// What the host cannot do.
    pub warnings: Option<Vec<String>>,
}

/// A device that containers can be given by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DeviceInfo {
    /// `cdi`.
    pub source: String,
    /// Its whole name, such as `vendor.example/gpu=0`.
    #[serde(rename = "ID")]
    pub id: String,
}

/// The drivers there are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PluginsInfo {
    /// Of volumes.
    pub volume: Vec<String>,
    /// Of networks.
    pub network: Vec<String>,
    /// Of authorisation.
    pub authorization: Option<Vec<String>>,
    /// Of logs.
    pub log: Vec<String>,
}

/// Registries.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RegistryConfig {
    /// Before 1.49.
    #[serde(rename = "AllowNondistributableArtifactsCIDRs", skip_serializing_if = "Option::is_none")]
    pub allow_nondistributable_artifacts_cidrs: Option<Vec<String>>,
    /// Before 1.49.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_nondistributable_artifacts_hostnames: Option<Vec<String>>,
    /// Networks whose registries may speak plain HTTP.
    #[serde(rename = "InsecureRegistryCIDRs")]
    pub insecure_registry_cidrs: Vec<String>,
    /// By name.
    pub index_configs: BTreeMap<String, IndexConfig>,
    /// Mirrors of docker.io.
    pub mirrors: Option<Vec<String>>,
}

/// A registry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct IndexConfig {
    /// Such as `docker.io`.
    pub name: String,
    /// Its mirrors.
    pub mirrors: Vec<String>,
    /// TLS with a known certificate.
    pub secure: bool,
    /// Docker's own.
    pub official: bool,
}

/// A runtime.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Runtime {
    /// The program.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// Arguments of the program.
    #[serde(rename = "runtimeArgs", skip_serializing_if = "Vec::is_empty")]
    pub runtime_args: Vec<String>,
}

/// Cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct SwarmInfo {
    /// Empty.
    #[serde(rename = "NodeID")]
    pub node_id: String,
    /// Empty.
    pub node_addr: String,
    /// inactive.
    pub local_node_state: String,
    /// False.
    pub control_available: bool,
    /// Empty.
    pub error: String,
    /// None.
    pub remote_managers: Option<Vec<serde_json::Value>>,
}

/// What a part was built from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Commit {
    /// Its id.
    #[serde(rename = "ID")]
    pub id: String,
    /// Before 1.49: what was expected.
    #[serde(rename = "Expected", skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
}

/// Where new networks get their subnets from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct AddressPool {
    /// `address/prefix`.
    pub base: String,
    /// Prefix of each subnet.
    pub size: i64,
}

/// The firewall.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct FirewallInfo {
    /// nftables.
    pub driver: String,
    /// `[name, value]`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub info: Vec<[String; 2]>,
}

/// `GET /system/df`. What was not asked for is not there.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DiskUsage {
    /// Bytes of all that images are made of.
    #[serde(skip_serializing_if = "is_zero")]
    pub layers_size: i64,
    /// Images.
    pub images: Option<Vec<crate::image::ImageSummary>>,
    /// Containers.
    pub containers: Option<Vec<crate::container::ContainerSummary>>,
    /// Volumes.
    pub volumes: Option<Vec<crate::volume::Volume>>,
    /// Parts of builds.
    pub build_cache: Option<Vec<serde_json::Value>>,
}

/// `POST /system/trim`, which is this engine's own: what shall go to make room.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct TrimRequest {
    /// Bytes that images may take; the daemon's quota when nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<u64>,
    /// Compressed layers, whatever there is room for.
    pub compressed: bool,
}

/// The answer: what went, and what images take now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct TrimReport {
    /// Names and images that went.
    pub images_deleted: Vec<crate::image::ImageDelete>,
    /// Compressed layers that went; their contents are still here.
    pub compressed_layers: usize,
    /// Freed bytes.
    pub space_reclaimed: u64,
    /// Bytes that all images take now.
    pub size: u64,
}

/// `POST /system/check`, which is this engine's own: what shall be done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CheckRequest {
    /// Repair what can be repaired.
    pub repair: bool,
    /// Who asks for what has to be fetched again, by the name of the registry.
    pub auth: BTreeMap<String, crate::image::RegistryAuth>,
}

/// The answer: what was looked at, and what is wrong with it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CheckReport {
    /// Blobs that were read.
    pub blobs: usize,
    /// Layers that were compared.
    pub layers: usize,
    /// Files and records that nobody needs.
    pub leftovers: usize,
    /// Whether nothing is wrong any more.
    pub sound: bool,
    /// What is or was wrong.
    pub problems: Vec<CheckProblem>,
}

/// Something that is wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CheckProblem {
    /// What it is wrong with.
    pub subject: String,
    /// What is wrong.
    pub found: String,
    /// The images that suffer.
    pub images: Vec<String>,
    /// How it was repaired, if it was.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub repaired: String,
    /// Why it cannot be repaired, if it cannot.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub beyond: String,
}
