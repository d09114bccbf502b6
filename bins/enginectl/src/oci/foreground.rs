//! Stays with a process until it ends: passes signals on, and connects the user's terminal with its own.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};

use engine_runtime::unattended::Begun;
use engine_sys::process;
use engine_sys::signal::Signals;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, waitpid};
use rustix::termios::{Winsize, tcsetwinsize};

use super::failure::Failure;
use crate::session::Io;
use crate::terminal::{self, RawMode};

const SIGWINCH: i32 = 28;
/// What is read at once, in bytes.
const CHUNK: usize = 32 << 10;
/// Signals that are this program's own: of its children, of its pipes, of its terminal's size.
const OWN: [i32; 3] = [13, 17, SIGWINCH];

/// Signals are held back from now on, and passed on by [`Foreground::wait`].
#[derive(Debug)]
pub(super) struct Foreground {
    signals: Signals,
}

/// The user's terminal and the process's.
#[derive(Debug)]
struct Terminal {
    _raw: Option<RawMode>,
    master: OwnedFd,
    input: Option<File>,
    /// Typed and not yet taken.
    typed: Vec<u8>,
    ended: bool,
}

impl Foreground {
    pub(super) fn new() -> Result<Self, Failure> {
        Ok(Self { signals: Signals::block_all().map_err(Failure::io("hold signals back"))? })
    }

    /// Waits for the end of the process and gives its exit code.
    pub(super) fn wait(self, io: &Io, begun: &Begun) -> Result<u8, Failure> {
        let mut terminal = begun.terminal.as_ref().map(|master| Terminal::new(io, master)).transpose()?;
        if let Some(terminal) = &terminal {
            terminal.take_size(io);
        }
        loop {
            let mut events = [PollFlags::empty(); 4];
            {
                let mut entries =
                    vec![PollFd::new(&begun.process, PollFlags::IN), PollFd::new(&self.signals, PollFlags::IN)];
                if let Some(terminal) = &terminal {
                    let mut wanted = if terminal.ended { PollFlags::empty() } else { PollFlags::IN };
                    if !terminal.typed.is_empty() {
                        wanted |= PollFlags::OUT;
                    }
                    entries.push(PollFd::new(&terminal.master, wanted));
                    if let Some(input) = terminal.input.as_ref().filter(|_| terminal.typed.is_empty()) {
                        entries.push(PollFd::new(input, PollFlags::IN));
                    }
                }
                match poll(&mut entries, None) {
                    Ok(_) => {}
                    Err(Errno::INTR) => continue,
                    Err(error) => return Err(Failure::io("wait for the process")(error.into())),
                }
                for (event, entry) in events.iter_mut().zip(&entries) {
                    *event = entry.revents();
                }
            }
            while let Some(signal) = self.signals.next().map_err(Failure::io("read signals"))? {
                if signal == SIGWINCH {
                    terminal.iter().for_each(|terminal| terminal.take_size(io));
                }
                if !OWN.contains(&signal) {
                    // A process that is gone is about to be noticed.
                    let _ = process::signal(&begun.process, signal);
                }
            }
            if let Some(terminal) = &mut terminal {
                terminal.pass_on(io, !events[2].is_empty(), !events[3].is_empty())?;
            }
            if !events[0].is_empty() {
                if let Some(terminal) = &mut terminal {
                    while !terminal.ended && terminal.output(io)? {}
                }
                return code(begun.pid);
            }
        }
    }
}

impl Terminal {
    fn new(io: &Io, master: &OwnedFd) -> Result<Self, Failure> {
        let failed = || Failure::io("duplicate a terminal");
        let flags = rustix::fs::fcntl_getfl(master).map_err(|error| failed()(error.into()))?;
        rustix::fs::fcntl_setfl(master, flags | rustix::fs::OFlags::NONBLOCK)
            .map_err(|error| failed()(error.into()))?;
        let is_terminal = terminal::size(io.stdin.as_fd()).is_some() || std::io::IsTerminal::is_terminal(&io.stdin);
        let raw = if is_terminal { RawMode::enter(&io.stdin).map(Some) } else { Ok(None) };
        Ok(Self {
            _raw: raw.map_err(|error| Failure::new(error.to_string()))?,
            master: master.try_clone().map_err(failed())?,
            input: Some(io.stdin.try_clone().map_err(failed())?),
            typed: Vec::new(),
            ended: false,
        })
    }

    /// Gives the process's terminal the size of the user's.
    fn take_size(&self, io: &Io) {
        let size = terminal::size(io.stdout.as_fd()).or_else(|| terminal::size(io.stdin.as_fd()));
        if let Some((rows, columns)) = size {
            let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
            // Without a size a terminal is one nevertheless.
            let _ = tcsetwinsize(&self.master, size);
        }
    }

    fn pass_on(&mut self, io: &Io, master: bool, input: bool) -> Result<(), Failure> {
        if master {
            self.output(io)?;
        }
        if input && let Some(file) = &self.input {
            let mut buffer = vec![0; CHUNK];
            match rustix::io::read(file, &mut buffer) {
                Ok(0) | Err(Errno::IO) => {
                    // What a terminal takes for the end of what is typed.
                    self.typed.push(4);
                    self.input = None;
                }
                Ok(length) => self.typed.extend_from_slice(&buffer[..length]),
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(error) => return Err(Failure::io("read standard input")(error.into())),
            }
        }
        while !self.typed.is_empty() {
            match rustix::io::write(&self.master, &self.typed) {
                Ok(length) => drop(self.typed.drain(..length)),
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                // Nobody has the other side open: nobody will read it.
                Err(_) => self.typed.clear(),
            }
        }
        Ok(())
    }

    /// Shows what the process wrote; says whether there was anything.
    fn output(&mut self, io: &Io) -> Result<bool, Failure> {
        let mut buffer = vec![0; CHUNK];
        match rustix::io::read(&self.master, &mut buffer) {
            Ok(0) | Err(Errno::IO) => self.ended = true,
            Ok(length) => {
                (&io.stdout).write_all(&buffer[..length]).map_err(Failure::io("write to standard output"))?;
                return Ok(true);
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => return Err(Failure::io("read the terminal")(error.into())),
        }
        Ok(false)
    }
}

/// Takes the exit code of a child that has ended: 128 and the signal's number when a signal ended it.
fn code(pid: u32) -> Result<u8, Failure> {
    let child = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let status =
        waitpid(child, WaitOptions::empty()).map_err(|error| Failure::io("wait for the process")(error.into()))?;
    let status = status.map(|(_, status)| status);
    let code = status.and_then(|status| status.exit_status().or_else(|| status.terminating_signal().map(|n| 128 + n)));
    Ok(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(255))
}
