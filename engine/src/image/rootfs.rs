//! A root file system put together in memory.

use crate::snapshot::tar::{Entry, Kind, Writer};

/// Files that are to become an image, in the order in which they are given; parents are made as needed.
///
/// ```
/// use engine::image::Rootfs;
/// let rootfs = Rootfs::new().directory("/tmp", 0o1777).file("/etc/hostname", 0o644, "box\n").symlink("/bin", "usr/bin");
/// assert!(!rootfs.into_archive().is_empty());
/// ```
#[derive(Debug)]
pub struct Rootfs {
    writer: Writer<Vec<u8>>,
}

impl Rootfs {
    /// No files at all.
    pub fn new() -> Self {
        Self { writer: Writer::new(Vec::new()) }
    }

    /// A small system around a static busybox, whose bytes are given: its applets as links in `/bin`, and the
    /// directories and accounts that programs expect.
    pub fn busybox(program: &[u8]) -> Self {
        let mut rootfs = Self::new();
        for (path, mode) in [
            ("bin", 0o755),
            ("dev", 0o755),
            ("etc", 0o755),
            ("home", 0o755),
            ("proc", 0o555),
            ("root", 0o700),
            ("sys", 0o555),
            ("tmp", 0o1777),
            ("usr/bin", 0o755),
            ("usr/sbin", 0o755),
            ("var/tmp", 0o1777),
        ] {
            rootfs = rootfs.directory(path, mode);
        }
        rootfs = rootfs
            .symlink("sbin", "bin")
            .file("etc/passwd", 0o644, "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/home:/bin/false\n")
            .file("etc/group", 0o644, "root:x:0:\nnobody:x:65534:\n")
            .file("bin/busybox", 0o755, program);
        for applet in applets(program) {
            rootfs = rootfs.link(format!("bin/{applet}"), "bin/busybox");
        }
        rootfs
    }

    /// Adds a directory.
    #[must_use]
    pub fn directory(self, path: impl Into<Vec<u8>>, mode: u32) -> Self {
        self.add(Entry::new(Kind::Directory, path, mode), b"")
    }

    /// Adds a file of root's.
    #[must_use]
    pub fn file(self, path: impl Into<Vec<u8>>, mode: u32, contents: impl AsRef<[u8]>) -> Self {
        self.add(Entry::new(Kind::File, path, mode), contents.as_ref())
    }

    /// Adds a symbolic link.
    #[must_use]
    pub fn symlink(self, path: impl Into<Vec<u8>>, target: impl Into<Vec<u8>>) -> Self {
        self.add(Entry::new(Kind::Symlink, path, 0o777).to(target), b"")
    }

    /// Adds a hard link to a file that was added before.
    #[must_use]
    pub fn link(self, path: impl Into<Vec<u8>>, target: impl Into<Vec<u8>>) -> Self {
        self.add(Entry::new(Kind::Link, path, 0o755).to(target), b"")
    }

    /// Adds anything else.
    #[must_use]
    pub fn add(mut self, entry: Entry, contents: &[u8]) -> Self {
        // Memory takes what is written to it.
        let _ = self.writer.entry(&entry, contents);
        self
    }

    /// The tar archive.
    pub fn into_archive(self) -> Vec<u8> {
        self.writer.finish().unwrap_or_default()
    }
}

impl Default for Rootfs {
    fn default() -> Self {
        Self::new()
    }
}

/// The names that a busybox answers to. It has them in its data, sorted and each ended by NUL; `[` and `[[` are first.
fn applets(program: &[u8]) -> Vec<&str> {
    let start = b"\0[\0[[\0";
    let found = program.windows(start.len()).position(|window| window == start);
    let Some(table) = found.and_then(|at| program.get(at + 1..)) else {
        return vec!["sh", "cat", "echo", "ls", "true", "false", "sleep"];
    };
    let name = |bytes: &&[u8]| {
        (1..=32).contains(&bytes.len())
            && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"[-_+.".contains(byte))
    };
    let names = table.split(|byte| *byte == 0).take(1000).take_while(name);
    names.filter_map(|name| std::str::from_utf8(name).ok()).filter(|name| *name != "busybox").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busybox_says_what_it_answers_to() {
        let program = b"\x7fELF....\0x\0[\0[[\0acpid\0cat\0sh\0zcat\0\0more";
        assert_eq!(applets(program), ["[", "[[", "acpid", "cat", "sh", "zcat"]);
        assert!(applets(b"another program").contains(&"sh"));
    }
}
