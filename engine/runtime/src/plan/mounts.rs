//! The mounts of a specification, one after another.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use engine_shim::plan::{Op, Slot};
use oci_spec::runtime::Mount;

use super::Resource;
use super::attributes::{Attributes, MS_PRIVATE, MS_SHARED, RDONLY};
use super::namespaces::{Namespaces, map};
use super::writer::Writer;
use crate::cgroup::Places;
use crate::{Error, Host};

/// What of `/proc` may be covered by a mount: files that a container may want to see other numbers in.
const PROC_FILES: [&str; 11] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/net/dev",
    "/proc/slabinfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/sys/crypto/fips_enabled",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/uptime",
];

/// The longest value of an option that the kernel takes.
const MAX_VALUE: usize = 255;

/// A mount whose destination and options have been looked at.
#[derive(Debug)]
pub(super) struct Planned<'a> {
    pub(super) destination: String,
    attributes: Attributes,
    kind: Kind<'a>,
    /// Maps of users and groups, and whether they are for all that is mounted below too.
    maps: Option<(String, String, bool)>,
}

#[derive(Debug)]
enum Kind<'a> {
    /// With the slot of a clone that had to be made early.
    Bind(&'a Path, Option<Slot>),
    /// With the slots of clones of version 1, or that of a mount of version 2.
    Cgroup(Vec<Slot>),
    /// With the slot of a mount that had to be made early.
    FileSystem(&'a str, Option<&'a Path>, Option<Slot>),
    Remount,
}

impl<'a> Planned<'a> {
    pub(super) fn of(mount: &'a Mount, host: &Host, namespaces: &Namespaces) -> Result<Self, Error> {
        // One that has no root is meant from the root on, says the specification.
        let destination = clean(&Path::new("/").join(mount.destination()))?;
        let invalid = |text: &str| Err(Error::Invalid(format!("mount at {destination}: {text}")));
        let attributes = Attributes::parse(mount.options().as_deref().unwrap_or_default())?;
        let typ = mount.typ().as_deref().unwrap_or_default();
        let source = mount.source().as_deref();
        let kind = match (attributes.bind, typ, source) {
            _ if attributes.remount => Kind::Remount,
            (Some(_), _, Some(source)) if source.is_absolute() => Kind::Bind(source, None),
            (Some(_), _, Some(source)) => {
                return invalid(&format!("source {} is not an absolute path", source.display()));
            }
            (Some(_), _, None) => return invalid("a bind mount needs a source"),
            (None, "", _) => return invalid("it has no type"),
            (None, "bind", _) => return invalid("a bind mount needs the option bind or rbind"),
            (None, "cgroup" | "cgroup2", _) => Kind::Cgroup(Vec::new()),
            (None, typ, source) => Kind::FileSystem(typ, source, None),
        };
        if matches!(kind, Kind::Bind(..) | Kind::Remount) && !attributes.settings.is_empty() {
            let names: Vec<_> = attributes.settings.iter().map(|(name, _)| name.as_str()).collect();
            let what = if attributes.remount { "a remount" } else { "a bind mount" };
            return invalid(&format!("{what} has no option {}", names.join(", ")));
        }
        if attributes.copy_up && !matches!(kind, Kind::FileSystem("tmpfs", ..)) {
            return invalid("tmpcopyup is for a tmpfs");
        }
        let maps = maps(mount, &attributes, namespaces)
            .map_err(|error| Error::Invalid(format!("mount at {destination}: {error}")))?;
        let whole_tree = attributes.set_all | attributes.clear_all != 0;
        if !host.features.mount_setattr
            && (maps.is_some() || (whole_tree && matches!(kind, Kind::Bind(..) | Kind::Remount)))
        {
            return Err(Error::Unsupported(format!(
                "mount at {destination}: attributes of whole trees and mapped ids need Linux 5.12"
            )));
        }
        let mount = Self { destination, attributes, kind, maps };
        mount.check_proc()?;
        Ok(mount)
    }

