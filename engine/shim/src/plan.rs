//! The plan: what the shim does, as a straight line of operations that mirror system calls.
//!
//! A plan is flat bytes in a sealed memfd. Whoever executes it needs no heap: every string carries its
//! own NUL and is handed to the kernel where it lies. The first part is read by the monitor (operations
//! of [`Op`] that say so), the rest is executed by init in order; a failure is reported as the index of
//! the operation and an errno.

use core::ffi::CStr;

/// The first eight bytes of every plan.
pub const MAGIC: [u8; 8] = *b"EngPlan\0";
/// The version of this format. A reader refuses any other.
pub const VERSION: u32 = 1;
/// Bytes of the header: magic, version, length of the whole plan, number of operations, number of descriptors.
pub const HEADER_LEN: usize = 24;
/// The longest plan that a reader accepts, in bytes. The kernel's own limit on arguments and environment is 2 MiB.
pub const MAX_LEN: usize = 8 << 20;
/// The most detached mounts that a plan can hold at once.
pub const MAX_SLOTS: usize = 128;
/// The most descriptors that can travel with a plan; the kernel's limit of one message is 253.
pub const MAX_DESCRIPTORS: usize = 128;

/// The place of a descriptor among those that were sent with the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fd(pub u8);

/// The place of a detached mount in the executor's table; below [`MAX_SLOTS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot(pub u8);

