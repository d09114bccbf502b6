//! `enginectl save`.

use std::fs::File;
use std::io::{IsTerminal, Write};
use std::path::Path;

use http::Method;
use http_body_util::BodyExt;

use crate::client::{Payload, Query};
use crate::error::Error;
use crate::session::{Session, duplicate};

/// Write images to a tar archive, or to standard output
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Write this file instead of standard output
    #[arg(short = 'o', long, value_name = "FILE")]
    output: Option<String>,
    /// The images must be for this platform, as linux/amd64
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<String>,
    /// Names or ids
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
}

pub(crate) async fn run(args: Args, session: &mut Session) -> Result<u8, Error> {
    if args.output.is_none() && session.io.stdout.is_terminal() {
        return Err(Error::Invalid("cowardly refusing to save to a terminal. Use the -o flag or redirect".to_owned()));
    }
    let mut query = Query::new();
    for image in &args.images {
        query = query.with("names", image);
    }
    let platform = args.platform.as_deref().map(super::load::platform).transpose()?;
    query = query.optional("platform", platform.as_deref());
    let response = session.client()?.request(Method::GET, "/images/get", &query, Payload::Empty).await?;
    let mut target = match &args.output {
        Some(path) => Target::beside(Path::new(path))?,
        None => Target { file: duplicate(&session.io.stdout)?, paths: None },
    };
    let mut body = response.into_body();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|source| Error::Http { what: "read the archive".to_owned(), source })?;
        if let Ok(bytes) = frame.into_data() {
            target.file.write_all(&bytes).map_err(Error::io("write the archive"))?;
        }
    }
    target.finish()?;
    Ok(0)
}

/// A file that has its name once it is whole: half an archive is not taken for one.
struct Target {
    file: File,
    paths: Option<(std::path::PathBuf, std::path::PathBuf)>,
}

impl Target {
    fn beside(path: &Path) -> Result<Self, Error> {
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
