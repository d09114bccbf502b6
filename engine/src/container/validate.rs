//! Refuses what makes no sense or is not there yet, before anything is made.

use std::net::IpAddr;
use std::time::Duration;

use super::config::Config;
use super::modes::{IpcMode, NamespaceMode, NetworkMode, RestartPolicy};
use super::spec::ContainerSpec;
use super::stop::parse_signal;
use super::{Error, health, outside, resources};
use crate::settings::Settings;

/// Refuses a spec for what cannot be seen any more once it is merged with its image.
pub(super) fn check_spec(spec: &ContainerSpec) -> Result<(), Error> {
    if !spec.hostname.is_empty() {
        if matches!(spec.host.network_mode, NetworkMode::Container(_)) {
            return Err(Error::invalid("conflicting options: hostname and the network mode"));
        }
        if spec.host.uts_mode == NamespaceMode::Host {
            return Err(Error::invalid("conflicting options: hostname and the UTS mode"));
        }
    }
    spec.healthcheck.as_ref().map_or(Ok(()), health::check)
}

/// Refuses a config that cannot be run.
pub(super) fn check(config: &Config, settings: &Settings, cpus: usize) -> Result<(), Error> {
    storage_size(config)?;
    outside::check(&config.host, settings)?;
    super::cdi::check(&config.host.device_requests)?;
    check_network(config)?;
    check_namespaces(config)?;
    resources::check(&config.host.resources, cpus, false)?;
    health::on_unhealthy(config)?;
    let host = &config.host;
    if !(-1000..=1000).contains(&host.oom_score_adj) {
        return Err(Error::invalid(format!(
            "Invalid value {}, range for oom score adj is [-1000, 1000]",
            host.oom_score_adj
        )));
    }
    if host.restart_policy != RestartPolicy::No && host.auto_remove {
        return Err(Error::invalid("can't create 'AutoRemove' container with restart policy"));
    }
    for line in &host.extra_hosts {
        check_extra_host(line)?;
    }
    for server in &host.dns {
        if server.parse::<IpAddr>().is_err() {
            return Err(Error::invalid(format!("invalid IP address in dns: \"{server}\"")));
        }
    }
    for entry in &config.env {
        if entry.is_empty() || entry.starts_with('=') || entry.contains('\0') {
            return Err(Error::invalid(format!("invalid environment variable: {entry}")));
        }
    }
    for word in config.entrypoint.iter().flatten().chain(&config.command) {
        if word.contains('\0') {
            return Err(Error::invalid("an argument must not contain a zero byte"));
        }
    }
    check_hostname(&config.hostname)?;
    if let Some(signal) = &config.stop_signal {
        parse_signal(signal)?;
    }
    for (name, value) in &config.host.sysctls {
        check_sysctl(name, config)?;
        if value.contains('\0') {
            return Err(Error::invalid(format!("the value of sysctl {name:?} must not contain a zero byte")));
        }
    }
    for ulimit in &host.ulimits {
        if !ULIMITS.contains(&ulimit.name.as_str()) {
            return Err(Error::invalid(format!("invalid ulimit type: {}", ulimit.name)));
        }
        if ulimit.hard != -1 && (ulimit.soft > ulimit.hard || ulimit.soft == -1) {
            return Err(Error::invalid(format!(
                "ulimit soft limit must be less than or equal to hard limit: {} > {}",
                ulimit.soft, ulimit.hard
            )));
        }
    }
    super::ports::plan(config)?;
    check_log(config)
}

