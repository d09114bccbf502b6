//! A netlink socket that asks the kernel and takes its answers; it never waits, for the kernel answers within `send`.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendAncillaryBuffer, SendFlags, SocketFlags, SocketType, netlink};

mod attribute;
mod message;

pub use attribute::{Attribute, attributes, text, u32_be, u32_native};
pub use message::{ACK, CREATE, DUMP, EXCLUSIVE, Message, REPLACE, REQUEST};

/// The largest answer that the kernel puts into one datagram when there is room.
const DATAGRAM: usize = 32 << 10;
/// A bound on what one question may be answered with, in bytes.
const ANSWER: usize = 256 << 20;

/// A bound on what is asked at once, in bytes.
const MESSAGE: usize = 64 << 20;

const HEADER: usize = 16;
const KIND_ERROR: u16 = 2;
const KIND_DONE: u16 = 3;
const KIND_OVERRUN: u16 = 4;
const FLAG_ACK_TEXT: u16 = 0x200;
const FLAG_DUMP_INTERRUPTED: u16 = 0x10;

/// Reads what came in one datagram, and hands each message to `each` by its kind and content; false when there was a refusal. For
/// those who want to know what is made of foreign bytes.
pub fn read_datagram(bytes: &[u8], mut each: impl FnMut(u16, &[u8])) -> bool {
    let mut fine = true;
    for (header, content) in Datagram(bytes) {
        match header.kind {
            KIND_ERROR => fine &= read_error(0, &header, content).is_none_or(|error| error.to_string().is_empty()),
            KIND_DONE => fine &= read_end(content).is_none(),
            kind => each(kind, content),
        }
    }
    fine
}

/// Which part of the kernel is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Links, addresses and routes (`NETLINK_ROUTE`).
    Route,
    /// The packet filter (`NETLINK_NETFILTER`).
    Netfilter,
}

/// The kernel's refusal of one message.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.describe())]
pub struct Error {
    /// Which message it was, counted from 0.
    pub index: usize,
    /// Why.
    pub source: io::Error,
    /// The kernel's own words, when it has any.
    pub text: Option<String>,
}

impl Error {
    fn describe(&self) -> String {
        match &self.text {
            Some(text) => format!("{}: {text}", self.source),
            None => self.source.to_string(),
        }
    }

    /// Whether the kernel answered with this error number.
    pub fn is(&self, errno: Errno) -> bool {
        self.source.raw_os_error() == Some(errno.raw_os_error())
    }
}

impl From<Errno> for Error {
    fn from(errno: Errno) -> Self {
        Self { index: 0, source: errno.into(), text: None }
    }
}

/// A netlink socket. It belongs to the network namespace that it was opened in, for ever.
#[derive(Debug)]
pub struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Netlink {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.socket.as_raw_fd()
    }
}

