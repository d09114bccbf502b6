//! What is asked for when a container is made.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::host_config::{HostConfig, LogConfig};
use super::modes::{Lifetime, NetworkMode};
use super::mounts::MountSpec;
use crate::oci::Healthcheck;
use crate::settings::{Bytes, Ulimit};

/// What is asked for when a container is made. What is left open comes from the image, then from the engine's settings.
///
/// ```
/// use engine::{Bytes, ContainerSpec};
/// let spec = ContainerSpec::new("busybox").name("greeter").command(["echo", "hi"]).memory(Bytes::mib(64));
/// assert_eq!(spec.host.resources.memory, 64 << 20);
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct ContainerSpec {
    /// The image: a reference, a digest, an id or its prefix.
    pub image: String,
    /// A name; one is made up when none is given.
    pub name: Option<String>,
    /// `os[/architecture[/variant]]` that the image must be of.
    pub platform: Option<String>,
    /// How long it may run.
    pub lifetime: Lifetime,
    /// Host name; the short id when empty.
    pub hostname: String,
    /// NIS domain name.
    pub domainname: String,
    /// `user[:group]` by name or number; that of the image when empty.
    pub user: String,
    /// Variables as `NAME=value`; `NAME` alone takes one away that the image has.
    pub env: Vec<String>,
    /// Arguments, or the program itself where there is no entry point.
    pub command: Option<Vec<String>>,
    /// The program; a first empty string takes away that of the image.
    pub entrypoint: Option<Vec<String>>,
    /// Absolute path; made when it is not there.
    pub working_dir: String,
    /// Labels besides those of the image.
    pub labels: BTreeMap<String, String>,
    /// Give it a terminal.
    pub tty: bool,
    /// Standard input can be attached.
    pub open_stdin: bool,
    /// Standard input is closed when the first client that brought it goes.
    pub stdin_once: bool,
    /// The client means to attach standard input; kept for inspect.
    pub attach_stdin: bool,
    /// The client means to attach standard output; kept for inspect.
    pub attach_stdout: bool,
    /// The client means to attach standard error; kept for inspect.
    pub attach_stderr: bool,
    /// Ports that it listens on, as `80/tcp`.
    pub exposed_ports: BTreeSet<String>,
    /// Paths that are anonymous volumes.
    pub volumes: BTreeSet<String>,
    /// Signal that asks it to end.
    pub stop_signal: Option<String>,
    /// Seconds until it is killed after that; -1 waits without end.
    pub stop_timeout: Option<i64>,
    /// Hardware address of its interface.
    pub mac_address: Option<String>,
    /// The shell of `SHELL` form commands; kept for inspect.
    pub shell: Option<Vec<String>>,
    /// What a build on top of an image of it runs first; kept for inspect and commit.
    pub on_build: Vec<String>,
    /// How its health is found out. Refused: checks are not run yet.
    pub healthcheck: Option<Healthcheck>,
    /// No network interfaces but the loopback; the old form of [`NetworkMode::None`].
    pub network_disabled: bool,
    /// How it is tied to its host.
    pub host: HostConfig,
    /// Binds that are read-only are so at their top only, whatever is mounted below it.
    pub shallow_read_only: bool,
    /// What it asks of networks, by their name or id.
    pub endpoints: BTreeMap<String, EndpointSpec>,
}

/// What a container asks of a network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct EndpointSpec {
    /// An address of the network's subnet.
    pub ipv4_address: Option<Ipv4Addr>,
    /// An address of the network's IPv6 subnet.
    pub ipv6_address: Option<Ipv6Addr>,
    /// Further addresses, of the link only.
    pub link_local_addresses: Vec<IpAddr>,
    /// Hardware address.
    pub mac_address: Option<String>,
    /// Of a container's networks the one with the highest priority leads elsewhere.
    pub gateway_priority: i64,
    /// More names on that network.
    pub aliases: Vec<String>,
    /// Links to other containers of that network, as `container:alias`.
    pub links: Vec<String>,
    /// Options of the network's driver.
    pub driver_opts: BTreeMap<String, String>,
}

impl EndpointSpec {
    /// Asks for nothing in particular.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the address.
    #[must_use]
    pub fn address(mut self, address: Ipv4Addr) -> Self {
        self.ipv4_address = Some(address);
        self
    }

    /// Adds a name.
    #[must_use]
    pub fn alias(mut self, name: impl Into<String>) -> Self {
        self.aliases.push(name.into());
        self
    }
}

