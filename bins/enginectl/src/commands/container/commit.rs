//! `enginectl commit`.

use engine_api::image::CommitAnswer;

use crate::client::{Payload, Query, parse};
use crate::commands::reference::Reference;
use crate::error::Error;
use crate::session::Session;

/// Make an image of a container's changes
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Who made it
    #[arg(short = 'a', long, value_name = "NAME")]
    author: Option<String>,
    /// Change the image by an instruction of a Dockerfile
    #[arg(short = 'c', long, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// Remark in the image's history
    #[arg(short = 'm', long, value_name = "TEXT")]
    message: Option<String>,
    /// Pause the container meanwhile
    #[arg(short = 'p', long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true",
          value_parser = crate::args::truth, action = clap::ArgAction::Set)]
    pause: bool,
    /// Name or id
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// Name of the image
    #[arg(value_name = "REPOSITORY[:TAG]")]
    image: Option<String>,
}

pub(crate) async fn run(args: Args, session: &mut Session) -> Result<u8, Error> {
    let mut query = Query::new()
        .with("container", &args.container)
        .optional("author", args.author.as_deref())
        .optional("comment", args.message.as_deref())
        .with("pause", if args.pause { "1" } else { "0" });
    if let Some(image) = &args.image {
        let reference = Reference::parse(image);
        query = query.with("repo", &reference.repository).optional("tag", reference.tag.as_deref());
    }
    for change in &args.change {
        query = query.with("changes", change);
    }
    let answer = session.client()?.post("/commit", &query, Payload::Empty).await?;
    let made: CommitAnswer = parse("/commit", &answer)?;
    session.print_line(made.id)?;
    Ok(0)
}
