//! A connection to the monitor of one container, and the exit record that the monitor leaves behind.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use engine_sys::socket;

use crate::protocol::{Event, MAX_MESSAGE, Request};

/// Why a monitor could not be talked to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MonitorError {
    /// The socket could not be connected to.
    #[error("cannot connect to the monitor at {}: {source}", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A request could not be sent; `EPIPE` when the monitor is gone.
    #[error("cannot send the monitor a request: {0}")]
    Send(#[source] io::Error),
    /// An event could not be received.
    #[error("cannot receive from the monitor: {0}")]
    Receive(#[source] io::Error),
    /// The request is longer than a message may be.
    #[error("the request is longer than {MAX_MESSAGE} bytes")]
    TooLong,
    /// The monitor spoke another version of the protocol.
    #[error("the monitor sent a message that this version does not understand")]
    Unintelligible,
    /// An exit record could not be read.
    #[error("cannot read the exit record in {}: {source}", directory.display())]
    ExitRecord {
        /// The container's run directory.
        directory: PathBuf,
        /// What the kernel said, or that the record makes no sense.
        source: io::Error,
    },
}

/// A connection to one monitor.
///
/// The descriptor becomes readable when [`Monitor::try_receive`] has something to return.
#[derive(Debug)]
pub struct Monitor {
    socket: OwnedFd,
}

impl Monitor {
    pub(crate) fn from_socket(socket: OwnedFd) -> Self {
        Self { socket }
    }

    /// Connects to the monitor that listens at this path; `None` when nobody listens there any more.
    ///
    /// # Errors
    /// [`MonitorError::Connect`].
    pub fn connect(socket_path: &Path) -> Result<Option<Self>, MonitorError> {
        match socket::connect(socket_path) {
            Ok(socket) => Ok(Some(Self { socket })),
            Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound) => {
                Ok(None)
            }
            Err(source) => Err(MonitorError::Connect { path: socket_path.to_path_buf(), source }),
        }
    }

    /// The socket, to be polled.
    #[must_use]
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Sends a request and its descriptors, which may be closed afterwards. Does not wait for an answer.
    ///
    /// # Errors
    /// [`MonitorError::Send`], [`MonitorError::TooLong`].
    pub fn send(&self, request: &Request<'_>, descriptors: &[BorrowedFd<'_>]) -> Result<(), MonitorError> {
        let mut buffer = [0; MAX_MESSAGE];
        let length = request.encode(&mut buffer).ok_or(MonitorError::TooLong)?;
        socket::send(&self.socket, &buffer[..length], descriptors, true).map_err(MonitorError::Send)
    }

    /// The next event and its descriptors, if one is there. The end of the connection is [`Event::Closed`], again and
    /// again.
    ///
    /// # Errors
    /// [`MonitorError::Receive`], [`MonitorError::Unintelligible`].
    pub fn try_receive(&self) -> Result<Option<(Event, Vec<OwnedFd>)>, MonitorError> {
        match self.next(false) {
            Err(MonitorError::Receive(error)) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            other => other.map(Some),
        }
    }

    /// Waits for the next event and its descriptors. The socket must not have been made nonblocking.
    ///
    /// # Errors
    /// [`MonitorError::Receive`], [`MonitorError::Unintelligible`].
    pub fn receive(&self) -> Result<(Event, Vec<OwnedFd>), MonitorError> {
        self.next(true)
    }

    fn next(&self, wait: bool) -> Result<(Event, Vec<OwnedFd>), MonitorError> {
        let mut buffer = [0; 256];
        let (length, descriptors) = match socket::receive(&self.socket, &mut buffer, wait) {
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok((Event::Closed {}, Vec::new())),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => return Err(MonitorError::Unintelligible),
            Err(error) => return Err(MonitorError::Receive(error)),
        };
        if length == 0 {
            return Ok((Event::Closed {}, Vec::new()));
        }
        let event = Event::decode(&buffer[..length]).ok_or(MonitorError::Unintelligible)?;
        Ok((event, descriptors))
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// How a container ended: written by its monitor before anybody is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExitRecord {
    /// The exit code; 128 and the signal's number when a signal killed it.
    pub code: i32,
    /// The kernel killed a process of the container for lack of memory.
    pub oom_killed: bool,
    /// When, in nanoseconds since 1970.
    pub at_nanos: u64,
}

