//! What an image is made of, for whoever takes it out: its manifest if that can be given back, and its layers as they
//! came or as their archives are put together again.

use std::collections::BTreeMap;

use super::{Error, Image, Images};
use crate::oci::{Descriptor, Digest, Document, Manifest, media_type};
use crate::state::Table;

/// What an image is made of.
#[derive(Debug)]
pub(super) struct Contents {
    /// The manifest that it came with, if all that it names is here.
    pub(super) manifest: Option<Original>,
    /// Its layers, the lowest first.
    pub(super) layers: Vec<Packed>,
}

/// A manifest and its bytes.
#[derive(Debug)]
pub(super) struct Original {
    pub(super) bytes: Vec<u8>,
    pub(super) media_type: String,
    pub(super) manifest: Manifest,
}

/// A layer as it can be given out.
#[derive(Debug, Clone)]
pub(super) struct Packed {
    pub(super) diff_id: Digest,
    /// What its bytes are.
    pub(super) digest: Digest,
    /// How many they are.
    pub(super) size: u64,
    pub(super) media_type: String,
    pub(super) form: Form,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// A stored blob.
    Blob,
    /// The plain archive, put together from the tree.
    Framed,
    /// Not here: a registry may have it.
    Absent,
}

impl Packed {
    pub(super) fn descriptor(&self) -> Descriptor {
        descriptor(&self.media_type, self.digest, self.size)
    }
}

pub(super) fn descriptor(media_type: &str, digest: Digest, size: u64) -> Descriptor {
    Descriptor {
        media_type: media_type.to_owned(),
        digest,
        size,
        platform: None,
        annotations: BTreeMap::new(),
        artifact_type: None,
        extra: BTreeMap::new(),
    }
}

impl Images {
    /// What the image is made of. With `strict`, everything is here; without it, layers that the manifest names and
    /// that came from somewhere else in another form may be absent.
    pub(super) fn contents(&self, image: &Image, strict: bool) -> Result<Contents, Error> {
        let own = image.layers().iter().map(|diff_id| self.packed(diff_id)).collect::<Result<Vec<_>, _>>();
        if let Some(manifest) = self.manifest_of(image)?
            && let Some(layers) = self.as_manifest(image, &manifest.manifest, strict)?
        {
            return Ok(Contents { manifest: Some(manifest), layers });
        }
        Ok(Contents { manifest: None, layers: own? })
    }

    /// A layer in any form that is here.
    pub(super) fn packed(&self, diff_id: &Digest) -> Result<Packed, Error> {
        let shared = &self.shared;
        shared.state.read(|state| {
            let layer = shared.layers.get(state, diff_id)?;
            let layer = layer.ok_or(crate::snapshot::Error::Vanished(*diff_id))?;
            if let Some(digest) = layer.record.blob
                && let Some(blob) = shared.blobs.get(state, &digest)?
            {
                let media_type = blob.media_type;
                return Ok(Packed { diff_id: *diff_id, digest, size: blob.size, media_type, form: Form::Blob });
            }
            if !layer.record.framing {
                return Err(Error::Incomplete(format!(
                    "layer {diff_id} cannot be given out: it was stored without its archive; pull or load its image again"
                )));
            }
            let media_type = media_type::OCI_LAYER.to_owned();
            let size = layer.record.archive_size;
            Ok(Packed { diff_id: *diff_id, digest: *diff_id, size, media_type, form: Form::Framed })
        })
    }

    /// The manifest of an image, whole and checked; `None` when there is none.
    pub(super) fn manifest_of(&self, image: &Image) -> Result<Option<Original>, Error> {
        let Some(digest) = image.manifest() else { return Ok(None) };
        let shared = &self.shared;
        let Some(record) = shared.state.read(|state| shared.blobs.get(state, &digest))? else { return Ok(None) };
        let bytes = shared.blobs.read(&digest, Manifest::MAX_SIZE)?;
        match Document::parse(&bytes, None)? {
            Document::Manifest(manifest) => {
                let media_type = manifest.media_type.clone().unwrap_or(record.media_type);
                Ok(Some(Original { bytes, media_type, manifest: *manifest }))
            }
            Document::Index(_) => Ok(None),
        }
    }

    /// The layers as the manifest names them, if they can be had so.
    fn as_manifest(&self, image: &Image, manifest: &Manifest, strict: bool) -> Result<Option<Vec<Packed>>, Error> {
        if manifest.layers.len() != image.layers().len() || manifest.config.digest != Digest::from(image.id()) {
            return Ok(None);
        }
        let shared = &self.shared;
        shared.state.read(|state| {
            let mut layers = Vec::new();
            for (descriptor, diff_id) in manifest.layers.iter().zip(image.layers()) {
                let is_blob = shared.blobs.get(state, &descriptor.digest)?.is_some();
                let is_framed = descriptor.digest == *diff_id
                    && shared.layers.get(state, diff_id)?.is_some_and(|layer| layer.record.framing);
                let form = match (is_blob, is_framed) {
                    (true, _) => Form::Blob,
                    (_, true) => Form::Framed,
                    _ if strict => return Ok(None),
                    _ => Form::Absent,
                };
                let (digest, size, media_type) = (descriptor.digest, descriptor.size, descriptor.media_type.clone());
                layers.push(Packed { diff_id: *diff_id, digest, size, media_type, form });
            }
            Ok(Some(layers))
        })
    }

    /// Images that have a layer.
    pub(super) fn images_with(&self, diff_id: &Digest) -> Result<Vec<Image>, Error> {
        self.shared.state.read(|state| {
            let mut images = Vec::new();
            for (table, key) in state.holders((Table::Layer, &diff_id.to_string()))? {
                if let (Table::Image, Ok(id)) = (table, key.parse()) {
                    images.extend(Image::read(state, &id)?);
                }
            }
            Ok(images)
        })
    }
}
