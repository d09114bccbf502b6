//! Which mounts of a container come from outside of it, and where they come from when it is made anew.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxNamespaceType as Kind, Mount, Spec};
use serde::{Deserialize, Serialize};

use super::Noted;
use crate::Error;
use crate::cgroup::Places;
use crate::external::TREES;

/// A part of a hierarchy of cgroups that a container sees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CgroupMount {
    /// The mount point in the container.
    pub(crate) at: String,
    /// Where the hierarchy is mounted on the host.
    pub(crate) hierarchy: PathBuf,
    /// What of it is mounted, from the container's own cgroup on; otherwise from the root of the hierarchy on.
    pub(crate) below: PathBuf,
    pub(crate) own: bool,
}

/// A mount table in the form of `proc_pid_mountinfo(5)`.
#[derive(Debug, Default)]
pub(super) struct Table(Vec<Entry>);

#[derive(Debug)]
struct Entry {
    device: String,
    root: String,
    at: String,
    kind: String,
}

impl Table {
    /// Lines that are none are passed over.
    pub(super) fn parse(text: &str) -> Self {
        let entry = |line: &str| {
            let (mount, file_system) = line.split_once(" - ")?;
            let mut fields = mount.split(' ').skip(2);
            Some(Entry {
                device: fields.next()?.to_owned(),
                root: plain(fields.next()?),
                at: plain(fields.next()?),
                kind: file_system.split(' ').next()?.to_owned(),
            })
        };
        Self(text.lines().filter_map(entry).collect())
    }
}

/// Without the octal numbers that stand for white space and backslashes.
fn plain(field: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .into_iter()
        .fold(field.to_owned(), |text, (code, letter)| text.replace(code, letter))
}

impl Noted {
    /// Mount points of what comes from outside, and by what name the images know it.
    pub(super) fn outside(&self) -> impl Iterator<Item = (&str, String)> {
        let mounts = self.mounts.iter().map(String::as_str);
        let all = mounts.chain(self.cgroups.iter().map(|cgroup| cgroup.at.as_str()));
        all.enumerate().map(|(number, at)| (at, format!("engine-{number}")))
    }
}

/// Whether it has a network namespace, its own or another container's.
pub(super) fn has_network(spec: &Spec) -> bool {
    let namespaces = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
    namespaces.into_iter().flatten().any(|one| one.typ() == Kind::Network)
}

/// What of the mounts of a container with this specification and cgroup comes from outside.
pub(super) fn found(
    inside: &Table,
    host: &Table,
    spec: &Spec,
    cgroup: &Path,
) -> Result<(Vec<String>, Vec<CgroupMount>), Error> {
    let (mut mounts, mut cgroups) = (Vec::new(), Vec::new());
    for entry in &inside.0 {
        let refused = |why: &str| Err(Error::Unsupported(format!("a checkpoint with {} {why}", entry.at)));
        if matches!(entry.kind.as_str(), "cgroup" | "cgroup2") {
            cgroups.push(cgroup_mount(entry, host, cgroup)?);
        } else if let Some((_, mount)) = nearest(spec, &entry.at).filter(|(_, mount)| is_bind(mount)) {
            // Whoever else can write there could lead a path astray meanwhile, and what hides a part would not be there again.
            if !is_at(mount, &entry.at) {
                return refused("mounted within a bind mount");
            }
            if mounts.contains(&entry.at) {
                return refused("mounted twice");
            }
            mounts.push(entry.at.clone());
        } else {
            continue;
        }
        if entry.at.contains([']', '\n']) {
            return refused("as a mount point: its name cannot be told");
        }
    }
    Ok((mounts, cgroups))
}

fn cgroup_mount(entry: &Entry, host: &Table, own: &Path) -> Result<CgroupMount, Error> {
    let hierarchy = host.0.iter().find(|one| one.device == entry.device && one.root == "/");
    let hierarchy = hierarchy
        .ok_or_else(|| Error::Unsupported(format!("a checkpoint with cgroups at {} unknown to the host", entry.at)))?;
    let root = Path::new(entry.root.trim_start_matches('/'));
    let (below, own) = match root.strip_prefix(own) {
        Ok(below) => (below, true),
        Err(_) => (root, false),
    };
    Ok(CgroupMount { at: entry.at.clone(), hierarchy: hierarchy.at.clone().into(), below: below.to_owned(), own })
}

/// Where all that [`Noted::outside`] names is when a container is about to be made anew in this cgroup and run directory.
pub(crate) fn sources(spec: &Spec, noted: &Noted, cgroup: &Places, directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut sources = Vec::new();
    for at in &noted.mounts {
        match nearest(spec, at) {
            Some((number, mount)) if is_bind(mount) && is_at(mount, at) => {
                sources.push(directory.join(TREES).join(number.to_string()));
            }
            _ => {
                return Err(Error::Invalid(format!("the checkpoint has a mount at {at}, which the container has not")));
            }
        }
    }
    for mount in &noted.cgroups {
        let root = if mount.own { cgroup.relative() } else { Path::new("") };
        let parts = [root, &mount.below].into_iter().filter(|part| !part.as_os_str().is_empty());
        sources.push(parts.fold(mount.hierarchy.clone(), |path, part| path.join(part)));
    }
    Ok(sources)
}

/// The mount of a specification that a path is in, and its number there.
fn nearest<'a>(spec: &'a Spec, path: &str) -> Option<(usize, &'a Mount)> {
    let mounts = spec.mounts().iter().flatten().enumerate();
    let around = mounts.filter(|(_, mount)| Path::new(path).starts_with(Path::new("/").join(mount.destination())));
    // Of two at one place the latter covers the other.
    around.max_by_key(|(number, mount)| (mount.destination().components().count(), *number))
}

fn is_at(mount: &Mount, path: &str) -> bool {
    Path::new("/").join(mount.destination()) == Path::new(path)
}

fn is_bind(mount: &Mount) -> bool {
    mount.options().iter().flatten().any(|option| option == "bind" || option == "rbind")
}
