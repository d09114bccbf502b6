//! As much of D-Bus as it takes to call systemd at its own socket: no bus daemon is needed, and none is between.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long systemd may take for anything.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes of the longest message that is read.
const MAX_MESSAGE: usize = 1 << 20;
const MAX_LINE: usize = 512;
const CALL: u8 = 1;
const RETURN: u8 = 2;
const ERROR: u8 = 3;
const SIGNAL: u8 = 4;
const PATH: u8 = 1;
const MEMBER: u8 = 3;
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;

/// A value of a property.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Text(String),
    Flag(bool),
    Number(u64),
    Numbers(Vec<u32>),
    Bytes(Vec<u8>),
    Pairs(Vec<(String, String)>),
}

/// A property with its name.
pub(super) type Property = (&'static str, Value);

/// Why a call had no success.
#[derive(Debug)]
pub(super) enum Failure {
    Io(io::Error),
    /// systemd's own error, by its name, and its text.
    Refused {
        name: String,
        text: String,
    },
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// The arguments of a call.
#[derive(Debug, Default)]
pub(super) struct Arguments {
    signature: &'static str,
    body: Writer,
}

impl Arguments {
    pub(super) fn of(signature: &'static str) -> Self {
        Self { signature, body: Writer::default() }
    }

    pub(super) fn text(mut self, text: &str) -> Self {
        self.body.text(text);
        self
    }

    pub(super) fn flag(mut self, flag: bool) -> Self {
        self.body.number(flag.into());
        self
    }

    pub(super) fn properties(mut self, properties: &[Property]) -> Self {
        self.body.array(8, |body| {
            for (name, value) in properties {
                body.align(8);
                body.text(name);
                body.variant(value);
            }
        });
        self
    }

    /// An array of structures without any.
    pub(super) fn nothing(mut self) -> Self {
        self.body.array(8, |_| {});
        self
    }
}

/// A connection to systemd.
#[derive(Debug)]
pub(super) struct Bus {
    socket: UnixStream,
    serial: u32,
    deadline: Instant,
    /// Jobs that have ended, with their results.
    ended: Vec<(String, String)>,
}

impl Bus {
    pub(super) fn connect(path: &Path) -> io::Result<Self> {
        let mut bus = Self {
            socket: UnixStream::connect(path)?,
            serial: 0,
            deadline: Instant::now() + PATIENCE,
            ended: Vec::new(),
        };
        bus.socket.set_write_timeout(Some(PATIENCE))?;
        let user = rustix::process::geteuid().as_raw().to_string();
        let user: String = user.bytes().map(|digit| format!("{digit:02x}")).collect();
        // In one piece: systemd leaves what comes in one piece with the end of the authentication unread until more comes, so
        // that has to be over when the first call is written.
        bus.socket.write_all(format!("\0AUTH EXTERNAL {user}\r\nBEGIN\r\n").as_bytes())?;
        let answer = bus.line()?;
        if !answer.starts_with(b"OK ") {
            let text = format!("authentication: {}", String::from_utf8_lossy(&answer));
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
        }
        Ok(bus)
    }

    /// Calls a method of the manager; gives the first string of what it returns.
    pub(super) fn call(&mut self, member: &str, arguments: Arguments) -> Result<String, Failure> {
        self.serial += 1;
        let serial = self.serial;
        self.socket.write_all(&message(serial, member, arguments))?;
        loop {
            let message = self.receive()?;
            if message.reply_to != serial {
                continue;
            }
            match message.kind {
                RETURN => return Ok(message.body.clone().text().unwrap_or_default()),
                ERROR => {
                    let text = message.body.clone().text().unwrap_or_default();
                    return Err(Failure::Refused { name: message.error, text });
                }
                _ => {}
            }
        }
    }

    /// Waits for the end of a job.
    pub(super) fn wait(&mut self, job: &str) -> Result<(), Failure> {
        loop {
            if let Some((_, result)) = self.ended.iter().find(|(ended, _)| ended == job) {
                return match result.as_str() {
                    "done" => Ok(()),
                    result => Err(Failure::Refused { name: String::new(), text: format!("the job is {result}") }),
                };
            }
            self.receive()?;
        }
    }

    /// The next message; the end of a job is noted.
    fn receive(&mut self) -> io::Result<Message> {
        let mut head = [0; 16];
        self.read(&mut head)?;
        let number = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]) as usize;
        let (body, fields) = (number(4), number(12));
        if head[0] != b'l' || body > MAX_MESSAGE || fields > MAX_MESSAGE {
            return Err(malformed());
        }
        let mut bytes = head.to_vec();
        bytes.resize((16 + fields).next_multiple_of(8) + body, 0);
        self.read(&mut bytes[16..])?;
        let message = Message::parse(bytes).ok_or_else(malformed)?;
        if message.kind == SIGNAL && message.member == "JobRemoved" {
            let mut body = message.body.clone();
            let job = body.number().and_then(|_| body.text());
            let result = body.text().and_then(|_| body.text());
            self.ended.extend(job.zip(result));
        }
        Ok(message)
    }

    fn read(&mut self, mut buffer: &mut [u8]) -> io::Result<()> {
        while !buffer.is_empty() {
            let left = self.deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.socket.set_read_timeout(Some(left))?;
            match self.socket.read(buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(length) => buffer = &mut buffer[length..],
                Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn line(&mut self) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            if line.len() > MAX_LINE {
                return Err(malformed());
            }
            let mut byte = [0];
            self.read(&mut byte)?;
            line.push(byte[0]);
        }
        line.truncate(line.len() - 2);
        Ok(line)
    }
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "what systemd says is no D-Bus message")
}

