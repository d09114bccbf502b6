//! What an engine is told at its start: directories, defaults and the registries it may talk to.
//! Nothing here is read from the environment; whoever opens the engine decides.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use engine_runtime::cgroup::Realtime;
use serde::{Deserialize, Serialize};

/// How an engine is set up.
///
/// ```
/// use engine::Settings;
/// let settings = Settings::at("/srv/engine").run("/run/my-engine").label("rack=7");
/// assert_eq!(settings.cgroup_parent, "engine");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Settings {
    /// Where images, containers and volumes lie. Several programs may share one root.
    pub root: PathBuf,
    /// Sockets and exit records of running containers; belongs on a tmpfs and must go with a reboot.
    pub run: PathBuf,
    /// The cgroup beneath which each container has its own.
    pub cgroup_parent: String,
    /// What containers that ask for realtime scheduling have together: the cgroups above theirs are given so much, unless they
    /// have some. `None`: what they were given by others.
    pub realtime: Option<Realtime>,
    /// The predefined network `bridge`.
    pub bridge: BridgeSettings,
    /// Address blocks that new networks take a subnet of, in order; empty means the built-in ones.
    pub address_pools: Vec<AddressPool>,
    /// The same for IPv6; empty means a private block of random bytes for each network.
    pub address_pools_v6: Vec<AddressPool<Ipv6Addr>>,
    /// Keep packet filter rules for the networks; without it nothing is translated or isolated.
    pub firewall: bool,
    /// Listen at published ports and pass on what comes, instead of translating its destination. Slower, but what comes has
    /// passed the host's own rules for itself (the chain INPUT, as `ufw` writes it) like what is for any of its programs.
    pub relay_ports: bool,
    /// Let published ports be reached at the containers' own addresses too, by whoever knows a way there; else only the host and
    /// interfaces that a network trusts do so.
    pub direct_routing: bool,
    /// Listen for what translation does not lead to published ports, and pass it on: what comes from the other family of addresses,
    /// and from the loopback of IPv6.
    pub pass_on: bool,
    /// Options of new networks that do not say them themselves, by driver.
    pub network_options: BTreeMap<String, BTreeMap<String, String>>,
    /// What `host-gateway` stands for in a container's extra hosts; when empty, the host's addresses on the container's network.
    pub host_gateways: Vec<IpAddr>,
    /// Name service of containers that ask for none of their own.
    pub dns: DnsSettings,
    /// How registries are reached.
    pub registry: RegistrySettings,
    /// How much room images may take.
    pub room: RoomSettings,
    /// What becomes of output when a container asks for nothing else.
    pub log: LogSettings,
    /// Limits that every container has unless it asks for its own.
    pub ulimits: Vec<Ulimit>,
    /// How many files containers may have open until they ask for more (the soft limit), unless a limit says it; `None`: as many
    /// as the program itself.
    pub open_files: Option<u64>,
    /// Size of `/dev/shm`, in bytes, when a container asks for none.
    pub shm_size: u64,
    /// Labels of this engine, as `key=value`; shown by `info`.
    pub labels: Vec<String>,
    /// Run a small init as process 1 in containers that do not say whether they want one.
    pub init: bool,
    /// Containers never gain privileges by `execve`, whatever they ask for.
    pub no_new_privileges: bool,
    /// Directories with specifications of devices (CDI); later ones win.
    pub cdi_directories: Vec<PathBuf>,
    /// OCI runtimes of the host that containers may ask for by name, beside the engine's own, which is called `engine` and, unless
    /// another is called so here, `runc`.
    pub runtimes: BTreeMap<String, OciRuntime>,
    /// The runtime of containers that ask for none: the engine's own, or the name of one of [`Settings::runtimes`].
    pub default_runtime: Option<String>,
    /// The program that takes checkpoints and starts from them: a path, or a name that is looked for where programs are.
    pub criu: String,
}

/// An OCI runtime of the host, called as containerd calls `runc`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OciRuntime {
    /// The program: a path, or a name that is looked for where programs are.
    pub path: String,
    /// What comes before the engine's own arguments.
    pub arguments: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            root: PathBuf::from("/var/lib/engine"),
            run: PathBuf::from("/run/engine"),
            cgroup_parent: "engine".to_owned(),
            realtime: None,
            bridge: BridgeSettings::default(),
            address_pools: Vec::new(),
            address_pools_v6: Vec::new(),
            firewall: true,
            relay_ports: false,
            direct_routing: false,
            pass_on: true,
            network_options: BTreeMap::new(),
            host_gateways: Vec::new(),
            dns: DnsSettings::default(),
            registry: RegistrySettings::default(),
            room: RoomSettings::default(),
            log: LogSettings::default(),
            ulimits: Vec::new(),
            open_files: None,
            shm_size: 64 << 20,
            labels: Vec::new(),
            init: false,
            no_new_privileges: false,
            cdi_directories: ["/etc/cdi", "/var/run/cdi"].map(PathBuf::from).into(),
            runtimes: BTreeMap::new(),
            default_runtime: None,
            criu: engine_runtime::criu::PROGRAM.to_owned(),
        }
    }
}

