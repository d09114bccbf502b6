//! Control groups, version 1 in all its hierarchies and version 2: making one for a container, what it may use, what it has
//! used, and taking it away.
//!
//! No pid is ever written to `cgroup.procs`: that waits for a grace period of the kernel, up to 20 ms. Processes enter by
//! themselves (version 1) or are born inside (version 2).

mod change;
mod devices;
mod entry;
mod files;
mod layout;
mod owner;
mod places;
mod processes;
mod realtime;
mod setting;
mod systemd;
mod usage;

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxResources};

use crate::Error;

pub(crate) use entry::Entry;
pub use entry::Subgroup;
pub use layout::{Hierarchy, Layout, Unified};
pub(crate) use owner::owner;
pub(crate) use places::Places;
pub use realtime::Realtime;
pub use usage::{CpuUsage, IoUsage, MemoryUsage, PidsUsage, Usage};

/// The cgroup of a container, whether it exists or not. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Cgroup {
    places: Places,
}

impl Cgroup {
    pub(crate) fn new(places: Places) -> Self {
        Self { places }
    }

    /// The cgroup at a path beneath the mounts of the hierarchies.
    ///
    /// # Errors
    /// [`Error::Invalid`] for the root, for a path with `..`, and for what has the form of systemd's `slice:prefix:name` and is
    /// the name of no scope.
    pub fn at(path: &Path, layout: &Layout) -> Result<Self, Error> {
        Places::at(path, layout).map(Self::new)
    }

    pub(crate) fn places(&self) -> &Places {
        &self.places
    }

    /// The path beneath the mounts of the hierarchies, without a leading slash.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.places.relative()
    }

    /// Whether there is a directory of it in any hierarchy.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.places.directories().any(|directory| directory.exists())
    }

    /// Makes it in every hierarchy and sets what it may use. What is left of an earlier one is taken away first. On failure
    /// nothing is left.
    ///
    /// # Errors
    /// [`Error::Exists`] when an earlier one has processes, [`Error::Resource`] when the kernel refuses a value,
    /// [`Error::Unsupported`] when this machine lacks a controller.
    pub fn create(&self, resources: &LinuxResources) -> Result<(), Error> {
        self.create_around(None, resources)
    }

    /// As [`Cgroup::create`]. One that systemd makes takes a process, which it puts inside.
    pub(crate) fn create_around(&self, pid: Option<u32>, resources: &LinuxResources) -> Result<(), Error> {
        // All that can be found wrong without the kernel is found before anything is made.
        let settings = setting::settings(resources, self.places.layout())?;
        let rules = resources.devices().as_deref().unwrap_or_default();
        devices::lines(rules)?;
        let made = self.make_as_unit(pid, resources).and_then(|()| self.make()).and_then(|()| {
            self.write(&settings, &mut |_| {})?;
            self.set_devices(rules, false)
        });
        if made.is_err() && !matches!(made, Err(Error::Exists(_))) {
            // The failure that is reported is the first one.
            let _ = self.remove();
        }
        made
    }

    /// Has systemd make it, when it is to.
    fn make_as_unit(&self, pid: Option<u32>, resources: &LinuxResources) -> Result<(), Error> {
        let Some(unit) = self.places.unit() else { return Ok(()) };
        let none = || Error::Unsupported(format!("the cgroup {} without a process to begin with", unit.words()));
        unit.start(self.places.layout(), resources, pid.ok_or_else(none)?)
    }

    fn make(&self) -> Result<(), Error> {
        let layout = self.places.layout();
        let relative = self.places.relative();
        for hierarchy in &layout.hierarchies {
            self.make_directory(&hierarchy.mount.join(relative), |parent| {
                make_parents(&hierarchy.mount, parent, |_, made| {
                    if hierarchy.controllers.iter().any(|c| c == "cpuset") { inherit_cpuset(made) } else { Ok(()) }
                })
            })?;
            if hierarchy.controllers.iter().any(|c| c == "cpuset") {
                inherit_cpuset(&hierarchy.mount.join(relative))?;
            }
        }
        // systemd has made the one of version 2, and says which controllers there are in its slices.
        if let Some(unified) = layout.unified.as_ref().filter(|_| self.places.unit().is_none()) {
            self.make_directory(&unified.mount.join(relative), |parent| {
                make_parents(&unified.mount, parent, |above, _| enable(above, &unified.controllers))?;
                enable(parent, &unified.controllers)
            })?;
        }
        Ok(())
    }

    /// Usually the parent is there already and one call does it.
    fn make_directory(&self, path: &Path, parents: impl Fn(&Path) -> Result<(), Error>) -> Result<(), Error> {
        let mut made = fs::create_dir(path);
        // Another engine that ends may take the parent away just after it was made.
        for _ in 0..5 {
            let Err(error) = &made else { return Ok(()) };
            match (error.kind(), path.parent()) {
                (io::ErrorKind::NotFound, Some(parent)) => parents(parent)?,
                // What systemd has made it keeps.
                (io::ErrorKind::AlreadyExists, _) if self.places.unit().is_some() => return Ok(()),
                (io::ErrorKind::AlreadyExists, _) => {
                    let exists = |_| Error::Exists(self.places.relative().display().to_string());
                    remove_tree(path).map_err(exists)?;
                }
                _ => break,
            }
            made = fs::create_dir(path);
        }
        made.map_err(Error::io("make cgroup", path))
    }

    /// With `again` the cgroup has had rules before, and these take their place.
    fn set_devices(&self, rules: &[LinuxDeviceCgroup], again: bool) -> Result<(), Error> {
        if rules.is_empty() {
            return Ok(());
        }
        if let Some(directory) = self.places.controller("devices") {
            let path = |allow| directory.join(if allow { "devices.allow" } else { "devices.deny" });
            let open = |allow| OpenOptions::new().write(true).open(path(allow)).map_err(Error::io("open", path(allow)));
            let (mut allow, mut deny) = (open(true)?, open(false)?);
            for (allowed, line) in devices::lines(rules)? {
                let file = if allowed { &mut allow } else { &mut deny };
                file.write_all(line.as_bytes()).map_err(refused(&path(allowed), &line))?;
            }
            return Ok(());
        }
        let Some(directory) = self.places.unified() else {
            return Err(Error::Unsupported("device rules: this machine has no cgroup for them".to_owned()));
        };
        let program = engine_sys::bpf::load_device_program(&devices::program(rules)?)
            .map_err(Error::io("load the device program of", &directory))?;
        let cgroup = fs::File::open(&directory).map_err(Error::io("open", &directory))?;
        let attach = if again {
            engine_sys::bpf::replace_device_programs(cgroup.as_fd(), program)
        } else {
            engine_sys::bpf::attach_device_program(cgroup.as_fd(), program)
        };
        attach.map_err(Error::io("attach the device program of", &directory))
    }

    /// Takes it away, with what the container made beneath it. What still runs inside is killed.
    ///
    /// # Errors
    /// [`Error::Busy`] when it is not empty after two seconds.
    pub fn remove(&self) -> Result<(), Error> {
        if let Some(unit) = self.places.unit() {
            self.kill()?;
            unit.stop(self.places.layout())?;
        }
        // Whoever is being killed is gone a moment later, only the first tries are likely to be too early.
        let mut wait = Duration::from_micros(200);
        let mut waited = Duration::ZERO;
        loop {
            let left = self.places.directories().find(|directory| match remove_tree(directory) {
                Ok(()) => false,
                Err(error) => error.kind() != io::ErrorKind::NotFound,
            });
            let Some(path) = left else { return Ok(()) };
            if waited > Duration::from_secs(2) {
                return Err(Error::Busy { path });
            }
            let _ = self.kill();
            std::thread::sleep(wait);
            waited += wait;
            wait = (wait * 2).min(Duration::from_millis(50));
        }
    }
}

