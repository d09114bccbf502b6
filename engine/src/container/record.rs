//! A container as it is kept and shown.

use serde::{Deserialize, Serialize};

use super::config::Config;
use super::health::Health;
use super::mounts::MountPoint;
use super::status::ContainerState;
use crate::id::{ContainerId, ImageId};
use crate::network::Endpoint;
use crate::oci::Digest;
use crate::settings::OciRuntime;

/// A container as it is kept in the state and shown by list and inspect: what was decided and how it stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Record {
    /// Its id.
    pub id: ContainerId,
    /// Its name, without a slash.
    pub name: String,
    /// When it was made, in nanoseconds since 1970.
    pub created_at: i64,
    /// The image it was made of.
    pub image: ImageId,
    /// Platform of the image, as `linux/amd64`.
    #[serde(default)]
    pub platform: String,
    /// The digests of the image's uncompressed layers, the lowest first.
    pub layers: Vec<Digest>,
    /// The instance of the engine that owns it.
    pub owner: String,
    /// What was decided.
    pub config: Config,
    /// The OCI runtime of the host that makes it, with the path that its name meant at create; nothing for the engine itself.
    #[serde(default)]
    pub outside: Option<OciRuntime>,
    /// What is mounted into it besides its root.
    #[serde(default)]
    pub mounts: Vec<MountPoint>,
    /// Its ends on networks; those of the last run while it does not run.
    #[serde(default)]
    pub endpoints: Vec<Endpoint>,
    /// How it stands.
    pub state: ContainerState,
    /// How often its restart policy started it again.
    #[serde(default)]
    pub restart_count: u32,
    /// What its health checks have told; nothing when it has none.
    #[serde(default)]
    pub health: Option<Health>,
}

#[cfg(test)]
impl Record {
    /// One with nothing else to say.
    pub(super) fn new(id: ContainerId, image: ImageId, config: Config, state: ContainerState) -> Self {
        Self {
            id,
            name: String::new(),
            created_at: 1,
            image,
            platform: String::new(),
            layers: Vec::new(),
            owner: String::new(),
            config,
            outside: None,
            mounts: Vec::new(),
            endpoints: Vec::new(),
            state,
            restart_count: 0,
            health: None,
        }
    }
}
