//! Images.

use std::collections::BTreeMap;
use std::path::PathBuf;

use engine::id::ContainerId;
use engine::image::{Image, ImageUsage, LayerUsage, Removed};
use engine::oci;
use engine_api::container::ContainerConfig;
use engine_api::image as wire;
use engine_api::json;
use engine_api::version::ApiVersion;
use serde::Deserialize;

use super::joined;
use super::time::{rfc3339, seconds, seconds_of};
use crate::version::Gates;

/// The parts of an image's configuration that only clients read.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Details {
    author: String,
    comment: String,
    config: Option<ContainerConfig>,
    container: String,
    container_config: Option<ContainerConfig>,
    docker_version: String,
    #[serde(rename = "os.version")]
    os_version: String,
}

/// An image as inspect shows it. `layers` are the directories of its layers, the topmost first.
pub(crate) fn inspect(
    image: &Image,
    manifest: Option<&oci::Descriptor>,
    layers: &[PathBuf],
    version: ApiVersion,
) -> wire::ImageInspect {
    // It was parsed when it was stored; what only clients read may still be of another shape.
    let details: Details = json::from_slice(image.raw_config().as_bytes()).unwrap_or_default();
    let config = image.config();
    let size = i64::try_from(image.size()).unwrap_or(i64::MAX);
    let last_comment = || config.history.last()?.comment.clone();
    wire::ImageInspect {
        id: image.id().as_str().to_owned(),
        descriptor: manifest.filter(|_| version.has_image_descriptor()).map(descriptor),
        repo_tags: image.references().iter().map(ToString::to_string).collect(),
        repo_digests: image.digests().iter().map(ToString::to_string).collect(),
        parent: image.parent().map(|parent| parent.as_str().to_owned()).unwrap_or_default(),
        comment: Some(details.comment).filter(|comment| !comment.is_empty()).or_else(last_comment).unwrap_or_default(),
        created: image.created().unwrap_or_default().to_owned(),
        container: version.has_image_container().then_some(details.container),
        container_config: version.has_image_container().then(|| details.container_config.unwrap_or_default()),
        docker_version: details.docker_version,
        author: details.author,
        config: Some(details.config.unwrap_or_default()),
        architecture: config.architecture.clone(),
        variant: config.variant.clone().unwrap_or_default(),
        os: config.os.clone(),
        os_version: details.os_version,
        size,
        virtual_size: version.has_virtual_size().then_some(size),
        graph_driver: wire::GraphDriver { data: Some(places(layers)), name: "overlay2".to_owned() },
        root_fs: wire::RootFs {
            kind: "layers".to_owned(),
            layers: image.layers().iter().map(ToString::to_string).collect(),
        },
        metadata: wire::Metadata { last_tag_time: rfc3339(image.tagged_at()) },
        manifests: None,
    }
}

/// Where the layers are, as the driver that Docker has says it; the places of mounts are none that anything is at.
fn places(layers: &[PathBuf]) -> BTreeMap<String, String> {
    let mut places = BTreeMap::new();
    if let Some((top, below)) = layers.split_first() {
        places.insert("UpperDir".to_owned(), joined(std::slice::from_ref(top)));
        if !below.is_empty() {
            places.insert("LowerDir".to_owned(), joined(below));
        }
    }
    places
}

/// Names of an image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Names {
    /// `name:tag`.
    pub(crate) tags: Vec<String>,
    /// `name@sha256:...`.
    pub(crate) digests: Vec<String>,
}

impl Names {
    /// Those that are wanted.
    pub(crate) fn of(image: &Image, wanted: impl Fn(&oci::Reference) -> bool) -> Self {
        let names = |all: &[oci::Reference]| all.iter().filter(|name| wanted(name)).map(ToString::to_string).collect();
        Self { tags: names(image.references()), digests: names(image.digests()) }
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.tags.is_empty() && self.digests.is_empty()
    }
}

/// A line of a list with the names that are wanted.
pub(crate) fn summary(image: &Image, names: Names, version: ApiVersion) -> wire::ImageSummary {
    let size = i64::try_from(image.size()).unwrap_or(i64::MAX);
    let Names { mut tags, mut digests } = names;
    if version.names_untagged_images() && tags.is_empty() {
        tags.push("<none>:<none>".to_owned());
        if digests.is_empty() {
            digests.push("<none>@<none>".to_owned());
        }
    }
    let labels = image.config().config.labels.clone();
    wire::ImageSummary {
        containers: if version.counts_containers() { i64::try_from(image.containers()).unwrap_or(-1) } else { -1 },
        created: image.created().map_or(0, seconds_of),
        id: image.id().as_str().to_owned(),
        labels: Some(labels).filter(|labels| !labels.is_empty()),
        parent_id: image.parent().map(|parent| parent.as_str().to_owned()).unwrap_or_default(),
        repo_digests: digests,
        repo_tags: tags,
        manifests: None,
        shared_size: -1,
        size,
        virtual_size: version.has_virtual_size().then_some(size),
        last_used: None,
    }
}