    /// Whoever could put something else in place of `/proc`, or of a file that is written through it, would own the host.
    fn check_proc(&self) -> Result<(), Error> {
        let at = self.destination.as_str();
        if matches!(self.kind, Kind::Remount) {
            return Ok(());
        }
        let proc = matches!(&self.kind, Kind::FileSystem("proc", ..))
            || matches!(&self.kind, Kind::Bind(source, _) if *source == Path::new("/proc"));
        if at == "/" {
            return Err(Error::Invalid("a mount at / would cover the whole root file system".to_owned()));
        }
        if (at == "/proc" && proc) || (at != "/proc" && !at.starts_with("/proc/")) || PROC_FILES.contains(&at) {
            return Ok(());
        }
        Err(Error::Invalid(format!("{at:?} cannot be mounted because it is inside /proc")))
    }

    /// Gives a new file system the label of SELinux that all of its files are to have, unless it says one itself. What shows the
    /// kernel has labels of its own.
    pub(super) fn label(&mut self, label: &str) {
        let says = |name: &str| matches!(name, "context" | "fscontext" | "defcontext" | "rootcontext");
        let settings = &mut self.attributes.settings;
        if !label.is_empty()
            && matches!(self.kind, Kind::FileSystem("tmpfs" | "ramfs" | "devpts" | "overlay", ..))
            && !settings.iter().any(|(name, _)| says(name))
        {
            settings.push(("context".to_owned(), Some(label.to_owned())));
        }
    }

    pub(super) fn is_bind(&self) -> bool {
        matches!(self.kind, Kind::Bind(..))
    }

    /// Takes the source from what is at hand, if it is there.
    pub(super) fn take(&mut self, plan: &mut Writer, trees: &BTreeMap<PathBuf, Arc<OwnedFd>>) {
        let destination = Path::new(&self.destination);
        if let Kind::Bind(source, None) = &self.kind
            && trees.contains_key(destination)
        {
            let slot = plan.slot();
            let descriptor = plan.descriptor(Resource::Tree(destination.to_owned()));
            plan.push(Op::CloneTreeOf { slot, descriptor, recursive: self.attributes.bind.unwrap_or(false).into() });
            self.kind = Kind::Bind(source, Some(slot));
        }
    }

    /// Clones what is to be cloned before the host's mounts are made slaves, and with `all` everything: bind mounts that go on
    /// to exchange mounts with the host, and what is out of reach afterwards.
    pub(super) fn clone_early(&mut self, plan: &mut Writer, all: bool, cgroup: &Places) -> Result<(), Error> {
        match &self.kind {
            Kind::Bind(source, None) if all || self.attributes.propagation == MS_SHARED || self.maps.is_some() => {
                self.kind = Kind::Bind(source, Some(self.cloned(plan, source)));
            }
            Kind::Cgroup(slots) if all && slots.is_empty() => {
                let directories =
                    cgroup.hierarchies().map(|(_, directory)| clone_hierarchy(plan, &directory)).collect();
                self.kind = Kind::Cgroup(directories);
            }
            _ => {}
        }
        Ok(())
    }

    /// Mounts what nobody can mount in the namespaces of the container.
    pub(super) fn make_early(&mut self, plan: &mut Writer, host: &Host, namespaces: &Namespaces) {
        match self.kind {
            // The kernel makes no user namespace, which is how it is told of maps, once there is another root.
            Kind::FileSystem(typ, source, None)
                if self.maps.is_some() || (namespaces.has_user() && namespaces.mounts_early(typ)) =>
            {
                self.kind = Kind::FileSystem(typ, source, Some(self.made(plan, typ, source, host)));
            }
            Kind::Cgroup(_)
                if namespaces.has_user() && host.cgroups.is_unified() && namespaces.mounts_early("cgroup2") =>
            {
                self.kind = Kind::Cgroup(vec![self.made(plan, "cgroup2", Some(Path::new("cgroup")), host)]);
            }
            _ => {}
        }
    }

