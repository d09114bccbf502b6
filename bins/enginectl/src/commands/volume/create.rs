//! `enginectl volume create`.

use engine_api::volume::{Volume, VolumeCreate};

use crate::client::{Payload, Query, parse};
use crate::commands::container::words::some_map;
use crate::error::Error;
use crate::session::Session;

/// Create a volume
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The driver
    #[arg(short = 'd', long, value_name = "DRIVER", default_value = "local")]
    driver: String,
    /// Set a label
    #[arg(long, value_name = "KEY[=VALUE]")]
    label: Vec<String>,
    /// Set an option of the driver
    #[arg(short = 'o', long, value_name = "KEY=VALUE")]
    opt: Vec<String>,
    /// Its name
    #[arg(long = "name", id = "flag_name", value_name = "NAME", hide = true)]
    flag_name: Option<String>,
    /// Only clusters ask for it
    #[arg(long = "type", id = "kind", value_name = "TYPE", hide = true)]
    kind: Option<String>,
    /// Its name; without it, it gets one
    #[arg(value_name = "VOLUME")]
    name: Option<String>,
}

pub(crate) async fn run(args: Args, session: &mut Session) -> Result<u8, Error> {
    if args.kind.is_some() {
        return Err(Error::Flag(
            "enginectl: --type is a flag of docker that is for clusters, which this engine does not make".to_owned(),
        ));
    }
    let name = match (args.flag_name, args.name) {
        (Some(_), Some(_)) => {
            return Err(Error::Invalid(
                "conflicting options: cannot specify a volume-name through both --name and as a positional arg"
                    .to_owned(),
            ));
        }
        (flag, name) => flag.or(name).unwrap_or_default(),
    };
    let request =
        VolumeCreate { driver: args.driver, driver_opts: some_map(&args.opt), labels: some_map(&args.label), name };
    let answer = session.client()?.post("/volumes/create", &Query::new(), Payload::json(&request)?).await?;
    session.print_line(parse::<Volume>("/volumes/create", &answer)?.name)?;
    Ok(0)
}
