//! How many bytes a directory of the engine's may have: each bounded one is a project of its own, which the file system
//! counts and bounds.
//!
//! Nothing is written down for it: a directory itself says which project it is of, and the file system which projects have
//! files or bounds. A number that has neither is free.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine_sys::quota::{self, Counted, Way};

use crate::error::ErrorKind;

/// Numbers below are those that administrators give.
const FIRST: u32 = 1 << 20;
/// How often a number is drawn before it is given up; of two billion nearly all are free.
const TRIES: u32 = 100;

/// Why a directory cannot be bounded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file system counts no projects.
    #[error(
        "the file system of {} has no project quotas: it takes ext4 with the features quota and project, mounted with \
         prjquota, or xfs mounted with pquota",
        directory.display()
    )]
    Unsupported {
        /// A directory of it.
        directory: PathBuf,
    },
    /// Every number that was tried has files or a bound.
    #[error("no project is free in the file system of {}", directory.display())]
    NoneFree {
        /// A directory of it.
        directory: PathBuf,
    },
    /// The file system failed us.
    #[error("{what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Error {
    /// What a caller can do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Unsupported { .. } => ErrorKind::Unsupported,
            Self::NoneFree { .. } | Self::Io { .. } => ErrorKind::Internal,
        }
    }
}

/// The bounds of directories beneath one directory, all on one file system. A cheap clone.
#[derive(Debug, Clone)]
pub struct Quotas {
    directory: Arc<Path>,
    way: Way,
}

impl Quotas {
    /// Those beneath `directory`, which is looked at when it is needed.
    #[must_use]
    pub fn beneath(directory: &Path) -> Self {
        Self { directory: directory.into(), way: Way::Any }
    }

    /// Asks the kernel as kernels before 5.14 have to be asked.
    #[must_use]
    pub fn by_device(mut self) -> Self {
        self.way = Way::Device;
        self
    }

    /// Refuses when the file system cannot bound anything.
    ///
    /// # Errors
    /// [`Error::Unsupported`], or when the directory cannot be opened.
    pub fn check(&self) -> Result<(), Error> {
        self.opened().map(drop)
    }

    /// Bounds the bytes that all below these directories have together. They are empty, or have been bounded before.
    ///
    /// # Errors
    /// When the file system cannot bound anything; nothing is bounded then.
    pub fn bound(&self, directories: &[&Path], bytes: u64) -> Result<(), Error> {
        let own = self.opened()?;
        let mut project = None;
        for directory in directories {
            project = project.or(self.project(directory)?);
        }
        let drawn = match project {
            Some(project) => project,
            None => self.free(&own)?,
        };
        self.limit(&own, drawn, bytes)?;
        for directory in directories {
            let given = File::open(directory).and_then(|opened| quota::set_project(opened.as_fd(), drawn));
            if let Err(error) = given {
                let failed = self.failed("make a project of", directory)(error);
                if project.is_none() {
                    self.lift(drawn)?;
                }
                return Err(failed);
            }
        }
        Ok(())
    }

    /// The project that a directory was given by [`Quotas::bound`], if it was.
    ///
    /// # Errors
    /// When it cannot be looked at; one that is not there has no project.
    pub fn project(&self, directory: &Path) -> Result<Option<u32>, Error> {
        let of = |path: &Path| match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            opened => opened
                .and_then(|opened| quota::project(opened.as_fd()))
                .map_err(self.failed("find the project of", path)),
        };
        let project = of(directory)?;
        // An administrator may have made a project of everything here.
        Ok(if project == 0 || project == of(&self.directory)? { None } else { Some(project) })
    }

    /// What the files of a project have, and may have.
    ///
    /// # Errors
    /// When the file system does not tell.
    pub fn counted(&self, project: u32) -> Result<Counted, Error> {
        let own = self.opened()?;
        quota::counted(own.as_fd(), self.way, project).map_err(self.failed("count a project beneath", &self.directory))
    }

    /// Takes the bound of a project away whose files are gone.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn lift(&self, project: u32) -> Result<(), Error> {
        let own = File::open(&self.directory).map_err(self.failed("open", &self.directory))?;
        self.limit(&own, project, 0)
    }

    fn opened(&self) -> Result<File, Error> {
        let own = File::open(&self.directory).map_err(self.failed("open", &self.directory))?;
        match quota::is_enforced(own.as_fd(), self.way) {
            Ok(true) => Ok(own),
            Ok(false) => Err(Error::Unsupported { directory: self.directory.to_path_buf() }),
            Err(error) => Err(self.failed("look for quotas at", &self.directory)(error)),
        }
    }

    /// A number that has neither files nor a bound.
    fn free(&self, own: &File) -> Result<u32, Error> {
        for _ in 0..TRIES {
            let mut bytes = [0; 4];
            getrandom::fill(&mut bytes).map_err(|error| {
                self.failed("draw a project for", &self.directory)(io::Error::other(error.to_string()))
            })?;
            let drawn = (u32::from_ne_bytes(bytes) & (i32::MAX as u32)) | FIRST;
            let counted = quota::counted(own.as_fd(), self.way, drawn)
                .map_err(self.failed("count a project beneath", &self.directory))?;
            if counted == Counted::default() {
                return Ok(drawn);
            }
        }
        Err(Error::NoneFree { directory: self.directory.to_path_buf() })
    }

    fn limit(&self, own: &File, project: u32, bytes: u64) -> Result<(), Error> {
        quota::set_limit(own.as_fd(), self.way, project, bytes)
            .map_err(self.failed("bound a project beneath", &self.directory))
    }

    fn failed(&self, what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error + use<> {
        let path = path.to_owned();
        move |source| Error::Io { what, path, source }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn where_nothing_is_counted_nothing_is_bounded() {
        let room = tempfile::tempdir_in("/dev/shm").unwrap();
        for quotas in [Quotas::beneath(room.path()), Quotas::beneath(room.path()).by_device()] {
            let error = quotas.bound(&[room.path()], 1 << 20).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert!(error.to_string().contains("mounted with prjquota, or xfs mounted with pquota"), "{error}");
            assert_eq!(quotas.project(room.path()).unwrap(), None);
        }
        let missing = Quotas::beneath(&room.path().join("missing"));
        assert!(matches!(missing.check(), Err(Error::Io { what: "open", .. })));
    }
}
