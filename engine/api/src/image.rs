//! Images.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::container::ContainerConfig;
use crate::is_zero;

/// `GET /images/{name}/json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageInspect {
    /// `sha256:` and 64 digits.
    pub id: String,
    /// Since 1.48: its manifest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub descriptor: Option<Descriptor>,
    /// `name:tag`.
    pub repo_tags: Vec<String>,
    /// `name@sha256:...`.
    pub repo_digests: Vec<String>,
    /// Of the classic builder.
    pub parent: String,
    /// Of commit and import.
    pub comment: String,
    /// RFC 3339.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub created: String,
    /// Before 1.45: the container that it was made of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// Before 1.45: of that container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_config: Option<ContainerConfig>,
    /// What made it.
    pub docker_version: String,
    /// Who made it.
    pub author: String,
    /// What its containers start with.
    pub config: Option<ContainerConfig>,
    /// Such as amd64.
    pub architecture: String,
    /// Such as v8.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub variant: String,
    /// linux.
    pub os: String,
    /// Of Windows only.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub os_version: String,
    /// Bytes.
    pub size: i64,
    /// Before 1.44: bytes with all parents.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub virtual_size: Option<i64>,
    /// Where its layers are.
    pub graph_driver: GraphDriver,
    /// Its layers.
    #[serde(rename = "RootFS")]
    pub root_fs: RootFs,
    /// What is known about it here.
    pub metadata: Metadata,
    /// Its manifest, where it is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifests: Option<Vec<ManifestSummary>>,
}

/// Where a file system is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct GraphDriver {
    /// Paths by name.
    pub data: Option<BTreeMap<String, String>>,
    /// `overlay2`.
    pub name: String,
}

/// The layers of an image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RootFs {
    /// `layers`.
    #[serde(rename = "Type", skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Digests of the uncompressed layers, the lowest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<String>,
}

/// What is known about an image on this host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Metadata {
    /// RFC 3339; the zero time when it was never tagged.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub last_tag_time: String,
}

/// A line of `GET /images/json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageSummary {
    /// Number of containers; -1 when that was not counted.
    pub containers: i64,
    /// Seconds since 1970.
    pub created: i64,
    /// `sha256:` and 64 digits.
    pub id: String,
    /// Labels.
    pub labels: Option<BTreeMap<String, String>>,
    /// Of the classic builder.
    pub parent_id: String,
    /// `name@sha256:...`.
    pub repo_digests: Vec<String>,
    /// `name:tag`.
    pub repo_tags: Vec<String>,
    /// Its manifest, where it is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifests: Option<Vec<ManifestSummary>>,
    /// Bytes shared with others; -1 when that was not counted.
    pub shared_size: i64,
    /// Bytes.
    pub size: i64,
    /// Before 1.44: bytes with all parents.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub virtual_size: Option<i64>,
    /// This engine's own, where disk usage is asked for: when it was used last, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_used: Option<i64>,
}

/// A line of `GET /images/{name}/history`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HistoryItem {
    /// Of commit and import.
    pub comment: String,
    /// Seconds since 1970.
    pub created: i64,
    /// The instruction.
    pub created_by: String,
    /// The image, or `<missing>`.
    pub id: String,
    /// Bytes of the layer.
    pub size: i64,
    /// `name:tag`.
    pub tags: Option<Vec<String>>,
}

/// A line of the answer to `DELETE /images/{name}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageDelete {
    /// The id of what is gone.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub deleted: String,
    /// The name that is gone.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub untagged: String,
}

/// `POST /images/prune`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImagePrune {
    /// What is gone.
    pub images_deleted: Option<Vec<ImageDelete>>,
    /// Freed bytes.
    pub space_reclaimed: u64,
}

/// What a manifest or another document is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Descriptor {
    /// Its media type.
    pub media_type: String,
    /// `sha256:` and 64 digits.
    pub digest: String,
    /// Bytes.
    pub size: i64,
    /// What an artifact is.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub artifact_type: String,
    /// Free notes.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// What an image is for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Platform {
    /// Such as amd64.
    pub architecture: String,
    /// Such as linux.
    pub os: String,
    /// Such as v8.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub variant: String,
    /// Of Windows only.
    #[serde(rename = "os.version", skip_serializing_if = "String::is_empty")]
    pub os_version: String,
}