impl Netlink {
    /// Opens one in the calling thread's network namespace.
    ///
    /// # Errors
    /// When the kernel has no such protocol.
    pub fn open(protocol: Protocol) -> io::Result<Self> {
        let number = match protocol {
            Protocol::Route => None,
            Protocol::Netfilter => Some(netlink::NETFILTER),
        };
        let flags = SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, number)?;
        let this = Self { socket, sequence: 0 };
        // Explanations with refusals, without the refused message itself.
        this.set(libc::NETLINK_EXT_ACK, 1)?;
        this.set(libc::NETLINK_CAP_ACK, 1)?;
        Ok(this)
    }

    /// Also receive what is announced to a multicast group; see [`Self::drain`].
    ///
    /// # Errors
    /// When there is no such group or it may not be listened to.
    pub fn join(&self, group: u32) -> io::Result<()> {
        // Without an address of its own it would be taken for the sender, the kernel, and skipped.
        rustix::net::bind(&self.socket, &netlink::SocketAddrNetlink::new(0, 0))?;
        self.set(libc::NETLINK_ADD_MEMBERSHIP, i32::try_from(group).map_err(|_| Errno::INVAL)?)
    }

    /// Throws away what was announced, and says whether there was anything. More than fit counts as something.
    ///
    /// # Errors
    /// When the socket failed.
    pub fn drain(&mut self) -> io::Result<bool> {
        let mut any = false;
        let mut buffer = Vec::with_capacity(DATAGRAM);
        loop {
            match self.receive(&mut buffer) {
                Ok(true) | Err(Errno::NOBUFS) => any = true,
                Ok(false) => return Ok(any),
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Sends all messages at once; the kernel works through them in order. Those with [`ACK`] are waited for.
    ///
    /// # Errors
    /// The first refusal. Later messages may have been carried out (routes) or all were undone (a netfilter batch).
    pub fn request(&mut self, messages: &mut [Message]) -> Result<(), Error> {
        self.exchange(messages, |_, _| {}).map(drop)
    }

    /// Sends one question and hands each message of the answer to `each`, by its kind and content.
    ///
    /// # Errors
    /// When the kernel refuses or answers without end.
    pub fn ask(&mut self, question: Message, each: impl FnMut(u16, &[u8])) -> Result<(), Error> {
        self.exchange(&mut [question], each).map(drop)
    }

    /// As [`Self::ask`], and asks again while the answer changed under way, but not for ever; `each` is told by `None`
    /// that the answer begins.
    ///
    /// # Errors
    /// When the kernel refuses or answers without end.
    pub fn dump(&mut self, question: &Message, mut each: impl FnMut(Option<(u16, &[u8])>)) -> Result<(), Error> {
        for _ in 0..4 {
            each(None);
            let whole = self.exchange(&mut [question.clone()], |kind, content| each(Some((kind, content))))?;
            if whole {
                break;
            }
        }
        Ok(())
    }

    /// False when the answer changed while it was given.
    fn exchange(&mut self, messages: &mut [Message], mut each: impl FnMut(u16, &[u8])) -> Result<bool, Error> {
        if messages.is_empty() {
            return Ok(true);
        }
        let first = self.sequence.wrapping_add(1);
        let mut awaited = 0usize;
        for message in messages.iter_mut() {
            self.sequence = self.sequence.wrapping_add(1);
            message.number(self.sequence);
            awaited += usize::from(message.is_answered());
        }
        self.send(messages)?;

        let mut refusal: Option<Error> = None;
        let mut whole = true;
        let mut taken = 0usize;
        let mut buffer = Vec::with_capacity(DATAGRAM);
        while self.receive(&mut buffer)? {
            taken += buffer.len();
            if taken > ANSWER {
                return Err(Errno::TOOBIG.into());
            }
            for (header, content) in Datagram(&buffer) {
                let index = header.sequence.wrapping_sub(first) as usize;
                if index >= messages.len() {
                    continue; // an answer to an earlier question that was given up
                }
                whole &= header.flags & FLAG_DUMP_INTERRUPTED == 0;
                match header.kind {
                    KIND_ERROR => {
                        awaited = awaited.saturating_sub(usize::from(messages[index].is_answered()));
                        let error = read_error(index, &header, content);
                        refusal = refusal.or(error);
                    }
                    KIND_DONE => {
                        awaited = awaited.saturating_sub(1);
                        refusal = refusal.or(read_end(content));
                    }
                    KIND_OVERRUN => return Err(Errno::NOBUFS.into()),
                    kind => each(kind, content),
                }
            }
        }
        match refusal {
            Some(error) => Err(error),
            None if awaited > 0 => Err(Errno::PROTO.into()),
            None => Ok(whole),
        }
    }

    fn send(&self, messages: &[Message]) -> Result<(), Errno> {
        let slices: Vec<IoSlice<'_>> = messages.iter().map(|message| IoSlice::new(message.bytes())).collect();
        let mut control = SendAncillaryBuffer::default();
        let mut send = || {
            rustix::io::retry_on_intr(|| {
                rustix::net::sendmsg(&self.socket, &slices, &mut control, SendFlags::empty()).map(drop)
            })
        };
        match send() {
            // A transaction goes in one piece, which may be larger than the buffer of a socket.
            Err(Errno::MSGSIZE) => {
                let bytes: usize = messages.iter().map(|message| message.bytes().len()).sum();
                let room = i32::try_from(bytes.min(MESSAGE)).map_err(|_| Errno::MSGSIZE)?;
                self.set_at(libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, room).map_err(|_| Errno::MSGSIZE)?;
                send()
            }
            other => other,
        }
    }

    /// Takes the next datagram; false when there is none.
    fn receive(&self, buffer: &mut Vec<u8>) -> Result<bool, Errno> {
        loop {
            buffer.clear();
            match rustix::net::recv(&self.socket, spare_capacity(buffer), RecvFlags::DONTWAIT) {
                Ok(_) => return Ok(true),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(false),
                Err(errno) => return Err(errno),
            }
        }
    }

    fn set(&self, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
        self.set_at(libc::SOL_NETLINK, option, value)
    }

    fn set_at(&self, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
        let length = size_of_val(&value) as libc::socklen_t;
        let fd = self.socket.as_raw_fd();
        // SAFETY: the kernel reads `length` bytes of `value`, which outlives the call.
        let result = unsafe { libc::setsockopt(fd, level, option, (&raw const value).cast(), length) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

struct Header {
    kind: u16,
    flags: u16,
    sequence: u32,
}

/// The messages in one datagram. Ends early when a length is impossible.
struct Datagram<'a>(&'a [u8]);

impl<'a> Iterator for Datagram<'a> {
    type Item = (Header, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = u32_native(self.0)? as usize;
        let message = self.0.get(..length)?;
        let header = Header {
            kind: u16::from_ne_bytes(message.get(4..6)?.try_into().ok()?),
            flags: u16::from_ne_bytes(message.get(6..8)?.try_into().ok()?),
            sequence: u32_native(message.get(8..)?)?,
        };
        let content = message.get(HEADER..)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((header, content))
    }
}

/// A dump that fails half way says so at its end.
fn read_end(content: &[u8]) -> Option<Error> {
    let code = content.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
    let source = || io::Error::from_raw_os_error(code.wrapping_neg());
    (code < 0).then(|| Error { index: 0, source: source(), text: None })
}

/// None when it is a plain acknowledgement.
fn read_error(index: usize, header: &Header, content: &[u8]) -> Option<Error> {
    let code = content.first_chunk().map_or(-libc::EPROTO, |code| i32::from_ne_bytes(*code));
    if code == 0 {
        return None;
    }
    let mut explanation = None;
    if header.flags & FLAG_ACK_TEXT != 0 {
        // The code, the header of the refused message, then attributes: 1 is the text.
        let found = attributes(content.get(4 + HEADER..).unwrap_or_default()).find(|attribute| attribute.kind == 1);
        explanation = found.map(|attribute| text(attribute.content).to_owned()).filter(|text| !text.is_empty());
    }
    Some(Error { index, source: io::Error::from_raw_os_error(code.wrapping_neg()), text: explanation })
}

#[cfg(test)]
mod tests;
