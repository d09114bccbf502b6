//! Names of capabilities and the masks that the kernel knows them by.

use std::str::FromStr;

use oci_spec::runtime::{Capabilities, Capability};

/// The mask of a set; bit `n` is capability number `n` of `linux/capability.h`.
#[must_use]
pub fn mask(set: &Capabilities) -> u64 {
    set.iter().filter_map(|capability| known(*capability)).fold(0, |mask, known| mask | known.bitmask())
}

/// The set of a mask; bits that have no name are left out.
#[must_use]
pub fn set(mask: u64) -> Capabilities {
    caps::all()
        .iter()
        .filter(|known| mask & known.bitmask() != 0)
        .filter_map(|known| parse(&known.to_string()))
        .collect()
}

/// Reads a name as Docker's users write it: in any case, with or without `CAP_`.
#[must_use]
pub fn parse(name: &str) -> Option<Capability> {
    let name = name.to_ascii_uppercase();
    Capability::from_str(name.strip_prefix("CAP_").unwrap_or(&name)).ok()
}

/// The name as the kernel's documentation writes it, such as `CAP_CHOWN`.
#[must_use]
pub fn name(capability: Capability) -> String {
    format!("CAP_{capability}")
}

fn known(capability: Capability) -> Option<caps::Capability> {
    caps::Capability::from_str(&name(capability)).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_capability_of_the_specification_has_a_number() {
        let all: Capabilities = caps::all().iter().map(|known| parse(&known.to_string()).unwrap()).collect();
        assert_eq!(all.len(), 41);
        assert_eq!(mask(&all), (1 << 41) - 1);
        assert_eq!(set(u64::MAX), all);
    }

    #[test]
    fn names_are_read_in_every_form() {
        assert_eq!(parse("net_admin"), Some(Capability::NetAdmin));
        assert_eq!(parse("CAP_NET_ADMIN"), Some(Capability::NetAdmin));
        assert_eq!(parse("cap_sys_admin").map(name).as_deref(), Some("CAP_SYS_ADMIN"));
        assert_eq!(parse("CAP_CAP_CHOWN"), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn docker_default_is_the_known_mask() {
        assert_eq!(mask(&crate::defaults::capabilities()), 0xa804_25fb);
    }
}
