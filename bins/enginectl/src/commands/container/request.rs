//! Flags to the request that makes a container. Pure: what it needs from outside is passed in.

use engine_api::container::{ContainerConfig, CreateRequest, Empty, HealthConfig};
use engine_api::host_config::{DeviceRequest, HostConfig, LogConfig};
use engine_api::network::{EndpointIpamConfig, EndpointSettings, NetworkingConfig};

use super::mount;
use super::options::Options;
use super::words::{self, some, some_map};
use crate::error::Error;
use crate::output::{size, time};

/// What flags may refer to on the client's side.
pub(crate) struct Surroundings<'a> {
    /// Looks up an environment variable.
    pub(crate) variable: &'a dyn Fn(&str) -> Option<String>,
    /// Reads a file.
    pub(crate) read: &'a dyn Fn(&str) -> Result<Vec<u8>, String>,
    /// Makes a path absolute.
    pub(crate) absolute: &'a dyn Fn(&str) -> String,
    /// Rows and columns of the terminal.
    pub(crate) console: Option<(u16, u16)>,
}

/// The request for these flags, as `create` sends it.
pub(crate) fn request(options: &Options, around: &Surroundings<'_>) -> Result<CreateRequest, Error> {
    let bad = |flag: &'static str| move |error: String| Error::Invalid(format!("{flag}: {error}"));
    let mut ports = words::Ports::default();
    for text in &options.publish {
        ports.publish(text).map_err(bad("--publish"))?;
    }
    for text in &options.expose {
        ports.expose(text).map_err(bad("--expose"))?;
    }
    let binds = Binds::new(options, around);
    let (network_mode, endpoints) = networks(options)?;
    let (image, command) =
        options.arguments.split_first().ok_or_else(|| Error::Invalid("an image is needed".to_owned()))?;
    if image.is_empty() {
        return Err(Error::Invalid("invalid reference format".to_owned()));
    }
    let (attach_stdin, attach_stdout, attach_stderr) = attached(options)?;
    let config = ContainerConfig {
        hostname: options.hostname.clone().unwrap_or_default(),
        domainname: options.domainname.clone().unwrap_or_default(),
        user: options.user.clone().unwrap_or_default(),
        attach_stdin,
        attach_stdout,
        attach_stderr,
        exposed_ports: (!ports.exposed.is_empty()).then_some(ports.exposed),
        tty: options.tty,
        open_stdin: options.interactive,
        stdin_once: options.interactive && attach_stdin,
        env: some(&environment(&options.env_file, &options.env, around)?),
        cmd: some(command),
        healthcheck: health(options)?,
        image: image.clone(),
        volumes: (!binds.volumes.is_empty())
            .then(|| binds.volumes.iter().map(|path| (path.clone(), Empty {})).collect()),
        working_dir: options.workdir.clone().unwrap_or_default(),
        entrypoint: options.entrypoint.as_ref().map(|program| vec![program.clone()]),
        labels: some_map(&labels(options, around)?),
        stop_signal: options.stop_signal.clone().unwrap_or_default(),
        stop_timeout: options.stop_timeout,
        ..ContainerConfig::default()
    };
    let (security_opt, masked_paths, readonly_paths) = security(options, around)?;
    let bytes = |flag: &'static str, text: &Option<String>| match text {
        Some(text) => size::parse(text).map_err(bad(flag)),
        None => Ok(0),
    };
    let swappiness = options.memory_swappiness.filter(|number| *number != -1);
    if swappiness.is_some_and(|number| !(0..=100).contains(&number)) {
        return Err(Error::Invalid(format!(
            "invalid value: {}. Valid memory swappiness range is 0-100",
            swappiness.unwrap_or_default()
        )));
    }
    let restart_policy = words::restart(options.restart.as_deref().unwrap_or("no")).map_err(Error::Invalid)?;
    if options.remove && !matches!(restart_policy.name.as_str(), "" | "no") {
        return Err(Error::Invalid("conflicting options: cannot specify both --restart and --rm".to_owned()));
    }
    let log_driver = options.log_driver.clone().unwrap_or_default();
    if log_driver == "none" && !options.log_opt.is_empty() {
        return Err(Error::Invalid("invalid logging opts for driver none".to_owned()));
    }
    let (named, devices): (Vec<String>, Vec<String>) =
        options.device.iter().cloned().partition(|text| words::is_cdi_name(text));
    let mut requests = Vec::new();
    if !named.is_empty() {
        requests.push(DeviceRequest { driver: "cdi".to_owned(), device_ids: Some(named), ..DeviceRequest::default() });
    }
    requests.extend(options.gpus.as_deref().map(words::gpus).transpose().map_err(bad("--gpus"))?);
    let (rows, columns) = around.console.unwrap_or_default();
    let host_config = HostConfig {
        binds: some(&binds.binds),
        isolation: options.isolation.clone().unwrap_or_default(),
        container_id_file: options.cidfile.clone().unwrap_or_default(),
        log_config: LogConfig { kind: log_driver, config: Some(words::map(&options.log_opt)) },
        network_mode,
        port_bindings: Some(ports.bindings),
        restart_policy,
        auto_remove: options.remove,
        volume_driver: options.volume_driver.clone().unwrap_or_default(),
        volumes_from: some(&options.volumes_from),
        console_size: if options.tty { [u32::from(rows), u32::from(columns)] } else { [0, 0] },
        annotations: some_map(&options.annotation),
        cap_add: some(&options.cap_add),
        cap_drop: some(&options.cap_drop),
        cgroupns_mode: checked("--cgroupns", "CGROUP mode", &options.cgroupns, &["", "host", "private"])?,
        dns: Some(options.dns.clone()),
        dns_options: Some(options.dns_option.clone()),
        dns_search: Some(options.dns_search.clone()),
        extra_hosts: some(&all(&options.add_host, words::extra_host, "--add-host")?),
        group_add: some(&options.group_add),
        ipc_mode: options.ipc.clone().unwrap_or_default(),
        links: if endpoints.1 { None } else { some(&options.link) },
        oom_score_adj: options.oom_score_adj.unwrap_or(0),
        pid_mode: namespace("--pid", "PID mode", &options.pid)?,
        privileged: options.privileged,
        publish_all_ports: options.publish_all,
        readonly_rootfs: options.read_only,
        security_opt: some(&security_opt),
        storage_opt: some_map(&options.storage_opt),
        tmpfs: (!options.tmpfs.is_empty()).then(|| {
            options
                .tmpfs
                .iter()
                .map(|text| text.split_once(':').unwrap_or((text, "")))
                .map(|(path, options)| (path.to_owned(), options.to_owned()))
                .collect()
        }),
        uts_mode: checked("--uts", "UTS mode", &options.uts, &["", "host"])?,
        userns_mode: checked("--userns", "USER mode", &options.userns, &["", "host"])?,
        shm_size: bytes("--shm-size", &options.shm_size)?,
        sysctls: some_map(&options.sysctl),
        runtime: options.runtime.clone().unwrap_or_default(),
        cpu_shares: options.cpu_shares.unwrap_or(0),
        memory: bytes("--memory", &options.memory)?,
        nano_cpus: options.cpus.as_deref().map_or(Ok(0), words::nano_cpus).map_err(bad("--cpus"))?,
        cgroup_parent: options.cgroup_parent.clone().unwrap_or_default(),
        blkio_weight: options.blkio_weight.unwrap_or(0),
        blkio_weight_device: some(&all(&options.blkio_weight_device, words::device_weight, "--blkio-weight-device")?),
        blkio_device_read_bps: some(&rates(&options.device_read_bps, true, "--device-read-bps")?),
        blkio_device_write_bps: some(&rates(&options.device_write_bps, true, "--device-write-bps")?),
        blkio_device_read_iops: some(&rates(&options.device_read_iops, false, "--device-read-iops")?),
        blkio_device_write_iops: some(&rates(&options.device_write_iops, false, "--device-write-iops")?),
        cpu_period: options.cpu_period.unwrap_or(0),
        cpu_quota: options.cpu_quota.unwrap_or(0),
        cpu_realtime_period: options.cpu_rt_period.unwrap_or(0),
        cpu_realtime_runtime: options.cpu_rt_runtime.unwrap_or(0),
        cpuset_cpus: options.cpuset_cpus.clone().unwrap_or_default(),
        cpuset_mems: options.cpuset_mems.clone().unwrap_or_default(),
        devices: some(&all(&devices, words::device, "--device")?),
        device_requests: some(&requests),
        device_cgroup_rules: some(&options.device_cgroup_rule),
        memory_reservation: bytes("--memory-reservation", &options.memory_reservation)?,
        memory_swap: match options.memory_swap.as_deref() {
            Some("-1") => -1,
            _ => bytes("--memory-swap", &options.memory_swap)?,
        },
        memory_swappiness: swappiness,
        oom_kill_disable: Some(options.oom_kill_disable),
        pids_limit: options.pids_limit,
        ulimits: some(&all(&options.ulimit, words::ulimit, "--ulimit")?),
        mounts: some(&all(&options.mount, |text| mount::mount(text, around.absolute), "--mount")?),
        masked_paths,
        readonly_paths,
        init: options.init.then_some(true),
        ..HostConfig::default()
    };
    let networking_config = NetworkingConfig { endpoints_config: Some(endpoints.0) };
    Ok(CreateRequest { config, host_config: Some(host_config), networking_config: Some(networking_config) })
}

