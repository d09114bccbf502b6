//! A layer upon an image: what a container has written becomes an image of its own.

use std::io::{self, BufRead, Read};
use std::path::Path;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::commit::{Part, Parts};
use super::unpack::{self, PIECES};
use super::{Error, Image, Images, change, tag};
use crate::id::ImageId;
use crate::oci::{Digest, History, ImageConfig, Reference, RootFs};
use crate::snapshot::{self, Staged, pieces, tree};

/// An image that is to be made of another one and of changed files.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Layering {
    /// The image below, if it is still there.
    parent: Option<ImageId>,
    /// The layers below, the lowest first.
    layers: Vec<Digest>,
    /// The configuration, of which layers and history are continued.
    pub config: ImageConfig,
    /// The name that the image gets.
    pub reference: Option<Reference>,
    /// What made the layer.
    pub created_by: String,
    /// The remark in the history.
    pub comment: String,
    /// Who made it.
    pub author: String,
    /// Whose files they are: the id of a container, for those who look the image up.
    pub container: String,
    /// How that container was run, for them too.
    pub container_config: Option<serde_json::Value>,
    /// Gone when nobody waits for the image any more.
    wanted: Option<Weak<()>>,
}

impl Layering {
    /// Upon these layers, which are those of `base`.
    pub fn new(base: Option<&Image>, layers: Vec<Digest>) -> Self {
        let config = base.map(|image| image.config().clone()).unwrap_or_default();
        Self { parent: base.map(|image| *image.id()), layers, config, ..Self::default() }
    }

    /// Has the image made only while somebody has this.
    pub fn only_while(&mut self, wanted: &Arc<()>) {
        self.wanted = Some(Arc::downgrade(wanted));
    }

    /// Changes how containers of the image are run: by a document that lies above what is there, then by instructions of
    /// a Dockerfile.
    pub fn change(&mut self, document: Option<serde_json::Value>, changes: &[String]) -> Result<(), Error> {
        if let Some(document) = document.filter(|document| !document.is_null()) {
            self.config.config = change::overlay(std::mem::take(&mut self.config.config), document)?;
        }
        changes.iter().try_for_each(|text| change::apply(&mut self.config.config, text))
    }
}

impl Images {
    /// Makes the image; `upper` is the directory that overlayfs wrote the changed files to. Blocks.
    pub fn layer_on(&self, layering: Layering, upper: &Path) -> Result<Image, Error> {
        tag::only_tag(layering.reference.as_ref())?;
        let staged = self.stage_upper(upper, layering.wanted.clone())?;
        let Layering { parent, layers, mut config, reference, created_by, comment, author, .. } = layering;
        let (container, container_config) = (layering.container, layering.container_config);
        let created = jiff::Timestamp::now().to_string();
        // A history that is not that of the layers below is none.
        if config.history.iter().filter(|step| !step.empty_layer).count() != layers.len() {
            let unknown = || History { created: Some(created.clone()), ..History::default() };
            config.history = layers.iter().map(|_| unknown()).collect();
        }
        let is_empty = staged.unpacked.entries == 0;
        let text = |text: String| Some(text).filter(|text| !text.is_empty());
        config.created = Some(created.clone());
        config.author = text(author.clone());
        for (name, value) in [("container", text(container).map(Into::into)), ("container_config", container_config)] {
            match value {
                Some(value) => config.extra.insert(name.to_owned(), value),
                None => config.extra.remove(name),
            };
        }
        match text(comment.clone()) {
            Some(comment) => config.extra.insert("comment".to_owned(), comment.into()),
            None => config.extra.remove("comment"),
        };
        config.history.push(History {
            created: Some(created),
            created_by: text(created_by),
            author: text(author),
            comment: text(comment),
            empty_layer: is_empty,
        });
        let mut parts: Vec<Part> = layers.iter().copied().map(Part::here).collect();
        if !is_empty {
            let diff_id = staged.diff_id;
            parts.push(Part { staged: Some(staged), ..Part::here(diff_id) });
        }
        let diff_ids = parts.iter().map(|part| part.diff_id).collect();
        config.rootfs = RootFs { kind: "layers".to_owned(), diff_ids };
        let config = serde_json::to_string(&config)
            .map_err(|error| Error::Archive(format!("the configuration cannot be written: {error}")))?;
        self.sync()?;
        let names = reference.clone().into_iter().collect();
        let image = self.commit(Parts { config, layers: parts, names, parent, ..Parts::default() })?;
        self.announce("create", &image, image.id().as_str(), image.id().as_str());
        if let Some(reference) = reference {
            self.announce("tag", &image, image.id().as_str(), &reference.to_string());
        }
        self.keep_to_quota();
        Ok(image)
    }

    /// Packs what was written into an archive that is a layer, and unpacks that: the layer is what any other engine
    /// would make of it.
    fn stage_upper(&self, upper: &Path, wanted: Option<Weak<()>>) -> Result<Staged, Error> {
        if is_given_up(wanted.as_ref()) {
            return Err(Error::Cancelled);
        }
        let (sender, receiver) = mpsc::channel(PIECES);
        let upper = upper.to_owned();
        let packing = unpack::spawn("engine-pack", move || {
            let packed = tree::pack_upper(&upper, sender.clone());
            if let Err(error) = packed {
                // Who unpacks has failed, or hears of it here.
                let _ = sender.blocking_send(Err(error));
            }
        })?;
        let (layers, still) = (self.shared.layers.clone(), wanted.clone());
        let unpacking = unpack::spawn("engine-unpack", move || {
            let mut archive = Packed { receiver, current: Bytes::new(), failure: None, wanted: still };
            let staged = layers.stage()?.unpack_framed(&mut archive);
            match archive.failure {
                Some(failure) => Err(failure),
                None => staged,
            }
        })?;
        let staged = unpack::join(unpacking);
        unpack::join(packing);
        if is_given_up(wanted.as_ref()) {
            return Err(Error::Cancelled);
        }
        Ok(staged?)
    }
}

fn is_given_up(wanted: Option<&Weak<()>>) -> bool {
    wanted.is_some_and(|wanted| wanted.strong_count() == 0)
}

/// What a packer sends, for who reads.
struct Packed {
    receiver: mpsc::Receiver<Result<Bytes, snapshot::Error>>,
    current: Bytes,
    failure: Option<snapshot::Error>,
    wanted: Option<Weak<()>>,
}

impl BufRead for Packed {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.current.is_empty() {
            if is_given_up(self.wanted.as_ref()) {
                return Err(io::Error::other("nobody waits any more"));
            }
            match self.receiver.blocking_recv() {
                Some(Ok(bytes)) => self.current = bytes,
                Some(Err(error)) => {
                    self.failure = Some(error);
                    return Err(io::Error::other("the files cannot be packed"));
                }
                None => break,
            }
        }
        Ok(&self.current)
    }

    fn consume(&mut self, length: usize) {
        let _ = self.current.split_to(length.min(self.current.len()));
    }
}

impl Read for Packed {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        pieces::read_buffered(self, target)
    }
}
