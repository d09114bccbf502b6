//! The host's side of bridge networks: the bridge itself, its addresses and rules, and the ports for containers.
//!
//! A bridge is made when the first container needs it. Everything here is idempotent, since another engine on the
//! same root may do the same at the same time, and since it may have been interrupted anywhere the last time.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use engine_sys::netlink::{self, Netlink, Protocol};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::firewall::{End, Family, Port};
use super::link::{self, Link};
use super::record::{Block, Bridge, Network};
use super::subnet::{Address, Subnet, Subnet6};
use super::{Error, MacAddress, firewall, forwarding, subnet};
use crate::id::NetworkId;
use crate::settings::AddressPool;

/// What a packet of a usual network has at most.
const USUAL_MTU: u32 = 1500;
/// How long another engine may take to choose its addresses before we no longer wait for it.
const PATIENCE: Duration = Duration::from_secs(3);

/// The kernel's side of all networks of one engine.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) route: Netlink,
    filter: Option<Netlink>,
    /// The bridges known to be in place.
    ready: HashMap<NetworkId, Ready>,
    guards: Vec<firewall::Ruleset>,
    /// How links of ours are known again.
    pub(super) alias: String,
    /// The state of the packet filter in which our rules were seen in place.
    generation: Option<u32>,
}

/// A bridge that is in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ready {
    pub(super) index: u32,
    pub(super) mtu: u32,
    /// The addresses it was made for.
    pub(super) subnet: Option<Subnet>,
    pub(super) subnet_v6: Option<Subnet6>,
}

/// What of the settings decides how bridges are made.
#[derive(Debug, Clone)]
pub(super) struct Policy {
    pub(super) table: String,
    pub(super) pools: Vec<AddressPool>,
    pub(super) pools_v6: Vec<AddressPool<Ipv6Addr>>,
    pub(super) firewall: bool,
    pub(super) forward: bool,
    /// Ports are listened at, not translated.
    pub(super) relay: bool,
    /// Published ports are reached at the containers' own addresses too, from wherever.
    pub(super) direct_routing: bool,
    /// The engine passes on what translation does not lead to published ports.
    pub(super) pass_on: bool,
    pub(super) guard_forwarding: bool,
    /// Options of new networks, by driver.
    pub(super) options: BTreeMap<String, BTreeMap<String, String>>,
}

impl Host {
    pub(super) fn open(policy: &Policy) -> Result<Self, Error> {
        let open = |protocol| Netlink::open(protocol).map_err(Error::system("open a netlink socket"));
        Ok(Self {
            route: open(Protocol::Route)?,
            filter: if policy.firewall { Some(open(Protocol::Netfilter)?) } else { None },
            ready: HashMap::new(),
            guards: Vec::new(),
            alias: format!("{ALIAS}{}", policy.table),
            generation: None,
        })
    }

    /// The bridge, when it was seen in place and nothing has happened since.
    pub(super) fn ready(&self, network: &NetworkId) -> Option<Ready> {
        self.ready.get(network).copied()
    }

    /// Forgets that a bridge was seen in place.
    pub(super) fn doubt(&mut self, network: &NetworkId) {
        self.ready.remove(network);
    }

    /// Whether there is anything to keep in place.
    pub(super) fn is_in_use(&self) -> bool {
        !self.ready.is_empty() || !self.guards.is_empty()
    }

    /// The blocks that the host has addresses of or routes to, but for those of the link `except`.
    pub(super) fn in_use<A: Address>(&mut self, except: Option<u32>) -> Result<Vec<Subnet<A>>, Error> {
        let mut used = link::routes(&mut self.route).map_err(Error::kernel("list the routes"))?.destinations;
        let addresses = link::addresses(&mut self.route).map_err(Error::kernel("list the addresses"))?;
        let own = |index: u32| Some(index) == except;
        let ours: Vec<Subnet<A>> =
            addresses.iter().filter(|(index, ..)| own(*index)).map(|(.., block)| *block).collect();
        // The routes to the bridge itself are no obstacle to it.
        used.retain(|used| !ours.iter().any(|own| own.overlaps(*used)));
        used.extend(addresses.into_iter().filter(|(index, ..)| !own(*index)).map(|(.., block)| block));
        Ok(used)
    }