/// Names of `setrlimit`'s resources.
pub(super) const ULIMITS: [&str; 15] = [
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// The bytes that the container may write above its image, if its storage options bound them.
pub(super) fn storage_size(config: &Config) -> Result<Option<u64>, Error> {
    let mut size = None;
    for (option, value) in &config.host.storage_opt {
        if !option.eq_ignore_ascii_case("size") {
            return Err(Error::invalid(format!("unknown storage option: {option}")));
        }
        let bytes: crate::settings::Bytes =
            value.parse().map_err(|_| Error::invalid(format!("invalid value of the storage option size: {value}")))?;
        size = Some(bytes.get()).filter(|bytes| *bytes > 0);
    }
    Ok(size)
}

fn check_network(config: &Config) -> Result<(), Error> {
    let host = &config.host;
    let asked: Vec<&String> = config.endpoints.keys().collect();
    let mode = host.network_mode.to_string();
    for link in &host.links {
        crate::network::Link::parse(link).ok_or_else(|| Error::invalid(format!("bad format for links: {link}")))?;
    }
    match &host.network_mode {
        NetworkMode::Container(other) if other.is_empty() => {
            Err(Error::invalid("Invalid network mode: invalid container format container:<name|id>"))
        }
        NetworkMode::Container(_) if !host.dns.is_empty() => {
            Err(Error::invalid("conflicting options: dns and the network mode"))
        }
        NetworkMode::Container(_) if !host.extra_hosts.is_empty() => {
            Err(Error::invalid("conflicting options: custom host-to-IP mapping and the network mode"))
        }
        NetworkMode::Container(_) | NetworkMode::Host if config.mac_address.is_some() => {
            Err(Error::invalid("conflicting options: mac-address and the network mode"))
        }
        NetworkMode::Container(_) | NetworkMode::Host | NetworkMode::None if asked.iter().any(|one| **one != mode) => {
            Err(Error::invalid(format!("conflicting options: network mode \"{mode}\" and networks of its own")))
        }
        _ => config.endpoints.iter().try_for_each(|(name, spec)| super::networks::check_endpoint(name, spec)),
    }
}

fn check_namespaces(config: &Config) -> Result<(), Error> {
    let host = &config.host;
    if !matches!(host.userns_mode, NamespaceMode::Default | NamespaceMode::Host) {
        return Err(Error::invalid(format!("invalid user namespace mode: {}", host.userns_mode)));
    }
    if !matches!(host.uts_mode, NamespaceMode::Default | NamespaceMode::Host | NamespaceMode::Private) {
        return Err(Error::invalid(format!("invalid UTS mode: {}", host.uts_mode)));
    }
    if matches!(host.cgroupns_mode, NamespaceMode::Container(_)) {
        return Err(Error::invalid(format!("invalid cgroup namespace mode: {}", host.cgroupns_mode)));
    }
    if host.privileged && host.userns_mode == NamespaceMode::Private {
        return Err(Error::invalid("privileged mode is incompatible with user namespaces"));
    }
    Ok(())
}

/// The name and the address of a line of `--add-host`: `name:address`, also `name=address`.
pub(super) fn extra_host(line: &str) -> Option<(&str, &str)> {
    let (name, address) = line.split_once('=').or_else(|| line.split_once(':'))?;
    let address = address.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(address);
    (!name.is_empty()).then_some((name, address))
}

fn check_extra_host(line: &str) -> Result<(), Error> {
    let Some((name, address)) = extra_host(line) else {
        return Err(Error::invalid(format!("bad format for add-host: \"{line}\"")));
    };
    if name.contains(|c: char| c.is_whitespace() || c.is_control() || c == '#') {
        return Err(Error::invalid(format!("bad format for add-host: \"{line}\"")));
    }
    if address != "host-gateway" && address.parse::<IpAddr>().is_err() {
        return Err(Error::invalid(format!("invalid IP address in add-host: \"{address}\"")));
    }
    Ok(())
}

fn check_hostname(name: &str) -> Result<(), Error> {
    let valid = name.len() <= 64
        && name.split('.').all(|label| !label.starts_with('-') && !label.ends_with('-'))
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'));
    if valid || name.is_empty() { Ok(()) } else { Err(Error::invalid(format!("invalid hostname: {name}"))) }
}

fn check_sysctl(name: &str, config: &Config) -> Result<(), Error> {
    const IPC: [&str; 9] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
        "kernel.msg_next_id",
    ];
    let plain = !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'/'))
        && !name.split(['.', '/']).any(str::is_empty);
    let host = &config.host;
    let ipc = IPC.contains(&name) || name.starts_with("fs.mqueue.");
    if !plain {
        return Err(Error::invalid(format!("invalid sysctl: {name:?}")));
    }
    if ipc && matches!(host.ipc_mode, IpcMode::Host) {
        return Err(Error::invalid(format!("sysctl {name:?} not allowed in host ipc namespace")));
    }
    if name.starts_with("net.") && matches!(host.network_mode, NetworkMode::Host) {
        return Err(Error::invalid(format!("sysctl {name:?} not allowed in host network namespace")));
    }
    if matches!(name, "kernel.domainname" | "kernel.hostname") {
        return Err(Error::invalid(format!(
            "sysctl {name:?} is set by the host name and the domain name of the container"
        )));
    }
    if ipc || name.starts_with("net.") {
        Ok(())
    } else {
        Err(Error::invalid(format!("sysctl {name:?} is not in a separate kernel namespace")))
    }
}

