//! The plan compiler: from a bundle, and what is known of the host, to the operations that the shim executes. Pure: nothing is
//! opened, made or looked up, so the same input gives the same plan.

mod attributes;
mod check;
pub(crate) mod criu;
mod devices;
pub(crate) mod external;
mod hooks;
mod listener;
mod mounts;
mod namespaces;
mod process;
mod rootfs;
mod schedule;
mod sysctl;
#[cfg(test)]
mod tests;
mod writer;

use std::fmt;
use std::path::PathBuf;

use engine_shim::plan::{Op, Plan as Parsed};
use oci_spec::runtime::{Linux, Process};

use crate::cgroup::{Entry, Places};
use crate::hooks::State;
use crate::protocol::PlanBytes;
use crate::seccomp::{self, Filter};
use crate::{Bundle, Error, Exec, Host, Output, Stdin, Unattended};
use writer::Writer;

pub(crate) use check::id as check_id;
pub(crate) use namespaces::name_of as name_of_namespace;

/// What the shim executes, and what has to be opened for it.
#[derive(Clone, PartialEq, Eq)]
pub struct Plan {
    bytes: PlanBytes,
    resources: Vec<Resource>,
}

/// A descriptor that travels with a plan; its place in [`Plan::resources`] is its number there.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Resource {
    /// The network namespace that was handed to [`crate::Runtime::launch`].
    Network,
    /// A pidfd of the container's init (`exec`).
    Process,
    /// The socket on which the monitor listens.
    Listener,
    /// The run directory of the container.
    RunDirectory,
    /// The mount of [`crate::Bundle::trees`] with this destination.
    Tree(PathBuf),
    /// A namespace that is joined.
    Namespace(PathBuf),
    /// A file that is read: a counter.
    Read(PathBuf),
    /// A file that is written: a `tasks` file of a cgroup.
    Write(PathBuf),
    /// A stream socket that listens there: an OCI runtime sends a terminal to it.
    Console(PathBuf),
    /// A socket that is connected to whoever listens there.
    Connected(PathBuf),
    /// A file that what a program says is appended to; made when it is missing.
    Said(PathBuf),
    /// A directory: where the log goes, a cgroup of version 2.
    Directory(PathBuf),
}

impl Plan {
    /// The bytes, as [`engine_shim::plan`] defines them.
    #[must_use]
    pub fn bytes(&self) -> &PlanBytes {
        &self.bytes
    }

    /// What has to be opened, in order.
    #[must_use]
    pub fn resources(&self) -> &[Resource] {
        &self.resources
    }

    pub(crate) fn into_resources(self) -> Vec<Resource> {
        self.resources
    }

    /// The operations in order.
    pub fn operations(&self) -> impl Iterator<Item = Op<'_>> {
        Parsed::parse(self.bytes.as_bytes()).ok().into_iter().flat_map(|plan| plan.operations())
    }
}

/// One operation a line, then one resource a line.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for op in self.operations() {
            match op {
                Op::Seccomp { flags, filter } => {
                    writeln!(f, "Seccomp {{ flags: {flags}, {} instructions }}", filter.len() / 8)?;
                }
                op => writeln!(f, "{op:?}")?,
            }
        }
        self.resources.iter().enumerate().try_for_each(|(at, resource)| writeln!(f, "{at}: {resource:?}"))
    }
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Compiles the launch of a container.
///
/// # Errors
/// [`Error::Invalid`] when the bundle contradicts itself, [`Error::Unsupported`] when it asks for what cannot be done here.
pub fn compile(bundle: &Bundle, host: &Host) -> Result<Plan, Error> {
    let filter = seccomp::of(&bundle.spec, bundle.docker_filter, host)?;
    compile_with(bundle, host, false, filter.as_ref(), None)
}

