//! `enginectl volume import`.

use std::fs::File;
use std::io::IsTerminal;

use http::Method;

use crate::client::{Query, segment};
use crate::commands::image::load::upload;
use crate::error::Error;
use crate::session::{Session, duplicate};

/// Put what is in a tar archive into a volume; other files in it stay
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name; the volume must be there
    #[arg(value_name = "VOLUME")]
    volume: String,
    /// The archive, plain or compressed by gzip or zstd; standard input when left out, or -
    #[arg(value_name = "FILE")]
    file: Option<String>,
}

pub(crate) async fn run(args: Args, session: &mut Session) -> Result<u8, Error> {
    let file = match args.file.as_deref().filter(|file| *file != "-") {
        Some(path) => File::open(path).map_err(Error::io(format!("open {path}")))?,
        None if session.io.stdin.is_terminal() => {
            return Err(Error::Invalid(
                "the archive is read from standard input, which is a terminal: name a file".to_owned(),
            ));
        }
        None => duplicate(&session.io.stdin)?,
    };
    let endpoint = format!("/volumes/{}/archive", segment(&args.volume));
    session.client()?.request(Method::PUT, &endpoint, &Query::new(), upload(file)?).await?;
    Ok(0)
}
