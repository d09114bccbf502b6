//! `enginectl completion`.

use crate::error::Error;
use crate::session::Session;

/// Print the script that completes commands and flags in a shell
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: clap_complete::Shell,
}

pub(crate) async fn run(args: Args, session: &mut Session) -> Result<u8, Error> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut crate::args::command(crate::args::Made::All), "enginectl", &mut script);
    session.print(script)?;
    Ok(0)
}
