//! Disconnecting a container: when it has ended, and while it goes on living.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::bridge::Policy;
use super::connect::{Leads, Place, endpoint_key, endpoints_key, free, ports};
use super::firewall::End;
use super::gateway::{Way, leading};
use super::interface::lead_elsewhere;
use super::port::{self, Protocol, Publish, PublishedPort};
use super::record::{Bridge, Driver, Endpoint, Network};
use super::{Error, NetworkNamespace, Networks, off_thread};
use crate::id::ContainerId;
use crate::state::{Durability, Table, Transaction};

impl Networks {
    /// Gives a container another name on all its networks.
    ///
    /// # Errors
    /// When the state fails.
    pub fn rename(&self, container: &ContainerId, old: &str, new: &str) -> Result<(), Error> {
        self.shared.state.write(Durability::Process, |transaction| {
            let endpoints = transaction.list_prefix::<Endpoint>(Table::Endpoint, &endpoints_key(container))?;
            for (key, mut endpoint) in endpoints {
                for name in endpoint.names.iter_mut().filter(|name| *name == old) {
                    new.clone_into(name);
                }
                transaction.put(Table::Endpoint, &key, &endpoint)?;
            }
            Ok(())
        })
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
        // Its sockets would hold the namespace.
        self.shared.resolver.stop(container);
        let freed = self.shared.state.write(Durability::Process, |transaction| {
            let endpoints = transaction.list_prefix::<Endpoint>(Table::Endpoint, &endpoints_key(container))?;
            for (_, endpoint) in &endpoints {
                free(transaction, endpoint)?;
            }
            Ok::<_, Error>(endpoints)
        })?;
        let mut networks = Vec::with_capacity(freed.len());
        for (_, endpoint) in &freed {
            let network = self.get(endpoint.network.as_str());
            let bridge = network.as_ref().ok().and_then(|network| network.bridge.as_ref());
            self.unpublish(bridge, endpoint)?;
            if let Some(bridge) = bridge {
                self.unguard(bridge, endpoint)?;
            }
            networks.push(network);
        }
        self.claims().remove(container);
        self.shared.relays.stop(container);
        for ((_, endpoint), network) in freed.iter().zip(networks) {
            let driver = network.as_ref().map_or(Driver::Bridge, |network| network.driver.clone());
            if let Ok(network) = &network {
                self.let_go(network, endpoint, None)?;
            }
            self.publish("disconnect", endpoint, &driver);
        }
        Ok(())
    }

    /// Takes the interfaces of a container out of a namespace that goes on living, because others are in it: they would keep
    /// addresses that are somebody else's soon. To be called before [`Self::disconnect`].
    ///
    /// # Errors
    /// When the state fails or the kernel refuses.
    pub fn cut_off_blocking(&self, container: &ContainerId, namespace: &NetworkNamespace) -> Result<(), Error> {
        for endpoint in self.endpoints_of(container)? {
            let Some(interface) = &endpoint.interface else { continue };
            if interface.host_name.is_empty() {
                self.let_go(&self.get(endpoint.network.as_str())?, &endpoint, Some(namespace))?;
            } else {
                self.remove_port(&interface.host_name)?;
            }
        }
        Ok(())
    }

    /// Takes a container that goes on living off one network: its interface is removed, its address freed. Its ports go
    /// over to another of its networks, where they are published as `publish` asks and that network does it; another one leads
    /// elsewhere in `namespace`.
    ///
    /// # Errors
    /// When it is not on that network, the state fails or the kernel refuses.
    pub async fn detach(
        &self,
        container: &ContainerId,
        network: &str,
        namespace: Option<NetworkNamespace>,
        publish: Vec<Publish>,
    ) -> Result<(), Error> {
        let (this, container, network) = (self.clone(), *container, network.to_owned());
        off_thread(move || this.detach_blocking(&container, &network, namespace.as_ref(), &publish)).await
    }

