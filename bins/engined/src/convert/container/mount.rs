//! Mounts in long form, and mounts as inspect shows them.

use engine::container::{MountKind, MountPoint, MountSource, MountSpec, Propagation, Record};
use engine_api::container as wire;
use engine_api::host_config as asked;

use crate::error::Error;

/// What was asked for.
pub(crate) fn to_engine(mount: asked::Mount) -> Result<MountSpec, Error> {
    let invalid = |text: String| Error::invalid(format!("invalid mount config for type \"{}\": {text}", mount.kind));
    if mount.target.is_empty() {
        return Err(invalid("field Target must not be empty".to_owned()));
    }
    for (kind, given) in [
        ("bind", mount.bind_options.is_some()),
        ("volume", mount.volume_options.is_some()),
        ("tmpfs", mount.tmpfs_options.is_some()),
        ("image", mount.image_options.is_some()),
    ] {
        if given && kind != mount.kind {
            let mut name = kind.to_owned();
            name[..1].make_ascii_uppercase();
            return Err(invalid(format!("field {name}Options must not be specified")));
        }
    }
    let mut spec = match mount.kind.as_str() {
        "bind" => {
            if mount.source.is_empty() {
                return Err(invalid("field Source must not be empty".to_owned()));
            }
            let options = mount.bind_options.unwrap_or_default();
            let propagation = match options.propagation.as_str() {
                "" => Propagation::default(),
                word => Propagation::from_word(word).ok_or_else(|| {
                    Error::invalid(format!("invalid mount config for type \"bind\": invalid propagation mode: {word}"))
                })?,
            };
            let mut spec = MountSpec::bind(mount.source, mount.target);
            spec.source = match spec.source {
                MountSource::Bind { path, .. } => MountSource::Bind {
                    path,
                    propagation,
                    non_recursive: options.non_recursive,
                    create: options.create_mountpoint,
                    read_only_non_recursive: options.read_only_non_recursive,
                    read_only_force_recursive: options.read_only_force_recursive,
                },
                other => other,
            };
            spec
        }
        "volume" => {
            let options = mount.volume_options.unwrap_or_default();
            let mut spec = MountSpec::anonymous_volume(mount.target);
            spec.source = MountSource::Volume {
                name: (!mount.source.is_empty()).then_some(mount.source),
                no_copy: options.no_copy,
                labels: options.labels.unwrap_or_default(),
                driver: options.driver_config.map(|driver| (driver.name, driver.options.unwrap_or_default())),
                subpath: (!options.subpath.is_empty()).then_some(options.subpath),
            };
            spec
        }
        "tmpfs" => {
            if !mount.source.is_empty() {
                return Err(invalid("field Source must not be specified".to_owned()));
            }
            let options = mount.tmpfs_options.unwrap_or_default();
            let mut spec = MountSpec::tmpfs(mount.target);
            spec.source = MountSource::Tmpfs {
                size: u64::try_from(options.size_bytes).ok().filter(|size| *size > 0),
                mode: (options.mode > 0).then_some(options.mode),
                options: options.options.into_iter().map(|option| option.join("=")).collect(),
            };
            spec
        }
        "image" => {
            if mount.source.is_empty() {
                return Err(invalid("field Source must not be empty".to_owned()));
            }
            let subpath = mount.image_options.map(|options| options.subpath).filter(|subpath| !subpath.is_empty());
            let mut spec = MountSpec::image(mount.source.clone(), mount.target);
            spec.source = MountSource::Image { reference: mount.source, subpath };
            spec
        }
        "npipe" | "cluster" => {
            return Err(Error::unsupported(format!("this engine does not support mounts of type {:?}", mount.kind)));
        }
        _ => return Err(invalid("mount type unknown".to_owned())),
    };
    spec.read_only = mount.read_only;
    if !mount.id_map.is_empty() {
        spec.id_map = Some(mount.id_map.parse()?);
    }
    Ok(spec)
}

