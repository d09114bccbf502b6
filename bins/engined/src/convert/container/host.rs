//! The part of a container's configuration that depends on the host, in both directions.

use std::collections::BTreeMap;

use engine::container as engine;
use engine_api::host_config as wire;
use engine_api::version::ApiVersion;

use super::mount;
use crate::convert::nil_when_empty;
use crate::error::Error;
use crate::version::Gates;

/// What was asked for.
pub(crate) fn to_engine(host: wire::HostConfig, version: ApiVersion) -> Result<engine::HostConfig, Error> {
    refuse(&host)?;
    let mode_error = |error: engine::InvalidMode| Error::invalid(error.to_string());
    let mut asked = engine::HostConfig::default();
    asked.resources = resources(&host);
    asked.binds = host.binds.unwrap_or_default();
    asked.mounts = host.mounts.unwrap_or_default().into_iter().map(mount::to_engine).collect::<Result<_, _>>()?;
    asked.tmpfs = host.tmpfs.unwrap_or_default();
    asked.volumes_from = host.volumes_from.unwrap_or_default();
    asked.volume_driver = host.volume_driver;
    let Ok(network_mode) = host.network_mode.parse();
    asked.network_mode = network_mode;
    asked.port_bindings = host
        .port_bindings
        .unwrap_or_default()
        .into_iter()
        .map(|(port, to)| (with_protocol(port), bindings(to)))
        .collect();
    asked.publish_all_ports = host.publish_all_ports;
    asked.privileged = host.privileged;
    asked.readonly_rootfs = host.readonly_rootfs;
    asked.cap_add = host.cap_add.unwrap_or_default();
    asked.cap_drop = host.cap_drop.unwrap_or_default();
    asked.security_opt = host.security_opt.unwrap_or_default();
    asked.group_add = host.group_add.unwrap_or_default();
    asked.pid_mode = host.pid_mode.parse().map_err(mode_error)?;
    asked.ipc_mode = host.ipc_mode.parse().map_err(mode_error)?;
    if asked.ipc_mode == engine::IpcMode::Default && version.shares_ipc_by_default() {
        asked.ipc_mode = engine::IpcMode::Shareable;
    }
    asked.uts_mode = host.uts_mode.parse().map_err(mode_error)?;
    asked.userns_mode = host.userns_mode.parse().map_err(mode_error)?;
    asked.cgroupns_mode = host.cgroupns_mode.parse().map_err(mode_error)?;
    if asked.cgroupns_mode == engine::NamespaceMode::Default && version.uses_host_cgroup_namespace() {
        asked.cgroupns_mode = engine::NamespaceMode::Host;
    }
    asked.dns = host.dns.unwrap_or_default();
    asked.dns_search = host.dns_search.unwrap_or_default();
    asked.dns_options = host.dns_options.unwrap_or_default();
    asked.extra_hosts = host.extra_hosts.unwrap_or_default();
    asked.shm_size = u64::try_from(host.shm_size).map_err(|_| Error::invalid("SHM size can not be less than 0"))?;
    asked.sysctls = host.sysctls.unwrap_or_default();
    asked.ulimits = host
        .ulimits
        .unwrap_or_default()
        .into_iter()
        .map(|limit| ::engine::settings::Ulimit::new(limit.name, limit.soft, limit.hard))
        .collect();
    asked.devices = host.devices.unwrap_or_default().into_iter().map(device).collect();
    asked.device_cgroup_rules = host.device_cgroup_rules.unwrap_or_default();
    asked.device_requests = host.device_requests.unwrap_or_default().into_iter().map(device_request).collect();
    asked.oom_score_adj = i32::try_from(host.oom_score_adj).map_err(|_| {
        Error::invalid(format!("Invalid value {}, range for oom score adj is [-1000, 1000]", host.oom_score_adj))
    })?;
    asked.log = engine::LogConfig { driver: host.log_config.kind, options: host.log_config.config.unwrap_or_default() };
    asked.restart_policy = restart_policy(&host.restart_policy)?;
    asked.auto_remove = host.auto_remove;
    asked.masked_paths = host.masked_paths;
    asked.readonly_paths = host.readonly_paths;
    if version.has_console_size() {
        asked.console_size = console_size(host.console_size);
    }
    asked.annotations = host.annotations.unwrap_or_default();
    asked.init = host.init;
    asked.runtime = host.runtime;
    asked.links = host.links.unwrap_or_default();
    asked.cgroup_parent = host.cgroup_parent;
    asked.storage_opt = host.storage_opt.unwrap_or_default();
    asked.container_id_file = host.container_id_file;
    asked.isolation = host.isolation;
    Ok(asked)
}

