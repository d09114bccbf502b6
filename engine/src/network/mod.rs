//! Networks: who is connected to what, by which address, through which bridge and rules.
//!
//! What is remembered stands in the state; what the kernel has is made from it, idempotently, when it is needed.
//! A connection takes its address first and undoes everything when a later step fails; a disconnection frees the
//! address and leaves the interface to the death of the container's namespace, which costs nobody any time.

mod bridge;
mod connect;
mod create;
mod direct;
mod disconnect;
mod driver;
mod error;
pub mod files;
mod firewall;
mod flows;
mod forwarding;
mod gateway;
mod interface;
mod kernel;
mod lease;
mod link;
mod namespace;
mod notice;
mod options;
mod port;
mod record;
mod relay;
mod remove;
mod resolver;
mod subnet;
mod watch;

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

pub use connect::Connect;
pub use create::{BlockSpec, NetworkSpec};
pub use driver::{DriverError, NetworkDriver};
pub use error::Error;
pub use kernel::read_kernel_message;
pub use namespace::NetworkNamespace;
pub use notice::Notice;
pub use port::{Protocol, Publish, PublishedPort};
pub use record::{
    Addresses, Block, Bridge, Direct, Driver, Endpoint, GatewayMode, Interface, Interface6, InvalidMac, Link,
    MacAddress, Network, Template,
};
pub use resolver::read_name_message;
pub use subnet::{Address, InvalidSubnet, Subnet, Subnet6};

use crate::events::Events;
use crate::id::{ContainerId, NetworkId, Resolved, resolve};
use crate::settings::{BridgeSettings, Settings};
use crate::state::{Durability, Snapshot, State, Table, Transaction};
use bridge::{Host, Policy};

/// The name of the network that containers are on by default.
pub const BRIDGE: &str = "bridge";
/// The name of the host's own network.
pub const HOST: &str = "host";
/// The name of the network that connects nothing.
pub const NONE: &str = "none";

/// Where the settings' default root is; its interface and table have plain names.
const DEFAULT_ROOT: &str = "/var/lib/engine";

/// The networks of one root. Clones are cheap and share everything.
#[derive(Debug, Clone)]
pub struct Networks {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: State,
    events: Events,
    policy: Policy,
    bridge_enabled: bool,
    host: Mutex<Host>,
    /// What keeps the containers' ports from the programs of the host.
    claims: Mutex<HashMap<ContainerId, port::Claims>>,
    /// Those that the program brought.
    drivers: RwLock<BTreeMap<String, Arc<dyn NetworkDriver>>>,
    resolver: resolver::Resolver,
    relays: relay::Relays,
}

impl Networks {
    /// Opens the networks of the root that `state` is of, in the network namespace of the calling thread, and makes
    /// the records of the predefined ones. The kernel is asked but not changed.
    ///
    /// # Errors
    /// When the state or the kernel's answer fails, or the settings make no sense.
    pub fn open(state: &State, events: &Events, settings: &Settings) -> Result<Self, Error> {
        let names = Names::of(&settings.root);
        let pools =
            if settings.address_pools.is_empty() { subnet::built_in_pools() } else { settings.address_pools.clone() };
        let policy = Policy {
            table: names.table,
            pools,
            pools_v6: settings.address_pools_v6.clone(),
            firewall: settings.firewall,
            forward: settings.bridge.forward,
            relay: settings.relay_ports,
            direct_routing: settings.direct_routing,
            pass_on: settings.pass_on,
            guard_forwarding: settings.bridge.guard_forwarding,
            options: settings.network_options.clone(),
        };
        let mut host = Host::open(&policy)?;
        // What makes no sense is refused even when nothing would be decided by it now.
        decide_bridge(&settings.bridge, &names.bridge, &policy, &[])?;
        let outdated = match state.read(predefined)? {
            None => true,
            Some((network, in_use)) => {
                let outdated = is_outdated(&network, &settings.bridge, &names.bridge);
                if outdated && in_use {
                    tracing::warn!("the network bridge is in use: its new settings count once no container is on it");
                }
                outdated && !in_use
            }
        };
        if outdated {
            let used = host.in_use(None)?;
            let decided = decide_bridge(&settings.bridge, &names.bridge, &policy, &used)?;
            state.write(Durability::Process, |transaction| make_predefined(transaction, &decided))?;
        }
        Ok(Self {
            shared: Arc::new(Shared {
                state: state.clone(),
                events: events.clone(),
                policy,
                bridge_enabled: settings.bridge.enabled,
                host: Mutex::new(host),
                claims: Mutex::default(),
                drivers: RwLock::default(),
                resolver: resolver::Resolver::new(state),
                relays: relay::Relays::new(),
            }),
        })
    }

