//! Pushing: layers go to the registry as they are stored, several at once, and only those that it does not have. One that
//! is here as a tree only is compressed once, and then kept so.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::io::{Read, Write};
use std::sync::{Arc, Weak};

use futures_util::future;
use tokio::sync::{Semaphore, mpsc};

use super::contents::{Contents, Form, Original, Packed, descriptor};
use super::record::ImageRecord;
use super::save::json;
use super::task::{Meter, Reporter, Status};
use super::unpack::PIECE;
use super::{Error, Image, Images, Push, Task, tag};
use crate::blob::{self, BlobRecord};
use crate::oci::{Digest, Hasher, Manifest, Platform, Reference, media_type};
use crate::registry::{self, Auth, Session, Uploaded};
use crate::snapshot;
use crate::state::{Durability, Table};

/// How an image is pushed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PushOptions {
    /// Who asks; anybody when not given.
    pub auth: Auth,
    /// All tags of the repository that are here, and not only that of the reference.
    pub all_tags: bool,
    /// What the image must be for.
    pub platform: Option<Platform>,
}

/// An image that a registry has now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// Its tag.
    pub tag: String,
    /// The digest of its manifest.
    pub digest: Digest,
    /// Bytes of the manifest.
    pub size: u64,
}

impl fmt::Display for Pushed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: digest: {} size: {}", self.tag, self.digest, self.size)
    }
}

/// Repositories that a blob may be taken over from, at most.
const SOURCES: usize = 3;
/// How often a push begins anew because somebody gave up what it had found.
const ROUNDS: usize = 3;
/// How hard layers are compressed: that takes longer than anything else of a push, and a little more gains little.
const LEVEL: u32 = 3;

impl Images {
    /// Pushes the image of this name, or all tags of its repository.
    pub fn push(&self, reference: &Reference, options: PushOptions) -> Push {
        let (images, reference) = (self.clone(), reference.clone());
        Task::new(move |reporter| async move { images.push_to_any(&reference, &options, &reporter).await })
    }

    async fn push_to_any(
        &self,
        reference: &Reference,
        options: &PushOptions,
        reporter: &Reporter,
    ) -> Result<Vec<Pushed>, Error> {
        if reference.digest().is_some() {
            return Err(crate::oci::Error::Reference("cannot push a digest reference".to_owned()).into());
        }
        let tagged = self.tagged(reference, options.all_tags)?;
        for (name, image) in &tagged {
            image.must_be_for(options.platform.as_ref(), &name.to_string())?;
        }
        reporter.message(None, format!("The push refers to repository [{}]", reference.name()));
        let mut pushed = Vec::new();
        let mut first = None;
        for endpoint in self.shared.registry.destinations(reference) {
            // Where one tag went the others go, too.
            for (name, image) in tagged.iter().skip(pushed.len()) {
                let sources = self.sources(image, reference)?;
                let all: BTreeSet<String> = sources.values().flatten().cloned().collect();
                let session =
                    self.shared.registry.writing(endpoint.clone(), name, &options.auth, all.into_iter().collect());
                let mut round = 0;
                let pushed_one = loop {
                    round += 1;
                    match self.push_one(&session, name, image, &sources, reporter).await {
                        // A blob was given up in the meantime; its layer is still here.
                        Err(error) if error.is_race() && round < ROUNDS => {}
                        other => break other,
                    }
                };
                match pushed_one {
                    Ok(one) => pushed.push(one),
                    Err(error) if super::pull::is_wrong_door(&error) && pushed.is_empty() => {
                        first.get_or_insert(error);
                        break;
                    }
                    Err(error) => return Err(error),
                }
            }
            if pushed.len() == tagged.len() {
                return Ok(pushed);
            }
        }
        Err(first.unwrap_or(Error::Cancelled))
    }

    /// What is to be pushed, each by its name.
    fn tagged(&self, reference: &Reference, all: bool) -> Result<Vec<(Reference, Image)>, Error> {
        let missing =
            || Error::Missing(format!("An image does not exist locally with the tag: {}", reference.familiar_name()));
        self.shared.state.read(|state| {
            if !all {
                let found = super::find::by_reference(state, reference)?;
                return Ok(vec![(reference.clone(), found.ok_or_else(missing)?)]);
            }
            let mut tagged = Vec::new();
            let prefix = format!("{}:", reference.name());
            for (key, record) in state.list_prefix::<super::record::TagRecord>(Table::Tag, &prefix)? {
                if let (Ok(name), Some(image)) = (key.parse::<Reference>(), Image::read(state, &record.image)?) {
                    tagged.push((name, image));
                }
            }
            if tagged.is_empty() { Err(missing()) } else { Ok(tagged) }
        })
    }

