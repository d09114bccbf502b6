//! Containers: what is asked for, what is decided, and their life from create to remove.
//!
//! Each container has one owner among the engines of a root. Whatever changes it goes through the pure functions of
//! `status`, is written to the state first, and then shown: list and inspect read memory and never wait for a life.

mod accounts;
mod attach;
mod attaching;
mod bundle;
mod cdi;
mod changes;
mod checkpoint;
mod commit;
mod config;
mod copy;
mod create;
mod devices;
mod error;
mod exec;
mod exec_spec;
mod export;
mod filter;
mod health;
mod host_config;
mod id_map;
mod inventory;
mod limits;
mod links;
mod list;
mod live;
mod modes;
mod mount_plan;
mod mounts;
mod names;
mod networks;
mod outside;
mod owner;
mod packing;
mod ports;
mod probing;
mod propagation;
mod record;
mod remove;
mod rename;
mod resources;
mod restart;
mod restore;
mod security;
mod shipping;
mod sources;
mod spec;
mod start;
mod stats;
mod status;
mod stop;
mod supervise;
mod top;
mod update;
mod validate;
mod view;
mod wait;

use std::path::PathBuf;
use std::sync::Arc;

pub use attach::{AttachOptions, Attached, DetachKeys};
pub use attaching::AttachHandle;
pub use checkpoint::CheckpointOptions;
pub use commit::CommitOptions;
pub use config::Config;
pub use copy::{ArchiveStream, CopyOptions, PathStat};
pub use error::Error;
pub use exec::Exec;
pub use exec_spec::{ExecRecord, ExecSpec, ExecState};
pub use filter::ContainerFilter;
pub use health::{Health, HealthAnswer, HealthStatus};
pub use host_config::{
    DeviceMapping, DeviceRate, DeviceRequest, DeviceWeight, HostConfig, LogConfig, PortBinding, Resources,
};
pub use id_map::{IdMap, IdRange};
pub use list::{PruneOptions, Pruned};
pub use modes::{InvalidMode, IpcMode, Lifetime, NamespaceMode, NetworkMode, RestartPolicy};
pub use mounts::{MountKind, MountPoint, MountSource, MountSpec, Propagation};
pub use record::Record;
pub use remove::RemoveOptions;
pub use resources::Abilities;
pub use spec::{ContainerSpec, EndpointSpec};
pub use stats::{InterfaceUsage, Sample, Traffic};
pub use status::{ContainerState, Status};
pub use stop::StopOptions;
pub use top::{Top, TopWatch};
pub use update::Change;
pub use wait::{Exit, WaitCondition, Waiter};

pub(crate) use inventory::Parts;
pub(crate) use owner::Instance;

use crate::id::ContainerId;
use inventory::{Inner, Shared};

/// The containers of one engine's root. A cheap clone.
#[derive(Clone, Debug)]
pub struct Containers {
    shared: Arc<Shared>,
}

impl Containers {
    /// Takes over what engines that are gone have left. Must be called within a tokio runtime.
    pub(crate) async fn open(parts: Parts, instance: Instance) -> Result<Self, Error> {
        let shared = Arc::new(Shared::new(parts, instance));
        restore::restore(&shared).await?;
        Ok(Self { shared })
    }

    /// The container with this id, this name, or a unique beginning of its id.
    ///
    /// # Errors
    /// When there is none, or several ids begin like this.
    pub async fn get(&self, name: &str) -> Result<Container, Error> {
        restore::refresh(&self.shared)?;
        let inner = self.shared.find(name)?;
        Ok(Container { shared: Arc::clone(&self.shared), inner })
    }

    /// Starts what was to be going on when the engine before ended. For when everything below is restored.
    pub(crate) fn revive(&self) {
        tokio::spawn(restart::revive(Arc::clone(&self.shared)));
    }

    /// Lets go of all containers: those that live no longer than the engine end, the others are left to the next engine.
    pub(crate) fn close(&self) {
        self.shared.closing.send_replace(true);
        for inner in self.shared.all() {
            inner.abandon();
        }
        self.shared.instance.resign();
    }

    /// Ends those that live no longer than the engine and waits for it, then lets go of all.
    pub(crate) async fn shut_down(&self) {
        let ours = |inner: &Arc<Inner>| {
            let record = inner.record();
            record.config.lifetime == Lifetime::Engine
                && record.state.status.goes_on()
                && restore::is_ours(&self.shared, &record)
        };
        let ending: Vec<_> = self.shared.all().into_iter().filter(ours).collect();
        for inner in &ending {
            let container = Container { shared: Arc::clone(&self.shared), inner: Arc::clone(inner) };
            if let Err(error) = container.kill("KILL").await {
                tracing::error!(container = %inner.id, %error, "a container cannot be ended with the engine");
            }
        }
        // What others have left to be cleared away is done too. One that is removed at its end is gone then, which is fine.
        for inner in self.shared.all() {
            let record = inner.record();
            if restore::is_ours(&self.shared, &record) && !record.state.status.has_process() {
                let _ = inner.settle().await;
            }
        }
        self.shared.left().await;
        probing::keep(&self.shared);
        self.close();
    }
}

/// One container. A cheap clone.
#[derive(Clone, Debug)]
pub struct Container {
    shared: Arc<Shared>,
    inner: Arc<Inner>,
}

impl Container {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> &ContainerId {
        &self.inner.id
    }

    /// Its name, without a slash.
    #[must_use]
    pub fn name(&self) -> String {
        self.inner.record().name.clone()
    }

    /// What was decided about it, and how it stands at this moment.
    #[must_use]
    pub fn record(&self) -> Arc<Record> {
        self.inner.record()
    }

    /// Waits for it: registered when this returns, so that nothing that happens later is missed.
    pub fn waiter(&self, condition: WaitCondition) -> Waiter {
        self.inner.register(condition)
    }

    /// Waits until it does not run.
    ///
    /// # Errors
    /// When the engine is closed first.
    pub async fn wait(&self) -> Result<Exit, Error> {
        self.waiter(WaitCondition::NotRunning).await
    }

    /// Where its log lies; nothing when its driver keeps none.
    #[must_use]
    pub fn log_path(&self) -> Option<PathBuf> {
        let keeps = self.inner.record().config.host.log.driver == "json-file";
        keeps.then(|| self.shared.directory(&self.inner.id).join(start::log_name(&self.inner.id)))
    }

    /// What its log driver knows of each line: the labels and variables that its options ask for, and the tag.
    ///
    /// # Errors
    /// When an option makes no sense.
    pub fn log_details(&self) -> Result<std::collections::BTreeMap<String, String>, Error> {
        shipping::details(&self.inner.record())
    }

    /// The directory of its files: `hosts`, `hostname`, `resolv.conf` and the log.
    #[must_use]
    pub fn directory(&self) -> PathBuf {
        self.shared.directory(&self.inner.id)
    }

    /// What its root file system is made of.
    #[must_use]
    pub fn overlay(&self) -> crate::snapshot::Upper {
        self.shared.parts.snapshots.of(&self.inner.id, &self.inner.record().layers)
    }

    /// Whether it was removed.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.inner.is_gone()
    }

    /// Refuses to touch what belongs to another engine.
    fn owned(&self) -> Result<(), Error> {
        self.shared.open()?;
        let record = self.inner.record();
        if self.inner.is_gone() {
            return Err(Error::NoSuchContainer(record.id.to_string()));
        }
        if restore::is_ours(&self.shared, &record) {
            return Ok(());
        }
        Err(Error::conflict(format!(
            "container {} belongs to another running engine on this root: ask that one, or end it",
            record.id
        )))
    }
}
