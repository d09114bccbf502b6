//! Network interfaces of the host that a specification gives to a container (`netDevices`): moved into its namespace while it
//! is made, with the addresses that somebody gave them, and set up there. When the container ends the kernel gives back what is
//! a piece of hardware.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

use engine_sys::namespace;
use engine_sys::netlink::{ACK, CREATE, DUMP, Error as Refusal, Message, Netlink, Protocol, REPLACE, attributes};
use oci_spec::runtime::{Linux, LinuxNamespaceType};
use rustix::io::Errno;

use crate::Error;

const NEW_LINK: u16 = 16;
const GET_LINK: u16 = 18;
const NEW_ADDRESS: u16 = 20;
const GET_ADDRESS: u16 = 22;
const LINK_NAME: u16 = 3;
const LINK_NAMESPACE: u16 = 28;
const UP: u32 = 1;
const ADDRESS: u16 = 1;
const LOCAL: u16 = 2;
const BROADCAST: u16 = 4;
const LIFETIME: u16 = 6;
const FLAGS: u16 = 8;
/// It stays; the others come from whoever advertises them.
const PERMANENT: u32 = 0x80;
/// The scope of addresses that more than this link knows.
const UNIVERSE: u8 = 0;
/// The longest name of an interface.
const MAX_NAME: usize = 15;
/// What a name ends with that is to be one that is free.
const NUMBERED: &str = "%d";
/// Addresses of one interface that are taken along.
const MAX_ADDRESSES: usize = 4096;

/// The interfaces to be moved, by their names on the host, with their names in the container.
pub(crate) fn wanted(linux: &Linux) -> Result<BTreeMap<&str, &str>, Error> {
    let mut wanted = BTreeMap::new();
    for (host, device) in linux.net_devices().iter().flatten() {
        let inside = device.name().as_deref().filter(|name| !name.is_empty()).unwrap_or(host);
        // The kernel puts a number in place of it.
        let fixed = inside.strip_suffix(NUMBERED).unwrap_or(inside);
        for name in [host.as_str(), fixed] {
            let letters = |b: u8| b.is_ascii_graphic() && !matches!(b, b'/' | b':' | b'%');
            if name.is_empty() || name.len() > MAX_NAME || matches!(name, "." | "..") || !name.bytes().all(letters) {
                return Err(Error::Invalid(format!("network device {name:?} is not the name of an interface")));
            }
        }
        if inside.len() > MAX_NAME {
            return Err(Error::Invalid(format!("network device {inside:?} is not the name of an interface")));
        }
        if fixed == inside && wanted.values().any(|other| *other == inside) {
            return Err(Error::Invalid(format!("two network devices are to be called {inside:?}")));
        }
        wanted.insert(host.as_str(), inside);
    }
    let namespaces = linux.namespaces().iter().flatten();
    let own = namespaces.map(|namespace| namespace.typ()).any(|kind| kind == LinuxNamespaceType::Network);
    if !wanted.is_empty() && !own {
        return Err(Error::Invalid("network devices cannot be moved without a network namespace".to_owned()));
    }
    Ok(wanted)
}

/// Moves the interfaces into the network namespace of a process.
pub(crate) fn give(linux: &Linux, pid: u32) -> Result<(), Error> {
    let wanted = wanted(linux)?;
    if wanted.is_empty() {
        return Ok(());
    }
    let path = format!("/proc/{pid}/ns/net");
    let namespace = File::open(&path).map_err(Error::io("open", &path))?;
    let open = || Netlink::open(Protocol::Route);
    let mut host = open().map_err(Error::io("open", "a netlink socket"))?;
    let inside = namespace::in_network(namespace.as_fd(), open);
    let mut inside = inside.map_err(Error::io("open a netlink socket in", &path))?;
    let here = "/proc/thread-self/ns/net";
    let here = File::open(here).map_err(Error::io("open", here))?;
    let mut given: Vec<Device<'_>> = Vec::new();
    for (name, new_name) in wanted {
        let one = Device::look(&mut host, name, new_name);
        let moved = one.and_then(|one| {
            given.push(one);
            given.last_mut().map_or(Ok(()), |one| one.give(&mut host, &mut inside, &namespace))
        });
        if let Err(error) = moved {
            for one in given.iter().rev() {
                // The first error is the one to tell; what cannot go back goes with the container.
                let _ = one.take_back(&mut host, &mut inside, &here);
            }
            let what = io::Error::new(error.source.kind(), error.to_string());
            return Err(Error::io("give the container the network device", name)(what));
        }
    }
    Ok(())
}

/// An interface as the host has it.
struct Device<'a> {
    name: &'a str,
    new_name: &'a str,
    up: bool,
    addresses: Vec<Address>,
    /// Its number in the container, once it is there.
    inside: Option<u32>,
}

impl<'a> Device<'a> {
    fn look(host: &mut Netlink, name: &'a str, new_name: &'a str) -> Result<Self, Refusal> {
        let (index, up) = find(host, name)?;
        Ok(Self { name, new_name, up, addresses: addresses(host, index)?, inside: None })
    }

    /// Moves it into the container's namespace, which `inside` speaks to, and sets it up there.
    fn give(&mut self, host: &mut Netlink, inside: &mut Netlink, namespace: &File) -> Result<(), Refusal> {
        let index = find(host, self.name)?.0;
        // One that the kernel is to name is found by another name until then.
        let numbered = self.new_name.ends_with(NUMBERED).then(|| format!("moving{index}"));
        let name = numbered.as_deref().unwrap_or(self.new_name);
        carry(host, index, namespace, name)?;
        // It may have another number there.
        let index = find(inside, name)?.0;
        self.inside = Some(index);
        if numbered.is_some() {
            inside.request(&mut [link(NEW_LINK, ACK, index, 0, 0).text(LINK_NAME, self.new_name)])?;
        }
        self.set(inside, index, true)
    }

