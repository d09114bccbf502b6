//! Saving: one archive that is an OCI layout and what `docker save` writes at once. Layers go into it as they are stored,
//! and nothing is compressed anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt as _;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use engine_sys::transfer;
use futures_util::Stream;
use serde::Serialize;
use tokio::sync::mpsc;

use super::contents::{Contents, Form, Packed, descriptor};
use super::unpack::{self, PIECE, PIECES};
use super::{Error, Image, Images, find};
use crate::oci::{Descriptor, Digest, Index, Manifest, Platform, Reference, media_type};
use crate::snapshot::Part;
use crate::snapshot::pieces::{Buffer, Buffers};
use crate::snapshot::tar::{Entry, Kind, Writer};

/// An archive of images, which is made while it is taken: as a stream of its bytes, whose last item is the failure if there is one, or
/// by [`write_to`](Self::write_to).
pub struct Saved {
    length: u64,
    progress: Progress,
}

/// How far it has come.
enum Progress {
    /// Nobody has asked for anything.
    Whole(Images, Vec<Chosen>),
    Begun(mpsc::Receiver<Result<Bytes, Error>>),
    Ended,
}

impl Saved {
    /// Bytes of the whole archive.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Writes the archive, or what the stream has not given of it, to a file, a pipe or a stream socket; non-blocking ones are waited
    /// for. The kernel copies what lies in files, so that this is as fast as copying is. Blocks.
    ///
    /// # Errors
    /// When a part of an image is not what it was, or cannot be written; [`Error::Cancelled`] when nobody reads any more. What has
    /// been written by then stays.
    ///
    /// # Panics
    /// Within a task, when the stream has been begun with: what blocks is for threads of its own.
    pub fn write_to(self, target: impl AsFd) -> Result<(), Error> {
        let target = target.as_fd();
        match self.progress {
            Progress::Whole(images, chosen) => {
                images.write_archive(&chosen, &mut Direct { target, buffer: Vec::with_capacity(PIECE) })
            }
            Progress::Begun(mut receiver) => {
                while let Some(piece) = receiver.blocking_recv() {
                    transfer::send(target, &piece?).map_err(write_error)?;
                }
                Ok(())
            }
            Progress::Ended => Ok(()),
        }
    }

    /// Begins to make the archive, on a thread.
    fn begin(images: Images, chosen: Vec<Chosen>) -> Result<mpsc::Receiver<Result<Bytes, Error>>, Error> {
        let (sender, receiver) = mpsc::channel(PIECES);
        unpack::spawn("engine-save", move || {
            let mut out = Pieces { sender, buffers: Buffers::new(PIECE), current: None };
            if let Err(error) = images.write_archive(&chosen, &mut out) {
                // Whoever reads has gone, or wants to know.
                let _ = out.sender.blocking_send(Err(error));
            }
        })?;
        Ok(receiver)
    }
}

impl fmt::Debug for Saved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Saved").field("length", &self.length).finish_non_exhaustive()
    }
}

impl Stream for Saved {
    type Item = Result<Bytes, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.progress = match std::mem::replace(&mut self.progress, Progress::Ended) {
            Progress::Whole(images, chosen) => match Self::begin(images, chosen) {
                Ok(receiver) => Progress::Begun(receiver),
                Err(error) => return Poll::Ready(Some(Err(error))),
            },
            other => other,
        };
        match &mut self.progress {
            Progress::Begun(receiver) => receiver.poll_recv(context),
            _ => Poll::Ready(None),
        }
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
        let work = move || {
            let chosen = images.chosen(&names, platform.as_ref())?;
            let mut counter = Counter::default();
            images.write_archive(&chosen, &mut counter)?;
            Ok(Saved { length: counter.length, progress: Progress::Whole(images, chosen) })
        };
        tokio::task::spawn_blocking(work).await.map_err(|_| Error::Cancelled)?
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

    fn write_archive(&self, chosen: &[Chosen], out: &mut impl Out) -> Result<(), Error> {
        let mut archive = Archive { writer: Writer::new(out), written: BTreeSet::new() };
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
        archive.writer.finish().and_then(Write::flush).map_err(write_error)
    }

    /// Writes a layer, once.
    fn write_layer<O: Out>(&self, archive: &mut Archive<'_, O>, layer: &Packed) -> Result<(), Error> {
        if !archive.written.insert(layer.digest) {
            return Ok(());
        }
        archive.header(&format!("blobs/sha256/{}", layer.digest.hex()), layer.size)?;
        if !archive.out().counts(layer.size) {
            match layer.form {
                Form::Framed => self.write_framed(archive.out(), layer)?,
                Form::Blob | Form::Absent => {
                    let file = self.shared.blobs.file(&layer.digest)?;
                    let found = file.metadata().map_err(Error::Read)?.len();
                    if found != layer.size {
                        return Err(incomplete(layer, format!("its blob has {found} bytes instead of {}", layer.size)));
                    }
                    archive.out().file(&file, 0, found).map_err(|error| file_error(layer, error))?;
                }
            }
        }
        archive.pad(layer.size)
    }