    /// Other repositories of the registry that have the image's layers, by layer.
    fn sources(&self, image: &Image, reference: &Reference) -> Result<BTreeMap<Digest, Vec<String>>, Error> {
        let mut sources = BTreeMap::new();
        for diff_id in image.layers() {
            let mut repositories: Vec<String> = Vec::new();
            for other in self.images_with(diff_id)? {
                for name in other.digests().iter().filter(|name| name.registry() == reference.registry()) {
                    let repository = name.repository().to_owned();
                    if repository != reference.repository() && !repositories.contains(&repository) {
                        repositories.push(repository);
                    }
                }
            }
            repositories.truncate(SOURCES);
            sources.insert(*diff_id, repositories);
        }
        Ok(sources)
    }

    async fn push_one(
        &self,
        session: &Session,
        name: &Reference,
        image: &Image,
        sources: &BTreeMap<Digest, Vec<String>>,
        reporter: &Reporter,
    ) -> Result<Pushed, Error> {
        for diff_id in image.layers() {
            reporter.tell(Some(&diff_id.short()), Status::Preparing);
        }
        let (original, layers) = self.pushable(session, image).await?;
        let permits = Semaphore::new(self.shared.registry.concurrent_uploads());
        let mut seen = BTreeSet::new();
        let none = Vec::new();
        let jobs = layers.iter().filter(|layer| seen.insert(layer.diff_id)).map(|layer| {
            let from = sources.get(&layer.diff_id).unwrap_or(&none);
            self.push_layer(session, layer, from, &permits, reporter)
        });
        let mut packed: BTreeMap<Digest, Packed> = BTreeMap::new();
        for layer in future::try_join_all(jobs).await? {
            packed.insert(layer.diff_id, layer);
        }
        let config = image.raw_config().as_bytes();
        self.push_bytes(session, &Digest::from(image.id()), config).await?;
        let (bytes, media_type) = match &original {
            Some(original) => (original.bytes.clone(), original.media_type.clone()),
            None => match self.manifest_of(image)? {
                Some(original) if original.names(image, &packed) => (original.bytes, original.media_type),
                before => manifest(image, &packed, before.map(|before| before.manifest))?,
            },
        };
        let tag = name.tag().unwrap_or("latest");
        let digest = session.put_manifest(tag, &bytes, &media_type).await?;
        self.remember(image, name, digest, original.is_none().then_some((bytes.as_slice(), media_type.as_str())))?;
        let pushed = Pushed { tag: tag.to_owned(), digest, size: bytes.len() as u64 };
        reporter.message(None, pushed.to_string());
        reporter.tell(None, Status::Result(pushed.clone()));
        self.announce("push", image, &name.to_string(), &name.familiar_name());
        Ok(pushed)
    }

    /// The layers as they are to be at the registry, and the manifest if it stays as it was.
    async fn pushable(&self, session: &Session, image: &Image) -> Result<(Option<Original>, Vec<Packed>), Error> {
        let Contents { manifest, layers } = self.contents(image, false)?;
        let Some(original) = manifest else { return Ok((None, layers)) };
        // A plain archive is not what anybody wants to fetch.
        let mut stays = layers.iter().all(|layer| layer.form != Form::Framed);
        for layer in layers.iter().filter(|layer| layer.form == Form::Absent) {
            stays = stays && session.has_blob(&layer.digest).await?;
        }
        if stays {
            return Ok((Some(original), layers));
        }
        let layers = image.layers().iter().map(|diff_id| self.packed(diff_id)).collect::<Result<Vec<_>, _>>()?;
        Ok((None, layers))
    }

