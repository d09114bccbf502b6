//! `enginectl top`.

use std::io::IsTerminal;
use std::time::Duration;

use engine_api::container::TopResponse;
use http::Method;

use super::path;
use crate::client::{Payload, Query, lines, parse};
use crate::error::Error;
use crate::output::screen::redrawn;
use crate::output::table::Table;
use crate::session::Session;

/// Show the processes of a container
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Show them as a screen that is kept up to date, who uses most first unless there are options of ps
    #[arg(long)]
    live: bool,
    /// The container, and options of ps
    #[arg(value_name = "CONTAINER [PS_OPTIONS]", required = true, trailing_var_arg = true)]
    arguments: Vec<String>,
}

/// What a screen shows when nothing is asked for.
const LIVE: &str = "-eo pid,user,pcpu,pmem,rss,stat,time,args --sort=-pcpu";
/// Between two looks at a container of a daemon that answers but once.
const INTERVAL: Duration = Duration::from_secs(1);

pub(crate) async fn run(args: Args, session: &mut Session) -> Result<u8, Error> {
    let Some((container, options)) = args.arguments.split_first() else { return Ok(0) };
    let options = options.join(" ");
    if args.live {
        return live(container, if options.is_empty() { LIVE } else { &options }, session).await;
    }
    let query = if options.is_empty() { Query::new() } else { Query::new().with("ps_args", &options) };
    let answer: TopResponse = session.client()?.get_as(&path(container, "/top"), &query).await?;
    session.print(table(answer).wide().render(None))?;
    Ok(0)
}

/// Looks until the container has ended. This engine's daemon goes on by itself, another one is asked again.
async fn live(container: &str, options: &str, session: &mut Session) -> Result<u8, Error> {
    let (client, path) = (session.client()?, path(container, "/top"));
    let query = Query::new().with("ps_args", options).flag("stream", true);
    let screen = session.io.stdout.is_terminal();
    let mut seen = false;
    loop {
        let began = tokio::time::Instant::now();
        let response = match client.request(Method::GET, &path, &query, Payload::Empty).await {
            Err(Error::Daemon { status: 404 | 409 | 500, .. }) if seen => return Ok(0),
            response => response?,
        };
        lines::read(response.into_body(), "what the daemon tells of processes", |some| {
            for line in some {
                let text = table(parse(&path, line)?).render(session.width().filter(|_| screen));
                session.print(if screen { redrawn(&text, session) } else { text })?;
            }
            Ok(())
        })
        .await?;
        seen = true;
        tokio::time::sleep_until(began + INTERVAL).await;
    }
}

fn table(answer: TopResponse) -> Table {
    let mut table = Table::new(answer.titles);
    for process in answer.processes {
        table.row(process);
    }
    table
}
