//! Who the user is to a registry: the configuration file that Docker's `login` writes, and the helpers that it names.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use engine_api::image::RegistryAuth;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::error::Error;
use crate::session::Session;

/// What Docker Hub is called in the file.
const HUB: &str = "https://index.docker.io/v1/";
/// What helpers call the user when the secret is a token.
const TOKEN: &str = "<token>";

/// The user's configuration file. What else is in it stays as it is.
#[derive(Debug)]
pub(crate) struct Store {
    path: PathBuf,
    members: Map<String, Value>,
    helpers: Helpers,
}

/// Runs helpers; another one in tests.
type Helpers = fn(name: &str, action: &str, input: &[u8]) -> Result<Vec<u8>, String>;

/// A stored login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Login {
    server: String,
    username: String,
    secret: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Helped {
    #[serde(rename = "ServerURL", default)]
    server: String,
    username: String,
    secret: String,
}

/// The value of the header for a registry (`docker.io` is the default one), if the user has logged in there.
pub(crate) fn header(session: &Session, registry: &str) -> Option<String> {
    let login = Store::open(session).ok()?.get(&server_of(registry)).ok()??;
    Some(URL_SAFE.encode(serde_json::to_vec(&login.into_wire()).ok()?))
}

/// What a registry is called in the file: its host, and Docker Hub by its old address.
pub(crate) fn server_of(name: &str) -> String {
    match host(name) {
        "docker.io" | "index.docker.io" | "registry-1.docker.io" => HUB.to_owned(),
        other => other.to_owned(),
    }
}

/// A key of the file may be a URL.
fn host(key: &str) -> &str {
    let key = key.split_once("://").map_or(key, |(_, rest)| rest);
    key.split('/').next().unwrap_or(key)
}

impl Login {
    /// Whether it says nothing.
    pub(crate) fn is_nobody(&self) -> bool {
        self.secret.is_empty()
    }

    pub(crate) fn into_wire(self) -> RegistryAuth {
        let wire = RegistryAuth { serveraddress: self.server, ..RegistryAuth::default() };
        if self.username == TOKEN {
            return RegistryAuth { identitytoken: self.secret, ..wire };
        }
        RegistryAuth { username: self.username, password: self.secret, ..wire }
    }

    fn of(server: &str, auth: &RegistryAuth) -> Self {
        let (username, secret) = if auth.identitytoken.is_empty() {
            (auth.username.clone(), auth.password.clone())
        } else {
            (TOKEN.to_owned(), auth.identitytoken.clone())
        };
        Self { server: server.to_owned(), username, secret }
    }
}

impl Store {
    /// Reads the file, which need not be there.
    pub(crate) fn open(session: &Session) -> Result<Self, Error> {
        Self::at(session.settings()?.join("config.json"), run)
    }