    /// Chooses the addresses of a network that has not used any yet, while no other engine of this host chooses; `taken`
    /// are the blocks of this root's other networks.
    pub(super) fn settle(
        &mut self,
        network: &Network,
        taken: impl FnOnce() -> Result<Vec<Subnet>, Error>,
        policy: &Policy,
    ) -> Result<(Bridge, Option<File>), Error> {
        let mut bridge = network.bridge.clone().ok_or_else(|| not_a_bridge(network))?;
        let turn = if bridge.settled { None } else { Some(take_turn()?) };
        if !bridge.settled {
            let link = self.find(&bridge.interface)?;
            let mut used = self.in_use(link.as_ref().map(|link| link.index))?;
            if let Some(block) = &bridge.addresses.v4
                && block.chosen
                && used.iter().any(|used| used.overlaps(block.subnet))
            {
                used.extend(taken()?);
                let free = subnet::choose(&policy.pools, &used);
                let free = free.ok_or_else(|| Error::SubnetsExhausted { network: network.name.clone() })?;
                bridge.move_to(free);
            }
            bridge.settled = true;
        }
        Ok((bridge, turn))
    }

    /// Puts the bridge in place.
    pub(super) fn make(&mut self, network: &Network, bridge: &Bridge) -> Result<Ready, Error> {
        let name = &bridge.interface;
        let mtu = match bridge.mtu {
            Some(mtu) => mtu,
            None => self.uplink_mtu()?.map_or(USUAL_MTU, |mtu| mtu.min(USUAL_MTU)),
        };
        let link = match self.find(name)? {
            Some(link) => link,
            None => {
                match self.route.request(&mut [link::make_bridge(name, self.mark(&network.id), mtu)]) {
                    Err(error) if !error.is(Errno::EXIST) => {
                        return Err(Error::kernel(format!("make the bridge {name}"))(error));
                    }
                    _ => {}
                }
                self.find(name)?.ok_or_else(|| Error::kernel(format!("find the bridge {name}"))(Errno::NODEV.into()))?
            }
        };
        if link.kind != "bridge" {
            return Err(Error::NoBridge { interface: name.clone() });
        }
        // Containers can send what they like to the bridge: it takes no IPv6 configuration from them.
        let without = if bridge.addresses.v6.is_some() { "0" } else { "1" };
        for (switch, value) in [("accept_ra", "0"), ("disable_ipv6", without)] {
            forwarding::write_switch_if_there(&forwarding::switch_of(name, switch), value)?;
        }
        let ours = self.made(&link, &network.id);
        let mut changes = Vec::new();
        if let Some(block) = bridge.own_v4() {
            changes.extend(self.address_changes(&link, &block, ours)?);
        }
        if let Some(block) = bridge.own_v6() {
            changes.extend(self.address_changes(&link, &block, ours)?);
        }
        if !link.up {
            changes.push(link::bring_up_as(link.index, &self.alias));
        }
        self.route.request(&mut changes).map_err(Error::kernel(format!("set the bridge {name} up")))?;
        let ready = Ready {
            index: link.index,
            mtu,
            subnet: bridge.addresses.v4.map(|block| block.subnet),
            subnet_v6: bridge.addresses.v6.as_ref().map(|block| block.subnet),
        };
        self.ready.insert(network.id, ready);
        Ok(ready)
    }

    /// What gives the bridge its own address of a family, and takes away those that it had before.
    fn address_changes<A: Address>(
        &mut self,
        link: &Link,
        block: &Block<A>,
        ours: bool,
    ) -> Result<Vec<netlink::Message>, Error> {
        let mut changes = Vec::new();
        let mut there = false;
        let own = block.gateway.map(|gateway| (gateway, block.subnet));
        for (index, address, subnet) in
            link::addresses::<A>(&mut self.route).map_err(Error::kernel("list the addresses"))?
        {
            // Those of the link (fe80::/10) are the kernel's.
            let of_the_link = matches!(address.into(), IpAddr::V6(address) if address.is_unicast_link_local());
            if index != link.index || of_the_link {
                continue;
            }
            if own == Some((address, subnet)) {
                there = true;
            } else if ours {
                changes.push(link::delete_address(index, address, subnet));
            }
        }
        if let Some((address, subnet)) = own.filter(|_| !there) {
            changes.push(link::add_address(link.index, address, subnet));
        }
        Ok(changes)
    }

