//! Looking at an image that a registry has, without fetching its layers.

use super::{Error, Images};
use crate::oci::{Descriptor, Document, ImageConfig, Platform, Reference};
use crate::registry::{Auth, Client, Fetched, Session};

/// An image of a registry.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Remote {
    /// What the name leads to: a manifest or an index.
    pub descriptor: Descriptor,
    /// The bytes of that document.
    pub document: Vec<u8>,
    /// What it can run on.
    pub platforms: Vec<Platform>,
}

impl Images {
    /// The client of registries.
    pub fn registry(&self) -> &Client {
        &self.shared.registry
    }

    /// Asks the registry of an image, and no mirror of it, what it has under this name.
    pub async fn look_up(&self, reference: &Reference, auth: &Auth) -> Result<Remote, Error> {
        let mut first = None;
        for endpoint in self.shared.registry.destinations(reference) {
            let session = self.shared.registry.session(endpoint, reference, auth);
            let found = match session.resolve().await {
                Ok(found) => describe(&session, found).await,
                Err(error) => Err(error.into()),
            };
            match found {
                Err(error) if super::pull::is_wrong_door(&error) => {
                    first.get_or_insert(error);
                }
                other => return other,
            }
        }
        Err(first.unwrap_or(Error::Cancelled))
    }
}

async fn describe(session: &Session, found: Fetched) -> Result<Remote, Error> {
    let platforms = match &found.document {
        Document::Index(index) => index.manifests.iter().filter_map(|entry| entry.platform.clone()).collect(),
        Document::Manifest(manifest) => {
            let bytes = session.small(&manifest.config, ImageConfig::MAX_SIZE).await?;
            // What is no image runs nowhere.
            ImageConfig::parse(&bytes).map(|config| vec![config.platform()]).unwrap_or_default()
        }
    };
    let descriptor = super::contents::descriptor(&found.media_type, found.digest, found.bytes.len() as u64);
    Ok(Remote { descriptor, document: found.bytes, platforms })
}
