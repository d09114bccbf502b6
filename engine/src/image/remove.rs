//! Removing names, and images that have none left, by Docker's rules.

use std::collections::BTreeSet;
use std::fmt;

use super::find::{self, Name};
use super::record::chain_ids;
use super::{Error, Image, Images, tag};
use crate::id::{ContainerId, ImageId};
use crate::oci::{Digest, Platform, Reference};
use crate::snapshot::{LayerRecord, Retired};
use crate::state::{Durability, Table, Transaction};

/// How an image is removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RemoveOptions {
    /// Remove it although it has several names or stopped containers.
    pub force: bool,
    /// Remove the images it was built upon, too, when they have no name and nothing else is built upon them.
    pub prune_children: bool,
    /// The containers that run: their image is not removed, whatever [`force`](Self::force) says. Containers that are
    /// not in here count as stopped.
    pub running: BTreeSet<ContainerId>,
    /// Only if it is for just this platform.
    pub platform: Option<Platform>,
}

/// What was removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removed {
    /// A name, as people write it.
    Untagged(String),
    /// An image's id, or the chain id of a layer.
    Deleted(String),
}

impl fmt::Display for Removed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Untagged(name) => write!(f, "Untagged: {name}"),
            Self::Deleted(id) => write!(f, "Deleted: {id}"),
        }
    }
}

/// What keeps an image.
#[derive(Default)]
struct Holders {
    names: Vec<Reference>,
    containers: Vec<String>,
    children: bool,
}

struct Deletion<'a> {
    options: &'a RemoveOptions,
    removed: Vec<Removed>,
    /// What is gone, and the blobs that it had.
    gone: Vec<(Image, BTreeSet<Digest>)>,
}

impl Images {
    /// Removes a name, and the image with it when that was the last; or an image by its id, with all names.
    pub async fn remove(&self, name: &str, options: RemoveOptions) -> Result<Vec<Removed>, Error> {
        let (images, name) = (self.clone(), name.to_owned());
        let work = tokio::task::spawn_blocking(move || images.remove_blocking(&name, &options));
        work.await.map_err(|_| Error::Cancelled)?
    }

    fn remove_blocking(&self, name: &str, options: &RemoveOptions) -> Result<Vec<Removed>, Error> {
        let mut deletion = Deletion { options, removed: Vec::new(), gone: Vec::new() };
        let image = self.shared.state.write(Durability::Power, |tx| {
            let image = find::find(tx, name)?;
            image.must_be_for(options.platform.as_ref(), name)?;
            deletion.run(tx, &image, name)?;
            Ok::<_, Error>(image)
        })?;
        self.finish(deletion, &image)
    }

    /// Removes an image with all its names, if no container has it, nothing is built upon it and nobody has used it since
    /// `last`. Blocks.
    pub(super) fn remove_unused(&self, id: &ImageId, last: i64) -> Result<Vec<Removed>, Error> {
        let options = RemoveOptions::default();
        let mut deletion = Deletion { options: &options, removed: Vec::new(), gone: Vec::new() };
        let image = self.shared.state.write(Durability::Power, |tx| {
            let Some(image) = Image::read(tx, id)?.filter(|image| image.last_used() <= last) else { return Ok(None) };
            let holders = Holders::of(tx, id)?;
            if !holders.containers.is_empty() || holders.children {
                return Ok(None);
            }
            deletion.delete(tx, &image, &holders)?;
            Ok::<_, Error>(Some(image))
        })?;
        let Some(image) = image else { return Ok(Vec::new()) };
        self.finish(deletion, &image)
    }

    /// Tells what went, and removes what nobody holds any more.
    fn finish(&self, deletion: Deletion<'_>, image: &Image) -> Result<Vec<Removed>, Error> {
        for removed in &deletion.removed {
            let (action, name) = match removed {
                Removed::Untagged(_) => ("untag", image.id().as_str()),
                Removed::Deleted(id) => ("delete", id.as_str()),
            };
            self.announce(action, image, name, name);
        }
        let (mut removed, gone) = (deletion.removed, deletion.gone);
        for (image, blobs) in gone {
            removed.extend(self.retire(&image, &blobs)?);
        }
        Ok(removed)
    }