fn all<T>(texts: &[String], parse: impl Fn(&str) -> Result<T, String>, flag: &str) -> Result<Vec<T>, Error> {
    texts.iter().map(|text| parse(text).map_err(|error| Error::Invalid(format!("{flag}: {error}")))).collect()
}

fn rates(texts: &[String], bytes: bool, flag: &str) -> Result<Vec<engine_api::host_config::ThrottleDevice>, Error> {
    all(texts, |text| words::device_rate(text, bytes), flag)
}

fn checked(flag: &str, what: &str, value: &Option<String>, known: &[&str]) -> Result<String, Error> {
    let value = value.clone().unwrap_or_default();
    if known.contains(&value.as_str()) { Ok(value) } else { Err(Error::Invalid(format!("{flag}: invalid {what}"))) }
}

fn namespace(flag: &str, what: &str, value: &Option<String>) -> Result<String, Error> {
    match value.as_deref().and_then(|value| value.strip_prefix("container:")) {
        Some("") => Err(Error::Invalid(format!("{flag}: invalid {what}"))),
        Some(_) => Ok(value.clone().unwrap_or_default()),
        None => checked(flag, what, value, &["", "host", "private"]),
    }
}

/// Stdin, stdout, stderr: the ones that `--attach` names, else both outputs; stdin also by `-i`.
fn attached(options: &Options) -> Result<(bool, bool, bool), Error> {
    let mut streams = (options.interactive, options.attach.is_empty(), options.attach.is_empty());
    for stream in &options.attach {
        match stream.to_ascii_lowercase().as_str() {
            "stdin" => streams.0 = true,
            "stdout" => streams.1 = true,
            "stderr" => streams.2 = true,
            _ => return Err(Error::Invalid("--attach: valid streams are STDIN, STDOUT and STDERR".to_owned())),
        }
    }
    Ok(streams)
}

