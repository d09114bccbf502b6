//! Attached clients: what they type goes to the process, what it says goes to them.

use super::keys::Keys;
use super::processes::Process;
use super::table::Queue;
use super::{CHUNK, Monitor, is_over};
use crate::protocol::{Attach, Event};
use crate::system::{self, Descriptor, Errno, POLLIN, POLLOUT};

/// A client with more than this on its way holds the process up, in bytes.
const ENOUGH: usize = 64 << 10;
/// A client never has more than this on its way: what a process left behind in its pipes when it ended comes on top.
const MOST: usize = 4 << 20;

/// A client that is connected to a process.
#[derive(Debug)]
pub(super) struct Client {
    id: u64,
    pub(super) process: u64,
    /// Where the process was the last time that it was looked for.
    place: usize,
    pub(super) socket: Descriptor,
    /// The engine that connected it.
    requester: u64,
    takes_output: bool,
    takes_error: bool,
    framed: bool,
    stdin_once: bool,
    /// It may type, and has not ended its side.
    types: bool,
    keys: Keys,
    on_its_way: Queue,
    /// It gets what is on its way, then the end.
    finishing: bool,
    /// Its other side is gone; what it sent may still be there to be read.
    hung_up: bool,
    /// It takes no output any more.
    deaf: bool,
    gone: bool,
    by_keys: bool,
}

impl Client {
    pub(super) fn new(attach: &Attach<'_>, socket: Descriptor, requester: u64, process: &Process) -> Self {
        // Keys detach from a terminal only.
        let keys = if process.has_terminal { attach.detach_keys } else { &[] };
        Self {
            id: attach.client,
            process: attach.process,
            place: 0,
            socket,
            requester,
            takes_output: attach.stdout,
            takes_error: attach.stderr,
            framed: attach.framed,
            stdin_once: attach.stdin_once,
            types: attach.stdin && process.input_is_open(),
            keys: Keys::new(keys),
            on_its_way: Queue::default(),
            finishing: false,
            hung_up: false,
            deaf: false,
            gone: false,
            by_keys: false,
        }
    }

    pub(super) fn is(&self, id: u64) -> bool {
        self.id == id
    }

    fn takes(&self, process: u64, stream: u8) -> bool {
        self.process == process
            && !self.gone
            && !self.deaf
            && !self.finishing
            && if stream == 1 { self.takes_output } else { self.takes_error }
    }

    /// Its process, among thousands.
    pub(super) fn look_for_process<'p>(&mut self, processes: &'p [Process]) -> Option<&'p Process> {
        let wanted = self.process;
        if processes.get(self.place).is_none_or(|process| process.id != wanted) {
            self.place = processes.iter().position(|process| process.id == wanted)?;
        }
        processes.get(self.place)
    }

    /// Whether it keeps up with nobody.
    pub(super) fn is_behind(&self) -> bool {
        self.on_its_way.len() > ENOUGH
    }

    pub(super) fn has_room_for(&self, process: u64, stream: u8) -> bool {
        !self.takes(process, stream) || !self.is_behind()
    }

    /// What to poll for; `None` when nothing that could happen now would be of use.
    pub(super) fn events(&self, process: Option<&Process>) -> Option<i16> {
        let mut events = 0;
        if self.types && !self.finishing && process.is_some_and(|process| process.typed.is_empty()) {
            events |= POLLIN;
        }
        if !self.on_its_way.is_empty() {
            events |= POLLOUT;
        }
        // Polling for nothing still tells that the other side is gone, but only once is enough.
        (events != 0 || !self.hung_up).then_some(events)
    }

    /// Puts output on its way.
    fn take(&mut self, stream: u8, output: &[u8]) {
        if self.framed {
            let mut header = [stream, 0, 0, 0, 0, 0, 0, 0];
            header[4..].copy_from_slice(&(output.len() as u32).to_be_bytes());
            if self.on_its_way.push(&header, MOST).is_err() {
                self.gone = true;
                return;
            }
        }
        if self.on_its_way.push(output, MOST).is_err() {
            self.gone = true;
            return;
        }
        self.flush();
    }

    fn flush(&mut self) {
        while !self.on_its_way.is_empty() {
            match system::send(self.socket, self.on_its_way.as_slice(), &[]) {
                Ok(sent) => self.on_its_way.consume(sent),
                Err(Errno::AGAIN) => return,
                Err(_) => {
                    // What it typed before it left is still to be passed on.
                    self.deaf = true;
                    self.gone |= !self.types;
                    return self.on_its_way.clear();
                }
            }
        }
    }

    /// Nothing more comes: the client gets what is on its way, then the end.
    pub(super) fn finish(&mut self) {
        self.finishing = true;
    }

    /// Lets the client go without an end: the engine may have a last word for it.
    pub(super) fn drop_silently(&mut self) {
        self.gone = true;
    }
}

