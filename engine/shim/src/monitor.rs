//! The monitor: the parent of one container's processes. It owns their standard streams, writes the log, serves
//! attached clients, records the exit, and answers engines on its socket. One thread, one `poll`, no heap.

mod adopt;
mod clients;
mod exit;
mod json;
mod keys;
mod log;
mod processes;
mod requests;
mod table;

use clients::Client;
use log::{Bounds, Log};
use processes::Process;
pub(crate) use processes::with_plan;
use table::Table;

use crate::executor::decimal;
use crate::plan::{Op, Plan};
use crate::protocol::{Event, Failure, INIT, MAX_MESSAGE, Reason, Stage};
use crate::system::{self, Descriptor, Ended, Errno, POLLERR, POLLHUP, POLLIN, POLLOUT, POLLPRI, PollEntry};

const MAX_CONNECTIONS: usize = 64;
/// Thousands of execs may run at once, each with a client. What is not used of a table costs address space only.
const MAX_CLIENTS: usize = 8192;
const MAX_PROCESSES: usize = 8192;
/// Open files that are enough for as many.
const MOST_FILES: u64 = 1 << 16;
/// What may be on its way to an engine, in bytes as the kernel counts them: the ends of all processes at once.
const MOST_NEWS: i32 = 8 << 20;
const MAX_ENTRIES: usize = 4 + MAX_CONNECTIONS + MAX_CLIENTS + 4 * MAX_PROCESSES;
/// What is read at once, in bytes.
const CHUNK: usize = 32 << 10;
/// After this time without anything to do, memory that was used in passing is given back.
const REST_MILLISECONDS: u32 = 200;
/// How often and how soon the counter of killed processes is looked at after memory has run out.
const OOM_LOOKS: u32 = 40;
const OOM_LOOK_MILLISECONDS: u32 = 5;
/// How long clients may take for the last output after the container is gone.
const LINGER_MILLISECONDS: u64 = 300_000;

/// An engine that is connected.
#[derive(Clone, Copy, Debug)]
struct Connection {
    /// Its number; unlike its place it is never used again.
    serial: u64,
    socket: Descriptor,
    /// It is told of exits.
    subscribed: bool,
    gone: bool,
}

/// What a poll entry is for, by place in its table.
#[derive(Clone, Copy, Debug)]
enum Source {
    Signals,
    Listener,
    OomCounter,
    OomNotifier,
    Connection(usize),
    Client(usize),
    Channel(usize),
    Input(usize),
    Output(usize, usize),
}

/// The first connection: that of the engine that launched the container.
const LAUNCHER: u64 = 1;

/// Everything that the monitor knows.
#[derive(Debug)]
struct Monitor {
    /// How many files what it runs may have open, soft and hard; its own limit is the hard one.
    open_files: Option<[u64; 2]>,
    listener: Descriptor,
    run_directory: Descriptor,
    oom_counter: Descriptor,
    /// Says that memory has run out, in version 1; -1 otherwise.
    oom_notifier: Descriptor,
    /// How often the counter is still looked at because of that: the kernel counts once the process is dead.
    oom_looks: u32,
    oom_kills: u64,
    signals: Descriptor,
    die_with_launcher: bool,
    log: Log,
    connections: Table<Connection>,
    processes: Table<Process>,
    /// Children that nobody knew and that ended while an OCI runtime was at work: what it makes may be over before it is.
    strays: Table<Ended>,
    clients: Table<Client>,
    entries: Table<PollEntry>,
    sources: Table<Source>,
    /// Where output and input are read to.
    chunk: &'static mut [u8],
    /// Where requests are read to.
    message: &'static mut [u8],
    next_serial: u64,
    stage: Stage,
    init_pid: i32,
    /// How init ended; [`exit::write_record`] has been called.
    ended: Option<exit::Exit>,
    /// When the monitor stops waiting for clients, in ticks.
    linger_until: u64,
    /// Nothing is left to be done.
    finished: bool,
}

