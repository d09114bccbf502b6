//! Moves bytes between the user's streams and a hijacked socket: one thread a direction, blocking, so that each side waits
//! for the slower one and nothing else does.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::thread;

use bytes::Bytes;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{SendFlags, Shutdown, send, shutdown};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::{Demultiplexer, Hijacked};
use crate::error::Error;

const BUFFER: usize = 64 << 10;

/// Where the bytes go.
#[derive(Debug)]
pub(crate) struct PumpPlan {
    /// What to send; its end closes the sending half of the socket.
    pub(crate) input: Option<File>,
    /// Where output goes; without it, it is thrown away.
    pub(crate) output: Option<File>,
    /// Where error output goes.
    pub(crate) error: Option<File>,
    /// Whether what comes is in frames.
    pub(crate) framed: bool,
    /// Keys that end it, if any.
    pub(crate) detach: Option<DetachKeys>,
}

/// How it ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The other side has no more to say.
    Output(Result<(), Error>),
    /// The user typed the detach keys.
    Detached,
}

/// The two threads at work. They end with the socket, or with the process.
#[derive(Debug)]
pub(crate) struct Pump {
    ended: UnboundedReceiver<Ended>,
    socket: Arc<OwnedFd>,
}

impl Pump {
    /// Starts to move bytes.
    pub(crate) fn start(hijacked: Hijacked, plan: PumpPlan) -> Result<Self, Error> {
        let Hijacked { socket, leftover } = hijacked;
        let PumpPlan { input, output, error, framed, detach } = plan;
        let socket = Arc::new(socket);
        let (sender, ended) = unbounded_channel();
        let spawned = Error::io("start a thread");
        if let Some(input) = input {
            let (socket, sender) = (Arc::clone(&socket), sender.clone());
            thread::Builder::new()
                .name("input".to_owned())
                .spawn(move || send_input(&input, &socket, detach, &sender))
                .map_err(Error::io("start a thread"))?;
        }
        let receiving = Arc::clone(&socket);
        thread::Builder::new()
            .name("output".to_owned())
            .spawn(move || {
                let result = receive(&receiving, &leftover, output, error, framed);
                // Nobody may be waiting any more.
                let _ = sender.send(Ended::Output(result));
            })
            .map_err(spawned)?;
        Ok(Self { ended, socket })
    }

    /// Waits for the first end.
    pub(crate) async fn ended(&mut self) -> Ended {
        self.ended.recv().await.unwrap_or(Ended::Output(Ok(())))
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        // Wakes the thread that reads; that it was closed already is no matter.
        let _ = shutdown(&self.socket, Shutdown::Both);
    }
}

fn send_input(input: &File, socket: &OwnedFd, detach: Option<DetachKeys>, ended: &UnboundedSender<Ended>) {
    let mut filter = detach.map(DetachFilter::new);
    let mut buffer = vec![0u8; BUFFER];
    let mut kept = Vec::new();
    loop {
        let count = match rustix::io::read(input, &mut buffer) {
            Ok(0) | Err(rustix::io::Errno::IO | rustix::io::Errno::BADF) => break,
            Ok(count) => count,
            Err(rustix::io::Errno::INTR) => continue,
            // Somebody who shares the file has made it non-blocking.
            Err(rustix::io::Errno::AGAIN) => {
                let _ = poll(&mut [PollFd::new(input, PollFlags::IN)], None);
                continue;
            }
            Err(_) => break,
        };
        let bytes = match &mut filter {
            Some(filter) => {
                kept.clear();
                if filter.pass(&buffer[..count], &mut kept) {
                    let _ = send_all(socket, &kept);
                    let _ = ended.send(Ended::Detached);
                    return;
                }
                kept.as_slice()
            }
            None => &buffer[..count],
        };
        if send_all(socket, bytes).is_err() {
            return;
        }
    }
    let _ = shutdown(socket, Shutdown::Write);
}