    /// Moves it back to where it was, as it was.
    fn take_back(&self, host: &mut Netlink, inside: &mut Netlink, here: &File) -> Result<(), Refusal> {
        let Some(index) = self.inside else { return Ok(()) };
        carry(inside, index, here, self.name)?;
        let index = find(host, self.name)?.0;
        self.set(host, index, self.up)
    }

    fn set(&self, socket: &mut Netlink, index: u32, up: bool) -> Result<(), Refusal> {
        let mut messages: Vec<_> = self.addresses.iter().map(|address| address.order(index)).collect();
        messages.push(link(NEW_LINK, ACK, index, if up { UP } else { 0 }, UP));
        socket.request(&mut messages)
    }
}

/// Moves an interface to another namespace, and gives it another name.
fn carry(socket: &mut Netlink, index: u32, place: &File, name: &str) -> Result<(), Refusal> {
    let number = u32::try_from(place.as_raw_fd()).unwrap_or_default();
    socket.request(&mut [link(NEW_LINK, ACK, index, 0, 0).u32(LINK_NAMESPACE, number).text(LINK_NAME, name)])
}

fn link(kind: u16, flags: u16, index: u32, state: u32, change: u32) -> Message {
    let part = [0, index, state, change].map(u32::to_ne_bytes).concat();
    Message::new(kind, flags).put(&part)
}

/// The number of an interface, and whether it is up.
fn find(socket: &mut Netlink, name: &str) -> Result<(u32, bool), Refusal> {
    let mut found = None;
    let number = |content: &[u8], at: usize| Some(u32::from_ne_bytes(*content.get(at..)?.first_chunk()?));
    socket.ask(link(GET_LINK, 0, 0, 0, 0).text(LINK_NAME, name), |kind, content| {
        if kind == NEW_LINK {
            found = number(content, 4).zip(number(content, 8));
        }
    })?;
    found.map(|(index, flags)| (index, flags & UP != 0)).ok_or_else(|| Errno::NODEV.into())
}

/// An address as the kernel tells it.
struct Address {
    family: u8,
    prefix: u8,
    parts: Vec<(u16, Vec<u8>)>,
}

impl Address {
    fn parse(content: &[u8], index: u32) -> Option<Self> {
        let [family, prefix, flags, scope] = *content.first_chunk()?;
        let rest = content.get(8..)?;
        let found = u32::from_ne_bytes(content.get(4..8)?.try_into().ok()?);
        let flags = attributes(rest)
            .find(|attribute| attribute.kind == FLAGS)
            .and_then(|attribute| Some(u32::from_ne_bytes(attribute.content.try_into().ok()?)))
            .unwrap_or(flags.into());
        if found != index || scope != UNIVERSE || flags & PERMANENT == 0 {
            return None;
        }
        let kept = attributes(rest).filter(|part| matches!(part.kind, ADDRESS | LOCAL | BROADCAST | LIFETIME));
        Some(Self { family, prefix, parts: kept.map(|part| (part.kind, part.content.to_vec())).collect() })
    }

    fn order(&self, index: u32) -> Message {
        let message = Message::new(NEW_ADDRESS, ACK | CREATE | REPLACE)
            .put(&[self.family, self.prefix, 0, UNIVERSE])
            .put(&index.to_ne_bytes());
        self.parts.iter().fold(message, |message, (kind, content)| message.attribute(*kind, content))
    }
}

fn addresses(socket: &mut Netlink, index: u32) -> Result<Vec<Address>, Refusal> {
    let question = Message::new(GET_ADDRESS, DUMP).put(&[0; 4]).put(&[0; 4]);
    let mut all = Vec::new();
    socket.dump(&question, |answer| match answer {
        None => all.clear(),
        Some((NEW_ADDRESS, content)) if all.len() < MAX_ADDRESSES => all.extend(Address::parse(content, index)),
        Some(_) => {}
    })?;
    Ok(all)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn linux(devices: &str, namespaces: &str) -> Linux {
        serde_json::from_str(&format!(r#"{{"netDevices": {devices}, "namespaces": {namespaces}}}"#)).unwrap()
    }

    #[test]
    fn names_are_checked() {
        let own = r#"[{"type": "network"}]"#;
        let good = linux(r#"{"eth1": {}, "eth2": {"name": "lan0"}}"#, own);
        assert_eq!(wanted(&good).unwrap().into_iter().collect::<Vec<_>>(), [("eth1", "eth1"), ("eth2", "lan0")]);
        let numbered = linux(r#"{"eth1": {"name": "lan%d"}, "eth2": {"name": "lan%d"}}"#, own);
        assert_eq!(wanted(&numbered).unwrap().into_values().collect::<Vec<_>>(), ["lan%d", "lan%d"]);
        assert!(wanted(&linux(r#"{"eth1": {}}"#, "[]")).unwrap_err().to_string().contains("namespace"));
        for bad in [
            r#"{"": {}}"#,
            r#"{"..": {}}"#,
            r#"{"a/b": {}}"#,
            r#"{"a b": {}}"#,
            r#"{"eth1": {"name": "0123456789abcdef"}}"#,
            r#"{"eth1": {"name": "0123456789abcd%d"}}"#,
            r#"{"eth1": {"name": "%d"}}"#,
            r#"{"eth1": {"name": "%dx"}}"#,
            r#"{"eth1": {"name": "x%d%d"}}"#,
            r#"{"eth%d": {}}"#,
            r#"{"a": {"name": "x"}, "b": {"name": "x"}}"#,
        ] {
            assert!(wanted(&linux(bad, own)).is_err(), "{bad}");
        }
    }
}
