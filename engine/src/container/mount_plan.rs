//! From what was asked to be mounted to what is: reads `source:destination[:options]`, checks, and takes out what is there
//! twice. Nothing is looked up on the host.

use std::collections::BTreeSet;

use super::Error;
use super::config::{Config, clean_path};
use super::id_map::IdMap;
use super::mounts::{MountKind, MountPoint, MountSource, MountSpec, Propagation};

/// A mount, and what a volume that is made for it shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Planned {
    pub(super) point: MountPoint,
    /// The labels and the driver's options of a volume that is made.
    pub(super) volume: Option<(Labels, Labels)>,
    /// A missing path of the host is refused, not made.
    pub(super) must_exist: bool,
}

type Labels = std::collections::BTreeMap<String, String>;

/// The mounts of a container that asks nothing of others.
#[cfg(test)]
pub(super) fn plan(config: &Config) -> Result<Vec<Planned>, Error> {
    plan_with(config, Vec::new())
}

/// The mounts of a container. Volumes have no source yet, anonymous ones no name. What other containers have is there too, unless
/// something is asked for in its place.
pub(super) fn plan_with(config: &Config, inherited: Vec<MountPoint>) -> Result<Vec<Planned>, Error> {
    let host = &config.host;
    let mut planned = Vec::new();
    for bind in &host.binds {
        planned.push(read_bind(bind)?);
    }
    for mount in &host.mounts {
        planned.push(read_mount(mount)?);
    }
    for (path, options) in &host.tmpfs {
        let options = options.split(',').filter(|option| !option.is_empty()).map(str::to_owned).collect();
        planned.push(tmpfs(path, options, &format!("{path}:"))?);
    }
    let mut taken = BTreeSet::new();
    for mount in &planned {
        if !taken.insert(mount.point.destination.clone()) {
            return Err(Error::invalid(format!("Duplicate mount point: {}", mount.point.destination)));
        }
    }
    for point in inherited {
        if taken.insert(point.destination.clone()) {
            planned.push(Planned { point, volume: None, must_exist: false });
        }
    }
    for path in &config.volumes {
        // `volumes` of old clients may hold whole binds.
        let mount = if path.contains(':') { read_bind(path)? } else { volume(None, path, path)? };
        if taken.insert(mount.point.destination.clone()) {
            planned.push(mount);
        }
    }
    // A mount on another's directory comes after it.
    planned.sort_by_key(|mount| {
        mount.point.destination.matches('/').count() - usize::from(mount.point.destination == "/")
    });
    Ok(planned)
}

fn point(kind: MountKind, destination: String) -> MountPoint {
    MountPoint {
        kind,
        name: None,
        source: String::new(),
        destination,
        driver: None,
        mode: String::new(),
        writable: true,
        propagation: Propagation::default(),
        anonymous: false,
        copy_up: false,
        non_recursive: false,
        read_only_non_recursive: false,
        create: false,
        subpath: None,
        mounted: false,
        layers: Vec::new(),
        id_map: None,
        options: Vec::new(),
    }
}

fn destination(path: &str, shown: &str) -> Result<String, Error> {
    if !path.starts_with('/') {
        return Err(Error::invalid(format!(
            "invalid volume specification: '{shown}': invalid mount config: invalid mount path: '{path}' mount path must be absolute"
        )));
    }
    if path.contains('\0') {
        return Err(Error::invalid("a mount path must not contain a zero byte"));
    }
    let clean = clean_path(path);
    if clean == "/" {
        return Err(Error::invalid(format!(
            "invalid volume specification: '{shown}': invalid mount config: invalid specification: destination can't be '/'"
        )));
    }
    Ok(clean)
}

fn volume(name: Option<&str>, path: &str, shown: &str) -> Result<Planned, Error> {
    let mut point = point(MountKind::Volume, destination(path, shown)?);
    point.name = name.map(str::to_owned);
    point.anonymous = name.is_none();
    point.driver = Some("local".to_owned());
    point.copy_up = true;
    Ok(Planned { point, volume: Some(Default::default()), must_exist: false })
}

