//! Saving: one archive that is an OCI layout and what `docker save` writes at once. Layers go into it as they are stored,
//! and nothing is compressed anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufRead as _, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::thread::JoinHandle;

use bytes::Bytes;
use futures_util::Stream;
use serde::Serialize;
use tokio::sync::mpsc;

use super::contents::{Contents, Form, Packed, descriptor};
use super::unpack::{self, PIECE, PIECES};
use super::{Error, Image, Images, find};
use crate::oci::{Descriptor, Digest, Hasher, Index, Manifest, Platform, Reference, media_type};
use crate::snapshot;
use crate::snapshot::pieces::{self, Buffers, Sink};
use crate::snapshot::tar::{Entry, Kind, Writer};

/// The bytes of an archive of images. They are made while they are read; a failure is the last item.
#[derive(Debug)]
pub struct Saved {
    receiver: mpsc::Receiver<Result<Bytes, Error>>,
}

impl Stream for Saved {
    type Item = Result<Bytes, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.receiver.poll_recv(context)
    }
}

/// An image, and the names that it has in the archive.
struct Chosen {
    image: Image,
    names: Vec<Reference>,
    contents: Contents,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
    layer_sources: BTreeMap<String, Descriptor>,
}

impl Images {
    /// Saves images by name or id. A name without a tag stands for all tags of its repository. With a platform, the
    /// images must be for just that one.
    ///
    /// # Errors
    /// When one of them is not here or cannot be given out; nothing has been written then.
    pub async fn save(&self, names: &[String], platform: Option<&Platform>) -> Result<Saved, Error> {
        let images = self.clone();
        let (names, platform) = (names.to_vec(), platform.cloned());
        let (sender, receiver) = mpsc::channel(PIECES);
        let chosen = {
            let images = images.clone();
            tokio::task::spawn_blocking(move || images.chosen(&names, platform.as_ref()))
                .await
                .map_err(|_| Error::Cancelled)??
        };
        unpack::spawn("engine-save", move || {
            let mut out = Out { sender, buffer: Vec::new() };
            if let Err(error) = images.write_archive(&chosen, &mut out) {
                // Whoever reads has gone, or wants to know.
                let _ = out.sender.blocking_send(Err(error));
            }
        })?;
        Ok(Saved { receiver })
    }

    fn chosen(&self, names: &[String], platform: Option<&Platform>) -> Result<Vec<Chosen>, Error> {
        let mut chosen: Vec<Chosen> = Vec::new();
        for text in names {
            for (image, name) in self.named(text)? {
                image.must_be_for(platform, text)?;
                match chosen.iter_mut().find(|chosen| chosen.image.id() == image.id()) {
                    Some(known) => known.names.extend(name.filter(|name| !known.names.contains(name))),
                    None => {
                        let contents = self.contents(&image, true)?;
                        chosen.push(Chosen { image, names: name.into_iter().collect(), contents });
                    }
                }
            }
        }
        for Chosen { image, .. } in &chosen {
            self.announce("save", image, image.id().as_str(), &image.shown());
        }
        Ok(chosen)
    }

    /// The images that a text names, each with the name that it is to have.
    fn named(&self, text: &str) -> Result<Vec<(Image, Option<Reference>)>, Error> {
        let only_name = text.parse::<Reference>().ok().filter(|reference| {
            reference.digest().is_none() && !text.ends_with(&format!(":{}", reference.tag().unwrap_or_default()))
        });
        if let Some(reference) = only_name {
            let tagged = self.shared.state.read(|state| {
                let mut tagged = Vec::new();
                let prefix = format!("{}:", reference.name());
                for (key, tag) in state.list_prefix::<super::record::TagRecord>(crate::state::Table::Tag, &prefix)? {
                    if let (Ok(name), Some(image)) = (key.parse::<Reference>(), Image::read(state, &tag.image)?) {
                        tagged.push((image, Some(name)));
                    }
                }
                Ok::<_, Error>(tagged)
            })?;
            if !tagged.is_empty() {
                return Ok(tagged);
            }
        }
        let image = self.shared.state.read(|state| find::find(state, text))?;
        let is_id = find::is_id_of(image.id(), text);
        let name = text.parse::<Reference>().ok().filter(|name| !is_id && name.digest().is_none());
        Ok(vec![(image, name)])
    }

