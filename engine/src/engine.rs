//! The engine: everything assembled over one root directory.

use std::path::Path;
use std::sync::Arc;

use engine_runtime::{Runtime, RuntimeSettings};
use tokio::task::AbortHandle;

use crate::container::{self, ContainerFilter, Containers, Instance, Parts, Status};
use crate::error::ErrorKind;
use crate::events::Events;
use crate::id::ContainerId;
use crate::image::{self, Images};
use crate::network::{self, Networks};
use crate::quota::Quotas;
use crate::settings::Settings;
use crate::snapshot::{self, Snapshots};
use crate::state::{self, Durability, State, Table};
use crate::volume::{self, Volumes};

/// A container engine over one root directory. Clones are one engine; it is closed when the last one is dropped:
/// containers of [`Lifetime::Engine`](crate::Lifetime::Engine) end then, the others go on and belong to the next engine on
/// the same root.
///
/// Several engines, in one program or in many, may have the same root at once: they share images and volumes, and each
/// container belongs to one of them.
#[derive(Clone, Debug)]
pub struct Engine {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    settings: Arc<Settings>,
    id: String,
    runtime: Runtime,
    events: Events,
    images: Images,
    networks: Networks,
    volumes: Volumes,
    containers: Containers,
    /// What puts the rules of the packet filter back when somebody flushes them.
    watch: AbortHandle,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.watch.abort();
        self.containers.close();
    }
}

/// What is known of an engine and its machine.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Info {
    /// Its id: one for each root, 64 hexadecimal digits.
    pub id: String,
    /// What the machine can do.
    pub host: engine_runtime::Host,
    /// Containers that run, that are paused, and the others.
    pub containers: (usize, usize, usize),
}

