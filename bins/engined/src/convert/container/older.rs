//! What a client asks for, as its version of the API means it: what that does not know is left out, or refused where leaving it
//! out would do harm.

use engine_api::container::CreateRequest;
use engine_api::host_config::{HostConfig, Mount};
use engine_api::network::{EndpointSettings, NetworkingConfig};
use engine_api::version::ApiVersion;

use crate::error::Error;
use crate::version::Gates;

/// Changes a request to what it means; answers warnings about old habits.
pub(crate) fn adapt(request: &mut CreateRequest, version: ApiVersion) -> Result<Vec<String>, Error> {
    let mut warnings = Vec::new();
    if let Some(check) = request.config.healthcheck.as_mut().filter(|_| !version.has_start_interval()) {
        check.start_interval = 0;
    }
    if let Some(networking) = &mut request.networking_config {
        endpoints(networking, version)?;
    }
    if let Some(host) = &mut request.host_config {
        adapt_host(host, version)?;
        warnings.extend(ignored_driver(host).filter(|_| version.warns_of_volume_driver()));
    }
    if !request.config.mac_address.is_empty() && version.has_endpoint_mac_address() {
        warnings.extend(move_mac_address(request)?);
    }
    Ok(warnings)
}

fn endpoints(networking: &mut NetworkingConfig, version: ApiVersion) -> Result<(), Error> {
    let endpoints = networking.endpoints_config.get_or_insert_default();
    if endpoints.len() > 1 && !version.creates_on_several_networks() {
        let names: Vec<_> = endpoints.keys().map(String::as_str).collect();
        return Err(Error::invalid(format!(
            "Container cannot be created with multiple network endpoints: {}",
            names.join(", ")
        )));
    }
    if !version.has_gateway_priority() {
        endpoints.values_mut().for_each(|endpoint| endpoint.gw_priority = 0);
    }
    Ok(())
}

fn adapt_host(host: &mut HostConfig, version: ApiVersion) -> Result<(), Error> {
    host.auto_remove &= version.has_auto_remove();
    if !version.has_annotations() {
        host.annotations = None;
    }
    for mount in host.mounts.iter_mut().flatten() {
        adapt_mount(mount, version)?;
    }
    Ok(())
}

fn adapt_mount(mount: &mut Mount, version: ApiVersion) -> Result<(), Error> {
    let needs = |what: &str, version: &str| Err(Error::invalid(format!("{what} needs API v{version} or newer")));
    if mount.kind == "image" && !version.has_image_mounts() {
        return needs("Mount type \"Image\"", "1.48");
    }
    if !version.checks_mount_options() {
        mount.volume_options = mount.volume_options.take().filter(|_| mount.kind == "volume");
        mount.tmpfs_options = mount.tmpfs_options.take().filter(|_| mount.kind == "tmpfs");
    }
    if mount.volume_options.as_ref().is_some_and(|options| !options.subpath.is_empty()) && !version.has_volume_subpath()
    {
        return needs("VolumeOptions.Subpath", "1.45");
    }
    if mount.kind != "bind" || version.has_recursive_read_only() {
        return Ok(());
    }
    let options = mount.bind_options.get_or_insert_default();
    // Whoever asks for this relies on it.
    if options.read_only_force_recursive {
        return needs("BindOptions.ReadOnlyForceRecursive", "1.44");
    }
    options.read_only_non_recursive = mount.read_only;
    options.create_mountpoint &= version.makes_mount_points();
    options.non_recursive &= version.has_non_recursive_binds();
    Ok(())
}

/// The driver of a container is that of its volumes in short form.
fn ignored_driver(host: &HostConfig) -> Option<String> {
    let names_driver = |mount: &Mount| {
        let driver = mount.volume_options.as_ref().and_then(|options| options.driver_config.as_ref());
        driver.is_some_and(|driver| !driver.name.is_empty())
    };
    let ignored = host.mounts.iter().flatten().any(|mount| mount.kind == "volume" && !names_driver(mount));
    (ignored && !host.volume_driver.is_empty()).then(|| {
        "WARNING: the container-wide volume-driver configuration is ignored for volumes specified via 'mount'. Use '--mount type=volume,volume-driver=...' instead"
            .to_owned()
    })
}