/// The variables of files, then the single ones; a bare name takes the client's value if it has one.
pub(crate) fn environment(
    files: &[String],
    single: &[String],
    around: &Surroundings<'_>,
) -> Result<Vec<String>, Error> {
    let mut all = Vec::new();
    for file in files {
        let text = (around.read)(file).map_err(Error::Invalid)?;
        all.extend(words::variables(&text, file, around.variable).map_err(Error::Invalid)?);
    }
    for word in single {
        match word.split_once('=') {
            Some(("", _)) => return Err(Error::Invalid(format!("invalid environment variable: {word}"))),
            Some(_) => all.push(word.clone()),
            None if word.is_empty() => {
                return Err(Error::Invalid("invalid environment variable: the name is empty".to_owned()));
            }
            None => all.push((around.variable)(word).map_or_else(|| word.clone(), |value| format!("{word}={value}"))),
        }
    }
    Ok(all)
}

fn labels(options: &Options, around: &Surroundings<'_>) -> Result<Vec<String>, Error> {
    let mut all = Vec::new();
    for file in &options.label_file {
        all.extend(words::labels(&(around.read)(file).map_err(Error::Invalid)?, file).map_err(Error::Invalid)?);
    }
    all.extend(options.label.iter().cloned());
    if let Some(label) = all.iter().find(|label| label.is_empty() || label.starts_with('=')) {
        return Err(Error::Invalid(format!("invalid label '{label}': empty name")));
    }
    Ok(all)
}

