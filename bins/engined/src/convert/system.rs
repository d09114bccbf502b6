//! What the daemon tells about itself and the host.

use std::collections::BTreeMap;

use engine::Settings;
use engine::container::{Abilities, Record, Status};
use engine::network::Notice;
use engine_api::system as wire;
use engine_api::version::{ApiVersion, MAX, MIN};
use rustix::system::{sysinfo, uname};

use super::time;
use crate::version::Gates;

/// How many of what there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    running: i64,
    paused: i64,
    stopped: i64,
    images: i64,
}

impl Counts {
    pub(crate) fn of<'a>(records: impl Iterator<Item = &'a Record>, images: usize) -> Self {
        let mut counts = Self { images: i64::try_from(images).unwrap_or(i64::MAX), ..Self::default() };
        for record in records {
            match record.state.status {
                Status::Running | Status::Restarting => counts.running += 1,
                Status::Paused => counts.paused += 1,
                _ => counts.stopped += 1,
            }
        }
        counts
    }
}

/// What the host says.
#[derive(Debug, Clone, Default)]
pub(crate) struct Host {
    kernel: String,
    machine: String,
    name: String,
    system: String,
    system_version: String,
    cpus: i64,
    memory: i64,
    forwarding: bool,
    descriptors: i64,
    /// The host has cgroups of version 2 only.
    v2: bool,
}

impl Host {
    pub(crate) fn look() -> Self {
        let uname = uname();
        let text = |name: &std::ffi::CStr| name.to_string_lossy().into_owned();
        let release = std::fs::read_to_string("/etc/os-release")
            .or_else(|_| std::fs::read_to_string("/usr/lib/os-release"))
            .unwrap_or_default();
        let memory = sysinfo();
        let v2 = std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
        Self {
            kernel: text(uname.release()),
            machine: text(uname.machine()),
            name: text(uname.nodename()),
            system: release_field(&release, "PRETTY_NAME").unwrap_or_else(|| "Linux".to_owned()),
            system_version: release_field(&release, "VERSION_ID").unwrap_or_default(),
            cpus: std::thread::available_parallelism().map_or(1, |count| i64::try_from(count.get()).unwrap_or(1)),
            memory: i64::try_from(u64::from(memory.mem_unit).saturating_mul(memory.totalram)).unwrap_or(i64::MAX),
            forwarding: std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").is_ok_and(|text| text.trim() == "1"),
            descriptors: std::fs::read_dir("/proc/self/fd")
                .map_or(0, |files| i64::try_from(files.count()).unwrap_or(0)),
            v2,
        }
    }
}

fn release_field(text: &str, name: &str) -> Option<String> {
    text.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix('=')?.trim_matches(['"', '\'']).to_owned()))
}

/// `/version`
pub(crate) fn version(experimental: bool) -> wire::VersionInfo {
    let uname = uname();
    let kernel = uname.release().to_string_lossy().into_owned();
    let release = env!("CARGO_PKG_VERSION").to_owned();
    let details = BTreeMap::from(
        [
            ("ApiVersion", MAX.to_string()),
            ("Arch", arch(&uname.machine().to_string_lossy())),
            ("BuildTime", String::new()),
            ("Experimental", experimental.to_string()),
            ("GitCommit", String::new()),
            ("GoVersion", String::new()),
            ("KernelVersion", kernel.clone()),
            ("MinAPIVersion", MIN.to_string()),
            ("Os", "linux".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value)),
    );
    wire::VersionInfo {
        platform: wire::PlatformName { name: "Engine".to_owned() },
        components: vec![wire::Component { name: "Engine".to_owned(), version: release.clone(), details }],
        version: release,
        api_version: MAX.to_string(),
        min_api_version: MIN.to_string(),
        os: "linux".to_owned(),
        arch: arch(&uname.machine().to_string_lossy()),
        kernel_version: kernel,
        experimental,
        ..wire::VersionInfo::default()
    }
}

/// Go's word for a machine.
fn arch(machine: &str) -> String {
    match machine {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
    .to_owned()
}

/// All that `/info` is made of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct About<'a> {
    pub(crate) id: &'a str,
    pub(crate) settings: &'a Settings,
    pub(crate) debug: bool,
    pub(crate) host: &'a Host,
    pub(crate) counts: Counts,
    pub(crate) abilities: &'a Abilities,
    pub(crate) notices: &'a [Notice],
    /// Devices that containers can be given by name.
    pub(crate) devices: &'a [String],
    /// Who reads events.
    pub(crate) readers: usize,
    /// There are checkpoints.
    pub(crate) experimental: bool,
}