/// A line of the list of what takes room: with all that is kept of the image, and its containers.
pub(crate) fn used(usage: &ImageUsage, version: ApiVersion) -> wire::ImageSummary {
    let image = &usage.image;
    let (size, shared_size) = measured(usage);
    let containers = i64::try_from(usage.containers.len()).unwrap_or(i64::MAX);
    let line = summary(image, Names::of(image, |_| true), version);
    let virtual_size = line.virtual_size.map(|_| size);
    let last_used = Some(seconds(image.last_used()));
    wire::ImageSummary { containers, shared_size, size, virtual_size, last_used, ..line }
}

/// The bytes of an image's files, and those of them that others have, too.
pub(crate) fn measured(usage: &ImageUsage) -> (i64, i64) {
    (signed(usage.size), signed(usage.shared))
}

/// The manifest of an image and what it takes.
pub(crate) fn manifest(usage: &ImageUsage) -> Option<wire::ManifestSummary> {
    let image = &usage.image;
    let descriptor = descriptor(usage.manifest.as_ref()?);
    let unpacked = signed(usage.size - usage.content);
    Some(wire::ManifestSummary {
        id: descriptor.digest.clone(),
        descriptor,
        available: true,
        size: wire::ManifestSize { total: signed(usage.size), content: signed(usage.content) },
        kind: "image".to_owned(),
        image_data: Some(wire::ManifestImage {
            platform: platform(&image.config().platform()),
            containers: usage.containers.iter().map(ToString::to_string).collect(),
            size: wire::UnpackedSize { unpacked },
        }),
    })
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A document of a registry.
pub(crate) fn descriptor(descriptor: &oci::Descriptor) -> wire::Descriptor {
    wire::Descriptor {
        media_type: descriptor.media_type.clone(),
        digest: descriptor.digest.to_string(),
        size: signed(descriptor.size),
        artifact_type: descriptor.artifact_type.clone().unwrap_or_default(),
        annotations: descriptor.annotations.clone(),
    }
}

/// An image with what it is made of. `named` tells the name and state of a container by its id.
pub(crate) fn stored(
    usage: &ImageUsage,
    named: impl Fn(&ContainerId) -> Option<(String, String)>,
) -> wire::StoredImage {
    let image = &usage.image;
    // Steps without a layer are those that changed the configuration alone.
    let mut steps = image.config().history.iter().filter(|step| !step.empty_layer);
    let layer = |layer: &LayerUsage| wire::StoredLayer {
        digest: layer.diff_id.to_string(),
        size: signed(layer.size),
        content: signed(layer.content),
        images: i64::try_from(layer.images).unwrap_or(i64::MAX),
        created_by: steps.next().and_then(|step| step.created_by.clone()).unwrap_or_default(),
    };
    let layers = usage.layers.iter().map(layer).collect();
    let container = |id: &ContainerId| {
        let (name, state) = named(id).unwrap_or_default();
        wire::ImageContainer { id: id.to_string(), name, state }
    };
    wire::StoredImage {
        id: image.id().as_str().to_owned(),
        repo_tags: image.references().iter().map(ToString::to_string).collect(),
        repo_digests: image.digests().iter().map(ToString::to_string).collect(),
        platform: platform(&image.config().platform()),
        created: image.created().map_or(0, seconds_of),
        last_used: seconds(image.last_used()),
        size: signed(usage.size),
        shared_size: signed(usage.shared),
        layers,
        containers: usage.containers.iter().map(container).collect(),
    }
}

/// What something runs on.
pub(crate) fn platform(platform: &oci::Platform) -> wire::Platform {
    wire::Platform {
        architecture: platform.architecture.clone(),
        os: platform.os.clone(),
        variant: platform.variant.clone().unwrap_or_default(),
        os_version: platform.os_version.clone().unwrap_or_default(),
    }
}

/// A name and its tag, which may be a digest. What is given apart counts more than what stands in the name, except that a tag
/// adds nothing to a digest.
pub(crate) fn named(name: &str, tag: &str) -> Result<oci::Reference, engine::oci::Error> {
    // Clients that mean all tags may leave the colon.
    let name: oci::Reference = name.strip_suffix(':').unwrap_or(name).parse()?;
    match tag {
        "" => Ok(name),
        digest if digest.contains(':') => Ok(name.with_digest(digest.parse()?)),
        _ if name.digest().is_some() => Ok(name),
        tag => name.with_tag(tag),
    }
}

/// How an image came about, the newest step first. `size` tells the bytes of a layer by its number.
pub(crate) fn history(image: &Image, size: impl Fn(usize) -> u64) -> Vec<wire::HistoryItem> {
    let mut layer = 0;
    let mut items: Vec<_> = image
        .config()
        .history
        .iter()
        .map(|step| {
            let mut bytes = 0;
            if !step.empty_layer {
                bytes = i64::try_from(size(layer)).unwrap_or(i64::MAX);
                layer += 1;
            }
            wire::HistoryItem {
                comment: step.comment.clone().unwrap_or_default(),
                created: step.created.as_deref().map_or(0, seconds_of),
                created_by: step.created_by.clone().unwrap_or_default(),
                id: "<missing>".to_owned(),
                size: bytes,
                tags: None,
            }
        })
        .collect();
    items.reverse();
    if let Some(newest) = items.first_mut() {
        newest.id = image.id().as_str().to_owned();
        newest.tags = super::nil_when_empty(image.references().iter().map(ToString::to_string).collect());
    }
    items
}

/// What was removed.
pub(crate) fn removed(removed: Removed) -> wire::ImageDelete {
    match removed {
        Removed::Untagged(name) => wire::ImageDelete { untagged: name, ..wire::ImageDelete::default() },
        Removed::Deleted(id) => wire::ImageDelete { deleted: id, ..wire::ImageDelete::default() },
    }
}

/// Whether a shell pattern (`*`, `?`, `[a-z]`, none of which match a slash) fits a name, as the filter `reference` has it.
pub(crate) fn fits(pattern: &str, name: &str) -> bool {
    let (mut pattern, mut name) = (pattern.chars(), name.chars());
    loop {
        match pattern.next() {
            None => return name.next().is_none(),
            Some('*') => {
                let pattern = pattern.as_str();
                loop {
                    if fits(pattern, name.as_str()) {
                        return true;
                    }
                    if name.next().is_none_or(|character| character == '/') {
                        return false;
                    }
                }
            }
            Some('?') => {
                if name.next().is_none_or(|character| character == '/') {
                    return false;
                }
            }
            Some('[') => {
                let Some((set, rest)) = pattern.as_str().split_once(']') else { return false };
                let (negated, set) = set.strip_prefix('^').map_or((false, set), |set| (true, set));
                let Some(character) = name.next() else { return false };
                if in_set(set, character) == negated {
                    return false;
                }
                pattern = rest.chars();
            }
            Some('\\') => {
                if pattern.next() != name.next() {
                    return false;
                }
            }
            Some(character) => {
                if name.next() != Some(character) {
                    return false;
                }
            }
        }
    }
}

fn in_set(set: &str, character: char) -> bool {
    let characters: Vec<char> = set.chars().collect();
    let mut rest = &characters[..];
    loop {
        match rest {
            [first, '-', last, tail @ ..] => {
                if (*first..=*last).contains(&character) {
                    return true;
                }
                rest = tail;
            }
            [one, tail @ ..] => {
                if *one == character {
                    return true;
                }
                rest = tail;
            }
            [] => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_tag_may_be_a_digest() {
        let digest = format!("sha256:{}", "0".repeat(64));
        assert_eq!(named("busybox", "").unwrap().to_string(), "busybox:latest");
        assert_eq!(named("busybox", "1").unwrap().to_string(), "busybox:1");
        assert_eq!(named("busybox", &digest).unwrap().to_string(), format!("busybox@{digest}"));
        assert_eq!(named("host:5000/busybox:1", "2").unwrap().to_string(), "host:5000/busybox:2");
        assert_eq!(named("busybox:1", &digest).unwrap().to_string(), format!("busybox@{digest}"));
        assert_eq!(named(&format!("busybox@{digest}"), "1").unwrap().to_string(), format!("busybox@{digest}"));
        assert_eq!(named("busybox:", "").unwrap().to_string(), "busybox:latest");
        for (name, tag) in [("Busybox", ""), ("busybox", "a b"), ("busybox", "md5:0"), ("", "1"), (":", "")] {
            assert!(named(name, tag).is_err(), "{name} {tag}");
        }
    }

    #[test]
    fn shell_patterns_are_gos() {
        for (pattern, name, expected) in [
            ("busybox", "busybox", true),
            ("busy*", "busybox", true),
            ("busy*", "busybox:latest", true),
            ("*:latest", "busybox:latest", true),
            ("*", "host/busybox", false),
            ("*/busybox", "host/busybox", true),
            ("b?sybox", "busybox", true),
            ("b[t-v]sybox", "busybox", true),
            ("b[^u]sybox", "busybox", false),
            ("busy", "busybox", false),
            ("b\\*", "b*", true),
            ("[", "[", false),
        ] {
            assert_eq!(fits(pattern, name), expected, "{pattern} {name}");
        }
    }
}