    async fn push_layer(
        &self,
        session: &Session,
        layer: &Packed,
        from: &[String],
        permits: &Semaphore,
        reporter: &Reporter,
    ) -> Result<Packed, Error> {
        let id = layer.diff_id.short();
        let tell = |status| reporter.tell(Some(&id), status);
        let _permit = match permits.try_acquire() {
            Ok(permit) => permit,
            Err(_) => {
                tell(Status::Waiting);
                permits.acquire().await.map_err(|_| Error::Cancelled)?
            }
        };
        let layer = match layer.form {
            Form::Framed => self.compressed(layer.clone(), reporter.clone()).await?,
            Form::Blob | Form::Absent => layer.clone(),
        };
        if session.has_blob(&layer.digest).await? {
            tell(Status::LayerExists);
            return Ok(layer);
        }
        let total = layer.size;
        let file = self.shared.blobs.file(&layer.digest)?;
        let (sender, mut sent) = mpsc::unbounded_channel();
        let upload =
            session.upload(&layer.digest, total, file, from, sender, |seconds| tell(Status::Retrying { seconds }));
        let mut meter = Meter::new();
        let listen = async {
            while let Some(current) = sent.recv().await {
                if meter.is_due() {
                    tell(Status::Pushing { current, total });
                }
            }
        };
        let (uploaded, ()) = future::join(upload, listen).await;
        tell(match uploaded? {
            Uploaded::Known => Status::LayerExists,
            Uploaded::Mounted(repository) => Status::MountedFrom(repository),
            Uploaded::Sent => Status::Pushed,
        });
        Ok(layer)
    }

    async fn push_bytes(&self, session: &Session, digest: &Digest, bytes: &[u8]) -> Result<(), Error> {
        if session.has_blob(digest).await? {
            return Ok(());
        }
        let fail =
            |error: std::io::Error| registry::Error::Local(format!("prepare a configuration to be sent: {error}"));
        let file = rustix::fs::memfd_create("engine-config", rustix::fs::MemfdFlags::CLOEXEC);
        let mut file = File::from(file.map_err(|error| fail(error.into()))?);
        file.write_all(bytes).map_err(fail)?;
        let (sender, _) = mpsc::unbounded_channel();
        session.upload(digest, bytes.len() as u64, file, &[], sender, |_| {}).await?;
        Ok(())
    }

    /// Compresses a layer, and keeps it so.
    async fn compressed(&self, layer: Packed, reporter: Reporter) -> Result<Packed, Error> {
        let images = self.clone();
        let wanted = Arc::new(());
        let still = Arc::downgrade(&wanted);
        let work = move || images.compress(&layer, &reporter, &still);
        tokio::task::spawn_blocking(work).await.map_err(|_| Error::Cancelled)?
    }

    /// `wanted` is gone when the push was given up.
    fn compress(&self, layer: &Packed, reporter: &Reporter, wanted: &Weak<()>) -> Result<Packed, Error> {
        let shared = &self.shared;
        let diff_id = layer.diff_id;
        let lost = |source: std::io::Error| Error::Incomplete(format!("layer {diff_id}: {source}"));
        let mut archive = shared.layers.archive(&diff_id)?;
        let out = Hashed { blob: shared.blobs.writer()?, failure: None };
        let mut encoder = flate2::write::GzEncoder::new(out, flate2::Compression::new(LEVEL));
        let (mut hasher, mut piece, mut meter, mut current) = (Hasher::new(), vec![0; PIECE], Meter::new(), 0);
        let total = layer.size;
        loop {
            let length = archive.read(&mut piece).map_err(lost)?;
            if length == 0 {
                break;
            }
            hasher.update(&piece[..length]);
            encoder.write_all(&piece[..length]).map_err(|error| write_error(&mut encoder, error))?;
            current += length as u64;
            if meter.is_due() {
                reporter.tell(Some(&diff_id.short()), Status::Compressing { current, total });
            }
            if wanted.strong_count() == 0 {
                return Err(Error::Cancelled);
            }
        }
        let found = hasher.finish();
        if found != diff_id {
            return Err(snapshot::Error::Mismatch { expected: diff_id, found }.into());
        }
        let sealed = encoder.finish().map_err(lost)?.blob.seal(None)?;
        let (digest, size) = (sealed.digest(), sealed.size());
        shared.blobs.sync()?;
        let media_type = media_type::OCI_LAYER_GZIP.to_owned();
        let record = BlobRecord { size, media_type: media_type.clone(), diff_id: Some(diff_id) };
        let mut sealed = Some(sealed);
        shared.state.write(Durability::Power, |tx| {
            let key = diff_id.to_string();
            for (table, holder) in tx.holders((Table::Layer, &key))? {
                if table == Table::Image {
                    shared.blobs.commit(tx, &digest, sealed.take(), &record, (table, &holder))?;
                }
            }
            if let Some(layer) = tx.get::<snapshot::LayerRecord>(Table::Layer, &key)? {
                tx.put(Table::Layer, &key, &snapshot::LayerRecord { blob: Some(digest), ..layer })?;
            }
            Ok::<_, Error>(())
        })?;
        Ok(Packed { diff_id, digest, size, media_type, form: Form::Blob })
    }

