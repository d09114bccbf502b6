//! Containers: what is asked for at creation, and what lists and inspect show.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserializer, Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::host_config::HostConfig;
use crate::image::GraphDriver;
use crate::network::{EndpointSettings, NetworkingConfig};
use crate::{is_zero, json};

/// An object without members.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Empty {}

/// The part of a container's configuration that does not depend on the host; images have one too.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerConfig {
    /// Empty means the short id.
    pub hostname: String,
    /// The NIS domain.
    pub domainname: String,
    /// `user[:group]`.
    pub user: String,
    /// The client wants to attach stdin.
    pub attach_stdin: bool,
    /// The client wants to attach stdout.
    pub attach_stdout: bool,
    /// The client wants to attach stderr.
    pub attach_stderr: bool,
    /// `port/protocol`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exposed_ports: Option<BTreeMap<String, Empty>>,
    /// With a terminal.
    pub tty: bool,
    /// Stdin stays open.
    pub open_stdin: bool,
    /// Stdin ends with the first client that was attached to it.
    pub stdin_once: bool,
    /// `NAME=value`; a bare `NAME` takes the variable away.
    pub env: Option<Vec<String>>,
    /// The command, or the arguments of the entrypoint.
    #[serde(deserialize_with = "strings")]
    pub cmd: Option<Vec<String>>,
    /// How to find out whether it is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<HealthConfig>,
    /// Of Windows only.
    #[serde(skip_serializing_if = "is_zero")]
    pub args_escaped: bool,
    /// The image, by any name.
    pub image: String,
    /// Paths that are volumes.
    pub volumes: Option<BTreeMap<String, Empty>>,
    /// Where the command starts.
    pub working_dir: String,
    /// The program.
    #[serde(deserialize_with = "strings")]
    pub entrypoint: Option<Vec<String>>,
    /// Without any network.
    #[serde(skip_serializing_if = "is_zero")]
    pub network_disabled: bool,
    /// Before 1.44; now it is said at the endpoint.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mac_address: String,
    /// Instructions for builds on top of the image.
    pub on_build: Option<Vec<String>>,
    /// Labels.
    pub labels: Option<BTreeMap<String, String>>,
    /// Empty means SIGTERM.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
    /// Seconds between the stop signal and SIGKILL; -1 waits for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<i64>,
    /// The shell for commands in shell form.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "strings")]
    pub shell: Option<Vec<String>>,
}

/// How to find out whether a container is well. Durations in nanoseconds; 0 means inherited or the default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HealthConfig {
    /// `["NONE"]`, `["CMD", ...]` or `["CMD-SHELL", "..."]`; empty means inherited.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub test: Vec<String>,
    /// Between two checks.
    #[serde(skip_serializing_if = "is_zero")]
    pub interval: i64,
    /// For one check.
    #[serde(skip_serializing_if = "is_zero")]
    pub timeout: i64,
    /// In which failures do not count.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_period: i64,
    /// Between two checks in the start period.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_interval: i64,
    /// Failures in a row that make it unhealthy.
    #[serde(skip_serializing_if = "is_zero")]
    pub retries: i64,
}

/// `POST /containers/create`: a [`ContainerConfig`] with two members more.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct CreateRequest {
    /// The members of the body itself.
    #[serde(flatten)]
    pub config: ContainerConfig,
    /// None when it is missing.
    #[serde(rename = "HostConfig")]
    pub host_config: Option<HostConfig>,
    /// None when it is missing.
    #[serde(rename = "NetworkingConfig")]
    pub networking_config: Option<NetworkingConfig>,
}

impl<'de> Deserialize<'de> for CreateRequest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Default, Deserialize)]
        #[serde(rename_all = "PascalCase", default)]
        struct Rest {
            host_config: Option<HostConfig>,
            networking_config: Option<NetworkingConfig>,
        }
        // `flatten` would match names exactly, which Go does not.
        let body = Value::deserialize(deserializer)?;
        let rest: Rest = json::from_value(body.clone()).map_err(D::Error::custom)?;
        let config = json::from_value(body).map_err(D::Error::custom)?;
        Ok(Self { config, host_config: rest.host_config, networking_config: rest.networking_config })
    }
}

