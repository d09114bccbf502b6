//! The first use of an empty volume: what the image has at the mount point is copied into it.
//!
//! A volume whose copying was cut short is known by a marker beside its data, and starts anew the next time. The
//! volume's directory is locked while this goes on, so that two containers starting at once copy once.

mod copy;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Dir, FlockOperation, Mode, OFlags};

use super::{DATA, Error, Name};
use crate::snapshot::merged;

/// Stands beside the data while it is being copied.
const MARKER: &str = "populating";

/// Copies `path` of the image made of `layers` (topmost first) into the volume in `home`, when that is empty.
///
/// A path that the image does not have, or that is no directory, leaves the volume as it is; a symbolic link is
/// followed inside the image only. The volume's root gets owner and mode of the image's directory. Answers whether it
/// was this call that filled the volume.
///
/// `data` is the volume's root when that is not in `home`.
pub(super) fn populate(
    name: &Name,
    home: &Path,
    data: Option<OwnedFd>,
    layers: &[PathBuf],
    path: &Path,
) -> Result<bool, Error> {
    let failed = |what| move |source: rustix::io::Errno| Error::io(name.as_str(), what, source);
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let home = rustix::fs::open(home, flags, Mode::empty()).map_err(failed("opening its directory"))?;
    rustix::fs::flock(&home, FlockOperation::LockExclusive).map_err(failed("locking it"))?;
    let data = match data {
        Some(data) => data,
        None => rustix::fs::openat(&home, DATA, flags, Mode::empty()).map_err(failed("opening its data"))?,
    };

    let cut_short = rustix::fs::statat(&home, MARKER, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).is_ok();
    if cut_short {
        copy::clear(data.as_fd())
            .map_err(|source| Error::io(name.as_str(), "clearing a copy that was cut short", source))?;
    } else if !is_empty(&data).map_err(failed("reading its data"))? {
        return Ok(false);
    }
    let source = merged::directory(layers, path).map_err(|source| Error::Copy {
        name: name.clone(),
        path: path.display().to_string(),
        source,
    })?;
    let filled = match source {
        None => false,
        Some(source) => {
            let marker = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            rustix::fs::openat(&home, MARKER, marker, Mode::RUSR).map_err(failed("marking it"))?;
            let copied = copy::tree(name, source, &data)?;
            if copied > 0 {
                // Whole after a power loss too, or marked as not whole.
                rustix::fs::syncfs(&data).map_err(failed("syncing the copy"))?;
            }
            true
        }
    };
    match rustix::fs::unlinkat(&home, MARKER, rustix::fs::AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(filled),
        Err(error) => Err(failed("taking the mark away")(error)),
    }
}

/// Removes everything beneath a directory, never following a link out of it.
pub(super) fn clear(directory: &File) -> io::Result<()> {
    copy::clear(directory.as_fd())
}

fn is_empty(directory: impl AsFd) -> rustix::io::Result<bool> {
    for entry in Dir::read_from(directory)? {
        if !matches!(entry?.file_name().to_bytes(), b"." | b"..") {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests;
