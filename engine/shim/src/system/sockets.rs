//! Sockets: datagrams with descriptors.

use core::mem::MaybeUninit;

use super::{Descriptor, Errno, O_CLOEXEC, O_NONBLOCK, Result, call, number, outcome};

const AF_UNIX: usize = 1;
const SOCK_SEQPACKET_CLOEXEC: usize = 5 | O_CLOEXEC as usize;
const MSG_CTRUNC: i32 = 0x08;
const MSG_TRUNC: i32 = 0x20;
const MSG_DONTWAIT: i32 = 0x40;
const MSG_NOSIGNAL: i32 = 0x4000;
const MSG_CMSG_CLOEXEC: i32 = 0x4000_0000;
const SOL_SOCKET: i32 = 1;
const SCM_RIGHTS: i32 = 1;
/// The most descriptors in one message.
pub(crate) const MAX_RIGHTS: usize = 200;

pub(crate) fn socket_pair() -> Result<(Descriptor, Descriptor)> {
    let mut ends = [0i32; 2];
    syscall!(SOCKETPAIR, AF_UNIX, SOCK_SEQPACKET_CLOEXEC, 0, ends.as_mut_ptr())?;
    Ok((ends[0], ends[1]))
}

pub(crate) fn accept(listener: Descriptor) -> Result<Descriptor> {
    syscall!(ACCEPT4, listener, 0, 0, O_CLOEXEC | O_NONBLOCK).map(|accepted| accepted as Descriptor)
}

/// The user who connected.
pub(crate) fn peer_uid(socket: Descriptor) -> Result<u32> {
    const SO_PEERCRED: usize = 17;
    let mut credentials = [0u32; 3];
    let mut length = size_of_val(&credentials) as u32;
    syscall!(GETSOCKOPT, socket, SOL_SOCKET, SO_PEERCRED, credentials.as_mut_ptr(), &raw mut length)?;
    Ok(credentials[1])
}

/// Lets so many bytes be on their way to a peer that does not read at the moment. Without the right to it less may.
pub(crate) fn enlarge_queue(socket: Descriptor, bytes: i32) {
    const SO_SNDBUFFORCE: usize = 32;
    let _ = syscall!(SETSOCKOPT, socket, SOL_SOCKET, SO_SNDBUFFORCE, &raw const bytes, size_of::<i32>());
}

/// Ends the writing side of a connection.
pub(crate) fn shut_down_writing(socket: Descriptor) {
    const SHUT_WR: usize = 1;
    let _ = syscall!(SHUTDOWN, socket, SHUT_WR);
}

#[repr(C)]
struct Vector {
    start: *mut u8,
    length: usize,
}

#[repr(C)]
struct Header {
    name: *mut u8,
    name_length: u32,
    vectors: *mut Vector,
    vector_count: usize,
    control: *mut u8,
    control_length: usize,
    flags: i32,
}

#[repr(C)]
struct Control {
    length: usize,
    level: i32,
    kind: i32,
    rights: [Descriptor; MAX_RIGHTS],
}

