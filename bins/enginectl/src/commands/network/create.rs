//! `enginectl network create`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use engine_api::network::{ConfigReference, Ipam, IpamConfig, NetworkCreate, NetworkCreateResponse};

use crate::client::{Payload, Query, parse};
use crate::commands::container::words::some_map;
use crate::error::Error;
use crate::session::Session;

/// Create a network
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Args {
    /// Let containers be connected by hand
    #[arg(long)]
    attachable: bool,
    /// An address that somebody else has, as NAME=ADDRESS
    #[arg(long, value_name = "NAME=ADDRESS")]
    aux_address: Vec<String>,
    /// The configuration that the network is made of
    #[arg(long, value_name = "NETWORK")]
    config_from: Option<String>,
    /// Make no network, but a configuration that others are made of
    #[arg(long)]
    config_only: bool,
    /// The driver
    #[arg(short = 'd', long, value_name = "DRIVER", default_value = "bridge")]
    driver: String,
    /// The address by which containers leave
    #[arg(long, value_name = "ADDRESS")]
    gateway: Vec<String>,
    /// Let nothing out and nothing in
    #[arg(long)]
    internal: bool,
    /// The part of the subnet that containers are given addresses of
    #[arg(long, value_name = "BLOCK")]
    ip_range: Vec<String>,
    /// The driver of the addresses
    #[arg(long, value_name = "DRIVER", default_value = "default")]
    ipam_driver: String,
    /// Set an option of the driver of the addresses
    #[arg(long, value_name = "KEY=VALUE")]
    ipam_opt: Vec<String>,
    /// Give containers IPv4 addresses
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    ipv4: Option<bool>,
    /// Give containers IPv6 addresses
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    ipv6: Option<bool>,
    /// Set a label
    #[arg(long, value_name = "KEY[=VALUE]")]
    label: Vec<String>,
    /// Set an option of the driver
    #[arg(short = 'o', long, value_name = "KEY=VALUE")]
    opt: Vec<String>,
    /// A block of addresses, as 10.9.0.0/24
    #[arg(long, value_name = "BLOCK")]
    subnet: Vec<String>,
    /// Its name
    #[arg(value_name = "NETWORK")]
    name: String,
}

pub(crate) async fn run(args: Args, session: &mut Session) -> Result<u8, Error> {
    let request = request(&args).map_err(Error::Invalid)?;
    let answer = session.client()?.post("/networks/create", &Query::new(), Payload::json(&request)?).await?;
    let made: NetworkCreateResponse = parse("/networks/create", &answer)?;
    if !made.warning.is_empty() {
        session.complain(format!("WARNING: {}", made.warning));
    }
    session.print_line(made.id)?;
    Ok(0)
}

fn request(args: &Args) -> Result<NetworkCreate, String> {
    Ok(NetworkCreate {
        name: args.name.clone(),
        driver: args.driver.clone(),
        enable_ipv4: args.ipv4,
        enable_ipv6: args.ipv6,
        ipam: Some(Ipam {
            driver: args.ipam_driver.clone(),
            options: some_map(&args.ipam_opt),
            config: Some(blocks(args)?),
        }),
        config_only: args.config_only,
        config_from: args.config_from.clone().map(|network| ConfigReference { network }),
        internal: args.internal,
        attachable: args.attachable,
        options: some_map(&args.opt),
        labels: some_map(&args.label),
        ..NetworkCreate::default()
    })
}

/// The blocks of addresses, each with the range, the gateway and the addresses that are in it.
fn blocks(args: &Args) -> Result<Vec<IpamConfig>, String> {
    if args.subnet.len() < args.ip_range.len() || args.subnet.len() < args.gateway.len() {
        return Err("every ip-range or gateway must have a corresponding subnet".to_owned());
    }
    let mut blocks: Vec<IpamConfig> =
        args.subnet.iter().map(|subnet| IpamConfig { subnet: subnet.clone(), ..IpamConfig::default() }).collect();
    for range in &args.ip_range {
        let block = block_of(&mut blocks, range).ok_or_else(|| format!("no matching subnet for range {range}"))?;
        if !block.ip_range.is_empty() {
            return Err(format!("cannot configure multiple ranges ({range}, {}) on the same subnet", block.ip_range));
        }
        block.ip_range.clone_from(range);
    }
    for gateway in &args.gateway {
        let block =
            block_of(&mut blocks, gateway).ok_or_else(|| format!("no matching subnet for gateway {gateway}"))?;
        if !block.gateway.is_empty() {
            return Err(format!(
                "cannot configure multiple gateways ({gateway}, {}) for the same subnet",
                block.gateway
            ));
        }
        block.gateway.clone_from(gateway);
    }
    let auxiliary: BTreeMap<String, String> = some_map(&args.aux_address).unwrap_or_default();
    for (name, address) in auxiliary {
        let block =
            block_of(&mut blocks, &address).ok_or_else(|| format!("no matching subnet for aux-address {address}"))?;
        block.auxiliary_addresses.insert(name, address);
    }
    Ok(blocks)
}

/// The block that an address is in; one that says no address is somebody else's to refuse.
fn block_of<'a>(blocks: &'a mut [IpamConfig], address: &str) -> Option<&'a mut IpamConfig> {
    let address: IpAddr = address.split('/').next()?.parse().ok()?;
    blocks.iter_mut().find(|block| contains(&block.subnet, address))
}

fn contains(block: &str, address: IpAddr) -> bool {
    let Some((first, length)) = block.split_once('/') else { return false };
    let (Ok(first), Ok(length)) = (first.parse::<IpAddr>(), length.parse::<u32>()) else { return false };
    let bits = |address: IpAddr| match address {
        IpAddr::V4(address) => (u128::from(u32::from(address)) << 96, 32),
        IpAddr::V6(address) => (address.into(), 128),
    };
    let ((first, width), (address, other)) = (bits(first), bits(address));
    width == other && length <= width && (length == 0 || (first ^ address) >> (128 - length) == 0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn what_belongs_to_a_block_is_put_there() {
        let args = Args {
            subnet: words(&["10.9.0.0/24", "fd00::/64"]),
            ip_range: words(&["10.9.0.128/25"]),
            gateway: words(&["fd00::9", "10.9.0.9"]),
            aux_address: words(&["a=10.9.0.5", "b=fd00::5"]),
            ..Args::default()
        };
        let blocks = blocks(&args).unwrap();
        assert_eq!((blocks[0].ip_range.as_str(), blocks[0].gateway.as_str()), ("10.9.0.128/25", "10.9.0.9"));
        assert_eq!((blocks[1].gateway.as_str(), blocks[1].auxiliary_addresses["b"].as_str()), ("fd00::9", "fd00::5"));
    }

    #[test]
    fn what_belongs_to_none_is_refused() {
        let refused = |args: Args| blocks(&args).unwrap_err();
        let one = || words(&["10.9.0.0/24"]);
        assert!(refused(Args { gateway: words(&["10.9.0.1"]), ..Args::default() }).contains("corresponding subnet"));
        let far = Args { subnet: one(), gateway: words(&["10.8.0.1"]), ..Args::default() };
        assert_eq!(refused(far), "no matching subnet for gateway 10.8.0.1");
        let far = Args { subnet: one(), aux_address: words(&["a=10.8.0.1"]), ..Args::default() };
        assert!(refused(far).contains("no matching subnet"));
    }
}