    fn write_archive(&self, chosen: &[Chosen], out: &mut Out) -> Result<(), Error> {
        let mut archive = Archive { writer: Writer::new(out), written: BTreeSet::new(), buffers: Buffers::new(PIECE) };
        archive.directory("blobs")?;
        archive.directory("blobs/sha256")?;
        let (mut manifests, mut entries) = (Vec::new(), Vec::new());
        let mut repositories: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        for Chosen { image, names, contents } in chosen {
            for layer in &contents.layers {
                self.write_layer(&mut archive, layer)?;
            }
            archive.blob(Digest::from(image.id()), image.raw_config().as_bytes())?;
            let made;
            let (bytes, media_type) = match &contents.manifest {
                Some(original) => (&original.bytes, original.media_type.as_str()),
                None => {
                    made = made_manifest(image, &contents.layers)?;
                    (&made, media_type::OCI_MANIFEST)
                }
            };
            let digest = Digest::of(bytes);
            archive.blob(digest, bytes)?;
            let mut entry = descriptor(media_type, digest, bytes.len() as u64);
            entry.platform = Some(image.config().platform());
            for name in names {
                let tag = name.tag().unwrap_or_default().to_owned();
                repositories.entry(name.familiar_name()).or_default().insert(tag.clone(), image.id().hex().to_owned());
                let annotations =
                    [("io.containerd.image.name", name.full()), ("org.opencontainers.image.ref.name", tag)];
                let mut entry = entry.clone();
                entry.annotations = annotations.map(|(key, value)| (key.to_owned(), value)).into();
                manifests.push(entry);
            }
            if names.is_empty() {
                manifests.push(entry);
            }
            let path = |digest: &Digest| format!("blobs/sha256/{}", digest.hex());
            entries.push(Listed {
                config: path(&Digest::from(image.id())),
                repo_tags: Some(names.iter().map(ToString::to_string).collect::<Vec<_>>())
                    .filter(|tags| !tags.is_empty()),
                layers: contents.layers.iter().map(|layer| path(&layer.digest)).collect(),
                layer_sources: contents
                    .layers
                    .iter()
                    .map(|layer| (layer.diff_id.to_string(), layer.descriptor()))
                    .collect(),
            });
        }
        let index = Index {
            schema_version: 2,
            media_type: Some(media_type::OCI_INDEX.to_owned()),
            manifests,
            artifact_type: None,
            subject: None,
            annotations: BTreeMap::new(),
        };
        archive.file("index.json", &json(&index)?)?;
        archive.file("manifest.json", &json(&entries)?)?;
        archive.file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        if !repositories.is_empty() {
            archive.file("repositories", &json(&repositories)?)?;
        }
        archive.writer.finish().and_then(Out::finish).map_err(Error::Read)
    }

    /// Writes a layer, once.
    fn write_layer(&self, archive: &mut Archive<'_>, layer: &Packed) -> Result<(), Error> {
        if !archive.written.insert(layer.digest) {
            return Ok(());
        }
        archive.header(&format!("blobs/sha256/{}", layer.digest.hex()), layer.size)?;
        let lost = |source: io::Error| match source.kind() {
            io::ErrorKind::BrokenPipe => Error::Cancelled,
            _ => Error::Incomplete(format!("layer {}: {source}", layer.diff_id)),
        };
        match layer.form {
            Form::Framed => {
                let bytes = self.shared.layers.archive(&layer.diff_id)?;
                let hashing = Hashing::begin()?;
                archive.copy(bytes, layer.size, Some(&hashing)).map_err(lost)?;
                let found = hashing.finish().map_err(lost)?;
                if found != layer.diff_id {
                    return Err(snapshot::Error::Mismatch { expected: layer.diff_id, found }.into());
                }
            }
            Form::Blob | Form::Absent => {
                let file: File = self.shared.blobs.file(&layer.digest)?;
                archive.copy(file, layer.size, None).map_err(lost)?;
            }
        }
        archive.pad(layer.size)
    }
}

