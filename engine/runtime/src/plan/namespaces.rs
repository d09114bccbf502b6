//! Which namespaces are made, which are joined, and the cgroups that must be entered in between.

use engine_shim::plan::{Fd, Op};
use oci_spec::runtime::{Linux, LinuxIdMapping, LinuxNamespaceType as Kind, Spec};

use super::Resource;
use super::writer::Writer;
use crate::cgroup::{Entry, Places};
use crate::{Error, Host};

const MOUNT: u64 = Kind::Mount as u64;
const CGROUP: u64 = Kind::Cgroup as u64;
const UTS: u64 = Kind::Uts as u64;
const IPC: u64 = Kind::Ipc as u64;
const PID: u64 = Kind::Pid as u64;
const NETWORK: u64 = Kind::Network as u64;
const USER: u64 = Kind::User as u64;
const TIME: u64 = Kind::Time as u64;

/// The namespaces of a container as masks of `CLONE_NEW*`.
#[derive(Debug)]
pub(super) struct Namespaces {
    /// New ones of every kind.
    new: u64,
    /// To be joined, in this order.
    joined: Vec<(u64, Resource)>,
    /// The maps of a new user namespace.
    maps: Option<(String, String)>,
    /// The clocks of a new time namespace.
    offsets: String,
}

impl Namespaces {
    pub(super) fn of(linux: &Linux, network: bool, host: &Host) -> Result<Self, Error> {
        let mut namespaces = Self { new: 0, joined: Vec::new(), maps: None, offsets: offsets(linux)? };
        let mut seen = 0;
        for namespace in linux.namespaces().iter().flatten() {
            let kind = namespace.typ() as u64;
            let name = namespace.typ();
            if seen & kind != 0 {
                return Err(Error::Invalid(format!("two {name} namespaces")));
            }
            seen |= kind;
            let lacks = match namespace.typ() {
                Kind::Cgroup => !host.features.cgroup_namespace,
                Kind::User => !host.features.user_namespace,
                Kind::Time => !host.features.time_namespace,
                _ => false,
            };
            if lacks {
                return Err(Error::Unsupported(format!("{name} namespaces; this kernel has none")));
            }
            match (namespace.typ(), namespace.path()) {
                (Kind::Network, None) if network => namespaces.joined.push((kind, Resource::Network)),
                (Kind::Network, Some(path)) if network => {
                    return Err(Error::Invalid(format!(
                        "two network namespaces: {} and one that was handed over",
                        path.display()
                    )));
                }
                (_, None) => namespaces.new |= kind,
                (_, Some(path)) => {
                    if !path.is_absolute() {
                        return Err(Error::Invalid(format!("namespace path {} is not absolute", path.display())));
                    }
                    namespaces.joined.push((kind, Resource::Namespace(path.clone())));
                }
            }
        }
        if !namespaces.has(MOUNT) {
            return Err(Error::Unsupported("a container without a mount namespace".to_owned()));
        }
        if network && seen & NETWORK == 0 {
            return Err(Error::Invalid(
                "a network namespace was handed over, but the specification wants that of the host".to_owned(),
            ));
        }
        if !namespaces.offsets.is_empty() && namespaces.new & TIME == 0 {
            return Err(Error::Invalid("time offsets without a time namespace of the container's own".to_owned()));
        }
        let mapped = [linux.uid_mappings(), linux.gid_mappings()].map(|maps| maps.as_deref().unwrap_or_default());
        namespaces.maps = match (namespaces.new & USER != 0, mapped.iter().any(|maps| !maps.is_empty())) {
            (true, _) => Some((map("uid", mapped[0], true)?, map("gid", mapped[1], true)?)),
            (false, true) if !namespaces.has(USER) => {
                return Err(Error::Invalid(
                    "user namespace mappings specified, but user namespace isn't enabled".to_owned(),
                ));
            }
            // A user namespace to join has its own; they may be told nevertheless.
            _ => None,
        };
        Ok(namespaces)
    }

    /// Whether the container shares this namespace with nobody by accident: it has a new one or was told which to join.
    fn has(&self, kind: u64) -> bool {
        self.new & kind != 0 || self.joins(kind)
    }

    fn joins(&self, kind: u64) -> bool {
        self.joined.iter().any(|(joined, _)| *joined == kind)
    }

