//! A container's ends on networks: those that it gets when it starts, and those that come and go while it runs or stands
//! still.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use super::inventory::{Inner, Shared, blocking, uninterrupted};
use super::live::Live;
use super::record::Record;
use super::status::Status;
use super::{Config, Container, EndpointSpec, Error, NetworkMode};
use crate::id::ContainerId;
use crate::network::files::Names;
use crate::network::{self, Connect, Endpoint, Link, Network, NetworkNamespace, Networks};

/// The most networks of one container.
const MAX_NETWORKS: usize = 128;

impl Container {
    /// Connects it to one more network: at once when it runs, else when it starts.
    ///
    /// # Errors
    /// When there is no such network, it is on it already, or the kernel refuses.
    pub async fn connect_to(&self, network: &str, spec: EndpointSpec) -> Result<(), Error> {
        let (this, network) = (self.clone(), network.to_owned());
        uninterrupted(async move {
            let _turn = this.inner.lifecycle.lock().await;
            this.owned()?;
            this.connect_in_turn(&network, spec).await
        })
        .await
    }

    async fn connect_in_turn(&self, network: &str, spec: EndpointSpec) -> Result<(), Error> {
        let (shared, inner) = (&self.shared, &self.inner);
        let record = inner.record();
        let network = shared.parts.networks.get(network)?;
        check_mode(&record, &network)?;
        check_endpoint(&network.name, &spec)?;
        if record.config.endpoints.len() >= MAX_NETWORKS {
            return Err(Error::invalid(format!("a container is on at most {MAX_NETWORKS} networks")));
        }
        if is_asked(&record.config, &network) {
            let container = record.name.clone();
            return Err(network::Error::Connected { container, network: network.name }.into());
        }
        let live = running(inner, &record)?;
        let mut endpoint = None;
        let (work, of, asked, at) = (Arc::clone(shared), Arc::clone(&record), spec.clone(), network.clone());
        if let Some(live) = live {
            let made = blocking(move || {
                let namespace = namespace_of(&live)?;
                let request = request(&of, &at.name, &asked, false)?.namespace(&namespace);
                Ok((work.parts.networks.connect_blocking(&request)?, namespace))
            });
            endpoint = Some(made.await?);
        }
        let changed = inner.change(shared, |record| {
            let mut record = record.clone();
            record.config.endpoints.insert(network.name.clone(), spec);
            record.config.detached = false;
            record.endpoints.extend(endpoint.iter().map(|(endpoint, _)| endpoint.clone()));
            Ok(record)
        });
        let Some((endpoint, namespace)) = endpoint else { return changed.map(drop) };
        let (work, id) = (Arc::clone(shared), record.id);
        match changed {
            Ok(after) => blocking(move || after_change(&work, &record, &after, &namespace)).await,
            Err(error) => {
                let name = endpoint.network_name;
                blocking(move || Ok(work.parts.networks.detach_blocking(&id, &name, Some(&namespace), &[])?)).await?;
                Err(error)
            }
        }
    }

    /// Takes it off a network.
    ///
    /// # Errors
    /// When there is no such network, it is not on it, or the kernel refuses.
    pub async fn disconnect_from(&self, network: &str) -> Result<(), Error> {
        let (this, network) = (self.clone(), network.to_owned());
        uninterrupted(async move {
            let _turn = this.inner.lifecycle.lock().await;
            this.owned()?;
            this.disconnect_in_turn(&network).await
        })
        .await
    }

    async fn disconnect_in_turn(&self, name: &str) -> Result<(), Error> {
        let (shared, inner) = (&self.shared, &self.inner);
        let record = inner.record();
        let network = match shared.parts.networks.get(name) {
            // It may be gone while a container that does not run still asks for it.
            Err(network::Error::NotFound { .. }) if record.config.endpoints.contains_key(name) => None,
            other => Some(other?),
        };
        let key = network.as_ref().map_or(name, |network| network.name.as_str()).to_owned();
        if key == network::HOST {
            return Err(Error::Network(network::Error::Forbidden(
                "container cannot be disconnected from host network or connected to host network".to_owned(),
            )));
        }
        let asks = match &network {
            Some(network) => is_asked(&record.config, network),
            None => true,
        };
        if !asks {
            let container = record.id.short().to_owned();
            return Err(network::Error::NotConnected { container, network: key }.into());
        }
        let live = running(inner, &record)?;
        // What is not written down any more is taken away when an engine is cut off here.
        let ids: BTreeSet<&str> = network.iter().map(|network| network.id.as_str()).collect();
        let after = inner.change(shared, |record| {
            let mut record = record.clone();
            let of_it = |other: &str| other == key || ids.contains(other);
            record.config.endpoints.retain(|other, _| !of_it(other));
            record.config.detached = record.config.endpoints.is_empty();
            record.endpoints.retain(|endpoint| endpoint.network_name != key);
            Ok(record)
        })?;
        let Some(live) = live.filter(|_| record.endpoints.iter().any(|endpoint| endpoint.network_name == key)) else {
            return Ok(());
        };
        let work = Arc::clone(shared);
        let (of, left) = (Arc::clone(&record), Arc::clone(&after));
        let detached = blocking(move || {
            let namespace = namespace_of(&live)?;
            let publish = super::ports::plan(&left.config)?;
            work.parts.networks.detach_blocking(&of.id, &key, Some(&namespace), &publish)?;
            after_change(&work, &of, &left, &namespace)
        })
        .await;
        match detached {
            Ok(()) => self.take_ports_over(),
            Err(error) => {
                inner.change(shared, |_| Ok(Record::clone(&record)))?;
                Err(error)
            }
        }
    }

