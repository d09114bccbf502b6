//! Network namespaces, made and entered on threads of their own, so that no other thread ever changes its namespace.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread;

use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

/// Enough for a few system calls; the threads live for a millisecond.
const STACK: usize = 128 << 10;

/// Makes a network namespace and runs `inside` in it, on a short-lived thread.
///
/// The namespace lives as long as the descriptor, or a process or socket in it; sockets that `inside` opens belong to
/// it for ever. It has a loopback interface that is down. Needs `CAP_SYS_ADMIN`.
///
/// # Errors
/// When the namespace or the thread cannot be made, or what `inside` returns.
pub fn new_network<T: Send>(inside: impl FnOnce() -> io::Result<T> + Send) -> io::Result<(OwnedFd, T)> {
    on_thread(|| {
        // SAFETY: a network namespace belongs to this thread alone and nothing but sockets and /proc/net depends on
        // it; descriptors are not unshared.
        unsafe { unshare_unsafe(UnshareFlags::NEWNET) }?;
        let namespace = File::open("/proc/thread-self/ns/net")?;
        Ok((namespace.into(), inside()?))
    })
}

/// Runs `inside` on a short-lived thread in an existing network namespace. Needs `CAP_SYS_ADMIN`.
///
/// # Errors
/// When the descriptor is no network namespace, the thread cannot be made, or what `inside` returns.
pub fn in_network<T: Send>(namespace: BorrowedFd<'_>, inside: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    on_thread(|| {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
        inside()
    })
}

fn on_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("namespace".into()).stack_size(STACK).spawn_scoped(scope, work)?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn here() -> io::Result<std::path::PathBuf> {
        std::fs::read_link("/proc/thread-self/ns/net")
    }

    #[test]
    fn the_caller_stays_where_it_is() {
        let before = here().unwrap();
        let (namespace, inside) = new_network(here).unwrap();
        assert_ne!(inside, before);
        assert_eq!(here().unwrap(), before);
        assert_eq!(in_network(namespace.as_fd(), here).unwrap(), inside);
        assert_eq!(here().unwrap(), before);
    }

    #[test]
    fn errors_come_back() {
        let error = new_network(|| Err::<(), _>(io::Error::other("no"))).unwrap_err();
        assert_eq!(error.to_string(), "no");
        let file = tempfile::tempfile().unwrap();
        assert!(in_network(file.as_fd(), || Ok(())).is_err());
    }
}
