//! `enginectl create`, and what `run` shares with it: the image is pulled if it is not there.

use std::io::IsTerminal;
use std::os::fd::AsFd;

use engine_api::container::{CreateRequest, CreateResponse};

use super::options::Options;
use super::request::{Surroundings, request};
use super::signals::window;
use crate::client::{Payload, Query, parse};
use crate::commands::image::pull;
use crate::commands::reference::Reference;
use crate::error::Error;
use crate::session::Session;

/// Create a container and do not start it
#[derive(Debug, clap::Args)]
#[command(override_usage = "enginectl create [OPTIONS] IMAGE [COMMAND] [ARG...]", disable_help_flag = true)]
pub(crate) struct Args {
    #[command(flatten)]
    options: Options,
}

pub(crate) async fn run(args: Args, session: &mut Session) -> Result<u8, Error> {
    let result = async {
        let request = from_flags(&args.options, session)?;
        create(session, &args.options, &request).await
    };
    match result.await {
        Ok(id) => {
            session.print_line(id)?;
            Ok(0)
        }
        Err(error @ Error::Invalid(_)) => Ok(fail(session, "create", &error)),
        Err(error) => Err(error),
    }
}

/// Tells why no container came to be, and gives the exit code.
pub(crate) fn fail(session: &Session, command: &str, error: &Error) -> u8 {
    if !error.is_silent() {
        session.complain(format!("enginectl: {error}\n\nRun 'enginectl {command} --help' for more information"));
    }
    error.start_exit_code()
}

/// The request for the flags, with the client's files, variables and terminal.
pub(crate) fn from_flags(options: &Options, session: &Session) -> Result<CreateRequest, Error> {
    pull::without_trust(options.disable_content_trust)?;
    let around = Surroundings {
        variable: &|name| (session.io.environment)(name).and_then(|value| value.into_string().ok()),
        read: &read,
        absolute: &|path| {
            std::path::absolute(path).map_or_else(|_| path.to_owned(), |path| path.to_string_lossy().into_owned())
        },
        console: window(session),
    };
    request(options, &around)
}

/// Files that flags name are small.
const MAXIMUM_FILE: u64 = 16 << 20;

pub(crate) fn read(path: &str) -> Result<Vec<u8>, String> {
    use std::io::Read;
    let mut text = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MAXIMUM_FILE + 1).read_to_end(&mut text))
        .map_err(|error| format!("open {path}: {error}"))?;
    if text.len() as u64 > MAXIMUM_FILE {
        return Err(format!("{path} is larger than {MAXIMUM_FILE} bytes"));
    }
    Ok(text)
}

/// Creates the container and gives its id.
pub(crate) async fn create(session: &mut Session, options: &Options, request: &CreateRequest) -> Result<String, Error> {
    if !matches!(options.pull.as_str(), "always" | "missing" | "never" | "") {
        return Err(Error::Invalid(format!(
            "invalid pull option: '{}': must be one of \"always\", \"missing\" or \"never\"",
            options.pull
        )));
    }
    if let Some(file) = &options.cidfile
        && std::path::Path::new(file).exists()
    {
        return Err(Error::Invalid(format!(
            "container ID file found, make sure the other container isn't running or delete {file}"
        )));
    }
    let client = session.client()?;
    let image = &request.config.image;
    let platform = options.platform.clone().or_else(|| session.io.variable("DOCKER_DEFAULT_PLATFORM"));
    if options.pull == "always" {
        fetch(session, image, platform.as_deref(), options.quiet).await?;
    }
    let query = Query::new().optional("name", options.name.as_deref()).optional("platform", platform.as_deref());
    let mut answer = client.post("/containers/create", &query, Payload::json(request)?).await;
    if let Err(Error::Daemon { status: 404, message }) = &answer
        && message.contains("No such image")
        && options.pull != "never"
    {
        if !options.quiet {
            session.complain(format!("Unable to find image '{}' locally", Reference::parse(image).tagged()));
        }
        fetch(session, image, platform.as_deref(), options.quiet).await?;
        answer = client.post("/containers/create", &query, Payload::json(request)?).await;
    }
    let answer: CreateResponse = parse("/containers/create", &answer?)?;
    for warning in &answer.warnings {
        session.complain(format!("WARNING: {warning}"));
    }
    if let Some(file) = &options.cidfile {
        std::fs::write(file, &answer.id).map_err(Error::io(format!("write the container ID to {file}")))?;
    }
    Ok(answer.id)
}

/// Pulls; progress goes to standard error, for standard output is the container's.
async fn fetch(session: &mut Session, image: &str, platform: Option<&str>, quiet: bool) -> Result<(), Error> {
    let client = session.client()?;
    let terminal =
        if session.io.stderr.is_terminal() { crate::terminal::size(session.io.stderr.as_fd()) } else { None };
    let auth = pull::credentials(session, image);
    let mut out: &std::fs::File = &session.io.stderr;
    let mut nowhere = std::io::sink();
    pull::fetch(&client, image, platform, auth, if quiet { &mut nowhere } else { &mut out }, terminal).await
}
