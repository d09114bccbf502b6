//! The executor: does a plan step by step and becomes the container's program. It runs in a fresh child of the
//! monitor, single-threaded and not dumpable, holding no descriptor of the host but those of the plan.

mod copy;
mod hooks;
mod mounts;
mod namespaces;
mod process;
mod remount;

pub(crate) use process::decimal;

use mounts::Attributes;

use core::ffi::CStr;

use crate::plan::{Fd, MAX_SLOTS, Op, Plan, Slot};
use crate::protocol::{Failure, Reason};
use crate::report::Report;
use crate::system::{self, Descriptor, Errno};

const PR_SET_DUMPABLE: u32 = 4;

/// Why a step could not be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stop {
    errno: i32,
    reason: Reason,
}

impl From<Errno> for Stop {
    fn from(errno: Errno) -> Self {
        Self { errno: errno.0, reason: Reason::Syscall }
    }
}

impl From<Reason> for Stop {
    fn from(reason: Reason) -> Self {
        Self { errno: 0, reason }
    }
}

type Step<T = ()> = core::result::Result<T, Stop>;

/// The three standard streams of the process, as the monitor made them; -1 is `/dev/null`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Streams {
    pub(crate) input: Descriptor,
    pub(crate) output: Descriptor,
    pub(crate) error: Descriptor,
}

/// Everything that an executor works on.
#[derive(Debug)]
pub(crate) struct Executor<'a> {
    plan: Plan<'a>,
    /// The descriptors that came with the plan.
    descriptors: &'a [Descriptor],
    /// Where reports go.
    channel: Descriptor,
    /// The operation that is being done.
    index: u32,
    slots: [Descriptor; MAX_SLOTS],
    /// The root that is being assembled, or the present one once it was needed; -1 before.
    root: Descriptor,
    /// A root is being assembled and was not yet taken.
    assembling: bool,
    /// A proc file system of the executor's own, -1 until it is needed.
    proc: Descriptor,
    /// An empty read-only file system to hide directories with, -1 until it is needed.
    empty: Descriptor,
    /// The standard input is `/dev/null`, not a stream of the monitor's.
    input_is_null: bool,
    /// There is no monitor: the standard streams, and so many descriptors from 3 on, are those of the caller.
    inherits: Option<u32>,
    /// The pid as the host sees it, 0 when that is not known.
    host_pid: i32,
    /// The limit of open files that the process is to begin with.
    open_files: Option<[u64; 2]>,
    /// Attributes are set by remounting.
    old_attributes: bool,
    /// The slots whose mounts are in place.
    attached: u128,
    /// What is to be set by remounting once the mount of a slot is attached.
    deferred: &'static mut [Attributes],
    /// What the execution needs that was said earlier.
    pending: process::Pending<'a>,
}

impl<'a> Executor<'a> {
    pub(crate) fn new(plan: Plan<'a>, descriptors: &'a [Descriptor], channel: Descriptor) -> Self {
        Self {
            plan,
            descriptors,
            channel,
            index: 0,
            slots: [-1; MAX_SLOTS],
            root: -1,
            assembling: false,
            proc: -1,
            empty: -1,
            input_is_null: false,
            inherits: None,
            host_pid: 0,
            open_files: None,
            old_attributes: false,
            attached: 0,
            deferred: &mut [],
            pending: process::Pending::default(),
        }
    }

    /// Has another limit of open files than it was born with, soft and hard.
    pub(crate) fn with_open_files(mut self, limit: Option<[u64; 2]>) -> Self {
        self.open_files = limit;
        self
    }

    /// Passes on what it was born with: the standard streams, and `kept` descriptors from 3 on.
    pub(crate) fn inheriting(mut self, kept: u32) -> Self {
        self.inherits = Some(kept);
        self
    }

    /// Does the plan. Returns never: the process becomes the program or ends after it said why not.
    pub(crate) fn run(mut self, streams: Streams) -> ! {
        let _ = system::control_process(PR_SET_DUMPABLE, 0, 0);
        system::reset_signals();
        system::set_umask(0);
        if let Some(limit) = self.open_files {
            let _ = system::set_limit(system::RLIMIT_NOFILE, limit);
        }
        let mut outcome = self.take_streams(streams);
        if outcome.is_ok() {
            for op in self.plan.operations() {
                outcome = self.step(&op);
                if outcome.is_err() {
                    break;
                }
                self.index += 1;
            }
        }
        let stop = outcome.err().unwrap_or(Stop { errno: 0, reason: Reason::Malformed });
        let failure = Failure { index: self.index, errno: stop.errno, reason: stop.reason };
        let _ = Report::Failed(failure).send(self.channel, &[]);
        system::exit(127)
    }

    fn take_streams(&mut self, streams: Streams) -> Step {
        // A session of its own, so that no terminal of the host can be reached or signal it.
        system::new_session()?;
        self.input_is_null = streams.input < 0 && self.inherits.is_none();
        // Without a stream the number keeps what the spawner put there: the null device.
        for (stream, number) in [(streams.input, 0), (streams.output, 1), (streams.error, 2)] {
            if stream >= 0 {
                system::duplicate_to(stream, number, false)?;
                system::close(stream);
            }
        }
        Ok(())
    }

