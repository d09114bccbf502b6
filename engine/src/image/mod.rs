//! Images: loaded, imported, pulled, listed, tagged and removed. An image is its configuration, whose digest is its
//! id, and layers that are shared with every other image of the same root.

mod change;
mod check;
mod commit;
mod compact;
mod contents;
mod fetch;
mod find;
mod import;
mod layering;
mod load;
mod mend;
mod prune;
mod pull;
mod push;
mod record;
mod remote;
mod remove;
mod rootfs;
mod save;
mod scattered;
mod tag;
mod task;
mod trim;
mod unpack;
mod usage;

#[cfg(test)]
mod artifacts;
#[cfg(test)]
mod damage;
#[cfg(test)]
mod full;
#[cfg(test)]
mod liar;
#[cfg(test)]
mod outward;
#[cfg(test)]
mod room;
#[cfg(test)]
mod several;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use crate::blob::{self, Blobs};
use crate::error::ErrorKind;
use crate::events::Events;
use crate::settings::{RegistrySettings, RoomSettings};
use crate::snapshot::{self, Layers};
use crate::state::State;
use crate::{oci, registry, state};

pub use check::{CheckOptions, Checked, Outcome, Problem, Subject};
pub use import::ImportOptions;
pub use layering::Layering;
pub use load::{LoadOptions, Loaded};
pub use prune::Pruned;
pub use pull::PullOptions;
pub use push::{PushOptions, Pushed};
pub use record::Image;
pub(crate) use record::use_now;
pub use remote::{ReferrerOptions, Referrers, Remote};
pub use remove::{RemoveOptions, Removed};
pub use rootfs::Rootfs;
pub use save::Saved;
pub use task::{Import, Load, Progress, ProgressStream, Pull, Push, Status, Task};
pub use trim::{TrimOptions, Trimmed};
pub use usage::{ImageUsage, LayerUsage, Usage};

/// The images of one root directory. Cheap to clone; several programs may work on one root at once.
#[derive(Debug, Clone)]
pub struct Images {
    shared: Arc<Shared>,
    room: Arc<RoomSettings>,
}

#[derive(Debug)]
struct Shared {
    state: State,
    events: Events,
    blobs: Blobs,
    layers: Layers,
    registry: registry::Client,
    keeps_blobs: bool,
    scattering: scattered::Scattering,
    trimming: trim::Trimming,
}

impl Images {
    /// Opens the images beneath `root`, the engine's root directory.
    pub fn open(root: &Path, state: State, events: Events, settings: &RegistrySettings) -> Result<Self, Error> {
        let shared = Shared {
            state,
            events,
            blobs: Blobs::open(root)?,
            layers: Layers::open(root)?,
            registry: registry::Client::new(settings)?,
            keeps_blobs: settings.keep_blobs,
            scattering: scattered::Scattering::default(),
            trimming: trim::Trimming::default(),
        };
        Ok(Self { shared: Arc::new(shared), room: Arc::default() })
    }

    /// The same images, which from now on keep to this much room.
    #[must_use]
    pub fn within(mut self, room: RoomSettings) -> Self {
        self.room = Arc::new(room);
        self
    }

    /// The unpacked layers, for whoever mounts them.
    pub fn layers(&self) -> &Layers {
        &self.shared.layers
    }

    /// The stored manifests and compressed layers.
    pub fn blobs(&self) -> &Blobs {
        &self.shared.blobs
    }

    /// Where compressed layers are kept as they come, if they are.
    fn kept_blob(&self) -> Result<Option<blob::Writer>, Error> {
        if self.shared.keeps_blobs { Ok(Some(self.shared.blobs.writer()?)) } else { Ok(None) }
    }

