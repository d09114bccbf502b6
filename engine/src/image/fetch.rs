//! Fetching what a pull lacks: each layer streams through digest, decompression, second digest and unpacking while it comes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use futures_util::future;
use tokio::io::AsyncReadExt;
use tokio::sync::{Semaphore, SemaphorePermit, oneshot};

use super::check::blocking;
use super::commit::{Kept, Part};
use super::mend::Distrusted;
use super::scattered::Fetch;
use super::task::{Meter, Reporter, Status};
use super::unpack::{self, Order, PIECE};
use super::{Error, Images};
use crate::blob::{self, BlobRecord, Lease};
use crate::error::ErrorKind;
use crate::id::ImageId;
use crate::oci::{Descriptor, Digest, media_type};
use crate::registry::Session;
use crate::snapshot::decode::Encoding;
use crate::snapshot::{LayerRecord, pieces};
use crate::state::{Durability, Table};

/// Pieces of a layer that have come and wait to be inflated. Each is as large as what the connection had at once.
const FETCHED: usize = 4;
/// Layers that are still being unpacked while as many others as may be are fetched: each takes some megabytes.
const BEHIND: usize = 2;
/// How long to wait before looking again at a layer that somebody else fetches.
const PAUSE: Duration = Duration::from_millis(50);

impl Images {
    /// Fetches layers: at once those that nobody else is fetching. When there are others, what is here is made a part
    /// of the state before they are waited for, so that nobody who waits keeps anybody waiting.
    pub(super) async fn gather(
        &self,
        session: &Session,
        id: &ImageId,
        missing: Vec<(&Descriptor, Digest)>,
        distrusted: &Distrusted,
        reporter: &Reporter,
    ) -> Result<(BTreeMap<Digest, Part>, Option<Early>), Error> {
        let permits = Permits::new(self.shared.registry.concurrent_downloads());
        let (mut claimed, mut busy) = (Vec::new(), Vec::new());
        for (descriptor, diff_id) in missing {
            match self.shared.blobs.claim(&descriptor.digest, descriptor.size)? {
                Some(claim) => claimed.push((descriptor, diff_id, claim)),
                None => busy.push((descriptor, diff_id)),
            }
        }
        let mut jobs = Vec::new();
        for (descriptor, diff_id, claim) in claimed {
            if self.came(descriptor, &diff_id, distrusted)? {
                reporter.tell(Some(&descriptor.digest.short()), Status::AlreadyExists);
                continue;
            }
            jobs.push(self.resumed(session, (descriptor, diff_id), claim, &permits, distrusted, reporter));
        }
        for (descriptor, _) in &busy {
            reporter.tell(Some(&descriptor.digest.short()), Status::Waiting);
        }
        // The first failure ends all others, and each takes what it had unpacked with it.
        let parts = future::try_join_all(jobs).await?;
        if busy.is_empty() {
            return Ok((parts.into_iter().map(|part| (part.diff_id, part)).collect(), None));
        }
        let (images, of) = (self.clone(), *id);
        let early = blocking(move || {
            let lease = images.shared.blobs.lease(of.hex())?;
            Ok(Early { images, held: Some((of, lease)) })
        })
        .await?;
        self.keep_early(id, parts, distrusted).await?;
        for (descriptor, diff_id) in busy {
            while !self.came(descriptor, &diff_id, distrusted)? {
                // Whoever had it has failed, or goes on.
                let Some(claim) = self.shared.blobs.claim(&descriptor.digest, descriptor.size)? else {
                    tokio::time::sleep(PAUSE).await;
                    continue;
                };
                if !self.came(descriptor, &diff_id, distrusted)? {
                    let part =
                        self.layer(session, (descriptor, diff_id), claim, &permits, distrusted, reporter).await?;
                    self.keep_early(id, vec![part], distrusted).await?;
                }
            }
            reporter.tell(Some(&descriptor.digest.short()), Status::PullComplete);
        }
        Ok((BTreeMap::new(), Some(early)))
    }

