//! A container's interface: made on the host, brought up inside the container's namespace.

use std::io;
use std::net::IpAddr;
use std::path::Path;

use engine_sys::namespace::in_network;
use engine_sys::netlink::Message;
use rustix::io::Errno;

use super::bridge::Ready;
use super::connect::Leads;
use super::record::{Bridge, Interface};
use super::subnet::Subnet;
use super::{Error, NetworkNamespace, Networks, link};

impl Networks {
    /// Makes the two ends: one on the bridge, the other in the namespace.
    pub(super) fn make_interface(
        &self,
        bridge: &Bridge,
        ready: Ready,
        interface: &Interface,
        namespace: &NetworkNamespace,
    ) -> Result<(), Error> {
        let veth = link::Veth {
            host_name: &interface.host_name,
            bridge: ready.index,
            mtu: ready.mtu,
            name: &interface.name,
            mac: interface.mac,
            namespace: namespace.as_fd(),
        };
        let mut messages = vec![link::make_veth(veth)];
        let port = link::Port { isolated: !bridge.inter_container, hairpin: !interface.ports.is_empty() };
        if port != link::Port::default() {
            messages.push(link::set_port(&interface.host_name, port));
        }
        let made = self.host().route.request(&mut messages);
        made.map_err(|error| {
            // The first message makes the pair or nothing, and a name that is taken is somebody else's.
            if error.index > 0 {
                self.remove_port_after_failure(&interface.host_name);
            }
            let what = format!("make the interface {} on the bridge {}", interface.host_name, bridge.interface);
            match error.source.raw_os_error() {
                // The kernel says so when a bridge has no room for another port.
                Some(code) if code == Errno::XFULL.raw_os_error() || code == Errno::BUSY.raw_os_error() => {
                    Error::Kernel { what: format!("{what} (a bridge has at most 1023 containers)"), source: error }
                }
                _ => Error::Kernel { what, source: error },
            }
        })
    }

    /// Brings the interface up with its addresses, the way out where it leads elsewhere, and its switches. `bridge` is
    /// the link that it is on.
    pub(super) fn set_up(
        &self,
        interface: &Interface,
        namespace: &NetworkNamespace,
        leads: Leads,
        switches: &[(String, String)],
        bridge: Option<u32>,
    ) -> Result<(), Error> {
        let failed = |error: engine_sys::netlink::Error| {
            Error::kernel(format!("set the container's interface {} up", interface.name))(error)
        };
        let done = turn_switches(interface, namespace, switches).and_then(|()| {
            bring_up(interface, namespace, leads).map_err(failed)?;
            let Some(bridge) = bridge else { return Ok(()) };
            // The port first: with its first port the bridge gets a carrier too.
            let port = link::honour_carrier(0, &interface.host_name);
            self.host().route.request(&mut [port, link::honour_carrier(bridge, "")]).map_err(failed)
        });
        done.inspect_err(|_| self.remove_port_after_failure(&interface.host_name))
    }

    /// The first error is the one to tell.
    pub(super) fn remove_port_after_failure(&self, name: &str) {
        if let Err(error) = self.remove_port(name) {
            tracing::warn!(%error, "a failed connection leaves an interface behind");
        }
    }

    pub(super) fn remove_port(&self, name: &str) -> Result<(), Error> {
        if name.is_empty() {
            return Ok(());
        }
        match self.host().route.request(&mut [link::delete_link_named(name)]) {
            Err(error) if !error.is(Errno::NODEV) => Err(Error::kernel(format!("remove the interface {name}"))(error)),
            _ => Ok(()),
        }
    }
}

/// The namespace begins without IPv6; interfaces that have it get it here. Nothing to do for others.
fn turn_switches(
    interface: &Interface,
    namespace: &NetworkNamespace,
    switches: &[(String, String)],
) -> Result<(), Error> {
    let link_local_v6 = interface.link_local.iter().any(IpAddr::is_ipv6);
    let mut wanted: Vec<(String, &str)> = Vec::new();
    if interface.v6.is_some() || link_local_v6 {
        let own = format!("net/ipv6/conf/{}", interface.name);
        wanted.push(("net/ipv6/conf/lo/disable_ipv6".to_owned(), "0"));
        wanted.push((format!("{own}/accept_ra"), "0"));
        wanted.push((format!("{own}/disable_ipv6"), "0"));
    }
    wanted.extend(switches.iter().map(|(path, value)| (path.clone(), value.as_str())));
    if wanted.is_empty() {
        return Ok(());
    }
    let mut at = String::new();
    let turned = in_network(namespace.as_fd(), || {
        for (path, value) in &wanted {
            at.clone_from(path);
            std::fs::write(Path::new("/proc/sys").join(path), value)?;
        }
        Ok(())
    });
    turned.map_err(|error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => Error::Refused(format!("the kernel has no switch /proc/sys/{at}")),
        _ => Error::system(format!("write to /proc/sys/{at} of a container"))(error),
    })
}

fn bring_up(
    interface: &Interface,
    namespace: &NetworkNamespace,
    leads: Leads,
) -> Result<(), engine_sys::netlink::Error> {
    let mut inside = namespace.inside();
    let found = link::find_link(&mut inside, &interface.name)?.ok_or(Errno::NODEV)?;
    let mut messages: Vec<Message> = vec![link::bring_up(found.index)];
    if let Some(address) = interface.address {
        let subnet = Subnet::of(address, interface.prefix_len).ok_or(Errno::INVAL)?;
        messages.push(link::add_address(found.index, address, subnet));
    }
    if let Some(v6) = &interface.v6 {
        let subnet = Subnet::of(v6.address, v6.prefix_len).ok_or(Errno::INVAL)?;
        messages.push(link::add_address(found.index, v6.address, subnet));
    }
    for address in &interface.link_local {
        messages.push(match *address {
            IpAddr::V4(address) => {
                link::add_address(found.index, address, Subnet::of(address, 16).ok_or(Errno::INVAL)?)
            }
            IpAddr::V6(address) => {
                link::add_address(found.index, address, Subnet::of(address, 64).ok_or(Errno::INVAL)?)
            }
        });
    }
    messages.extend(way_out(found.index, interface, leads));
    inside.request(&mut messages)
}

fn way_out(index: u32, interface: &Interface, leads: Leads) -> Vec<Message> {
    let v4 = interface.gateway.filter(|_| leads.v4).map(|gateway| link::add_default_route(index, gateway, true));
    let v6 = interface.v6.as_ref().and_then(|v6| v6.gateway).filter(|_| leads.v6);
    v4.into_iter().chain(v6.map(|gateway| link::add_default_route(index, gateway, true))).collect()
}

/// Makes an interface that is up already the one that leads elsewhere.
pub(super) fn lead_elsewhere(interface: &Interface, namespace: &NetworkNamespace, leads: Leads) -> Result<(), Error> {
    let failed = Error::kernel(format!("let the container's interface {} lead elsewhere", interface.name));
    let mut inside = namespace.inside();
    let led = link::find_link(&mut inside, &interface.name).and_then(|found| {
        let index = found.ok_or(Errno::NODEV)?.index;
        inside.request(&mut way_out(index, interface, leads))
    });
    led.map_err(failed)
}
