//! Connecting a container to a network, and the way back.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use engine_sys::netlink::{Message, Netlink};
use rustix::io::Errno;

use super::bridge::Ready;
use super::firewall::Port;
use super::port::{self, Publish};
use super::record::{Bridge, Driver, Endpoint, Interface, MacAddress, Network};
use super::{Error, NetworkNamespace, Networks, Subnet, lease, link, off_thread, watch};
use crate::events::{Event, EventType};
use crate::id::{ContainerId, EndpointId, NetworkId};
use crate::state::{Durability, Table, Transaction};

/// How often a bridge that vanishes under our hands is made again.
const ATTEMPTS: usize = 3;

/// What is asked for when a container is connected.
#[derive(Debug, Clone)]
pub struct Connect {
    container: ContainerId,
    network: String,
    namespace: Option<NetworkNamespace>,
    mac: Option<MacAddress>,
    address: Option<Ipv4Addr>,
    publish: Vec<Publish>,
}

impl Connect {
    /// Connects `container` to the network with this name or id.
    #[must_use]
    pub fn new(container: ContainerId, network: impl Into<String>) -> Self {
        Self { container, network: network.into(), namespace: None, mac: None, address: None, publish: Vec::new() }
    }

    /// The namespace that gets the interface. Networks with addresses need it.
    #[must_use]
    pub fn namespace(mut self, namespace: &NetworkNamespace) -> Self {
        self.namespace = Some(namespace.clone());
        self
    }

    /// The hardware address; one that goes with the address when none is asked for.
    #[must_use]
    pub fn mac(mut self, mac: Option<MacAddress>) -> Self {
        self.mac = mac;
        self
    }

    /// The address; the next free one when none is asked for.
    #[must_use]
    pub fn address(mut self, address: Option<Ipv4Addr>) -> Self {
        self.address = address;
        self
    }

    /// Ports of the host that lead to the container; none on networks without addresses.
    #[must_use]
    pub fn publish(mut self, ports: Vec<Publish>) -> Self {
        self.publish = ports;
        self
    }
}

impl Networks {
    /// Connects a container: takes an address, puts the bridge and its rules in place, and makes the interface in the
    /// container's namespace. Nothing is left of it when it fails, or when its future is dropped.
    ///
    /// # Errors
    /// When there is no such network or address, or the kernel refuses.
    pub async fn connect(&self, request: Connect) -> Result<Endpoint, Error> {
        let this = self.clone();
        let (answer, answered) = tokio::sync::oneshot::channel();
        off_thread(move || {
            if let Err(Ok(endpoint)) = answer.send(this.connect_blocking(&request)) {
                // Nobody waits for it any more.
                this.detach_blocking(&endpoint.container, &endpoint.network_name)?;
            }
            Ok(())
        })
        .await?;
        answered.await.map_err(|_| Error::Interrupted)?
    }

