//! `enginectl info`.

use engine_api::system::SystemInfo;

use super::version::own;
use crate::client::Query;
use crate::error::Error;
use crate::output::value::Value;
use crate::output::{format, size};
use crate::session::Session;

/// Show what the engine and its host are and have
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print by a template, or json
    #[arg(short = 'f', long, value_name = "FORMAT")]
    format: Option<String>,
}

pub(crate) async fn run(args: Args, session: &mut Session) -> Result<u8, Error> {
    if let Some(template) = args.format.as_deref().filter(|format| format.trim() != "json") {
        format::parse_object(template)?;
    }
    let answer = session.client()?.get_value("/info", &Query::new()).await;
    if let Some(format) = &args.format {
        let (value, unreachable) = match answer {
            Ok(value) => (value, None),
            // What the client is can be told in any case.
            Err(error @ Error::Unreachable { .. }) => (Value::Object(Vec::new()), Some(error)),
            Err(error) => return Err(error),
        };
        let shown = format::single(format, &with_client(value, session.debug()));
        // That the daemon is not there matters more than that the template wants it.
        return match (shown, unreachable) {
            (Ok(line), None) => session.print_line(line).map(|()| 0),
            (Ok(line), Some(error)) => session.print_line(line).and(Err(error)),
            (Err(_), Some(error)) | (Err(error), None) => Err(error),
        };
    }
    let about: SystemInfo = crate::client::parse("/info", answer?.compact().as_bytes())?;
    session.print(describe(&about))?;
    for warning in about.warnings.iter().flatten() {
        session.complain(warning);
    }
    Ok(0)
}

/// What the daemon says, and what the client is.
fn with_client(mut about: Value, debug: bool) -> Value {
    if let Value::Object(members) = &mut about {
        let mut own = own();
        own.insert(0, ("Debug".to_owned(), debug.into()));
        own.push(("Plugins".to_owned(), Value::Array(Vec::new())));
        own.push(("Warnings".to_owned(), Value::Null));
        members.push(("ClientInfo".to_owned(), Value::Object(own)));
    }
    about
}

fn describe(about: &SystemInfo) -> String {
    let mut out = format!("Client: enginectl\n Version:    {}\n\nServer:\n", env!("CARGO_PKG_VERSION"));
    let mut line = |indent: usize, name: &str, value: String| {
        if !value.is_empty() {
            out.push_str(&format!("{:indent$}{name}: {value}\n", ""));
        }
    };
    line(1, "Containers", about.containers.to_string());
    line(2, "Running", about.containers_running.to_string());
    line(2, "Paused", about.containers_paused.to_string());
    line(2, "Stopped", about.containers_stopped.to_string());
    line(1, "Images", about.images.to_string());
    line(1, "Server Version", about.server_version.clone());
    line(1, "Storage Driver", about.driver.clone());
    for [name, value] in &about.driver_status {
        line(2, name, value.clone());
    }
    line(1, "Logging Driver", about.logging_driver.clone());
    line(1, "Cgroup Driver", about.cgroup_driver.clone());
    line(1, "Cgroup Version", about.cgroup_version.clone());
    line(1, "Runtimes", about.runtimes.keys().cloned().collect::<Vec<_>>().join(" "));
    line(1, "Default Runtime", about.default_runtime.clone());
    if !about.security_options.is_empty() {
        let options = about.security_options.iter().map(|option| option.strip_prefix("name=").unwrap_or(option));
        line(1, "Security Options", options.collect::<Vec<_>>().join(" "));
    }
    line(1, "Kernel Version", about.kernel_version.clone());
    line(1, "Operating System", about.operating_system.clone());
    line(1, "OSType", about.os_type.clone());
    line(1, "Architecture", about.architecture.clone());
    line(1, "CPUs", about.ncpu.to_string());
    line(1, "Total Memory", size::binary(about.mem_total));
    line(1, "Name", about.name.clone());
    line(1, "ID", about.id.clone());
    line(1, "Root Dir", about.docker_root_dir.clone());
    line(1, "Debug Mode", about.debug.to_string());
    line(1, "Labels", about.labels.join(" "));
    line(1, "Live Restore Enabled", about.live_restore_enabled.to_string());
    out
}
