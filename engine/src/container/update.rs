//! Changing what a container may take, and its restart policy, whether it runs or not.

use super::inventory::{blocking, uninterrupted};
use super::limits;
use super::resources::{self, Abilities};
use super::status::Status;
use super::{Container, Containers, Error, HostConfig, Resources, RestartPolicy, bundle};

/// What is changed of a container.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Change {
    /// New bounds; 0, empty and nothing leave what was there.
    pub resources: Resources,
    /// A new restart policy.
    pub restart_policy: Option<RestartPolicy>,
}

impl Containers {
    /// What this machine can bound.
    #[must_use]
    pub fn abilities(&self) -> &Abilities {
        self.shared.abilities()
    }

    /// The devices that containers can be given by name, as the specifications on this machine have them now.
    #[must_use]
    pub fn named_devices(&self) -> Vec<String> {
        super::cdi::names(&self.shared.parts.settings.cdi_directories)
    }

    /// Warnings about what is asked for and cannot be had on this machine, those about resources in Docker's words: they are left
    /// out when the container is made, and limits of processes cut down.
    #[must_use]
    pub fn warnings(&self, host: &HostConfig) -> Vec<String> {
        let mut warnings = limits::warnings(host, self.shared.parts.runtime.host().bounding);
        if host.resources != Resources::default() {
            warnings.extend(self.shared.abilities().discard(&mut host.resources.clone()));
        }
        warnings
    }
}

impl Container {
    /// Changes it, all or nothing; answers warnings about what this machine cannot bound, which is left out.
    ///
    /// # Errors
    /// When a value makes no sense or contradicts what was there, or the kernel refuses it.
    pub async fn update(&self, change: Change) -> Result<Vec<String>, Error> {
        let this = self.clone();
        uninterrupted(async move {
            let _turn = this.inner.lifecycle.lock().await;
            this.update_in_turn(change).await
        })
        .await
    }

    async fn update_in_turn(&self, mut change: Change) -> Result<Vec<String>, Error> {
        self.owned()?;
        let (shared, inner) = (&self.shared, &self.inner);
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        resources::check(&change.resources, cpus, true)?;
        let warnings = shared.abilities().discard(&mut change.resources);
        shared.abilities().check(&change.resources)?;
        let record = inner.record();
        let cannot = |error: Error| error.within(&format!("Cannot update container {}", record.id));
        if matches!(record.state.status, Status::Removing | Status::Dead) {
            return Err(cannot(Error::conflict("container is marked for removal and cannot be \"update\"")));
        }
        let host = &record.config.host;
        if host.auto_remove && change.restart_policy.is_some_and(|policy| policy != RestartPolicy::No) {
            return Err(cannot(Error::conflict(
                "Restart policy cannot be updated because AutoRemove is enabled for the container",
            )));
        }
        let after = resources::changed(&host.resources, &change.resources).map_err(cannot)?;
        if record.state.status.has_process() {
            let mut told = bundle::resources(&effective(&change.resources, &after));
            told.set_block_io(resources::block_io(&change.resources).map_err(cannot)?);
            let (runtime, id) = (shared.parts.runtime.clone(), record.id);
            let updated = blocking(move || Ok(runtime.update(id.as_str(), &told)?)).await;
            match updated {
                // It has just ended: the next start has them.
                Err(Error::Runtime(engine_runtime::Error::NotFound(_))) => {}
                other => other.map_err(cannot)?,
            }
        }
        let record = inner.change(shared, |record| {
            let mut record = record.clone();
            record.config.host.resources = after;
            if let Some(policy) = change.restart_policy {
                record.config.host.restart_policy = policy;
            }
            Ok(record)
        })?;
        shared.tell(&record, "update", &[]);
        if record.config.host.restart_policy == RestartPolicy::No {
            self.stop_between_runs()?;
        }
        Ok(warnings)
    }
}

/// What the kernel is told: what is changed, and those bounds that hold only together with it.
fn effective(change: &Resources, after: &Resources) -> Resources {
    let mut told = change.clone();
    if change.memory != 0 || change.memory_swap != 0 {
        (told.memory, told.memory_swap) = (after.memory, after.memory_swap);
    }
    if change.cpu_period != 0 || change.cpu_quota != 0 {
        (told.cpu_period, told.cpu_quota) = (after.cpu_period, after.cpu_quota);
    }
    told
}