    fn at(path: PathBuf, helpers: Helpers) -> Result<Self, Error> {
        let members = match std::fs::read(&path) {
            Ok(bytes) if bytes.iter().all(u8::is_ascii_whitespace) => Map::new(),
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|error| Error::Invalid(format!("{} is no configuration: {error}", path.display())))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Map::new(),
            Err(error) => return Err(Error::io(format!("read {}", path.display()))(error)),
        };
        Ok(Self { path, members, helpers })
    }

    /// The login to a registry.
    pub(crate) fn get(&self, server: &str) -> Result<Option<Login>, Error> {
        if let Some(name) = self.helper_for(server)
            && let Some(helped) = self.helped(name, server)?
        {
            let login = Login { server: server.to_owned(), username: helped.username, secret: helped.secret };
            return Ok(Some(login).filter(|login| !login.is_nobody()));
        }
        let auths = self.members.get("auths").and_then(Value::as_object);
        let stored = auths.into_iter().flatten().find(|(key, _)| host(key) == host(server));
        Ok(stored.and_then(|(_, stored)| in_file(server, stored)))
    }

    /// The logins to registries, as images name them, and why some cannot be had: nobody has to go without all the others.
    pub(crate) fn logins(&self, registries: BTreeSet<String>) -> (BTreeMap<String, RegistryAuth>, Vec<String>) {
        let (mut logins, mut complaints) = (BTreeMap::new(), Vec::new());
        for registry in registries {
            match self.get(&server_of(&registry)) {
                Ok(Some(login)) => drop(logins.insert(registry, login.into_wire())),
                Ok(None) => {}
                Err(error) => complaints.push(format!("{registry} is asked without a login: {error}")),
            }
        }
        (logins, complaints)
    }

    /// The name that the user has at each registry where there is a login, and why some helpers cannot tell.
    pub(crate) fn everywhere(&self) -> (BTreeMap<String, String>, Vec<String>) {
        let (mut names, mut complaints) = (BTreeMap::new(), Vec::new());
        for (server, stored) in self.members.get("auths").and_then(Value::as_object).into_iter().flatten() {
            if let Some(login) = in_file(server, stored) {
                names.insert(server.clone(), login.username);
            }
        }
        let own = self.members.get("credHelpers").and_then(Value::as_object).into_iter().flatten();
        let all = self.members.get("credsStore").into_iter();
        let helpers: BTreeSet<&str> =
            own.map(|(_, name)| name).chain(all).filter_map(Value::as_str).filter(|name| !name.is_empty()).collect();
        for name in helpers {
            let listed = self.ask(name, "list", b"").and_then(|output| {
                serde_json::from_slice::<BTreeMap<String, String>>(&output)
                    .map_err(|error| helper_failed(name, "list", &format!("its answer is not understood: {error}")))
            });
            match listed {
                Ok(listed) => {
                    // Only what this helper would be asked for.
                    let own = listed.into_iter().filter(|(server, _)| self.helper_for(server) == Some(name));
                    names.extend(own);
                }
                Err(error) => complaints.push(error.to_string()),
            }
        }
        (names, complaints)
    }

    /// Keeps a login; what is returned is to be shown to the user.
    pub(crate) fn put(&mut self, server: &str, auth: &RegistryAuth) -> Result<Option<String>, Error> {
        let login = Login::of(server, auth);
        if let Some(name) = self.helper_for(server).map(str::to_owned) {
            let input = Helped { server: server.to_owned(), username: login.username, secret: login.secret };
            let input = serde_json::to_vec(&input).map_err(|error| Error::Protocol(error.to_string()))?;
            self.ask(&name, "store", &input)?;
            // The file says that there is a login, and nothing more.
            self.entry(server, json!({}));
            self.write()?;
            return Ok(None);
        }
        let entry = if login.username == TOKEN {
            json!({"auth": "", "identitytoken": login.secret})
        } else {
            json!({"auth": STANDARD.encode(format!("{}:{}", login.username, login.secret))})
        };
        self.entry(server, entry);
        self.write()?;
        Ok(Some(format!(
            "WARNING! Your credentials are stored unencrypted in '{}'.\nConfigure a credential helper to remove this \
             warning: set credsStore in that file.",
            self.path.display()
        )))
    }

    /// Forgets a login.
    pub(crate) fn erase(&mut self, server: &str) -> Result<(), Error> {
        if let Some(name) = self.helper_for(server).map(str::to_owned) {
            match (self.helpers)(&name, "erase", server.as_bytes()) {
                Err(reason) if !is_unknown(&reason) => return Err(helper_failed(&name, "erase", &reason)),
                _ => {}
            }
        }
        let Some(auths) = self.members.get_mut("auths").and_then(Value::as_object_mut) else { return Ok(()) };
        let before = auths.len();
        auths.retain(|key, _| host(key) != host(server));
        if auths.len() == before { Ok(()) } else { self.write() }
    }

    fn entry(&mut self, server: &str, value: Value) {
        let auths = self.members.entry("auths").or_insert_with(|| json!({}));
        if !auths.is_object() {
            *auths = json!({});
        }
        if let Some(auths) = auths.as_object_mut() {
            auths.retain(|key, _| host(key) != host(server));
            auths.insert(server.to_owned(), value);
        }
    }

    /// The helper that keeps the logins to a registry.
    fn helper_for(&self, server: &str) -> Option<&str> {
        // Helpers read lines, and more than one of them would be about another server.
        if server.chars().any(char::is_control) {
            return None;
        }
        let own = self.members.get("credHelpers").and_then(Value::as_object).and_then(|helpers| {
            let of = helpers.get(server).or_else(|| helpers.get(host(server)))?;
            of.as_str()
        });
        let all = self.members.get("credsStore").and_then(Value::as_str);
        own.or(all).filter(|name| !name.is_empty())
    }

    fn helped(&self, name: &str, server: &str) -> Result<Option<Helped>, Error> {
        match (self.helpers)(name, "get", server.as_bytes()) {
            Ok(output) => serde_json::from_slice(&output)
                .map(Some)
                .map_err(|error| helper_failed(name, "get", &format!("its answer is not understood: {error}"))),
            Err(reason) if is_unknown(&reason) => Ok(None),
            Err(reason) => Err(helper_failed(name, "get", &reason)),
        }
    }

    fn ask(&self, name: &str, action: &str, input: &[u8]) -> Result<Vec<u8>, Error> {
        (self.helpers)(name, action, input).map_err(|reason| helper_failed(name, action, &reason))
    }

    /// Writes the file: whole or not at all, and for nobody else to read.
    fn write(&self) -> Result<(), Error> {
        // A link leads to where the file really is.
        let path = self.path.canonicalize().unwrap_or_else(|_| self.path.clone());
        let fail = || Error::io(format!("write {}", path.display()));
        let directory = path.parent().unwrap_or(Path::new("/"));
        std::fs::create_dir_all(directory).map_err(fail())?;
        let part = directory.join(format!(".config.json-{}", std::process::id()));
        let mut text = Vec::new();
        let tabs = serde_json::ser::PrettyFormatter::with_indent(b"\t");
        let mut serializer = serde_json::Serializer::with_formatter(&mut text, tabs);
        self.members.serialize(&mut serializer).map_err(|error| Error::Protocol(error.to_string()))?;
        let written = (|| {
            let mut file: File = File::options().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
            file.write_all(&text)?;
            file.sync_all()?;
            std::fs::rename(&part, &path)
        })();
        if written.is_err() {
            let _ = std::fs::remove_file(&part);
        }
        written.map_err(fail())
    }
}

