//! The messages between an Engine, the spawner and the monitors: one datagram of a `SOCK_SEQPACKET` socket each.
//!
//! A message lies as: magic (4 bytes), version (2), kind (2), length of the fields (4), the fields as in a plan.
//! A reader refuses any other magic or version and fields that are short. A monitor outlives the engine that launched it, so that
//! engines talk to monitors of other releases: what was said once keeps its meaning (`layout.txt`), and what is new is a new kind,
//! or a field behind the others of an event. A request that is not understood whole is refused; news of an unknown kind is
//! [`Event::Unknown`], and what an event says beyond what is known is passed over.

use crate::plan::{Field, Reader};

/// The first four bytes of every message, as a little-endian number.
pub const MAGIC: u32 = u32::from_le_bytes(*b"EngM");
/// The version of the messages.
pub const VERSION: u16 = 1;
/// The longest message, in bytes.
pub const MAX_MESSAGE: usize = 20 << 10;
/// The most bytes that a client may already have sent when it is handed over.
pub const MAX_PREFACE: usize = 16 << 10;
/// The longest sequence of detach keys.
pub const MAX_DETACH_KEYS: usize = 32;
/// The number of init among the processes of a container; others are execs, by the number that the engine chose.
pub const INIT: u64 = 0;

const HEADER_LEN: usize = 12;
/// Numbers from here on are those of events.
const FIRST_EVENT: u16 = 0x80;

/// What kept a step of a plan from being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u32)]
pub enum Reason {
    /// A system call failed; the errno says how.
    Syscall = 1,
    /// The program's path does not exist.
    NotFound = 2,
    /// The program has no slash and is in no directory of `PATH`.
    NotInPath = 3,
    /// The program may not be executed.
    PermissionDenied = 4,
    /// The program is a directory.
    IsDirectory = 5,
    /// `execve` itself failed: a missing interpreter, an unknown format.
    Execute = 6,
    /// The user is not in the container's `/etc/passwd`.
    NoSuchUser = 7,
    /// A group is not in the container's `/etc/group`.
    NoSuchGroup = 8,
    /// A number of a user or group is beyond 0 to 2147483647.
    IdOutOfRange = 9,
    /// `/etc/passwd` or `/etc/group` is not a regular file or is larger than 1 MiB.
    AccountsUnreadable = 10,
    /// The working directory is not inside the root.
    WorkingDirectoryOutside = 11,
    /// A path that must hold a certain thing holds another (`/dev/null` that is not the null device, …).
    Impostor = 12,
    /// The plan itself makes no sense at this step.
    Malformed = 13,
    /// The process died before it could become the program.
    Died = 14,
    /// A hook ended with a code other than 0, which stands in place of the errno.
    HookFailed = 15,
    /// A hook did not end in its time.
    HookTimedOut = 16,
    /// The OCI runtime that was to make the process ended with a code other than 0, which stands in place of the errno, or
    /// left no process.
    RuntimeFailed = 17,
    /// The OCI runtime that was to make the process did not end in its time.
    RuntimeTimedOut = 18,
}

impl Reason {
    /// The reason of this number.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            1 => Self::Syscall,
            2 => Self::NotFound,
            3 => Self::NotInPath,
            4 => Self::PermissionDenied,
            5 => Self::IsDirectory,
            6 => Self::Execute,
            7 => Self::NoSuchUser,
            8 => Self::NoSuchGroup,
            9 => Self::IdOutOfRange,
            10 => Self::AccountsUnreadable,
            11 => Self::WorkingDirectoryOutside,
            12 => Self::Impostor,
            13 => Self::Malformed,
            14 => Self::Died,
            15 => Self::HookFailed,
            16 => Self::HookTimedOut,
            17 => Self::RuntimeFailed,
            18 => Self::RuntimeTimedOut,
            _ => return None,
        })
    }
}

impl<'a> Field<'a> for Reason {
    fn put(&self, out: &mut dyn FnMut(&[u8])) {
        (*self as u32).put(out);
    }
    fn take(reader: &mut Reader<'a>) -> Option<Self> {
        Self::from_number(u32::take(reader)?)
    }
}

/// The step of a plan that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Failure {
    /// The place of the operation in the plan, from 0; the number of operations when none is to blame.
    pub index: u32,
    /// The errno, 0 when there is none.
    pub errno: i32,
    /// Why.
    pub reason: Reason,
}