/// Bounds as they are asked for; clients send -1 and 0 for what nobody asked for.
pub(crate) fn resources(host: &wire::HostConfig) -> engine::Resources {
    let rates = |rates: &Option<Vec<wire::ThrottleDevice>>| {
        let rate = |rate: &wire::ThrottleDevice| engine::DeviceRate { path: rate.path.clone(), rate: rate.rate };
        rates.iter().flatten().map(rate).collect()
    };
    let mut resources = engine::Resources::default();
    resources.memory = host.memory;
    resources.memory_swap = host.memory_swap;
    resources.memory_reservation = host.memory_reservation;
    resources.memory_swappiness = host.memory_swappiness.filter(|swappiness| *swappiness != -1);
    resources.oom_kill_disable = host.oom_kill_disable.unwrap_or(false);
    resources.cpu_shares = host.cpu_shares;
    resources.cpu_period = host.cpu_period;
    resources.cpu_quota = host.cpu_quota;
    resources.nano_cpus = host.nano_cpus;
    resources.cpuset_cpus.clone_from(&host.cpuset_cpus);
    resources.cpuset_mems.clone_from(&host.cpuset_mems);
    resources.cpu_realtime_period = host.cpu_realtime_period;
    resources.cpu_realtime_runtime = host.cpu_realtime_runtime;
    resources.pids_limit = host.pids_limit.filter(|limit| *limit != 0);
    resources.blkio_weight = host.blkio_weight;
    let weight =
        |device: &wire::WeightDevice| engine::DeviceWeight { path: device.path.clone(), weight: device.weight };
    resources.blkio_weight_devices = host.blkio_weight_device.iter().flatten().map(weight).collect();
    resources.device_read_bps = rates(&host.blkio_device_read_bps);
    resources.device_write_bps = rates(&host.blkio_device_write_bps);
    resources.device_read_iops = rates(&host.blkio_device_read_iops);
    resources.device_write_iops = rates(&host.blkio_device_write_iops);
    resources
}

fn wire_rates(rates: &[engine::DeviceRate]) -> Option<Vec<wire::ThrottleDevice>> {
    Some(rates.iter().map(|rate| wire::ThrottleDevice { path: rate.path.clone(), rate: rate.rate }).collect())
}

/// What the engine has no word for.
fn refuse(host: &wire::HostConfig) -> Result<(), Error> {
    let unsupported = [
        (host.kernel_memory > 0 || host.kernel_memory_tcp > 0, "limits of kernel memory"),
        (!host.cgroup.is_empty(), "the cgroup of another container"),
        (
            host.cpu_count != 0 || host.cpu_percent != 0 || host.io_maximum_iops != 0 || host.io_maximum_bandwidth != 0,
            "limits of Windows containers",
        ),
    ];
    if let Some((_, what)) = unsupported.iter().find(|(asked, _)| *asked) {
        return Err(Error::unsupported(format!("this engine does not support {what}")));
    }
    if !matches!(host.isolation.as_str(), "" | "default") {
        return Err(Error::invalid(format!("invalid isolation ({}): it is of Windows only", host.isolation)));
    }
    Ok(())
}

/// Rows and columns; None when either was left open.
pub(crate) fn console_size([rows, columns]: [u32; 2]) -> Option<(u16, u16)> {
    let (rows, columns) = (u16::try_from(rows).ok()?, u16::try_from(columns).ok()?);
    (rows > 0 && columns > 0).then_some((rows, columns))
}

