//! How much disk images take: unpacked layers, what is kept of their archives, and manifests, each counted once.

use std::collections::BTreeMap;

use super::contents::descriptor;
use super::{Error, Image, Images};
use crate::blob::BlobRecord;
use crate::id::ContainerId;
use crate::oci::{Descriptor, Digest};
use crate::state::{Snapshot, Table};

/// What one image takes.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ImageUsage {
    /// The image.
    pub image: Image,
    /// Bytes of everything that it is made of.
    pub size: u64,
    /// The part of that which other images have, too.
    pub shared: u64,
    /// Bytes of its compressed layers and manifest, a part of the size.
    pub content: u64,
    /// Its manifest, a part of the content.
    pub manifest: Option<Descriptor>,
    /// Its containers.
    pub containers: Vec<ContainerId>,
    /// Its layers, the lowest first.
    pub layers: Vec<LayerUsage>,
}

/// What one layer of an image takes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LayerUsage {
    /// The digest of its uncompressed archive.
    pub diff_id: Digest,
    /// Bytes of its files.
    pub size: u64,
    /// Bytes of what is kept of its archive: of its compressed forms that the image has, and of its framing.
    pub content: u64,
    /// How many images have it.
    pub images: usize,
}

/// What all images take.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Usage {
    /// Each image, the one that was made last first.
    pub images: Vec<ImageUsage>,
    /// Bytes in all, also of layers that only containers have.
    pub total: u64,
}

/// Something stored: a layer with what is beside it, or a blob.
type Thing = (Table, String);

/// What everything stored takes, each thing once.
#[derive(Debug, Default)]
pub(super) struct Costs {
    things: BTreeMap<Thing, u64>,
}

impl Costs {
    /// Measures, from what was counted when it was stored.
    pub(super) fn measure(images: &Images, state: &Snapshot<'_>) -> Result<Self, Error> {
        let shared = &images.shared;
        let mut things = BTreeMap::new();
        for key in state.keys(Table::Layer)? {
            let Ok(diff_id) = key.parse::<Digest>() else { continue };
            let Some(layer) = shared.layers.get(state, &diff_id)? else { continue };
            things.insert((Table::Layer, key), layer.record.size + shared.layers.framing_size(&diff_id));
        }
        for key in state.keys(Table::Blob)? {
            let Ok(digest) = key.parse::<Digest>() else { continue };
            let Some(blob) = shared.blobs.get(state, &digest)? else { continue };
            things.insert((Table::Blob, key), blob.size);
        }
        Ok(Self { things })
    }

    pub(super) fn total(&self) -> u64 {
        self.things.values().sum()
    }

    /// Bytes of what is not there any more.
    pub(super) fn gone(&self, after: &Self) -> u64 {
        let gone = self.things.iter().filter(|(thing, _)| !after.things.contains_key(*thing));
        gone.map(|(_, size)| size).sum()
    }

    fn of(&self, thing: &Thing) -> u64 {
        self.things.get(thing).copied().unwrap_or(0)
    }
}

impl Images {
    /// Measures everything that is stored, from what was counted when it was stored.
    pub async fn usage(&self) -> Result<Usage, Error> {
        let images = self.list().await?;
        let shared = &self.shared;
        shared.state.read(|state| {
            let costs = Costs::measure(self, state)?;
            let mut usage = Usage { total: costs.total(), images: Vec::new() };
            for image in images {
                let by = (Table::Image, image.id().as_str());
                let manifest = self.described(state, &image)?;
                let (mut size, mut common, mut content) = (0, 0, 0);
                for thing in state.held(by)? {
                    let cost = costs.of(&thing);
                    size += cost;
                    content += match thing.0 {
                        Table::Blob => cost,
                        Table::Layer => thing.1.parse().map_or(0, |diff_id| shared.layers.framing_size(&diff_id)),
                        _ => 0,
                    };
                    let holders = state.holders((thing.0, &thing.1))?;
                    if holders.iter().filter(|(table, _)| *table == Table::Image).count() > 1 {
                        common += cost;
                    }
                }
                let mut containers = Vec::new();
                for (table, key) in state.holders(by)? {
                    if let (Table::Container, Ok(id)) = (table, key.parse()) {
                        containers.push(id);
                    }
                }
                let layers = self.layers_of(state, &costs, &image)?;
                usage.images.push(ImageUsage { size, shared: common, content, manifest, containers, layers, image });
            }
            Ok(usage)
        })
    }

    /// The manifest that an image was pulled or loaded by: its type, digest and size. `None` when it came without one.
    pub async fn manifest(&self, image: &Image) -> Result<Option<Descriptor>, Error> {
        self.shared.state.read(|state| self.described(state, image))
    }

    fn described(&self, state: &Snapshot<'_>, image: &Image) -> Result<Option<Descriptor>, Error> {
        let Some(digest) = image.manifest() else { return Ok(None) };
        let record = self.shared.blobs.get(state, &digest)?;
        Ok(record.map(|record| descriptor(&record.media_type, digest, record.size)))
    }

    fn layers_of(&self, state: &Snapshot<'_>, costs: &Costs, image: &Image) -> Result<Vec<LayerUsage>, Error> {
        let mut forms: BTreeMap<Digest, u64> = BTreeMap::new();
        for thing in state.held((Table::Image, image.id().as_str()))?.into_iter().filter(|thing| thing.0 == Table::Blob)
        {
            let record = state.get::<BlobRecord>(Table::Blob, &thing.1)?;
            if let Some(diff_id) = record.and_then(|record| record.diff_id) {
                *forms.entry(diff_id).or_default() += costs.of(&thing);
            }
        }
        let layer = |(diff_id, size): (&Digest, &u64)| {
            let framing = self.shared.layers.framing_size(diff_id);
            let holders = state.holders((Table::Layer, &diff_id.to_string()))?;
            let images = holders.iter().filter(|(table, _)| *table == Table::Image).count();
            let content = forms.get(diff_id).copied().unwrap_or(0) + framing;
            Ok(LayerUsage { diff_id: *diff_id, size: *size, content, images })
        };
        image.layers().iter().zip(image.layer_sizes()).map(layer).collect()
    }
}
