//! Volumes.

use std::collections::BTreeMap;

use engine::volume::{Volume, VolumeSpec};
use engine_api::volume as wire;

use super::time::rfc3339_seconds;

/// What was asked for.
pub(crate) fn spec(request: wire::VolumeCreate) -> VolumeSpec {
    let mut spec = if request.name.is_empty() { VolumeSpec::anonymous() } else { VolumeSpec::named(request.name) };
    if !request.driver.is_empty() {
        spec = spec.driver(request.driver);
    }
    for (key, value) in request.driver_opts.unwrap_or_default() {
        spec = spec.option(key, value);
    }
    for (key, value) in request.labels.unwrap_or_default() {
        spec = spec.label(key, value);
    }
    spec
}

/// A volume as it is shown.
pub(crate) fn volume(volume: &Volume) -> wire::Volume {
    wire::Volume {
        created_at: rfc3339_seconds(volume.created()),
        driver: volume.driver().to_owned(),
        labels: Some(labels(volume)),
        mountpoint: volume.mountpoint().to_string_lossy().into_owned(),
        name: volume.name().as_str().to_owned(),
        options: Some(volume.options().clone()).filter(|options| !options.is_empty()),
        scope: "local".to_owned(),
        usage_data: None,
    }
}

/// Its labels, with the one that marks an anonymous volume.
pub(crate) fn labels(volume: &Volume) -> BTreeMap<String, String> {
    let mut labels = volume.labels().clone();
    if volume.is_anonymous() {
        labels.entry(engine::volume::ANONYMOUS_LABEL.to_owned()).or_default();
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_becomes_a_spec() {
        let request = wire::VolumeCreate {
            name: "data".into(),
            labels: Some(BTreeMap::from([("a".into(), "b".into())])),
            ..wire::VolumeCreate::default()
        };
        let spec = spec(request);
        assert_eq!((spec.name.as_deref(), spec.labels["a"].as_str()), (Some("data"), "b"));
        assert_eq!(super::spec(wire::VolumeCreate::default()).name, None);
    }
}
