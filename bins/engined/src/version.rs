//! Versions of the API: the only place that knows an older one. A request names its version in its path; answers for older
//! clients are changed here and nowhere else.

use engine_api::version::{ApiVersion, MAX, MIN};

use crate::error::Error;

/// What is answered though nobody is told of it: the skopeo and the image library of Debian 12 ask in this version, and what
/// they ask for has not changed since.
const OLDEST: ApiVersion = ApiVersion::new(1, 22);

/// The version whose clients read errors as JSON.
const JSON_ERRORS: ApiVersion = ApiVersion::new(1, 24);

/// Takes a leading `/v1.NN` off a path. None when there is no version: the newest one is meant then.
pub(crate) fn split(path: &str) -> (Option<&str>, &str) {
    let versioned = || {
        let rest = path.strip_prefix("/v")?;
        let end = rest.find('/')?;
        let (version, rest) = rest.split_at(end);
        let digits = !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        digits.then_some((Some(version), rest))
    };
    versioned().unwrap_or((None, path))
}

/// Checks a version that a path names.
pub(crate) fn negotiate(asked: Option<&str>) -> Result<ApiVersion, Error> {
    let Some(text) = asked else { return Ok(MAX) };
    let version: ApiVersion = text.parse().map_err(|_| Error::not_found("page not found"))?;
    if version < OLDEST {
        return Err(Error::invalid(format!(
            "client version {text} is too old. Minimum supported API version is {MIN}, please upgrade your client to a newer version"
        )));
    }
    if version > MAX {
        return Err(Error::invalid(format!(
            "client version {text} is too new. Maximum supported API version is {MAX}"
        )));
    }
    Ok(version)
}

/// Whether the client reads errors as JSON: those of versions that are too old do not.
pub(crate) fn reads_json_errors(asked: Option<&str>) -> bool {
    asked.and_then(|text| text.parse::<ApiVersion>().ok()).is_none_or(|version| version >= JSON_ERRORS)
}