fn message(serial: u32, member: &str, arguments: Arguments) -> Vec<u8> {
    let mut message = Writer::default();
    message.bytes.extend([b'l', CALL, 0, 1]);
    message.number(u32::try_from(arguments.body.bytes.len()).unwrap_or(u32::MAX));
    message.number(serial);
    message.array(8, |fields| {
        let texts = [
            (PATH, 'o', "/org/freedesktop/systemd1"),
            (2, 's', "org.freedesktop.systemd1.Manager"),
            (MEMBER, 's', member),
            (6, 's', "org.freedesktop.systemd1"),
        ];
        for (field, kind, text) in texts {
            fields.align(8);
            fields.bytes.push(field);
            fields.signature(kind.encode_utf8(&mut [0; 4]));
            fields.text(text);
        }
        fields.align(8);
        fields.bytes.push(8);
        fields.signature("g");
        fields.signature(arguments.signature);
    });
    message.align(8);
    message.bytes.extend(arguments.body.bytes);
    message.bytes
}

/// Marshals; where it begins is a multiple of 8.
#[derive(Debug, Default)]
struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    fn align(&mut self, to: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(to), 0);
    }

    fn number(&mut self, number: u32) {
        self.align(4);
        self.bytes.extend(number.to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.number(u32::try_from(text.len()).unwrap_or(u32::MAX));
        self.bytes.extend(text.as_bytes());
        self.bytes.push(0);
    }

    fn signature(&mut self, signature: &str) {
        self.bytes.push(u8::try_from(signature.len()).unwrap_or(u8::MAX));
        self.bytes.extend(signature.as_bytes());
        self.bytes.push(0);
    }

    fn array(&mut self, alignment: usize, fill: impl FnOnce(&mut Self)) {
        self.number(0);
        let length_at = self.bytes.len() - 4;
        self.align(alignment);
        let from = self.bytes.len();
        fill(self);
        let length = u32::try_from(self.bytes.len() - from).unwrap_or(u32::MAX);
        self.bytes[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
    }

    fn variant(&mut self, value: &Value) {
        match value {
            Value::Text(text) => {
                self.signature("s");
                self.text(text);
            }
            Value::Flag(flag) => {
                self.signature("b");
                self.number((*flag).into());
            }
            Value::Number(number) => {
                self.signature("t");
                self.align(8);
                self.bytes.extend(number.to_le_bytes());
            }
            Value::Numbers(numbers) => {
                self.signature("au");
                self.array(4, |array| numbers.iter().for_each(|number| array.number(*number)));
            }
            Value::Bytes(bytes) => {
                self.signature("ay");
                self.array(1, |array| array.bytes.extend(bytes));
            }
            Value::Pairs(pairs) => {
                self.signature("a(ss)");
                self.array(8, |array| {
                    for (first, second) in pairs {
                        array.align(8);
                        array.text(first);
                        array.text(second);
                    }
                });
            }
        }
    }
}

/// Reads what was marshalled, from where a message begins.
#[derive(Clone, Debug)]
struct Reader {
    bytes: Vec<u8>,
    at: usize,
}

impl Reader {
    fn take(&mut self, length: usize) -> Option<&[u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(length)?)?;
        self.at += length;
        Some(taken)
    }

    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn number(&mut self) -> Option<u32> {
        self.align(4);
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn text(&mut self) -> Option<String> {
        let length = self.number()? as usize;
        let text = String::from_utf8(self.take(length)?.to_vec()).ok()?;
        self.take(1)?;
        Some(text)
    }

    fn signature(&mut self) -> Option<String> {
        let length = usize::from(*self.take(1)?.first()?);
        let text = String::from_utf8(self.take(length)?.to_vec()).ok()?;
        self.take(1)?;
        Some(text)
    }
}

#[derive(Debug)]
struct Message {
    kind: u8,
    member: String,
    error: String,
    reply_to: u32,
    body: Reader,
}

impl Message {
    fn parse(bytes: Vec<u8>) -> Option<Self> {
        let kind = *bytes.get(1)?;
        let mut message =
            Self { kind, member: String::new(), error: String::new(), reply_to: 0, body: Reader { bytes, at: 12 } };
        let reader = &mut message.body;
        let end = reader.number()? as usize + 16;
        while reader.at < end {
            reader.align(8);
            let field = *reader.take(1)?.first()?;
            match reader.signature()?.as_str() {
                "s" | "o" => {
                    let text = reader.text()?;
                    match field {
                        MEMBER => message.member = text,
                        ERROR_NAME => message.error = text,
                        _ => {}
                    }
                }
                "g" => drop(reader.signature()?),
                "u" => {
                    let number = reader.number()?;
                    if field == REPLY_SERIAL {
                        message.reply_to = number;
                    }
                }
                _ => return None,
            }
        }
        message.body.align(8);
        Some(message)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_message_can_be_read_again() {
        let properties = [
            ("Slice", Value::Text("a.slice".to_owned())),
            ("Delegate", Value::Flag(true)),
            ("MemoryMax", Value::Number(1 << 33)),
            ("PIDs", Value::Numbers(vec![7])),
            ("AllowedCPUs", Value::Bytes(vec![3])),
            ("DeviceAllow", Value::Pairs(vec![("char-*".to_owned(), "m".to_owned())])),
        ];
        let arguments =
            Arguments::of("ssa(sv)a(sa(sv))").text("unit").text("replace").properties(&properties).nothing();
        let mut bytes = message(9, "StartTransientUnit", arguments);
        let length = u32::from_le_bytes(bytes[4..8].try_into().unwrap()) as usize;
        // Where structures begin, and that the whole has the length that it says.
        let parsed = Message::parse(bytes.clone()).unwrap();
        assert_eq!((parsed.kind, parsed.member.as_str()), (CALL, "StartTransientUnit"));
        assert_eq!(parsed.body.at + length, bytes.len());
        let mut body = parsed.body;
        assert_eq!((body.text().as_deref(), body.text().as_deref()), (Some("unit"), Some("replace")));
        let size = body.number().unwrap() as usize;
        body.align(8);
        let end = body.at + size;
        assert_eq!((body.text().as_deref(), body.signature().as_deref()), (Some("Slice"), Some("s")));
        body.at = end;
        assert_eq!(body.number(), Some(0));
        // Cut anywhere it is an error and nothing worse.
        while bytes.pop().is_some() {
            if let Some(mut cut) = Message::parse(bytes.clone()) {
                while cut.body.text().is_some() {}
            }
        }
    }
}
