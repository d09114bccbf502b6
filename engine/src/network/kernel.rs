//! What the kernel tells by netlink, read as this engine does: for those who want to know what it makes of foreign bytes.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::{firewall, flows, link};

/// Reads the content of a message as each of those that the networks ask the kernel for: a link, an address, a route, a rule, a
/// chain, a list of elements, a flow. Says how many of them it is.
pub fn read_kernel_message(content: &[u8]) -> usize {
    let of_links = [
        link::Link::read(content).is_some(),
        link::read_address::<Ipv4Addr>(content).is_some(),
        link::read_address::<Ipv6Addr>(content).is_some(),
        link::read_route::<Ipv4Addr>(content).is_some(),
        link::read_route::<Ipv6Addr>(content).is_some(),
        flows::read(content, &BTreeSet::from([53])).is_some(),
    ];
    of_links.into_iter().filter(|known| *known).count() + firewall::read_anything(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_a_link_and_nothing_is_nothing() {
        assert_eq!(read_kernel_message(&[]), 0);
        // An index and nothing else is enough for a link, and of nobody's family.
        assert_eq!(read_kernel_message(&[0xff; 16]), 1);
    }

    proptest::proptest! {
        #[test]
        fn nothing_is_too_odd(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..400)) {
            proptest::prop_assert!(read_kernel_message(&bytes) <= 10);
        }
    }
}