/// What was decided, in the form in which it was asked for.
pub(crate) fn to_wire(mount: &MountSpec) -> Option<asked::Mount> {
    let shown = asked::Mount {
        target: mount.target.clone(),
        read_only: mount.read_only,
        id_map: mount.id_map.as_ref().map(ToString::to_string).unwrap_or_default(),
        ..asked::Mount::default()
    };
    Some(match &mount.source {
        MountSource::Bind {
            path,
            propagation,
            non_recursive,
            create,
            read_only_non_recursive,
            read_only_force_recursive,
        } => {
            let options = asked::BindOptions {
                propagation: if *propagation == Propagation::default() {
                    String::new()
                } else {
                    propagation.to_string()
                },
                non_recursive: *non_recursive,
                create_mountpoint: *create,
                read_only_non_recursive: *read_only_non_recursive,
                read_only_force_recursive: *read_only_force_recursive,
            };
            let bind_options = (options != asked::BindOptions::default()).then_some(options);
            asked::Mount { kind: "bind".to_owned(), source: path.clone(), bind_options, ..shown }
        }
        MountSource::Volume { name, no_copy, labels, driver, subpath } => {
            let options = asked::VolumeOptions {
                no_copy: *no_copy,
                labels: (!labels.is_empty()).then(|| labels.clone()),
                subpath: subpath.clone().unwrap_or_default(),
                driver_config: driver.clone().map(|(name, options)| asked::DriverConfig {
                    name,
                    options: Some(options).filter(|map| !map.is_empty()),
                }),
            };
            let volume_options = (options != asked::VolumeOptions::default()).then_some(options);
            asked::Mount {
                kind: "volume".to_owned(),
                source: name.clone().unwrap_or_default(),
                volume_options,
                ..shown
            }
        }
        MountSource::Tmpfs { size, mode, options } => {
            let options = asked::TmpfsOptions {
                size_bytes: size.map_or(0, |size| i64::try_from(size).unwrap_or(i64::MAX)),
                mode: mode.unwrap_or_default(),
                options: options.iter().map(|option| option.splitn(2, '=').map(str::to_owned).collect()).collect(),
            };
            let tmpfs_options = (options != asked::TmpfsOptions::default()).then_some(options);
            asked::Mount { kind: "tmpfs".to_owned(), tmpfs_options, ..shown }
        }
        MountSource::Image { reference, subpath } => {
            let image_options = subpath.clone().map(|subpath| asked::ImageOptions { subpath });
            asked::Mount { kind: "image".to_owned(), source: reference.clone(), image_options, ..shown }
        }
        // A kind that this daemon does not know has no wire form.
        _ => return None,
    })
}

/// The mounts that inspect and list show: all but the memory that was asked for by `--tmpfs`, which stands in the host's part.
pub(crate) fn points(record: &Record) -> Vec<wire::MountPoint> {
    let tmpfs = &record.config.host.tmpfs;
    let is_tmpfs = |point: &MountPoint| {
        point.kind == MountKind::Tmpfs && tmpfs.keys().any(|path| path.trim_end_matches('/') == point.destination)
    };
    record.mounts.iter().filter(|point| !is_tmpfs(point)).map(point).collect()
}

fn point(mount: &MountPoint) -> wire::MountPoint {
    wire::MountPoint {
        kind: mount.kind.as_str().to_owned(),
        name: mount.name.clone().unwrap_or_default(),
        source: mount.source.clone(),
        destination: mount.destination.clone(),
        driver: mount.driver.clone().unwrap_or_default(),
        mode: mount.mode.clone(),
        rw: mount.writable,
        propagation: if mount.kind == MountKind::Bind { mount.propagation.to_string() } else { String::new() },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(text: &str) -> Result<MountSpec, Error> {
        to_engine(engine_api::json::from_slice(text.as_bytes()).unwrap())
    }

    #[test]
    fn what_is_asked_for_comes_back() {
        for text in [
            r#"{"Type":"bind","Source":"/a","Target":"/b","ReadOnly":true,"BindOptions":{"Propagation":"rslave","CreateMountpoint":true}}"#,
            r#"{"Type":"bind","Source":"/a","Target":"/b"}"#,
            r#"{"Type":"volume","Source":"v","Target":"/b","VolumeOptions":{"NoCopy":true,"Labels":{"a":"b"},"Subpath":"s","DriverConfig":{"Name":"local"}}}"#,
            r#"{"Type":"volume","Target":"/b"}"#,
            r#"{"Type":"volume","Target":"/b","IdMap":"uids=1000-0-1"}"#,
            r#"{"Type":"image","Source":"i","Target":"/b","ReadOnly":true,"ImageOptions":{"Subpath":"s"}}"#,
            r#"{"Type":"tmpfs","Target":"/b","TmpfsOptions":{"SizeBytes":4096,"Mode":448,"Options":[["exec"],["uid","5"]]}}"#,
        ] {
            let shown = serde_json::to_string(&to_wire(&read(text).unwrap()).unwrap()).unwrap();
            assert_eq!(shown, text);
        }
    }

    #[test]
    fn nonsense_is_refused_in_dockers_words() {
        for (text, message) in [
            (
                r#"{"Type":"bind","Target":"/b"}"#,
                "invalid mount config for type \"bind\": field Source must not be empty",
            ),
            (
                r#"{"Type":"bind","Source":"/a"}"#,
                "invalid mount config for type \"bind\": field Target must not be empty",
            ),
            (
                r#"{"Type":"bind","Source":"/a","Target":"/b","VolumeOptions":{}}"#,
                "invalid mount config for type \"bind\": field VolumeOptions must not be specified",
            ),
            (
                r#"{"Type":"tmpfs","Source":"/a","Target":"/b"}"#,
                "invalid mount config for type \"tmpfs\": field Source must not be specified",
            ),
            (r#"{"Type":"bogus","Target":"/b"}"#, "invalid mount config for type \"bogus\": mount type unknown"),
        ] {
            assert_eq!(read(text).unwrap_err(), Error::invalid(message));
        }
        let error = read(r#"{"Type":"bind","Source":"/a","Target":"/b","IdMap":"me"}"#).unwrap_err();
        assert!(error.message.starts_with("invalid idmap \"me\""), "{}", error.message);
        assert_eq!(read(r#"{"Type":"npipe","Source":"i","Target":"/b"}"#).unwrap_err().status.as_u16(), 501);
    }
}
