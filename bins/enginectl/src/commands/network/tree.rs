//! Who is where, drawn: each network with its addresses, and the containers on it.

use engine_api::network::Network;

/// Draws the networks as trees.
pub(crate) fn draw(networks: &[Network]) -> String {
    let mut text = String::new();
    for network in networks {
        text.push_str(&title(network));
        text.push('\n');
        let mut members: Vec<_> = network.containers.iter().flatten().map(|(_, member)| member).collect();
        members.sort_by(|one, other| one.name.cmp(&other.name));
        let width = members.iter().map(|member| member.name.chars().count()).max().unwrap_or_default();
        for (index, member) in members.iter().enumerate() {
            let branch = if index + 1 == members.len() { "└─" } else { "├─" };
            let addresses = [&member.ipv4_address, &member.ipv6_address];
            let addresses: Vec<&str> = addresses
                .iter()
                .filter_map(|address| address.split('/').next())
                .filter(|one| !one.is_empty())
                .collect();
            let line = format!("{branch} {:width$}  {}", member.name, addresses.join("  "));
            text.push_str(line.trim_end());
            text.push('\n');
        }
    }
    text
}

fn title(network: &Network) -> String {
    let blocks: Vec<&str> = network.ipam.config.iter().flatten().map(|block| block.subnet.as_str()).collect();
    let mut words = vec![network.name.clone(), format!("({})", network.driver)];
    words.extend(blocks.iter().map(|block| (*block).to_owned()));
    if network.internal {
        words.push("internal".to_owned());
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use engine_api::network::{Ipam, IpamConfig, NetworkContainer};

    use super::*;

    #[test]
    fn networks_and_their_containers_are_drawn() {
        let member = |name: &str, v4: &str, v6: &str| NetworkContainer {
            name: name.to_owned(),
            ipv4_address: v4.to_owned(),
            ipv6_address: v6.to_owned(),
            ..NetworkContainer::default()
        };
        let block = IpamConfig { subnet: "10.9.0.0/24".to_owned(), ..IpamConfig::default() };
        let network = Network {
            name: "back".to_owned(),
            driver: "bridge".to_owned(),
            internal: true,
            ipam: Ipam { config: Some(vec![block]), ..Ipam::default() },
            containers: Some(BTreeMap::from([
                ("1".to_owned(), member("web", "10.9.0.3/24", "")),
                ("2".to_owned(), member("db-main", "10.9.0.2/24", "fd00::2/64")),
            ])),
            ..Network::default()
        };
        let host = Network { name: "host".to_owned(), driver: "host".to_owned(), ..Network::default() };
        let drawn = draw(&[network, host]);
        let expected =
            "back (bridge) 10.9.0.0/24 internal\n├─ db-main  10.9.0.2  fd00::2\n└─ web      10.9.0.3\nhost (host)\n";
        assert_eq!(drawn, expected);
    }
}