/// Answer to [`CreateRequest`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CreateResponse {
    /// The container's id.
    pub id: String,
    /// What was asked for but cannot be had.
    pub warnings: Vec<String>,
}

/// `GET /containers/{id}/json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerInspect {
    /// 64 digits.
    pub id: String,
    /// RFC 3339.
    pub created: String,
    /// The program.
    pub path: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// How it is.
    pub state: ContainerState,
    /// The image's id.
    pub image: String,
    /// The file on the host.
    pub resolv_conf_path: String,
    /// The file on the host.
    pub hostname_path: String,
    /// The file on the host.
    pub hosts_path: String,
    /// The file on the host; empty when the log driver has none.
    pub log_path: String,
    /// With a leading slash.
    pub name: String,
    /// How often the restart policy started it again.
    pub restart_count: i64,
    /// `overlay2`.
    pub driver: String,
    /// `linux`.
    pub platform: String,
    /// SELinux.
    pub mount_label: String,
    /// SELinux.
    pub process_label: String,
    /// AppArmor.
    pub app_armor_profile: String,
    /// The execs that run.
    #[serde(rename = "ExecIDs")]
    pub exec_ids: Option<Vec<String>>,
    /// What depends on the host.
    pub host_config: HostConfig,
    /// Where the file system is.
    pub graph_driver: GraphDriver,
    /// Bytes written in the container; only where asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_rw: Option<i64>,
    /// Bytes of the whole file system; only where asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_root_fs: Option<i64>,
    /// Volumes, binds and so on.
    pub mounts: Vec<MountPoint>,
    /// What does not depend on the host.
    pub config: ContainerConfig,
    /// Ports and networks.
    pub network_settings: NetworkSettings,
}

/// How a container is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerState {
    /// created, running, paused, restarting, removing, exited or dead.
    pub status: String,
    /// True also when it is paused.
    pub running: bool,
    /// Frozen.
    pub paused: bool,
    /// Waits for the restart policy's delay.
    pub restarting: bool,
    /// The kernel killed a process for want of memory.
    #[serde(rename = "OOMKilled")]
    pub oom_killed: bool,
    /// Could not be removed.
    pub dead: bool,
    /// On the host; 0 when it does not run.
    pub pid: i64,
    /// Of the last run.
    pub exit_code: i64,
    /// Why the last start failed.
    pub error: String,
    /// RFC 3339.
    pub started_at: String,
    /// RFC 3339.
    pub finished_at: String,
    /// None without a health check.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
}

/// What the health check found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Health {
    /// starting, healthy or unhealthy.
    pub status: String,
    /// Failures in a row.
    pub failing_streak: i64,
    /// The last five checks.
    pub log: Option<Vec<HealthResult>>,
}

/// One check.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HealthResult {
    /// RFC 3339.
    pub start: String,
    /// RFC 3339.
    pub end: String,
    /// 0 is well.
    pub exit_code: i64,
    /// The first 4096 bytes.
    pub output: String,
}

/// Something that is mounted in a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct MountPoint {
    /// bind, volume, tmpfs.
    #[serde(rename = "Type", skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// The volume's name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// On the host.
    pub source: String,
    /// In the container.
    pub destination: String,
    /// The volume's driver.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub driver: String,
    /// Options as they were given, such as `ro,z`.
    pub mode: String,
    /// Writable.
    #[serde(rename = "RW")]
    pub rw: bool,
    /// rprivate and so on.
    pub propagation: String,
}

