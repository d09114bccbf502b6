//! Quotas of projects: how many bytes the files beneath a directory may have together. A project is a number that new files
//! take over from their directory; ext4 and xfs count what the files of each have, if they were mounted so.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};

/// Bytes in a block of the limits.
const BLOCK: u64 = 512;
/// Limits of projects, of three kinds of limits.
const PROJECTS: libc::c_int = 2;
/// New files take the project over.
const INHERIT: u32 = 0x200;

/// What a file system counts for a project.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counted {
    /// Bytes that its files have.
    pub bytes: u64,
    /// How many files it has.
    pub files: u64,
    /// Bytes that they may have; 0 is no limit.
    pub limit: u64,
}

/// How the kernel is asked: by a descriptor, which takes Linux 5.14, or by a node of the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// The first, and if the kernel does not know it the second.
    Any,
    /// The second.
    Device,
}

/// `struct fsxattr` of `linux/fs.h`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct Attributes {
    flags: u32,
    extent_size: u32,
    extents: u32,
    project: u32,
    copy_extent_size: u32,
    padding: [u8; 8],
}

/// `struct fs_disk_quota` of `linux/dqblk_xfs.h`; ext4 takes it, too.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct DiskQuota {
    version: i8,
    kind: i8,
    fields: u16,
    id: u32,
    bytes_hard: u64,
    bytes_soft: u64,
    files_hard: u64,
    files_soft: u64,
    bytes: u64,
    files: u64,
    rest: [u64; 7],
}

const GET_ATTRIBUTES: libc::Ioctl = 0x801c_581f;
const SET_ATTRIBUTES: libc::Ioctl = 0x401c_5820;
const GET_QUOTA: libc::c_int = 0x5803;
const SET_LIMIT: libc::c_int = 0x5804;
const GET_STATE: libc::c_int = 0x5805;

/// The project of an open directory or file; 0 where the file system has none.
pub fn project(file: BorrowedFd<'_>) -> io::Result<u32> {
    match attributes(file) {
        Err(error) if error.raw_os_error() == Some(libc::ENOTTY) => Ok(0),
        found => found.map(|attributes| attributes.project),
    }
}

