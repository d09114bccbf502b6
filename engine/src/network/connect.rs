//! Connecting a container to a network.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rustix::io::Errno;

use super::bridge::{Policy, Ready};
use super::firewall::{End, Port};
use super::gateway::{Way, leading};
use super::port::{self, Protocol, Publish};
use super::record::{
    Addresses, Bridge, Driver, Endpoint, GatewayMode, Interface, Interface6, Link, MacAddress, Network,
};
use super::{Error, NetworkNamespace, Networks, create, lease, off_thread, watch};
use crate::events::{Event, EventType};
use crate::id::{ContainerId, EndpointId, NetworkId};
use crate::state::{Durability, Table, Transaction};

/// How often a bridge that vanishes under our hands is made again.
const ATTEMPTS: usize = 3;
/// Docker's options of an endpoint.
const OPTION_NAME: &str = "com.docker.network.endpoint.ifname";
const OPTION_SWITCHES: &str = "com.docker.network.endpoint.sysctls";

/// What is asked for when a container is connected.
#[derive(Debug, Clone)]
pub struct Connect {
    pub(super) container: ContainerId,
    pub(super) network: String,
    pub(super) namespace: Option<NetworkNamespace>,
    mac: Option<MacAddress>,
    address: Option<Ipv4Addr>,
    address_v6: Option<Ipv6Addr>,
    link_local: Vec<IpAddr>,
    publish: Vec<Publish>,
    names: Vec<String>,
    links: Vec<Link>,
    priority: i64,
    options: BTreeMap<String, String>,
}

