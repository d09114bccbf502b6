//! How much disk images take: unpacked layers, what is kept of their archives, and manifests, each counted once.

use std::collections::BTreeMap;

use super::{Error, Image, Images};
use crate::id::ContainerId;
use crate::oci::Digest;
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
    /// Bytes of its manifest, a part of the content.
    pub manifest: u64,
    /// Its containers.
    pub containers: Vec<ContainerId>,
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

    fn total(&self) -> u64 {
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
                let manifest = image.manifest().map_or(0, |digest| costs.of(&(Table::Blob, digest.to_string())));
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
                usage.images.push(ImageUsage { size, shared: common, content, manifest, containers, image });
            }
            Ok(usage)
        })
    }
}
