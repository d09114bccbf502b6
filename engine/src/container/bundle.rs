//! From a config to what the runtime is told. Pure: whatever had to be looked up is given.

use std::path::{Path, PathBuf};

use engine_runtime::spec::{
    LinuxCpu, LinuxIdMapping, LinuxIdMappingBuilder, LinuxMemory, LinuxNamespace, LinuxNamespaceType as Namespace,
    LinuxPids, LinuxResources, Mount, PosixRlimit, PosixRlimitBuilder, PosixRlimitType, Spec,
};
use engine_runtime::{Bundle, Host, Output, Rootfs, Stdin, defaults};

use super::Error;
use super::config::{Config, overlay_environment};
use super::devices::Devices;
use super::host_config::Resources;
use super::id_map::IdRange;
use super::modes::{IpcMode, Lifetime, NamespaceMode, NetworkMode};
use super::mounts::{MountKind, MountPoint};
use super::record::Record;
use super::security::{self, Seccomp};
use super::{shipping, validate};
use crate::snapshot::Upper;

/// What a bundle is made of besides the record.
#[derive(Debug)]
pub(super) struct Surroundings<'a> {
    pub(super) host: &'a Host,
    /// The image's layers and what is above them.
    pub(super) overlay: Upper,
    /// Where `hosts`, `hostname` and `resolv.conf` lie.
    pub(super) files: PathBuf,
    /// Where the log lies.
    pub(super) log_directory: PathBuf,
    pub(super) log_name: String,
    /// Process whose network namespace is joined.
    pub(super) network_of: Option<u32>,
    /// Process whose pid namespace is joined.
    pub(super) pid_of: Option<u32>,
    /// Process whose namespace of shared memory is joined.
    pub(super) ipc_of: Option<u32>,
    pub(super) devices: Devices,
    /// The engine lets nothing gain privileges.
    pub(super) no_new_privileges: bool,
    /// Variables besides those of the config, which win.
    pub(super) variables: Vec<String>,
    /// Somebody attaches before the first byte.
    pub(super) wait_for_start: bool,
}

