//! Removing networks: the bridge and the rules first, then the record, so that nothing of the host is ever left without one.

use super::record::{Driver, Network};
use super::{Error, Networks, connect, endpoints_on, find, lease, off_thread};
use crate::events::{Event, EventType};
use crate::state::{Durability, Table};

impl Networks {
    /// Removes a network that nobody is on.
    ///
    /// # Errors
    /// When there is none, it is a predefined one, somebody is on it, or the kernel refuses.
    pub async fn remove(&self, name: &str) -> Result<(), Error> {
        let (this, name) = (self.clone(), name.to_owned());
        off_thread(move || this.remove_blocking(&name)).await
    }

    /// As [`Self::remove`], for a thread that may wait.
    ///
    /// # Errors
    /// As [`Self::remove`].
    pub fn remove_blocking(&self, name: &str) -> Result<(), Error> {
        let network = self.get(name)?;
        if network.is_predefined() {
            return Err(Error::Forbidden(format!("{} is a pre-defined network and cannot be removed", network.name)));
        }
        // In the order of every connection: the kernel's side first, then the state.
        let mut host = self.host();
        self.shared.state.write(Durability::Process, |transaction| {
            let network = find(transaction, network.id.as_str())?;
            connect::free_what_nobody_has(transaction)?;
            let on_it = endpoints_on(transaction, &network.id)?;
            if !on_it.is_empty() {
                let told = on_it.iter().take(8).map(|endpoint| {
                    let name = endpoint.names.first().map_or(endpoint.container.short(), String::as_str);
                    format!("name:\"{name}\" id:\"{}\"", endpoint.id.short())
                });
                let endpoints = told.collect::<Vec<_>>().join(", ");
                return Err(Error::InUse { network: network.name.clone(), endpoints });
            }
            if network.template.is_some() {
                let all = transaction.list::<Network>(Table::Network)?;
                if all.iter().any(|(_, other)| other.config_from.as_ref() == Some(&network.name)) {
                    return Err(Error::Forbidden(format!("configuration network {:?} is in use", network.name)));
                }
            }
            if let Some(bridge) = &network.bridge {
                host.remove_bridge(&network.id, bridge)?;
            }
            if let Some(direct) = &network.direct {
                host.remove_parent(&network, direct)?;
            }
            lease::forget(transaction, &network.id)?;
            transaction.delete(Table::NetworkName, &network.name)?;
            transaction.delete(Table::Network, network.id.as_str())?;
            Ok::<_, Error>(())
        })?;
        host.replace_rules(&self.shared.policy, || self.in_use())?;
        drop(host);
        if let Driver::Own(name) = &network.driver
            && let Ok(driver) = self.driver(name)
        {
            driver.removed(&network);
        }
        self.tell("destroy", &network);
        Ok(())
    }

    /// Removes the networks that `wanted` says and nobody is on; their names.
    ///
    /// # Errors
    /// When the state fails or the kernel refuses.
    pub async fn prune(&self, wanted: impl Fn(&Network) -> bool + Send + 'static) -> Result<Vec<String>, Error> {
        let this = self.clone();
        off_thread(move || {
            let mut removed = Vec::new();
            for network in this.list()? {
                if network.is_predefined() || network.template.is_some() || !wanted(&network) {
                    continue;
                }
                match this.remove_blocking(network.id.as_str()) {
                    Ok(()) => removed.push(network.name),
                    // Somebody came, or somebody else removed it.
                    Err(Error::InUse { .. } | Error::NotFound { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            this.shared.events.publish(Event::new(EventType::Network, "prune", "").attribute("reclaimed", "0"));
            Ok(removed)
        })
        .await
    }
}