fn refused<'a>(file: &'a Path, value: &'a str) -> impl FnOnce(io::Error) -> Error + 'a {
    move |source| Error::Resource { file: file.to_path_buf(), value: value.to_owned(), source }
}

/// Makes the directories from below `mount` down to `path`; `made` gets the one above and the new one.
fn make_parents(mount: &Path, path: &Path, made: impl Fn(&Path, &Path) -> Result<(), Error>) -> Result<(), Error> {
    let Ok(relative) = path.strip_prefix(mount) else { return Ok(()) };
    let mut above = mount.to_path_buf();
    for part in relative {
        let path = above.join(part);
        made_above(&above, &path, &made)?;
        above = path;
    }
    Ok(())
}

fn made_above(above: &Path, path: &Path, made: &impl Fn(&Path, &Path) -> Result<(), Error>) -> Result<(), Error> {
    match fs::create_dir(path) {
        // Another engine may be as far.
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(Error::io("make cgroup", path)(error)),
        _ => made(above, path),
    }
}

/// A new cpuset of version 1 is empty, and no process can enter it, unless the one above says that its children are to be
/// its clones. Ours do.
fn inherit_cpuset(path: &Path) -> Result<(), Error> {
    let mut filled = false;
    for name in ["cpuset.cpus", "cpuset.mems"] {
        cpuset_value(path, name, &mut filled)?;
    }
    if !filled {
        return Ok(());
    }
    let file = path.join("cgroup.clone_children");
    files::write(&file, "1").map_err(refused(&file, "1"))
}

/// What a file of a cpuset says; an empty one is given what the one above says. That one may be empty too: somebody else
/// may have made it this moment, and both then give it the same.
fn cpuset_value(path: &Path, name: &str, filled: &mut bool) -> Result<String, Error> {
    let file = path.join(name);
    let value = match files::read(&file) {
        // Above the hierarchy's root.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
        value => value.map_err(Error::io("read", &file))?,
    };
    let (false, Some(above)) = (!value.trim().is_empty(), path.parent()) else { return Ok(value.trim().to_owned()) };
    let value = cpuset_value(above, name, &mut false)?;
    files::write(&file, &value).map_err(refused(&file, &value))?;
    *filled = true;
    Ok(value)
}

/// Lets the cgroups beneath `path` have these controllers. One that cannot be had there is missed by whoever sets a limit.
fn enable(path: &Path, controllers: &[String]) -> Result<(), Error> {
    let file = path.join("cgroup.subtree_control");
    for controller in controllers {
        match files::write(&file, &format!("+{controller}")) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                return Err(Error::Unsupported(format!(
                    "cgroups beneath {}: processes run in it itself, and version 2 wants either",
                    path.display()
                )));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Removes a cgroup and what is beneath it. Its files cannot and need not be removed.
fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::remove_dir(path) {
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
        done => return done,
    }
    for child in processes::children(path)?.iter().rev() {
        fs::remove_dir(child)?;
    }
    fs::remove_dir(path)
}