/// Bytes of a file of output whose container asks for no bound.
const DEFAULT_LOG_SIZE: u64 = 20 << 20;
/// Files of such a container.
const DEFAULT_LOG_FILES: u32 = 5;

/// What the files of a log are bounded by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LogBounds {
    /// Bytes of a file; 0 is no bound.
    pub(super) size: u64,
    /// How long a file takes lines; nothing is no bound.
    pub(super) age: Duration,
    /// How many there are.
    pub(super) files: u32,
}

/// The bounds of a container's log.
pub(super) fn log_bounds(config: &Config) -> Result<LogBounds, Error> {
    let options = &config.host.log.options;
    let option = |name: &str| {
        let cache = options.get(&format!("cache-{name}")).filter(|_| super::shipping::is_remote(config));
        options.get(name).or(cache).map(String::as_str)
    };
    let size = match option("max-size") {
        None => DEFAULT_LOG_SIZE,
        Some("-1") => 0,
        Some(text) => text
            .parse::<crate::settings::Bytes>()
            .map_err(|_| Error::invalid(format!("invalid value for max-size: {text}")))?
            .get(),
    };
    let files = match option("max-file") {
        None => DEFAULT_LOG_FILES,
        Some(text) => text
            .parse::<u32>()
            .ok()
            .filter(|count| (1..=1000).contains(count))
            .ok_or_else(|| Error::invalid(format!("invalid value for max-file: {text}")))?,
    };
    let age = match options.get("max-age") {
        None => Duration::ZERO,
        Some(text) => age(text).ok_or_else(|| {
            Error::invalid(format!("invalid value for max-age: {text}: it is a time such as 90m, 24h or 7d"))
        })?,
    };
    if size == 0 && age.is_zero() && files > 1 && option("max-file").is_some() {
        return Err(Error::invalid("max-file cannot be used without max-size"));
    }
    Ok(LogBounds { size, age, files })
}

/// A time as `7d`, `24h` or `1h30m`, at least a second.
fn age(text: &str) -> Option<Duration> {
    let mut seconds = 0u64;
    let mut rest = text;
    while !rest.is_empty() {
        let (number, unit) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
        let length = match unit.chars().next()? {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 24 * 3600,
            _ => return None,
        };
        seconds = seconds.checked_add(number.parse::<u64>().ok()?.checked_mul(length)?)?;
        rest = &unit[1..];
    }
    // What the monitor counts in are nanoseconds.
    (1..=100 * 365 * 24 * 3600).contains(&seconds).then(|| Duration::from_secs(seconds))
}

/// Whether older files of a log are packed: when that is asked for, and as Docker does for the driver `local`.
pub(super) fn packs_log(config: &Config) -> bool {
    let log = &config.host.log;
    let asked = log.options.get("compress").map(String::as_str);
    match log.driver.as_str() {
        "json-file" => asked == Some("true"),
        "local" => asked != Some("false"),
        _ if super::shipping::is_remote(config) => {
            asked.or(log.options.get("cache-compress").map(String::as_str)) == Some("true")
        }
        _ => false,
    }
}

