//! One process or thread, read from the host's `/proc`. What it calls itself may be any bytes, and it may end at any moment.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;

use rustix::fs::{CWD, Mode, OFlags, openat};

use super::columns::Whose;

/// How much of a file is read, where the process decides how long it is.
const LONGEST: u64 = 64 << 10;
/// More than `status` can have, with as many groups as there may be.
const WHOLE: u64 = 1 << 20;

/// A process, or a thread of it.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) pid: u32,
    /// The thread; a process is its first one.
    pub(super) thread: u32,
    /// How much of a processor it uses, in thousandths of a hundredth.
    pub(super) load: i64,
    name: String,
    /// The fields of its `stat` from the state on.
    stat: Vec<String>,
    status: String,
    /// Its directory, so that no other process with its number is ever taken for it.
    directory: Option<OwnedFd>,
}

impl Process {
    /// Nothing when it is gone.
    pub(super) fn read(pid: u32) -> Option<Self> {
        Self::open(pid, pid, openat(CWD, format!("/proc/{pid}"), FLAGS | OFlags::DIRECTORY, Mode::empty()).ok()?)
    }

    /// Its threads, itself among them.
    pub(super) fn threads(&self) -> Vec<Self> {
        let Some(directory) = &self.directory else { return Vec::new() };
        let tasks = openat(directory, "task", FLAGS | OFlags::DIRECTORY, Mode::empty());
        let Ok(tasks) = tasks else { return Vec::new() };
        let Ok(entries) = rustix::fs::Dir::read_from(&tasks) else { return Vec::new() };
        let mut ids: Vec<u32> = entries.flatten().filter_map(|e| e.file_name().to_str().ok()?.parse().ok()).collect();
        ids.sort_unstable();
        let open = |id: u32| openat(&tasks, id.to_string(), FLAGS | OFlags::DIRECTORY, Mode::empty()).ok();
        ids.into_iter().filter_map(|id| Self::open(self.pid, id, open(id)?)).collect()
    }

    fn open(pid: u32, thread: u32, directory: OwnedFd) -> Option<Self> {
        let (stat, status) = (bytes(&directory, "stat", LONGEST)?, bytes(&directory, "status", WHOLE)?);
        let process = Self::parsed(pid, &stat, &String::from_utf8_lossy(&status))?;
        Some(Self { thread, directory: Some(directory), ..process })
    }

    fn parsed(pid: u32, stat: &[u8], status: &str) -> Option<Self> {
        // The name may hold anything, parentheses too.
        let (from, to) = (stat.iter().position(|byte| *byte == b'(')?, stat.iter().rposition(|byte| *byte == b')')?);
        let fields = std::str::from_utf8(&stat[to + 1..]).ok()?;
        Some(Self {
            pid,
            thread: pid,
            load: 0,
            name: shown(stat.get(from + 1..to)?),
            stat: fields.split_ascii_whitespace().map(str::to_owned).collect(),
            status: status.to_owned(),
            directory: None,
        })
    }

    /// One of which only this is known.
    #[cfg(test)]
    pub(super) fn made(pid: u32, stat: &[u8], status: &str) -> Option<Self> {
        Self::parsed(pid, stat, status)
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The letter of its state.
    pub(super) fn state(&self) -> char {
        self.stat.first().and_then(|state| state.chars().next()).unwrap_or('?')
    }

    /// A number of `stat`, counted as in `proc(5)`.
    pub(super) fn number(&self, field: usize) -> i64 {
        self.field(field).parse().unwrap_or(0)
    }

    /// A number of `stat` that has no sign, such as an address.
    pub(super) fn unsigned(&self, field: usize) -> u64 {
        self.field(field).parse().unwrap_or(0)
    }

    fn field(&self, field: usize) -> &str {
        self.stat.get(field - 3).map_or("", String::as_str)
    }

    /// What stands in a line of `status`.
    pub(super) fn line(&self, name: &str) -> Option<&str> {
        line(&self.status, name)
    }

    pub(super) fn uid(&self, whose: Whose) -> u32 {
        self.id("Uid", whose)
    }

    pub(super) fn gid(&self, whose: Whose) -> u32 {
        self.id("Gid", whose)
    }

    fn id(&self, name: &str, whose: Whose) -> u32 {
        let place = match whose {
            Whose::Real => 0,
            Whose::Effective => 1,
            Whose::Saved => 2,
            Whose::Files => 3,
        };
        let id = self.line(name).and_then(|ids| ids.split_ascii_whitespace().nth(place)?.parse().ok());
        // Nobody's, rather than root's.
        id.unwrap_or(u32::MAX)
    }

    /// Ticks on a processor, those of children that it has waited for too if wanted.
    pub(super) fn used(&self, children: bool) -> i64 {
        let fields: &[usize] = if children { &[14, 15, 16, 17] } else { &[14, 15] };
        fields.iter().fold(0, |sum: i64, field| sum.saturating_add(self.number(*field)))
    }

    /// Kibibytes that a line of `status` speaks of.
    pub(super) fn kibibytes(&self, name: &str) -> u64 {
        kibibytes(&self.status, name)
    }

    /// When it began, in ticks since boot.
    pub(super) fn start(&self) -> i64 {
        self.number(22)
    }

    /// Its command line, or its name when it has none.
    pub(super) fn command(&self) -> String {
        match self.file("cmdline").map(|line| words(&line)).filter(|line| !line.is_empty()) {
            Some(line) => line,
            None => format!("[{}]{}", self.name, self.defunct()),
        }
    }

    /// What is said of one that has ended and was not waited for.
    pub(super) fn defunct(&self) -> &'static str {
        if self.state() == 'Z' { " <defunct>" } else { "" }
    }

