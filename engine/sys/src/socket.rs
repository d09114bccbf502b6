//! Datagrams with descriptors over `SOCK_SEQPACKET` sockets.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};

/// The most descriptors that [`send`] and [`receive`] handle at once.
pub const MAX_DESCRIPTORS: usize = 200;

const ANCILLARY_LEN: usize = rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS));

/// Two connected sockets.
///
/// # Errors
/// What the kernel says: no more descriptors or memory.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// A socket that listens at a path of any length; the path must not exist. `mode` is the access mode of the new file.
///
/// # Errors
/// What the kernel says; `EADDRINUSE` when the path exists.
pub fn listen(path: &Path, mode: u32) -> io::Result<OwnedFd> {
    listen_as(SocketType::SEQPACKET, path, mode)
}

/// As [`listen`], for streams.
///
/// # Errors
/// As [`listen`].
pub fn listen_stream(path: &Path, mode: u32) -> io::Result<OwnedFd> {
    listen_as(SocketType::STREAM, path, mode)
}

fn listen_as(kind: SocketType, path: &Path, mode: u32) -> io::Result<OwnedFd> {
    let socket = rustix::net::socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?;
    // Set on the socket, so that the file is never there with a wider mode than the one that was asked for.
    rustix::fs::fchmod(&socket, rustix::fs::Mode::from_raw_mode(mode))?;
    with_short_address(path, |address| rustix::net::bind(&socket, address))?;
    rustix::net::listen(&socket, 64)?;
    Ok(socket)
}

/// Has the kernel keep more of what is sent until it is read, in bytes: as much as is asked for with `CAP_NET_ADMIN`, and else as much as
/// the system allows anyone.
///
/// # Errors
/// When it is no socket.
pub fn enlarge_send_buffer(socket: impl AsFd, size: usize) -> io::Result<()> {
    use rustix::net::sockopt;
    let socket = socket.as_fd();
    Ok(sockopt::set_socket_send_buffer_size_force(socket, size)
        .or_else(|_| sockopt::set_socket_send_buffer_size(socket, size))?)
}

/// How much of what was written to a UNIX socket its peer has not read yet; 0 when all was. What the kernel adds is counted too.
///
/// # Errors
/// When it is no socket.
pub fn unread(socket: impl AsFd) -> io::Result<u32> {
    let mut left: libc::c_int = 0;
    // SAFETY: the request writes one int to the address, which is that of one.
    let result = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut left) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(u32::try_from(left).unwrap_or(0)) }
}

/// Connects to a socket that listens at a path of any length.
///
/// # Errors
/// What the kernel says; `ECONNREFUSED` when nobody listens there any more, `ENOENT` when there is no such path.
pub fn connect(path: &Path) -> io::Result<OwnedFd> {
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    with_short_address(path, |address| rustix::net::connect(&socket, address))?;
    Ok(socket)
}

/// Connects to a stream socket that listens at a path of any length.
///
/// # Errors
/// As [`connect`].
pub fn connect_stream(path: &Path) -> io::Result<OwnedFd> {
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    with_short_address(path, |address| rustix::net::connect(&socket, address))?;
    Ok(socket)
}

/// An address holds 107 bytes; a longer path is reached through the descriptor of its directory.
fn with_short_address(path: &Path, then: impl Fn(&SocketAddrUnix) -> rustix::io::Result<()>) -> io::Result<()> {
    if let Ok(address) = SocketAddrUnix::new(path) {
        return Ok(then(&address)?);
    }
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let directory = rustix::fs::open(
        parent,
        rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )?;
    let number = std::os::fd::AsRawFd::as_raw_fd(&directory);
    let short = Path::new("/proc/self/fd").join(number.to_string()).join(name);
    Ok(then(&SocketAddrUnix::new(&short)?)?)
}

