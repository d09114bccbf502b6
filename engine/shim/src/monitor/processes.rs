//! The processes of a container: init and execs, from their plan to their end.

use super::adopt::Adoption;
use super::exit::{self, Exit};
use super::log::{Line, Log};
use super::table::Queue;
use super::{CHUNK, LINGER_MILLISECONDS, Monitor};
use crate::executor::{Executor, Streams};
use crate::plan::{Op, Plan};
use crate::protocol::{Event, Failure, INIT, Reason, Stage};
use crate::report::{self, Heard, Report};
use crate::system::{self, Descriptor, Errno, Forked, MAX_RIGHTS};

/// What a process may have to read at most, in bytes: several clients may bring something along.
const MOST_TYPED: usize = 8 << 20;
/// What is read at most of a process that is gone, in bytes: somebody else may still hold its pipe and go on writing.
const MOST_LEFT_BEHIND: usize = 4 << 20;
/// How long a failed executor may take to be gone.
const GONE_MILLISECONDS: u32 = 10_000;
const PR_SET_CHILD_SUBREAPER: u32 = 36;

/// One stream that a process writes to.
#[derive(Debug)]
pub(super) struct Output {
    /// -1 when it has ended.
    pub(super) descriptor: Descriptor,
    /// 1: standard output, 2: standard error.
    pub(super) stream: u8,
    line: Line,
}

impl Output {
    fn new(descriptor: Descriptor, stream: u8) -> Self {
        Self { descriptor, stream, line: Line::default() }
    }

    /// The beginning of a line that is not in the log yet.
    pub(super) fn begun(&self) -> &[u8] {
        self.line.begun()
    }

    /// Ends the line that was begun.
    fn end_line(&mut self, log: &mut Log) {
        log.end(&mut self.line, name_of(self.stream));
    }
}

fn name_of(stream: u8) -> &'static str {
    if stream == 1 { "stdout" } else { "stderr" }
}

/// Init or an exec.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) id: u64,
    pub(super) requester: u64,
    pub(super) pid: i32,
    pub(super) pidfd: Descriptor,
    /// Where the executor reports; -1 once the program runs.
    pub(super) channel: Descriptor,
    pub(super) waiting: bool,
    /// It waits for the engine's hooks.
    prepared: bool,
    pub(super) executing: bool,
    pub(super) failure: Option<Failure>,
    /// The exit code, once it is gone.
    pub(super) code: Option<i32>,
    told: bool,
    pub(super) has_terminal: bool,
    /// The terminal has not come yet.
    awaits_terminal: bool,
    /// The process's side of the terminal: held, so that the terminal outlives its being closed by every process.
    slave: Descriptor,
    opens_input: bool,
    pub(super) input: Descriptor,
    /// Typed, not yet taken by the process.
    pub(super) typed: Queue,
    closes_input: bool,
    pub(super) outputs: [Output; 2],
    /// An OCI runtime is about to leave the process.
    pub(super) adoption: Option<Adoption>,
}

impl Process {
    pub(super) fn is_starting(&self) -> bool {
        (self.channel >= 0 || self.adoption.is_some()) && !self.waiting
    }

    pub(super) fn input_is_open(&self) -> bool {
        !self.closes_input && (self.input >= 0 || (self.awaits_terminal && self.opens_input))
    }

    /// Passes bytes on to the process, now or when it takes them.
    pub(super) fn type_in(&mut self, bytes: &[u8]) {
        if !self.input_is_open() {
            return;
        }
        let mut rest = bytes;
        if self.typed.is_empty() && self.input >= 0 {
            match system::write(self.input, rest) {
                Ok(written) => rest = &rest[written.min(rest.len())..],
                Err(Errno::AGAIN) => {}
                Err(_) => return self.shut_input(),
            }
        }
        if self.typed.push(rest, MOST_TYPED).is_err() {
            self.shut_input();
        }
    }

    pub(super) fn flush_input(&mut self) {
        while !self.typed.is_empty() {
            match system::write(self.input, self.typed.as_slice()) {
                Ok(written) => self.typed.consume(written),
                Err(Errno::AGAIN) => return,
                Err(_) => return self.shut_input(),
            }
        }
        if self.closes_input {
            self.shut_input();
        }
    }