    /// Its ports may lead to another endpoint now.
    fn take_ports_over(&self) -> Result<(), Error> {
        let endpoints = self.shared.parts.networks.endpoints_of(&self.inner.id)?;
        self.inner
            .change(&self.shared, |record| Ok(Record { endpoints: ordered(record, endpoints), ..record.clone() }))?;
        Ok(())
    }
}

/// In the order in which the record has them.
fn ordered(record: &Record, mut endpoints: Vec<Endpoint>) -> Vec<Endpoint> {
    let place = |endpoint: &Endpoint| record.endpoints.iter().position(|other| other.id == endpoint.id);
    endpoints.sort_by_key(|endpoint| place(endpoint).unwrap_or(usize::MAX));
    endpoints
}

fn running(inner: &Inner, record: &Record) -> Result<Option<Arc<Live>>, Error> {
    match record.state.status {
        Status::Running | Status::Paused => match inner.live() {
            Some(live) => Ok(Some(live)),
            None => Err(Error::conflict(format!("container {} is about to end", record.id))),
        },
        Status::Removing | Status::Dead => {
            Err(Error::conflict("container is marked for removal and cannot be changed"))
        }
        _ => Ok(None),
    }
}

/// The network namespace that a running container is in.
pub(super) fn namespace_of(live: &Live) -> Result<NetworkNamespace, Error> {
    let namespace = NetworkNamespace::of_process_blocking(live.pid)?;
    // As long as the process is there, its number is not another's.
    if live.has_ended() { Err(super::inventory::not_running("")) } else { Ok(namespace) }
}

/// Whose network a container is in: its own, or that of another one, which may be in that of yet another one.
pub(super) fn owner(shared: &Shared, record: &Record) -> Result<ContainerId, Error> {
    let mut other: Option<Arc<Record>> = None;
    // One can join only what was there before it, so this has an end.
    loop {
        let one = other.as_deref().unwrap_or(record);
        let NetworkMode::Container(joined) = &one.config.host.network_mode else { return Ok(one.id) };
        let missing = || Error::NoSuchContainer(joined.clone());
        let id: ContainerId = joined.parse().map_err(|_| missing())?;
        other = Some(shared.by_id(&id).ok_or_else(missing)?.record());
    }
}

/// Frees what a container that has ended has on networks. As long as others are in its namespace that does not die, so its
/// interfaces are taken away.
pub(super) fn let_go(shared: &Shared, id: &ContainerId) -> Result<(), Error> {
    let networks = &shared.parts.networks;
    let shares = |inner: &&Arc<Inner>| {
        let record = inner.record();
        matches!(record.config.host.network_mode, NetworkMode::Container(_))
            && owner(shared, &record).is_ok_and(|owner| owner == *id)
    };
    let all = shared.all();
    for live in all.iter().filter(shares).filter_map(|inner| inner.live()) {
        match namespace_of(&live) {
            Ok(namespace) => {
                networks.cut_off_blocking(id, &namespace)?;
                break;
            }
            // It has ended too.
            Err(error) => tracing::debug!(container = %id, %error, "whoever shares a network is gone"),
        }
    }
    Ok(networks.disconnect_blocking(id)?)
}