    /// All networks, by name.
    ///
    /// # Errors
    /// When the state fails.
    pub fn list(&self) -> Result<Vec<Network>, Error> {
        let mut networks = self.shared.state.read(|look| look.list::<Network>(Table::Network))?;
        networks.retain(|(_, network)| self.shared.bridge_enabled || network.name != BRIDGE);
        networks.sort_by(|(_, one), (_, other)| one.name.cmp(&other.name));
        Ok(networks.into_iter().map(|(_, network)| network).collect())
    }

    /// The network with this id, this name, or an id that begins like this when only one does.
    ///
    /// # Errors
    /// When there is none or several.
    pub fn get(&self, name: &str) -> Result<Network, Error> {
        let network = self.shared.state.read(|look| find(look, name))?;
        if network.name == BRIDGE && !self.shared.bridge_enabled {
            return Err(Error::NotFound { name: name.to_owned() });
        }
        Ok(network)
    }

    /// Who is connected to a network.
    ///
    /// # Errors
    /// When the state fails.
    pub fn endpoints(&self, network: &NetworkId) -> Result<Vec<Endpoint>, Error> {
        self.shared.state.read(|look| endpoints_on(look, network))
    }

    /// What a container is connected to.
    ///
    /// # Errors
    /// When the state fails.
    pub fn endpoints_of(&self, container: &ContainerId) -> Result<Vec<Endpoint>, Error> {
        let prefix = connect::endpoints_key(container);
        let endpoints = self.shared.state.read(|look| look.list_prefix::<Endpoint>(Table::Endpoint, &prefix))?;
        Ok(endpoints.into_iter().map(|(_, endpoint)| endpoint).collect())
    }

    /// The host's addresses as a container with these ends reaches them, of the family of its way out first; those of the default
    /// bridge when it is on no network of the host's.
    ///
    /// # Errors
    /// When the state fails.
    pub fn host_addresses(&self, endpoints: &[Endpoint]) -> Result<Vec<IpAddr>, Error> {
        let of = |bridge: &Bridge| -> Vec<IpAddr> {
            let v4 = bridge.own_v4().and_then(|block| block.gateway).map(IpAddr::V4);
            v4.into_iter().chain(bridge.own_v6().and_then(|block| block.gateway).map(IpAddr::V6)).collect()
        };
        self.shared.state.read(|look| {
            let bridge = |id: &str| Ok::<_, Error>(look.get::<Network>(Table::Network, id)?.and_then(|one| one.bridge));
            let leader = gateway::leading(endpoints, gateway::Way::V4);
            for endpoint in leader.into_iter().chain(endpoints) {
                let found = bridge(endpoint.network.as_str())?.map(|bridge| of(&bridge)).unwrap_or_default();
                if !found.is_empty() {
                    return Ok(found);
                }
            }
            Ok(find(look, BRIDGE)?.bridge.map(|bridge| of(&bridge)).unwrap_or_default())
        })
    }

    /// Brings state and kernel together again, as at the start of an engine: the ends of containers that are gone are
    /// freed, and bridges that somebody is connected to are put in place with their rules.
    ///
    /// # Errors
    /// When the state fails or the kernel refuses.
    pub async fn restore(&self) -> Result<(), Error> {
        let this = self.clone();
        off_thread(move || this.restore_blocking()).await
    }

    /// As [`Self::restore`], for a thread that may wait.
    ///
    /// # Errors
    /// As [`Self::restore`].
    pub fn restore_blocking(&self) -> Result<(), Error> {
        let connected = self.shared.state.write(Durability::Process, connect::free_what_nobody_has)?;
        for guard in self.shared.state.read(watch::remembered_guards)? {
            self.host().keep_guard(guard);
        }
        let networks = self.list()?;
        let known: Vec<String> = networks.iter().filter_map(link_name).collect();
        self.host().remove_strays(&known)?;
        for network in networks.iter().filter(|network| connected.contains(&network.id)) {
            if network.bridge.is_some() {
                self.host().doubt(&network.id);
                self.bridge_in_place(network)?;
            }
        }
        {
            // What an engine that was killed has left of its rules may lead to nobody.
            let mut host = self.host();
            if host.is_in_use() || host.has_rules(&self.shared.policy)? {
                host.keep_rules(&self.shared.policy, || self.in_use())?;
            }
        }
        self.claim_again()
    }

