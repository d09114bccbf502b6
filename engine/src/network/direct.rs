//! Networks that are no bridge of ours: macvlan and ipvlan on an interface of the host, and those of drivers that a program
//! brings.

use engine_sys::netlink::{self, Message, Netlink};
use rustix::io::Errno;

use super::bridge::Host;
use super::connect::{Place, free};
use super::link::{self, Link, LinkKind};
use super::record::{Direct, Driver, Endpoint, GatewayMode, Interface, Network};
use super::{Connect, Error, NetworkNamespace, Networks};
use crate::state::{Durability, Table};

impl Networks {
    pub(super) fn connect_direct(&self, network: &Network, request: &Connect) -> Result<Endpoint, Error> {
        let no_namespace = || Error::NoNamespace { network: network.name.clone() };
        let namespace = request.namespace.as_ref().ok_or_else(no_namespace)?;
        let direct = network.direct.as_ref().ok_or_else(no_namespace)?;
        let place = Place {
            addresses: &direct.addresses,
            prefix: None,
            host_binding: None,
            masters: false,
            gateway_mode: GatewayMode::Nat,
            gateway_mode_v6: GatewayMode::Nat,
            passes_on: false,
        };
        let (mut endpoint, _, leads) = self.take(network, &place, request)?;
        let made = (|| {
            let Some(interface) = &mut endpoint.interface else { return Err(no_namespace()) };
            interface.host_name.clear();
            let switches = request.switches(&interface.name)?;
            match &network.driver {
                Driver::Own(name) => {
                    let driver = self.driver(name)?;
                    let failed = |source| Error::Driver { driver: name.clone(), source };
                    driver.connect(network, &endpoint, namespace.as_fd()).map_err(failed)?;
                }
                driver => self.host().make_direct(driver, network, direct, interface, namespace)?,
            }
            let Some(interface) = &endpoint.interface else { return Err(no_namespace()) };
            let up = self.set_up(interface, namespace, leads, &switches, None);
            let up = up.and_then(|()| {
                // There is no router: everything else is behind the interface itself.
                if direct.mode.starts_with("l3") && leads_nowhere(&endpoint) && !network.internal {
                    lead_to_link(&mut namespace.inside(), &interface.name)
                        .map_err(Error::kernel(format!("set the route of {}", interface.name)))?;
                }
                // The name of the host's end is not known before.
                self.shared.state.write(Durability::Process, |transaction| {
                    let key = super::connect::endpoint_key(&endpoint.container, &endpoint.network);
                    Ok(transaction.put(Table::Endpoint, &key, &endpoint)?)
                })
            });
            up.inspect_err(|_| {
                if let Err(error) = self.let_go(network, &endpoint, Some(namespace)) {
                    tracing::warn!(%error, "a failed connection leaves an interface behind");
                }
            })
        })();
        match made {
            Ok(()) => Ok(endpoint),
            Err(error) => {
                self.shared.state.write(Durability::Process, |transaction| free(transaction, &endpoint))?;
                Err(error)
            }
        }
    }