fn in_file(server: &str, stored: &Value) -> Option<Login> {
    let text = |name: &str| stored.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    if let Some(token) = text("identitytoken") {
        return Some(Login { server: server.to_owned(), username: TOKEN.to_owned(), secret: token.to_owned() });
    }
    let decoded = String::from_utf8(STANDARD.decode(text("auth")?).ok()?).ok()?;
    let (username, password) = decoded.split_once(':')?;
    let secret = password.trim_end_matches('\0').to_owned();
    Some(Login { server: server.to_owned(), username: username.to_owned(), secret })
}

fn helper_failed(name: &str, action: &str, reason: &str) -> Error {
    Error::Protocol(format!("the credential helper docker-credential-{name} cannot {action}: {reason}"))
}

/// How helpers say that they know nothing of a registry.
fn is_unknown(reason: &str) -> bool {
    reason.contains("credentials not found")
}

/// Runs `docker-credential-NAME ACTION`: what it prints, or why it failed.
fn run(name: &str, action: &str, input: &[u8]) -> Result<Vec<u8>, String> {
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')) {
        return Err("its name is none".to_owned());
    }
    let mut child = Command::new(format!("docker-credential-{name}"))
        .arg(action)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    // It may answer without reading.
    let sent = child.stdin.take().map(|mut stdin| stdin.write_all(input));
    let output = child.wait_with_output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return match sent {
            Some(Err(error)) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.to_string()),
            _ => Ok(output.stdout),
        };
    }
    // Helpers complain on either.
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).trim().to_owned();
    Err(if said.is_empty() { format!("it ended with {}", output.status) } else { said })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn store(text: &str, helpers: Helpers) -> (tempfile::TempDir, Store) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.json");
        std::fs::write(&path, text).unwrap();
        let store = Store::at(path, helpers).unwrap();
        (directory, store)
    }

    fn none(_: &str, _: &str, _: &[u8]) -> Result<Vec<u8>, String> {
        Err("credentials not found in native keychain".to_owned())
    }

    fn wire(store: &Store, server: &str) -> Option<RegistryAuth> {
        store.get(&server_of(server)).unwrap().map(Login::into_wire)
    }

    #[test]
    fn stored_logins_are_found_by_host() {
        let (_directory, store) = store(
            r#"{"auths":{"https://index.docker.io/v1/":{"auth":"bWU6c2VjcmV0"},"localhost:5000":{"auth":"YTpiOmM="},"x.io":{"identitytoken":"t"}}}"#,
            none,
        );
        let hub = wire(&store, "docker.io").unwrap();
        assert_eq!((hub.username.as_str(), hub.password.as_str()), ("me", "secret"));
        assert_eq!(wire(&store, "localhost:5000").unwrap().password, "b:c");
        assert_eq!(wire(&store, "x.io").unwrap().identitytoken, "t");
        assert_eq!(wire(&store, "other.io"), None);
    }

    #[test]
    fn a_helper_that_fails_is_said_and_the_others_are_asked() {
        fn some(name: &str, _: &str, _: &[u8]) -> Result<Vec<u8>, String> {
            if name == "broken" {
                Err("no display".to_owned())
            } else {
                Ok(br#"{"Username":"u","Secret":"s"}"#.to_vec())
            }
        }
        let (_directory, store) = store(r#"{"credHelpers":{"a.io":"broken","b.io":"works"}}"#, some);
        let (logins, complaints) = store.logins(["a.io", "b.io", "c.io"].map(str::to_owned).into());
        assert_eq!(logins.keys().collect::<Vec<_>>(), ["b.io"]);
        let said =
            "a.io is asked without a login: the credential helper docker-credential-broken cannot get: no display";
        assert_eq!(complaints, [said]);
    }

    #[test]
    fn helpers_tell_who_is_logged_in_where() {
        fn listing(name: &str, action: &str, input: &[u8]) -> Result<Vec<u8>, String> {
            assert_eq!((action, input), ("list", &b""[..]));
            match name {
                "store" => Ok(br#"{"https://index.docker.io/v1/":"me","x.io":"hidden"}"#.to_vec()),
                "own" => Ok(br#"{"x.io":"<token>","other.io":"nobody"}"#.to_vec()),
                "odd" => Ok(b"[]".to_vec()),
                _ => Err("no display".to_owned()),
            }
        }
        let text = r#"{"credsStore":"store","credHelpers":{"x.io":"own","y.io":"odd","z.io":"broken"},
            "auths":{"local:5000":{"auth":"YTpi"},"x.io":{}}}"#;
        let (_directory, helped) = store(text, listing);
        let (names, complaints) = helped.everywhere();
        let names: Vec<_> = names.iter().map(|(server, name)| (server.as_str(), name.as_str())).collect();
        assert_eq!(names, [(HUB, "me"), ("local:5000", "a"), ("x.io", "<token>")]);
        assert_eq!(complaints.len(), 2);
        assert!(complaints[0].ends_with("docker-credential-broken cannot list: no display"), "{complaints:?}");
        assert!(
            complaints[1].contains("docker-credential-odd cannot list: its answer is not understood"),
            "{complaints:?}"
        );
    }

    #[test]
    fn helpers_come_first_and_may_know_nothing() {
        fn echo(name: &str, action: &str, input: &[u8]) -> Result<Vec<u8>, String> {
            assert_eq!(action, "get");
            let server = String::from_utf8(input.to_vec()).unwrap();
            match name {
                "token" => Ok(br#"{"Username":"<token>","Secret":"t"}"#.to_vec()),
                "broken" => Err("no display".to_owned()),
                _ => Ok(format!(r#"{{"Username":"{name}","Secret":"{server}"}}"#).into_bytes()),
            }
        }
        let text = r#"{"credsStore":"store","credHelpers":{"x.io":"own","y.io":"token","z.io":"broken"}}"#;
        let (_directory, helped) = store(text, echo);
        assert_eq!(wire(&helped, "x.io").unwrap().username, "own");
        assert_eq!(wire(&helped, "docker.io").unwrap().password, HUB);
        let token = wire(&helped, "y.io").unwrap();
        assert_eq!((token.identitytoken.as_str(), token.username.as_str()), ("t", ""));
        let error = helped.get("z.io").unwrap_err().to_string();
        assert_eq!(error, "the credential helper docker-credential-broken cannot get: no display");
        let (_directory, unhelped) = store(r#"{"credsStore":"x","auths":{"x.io":{"auth":"YTpi"}}}"#, none);
        assert_eq!(wire(&unhelped, "x.io").unwrap().password, "b");
    }

    #[test]
    fn logins_come_and_go_and_the_rest_of_the_file_stays() {
        let text = r#"{"psFormat":"x","auths":{"https://x.io/v1/":{"auth":"YTpi"},"y.io":{"auth":"YTpi"}}}"#;
        let (directory, mut store) = store(text, none);
        let auth = RegistryAuth { username: "me".to_owned(), password: "new".to_owned(), ..RegistryAuth::default() };
        assert!(store.put("x.io", &auth).unwrap().unwrap().contains("unencrypted"));
        let path = directory.path().join("config.json");
        let read = || serde_json::from_slice::<Value>(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(read()["psFormat"], "x");
        assert_eq!(read()["auths"], json!({"x.io": {"auth": "bWU6bmV3"}, "y.io": {"auth": "YTpi"}}));
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        store.erase("x.io").unwrap();
        store.erase("nothing.io").unwrap();
        assert_eq!(read()["auths"], json!({"y.io": {"auth": "YTpi"}}));
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_helper_keeps_what_the_file_does_not() {
        fn kept(name: &str, action: &str, input: &[u8]) -> Result<Vec<u8>, String> {
            let input = String::from_utf8(input.to_vec()).unwrap();
            match (name, action) {
                ("x", "store") => {
                    assert_eq!(input, r#"{"ServerURL":"x.io","Username":"me","Secret":"secret"}"#);
                    Ok(Vec::new())
                }
                ("x", "erase") if input == "x.io" => Ok(Vec::new()),
                other => panic!("{other:?} {input}"),
            }
        }
        let (directory, mut store) = store(r#"{"credsStore":"x"}"#, kept);
        let auth = RegistryAuth { username: "me".to_owned(), password: "secret".to_owned(), ..RegistryAuth::default() };
        assert_eq!(store.put("x.io", &auth).unwrap(), None);
        let text = || std::fs::read_to_string(directory.path().join("config.json")).unwrap();
        assert!(text().contains("x.io") && !text().contains("secret"));
        store.erase("x.io").unwrap();
        assert!(!text().contains("x.io"));
    }

    #[test]
    fn a_damaged_file_is_left_alone_and_no_helper_is_run_by_a_path() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.json");
        std::fs::write(&path, "{").unwrap();
        assert!(Store::at(path, none).is_err());
        assert_eq!(run("../x", "get", b"").unwrap_err(), "its name is none");
        assert!(run("does-not-exist", "get", b"").is_err());
    }
}
