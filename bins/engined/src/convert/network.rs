//! Networks and endpoints.

use std::collections::BTreeMap;

use engine::container::{EndpointSpec, NetworkMode, Record};
use engine::network::{Address, Block, BlockSpec, Endpoint, Network, NetworkSpec};
use engine_api::network as wire;
use engine_api::version::ApiVersion;

use super::time::rfc3339;
use crate::error::Error;
use crate::version::Gates;

/// What a client asks for becomes a [`NetworkSpec`].
pub(crate) fn spec(request: wire::NetworkCreate) -> Result<NetworkSpec, Error> {
    if !matches!(request.scope.as_str(), "" | "local") || request.ingress {
        return Err(Error::unsupported("networks of clusters are not supported: use scope local"));
    }
    let mut spec = NetworkSpec::new(request.name).driver(request.driver).internal(request.internal);
    spec.attachable = request.attachable;
    spec.without_ipv4 = request.enable_ipv4 == Some(false);
    spec.config_only = request.config_only;
    spec.config_from = request.config_from.map(|from| from.network).unwrap_or_default();
    spec.labels = request.labels.unwrap_or_default();
    spec.options = request.options.unwrap_or_default();
    if let Some(ipam) = request.ipam {
        if !matches!(ipam.driver.as_str(), "" | "default") {
            return Err(Error::not_found(format!("IPAM driver \"{}\" not found: use default", ipam.driver)));
        }
        spec.address_options = ipam.options;
        for config in ipam.config.unwrap_or_default() {
            let mut block = BlockSpec::new(config.subnet);
            block.range = config.ip_range;
            block.gateway = config.gateway;
            block.auxiliary = config.auxiliary_addresses;
            spec.blocks.push(block);
        }
    }
    // Who asks for addresses of IPv6 and does not say that there are to be none has them. Docker drops them without a word.
    spec.ipv6 = request.enable_ipv6.unwrap_or_else(|| spec.blocks.iter().any(|block| block.subnet.contains(':')));
    Ok(spec)
}

/// A network as it is shown; `endpoints` with the names of their containers, for inspect only.
pub(crate) fn network(network: &Network, endpoints: &[(Endpoint, String)], version: ApiVersion) -> wire::Network {
    let default_bridge = network.bridge.as_ref().filter(|_| network.is_predefined());
    let mut options = network.options.clone();
    if let Some(bridge) = default_bridge {
        let binding = bridge.host_binding.map_or_else(|| "0.0.0.0".to_owned(), |address| address.to_string());
        options.extend([
            ("com.docker.network.bridge.default_bridge".to_owned(), "true".to_owned()),
            ("com.docker.network.bridge.enable_icc".to_owned(), bridge.inter_container.to_string()),
            ("com.docker.network.bridge.enable_ip_masquerade".to_owned(), bridge.masquerade.to_string()),
            ("com.docker.network.bridge.host_binding_ipv4".to_owned(), binding),
            ("com.docker.network.bridge.name".to_owned(), bridge.interface.clone()),
        ]);
        options.extend(bridge.mtu.map(|mtu| ("com.docker.network.driver.mtu".to_owned(), mtu.to_string())));
    }
    let addresses = network.addresses();
    let configs = addresses.map(|addresses| {
        let auxiliary = |v6: bool| {
            let of = addresses.auxiliary.iter().filter(|(_, address)| address.is_ipv6() == v6);
            of.map(|(name, address)| (name.clone(), address.to_string())).collect()
        };
        let v6 = addresses.v6.as_ref().map(|block| block_config(block, auxiliary(true)));
        let v4 = addresses.v4.as_ref().map(|block| block_config(block, auxiliary(false)));
        v4.into_iter().chain(v6).collect::<Vec<_>>()
    });
    let template = network.template.as_ref();
    let configs = configs.or_else(|| Some(template?.blocks.iter().map(asked_config).collect()));
    let has_v4 = addresses.map_or(template.is_none_or(|one| !one.without_ipv4), |addresses| addresses.v4.is_some());
    let has_v6 = addresses.map_or(template.is_some_and(|one| one.ipv6), |addresses| addresses.v6.is_some());
    wire::Network {
        name: network.name.clone(),
        id: network.id.as_str().to_owned(),
        created: rfc3339(network.created_nanos),
        scope: "local".to_owned(),
        driver: network.driver.to_string(),
        enable_ipv4: version.has_enable_ipv4().then_some(has_v4),
        enable_ipv6: has_v6,
        config_only: template.is_some(),
        config_from: wire::ConfigReference { network: network.config_from.clone().unwrap_or_default() },
        ipam: wire::Ipam {
            driver: "default".to_owned(),
            options: network.address_options.clone(),
            config: Some(configs.unwrap_or_default()),
        },
        internal: network.internal,
        attachable: network.attachable,
        containers: Some(
            endpoints
                .iter()
                .map(|(endpoint, name)| (endpoint.container.as_str().to_owned(), member(endpoint, name)))
                .collect(),
        ),
        options: Some(options),
        labels: Some(network.labels.clone()),
        ..wire::Network::default()
    }
}

