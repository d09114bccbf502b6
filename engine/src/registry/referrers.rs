//! What refers to a manifest at a registry: signatures, bills of materials, attestations. Registries that know nothing of
//! it have it all the same, as an index that clients keep under a tag made of the subject's digest.
//! Source: the OCI distribution specification 1.1, "Listing Referrers" and "Referrers Tag Schema".

use bytes::Bytes;
use http::{Method, header};
use serde_json::{Value, json};

use super::session::{Ask, Session};
use super::upload::{Content, next_page};
use super::{Error, body};
use crate::oci::{Descriptor, Digest, Document, Manifest, media_type};

const MAX_PAGES: usize = 64;
/// More than that of one subject nobody reads.
const MOST: usize = 16 << 10;
/// How often an index that others change at the same time is tried.
const ROUNDS: usize = 5;

impl Session {
    /// What refers to the manifest of this digest, all of it or that of one artifact type.
    ///
    /// # Errors
    /// When the registry fails. One that has nothing, or knows of no such thing, gives an empty list.
    pub async fn referrers(&self, subject: &Digest, kind: Option<&str>) -> Result<Vec<Descriptor>, Error> {
        let listed = match self.listed_referrers(subject, kind).await? {
            Some(listed) => listed,
            None => match self.tagged_referrers(subject).await? {
                Some(index) => entries(&index.bytes)?,
                None => Vec::new(),
            },
        };
        // A registry need not look at what is asked for.
        let wanted = |one: &Descriptor| kind.is_none_or(|kind| one.artifact_type.as_deref() == Some(kind));
        Ok(listed.into_iter().filter(wanted).collect())
    }

    /// By the registry's own list; `None` when it has none.
    async fn listed_referrers(&self, subject: &Digest, kind: Option<&str>) -> Result<Option<Vec<Descriptor>>, Error> {
        let mut url = format!("{}/v2/{}/referrers/{subject}", self.endpoint.base, self.reference.repository());
        if let Some(kind) = kind {
            url.push_str(&format!("?artifactType={}", super::token::escape(kind)));
        }
        let mut listed = Vec::new();
        for page in 0..MAX_PAGES {
            let response = match self.ask(&Ask::get(&url).header(header::ACCEPT, media_type::OCI_INDEX)).await {
                Ok(response) => response,
                Err(Error::Status { status: 404 | 405, .. } | Error::NameUnknown { .. }) if page == 0 => {
                    return Ok(None);
                }
                Err(error) => return Err(error),
            };
            let content_type = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
            // Something else answers whatever it is asked.
            if page == 0 && content_type.is_none_or(|kind| !kind.starts_with(media_type::OCI_INDEX)) {
                return Ok(None);
            }
            let next = next_page(&response).map(|next| self.beside(&url, &next)).transpose()?;
            let bytes = body::whole(response, Manifest::MAX_SIZE, "list of referrers").await?;
            listed.extend(entries(&bytes)?);
            if listed.len() > MOST {
                return Err(Error::Misbehaved(format!("its list of referrers has more than {MOST} entries")));
            }
            match next {
                Some(next) => url = next,
                None => return Ok(Some(listed)),
            }
        }
        Err(Error::Misbehaved(format!("its list of referrers has more than {MAX_PAGES} pages")))
    }