    /// Closes standard input behind what was typed.
    pub(super) fn close_input(&mut self) {
        self.closes_input = true;
        if self.typed.is_empty() {
            self.shut_input();
        }
    }

    fn shut_input(&mut self) {
        self.closes_input = true;
        self.typed.clear();
        system::close(core::mem::replace(&mut self.input, -1));
    }

    pub(super) fn set_size(&self, rows: u16, columns: u16) -> Result<(), Errno> {
        if !self.has_terminal || self.outputs[0].descriptor < 0 {
            return Err(Errno::INVAL);
        }
        system::set_terminal_size(self.outputs[0].descriptor, rows, columns)
    }

    /// Lets an executor go on that waits for its start.
    pub(super) fn go_on(&mut self) -> Result<(), Errno> {
        if !core::mem::replace(&mut self.waiting, false) {
            return Err(Errno::INVAL);
        }
        if self.channel < 0 {
            // Whoever asks has had it started by the runtime that made it.
            return Ok(());
        }
        system::send(self.channel, b"g", &[]).map(drop)
    }

    /// Lets an executor go on that waits for hooks.
    pub(super) fn go_on_after_hooks(&mut self) -> Result<(), Errno> {
        if !core::mem::replace(&mut self.prepared, false) {
            return Err(Errno::INVAL);
        }
        system::send(self.channel, b"g", &[]).map(drop)
    }
}

