//! Launches containers: makes what the plan needs, has it executed, and undoes everything in reverse when that fails.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use engine_sys::{file, socket};
use oci_spec::runtime::{LinuxResources, LinuxSeccomp, Spec};
use rustix::fs::{Mode, OFlags};

use crate::cgroup::{Places, Realtime, owner};
use crate::criu::{self, Criu, Noted};
use crate::external::{External, Outside};
use crate::failure::{self, During};
use crate::hooks;
use crate::plan::{self, Plan, Resource};
use crate::protocol::Failure;
use crate::seccomp::{self, Filter};
use crate::spawner::{First, LaunchError, Launched, Spawner};
use crate::{Bundle, Cgroup, ContainerState, Error, ExitRecord, Host, Monitor, Unattended, capabilities, state};

/// Filters that are kept compiled. Most containers of a machine have one of a few.
const FILTERS: usize = 16;
/// How often a run directory is emptied before somebody must be filling it.
const REMOVALS: usize = 8;
/// Files of a container's run directory.
pub(crate) const SOCKET: &str = "monitor.sock";
const CGROUP: &str = "cgroup";
/// As errors name it.
pub(crate) const PLAN_FILE: &str = "the memory file of a plan";

/// Where a [`Runtime`] works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeSettings {
    /// Holds what lives as long as the machine runs: `containers/<id>/` with the monitor's socket and the exit record. On a
    /// tmpfs; made when it is missing, readable by root only.
    pub run_directory: PathBuf,
    /// The cgroup beneath which containers get theirs, relative to the mounts of the hierarchies, such as `engine`.
    pub cgroup_parent: String,
    /// How many files the processes of containers may have open until they or their specification ask for more; `None`: as many
    /// as this program may.
    pub open_files: Option<u64>,
}

/// Launches containers and finds them again. Its methods block for milliseconds. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Runtime {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    host: Host,
    containers: PathBuf,
    spawner: Spawner,
    /// The most recently used one last.
    filters: Mutex<Vec<(Wanted, Arc<Filter>)>>,
}

/// Takes the parent of all cgroups away, when nothing is in it.
impl Drop for Shared {
    fn drop(&mut self) {
        if let Ok(parent) = Places::at(Path::new(&self.host.cgroup_parent), &self.host.cgroups) {
            // It is in use, then, or it was never made.
            parent.directories().for_each(|directory| drop(fs::remove_dir(directory)));
        }
    }
}

impl Runtime {
    /// Looks at the machine and makes the run directory. No process is started yet.
    ///
    /// # Errors
    /// [`Error::Io`] when the directory cannot be made or the machine cannot be looked at.
    pub fn open(settings: RuntimeSettings) -> Result<Self, Error> {
        Self::with_host(settings, Host::probe()?)
    }

    /// As [`Runtime::open`] with what is already known of the machine. A feature that is switched off in `host` is not used, which is
    /// how the ways around it are tested.
    ///
    /// # Errors
    /// [`Error::Io`] when the run directory cannot be made.
    pub fn with_host(settings: RuntimeSettings, mut host: Host) -> Result<Self, Error> {
        host.cgroup_parent = settings.cgroup_parent;
        Places::at(Path::new(&host.cgroup_parent), &host.cgroups)?;
        let containers = settings.run_directory.join("containers");
        DirBuilder::new().recursive(true).mode(0o700).create(&containers).map_err(Error::io("make", &containers))?;
        let spawner = Spawner::new(&settings.run_directory).open_files(settings.open_files);
        Ok(Self { shared: Arc::new(Shared { host, containers, spawner, filters: Mutex::default() }) })
    }