/// As [`compile`], with a network namespace that is handed over at launch, a filter that is compiled already, and perhaps
/// without a monitor.
pub(crate) fn compile_with(
    bundle: &Bundle,
    host: &Host,
    network: bool,
    filter: Option<&Filter>,
    unattended: Option<&Unattended>,
) -> Result<Plan, Error> {
    let spec = &bundle.spec;
    check::id(&bundle.id)?;
    check::spec(spec)?;
    let invalid = |what: &str| Error::Invalid(format!("the specification has no {what}"));
    let linux = spec.linux().as_ref().ok_or_else(|| invalid("linux section"))?;
    let process = spec.process().as_ref().ok_or_else(|| invalid("process"))?;
    let cgroup = Places::of(spec, &bundle.id, host)?;
    let namespaces = namespaces::Namespaces::of(linux, network, host)?;
    let terminal = process.terminal().unwrap_or(false);

    let mut plan = Writer::default();
    plan.push(Op::Namespaces { flags: namespaces.at_birth() });
    match unattended {
        None => {
            monitor(&mut plan, bundle, process, linux, &cgroup);
            if bundle.wait_for_start {
                plan.push(Op::WaitForStart {});
            }
        }
        Some(how) => caller(&mut plan, how, process, bundle.wait_for_start),
    }
    namespaces.write(&mut plan, &cgroup, host);
    if namespaces.has_user() {
        process::privileged(&mut plan, process, host)?;
    }
    if !host.features.mount_setattr {
        plan.push(Op::OldAttributes {});
    }
    let files = rootfs::prepare(&mut plan, bundle, linux, host, &cgroup, &namespaces)?;
    namespaces.go_on(&mut plan);
    let own = linux.seccomp().as_ref().filter(|_| !bundle.docker_filter);
    listener::write(&mut plan, own, &State::new(bundle, "creating", None), filter)?;
    files.assemble(&mut plan, linux, host, &cgroup)?;
    sysctl::write(&mut plan, linux, &namespaces)?;
    if terminal {
        plan.push(Op::Console {});
    }
    hooks::before_pivot(&mut plan, bundle)?;
    rootfs::finish(&mut plan, spec, linux, &namespaces)?;
    namespaces.names(&mut plan, spec)?;
    if !namespaces.has_user() {
        process::privileged(&mut plan, process, host)?;
    }
    schedule::personality(&mut plan, linux)?;
    let user = process::User {
        name: bundle.user.as_deref(),
        groups: &bundle.additional_groups,
        make_working_directory: bundle.make_working_directory,
        in_namespace: namespaces.has_user(),
    };
    hooks::at_start(&mut plan, bundle)?;
    if bundle.init {
        plan.push(Op::StayAsInit {});
    }
    process::write(&mut plan, process, &user, host, filter)?;
    plan.finish()
}

/// What the monitor reads.
fn monitor(plan: &mut Writer, bundle: &Bundle, process: &Process, linux: &Linux, cgroup: &Places) {
    let terminal = process.terminal().unwrap_or(false);
    let socket = plan.descriptor(Resource::Listener);
    plan.push(Op::Listener { socket });
    let directory = plan.descriptor(Resource::RunDirectory);
    plan.push(Op::RunDirectory { directory });
    match &bundle.output {
        Output::Discard => plan.push(Op::DiscardOutput {}),
        Output::AttachOnly => {}
        Output::JsonLog { directory, name, max_size, max_age, max_files, attributes } => {
            let directory = plan.descriptor(Resource::Directory(directory.clone()));
            plan.with_text(name, |name| Op::JsonLog { directory, name, max_size: *max_size, max_files: *max_files });
            if *max_age > 0 {
                plan.push(Op::LogAge { max_age: *max_age });
            }
            if !attributes.is_empty() {
                plan.with_text(attributes, |text| Op::LogAttributes { text });
            }
        }
    }
    if let Stdin::Open { once } = bundle.stdin {
        plan.push(Op::OpenStdin { once: once.into() });
    }
    if terminal && let Some((rows, columns)) = bundle.terminal_size.or_else(|| console_size(process)) {
        plan.push(Op::TerminalSize { rows, columns });
    }
    if bundle.tasks_die_with_launcher {
        plan.push(Op::DieWithLauncher {});
    }
    if let Some(file) = cgroup.oom_counter() {
        let file = plan.descriptor(Resource::Read(file));
        plan.push(Op::OomCounter { file });
        let memory = linux.resources().as_ref().and_then(|resources| resources.memory().as_ref());
        // Without a limit of its own a container does not run out of memory before the machine does.
        if memory.and_then(oci_spec::runtime::LinuxMemory::limit).is_some_and(|limit| limit > 0)
            && let Some(control) = cgroup.event_control()
        {
            let control = plan.descriptor(Resource::Write(control));
            plan.push(Op::OomNotifier { control });
        }
    }
}