    /// Removes the layers and blobs of a deleted image that nothing else holds: the chain ids that went.
    fn retire(&self, image: &Image, blobs: &BTreeSet<Digest>) -> Result<Vec<Removed>, Error> {
        let shared = &self.shared;
        let mut retired: Vec<Retired> = Vec::new();
        let removed = shared.state.write(Durability::Process, |tx| {
            let mut removed = Vec::new();
            for (diff_id, chain) in image.layers().iter().zip(chain_ids(image.layers())).rev() {
                if let Some(gone) = shared.layers.retire(tx, diff_id)? {
                    retired.push(gone);
                    removed.push(Removed::Deleted(chain.to_string()));
                }
            }
            for blob in blobs {
                shared.blobs.retire(tx, blob)?;
            }
            for diff_id in image.layers() {
                self.find_blob(tx, diff_id)?;
            }
            Ok::<_, Error>(removed)
        })?;
        retired.into_iter().for_each(Retired::remove);
        Ok(removed)
    }
}

impl Images {
    /// A layer that stays while the blob that it came from goes has another one perhaps, which other images brought.
    fn find_blob(&self, tx: &mut Transaction<'_>, diff_id: &Digest) -> Result<(), Error> {
        let (key, blobs) = (diff_id.to_string(), &self.shared.blobs);
        let Some(record) = tx.get::<LayerRecord>(Table::Layer, &key)? else { return Ok(()) };
        let Some(before) = record.blob else { return Ok(()) };
        if blobs.get(tx, &before)?.is_some() {
            return Ok(());
        }
        for (table, holder) in tx.holders((Table::Layer, &key))? {
            for (kind, blob) in tx.held((table, &holder))? {
                let Some(blob) = blob.parse::<Digest>().ok().filter(|_| kind == Table::Blob) else { continue };
                if blobs.get(tx, &blob)?.is_some_and(|record| record.diff_id == Some(*diff_id)) {
                    return Ok(tx.put(Table::Layer, &key, &LayerRecord { blob: Some(blob), ..record })?);
                }
            }
        }
        Ok(tx.put(Table::Layer, &key, &LayerRecord { blob: None, ..record })?)
    }
}

