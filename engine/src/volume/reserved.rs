//! Volumes for a container that is being made: nobody takes one away before the container holds it, and when nothing comes of
//! the container, a volume that was made for it alone goes again.

use std::io;

use engine_sys::lease::Lease;
use rustix::fs::{Mode, OFlags};

use super::{Error, Name, Volume, VolumeSpec, Volumes};

/// Beside the data as long as somebody has reserved it; a lock and no record, so that it ends with whoever is killed.
pub(super) const MARK: &str = "reserved";
/// Who uses a volume that only a mark speaks of.
const WHO: &str = "a container that is being made";

/// A volume that nobody removes as long as this is kept.
#[derive(Debug)]
pub(crate) struct Reserved {
    pub(crate) volume: Volume,
    /// It was not there before.
    pub(super) is_new: bool,
    pub(super) lease: Option<Lease>,
}

impl Volumes {
    /// As [`Volumes::create`], and nobody removes it until a container [holds](super::hold) it, or the answer is dropped.
    ///
    /// # Errors
    /// As [`Volumes::create`].
    pub(crate) async fn reserve(&self, spec: VolumeSpec) -> Result<Reserved, Error> {
        self.provide(spec, true).await
    }

    /// Nothing comes of the container: a volume that was made for it, and that nobody else has asked for, goes. Blocks.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub(crate) fn give_back(&self, reserved: Reserved) -> Result<(), Error> {
        let Reserved { volume, is_new, lease } = reserved;
        drop(lease);
        if !is_new {
            return Ok(());
        }
        match self.take_away_if(&volume.name, false, |record| record.anonymous || record.provisional) {
            // It is somebody's, or was.
            Err(Error::InUse { .. } | Error::NotFound(_)) => Ok(()),
            other => other.map(drop),
        }
    }

    /// Marks a volume; inside a transaction, so that it is not being removed.
    pub(super) fn mark(&self, name: &Name) -> io::Result<Lease> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Lease::take(rustix::fs::open(self.home(name), flags, Mode::empty())?, MARK)
    }

    /// Who has reserved a volume; inside a transaction, so that nobody begins to.
    pub(super) fn reserved_by(&self, name: &Name) -> Option<String> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let home = rustix::fs::open(self.home(name), flags, Mode::empty()).ok()?;
        Lease::is_taken(home, MARK).then(|| WHO.to_owned())
    }
}
