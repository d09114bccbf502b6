//! Volumes: directories that outlive the containers they are mounted in.
//!
//! A volume is `<root>/volumes/<name>/_data` and a record in the state store. Containers hold the volumes they use, so
//! that nobody removes one beneath them. Making and removing a directory happens inside the transaction that changes
//! the record: whoever dies in between leaves something that [`Volumes::open`] puts right.

mod archive;
mod driver;
mod error;
mod local;
mod mounted;
mod populate;
mod reserved;
mod size;
mod spec;

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use mounted::Mounted;

pub use archive::VolumeArchive;
pub use driver::{DriverError, VolumeDriver};
pub use error::Error;
pub(crate) use reserved::Reserved;
pub use spec::{ANONYMOUS_LABEL, Name, VolumeSpec};

use crate::events::{Event, EventType, Events};
use crate::id::ContainerId;
use crate::quota::Quotas;
use crate::state::{Durability, State, Table, Transaction};

/// The engine's own driver: a directory, or what its options say.
pub const DRIVER: &str = "local";
const DATA: &str = "_data";
/// What is being removed lies under such a name until it is gone; no volume's name begins with a dot.
const REMOVED: &str = ".removed-";

/// All volumes of one root. A cheap clone.
#[derive(Debug, Clone)]
pub struct Volumes {
    directory: Arc<Path>,
    state: State,
    events: Events,
    mounted: Arc<Mutex<Mounted>>,
    quotas: Quotas,
    /// Those that the program has brought.
    drivers: Arc<RwLock<BTreeMap<String, Arc<dyn VolumeDriver>>>>,
}

/// One volume, as it was when it was looked at. A cheap clone.
#[derive(Debug, Clone)]
pub struct Volume {
    name: Name,
    record: Arc<Record>,
    mountpoint: Arc<Path>,
}

/// What is kept about a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    labels: BTreeMap<String, String>,
    /// Nanoseconds since 1970 UTC.
    created_nanos: i64,
    anonymous: bool,
    /// What is mounted instead of the directory.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    options: BTreeMap<String, String>,
    /// Empty for the engine's own.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    driver: String,
    /// Made for a container that does not hold it yet, and nobody else has asked for it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    provisional: bool,
}

/// What [`Volumes::prune`] removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Names of the removed volumes.
    pub names: Vec<String>,
    /// Bytes that their files had.
    pub reclaimed: u64,
}

impl Volume {
    /// Its name.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Who has its contents.
    pub fn driver(&self) -> &str {
        if self.record.driver.is_empty() { DRIVER } else { &self.record.driver }
    }

    /// Its contents are not in a directory of the engine's: its options or its driver say where they are.
    pub fn is_elsewhere(&self) -> bool {
        local::is_mounted(&self.record.options) || self.driver() != DRIVER
    }

    /// The directory that is mounted in containers, unless the volume [is elsewhere](Volume::is_elsewhere). It exists.
    pub fn mountpoint(&self) -> &Path {
        &self.mountpoint
    }

    /// Its labels.
    pub fn labels(&self) -> &BTreeMap<String, String> {
        &self.record.labels
    }

    /// The options of its driver: what is mounted instead of a directory of the engine's.
    pub fn options(&self) -> &BTreeMap<String, String> {
        &self.record.options
    }

    /// When it was made.
    pub fn created(&self) -> SystemTime {
        UNIX_EPOCH + std::time::Duration::from_nanos(u64::try_from(self.record.created_nanos).unwrap_or(0))
    }

    /// Whether nobody named it: it goes with its container when that is removed together with its volumes.
    pub fn is_anonymous(&self) -> bool {
        self.record.anonymous
    }

    /// Sum of the sizes of its files in bytes, each counted once. Goes through all of it.
    pub async fn size(&self) -> Result<u64, Error> {
        let this = self.clone();
        blocking(self.name.as_str(), move || {
            size::of(&this.mountpoint).map_err(|error| Error::io(this.name.as_str(), "measuring it", error))
        })
        .await
    }

    /// Copies `path` of an image made of `layers` (directories, topmost first) into the volume, if that is empty: its
    /// first use. Answers whether something was there to be copied. Nothing outside the layers is ever read.
    pub async fn populate(&self, layers: Vec<PathBuf>, path: PathBuf) -> Result<bool, Error> {
        let this = self.clone();
        blocking(self.name.as_str(), move || {
            let home = this.mountpoint.parent().unwrap_or(&this.mountpoint);
            populate::populate(&this.name, home, None, &layers, &path)
        })
        .await
    }
}

