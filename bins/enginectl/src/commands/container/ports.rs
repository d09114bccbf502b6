//! Ports as `ps` shows them: ranges where ports follow each other.

use std::collections::BTreeMap;

use engine_api::container::Port;

/// `0.0.0.0:8080->80/tcp, 443/tcp, 7000-7002/udp`.
pub(crate) fn display(ports: &[Port]) -> String {
    let mut ports = ports.to_vec();
    ports.sort_by(|a, b| {
        (a.private_port, &a.ip, a.public_port, &a.kind).cmp(&(b.private_port, &b.ip, b.public_port, &b.kind))
    });
    let mut shown = Vec::new();
    let mut mapped = Vec::new();
    let mut groups: BTreeMap<(String, String), (u16, u16)> = BTreeMap::new();
    for port in ports {
        let mut address = String::new();
        if !port.ip.is_empty() {
            if port.public_port != port.private_port {
                mapped.push(format!("{}:{}->{}/{}", host(&port.ip), port.public_port, port.private_port, port.kind));
                continue;
            }
            address = port.ip;
        }
        let key = (address, port.kind);
        match groups.get_mut(&key) {
            Some((_, last)) if port.private_port == *last => {}
            Some((_, last)) if port.private_port == last.saturating_add(1) => *last = port.private_port,
            Some(range) => {
                shown.push(group(&key, *range));
                *range = (port.private_port, port.private_port);
            }
            None => {
                groups.insert(key, (port.private_port, port.private_port));
            }
        }
    }
    shown.extend(groups.iter().map(|(key, range)| group(key, *range)));
    shown.append(&mut mapped);
    shown.join(", ")
}

fn group((address, kind): &(String, String), (first, last): (u16, u16)) -> String {
    let range = if first == last { first.to_string() } else { format!("{first}-{last}") };
    if address.is_empty() { format!("{range}/{kind}") } else { format!("{}:{range}->{range}/{kind}", host(address)) }
}

fn host(address: &str) -> String {
    if address.contains(':') { format!("[{address}]") } else { address.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(ip: &str, public: u16, private: u16, kind: &str) -> Port {
        Port { ip: ip.to_owned(), public_port: public, private_port: private, kind: kind.to_owned() }
    }

    #[test]
    fn ports_read_as_docker_shows_them() {
        let check = |ports: &[Port], expected: &str| assert_eq!(display(ports), expected);
        check(&[], "");
        check(&[port("", 0, 80, "tcp")], "80/tcp");
        check(
            &[port("0.0.0.0", 8080, 80, "tcp"), port("::", 8080, 80, "tcp")],
            "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp",
        );
        check(
            &[port("", 0, 7001, "udp"), port("", 0, 7000, "udp"), port("", 0, 9000, "udp")],
            "7000-7001/udp, 9000/udp",
        );
        check(&[port("0.0.0.0", 80, 80, "tcp"), port("0.0.0.0", 81, 81, "tcp")], "0.0.0.0:80-81->80-81/tcp");
        check(&[port("", 0, 443, "tcp"), port("127.0.0.1", 8080, 80, "tcp")], "443/tcp, 127.0.0.1:8080->80/tcp");
    }
}