impl<'a> Field<'a> for Failure {
    fn put(&self, out: &mut dyn FnMut(&[u8])) {
        self.index.put(out);
        self.errno.put(out);
        self.reason.put(out);
    }
    fn take(reader: &mut Reader<'a>) -> Option<Self> {
        Some(Self { index: u32::take(reader)?, errno: i32::take(reader)?, reason: Reason::take(reader)? })
    }
}

/// Where a container is in its life, as its monitor sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Everything is ready; init waits for [`Request::Start`].
    Waiting,
    /// The container's process runs.
    Running,
    /// Init is gone and its last output is being delivered.
    Exited,
    /// Hooks are being run; only a container that has some is seen like this.
    Creating,
}

impl<'a> Field<'a> for Stage {
    fn put(&self, out: &mut dyn FnMut(&[u8])) {
        let number: u8 = match self {
            Self::Waiting => 0,
            Self::Running => 1,
            Self::Exited => 2,
            Self::Creating => 3,
        };
        number.put(out);
    }
    fn take(reader: &mut Reader<'a>) -> Option<Self> {
        Some(match u8::take(reader)? {
            0 => Self::Waiting,
            1 => Self::Running,
            2 => Self::Exited,
            3 => Self::Creating,
            _ => return None,
        })
    }
}

/// Why a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u32)]
pub enum Refusal {
    /// The message made no sense, or its descriptors were missing.
    Malformed = 1,
    /// No such process, or it is gone.
    NoProcess = 2,
    /// The process has no terminal, or its standard input is not open.
    NotPossible = 3,
    /// A bound of the monitor is reached (clients, execs).
    Full = 4,
    /// The number of the exec or of the client is taken.
    Taken = 5,
    /// A system call failed; the errno says how.
    Syscall = 6,
}

impl<'a> Field<'a> for Refusal {
    fn put(&self, out: &mut dyn FnMut(&[u8])) {
        (*self as u32).put(out);
    }
    fn take(reader: &mut Reader<'a>) -> Option<Self> {
        Some(match u32::take(reader)? {
            1 => Self::Malformed,
            2 => Self::NoProcess,
            3 => Self::NotPossible,
            4 => Self::Full,
            5 => Self::Taken,
            6 => Self::Syscall,
            _ => return None,
        })
    }
}

impl<'a> Field<'a> for bool {
    fn put(&self, out: &mut dyn FnMut(&[u8])) {
        u8::from(*self).put(out);
    }
    fn take(reader: &mut Reader<'a>) -> Option<Self> {
        match u8::take(reader)? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }
}

/// A client to connect to a process's standard streams. Its connected stream socket travels with the message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attach<'a> {
    /// A number of the engine's choice; comes back in [`Event::Attached`] and [`Event::Detached`].
    pub client: u64,
    /// The process: [`INIT`] or the number of an exec.
    pub process: u64,
    /// What the client sends goes to standard input.
    pub stdin: bool,
    /// The client gets standard output (the terminal, when there is one).
    pub stdout: bool,
    /// The client gets standard error.
    pub stderr: bool,
    /// Output comes in frames with an 8-byte header that names the stream; otherwise as it is.
    pub framed: bool,
    /// Standard input is closed when this client ends its side (without terminal). Otherwise the end of its side
    /// detaches the client.
    pub stdin_once: bool,
    /// The bytes that detach the client when they are typed at a terminal; empty: none. At most [`MAX_DETACH_KEYS`].
    pub detach_keys: &'a [u8],
    /// Bytes for standard input that were already read from the client. At most [`MAX_PREFACE`].
    pub preface: &'a [u8],
}

impl<'a> Field<'a> for Attach<'a> {
    fn put(&self, out: &mut dyn FnMut(&[u8])) {
        self.client.put(out);
        self.process.put(out);
        for flag in [self.stdin, self.stdout, self.stderr, self.framed, self.stdin_once] {
            flag.put(out);
        }
        self.detach_keys.put(out);
        self.preface.put(out);
    }
    fn take(reader: &mut Reader<'a>) -> Option<Self> {
        let attach = Self {
            client: u64::take(reader)?,
            process: u64::take(reader)?,
            stdin: bool::take(reader)?,
            stdout: bool::take(reader)?,
            stderr: bool::take(reader)?,
            framed: bool::take(reader)?,
            stdin_once: bool::take(reader)?,
            detach_keys: <&[u8]>::take(reader)?,
            preface: <&[u8]>::take(reader)?,
        };
        (attach.detach_keys.len() <= MAX_DETACH_KEYS && attach.preface.len() <= MAX_PREFACE).then_some(attach)
    }
}

