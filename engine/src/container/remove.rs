//! Taking a container away, with everything that was made for it.

use std::sync::Arc;

use super::create::remove_directory;
use super::inventory::{Leaving, Shared, blocking, uninterrupted};
use super::status::Status;
use super::{Container, Error};
use crate::error::ErrorKind;
use crate::id::ContainerId;
use crate::state::{Durability, Table};

/// How a container is removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RemoveOptions {
    /// Kill it when it runs.
    pub force: bool,
    /// Its anonymous volumes too.
    pub volumes: bool,
}

impl RemoveOptions {
    /// Sets [`RemoveOptions::force`].
    #[must_use]
    pub fn force(mut self, force: bool) -> Self {
        self.force = force;
        self
    }

    /// Sets [`RemoveOptions::volumes`].
    #[must_use]
    pub fn volumes(mut self, volumes: bool) -> Self {
        self.volumes = volumes;
        self
    }
}

impl Container {
    /// Removes it.
    ///
    /// # Errors
    /// When it runs and is not to be killed, or is being removed already.
    pub async fn remove(&self, options: RemoveOptions) -> Result<(), Error> {
        if self.inner.record().state.status == Status::Removing {
            return Err(self.in_progress());
        }
        let this = self.clone();
        uninterrupted(async move {
            if options.force && this.inner.record().state.status.has_process() {
                // Whoever stops it, patiently, has to be overtaken.
                this.kill_for_removal().await?;
            }
            let _turn = this.inner.lifecycle.lock().await;
            if this.inner.is_gone() {
                return Ok(());
            }
            this.owned()?;
            if options.force {
                this.stop_between_runs()?;
            }
            let record = this.inner.record();
            match record.state.status {
                Status::Running | Status::Paused if options.force => this.kill_for_removal().await?,
                status @ (Status::Running | Status::Restarting) => {
                    return Err(Error::conflict(format!(
                        "cannot remove container \"/{}\": container is {}: stop the container before removing or force remove",
                        record.name,
                        status.as_str()
                    )));
                }
                Status::Paused => {
                    return Err(Error::conflict(format!(
                        "cannot remove container \"/{}\": container is paused and must be unpaused first",
                        record.name
                    )));
                }
                _ => {}
            }
            match this.inner.settle().await {
                // It was one that is removed at its end.
                Err(Error::NoSuchContainer(_)) => return Ok(()),
                other => other?,
            }
            match this.remove_in_turn(options.volumes).await {
                Err(_) if this.inner.is_gone() => Ok(()),
                other => other,
            }
        })
        .await
    }

    async fn kill_for_removal(&self) -> Result<(), Error> {
        match self.kill("KILL").await {
            // It ended meanwhile.
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(()),
            other => other,
        }
    }

    /// Removes it after its end because that was asked for at create.
    pub(super) async fn remove_by_itself(&self) -> Result<(), Error> {
        match self.remove_in_turn(true).await {
            // Somebody was faster.
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(()),
            other => other,
        }
    }

    fn in_progress(&self) -> Error {
        Error::conflict(format!("removal of container {} is already in progress", self.inner.record().name))
    }

    /// Removes one that does not run, for whoever has its lifecycle locked (or watches its end). It is gone with its record;
    /// its files follow.
    pub(super) async fn remove_in_turn(&self, volumes: bool) -> Result<(), Error> {
        let (shared, inner) = (&self.shared, &self.inner);
        let record = inner.change_state(shared, |state| state.removing())?;
        let work = Arc::clone(shared);
        let taken = Arc::clone(&record);
        let cleared = blocking(move || {
            let id = taken.id;
            super::networks::let_go(&work, &id)?;
            work.parts.state.write(Durability::Process, |tx| -> Result<(), Error> {
                tx.delete(Table::Container, id.as_str())?;
                let holder: Option<String> = tx.get(Table::ContainerName, &taken.name)?;
                if holder.as_deref() == Some(id.as_str()) {
                    tx.delete(Table::ContainerName, &taken.name)?;
                }
                tx.release_all((Table::Container, id.as_str()))?;
                if tx.contains(Table::Image, taken.image.as_str())? {
                    crate::image::use_now(tx, taken.image.as_str())?;
                }
                Ok(())
            })
        })
        .await;
        if let Err(error) = cleared {
            inner.change_state(shared, |state| state.dead(error.to_string()))?;
            return Err(error);
        }
        let remains = Remains::of(shared, inner.id);
        // Nobody waits for it.
        tokio::task::spawn_blocking(|| drop(remains));
        if volumes {
            for name in record.mounts.iter().filter(|mount| mount.anonymous).filter_map(|mount| mount.name.as_deref()) {
                match shared.parts.volumes.remove(name).await {
                    // Another container has it too, or somebody removed it.
                    Err(error) if matches!(error.kind(), ErrorKind::Conflict | ErrorKind::NotFound) => {}
                    Err(error) => tracing::error!(volume = name, %error, "an anonymous volume cannot be removed"),
                    Ok(()) => {}
                }
            }
        }
        shared.forget(&inner.id);
        shared.tell(&record, "destroy", &[]);
        inner.gone();
        inner.settled.send_replace(true);
        Ok(())
    }
}

/// What no record speaks of any more: the cgroup with whoever is still in it, the run directory and the files, which may be
/// many. It is taken away when this is dropped, so also by a runtime that ends before it has come to that. What a crash leaves
/// of it is swept away by the next engine that opens.
struct Remains {
    shared: Arc<Shared>,
    id: ContainerId,
    _leaving: Leaving,
}

impl Remains {
    fn of(shared: &Arc<Shared>, id: ContainerId) -> Self {
        Self { shared: Arc::clone(shared), id, _leaving: shared.leave() }
    }
}

impl Drop for Remains {
    fn drop(&mut self) {
        super::outside::forget(&self.shared, &self.id);
        let stopped = self.shared.parts.runtime.remove(self.id.as_str()).map_err(Error::from);
        if let Err(error) = stopped.and_then(|()| remove_directory(&self.shared, &self.id)) {
            tracing::error!(container = %self.id, %error, "what is left of a removed container cannot be taken away");
        }
    }
}
