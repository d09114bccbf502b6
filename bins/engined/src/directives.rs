//! What an administrator decides, from `daemon.json` and the command line, and what becomes of it: the engine's settings and
//! the daemon's own.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use engine::Settings;
use engine::cgroup::Realtime;
use engine::network::Subnet6;
use engine::settings::{AddressPool, Bytes};
use serde::Deserialize;
use tracing::level_filters::LevelFilter;

use crate::listen::Address;

/// The configuration makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(pub(crate) String);

macro_rules! directives {
    ($($key:literal $field:ident: $type:ty;)*) => {
        /// Each directive by its name in the file; None where nothing was said.
        #[derive(Debug, Clone, Default, PartialEq, Deserialize)]
        pub(crate) struct Directives {
            $(#[serde(rename = $key)] pub(crate) $field: Option<$type>,)*
        }

        /// All names.
        const KEYS: &[&str] = &[$($key),*];

        /// The names of those that are said in both.
        fn said_twice(flags: &Directives, file: &Directives) -> Vec<String> {
            let mut twice = Vec::new();
            $(if let (Some(flag), Some(file)) = (&flags.$field, &file.$field) {
                twice.push(format!("{}: (from flag: {flag:?}, from file: {file:?})", $key));
            })*
            twice
        }

        /// What one says or else the other.
        fn united(flags: Directives, file: Directives) -> Directives {
            Directives { $($field: flags.$field.or(file.$field),)* }
        }
    };
}

directives! {
    "data-root" data_root: PathBuf;
    "exec-root" exec_root: PathBuf;
    "hosts" hosts: Vec<String>;
    "group" group: String;
    "debug" debug: bool;
    "log-level" log_level: String;
    "pidfile" pidfile: PathBuf;
    "log-driver" log_driver: String;
    "log-opts" log_opts: BTreeMap<String, String>;
    "registry-mirrors" registry_mirrors: Vec<String>;
    "insecure-registries" insecure_registries: Vec<String>;
    "max-concurrent-downloads" max_concurrent_downloads: usize;
    "max-concurrent-uploads" max_concurrent_uploads: usize;
    "registry-certificates" registry_certificates: PathBuf;
    "keep-blobs" keep_blobs: bool;
    "image-quota" image_quota: String;
    "image-quota-spare" image_quota_spare: String;
    "proxies" proxies: Proxies;
    "bip" bip: String;
    "fixed-cidr" fixed_cidr: String;
    "ip" ip: String;
    "bridge" bridge: String;
    "mtu" mtu: u32;
    "icc" icc: bool;
    "ip-masq" ip_masq: bool;
    "ip-forward" ip_forward: bool;
    "iptables" iptables: bool;
    "relay-ports" relay_ports: bool;
    "allow-direct-routing" allow_direct_routing: bool;
    "userland-proxy" userland_proxy: bool;
    "ip6tables" ip6tables: bool;
    "ip-forward-no-drop" ip_forward_no_drop: bool;
    "firewall-backend" firewall_backend: String;
    "ipv6" ipv6: bool;
    "bip6" bip6: String;
    "fixed-cidr-v6" fixed_cidr_v6: String;
    "host-gateway-ip" host_gateway_ip: String;
    "host-gateway-ips" host_gateway_ips: Vec<String>;
    "default-network-opts" default_network_opts: BTreeMap<String, BTreeMap<String, String>>;
    "default-address-pools" default_address_pools: Vec<Pool>;
    "dns" dns: Vec<String>;
    "dns-opts" dns_opts: Vec<String>;
    "dns-search" dns_search: Vec<String>;
    "default-ulimits" default_ulimits: BTreeMap<String, Ulimit>;
    "default-shm-size" default_shm_size: String;
    "cgroup-parent" cgroup_parent: String;
    "cpu-rt-period" cpu_rt_period: u64;
    "cpu-rt-runtime" cpu_rt_runtime: u64;
    "init" init: bool;
    "no-new-privileges" no_new_privileges: bool;
    "cdi-spec-dirs" cdi_spec_dirs: Vec<PathBuf>;
    "runtimes" runtimes: BTreeMap<String, OciRuntime>;
    "default-runtime" default_runtime: String;
    "criu" criu: String;
    "labels" labels: Vec<String>;
    "live-restore" live_restore: bool;
    "features" features: BTreeMap<String, bool>;
}

/// A block that new networks take their subnets from.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Pool {
    pub(crate) base: String,
    pub(crate) size: u8,
}

