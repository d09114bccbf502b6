//! Making a container: everything is decided before anything is made, and undone in reverse when a later step fails.

use std::path::Path;
use std::sync::Arc;

use engine_runtime::defaults;
use engine_sys::path::{Root, remove_all};

use super::inventory::{Inner, Shared, blocking, now, uninterrupted};
use super::mount_plan::{self, Planned};
use super::mounts::{MountKind, MountPoint};
use super::record::Record;
use super::status::ContainerState;
use super::{
    Config, Container, ContainerSpec, Containers, Error, IpcMode, NamespaceMode, NetworkMode, config, devices, names,
    outside, security, sources, validate,
};
use crate::id::ContainerId;
use crate::image::Image;
use crate::state::{self, Durability, Table};
use crate::volume::{self, Reserved, VolumeSpec};

/// How often a name is made up before it is given up.
const NAME_TRIES: u32 = 24;

impl Containers {
    /// Makes a container. Nothing of it is left when it fails.
    ///
    /// # Errors
    /// When the image is not there, the name is taken, or the spec asks for what makes no sense or is not supported.
    pub async fn create(&self, spec: ContainerSpec) -> Result<Container, Error> {
        let shared = Arc::clone(&self.shared);
        uninterrupted(async move { create(shared, spec).await }).await
    }
}

async fn create(shared: Arc<Shared>, spec: ContainerSpec) -> Result<Container, Error> {
    shared.open()?;
    validate::check_spec(&spec)?;
    let asked_name = match spec.name.as_deref().filter(|name| !name.is_empty()) {
        Some(name) => Some(names::checked(name).map_err(|_| Error::InvalidName(name.to_owned()))?.to_owned()),
        None => None,
    };
    if let Some(name) = &asked_name {
        // It may be taken in between yet, but mostly nothing has to be made and taken away again.
        shared.parts.state.read(|look| free(look, name))?;
    }
    let image = shared.parts.images.get(&spec.image).await?;
    check_platform(&spec, &image)?;
    let id = ContainerId::random();
    let shallow = spec.shallow_read_only;
    let mut config = decide(&shared, spec, &image, &id)?;
    if config.host.resources != super::Resources::default() {
        // Whoever asks is told by `Containers::warnings`.
        shared.abilities().discard(&mut config.host.resources);
        shared.abilities().check(&config.host.resources)?;
    }
    validate::check(&config, &shared.parts.settings, std::thread::available_parallelism().map_or(1, usize::from))?;
    let outside = outside::decide(&config.host, &shared.parts.settings)?;
    security::options(&config.host)?;
    security::capability_set(&config.host, shared.parts.runtime.host())?;
    let unconfined = security::system_paths_unconfined(&config.host);
    let or = |default: Vec<String>| if unconfined { Vec::new() } else { default };
    let machine = shared.parts.runtime.host();
    config.host.masked_paths.get_or_insert_with(|| or(defaults::masked_paths(machine)));
    config.host.readonly_paths.get_or_insert_with(|| or(defaults::readonly_paths()));
    let size = validate::storage_size(&config)?;
    if size.is_some() {
        shared.parts.quotas.check()?;
    }
    for rule in &config.host.device_cgroup_rules {
        devices::read_rule(rule)?;
    }
    resolve_shared(&shared, &mut config)?;
    name_networks(&shared, &mut config)?;
    for link in config.host.links.iter().filter_map(|text| crate::network::Link::parse(text)) {
        let missing = |error: Error| Error::invalid(format!("could not get container for {}: {error}", link.target));
        shared.find(&link.target).map_err(missing)?;
    }
    let inherited = inherited(&shared, &config)?;
    let mut planned = mount_plan::plan_with(&config, inherited)?;
    for bind in planned.iter_mut().filter(|mount| shallow && mount.point.kind == MountKind::Bind) {
        bind.point.read_only_non_recursive |= !bind.point.writable;
    }
    check_sources(&planned)?;

    let mut undo = Undo { shared: Arc::clone(&shared), id, volumes: Vec::new(), directory: false, armed: true };
    let layers = image.layers().to_vec();
    let lower = shared.parts.snapshots.of(&id, &layers).lower;
    let mut mounts = Vec::with_capacity(planned.len());
    for mount in planned {
        match make_volume(&shared, mount, &config, &lower, &mut undo).await {
            Ok(mount) => mounts.push(mount),
            Err(error) => {
                blocking(move || {
                    drop(undo);
                    Ok(())
                })
                .await?;
                return Err(error);
            }
        }
    }
    let record = Record {
        id,
        name: String::new(),
        created_at: now(),
        image: *image.id(),
        platform: platform(&image),
        layers,
        owner: shared.instance.name().to_owned(),
        config,
        outside,
        mounts,
        endpoints: Vec::new(),
        state: ContainerState::default(),
        restart_count: 0,
        health: None,
    };
    let (record, undo) = blocking(move || {
        super::shipping::details(&record)?;
        super::shipping::record_attributes(&record)?;
        undo.directory = true;
        let above = undo.shared.parts.snapshots.prepare(&id, &record.layers)?;
        if let Some(size) = size {
            undo.shared.parts.quotas.bound(&[&above.upper, &above.work], size)?;
        }
        let record = store(&undo.shared, record, asked_name)?;
        Ok((record, undo))
    })
    .await?;
    undo.keep();
    let inner = Arc::new(Inner::new(record));
    shared.add(Arc::clone(&inner));
    shared.tell(&inner.record(), "create", &[]);
    Ok(Container { shared, inner })
}