    /// Removes what crashed programs left, and layers that nothing holds any more. Blocks; not needed for anything to
    /// work, and best called when nobody waits.
    pub fn collect_garbage(&self) -> Result<(), Error> {
        let shared = &self.shared;
        shared.layers.sweep()?;
        shared.blobs.sweep()?;
        shared.state.write(state::Durability::Process, |tx| {
            // A pull that was killed had taken holds for an image that it never made.
            for table in [state::Table::Layer, state::Table::Blob] {
                for key in tx.keys(table)? {
                    for (by, holder) in tx.holders((table, &key))? {
                        if self.is_abandoned(tx, by, &holder)? {
                            tx.release((table, &key), (by, &holder))?;
                        }
                    }
                }
            }
            Ok::<_, Error>(())
        })?;
        let retired = shared.state.write(state::Durability::Process, |tx| {
            shared.blobs.collect(tx)?;
            Ok::<_, Error>(shared.layers.collect(tx)?)
        })?;
        retired.into_iter().for_each(snapshot::Retired::remove);
        Ok(())
    }

    /// Whether a hold is that of an image which is not there and which nobody is pulling, in whatever program.
    fn is_abandoned(&self, state: &state::Snapshot<'_>, by: state::Table, holder: &str) -> Result<bool, Error> {
        let of_none = by == state::Table::Image && !state.contains(by, holder)?;
        Ok(of_none && !self.shared.blobs.is_leased(holder.rsplit(':').next().unwrap_or(holder)))
    }
}

/// What can go wrong with images.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is none of that name or id.
    #[error("No such image: {0}")]
    NoSuch(String),
    /// There is one of that name, and it is for another platform.
    #[error("image with reference {0}")]
    OtherPlatform(String),
    /// Several ids begin like that.
    #[error("ambiguous reference: several images have an id that begins with {0}")]
    Ambiguous(String),
    /// Something that is in use, or named more than once, would go.
    #[error("{0}")]
    Conflict(String),
    /// What was given as an archive of images is none.
    #[error("invalid archive: {0}")]
    Archive(String),
    /// A change of a configuration is none.
    #[error("{0}")]
    Change(String),
    /// A known kind of archive that cannot be read here.
    #[error("{0}")]
    Unsupported(String),
    /// Something of this type, which is no image.
    #[error("an artifact of type {0:?} is no image that can be run")]
    Artifact(String),
    /// There is nothing of that name to push.
    #[error("{0}")]
    Missing(String),
    /// A part of an image is not here any more, or not in a form that can be given out.
    #[error("{0}")]
    Incomplete(String),
    /// The bytes stopped before their end.
    #[error("read the archive: {0}")]
    Read(#[source] std::io::Error),
    /// The archive cannot be written to where it is to go.
    #[error("write the archive: {0}")]
    Write(#[source] std::io::Error),
    /// Nobody waits any more.
    #[error("cancelled")]
    Cancelled,
    /// A document of an image is wrong, or a name is none.
    #[error(transparent)]
    Oci(#[from] oci::Error),
    /// A layer is wrong, or cannot be unpacked.
    #[error(transparent)]
    Snapshot(#[from] snapshot::Error),
    /// Bytes cannot be stored.
    #[error(transparent)]
    Blob(#[from] blob::Error),
    /// The registry does not give what was asked for.
    #[error(transparent)]
    Registry(#[from] registry::Error),
    /// The state store failed.
    #[error(transparent)]
    State(#[from] state::Error),
}

impl Error {
    /// What kind of error it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoSuch(_) | Self::OtherPlatform(_) | Self::Ambiguous(_) | Self::Missing(_) | Self::Incomplete(_) => {
                ErrorKind::NotFound
            }
            Self::Conflict(_) => ErrorKind::Conflict,
            Self::Archive(_) | Self::Change(_) => ErrorKind::Invalid,
            Self::Unsupported(_) | Self::Artifact(_) => ErrorKind::Unsupported,
            Self::Read(_) | Self::Write(_) | Self::Cancelled => ErrorKind::Unavailable,
            Self::Oci(error) => error.kind(),
            Self::Snapshot(error) => error.kind(),
            Self::Blob(error) => error.kind(),
            Self::Registry(error) => error.kind(),
            Self::State(error) => error.kind(),
        }
    }

    /// Whether somebody removed a part of the image while it was being put together.
    fn is_race(&self) -> bool {
        matches!(self, Self::Snapshot(snapshot::Error::Vanished(_)) | Self::Blob(blob::Error::Missing(_)))
    }
}
