//! What engines ask for.

use super::clients::Client;
use super::processes::with_plan;
use super::{LAUNCHER, Monitor};
use crate::protocol::{Attach, Event, INIT, Refusal, Request};
use crate::system::{self, Descriptor, Errno, MAX_RIGHTS};

/// At most so many requests of one engine are done before others have their turn.
const TURN: usize = 16;

type Answer = Result<(), (u64, Refusal, i32)>;

impl Monitor {
    pub(super) fn take_requests(&mut self, place: usize) {
        for _ in 0..TURN {
            let Some(connection) = self.connections.get_mut(place).filter(|connection| !connection.gone) else {
                return;
            };
            let serial = connection.serial;
            let mut rights = [-1; MAX_RIGHTS];
            let received = match system::receive(connection.socket, self.message, &mut rights, false) {
                Err(Errno::AGAIN) => return,
                Ok(received) if received.length > 0 => received,
                _ => {
                    connection.gone = true;
                    return;
                }
            };
            let rights = &mut rights[..received.rights];
            // Taken out while the request borrows from it.
            let message = core::mem::take(&mut self.message);
            let request = Request::decode(&message[..received.length]).filter(|_| !received.truncated);
            let answer = match &request {
                Some(request) => self.answer(serial, request, rights),
                None => Err((0, Refusal::Malformed, 0)),
            };
            for descriptor in rights {
                system::close(*descriptor);
            }
            let kind = request.map_or(0, |request| u32::from(request.kind()));
            self.message = message;
            if let Err((subject, refusal, errno)) = answer {
                let request = kind;
                self.tell(serial, &Event::Refused { request, subject, refusal, errno }, None);
            }
        }
    }

    /// Does a request. Descriptors that are kept are taken out of `rights`.
    fn answer(&mut self, serial: u64, request: &Request<'_>, rights: &mut [Descriptor]) -> Answer {
        match *request {
            Request::Launch {} => Err((0, Refusal::Malformed, 0)),
            Request::Subscribe {} => {
                for connection in self.connections.iter_mut().filter(|connection| connection.serial == serial) {
                    connection.subscribed = true;
                }
                Ok(())
            }
            Request::Status {} => {
                self.tell_status(serial);
                Ok(())
            }
            Request::Start {} => {
                self.with_process(INIT, |process| process.go_on())?;
                self.tell_adopted_start(serial);
                Ok(())
            }
            Request::Continue {} => {
                // Only who launched it knows that its hooks were run.
                if serial != LAUNCHER {
                    return Err((INIT, Refusal::NotPossible, 0));
                }
                self.with_process(INIT, |process| process.go_on_after_hooks())
            }
            Request::Attach { attach } => self.attach(serial, &attach, rights.first_mut()),
            Request::AttachAfterLog { attach } => {
                self.attach(serial, &attach, rights.first_mut())?;
                self.send_begun_lines(attach.process);
                Ok(())
            }
            Request::Resize { process, rows, columns } => {
                self.with_process(process, |process| process.set_size(rows, columns))
            }
            Request::Exec { id } => self.execute(serial, id, rights),
            Request::ExecAttached { id, attach } => {
                if attach.process != id {
                    return Err((id, Refusal::Malformed, 0));
                }
                let (client, rest) = rights.split_first_mut().ok_or((id, Refusal::Malformed, 0))?;
                self.execute(serial, id, rest)?;
                self.attach(serial, &attach, Some(client))
            }
            Request::CloseStdin { process } => self.with_process(process, |process| {
                if process.has_terminal {
                    return Err(Errno::INVAL);
                }
                process.close_input();
                Ok(())
            }),
            Request::Signal { process, signal } => {
                self.with_process(process, |process| system::signal_process(process.pidfd, signal))
            }
            Request::PackedLog { inode } => self.log.take_packed(inode).map_err(|_| (0, Refusal::NotPossible, 0)),
            Request::ReopenLog {} => self.log.reopen().map_err(|errno| match errno {
                Errno::BADF => (0, Refusal::NotPossible, 0),
                Errno(errno) => (0, Refusal::Syscall, errno),
            }),
        }
    }

    fn with_process(&mut self, id: u64, what: impl FnOnce(&mut super::Process) -> Result<(), Errno>) -> Answer {
        let process = self.processes.iter_mut().find(|process| process.id == id).ok_or((id, Refusal::NoProcess, 0))?;
        what(process).map_err(|errno| match errno {
            Errno::INVAL => (id, Refusal::NotPossible, 0),
            Errno(errno) => (id, Refusal::Syscall, errno),
        })
    }

    fn tell_status(&mut self, serial: u64) {
        let init = self.processes.iter().find(|process| process.id == INIT);
        let event = Event::Status {
            stage: self.stage,
            pid: self.init_pid as u32,
            log_position: self.log.position,
            log_file_start: self.log.file_start,
            log_lost: self.log.lost,
            clients: self.clients.len() as u32,
            execs: self.processes.iter().filter(|process| process.id != INIT).count() as u32,
        };
        let pidfd = init.map(|process| process.pidfd);
        self.tell(serial, &event, pidfd);
    }

    fn execute(&mut self, serial: u64, id: u64, rights: &mut [Descriptor]) -> Answer {
        if id == INIT || self.processes.iter().any(|process| process.id == id) {
            return Err((id, Refusal::Taken, 0));
        }
        if self.processes.is_full() {
            return Err((id, Refusal::Full, 0));
        }
        let (file, descriptors) = rights.split_first_mut().ok_or((id, Refusal::Malformed, 0))?;
        let file = core::mem::replace(file, -1);
        let started =
            with_plan(file, descriptors, |plan, descriptors| self.start_process(id, serial, plan, descriptors));
        if let Err(failure) = started {
            self.tell(serial, &Event::ExecFailed { id, failure }, None);
        }
        Ok(())
    }

    fn attach(&mut self, serial: u64, attach: &Attach<'_>, right: Option<&mut Descriptor>) -> Answer {
        let subject = attach.client;
        let right = right.ok_or((subject, Refusal::Malformed, 0))?;
        let Some(process) = self.processes.iter().find(|process| process.id == attach.process) else {
            return Err((subject, Refusal::NoProcess, 0));
        };
        if self.clients.iter().any(|client| client.is(subject)) {
            return Err((subject, Refusal::Taken, 0));
        }
        system::set_nonblocking(*right).map_err(|errno| (subject, Refusal::Syscall, errno.0))?;
        let client = Client::new(attach, *right, serial, process);
        if self.clients.push(client).is_err() {
            return Err((subject, Refusal::Full, 0));
        }
        *right = -1;
        let event =
            Event::Attached { client: subject, log_position: self.log.position, log_file_start: self.log.file_start };
        self.tell(serial, &event, None);
        if attach.stdin && !attach.preface.is_empty() {
            let length = attach.preface.len();
            self.chunk[..length].copy_from_slice(attach.preface);
            self.feed(self.clients.len() - 1, length);
        }
        Ok(())
    }
}
