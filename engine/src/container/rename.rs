//! Giving a container another name, and forgetting what it calls others.

use super::create::take_name;
use super::inventory::uninterrupted;
use super::record::Record;
use super::{Container, Error, names};
use crate::network::Link;
use crate::state::{Durability, Table};

impl Container {
    /// Gives it another name.
    ///
    /// # Errors
    /// When the name is not one, is its own, or is taken.
    pub async fn rename(&self, name: &str) -> Result<(), Error> {
        let name = names::checked(name).map_err(|_| Error::InvalidName(name.to_owned()))?.to_owned();
        let this = self.clone();
        uninterrupted(async move {
            let _turn = this.inner.lifecycle.lock().await;
            this.owned()?;
            let old = this.inner.record().name.clone();
            if old == name {
                return Err(Error::invalid("Renaming a container with the same name as its current name"));
            }
            let shared = &this.shared;
            let id = this.inner.id;
            shared.parts.state.write(Durability::Process, |tx| -> Result<(), Error> {
                take_name(tx, &name, id.as_str())?;
                tx.delete(Table::ContainerName, &old)?;
                Ok(())
            })?;
            shared.parts.networks.rename(&id, &old, &name)?;
            let record = this.inner.change(shared, |record| {
                let mut record = Record { name: name.clone(), ..record.clone() };
                for called in record.endpoints.iter_mut().flat_map(|endpoint| &mut endpoint.names) {
                    if *called == old {
                        called.clone_from(&name);
                    }
                }
                Ok(record)
            })?;
            shared.tell(&record, "rename", &[("oldName", format!("/{old}"))]);
            Ok(())
        })
        .await
    }

    /// Takes away a link to another container: when this one starts the next time, it knows nobody of this name.
    ///
    /// # Errors
    /// When it calls nobody so.
    pub async fn unlink(&self, alias: &str) -> Result<(), Error> {
        let (this, alias) = (self.clone(), alias.to_owned());
        uninterrupted(async move {
            let _turn = this.inner.lifecycle.lock().await;
            this.owned()?;
            let named = |text: &String| Link::parse(text).is_some_and(|link| link.alias == alias);
            this.inner.change(&this.shared, |record| {
                let mut record = record.clone();
                let links = &mut record.config.host.links;
                let before = links.len();
                links.retain(|link| !named(link));
                if links.len() == before {
                    return Err(Error::NoSuchContainer(format!("{}/{alias}", record.name)));
                }
                Ok(record)
            })?;
            Ok(())
        })
        .await
    }
}
