//! Disconnecting a container: when it has ended, and while it goes on living.

use super::connect::{Leads, endpoint_key, endpoints_key, free, ports};
use super::gateway::{Way, leading};
use super::interface::lead_elsewhere;
use super::port;
use super::record::{Driver, Endpoint};
use super::{Error, NetworkNamespace, Networks, off_thread};
use crate::id::ContainerId;
use crate::state::{Durability, Table};

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
        for (_, endpoint) in &freed {
            self.unpublish(endpoint)?;
        }
        self.claims().remove(container);
        self.shared.relays.stop(container);
        for (_, endpoint) in &freed {
            let network = self.get(endpoint.network.as_str());
            let driver = network.as_ref().map_or(Driver::Bridge, |network| network.driver.clone());
            if let Ok(network) = &network {
                self.let_go(network, endpoint, None)?;
            }
            self.publish("disconnect", endpoint, &driver);
        }
        Ok(())
    }

    /// Takes a container that goes on living off one network: its interface is removed, its address freed. Its ports go
    /// over to another of its networks, and another one leads elsewhere in `namespace`.
    ///
    /// # Errors
    /// When it is not on that network, the state fails or the kernel refuses.
    pub async fn detach(
        &self,
        container: &ContainerId,
        network: &str,
        namespace: Option<NetworkNamespace>,
    ) -> Result<(), Error> {
        let (this, container, network) = (self.clone(), *container, network.to_owned());
        off_thread(move || this.detach_blocking(&container, &network, namespace.as_ref())).await
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
        let left = self.shared.state.write(Durability::Process, |transaction| {
            free(transaction, &endpoint)?;
            let left = transaction.list_prefix::<Endpoint>(Table::Endpoint, &endpoints_key(container))?;
            let mut left: Vec<Endpoint> = left.into_iter().map(|(_, endpoint)| endpoint).collect();
            let published = endpoint.interface.as_ref().map(|interface| interface.ports.clone()).unwrap_or_default();
            if let Some(next) = leading(&left, Way::V4).map(|next| next.id)
                && let Some(next) = left.iter_mut().find(|endpoint| endpoint.id == next)
                && let Some(interface) = &mut next.interface
                && !published.is_empty()
                && !interface.host_name.is_empty()
            {
                for port in published.iter().filter(|port| port.host_address.is_ipv4() || interface.v6.is_some()) {
                    port::keep(transaction, container, port)?;
                    interface.ports.push(*port);
                }
                transaction.put(Table::Endpoint, &endpoint_key(container, &next.network), next)?;
            }
            Ok::<_, Error>(left)
        })?;
        self.unpublish(&endpoint)?;
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
                ports_left = true;
                self.publish_again(next)?;
            }
        }
        if !ports_left {
            self.claims().remove(container);
            self.shared.relays.stop(container);
        }
        self.publish("disconnect", &endpoint, &network.driver);
        Ok(())
    }

    /// Lets ports lead to an endpoint that did not have them before.
    fn publish_again(&self, endpoint: &Endpoint) -> Result<(), Error> {
        let network = self.get(endpoint.network.as_str())?;
        let Some(bridge) = &network.bridge else { return Ok(()) };
        let mut host = self.host();
        if let Some(interface) = &endpoint.interface {
            host.turn_back(&interface.host_name)?;
        }
        let (relayed, translated) = self.split(ports(endpoint));
        if !translated.is_empty() {
            host.publish(bridge, &translated, &self.shared.policy)?;
        }
        drop(host);
        if !relayed.is_empty() {
            self.shared.relays.start(&endpoint.container, &relayed, port::Claims::new())?;
        }
        self.forget_flows(&ports(endpoint));
        Ok(())
    }

    /// The state has forgotten the ports already, so the rules are made from it again when something is odd.
    pub(super) fn unpublish(&self, endpoint: &Endpoint) -> Result<(), Error> {
        let (_, ports) = self.split(ports(endpoint));
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
}
