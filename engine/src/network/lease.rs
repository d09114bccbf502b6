//! Who has which address: leases in the state, so that several processes never give one out twice.

use serde::{Deserialize, Serialize};

use super::record::Block;
use super::subnet::Address;
use super::{Error, Network};
use crate::id::{ContainerId, NetworkId};
use crate::state::{Table, Transaction};

/// How many addresses are looked at before a block counts as full.
const LOOKED_AT: u128 = 1 << 20;

/// An address that is given out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Lease {
    pub(super) container: ContainerId,
}

/// The record's key; addresses sort within their network.
pub(super) fn key<A: Address>(network: &NetworkId, address: A) -> String {
    let digits = usize::from(A::BITS / 4);
    format!("{network}/{:0digits$x}", address.number())
}

fn cursor_key<A: Address>(network: &NetworkId) -> String {
    let family = if A::BITS == 32 { "" } else { "/6" };
    format!("cursor/{network}{family}")
}

/// Leases `wanted`, or the next free address after the one given out last: an address rests as long as possible
/// before somebody else gets it, so that neighbours have forgotten its former owner.
pub(super) fn take<A: Address>(
    transaction: &mut Transaction<'_>,
    network: &Network,
    block: &Block<A>,
    container: &ContainerId,
    wanted: Option<A>,
) -> Result<A, Error> {
    let lease = Lease { container: *container };
    let in_use = |address: A| Error::AddressInUse { network: network.name.clone(), address: address.into() };
    if let Some(address) = wanted {
        if !is_usable(block, address) {
            let reason = format!("invalid address {address}: it is not one for containers of {}", block.subnet);
            return Err(Error::Invalid { network: network.name.clone(), reason });
        }
        let key = key(&network.id, address);
        if transaction.contains(Table::Address, &key)? || is_auxiliary(network, address) {
            return Err(in_use(address));
        }
        transaction.insert(Table::Address, &key, &lease)?;
        return Ok(address);
    }
    // The number fits: it was made of an address of this family.
    let cursor = transaction.get::<String>(Table::Root, &cursor_key::<A>(&network.id));
    let last = cursor.ok().flatten().and_then(|text| u128::from_str_radix(&text, 16).ok()).map(A::from_number);
    let size = block.range.len();
    let start = last.and_then(|last| block.range.index(last)).map_or(0, |last| last + 1);
    for step in 0..size.min(LOOKED_AT) {
        let Some(address) = block.range.at((start + step) % size) else { break };
        let key = key(&network.id, address);
        if !is_usable(block, address) || transaction.contains(Table::Address, &key)? || is_auxiliary(network, address) {
            continue;
        }
        transaction.insert(Table::Address, &key, &lease)?;
        transaction.put(Table::Root, &cursor_key::<A>(&network.id), &format!("{:x}", address.number()))?;
        return Ok(address);
    }
    Err(Error::AddressesExhausted { network: network.name.clone(), subnet: block.range.to_string() })
}

/// Forgets where a network's addresses were.
pub(super) fn forget(transaction: &mut Transaction<'_>, network: &NetworkId) -> Result<(), Error> {
    transaction.delete(Table::Root, &cursor_key::<std::net::Ipv4Addr>(network))?;
    transaction.delete(Table::Root, &cursor_key::<std::net::Ipv6Addr>(network))?;
    Ok(())
}

fn is_usable<A: Address>(block: &Block<A>, address: A) -> bool {
    // The last address of IPv6 is one as any other.
    let last = A::BITS == 32 && address == block.subnet.broadcast();
    // Tiny blocks (/31, /32) have no edges.
    let edge = block.subnet.prefix_len() + 1 < A::BITS && (address == block.subnet.first() || last);
    block.subnet.contains(address) && !edge && Some(address) != block.gateway
}

fn is_auxiliary<A: Address>(network: &Network, address: A) -> bool {
    let address = address.into();
    network.addresses().is_some_and(|addresses| addresses.auxiliary.values().any(|other| *other == address))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::state::{Durability, State};

    fn network(subnet: &str, range: &str) -> Network {
        let mut network = crate::network::tests::network("n", "br", subnet.parse().unwrap());
        let bridge = network.bridge.as_mut().unwrap();
        bridge.addresses.v4.as_mut().unwrap().range = range.parse().unwrap();
        bridge.addresses.auxiliary.insert("router".into(), "10.1.0.99".parse().unwrap());
        network
    }

    fn lease(state: &State, network: &Network, wanted: Option<&str>) -> Result<String, Error> {
        let wanted = wanted.map(|text| text.parse().unwrap());
        let block = network.addresses().unwrap().v4.as_ref().unwrap();
        let container = ContainerId::random();
        let taken = state.write(Durability::Process, |tx| take(tx, network, block, &container, wanted));
        taken.map(|address| address.to_string())
    }

    fn give_back(state: &State, network: &Network, address: &str) {
        let key = key::<std::net::Ipv4Addr>(&network.id, address.parse().unwrap());
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
        assert!(matches!(lease(&state, &network, Some("10.1.0.99")), Err(Error::AddressInUse { .. })));
        for wrong in ["10.1.0.0", "10.1.0.1", "10.1.255.255", "10.2.0.5"] {
            assert!(matches!(lease(&state, &network, Some(wrong)), Err(Error::Invalid { .. })), "{wrong}");
        }
        // Others come from the range, whose edges are ordinary addresses of the subnet.
        assert_eq!(lease(&state, &network, None).unwrap(), "10.1.5.0");
    }

    #[test]
    fn addresses_of_ipv6() {
        let root = tempfile::tempdir().unwrap();
        let state = State::open(root.path()).unwrap();
        let network = network("10.1.0.0/16", "10.1.5.0/24");
        let block = Block::<std::net::Ipv6Addr>::whole("fd00:1::/64".parse().unwrap(), true);
        let take = |wanted: Option<&str>| {
            let container = ContainerId::random();
            let wanted = wanted.map(|text| text.parse().unwrap());
            let taken = state.write(Durability::Process, |tx| take(tx, &network, &block, &container, wanted));
            taken.map(|address| address.to_string()).map_err(|error| error.to_string())
        };
        assert_eq!(take(None).unwrap(), "fd00:1::2");
        assert_eq!(take(Some("fd00:1::ffff:ffff:ffff:ffff")).unwrap(), "fd00:1::ffff:ffff:ffff:ffff");
        assert_eq!(take(None).unwrap(), "fd00:1::3");
        assert!(
            take(Some("fd00:1::3")).is_err() && take(Some("fd00:1::1")).is_err() && take(Some("fd00:2::1")).is_err()
        );
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
