//! Naming images.

use super::record::{ImageRecord, TagRecord};
use super::{Error, Image, Images};
use crate::events::{Event, EventType};
use crate::id::ImageId;
use crate::oci::Reference;
use crate::state::{Durability, Table, Transaction};

impl Images {
    /// Gives an image another name; who had it before loses it.
    pub async fn tag(&self, image: &Image, reference: &Reference) -> Result<(), Error> {
        only_tag(Some(reference))?;
        self.shared.state.write(Durability::Process, |tx| {
            let id = image.id().as_str();
            let Some(mut record) = tx.get::<ImageRecord>(Table::Image, id)? else {
                return Err(Error::NoSuch(id.to_owned()));
            };
            record.tagged_at = now();
            tx.put(Table::Image, id, &record)?;
            name(tx, image.id(), reference)
        })?;
        self.announce("tag", image, image.id().as_str(), &reference.to_string());
        Ok(())
    }

    pub(super) fn announce(&self, action: &str, image: &Image, id: &str, name: &str) {
        let labels = image.config().config.labels.iter();
        let event = Event::new(EventType::Image, action, id)
            .attributes(labels.map(|(key, value)| (key.clone(), value.clone())))
            .attribute("name", name);
        self.shared.events.publish(event);
    }
}

/// A digest says what an image is, and is nothing that somebody can give it.
pub(super) fn only_tag(reference: Option<&Reference>) -> Result<(), Error> {
    match reference.and_then(Reference::digest) {
        None => Ok(()),
        Some(_) => {
            let why = "refusing to create a tag with a digest reference".to_owned();
            Err(Error::Oci(crate::oci::Error::Reference(why)))
        }
    }
}

/// Puts a name on an image, within a transaction.
pub(super) fn name(tx: &mut Transaction<'_>, image: &ImageId, reference: &Reference) -> Result<(), Error> {
    // Such a name would be taken for the id of another image.
    if reference.digest().is_none() && reference.familiar_name() == "sha256" {
        return Err(Error::Oci(crate::oci::Error::Reference(
            "refusing to create an ambiguous tag using digest algorithm as name".to_owned(),
        )));
    }
    let key = reference.full();
    if let Some(before) = tx.get::<TagRecord>(Table::Tag, &key)? {
        tx.release((Table::Image, before.image.as_str()), (Table::Tag, &key))?;
    }
    tx.put(Table::Tag, &key, &TagRecord { image: *image })?;
    tx.hold((Table::Image, image.as_str()), (Table::Tag, &key))?;
    Ok(())
}

/// Takes a name away, within a transaction: whether it was there.
pub(super) fn unname(tx: &mut Transaction<'_>, image: &ImageId, reference: &Reference) -> Result<bool, Error> {
    let key = reference.full();
    tx.release((Table::Image, image.as_str()), (Table::Tag, &key))?;
    Ok(tx.delete(Table::Tag, &key)?)
}

/// Nanoseconds since 1970.
pub(super) fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
