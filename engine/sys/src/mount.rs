//! Mounts that are attached nowhere yet: copied, made read-only, and put onto a descriptor.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::CWD;
use rustix::mount::{MountAttrFlags, MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

/// Mounts below the one that is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Below {
    /// They are meant, too.
    Included,
    /// They are left alone.
    Left,
}

/// A detached copy of what is mounted at a path of the host.
pub fn copy(path: &Path, below: Below) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | recursive(below);
    Ok(open_tree(CWD, path, flags)?)
}

/// A detached copy of what an open directory or file is, as a mount of its own.
pub fn copy_open(place: BorrowedFd<'_>, below: Below) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH
        | recursive(below);
    Ok(open_tree(place, "", flags)?)
}

fn recursive(below: Below) -> OpenTreeFlags {
    if below == Below::Included { OpenTreeFlags::AT_RECURSIVE } else { OpenTreeFlags::empty() }
}

/// Puts a detached mount onto an open directory or file of this thread's namespace.
pub fn attach(mount: BorrowedFd<'_>, place: BorrowedFd<'_>) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(mount, "", place, "", flags)?)
}

/// Makes a mount read-only.
pub fn set_read_only(mount: impl AsFd, below: Below) -> io::Result<()> {
    add_attributes(mount, below, MountAttrFlags::MOUNT_ATTR_RDONLY)
}

/// Gives a mount further attributes; those that it has stay, but for another way to note when files were read.
pub fn add_attributes(mount: impl AsFd, below: Below, attributes: MountAttrFlags) -> io::Result<()> {
    let time = MountAttrFlags::MOUNT_ATTR_NOATIME | MountAttrFlags::MOUNT_ATTR_STRICTATIME;
    let attr_clr = if attributes.intersects(time) { libc::MOUNT_ATTR__ATIME } else { 0 };
    let attr_set = attributes.bits().into();
    set(mount, below, &libc::mount_attr { attr_set, attr_clr, propagation: 0, userns_fd: 0 })
}

/// Shows the owners of files of a mount that is attached nowhere as others: those that its file system has are within the
/// user namespace, those that are shown outside of it.
pub fn map_owners(mount: impl AsFd, below: Below, users: BorrowedFd<'_>) -> io::Result<()> {
    let userns_fd = u64::try_from(users.as_raw_fd()).map_err(io::Error::other)?;
    set(mount, below, &libc::mount_attr { attr_set: libc::MOUNT_ATTR_IDMAP, attr_clr: 0, propagation: 0, userns_fd })
}

fn set(mount: impl AsFd, below: Below, attributes: &libc::mount_attr) -> io::Result<()> {
    let recursive = if below == Below::Included { libc::AT_RECURSIVE } else { 0 };
    let flags = libc::AT_EMPTY_PATH | recursive;
    // SAFETY: the kernel reads an empty name and one structure of the size that is told, both of which outlive the call,
    // and writes nothing.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(attributes),
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use rustix::fs::StatVfsMountFlags;

    use super::*;

    #[test]
    fn a_copy_is_read_only_and_the_original_is_not() {
        let room = tempfile::tempdir().unwrap();
        std::fs::create_dir(room.path().join("directory")).unwrap();
        let copy = copy(room.path(), Below::Included).unwrap();
        set_read_only(&copy, Below::Included).unwrap();
        let mode = rustix::fs::Mode::from(0o755);
        assert_eq!(rustix::fs::mkdirat(&copy, "made", mode).unwrap_err(), rustix::io::Errno::ROFS);
        rustix::fs::mkdirat(CWD, room.path().join("made"), mode).unwrap();
        rustix::fs::statat(&copy, "made", rustix::fs::AtFlags::empty()).unwrap();
    }

    #[test]
    fn attributes_are_added_to_those_that_are_there() {
        let copy = copy(tempfile::tempdir().unwrap().path(), Below::Left).unwrap();
        for attributes in [MountAttrFlags::MOUNT_ATTR_NODEV, MountAttrFlags::MOUNT_ATTR_NOATIME] {
            add_attributes(&copy, Below::Left, attributes | MountAttrFlags::MOUNT_ATTR_NOEXEC).unwrap();
        }
        let has = rustix::fs::fstatvfs(&copy).unwrap().f_flag;
        for flag in [StatVfsMountFlags::NODEV, StatVfsMountFlags::NOATIME, StatVfsMountFlags::NOEXEC] {
            assert!(has.contains(flag), "{flag:?} of {has:?}");
        }
        assert!(!has.contains(StatVfsMountFlags::RDONLY));
    }

    #[test]
    fn owners_are_shown_as_others() {
        use std::os::unix::fs::chown;
        let room = tempfile::tempdir().unwrap();
        for (name, owner) in [("known", 5), ("other", 6)] {
            std::fs::write(room.path().join(name), "").unwrap();
            chown(room.path().join(name), Some(owner), Some(owner)).unwrap();
        }
        let users = crate::namespace::new_users("5 1000 1\n", "0 0 4294967295\n").unwrap();
        let copy = copy(room.path(), Below::Included).unwrap();
        map_owners(&copy, Below::Included, users.as_fd()).unwrap();
        let owner = |name: &str| {
            let found = rustix::fs::statat(&copy, name, rustix::fs::AtFlags::empty()).unwrap();
            (found.st_uid, found.st_gid)
        };
        assert_eq!((owner("known"), owner("other")), ((1000, 5), (65534, 6)));
        let made = rustix::fs::mkdirat(&copy, "made", rustix::fs::Mode::from(0o755));
        assert_eq!(made.unwrap_err(), rustix::io::Errno::OVERFLOW);
    }
}
