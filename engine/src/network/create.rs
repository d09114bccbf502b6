//! Making a network: its addresses are chosen, and it is written down. The kernel has nothing of it until a container is
//! connected.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::bridge::Policy;
use super::options::{BridgeOptions, DirectOptions};
use super::record::{Addresses, Block, Bridge, Direct, Driver, GatewayMode, Network, Template};
use super::subnet::{Address, Subnet, Subnet6};
use super::{Error, Networks, now, off_thread, subnet};
use crate::events::{Event, EventType};
use crate::id::NetworkId;
use crate::state::{self, Durability, Snapshot, Table};

/// The longest name.
const MAX_NAME: usize = 255;

/// What is asked for when a network is made. What is left open is chosen by the engine.
///
/// ```
/// use engine::network::NetworkSpec;
/// let spec = NetworkSpec::new("back").subnet("10.9.0.0/24").internal(true).label("team", "storage");
/// assert_eq!(spec.driver, "bridge");
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct NetworkSpec {
    /// Its name, unique for each root.
    pub name: String,
    /// How it connects: the name of a driver.
    pub driver: String,
    /// Nothing leaves it and nothing comes in.
    pub internal: bool,
    /// Of a cluster only; kept for inspect.
    pub attachable: bool,
    /// Containers have no IPv4 addresses.
    pub without_ipv4: bool,
    /// Containers have IPv6 addresses.
    pub ipv6: bool,
    /// It is no network, but what others are made like.
    pub config_only: bool,
    /// The network that it is made like; empty for none.
    pub config_from: String,
    /// Its blocks of addresses, at most one of each family.
    pub blocks: Vec<BlockSpec>,
    /// Options of the driver, by Docker's names.
    pub options: BTreeMap<String, String>,
    /// Options of the address management; kept for inspect.
    pub address_options: Option<BTreeMap<String, String>>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// A block of addresses that is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct BlockSpec {
    /// As `10.9.0.0/24`; chosen when empty.
    pub subnet: String,
    /// The part of it that containers are given addresses of; all of it when empty.
    pub range: String,
    /// The address by which containers leave; the first when empty.
    pub gateway: String,
    /// Addresses that are somebody else's, by what they are called.
    pub auxiliary: BTreeMap<String, String>,
}

impl BlockSpec {
    /// A block.
    #[must_use]
    pub fn new(subnet: impl Into<String>) -> Self {
        Self { subnet: subnet.into(), ..Self::default() }
    }
}

impl NetworkSpec {
    /// A bridge network of this name, with nothing else asked for.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), driver: "bridge".to_owned(), ..Self::default() }
    }

    /// Sets the driver.
    #[must_use]
    pub fn driver(mut self, driver: impl Into<String>) -> Self {
        self.driver = driver.into();
        self
    }

    /// Adds a block of addresses, such as `10.9.0.0/24`.
    #[must_use]
    pub fn subnet(self, subnet: impl Into<String>) -> Self {
        self.block(BlockSpec::new(subnet))
    }

    /// Adds a block of addresses with what goes with it.
    #[must_use]
    pub fn block(mut self, block: BlockSpec) -> Self {
        self.blocks.push(block);
        self
    }

    /// Lets nothing out and nothing in.
    #[must_use]
    pub fn internal(mut self, internal: bool) -> Self {
        self.internal = internal;
        self
    }

    /// Gives containers no IPv4 addresses.
    #[must_use]
    pub fn without_ipv4(mut self, without: bool) -> Self {
        self.without_ipv4 = without;
        self
    }

    /// Gives containers IPv6 addresses.
    #[must_use]
    pub fn ipv6(mut self, ipv6: bool) -> Self {
        self.ipv6 = ipv6;
        self
    }

    /// Adds an option of the driver.
    #[must_use]
    pub fn option(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.options.insert(name.into(), value.into());
        self
    }

    /// Adds a label.
    #[must_use]
    pub fn label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(name.into(), value.into());
        self
    }
}

impl Networks {
    /// Makes a network.
    ///
    /// # Errors
    /// When the name or the addresses are taken, or what is asked for makes no sense or is not supported.
    pub async fn create(&self, spec: NetworkSpec) -> Result<Network, Error> {
        let this = self.clone();
        off_thread(move || this.create_blocking(&spec)).await
    }