impl Settings {
    /// The default settings with everything beneath `root`, run directory included.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        let root = root.into();
        Self { run: root.join("run"), root, ..Self::default() }
    }

    /// Sets [`Settings::root`].
    #[must_use]
    pub fn root(mut self, root: impl Into<PathBuf>) -> Self {
        self.root = root.into();
        self
    }

    /// Sets [`Settings::run`].
    #[must_use]
    pub fn run(mut self, run: impl Into<PathBuf>) -> Self {
        self.run = run.into();
        self
    }

    /// Sets [`Settings::cgroup_parent`].
    #[must_use]
    pub fn cgroup_parent(mut self, parent: impl Into<String>) -> Self {
        self.cgroup_parent = parent.into();
        self
    }

    /// Sets [`Settings::bridge`].
    #[must_use]
    pub fn bridge(mut self, bridge: BridgeSettings) -> Self {
        self.bridge = bridge;
        self
    }

    /// Sets [`Settings::firewall`].
    #[must_use]
    pub fn firewall(mut self, firewall: bool) -> Self {
        self.firewall = firewall;
        self
    }

    /// Sets [`Settings::relay_ports`].
    #[must_use]
    pub fn relay_ports(mut self, relay: bool) -> Self {
        self.relay_ports = relay;
        self
    }

    /// Sets [`Settings::dns`].
    #[must_use]
    pub fn dns(mut self, dns: DnsSettings) -> Self {
        self.dns = dns;
        self
    }

    /// Sets [`Settings::registry`].
    #[must_use]
    pub fn registry(mut self, registry: RegistrySettings) -> Self {
        self.registry = registry;
        self
    }

    /// Sets [`Settings::room`].
    #[must_use]
    pub fn room(mut self, room: RoomSettings) -> Self {
        self.room = room;
        self
    }

    /// Sets [`Settings::log`].
    #[must_use]
    pub fn log(mut self, log: LogSettings) -> Self {
        self.log = log;
        self
    }

    /// Adds one of [`Settings::runtimes`].
    #[must_use]
    pub fn runtime(mut self, name: impl Into<String>, path: impl Into<String>) -> Self {
        self.runtimes.insert(name.into(), OciRuntime { path: path.into(), arguments: Vec::new() });
        self
    }

    /// Sets [`Settings::criu`].
    #[must_use]
    pub fn criu(mut self, program: impl Into<String>) -> Self {
        self.criu = program.into();
        self
    }

    /// Adds a default limit.
    #[must_use]
    pub fn ulimit(mut self, ulimit: Ulimit) -> Self {
        self.ulimits.push(ulimit);
        self
    }

    /// Adds a label of the engine.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.labels.push(label.into());
        self
    }
}

/// The predefined network `bridge`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BridgeSettings {
    /// Whether the network is there at all; without it the default network of a container is `none`.
    pub enabled: bool,
    /// Name of the interface; one is derived from the root when none is given.
    pub name: Option<String>,
    /// The bridge's own address and prefix length, such as `172.30.0.1/16`; the first free block when none is given.
    pub address: Option<(Ipv4Addr, u8)>,
    /// The part of the subnet that containers are given addresses of.
    pub fixed_range: Option<(Ipv4Addr, u8)>,
    /// Largest packet, in bytes; that of the host's uplink, at most 1500, when none is given.
    pub mtu: Option<u32>,
    /// Containers of this network may talk to each other.
    pub inter_container: bool,
    /// Translate the containers' addresses into the host's when packets leave.
    pub masquerade: bool,
    /// Where ports are published that name no address of the host; on all of them when there is none.
    pub host_binding: Option<IpAddr>,
    /// Turn on the host's forwarding when it is off.
    pub forward: bool,
    /// Keep the host from routing between its own interfaces when that is done.
    pub guard_forwarding: bool,
    /// Containers have IPv6 addresses too.
    pub ipv6: bool,
    /// The bridge's own address of IPv6 and prefix length; the first of a block that is chosen when none is given.
    pub address_v6: Option<(Ipv6Addr, u8)>,
    /// The part of that subnet that containers are given addresses of; without an address, the subnet itself.
    pub fixed_range_v6: Option<(Ipv6Addr, u8)>,
}

