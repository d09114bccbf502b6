//! Flows of datagrams that the kernel remembers: those of a port whose meaning has changed are forgotten, or they would
//! lead to where they did before for as long as somebody sends.

use std::collections::BTreeSet;

use engine_sys::netlink::{ACK, DUMP, Error, Message, Netlink, attributes};
use rustix::io::Errno;

use super::firewall::{Family, Port};
use super::{Networks, Protocol as Carried};

const SUBSYSTEM: u16 = 1;
const GET: u16 = 1;
const DELETE: u16 = 2;
const ORIGINAL: u16 = 1;
const TUPLE_PROTOCOL: u16 = 2;
const PROTOCOL_NUMBER: u16 = 1;
const PROTOCOL_DESTINATION_PORT: u16 = 3;

impl Networks {
    /// Makes the kernel forget the flows to these ports. What cannot be forgotten ages out by itself.
    pub(super) fn forget_flows(&self, ports: &[Port]) {
        let published = |family| -> BTreeSet<u16> {
            let of = |port: &&Port| port.published.protocol == Carried::Udp && port.family() == family;
            ports
                .iter()
                .filter(of)
                .flat_map(|port| port.published.host_port..=port.published.last_host_port())
                .collect()
        };
        for family in [Family::Ipv4, Family::Ipv6] {
            let ports = published(family);
            if ports.is_empty() {
                continue;
            }
            let mut host = self.host();
            let Some(socket) = host.filter() else { return };
            if let Err(error) = forget(socket, family, &ports) {
                tracing::warn!(%error, "flows to ports that were published or taken back cannot be forgotten");
            }
        }
    }
}

fn message(family: Family, kind: u16, flags: u16) -> Message {
    Message::new(SUBSYSTEM << 8 | kind, flags).put(&[family.number(), 0, 0, 0])
}

fn forget(socket: &mut Netlink, family: Family, ports: &BTreeSet<u16>) -> Result<(), Error> {
    let mut tuples = Vec::new();
    socket.dump(&message(family, GET, DUMP), |part| match part {
        None => tuples.clear(),
        Some((_, content)) => tuples.extend(read(content, ports)),
    })?;
    for tuple in tuples {
        match socket.request(&mut [message(family, DELETE, ACK).attribute(ORIGINAL | 0x8000, &tuple)]) {
            Err(error) if !error.is(Errno::NOENT) => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// The tuple of a flow of datagrams to one of the ports, as it came.
pub(super) fn read(content: &[u8], ports: &BTreeSet<u16>) -> Option<Vec<u8>> {
    const UDP: u8 = 17;
    let tuple = attributes(content.get(4..)?).find(|attribute| attribute.kind == ORIGINAL)?;
    let protocol = attributes(tuple.content).find(|attribute| attribute.kind == TUPLE_PROTOCOL)?;
    let find = |kind| attributes(protocol.content).find(|attribute| attribute.kind == kind);
    let port = u16::from_be_bytes(*find(PROTOCOL_DESTINATION_PORT)?.content.first_chunk()?);
    let wanted = find(PROTOCOL_NUMBER)?.content.first() == Some(&UDP) && ports.contains(&port);
    wanted.then(|| tuple.content.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn no_flow_is_too_odd(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            let found = read(&bytes, &BTreeSet::from([53]));
            proptest::prop_assert!(found.is_none_or(|tuple| tuple.len() <= bytes.len()));
        }
    }
}
