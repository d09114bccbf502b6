//! `enginectl inspect`: the JSON of any object, or a template over it.

use crate::client::{Client, Query, segment};
use crate::error::Error;
use crate::output::format;
use crate::output::value::Value;
use crate::session::Session;

/// Show everything about containers, images, networks or volumes
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print by a template, or json
    #[arg(short = 'f', long, value_name = "FORMAT")]
    format: Option<String>,
    /// Add the sizes of containers
    #[arg(short = 's', long)]
    size: bool,
    /// Only objects of this type: container, image, network or volume
    #[arg(long = "type", id = "kind", value_name = "TYPE")]
    kind: Option<String>,
    /// Names or ids
    #[arg(value_name = "NAME|ID", required = true)]
    names: Vec<String>,
}

/// A kind of object that can be inspected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Container,
    Image,
    Network,
    Volume,
}

impl Kind {
    async fn get(self, client: &Client, name: &str, query: &Query) -> Result<Value, Error> {
        let name = segment(name);
        let path = match self {
            Self::Container => format!("/containers/{name}/json"),
            Self::Image => format!("/images/{name}/json"),
            Self::Network => format!("/networks/{name}"),
            Self::Volume => format!("/volumes/{name}"),
        };
        client.get_value(&path, query).await
    }
}

pub(crate) async fn run(args: Args, session: &mut Session) -> Result<u8, Error> {
    let kinds: &[Kind] = match args.kind.as_deref() {
        None | Some("") => &[Kind::Container, Kind::Image, Kind::Network, Kind::Volume],
        Some("container") => &[Kind::Container],
        Some("image") => &[Kind::Image],
        Some("network") => &[Kind::Network],
        Some("volume") => &[Kind::Volume],
        Some(other) => {
            return Err(Error::Invalid(format!(
                "unknown type: {other:?}: must be one of \"container\", \"image\", \"network\", \"volume\""
            )));
        }
    };
    show(session, &args.names, args.format.as_deref(), kinds, &Query::new().flag("size", args.size)).await
}

/// Prints the objects of these names: a JSON list, or the template for each. What was found is printed even if
/// something was not. What else is asked is understood by the kinds that it is for.
pub(crate) async fn show(
    session: &mut Session,
    names: &[String],
    format: Option<&str>,
    kinds: &[Kind],
    query: &Query,
) -> Result<u8, Error> {
    let client = session.client()?;
    // A template that is wrong is wrong whatever is found.
    if let Some(template) = format.filter(|format| format.trim() != "json") {
        format::parse_object(template)?;
    }
    let mut found = Vec::new();
    let mut failures = Vec::new();
    for name in names {
        match one(&client, name, kinds, query).await {
            Ok(value) => found.push(value),
            Err(error @ Error::Unreachable { .. }) => return Err(error),
            Err(error) => failures.push(error),
        }
    }
    let text = match format {
        None => Value::Array(found).pretty(4) + "\n",
        Some(format) if format.trim() == "json" => Value::Array(found).compact() + "\n",
        Some(format) => {
            let mut text = String::new();
            for value in &found {
                match format::single(format, value) {
                    Ok(line) => text.push_str(&(line + "\n")),
                    Err(error) => {
                        text.push('\n');
                        failures.push(error);
                    }
                }
            }
            text
        }
    };
    session.print(text)?;
    for failure in &failures {
        session.complain(failure);
    }
    Ok(u8::from(!failures.is_empty()))
}

async fn one(client: &Client, name: &str, kinds: &[Kind], query: &Query) -> Result<Value, Error> {
    let mut last = None;
    for kind in kinds {
        match kind.get(client, name, query).await {
            Err(error) if error.is_not_found() => last = Some(error),
            // An engine without this kind of object does not have this one.
            Err(Error::Daemon { status: 501, .. }) if kinds.len() > 1 => {}
            result => return result,
        }
    }
    match last {
        Some(error) if kinds.len() == 1 => Err(error),
        _ => Err(Error::Invalid(format!("Error: No such object: {name}"))),
    }
}