    fn step(&mut self, op: &Op<'a>) -> Step {
        match *op {
            Op::Namespaces { .. }
            | Op::BornInCgroup { .. }
            | Op::Listener { .. }
            | Op::RunDirectory { .. }
            | Op::JsonLog { .. }
            | Op::LogAge { .. }
            | Op::LogAttributes { .. }
            | Op::OpenStdin { .. }
            | Op::DieWithLauncher {}
            | Op::OomCounter { .. }
            | Op::OomNotifier { .. }
            | Op::DiscardOutput {}
            | Op::Adopt { .. }
            | Op::ConsoleAt { .. } => Ok(()),
            Op::TerminalSize { rows, columns } => {
                self.pending.terminal_size = Some((rows, columns));
                Ok(())
            }
            Op::WaitForStart {} => {
                self.pending.wait = true;
                Ok(())
            }
            Op::WaitAtListener { socket } => {
                self.pending.listener = Some(self.descriptor(socket)?);
                Ok(())
            }
            Op::Keyring { keep } => {
                self.pending.keeps_keyring = keep != 0;
                Ok(())
            }

            Op::JoinNamespace { namespace, kind } => self.join(namespace, kind),
            Op::JoinProcess { process, kinds } => self.join(process, kinds),
            Op::JoinTasks { tasks: file } | Op::JoinProcs { procs: file } => {
                Ok(system::write_all(self.descriptor(file)?, b"0")?)
            }
            Op::Unshare { flags } => Ok(system::unshare(flags)?),
            Op::JoinAtContinue { namespace, kind } => Ok(system::join_namespace(self.descriptor(namespace)?, kind)?),
            Op::Continue { namespaces } => self.go_on_in_child(namespaces),
            Op::UserNamespace { uids, gids } => self.make_user_namespace(uids, gids),
            Op::TimeOffsets { offsets } => self.write_proc(c"self/timens_offsets", offsets.to_bytes()),

            Op::Propagation { flags } => Ok(system::change_propagation(flags)?),
            Op::FsOpen { slot, kind } => {
                let context = system::open_file_system(kind)?;
                self.fill(slot, context);
                Ok(())
            }
            Op::FsString { slot, key, value } => Ok(system::configure_string(self.slot(slot)?, key, value)?),
            Op::FsFlag { slot, key } => Ok(system::configure_flag(self.slot(slot)?, key)?),
            Op::FsDescriptor { slot, key, descriptor } => {
                Ok(system::configure_descriptor(self.slot(slot)?, key, self.descriptor(descriptor)?)?)
            }
            Op::FsMount { slot, attributes } => {
                let mount = system::mount_file_system(self.slot(slot)?, attributes)?;
                self.fill(slot, mount);
                Ok(())
            }
            Op::CloneTree { slot, path, recursive } => self.clone_tree(slot, system::AT_FDCWD, path, recursive != 0),
            Op::CloneTreeOf { slot, descriptor, recursive } => self.clone_descriptor(slot, descriptor, recursive != 0),
            Op::CloneTreeBeneath { slot, path, recursive } => self.clone_beneath(slot, path, recursive != 0),
            Op::SetAttributes { slot, set, clear, propagation, recursive } => {
                self.set_attributes(slot, Attributes { set, clear, propagation, recursive: recursive != 0 })
            }
            Op::Root { slot } => self.take_root(slot),
            Op::MoveMount { slot, path, strict } => self.move_mount(slot, path, strict != 0),
            Op::MakeDirectory { path, mode } => self.make_directory(path, mode),
            Op::MakeNode { path, mode, major, minor, uid, gid } => {
                self.make_node(path, mode, (major, minor), (uid, gid))
            }
            Op::MakeLink { target, path } => self.make_link(target, path),
            Op::Mask { path } => self.mask(path),
            Op::ReadOnly { path } => self.make_read_only(path),
            Op::Console {} => self.make_console(),
            Op::PivotRoot {} => self.pivot_root(),
            Op::RootReadOnly {} => self.make_root_read_only(),
            Op::OverlayOf { slot, directory, options } => self.mount_overlay(slot, directory, options),
            Op::MapIds { slot, uids, gids, recursive } => self.map_ids(slot, uids, gids, recursive != 0),
            Op::CopyUp { slot, path } => self.copy_up(slot, path),
            Op::SetAttributesAt { path, set, clear, propagation, recursive } => {
                self.set_attributes_at(path, set, clear, propagation, recursive != 0)
            }
            Op::RootAt { slot, path } => self.take_root_at(slot, path),
            Op::ChangeRoot {} => self.change_root(),
            Op::CloneDevice { slot, path, kind, major, minor } => self.clone_device(slot, path, kind, (major, minor)),
            Op::OldAttributes {} => self.use_old_attributes(),

            Op::Hostname { name } => Ok(system::set_host_name(name)?),
            Op::Domainname { name } => Ok(system::set_domain_name(name)?),
            Op::Sysctl { key, value } => self.write_parameter(key, value),
            Op::Rlimit { resource, soft, hard } => process::limit(resource, soft, hard),
            Op::OomScoreAdjust { value } => self.adjust_oom_score(value),
            Op::Umask { mode } => {
                self.pending.umask = Some(mode);
                Ok(())
            }
            // Read together with the user.
            Op::Group { .. } | Op::Arg { .. } | Op::Env { .. } => Ok(()),
            Op::User { user } => self.resolve_user(user.to_bytes()),
            Op::Capabilities { bounding, effective, permitted, inheritable, ambient } => {
                self.pending.capabilities =
                    Some(process::Capabilities { bounding, effective, permitted, inheritable, ambient });
                Ok(())
            }
            Op::NoNewPrivileges {} => {
                self.pending.no_new_privileges = true;
                Ok(())
            }
            Op::WorkingDirectory { path, make } => {
                self.pending.directory = Some(process::Directory { path, make: make != 0, index: self.index });
                Ok(())
            }
            Op::Seccomp { flags, filter } => {
                self.pending.filter = Some(process::Filter { flags, filter, index: self.index });
                Ok(())
            }
            Op::Scheduler { policy, nice, priority, flags, runtime, deadline, period } => {
                let size = size_of::<system::SchedulerAttributes>() as u32;
                let all =
                    system::SchedulerAttributes { size, policy, flags, nice, priority, runtime, deadline, period };
                Ok(system::set_scheduler(&all)?)
            }
            Op::IoPriority { value } => Ok(system::set_io_priority(value)?),
            Op::Affinity { mask } => Ok(system::set_affinity(mask)?),
            Op::Personality { persona } => Ok(system::set_personality(persona)?),
            Op::MemoryPolicy { mode, nodes } => Ok(system::set_memory_policy(mode, nodes)?),
            Op::SecurityLabel { file, label } => self.set_security_label(file, label),
            Op::SeccompListener { socket, before, between, after } => self.prepare_listener(process::Listener {
                socket: self.descriptor(socket)?,
                text: [before, between, after],
            }),
            Op::StayAsInit {} => {
                self.pending.stays = true;
                Ok(())
            }
            Op::HandOn { descriptor, number } => {
                self.pending.handed_on = Some((self.descriptor(descriptor)?, number.cast_signed()));
                Ok(())
            }
            Op::StreamsAt { number, file } => {
                self.pending.streams_at = Some((number.cast_signed(), self.descriptor(file)?));
                Ok(())
            }
            Op::Execute {} => self.execute(),

            Op::WaitForHooks {} => self.wait_for_hooks(),
            // Read together with the hook.
            Op::HookArgument { .. } | Op::HookVariable { .. } => Ok(()),
            Op::Hook { at_start, .. } if at_start != 0 => Ok(()),
            Op::Hook { path, before, after, milliseconds, .. } => {
                self.run_hook(hooks::Hook { path, before, after, milliseconds, index: self.index })
            }
        }
    }