/// Why an engine cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A path is not absolute.
    #[error("the {what} directory {} is not an absolute path", path.display())]
    Relative {
        /// Which directory.
        what: &'static str,
        /// The path.
        path: std::path::PathBuf,
    },
    /// A directory cannot be made.
    #[error("make the directory {}: {source}", path.display())]
    Directory {
        /// The directory.
        path: std::path::PathBuf,
        /// The answer.
        source: std::io::Error,
    },
    /// Of the state store.
    #[error(transparent)]
    State(#[from] state::Error),
    /// Of the images.
    #[error(transparent)]
    Image(#[from] image::Error),
    /// Of the snapshots.
    #[error(transparent)]
    Snapshot(#[from] snapshot::Error),
    /// Of the networks.
    #[error(transparent)]
    Network(#[from] network::Error),
    /// Of the volumes.
    #[error(transparent)]
    Volume(#[from] volume::Error),
    /// Of the containers.
    #[error(transparent)]
    Container(#[from] container::Error),
    /// Of the runtime.
    #[error(transparent)]
    Runtime(#[from] engine_runtime::Error),
}

impl Error {
    /// What kind of thing went wrong.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Relative { .. } => ErrorKind::Invalid,
            Self::Directory { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => {
                ErrorKind::Denied
            }
            Self::Directory { .. } | Self::Runtime(_) => ErrorKind::Internal,
            Self::State(error) => error.kind(),
            Self::Image(error) => error.kind(),
            Self::Snapshot(error) => error.kind(),
            Self::Network(error) => error.kind(),
            Self::Volume(error) => error.kind(),
            Self::Container(error) => error.kind(),
        }
    }
}

impl Engine {
    /// Opens an engine, and takes over the containers of engines on the same root that are gone.
    ///
    /// Must be called within a tokio runtime, which has to go on as long as the engine is used.
    ///
    /// # Errors
    /// When a directory or the state cannot be used, or the machine lacks what containers need.
    pub async fn open(settings: Settings) -> Result<Self, Error> {
        for (what, path) in [("root", &settings.root), ("run", &settings.run)] {
            if !path.is_absolute() {
                return Err(Error::Relative { what, path: path.clone() });
            }
        }
        make_directory(&settings.root, 0o711)?;
        make_directory(&settings.run, 0o700)?;
        let settings = Arc::new(settings);
        let instance = Instance::register(&settings.run)?;
        let state = State::open(&settings.root)?;
        let events = Events::open(&settings.root);
        let images = Images::open(&settings.root, state.clone(), events.clone(), &settings.registry)?;
        let images = images.within(settings.room.clone());
        let snapshots = Snapshots::open(&settings.root, images.layers().clone())?;
        let networks = Networks::open(&state, &events, &settings)?;
        let volumes = Volumes::open(&settings.root, state.clone(), events.clone())?;
        let runtime = Runtime::open(RuntimeSettings {
            run_directory: settings.run.clone(),
            cgroup_parent: settings.cgroup_parent.clone(),
            open_files: settings.open_files,
        })?;
        let id = id_of(&state)?;
        let parts = Parts {
            state,
            events: events.clone(),
            images: images.clone(),
            snapshots,
            quotas: Quotas::beneath(&settings.root.join("containers")),
            networks: networks.clone(),
            volumes: volumes.clone(),
            runtime: runtime.clone(),
            settings: Arc::clone(&settings),
        };
        let containers = Containers::open(parts, instance).await?;
        networks.restore().await?;
        containers.revive();
        images.keep_to_quota();
        let watch = tokio::spawn(networks.clone().watch()).abort_handle();
        let inner = Inner { settings, id, runtime, events, images, networks, volumes, containers, watch };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Its containers.
    #[must_use]
    pub fn containers(&self) -> &Containers {
        &self.inner.containers
    }

    /// Its images.
    #[must_use]
    pub fn images(&self) -> &Images {
        &self.inner.images
    }

    /// Its networks.
    #[must_use]
    pub fn networks(&self) -> &Networks {
        &self.inner.networks
    }

    /// Its volumes.
    #[must_use]
    pub fn volumes(&self) -> &Volumes {
        &self.inner.volumes
    }

    /// What happens in it.
    #[must_use]
    pub fn events(&self) -> &Events {
        &self.inner.events
    }

    /// What it was opened with.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    /// Its id: one for each root, 64 hexadecimal digits.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.inner.id
    }

    /// What is known of it and of its machine.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn info(&self) -> Result<Info, container::Error> {
        let mut containers = (0, 0, 0);
        for record in self.inner.containers.list(&ContainerFilter::new().all(true))? {
            match record.state.status {
                Status::Running => containers.0 += 1,
                Status::Paused => containers.1 += 1,
                _ => containers.2 += 1,
            }
        }
        Ok(Info { id: self.inner.id.clone(), host: self.inner.runtime.host().clone(), containers })
    }

    /// Starts what the first container would otherwise wait for. Not needed for anything to work.
    ///
    /// # Errors
    /// When the process behind all launches cannot be started.
    pub async fn warm(&self) -> Result<(), Error> {
        let runtime = self.inner.runtime.clone();
        match tokio::task::spawn_blocking(move || runtime.warm()).await {
            Ok(warmed) => Ok(warmed?),
            Err(error) => Err(container::Error::Internal(error.to_string()).into()),
        }
    }

    /// Closes it: ends the containers that live no longer than it, waits for them, and lets go of the others, which run
    /// on. Dropping the engine does the same without waiting.
    pub async fn shutdown(&self) {
        self.inner.containers.shut_down().await;
        self.inner.watch.abort();
    }
}

fn make_directory(path: &Path, mode: u32) -> Result<(), Error> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(|source| Error::Directory { path: path.to_owned(), source })
}

/// The id of a root is made when it is first used.
fn id_of(state: &State) -> Result<String, Error> {
    const KEY: &str = "id";
    state.write(Durability::Process, |tx| {
        if let Some(id) = tx.get::<String>(Table::Root, KEY)? {
            return Ok(id);
        }
        let id = ContainerId::random().to_string();
        tx.put(Table::Root, KEY, &id)?;
        Ok(id)
    })
}
