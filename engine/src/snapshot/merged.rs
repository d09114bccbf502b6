//! Layers as they show together: for reading, or with what a container writes above them. Both are overlays that are
//! attached nowhere, so that they go with their descriptor.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use engine_sys::path::Root;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use super::Upper;

/// Opens the root of the image made of `layers`, topmost first, for reading. `None`: there are no layers.
pub(crate) fn root(layers: &[PathBuf]) -> io::Result<Option<Root>> {
    Ok(Some(match layers {
        [] => return Ok(None),
        [only] => Root::open(only)?,
        many => Root::from_fd(reopened(&merged(many)?)?),
    }))
}

/// Opens `path` in the image made of `layers`, topmost first. `None`: it is not there, or no directory.
pub(crate) fn directory(layers: &[PathBuf], path: &Path) -> io::Result<Option<OwnedFd>> {
    let Some(root) = root(layers)? else { return Ok(None) };
    match root.directory(path) {
        Ok(directory) => Ok(Some(directory.into_fd())),
        Err(error) => match Errno::from_io_error(&error) {
            Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            _ => Err(error),
        },
    }
}

/// What a container sees as its root: a mount that is to be written through. Nobody else may have mounted the same, and what
/// an earlier mount of this kind has left in the work directory must have been taken away.
pub(crate) fn writable(container: &Upper) -> io::Result<OwnedFd> {
    let overlay = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let overlay = overlay.as_fd();
    let open: Vec<OwnedFd>;
    let one_by_one =
        container.lower.iter().try_for_each(|layer| rustix::mount::fsconfig_set_string(overlay, "lowerdir+", layer));
    match one_by_one {
        Ok(()) => {}
        Err(Errno::INVAL) => {
            open = opened(&container.lower)?;
            rustix::mount::fsconfig_set_string(overlay, "lowerdir", numbered(&open))?;
        }
        Err(error) => return Err(error.into()),
    }
    // As the container itself is run, or each would misread what the other wrote.
    for (key, value) in [("metacopy", "off"), ("redirect_dir", "nofollow"), ("index", "off")] {
        rustix::mount::fsconfig_set_string(overlay, key, value)?;
    }
    rustix::mount::fsconfig_set_string(overlay, "upperdir", &container.upper)?;
    rustix::mount::fsconfig_set_string(overlay, "workdir", &container.work)?;
    // Its end would write everything on that file system to the disk, and who copies would wait for it.
    rustix::mount::fsconfig_set_flag(overlay, "volatile")?;
    rustix::mount::fsconfig_create(overlay)?;
    Ok(rustix::mount::fsmount(overlay, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?)
}

/// A descriptor of a mount's root through which can be read.
pub(crate) fn reopened(mount: impl AsFd) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(mount, ".", flags, Mode::empty())?)
}

fn opened(layers: &[PathBuf]) -> io::Result<Vec<OwnedFd>> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(layers.iter().map(|layer| rustix::fs::open(layer, flags, Mode::empty())).collect::<Result<_, _>>()?)
}

fn numbered(layers: &[OwnedFd]) -> String {
    use std::os::fd::AsRawFd;
    let names: Vec<String> = layers.iter().map(|layer| format!("/proc/self/fd/{}", layer.as_raw_fd())).collect();
    names.join(":")
}

/// The layers as one read-only tree.
pub(crate) fn merged(layers: &[PathBuf]) -> io::Result<OwnedFd> {
    let overlay = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let one_by_one =
        layers.iter().try_for_each(|layer| rustix::mount::fsconfig_set_string(overlay.as_fd(), "lowerdir+", layer));
    match one_by_one {
        Ok(()) => {}
        Err(Errno::INVAL) => return merged_by_descriptors(layers),
        Err(error) => return Err(error.into()),
    }
    mounted(&overlay)
}

/// Before Linux 6.5 the layers are one option of at most 255 bytes, so they are named by short paths.
fn merged_by_descriptors(layers: &[PathBuf]) -> io::Result<OwnedFd> {
    let open = opened(layers)?;
    let overlay = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_set_string(overlay.as_fd(), "lowerdir", numbered(&open))?;
    mounted(&overlay)
}

fn mounted(overlay: &OwnedFd) -> io::Result<OwnedFd> {
    rustix::mount::fsconfig_create(overlay.as_fd())?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NODEV;
    Ok(rustix::mount::fsmount(overlay.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn both_ways_of_naming_layers_show_the_same() {
        let room = tempfile::tempdir().unwrap();
        let layers: Vec<PathBuf> = ["upper", "lower"].iter().map(|name| room.path().join(name)).collect();
        for layer in &layers {
            fs::create_dir_all(layer.join("data")).unwrap();
            fs::write(layer.join("data").join(layer.file_name().unwrap()), "x").unwrap();
        }
        for root in [merged(&layers).unwrap(), merged_by_descriptors(&layers).unwrap()] {
            for name in ["data/upper", "data/lower"] {
                rustix::fs::openat(&root, name, OFlags::RDONLY, Mode::empty()).unwrap();
            }
        }
    }

    #[test]
    fn what_is_no_directory_is_not_there() {
        let room = tempfile::tempdir().unwrap();
        fs::write(room.path().join("file"), "x").unwrap();
        std::os::unix::fs::symlink("loop", room.path().join("loop")).unwrap();
        for path in ["/file", "/nowhere", "/file/deeper", "/loop"] {
            assert!(directory(&[room.path().to_owned()], Path::new(path)).unwrap().is_none(), "{path}");
        }
        assert!(directory(&[], Path::new("/")).unwrap().is_none());
        assert!(directory(&[room.path().to_owned()], Path::new("/")).unwrap().is_some());
    }
}