/// What the caller has in place of a monitor.
fn caller(plan: &mut Writer, how: &Unattended, process: &Process, wait_for_start: bool) {
    if process.terminal().unwrap_or(false)
        && let Some((rows, columns)) = console_size(process)
    {
        plan.push(Op::TerminalSize { rows, columns });
    }
    plan.push(Op::Keyring { keep: how.keep_keyring.into() });
    if wait_for_start {
        let socket = plan.descriptor(Resource::Listener);
        plan.push(Op::WaitAtListener { socket });
    }
}

fn milliseconds(patience: std::time::Duration) -> u32 {
    u32::try_from(patience.as_millis()).unwrap_or(u32::MAX)
}

fn console_size(process: &Process) -> Option<(u16, u16)> {
    let size = process.console_size()?;
    Some((u16::try_from(size.height()).ok()?, u16::try_from(size.width()).ok()?))
}

/// Compiles an `exec` into the cgroup that the container was born in, which another engine may have chosen, or one beneath it.
pub(crate) fn compile_exec(
    exec: &Exec<'_>,
    entry: &Entry,
    host: &Host,
    filter: Option<&Filter>,
    unattended: Option<&Unattended>,
) -> Result<Plan, Error> {
    check::id(exec.id)?;
    check::process(exec.command)?;
    let terminal = exec.command.terminal().unwrap_or(false);
    let mut plan = Writer::default();
    if let Some(how) = unattended {
        caller(&mut plan, how, exec.command, false);
    } else {
        if let Stdin::Open { once } = exec.stdin {
            plan.push(Op::OpenStdin { once: once.into() });
        }
        if exec.discard_output {
            plan.push(Op::DiscardOutput {});
        }
        if terminal && let Some((rows, columns)) = console_size(exec.command) {
            plan.push(Op::TerminalSize { rows, columns });
        }
    }
    let in_namespace = namespaces::enters_user(exec.spec);
    let affinity = exec.command.exec_cpu_affinity().as_ref();
    schedule::affinity(&mut plan, affinity.and_then(|affinity| affinity.initial().as_deref()))?;
    if in_namespace {
        process::privileged(&mut plan, exec.command, host)?;
    }
    namespaces::enter(&mut plan, entry, host, exec.spec);
    schedule::affinity(&mut plan, affinity.and_then(|affinity| affinity.cpu_affinity_final().as_deref()))?;
    if !in_namespace {
        process::privileged(&mut plan, exec.command, host)?;
    }
    if let Some(linux) = exec.spec.linux() {
        schedule::personality(&mut plan, linux)?;
        let state = State { pid: None, ..State::of_spec(exec.id, exec.spec, "running") };
        let own = linux.seccomp().as_ref().filter(|_| !exec.docker_filter);
        listener::write(&mut plan, own, &state, filter)?;
    }
    if terminal {
        plan.push(Op::Console {});
    }
    let mut command = std::borrow::Cow::Borrowed(exec.command);
    if exec.privileged {
        let all = crate::capabilities::set(if in_namespace { u64::MAX } else { host.bounding });
        command.to_mut().set_capabilities(Some(crate::defaults::capability_sets(&all)));
    }
    let user =
        process::User { name: exec.user, groups: exec.additional_groups, make_working_directory: false, in_namespace };
    process::write(&mut plan, &command, &user, host, filter)?;
    plan.finish()
}
