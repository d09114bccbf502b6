//! Starting a container: its network, its files of names, its bundle, its launch. Undone in reverse when a step fails, and
//! nothing on the way waits for a disk.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use engine_runtime::protocol::{Attach, Event, Failure, INIT, Request};
use engine_runtime::{Bundle, External, Monitor, Prepared, spawner::Launched};

use super::bundle::{self, Surroundings};
use super::checkpoint::Anew;
use super::health::{self, Health};
use super::inventory::{Pending, Shared, blocking, now, uninterrupted};
use super::links::Linked;
use super::live::Live;
use super::mounts::MountKind;
use super::propagation;
use super::record::Record;
use super::sources;
use super::status::Status;
use super::supervise::{clear, supervise};
use super::{Container, Error, IpcMode, NamespaceMode, NetworkMode, cdi, devices, outside, restart, shipping};
use crate::id::ContainerId;
use crate::network::files::{self, ExtraHost};
use crate::network::{Connect, Endpoint, NetworkNamespace};
use crate::settings::DnsSettings;
use crate::snapshot::Upper;

impl Container {
    /// Starts it. Returns when its program runs.
    ///
    /// # Errors
    /// When it runs already, or cannot be started: [`Error::Start`] says why in Docker's words.
    pub async fn start(&self) -> Result<(), Error> {
        let this = self.clone();
        uninterrupted(async move {
            let _turn = this.inner.lifecycle.lock().await;
            this.inner.set_ticket(None);
            this.start_in_turn(Begin::Asked, None).await
        })
        .await
    }

    /// Starts it for whoever has its lifecycle locked, perhaps from a checkpoint.
    pub(super) async fn start_in_turn(&self, begin: Begin, anew: Option<Anew>) -> Result<(), Error> {
        self.owned()?;
        let inner = &self.inner;
        let status = inner.record().state.status;
        match status {
            Status::Running => return Err(Error::NotModified(format!("container {} is already running", inner.id))),
            Status::Paused => return Err(Error::conflict("cannot start a paused container, try unpause instead")),
            Status::Removing | Status::Dead => {
                return Err(Error::conflict("container is marked for removal and cannot be started"));
            }
            Status::Created | Status::Exited | Status::Restarting => {}
        }
        inner.settle().await?;
        let started = match self.prepared(begin, anew).await {
            Ok(start) => {
                // Whoever looks at its files has mounted them, and a second mount of the same would spoil both.
                let alone = inner.views.alone().await;
                let started = blocking(move || start.run()).await;
                drop(alone);
                started
            }
            Err(error) => {
                // Whoever was attached has nothing to wait for.
                drop(inner.take_pending());
                Err(error)
            }
        };
        match started {
            Ok(started) => self.started(started, begin).await,
            Err(error) => {
                self.failed(&error, begin).await;
                Err(error)
            }
        }
    }

    /// Finds what the start needs of others.
    async fn prepared(&self, begin: Begin, anew: Option<Anew>) -> Result<Start, Error> {
        let record = self.inner.record();
        if begin == Begin::Asked {
            // Later, whoever takes the lines may come and go.
            shipping::reach(&record).await?;
        }
        let network_of = match &record.config.host.network_mode {
            NetworkMode::Container(other) => Some(self.pid_of(other, "network")?),
            _ => None,
        };
        let pid_of = match &record.config.host.pid_mode {
            NamespaceMode::Container(other) => Some(self.pid_of(other, "PID")?),
            _ => None,
        };
        let ipc_of = match &record.config.host.ipc_mode {
            IpcMode::Container(other) => Some(self.shares_memory(other)?),
            _ => None,
        };
        Ok(Start {
            shared: Arc::clone(&self.shared),
            record,
            network_of,
            pid_of,
            ipc_of,
            linked: Vec::new(),
            pending: self.inner.take_pending(),
            anew,
        })
    }

    async fn started(&self, started: Started, begin: Begin) -> Result<(), Error> {
        let (shared, inner) = (&self.shared, &self.inner);
        let Launched { monitor, pid, process, .. } = started.launched;
        let live = Arc::new(Live::new(monitor, process, pid, started.next_number));
        for (client, ended) in started.clients {
            live.expect_end_of(client, ended);
        }
        let changed = inner.change(shared, |record| {
            if begin == Begin::Again && record.state.status != Status::Restarting {
                return Err(Error::conflict(format!("container {} was stopped while it was started again", inner.id)));
            }
            let state =
                record.state.started(pid, started.at).map_err(|refused| inner.refused(&record.name, refused))?;
            let mut after = Record { state, endpoints: started.endpoints, ..record.clone() };
            after.health = health::probe(&record.config).map(|_| Health::begun(record.health.as_ref()));
            if begin == Begin::Asked {
                after.restart_count = 0;
                inner.delay(|_| Duration::ZERO);
            }
            Ok(after)
        });
        match changed {
            Ok(record) => {
                shared.tell_volumes(&record, "mount");
                shared.tell(&record, "start", &[]);
                supervise(Arc::clone(shared), Arc::clone(inner), live);
                Ok(())
            }
            Err(error) => {
                // What is not written down must not run.
                let _ = live.signal(9);
                clear(shared, inner).await;
                Err(error)
            }
        }
    }

