//! The steps that turn the executor into the container's program.

use core::ffi::CStr;

use super::{Executor, Step, Stop};
use crate::accounts::{self, Groups};
use crate::beneath::{self, Leaf, Links};
use crate::plan::Op;
use crate::protocol::Reason;
use crate::report::Report;
use crate::system::{self, CapabilitySets, Descriptor, Errno, PollEntry};

/// The largest `/etc/passwd` or `/etc/group` that is read, in bytes.
const MAX_ACCOUNTS: usize = 1 << 20;
/// The kernel's own bound of supplementary groups.
const MAX_GROUPS: usize = 65_536;
const PATH_MAX: usize = 4096;
/// The longest state that goes with a listener, in bytes.
const MAX_STATE: usize = 256 << 10;
const SIGTTIN: i32 = 21;
const SIGTTOU: i32 = 22;

const PR_SET_PDEATHSIG: u32 = 1;
const PR_SET_KEEPCAPS: u32 = 8;
const PR_CAPBSET_DROP: u32 = 24;
const PR_SET_CHILD_SUBREAPER: u32 = 36;
const PR_SET_NO_NEW_PRIVS: u32 = 38;
const PR_CAP_AMBIENT: u32 = 47;
const PR_CAP_AMBIENT_RAISE: u64 = 2;
const PR_CAP_AMBIENT_CLEAR_ALL: u64 = 4;

#[derive(Clone, Copy, Debug)]
pub(super) struct Capabilities {
    pub(super) bounding: u64,
    pub(super) effective: u64,
    pub(super) permitted: u64,
    pub(super) inheritable: u64,
    pub(super) ambient: u64,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Directory<'a> {
    pub(super) path: &'a CStr,
    pub(super) make: bool,
    pub(super) index: u32,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Filter<'a> {
    pub(super) flags: u32,
    pub(super) filter: &'a [u8],
    pub(super) index: u32,
}

/// Who the process is going to be, with the list of groups in memory of its own.
#[derive(Debug)]
pub(super) struct Who {
    uid: u32,
    gid: u32,
    groups: &'static [u32],
    /// `HOME=…` with a NUL.
    home: &'static [u8],
}

/// Where the listener of a filter goes, and the text around the pid that goes with it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Listener<'a> {
    pub(super) socket: Descriptor,
    pub(super) text: [&'a CStr; 3],
}

/// What was said before [`Op::Execute`] and takes effect there.
#[derive(Debug, Default)]
pub(super) struct Pending<'a> {
    pub(super) terminal_size: Option<(u16, u16)>,
    pub(super) wait: bool,
    pub(super) listener: Option<Descriptor>,
    pub(super) keeps_keyring: bool,
    pub(super) stays: bool,
    pub(super) umask: Option<u32>,
    pub(super) capabilities: Option<Capabilities>,
    pub(super) no_new_privileges: bool,
    pub(super) directory: Option<Directory<'a>>,
    pub(super) filter: Option<Filter<'a>>,
    pub(super) notified: Option<Listener<'a>>,
    pub(super) who: Option<Who>,
    /// A descriptor and the number that it gets.
    pub(super) handed_on: Option<(Descriptor, Descriptor)>,
    /// Where the program has the standard streams, 0 for nowhere, and the file that it speaks to.
    pub(super) streams_at: Option<(Descriptor, Descriptor)>,
}

/// A hard limit above what may be set is cut down to it.
pub(super) fn limit(resource: u32, soft: u64, hard: u64) -> Step {
    match system::set_limit(resource, [soft, hard]) {
        Err(Errno::PERM) => {
            let [_, allowed] = system::limit(resource)?;
            let hard = hard.min(allowed);
            Ok(system::set_limit(resource, [soft.min(hard), hard])?)
        }
        set => Ok(set?),
    }
}

impl<'a> Executor<'a> {
    pub(super) fn write_parameter(&mut self, key: &CStr, value: &CStr) -> Step {
        let mut path = [0; 512];
        let parts = [&b"sys/"[..], key.to_bytes()];
        let path = join(&mut path, &parts)?;
        self.write_proc(path, value.to_bytes())
    }