impl Connect {
    /// Connects `container` to the network with this name or id.
    #[must_use]
    pub fn new(container: ContainerId, network: impl Into<String>) -> Self {
        Self {
            container,
            network: network.into(),
            namespace: None,
            mac: None,
            address: None,
            address_v6: None,
            link_local: Vec::new(),
            publish: Vec::new(),
            names: Vec::new(),
            links: Vec::new(),
            priority: 0,
            options: BTreeMap::new(),
        }
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

    /// The address of IPv6, on networks that have that; the next free one when none is asked for.
    #[must_use]
    pub fn address_v6(mut self, address: Option<Ipv6Addr>) -> Self {
        self.address_v6 = address;
        self
    }

    /// Further addresses, of the link only.
    #[must_use]
    pub fn link_local(mut self, addresses: Vec<IpAddr>) -> Self {
        self.link_local = addresses;
        self
    }

    /// Ports of the host that lead to the container; none on networks without addresses.
    #[must_use]
    pub fn publish(mut self, ports: Vec<Publish>) -> Self {
        self.publish = ports;
        self
    }

    /// What the container is called on the network, its own name first.
    #[must_use]
    pub fn names(mut self, names: Vec<String>) -> Self {
        self.names = names;
        self
    }

    /// Names that this container alone has for others.
    #[must_use]
    pub fn links(mut self, links: Vec<Link>) -> Self {
        self.links = links;
        self
    }

    /// Of a container's networks the one with the highest priority leads elsewhere.
    #[must_use]
    pub fn priority(mut self, priority: i64) -> Self {
        self.priority = priority;
        self
    }

    /// Options of the endpoint, by Docker's names.
    #[must_use]
    pub fn options(mut self, options: BTreeMap<String, String>) -> Self {
        self.options = options;
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
            let namespace = request.namespace.clone();
            if let Err(Ok(endpoint)) = answer.send(this.connect_blocking(&request)) {
                // Nobody waits for it any more.
                this.detach_blocking(&endpoint.container, &endpoint.network_name, namespace.as_ref(), &[])?;
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
        if network.template.is_some() {
            return Err(Error::Forbidden(format!(
                "nobody can be connected to {}: it is a configuration that networks are made of",
                network.name
            )));
        }
        let endpoint = match &network.driver {
            Driver::Bridge => self.connect_bridge(&network, request)?,
            Driver::Host | Driver::Null => self.connect_plain(&network, request)?,
            Driver::Macvlan | Driver::Ipvlan | Driver::Own(_) => self.connect_direct(&network, request)?,
        };
        self.publish("connect", &endpoint, &network.driver);
        Ok(endpoint)
    }

    fn connect_plain(&self, network: &Network, request: &Connect) -> Result<Endpoint, Error> {
        let asks = request.address.is_some() || request.address_v6.is_some() || request.mac.is_some();
        if asks || !request.publish.is_empty() {
            let reason =
                "invalid option: a container has no address and no ports of its own on this network".to_owned();
            return Err(Error::Invalid { network: network.name.clone(), reason });
        }
        let endpoint = request.endpoint(EndpointId::random(), network, None);
        self.shared.state.write(Durability::Process, |transaction| insert(transaction, &endpoint))?;
        Ok(endpoint)
    }

    fn connect_bridge(&self, network: &Network, request: &Connect) -> Result<Endpoint, Error> {
        let no_namespace = || Error::NoNamespace { network: network.name.clone() };
        if self.shared.policy.relay && request.publish.iter().any(|port| port.protocol == Protocol::Sctp) {
            return Err(Error::Refused("ports of sctp cannot be relayed: publish them without relay-ports".to_owned()));
        }
        let namespace = request.namespace.as_ref().ok_or_else(no_namespace)?;
        let mut attempt = 0;
        loop {
            attempt += 1;
            let (bridge, ready) = self.bridge_in_place(network)?;
            let place = Place::on(&bridge, &self.shared.policy);
            let (endpoint, mut claims, leads) = self.take(network, &place, request)?;
            let Some(interface) = &endpoint.interface else { return Err(no_namespace()) };
            let switches = request.switches(&interface.name);
            // Guarded first: nothing comes by a port before it is known who is behind it.
            let guarded = bridge.guarded.then(|| End::of(interface));
            let guard = guarded.iter().try_for_each(|end| self.host().guard(end, &self.shared.policy));
            let made = guard
                .and_then(|()| self.make_interface(&bridge, ready, interface, namespace))
                .and_then(|()| self.set_up(interface, namespace, leads, &switches?, Some(ready.index)))
                .and_then(|()| {
                    if interface.ports.is_empty() {
                        return Ok(());
                    }
                    let published = self.lead_here(&bridge, &endpoint, &mut claims);
                    published.inspect_err(|_| self.remove_port_after_failure(&interface.host_name))
                });
            let Err(error) = made else {
                if !claims.is_empty() {
                    self.claims().insert(request.container, claims);
                }
                self.forget_flows(&ports(&endpoint));
                return Ok(endpoint);
            };
            if ports(&endpoint).iter().any(|port| port.published.host_port > 0) {
                self.shared.relays.stop(&request.container);
            }
            self.shared.state.write(Durability::Process, |transaction| free(transaction, &endpoint))?;
            self.unguard(&bridge, &endpoint)?;
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
            && bridge.addresses.v4.map(|block| block.subnet) == ready.subnet
            && bridge.addresses.v6.as_ref().map(|block| block.subnet) == ready.subnet_v6
        {
            host.keep_rules(policy, || self.in_use())?;
            return Ok((bridge.clone(), ready));
        }
        // Another engine on this root may have settled it since.
        let network = self.get(network.id.as_str())?;
        let taken = || {
            self.shared.state.read(|look| {
                let mut others = create::Others::read(look)?.v4;
                let own = network.addresses().and_then(|own| Some(own.v4?.subnet));
                others.retain(|other| Some(*other) != own);
                Ok::<_, Error>(others)
            })
        };
        let (bridge, turn) = host.settle(&network, taken, policy)?;
        if turn.is_some() {
            let settled = Network { bridge: Some(bridge.clone()), ..network.clone() };
            self.shared.state.write(Durability::Process, |transaction| {
                transaction.put(Table::Network, settled.id.as_str(), &settled)
            })?;
        }
        // The rules first: what is not there yet cannot be reached around them.
        host.doubt_rules();
        host.keep_rules(policy, || self.in_use())?;
        let ready = host.make(&network, &bridge)?;
        drop(turn);
        for guard in host.forward(&bridge, policy)? {
            self.shared.state.write(Durability::Process, |transaction| watch::remember_guard(transaction, &guard))?;
        }
        Ok((bridge, ready))
    }

    /// Takes the addresses and ports, and writes the endpoint down. Says of which families it leads elsewhere.
    pub(super) fn take(
        &self,
        network: &Network,
        place: &Place<'_>,
        request: &Connect,
    ) -> Result<(Endpoint, port::Claims, Leads), Error> {
        if request.address_v6.is_some() && place.addresses.v6.is_none() {
            let reason = "invalid option: it has no IPv6, so an IPv6 address cannot be asked for".to_owned();
            return Err(Error::Invalid { network: network.name.clone(), reason });
        }
        if request.address.is_some() && place.addresses.v4.is_none() {
            let reason = "invalid option: it has no IPv4, so an IPv4 address cannot be asked for".to_owned();
            return Err(Error::Invalid { network: network.name.clone(), reason });
        }
        let chosen = place.addresses.v4.is_some_and(|block| block.chosen);
        if request.address.is_some() && chosen && !network.is_predefined() {
            return Err(Error::Refused(
                "user specified IP address is supported only when connecting to networks with user configured subnets"
                    .to_owned(),
            ));
        }
        let id = EndpointId::random();
        let mut claims = port::Claims::new();
        let (endpoint, leads) = self.shared.state.write(Durability::Process, |transaction| {
            let others = transaction.list_prefix::<Endpoint>(Table::Endpoint, &endpoints_key(&request.container))?;
            let mut all: Vec<Endpoint> = others.into_iter().map(|(_, endpoint)| endpoint).collect();
            let container = &request.container;
            let v4 = &place.addresses.v4;
            let lease = |block| lease::take(transaction, network, block, container, request.address);
            let address = v4.as_ref().map(lease).transpose()?;
            let v6 = match &place.addresses.v6 {
                Some(block) => Some(Interface6 {
                    address: lease::take(transaction, network, block, container, request.address_v6)?,
                    prefix_len: block.subnet.prefix_len(),
                    gateway: block.gateway.filter(|_| !network.internal),
                }),
                None => None,
            };
            let mac = match (address, &v6) {
                (Some(address), _) => MacAddress::of(address),
                (None, Some(v6)) => MacAddress::of_text(&v6.address.to_string()),
                (None, None) => MacAddress::random(),
            };
            let mut wanted = Vec::new();
            for publish in request.publish.iter().filter(|_| place.masters && !network.internal) {
                let at = place.publish_at(network, publish)?;
                let (addresses, routed) = at.into_iter().partition(|address| !place.is_routed(*address));
                wanted.push(port::Wanted { publish, addresses, routed });
            }
            let published = port::take(transaction, container, &wanted, &mut claims);
            let published = published.map_err(|source| Error::Publish {
                endpoint: request.names.first().map_or(container.short(), String::as_str).to_owned(),
                id,
                source: Box::new(source),
            })?;
            let interface = Interface {
                ports: published,
                name: request.interface_name(place.prefix.unwrap_or("eth"), &all)?,
                host_name: format!("veth{}", id.as_str().get(..7).unwrap_or_default()),
                address,
                prefix_len: v4.map_or(0, |block| block.subnet.prefix_len()),
                gateway: v4.and_then(|block| block.gateway).filter(|_| !network.internal),
                v6,
                link_local: request.link_local.clone(),
                mac: request.mac.unwrap_or(mac),
            };
            let endpoint = request.endpoint(id, network, Some(interface));
            insert(transaction, &endpoint)?;
            all.push(endpoint.clone());
            let leads = |way| leading(&all, way).is_some_and(|leader| leader.id == id);
            let leads = Leads { v4: leads(Way::V4), v6: leads(Way::V6) };
            Ok::<_, Error>((endpoint, leads))
        })?;
        Ok((endpoint, claims, leads))
    }

    /// Lets its ports lead to an endpoint, by the packet filter or by relays that take over `claims`.
    fn lead_here(&self, bridge: &Bridge, endpoint: &Endpoint, claims: &mut port::Claims) -> Result<(), Error> {
        let (relayed, translated) = self.split(self.ports_on(Some(bridge), endpoint));
        if !relayed.is_empty() {
            self.shared.relays.start(&endpoint.container, &relayed, std::mem::take(claims))?;
        }
        if translated.is_empty() {
            return Ok(());
        }
        self.host().publish(bridge, &translated, &self.shared.policy)
    }

    /// Where an endpoint's ports lead, and whether they are reached at its own address too, as its network says.
    pub(super) fn ports_on(&self, bridge: Option<&Bridge>, endpoint: &Endpoint) -> Vec<Port> {
        let direct = bridge.is_some_and(|bridge| {
            !bridge.internal && (self.shared.policy.direct_routing || !bridge.trusted.is_empty())
        });
        ports(endpoint).into_iter().map(|port| Port { direct, ..port }).collect()
    }

    /// The ports that are relayed, and those that the packet filter knows.
    pub(super) fn split(&self, ports: Vec<Port>) -> (Vec<Port>, Vec<Port>) {
        let relayed = ports.iter().filter(|port| self.is_relayed(port)).copied().collect();
        (relayed, ports.into_iter().filter(|port| self.is_translated(port)).collect())
    }

    /// Whether the packet filter leads a port to its container. It does so within one family of addresses only, and not from the
    /// loopback of IPv6, which the kernel never routes. Those of the containers' own addresses are always in it.
    pub(super) fn is_translated(&self, port: &Port) -> bool {
        let at = port.published.host_address;
        let reached = at.is_ipv4() == port.address.is_ipv4() && at != IpAddr::V6(Ipv6Addr::LOCALHOST);
        port.published.host_port == 0 || (reached && !self.shared.policy.relay)
    }

    /// Whether the engine listens at a port and passes on what comes: all of it, or what comes by the loopback of IPv6 only.
    pub(super) fn is_relayed(&self, port: &Port) -> bool {
        let at = &port.published;
        let by_loopback = at.host_address == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        let listens = self.shared.policy.relay || self.shared.policy.pass_on;
        listens && at.host_port > 0 && at.protocol != Protocol::Sctp && (by_loopback || !self.is_translated(port))
    }

    /// Holds the ports of connected containers again, after a restart. What cannot be held is told, and keeps no other port and
    /// no other container from it.
    pub(super) fn claim_again(&self) -> Result<(), Error> {
        let endpoints = self.shared.state.read(|look| look.list::<Endpoint>(Table::Endpoint))?;
        for (_, endpoint) in endpoints {
            let Some(interface) = endpoint.interface.as_ref().filter(|interface| !interface.ports.is_empty()) else {
                continue;
            };
            if self.claims().contains_key(&endpoint.container) || self.shared.relays.has(&endpoint.container) {
                continue;
            }
            let container = endpoint.names.first().map_or(endpoint.container.short(), String::as_str);
            let (held, lost) = port::claim(&interface.ports);
            let (relayed, _) = self.split(ports(&endpoint));
            for port in lost {
                let at = SocketAddr::new(port.host_address, port.host_port);
                if relayed.iter().any(|relayed| relayed.published.host_address == port.host_address) {
                    tracing::warn!(container, port = %at, "another program or engine has a published port: it is not relayed");
                } else {
                    // The packet filter leads it to the container all the same.
                    tracing::info!(container, port = %at, "another program or engine listens at a published port too");
                }
            }
            if relayed.is_empty() {
                if !held.is_empty() {
                    self.claims().entry(endpoint.container).or_insert(held);
                }
                continue;
            }
            match self.shared.relays.start_what_can_be(&endpoint.container, &relayed, held) {
                Ok(failed) => {
                    for error in failed {
                        tracing::warn!(container, %error, "a published port is not listened at");
                    }
                }
                Err(error) => tracing::warn!(container, %error, "the published ports of a container are not relayed"),
            }
        }
        Ok(())
    }

    pub(super) fn publish(&self, action: &str, endpoint: &Endpoint, driver: &Driver) {
        let event = Event::new(EventType::Network, action, endpoint.network.as_str())
            .attribute("container", endpoint.container.as_str())
            .attribute("name", &endpoint.network_name)
            .attribute("type", driver.to_string());
        self.shared.events.publish(event);
    }
}

/// Which families an endpoint leads elsewhere with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Leads {
    pub(super) v4: bool,
    pub(super) v6: bool,
}

/// Where an endpoint is taken.
pub(super) struct Place<'a> {
    pub(super) addresses: &'a Addresses,
    pub(super) prefix: Option<&'a str>,
    pub(super) host_binding: Option<IpAddr>,
    /// The host stands between the containers and the world, so that its ports can lead to them.
    pub(super) masters: bool,
    pub(super) gateway_mode: GatewayMode,
    pub(super) gateway_mode_v6: GatewayMode,
    /// The engine passes on to ports what comes from the other family.
    pub(super) passes_on: bool,
}

impl<'a> Place<'a> {
    pub(super) fn on(bridge: &'a Bridge, policy: &Policy) -> Self {
        Self {
            addresses: &bridge.addresses,
            prefix: bridge.interface_prefix.as_deref(),
            host_binding: bridge.host_binding,
            masters: true,
            gateway_mode: bridge.gateway_mode,
            gateway_mode_v6: bridge.gateway_mode_v6,
            passes_on: policy.pass_on || policy.relay,
        }
    }

