//! Processes that an OCI runtime of the host makes and leaves behind: the monitor, their nearest subreaper, becomes their parent.

use core::ffi::CStr;

use super::Monitor;
use super::processes::Process;
use crate::protocol::{Event, Failure, INIT, Reason, Stage};
use crate::system::{self, Descriptor, Ended, MAX_RIGHTS};

/// The longest name of a file with a pid, with its NUL.
const MAX_NAME: usize = 48;

/// What an OCI runtime is about to leave.
#[derive(Clone, Copy, Debug)]
pub(super) struct Adoption {
    pid_file: [u8; MAX_NAME],
    /// Where the runtime sends the terminal; -1 without one.
    pub(super) console: Descriptor,
    /// The first size of that terminal.
    pub(super) size: Option<(u16, u16)>,
    /// When the runtime is given up, in ticks.
    until: u64,
}

impl Adoption {
    /// `None` when the name is too long.
    pub(super) fn new(pid_file: &CStr, milliseconds: u32) -> Option<Self> {
        let name = pid_file.to_bytes_with_nul();
        let until = system::ticks() + u64::from(milliseconds);
        let mut adoption = Self { pid_file: [0; MAX_NAME], console: -1, size: None, until };
        adoption.pid_file.get_mut(..name.len())?.copy_from_slice(name);
        Some(adoption)
    }

    /// The runtime was called for something else than to make a process.
    fn leaves_nothing(&self) -> bool {
        self.pid_file[0] == 0
    }

    /// The pid that the runtime has written down; its file is not needed any more.
    fn pid(&self, directory: Descriptor) -> Option<i32> {
        let name = CStr::from_bytes_until_nul(&self.pid_file).ok()?;
        let file = system::open_at(directory, name, system::O_RDONLY | system::O_NOFOLLOW, 0).ok()?;
        let mut text = [0; 16];
        let length = system::read(file, &mut text);
        system::close(file);
        parse_pid(text.get(..length.ok()?)?)
    }

    /// The master that the runtime has sent.
    fn terminal(&self) -> Option<Descriptor> {
        let connection = system::accept(self.console).ok()?;
        let mut rights = [-1; MAX_RIGHTS];
        // Sent before the runtime ended: it is there.
        let received = system::receive(connection, &mut [0; 256], &mut rights, false);
        system::close(connection);
        let [first, rest @ ..] = &mut rights[..received.ok()?.rights] else { return None };
        for other in rest {
            system::close(*other);
        }
        Some(*first)
    }
}

/// A number and perhaps the end of the line.
fn parse_pid(text: &[u8]) -> Option<i32> {
    let digits = text.strip_suffix(b"\n").unwrap_or(text);
    let mut pid: i32 = 0;
    for digit in digits {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit < 10)?;
        pid = pid.checked_mul(10)?.checked_add(i32::from(digit))?;
    }
    (pid > 1).then_some(pid)
}

impl Process {
    /// Its pid is that of a runtime which has not ended.
    pub(super) fn is_adopting(&self) -> bool {
        self.adoption.is_some() && self.executing && self.failure.is_none()
    }

    /// Takes the place of the runtime that has ended. Says whether there is a process, or was one.
    fn adopt(&mut self, adoption: &Adoption, directory: Descriptor, strays: &[Ended]) -> bool {
        let Some(pid) = adoption.pid(directory) else { return false };
        // Who is no child of ours could be anybody's.
        if system::look_for_ended(Some(pid), false).is_ok() {
            self.move_to(pid);
            if self.pid != pid {
                return false;
            }
        } else {
            // It may have been one, and ended before the runtime. An init that does not wait for its start is none.
            let Some(ended) = strays.iter().find(|ended| ended.pid == pid && self.id != INIT) else { return false };
            self.pid = pid;
            self.code = Some(ended.code);
        }
        if self.has_terminal {
            let Some(master) = adoption.terminal() else { return false };
            let slave = system::open_terminal_peer(master).unwrap_or(-1);
            if !self.take_terminal([master, slave]) {
                system::close(master);
                system::close(slave);
                return false;
            }
            if let Some((rows, columns)) = adoption.size {
                let _ = self.set_size(rows, columns);
            }
        }
        true
    }
}

