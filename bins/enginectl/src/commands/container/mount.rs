//! `--mount` and `--network` in their long forms: `key=value` parted by commas, with quotes as in CSV.

use engine_api::host_config::{BindOptions, DriverConfig, ImageOptions, Mount, TmpfsOptions, VolumeOptions};
use engine_api::network::{EndpointIpamConfig, EndpointSettings};

use crate::args::truth;
use crate::output::size;

/// The fields of one line of CSV.
pub(crate) fn fields(text: &str) -> Result<Vec<String>, String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let last = fields.len() - 1;
        match character {
            '"' if quoted && characters.next_if_eq(&'"').is_some() => fields[last].push('"'),
            '"' if quoted => quoted = false,
            '"' if fields[last].is_empty() => quoted = true,
            '"' => return Err(format!("bare \" in {text:?}")),
            ',' if !quoted => fields.push(String::new()),
            other => fields[last].push(other),
        }
    }
    if quoted {
        return Err(format!("extraneous or missing \" in {text:?}"));
    }
    Ok(fields)
}

/// The value of `--mount`. `absolute` makes a path of the client's absolute.
pub(crate) fn mount(text: &str, absolute: impl Fn(&str) -> String) -> Result<Mount, String> {
    let mut mount = Mount { kind: "volume".to_owned(), ..Mount::default() };
    let mut bind = None::<BindOptions>;
    let mut volume = None::<VolumeOptions>;
    let mut image = None::<ImageOptions>;
    let mut tmpfs = None::<TmpfsOptions>;
    for field in fields(text)? {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key.to_ascii_lowercase(), Some(value)),
            None => (field.to_ascii_lowercase(), None),
        };
        let flag = |value: Option<&str>| match value {
            None => Ok(true),
            Some(value) => truth(value).map_err(|_| format!("invalid value for {key}: {value}")),
        };
        match key.as_str() {
            "readonly" | "ro" => {
                mount.read_only = flag(value)?;
                continue;
            }
            "volume-nocopy" => {
                volume.get_or_insert_default().no_copy = flag(value)?;
                continue;
            }
            "bind-nonrecursive" => {
                bind.get_or_insert_default().non_recursive = flag(value)?;
                continue;
            }
            "bind-create-src" | "bind-create-mountpoint" => {
                bind.get_or_insert_default().create_mountpoint = flag(value)?;
                continue;
            }
            _ => {}
        }
        let value = value.ok_or_else(|| format!("invalid field '{field}' must be a key=value pair"))?;
        match key.as_str() {
            "type" => mount.kind = value.to_ascii_lowercase(),
            "source" | "src" => mount.source = value.to_owned(),
            "target" | "dst" | "destination" => mount.target = value.to_owned(),
            "idmap" => value.clone_into(&mut mount.id_map),
            "consistency" => mount.consistency = value.to_ascii_lowercase(),
            "bind-propagation" => bind.get_or_insert_default().propagation = value.to_ascii_lowercase(),
            "bind-recursive" => {
                let bind = bind.get_or_insert_default();
                match value {
                    "enabled" => {}
                    "disabled" => bind.non_recursive = true,
                    "writable" => bind.read_only_non_recursive = true,
                    "readonly" => bind.read_only_force_recursive = true,
                    _ => {
                        return Err(format!(
                            "invalid value for {key}: {value} (must be \"enabled\", \"disabled\", \"writable\", or \"readonly\")"
                        ));
                    }
                }
            }
            "volume-subpath" => value.clone_into(&mut volume.get_or_insert_default().subpath),
            "volume-driver" => {
                value.clone_into(&mut volume.get_or_insert_default().driver_config.get_or_insert_default().name);
            }
            "volume-label" | "volume-opt" => {
                let (name, text) = value.split_once('=').unwrap_or((value, ""));
                let volume = volume.get_or_insert_default();
                let map = if key == "volume-label" {
                    volume.labels.get_or_insert_default()
                } else {
                    volume.driver_config.get_or_insert_with(DriverConfig::default).options.get_or_insert_default()
                };
                map.insert(name.to_owned(), text.to_owned());
            }
            "image-subpath" => value.clone_into(&mut image.get_or_insert_default().subpath),
            "tmpfs-size" => {
                tmpfs.get_or_insert_default().size_bytes =
                    size::parse(value).map_err(|_| format!("invalid value for {key}: {value}"))?;
            }
            "tmpfs-mode" => {
                tmpfs.get_or_insert_default().mode =
                    u32::from_str_radix(value, 8).map_err(|_| format!("invalid value for {key}: {value}"))?;
            }
            _ => return Err(format!("unknown option '{key}' in '{field}'")),
        }
    }
    if mount.kind.is_empty() {
        return Err("type is required".to_owned());
    }
    if mount.target.is_empty() {
        return Err("target is required".to_owned());
    }
    for (given, kind) in
        [(bind.is_some(), "bind"), (volume.is_some(), "volume"), (image.is_some(), "image"), (tmpfs.is_some(), "tmpfs")]
    {
        if given && mount.kind != kind {
            return Err(format!("cannot mix '{kind}-*' options with mount type '{}'", mount.kind));
        }
    }
    if bind
        .as_ref()
        .is_some_and(|bind| (bind.read_only_non_recursive || bind.read_only_force_recursive) && !mount.read_only)
    {
        return Err("option 'bind-recursive' requires 'readonly' to be specified in conjunction".to_owned());
    }
    if mount.kind == "bind" && mount.source.starts_with('.') {
        mount.source = absolute(&mount.source);
    }
    mount.bind_options = bind;
    mount.volume_options = volume;
    mount.image_options = image;
    mount.tmpfs_options = tmpfs;
    Ok(mount)
}