/// The manifest of an image that came without one.
pub(super) fn made_manifest(image: &Image, layers: &[Packed]) -> Result<Vec<u8>, Error> {
    let config = image.raw_config().as_bytes();
    json(&Manifest {
        schema_version: 2,
        media_type: Some(media_type::OCI_MANIFEST.to_owned()),
        config: descriptor(media_type::OCI_CONFIG, Digest::from(image.id()), config.len() as u64),
        layers: layers.iter().map(Packed::descriptor).collect(),
        artifact_type: None,
        subject: None,
        annotations: BTreeMap::new(),
    })
}

pub(super) fn json<T: Serialize>(value: &T) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(value).map_err(|error| Error::Archive(format!("a document cannot be written: {error}")))
}

struct Archive<'a> {
    writer: Writer<&'a mut Out>,
    written: BTreeSet<Digest>,
    buffers: Buffers,
}

impl Archive<'_> {
    fn directory(&mut self, path: &str) -> Result<(), Error> {
        self.writer.entry(&Entry::new(Kind::Directory, format!("{path}/"), 0o755), b"").map_err(Error::Read)
    }

    fn file(&mut self, path: &str, contents: &[u8]) -> Result<(), Error> {
        self.writer.entry(&Entry::new(Kind::File, path, 0o644), contents).map_err(Error::Read)
    }

    fn blob(&mut self, digest: Digest, contents: &[u8]) -> Result<(), Error> {
        if self.written.insert(digest) {
            self.file(&format!("blobs/sha256/{}", digest.hex()), contents)
        } else {
            Ok(())
        }
    }

    fn header(&mut self, path: &str, size: u64) -> Result<(), Error> {
        let entry = Entry { size, ..Entry::new(Kind::File, path, 0o644) };
        self.writer.header(&entry).map_err(Error::Read)
    }

    fn pad(&mut self, size: u64) -> Result<(), Error> {
        self.writer.pad(size).map_err(Error::Read)
    }

    /// Copies exactly `size` bytes, and gives each piece to `hashing` too, if that is wanted.
    fn copy(&mut self, mut from: impl Read, size: u64, hashing: Option<&Hashing>) -> io::Result<()> {
        let out = self.writer.get_mut();
        let mut rest = size;
        while rest > 0 {
            let mut piece = self.buffers.take();
            let length = usize::try_from(rest).unwrap_or(PIECE).min(piece.len());
            if pieces::fill(&mut from, &mut piece[..length])? < length {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it is shorter than it was"));
            }
            rest -= length as u64;
            let piece = piece.filled(length);
            if let Some(hashing) = hashing {
                hashing.give(piece.clone())?;
            }
            out.send(piece)?;
        }
        if from.read(&mut [0])? > 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is longer than it was"));
        }
        Ok(())
    }
}

/// Hashes on a thread of its own, which takes longer than reading many files.
struct Hashing {
    sink: Sink,
    thread: JoinHandle<io::Result<Digest>>,
}

impl Hashing {
    fn begin() -> Result<Self, Error> {
        let (sink, mut pieces) = pieces::channel(PIECES);
        let thread = unpack::spawn("engine-hash", move || {
            let mut hasher = Hasher::new();
            loop {
                let piece = pieces.fill_buf()?;
                let length = piece.len();
                if length == 0 {
                    return Ok(hasher.finish());
                }
                hasher.update(piece);
                pieces.consume(length);
            }
        })?;
        Ok(Self { sink, thread })
    }

    fn give(&self, piece: Bytes) -> io::Result<()> {
        self.sink.send_blocking(piece).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn finish(self) -> io::Result<Digest> {
        let _ = self.sink.finish_blocking();
        unpack::join(self.thread)
    }
}

/// Where the archive goes: small writes are gathered, large ones handed on as they are.
struct Out {
    sender: mpsc::Sender<Result<Bytes, Error>>,
    buffer: Vec<u8>,
}

impl Out {
    fn send(&mut self, piece: Bytes) -> io::Result<()> {
        self.flush()?;
        self.sender.blocking_send(Ok(piece)).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn finish(out: &mut Self) -> io::Result<()> {
        out.flush()
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let piece = std::mem::take(&mut self.buffer);
        self.sender.blocking_send(Ok(piece.into())).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}
