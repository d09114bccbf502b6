//! Removing the images that nobody uses.

use super::usage::Costs;
use super::{Error, Image, Images, RemoveOptions, Removed};
use crate::error::ErrorKind;
use crate::events::{Event, EventType};
use crate::state::Table;

/// What [`Images::prune`] removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pruned {
    /// Names and images.
    pub removed: Vec<Removed>,
    /// Bytes of the layers, of what was kept of their archives, and of the manifests that went.
    pub reclaimed: u64,
}

impl Images {
    /// Removes the images that are wanted gone and that no container has, with all their names.
    ///
    /// One that somebody begins to use, or builds upon, in the meantime stays.
    ///
    /// # Errors
    /// When the state store fails; what went until then is gone.
    pub async fn prune(&self, wanted: impl Fn(&Image) -> bool) -> Result<Pruned, Error> {
        let before = self.costs()?;
        let mut pruned = Pruned::default();
        for image in self.list().await? {
            if !wanted(&image) || self.has_container(&image)? {
                continue;
            }
            let mut names: Vec<String> = image.references().iter().map(|name| name.full()).collect();
            if names.is_empty() {
                names.push(image.id().to_string());
            }
            for name in names {
                match self.remove(&name, RemoveOptions::default()).await {
                    Ok(removed) => pruned.removed.extend(removed),
                    // Used, or gone already.
                    Err(error) if matches!(error.kind(), ErrorKind::Conflict | ErrorKind::NotFound) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        pruned.reclaimed = before.gone(&self.costs()?);
        let event = Event::new(EventType::Image, "prune", "").attribute("reclaimed", pruned.reclaimed.to_string());
        self.shared.events.publish(event);
        Ok(pruned)
    }

    pub(super) fn costs(&self) -> Result<Costs, Error> {
        self.shared.state.read(|state| Costs::measure(self, state))
    }

    pub(super) fn has_container(&self, image: &Image) -> Result<bool, Error> {
        let holders = self.shared.state.read(|state| state.holders((Table::Image, image.id().as_str())))?;
        Ok(holders.iter().any(|(table, _)| *table == Table::Container))
    }
}
