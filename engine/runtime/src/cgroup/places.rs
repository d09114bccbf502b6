//! Where the cgroup of a container is, in every hierarchy.

use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::Spec;

use super::systemd::Unit;
use super::{Hierarchy, Layout};
use crate::{Error, Host};

/// The directories of one container's cgroup. Nothing says that they exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Places {
    layout: Layout,
    relative: PathBuf,
    /// The unit of systemd that it is.
    unit: Option<Unit>,
}

impl Places {
    /// The place that a specification names, or else that of its name beneath the host's parent.
    pub(crate) fn of(spec: &Spec, id: &str, host: &Host) -> Result<Self, Error> {
        let named = spec.linux().as_ref().and_then(|linux| linux.cgroups_path().as_ref());
        let named = named.filter(|path| !path.as_os_str().is_empty());
        match named {
            Some(path) => Self::at(path, &host.cgroups),
            None => Self::at(&Path::new(&host.cgroup_parent).join(id), &host.cgroups),
        }
    }

    /// A place beneath the mounts of the hierarchies; whether the path is absolute makes no difference.
    pub(crate) fn at(path: &Path, layout: &Layout) -> Result<Self, Error> {
        if Unit::is_meant(path) {
            let unit = Unit::of(path)?;
            return Ok(Self { layout: layout.clone(), relative: unit.relative(), unit: Some(unit) });
        }
        let mut relative = PathBuf::new();
        for component in path.components() {
            match component {
                Component::Normal(part) => relative.push(part),
                Component::RootDir | Component::CurDir => {}
                Component::ParentDir | Component::Prefix(_) => {
                    return Err(Error::Invalid(format!("cgroup path {} leaves its hierarchy", path.display())));
                }
            }
        }
        if relative.as_os_str().is_empty() {
            return Err(Error::Invalid("the root cgroup cannot be a container's".to_owned()));
        }
        Ok(Self { layout: layout.clone(), relative, unit: None })
    }

    /// The unit of systemd that it is.
    pub(crate) fn unit(&self) -> Option<&Unit> {
        self.unit.as_ref()
    }

    /// What [`Places::at`] was told.
    pub(crate) fn name(&self) -> &Path {
        self.unit.as_ref().map_or(&self.relative, |unit| Path::new(unit.words()))
    }

    pub(crate) fn relative(&self) -> &Path {
        &self.relative
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The hierarchies of version 1 and the directory in each.
    pub(crate) fn hierarchies(&self) -> impl Iterator<Item = (&Hierarchy, PathBuf)> {
        self.layout.hierarchies.iter().map(|hierarchy| (hierarchy, hierarchy.mount.join(&self.relative)))
    }

    /// The directory in the version 1 hierarchy of this controller.
    pub(crate) fn controller(&self, controller: &str) -> Option<PathBuf> {
        Some(self.layout.hierarchy(controller)?.join(&self.relative))
    }

    /// The directory of version 2.
    pub(crate) fn unified(&self) -> Option<PathBuf> {
        Some(self.layout.unified.as_ref()?.mount.join(&self.relative))
    }

    /// Every directory, for making and removing.
    pub(crate) fn directories(&self) -> impl Iterator<Item = PathBuf> {
        self.hierarchies().map(|(_, directory)| directory).chain(self.unified())
    }

    /// The file of version 1 by which the kernel is asked to tell of want of memory.
    pub(crate) fn event_control(&self) -> Option<PathBuf> {
        Some(self.controller("memory")?.join("cgroup.event_control"))
    }

    /// The file that counts how often the kernel killed for want of memory.
    pub(crate) fn oom_counter(&self) -> Option<PathBuf> {
        match self.controller("memory") {
            Some(directory) => Some(directory.join("memory.oom_control")),
            None if self.layout.unified_has("memory") => Some(self.unified()?.join("memory.events")),
            None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_place_leaves_its_hierarchy() {
        let at = |path: &str| Places::at(Path::new(path), &Layout::default()).map(|places| places.relative);
        assert_eq!(at("/a/b").ok(), Some(PathBuf::from("a/b")));
        assert_eq!(at("a/./b").ok(), Some(PathBuf::from("a/b")));
        assert_eq!(at("system.slice:docker:abc").ok(), Some(PathBuf::from("system.slice/docker-abc.scope")));
        for bad in ["", "/", "../x", "a/../../b", "nothing:docker:abc"] {
            assert!(at(bad).is_err(), "{bad}");
        }
    }
}
