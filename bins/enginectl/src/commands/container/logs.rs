//! `enginectl logs`.

use std::io::Write;

use engine_api::container::ContainerInspect;
use engine_api::version::ApiVersion;
use http::{Method, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use jiff::Timestamp;

use super::path;
use crate::client::{Client, Demultiplexer, Payload, Query};
use crate::error::Error;
use crate::output::time;
use crate::session::Session;

/// Show the output of containers; that of several behind their names, in colours
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Add what the log driver knows besides
    #[arg(long)]
    details: bool,
    /// Go on with new output
    #[arg(short = 'f', long)]
    follow: bool,
    /// From this time on: a date, seconds since 1970, or 42m for 42 minutes ago
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only so many lines from the end
    #[arg(short = 'n', long, value_name = "LINES", default_value = "all")]
    tail: String,
    /// Show the time of each line
    #[arg(short = 't', long)]
    timestamps: bool,
    /// Up to this time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Names or ids
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

/// Since this version the content type tells whether there are frames.
const TELLING: ApiVersion = ApiVersion::new(1, 42);

pub(crate) async fn run(args: Args, session: &mut Session) -> Result<u8, Error> {
    let now = Timestamp::now();
    let moment = |flag: &str, text: &Option<String>| match text {
        Some(text) => time::timestamp(text, now)
            .map(Some)
            .map_err(|error| Error::Invalid(format!("invalid value for {flag:?}: {error}"))),
        None => Ok(None),
    };
    let query = Query::new()
        .with("stdout", "1")
        .with("stderr", "1")
        .with("tail", &args.tail)
        .flag("follow", args.follow)
        .flag("timestamps", args.timestamps)
        .flag("details", args.details)
        .optional("since", moment("since", &args.since)?.as_deref())
        .optional("until", moment("until", &args.until)?.as_deref());
    let client = session.client()?;
    let [container] = &args.containers[..] else {
        return super::gather::gather(&args.containers, &client, &query, session).await;
    };
    let (framed, mut body) = open(&client, container, &query).await?;
    let mut demultiplexer = Demultiplexer::default();
    let (mut stdout, mut stderr) = (&session.io.stdout, &session.io.stderr);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|source| Error::Http { what: format!("read the log of {container}"), source })?;
        let Ok(bytes) = frame.into_data() else { continue };
        let mut write = |is_error: bool, bytes: &[u8]| {
            let result = if is_error { stderr.write_all(bytes) } else { stdout.write_all(bytes) };
            result.map_err(Error::io("write the log"))
        };
        if framed { demultiplexer.feed(&bytes, write)? } else { write(false, &bytes)? }
    }
    Ok(0)
}

/// The log of a container as it comes, and whether its two outputs are told apart by frames.
pub(super) async fn open(client: &Client, container: &str, query: &Query) -> Result<(bool, Incoming), Error> {
    let response = client.request(Method::GET, &path(container, "/logs"), query, Payload::Empty).await?;
    let kind = response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let framed = if kind.starts_with("application/vnd.docker.multiplexed-stream") {
        true
    } else if kind.starts_with("application/vnd.docker.raw-stream") && client.version() >= TELLING {
        false
    } else {
        let about: ContainerInspect = client.get_as(&path(container, "/json"), &Query::new()).await?;
        !about.config.tty
    };
    Ok((framed, response.into_body()))
}