/// Sends one datagram (or what a stream takes) without blocking and without `SIGPIPE`.
pub(crate) fn send(socket: Descriptor, bytes: &[u8], rights: &[Descriptor]) -> Result<usize> {
    let mut vector = Vector { start: bytes.as_ptr().cast_mut(), length: bytes.len() };
    let mut control = MaybeUninit::<[usize; 4]>::uninit();
    let mut header = Header {
        name: core::ptr::null_mut(),
        name_length: 0,
        vectors: &raw mut vector,
        vector_count: 1,
        control: core::ptr::null_mut(),
        control_length: 0,
        flags: 0,
    };
    if let Some(&first) = rights.first() {
        // One descriptor is all that this program ever sends.
        let second = rights.get(1).copied();
        let length = 16 + 4 * (1 + usize::from(second.is_some()));
        control.write([
            length,
            SOL_SOCKET as usize | (SCM_RIGHTS as usize) << 32,
            first as u32 as usize | (second.unwrap_or(0) as u32 as usize) << 32,
            0,
        ]);
        header.control = control.as_mut_ptr().cast();
        header.control_length = 24;
    }
    loop {
        match syscall!(SENDMSG, socket, &raw mut header, MSG_DONTWAIT | MSG_NOSIGNAL) {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

/// What came with a datagram.
#[derive(Debug)]
pub(crate) struct Received {
    /// Bytes; 0 is the end of the connection.
    pub(crate) length: usize,
    /// Descriptors, close-on-exec.
    pub(crate) rights: usize,
    /// Something did not fit; the descriptors that did are open nevertheless.
    pub(crate) truncated: bool,
}

/// Receives one datagram and its descriptors.
///
/// The kernel looks for a datagram first and for the end afterwards: one that is sent and the end behind it can come
/// between both, and an end is told while something waits. A reset is told before what came ahead of it, too, and may be seen only
/// after the end that it is. Nothing comes after either, so that the third look is right, where a reset is the end as well.
pub(crate) fn receive(
    socket: Descriptor,
    buffer: &mut [u8],
    rights: &mut [Descriptor; MAX_RIGHTS],
    wait: bool,
) -> Result<Received> {
    for _ in 0..2 {
        match look(socket, buffer, rights, wait) {
            Ok(Received { length: 0, .. }) | Err(Errno::CONNRESET) => {}
            received => return received,
        }
    }
    match look(socket, buffer, rights, wait) {
        Err(Errno::CONNRESET) => Ok(Received { length: 0, rights: 0, truncated: false }),
        received => received,
    }
}

fn look(socket: Descriptor, buffer: &mut [u8], rights: &mut [Descriptor; MAX_RIGHTS], wait: bool) -> Result<Received> {
    let mut vector = Vector { start: buffer.as_mut_ptr(), length: buffer.len() };
    let mut control = Control { length: 0, level: 0, kind: 0, rights: [-1; MAX_RIGHTS] };
    let mut header = Header {
        name: core::ptr::null_mut(),
        name_length: 0,
        vectors: &raw mut vector,
        vector_count: 1,
        control: (&raw mut control).cast(),
        control_length: size_of::<Control>(),
        flags: 0,
    };
    let flags = MSG_CMSG_CLOEXEC | if wait { 0 } else { MSG_DONTWAIT };
    let length = loop {
        match syscall!(RECVMSG, socket, &raw mut header, flags) {
            Err(Errno::INTR) => {}
            other => break other?,
        }
    };
    let mut count = 0;
    if header.control_length >= 16 && control.level == SOL_SOCKET && control.kind == SCM_RIGHTS {
        count = (control.length.saturating_sub(16) / 4).min(MAX_RIGHTS);
        rights[..count].copy_from_slice(&control.rights[..count]);
    }
    Ok(Received { length, rights: count, truncated: header.flags & (MSG_TRUNC | MSG_CTRUNC) != 0 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::close;
    use std::sync::mpsc;

    #[test]
    fn nothing_is_lost_to_an_end_or_a_reset_behind_it() {
        let (give, take) = mpsc::sync_channel::<Descriptor>(0);
        let sender = std::thread::spawn(move || {
            for socket in take {
                send(socket, b"last", &[]).unwrap();
                close(socket);
            }
        });
        let mut buffer = [0; 8];
        let mut rights = [-1; MAX_RIGHTS];
        for round in 0..50_000 {
            let (ours, theirs) = socket_pair().unwrap();
            if round % 2 == 0 {
                // What the other side does not read makes its end a reset.
                send(ours, b"unread", &[]).unwrap();
            }
            give.send(theirs).unwrap();
            let length = loop {
                match receive(ours, &mut buffer, &mut rights, false) {
                    Err(Errno::AGAIN) => {}
                    received => break received.unwrap().length,
                }
            };
            assert_eq!(&buffer[..length], b"last", "round {round}");
            assert_eq!(receive(ours, &mut buffer, &mut rights, true).unwrap().length, 0);
            close(ours);
        }
        drop(give);
        sender.join().unwrap();
    }
}