fn block_config<A: Address>(block: &Block<A>, auxiliary: BTreeMap<String, String>) -> wire::IpamConfig {
    wire::IpamConfig {
        subnet: block.subnet.to_string(),
        ip_range: if block.range == block.subnet { String::new() } else { block.range.to_string() },
        gateway: block.gateway.map(|gateway| gateway.to_string()).unwrap_or_default(),
        auxiliary_addresses: auxiliary,
    }
}

fn asked_config(block: &BlockSpec) -> wire::IpamConfig {
    wire::IpamConfig {
        subnet: block.subnet.clone(),
        ip_range: block.range.clone(),
        gateway: block.gateway.clone(),
        auxiliary_addresses: block.auxiliary.clone(),
    }
}

fn member(endpoint: &Endpoint, name: &str) -> wire::NetworkContainer {
    let interface = endpoint.interface.as_ref();
    let v6 = interface.and_then(|interface| interface.v6.as_ref());
    wire::NetworkContainer {
        name: name.to_owned(),
        endpoint_id: endpoint.id.as_str().to_owned(),
        mac_address: interface.map(|interface| interface.mac.to_string()).unwrap_or_default(),
        ipv4_address: interface
            .and_then(|interface| Some(format!("{}/{}", interface.address?, interface.prefix_len)))
            .unwrap_or_default(),
        ipv6_address: v6.map(|v6| format!("{}/{}", v6.address, v6.prefix_len)).unwrap_or_default(),
    }
}

/// What is asked of an endpoint.
pub(crate) fn endpoint_spec(settings: wire::EndpointSettings) -> Result<EndpointSpec, Error> {
    let addresses = settings.ipam_config.unwrap_or_default();
    let mut spec = EndpointSpec::default();
    if !addresses.ipv4_address.is_empty() {
        let invalid = || Error::invalid(format!("invalid IPv4 address: {}", addresses.ipv4_address));
        spec.ipv4_address = Some(addresses.ipv4_address.parse().map_err(|_| invalid())?);
    }
    if !addresses.ipv6_address.is_empty() {
        let invalid = || Error::invalid(format!("invalid IPv6 address: {}", addresses.ipv6_address));
        spec.ipv6_address = Some(addresses.ipv6_address.parse().map_err(|_| invalid())?);
    }
    for address in addresses.link_local_ips {
        let invalid = || Error::invalid(format!("invalid link-local IP address: {address}"));
        spec.link_local_addresses.push(address.parse().map_err(|_| invalid())?);
    }
    if !settings.mac_address.is_empty() {
        spec.mac_address = Some(settings.mac_address);
    }
    spec.aliases = settings.aliases.unwrap_or_default();
    spec.links = settings.links.unwrap_or_default();
    spec.driver_opts = settings.driver_opts.unwrap_or_default();
    spec.gateway_priority = settings.gw_priority;
    Ok(spec)
}

