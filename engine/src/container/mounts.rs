//! What a container sees of the host and of volumes: binds, volumes and tmpfs, and the texts they are written in.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::id_map::IdMap;

/// A mount that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MountSpec {
    /// What is mounted.
    pub source: MountSource,
    /// Absolute path in the container.
    pub target: String,
    /// The container may not write to it.
    #[serde(default)]
    pub read_only: bool,
    /// Owners that are shown as others, of a path of the host or a volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id_map: Option<IdMap>,
}

/// What is mounted, with what only that kind has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
#[serde(rename_all = "snake_case")]
pub enum MountSource {
    /// A path of the host.
    Bind {
        /// Absolute path on the host.
        path: String,
        /// How mounts travel between host and container.
        #[serde(default)]
        propagation: Propagation,
        /// Mounts below the path are left out.
        #[serde(default)]
        non_recursive: bool,
        /// Make a missing path as a directory instead of refusing it.
        #[serde(default)]
        create: bool,
        /// Read-only covers only the mount itself, not those below it.
        #[serde(default)]
        read_only_non_recursive: bool,
        /// Refuse to start where read-only cannot cover the mounts below.
        #[serde(default)]
        read_only_force_recursive: bool,
    },
    /// A volume; made when it is not there.
    Volume {
        /// Its name; one without a name is anonymous.
        name: Option<String>,
        /// Do not copy what the image has at the target into an empty volume.
        #[serde(default)]
        no_copy: bool,
        /// Labels of a volume that is made.
        #[serde(default)]
        labels: std::collections::BTreeMap<String, String>,
        /// Driver of a volume that is made, with its options.
        #[serde(default)]
        driver: Option<(String, std::collections::BTreeMap<String, String>)>,
        /// Mount this directory of the volume instead of all of it.
        #[serde(default)]
        subpath: Option<String>,
    },
    /// The files of an image, read-only.
    Image {
        /// Its name or id.
        reference: String,
        /// Mount this path of the image instead of all of it.
        #[serde(default)]
        subpath: Option<String>,
    },
    /// Memory.
    Tmpfs {
        /// Most bytes; without bound when none is given.
        #[serde(default)]
        size: Option<u64>,
        /// Mode of its root directory.
        #[serde(default)]
        mode: Option<u32>,
        /// More options, as `mount -o` takes them.
        #[serde(default)]
        options: Vec<String>,
    },
}

impl MountSpec {
    /// A directory or file of the host at `target`. It must be there.
    pub fn bind(path: impl Into<String>, target: impl Into<String>) -> Self {
        let source = MountSource::Bind {
            path: path.into(),
            propagation: Propagation::default(),
            non_recursive: false,
            create: false,
            read_only_non_recursive: false,
            read_only_force_recursive: false,
        };
        Self { source, target: target.into(), read_only: false, id_map: None }
    }

    /// The volume `name` at `target`.
    pub fn volume(name: impl Into<String>, target: impl Into<String>) -> Self {
        Self::some_volume(Some(name.into()), target.into())
    }

    /// A volume without a name at `target`; removed with the container when that is asked for.
    pub fn anonymous_volume(target: impl Into<String>) -> Self {
        Self::some_volume(None, target.into())
    }

    fn some_volume(name: Option<String>, target: String) -> Self {
        let source =
            MountSource::Volume { name, no_copy: false, labels: Default::default(), driver: None, subpath: None };
        Self { source, target, read_only: false, id_map: None }
    }

    /// The files of an image at `target`.
    pub fn image(reference: impl Into<String>, target: impl Into<String>) -> Self {
        let source = MountSource::Image { reference: reference.into(), subpath: None };
        Self { source, target: target.into(), read_only: true, id_map: None }
    }

    /// Memory at `target`.
    pub fn tmpfs(target: impl Into<String>) -> Self {
        let source = MountSource::Tmpfs { size: None, mode: None, options: Vec::new() };
        Self { source, target: target.into(), read_only: false, id_map: None }
    }

    /// Sets [`MountSpec::read_only`].
    #[must_use]
    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// Sets [`MountSpec::id_map`].
    #[must_use]
    pub fn id_map(mut self, map: IdMap) -> Self {
        self.id_map = Some(map);
        self
    }
}

/// How mounts made on one side of a bind appear on the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Propagation {
    /// Not at all, mounts below left out of the exchange too.
    Private,
    /// Not at all.
    #[default]
    Rprivate,
    /// From the host to the container, for the mount itself.
    Slave,
    /// From the host to the container.
    Rslave,
    /// Both ways, for the mount itself.
    Shared,
    /// Both ways.
    Rshared,
}

impl Propagation {
    /// Docker's word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Private => "private",
            Self::Rprivate => "rprivate",
            Self::Slave => "slave",
            Self::Rslave => "rslave",
            Self::Shared => "shared",
            Self::Rshared => "rshared",
        }
    }

    /// The propagation that a word stands for.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Private, Self::Rprivate, Self::Slave, Self::Rslave, Self::Shared, Self::Rshared]
            .into_iter()
            .find(|propagation| propagation.as_str() == word)
    }
}

impl fmt::Display for Propagation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A mount as it was decided: what inspect shows and a start mounts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MountPoint {
    /// Which kind it is.
    pub kind: MountKind,
    /// Name of the volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Path on the host; of a volume its data directory, of a tmpfs nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// Absolute clean path in the container.
    pub destination: String,
    /// Driver of the volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// Options after the second colon as they were asked for (`z`, `ro`, …).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub mode: String,
    /// The container may write to it.
    pub writable: bool,
    /// How mounts travel.
    #[serde(default)]
    pub propagation: Propagation,
    /// The volume has no name of its own and goes with the container when volumes are removed too.
    #[serde(default)]
    pub anonymous: bool,
    /// Copy what the image has at the destination into the volume at the first start.
    #[serde(default)]
    pub copy_up: bool,
    /// Mounts below a bind are left out.
    #[serde(default)]
    pub non_recursive: bool,
    /// Read-only covers only the mount itself.
    #[serde(default)]
    pub read_only_non_recursive: bool,
    /// A missing path of the host is made as a directory at start.
    #[serde(default)]
    pub create: bool,
    /// Directory of the volume that is mounted instead of all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subpath: Option<String>,
    /// The volume is mounted by its options instead of being a directory of the engine's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub mounted: bool,
    /// Layers of an image.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<crate::oci::Digest>,
    /// Owners that are shown as others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id_map: Option<IdMap>,
    /// Options of a tmpfs, as `mount -o` takes them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

/// Kinds of mounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MountKind {
    /// A path of the host.
    Bind,
    /// A volume.
    Volume,
    /// Memory.
    Tmpfs,
    /// An image.
    Image,
}

impl MountKind {
    /// Docker's word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bind => "bind",
            Self::Volume => "volume",
            Self::Tmpfs => "tmpfs",
            Self::Image => "image",
        }
    }
}
