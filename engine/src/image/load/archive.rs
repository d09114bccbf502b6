//! What is in an archive: small documents are kept in memory, layers are unpacked, and everything else is skipped.

use std::collections::{BTreeMap, VecDeque};
use std::io::BufRead;
use std::thread::JoinHandle;

use bytes::Bytes;

use super::super::record::use_now;
use super::super::task::Reporter;
use super::super::unpack::{self, Order, PIECES};
use super::super::{Error, Images};
use super::Documents;
use crate::blob::{BlobRecord, Sealed};
use crate::oci::{Digest, Hasher, ImageConfig};
use crate::snapshot::decode::{self, Encoding};
use crate::snapshot::pieces::{self, Gone, Pieces};
use crate::snapshot::tar::{self, Archive, Kind};
use crate::snapshot::{self, Staged};
use crate::state::{Durability, Table};

/// What an archive holds, before anybody knows what it means.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub(super) documents: Documents,
    pub(super) layers: BTreeMap<String, Layer>,
    /// Entries that are another one under a second name.
    pub(super) aliases: BTreeMap<String, String>,
    /// The unpacked layers, each once.
    pub(super) staged: BTreeMap<Digest, Staged>,
    /// The compressed ones as they came, each once.
    pub(super) sealed: BTreeMap<Digest, Sealed>,
}

/// A layer of the archive.
#[derive(Debug, Clone)]
pub(super) struct Layer {
    pub(super) diff_id: Digest,
    /// What its bytes in the archive are.
    pub(super) digest: Digest,
    /// The bytes as they came, if they were compressed and so kept.
    pub(super) blob: Option<(Digest, BlobRecord)>,
}

/// What is kept in memory in all.
const MAX_DOCUMENTS: u64 = 64 << 20;
const MAX_ENTRIES: usize = 100_000;
/// Layers that are unpacked at the same time.
const AT_ONCE: usize = 3;
const HEAD: usize = 512;

enum Unpacking {
    Plain(JoinHandle<Result<Staged, snapshot::Error>>),
    Any(JoinHandle<Result<unpack::Unpacked, Error>>),
}

struct Reader<'a> {
    images: &'a Images,
    contents: Contents,
    running: VecDeque<(String, Unpacking)>,
    memory: u64,
}

pub(super) fn read(images: &Images, reader: impl Pieces, reporter: &Reporter) -> Result<Contents, Error> {
    let mut archive = Archive::new(reader);
    let mut reader = Reader { images, contents: Contents::default(), running: VecDeque::new(), memory: 0 };
    let mut entries = 0;
    while let Some(entry) = archive.next_entry().map_err(outer)? {
        entries += 1;
        if entries > MAX_ENTRIES {
            return Err(Error::Archive(format!("more than {MAX_ENTRIES} entries")));
        }
        let Some(path) = path(&entry.path) else {
            return Err(Error::Archive(format!("invalid name {:?}", tar::show(&entry.path))));
        };
        match entry.kind {
            Kind::File => reader.file(&mut archive, path, reporter)?,
            Kind::Symlink | Kind::Link => {
                let target = match entry.kind {
                    // `docker save` made links to layers that several images have: `../<id>/layer.tar`.
                    Kind::Symlink => beside(&path, &entry.link),
                    _ => self::path(&entry.link),
                };
                if let Some(target) = target {
                    reader.contents.aliases.insert(path, target);
                }
            }
            Kind::Directory => {}
            Kind::Character | Kind::Block | Kind::Fifo => {
                return Err(Error::Archive(format!("{path:?} is neither a file nor a directory")));
            }
        }
    }
    while !reader.running.is_empty() {
        reader.join()?;
    }
    Ok(reader.contents)
}