    /// Whether the layer is here by now. Waits for a commit that is under way.
    fn came(&self, descriptor: &Descriptor, diff_id: &Digest, distrusted: &Distrusted) -> Result<bool, Error> {
        self.shared.state.write(Durability::Process, |tx| self.is_here(tx, descriptor, diff_id, distrusted))
    }

    /// The layer, if it is there and nobody thinks ill of it.
    fn sound_layer(&self, diff_id: &Digest, distrusted: &Distrusted) -> Result<Option<LayerRecord>, Error> {
        let found = self.shared.state.read(|state| self.shared.layers.get(state, diff_id))?;
        Ok(found.filter(|_| !distrusted.contains(Table::Layer, diff_id)).map(|layer| layer.record))
    }

    /// Makes layers a part of the state before their image is.
    async fn keep_early(&self, id: &ImageId, parts: Vec<Part>, distrusted: &Distrusted) -> Result<(), Error> {
        if parts.is_empty() {
            return Ok(());
        }
        let replaced = replaced(&parts);
        let (images, id) = (self.clone(), *id);
        let keep = move || {
            images.sync()?;
            let mut surplus = Vec::new();
            images.shared.state.write(Durability::Power, |tx| {
                for part in parts {
                    surplus.extend(images.commit_layer(tx, part, (Table::Image, id.as_str()))?);
                }
                Ok::<_, Error>(())
            })
        };
        tokio::task::spawn_blocking(keep).await.map_err(|_| Error::Cancelled)??;
        replaced.iter().for_each(|(table, digest)| distrusted.trust(*table, digest));
        Ok(())
    }

    /// Fetches one layer, and from its beginning should what was left of an earlier fetch turn out to be none of it: what
    /// was not yet on the disk when the power went away.
    async fn resumed(
        &self,
        session: &Session,
        layer: (&Descriptor, Digest),
        claim: blob::Writer,
        permits: &Permits,
        distrusted: &Distrusted,
        reporter: &Reporter,
    ) -> Result<Part, Error> {
        let goes_on = claim.existing()?.is_some();
        let fetched = self.layer(session, layer, claim, permits, distrusted, reporter).await;
        if let Err(error) = &fetched
            && goes_on
            && error.kind() == ErrorKind::Invalid
            && let Some(claim) = self.shared.blobs.claim(&layer.0.digest, layer.0.size)?
            && claim.existing()?.is_none()
        {
            tracing::debug!(%error, digest = %layer.0.digest, "what was left of a fetch is damaged; it begins anew");
            return self.layer(session, layer, claim, permits, distrusted, reporter).await;
        }
        fetched
    }

