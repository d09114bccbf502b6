//! `enginectl attach`.

use engine_api::container::ContainerInspect;
use http::Method;

use super::interact::{Foreground, Outcome, Streams, as_exit, exit_code};
use super::path;
use crate::client::{Payload, Query};
use crate::error::Error;
use crate::session::Session;

/// Attach the streams of the terminal to a running container
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Keys that leave the container running, as ctrl-p,ctrl-q
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<String>,
    /// Do not attach stdin
    #[arg(long)]
    no_stdin: bool,
    /// Pass signals on to the container
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true",
          value_parser = crate::args::truth, action = clap::ArgAction::Set)]
    sig_proxy: bool,
    /// Name or id
    #[arg(value_name = "CONTAINER")]
    container: String,
}

pub(crate) async fn run(args: Args, session: &mut Session) -> Result<u8, Error> {
    let client = session.client()?;
    let about: ContainerInspect = client.get_as(&path(&args.container, "/json"), &Query::new()).await?;
    let refuse = |text: &str| Err(Error::Invalid(text.to_owned()));
    if !about.state.running {
        return refuse("You cannot attach to a stopped container, start it first");
    }
    if about.state.paused {
        return refuse("You cannot attach to a paused container, unpause it first");
    }
    if about.state.restarting {
        return refuse("You cannot attach to a restarting container, wait until it is running");
    }
    let streams = Streams {
        stdin: !args.no_stdin && about.config.open_stdin,
        stdout: true,
        stderr: true,
        tty: about.config.tty,
        forward: args.sig_proxy && !about.config.tty,
        detach_keys: args.detach_keys,
        told_size: None,
    };
    streams.check(session)?;
    let path = format!("/containers/{}", about.id);
    let (attach_path, wait_path) = (format!("{path}/attach"), format!("{path}/wait"));
    let (attach_query, wait_query) = (streams.query(), Query::new());
    let (waiting, hijacked) = tokio::try_join!(
        client.request(Method::POST, &wait_path, &wait_query, Payload::Empty),
        client.hijack(&attach_path, &attach_query, Payload::Empty)
    )?;
    let foreground = Foreground::begin(session, &path, Some(hijacked), &streams)?;
    foreground.redraw().await;
    match foreground.until(session, exit_code(client, path, waiting, false)).await? {
        Outcome::Exited(code) => Ok(as_exit(code)),
        Outcome::Detached => Err(Error::Detached),
    }
}
