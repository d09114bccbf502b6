//! Links on the default bridge, where nobody is found by name: a container gets a line of its hosts file and variables for each
//! container that it is linked to, as Docker gives them.

use std::net::{IpAddr, Ipv4Addr};

use super::inventory::Shared;
use super::record::Record;
use super::{Error, NetworkMode};
use crate::network::files::ExtraHost;
use crate::network::{BRIDGE, Link};

/// A container that another one is linked to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Linked {
    alias: String,
    /// What the one that has the link is called.
    by: String,
    name: String,
    short: String,
    hostname: String,
    address: Ipv4Addr,
    /// As `80/tcp` or `80`.
    ports: Vec<String>,
    environment: Vec<String>,
}

/// Whom a container that is about to start is linked to.
pub(super) fn resolve(shared: &Shared, record: &Record) -> Result<Vec<Linked>, Error> {
    of_bridge(record).map(|link| linked(shared, record, link)).collect()
}

/// The variables of a container's links as they are now, for what is executed in it. One that does not run has none: whoever
/// looks after the container must still get in.
pub(super) fn variables_now(shared: &Shared, record: &Record) -> Vec<String> {
    let links = of_bridge(record).filter_map(|link| linked(shared, record, link).ok());
    links.flat_map(|linked| linked.variables()).collect()
}

/// The links that are told of by variables and the hosts file.
fn of_bridge(record: &Record) -> impl Iterator<Item = Link> + '_ {
    let host = &record.config.host;
    let bridged = !host.links.is_empty() && host.network_mode == NetworkMode::Named(BRIDGE.to_owned());
    host.links.iter().filter(move |_| bridged).filter_map(|text| Link::parse(text))
}

fn linked(shared: &Shared, by: &Record, link: Link) -> Result<Linked, Error> {
    let other = shared.find(&link.target)?.record();
    let on_bridge = other.endpoints.iter().find(|endpoint| endpoint.network_name == BRIDGE);
    let interface = on_bridge.and_then(|endpoint| endpoint.interface.as_ref());
    let address = interface.and_then(|interface| interface.address);
    let Some(address) = address.filter(|_| other.state.status.has_process()) else {
        return Err(Error::conflict(format!(
            "Cannot link to a non running container: /{} AS /{}/{}",
            other.name, by.name, link.alias
        )));
    };
    Ok(Linked {
        alias: link.alias,
        by: by.name.clone(),
        name: other.name.clone(),
        short: other.id.short().to_owned(),
        hostname: other.config.hostname.clone(),
        address,
        ports: other.config.exposed_ports.iter().cloned().collect(),
        environment: other.config.env.clone(),
    })
}

impl Linked {
    /// The line of the hosts file.
    pub(super) fn host(&self) -> ExtraHost {
        let mut names = vec![&self.alias, &self.short, &self.hostname, &self.name];
        let mut seen = std::collections::BTreeSet::new();
        names.retain(|name| !name.is_empty() && seen.insert(name.as_str()));
        let name = names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(" ");
        ExtraHost { name, address: IpAddr::V4(self.address) }
    }

    /// The variables that tell of it.
    pub(super) fn variables(&self) -> Vec<String> {
        let prefix = self.alias.replace(['-', '.'], "_").to_ascii_uppercase();
        let mut variables = vec![format!("{prefix}_NAME=/{}/{}", self.by, self.alias)];
        let mut ports: Vec<(u16, &str)> = self
            .ports
            .iter()
            .map(|port| port.split_once('/').unwrap_or((port, "tcp")))
            .filter_map(|(number, kind)| Some((number.parse().ok()?, kind)))
            .collect();
        ports.sort_unstable();
        ports.dedup();
        if let Some((number, kind)) = ports.first() {
            variables.push(format!("{prefix}_PORT={kind}://{}:{number}", self.address));
        }
        for (number, kind) in ports {
            let of = format!("{prefix}_PORT_{number}_{}", kind.to_ascii_uppercase());
            variables.push(format!("{of}={kind}://{}:{number}", self.address));
            variables.push(format!("{of}_ADDR={}", self.address));
            variables.push(format!("{of}_PORT={number}"));
            variables.push(format!("{of}_PROTO={kind}"));
        }
        for variable in &self.environment {
            let Some((name, value)) = variable.split_once('=') else { continue };
            if !matches!(name, "HOME" | "PATH") {
                variables.push(format!("{prefix}_ENV_{name}={value}"));
            }
        }
        variables
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_told_in_docker_s_words() {
        let linked = Linked {
            alias: "my-db".to_owned(),
            by: "web".to_owned(),
            name: "db".to_owned(),
            short: "0123456789ab".to_owned(),
            hostname: "0123456789ab".to_owned(),
            address: Ipv4Addr::new(172, 17, 0, 5),
            ports: ["6380", "6380/tcp", "53/udp"].map(str::to_owned).to_vec(),
            environment: vec!["PATH=/bin".to_owned(), "KEY=a=b".to_owned()],
        };
        let host = linked.host();
        assert_eq!((host.name.as_str(), host.address.to_string()), ("my-db 0123456789ab db", "172.17.0.5".to_owned()));
        let expected = [
            "MY_DB_NAME=/web/my-db",
            "MY_DB_PORT=udp://172.17.0.5:53",
            "MY_DB_PORT_53_UDP=udp://172.17.0.5:53",
            "MY_DB_PORT_53_UDP_ADDR=172.17.0.5",
            "MY_DB_PORT_53_UDP_PORT=53",
            "MY_DB_PORT_53_UDP_PROTO=udp",
            "MY_DB_PORT_6380_TCP=tcp://172.17.0.5:6380",
            "MY_DB_PORT_6380_TCP_ADDR=172.17.0.5",
            "MY_DB_PORT_6380_TCP_PORT=6380",
            "MY_DB_PORT_6380_TCP_PROTO=tcp",
            "MY_DB_ENV_KEY=a=b",
        ];
        assert_eq!(linked.variables(), expected);
    }
}
