//! Which of a container's networks leads elsewhere. Decides purely.

use super::record::{Endpoint, Interface};

/// One family of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    V4,
    V6,
}

impl Way {
    fn is_open(self, interface: &Interface) -> bool {
        match self {
            Self::V4 => interface.gateway.is_some(),
            Self::V6 => interface.v6.as_ref().is_some_and(|v6| v6.gateway.is_some()),
        }
    }
}

/// The endpoint with the highest priority that has a gateway; of several the one whose network's name is first.
pub(super) fn leading<'a>(endpoints: impl IntoIterator<Item = &'a Endpoint>, way: Way) -> Option<&'a Endpoint> {
    let open = |endpoint: &&Endpoint| endpoint.interface.as_ref().is_some_and(|interface| way.is_open(interface));
    let open = endpoints.into_iter().filter(open);
    open.min_by(|one, other| (-one.priority, &one.network_name).cmp(&(-other.priority, &other.network_name)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::network::tests::endpoint;

    #[test]
    fn priority_decides_then_the_name() {
        let named = |name: &str, priority| {
            let mut endpoint = endpoint(name, "10.0.0.2");
            endpoint.priority = priority;
            endpoint
        };
        let mut all = vec![named("b", 0), named("a", 0), named("c", 5), named("d", -5)];
        assert_eq!(leading(&all, Way::V4).unwrap().network_name, "c");
        all.remove(2);
        assert_eq!(leading(&all, Way::V4).unwrap().network_name, "a");
        all[1].interface.as_mut().unwrap().gateway = None;
        assert_eq!(leading(&all, Way::V4).unwrap().network_name, "b");
        assert_eq!(leading(&all, Way::V6), None);
        assert_eq!(leading(&[], Way::V4), None);
    }
}
