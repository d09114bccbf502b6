//! Pulling: what the registry has is compared with what is here, and what is missing is fetched, checked, inflated and
//! unpacked while it comes, several layers at once.

use std::collections::{BTreeMap, BTreeSet};

use super::commit::{Kept, Part, Parts};
use super::fetch::{Early, replaced};
use super::mend::Distrusted;
use super::record::{TagRecord, use_now};
use super::task::{Reporter, Status};
use super::{Error, Image, Images, Pull, Task};
use crate::blob::BlobRecord;
use crate::id::ImageId;
use crate::oci::{self, Descriptor, Digest, Document, ImageConfig, Manifest, Platform, Reference};
use crate::registry::{self, Auth, Fetched, Session};
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
        Task::new(move |reporter| async move {
            images.pull_from_any(&reference, &options, &Distrusted::default(), &reporter).await
        })
    }

    /// Pulls all images of a repository, one after the other. What has a tag there and is no image, such as a signature, is
    /// passed over.
    pub fn pull_all(&self, repository: &Reference, options: PullOptions) -> Task<Vec<Image>> {
        let (images, repository) = (self.clone(), repository.clone());
        Task::new(move |reporter| async move {
            let tags = images.tags_of(&repository, &options.auth).await?;
            let mut pulled = Vec::new();
            for tag in tags {
                let Ok(reference) = repository.with_tag(&tag) else { continue };
                if stands_for_referrers(&tag) {
                    reporter.message(Some(&tag), "Passed over: it stands for what refers to an image");
                    continue;
                }
                match images.pull_from_any(&reference, &options, &Distrusted::default(), &reporter).await {
                    Ok(image) => pulled.push(image),
                    Err(error @ Error::Artifact(_)) => reporter.message(Some(&tag), format!("Passed over: {error}")),
                    Err(error) => return Err(error),
                }
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
        distrusted: &Distrusted,
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
                    self.pull_from(&session, found, (reference, options), distrusted, reporter).await
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
        (reference, options): (&Reference, &PullOptions),
        distrusted: &Distrusted,
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
                    && self.has_all(&image, fetched.digest, &manifest, distrusted)?;
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
            match self.complete(session, &remote, reference, distrusted, reporter).await {
                Err(error) if error.is_race() && round < ROUNDS => {}
                other => break other?,
            }
        };
        self.finished(&image, reference, &digest, is_news, reporter);
        Ok(image)
    }

    /// Tells that the image is here, and notes that somebody wants it.
    fn finished(&self, image: &Image, reference: &Reference, digest: &Digest, is_news: bool, reporter: &Reporter) {
        let id = image.id().as_str();
        let noted = self.shared.state.write(Durability::Process, |tx| match tx.contains(Table::Image, id)? {
            true => use_now(tx, id),
            false => Ok(()),
        });
        if let Err(error) = noted {
            tracing::warn!(%error, "nobody knows that the image was used");
        }
        let outcome = if is_news { "Downloaded newer image" } else { "Image is up to date" };
        reporter.message(None, format!("Digest: {digest}"));
        reporter.message(None, format!("Status: {outcome} for {reference}"));
        self.announce("pull", image, &reference.to_string(), &reference.familiar_name());
        self.keep_to_quota();
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
    fn has_all(
        &self,
        image: &Image,
        digest: Digest,
        manifest: &Manifest,
        distrusted: &Distrusted,
    ) -> Result<bool, Error> {
        self.shared.state.read(|state| {
            if distrusted.contains(Table::Blob, &digest) || self.shared.blobs.get(state, &digest)?.is_none() {
                return Ok(false);
            }
            for (descriptor, diff_id) in manifest.layers.iter().zip(image.layers()) {
                if !self.is_here(state, descriptor, diff_id, distrusted)? {
                    return Ok(false);
                }
                let (of, by) = ((Table::Blob, descriptor.digest.to_string()), image.id().to_string());
                let is_own = state.holders((of.0, &of.1))?.contains(&(Table::Image, by));
                if !is_own && state.contains(of.0, &of.1)? {
                    return Ok(false);
                }
            }
            Ok(true)
        })
    }

    /// Whether a layer is here, in the very form in which a manifest names it if such are kept: else the image could not
    /// be given out with the digest that it came with.
    pub(super) fn is_here(
        &self,
        state: &Snapshot<'_>,
        descriptor: &Descriptor,
        diff_id: &Digest,
        distrusted: &Distrusted,
    ) -> Result<bool, Error> {
        let (shared, digest) = (&self.shared, &descriptor.digest);
        if distrusted.contains(Table::Layer, diff_id) || distrusted.contains(Table::Blob, digest) {
            return Ok(false);
        }
        Ok(match shared.layers.get(state, diff_id)? {
            None => false,
            Some(layer) if layer.record.framing && (digest == diff_id || layer.record.bare) => true,
            Some(_) => !shared.keeps_blobs || shared.blobs.get(state, digest)?.is_some(),
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
        distrusted: &Distrusted,
        reporter: &Reporter,
    ) -> Result<Image, Error> {
        let diff_ids = &remote.config.rootfs.diff_ids;
        let wanted = remote.manifest.layers.iter().zip(diff_ids);
        let (lacking, mut own) = self.shared.state.read(|state| {
            let (mut lacking, mut own) = (BTreeSet::new(), BTreeMap::new());
            for (descriptor, diff_id) in wanted.clone() {
                if !self.is_here(state, descriptor, diff_id, distrusted)? {
                    lacking.insert(*diff_id);
                } else if let Some(record) = self.shared.blobs.get(state, &descriptor.digest)? {
                    // The layer may have come in another form: this image's own is what it is to keep.
                    own.insert(*diff_id, Kept::new(descriptor.digest, record, None));
                }
            }
            Ok::<_, Error>((lacking, own))
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
        let (mut fetched, early) = self.gather(session, &id, missing, distrusted, reporter).await?;
        let part = |diff_id: &Digest| {
            let here = || Part { blob: own.remove(diff_id), ..Part::here(*diff_id) };
            fetched.remove(diff_id).unwrap_or_else(here)
        };
        let layers: Vec<Part> = diff_ids.iter().map(part).collect();
        let kept = self.shared.blobs.put(&remote.fetched.bytes)?;
        let digest = remote.fetched.digest;
        let manifest = Kept {
            digest,
            record: BlobRecord { size: kept.size(), media_type: remote.fetched.media_type.clone(), diff_id: None },
            sealed: Some(kept),
            anew: distrusted.contains(Table::Blob, &digest),
        };
        let replaced = replaced(&layers);
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
        distrusted.trust(Table::Blob, &digest);
        replaced.iter().for_each(|(table, digest)| distrusted.trust(*table, digest));
        Ok(image)
    }
}

/// Finds the manifest of an image for the platform.
async fn choose(session: &Session, found: Fetched, options: &PullOptions) -> Result<(Fetched, Manifest), Error> {
    let wanted = options.platform.clone().unwrap_or_else(Platform::host);
    let (fetched, manifest) = descend(session, found, &wanted).await?;
    if let Some(kind) = manifest.artifact_kind() {
        return Err(Error::Artifact(kind.to_owned()));
    }
    Ok((fetched, manifest))
}

/// Follows indexes to the manifest for the platform.
pub(super) async fn descend(
    session: &Session,
    found: Fetched,
    wanted: &Platform,
) -> Result<(Fetched, Manifest), Error> {
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
        fetched = session.fetch(index.choose(wanted)?).await?;
    };
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

/// Whether a tag is made of a digest: under such ones clients keep signatures and the like, `sha256-<digits>` and
/// `sha256-<digits>.sig`.
fn stands_for_referrers(tag: &str) -> bool {
    let digits = tag.strip_prefix("sha256-").and_then(|rest| rest.get(..64));
    digits.is_some_and(|digits| Digest::from_hex(digits).is_ok())
}

pub(super) fn is_wrong_door(error: &Error) -> bool {
    matches!(error, Error::Registry(registry::Error::Unreachable { .. } | registry::Error::Status { status: 400, .. }))
}