fn ipam(endpoint: &mut EndpointSettings) -> &mut EndpointIpamConfig {
    endpoint.ipam_config.get_or_insert_default()
}

/// The value of `--network`: a name, or `name=...,alias=...`.
pub(crate) fn network(text: &str) -> Result<(String, EndpointSettings), String> {
    if !text.contains('=') {
        return Ok((text.to_owned(), EndpointSettings::default()));
    }
    let mut name = String::new();
    let mut endpoint = EndpointSettings::default();
    for field in fields(text)? {
        let (key, value) = field.split_once('=').ok_or_else(|| format!("invalid field {field}"))?;
        let value = value.trim();
        match key.trim().to_ascii_lowercase().as_str() {
            "name" => name = value.to_owned(),
            "alias" => endpoint.aliases.get_or_insert_default().push(value.to_owned()),
            "ip" => value.clone_into(&mut ipam(&mut endpoint).ipv4_address),
            "ip6" => value.clone_into(&mut ipam(&mut endpoint).ipv6_address),
            "link-local-ip" => ipam(&mut endpoint).link_local_ips.push(value.to_owned()),
            "mac-address" => value.clone_into(&mut endpoint.mac_address),
            "gw-priority" => {
                endpoint.gw_priority = value.parse().map_err(|_| format!("invalid gw-priority {value:?}"))?;
            }
            "driver-opt" => {
                let (option, value) = value
                    .split_once('=')
                    .ok_or_else(|| "invalid key value pair format in driver options".to_owned())?;
                endpoint.driver_opts.get_or_insert_default().insert(option.to_ascii_lowercase(), value.to_owned());
            }
            other => return Err(format!("invalid field key {other}")),
        }
    }
    if name.is_empty() {
        return Err("network name/id is not specified".to_owned());
    }
    Ok((name, endpoint))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parse(text: &str) -> Result<Mount, String> {
        mount(text, |path| format!("/here/{path}"))
    }

    #[test]
    fn csv() {
        assert_eq!(fields("a,b=c").unwrap(), ["a", "b=c"]);
        assert_eq!(fields("\"a,\"\"b\",c").unwrap(), ["a,\"b", "c"]);
        assert!(fields("\"a").is_err() && fields("a\"b").is_err());
    }

    #[test]
    fn mounts_of_every_kind() {
        let bind = parse("type=bind,src=./x,dst=/y,readonly,bind-propagation=rshared,bind-recursive=readonly").unwrap();
        assert_eq!((bind.kind.as_str(), bind.source.as_str(), bind.target.as_str()), ("bind", "/here/./x", "/y"));
        assert!(bind.read_only);
        let options = bind.bind_options.unwrap();
        assert!(options.read_only_force_recursive && options.propagation == "rshared");
        let volume = parse(
            "source=data,target=/d,volume-nocopy,volume-label=a=b,volume-driver=local,volume-opt=o=x,volume-subpath=s",
        )
        .unwrap();
        let options = volume.volume_options.unwrap();
        assert!(options.no_copy && options.subpath == "s");
        assert_eq!(options.labels.unwrap()["a"], "b");
        assert_eq!(options.driver_config.unwrap().options.unwrap()["o"], "x");
        let tmpfs = parse("type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=1770").unwrap().tmpfs_options.unwrap();
        assert_eq!((tmpfs.size_bytes, tmpfs.mode), (1 << 20, 0o1770));
        assert!(!parse("target=/x,ro=false").unwrap().read_only);
        assert_eq!(parse("target=/x,idmap=uids=1000-0-1;gids=1000-0-1").unwrap().id_map, "uids=1000-0-1;gids=1000-0-1");
    }

    #[test]
    fn mounts_that_make_no_sense() {
        for text in [
            "",
            "type=bind",
            "type=bind,src=/x",
            "foo=bar,target=/x",
            "target",
            "type=tmpfs,target=/x,volume-nocopy",
            "target=/x,readonly=maybe",
            "type=tmpfs,target=/x,tmpfs-size=big",
            "type=bind,src=/,target=/x,bind-recursive=readonly",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn networks_long_and_short() {
        assert_eq!(network("mynet").unwrap(), ("mynet".to_owned(), EndpointSettings::default()));
        let (name, endpoint) =
            network("name=n,alias=a,alias=b,ip=10.0.0.5,mac-address=02:00:00:00:00:01,gw-priority=3,driver-opt=x=y")
                .unwrap();
        assert_eq!(name, "n");
        assert_eq!(endpoint.aliases.unwrap(), ["a", "b"]);
        assert_eq!(endpoint.ipam_config.unwrap().ipv4_address, "10.0.0.5");
        assert_eq!(endpoint.gw_priority, 3);
        assert!(network("alias=a").is_err() && network("name=n,foo=x").is_err());
    }
}
