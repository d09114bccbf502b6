//! Copies what an image has at the place of a new file system into that file system.

use core::ffi::CStr;

use super::{Executor, Step};
use crate::beneath::{self, Links};
use crate::plan::Slot;
use crate::system::{self, Descriptor, Errno, Result};

/// Directories within directories; an image is somebody else's.
const MAX_DEPTH: usize = 64;
/// What is read at once, in bytes.
const CHUNK: usize = 64 << 10;
/// The longest symbolic link.
const MAX_LINK: usize = 4096;

impl Executor<'_> {
    /// Where the image has nothing, nothing is copied.
    pub(super) fn copy_up(&mut self, slot: Slot, path: &CStr) -> Step {
        let mount = self.slot(slot)?;
        let root = self.root()?;
        let flags = system::O_RDONLY | system::O_DIRECTORY;
        let from = match beneath::open(root, path, flags, Links::Follow) {
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            opened => opened?,
        };
        let copied = system::map(CHUNK).and_then(|buffer| {
            // What names a mount is no open directory yet.
            let to = system::open_at(mount, c".", flags, 0)?;
            let copied = copy_directory(from, to, buffer, 0).and_then(|()| take_after(from, to));
            system::close(to);
            system::unmap(buffer);
            copied
        });
        system::close(from);
        Ok(copied?)
    }
}

fn take_after(from: Descriptor, to: Descriptor) -> Result<()> {
    let found = system::metadata(from)?;
    system::change_owner(to, found.uid, found.gid)?;
    system::change_mode(to, found.mode & 0o7777)
}

fn copy_directory(from: Descriptor, to: Descriptor, buffer: &mut [u8], depth: usize) -> Result<()> {
    if depth > MAX_DEPTH {
        return Err(Errno::LOOP);
    }
    let mut entries = [0; 4096];
    loop {
        let length = system::entries(from, &mut entries)?;
        if length == 0 {
            return Ok(());
        }
        let mut rest = &entries[..length];
        // struct linux_dirent64: inode (8), offset (8), length (2), type (1), the name with its NUL.
        while let Some(length) = rest.get(16..18).map(|bytes| usize::from(u16::from_ne_bytes([bytes[0], bytes[1]]))) {
            let (entry, others) = rest.split_at_checked(length).ok_or(Errno::IO)?;
            let name = entry.get(19..).and_then(|name| CStr::from_bytes_until_nul(name).ok()).ok_or(Errno::IO)?;
            rest = others;
            if name != c"." && name != c".." {
                copy(from, to, name, buffer, depth)?;
            }
        }
    }
}

fn copy(from: Descriptor, to: Descriptor, name: &CStr, buffer: &mut [u8], depth: usize) -> Result<()> {
    let found = system::metadata_of_link(from, name)?;
    match found.mode & system::S_IFMT {
        system::S_IFDIR => {
            system::make_directory_at(to, name, 0o700)?;
            let flags = system::O_RDONLY | system::O_DIRECTORY | system::O_NOFOLLOW;
            both(from, to, name, flags, flags, |from, to| copy_directory(from, to, buffer, depth + 1))
        }
        system::S_IFREG => {
            let read = system::O_RDONLY | system::O_NOFOLLOW | system::O_NONBLOCK;
            let write = system::O_WRONLY | system::O_CREAT | system::O_EXCL | system::O_NOFOLLOW;
            both(from, to, name, read, write, |from, to| {
                loop {
                    match system::read(from, buffer)? {
                        0 => return Ok(()),
                        length => system::write_all(to, &buffer[..length])?,
                    }
                }
            })
        }
        system::S_IFLNK => {
            let mut target = [0; MAX_LINK];
            let length = system::read_link_at(from, name, &mut target)?;
            *target.get_mut(length).ok_or(Errno::NAMETOOLONG)? = 0;
            let target = CStr::from_bytes_until_nul(&target).map_err(|_| Errno::INVAL)?;
            system::make_link_at(target, to, name)?;
            system::change_owner_at(to, name, found.uid, found.gid)
        }
        // Nobody listens at a copy of a socket, and devices of an image are nothing to hand on.
        _ => Ok(()),
    }
}

/// Opens a name in both directories, does something with them, and gives the new one the owner and mode of the old one.
fn both(
    from: Descriptor,
    to: Descriptor,
    name: &CStr,
    read: u64,
    write: u64,
    then: impl FnOnce(Descriptor, Descriptor) -> Result<()>,
) -> Result<()> {
    let from = system::open_at(from, name, read, 0)?;
    let copied = system::open_at(to, name, write, 0o600).and_then(|to| {
        let copied = then(from, to).and_then(|()| take_after(from, to));
        system::close(to);
        copied
    });
    system::close(from);
    copied
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn a_tree_is_copied_and_one_without_end_is_not() {
        let home = std::env::temp_dir().join(std::format!("engine-copy-{}", std::process::id()));
        let (from, to) = (home.join("from"), home.join("to"));
        std::fs::create_dir_all(from.join("a/b")).unwrap();
        std::fs::create_dir_all(&to).unwrap();
        std::fs::write(from.join("a/file"), std::vec![7; 200_000]).unwrap();
        std::fs::set_permissions(from.join("a/file"), std::fs::Permissions::from_mode(0o4751)).unwrap();
        symlink("/nowhere", from.join("a/link")).unwrap();
        let copy = || {
            let [from, to] = [&from, &to].map(|path| std::fs::File::open(path).unwrap());
            copy_directory(from.as_raw_fd(), to.as_raw_fd(), system::map(CHUNK).unwrap(), 0)
        };
        copy().unwrap();
        assert_eq!(std::fs::read(to.join("a/file")).unwrap(), std::vec![7; 200_000]);
        assert_eq!(std::fs::metadata(to.join("a/file")).unwrap().permissions().mode() & 0o7777, 0o4751);
        assert_eq!(std::fs::read_link(to.join("a/link")).unwrap().to_str(), Some("/nowhere"));
        assert!(to.join("a/b").is_dir());
        let mut deep = from.join("deep");
        for _ in 0..70 {
            deep.push("d");
        }
        std::fs::create_dir_all(&deep).unwrap();
        std::fs::remove_dir_all(to.join("a")).unwrap();
        assert_eq!(copy(), Err(Errno::LOOP));
        std::fs::remove_dir_all(&home).unwrap();
    }
}