impl Monitor {
    pub(super) fn serve_client(&mut self, place: usize, happened: i16) {
        let Some(client) = self.clients.get_mut(place) else { return };
        if happened & POLLOUT != 0 {
            client.flush();
        }
        if is_over(happened) {
            client.hung_up = true;
        }
        if happened & POLLIN != 0 && client.types {
            self.take_input(place);
        } else if let Some(client) = self.clients.get_mut(place)
            && client.hung_up
        {
            // What it typed before it left is read first, as soon as the process takes it.
            client.gone |= !client.types || client.finishing;
        }
    }

    fn take_input(&mut self, place: usize) {
        let Some(client) = self.clients.get_mut(place) else { return };
        match system::read(client.socket, &mut self.chunk[..CHUNK / 2]) {
            Err(Errno::AGAIN) => {}
            Ok(0) => {
                client.gone |= client.hung_up || client.deaf;
                self.end_input(place);
            }
            Err(_) => {
                client.gone = true;
                self.end_input(place);
            }
            Ok(length) => self.feed(place, length),
        }
    }

    /// Passes the first bytes of the chunk on as typed by a client.
    pub(super) fn feed(&mut self, place: usize, length: usize) {
        let Some(client) = self.clients.get_mut(place) else { return };
        let Some(process) = self.processes.iter_mut().find(|process| process.id == client.process) else { return };
        if client.keys.watch(&self.chunk[..length], |bytes| process.type_in(bytes)) {
            client.by_keys = true;
            client.types = false;
            client.finish();
        }
        if !process.input_is_open() {
            client.types = false;
        }
    }

    /// A client has ended its side, or is gone.
    fn end_input(&mut self, place: usize) {
        let Some(client) = self.clients.get_mut(place) else { return };
        if !core::mem::replace(&mut client.types, false) {
            return;
        }
        let Some(process) = self.processes.iter_mut().find(|process| process.id == client.process) else { return };
        if client.stdin_once && !process.has_terminal {
            process.close_input();
        } else {
            client.finish();
        }
    }

    /// Gives output to every client that takes it.
    pub(super) fn distribute(&mut self, process: u64, stream: u8, length: usize) {
        for client in self.clients.iter_mut().filter(|client| client.takes(process, stream)) {
            client.take(stream, &self.chunk[..length]);
        }
    }

    /// Gives the newest client the beginnings of lines that are not in the log yet.
    pub(super) fn send_begun_lines(&mut self, process: u64) {
        let Some(client) = self.clients.last_mut() else { return };
        for output in self.processes.iter().filter(|it| it.id == process).flat_map(|it| &it.outputs) {
            if client.takes(process, output.stream) && !output.begun().is_empty() {
                client.take(output.stream, output.begun());
            }
        }
    }

    pub(super) fn finish_clients(&mut self) {
        let mut place = 0;
        while let Some(client) = self.clients.get(place) {
            let done = client.gone || (client.finishing && client.on_its_way.is_empty());
            if !done {
                place += 1;
                continue;
            }
            // One that left takes its side of the input with it.
            self.end_input(place);
            if let Some(mut client) = self.clients.swap_remove(place) {
                // To one that was let go silently the engine has something to say.
                if client.finishing && !client.gone {
                    system::shut_down_writing(client.socket);
                    // What nobody reads any more would turn the end into a reset, before which output can be lost.
                    let mut left = MOST;
                    while left > 0
                        && let Ok(length @ 1..) = system::read(client.socket, self.chunk)
                    {
                        left = left.saturating_sub(length);
                    }
                }
                system::close(client.socket);
                client.on_its_way.clear();
                let event = Event::Detached { client: client.id, process: client.process, by_keys: client.by_keys };
                self.tell(client.requester, &event, None);
            }
        }
    }
}