fn health(options: &Options) -> Result<Option<HealthConfig>, Error> {
    let duration = |flag: &str, text: &Option<String>| -> Result<i64, Error> {
        let Some(text) = text else { return Ok(0) };
        let nanos = time::parse_duration(text).map_err(|error| Error::Invalid(format!("{flag}: {error}")))?;
        if nanos < 0 { Err(Error::Invalid(format!("{flag} cannot be negative"))) } else { Ok(nanos) }
    };
    let health = HealthConfig {
        test: [("CMD-SHELL", &options.health_cmd), ("HTTP", &options.health_http), ("TCP", &options.health_tcp)]
            .into_iter()
            .find_map(|(kind, asked)| asked.as_ref().map(|asked| vec![kind.to_owned(), asked.clone()]))
            .unwrap_or_default(),
        interval: duration("--health-interval", &options.health_interval)?,
        timeout: duration("--health-timeout", &options.health_timeout)?,
        start_period: duration("--health-start-period", &options.health_start_period)?,
        start_interval: duration("--health-start-interval", &options.health_start_interval)?,
        retries: options.health_retries.unwrap_or(0),
    };
    if health.retries < 0 {
        return Err(Error::Invalid("--health-retries cannot be negative".to_owned()));
    }
    let given = health != HealthConfig::default();
    match (options.no_healthcheck, given) {
        (true, true) => Err(Error::Invalid("--no-healthcheck conflicts with --health-* options".to_owned())),
        (true, false) => Ok(Some(HealthConfig { test: vec!["NONE".to_owned()], ..HealthConfig::default() })),
        (false, true) => Ok(Some(health)),
        (false, false) => Ok(None),
    }
}

struct Binds {
    binds: Vec<String>,
    volumes: Vec<String>,
}

impl Binds {
    /// What has a source is a bind (of a directory or a named volume), a path alone is an anonymous volume.
    fn new(options: &Options, around: &Surroundings<'_>) -> Self {
        let mut sorted = Self { binds: Vec::new(), volumes: Vec::new() };
        for text in &options.volume {
            match text.split_once(':') {
                Some((source, rest))
                    if source == "." || source == ".." || source.starts_with("./") || source.starts_with("../") =>
                {
                    sorted.binds.push(format!("{}:{rest}", (around.absolute)(source)));
                }
                Some(_) => sorted.binds.push(text.clone()),
                None => sorted.volumes.push(text.clone()),
            }
        }
        sorted
    }
}

type Endpoints = std::collections::BTreeMap<String, EndpointSettings>;

/// The network mode, the endpoints, and whether links went into one of them.
fn networks(options: &Options) -> Result<(String, (Endpoints, bool)), Error> {
    let mut endpoints = Endpoints::new();
    let mut mode = "default".to_owned();
    let mut links_moved = false;
    let mut list = all(&options.network, mount::network, "--network")?;
    if list.is_empty() {
        list.push((mode.clone(), EndpointSettings::default()));
    }
    for (index, (name, mut endpoint)) in list.into_iter().enumerate() {
        if index == 0 {
            mode.clone_from(&name);
            links_moved = single_flags(options, &name, &mut endpoint)?;
        }
        if name == "host" || name == "none" || name.starts_with("container:") {
            if !options.network.is_empty() && options.network.len() > 1 {
                return Err(Error::Invalid(format!(
                    "conflicting options: cannot attach both user-defined and non-user-defined network-modes ({name})"
                )));
            }
            if endpoint == EndpointSettings::default() {
                continue;
            }
        }
        if endpoint == EndpointSettings::default() && options.network.len() <= 1 {
            continue;
        }
        if endpoints.insert(name.clone(), endpoint).is_some() {
            return Err(Error::Invalid(format!("conflicting options: duplicate network {name}")));
        }
    }
    Ok((mode, (endpoints, links_moved)))
}