    /// As [`Self::detach`], for a thread that may wait: removing an interface takes tens of milliseconds.
    ///
    /// # Errors
    /// As [`Self::detach`].
    pub fn detach_blocking(
        &self,
        container: &ContainerId,
        network: &str,
        namespace: Option<&NetworkNamespace>,
        publish: &[Publish],
    ) -> Result<(), Error> {
        let network = self.get(network)?;
        let key = endpoint_key(container, &network.id);
        let endpoint = self.shared.state.read(|look| look.get::<Endpoint>(Table::Endpoint, &key))?;
        let endpoint = endpoint.ok_or_else(|| Error::NotConnected {
            container: container.short().to_owned(),
            network: network.name.clone(),
        })?;
        // The interface first: as long as it is there, its address is nobody else's.
        if let Some(interface) = &endpoint.interface {
            self.remove_port(&interface.host_name)?;
        }
        self.let_go(&network, &endpoint, namespace)?;
        let mut claims = port::Claims::new();
        let left = self.shared.state.write(Durability::Process, |transaction| {
            free(transaction, &endpoint)?;
            let left = transaction.list_prefix::<Endpoint>(Table::Endpoint, &endpoints_key(container))?;
            let mut left: Vec<Endpoint> = left.into_iter().map(|(_, endpoint)| endpoint).collect();
            let had = endpoint.interface.as_ref().map(|interface| interface.ports.clone()).unwrap_or_default();
            if let Some(next) = leading(&left, Way::V4).or_else(|| leading(&left, Way::V6)).map(|next| next.id)
                && let Some(next) = left.iter_mut().find(|endpoint| endpoint.id == next)
                && !had.is_empty()
            {
                take_over(transaction, next, &had, publish, &self.shared.policy, &mut claims)?;
                transaction.put(Table::Endpoint, &endpoint_key(container, &next.network), next)?;
            }
            Ok::<_, Error>(left)
        })?;
        self.unpublish(network.bridge.as_ref(), &endpoint)?;
        if let Some(bridge) = &network.bridge {
            self.unguard(bridge, &endpoint)?;
        }
        let mut ports_left = false;
        for next in &left {
            let Some(interface) = &next.interface else { continue };
            let leads = |way| leading(&left, way).is_some_and(|leader| leader.id == next.id);
            let leads = Leads { v4: leads(Way::V4), v6: leads(Way::V6) };
            if (leads.v4 || leads.v6)
                && let Some(namespace) = namespace
            {
                lead_elsewhere(interface, namespace, leads)?;
            }
            if !interface.ports.is_empty() {
                ports_left |= interface.ports.iter().any(|port| port.host_port > 0);
                self.publish_again(next, std::mem::take(&mut claims))?;
            }
        }
        if ports_left {
            let ports = left.iter().filter_map(|next| next.interface.as_ref()).flat_map(|interface| &interface.ports);
            let places = port::Places::of(ports);
            if let Some(claims) = self.claims().get_mut(container) {
                port::keep_claims(claims, &places);
            }
            self.shared.relays.keep(container, &places);
        } else {
            self.claims().remove(container);
            self.shared.relays.stop(container);
        }
        self.publish("disconnect", &endpoint, &network.driver);
        Ok(())
    }

    /// Lets ports lead to an endpoint that did not have them before.
    fn publish_again(&self, endpoint: &Endpoint, claims: port::Claims) -> Result<(), Error> {
        let network = self.get(endpoint.network.as_str())?;
        let Some(bridge) = &network.bridge else { return Ok(()) };
        let mut host = self.host();
        if let Some(interface) = &endpoint.interface {
            host.turn_back(&interface.host_name)?;
        }
        let (relayed, translated) = self.split(self.ports_on(Some(bridge), endpoint));
        if !translated.is_empty() {
            host.publish(bridge, &translated, &self.shared.policy)?;
        }
        drop(host);
        if !relayed.is_empty() {
            self.shared.relays.start(&endpoint.container, &relayed, claims)?;
        } else if !claims.is_empty() {
            self.claims().entry(endpoint.container).or_default().extend(claims);
        }
        self.forget_flows(&ports(endpoint));
        Ok(())
    }

