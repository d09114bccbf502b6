//! Who is called what, as the containers see it: made from the endpoints when they have changed, asked without any lock of
//! theirs.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::id::{ContainerId, NetworkId};
use crate::network::record::{Endpoint, Link};

/// The addresses of one container on one network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Addresses {
    pub(super) v4: Option<Ipv4Addr>,
    pub(super) v6: Option<Ipv6Addr>,
}

#[derive(Debug, Default)]
struct Zone {
    name: String,
    names: HashMap<String, Vec<Addresses>>,
    pointers: HashMap<IpAddr, String>,
}

#[derive(Debug)]
struct Membership {
    network: NetworkId,
    links: Vec<Link>,
}

/// All names of all networks.
#[derive(Debug, Default)]
pub(super) struct Names {
    zones: HashMap<NetworkId, Zone>,
    members: HashMap<ContainerId, Vec<Membership>>,
    /// Containers that have a way to elsewhere.
    open: HashMap<ContainerId, bool>,
}

impl Names {
    pub(super) fn of(endpoints: &[Endpoint]) -> Self {
        let mut names = Self::default();
        for endpoint in endpoints {
            let Some(interface) = &endpoint.interface else { continue };
            let v6_way = interface.v6.as_ref().is_some_and(|v6| v6.gateway.is_some());
            *names.open.entry(endpoint.container).or_default() |= interface.gateway.is_some() || v6_way;
            if endpoint.network_name == crate::network::BRIDGE {
                continue;
            }
            let addresses = Addresses { v4: interface.address, v6: interface.v6.as_ref().map(|v6| v6.address) };
            let zone = names.zones.entry(endpoint.network).or_default();
            zone.name = endpoint.network_name.to_ascii_lowercase();
            for name in &endpoint.names {
                zone.names.entry(name.to_ascii_lowercase()).or_default().push(addresses);
            }
            if let Some(name) = endpoint.names.first() {
                let pointer = format!("{name}.{}", endpoint.network_name);
                zone.pointers.extend(addresses.v4.map(|v4| (v4.into(), pointer.clone())));
                zone.pointers.extend(addresses.v6.map(|v6| (v6.into(), pointer)));
            }
            let membership = Membership { network: endpoint.network, links: endpoint.links.clone() };
            names.members.entry(endpoint.container).or_default().push(membership);
        }
        names
    }

    /// Whether what a container asks may leave the host.
    pub(super) fn may_ask_elsewhere(&self, container: &ContainerId) -> bool {
        self.open.get(container).copied().unwrap_or_default()
    }

    /// The addresses of a name in lower case, as this container sees it; nothing when nobody is called like that.
    pub(super) fn find(&self, container: &ContainerId, name: &str) -> Option<Vec<Addresses>> {
        let memberships = self.members.get(container)?;
        let zones = || memberships.iter().filter_map(|one| Some((one, self.zones.get(&one.network)?)));
        // Its own names for others come first, then the networks in order.
        for (membership, zone) in zones() {
            let link = membership.links.iter().find(|link| link.alias.eq_ignore_ascii_case(name));
            if let Some(found) = link.and_then(|link| zone.names.get(&link.target.to_ascii_lowercase())) {
                return Some(found.clone());
            }
        }
        zones().find_map(|(_, zone)| {
            let of_zone = || name.strip_suffix(&zone.name)?.strip_suffix('.');
            let found = zone.names.get(name).or_else(|| zone.names.get(of_zone()?));
            found.cloned()
        })
    }

    /// Who has an address, on a network of this container.
    pub(super) fn pointer(&self, container: &ContainerId, address: IpAddr) -> Option<&str> {
        let memberships = self.members.get(container)?;
        memberships.iter().find_map(|one| self.zones.get(&one.network)?.pointers.get(&address).map(String::as_str))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::network::tests::endpoint;

    #[test]
    fn each_sees_the_names_of_its_networks() {
        let (front, back) = (NetworkId::random(), NetworkId::random());
        let of = |network: NetworkId, network_name: &str, container: ContainerId, address: &str, names: &[&str]| {
            let mut endpoint = endpoint(network_name, address);
            (endpoint.network, endpoint.container) = (network, container);
            endpoint.names = names.iter().map(|name| (*name).to_owned()).collect();
            endpoint
        };
        let (web, db, other) = (ContainerId::random(), ContainerId::random(), ContainerId::random());
        let mut linked = of(back, "back", web, "10.2.0.2", &["web", "www"]);
        linked.links.push(Link::parse("db:Store").unwrap());
        let mut alone = of(back, "back", other, "10.2.0.9", &["other", "www"]);
        alone.interface.as_mut().unwrap().gateway = None;
        let mut default = endpoint("bridge", "172.17.0.2");
        default.names = vec!["nobody".to_owned()];
        let names = Names::of(&[
            of(front, "front", web, "10.1.0.2", &["web", "Site"]),
            linked,
            of(back, "back", db, "10.2.0.3", &["db"]),
            alone,
            default,
        ]);
        let find = |who: &ContainerId, name: &str| {
            let found = names.find(who, name)?;
            Some(found.iter().map(|addresses| addresses.v4.unwrap().to_string()).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(find(&web, "db").as_deref(), Some("10.2.0.3"));
        assert_eq!(find(&web, "store").as_deref(), Some("10.2.0.3"));
        assert_eq!(find(&db, "store"), None, "a link is one container's own");
        assert_eq!(find(&web, "site").as_deref(), Some("10.1.0.2"));
        assert_eq!(find(&db, "site"), None, "another network's name");
        assert_eq!(find(&db, "web.back").as_deref(), Some("10.2.0.2"));
        assert_eq!(find(&db, "web.front"), None);
        assert_eq!(find(&db, "www").as_deref(), Some("10.2.0.2 10.2.0.9"));
        assert_eq!(find(&web, "nobody"), None);
        assert_eq!(names.pointer(&db, "10.2.0.2".parse().unwrap()), Some("web.back"));
        assert_eq!(names.pointer(&db, "10.1.0.2".parse().unwrap()), None);
        assert!(names.may_ask_elsewhere(&db) && !names.may_ask_elsewhere(&other));
    }
}