    /// Fetches one layer and unpacks it while it comes.
    async fn layer(
        &self,
        session: &Session,
        (descriptor, diff_id): (&Descriptor, Digest),
        claim: blob::Writer,
        permits: &Permits,
        distrusted: &Distrusted,
        reporter: &Reporter,
    ) -> Result<Part, Error> {
        let id = descriptor.digest.short();
        let tell = |status| reporter.tell(Some(&id), status);
        let (permit, _until_unpacked) = permits.enter(|| tell(Status::Waiting)).await?;
        let existing = claim.existing()?;
        let known = self.sound_layer(&diff_id, distrusted)?.filter(|_| self.shared.keeps_blobs);
        let scattering = &self.shared.scattering;
        let scatter = match self.shared.keeps_blobs && descriptor.size > scattering.rest && session.connections() > 1 {
            true => claim.scatter(descriptor.size)?,
            false => None,
        };
        let (blob, claim) = if self.shared.keeps_blobs { (Some(claim), None) } else { (None, Some(claim)) };
        let (sink, bytes) = pieces::channel(FETCHED);
        let working = match (blob, known) {
            (Some(blob), Some(layer)) => {
                let layer = (diff_id, layer.archive_size);
                Working::Keeping(unpack::keep_async(blob, descriptor.digest, layer, bytes)?)
            }
            (blob, _) => {
                let (layers, digest) = (self.shared.layers.clone(), Some(descriptor.digest));
                let order = Order { layers, blob, digest, diff_id: Some(diff_id) };
                Working::Unpacking(unpack::any_async(order, bytes)?)
            }
        };
        let (mut current, total, mut meter) = (0, descriptor.size, Meter::new());
        let mut gone = false;
        // What an earlier pull had fetched goes the same way: it is checked like everything else.
        if let Some((length, file)) = existing {
            let mut file = tokio::fs::File::from_std(file).take(length);
            while current < length && !gone {
                let mut piece = BytesMut::with_capacity(PIECE);
                let read = file.read_buf(&mut piece).await.map_err(Error::Read)?;
                if read == 0 {
                    return Err(Error::Read(std::io::ErrorKind::UnexpectedEof.into()));
                }
                current += read as u64;
                gone = sink.send(piece.freeze()).await.is_err();
            }
        }
        let permits = &permits.fetch;
        let fetch = Fetch { session, descriptor, sink: &sink, permits, reporter, piece: scattering.piece };
        let begun = scatter.as_ref().filter(|scatter| scatter.is_begun());
        if let (Some(scatter), false) = (begun, gone) {
            (current, gone) = fetch.scattered(scatter, current).await?;
        }
        let (began, first) = (Instant::now(), current);
        let mut waited = Duration::ZERO;
        let mut reader = session.blob_from(descriptor, current);
        while !gone {
            let asked = Instant::now();
            let Some(chunk) = reader.chunk(|seconds| tell(Status::Retrying { seconds })).await? else { break };
            waited += asked.elapsed();
            current += chunk.len() as u64;
            if meter.is_due() {
                tell(Status::Downloading { current, total });
            }
            // Who unpacks has failed, and says why below.
            gone = sink.send(chunk).await.is_err();
            // One connection alone is slower than what becomes of its bytes: more of them may be faster.
            if let Some(scatter) = scatter.as_ref().filter(|scatter| !scatter.is_begun())
                && !gone
                && current - first >= scattering.after
                && total.saturating_sub(current) >= scattering.rest
                && waited > began.elapsed() / 2
            {
                drop(reader);
                (current, gone) = fetch.scattered(scatter, current).await?;
                reader = session.blob_from(descriptor, current);
            }
        }
        if !gone {
            tell(Status::VerifyingChecksum);
            let _ = sink.finish().await;
            tell(Status::DownloadComplete);
            tell(Status::Extracting { current: total, total });
        }
        drop(permit);
        let (staged, sealed, encoding) = match working {
            Working::Keeping(kept) => {
                let (sealed, encoding) = kept.await.map_err(|_| Error::Cancelled)??;
                (None, sealed, encoding)
            }
            Working::Unpacking(unpacked) => {
                let unpacked = unpacked.await.map_err(|_| Error::Cancelled)??;
                (Some(unpacked.staged), unpacked.blob, unpacked.encoding)
            }
        };
        tell(Status::PullComplete);
        let media_type = match (descriptor.media_type.as_str(), encoding) {
            ("", Encoding::Zstd) => media_type::OCI_LAYER_ZSTD,
            ("", Encoding::Gzip) => media_type::OCI_LAYER_GZIP,
            // No layer is compressed otherwise.
            ("", Encoding::Plain | Encoding::Bzip2 | Encoding::Xz) => media_type::OCI_LAYER,
            (given, _) => given,
        };
        let kept = sealed.map(|blob| {
            let record = BlobRecord { size: blob.size(), media_type: media_type.to_owned(), diff_id: Some(diff_id) };
            let anew = distrusted.contains(Table::Blob, &descriptor.digest);
            Kept { digest: descriptor.digest, record, sealed: Some(blob), anew }
        });
        Ok(Part { diff_id, staged, blob: kept, claim, anew: distrusted.contains(Table::Layer, &diff_id) })
    }
}

/// What takes the place of something that was not to be believed, once it is committed.
pub(super) fn replaced(parts: &[Part]) -> Vec<(Table, Digest)> {
    let layers =
        parts.iter().filter(|part| part.anew && part.staged.is_some()).map(|part| (Table::Layer, part.diff_id));
    let blobs = parts.iter().filter_map(|part| part.blob.as_ref()).filter(|blob| blob.anew);
    layers.chain(blobs.map(|blob| (Table::Blob, blob.digest))).collect()
}