fn decide(shared: &Shared, spec: ContainerSpec, image: &Image, id: &ContainerId) -> Result<Config, Error> {
    let host_name = match (&spec.host.network_mode, &spec.host.uts_mode) {
        (NetworkMode::Container(other), _) if !other.is_empty() => shared.find(other)?.record().config.hostname.clone(),
        (NetworkMode::Host, _) | (_, NamespaceMode::Host) => {
            rustix::system::uname().nodename().to_string_lossy().into_owned()
        }
        _ => id.short().to_owned(),
    };
    config::decide(spec, &image.config().config, &shared.parts.settings, &host_name)
}

fn platform(image: &Image) -> String {
    let config = image.config();
    match &config.variant {
        Some(variant) if !variant.is_empty() => format!("{}/{}/{variant}", config.os, config.architecture),
        _ => format!("{}/{}", config.os, config.architecture),
    }
}

fn check_platform(spec: &ContainerSpec, image: &Image) -> Result<(), Error> {
    let Some(asked) = spec.platform.as_deref().filter(|platform| !platform.is_empty()) else { return Ok(()) };
    let wanted: crate::oci::Platform =
        asked.parse().map_err(|error: crate::oci::Error| Error::invalid(error.to_string()))?;
    let config = image.config();
    let fits = config.os == wanted.os
        && config.architecture == wanted.architecture
        && wanted.variant.as_ref().is_none_or(|variant| config.variant.as_ref() == Some(variant));
    if fits {
        return Ok(());
    }
    Err(Error::Image(crate::image::Error::NoSuch(format!(
        "{}: image was found but does not match the specified platform: wanted {asked}, actual: {}",
        spec.image,
        platform(image)
    ))))
}

/// Names and ids of networks become names, that of the mode is among them. One that is not there is looked for again at the
/// start: it may be made in between, and clients take "not found" of a create for the image.
fn name_networks(shared: &Shared, config: &mut Config) -> Result<(), Error> {
    let NetworkMode::Named(mode) = &config.host.network_mode else { return Ok(()) };
    config.endpoints.entry(mode.clone()).or_default();
    if config.endpoints.keys().all(|name| name == crate::network::BRIDGE) {
        return Ok(());
    }
    for (name, spec) in std::mem::take(&mut config.endpoints) {
        let found = shared.parts.networks.get(&name).ok();
        let name = found.as_ref().map_or(name, |network| network.name.clone());
        let entry = config.endpoints.entry(name).or_default();
        // The mode's own entry, when it was named in two ways, asks for nothing.
        if *entry == super::EndpointSpec::default() {
            *entry = spec;
        }
    }
    Ok(())
}

