//! `enginectl export`.

use std::fs::File;
use std::io::{self, IsTerminal};

use http::Method;

use super::path;
use crate::archive::{self, Passed};
use crate::client::{Payload, Query};
use crate::error::Error;
use crate::session::{Session, duplicate};

/// Write a container's files, without its volumes, as a tar archive
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Write this file instead of standard output
    #[arg(short = 'o', long, value_name = "FILE")]
    output: Option<String>,
    /// Name or id
    #[arg(value_name = "CONTAINER")]
    container: String,
}

pub(crate) async fn run(args: Args, session: &mut Session) -> Result<u8, Error> {
    to_file(session, args.output.as_deref(), &path(&args.container, "/export")).await
}

/// Writes an archive that the daemon sends to a file or to standard output. A file is there when it is whole.
pub(crate) async fn to_file(session: &mut Session, output: Option<&str>, endpoint: &str) -> Result<u8, Error> {
    if output.is_none() && session.io.stdout.is_terminal() {
        let text = "cowardly refusing to save to a terminal. Use the -o flag or redirect";
        return Err(Error::Invalid(text.to_owned()));
    }
    let client = session.client()?;
    let response = client.request(Method::GET, endpoint, &Query::new(), Payload::Empty).await?;
    let Some(output) = output.map(str::to_owned) else {
        let mut out = duplicate(&session.io.stdout)?;
        archive::read(endpoint, response.into_body(), &Passed::default(), move |archive| {
            io::copy(archive, &mut out).map(drop).map_err(Error::io("write to standard output"))
        })
        .await?;
        return Ok(0);
    };
    let special = std::fs::metadata(&output).is_ok_and(|found| !found.is_file());
    let written = if special { output.clone() } else { format!("{output}.{}.part", std::process::id()) };
    let (part, target) = (written.clone(), output.clone());
    let done = archive::read(endpoint, response.into_body(), &Passed::default(), move |archive| {
        let mut file = File::create(&part).map_err(Error::io(format!("make {part}")))?;
        io::copy(archive, &mut file).map_err(Error::io(format!("write {part}")))?;
        if special { Ok(()) } else { std::fs::rename(&part, &target).map_err(Error::io(format!("make {target}"))) }
    })
    .await;
    if done.is_err() && !special {
        let _ = std::fs::remove_file(&written);
    }
    done.map(|()| 0)
}
