//! One image, and what the state store keeps of it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Error;
use crate::id::ImageId;
use crate::oci::{Digest, ImageConfig, Platform, Reference};
use crate::snapshot::LayerRecord;
use crate::state::{self, Snapshot, Table, Transaction};

/// What the state store keeps of an image, under its id.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct ImageRecord {
    /// The configuration, as it came: its digest is the image's id.
    pub(super) config: String,
    /// The manifest that it was pulled or loaded by; a blob.
    #[serde(default)]
    pub(super) manifest: Option<Digest>,
    /// When it was stored or named last, in nanoseconds since 1970.
    #[serde(default)]
    pub(super) tagged_at: i64,
    /// The image that it was built upon, here.
    #[serde(default)]
    pub(super) parent: Option<ImageId>,
}

/// What the state store keeps of a name, under the full reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TagRecord {
    pub(super) image: ImageId,
}

/// An image as it was when it was looked up. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Image {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    id: ImageId,
    record: ImageRecord,
    config: ImageConfig,
    references: Vec<Reference>,
    digests: Vec<Reference>,
    layer_sizes: Vec<u64>,
    containers: usize,
    /// When a container had it last, or it was pulled and was here.
    used_at: i64,
}

impl Image {
    /// Refuses it when it is for another platform than the one that is asked for, if one is; `name` is how it was asked for.
    pub(super) fn must_be_for(&self, platform: Option<&Platform>, name: &str) -> Result<(), Error> {
        let own = self.config().platform();
        match platform {
            Some(wanted) if !own.is(wanted) => Err(Error::OtherPlatform(format!(
                "{name} was found but does not provide the specified platform ({wanted}): it is for {own}"
            ))),
            _ => Ok(()),
        }
    }

    /// Reads an image; `None` when there is none of this id.
    pub(super) fn read(state: &Snapshot<'_>, id: &ImageId) -> Result<Option<Self>, Error> {
        let record = match state.get::<ImageRecord>(Table::Image, id.as_str()) {
            Ok(Some(record)) => record,
            Ok(None) => return Ok(None),
            Err(state::Error::Corrupt { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        Self::complete(state, *id, record).map(Some)
    }

    pub(super) fn complete(state: &Snapshot<'_>, id: ImageId, record: ImageRecord) -> Result<Self, Error> {
        let config = ImageConfig::parse(record.config.as_bytes())?;
        let (mut references, mut digests, mut containers) = (Vec::new(), Vec::new(), 0);
        for (table, key) in state.holders((Table::Image, id.as_str()))? {
            containers += usize::from(table == Table::Container);
            if let (Table::Tag, Ok(reference)) = (table, key.parse::<Reference>()) {
                if reference.digest().is_some() { &mut digests } else { &mut references }.push(reference);
            }
        }
        let mut layer_sizes = Vec::with_capacity(config.rootfs.diff_ids.len());
        for diff_id in &config.rootfs.diff_ids {
            let layer = state.get::<LayerRecord>(Table::Layer, &diff_id.to_string())?;
            layer_sizes.push(layer.map_or(0, |layer| layer.size));
        }
        let used_at = state.get::<i64>(Table::Use, id.as_str())?.unwrap_or(0);
        let inner = Inner { id, record, config, references, digests, layer_sizes, containers, used_at };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Its id: the digest of its configuration.
    pub fn id(&self) -> &ImageId {
        &self.inner.id
    }

    /// How its containers are run, and what it is made of.
    pub fn config(&self) -> &ImageConfig {
        &self.inner.config
    }

    /// The configuration as it came, JSON.
    pub fn raw_config(&self) -> &str {
        &self.inner.record.config
    }

    /// The digests of its uncompressed layers, the lowest first.
    pub fn layers(&self) -> &[Digest] {
        &self.inner.config.rootfs.diff_ids
    }

    /// Its names with a tag.
    pub fn references(&self) -> &[Reference] {
        &self.inner.references
    }

    /// Its names with a digest: where it was pulled from.
    pub fn digests(&self) -> &[Reference] {
        &self.inner.digests
    }

    /// The digest of the manifest that it was pulled or loaded by, a blob.
    pub fn manifest(&self) -> Option<Digest> {
        self.inner.record.manifest
    }

    /// Bytes of the files of all its layers; layers may be shared with other images.
    pub fn size(&self) -> u64 {
        self.inner.layer_sizes.iter().sum()
    }

    /// Bytes of the files of each layer, the lowest first.
    pub fn layer_sizes(&self) -> &[u64] {
        &self.inner.layer_sizes
    }

    /// How many containers have it, whether or not they run.
    pub fn containers(&self) -> usize {
        self.inner.containers
    }

    /// When it was made, RFC 3339, as its maker says.
    pub fn created(&self) -> Option<&str> {
        self.inner.config.created.as_deref()
    }

    /// When it was stored or named here last, in nanoseconds since 1970.
    pub fn tagged_at(&self) -> i64 {
        self.inner.record.tagged_at
    }

    /// When it was used here last, in nanoseconds since 1970: stored, named, pulled again, or had by a container, which
    /// counts when that is made and when it goes.
    pub fn last_used(&self) -> i64 {
        self.inner.used_at.max(self.inner.record.tagged_at)
    }

    /// The image that it was built upon, here.
    pub fn parent(&self) -> Option<&ImageId> {
        self.inner.record.parent.as_ref()
    }

    /// What people call it: a name if it has one, else its short id.
    pub fn shown(&self) -> String {
        self.references()
            .first()
            .or(self.digests().first())
            .map_or_else(|| self.id().short().to_owned(), ToString::to_string)
    }
}

/// Notes that somebody uses the image with this id now, within a transaction.
pub(crate) fn use_now(tx: &mut Transaction<'_>, id: &str) -> Result<(), state::Error> {
    tx.put(Table::Use, id, &super::tag::now())
}

/// What layers that lie upon each other are called in lists of what was deleted: each is the digest of the one below
/// and its own.
pub(super) fn chain_ids(diff_ids: &[Digest]) -> Vec<Digest> {
    let mut chain: Vec<Digest> = Vec::with_capacity(diff_ids.len());
    for diff_id in diff_ids {
        let next = match chain.last() {
            Some(below) => Digest::of(format!("{below} {diff_id}").as_bytes()),
            None => *diff_id,
        };
        chain.push(next);
    }
    chain
}
