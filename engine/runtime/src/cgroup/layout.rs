//! Which hierarchies this machine has mounted, and where.

use std::path::{Path, PathBuf};

use crate::Error;

/// The cgroup hierarchies of a machine. Version 2 alone, version 1 alone, or both side by side (hybrid).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// The hierarchies of version 1, in the order of their mounts.
    pub hierarchies: Vec<Hierarchy>,
    /// The hierarchy of version 2.
    pub unified: Option<Unified>,
    /// Where systemd listens, which makes the cgroups that are to be its own; `None` where it does not run.
    pub systemd: Option<PathBuf>,
}

/// A mounted hierarchy of version 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchy {
    /// Where it is mounted.
    pub mount: PathBuf,
    /// Its controllers, such as `cpu` and `cpuacct`; a hierarchy without any has its name, as `name=systemd`.
    pub controllers: Vec<String>,
}

/// The mounted hierarchy of version 2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unified {
    /// Where it is mounted.
    pub mount: PathBuf,
    /// The controllers that it has to give, such as `memory` and `pids`.
    pub controllers: Vec<String>,
    /// `cgroup.kill` is there (Linux 5.14): all processes are killed in one step.
    pub kills: bool,
}

impl Layout {
    /// Reads the mount table of this process.
    ///
    /// # Errors
    /// When `/proc/self/mountinfo` cannot be read.
    pub fn probe() -> Result<Self, Error> {
        let path = "/proc/self/mountinfo";
        let mut layout = Self::parse(&std::fs::read_to_string(path).map_err(Error::io("read", path))?);
        layout.systemd = Some(PathBuf::from(SYSTEMD)).filter(|socket| socket.exists());
        if let Some(unified) = &mut layout.unified {
            let path = unified.mount.join("cgroup.controllers");
            let controllers = std::fs::read_to_string(&path).map_err(Error::io("read", path))?;
            // The root, which is all that there is for certain, does not have the file.
            unified.kills = crate::KernelVersion::of_machine()? >= crate::KernelVersion { major: 5, minor: 14 };
            unified.controllers = controllers.split_whitespace().map(str::to_owned).collect();
        }
        Ok(layout)
    }

    /// Reads a mount table in the form of `proc_pid_mountinfo(5)`; of several mounts of one hierarchy the first counts.
    #[must_use]
    pub fn parse(mountinfo: &str) -> Self {
        let mut layout = Self::default();
        for line in mountinfo.lines() {
            let Some((mount, file_system)) = line.split_once(" - ") else { continue };
            let mut file_system = file_system.split(' ');
            let kind = file_system.next();
            let Some(mount) = mount.split(' ').nth(4).map(unescape) else { continue };
            match kind {
                Some("cgroup2") if layout.unified.is_none() => {
                    layout.unified = Some(Unified { mount, controllers: Vec::new(), kills: true });
                }
                Some("cgroup") => {
                    let controllers: Vec<String> = file_system
                        .nth(1)
                        .unwrap_or_default()
                        .split(',')
                        .filter(|option| !FLAGS.contains(option) && !option.starts_with("release_agent="))
                        .map(str::to_owned)
                        .collect();
                    let seen = |h: &Hierarchy| h.controllers.iter().any(|c| controllers.contains(c));
                    if !controllers.is_empty() && !layout.hierarchies.iter().any(seen) {
                        layout.hierarchies.push(Hierarchy { mount, controllers });
                    }
                }
                _ => {}
            }
        }
        layout
    }

    /// The mount of the version 1 hierarchy with this controller.
    #[must_use]
    pub fn hierarchy(&self, controller: &str) -> Option<&Path> {
        self.hierarchies
            .iter()
            .find(|hierarchy| hierarchy.controllers.iter().any(|c| c == controller))
            .map(|hierarchy| hierarchy.mount.as_path())
    }

    /// Whether version 2 has this controller.
    #[must_use]
    pub fn unified_has(&self, controller: &str) -> bool {
        self.unified.as_ref().is_some_and(|unified| unified.controllers.iter().any(|c| c == controller))
    }

    /// Whether containers are limited by version 2 alone.
    #[must_use]
    pub fn is_unified(&self) -> bool {
        self.hierarchies.is_empty() && self.unified.is_some()
    }
}

const SYSTEMD: &str = "/run/systemd/private";

/// Options of a cgroup mount that are no controllers.
const FLAGS: [&str; 9] =
    ["rw", "ro", "none", "noprefix", "clone_children", "xattr", "cpuset_v2_mode", "favordynmods", "nofavordynmods"];

/// Undoes the octal escapes of space, tab, newline and backslash.
fn unescape(text: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = match (first, tail) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..]) => {
                bytes.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                after
            }
            _ => {
                bytes.push(*first);
                tail
            }
        };
    }
    PathBuf::from(<std::ffi::OsString as std::os::unix::ffi::OsStringExt>::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn hybrid_mounts_are_found() {
        let layout = Layout::parse(
            "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
             32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:7 - cgroup cgroup rw,cpu,cpuacct\n\
             33 31 0:30 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,release_agent=/x,name=systemd\n\
             34 31 0:29 / /elsewhere rw,relatime - cgroup cgroup rw,cpu,cpuacct\n\
             41 31 0:38 / /sys/fs/cgroup/uni\\040fied rw,relatime - cgroup2 cgroup2 rw\n",
        );
        assert_eq!(layout.hierarchies.len(), 2);
        assert_eq!(layout.hierarchy("cpuacct"), Some(Path::new("/sys/fs/cgroup/cpu,cpuacct")));
        assert_eq!(layout.hierarchy("name=systemd"), Some(Path::new("/sys/fs/cgroup/systemd")));
        assert_eq!(layout.hierarchy("memory"), None);
        assert_eq!(layout.unified.unwrap().mount, Path::new("/sys/fs/cgroup/uni fied"));
    }

    #[test]
    fn version_2_alone_is_unified() {
        let layout = Layout::parse("25 20 0:22 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n");
        assert!(layout.is_unified());
        assert!(!Layout::parse("").is_unified());
    }
}
