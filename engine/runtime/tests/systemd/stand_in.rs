//! What systemd does at its private socket for those who want a scope, where it does not run.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use engine_runtime::cgroup::Layout;

/// The controllers of version 1 that systemd makes cgroups for.
const ITS: [&str; 6] = ["name=systemd", "memory", "cpu", "pids", "devices", "blkio"];
const SCOPE: &str = "engine.slice/engine-test.slice";

pub(crate) struct StandIn {
    directory: tempfile::TempDir,
    asked: Arc<Mutex<Vec<String>>>,
}

impl StandIn {
    pub(crate) fn new(layout: &Layout) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let listener = UnixListener::bind(directory.path().join("private")).unwrap();
        let (layout, heard) = (layout.clone(), Arc::clone(&asked));
        // It ends with the program.
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (layout, heard) = (layout.clone(), Arc::clone(&heard));
                std::thread::spawn(move || serve(client, &layout, &heard));
            }
        });
        Self { directory, asked }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("private")
    }

    /// The methods that were called.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn line(client: &mut UnixStream) -> String {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte).unwrap();
        line.push(byte[0]);
    }
    String::from_utf8(line).unwrap()
}

fn serve(mut client: UnixStream, layout: &Layout, asked: &Mutex<Vec<String>>) {
    assert!(line(&mut client).starts_with("\0AUTH EXTERNAL 30"));
    client.write_all(b"OK 0123456789abcdef\r\n").unwrap();
    assert_eq!(line(&mut client), "BEGIN\r\n");
    let mut head = [0; 16];
    while client.read_exact(&mut head).is_ok() {
        let number = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().unwrap());
        let (body, serial, fields) = (number(4) as usize, number(8), number(12) as usize);
        let mut fields = vec![0; fields.next_multiple_of(8)];
        client.read_exact(&mut fields).unwrap();
        let mut bytes = vec![0; body];
        client.read_exact(&mut bytes).unwrap();
        // The third field with a string.
        let at = find(&fields, b"\x03\x01s\0").unwrap() + 4;
        let member = text(&fields, at);
        let unit = text(&bytes, 0);
        asked.lock().unwrap().push(member.clone());
        let directories = directories(layout, &unit);
        match member.as_str() {
            "StartTransientUnit" => {
                assert_eq!(property(&bytes, "Slice", "s", text), "engine-test.slice");
                let pid = property(&bytes, "PIDs", "au", |bytes, at| word(bytes, at.next_multiple_of(4) + 4));
                for directory in &directories {
                    // Another test that ends may take the slice away.
                    let made = (0..100).any(|_| fs::create_dir_all(directory).is_ok());
                    assert!(made, "{}", directory.display());
                    fs::write(directory.join("cgroup.procs"), pid.to_string()).unwrap();
                }
                answer(&mut client, serial, true);
            }
            "StopUnit" if directories.iter().all(|directory| !directory.exists()) => refuse(&mut client, serial),
            "StopUnit" => {
                for directory in directories {
                    while fs::remove_dir(&directory).is_err_and(|error| error.raw_os_error() == Some(libc::EBUSY)) {
                        std::thread::sleep(std::time::Duration::from_millis(1));
                    }
                }
                answer(&mut client, serial, true);
            }
            _ => answer(&mut client, serial, false),
        }
    }
}

fn directories(layout: &Layout, unit: &str) -> Vec<PathBuf> {
    let its = layout.hierarchies.iter().filter(|h| h.controllers.iter().any(|c| ITS.contains(&c.as_str())));
    let mounts = its.map(|hierarchy| &hierarchy.mount).chain(layout.unified.iter().map(|unified| &unified.mount));
    mounts.map(|mount| mount.join(SCOPE).join(unit)).collect()
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn text(bytes: &[u8], at: usize) -> String {
    let at = at.next_multiple_of(4);
    let length = word(bytes, at) as usize;
    String::from_utf8(bytes[at + 4..at + 4 + length].to_vec()).unwrap()
}

/// The value of a property, read from where its signature ends.
fn property<T>(bytes: &[u8], name: &str, signature: &str, read: impl Fn(&[u8], usize) -> T) -> T {
    let length = u8::try_from(signature.len()).unwrap();
    let whole = [name.as_bytes(), &[0, length], signature.as_bytes(), &[0]].concat();
    read(bytes, find(bytes, &whole).unwrap() + whole.len())
}

/// An answer with the name of a job, which then ends, or with nothing.
fn answer(client: &mut UnixStream, serial: u32, job: bool) {
    let object = "/org/freedesktop/systemd1/job/7";
    let body = if job { string(object) } else { Vec::new() };
    send(client, 2, &[(5, "u", serial.to_le_bytes().to_vec())], if job { "o" } else { "" }, body);
    if job {
        let mut body = 7u32.to_le_bytes().to_vec();
        for part in [object, "a.scope", "done"] {
            body.resize(body.len().next_multiple_of(4), 0);
            body.extend(string(part));
        }
        send(client, 4, &[(3, "s", string("JobRemoved"))], "uoss", body);
    }
}

fn refuse(client: &mut UnixStream, serial: u32) {
    let name = string("org.freedesktop.systemd1.NoSuchUnit");
    send(client, 3, &[(5, "u", serial.to_le_bytes().to_vec()), (4, "s", name)], "s", string("not loaded"));
}

fn string(text: &str) -> Vec<u8> {
    let length = u32::try_from(text.len()).unwrap();
    [&length.to_le_bytes()[..], text.as_bytes(), &[0]].concat()
}

fn send(client: &mut UnixStream, kind: u8, fields: &[(u8, &str, Vec<u8>)], signature: &str, body: Vec<u8>) {
    let mut all = Vec::new();
    let mut field = |number: u8, kind: &str, value: &[u8]| {
        all.resize(all.len().next_multiple_of(8), 0);
        all.extend([number, 1, kind.as_bytes()[0], 0]);
        all.extend(value);
    };
    for (number, kind, value) in fields {
        field(*number, kind, value);
    }
    let length = u8::try_from(signature.len()).unwrap();
    field(8, "g", &[&[length], signature.as_bytes(), &[0]].concat());
    let mut bytes = vec![b'l', kind, 1, 1];
    for number in [body.len(), 77, all.len()] {
        bytes.extend(u32::try_from(number).unwrap().to_le_bytes());
    }
    bytes.extend(all);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes.extend(body);
    client.write_all(&bytes).unwrap();
}

/// The slices that it has made go, when nobody is left in them.
impl Drop for StandIn {
    fn drop(&mut self) {
        for hierarchy in fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
            for slice in [SCOPE, "engine.slice"] {
                let _ = fs::remove_dir(hierarchy.path().join(slice));
            }
        }
    }
}
