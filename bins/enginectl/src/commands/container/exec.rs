//! `enginectl exec`.

use engine_api::exec::{ExecCreate, ExecInspect, ExecStart, IdResponse};

use super::create::{fail, read};
use super::interact::{Foreground, Outcome, Streams, as_exit};
use super::path;
use super::request::{Surroundings, environment};
use super::signals::window;
use super::words::some;
use crate::client::{Payload, Query, parse};
use crate::error::Error;
use crate::session::Session;

/// Run a command in a running container
#[derive(Debug, clap::Args)]
#[command(override_usage = "enginectl exec [OPTIONS] CONTAINER COMMAND [ARG...]")]
pub(crate) struct Args {
    /// Run in the background
    #[arg(short = 'd', long)]
    detach: bool,
    /// Keys that leave the command running, as ctrl-p,ctrl-q
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<String>,
    /// Set an environment variable; NAME alone takes the client's value
    #[arg(short = 'e', long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Read environment variables from a file
    #[arg(long, value_name = "FILE")]
    env_file: Vec<String>,
    /// Attach stdin
    #[arg(short = 'i', long)]
    interactive: bool,
    /// Give all capabilities
    #[arg(long)]
    privileged: bool,
    /// Give it a terminal
    #[arg(short = 't', long)]
    tty: bool,
    /// User, as name|uid[:group|gid]
    #[arg(short = 'u', long, value_name = "USER")]
    user: Option<String>,
    /// Working directory
    #[arg(short = 'w', long, value_name = "PATH")]
    workdir: Option<String>,
    /// The container, the command and its arguments
    #[arg(value_name = "CONTAINER COMMAND [ARG...]", required = true, num_args = 2.., trailing_var_arg = true)]
    arguments: Vec<String>,
}

pub(crate) async fn run(args: Args, session: &mut Session) -> Result<u8, Error> {
    let Some((container, command)) = args.arguments.split_first().filter(|(_, command)| !command.is_empty()) else {
        return Err(Error::Invalid(
            "\"enginectl exec\" requires at least 2 arguments: a container and a command".to_owned(),
        ));
    };
    let around = Surroundings {
        variable: &|name| (session.io.environment)(name).and_then(|value| value.into_string().ok()),
        read: &read,
        absolute: &|path| path.to_owned(),
        console: window(session),
    };
    let attached = !args.detach;
    let streams = Streams {
        stdin: attached && args.interactive,
        stdout: attached,
        stderr: attached,
        tty: args.tty,
        forward: false,
        detach_keys: args.detach_keys.clone(),
        told_size: around.console,
    };
    streams.check(session)?;
    let console_size =
        if args.tty { around.console.map(|(rows, columns)| [u32::from(rows), u32::from(columns)]) } else { None };
    let request = ExecCreate {
        user: args.user.clone().unwrap_or_default(),
        privileged: args.privileged,
        tty: args.tty,
        console_size,
        attach_stdin: streams.stdin,
        attach_stdout: streams.stdout,
        attach_stderr: streams.stderr,
        detach_keys: args.detach_keys.clone().unwrap_or_default(),
        env: some(&environment(&args.env_file, &args.env, &around)?),
        working_dir: args.workdir.clone().unwrap_or_default(),
        cmd: Some(command.to_vec()),
    };
    let client = session.client()?;
    let create_path = path(container, "/exec");
    let answer = client.post(&create_path, &Query::new(), Payload::json(&request)?).await?;
    let id = parse::<IdResponse>(&create_path, &answer)?.id;
    let object = format!("/exec/{id}");
    let start = Payload::json(&ExecStart { detach: args.detach, tty: args.tty, console_size })?;
    if args.detach {
        return match client.post(&format!("{object}/start"), &Query::new(), start).await {
            Ok(_) => Ok(0),
            Err(error) => Ok(fail(session, "exec", &error)),
        };
    }
    let hijacked = match client.hijack(&format!("{object}/start"), &Query::new(), start).await {
        Ok(hijacked) => hijacked,
        Err(error) => return Ok(fail(session, "exec", &error)),
    };
    let foreground = Foreground::begin(session, &object, Some(hijacked), &streams)?;
    if foreground.until(session, std::future::ready(Ok(0))).await? == Outcome::Detached {
        return Err(Error::Detached);
    }
    let about: ExecInspect = client.get_as(&format!("{object}/json"), &Query::new()).await?;
    Ok(as_exit(i64::from(about.exit_code.unwrap_or(0))))
}
