//! Manifests and indexes.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::{Digest, Error, Platform};

/// The media types of image documents and layers.
pub mod media_type {
    /// OCI image manifest.
    pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// OCI image index.
    pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// OCI image configuration.
    pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// Docker image manifest, version 2 schema 2.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// Docker manifest list.
    pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// Docker image configuration.
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    /// OCI layer compressed with gzip.
    pub const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    /// OCI layer, plain.
    pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    /// OCI layer compressed with zstd.
    pub const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
    /// Docker layer compressed with gzip.
    pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
}

/// Where bytes are: their type, digest and size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// The type of the bytes.
    #[serde(default, deserialize_with = "nullable")]
    pub media_type: String,
    /// The digest of the bytes.
    pub digest: Digest,
    /// How many bytes.
    pub size: u64,
    /// What the image runs on, in an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Free notes.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The type of an artifact that is no image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// What else the document says, `urls` among it: those are never followed.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

/// An image: its configuration and its layers, the lowest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// The manifest's own type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The configuration.
    pub config: Descriptor,
    /// The layers, the lowest first.
    #[serde(default, deserialize_with = "nullable")]
    pub layers: Vec<Descriptor>,
    /// What an artifact is, such as `application/spdx+json`; images have none as a rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The manifest that this one refers to, whose signature or bill of materials it is perhaps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Box<Descriptor>>,
    /// Free notes.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// Several manifests, for different platforms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// The index's own type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The manifests, in order of preference.
    #[serde(default, deserialize_with = "nullable")]
    pub manifests: Vec<Descriptor>,
    /// What the whole of it is, if it is no image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The manifest that this index refers to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Box<Descriptor>>,
    /// Free notes.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// What a manifest URL can answer with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// One image.
    Manifest(Box<Manifest>),
    /// A choice of images.
    Index(Index),
}

const MANIFEST: &str = "manifest";
const MAX_ENTRIES: usize = 1024;

impl Manifest {
    /// No document of this kind may be larger, in bytes.
    pub const MAX_SIZE: u64 = 4 << 20;
    /// The kernel stacks no more layers in one overlay mount, one of which is the container's own.
    pub const MAX_LAYERS: usize = 499;

    /// What this is when it is no image that can be run: its artifact type, or else the type of its configuration.
    pub fn artifact_kind(&self) -> Option<&str> {
        let config = self.config.media_type.as_str();
        // Old registries and clients do not say, or not better.
        let is_image =
            matches!(config, "" | media_type::OCI_CONFIG | media_type::DOCKER_CONFIG | "application/octet-stream");
        let stated = self.artifact_type.as_deref().filter(|kind| !kind.is_empty());
        (!is_image).then(|| stated.unwrap_or(config))
    }
}

/// What a `Content-Type` tells of a document: its media type, or nothing, since registries that know no better serve plain
/// JSON.
pub(crate) fn told_by(content_type: &str) -> Option<&str> {
    let kind = content_type.split(';').next().map(str::trim)?;
    (!matches!(kind, "" | "application/json" | "text/plain" | "application/octet-stream")).then_some(kind)
}

impl Document {
    /// The manifest that it refers to.
    pub fn subject(&self) -> Option<&Descriptor> {
        match self {
            Self::Manifest(manifest) => manifest.subject.as_deref(),
            Self::Index(index) => index.subject.as_deref(),
        }
    }

    /// How it stands in the list of what refers to its subject: with its artifact type and its notes.
    pub fn as_referrer(&self, media_type: &str, bytes: &[u8]) -> Descriptor {
        let (kind, annotations) = match self {
            Self::Manifest(manifest) => {
                let config = Some(&manifest.config.media_type).filter(|kind| !kind.is_empty());
                let stated = manifest.artifact_type.as_ref().filter(|kind| !kind.is_empty());
                (stated.or(config).cloned(), &manifest.annotations)
            }
            Self::Index(index) => (index.artifact_type.clone().filter(|kind| !kind.is_empty()), &index.annotations),
        };
        Descriptor {
            media_type: media_type.to_owned(),
            digest: Digest::of(bytes),
            size: bytes.len() as u64,
            platform: None,
            annotations: annotations.clone(),
            artifact_type: kind,
            extra: BTreeMap::new(),
        }
    }

