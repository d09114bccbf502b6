//! The pidfd of a process, for a caller that waits at a socket for it.

use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;

use engine_sys::socket;

use super::Call;
use super::failure::Failure;
use super::flags::{Flag, value};

pub(super) const PIDFD_SOCKET: Flag = value(&["pidfd-socket"], "send a pidfd of the process to this socket");

/// What is sent with it, as `runc` has it: for the first process of a container, and for a further one.
pub(super) const FIRST: &str = "standard";
pub(super) const FURTHER: &str = "setns";

/// A socket that was connected to.
#[derive(Debug)]
pub(super) struct Receiver {
    stream: UnixStream,
}

impl Receiver {
    /// Connects to the socket that was asked for.
    pub(super) fn asked(call: &Call<'_>) -> Result<Option<Self>, Failure> {
        let Some(path) = call.given.get(PIDFD_SOCKET.names[0]) else { return Ok(None) };
        let stream = UnixStream::connect(path).map_err(Failure::io(format!("connect to the pidfd socket {path}")))?;
        Ok(Some(Self { stream }))
    }

    /// Sends the pidfd.
    pub(super) fn send(&self, text: &str, process: BorrowedFd<'_>) -> Result<(), Failure> {
        socket::send(&self.stream, text.as_bytes(), &[process], true).map_err(Failure::io("send the pidfd"))
    }
}