/// Names of containers whose namespaces are shared become their ids, which do not change.
fn resolve_shared(shared: &Shared, config: &mut Config) -> Result<(), Error> {
    if let NetworkMode::Container(other) = &mut config.host.network_mode {
        *other = shared.find(other)?.id.to_string();
    }
    if let NamespaceMode::Container(other) = &mut config.host.pid_mode {
        *other = shared.find(other)?.id.to_string();
    }
    if let IpcMode::Container(other) = &mut config.host.ipc_mode {
        *other = shared.find(other)?.id.to_string();
    }
    Ok(())
}

/// The mounts of the other containers that are named.
fn inherited(shared: &Shared, config: &Config) -> Result<Vec<MountPoint>, Error> {
    let mut all = Vec::new();
    for text in &config.host.volumes_from {
        let (name, writable) = mount_plan::read_from(text)?;
        for point in &shared.find(name)?.record().mounts {
            if point.kind != MountKind::Tmpfs {
                let writable = point.writable && writable;
                all.push(MountPoint { writable, copy_up: false, ..point.clone() });
            }
        }
    }
    // What is named later wins.
    all.reverse();
    Ok(all)
}

fn check_sources(planned: &[Planned]) -> Result<(), Error> {
    for mount in planned {
        if mount.must_exist && !Path::new(&mount.point.source).exists() {
            return Err(Error::invalid(format!(
                "invalid mount config for type \"bind\": bind source path does not exist: {}",
                mount.point.source
            )));
        }
    }
    Ok(())
}

/// A volume gets its name, its source, and at its first use what the image has at its destination.
async fn make_volume(
    shared: &Arc<Shared>,
    planned: Planned,
    config: &Config,
    lower: &[std::path::PathBuf],
    undo: &mut Undo,
) -> Result<MountPoint, Error> {
    let mut point = planned.point;
    if point.kind == MountKind::Image && point.layers.is_empty() {
        let image = shared.parts.images.get(&point.source).await?;
        point.source = image.id().to_string();
        point.layers = image.layers().to_vec();
        return Ok(point);
    }
    let Some((labels, options)) = planned.volume.filter(|_| point.kind == MountKind::Volume) else { return Ok(point) };
    let mut spec = match &point.name {
        Some(name) => VolumeSpec::named(name),
        None => VolumeSpec::anonymous(),
    };
    spec.labels = labels;
    spec.options = options;
    let of_mount = point.driver.as_deref().filter(|driver| *driver != "local");
    of_mount.unwrap_or(&config.host.volume_driver).clone_into(&mut spec.driver);
    let reserved = shared.parts.volumes.reserve(spec).await?;
    let volume = reserved.volume.clone();
    undo.volumes.push(reserved);
    point.mounted = volume.is_elsewhere();
    point.driver = Some(volume.driver().to_owned());
    if point.copy_up && point.subpath.is_none() {
        if point.mounted {
            let (shared, volume, id) = (Arc::clone(shared), volume.clone(), undo.id);
            let (lower, path) = (lower.to_vec(), std::path::PathBuf::from(&point.destination));
            blocking(move || {
                let find = || sources::elsewhere(&shared, volume.name().as_str());
                Ok(shared.parts.volumes.populate_elsewhere(&volume, &id, &lower, &path, find)?)
            })
            .await?;
        } else {
            volume.populate(lower.to_vec(), point.destination.clone().into()).await?;
        }
    }
    point.name = Some(volume.name().to_string());
    point.source = volume.mountpoint().display().to_string();
    Ok(point)
}