    /// What is known of the machine.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.shared.host
    }

    /// Starts the process behind all launches now, so that the first one is as fast as the others.
    ///
    /// # Errors
    /// [`Error::Spawner`].
    pub fn warm(&self) -> Result<(), Error> {
        self.shared.spawner.warm().map_err(Error::Spawner)
    }

    /// Launches a container: returns once its program runs, or waits for start. `network` is a network namespace to join; without
    /// it the specification decides. The hooks of the specification are run on the way; those after the start only when it does not
    /// wait for it (see [`crate::hooks::run`]).
    ///
    /// # Errors
    /// As [`Runtime::prepare`] and [`Prepared::launch`].
    pub fn launch(&self, bundle: &Bundle, network: Option<OwnedFd>) -> Result<Launched, Error> {
        self.prepare(bundle, network.is_some())?.launch(network)
    }

    /// Makes what a launch needs: the plan, the run directory, the cgroup. `joins` says that it will be launched into a network
    /// namespace, which may be made meanwhile. What is dropped and not launched leaves nothing.
    ///
    /// # Errors
    /// [`Error::Exists`] when the container is there, [`Error::Invalid`] and [`Error::Unsupported`] for what cannot be executed,
    /// [`Error::Io`].
    pub fn prepare(&self, bundle: &Bundle, joins: bool) -> Result<Prepared<'_>, Error> {
        self.prepare_as(bundle, joins, None)
    }

    pub(crate) fn prepare_as(
        &self,
        bundle: &Bundle,
        joins: bool,
        unattended: Option<&Unattended>,
    ) -> Result<Prepared<'_>, Error> {
        let host = self.host();
        let linux = bundle.spec.linux().as_ref();
        let filter = self.filter(&bundle.spec, bundle.docker_filter)?;
        let plan = plan::compile_with(bundle, host, joins, filter.as_deref(), unattended)?;
        let cgroup = Cgroup::new(Places::of(&bundle.spec, &bundle.id, host)?);

        let trees = bundle.trees.clone();
        let mut made = Made { directory: self.directory(&bundle.id), cgroup: None, first: None, trees };
        made.make_directory(&bundle.id)?;
        // Whoever takes the container over may have another parent for its cgroups, and finds the whole name or none.
        remember_cgroup(&made.directory, cgroup.places().name())
            .map_err(Error::io("write", made.directory.join(CGROUP)))?;
        let none = LinuxResources::default();
        let resources = linux.and_then(|linux| linux.resources().as_ref()).unwrap_or(&none);
        made.first = cgroup.places().unit().map(|_| self.shared.spawner.first()).transpose().map_err(Error::Spawner)?;
        cgroup.create_around(made.first.as_ref().map(First::pid), resources)?;
        let cgroup = made.cgroup.insert(cgroup);
        if let Some(user) = owner(&bundle.spec) {
            cgroup.give_to(user)?;
        }
        let outside = bundle.spec.hooks().is_some() || hooks::is_waited_for(bundle);
        let hooks = outside.then(|| Box::new(bundle.clone()));
        Ok(Prepared { runtime: self, plan, made, hooks, outside: None, anew: None })
    }

    /// As [`Runtime::prepare`], for a container that another OCI runtime makes. Launched, it waits for
    /// [`Runtime::start_external`]. Its bundle has numbers for users and groups, and no init of the engine's.
    ///
    /// # Errors
    /// As [`Runtime::prepare`].
    pub fn prepare_external(&self, bundle: &Bundle, by: &External) -> Result<Prepared<'_>, Error> {
        let host = self.host();
        let directory = self.directory(&bundle.id);
        let plan = plan::external::create(bundle, by, &directory, host)?;
        let cgroup = Cgroup::new(Places::of(&bundle.spec, &bundle.id, host)?);
        if cgroup.places().unit().is_some() {
            return Err(Error::Unsupported(format!("a cgroup that systemd makes with the OCI runtime {}", by.program)));
        }
        let outside = Outside::new(bundle, by, &directory, cgroup.path(), host)?;
        let mut made = Made { directory, cgroup: None, first: None, trees: bundle.trees.clone() };
        made.make_directory(&bundle.id)?;
        outside.remember()?;
        // The runtime takes it over, empty as it is; what memory it lacks is counted there from the beginning.
        made.make_cgroup(cgroup, &bundle.spec)?;
        let outside = Some((bundle.id.clone(), Box::new(outside)));
        Ok(Prepared { runtime: self, plan, made, hooks: None, outside, anew: None })
    }

    /// As [`Runtime::prepare`], for a container that is made anew from what [`Runtime::checkpoint`] has written to `images`.
    /// Launched it runs, and is nevertheless to be sent `Start`, after which it is known as started.
    ///
    /// # Errors
    /// As [`Runtime::prepare`] and [`Noted::read`].
    pub fn prepare_anew(&self, bundle: &Bundle, by: &Criu, images: &Path) -> Result<Prepared<'_>, Error> {
        let host = self.host();
        let directory = self.directory(&bundle.id);
        let noted = Noted::read(images)?;
        let plan = plan::criu::restore(bundle, by, &directory, images, &noted, host)?;
        let cgroup = Cgroup::new(Places::of(&bundle.spec, &bundle.id, host)?);
        criu::check_cgroup(cgroup.places())?;
        let mut made = Made { directory, cgroup: None, first: None, trees: bundle.trees.clone() };
        made.make_directory(&bundle.id)?;
        made.make_cgroup(cgroup, &bundle.spec)?;
        let anew = Some(criu::outcome(by, &made.directory));
        Ok(Prepared { runtime: self, plan, made, hooks: None, outside: None, anew })
    }

    /// The error behind an [`crate::protocol::Event::StartFailed`] of a container that waited for its start: its program
    /// is looked for only then. `joins` says whether it was launched into a network namespace.
    #[must_use]
    pub fn start_failed(&self, bundle: &Bundle, joins: bool, failure: Failure) -> Error {
        self.failed_to_start(bundle, joins, None, failure)
    }

    pub(crate) fn failed_to_start(
        &self,
        bundle: &Bundle,
        joins: bool,
        unattended: Option<&Unattended>,
        failure: Failure,
    ) -> Error {
        let plan = self
            .filter(&bundle.spec, bundle.docker_filter)
            .and_then(|filter| plan::compile_with(bundle, self.host(), joins, filter.as_deref(), unattended));
        plan.map_or_else(|error| error, |plan| failure::render(plan.bytes().as_bytes(), failure, During::Launch))
    }

    /// Connects to the monitor of a container that was launched by this or an earlier runtime; `None` when it has ended.
    ///
    /// # Errors
    /// [`Error::Monitor`].
    pub fn connect(&self, id: &str) -> Result<Option<Monitor>, Error> {
        plan::check_id(id)?;
        Monitor::connect(&self.directory(id).join(SOCKET)).map_err(Error::Monitor)
    }

    /// Where a container is in its life, seen from outside: it may have been launched by another engine.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is none of that name, [`Error::Monitor`].
    pub fn state(&self, id: &str) -> Result<ContainerState, Error> {
        plan::check_id(id)?;
        state::look(&self.directory(id), SOCKET, &self.cgroup(id)?)
    }

    /// How a container ended; `None` when it runs, was killed together with its monitor, or is not known.
    ///
    /// # Errors
    /// [`Error::Monitor`].
    pub fn exit_record(&self, id: &str) -> Result<Option<ExitRecord>, Error> {
        plan::check_id(id)?;
        ExitRecord::read(&self.directory(id)).map_err(Error::Monitor)
    }

    /// The cgroup of a container.
    ///
    /// # Errors
    /// [`Error::Invalid`] for what is no name of a container.
    pub fn cgroup(&self, id: &str) -> Result<Cgroup, Error> {
        plan::check_id(id)?;
        let layout = &self.host().cgroups;
        let file = self.directory(id).join(CGROUP);
        match fs::read_to_string(&file) {
            Ok(path) => Cgroup::at(Path::new(&path), layout),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Cgroup::at(&Path::new(&self.host().cgroup_parent).join(id), layout)
            }
            Err(error) => Err(Error::io("read", file)(error)),
        }
    }

    /// Changes what a container may use while it runs: everything that `resources` speaks of, or nothing. What `resources` leaves
    /// out stays as it is.
    ///
    /// # Errors
    /// [`Error::NotFound`] when it does not run, [`Error::Invalid`] and [`Error::Resource`] for values that cannot be,
    /// [`Error::Unsupported`] for what this machine cannot bound.
    pub fn update(&self, id: &str, resources: &LinuxResources) -> Result<(), Error> {
        self.cgroup(id)?.update(resources)
    }

    /// Gives the cgroups above that of a container which is not launched yet a part of the time for processes of realtime
    /// scheduling, unless they have some.
    ///
    /// # Errors
    /// As [`Cgroup::allow_realtime`].
    pub fn allow_realtime(&self, bundle: &Bundle, part: Realtime) -> Result<(), Error> {
        Cgroup::new(Places::of(&bundle.spec, &bundle.id, self.host())?).allow_realtime(part)
    }

    /// Takes away what is left of a container: its cgroup, with whoever still runs in it, and its run directory. What is gone
    /// already is no error.
    ///
    /// # Errors
    /// [`Error::Busy`] when processes cannot be killed, [`Error::Io`].
    pub fn remove(&self, id: &str) -> Result<(), Error> {
        self.cgroup(id)?.remove()?;
        let directory = self.directory(id);
        let mut tries = 1;
        loop {
            match fs::remove_dir_all(&directory) {
                // The monitor, which is not in the cgroup, was just writing down how the container ended.
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty && tries < REMOVALS => tries += 1,
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::io("remove", directory)(error));
                }
                _ => return Ok(()),
            }
        }
    }

    /// The containers that have a run directory: those that run and those that ended and were not removed.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn containers(&self) -> Result<Vec<String>, Error> {
        let directory = &self.shared.containers;
        let entries = fs::read_dir(directory).map_err(Error::io("list", directory))?;
        let mut ids: Vec<String> = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
        ids.sort();
        Ok(ids)
    }

    pub(crate) fn spawner(&self) -> &Spawner {
        &self.shared.spawner
    }

    /// The run directory of a container: who launches containers without a monitor keeps there what has to be known of them.
    ///
    /// # Errors
    /// [`Error::Invalid`] for what is no name of a container.
    pub fn run_directory(&self, id: &str) -> Result<PathBuf, Error> {
        plan::check_id(id)?;
        Ok(self.directory(id))
    }

    pub(crate) fn directory(&self, id: &str) -> PathBuf {
        self.shared.containers.join(id)
    }

    /// Compiles the filter of a container, or finds it compiled.
    pub(crate) fn filter(&self, spec: &Spec, docker: bool) -> Result<Option<Arc<Filter>>, Error> {
        let seccomp = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref());
        if !docker && seccomp.is_none() {
            return Ok(None);
        }
        if !self.host().features.seccomp {
            return Err(Error::Unsupported("seccomp filters; this kernel has none".to_owned()));
        }
        let bounding = docker.then(|| capabilities::mask(&seccomp::held(spec)));
        let is_wanted = |known: &Wanted| match (known, bounding) {
            (Wanted::Docker { bounding: known }, Some(bounding)) => *known == bounding,
            (Wanted::Profile(known), None) => Some(known) == seccomp,
            _ => false,
        };
        let mut filters = self.shared.filters.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = filters.iter().position(|(known, _)| is_wanted(known)) {
            let found = filters.remove(at);
            let filter = Arc::clone(&found.1);
            filters.push(found);
            return Ok(Some(filter));
        }
        let Some(filter) = seccomp::of(spec, docker, self.host())? else { return Ok(None) };
        let wanted = match (bounding, seccomp) {
            (None, Some(profile)) => Wanted::Profile(profile.clone()),
            (bounding, _) => Wanted::Docker { bounding: bounding.unwrap_or_default() },
        };
        if filters.len() == FILTERS {
            filters.remove(0);
        }
        let filter = Arc::new(filter);
        filters.push((wanted, Arc::clone(&filter)));
        Ok(Some(filter))
    }
}