    pub(super) fn environment(&self) -> Option<String> {
        self.file("environ").map(|text| words(&text)).filter(|text| !text.is_empty())
    }

    /// A short file of its directory, as one line that can be shown.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.file(name).map(|text| shown(text.trim_ascii_end()))
    }

    /// A file of its directory that has lines, as it is.
    pub(super) fn lines(&self, name: &str) -> Option<String> {
        self.file(name).map(|text| String::from_utf8_lossy(&text).into_owned())
    }

    /// Where a link of its directory leads.
    pub(super) fn link(&self, name: &str) -> Option<String> {
        let target = rustix::fs::readlinkat(self.directory.as_ref()?, name, Vec::new()).ok()?;
        Some(shown(target.as_bytes()))
    }

    /// How many entries a directory of its directory has.
    pub(super) fn entries(&self, name: &str) -> Option<usize> {
        let opened = openat(self.directory.as_ref()?, name, FLAGS | OFlags::DIRECTORY, Mode::empty()).ok()?;
        let entries = rustix::fs::Dir::read_from(opened).ok()?;
        Some(entries.flatten().filter(|entry| !entry.file_name().to_bytes().starts_with(b".")).count())
    }

    fn file(&self, name: &str) -> Option<Vec<u8>> {
        bytes(self.directory.as_ref()?, name, LONGEST)
    }
}

const FLAGS: OFlags = OFlags::RDONLY.union(OFlags::CLOEXEC);

fn bytes(directory: &OwnedFd, name: &str, limit: u64) -> Option<Vec<u8>> {
    let file = openat(directory, name, FLAGS, Mode::empty()).ok()?;
    let mut content = Vec::new();
    File::from(file).take(limit).read_to_end(&mut content).ok()?;
    Some(content)
}

/// What stands behind a name and a colon.
pub(super) fn line<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// Kibibytes that a line speaks of.
pub(super) fn kibibytes(text: &str, name: &str) -> u64 {
    line(text, name).and_then(|line| line.strip_suffix(" kB")?.trim().parse().ok()).unwrap_or(0)
}

/// Words that each end with a zero, with blanks between them and in place of ends of lines.
fn words(text: &[u8]) -> String {
    let end = text.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let blanks: Vec<u8> = text[..end].iter().map(|byte| if matches!(byte, 0 | b'\n') { b' ' } else { *byte }).collect();
    shown(&blanks)
}

/// Bytes as text that moves no cursor; what cannot be shown is a question mark.
fn shown(text: &[u8]) -> String {
    String::from_utf8_lossy(text)
        .chars()
        .map(|c| if c.is_control() || c == char::REPLACEMENT_CHARACTER { '?' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn this_process_is_read() {
        let process = Process::read(std::process::id()).unwrap();
        assert_eq!(process.uid(Whose::Effective), rustix::process::geteuid().as_raw());
        assert!(process.start() > 0 && process.kibibytes("VmRSS") > 0 && !process.command().starts_with('['));
        let threads = process.threads();
        assert!(threads.iter().any(|thread| thread.thread == process.pid));
        assert!(threads.iter().all(|thread| thread.pid == process.pid));
        assert_eq!(threads[0].command(), process.command());
        assert!(process.entries("fd").unwrap() > 0 && process.link("exe").unwrap().starts_with('/'));
        assert!(process.text("nonsense").is_none() && Process::read(u32::MAX).is_none());
    }

    #[test]
    fn a_name_may_be_any_bytes() {
        let cases: [(&[u8], &str); 4] = [
            (b"1 (a) b) S 2", "a) b"),
            (b"1 () S 2", ""),
            (b"1 (a\n\x1b[2J) S 2", "a??[2J"),
            (b"1 (\xff\xfe) S 2", "??"),
        ];
        for (stat, name) in cases {
            let process = Process::made(1, stat, "Uid:\t1\n").unwrap();
            assert_eq!((process.name(), process.state(), process.number(4), process.number(40)), (name, 'S', 2, 0));
            assert_eq!((process.uid(Whose::Real), process.uid(Whose::Saved)), (1, u32::MAX));
            assert_eq!(process.command(), format!("[{name}]"));
        }
        for broken in [&b""[..], b"1 S 2", b"1 )(", b"1 (a) \xff"] {
            assert!(Process::made(1, broken, "").is_none());
        }
    }

    #[test]
    fn a_command_line_is_one_line() {
        assert_eq!(words(b"sh\0-c\0a\nb\0\0\0"), "sh -c a b");
        assert_eq!(words(b"nginx: master\0\0\0\0"), "nginx: master");
        assert_eq!([words(b""), words(b"\0\0")], ["", ""]);
    }
}