/// Puts name, record and holds into the state, all or nothing.
fn store(shared: &Shared, mut record: Record, asked_name: Option<String>) -> Result<Record, Error> {
    let mut tries = 0;
    loop {
        record.name = match &asked_name {
            Some(name) => name.clone(),
            None => names::made_up(random(), tries),
        };
        let stored = shared.parts.state.write(Durability::Process, |tx| {
            let id = record.id.as_str();
            take_name(tx, &record.name, id)?;
            tx.put(Table::Container, id, &record)?;
            if !tx.contains(Table::Image, record.image.as_str())? {
                return Err(crate::image::Error::NoSuch(record.config.image.clone()).into());
            }
            tx.hold((Table::Image, record.image.as_str()), (Table::Container, id))?;
            crate::image::use_now(tx, record.image.as_str())?;
            for name in record.mounts.iter().filter_map(|mount| mount.name.as_deref()) {
                match volume::hold(tx, &name.parse()?, &record.id) {
                    // Only that of another container can be; clients take "not found" of a create for the image.
                    Err(volume::Error::NotFound(name)) => {
                        return Err(Error::conflict(format!(
                            "volume {name} was removed while the container was made: create it again"
                        )));
                    }
                    held => held?,
                }
            }
            for image in record.mounts.iter().filter(|mount| mount.kind == MountKind::Image) {
                if !tx.contains(Table::Image, &image.source)? {
                    return Err(crate::image::Error::NoSuch(image.source.clone()).into());
                }
                tx.hold((Table::Image, &image.source), (Table::Container, id))?;
            }
            Ok(())
        });
        match stored {
            Err(Error::NameInUse { .. }) if asked_name.is_none() && tries < NAME_TRIES => tries += 1,
            stored => return stored.map(|()| record),
        }
    }
}

/// Lets a container have a name that nobody has.
pub(super) fn take_name(tx: &mut state::Transaction<'_>, name: &str, id: &str) -> Result<(), Error> {
    free(tx, name)?;
    Ok(tx.insert(Table::ContainerName, name, id)?)
}

/// Refuses a name that somebody has.
fn free(look: &state::Snapshot<'_>, name: &str) -> Result<(), Error> {
    match look.get::<String>(Table::ContainerName, name)? {
        Some(by) => Err(Error::NameInUse { name: name.to_owned(), by }),
        None => Ok(()),
    }
}

fn random() -> u64 {
    let mut bytes = [0; 8];
    // Without random numbers names are tried in order.
    let _ = getrandom::fill(&mut bytes);
    u64::from_ne_bytes(bytes)
}

/// What has been made of a container so far; taken away again unless it is kept. Dropping it blocks then.
struct Undo {
    shared: Arc<Shared>,
    id: ContainerId,
    volumes: Vec<Reserved>,
    directory: bool,
    armed: bool,
}

impl Undo {
    fn keep(mut self) {
        self.armed = false;
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        if self.directory
            && let Err(error) = remove_directory(&self.shared, &self.id)
        {
            tracing::error!(container = %self.id, %error, "what was made of the container cannot be taken away");
        }
        for reserved in self.volumes.drain(..) {
            let name = reserved.volume.name().clone();
            if let Err(error) = self.shared.parts.volumes.give_back(reserved) {
                tracing::error!(volume = %name, %error, "a volume of the container cannot be taken away");
            }
        }
    }
}

/// Removes all files of a container.
pub(super) fn remove_directory(shared: &Shared, id: &ContainerId) -> Result<(), Error> {
    use std::os::fd::AsFd as _;
    let directory = shared.containers_directory();
    let failed = |error: std::io::Error| Error::io("remove", shared.directory(id), error);
    let project = shared.parts.quotas.project(&shared.parts.snapshots.of(id, &[]).upper)?;
    let root = Root::open(directory).map_err(failed)?;
    remove_all(root.as_fd(), id.as_str().as_ref()).map_err(failed)?;
    Ok(project.map_or(Ok(()), |project| shared.parts.quotas.lift(project))?)
}
