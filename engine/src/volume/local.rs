//! The options of the driver `local`, as `docker volume create` takes them: what is mounted instead of a directory of the
//! engine's own.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use engine_sys::mount::{self, Below};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string,
};

use super::Error;
use crate::settings::Bytes;

/// The one option that is not about what is mounted.
const SIZE: &str = "size";

/// Refuses options that the driver does not know, or that say nothing.
pub(super) fn check(name: &str, options: &BTreeMap<String, String>) -> Result<(), Error> {
    let refuse = |what: String| Err(Error::Options { name: name.to_owned(), what });
    if options.is_empty() {
        return Ok(());
    }
    for (key, value) in options {
        match key.as_str() {
            "type" | "o" | "device" if value.contains('\0') => {
                return refuse(format!("the value of option \"{key}\" has a zero byte"));
            }
            "type" | "o" | "device" => {}
            "size" if value.parse::<Bytes>().is_err() => return refuse(format!("invalid size: '{value}'")),
            "size" => {}
            _ => return refuse(format!("invalid option: \"{key}\"")),
        }
    }
    if options.keys().all(|key| key == SIZE) {
        return Ok(());
    }
    if options.contains_key(SIZE) {
        return refuse("size bounds a directory of the engine's own: of what is mounted o=size= may say it".to_owned());
    }
    for needed in ["device", "type"] {
        if options.get(needed).is_none_or(String::is_empty) {
            return refuse(format!("missing required option: \"{needed}\""));
        }
    }
    let asked = Asked::read(options);
    if asked.bind.is_some() && !asked.device.starts_with('/') {
        return refuse(format!("the device of a bind mount must be an absolute path: {}", asked.device));
    }
    if asked.bind.is_none() && matches!(asked.kind, "none" | "bind") {
        return refuse(format!("type \"{}\" needs the option o=bind", asked.kind));
    }
    Ok(())
}

/// The bytes that the files of a volume may have together, if its options bound them.
pub(super) fn size(options: &BTreeMap<String, String>) -> Option<u64> {
    options.get(SIZE).and_then(|text| text.parse::<Bytes>().ok()).map(Bytes::get).filter(|bytes| *bytes > 0)
}

/// Whether options say what is mounted instead of the engine's own directory.
pub(super) fn is_mounted(options: &BTreeMap<String, String>) -> bool {
    options.keys().any(|key| key != SIZE)
}

/// What options say.
#[derive(Debug, PartialEq, Eq)]
struct Asked<'a> {
    kind: &'a str,
    device: Cow<'a, str>,
    /// A path of the host, with what is mounted below it or without.
    bind: Option<Below>,
    attributes: MountAttrFlags,
    settings: Vec<(&'a str, Option<Cow<'a, str>>)>,
}

impl<'a> Asked<'a> {
    fn read(options: &'a BTreeMap<String, String>) -> Self {
        let text = |key: &str| options.get(key).map(String::as_str).unwrap_or_default();
        let mut asked = Self {
            kind: text("type"),
            device: text("device").into(),
            bind: None,
            attributes: MountAttrFlags::empty(),
            settings: Vec::new(),
        };
        for word in text("o").split(',').filter(|word| !word.is_empty()) {
            let set = match word {
                "bind" => {
                    asked.bind = Some(Below::Left);
                    continue;
                }
                "rbind" => {
                    asked.bind = Some(Below::Included);
                    continue;
                }
                // They say what is the case anyway.
                "rw" | "defaults" | "exec" | "suid" | "dev" | "async" | "relatime" | "diratime" | "private"
                | "rprivate" => continue,
                "ro" => MountAttrFlags::MOUNT_ATTR_RDONLY,
                "noexec" => MountAttrFlags::MOUNT_ATTR_NOEXEC,
                "nosuid" => MountAttrFlags::MOUNT_ATTR_NOSUID,
                "nodev" => MountAttrFlags::MOUNT_ATTR_NODEV,
                "noatime" => MountAttrFlags::MOUNT_ATTR_NOATIME,
                "strictatime" => MountAttrFlags::MOUNT_ATTR_STRICTATIME,
                "nodiratime" => MountAttrFlags::MOUNT_ATTR_NODIRATIME,
                word => {
                    asked.settings.push(match word.split_once('=') {
                        Some((key, value)) => (key, Some(value.into())),
                        None => (word, None),
                    });
                    continue;
                }
            };
            asked.attributes |= set;
        }
        asked
    }

    /// The kernel looks up no names: the server of a network file system is told by its address, `addr=` or the host in
    /// `//host/share`. `find` knows the addresses of names.
    fn name_by_address(&mut self, find: impl Fn(&str) -> io::Result<IpAddr>) -> io::Result<()> {
        if !matches!(self.kind, "nfs" | "nfs4" | "cifs" | "smb3") {
            return Ok(());
        }
        let named = |text: &str| !text.is_empty() && text.parse::<IpAddr>().is_err();
        let mut told = false;
        for (key, value) in &mut self.settings {
            let Some(value) = value.as_mut().filter(|_| matches!(*key, "addr" | "ip")) else { continue };
            told = true;
            if named(value) {
                *value = find(value)?.to_string().into();
            }
        }
        let host = self.device.strip_prefix("//").and_then(|rest| rest.split_once('/'));
        if let Some((host, share)) = host.filter(|(host, _)| !told && named(host)) {
            self.device = format!("//{}/{share}", find(host)?).into();
        }
        Ok(())
    }
}