/// An OCI runtime of the host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct OciRuntime {
    pub(crate) path: String,
    pub(crate) runtime_args: Vec<String>,
    /// Of containerd's shims.
    pub(crate) runtime_type: Option<String>,
}

/// Proxies on the way to registries.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub(crate) struct Proxies {
    pub(crate) http_proxy: Option<String>,
    pub(crate) https_proxy: Option<String>,
    pub(crate) no_proxy: Option<String>,
}

/// Where administrators keep the certificates of registries; the first that is there counts.
const CERTIFICATES: [&str; 2] = ["/etc/engine/certs.d", "/etc/docker/certs.d"];

/// A limit of processes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Ulimit {
    pub(crate) name: String,
    pub(crate) soft: i64,
    pub(crate) hard: i64,
}

/// What the daemon was told, checked.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    pub(crate) settings: Settings,
    pub(crate) addresses: Vec<Address>,
    /// None: the group `engine`, where it exists.
    pub(crate) group: Option<String>,
    pub(crate) debug: bool,
    pub(crate) log_level: LevelFilter,
    pub(crate) pidfile: Option<PathBuf>,
}

impl Directives {
    /// Reads the file. One that need not exist says nothing when it does not.
    pub(crate) fn read(path: &Path, must_exist: bool) -> Result<Self, Invalid> {
        match std::fs::read(path) {
            Ok(bytes) => Self::parse(&bytes).map_err(|Invalid(text)| unable(path, &text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !must_exist => Ok(Self::default()),
            Err(error) => Err(unable(path, &error.to_string())),
        }
    }

    fn parse(bytes: &[u8]) -> Result<Self, Invalid> {
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(Self::default());
        }
        let members: BTreeMap<String, serde_json::Value> =
            serde_json::from_slice(bytes).map_err(|error| Invalid(error.to_string()))?;
        let unknown: Vec<_> = members.keys().map(String::as_str).filter(|key| !KEYS.contains(key)).collect();
        if !unknown.is_empty() {
            return Err(Invalid(format!(
                "the following directives don't match any configuration option: {}",
                unknown.join(", ")
            )));
        }
        serde_json::from_slice(bytes).map_err(|error| Invalid(error.to_string()))
    }

    /// Flags and file together; what both say is an error, as the file would silently lose.
    pub(crate) fn unite(flags: Self, file: Self, path: &Path) -> Result<Self, Invalid> {
        let twice = said_twice(&flags, &file);
        if twice.is_empty() {
            return Ok(united(flags, file));
        }
        Err(unable(
            path,
            &format!(
                "the following directives are specified both as a flag and in the configuration file: {}",
                twice.join(", ")
            ),
        ))
    }

    /// Proxies that were not said are those of the environment, `HTTP_PROXY` or `http_proxy` and so on.
    pub(crate) fn with_proxies_of(mut self, variable: impl Fn(&str) -> Option<String>) -> Self {
        let given = |name: &str| variable(name).or_else(|| variable(&name.to_ascii_lowercase()));
        let proxies = self.proxies.get_or_insert_default();
        for (proxy, name) in [
            (&mut proxies.http_proxy, "HTTP_PROXY"),
            (&mut proxies.https_proxy, "HTTPS_PROXY"),
            (&mut proxies.no_proxy, "NO_PROXY"),
        ] {
            *proxy = proxy.take().or_else(|| given(name));
        }
        self
    }

    /// Checks everything and decides what was left open.
    pub(crate) fn decide(self) -> Result<Setup, Invalid> {
        if self.live_restore == Some(false) {
            return Err(Invalid(
                "live-restore cannot be switched off: containers always survive this daemon, stop them before it if they shall not".to_owned(),
            ));
        }
        if let Some(name) = self.features.iter().flatten().find_map(|(name, on)| on.then_some(name)) {
            return Err(Invalid(format!("unknown feature {name:?}: this daemon has no features to switch on")));
        }
        let debug = self.debug.unwrap_or(false);
        let log_level = if debug { LevelFilter::DEBUG } else { level(self.log_level.as_deref().unwrap_or("info"))? };
        let hosts = self.hosts.clone().unwrap_or_else(|| vec!["unix:///run/engine.sock".to_owned()]);
        let addresses = hosts.iter().map(|host| host.parse()).collect::<Result<_, _>>()?;
        let (group, pidfile) = (self.group.clone(), self.pidfile.clone());
        Ok(Setup { settings: self.settings()?, addresses, group, debug, log_level, pidfile })
    }

    fn settings(self) -> Result<Settings, Invalid> {
        let mut settings = Settings::default();
        settings.root = absolute("data-root", self.data_root, settings.root)?;
        settings.run = absolute("exec-root", self.exec_root, settings.run)?;
        settings.cgroup_parent = self.cgroup_parent.unwrap_or(settings.cgroup_parent);
        settings.realtime = realtime(self.cpu_rt_period, self.cpu_rt_runtime)?;
        let bridge = &mut settings.bridge;
        match self.bridge.as_deref() {
            Some("none") => bridge.enabled = false,
            Some("") | None => {}
            Some(name) => bridge.name = Some(name.to_owned()),
        }
        bridge.address = self.bip.as_deref().map(|text| subnet("bip", text)).transpose()?;
        bridge.fixed_range = self.fixed_cidr.as_deref().map(|text| subnet("fixed-cidr", text)).transpose()?;
        let address = |text: &String| text.parse().map_err(|_| Invalid(format!("ip: invalid address {text:?}")));
        bridge.host_binding = self.ip.as_ref().map(address).transpose()?.filter(|ip: &IpAddr| !ip.is_unspecified());
        bridge.mtu = self.mtu.filter(|mtu| *mtu > 0);
        bridge.inter_container = self.icc.unwrap_or(bridge.inter_container);
        bridge.masquerade = self.ip_masq.unwrap_or(bridge.masquerade);
        bridge.forward = self.ip_forward.unwrap_or(bridge.forward);
        bridge.guard_forwarding = !self.ip_forward_no_drop.unwrap_or(false);
        bridge.ipv6 = self.ipv6.unwrap_or(bridge.ipv6);
        bridge.address_v6 = self.bip6.as_deref().map(|text| subnet_v6("bip6", text)).transpose()?;
        bridge.fixed_range_v6 =
            self.fixed_cidr_v6.as_deref().map(|text| subnet_v6("fixed-cidr-v6", text)).transpose()?;
        if !bridge.ipv6 && (bridge.address_v6.is_some() || bridge.fixed_range_v6.is_some()) {
            return Err(Invalid("bip6 and fixed-cidr-v6 need ipv6".to_owned()));
        }
        settings.firewall = self.iptables.unwrap_or(settings.firewall);
        if self.ip6tables.is_some_and(|ip6tables| ip6tables != settings.firewall) {
            return Err(Invalid("ip6tables: rules are kept for both families or for none: see iptables".to_owned()));
        }
        if let Some(backend) = self.firewall_backend.filter(|backend| !matches!(backend.as_str(), "" | "nftables")) {
            return Err(Invalid(format!("invalid firewall-backend {backend:?}: this daemon has nftables")));
        }
        settings.relay_ports = self.relay_ports.unwrap_or(settings.relay_ports);
        settings.direct_routing = self.allow_direct_routing.unwrap_or(settings.direct_routing);
        settings.pass_on = self.userland_proxy.unwrap_or(settings.pass_on);
        settings.network_options = self.default_network_opts.unwrap_or_default();
        for address in self.host_gateway_ip.iter().chain(self.host_gateway_ips.iter().flatten()) {
            let invalid = || Invalid(format!("host-gateway-ips: invalid address {address:?}"));
            let address: IpAddr = address.parse().map_err(|_| invalid())?;
            if settings.host_gateways.iter().any(|other| other.is_ipv4() == address.is_ipv4()) {
                return Err(Invalid("host-gateway-ips: at most one address of each family".to_owned()));
            }
            settings.host_gateways.push(address);
        }
        for pool in self.default_address_pools.iter().flatten() {
            let invalid = || Invalid(format!("invalid size {} of the address pool {}", pool.size, pool.base));
            if let Ok(block) = pool.base.parse::<Subnet6>() {
                let (base, prefix_len) = (block.first(), block.prefix_len());
                if pool.size < prefix_len || pool.size > 126 {
                    return Err(invalid());
                }
                settings.address_pools_v6.push(AddressPool { base, prefix_len, subnet_len: pool.size });
                continue;
            }
            let (base, prefix_len) = subnet("default-address-pools", &pool.base)?;
            if pool.size < prefix_len || pool.size > 30 {
                return Err(invalid());
            }
            settings.address_pools.push(AddressPool { base, prefix_len, subnet_len: pool.size });
        }
        for server in self.dns.iter().flatten() {
            let address = server
                .parse()
                .map_err(|_| Invalid(format!("invalid DNS address {server:?}: it is not an IP address")))?;
            settings.dns.servers.push(address);
        }
        settings.dns.search = self.dns_search.unwrap_or_default();
        settings.dns.options = self.dns_opts.unwrap_or_default();
        settings.registry.mirrors = self.registry_mirrors.unwrap_or_default();
        for mirror in &settings.registry.mirrors {
            // `registry=address` is a mirror of another registry than Docker Hub.
            let address = mirror.split_once('=').map_or(mirror.as_str(), |(_, address)| address);
            if !["http://", "https://"].iter().any(|scheme| address.starts_with(scheme)) {
                return Err(Invalid(format!("invalid mirror {mirror:?}: it must begin with http:// or https://")));
            }
        }
        settings.registry.insecure = self.insecure_registries.unwrap_or_default();
        if let Some(count) = self.max_concurrent_downloads.filter(|count| *count > 0) {
            settings.registry.concurrent_downloads = count;
        }
        if let Some(count) = self.max_concurrent_uploads.filter(|count| *count > 0) {
            settings.registry.concurrent_uploads = count;
        }
        settings.registry.certificates = self
            .registry_certificates
            .or_else(|| CERTIFICATES.iter().map(PathBuf::from).find(|directory| directory.exists()));
        settings.registry.keep_blobs = self.keep_blobs.unwrap_or(true);
        if let Some(size) = self.image_quota {
            let size: Bytes = size.parse().map_err(|_| Invalid(format!("invalid image-quota {size:?}")))?;
            settings.room.quota = Some(size.get());
        }
        if let Some(time) = self.image_quota_spare {
            settings.room.spare = duration(&time)
                .ok_or_else(|| Invalid(format!("invalid image-quota-spare {time:?}: use a number with s, m or h")))?;
        }
        if let Some(proxies) = self.proxies {
            let given = |text: Option<String>| text.filter(|text| !text.is_empty());
            settings.registry.proxy.http = given(proxies.http_proxy);
            settings.registry.proxy.https = given(proxies.https_proxy);
            let exceptions = proxies.no_proxy.unwrap_or_default();
            settings.registry.proxy.exceptions =
                exceptions.split(',').map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned).collect();
        }
        if let Some(driver) = self.log_driver.filter(|driver| *driver != settings.log.driver) {
            const DRIVERS: [&str; 7] = ["fluentd", "gelf", "journald", "json-file", "local", "none", "syslog"];
            if !DRIVERS.contains(&driver.as_str()) {
                return Err(Invalid(format!("unknown log driver {driver:?}: this daemon has {}", DRIVERS.join(", "))));
            }
            // The options are those of the other driver.
            settings.log.driver = driver;
            settings.log.options.clear();
        }
        settings.log.options.extend(self.log_opts.unwrap_or_default());
        settings.cdi_directories = self.cdi_spec_dirs.unwrap_or(settings.cdi_directories);
        for (name, runtime) in self.runtimes.unwrap_or_default() {
            if let Some(kind) = runtime.runtime_type.filter(|kind| kind != "io.containerd.runc.v2") {
                return Err(Invalid(format!(
                    "runtime {name}: runtimeType {kind:?} is a shim of containerd, which this daemon has no use for; give the path of an OCI runtime"
                )));
            }
            if runtime.path.is_empty() || name.is_empty() {
                return Err(Invalid(format!("runtime {name:?}: either a path or a name is missing")));
            }
            let known = engine::settings::OciRuntime { path: runtime.path, arguments: runtime.runtime_args };
            settings.runtimes.insert(name, known);
        }
        if let Some(name) = self.default_runtime {
            let own = ["engine", "io.containerd.runc.v2", "runc"].contains(&name.as_str());
            if !own && !settings.runtimes.contains_key(&name) {
                return Err(Invalid(format!("specified default runtime '{name}' does not exist")));
            }
            settings.default_runtime = Some(name);
        }
        if let Some(program) = self.criu {
            if program.is_empty() {
                return Err(Invalid("criu: a path or a name is missing".to_owned()));
            }
            settings.criu = program;
        }
        for (name, limit) in self.default_ulimits.unwrap_or_default() {
            settings = settings.ulimit(engine::settings::Ulimit::new(name, limit.soft, limit.hard));
        }
        if let Some(size) = self.default_shm_size {
            let size: Bytes = size.parse().map_err(|_| Invalid(format!("invalid default-shm-size {size:?}")))?;
            settings.shm_size = size.get();
        }
        settings.init = self.init.unwrap_or(false);
        settings.no_new_privileges = self.no_new_privileges.unwrap_or(false);
        settings.labels = self.labels.unwrap_or_default();
        if let Some(label) = settings.labels.iter().find(|label| !label.contains('=')) {
            return Err(Invalid(format!("bad attribute format: {label}: a label is NAME=VALUE")));
        }
        Ok(settings)
    }
}