/// A hardware address is one of an endpoint: that on the network of the container's mode.
fn move_mac_address(request: &mut CreateRequest) -> Result<Option<String>, Error> {
    let mode = request.host_config.as_ref().map_or("", |host| host.network_mode.as_str());
    if matches!(mode, "host" | "none") || mode.starts_with("container:") {
        // Without such an endpoint it is refused, as a contradiction.
        return Ok(None);
    }
    let mode = if matches!(mode, "" | "default") { "bridge" } else { mode }.to_owned();
    let networking = request.networking_config.get_or_insert_default();
    let endpoints = networking.endpoints_config.get_or_insert_default();
    if let Some(default) = endpoints.remove("default") {
        endpoints.insert("bridge".to_owned(), default);
    }
    if !endpoints.is_empty() && !endpoints.contains_key(&mode) {
        return Err(Error::invalid(
            "unable to migrate container-wide MAC address to a specific network: HostConfig.NetworkMode must match the identity of a network in NetworkSettings.Networks",
        ));
    }
    let endpoint: &mut EndpointSettings = endpoints.entry(mode).or_default();
    let address = std::mem::take(&mut request.config.mac_address);
    if !endpoint.mac_address.is_empty() && endpoint.mac_address != address {
        return Err(Error::invalid(
            "the container-wide MAC address must match the endpoint-specific MAC address for the main network, or be left empty",
        ));
    }
    endpoint.mac_address = address;
    Ok(Some(
        "The container-wide MacAddress field is now deprecated. It should be specified in EndpointsConfig instead."
            .to_owned(),
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use engine_api::json;
    use engine_api::version::MAX;

    fn read(body: &str, version: ApiVersion) -> Result<(CreateRequest, Vec<String>), String> {
        let mut request = json::from_slice(body.as_bytes()).unwrap();
        let warnings = adapt(&mut request, version).map_err(|error| error.message)?;
        Ok((request, warnings))
    }

    fn of(minor: u16) -> ApiVersion {
        ApiVersion::new(1, minor)
    }

    #[test]
    fn what_a_version_does_not_know_is_left_out() {
        let body = r#"{"Image":"a","Healthcheck":{"Test":["CMD","x"],"StartInterval":5000000},
            "HostConfig":{"AutoRemove":true,"Annotations":{"a":"b"},"Mounts":[
                {"Type":"bind","Source":"/a","Target":"/b","ReadOnly":true,"VolumeOptions":{},
                 "BindOptions":{"NonRecursive":true,"CreateMountpoint":true}}]},
            "NetworkingConfig":{"EndpointsConfig":{"n":{"GwPriority":7}}}}"#;
        let (old, _) = read(body, of(24)).unwrap();
        let host = old.host_config.unwrap();
        assert_eq!((host.auto_remove, host.annotations), (false, None));
        assert_eq!(old.config.healthcheck.unwrap().start_interval, 0);
        let mount = &host.mounts.unwrap()[0];
        let options = mount.bind_options.clone().unwrap();
        assert!(options.read_only_non_recursive && !options.non_recursive && !options.create_mountpoint);
        assert_eq!(mount.volume_options, None);
        assert_eq!(old.networking_config.unwrap().endpoints_config.unwrap()["n"].gw_priority, 0);

        let asked: CreateRequest = json::from_slice(body.as_bytes()).unwrap();
        assert_eq!(read(body, MAX).unwrap(), (asked, Vec::new()));
        let host = read(body, of(43)).unwrap().0.host_config.unwrap();
        assert!(host.auto_remove && host.annotations.is_some());
        let options = host.mounts.unwrap()[0].bind_options.clone().unwrap();
        assert!(options.read_only_non_recursive && options.non_recursive && options.create_mountpoint);
    }

    #[test]
    fn what_cannot_be_left_out_is_refused() {
        let mount = |mount: &str| format!(r#"{{"Image":"a","HostConfig":{{"Mounts":[{mount}]}}}}"#);
        let forced =
            mount(r#"{"Type":"bind","Source":"/a","Target":"/b","BindOptions":{"ReadOnlyForceRecursive":true}}"#);
        let part = mount(r#"{"Type":"volume","Source":"v","Target":"/b","VolumeOptions":{"Subpath":"s"}}"#);
        let image = mount(r#"{"Type":"image","Source":"i","Target":"/b"}"#);
        let several = r#"{"Image":"a","NetworkingConfig":{"EndpointsConfig":{"n":{},"o":{}}}}"#;
        for (body, last, words) in [
            (forced.as_str(), 43, "BindOptions.ReadOnlyForceRecursive needs API v1.44 or newer"),
            (&part, 44, "VolumeOptions.Subpath needs API v1.45 or newer"),
            (&image, 47, "Mount type \"Image\" needs API v1.48 or newer"),
            (several, 43, "Container cannot be created with multiple network endpoints: n, o"),
        ] {
            assert_eq!(read(body, of(last)).unwrap_err(), words);
            read(body, of(last + 1)).unwrap();
        }
    }

    #[test]
    fn a_hardware_address_is_one_of_the_main_network() {
        let body = |mode: &str, endpoints: &str| {
            format!(
                r#"{{"Image":"a","MacAddress":"02:42:00:00:00:01","HostConfig":{{"NetworkMode":"{mode}"}},
                    "NetworkingConfig":{{"EndpointsConfig":{endpoints}}}}}"#
            )
        };
        for (mode, endpoints, network) in
            [("", "{}", "bridge"), ("default", r#"{"default":{}}"#, "bridge"), ("n", r#"{"n":{},"o":{}}"#, "n")]
        {
            let (request, warnings) = read(&body(mode, endpoints), MAX).unwrap();
            let endpoints = request.networking_config.unwrap().endpoints_config.unwrap();
            assert_eq!((endpoints[network].mac_address.as_str(), warnings.len()), ("02:42:00:00:00:01", 1));
            assert_eq!(request.config.mac_address, "");
        }
        let other = body("n", r#"{"n":{"MacAddress":"02:42:00:00:00:02"}}"#);
        assert!(read(&other, MAX).unwrap_err().contains("must match the endpoint-specific MAC address"));
        assert!(read(&body("n", r#"{"o":{}}"#), MAX).unwrap_err().contains("HostConfig.NetworkMode must match"));
        let (old, warnings) = read(&other, of(43)).unwrap();
        assert_eq!((old.config.mac_address.as_str(), warnings.len()), ("02:42:00:00:00:01", 0));
        assert_eq!(read(&body("host", "{}"), MAX).unwrap().0.config.mac_address, "02:42:00:00:00:01");
    }

    #[test]
    fn a_driver_that_is_not_heeded_is_warned_of() {
        let body = |driver: &str| {
            format!(
                r#"{{"Image":"a","HostConfig":{{"VolumeDriver":"x","Mounts":[{{"Type":"volume","Target":"/b",
                    "VolumeOptions":{{"DriverConfig":{{"Name":"{driver}"}}}}}}]}}}}"#
            )
        };
        assert_eq!(read(&body(""), MAX).unwrap().1.len(), 1);
        assert!(read(&body("local"), MAX).unwrap().1.is_empty() && read(&body(""), of(47)).unwrap().1.is_empty());
    }
}
