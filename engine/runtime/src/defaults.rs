//! What a container of Docker gets when nobody says otherwise, as data.

use std::path::PathBuf;

use oci_spec::runtime::{
    Capabilities, Capability, Linux, LinuxCapabilities, LinuxDeviceCgroup, LinuxDeviceType, LinuxNamespace,
    LinuxNamespaceType, LinuxResources, Mount, Process, Root, Spec, User,
};

use crate::{Host, seccomp};

/// Where programs are searched when the image does not say.
pub const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The size of `/dev/shm` in bytes.
pub const SHM_SIZE: u64 = 64 << 20;

/// The specification of a container that runs `sh` as root in namespaces of its own; whoever wants another container changes
/// it. The seccomp filter fits the capabilities of [`capabilities`]: when those are changed, it is to be made anew by
/// [`seccomp::Profile::resolve`].
#[must_use]
pub fn spec(host: &Host) -> Spec {
    let mut spec = unfiltered_spec(host);
    if let Some(linux) = spec.linux_mut() {
        linux.set_seccomp(Some(seccomp::Profile::docker().into_resolved(&capabilities(), host)));
    }
    spec
}

/// The same without a seccomp filter, for who sets one anyway.
#[must_use]
pub fn unfiltered_spec(host: &Host) -> Spec {
    let mut process = Process::default();
    process
        .set_terminal(Some(false))
        .set_user(User::default())
        .set_args(Some(vec!["sh".to_owned()]))
        .set_env(Some(vec![PATH.to_owned()]))
        .set_cwd(PathBuf::from("/"))
        .set_no_new_privileges(Some(false))
        .set_rlimits(None)
        .set_capabilities(Some(capability_sets(&capabilities())));
    let mut resources = LinuxResources::default();
    resources.set_devices(Some(device_rules()));
    let mut linux = Linux::default();
    linux
        .set_namespaces(Some(namespaces(host)))
        .set_resources(Some(resources))
        .set_masked_paths(Some(masked_paths(host)))
        .set_readonly_paths(Some(readonly_paths()))
        .set_devices(Some(Vec::new()))
        .set_seccomp(None);
    let mut root = Root::default();
    root.set_path(PathBuf::from("/")).set_readonly(Some(false));
    let mut spec = Spec::default();
    spec.set_version("1.2.1".to_owned())
        .set_hostname(None)
        .set_annotations(None)
        .set_root(Some(root))
        .set_mounts(Some(mounts(host)))
        .set_process(Some(process))
        .set_linux(Some(linux));
    spec
}

/// The 14 capabilities of a container.
#[must_use]
pub fn capabilities() -> Capabilities {
    use Capability as C;
    [
        C::AuditWrite,
        C::Chown,
        C::DacOverride,
        C::Fowner,
        C::Fsetid,
        C::Kill,
        C::Mknod,
        C::NetBindService,
        C::NetRaw,
        C::Setfcap,
        C::Setgid,
        C::Setpcap,
        C::Setuid,
        C::SysChroot,
    ]
    .into_iter()
    .collect()
}

/// `held` as bounding, permitted and effective set. The inheritable and ambient sets are empty, so that a process that is not
/// root holds nothing.
#[must_use]
pub fn capability_sets(held: &Capabilities) -> LinuxCapabilities {
    let mut sets = LinuxCapabilities::default();
    sets.set_bounding(Some(held.clone()))
        .set_permitted(Some(held.clone()))
        .set_effective(Some(held.clone()))
        .set_inheritable(None)
        .set_ambient(None);
    sets
}

/// New namespaces for everything but users and time.
#[must_use]
pub fn namespaces(host: &Host) -> Vec<LinuxNamespace> {
    use LinuxNamespaceType as N;
    let mut kinds = vec![N::Mount, N::Network, N::Uts, N::Pid, N::Ipc];
    if host.features.cgroup_namespace {
        kinds.push(N::Cgroup);
    }
    kinds
        .into_iter()
        .map(|kind| {
            let mut namespace = LinuxNamespace::default();
            namespace.set_typ(kind);
            namespace
        })
        .collect()
}

/// The file systems of the kernel that every container has. One that this machine lacks is left out.
#[must_use]
pub fn mounts(host: &Host) -> Vec<Mount> {
    let mut mounts = vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", &["ro", "nosuid", "noexec", "nodev"]),
    ];
    if host.features.mqueue {
        mounts.push(mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]));
    }
    mounts.push(shm(SHM_SIZE));
    mounts
}

/// `/dev/shm` of `size` bytes.
#[must_use]
pub fn shm(size: u64) -> Mount {
    mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", &format!("size={size}")])
}

fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> Mount {
    let mut mount = Mount::default();
    mount
        .set_destination(PathBuf::from(destination))
        .set_typ(Some(kind.to_owned()))
        .set_source(Some(PathBuf::from(source)))
        .set_options(Some(options.iter().map(|&option| option.to_owned()).collect()));
    mount
}

/// What a container must not see: it tells of the host or of other containers.
#[must_use]
pub fn masked_paths(host: &Host) -> Vec<String> {
    let fixed = [
        "/proc/acpi",
        "/proc/asound",
        "/proc/interrupts",
        "/proc/kcore",
        "/proc/keys",
        "/proc/latency_stats",
        "/proc/sched_debug",
        "/proc/scsi",
        "/proc/timer_list",
        "/proc/timer_stats",
        "/sys/devices/virtual/powercap",
        "/sys/firmware",
    ];
    let throttles = host.throttled_cpus.iter().map(|cpu| format!("/sys/devices/system/cpu/cpu{cpu}/thermal_throttle"));
    fixed.into_iter().map(str::to_owned).chain(throttles).collect()
}

/// What a container may read and not write: it belongs to the whole machine.
#[must_use]
pub fn readonly_paths() -> Vec<String> {
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"].map(str::to_owned).to_vec()
}

/// The rules of the device controller: any node may be made, the harmless ones and the container's own terminals be opened.
#[must_use]
pub fn device_rules() -> Vec<LinuxDeviceCgroup> {
    use LinuxDeviceType as T;
    let mut rules = vec![device_rule(false, T::A, None, None, "rwm")];
    rules.extend([T::C, T::B].map(|kind| device_rule(true, kind, None, None, "m")));
    // null, zero, full, random, urandom; tty, console, ptmx.
    for (major, minors) in [(1, &[3, 5, 7, 8, 9][..]), (5, &[0, 1, 2][..])] {
        rules.extend(minors.iter().map(|minor| device_rule(true, T::C, Some(major), Some(*minor), "rwm")));
    }
    // The slaves of Unix98 terminals.
    rules.push(device_rule(true, T::C, Some(136), None, "rwm"));
    rules
}

/// The rule that a privileged container has instead: all devices.
#[must_use]
pub fn all_devices() -> Vec<LinuxDeviceCgroup> {
    vec![device_rule(true, LinuxDeviceType::A, None, None, "rwm")]
}

/// One rule; `None` stands for every number.
#[must_use]
pub fn device_rule(
    allow: bool,
    kind: LinuxDeviceType,
    major: Option<i64>,
    minor: Option<i64>,
    access: &str,
) -> LinuxDeviceCgroup {
    let mut rule = LinuxDeviceCgroup::default();
    rule.set_allow(allow).set_typ(Some(kind)).set_major(major).set_minor(minor).set_access(Some(access.to_owned()));
    rule
}