/// `/info`
pub(crate) fn info(about: &About<'_>, version: ApiVersion) -> wire::SystemInfo {
    let About { id, settings, debug, host, counts, abilities, notices, devices, readers, experimental } = *about;
    let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
    let strings = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let v2 = host.v2;
    wire::SystemInfo {
        id: id.to_owned(),
        experimental_build: experimental,
        containers: counts.running + counts.paused + counts.stopped,
        containers_running: counts.running,
        containers_paused: counts.paused,
        containers_stopped: counts.stopped,
        images: counts.images,
        driver: "overlay2".to_owned(),
        driver_status: driver_status(settings),
        http_proxy: proxy(settings.registry.proxy.http.as_deref()),
        https_proxy: proxy(settings.registry.proxy.https.as_deref()),
        no_proxy: settings.registry.proxy.exceptions.join(","),
        plugins: wire::PluginsInfo {
            volume: strings(&["local"]),
            network: strings(&["bridge", "host", "ipvlan", "macvlan", "null"]),
            authorization: None,
            log: strings(&["fluentd", "gelf", "journald", "json-file", "local", "none", "syslog"]),
        },
        memory_limit: abilities.memory,
        swap_limit: abilities.swap,
        cpu_cfs_period: abilities.cpu_quota,
        cpu_cfs_quota: abilities.cpu_quota,
        cpu_shares: abilities.cpu_shares,
        cpu_set: abilities.cpuset,
        pids_limit: abilities.pids,
        oom_kill_disable: abilities.oom_kill_disable,
        warnings: Some(warnings(abilities, v2, host.forwarding, notices)).filter(|warnings| !warnings.is_empty()),
        ipv4_forwarding: host.forwarding,
        bridge_nf_iptables: version.has_bridge_netfilter().then_some(false),
        bridge_nf_ip6tables: version.has_bridge_netfilter().then_some(false),
        debug,
        nfd: host.descriptors,
        ngoroutines: tokio::runtime::Handle::try_current()
            .map_or(0, |runtime| count(runtime.metrics().num_alive_tasks())),
        nevents_listener: count(readers),
        system_time: time::rfc3339(time::now()),
        logging_driver: settings.log.driver.clone(),
        cgroup_driver: "cgroupfs".to_owned(),
        cgroup_version: if v2 { "2" } else { "1" }.to_owned(),
        kernel_version: host.kernel.clone(),
        operating_system: host.system.clone(),
        os_version: host.system_version.clone(),
        os_type: "linux".to_owned(),
        architecture: host.machine.clone(),
        index_server_address: "https://index.docker.io/v1/".to_owned(),
        registry_config: registries(settings, version),
        ncpu: host.cpus,
        mem_total: host.memory,
        docker_root_dir: settings.root.to_string_lossy().into_owned(),
        name: host.name.clone(),
        labels: settings.labels.clone(),
        server_version: env!("CARGO_PKG_VERSION").to_owned(),
        cdi_spec_dirs: settings.cdi_directories.iter().map(|path| path.to_string_lossy().into_owned()).collect(),
        discovered_devices: discovered(devices, version),
        runtimes: runtimes(settings),
        default_runtime: settings.default_runtime.clone().unwrap_or_else(|| "runc".to_owned()),
        swarm: wire::SwarmInfo { local_node_state: "inactive".to_owned(), ..wire::SwarmInfo::default() },
        live_restore_enabled: true,
        containerd_commit: commit(version),
        runc_commit: commit(version),
        init_commit: commit(version),
        security_options: if version.has_security_details() {
            strings(&["name=seccomp,profile=builtin", "name=cgroupns"])
        } else {
            strings(&["seccomp", "cgroupns"])
        },
        default_address_pools: settings
            .address_pools
            .iter()
            .map(|pool| wire::AddressPool {
                base: format!("{}/{}", pool.base, pool.prefix_len),
                size: pool.subnet_len.into(),
            })
            .chain(settings.address_pools_v6.iter().map(|pool| wire::AddressPool {
                base: format!("{}/{}", pool.base, pool.prefix_len),
                size: pool.subnet_len.into(),
            }))
            .collect(),
        firewall_backend: (version.has_firewall() && settings.firewall)
            .then(|| wire::FirewallInfo { driver: "nftables".to_owned(), info: Vec::new() }),
        ..wire::SystemInfo::default()
    }
}