/// Says what the runtime shall do.
pub(super) fn bundle(record: &Record, around: Surroundings<'_>) -> Result<Bundle, Error> {
    let config = &record.config;
    let options = security::options(&config.host)?;
    let mut spec = defaults::unfiltered_spec(around.host);
    let held = security::capability_set(&config.host, around.host)?;
    set_process(&mut spec, config, options.no_new_privileges || around.no_new_privileges);
    if let Some(process) = spec.process_mut() {
        if !around.variables.is_empty() {
            let mut environment = around.variables.clone();
            overlay_environment(&mut environment, process.env().as_deref().unwrap_or_default());
            process.set_env(Some(environment));
        }
        process.set_capabilities(Some(defaults::capability_sets(&held)));
    }
    let own_names = !matches!(config.host.uts_mode, NamespaceMode::Host);
    spec.set_hostname(Some(config.hostname.clone()).filter(|name| own_names && !name.is_empty()));
    spec.set_domainname(Some(config.domainname.clone()).filter(|name| own_names && !name.is_empty()));
    if !config.host.annotations.is_empty() {
        spec.set_annotations(Some(config.host.annotations.clone().into_iter().collect()));
    }
    if let Some(root) = spec.root_mut() {
        root.set_readonly(Some(config.host.readonly_rootfs));
    }
    set_mounts(&mut spec, config, &record.mounts, &around.files);
    if let Some(linux) = spec.linux_mut() {
        linux.set_namespaces(Some(namespaces(config, &around)));
        linux.set_seccomp(match &options.seccomp {
            Seccomp::Unconfined | Seccomp::Builtin => None,
            Seccomp::Own(profile) => Some(profile.resolve(&held, around.host)),
        });
        let unconfined = security::system_paths_unconfined(&config.host);
        let paths = |asked: &Option<Vec<String>>, default: Vec<String>| match asked {
            _ if unconfined => Vec::new(),
            Some(paths) => paths.clone(),
            None => default,
        };
        linux.set_masked_paths(Some(paths(&config.host.masked_paths, defaults::masked_paths(around.host))));
        linux.set_readonly_paths(Some(paths(&config.host.readonly_paths, defaults::readonly_paths())));
        linux.set_sysctl(Some(sysctls(config).into_iter().collect()));
        let mut resources = resources(&config.host.resources);
        let mut rules = if config.host.privileged { defaults::all_devices() } else { defaults::device_rules() };
        rules.extend(around.devices.rules);
        resources.set_devices(Some(rules));
        resources.set_block_io(around.devices.block_io);
        linux.set_resources(Some(resources));
        linux.set_devices(Some(around.devices.nodes));
        if !config.host.cgroup_parent.is_empty() {
            linux.set_cgroups_path(Some(Path::new(&config.host.cgroup_parent).join(record.id.as_str())));
        }
    }
    let rootfs = Rootfs::Overlay {
        lower: around.overlay.lower,
        upper: around.overlay.upper,
        work: around.overlay.work,
        volatile: config.host.auto_remove,
    };
    let mut bundle = Bundle::new(record.id.as_str(), spec, rootfs);
    bundle.docker_filter = options.seccomp == Seccomp::Builtin;
    bundle.stdin = if config.open_stdin { Stdin::Open { once: config.stdin_once } } else { Stdin::Null };
    bundle.output = match config.host.log.driver.as_str() {
        "none" => Output::AttachOnly,
        _ => {
            let bounds = validate::log_bounds(config)?;
            Output::JsonLog {
                directory: around.log_directory,
                name: around.log_name,
                max_size: bounds.size,
                max_age: u64::try_from(bounds.age.as_nanos()).unwrap_or(0),
                max_files: bounds.files,
                attributes: shipping::record_attributes(record)?,
            }
        }
    };
    bundle.terminal_size = config.host.console_size.filter(|size| *size != (0, 0));
    bundle.tasks_die_with_launcher = config.lifetime == Lifetime::Engine;
    bundle.user = Some(config.user.clone()).filter(|user| !user.is_empty());
    bundle.additional_groups.clone_from(&config.host.group_add);
    bundle.make_working_directory = true;
    bundle.init = config.host.init == Some(true);
    bundle.wait_for_start = around.wait_for_start;
    Ok(bundle)
}

fn set_process(spec: &mut Spec, config: &Config, no_new_privileges: bool) {
    let Some(process) = spec.process_mut() else { return };
    let (program, arguments) = config.process();
    let mut words = vec![program.to_owned()];
    words.extend(arguments.into_iter().map(str::to_owned));
    let mut limits: Vec<PosixRlimit> = Vec::new();
    for limit in config.host.ulimits.iter().filter_map(rlimit) {
        // Of two for one resource the last one counts.
        limits.retain(|other| other.typ() != limit.typ());
        limits.push(limit);
    }
    process
        .set_terminal(Some(config.tty))
        .set_args(Some(words))
        .set_env(Some(config.environment()))
        .set_cwd(PathBuf::from(if config.working_dir.is_empty() { "/" } else { &config.working_dir }))
        .set_no_new_privileges(Some(no_new_privileges))
        .set_rlimits(Some(limits).filter(|limits| !limits.is_empty()))
        // Said even when it is 0, because the engine's own may be another.
        .set_oom_score_adj(Some(config.host.oom_score_adj));
}

fn rlimit(ulimit: &crate::settings::Ulimit) -> Option<PosixRlimit> {
    use PosixRlimitType as R;
    let kind = match ulimit.name.as_str() {
        "core" => R::RlimitCore,
        "cpu" => R::RlimitCpu,
        "data" => R::RlimitData,
        "fsize" => R::RlimitFsize,
        "locks" => R::RlimitLocks,
        "memlock" => R::RlimitMemlock,
        "msgqueue" => R::RlimitMsgqueue,
        "nice" => R::RlimitNice,
        "nofile" => R::RlimitNofile,
        "nproc" => R::RlimitNproc,
        "rss" => R::RlimitRss,
        "rtprio" => R::RlimitRtprio,
        "rttime" => R::RlimitRttime,
        "sigpending" => R::RlimitSigpending,
        "stack" => R::RlimitStack,
        // Refused at create.
        _ => return None,
    };
    let number = |value: i64| u64::try_from(value).unwrap_or(u64::MAX);
    PosixRlimitBuilder::default().typ(kind).soft(number(ulimit.soft)).hard(number(ulimit.hard)).build().ok()
}