/// Launches the container of a plan and stays with it. `rights` are the launching engine's connection, the plan, and
/// the plan's descriptors.
pub(crate) fn run(rights: &mut [Descriptor]) -> ! {
    let [connection, plan, descriptors @ ..] = rights else { system::exit(1) };
    let _ = system::new_session();
    // What is made here says its mode itself.
    system::set_umask(0);
    system::set_process_name(c"engine-monitor");
    system::reset_signals();
    // A pipe or socket whose other side is gone is an error where it is written to.
    system::ignore_signal(system::SIGPIPE);
    let launched = Monitor::new(*connection).map(|mut monitor| match monitor.launch(*plan, descriptors) {
        Ok(()) => monitor.serve(),
        Err(failure) => monitor.broadcast(&Event::StartFailed { failure }, None),
    });
    if let Err(errno) = launched {
        let failure = Failure { index: 0, errno: errno.0, reason: Reason::Syscall };
        let mut message = [0; 64];
        if let Some(length) = (Event::StartFailed { failure }).encode(&mut message) {
            let _ = system::send(*connection, &message[..length], &[]);
        }
    }
    system::exit(0)
}

impl Monitor {
    fn new(launcher: Descriptor) -> system::Result<Self> {
        let mut connections = Table::new(MAX_CONNECTIONS)?;
        system::enlarge_queue(launcher, MOST_NEWS);
        let first = Connection { serial: LAUNCHER, socket: launcher, subscribed: true, gone: false };
        connections.push(first).map_err(|_| Errno::NOMEM)?;
        Ok(Self {
            open_files: raise_open_files(),
            listener: -1,
            run_directory: -1,
            oom_counter: -1,
            oom_notifier: -1,
            oom_looks: 0,
            oom_kills: 0,
            signals: system::signal_descriptor(system::SIGCHLD)?,
            die_with_launcher: false,
            log: Log::none(),
            connections,
            processes: Table::new(MAX_PROCESSES)?,
            strays: Table::new(MAX_PROCESSES)?,
            clients: Table::new(MAX_CLIENTS)?,
            entries: Table::new(MAX_ENTRIES)?,
            sources: Table::new(MAX_ENTRIES)?,
            chunk: system::map(CHUNK)?,
            message: system::map(MAX_MESSAGE)?,
            next_serial: LAUNCHER + 1,
            stage: Stage::Running,
            init_pid: 0,
            ended: None,
            linger_until: 0,
            finished: false,
        })
    }

    /// Takes what the plan has for the monitor, and starts init.
    fn launch(&mut self, file: Descriptor, descriptors: &mut [Descriptor]) -> Result<(), Failure> {
        processes::with_plan(file, descriptors, |plan, descriptors| {
            self.take_monitor_operations(plan, descriptors)?;
            self.start_process(INIT, LAUNCHER, plan, descriptors)
        })
    }

    fn take_monitor_operations(&mut self, plan: &Plan<'_>, descriptors: &mut [Descriptor]) -> Result<(), Failure> {
        let (mut log, mut max_age, mut attributes) = (None, 0, None);
        for (index, op) in plan.operations().enumerate() {
            let failed = |errno: Errno| Failure { index: index as u32, errno: errno.0, reason: Reason::Syscall };
            // What the monitor takes is no descriptor of the plan any more.
            let mut take = |place: crate::plan::Fd| match descriptors.get_mut(usize::from(place.0)) {
                Some(descriptor) if *descriptor >= 0 => Ok(core::mem::replace(descriptor, -1)),
                _ => Err(Failure { index: index as u32, errno: 0, reason: Reason::Malformed }),
            };
            match op {
                Op::Listener { socket } => {
                    self.listener = take(socket)?;
                    system::set_nonblocking(self.listener).map_err(failed)?;
                }
                Op::RunDirectory { directory } => self.run_directory = take(directory)?,
                Op::JsonLog { directory, name, max_size, max_files } => {
                    log = Some((take(directory)?, name, max_size, max_files, index));
                }
                Op::LogAge { max_age: asked } => max_age = asked,
                Op::LogAttributes { text } => attributes = Some(text.to_bytes()),
                Op::OomCounter { file } => self.oom_counter = take(file)?,
                Op::OomNotifier { control } => {
                    let control = take(control)?;
                    let notified = self.notify_oom(control);
                    system::close(control);
                    notified.map_err(failed)?;
                }
                Op::DieWithLauncher {} => self.die_with_launcher = true,
                _ => {}
            }
        }
        if let Some((directory, name, max_size, max_files, index)) = log {
            let failed = |errno: Errno| Failure { index: index as u32, errno: errno.0, reason: Reason::Syscall };
            self.log.open(directory, name, Bounds { max_size, max_age, max_files }).map_err(failed)?;
            self.log.set_attributes(attributes.unwrap_or_default()).map_err(failed)?;
        }
        // The first reading arms the counter: from then on poll tells of changes.
        self.count_oom_kills();
        Ok(())
    }