    /// The state has forgotten the ports already, so the rules are made from it again when something is odd.
    pub(super) fn unpublish(&self, bridge: Option<&Bridge>, endpoint: &Endpoint) -> Result<(), Error> {
        let (_, ports) = self.split(self.ports_on(bridge, endpoint));
        if ports.is_empty() {
            return Ok(());
        }
        let mut host = self.host();
        if !host.unpublish(&ports, &self.shared.policy)? {
            host.keep_rules(&self.shared.policy, || self.in_use())?;
        }
        drop(host);
        self.forget_flows(&ports);
        Ok(())
    }

    /// Guards an end no longer, where its network is guarded. The state has forgotten it already.
    pub(super) fn unguard(&self, bridge: &Bridge, endpoint: &Endpoint) -> Result<(), Error> {
        let Some(interface) = endpoint.interface.as_ref().filter(|_| bridge.guarded) else { return Ok(()) };
        let mut host = self.host();
        if !host.unguard(&End::of(interface), &self.shared.policy)? {
            host.keep_rules(&self.shared.policy, || self.in_use())?;
        }
        Ok(())
    }
}

/// Gives an endpoint the ports that another one of its container had: the host's ports stay the same where both networks have
/// some, and are taken, or given up, where only one of them does.
fn take_over(
    transaction: &mut Transaction<'_>,
    next: &mut Endpoint,
    had: &[PublishedPort],
    publish: &[Publish],
    policy: &Policy,
    claims: &mut port::Claims,
) -> Result<(), Error> {
    let Some(network) = transaction.get::<Network>(Table::Network, next.network.as_str())? else { return Ok(()) };
    let (Some(interface), Some(bridge)) = (&mut next.interface, &network.bridge) else { return Ok(()) };
    let place = Place::on(bridge, policy);
    let has = |address: IpAddr| address.is_ipv4() || interface.v6.is_some();
    let kept =
        had.iter().filter(|port| port.host_port > 0 && has(port.host_address) && !place.is_routed(port.host_address));
    let kept: Vec<PublishedPort> = kept.copied().collect();
    // The host's ports of each of the container's, at all addresses.
    let mut hosts: BTreeMap<(Protocol, u16), BTreeSet<(u16, IpAddr)>> = BTreeMap::new();
    for port in had.iter().filter(|port| port.host_port > 0).flat_map(|port| port.each()) {
        hosts.entry((port.protocol, port.port)).or_default().insert((port.host_port, port.host_address));
    }
    let mut wanted: Vec<(Publish, Vec<IpAddr>, Vec<IpAddr>)> = Vec::new();
    for asked in publish {
        let Ok(at) = place.publish_at(&network, asked) else { continue };
        let (mut missing, routed): (Vec<_>, Vec<_>) = at.into_iter().partition(|address| !place.is_routed(*address));
        let before = hosts.get(&(asked.protocol, asked.port)).into_iter().flatten();
        let before = before.filter(|(port, _)| asked.host_ports.as_ref().is_none_or(|range| range.contains(port)));
        let before: Vec<(u16, IpAddr)> = before.copied().collect();
        missing.retain(|address| !before.iter().any(|(_, other)| other == address));
        let same = before.first().map(|(port, _)| *port..=*port);
        wanted.push((Publish { host_ports: same.or(asked.host_ports.clone()), ..asked.clone() }, missing, routed));
    }
    for port in &kept {
        port::keep(transaction, &next.container, port)?;
    }
    let wanted: Vec<port::Wanted<'_>> = wanted
        .iter()
        .map(|(publish, addresses, routed)| port::Wanted {
            publish,
            addresses: addresses.clone(),
            routed: routed.clone(),
        })
        .collect();
    let taken = match port::take(transaction, &next.container, &wanted, claims) {
        Ok(taken) => taken,
        // It goes on living without; whoever takes it off a network has not asked for a port.
        Err(error) => {
            let container = next.names.first().map_or(next.container.short(), String::as_str);
            tracing::warn!(container, network = network.name, %error, "ports are no longer published");
            claims.clear();
            Vec::new()
        }
    };
    interface.ports.extend(kept.into_iter().chain(taken));
    Ok(())
}
