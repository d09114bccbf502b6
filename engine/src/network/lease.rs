//! Who has which address: leases in the state, so that several processes never give one out twice.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use super::{Bridge, Error, Network};
use crate::id::{ContainerId, NetworkId};
use crate::state::{Table, Transaction};

/// An address that is given out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Lease {
    pub(super) container: ContainerId,
}

/// The record's key; addresses sort within their network.
pub(super) fn key(network: &NetworkId, address: Ipv4Addr) -> String {
    format!("{network}/{:08x}", u32::from(address))
}

fn cursor_key(network: &NetworkId) -> String {
    format!("last-address/{network}")
}

/// Leases `wanted`, or the next free address after the one given out last: an address rests as long as possible
/// before somebody else gets it, so that neighbours have forgotten its former owner.
pub(super) fn take(
    transaction: &mut Transaction<'_>,
    network: &Network,
    bridge: &Bridge,
    container: &ContainerId,
    wanted: Option<Ipv4Addr>,
) -> Result<Ipv4Addr, Error> {
    let lease = Lease { container: *container };
    if let Some(address) = wanted {
        if !is_usable(bridge, address) {
            let reason = format!("invalid address {address}: it is not one for containers of {}", bridge.subnet);
            return Err(Error::Invalid { network: network.name.clone(), reason });
        }
        let key = key(&network.id, address);
        if transaction.contains(Table::Address, &key)? {
            return Err(Error::AddressInUse { network: network.name.clone(), address });
        }
        transaction.insert(Table::Address, &key, &lease)?;
        return Ok(address);
    }
    let last = transaction.get::<u32>(Table::Root, &cursor_key(&network.id))?.map(Ipv4Addr::from);
    let size = bridge.range.len();
    let start = last.and_then(|last| bridge.range.index(last)).map_or(0, |last| last + 1);
    for step in 0..size {
        let Some(address) = bridge.range.at((start + step) % size) else { break };
        let key = key(&network.id, address);
        if !is_usable(bridge, address) || transaction.contains(Table::Address, &key)? {
            continue;
        }
        transaction.insert(Table::Address, &key, &lease)?;
        transaction.put(Table::Root, &cursor_key(&network.id), &u32::from(address))?;
        return Ok(address);
    }
    Err(Error::AddressesExhausted { network: network.name.clone(), subnet: bridge.range })
}

/// Forgets where a network's addresses were.
pub(super) fn forget(transaction: &mut Transaction<'_>, network: &NetworkId) -> Result<(), Error> {
    transaction.delete(Table::Root, &cursor_key(network))?;
    Ok(())
}

fn is_usable(bridge: &Bridge, address: Ipv4Addr) -> bool {
    let edge = address == bridge.subnet.first() || address == bridge.subnet.broadcast();
    bridge.subnet.contains(address) && !edge && address != bridge.gateway
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::network::record::Driver;
    use crate::state::{Durability, State};

    fn network(subnet: &str, range: &str) -> Network {
        let subnet: crate::network::Subnet = subnet.parse().unwrap();
        let bridge = Bridge {
            interface: "br".into(),
            subnet,
            gateway: subnet.at(1).unwrap(),
            range: range.parse().unwrap(),
            chosen: true,
            settled: true,
            mtu: None,
            inter_container: true,
            masquerade: true,
        };
        Network {
            id: NetworkId::random(),
            name: "n".into(),
            driver: Driver::Bridge,
            created_nanos: 0,
            bridge: Some(bridge),
            labels: Default::default(),
        }
    }

    fn lease(state: &State, network: &Network, wanted: Option<&str>) -> Result<String, Error> {
        let wanted = wanted.map(|text| text.parse().unwrap());
        let bridge = network.bridge.as_ref().unwrap();
        let container = ContainerId::random();
        let taken = state.write(Durability::Process, |tx| take(tx, network, bridge, &container, wanted));
        taken.map(|address| address.to_string())
    }

    fn give_back(state: &State, network: &Network, address: &str) {
        let key = key(&network.id, address.parse().unwrap());
        assert!(state.write(Durability::Process, |tx| tx.delete(Table::Address, &key)).unwrap());
    }

    #[test]
    fn addresses_go_round_and_rest_as_long_as_possible() {
        let root = tempfile::tempdir().unwrap();
        let state = State::open(root.path()).unwrap();
        let network = network("10.1.0.0/29", "10.1.0.0/29");
        for expected in ["10.1.0.2", "10.1.0.3", "10.1.0.4"] {
            assert_eq!(lease(&state, &network, None).unwrap(), expected);
        }
        give_back(&state, &network, "10.1.0.3");
        for expected in ["10.1.0.5", "10.1.0.6", "10.1.0.3"] {
            assert_eq!(lease(&state, &network, None).unwrap(), expected);
        }
        let full = lease(&state, &network, None).unwrap_err();
        assert_eq!(full.to_string(), "network n has no free address in 10.1.0.0/29");
    }

    #[test]
    fn a_wanted_address_must_be_free_and_for_containers() {
        let root = tempfile::tempdir().unwrap();
        let state = State::open(root.path()).unwrap();
        let network = network("10.1.0.0/16", "10.1.5.0/24");
        assert_eq!(lease(&state, &network, Some("10.1.9.9")).unwrap(), "10.1.9.9");
        assert!(matches!(lease(&state, &network, Some("10.1.9.9")), Err(Error::AddressInUse { .. })));
        for wrong in ["10.1.0.0", "10.1.0.1", "10.1.255.255", "10.2.0.5"] {
            assert!(matches!(lease(&state, &network, Some(wrong)), Err(Error::Invalid { .. })), "{wrong}");
        }
        // Others come from the range, whose edges are ordinary addresses of the subnet.
        assert_eq!(lease(&state, &network, None).unwrap(), "10.1.5.0");
    }

    #[test]
    fn several_processes_never_lease_one_address_twice() {
        let root = tempfile::tempdir().unwrap();
        let network = network("10.1.0.0/24", "10.1.0.0/24");
        let taken: Vec<String> = std::thread::scope(|scope| {
            let one = || {
                let state = State::open(root.path()).unwrap();
                (0..60).map(|_| lease(&state, &network, None).unwrap()).collect::<Vec<_>>()
            };
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(one)).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        let unique: std::collections::BTreeSet<_> = taken.iter().collect();
        assert_eq!((unique.len(), taken.len()), (240, 240));
    }
}