pub(crate) fn restart_policy(policy: &wire::RestartPolicy) -> Result<engine::RestartPolicy, Error> {
    let count = policy.maximum_retry_count;
    if count < 0 {
        return Err(Error::invalid("invalid restart policy: maximum retry count cannot be negative"));
    }
    match policy.name.as_str() {
        "on-failure" => Ok(engine::RestartPolicy::OnFailure(u32::try_from(count).unwrap_or(u32::MAX))),
        // `on-failure:3` is how people write it, not what goes over the wire.
        name if !name.contains(':') => {
            let known = name.parse().map_err(|error: engine::InvalidMode| Error::invalid(error.to_string()))?;
            if count > 0 {
                return Err(Error::invalid(
                    "invalid restart policy: maximum retry count can only be used with 'on-failure'",
                ));
            }
            Ok(known)
        }
        name => Err(Error::invalid(format!(
            "invalid restart policy: unknown policy '{name}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
        ))),
    }
}

fn with_protocol(port: String) -> String {
    if port.contains('/') { port } else { format!("{port}/tcp") }
}

fn bindings(bindings: Option<Vec<engine_api::container::PortBinding>>) -> Vec<engine::PortBinding> {
    let convert = |binding: engine_api::container::PortBinding| engine::PortBinding {
        host_ip: binding.host_ip,
        host_port: binding.host_port,
    };
    match bindings {
        Some(bindings) if !bindings.is_empty() => bindings.into_iter().map(convert).collect(),
        // A port without a place is published at any.
        _ => vec![engine::PortBinding::default()],
    }
}

fn device_request(request: wire::DeviceRequest) -> engine::DeviceRequest {
    engine::DeviceRequest {
        driver: request.driver,
        count: request.count,
        device_ids: request.device_ids.unwrap_or_default(),
        capabilities: request.capabilities.unwrap_or_default(),
        options: request.options.unwrap_or_default(),
    }
}

fn wire_device_request(request: &engine::DeviceRequest) -> wire::DeviceRequest {
    wire::DeviceRequest {
        driver: request.driver.clone(),
        count: request.count,
        device_ids: nil_when_empty(request.device_ids.clone()),
        capabilities: nil_when_empty(request.capabilities.clone()),
        options: Some(request.options.clone()),
    }
}

fn device(device: wire::DeviceMapping) -> engine::DeviceMapping {
    let or = |text: String, default: &str| if text.is_empty() { default.to_owned() } else { text };
    engine::DeviceMapping {
        path_in_container: or(device.path_in_container, &device.path_on_host),
        path_on_host: device.path_on_host,
        cgroup_permissions: or(device.cgroup_permissions, "rwm"),
    }
}