/// `GET /distribution/{name}/json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DistributionInspect {
    /// What the name leads to.
    pub descriptor: Descriptor,
    /// What it can run on.
    pub platforms: Vec<Platform>,
}

/// `GET /distribution/{name}/referrers`, which is this engine's own: what refers to an image at its registry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DistributionReferrers {
    /// What it refers to.
    pub subject: Descriptor,
    /// What refers to it.
    pub referrers: Vec<Descriptor>,
}

/// A line of `GET /system/images`, which is this engine's own: an image with what it is made of and who has it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct StoredImage {
    /// `sha256:` and 64 digits.
    pub id: String,
    /// `name:tag`.
    pub repo_tags: Vec<String>,
    /// `name@sha256:...`.
    pub repo_digests: Vec<String>,
    /// What it runs on.
    pub platform: Platform,
    /// Seconds since 1970.
    pub created: i64,
    /// When it was used here last, in seconds since 1970.
    pub last_used: i64,
    /// Bytes of everything that it is made of.
    pub size: i64,
    /// The part of that which other images have, too.
    pub shared_size: i64,
    /// Its layers, the lowest first.
    pub layers: Vec<StoredLayer>,
    /// Its containers.
    pub containers: Vec<ImageContainer>,
}

/// A layer of an image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct StoredLayer {
    /// The digest of its uncompressed archive.
    pub digest: String,
    /// Bytes of its files.
    pub size: i64,
    /// Bytes of what is kept of its archive.
    pub content: i64,
    /// How many images have it.
    pub images: i64,
    /// What made it.
    pub created_by: String,
}

/// A container of an image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageContainer {
    /// 64 digits.
    pub id: String,
    /// Its name.
    pub name: String,
    /// `running`, `exited`, ...
    pub state: String,
}

/// A line of `GET /images/search`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SearchResult {
    /// How many people marked it.
    pub star_count: i64,
    /// Whether Docker stands behind it.
    pub is_official: bool,
    /// The repository.
    pub name: String,
    /// Whether Docker Hub built it.
    pub is_automated: bool,
    /// What it says of itself.
    pub description: String,
}

/// `POST /auth`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct LoginAnswer {
    /// For people.
    pub status: String,
    /// To be kept in place of the password, if there is one.
    pub identity_token: String,
}

/// `POST /commit`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CommitAnswer {
    /// The image.
    pub id: String,
}

/// A manifest of an image, in lists and in inspect where it is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ManifestSummary {
    /// Its digest.
    #[serde(rename = "ID")]
    pub id: String,
    /// The same with its size.
    pub descriptor: Descriptor,
    /// Whether all that it names is here.
    pub available: bool,
    /// Bytes.
    pub size: ManifestSize,
    /// `image`.
    pub kind: String,
    /// Of images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_data: Option<ManifestImage>,
}

/// Bytes of a manifest and of all that it names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ManifestSize {
    /// All of it.
    pub total: i64,
    /// As registries have it.
    pub content: i64,
}

/// What a manifest of an image is for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ManifestImage {
    /// What it runs on.
    pub platform: Platform,
    /// Ids of its containers.
    pub containers: Vec<String>,
    /// Bytes.
    pub size: UnpackedSize,
}

/// Bytes of unpacked layers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct UnpackedSize {
    /// Those of files.
    pub unpacked: i64,
}

/// `POST /build/prune`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct BuildPrune {
    /// Ids of what is gone.
    pub caches_deleted: Option<Vec<String>>,
    /// Freed bytes.
    pub space_reclaimed: u64,
}

/// Who asks a registry: the JSON in the header `X-Registry-Auth`, in URL-safe base64.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", default)]
pub struct RegistryAuth {
    /// Name of the user.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub username: String,
    /// Password of the user.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub password: String,
    /// Both, in base64.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub auth: String,
    /// Not used any more.
    #[serde(skip_serializing_if = "is_zero")]
    pub email: String,
    /// The registry.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub serveraddress: String,
    /// An OAuth refresh token in place of the password.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub identitytoken: String,
    /// A bearer token that is sent as it is.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub registrytoken: String,
}

impl std::fmt::Debug for RegistryAuth {
    /// Shows no secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RegistryAuth")
            .field("username", &self.username)
            .field("serveraddress", &self.serveraddress)
            .finish_non_exhaustive()
    }
}
