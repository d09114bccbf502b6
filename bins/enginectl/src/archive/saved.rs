//! An archive that the daemon sends, as a file or on standard output.

use std::fs::File;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use crate::client::Query;
use crate::error::Error;
use crate::session::{Session, duplicate};

/// Writes the archive that a GET of `path` gives to the file `output`, or to standard output if that is no terminal.
pub(crate) async fn save(session: &mut Session, output: Option<&str>, path: &str, query: &Query) -> Result<(), Error> {
    if output.is_none() && session.io.stdout.is_terminal() {
        return Err(Error::Invalid("cowardly refusing to save to a terminal. Use the -o flag or redirect".to_owned()));
    }
    let download = session.client()?.download(path, query).await?;
    let target = match output {
        Some(output) => Target::at(Path::new(output))?,
        None => Target { file: duplicate(&session.io.stdout)?, paths: None },
    };
    download.write_to(&target.file, "the archive").await?;
    target.finish()
}

/// A file that has its name once it is whole: half an archive is not taken for one.
struct Target {
    file: File,
    paths: Option<(PathBuf, PathBuf)>,
}

impl Target {
    fn at(path: &Path) -> Result<Self, Error> {
        let fail = || Error::io(format!("make {}", path.display()));
        if path.symlink_metadata().is_ok_and(|found| !found.is_file()) {
            // A device, a pipe or a link is written to as it is.
            return Ok(Self { file: File::create(path).map_err(fail())?, paths: None });
        }
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".part-{}", std::process::id()));
        let part = path.with_file_name(name);
        let file = File::options().write(true).create_new(true).open(&part).map_err(fail())?;
        Ok(Self { file, paths: Some((part, path.to_owned())) })
    }

    fn finish(mut self) -> Result<(), Error> {
        if let Some((part, path)) = &self.paths {
            std::fs::rename(part, path).map_err(Error::io(format!("make {}", path.display())))?;
        }
        self.paths = None;
        Ok(())
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if let Some((part, _)) = &self.paths {
            let _ = std::fs::remove_file(part);
        }
    }
}