impl Monitor {
    /// An OCI runtime has ended with a code.
    pub(super) fn adopt(&mut self, place: usize, code: i32) {
        let directory = self.run_directory;
        let Some(process) = self.processes.get_mut(place) else { return };
        let Some(adoption) = process.adoption.take() else { return };
        if code == 0 && adoption.leaves_nothing() {
            process.code = Some(0);
            self.finished = true;
            let (pid, pidfd) = (process.pid as u32, process.pidfd);
            return self.broadcast(&Event::Started { pid }, Some(pidfd));
        }
        let found = code == 0 && process.adopt(&adoption, directory, &self.strays);
        system::close(adoption.console);
        if !found {
            let failure = Failure { index: 0, errno: code, reason: Reason::RuntimeFailed };
            process.failure = Some(failure);
            process.code = Some(if code == 0 { 128 } else { code });
            return self.start_failed(place, failure);
        }
        let (id, requester, pid, pidfd) = (process.id, process.requester, process.pid as u32, process.pidfd);
        if id == INIT {
            process.waiting = true;
            self.init_pid = pid.cast_signed();
            self.stage = Stage::Waiting;
            self.broadcast(&Event::Waiting { pid }, Some(pidfd));
        } else {
            self.broadcast_and_tell(requester, &Event::ExecStarted { id, pid }, Some(pidfd));
        }
    }

    /// How long may be waited until a runtime is to be given up, at most `otherwise`.
    pub(super) fn patience(&self, otherwise: Option<u32>) -> Option<u32> {
        let adopting = self.processes.iter().filter(|process| process.is_adopting());
        let next = adopting.filter_map(|process| process.adoption.as_ref()).map(|adoption| adoption.until).min();
        let Some(next) = next else { return otherwise };
        let left = u32::try_from(next.saturating_sub(system::ticks())).unwrap_or(u32::MAX);
        Some(otherwise.map_or(left, |otherwise| otherwise.min(left)))
    }

    /// Ends the runtimes that have taken too long, with whatever they have begun.
    pub(super) fn give_up_runtimes(&mut self) {
        for place in 0..self.processes.len() {
            let Some(process) = self.processes.get_mut(place).filter(|process| process.is_adopting()) else { continue };
            if process.adoption.as_ref().is_none_or(|adoption| adoption.until > system::ticks()) {
                continue;
            }
            let Some(adoption) = process.adoption.take() else { continue };
            system::close(adoption.console);
            let failure = Failure { index: 0, errno: 0, reason: Reason::RuntimeTimedOut };
            process.failure = Some(failure);
            let _ = system::signal_group(process.pid, system::SIGKILL);
            self.start_failed(place, failure);
            // What it has made is ours by now.
            if !adoption.leaves_nothing()
                && let Some(pid) = adoption.pid(self.run_directory)
                && system::look_for_ended(Some(pid), false).is_ok()
                && let Ok(made) = system::open_process(pid)
            {
                let _ = system::signal_process(made, system::SIGKILL);
                system::close(made);
            }
        }
    }

    /// An adopted init has been started: nobody else says so.
    pub(super) fn tell_adopted_start(&mut self, requester: u64) {
        let init = self.processes.iter().find(|process| process.id == INIT && process.channel < 0);
        if let Some(init) = init {
            let (pid, pidfd) = (init.pid as u32, init.pidfd);
            self.stage = Stage::Running;
            self.broadcast_and_tell(requester, &Event::Started { pid }, Some(pidfd));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pids_are_read_with_care() {
        assert_eq!(parse_pid(b"4711"), Some(4711));
        assert_eq!(parse_pid(b"4711\n"), Some(4711));
        for bad in [&b""[..], b"0", b"1", b"-5", b"12x", b"99999999999", b" 7"] {
            assert_eq!(parse_pid(bad), None);
        }
    }

    #[test]
    fn a_name_has_a_bound() {
        assert!(Adoption::new(c"init.pid", 1000).is_some_and(|adoption| !adoption.leaves_nothing()));
        assert!(Adoption::new(c"", 1000).is_some_and(|adoption| adoption.leaves_nothing()));
        assert!(Adoption::new(c"a-name-that-is-longer-than-any-that-an-engine-gives", 0).is_none());
    }
}