    /// As [`Self::create`], for a thread that may wait.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub fn create_blocking(&self, spec: &NetworkSpec) -> Result<Network, Error> {
        // An option says it too, as files for docker-compose do.
        let says = |option, what: &str| spec.options.get(option).is_some_and(|value| value == what);
        let spec = NetworkSpec {
            ipv6: spec.ipv6 || says(super::options::ENABLE_V6, "true"),
            without_ipv4: spec.without_ipv4 || says(super::options::ENABLE_V4, "false"),
            ..spec.clone()
        };
        let like = match spec.config_from.as_str() {
            "" => None,
            _ if spec.config_only => {
                return Err(Error::Forbidden(
                    "a configuration network cannot depend on another configuration network".to_owned(),
                ));
            }
            name => Some(self.get(name)?),
        };
        let spec = &match &like {
            Some(like) => made_like(spec, like)?,
            None if spec.config_only => spec,
            None => self.with_defaults(spec),
        };
        let mut network = if spec.config_only { decide_template(spec)? } else { decide(spec)? };
        network.config_from = like.map(|like| like.name);
        if let Driver::Own(name) = &network.driver {
            let driver = self.driver(name)?;
            driver.check(&network).map_err(|reason| Error::Refused(reason.to_string()))?;
        }
        if let Some(bridge) = &network.bridge {
            self.host().check_filter(bridge, &self.shared.policy)?;
        }
        let used = {
            let mut host = self.host();
            // A bridge of the host's own may have the addresses that its network is to have.
            let own = match &network.bridge {
                Some(bridge) => host.find(&bridge.interface)?.map(|link| link.index),
                None => None,
            };
            Used {
                v4: host.in_use(None)?,
                v6: host.in_use(None)?,
                beside_v4: Beside { addresses: host.addresses(own)?, all: host.in_use(own)? },
                beside_v6: Beside { addresses: host.addresses(own)?, all: host.in_use(own)? },
            }
        };
        let policy = &self.shared.policy;
        self.shared.state.write(Durability::Process, |transaction| {
            match transaction.insert(Table::NetworkName, &network.name, &network.id) {
                Err(state::Error::Exists { .. }) => return Err(Error::Exists { name: network.name.clone() }),
                other => other?,
            }
            let others = Others::read(transaction)?;
            if let Some(like) = &network.config_from {
                super::find(transaction, like)?;
            }
            settle(&mut network, spec, &others, &used, policy)?;
            Ok(transaction.insert(Table::Network, network.id.as_str(), &network)?)
        })?;
        self.tell("create", &network);
        Ok(network)
    }

    /// What is asked for, with the options that the settings have for those who do not say them.
    fn with_defaults(&self, mut spec: NetworkSpec) -> NetworkSpec {
        let driver = if matches!(spec.driver.as_str(), "" | "default") { "bridge" } else { spec.driver.as_str() };
        for (name, value) in self.shared.policy.options.get(driver).into_iter().flatten() {
            spec.options.entry(name.clone()).or_insert_with(|| value.clone());
        }
        spec
    }

    /// Tells what happened to a network.
    pub(super) fn tell(&self, action: &str, network: &Network) {
        let event = Event::new(EventType::Network, action, network.id.as_str())
            .attribute("name", &network.name)
            .attribute("type", network.driver.to_string());
        self.shared.events.publish(event);
    }
}

/// What the host uses.
struct Used {
    v4: Vec<Subnet>,
    v6: Vec<Subnet6>,
    beside_v4: Beside<Ipv4Addr>,
    beside_v6: Beside<Ipv6Addr>,
}

/// What the host has beside a network's own bridge: the blocks of its addresses, and those with the destinations of its routes.
struct Beside<A> {
    addresses: Vec<Subnet<A>>,
    all: Vec<Subnet<A>>,
}

/// What the other networks of this root have.
pub(super) struct Others {
    pub(super) v4: Vec<Subnet>,
    v6: Vec<Subnet6>,
    bridges: Vec<String>,
}

