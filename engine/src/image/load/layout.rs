//! What the documents of an archive say: which configuration and which layers are an image, and what it is called.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::super::Error;
use super::super::commit::{Kept, Part, Parts};
use super::archive::{Contents, Layer};
use crate::oci::{self, Descriptor, Digest, Document, ImageConfig, Manifest, Platform, Reference, media_type};

/// An image of an archive, and the names it is to get.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) parts: Parts,
    pub(super) names: Vec<Reference>,
    /// The manifest that describes exactly these layers, and its media type.
    pub(super) manifest: Option<(Vec<u8>, String)>,
}

/// One entry of `manifest.json`, which `docker save` writes.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

const MAX_IMAGES: usize = 1024;
/// How deep indexes may lie within indexes.
const MAX_DEPTH: usize = 4;

/// The images of an archive, or those for one platform.
pub(super) fn images(mut contents: Contents, platform: Option<&Platform>) -> Result<Vec<Found>, Error> {
    let mut found = if contents.documents.contains_key("manifest.json") {
        saved(&mut contents)?
    } else if contents.documents.contains_key("index.json") {
        layout(&mut contents, platform)?
    } else {
        return Err(Error::Archive("does not contain a manifest.json or an index.json".to_owned()));
    };
    if let Some(wanted) = platform {
        let parsed = |found: &Found| ImageConfig::parse(found.parts.config.as_bytes());
        found.retain(|found| parsed(found).is_ok_and(|config| config.platform().is(wanted)));
        if found.is_empty() {
            return Err(oci::Error::NoPlatform(wanted.clone()).into());
        }
    }
    if found.is_empty() {
        return Err(Error::Archive("it holds no image".to_owned()));
    }
    Ok(found)
}

fn saved(contents: &mut Contents) -> Result<Vec<Found>, Error> {
    let entries: Vec<Saved> = serde_json::from_slice(document(contents, "manifest.json")?)
        .map_err(|error| Error::Archive(format!("invalid manifest.json: {error}")))?;
    if entries.len() > MAX_IMAGES {
        return Err(Error::Archive(format!("more than {MAX_IMAGES} images")));
    }
    let originals = originals(contents);
    let mut found = Vec::new();
    for entry in entries {
        let config = document(contents, &entry.config)?.clone();
        // The name of the configuration is its digest, plain or as `<digits>.json`.
        let name = entry.config.rsplit('/').next().unwrap_or_default();
        if let Ok(digest) = Digest::from_hex(name.strip_suffix(".json").unwrap_or(name)) {
            verify(&digest, &config)?;
        }
        let mut names = Vec::new();
        for tag in entry.repo_tags.unwrap_or_default() {
            let reference: Reference = tag.parse()?;
            if reference.digest().is_some() {
                return Err(Error::Archive(format!("invalid tag {tag:?}")));
            }
            names.push(reference);
        }
        let paths = entry.layers.unwrap_or_default();
        let layers = paths.iter().map(|path| layer(contents, path)).collect::<Result<Vec<_>, _>>()?;
        let id = Digest::of(&config);
        let describes =
            |(_, manifest): &&(Descriptor, Manifest)| manifest.config.digest == id && fits(manifest, &layers);
        let original = originals.iter().find(describes).map(|(entry, manifest)| original(contents, entry, manifest));
        let manifest = original.transpose()?;
        found.push(Found { parts: parts(contents, config, layers)?, names, manifest });
    }
    Ok(found)
}

/// The manifests that stand beside what `docker save` says. What is not sound here is left out, for nothing needs it.
fn originals(contents: &Contents) -> Vec<(Descriptor, Manifest)> {
    let index = contents.documents.get("index.json").and_then(|bytes| Document::parse(bytes, None).ok());
    let Some(Document::Index(index)) = index else { return Vec::new() };
    let manifest = |entry: Descriptor| match Document::parse(blob(contents, &entry.digest).ok()?, None).ok()? {
        Document::Manifest(manifest) => Some((entry, *manifest)),
        Document::Index(_) => None,
    };
    index.manifests.into_iter().filter_map(manifest).collect()
}

/// Whether the layers are the very blobs that a manifest names.
fn fits(manifest: &Manifest, layers: &[Layer]) -> bool {
    manifest.layers.iter().map(|descriptor| descriptor.digest).eq(layers.iter().map(|layer| layer.digest))
}

fn original(contents: &Contents, entry: &Descriptor, manifest: &Manifest) -> Result<(Vec<u8>, String), Error> {
    let bytes = blob(contents, &entry.digest)?.clone();
    let stated = manifest.media_type.clone().filter(|text| !text.is_empty());
    let given = Some(entry.media_type.clone()).filter(|text| !text.is_empty());
    Ok((bytes, stated.or(given).unwrap_or_else(|| media_type::OCI_MANIFEST.to_owned())))
}