    /// Turns the host's forwarding on when it is off; the guards that this took, when it did.
    pub(super) fn forward(&mut self, bridge: &Bridge, policy: &Policy) -> Result<Vec<firewall::Ruleset>, Error> {
        let mut taken = Vec::new();
        if !policy.forward || bridge.internal {
            return Ok(taken);
        }
        let families = [(Family::Ipv4, bridge.addresses.v4.is_some()), (Family::Ipv6, bridge.addresses.v6.is_some())];
        for (family, _) in families.into_iter().filter(|(_, wanted)| *wanted) {
            let filter = self.filter.as_mut().filter(|_| policy.guard_forwarding);
            taken.extend(forwarding::ensure(family, &mut self.route, filter)?);
        }
        for guard in &taken {
            self.keep_guard(guard.clone());
        }
        Ok(taken)
    }

    /// Keeps this guard from now on.
    pub(super) fn keep_guard(&mut self, guard: firewall::Ruleset) {
        self.guards.retain(|other| other.family != guard.family);
        self.guards.push(guard);
    }

    /// Puts our rules in place when they are not, and says whether that was so; `wanted` are the bridges and ports that
    /// they are for.
    /// Costs microseconds when nobody has changed the packet filter since the last time.
    pub(super) fn keep_rules(
        &mut self,
        policy: &Policy,
        wanted: impl FnOnce() -> Result<firewall::InUse, Error>,
    ) -> Result<bool, Error> {
        let Some(filter) = &mut self.filter else { return Ok(false) };
        let look = || Error::kernel("look at the packet filter (nftables)");
        let generation = firewall::generation(filter).map_err(look())?;
        if self.generation == Some(generation) {
            return Ok(false);
        }
        let in_use = wanted()?;
        let mut missing = Vec::new();
        for rules in firewall::tables(&policy.table, &in_use).iter().chain(&self.guards) {
            if !firewall::is_in_place(filter, rules).map_err(look())? {
                missing.push(rules.clone());
            }
        }
        let changed = !missing.is_empty();
        if changed {
            firewall::apply(filter, &missing)
                .map_err(Error::kernel("set the rules of the packet filter (nftables)"))?;
        }
        // It was read before we looked: what somebody else changes meanwhile is seen the next time.
        self.generation = if changed { None } else { Some(generation) };
        Ok(changed)
    }

    /// Which state of the packet filter is known to have our rules in place.
    pub(super) fn generation(&self) -> Option<u32> {
        self.generation
    }

    /// Whether rules of ours are there, such as they are.
    pub(super) fn has_rules(&mut self, policy: &Policy) -> Result<bool, Error> {
        let Some(filter) = &mut self.filter else { return Ok(false) };
        for family in [Family::Ipv4, Family::Ipv6, Family::Bridge] {
            let look = Error::kernel("look at the packet filter (nftables)");
            if firewall::has_table(filter, family, &policy.table).map_err(look)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Lets a port of a bridge send back what came from it: the container may ask its own published port.
    pub(super) fn turn_back(&mut self, host_name: &str) -> Result<(), Error> {
        let message = link::set_hairpin(host_name);
        self.route.request(&mut [message]).map_err(Error::kernel(format!("set the interface {host_name}")))
    }

    /// Refuses what only the packet filter can do where there is none, or none for bridges.
    pub(super) fn check_filter(&mut self, bridge: &Bridge, policy: &Policy) -> Result<(), Error> {
        let closes = bridge.guarded || bridge.without_host || bridge.without_metadata || !bridge.trusted.is_empty();
        let Some(filter) = self.filter.as_mut().filter(|_| closes) else {
            return if closes {
                Err(Error::Refused("the settings turn the packet filter off, which this network needs".to_owned()))
            } else {
                Ok(())
            };
        };
        if !bridge.guarded {
            return Ok(());
        }
        let trial = format!("{}_trial", policy.table);
        match firewall::knows_bridges(filter, &trial) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Error::Unsupported(
                "the kernel of this host has no nftables for bridges, by which containers are guarded".to_owned(),
            )),
            Err(error) => Err(Error::kernel("try the packet filter for bridges (nftables)")(error)),
        }
    }