    /// Writes the mount. A slot is returned that is to be made read-only when all else is in place.
    pub(super) fn write(&self, plan: &mut Writer, host: &Host, cgroup: &Places) -> Result<Option<Slot>, Error> {
        match &self.kind {
            Kind::Bind(source, early) => {
                let slot = early.unwrap_or_else(|| self.cloned(plan, source));
                self.set_attributes(plan, slot);
                move_to(plan, slot, &self.destination);
                plan.release(slot);
                Ok(None)
            }
            Kind::Cgroup(early) if host.cgroups.is_unified() => {
                let early = early.first().copied();
                self.file_system(plan, "cgroup2", Some(Path::new("cgroup")), early, host);
                Ok(None)
            }
            Kind::Cgroup(early) => {
                self.hierarchies(plan, cgroup, early)?;
                Ok(None)
            }
            Kind::FileSystem(typ, source, early) => Ok(self.file_system(plan, typ, *source, *early, host)),
            Kind::Remount => {
                let all = &self.attributes;
                for (set, clear, propagation, recursive) in [
                    (all.set_all, all.clear_all, if all.propagation_all { all.propagation } else { 0 }, 1),
                    (all.set, all.clear, if all.propagation_all { 0 } else { all.propagation }, 0),
                ] {
                    if set | clear | propagation != 0 {
                        plan.with_text(&self.destination, |path| Op::SetAttributesAt {
                            path,
                            set,
                            clear,
                            propagation,
                            recursive,
                        });
                    }
                }
                Ok(None)
            }
        }
    }

    /// A clone of the source of a bind mount.
    fn cloned(&self, plan: &mut Writer, source: &Path) -> Slot {
        let slot = plan.slot();
        clone(plan, slot, source, self.attributes.bind);
        self.map(plan, slot);
        slot
    }

    fn map(&self, plan: &mut Writer, slot: Slot) {
        if let Some((uids, gids, recursive)) = &self.maps {
            let recursive = (*recursive).into();
            plan.with_texts(uids, gids, |uids, gids| Op::MapIds { slot, uids, gids, recursive });
        }
    }

    fn set_attributes(&self, plan: &mut Writer, slot: Slot) {
        let all = &self.attributes;
        // Without a word about it a bind mount keeps to itself.
        let (propagation, everywhere) =
            if all.propagation == 0 { (MS_PRIVATE, true) } else { (all.propagation, all.propagation_all) };
        let recursive = if everywhere { propagation } else { 0 };
        if all.set_all | all.clear_all | recursive != 0 {
            plan.push(Op::SetAttributes {
                slot,
                set: all.set_all,
                clear: all.clear_all,
                propagation: recursive,
                recursive: 1,
            });
        }
        let single = if everywhere { 0 } else { propagation };
        if all.set | all.clear | single != 0 {
            plan.push(Op::SetAttributes { slot, set: all.set, clear: all.clear, propagation: single, recursive: 0 });
        }
    }

    fn file_system(
        &self,
        plan: &mut Writer,
        typ: &str,
        source: Option<&Path>,
        early: Option<Slot>,
        host: &Host,
    ) -> Option<Slot> {
        let slot = early.unwrap_or_else(|| self.made(plan, typ, source, host));
        if self.attributes.propagation != 0 && self.attributes.propagation != MS_PRIVATE {
            plan.push(Op::SetAttributes {
                slot,
                set: 0,
                clear: 0,
                propagation: self.attributes.propagation,
                recursive: 0,
            });
        }
        if self.attributes.copy_up {
            plan.with_text(&self.destination, |path| Op::CopyUp { slot, path });
        }
        move_to(plan, slot, &self.destination);
        if self.is_late(typ) {
            return Some(slot);
        }
        plan.release(slot);
        None
    }

    /// Mount points may still have to be made in it.
    fn is_late(&self, typ: &str) -> bool {
        typ == "tmpfs" && (self.attributes.set | self.attributes.set_all) & RDONLY != 0
    }

