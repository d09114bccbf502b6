//! `enginectl pull`, and the pull that `run` and `create` do.

use std::fs::File;
use std::io::{IsTerminal, Write};
use std::os::fd::AsFd;

use http::Method;

use crate::client::{Client, Payload, Query};
use crate::commands::reference::Reference;
use crate::credentials;
use crate::error::Error;
use crate::output::progress::{Screen, show};
use crate::session::Session;

/// Get an image from a registry
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// All tags of the repository
    #[arg(short = 'a', long)]
    all_tags: bool,
    /// Platform of the image, as linux/amd64
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<String>,
    /// Do not ask for signatures, which is the case: =false is refused, for none are looked at
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true",
          value_parser = crate::args::truth, action = clap::ArgAction::Set)]
    disable_content_trust: bool,
    /// Print only the name
    #[arg(short = 'q', long)]
    quiet: bool,
    /// The image
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    image: String,
}

pub(crate) async fn run(args: Args, session: &mut Session) -> Result<u8, Error> {
    without_trust(args.disable_content_trust)?;
    let reference = Reference::parse(&args.image);
    let platform = args.platform.clone().or_else(|| session.io.variable("DOCKER_DEFAULT_PLATFORM"));
    let client = session.client()?;
    let auth = credentials(session, &args.image);
    if args.all_tags && (reference.tag.is_some() || reference.digest.is_some()) {
        return Err(Error::Invalid("tag can't be used with --all-tags/-a".to_owned()));
    }
    if !args.quiet && !args.all_tags && reference.tag.is_none() && reference.digest.is_none() {
        session.print_line("Using default tag: latest")?;
    }
    let terminal =
        if session.io.stdout.is_terminal() { crate::terminal::size(session.io.stdout.as_fd()) } else { None };
    let mut stdout: &File = &session.io.stdout;
    let mut nowhere = std::io::sink();
    let out: &mut dyn Write = if args.quiet { &mut nowhere } else { &mut stdout };
    let which = if args.all_tags { Which::All } else { Which::One };
    fetch_some(&client, &args.image, which, platform.as_deref(), auth, out, terminal).await?;
    if args.all_tags {
        session.print_line(reference.full_repository())?;
    } else {
        session.print_line(reference.full())?;
    }
    Ok(0)
}

/// Refuses to look for Docker's signatures of images.
pub(crate) fn without_trust(disabled: bool) -> Result<(), Error> {
    if disabled {
        return Ok(());
    }
    Err(Error::Invalid("content trust is not supported: name the image by its digest, which is checked".to_owned()))
}

/// Who pulls from the registry of this image, for the header; nothing if nobody logged in there.
pub(crate) fn credentials(session: &Session, image: &str) -> Option<String> {
    credentials::header(session, Reference::parse(image).registry())
}

/// Pulls one image and shows the progress.
pub(crate) async fn fetch(
    client: &Client,
    image: &str,
    platform: Option<&str>,
    auth: Option<String>,
    out: &mut dyn Write,
    terminal: Option<(u16, u16)>,
) -> Result<(), Error> {
    fetch_some(client, image, Which::One, platform, auth, out, terminal).await
}

/// Which images of a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    One,
    All,
}

async fn fetch_some(
    client: &Client,
    image: &str,
    which: Which,
    platform: Option<&str>,
    auth: Option<String>,
    out: &mut dyn Write,
    terminal: Option<(u16, u16)>,
) -> Result<(), Error> {
    let reference = Reference::parse(image);
    let tag = match (&reference.digest, &reference.tag) {
        (Some(digest), _) => digest.as_str(),
        (None, Some(tag)) => tag.as_str(),
        (None, None) if which == Which::All => "",
        (None, None) => "latest",
    };
    let query = Query::new().with("fromImage", &reference.repository).with("tag", tag).optional("platform", platform);
    let payload = auth.map_or(Payload::Empty, Payload::Registry);
    let response = client.request(Method::POST, "/images/create", &query, payload).await?;
    show(response.into_body(), Screen::new(out, terminal)).await
}