    pub(super) fn has_ipc(&self) -> bool {
        self.has(IPC)
    }

    pub(super) fn has_network(&self) -> bool {
        self.has(NETWORK)
    }

    pub(super) fn has_uts(&self) -> bool {
        self.has(UTS)
    }

    /// The container has a user namespace, so that what takes privilege on the host has to be done before it is entered.
    pub(super) fn has_user(&self) -> bool {
        self.has(USER)
    }

    /// The maps of the container's own user namespace.
    pub(super) fn maps(&self) -> Option<(&str, &str)> {
        self.maps.as_ref().map(|(uids, gids)| (uids.as_str(), gids.as_str()))
    }

    /// The mount namespace is one that others are in too.
    pub(super) fn shares_mounts(&self) -> bool {
        self.joins(MOUNT)
    }

    /// Whether a file system of this type can only be mounted before the user namespace is entered: either nobody in one can
    /// mount it, or what it shows belongs to a namespace outside.
    pub(super) fn mounts_early(&self, typ: &str) -> bool {
        let owned = match typ {
            "tmpfs" | "ramfs" | "devpts" | "fuse" => return false,
            "proc" => PID,
            "sysfs" => NETWORK,
            "mqueue" => IPC,
            "cgroup2" => CGROUP,
            _ => return true,
        };
        self.new & owned == 0
    }

    /// User and time namespaces take two steps: the second one is a child of what the first one has prepared.
    fn is_staged(&self) -> bool {
        self.has_user() || self.new & TIME != 0
    }

    /// What the monitor clones init into. A mount namespace is of use even where another one is joined: what is prepared is in
    /// nobody's way there.
    pub(super) fn at_birth(&self) -> u64 {
        if self.is_staged() { MOUNT } else { self.new & !CGROUP | MOUNT }
    }

    /// Cgroups first, so that the cgroup namespace has them as its root; then what is joined.
    pub(super) fn write(&self, plan: &mut Writer, cgroup: &Places, host: &Host) {
        join_cgroups(plan, &cgroup.entry(), host);
        if !self.is_staged() && self.new & CGROUP != 0 {
            plan.push(Op::Unshare { flags: CGROUP });
        }
        for (kind, resource) in self.joined.iter().filter(|(kind, _)| !matches!(*kind, MOUNT | USER)) {
            let namespace = plan.descriptor(resource.clone());
            plan.push(if *kind == PID && self.is_staged() {
                Op::JoinAtContinue { namespace, kind: PID }
            } else {
                Op::JoinNamespace { namespace, kind: *kind }
            });
        }
    }

    /// What comes after everything that the host's privilege was needed for.
    pub(super) fn go_on(&self, plan: &mut Writer) {
        if self.new & TIME != 0 {
            plan.push(Op::Unshare { flags: TIME });
            if !self.offsets.is_empty() {
                plan.with_text(&self.offsets, |offsets| Op::TimeOffsets { offsets });
            }
        }
        for (kind, resource) in self.joined.iter().filter(|(kind, _)| matches!(*kind, MOUNT | USER)) {
            let namespace = plan.descriptor(resource.clone());
            plan.push(Op::JoinNamespace { namespace, kind: *kind });
        }
        if let Some((uids, gids)) = &self.maps {
            plan.with_texts(uids, gids, |uids, gids| Op::UserNamespace { uids, gids });
        }
        if self.is_staged() {
            plan.push(Op::Continue { namespaces: self.new & !(USER | TIME) });
        }
    }

    /// Host name and domain name, which belong to the uts namespace.
    pub(super) fn names(&self, plan: &mut Writer, spec: &Spec) -> Result<(), Error> {
        let named = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let (host, domain) = (named(spec.hostname()), named(spec.domainname()));
        for (what, name) in [("hostname", &host), ("domainname", &domain)] {
            let Some(name) = name else { continue };
            if !self.has_uts() {
                return Err(Error::Invalid(format!("unable to set {what} without a private UTS namespace")));
            }
            if name.len() > 64 {
                return Err(Error::Invalid(format!("{what} {name:?} is longer than 64 bytes")));
            }
        }
        if let Some(name) = host {
            plan.with_text(name, |name| Op::Hostname { name });
        }
        if let Some(name) = domain {
            plan.with_text(name, |name| Op::Domainname { name });
        }
        Ok(())
    }
}