fn namespaces(config: &Config, around: &Surroundings<'_>) -> Vec<LinuxNamespace> {
    let host = &config.host;
    let of = |process: Option<u32>, kind: &str| process.map(|pid| PathBuf::from(format!("/proc/{pid}/ns/{kind}")));
    let mut namespaces = Vec::new();
    for mut namespace in defaults::namespaces(around.host) {
        let kept = match namespace.typ() {
            Namespace::Network => {
                namespace.set_path(of(around.network_of, "net"));
                host.network_mode != NetworkMode::Host
            }
            Namespace::Pid => {
                namespace.set_path(of(around.pid_of, "pid"));
                host.pid_mode != NamespaceMode::Host
            }
            Namespace::Ipc => {
                namespace.set_path(of(around.ipc_of, "ipc"));
                host.ipc_mode != IpcMode::Host
            }
            Namespace::Uts => host.uts_mode != NamespaceMode::Host,
            Namespace::Cgroup => host.cgroupns_mode != NamespaceMode::Host,
            _ => true,
        };
        if kept {
            namespaces.push(namespace);
        }
    }
    namespaces
}

/// The kernel's file systems, the three files of names, then what was asked for.
fn set_mounts(spec: &mut Spec, config: &Config, asked: &[MountPoint], files: &Path) {
    let host = &config.host;
    let taken = |path: &Path| asked.iter().any(|mount| Path::new(&mount.destination) == path);
    let mut mounts: Vec<Mount> = spec.mounts().clone().unwrap_or_default();
    mounts.retain(|mount| !taken(mount.destination()));
    let shm = Path::new("/dev/shm");
    mounts.retain(|mount| mount.destination() != shm);
    if !taken(shm) {
        match host.ipc_mode {
            IpcMode::None => {}
            IpcMode::Host | IpcMode::Container(_) => {
                mounts.push(bind("/dev/shm".as_ref(), "/dev/shm", &["rbind", "rprivate"]));
            }
            _ => mounts.push(defaults::shm(host.shm_size)),
        }
    }
    // Who is privileged manages the host's devices and cgroups.
    for (path, writable) in [("/sys", host.privileged), ("/sys/fs/cgroup", security::writes_cgroups(host))] {
        for mount in mounts.iter_mut().filter(|mount| writable && mount.destination() == Path::new(path)) {
            let options = mount.options().iter().flatten().filter(|option| *option != "ro").cloned().collect();
            mount.set_options(Some(options));
        }
    }
    let access = if host.readonly_rootfs { "ro" } else { "rw" };
    for (name, path) in [("resolv.conf", "/etc/resolv.conf"), ("hostname", "/etc/hostname"), ("hosts", "/etc/hosts")] {
        if !taken(Path::new(path)) {
            mounts.push(bind(&files.join(name), path, &["bind", "rprivate", access]));
        }
    }
    mounts.extend(asked.iter().map(mount));
    spec.set_mounts(Some(mounts));
}

fn bind(source: &Path, destination: &str, options: &[&str]) -> Mount {
    let mut mount = Mount::default();
    mount
        .set_destination(PathBuf::from(destination))
        .set_typ(Some("bind".to_owned()))
        .set_source(Some(source.to_owned()))
        .set_options(Some(options.iter().map(|&option| option.to_owned()).collect()));
    mount
}