    /// Puts the archive of a layer together. It was hashed when the layer was unpacked; where a file was touched since then, it is
    /// hashed once more before anything behind that file goes on.
    fn write_framed(&self, out: &mut impl Out, layer: &Packed) -> Result<(), Error> {
        let lost = |error: io::Error| incomplete(layer, error);
        let mut rebuilt = self.shared.layers.archive(&layer.diff_id)?;
        let (mut written, mut is_checked) = (0_u64, false);
        loop {
            let touched = rebuilt.is_touched();
            if touched && !is_checked && !self.gives_archive(&layer.diff_id)? {
                return Err(incomplete(layer, "its files are not what they were when it was unpacked"));
            }
            is_checked |= touched;
            match rebuilt.part().map_err(lost)? {
                Some(Part::Bytes(bytes)) => {
                    written += bytes.len() as u64;
                    out.write_all(bytes).map_err(write_error)?;
                }
                Some(Part::File(file, at, length)) => {
                    written += length;
                    out.file(file, at, length).map_err(|error| file_error(layer, error))?;
                }
                None => break,
            }
            if written > layer.size {
                break;
            }
        }
        if written != layer.size {
            return Err(incomplete(layer, format!("its archive has not the {} bytes that it had", layer.size)));
        }
        Ok(())
    }
}

fn incomplete(layer: &Packed, why: impl fmt::Display) -> Error {
    Error::Incomplete(format!("layer {}: {why}", layer.diff_id))
}

/// What it means that the archive cannot be written.
fn write_error(error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Error::Cancelled,
        _ => Error::Write(error),
    }
}

/// The same for contents of a file, which may be what is wrong.
fn file_error(layer: &Packed, error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => incomplete(layer, error),
        _ => write_error(error),
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

struct Archive<'a, O> {
    writer: Writer<&'a mut O>,
    written: BTreeSet<Digest>,
}

impl<O: Out> Archive<'_, O> {
    fn out(&mut self) -> &mut O {
        self.writer.get_mut()
    }

    fn directory(&mut self, path: &str) -> Result<(), Error> {
        self.writer.entry(&Entry::new(Kind::Directory, format!("{path}/"), 0o755), b"").map_err(write_error)
    }

    fn file(&mut self, path: &str, contents: &[u8]) -> Result<(), Error> {
        self.writer.entry(&Entry::new(Kind::File, path, 0o644), contents).map_err(write_error)
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
        self.writer.header(&entry).map_err(write_error)
    }

    fn pad(&mut self, size: u64) -> Result<(), Error> {
        self.writer.pad(size).map_err(write_error)
    }
}

/// Where an archive goes.
trait Out: Write {
    /// Takes `length` bytes of a file, from `at` on.
    fn file(&mut self, file: &File, at: u64, length: u64) -> io::Result<()>;

    /// Whether it only wants to know how much there is, of which these bytes are a part.
    fn counts(&mut self, _size: u64) -> bool {
        false
    }
}

/// How long the archive is.
#[derive(Default)]
struct Counter {
    length: u64,
}

impl Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.length += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Out for Counter {
    fn file(&mut self, _file: &File, _at: u64, length: u64) -> io::Result<()> {
        self.length += length;
        Ok(())
    }

    fn counts(&mut self, size: u64) -> bool {
        self.length += size;
        true
    }
}

/// To whoever reads pieces.
struct Pieces {
    sender: mpsc::Sender<Result<Bytes, Error>>,
    buffers: Buffers,
    /// What is not handed on yet, and how much of it is filled.
    current: Option<(Buffer, usize)>,
}

impl Pieces {
    /// Has `fill` put something into what is free: how much that was.
    fn fill(&mut self, fill: impl FnOnce(&mut [u8]) -> io::Result<usize>) -> io::Result<usize> {
        let (buffer, filled) = self.current.get_or_insert_with(|| (self.buffers.take(), 0));
        let length = fill(&mut buffer[*filled..])?;
        *filled += length;
        if *filled == buffer.len() {
            self.flush()?;
        }
        Ok(length)
    }
}

impl Write for Pieces {
    fn write(&mut self, mut bytes: &[u8]) -> io::Result<usize> {
        self.fill(|free| bytes.read(free))
    }

    fn flush(&mut self) -> io::Result<()> {
        let Some((buffer, filled)) = self.current.take() else { return Ok(()) };
        self.sender.blocking_send(Ok(buffer.filled(filled))).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Out for Pieces {
    fn file(&mut self, file: &File, mut at: u64, length: u64) -> io::Result<()> {
        let end = at + length;
        while at < end {
            let left = usize::try_from(end - at).unwrap_or(usize::MAX);
            let read = self.fill(|free| {
                let length = free.len().min(left);
                file.read_at(&mut free[..length], at)
            })?;
            if read == 0 {
                return Err(shorter());
            }
            at += read as u64;
        }
        Ok(())
    }
}

/// A file, a pipe or a socket, to which the kernel hands on what lies in files.
struct Direct<'a> {
    target: BorrowedFd<'a>,
    buffer: Vec<u8>,
}

/// A file that has less than that, in bytes, is gathered with what is around it: each call costs more than the copy.
const LARGE: u64 = 32 << 10;

impl Write for Direct<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.len() + bytes.len() > PIECE {
            self.flush()?;
        }
        self.buffer.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        transfer::send(self.target, &self.buffer)?;
        self.buffer.clear();
        Ok(())
    }
}

impl Out for Direct<'_> {
    fn file(&mut self, file: &File, at: u64, length: u64) -> io::Result<()> {
        if length >= LARGE {
            self.flush()?;
            return transfer::send_file(self.target, file, at, length);
        }
        if self.buffer.len() as u64 + length > PIECE as u64 {
            self.flush()?;
        }
        let begin = self.buffer.len();
        self.buffer.resize(begin + usize::try_from(length).unwrap_or(0), 0);
        file.read_exact_at(&mut self.buffer[begin..], at).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => shorter(),
            _ => error,
        })
    }
}

fn shorter() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "a file has become shorter")
}