    /// Guards the end of a container, which is not there yet.
    pub(super) fn guard(&mut self, end: &End, policy: &Policy) -> Result<(), Error> {
        let Some(filter) = &mut self.filter else { return Ok(()) };
        firewall::guard_end(filter, &policy.table, end)
            .map_err(Error::kernel("guard a container's interface in the packet filter (nftables)"))?;
        self.count_own_change()
    }

    /// Ends that; false when the rules are not as they were thought to be and have to be looked at.
    pub(super) fn unguard(&mut self, end: &End, policy: &Policy) -> Result<bool, Error> {
        let Some(filter) = &mut self.filter else { return Ok(true) };
        match firewall::unguard_end(filter, &policy.table, end) {
            Ok(()) => self.count_own_change().map(|()| true),
            Err(error) if error.is(Errno::NOENT) => {
                self.generation = None;
                Ok(false)
            }
            Err(error) => Err(Error::kernel("take a guard out of the packet filter (nftables)")(error)),
        }
    }

    /// Lets ports of the host lead to the bridge's containers.
    pub(super) fn publish(&mut self, bridge: &Bridge, ports: &[Port], policy: &Policy) -> Result<(), Error> {
        let Some(filter) = &mut self.filter else {
            let reason = "ports cannot be published: the settings turn the packet filter off".to_owned();
            return Err(Error::Invalid { network: bridge.interface.clone(), reason });
        };
        // The host's programs reach them by the loopback; the rules keep containers from using that.
        let path = std::path::PathBuf::from(format!("/proc/sys/net/ipv4/conf/{}/route_localnet", bridge.interface));
        forwarding::write_switch_if_there(&path, "1")?;
        firewall::publish(filter, &policy.table, ports)
            .map_err(Error::kernel("publish ports in the packet filter (nftables)"))?;
        self.count_own_change()
    }

    /// Ends that; false when the rules are not as they were thought to be and have to be looked at.
    pub(super) fn unpublish(&mut self, ports: &[Port], policy: &Policy) -> Result<bool, Error> {
        let Some(filter) = &mut self.filter else { return Ok(true) };
        match firewall::unpublish(filter, &policy.table, ports) {
            Ok(()) => self.count_own_change().map(|()| true),
            Err(error) if error.is(Errno::NOENT) => {
                self.generation = None;
                Ok(false)
            }
            Err(error) => Err(Error::kernel("take ports out of the packet filter (nftables)")(error)),
        }
    }

    /// Each transaction counts one; more means that somebody else has changed something too.
    fn count_own_change(&mut self) -> Result<(), Error> {
        let Some(filter) = &mut self.filter else { return Ok(()) };
        let look = Error::kernel("look at the packet filter (nftables)");
        let generation = firewall::generation(filter).map_err(look)?;
        self.generation = self.generation.filter(|before| before.wrapping_add(1) == generation).map(|_| generation);
        Ok(())
    }

    /// Forgets that the rules were seen in place.
    pub(super) fn doubt_rules(&mut self) {
        self.generation = None;
    }

    /// The blocks of the host's own addresses, but for those of the link `except`.
    pub(super) fn addresses<A: Address>(&mut self, except: Option<u32>) -> Result<Vec<Subnet<A>>, Error> {
        let addresses = link::addresses(&mut self.route).map_err(Error::kernel("list the addresses"))?;
        let others = addresses.into_iter().filter(|(index, ..)| Some(*index) != except);
        Ok(others.map(|(.., block)| block).collect())
    }

    /// Removes the bridge of a network, when it is ours.
    pub(super) fn remove_bridge(&mut self, network: &NetworkId, bridge: &Bridge) -> Result<(), Error> {
        self.ready.remove(network);
        let Some(link) = self.find(&bridge.interface)? else { return Ok(()) };
        if link.kind != "bridge" || !self.made(&link, network) {
            return Ok(());
        }
        self.delete(&link)
    }

