//! Processes that an OCI runtime of the host makes and leaves behind: the monitor, their nearest subreaper, becomes their parent.

use core::ffi::CStr;

use super::Monitor;
use super::processes::Process;
use crate::protocol::{Event, Failure, INIT, Reason, Stage};
use crate::system::{self, Descriptor, MAX_RIGHTS};

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
}

impl Adoption {
    /// `None` when the name is too long.
    pub(super) fn new(pid_file: &CStr) -> Option<Self> {
        let name = pid_file.to_bytes_with_nul();
        let mut adoption = Self { pid_file: [0; MAX_NAME], console: -1, size: None };
        adoption.pid_file.get_mut(..name.len())?.copy_from_slice(name);
        Some(adoption)
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

    /// Takes the place of the runtime that has ended. Says whether there is a process.
    fn adopt(&mut self, adoption: &Adoption, directory: Descriptor) -> bool {
        let Some(pid) = adoption.pid(directory) else { return false };
        // Who is no child of ours could be anybody's.
        if system::look_for_ended(Some(pid), false).is_err() {
            return false;
        }
        self.move_to(pid);
        if self.pid != pid {
            return false;
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
        let found = code == 0 && process.adopt(&adoption, directory);
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
        assert!(Adoption::new(c"init.pid").is_some());
        assert!(Adoption::new(c"a-name-that-is-longer-than-any-that-an-engine-gives").is_none());
    }
}
