//! A container as inspect shows it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use engine::container::{Config, Health, HealthAnswer, Record, Status};
use engine_api::container as wire;
use engine_api::image::GraphDriver;

use super::{host, mount};
use crate::convert::network::endpoints;
use crate::convert::time::rfc3339;
use crate::convert::{joined, nil_when_empty};

/// Where the files of a container are.
#[derive(Debug, Clone, Default)]
pub(crate) struct Paths {
    pub(crate) directory: PathBuf,
    pub(crate) log: Option<PathBuf>,
    /// The image's layers, the topmost first.
    pub(crate) layers: Vec<PathBuf>,
}

/// All of it. `execs` are the ids of those that run in it.
pub(crate) fn inspect(record: &Record, paths: &Paths, execs: Vec<String>) -> wire::ContainerInspect {
    let id = record.id.as_str();
    let (program, arguments) = record.config.process();
    let file = |name: &str| paths.directory.join(name).to_string_lossy().into_owned();
    wire::ContainerInspect {
        id: id.to_owned(),
        created: rfc3339(record.created_at),
        path: program.to_owned(),
        args: arguments.into_iter().map(str::to_owned).collect(),
        state: state(record),
        image: record.image.as_str().to_owned(),
        resolv_conf_path: file("resolv.conf"),
        hostname_path: file("hostname"),
        hosts_path: file("hosts"),
        log_path: paths.log.as_deref().map(|path| path.to_string_lossy().into_owned()).unwrap_or_default(),
        name: format!("/{}", record.name),
        restart_count: record.restart_count.into(),
        driver: "overlay2".to_owned(),
        platform: record.platform.split('/').next().filter(|os| !os.is_empty()).unwrap_or("linux").to_owned(),
        exec_ids: nil_when_empty(execs),
        host_config: host::to_wire(&record.config.host),
        graph_driver: GraphDriver {
            // There is no place on the host where all of it is seen together.
            data: Some(BTreeMap::from(
                [
                    ("ID", id.to_owned()),
                    ("LowerDir", joined(&paths.layers)),
                    ("UpperDir", file("upper")),
                    ("WorkDir", file("work")),
                ]
                .map(|(name, value)| (name.to_owned(), value)),
            )),
            name: "overlay2".to_owned(),
        },
        mounts: mount::points(record),
        config: config(&record.config),
        network_settings: network_settings(record),
        ..wire::ContainerInspect::default()
    }
}

fn state(record: &Record) -> wire::ContainerState {
    let state = &record.state;
    wire::ContainerState {
        status: state.status.as_str().to_owned(),
        running: state.status.has_process() || state.status == Status::Restarting,
        paused: state.status == Status::Paused,
        restarting: state.status == Status::Restarting,
        oom_killed: state.oom_killed,
        dead: state.status == Status::Dead,
        pid: state.pid.into(),
        exit_code: state.exit_code.into(),
        error: state.error.clone(),
        started_at: rfc3339(state.started_at),
        finished_at: rfc3339(state.finished_at),
        health: record.health.as_ref().map(health),
    }
}

fn health(health: &Health) -> wire::Health {
    let answer = |answer: &HealthAnswer| wire::HealthResult {
        start: rfc3339(answer.start),
        end: rfc3339(answer.end),
        exit_code: answer.exit_code.into(),
        output: answer.output.clone(),
    };
    wire::Health {
        status: health.status.as_str().to_owned(),
        failing_streak: health.failing_streak.into(),
        log: Some(health.log.iter().map(answer).collect()),
    }
}

fn config(config: &Config) -> wire::ContainerConfig {
    let set = |paths: &std::collections::BTreeSet<String>| {
        paths.iter().map(|path| (path.clone(), wire::Empty {})).collect::<BTreeMap<_, _>>()
    };
    wire::ContainerConfig {
        hostname: config.hostname.clone(),
        domainname: config.domainname.clone(),
        user: config.user.clone(),
        attach_stdin: config.attach_stdin,
        attach_stdout: config.attach_stdout,
        attach_stderr: config.attach_stderr,
        exposed_ports: Some(set(&config.exposed_ports)).filter(|ports| !ports.is_empty()),
        tty: config.tty,
        open_stdin: config.open_stdin,
        stdin_once: config.stdin_once,
        env: Some(config.env.clone()),
        cmd: nil_when_empty(config.command.clone()),
        healthcheck: config.healthcheck.as_ref().map(|check| wire::HealthConfig {
            test: check.test.clone(),
            interval: check.interval,
            timeout: check.timeout,
            start_period: check.start_period,
            start_interval: check.start_interval,
            retries: check.retries,
        }),
        image: config.image.clone(),
        volumes: Some(set(&config.volumes)).filter(|volumes| !volumes.is_empty()),
        working_dir: config.working_dir.clone(),
        entrypoint: config.entrypoint.clone(),
        network_disabled: config.network_disabled,
        mac_address: config.mac_address.clone().unwrap_or_default(),
        on_build: nil_when_empty(config.on_build.clone()),
        labels: Some(config.labels.clone()),
        stop_signal: config.stop_signal.clone().unwrap_or_default(),
        stop_timeout: config.stop_timeout,
        shell: config.shell.clone(),
        ..wire::ContainerConfig::default()
    }
}

fn network_settings(record: &Record) -> wire::NetworkSettings {
    let networks = endpoints(record);
    let bridge = networks.get("bridge").cloned().unwrap_or_default();
    let runs = record.state.status.has_process();
    wire::NetworkSettings {
        sandbox_id: if runs { record.id.as_str().to_owned() } else { String::new() },
        sandbox_key: if runs && record.state.pid > 0 {
            format!("/proc/{}/ns/net", record.state.pid)
        } else {
            String::new()
        },
        ports: if runs { super::summary::port_map(record) } else { BTreeMap::new() },
        endpoint_id: bridge.endpoint_id,
        gateway: bridge.gateway,
        ip_address: bridge.ip_address,
        ip_prefix_len: bridge.ip_prefix_len,
        mac_address: bridge.mac_address,
        ipv6_gateway: bridge.ipv6_gateway,
        global_ipv6_address: bridge.global_ipv6_address,
        global_ipv6_prefix_len: bridge.global_ipv6_prefix_len,
        networks: Some(networks),
        ..wire::NetworkSettings::default()
    }
}