/// What was decided, complete with Go's zero values.
pub(crate) fn to_wire(host: &engine::HostConfig) -> wire::HostConfig {
    let resources = &host.resources;
    let (rows, columns) = host.console_size.unwrap_or_default();
    wire::HostConfig {
        binds: nil_when_empty(host.binds.clone()),
        container_id_file: host.container_id_file.clone(),
        log_config: wire::LogConfig { kind: host.log.driver.clone(), config: Some(host.log.options.clone()) },
        network_mode: host.network_mode.to_string(),
        port_bindings: Some(
            host.port_bindings.iter().map(|(port, to)| (port.clone(), Some(port_bindings(to)))).collect(),
        ),
        restart_policy: wire::RestartPolicy {
            name: host.restart_policy.name().to_owned(),
            maximum_retry_count: host.restart_policy.maximum_retry_count().into(),
        },
        auto_remove: host.auto_remove,
        volume_driver: host.volume_driver.clone(),
        volumes_from: nil_when_empty(host.volumes_from.clone()),
        console_size: [rows.into(), columns.into()],
        annotations: nil_map(&host.annotations),
        cap_add: nil_when_empty(host.cap_add.clone()),
        cap_drop: nil_when_empty(host.cap_drop.clone()),
        cgroupns_mode: host.cgroupns_mode.to_string(),
        dns: nil_when_empty(host.dns.clone()),
        dns_options: nil_when_empty(host.dns_options.clone()),
        dns_search: nil_when_empty(host.dns_search.clone()),
        extra_hosts: nil_when_empty(host.extra_hosts.clone()),
        group_add: nil_when_empty(host.group_add.clone()),
        ipc_mode: host.ipc_mode.to_string(),
        links: nil_when_empty(host.links.clone()),
        oom_score_adj: host.oom_score_adj.into(),
        pid_mode: host.pid_mode.to_string(),
        privileged: host.privileged,
        publish_all_ports: host.publish_all_ports,
        readonly_rootfs: host.readonly_rootfs,
        security_opt: nil_when_empty(host.security_opt.clone()),
        storage_opt: nil_map(&host.storage_opt),
        tmpfs: nil_map(&host.tmpfs),
        uts_mode: host.uts_mode.to_string(),
        userns_mode: host.userns_mode.to_string(),
        shm_size: i64::try_from(host.shm_size).unwrap_or(i64::MAX),
        sysctls: nil_map(&host.sysctls),
        runtime: host.runtime.clone(),
        cpu_shares: resources.cpu_shares,
        memory: resources.memory,
        nano_cpus: resources.nano_cpus,
        cgroup_parent: host.cgroup_parent.clone(),
        blkio_weight: resources.blkio_weight,
        blkio_weight_device: Some(
            resources
                .blkio_weight_devices
                .iter()
                .map(|device| wire::WeightDevice { path: device.path.clone(), weight: device.weight })
                .collect(),
        ),
        blkio_device_read_bps: wire_rates(&resources.device_read_bps),
        blkio_device_write_bps: wire_rates(&resources.device_write_bps),
        blkio_device_read_iops: wire_rates(&resources.device_read_iops),
        blkio_device_write_iops: wire_rates(&resources.device_write_iops),
        cpu_period: resources.cpu_period,
        cpu_quota: resources.cpu_quota,
        cpu_realtime_period: resources.cpu_realtime_period,
        cpu_realtime_runtime: resources.cpu_realtime_runtime,
        cpuset_cpus: resources.cpuset_cpus.clone(),
        cpuset_mems: resources.cpuset_mems.clone(),
        devices: Some(host.devices.iter().map(wire_device).collect()),
        device_cgroup_rules: nil_when_empty(host.device_cgroup_rules.clone()),
        device_requests: nil_when_empty(host.device_requests.iter().map(wire_device_request).collect()),
        memory_reservation: resources.memory_reservation,
        memory_swap: resources.memory_swap,
        memory_swappiness: resources.memory_swappiness,
        oom_kill_disable: Some(resources.oom_kill_disable),
        pids_limit: resources.pids_limit,
        ulimits: Some(
            host.ulimits
                .iter()
                .map(|limit| wire::Ulimit { name: limit.name.clone(), hard: limit.hard, soft: limit.soft })
                .collect(),
        ),
        mounts: nil_when_empty(host.mounts.iter().filter_map(mount::to_wire).collect()),
        masked_paths: host.masked_paths.clone(),
        readonly_paths: host.readonly_paths.clone(),
        init: host.init,
        isolation: host.isolation.clone(),
        ..wire::HostConfig::default()
    }
}

fn port_bindings(bindings: &[engine::PortBinding]) -> Vec<engine_api::container::PortBinding> {
    bindings
        .iter()
        .map(|binding| engine_api::container::PortBinding {
            host_ip: binding.host_ip.clone(),
            host_port: binding.host_port.clone(),
        })
        .collect()
}

fn nil_map(map: &BTreeMap<String, String>) -> Option<BTreeMap<String, String>> {
    (!map.is_empty()).then(|| map.clone())
}