/// How many layers are on their way at once.
struct Permits {
    /// Those that are being fetched.
    fetch: Semaphore,
    /// Those that are not unpacked yet.
    layer: Semaphore,
}

impl Permits {
    fn new(downloads: usize) -> Self {
        Self { fetch: Semaphore::new(downloads), layer: Semaphore::new(downloads + BEHIND) }
    }

    /// The right to fetch a layer, and one that is kept until it is unpacked. `waiting` hears when others come first.
    async fn enter(&self, waiting: impl FnOnce()) -> Result<(SemaphorePermit<'_>, SemaphorePermit<'_>), Error> {
        if let (Ok(fetch), Ok(layer)) = (self.fetch.try_acquire(), self.layer.try_acquire()) {
            return Ok((fetch, layer));
        }
        waiting();
        let layer = self.layer.acquire().await.map_err(|_| Error::Cancelled)?;
        Ok((self.fetch.acquire().await.map_err(|_| Error::Cancelled)?, layer))
    }
}

/// What becomes of a layer that is fetched.
enum Working {
    Keeping(oneshot::Receiver<Result<unpack::Preserved, Error>>),
    Unpacking(oneshot::Receiver<Result<unpack::Unpacked, Error>>),
}

/// Layers that are held for an image that is not there yet. When it does not come, they go.
#[derive(Debug)]
pub(super) struct Early {
    images: Images,
    /// For which image, and the mark that somebody who is alive is at it.
    held: Option<(ImageId, Lease)>,
}

impl Early {
    pub(super) fn done(mut self) {
        self.held = None;
    }
}

impl Drop for Early {
    fn drop(&mut self) {
        let Some((id, lease)) = self.held.take() else { return };
        let images = self.images.clone();
        let give_up = move || {
            if let Err(error) = images.give_up(&id, &lease) {
                tracing::warn!(%error, "layers of a pull that failed stay until the next start");
            }
        };
        // Nobody has to wait for it.
        let _ = std::thread::Builder::new().name("engine-remove".to_owned()).spawn(give_up);
    }
}

impl Images {
    /// Lets go of what is held for an image that is not there, and removes what nobody else holds. Who pulls the same image
    /// holds it in the same name: the last one does it.
    fn give_up(&self, id: &ImageId, lease: &Lease) -> Result<(), Error> {
        let (shared, key) = (&self.shared, id.as_str());
        let held = shared.state.write(Durability::Process, |tx| {
            let held = tx.held((Table::Image, key))?;
            if tx.contains(Table::Image, key)? || !lease.is_last() {
                return Ok(Vec::new());
            }
            tx.release_all((Table::Image, key))?;
            Ok::<_, Error>(held)
        })?;
        let retired = shared.state.write(Durability::Process, |tx| {
            let mut retired = Vec::new();
            for (table, key) in &held {
                let Ok(digest) = key.parse::<Digest>() else { continue };
                match table {
                    Table::Layer => retired.extend(shared.layers.retire(tx, &digest)?),
                    Table::Blob => drop(shared.blobs.retire(tx, &digest)?),
                    _ => {}
                }
            }
            Ok::<_, Error>(retired)
        })?;
        retired.into_iter().for_each(crate::snapshot::Retired::remove);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn no_more_layers_are_fetched_than_are_unpacked() {
        let permits = Permits::new(1);
        let mut behind = Vec::new();
        for _ in 0..=BEHIND {
            let (fetched, layer) = permits.enter(|| unreachable!()).await.unwrap();
            drop(fetched);
            behind.push(layer);
        }
        let mut waited = false;
        {
            let mut next = std::pin::pin!(permits.enter(|| waited = true));
            assert!(futures_util::poll!(&mut next).is_pending());
            behind.pop();
            drop(next.await.unwrap());
        }
        assert!(waited);
    }
}