/// Reads `source:destination[:options]`, or a destination alone.
fn read_bind(text: &str) -> Result<Planned, Error> {
    let invalid = || Error::invalid(format!("invalid volume specification: '{text}'"));
    let parts: Vec<&str> = text.split(':').collect();
    let (source, path, options) = match parts[..] {
        [path] if !path.is_empty() => return volume(None, path, text),
        // A destination with options is no volume.
        [_, second] if second.is_empty() || BindOptions::read(second).is_some() => return Err(invalid()),
        [source, path] => (source, path, ""),
        [source, path, options] if !options.is_empty() => (source, path, options),
        _ => return Err(invalid()),
    };
    if source.is_empty() {
        return Err(invalid());
    }
    let read = BindOptions::read(options)
        .ok_or_else(|| Error::invalid(format!("invalid volume specification: '{text}': invalid mode: {options}")))?;
    let mut planned = if source.starts_with('/') {
        if read.no_copy.is_some() {
            return Err(Error::invalid(format!("invalid volume specification: '{text}': invalid mode: {options}")));
        }
        let mut point = point(MountKind::Bind, destination(path, text)?);
        point.source = clean_path(source);
        point.create = true;
        Planned { point, volume: None, must_exist: false }
    } else {
        if read.propagation.is_some() {
            return Err(Error::invalid(format!("invalid volume specification: '{text}': invalid mode: {options}")));
        }
        let mut planned = volume(Some(source), path, text)?;
        planned.point.copy_up = read.no_copy != Some(true);
        planned
    };
    planned.point.writable = !read.read_only;
    options.clone_into(&mut planned.point.mode);
    planned.point.propagation = read.propagation.unwrap_or_default();
    planned.point.non_recursive = read.non_recursive;
    planned.point.id_map = read.id_map;
    Ok(planned)
}

#[derive(Default)]
struct BindOptions {
    read_only: bool,
    propagation: Option<Propagation>,
    no_copy: Option<bool>,
    non_recursive: bool,
    id_map: Option<IdMap>,
}

impl BindOptions {
    fn read(text: &str) -> Option<Self> {
        let mut options = Self::default();
        let (mut access, mut label, mut consistency) = (0, 0, 0);
        for word in text.split(',').filter(|_| !text.is_empty()) {
            match word {
                "ro" | "rw" => {
                    access += 1;
                    options.read_only = word == "ro";
                }
                // Labels are for SELinux; without it they mean nothing, as with Docker.
                "z" | "Z" => label += 1,
                "consistent" | "cached" | "delegated" | "default" => consistency += 1,
                "nocopy" if options.no_copy.is_none() => options.no_copy = Some(true),
                "bind-nonrecursive" => options.non_recursive = true,
                word if word.starts_with("idmap=") && options.id_map.is_none() => {
                    options.id_map = Some(word["idmap=".len()..].parse().ok()?);
                }
                word => {
                    let propagation = Propagation::from_word(word)?;
                    if options.propagation.replace(propagation).is_some() {
                        return None;
                    }
                }
            }
        }
        (access <= 1 && label <= 1 && consistency <= 1).then_some(options)
    }
}

