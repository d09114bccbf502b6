//! A daemon of canned answers on a unix socket, which keeps what it was asked.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

pub(crate) struct Request {
    pub(crate) method: String,
    /// Without the version.
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) version: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// One connection of a client, for the answer to its request.
pub(crate) struct Connection {
    reader: BufReader<UnixStream>,
    pub(crate) stream: UnixStream,
    pub(crate) open: bool,
}

impl Connection {
    pub(crate) fn answer(&mut self, status: u16, body: &str) {
        self.answer_as(status, "application/json", body);
    }

    pub(crate) fn answer_as(&mut self, status: u16, kind: &str, body: &str) {
        let head = format!(
            "HTTP/1.1 {status} X\r\nApi-Version: 1.51\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.send(head.as_bytes());
    }

    /// The head only; the body follows in chunks.
    pub(crate) fn begin(&mut self, status: u16, kind: &str) {
        self.send(
            format!("HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n").as_bytes(),
        );
    }

    pub(crate) fn chunk(&mut self, body: &[u8]) {
        self.send(format!("{:x}\r\n", body.len()).as_bytes());
        self.send(body);
        self.send(b"\r\n");
    }

    pub(crate) fn upgrade(&mut self) {
        self.open = false;
        self.send(b"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.multiplexed-stream\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n");
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        // The client may be gone, which is for the test to see.
        let _ = self.stream.write_all(bytes);
    }

    pub(crate) fn frame(&mut self, stream: u8, bytes: &[u8]) {
        let mut frame = vec![stream, 0, 0, 0];
        frame.extend((bytes.len() as u32).to_be_bytes());
        frame.extend(bytes);
        self.send(&frame);
    }

    /// What the client sends until it closes its half.
    pub(crate) fn read_to_end(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let _ = self.reader.read_to_end(&mut bytes);
        bytes
    }

    pub(crate) fn close(&mut self) {
        self.open = false;
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

/// Something that happens once, and that others wait for.
#[derive(Clone, Default)]
pub(crate) struct Moment(Arc<(Mutex<bool>, Condvar)>);

impl Moment {
    pub(crate) fn happened(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    pub(crate) fn wait(&self) {
        let mut guard = self.0.0.lock().unwrap();
        while !*guard {
            guard = self.0.1.wait(guard).unwrap();
        }
    }
}

pub(crate) struct Daemon {
    directory: tempfile::TempDir,
    log: Arc<Mutex<Vec<Request>>>,
}

impl Daemon {
    pub(crate) fn start(handler: impl Fn(&Request, &mut Connection) + Send + Sync + 'static) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("d.sock")).unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (handler, shared) = (Arc::new(handler), Arc::clone(&log));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                let (handler, log) = (Arc::clone(&handler), Arc::clone(&shared));
                thread::spawn(move || serve(stream, &*handler, &log));
            }
        });
        Self { directory, log }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("d.sock")
    }

    /// `METHOD path` of all requests so far.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.log.lock().unwrap().iter().map(|request| format!("{} {}", request.method, request.path)).collect()
    }

    /// The first request to a path.
    pub(crate) fn request<T>(&self, path: &str, look: impl FnOnce(&Request) -> T) -> T {
        let log = self.log.lock().unwrap();
        look(log.iter().find(|request| request.path == path).unwrap())
    }

    pub(crate) fn command(&self, line: &str) -> Command {
        let mut command = program();
        command.arg("-H").arg(format!("unix://{}", self.socket().display())).args(line.split(' '));
        command
    }

    pub(crate) fn run(&self, line: &str) -> Finished {
        self.run_with(line, b"")
    }

    pub(crate) fn run_with(&self, line: &str, input: &[u8]) -> Finished {
        let mut child =
            self.command(line).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let _ = child.stdin.take().unwrap().write_all(input);
        Finished::from(child.wait_with_output().unwrap())
    }
}

pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_enginectl"));
    command.env_clear().env("TZ", "UTC");
    command
}

#[derive(Debug, PartialEq)]
pub(crate) struct Finished {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<Output> for Finished {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

fn serve(stream: UnixStream, handler: &dyn Fn(&Request, &mut Connection), log: &Mutex<Vec<Request>>) {
    let reader = BufReader::new(stream.try_clone().unwrap());
    let mut connection = Connection { reader, stream, open: true };
    while connection.open {
        let Some(request) = read(&mut connection.reader) else { return };
        let copy = Request {
            method: request.method.clone(),
            path: request.path.clone(),
            query: request.query.clone(),
            version: request.version.clone(),
            headers: request.headers.clone(),
            body: request.body.clone(),
        };
        log.lock().unwrap().push(copy);
        handler(&request, &mut connection);
    }
}

fn read(reader: &mut BufReader<UnixStream>) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|count| *count > 0)?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.push((name.to_owned(), value.to_owned()));
    }
    let header =
        |name: &str| headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str());
    let mut body = Vec::new();
    if let Some(length) = header("content-length") {
        body.resize(length.parse().ok()?, 0);
        reader.read_exact(&mut body).ok()?;
    } else if header("transfer-encoding") == Some("chunked") {
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            let length = usize::from_str_radix(line.trim(), 16).ok()?;
            let mut chunk = vec![0; length + 2];
            reader.read_exact(&mut chunk).ok()?;
            if length == 0 {
                break;
            }
            body.extend(&chunk[..length]);
        }
    }
    let (path, query) = target
        .split_once('?')
        .map_or((target.clone(), String::new()), |(path, query)| (path.to_owned(), query.to_owned()));
    let (version, path) = match path.strip_prefix("/v").and_then(|rest| rest.split_once('/')) {
        Some((version, rest)) if version.starts_with(|c: char| c.is_ascii_digit()) => {
            (version.to_owned(), format!("/{rest}"))
        }
        _ => (String::new(), path),
    };
    Some(Request { method, path, query, version, headers, body })
}
