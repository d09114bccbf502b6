//! What was decided about a container: the spec, its gaps filled from the image and the engine's settings.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::Error;
use super::host_config::HostConfig;
use super::modes::{Lifetime, NamespaceMode, NetworkMode};
use super::spec::{ContainerSpec, EndpointSpec};
use crate::oci::{Execution, Healthcheck};
use crate::settings::Settings;

/// The search path of a container whose image has none.
pub(super) const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What was decided about a container when it was made. Afterwards only the networks that it is on change.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Config {
    /// The image as it was asked for.
    pub image: String,
    /// How long it may run.
    pub lifetime: Lifetime,
    /// Host name.
    pub hostname: String,
    /// NIS domain name.
    pub domainname: String,
    /// `user[:group]`; root when empty.
    pub user: String,
    /// Variables of spec and image; those that the engine adds are not among them.
    pub env: Vec<String>,
    /// Arguments, or the program and its arguments.
    pub command: Vec<String>,
    /// The program and its first arguments.
    pub entrypoint: Option<Vec<String>>,
    /// Working directory; `/` when empty.
    pub working_dir: String,
    /// Labels of spec and image.
    pub labels: BTreeMap<String, String>,
    /// It has a terminal.
    pub tty: bool,
    /// Standard input can be attached.
    pub open_stdin: bool,
    /// Standard input is closed with the first client that brought it.
    pub stdin_once: bool,
    /// As asked.
    pub attach_stdin: bool,
    /// As asked.
    pub attach_stdout: bool,
    /// As asked.
    pub attach_stderr: bool,
    /// Ports of spec and image, as `80/tcp` or `80`, which is the same.
    pub exposed_ports: BTreeSet<String>,
    /// Anonymous volumes of spec and image.
    pub volumes: BTreeSet<String>,
    /// Signal that asks it to end; `SIGTERM` when there is none.
    pub stop_signal: Option<String>,
    /// Seconds until it is killed after that; -1 waits without end, the engine's own ten when there is none.
    pub stop_timeout: Option<i64>,
    /// Hardware address asked for.
    pub mac_address: Option<String>,
    /// The shell of `SHELL` form commands.
    pub shell: Option<Vec<String>>,
    /// What a build on top of an image of it runs first. That of its own image is for builds on top of that one only.
    pub on_build: Vec<String>,
    /// The health check of spec and image.
    pub healthcheck: Option<Healthcheck>,
    /// As asked.
    pub network_disabled: bool,
    /// How it is tied to its host.
    pub host: HostConfig,
    /// What it asks of networks, by their name or id.
    pub endpoints: BTreeMap<String, EndpointSpec>,
    /// It was taken off its last network.
    pub detached: bool,
}

impl Config {
    /// The program and its arguments.
    #[must_use]
    pub fn process(&self) -> (&str, Vec<&str>) {
        let mut words = self.entrypoint.iter().flatten().chain(&self.command).map(String::as_str);
        (words.next().unwrap_or_default(), words.collect())
    }

    /// The environment as the process sees it, `HOME` apart, which is that of the user in the container.
    #[must_use]
    pub fn environment(&self) -> Vec<String> {
        self.environment_with(self.tty)
    }

    /// The same for a further process, which may have a terminal where the first has none.
    pub(super) fn environment_with(&self, tty: bool) -> Vec<String> {
        let mut environment = vec![DEFAULT_PATH.to_owned(), format!("HOSTNAME={}", self.hostname)];
        if tty {
            environment.push("TERM=xterm".to_owned());
        }
        overlay_environment(&mut environment, &self.env);
        environment
    }
}

/// Puts `changes` over `environment`: `NAME=value` takes the place of an earlier one, `NAME` alone takes it away.
pub(super) fn overlay_environment(environment: &mut Vec<String>, changes: &[String]) {
    for change in changes {
        let name = change.split('=').next().unwrap_or_default();
        let place = environment.iter().position(|entry| name_of(entry) == name);
        match (change.contains('='), place) {
            (true, Some(place)) => environment[place].clone_from(change),
            (true, None) => environment.push(change.clone()),
            (false, Some(place)) => {
                environment.remove(place);
            }
            (false, None) => {}
        }
    }
}

fn name_of(entry: &str) -> &str {
    entry.split('=').next().unwrap_or_default()
}

