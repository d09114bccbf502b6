//! The host's forwarding, without which no packet of a container leaves.
//!
//! When it is off, the host forwards nothing; turning it on must not make a router of it. So the engine puts a guard
//! into the packet filter first: between the interfaces that are there at that moment nothing is forwarded. Interfaces
//! that others make later (another engine's bridges, virtual machines) are their makers' business. Neither the switch
//! nor the guard is turned back when an engine ends: somebody else may rely on the switch by then, and the host on
//! the guard. A host that wants to forward turns the switch on itself, before; then there is no guard.

use std::io;
use std::path::{Path, PathBuf};

use engine_sys::netlink::Netlink;

use super::bridge::ALIAS;
use super::firewall::Family;
use super::{Error, firewall, link};

const GUARD: &str = "engine_guard";

/// Turns forwarding of a family on when it is off, and returns the guard that was put in place before.
pub(super) fn ensure(
    family: Family,
    route: &mut Netlink,
    filter: Option<&mut Netlink>,
) -> Result<Option<firewall::Ruleset>, Error> {
    let (name, switch) = match family {
        Family::Ipv6 => ("IPv6", "/proc/sys/net/ipv6/conf/all/forwarding"),
        _ => ("IPv4", "/proc/sys/net/ipv4/ip_forward"),
    };
    let path = Path::new(switch);
    let value = match std::fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Error::Unsupported(format!("{name} is turned off on this host: {switch} is not there")));
        }
        other => other.map_err(Error::system(format!("read {switch}")))?,
    };
    if !value.starts_with(b"0") {
        return Ok(None);
    }
    let mut guard = None;
    let links = link::links(route).map_err(Error::kernel("list the interfaces"))?;
    let guarded: Vec<String> = links.into_iter().filter(is_the_hosts).map(|link| link.name).collect();
    if family == Family::Ipv6 {
        keep_advertised_routes(&guarded)?;
    }
    if let Some(filter) = filter {
        let rules = firewall::guard(family, GUARD, &guarded);
        firewall::apply(filter, std::slice::from_ref(&rules))
            .map_err(Error::kernel("guard the interfaces of this host against forwarding"))?;
        guard = Some(rules);
    }
    tracing::info!("{name} forwarding is turned on");
    write_switch(path, "1")?;
    Ok(guard)
}

/// A host that forwards no longer listens to routers, unless it is told to: it would lose its own way out.
fn keep_advertised_routes(interfaces: &[String]) -> Result<(), Error> {
    for interface in interfaces {
        let path = switch_of(interface, "accept_ra");
        if std::fs::read(&path).is_ok_and(|value| value.starts_with(b"1")) {
            write_switch_if_there(&path, "2")?;
        }
    }
    Ok(())
}

/// An interface's switch of IPv6.
pub(super) fn switch_of(interface: &str, switch: &str) -> PathBuf {
    PathBuf::from(format!("/proc/sys/net/ipv6/conf/{interface}/{switch}"))
}

/// Not the loopback, nor an engine's bridge or a container's interface.
fn is_the_hosts(link: &link::Link) -> bool {
    link.name != "lo" && link.kind != "veth" && !(link.kind == "bridge" && link.alias.starts_with(ALIAS))
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