/// The endpoints of a container by network: those that it has, and those that it will have when it starts.
pub(crate) fn endpoints(record: &Record) -> BTreeMap<String, wire::EndpointSettings> {
    let config = &record.config;
    let mut shown: BTreeMap<String, wire::EndpointSettings> =
        config.endpoints.iter().map(|(network, asked)| (network.clone(), settings(Some(asked)))).collect();
    match &config.host.network_mode {
        NetworkMode::Container(_) | NetworkMode::Default => {}
        NetworkMode::Named(_) if config.detached || !shown.is_empty() => {}
        mode => {
            shown.entry(mode.to_string()).or_insert_with(|| settings(None));
        }
    }
    for endpoint in &record.endpoints {
        let entry = shown.entry(endpoint.network_name.clone()).or_insert_with(|| settings(None));
        entry.network_id = endpoint.network.as_str().to_owned();
        let has_names = endpoint.interface.is_some() && endpoint.network_name != engine::network::BRIDGE;
        entry.dns_names = has_names.then(|| endpoint.names.clone()).filter(|names| !names.is_empty());
        if !record.state.status.has_process() {
            continue;
        }
        entry.endpoint_id = endpoint.id.as_str().to_owned();
        if let Some(interface) = &endpoint.interface {
            entry.mac_address = interface.mac.to_string();
            entry.ip_address = interface.address.map(|address| address.to_string()).unwrap_or_default();
            entry.ip_prefix_len = interface.prefix_len.into();
            entry.gateway = interface.gateway.map(|gateway| gateway.to_string()).unwrap_or_default();
            if let Some(v6) = &interface.v6 {
                entry.global_ipv6_address = v6.address.to_string();
                entry.global_ipv6_prefix_len = v6.prefix_len.into();
                entry.ipv6_gateway = v6.gateway.map(|gateway| gateway.to_string()).unwrap_or_default();
            }
        }
    }
    shown
}

fn settings(asked: Option<&EndpointSpec>) -> wire::EndpointSettings {
    let Some(asked) = asked else { return wire::EndpointSettings::default() };
    let text = |address: Option<String>| address.unwrap_or_default();
    let addresses = wire::EndpointIpamConfig {
        ipv4_address: text(asked.ipv4_address.map(|address| address.to_string())),
        ipv6_address: text(asked.ipv6_address.map(|address| address.to_string())),
        link_local_ips: asked.link_local_addresses.iter().map(ToString::to_string).collect(),
    };
    wire::EndpointSettings {
        ipam_config: Some(addresses).filter(|addresses| *addresses != wire::EndpointIpamConfig::default()),
        links: super::nil_when_empty(asked.links.clone()),
        aliases: super::nil_when_empty(asked.aliases.clone()),
        mac_address: asked.mac_address.clone().unwrap_or_default(),
        driver_opts: Some(asked.driver_opts.clone()).filter(|options| !options.is_empty()),
        gw_priority: asked.gateway_priority,
        ..wire::EndpointSettings::default()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(body: &str) -> Result<NetworkSpec, Error> {
        spec(engine_api::json::from_slice(body.as_bytes()).unwrap())
    }

    #[test]
    fn a_request_becomes_a_spec() {
        let spec = read(
            r#"{"Name":"n","EnableIPv6":true,"Internal":true,"Labels":{"a":"b"},"Options":{"x":"y"},
                "IPAM":{"Config":[{"Subnet":"10.9.0.0/24","IPRange":"10.9.0.0/25","Gateway":"10.9.0.1","AuxiliaryAddresses":{"r":"10.9.0.2"}}]}}"#,
        )
        .unwrap();
        assert!(spec.ipv6 && spec.internal && spec.labels["a"] == "b" && spec.options["x"] == "y");
        assert_eq!(
            (spec.blocks[0].range.as_str(), spec.blocks[0].auxiliary["r"].as_str()),
            ("10.9.0.0/25", "10.9.0.2")
        );
    }

    #[test]
    fn addresses_of_ipv6_are_had_by_who_asks_for_them() {
        let asked = |more: &str| {
            read(&format!(r#"{{"Name":"n",{more}"IPAM":{{"Config":[{{"Subnet":"2001:db8::/64"}}]}}}}"#)).unwrap().ipv6
        };
        assert!(asked("") && asked(r#""EnableIPv6":true,"#) && !asked(r#""EnableIPv6":false,"#));
        assert!(!read(r#"{"Name":"n","IPAM":{"Config":[{"Subnet":"10.9.0.0/24"}]}}"#).unwrap().ipv6);
    }

    #[test]
    fn what_cannot_be_done_is_refused() {
        for body in [r#"{"Name":"n","Scope":"swarm"}"#, r#"{"Name":"n","Ingress":true}"#] {
            assert_eq!(read(body).unwrap_err().status.as_u16(), 501, "{body}");
        }
        assert_eq!(read(r#"{"Name":"n","IPAM":{"Driver":"x"}}"#).unwrap_err().status.as_u16(), 404);
    }
}