    pub(super) fn adjust_oom_score(&mut self, value: i32) -> Step {
        let mut text = [0; 12];
        match self.write_proc(c"self/oom_score_adj", decimal(value, &mut text)) {
            // Lower than it was born with takes a capability: it stays as it is.
            Err(Stop { errno, .. }) if errno == Errno::ACCES.0 || errno == Errno::PERM.0 => Ok(()),
            written => written,
        }
    }

    /// Looks the user and every group of the plan up in the container's own files.
    pub(super) fn resolve_user(&mut self, user: &[u8]) -> Step {
        let passwd = self.read_accounts(c"etc/passwd")?;
        let group = self.read_accounts(c"etc/group")?;
        let room = system::map(MAX_GROUPS * size_of::<u32>())?;
        // SAFETY: a mapping is aligned to pages, and zeros are numbers.
        let (_, room, _) = unsafe { room.align_to_mut::<u32>() };
        let mut list = Groups::new(room);
        let identity = accounts::resolve(user, passwd, group, &mut list)?;
        let here = self.index;
        for (index, op) in self.plan.operations().enumerate() {
            if let Op::Group { group: wanted } = op {
                self.index = index as u32;
                accounts::add_group(wanted.to_bytes(), group, &mut list)?;
            }
        }
        self.index = here;
        let home = identity.home.filter(|home| home.len() < PATH_MAX).unwrap_or(b"/");
        let home_variable = system::map(home.len() + 6)?;
        home_variable[..5].copy_from_slice(b"HOME=");
        home_variable[5..5 + home.len()].copy_from_slice(home);
        let count = list.as_slice().len();
        self.pending.who =
            Some(Who { uid: identity.uid, gid: identity.gid, groups: &room[..count], home: home_variable });
        Ok(())
    }