impl Default for BridgeSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            name: None,
            address: None,
            fixed_range: None,
            mtu: None,
            inter_container: true,
            masquerade: true,
            host_binding: None,
            forward: true,
            guard_forwarding: true,
            ipv6: false,
            address_v6: None,
            fixed_range_v6: None,
        }
    }
}

impl BridgeSettings {
    /// No network `bridge` at all.
    #[must_use]
    pub fn disabled() -> Self {
        Self { enabled: false, ..Self::default() }
    }

    /// Sets [`BridgeSettings::name`].
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets [`BridgeSettings::address`].
    #[must_use]
    pub fn address(mut self, address: Ipv4Addr, prefix_len: u8) -> Self {
        self.address = Some((address, prefix_len));
        self
    }

    /// Sets [`BridgeSettings::mtu`].
    #[must_use]
    pub fn mtu(mut self, mtu: u32) -> Self {
        self.mtu = Some(mtu);
        self
    }
}

/// A block of addresses that is cut into subnets of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressPool<A = Ipv4Addr> {
    /// First address of the block.
    pub base: A,
    /// Prefix length of the block.
    pub prefix_len: u8,
    /// Prefix length of each subnet cut from it.
    pub subnet_len: u8,
}

/// Name service that containers are given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DnsSettings {
    /// Name servers; those of the host when empty.
    pub servers: Vec<IpAddr>,
    /// Search domains; those of the host when empty.
    pub search: Vec<String>,
    /// Options of `resolv.conf`; those of the host when empty.
    pub options: Vec<String>,
}

/// How registries are reached.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RegistrySettings {
    /// Addresses asked before Docker Hub itself, in order, such as `http://127.0.0.1:5000`; before another registry as
    /// `registry.example=https://mirror.example`.
    pub mirrors: Vec<String>,
    /// Registries as `host[:port]`, or blocks of addresses such as `10.0.0.0/8`, that may be spoken to without a checked
    /// certificate. The loopback addresses always are.
    pub insecure: Vec<String>,
    /// Blobs downloaded at once in one pull.
    pub concurrent_downloads: usize,
    /// Blobs uploaded at once in one push.
    pub concurrent_uploads: usize,
    /// Compressed layers are kept as they came, so that an image that is pushed or saved has the digest that it was
    /// pulled with. Without them the disk has a third less, and a push compresses anew.
    pub keep_blobs: bool,
    /// Directory with `<host[:port]>/*.crt` of authorities trusted for that registry or proxy, and `*.cert` with `*.key`
    /// that say who we are to it.
    pub certificates: Option<PathBuf>,
    /// Proxies on the way to registries.
    pub proxy: ProxySettings,
}

/// Proxies on the way to registries; this host itself is always reached straight.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ProxySettings {
    /// For addresses with `http://`, as `http://[user:password@]host:port`; `https://` is a proxy that is spoken to by TLS.
    pub http: Option<String>,
    /// For addresses with `https://`.
    pub https: Option<String>,
    /// What is reached without: hosts with what is in them, addresses, blocks such as `10.0.0.0/8`, or `*`.
    pub exceptions: Vec<String>,
}

impl fmt::Debug for ProxySettings {
    /// Shows no password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = |text: &Option<String>| text.as_deref().and_then(|text| text.rsplit('@').next()).map(str::to_owned);
        f.debug_struct("ProxySettings")
            .field("http", &host(&self.http))
            .field("https", &host(&self.https))
            .field("exceptions", &self.exceptions)
            .finish()
    }
}

impl Default for RegistrySettings {
    fn default() -> Self {
        Self {
            mirrors: Vec::new(),
            insecure: Vec::new(),
            concurrent_downloads: 3,
            concurrent_uploads: 5,
            keep_blobs: true,
            certificates: None,
            proxy: ProxySettings::default(),
        }
    }
}

impl RegistrySettings {
    /// Adds a mirror of Docker Hub.
    #[must_use]
    pub fn mirror(mut self, mirror: impl Into<String>) -> Self {
        self.mirrors.push(mirror.into());
        self
    }

    /// Adds a registry that may be spoken to without a checked certificate.
    #[must_use]
    pub fn insecure(mut self, registry: impl Into<String>) -> Self {
        self.insecure.push(registry.into());
        self
    }
}

/// How much room images may take on the disk. Whoever stores an image makes room, if it takes some: see
/// [`Images::trim`](crate::image::Images::trim), which says what goes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RoomSettings {
    /// Bytes that all images may take together, with what is kept of their archives; as much as there is when not given.
    pub quota: Option<u64>,
    /// What was used more recently than this stays, whatever it takes: somebody is about to use it again.
    pub spare: Duration,
}

