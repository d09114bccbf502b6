//! The command line, with dockerd's names for its flags.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Parser;

use crate::directives::{Directives, Invalid, OciRuntime, Pool, Proxies, Ulimit};

/// Where the configuration is read from unless another file is named.
const CONFIG_FILE: &str = "/etc/engine/daemon.json";

/// The container engine's daemon: it serves the Docker Engine API on unix sockets.
#[derive(Debug, Clone, Default, Parser)]
#[command(name = "engined", version, max_term_width = 100)]
pub struct Args {
    /// File with the configuration in JSON; it must exist when it is named here [default: /etc/engine/daemon.json]
    #[arg(long, value_name = "FILE")]
    config_file: Option<PathBuf>,
    /// Where images, containers and volumes lie [default: /var/lib/engine]
    #[arg(long, value_name = "DIRECTORY")]
    data_root: Option<PathBuf>,
    /// Where the sockets of running containers lie [default: /run/engine]
    #[arg(long, value_name = "DIRECTORY")]
    exec_root: Option<PathBuf>,
    /// Socket to listen on, may be given several times: unix://PATH, or fd:// for those of the service manager
    /// [default: unix:///run/engine.sock]
    #[arg(short = 'H', long = "host", value_name = "ADDRESS")]
    hosts: Vec<String>,
    /// Group that may use the unix sockets, by name or number [default: engine, where it exists]
    #[arg(short = 'G', long, value_name = "GROUP")]
    group: Option<String>,
    /// Log more
    #[arg(short = 'D', long)]
    debug: bool,
    /// debug, info, warn, error or fatal [default: info]
    #[arg(short = 'l', long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// File that the process id is written to
    #[arg(short = 'p', long, value_name = "FILE")]
    pidfile: Option<PathBuf>,
    /// Log driver of containers that ask for none [default: json-file]
    #[arg(long, value_name = "DRIVER")]
    log_driver: Option<String>,
    /// Option of that driver, as NAME=VALUE; may be given several times
    #[arg(long = "log-opt", value_name = "OPTION")]
    log_opts: Vec<String>,
    /// Mirror of Docker Hub, or of another registry as REGISTRY=URL; may be given several times
    #[arg(long = "registry-mirror", value_name = "URL")]
    registry_mirrors: Vec<String>,
    /// Registry that may be spoken to without a checked certificate, as HOST[:PORT] or ADDRESS/PREFIX; may be given several times
    #[arg(long = "insecure-registry", value_name = "REGISTRY")]
    insecure_registries: Vec<String>,
    /// Layers that one pull downloads at once [default: 3]
    #[arg(long, value_name = "NUMBER")]
    max_concurrent_downloads: Option<usize>,
    /// Layers that one push uploads at once [default: 5]
    #[arg(long, value_name = "NUMBER")]
    max_concurrent_uploads: Option<usize>,
    /// Directory with HOST[:PORT]/*.crt, *.cert and *.key for registries [default: /etc/engine/certs.d, else /etc/docker/certs.d]
    #[arg(long, value_name = "DIR")]
    registry_certificates: Option<PathBuf>,
    /// Keep compressed layers as they came, so that digests survive a push [default: true]
    #[arg(long, value_name = "BOOLEAN", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    keep_blobs: Option<bool>,
    /// Room that images may take on the disk, such as 20g: whoever brings one makes room, and what nobody has used for the
    /// longest time goes first [default: as much as there is]
    #[arg(long, value_name = "SIZE")]
    image_quota: Option<String>,
    /// What was used more recently than that stays whatever it takes, as 90s, 10m or 24h [default: 10m]
    #[arg(long, value_name = "TIME")]
    image_quota_spare: Option<String>,
    /// Proxy on the way to registries that are spoken to by http [default: the variable HTTP_PROXY]
    #[arg(long, value_name = "URL")]
    http_proxy: Option<String>,
    /// Proxy on the way to registries that are spoken to by https [default: the variable HTTPS_PROXY]
    #[arg(long, value_name = "URL")]
    https_proxy: Option<String>,
    /// Hosts that are reached without a proxy, with commas between [default: the variable NO_PROXY]
    #[arg(long, value_name = "HOSTS")]
    no_proxy: Option<String>,
    /// Address of the bridge, as ADDRESS/PREFIX [default: the first free block]
    #[arg(long, value_name = "ADDRESS")]
    bip: Option<String>,
    /// Part of the bridge's subnet that containers get addresses from, as ADDRESS/PREFIX
    #[arg(long, value_name = "SUBNET")]
    fixed_cidr: Option<String>,
    /// Where ports are published that name no address of the host [default: all addresses]
    #[arg(long, value_name = "ADDRESS")]
    ip: Option<String>,
    /// Name of the bridge; "none" for no network of that name
    #[arg(short = 'b', long, value_name = "NAME")]
    bridge: Option<String>,
    /// Largest packet on the bridge, in bytes
    #[arg(long, value_name = "BYTES")]
    mtu: Option<u32>,
    /// Whether containers on the bridge may talk to each other [default: true]
    #[arg(long, value_name = "BOOLEAN", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    icc: Option<bool>,
    /// Whether the containers' addresses become the host's on their way out [default: true]
    #[arg(long, value_name = "BOOLEAN", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    ip_masq: Option<bool>,
    /// Whether the host's IP forwarding is turned on [default: true]
    #[arg(long, value_name = "BOOLEAN", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    ip_forward: Option<bool>,
    /// Whether packet filter rules are kept [default: true]
    #[arg(long, value_name = "BOOLEAN", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    iptables: Option<bool>,
    /// Whether published ports are listened at instead of translated, so that the host's own INPUT rules (ufw) hold for them
    /// [default: false]
    #[arg(long, value_name = "BOOLEAN", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    relay_ports: Option<bool>,
    /// Whether published ports are reached at the containers' own addresses too, by whoever knows a way there [default: false]
    #[arg(long, value_name = "BOOLEAN", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    allow_direct_routing: Option<bool>,
    /// Whether the daemon passes on to published ports what translation does not reach: the other family, the loopback of IPv6
    /// [default: true]
    #[arg(long, value_name = "BOOLEAN", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    userland_proxy: Option<bool>,
    /// Whether packet filter rules of IPv6 are kept; as with --iptables, which they go with
    #[arg(long, value_name = "BOOLEAN", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    ip6tables: Option<bool>,
    /// Whether nothing keeps the host from routing between its own interfaces once its forwarding was turned on [default: false]
    #[arg(long, value_name = "BOOLEAN", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    ip_forward_no_drop: Option<bool>,
    /// What keeps the rules: nftables
    #[arg(long, value_name = "NAME")]
    firewall_backend: Option<String>,
    /// Whether the bridge has IPv6 [default: false]
    #[arg(long, value_name = "BOOLEAN", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    ipv6: Option<bool>,
    /// Address of the bridge in IPv6, as ADDRESS/PREFIX [default: the first of a block that is chosen]
    #[arg(long, value_name = "ADDRESS")]
    bip6: Option<String>,
    /// The bridge's subnet of IPv6, or the part of it that containers get addresses from, as ADDRESS/PREFIX
    #[arg(long, value_name = "SUBNET")]
    fixed_cidr_v6: Option<String>,
    /// What host-gateway stands for in extra hosts, at most one address of each family [default: the host's addresses on the
    /// container's network]
    #[arg(long = "host-gateway-ip", value_name = "ADDRESS")]
    host_gateway_ips: Vec<String>,
    /// Option of new networks of a driver that do not say it themselves, as DRIVER=NAME=VALUE; may be given several times
    #[arg(long = "default-network-opt", value_name = "OPTION")]
    default_network_opts: Vec<String>,
    /// Block that new networks take their subnets from, as base=ADDRESS/PREFIX,size=PREFIX; may be given several times
    #[arg(long = "default-address-pool", value_name = "POOL")]
    default_address_pools: Vec<String>,
    /// Name server of containers that ask for none; may be given several times
    #[arg(long, value_name = "ADDRESS")]
    dns: Vec<String>,
    /// Option of their resolver; may be given several times
    #[arg(long = "dns-opt", value_name = "OPTION")]
    dns_opts: Vec<String>,
    /// Search domain of theirs; may be given several times
    #[arg(long, value_name = "DOMAIN")]
    dns_search: Vec<String>,
    /// Limit of containers that set none of that name, as NAME=SOFT[:HARD]; may be given several times
    #[arg(long = "default-ulimit", value_name = "LIMIT")]
    default_ulimits: Vec<String>,
    /// Size of /dev/shm of containers that ask for none [default: 64m]
    #[arg(long, value_name = "SIZE")]
    default_shm_size: Option<String>,
    /// Cgroup beneath which each container has its own [default: engine]
    #[arg(long, value_name = "CGROUP")]
    cgroup_parent: Option<String>,
    /// Of each so many microseconds containers may use --cpu-rt-runtime for realtime scheduling [default: 1000000]
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_rt_period: Option<u64>,
    /// So many microseconds of --cpu-rt-period the containers with realtime scheduling have together, with cgroup version 1
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_rt_runtime: Option<u64>,
    /// Run a small init in containers that do not say whether they want one
    #[arg(long)]
    init: bool,
    /// Containers never gain privileges by running a program
    #[arg(long)]
    no_new_privileges: bool,
    /// Directory with specifications of devices (CDI); may be given several times [default: /etc/cdi and /var/run/cdi]
    #[arg(long = "cdi-spec-dir", value_name = "DIRECTORY")]
    cdi_spec_dirs: Vec<PathBuf>,
    /// OCI runtime of the host that containers may ask for, as NAME=PATH; may be given several times
    #[arg(long = "add-runtime", value_name = "RUNTIME")]
    add_runtimes: Vec<String>,
    /// Runtime of containers that ask for none [default: the daemon's own, called runc]
    #[arg(long, value_name = "NAME")]
    default_runtime: Option<String>,
    /// Program that takes checkpoints, a path or a name [default: criu]
    #[arg(long, value_name = "FILE")]
    criu: Option<String>,
    /// Label of this daemon, as NAME=VALUE; may be given several times
    #[arg(long = "label", value_name = "LABEL")]
    labels: Vec<String>,
    /// Whether containers survive the daemon; they always do
    #[arg(long, value_name = "BOOLEAN", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    live_restore: Option<bool>,
    /// Feature to switch, as NAME[=BOOLEAN]; may be given several times
    #[arg(long = "feature", value_name = "FEATURE")]
    features: Vec<String>,
}

