//! The terminal of a container whose caller wants to have it: its master goes through the caller's socket.

use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;

use engine_sys::socket;

use super::failure::Failure;

/// A console socket that was connected to.
#[derive(Debug)]
pub(super) struct Socket {
    stream: UnixStream,
}

impl Socket {
    /// Connects to the socket that was asked for. `detach`: nobody stays to serve a terminal.
    pub(super) fn asked(path: Option<&str>, detach: bool, terminal: bool) -> Result<Option<Self>, Failure> {
        match path {
            None if detach && terminal => {
                Err(Failure::new("cannot allocate tty if runc will detach without setting console socket"))
            }
            None => Ok(None),
            Some(_) if !detach || !terminal => {
                Err(Failure::new("cannot use console socket if runc will not detach or allocate tty"))
            }
            Some(path) => {
                let stream =
                    UnixStream::connect(path).map_err(Failure::io(format!("connect to the console socket {path}")))?;
                Ok(Some(Self { stream }))
            }
        }
    }

    /// Sends the master of a terminal, with the name that it was opened by.
    pub(super) fn send(&self, master: BorrowedFd<'_>) -> Result<(), Failure> {
        socket::send(&self.stream, b"/dev/ptmx", &[master], true).map_err(Failure::io("send the terminal"))
    }
}