/// Decides: what the spec leaves open comes from the image, then from the settings. `host_name` is
/// its host name when it asks for none.
pub(super) fn decide(
    spec: ContainerSpec,
    image: &Execution,
    settings: &Settings,
    host_name: &str,
) -> Result<Config, Error> {
    let mut config = Config {
        image: spec.image,
        lifetime: spec.lifetime,
        hostname: spec.hostname,
        domainname: spec.domainname,
        user: or_else(spec.user, &image.user),
        env: merged_env(spec.env, &image.env),
        command: Vec::new(),
        entrypoint: None,
        working_dir: clean_working_dir(&or_else(spec.working_dir, &image.working_dir))?,
        labels: image.labels.clone().into_iter().chain(spec.labels).collect(),
        tty: spec.tty,
        open_stdin: spec.open_stdin,
        stdin_once: spec.stdin_once,
        attach_stdin: spec.attach_stdin,
        attach_stdout: spec.attach_stdout,
        attach_stderr: spec.attach_stderr,
        exposed_ports: exposed(spec.exposed_ports.iter().chain(&image.exposed_ports))?,
        volumes: spec.volumes.into_iter().chain(image.volumes.iter().cloned()).collect(),
        stop_signal: spec.stop_signal.filter(|signal| !signal.is_empty()).or_else(|| image.stop_signal.clone()),
        stop_timeout: spec.stop_timeout,
        mac_address: spec.mac_address.filter(|mac| !mac.is_empty()),
        shell: spec.shell.or_else(|| image.shell.clone()),
        on_build: spec.on_build,
        healthcheck: super::health::merged(spec.healthcheck, image.healthcheck.as_ref()),
        network_disabled: spec.network_disabled,
        host: spec.host,
        endpoints: spec.endpoints,
        detached: false,
    };
    (config.entrypoint, config.command) = process(spec.entrypoint, spec.command, image)?;
    if config.hostname.is_empty() {
        host_name.clone_into(&mut config.hostname);
    }
    fill_host(&mut config.host, settings);
    if config.network_disabled {
        config.host.network_mode = NetworkMode::None;
    }
    Ok(config)
}

fn or_else(asked: String, image: &str) -> String {
    if asked.is_empty() { image.to_owned() } else { asked }
}

fn fill_host(host: &mut HostConfig, settings: &Settings) {
    if host.network_mode == NetworkMode::Default {
        let default = if settings.bridge.enabled { "bridge" } else { "none" };
        host.network_mode = NetworkMode::Named(default.to_owned());
        if default == "none" {
            host.network_mode = NetworkMode::None;
        }
    }
    if host.shm_size == 0 {
        host.shm_size = settings.shm_size;
    }
    if host.log.driver.is_empty() {
        host.log.driver.clone_from(&settings.log.driver);
        if host.log.options.is_empty() {
            host.log.options.clone_from(&settings.log.options);
        }
    } else if host.log.driver == settings.log.driver {
        for (name, value) in &settings.log.options {
            host.log.options.entry(name.clone()).or_insert_with(|| value.clone());
        }
    }
    for default in &settings.ulimits {
        if !host.ulimits.iter().any(|ulimit| ulimit.name == default.name) {
            host.ulimits.push(default.clone());
        }
    }
    if host.ipc_mode == super::modes::IpcMode::Default {
        host.ipc_mode = super::modes::IpcMode::Private;
    }
    if host.cgroupns_mode == NamespaceMode::Default {
        // A privileged container manages the host's cgroups, so it sees them.
        host.cgroupns_mode = if host.privileged { NamespaceMode::Host } else { NamespaceMode::Private };
    }
    if host.resources.memory > 0 && host.resources.memory_swap == 0 {
        host.resources.memory_swap = host.resources.memory.saturating_mul(2);
    }
    if host.runtime.is_empty() {
        host.runtime = settings.default_runtime.clone().unwrap_or_else(|| super::outside::RUNTIME.to_owned());
    }
}

/// The spec's variables first, then those of the image that it does not name.
fn merged_env(mut asked: Vec<String>, image: &[String]) -> Vec<String> {
    let count = asked.len();
    for entry in image {
        if !asked[..count].iter().any(|own| name_of(own) == name_of(entry)) {
            asked.push(entry.clone());
        }
    }
    asked
}

type Process = (Option<Vec<String>>, Vec<String>);

fn process(entrypoint: Option<Vec<String>>, command: Option<Vec<String>>, image: &Execution) -> Result<Process, Error> {
    let mut command = command.unwrap_or_default();
    let entrypoint = match entrypoint {
        // Another program makes the image's arguments meaningless; an empty one (`--entrypoint ""`) does too.
        Some(words) if !words.is_empty() => Some(words).filter(|words| words.len() > 1 || !words[0].is_empty()),
        asked => {
            if command.is_empty() {
                command = image.cmd.clone().unwrap_or_default();
            }
            if asked.is_none() { image.entrypoint.clone() } else { None }
        }
    };
    let entrypoint = entrypoint.filter(|words| !words.is_empty());
    if entrypoint.is_none() && command.is_empty() {
        return Err(Error::invalid("no command specified"));
    }
    Ok((entrypoint, command))
}

fn clean_working_dir(path: &str) -> Result<String, Error> {
    if path.is_empty() {
        return Ok(String::new());
    }
    if !path.starts_with('/') {
        return Err(Error::invalid(format!(
            "the working directory '{path}' is invalid, it needs to be an absolute path"
        )));
    }
    Ok(clean_path(path))
}

