//! Giving up the compressed form of layers whose archives can be had from their trees. What the tree and the framing beside
//! it give back is compared with the layer's digest before anything goes.

use std::collections::BTreeMap;
use std::io::BufReader;

use super::unpack::{self, PIECE};
use super::{Error, Image, Images};
use crate::blob::BlobRecord;
use crate::oci::Digest;
use crate::snapshot::decode::Decoded;
use crate::snapshot::{LayerRecord, Staged};
use crate::state::{Durability, Table};

impl Images {
    /// Gives up compressed layers, those of the images that nobody has used for the longest time first: how many. A layer
    /// whose archive cannot be put together again keeps its compressed form. What an image has
    /// that was used after `last` stays. It ends when it is `enough`. Blocks.
    pub(super) fn compact(&self, last: i64, enough: impl Fn() -> Result<bool, Error>) -> Result<usize, Error> {
        let mut count = 0;
        let mut forms = self.forms()?;
        let (unused, spared): (Vec<_>, Vec<_>) =
            self.by_last_use()?.into_iter().partition(|image| image.last_used() <= last);
        for diff_id in spared.iter().flat_map(Image::layers) {
            forms.remove(diff_id);
        }
        for image in unused {
            for diff_id in image.layers() {
                let Some(blobs) = forms.remove(diff_id) else { continue };
                if enough()? {
                    return Ok(count);
                }
                if self.is_framed(diff_id)? {
                    count += self.give_up_blobs(diff_id, &blobs)?;
                }
            }
        }
        Ok(count)
    }

    /// The stored forms of each layer.
    fn forms(&self) -> Result<BTreeMap<Digest, Vec<Digest>>, Error> {
        self.shared.state.read(|state| {
            let mut forms: BTreeMap<Digest, Vec<Digest>> = BTreeMap::new();
            for (key, record) in state.list::<BlobRecord>(Table::Blob)? {
                if let (Some(diff_id), Ok(blob)) = (record.diff_id, key.parse()) {
                    forms.entry(diff_id).or_default().push(blob);
                }
            }
            Ok(forms)
        })
    }

    /// Sees to it that the layer's archive can be had from its tree: whether it can.
    fn is_framed(&self, diff_id: &Digest) -> Result<bool, Error> {
        let shared = &self.shared;
        let Some(layer) = shared.state.read(|state| shared.layers.get(state, diff_id))? else { return Ok(false) };
        if !layer.record.framing {
            let Some(mut staged) = self.unpack_anew(diff_id, &layer.record)? else { return Ok(false) };
            self.sync()?;
            let framed = shared.state.write(Durability::Power, |tx| shared.layers.add_framing(tx, &mut staged));
            match framed {
                Ok(true) => {}
                // Somebody removed the layer, or it replaces more of its files than is kept.
                Ok(false) | Err(crate::snapshot::Error::Vanished(_)) => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
        self.gives_archive(diff_id)
    }

    /// The layer unpacked once more from its blob, with its framing; `None` when that is not what is here: a repair is going
    /// to need the blob.
    fn unpack_anew(&self, diff_id: &Digest, record: &LayerRecord) -> Result<Option<Staged>, Error> {
        let shared = &self.shared;
        let Some(blob) = record.blob else { return Ok(None) };
        let unpack = || {
            let bytes = BufReader::with_capacity(PIECE, shared.blobs.file(&blob)?);
            let decoded = Decoded::new(bytes).map_err(unpack::read_error)?;
            Ok::<_, Error>(shared.layers.unpack_decoded(decoded, true)?)
        };
        let staged = match unpack() {
            Ok(staged) => staged,
            Err(Error::Blob(crate::blob::Error::Missing(_))) => return Ok(None),
            Err(error) => return Err(error),
        };
        let differs = match staged.diff_id == *diff_id {
            true => shared.layers.difference(&staged)?,
            false => Some(format!("its blob is that of {}", staged.diff_id)),
        };
        if let Some(differs) = differs {
            tracing::warn!(layer = %diff_id, differs, "a damaged layer keeps its compressed form, for a repair");
            return Ok(None);
        }
        Ok(Some(staged))
    }

    /// Lets go of the blobs, then removes them: how many went.
    fn give_up_blobs(&self, diff_id: &Digest, blobs: &[Digest]) -> Result<usize, Error> {
        let (shared, key) = (&self.shared, diff_id.to_string());
        let released = shared.state.write(Durability::Power, |tx| {
            let Some(record) = tx.get::<LayerRecord>(Table::Layer, &key)?.filter(|record| record.framing) else {
                return Ok(false);
            };
            for blob in blobs {
                let blob = blob.to_string();
                for (table, holder) in tx.holders((Table::Blob, &blob))? {
                    tx.release((Table::Blob, &blob), (table, &holder))?;
                }
            }
            tx.put(Table::Layer, &key, &LayerRecord { blob: None, bare: true, ..record })?;
            Ok::<_, Error>(true)
        })?;
        if !released {
            return Ok(0);
        }
        // In a second step, so that a crash in between leaves a blob too many and never one too few.
        shared.state.write(Durability::Process, |tx| {
            let mut count = 0;
            for blob in blobs {
                count += usize::from(shared.blobs.retire(tx, blob)?);
            }
            Ok(count)
        })
    }
}