fn discovered(devices: &[String], version: ApiVersion) -> Vec<wire::DeviceInfo> {
    let devices = devices.iter().filter(|_| version.has_discovered_devices());
    devices.map(|name| wire::DeviceInfo { source: "cdi".to_owned(), id: name.clone() }).collect()
}

/// How images are kept.
fn driver_status(settings: &Settings) -> Vec<[String; 2]> {
    let mut status = vec![["Layers".to_owned(), "unpacked once, shared by digest".to_owned()]];
    status.extend(settings.room.quota.map(|quota| ["Image quota".to_owned(), format!("{quota} bytes")]));
    status
}

/// The address of a proxy without the name and the password in it.
fn proxy(address: Option<&str>) -> String {
    let address = address.unwrap_or_default();
    let (scheme, rest) = address.split_at(address.find("://").map_or(0, |at| at + 3));
    match rest.rsplit_once('@') {
        Some((_, rest)) => format!("{scheme}xxxxx:xxxxx@{rest}"),
        None => address.to_owned(),
    }
}

/// The engine's own runtime by the names that it is known by, and those of the host.
fn runtimes(settings: &Settings) -> BTreeMap<String, wire::Runtime> {
    let own = ["engine", "io.containerd.runc.v2", "runc"].map(|name| (name.to_owned(), wire::Runtime::default()));
    let configured = settings
        .runtimes
        .iter()
        .map(|(name, of)| (name.clone(), wire::Runtime { path: of.path.clone(), runtime_args: of.arguments.clone() }));
    own.into_iter().chain(configured).collect()
}

/// What containers cannot be bounded by on this machine, in Docker's words, and what there is to know of its networks.
fn warnings(abilities: &Abilities, v2: bool, forwarding: bool, notices: &[Notice]) -> Vec<String> {
    let rates = if v2 {
        ["io.max (rbps)", "io.max (wbps)", "io.max (riops)", "io.max (wiops)"]
    } else {
        [
            "blkio throttle.read_bps_device",
            "blkio throttle.write_bps_device",
            "blkio throttle.read_iops_device",
            "blkio throttle.write_iops_device",
        ]
    };
    let (weight, weight_device) =
        if v2 { ("io.weight", "io.weight (per device)") } else { ("blkio weight", "blkio weight_device") };
    let bounds = [
        (abilities.memory, "memory limit"),
        (abilities.swap, "swap limit"),
        (abilities.oom_kill_disable || v2, "oom kill disable"),
        (abilities.cpu_quota, "cpu cfs quota"),
        (abilities.cpu_quota, "cpu cfs period"),
        (abilities.cpu_shares, "cpu shares"),
        (abilities.cpuset, "cpuset"),
        (abilities.io_weight, weight),
        (abilities.io_weight_device, weight_device),
    ];
    let mut warnings: Vec<String> = bounds
        .into_iter()
        .chain(rates.map(|rate| (abilities.io_rate, rate)))
        .filter(|(there, _)| !there)
        .map(|(_, what)| format!("WARNING: No {what} support"))
        .collect();
    if !forwarding {
        warnings.push("WARNING: IPv4 forwarding is disabled".to_owned());
    }
    warnings.extend(notices.iter().map(|notice| format!("WARNING: {notice}")));
    warnings
}

/// The parts of Docker that there are none of here.
fn commit(version: ApiVersion) -> wire::Commit {
    wire::Commit { id: String::new(), expected: version.has_expected_commits().then(String::new) }
}

fn registries(settings: &Settings, version: ApiVersion) -> wire::RegistryConfig {
    let registry = &settings.registry;
    let (networks, names): (Vec<_>, Vec<_>) =
        registry.insecure.iter().cloned().partition(|registry| registry.contains('/'));
    let mut index_configs: BTreeMap<String, wire::IndexConfig> = names
        .into_iter()
        .map(|name| (name.clone(), wire::IndexConfig { name, ..wire::IndexConfig::default() }))
        .chain([("docker.io".to_owned(), wire::IndexConfig { official: true, ..secure("docker.io") })])
        .collect();
    let mut mirrors = Vec::new();
    for mirror in &registry.mirrors {
        // `registry=address` is a mirror of another registry than Docker Hub.
        let (of, address) = mirror.split_once('=').filter(|(of, _)| !of.contains('/')).unwrap_or(("docker.io", mirror));
        index_configs.entry(of.to_owned()).or_insert_with(|| secure(of)).mirrors.push(address.to_owned());
        if of == "docker.io" {
            mirrors.push(address.to_owned());
        }
    }
    let foreign = version.has_expected_commits().then(Vec::new);
    wire::RegistryConfig {
        allow_nondistributable_artifacts_cidrs: foreign.clone(),
        allow_nondistributable_artifacts_hostnames: foreign,
        insecure_registry_cidrs: ["127.0.0.0/8", "::1/128"].map(str::to_owned).into_iter().chain(networks).collect(),
        index_configs,
        mirrors: Some(mirrors),
    }
}