impl Reader<'_> {
    fn file<R: Pieces>(&mut self, archive: &mut Archive<R>, path: String, reporter: &Reporter) -> Result<(), Error> {
        let size = archive.rest();
        let mut head = Vec::with_capacity(HEAD);
        while head.len() < HEAD {
            let chunk = archive.chunk().map_err(outer)?;
            let length = chunk.len().min(HEAD - head.len());
            if length == 0 {
                break;
            }
            head.extend_from_slice(&chunk[..length]);
            archive.consume(length);
        }
        let is_json = matches!(head.trim_ascii_start().first(), Some(b'{' | b'['));
        if is_json && size <= ImageConfig::MAX_SIZE {
            self.memory += size;
            if self.memory > MAX_DOCUMENTS {
                return Err(Error::Archive(format!("its documents have more than {MAX_DOCUMENTS} bytes")));
            }
            let rest = archive.contents(size).map_err(outer)?.unwrap_or_default();
            head.extend_from_slice(&rest);
            self.contents.documents.insert(path, head);
            return Ok(());
        }
        let encoding = decode::recognise(&head);
        if !encoding.is_of_layers() {
            let what = encoding.name();
            return Err(Error::Unsupported(format!("{path:?} is compressed with {what}, which no layer may be")));
        }
        if encoding == Encoding::Plain && !tar::looks_like_tar(&head) {
            return Ok(());
        }
        if encoding == Encoding::Plain
            && let Some(layer) = self.known(&path)?
        {
            return self.check(archive, &head, path, layer);
        }
        // Those who want to hear only what was loaded do not hear what has an id, and wait for the first word they get.
        let id = path.rsplit('/').find(|part| *part != "layer.tar").unwrap_or(&path);
        reporter.message(Some(id.get(..12).unwrap_or(id)), format!("Loading layer of {size} bytes"));
        self.unpack(archive, Bytes::from(head), path, encoding)
    }

    /// A layer whose place in the archive names a digest that is here already.
    fn known(&self, path: &str) -> Result<Option<Digest>, Error> {
        let Some(digest) = path.strip_prefix("blobs/sha256/").and_then(|hex| Digest::from_hex(hex).ok()) else {
            return Ok(None);
        };
        let shared = &self.images.shared;
        let layer = shared.state.read(|state| shared.layers.get(state, &digest))?;
        if layer.is_some() && self.images.room.quota.is_some() {
            // Whoever makes room is not to take it away before the image of this archive holds it.
            shared.state.write(Durability::Process, |tx| {
                for (table, holder) in tx.holders((Table::Layer, &digest.to_string()))? {
                    if table == Table::Image {
                        use_now(tx, &holder)?;
                    }
                }
                Ok::<_, Error>(())
            })?;
        }
        Ok(layer.map(|layer| layer.diff_id))
    }

    /// Only hashes a layer that is there.
    fn check<R: BufRead>(
        &mut self,
        archive: &mut Archive<R>,
        head: &[u8],
        path: String,
        diff_id: Digest,
    ) -> Result<(), Error> {
        let mut hasher = Hasher::new();
        hasher.update(head);
        loop {
            let chunk = archive.chunk().map_err(outer)?;
            let length = chunk.len();
            if length == 0 {
                break;
            }
            hasher.update(chunk);
            archive.consume(length);
        }
        let found = hasher.finish();
        if found != diff_id {
            return Err(snapshot::Error::Mismatch { expected: diff_id, found }.into());
        }
        self.contents.layers.insert(path, Layer { diff_id, digest: diff_id, blob: None });
        Ok(())
    }

    fn unpack<R: Pieces>(
        &mut self,
        archive: &mut Archive<R>,
        head: Bytes,
        path: String,
        encoding: Encoding,
    ) -> Result<(), Error> {
        if self.running.len() >= AT_ONCE {
            self.join()?;
        }
        let layers = self.images.shared.layers.clone();
        let whole = if encoding == Encoding::Plain {
            // This thread has little to do otherwise, and the one that unpacks has more than it can do.
            let (mut sink, bytes) = pieces::hashed(PIECES);
            self.running.push_back((path, Unpacking::Plain(unpack::plain(&layers, bytes)?)));
            pass(archive, head, |piece| sink.send(piece))? && sink.finish().is_ok()
        } else {
            let (sink, bytes) = pieces::channel(PIECES);
            let order = Order { layers, blob: self.images.kept_blob()?, digest: None, diff_id: None };
            self.running.push_back((path, Unpacking::Any(unpack::any(order, bytes)?)));
            pass(archive, head, |piece| sink.send_blocking(piece))? && sink.finish_blocking().is_ok()
        };
        match whole {
            true => Ok(()),
            // The last thread has failed; the ones before it may have, too, and are asked first.
            false => {
                while !self.running.is_empty() {
                    self.join()?;
                }
                Err(Error::Cancelled)
            }
        }
    }

    fn join(&mut self) -> Result<(), Error> {
        let Some((path, unpacking)) = self.running.pop_front() else { return Ok(()) };
        let (staged, digest, blob) = match unpacking {
            Unpacking::Plain(thread) => {
                let staged = unpack::join(thread)?;
                let digest = staged.diff_id;
                (staged, digest, None)
            }
            Unpacking::Any(thread) => {
                let unpacked = unpack::join(thread)?;
                let media_type = match unpacked.encoding {
                    Encoding::Zstd => crate::oci::media_type::OCI_LAYER_ZSTD,
                    _ => crate::oci::media_type::OCI_LAYER_GZIP,
                };
                let diff_id = Some(unpacked.staged.diff_id);
                let blob = unpacked.blob.map(|blob| {
                    let record = BlobRecord { size: blob.size(), media_type: media_type.to_owned(), diff_id };
                    let digest = blob.digest();
                    self.contents.sealed.entry(digest).or_insert(blob);
                    (digest, record)
                });
                (unpacked.staged, unpacked.digest, blob)
            }
        };
        let diff_id = staged.diff_id;
        self.contents.layers.insert(path, Layer { diff_id, digest, blob });
        self.contents.staged.entry(diff_id).or_insert(staged);
        Ok(())
    }
}

/// Hands the rest of an entry on: whether the other side took it all.
fn pass<R: Pieces>(
    archive: &mut Archive<R>,
    head: Bytes,
    mut send: impl FnMut(Bytes) -> Result<(), Gone>,
) -> Result<bool, Error> {
    let mut piece = head;
    while !piece.is_empty() {
        if send(piece).is_err() {
            return Ok(false);
        }
        piece = archive.piece().map_err(outer)?;
    }
    Ok(true)
}

fn outer(error: tar::Error) -> Error {
    match error {
        tar::Error::Read(error) => unpack::read_error(error),
        other => Error::Archive(other.to_string()),
    }
}

/// A name as a path within the archive, without `.`, `..` or a leading `/`. It is only ever a key.
fn path(name: &[u8]) -> Option<String> {
    beside("", name)
}

fn beside(path: &str, name: &[u8]) -> Option<String> {
    let name = std::str::from_utf8(name).ok()?;
    let directory =
        if name.starts_with('/') { "" } else { path.rsplit_once('/').map_or("", |(directory, _)| directory) };
    let mut parts: Vec<&str> = Vec::new();
    for part in directory.split('/').chain(name.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            _ => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_keys_that_stay_within_the_archive() {
        assert_eq!(path(b"./a//b/../c").as_deref(), Some("a/c"));
        assert_eq!(path(b"../a"), None);
        assert_eq!(beside("x/layer.tar", b"../y/layer.tar").as_deref(), Some("y/layer.tar"));
        assert_eq!(beside("x/layer.tar", b"../../etc/passwd"), None);
        assert_eq!(beside("x/layer.tar", b"/y").as_deref(), Some("y"));
    }
}
