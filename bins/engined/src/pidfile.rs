//! The file with the daemon's process id.

use std::io;
use std::path::{Path, PathBuf};

/// The file; it is removed when this is dropped.
#[derive(Debug)]
pub(crate) struct Pidfile(PathBuf);

/// The file could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another daemon has written it and lives.
    #[error("pid file {path} is there and process {pid} runs: another daemon is running, or remove the file")]
    Running {
        /// The file.
        path: PathBuf,
        /// What stands in it.
        pid: u32,
    },
    /// The file system refused.
    #[error("failed to write pid file {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Pidfile {
    pub(crate) fn write(path: &Path) -> Result<Self, Error> {
        let failed = |source| Error::Io { path: path.to_owned(), source };
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(failed(error)),
        };
        if let Ok(pid) = text.trim().parse::<u32>()
            && pid != std::process::id()
            && has_program(pid)
        {
            return Err(Error::Running { path: path.to_owned(), pid });
        }
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory).map_err(failed)?;
        }
        std::fs::write(path, std::process::id().to_string()).map_err(failed)?;
        Ok(Self(path.to_owned()))
    }
}

/// Whether a process is there that is not over: one that was killed stays until its parent has looked at it.
fn has_program(pid: u32) -> bool {
    let program = std::fs::read_link(format!("/proc/{pid}/exe"));
    !program.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

impl Drop for Pidfile {
    fn drop(&mut self) {
        // Nobody is left who could use an error.
        let _ = std::fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_a_dead_daemons_file_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run/engined.pid");
        let file = Pidfile::write(&path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), std::process::id().to_string());
        drop(file);
        assert!(!path.exists());
        std::fs::write(&path, "1\n").unwrap();
        assert!(matches!(Pidfile::write(&path), Err(Error::Running { pid: 1, .. })));
        std::fs::write(&path, "4194999\n").unwrap();
        Pidfile::write(&path).unwrap();
        let mut over = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        std::fs::write(&path, over.id().to_string()).unwrap();
        assert!(matches!(Pidfile::write(&path), Err(Error::Running { .. })));
        over.kill().unwrap();
        while has_program(over.id()) {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        Pidfile::write(&path).unwrap();
        over.wait().unwrap();
    }
}