/// The flags for one network, put into its endpoint. True if the links are there too.
fn single_flags(options: &Options, name: &str, endpoint: &mut EndpointSettings) -> Result<bool, Error> {
    let conflict = |what: &str| {
        Error::Invalid(format!("conflicting options: cannot specify both --{what} and per-network {what}"))
    };
    if !options.network_alias.is_empty() {
        if endpoint.aliases.is_some() {
            return Err(conflict("network-alias"));
        }
        endpoint.aliases = Some(options.network_alias.clone());
    }
    if let Some(address) = &options.mac_address {
        if !endpoint.mac_address.is_empty() {
            return Err(conflict("mac-address"));
        }
        endpoint.mac_address.clone_from(address);
    }
    if options.ip.is_some() || options.ip6.is_some() || !options.link_local_ip.is_empty() {
        if endpoint.ipam_config.is_some() {
            return Err(conflict("ip"));
        }
        endpoint.ipam_config = Some(EndpointIpamConfig {
            ipv4_address: options.ip.clone().unwrap_or_default(),
            ipv6_address: options.ip6.clone().unwrap_or_default(),
            link_local_ips: options.link_local_ip.clone(),
        });
    }
    let own_network = !matches!(name, "default" | "bridge" | "host" | "none") && !name.starts_with("container:");
    if own_network && !options.link.is_empty() {
        endpoint.links = Some(options.link.clone());
        return Ok(true);
    }
    Ok(false)
}

type Paths = Option<Vec<String>>;