fn unable(path: &Path, text: &str) -> Invalid {
    Invalid(format!("unable to configure the engine with file {}: {text}", path.display()))
}

fn absolute(name: &str, path: Option<PathBuf>, default: PathBuf) -> Result<PathBuf, Invalid> {
    match path {
        Some(path) if path.is_absolute() => Ok(path),
        Some(path) => {
            Err(Invalid(format!("invalid {name} {:?}: it must be an absolute path", path.display().to_string())))
        }
        None => Ok(default),
    }
}

/// The part that containers have of the time for realtime scheduling, when any is given them.
fn realtime(period: Option<u64>, runtime: Option<u64>) -> Result<Option<Realtime>, Invalid> {
    let Some(runtime) = runtime.filter(|runtime| *runtime > 0) else { return Ok(None) };
    let period = period.filter(|period| *period > 0).unwrap_or(1_000_000);
    if runtime > period {
        return Err(Invalid(format!("invalid cpu-rt-runtime {runtime}: it is above the cpu-rt-period {period}")));
    }
    Ok(Some(Realtime { period, runtime }))
}

fn level(name: &str) -> Result<LevelFilter, Invalid> {
    match name {
        "debug" => Ok(LevelFilter::DEBUG),
        "info" => Ok(LevelFilter::INFO),
        "warn" => Ok(LevelFilter::WARN),
        "error" | "fatal" => Ok(LevelFilter::ERROR),
        _ => Err(Invalid(format!("invalid logging level {name:?}: use debug, info, warn, error or fatal"))),
    }
}

