//! How much a volume's files take.

use std::collections::HashSet;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};

/// What lies deeper is not counted: each level holds a descriptor, and who writes a volume decides how deep it is.
const DEEPEST: usize = 200;

/// Sum of the sizes of all files beneath `directory` in bytes; a file with several names counts once. Files that vanish
/// meanwhile do not matter, and no link is followed.
pub(super) fn of(directory: &Path) -> io::Result<u64> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = |fd: OwnedFd| Dir::new(fd);
    let mut levels = vec![open(rustix::fs::open(directory, flags, Mode::empty())?)?];
    let mut seen = HashSet::new();
    let mut sum = 0_u64;
    loop {
        let depth = levels.len();
        let Some(entries) = levels.last_mut() else { return Ok(sum) };
        let Some(entry) = entries.read() else {
            levels.pop();
            continue;
        };
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let here = entries.fd()?;
        let Ok(stat) = rustix::fs::statat(here, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory if depth < DEEPEST => {
                if let Ok(below) = rustix::fs::openat(here, name, flags, Mode::empty()) {
                    levels.push(open(below)?);
                }
            }
            FileType::RegularFile if stat.st_nlink == 1 || seen.insert((stat.st_dev, stat.st_ino)) => {
                sum = sum.saturating_add(u64::try_from(stat.st_size).unwrap_or(0));
            }
            _ => {}
        }
    }
}