impl Args {
    /// The file with the rest of the configuration, and whether it must exist.
    pub(crate) fn config_file(&self) -> (PathBuf, bool) {
        match &self.config_file {
            Some(path) => (path.clone(), true),
            None => (CONFIG_FILE.into(), false),
        }
    }

    /// What was said on the command line, in the terms of the file.
    pub(crate) fn directives(self) -> Result<Directives, Invalid> {
        Ok(Directives {
            data_root: self.data_root,
            exec_root: self.exec_root,
            hosts: some(self.hosts),
            group: self.group,
            debug: self.debug.then_some(true),
            log_level: self.log_level,
            pidfile: self.pidfile,
            log_driver: self.log_driver,
            log_opts: map(&self.log_opts, |option| {
                option.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())).ok_or(option)
            })?,
            registry_mirrors: some(self.registry_mirrors),
            insecure_registries: some(self.insecure_registries),
            max_concurrent_downloads: self.max_concurrent_downloads,
            max_concurrent_uploads: self.max_concurrent_uploads,
            registry_certificates: self.registry_certificates,
            keep_blobs: self.keep_blobs,
            image_quota: self.image_quota,
            image_quota_spare: self.image_quota_spare,
            proxies: Some(Proxies {
                http_proxy: self.http_proxy,
                https_proxy: self.https_proxy,
                no_proxy: self.no_proxy,
            })
            .filter(|proxies| *proxies != Proxies::default()),
            bip: self.bip,
            fixed_cidr: self.fixed_cidr,
            ip: self.ip,
            bridge: self.bridge,
            mtu: self.mtu,
            icc: self.icc,
            ip_masq: self.ip_masq,
            ip_forward: self.ip_forward,
            iptables: self.iptables,
            relay_ports: self.relay_ports,
            allow_direct_routing: self.allow_direct_routing,
            userland_proxy: self.userland_proxy,
            ip6tables: self.ip6tables,
            ip_forward_no_drop: self.ip_forward_no_drop,
            firewall_backend: self.firewall_backend,
            ipv6: self.ipv6,
            bip6: self.bip6,
            fixed_cidr_v6: self.fixed_cidr_v6,
            host_gateway_ip: None,
            host_gateway_ips: some(self.host_gateway_ips),
            default_network_opts: network_options(&self.default_network_opts)?,
            default_address_pools: some(
                self.default_address_pools.iter().map(|text| pool(text)).collect::<Result<_, _>>()?,
            ),
            dns: some(self.dns),
            dns_opts: some(self.dns_opts),
            dns_search: some(self.dns_search),
            default_ulimits: map(&self.default_ulimits, |limit| ulimit(limit).ok_or(limit))?,
            default_shm_size: self.default_shm_size,
            cgroup_parent: self.cgroup_parent,
            cpu_rt_period: self.cpu_rt_period,
            cpu_rt_runtime: self.cpu_rt_runtime,
            init: self.init.then_some(true),
            no_new_privileges: self.no_new_privileges.then_some(true),
            cdi_spec_dirs: some(self.cdi_spec_dirs),
            runtimes: map(&self.add_runtimes, |runtime| {
                let (name, path) = runtime.split_once('=').ok_or(runtime)?;
                Ok((name.to_owned(), OciRuntime { path: path.to_owned(), ..OciRuntime::default() }))
            })?,
            default_runtime: self.default_runtime,
            criu: self.criu,
            labels: some(self.labels),
            live_restore: self.live_restore,
            features: map(&self.features, |feature| match feature.split_once('=') {
                Some((name, value)) => value.parse().map(|value| (name.to_owned(), value)).map_err(|_| feature),
                None => Ok((feature.to_owned(), true)),
            })?,
        })
    }
}