    fn descriptor(&self, place: Fd) -> Step<Descriptor> {
        self.descriptors.get(usize::from(place.0)).copied().ok_or(Reason::Malformed.into())
    }

    fn slot(&self, slot: Slot) -> Step<Descriptor> {
        self.slots
            .get(usize::from(slot.0))
            .copied()
            .filter(|descriptor| *descriptor >= 0)
            .ok_or(Reason::Malformed.into())
    }

    /// Puts a descriptor into a slot and closes the one that was there.
    fn fill(&mut self, slot: Slot, descriptor: Descriptor) {
        if let Some(place) = self.slots.get_mut(usize::from(slot.0)) {
            system::close(core::mem::replace(place, descriptor));
            self.attached &= !(1 << slot.0);
        }
    }

    /// The root: the one that is being assembled, otherwise the present one.
    fn root(&mut self) -> Step<Descriptor> {
        if self.root < 0 {
            self.root = system::open_at(system::AT_FDCWD, c"/", system::O_PATH | system::O_DIRECTORY, 0)?;
        }
        Ok(self.root)
    }

    /// A proc file system that nobody can have covered.
    fn proc(&mut self) -> Step<Descriptor> {
        if self.proc < 0 {
            let context = system::open_file_system(c"proc")?;
            let mounted = system::mount_file_system(context, 0);
            system::close(context);
            self.proc = mounted?;
        }
        Ok(self.proc)
    }

    fn write_proc(&mut self, path: &CStr, value: &[u8]) -> Step {
        let proc = self.proc()?;
        let flags = system::O_WRONLY | system::O_NOFOLLOW;
        let file = system::open_within(proc, path, flags, 0, system::RESOLVE_IN_ROOT | system::RESOLVE_NO_MAGICLINKS)?;
        let written = system::write_all(file, value);
        system::close(file);
        Ok(written?)
    }
}