    /// Parses a manifest or an index. A document that could be read as either is refused (CVE-2021-41190), as is one
    /// whose `mediaType` is another than `content_type`, where the transport gave one.
    pub fn parse(bytes: &[u8], content_type: Option<&str>) -> Result<Self, Error> {
        let size = bytes.len() as u64;
        if size > Manifest::MAX_SIZE {
            return Err(Error::TooLarge { what: MANIFEST, size, limit: Manifest::MAX_SIZE });
        }
        let value: Value = serde_json::from_slice(bytes).map_err(|error| Error::document(MANIFEST, error))?;
        let Value::Object(members) = &value else { return Err(Error::document(MANIFEST, "not a JSON object")) };
        let has = |name: &str| members.get(name).is_some_and(|member| !member.is_null());
        if members.get("schemaVersion").and_then(Value::as_u64) == Some(1) || has("fsLayers") || has("history") {
            return Err(Error::Unsupported(
                "Docker image manifest version 2, schema 1 is not supported: push the image again with a newer client"
                    .to_owned(),
            ));
        }
        if members.get("schemaVersion").and_then(Value::as_u64) != Some(2) {
            return Err(Error::document(MANIFEST, "schemaVersion is not 2"));
        }
        let is_index = has("manifests");
        if is_index && (has("layers") || has("config")) {
            return Err(Error::document(MANIFEST, "it is both a manifest and an index"));
        }
        let stated = members.get("mediaType").and_then(Value::as_str).filter(|text| !text.is_empty());
        let transport = content_type.and_then(told_by);
        if let (Some(stated), Some(transport)) = (stated, transport)
            && stated != transport
        {
            let reason = format!("its mediaType is {stated:?}, but it was served as {transport:?}");
            return Err(Error::document(MANIFEST, reason));
        }
        let allowed = if is_index {
            [media_type::OCI_INDEX, media_type::DOCKER_LIST]
        } else {
            [media_type::OCI_MANIFEST, media_type::DOCKER_MANIFEST]
        };
        if let Some(kind) = stated.or(transport)
            && !allowed.contains(&kind)
        {
            let reason = format!("its media type {kind:?} does not fit its content");
            return Err(Error::document(MANIFEST, reason));
        }
        let parsed = if is_index {
            serde_json::from_value(value).map(Self::Index)
        } else {
            serde_json::from_value(value).map(|manifest| Self::Manifest(Box::new(manifest)))
        };
        let document = parsed.map_err(|error| Error::document(MANIFEST, error))?;
        document.check()?;
        Ok(document)
    }

    fn check(&self) -> Result<(), Error> {
        match self {
            Self::Manifest(manifest) if manifest.layers.len() > Manifest::MAX_LAYERS => {
                let reason = format!("{} layers, at most {} are possible", manifest.layers.len(), Manifest::MAX_LAYERS);
                Err(Error::document(MANIFEST, reason))
            }
            Self::Index(index) if index.manifests.len() > MAX_ENTRIES => {
                Err(Error::document(MANIFEST, format!("an index of {} entries", index.manifests.len())))
            }
            Self::Manifest(_) | Self::Index(_) => Ok(()),
        }
    }
}

impl Index {
    /// The entry that serves `wanted` best; the first of equals.
    pub fn choose(&self, wanted: &Platform) -> Result<&Descriptor, Error> {
        let mut best: Option<(u32, &Descriptor)> = None;
        for entry in &self.manifests {
            let Some(score) = entry.platform.as_ref().and_then(|platform| platform.serves(wanted)) else { continue };
            if best.is_none_or(|(other, _)| score > other) {
                best = Some((score, entry));
            }
        }
        // An index made by hand for one machine names no platform.
        let lone = || match self.manifests.as_slice() {
            [only] if only.platform.is_none() => Some(only),
            _ => None,
        };
        best.map(|(_, entry)| entry).or_else(lone).ok_or_else(|| Error::NoPlatform(wanted.clone()))
    }
}