    fn serve(&mut self) {
        let mut used = true;
        while !self.finished {
            self.gather_entries();
            let timeout = if self.oom_looks > 0 {
                Some(OOM_LOOK_MILLISECONDS)
            } else if used {
                Some(REST_MILLISECONDS)
            } else if self.linger_until > 0 {
                Some(1000)
            } else {
                None
            };
            let timeout = self.patience(timeout);
            match system::poll(&mut self.entries, timeout) {
                Ok(0) if self.oom_looks > 0 => {
                    self.oom_looks -= 1;
                    self.look_for_oom_kills();
                }
                Ok(0) => {
                    self.rest();
                    used = false;
                }
                Ok(_) => {
                    self.dispatch();
                    used = true;
                }
                // Only for lack of memory: do not spin.
                Err(_) => drop(system::poll(&mut [], Some(50))),
            }
            self.give_up_runtimes();
            self.sweep();
        }
    }

    fn rest(&mut self) {
        system::forget_pages(self.chunk);
        system::forget_pages(self.message);
        self.log.rest();
    }

    /// What is done first comes last, as the kernel looks one after the other: an engine that asks for something before it
    /// has a client type is then never seen without its request.
    fn gather_entries(&mut self) {
        self.entries.clear();
        self.sources.clear();
        let (entries, sources) = (&mut self.entries, &mut self.sources);
        let mut add = |descriptor: Descriptor, events: i16, source: Source| {
            if descriptor >= 0 {
                // As many entries as there can be descriptors: it always fits.
                let _ = entries.push(PollEntry { descriptor, events, happened: 0 });
                let _ = sources.push(source);
            }
        };
        for (place, client) in self.clients.iter_mut().enumerate() {
            let process = client.look_for_process(&self.processes);
            if let Some(events) = client.events(process) {
                add(client.socket, events, Source::Client(place));
            }
        }
        let held_up = self.clients.iter().any(Client::is_behind);
        for (place, process) in self.processes.iter().enumerate() {
            for (which, output) in process.outputs.iter().enumerate().rev() {
                // A client that does not keep up holds the process up, so that nothing is lost.
                if !held_up || self.clients.iter().all(|client| client.has_room_for(process.id, output.stream)) {
                    add(output.descriptor, POLLIN, Source::Output(place, which));
                }
            }
            if !process.typed.is_empty() {
                add(process.input, POLLOUT, Source::Input(place));
            }
            add(process.channel, POLLIN, Source::Channel(place));
        }
        for (place, connection) in self.connections.iter().enumerate() {
            add(connection.socket, POLLIN, Source::Connection(place));
        }
        add(self.oom_notifier, POLLIN, Source::OomNotifier);
        add(self.oom_counter, POLLPRI, Source::OomCounter);
        add(if self.connections.is_full() { -1 } else { self.listener }, POLLIN, Source::Listener);
        add(self.signals, POLLIN, Source::Signals);
    }

    /// Handlers mark what is gone and add at the end, so that places stay what they are until [`Self::sweep`].
    fn dispatch(&mut self) {
        for at in (0..self.entries.len()).rev() {
            let happened = self.entries[at].happened;
            if happened == 0 {
                continue;
            }
            match self.sources[at] {
                Source::Signals => self.reap(),
                Source::Listener => self.accept(),
                Source::OomCounter => self.look_for_oom_kills(),
                Source::OomNotifier => {
                    if system::read(self.oom_notifier, &mut [0; 8]).is_err() {
                        system::close(core::mem::replace(&mut self.oom_notifier, -1));
                    }
                    self.oom_looks = OOM_LOOKS;
                }
                Source::Connection(place) => self.take_requests(place),
                Source::Client(place) => self.serve_client(place, happened),
                Source::Channel(place) => self.take_reports(place),
                Source::Input(place) => {
                    if let Some(process) = self.processes.get_mut(place) {
                        process.flush_input();
                    }
                }
                Source::Output(place, which) => drop(self.take_output(place, which)),
            }
        }
    }

    fn accept(&mut self) {
        let socket = match system::accept(self.listener) {
            Ok(socket) => socket,
            Err(Errno::AGAIN) => return,
            // No descriptors or memory left: whoever waits goes on waiting, but not in a loop of ours.
            Err(_) => {
                let _ = system::poll(&mut [], Some(50));
                return;
            }
        };
        let allowed = system::peer_uid(socket).is_ok_and(|uid| uid == 0 || uid == system::effective_uid());
        system::enlarge_queue(socket, MOST_NEWS);
        let connection = Connection { serial: self.next_serial, socket, subscribed: false, gone: false };
        if !allowed || self.connections.push(connection).is_err() {
            system::close(socket);
            return;
        }
        self.next_serial += 1;
    }