    /// As [`Self::connect`], for a thread that may wait: about two milliseconds.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub fn connect_blocking(&self, request: &Connect) -> Result<Endpoint, Error> {
        let network = self.get(&request.network)?;
        let endpoint = match (network.driver, &network.bridge) {
            (Driver::Bridge, Some(_)) => self.connect_bridge(&network, request)?,
            _ => self.connect_plain(&network, request)?,
        };
        self.publish("connect", &endpoint, network.driver);
        Ok(endpoint)
    }

    /// Frees what a container has on all networks. Its interfaces are left to the death of its namespace. Fine when it
    /// has nothing.
    ///
    /// # Errors
    /// When the state fails.
    pub async fn disconnect(&self, container: &ContainerId) -> Result<(), Error> {
        let (this, container) = (self.clone(), *container);
        off_thread(move || this.disconnect_blocking(&container)).await
    }

    /// As [`Self::disconnect`], for a thread that may wait.
    ///
    /// # Errors
    /// As [`Self::disconnect`].
    pub fn disconnect_blocking(&self, container: &ContainerId) -> Result<(), Error> {
        let freed = self.shared.state.write(Durability::Process, |transaction| {
            let endpoints = transaction.list_prefix::<Endpoint>(Table::Endpoint, &endpoints_key(container))?;
            for (_, endpoint) in &endpoints {
                free(transaction, endpoint)?;
            }
            Ok::<_, Error>(endpoints)
        })?;
        for (_, endpoint) in &freed {
            self.unpublish(endpoint)?;
        }
        self.claims().remove(container);
        for (_, endpoint) in &freed {
            let driver = self.get(endpoint.network.as_str()).map_or(Driver::Bridge, |network| network.driver);
            self.publish("disconnect", endpoint, driver);
        }
        Ok(())
    }

    /// Takes a container that goes on living off one network: its interface is removed, its address freed.
    ///
    /// # Errors
    /// When it is not on that network, the state fails or the kernel refuses.
    pub async fn detach(&self, container: &ContainerId, network: &str) -> Result<(), Error> {
        let (this, container, network) = (self.clone(), *container, network.to_owned());
        off_thread(move || this.detach_blocking(&container, &network)).await
    }

    /// As [`Self::detach`], for a thread that may wait: removing an interface takes tens of milliseconds.
    ///
    /// # Errors
    /// As [`Self::detach`].
    pub fn detach_blocking(&self, container: &ContainerId, network: &str) -> Result<(), Error> {
        let network = self.get(network)?;
        let key = endpoint_key(container, &network.id);
        let endpoint = self.shared.state.read(|look| look.get::<Endpoint>(Table::Endpoint, &key))?;
        let endpoint = endpoint.ok_or_else(|| Error::NotConnected {
            container: container.short().to_owned(),
            network: network.name.clone(),
        })?;
        if let Some(interface) = &endpoint.interface {
            self.remove_port(&interface.host_name)?;
        }
        self.shared.state.write(Durability::Process, |transaction| free(transaction, &endpoint))?;
        self.unpublish(&endpoint)?;
        if !ports(&endpoint).is_empty() {
            self.claims().remove(container);
        }
        self.publish("disconnect", &endpoint, network.driver);
        Ok(())
    }

    fn connect_plain(&self, network: &Network, request: &Connect) -> Result<Endpoint, Error> {
        if request.address.is_some() || request.mac.is_some() || !request.publish.is_empty() {
            let reason =
                "invalid option: a container has no address and no ports of its own on this network".to_owned();
            return Err(Error::Invalid { network: network.name.clone(), reason });
        }
        let endpoint = Endpoint {
            id: EndpointId::random(),
            network: network.id,
            network_name: network.name.clone(),
            container: request.container,
            interface: None,
        };
        self.shared.state.write(Durability::Process, |transaction| insert(transaction, &endpoint))?;
        Ok(endpoint)
    }

    fn connect_bridge(&self, network: &Network, request: &Connect) -> Result<Endpoint, Error> {
        let no_namespace = || Error::NoNamespace { network: network.name.clone() };
        let namespace = request.namespace.as_ref().ok_or_else(no_namespace)?;
        let mut attempt = 0;
        loop {
            attempt += 1;
            let (bridge, ready) = self.bridge_in_place(network)?;
            let (endpoint, claims) = self.take(network, &bridge, request)?;
            let Some(interface) = &endpoint.interface else { return Err(no_namespace()) };
            let made = self.make_interface(&bridge, ready, interface, namespace).and_then(|()| {
                if interface.ports.is_empty() {
                    return Ok(());
                }
                let published = self.host().publish(&bridge, &ports(&endpoint), &self.shared.policy);
                published.inspect_err(|_| self.remove_port_after_failure(&interface.host_name))
            });
            let Err(error) = made else {
                if !claims.is_empty() {
                    self.claims().insert(request.container, claims);
                }
                return Ok(endpoint);
            };
            self.shared.state.write(Durability::Process, |transaction| free(transaction, &endpoint))?;
            match error {
                // The bridge has vanished: somebody removed it, or an engine on this root gave it up.
                Error::Kernel { source, .. } if is_gone(&source) && attempt < ATTEMPTS => {
                    self.host().doubt(&network.id);
                }
                error => return Err(error),
            }
        }
    }

    /// The bridge as it is used, made when it is not there; its rules too.
    pub(super) fn bridge_in_place(&self, network: &Network) -> Result<(Bridge, Ready), Error> {
        let policy = &self.shared.policy;
        let mut host = self.host();
        if let (Some(ready), Some(bridge)) = (host.ready(&network.id), &network.bridge)
            && bridge.settled
            && bridge.subnet == ready.subnet
        {
            host.keep_rules(policy, || self.in_use())?;
            return Ok((bridge.clone(), ready));
        }
        // Another engine on this root may have settled it since.
        let network = self.get(network.id.as_str())?;
        let (bridge, turn) = host.settle(&network, policy)?;
        if turn.is_some() {
            let settled = Network { bridge: Some(bridge.clone()), ..network.clone() };
            self.shared.state.write(Durability::Process, |transaction| {
                transaction.put(Table::Network, settled.id.as_str(), &settled)
            })?;
        }
        // The rules first: what is not there yet cannot be reached around them.
        host.doubt_rules();
        host.keep_rules(policy, || self.in_use())?;
        let ready = host.make(&network, &bridge, policy)?;
        drop(turn);
        if let Some(guard) = host.forward(policy)? {
            self.shared.state.write(Durability::Process, |transaction| watch::remember_guard(transaction, &guard))?;
        }
        Ok((bridge, ready))
    }

    fn take(&self, network: &Network, bridge: &Bridge, request: &Connect) -> Result<(Endpoint, port::Claims), Error> {
        let id = EndpointId::random();
        let mut claims = port::Claims::new();
        let endpoint = self.shared.state.write(Durability::Process, |transaction| {
            let others = transaction.list_prefix::<Endpoint>(Table::Endpoint, &endpoints_key(&request.container))?;
            let interfaces = others.iter().filter(|(_, endpoint)| endpoint.interface.is_some()).count();
            let address = lease::take(transaction, network, bridge, &request.container, request.address)?;
            let mut published = Vec::with_capacity(request.publish.len());
            for wanted in &request.publish {
                published.push(port::take(transaction, &request.container, wanted, &mut claims)?);
            }
            let interface = Interface {
                ports: published,
                name: format!("eth{interfaces}"),
                host_name: format!("veth{}", id.as_str().get(..7).unwrap_or_default()),
                address,
                prefix_len: bridge.subnet.prefix_len(),
                gateway: bridge.gateway,
                mac: request.mac.unwrap_or_else(|| MacAddress::of(address)),
            };
            let endpoint = Endpoint {
                id,
                network: network.id,
                network_name: network.name.clone(),
                container: request.container,
                interface: Some(interface),
            };
            insert(transaction, &endpoint)?;
            Ok::<_, Error>(endpoint)
        })?;
        Ok((endpoint, claims))
    }

    /// The state has forgotten the ports already, so the rules are made from it again when something is odd.
    fn unpublish(&self, endpoint: &Endpoint) -> Result<(), Error> {
        let ports = ports(endpoint);
        if ports.is_empty() {
            return Ok(());
        }
        let mut host = self.host();
        if !host.unpublish(&ports, &self.shared.policy)? {
            host.keep_rules(&self.shared.policy, || self.in_use())?;
        }
        Ok(())
    }

    /// Holds the ports of connected containers again, after a restart.
    pub(super) fn claim_again(&self) -> Result<(), Error> {
        let endpoints = self.shared.state.read(|look| look.list::<Endpoint>(Table::Endpoint))?;
        let mut claims = self.claims();
        for (_, endpoint) in endpoints {
            let ports = endpoint.interface.iter().flat_map(|interface| &interface.ports);
            // One that another engine on this root holds, or a program of the host took meanwhile, works all the same.
            let held: port::Claims = ports.filter_map(|port| port::claim(port).ok()).collect();
            if !held.is_empty() {
                claims.entry(endpoint.container).or_insert(held);
            }
        }
        Ok(())
    }

    fn make_interface(
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
        let what = || format!("make the interface {} on the bridge {}", interface.host_name, bridge.interface);
        let made = self.host().route.request(&mut messages);
        if let Err(error) = made {
            // The first message makes the pair or nothing, and a name that is taken is somebody else's.
            if error.index > 0 {
                self.remove_port_after_failure(&interface.host_name);
            }
            return Err(Error::kernel(what())(error));
        }
        let set_up = set_up(&mut namespace.inside(), interface).and_then(|()| {
            // The port first: with its first port the bridge gets a carrier too.
            let port = link::honour_carrier(0, &interface.host_name);
            self.host().route.request(&mut [port, link::honour_carrier(ready.index, "")])
        });
        set_up.map_err(|error| {
            self.remove_port_after_failure(&interface.host_name);
            Error::kernel(format!("set the container's interface {} up", interface.name))(error)
        })
    }

    /// The first error is the one to tell.
    fn remove_port_after_failure(&self, name: &str) {
        if let Err(error) = self.remove_port(name) {
            tracing::warn!(%error, "a failed connection leaves an interface behind");
        }
    }

    fn remove_port(&self, name: &str) -> Result<(), Error> {
        match self.host().route.request(&mut [link::delete_link_named(name)]) {
            Err(error) if !error.is(Errno::NODEV) => Err(Error::kernel(format!("remove the interface {name}"))(error)),
            _ => Ok(()),
        }
    }

    fn publish(&self, action: &str, endpoint: &Endpoint, driver: Driver) {
        let event = Event::new(EventType::Network, action, endpoint.network.as_str())
            .attribute("container", endpoint.container.as_str())
            .attribute("name", &endpoint.network_name)
            .attribute("type", driver.to_string());
        self.shared.events.publish(event);
    }
}