    /// Removes the bridges and rules of this root when nobody is connected to them any more; false when somebody is.
    ///
    /// The host is then as it was, but for its forwarding; see the settings.
    ///
    /// # Errors
    /// When the state fails or the kernel refuses.
    pub async fn teardown(&self) -> Result<bool, Error> {
        let this = self.clone();
        off_thread(move || this.teardown_blocking()).await
    }

    /// As [`Self::teardown`], for a thread that may wait.
    ///
    /// # Errors
    /// As [`Self::teardown`].
    pub fn teardown_blocking(&self) -> Result<bool, Error> {
        let shared = &self.shared;
        // In the order of every connection: the kernel's side first, then the state.
        let mut host = self.host();
        shared.state.write(Durability::Process, |transaction| {
            connect::free_what_nobody_has(transaction)?;
            let networks = transaction.list::<Network>(Table::Network)?;
            let endpoints = transaction.list::<Endpoint>(Table::Endpoint)?;
            if endpoints.iter().any(|(_, endpoint)| endpoint.interface.is_some()) {
                return Ok(false);
            }
            let settled = |network: &Network| network.bridge.as_ref().is_some_and(|bridge| bridge.settled);
            let settled: Vec<Network> = networks.into_iter().map(|(_, network)| network).filter(settled).collect();
            for network in &settled {
                if let Some(bridge) = &network.bridge {
                    host.remove_bridge(&network.id, bridge)?;
                }
            }
            if !settled.is_empty() {
                host.remove_rules(&shared.policy)?;
            }
            for mut network in settled {
                lease::forget(transaction, &network.id)?;
                if let Some(bridge) = &mut network.bridge {
                    bridge.settled = false;
                }
                transaction.put(Table::Network, network.id.as_str(), &network)?;
            }
            Ok(true)
        })
    }

    /// The bridges that are in use, the ports that lead to their containers, and the ends that are guarded.
    fn in_use(&self) -> Result<firewall::InUse, Error> {
        self.shared.state.read(|look| {
            let mut in_use = firewall::InUse::default();
            let mut bridges = BTreeMap::new();
            for (_, network) in look.list::<Network>(Table::Network)? {
                let Some(bridge) = network.bridge.filter(|bridge| bridge.settled) else { continue };
                bridges.insert(network.id, Bridge { direct_routing: self.shared.policy.direct_routing, ..bridge });
            }
            for (_, endpoint) in look.list::<Endpoint>(Table::Endpoint)? {
                let bridge = bridges.get(&endpoint.network);
                let ports = self.ports_on(bridge, &endpoint);
                in_use.ports.extend(ports.into_iter().filter(|port| self.is_translated(port)));
                let guarded = bridge.is_some_and(|bridge| bridge.guarded);
                in_use.ends.extend(endpoint.interface.iter().filter(|_| guarded).map(firewall::End::of));
            }
            in_use.bridges = bridges.into_values().collect();
            Ok(in_use)
        })
    }

    fn claims(&self) -> MutexGuard<'_, HashMap<ContainerId, port::Claims>> {
        self.shared.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn host(&self) -> MutexGuard<'_, Host> {
        // What a panic left behind is only what was known of the kernel, which is checked anyway.
        self.shared.host.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs `work` where it may wait.
async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Error::Interrupted)?
}

/// What the root's interface and table are called.
#[derive(Debug, PartialEq, Eq)]
struct Names {
    bridge: String,
    table: String,
}

impl Names {
    fn of(root: &Path) -> Self {
        use sha2::Digest;
        use std::os::unix::ffi::OsStrExt;

        if root == Path::new(DEFAULT_ROOT) {
            return Self { bridge: "engine0".to_owned(), table: "engine".to_owned() };
        }
        let root = root.canonicalize().unwrap_or_else(|_| root.to_owned());
        let digest = sha2::Sha256::digest(root.as_os_str().as_bytes());
        let hash: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        Self { bridge: format!("eng{hash}"), table: format!("engine_{hash}") }
    }
}

