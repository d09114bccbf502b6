//! Making an image of one tree of files, in the process, without a builder.

use std::io;

use bytes::Bytes;
use futures_util::{Stream, stream};
use tokio::io::AsyncRead;
use tokio_util::io::StreamReader;

use super::commit::{Part, Parts};
use super::load::on_thread;
use super::task::{Meter, Reporter, Status};
use super::unpack::{self, PIECE, PIECES};
use super::{Error, Image, Images, Import, Rootfs, Task, tag};
use crate::oci::{History, ImageConfig, Platform, Reference, RootFs};
use crate::registry::WebFile;
use crate::snapshot::decode::{Decoded, Peeked};
use crate::snapshot::pieces::{self, Buffers, Pieces, Source};
use crate::snapshot::{Staged, tar};

/// What an imported image says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImportOptions {
    /// The name it gets.
    pub reference: Option<Reference>,
    /// How its containers are run, its author, its platform (the host's if it has none). Layers and history are set.
    pub config: ImageConfig,
    /// The remark in its history.
    pub message: String,
}

impl ImportOptions {
    /// An image of this name, and nothing else said.
    pub fn named(reference: Reference) -> Self {
        Self { reference: Some(reference), ..Self::default() }
    }

    /// Sets [`ImportOptions::config`].
    #[must_use]
    pub fn config(mut self, config: ImageConfig) -> Self {
        self.config = config;
        self
    }

    /// Sets what containers run when they are told nothing.
    #[must_use]
    pub fn command<S: Into<String>>(mut self, command: impl IntoIterator<Item = S>) -> Self {
        self.config.config.cmd = Some(command.into_iter().map(Into::into).collect());
        self
    }

    /// Applies a change, written as an instruction of a Dockerfile: `CMD`, `ENV`, `LABEL` and so on.
    pub fn change(mut self, text: &str) -> Result<Self, Error> {
        super::change::apply(&mut self.config.config, text)?;
        Ok(self)
    }

    /// Adds a variable, as `NAME=value`.
    #[must_use]
    pub fn env(mut self, variable: impl Into<String>) -> Self {
        self.config.config.env.push(variable.into());
        self
    }
}

/// The bytes of a file, and how many there are of them so far.
fn coming(file: WebFile, name: String, reporter: Reporter) -> impl Stream<Item = io::Result<Bytes>> + Send {
    let total = file.size().unwrap_or(0);
    stream::unfold((file, 0, Meter::new()), move |(mut file, mut current, mut meter)| {
        let (name, reporter) = (name.clone(), reporter.clone());
        async move {
            let chunk = file.chunk().await.map_err(io::Error::other).transpose()?;
            current += chunk.as_ref().map_or(0, |bytes| bytes.len() as u64);
            if meter.is_due() {
                reporter.tell(Some(&name), Status::Downloading { current, total });
            }
            Some((chunk, (file, current, meter)))
        }
    })
}

impl Images {
    /// Makes an image with one layer of a root file system's archive: tar, plain or compressed (gzip, zstd, xz, bzip2).
    pub fn import(&self, archive: impl AsyncRead + Send + Unpin + 'static, options: ImportOptions) -> Import {
        let images = self.clone();
        Task::new(move |reporter| async move {
            tag::only_tag(options.reference.as_ref())?;
            let this = images.clone();
            let image = on_thread(archive, move |bytes| this.import_blocking(bytes, options)).await?;
            reporter.message(None, image.id().as_str());
            images.keep_to_quota();
            Ok(image)
        })
    }

    /// The same of an archive on the web, by its address: `http://` or `https://`.
    pub fn import_from(&self, address: &str, options: ImportOptions) -> Import {
        let (images, address) = (self.clone(), address.to_owned());
        Task::new(move |reporter| async move {
            tag::only_tag(options.reference.as_ref())?;
            reporter.message(None, format!("Downloading from {address}"));
            let file = images.shared.registry.file(&address).await?;
            let name = address.split(['?', '#']).next().and_then(|path| path.rsplit('/').next());
            let name = name.unwrap_or_default().to_owned();
            let archive = StreamReader::new(Box::pin(coming(file, name, reporter.clone())));
            let this = images.clone();
            let image = on_thread(archive, move |bytes| this.import_blocking(bytes, options)).await?;
            reporter.message(None, image.id().as_str());
            images.keep_to_quota();
            Ok(image)
        })
    }

    /// Makes an image of files that the program has at hand.
    pub fn build_from(&self, rootfs: Rootfs, options: ImportOptions) -> Import {
        self.import(io::Cursor::new(rootfs.into_archive()), options)
    }

    fn import_blocking(&self, bytes: Source, options: ImportOptions) -> Result<Image, Error> {
        let staged = self.stage_archive(bytes)?;
        let ImportOptions { reference, mut config, message } = options;
        let host = Platform::host();
        if config.os.is_empty() {
            config.os = host.os;
        }
        if config.architecture.is_empty() {
            (config.architecture, config.variant) = (host.architecture, host.variant);
        }
        let created = jiff::Timestamp::now().to_string();
        config.created.get_or_insert_with(|| created.clone());
        let diff_id = staged.diff_id;
        config.rootfs = RootFs { kind: "layers".to_owned(), diff_ids: vec![diff_id] };
        config.history = vec![History { created: Some(created), comment: Some(message), ..History::default() }];
        let config = serde_json::to_string(&config)
            .map_err(|error| Error::Archive(format!("the configuration cannot be written: {error}")))?;
        self.sync()?;
        let image = self.commit(Parts {
            config,
            layers: vec![Part { staged: Some(staged), ..Part::here(diff_id) }],
            names: reference.clone().into_iter().collect(),
            ..Parts::default()
        })?;
        let shown = reference.map_or_else(|| image.id().to_string(), |reference| reference.to_string());
        self.announce("import", &image, image.id().as_str(), &shown);
        Ok(image)
    }

    fn stage_archive(&self, bytes: Source) -> Result<Staged, Error> {
        let decoded = Decoded::any(bytes).map_err(unpack::read_error)?;
        let mut contents = Peeked::new(decoded.into_pieces(Buffers::new(PIECE)), 512).map_err(unpack::read_error)?;
        if !tar::looks_like_tar(contents.head()) {
            return Err(Error::Archive("it is no tar archive".to_owned()));
        }
        let (mut sink, archive) = pieces::hashed(PIECES);
        let unpacking = unpack::plain(&self.shared.layers, archive)?;
        let pumped: Result<(), Error> = (|| {
            loop {
                let piece = contents.piece(PIECE).map_err(unpack::read_error)?;
                if piece.is_empty() {
                    let _ = sink.finish();
                    return Ok(());
                }
                if sink.send(piece).is_err() {
                    return Ok(());
                }
            }
        })();
        let staged = unpack::join(unpacking);
        pumped?;
        Ok(staged?)
    }
}