fn send_all(socket: &OwnedFd, mut bytes: &[u8]) -> rustix::io::Result<()> {
    while !bytes.is_empty() {
        match send(socket, bytes, SendFlags::NOSIGNAL) {
            Ok(count) => bytes = &bytes[count..],
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn receive(
    socket: &OwnedFd,
    leftover: &Bytes,
    output: Option<File>,
    error: Option<File>,
    framed: bool,
) -> Result<(), Error> {
    let mut demultiplexer = Demultiplexer::default();
    let mut take = |bytes: &[u8]| {
        if framed {
            demultiplexer.feed(bytes, |is_error, payload| {
                write_to(if is_error { error.as_ref() } else { output.as_ref() }, payload)
            })
        } else {
            write_to(output.as_ref(), bytes)
        }
    };
    take(leftover)?;
    let mut buffer = vec![0u8; BUFFER];
    loop {
        match rustix::io::read(socket, &mut buffer) {
            Ok(0) | Err(rustix::io::Errno::CONNRESET) => return Ok(()),
            Ok(count) => take(&buffer[..count])?,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(Error::io("read from the container")(error.into())),
        }
    }
}

/// Writes all, also to a file that somebody who shares it has made non-blocking.
fn write_to(file: Option<&File>, bytes: &[u8]) -> Result<(), Error> {
    let Some(mut file) = file else { return Ok(()) };
    let mut bytes = bytes;
    while !bytes.is_empty() {
        match file.write(bytes) {
            Ok(0) => return Err(Error::io("write the container's output")(io::ErrorKind::WriteZero.into())),
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let _ = poll(&mut [PollFd::from_borrowed_fd(file.as_fd(), PollFlags::OUT)], None);
            }
            Err(error) => return Err(Error::io("write the container's output")(error)),
        }
    }
    Ok(())
}

/// The keys that, typed one after the other, leave a container that goes on running.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DetachKeys(Vec<u8>);

impl Default for DetachKeys {
    fn default() -> Self {
        // ctrl-p, ctrl-q
        Self(vec![16, 17])
    }
}

impl DetachKeys {
    /// `ctrl-p,ctrl-q`: letters, or `ctrl-` with one of `a-z @ [ \ ] ^ _`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let invalid = |key: &str| format!("invalid detach keys ({text}): unknown key {key:?}");
        if text.is_empty() {
            return Ok(Self::default());
        }
        let mut keys = Vec::new();
        for key in text.split(',') {
            let byte = match (key.strip_prefix("ctrl-"), key.as_bytes()) {
                (None, [byte]) if byte.is_ascii() => *byte,
                (Some(control), _) => match control.as_bytes() {
                    [byte @ b'a'..=b'z'] => byte - b'a' + 1,
                    [b'@'] => 0,
                    [byte @ b'['..=b'_'] => byte - b'[' + 27,
                    _ => return Err(invalid(key)),
                },
                _ => return Err(invalid(key)),
            };
            keys.push(byte);
        }
        Ok(Self(keys))
    }
}

struct DetachFilter {
    keys: Vec<u8>,
    matched: usize,
}

impl DetachFilter {
    fn new(keys: DetachKeys) -> Self {
        Self { keys: keys.0, matched: 0 }
    }

    /// Appends what is to be passed on; true when the keys are complete. Keys that began like it and went on otherwise
    /// are passed on late, but passed on.
    fn pass(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> bool {
        for &byte in bytes {
            if byte != self.keys[self.matched] && self.matched > 0 {
                out.extend_from_slice(&self.keys[..self.matched]);
                self.matched = 0;
            }
            if byte == self.keys[self.matched] {
                self.matched += 1;
                if self.matched == self.keys.len() {
                    return true;
                }
            } else {
                out.push(byte);
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    #[test]
    fn detach_keys_are_read() {
        assert_eq!(DetachKeys::parse(""), Ok(DetachKeys(vec![16, 17])));
        assert_eq!(DetachKeys::parse("ctrl-p,ctrl-q"), Ok(DetachKeys(vec![16, 17])));
        assert_eq!(DetachKeys::parse("a,ctrl-@,ctrl-[,ctrl-_"), Ok(DetachKeys(vec![97, 0, 27, 31])));
        for text in ["ctrl-", "ctrl-P", "ab", "a,,b", "é"] {
            assert!(DetachKeys::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn keys_that_only_began_are_passed_on() {
        let filter = |chunks: &[&[u8]]| {
            let mut filter = DetachFilter::new(DetachKeys::default());
            let mut out = Vec::new();
            let done = chunks.iter().any(|chunk| filter.pass(chunk, &mut out));
            (done, out)
        };
        assert_eq!(filter(&[b"ab"]), (false, b"ab".to_vec()));
        assert_eq!(filter(&[b"a\x10\x11b"]), (true, b"a".to_vec()));
        assert_eq!(filter(&[b"a\x10", b"\x11"]), (true, b"a".to_vec()));
        assert_eq!(filter(&[b"\x10", b"x"]), (false, b"\x10x".to_vec()));
        assert_eq!(filter(&[b"\x10\x10\x11"]), (true, b"\x10".to_vec()));
        assert_eq!(filter(&[b"\x11"]), (false, b"\x11".to_vec()));
    }

    fn pipe() -> (File, File) {
        let (read, write) = rustix::pipe::pipe().unwrap();
        (File::from(read), File::from(write))
    }

    async fn ended(pump: &mut Pump) -> Ended {
        pump.ended().await
    }

    #[tokio::test(flavor = "current_thread")]
    async fn the_end_of_input_closes_one_half_only() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let (input, mut typed) = pipe();
        let (mut shown, output) = pipe();
        let hijacked = Hijacked { socket: ours.into(), leftover: Bytes::from_static(b"early ") };
        let plan = PumpPlan { input: Some(input), output: Some(output), error: None, framed: false, detach: None };
        let mut pump = Pump::start(hijacked, plan).unwrap();
        typed.write_all(b"hello").unwrap();
        drop(typed);
        let mut got = String::new();
        theirs.read_to_string(&mut got).unwrap();
        assert_eq!(got, "hello");
        theirs.write_all(b"after the end").unwrap();
        drop(theirs);
        assert!(matches!(ended(&mut pump).await, Ended::Output(Ok(()))));
        let mut text = String::new();
        shown.read_to_string(&mut text).unwrap();
        assert_eq!(text, "early after the end");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn detach_keys_end_it_and_are_not_sent() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let (input, mut typed) = pipe();
        let hijacked = Hijacked { socket: ours.into(), leftover: Bytes::new() };
        let plan = PumpPlan {
            input: Some(input),
            output: None,
            error: None,
            framed: false,
            detach: Some(DetachKeys::default()),
        };
        let mut pump = Pump::start(hijacked, plan).unwrap();
        typed.write_all(b"x\x10\x11y").unwrap();
        assert!(matches!(ended(&mut pump).await, Ended::Detached));
        drop(pump);
        let mut got = String::new();
        theirs.read_to_string(&mut got).unwrap();
        assert_eq!(got, "x");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_reader_that_has_gone_ends_it() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let (shown, output) = pipe();
        drop(shown);
        let hijacked = Hijacked { socket: ours.into(), leftover: Bytes::new() };
        let plan = PumpPlan { input: None, output: Some(output), error: None, framed: false, detach: None };
        let mut pump = Pump::start(hijacked, plan).unwrap();
        theirs.write_all(b"x").unwrap();
        assert!(matches!(ended(&mut pump).await, Ended::Output(Err(Error::BrokenPipe))));
    }
}