fn check_mode(record: &Record, network: &Network) -> Result<(), Error> {
    let refused = |text: &str| Err(Error::Network(network::Error::Forbidden(text.to_owned())));
    match &record.config.host.network_mode {
        _ if network.name == network::HOST => {
            refused("container cannot be disconnected from host network or connected to host network")
        }
        NetworkMode::Container(_) | NetworkMode::Host => refused(
            "container sharing network namespace with another container or host cannot be connected to any other network",
        ),
        NetworkMode::None => refused(
            "container cannot be connected to multiple networks with one of the networks in private (none) mode",
        ),
        _ if network.name == network::NONE => refused(
            "container cannot be connected to multiple networks with one of the networks in private (none) mode",
        ),
        _ => Ok(()),
    }
}

/// Refuses what does not go with the network of this name.
pub(super) fn check_endpoint(network: &str, spec: &EndpointSpec) -> Result<(), Error> {
    let default = [network::BRIDGE, "default"].contains(&network);
    if default && (spec.ipv4_address.is_some() || spec.ipv6_address.is_some()) {
        return Err(Error::invalid("user specified IP address is supported on user defined networks only"));
    }
    if default && !spec.aliases.is_empty() {
        return Err(Error::invalid("network-scoped aliases are only supported for user-defined networks"));
    }
    for alias in &spec.aliases {
        if alias.is_empty() || alias.len() > 255 || alias.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(Error::invalid(format!("invalid network alias {alias:?}")));
        }
    }
    for link in &spec.links {
        Link::parse(link).ok_or_else(|| Error::invalid(format!("bad format for links: {link}")))?;
    }
    Ok(())
}

fn is_asked(config: &Config, network: &Network) -> bool {
    asked(config).iter().any(|(name, _)| *name == network.name || *name == network.id.as_str())
}

/// What a container asks of networks, that of its mode first.
fn asked(config: &Config) -> Vec<(String, EndpointSpec)> {
    let mode = config.host.network_mode.to_string();
    let mut asked: Vec<_> = config.endpoints.iter().map(|(name, spec)| (name.clone(), spec.clone())).collect();
    if asked.is_empty() && !config.detached && config.host.network_mode.has_endpoint() {
        asked.push((mode.clone(), EndpointSpec::default()));
    }
    asked.sort_by_key(|(name, _)| *name != mode);
    asked
}

/// What is asked of the networks at a start, in order; the ports go to the one that leads elsewhere.
pub(super) fn requests(record: &Record, networks: &Networks) -> Result<Vec<Connect>, Error> {
    let asked = asked(&record.config);
    let mut publish = super::ports::plan(&record.config)?;
    let publisher = if asked.len() == 1 || publish.is_empty() { 0 } else { publisher(&asked, networks)? };
    let of = |(index, (name, spec)): (usize, &(String, EndpointSpec))| {
        let request = request(record, name, spec, index == 0)?;
        Ok(if index == publisher { request.publish(std::mem::take(&mut publish)) } else { request })
    };
    asked.iter().enumerate().map(of).collect()
}

/// Which of several networks leads elsewhere: the one of the highest priority, then by name.
fn publisher(asked: &[(String, EndpointSpec)], networks: &Networks) -> Result<usize, Error> {
    let mut best: Option<(i64, String, usize)> = None;
    for (index, (name, spec)) in asked.iter().enumerate() {
        let network = networks.get(name)?;
        if network.internal || network.bridge.is_none() {
            continue;
        }
        let rank = (-spec.gateway_priority, network.name, index);
        if best.as_ref().is_none_or(|best| rank < *best) {
            best = Some(rank);
        }
    }
    Ok(best.map_or(0, |(_, _, index)| index))
}

fn request(record: &Record, network: &str, spec: &EndpointSpec, primary: bool) -> Result<Connect, Error> {
    let config = &record.config;
    let mac = spec.mac_address.as_ref().filter(|mac| !mac.is_empty());
    let mac = mac.or(config.mac_address.as_ref().filter(|mac| primary && !mac.is_empty()));
    let mac = mac
        .map(|mac| mac.parse())
        .transpose()
        .map_err(|error: network::InvalidMac| Error::invalid(error.to_string()))?;
    let of_host = config.host.links.iter().filter(|_| primary && network != network::BRIDGE);
    let links = spec.links.iter().chain(of_host).filter_map(|link| Link::parse(link)).collect();
    Ok(Connect::new(record.id, network)
        .mac(mac)
        .address(spec.ipv4_address)
        .address_v6(spec.ipv6_address)
        .link_local(spec.link_local_addresses.clone())
        .names(names(record, spec))
        .links(links)
        .priority(spec.gateway_priority)
        .options(spec.driver_opts.clone()))
}

/// What a container is called, by Docker's order.
fn names(record: &Record, spec: &EndpointSpec) -> Vec<String> {
    let mut names = vec![record.name.clone()];
    names.extend(spec.aliases.iter().cloned());
    names.push(record.id.short().to_owned());
    names.push(record.config.hostname.clone());
    let mut seen = BTreeSet::new();
    names.retain(|name| !name.is_empty() && seen.insert(name.clone()));
    names
}