impl Others {
    pub(super) fn read(look: &Snapshot<'_>) -> Result<Self, Error> {
        let networks = look.list::<Network>(Table::Network)?;
        let networks = || networks.iter().map(|(_, network)| network);
        Ok(Self {
            v4: networks().filter_map(|other| Some(other.addresses()?.v4?.subnet)).collect(),
            v6: networks().filter_map(|other| Some(other.addresses()?.v6.as_ref()?.subnet)).collect(),
            bridges: networks().filter_map(|other| Some(other.bridge.as_ref()?.interface.clone())).collect(),
        })
    }
}

/// What is asked for, with what it has from the network that it is made like.
fn made_like(spec: NetworkSpec, like: &Network) -> Result<NetworkSpec, Error> {
    let template = like.template.as_ref().ok_or_else(|| {
        Error::Forbidden(format!("network {} is no configuration network: make one with --config-only", like.name))
    })?;
    let of_its_own = spec.without_ipv4 || spec.ipv6 || !spec.labels.is_empty() || !spec.blocks.is_empty();
    if of_its_own || spec.address_options.as_ref().is_some_and(|options| !options.is_empty()) {
        return Err(Error::Forbidden(
            "user specified configurations are not supported if the network depends on a configuration network"
                .to_owned(),
        ));
    }
    if !spec.options.is_empty() {
        return Err(Error::Forbidden(
            "network driver options are not supported if the network depends on a configuration network".to_owned(),
        ));
    }
    Ok(NetworkSpec {
        without_ipv4: template.without_ipv4,
        ipv6: template.ipv6,
        blocks: template.blocks.clone(),
        labels: like.labels.clone(),
        options: like.options.clone(),
        address_options: like.address_options.clone(),
        ..spec
    })
}

/// Checks a configuration that others are to be made like, as far as it does not depend on their driver.
fn decide_template(spec: &NetworkSpec) -> Result<Network, Error> {
    check_name(&spec.name)?;
    if spec.internal || spec.attachable {
        return Err(Error::Forbidden(
            "configuration network can only contain network specific fields. Network operator fields like [ ingress | internal | \
             attachable | scope ] are not supported."
                .to_owned(),
        ));
    }
    read_blocks(spec, &Driver::Null)?;
    let template = Template { blocks: spec.blocks.clone(), without_ipv4: spec.without_ipv4, ipv6: spec.ipv6 };
    Ok(Network {
        id: NetworkId::random(),
        name: spec.name.clone(),
        driver: Driver::Null,
        created_nanos: now(),
        bridge: None,
        direct: None,
        labels: spec.labels.clone(),
        options: spec.options.clone(),
        address_options: spec.address_options.clone(),
        internal: false,
        attachable: false,
        template: Some(template),
        config_from: None,
    })
}

/// Checks what is asked for and decides all but the blocks that are to be chosen, which are empty.
fn decide(spec: &NetworkSpec) -> Result<Network, Error> {
    check_name(&spec.name)?;
    let id = NetworkId::random();
    let driver: Driver = match spec.driver.as_str() {
        "" | "default" => Driver::Bridge,
        "host" | "null" => {
            return Err(Error::Forbidden(format!("only one instance of \"{}\" network is allowed", spec.driver)));
        }
        other => match other.parse() {
            Ok(driver) => driver,
        },
    };
    let addresses = read_blocks(spec, &driver)?;
    let (mut bridge, mut direct) = (None, None);
    match &driver {
        Driver::Bridge => {
            let options = BridgeOptions::read(&spec.options)?;
            if !spec.internal && [options.gateway_mode, options.gateway_mode_v6].contains(&GatewayMode::Isolated) {
                return Err(Error::Refused(
                    "gateway mode 'isolated' can only be used for an internal network".to_owned(),
                ));
            }
            bridge = Some(Bridge {
                interface: options.name.unwrap_or_else(|| format!("br-{}", id.short())),
                addresses,
                // A block that was asked for stays; one that was chosen stays free until somebody uses it.
                settled: false,
                mtu: options.mtu,
                inter_container: options.inter_container,
                masquerade: options.masquerade && options.gateway_mode.translates(),
                masquerade_v6: options.masquerade && options.gateway_mode_v6.translates(),
                internal: spec.internal,
                host_binding: options.host_binding,
                interface_prefix: options.interface_prefix,
                gateway_mode: options.gateway_mode,
                gateway_mode_v6: options.gateway_mode_v6,
                inhibit_v4: options.inhibit_v4,
                trusted: options.trusted,
                direct_routing: false,
                guarded: options.guarded,
                without_host: options.without_host,
                without_metadata: options.without_metadata,
            });
        }
        Driver::Macvlan | Driver::Ipvlan => {
            let options = DirectOptions::read(&driver.to_string(), &spec.options)?;
            let DirectOptions { parent, mode, flag, mtu } = options;
            direct = Some(Direct { parent, mode, flag, addresses, mtu });
        }
        _ => {
            let (parent, mode, flag) = (String::new(), String::new(), String::new());
            direct = Some(Direct { parent, mode, flag, addresses, mtu: None });
        }
    }
    Ok(Network {
        id,
        name: spec.name.clone(),
        driver,
        created_nanos: now(),
        bridge,
        direct,
        labels: spec.labels.clone(),
        options: spec.options.clone(),
        address_options: spec.address_options.clone(),
        internal: spec.internal,
        attachable: spec.attachable,
        template: None,
        config_from: None,
    })
}

