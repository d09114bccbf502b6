//! Where the daemon listens: unix sockets with a group, and those of a service manager.
//!
//! There is no TCP. Whoever can connect is root on this host, and a port, even on the loopback address, can be reached by every
//! user and by every page in a browser. A remote client comes by `ssh`.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use nix::unistd::{Gid, Group};
use rustix::net::AddressFamily;
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

use crate::directives::Invalid;

/// The group that sockets have when none is named.
const GROUP: &str = "engine";
/// What users outside the group may do: nothing.
const MODE: u32 = 0o660;

/// One address to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    /// A socket of our own.
    Unix(PathBuf),
    /// The sockets that the service manager has made.
    Activated,
}

impl FromStr for Address {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if text.starts_with("tcp://") {
            return Err(Invalid(format!(
                "invalid host {text}: this daemon does not listen on TCP, as whoever reached the port would be root; use ssh to come from afar"
            )));
        }
        if text == "fd://" {
            return Ok(Self::Activated);
        }
        match text.strip_prefix("unix://") {
            Some(path) if path.starts_with('/') => Ok(Self::Unix(path.into())),
            _ => Err(Invalid(format!("invalid host {text}: use unix:// and an absolute path, or fd://"))),
        }
    }
}

/// What went wrong with an address.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A step on the way to a socket failed.
    #[error("can't create unix socket {path}: {what}: {source}")]
    Unix {
        /// Where.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// Somebody listens there.
    #[error("can't create unix socket {0}: another daemon listens on it")]
    InUse(PathBuf),
    /// Something is there that is not ours to replace.
    #[error("can't create unix socket {0}: there is a file that is not a socket, remove it first")]
    NotASocket(PathBuf),
    /// The group that was named.
    #[error("could not change group of the sockets to {0}: no such group")]
    NoGroup(String),
    /// `fd://` without a service manager.
    #[error("no sockets found via socket activation: make sure the service was started by its socket unit")]
    NotActivated,
    /// The service manager's sockets.
    #[error("the socket {0} of the service manager cannot be used: {1}")]
    Activated(i32, io::Error),
}

/// A socket that is listened on; one of our own is removed when this is dropped.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: UnixListener,
    place: Option<Place>,
}

/// The file of a socket, told apart from one that another daemon has put there since.
#[derive(Debug)]
pub(crate) struct Place {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        let ours = |file: std::fs::Metadata| file.dev() == self.device && file.ino() == self.inode;
        if std::fs::symlink_metadata(&self.path).is_ok_and(ours) {
            // Nobody is left who could use an error.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl Listener {
    /// The socket, not blocking, and its file, to be dropped when it is closed.
    pub(crate) fn into_parts(self) -> io::Result<(UnixListener, Option<Place>)> {
        self.socket.set_nonblocking(true)?;
        Ok((self.socket, self.place))
    }
}

/// Listens on all addresses, or on none when one fails.
pub(crate) fn listen(addresses: &[Address], group: Option<&str>) -> Result<Vec<Listener>, Error> {
    let mut listeners = Vec::new();
    for address in addresses {
        match address {
            Address::Unix(path) => listeners.push(bind(path, find_group(group)?)?),
            Address::Activated => listeners.extend(activated()?),
        }
    }
    Ok(listeners)
}

fn find_group(name: Option<&str>) -> Result<Option<Gid>, Error> {
    let lookup = |name: &str| Group::from_name(name).ok().flatten().map(|group| group.gid);
    match name {
        None => Ok(lookup(GROUP)),
        Some(name) => match name.parse() {
            Ok(number) => Ok(Some(Gid::from_raw(number))),
            Err(_) => lookup(name).map(Some).ok_or_else(|| Error::NoGroup(name.to_owned())),
        },
    }
}

/// Makes the socket under a name of its own, with its rights, and only then puts it in its place.
fn bind(path: &Path, group: Option<Gid>) -> Result<Listener, Error> {
    let failed = |what, source: io::Error| Error::Unix { path: path.to_owned(), what, source };
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).map_err(|error| failed("make its directory", error))?;
    }
    check_vacant(path)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", std::process::id()));
    let temporary = path.with_file_name(name);
    let socket = UnixListener::bind(&temporary).map_err(|error| failed("bind", error))?;
    let place = || {
        std::fs::set_permissions(&temporary, std::fs::Permissions::from_mode(MODE))
            .map_err(|error| failed("set its mode", error))?;
        if let Some(group) = group {
            std::os::unix::fs::chown(&temporary, None, Some(group.as_raw()))
                .map_err(|error| failed("set its group", error))?;
        }
        let file = std::fs::symlink_metadata(&temporary).map_err(|error| failed("look at it", error))?;
        std::fs::rename(&temporary, path).map_err(|error| failed("put it in its place", error))?;
        Ok(Place { path: path.to_owned(), device: file.dev(), inode: file.ino() })
    };
    match place() {
        Ok(place) => Ok(Listener { socket, place: Some(place) }),
        Err(error) => {
            let _ = std::fs::remove_file(&temporary);
            Err(error)
        }
    }
}