    /// Takes away what was made for an endpoint of a network that is no bridge. Without a namespace its interface goes with
    /// that.
    pub(super) fn let_go(
        &self,
        network: &Network,
        endpoint: &Endpoint,
        namespace: Option<&NetworkNamespace>,
    ) -> Result<(), Error> {
        let Some(interface) = &endpoint.interface else { return Ok(()) };
        match &network.driver {
            Driver::Own(name) => {
                // A driver that is not there any more cannot hold a container back.
                let Ok(driver) = self.driver(name) else { return Ok(()) };
                driver.disconnect(network, endpoint).map_err(|source| Error::Driver { driver: name.clone(), source })
            }
            Driver::Macvlan | Driver::Ipvlan => {
                let Some(namespace) = namespace else { return Ok(()) };
                match namespace.inside().request(&mut [link::delete_link_named(&interface.name)]) {
                    Err(error) if !error.is(Errno::NODEV) => {
                        Err(Error::kernel(format!("remove the interface {}", interface.name))(error))
                    }
                    _ => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }
}

fn leads_nowhere(endpoint: &Endpoint) -> bool {
    endpoint.interface.as_ref().is_some_and(|interface| interface.gateway.is_none() && interface.address.is_some())
}

fn lead_to_link(inside: &mut Netlink, name: &str) -> Result<(), netlink::Error> {
    let found = link::find_link(inside, name)?.ok_or(Errno::NODEV)?;
    inside.request(&mut [link::add_route_to_link(found.index)])
}

impl Host {
    /// Makes an interface on an interface of the host, in the namespace.
    fn make_direct(
        &mut self,
        driver: &Driver,
        network: &Network,
        direct: &Direct,
        interface: &mut Interface,
        namespace: &NetworkNamespace,
    ) -> Result<(), Error> {
        let parent = self.parent(network, direct)?;
        let kind = match driver {
            Driver::Macvlan => LinkKind::Macvlan(match direct.mode.as_str() {
                "private" => 1,
                "vepa" => 2,
                "passthru" => 8,
                _ => 4,
            }),
            _ => LinkKind::Ipvlan {
                mode: match direct.mode.as_str() {
                    "l3" => 1,
                    "l3s" => 2,
                    _ => 0,
                },
                flags: match direct.flag.as_str() {
                    "private" => 1,
                    "vepa" => 2,
                    _ => 0,
                },
            },
        };
        if matches!(kind, LinkKind::Ipvlan { .. }) {
            // They share that of the parent.
            interface.mac = parent.mac.unwrap_or(interface.mac);
        }
        let mtu = direct.mtu.unwrap_or(parent.mtu);
        let make = link::make_on(kind, parent.index, &interface.name, interface.mac, mtu, namespace.as_fd());
        self.order(driver, &parent.name, make)
    }

    fn order(&mut self, driver: &Driver, parent: &str, message: Message) -> Result<(), Error> {
        self.route.request(&mut [message]).map_err(|error| {
            if error.is(Errno::OPNOTSUPP) {
                return Error::Unsupported(format!("the kernel of this host has no {driver}: load its module"));
            }
            if error.is(Errno::BUSY) {
                return Error::Forbidden(format!(
                    "the interface {parent} is in use by something that {driver} cannot share it with"
                ));
            }
            Error::kernel(format!("make a {driver} interface on {parent}"))(error)
        })
    }

    /// The interface of the host that a network is on. A VLAN (`eth0.10`) is made when it is not there, and one without
    /// any way out when none was asked for.
    fn parent(&mut self, network: &Network, direct: &Direct) -> Result<Link, Error> {
        let name = parent_name(network, direct);
        // One of ours that is not up was cut off in its making.
        if let Some(found) = self.find(&name)?.filter(|found| found.up || !self.made(found, &network.id)) {
            return Ok(found);
        }
        let (mark, peer) = (self.mark(&network.id), format!("dp-{}", network.id.short()));
        let make = if direct.parent.is_empty() {
            link::make_dummy(&name, mark)
        } else {
            let missing = || Error::Refused(format!("parent interface {name} was not found on the host"));
            let (under, number) = name.rsplit_once('.').ok_or_else(missing)?;
            let number: u16 = number.parse().ok().filter(|number| (1..=4094).contains(number)).ok_or_else(missing)?;
            let under = self.find(under)?.ok_or_else(missing)?;
            link::make_vlan(&name, under.index, number)
        };
        let made = match self.route.request(&mut [make]) {
            Err(error) if direct.parent.is_empty() && error.is(Errno::OPNOTSUPP) => {
                self.route.request(&mut [link::make_stub(&name, mark, &peer)])
            }
            made => made,
        };
        match made {
            Err(error) if !error.is(Errno::EXIST) => {
                return Err(Error::kernel(format!("make the interface {name}"))(error));
            }
            _ => {}
        }
        if direct.parent.is_empty() {
            match self.route.request(&mut [link::bring_up_named(&peer)]) {
                // A dummy has no other end.
                Err(error) if !error.is(Errno::NODEV) => {
                    return Err(Error::kernel(format!("set the interface {peer} up"))(error));
                }
                _ => {}
            }
        }
        let missing = || Error::kernel(format!("find the interface {name}"))(Errno::NODEV.into());
        let found = self.find(&name)?.ok_or_else(missing)?;
        let up = [link::bring_up_as(found.index, &self.alias)];
        self.route
            .request(&mut up.into_iter().collect::<Vec<_>>())
            .map_err(Error::kernel(format!("set the interface {name} up")))?;
        Ok(found)
    }

    /// Removes the interface of a network, when we made it.
    pub(super) fn remove_parent(&mut self, network: &Network, direct: &Direct) -> Result<(), Error> {
        if !matches!(network.driver, Driver::Macvlan | Driver::Ipvlan) {
            return Ok(());
        }
        match self.find(&parent_name(network, direct))? {
            Some(found) if self.made(&found, &network.id) => self.delete(&found),
            _ => Ok(()),
        }
    }
}

/// What the interface of the host is called that a network is on.
pub(super) fn parent_name(network: &Network, direct: &Direct) -> String {
    if direct.parent.is_empty() { format!("dm-{}", network.id.short()) } else { direct.parent.clone() }
}