    async fn failed(&self, error: &Error, begin: Begin) {
        let (shared, inner) = (&self.shared, &self.inner);
        sources::let_go_beside(shared, &inner.record()).await;
        let code = if let Error::Start { code, .. } = error { *code } else { 128 };
        let kept = inner.change(shared, |record| {
            let mut record = Record { state: record.state.start_failed(code, error.to_string()), ..record.clone() };
            let policy = record.config.host.restart_policy;
            if record.state.status == Status::Restarting {
                if begin == Begin::Again
                    && restart::goes_on(policy, code, record.state.stopped_on_purpose, record.restart_count)
                {
                    record.restart_count = record.restart_count.saturating_add(1);
                } else {
                    record.state.status = Status::Exited;
                }
            }
            Ok(record)
        });
        match kept {
            Ok(record) => {
                inner.over(&record);
                if record.state.status == Status::Restarting {
                    let delay = inner.delay(|last| restart::delay(last, Duration::ZERO));
                    restart::schedule(shared, inner, delay);
                }
            }
            // Nobody shall wait for it; a closed engine leaves it to the next one.
            Err(error) => {
                tracing::error!(container = %inner.id, %error, "why the start failed cannot be recorded");
            }
        }
        if inner.record().config.host.auto_remove
            && let Err(error) = self.remove_in_turn(true).await
        {
            tracing::error!(container = %inner.id, %error, "the container cannot be removed after its failed start");
        }
    }

    /// A container whose shared memory others may have.
    fn shares_memory(&self, other: &str) -> Result<Arc<Live>, Error> {
        let other = self.shared.find(other)?;
        let record = other.record();
        if !matches!(record.config.host.ipc_mode, IpcMode::Shareable | IpcMode::Host | IpcMode::Container(_)) {
            return Err(Error::invalid(format!(
                "can't join IPC of container {}: non-shareable IPC (hint: use IpcMode:shareable for the donor container)",
                record.id
            )));
        }
        other.live().ok_or_else(|| {
            Error::conflict(format!("can't join IPC of container {}: container is not running", record.id))
        })
    }

    fn pid_of(&self, other: &str, kind: &str) -> Result<u32, Error> {
        let other = self.shared.find(other)?;
        let live = other.live().ok_or_else(|| {
            Error::conflict(format!(
                "cannot join {kind} namespace of a non running container: container {} is {}",
                other.id,
                other.record().state.status.as_str()
            ))
        })?;
        Ok(live.pid)
    }
}

/// Why a container is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begin {
    /// Somebody wants it.
    Asked,
    /// Its restart policy wants it.
    Again,
}

/// A start that is on its way.
struct Start {
    ipc_of: Option<Arc<Live>>,
    shared: Arc<Shared>,
    record: Arc<Record>,
    network_of: Option<u32>,
    pid_of: Option<u32>,
    linked: Vec<Linked>,
    pending: Vec<Pending>,
    /// It is started from a checkpoint.
    anew: Option<Anew>,
}

struct Started {
    launched: Launched,
    /// When, in nanoseconds since 1970: before a fast program can have ended.
    at: i64,
    endpoints: Vec<Endpoint>,
    /// Clients that were connected before the first byte.
    clients: Clients,
    next_number: u64,
}