impl Volumes {
    /// Opens the volumes of `root`, and finishes what a killed engine had begun: half removed directories go, directories
    /// of records that lost theirs come back.
    pub fn open(root: &Path, state: State, events: Events) -> Result<Self, Error> {
        let directory = root.join("volumes");
        make_directory(&directory, 0o711).map_err(|error| Error::io("volumes", "making their directory", error))?;
        let volumes = Self {
            quotas: Quotas::beneath(&directory),
            directory: directory.into(),
            state,
            events,
            mounted: Arc::default(),
            drivers: Arc::default(),
        };
        volumes.restore()?;
        Ok(volumes)
    }

    /// Makes a volume, or returns the one that has this name already, as it is.
    ///
    /// # Errors
    /// A name that is no plain name, a driver that is not there, options that say nothing that can be mounted, a size where
    /// the file system cannot bound one.
    pub async fn create(&self, spec: VolumeSpec) -> Result<Volume, Error> {
        Ok(self.provide(spec, false).await?.volume)
    }

    /// Finds a volume or makes it, and reserves it if that is asked for.
    async fn provide(&self, spec: VolumeSpec, reserve: bool) -> Result<Reserved, Error> {
        let shown = spec.name.as_deref().unwrap_or_default();
        let driver = self.driver(shown, &spec.driver)?;
        if driver.is_none() {
            local::check(shown, &spec.options)?;
            if local::size(&spec.options).is_some() {
                self.quotas.check().map_err(|source| Error::Quota { name: shown.to_owned(), source })?;
            }
        }
        let anonymous = shown.is_empty();
        let name = if anonymous { Name::random() } else { shown.parse::<Name>()? };
        let mut labels = spec.labels;
        if anonymous {
            labels.insert(ANONYMOUS_LABEL.to_owned(), String::new());
        }
        let by = if driver.is_some() { spec.driver } else { String::new() };
        let (options, created_nanos) = (spec.options, now_nanos());
        let mut record = Record { labels, created_nanos, anonymous, options, driver: by, provisional: false };
        loop {
            let seen = if anonymous { None } else { self.look(&name)? };
            let is_there = seen.is_some();
            match (seen, &driver) {
                (Some(volume), _) if !reserve && !volume.record.provisional => {
                    return Ok(Reserved { volume, is_new: false, lease: None });
                }
                (None, Some(driver)) => {
                    let (driver, volume) = (Arc::clone(driver), self.volume(name.clone(), record.clone()));
                    let create = move || driver.create(&volume).map_err(|error| driver::failed(&volume, error));
                    blocking(name.as_str(), create).await?;
                }
                _ => {}
            }
            // A named one keeps somebody's data, so it survives a loss of power; a nameless one goes with its container.
            let durability = if anonymous || is_there { Durability::Process } else { Durability::Power };
            let provided = self.state.write(durability, |tx| -> Result<_, Error> {
                let (found, is_new) = match tx.get::<Record>(Table::Volume, name.as_str())? {
                    Some(mut found) => {
                        if std::mem::take(&mut found.provisional) {
                            tx.put(Table::Volume, name.as_str(), &found)?;
                        }
                        (found, false)
                    }
                    // Removed since it was seen.
                    None if is_there => return Ok(None),
                    None => {
                        // What lies there already, or with a driver, may be what somebody has lost.
                        let is_empty = record.driver.is_empty() && !self.home(&name).exists();
                        record.provisional = reserve && !anonymous && is_empty;
                        tx.put(Table::Volume, name.as_str(), &record)?;
                        self.make(&name, &record)?;
                        (record.clone(), true)
                    }
                };
                let marked = reserve.then(|| self.mark(&name)).transpose();
                let lease = marked.map_err(|error| Error::io(name.as_str(), "reserving it", error))?;
                Ok(Some(Reserved { volume: self.volume(name.clone(), found), is_new, lease }))
            })?;
            if let Some(provided) = provided {
                if provided.is_new {
                    self.tell("create", &name, &provided.volume.record);
                }
                return Ok(provided);
            }
        }
    }

    /// The volume of this name.
    pub async fn get(&self, name: &str) -> Result<Volume, Error> {
        let missing = || Error::NotFound(name.to_owned());
        let parsed = name.parse().map_err(|_| missing())?;
        self.look(&parsed)?.ok_or_else(missing)
    }

    /// All volumes, by name.
    pub async fn list(&self) -> Result<Vec<Volume>, Error> {
        let records = self.state.read(|snapshot| snapshot.list::<Record>(Table::Volume))?;
        let named = records.into_iter().filter_map(|(name, record)| Some((name.parse::<Name>().ok()?, record)));
        Ok(named.map(|(name, record)| self.volume(name, record)).collect())
    }