macro_rules! operations {
    ($($(#[doc = $doc:literal])* $name:ident = $tag:literal { $($(#[doc = $field_doc:literal])* $field:ident: $type:ty),* $(,)? })*) => {
        /// One step of a plan. The fields of an operation are explained by its own text.
        #[allow(missing_docs, reason = "the text of an operation names its fields")]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Op<'a> {
            $($(#[doc = $doc])* $name { $($(#[doc = $field_doc])* $field: $type),* },)*
        }

        impl<'a> Op<'a> {
            /// The number that stands for this operation in the bytes.
            #[must_use]
            pub fn tag(&self) -> u16 {
                match self { $(Self::$name { .. } => $tag,)* }
            }

            /// Hands the fields to `out` in order.
            #[allow(unused_variables, reason = "an operation may have no field")]
            pub fn write(&self, out: &mut dyn FnMut(&[u8])) {
                match self { $(Self::$name { $($field),* } => { $($field.put(out);)* })* }
            }

            /// Every operation of this release: number, name, fields.
            #[cfg(test)]
            pub(crate) const LAYOUT: &'static [&'static str] =
                &[$(concat!("Op ", stringify!($tag), " ", stringify!($name { $($field: $type),* }))),*];

            fn read(tag: u16, fields: &mut Reader<'a>) -> Option<Self> {
                let op = match tag {
                    $($tag => Self::$name { $($field: <$type as Field<'a>>::take(fields)?),* },)*
                    _ => return None,
                };
                fields.rest.is_empty().then_some(op)
            }
        }
    };
}

operations! {
    // ---- read by the monitor ------------------------------------------------------------------------
    /// Monitor: the namespaces that init is cloned into (`CLONE_NEW*`, without the cgroup namespace).
    Namespaces = 0x001 { flags: u64 }
    /// Monitor: the cgroup v2 directory that init is born in (`CLONE_INTO_CGROUP`); likewise for the process of an `exec`.
    BornInCgroup = 0x002 { directory: Fd }
    /// Monitor: the listening `SOCK_SEQPACKET` socket on which the monitor takes requests.
    Listener = 0x003 { socket: Fd }
    /// Monitor: the container's run directory; the exit record is written there.
    RunDirectory = 0x004 { directory: Fd }
    /// Monitor: where the log goes: json-file records in `name` beneath `directory`, at most `max_size` bytes a file
    /// (0: no bound) and `max_files` files.
    JsonLog = 0x005 { directory: Fd, name: &'a CStr, max_size: u64, max_files: u32 }
    /// Monitor: how long a file of the log takes records, in nanoseconds.
    LogAge = 0x012 { max_age: u64 }
    /// Monitor: what every record of the log has as `attrs`, a JSON object of at most 64 KiB.
    LogAttributes = 0x013 { text: &'a CStr }
    /// Monitor: standard input is a pipe (or the terminal) that attached clients write to. With `once` it is
    /// closed when the first client that brought it closes its side. Without this operation it is `/dev/null`.
    OpenStdin = 0x006 { once: u8 }
    /// Monitor: the first size of the terminal that [`Op::Console`] makes.
    TerminalSize = 0x007 { rows: u16, columns: u16 }
    /// Monitor: kill the container when the connection that launched it is closed.
    DieWithLauncher = 0x008 {}
    /// Monitor: a file with a line `oom_kill N` (v2 `memory.events`, v1 `memory.oom_control`), read at exit.
    OomCounter = 0x009 { file: Fd }
    /// Monitor: an event of version 1 is to say when memory runs out; `control` is `cgroup.event_control` beside the counter of
    /// [`Op::OomCounter`].
    OomNotifier = 0x00e { control: Fd }
    /// Monitor: init stops before [`Op::Execute`] until a `Start` request comes (the OCI create/start split).
    WaitForStart = 0x00a {}
    /// Monitor: nothing is read from the process's standard output and error: both are `/dev/null`.
    DiscardOutput = 0x00b {}
    /// Without a monitor: init stops before [`Op::Execute`] until somebody connects to this listening `SOCK_SEQPACKET` socket
    /// and sends a byte; what becomes of it is reported there.
    WaitAtListener = 0x00c { socket: Fd }
    /// Monitor: the program is an OCI runtime that makes a process and ends; with it the monitor is the nearest subreaper. When it
    /// has ended well the process is the one whose pid is in `pid_file` beneath the run directory, a child of the monitor by then.
    /// Init made so waits for its start, to which the runtime leads it. With an empty `pid_file` the runtime is to leave no process,
    /// and its end is the start that is told. A runtime that has not ended in `milliseconds` is killed with its process group.
    Adopt = 0x010 { pid_file: &'a CStr, milliseconds: u32 }
    /// Monitor: with [`Op::Adopt`], the listening stream socket to which the runtime sends the master of the terminal.
    ConsoleAt = 0x011 { socket: Fd }
    /// Whether the process keeps the session keyring of whoever launched it; without this operation it gets a new one.
    Keyring = 0x00d { keep: u8 }

    // ---- namespaces and cgroups -----------------------------------------------------------------------
    /// Join a namespace; `kind` is the `CLONE_NEW*` flag that names it. A pid namespace is joined by the monitor, before
    /// it makes init.
    JoinNamespace = 0x101 { namespace: Fd, kind: u64 }
    /// Join several namespaces of the process that a pidfd names (`exec`); `kinds` are `CLONE_NEW*` flags.
    /// After the pid namespace is joined the executor goes on in a new child.
    JoinProcess = 0x102 { process: Fd, kinds: u64 }
    /// Enter a cgroup v1 by writing `0` to its `tasks` file (no RCU grace period, unlike `cgroup.procs`).
    JoinTasks = 0x103 { tasks: Fd }
    /// Enter a cgroup v2 by writing `0` to its `cgroup.procs` file; for a process that was not born in it.
    JoinProcs = 0x104 { procs: Fd }
    /// `unshare` of namespaces that must come after others, such as the cgroup namespace.
    Unshare = 0x105 { flags: u64 }
    /// Go on in a new child of the monitor, which is cloned into new namespaces (`CLONE_NEW*`).
    Continue = 0x106 { namespaces: u64 }
    /// Join a namespace with the next child: that of [`Op::Continue`].
    JoinAtContinue = 0x109 { namespace: Fd, kind: u64 }
    /// A new user namespace with these maps, in the form of `/proc/PID/uid_map`; the executor is its superuser from then on.
    UserNamespace = 0x107 { uids: &'a CStr, gids: &'a CStr }
    /// The clocks of the time namespace that was unshared, in the form of `/proc/PID/timens_offsets`.
    TimeOffsets = 0x108 { offsets: &'a CStr }

    // ---- mounts -----------------------------------------------------------------------------------------
    /// Change the propagation of every mount of the namespace (`MS_SLAVE` or `MS_PRIVATE`, with `MS_REC`).
    Propagation = 0x201 { flags: u64 }
    /// `fsopen`: begin a new file system in `slot`.
    FsOpen = 0x202 { slot: Slot, kind: &'a CStr }
    /// `fsconfig(FSCONFIG_SET_STRING)`.
    FsString = 0x203 { slot: Slot, key: &'a CStr, value: &'a CStr }
    /// `fsconfig(FSCONFIG_SET_FLAG)`.
    FsFlag = 0x204 { slot: Slot, key: &'a CStr }
    /// `fsconfig(FSCONFIG_SET_FD)`.
    FsDescriptor = 0x205 { slot: Slot, key: &'a CStr, descriptor: Fd }
    /// `fsconfig(FSCONFIG_CMD_CREATE)` and `fsmount`: `slot` becomes a detached mount with `MOUNT_ATTR_*` attributes.
    FsMount = 0x206 { slot: Slot, attributes: u64 }
    /// `open_tree(OPEN_TREE_CLONE)` of a path of the host, symbolic links followed.
    CloneTree = 0x207 { slot: Slot, path: &'a CStr, recursive: u8 }
    /// `open_tree(OPEN_TREE_CLONE)` of a descriptor.
    CloneTreeOf = 0x208 { slot: Slot, descriptor: Fd, recursive: u8 }
    /// `open_tree(OPEN_TREE_CLONE)` of a path beneath the root that is being assembled.
    CloneTreeBeneath = 0x209 { slot: Slot, path: &'a CStr, recursive: u8 }
    /// `mount_setattr` on a mount, detached or moved; `propagation` is an `MS_*` flag or 0.
    SetAttributes = 0x20a { slot: Slot, set: u64, clear: u64, propagation: u64, recursive: u8 }
    /// The detached mount in `slot` is the new root; from here on every path is opened beneath it.
    Root = 0x20b { slot: Slot }
    /// Mount `slot` at `path` beneath the root; a missing mount point is made, as a directory or an empty file as the
    /// mount's own root is. With `strict` no component may be a symbolic link (`/proc`, `/sys`). The slot goes on to name
    /// the mount (for [`Op::SetAttributes`]) until something else is put into it.
    MoveMount = 0x20c { slot: Slot, path: &'a CStr, strict: u8 }
    /// Make a directory and its parents beneath the root; one that exists is left as it is.
    MakeDirectory = 0x20d { path: &'a CStr, mode: u32 }
    /// `mknod` beneath the root, then owner and mode exactly; `mode` has the `S_IF*` type.
    MakeNode = 0x20e { path: &'a CStr, mode: u32, major: u32, minor: u32, uid: u32, gid: u32 }
    /// Make a symbolic link beneath the root; one that exists is left as it is.
    MakeLink = 0x20f { target: &'a CStr, path: &'a CStr }
    /// Hide a path: a file under a verified `/dev/null`, a directory under an empty read-only file system. One that is
    /// not there is passed over.
    Mask = 0x210 { path: &'a CStr }
    /// Make a path read-only with everything below it. One that is not there is passed over.
    ReadOnly = 0x211 { path: &'a CStr }
    /// Make a terminal in the container's own devpts, mount its slave on `/dev/console`, and give the master to the
    /// monitor; it becomes standard input, output and error. Without a root (`exec`) only the terminal is made.
    Console = 0x212 {}
    /// `pivot_root` into the root and detach the old one.
    PivotRoot = 0x213 {}
    /// Make the mount of the root itself read-only.
    RootReadOnly = 0x214 {}
    /// An overlay by the old `mount` call, whose options together may be one page long where each of `fsconfig` is 255 bytes: for
    /// kernels that take all layers in one option. `directory` becomes the working directory, so that the layers can have short
    /// names; the overlay is mounted on it for a moment in this mount namespace, and ends up detached in `slot`.
    OverlayOf = 0x215 { slot: Slot, directory: &'a CStr, options: &'a CStr }
    /// Show the files of a detached mount as those of others, by maps in the form of `/proc/PID/uid_map`.
    MapIds = 0x216 { slot: Slot, uids: &'a CStr, gids: &'a CStr, recursive: u8 }
    /// Copy what lies at a path beneath the root into the detached mount in `slot`.
    CopyUp = 0x217 { slot: Slot, path: &'a CStr }
    /// `mount_setattr` on what is mounted at a path beneath the root; `propagation` is an `MS_*` flag or 0.
    SetAttributesAt = 0x218 { path: &'a CStr, set: u64, clear: u64, propagation: u64, recursive: u8 }
    /// As [`Op::Root`], mounted at a path of a mount namespace that others are in too.
    RootAt = 0x219 { slot: Slot, path: &'a CStr }
    /// `chroot` into the root, in place of [`Op::PivotRoot`] where others are in the mount namespace.
    ChangeRoot = 0x21a {}
    /// `open_tree(OPEN_TREE_CLONE)` of a device node of the host; one that is another device is refused.
    CloneDevice = 0x21b { slot: Slot, path: &'a CStr, kind: u32, major: u32, minor: u32 }
    /// From here on `mount_setattr` is not used (it came with Linux 5.12): attributes are set by remounting, once a mount is
    /// attached.
    OldAttributes = 0x21c {}

    // ---- the process ------------------------------------------------------------------------------------
    /// `sethostname`.
    Hostname = 0x301 { name: &'a CStr }
    /// `setdomainname`.
    Domainname = 0x302 { name: &'a CStr }
    /// Write a kernel parameter through a proc file system of the executor's own; `key` is a path beneath `/proc/sys`.
    Sysctl = 0x303 { key: &'a CStr, value: &'a CStr }
    /// `prlimit`; a hard limit that may not be raised is clamped to what is allowed.
    Rlimit = 0x304 { resource: u32, soft: u64, hard: u64 }
    /// Write `oom_score_adj`; clamped to what is allowed.
    OomScoreAdjust = 0x305 { value: i32 }
    /// The umask of the process.
    Umask = 0x306 { mode: u32 }
    /// A supplementary group, by number or by a name of the container's `/etc/group`.
    Group = 0x307 { group: &'a CStr }
    /// The user as `user`, `uid`, `user:group` or `uid:gid`, looked up in the container's `/etc/passwd` and `/etc/group`;
    /// numbers are numbers and never names. Supplementary groups are those of the files and of [`Op::Group`]. Takes
    /// effect at [`Op::Execute`]; sets `HOME` when no [`Op::Env`] does.
    User = 0x308 { user: &'a CStr }
    /// The capability sets at `execve`, as bit masks; cut down to what the executor holds.
    Capabilities = 0x309 { bounding: u64, effective: u64, permitted: u64, inheritable: u64, ambient: u64 }
    /// `PR_SET_NO_NEW_PRIVS`.
    NoNewPrivileges = 0x30a {}
    /// The working directory; with `make` one that is missing is made as root. Verified to lie inside the root.
    WorkingDirectory = 0x30b { path: &'a CStr, make: u8 }
    /// A cBPF program (`struct sock_filter[]`) and the flags of `seccomp(SECCOMP_SET_MODE_FILTER)`.
    Seccomp = 0x30c { flags: u32, filter: &'a [u8] }
    /// An argument; the first is the program.
    Arg = 0x30d { value: &'a CStr }
    /// A variable of the environment as `NAME=value`.
    Env = 0x30e { value: &'a CStr }
    /// `sched_setattr`, by the numbers of `struct sched_attr`.
    Scheduler = 0x310 { policy: u32, nice: i32, priority: u32, flags: u64, runtime: u64, deadline: u64, period: u64 }
    /// `ioprio_set` of the process.
    IoPriority = 0x311 { value: u32 }
    /// `sched_setaffinity`: a mask of processors.
    Affinity = 0x312 { mask: &'a [u8] }
    /// `personality`.
    Personality = 0x313 { persona: u32 }
    /// `set_mempolicy`: a mode with its flags, and a mask of nodes.
    MemoryPolicy = 0x314 { mode: u32, nodes: &'a [u8] }
    /// What a security module is to make of the process at `execve`: a file beneath `/proc/self/attr`, and what is written to it.
    SecurityLabel = 0x315 { file: &'a CStr, label: &'a CStr }
    /// Where the listener of a filter goes: a connected socket, and what is sent along, with the pid put in between the parts.
    SeccompListener = 0x316 { socket: Fd, before: &'a CStr, between: &'a CStr, after: &'a CStr }
    /// The program has this descriptor at this number, which is from 3 on and nothing else's.
    HandOn = 0x318 { descriptor: Fd, number: u32 }
    /// The standard streams are for a process that the program makes: it has them at three numbers from `number` on, or not at all
    /// when that is 0. Its own are the null device and, for what it says, `file`.
    StreamsAt = 0x319 { number: u32, file: Fd }
    /// Become the process: search the program in `PATH`, take user, capabilities and filter, `execve`.
    Execute = 0x30f {}

    // ---- hooks ------------------------------------------------------------------------------------------
    /// Namespaces and mounts are there, the root is not yet the root: wait until the engine has run the hooks of that moment.
    WaitForHooks = 0x401 {}
    /// An argument of the next [`Op::Hook`].
    HookArgument = 0x402 { value: &'a CStr }
    /// A variable of the environment of the next [`Op::Hook`].
    HookVariable = 0x403 { value: &'a CStr }
    /// Run a program of a specification's hooks and wait for it, at most `milliseconds`. Its standard input is `before`, the pid
    /// and `after`. With `at_start` it is run as the user and in the root of the container, right before its program.
    Hook = 0x404 { path: &'a CStr, name: &'a CStr, before: &'a CStr, after: &'a CStr, milliseconds: u32, at_start: u8 }
    /// [`Op::Execute`] happens in a child; this process goes on as one that hands signals on to it, takes in whoever is left without
    /// a parent, and ends as the child does.
    StayAsInit = 0x317 {}
}

/// Why a plan was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// The header is short, or its magic, version or length is wrong.
    Header,
    /// An operation is unknown, cut short, or has bytes left over.
    Operation(u32),
}

/// A plan as it lies in memory.
#[derive(Clone, Copy, Debug)]
pub struct Plan<'a> {
    operations: &'a [u8],
    count: u32,
    descriptors: u32,
}

impl<'a> Plan<'a> {
    /// Checks the header and every operation.
    ///
    /// # Errors
    /// [`Malformed`] says where the bytes stop making sense.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let header = bytes.get(..HEADER_LEN).ok_or(Malformed::Header)?;
        let word = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let length = word(12) as usize;
        if header[..8] != MAGIC || word(8) != VERSION || length != bytes.len() || length > MAX_LEN {
            return Err(Malformed::Header);
        }
        let plan = Plan { operations: &bytes[HEADER_LEN..], count: word(16), descriptors: word(20) };
        if plan.descriptors as usize > MAX_DESCRIPTORS {
            return Err(Malformed::Header);
        }
        let mut seen = 0;
        let mut rest = plan.operations;
        while !rest.is_empty() {
            take_operation(&mut rest).ok_or(Malformed::Operation(seen))?;
            seen += 1;
        }
        if seen == plan.count { Ok(plan) } else { Err(Malformed::Header) }
    }

    /// The operations in order.
    pub fn operations(&self) -> Operations<'a> {
        Operations { rest: self.operations }
    }

    /// How many descriptors travel with the plan.
    #[must_use]
    pub fn descriptors(&self) -> usize {
        self.descriptors as usize
    }
}

/// The operations of a plan that [`Plan::parse`] accepted.
#[derive(Clone, Debug)]
pub struct Operations<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Operations<'a> {
    type Item = Op<'a>;

    fn next(&mut self) -> Option<Op<'a>> {
        take_operation(&mut self.rest)
    }
}

/// An operation lies as: tag (2 bytes), zero (2), length of the fields (4), the fields.
fn take_operation<'a>(rest: &mut &'a [u8]) -> Option<Op<'a>> {
    let mut reader = Reader { rest };
    let tag = u16::take(&mut reader)?;
    let zero = u16::take(&mut reader)?;
    let length = u32::take(&mut reader)? as usize;
    let fields = reader.bytes(length)?;
    if zero != 0 {
        return None;
    }
    *rest = reader.rest;
    Op::read(tag, &mut Reader { rest: fields })
}

pub(crate) struct Reader<'a> {
    pub(crate) rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.rest.split_at_checked(length)?;
        self.rest = tail;
        Some(head)
    }
}

pub(crate) trait Field<'a>: Sized {
    fn put(&self, out: &mut dyn FnMut(&[u8]));
    fn take(reader: &mut Reader<'a>) -> Option<Self>;
}

macro_rules! numbers {
    ($($type:ty),*) => {$(
        impl<'a> Field<'a> for $type {
            fn put(&self, out: &mut dyn FnMut(&[u8])) {
                out(&self.to_le_bytes());
            }
            fn take(reader: &mut Reader<'a>) -> Option<Self> {
                reader.bytes(size_of::<Self>())?.try_into().ok().map(Self::from_le_bytes)
            }
        }
    )*};
}
numbers!(u8, u16, u32, u64, i32);

impl<'a> Field<'a> for Fd {
    fn put(&self, out: &mut dyn FnMut(&[u8])) {
        self.0.put(out);
    }
    fn take(reader: &mut Reader<'a>) -> Option<Self> {
        u8::take(reader).map(Self)
    }
}

impl<'a> Field<'a> for Slot {
    fn put(&self, out: &mut dyn FnMut(&[u8])) {
        self.0.put(out);
    }
    fn take(reader: &mut Reader<'a>) -> Option<Self> {
        u8::take(reader).filter(|slot| usize::from(*slot) < MAX_SLOTS).map(Self)
    }
}

impl<'a> Field<'a> for &'a [u8] {
    fn put(&self, out: &mut dyn FnMut(&[u8])) {
        #[allow(clippy::cast_possible_truncation, reason = "a plan is at most MAX_LEN bytes")]
        (self.len() as u32).put(out);
        out(self);
    }
    fn take(reader: &mut Reader<'a>) -> Option<Self> {
        let length = u32::take(reader)?;
        reader.bytes(length as usize)
    }
}

impl<'a> Field<'a> for &'a CStr {
    fn put(&self, out: &mut dyn FnMut(&[u8])) {
        self.to_bytes_with_nul().put(out);
    }
    fn take(reader: &mut Reader<'a>) -> Option<Self> {
        CStr::from_bytes_with_nul(<&[u8]>::take(reader)?).ok()
    }
}
