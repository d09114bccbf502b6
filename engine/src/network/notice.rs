//! What the owner of the host should know: ports that open it to others, and rules of its own that containers cannot get
//! around. The engine tells of them and changes nothing.

use std::collections::BTreeMap;
use std::fmt;

use super::firewall::{self, Family};
use super::record::Endpoint;
use super::{Error, Networks};
use crate::state::Table;

/// The most ports that are told one by one.
const MAX_TOLD: usize = 8;
/// The most ports of one bridge, and how many are so many that it is told.
const MAX_ENDS: usize = 1023;
const MANY_ENDS: usize = 960;
/// Where the kernel says how many neighbours of a family it remembers at most, in all network namespaces together.
const NEIGHBOURS: [(&str, &str); 2] = [
    ("net.ipv4.neigh.default.gc_thresh3", "/proc/sys/net/ipv4/neigh/default/gc_thresh3"),
    ("net.ipv6.neigh.default.gc_thresh3", "/proc/sys/net/ipv6/neigh/default/gc_thresh3"),
];

/// Something to know.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// Ports that everybody who reaches the host reaches, as `web 8080/tcp`.
    Open(Vec<String>),
    /// The kernel remembers too few neighbours for all containers: some will not be reached.
    Neighbours {
        /// Its switch.
        switch: &'static str,
        /// How many it remembers at most.
        most: usize,
        /// How many the containers need: each and the host know each other.
        needed: usize,
    },
    /// A bridge has hardly any room for another container.
    Crowded {
        /// The network.
        network: String,
        /// How many containers are on it.
        ends: usize,
    },
    /// A chain of the host's own drops what it does not let pass explicitly.
    ForwardDropped {
        /// Of which packets: `ip`, `ip6` or `inet`.
        family: String,
        /// The chain's table.
        table: String,
        /// The chain.
        chain: String,
        /// The bridges that it has to let pass.
        bridges: Vec<String>,
        /// Published ports do not depend on it: the engine listens at them itself.
        relayed: bool,
    },
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(ports) => {
                let told = ports.iter().take(MAX_TOLD).map(String::as_str).collect::<Vec<_>>().join(", ");
                let more = ports.len().saturating_sub(MAX_TOLD);
                write!(f, "Published ports open this host to everybody who reaches it: {told}")?;
                if more > 0 {
                    write!(f, " and {more} more")?;
                }
                write!(f, ". Publish at 127.0.0.1 to keep a port to the host")
            }
            Self::Neighbours { switch, most, needed } => write!(
                f,
                "The containers need the kernel to remember {needed} neighbours, and it remembers {most} at most: some will not \
                 be reached. Raise {switch}"
            ),
            Self::Crowded { network, ends } => write!(
                f,
                "{ends} containers are on the network {network}, and a bridge has room for {MAX_ENDS}: use another one"
            ),
            Self::ForwardDropped { family, table, chain, bridges, relayed } => {
                let ports = if *relayed { "" } else { " and from outside no published port is reached," };
                write!(
                    f,
                    "The chain {chain} of the table {family} {table} drops what this host forwards unless a rule of its own lets \
                     it pass, and the engine does not get around it: containers on {} reach nothing outside,{ports} until it \
                     accepts packets from and to these interfaces",
                    bridges.join(", ")
                )?;
                if *relayed {
                    f.write_str(". Published ports are relayed: the chains for what comes in decide on them")?;
                }
                Ok(())
            }
        }
    }
}

impl Networks {
    /// What there is to know now.
    ///
    /// # Errors
    /// When the state or the kernel's answer fails.
    pub fn notices(&self) -> Result<Vec<Notice>, Error> {
        let endpoints = self.shared.state.read(|look| look.list::<Endpoint>(Table::Endpoint))?;
        let open: Vec<String> = endpoints.iter().flat_map(|(_, endpoint)| open_ports(endpoint)).collect();
        let mut notices = self.obstacles()?;
        let endpoints: Vec<Endpoint> = endpoints.into_iter().map(|(_, endpoint)| endpoint).collect();
        notices.extend(limits(&endpoints, |path| std::fs::read_to_string(path).ok()));
        if !open.is_empty() {
            notices.push(Notice::Open(open));
        }
        Ok(notices)
    }

    /// The part of [`Self::notices`] that keeps containers from the world, and the world from their ports.
    ///
    /// # Errors
    /// When the state or the kernel's answer fails.
    pub fn obstacles(&self) -> Result<Vec<Notice>, Error> {
        let networks = self.list()?;
        let bridges = || networks.iter().filter(|network| !network.internal).filter_map(|one| one.bridge.as_ref());
        let mut host = self.host();
        let Some(filter) = host.filter() else { return Ok(Vec::new()) };
        let dropping =
            firewall::dropping_chains(filter).map_err(Error::kernel("look at the packet filter (nftables)"))?;
        drop(host);
        let of = |family: u8| -> Vec<String> {
            let concerned = bridges().filter(|bridge| match family {
                family if family == Family::Ipv6.number() => bridge.addresses.v6.is_some(),
                family if family == Family::Ipv4.number() => bridge.addresses.v4.is_some(),
                _ => true,
            });
            concerned.map(|bridge| bridge.interface.clone()).collect()
        };
        let tell = |chain: firewall::HostChain| Notice::ForwardDropped {
            bridges: of(chain.family),
            family: chain.family_name().to_owned(),
            table: chain.table,
            chain: chain.name,
            relayed: self.shared.policy.relay,
        };
        let told = dropping.into_iter().map(tell);
        Ok(told.filter(|told| !matches!(told, Notice::ForwardDropped { bridges, .. } if bridges.is_empty())).collect())
    }
}