    /// A file of the container's, read with care: it may be anything, of any size. One that is missing is empty.
    fn read_accounts(&mut self, path: &CStr) -> Step<&'static [u8]> {
        let root = self.root()?;
        let flags = system::O_RDONLY | system::O_NONBLOCK | system::O_NOCTTY;
        let file = match beneath::open(root, path, system::O_PATH, Links::Follow) {
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(&[]),
            // Opening a device or a fifo can already do something: look before.
            found => {
                let found = found?;
                let regular = system::metadata(found).is_ok_and(|found| found.is(system::S_IFREG));
                system::close(found);
                if !regular {
                    return Err(Reason::AccountsUnreadable.into());
                }
                beneath::open(root, path, flags, Links::Follow)?
            }
        };
        let contents = read_bounded(file);
        system::close(file);
        contents
    }

    pub(super) fn execute(&mut self) -> Step {
        if self.pending.who.is_none() {
            self.resolve_user(b"")?;
        }
        let Some(who) = self.pending.who.take() else { return Err(Reason::Malformed.into()) };
        if self.pending.wait {
            self.wait_for_start()?;
        }
        if let Some(listener) = self.pending.listener {
            // Whoever only makes a container wants to know already then that its program is missing.
            let image = Image::new(self.plan, &who)?;
            if !image.is_beneath_working_directory() {
                image.find(&mut [0; PATH_MAX])?;
            }
            self.wait_at(listener)?;
        }
        if !self.pending.keeps_keyring {
            // Best effort: a kernel without keyrings, or a quota.
            let _ = system::join_new_session_keyring();
        }
        if self.input_is_null
            && let Ok(device) = self.null_device(system::O_RDWR | system::O_NOCTTY)
        {
            system::duplicate_to(device, 0, false)?;
            system::close(device);
        }
        give_streams_to(who.uid);
        let directory = self.pending.directory;
        let entered = match directory {
            Some(directory) => self.enter(directory)?,
            None => Ok(()),
        };
        if !self.pending.no_new_privileges {
            // Without no_new_privs a filter takes privilege, which is about to be given up.
            self.install_filter()?;
        }
        self.become_user(&who)?;
        if let (Err(_), Some(directory)) = (entered, directory) {
            // The superuser was refused, as on a network file system: the user may be let in.
            self.at(directory.index, |executor| executor.enter(directory)?.map_err(Stop::from))?;
        }
        self.verify_working_directory()?;
        if self.pending.no_new_privileges {
            system::control_process(PR_SET_NO_NEW_PRIVS, 1, 0)?;
        }
        if self.inherits.is_none() {
            self.die_with_monitor()?;
        }
        system::set_umask(self.pending.umask.unwrap_or(0o022));
        system::close_from(3 + self.inherits.unwrap_or(0).cast_signed(), true);
        self.hand_on()?;
        let image = Image::new(self.plan, &who)?;
        if self.pending.no_new_privileges {
            self.install_filter()?;
        }
        self.run_start_hooks()?;
        if self.pending.stays {
            stay()?;
        }
        Err(image.execute(self.channel))
    }

    /// Gives the program what it is to have besides its own streams. From here on no descriptor but the channel is needed.
    fn hand_on(&mut self) -> Step {
        let give = |descriptor: Descriptor, number: Descriptor, channel: Descriptor| match number == channel {
            true => Err(Errno::BADF),
            false => system::duplicate_to(descriptor, number, false),
        };
        if let Some((descriptor, number)) = self.pending.handed_on {
            give(descriptor, number, self.channel)?;
        }
        let Some((first, file)) = self.pending.streams_at else { return Ok(()) };
        let null = self.null_device(system::O_RDWR | system::O_NOCTTY)?;
        for (stream, own) in [(0, null), (1, file), (2, file)] {
            if first > 0 {
                give(stream, first + stream, self.channel)?;
            }
            system::duplicate_to(own, stream, false)?;
        }
        system::close(null);
        Ok(())
    }

    /// Does something whose failure is to be blamed on another step.
    fn at<T>(&mut self, index: u32, what: impl FnOnce(&mut Self) -> Step<T>) -> Step<T> {
        let here = core::mem::replace(&mut self.index, index);
        let done = what(self)?;
        self.index = here;
        Ok(done)
    }

    /// A container without its monitor would be without a witness: it dies with it.
    fn die_with_monitor(&self) -> Step {
        system::control_process(PR_SET_PDEATHSIG, system::SIGKILL as u64, 0)?;
        let mut monitor = [PollEntry { descriptor: self.channel, events: 0, happened: 0 }];
        if system::poll(&mut monitor, Some(0)).is_ok() && monitor[0].happened & (system::POLLHUP | system::POLLERR) != 0
        {
            return Err(Reason::Died.into());
        }
        Ok(())
    }

    /// Waits for somebody who connects and sends a byte. Who sends none only wanted to know whether it waits.
    fn wait_at(&mut self, listener: Descriptor) -> Step {
        Report::Waiting.send(self.channel, &[])?;
        loop {
            let connection = system::accept(listener)?;
            let mut news = [PollEntry { descriptor: connection, events: system::POLLIN, happened: 0 }];
            system::poll(&mut news, None)?;
            let mut byte = [0; 1];
            // Whoever only looks who is there may ask other things.
            if matches!(system::read(connection, &mut byte), Ok(1)) && byte == *b"g" {
                system::close(listener);
                system::close(core::mem::replace(&mut self.channel, connection));
                return Ok(());
            }
            system::close(connection);
        }
    }

    fn wait_for_start(&mut self) -> Step {
        Report::Waiting.send(self.channel, &[])?;
        let mut byte = [0; 1];
        match system::read(self.channel, &mut byte)? {
            0 => Err(Reason::Died.into()),
            _ => Ok(()),
        }
    }

    /// Goes to a directory beneath the root. The inner result is a refusal that the user may not meet.
    fn enter(&mut self, directory: Directory<'a>) -> Step<core::result::Result<(), Errno>> {
        self.at(directory.index, |executor| {
            let root = executor.root()?;
            let opened = if directory.make {
                beneath::ensure(root, directory.path, Leaf::Directory(0o755), Links::Follow)
            } else {
                beneath::open(root, directory.path, system::O_PATH | system::O_DIRECTORY, Links::Follow)
            };
            let entered = opened.and_then(|opened| {
                let entered = system::change_directory(opened);
                system::close(opened);
                entered
            });
            match entered {
                Err(Errno::ACCES) => Ok(Err(Errno::ACCES)),
                entered => Ok(Ok(entered?)),
            }
        })
    }

    /// Nobody may have put the working directory outside of the root (CVE-2024-21626).
    fn verify_working_directory(&mut self) -> Step {
        let mut buffer = [0; PATH_MAX];
        match system::working_directory(&mut buffer) {
            Ok(path) if path.starts_with(b"/") => Ok(()),
            _ => Err(Reason::WorkingDirectoryOutside.into()),
        }
    }

    fn install_filter(&mut self) -> Step {
        let Some(filter) = self.pending.filter else { return Ok(()) };
        let listener = self.pending.notified;
        let pid = self.host_pid;
        self.at(filter.index, |_| {
            // All that is sent has to be there before: what comes after the filter may already be stopped by it.
            let mut digits = [0; 12];
            let pid = decimal(pid, &mut digits);
            let mut length = 0;
            let text = match listener {
                Some(_) => system::map(MAX_STATE)?,
                None => &mut [][..],
            };
            if let Some(Listener { text: [before, between, after], .. }) = listener {
                for part in [before.to_bytes(), pid, between.to_bytes(), pid, after.to_bytes()] {
                    text.get_mut(length..length + part.len()).ok_or(Errno::NAMETOOLONG)?.copy_from_slice(part);
                    length += part.len();
                }
            }
            let descriptor = system::set_filter(filter.flags, filter.filter)?;
            if let Some(listener) = listener {
                system::send(listener.socket, &text[..length], &[descriptor])?;
                system::close(descriptor);
            }
            Ok(())
        })
    }

    /// The host's own `/proc` says what pid this is there; the container's does not.
    pub(super) fn prepare_listener(&mut self, listener: Listener<'a>) -> Step {
        self.pending.notified = Some(listener);
        if self.host_pid == 0 {
            let mut digits = [0; 16];
            let length = system::read_link_at(system::AT_FDCWD, c"/proc/self", &mut digits)?;
            for digit in digits.get(..length).unwrap_or_default() {
                self.host_pid = self.host_pid.wrapping_mul(10).wrapping_add(i32::from(digit.wrapping_sub(b'0')));
            }
        }
        Ok(())
    }

    pub(super) fn set_security_label(&mut self, file: &CStr, label: &CStr) -> Step {
        let mut path = [0; 128];
        let path = join(&mut path, &[b"self/attr/", file.to_bytes()])?;
        self.write_proc(path, label.to_bytes())
    }

    fn become_user(&mut self, who: &Who) -> Step {
        let wanted = self.pending.capabilities;
        let held = system::capabilities()?;
        if let Some(wanted) = wanted {
            for capability in 0..64 {
                if wanted.bounding & (1 << capability) == 0 {
                    match system::control_process(PR_CAPBSET_DROP, capability, 0) {
                        // Beyond the last one that the kernel knows.
                        Err(Errno::INVAL) => break,
                        // Not held: there is nothing to drop with, and nothing to gain.
                        Err(Errno::PERM) if held.permitted == 0 => break,
                        dropped => drop(dropped?),
                    }
                }
            }
        }
        system::control_process(PR_SET_KEEPCAPS, 1, 0)?;
        system::set_groups(who.groups)?;
        system::set_gid(who.gid)?;
        system::set_uid(who.uid)?;
        system::control_process(PR_SET_KEEPCAPS, 0, 0)?;
        if let Some(wanted) = wanted {
            let permitted = wanted.permitted & held.permitted;
            let inheritable = wanted.inheritable & held.permitted;
            system::set_capabilities(CapabilitySets {
                effective: wanted.effective & permitted,
                permitted,
                inheritable,
            })?;
            let _ = system::control_process(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0);
            let ambient = wanted.ambient & permitted & inheritable;
            for capability in 0..64 {
                if ambient & (1 << capability) != 0 {
                    system::control_process(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability)?;
                }
            }
        }
        Ok(())
    }
}

