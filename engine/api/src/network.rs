//! Networks and the endpoints of containers on them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::is_zero;

/// A network, in lists and in inspect.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Network {
    /// Its name.
    pub name: String,
    /// Its id, 64 digits.
    pub id: String,
    /// When it was made, RFC 3339.
    pub created: String,
    /// `local`.
    pub scope: String,
    /// `bridge`, `host`, `null`.
    pub driver: String,
    /// Since 1.47.
    #[serde(rename = "EnableIPv4", skip_serializing_if = "Option::is_none")]
    pub enable_ipv4: Option<bool>,
    /// Endpoints have IPv6 addresses.
    #[serde(rename = "EnableIPv6")]
    pub enable_ipv6: bool,
    /// Its addresses.
    #[serde(rename = "IPAM")]
    pub ipam: Ipam,
    /// Without a way out.
    pub internal: bool,
    /// Of a cluster only.
    pub attachable: bool,
    /// Of a cluster only.
    pub ingress: bool,
    /// The network that it has its configuration from.
    pub config_from: ConfigReference,
    /// A template for others only.
    pub config_only: bool,
    /// The endpoints by container; in inspect only.
    pub containers: Option<BTreeMap<String, NetworkContainer>>,
    /// Options of the driver.
    pub options: Option<BTreeMap<String, String>>,
    /// Labels.
    pub labels: Option<BTreeMap<String, String>>,
}

/// The addresses of a network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Ipam {
    /// `default`.
    pub driver: String,
    /// Options of the driver.
    pub options: Option<BTreeMap<String, String>>,
    /// One for each subnet.
    pub config: Option<Vec<IpamConfig>>,
}

/// A subnet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct IpamConfig {
    /// `address/prefix`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subnet: String,
    /// The part of the subnet that containers get addresses from.
    #[serde(rename = "IPRange", skip_serializing_if = "String::is_empty")]
    pub ip_range: String,
    /// The host's address.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub gateway: String,
    /// Addresses that are used by others.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub auxiliary_addresses: BTreeMap<String, String>,
}

/// Names another network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ConfigReference {
    /// Its name.
    pub network: String,
}

/// An endpoint as its network shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkContainer {
    /// The container's name.
    pub name: String,
    /// The endpoint's id.
    #[serde(rename = "EndpointID")]
    pub endpoint_id: String,
    /// `02:42:...`.
    pub mac_address: String,
    /// `address/prefix`.
    #[serde(rename = "IPv4Address")]
    pub ipv4_address: String,
    /// `address/prefix`.
    #[serde(rename = "IPv6Address")]
    pub ipv6_address: String,
}

/// An endpoint as its container shows it, or as it is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct EndpointSettings {
    /// Addresses that were asked for.
    #[serde(rename = "IPAMConfig")]
    pub ipam_config: Option<EndpointIpamConfig>,
    /// Links to other containers.
    pub links: Option<Vec<String>>,
    /// Further names on this network.
    pub aliases: Option<Vec<String>>,
    /// `02:42:...`.
    pub mac_address: String,
    /// Options of the driver.
    pub driver_opts: Option<BTreeMap<String, String>>,
    /// The endpoint with the highest one has the default route; since 1.48.
    pub gw_priority: i64,
    /// The network's id.
    #[serde(rename = "NetworkID")]
    pub network_id: String,
    /// The endpoint's id.
    #[serde(rename = "EndpointID")]
    pub endpoint_id: String,
    /// The network's gateway.
    pub gateway: String,
    /// The address without its prefix.
    #[serde(rename = "IPAddress")]
    pub ip_address: String,
    /// Length of the prefix.
    #[serde(rename = "IPPrefixLen")]
    pub ip_prefix_len: i64,
    /// The network's gateway.
    #[serde(rename = "IPv6Gateway")]
    pub ipv6_gateway: String,
    /// The address without its prefix.
    #[serde(rename = "GlobalIPv6Address")]
    pub global_ipv6_address: String,
    /// Length of the prefix.
    #[serde(rename = "GlobalIPv6PrefixLen")]
    pub global_ipv6_prefix_len: i64,
    /// All names on this network; since 1.44.
    #[serde(rename = "DNSNames")]
    pub dns_names: Option<Vec<String>>,
}

/// Addresses that were asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct EndpointIpamConfig {
    /// IPv4.
    #[serde(rename = "IPv4Address", skip_serializing_if = "String::is_empty")]
    pub ipv4_address: String,
    /// IPv6.
    #[serde(rename = "IPv6Address", skip_serializing_if = "String::is_empty")]
    pub ipv6_address: String,
    /// Link-local ones.
    #[serde(rename = "LinkLocalIPs", skip_serializing_if = "Vec::is_empty")]
    pub link_local_ips: Vec<String>,
}

/// The networks that a container shall be connected to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkingConfig {
    /// By name or id.
    pub endpoints_config: Option<BTreeMap<String, EndpointSettings>>,
}

/// `POST /networks/create`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkCreate {
    /// Its name.
    pub name: String,
    /// Refuse a name that is taken; older clients send it, newer daemons always do.
    #[serde(skip_serializing_if = "is_zero")]
    pub check_duplicate: bool,
    /// Empty means `bridge`.
    pub driver: String,
    /// Empty means `local`.
    pub scope: String,
    /// None means true.
    #[serde(rename = "EnableIPv4", skip_serializing_if = "Option::is_none")]
    pub enable_ipv4: Option<bool>,
    /// None means false.
    #[serde(rename = "EnableIPv6", skip_serializing_if = "Option::is_none")]
    pub enable_ipv6: Option<bool>,
    /// Its addresses.
    #[serde(rename = "IPAM")]
    pub ipam: Option<Ipam>,
    /// Without a way out.
    pub internal: bool,
    /// Of a cluster only.
    pub attachable: bool,
    /// Of a cluster only.
    pub ingress: bool,
    /// A template for others only.
    pub config_only: bool,
    /// The network that it has its configuration from.
    pub config_from: Option<ConfigReference>,
    /// Options of the driver.
    pub options: Option<BTreeMap<String, String>>,
    /// Labels.
    pub labels: Option<BTreeMap<String, String>>,
}

/// Answer to [`NetworkCreate`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkCreateResponse {
    /// Its id.
    pub id: String,
    /// Empty when there is none.
    pub warning: String,
}

/// `POST /networks/{id}/connect`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkConnect {
    /// Name or id.
    pub container: String,
    /// How.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint_config: Option<EndpointSettings>,
}

/// `POST /networks/{id}/disconnect`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkDisconnect {
    /// Name or id.
    pub container: String,
    /// Also when the container is gone.
    pub force: bool,
}

/// `POST /networks/prune`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkPrune {
    /// Names of the removed networks.
    pub networks_deleted: Option<Vec<String>>,
}