impl Start {
    /// Blocks for some milliseconds.
    fn run(mut self) -> Result<Started, Error> {
        self.linked = super::links::resolve(&self.shared, &self.record)?;
        let parts = &self.shared.parts;
        let id = self.record.id;
        let overlay = parts.snapshots.prepare(&id, &self.record.layers)?;
        // Also before the first start: somebody may have looked at its files.
        clean_volatile(&overlay)?;
        let pending = std::mem::take(&mut self.pending);
        let by = outside::of(&self.record);
        let again = by.is_some().then(|| overlay.clone());
        let mut bundle = self.bundle(overlay, !pending.is_empty())?;
        if let Some(overlay) = again {
            outside::name_users(&mut bundle, &overlay)?;
            clean_volatile(&overlay)?;
        }
        if let Some(part) = parts.settings.realtime
            && self.record.config.host.resources.cpu_realtime_runtime > 0
        {
            parts.runtime.allow_realtime(&bundle, part).map_err(launch_error)?;
        }
        // The kernel needs about as long for the one as for the other.
        let (prepared, connected) = std::thread::scope(|scope| {
            let connecting = scope.spawn(|| self.connect());
            let prepared = match (&by, &self.anew) {
                (None, None) => parts.runtime.prepare(&bundle, self.has_namespace()),
                (None, Some(Anew { by, images })) => parts.runtime.prepare_anew(&bundle, by, images),
                (Some(by), _) => parts.runtime.prepare_external(&bundle, by),
            };
            (prepared, connecting.join())
        });
        let (namespace, endpoints) =
            connected.unwrap_or_else(|_| Err(Error::Internal("connect the network: the thread died".to_owned())))?;
        let at = now();
        let launched = prepared
            .map_err(launch_error)
            .and_then(|prepared| self.launch(&bundle, prepared, by.as_ref(), namespace, &endpoints, pending));
        if launched.is_err()
            && let Err(error) = parts.networks.disconnect_blocking(&id)
        {
            tracing::error!(container = %id, %error, "the network of a container that did not start cannot be freed");
        }
        let (launched, clients, next_number) = launched?;
        Ok(Started { launched, at, endpoints, clients, next_number })
    }

    /// Whether it gets a network namespace of its own.
    fn has_namespace(&self) -> bool {
        !matches!(self.record.config.host.network_mode, NetworkMode::Container(_) | NetworkMode::Host)
    }

    /// What `host-gateway` stands for: as the settings say, else the host as this container reaches it.
    fn host_gateways(&self, endpoints: &[Endpoint]) -> Result<Vec<IpAddr>, Error> {
        let parts = &self.shared.parts;
        Ok(match self.record.config.host.network_mode {
            _ if !parts.settings.host_gateways.is_empty() => parts.settings.host_gateways.clone(),
            NetworkMode::Host => vec![Ipv4Addr::LOCALHOST.into()],
            _ => parts.networks.host_addresses(endpoints)?,
        })
    }

    fn connect(&self) -> Result<(Option<NetworkNamespace>, Vec<Endpoint>), Error> {
        let networks = &self.shared.parts.networks;
        let id = self.record.id;
        Ok(match &self.record.config.host.network_mode {
            NetworkMode::Container(_) => (None, Vec::new()),
            NetworkMode::Host => (None, vec![networks.connect_blocking(&Connect::new(id, crate::network::HOST))?]),
            NetworkMode::None => {
                let namespace = NetworkNamespace::create_blocking()?;
                let endpoint = networks.connect_blocking(&Connect::new(id, crate::network::NONE))?;
                (Some(namespace), vec![endpoint])
            }
            NetworkMode::Default | NetworkMode::Named(_) => {
                let requests = super::networks::requests(&self.record, networks)?;
                let namespace = NetworkNamespace::create_blocking()?;
                let mut endpoints = Vec::with_capacity(requests.len());
                for request in requests {
                    match networks.connect_blocking(&request.namespace(&namespace)) {
                        Ok(endpoint) => endpoints.push(endpoint),
                        Err(error) => {
                            if !endpoints.is_empty() {
                                networks.disconnect_blocking(&id)?;
                            }
                            return Err(error.into());
                        }
                    }
                }
                if let Err(error) = super::networks::resolve(&self.shared, &self.record, &endpoints, &namespace) {
                    networks.disconnect_blocking(&id)?;
                    return Err(error);
                }
                (Some(namespace), endpoints)
            }
        })
    }

    fn bundle(&self, overlay: Upper, wait_for_start: bool) -> Result<Bundle, Error> {
        let (record, parts) = (&self.record, &self.shared.parts);
        let directory = self.shared.directory(&record.id);
        // Who is in the network of another one sees the names that that one sees.
        let names = self.shared.directory(&super::networks::owner(&self.shared, record)?);
        for mount in record.mounts.iter().filter(|mount| mount.kind == MountKind::Bind && mount.create) {
            make_source(Path::new(&mount.source))?;
        }
        let mut bundle = bundle::bundle(
            record,
            Surroundings {
                host: parts.runtime.host(),
                overlay,
                files: names,
                log_directory: directory,
                log_name: log_name(&record.id),
                network_of: self.network_of,
                pid_of: self.pid_of,
                ipc_of: self.ipc_of.as_ref().map(|live| live.pid),
                devices: devices::look_up(&record.config.host)?,
                no_new_privileges: parts.settings.no_new_privileges,
                variables: self.linked.iter().flat_map(Linked::variables).collect(),
                wait_for_start,
            },
        )?;
        let requests = &record.config.host.device_requests;
        if let Some(devices) = cdi::look_up(requests, &parts.settings.cdi_directories)? {
            devices.apply(&mut bundle)?;
        }
        propagation::check(&record.mounts)?;
        bundle.trees = sources::trees(&self.shared, record, self.ipc_of.as_deref())?;
        Ok(bundle)
    }