/// A socket that nobody listens on any more may be replaced, and nothing else.
fn check_vacant(path: &Path) -> Result<(), Error> {
    let failed = |what, source| Error::Unix { path: path.to_owned(), what, source };
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("look at what is there", error)),
        Ok(file) if !file.file_type().is_socket() => return Err(Error::NotASocket(path.to_owned())),
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(Error::InUse(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed("see whether somebody listens on it", error)),
    }
}

/// The sockets of the service manager. They are duplicated, which needs no trust in their numbers.
fn activated() -> Result<Vec<Listener>, Error> {
    let numbers = sd_notify::listen_fds().map_err(|_| Error::NotActivated)?;
    let listeners: Vec<_> = numbers
        .map(|number| adopt(number).map_err(|error| Error::Activated(number, error)))
        .collect::<Result<_, _>>()?;
    if listeners.is_empty() { Err(Error::NotActivated) } else { Ok(listeners) }
}

fn adopt(number: i32) -> io::Result<Listener> {
    let own = pidfd_open(getpid(), PidfdFlags::empty())?;
    let socket: OwnedFd = pidfd_getfd(&own, number, PidfdGetfdFlags::empty())?;
    if rustix::net::sockopt::socket_domain(socket.as_fd())? != AddressFamily::UNIX {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a unix socket"));
    }
    if !rustix::net::sockopt::socket_acceptconn(socket.as_fd())? {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it does not listen"));
    }
    Ok(Listener { socket: socket.into(), place: None })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::fd::AsRawFd;

    fn listen_at(path: &Path) -> Result<Vec<Listener>, Error> {
        listen(&[Address::Unix(path.to_owned())], Some("0"))
    }

    #[test]
    fn addresses_are_unix_paths_or_the_service_managers() {
        assert_eq!("unix:///a/b".parse(), Ok(Address::Unix("/a/b".into())));
        assert_eq!("fd://".parse(), Ok(Address::Activated));
        for text in ["tcp://127.0.0.1:2375", "unix://@abstract", "unix://relative", "/a", "npipe:////./x", "fd://3"] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_socket_has_its_rights_and_goes_with_its_listener() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new/engine.sock");
        let listeners = listen_at(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o660);
        UnixStream::connect(&path).unwrap();
        drop(listeners);
        assert!(!path.exists());
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 0);
    }

    #[test]
    fn only_a_dead_socket_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("engine.sock");
        drop(UnixListener::bind(&path).unwrap());
        let first = listen_at(&path).unwrap();
        assert!(matches!(listen_at(&path), Err(Error::InUse(_))));
        std::fs::remove_file(&path).unwrap();
        let second = listen_at(&path).unwrap();
        drop(first);
        UnixStream::connect(&path).unwrap();
        drop(second);
        std::fs::write(&path, "text").unwrap();
        assert!(matches!(listen_at(&path), Err(Error::NotASocket(_))));
        assert_eq!(std::fs::read(&path).unwrap(), b"text");
    }

    #[test]
    fn a_group_that_does_not_exist_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let address = [Address::Unix(directory.path().join("s"))];
        assert!(matches!(listen(&address, Some("no such group")), Err(Error::NoGroup(_))));
    }

    #[test]
    fn only_listening_unix_sockets_are_adopted() {
        let directory = tempfile::tempdir().unwrap();
        let socket = UnixListener::bind(directory.path().join("s")).unwrap();
        assert!(adopt(socket.as_raw_fd()).is_ok());
        let (pair, _other) = UnixStream::pair().unwrap();
        assert!(adopt(pair.as_raw_fd()).is_err());
        assert!(adopt(std::fs::File::open("/dev/null").unwrap().as_raw_fd()).is_err());
    }
}