fn check_name(name: &str) -> Result<(), Error> {
    if [super::BRIDGE, super::HOST, super::NONE, "default"].contains(&name) {
        return Err(Error::Forbidden(format!("operation is not permitted on predefined {name} network ")));
    }
    // Docker takes nearly every name, and people use that: `_project_default`, `my net`.
    let printable = name.chars().all(|character| !character.is_control() && !matches!(character, '/' | ':' | '\\'));
    if name.is_empty() || name.trim() != name || !printable || name.len() > MAX_NAME {
        let shown: String = name.chars().take(64).collect();
        return Err(Error::Refused(format!(
            "invalid network name {shown:?}: it needs 1 to {MAX_NAME} characters, without slashes, colons and spaces around"
        )));
    }
    // It would be taken for the network itself.
    if name.parse::<NetworkId>().is_ok() {
        return Err(Error::Refused(format!("invalid network name {name:?}: it looks like an id")));
    }
    Ok(())
}

fn read_blocks(spec: &NetworkSpec, driver: &Driver) -> Result<Addresses, Error> {
    let (mut v4, mut v6, mut auxiliary) = (None, None, BTreeMap::new());
    for block in &spec.blocks {
        let is_v6 = [&block.subnet, &block.gateway, &block.range].into_iter().any(|text| text.contains(':'));
        let place_taken = if is_v6 { v6.is_some() } else { v4.is_some() };
        if place_taken {
            return Err(Error::Forbidden(format!("{driver} driver doesn't support multiple subnets")));
        }
        if is_v6 {
            v6 = Some(read_block::<Ipv6Addr>(block, &mut auxiliary)?);
        } else {
            v4 = Some(read_block::<Ipv4Addr>(block, &mut auxiliary)?);
        }
    }
    if spec.without_ipv4 && !spec.ipv6 {
        return Err(Error::Refused("invalid network config:\nIPv4 or IPv6 must be enabled".to_owned()));
    }
    if v4.is_some_and(|block: Block<Ipv4Addr>| !block.chosen) && spec.without_ipv4 {
        return Err(Error::Refused("invalid network config:\nIPv4 has been disabled for this network".to_owned()));
    }
    if v6.is_some() && !spec.ipv6 {
        return Err(Error::Refused("invalid network config:\nIPv6 has not been enabled for this network".to_owned()));
    }
    if v4.as_ref().is_some_and(|block| !(8..=31).contains(&block.subnet.prefix_len()) && !block.chosen) {
        return Err(Error::Refused(
            "invalid network config:\nan IPv4 subnet has a prefix length of 8 to 31".to_owned(),
        ));
    }
    if v6.as_ref().is_some_and(|block| !(8..=126).contains(&block.subnet.prefix_len())) {
        return Err(Error::Refused(
            "invalid network config:\nan IPv6 subnet has a prefix length of 8 to 126".to_owned(),
        ));
    }
    let mut random = [0; 7];
    // Without randomness another network may have the block: then the host refuses the second one.
    let _ = getrandom::fill(&mut random);
    let v6 = v6.or_else(|| spec.ipv6.then(|| Block::whole(subnet::private_v6(random), true)));
    let v4 = (!spec.without_ipv4).then(|| v4.unwrap_or_else(|| Block::whole(Subnet::everything(), true)));
    Ok(Addresses { v4, v6, auxiliary })
}

