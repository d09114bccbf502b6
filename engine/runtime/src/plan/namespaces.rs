//! Which namespaces are made, which are joined, and the cgroups that must be entered in between.

use engine_shim::plan::{Fd, Op};
use oci_spec::runtime::{Linux, LinuxNamespaceType as Kind, Spec};

use super::Resource;
use super::writer::Writer;
use crate::cgroup::Places;
use crate::{Error, Host};

const MOUNT: u64 = Kind::Mount as u64;
const CGROUP: u64 = Kind::Cgroup as u64;
const UTS: u64 = Kind::Uts as u64;
const IPC: u64 = Kind::Ipc as u64;
const PID: u64 = Kind::Pid as u64;
const NETWORK: u64 = Kind::Network as u64;

/// The namespaces of a container as masks of `CLONE_NEW*`.
#[derive(Debug)]
pub(super) struct Namespaces {
    /// Made together with init.
    pub(super) new: u64,
    /// The container has a cgroup namespace of its own.
    pub(super) cgroup: bool,
    joined: Vec<(u64, Resource)>,
}

impl Namespaces {
    pub(super) fn of(linux: &Linux, network: bool, host: &Host) -> Result<Self, Error> {
        let mut namespaces = Self { new: 0, cgroup: false, joined: Vec::new() };
        let mut seen = 0;
        for namespace in linux.namespaces().iter().flatten() {
            let kind = namespace.typ() as u64;
            let name = namespace.typ();
            if seen & kind != 0 {
                return Err(Error::Invalid(format!("two {name} namespaces")));
            }
            seen |= kind;
            match (namespace.typ(), namespace.path()) {
                (Kind::User | Kind::Time, _) => return Err(Error::Unsupported(format!("a {name} namespace"))),
                (Kind::Mount, Some(_)) => return Err(Error::Unsupported("a mount namespace to join".to_owned())),
                (Kind::Network, None) if network => namespaces.joined.push((kind, Resource::Network)),
                (Kind::Network, Some(path)) if network => {
                    return Err(Error::Invalid(format!(
                        "two network namespaces: {} and one that was handed over",
                        path.display()
                    )));
                }
                (Kind::Cgroup, None) if !host.features.cgroup_namespace => {
                    return Err(Error::Unsupported("cgroup namespaces; this kernel has none".to_owned()));
                }
                (Kind::Cgroup, None) => namespaces.cgroup = true,
                (_, None) => namespaces.new |= kind,
                (_, Some(path)) => {
                    if !path.is_absolute() {
                        return Err(Error::Invalid(format!("namespace path {} is not absolute", path.display())));
                    }
                    namespaces.joined.push((kind, Resource::Read(path.clone())));
                }
            }
        }
        if namespaces.new & MOUNT == 0 {
            return Err(Error::Unsupported("a container without a mount namespace".to_owned()));
        }
        if network && seen & NETWORK == 0 {
            return Err(Error::Invalid(
                "a network namespace was handed over, but the specification wants that of the host".to_owned(),
            ));
        }
        Ok(namespaces)
    }

    /// Whether the container shares this namespace with nobody by accident: it has a new one or was told which to join.
    fn has(&self, kind: u64) -> bool {
        self.new & kind != 0 || self.joined.iter().any(|(joined, _)| *joined == kind)
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

    /// Cgroups first, so that the cgroup namespace has them as its root; then what is joined.
    pub(super) fn write(&self, plan: &mut Writer, cgroup: &Places) {
        join_cgroups(plan, cgroup);
        if self.cgroup {
            plan.push(Op::Unshare { flags: CGROUP });
        }
        for (kind, resource) in &self.joined {
            let namespace = plan.descriptor(resource.clone());
            plan.push(Op::JoinNamespace { namespace, kind: *kind });
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

fn join_cgroups(plan: &mut Writer, cgroup: &Places) {
    if let Some(directory) = cgroup.unified() {
        let directory = plan.descriptor(Resource::Directory(directory));
        plan.push(Op::BornInCgroup { directory });
    }
    for tasks in cgroup.tasks() {
        let tasks = plan.descriptor(Resource::Write(tasks));
        plan.push(Op::JoinTasks { tasks });
    }
}

/// A further process enters all that init is in. Where both share a namespace with the host, joining it changes nothing.
pub(super) fn enter(plan: &mut Writer, cgroup: &Places) {
    join_cgroups(plan, cgroup);
    let process: Fd = plan.descriptor(Resource::Process);
    plan.push(Op::JoinProcess { process, kinds: MOUNT | CGROUP | UTS | IPC | PID | NETWORK });
}