/// Security options as the daemon wants them: profiles are sent as text, and `systempaths` is two lists of paths.
fn security(options: &Options, around: &Surroundings<'_>) -> Result<(Vec<String>, Paths, Paths), Error> {
    let mut sent = Vec::new();
    let (mut masked, mut read_only) = (None, None);
    for option in &options.security_opt {
        if option == "systempaths=unconfined" {
            masked = Some(Vec::new());
            read_only = Some(Vec::new());
            continue;
        }
        let Some((key, value)) = option.split_once(['=', ':']) else {
            if option == "no-new-privileges" {
                sent.push(option.clone());
                continue;
            }
            return Err(Error::Invalid(format!("Invalid --security-opt: {option:?}")));
        };
        if key == "seccomp" && !matches!(value, "unconfined" | "builtin") {
            let text = (around.read)(value)
                .map_err(|error| Error::Invalid(format!("opening seccomp profile ({value}) failed: {error}")))?;
            let profile: serde_json::Value = serde_json::from_slice(&text).map_err(|error| {
                Error::Invalid(format!("compacting json for seccomp profile ({value}) failed: {error}"))
            })?;
            sent.push(format!("seccomp={profile}"));
            continue;
        }
        sent.push(option.clone());
    }
    Ok((sent, masked, read_only))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use clap::FromArgMatches;

    fn parse(line: &str) -> Result<CreateRequest, String> {
        let words = std::iter::once("create").chain(line.split(' '));
        let command = crate::args::as_docker(<Options as clap::Args>::augment_args(
            clap::Command::new("create").disable_help_flag(true),
        ));
        let matches = command.try_get_matches_from(words).map_err(|error| error.to_string())?;
        let options = Options::from_arg_matches(&matches).map_err(|error| error.to_string())?;
        let around = Surroundings {
            variable: &|name| (name == "HOME").then(|| "/root".to_owned()),
            read: &|name| match name {
                "profile.json" => Ok(b"{ \"defaultAction\": \"SCMP_ACT_ALLOW\" }".to_vec()),
                "env" => Ok(b"A=1\nHOME\n".to_vec()),
                "labels" => Ok(b"x=y\n".to_vec()),
                _ => Err(format!("open {name}: no such file or directory")),
            },
            absolute: &|path| format!("/here/{path}"),
            console: Some((24, 80)),
        };
        request(&options, &around).map_err(|error| error.to_string())
    }

    fn host(line: &str) -> HostConfig {
        parse(line).unwrap().host_config.unwrap()
    }

    #[test]
    fn the_engine_decides_on_isolation() {
        assert_eq!(host("busybox").isolation, "");
        assert_eq!(host("--isolation hyperv busybox").isolation, "hyperv");
    }

    #[test]
    fn the_plain_request() {
        let request = parse("busybox").unwrap();
        let config = &request.config;
        assert_eq!(
            (config.image.as_str(), &config.cmd, &config.entrypoint, &config.env),
            ("busybox", &None, &None, &None)
        );
        assert!(!config.attach_stdin && config.attach_stdout && config.attach_stderr && !config.stdin_once);
        let host = request.host_config.unwrap();
        assert_eq!(
            (host.network_mode.as_str(), host.restart_policy.name.as_str(), host.console_size),
            ("default", "no", [0, 0])
        );
        assert!(request.networking_config.unwrap().endpoints_config.unwrap().is_empty());
    }

    #[test]
    fn process_flags() {
        let config = parse(
            "-i -t -u 1:2 -w /w -e A=1 -e HOME -e NOPE --env-file env -l a=b -l c --label-file labels --entrypoint sh -h me \
             --domainname d --stop-signal INT --stop-timeout 3 busybox -c exit",
        );
        let config = config.unwrap().config;
        assert_eq!(config.env.unwrap(), ["A=1", "HOME=/root", "A=1", "HOME=/root", "NOPE"]);
        assert_eq!(config.cmd.unwrap(), ["-c", "exit"]);
        assert_eq!(config.entrypoint.unwrap(), ["sh"]);
        let labels: Vec<_> = config.labels.unwrap().into_iter().collect();
        assert_eq!(labels, [("a".into(), "b".into()), ("c".into(), String::new()), ("x".into(), "y".into())]);
        assert!(config.tty && config.open_stdin && config.stdin_once && config.attach_stdin);
        assert_eq!((config.user.as_str(), config.working_dir.as_str(), config.hostname.as_str()), ("1:2", "/w", "me"));
        assert_eq!((config.stop_signal.as_str(), config.stop_timeout), ("INT", Some(3)));
        assert_eq!(host("-t busybox").console_size, [24, 80]);
        assert!(!parse("-a stderr busybox").unwrap().config.attach_stdout);
    }

    #[test]
    fn an_empty_entrypoint_takes_the_image_s_away() {
        assert_eq!(parse("--entrypoint= busybox").unwrap().config.entrypoint, Some(vec![String::new()]));
    }

    #[test]
    fn resource_flags() {
        let host = host(
            "-m 64m --memory-swap -1 --memory-reservation 32m --cpus 1.5 -c 512 --cpuset-cpus 0-1 --pids-limit 10 --shm-size 1g \
             --ulimit nofile=10:20 --cpu-period 100000 --cpu-quota 50000 --oom-score-adj 5 --blkio-weight 100 \
             --device-read-bps /dev/sda:1mb --memory-swappiness 0 busybox",
        );
        assert_eq!((host.memory, host.memory_swap, host.memory_reservation), (64 << 20, -1, 32 << 20));
        assert_eq!((host.nano_cpus, host.cpu_shares, host.pids_limit), (1_500_000_000, 512, Some(10)));
        assert_eq!((host.shm_size, host.cpu_period, host.cpu_quota, host.oom_score_adj), (1 << 30, 100_000, 50_000, 5));
        assert_eq!((host.cpuset_cpus.as_str(), host.blkio_weight, host.memory_swappiness), ("0-1", 100, Some(0)));
        assert_eq!(host.ulimits.unwrap()[0].hard, 20);
        assert_eq!(host.blkio_device_read_bps.unwrap()[0].rate, 1 << 20);
    }

    #[test]
    fn mounts_and_devices() {
        let request = parse(
            "-v /a:/b:ro -v data:/d -v ./x:/x -v /anonymous --tmpfs /run:size=1m --tmpfs /t --mount type=tmpfs,target=/m \
             --device /dev/fuse --volumes-from c:ro --read-only busybox",
        );
        let request = request.unwrap();
        let host = request.host_config.unwrap();
        assert_eq!(host.binds.unwrap(), ["/a:/b:ro", "data:/d", "/here/./x:/x"]);
        assert!(request.config.volumes.unwrap().contains_key("/anonymous"));
        assert_eq!(
            host.tmpfs.unwrap().into_iter().collect::<Vec<_>>(),
            [("/run".into(), "size=1m".into()), ("/t".into(), String::new())]
        );
        assert_eq!(host.mounts.unwrap()[0].target, "/m");
        assert_eq!(host.devices.unwrap()[0].path_in_container, "/dev/fuse");
        assert_eq!(host.volumes_from.unwrap(), ["c:ro"]);
        assert!(host.readonly_rootfs);
    }

    #[test]
    fn security_flags() {
        let host = host(
            "--cap-add NET_ADMIN --cap-drop ALL --privileged --security-opt seccomp=profile.json --security-opt no-new-privileges \
             --security-opt systempaths=unconfined --security-opt label=disable --group-add 5 --ipc host --pid container:x --uts host \
             --cgroupns private --userns host --init busybox",
        );
        let options = host.security_opt.unwrap();
        assert_eq!(options, [r#"seccomp={"defaultAction":"SCMP_ACT_ALLOW"}"#, "no-new-privileges", "label=disable"]);
        assert_eq!((host.masked_paths, host.readonly_paths), (Some(vec![]), Some(vec![])));
        assert_eq!((host.pid_mode.as_str(), host.uts_mode.as_str(), host.init), ("container:x", "host", Some(true)));
        assert!(host.privileged);
    }

    #[test]
    fn network_flags() {
        let request = parse(
            "--network n --network-alias a --ip 10.0.0.9 --mac-address 02:00:00:00:00:01 -p 8080:80 --link x:y --dns 1.1.1.1 --add-host a:1.2.3.4 busybox",
        );
        let request = request.unwrap();
        let host = request.host_config.unwrap();
        assert_eq!((host.network_mode.as_str(), host.links), ("n", None));
        let endpoint = &request.networking_config.unwrap().endpoints_config.unwrap()["n"];
        assert_eq!(endpoint.aliases.as_deref(), Some(&["a".to_owned()][..]));
        assert_eq!(endpoint.links.as_deref(), Some(&["x:y".to_owned()][..]));
        assert_eq!(endpoint.ipam_config.as_ref().unwrap().ipv4_address, "10.0.0.9");
        assert_eq!(host.port_bindings.unwrap().len(), 1);
        let two = parse("--net a --net name=b,alias=c busybox").unwrap();
        assert_eq!(two.networking_config.unwrap().endpoints_config.unwrap().len(), 2);
        let linked = parse("--link x busybox").unwrap().host_config.unwrap();
        assert_eq!(linked.links.unwrap(), ["x"]);
    }

    #[test]
    fn health_flags() {
        let health = parse("--health-cmd true --health-interval 5s --health-retries 2 busybox")
            .unwrap()
            .config
            .healthcheck
            .unwrap();
        assert_eq!(
            (health.test.join(" ").as_str(), health.interval, health.retries),
            ("CMD-SHELL true", 5_000_000_000, 2)
        );
        for (line, test) in [
            ("--health-http http://localhost:8080/up busybox", ["HTTP", "http://localhost:8080/up"]),
            ("--health-tcp 5432 busybox", ["TCP", "5432"]),
        ] {
            assert_eq!(parse(line).unwrap().config.healthcheck.unwrap().test, test, "{line}");
        }
        let none = parse("--no-healthcheck busybox").unwrap().config.healthcheck.unwrap();
        assert_eq!(none.test, ["NONE"]);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in [
            "-m lots busybox",
            "--cpus x busybox",
            "--restart always --rm busybox",
            "--restart now busybox",
            "-a nothing busybox",
            "--pid mine busybox",
            "--uts mine busybox",
            "-p x busybox",
            "--security-opt foo busybox",
            "-e =x busybox",
            "--security-opt seccomp=nope.json busybox",
            "--env-file nope busybox",
            "--memory-swappiness 101 busybox",
            "--no-healthcheck --health-cmd true busybox",
            "--no-healthcheck --health-tcp 80 busybox",
            "--log-driver none --log-opt a=b busybox",
            "--device x:y busybox",
            "--add-host x busybox",
            "--mount foo busybox",
            "--network a --network host busybox",
            "--network a --network a busybox",
            "--health-interval -1s busybox",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