    /// Whether containers are reached at their own addresses of this family.
    pub(super) fn is_routed(&self, address: IpAddr) -> bool {
        (if address.is_ipv4() { self.gateway_mode } else { self.gateway_mode_v6 }) == GatewayMode::Routed
    }

    /// The addresses of the host at which a port is published.
    pub(super) fn publish_at(&self, network: &Network, wanted: &Publish) -> Result<Vec<IpAddr>, Error> {
        match wanted.host_address.or(self.host_binding) {
            Some(IpAddr::V6(address)) if self.addresses.v6.is_none() => Err(Error::Invalid {
                network: network.name.clone(),
                reason: format!(
                    "a port cannot be published at {address}: the network has no IPv6; make one with --ipv6"
                ),
            }),
            Some(address) => Ok(vec![address]),
            None => {
                let v6 = self.addresses.v6.is_some().then_some(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
                // The engine passes on from the other family what it can.
                let passed_on = self.passes_on && wanted.protocol != Protocol::Sctp;
                let v4 = self.addresses.v4.is_some() || passed_on;
                Ok(v4.then_some(IpAddr::V4(Ipv4Addr::UNSPECIFIED)).into_iter().chain(v6).collect())
            }
        }
    }
}

impl Connect {
    fn endpoint(&self, id: EndpointId, network: &Network, interface: Option<Interface>) -> Endpoint {
        Endpoint {
            id,
            network: network.id,
            network_name: network.name.clone(),
            container: self.container,
            interface,
            names: self.names.clone(),
            links: self.links.clone(),
            priority: self.priority,
        }
    }

