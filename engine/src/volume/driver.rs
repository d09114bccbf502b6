//! Drivers of volumes that a program brings itself.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};

use super::{DRIVER, Error, Volume, Volumes};

/// Why a driver cannot do it.
pub type DriverError = Box<dyn std::error::Error + Send + Sync>;

/// Where the contents of the volumes of one kind are.
///
/// The engine remembers volumes, with their options and labels, and who uses them; a driver has the contents. Everything is
/// called on threads that may wait. An engine that dies forgets what it has not written down: [`Self::create`] and
/// [`Self::mount`] may come a second time for the same volume, and then find what the first call made.
pub trait VolumeDriver: fmt::Debug + Send + Sync + 'static {
    /// What volumes call it, such as `vault`.
    fn name(&self) -> &str;

    /// Makes the contents of a volume.
    ///
    /// # Errors
    /// When its options make no sense or it cannot be made; the volume is not made then.
    fn create(&self, volume: &Volume) -> Result<(), DriverError>;

    /// Makes the contents available at a directory of the host, which containers see from now on: called when the first of
    /// them begins to use the volume.
    ///
    /// # Errors
    /// When that is not possible; no container of it is started then.
    fn mount(&self, volume: &Volume) -> Result<PathBuf, DriverError>;

    /// No container uses the volume any more.
    ///
    /// # Errors
    /// When what [`Self::mount`] made cannot be taken back; that is told and changes nothing.
    fn unmount(&self, volume: &Volume) -> Result<(), DriverError> {
        let _ = volume;
        Ok(())
    }

    /// Destroys the contents of a volume that nobody uses.
    ///
    /// # Errors
    /// When that is not possible; the volume stays then.
    fn remove(&self, volume: &Volume) -> Result<(), DriverError>;
}

impl Volumes {
    /// Makes a driver known. Volumes of its name can be made and used from now on, as long as this engine lives.
    ///
    /// # Errors
    /// When there is one of that name, or it is the engine's own.
    pub fn register(&self, driver: impl VolumeDriver) -> Result<(), Error> {
        let name = driver.name().to_owned();
        let mut drivers = self.drivers.write().unwrap_or_else(PoisonError::into_inner);
        if name.is_empty() || name == DRIVER || drivers.contains_key(&name) {
            return Err(Error::DriverTaken { driver: name });
        }
        drivers.insert(name, Arc::new(driver));
        Ok(())
    }

    /// The names of the drivers that volumes can have.
    #[must_use]
    pub fn drivers(&self) -> Vec<String> {
        let known = self.drivers.read().unwrap_or_else(PoisonError::into_inner);
        std::iter::once(DRIVER.to_owned()).chain(known.keys().cloned()).collect()
    }

    /// The driver of a volume; `None` for the engine's own.
    pub(super) fn driver(&self, volume: &str, name: &str) -> Result<Option<Arc<dyn VolumeDriver>>, Error> {
        if matches!(name, "" | DRIVER) {
            return Ok(None);
        }
        let known = self.drivers.read().unwrap_or_else(PoisonError::into_inner);
        let found = known.get(name).cloned();
        found
            .map(Some)
            .ok_or_else(|| Error::Driver { name: volume.to_owned(), driver: name.chars().take(64).collect() })
    }
}

/// What a driver said about a volume.
pub(super) fn failed(volume: &Volume, source: DriverError) -> Error {
    Error::OfDriver { name: volume.name.to_string(), driver: volume.driver().to_owned(), source }
}
