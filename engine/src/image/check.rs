//! Checking what is stored: blobs against their digests, unpacked layers against the archives that they came from, and
//! records against each other. What is damaged is made anew from what is here, or fetched again: see [`mend`](super::mend).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{BufReader, Read};
use std::sync::Arc;

use engine_sys::file::is_shortage;
use tokio::sync::oneshot;

use super::mend::give_up_on_the_rest;
use super::task::Reporter;
use super::unpack::{self, PIECE};
use super::{Error, Image, Images, Task};
use crate::blob::BlobRecord;
use crate::id::{ContainerId, ImageId};
use crate::oci::{Digest, Hasher};
use crate::registry::Auth;
use crate::snapshot::decode::Decoded;
use crate::snapshot::{self, LayerRecord, Staged};
use crate::state::{Durability, Table};

/// How everything is checked.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct CheckOptions {
    /// Repair what can be repaired.
    pub repair: bool,
    /// The containers that run or may be started before the check is over: the layers beneath them are not exchanged.
    pub running: BTreeSet<ContainerId>,
    /// Who asks a registry for what has to be fetched again, by the name of the registry; anybody when it is not in here.
    pub auth: BTreeMap<String, Auth>,
}

/// What was checked, and what is wrong with it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Checked {
    /// Blobs that were read.
    pub blobs: usize,
    /// Layers that were compared.
    pub layers: usize,
    /// Files and records that nobody needs, which go by themselves or with a repair.
    pub leftovers: usize,
    /// What is wrong, or was.
    pub problems: Vec<Problem>,
}

impl Checked {
    /// Whether nothing is wrong any more.
    pub fn is_sound(&self) -> bool {
        self.problems.iter().all(|problem| matches!(problem.outcome, Outcome::Repaired(_)))
    }
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Problem {
    /// What it is wrong with.
    pub subject: Subject,
    /// What is wrong.
    pub found: String,
    /// The images that suffer.
    pub images: Vec<String>,
    /// What has become of it.
    pub outcome: Outcome,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.subject, self.found)
    }
}

/// What may be wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Subject {
    /// A stored blob.
    Blob(Digest),
    /// An unpacked layer, by the digest of its archive.
    Layer(Digest),
    /// An image.
    Image(ImageId),
    /// A record of the state that cannot be read, by its key.
    Record(String),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blob(digest) => write!(f, "blob {digest}"),
            Self::Layer(diff_id) => write!(f, "layer {diff_id}"),
            Self::Image(id) => write!(f, "image {id}"),
            Self::Record(key) => write!(f, "record of {key}"),
        }
    }
}

/// What has become of a problem.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// Nobody asked to repair it.
    Found,
    /// It was repaired, and how.
    Repaired(String),
    /// It cannot be repaired here, and why.
    Beyond(String),
}

/// What the state says is there.
#[derive(Debug, Default)]
pub(super) struct Inventory {
    pub(super) images: Vec<Image>,
    blobs: BTreeMap<Digest, Option<BlobRecord>>,
    layers: BTreeMap<Digest, Option<LayerRecord>>,
    problems: Vec<Problem>,
}

impl Images {
    /// Checks everything that is stored, byte for byte, and repairs it if that is asked for. What others do meanwhile is
    /// not disturbed. Layers are unpacked a second time, one after the other, so there must be room for the largest.
    pub fn check(&self, options: CheckOptions) -> Task<Checked> {
        let images = self.clone();
        Task::new(move |reporter| async move { images.check_all(&options, &reporter).await })
    }

    async fn check_all(&self, options: &CheckOptions, reporter: &Reporter) -> Result<Checked, Error> {
        let (images, repairs) = (self.clone(), options.repair);
        let begin = move || {
            if repairs {
                images.collect_garbage()?;
            }
            Ok((images.leftovers()?, images.inventory()?))
        };
        let (leftovers, Inventory { images, blobs, layers, problems }) = blocking(begin).await?;
        let mut checked = Checked { leftovers, problems, ..Checked::default() };

        let mut damaged = BTreeSet::new();
        let mut found = Vec::new();
        for (digest, record) in blobs {
            reporter.message(Some(&digest.short()), "Checking blob");
            checked.blobs += 1;
            let this = self.clone();
            let look = move || {
                let fault = match record {
                    None => Some("it is not recorded".to_owned()),
                    Some(record) => this.shared.blobs.fault(&digest, &record)?,
                };
                Ok(fault.filter(|_| this.is_wanted(Table::Blob, &digest)))
            };
            if let Some(fault) = blocking(look).await? {
                damaged.insert(digest);
                found.push(problem(Subject::Blob(digest), fault, &images));
            }
        }
        if options.repair {
            self.fetch_again(&mut found, options, reporter).await?;
            let repaired = found.iter().filter(|problem| matches!(problem.outcome, Outcome::Repaired(_)));
            for problem in repaired {
                if let Subject::Blob(digest) = problem.subject {
                    damaged.remove(&digest);
                }
            }
        }
        checked.problems.append(&mut found);

        let damaged = Arc::new(damaged);
        for (diff_id, record) in layers {
            reporter.message(Some(&diff_id.short()), "Checking layer");
            checked.layers += 1;
            let Some((fault, staged)) = self.examine(diff_id, record, damaged.clone()).await? else { continue };
            let mut problem = problem(Subject::Layer(diff_id), fault, &images);
            match staged {
                Some(staged) if options.repair => problem.outcome = self.exchange(staged, options).await?,
                _ => {}
            }
            found.push(problem);
        }
        if options.repair {
            self.fetch_again(&mut found, options, reporter).await?;
        }
        checked.problems.append(&mut found);
        if options.repair {
            give_up_on_the_rest(&mut checked.problems);
        }
        Ok(checked)
    }