/// Who looks names up for a container with these ends.
pub(super) fn names_by(endpoints: &[Endpoint]) -> Names {
    if Networks::has_names(endpoints) {
        return Names::Resolved;
    }
    let ipv6 = endpoints.iter().any(|endpoint| endpoint.interface.as_ref().is_some_and(|one| one.v6.is_some()));
    Names::Copied { ipv6 }
}

/// All addresses, in the order of the endpoints.
pub(super) fn addresses(endpoints: &[Endpoint]) -> Vec<IpAddr> {
    let of = |endpoint: &Endpoint| {
        let interface = endpoint.interface.as_ref()?;
        let v6 = interface.v6.as_ref().map(|v6| IpAddr::V6(v6.address));
        Some(interface.address.map(IpAddr::V4).into_iter().chain(v6))
    };
    endpoints.iter().filter_map(of).flatten().collect()
}

/// Looks names up for a container that is on a network with names.
pub(super) fn resolve(
    shared: &Shared,
    record: &Record,
    endpoints: &[Endpoint],
    namespace: &NetworkNamespace,
) -> Result<(), Error> {
    if !Networks::has_names(endpoints) {
        return Ok(());
    }
    let own: Vec<IpAddr> = record.config.host.dns.iter().filter_map(|server| server.parse().ok()).collect();
    let servers = if own.is_empty() { shared.parts.settings.dns.servers.clone() } else { own };
    Ok(shared.parts.networks.resolve_blocking(&record.id, namespace, servers)?)
}

/// Brings the files of a running container, and who looks names up for it, up to its ends.
fn after_change(shared: &Shared, before: &Record, after: &Record, namespace: &NetworkNamespace) -> Result<(), Error> {
    if Networks::has_names(&after.endpoints) && !Networks::has_names(&before.endpoints) {
        resolve(shared, after, &after.endpoints, namespace)?;
        let text = super::start::resolv_conf(after, &after.endpoints, &shared.parts.settings.dns);
        write_in_place(&shared.directory(&after.id).join("resolv.conf"), &text)?;
    }
    let path = shared.directory(&after.id).join("hosts");
    let text = super::start::read(&path.to_string_lossy());
    let (was, is) = (addresses(&before.endpoints), addresses(&after.endpoints));
    let gone: Vec<IpAddr> = was.iter().filter(|address| !is.contains(address)).copied().collect();
    let come: Vec<IpAddr> = is.iter().filter(|address| !was.contains(address)).copied().collect();
    let config = &after.config;
    let changed = network::files::hosts_with(&text, &config.hostname, &config.domainname, &gone, &come);
    if changed != text {
        write_in_place(&path, &changed)?;
    }
    Ok(())
}

/// The file is mounted in the container, so it stays the same file; it is never empty.
fn write_in_place(path: &Path, text: &str) -> Result<(), Error> {
    let written = std::fs::OpenOptions::new().write(true).open(path).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.set_len(text.len() as u64)
    });
    written.map_err(|error| Error::io("write", path, error))
}

/// Brings a running container and what is remembered of its ends together, after an engine was cut off: what its record does
/// not have was not connected yet, or not disconnected any more.
pub(super) fn reconcile(shared: &Shared, inner: &Inner, live: &Live) -> Result<(), Error> {
    let networks = &shared.parts.networks;
    let record = inner.record();
    if !record.config.host.network_mode.has_endpoint() {
        return Ok(());
    }
    let endpoints = networks.endpoints_of(&record.id)?;
    let known = |endpoint: &Endpoint| record.endpoints.iter().any(|other| other.id == endpoint.id);
    let namespace = namespace_of(live)?;
    for endpoint in endpoints.iter().filter(|endpoint| !known(endpoint)) {
        let publish = super::ports::plan(&record.config)?;
        networks.detach_blocking(&record.id, endpoint.network.as_str(), Some(&namespace), &publish)?;
    }
    // Ports may have moved to another endpoint.
    let mut endpoints: Vec<Endpoint> = networks.endpoints_of(&record.id)?;
    endpoints.retain(known);
    let endpoints = ordered(&record, endpoints);
    resolve(shared, &record, &endpoints, &namespace)?;
    if endpoints != record.endpoints {
        let after = inner.change(shared, |record| Ok(Record { endpoints, ..record.clone() }))?;
        after_change(shared, &record, &after, &namespace)?;
    }
    Ok(())
}