macro_rules! messages {
    ($(#[doc = $enum_doc:literal])* $enum:ident $(<$life:lifetime>)?: $reading:ident {
        $($(#[doc = $doc:literal])* $name:ident = $tag:literal { $($(#[doc = $field_doc:literal])* $field:ident: $type:ty),* $(,)? })*
    }) => {
        $(#[doc = $enum_doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $enum $(<$life>)? {
            $($(#[doc = $doc])* $name { $($(#[doc = $field_doc])* $field: $type),* },)*
        }

        impl $(<$life>)? $enum $(<$life>)? {
            /// The number that stands for this message.
            #[must_use]
            pub fn kind(&self) -> u16 {
                match self { $(Self::$name { .. } => $tag,)* }
            }

            #[allow(unused_variables, reason = "a message may have no field")]
            fn put_fields(&self, out: &mut dyn FnMut(&[u8])) {
                match self { $(Self::$name { $($field),* } => { $($field.put(out);)* })* }
            }

            /// Writes the message to `buffer` and says how long it is; `None` when it does not fit.
            #[must_use]
            pub fn encode(&self, buffer: &mut [u8]) -> Option<usize> {
                let mut at = HEADER_LEN;
                let mut fits = buffer.len() >= HEADER_LEN;
                self.put_fields(&mut |bytes| {
                    match buffer.get_mut(at..at + bytes.len()) {
                        Some(place) if fits => place.copy_from_slice(bytes),
                        _ => fits = false,
                    }
                    at += bytes.len();
                });
                if !fits || at > MAX_MESSAGE {
                    return None;
                }
                #[allow(clippy::cast_possible_truncation, reason = "at most MAX_MESSAGE")]
                let length = (at - HEADER_LEN) as u32;
                buffer[..4].copy_from_slice(&MAGIC.to_le_bytes());
                buffer[4..6].copy_from_slice(&VERSION.to_le_bytes());
                buffer[6..8].copy_from_slice(&self.kind().to_le_bytes());
                buffer[8..12].copy_from_slice(&length.to_le_bytes());
                Some(at)
            }
        }

        impl<'a> $enum $(<$life>)? {
            messages!(@decode $reading [$($life)?] $($name = $tag { $($field: $type),* })*);

            /// Every message of this release: number, name, fields.
            #[cfg(test)]
            const LAYOUT: &'static [&'static str] =
                &[$(concat!(stringify!($enum), " ", stringify!($tag), " ", stringify!($name { $($field: $type),* }))),*];
        }
    };
    (@unknown whole $kind:ident) => {
        return None
    };
    (@unknown open $kind:ident) => {
        return ($kind >= FIRST_EVENT).then_some(Self::Unknown {})
    };
    (@rest whole $reader:ident) => {
        $reader.rest.is_empty()
    };
    (@rest open $reader:ident) => {
        true
    };
    (@decode $reading:ident [$($life:lifetime)?] $($name:ident = $tag:literal { $($field:ident: $type:ty),* })*) => {
        /// Reads a message; `None` when the bytes are none.
        #[must_use]
        #[allow(unused_variables, reason = "a message may have no field")]
        pub fn decode(message: &'a [u8]) -> Option<Self> {
            let mut reader = Reader { rest: message };
            let magic = u32::take(&mut reader)?;
            let version = u16::take(&mut reader)?;
            let kind = u16::take(&mut reader)?;
            let length = u32::take(&mut reader)? as usize;
            if magic != MAGIC || version != VERSION || length != reader.rest.len() || message.len() > MAX_MESSAGE {
                return None;
            }
            let message = match kind {
                $($tag => Self::$name { $($field: <$type as Field<'a>>::take(&mut reader)?),* },)*
                _ => messages!(@unknown $reading kind),
            };
            messages!(@rest $reading reader).then_some(message)
        }
    };
}

messages! {
    /// What an engine asks of the spawner or of a monitor.
    Request<'a>: whole {
        /// Spawner: launch a container. Descriptors: the monitor's end of a new connection, the plan, the plan's own.
        Launch = 0x01 {}
        /// Send this connection [`Event::Exited`] and what becomes of execs. The launching connection has it from birth.
        Subscribe = 0x10 {}
        /// Answer [`Event::Status`].
        Status = 0x11 {}
        /// Let init go on that waits; answered by [`Event::Started`] or [`Event::StartFailed`] on every subscribed connection.
        Start = 0x12 {}
        /// Connect a client; answered by [`Event::Attached`], later [`Event::Detached`]. Descriptor: the client's socket.
        Attach = 0x13 {
            /// The client.
            attach: Attach<'a>,
        }
        /// Set the size of a process's terminal.
        Resize = 0x14 {
            /// The process.
            process: u64,
            /// Lines.
            rows: u16,
            /// Columns.
            columns: u16,
        }
        /// Start a further process; answered by [`Event::ExecStarted`] or [`Event::ExecFailed`], later
        /// [`Event::ExecExited`]. Descriptors: the plan, the plan's own.
        Exec = 0x15 {
            /// The number of the exec from now on; not 0.
            id: u64,
        }
        /// As [`Request::Exec`] with a client connected from the first byte; `attach.process` must be `id`.
        /// Descriptors: the client's socket, the plan, the plan's own.
        ExecAttached = 0x16 {
            /// The number of the exec from now on; not 0.
            id: u64,
            /// The client.
            attach: Attach<'a>,
        }
        /// Close a process's standard input once all that was sent is written.
        CloseStdin = 0x17 {
            /// The process.
            process: u64,
        }
        /// Send a signal to a process; race-free, since the monitor has not reaped it.
        Signal = 0x18 {
            /// The process.
            process: u64,
            /// The number of the signal.
            signal: i32,
        }
        /// Open the log file again, because somebody renamed or removed it.
        ReopenLog = 0x19 {}
        /// The older log file of this inode was packed into `<name>.packed`, which takes its place as `<name>.<number>.gz`.
        PackedLog = 0x1c {
            /// The inode.
            inode: u64,
        }
        /// Let init go on after [`Event::Prepared`]: the hooks have been run.
        Continue = 0x1b {}
        /// As [`Request::Attach`], for a client that is given the log up to [`Event::Attached`]'s position by somebody
        /// else: it first gets the beginnings of lines that are not in the log yet, so that nothing is missing between.
        AttachAfterLog = 0x1a {
            /// The client.
            attach: Attach<'a>,
        }
    }
}

messages! {
    /// What the spawner or a monitor tells.
    Event: open {
        /// Spawner: ready for requests.
        Ready = 0x81 {}
        /// The container is made and init waits for [`Request::Start`]. Descriptor: init's pidfd.
        Waiting = 0x90 {
            /// Init's pid, as the host sees it.
            pid: u32,
        }
        /// The container is made up to its hooks, and init waits for [`Request::Continue`]. Descriptor: init's pidfd.
        Prepared = 0x9c {
            /// Init's pid, as the host sees it.
            pid: u32,
        }
        /// The container's program runs: `execve` succeeded. Descriptor: init's pidfd.
        Started = 0x91 {
            /// Init's pid, as the host sees it.
            pid: u32,
        }
        /// The container could not be made or started; nothing of it is left and the monitor ends.
        StartFailed = 0x92 {
            /// The step that failed.
            failure: Failure,
        }
        /// The answer to [`Request::Status`]. Descriptor: init's pidfd, unless it is gone.
        Status = 0x93 {
            /// Where the container is in its life.
            stage: Stage,
            /// Init's pid, as the host sees it.
            pid: u32,
            /// Where the log ends, in bytes from the beginning of the file that was there at birth.
            log_position: u64,
            /// The position at which the present log file begins.
            log_file_start: u64,
            /// Records that could not be written since birth.
            log_lost: u64,
            /// Clients that are connected.
            clients: u32,
            /// Execs that run.
            execs: u32,
        }
        /// Init is gone and all of its output is in the log and on its way to the clients; the exit record is written.
        Exited = 0x94 {
            /// The exit code; 128 and the signal's number when a signal killed it.
            code: i32,
            /// The kernel killed a process of the container for lack of memory.
            oom_killed: bool,
            /// When, in nanoseconds since 1970.
            at_nanos: u64,
        }
        /// An exec runs: `execve` succeeded. Descriptor: its pidfd.
        ExecStarted = 0x95 {
            /// The exec.
            id: u64,
            /// Its pid, as the host sees it.
            pid: u32,
        }
        /// An exec could not be started; nothing of it is left.
        ExecFailed = 0x96 {
            /// The exec.
            id: u64,
            /// The step that failed.
            failure: Failure,
        }
        /// An exec is gone and all of its output is on its way to its clients.
        ExecExited = 0x97 {
            /// The exec.
            id: u64,
            /// The exit code; 128 and the signal's number when a signal killed it.
            code: i32,
        }
        /// A client is connected: everything behind this position of the log goes to it.
        Attached = 0x98 {
            /// The client.
            client: u64,
            /// Where the log ends, in bytes from the beginning of the file that was there at birth. The beginning of a
            /// line that has not ended yet is not in the log (see [`Request::AttachAfterLog`]).
            log_position: u64,
            /// The position at which the present log file begins.
            log_file_start: u64,
        }
        /// A client is disconnected: it left, typed the detach keys, or the process is gone and all output was sent.
        Detached = 0x99 {
            /// The client.
            client: u64,
            /// The process it was connected to.
            process: u64,
            /// It typed the detach keys.
            by_keys: bool,
        }
        /// A request was not done.
        Refused = 0x9a {
            /// The kind of the request.
            request: u32,
            /// The client, exec or process that it was about, or 0.
            subject: u64,
            /// Why.
            refusal: Refusal,
            /// The errno, 0 when there is none.
            errno: i32,
        }
        /// The kernel killed a process of the container for lack of memory.
        OutOfMemory = 0x9b {
            /// How many so far.
            kills: u64,
        }
        /// News of a later release that this one does not know. Never sent: what a reader makes of it.
        Unknown = 0xfe {}
        /// The other side is gone. Never sent: what a reader makes of the end of the connection.
        Closed = 0xff {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requests() -> [Request<'static>; 14] {
        let attach = Attach { client: 9, stdin: true, framed: true, preface: &[7; MAX_PREFACE], ..Attach::default() };
        let keys = Attach { process: 3, stdin_once: true, detach_keys: b"\x10\x11", ..Attach::default() };
        [
            Request::Launch {},
            Request::Subscribe {},
            Request::Status {},
            Request::Start {},
            Request::Attach { attach },
            Request::Resize { process: 1, rows: 24, columns: 80 },
            Request::Exec { id: u64::MAX },
            Request::ExecAttached { id: 3, attach: keys },
            Request::CloseStdin { process: 0 },
            Request::Signal { process: 0, signal: -1 },
            Request::ReopenLog {},
            Request::AttachAfterLog { attach },
            Request::Attach { attach: keys },
            Request::Attach { attach: Attach { stderr: true, stdout: true, ..keys } },
        ]
    }

    fn events() -> [Event; 14] {
        let failure = Failure { index: 3, errno: -1, reason: Reason::Died };
        let stage = Stage::Exited;
        [
            Event::Ready {},
            Event::Waiting { pid: 1 },
            Event::Started { pid: u32::MAX },
            Event::StartFailed { failure },
            Event::Status { stage, pid: 1, log_position: 2, log_file_start: 3, log_lost: 4, clients: 5, execs: 6 },
            Event::Exited { code: -1, oom_killed: true, at_nanos: u64::MAX },
            Event::ExecStarted { id: 1, pid: 2 },
            Event::ExecFailed { id: 1, failure },
            Event::ExecExited { id: 1, code: 255 },
            Event::Attached { client: 1, log_position: 2, log_file_start: 3 },
            Event::Detached { client: 1, process: 2, by_keys: true },
            Event::Refused { request: 1, subject: 2, refusal: Refusal::Full, errno: 3 },
            Event::OutOfMemory { kills: 1 },
            Event::Closed {},
        ]
    }

    #[test]
    fn messages_are_read_as_they_were_written() {
        let mut buffer = [0; MAX_MESSAGE];
        for request in requests() {
            let length = request.encode(&mut buffer).unwrap();
            assert_eq!(Request::decode(&buffer[..length]), Some(request));
        }
        for event in events() {
            let length = event.encode(&mut buffer).unwrap();
            assert_eq!(Event::decode(&buffer[..length]), Some(event));
            assert_eq!(Request::decode(&buffer[..length]), None);
        }
    }

    #[test]
    fn messages_that_are_cut_long_or_changed_are_refused() {
        let mut buffer = [0; MAX_MESSAGE];
        for request in requests() {
            let length = request.encode(&mut buffer).unwrap();
            for cut in (0..length).rev().take(200) {
                assert_eq!(Request::decode(&buffer[..cut]), None);
            }
            buffer[length] = 0;
            assert_eq!(Request::decode(&buffer[..=length]), None);
            for at in [0, 4, 7, 8] {
                buffer[at] ^= 0x40;
                assert_eq!(Request::decode(&buffer[..length]), None);
                buffer[at] ^= 0x40;
            }
            assert_eq!(Event::decode(&buffer[..length]), None);
            assert_eq!(request.encode(&mut [0; 11]), None);
        }
    }

    #[test]
    fn news_of_a_later_release_are_understood_as_far_as_they_are_known() {
        let mut buffer = [0; MAX_MESSAGE];
        for event in events() {
            let length = event.encode(&mut buffer).unwrap();
            for cut in HEADER_LEN..length {
                buffer[8..12].copy_from_slice(&((cut - HEADER_LEN) as u32).to_le_bytes());
                assert_eq!(Event::decode(&buffer[..cut]), None, "{event:?} of {cut} bytes");
            }
            // With a field more.
            buffer[length..length + 8].copy_from_slice(&[7; 8]);
            buffer[8..12].copy_from_slice(&((length + 8 - HEADER_LEN) as u32).to_le_bytes());
            assert_eq!(Event::decode(&buffer[..length + 8]), Some(event));
            buffer[6..8].copy_from_slice(&0xc7u16.to_le_bytes());
            assert_eq!(Event::decode(&buffer[..length + 8]), Some(Event::Unknown {}));
            buffer[4..6].copy_from_slice(&(VERSION + 1).to_le_bytes());
            assert_eq!(Event::decode(&buffer[..length + 8]), None);
        }
    }

    /// Lines may be added to the file, with each release those of what it adds; none may change or go.
    #[test]
    fn what_was_said_once_keeps_its_meaning() {
        let now: std::vec::Vec<_> =
            [Request::LAYOUT, Event::LAYOUT, crate::plan::Op::LAYOUT].concat().into_iter().map(tidy).collect();
        for line in include_str!("layout.txt").lines() {
            assert!(now.iter().any(|known| known == line), "{line}: a monitor that runs understands this only");
        }
        for line in now {
            assert!(include_str!("layout.txt").lines().any(|known| known == line), "{line} is not in layout.txt");
        }
    }

    /// One space between words, however the compiler shows them.
    fn tidy(line: &str) -> std::string::String {
        let spaced = line.replace(['{', '}', ',', ':', '<', '>'], " ");
        spaced.split_whitespace().collect::<std::vec::Vec<_>>().join(" ")
    }

    #[test]
    fn fields_beyond_their_bounds_are_refused() {
        let mut buffer = std::vec![0; 2 * MAX_MESSAGE];
        let keys = Attach { detach_keys: &[1; MAX_DETACH_KEYS + 1], ..Attach::default() };
        let length = Request::Attach { attach: keys }.encode(&mut buffer).unwrap();
        assert_eq!(Request::decode(&buffer[..length]), None);
        let preface = Attach { preface: &[1; MAX_PREFACE + 1], ..Attach::default() };
        let length = Request::Attach { attach: preface }.encode(&mut buffer).unwrap();
        assert_eq!(Request::decode(&buffer[..length]), None);
        let far = Attach { preface: &[1; MAX_MESSAGE], ..Attach::default() };
        assert_eq!(Request::Attach { attach: far }.encode(&mut buffer), None);
        let length = Event::Exited { code: 0, oom_killed: true, at_nanos: 0 }.encode(&mut buffer).unwrap();
        buffer[HEADER_LEN + 4] = 2;
        assert_eq!(Event::decode(&buffer[..length]), None);
    }

    #[test]
    fn every_number_is_one_reason() {
        for number in 0..100 {
            assert!(Reason::from_number(number).is_none_or(|reason| reason as u32 == number));
        }
        assert_eq!((1..=18).filter_map(Reason::from_number).count(), 18);
    }
}
