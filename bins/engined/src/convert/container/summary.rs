//! A container as lists show it.

use engine::container::{ContainerState, HealthStatus, Record, Status};
use engine_api::container as wire;

use super::mount;
use crate::convert::network::endpoints;
use crate::convert::time::{human, seconds};

/// A line of a list; `status` is that of [`status`].
pub(crate) fn summary(record: &Record, status: String) -> wire::ContainerSummary {
    let (program, arguments) = record.config.process();
    wire::ContainerSummary {
        id: record.id.as_str().to_owned(),
        names: vec![format!("/{}", record.name)],
        image: record.config.image.clone(),
        image_id: record.image.as_str().to_owned(),
        command: command(program, &arguments),
        created: seconds(record.created_at),
        ports: ports(record),
        labels: record.config.labels.clone(),
        state: record.state.status.as_str().to_owned(),
        status,
        host_config: wire::SummaryHostConfig {
            network_mode: record.config.host.network_mode.to_string(),
            annotations: record.config.host.annotations.clone(),
        },
        network_settings: Some(wire::SummaryNetworkSettings { networks: endpoints(record) }),
        mounts: mount::points(record),
        ..wire::ContainerSummary::default()
    }
}

/// Arguments with spaces are quoted.
fn command(program: &str, arguments: &[&str]) -> String {
    let mut text = program.to_owned();
    for argument in arguments {
        text.push(' ');
        if argument.contains(' ') {
            text.push('\'');
            text.push_str(argument);
            text.push('\'');
        } else {
            text.push_str(argument);
        }
    }
    text
}

/// How it is at the time `now` in nanoseconds since 1970, for people.
pub(crate) fn status(record: &Record, now: i64) -> String {
    status_text(&record.state, record.health.as_ref().map(|health| health.status), now)
}

fn status_text(state: &ContainerState, health: Option<HealthStatus>, now: i64) -> String {
    let since = |then: i64| human(now - then);
    match state.status {
        Status::Running => {
            let health = match health {
                None => "",
                Some(HealthStatus::Starting) => " (health: starting)",
                Some(HealthStatus::Healthy) => " (healthy)",
                Some(HealthStatus::Unhealthy) => " (unhealthy)",
            };
            format!("Up {}{health}", since(state.started_at))
        }
        Status::Paused => format!("Up {} (Paused)", since(state.started_at)),
        Status::Restarting => format!("Restarting ({}) {} ago", state.exit_code, since(state.finished_at)),
        Status::Removing => "Removal In Progress".to_owned(),
        Status::Dead => "Dead".to_owned(),
        Status::Created => "Created".to_owned(),
        _ if state.finished_at == 0 => String::new(),
        _ => format!("Exited ({}) {} ago", state.exit_code, since(state.finished_at)),
    }
}

/// What is published, and what is only exposed.
pub(crate) fn port_map(record: &Record) -> wire::PortMap {
    let whole = |port: &String| if port.contains('/') { port.clone() } else { format!("{port}/tcp") };
    let mut ports: wire::PortMap = record.config.exposed_ports.iter().map(|port| (whole(port), None)).collect();
    let interfaces = record.endpoints.iter().filter_map(|endpoint| endpoint.interface.as_ref());
    for published in interfaces.flat_map(|interface| &interface.ports).flat_map(|ports| ports.each()) {
        let entry = ports.entry(format!("{}/{}", published.port, published.protocol)).or_default();
        if published.host_port == 0 {
            continue;
        }
        entry.get_or_insert_default().push(wire::PortBinding {
            host_ip: published.host_address.to_string(),
            host_port: published.host_port.to_string(),
        });
    }
    ports
}

fn ports(record: &Record) -> Vec<wire::Port> {
    if !record.state.status.has_process() {
        return Vec::new();
    }
    let mut ports = Vec::new();
    for (port, bindings) in port_map(record) {
        let (number, kind) = port.split_once('/').unwrap_or((&port, "tcp"));
        let Ok(private_port) = number.parse() else { continue };
        let shown = wire::Port { private_port, kind: kind.to_owned(), ..wire::Port::default() };
        match bindings {
            None => ports.push(shown),
            Some(bindings) => ports.extend(bindings.into_iter().filter_map(|binding| {
                Some(wire::Port { ip: binding.host_ip, public_port: binding.host_port.parse().ok()?, ..shown.clone() })
            })),
        }
    }
    ports
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(status: Status) -> ContainerState {
        let mut state = ContainerState::default();
        state.status = status;
        state.started_at = 1_000_000_000;
        state.finished_at = 61_000_000_000;
        state.exit_code = 3;
        state
    }

    #[test]
    fn a_status_is_told_in_dockers_words() {
        let now = 121_000_000_000;
        for (of, text) in [
            (Status::Created, "Created"),
            (Status::Running, "Up 2 minutes"),
            (Status::Paused, "Up 2 minutes (Paused)"),
            (Status::Restarting, "Restarting (3) About a minute ago"),
            (Status::Exited, "Exited (3) About a minute ago"),
            (Status::Removing, "Removal In Progress"),
            (Status::Dead, "Dead"),
        ] {
            assert_eq!(status_text(&state(of), None, now), text);
        }
        let healthy = |health| status_text(&state(Status::Running), Some(health), now);
        assert_eq!(healthy(HealthStatus::Healthy), "Up 2 minutes (healthy)");
        assert_eq!(healthy(HealthStatus::Unhealthy), "Up 2 minutes (unhealthy)");
        assert_eq!(healthy(HealthStatus::Starting), "Up 2 minutes (health: starting)");
        assert_eq!(status_text(&state(Status::Paused), Some(HealthStatus::Healthy), now), "Up 2 minutes (Paused)");
    }

    #[test]
    fn arguments_with_spaces_are_quoted() {
        assert_eq!(command("sh", &["-c", "echo hi"]), "sh -c 'echo hi'");
    }
}