fn mount(point: &MountPoint) -> Mount {
    // What the host has mounted read-only stays so: one that is writable has no word for it.
    let access = match (point.writable, point.read_only_non_recursive) {
        (true, _) => None,
        (false, true) => Some("ro"),
        (false, false) => Some("rro"),
    };
    match point.kind {
        MountKind::Bind | MountKind::Volume | MountKind::Image => {
            let reach = if point.non_recursive { "bind" } else { "rbind" };
            // The source of an image is at hand; its name is none of the host's.
            let source = if point.kind == MountKind::Image { "/" } else { &point.source };
            let mut options = vec![reach, point.propagation.as_str()];
            options.extend(access);
            if point.id_map.is_some() {
                options.push(if point.non_recursive { "idmap" } else { "ridmap" });
            }
            let mut mount = bind(Path::new(source), &point.destination, &options);
            let Some(map) = &point.id_map else { return mount };
            let ranges = |all: &[IdRange]| Some(all.iter().map(id_mapping).collect());
            mount.set_uid_mappings(ranges(map.users())).set_gid_mappings(ranges(map.groups()));
            mount
        }
        MountKind::Tmpfs => {
            let mut options = point.options.clone();
            options.push(if point.writable { "rw" } else { "ro" }.to_owned());
            let mut mount = Mount::default();
            mount
                .set_destination(PathBuf::from(&point.destination))
                .set_typ(Some("tmpfs".to_owned()))
                .set_source(Some(PathBuf::from("tmpfs")))
                .set_options(Some(options));
            mount
        }
    }
}

/// A mount is seen through a user namespace: what is on the disk is inside, what is shown is outside.
fn id_mapping(range: &IdRange) -> LinuxIdMapping {
    let builder = LinuxIdMappingBuilder::default();
    // It lacks nothing, so it is built.
    builder.container_id(range.stored).host_id(range.shown).size(range.count).build().unwrap_or_default()
}

/// Docker lets everybody in a container of its own network ping and listen on low ports.
fn sysctls(config: &Config) -> Vec<(String, String)> {
    let host = &config.host;
    let mut all = Vec::new();
    if !matches!(host.network_mode, NetworkMode::Host | NetworkMode::Container(_)) && !host.privileged {
        for (name, value) in
            [("net.ipv4.ip_unprivileged_port_start", "0"), ("net.ipv4.ping_group_range", "0 2147483647")]
        {
            if !host.sysctls.contains_key(name) {
                all.push((name.to_owned(), value.to_owned()));
            }
        }
    }
    all.extend(host.sysctls.clone());
    all
}

