//! Which ports of the host lead to a container: from what was asked to what the network is told.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use super::Error;
use super::config::Config;
use super::modes::NetworkMode;
use crate::network::{Protocol, Publish};

/// The most ports of one container.
const MAX_PORTS: usize = 16384;

/// The ports that are published when the container starts. Without an address of its own it has none, as with Docker.
pub(super) fn plan(config: &Config) -> Result<Vec<Publish>, Error> {
    let host = &config.host;
    if matches!(host.network_mode, NetworkMode::Container(_)) && !host.port_bindings.is_empty() {
        return Err(Error::invalid("conflicting options: port publishing and the container type network mode"));
    }
    let mut published = Vec::new();
    for (asked, bindings) in &host.port_bindings {
        let (ports, protocol) = read(asked)?;
        for binding in bindings {
            let host_address = address(&binding.host_ip)?;
            let host_ports = range(&binding.host_port).ok_or_else(|| invalid(&binding.host_port))?;
            let count = ports.len();
            // Ranges of one length belong together one by one; any other range is one of which a free port is taken.
            let pairs = host_ports.as_ref().filter(|range| count > 1 && range.len() == count);
            if count > 1 && host_ports.is_some() && pairs.is_none() {
                return Err(Error::invalid(format!(
                    "invalid ranges specified for container and host Ports: {asked} and {}",
                    binding.host_port
                )));
            }
            for (at, port) in ports.clone().enumerate() {
                let host_ports = match pairs {
                    Some(range) => range.clone().nth(at).map(|port| port..=port),
                    None => host_ports.clone(),
                };
                published.push(Publish { protocol, port, host_address, host_ports });
            }
        }
    }
    if host.publish_all_ports {
        for asked in &config.exposed_ports {
            let (ports, protocol) = read(asked)?;
            for port in ports {
                if !published.iter().any(|other| (other.port, other.protocol) == (port, protocol)) {
                    published.push(Publish { protocol, port, host_address: None, host_ports: None });
                }
            }
        }
    }
    if published.len() > MAX_PORTS {
        return Err(Error::invalid(format!("more than {MAX_PORTS} ports are to be published")));
    }
    Ok(if host.network_mode.has_endpoint() { published } else { Vec::new() })
}

fn invalid(text: &str) -> Error {
    Error::invalid(format!("invalid port specification: \"{text}\""))
}

/// Reads `80`, `80/udp` or `80-82/tcp`.
fn read(text: &str) -> Result<(RangeInclusive<u16>, Protocol), Error> {
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let ports = range(ports).flatten().ok_or_else(|| invalid(text))?;
    let protocol = match protocol.to_ascii_lowercase().as_str() {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        "sctp" => Protocol::Sctp,
        other => {
            return Err(Error::unsupported(format!("publishing {other} ports is not supported: use tcp, udp or sctp")));
        }
    };
    Ok((ports, protocol))
}

/// Reads a port or a range; an empty text and 0 stand for any. `None` when it is neither.
fn range(text: &str) -> Option<Option<RangeInclusive<u16>>> {
    if matches!(text, "" | "0") {
        return Some(None);
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.parse::<u16>().ok()?, last.parse::<u16>().ok()?);
    (first > 0 && first <= last).then_some(Some(first..=last))
}

/// The host's address; none when nothing is said.
fn address(text: &str) -> Result<Option<IpAddr>, Error> {
    if text.is_empty() {
        return Ok(None);
    }
    let bare = text.strip_prefix('[').and_then(|bare| bare.strip_suffix(']')).unwrap_or(text);
    bare.parse().map(Some).map_err(|_| Error::invalid(format!("invalid IP address: {text}")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::container::PortBinding;

    fn config(bindings: &[(&str, &str, &str)]) -> Config {
        let mut config = Config::default();
        config.host.network_mode = NetworkMode::Named("bridge".to_owned());
        for (port, host_ip, host_port) in bindings {
            let binding = PortBinding { host_ip: (*host_ip).to_owned(), host_port: (*host_port).to_owned() };
            config.host.port_bindings.entry((*port).to_owned()).or_default().push(binding);
        }
        config
    }

    fn planned(bindings: &[(&str, &str, &str)]) -> Result<Vec<Publish>, String> {
        plan(&config(bindings)).map_err(|error| error.to_string())
    }

    #[test]
    fn bindings_are_read() {
        let any = planned(&[("80", "", "")]).unwrap();
        let publish = |port, host_ports| Publish { protocol: Protocol::Tcp, port, host_address: None, host_ports };
        assert_eq!(any, [publish(80, None)]);
        let local = planned(&[("53/udp", "127.0.0.1", "5353")]).unwrap();
        assert_eq!((local[0].protocol, local[0].host_address), (Protocol::Udp, "127.0.0.1".parse().ok()));
        assert_eq!(local[0].host_ports, Some(5353..=5353));
        assert_eq!(planned(&[("80/tcp", "", "8000-8010")]).unwrap(), [publish(80, Some(8000..=8010))]);
        let pairs = planned(&[("80-81", "", "8000-8001")]).unwrap();
        assert_eq!(pairs, [publish(80, Some(8000..=8000)), publish(81, Some(8001..=8001))]);
    }

    #[test]
    fn all_exposed_ports_are_published_once() {
        let mut config = config(&[("80/tcp", "", "8080")]);
        config.exposed_ports = ["80/tcp".to_owned(), "90-91/udp".to_owned()].into();
        config.host.publish_all_ports = true;
        let ports: Vec<_> = plan(&config).unwrap().iter().map(|publish| publish.port).collect();
        assert_eq!(ports, [80, 90, 91]);
        config.host.network_mode = NetworkMode::Host;
        assert_eq!(plan(&config).unwrap(), []);
    }

    #[test]
    fn nonsense_is_refused() {
        for (port, host_ip, host_port) in
            [("", "", ""), ("0", "", ""), ("80/icmp", "", ""), ("80", "x", ""), ("80", "", "x")]
        {
            assert!(planned(&[(port, host_ip, host_port)]).is_err(), "{port} {host_ip} {host_port}");
        }
        assert!(planned(&[("80", "", "9-8")]).unwrap_err().contains("invalid port specification"));
        assert!(planned(&[("80-82", "", "90-91")]).unwrap_err().contains("invalid ranges"));
    }
}
