//! Pulling: what the registry has is compared with what is here, and what is missing is fetched, checked, inflated and
//! unpacked while it comes, several layers at once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::BytesMut;

use futures_util::future;
use tokio::io::AsyncReadExt;
use tokio::sync::{Semaphore, oneshot};

use super::commit::{Kept, Part, Parts};
use super::record::TagRecord;
use super::task::{Meter, Reporter, Status};
use super::unpack::{self, Order, PIECE, PIECES};
use super::{Error, Image, Images, Pull, Task};
use crate::blob::{self, BlobRecord};
use crate::id::ImageId;
use crate::oci::{self, Descriptor, Digest, Document, ImageConfig, Manifest, Platform, Reference, media_type};
use crate::registry::{self, Auth, Fetched, Session};
use crate::snapshot::decode::Encoding;
use crate::snapshot::pieces;
use crate::state::{Durability, Snapshot, Table};

/// How an image is pulled.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PullOptions {
    /// What the image is to run on; the host when not given.
    pub platform: Option<Platform>,
    /// Who asks; anybody when not given.
    pub auth: Auth,
}

/// How deep indexes may lie within indexes.
const MAX_DEPTH: usize = 3;
/// How often a pull begins anew because somebody removed what it had found.
const ROUNDS: usize = 3;
/// How long to wait before looking again at a layer that somebody else fetches.
const PAUSE: Duration = Duration::from_millis(50);

/// An image of a registry, before its layers are fetched.
struct Remote {
    /// The digest that the reference leads to, an index perhaps.
    digest: Digest,
    manifest: Manifest,
    fetched: Fetched,
    config: ImageConfig,
    raw_config: String,
}

impl Images {
    /// Pulls an image, or finds that it is here as the registry has it.
    pub fn pull(&self, reference: &Reference, options: PullOptions) -> Pull {
        let (images, reference) = (self.clone(), reference.clone());
        Task::new(move |reporter| async move { images.pull_from_any(&reference, &options, &reporter).await })
    }

    /// Pulls all images of a repository, one after the other.
    pub fn pull_all(&self, repository: &Reference, options: PullOptions) -> Task<Vec<Image>> {
        let (images, repository) = (self.clone(), repository.clone());
        Task::new(move |reporter| async move {
            let tags = images.tags_of(&repository, &options.auth).await?;
            let mut pulled = Vec::new();
            for tag in tags {
                let Ok(reference) = repository.with_tag(&tag) else { continue };
                pulled.push(images.pull_from_any(&reference, &options, &reporter).await?);
            }
            Ok(pulled)
        })
    }

    async fn tags_of(&self, repository: &Reference, auth: &Auth) -> Result<Vec<String>, Error> {
        let mut first = None;
        for endpoint in self.shared.registry.endpoints(repository) {
            let mirror = endpoint.is_mirror();
            match self.shared.registry.session(endpoint, repository, auth).tags().await.map_err(Error::from) {
                Err(error) if mirror || is_wrong_door(&error) => {
                    first.get_or_insert(error);
                }
                other => return other,
            }
        }
        Err(first.unwrap_or(Error::Cancelled))
    }