/// An absolute path without `.`, `..`, double and trailing slashes, as words only: nothing is looked up.
pub(super) fn clean_path(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            _ => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// A port without a protocol stays as it is, as with Docker.
fn exposed<'a>(ports: impl Iterator<Item = &'a String>) -> Result<BTreeSet<String>, Error> {
    ports
        .map(|port| {
            let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
            let valid = number.split('-').count() <= 2
                && number.split('-').all(|end| end.parse::<u16>().is_ok_and(|port| port > 0))
                && matches!(protocol.to_ascii_lowercase().as_str(), "tcp" | "udp" | "sctp");
            if valid {
                Ok(port.to_ascii_lowercase())
            } else {
                Err(Error::invalid(format!("invalid port specification: \"{port}\"")))
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn image() -> Execution {
        Execution {
            env: words("PATH=/bin A=image B=image"),
            entrypoint: Some(words("/entry -x")),
            cmd: Some(words("serve")),
            user: "app".to_owned(),
            working_dir: "/srv".to_owned(),
            labels: [("a".to_owned(), "image".to_owned()), ("b".to_owned(), "image".to_owned())].into(),
            exposed_ports: ["80".to_owned(), "53/UDP".to_owned()].into(),
            volumes: ["/data".to_owned()].into(),
            stop_signal: Some("SIGQUIT".to_owned()),
            on_build: vec!["RUN image".to_owned()],
            ..Execution::default()
        }
    }

    fn decided(spec: ContainerSpec) -> Config {
        decide(spec, &image(), &Settings::default(), "0123456789ab").unwrap()
    }

    #[test]
    fn gaps_are_filled_from_the_image() {
        let config = decided(ContainerSpec::new("i"));
        assert_eq!(config.process(), ("/entry", vec!["-x", "serve"]));
        assert_eq!((config.user.as_str(), config.working_dir.as_str()), ("app", "/srv"));
        assert_eq!(config.hostname, "0123456789ab");
        assert_eq!(config.exposed_ports, ["53/udp".to_owned(), "80".to_owned()].into());
        assert_eq!(config.stop_signal.as_deref(), Some("SIGQUIT"));
        assert_eq!(config.host.network_mode, NetworkMode::Named("bridge".to_owned()));
        assert_eq!(config.host.shm_size, 64 << 20);
        // They are for builds on top of the image, and this is none.
        assert!(config.on_build.is_empty());
        // Bounded all the same, but that is not what anybody asked for.
        assert!(config.host.log.options.is_empty());
    }

    #[test]
    fn entry_point_and_command_follow_docker() {
        let of = |entrypoint: Option<&str>, command: Option<&str>| {
            let mut spec = ContainerSpec::new("i");
            spec.entrypoint = entrypoint.map(|text| if text == "\"\"" { vec![String::new()] } else { words(text) });
            spec.command = command.map(words);
            let config = decide(spec, &image(), &Settings::default(), "x")?;
            let (program, arguments) = config.process();
            Ok::<_, Error>(format!("{program} {}", arguments.join(" ")))
        };
        assert_eq!(of(None, Some("one")).unwrap(), "/entry -x one");
        assert_eq!(of(Some("sh"), None).unwrap(), "sh ");
        assert_eq!(of(Some("sh"), Some("-c true")).unwrap(), "sh -c true");
        assert_eq!(of(Some("\"\""), Some("top")).unwrap(), "top ");
        assert_eq!(of(Some(""), None).unwrap(), "serve ");
        assert_eq!(of(Some("\"\""), None).unwrap_err().to_string(), "no command specified");
    }

    #[test]
    fn the_environment_has_dockers_order() {
        let config = decided(ContainerSpec::new("i").env("A", "own").env("C", "x=y").tty(true));
        assert_eq!(config.env, words("A=own C=x=y PATH=/bin B=image"));
        assert_eq!(config.environment(), words("PATH=/bin HOSTNAME=0123456789ab TERM=xterm A=own C=x=y B=image"));
        let mut spec = ContainerSpec::new("i");
        spec.env = words("PATH B TERM=dumb");
        let config = decided(spec.tty(true));
        assert_eq!(config.environment(), words("HOSTNAME=0123456789ab TERM=dumb A=image"));
    }

    #[test]
    fn labels_volumes_and_ports_are_united() {
        let mut spec = ContainerSpec::new("i").label("a", "own").volume("/more");
        spec.exposed_ports.insert("9000-9001/tcp".to_owned());
        let config = decided(spec);
        assert_eq!((config.labels["a"].as_str(), config.labels["b"].as_str()), ("own", "image"));
        assert_eq!(config.volumes.len(), 2);
        assert_eq!(config.exposed_ports.len(), 3);
    }

    #[test]
    fn nonsense_is_refused() {
        let refused = |spec: ContainerSpec| decide(spec, &image(), &Settings::default(), "x").unwrap_err().to_string();
        assert_eq!(
            refused(ContainerSpec::new("i").working_dir("srv")),
            "the working directory 'srv' is invalid, it needs to be an absolute path"
        );
        let mut spec = ContainerSpec::new("i");
        spec.exposed_ports.insert("80/icmp".to_owned());
        assert_eq!(refused(spec), "invalid port specification: \"80/icmp\"");
    }

    #[test]
    fn paths_are_cleaned() {
        for (path, clean) in [("/", "/"), ("//a//b/", "/a/b"), ("/a/./../b", "/b"), ("/../..", "/")] {
            assert_eq!(clean_path(path), clean);
        }
    }
}