/// Ports and networks of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkSettings {
    /// Always empty nowadays.
    pub bridge: String,
    /// Of the network namespace.
    #[serde(rename = "SandboxID")]
    pub sandbox_id: String,
    /// Path of the network namespace.
    pub sandbox_key: String,
    /// `80/tcp` to where it is published; null for one that is only exposed.
    pub ports: PortMap,
    /// Deprecated.
    pub hairpin_mode: bool,
    /// Deprecated.
    #[serde(rename = "LinkLocalIPv6Address")]
    pub link_local_ipv6_address: String,
    /// Deprecated.
    #[serde(rename = "LinkLocalIPv6PrefixLen")]
    pub link_local_ipv6_prefix_len: i64,
    /// Deprecated.
    #[serde(rename = "SecondaryIPAddresses")]
    pub secondary_ip_addresses: Option<Vec<Value>>,
    /// Deprecated.
    #[serde(rename = "SecondaryIPv6Addresses")]
    pub secondary_ipv6_addresses: Option<Vec<Value>>,
    /// Of the default bridge, as all that follow up to the networks.
    #[serde(rename = "EndpointID")]
    pub endpoint_id: String,
    /// IPv4.
    pub gateway: String,
    /// IPv6.
    #[serde(rename = "GlobalIPv6Address")]
    pub global_ipv6_address: String,
    /// IPv6.
    #[serde(rename = "GlobalIPv6PrefixLen")]
    pub global_ipv6_prefix_len: i64,
    /// IPv4.
    #[serde(rename = "IPAddress")]
    pub ip_address: String,
    /// IPv4.
    #[serde(rename = "IPPrefixLen")]
    pub ip_prefix_len: i64,
    /// IPv6.
    #[serde(rename = "IPv6Gateway")]
    pub ipv6_gateway: String,
    /// `02:42:...`.
    pub mac_address: String,
    /// The endpoints by the network's name.
    pub networks: Option<BTreeMap<String, EndpointSettings>>,
}

/// `80/tcp` to where it is published.
pub type PortMap = BTreeMap<String, Option<Vec<PortBinding>>>;

/// Where a port is published.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PortBinding {
    /// Empty means all addresses.
    pub host_ip: String,
    /// A number or a range; empty means any free one.
    pub host_port: String,
}

/// A line of `GET /containers/json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerSummary {
    /// 64 digits.
    pub id: String,
    /// With leading slashes.
    pub names: Vec<String>,
    /// As it was asked for, or the id where that name is another image's by now.
    pub image: String,
    /// The image's id.
    #[serde(rename = "ImageID")]
    pub image_id: String,
    /// The program and its arguments as one text.
    pub command: String,
    /// Seconds since 1970.
    pub created: i64,
    /// Exposed and published ports.
    pub ports: Vec<Port>,
    /// Bytes written in the container; only where asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_rw: Option<i64>,
    /// Bytes of the whole file system; only where asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_root_fs: Option<i64>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// created, running and so on.
    pub state: String,
    /// For people, such as `Up 3 minutes`.
    pub status: String,
    /// A little of it.
    pub host_config: SummaryHostConfig,
    /// The endpoints.
    pub network_settings: Option<SummaryNetworkSettings>,
    /// Volumes, binds and so on.
    pub mounts: Vec<MountPoint>,
}

/// The host configuration of a [`ContainerSummary`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct SummaryHostConfig {
    /// bridge, host, none and so on.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub network_mode: String,
    /// Annotations.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// The networks of a [`ContainerSummary`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct SummaryNetworkSettings {
    /// The endpoints by the network's name.
    pub networks: BTreeMap<String, EndpointSettings>,
}

/// A port of a [`ContainerSummary`].
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Port {
    /// The address on the host.
    #[serde(rename = "IP", skip_serializing_if = "String::is_empty")]
    pub ip: String,
    /// In the container.
    pub private_port: u16,
    /// On the host; 0 when it is only exposed.
    #[serde(skip_serializing_if = "is_zero")]
    pub public_port: u16,
    /// tcp, udp or sctp.
    #[serde(rename = "Type")]
    pub kind: String,
}

/// `POST /containers/{id}/wait`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct WaitResponse {
    /// Why there is no real exit code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<WaitError>,
    /// The exit code.
    pub status_code: i64,
}