/// Maps a plan, checks it and hands it on; closes the file and the descriptors that were not taken.
pub(crate) fn with_plan<T>(
    file: Descriptor,
    descriptors: &mut [Descriptor],
    then: impl FnOnce(&Plan<'_>, &mut [Descriptor]) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let result = map_plan(file, descriptors, then);
    system::close(file);
    for descriptor in descriptors {
        system::close(core::mem::replace(descriptor, -1));
    }
    result
}

fn map_plan<T>(
    file: Descriptor,
    descriptors: &mut [Descriptor],
    then: impl FnOnce(&Plan<'_>, &mut [Descriptor]) -> Result<T, Failure>,
) -> Result<T, Failure> {
    const F_SEAL_SHRINK_WRITE: u32 = 2 | 8;
    let malformed = |index| Failure { index, errno: 0, reason: Reason::Malformed };
    let failed = |errno: Errno| Failure { index: 0, errno: errno.0, reason: Reason::Syscall };
    let length = system::metadata(file).map_err(failed)?.size as usize;
    let sealed = system::seals(file).is_ok_and(|seals| seals & F_SEAL_SHRINK_WRITE == F_SEAL_SHRINK_WRITE);
    if !sealed || length == 0 || length > crate::plan::MAX_LEN {
        return Err(malformed(0));
    }
    let bytes = system::map_file(file, length).map_err(failed)?;
    let result = match Plan::parse(bytes) {
        Ok(plan) if plan.descriptors() == descriptors.len() => then(&plan, descriptors),
        Ok(_) => Err(malformed(0)),
        Err(crate::plan::Malformed::Header) => Err(malformed(0)),
        Err(crate::plan::Malformed::Operation(index)) => Err(malformed(index)),
    };
    // SAFETY: the plan and what it borrows end here; what is kept of it was copied.
    unsafe { system::unmap_file(bytes) };
    result
}

/// The pipes of a process: its ends and the monitor's. -1 where there is none.
#[derive(Clone, Copy, Debug)]
struct Pipes {
    theirs: [Descriptor; 3],
    ours: [Descriptor; 3],
}

impl Pipes {
    const NONE: Self = Self { theirs: [-1; 3], ours: [-1; 3] };

    fn new(input: bool, output: bool) -> system::Result<Self> {
        let mut pipes = Self::NONE;
        let wanted = [input, output, output];
        for (number, wanted) in wanted.into_iter().enumerate() {
            if !wanted {
                continue;
            }
            match system::pipe() {
                Ok((reader, writer)) => {
                    let (theirs, ours) = if number == 0 { (reader, writer) } else { (writer, reader) };
                    pipes.theirs[number] = theirs;
                    pipes.ours[number] = ours;
                    system::set_nonblocking(ours)?;
                }
                Err(errno) => {
                    pipes.close_theirs();
                    pipes.close_ours();
                    return Err(errno);
                }
            }
        }
        Ok(pipes)
    }

    fn close_theirs(&self) {
        self.theirs.into_iter().for_each(system::close);
    }

    fn close_ours(&self) {
        self.ours.into_iter().for_each(system::close);
    }
}

impl Monitor {
    /// Forks the executor of a plan.
    pub(super) fn start_process(
        &mut self,
        id: u64,
        requester: u64,
        plan: &Plan<'_>,
        descriptors: &[Descriptor],
    ) -> Result<(), Failure> {
        let mut flags = system::CLONE_PIDFD;
        let mut blame = 0;
        let mut cgroup = None;
        let mut opens_input = false;
        let mut output = true;
        let mut has_terminal = false;
        let mut adoption = None;
        let mut size = None;
        let mut console = -1;
        for (index, op) in plan.operations().enumerate() {
            match op {
                Op::Namespaces { flags: more } => {
                    flags |= more;
                    blame = index as u32;
                }
                Op::BornInCgroup { directory } => {
                    cgroup = descriptors.get(usize::from(directory.0)).copied();
                    blame = index as u32;
                }
                Op::OpenStdin { .. } => opens_input = true,
                Op::DiscardOutput {} => output = false,
                Op::Console {} => has_terminal = true,
                Op::Adopt { pid_file, milliseconds } => {
                    let _ = system::control_process(PR_SET_CHILD_SUBREAPER, 1, 0);
                    adoption = Adoption::new(pid_file, milliseconds);
                    blame = index as u32;
                    if adoption.is_none() {
                        return Err(Failure { index: blame, errno: Errno::NAMETOOLONG.0, reason: Reason::Syscall });
                    }
                }
                Op::ConsoleAt { socket } => {
                    has_terminal = true;
                    console = descriptors.get(usize::from(socket.0)).copied().unwrap_or(-1);
                }
                Op::TerminalSize { rows, columns } => size = Some((rows, columns)),
                _ => {}
            }
        }
        let failed = |errno: Errno| Failure { index: blame, errno: errno.0, reason: Reason::Syscall };
        if self.processes.is_full() {
            return Err(failed(Errno::AGAIN));
        }
        let pipes = Pipes::new(opens_input && !has_terminal, output && !has_terminal).map_err(failed)?;
        let (ours, theirs) = match system::socket_pair() {
            Ok(pair) => pair,
            Err(errno) => {
                pipes.close_theirs();
                pipes.close_ours();
                return Err(failed(errno));
            }
        };
        match system::fork(flags, cgroup) {
            Ok(Forked::Child) => {
                keep_only(&[&pipes.theirs, &[theirs], descriptors]);
                let [input, output, error] = pipes.theirs;
                let executor = Executor::new(*plan, descriptors, theirs).with_open_files(self.open_files);
                executor.run(Streams { input, output, error })
            }
            Ok(Forked::Parent(pid, pidfd)) => {
                pipes.close_theirs();
                system::close(theirs);
                if let Some(adoption) = &mut adoption {
                    adoption.size = size;
                    if console >= 0 {
                        adoption.console = system::duplicate_above(console, 3).unwrap_or(-1);
                        let _ = system::set_nonblocking(adoption.console);
                    }
                }
                let [input, output, error] = pipes.ours;
                let process = Process {
                    id,
                    requester,
                    pid,
                    pidfd,
                    channel: ours,
                    waiting: false,
                    prepared: false,
                    executing: false,
                    failure: None,
                    code: None,
                    told: false,
                    has_terminal,
                    awaits_terminal: has_terminal,
                    slave: -1,
                    opens_input,
                    input,
                    typed: Queue::default(),
                    closes_input: false,
                    outputs: [Output::new(output, 1), Output::new(error, 2)],
                    adoption,
                };
                if id == INIT {
                    self.init_pid = pid;
                }
                // There is room: it was looked at above.
                let _ = self.processes.push(process);
                Ok(())
            }
            Err(errno) => {
                pipes.close_theirs();
                pipes.close_ours();
                system::close(theirs);
                system::close(ours);
                Err(failed(errno))
            }
        }
    }

    pub(super) fn take_reports(&mut self, place: usize) {
        loop {
            let Some(process) = self.processes.get_mut(place).filter(|process| process.channel >= 0) else { return };
            match report::receive(process.channel) {
                Heard::Nothing => return,
                Heard::End => {
                    system::close(core::mem::replace(&mut process.channel, -1));
                    return self.start_ended(place);
                }
                Heard::Report(report, descriptors) => {
                    if report != Report::Terminal || !process.take_terminal(descriptors) {
                        descriptors.into_iter().for_each(system::close);
                    }
                    match report {
                        Report::Failed(failure) => process.failure = Some(failure),
                        Report::Moved(pid) => process.move_to(pid),
                        Report::Executing => process.executing = true,
                        Report::Terminal | Report::Born(_) => {}
                        Report::Prepared => {
                            process.prepared = true;
                            let event = Event::Prepared { pid: process.pid as u32 };
                            let (id, requester, pidfd) = (process.id, process.requester, process.pidfd);
                            if id == INIT {
                                self.stage = Stage::Creating;
                                self.tell(requester, &event, Some(pidfd));
                            }
                        }
                        Report::Waiting => {
                            process.waiting = true;
                            if process.id == INIT {
                                let event = Event::Waiting { pid: process.pid as u32 };
                                let pidfd = process.pidfd;
                                self.stage = Stage::Waiting;
                                self.broadcast(&event, Some(pidfd));
                            }
                        }
                    }
                    if let Some(process) = self.processes.get(place)
                        && process.id == INIT
                    {
                        self.init_pid = process.pid;
                    }
                }
            }
        }
    }

    /// The executor has become the program, or is gone.
    fn start_ended(&mut self, place: usize) {
        let Some(process) = self.processes.get_mut(place) else { return };
        let failure = match process.failure {
            None if process.executing => None,
            None => Some(Failure { index: 0, errno: 0, reason: Reason::Died }),
            failure => failure,
        };
        if failure.is_none() && process.adoption.is_some() {
            // That the runtime runs is no news; what it leaves is.
            return;
        }
        let (id, requester, pid, pidfd) = (process.id, process.requester, process.pid as u32, process.pidfd);
        let Some(failure) = failure else {
            let event = if id == INIT { Event::Started { pid } } else { Event::ExecStarted { id, pid } };
            if id == INIT {
                self.stage = Stage::Running;
            }
            self.broadcast_and_tell(requester, &event, Some(pidfd));
            return;
        };
        self.start_failed(place, failure);
    }

    pub(super) fn start_failed(&mut self, place: usize, failure: Failure) {
        let Some(process) = self.processes.get_mut(place).filter(|process| !process.told) else { return };
        let (id, requester, pidfd) = (process.id, process.requester, process.pidfd);
        // Nothing of it may be left when this is known. It has ended or is about to.
        process.told = true;
        process.shut_input();
        let _ = system::signal_process(pidfd, system::SIGKILL);
        let mut gone = [system::PollEntry { descriptor: pidfd, events: system::POLLIN, happened: 0 }];
        let _ = system::poll(&mut gone, Some(GONE_MILLISECONDS));
        for client in self.clients.iter_mut().filter(|client| client.process == id) {
            client.drop_silently();
        }
        if id == INIT {
            self.broadcast(&Event::StartFailed { failure }, None);
            self.finished = true;
        } else {
            self.broadcast_and_tell(requester, &Event::ExecFailed { id, failure }, None);
        }
    }

    /// Looks after children that have ended. The record is written before the kernel forgets.
    pub(super) fn reap(&mut self) {
        let mut information = [0; 512];
        while system::read(self.signals, &mut information).is_ok() {}
        while let Ok(Some(ended)) = system::look_for_ended(None, false) {
            // What executors still had to say may give a process the pid of this one, or another.
            for place in 0..self.processes.len() {
                self.take_reports(place);
            }
            let place = self.processes.iter().position(|process| process.pid == ended.pid);
            if let Some(place) = place.filter(|place| self.processes[*place].is_adopting()) {
                self.adopt(place, ended.code);
            } else if let Some(process) = place.and_then(|place| self.processes.get_mut(place)) {
                process.code = Some(ended.code);
                if process.id == INIT && !process.told && process.failure.is_none() && self.ended.is_none() {
                    let oom_killed = self.count_oom_kills() > 0;
                    let exit = Exit { code: ended.code, oom_killed, at_nanos: system::now() };
                    self.ended = Some(exit);
                    let _ = exit::write_record(self.run_directory, exit);
                }
            } else if self.processes.iter().any(Process::is_adopting)
                && let Err(ended) = self.strays.push(ended)
            {
                // So many have come since that the older ones will not be asked for.
                self.strays.clear();
                let _ = self.strays.push(ended);
            }
            let _ = system::look_for_ended(Some(ended.pid), true);
        }
        if !self.processes.iter().any(Process::is_adopting) {
            self.strays.clear();
        }
    }

    /// Reads a process's output once. Says how much there was.
    pub(super) fn take_output(&mut self, place: usize, which: usize) -> usize {
        let Some(process) = self.processes.get_mut(place) else { return 0 };
        let id = process.id;
        let output = &mut process.outputs[which];
        if output.descriptor < 0 {
            return 0;
        }
        match system::read(output.descriptor, &mut self.chunk[..CHUNK]) {
            Err(Errno::AGAIN) => 0,
            Ok(0) | Err(_) => {
                if id == INIT {
                    output.end_line(&mut self.log);
                }
                system::close(core::mem::replace(&mut output.descriptor, -1));
                0
            }
            Ok(length) => {
                let stream = output.stream;
                if id == INIT {
                    self.log.take(&mut output.line, name_of(stream), &self.chunk[..length]);
                }
                self.distribute(id, stream, length);
                length
            }
        }
    }

    /// Completes processes that are gone: the rest of their output, then the news.
    pub(super) fn finish_processes(&mut self) {
        let mut place = 0;
        while let Some(process) = self.processes.get(place) {
            let Some(code) = process.code.filter(|_| process.channel < 0) else {
                place += 1;
                continue;
            };
            let (id, requester, told) = (process.id, process.requester, process.told);
            for which in 0..2 {
                let mut left = MOST_LEFT_BEHIND;
                while left > 0 {
                    match self.take_output(place, which) {
                        0 => break,
                        length => left = left.saturating_sub(length),
                    }
                }
            }
            let Some(mut process) = self.processes.swap_remove(place) else { return };
            process.shut_input();
            for output in &mut process.outputs {
                if id == INIT {
                    output.end_line(&mut self.log);
                }
                system::close(output.descriptor);
            }
            if !told {
                self.tell_end(id, requester, code);
            }
            system::close(process.slave);
            system::close(process.pidfd);
            for client in self.clients.iter_mut().filter(|client| client.process == id) {
                client.finish();
            }
        }
    }

    fn tell_end(&mut self, id: u64, requester: u64, code: i32) {
        if id != INIT {
            return self.broadcast_and_tell(requester, &Event::ExecExited { id, code }, None);
        }
        self.stage = Stage::Exited;
        self.linger_until = system::ticks() + LINGER_MILLISECONDS;
        if let Some(Exit { code, oom_killed, at_nanos }) = self.ended {
            self.broadcast(&Event::Exited { code, oom_killed, at_nanos }, None);
        }
        // Without a pid namespace of its own nothing else ends what was started beside it.
        self.kill(|process| process.id != INIT);
    }
}

impl Process {
    /// The terminal has come. Says whether it was kept.
    pub(super) fn take_terminal(&mut self, [master, slave]: [Descriptor; 2]) -> bool {
        if !self.awaits_terminal || system::set_nonblocking(master).is_err() {
            return false;
        }
        self.awaits_terminal = false;
        self.outputs[0].descriptor = master;
        self.slave = slave;
        if self.opens_input && !self.closes_input {
            self.input = system::duplicate_above(master, 3).unwrap_or(-1);
            self.flush_input();
        }
        true
    }

    /// The executor has gone on in another child.
    pub(super) fn move_to(&mut self, pid: i32) {
        if let Ok(pidfd) = system::open_process(pid) {
            system::close(core::mem::replace(&mut self.pidfd, pidfd));
            self.pid = pid;
        }
    }
}

/// Closes every descriptor from 3 on except these.
fn keep_only(lists: &[&[Descriptor]]) {
    let mut kept = [Descriptor::MAX; MAX_RIGHTS + 8];
    let mut count = 0;
    for descriptor in lists.iter().flat_map(|list| list.iter()).filter(|descriptor| **descriptor > 2) {
        if let Some(place) = kept.get_mut(count) {
            *place = *descriptor;
            count += 1;
        }
    }
    let kept = &mut kept[..count];
    kept.sort_unstable();
    let mut next = 3;
    for descriptor in kept {
        system::close_between(next, *descriptor - 1);
        next = *descriptor + 1;
    }
    system::close_from(next, false);
}