/// Brings the interface up with its address and the way out, in one go.
fn set_up(inside: &mut Netlink, interface: &Interface) -> Result<(), engine_sys::netlink::Error> {
    let found = link::find_link(inside, &interface.name)?.ok_or(Errno::NODEV)?;
    let subnet = Subnet::of(interface.address, interface.prefix_len).ok_or(Errno::INVAL)?;
    let mut messages: Vec<Message> =
        vec![link::bring_up(found.index), link::add_address(found.index, interface.address, subnet)];
    if interface.name == "eth0" {
        messages.push(link::add_default_route(found.index, interface.gateway));
    }
    inside.request(&mut messages)
}

/// What the kernel says when the bridge is not there (any more).
fn is_gone(error: &engine_sys::netlink::Error) -> bool {
    error.index == 0 && (error.is(Errno::NODEV) || error.is(Errno::INVAL))
}

/// Where an endpoint's ports lead.
pub(super) fn ports(endpoint: &Endpoint) -> Vec<Port> {
    let lead = |interface: &Interface| {
        let address = interface.address;
        interface.ports.iter().map(|published| Port { published: *published, address }).collect()
    };
    endpoint.interface.as_ref().map(lead).unwrap_or_default()
}

pub(super) fn endpoints_key(container: &ContainerId) -> String {
    format!("{container}/")
}