    /// A new file system, detached.
    fn made(&self, plan: &mut Writer, typ: &str, source: Option<&Path>, host: &Host) -> Slot {
        let slot = plan.slot();
        open(plan, slot, typ, source);
        for (key, value) in &self.attributes.settings {
            match value {
                // Every instance of devpts is a new one; the kernel takes the word and ignores it.
                None if typ == "devpts" && key == "newinstance" => {}
                // Long lists of layers are told one by one where the kernel takes them like this.
                Some(value)
                    if typ == "overlay"
                        && key == "lowerdir"
                        && value.len() > MAX_VALUE
                        && host.features.overlay_append
                        && !value.contains('\\')
                        && !value.contains("::") =>
                {
                    for layer in value.split(':') {
                        plan.with_text(layer, |value| Op::FsString { slot, key: c"lowerdir+", value });
                    }
                }
                Some(value) if value.len() > MAX_VALUE => plan.fail(Error::Unsupported(format!(
                    "mount at {}: option {key} has more than {MAX_VALUE} bytes",
                    self.destination
                ))),
                Some(value) => plan.with_texts(key, value, |key, value| Op::FsString { slot, key, value }),
                None => plan.with_text(key, |key| Op::FsFlag { slot, key }),
            }
        }
        let attributes = self.attributes.set | self.attributes.set_all;
        plan.push(Op::FsMount { slot, attributes: if self.is_late(typ) { attributes & !RDONLY } else { attributes } });
        self.map(plan, slot);
        slot
    }

    /// Version 1: a small file system with the container's own directory of every hierarchy in it.
    fn hierarchies(&self, plan: &mut Writer, cgroup: &Places, early: &[Slot]) -> Result<(), Error> {
        let set = self.attributes.set | self.attributes.set_all;
        let outer = plan.slot();
        open(plan, outer, "tmpfs", Some(Path::new("cgroup")));
        plan.with_texts("mode", "755", |key, value| Op::FsString { slot: outer, key, value });
        plan.push(Op::FsMount { slot: outer, attributes: set & !RDONLY });
        move_to(plan, outer, &self.destination);
        for (at, (hierarchy, directory)) in cgroup.hierarchies().enumerate() {
            let name = hierarchy.mount.file_name().map(OsStrExt::as_bytes).map(String::from_utf8_lossy);
            let name = name.ok_or_else(|| Error::Unsupported("a cgroup hierarchy that is mounted at /".to_owned()))?;
            let slot = early.get(at).copied().unwrap_or_else(|| clone_hierarchy(plan, &directory));
            plan.push(Op::SetAttributes { slot, set, clear: 0, propagation: MS_PRIVATE, recursive: 0 });
            move_to(plan, slot, &format!("{}/{name}", self.destination));
            plan.release(slot);
            for controller in &hierarchy.controllers {
                if *controller != name && !controller.starts_with("name=") {
                    let path = format!("{}/{controller}", self.destination);
                    plan.with_texts(name.as_bytes(), path, |target, path| Op::MakeLink { target, path });
                }
            }
        }
        if set & RDONLY != 0 {
            plan.push(Op::SetAttributes { slot: outer, set: RDONLY, clear: 0, propagation: 0, recursive: 0 });
        }
        plan.release(outer);
        Ok(())
    }
}

fn clone_hierarchy(plan: &mut Writer, directory: &Path) -> Slot {
    let slot = plan.slot();
    plan.with_text(directory.as_os_str().as_bytes(), |path| Op::CloneTree { slot, path, recursive: 0 });
    slot
}

/// The maps of a mount: its own, or where the options ask for some those of the container.
fn maps(
    mount: &Mount,
    attributes: &Attributes,
    namespaces: &Namespaces,
) -> Result<Option<(String, String, bool)>, Error> {
    let [uids, gids] = [mount.uid_mappings(), mount.gid_mappings()].map(|maps| maps.as_deref().unwrap_or_default());
    let recursive = attributes.mapped.unwrap_or(false);
    if !uids.is_empty() || !gids.is_empty() {
        return Ok(Some((map("uid", uids, false)?, map("gid", gids, false)?, recursive)));
    }
    match (attributes.mapped, namespaces.maps()) {
        (None, _) => Ok(None),
        (Some(_), Some((uids, gids))) => Ok(Some((uids.to_owned(), gids.to_owned(), recursive))),
        (Some(_), None) => Err(Error::Invalid(
            "the option idmap needs uidMappings and gidMappings, or a user namespace of the container's own".to_owned(),
        )),
    }
}

