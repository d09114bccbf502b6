//! How much disk images take: unpacked layers, what is kept of their archives, and manifests, each counted once.

use std::collections::BTreeMap;

use super::{Error, Image, Images};
use crate::id::ContainerId;
use crate::oci::Digest;
use crate::state::Table;

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

#[derive(Debug, Clone, Copy, Default)]
struct Cost {
    unpacked: u64,
    content: u64,
    images: usize,
}

impl Images {
    /// Measures everything that is stored, from what was counted when it was stored.
    pub async fn usage(&self) -> Result<Usage, Error> {
        let images = self.list().await?;
        let shared = &self.shared;
        shared.state.read(|state| {
            let mut costs: BTreeMap<Digest, Cost> = BTreeMap::new();
            for key in state.keys(Table::Layer)? {
                let Ok(diff_id) = key.parse::<Digest>() else { continue };
                let Some(layer) = shared.layers.get(state, &diff_id)? else { continue };
                let blob = layer.record.blob.map(|blob| shared.blobs.get(state, &blob)).transpose()?.flatten();
                let framing = shared.layers.framing_size(&diff_id);
                let content = blob.map_or(0, |blob| blob.size) + framing;
                costs.insert(diff_id, Cost { unpacked: layer.record.size, content, images: 0 });
            }
            for image in &images {
                let mut layers = image.layers().to_vec();
                layers.sort_unstable();
                layers.dedup();
                for diff_id in &layers {
                    if let Some(cost) = costs.get_mut(diff_id) {
                        cost.images += 1;
                    }
                }
            }
            let mut usage =
                Usage { total: costs.values().map(|cost| cost.unpacked + cost.content).sum(), images: Vec::new() };
            for image in images {
                let manifest = image.manifest().map(|digest| shared.blobs.get(state, &digest)).transpose()?.flatten();
                let manifest = manifest.map_or(0, |blob| blob.size);
                usage.total += manifest;
                let mut one = ImageUsage {
                    size: manifest,
                    shared: 0,
                    content: manifest,
                    manifest,
                    containers: Vec::new(),
                    image,
                };
                let mut layers = one.image.layers().to_vec();
                layers.sort_unstable();
                layers.dedup();
                for cost in layers.iter().filter_map(|diff_id| costs.get(diff_id)) {
                    let size = cost.unpacked + cost.content;
                    one.size += size;
                    one.content += cost.content;
                    if cost.images > 1 {
                        one.shared += size;
                    }
                }
                for (table, key) in state.holders((Table::Image, one.image.id().as_str()))? {
                    if let (Table::Container, Ok(id)) = (table, key.parse()) {
                        one.containers.push(id);
                    }
                }
                usage.images.push(one);
            }
            Ok(usage)
        })
    }
}
