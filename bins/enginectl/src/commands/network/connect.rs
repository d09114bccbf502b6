//! `enginectl network connect`.

use engine_api::network::{EndpointIpamConfig, EndpointSettings, NetworkConnect};

use crate::client::{Payload, Query, segment};
use crate::commands::container::words::{some, some_map};
use crate::error::Error;
use crate::session::Session;

/// Connect a container to a network
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Add a name that it has on this network
    #[arg(long, value_name = "NAME")]
    alias: Vec<String>,
    /// Set an option of the driver
    #[arg(long, value_name = "KEY=VALUE")]
    driver_opt: Vec<String>,
    /// Of its networks the one with the highest priority leads elsewhere
    #[arg(long, value_name = "NUMBER", default_value = "0")]
    gw_priority: i64,
    /// Its IPv4 address
    #[arg(long, value_name = "ADDRESS")]
    ip: Option<String>,
    /// Its IPv6 address
    #[arg(long, value_name = "ADDRESS")]
    ip6: Option<String>,
    /// Give another container a name
    #[arg(long, value_name = "CONTAINER[:NAME]")]
    link: Vec<String>,
    /// Add an address of the link
    #[arg(long, value_name = "ADDRESS")]
    link_local_ip: Vec<String>,
    /// The network
    #[arg(value_name = "NETWORK")]
    network: String,
    /// The container
    #[arg(value_name = "CONTAINER")]
    container: String,
}

pub(crate) async fn run(args: Args, session: &mut Session) -> Result<u8, Error> {
    let addresses = EndpointIpamConfig {
        ipv4_address: args.ip.unwrap_or_default(),
        ipv6_address: args.ip6.unwrap_or_default(),
        link_local_ips: args.link_local_ip,
    };
    let endpoint = EndpointSettings {
        ipam_config: Some(addresses),
        links: some(&args.link),
        aliases: some(&args.alias),
        driver_opts: some_map(&args.driver_opt),
        gw_priority: args.gw_priority,
        ..EndpointSettings::default()
    };
    let request = NetworkConnect { container: args.container, endpoint_config: Some(endpoint) };
    let path = format!("/networks/{}/connect", segment(&args.network));
    session.client()?.post(&path, &Query::new(), Payload::json(&request)?).await?;
    Ok(0)
}