/// Sends one datagram; never raises `SIGPIPE` and, with `wait` false, never blocks.
///
/// # Errors
/// What the kernel says; `EPIPE` when the other side is gone, `EAGAIN` when it does not read.
pub fn send(socket: impl AsFd, bytes: &[u8], descriptors: &[BorrowedFd<'_>], wait: bool) -> io::Result<()> {
    if descriptors.len() > MAX_DESCRIPTORS {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut flags = SendFlags::NOSIGNAL;
    if !wait {
        flags |= SendFlags::DONTWAIT;
    }
    let mut space = [MaybeUninit::uninit(); ANCILLARY_LEN];
    loop {
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        match rustix::net::sendmsg(socket.as_fd(), &[IoSlice::new(bytes)], &mut ancillary, flags) {
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Receives one datagram and its descriptors (close-on-exec); a length of 0 is the end of the connection, by a reset as
/// well.
///
/// The kernel looks for a datagram first and for the end afterwards: one that is sent and the end behind it can come
/// between both, and an end is told while something waits. A reset is told before what came ahead of it, too, and may be seen only
/// after the end that it is. Nothing comes after either, so that the third look is right.
///
/// # Errors
/// What the kernel says; `EAGAIN` when nothing is there and `wait` is false; [`io::ErrorKind::InvalidData`] when the
/// datagram does not fit `buffer` or carries too many descriptors.
pub fn receive(socket: impl AsFd, buffer: &mut [u8], wait: bool) -> io::Result<(usize, Vec<OwnedFd>)> {
    let socket = socket.as_fd();
    for _ in 0..2 {
        match look(socket, buffer, wait) {
            Ok((0, _)) => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
            received => return received,
        }
    }
    match look(socket, buffer, wait) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok((0, Vec::new())),
        received => received,
    }
}

fn look(socket: BorrowedFd<'_>, buffer: &mut [u8], wait: bool) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut flags = RecvFlags::CMSG_CLOEXEC;
    if !wait {
        flags |= RecvFlags::DONTWAIT;
    }
    let mut space = [MaybeUninit::uninit(); ANCILLARY_LEN];
    loop {
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = match rustix::net::recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut ancillary, flags) {
            Ok(received) => received,
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        };
        let mut descriptors = Vec::new();
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                descriptors.extend(rights);
            }
        }
        if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        return Ok((received.bytes, descriptors));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_datagram_brings_its_descriptors() {
        let (here, there) = pair().unwrap();
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        send(&here, b"hello", &[writer.as_fd()], false).unwrap();
        drop(writer);
        let mut buffer = [0; 16];
        let (length, descriptors) = receive(&there, &mut buffer, false).unwrap();
        assert_eq!(&buffer[..length], b"hello");
        assert_eq!(descriptors.len(), 1);
        rustix::io::write(&descriptors[0], b"x").unwrap();
        assert_eq!(rustix::io::read(&reader, &mut buffer).unwrap(), 1);
    }

    #[test]
    fn a_datagram_that_does_not_fit_is_refused() {
        let (here, there) = pair().unwrap();
        send(&here, b"hello", &[], false).unwrap();
        assert_eq!(receive(&there, &mut [0; 4], false).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(receive(&there, &mut [0; 4], false).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(here);
        assert_eq!(receive(&there, &mut [0; 4], false).unwrap().0, 0);
        assert_eq!(send(&there, b"x", &[], false).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn nothing_is_lost_to_an_end_or_a_reset_behind_it() {
        let (give, take) = std::sync::mpsc::sync_channel::<OwnedFd>(0);
        let sender = std::thread::spawn(move || {
            for socket in take {
                send(&socket, b"last", &[], false).unwrap();
            }
        });
        let mut buffer = [0; 8];
        for round in 0..50_000 {
            let (ours, theirs) = pair().unwrap();
            if round % 2 == 0 {
                // What the other side does not read makes its end a reset.
                send(&ours, b"unread", &[], false).unwrap();
            }
            give.send(theirs).unwrap();
            // By turns, since both ways to wait have the gap.
            let length = loop {
                match receive(&ours, &mut buffer, round % 4 < 2) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    received => break received.unwrap().0,
                }
            };
            assert_eq!(&buffer[..length], b"last", "round {round}");
            assert_eq!(receive(&ours, &mut buffer, true).unwrap().0, 0);
        }
        drop(give);
        sender.join().unwrap();
    }

    #[test]
    fn long_paths_are_listened_on_and_connected_to() {
        let directory = tempfile::tempdir().unwrap();
        let deep = directory.path().join("a".repeat(120));
        std::fs::create_dir(&deep).unwrap();
        let path = deep.join("socket");
        assert_eq!(connect(&path).unwrap_err().kind(), io::ErrorKind::NotFound);
        let listener = listen(&path, 0o600).unwrap();
        let client = connect(&path).unwrap();
        let accepted = rustix::net::accept(&listener).unwrap();
        send(&client, b"x", &[], false).unwrap();
        assert_eq!(receive(&accepted, &mut [0; 4], false).unwrap().0, 1);
        assert_eq!(
            std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions()) & 0o777,
            0o600
        );
        drop((listener, accepted));
        // A process that another thread is just starting has a copy of the listener until it is another program.
        let refused = (0..5000).find_map(|_| {
            std::thread::sleep(std::time::Duration::from_millis(1));
            connect(&path).err()
        });
        assert_eq!(refused.unwrap().kind(), io::ErrorKind::ConnectionRefused);
    }
}
