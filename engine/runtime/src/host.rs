//! What this machine can do, probed once and then carried around as data, so that a plan is compiled purely.

use std::path::Path;

use crate::Error;
use crate::cgroup::Layout;

/// What this machine can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// The capability bounding set of this process as a mask; no container gets more.
    pub bounding: u64,
    /// Where the cgroup hierarchies are.
    pub cgroups: Layout,
    /// The cgroup beneath which containers get theirs when their specification names none; relative to the mount of each
    /// hierarchy, without a leading slash.
    pub cgroup_parent: String,
    /// The kernel.
    pub kernel: KernelVersion,
    /// What depends on the kernel's version or its configuration.
    pub features: Features,
    /// The processors that tell of their temperature in `/sys/devices/system/cpu/cpuN/thermal_throttle`.
    pub throttled_cpus: Vec<u32>,
}

/// The first two numbers of a kernel's release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KernelVersion {
    /// As 6 of 6.18.
    pub major: u32,
    /// As 18 of 6.18.
    pub minor: u32,
}

impl KernelVersion {
    /// The kernel that runs.
    pub(crate) fn of_machine() -> Result<Self, Error> {
        let release = rustix::system::uname();
        let release = release.release().to_string_lossy();
        Self::parse(&release).ok_or_else(|| Error::Unsupported(format!("a kernel whose release is {release:?}")))
    }

    /// Reads a release such as `6.18.4-generic`.
    #[must_use]
    pub fn parse(release: &str) -> Option<Self> {
        let number = |part: &str| {
            let end = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
            part[..end].parse().ok()
        };
        let mut parts = release.splitn(3, '.');
        Some(Self { major: number(parts.next()?)?, minor: number(parts.next()?)? })
    }
}

/// Features that a machine may lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// Overlay takes its layers one by one as `lowerdir+` (Linux 6.7).
    pub overlay_append: bool,
    /// Cgroup namespaces (Linux 4.6, may be configured out).
    pub cgroup_namespace: bool,
    /// User namespaces (may be configured out or forbidden).
    pub user_namespace: bool,
    /// Time namespaces (Linux 5.6, may be configured out).
    pub time_namespace: bool,
    /// `mount_setattr` (Linux 5.12): attributes of whole trees of mounts, and mounts that show files as those of others.
    pub mount_setattr: bool,
    /// A process can be born in a cgroup of version 2 (Linux 5.7).
    pub clone_into_cgroup: bool,
    /// POSIX message queues (`mqueue`; may be configured out).
    pub mqueue: bool,
    /// AppArmor.
    pub apparmor: bool,
    /// SELinux.
    pub selinux: bool,
    /// Seccomp filters.
    pub seccomp: bool,
    /// `/proc/kcore` is there, so that `/dev/core` makes sense.
    pub kcore: bool,
}

impl Host {
    /// Looks at the machine; about 0.3 ms.
    ///
    /// # Errors
    /// When `/proc` cannot be read or has an unknown form.
    pub fn probe() -> Result<Self, Error> {
        let kernel = KernelVersion::of_machine()?;
        let bounding = caps::read(None, caps::CapSet::Bounding)
            .map_err(|error| Error::Unsupported(format!("read of the capability bounding set: {error}")))?;
        let filesystems =
            std::fs::read_to_string("/proc/filesystems").map_err(Error::io("read", "/proc/filesystems"))?;
        Ok(Self {
            bounding: bounding.iter().fold(0, |mask, capability| mask | capability.bitmask()),
            cgroups: Layout::probe()?,
            cgroup_parent: "engine".to_owned(),
            kernel,
            features: Features {
                overlay_append: kernel >= KernelVersion { major: 6, minor: 7 },
                user_namespace: Path::new("/proc/self/ns/user").exists()
                    && !std::fs::read_to_string("/proc/sys/user/max_user_namespaces")
                        .is_ok_and(|most| most.trim() == "0"),
                time_namespace: Path::new("/proc/self/ns/time").exists(),
                mount_setattr: kernel >= KernelVersion { major: 5, minor: 12 },
                clone_into_cgroup: kernel >= KernelVersion { major: 5, minor: 7 },
                cgroup_namespace: Path::new("/proc/self/ns/cgroup").exists(),
                mqueue: filesystems.lines().any(|line| line.trim_start_matches("nodev").trim() == "mqueue"),
                apparmor: std::fs::read_to_string("/sys/module/apparmor/parameters/enabled")
                    .is_ok_and(|enabled| enabled.trim() == "Y"),
                selinux: Path::new("/sys/fs/selinux/enforce").exists(),
                seccomp: Path::new("/proc/sys/kernel/seccomp/actions_avail").exists(),
                kcore: Path::new("/proc/kcore").exists(),
            },
            throttled_cpus: throttled_cpus(),
        })
    }
}

fn throttled_cpus() -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/sys/devices/system/cpu") else { return Vec::new() };
    let mut cpus: Vec<u32> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.strip_prefix("cpu")?.parse().ok())
        .filter(|cpu| Path::new(&format!("/sys/devices/system/cpu/cpu{cpu}/thermal_throttle")).exists())
        .collect();
    cpus.sort_unstable();
    cpus
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn releases_are_read() {
        let version = |text| KernelVersion::parse(text).map(|v| (v.major, v.minor));
        assert_eq!(version("6.18.44-fc-v595"), Some((6, 18)));
        assert_eq!(version("5.10-rc1"), Some((5, 10)));
        assert_eq!(version("6"), None);
        assert_eq!(version("x.y"), None);
    }

    #[test]
    fn this_machine_is_known() {
        let host = Host::probe().unwrap();
        assert_ne!(host.bounding, 0);
        assert!(host.features.seccomp);
    }
}