fn layout(contents: &mut Contents, platform: Option<&Platform>) -> Result<Vec<Found>, Error> {
    let Document::Index(index) = Document::parse(document(contents, "index.json")?, None)? else {
        return Err(Error::Archive("index.json is no index".to_owned()));
    };
    let (mut found, mut artifacts) = (Vec::new(), Vec::new());
    for entry in &index.manifests {
        // Signatures and attestations stand beside the images and are none.
        if entry.annotations.contains_key("vnd.docker.reference.type") {
            continue;
        }
        if let Some(kind) = &entry.artifact_type {
            artifacts.push(kind.clone());
            continue;
        }
        let names = name_of(entry).into_iter().collect();
        let (entry, manifest) = choose(contents, entry, platform, 0)?;
        if let Some(kind) = manifest.artifact_kind() {
            artifacts.push(kind.to_owned());
            continue;
        }
        let config = blob(contents, &manifest.config.digest)?.clone();
        let layers = manifest
            .layers
            .iter()
            .map(|layer| self::layer(contents, &format!("blobs/sha256/{}", layer.digest.hex())))
            .collect::<Result<Vec<_>, _>>()?;
        for (layer, descriptor) in layers.iter().zip(&manifest.layers) {
            let found = layer.digest;
            if found != descriptor.digest {
                return Err(crate::snapshot::Error::Mismatch { expected: descriptor.digest, found }.into());
            }
        }
        let manifest = Some(original(contents, &entry, &manifest)?);
        found.push(Found { parts: parts(contents, config, layers)?, names, manifest });
    }
    if let (true, Some(kind)) = (found.is_empty(), artifacts.first()) {
        return Err(Error::Artifact(kind.clone()));
    }
    Ok(found)
}

/// The manifest that an entry of an index leads to, on this machine.
fn choose(
    contents: &Contents,
    entry: &Descriptor,
    platform: Option<&Platform>,
    depth: usize,
) -> Result<(Descriptor, Manifest), Error> {
    if depth > MAX_DEPTH {
        return Err(Error::Archive("its indexes lie too deep within each other".to_owned()));
    }
    let bytes = blob(contents, &entry.digest)?;
    let content_type = Some(entry.media_type.as_str()).filter(|text| !text.is_empty());
    match Document::parse(bytes, content_type)? {
        Document::Manifest(manifest) => Ok((entry.clone(), *manifest)),
        Document::Index(index) => {
            let wanted = platform.cloned().unwrap_or_else(Platform::host);
            choose(contents, index.choose(&wanted)?, platform, depth + 1)
        }
    }
}

fn name_of(entry: &Descriptor) -> Option<Reference> {
    let whole = entry.annotations.get("io.containerd.image.name");
    // The name of the specification is often a tag alone, which is the name of nothing.
    let short = entry.annotations.get("org.opencontainers.image.ref.name").filter(|name| name.contains([':', '/']));
    let reference: Reference = whole.or(short)?.parse().ok()?;
    reference.digest().is_none().then_some(reference)
}

fn document<'a>(contents: &'a Contents, path: &str) -> Result<&'a Vec<u8>, Error> {
    let path = resolve(contents, path)?;
    contents.documents.get(path).ok_or_else(|| Error::Archive(format!("it has no document {path:?}")))
}

fn blob<'a>(contents: &'a Contents, digest: &Digest) -> Result<&'a Vec<u8>, Error> {
    let bytes = document(contents, &format!("blobs/sha256/{}", digest.hex()))?;
    verify(digest, bytes)?;
    Ok(bytes)
}

fn verify(expected: &Digest, bytes: &[u8]) -> Result<(), Error> {
    match Digest::of(bytes) {
        found if found == *expected => Ok(()),
        found => Err(crate::blob::Error::Mismatch { expected: *expected, found }.into()),
    }
}

fn layer(contents: &Contents, path: &str) -> Result<Layer, Error> {
    let path = resolve(contents, path)?;
    contents.layers.get(path).cloned().ok_or_else(|| Error::Archive(format!("it has no layer {path:?}")))
}

/// Follows the second names that archives have for layers.
fn resolve<'a>(contents: &'a Contents, path: &'a str) -> Result<&'a str, Error> {
    let mut path = path.strip_prefix("./").unwrap_or(path);
    for _ in 0..16 {
        match contents.aliases.get(path) {
            Some(target) => path = target,
            None => return Ok(path),
        }
    }
    Err(Error::Archive(format!("its links lead in a circle at {path:?}")))
}

fn parts(contents: &mut Contents, config: Vec<u8>, layers: Vec<Layer>) -> Result<Parts, Error> {
    let parsed = ImageConfig::parse(&config)?;
    let wanted = &parsed.rootfs.diff_ids;
    if wanted.len() != layers.len() {
        return Err(Error::Archive(format!(
            "invalid manifest, layers length mismatch: expected {}, got {}",
            wanted.len(),
            layers.len()
        )));
    }
    for (index, (wanted, layer)) in wanted.iter().zip(&layers).enumerate() {
        if *wanted != layer.diff_id {
            return Err(Error::Archive(format!(
                "invalid diffID for layer {index}: expected \"{wanted}\", got \"{}\"",
                layer.diff_id
            )));
        }
    }
    let os = parsed.platform().os;
    if !matches!(os.as_str(), "" | "linux") {
        return Err(Error::Unsupported(format!("cannot load {os} image on linux")));
    }
    let config = String::from_utf8(config)
        .map_err(|_| oci::Error::Document { what: "image configuration", reason: "not UTF-8".to_owned() })?;
    let mut seen = BTreeSet::new();
    let layers = layers.into_iter().map(|layer| Part {
        diff_id: layer.diff_id,
        claim: None,
        anew: false,
        // The first image that has it brings it; the others find it there.
        staged: if seen.insert(layer.diff_id) { contents.staged.remove(&layer.diff_id) } else { None },
        blob: layer.blob.map(|(digest, record)| Kept::new(digest, record, contents.sealed.remove(&digest))),
    });
    Ok(Parts { config, layers: layers.collect(), ..Parts::default() })
}
