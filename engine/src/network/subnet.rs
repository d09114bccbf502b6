//! Blocks of addresses, and the choice of one that the host does not use yet.

use std::fmt;
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::settings::AddressPool;

/// An address of one family, as a number.
pub trait Address: Copy + Eq + Ord + Hash + fmt::Display + FromStr + Into<IpAddr> {
    /// How many bits it has.
    const BITS: u8;

    /// Its number.
    fn number(self) -> u128;

    /// The address with the lowest [`Self::BITS`] bits of this number.
    fn from_number(number: u128) -> Self;

    /// Its bytes, the highest first.
    fn bytes(self) -> Vec<u8>;
}

impl Address for Ipv4Addr {
    const BITS: u8 = 32;

    fn number(self) -> u128 {
        u32::from(self).into()
    }

    fn from_number(number: u128) -> Self {
        #[allow(clippy::cast_possible_truncation, reason = "what is above is not of the address")]
        Self::from(number as u32)
    }

    fn bytes(self) -> Vec<u8> {
        self.octets().to_vec()
    }
}

impl Address for Ipv6Addr {
    const BITS: u8 = 128;

    fn number(self) -> u128 {
        self.into()
    }

    fn from_number(number: u128) -> Self {
        number.into()
    }

    fn bytes(self) -> Vec<u8> {
        self.octets().to_vec()
    }
}

/// A block of addresses: its first address and the length of the common prefix.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subnet<A = Ipv4Addr> {
    first: A,
    prefix_len: u8,
}

/// A block of IPv6 addresses.
pub type Subnet6 = Subnet<Ipv6Addr>;

impl<A: Address> Subnet<A> {
    /// The block that `address` is in; none when the prefix is longer than an address.
    pub fn of(address: A, prefix_len: u8) -> Option<Self> {
        let first = || A::from_number(address.number() & mask::<A>(prefix_len));
        (prefix_len <= A::BITS).then(|| Self { first: first(), prefix_len })
    }

    /// All addresses of the family.
    pub(super) fn everything() -> Self {
        Self { first: A::from_number(0), prefix_len: 0 }
    }

    /// The first address, which names the block and is nobody's.
    pub fn first(self) -> A {
        self.first
    }

    /// The last address; of IPv4 the one for which everybody listens.
    pub fn broadcast(self) -> A {
        A::from_number(self.first.number() | !mask::<A>(self.prefix_len))
    }

    /// The length of the common prefix.
    pub fn prefix_len(self) -> u8 {
        self.prefix_len
    }

    /// The common prefix as a mask.
    pub fn mask(self) -> A {
        A::from_number(mask::<A>(self.prefix_len))
    }

    /// How many addresses there are; the largest number when it is one more.
    pub fn len(self) -> u128 {
        1u128.checked_shl(u32::from(A::BITS - self.prefix_len)).unwrap_or(u128::MAX)
    }

    /// Never: a block has at least one address.
    pub fn is_empty(self) -> bool {
        false
    }

    /// The address at this place, counted from the first.
    pub fn at(self, index: u128) -> Option<A> {
        (index < self.len()).then(|| A::from_number(self.first.number() + index))
    }

    /// The place of an address.
    pub fn index(self, address: A) -> Option<u128> {
        self.contains(address).then(|| address.number() - self.first.number())
    }

    /// Whether the address is in the block.
    pub fn contains(self, address: A) -> bool {
        address.number() & mask::<A>(self.prefix_len) == self.first.number()
    }

    /// Whether all addresses of the other are in this one too.
    pub fn covers(self, other: Self) -> bool {
        self.prefix_len <= other.prefix_len && self.contains(other.first)
    }

    /// Whether some address is in both.
    pub fn overlaps(self, other: Self) -> bool {
        let shorter = mask::<A>(self.prefix_len.min(other.prefix_len));
        self.first.number() & shorter == other.first.number() & shorter
    }
}

fn mask<A: Address>(prefix_len: u8) -> u128 {
    let all = u128::MAX >> (128 - u32::from(A::BITS));
    all & all.checked_shl(u32::from(A::BITS) - u32::from(prefix_len)).unwrap_or(0)
}

impl<A: Address> fmt::Display for Subnet<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first(), self.prefix_len)
    }
}

impl<A: Address> fmt::Debug for Subnet<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text is no block of addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid block of addresses {0:?}: expected one such as 10.1.0.0/16")]
pub struct InvalidSubnet(String);

impl<A: Address> FromStr for Subnet<A> {
    type Err = InvalidSubnet;

    fn from_str(text: &str) -> Result<Self, InvalidSubnet> {
        let parsed = text.split_once('/').and_then(|(address, prefix)| {
            let digits = (1..=3).contains(&prefix.len())
                && !(prefix.len() > 1 && prefix.starts_with('0'))
                && prefix.bytes().all(|byte| byte.is_ascii_digit());
            Self::of(address.parse().ok()?, digits.then(|| prefix.parse().ok())??)
        });
        parsed.ok_or_else(|| InvalidSubnet(text.chars().take(64).collect()))
    }
}

impl<A: Address> Serialize for Subnet<A> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de, A: Address> Deserialize<'de> for Subnet<A> {
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

/// A block of private IPv6 addresses that nobody else has: its prefix is made of random bytes.
pub(super) fn private_v6(random: [u8; 7]) -> Subnet6 {
    let [a, b, c, d, e, f, g] = random;
    let bytes = [0xfd, a, b, c, d, e, f, g, 0, 0, 0, 0, 0, 0, 0, 0];
    Subnet { first: Ipv6Addr::from(bytes), prefix_len: 64 }
}

/// One of that kind.
pub(super) fn random_v6() -> Result<Subnet6, getrandom::Error> {
    let mut random = [0; 7];
    getrandom::fill(&mut random)?;
    Ok(private_v6(random))
}

/// The first block of the pools that overlaps nothing in use. Decides purely.
pub(super) fn choose<A: Address>(pools: &[AddressPool<A>], in_use: &[Subnet<A>]) -> Option<Subnet<A>> {
    pools.iter().find_map(|pool| {
        let whole = Subnet::of(pool.base, pool.prefix_len)?;
        let step = pool.subnet_len.checked_sub(pool.prefix_len)?;
        let size = Subnet::of(pool.base, pool.subnet_len)?.len();
        // A hostile setting may ask for 2^32 tiny blocks; nobody has that many networks.
        let count = 1u128.checked_shl(step.into()).unwrap_or(u128::MAX).min(1 << 16);
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
        assert_eq!(choose::<Ipv4Addr>(&[], &[]), None);
    }

    #[test]
    fn blocks_of_ipv6() {
        let block: Subnet6 = "fd00:1:2:3::5/64".parse().unwrap();
        assert_eq!(block.to_string(), "fd00:1:2:3::/64");
        assert_eq!(block.at(2).unwrap().to_string(), "fd00:1:2:3::2");
        assert_eq!(block.index("fd00:1:2:3::2".parse().unwrap()), Some(2));
        assert_eq!(block.broadcast().to_string(), "fd00:1:2:3:ffff:ffff:ffff:ffff");
        assert!(block.covers("fd00:1:2:3:1::/80".parse().unwrap()) && !block.covers("fd00::/16".parse().unwrap()));
        assert_eq!("::/0".parse::<Subnet6>().unwrap().len(), u128::MAX);
        assert!("::/129".parse::<Subnet6>().is_err() && "10.0.0.0/8".parse::<Subnet6>().is_err());
        assert_eq!(private_v6([1, 2, 3, 4, 5, 6, 7]).to_string(), "fd01:203:405:607::/64");
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