fn read_mount(mount: &MountSpec) -> Result<Planned, Error> {
    let invalid = |kind: &str, text: &str| Error::invalid(format!("invalid mount config for type \"{kind}\": {text}"));
    if mount.target.is_empty() {
        return Err(invalid(kind_of(mount), "field Target must not be empty"));
    }
    let mut planned = match &mount.source {
        MountSource::Bind {
            path,
            propagation,
            non_recursive,
            create,
            read_only_non_recursive,
            read_only_force_recursive,
        } => {
            if path.is_empty() {
                return Err(invalid("bind", "field Source must not be empty"));
            }
            if !path.starts_with('/') {
                return Err(invalid("bind", &format!("invalid mount path: '{path}' mount path must be absolute")));
            }
            if *read_only_non_recursive && (!mount.read_only || *read_only_force_recursive) {
                return Err(invalid("bind", "mount is not read-only, or read-only is asked for in two ways"));
            }
            let mut point = point(MountKind::Bind, destination(&mount.target, &mount.target)?);
            point.source = clean_path(path);
            point.propagation = *propagation;
            point.non_recursive = *non_recursive;
            point.read_only_non_recursive = *read_only_non_recursive;
            point.create = *create;
            Planned { point, volume: None, must_exist: !create }
        }
        MountSource::Volume { name, no_copy, labels, driver, subpath } => {
            let (mut options, mut named_driver) = (Labels::new(), String::new());
            if let Some((driver, asked)) = driver {
                options.clone_from(asked);
                named_driver.clone_from(driver);
            }
            let mut planned = volume(name.as_deref().filter(|name| !name.is_empty()), &mount.target, &mount.target)?;
            if let Some(subpath) = subpath.as_deref().filter(|subpath| !subpath.is_empty()) {
                check_subpath("volume", subpath)?;
                planned.point.subpath = Some(subpath.to_owned());
            }
            if !named_driver.is_empty() {
                planned.point.driver = Some(named_driver);
            }
            planned.point.copy_up = !no_copy;
            planned.volume = Some((labels.clone(), options));
            planned
        }
        MountSource::Image { reference, subpath } => {
            if reference.is_empty() {
                return Err(invalid("image", "field Source must not be empty"));
            }
            let mut point = point(MountKind::Image, destination(&mount.target, &mount.target)?);
            point.source.clone_from(reference);
            point.writable = false;
            if let Some(subpath) = subpath.as_deref().filter(|subpath| !subpath.is_empty()) {
                check_subpath("image", subpath)?;
                point.subpath = Some(subpath.to_owned());
            }
            Planned { point, volume: None, must_exist: false }
        }
        MountSource::Tmpfs { size, mode, options } => {
            let mut all = options.clone();
            all.extend(size.map(|size| format!("size={size}")));
            all.extend(mode.map(|mode| format!("mode={mode:o}")));
            tmpfs(&mount.target, all, &mount.target)?
        }
    };
    planned.point.writable = planned.point.writable && !mount.read_only;
    if mount.id_map.is_some() {
        if !matches!(planned.point.kind, MountKind::Bind | MountKind::Volume) {
            return Err(invalid(kind_of(mount), "an idmap is for binds and volumes"));
        }
        planned.point.id_map.clone_from(&mount.id_map);
    }
    Ok(planned)
}

fn check_subpath(kind: &str, subpath: &str) -> Result<(), Error> {
    if subpath.starts_with('/') || subpath.split('/').any(|part| part == "..") || subpath.contains('\0') {
        let text =
            format!("invalid mount config for type \"{kind}\": subpath must be a relative path within the {kind}");
        return Err(Error::invalid(text));
    }
    Ok(())
}

/// Reads `container[:mode]` of another container whose mounts are taken: its name, and whether they may be written to.
pub(super) fn read_from(text: &str) -> Result<(&str, bool), Error> {
    let (name, mode) = text.split_once(':').unwrap_or((text, "rw"));
    if name.is_empty() {
        return Err(Error::invalid(format!("invalid volumes-from specification: {text}")));
    }
    match BindOptions::read(mode) {
        Some(BindOptions { propagation: None, no_copy: None, non_recursive: false, id_map: None, read_only })
            if !mode.is_empty() =>
        {
            Ok((name, !read_only))
        }
        _ => Err(Error::invalid(format!("invalid mode: {mode}"))),
    }
}

