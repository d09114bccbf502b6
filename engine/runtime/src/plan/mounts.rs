//! The mounts of a specification, one after another.

use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use engine_shim::plan::{Op, Slot};
use oci_spec::runtime::Mount;

use super::attributes::{Attributes, MS_PRIVATE, MS_SHARED, RDONLY};
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

/// A mount whose destination and options have been looked at.
#[derive(Debug)]
pub(super) struct Planned<'a> {
    pub(super) destination: String,
    attributes: Attributes,
    kind: Kind<'a>,
}

#[derive(Debug)]
enum Kind<'a> {
    /// With the slot of a clone that had to be made early.
    Bind(&'a Path, Option<Slot>),
    Cgroup,
    FileSystem(&'a str, Option<&'a Path>),
}

impl<'a> Planned<'a> {
    pub(super) fn of(mount: &'a Mount) -> Result<Self, Error> {
        let destination = clean(mount.destination())?;
        let invalid = |text: &str| Err(Error::Invalid(format!("mount at {destination}: {text}")));
        let attributes = Attributes::parse(mount.options().as_deref().unwrap_or_default())?;
        let mapped = [mount.uid_mappings(), mount.gid_mappings()];
        if mapped.iter().any(|map| map.as_ref().is_some_and(|map| !map.is_empty())) {
            return Err(Error::Unsupported(format!("mount at {destination} with id mappings")));
        }
        let typ = mount.typ().as_deref().unwrap_or_default();
        let source = mount.source().as_deref();
        let kind = match (attributes.bind, typ, source) {
            (Some(_), _, Some(source)) if source.is_absolute() => Kind::Bind(source, None),
            (Some(_), _, Some(source)) => {
                return invalid(&format!("source {} is not an absolute path", source.display()));
            }
            (Some(_), _, None) => return invalid("a bind mount needs a source"),
            (None, "", _) => return invalid("it has no type"),
            (None, "bind", _) => return invalid("a bind mount needs the option bind or rbind"),
            (None, "cgroup" | "cgroup2", _) => Kind::Cgroup,
            (None, typ, source) => Kind::FileSystem(typ, source),
        };
        if matches!(kind, Kind::Bind(..)) && !attributes.settings.is_empty() {
            let names: Vec<_> = attributes.settings.iter().map(|(name, _)| name.as_str()).collect();
            return invalid(&format!("a bind mount has no option {}", names.join(", ")));
        }
        let mount = Self { destination, attributes, kind };
        mount.check_proc()?;
        Ok(mount)
    }

    /// Whoever could put something else in place of `/proc`, or of a file that is written through it, would own the host.
    fn check_proc(&self) -> Result<(), Error> {
        let at = self.destination.as_str();
        let proc = matches!(&self.kind, Kind::FileSystem("proc", _))
            || matches!(&self.kind, Kind::Bind(source, _) if *source == Path::new("/proc"));
        if at == "/" {
            return Err(Error::Invalid("a mount at / would cover the whole root file system".to_owned()));
        }
        if (at == "/proc" && proc) || (at != "/proc" && !at.starts_with("/proc/")) || PROC_FILES.contains(&at) {
            return Ok(());
        }
        Err(Error::Invalid(format!("{at:?} cannot be mounted because it is inside /proc")))
    }

    pub(super) fn is_bind(&self) -> bool {
        matches!(self.kind, Kind::Bind(..))
    }

    /// A bind mount that goes on to exchange mounts with the host has to be cloned before the host's mounts are made slaves.
    pub(super) fn clone_early(&mut self, plan: &mut Writer) {
        if let Kind::Bind(source, early) = &mut self.kind
            && self.attributes.propagation == MS_SHARED
        {
            let slot = plan.slot();
            clone(plan, slot, source, self.attributes.bind);
            *early = Some(slot);
        }
    }

