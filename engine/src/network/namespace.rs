//! A container's network namespace, before the container is in it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use engine_sys::netlink::{Netlink, Protocol};

use super::{Error, link};

/// The loopback is the first interface of every namespace.
const LOOPBACK: u32 = 1;

/// A network namespace whose loopback is up. It lives as long as this, or a process or socket in it; clones share it.
#[derive(Debug, Clone)]
pub struct NetworkNamespace {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    namespace: OwnedFd,
    inside: Mutex<Netlink>,
}

impl NetworkNamespace {
    /// Makes one. Takes about a millisecond.
    ///
    /// # Errors
    /// When the kernel refuses: without privilege or at its limit of namespaces.
    pub async fn create() -> Result<Self, Error> {
        tokio::task::spawn_blocking(Self::create_blocking).await.map_err(|_| Error::Interrupted)?
    }

    /// As [`Self::create`], for a thread that may wait.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub fn create_blocking() -> Result<Self, Error> {
        let made = engine_sys::namespace::new_network(|| {
            // Networks have IPv4 only. The kernel would give every interface an IPv6 address that nothing filters.
            match std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1") {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            Netlink::open(Protocol::Route)
        });
        let (namespace, mut inside) = made.map_err(Error::system("make a network namespace"))?;
        inside
            .request(&mut [link::bring_up(LOOPBACK)])
            .map_err(Error::kernel("bring the loopback of a network namespace up"))?;
        Ok(Self { shared: Arc::new(Shared { namespace, inside: Mutex::new(inside) }) })
    }

    /// The one that a process is in. Whoever calls this sees to it that the process is still the same one afterwards.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn of_process_blocking(pid: u32) -> Result<Self, Error> {
        let what = || format!("enter the network namespace of process {pid}");
        let file = std::fs::File::open(format!("/proc/{pid}/ns/net")).map_err(Error::system(what()))?;
        let namespace = OwnedFd::from(file);
        let inside = engine_sys::namespace::in_network(namespace.as_fd(), || Netlink::open(Protocol::Route));
        let inside = Mutex::new(inside.map_err(Error::system(what()))?);
        Ok(Self { shared: Arc::new(Shared { namespace, inside }) })
    }

    /// The namespace's descriptor.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.namespace.as_fd()
    }

    /// A descriptor of its own, for whoever joins the namespace.
    ///
    /// # Errors
    /// When there are too many descriptors.
    pub fn to_fd(&self) -> Result<OwnedFd, Error> {
        self.as_fd().try_clone_to_owned().map_err(Error::system("duplicate the descriptor of a network namespace"))
    }

    pub(super) fn inside(&self) -> MutexGuard<'_, Netlink> {
        self.shared.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