fn endpoint_key(container: &ContainerId, network: &NetworkId) -> String {
    format!("{container}/{network}")
}

fn insert(transaction: &mut Transaction<'_>, endpoint: &Endpoint) -> Result<(), Error> {
    let key = endpoint_key(&endpoint.container, &endpoint.network);
    match transaction.insert(Table::Endpoint, &key, endpoint) {
        Err(crate::state::Error::Exists { .. }) => Err(Error::Connected {
            container: endpoint.container.short().to_owned(),
            network: endpoint.network_name.clone(),
        }),
        other => Ok(other?),
    }
}

fn free(transaction: &mut Transaction<'_>, endpoint: &Endpoint) -> Result<(), Error> {
    if let Some(interface) = &endpoint.interface {
        transaction.delete(Table::Address, &lease::key(&endpoint.network, interface.address))?;
        for port in &interface.ports {
            port::free(transaction, port)?;
        }
    }
    transaction.delete(Table::Endpoint, &endpoint_key(&endpoint.container, &endpoint.network))?;
    Ok(())
}

/// Frees endpoints whose container is gone and addresses without an endpoint; the networks that still have one.
pub(super) fn free_what_nobody_has(transaction: &mut Transaction<'_>) -> Result<BTreeSet<NetworkId>, Error> {
    let mut connected = BTreeSet::new();
    let (mut leases, mut held) = (BTreeSet::new(), BTreeSet::new());
    for (key, endpoint) in transaction.list::<Endpoint>(Table::Endpoint)? {
        if !transaction.contains(Table::Container, endpoint.container.as_str())? {
            transaction.delete(Table::Endpoint, &key)?;
            continue;
        }
        if let Some(interface) = &endpoint.interface {
            leases.insert(lease::key(&endpoint.network, interface.address));
            held.extend(interface.ports.iter().map(port::key));
            connected.insert(endpoint.network);
        }
    }
    for key in transaction.keys(Table::Address)? {
        if !leases.contains(&key) {
            transaction.delete(Table::Address, &key)?;
        }
    }
    for key in transaction.keys(Table::Port)? {
        if !held.contains(&key) {
            transaction.delete(Table::Port, &key)?;
        }
    }
    Ok(connected)
}