/// The link of the host that a network has.
fn link_name(network: &Network) -> Option<String> {
    let of_bridge = network.bridge.as_ref().map(|bridge| bridge.interface.clone());
    of_bridge.or_else(|| network.direct.as_ref().map(|one| direct::parent_name(network, one)))
}

/// Who is on a network.
fn endpoints_on(look: &Snapshot<'_>, network: &NetworkId) -> Result<Vec<Endpoint>, Error> {
    let mut endpoints = look.list::<Endpoint>(Table::Endpoint)?;
    endpoints.retain(|(_, endpoint)| endpoint.network == *network);
    Ok(endpoints.into_iter().map(|(_, endpoint)| endpoint).collect())
}

fn find(look: &Snapshot<'_>, name: &str) -> Result<Network, Error> {
    let not_found = || Error::NotFound { name: name.to_owned() };
    let id = if look.contains(Table::Network, name)? {
        name.to_owned()
    } else if let Some(id) = look.get::<NetworkId>(Table::NetworkName, name)? {
        id.to_string()
    } else {
        match resolve(look.keys(Table::Network)?, name) {
            Resolved::One(id) => id,
            Resolved::None => return Err(not_found()),
            Resolved::Many => {
                let count = look.keys(Table::Network)?.iter().filter(|id| id.starts_with(name)).count();
                return Err(Error::Ambiguous { name: name.to_owned(), count });
            }
        }
    };
    look.get(Table::Network, &id)?.ok_or_else(not_found)
}

/// The bridge network when all predefined ones are there, and whether it is in use.
fn predefined(look: &Snapshot<'_>) -> Result<Option<(Network, bool)>, Error> {
    for name in [HOST, NONE] {
        match find(look, name) {
            Err(Error::NotFound { .. }) => return Ok(None),
            other => other?,
        };
    }
    let network = match find(look, BRIDGE) {
        Err(Error::NotFound { .. }) => return Ok(None),
        other => other?,
    };
    let endpoints = look.list::<Endpoint>(Table::Endpoint)?;
    let in_use = endpoints.iter().any(|(_, endpoint)| endpoint.network == network.id);
    Ok(Some((network, in_use)))
}

/// Whether the settings now ask for something else than what is remembered.
fn is_outdated(network: &Network, settings: &BridgeSettings, name: &str) -> bool {
    let Some(bridge) = &network.bridge else { return true };
    let Some(block) = &bridge.addresses.v4 else { return true };
    let address_differs = match settings.address {
        Some((address, prefix_len)) => {
            block.chosen || (block.gateway, block.subnet.prefix_len()) != (Some(address), prefix_len)
        }
        None => !block.chosen,
    };
    let v6_differs = match (&bridge.addresses.v6, settings.address_v6.or(settings.fixed_range_v6)) {
        (None, _) => settings.ipv6,
        (Some(_), _) if !settings.ipv6 => true,
        (Some(block), None) => !block.chosen,
        (Some(block), Some(_)) => block_v6(settings).ok().flatten() != Some(*block),
    };
    address_differs
        || v6_differs
        || bridge.interface != settings.name.as_deref().unwrap_or(name)
        || bridge.mtu != settings.mtu
        || bridge.inter_container != settings.inter_container
        || bridge.masquerade != settings.masquerade
        || bridge.host_binding != settings.host_binding
        || settings.fixed_range.is_some_and(|(first, prefix_len)| Subnet::of(first, prefix_len) != Some(block.range))
}

/// The default bridge's block of IPv6 that the settings name.
fn block_v6(settings: &BridgeSettings) -> Result<Option<Block<Ipv6Addr>>, Error> {
    if !settings.ipv6 {
        return Ok(None);
    }
    let invalid = |reason: String| Error::Invalid { network: BRIDGE.to_owned(), reason };
    let range = settings.fixed_range_v6.and_then(|(first, prefix_len)| Subnet6::of(first, prefix_len));
    let block = match (settings.address_v6, range) {
        (None, None) => return Ok(None),
        (None, Some(subnet)) => Block::whole(subnet, false),
        (Some((address, prefix_len)), range) => {
            let subnet = Subnet6::of(address, prefix_len).filter(|subnet| subnet.first() != address);
            let subnet =
                subnet.ok_or_else(|| invalid(format!("{address}/{prefix_len} is no address for the bridge")))?;
            let range = range.unwrap_or(subnet);
            if !subnet.covers(range) {
                return Err(invalid(format!("the range {range} for containers is not in {subnet}")));
            }
            Block { subnet, gateway: Some(address), range, chosen: false }
        }
    };
    if !(8..=126).contains(&block.subnet.prefix_len()) {
        return Err(invalid(format!("invalid prefix length of {}: expected 8 to 126", block.subnet)));
    }
    Ok(Some(block))
}

