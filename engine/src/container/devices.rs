//! Devices of the host that a container is given.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use engine_runtime::defaults;
use engine_runtime::spec::{LinuxBlockIo, LinuxDevice, LinuxDeviceCgroup, LinuxDeviceType};

use super::Error;
use super::host_config::{DeviceMapping, HostConfig};

/// How deep a directory of devices is gone into.
const MAX_DEPTH: usize = 8;
/// The most devices of one container.
const MAX_DEVICES: usize = 4096;

/// The nodes that are made, and the rules that let them be opened.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Devices {
    pub(super) nodes: Vec<LinuxDevice>,
    pub(super) rules: Vec<LinuxDeviceCgroup>,
    /// Bounds of disks.
    pub(super) block_io: Option<LinuxBlockIo>,
}

/// Looks the devices up on the host.
pub(super) fn look_up(host: &HostConfig) -> Result<Devices, Error> {
    let block_io = super::resources::block_io(&host.resources)?;
    let mut devices = Devices { block_io, ..Devices::default() };
    if host.privileged {
        let mut paths = Vec::new();
        collect(Path::new("/dev"), 0, &mut paths);
        devices.nodes = paths.into_iter().filter_map(|path| node(&path, &path)).collect();
    }
    for mapping in &host.devices {
        map(mapping, host.privileged, &mut devices)?;
    }
    for rule in &host.device_cgroup_rules {
        devices.rules.push(read_rule(rule)?);
    }
    Ok(devices)
}

fn map(mapping: &DeviceMapping, privileged: bool, devices: &mut Devices) -> Result<(), Error> {
    let shown = &mapping.path_on_host;
    let access = if mapping.cgroup_permissions.is_empty() { "rwm" } else { &mapping.cgroup_permissions };
    if !access.bytes().all(|byte| b"rwm".contains(&byte)) {
        return Err(Error::invalid(format!("invalid device mode: {access}")));
    }
    let source = Path::new(shown);
    let target = if mapping.path_in_container.is_empty() { shown } else { &mapping.path_in_container };
    if !source.is_absolute() || !target.starts_with('/') {
        return Err(Error::invalid(format!("bad device specification: {shown}:{target}: paths must be absolute")));
    }
    let target = Path::new(target);
    let found = match source.canonicalize() {
        Ok(real) if real.is_dir() => {
            let mut paths = Vec::new();
            collect(&real, 0, &mut paths);
            let inside = |path: &PathBuf| path.strip_prefix(&real).map(|rest| target.join(rest)).ok();
            paths.iter().filter_map(|path| node(path, &inside(path)?)).collect()
        }
        Ok(real) => node(&real, target).into_iter().collect(),
        Err(_) => Vec::new(),
    };
    if found.is_empty() {
        return Err(Error::invalid(format!(
            "error gathering device information while adding custom device \"{shown}\": no such file or directory"
        )));
    }
    for node in found {
        if !privileged {
            devices.rules.push(defaults::device_rule(true, node.typ(), Some(node.major()), Some(node.minor()), access));
        }
        devices.nodes.retain(|other| other.path() != node.path());
        devices.nodes.push(node);
    }
    Ok(())
}

/// The devices beneath a directory, terminals and what the container has of its own left out.
fn collect(directory: &Path, depth: usize, paths: &mut Vec<PathBuf>) {
    const OWN: [&str; 7] = ["pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev"];
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() && depth < MAX_DEPTH && !OWN.iter().any(|own| entry.file_name() == *own) {
            collect(&entry.path(), depth + 1, paths);
        } else if (kind.is_char_device() || kind.is_block_device())
            && entry.file_name() != "console"
            && paths.len() < MAX_DEVICES
        {
            paths.push(entry.path());
        }
    }
}

fn node(path: &Path, target: &Path) -> Option<LinuxDevice> {
    let found = std::fs::metadata(path).ok()?;
    let kind = match found.file_type() {
        kind if kind.is_char_device() => LinuxDeviceType::C,
        kind if kind.is_block_device() => LinuxDeviceType::B,
        _ => return None,
    };
    let number = found.rdev();
    let mut device = LinuxDevice::default();
    device
        .set_path(target.to_owned())
        .set_typ(kind)
        .set_major(rustix::fs::major(number).into())
        .set_minor(rustix::fs::minor(number).into())
        .set_file_mode(Some(found.mode() & 0o777))
        .set_uid(Some(found.uid()))
        .set_gid(Some(found.gid()));
    Some(device)
}

/// Reads a rule such as `c 1:* rwm`.
pub(super) fn read_rule(text: &str) -> Result<LinuxDeviceCgroup, Error> {
    let invalid = || Error::invalid(format!("invalid device cgroup rule format: '{text}'"));
    let mut words = text.split(' ');
    let (Some(kind), Some(numbers), Some(access), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(invalid());
    };
    let kind = match kind {
        "a" => LinuxDeviceType::A,
        "b" => LinuxDeviceType::B,
        "c" => LinuxDeviceType::C,
        _ => return Err(invalid()),
    };
    let number = |word: &str| match word {
        "*" => Ok(None),
        _ => word.parse::<u32>().map(|number| Some(i64::from(number))).map_err(|_| invalid()),
    };
    let (major, minor) = numbers.split_once(':').ok_or_else(invalid)?;
    if access.is_empty() || access.len() > 3 || !access.bytes().all(|byte| b"rwm".contains(&byte)) {
        return Err(invalid());
    }
    Ok(defaults::device_rule(true, kind, number(major)?, number(minor)?, access))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn mapping(on_host: &str, inside: &str, access: &str) -> HostConfig {
        let mapping = DeviceMapping {
            path_on_host: on_host.to_owned(),
            path_in_container: inside.to_owned(),
            cgroup_permissions: access.to_owned(),
        };
        HostConfig { devices: vec![mapping], ..HostConfig::default() }
    }

    #[test]
    fn a_device_gets_a_node_and_a_rule() {
        let devices = look_up(&mapping("/dev/null", "/dev/nothing", "r")).unwrap();
        assert_eq!(devices.nodes[0].path(), Path::new("/dev/nothing"));
        assert_eq!((devices.nodes[0].major(), devices.nodes[0].minor()), (1, 3));
        assert_eq!(devices.rules, [defaults::device_rule(true, LinuxDeviceType::C, Some(1), Some(3), "r")]);
    }

    #[test]
    fn what_is_no_device_is_refused() {
        for host in [
            mapping("/dev/does-not-exist", "", ""),
            mapping("/etc/passwd", "", ""),
            mapping("dev/null", "", ""),
            mapping("/dev/null", "x", ""),
            mapping("/dev/null", "", "x"),
        ] {
            assert!(look_up(&host).is_err(), "{host:?}");
        }
    }

    #[test]
    fn a_privileged_container_gets_them_all() {
        let devices = look_up(&HostConfig { privileged: true, ..HostConfig::default() }).unwrap();
        assert!(devices.nodes.iter().any(|node| node.path() == Path::new("/dev/null")));
        assert!(!devices.nodes.iter().any(|node| node.path().starts_with("/dev/pts")));
    }

    #[test]
    fn rules_are_read() {
        let any_minor = defaults::device_rule(true, LinuxDeviceType::C, Some(1), None, "rwm");
        assert_eq!(read_rule("c 1:* rwm").unwrap(), any_minor);
        for wrong in ["", "c", "c 1 r", "x 1:1 r", "c 1:1 rx", "c a:1 r", "c 1:1 r r"] {
            assert_eq!(
                read_rule(wrong).unwrap_err().to_string(),
                format!("invalid device cgroup rule format: '{wrong}'")
            );
        }
    }
}
