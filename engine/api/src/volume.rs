//! Volumes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A volume, in lists and in inspect.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Volume {
    /// When it was made, RFC 3339.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub created_at: String,
    /// `local`.
    pub driver: String,
    /// Labels.
    pub labels: Option<BTreeMap<String, String>>,
    /// Where it is on the host.
    pub mountpoint: String,
    /// Its name.
    pub name: String,
    /// Options of the driver.
    pub options: Option<BTreeMap<String, String>>,
    /// `local`.
    pub scope: String,
    /// Use, only where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage_data: Option<UsageData>,
}

/// How much a volume is used; -1 where that is not known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct UsageData {
    /// Number of containers.
    pub ref_count: i64,
    /// Bytes.
    pub size: i64,
}

/// `GET /volumes`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct VolumeList {
    /// The volumes.
    pub volumes: Vec<Volume>,
    /// What could not be looked at.
    pub warnings: Option<Vec<String>>,
}

/// `POST /volumes/create`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct VolumeCreate {
    /// Empty means `local`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub driver: String,
    /// Options of the driver.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver_opts: Option<BTreeMap<String, String>>,
    /// Labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// Empty means an anonymous volume.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
}

/// `POST /volumes/prune`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct VolumePrune {
    /// Names of the removed volumes.
    pub volumes_deleted: Option<Vec<String>>,
    /// Freed bytes.
    pub space_reclaimed: u64,
}