fn read_block<A: Address>(spec: &BlockSpec, auxiliary: &mut BTreeMap<String, IpAddr>) -> Result<Block<A>, Error> {
    let refused = |reason: String| Error::Refused(format!("invalid network config:\n{reason}"));
    if spec.subnet.is_empty() {
        if !spec.range.is_empty() || !spec.gateway.is_empty() || !spec.auxiliary.is_empty() {
            return Err(refused("a range, a gateway or auxiliary addresses need a subnet".to_owned()));
        }
        return Ok(Block::whole(Subnet::everything(), true));
    }
    let block = |what: &str, text: &str| -> Result<Subnet<A>, Error> {
        let subnet: Subnet<A> =
            text.parse().map_err(|_| refused(format!("invalid {what} {text}: invalid CIDR block notation")))?;
        if text.split('/').next().and_then(|first| first.parse().ok()) != Some(subnet.first()) {
            return Err(refused(format!("invalid {what} {text}: it should be {subnet}")));
        }
        Ok(subnet)
    };
    let subnet = block("subnet", &spec.subnet)?;
    let inside = |what: &str, text: &str| -> Result<A, Error> {
        let address: A = text.parse().map_err(|_| refused(format!("invalid {what} {text}: invalid address")))?;
        let edge = A::BITS == 32 && subnet.prefix_len() < 31 && [subnet.first(), subnet.broadcast()].contains(&address);
        if !subnet.contains(address) || edge {
            return Err(refused(format!("invalid {what} {text}: parent subnet {subnet} doesn't contain this address")));
        }
        Ok(address)
    };
    let mut read = Block::whole(subnet, false);
    if !spec.range.is_empty() {
        read.range = block("ip-range", &spec.range)?;
        if !subnet.covers(read.range) {
            return Err(refused(format!("invalid ip-range {}: parent subnet {subnet} doesn't contain it", spec.range)));
        }
    }
    if !spec.gateway.is_empty() {
        // Docker takes a prefix length behind it too.
        let bare = spec.gateway.split('/').next().unwrap_or_default();
        read.gateway = Some(inside("gateway", bare)?);
    }
    for (name, text) in &spec.auxiliary {
        let address = inside("auxiliary address", text)?;
        auxiliary.insert(name.clone(), address.into());
    }
    Ok(read)
}

/// Chooses the blocks that are open, and refuses those that are somebody else's.
fn settle(
    network: &mut Network,
    spec: &NetworkSpec,
    others: &Others,
    used: &Used,
    policy: &Policy,
) -> Result<(), Error> {
    // A network on an interface of the host has addresses of the host's own network.
    let on_its_own = network.bridge.is_some();
    if let Some(bridge) = &network.bridge
        && others.bridges.contains(&bridge.interface)
    {
        return Err(Error::Forbidden(format!(
            "bridge name {} is already used by another network of this engine",
            bridge.interface
        )));
    }
    let addresses = match (&mut network.bridge, &mut network.direct) {
        (Some(bridge), _) => &mut bridge.addresses,
        (None, Some(direct)) => &mut direct.addresses,
        (None, None) => return Ok(()),
    };
    let exhausted = || Error::SubnetsExhausted { network: spec.name.clone() };
    if let Some(block) = addresses.v4.as_mut().filter(|block| block.chosen) {
        let mut taken = used.v4.clone();
        taken.extend(&others.v4);
        *block = Block::whole(subnet::choose(&policy.pools, &taken).ok_or_else(exhausted)?, true);
    } else if let Some(block) = addresses.v4.filter(|_| on_its_own) {
        check_overlap(block.subnet, &others.v4, &used.beside_v4)?;
    }
    if let Some(block) = addresses.v6.as_mut().filter(|block| block.chosen && !policy.pools_v6.is_empty()) {
        let mut taken = used.v6.clone();
        taken.extend(&others.v6);
        *block = Block::whole(subnet::choose(&policy.pools_v6, &taken).ok_or_else(exhausted)?, true);
    }
    if let Some(block) = addresses.v6.as_ref().filter(|_| on_its_own) {
        check_overlap(block.subnet, &others.v6, &used.beside_v6)?;
    }
    Ok(())
}