/// Why there is no real exit code.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct WaitError {
    /// For people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// `POST /containers/{id}/checkpoints`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CheckpointCreate {
    /// The name of the new checkpoint.
    #[serde(rename = "CheckpointID")]
    pub checkpoint_id: String,
    /// The directory that it is to be in; empty for the container's own.
    pub checkpoint_dir: String,
    /// The container ends with it.
    pub exit: bool,
}

/// One of the answer to `GET /containers/{id}/checkpoints`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Checkpoint {
    /// Its name.
    pub name: String,
}

/// `GET /containers/{id}/top`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct TopResponse {
    /// The columns of each process.
    pub processes: Vec<Vec<String>>,
    /// The names of the columns.
    pub titles: Vec<String>,
}

/// `POST /containers/{id}/update`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct UpdateResponse {
    /// What was left out.
    pub warnings: Option<Vec<String>>,
}

/// `POST /containers/prune`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerPrune {
    /// Ids of the removed containers.
    pub containers_deleted: Option<Vec<String>>,
    /// Freed bytes.
    pub space_reclaimed: u64,
}

/// Reads a list of strings, or one string as a list of one, or `null`.
pub(crate) fn strings<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    struct Strings;
    impl<'de> Visitor<'de> for Strings {
        type Value = Option<Vec<String>>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string or a list of strings")
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_none<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
            Ok(Some(vec![text.to_owned()]))
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
            let mut strings = Vec::new();
            while let Some(item) = items.next_element()? {
                strings.push(item);
            }
            Ok(Some(strings))
        }
    }
    deserializer.deserialize_any(Strings)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_create_request_is_read_as_go_reads_it() {
        let request: CreateRequest = json::from_slice(
            br#"{"Image":"busybox","cmd":"true","Entrypoint":null,"Volumes":{"/v":null},"ExposedPorts":{"80/tcp":{}},
                "hostconfig":{"Memory":4,"ConsoleSize":[24,80],"PortBindings":{"80/tcp":[{"HostPort":"8080"}],"81/tcp":null}},
                "NetworkingConfig":{"EndpointsConfig":{"net":null}}}"#,
        )
        .unwrap();
        assert_eq!(request.config.cmd, Some(vec!["true".to_owned()]));
        assert_eq!(request.config.entrypoint, None);
        assert!(request.config.volumes.unwrap().contains_key("/v"));
        let host = request.host_config.unwrap();
        assert_eq!((host.memory, host.console_size), (4, [24, 80]));
        let ports = host.port_bindings.unwrap();
        assert_eq!(ports["80/tcp"].as_ref().unwrap()[0].host_port, "8080");
        assert_eq!(ports["81/tcp"], None);
        assert!(request.networking_config.unwrap().endpoints_config.unwrap().contains_key("net"));
    }

    #[test]
    fn a_create_request_without_a_host_configuration_has_none() {
        assert_eq!(json::from_slice::<CreateRequest>(br#"{"Image":"a"}"#).unwrap().host_config, None);
    }

    #[test]
    fn what_is_written_is_read() {
        let request = CreateRequest { host_config: Some(HostConfig::default()), ..CreateRequest::default() };
        let text = serde_json::to_vec(&request).unwrap();
        assert_eq!(json::from_slice::<CreateRequest>(&text).unwrap(), request);
        let inspect = ContainerInspect { args: vec!["a".into()], ..ContainerInspect::default() };
        assert_eq!(json::from_slice::<ContainerInspect>(&serde_json::to_vec(&inspect).unwrap()).unwrap(), inspect);
    }

    #[test]
    fn an_empty_configuration_has_go_s_nulls() {
        let text = serde_json::to_string(&ContainerConfig::default()).unwrap();
        assert_eq!(
            text,
            r#"{"Hostname":"","Domainname":"","User":"","AttachStdin":false,"AttachStdout":false,"AttachStderr":false,"Tty":false,"OpenStdin":false,"StdinOnce":false,"Env":null,"Cmd":null,"Image":"","Volumes":null,"WorkingDir":"","Entrypoint":null,"OnBuild":null,"Labels":null}"#
        );
    }
}
