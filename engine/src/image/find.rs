//! Looking images up, in Docker's order: a name, then the beginning of an id.

use super::record::{ImageRecord, TagRecord};
use super::{Error, Image, Images};
use crate::id::{self, ImageId, Resolved};
use crate::oci::{Digest, Reference};
use crate::state::{Snapshot, Table};

/// What a text names.
pub(super) enum Name {
    /// A whole id, `sha256:` or not.
    Id(ImageId),
    /// A reference, or the beginning of an id that looks like one.
    Reference(Reference),
}

impl Name {
    pub(super) fn parse(text: &str) -> Result<Self, Error> {
        if let Ok(digest) = text.parse::<Digest>().or_else(|_| Digest::from_hex(text)) {
            return Ok(Self::Id(digest.into()));
        }
        Ok(Self::Reference(text.parse()?))
    }
}

impl Images {
    /// Finds an image by reference, id, or the beginning of an id, with or without `sha256:`.
    pub async fn get(&self, name: &str) -> Result<Image, Error> {
        self.shared.state.read(|state| find(state, name))
    }

    /// All images, the one that was made last first.
    pub async fn list(&self) -> Result<Vec<Image>, Error> {
        self.shared.state.read(|state| {
            let mut images = Vec::new();
            for (key, record) in state.list::<ImageRecord>(Table::Image)? {
                let Ok(id) = key.parse::<ImageId>() else { continue };
                match Image::complete(state, id, record) {
                    Ok(image) => images.push(image),
                    Err(Error::Oci(error)) => tracing::error!(%id, %error, "a damaged image is left out"),
                    Err(error) => return Err(error),
                }
            }
            images.sort_by(|a, b| b.created().cmp(&a.created()).then_with(|| a.id().cmp(b.id())));
            Ok(images)
        })
    }
}

pub(super) fn find(state: &Snapshot<'_>, text: &str) -> Result<Image, Error> {
    // `sha256:` and some digits are no name, whatever the grammar of names makes of them.
    if let Some(prefix) = text.strip_prefix("sha256:")
        && is_prefix(prefix)
    {
        return by_prefix(state, text)?.ok_or_else(|| Error::NoSuch(text.to_owned()));
    }
    let missing = match Name::parse(text)? {
        Name::Id(id) => {
            return Image::read(state, &id)?.ok_or_else(|| Error::NoSuch(id.to_string()));
        }
        Name::Reference(reference) => {
            if let Some(found) = by_reference(state, &reference)? {
                return Ok(found);
            }
            Error::NoSuch(reference.to_string())
        }
    };
    if is_prefix(text) { by_prefix(state, text)?.ok_or(missing) } else { Err(missing) }
}

pub(super) fn by_reference(state: &Snapshot<'_>, reference: &Reference) -> Result<Option<Image>, Error> {
    // A digest says more than a tag.
    let key = match reference.digest() {
        Some(digest) => reference.with_digest(digest).full(),
        None => reference.full(),
    };
    match state.get::<TagRecord>(Table::Tag, &key)? {
        Some(tag) => Image::read(state, &tag.image),
        None => Ok(None),
    }
}

fn is_prefix(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn by_prefix(state: &Snapshot<'_>, text: &str) -> Result<Option<Image>, Error> {
    let digits = text.strip_prefix("sha256:").unwrap_or(text);
    let keys = state.keys(Table::Image)?;
    match id::resolve(keys.iter().filter_map(|key| key.strip_prefix("sha256:")), digits) {
        Resolved::None => Ok(None),
        Resolved::Many => Err(Error::Ambiguous(text.to_owned())),
        Resolved::One(digits) => match format!("sha256:{digits}").parse() {
            Ok(id) => Image::read(state, &id),
            Err(_) => Ok(None),
        },
    }
}

/// Whether a text was meant as an id rather than as a name: the rule by which Docker decides what to untag.
pub(super) fn is_id_of(id: &ImageId, text: &str) -> bool {
    let digits = text.strip_prefix("sha256:").unwrap_or(text);
    is_prefix(digits) && id.hex().starts_with(digits)
}
