//! The host's IPv4 forwarding, without which no packet of a container leaves.
//!
//! When it is off, the host forwards nothing; turning it on must not make a router of it. So the engine puts a guard
//! into the packet filter first: between the interfaces that are there at that moment nothing is forwarded. Interfaces
//! that others make later (another engine's bridges, virtual machines) are their makers' business. Neither the switch
//! nor the guard is turned back when an engine ends: somebody else may rely on the switch by then, and the host on
//! the guard. A host that wants to forward turns the switch on itself, before; then there is no guard.

use std::io;
use std::path::Path;

use engine_sys::netlink::Netlink;

use super::{Error, firewall, link};

const SWITCH: &str = "/proc/sys/net/ipv4/ip_forward";
const GUARD: &str = "engine_guard";

/// Turns forwarding on when it is off, and returns the guard that was put in place before.
pub(super) fn ensure(route: &mut Netlink, filter: Option<&mut Netlink>) -> Result<Option<firewall::Ruleset>, Error> {
    let path = Path::new(SWITCH);
    let switch = std::fs::read(path).map_err(Error::system(format!("read {SWITCH}")))?;
    if !switch.starts_with(b"0") {
        return Ok(None);
    }
    let mut guard = None;
    if let Some(filter) = filter {
        let links = link::links(route).map_err(Error::kernel("list the interfaces"))?;
        let guarded = links.into_iter().filter(is_the_hosts).map(|link| link.name).collect();
        let rules = firewall::guard(GUARD, guarded);
        firewall::apply(filter, &rules)
            .map_err(Error::kernel("guard the interfaces of this host against forwarding"))?;
        guard = Some(rules);
    }
    tracing::info!("IPv4 forwarding is turned on");
    write_switch(path, "1")?;
    Ok(guard)
}

/// Not the loopback, nor an engine's bridge or a container's interface.
fn is_the_hosts(link: &link::Link) -> bool {
    link.name != "lo" && link.kind != "veth" && !(link.kind == "bridge" && link.name.starts_with("eng"))
}

/// Writes a switch of the kernel.
pub(super) fn write_switch(path: &Path, value: &'static str) -> Result<(), Error> {
    std::fs::write(path, value).map_err(|source| Error::Switch { path: path.to_owned(), value, source })
}

/// As [`write_switch`], when the kernel has the switch.
pub(super) fn write_switch_if_there(path: &Path, value: &'static str) -> Result<(), Error> {
    match write_switch(path, value) {
        Err(Error::Switch { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