    fn launch(
        &self,
        bundle: &Bundle,
        prepared: Prepared<'_>,
        by: Option<&External>,
        namespace: Option<NetworkNamespace>,
        endpoints: &[Endpoint],
        pending: Vec<Pending>,
    ) -> Result<(Launched, Clients, u64), Error> {
        let (record, parts) = (&self.record, &self.shared.parts);
        if !matches!(record.config.host.network_mode, NetworkMode::Container(_)) {
            let gateways = self.host_gateways(endpoints)?;
            let directory = self.shared.directory(&record.id);
            write_names(&directory, record, endpoints, &self.linked, &parts.settings.dns, &gateways)?;
        }
        let network = namespace.as_ref().map(NetworkNamespace::to_fd).transpose()?;
        let launched = prepared.launch(network).map_err(launch_error)?;
        if !launched.waiting {
            return Ok((launched, Vec::new(), 1));
        }
        let why = |failure| launch_error(parts.runtime.start_failed(bundle, self.has_namespace(), failure));
        let let_go = match by {
            None => connect_pending(&launched.monitor, record, pending, || Ok(()), why),
            Some(_) => {
                let start = || parts.runtime.start_external(record.id.as_str()).map_err(launch_error);
                connect_pending(&launched.monitor, record, pending, start, why)
            }
        };
        match let_go {
            Ok((clients, next)) => Ok((launched, clients, next)),
            Err(error) => {
                drop(launched);
                outside::forget(&self.shared, &record.id);
                if let Err(error) = parts.runtime.remove(record.id.as_str()) {
                    tracing::error!(container = %record.id, %error, "a container that did not start cannot be taken away");
                }
                Err(error)
            }
        }
    }
}

/// The bundle that a running container was launched with, for a further process in it.
pub(super) fn bundle_of(shared: &Shared, record: &Record) -> Result<Bundle, Error> {
    let directory = shared.directory(&record.id);
    bundle::bundle(
        record,
        Surroundings {
            host: shared.parts.runtime.host(),
            overlay: shared.parts.snapshots.of(&record.id, &record.layers),
            files: directory.clone(),
            log_directory: directory,
            log_name: log_name(&record.id),
            network_of: None,
            pid_of: None,
            ipc_of: None,
            devices: devices::Devices::default(),
            no_new_privileges: shared.parts.settings.no_new_privileges,
            variables: Vec::new(),
            wait_for_start: false,
        },
    )
}

type Clients = Vec<(u64, tokio::sync::oneshot::Sender<()>)>;

/// Connects those who attached before the start, then lets the container go.
fn connect_pending(
    monitor: &Monitor,
    record: &Record,
    pending: Vec<Pending>,
    start: impl FnOnce() -> Result<(), Error>,
    why: impl FnOnce(Failure) -> Error,
) -> Result<(Clients, u64), Error> {
    let failed = |error: engine_runtime::monitor::MonitorError| Error::Internal(error.to_string());
    let mut clients = Vec::with_capacity(pending.len());
    let mut number = 1;
    for Pending { client, preface, framed, options, ended } in pending {
        let attach = attach_request(number, record, framed, &options, &preface);
        monitor.send(&Request::Attach { attach }, &[client.as_fd()]).map_err(failed)?;
        clients.push((number, ended));
        number += 1;
    }
    monitor.send(&Request::Start {}, &[]).map_err(failed)?;
    loop {
        match monitor.receive().map_err(failed)?.0 {
            Event::Started { .. } => {
                // Only now: it may be over at once, and the monitor with it.
                start()?;
                return Ok((clients, number));
            }
            Event::StartFailed { failure } => return Err(why(failure)),
            // It left before the start, or never was one.
            Event::Detached { client, .. } | Event::Refused { subject: client, .. } => {
                clients.retain(|(number, _)| *number != client);
            }
            Event::Closed {} => return Err(Error::Internal("the monitor went away while it was started".to_owned())),
            _ => {}
        }
    }
}