    /// Ids of the containers that hold this volume.
    pub async fn holders(&self, name: &Name) -> Result<Vec<String>, Error> {
        self.state.read(|snapshot| Ok(ids(snapshot.holders((Table::Volume, name.as_str()))?)))
    }

    /// Removes a volume and all that is in it.
    ///
    /// # Errors
    /// There is none of this name, or a container holds it, running or not.
    pub async fn remove(&self, name: &str) -> Result<(), Error> {
        let name: Name = name.parse().map_err(|_| Error::NotFound(name.to_owned()))?;
        self.take_away(&name, false).await.map(drop)
    }

    /// Removes the volumes that no container holds and `wanted` agrees to.
    ///
    /// A volume that comes into use meanwhile stays. To remove nameless ones only, ask [`Volume::is_anonymous`].
    pub async fn prune(&self, wanted: impl Fn(&Volume) -> bool) -> Result<Pruned, Error> {
        let mut pruned = Pruned::default();
        let chosen: Vec<Volume> = self.list().await?.into_iter().filter(wanted).collect();
        for volume in chosen {
            match self.take_away(&volume.name, true).await {
                Ok(bytes) => {
                    pruned.names.push(volume.name.to_string());
                    pruned.reclaimed = pruned.reclaimed.saturating_add(bytes);
                }
                Err(Error::InUse { .. } | Error::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        let event = Event::new(EventType::Volume, "prune", "").attribute("reclaimed", pruned.reclaimed.to_string());
        self.events.publish(event);
        Ok(pruned)
    }

    fn look(&self, name: &Name) -> Result<Option<Volume>, Error> {
        let record = self.state.read(|snapshot| snapshot.get::<Record>(Table::Volume, name.as_str()))?;
        Ok(record.map(|record| self.volume(name.clone(), record)))
    }

    fn volume(&self, name: Name, record: Record) -> Volume {
        let mountpoint = self.home(&name).join(DATA).into();
        Volume { name, record: Arc::new(record), mountpoint }
    }

    fn home(&self, name: &Name) -> PathBuf {
        self.directory.join(name.as_str())
    }

    fn make(&self, name: &Name, record: &Record) -> Result<(), Error> {
        let failed = |error| Error::io(name.as_str(), "making its directory", error);
        let home = self.home(name);
        make_directory(&home, 0o711).map_err(failed)?;
        let data = home.join(DATA);
        // A directory that is there already may have the owner and mode of an image.
        if !data.is_dir() {
            make_directory(&data, 0o755).map_err(failed)?;
        }
        if let Some(bytes) = local::size(&record.options).filter(|_| record.driver.is_empty()) {
            let quota = |source| Error::Quota { name: name.to_string(), source };
            self.quotas.bound(&[&data], bytes).map_err(quota)?;
        }
        Ok(())
    }

    /// Removes record and directory; the bytes of its files are only added up when `measured`.
    async fn take_away(&self, name: &Name, measured: bool) -> Result<u64, Error> {
        let (this, name) = (self.clone(), name.clone());
        blocking(name.clone().as_str(), move || this.take_away_if(&name, measured, |_| true)).await
    }

    /// The same, of one that `wanted` agrees to; any other is in use. Blocks.
    fn take_away_if(&self, name: &Name, measured: bool, wanted: impl FnOnce(&Record) -> bool) -> Result<u64, Error> {
        let Some(volume) = self.look(name)? else { return Err(Error::NotFound(name.to_string())) };
        let driver = self.driver(name.as_str(), volume.driver())?;
        let grave = self.directory.join(format!("{REMOVED}{}", Name::random()));
        let home = self.home(name);
        let bytes = if measured { size::of(&home).unwrap_or(0) } else { 0 };
        let mut moved = false;
        let removed = self.state.write(Durability::Power, |tx| -> Result<(), Error> {
            let missing = || Error::NotFound(name.to_string());
            let record = tx.get::<Record>(Table::Volume, name.as_str())?.ok_or_else(missing)?;
            let mut holders = ids(tx.holders((Table::Volume, name.as_str()))?);
            holders.extend(self.reserved_by(name));
            if !holders.is_empty() || !wanted(&record) {
                return Err(Error::InUse { name: name.clone(), holders });
            }
            tx.delete(Table::Volume, name.as_str())?;
            match fs::rename(&home, &grave) {
                Ok(()) => moved = true,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(Error::io(name.as_str(), "taking its directory away", error)),
            }
            Ok(())
        });
        if let Err(error) = removed {
            if moved && let Err(error) = fs::rename(&grave, &home) {
                tracing::warn!(volume = %name, %error, "putting the directory back after a failed removal");
            }
            return Err(error);
        }
        if let Some(driver) = driver
            && let Err(error) = driver.remove(&volume)
        {
            // Its contents are there, so it is.
            self.state.write(Durability::Power, |tx| -> Result<(), Error> {
                tx.put(Table::Volume, name.as_str(), &*volume.record)?;
                self.make(name, &volume.record)
            })?;
            if moved {
                self.bury(&grave).map_err(|error| Error::io(name.as_str(), "removing its directory", error))?;
            }
            return Err(driver::failed(&volume, error));
        }
        self.tell("destroy", name, &volume.record);
        if moved {
            self.bury(&grave).map_err(|error| Error::io(name.as_str(), "removing its files", error))?;
        }
        Ok(bytes)
    }

    fn restore(&self) -> Result<(), Error> {
        let failed = |error| Error::io("volumes", "reading their directory", error);
        let mut graves = Vec::new();
        // Inside a change, so that nobody makes or removes one meanwhile.
        self.state.write(Durability::Process, |tx| -> Result<(), Error> {
            let known: Vec<Name> = tx.keys(Table::Volume)?.iter().filter_map(|name| name.parse().ok()).collect();
            for entry in fs::read_dir(&self.directory).map_err(failed)? {
                let entry = entry.map_err(failed)?;
                let file = entry.file_name();
                let Some(name) = file.to_str() else { continue };
                if name.starts_with(REMOVED) {
                    graves.push(entry.path());
                } else if !known.iter().any(|known| known.as_str() == name) {
                    // Made, but its record was never committed: it goes if nothing is in it, and else a volume of this
                    // name will find it again.
                    let project = self.quotas.project(&entry.path().join(DATA)).unwrap_or(None);
                    let _ = fs::remove_file(entry.path().join(reserved::MARK));
                    if fs::remove_dir(entry.path().join(DATA)).is_ok()
                        || fs::read_dir(entry.path()).is_ok_and(|mut d| d.next().is_none())
                    {
                        fs::remove_dir(entry.path()).map_err(failed)?;
                        if let Some(Err(error)) = project.map(|project| self.quotas.lift(project)) {
                            tracing::warn!(volume = name, %error, "a bound stays that nothing has any more");
                        }
                    }
                }
            }
            for name in known.iter().filter(|name| !self.home(name).join(DATA).is_dir()) {
                let Some(record) = tx.get::<Record>(Table::Volume, name.as_str())? else { continue };
                match self.make(name, &record) {
                    // The others are not worse for a disk that was exchanged.
                    Err(error @ Error::Quota { .. }) => {
                        tracing::warn!(volume = %name, %error, "its size is not bounded");
                    }
                    other => other?,
                }
            }
            Ok(())
        })?;
        for grave in graves {
            if let Err(error) = self.bury(&grave) {
                tracing::warn!(path = %grave.display(), %error, "removing what is left of a volume");
            }
        }
        Ok(())
    }

    fn bury(&self, grave: &Path) -> io::Result<()> {
        let project = self.quotas.project(&grave.join(DATA)).map_err(io::Error::other)?;
        populate::clear(&File::open(grave)?)?;
        match fs::remove_dir(grave) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        project.map_or(Ok(()), |project| self.quotas.lift(project).map_err(io::Error::other))
    }

    fn tell(&self, action: &str, name: &Name, record: &Record) {
        let driver = if record.driver.is_empty() { DRIVER } else { &record.driver };
        self.events.publish(Event::new(EventType::Volume, action, name.as_str()).attribute("driver", driver));
    }
}

/// Lets a container hold a volume, inside the transaction that stores the container. Removing the volume fails from
/// then on, until all that the container holds is released.
pub fn hold(tx: &mut Transaction<'_>, name: &Name, by: &ContainerId) -> Result<(), Error> {
    let missing = || Error::NotFound(name.to_string());
    let mut record = tx.get::<Record>(Table::Volume, name.as_str())?.ok_or_else(missing)?;
    if std::mem::take(&mut record.provisional) {
        tx.put(Table::Volume, name.as_str(), &record)?;
    }
    Ok(tx.hold((Table::Volume, name.as_str()), (Table::Container, by.as_str()))?)
}

fn ids(holders: Vec<(Table, String)>) -> Vec<String> {
    holders.into_iter().map(|(_, id)| id).collect()
}

fn now_nanos() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_nanos()).unwrap_or(i64::MAX)
}

/// Makes a directory, parents included, whose mode does not depend on the umask; one that is there keeps its mode.
fn make_directory(path: &Path, mode: u32) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o711).create(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

async fn blocking<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(Error::io(name, "waiting for the work on it", io::Error::other(error))),
    }
}

#[cfg(test)]
mod tests;