/// What a version of the API has that others have not.
pub(crate) trait Gates {
    /// 1.42 tells multiplexed streams from raw ones by their content type.
    fn names_multiplexed_streams(self) -> bool;
    /// 1.42 can stop with another signal.
    fn has_stop_signal(self) -> bool;
    /// 1.42 has the size of a terminal in the request that makes it.
    fn has_console_size(self) -> bool;
    /// Up to 1.43 images have `VirtualSize`.
    fn has_virtual_size(self) -> bool;
    /// Up to 1.43 untagged images have `<none>:<none>` among their names.
    fn names_untagged_images(self) -> bool;
    /// 1.44 moved the hardware address to the endpoint.
    fn has_endpoint_mac_address(self) -> bool;
    /// Up to 1.44 the container that an image was made of is shown.
    fn has_image_container(self) -> bool;
    /// 1.47 shows whether a network has IPv4.
    fn has_enable_ipv4(self) -> bool;
    /// Up to 1.48 `/info` has what was expected of the parts, and registries' rules for foreign layers.
    fn has_expected_commits(self) -> bool;
    /// 1.48 shows the manifest that an image came with.
    fn has_image_descriptor(self) -> bool;
    /// 1.49 tells which firewall is used.
    fn has_firewall(self) -> bool;
    /// Up to 1.49 `/info` tells whether bridged packets are filtered.
    fn has_bridge_netfilter(self) -> bool;
    /// 1.51 tells how many containers an image has.
    fn counts_containers(self) -> bool;
    /// Up to 1.29 a wait answers with its head only when it is over, and knows no conditions.
    fn has_wait_conditions(self) -> bool;
    /// Up to 1.39 a container whose IPC mode is left open shares its memory when asked.
    fn shares_ipc_by_default(self) -> bool;
    /// Up to 1.40 a container whose cgroup namespace is left open has the host's.
    fn uses_host_cgroup_namespace(self) -> bool;
    /// Up to 1.40 images are asked for by a name in `filter`.
    fn filters_images_by_name(self) -> bool;
    /// 1.42 prunes only anonymous volumes unless all are asked for.
    fn prunes_anonymous_volumes_only(self) -> bool;
    /// 1.25 removes a container by itself at its end; older clients do that.
    fn has_auto_remove(self) -> bool;
    /// 1.25 tells more of security options than their names.
    fn has_security_details(self) -> bool;
    /// 1.28 sends the frames of a WebSocket as binary ones, not as text.
    fn sends_binary_frames(self) -> bool;
    /// Up to 1.27 the list of networks has their containers.
    fn lists_members_of_networks(self) -> bool;
    /// 1.34 tells a waiter that a removal has failed; before, the answer stays empty.
    fn tells_failed_removals(self) -> bool;
    /// 1.40 can change how many processes a container may have.
    fn updates_pids_limit(self) -> bool;
    /// 1.40 binds a directory without the mounts below it.
    fn has_non_recursive_binds(self) -> bool;
    /// 1.41 creates a container for a platform.
    fn has_platform(self) -> bool;
    /// 1.41 takes one sample when one is enough.
    fn has_one_shot_stats(self) -> bool;
    /// 1.42 makes the source of a bind in long form when it is asked to.
    fn makes_mount_points(self) -> bool;
    /// 1.42 refuses options of a mount of another type.
    fn checks_mount_options(self) -> bool;
    /// 1.42 attaches a WebSocket to the streams that it asks for; before, to all.
    fn chooses_streams_of_sockets(self) -> bool;
    /// 1.42 tells how much of an image others share.
    fn has_shared_size(self) -> bool;
    /// 1.42 measures only what is asked for.
    fn measures_kinds(self) -> bool;
    /// 1.43 has annotations of containers.
    fn has_annotations(self) -> bool;
    /// 1.44 asks for health at another rhythm while a container starts.
    fn has_start_interval(self) -> bool;
    /// 1.44 makes what is below a read-only bind read-only too.
    fn has_recursive_read_only(self) -> bool;
    /// 1.44 creates a container on several networks.
    fn creates_on_several_networks(self) -> bool;
    /// 1.45 mounts a part of a volume.
    fn has_volume_subpath(self) -> bool;
    /// Up to 1.44 a container's short id and host name are among its aliases.
    fn shows_names_as_aliases(self) -> bool;
    /// 1.46 lists the annotations of containers.
    fn lists_annotations(self) -> bool;
    /// 1.46 tells of images that are made.
    fn tells_of_made_images(self) -> bool;
    /// 1.47 lists the manifests of images.
    fn lists_manifests(self) -> bool;
    /// 1.48 mounts images.
    fn has_image_mounts(self) -> bool;
    /// 1.48 says which network has the default gateway.
    fn has_gateway_priority(self) -> bool;
    /// 1.48 makes networks without IPv4.
    fn chooses_ipv4(self) -> bool;
    /// 1.48 warns of a volume driver that volumes in long form do not heed.
    fn warns_of_volume_driver(self) -> bool;
    /// 1.50 tells which devices can be given to containers by name.
    fn has_discovered_devices(self) -> bool;
    /// Up to 1.49 the configuration of an image has those fields too that only containers have.
    fn shows_fields_of_containers(self) -> bool;
}

fn since(version: ApiVersion, minor: u16) -> bool {
    version >= ApiVersion::new(1, minor)
}

impl Gates for ApiVersion {
    fn names_multiplexed_streams(self) -> bool {
        since(self, 42)
    }

    fn has_stop_signal(self) -> bool {
        since(self, 42)
    }

    fn has_console_size(self) -> bool {
        since(self, 42)
    }

    fn has_virtual_size(self) -> bool {
        !since(self, 44)
    }

    fn names_untagged_images(self) -> bool {
        !since(self, 43)
    }

    fn has_endpoint_mac_address(self) -> bool {
        since(self, 44)
    }

    fn has_image_container(self) -> bool {
        !since(self, 45)
    }

    fn has_enable_ipv4(self) -> bool {
        since(self, 47)
    }

    fn has_expected_commits(self) -> bool {
        !since(self, 49)
    }

    fn has_image_descriptor(self) -> bool {
        since(self, 48)
    }

    fn has_firewall(self) -> bool {
        since(self, 49)
    }

    fn has_bridge_netfilter(self) -> bool {
        !since(self, 50)
    }

    fn counts_containers(self) -> bool {
        since(self, 51)
    }