impl Deletion<'_> {
    fn run(&mut self, tx: &mut Transaction<'_>, image: &Image, text: &str) -> Result<(), Error> {
        let id = image.id();
        let mut holders = Holders::of(tx, id)?;
        let mut by_name = false;
        if !find::is_id_of(id, text)
            && let Name::Reference(reference) = Name::parse(text)?
        {
            if !self.options.force
                && is_single(&holders.names)
                && let Some(container) = holders.containers.first()
            {
                return Err(Error::Conflict(format!(
                    "conflict: unable to remove repository reference {text:?} (must force) - container {} is using its \
                     referenced image {}",
                    short(container),
                    id.short()
                )));
            }
            let reference = match reference.digest() {
                Some(digest) => reference.with_digest(digest),
                None => reference,
            };
            self.untag(tx, id, &reference)?;
            holders = Holders::of(tx, id)?;
            // Digests say where the image of a name came from; they go with the last name of their repository.
            let tagged = |name: &Reference| name.digest().is_none() && name.name() == reference.name();
            if reference.digest().is_none() && !holders.names.iter().any(tagged) {
                for name in holders.names.iter().filter(|name| name.name() == reference.name()) {
                    self.untag(tx, id, name)?;
                }
                holders = Holders::of(tx, id)?;
            }
            if !holders.names.is_empty() {
                return Ok(());
            }
            by_name = true;
        } else if is_single(&holders.names) {
            self.check(id, &holders, false)?;
            for name in &holders.names {
                self.untag(tx, id, name)?;
            }
            holders = Holders::of(tx, id)?;
        }
        match self.check(id, &holders, true) {
            // The name is gone, as asked; what is in use stays without one.
            Err(_) if by_name && !holders.containers.is_empty() => return Ok(()),
            other => other?,
        }
        self.delete(tx, image, &holders)
    }

    fn untag(&mut self, tx: &mut Transaction<'_>, id: &ImageId, name: &Reference) -> Result<(), Error> {
        if tag::unname(tx, id, name)? {
            self.removed.push(Removed::Untagged(name.to_string()));
        }
        Ok(())
    }

    fn delete(&mut self, tx: &mut Transaction<'_>, image: &Image, holders: &Holders) -> Result<(), Error> {
        let id = image.id();
        for name in &holders.names {
            self.untag(tx, id, name)?;
        }
        // Containers that are left keep the layers that they lie upon.
        for container in &holders.containers {
            for diff_id in image.layers() {
                tx.hold((Table::Layer, &diff_id.to_string()), (Table::Container, container))?;
            }
            tx.release((Table::Image, id.as_str()), (Table::Container, container))?;
        }
        let held = tx.held((Table::Image, id.as_str()))?.into_iter();
        let blobs = held.filter(|(table, _)| *table == Table::Blob).filter_map(|(_, key)| key.parse().ok());
        self.gone.push((image.clone(), blobs.collect()));
        tx.release_all((Table::Image, id.as_str()))?;
        tx.delete(Table::Image, id.as_str())?;
        tx.delete(Table::Use, id.as_str())?;
        self.removed.push(Removed::Deleted(id.to_string()));
        if self.options.prune_children
            && let Some(parent) = image.parent()
            && let Some(parent) = Image::read(tx, parent)?
        {
            let holders = Holders::of(tx, parent.id())?;
            if holders.names.is_empty() && holders.containers.is_empty() && !holders.children {
                self.delete(tx, &parent, &holders)?;
            }
        }
        Ok(())
    }

    /// Whether something stands against deleting the image.
    fn check(&self, id: &ImageId, holders: &Holders, names_count: bool) -> Result<(), Error> {
        let conflict = |how: &str, why: &str| {
            Err(Error::Conflict(format!("conflict: unable to delete {} ({how}) - {why}", id.short())))
        };
        if holders.children {
            return conflict("cannot be forced", "image has dependent child images");
        }
        let runs = |container: &&String| {
            container.parse::<ContainerId>().is_ok_and(|container| self.options.running.contains(&container))
        };
        if let Some(container) = holders.containers.iter().find(runs) {
            let why = format!("image is being used by running container {}", short(container));
            return conflict("cannot be forced", &why);
        }
        if self.options.force {
            return Ok(());
        }
        if names_count && !holders.names.is_empty() {
            return conflict("must be forced", "image is referenced in multiple repositories");
        }
        if let Some(container) = holders.containers.first() {
            let why = format!("image is being used by stopped container {}", short(container));
            return conflict("must be forced", &why);
        }
        Ok(())
    }
}

impl Holders {
    fn of(tx: &Transaction<'_>, id: &ImageId) -> Result<Self, Error> {
        let mut holders = Self::default();
        for (table, key) in tx.holders((Table::Image, id.as_str()))? {
            match table {
                Table::Tag => holders.names.extend(key.parse::<Reference>()),
                Table::Container => holders.containers.push(key),
                _ => holders.children = true,
            }
        }
        Ok(holders)
    }
}

/// Whether all names are one: at most one with a tag, and digests of that repository only.
fn is_single(names: &[Reference]) -> bool {
    let tagged: Vec<_> = names.iter().filter(|name| name.digest().is_none()).collect();
    let repositories: BTreeSet<_> = names.iter().map(Reference::name).collect();
    names.len() <= 1 || (tagged.len() <= 1 && repositories.len() == 1)
}

fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}
