//! Making an image part of the state: one sync, then one transaction, after which it is there and whole.

use super::record::{ImageRecord, chain_ids};
use super::{Error, Image, Images, tag};
use crate::blob::{self, BlobRecord, Sealed};
use crate::id::ImageId;
use crate::oci::{Digest, ImageConfig, Reference};
use crate::snapshot::{LayerRecord, Retired, Staged};
use crate::state::{Durability, Table, Transaction};

/// An image whose parts have been fetched and checked.
#[derive(Debug, Default)]
pub(super) struct Parts {
    /// The configuration as it came.
    pub(super) config: String,
    /// Its layers, the lowest first.
    pub(super) layers: Vec<Part>,
    /// The manifest.
    pub(super) manifest: Option<Kept>,
    /// Its new names, with a tag or a digest.
    pub(super) names: Vec<Reference>,
    /// The image that it was built upon.
    pub(super) parent: Option<ImageId>,
}

/// One layer of an image.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) diff_id: Digest,
    /// The unpacked layer, unless it was there before.
    pub(super) staged: Option<Staged>,
    /// The blob that it was unpacked from, if that was kept.
    pub(super) blob: Option<Kept>,
    /// The right to fetch it, until it is there.
    pub(super) claim: Option<blob::Writer>,
    /// Whether it takes the place of a layer that is there.
    pub(super) anew: bool,
}

impl Part {
    /// A layer that is there.
    pub(super) fn here(diff_id: Digest) -> Self {
        Self { diff_id, staged: None, blob: None, claim: None, anew: false }
    }
}

/// A blob of an image.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) digest: Digest,
    pub(super) record: BlobRecord,
    /// The blob itself, unless it was there before.
    pub(super) sealed: Option<Sealed>,
    /// Whether it takes the place of one that is there.
    pub(super) anew: bool,
}

impl Kept {
    pub(super) fn new(digest: Digest, record: BlobRecord, sealed: Option<Sealed>) -> Self {
        Self { digest, record, sealed, anew: false }
    }
}

impl Images {
    /// Writes everything staged to the disk; once for any number of images. Blocks.
    pub(super) fn sync(&self) -> Result<(), Error> {
        self.shared.layers.sync()?;
        // Nothing is dirty any more if both are of one file system, and then this costs nothing.
        self.shared.blobs.sync()?;
        Ok(())
    }

    /// Makes one layer a part of the state; what is returned is dropped after the transaction.
    pub(super) fn commit_layer(
        &self,
        tx: &mut Transaction<'_>,
        part: Part,
        by: (Table, &str),
    ) -> Result<Option<Staged>, Error> {
        let shared = &self.shared;
        let blob = part.blob.as_ref().map(|blob| blob.digest);
        let surplus = match part.staged {
            Some(staged) if part.anew && tx.contains(Table::Layer, &part.diff_id.to_string())? => {
                staged.verify(&part.diff_id)?;
                let damaged = shared.layers.replace(tx, staged, blob)?;
                tx.hold((Table::Layer, &part.diff_id.to_string()), by)?;
                damaged
            }
            staged => shared.layers.commit(tx, &part.diff_id, staged, blob, by)?,
        };
        if let Some(kept) = part.blob {
            self.commit_blob(tx, kept, by)?;
        } else if let Some(LayerRecord { blob: Some(digest), .. }) = tx.get(Table::Layer, &part.diff_id.to_string())? {
            // A layer of another image: its blob is this image's, too.
            tx.hold((Table::Blob, &digest.to_string()), by)?;
        }
        // Whoever waits for the layer finds it now.
        drop(part.claim);
        Ok(surplus)
    }

    fn commit_blob(&self, tx: &mut Transaction<'_>, kept: Kept, by: (Table, &str)) -> Result<(), Error> {
        let Kept { digest, record, sealed, anew } = kept;
        let blobs = &self.shared.blobs;
        match sealed {
            Some(sealed) if anew && sealed.digest() == digest => blobs.replace(tx, sealed, &record, by)?,
            sealed => blobs.commit(tx, &digest, sealed, &record, by)?,
        }
        Ok(())
    }

    /// Commits an image whose parts have been [`sync`](Self::sync)ed. Blocks.
    pub(super) fn commit(&self, parts: Parts) -> Result<Image, Error> {
        let shared = &self.shared;
        let config = ImageConfig::parse(parts.config.as_bytes())?;
        let id = ImageId::from(Digest::of(parts.config.as_bytes()));
        let same = config.rootfs.diff_ids.iter().eq(parts.layers.iter().map(|part| &part.diff_id));
        if !same {
            return Err(Error::Archive("the layers are not those of the configuration".to_owned()));
        }
        let layers: Vec<Digest> = parts.layers.iter().map(|part| part.diff_id).collect();
        let blobs = parts.layers.iter().filter_map(|part| part.blob.as_ref()).chain(&parts.manifest);
        let blobs: Vec<Digest> = blobs.map(|blob| blob.digest).collect();
        // What another program staged first is removed after the transaction, which others wait for.
        let mut surplus = Vec::new();
        let committed = shared.state.write(Durability::Power, |tx| {
            let by = (Table::Image, id.as_str());
            for part in parts.layers {
                surplus.extend(self.commit_layer(tx, part, by)?);
            }
            let manifest = parts.manifest.as_ref().map(|manifest| manifest.digest);
            if let Some(kept) = parts.manifest {
                self.commit_blob(tx, kept, by)?;
            }
            let before = tx.get::<ImageRecord>(Table::Image, id.as_str())?;
            let record = ImageRecord {
                config: parts.config,
                manifest: manifest.or(before.as_ref().and_then(|before| before.manifest)),
                tagged_at: tag::now(),
                parent: parts.parent.or(before.and_then(|before| before.parent)),
            };
            if let Some(parent) = &record.parent {
                tx.hold((Table::Image, parent.as_str()), by)?;
            }
            tx.put(Table::Image, id.as_str(), &record)?;
            for name in &parts.names {
                tag::name(tx, &id, name)?;
            }
            Image::complete(tx, id, record)
        });
        drop(surplus);
        if committed.is_err() {
            // What got its name before that takes room for nothing. On a disk that fails it stays until the next start.
            let _ = self.take_back(&layers, &blobs);
        }
        let image = committed?;
        tracing::debug!(image = id.short(), layers = chain_ids(image.layers()).len(), "image committed");
        Ok(image)
    }

    /// Removes what has no record, and what nothing holds.
    fn take_back(&self, layers: &[Digest], blobs: &[Digest]) -> Result<(), Error> {
        let shared = &self.shared;
        let retired = shared.state.write(Durability::Process, |tx| {
            let mut retired = Vec::new();
            for diff_id in layers {
                retired.extend(shared.layers.retire(tx, diff_id)?);
            }
            for blob in blobs {
                shared.blobs.retire(tx, blob)?;
            }
            Ok::<_, Error>(retired)
        })?;
        retired.into_iter().for_each(Retired::remove);
        Ok(())
    }
}