fn secure(registry: &str) -> wire::IndexConfig {
    wire::IndexConfig { name: registry.to_owned(), secure: true, ..wire::IndexConfig::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_read_from_its_files() {
        assert_eq!(release_field("NAME=x\nPRETTY_NAME=\"Debian 13\"\n", "PRETTY_NAME").as_deref(), Some("Debian 13"));
        assert_eq!(release_field("NAME=x\n", "PRETTY_NAME"), None);
    }

    #[test]
    fn info_has_what_clients_rely_on() {
        let (settings, host, abilities) = (Settings::default(), Host::default(), Abilities::default());
        let counts = Counts { running: 1, paused: 2, stopped: 3, images: 4 };
        let about = About {
            id: "id",
            settings: &settings,
            debug: false,
            host: &host,
            counts,
            abilities: &abilities,
            notices: &[],
            devices: &["vendor.example/gpu=0".to_owned()],
            readers: 2,
            experimental: false,
        };
        let info = info(&about, MAX);
        assert_eq!((info.discovered_devices[0].id.as_str(), info.nevents_listener), ("vendor.example/gpu=0", 2));
        assert_eq!(info.driver_status.len(), 1);
        let bounded = Settings::default().room(engine::settings::RoomSettings::quota(5));
        assert_eq!(driver_status(&bounded)[1], ["Image quota", "5 bytes"]);
        assert_eq!((info.containers, info.images, info.swarm.local_node_state.as_str()), (6, 4, "inactive"));
        assert_eq!(info.index_server_address, "https://index.docker.io/v1/");
        assert!(info.registry_config.index_configs["docker.io"].official);
        assert_eq!((info.runc_commit.expected, info.bridge_nf_iptables), (None, None));
        let old = super::info(&about, MIN);
        assert_eq!((old.runc_commit.expected.as_deref(), old.bridge_nf_iptables), (Some(""), Some(false)));
        assert_eq!(
            (old.security_options, old.discovered_devices.len()),
            (vec!["seccomp".into(), "cgroupns".into()], 0)
        );
    }

    #[test]
    fn mirrors_and_insecure_registries_are_shown_with_what_they_are_for() {
        let registry = engine::settings::RegistrySettings::default()
            .mirror("https://hub.example")
            .mirror("registry.example=https://mirror.example")
            .mirror("lab:5000=http://other.example")
            .insecure("lab:5000")
            .insecure("10.0.0.0/8");
        let shown = registries(&Settings::default().registry(registry), MAX);
        assert_eq!(shown.mirrors.as_deref(), Some(&["https://hub.example".to_owned()][..]));
        assert_eq!(shown.insecure_registry_cidrs, ["127.0.0.0/8", "::1/128", "10.0.0.0/8"]);
        let of = |name: &str| shown.index_configs[name].clone();
        assert_eq!((of("docker.io").mirrors.len(), of("docker.io").official), (1, true));
        assert_eq!(
            (of("registry.example").mirrors, of("registry.example").secure),
            (vec!["https://mirror.example".to_owned()], true)
        );
        assert_eq!((of("lab:5000").mirrors.len(), of("lab:5000").secure), (1, false));
    }

    #[test]
    fn proxies_are_shown_and_their_passwords_are_not() {
        assert_eq!(proxy(None), "");
        assert_eq!(proxy(Some("http://proxy:3128")), "http://proxy:3128");
        assert_eq!(proxy(Some("http://me:p@ss@proxy:3128/")), "http://xxxxx:xxxxx@proxy:3128/");
        assert_eq!(proxy(Some("me:secret@proxy:3128")), "xxxxx:xxxxx@proxy:3128");
    }

    #[test]
    fn the_version_names_the_api() {
        let version = version(true);
        assert!(version.experimental && version.components[0].details["Experimental"] == "true");
        assert_eq!((version.api_version.as_str(), version.min_api_version.as_str()), ("1.51", "1.24"));
        assert_eq!(version.components[0].details["ApiVersion"], "1.51");
    }
}