    pub(super) async fn pull_from_any(
        &self,
        reference: &Reference,
        options: &PullOptions,
        reporter: &Reporter,
    ) -> Result<Image, Error> {
        let shown = reference.digest().map(|digest| digest.to_string());
        let shown = shown.or_else(|| reference.tag().map(str::to_owned));
        let mut told = false;
        let mut first = None;
        for endpoint in self.shared.registry.endpoints(reference) {
            let mirror = endpoint.is_mirror();
            let address = endpoint.address().to_owned();
            let session = self.shared.registry.session(endpoint, reference, &options.auth);
            let found = match session.resolve().await {
                Ok(found) => {
                    if !told {
                        reporter.message(shown.as_deref(), format!("Pulling from {}", reference.repository()));
                        told = true;
                    }
                    self.pull_from(&session, found, reference, options, reporter).await
                }
                Err(error) => Err(error.into()),
            };
            match found {
                Ok(image) => return Ok(image),
                Err(error) if mirror => {
                    tracing::warn!(%error, mirror = address, "the mirror does not have it; the next place is asked");
                }
                // A registry with TLS answers so to who does not speak it; and one without it not at all.
                Err(error) if is_wrong_door(&error) => {
                    first.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        Err(first.unwrap_or(Error::Cancelled))
    }

    async fn pull_from(
        &self,
        session: &Session,
        found: Fetched,
        reference: &Reference,
        options: &PullOptions,
        reporter: &Reporter,
    ) -> Result<Image, Error> {
        let digest = found.digest;
        let (fetched, manifest) = choose(session, found, options).await?;
        let id = ImageId::from(manifest.config.digest);
        let is_news = self.is_news(&id, reference)?;
        let (config, raw_config) = match self.whole(&id)? {
            Some(image) => {
                let known = image.manifest() == Some(fetched.digest)
                    && image.digests().contains(&reference.with_digest(digest))
                    && self.has_all(&image, fetched.digest, &manifest)?;
                if known && !is_news {
                    self.finished(&image, reference, &digest, is_news, reporter);
                    return Ok(image);
                }
                (image.config().clone(), image.raw_config().to_owned())
            }
            None => configuration(session, &manifest, options).await?,
        };
        let remote = Remote { digest, manifest, fetched, config, raw_config };
        let mut round = 0;
        let image = loop {
            round += 1;
            match self.complete(session, &remote, reference, reporter).await {
                Err(error) if error.is_race() && round < ROUNDS => {}
                other => break other?,
            }
        };
        self.finished(&image, reference, &digest, is_news, reporter);
        Ok(image)
    }

    fn finished(&self, image: &Image, reference: &Reference, digest: &Digest, is_news: bool, reporter: &Reporter) {
        let outcome = if is_news { "Downloaded newer image" } else { "Image is up to date" };
        reporter.message(None, format!("Digest: {digest}"));
        reporter.message(None, format!("Status: {outcome} for {reference}"));
        self.announce("pull", image, &reference.to_string(), &reference.familiar_name());
    }

    /// The image of this id, if it and all its layers are here.
    fn whole(&self, id: &ImageId) -> Result<Option<Image>, Error> {
        self.shared.state.read(|state| {
            let Some(image) = Image::read(state, id)? else { return Ok(None) };
            for diff_id in image.layers() {
                if self.shared.layers.get(state, diff_id)?.is_none() {
                    return Ok(None);
                }
            }
            Ok(Some(image))
        })
    }

    /// Whether the manifest is here, and all layers as it names them.
    fn has_all(&self, image: &Image, digest: Digest, manifest: &Manifest) -> Result<bool, Error> {
        self.shared.state.read(|state| {
            if self.shared.blobs.get(state, &digest)?.is_none() {
                return Ok(false);
            }
            for (descriptor, diff_id) in manifest.layers.iter().zip(image.layers()) {
                if !self.is_here(state, descriptor, diff_id)? {
                    return Ok(false);
                }
            }
            Ok(true)
        })
    }

    /// Whether a layer is here, in the very form in which a manifest names it if such are kept: else the image could not
    /// be given out with the digest that it came with.
    fn is_here(&self, state: &Snapshot<'_>, descriptor: &Descriptor, diff_id: &Digest) -> Result<bool, Error> {
        let shared = &self.shared;
        Ok(match shared.layers.get(state, diff_id)? {
            None => false,
            Some(layer) if descriptor.digest == *diff_id && layer.record.framing => true,
            Some(_) => !shared.keeps_blobs || shared.blobs.get(state, &descriptor.digest)?.is_some(),
        })
    }

    /// Whether the name leads to another image here, or to none.
    fn is_news(&self, id: &ImageId, reference: &Reference) -> Result<bool, Error> {
        let key = match reference.digest() {
            Some(digest) => reference.with_digest(digest).full(),
            None => reference.full(),
        };
        let tag = self.shared.state.read(|state| state.get::<TagRecord>(Table::Tag, &key))?;
        Ok(tag.is_none_or(|tag| tag.image != *id))
    }

    /// Fetches what is missing, and commits.
    async fn complete(
        &self,
        session: &Session,
        remote: &Remote,
        reference: &Reference,
        reporter: &Reporter,
    ) -> Result<Image, Error> {
        let diff_ids = &remote.config.rootfs.diff_ids;
        let wanted = remote.manifest.layers.iter().zip(diff_ids);
        let lacking = self.shared.state.read(|state| {
            let mut lacking = BTreeSet::new();
            for (descriptor, diff_id) in wanted.clone() {
                if !self.is_here(state, descriptor, diff_id)? {
                    lacking.insert(*diff_id);
                }
            }
            Ok::<_, Error>(lacking)
        })?;
        let mut seen = BTreeSet::new();
        let mut missing = Vec::new();
        for (descriptor, diff_id) in wanted {
            let is_missing = lacking.contains(diff_id) && seen.insert(*diff_id);
            let status = if is_missing { Status::PullingFsLayer } else { Status::AlreadyExists };
            reporter.tell(Some(&descriptor.digest.short()), status);
            if is_missing {
                missing.push((descriptor, *diff_id));
            }
        }
        let id = ImageId::from(remote.manifest.config.digest);
        let (mut fetched, early) = self.gather(session, &id, missing, reporter).await?;
        let part = |diff_id: &Digest| fetched.remove(diff_id).unwrap_or_else(|| Part::here(*diff_id));
        let layers = diff_ids.iter().map(part).collect();
        let kept = self.shared.blobs.put(&remote.fetched.bytes)?;
        let manifest = Kept {
            digest: remote.fetched.digest,
            record: BlobRecord { size: kept.size(), media_type: remote.fetched.media_type.clone(), diff_id: None },
            sealed: Some(kept),
        };
        let mut names = vec![reference.with_digest(remote.digest)];
        if let Some(tag) = reference.tag().filter(|_| reference.digest().is_none()) {
            names.push(reference.with_tag(tag)?);
        }
        let (images, config) = (self.clone(), remote.raw_config.clone());
        let parts = Parts { config, layers, manifest: Some(manifest), names, parent: None };
        let commit = move || {
            images.sync()?;
            images.commit(parts)
        };
        let image = tokio::task::spawn_blocking(commit).await.map_err(|_| Error::Cancelled)??;
        early.into_iter().for_each(Early::done);
        Ok(image)
    }

    /// Fetches layers: at once those that nobody else is fetching. When there are others, what is here is made a part
    /// of the state before they are waited for, so that nobody who waits keeps anybody waiting.
    async fn gather(
        &self,
        session: &Session,
        id: &ImageId,
        missing: Vec<(&Descriptor, Digest)>,
        reporter: &Reporter,
    ) -> Result<(BTreeMap<Digest, Part>, Option<Early>), Error> {
        let permits = Semaphore::new(self.shared.registry.concurrent_downloads());
        let (mut claimed, mut busy) = (Vec::new(), Vec::new());
        for (descriptor, diff_id) in missing {
            match self.shared.blobs.claim(&descriptor.digest, descriptor.size)? {
                Some(claim) => claimed.push((descriptor, diff_id, claim)),
                None => busy.push((descriptor, diff_id)),
            }
        }
        let mut jobs = Vec::new();
        for (descriptor, diff_id, claim) in claimed {
            if self.came(descriptor, &diff_id)? {
                reporter.tell(Some(&descriptor.digest.short()), Status::AlreadyExists);
                continue;
            }
            jobs.push(self.layer(session, descriptor, diff_id, claim, &permits, reporter));
        }
        for (descriptor, _) in &busy {
            reporter.tell(Some(&descriptor.digest.short()), Status::Waiting);
        }
        // The first failure ends all others, and each takes what it had unpacked with it.
        let parts = future::try_join_all(jobs).await?;
        if busy.is_empty() {
            return Ok((parts.into_iter().map(|part| (part.diff_id, part)).collect(), None));
        }
        let early = Early { images: self.clone(), id: Some(*id) };
        self.keep_early(id, parts).await?;
        for (descriptor, diff_id) in busy {
            while !self.came(descriptor, &diff_id)? {
                // Whoever had it has failed, or goes on.
                let Some(claim) = self.shared.blobs.claim(&descriptor.digest, descriptor.size)? else {
                    tokio::time::sleep(PAUSE).await;
                    continue;
                };
                if !self.came(descriptor, &diff_id)? {
                    let part = self.layer(session, descriptor, diff_id, claim, &permits, reporter).await?;
                    self.keep_early(id, vec![part]).await?;
                }
            }
            reporter.tell(Some(&descriptor.digest.short()), Status::PullComplete);
        }
        Ok((BTreeMap::new(), Some(early)))
    }

    /// Whether the layer is here by now. Waits for a commit that is under way.
    fn came(&self, descriptor: &Descriptor, diff_id: &Digest) -> Result<bool, Error> {
        self.shared.state.write(Durability::Process, |tx| self.is_here(tx, descriptor, diff_id))
    }

    fn has_layer(&self, diff_id: &Digest) -> Result<bool, Error> {
        self.shared.state.read(|state| Ok(self.shared.layers.get(state, diff_id)?.is_some()))
    }

    /// Makes layers a part of the state before their image is.
    async fn keep_early(&self, id: &ImageId, parts: Vec<Part>) -> Result<(), Error> {
        if parts.is_empty() {
            return Ok(());
        }
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
        tokio::task::spawn_blocking(keep).await.map_err(|_| Error::Cancelled)?
    }

    /// Fetches one layer and unpacks it while it comes.
    async fn layer(
        &self,
        session: &Session,
        descriptor: &Descriptor,
        diff_id: Digest,
        claim: blob::Writer,
        permits: &Semaphore,
        reporter: &Reporter,
    ) -> Result<Part, Error> {
        let id = descriptor.digest.short();
        let tell = |status| reporter.tell(Some(&id), status);
        let permit = match permits.try_acquire() {
            Ok(permit) => permit,
            Err(_) => {
                tell(Status::Waiting);
                permits.acquire().await.map_err(|_| Error::Cancelled)?
            }
        };
        let existing = claim.existing()?;
        let only_kept = self.shared.keeps_blobs && self.has_layer(&diff_id)?;
        let (blob, claim) = if self.shared.keeps_blobs { (Some(claim), None) } else { (None, Some(claim)) };
        let (sink, bytes) = pieces::channel(PIECES);
        let working = match blob {
            Some(blob) if only_kept => Working::Keeping(unpack::keep_async(blob, descriptor.digest, diff_id, bytes)?),
            blob => {
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
        let mut reader = session.blob_from(descriptor, current);
        while !gone && let Some(chunk) = reader.chunk(|seconds| tell(Status::Retrying { seconds })).await? {
            current += chunk.len() as u64;
            if meter.is_due() {
                tell(Status::Downloading { current, total });
            }
            // Who unpacks has failed, and says why below.
            gone = sink.send(chunk).await.is_err();
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
            ("", Encoding::Plain) => media_type::OCI_LAYER,
            (given, _) => given,
        };
        let kept = sealed.map(|blob| {
            let record = BlobRecord { size: blob.size(), media_type: media_type.to_owned(), diff_id: Some(diff_id) };
            Kept { digest: descriptor.digest, record, sealed: Some(blob) }
        });
        Ok(Part { diff_id, staged, blob: kept, claim })
    }
}

/// What becomes of a layer that is fetched.
enum Working {
    Keeping(oneshot::Receiver<Result<unpack::Preserved, Error>>),
    Unpacking(oneshot::Receiver<Result<unpack::Unpacked, Error>>),
}

/// Layers that are held for an image that is not there yet. When it does not come, they go.
#[derive(Debug)]
struct Early {
    images: Images,
    id: Option<ImageId>,
}

impl Early {
    fn done(mut self) {
        self.id = None;
    }
}

impl Drop for Early {
    fn drop(&mut self) {
        let Some(id) = self.id else { return };
        let images = self.images.clone();
        let give_up = move || {
            if let Err(error) = images.give_up(&id) {
                tracing::warn!(%error, "layers of a pull that failed stay until the next start");
            }
        };
        // Nobody has to wait for it.
        let _ = std::thread::Builder::new().name("engine-remove".to_owned()).spawn(give_up);
    }
}

impl Images {
    /// Lets go of what is held for an image that is not there, and removes what nobody else holds.
    fn give_up(&self, id: &ImageId) -> Result<(), Error> {
        let (shared, key) = (&self.shared, id.as_str());
        let held = shared.state.write(Durability::Process, |tx| {
            let held = tx.held((Table::Image, key))?;
            if tx.contains(Table::Image, key)? {
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

/// Finds the manifest for the platform.
async fn choose(session: &Session, found: Fetched, options: &PullOptions) -> Result<(Fetched, Manifest), Error> {
    let wanted = options.platform.clone().unwrap_or_else(Platform::host);
    let mut fetched = found;
    let mut depth = 0;
    let manifest = loop {
        let index = match &fetched.document {
            Document::Manifest(manifest) => break (**manifest).clone(),
            Document::Index(index) => index,
        };
        depth += 1;
        if depth > MAX_DEPTH {
            let reason = "its indexes lie too deep within each other".to_owned();
            return Err(oci::Error::Document { what: "manifest", reason }.into());
        }
        fetched = session.fetch(index.choose(&wanted)?).await?;
    };
    let kind = manifest.config.media_type.as_str();
    if !matches!(kind, "" | media_type::OCI_CONFIG | media_type::DOCKER_CONFIG | "application/octet-stream") {
        return Err(Error::Unsupported(format!("{kind:?} is no image that can be run")));
    }
    Ok((fetched, manifest))
}

/// Fetches and checks the configuration.
async fn configuration(
    session: &Session,
    manifest: &Manifest,
    options: &PullOptions,
) -> Result<(ImageConfig, String), Error> {
    let bytes = session.small(&manifest.config, ImageConfig::MAX_SIZE).await?;
    let config = ImageConfig::parse(&bytes)?;
    let platform = config.platform();
    if !matches!(platform.os.as_str(), "" | "linux") {
        let os = platform.os;
        return Err(Error::Unsupported(format!("image operating system {os:?} cannot be used on this platform")));
    }
    // An index has been chosen from; a lone manifest says only here what it is for.
    if let Some(wanted) = &options.platform
        && !platform.architecture.is_empty()
        && platform.serves(wanted).is_none()
    {
        return Err(oci::Error::NoPlatform(wanted.clone()).into());
    }
    if config.rootfs.diff_ids.len() != manifest.layers.len() {
        let (layers, diff_ids) = (manifest.layers.len(), config.rootfs.diff_ids.len());
        let reason = format!("{layers} layers, but its configuration names {diff_ids}");
        return Err(oci::Error::Document { what: "manifest", reason }.into());
    }
    let raw = String::from_utf8(bytes)
        .map_err(|_| oci::Error::Document { what: "image configuration", reason: "not UTF-8".to_owned() })?;
    Ok((config, raw))
}

pub(super) fn is_wrong_door(error: &Error) -> bool {
    matches!(error, Error::Registry(registry::Error::Unreachable { .. } | registry::Error::Status { status: 400, .. }))
}