/// `90s`, `10m` or `24h`.
fn duration(text: &str) -> Option<Duration> {
    let unit = text.chars().last()?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        _ => return None,
    };
    let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
    number.checked_mul(seconds).map(Duration::from_secs)
}

fn subnet(name: &str, text: &str) -> Result<(Ipv4Addr, u8), Invalid> {
    block(text, 32).ok_or_else(|| Invalid(format!("invalid {name} {text:?}: use ADDRESS/PREFIX of IPv4")))
}

fn subnet_v6(name: &str, text: &str) -> Result<(Ipv6Addr, u8), Invalid> {
    block(text, 126).ok_or_else(|| Invalid(format!("invalid {name} {text:?}: use ADDRESS/PREFIX of IPv6")))
}

fn block<A: FromStr>(text: &str, longest: u8) -> Option<(A, u8)> {
    let (address, prefix) = text.split_once('/')?;
    let prefix = prefix.parse().ok().filter(|prefix| *prefix <= longest)?;
    Some((address.parse().ok()?, prefix))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parse(text: &str) -> Result<Directives, Invalid> {
        Directives::parse(text.as_bytes())
    }

    fn refused(text: &str) -> String {
        parse(text).unwrap().decide().unwrap_err().0
    }

    #[test]
    fn a_file_becomes_settings() {
        let setup = parse(
            r#"{"data-root":"/d","exec-root":"/r","hosts":["unix:///a"],"group":"7","debug":true,"bip":"10.1.0.1/24","mtu":1400,
                "dns":["10.0.0.53"],"registry-mirrors":["http://127.0.0.1:5000"],"log-opts":{"max-size":"1m"},"labels":["a=b"],
                "default-ulimits":{"nofile":{"Name":"nofile","Soft":10,"Hard":20}},"default-shm-size":"1g","live-restore":true,
                "default-address-pools":[{"base":"10.9.0.0/16","size":24},{"base":"fd00:9::/48","size":64}],"features":{"buildkit":false},"icc":false}"#,
        )
        .unwrap()
        .decide()
        .unwrap();
        let settings = setup.settings;
        assert_eq!((settings.root.as_path(), settings.run.as_path()), (Path::new("/d"), Path::new("/r")));
        assert_eq!(settings.bridge.address, Some((Ipv4Addr::new(10, 1, 0, 1), 24)));
        assert_eq!((settings.bridge.mtu, settings.bridge.inter_container), (Some(1400), false));
        assert_eq!(settings.log.options["max-size"], "1m");
        assert_eq!(
            (settings.shm_size, settings.ulimits[0].hard, settings.address_pools[0].subnet_len),
            (1 << 30, 20, 24)
        );
        let pool = &settings.address_pools_v6[0];
        assert_eq!((pool.base.to_string().as_str(), pool.prefix_len, pool.subnet_len), ("fd00:9::", 48, 64));
        assert_eq!((setup.debug, setup.log_level, setup.group.as_deref()), (true, LevelFilter::DEBUG, Some("7")));
    }

    #[test]
    fn networks_are_as_the_file_says() {
        let text = r#"{"ipv6":true,"fixed-cidr-v6":"fd00:1::/64","userland-proxy":false,"allow-direct-routing":true,"ip6tables":true,
            "ip-forward-no-drop":true,"host-gateway-ips":["10.0.0.1","fd00::1"],"firewall-backend":"nftables",
            "default-network-opts":{"bridge":{"com.docker.network.driver.mtu":"1300"}}}"#;
        let settings = Directives::parse(text.as_bytes()).unwrap().decide().unwrap().settings;
        assert!(
            settings.bridge.ipv6 && !settings.bridge.guard_forwarding && settings.direct_routing && !settings.pass_on
        );
        assert_eq!(settings.bridge.fixed_range_v6.unwrap().1, 64);
        assert_eq!(settings.host_gateways.len(), 2);
        assert_eq!(settings.network_options["bridge"]["com.docker.network.driver.mtu"], "1300");
    }

    #[test]
    fn unknown_directives_are_named() {
        assert_eq!(
            parse(r#"{"nope":1,"debug":true,"tls":true}"#).unwrap_err().0,
            "the following directives don't match any configuration option: nope, tls"
        );
        assert_eq!(parse(" \n").unwrap(), Directives::default());
        assert!(parse(r#"{"debug":"yes"}"#).is_err());
    }

    #[test]
    fn what_flag_and_file_both_say_is_an_error() {
        let (flags, file) =
            (parse(r#"{"debug":true,"mtu":9}"#).unwrap(), parse(r#"{"debug":false,"bip":"x"}"#).unwrap());
        assert_eq!(
            Directives::unite(flags.clone(), file.clone(), Path::new("/f")).unwrap_err().0,
            "unable to configure the engine with file /f: the following directives are specified both as a flag and in the configuration file: debug: (from flag: true, from file: false)"
        );
        let united = Directives::unite(Directives { debug: None, ..flags }, file, Path::new("/f")).unwrap();
        assert_eq!((united.debug, united.mtu, united.bip.as_deref()), (Some(false), Some(9), Some("x")));
    }

    #[test]
    fn a_part_of_the_time_for_realtime_scheduling_is_given_when_it_is_said() {
        let part = |text: &str| parse(text).unwrap().decide().unwrap().settings.realtime;
        assert_eq!(part(r#"{"cpu-rt-period":500000}"#), None);
        assert_eq!(part(r#"{"cpu-rt-runtime":40}"#), Some(Realtime { period: 1_000_000, runtime: 40 }));
        assert_eq!(part(r#"{"cpu-rt-runtime":40,"cpu-rt-period":50}"#), Some(Realtime { period: 50, runtime: 40 }));
        assert!(refused(r#"{"cpu-rt-runtime":40,"cpu-rt-period":30}"#).contains("above the cpu-rt-period"));
    }

    #[test]
    fn nonsense_is_refused() {
        for (text, expected) in [
            (r#"{"live-restore":false}"#, "live-restore cannot be switched off"),
            (r#"{"features":{"x":true}}"#, "unknown feature \"x\""),
            (r#"{"log-level":"loud"}"#, "invalid logging level \"loud\""),
            (r#"{"hosts":["tcp://127.0.0.1:2375"]}"#, "invalid host tcp://127.0.0.1:2375"),
            (r#"{"bip":"10.0.0.1"}"#, "invalid bip \"10.0.0.1\""),
            (r#"{"bip6":"fd00::1/64"}"#, "bip6 and fixed-cidr-v6 need ipv6"),
            (r#"{"ipv6":true,"bip6":"10.0.0.1/24"}"#, "invalid bip6"),
            (r#"{"ip6tables":false}"#, "ip6tables: rules are kept for both"),
            (r#"{"firewall-backend":"iptables"}"#, "invalid firewall-backend \"iptables\""),
            (r#"{"host-gateway-ips":["10.0.0.1","10.0.0.2"]}"#, "host-gateway-ips: at most one"),
            (r#"{"data-root":"relative"}"#, "invalid data-root \"relative\""),
            (r#"{"dns":["x"]}"#, "invalid DNS address \"x\""),
            (r#"{"labels":["x"]}"#, "bad attribute format: x"),
            (r#"{"registry-mirrors":["x"]}"#, "invalid mirror \"x\""),
            (r#"{"log-driver":"awslogs"}"#, "unknown log driver \"awslogs\""),
            (r#"{"image-quota":"much"}"#, "invalid image-quota \"much\""),
            (r#"{"image-quota-spare":"1d"}"#, "invalid image-quota-spare \"1d\""),
            (r#"{"criu":""}"#, "criu: a path or a name is missing"),
            (r#"{"default-runtime":"crun"}"#, "specified default runtime 'crun' does not exist"),
            (r#"{"runtimes":{"k":{"runtimeType":"io.containerd.kata.v2"}}}"#, "runtime k: runtimeType"),
            (r#"{"default-address-pools":[{"base":"10.0.0.0/16","size":8}]}"#, "invalid size 8"),
            (r#"{"default-address-pools":[{"base":"fd00::/48","size":127}]}"#, "invalid size 127"),
        ] {
            assert!(refused(text).starts_with(expected), "{text}: {}", refused(text));
        }
    }

    #[test]
    fn registries_are_reached_as_the_file_says() {
        let text = r#"{"registry-mirrors":["https://m","registry.example=http://q:5000"],"max-concurrent-uploads":2,"keep-blobs":false,
            "registry-certificates":"/certs","proxies":{"http-proxy":"http://p:1","no-proxy":"a.example, 10.0.0.0/8,"}}"#;
        let registry = Directives::parse(text.as_bytes()).unwrap().decide().unwrap().settings.registry;
        assert_eq!((registry.mirrors.len(), registry.concurrent_uploads, registry.keep_blobs), (2, 2, false));
        assert_eq!(registry.certificates.as_deref(), Some(Path::new("/certs")));
        assert_eq!((registry.proxy.http.as_deref(), registry.proxy.https), (Some("http://p:1"), None));
        assert_eq!(registry.proxy.exceptions, ["a.example", "10.0.0.0/8"]);
        assert!(Directives::parse(br#"{"proxies":{"ftp-proxy":"x"}}"#).is_err());
        // What the file leaves open the environment says.
        let variable = |name: &str| match name {
            "HTTP_PROXY" => Some("http://other:1".to_owned()),
            "https_proxy" => Some("http://q:2".to_owned()),
            "NO_PROXY" => Some("b.example".to_owned()),
            _ => None,
        };
        let proxies = |text: &str| {
            let directives = Directives::parse(text.as_bytes()).unwrap().with_proxies_of(variable);
            directives.decide().unwrap().settings.registry.proxy
        };
        let proxy = proxies(text);
        assert_eq!((proxy.http.as_deref(), proxy.https.as_deref()), (Some("http://p:1"), Some("http://q:2")));
        assert_eq!(proxy.exceptions, ["a.example", "10.0.0.0/8"]);
        let proxy = proxies(r#"{"proxies":{"http-proxy":""}}"#);
        assert_eq!((proxy.http, proxy.https.as_deref()), (None, Some("http://q:2")));
        assert_eq!(proxy.exceptions, ["b.example"]);
    }

    #[test]
    fn images_have_the_room_that_the_file_says() {
        let room = |text: &str| parse(text).unwrap().decide().unwrap().settings.room;
        assert_eq!((room("{}").quota, room("{}").spare), (None, Duration::from_secs(600)));
        let said = room(r#"{"image-quota":"20g","image-quota-spare":"2h"}"#);
        assert_eq!((said.quota, said.spare), (Some(20 << 30), Duration::from_secs(7200)));
        assert_eq!(duration("90s"), Some(Duration::from_secs(90)));
        for wrong in ["", "m", "1", "-1m", "1d", "99999999999999999999s", "1ö"] {
            assert_eq!(duration(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn only_a_file_that_was_named_must_exist() {
        let path = Path::new("/nonexistent/daemon.json");
        assert_eq!(Directives::read(path, false).unwrap(), Directives::default());
        assert!(Directives::read(path, true).unwrap_err().0.contains("/nonexistent/daemon.json"));
    }
}