/// What the monitor is asked when a client is connected to the container itself.
pub(super) fn attach_request<'a>(
    number: u64,
    record: &Record,
    framed: bool,
    options: &'a super::AttachOptions,
    preface: &'a [u8],
) -> Attach<'a> {
    let config = &record.config;
    Attach {
        client: number,
        process: INIT,
        stdin: options.stdin && config.open_stdin,
        stdout: options.stdout,
        stderr: options.stderr,
        framed: framed && !config.tty,
        stdin_once: config.stdin_once,
        detach_keys: if config.tty { options.detach_keys.as_bytes() } else { &[] },
        preface,
    }
}

/// The runtime's words, with those that Docker's clients look for before them.
pub(super) fn launch_error(error: engine_runtime::Error) -> Error {
    match error {
        engine_runtime::Error::Process { message, exit_code } => Error::Start {
            code: exit_code,
            message: format!(
                "failed to create task for container: failed to create shim task: OCI runtime create failed: {message}: unknown"
            ),
        },
        other => Error::Runtime(other),
    }
}

pub(super) fn log_name(id: &ContainerId) -> String {
    format!("{id}-json.log")
}

/// An overlay that was mounted so that nothing is synced is refused a second time, unless the kernel's mark is taken away.
pub(super) fn clean_volatile(overlay: &Upper) -> Result<(), Error> {
    let mark = overlay.work.join("work/incompat");
    match std::fs::remove_dir_all(&mark) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", mark, error)),
        _ => Ok(()),
    }
}

/// A bind whose source is missing gets a directory, as with Docker.
fn make_source(path: &Path) -> Result<(), Error> {
    match std::fs::create_dir_all(path) {
        Err(_) if path.exists() => Ok(()),
        other => other.map_err(|error| Error::io("make the source of a bind mount,", path, error)),
    }
}

/// `hosts`, `hostname` and `resolv.conf`, made anew at each start.
fn write_names(
    directory: &Path,
    record: &Record,
    endpoints: &[Endpoint],
    linked: &[Linked],
    default: &DnsSettings,
    gateways: &[IpAddr],
) -> Result<(), Error> {
    let config = &record.config;
    let on_host = config.host.network_mode == NetworkMode::Host;
    let extra = config.host.extra_hosts.iter().map(|line| ExtraHost::parse(line, gateways));
    let extra = extra.collect::<Result<Vec<_>, _>>().map_err(|error| Error::invalid(error.to_string()))?;
    let mut extra: Vec<ExtraHost> = extra.into_iter().flatten().collect();
    extra.extend(linked.iter().map(Linked::host));
    let hosts = if on_host {
        files::hosts_of_host(&read("/etc/hosts"), &extra)
    } else {
        let addresses = super::networks::addresses(endpoints);
        files::hosts(&config.hostname, &config.domainname, &addresses, &extra)
    };
    let resolv = resolv_conf(record, endpoints, default);
    for (name, text) in [("hosts", hosts), ("hostname", files::hostname(&config.hostname)), ("resolv.conf", resolv)] {
        let path = directory.join(name);
        std::fs::write(&path, text).map_err(|error| Error::io("write", path, error))?;
    }
    Ok(())
}

/// The content of `resolv.conf` of a container with these ends.
pub(super) fn resolv_conf(record: &Record, endpoints: &[Endpoint], default: &DnsSettings) -> String {
    let mut host_resolv = read(files::RESOLV_CONF);
    let better = files::resolv_conf_path(&host_resolv);
    if better != files::RESOLV_CONF {
        host_resolv = read(better);
    }
    let own = &record.config.host;
    let or = |own: &[String], default: &[String]| if own.is_empty() { default.to_vec() } else { own.to_vec() };
    let servers = own.dns.iter().filter_map(|server| server.parse().ok()).collect::<Vec<_>>();
    let asked = DnsSettings {
        servers: if servers.is_empty() { default.servers.clone() } else { servers },
        search: or(&own.dns_search, &default.search),
        options: or(&own.dns_options, &default.options),
    };
    let names =
        if own.network_mode == NetworkMode::Host { files::Names::OfHost } else { super::networks::names_by(endpoints) };
    files::resolv_conf(&host_resolv, &asked, names)
}

/// A host's file; empty when it cannot be read.
pub(super) fn read(path: &str) -> String {
    const MAX_LEN: u64 = 1 << 20;
    use std::io::Read as _;
    let mut text = String::new();
    if let Ok(file) = std::fs::File::open(path) {
        let _ = file.take(MAX_LEN).read_to_string(&mut text);
    }
    text
}
