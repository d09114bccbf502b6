//! Drivers of networks that a program brings itself.

use std::fmt;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, PoisonError};

use super::record::{Endpoint, Network};
use super::{Error, Networks};

/// Why a driver cannot do it.
pub type DriverError = Box<dyn std::error::Error + Send + Sync>;

/// How the networks of one kind connect containers.
///
/// The engine gives out names and addresses and remembers them; a driver makes an interface where the engine says, and the
/// engine then brings it up with its addresses and routes. Everything is called on threads that may wait.
pub trait NetworkDriver: fmt::Debug + Send + Sync + 'static {
    /// What networks call it, such as `vxlan`.
    fn name(&self) -> &str;

    /// Looks at a network that is to be made.
    ///
    /// # Errors
    /// When its options make no sense.
    fn check(&self, network: &Network) -> Result<(), DriverError>;

    /// Makes the interface of an endpoint in the network namespace: it has to have the name and the hardware address that
    /// the endpoint has.
    ///
    /// # Errors
    /// When it cannot be made; nothing of it is left then.
    fn connect(&self, network: &Network, endpoint: &Endpoint, namespace: BorrowedFd<'_>) -> Result<(), DriverError>;

    /// Takes away what [`Self::connect`] has made, as far as it is still there: a namespace that dies takes its interfaces
    /// with it.
    ///
    /// # Errors
    /// When it cannot be taken away.
    fn disconnect(&self, network: &Network, endpoint: &Endpoint) -> Result<(), DriverError>;

    /// A network was removed.
    fn removed(&self, network: &Network) {
        let _ = network;
    }
}

impl Networks {
    /// Makes a driver known. Networks of its name can be made and used from now on, as long as this engine lives.
    ///
    /// # Errors
    /// When there is one of that name, or it is one of the engine's own.
    pub fn register(&self, driver: impl NetworkDriver) -> Result<(), Error> {
        let name = driver.name().to_owned();
        if ["", "default", "bridge", "host", "null", "none", "macvlan", "ipvlan", "overlay"].contains(&name.as_str()) {
            return Err(Error::Forbidden(format!("a driver cannot be called {name:?}")));
        }
        let mut drivers = self.shared.drivers.write().unwrap_or_else(PoisonError::into_inner);
        if drivers.contains_key(&name) {
            return Err(Error::Exists { name });
        }
        drivers.insert(name, Arc::new(driver));
        Ok(())
    }

    /// The names of the drivers that networks can have.
    #[must_use]
    pub fn drivers(&self) -> Vec<String> {
        let mut names: Vec<String> = ["bridge", "host", "ipvlan", "macvlan", "null"].map(str::to_owned).into();
        names.extend(self.shared.drivers.read().unwrap_or_else(PoisonError::into_inner).keys().cloned());
        names
    }

    pub(super) fn driver(&self, name: &str) -> Result<Arc<dyn NetworkDriver>, Error> {
        let drivers = self.shared.drivers.read().unwrap_or_else(PoisonError::into_inner);
        drivers.get(name).cloned().ok_or_else(|| Error::NoDriver { name: name.chars().take(64).collect() })
    }
}