    /// What the state says is there, and where it contradicts itself.
    fn inventory(&self) -> Result<Inventory, Error> {
        self.shared.state.read(|state| {
            let mut inventory = Inventory::default();
            for key in state.keys(Table::Blob)? {
                let Ok(digest) = key.parse() else { continue };
                inventory.blobs.insert(digest, state.get(Table::Blob, &key)?);
            }
            for key in state.keys(Table::Layer)? {
                let Ok(diff_id) = key.parse() else { continue };
                inventory.layers.insert(diff_id, state.get(Table::Layer, &key)?);
            }
            for key in state.keys(Table::Image)? {
                let Ok(id) = key.parse::<ImageId>() else { continue };
                let Some(image) = Image::read(state, &id)? else { continue };
                if Digest::of(image.raw_config().as_bytes()) != Digest::from(&id) {
                    let found = "its configuration is that of another image".to_owned();
                    inventory.problems.push(problem(Subject::Image(id), found, std::slice::from_ref(&image)));
                }
                for diff_id in image.layers() {
                    inventory.layers.entry(*diff_id).or_insert(None);
                }
                if let Some(manifest) = image.manifest() {
                    inventory.blobs.entry(manifest).or_insert(None);
                }
                inventory.images.push(image);
            }
            for damaged in state.quarantined()? {
                if matches!(damaged.table, Table::Image | Table::Tag | Table::Layer | Table::Blob) {
                    let subject = Subject::Record(format!("{} {}", damaged.table, damaged.key));
                    inventory.problems.push(problem(subject, damaged.reason, &[]));
                }
            }
            Ok(inventory)
        })
    }

    /// Whether a problem still is one: what others have removed meanwhile is none.
    fn is_wanted(&self, table: Table, digest: &Digest) -> bool {
        let held = self.shared.state.read(|state| state.holders((table, &digest.to_string())));
        held.is_ok_and(|holders| !holders.is_empty())
    }

    /// Unpacks a layer again and compares: what is wrong, and the layer as it should be if that can be had here.
    async fn examine(
        &self,
        diff_id: Digest,
        record: Option<LayerRecord>,
        damaged: Arc<BTreeSet<Digest>>,
    ) -> Result<Option<(String, Option<Staged>)>, Error> {
        let images = self.clone();
        let (sender, receiver) = oneshot::channel();
        // A thread of its own, since unpacking gives it a umask of its own.
        unpack::spawn("engine-check", move || {
            let found = images.examine_blocking(diff_id, record, &damaged);
            let found = found.map(|found| found.filter(|_| images.is_wanted(Table::Layer, &diff_id)));
            let _ = sender.send(found);
        })?;
        receiver.await.map_err(|_| Error::Cancelled)?
    }