fn open(plan: &mut Writer, slot: Slot, typ: &str, source: Option<&Path>) {
    plan.with_text(typ, |kind| Op::FsOpen { slot, kind });
    if let Some(source) = source {
        plan.with_text(source.as_os_str().as_bytes(), |value| Op::FsString { slot, key: c"source", value });
    }
}

fn clone(plan: &mut Writer, slot: Slot, source: &Path, recursive: Option<bool>) {
    let recursive = recursive.unwrap_or(false).into();
    plan.with_text(source.as_os_str().as_bytes(), |path| Op::CloneTree { slot, path, recursive });
}

pub(super) fn move_to(plan: &mut Writer, slot: Slot, destination: &str) {
    let within = |top: &str| destination.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let strict = (within("/proc") || within("/sys")).into();
    plan.with_text(destination, |path| Op::MoveMount { slot, path, strict });
}

/// An absolute path of the container without `.`, `..` and doubled slashes. It is only a name yet: symbolic links are
/// followed beneath the root, when it is opened.
pub(super) fn clean(path: &Path) -> Result<String, Error> {
    let mut parts: Vec<&str> = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => parts
                .push(part.to_str().ok_or_else(|| Error::Invalid(format!("path {} is not UTF-8", path.display())))?),
            Component::ParentDir => {
                parts.pop();
            }
            _ => {}
        }
    }
    if !path.is_absolute() {
        return Err(Error::Invalid(format!("path {:?} is not absolute", path.display().to_string())));
    }
    Ok(format!("/{}", parts.join("/")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn mount(destination: &str, typ: &str, source: &str, options: &[&str]) -> Mount {
        let mut mount = Mount::default();
        mount
            .set_destination(PathBuf::from(destination))
            .set_typ(Some(typ.to_owned()))
            .set_source(Some(PathBuf::from(source)))
            .set_options(Some(options.iter().map(|&option| option.to_owned()).collect()));
        mount
    }

    #[test]
    fn paths_are_cleaned_by_their_letters() {
        let clean = |path: &str| clean(Path::new(path)).unwrap();
        assert_eq!(clean("/a//b/./c/../d/"), "/a/b/d");
        assert_eq!(clean("/../.."), "/");
        assert!(super::clean(Path::new("a/b")).is_err());
    }

    fn planned(mount: &Mount) -> Result<Planned<'_>, Error> {
        let host = crate::plan::tests::unified();
        let mut linux = oci_spec::runtime::Linux::default();
        linux.set_namespaces(Some(crate::defaults::namespaces(&host)));
        Planned::of(mount, &host, &Namespaces::of(&linux, false, &host).unwrap())
    }

    #[test]
    fn nothing_covers_proc() {
        for (destination, typ, options) in [
            ("/proc", "tmpfs", &[][..]),
            ("/proc", "bind", &["rbind"]),
            ("/proc/sys", "tmpfs", &[]),
            ("/x/../proc/self/attr", "bind", &["bind"]),
            ("/proc/sysrq-trigger", "bind", &["bind"]),
            ("/", "tmpfs", &[]),
        ] {
            let mount = mount(destination, typ, "/tmp", options);
            assert!(planned(&mount).is_err(), "{destination}");
        }
        assert!(planned(&mount("/proc", "proc", "proc", &[])).is_ok());
        assert!(planned(&mount("/proc", "bind", "/proc", &["rbind"])).is_ok());
        assert!(planned(&mount("/proc/meminfo", "bind", "/x", &["bind"])).is_ok());
        assert!(planned(&mount("/process", "tmpfs", "tmpfs", &[])).is_ok());
    }

    #[test]
    fn a_bind_mount_says_what_and_how() {
        assert!(planned(&mount("/x", "bind", "/y", &[])).is_err());
        assert!(planned(&mount("/x", "bind", "y", &["bind"])).is_err());
        assert!(planned(&mount("/x", "none", "/y", &["bind", "size=5"])).is_err());
        assert!(planned(&mount("/x", "none", "/y", &["rbind", "ro"])).is_ok());
        assert_eq!(planned(&mount("x/../y/z", "none", "/y", &["bind"])).unwrap().destination, "/y/z");
        assert!(planned(&mount("proc/sys", "none", "/y", &["bind"])).is_err());
    }
}