/// Lets the user open its own standard streams again by name (`/dev/stdout`).
fn give_streams_to(uid: u32) {
    for stream in 0..3 {
        if let Ok(found) = system::metadata(stream)
            && found.uid != uid
            && !found.is_null_device()
        {
            // Best effort, as a stream may lie on a file system that has no owners.
            let _ = system::change_owner(stream, uid, u32::MAX);
        }
    }
}

fn read_bounded(file: Descriptor) -> Step<&'static [u8]> {
    let found = system::metadata(file)?;
    if !found.is(system::S_IFREG) || found.size > MAX_ACCOUNTS as u64 {
        return Err(Reason::AccountsUnreadable.into());
    }
    let buffer = system::map(MAX_ACCOUNTS + 1)?;
    let mut length = 0;
    loop {
        match system::read(file, &mut buffer[length..])? {
            0 if length <= MAX_ACCOUNTS => return Ok(&buffer[..length]),
            0 => return Err(Reason::AccountsUnreadable.into()),
            read => length += read,
        }
    }
}

/// Puts parts together to a path in `buffer`.
pub(super) fn join<'b>(buffer: &'b mut [u8], parts: &[&[u8]]) -> Step<&'b CStr> {
    let mut length = 0;
    for part in parts {
        let place = buffer.get_mut(length..length + part.len()).ok_or(Errno::NAMETOOLONG)?;
        place.copy_from_slice(part);
        length += part.len();
    }
    *buffer.get_mut(length).ok_or(Errno::NAMETOOLONG)? = 0;
    Ok(CStr::from_bytes_until_nul(buffer).map_err(|_| Errno::INVAL)?)
}