/// The first address of a name.
fn address(name: &str) -> io::Result<IpAddr> {
    let mut found = (name, 0).to_socket_addrs()?;
    let missing = || io::Error::new(io::ErrorKind::NotFound, format!("{name} has no address"));
    found.next().map(|address| address.ip()).ok_or_else(missing)
}

/// Mounts it, attached nowhere.
pub(super) fn open(options: &BTreeMap<String, String>) -> io::Result<OwnedFd> {
    let mut asked = Asked::read(options);
    asked.name_by_address(address)?;
    if let Some(below) = asked.bind {
        let tree = mount::copy(Path::new(&*asked.device), below)?;
        if !asked.attributes.is_empty() {
            mount::add_attributes(&tree, below, asked.attributes)?;
        }
        return Ok(tree);
    }
    let context = rustix::mount::fsopen(asked.kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    let context = context.as_fd();
    fsconfig_set_string(context, "source", &*asked.device)?;
    for (key, value) in asked.settings {
        match value {
            Some(value) => fsconfig_set_string(context, key, &*value)?,
            None => fsconfig_set_flag(context, key)?,
        }
    }
    if asked.attributes.contains(MountAttrFlags::MOUNT_ATTR_RDONLY) {
        fsconfig_set_flag(context, "ro")?;
    }
    fsconfig_create(context)?;
    Ok(rustix::mount::fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, asked.attributes)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn options_are_checked_in_dockers_words() {
        for (pairs, words) in [
            (&[("type", "tmpfs"), ("device", "tmpfs")][..], None),
            (&[("type", "none"), ("device", "/x"), ("o", "bind")], None),
            (&[("bogus", "x")], Some("create v: invalid option: \"bogus\"")),
            (&[("type", "tmpfs")], Some("create v: missing required option: \"device\"")),
            (&[("device", "x")], Some("create v: missing required option: \"type\"")),
            (&[("type", "none"), ("device", "/x")], Some("create v: type \"none\" needs the option o=bind")),
            (
                &[("type", "none"), ("device", "x"), ("o", "bind")],
                Some("create v: the device of a bind mount must be an absolute path: x"),
            ),
            (&[("size", "1g")], None),
            (&[("size", "much")], Some("create v: invalid size: 'much'")),
            (
                &[("size", "1g"), ("type", "tmpfs"), ("device", "tmpfs")],
                Some("create v: size bounds a directory of the engine's own: of what is mounted o=size= may say it"),
            ),
        ] {
            assert_eq!(check("v", &options(pairs)).err().map(|error| error.to_string()).as_deref(), words);
        }
    }

    #[test]
    fn servers_are_told_by_their_addresses() {
        let find = |name: &str| match name {
            "files" => Ok(IpAddr::from([10, 0, 0, 9])),
            _ => Err(io::ErrorKind::NotFound.into()),
        };
        for (kind, device, o, named) in [
            ("nfs", ":/data", "addr=files,rw,vers=4", Some((":/data", "addr=10.0.0.9,vers=4"))),
            ("nfs", ":/data", "addr=10.0.0.1", Some((":/data", "addr=10.0.0.1"))),
            ("cifs", "//files/share", "username=me", Some(("//10.0.0.9/share", "username=me"))),
            ("cifs", "//files/share", "addr=10.0.0.1", Some(("//files/share", "addr=10.0.0.1"))),
            ("tmpfs", "//files/x", "addr=files", Some(("//files/x", "addr=files"))),
            ("nfs", ":/data", "addr=nowhere", None),
        ] {
            let options = options(&[("type", kind), ("device", device), ("o", o)]);
            let mut asked = Asked::read(&options);
            let found = asked.name_by_address(find).ok().map(|()| {
                let settings = asked.settings.iter().map(|(key, value)| format!("{key}={}", value.as_deref().unwrap()));
                (asked.device.to_string(), settings.collect::<Vec<_>>().join(","))
            });
            let named = named.map(|(device, o)| (device.to_owned(), o.to_owned()));
            assert_eq!(found, named, "{kind} {device} {o}");
        }
        assert!(address("localhost").unwrap().is_loopback());
    }

    #[test]
    fn what_is_asked_for_is_mounted() {
        let small =
            open(&options(&[("type", "tmpfs"), ("device", "tmpfs"), ("o", "size=64k,mode=700,noexec")])).unwrap();
        let found = rustix::fs::fstatvfs(&small).unwrap();
        assert_eq!(found.f_blocks * found.f_frsize, 64 << 10);
        assert!(found.f_flag.contains(rustix::fs::StatVfsMountFlags::NOEXEC));
        assert_eq!(rustix::fs::fstat(&small).unwrap().st_mode & 0o777, 0o700);
        let room = tempfile::tempdir().unwrap();
        std::fs::write(room.path().join("file"), "x").unwrap();
        let bound = options(&[("type", "none"), ("device", room.path().to_str().unwrap()), ("o", "bind,ro")]);
        let bound = open(&bound).unwrap();
        rustix::fs::statat(&bound, "file", rustix::fs::AtFlags::empty()).unwrap();
        assert!(rustix::fs::fstatvfs(&bound).unwrap().f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY));
        assert!(open(&options(&[("type", "none"), ("device", "/does/not/exist"), ("o", "bind")])).is_err());
        assert!(open(&options(&[("type", "tmpfs"), ("device", "x"), ("o", "bogus=1")])).is_err());
    }
}