fn wire_device(device: &engine::DeviceMapping) -> wire::DeviceMapping {
    wire::DeviceMapping {
        path_on_host: device.path_on_host.clone(),
        path_in_container: device.path_in_container.clone(),
        cgroup_permissions: device.cgroup_permissions.clone(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use engine_api::version::MAX;

    fn read(text: &str, version: ApiVersion) -> Result<engine::HostConfig, Error> {
        to_engine(engine_api::json::from_slice(text.as_bytes()).unwrap(), version)
    }

    #[test]
    fn what_is_asked_for_comes_back() {
        let asked = wire::HostConfig {
            binds: Some(vec!["/a:/b:ro".into()]),
            network_mode: "container:x".into(),
            memory: 1 << 26,
            cap_add: Some(vec!["NET_ADMIN".into()]),
            restart_policy: wire::RestartPolicy { name: "on-failure".into(), maximum_retry_count: 3 },
            devices: Some(vec![wire::DeviceMapping { path_on_host: "/dev/null".into(), ..Default::default() }]),
            ulimits: Some(vec![wire::Ulimit { name: "nofile".into(), hard: 2, soft: 1 }]),
            console_size: [24, 80],
            init: Some(true),
            pids_limit: Some(7),
            blkio_device_read_bps: Some(vec![wire::ThrottleDevice { path: "/dev/x".into(), rate: 9 }]),
            blkio_weight_device: Some(vec![wire::WeightDevice { path: "/dev/x".into(), weight: 10 }]),
            ..Default::default()
        };
        let shown = to_wire(&to_engine(asked.clone(), MAX).unwrap());
        assert_eq!(
            (&shown.binds, &shown.network_mode, shown.memory),
            (&asked.binds, &asked.network_mode, asked.memory)
        );
        assert_eq!(
            (&shown.cap_add, &shown.restart_policy, &shown.ulimits),
            (&asked.cap_add, &asked.restart_policy, &asked.ulimits)
        );
        assert_eq!(
            (shown.console_size, shown.init, shown.pids_limit),
            (asked.console_size, asked.init, asked.pids_limit)
        );
        assert_eq!(
            (&shown.blkio_device_read_bps, &shown.blkio_weight_device),
            (&asked.blkio_device_read_bps, &asked.blkio_weight_device)
        );
        assert_eq!(shown.devices.unwrap()[0].cgroup_permissions, "rwm");
    }

    #[test]
    fn ports_without_a_place_are_published_at_any() {
        let asked = read(r#"{"PortBindings":{"80":null,"81/udp":[{"HostPort":"8081"}]}}"#, MAX).unwrap();
        assert_eq!(asked.port_bindings["80/tcp"], [engine::PortBinding::default()]);
        assert_eq!(asked.port_bindings["81/udp"][0].host_port, "8081");
    }

    #[test]
    fn what_clients_send_for_nothing_is_nothing() {
        let asked = read(r#"{"MemorySwappiness":-1,"PidsLimit":0}"#, MAX).unwrap();
        assert_eq!((asked.resources.memory_swappiness, asked.resources.pids_limit), (None, None));
        let asked = read(r#"{"MemorySwappiness":0,"PidsLimit":-1}"#, MAX).unwrap();
        assert_eq!((asked.resources.memory_swappiness, asked.resources.pids_limit), (Some(0), Some(-1)));
    }

    #[test]
    fn older_clients_get_older_defaults() {
        let old = read("{}", ApiVersion::new(1, 39)).unwrap();
        assert_eq!((old.ipc_mode, old.cgroupns_mode), (engine::IpcMode::Shareable, engine::NamespaceMode::Host));
        let new = read("{}", MAX).unwrap();
        assert_eq!((new.ipc_mode, new.cgroupns_mode), (engine::IpcMode::Default, engine::NamespaceMode::Default));
        assert_eq!(read(r#"{"ConsoleSize":[1,2]}"#, ApiVersion::new(1, 41)).unwrap().console_size, None);
    }

    #[test]
    fn what_cannot_be_done_is_refused() {
        for (text, status, message) in [
            (r#"{"Cgroup":"container:x"}"#, 501, "the cgroup of another container"),
            (r#"{"CpuCount":2}"#, 501, "limits of Windows containers"),
            (r#"{"Isolation":"hyperv"}"#, 400, "invalid isolation (hyperv)"),
            (r#"{"PidMode":"bogus"}"#, 400, "bogus"),
            (r#"{"ShmSize":-1}"#, 400, "SHM size can not be less than 0"),
            (r#"{"RestartPolicy":{"Name":"always","MaximumRetryCount":2}}"#, 400, "can only be used with 'on-failure'"),
            (r#"{"RestartPolicy":{"Name":"on-failure","MaximumRetryCount":-2}}"#, 400, "cannot be negative"),
            (r#"{"RestartPolicy":{"Name":"often"}}"#, 400, "unknown policy 'often'"),
        ] {
            let error = read(text, MAX).unwrap_err();
            assert_eq!(error.status.as_u16(), status, "{text}");
            assert!(error.message.contains(message), "{text}: {}", error.message);
        }
    }
}