macro_rules! setters {
    ($($(#[doc = $doc:literal])* $name:ident($value:ident: $type:ty) $body:expr;)*) => {$(
        $(#[doc = $doc])*
        #[must_use]
        pub fn $name(mut self, $value: $type) -> Self {
            let set: fn(&mut Self, $type) = $body;
            set(&mut self, $value);
            self
        }
    )*};
}

impl ContainerSpec {
    /// A container of `image`, with nothing else asked for.
    pub fn new(image: impl ToString) -> Self {
        Self { image: image.to_string(), ..Self::default() }
    }

    /// Sets the name.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets the arguments (or the program with its arguments, where the image has no entry point).
    #[must_use]
    pub fn command<S: Into<String>>(mut self, command: impl IntoIterator<Item = S>) -> Self {
        self.command = Some(command.into_iter().map(Into::into).collect());
        self
    }

    /// Sets the program with its first arguments.
    #[must_use]
    pub fn entrypoint<S: Into<String>>(mut self, entrypoint: impl IntoIterator<Item = S>) -> Self {
        self.entrypoint = Some(entrypoint.into_iter().map(Into::into).collect());
        self
    }

    /// Adds a variable of the environment.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<str>, value: impl AsRef<str>) -> Self {
        self.env.push(format!("{}={}", name.as_ref(), value.as_ref()));
        self
    }

    /// Adds a label.
    #[must_use]
    pub fn label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(name.into(), value.into());
        self
    }

    /// Sets the user, as `user[:group]`.
    #[must_use]
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.user = user.into();
        self
    }

    /// Sets the working directory.
    #[must_use]
    pub fn working_dir(mut self, path: impl Into<String>) -> Self {
        self.working_dir = path.into();
        self
    }

    /// Sets the host name.
    #[must_use]
    pub fn hostname(mut self, name: impl Into<String>) -> Self {
        self.hostname = name.into();
        self
    }

    /// Puts it on one more network, by name or id.
    #[must_use]
    pub fn endpoint(mut self, network: impl Into<String>, endpoint: EndpointSpec) -> Self {
        self.endpoints.insert(network.into(), endpoint);
        self
    }

    /// Adds a bind or a volume, as `source:destination[:options]`.
    #[must_use]
    pub fn bind(mut self, bind: impl Into<String>) -> Self {
        self.host.binds.push(bind.into());
        self
    }

    /// Adds memory at a path.
    #[must_use]
    pub fn tmpfs(mut self, path: impl Into<String>, options: impl Into<String>) -> Self {
        self.host.tmpfs.insert(path.into(), options.into());
        self
    }

    /// Adds an anonymous volume.
    #[must_use]
    pub fn volume(mut self, path: impl Into<String>) -> Self {
        self.volumes.insert(path.into());
        self
    }

    /// Adds a capability.
    #[must_use]
    pub fn cap_add(mut self, capability: impl Into<String>) -> Self {
        self.host.cap_add.push(capability.into());
        self
    }

    /// Takes a capability away.
    #[must_use]
    pub fn cap_drop(mut self, capability: impl Into<String>) -> Self {
        self.host.cap_drop.push(capability.into());
        self
    }

    /// Adds a security option, such as `no-new-privileges`.
    #[must_use]
    pub fn security_opt(mut self, option: impl Into<String>) -> Self {
        self.host.security_opt.push(option.into());
        self
    }

    /// Adds a kernel parameter.
    #[must_use]
    pub fn sysctl(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.host.sysctls.insert(name.into(), value.into());
        self
    }

    /// Adds a line of `/etc/hosts`.
    #[must_use]
    pub fn extra_host(mut self, name: &str, address: &str) -> Self {
        self.host.extra_hosts.push(format!("{name}:{address}"));
        self
    }

    /// Sets the signal that asks it to end.
    #[must_use]
    pub fn stop_signal(mut self, signal: impl Into<String>) -> Self {
        self.stop_signal = Some(signal.into());
        self
    }

    setters! {
        /// Sets how long it may run.
        lifetime(lifetime: Lifetime) |spec, lifetime| spec.lifetime = lifetime;
        /// Gives it a terminal.
        tty(tty: bool) |spec, tty| spec.tty = tty;
        /// Lets standard input be attached.
        open_stdin(open: bool) |spec, open| spec.open_stdin = open;
        /// Closes standard input with the first client that brought it.
        stdin_once(once: bool) |spec, once| spec.stdin_once = once;
        /// Sets the network.
        network(mode: NetworkMode) |spec, mode| spec.host.network_mode = mode;
        /// Adds a mount.
        mount(mount: MountSpec) |spec, mount| spec.host.mounts.push(mount);
        /// Bounds its memory.
        memory(bytes: Bytes) |spec, bytes| spec.host.resources.memory = i64::try_from(bytes.get()).unwrap_or(i64::MAX);
        /// Bounds its memory and swap together.
        memory_swap(bytes: Bytes) |spec, bytes| spec.host.resources.memory_swap = i64::try_from(bytes.get()).unwrap_or(i64::MAX);
        /// Bounds its processor time, in billionths of a processor.
        nano_cpus(count: i64) |spec, count| spec.host.resources.nano_cpus = count;
        /// Bounds its number of processes and threads.
        pids_limit(count: i64) |spec, count| spec.host.resources.pids_limit = Some(count);
        /// Adds a limit of `setrlimit`.
        ulimit(limit: Ulimit) |spec, limit| spec.host.ulimits.push(limit);
        /// Sets the size of `/dev/shm`.
        shm_size(bytes: Bytes) |spec, bytes| spec.host.shm_size = bytes.get();
        /// Gives it every capability and every device.
        privileged(privileged: bool) |spec, privileged| spec.host.privileged = privileged;
        /// Keeps it from writing to its root file system.
        readonly_rootfs(readonly: bool) |spec, readonly| spec.host.readonly_rootfs = readonly;
        /// Removes it when its process has ended.
        auto_remove(remove: bool) |spec, remove| spec.host.auto_remove = remove;
        /// Sets where output goes.
        log(log: LogConfig) |spec, log| spec.host.log = log;
        /// Runs a small init as process 1.
        init(init: bool) |spec, init| spec.host.init = Some(init);
        /// Sets the seconds until a stop kills; -1 waits without end.
        stop_timeout(seconds: i64) |spec, seconds| spec.stop_timeout = Some(seconds);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn setters_chain() {
        let spec = ContainerSpec::new("busybox")
            .command(["echo", "hi"])
            .env("A", "b")
            .memory(Bytes::mib(64))
            .network(NetworkMode::None)
            .auto_remove(true);
        assert_eq!(spec.command.as_deref(), Some(&["echo".to_owned(), "hi".to_owned()][..]));
        assert_eq!(spec.env, ["A=b"]);
        assert_eq!(spec.host.resources.memory, 67_108_864);
        assert!(spec.host.auto_remove);
    }
}
