//! `enginectl load`.

use std::fs::File;
use std::io::IsTerminal;
use std::os::fd::AsFd;

use bytes::Bytes;
use futures_util::stream;
use http::Method;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use tokio::sync::mpsc;

use crate::client::{Payload, Query, Upload};
use crate::error::Error;
use crate::output::progress::{Screen, show};
use crate::session::{Session, duplicate};

/// Load images from a tar archive or from standard input
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Read this file instead of standard input
    #[arg(short = 'i', long, value_name = "FILE")]
    input: Option<String>,
    /// Load only this platform, as linux/amd64
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<String>,
    /// Show no progress
    #[arg(short = 'q', long)]
    quiet: bool,
}

/// What is read at once.
const CHUNK: usize = 256 << 10;

pub(crate) async fn run(args: Args, session: &mut Session) -> Result<u8, Error> {
    let file = match &args.input {
        Some(path) => File::open(path).map_err(Error::io(format!("open {path}")))?,
        None if session.io.stdin.is_terminal() => {
            return Err(Error::Invalid("requested load from stdin, but stdin is empty".to_owned()));
        }
        None => duplicate(&session.io.stdin)?,
    };
    let terminal =
        if session.io.stdout.is_terminal() { crate::terminal::size(session.io.stdout.as_fd()) } else { None };
    let quiet = args.quiet || terminal.is_none();
    let query = Query::new()
        .with("quiet", if quiet { "1" } else { "0" })
        .optional("platform", args.platform.as_deref().map(platform).transpose()?.as_deref());
    let response = session.client()?.request(Method::POST, "/images/load", &query, upload(file)?).await?;
    let mut out: &File = &session.io.stdout;
    show(response.into_body(), Screen::new(&mut out, terminal).only_results(quiet)).await?;
    Ok(0)
}

/// An archive as the body of a request.
pub(in crate::commands) fn upload(file: File) -> Result<Payload, Error> {
    const KIND: &str = "application/x-tar";
    if let Some(upload) = Upload::of(&file).map_err(Error::io("look at the archive"))? {
        return Ok(Payload::File(KIND, upload));
    }
    let frames = stream::unfold(read(file)?, |mut receiver| async move {
        receiver.recv().await.map(|chunk: std::io::Result<Bytes>| (chunk.map(Frame::data), receiver))
    });
    Ok(Payload::Stream(KIND, StreamBody::new(frames).boxed_unsync()))
}

/// Reads ahead a little, on a thread of its own.
fn read(file: File) -> Result<mpsc::Receiver<std::io::Result<Bytes>>, Error> {
    let (sender, receiver) = mpsc::channel(4);
    std::thread::Builder::new()
        .name("archive".to_owned())
        .spawn(move || {
            loop {
                let mut chunk = Vec::with_capacity(CHUNK);
                let read = rustix::io::read(&file, rustix::buffer::spare_capacity(&mut chunk));
                match read.map(|_| Bytes::from(chunk)).map_err(std::io::Error::from) {
                    Ok(chunk) if chunk.is_empty() => return,
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                    result => {
                        let failed = result.is_err();
                        if sender.blocking_send(result).is_err() || failed {
                            return;
                        }
                    }
                }
            }
        })
        .map_err(Error::io("start a thread"))?;
    Ok(receiver)
}

/// `linux/arm64/v8` as the JSON that the API takes.
pub(super) fn platform(text: &str) -> Result<String, Error> {
    let parts: Vec<&str> = text.split('/').collect();
    let value = match parts.as_slice() {
        [os, architecture] => serde_json::json!({"os": os, "architecture": architecture}),
        [os, architecture, variant] => serde_json::json!({"os": os, "architecture": architecture, "variant": variant}),
        _ => return Err(Error::Invalid(format!("invalid platform {text:?}: write it as linux/amd64"))),
    };
    Ok(value.to_string())
}