/// A number in decimal digits.
pub(crate) fn decimal(value: i32, buffer: &mut [u8; 12]) -> &[u8] {
    let mut at = buffer.len();
    let mut rest = value.unsigned_abs();
    loop {
        at -= 1;
        buffer[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        at -= 1;
        buffer[at] = b'-';
    }
    &buffer[at..]
}

/// The arguments and the environment as `execve` wants them.
struct Image<'a> {
    pointers: &'static [*const u8],
    /// Where the environment begins.
    environment: usize,
    program: &'a CStr,
    path: &'a [u8],
}

impl<'a> Image<'a> {
    fn new(plan: crate::plan::Plan<'a>, who: &Who) -> Step<Self> {
        let mut arguments = 0;
        let mut variables = 0;
        let mut program = None;
        let mut path: &[u8] = &[];
        let mut home = false;
        for op in plan.operations() {
            match op {
                Op::Arg { value } => {
                    program = program.or(Some(value));
                    arguments += 1;
                }
                Op::Env { value } => {
                    let bytes = value.to_bytes();
                    if let Some(value) = bytes.strip_prefix(b"PATH=") {
                        path = value;
                    }
                    home |= bytes.starts_with(b"HOME=");
                    variables += 1;
                }
                _ => {}
            }
        }
        let program = program.ok_or(Reason::Malformed)?;
        // Both lists end in a null pointer, and HOME may be added.
        let memory = system::map((arguments + variables + 3) * size_of::<*const u8>())?;
        // SAFETY: a mapping is aligned to pages, and zeros are null pointers.
        let (_, pointers, _) = unsafe { memory.align_to_mut::<*const u8>() };
        let environment = arguments + 1;
        let mut next = [0, environment];
        for op in plan.operations() {
            let (list, value) = match op {
                Op::Arg { value } => (0, value),
                Op::Env { value } => (1, value),
                _ => continue,
            };
            pointers[next[list]] = value.as_ptr().cast();
            next[list] += 1;
        }
        if !home {
            pointers[next[1]] = who.home.as_ptr();
        }
        Ok(Self { pointers, environment, program, path })
    }

    /// Finds the program as a shell would and becomes it. Returns why not.
    fn execute(&self, channel: Descriptor) -> Stop {
        let mut buffer = [0; PATH_MAX];
        let found = match self.find(&mut buffer) {
            Ok(found) => found,
            Err(stop) => return stop,
        };
        if let Err(errno) = Report::Executing.send(channel, &[]) {
            return errno.into();
        }
        // SAFETY: both lists end in null, and every string carries its NUL.
        let errno =
            unsafe { system::execute(found, self.pointers.as_ptr(), self.pointers[self.environment..].as_ptr()) };
        Stop { errno: errno.0, reason: Reason::Execute }
    }

    fn is_beneath_working_directory(&self) -> bool {
        let name = self.program.to_bytes();
        name.contains(&b'/') && !name.starts_with(b"/")
    }