pub(super) fn resources(asked: &Resources) -> LinuxResources {
    let positive = |value: i64| Some(value).filter(|value| *value > 0);
    let mut resources = LinuxResources::default();
    if asked.memory > 0
        || asked.memory_reservation > 0
        || asked.memory_swap != 0
        || asked.memory_swappiness.is_some()
        || asked.oom_kill_disable
    {
        let mut memory = LinuxMemory::default();
        memory
            .set_limit(positive(asked.memory))
            .set_reservation(positive(asked.memory_reservation))
            .set_swap(Some(asked.memory_swap).filter(|swap| *swap != 0))
            .set_swappiness(asked.memory_swappiness.and_then(|value| u64::try_from(value).ok()))
            .set_disable_oom_killer(Some(true).filter(|_| asked.oom_kill_disable));
        resources.set_memory(Some(memory));
    }
    let (mut quota, mut period) = (asked.cpu_quota, asked.cpu_period);
    if asked.nano_cpus > 0 {
        period = 100_000;
        quota = (asked.nano_cpus / 10_000).max(1000);
    }
    if asked.cpu_shares > 0
        || quota != 0
        || period != 0
        || !asked.cpuset_cpus.is_empty()
        || !asked.cpuset_mems.is_empty()
        || asked.cpu_realtime_period > 0
        || asked.cpu_realtime_runtime != 0
    {
        let mut cpu = LinuxCpu::default();
        let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        cpu.set_shares(u64::try_from(asked.cpu_shares).ok().filter(|shares| *shares > 0))
            .set_quota(Some(quota).filter(|quota| *quota != 0))
            .set_period(u64::try_from(period).ok().filter(|period| *period > 0))
            .set_realtime_period(u64::try_from(asked.cpu_realtime_period).ok().filter(|period| *period > 0))
            .set_realtime_runtime(Some(asked.cpu_realtime_runtime).filter(|runtime| *runtime != 0))
            .set_cpus(text(&asked.cpuset_cpus))
            .set_mems(text(&asked.cpuset_mems));
        resources.set_cpu(Some(cpu));
    }
    if let Some(limit) = asked.pids_limit.filter(|limit| *limit != 0) {
        let mut pids = LinuxPids::default();
        pids.set_limit(if limit < 0 { -1 } else { limit });
        resources.set_pids(Some(pids));
    }
    resources
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::container::config::decide;
    use crate::container::mount_plan;
    use crate::container::status::ContainerState;
    use crate::container::{ContainerSpec, HostConfig, MountSpec};
    use crate::id::ContainerId;
    use crate::settings::{Bytes, Settings, Ulimit};

    fn made(spec: ContainerSpec) -> (Bundle, Host) {
        let host = Host::probe().unwrap();
        let config = decide(spec, &Default::default(), &Settings::default(), "0123456789ab").unwrap();
        let mounts = mount_plan::plan(&config).unwrap().into_iter().map(|planned| planned.point).collect();
        let record = Record {
            id: ContainerId::random(),
            name: "web".to_owned(),
            created_at: 1,
            image: format!("sha256:{}", "1".repeat(64)).parse().unwrap(),
            platform: String::new(),
            layers: Vec::new(),
            owner: String::new(),
            outside: None,
            config,
            mounts,
            endpoints: Vec::new(),
            state: ContainerState::default(),
            restart_count: 0,
            health: None,
        };
        let around = Surroundings {
            host: &host,
            overlay: Upper { lower: vec!["/l".into()], upper: "/u".into(), work: "/w".into() },
            files: "/files".into(),
            log_directory: "/logs".into(),
            log_name: "log".to_owned(),
            network_of: None,
            pid_of: Some(7),
            ipc_of: None,
            devices: Devices::default(),
            no_new_privileges: false,
            variables: Vec::new(),
            wait_for_start: false,
        };
        let bundle = bundle(&record, around).unwrap();
        engine_runtime::plan::compile(&bundle, &host).unwrap();
        (bundle, host)
    }

    fn destinations(bundle: &Bundle) -> Vec<String> {
        let mounts = bundle.spec.mounts().iter().flatten();
        mounts.map(|mount| mount.destination().display().to_string()).collect()
    }

    #[test]
    fn a_plain_container_has_dockers_defaults() {
        let (bundle, host) = made(ContainerSpec::new("i").command(["echo", "hi"]));
        let process = bundle.spec.process().as_ref().unwrap();
        assert_eq!(process.args().as_deref(), Some(&["echo".to_owned(), "hi".to_owned()][..]));
        assert_eq!(bundle.spec.hostname().as_deref(), Some("0123456789ab"));
        let linux = bundle.spec.linux().as_ref().unwrap();
        assert_eq!(linux.namespaces().as_ref().unwrap().len(), defaults::namespaces(&host).len());
        assert!(bundle.docker_filter && linux.seccomp().is_none());
        assert!(linux.masked_paths().iter().flatten().any(|path| path == "/proc/kcore"));
        let shown = destinations(&bundle);
        for path in ["/proc", "/dev/shm", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf"] {
            assert!(shown.iter().any(|shown| shown == path), "{path}");
        }
        assert!(matches!(bundle.output, Output::JsonLog { max_size: 20_971_520, max_files: 5, .. }));
        assert!(bundle.tasks_die_with_launcher);
    }

    #[test]
    fn a_privileged_container_sees_the_machine() {
        let (bundle, host) = made(ContainerSpec::new("i").command(["sh"]).privileged(true));
        let linux = bundle.spec.linux().as_ref().unwrap();
        assert!(!bundle.docker_filter && linux.seccomp().is_none());
        assert_eq!(linux.masked_paths().as_ref().map(Vec::len), Some(0));
        assert!(!linux.namespaces().iter().flatten().any(|namespace| namespace.typ() == Namespace::Cgroup));
        let sys = bundle.spec.mounts().iter().flatten().find(|mount| mount.destination() == Path::new("/sys")).unwrap();
        assert!(!sys.options().iter().flatten().any(|option| option == "ro"));
        let process = bundle.spec.process().as_ref().unwrap();
        let bounding = process.capabilities().as_ref().unwrap().bounding().clone().unwrap();
        assert_eq!(engine_runtime::capabilities::mask(&bounding), host.bounding);
    }

    #[test]
    fn what_is_shared_with_the_host_is_no_namespace() {
        let mut spec = ContainerSpec::new("i").command(["sh"]).network(NetworkMode::Host);
        spec.host.pid_mode = NamespaceMode::Container("other".to_owned());
        spec.host.ipc_mode = IpcMode::Host;
        spec.host.uts_mode = NamespaceMode::Host;
        let (bundle, _) = made(spec);
        let linux = bundle.spec.linux().as_ref().unwrap();
        let namespaces = linux.namespaces().as_ref().unwrap();
        for shared in [Namespace::Network, Namespace::Ipc, Namespace::Uts] {
            assert!(!namespaces.iter().any(|namespace| namespace.typ() == shared), "{shared}");
        }
        let pid = namespaces.iter().find(|namespace| namespace.typ() == Namespace::Pid).unwrap();
        assert_eq!(pid.path().as_deref(), Some(Path::new("/proc/7/ns/pid")));
        assert_eq!(*bundle.spec.hostname(), None);
        assert!(linux.sysctl().as_ref().is_none_or(|sysctls| sysctls.is_empty()));
    }

    #[test]
    fn asked_mounts_take_the_place_of_the_engines_own() {
        let spec = ContainerSpec::new("i")
            .command(["sh"])
            .bind("/h:/etc/hosts:ro")
            .tmpfs("/dev/shm", "size=1m")
            .mount(MountSpec::bind("/b", "/b"))
            .readonly_rootfs(true);
        let (bundle, _) = made(spec);
        let shown = destinations(&bundle);
        assert_eq!(shown.iter().filter(|path| *path == "/etc/hosts").count(), 1);
        assert_eq!(shown.iter().filter(|path| *path == "/dev/shm").count(), 1);
        let options = |path: &str| {
            let mount =
                bundle.spec.mounts().iter().flatten().find(|mount| mount.destination() == Path::new(path)).unwrap();
            mount.options().as_ref().unwrap().join(",")
        };
        assert_eq!(options("/etc/hosts"), "rbind,rprivate,rro");
        assert_eq!(options("/etc/hostname"), "bind,rprivate,ro");
        assert_eq!(options("/b"), "rbind,rprivate");
        assert_eq!(bundle.spec.root().as_ref().unwrap().readonly(), Some(true));
    }

    #[test]
    fn bounds_become_resources() {
        let spec = ContainerSpec::new("i")
            .command(["sh"])
            .memory(Bytes::mib(64))
            .nano_cpus(1_500_000_000)
            .pids_limit(-1)
            .ulimit(Ulimit::new("nofile", 5, 5))
            .ulimit(Ulimit::new("nofile", 10, -1));
        let (bundle, _) = made(spec);
        let linux = bundle.spec.linux().as_ref().unwrap();
        let resources = linux.resources().as_ref().unwrap();
        let memory = resources.memory().as_ref().unwrap();
        assert_eq!((memory.limit(), memory.swap()), (Some(64 << 20), Some(128 << 20)));
        let cpu = resources.cpu().as_ref().unwrap();
        assert_eq!((cpu.quota(), cpu.period()), (Some(150_000), Some(100_000)));
        assert_eq!(resources.pids().as_ref().unwrap().limit(), -1);
        let limits = bundle.spec.process().as_ref().unwrap().rlimits().as_ref().unwrap();
        assert_eq!((limits[0].soft(), limits[0].hard(), limits.len()), (10, u64::MAX, 1), "the last one counts");
    }

    #[test]
    fn shares_of_nothing_are_nothing() {
        let none = resources(&HostConfig::default().resources);
        assert!(none.memory().is_none() && none.cpu().is_none() && none.pids().is_none());
    }
}
