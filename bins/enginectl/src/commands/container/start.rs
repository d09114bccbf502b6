//! `enginectl start`.

use engine_api::container::ContainerInspect;
use http::Method;

use super::interact::{Foreground, Outcome, Streams, as_exit, exit_code};
use super::path;
use crate::client::{Payload, Query};
use crate::commands::several::each;
use crate::error::Error;
use crate::session::Session;

/// Start containers
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Attach stdout and stderr, and pass signals on; also to one that runs already
    #[arg(short = 'a', long)]
    attach: bool,
    /// Attach stdin
    #[arg(short = 'i', long)]
    interactive: bool,
    /// Keys that leave the container running, as ctrl-p,ctrl-q
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<String>,
    /// Go on from this checkpoint
    #[arg(long, value_name = "CHECKPOINT")]
    checkpoint: Option<String>,
    /// Directory of the engine's host that the checkpoint is in, an absolute path
    #[arg(long, value_name = "DIRECTORY", requires = "checkpoint")]
    checkpoint_dir: Option<String>,
    /// Names or ids
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

pub(crate) async fn run(args: Args, session: &mut Session) -> Result<u8, Error> {
    if args.attach || args.interactive {
        let [container] = args.containers.as_slice() else {
            return Err(Error::Invalid("you cannot start and attach multiple containers at once".to_owned()));
        };
        return attached(&args, container, session).await;
    }
    if args.checkpoint.is_some() && args.containers.len() > 1 {
        return Err(Error::Invalid("you cannot restore multiple containers at once".to_owned()));
    }
    let query = args.query();
    let client = session.client()?;
    let failed = std::cell::RefCell::new(Vec::new());
    let code = each(session, &client, &args.containers, |name| {
        let (client, query, failed) = (client.clone(), query.clone(), &failed);
        async move {
            let result = client.post(&path(&name, "/start"), &query, Payload::Empty).await;
            if result.is_err() {
                failed.borrow_mut().push(name.clone());
            }
            result.map(|_| name)
        }
    });
    let code = code.await?;
    let failed = failed.into_inner();
    let failed: Vec<&str> =
        args.containers.iter().map(String::as_str).filter(|name| failed.iter().any(|f| f == name)).collect();
    if !failed.is_empty() {
        return Err(Error::Invalid(format!("Error: failed to start containers: {}", failed.join(", "))));
    }
    Ok(code)
}

impl Args {
    fn query(&self) -> Query {
        Query::new()
            .optional("checkpoint", self.checkpoint.as_deref())
            .optional("checkpoint-dir", self.checkpoint_dir.as_deref())
    }
}

async fn attached(args: &Args, container: &str, session: &mut Session) -> Result<u8, Error> {
    let client = session.client()?;
    let about: ContainerInspect = client.get_as(&path(container, "/json"), &Query::new()).await?;
    let streams = Streams {
        stdin: args.interactive && about.config.open_stdin,
        stdout: true,
        stderr: true,
        tty: about.config.tty,
        forward: !about.config.tty,
        detach_keys: args.detach_keys.clone(),
        told_size: None,
    };
    streams.check(session)?;
    let path = format!("/containers/{}", about.id);
    let (attach_path, wait_path) = (format!("{path}/attach"), format!("{path}/wait"));
    let condition = if about.host_config.auto_remove { "removed" } else { "next-exit" };
    let (attach_query, wait_query) = (streams.query(), Query::new().with("condition", condition));
    let (hijacked, waiting) = tokio::try_join!(
        client.hijack(&attach_path, &attach_query, Payload::Empty),
        client.request(Method::POST, &wait_path, &wait_query, Payload::Empty)
    )?;
    let mut foreground = Foreground::begin(session, &path, Some(hijacked), &streams)?;
    let (start_path, start_query) = (format!("{path}/start"), args.query());
    foreground.meanwhile(client.post(&start_path, &start_query, Payload::Empty)).await??;
    // One that runs already has drawn its screen.
    if about.state.running {
        foreground.redraw().await;
    } else if streams.tty {
        foreground.resize(session).await;
    }
    match foreground.until(session, exit_code(client, path, waiting, about.host_config.auto_remove)).await? {
        Outcome::Exited(code) => Ok(as_exit(code)),
        Outcome::Detached => Ok(0),
    }
}
