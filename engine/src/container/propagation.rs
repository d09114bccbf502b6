//! Whether the host exchanges mounts with where a bind mount begins, when the bind asks for that.

use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags, openat, statx};

use super::Error;
use super::mounts::{MountKind, MountPoint, Propagation};

/// Refuses binds that are to get mounts from the host, or give them to it, where the host exchanges none: nothing would come, and
/// nobody would know why. Blocks.
pub(super) fn check(points: &[MountPoint]) -> Result<(), Error> {
    let asks = |point: &&MountPoint| point.kind == MountKind::Bind && wanted(point.propagation).is_some();
    let mut asking = points.iter().filter(asks).peekable();
    if asking.peek().is_none() {
        return Ok(());
    }
    let table = "/proc/self/mountinfo";
    let mounts = std::fs::read_to_string(table).map_err(|error| Error::io("read", table, error))?;
    asking.try_for_each(|point| {
        let id = mount_of(Path::new(&point.source))?;
        // A mount that the table has no longer, or that came after it was read, shows soon enough what it does.
        match exchange(&mounts, id) {
            Some(found) => check_one(&point.source, point.propagation, &found),
            None => Ok(()),
        }
    })
}

fn check_one(path: &str, propagation: Propagation, found: &Exchange<'_>) -> Result<(), Error> {
    let Some((_, how)) = wanted(propagation).filter(|(what, _)| !what.contains(&found.kind)) else { return Ok(()) };
    let at = found.at;
    Err(Error::invalid(format!(
        "path {path} is mounted on {at} but it is not a {how} mount: `mount --make-rshared {at}` on the host makes it one"
    )))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Private,
    Slave,
    Shared,
}

/// What a mount has to be for a propagation, and Docker's words for that.
fn wanted(propagation: Propagation) -> Option<(&'static [Kind], &'static str)> {
    match propagation {
        Propagation::Private | Propagation::Rprivate => None,
        Propagation::Slave | Propagation::Rslave => Some((&[Kind::Slave, Kind::Shared], "shared or slave")),
        Propagation::Shared | Propagation::Rshared => Some((&[Kind::Shared], "shared")),
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Exchange<'a> {
    /// Where it is mounted.
    at: &'a str,
    kind: Kind,
}

/// What a mount of a table in the form of `proc_pid_mountinfo(5)` exchanges with others.
fn exchange(table: &str, id: u64) -> Option<Exchange<'_>> {
    table.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let own = fields.next()?.parse::<u64>().ok()?;
        let at = fields.nth(3).filter(|_| own == id)?;
        let tags = fields.skip(1).take_while(|tag| *tag != "-");
        let kinds = tags.map(|tag| match tag.split_once(':') {
            Some(("shared", _)) => Kind::Shared,
            Some(("master", _)) => Kind::Slave,
            _ => Kind::Private,
        });
        // One that is both gives and gets.
        let kind = kinds.fold(Kind::Private, |all, kind| match (all, kind) {
            (Kind::Shared, _) | (_, Kind::Shared) => Kind::Shared,
            (Kind::Slave, _) | (_, Kind::Slave) => Kind::Slave,
            _ => Kind::Private,
        });
        Some(Exchange { at, kind })
    })
}

/// The number of the mount that a path is on.
fn mount_of(path: &Path) -> Result<u64, Error> {
    let failed = |error| Error::io("look at", path, error);
    let place = openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(failed)?;
    Ok(statx(&place, c"", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).map_err(failed)?.stx_mnt_id)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::Propagation::{Rprivate, Rshared, Rslave, Shared, Slave};
    use super::*;

    const TABLE: &str = "22 1 253:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:20 / /private rw - tmpfs t rw
31 22 0:21 / /slave rw master:1 - tmpfs t rw
32 22 0:22 / /both rw,nosuid shared:9 master:1 propagate_from:2 - tmpfs t rw
33 22 0:23 / /stuck rw unbindable - tmpfs t rw";

    #[test]
    fn a_bind_gets_mounts_where_there_are_some_to_get() {
        for (id, at, fine) in [
            (22, "/", &[Rprivate, Slave, Rslave, Shared, Rshared][..]),
            (30, "/private", &[Rprivate]),
            (31, "/slave", &[Rprivate, Slave, Rslave]),
            (32, "/both", &[Rprivate, Slave, Rslave, Shared, Rshared]),
            (33, "/stuck", &[Rprivate]),
        ] {
            let found = exchange(TABLE, id).unwrap();
            assert_eq!(found.at, at);
            for propagation in [Rprivate, Slave, Rslave, Shared, Rshared] {
                assert_eq!(
                    check_one("/out", propagation, &found).is_ok(),
                    fine.contains(&propagation),
                    "{at} {propagation}"
                );
            }
        }
        assert_eq!(exchange(TABLE, 7), None);
        let said = check_one("/out", Rslave, &exchange(TABLE, 30).unwrap()).unwrap_err().to_string();
        assert!(said.starts_with("path /out is mounted on /private but it is not a shared or slave mount"), "{said}");
    }

    #[test]
    fn the_mount_of_a_path_is_in_the_table() {
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert_eq!(exchange(&table, mount_of(Path::new("/proc/self")).unwrap()).unwrap().at, "/proc");
    }
}
