//! `enginectl import`.

use std::fs::File;
use std::os::fd::AsFd;

use http::Method;

use super::load::upload;
use crate::client::{Payload, Query};
use crate::commands::reference::Reference;
use crate::error::Error;
use crate::output::progress::{Screen, show};
use crate::session::{Session, duplicate};

/// Make an image of a root file system in a tar archive
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Change the image by an instruction of a Dockerfile
    #[arg(short = 'c', long, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// Remark in the image's history
    #[arg(short = 'm', long, value_name = "TEXT")]
    message: Option<String>,
    /// Platform of the image, as linux/amd64
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<String>,
    /// The archive, its address on the web, or - for standard input
    #[arg(value_name = "FILE|URL|-")]
    file: String,
    /// Name of the image
    #[arg(value_name = "REPOSITORY[:TAG]")]
    image: Option<String>,
}

pub(crate) async fn run(args: Args, session: &mut Session) -> Result<u8, Error> {
    let is_address = ["http://", "https://"].iter().any(|scheme| args.file.starts_with(scheme));
    let payload = match args.file.as_str() {
        // The daemon fetches it, through its own proxies.
        _ if is_address => Payload::Empty,
        "-" => upload(duplicate(&session.io.stdin)?)?,
        path => upload(File::open(path).map_err(Error::io(format!("open {path}")))?)?,
    };
    let mut query = Query::new().with("fromSrc", if is_address { &args.file } else { "-" });
    if let Some(image) = &args.image {
        let reference = Reference::parse(image);
        query = query.with("repo", &reference.repository).optional("tag", reference.tag.as_deref());
    }
    query = query.optional("message", args.message.as_deref()).optional("platform", args.platform.as_deref());
    for change in &args.change {
        query = query.with("changes", change);
    }
    let response = session.client()?.request(Method::POST, "/images/create", &query, payload).await?;
    let terminal = crate::terminal::size(session.io.stdout.as_fd());
    let mut out: &File = &session.io.stdout;
    show(response.into_body(), Screen::new(&mut out, terminal)).await?;
    Ok(0)
}