    /// The name that is asked for, or the first free one.
    fn interface_name(&self, prefix: &str, others: &[Endpoint]) -> Result<String, Error> {
        let taken = |name: &str| {
            others.iter().filter_map(|other| other.interface.as_ref()).any(|interface| interface.name == name)
        };
        if let Some(name) = self.options.get(OPTION_NAME) {
            let name = super::options::interface_name(name)?;
            if taken(&name) || name == "lo" {
                return Err(Error::Refused(format!("interface name {name} is already used in the container")));
            }
            return Ok(name);
        }
        let mut names = (0..=others.len()).map(|number| format!("{prefix}{number}"));
        Ok(names.find(|name| !taken(name)).unwrap_or_else(|| format!("{prefix}{}", others.len())))
    }

    /// Switches of the interface that are asked for, as paths beneath `/proc/sys` and values.
    pub(super) fn switches(&self, interface: &str) -> Result<Vec<(String, String)>, Error> {
        let mut switches = Vec::new();
        for (option, value) in &self.options {
            match option.as_str() {
                OPTION_NAME => {}
                OPTION_SWITCHES => {
                    for switch in value.split(',').filter(|switch| !switch.is_empty()) {
                        switches.push(read_switch(switch, interface)?);
                    }
                }
                // What others keep here is nothing to the engine, as with Docker.
                other if !other.starts_with("com.docker.network.") => {}
                other => {
                    let other: String = other.chars().take(128).collect();
                    return Err(Error::Refused(format!("an endpoint has no option {other:?}")));
                }
            }
        }
        Ok(switches)
    }
}

/// Reads `net.ipv4.conf.IFNAME.log_martians=1`.
fn read_switch(text: &str, interface: &str) -> Result<(String, String), Error> {
    let invalid = || {
        Error::Refused(format!(
            "invalid endpoint sysctl {text:?}: expected net.ipv4.*.IFNAME.NAME=VALUE, net.ipv6 or net.mpls likewise"
        ))
    };
    let (name, value) = text.split_once('=').ok_or_else(invalid)?;
    let parts: Vec<&str> = name.split('.').collect();
    let word = |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    match parts.as_slice() {
        ["net", family @ ("ipv4" | "ipv6" | "mpls"), kind @ ("conf" | "neigh"), "IFNAME", switch] if word(switch) => {
            Ok((format!("net/{family}/{kind}/{interface}/{switch}"), value.trim().to_owned()))
        }
        _ => Err(invalid()),
    }
}

/// What the kernel says when the bridge is not there (any more).
fn is_gone(error: &engine_sys::netlink::Error) -> bool {
    error.index == 0 && (error.is(Errno::NODEV) || error.is(Errno::INVAL))
}

/// Where an endpoint's ports lead.
pub(super) fn ports(endpoint: &Endpoint) -> Vec<Port> {
    let lead = |interface: &Interface| {
        let to = |published: &port::PublishedPort| {
            let address = match published.host_address {
                IpAddr::V4(_) if interface.address.is_some() => interface.address.map(IpAddr::V4)?,
                _ => IpAddr::V6(interface.v6.as_ref()?.address),
            };
            Some(Port { published: *published, address, direct: false })
        };
        interface.ports.iter().filter_map(to).collect()
    };
    endpoint.interface.as_ref().map(lead).unwrap_or_default()
}

pub(super) fn endpoints_key(container: &ContainerId) -> String {
    format!("{container}/")
}

pub(super) fn endpoint_key(container: &ContainerId, network: &NetworkId) -> String {
    format!("{container}/{network}")
}

pub(super) fn insert(transaction: &mut Transaction<'_>, endpoint: &Endpoint) -> Result<(), Error> {
    let key = endpoint_key(&endpoint.container, &endpoint.network);
    match transaction.insert(Table::Endpoint, &key, endpoint) {
        Err(crate::state::Error::Exists { .. }) => Err(Error::Connected {
            container: endpoint.names.first().map_or(endpoint.container.short(), String::as_str).to_owned(),
            network: endpoint.network_name.clone(),
        }),
        other => Ok(other?),
    }
}

pub(super) fn free(transaction: &mut Transaction<'_>, endpoint: &Endpoint) -> Result<(), Error> {
    if let Some(interface) = &endpoint.interface {
        if let Some(address) = interface.address {
            transaction.delete(Table::Address, &lease::key(&endpoint.network, address))?;
        }
        if let Some(v6) = &interface.v6 {
            transaction.delete(Table::Address, &lease::key(&endpoint.network, v6.address))?;
        }
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
            leases.extend(interface.address.map(|address| lease::key(&endpoint.network, address)));
            leases.extend(interface.v6.as_ref().map(|v6| lease::key(&endpoint.network, v6.address)));
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
