//! Looking at an image that a registry has, and at what refers to it there, without fetching its layers.

use std::future::Future;

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

/// How is looked for what refers to an image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReferrerOptions {
    /// Only artifacts of this type, such as `application/spdx+json`.
    pub kind: Option<String>,
    /// What refers to the image for this platform, and not to the index that the name leads to.
    pub platform: Option<Platform>,
    /// Who asks; anybody when not given.
    pub auth: Auth,
}

/// What refers to an image at its registry: signatures, bills of materials, attestations.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Referrers {
    /// The manifest or index that it refers to.
    pub subject: Descriptor,
    /// The manifests that refer to it, as the registry lists them: their artifact types and notes stand with them.
    pub referrers: Vec<Descriptor>,
}

impl Images {
    /// The client of registries.
    pub fn registry(&self) -> &Client {
        &self.shared.registry
    }

    /// Asks the registry of an image, and no mirror of it, what it has under this name.
    pub async fn look_up(&self, reference: &Reference, auth: &Auth) -> Result<Remote, Error> {
        self.ask_itself(reference, auth, |session| async move {
            let found = session.resolve().await?;
            describe(&session, found).await
        })
        .await
    }

    /// Asks the registry of an image, and no mirror of it, what refers to the image.
    ///
    /// # Errors
    /// When there is no such image, or none for the platform, or the registry fails.
    pub async fn referrers(&self, reference: &Reference, options: &ReferrerOptions) -> Result<Referrers, Error> {
        let (kind, platform) = (&options.kind, &options.platform);
        self.ask_itself(reference, &options.auth, |session| async move {
            let found = session.resolve().await?;
            let found = match platform {
                Some(platform) => super::pull::descend(&session, found, platform).await?.0,
                None => found,
            };
            let referrers = session.referrers(&found.digest, kind.as_deref()).await?;
            let subject = super::contents::descriptor(&found.media_type, found.digest, found.bytes.len() as u64);
            Ok(Referrers { subject, referrers })
        })
        .await
    }

    async fn ask_itself<T, F: Future<Output = Result<T, Error>>>(
        &self,
        reference: &Reference,
        auth: &Auth,
        ask: impl Fn(Session) -> F,
    ) -> Result<T, Error> {
        let mut first = None;
        for endpoint in self.shared.registry.destinations(reference) {
            match ask(self.shared.registry.session(endpoint, reference, auth)).await {
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
        // What is no image runs nowhere.
        Document::Manifest(manifest) if manifest.artifact_kind().is_some() => Vec::new(),
        Document::Manifest(manifest) => {
            let bytes = session.small(&manifest.config, ImageConfig::MAX_SIZE).await?;
            ImageConfig::parse(&bytes).map(|config| vec![config.platform()]).unwrap_or_default()
        }
    };
    let mut descriptor = super::contents::descriptor(&found.media_type, found.digest, found.bytes.len() as u64);
    descriptor.artifact_type = match &found.document {
        Document::Index(index) => index.artifact_type.clone(),
        Document::Manifest(manifest) => {
            manifest.artifact_type.clone().or_else(|| manifest.artifact_kind().map(str::to_owned))
        }
    };
    Ok(Remote { descriptor, document: found.bytes, platforms })
}
