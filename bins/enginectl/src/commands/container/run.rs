//! `enginectl run`: create, attach, wait, start. The wait is registered before the start, so that no exit is missed.

use std::collections::BTreeSet;
use std::time::Duration;

use engine_api::container::{ContainerInspect, CreateRequest};
use http::Method;

use super::create::{create, fail, from_flags};
use super::interact::{Foreground, Outcome, Streams, as_exit, exit_code};
use super::options::Options;
use crate::client::{Client, Payload, Query, whole};
use crate::error::Error;
use crate::session::Session;

/// Create and run a new container from an image
///
/// The exit code is the container's; 125 if the engine failed, 126 if the command cannot be run, 127 if there is none.
#[derive(Debug, clap::Args)]
#[command(override_usage = "enginectl run [OPTIONS] IMAGE [COMMAND] [ARG...]", disable_help_flag = true)]
pub(crate) struct Args {
    /// Run in the background and print the container's id
    #[arg(short = 'd', long)]
    detach: bool,
    /// Keys that leave the container running, as ctrl-p,ctrl-q
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<String>,
    /// Pass signals on to the container
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true",
          value_parser = crate::args::truth, action = clap::ArgAction::Set)]
    sig_proxy: bool,
    #[command(flatten)]
    options: Options,
}

pub(crate) async fn run(args: Args, session: &mut Session) -> Result<u8, Error> {
    match start(&args, session).await {
        Ok(code) => Ok(code),
        // Not the engine's fault, and Docker's code for it is 1.
        Err(error @ (Error::NotATerminal | Error::Forced)) => Err(error),
        Err(error) => Ok(fail(session, "run", &error)),
    }
}

async fn start(args: &Args, session: &mut Session) -> Result<u8, Error> {
    let mut request = from_flags(&args.options, session)?;
    let config = &mut request.config;
    if args.detach {
        if !args.options.attach.is_empty() {
            return Err(Error::Invalid("conflicting options: cannot specify both --attach and --detach".to_owned()));
        }
        (config.attach_stdin, config.attach_stdout, config.attach_stderr, config.stdin_once) =
            (false, false, false, false);
    }
    let streams = Streams {
        stdin: config.attach_stdin,
        stdout: config.attach_stdout,
        stderr: config.attach_stderr,
        tty: config.tty,
        forward: args.sig_proxy && !args.detach,
        detach_keys: args.detach_keys.clone(),
        told_size: window_of(&request),
    };
    streams.check(session)?;
    let id = create(session, &args.options, &request).await?;
    let client = session.client()?;
    let path = format!("/containers/{id}");
    if args.detach {
        client.post(&format!("{path}/start"), &Query::new(), Payload::Empty).await?;
        let open = open_ports(&args.options, &client, &path).await;
        session.print_line(id)?;
        tell_open_ports(session, &open);
        return Ok(0);
    }
    let (attach_path, wait_path) = (format!("{path}/attach"), format!("{path}/wait"));
    let attach_query = streams.query();
    let condition = if args.options.remove { "removed" } else { "next-exit" };
    let wait_query = Query::new().with("condition", condition);
    let attach = async {
        if streams.stdin || streams.stdout || streams.stderr {
            client.hijack(&attach_path, &attach_query, Payload::Empty).await.map(Some)
        } else {
            Ok(None)
        }
    };
    let wait = client.request(Method::POST, &wait_path, &wait_query, Payload::Empty);
    let (hijacked, waiting) = tokio::try_join!(attach, wait)?;
    let mut foreground = Foreground::begin(session, &path, hijacked, &streams)?;
    let (start_path, start_query) = (format!("{path}/start"), Query::new());
    let started = foreground.meanwhile(client.post(&start_path, &start_query, Payload::Empty)).await?;
    if let Err(error) = started {
        drop(foreground);
        if args.options.remove {
            // The daemon removes it; `ps -a` after this command does not show it.
            let _ = tokio::time::timeout(Duration::from_secs(10), whole(&wait_path, waiting)).await;
        }
        return Err(error);
    }
    let open = open_ports(&args.options, &client, &path).await;
    tell_open_ports(session, &open);
    if !streams.stdout && !streams.stderr {
        session.print_line(&id)?;
    }
    match foreground.until(session, exit_code(client, path, waiting, args.options.remove)).await? {
        Outcome::Exited(code) => Ok(as_exit(code)),
        Outcome::Detached => Ok(0),
    }
}

/// The published ports that everybody who reaches the host reaches.
async fn open_ports(options: &Options, client: &Client, path: &str) -> Vec<String> {
    if options.publish.is_empty() && !options.publish_all {
        return Vec::new();
    }
    // One that has ended and gone already has none any more.
    let Ok(about) = client.get_as::<ContainerInspect>(&format!("{path}/json"), &Query::new()).await else {
        return Vec::new();
    };
    let is_open = |address: &str| matches!(address, "0.0.0.0" | "::");
    let ports = about.network_settings.ports.iter().flat_map(|(port, bindings)| {
        let open = bindings.iter().flatten().filter(|binding| is_open(&binding.host_ip));
        let kind = port.split_once('/').map_or("tcp", |(_, kind)| kind);
        open.map(move |binding| format!("{}/{kind}", binding.host_port))
    });
    ports.collect::<BTreeSet<_>>().into_iter().collect()
}

fn tell_open_ports(session: &mut Session, open: &[String]) {
    const MAX_TOLD: usize = 8;
    let Some(first) = open.first() else { return };
    let told = open.iter().take(MAX_TOLD).map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = open.len().saturating_sub(MAX_TOLD);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let port = first.split('/').next().unwrap_or_default();
    session.complain(format!(
        "Note: {told}{more}: open to everybody who reaches this host. To keep a port to the host, publish it as -p \
         127.0.0.1:{port}:PORT."
    ));
}

/// The size of the window (rows, columns) that a request tells.
fn window_of(request: &CreateRequest) -> Option<(u16, u16)> {
    let [rows, columns] = request.host_config.as_ref()?.console_size;
    Some((rows.try_into().ok()?, columns.try_into().ok()?)).filter(|size| *size != (0, 0))
}
