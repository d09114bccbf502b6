//! Datagrams together with the address of ours that they were sent to: an answer has to come from where the question went.

use std::io;
use std::mem::{MaybeUninit, size_of, zeroed};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::net::{AddressFamily, sockopt};

/// Room for one message about an address, in its alignment.
const CONTROL: usize = 8;
type Control = [u64; CONTROL];

/// An address of the machine, and the interface where it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Local {
    /// The address; one of IPv4 at a socket for both families is mapped.
    pub address: IpAddr,
    /// The interface's index, for addresses of the link only; else 0.
    pub interface: u32,
}

/// A datagram that has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrived {
    /// How many bytes it has.
    pub length: usize,
    /// Who has sent it.
    pub from: SocketAddr,
    /// The address that it was sent to, where the kernel says so.
    pub to: Option<Local>,
}

/// Lets a socket say from now on which address each datagram was sent to.
///
/// # Errors
/// When it is no socket of IPv4 or IPv6.
pub fn tell_addressed(socket: impl AsFd) -> io::Result<()> {
    let (level, option) = match sockopt::socket_domain(&socket)? {
        AddressFamily::INET6 => (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
        _ => (libc::IPPROTO_IP, libc::IP_PKTINFO),
    };
    let on: libc::c_int = 1;
    // SAFETY: the option is an int, which lives as long as the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            option,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Takes the next datagram; what has no room in `buffer` is cut off.
///
/// # Errors
/// When there is none now, or the socket has failed.
pub fn receive(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<Arrived> {
    let mut name = MaybeUninit::<libc::sockaddr_storage>::zeroed();
    let mut control: Control = [0; CONTROL];
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: a header of zeroes is one without anything.
    let mut header: libc::msghdr = unsafe { zeroed() };
    header.msg_name = name.as_mut_ptr().cast();
    header.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = size_of::<Control>() as _;
    // SAFETY: what the header points at lives until after the call and has the lengths that are said.
    let length = unsafe { libc::recvmsg(socket.as_fd().as_raw_fd(), &raw mut header, libc::MSG_DONTWAIT) };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: all bytes were zeroed, and any bytes are an address of some family.
    let from = read_address(&unsafe { name.assume_init() }).ok_or(io::ErrorKind::InvalidData)?;
    let mut to = None;
    // SAFETY: the header is as the kernel has left it, and these walk within the length that it says. What a message has is
    // copied out of where its data begin, after its length was looked at.
    unsafe {
        let mut message = libc::CMSG_FIRSTHDR(&raw const header);
        while let Some(head) = message.as_ref() {
            let (kind, data) = ((head.cmsg_level, head.cmsg_type), libc::CMSG_DATA(message));
            let has = |size: usize| head.cmsg_len >= libc::CMSG_LEN(size as libc::c_uint) as _;
            if kind == (libc::IPPROTO_IP, libc::IP_PKTINFO) && has(size_of::<libc::in_pktinfo>()) {
                let told = data.cast::<libc::in_pktinfo>().read_unaligned();
                let address = Ipv4Addr::from(u32::from_be(told.ipi_spec_dst.s_addr));
                to = Some(Local { address: address.into(), interface: 0 });
            } else if kind == (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) && has(size_of::<libc::in6_pktinfo>()) {
                let told = data.cast::<libc::in6_pktinfo>().read_unaligned();
                let address = Ipv6Addr::from(told.ipi6_addr.s6_addr);
                let interface = if address.is_unicast_link_local() { told.ipi6_ifindex } else { 0 };
                to = Some(Local { address: address.into(), interface });
            }
            message = libc::CMSG_NXTHDR(&raw const header, message);
        }
    }
    Ok(Arrived { length, from, to })
}

/// Sends a datagram from one of the machine's addresses, or from the one that the kernel takes when none is said.
///
/// # Errors
/// When there is no room for it now, the address is none of the machine's, or the socket has failed.
pub fn send(socket: impl AsFd, bytes: &[u8], to: SocketAddr, from: Option<Local>) -> io::Result<usize> {
    let Some(from) = from else {
        return Ok(rustix::net::sendto(socket, bytes, rustix::net::SendFlags::DONTWAIT, &to)?);
    };
    match from.address {
        IpAddr::V4(address) => {
            let told = libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: libc::in_addr { s_addr: u32::from(address).to_be() },
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            send_with(socket.as_fd(), bytes, to, (libc::IPPROTO_IP, libc::IP_PKTINFO), told)
        }
        IpAddr::V6(address) => {
            let told = libc::in6_pktinfo {
                ipi6_addr: libc::in6_addr { s6_addr: address.octets() },
                ipi6_ifindex: from.interface as _,
            };
            send_with(socket.as_fd(), bytes, to, (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO), told)
        }
    }
}

fn send_with<T: Copy>(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    to: SocketAddr,
    (level, kind): (libc::c_int, libc::c_int),
    told: T,
) -> io::Result<usize> {
    let (mut name, name_len) = write_address(to);
    let mut control: Control = [0; CONTROL];
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: a header of zeroes is one without anything.
    let mut header: libc::msghdr = unsafe { zeroed() };
    header.msg_name = (&raw mut name).cast();
    header.msg_namelen = name_len;
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    // SAFETY: the sum of two sizes.
    header.msg_controllen = unsafe { libc::CMSG_SPACE(size_of::<T>() as libc::c_uint) } as _;
    // SAFETY: the room is larger than any of the two structures with its head, and aligned for the head.
    unsafe {
        let head = libc::CMSG_FIRSTHDR(&raw const header);
        (*head).cmsg_level = level;
        (*head).cmsg_type = kind;
        (*head).cmsg_len = libc::CMSG_LEN(size_of::<T>() as libc::c_uint) as _;
        libc::CMSG_DATA(head).cast::<T>().write_unaligned(told);
    }
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: what the header points at lives until after the call and has the lengths that are said; the kernel only reads it.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const header, flags) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

fn read_address(name: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match libc::c_int::from(name.ss_family) {
        libc::AF_INET => {
            // SAFETY: the room is larger than the structure, which is the one of this family.
            let name = unsafe { std::ptr::from_ref(name).cast::<libc::sockaddr_in>().read_unaligned() };
            let address = Ipv4Addr::from(u32::from_be(name.sin_addr.s_addr));
            Some(SocketAddr::new(address.into(), u16::from_be(name.sin_port)))
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let name = unsafe { std::ptr::from_ref(name).cast::<libc::sockaddr_in6>().read_unaligned() };
            let address = Ipv6Addr::from(name.sin6_addr.s6_addr);
            Some(SocketAddrV6::new(address, u16::from_be(name.sin6_port), 0, name.sin6_scope_id).into())
        }
        _ => None,
    }
}

fn write_address(address: SocketAddr) -> (libc::sockaddr_storage, libc::socklen_t) {
    // SAFETY: zeroes are an address of no family.
    let mut name: libc::sockaddr_storage = unsafe { zeroed() };
    let length = match address {
        SocketAddr::V4(address) => {
            let told = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: address.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from(*address.ip()).to_be() },
                sin_zero: [0; 8],
            };
            // SAFETY: the room is larger than the structure.
            unsafe { (&raw mut name).cast::<libc::sockaddr_in>().write_unaligned(told) };
            size_of::<libc::sockaddr_in>()
        }
        SocketAddr::V6(address) => {
            let told = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: address.port().to_be(),
                sin6_flowinfo: address.flowinfo(),
                sin6_addr: libc::in6_addr { s6_addr: address.ip().octets() },
                sin6_scope_id: address.scope_id(),
            };
            // SAFETY: the room is larger than the structure.
            unsafe { (&raw mut name).cast::<libc::sockaddr_in6>().write_unaligned(told) };
            size_of::<libc::sockaddr_in6>()
        }
    };
    (name, length as libc::socklen_t)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::UdpSocket;
    use std::time::Duration;

    use super::*;

    fn wait_and_receive(socket: &UdpSocket, buffer: &mut [u8]) -> Arrived {
        loop {
            match receive(socket, buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                other => return other.unwrap(),
            }
        }
    }

    /// Asks at `asked`, and says what a socket that listens at `bound` was told, and who has answered.
    fn asked_at(bound: &str, asked: &str, from: &str) -> (Local, IpAddr) {
        let server = UdpSocket::bind(bound).unwrap();
        tell_addressed(&server).unwrap();
        let client = UdpSocket::bind(from).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let port = server.local_addr().unwrap().port();
        client.send_to(b"what", SocketAddr::new(asked.parse().unwrap(), port)).unwrap();
        let mut buffer = [0; 16];
        let arrived = wait_and_receive(&server, &mut buffer);
        assert_eq!(&buffer[..arrived.length], b"what");
        assert_eq!(arrived.from.port(), client.local_addr().unwrap().port());
        assert_eq!(send(&server, b"that", arrived.from, arrived.to).unwrap(), 4);
        let (length, answered) = client.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..length], answered.port()), (&b"that"[..], port));
        (arrived.to.unwrap(), answered.ip())
    }

    #[test]
    fn an_answer_comes_from_the_address_that_was_asked() {
        let at = |address: &str| Local { address: address.parse().unwrap(), interface: 0 };
        let ip = |address: &str| address.parse::<IpAddr>().unwrap();
        assert_eq!(asked_at("0.0.0.0:0", "127.0.0.9", "127.0.0.1:0"), (at("127.0.0.9"), ip("127.0.0.9")));
        if UdpSocket::bind("[::1]:0").is_ok() {
            assert_eq!(asked_at("[::]:0", "::1", "[::1]:0"), (at("::1"), ip("::1")));
            assert_eq!(asked_at("[::]:0", "127.0.0.9", "127.0.0.1:0"), (at("::ffff:127.0.0.9"), ip("127.0.0.9")));
        }
    }

    #[test]
    fn what_cannot_be_sent_is_an_error() {
        let server = UdpSocket::bind("0.0.0.0:0").unwrap();
        let mut buffer = [0; 1];
        assert_eq!(receive(&server, &mut buffer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let foreign = Local { address: "192.0.2.7".parse().unwrap(), interface: 0 };
        assert!(send(&server, b"x", "127.0.0.1:9".parse().unwrap(), Some(foreign)).is_err());
        let stream = std::os::unix::net::UnixStream::pair().unwrap().0;
        assert!(tell_addressed(&stream).is_err());
    }
}
