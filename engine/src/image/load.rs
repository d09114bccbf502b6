//! Loading archives of images, as `docker save` writes them and as OCI layouts, in one pass: layers are unpacked while
//! they pass, before anybody knows which image they are of, and what no image claims is dropped again.

mod archive;
mod layout;

use std::collections::BTreeMap;

use tokio::io::AsyncRead;
use tokio::sync::oneshot;

use super::commit::{Kept, Parts};
use super::task::Reporter;
use super::unpack::{self, PIECE, PIECES};
use super::{Error, Image, Images, Load, Task};
use crate::blob::BlobRecord;
use crate::oci::{Platform, Reference};
use crate::snapshot::decode::Decoded;
use crate::snapshot::pieces::{self, Buffers, Source};

/// An image that was loaded.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The name that it was given, one of several perhaps; `None` for an image without a name.
    pub reference: Option<Reference>,
    /// The image.
    pub image: Image,
}

/// How images are loaded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadOptions {
    /// Only images for this platform; of an index, the one for the host when not given.
    pub platform: Option<Platform>,
}

impl Images {
    /// Loads all images of an archive: one that `docker save` wrote or an OCI layout, plain or compressed (gzip, zstd, xz,
    /// bzip2). Nothing is stored unless everything is sound.
    pub fn load(&self, source: impl AsyncRead + Send + Unpin + 'static) -> Load {
        self.load_with(source, LoadOptions::default())
    }

    /// As [`load`](Self::load), told how.
    pub fn load_with(&self, source: impl AsyncRead + Send + Unpin + 'static, options: LoadOptions) -> Load {
        let images = self.clone();
        Task::new(move |reporter| async move {
            let report = reporter.clone();
            let this = images.clone();
            let loaded = on_thread(source, move |bytes| this.load_blocking(bytes, &options, &report)).await?;
            for Loaded { reference, image } in &loaded {
                reporter.message(
                    None,
                    match reference {
                        Some(reference) => format!("Loaded image: {reference}"),
                        None => format!("Loaded image ID: {}", image.id()),
                    },
                );
            }
            images.keep_to_quota();
            Ok(loaded)
        })
    }

    fn load_blocking(&self, bytes: Source, options: &LoadOptions, reporter: &Reporter) -> Result<Vec<Loaded>, Error> {
        let decoded = Decoded::any(bytes).map_err(unpack::read_error)?;
        let contents = archive::read(self, decoded.into_pieces(Buffers::new(PIECE)), reporter)?;
        let mut found = layout::images(contents, options.platform.as_ref())?;
        for layout::Found { parts, manifest, .. } in &mut found {
            if let Some((bytes, media_type)) = manifest.take() {
                let sealed = self.shared.blobs.put(&bytes)?;
                let record = BlobRecord { size: sealed.size(), media_type, diff_id: None };
                parts.manifest = Some(Kept::new(sealed.digest(), record, Some(sealed)));
            }
        }
        self.sync()?;
        let mut loaded = Vec::new();
        for layout::Found { parts, names, .. } in found {
            let image = self.commit(Parts { names: names.clone(), ..parts })?;
            let shown = names.first().map_or_else(|| image.id().to_string(), ToString::to_string);
            self.announce("load", &image, image.id().as_str(), &shown);
            if names.is_empty() {
                loaded.push(Loaded { reference: None, image });
            } else {
                loaded.extend(names.into_iter().map(|name| Loaded { reference: Some(name), image: image.clone() }));
            }
        }
        Ok(loaded)
    }
}

/// Runs `work` on a thread and feeds it what `source` gives. When this is dropped, the thread meets an error.
pub(super) async fn on_thread<T: Send + 'static>(
    source: impl AsyncRead + Unpin,
    work: impl FnOnce(Source) -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let (sink, bytes) = pieces::channel(PIECES);
    let (sender, receiver) = oneshot::channel();
    unpack::spawn("engine-load", move || {
        let _ = sender.send(work(bytes));
    })?;
    let fed = sink.feed(source, PIECE).await.map_err(Error::Read);
    let result = receiver.await.map_err(|_| Error::Cancelled)?;
    match (fed, result) {
        // The thread met the lost source and says no more than that.
        (Err(error), Err(Error::Cancelled)) => Err(error),
        (_, result) => result,
    }
}

/// The documents of an archive by their path.
type Documents = BTreeMap<String, Vec<u8>>;
