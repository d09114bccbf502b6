//! `enginectl version`.

use engine_api::system::VersionInfo;

use crate::client::Query;
use crate::error::Error;
use crate::output::format;
use crate::output::value::Value;
use crate::session::Session;

/// Show the versions of the client and of the engine
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print by a template, or json
    #[arg(short = 'f', long, value_name = "FORMAT")]
    format: Option<String>,
}

pub(crate) async fn run(args: Args, session: &mut Session) -> Result<u8, Error> {
    let client = session.client()?;
    if let Some(template) = args.format.as_deref().filter(|format| format.trim() != "json") {
        format::parse_object(template)?;
    }
    let server = client.get("/version", &Query::new()).await;
    match &args.format {
        Some(format) => {
            let mut own = own();
            own.insert(1, ("ApiVersion".to_owned(), Value::from(client.version().to_string())));
            let about = match &server {
                Ok(about) => Value::parse(about)
                    .map_err(|error| Error::Protocol(format!("the answer of /version is not understood: {error}")))?,
                Err(_) => Value::Null,
            };
            let both = Value::Object(vec![("Client".to_owned(), Value::Object(own)), ("Server".to_owned(), about)]);
            let shown = format::single(format, &both);
            // That the daemon is not there matters more than that the template wants it.
            session.print_line(match (shown, server) {
                (Err(_), Err(error)) => return Err(error),
                (shown, _) => shown?,
            })?;
        }
        None => {
            let mut out = "Client: enginectl\n".to_owned();
            let mut line = |name: &str, value: &str| {
                if !value.is_empty() {
                    out.push_str(&format!(" {:<18}{value}\n", format!("{name}:")));
                }
            };
            line("Version", env!("CARGO_PKG_VERSION"));
            line("API version", &client.version().to_string());
            line("OS/Arch", &format!("{}/{}", std::env::consts::OS, architecture()));
            session.print(&out)?;
            let about: VersionInfo = crate::client::parse("/version", &server?)?;
            let name = if about.platform.name.is_empty() { "Engine" } else { &about.platform.name };
            let mut out = format!("\nServer: {name}\n");
            let mut line = |name: &str, value: &str| {
                if !value.is_empty() {
                    out.push_str(&format!(" {:<18}{value}\n", format!("{name}:")));
                }
            };
            line("Version", &about.version);
            let minimum = if about.min_api_version.is_empty() {
                String::new()
            } else {
                format!(" (minimum version {})", about.min_api_version)
            };
            line("API version", &format!("{}{minimum}", about.api_version));
            line("Git commit", &about.git_commit);
            line("Built", &about.build_time);
            line("OS/Arch", &format!("{}/{}", about.os, about.arch));
            line("Kernel", &about.kernel_version);
            session.print(&out)?;
        }
    }
    Ok(0)
}

/// What the client is, with Docker's names for it. It is made by no compiler of Go, and from no commit in particular.
pub(crate) fn own() -> Vec<(String, Value)> {
    let newest = engine_api::version::MAX.to_string();
    let all = [
        ("Version", env!("CARGO_PKG_VERSION")),
        ("DefaultAPIVersion", &newest),
        ("GitCommit", ""),
        ("GoVersion", ""),
        ("Os", std::env::consts::OS),
        ("Arch", architecture()),
        ("BuildTime", ""),
        ("Context", "default"),
    ];
    all.into_iter().map(|(name, value)| (name.to_owned(), Value::from(value))).collect()
}

/// The machine in Go's words.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