/// A flag that was not given says nothing.
fn some<T>(values: Vec<T>) -> Option<Vec<T>> {
    (!values.is_empty()).then_some(values)
}

fn map<'a, V>(
    values: &'a [String],
    read: impl Fn(&'a str) -> Result<(String, V), &'a str>,
) -> Result<Option<BTreeMap<String, V>>, Invalid> {
    let read: Result<BTreeMap<_, _>, &str> = values.iter().map(|value| read(value)).collect();
    let values = read.map_err(|value| Invalid(format!("invalid value {value:?} on the command line")))?;
    Ok((!values.is_empty()).then_some(values))
}

/// Options by driver.
type NetworkOptions = BTreeMap<String, BTreeMap<String, String>>;

fn network_options(values: &[String]) -> Result<Option<NetworkOptions>, Invalid> {
    let mut options = NetworkOptions::new();
    for text in values {
        let parts = text.split_once('=').and_then(|(driver, option)| Some((driver, option.split_once('=')?)));
        let invalid = || Invalid(format!("invalid default network option {text:?}, use DRIVER=NAME=VALUE"));
        let (driver, (name, value)) = parts.ok_or_else(invalid)?;
        options.entry(driver.to_owned()).or_default().insert(name.to_owned(), value.to_owned());
    }
    Ok((!options.is_empty()).then_some(options))
}