/// Refuses a block that another network of this root has addresses of, or that the host has addresses of or routes into. A
/// route to more than the block (of a tunnel to everywhere, say) is none of these, nor is one to a single address in it: the kernel
/// goes by what is said most exactly.
fn check_overlap<A: Address>(subnet: Subnet<A>, others: &[Subnet<A>], host: &Beside<A>) -> Result<(), Error> {
    let into = |route: &&Subnet<A>| subnet.covers(**route) && route.prefix_len() < A::BITS;
    let clashes = others.iter().chain(&host.addresses).filter(|other| other.overlaps(subnet));
    match clashes.chain(host.all.iter().filter(into)).next() {
        Some(other) => Err(Error::Overlap { subnet: subnet.to_string(), other: other.to_string() }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn refused(spec: NetworkSpec) -> String {
        decide(&spec).unwrap_err().to_string()
    }

    fn block(subnet: &str, range: &str, gateway: &str) -> BlockSpec {
        BlockSpec { subnet: subnet.into(), range: range.into(), gateway: gateway.into(), ..BlockSpec::default() }
    }

    #[test]
    fn blocks_are_read() {
        let mut asked = block("10.9.0.0/24", "10.9.0.128/25", "10.9.0.254");
        asked.auxiliary.insert("router".into(), "10.9.0.5".into());
        let network = decide(&NetworkSpec::new("n").block(asked).ipv6(true).subnet("fd00:9::/64")).unwrap();
        let addresses = network.addresses().unwrap();
        let v4 = addresses.v4.unwrap();
        assert_eq!(v4.range.to_string(), "10.9.0.128/25");
        assert_eq!(v4.gateway.unwrap().to_string(), "10.9.0.254");
        assert_eq!(addresses.v6.as_ref().unwrap().gateway.unwrap().to_string(), "fd00:9::1");
        assert_eq!(addresses.auxiliary["router"].to_string(), "10.9.0.5");
        let chosen = decide(&NetworkSpec::new("n").ipv6(true)).unwrap();
        assert!(chosen.addresses().unwrap().v6.as_ref().unwrap().subnet.to_string().starts_with("fd"));
        assert!(network.bridge.unwrap().interface.len() <= 15);
    }

    #[test]
    fn nonsense_is_refused() {
        let of = |subnet, range, gateway| refused(NetworkSpec::new("n").block(block(subnet, range, gateway)));
        assert!(of("10.9.0.1/24", "", "").contains("it should be 10.9.0.0/24"));
        assert!(of("10.9.0.0", "", "").contains("invalid CIDR"));
        assert!(of("10.9.0.0/24", "10.8.0.0/25", "").contains("doesn't contain"));
        assert!(of("10.9.0.0/24", "", "10.9.0.0").contains("doesn't contain"));
        assert!(of("", "10.9.0.0/25", "").contains("need a subnet"));
        assert!(of("10.9.0.0/32", "", "").contains("prefix length"));
        assert!(of("fd00::/64", "", "").contains("IPv6 has not been enabled"));
        let two = NetworkSpec::new("n").subnet("10.1.0.0/24").subnet("10.2.0.0/24");
        assert_eq!(refused(two), "bridge driver doesn't support multiple subnets");
        for name in ["", "bridge", "host", "none", " a", "a/b", "container:a", "a\nb", &"x".repeat(256)] {
            refused(NetworkSpec::new(name));
        }
        for name in ["_project_default", "my net", "é"] {
            decide(&NetworkSpec::new(name)).unwrap();
        }
        refused(NetworkSpec::new(NetworkId::random().to_string()));
        assert!(refused(NetworkSpec::new("n").driver("host")).contains("only one instance"));
    }
}