    /// Writes the mount. A slot is returned that is to be made read-only when all else is in place.
    pub(super) fn write(&self, plan: &mut Writer, host: &Host, cgroup: &Places) -> Result<Option<Slot>, Error> {
        match &self.kind {
            Kind::Bind(source, early) => {
                let slot = early.unwrap_or_else(|| {
                    let slot = plan.slot();
                    clone(plan, slot, source, self.attributes.bind);
                    slot
                });
                self.set_attributes(plan, slot);
                move_to(plan, slot, &self.destination);
                plan.release(slot);
                Ok(None)
            }
            Kind::Cgroup if host.cgroups.is_unified() => {
                self.file_system(plan, "cgroup2", Some(Path::new("cgroup")));
                Ok(None)
            }
            Kind::Cgroup => {
                self.hierarchies(plan, cgroup)?;
                Ok(None)
            }
            Kind::FileSystem(typ, source) => Ok(self.file_system(plan, typ, *source)),
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

    fn file_system(&self, plan: &mut Writer, typ: &str, source: Option<&Path>) -> Option<Slot> {
        let slot = plan.slot();
        // Mount points may still have to be made in it.
        let late = typ == "tmpfs" && (self.attributes.set | self.attributes.set_all) & RDONLY != 0;
        open(plan, slot, typ, source);
        for (key, value) in &self.attributes.settings {
            match value {
                // Every instance of devpts is a new one; the kernel takes the word and ignores it.
                None if typ == "devpts" && key == "newinstance" => {}
                Some(value) => plan.with_texts(key, value, |key, value| Op::FsString { slot, key, value }),
                None => plan.with_text(key, |key| Op::FsFlag { slot, key }),
            }
        }
        let attributes = self.attributes.set | self.attributes.set_all;
        plan.push(Op::FsMount { slot, attributes: if late { attributes & !RDONLY } else { attributes } });
        if self.attributes.propagation != 0 && self.attributes.propagation != MS_PRIVATE {
            plan.push(Op::SetAttributes {
                slot,
                set: 0,
                clear: 0,
                propagation: self.attributes.propagation,
                recursive: 0,
            });
        }
        move_to(plan, slot, &self.destination);
        if late {
            return Some(slot);
        }
        plan.release(slot);
        None
    }

    /// Version 1: a small file system with the container's own directory of every hierarchy in it.
    fn hierarchies(&self, plan: &mut Writer, cgroup: &Places) -> Result<(), Error> {
        let set = self.attributes.set | self.attributes.set_all;
        let outer = plan.slot();
        open(plan, outer, "tmpfs", Some(Path::new("cgroup")));
        plan.with_texts("mode", "755", |key, value| Op::FsString { slot: outer, key, value });
        plan.push(Op::FsMount { slot: outer, attributes: set & !RDONLY });
        move_to(plan, outer, &self.destination);
        for (hierarchy, directory) in cgroup.hierarchies() {
            let name = hierarchy.mount.file_name().map(OsStrExt::as_bytes).map(String::from_utf8_lossy);
            let name = name.ok_or_else(|| Error::Unsupported("a cgroup hierarchy that is mounted at /".to_owned()))?;
            let slot = plan.slot();
            plan.with_text(directory.as_os_str().as_bytes(), |path| Op::CloneTree { slot, path, recursive: 0 });
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
    use std::path::PathBuf;

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
            assert!(Planned::of(&mount).is_err(), "{destination}");
        }
        assert!(Planned::of(&mount("/proc", "proc", "proc", &[])).is_ok());
        assert!(Planned::of(&mount("/proc", "bind", "/proc", &["rbind"])).is_ok());
        assert!(Planned::of(&mount("/proc/meminfo", "bind", "/x", &["bind"])).is_ok());
        assert!(Planned::of(&mount("/process", "tmpfs", "tmpfs", &[])).is_ok());
    }

    #[test]
    fn a_bind_mount_says_what_and_how() {
        assert!(Planned::of(&mount("/x", "bind", "/y", &[])).is_err());
        assert!(Planned::of(&mount("/x", "bind", "y", &["bind"])).is_err());
        assert!(Planned::of(&mount("/x", "none", "/y", &["bind", "size=5"])).is_err());
        assert!(Planned::of(&mount("/x", "none", "/y", &["rbind", "ro"])).is_ok());
    }
}