    fn has_wait_conditions(self) -> bool {
        since(self, 30)
    }

    fn shares_ipc_by_default(self) -> bool {
        !since(self, 40)
    }

    fn uses_host_cgroup_namespace(self) -> bool {
        !since(self, 41)
    }

    fn filters_images_by_name(self) -> bool {
        !since(self, 41)
    }

    fn prunes_anonymous_volumes_only(self) -> bool {
        since(self, 42)
    }

    fn has_auto_remove(self) -> bool {
        since(self, 25)
    }

    fn has_security_details(self) -> bool {
        since(self, 25)
    }

    fn sends_binary_frames(self) -> bool {
        since(self, 28)
    }

    fn lists_members_of_networks(self) -> bool {
        !since(self, 28)
    }

    fn tells_failed_removals(self) -> bool {
        since(self, 34)
    }

    fn updates_pids_limit(self) -> bool {
        since(self, 40)
    }

    fn has_non_recursive_binds(self) -> bool {
        since(self, 40)
    }

    fn has_platform(self) -> bool {
        since(self, 41)
    }

    fn has_one_shot_stats(self) -> bool {
        since(self, 41)
    }

    fn makes_mount_points(self) -> bool {
        since(self, 42)
    }

    fn checks_mount_options(self) -> bool {
        since(self, 42)
    }

    fn chooses_streams_of_sockets(self) -> bool {
        since(self, 42)
    }

    fn has_shared_size(self) -> bool {
        since(self, 42)
    }

    fn measures_kinds(self) -> bool {
        since(self, 42)
    }

    fn has_annotations(self) -> bool {
        since(self, 43)
    }

    fn has_start_interval(self) -> bool {
        since(self, 44)
    }

    fn has_recursive_read_only(self) -> bool {
        since(self, 44)
    }

    fn creates_on_several_networks(self) -> bool {
        since(self, 44)
    }

    fn has_volume_subpath(self) -> bool {
        since(self, 45)
    }

    fn shows_names_as_aliases(self) -> bool {
        !since(self, 45)
    }

    fn lists_annotations(self) -> bool {
        since(self, 46)
    }

    fn tells_of_made_images(self) -> bool {
        since(self, 46)
    }

    fn lists_manifests(self) -> bool {
        since(self, 47)
    }

    fn has_image_mounts(self) -> bool {
        since(self, 48)
    }

    fn has_gateway_priority(self) -> bool {
        since(self, 48)
    }

    fn chooses_ipv4(self) -> bool {
        since(self, 48)
    }

    fn warns_of_volume_driver(self) -> bool {
        since(self, 48)
    }

    fn has_discovered_devices(self) -> bool {
        since(self, 50)
    }

    fn shows_fields_of_containers(self) -> bool {
        !since(self, 50)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_version_is_taken_off_the_path() {
        assert_eq!(split("/v1.41/containers/json"), (Some("1.41"), "/containers/json"));
        assert_eq!(split("/containers/json"), (None, "/containers/json"));
        assert_eq!(split("/volumes"), (None, "/volumes"));
        assert_eq!(split("/volumes/v1"), (None, "/volumes/v1"));
        assert_eq!(split("/v1.41"), (None, "/v1.41"));
        assert_eq!(split("/vx/info"), (None, "/vx/info"));
    }

    #[test]
    fn versions_out_of_range_are_refused_in_dockers_words() {
        assert_eq!(negotiate(None).unwrap(), MAX);
        assert_eq!(negotiate(Some("1.24")).unwrap(), MIN);
        assert_eq!(negotiate(Some("1.22")).unwrap(), OLDEST);
        assert_eq!(
            negotiate(Some("1.99")).unwrap_err(),
            Error::invalid("client version 1.99 is too new. Maximum supported API version is 1.51")
        );
        assert_eq!(
            negotiate(Some("1.12")).unwrap_err(),
            Error::invalid(
                "client version 1.12 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version"
            )
        );
        assert!(!reads_json_errors(Some("1.12")) && reads_json_errors(Some("1.99")) && reads_json_errors(None));
        assert_eq!(negotiate(Some("1.2.3")).unwrap_err().message, "page not found");
    }
}