    /// The hardware address by which a bridge is known to be ours before it has got its alias, which is not part of its making.
    pub(super) fn mark(&self, network: &NetworkId) -> MacAddress {
        MacAddress::of_text(&format!("{} {network}", self.alias))
    }

    /// Whether we have made the link of a network, maybe in a life that was cut off in the middle of it.
    pub(super) fn made(&self, link: &Link, network: &NetworkId) -> bool {
        link.alias == self.alias || link.alias.is_empty() && link.mac == Some(self.mark(network))
    }

    /// Removes links of ours that no network has: an engine was cut off while it removed one.
    pub(super) fn remove_strays(&mut self, known: &[String]) -> Result<(), Error> {
        let links = link::links(&mut self.route).map_err(Error::kernel("list the interfaces"))?;
        for link in links {
            if link.alias == self.alias && !known.contains(&link.name) {
                self.delete(&link)?;
            }
        }
        Ok(())
    }

    pub(super) fn filter(&mut self) -> Option<&mut Netlink> {
        self.filter.as_mut()
    }

    pub(super) fn delete(&mut self, link: &Link) -> Result<(), Error> {
        match self.route.request(&mut [link::delete_link(link.index)]) {
            Err(error) if !error.is(Errno::NODEV) => {
                Err(Error::kernel(format!("remove the interface {}", link.name))(error))
            }
            _ => Ok(()),
        }
    }

    /// Makes our rules those for `wanted` and nothing else, whatever they are.
    pub(super) fn replace_rules(
        &mut self,
        policy: &Policy,
        wanted: impl FnOnce() -> Result<firewall::InUse, Error>,
    ) -> Result<(), Error> {
        let Some(filter) = &mut self.filter else { return Ok(()) };
        let in_use = wanted()?;
        let rules = firewall::tables(&policy.table, &in_use);
        firewall::replace(filter, &policy.table, &rules)
            .map_err(Error::kernel("set the rules of the packet filter (nftables)"))?;
        self.generation = None;
        Ok(())
    }

    /// Removes our rules.
    pub(super) fn remove_rules(&mut self, policy: &Policy) -> Result<(), Error> {
        self.doubt_rules();
        let Some(filter) = &mut self.filter else { return Ok(()) };
        firewall::remove(filter, &policy.table)
            .map_err(Error::kernel("remove the rules of the packet filter (nftables)"))
    }

    pub(super) fn find(&mut self, name: &str) -> Result<Option<Link>, Error> {
        link::find_link(&mut self.route, name).map_err(Error::kernel(format!("look for the interface {name}")))
    }

    /// That of the link by which the host reaches everything else; one of IPv6 alone counts too.
    fn uplink_mtu(&mut self) -> Result<Option<u32>, Error> {
        let list = || Error::kernel("list the routes");
        let uplink = link::routes::<Ipv4Addr>(&mut self.route).map_err(list())?.uplink;
        let uplink = match uplink {
            None => link::routes::<Ipv6Addr>(&mut self.route).map_err(list())?.uplink,
            uplink => uplink,
        };
        let Some(uplink) = uplink else { return Ok(None) };
        let link = link::find_link_by_index(&mut self.route, uplink).map_err(Error::kernel("look at the uplink"))?;
        Ok(link.map(|link| link.mtu).filter(|mtu| *mtu > 0))
    }
}

/// What the notes on our bridges begin with.
pub(super) const ALIAS: &str = "container engine, table ";

fn not_a_bridge(network: &Network) -> Error {
    Error::Invalid { network: network.name.clone(), reason: "it has no bridge".to_owned() }
}

/// One engine of this network namespace at a time chooses addresses: the namespace itself is the lock.
fn take_turn() -> Result<File, Error> {
    let what = "wait for other engines to choose their addresses";
    let namespace = File::open("/proc/thread-self/ns/net").map_err(Error::system(what))?;
    let start = Instant::now();
    loop {
        match flock(&namespace, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(namespace),
            // Anybody can hold this lock, so nobody is waited for for ever.
            Err(Errno::WOULDBLOCK) if start.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(1)),
            Err(Errno::WOULDBLOCK) => {
                tracing::warn!("another process holds the lock of the network namespace; going on without");
                return Ok(namespace);
            }
            Err(errno) => return Err(Error::system(what)(errno.into())),
        }
    }
}