    fn look_for_oom_kills(&mut self) {
        let before = self.oom_kills;
        if self.count_oom_kills() > before {
            self.oom_looks = 0;
            self.broadcast(&Event::OutOfMemory { kills: self.oom_kills }, None);
        }
    }

    /// Has the kernel say when memory runs out: version 1 wants an event and the counter named in one line.
    fn notify_oom(&mut self, control: Descriptor) -> system::Result<()> {
        self.oom_notifier = system::event_descriptor()?;
        let mut line = [0; 32];
        let mut length = 0;
        for part in [decimal(self.oom_notifier, &mut [0; 12]), b" ", decimal(self.oom_counter, &mut [0; 12])] {
            line[length..length + part.len()].copy_from_slice(part);
            length += part.len();
        }
        system::write(control, &line[..length]).map(drop)
    }

    /// How many processes of the container the kernel has killed for lack of memory.
    fn count_oom_kills(&mut self) -> u64 {
        match exit::read_oom_kills(self.oom_counter) {
            Some(kills) => self.oom_kills = self.oom_kills.max(kills),
            // The cgroup is gone; polling the file further would never rest.
            None => system::close(core::mem::replace(&mut self.oom_counter, -1)),
        }
        self.oom_kills
    }

    /// Tells one engine.
    fn tell(&mut self, serial: u64, event: &Event, descriptor: Option<Descriptor>) {
        if let Some(connection) = self.connections.iter_mut().find(|connection| connection.serial == serial) {
            connection.tell(event, descriptor);
        }
    }

    /// Tells every engine that wants to know.
    fn broadcast(&mut self, event: &Event, descriptor: Option<Descriptor>) {
        self.broadcast_and_tell(0, event, descriptor);
    }

    /// Tells every engine that wants to know, and one that asked.
    fn broadcast_and_tell(&mut self, serial: u64, event: &Event, descriptor: Option<Descriptor>) {
        for connection in &mut *self.connections {
            if connection.subscribed || connection.serial == serial {
                connection.tell(event, descriptor);
            }
        }
    }

    /// Puts away what has ended.
    fn sweep(&mut self) {
        self.finish_processes();
        self.finish_clients();
        let mut place = 0;
        while let Some(connection) = self.connections.get(place) {
            if !connection.gone {
                place += 1;
                continue;
            }
            if let Some(connection) = self.connections.swap_remove(place) {
                system::close(connection.socket);
                if connection.serial == LAUNCHER {
                    self.launcher_left();
                }
            }
        }
        let all_gone = self.stage == Stage::Exited && self.processes.is_empty();
        self.finished |= all_gone && (self.clients.is_empty() || system::ticks() > self.linger_until);
    }

    fn launcher_left(&mut self) {
        let starting = self.processes.iter().any(|process| process.id == INIT && process.is_starting());
        if self.die_with_launcher || starting {
            self.kill(|process| process.id == INIT);
        }
    }

    fn kill(&self, which: impl Fn(&Process) -> bool) {
        for process in self.processes.iter().filter(|process| which(process)) {
            if process.is_adopting() {
                // What an OCI runtime runs goes with it.
                let _ = system::signal_group(process.pid, system::SIGKILL);
            }
            let _ = system::signal_process(process.pidfd, system::SIGKILL);
        }
    }
}

impl Connection {
    fn tell(&mut self, event: &Event, descriptor: Option<Descriptor>) {
        let mut message = [0; 128];
        let Some(length) = event.encode(&mut message) else { return };
        let descriptor = descriptor.filter(|descriptor| *descriptor >= 0);
        // An engine that does not read is not waited for: it can come again and ask.
        if !self.gone && system::send(self.socket, &message[..length], descriptor.as_slice()).is_err() {
            self.gone = true;
        }
    }
}

/// A process takes up to five descriptors. Says what the limit was.
fn raise_open_files() -> Option<[u64; 2]> {
    let before = system::limit(system::RLIMIT_NOFILE).ok()?;
    let raise = |to: u64| system::set_limit(system::RLIMIT_NOFILE, [to; 2]);
    // Above the hard limit takes a capability.
    raise(before[1].max(MOST_FILES)).or_else(|_| raise(before[1])).ok()?;
    Some(before)
}

/// Whether nothing more will come of a descriptor.
fn is_over(happened: i16) -> bool {
    happened & (POLLHUP | POLLERR) != 0
}