/// Go writes `null` for what is empty.
pub(super) fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(d: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(d)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn descriptor(platform: Option<&str>) -> Value {
        let mut value = json!({"mediaType": media_type::OCI_LAYER, "digest": Digest::of(b"x"), "size": 1});
        if let Some(platform) = platform {
            value["platform"] = serde_json::to_value(platform.parse::<Platform>().unwrap()).unwrap();
        }
        value
    }

    fn parse(value: &Value, content_type: Option<&str>) -> Result<Document, Error> {
        Document::parse(value.to_string().as_bytes(), content_type)
    }

    #[test]
    fn a_manifest_and_an_index_are_told_apart() {
        let manifest = json!({"schemaVersion": 2, "config": descriptor(None), "layers": [descriptor(None)]});
        assert!(matches!(parse(&manifest, None).unwrap(), Document::Manifest(found) if found.layers.len() == 1));
        let index = json!({"schemaVersion": 2, "manifests": [descriptor(Some("linux/amd64"))]});
        assert!(matches!(parse(&index, Some(media_type::OCI_INDEX)).unwrap(), Document::Index(_)));
        assert!(parse(&index, Some(media_type::OCI_MANIFEST)).is_err());
        assert!(parse(&manifest, Some("application/json")).is_ok());
    }

    #[test]
    fn ambiguous_or_wrong_documents_are_refused() {
        let both = json!({"schemaVersion": 2, "config": descriptor(None), "layers": [], "manifests": []});
        assert!(parse(&both, None).unwrap_err().to_string().contains("both a manifest and an index"));
        let lying = json!({"schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "config": descriptor(None)});
        assert!(parse(&lying, Some(media_type::DOCKER_MANIFEST)).is_err());
        let other = json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "config": descriptor(None)});
        assert!(parse(&other, None).is_err());
        let old = json!({"schemaVersion": 1, "fsLayers": []});
        assert_eq!(parse(&old, None).unwrap_err().kind(), crate::error::ErrorKind::Unsupported);
        for wrong in [json!([]), json!({}), json!({"schemaVersion": 2}), json!({"schemaVersion": 3})] {
            assert!(parse(&wrong, None).is_err(), "{wrong}");
        }
        let path = json!({"schemaVersion": 2, "config": {"digest": "sha256:../../x", "size": 1}});
        assert!(parse(&path, None).is_err());
        let many = json!({"schemaVersion": 2, "config": descriptor(None), "layers": vec![descriptor(None); 500]});
        assert!(parse(&many, None).is_err());
        let size = Manifest::MAX_SIZE as usize + 1;
        assert!(matches!(Document::parse(&vec![b' '; size], None), Err(Error::TooLarge { .. })));
    }

    #[test]
    fn artifacts_are_told_from_images_and_say_what_they_refer_to() {
        let subject = descriptor(None);
        let empty = json!({"mediaType": "application/vnd.oci.empty.v1+json", "digest": Digest::of(b"{}"), "size": 2});
        let stated = json!({
            "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "artifactType": "application/spdx+json",
            "config": empty, "layers": [descriptor(None)], "subject": subject, "annotations": {"a": "b"}
        });
        let document = parse(&stated, None).unwrap();
        assert_eq!(document.subject().unwrap().digest, Digest::of(b"x"));
        let bytes = stated.to_string();
        let referrer = document.as_referrer(media_type::OCI_MANIFEST, bytes.as_bytes());
        assert_eq!((referrer.digest, referrer.size), (Digest::of(bytes.as_bytes()), bytes.len() as u64));
        assert_eq!(
            (referrer.artifact_type.as_deref(), &*referrer.annotations["a"]),
            (Some("application/spdx+json"), "b")
        );
        let Document::Manifest(manifest) = document else { panic!("no manifest") };
        assert_eq!(manifest.artifact_kind(), Some("application/spdx+json"));
        // Older ones say it by their configuration.
        let chart = json!({"schemaVersion": 2, "config": {"mediaType": "application/vnd.x.chart", "digest": Digest::of(b"{}"), "size": 2}});
        let document = parse(&chart, None).unwrap();
        assert_eq!(document.as_referrer("", b"").artifact_type.as_deref(), Some("application/vnd.x.chart"));
        let Document::Manifest(manifest) = document else { panic!("no manifest") };
        assert_eq!((manifest.artifact_kind(), manifest.subject.clone()), (Some("application/vnd.x.chart"), None));
        let mut image = json!({"schemaVersion": 2, "config": {"mediaType": media_type::OCI_CONFIG, "digest": Digest::of(b"{}"), "size": 2}});
        image["subject"] = descriptor(None);
        let Document::Manifest(manifest) = parse(&image, None).unwrap() else { panic!("no manifest") };
        assert_eq!(manifest.artifact_kind(), None);
        // What is kept of it is written as it was.
        assert_eq!(serde_json::to_value(&*manifest).unwrap()["subject"], descriptor(None));
    }

    #[test]
    fn an_index_offers_the_platform_that_fits() {
        let entries = ["linux/arm/v6", "linux/amd64", "linux/arm/v7"].map(|platform| descriptor(Some(platform)));
        let index = json!({"schemaVersion": 2, "manifests": entries});
        let Document::Index(index) = parse(&index, None).unwrap() else { panic!("no index") };
        let chosen = index.choose(&"linux/arm/v7".parse().unwrap()).unwrap();
        assert_eq!(chosen.platform.as_ref().unwrap().variant.as_deref(), Some("v7"));
        let error = index.choose(&"linux/s390x".parse().unwrap()).unwrap_err();
        assert_eq!(error.to_string(), "no matching manifest for linux/s390x in the manifest list entries");
    }
}