    /// The index under the subject's tag, if there is one.
    async fn tagged_referrers(&self, subject: &Digest) -> Result<Option<Tagged>, Error> {
        let url = self.tag_of(subject);
        match self.ask(&Ask::get(&url).header(header::ACCEPT, media_type::OCI_INDEX)).await {
            Ok(response) => {
                let version = response.headers().get(header::ETAG).and_then(|value| value.to_str().ok());
                let version = version.map(str::to_owned);
                let bytes = body::whole(response, Manifest::MAX_SIZE, "index of referrers").await?;
                Ok(Some(Tagged { bytes, version }))
            }
            Err(Error::ManifestUnknown { .. } | Error::NameUnknown { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Adds a manifest that has been put there to what refers to its subject, for registries that do not do so themselves.
    pub(super) async fn refer(&self, subject: &Digest, referrer: &Descriptor) -> Result<(), Error> {
        let url = self.tag_of(subject);
        let mut round = 0;
        loop {
            round += 1;
            let before = self.tagged_referrers(subject).await?;
            let Some(after) = with_entry(before.as_ref().map(|tagged| tagged.bytes.as_slice()), referrer)? else {
                return Ok(());
            };
            let mut ask = Ask::new(Method::PUT, &url)
                .header(header::CONTENT_TYPE, media_type::OCI_INDEX)
                .content(Content::Bytes(Bytes::from(after)));
            if let Some(version) = before.and_then(|tagged| tagged.version) {
                ask = ask.header(header::IF_MATCH, version);
            }
            match self.ask(&ask).await {
                // Somebody else has added something in the meantime.
                Err(Error::Status { status: 412, .. }) if round < ROUNDS => {}
                other => return other.map(drop),
            }
        }
    }

    fn tag_of(&self, subject: &Digest) -> String {
        format!("{}/v2/{}/manifests/sha256-{}", self.endpoint.base, self.reference.repository(), subject.hex())
    }
}

/// The index under a subject's tag, and which version of it that is if the registry says so.
struct Tagged {
    bytes: Vec<u8>,
    version: Option<String>,
}

/// What an index of referrers names.
fn entries(bytes: &[u8]) -> Result<Vec<Descriptor>, Error> {
    match Document::parse(bytes, None)? {
        Document::Index(index) => Ok(index.manifests),
        Document::Manifest(_) => Err(Error::Misbehaved("its list of referrers is no index".to_owned())),
    }
}

/// The index with one entry more, and with everything else that others have written there; `None` when it has it.
fn with_entry(index: Option<&[u8]>, referrer: &Descriptor) -> Result<Option<Vec<u8>>, Error> {
    let wrong = |error: serde_json::Error| Error::Misbehaved(format!("its index of referrers: {error}"));
    let mut document = match index {
        Some(bytes) => {
            if entries(bytes)?.iter().any(|known| known.digest == referrer.digest) {
                return Ok(None);
            }
            serde_json::from_slice(bytes).map_err(wrong)?
        }
        None => json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": []}),
    };
    let entry = serde_json::to_value(referrer).map_err(wrong)?;
    match document.get_mut("manifests") {
        Some(Value::Array(manifests)) => manifests.push(entry),
        _ => document["manifests"] = json!([entry]),
    }
    serde_json::to_vec(&document).map(Some).map_err(wrong)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn referrer(text: &str) -> Descriptor {
        serde_json::from_value(json!({
            "mediaType": media_type::OCI_MANIFEST, "digest": Digest::of(text.as_bytes()), "size": 1,
            "artifactType": "application/x", "annotations": {"a": "b"}
        }))
        .unwrap()
    }

    #[test]
    fn an_index_of_referrers_grows_by_what_it_lacks() {
        let (one, other) = (referrer("one"), referrer("other"));
        let first = with_entry(None, &one).unwrap().unwrap();
        assert_eq!(with_entry(Some(&first), &one).unwrap(), None);
        let second = with_entry(Some(&first), &other).unwrap().unwrap();
        assert_eq!(entries(&second).unwrap(), [one.clone(), other]);
        // What nobody here knows stays.
        let foreign = json!({"schemaVersion": 2, "manifests": [], "x": 1}).to_string();
        let grown: Value =
            serde_json::from_slice(&with_entry(Some(foreign.as_bytes()), &one).unwrap().unwrap()).unwrap();
        assert_eq!((&grown["x"], grown["manifests"].as_array().unwrap().len()), (&json!(1), 1));
        assert!(with_entry(Some(b"{}"), &one).is_err());
    }
}
