//! `enginectl port`.

use std::net::IpAddr;

use engine_api::container::ContainerInspect;

use super::path;
use crate::client::Query;
use crate::error::Error;
use crate::session::Session;

/// Show where the ports of a container are published
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name or id
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// Only this port
    #[arg(value_name = "PORT[/PROTOCOL]")]
    port: Option<String>,
}

pub(crate) async fn run(args: Args, session: &mut Session) -> Result<u8, Error> {
    let about: ContainerInspect = session.client()?.get_as(&path(&args.container, "/json"), &Query::new()).await?;
    let wanted = args.port.as_ref().map(|port| if port.contains('/') { port.clone() } else { format!("{port}/tcp") });
    let mut text = String::new();
    for (port, bindings) in &about.network_settings.ports {
        for binding in bindings.iter().flatten() {
            let address = match binding.host_ip.parse::<IpAddr>() {
                Ok(IpAddr::V6(address)) => format!("[{address}]:{}", binding.host_port),
                _ => format!("{}:{}", binding.host_ip, binding.host_port),
            };
            match &wanted {
                Some(wanted) if wanted == port => text.push_str(&format!("{address}\n")),
                Some(_) => {}
                None => text.push_str(&format!("{port} -> {address}\n")),
            }
        }
    }
    match wanted {
        Some(wanted) if text.is_empty() => {
            Err(Error::Invalid(format!("no public port '{wanted}' published for {}", args.container)))
        }
        _ => {
            session.print(text)?;
            Ok(0)
        }
    }
}