impl Default for RoomSettings {
    fn default() -> Self {
        Self { quota: None, spare: Duration::from_secs(10 * 60) }
    }
}

impl RoomSettings {
    /// Images may take that many bytes.
    #[must_use]
    pub fn quota(bytes: u64) -> Self {
        Self { quota: Some(bytes), ..Self::default() }
    }

    /// Sets [`RoomSettings::spare`].
    #[must_use]
    pub fn spare(mut self, spare: Duration) -> Self {
        self.spare = spare;
        self
    }
}

/// What becomes of output by default.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogSettings {
    /// Name of the driver: `json-file` or `none`.
    pub driver: String,
    /// Options of the driver, such as `max-size`. Output is bounded unless they say otherwise.
    pub options: BTreeMap<String, String>,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { driver: "json-file".to_owned(), options: BTreeMap::new() }
    }
}

/// A limit of `setrlimit`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// Name without `RLIMIT_`, in lower case: `nofile`, `nproc`, …
    pub name: String,
    /// Soft limit; -1 means none.
    pub soft: i64,
    /// Hard limit; -1 means none.
    pub hard: i64,
}

impl Ulimit {
    /// A limit with its soft and hard value.
    pub fn new(name: impl Into<String>, soft: i64, hard: i64) -> Self {
        Self { name: name.into(), soft, hard }
    }
}

/// A number of bytes, with its unit in sight.
///
/// ```
/// use engine::Bytes;
/// assert_eq!(Bytes::mib(64).get(), 67_108_864);
/// assert_eq!("64m".parse::<Bytes>()?, Bytes::mib(64));
/// # Ok::<(), engine::settings::InvalidBytes>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bytes(u64);

impl Bytes {
    /// `count` bytes.
    #[must_use]
    pub const fn new(count: u64) -> Self {
        Self(count)
    }

    /// `count` times 1024 bytes; the largest number when that is too much.
    #[must_use]
    pub const fn kib(count: u64) -> Self {
        Self(count.saturating_mul(1 << 10))
    }

    /// `count` times 1024² bytes; the largest number when that is too much.
    #[must_use]
    pub const fn mib(count: u64) -> Self {
        Self(count.saturating_mul(1 << 20))
    }

    /// `count` times 1024³ bytes; the largest number when that is too much.
    #[must_use]
    pub const fn gib(count: u64) -> Self {
        Self(count.saturating_mul(1 << 30))
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A size that is not a number with an optional unit of `b k m g t p`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid size: '{0}'")]
pub struct InvalidBytes(String);

impl std::str::FromStr for Bytes {
    type Err = InvalidBytes;

    /// Reads `1024`, `64m`, `64MB`, `1.5 GiB`; units are powers of 1024 and may be in either case.
    fn from_str(text: &str) -> Result<Self, InvalidBytes> {
        let invalid = || InvalidBytes(text.to_owned());
        let number_len = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(number_len);
        let unit = unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase();
        let power = match unit.strip_suffix("ib").or_else(|| unit.strip_suffix('b')).unwrap_or(&unit) {
            "" if unit != "ib" => 0,
            "k" => 10,
            "m" => 20,
            "g" => 30,
            "t" => 40,
            "p" => 50,
            _ => return Err(invalid()),
        };
        if let Ok(whole) = number.parse::<u64>() {
            return whole.checked_mul(1 << power).map(Self).ok_or_else(invalid);
        }
        let fraction: f64 = number.parse().map_err(|_| invalid())?;
        #[allow(clippy::cast_precision_loss, reason = "a power of two is exact")]
        let count = fraction * (1_u64 << power) as f64;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be in range")]
        if count.is_finite() && (0.0..9.2e18).contains(&count) { Ok(Self(count as u64)) } else { Err(invalid()) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn sizes_are_read_with_and_without_units() {
        for (text, bytes) in [
            ("0", 0),
            ("1024", 1024),
            ("1k", 1024),
            ("20m", 20 << 20),
            ("1GB", 1 << 30),
            ("1.5 GiB", 3 << 29),
            ("7b", 7),
        ] {
            assert_eq!(text.parse::<Bytes>().unwrap().get(), bytes, "{text}");
        }
        for text in ["", "m", "-1", "1x", "1 mm", "99999999p", "1.2.3k", "1ib", "١m"] {
            assert!(text.parse::<Bytes>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_root_of_its_own_keeps_everything_beneath_it() {
        let settings = Settings::at("/srv/e");
        assert!(settings.run.starts_with(&settings.root));
    }
}