impl ExitRecord {
    /// The name of the file in the container's run directory.
    pub const FILE_NAME: &str = "exit";

    /// Reads the record of a container from its run directory; `None` when there is none (yet).
    ///
    /// # Errors
    /// [`MonitorError::ExitRecord`].
    pub fn read(directory: &Path) -> Result<Option<Self>, MonitorError> {
        let failed = |source| MonitorError::ExitRecord { directory: directory.to_path_buf(), source };
        let mut text = String::new();
        match File::open(directory.join(Self::FILE_NAME)) {
            Ok(file) => file.take(256).read_to_string(&mut text).map_err(failed)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        Self::parse(&text).map(Some).ok_or_else(|| failed(io::ErrorKind::InvalidData.into()))
    }

    /// A record is a line of a version, the code, 0 or 1, and the time.
    fn parse(text: &str) -> Option<Self> {
        let mut words = text.strip_suffix('\n')?.split(' ');
        let (version, code, oom, at) = (words.next()?, words.next()?, words.next()?, words.next()?);
        if version != "1" || words.next().is_some() {
            return None;
        }
        let oom_killed = match oom {
            "0" => false,
            "1" => true,
            _ => return None,
        };
        Some(Self { code: code.parse().ok()?, oom_killed, at_nanos: at.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn exit_records_are_read_and_damaged_ones_refused() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(ExitRecord::read(directory.path()).unwrap(), None);
        let file = directory.path().join(ExitRecord::FILE_NAME);
        std::fs::write(&file, "1 137 1 1700000000000000001\n").unwrap();
        let record = ExitRecord { code: 137, oom_killed: true, at_nanos: 1_700_000_000_000_000_001 };
        assert_eq!(ExitRecord::read(directory.path()).unwrap(), Some(record));
        for bad in ["", "1 137 1 17", "2 0 0 1\n", "1 0 2 1\n", "1 0 0 1 1\n", "1  0 1\n"] {
            std::fs::write(&file, bad).unwrap();
            assert!(ExitRecord::read(directory.path()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn nobody_listening_is_no_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        assert!(Monitor::connect(&path).unwrap().is_none());
        drop(socket::listen(&path, 0o600).unwrap());
        assert!(Monitor::connect(&path).unwrap().is_none());
    }

    /// A monitor of a later release says more and knows what was said before; it is not to be taken for dead.
    #[test]
    fn a_monitor_of_another_release_is_heard() {
        let (ours, theirs) = socket::pair().unwrap();
        let monitor = Monitor::from_socket(ours);
        let mut buffer = [0; 256];
        let length = Event::ExecExited { id: 7, code: 3 }.encode(&mut buffer).unwrap();
        buffer[8] += 4;
        socket::send(&theirs, &buffer[..length + 4], &[], false).unwrap();
        buffer[6] = 0xc7;
        socket::send(&theirs, &buffer[..length + 4], &[], false).unwrap();
        assert_eq!(monitor.receive().unwrap().0, Event::ExecExited { id: 7, code: 3 });
        assert_eq!(monitor.receive().unwrap().0, Event::Unknown {});
    }

    #[test]
    fn events_come_as_they_are_sent_and_then_the_end() {
        let (ours, theirs) = socket::pair().unwrap();
        let monitor = Monitor::from_socket(ours);
        assert!(monitor.try_receive().unwrap().is_none());
        let mut buffer = [0; 256];
        let length = Event::ExecExited { id: 7, code: 3 }.encode(&mut buffer).unwrap();
        socket::send(&theirs, &buffer[..length], &[], false).unwrap();
        socket::send(&theirs, b"nonsense", &[], false).unwrap();
        drop(theirs);
        assert_eq!(monitor.try_receive().unwrap().unwrap().0, Event::ExecExited { id: 7, code: 3 });
        assert!(matches!(monitor.try_receive(), Err(MonitorError::Unintelligible)));
        assert_eq!(monitor.try_receive().unwrap().unwrap().0, Event::Closed {});
        assert_eq!(monitor.receive().unwrap().0, Event::Closed {});
    }
}
