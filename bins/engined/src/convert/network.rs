//! Networks and endpoints.

use std::collections::BTreeMap;

use engine::container::{EndpointSpec, NetworkMode, Record};
use engine::network::{Driver, Endpoint, Network};
use engine_api::network as wire;
use engine_api::version::ApiVersion;

use super::time::rfc3339;
use crate::version::Gates;

/// A network as it is shown; `endpoints` with the names of their containers, for inspect only.
pub(crate) fn network(network: &Network, endpoints: &[(Endpoint, String)], version: ApiVersion) -> wire::Network {
    let bridge = network.bridge.as_ref();
    let options = bridge.map(|bridge| {
        let mut options = BTreeMap::from([
            ("com.docker.network.bridge.default_bridge".to_owned(), (network.name == "bridge").to_string()),
            ("com.docker.network.bridge.enable_icc".to_owned(), bridge.inter_container.to_string()),
            ("com.docker.network.bridge.enable_ip_masquerade".to_owned(), bridge.masquerade.to_string()),
            ("com.docker.network.bridge.host_binding_ipv4".to_owned(), "0.0.0.0".to_owned()),
            ("com.docker.network.bridge.name".to_owned(), bridge.interface.clone()),
        ]);
        if let Some(mtu) = bridge.mtu {
            options.insert("com.docker.network.driver.mtu".to_owned(), mtu.to_string());
        }
        options
    });
    let config = bridge.map(|bridge| wire::IpamConfig {
        subnet: bridge.subnet.to_string(),
        ip_range: if bridge.range == bridge.subnet { String::new() } else { bridge.range.to_string() },
        gateway: bridge.gateway.to_string(),
        ..wire::IpamConfig::default()
    });
    wire::Network {
        name: network.name.clone(),
        id: network.id.as_str().to_owned(),
        created: rfc3339(network.created_nanos),
        scope: "local".to_owned(),
        driver: network.driver.to_string(),
        enable_ipv4: version.has_enable_ipv4().then_some(true),
        ipam: wire::Ipam {
            driver: "default".to_owned(),
            options: None,
            config: config.map_or(Some(Vec::new()), |config| Some(vec![config])),
        },
        containers: Some(
            endpoints
                .iter()
                .map(|(endpoint, name)| (endpoint.container.as_str().to_owned(), member(endpoint, name)))
                .collect(),
        ),
        options: Some(options.unwrap_or_default()),
        labels: Some(network.labels.clone()),
        ..wire::Network::default()
    }
}

fn member(endpoint: &Endpoint, name: &str) -> wire::NetworkContainer {
    let interface = endpoint.interface.as_ref();
    wire::NetworkContainer {
        name: name.to_owned(),
        endpoint_id: endpoint.id.as_str().to_owned(),
        mac_address: interface.map(|interface| interface.mac.to_string()).unwrap_or_default(),
        ipv4_address: interface
            .map(|interface| format!("{}/{}", interface.address, interface.prefix_len))
            .unwrap_or_default(),
        ipv6_address: String::new(),
    }
}

/// The type filter: what is predefined and what is not.
pub(crate) fn is_predefined(network: &Network) -> bool {
    matches!(network.driver, Driver::Host | Driver::Null) || network.name == "bridge"
}

/// The endpoints of a container by network: those that it has, and those that it will have when it starts.
pub(crate) fn endpoints(record: &Record) -> BTreeMap<String, wire::EndpointSettings> {
    let config = &record.config;
    let mut shown: BTreeMap<String, wire::EndpointSettings> =
        config.endpoints.iter().map(|(network, asked)| (network.clone(), settings(Some(asked)))).collect();
    match &config.host.network_mode {
        NetworkMode::Container(_) | NetworkMode::Default => {}
        mode => {
            shown.entry(mode.to_string()).or_insert_with(|| settings(None));
        }
    }
    for endpoint in &record.endpoints {
        let entry = shown.entry(endpoint.network_name.clone()).or_insert_with(|| settings(None));
        entry.network_id = endpoint.network.as_str().to_owned();
        if !record.state.status.has_process() {
            continue;
        }
        entry.endpoint_id = endpoint.id.as_str().to_owned();
        if let Some(interface) = &endpoint.interface {
            entry.mac_address = interface.mac.to_string();
            entry.ip_address = interface.address.to_string();
            entry.ip_prefix_len = interface.prefix_len.into();
            entry.gateway = interface.gateway.to_string();
        }
    }
    shown
}

fn settings(asked: Option<&EndpointSpec>) -> wire::EndpointSettings {
    let Some(asked) = asked else { return wire::EndpointSettings::default() };
    wire::EndpointSettings {
        ipam_config: asked.ipv4_address.map(|address| wire::EndpointIpamConfig {
            ipv4_address: address.to_string(),
            ..wire::EndpointIpamConfig::default()
        }),
        links: super::nil_when_empty(asked.links.clone()),
        aliases: super::nil_when_empty(asked.aliases.clone()),
        mac_address: asked.mac_address.clone().unwrap_or_default(),
        driver_opts: Some(asked.driver_opts.clone()).filter(|options| !options.is_empty()),
        ..wire::EndpointSettings::default()
    }
}
