//! The configuration of an image.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use super::manifest::nullable;
use super::{Digest, Error, Manifest, Platform};

/// What an image's creator decided: its layers, its platform, and how a container of it is run by default. The
/// image's id is the digest of the bytes that this was parsed from. Nothing in it steers the host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// `amd64`, ...
    #[serde(default, deserialize_with = "nullable")]
    pub architecture: String,
    /// `linux`.
    #[serde(default, deserialize_with = "nullable")]
    pub os: String,
    /// The architecture's variant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// When it was made, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Who made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// How its containers are run.
    #[serde(default, deserialize_with = "nullable")]
    pub config: Execution,
    /// Its layers.
    pub rootfs: RootFs,
    /// How each layer came about.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<History>,
    /// What else the document says (`docker_version`, `container_config`, ...).
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

/// How a container of an image is run, unless the container's spec says otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Execution {
    /// `user[:group]`, names or numbers, resolved in the image's own files.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// `80/tcp`, ...
    #[serde(with = "set", skip_serializing_if = "BTreeSet::is_empty")]
    pub exposed_ports: BTreeSet<String>,
    /// `NAME=value`.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// What is run; [`cmd`](Self::cmd) are its arguments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// What is run when there is no entry point, else arguments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    /// Directories that get an anonymous volume.
    #[serde(with = "set", skip_serializing_if = "BTreeSet::is_empty")]
    pub volumes: BTreeSet<String>,
    /// Where it runs.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// Labels of its containers.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// What asks it to end: a name (`SIGQUIT`) or a number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// How its health is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// What a builder runs before it uses this image as a base.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub on_build: Vec<String>,
    /// What runs a builder's shell forms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shell: Option<Vec<String>>,
    /// What else the document says (`Hostname`, `AttachStdin`, ...).
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

/// How a container's health is asked for; times in nanoseconds, 0 meaning the default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Healthcheck {
    /// `["NONE"]`, `["CMD", ...]` or `["CMD-SHELL", command]`.
    #[serde(deserialize_with = "nullable")]
    pub test: Vec<String>,
    /// Between two checks.
    pub interval: i64,
    /// Before a check counts as failed.
    pub timeout: i64,
    /// In which failures do not count.
    pub start_period: i64,
    /// Between two checks in the start period.
    pub start_interval: i64,
    /// How many failures in a row are unhealthy.
    pub retries: i64,
}

/// The layers of an image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// `layers`.
    #[serde(rename = "type", default, deserialize_with = "nullable")]
    pub kind: String,
    /// The digests of the uncompressed layers, the lowest first.
    #[serde(default, deserialize_with = "nullable")]
    pub diff_ids: Vec<Digest>,
}

/// How a layer came about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// When, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// By what command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// By whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// A remark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Whether there is no layer that belongs to it.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
}

const CONFIG: &str = "image configuration";

impl ImageConfig {
    /// No configuration may be larger, in bytes.
    pub const MAX_SIZE: u64 = 8 << 20;

    /// Parses a configuration and checks what the engine relies on.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let size = bytes.len() as u64;
        if size > Self::MAX_SIZE {
            return Err(Error::TooLarge { what: CONFIG, size, limit: Self::MAX_SIZE });
        }
        let config: Self = serde_json::from_slice(bytes).map_err(|error| Error::document(CONFIG, error))?;
        if !matches!(config.rootfs.kind.as_str(), "" | "layers") {
            return Err(Error::Unsupported(format!("image with a root file system of type {:?}", config.rootfs.kind)));
        }
        if config.rootfs.diff_ids.len() > Manifest::MAX_LAYERS {
            let reason =
                format!("{} layers, at most {} are possible", config.rootfs.diff_ids.len(), Manifest::MAX_LAYERS);
            return Err(Error::document(CONFIG, reason));
        }
        Ok(config)
    }

    /// What the image runs on.
    pub fn platform(&self) -> Platform {
        Platform {
            os: self.os.clone(),
            architecture: self.architecture.clone(),
            variant: self.variant.clone().filter(|text| !text.is_empty()),
            os_version: None,
        }
    }
}

/// Go's `map[string]struct{}`.
mod set {
    use super::*;

    pub(super) fn serialize<S: Serializer>(set: &BTreeSet<String>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(set.iter().map(|name| (name, BTreeMap::<(), ()>::new())))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeSet<String>, D::Error> {
        let members = Option::<BTreeMap<String, Value>>::deserialize(deserializer)?.unwrap_or_default();
        Ok(members.into_keys().collect())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn go_nulls_and_unknown_members_are_read() {
        let text = json!({
            "architecture": "amd64", "os": "linux", "created": "2024-01-01T00:00:00Z", "docker_version": "20.10",
            "config": {
                "User": "", "Env": null, "Cmd": null, "Entrypoint": ["/x"], "Volumes": {"/data": {}}, "Labels": null,
                "ExposedPorts": {"80/tcp": {}}, "OnBuild": null, "Hostname": "h", "Healthcheck": {"Test": ["NONE"]}
            },
            "history": null,
            "rootfs": {"type": "layers", "diff_ids": [Digest::of(b"x")]}
        });
        let config = ImageConfig::parse(text.to_string().as_bytes()).unwrap();
        assert_eq!(config.config.volumes, BTreeSet::from(["/data".to_owned()]));
        assert_eq!(config.config.entrypoint.as_deref(), Some(["/x".to_owned()].as_slice()));
        assert_eq!(config.config.cmd, None);
        assert_eq!(config.config.extra["Hostname"], "h");
        assert_eq!(config.extra["docker_version"], "20.10");
        assert_eq!(config.platform().to_string(), "linux/amd64");
        let again = ImageConfig::parse(&serde_json::to_vec(&config).unwrap()).unwrap();
        assert_eq!(again, config);
        assert_eq!(serde_json::to_value(&config).unwrap()["config"]["ExposedPorts"], json!({"80/tcp": {}}));
    }

    #[test]
    fn a_configuration_without_sound_layers_is_refused() {
        for wrong in [
            "".to_owned(),
            "{}".to_owned(),
            "[]".to_owned(),
            json!({"rootfs": {"type": "windows", "diff_ids": []}}).to_string(),
            json!({"rootfs": {"diff_ids": ["sha256:../../x"]}}).to_string(),
            json!({"rootfs": {"diff_ids": vec![Digest::of(b""); 500]}}).to_string(),
        ] {
            assert!(ImageConfig::parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
        let large = vec![b' '; ImageConfig::MAX_SIZE as usize + 1];
        assert!(matches!(ImageConfig::parse(&large), Err(Error::TooLarge { .. })));
    }
}
