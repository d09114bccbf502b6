//! The handlers: each takes a call, converts, asks the engine once, and converts back.

pub(crate) mod containers;
pub(crate) mod events;
pub(crate) mod exec;
pub(crate) mod images;
pub(crate) mod networks;
pub(crate) mod registries;
pub(crate) mod system;
pub(crate) mod transfers;
pub(crate) mod unsupported;
pub(crate) mod volumes;

use tokio::sync::{Mutex, MutexGuard};

use crate::error::Error;

/// Two prunes of one kind never run at once: the second would count what the first removes.
#[derive(Debug, Default)]
pub(crate) struct Prunes {
    pub(crate) containers: Mutex<()>,
    pub(crate) images: Mutex<()>,
    pub(crate) networks: Mutex<()>,
    pub(crate) volumes: Mutex<()>,
}

/// The right to prune.
pub(crate) fn prune_alone(lock: &Mutex<()>) -> Result<MutexGuard<'_, ()>, Error> {
    lock.try_lock().map_err(|_| Error::conflict("a prune operation is already running"))
}
