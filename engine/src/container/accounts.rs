//! Who a container's user is, by its own `/etc/passwd` and `/etc/group`.

use std::io::Read as _;
use std::path::Path;

use engine_sys::path::Root;
use rustix::fs::{FileType, Mode, OFlags};

use super::Error;

/// More of a file of accounts is not read.
const MOST: u64 = 4 << 20;
/// Higher numbers are no ids.
const MAX_ID: u32 = i32::MAX.unsigned_abs();

/// Who a process is, in numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Supplementary groups.
    pub(super) groups: Vec<u32>,
}

/// Everything that `user` (empty: the superuser) is in a root file system, and with `more` groups by name or number.
pub(super) fn identity(root: &Root, user: &str, more: &[String]) -> Result<Identity, Error> {
    let user = if user.is_empty() { "0" } else { user };
    let (uid, gid) = owner(root, user)?;
    let group = read(root, "etc/group");
    let mut groups = Vec::new();
    // A group that is named leaves no others.
    if user.split_once(':').is_none_or(|(_, group)| group.is_empty()) {
        let passwd = read(root, "etc/passwd");
        let number = uid.to_string();
        let name = passwd.lines().find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            (fields.nth(1)? == number).then_some(name)
        });
        let is_in = |line: &str| {
            let members = line.split(':').nth(3)?;
            members.split(',').any(|member| Some(member) == name).then(|| line.split(':').nth(2)?.parse().ok())?
        };
        groups.extend(group.lines().filter_map(is_in).filter(|gid: &u32| *gid <= MAX_ID));
    }
    for name in more {
        let found = match number(name)? {
            Some(gid) => Some(gid),
            None => find_group(&group, name),
        };
        groups.push(found.ok_or_else(|| {
            Error::invalid(format!("unable to find group {name}: no matching entries in group file"))
        })?);
    }
    groups.dedup();
    Ok(Identity { uid, gid, groups })
}

/// The user and the group that `user` (`name`, `name:group`, numbers as well) means in a root file system.
pub(super) fn owner(root: &Root, user: &str) -> Result<(u32, u32), Error> {
    let (name, group) = user.split_once(':').map_or((user, None), |(name, group)| (name, Some(group)));
    let (uid, own_group) = match number(name)? {
        Some(uid) => (uid, find(&read(root, "etc/passwd"), 2, name).map(|(_, gid)| gid)),
        None => {
            let (uid, gid) = find(&read(root, "etc/passwd"), 0, name).ok_or_else(|| {
                Error::invalid(format!("unable to find user {name}: no matching entries in passwd file"))
            })?;
            (uid, Some(gid))
        }
    };
    let gid = match group.filter(|group| !group.is_empty()) {
        None => own_group.unwrap_or(0),
        Some(group) => match number(group)? {
            Some(gid) => gid,
            None => find_group(&read(root, "etc/group"), group).ok_or_else(|| {
                Error::invalid(format!("unable to find group {group}: no matching entries in group file"))
            })?,
        },
    };
    Ok((uid, gid))
}

fn number(text: &str) -> Result<Option<u32>, Error> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse::<u32>() {
        Ok(number) if number <= MAX_ID => Ok(Some(number)),
        _ => Err(Error::invalid(format!("the id {text} is out of range"))),
    }
}

/// The ids of the line whose field `field` is `wanted`.
fn find(text: &str, field: usize, wanted: &str) -> Option<(u32, u32)> {
    text.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let id = |at: usize| fields.get(at)?.parse().ok().filter(|id| *id <= MAX_ID);
        if *fields.get(field)? == wanted { Some((id(2)?, id(3)?)) } else { None }
    })
}

fn find_group(text: &str, wanted: &str) -> Option<u32> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next()? != wanted {
            return None;
        }
        fields.nth(1)?.parse().ok().filter(|id| *id <= MAX_ID)
    })
}

/// A file of the container; empty when it is none that can be read.
fn read(root: &Root, path: &str) -> String {
    let read = || -> std::io::Result<String> {
        let file = root.file(Path::new(path), OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY, Mode::empty())?;
        let mut bytes = Vec::new();
        if FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) == FileType::RegularFile {
            std::fs::File::from(file).take(MOST).read_to_end(&mut bytes)?;
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    read().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_and_numbers_are_looked_up() {
        let room = tempfile::tempdir().unwrap();
        std::fs::create_dir(room.path().join("etc")).unwrap();
        std::fs::write(room.path().join("etc/passwd"), "root:x:0:0::/:/bin/sh\nweb:x:33:34::/:\nbad:x:-1:0::/:\n")
            .unwrap();
        std::fs::write(room.path().join("etc/group"), "root:x:0:\nstaff:x:50:web\n").unwrap();
        let root = Root::open(room.path()).unwrap();
        for (user, ids) in [
            ("web", (33, 34)),
            ("33", (33, 34)),
            ("7", (7, 0)),
            ("web:staff", (33, 50)),
            ("7:8", (7, 8)),
            ("web:", (33, 34)),
        ] {
            assert_eq!(owner(&root, user).unwrap(), ids, "{user}");
        }
        let of = |user: &str, more: &[&str]| {
            let more: Vec<String> = more.iter().map(|&name| name.to_owned()).collect();
            let known = identity(&root, user, &more)?;
            Ok::<_, Error>((known.uid, known.gid, known.groups))
        };
        assert_eq!(of("", &[]).unwrap(), (0, 0, vec![]));
        assert_eq!(of("web", &["7", "root"]).unwrap(), (33, 34, vec![50, 7, 0]));
        assert_eq!(of("33", &[]).unwrap(), (33, 34, vec![50]));
        assert_eq!(of("web:root", &[]).unwrap(), (33, 0, vec![]));
        assert!(of("web", &["nobody"]).is_err());
        for user in ["nobody", "web:nobody", "4294967295", "bad"] {
            assert!(owner(&root, user).is_err(), "{user}");
        }
    }

    #[test]
    fn a_pipe_instead_of_a_file_is_not_waited_for() {
        let room = tempfile::tempdir().unwrap();
        std::fs::create_dir(room.path().join("etc")).unwrap();
        let root = Root::open(room.path()).unwrap();
        root.mknod(Path::new("etc/passwd"), FileType::Fifo, Mode::from(0o644), 0).unwrap();
        assert!(owner(&root, "web").is_err());
    }
}