/// Gives an open directory a project, which whatever is made in it from now on takes over.
pub fn set_project(directory: BorrowedFd<'_>, project: u32) -> io::Result<()> {
    let mut attributes = attributes(directory)?;
    attributes.project = project;
    attributes.flags |= INHERIT;
    // SAFETY: the kernel reads one structure of the size that is part of the number, which outlives the call.
    let result = unsafe { libc::ioctl(directory.as_raw_fd(), SET_ATTRIBUTES, &raw const attributes) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether the file system of an open directory holds projects to their limits.
pub fn is_enforced(directory: BorrowedFd<'_>, way: Way) -> io::Result<bool> {
    /// `qs_flags` of `struct fs_quota_stat`: projects are held to their limits.
    const ENFORCED: u16 = 1 << 5;
    // The structure has 80 bytes, of which the second two are wanted.
    let mut state = [0u64; 16];
    match call(directory, way, GET_STATE, 0, state.as_mut_ptr().cast()) {
        // As file systems without quotas, without those of this kind, and without a device answer.
        Err(error)
            if matches!(
                error.raw_os_error(),
                Some(libc::ENOSYS | libc::ENOTSUP | libc::ESRCH | libc::ENOTBLK | libc::ENODEV | libc::EINVAL)
            ) =>
        {
            Ok(false)
        }
        other => other.map(|()| {
            let bytes = state[0].to_ne_bytes();
            u16::from_ne_bytes([bytes[2], bytes[3]]) & ENFORCED != 0
        }),
    }
}

/// What the file system of an open directory counts for a project.
pub fn counted(directory: BorrowedFd<'_>, way: Way, project: u32) -> io::Result<Counted> {
    let mut quota = DiskQuota::default();
    match call(directory, way, GET_QUOTA, project, (&raw mut quota).cast()) {
        // Nothing was ever counted for it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Counted::default()),
        other => other.map(|()| Counted {
            bytes: quota.bytes.saturating_mul(BLOCK),
            files: quota.files,
            limit: quota.bytes_hard.saturating_mul(BLOCK),
        }),
    }
}

/// Bounds the bytes that the files of a project have together; 0 takes the bound away.
pub fn set_limit(directory: BorrowedFd<'_>, way: Way, project: u32, bytes: u64) -> io::Result<()> {
    /// The two fields with limits of bytes are meant.
    const OF_BYTES: u16 = 1 << 2 | 1 << 3;
    let blocks = bytes.div_ceil(BLOCK);
    let mut quota = DiskQuota {
        version: 1,
        // Of a project.
        kind: 2,
        fields: OF_BYTES,
        id: project,
        bytes_hard: blocks,
        bytes_soft: blocks,
        ..DiskQuota::default()
    };
    call(directory, way, SET_LIMIT, project, (&raw mut quota).cast())
}

fn attributes(file: BorrowedFd<'_>) -> io::Result<Attributes> {
    let mut attributes = Attributes::default();
    // SAFETY: the kernel writes one structure of the size that is part of the number, which outlives the call.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), GET_ATTRIBUTES, &raw mut attributes) };
    if result == 0 { Ok(attributes) } else { Err(io::Error::last_os_error()) }
}

/// One call of quotactl; `room` is what the command reads or writes, at least as large as the largest of the three structures.
fn call(directory: BorrowedFd<'_>, way: Way, command: libc::c_int, id: u32, room: *mut u8) -> io::Result<()> {
    let command = command << 8 | PROJECTS;
    if way == Way::Any {
        // SAFETY: the callers of this function lend a structure that the command is made for, which outlives the call.
        let result = unsafe { libc::syscall(libc::SYS_quotactl_fd, directory.as_raw_fd(), command, id, room) };
        if result == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        // Both a kernel without the call and a file system without quotas say so; the other way tells which.
        if error.raw_os_error() != Some(libc::ENOSYS) {
            return Err(error);
        }
    }
    let node = Node::of(directory)?;
    let id = id.cast_signed();
    // SAFETY: as above, and the name of the device ends with a zero byte.
    let result = unsafe { libc::quotactl(command, node.path.as_ptr(), id, room.cast()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The device of a file system, by a node in a directory of it that is gone at once.
struct Node {
    directory: OwnedFd,
    name: String,
    path: std::ffi::CString,
}

impl Node {
    fn of(directory: BorrowedFd<'_>) -> io::Result<Self> {
        let device = rustix::fs::fstat(directory)?.st_dev;
        let name = format!(".device-{}-{:?}", std::process::id(), std::thread::current().id());
        rustix::fs::mknodat(directory, &name, FileType::BlockDevice, Mode::RUSR, device)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let place = rustix::fs::openat(directory, ".", flags, Mode::empty());
        let path = std::ffi::CString::new(format!("/proc/self/fd/{}/{name}", directory.as_raw_fd()))?;
        match place {
            Ok(directory) => Ok(Self { directory, name, path }),
            Err(error) => {
                let _ = rustix::fs::unlinkat(directory, &name, AtFlags::empty());
                Err(error.into())
            }
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Nobody else can have taken it away, and who finds it can do nothing with it that root could not do before.
        let _ = rustix::fs::unlinkat(self.directory.as_fd(), &self.name, AtFlags::empty());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_structures_are_the_kernel_s() {
        assert_eq!((size_of::<Attributes>(), size_of::<DiskQuota>()), (28, 112));
    }

    #[test]
    fn a_file_system_without_quotas_has_none() {
        let room = tempfile::tempdir_in("/dev/shm").unwrap();
        let directory = std::fs::File::open(room.path()).unwrap();
        for way in [Way::Any, Way::Device] {
            assert!(!is_enforced(directory.as_fd(), way).unwrap(), "{way:?}");
        }
        assert_eq!(project(directory.as_fd()).unwrap(), 0);
        assert!(set_limit(directory.as_fd(), Way::Any, 7, 1 << 20).is_err());
        assert_eq!(std::fs::read_dir(room.path()).unwrap().count(), 0, "a node is left");
    }
}