fn kind_of(mount: &MountSpec) -> &'static str {
    match mount.source {
        MountSource::Bind { .. } => "bind",
        MountSource::Volume { .. } => "volume",
        MountSource::Image { .. } => "image",
        MountSource::Tmpfs { .. } => "tmpfs",
    }
}

fn tmpfs(path: &str, asked: Vec<String>, shown: &str) -> Result<Planned, Error> {
    let mut point = point(MountKind::Tmpfs, destination(path, shown)?);
    let mut options: Vec<String> = ["noexec", "nosuid", "nodev"].map(str::to_owned).into();
    for option in asked {
        let (name, value) = option.split_once('=').map_or((option.as_str(), None), |(name, value)| (name, Some(value)));
        let opposite = match (name, value) {
            ("size" | "mode" | "uid" | "gid" | "nr_inodes" | "nr_blocks" | "huge" | "mpol", Some(value))
                if !value.is_empty() && !value.contains(['\0', ',']) =>
            {
                None
            }
            ("ro", None) => {
                point.writable = false;
                continue;
            }
            ("rw", None) => {
                point.writable = true;
                continue;
            }
            ("exec", None) => Some("noexec"),
            ("suid", None) => Some("nosuid"),
            ("dev", None) => Some("nodev"),
            ("noexec" | "nosuid" | "nodev", None) => Some(&name[2..]),
            ("noatime" | "nodiratime" | "relatime" | "strictatime", None) => None,
            _ => return Err(Error::invalid(format!("invalid tmpfs option [\"{option}\"]"))),
        };
        options.retain(|present| Some(present.as_str()) != opposite && *present != option);
        options.push(option);
    }
    point.options = options;
    Ok(Planned { point, volume: None, must_exist: false })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn bind(text: &str) -> Result<MountPoint, String> {
        read_bind(text).map(|planned| planned.point).map_err(|error| error.to_string())
    }

    #[test]
    fn binds_and_volumes_are_read() {
        let point = bind("/host//dir/:/in/../data:ro,z,rslave").unwrap();
        assert_eq!(
            (point.kind, point.source.as_str(), point.destination.as_str()),
            (MountKind::Bind, "/host/dir", "/data")
        );
        assert!(!point.writable && point.create);
        assert_eq!((point.propagation, point.mode.as_str()), (Propagation::Rslave, "ro,z,rslave"));
        let point = bind("data:/data:nocopy").unwrap();
        assert_eq!((point.kind, point.name.as_deref(), point.copy_up), (MountKind::Volume, Some("data"), false));
        let point = bind("/data").unwrap();
        assert!(point.anonymous && point.copy_up && point.writable);
    }

    #[test]
    fn wrong_texts_are_refused_in_dockers_words() {
        for text in ["", ":", "a:", ":/b", "/a:ro", "/a:/b:ro:x", "/a:/b:"] {
            assert_eq!(bind(text).unwrap_err(), format!("invalid volume specification: '{text}'"), "{text}");
        }
        assert!(bind("/a:/b:bogus").unwrap_err().ends_with("invalid mode: bogus"));
        assert!(bind("/a:/b:ro,rw").unwrap_err().ends_with("invalid mode: ro,rw"));
        assert!(bind("/a:/b:nocopy").unwrap_err().contains("invalid mode"));
        assert!(bind("a:/b:shared").unwrap_err().contains("invalid mode"));
        assert!(bind("/a:/").unwrap_err().contains("destination can't be '/'"));
        assert!(bind("/a:b").unwrap_err().contains("mount path must be absolute"));
    }

    #[test]
    fn an_explicit_mount_takes_the_place_of_an_anonymous_volume() {
        let volumes = ["/data".to_owned(), "/other".to_owned()].into();
        let mut config = Config { volumes, ..Config::default() };
        config.host.binds.push("named:/data".to_owned());
        config.host.mounts.push(MountSpec::bind("/host", "/data/deeper").read_only());
        let mounts = plan(&config).unwrap();
        let seen: Vec<_> =
            mounts.iter().map(|mount| (mount.point.destination.as_str(), mount.point.anonymous)).collect();
        assert_eq!(seen, [("/data", false), ("/other", true), ("/data/deeper", false)]);
        assert!(mounts[2].must_exist);
        config.host.tmpfs.insert("/data".to_owned(), String::new());
        assert_eq!(plan(&config).unwrap_err().to_string(), "Duplicate mount point: /data");
    }

    #[test]
    fn mounts_of_others_come_before_those_of_the_image() {
        for (text, read) in [("web", ("web", true)), ("web:ro", ("web", false)), ("web:rw,z", ("web", true))] {
            assert_eq!(read_from(text).unwrap(), read);
        }
        for text in ["", ":ro", "web:", "web:bogus", "web:rslave", "web:nocopy"] {
            assert!(read_from(text).is_err(), "{text}");
        }
        let volumes = ["/data".to_owned(), "/other".to_owned()].into();
        let mut config = Config { volumes, ..Config::default() };
        config.host.binds.push("mine:/both".to_owned());
        let mut theirs = bind("theirs:/data").unwrap();
        theirs.writable = false;
        let both = bind("theirs:/both").unwrap();
        let seen: Vec<_> = plan_with(&config, vec![theirs, both])
            .unwrap()
            .into_iter()
            .map(|planned| (planned.point.destination, planned.point.name, planned.point.writable))
            .collect();
        let named = |name: &str| Some(name.to_owned());
        assert_eq!(
            seen,
            [
                ("/both".to_owned(), named("mine"), true),
                ("/data".to_owned(), named("theirs"), false),
                ("/other".to_owned(), None, true)
            ]
        );
    }

    #[test]
    fn a_part_stays_a_part() {
        let with = |subpath: &str| {
            let mut mount = MountSpec::volume("data", "/x");
            if let MountSource::Volume { subpath: part, .. } = &mut mount.source {
                *part = Some(subpath.to_owned());
            }
            read_mount(&mount).map(|planned| planned.point.subpath)
        };
        assert_eq!(with("a/b").unwrap().as_deref(), Some("a/b"));
        assert!(with("../b").is_err() && with("/b").is_err() && with("a/../../b").is_err());
        let image = read_mount(&MountSpec::image("busybox", "/x")).unwrap().point;
        assert_eq!((image.kind, image.writable, image.source.as_str()), (MountKind::Image, false, "busybox"));
    }

    #[test]
    fn tmpfs_options_are_merged_and_checked() {
        let options = |text: &str| {
            let asked = text.split(',').filter(|word| !word.is_empty()).map(str::to_owned).collect();
            tmpfs("/t", asked, "/t").map(|planned| (planned.point.options.join(","), planned.point.writable))
        };
        assert_eq!(options("").unwrap().0, "noexec,nosuid,nodev");
        assert_eq!(
            options("exec,size=64m,mode=1770,ro").unwrap(),
            ("nosuid,nodev,exec,size=64m,mode=1770".to_owned(), false)
        );
        assert_eq!(options("bogus").unwrap_err().to_string(), "invalid tmpfs option [\"bogus\"]");
        assert!(options("size=").is_err());
    }

    #[test]
    fn mounts_in_full_are_checked() {
        let refused = |mount: MountSpec| read_mount(&mount).unwrap_err().to_string();
        assert!(refused(MountSpec::bind("host", "/x")).contains("mount path must be absolute"));
        assert_eq!(
            refused(MountSpec::bind("/host", "")),
            "invalid mount config for type \"bind\": field Target must not be empty"
        );
        let volume = read_mount(&MountSpec::anonymous_volume("/x")).unwrap();
        assert!(volume.point.anonymous && volume.volume.is_some());
        let tmpfs = read_mount(&MountSpec::tmpfs("/x").read_only()).unwrap();
        assert!(!tmpfs.point.writable);
    }
}
