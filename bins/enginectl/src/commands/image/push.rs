//! `enginectl push`.

use std::fs::File;
use std::io::{IsTerminal, Write};
use std::os::fd::AsFd;

use http::Method;

use crate::client::{Payload, Query, segment};
use crate::commands::image::pull::{credentials, without_trust};
use crate::commands::reference::Reference;
use crate::error::Error;
use crate::output::progress::{Screen, show};
use crate::session::Session;

/// Bring an image to a registry
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// All tags of the repository
    #[arg(short = 'a', long)]
    all_tags: bool,
    /// The image must be for this platform, as linux/amd64
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
    #[arg(value_name = "NAME[:TAG]")]
    image: String,
}

pub(crate) async fn run(args: Args, session: &mut Session) -> Result<u8, Error> {
    without_trust(args.disable_content_trust)?;
    let reference = Reference::parse(&args.image);
    if args.all_tags && reference.tag.is_some() {
        return Err(Error::Invalid("tag can't be used with --all-tags/-a".to_owned()));
    }
    if !args.all_tags && !args.quiet && reference.tag.is_none() {
        session.print_line("Using default tag: latest")?;
    }
    let tag = if args.all_tags { "" } else { reference.tag.as_deref().unwrap_or("latest") };
    let platform = args.platform.as_deref().map(super::load::platform).transpose()?;
    let query = Query::new().with("tag", tag).optional("platform", platform.as_deref());
    let payload = Payload::Registry(credentials(session, &args.image).unwrap_or_else(|| "e30=".to_owned()));
    let path = format!("/images/{}/push", segment(&reference.repository));
    let response = session.client()?.request(Method::POST, &path, &query, payload).await?;
    let terminal =
        if session.io.stdout.is_terminal() { crate::terminal::size(session.io.stdout.as_fd()) } else { None };
    let mut stdout: &File = &session.io.stdout;
    let mut nowhere = std::io::sink();
    let out: &mut dyn Write = if args.quiet { &mut nowhere } else { &mut stdout };
    show(response.into_body(), Screen::new(out, terminal)).await?;
    if args.quiet {
        session.print_line(reference.full())?;
    }
    Ok(0)
}
