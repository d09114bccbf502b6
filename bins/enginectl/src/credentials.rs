//! Who the user is to a registry, from the configuration file that Docker's `login` writes.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use engine_api::image::RegistryAuth;
use serde::Deserialize;

use crate::session::Io;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Config {
    auths: BTreeMap<String, Auth>,
    creds_store: String,
    cred_helpers: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Auth {
    auth: String,
    identitytoken: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Helped {
    username: String,
    secret: String,
}

/// The value of the header for a registry (`docker.io` is the default one), if the user has logged in there.
pub(crate) fn header(io: &Io, registry: &str) -> Option<String> {
    let directory =
        io.variable("DOCKER_CONFIG").or_else(|| io.variable("HOME").map(|home| format!("{home}/.docker")))?;
    let config: Config = serde_json::from_slice(&std::fs::read(format!("{directory}/config.json")).ok()?).ok()?;
    let auth = find(&config, registry, helper)?;
    Some(URL_SAFE.encode(serde_json::to_vec(&auth).ok()?))
}

fn find(
    config: &Config,
    registry: &str,
    helper: impl Fn(&str, &str) -> Option<(String, String)>,
) -> Option<RegistryAuth> {
    let server = if registry == "docker.io" { "https://index.docker.io/v1/" } else { registry };
    let auth = RegistryAuth { serveraddress: server.to_owned(), ..RegistryAuth::default() };
    let program = config.cred_helpers.get(server).unwrap_or(&config.creds_store);
    if !program.is_empty()
        && let Some((username, secret)) = helper(program, server)
    {
        return Some(if username == "<token>" {
            RegistryAuth { identitytoken: secret, ..auth }
        } else {
            RegistryAuth { username, password: secret, ..auth }
        });
    }
    let stored = config.auths.iter().find(|(key, _)| host(key) == host(server)).map(|(_, stored)| stored)?;
    if !stored.identitytoken.is_empty() {
        return Some(RegistryAuth { identitytoken: stored.identitytoken.clone(), ..auth });
    }
    let decoded = String::from_utf8(STANDARD.decode(&stored.auth).ok()?).ok()?;
    let (username, password) = decoded.split_once(':')?;
    let password = password.trim_end_matches('\0').to_owned();
    Some(RegistryAuth { username: username.to_owned(), password, ..auth })
}

/// A key of the file may be a URL.
fn host(key: &str) -> &str {
    let key = key.split_once("://").map_or(key, |(_, rest)| rest);
    key.split('/').next().unwrap_or(key)
}

/// Asks `docker-credential-NAME get`.
fn helper(name: &str, server: &str) -> Option<(String, String)> {
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')) {
        return None;
    }
    let mut child = Command::new(format!("docker-credential-{name}"))
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let sent = child.stdin.take().map(|mut stdin| stdin.write_all(server.as_bytes()));
    let output = child.wait_with_output().ok()?;
    if !output.status.success() || !matches!(sent, Some(Ok(()))) {
        return None;
    }
    let helped: Helped = serde_json::from_slice(&output.stdout).ok()?;
    Some((helped.username, helped.secret))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn config(text: &str) -> Config {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn stored_logins_are_found_by_host() {
        let config = config(
            r#"{"auths":{"https://index.docker.io/v1/":{"auth":"bWU6c2VjcmV0"},"localhost:5000":{"auth":"YTpiOmM="},"x.io":{"identitytoken":"t"}}}"#,
        );
        let of = |registry: &str| find(&config, registry, |_, _| None);
        let hub = of("docker.io").unwrap();
        assert_eq!((hub.username.as_str(), hub.password.as_str()), ("me", "secret"));
        assert_eq!(of("localhost:5000").unwrap().password, "b:c");
        assert_eq!(of("x.io").unwrap().identitytoken, "t");
        assert_eq!(of("other.io"), None);
    }

    #[test]
    fn helpers_come_first() {
        let config = config(r#"{"credsStore":"store","credHelpers":{"x.io":"own"}}"#);
        let of =
            |registry: &str| find(&config, registry, |program, server| Some((program.to_owned(), server.to_owned())));
        assert_eq!(of("x.io").unwrap().username, "own");
        assert_eq!(of("docker.io").unwrap().password, "https://index.docker.io/v1/");
        let token = find(&config, "x.io", |_, _| Some(("<token>".to_owned(), "t".to_owned()))).unwrap();
        assert_eq!((token.identitytoken.as_str(), token.username.as_str()), ("t", ""));
    }

    #[test]
    fn no_helper_is_run_by_a_path() {
        assert_eq!(helper("../x", "s"), None);
    }
}
