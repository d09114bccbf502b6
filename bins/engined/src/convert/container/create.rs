//! What a client asks for becomes a [`ContainerSpec`]. What the engine cannot do is refused, never forgotten.

use engine::container::{ContainerSpec, Lifetime};
use engine::oci::Healthcheck;
use engine_api::container::CreateRequest;
use engine_api::version::ApiVersion;

use super::host;
use crate::convert::network::endpoint_spec;
use crate::error::Error;
use crate::version::Gates;

/// The spec of a container called `name` (empty: the engine makes one up) for `platform` (empty: the host's).
pub(crate) fn spec(
    request: CreateRequest,
    name: &str,
    platform: &str,
    version: ApiVersion,
) -> Result<ContainerSpec, Error> {
    let CreateRequest { config, host_config, networking_config } = request;
    let mut spec = ContainerSpec::new(&config.image);
    let name = name.strip_prefix('/').unwrap_or(name);
    spec.name = (!name.is_empty()).then(|| name.to_owned());
    spec.platform = (!platform.is_empty()).then(|| platform.to_owned());
    spec.lifetime = Lifetime::Independent;
    spec.hostname = config.hostname;
    spec.domainname = config.domainname;
    spec.user = config.user;
    spec.env = config.env.unwrap_or_default();
    spec.command = config.cmd;
    spec.entrypoint = config.entrypoint;
    spec.working_dir = config.working_dir;
    spec.labels = config.labels.unwrap_or_default();
    spec.tty = config.tty;
    spec.open_stdin = config.open_stdin;
    spec.stdin_once = config.stdin_once;
    spec.attach_stdin = config.attach_stdin;
    spec.attach_stdout = config.attach_stdout;
    spec.attach_stderr = config.attach_stderr;
    spec.exposed_ports = config.exposed_ports.unwrap_or_default().into_keys().collect();
    spec.volumes = config.volumes.unwrap_or_default().into_keys().collect();
    spec.stop_signal = (!config.stop_signal.is_empty()).then_some(config.stop_signal);
    spec.stop_timeout = config.stop_timeout;
    spec.mac_address = (!config.mac_address.is_empty()).then_some(config.mac_address);
    spec.shell = config.shell;
    spec.on_build = config.on_build.unwrap_or_default();
    spec.healthcheck = config.healthcheck.filter(|check| *check != Default::default()).map(|check| Healthcheck {
        test: check.test,
        interval: check.interval,
        timeout: check.timeout,
        start_period: check.start_period,
        start_interval: check.start_interval,
        retries: check.retries,
    });
    spec.network_disabled = config.network_disabled;
    spec.shallow_read_only = !version.has_recursive_read_only();
    spec.host = host::to_engine(host_config.unwrap_or_default(), version)?;
    for (network, settings) in networking_config.and_then(|config| config.endpoints_config).unwrap_or_default() {
        let network = if network == "default" { "bridge".to_owned() } else { network };
        let mut asked = endpoint_spec(settings)?;
        if !version.has_endpoint_mac_address() {
            asked.mac_address = None;
        }
        spec.endpoints.insert(network, asked);
    }
    Ok(spec)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use engine_api::json;
    use engine_api::version::MAX;

    fn read(body: &str) -> Result<ContainerSpec, Error> {
        spec(json::from_slice(body.as_bytes()).unwrap(), "/web", "", MAX)
    }

    #[test]
    fn a_request_becomes_a_spec() {
        let spec = read(
            r#"{"Image":"busybox","Cmd":["true"],"Entrypoint":[""],"Env":["A=b"],"Labels":{"l":"1"},"OpenStdin":true,"StdinOnce":true,
                "ExposedPorts":{"80/tcp":{}},"Volumes":{"/v":{}},"StopTimeout":3,"StopSignal":"SIGQUIT","OnBuild":["RUN make"],
                "NetworkingConfig":{"EndpointsConfig":{"net":{"IPAMConfig":{"IPv4Address":"10.0.0.5"},"Aliases":["a"],"MacAddress":"02:42:00:00:00:01"}}}}"#,
        )
        .unwrap();
        assert_eq!((spec.image.as_str(), spec.name.as_deref()), ("busybox", Some("web")));
        assert_eq!(spec.command, Some(vec!["true".to_owned()]));
        assert_eq!(spec.entrypoint, Some(vec![String::new()]));
        assert_eq!(spec.lifetime, Lifetime::Independent);
        assert!(
            spec.open_stdin && spec.stdin_once && spec.volumes.contains("/v") && spec.exposed_ports.contains("80/tcp")
        );
        assert_eq!((spec.stop_timeout, spec.stop_signal.as_deref()), (Some(3), Some("SIGQUIT")));
        assert_eq!(spec.on_build, ["RUN make"]);
        let endpoint = &spec.endpoints["net"];
        assert_eq!(endpoint.ipv4_address.unwrap().to_string(), "10.0.0.5");
        assert_eq!(endpoint.mac_address.as_deref(), Some("02:42:00:00:00:01"));
    }

    #[test]
    fn an_empty_healthcheck_is_none() {
        assert_eq!(read(r#"{"Image":"a","Healthcheck":{}}"#).unwrap().healthcheck, None);
        assert_eq!(
            read(r#"{"Image":"a","Healthcheck":{"Test":["NONE"]}}"#).unwrap().healthcheck.unwrap().test,
            ["NONE"]
        );
    }

    #[test]
    fn what_cannot_be_done_is_refused() {
        let network = |settings: &str| {
            read(&format!(r#"{{"Image":"a","NetworkingConfig":{{"EndpointsConfig":{{"n":{settings}}}}}}}"#))
                .unwrap_err()
        };
        assert_eq!(network(r#"{"IPAMConfig":{"IPv6Address":"x"}}"#).message, "invalid IPv6 address: x");
        assert_eq!(network(r#"{"IPAMConfig":{"IPv4Address":"x"}}"#).message, "invalid IPv4 address: x");
    }
}