    /// The path of the program.
    fn find<'b>(&'b self, buffer: &'b mut [u8; PATH_MAX]) -> Step<&'b CStr> {
        let name = self.program.to_bytes();
        if name.contains(&b'/') {
            return check(self.program).map(|()| self.program);
        }
        self.search(name, buffer).ok_or(Reason::NotInPath.into())
    }

    fn search<'b>(&self, name: &[u8], buffer: &'b mut [u8; PATH_MAX]) -> Option<&'b CStr> {
        if name.is_empty() {
            return None;
        }
        for directory in self.path.split(|byte| *byte == b':') {
            // A program of the working directory is not found by accident.
            if directory.starts_with(b"/")
                && let Ok(candidate) = join(buffer, &[directory, b"/", name])
                && check(candidate).is_ok()
            {
                break;
            }
            buffer[0] = 0;
        }
        CStr::from_bytes_until_nul(buffer).ok().filter(|found| !found.is_empty())
    }
}

/// Returns in a child that is to become the program, and not in its parent, which stays as the first process.
fn stay() -> Step {
    system::block_signals(true);
    // Where it is not the first of its pid namespace it takes in orphans all the same.
    let _ = system::control_process(PR_SET_CHILD_SUBREAPER, 1, 0);
    let child = system::fork_filtered()?;
    if child != 0 {
        supervise(child)
    }
    // In a pid namespace of its own the kernel sees to it; elsewhere nobody else does.
    let _ = system::control_process(PR_SET_PDEATHSIG, system::SIGKILL as u64, 0);
    // What the terminal sends then goes to the program, and not twice.
    system::lead_group();
    system::block_signals(false);
    Ok(())
}

/// The life of a small init: every signal goes to the program, every orphan is taken in, and the program's end is its own.
fn supervise(child: i32) -> ! {
    // The channel too: that the program runs is told by the child's copy being closed.
    system::close_from(3, false);
    system::set_process_name(c"engine-init");
    loop {
        match system::next_signal() {
            Ok(system::SIGCHLD) => {
                while let Ok(Some(ended)) = system::look_for_ended(None, true) {
                    if ended.pid == child {
                        system::exit(ended.code)
                    }
                }
            }
            Ok(SIGTTIN | SIGTTOU) => {}
            Ok(signal) => drop(system::send_signal(child, signal)),
            Err(_) => {}
        }
    }
}

/// Whether a path names something that may be executed.
fn check(path: &CStr) -> Step {
    let found = match system::metadata_at(system::AT_FDCWD, path) {
        Err(Errno::NOENT) => return Err(Stop { errno: Errno::NOENT.0, reason: Reason::NotFound }),
        Err(Errno::ACCES) => return Err(Stop { errno: Errno::ACCES.0, reason: Reason::PermissionDenied }),
        Err(errno) => return Err(Stop { errno: errno.0, reason: Reason::NotFound }),
        Ok(found) => found,
    };
    if found.is(system::S_IFDIR) {
        return Err(Stop { errno: Errno::ISDIR.0, reason: Reason::IsDirectory });
    }
    let allowed = match system::access_at(system::AT_FDCWD, path, 1) {
        // A filter may know no faccessat2.
        Err(Errno::NOSYS | Errno::PERM) => found.mode & 0o111 != 0,
        allowed => allowed.is_ok(),
    };
    if allowed { Ok(()) } else { Err(Stop { errno: Errno::ACCES.0, reason: Reason::PermissionDenied }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_become_digits() {
        let text = |value| std::string::String::from_utf8(decimal(value, &mut [0; 12]).to_vec()).unwrap();
        assert_eq!([text(0), text(-1), text(1000), text(i32::MIN)], ["0", "-1", "1000", "-2147483648"]);
    }

    #[test]
    fn what_can_be_executed_is_told_apart() {
        let reason = |path: &CStr| check(path).map_err(|stop| stop.reason);
        assert_eq!(reason(c"/bin/sh"), Ok(()));
        assert_eq!(reason(c"/"), Err(Reason::IsDirectory));
        assert_eq!(reason(c"/no/such/thing"), Err(Reason::NotFound));
        assert_eq!(reason(c"/etc/passwd"), Err(Reason::PermissionDenied));
        assert_eq!(reason(c"/etc/passwd/x"), Err(Reason::NotFound));
    }
}