fn ulimit(text: &str) -> Option<(String, Ulimit)> {
    let (name, values) = text.split_once('=')?;
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    let (soft, hard) = (soft.parse().ok()?, hard.parse().ok()?);
    Some((name.to_owned(), Ulimit { name: name.to_owned(), soft, hard }))
}

fn pool(text: &str) -> Result<Pool, Invalid> {
    let invalid = || Invalid(format!("invalid default address pool {text:?}, use base=ADDRESS/PREFIX,size=PREFIX"));
    let (mut base, mut size) = (None, None);
    for part in text.split(',') {
        match part.split_once('=') {
            Some(("base", value)) => base = Some(value.to_owned()),
            Some(("size", value)) => size = value.parse().ok(),
            _ => return Err(invalid()),
        }
    }
    base.zip(size).map(|(base, size)| Pool { base, size }).ok_or_else(invalid)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn directives(line: &str) -> Result<Directives, Invalid> {
        Args::try_parse_from(std::iter::once("engined").chain(line.split_whitespace())).unwrap().directives()
    }

    #[test]
    fn flags_have_dockerds_names() {
        let said = directives(
            "-H unix:///a -H fd:// -G wheel -D -l warn --log-opt max-size=1m --default-ulimit nofile=10:20 --icc=false \
             --live-restore --default-address-pool base=10.0.0.0/8,size=24 --feature a --feature b=false -b none \
             --allow-direct-routing --userland-proxy=false --ipv6 --default-network-opt bridge=a.b=c=d",
        )
        .unwrap();
        assert_eq!((said.allow_direct_routing, said.userland_proxy, said.ipv6), (Some(true), Some(false), Some(true)));
        assert_eq!(said.default_network_opts.unwrap()["bridge"]["a.b"], "c=d");
        assert_eq!(said.hosts.unwrap(), ["unix:///a", "fd://"]);
        assert_eq!((said.debug, said.icc, said.live_restore), (Some(true), Some(false), Some(true)));
        assert_eq!(said.log_opts.unwrap()["max-size"], "1m");
        assert_eq!(
            (said.default_ulimits.unwrap()["nofile"].soft, said.default_address_pools.unwrap()[0].size),
            (10, 24)
        );
        assert_eq!(said.features.unwrap(), BTreeMap::from([("a".into(), true), ("b".into(), false)]));
        assert_eq!(said.bridge.as_deref(), Some("none"));
    }

    #[test]
    fn what_was_not_said_is_left_open() {
        assert_eq!(directives("").unwrap(), Directives::default());
    }

    #[test]
    fn malformed_values_are_refused() {
        for line in [
            "--log-opt x",
            "--default-ulimit nofile",
            "--default-ulimit nofile=a",
            "--default-address-pool base=1",
            "--feature a=b",
            "--add-runtime crun",
            "--default-network-opt bridge=x",
        ] {
            assert!(directives(line).is_err(), "{line}");
        }
    }
}
