//! What one container has above its layers.

use std::fs::{DirBuilder, Permissions};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine_sys::path::{Root, remove_all};

use super::{Error, Layers};
use crate::id::ContainerId;
use crate::oci::Digest;

/// The writable parts of containers, `<root>/containers/<id>/{upper,work}`. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Snapshots {
    layers: Layers,
    path: Arc<PathBuf>,
}

/// What an overlay mount of a container is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upper {
    /// The layers, the topmost first.
    pub lower: Vec<PathBuf>,
    /// What the container changes.
    pub upper: PathBuf,
    /// For overlayfs itself.
    pub work: PathBuf,
}

impl Snapshots {
    /// Opens the containers' directories beneath `root`, the engine's root directory.
    pub fn open(root: &Path, layers: Layers) -> Result<Self, Error> {
        let path = root.join("containers");
        let what = || Error::host(format!("make {}", path.display()));
        DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(what())?;
        std::fs::set_permissions(&path, Permissions::from_mode(0o700)).map_err(what())?;
        Ok(Self { layers, path: Arc::new(path) })
    }

    /// Where a container's directories are, made or not. `layers` are diff ids, the lowest first.
    pub fn of(&self, container: &ContainerId, layers: &[Digest]) -> Upper {
        let directory = self.path.join(container.as_str());
        Upper {
            lower: layers.iter().rev().map(|diff_id| self.layers.path(diff_id)).collect(),
            upper: directory.join("upper"),
            work: directory.join("work"),
        }
    }

    /// Makes them, unless they are there. The root directory of the container gets the owner and the mode that the
    /// topmost layer gives it, because overlayfs shows those of the upper directory.
    pub fn prepare(&self, container: &ContainerId, layers: &[Digest]) -> Result<Upper, Error> {
        let upper = self.of(container, layers);
        let make = |path: &Path, mode: u32| match DirBuilder::new().mode(mode).create(path) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
            other => other.map(|()| true).map_err(Error::host(format!("make {}", path.display()))),
        };
        make(&self.path.join(container.as_str()), 0o700)?;
        make(&upper.work, 0o700)?;
        if make(&upper.upper, 0o755)? {
            let above = |source| Error::Host { what: format!("prepare {}", upper.upper.display()), source };
            let (mode, owner) = match upper.lower.first() {
                Some(top) => {
                    let top = top.symlink_metadata().map_err(Error::host(format!("look at {}", top.display())))?;
                    (top.mode() & 0o7777, (top.uid(), top.gid()))
                }
                None => (0o755, (0, 0)),
            };
            if owner != (0, 0) {
                std::os::unix::fs::chown(&upper.upper, Some(owner.0), Some(owner.1)).map_err(above)?;
            }
            std::fs::set_permissions(&upper.upper, Permissions::from_mode(mode)).map_err(above)?;
        }
        Ok(upper)
    }

    /// Removes what the container wrote, and nothing else of its directory.
    pub fn remove(&self, container: &ContainerId) -> Result<(), Error> {
        let path = self.path.join(container.as_str());
        let directory = match Root::open(&path) {
            Ok(directory) => directory,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(Error::host(format!("open {}", path.display()))(error)),
        };
        for part in ["upper", "work"] {
            remove_all(directory.as_fd(), part.as_ref())
                .map_err(Error::host(format!("remove {}", path.join(part).display())))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_container_gets_its_own_directories_and_loses_them_again() {
        let root = tempfile::tempdir().unwrap();
        let layers = Layers::open(root.path()).unwrap();
        let snapshots = Snapshots::open(root.path(), layers.clone()).unwrap();
        let container = ContainerId::random();
        let (low, top) = (Digest::of(b"low"), Digest::of(b"top"));
        for layer in [&low, &top] {
            std::fs::create_dir(layers.path(layer)).unwrap();
        }
        std::fs::set_permissions(layers.path(&top), Permissions::from_mode(0o1777)).unwrap();
        let upper = snapshots.prepare(&container, &[low, top]).unwrap();
        assert_eq!(upper.lower, [layers.path(&top), layers.path(&low)]);
        assert_eq!(upper.upper.metadata().unwrap().mode() & 0o7777, 0o1777);
        std::fs::write(upper.upper.join("file"), "x").unwrap();
        assert_eq!(snapshots.prepare(&container, &[low, top]).unwrap(), upper);
        assert!(upper.upper.join("file").exists());
        snapshots.remove(&container).unwrap();
        snapshots.remove(&container).unwrap();
        snapshots.remove(&ContainerId::random()).unwrap();
        assert!(!upper.upper.exists() && !upper.work.exists());
        assert!(root.path().join("containers").join(container.as_str()).exists());
    }
}