    /// Keeps what the registry calls the image now, and the manifest if it was made here.
    fn remember(
        &self,
        image: &Image,
        name: &Reference,
        digest: Digest,
        made: Option<(&[u8], &str)>,
    ) -> Result<(), Error> {
        let shared = &self.shared;
        let mut sealed = match made {
            Some((bytes, _)) => Some(shared.blobs.put(bytes)?),
            None => None,
        };
        if sealed.is_some() {
            shared.blobs.sync()?;
        }
        let id = image.id().as_str();
        let before = shared.state.write(Durability::Power, |tx| {
            let Some(record) = tx.get::<ImageRecord>(Table::Image, id)? else {
                // It was removed meanwhile, and has been pushed all the same.
                return Ok(None);
            };
            tag::name(tx, image.id(), &name.with_digest(digest))?;
            let before = record.manifest.filter(|before| made.is_some() && *before != digest);
            if let Some((bytes, media_type)) = made {
                let blob = BlobRecord { size: bytes.len() as u64, media_type: media_type.to_owned(), diff_id: None };
                shared.blobs.commit(tx, &digest, sealed.take(), &blob, (Table::Image, id))?;
                if let Some(before) = &before {
                    tx.release((Table::Blob, &before.to_string()), (Table::Image, id))?;
                }
                tx.put(Table::Image, id, &ImageRecord { manifest: Some(digest), ..record })?;
            }
            Ok::<_, Error>(before)
        })?;
        if let Some(before) = before {
            shared.state.write(Durability::Process, |tx| shared.blobs.retire(tx, &before))?;
        }
        Ok(())
    }
}

impl Original {
    /// Whether it names the layers in this form: what was compressed anew may have become the same bytes.
    fn names(&self, image: &Image, packed: &BTreeMap<Digest, Packed>) -> bool {
        let layers = image.layers().iter().map(|diff_id| packed.get(diff_id).map(|layer| layer.digest));
        self.manifest.config.digest == Digest::from(image.id())
            && self.manifest.layers.iter().map(|descriptor| Some(descriptor.digest)).eq(layers)
    }
}

/// The manifest of an image whose layers are packed like this: Docker's kind, which everybody reads, if it can say that. What
/// one that it came with says beyond the layers is said again.
fn manifest(
    image: &Image,
    packed: &BTreeMap<Digest, Packed>,
    before: Option<Manifest>,
) -> Result<(Vec<u8>, String), Error> {
    let layers: Vec<&Packed> = image.layers().iter().filter_map(|diff_id| packed.get(diff_id)).collect();
    let is_gzip =
        |layer: &&Packed| matches!(layer.media_type.as_str(), media_type::OCI_LAYER_GZIP | media_type::DOCKER_LAYER);
    let says_more = |before: &Manifest| {
        before.subject.is_some() || before.artifact_type.is_some() || !before.annotations.is_empty()
    };
    let before = before.filter(says_more);
    let docker = before.is_none() && layers.iter().all(is_gzip);
    let (kind, config, layer_kind) = if docker {
        (media_type::DOCKER_MANIFEST, media_type::DOCKER_CONFIG, Some(media_type::DOCKER_LAYER))
    } else {
        (media_type::OCI_MANIFEST, media_type::OCI_CONFIG, None)
    };
    let as_oci = |layer: &Packed| match layer.media_type.as_str() {
        media_type::DOCKER_LAYER => media_type::OCI_LAYER_GZIP.to_owned(),
        other => other.to_owned(),
    };
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(kind.to_owned()),
        config: descriptor(config, Digest::from(image.id()), image.raw_config().len() as u64),
        layers: layers
            .iter()
            .map(|layer| {
                let kind = layer_kind.map_or_else(|| as_oci(layer), str::to_owned);
                descriptor(&kind, layer.digest, layer.size)
            })
            .collect(),
        artifact_type: before.as_ref().and_then(|before| before.artifact_type.clone()),
        subject: before.as_ref().and_then(|before| before.subject.clone()),
        annotations: before.map(|before| before.annotations).unwrap_or_default(),
    };
    Ok((json(&manifest)?, kind.to_owned()))
}

/// A blob as something that is written to.
struct Hashed {
    blob: blob::Writer,
    failure: Option<blob::Error>,
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self.blob.write(bytes) {
            Ok(()) => Ok(bytes.len()),
            Err(error) => {
                self.failure = Some(error);
                Err(std::io::Error::other("the blob cannot be written"))
            }
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn write_error(encoder: &mut flate2::write::GzEncoder<Hashed>, error: std::io::Error) -> Error {
    encoder.get_mut().failure.take().map_or(Error::Read(error), Error::Blob)
}
