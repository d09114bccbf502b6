//! Blocks of addresses, and the choice of one that the host does not use yet.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::settings::AddressPool;

/// A block of IPv4 addresses: its first address and the length of the common prefix, at most 32.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Subnet {
    first: u32,
    prefix_len: u8,
}

impl Subnet {
    /// The block that `address` is in; none when the prefix is longer than an address.
    pub fn of(address: Ipv4Addr, prefix_len: u8) -> Option<Self> {
        (prefix_len <= 32).then(|| Self { first: u32::from(address) & mask(prefix_len), prefix_len })
    }

    /// The first address, which names the block and is nobody's.
    pub fn first(self) -> Ipv4Addr {
        self.first.into()
    }

    /// The last address, for which everybody listens.
    pub fn broadcast(self) -> Ipv4Addr {
        (self.first | !mask(self.prefix_len)).into()
    }

    /// The length of the common prefix.
    pub fn prefix_len(self) -> u8 {
        self.prefix_len
    }

    /// The common prefix as a mask.
    pub fn mask(self) -> Ipv4Addr {
        mask(self.prefix_len).into()
    }

    /// How many addresses there are.
    pub fn len(self) -> u64 {
        1 << (32 - u32::from(self.prefix_len))
    }

    /// Never: a block has at least one address.
    pub fn is_empty(self) -> bool {
        false
    }

    /// The address at this place, counted from the first.
    pub fn at(self, index: u64) -> Option<Ipv4Addr> {
        (index < self.len()).then(|| u32::try_from(index).ok())?.map(|index| (self.first + index).into())
    }

    /// The place of an address.
    pub fn index(self, address: Ipv4Addr) -> Option<u64> {
        self.contains(address).then(|| u64::from(u32::from(address) - self.first))
    }

    /// Whether the address is in the block.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        u32::from(address) & mask(self.prefix_len) == self.first
    }

    /// Whether some address is in both.
    pub fn overlaps(self, other: Self) -> bool {
        let shorter = mask(self.prefix_len.min(other.prefix_len));
        self.first & shorter == other.first & shorter
    }
}

fn mask(prefix_len: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix_len)).unwrap_or(0)
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first(), self.prefix_len)
    }
}

impl fmt::Debug for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text is no block of addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid block of addresses {0:?}: expected one such as 10.1.0.0/16")]
pub struct InvalidSubnet(String);

impl FromStr for Subnet {
    type Err = InvalidSubnet;

    fn from_str(text: &str) -> Result<Self, InvalidSubnet> {
        let parsed = text.split_once('/').and_then(|(address, prefix)| {
            let digits = (1..=2).contains(&prefix.len()) && prefix.bytes().all(|byte| byte.is_ascii_digit());
            Self::of(address.parse().ok()?, digits.then(|| prefix.parse().ok())??)
        });
        parsed.ok_or_else(|| InvalidSubnet(text.chars().take(64).collect()))
    }
}

impl Serialize for Subnet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Subnet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The pools of Docker: fifteen large blocks, then sixteen smaller ones.
pub(super) fn built_in_pools() -> Vec<AddressPool> {
    let large =
        (17..=31).map(|second| AddressPool { base: Ipv4Addr::new(172, second, 0, 0), prefix_len: 16, subnet_len: 16 });
    let small = AddressPool { base: Ipv4Addr::new(192, 168, 0, 0), prefix_len: 16, subnet_len: 20 };
    large.chain([small]).collect()
}

/// The first block of the pools that overlaps nothing in use. Decides purely.
pub(super) fn choose(pools: &[AddressPool], in_use: &[Subnet]) -> Option<Subnet> {
    pools.iter().find_map(|pool| {
        let whole = Subnet::of(pool.base, pool.prefix_len)?;
        let step = u64::from(pool.subnet_len.checked_sub(pool.prefix_len)?);
        let size = Subnet::of(pool.base, pool.subnet_len)?.len();
        // A hostile setting may ask for 2^32 tiny blocks; nobody has that many networks.
        let count = (1u64 << step).min(1 << 16);
        (0..count)
            .filter_map(|index| Subnet::of(whole.at(index * size)?, pool.subnet_len))
            .find(|candidate| !in_use.iter().any(|used| used.overlaps(*candidate)))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn block(text: &str) -> Subnet {
        text.parse().unwrap()
    }

    #[test]
    fn the_first_free_block_is_chosen() {
        let pools = built_in_pools();
        assert_eq!(choose(&pools, &[]), Some(block("172.17.0.0/16")));
        assert_eq!(choose(&pools, &[block("172.17.5.0/24"), block("172.18.0.0/15")]), Some(block("172.20.0.0/16")));
        assert_eq!(choose(&pools, &[block("172.16.0.0/12")]), Some(block("192.168.0.0/20")));
        let home = [block("172.16.0.0/12"), block("192.168.1.0/24"), block("192.168.16.7/32")];
        assert_eq!(choose(&pools, &home), Some(block("192.168.32.0/20")));
        assert_eq!(choose(&pools, &[block("0.0.0.0/0")]), None);
        assert_eq!(choose(&[], &[]), None);
    }

    #[test]
    fn only_well_formed_blocks_parse() {
        assert_eq!(block("10.1.2.3/8").to_string(), "10.0.0.0/8");
        for wrong in ["", "10.0.0.0", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/+8", "10.0.0.0/008", "::/0", "10.0.0/8"] {
            assert!(wrong.parse::<Subnet>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_edges_of_a_block() {
        let small = block("10.0.0.8/30");
        assert_eq!(small.broadcast(), Ipv4Addr::new(10, 0, 0, 11));
        assert_eq!(small.mask(), Ipv4Addr::new(255, 255, 255, 252));
        assert_eq!((small.at(3), small.at(4)), (Some(Ipv4Addr::new(10, 0, 0, 11)), None));
        assert_eq!(block("0.0.0.0/0").len(), 1 << 32);
        assert_eq!(block("1.2.3.4/32").broadcast(), Ipv4Addr::new(1, 2, 3, 4));
    }

    proptest! {
        #[test]
        fn overlap_is_sharing_an_address(a: u32, b: u32, p in 0u8..=32, q in 0u8..=32) {
            let (one, two) = (Subnet::of(a.into(), p).unwrap(), Subnet::of(b.into(), q).unwrap());
            let share = one.contains(two.first()) || two.contains(one.first());
            prop_assert_eq!(one.overlaps(two), share);
            prop_assert_eq!(one.to_string().parse::<Subnet>().unwrap(), one);
            prop_assert!(one.contains(a.into()) && one.contains(one.broadcast()));
            prop_assert_eq!(one.at(one.index(a.into()).unwrap()), Some(a.into()));
        }

        #[test]
        fn no_choice_overlaps(used in proptest::collection::vec((any::<u32>(), 8u8..=32), 0..20)) {
            let used: Vec<_> = used.into_iter().map(|(a, p)| Subnet::of(a.into(), p).unwrap()).collect();
            if let Some(chosen) = choose(&built_in_pools(), &used) {
                prop_assert!(used.iter().all(|used| !used.overlaps(chosen)));
            }
        }
    }
}