/// What the default bridge is to be. Decides purely, but for a private block of IPv6, which is made of random bytes.
fn decide_bridge(settings: &BridgeSettings, name: &str, policy: &Policy, in_use: &[Subnet]) -> Result<Bridge, Error> {
    let invalid = |reason: String| Error::Invalid { network: BRIDGE.to_owned(), reason };
    let interface = settings.name.clone().unwrap_or_else(|| name.to_owned());
    options::interface_name(&interface).map_err(|error| invalid(error.to_string()))?;
    let (subnet, gateway) = match settings.address {
        Some((address, prefix_len)) => {
            let block = Subnet::of(address, prefix_len).filter(|block| (8..=30).contains(&block.prefix_len()));
            let block =
                block.ok_or_else(|| invalid(format!("invalid prefix length {prefix_len}: expected 8 to 30")))?;
            if address == block.first() || address == block.broadcast() {
                return Err(invalid(format!("{address} is no address for the bridge: it is an edge of {block}")));
            }
            (block, address)
        }
        // Whatever is free is decided when the first container comes; until then this is a good guess.
        None => {
            let free = subnet::choose(&policy.pools, in_use);
            let free = free.or_else(|| subnet::choose(&policy.pools, &[]));
            let free = free.ok_or_else(|| Error::SubnetsExhausted { network: BRIDGE.to_owned() })?;
            (free, free.at(1).unwrap_or(free.first()))
        }
    };
    let range = match settings.fixed_range {
        Some((first, prefix_len)) => Subnet::of(first, prefix_len)
            .filter(|range| subnet.contains(range.first()) && subnet.contains(range.broadcast()))
            .ok_or_else(|| invalid(format!("the range {first}/{prefix_len} for containers is not in {subnet}")))?,
        None => subnet,
    };
    let v4 = Block { subnet, gateway: Some(gateway), range, chosen: settings.address.is_none() };
    let chosen_v6 = || match subnet::choose(&policy.pools_v6, &[]) {
        Some(free) => Ok(free),
        None => subnet::random_v6().map_err(|error| invalid(format!("no block of IPv6 can be made: {error}"))),
    };
    let v6 = match block_v6(settings)? {
        None if settings.ipv6 => Some(Block::whole(chosen_v6()?, true)),
        block => block,
    };
    Ok(Bridge {
        interface,
        addresses: Addresses { v4: Some(v4), v6, auxiliary: BTreeMap::new() },
        settled: false,
        mtu: settings.mtu,
        inter_container: settings.inter_container,
        masquerade: settings.masquerade,
        masquerade_v6: settings.masquerade,
        internal: false,
        host_binding: settings.host_binding,
        interface_prefix: None,
        gateway_mode: GatewayMode::Nat,
        gateway_mode_v6: GatewayMode::Nat,
        inhibit_v4: false,
        trusted: Vec::new(),
        direct_routing: false,
        guarded: false,
        without_host: false,
        without_metadata: false,
    })
}

fn make_predefined(transaction: &mut Transaction<'_>, decided: &Bridge) -> Result<(), Error> {
    for (name, driver) in [(BRIDGE, Driver::Bridge), (HOST, Driver::Host), (NONE, Driver::Null)] {
        let bridge = (driver == Driver::Bridge).then(|| decided.clone());
        let network = match find(transaction, name) {
            // Another process was faster, or the settings have changed.
            Ok(network) => Network { bridge, ..network },
            Err(Error::NotFound { .. }) => Network {
                id: NetworkId::random(),
                name: name.to_owned(),
                driver,
                created_nanos: now(),
                bridge,
                direct: None,
                labels: BTreeMap::new(),
                options: BTreeMap::new(),
                address_options: None,
                internal: false,
                attachable: false,
                template: None,
                config_from: None,
            },
            Err(error) => return Err(error),
        };
        transaction.put(Table::Network, network.id.as_str(), &network)?;
        transaction.put(Table::NetworkName, name, &network.id)?;
    }
    Ok(())
}

fn now() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