/// What is nearly full. Decides purely: `read` gives the content of a file of the kernel, when it has that.
fn limits(endpoints: &[Endpoint], read: impl Fn(&str) -> Option<String>) -> Vec<Notice> {
    let (mut by_network, mut by_family) = (BTreeMap::<&str, usize>::new(), [0, 0]);
    for endpoint in endpoints {
        let Some(interface) = endpoint.interface.as_ref().filter(|interface| !interface.host_name.is_empty()) else {
            continue;
        };
        *by_network.entry(&endpoint.network_name).or_default() += 1;
        by_family[0] += usize::from(interface.address.is_some());
        by_family[1] += usize::from(interface.v6.is_some());
    }
    let mut notices = Vec::new();
    for ((switch, path), ends) in NEIGHBOURS.into_iter().zip(by_family) {
        // Each container remembers the host, and the host each container.
        let needed = ends * 2;
        let most = read(path).and_then(|text| text.trim().parse().ok());
        notices.extend(most.filter(|most| *most < needed).map(|most| Notice::Neighbours { switch, most, needed }));
    }
    let crowded = by_network.into_iter().filter(|(_, ends)| *ends >= MANY_ENDS);
    notices.extend(crowded.map(|(network, ends)| Notice::Crowded { network: network.to_owned(), ends }));
    notices
}

/// The ports of a container that are open to everybody, once for both families.
fn open_ports(endpoint: &Endpoint) -> Vec<String> {
    let name = endpoint.names.first().map_or(endpoint.container.short(), String::as_str);
    let ports = endpoint.interface.iter().flat_map(|interface| &interface.ports);
    let open = ports.filter(|port| port.host_port > 0 && port.host_address.is_unspecified());
    let mut told: Vec<String> = open
        .map(|port| match port.count {
            1 => format!("{name} {}/{}", port.host_port, port.protocol),
            _ => format!("{name} {}-{}/{}", port.host_port, port.last_host_port(), port.protocol),
        })
        .collect();
    let mut seen = std::collections::BTreeSet::new();
    told.retain(|port| seen.insert(port.clone()));
    told
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::network::{Protocol, PublishedPort};

    #[test]
    fn what_is_nearly_full_is_told() {
        let many = |count| -> Vec<Endpoint> {
            (0..count).map(|_| crate::network::tests::endpoint("front", "10.0.0.2")).collect()
        };
        let kernel = |path: &str| path.contains("ipv4").then(|| "1024\n".to_owned());
        assert_eq!(limits(&many(512), kernel), []);
        let told = limits(&many(960), kernel);
        let switch = "net.ipv4.neigh.default.gc_thresh3";
        let crowded = Notice::Crowded { network: "front".to_owned(), ends: 960 };
        assert_eq!(told, [Notice::Neighbours { switch, most: 1024, needed: 1920 }, crowded]);
        assert!(told[0].to_string().ends_with("Raise net.ipv4.neigh.default.gc_thresh3"), "{}", told[0]);
        assert!(told[1].to_string().contains("room for 1023"), "{}", told[1]);
        // Where the kernel does not say it, nothing is said.
        assert_eq!(limits(&many(900), |_| None), []);
    }

    #[test]
    fn open_ports_are_told_once_and_not_too_many() {
        let mut endpoint = crate::network::tests::endpoint("n", "10.0.0.2");
        endpoint.names = vec!["web".to_owned()];
        let port = |address: &str, host_port, count| PublishedPort {
            protocol: Protocol::Tcp,
            port: 80,
            host_address: address.parse().unwrap(),
            host_port,
            count,
        };
        let ports = [port("0.0.0.0", 80, 1), port("::", 80, 1), port("127.0.0.1", 81, 1), port("::", 90, 10)];
        endpoint.interface.as_mut().unwrap().ports = [&ports[..], &[port("0.0.0.0", 0, 5)]].concat();
        assert_eq!(open_ports(&endpoint), ["web 80/tcp", "web 90-99/tcp"]);
        let dropped = |relayed| {
            let words = |text: &str| text.to_owned();
            let (family, table, chain) = (words("inet"), words("hosts"), words("passing"));
            Notice::ForwardDropped { family, table, chain, bridges: vec![words("engine0")], relayed }.to_string()
        };
        assert!(dropped(false).contains("outside, and from outside no published port is reached, until it accepts"));
        assert!(!dropped(false).contains("relayed"));
        assert!(dropped(true).contains("outside, until it accepts") && dropped(true).contains("ports are relayed"));
        let many = Notice::Open((0..20).map(|number| format!("c{number} 80/tcp")).collect()).to_string();
        assert!(many.contains("c7 80/tcp and 12 more.") && !many.contains("c8 "), "{many}");
    }
}
