//! Cgroups that systemd makes: a transient scope in a slice, delegated to us. systemd is told the limits, so that they stay when
//! it reads its units anew, and what it has no words for is written to the cgroup's files as ever.

mod bus;
mod properties;

use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxResources;

use super::Layout;
use crate::Error;
use bus::{Arguments, Bus, Failure, Value};

const NO_SUCH_UNIT: &str = "org.freedesktop.systemd1.NoSuchUnit";
const UNIT_EXISTS: &str = "org.freedesktop.systemd1.UnitExists";
/// The longest name of a unit that systemd takes.
const MAX_NAME: usize = 255;

/// A scope, by the words of a specification: `slice:prefix:name`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unit {
    words: String,
    slice: String,
    name: String,
}

impl Unit {
    /// Whether a specification's path of a cgroup has the form of systemd's.
    pub(crate) fn is_meant(path: &Path) -> bool {
        path.to_str().is_some_and(|path| path.split(':').count() == 3 && !path.contains('/'))
    }

    pub(super) fn of(path: &Path) -> Result<Self, Error> {
        let words = path.to_str().unwrap_or_default();
        let invalid = |what: String| Error::Invalid(format!("the cgroup {words:?}: {what}"));
        let [slice, prefix, name] = words.split(':').collect::<Vec<_>>()[..] else {
            return Err(invalid("expected the form slice:prefix:name".to_owned()));
        };
        let slice = if slice.is_empty() { "system.slice" } else { slice };
        let stem = slice.strip_suffix(".slice").unwrap_or_default();
        if stem.is_empty() || (stem != "-" && stem.split('-').any(str::is_empty)) {
            return Err(invalid(format!("{slice:?} is not the name of a slice")));
        }
        if name.is_empty() || name.ends_with(".slice") {
            return Err(invalid("a container is a scope, which needs a name of its own".to_owned()));
        }
        let separator = if prefix.is_empty() { "" } else { "-" };
        let scope = format!("{prefix}{separator}{name}.scope");
        let letters = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-@\\".contains(&b));
        if !letters(slice) || !letters(&scope) || scope.len() > MAX_NAME || slice.len() > MAX_NAME {
            return Err(invalid("systemd takes letters, digits, '_', '.', '-', '@' and '\\', 255 in all".to_owned()));
        }
        Ok(Self { words: words.to_owned(), slice: slice.to_owned(), name: scope })
    }

    /// As the specification says it.
    pub(crate) fn words(&self) -> &str {
        &self.words
    }

    /// Where systemd puts it: a slice lies in those that its name begins with.
    pub(super) fn relative(&self) -> PathBuf {
        let mut path = PathBuf::new();
        let stem = self.slice.trim_end_matches(".slice");
        if stem != "-" {
            for (at, _) in stem.match_indices('-').chain([(stem.len(), "")]) {
                path.push(format!("{}.slice", &stem[..at]));
            }
        }
        path.join(&self.name)
    }

    /// Has systemd make it around a process; returns when it is there.
    pub(super) fn start(&self, layout: &Layout, resources: &LinuxResources, pid: u32) -> Result<(), Error> {
        let mut all = vec![
            ("Description", Value::Text(format!("container {}", self.name))),
            ("Slice", Value::Text(self.slice.clone())),
            ("PIDs", Value::Numbers(vec![pid])),
            ("Delegate", Value::Flag(true)),
            ("DefaultDependencies", Value::Flag(false)),
            ("CollectMode", Value::Text("inactive-or-failed".to_owned())),
        ];
        let disks = if layout.is_unified() { "IOAccounting" } else { "BlockIOAccounting" };
        for name in ["CPUAccounting", "MemoryAccounting", "TasksAccounting", disks] {
            all.push((name, Value::Flag(true)));
        }
        all.extend(properties::of(resources, layout.is_unified())?);
        let mut bus = self.bus(layout)?;
        let mut start = || {
            let arguments = Arguments::of("ssa(sv)a(sa(sv))").text(&self.name).text("fail").properties(&all).nothing();
            let job = bus.call("StartTransientUnit", arguments)?;
            bus.wait(&job)
        };
        match start() {
            Err(Failure::Refused { name, .. }) if name == UNIT_EXISTS => Err(Error::Exists(self.name.clone())),
            done => done.map_err(self.failed("start the unit")),
        }
    }

    /// Tells systemd of changed limits.
    pub(super) fn set(&self, layout: &Layout, resources: &LinuxResources) -> Result<(), Error> {
        let properties = properties::of(resources, layout.is_unified())?;
        if properties.is_empty() {
            return Ok(());
        }
        let arguments = Arguments::of("sba(sv)").text(&self.name).flag(true).properties(&properties);
        self.bus(layout)?
            .call("SetUnitProperties", arguments)
            .map(drop)
            .map_err(self.failed("set properties of the unit"))
    }

    /// Has systemd take it away; returns when it is gone. One that is not there is no error.
    pub(super) fn stop(&self, layout: &Layout) -> Result<(), Error> {
        let mut bus = self.bus(layout)?;
        let stopped = match bus.call("StopUnit", Arguments::of("ss").text(&self.name).text("replace")) {
            Ok(job) => bus.wait(&job),
            Err(failure) => Err(failure),
        };
        match stopped {
            Err(Failure::Refused { name, .. }) if name == NO_SUCH_UNIT => return Ok(()),
            stopped => stopped.map_err(self.failed("stop the unit"))?,
        }
        // It is forgotten at once unless it failed, and then now.
        let _ = bus.call("ResetFailedUnit", Arguments::of("s").text(&self.name));
        Ok(())
    }

    fn bus(&self, layout: &Layout) -> Result<Bus, Error> {
        let none = || Error::Unsupported(format!("the cgroup {:?}: systemd does not run here", self.words));
        let socket = layout.systemd.as_ref().ok_or_else(none)?;
        Bus::connect(socket).map_err(Error::io("connect to systemd at", socket))
    }

    fn failed(&self, action: &'static str) -> impl FnOnce(Failure) -> Error + '_ {
        move |failure| match failure {
            Failure::Io(source) => Error::io(action, &self.name)(source),
            Failure::Refused { name, text } => {
                let text = if name.is_empty() { text } else { format!("{text} ({name})") };
                Error::io(action, &self.name)(std::io::Error::other(text))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_scope_lies_in_its_slices() {
        let relative = |words: &str| Unit::of(Path::new(words)).unwrap().relative();
        assert_eq!(relative("a-b-c.slice:p:x"), Path::new("a.slice/a-b.slice/a-b-c.slice/p-x.scope"));
        assert_eq!(relative(":docker:x"), Path::new("system.slice/docker-x.scope"));
        assert_eq!(relative("-.slice::x"), Path::new("x.scope"));
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in ["a:b:c", "a-.slice:b:c", ".slice:b:c", "a.slice:b:", "a.slice:b:c.slice", "a.slice:b:c d", "x:y"] {
            assert!(Unit::of(Path::new(bad)).is_err(), "{bad}");
        }
        assert!(Unit::of(Path::new(&format!("a.slice:b:{}", "x".repeat(255)))).is_err());
        assert!(Unit::is_meant(Path::new("a:b:c")) && !Unit::is_meant(Path::new("/a:b:c")));
    }
}