/// What a compiled filter is known by.
#[derive(Debug)]
enum Wanted {
    /// Docker's profile for a bounding set of capabilities.
    Docker {
        bounding: u64,
    },
    Profile(LinuxSeccomp),
}

/// A container that can be launched. Dropped without a launch, it leaves nothing.
#[derive(Debug)]
pub struct Prepared<'a> {
    runtime: &'a Runtime,
    plan: Plan,
    made: Made,
    /// The bundle of a container that has hooks, or gets interfaces.
    hooks: Option<Box<Bundle>>,
    /// Another runtime makes the container of this id.
    outside: Option<(String, Box<Outside>)>,
    /// CRIU makes the container.
    anew: Option<criu::Outcome>,
}

impl Prepared<'_> {
    /// Launches it: returns once its program runs, or waits for start. `network` is the network namespace to join, given exactly
    /// when that was prepared.
    ///
    /// # Errors
    /// [`Error::Process`] when the reason lies in the container, with the words of the OCI runtimes, [`Error::Hook`] when one of its
    /// hooks fails. Nothing is left then, and after any other error neither.
    pub fn launch(self, network: Option<OwnedFd>) -> Result<Launched, Error> {
        let spawner = self.runtime.spawner();
        let (outcome, anew) = (self.outside.as_ref().map(|(_, outside)| outside.outcome.clone()), self.anew.clone());
        self.launch_by(network, |plan, descriptors, hooks| {
            let mut hooks = |pid| hooks(pid).map_err(Box::new).map_err(LaunchError::Hooks);
            let launched = spawner.launch_with(plan.bytes(), descriptors, &mut hooks).map_err(|error| match error {
                LaunchError::Step { index, errno, reason } => {
                    let failure = Failure { index, errno, reason };
                    let outside = outcome.as_ref().and_then(|outcome| outcome.error(failure));
                    let outside = outside.or_else(|| anew.as_ref().and_then(|anew| anew.error(failure)));
                    outside.unwrap_or_else(|| failure::render(plan.bytes().as_bytes(), failure, During::Launch))
                }
                LaunchError::Hooks(error) => *error,
                other => Error::Spawner(other),
            })?;
            Ok((launched.pid, launched.waiting, launched))
        })
    }

    /// `launch` calls the hooks when the plan waits for them, and says what init's pid is and whether it waits for its start.
    pub(crate) fn launch_by<T>(
        mut self,
        network: Option<OwnedFd>,
        launch: impl FnOnce(&Plan, &[BorrowedFd<'_>], &dyn Fn(u32) -> Result<(), Error>) -> Result<(u32, bool, T), Error>,
    ) -> Result<T, Error> {
        let (mut network, mut kept) = (network, None);
        if let Some((_, outside)) = &mut self.outside {
            outside.write(network.as_ref())?;
            // Open until the runtime has joined it.
            kept = network.take();
        }
        let descriptors = self.made.open(&self.plan, network)?;
        let borrowed: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
        let bundle = self.hooks.as_deref();
        let before = |pid| bundle.map_or(Ok(()), |bundle| hooks::before(bundle, pid));
        let (pid, waits, launched) = launch(&self.plan, &borrowed, &before).inspect_err(|_| {
            if let Some((id, _)) = &self.outside {
                // What it has begun and not undone. The failure that led here is the one that is reported.
                let _ = self.runtime.delete_external(id);
            }
        })?;
        if let Some(bundle) = bundle.filter(|_| !waits) {
            // Dropped on failure, what was made goes, and the container with it.
            hooks::after(bundle, pid)?;
        }
        self.made.keep();
        drop(kept);
        Ok(launched)
    }
}

/// What a launch has made so far; taken away again unless it is kept.
#[derive(Debug)]
struct Made {
    directory: PathBuf,
    cgroup: Option<Cgroup>,
    /// Whom systemd has made the cgroup around; no longer needed when init is in it.
    first: Option<First>,
    trees: BTreeMap<PathBuf, Arc<OwnedFd>>,
}

impl Made {
    fn make_directory(&mut self, id: &str) -> Result<(), Error> {
        let made = DirBuilder::new().mode(0o700).create(&self.directory);
        if let Err(error) = made {
            // It is somebody else's.
            let path = std::mem::take(&mut self.directory);
            return Err(match error.kind() {
                io::ErrorKind::AlreadyExists => Error::Exists(id.to_owned()),
                _ => Error::io("make", path)(error),
            });
        }
        Ok(())
    }

    /// Makes the cgroup of a container that another program starts, and notes first where it is.
    fn make_cgroup(&mut self, cgroup: Cgroup, spec: &Spec) -> Result<(), Error> {
        remember_cgroup(&self.directory, cgroup.places().name())
            .map_err(Error::io("write", self.directory.join(CGROUP)))?;
        let none = LinuxResources::default();
        let linux = spec.linux().as_ref();
        cgroup.create(linux.and_then(|linux| linux.resources().as_ref()).unwrap_or(&none))?;
        self.cgroup = Some(cgroup);
        Ok(())
    }

    fn open(&self, plan: &Plan, network: Option<OwnedFd>) -> Result<Vec<OwnedFd>, Error> {
        let mut network = network;
        plan.resources()
            .iter()
            .map(|resource| match resource {
                Resource::Network => network
                    .take()
                    .ok_or_else(|| Error::Invalid("the plan needs a network namespace that was not given".to_owned())),
                Resource::Listener => {
                    let path = self.directory.join(SOCKET);
                    socket::listen(&path, 0o600).map_err(Error::io("listen at", path))
                }
                Resource::Tree(destination) => {
                    let tree = self.trees.get(destination);
                    let tree =
                        tree.ok_or_else(|| Error::Invalid("the plan needs a mount that was not given".to_owned()))?;
                    tree.try_clone().map_err(Error::io("duplicate the mount of", destination))
                }
                Resource::RunDirectory => open(&Resource::Directory(self.directory.clone())),
                other => open(other),
            })
            .collect()
    }

    fn keep(mut self) {
        self.directory = PathBuf::new();
        self.cgroup = None;
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        // The failure that led here is the one that is reported.
        if let Some(cgroup) = &self.cgroup {
            let _ = cgroup.remove();
        }
        if !self.directory.as_os_str().is_empty() {
            // The monitor of a container that died just now puts its record there, in two steps.
            for _ in 0..3 {
                if fs::remove_dir_all(&self.directory).is_ok() || !self.directory.exists() {
                    break;
                }
            }
        }
    }
}

pub(crate) fn open(resource: &Resource) -> Result<OwnedFd, Error> {
    if let Resource::Connected(path) = resource {
        return socket::connect_stream(path).map_err(Error::io("connect to the seccomp listener at", path));
    }
    if let Resource::Console(path) = resource {
        return socket::listen_stream(path, 0o600).map_err(Error::io("listen at", path));
    }
    let (path, flags) = match resource {
        // Whatever else lies there is not waited for; that it is a namespace is seen by who joins it.
        Resource::Namespace(path) => (path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY),
        Resource::Read(path) => (path, OFlags::RDONLY),
        Resource::Write(path) => (path, OFlags::WRONLY),
        Resource::Said(path) => (path, OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::NOFOLLOW),
        Resource::Directory(path) => (path, OFlags::RDONLY | OFlags::DIRECTORY),
        other => return Err(Error::Invalid(format!("the plan needs {other:?} where there is none"))),
    };
    rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::RUSR | Mode::WUSR)
        .map_err(|error| Error::io("open", path)(error.into()))
}

/// Writes down where a container's cgroup is, whole or not at all.
fn remember_cgroup(directory: &Path, cgroup: &Path) -> io::Result<()> {
    let directory = rustix::fs::open(directory, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mode = Mode::RUSR | Mode::WUSR;
    file::replace(directory.as_fd(), CGROUP.as_ref(), cgroup.as_os_str().as_encoded_bytes(), mode, file::Sync::No)
}