    fn examine_blocking(
        &self,
        diff_id: Digest,
        record: Option<LayerRecord>,
        damaged: &BTreeSet<Digest>,
    ) -> Result<Option<(String, Option<Staged>)>, Error> {
        let Some(record) = record else { return Ok(Some(("it is not recorded".to_owned(), None))) };
        let (layers, blobs) = (&self.shared.layers, &self.shared.blobs);
        let is_blob = |digest: &Digest| self.shared.state.read(|state| blobs.get(state, digest));
        let blob = match record.blob {
            Some(digest) if !damaged.contains(&digest) => is_blob(&digest)?.map(|_| digest),
            _ => None,
        };
        if blob.is_none() && !record.framing {
            // Without either nobody knows what it should be; that the blob is damaged has been said.
            let is_said = record.blob.is_some_and(|digest| damaged.contains(&digest));
            return Ok((!is_said).then(|| ("nothing is kept that it could be compared with".to_owned(), None)));
        }
        let staged = match blob {
            Some(blob) => {
                let bytes = BufReader::with_capacity(PIECE, blobs.file(&blob)?);
                let decoded = Decoded::new(bytes).map_err(unpack::read_error)?;
                layers.unpack_decoded(decoded, record.framing).map_err(snapshot::Error::from)
            }
            None => match layers.archive(&diff_id) {
                Ok(archive) => layers.stage()?.unpack_framed(BufReader::with_capacity(PIECE, archive)),
                Err(error) => Err(error),
            },
        };
        let staged = match staged {
            Ok(staged) => staged,
            // There is no room, or the host has failed: that says nothing about the layer.
            Err(error) if is_of_the_host(&error) => return Err(error.into()),
            Err(error) => return Ok(Some((error.to_string(), None))),
        };
        if staged.diff_id != diff_id {
            return Ok(Some((format!("its files are not those of its archive, but of {}", staged.diff_id), None)));
        }
        if let Some(difference) = layers.difference(&staged)? {
            return Ok(Some((difference, Some(staged))));
        }
        if blob.is_some() && record.framing && !self.gives_archive(&diff_id)? {
            return Ok(Some(("its archive cannot be put together again".to_owned(), Some(staged))));
        }
        Ok(None)
    }

    pub(super) fn gives_archive(&self, diff_id: &Digest) -> Result<bool, Error> {
        let mut archive = match self.shared.layers.archive(diff_id) {
            Ok(archive) => archive,
            Err(error) if is_of_the_host(&error) => return Err(error.into()),
            Err(_) => return Ok(false),
        };
        let (mut hasher, mut piece) = (Hasher::new(), vec![0; PIECE]);
        loop {
            match archive.read(&mut piece) {
                Ok(0) => return Ok(hasher.finish() == *diff_id),
                Ok(length) => hasher.update(&piece[..length]),
                Err(error) if is_shortage(&error) => return Err(Error::Read(error)),
                Err(_) => return Ok(false),
            }
        }
    }

    /// Counts what crashed programs left. Nobody commits meanwhile, so that nothing is on its way.
    fn leftovers(&self) -> Result<usize, Error> {
        let shared = &self.shared;
        shared.state.write(Durability::Process, |tx| {
            let mut count = shared.layers.leftovers(tx)? + shared.blobs.leftovers(tx)?;
            for table in [Table::Layer, Table::Blob] {
                for key in tx.keys(table)? {
                    let holders = tx.holders((table, &key))?;
                    if holders.is_empty() {
                        count += 1;
                    }
                    for (by, holder) in holders {
                        count += usize::from(self.is_abandoned(tx, by, &holder)?);
                    }
                }
            }
            Ok(count)
        })
    }
}

fn problem(subject: Subject, found: String, images: &[Image]) -> Problem {
    let suffers = |image: &&Image| match &subject {
        Subject::Layer(diff_id) => image.layers().contains(diff_id),
        Subject::Blob(digest) => image.manifest() == Some(*digest),
        Subject::Image(id) => image.id() == id,
        Subject::Record(_) => false,
    };
    let images = images.iter().filter(suffers).map(Image::shown).collect();
    Problem { subject, found, images, outcome: Outcome::Found }
}

/// Whether it says nothing about a layer that it could not be looked at: there is no room, or the host has failed.
fn is_of_the_host(error: &snapshot::Error) -> bool {
    match error {
        snapshot::Error::Full | snapshot::Error::Entry { .. } | snapshot::Error::State(_) => true,
        snapshot::Error::Host { source, .. } => is_shortage(source),
        snapshot::Error::Archive(snapshot::tar::Error::Read(source)) => is_shortage(source),
        _ => false,
    }
}

pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Error::Cancelled)?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_is_short_of_something_says_nothing_about_a_layer() {
        let host = |error: rustix::io::Errno| snapshot::Error::Host { what: String::new(), source: error.into() };
        for error in [rustix::io::Errno::MFILE, rustix::io::Errno::NOMEM, rustix::io::Errno::NOSPC] {
            assert!(is_of_the_host(&host(error)), "{error}");
            assert!(is_of_the_host(&snapshot::tar::Error::Read(error.into()).into()), "{error}");
        }
        for error in [rustix::io::Errno::IO, rustix::io::Errno::NOENT, rustix::io::Errno::NOTDIR] {
            assert!(!is_of_the_host(&host(error)), "{error}");
        }
        assert!(is_of_the_host(&snapshot::Error::Full));
        assert!(!is_of_the_host(&snapshot::Error::Limit(String::new())));
    }
}