fn check_log(config: &Config) -> Result<(), Error> {
    let log = &config.host.log;
    match log.driver.as_str() {
        driver @ ("json-file" | "local") => {
            for option in log.options.keys() {
                match option.as_str() {
                    "max-size" | "max-file" | "max-age" | "mode" | "max-buffer-size" => {}
                    "labels" | "labels-regex" | "env" | "env-regex" | "tag" => {}
                    "compress" => {}
                    _ => return Err(Error::invalid(format!("unknown log opt '{option}' for {driver} log driver"))),
                }
            }
        }
        "none" => return Ok(()),
        driver if crate::logs::remote::DRIVERS.contains(&driver) => {
            crate::logs::remote::check(driver, &log.options).map_err(Error::Invalid)?;
        }
        driver => return Err(Error::invalid(format!("logger: no log driver named '{driver}' is registered"))),
    }
    // Lines always go through a file of bounded size, so that no container ever waits for whoever takes them.
    let waits = match log.options.get("mode").map(String::as_str) {
        None | Some("" | "blocking") => true,
        Some("non-blocking") => false,
        Some(mode) => return Err(Error::invalid(format!("logger: logging mode not supported: {mode}"))),
    };
    if let Some(size) = log.options.get("max-buffer-size") {
        if waits {
            return Err(Error::invalid("logger: max-buffer-size option is only supported with 'mode=non-blocking'"));
        }
        size.parse::<crate::settings::Bytes>()
            .map_err(|_| Error::invalid(format!("logger: error parsing option max-buffer-size: {size}")))?;
    }
    for option in ["compress", "cache-compress"] {
        if let Some(value) = log.options.get(option).filter(|value| !matches!(value.as_str(), "true" | "false")) {
            return Err(Error::invalid(format!("invalid value for {option}: {value}")));
        }
    }
    let bounds = log_bounds(config)?;
    let never_older = bounds.files < 2 || (bounds.size == 0 && bounds.age.is_zero());
    if log.options.get("compress").is_some_and(|asked| asked == "true") && never_older {
        return Err(Error::invalid("compress cannot be true when max-file is less than 2 or unset"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::oci::Healthcheck;
    use crate::settings::{Settings, Ulimit};

    fn checked(change: impl FnOnce(&mut ContainerSpec)) -> Result<(), String> {
        let mut spec = ContainerSpec::new("i").command(["true"]);
        change(&mut spec);
        check_spec(&spec)
            .and_then(|()| {
                super::super::config::decide(spec, &Default::default(), &Settings::default(), "0123456789ab")
            })
            .and_then(|config| check(&config, &Settings::default(), 2))
            .map_err(|error| error.to_string())
    }

    fn refused(change: impl FnOnce(&mut ContainerSpec)) -> String {
        checked(change).unwrap_err()
    }

    #[test]
    fn plain_specs_pass() {
        checked(|_| {}).unwrap();
        checked(|spec| {
            spec.host.extra_hosts = vec!["a:1.2.3.4".into(), "b:[::1]".into(), "c=host-gateway".into()];
            spec.host.sysctls.insert("net.core.somaxconn".into(), "1".into());
            spec.host.resources.memory = 64 << 20;
            spec.host.resources.nano_cpus = 1_500_000_000;
            spec.healthcheck = Some(Healthcheck { test: vec!["NONE".into()], ..Healthcheck::default() });
        })
        .unwrap();
    }

    #[test]
    fn resources_are_bounded_in_dockers_words() {
        assert_eq!(refused(|spec| spec.host.resources.memory = 1), "Minimum memory limit allowed is 6MB");
        assert_eq!(
            refused(|spec| (spec.host.resources.memory, spec.host.resources.memory_swap) = (64 << 20, 32 << 20)),
            "Minimum memoryswap limit should be larger than memory limit, see usage"
        );
        assert!(refused(|spec| spec.host.resources.nano_cpus = 9_000_000_000).contains("only 2 CPUs available"));
        assert!(refused(|spec| spec.host.resources.nano_cpus = 9_999_999).contains("from 0.01 to 2.00"));
        assert!(refused(|spec| spec.host.resources.cpu_period = 1).contains("CPU cfs period"));
        let realtime = |spec: &mut ContainerSpec, runtime, period| {
            (spec.host.resources.cpu_realtime_runtime, spec.host.resources.cpu_realtime_period) = (runtime, period);
        };
        for (runtime, period) in [(5, 4), (1_000_001, 0), (1, -1)] {
            assert!(refused(|spec| realtime(spec, runtime, period)).contains("real-time period"), "{runtime} {period}");
        }
        assert_eq!(refused(|spec| spec.stop_signal = Some("NOPE".into())), "invalid signal: NOPE");
        assert!(refused(|spec| spec.host.resources.cpuset_cpus = "0;1".into()).contains("cpuset"));
        assert!(refused(|spec| spec.host.ulimits.push(Ulimit::new("nofile", 2, 1))).contains("ulimit soft limit"));
        assert!(refused(|spec| spec.host.ulimits.push(Ulimit::new("files", 1, 1))).contains("invalid ulimit type"));
        assert!(refused(|spec| spec.host.oom_score_adj = 1001).contains("oom score adj"));
    }

    #[test]
    fn storage_has_a_size() {
        let with =
            |option: &str, value: &str| checked(|spec| drop(spec.host.storage_opt.insert(option.into(), value.into())));
        with("size", "1g").unwrap();
        assert_eq!(with("size", "x").unwrap_err(), "invalid value of the storage option size: x");
        assert_eq!(with("color", "red").unwrap_err(), "unknown storage option: color");
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        assert_eq!(
            refused(|spec| (spec.host.restart_policy, spec.host.auto_remove) = (RestartPolicy::Always, true)),
            "can't create 'AutoRemove' container with restart policy"
        );
    }

    #[test]
    fn names_and_addresses_are_checked() {
        assert_eq!(refused(|spec| spec.host.extra_hosts.push("a".into())), "bad format for add-host: \"a\"");
        assert!(refused(|spec| spec.host.extra_hosts.push("a\nb:1.2.3.4".into())).contains("bad format"));
        assert!(refused(|spec| spec.host.extra_hosts.push("a:b".into())).contains("invalid IP address in add-host"));
        assert!(refused(|spec| spec.host.dns.push("x".into())).contains("invalid IP address"));
        assert!(refused(|spec| spec.hostname = "a b".into()).contains("invalid hostname"));
        assert!(refused(|spec| spec.env.push("=x".into())).contains("invalid environment variable"));
    }

    #[test]
    fn kernel_parameters_of_the_host_are_refused() {
        for name in ["kernel.panic", "vm.swappiness", "../kernel.panic", "net..x", "kernel.hostname", ""] {
            assert!(checked(|spec| drop(spec.host.sysctls.insert(name.into(), "1".into()))).is_err(), "{name}");
        }
        let shared = refused(|spec| {
            spec.host.network_mode = NetworkMode::Host;
            spec.host.sysctls.insert("net.core.somaxconn".into(), "1".into());
        });
        assert!(shared.contains("not allowed in host network namespace"));
    }

    #[test]
    fn log_options_are_checked() {
        let with = |driver: &str, option: Option<(&str, &str)>| {
            checked(|spec| {
                spec.host.log.driver = driver.into();
                spec.host.log.options.extend(option.map(|(name, value)| (name.to_owned(), value.to_owned())));
            })
        };
        with("none", None).unwrap();
        with("json-file", Some(("max-size", "10k"))).unwrap();
        with("json-file", Some(("max-file", "100"))).unwrap();
        assert!(with("json-file", Some(("max-size", "x"))).unwrap_err().contains("max-size"));
        assert!(with("json-file", Some(("max-file", "0"))).unwrap_err().contains("max-file"));
        assert!(with("json-file", Some(("bogus", "1"))).unwrap_err().contains("unknown log opt 'bogus'"));
        assert_eq!(with("awslogs", None).unwrap_err(), "logger: no log driver named 'awslogs' is registered");
        assert!(with("gelf", None).unwrap_err().contains("gelf-address is a required parameter"));
        with("local", Some(("max-size", "10k"))).unwrap();
        with("syslog", Some(("tag", "x"))).unwrap();
        with("syslog", Some(("cache-max-size", "10k"))).unwrap();
        assert!(with("syslog", Some(("cache-max-size", "x"))).unwrap_err().contains("max-size"));
        assert!(with("syslog", Some(("cache-compress", "x"))).unwrap_err().contains("cache-compress"));
        assert!(with("json-file", Some(("cache-disabled", "true"))).unwrap_err().contains("unknown log opt"));
        with("json-file", Some(("compress", "true"))).unwrap();
        assert!(with("json-file", Some(("compress", "maybe"))).unwrap_err().contains("invalid value for compress"));
        for good in ["90s", "24h", "7d", "1h30m"] {
            with("local", Some(("max-age", good))).unwrap();
        }
        for wrong in ["", "0s", "7", "h", "1y", "99999999999999999999d"] {
            assert!(with("json-file", Some(("max-age", wrong))).unwrap_err().contains("invalid value for max-age"));
        }
        let alone = checked(|spec| {
            spec.host.log.driver = "json-file".into();
            let options = [("compress", "true"), ("max-file", "1")];
            spec.host.log.options.extend(options.map(|(name, value)| (name.to_owned(), value.to_owned())));
        });
        assert_eq!(alone.unwrap_err(), "compress cannot be true when max-file is less than 2 or unset");
        with("json-file", Some(("mode", "non-blocking"))).unwrap();
        assert!(with("json-file", Some(("mode", "bogus"))).unwrap_err().contains("logging mode not supported"));
        assert!(with("json-file", Some(("max-buffer-size", "1m"))).unwrap_err().contains("only supported with"));
    }
}
