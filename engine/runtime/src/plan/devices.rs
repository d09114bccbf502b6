//! What lies in `/dev`: the nodes that every container has, those of the specification, and links.

use engine_shim::plan::{Op, Slot};
use oci_spec::runtime::{Linux, LinuxDevice, LinuxDeviceType as Kind};

use super::mounts::{clean, move_to};
use super::writer::Writer;
use crate::{Error, Host};

/// Minor and major of the nodes that every container has.
const NODES: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

pub(super) fn write(plan: &mut Writer, linux: &Linux, host: &Host) -> Result<(), Error> {
    for (path, major, minor) in NODES {
        plan.with_text(path, |path| Op::MakeNode { path, mode: libc::S_IFCHR | 0o666, major, minor, uid: 0, gid: 0 });
    }
    for node in nodes(linux)? {
        let Node { device, kind, major, minor, .. } = node;
        plan.with_text(&node.path, |path| Op::MakeNode {
            path,
            mode: kind | (device.file_mode().unwrap_or(0o666) & 0o7777),
            major,
            minor,
            uid: device.uid().unwrap_or(0),
            gid: device.gid().unwrap_or(0),
        });
    }
    links(plan, host);
    Ok(())
}

/// In a user namespace no node can be made: those of the host are shown instead, found there under the same paths.
pub(super) fn clone(plan: &mut Writer, linux: &Linux) -> Result<Vec<(String, Slot)>, Error> {
    let mut slots = Vec::new();
    let fixed = NODES.map(|(path, major, minor)| (path.to_owned(), libc::S_IFCHR, major, minor));
    let own = nodes(linux)?.into_iter().map(|node| (node.path, node.kind, node.major, node.minor));
    for (path, kind, major, minor) in fixed.into_iter().chain(own) {
        let slot = plan.slot();
        plan.with_text(&path, |path| Op::CloneDevice { slot, path, kind, major, minor });
        slots.push((path, slot));
    }
    Ok(slots)
}

/// Puts the nodes of [`clone`] in place.
pub(super) fn attach(plan: &mut Writer, nodes: Vec<(String, Slot)>, host: &Host) {
    for (path, slot) in nodes {
        move_to(plan, slot, &path);
        plan.release(slot);
    }
    links(plan, host);
}

/// A device of the specification whose numbers have been read.
struct Node<'a> {
    device: &'a LinuxDevice,
    path: String,
    kind: u32,
    major: u32,
    minor: u32,
}

fn nodes(linux: &Linux) -> Result<Vec<Node<'_>>, Error> {
    let mut nodes = Vec::new();
    for device in linux.devices().iter().flatten() {
        let path = clean(device.path())?;
        // Made anyway, and never another device under their names. The terminal's own are made by the console.
        if NODES.iter().any(|(known, ..)| *known == path) || path == "/dev/console" || path == "/dev/ptmx" {
            continue;
        }
        let kind = match device.typ() {
            Kind::C | Kind::U => libc::S_IFCHR,
            Kind::B => libc::S_IFBLK,
            Kind::P => libc::S_IFIFO,
            Kind::A => return Err(Error::Invalid(format!("device {path}: a node is of type c, b, u or p"))),
        };
        let number = |number: i64| {
            u32::try_from(number).map_err(|_| Error::Invalid(format!("device {path}: {number} is no device number")))
        };
        let (major, minor) =
            if kind == libc::S_IFIFO { (0, 0) } else { (number(device.major())?, number(device.minor())?) };
        nodes.push(Node { device, path, kind, major, minor });
    }
    Ok(nodes)
}

fn links(plan: &mut Writer, host: &Host) {
    let mut links = vec![
        ("/proc/self/fd", "/dev/fd"),
        ("/proc/self/fd/0", "/dev/stdin"),
        ("/proc/self/fd/1", "/dev/stdout"),
        ("/proc/self/fd/2", "/dev/stderr"),
        ("pts/ptmx", "/dev/ptmx"),
    ];
    if host.features.kcore {
        links.push(("/proc/kcore", "/dev/core"));
    }
    for (target, path) in links {
        plan.with_texts(target, path, |target, path| Op::MakeLink { target, path });
    }
}
