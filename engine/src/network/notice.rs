//! What the owner of the host should know: ports that open it to others, and rules of its own that containers cannot get
//! around. The engine tells of them and changes nothing.

use std::fmt;

use super::firewall::{self, Family};
use super::record::Endpoint;
use super::{Error, Networks};
use crate::state::Table;

/// The most ports that are told one by one.
const MAX_TOLD: usize = 8;

/// Something to know.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// Ports that everybody who reaches the host reaches, as `web 8080/tcp`.
    Open(Vec<String>),
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