/// The name of a `CLONE_NEW*` flag.
pub(crate) fn name_of(kind: u64) -> String {
    let all = [Kind::Mount, Kind::Cgroup, Kind::Uts, Kind::Ipc, Kind::User, Kind::Pid, Kind::Network, Kind::Time];
    all.into_iter().find(|known| *known as u64 == kind).map_or_else(String::new, |known| known.to_string())
}

/// The form of `/proc/PID/timens_offsets`.
fn offsets(linux: &Linux) -> Result<String, Error> {
    let mut text = String::new();
    let offsets: std::collections::BTreeMap<_, _> = linux.time_offsets().iter().flatten().collect();
    for (clock, offset) in offsets {
        if !matches!(clock.as_str(), "monotonic" | "boottime") {
            return Err(Error::Invalid(format!("time offset of {clock:?}: there are monotonic and boottime")));
        }
        let nanos = offset.nanosecs().unwrap_or(0);
        if nanos > 999_999_999 {
            return Err(Error::Invalid(format!("time offset of {clock}: {nanos} nanoseconds are more than a second")));
        }
        text.push_str(&format!("{clock} {} {nanos}\n", offset.secs().unwrap_or(0)));
    }
    Ok(text)
}

/// Maps in the form of `/proc/PID/uid_map`. The kernel takes 340 of them, and that they do not overlap.
pub(super) fn map(what: &str, maps: &[LinuxIdMapping], superuser: bool) -> Result<String, Error> {
    let invalid = |text: &str| Err(Error::Invalid(format!("{what} mappings: {text}")));
    if maps.is_empty() {
        return invalid("a user namespace needs at least one");
    }
    if maps.len() > 340 {
        return invalid("the kernel takes 340");
    }
    let mut text = String::new();
    for map in maps {
        let fits = |first: u32| u64::from(first) + u64::from(map.size()) <= 1 << 32;
        if map.size() == 0 || !fits(map.container_id()) || !fits(map.host_id()) {
            return invalid(&format!("{} {} {} is no range of ids", map.container_id(), map.host_id(), map.size()));
        }
        text.push_str(&format!("{} {} {}\n", map.container_id(), map.host_id(), map.size()));
    }
    if text.len() >= 4096 {
        return invalid("the kernel takes a page of them");
    }
    if superuser && !maps.iter().any(|map| map.container_id() == 0) {
        return invalid("id 0 of the container has to be among them, since it prepares the container");
    }
    Ok(text)
}

pub(super) fn join_cgroups(plan: &mut Writer, entry: &Entry, host: &Host) {
    if let Some(directory) = entry.unified.clone() {
        if host.features.clone_into_cgroup {
            let directory = plan.descriptor(Resource::Directory(directory));
            plan.push(Op::BornInCgroup { directory });
        } else {
            let procs = plan.descriptor(Resource::Write(directory.join("cgroup.procs")));
            plan.push(Op::JoinProcs { procs });
        }
    }
    for directory in &entry.hierarchies {
        let tasks = plan.descriptor(Resource::Write(directory.join("tasks")));
        plan.push(Op::JoinTasks { tasks });
    }
}

/// A further process enters all that init is in. Where both share a namespace with the host, joining it changes nothing, but
/// for that of users, which nobody can join who is in it.
pub(super) fn enter(plan: &mut Writer, entry: &Entry, host: &Host, spec: &Spec) {
    join_cgroups(plan, entry, host);
    let process: Fd = plan.descriptor(Resource::Process);
    plan.push(Op::JoinProcess { process, kinds: MOUNT | CGROUP | UTS | IPC | PID | NETWORK | more(spec) });
}

fn more(spec: &Spec) -> u64 {
    let namespaces = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
    let kinds = namespaces.into_iter().flatten().map(|namespace| namespace.typ() as u64);
    kinds.filter(|kind| matches!(*kind, USER | TIME)).fold(0, |all, kind| all | kind)
}

/// Whether an exec enters a user namespace, so that what takes privilege on the host has to be done before.
pub(super) fn enters_user(spec: &Spec) -> bool {
    more(spec) & USER != 0
}
