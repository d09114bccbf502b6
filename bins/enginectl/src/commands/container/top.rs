//! `enginectl top`.

use engine_api::container::TopResponse;

use super::path;
use crate::client::Query;
use crate::error::Error;
use crate::output::table::Table;
use crate::session::Session;

/// Show the processes of a container
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The container, and options of ps
    #[arg(value_name = "CONTAINER [PS_OPTIONS]", required = true, trailing_var_arg = true)]
    arguments: Vec<String>,
}

pub(crate) async fn run(args: Args, session: &mut Session) -> Result<u8, Error> {
    let Some((container, options)) = args.arguments.split_first() else { return Ok(0) };
    let options = options.join(" ");
    let query = if options.is_empty() { Query::new() } else { Query::new().with("ps_args", &options) };
    let answer: TopResponse = session.client()?.get_as(&path(container, "/top"), &query).await?;
    let mut table = Table::new(answer.titles).wide();
    for process in answer.processes {
        table.row(process);
    }
    session.print(table.render(None))?;
    Ok(0)
}
