//! Network and mount namespaces, made and entered on threads of their own, so that no other thread ever changes its
//! namespace, and user namespaces that nobody is in.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread;

use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::thread::{
    LinkNameSpaceType, ThreadNameSpaceType, UnshareFlags, move_into_link_name_space, move_into_thread_name_spaces,
    unshare_unsafe,
};

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

/// Runs `inside` on a short-lived thread in a mount namespace, given by its descriptor or by the pidfd of a process in it.
///
/// The thread's root directory is that of the namespace, whatever the process has made of its own by `chroot`. What is
/// opened there can be used by every thread. Needs `CAP_SYS_ADMIN` and `CAP_SYS_CHROOT`.
///
/// # Errors
/// `ESRCH` when the process is gone, when the thread cannot be made, or what `inside` returns.
pub fn in_mounts<T: Send>(of: BorrowedFd<'_>, inside: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    on_thread(|| {
        unshare_file_system()?;
        move_into_thread_name_spaces(of, ThreadNameSpaceType::MOUNT)?;
        inside()
    })
}

/// Makes a mount namespace with everything that is mounted here and runs `inside` in it, on a
/// short-lived thread. Nothing that is mounted there is seen here; what is unmounted here is unmounted there. The mounts live as
/// long as the descriptor of the namespace. Needs `CAP_SYS_ADMIN`.
///
/// # Errors
/// When the namespace or the thread cannot be made, or what `inside` returns.
pub fn new_mounts<T: Send>(inside: impl FnOnce() -> io::Result<T> + Send) -> io::Result<(OwnedFd, T)> {
    on_thread(|| {
        unshare_file_system()?;
        // SAFETY: a mount namespace belongs to this thread alone, and so do root and working directory by now;
        // descriptors are not unshared.
        unsafe { unshare_unsafe(UnshareFlags::NEWNS) }?;
        mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)?;
        let namespace = File::open("/proc/thread-self/ns/mnt")?;
        Ok((namespace.into(), inside()?))
    })
}

/// Makes a user namespace for the owners of a mount ([`crate::mount::map_owners`]). `users` and `groups` are lines of three numbers
/// as in `/proc/PID/uid_map`. It lives as long as the descriptor. Needs `CAP_SYS_ADMIN`, `CAP_SETUID` and `CAP_SETGID`.
///
/// # Errors
/// When the namespace cannot be made, or the kernel takes no such map.
pub fn new_users(users: &str, groups: &str) -> io::Result<OwnedFd> {
    let flags = libc::c_long::from(libc::CLONE_NEWUSER | libc::CLONE_FILES);
    // SAFETY: without a stack this is a fork whose child is in a new user namespace and does one thing: it ends. It shares
    // open files, so that nobody waits for the end of a pipe because of it, and its end is told by no signal.
    let child = unsafe {
        match libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) {
            0 => libc::_exit(0),
            child => child,
        }
    };
    if child < 0 {
        return Err(io::Error::last_os_error());
    }
    // Ended or not, it has its namespace until it is waited for.
    let of = |name: &str| format!("/proc/{child}/{name}");
    let mapped = std::fs::write(of("gid_map"), groups)
        .and_then(|()| std::fs::write(of("uid_map"), users))
        .and_then(|()| File::open(of("ns/user")));
    let child = libc::pid_t::try_from(child).map_err(io::Error::other)?;
    // SAFETY: no memory is passed; the child is this function's own.
    while unsafe { libc::waitpid(child, std::ptr::null_mut(), libc::__WALL) } < 0 {
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    Ok(mapped?.into())
}

fn unshare_file_system() -> io::Result<()> {
    // SAFETY: only root, working directory and umask are parted, on a thread that nobody else uses and that ends with
    // its task.
    Ok(unsafe { unshare_unsafe(UnshareFlags::FS) }?)
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
    fn a_namespace_of_users_has_its_maps_and_no_process() {
        for round in 0..20 {
            let users = new_users("0 1000 1\n5 7 2\n", "0 0 4294967295\n").unwrap();
            let kind =
                std::fs::read_link(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&users))).unwrap();
            assert!(kind.to_string_lossy().starts_with("user:"), "{round}: {kind:?}");
        }
        assert!(new_users("nonsense", "0 0 1\n").is_err());
        assert!(new_users("0 0 1\n0 5 1\n", "0 0 1\n").is_err());
        let children = std::fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
        assert_eq!(children, "");
    }

    #[test]
    fn mounts_are_the_threads_own() {
        let room = tempfile::tempdir().unwrap();
        let path = room.path().to_owned();
        let table = || std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        let (namespace, inside) = new_mounts(|| {
            let none = rustix::mount::MountFlags::empty();
            rustix::mount::mount("none", &path, "tmpfs", none, None)?;
            std::fs::write(path.join("file"), "inside")?;
            Ok((std::fs::File::open(&path)?, table()))
        })
        .unwrap();
        assert!(inside.1.contains(path.to_str().unwrap()));
        assert!(!table().contains(path.to_str().unwrap()) && !path.join("file").exists());
        let flags = rustix::fs::OFlags::RDONLY;
        rustix::fs::openat(&inside.0, "file", flags, rustix::fs::Mode::empty()).unwrap();
        drop(namespace);
    }

    #[test]
    fn the_mounts_of_a_process_are_seen_from_their_root() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let process = crate::process::open(child.id()).unwrap();
        let link = || std::fs::read_link("/proc/thread-self/ns/mnt");
        assert_eq!(in_mounts(process.as_fd(), link).unwrap(), link().unwrap());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(in_mounts(process.as_fd(), || Ok(())).is_err());
    }

    #[test]
    fn errors_come_back() {
        let error = new_network(|| Err::<(), _>(io::Error::other("no"))).unwrap_err();
        assert_eq!(error.to_string(), "no");
        let file = tempfile::tempfile().unwrap();
        assert!(in_network(file.as_fd(), || Ok(())).is_err());
    }
}
