//! The options of the built-in drivers, by Docker's names. An option that nobody knows is refused, not forgotten.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::Error;
use super::record::GatewayMode;

const MTU: &str = "com.docker.network.driver.mtu";
const NAME: &str = "com.docker.network.bridge.name";
const MASQUERADE: &str = "com.docker.network.bridge.enable_ip_masquerade";
const INTER_CONTAINER: &str = "com.docker.network.bridge.enable_icc";
const HOST_BINDING: &str = "com.docker.network.bridge.host_binding_ipv4";
const HOST_BINDING_V6: &str = "com.docker.network.bridge.host_binding_ipv6";
const DEFAULT_BRIDGE: &str = "com.docker.network.bridge.default_bridge";
pub(super) const ENABLE_V4: &str = "com.docker.network.enable_ipv4";
pub(super) const ENABLE_V6: &str = "com.docker.network.enable_ipv6";
const GATEWAY_MODE: &str = "com.docker.network.bridge.gateway_mode_ipv4";
const GATEWAY_MODE_V6: &str = "com.docker.network.bridge.gateway_mode_ipv6";
const INHIBIT_V4: &str = "com.docker.network.bridge.inhibit_ipv4";
const INTERFACE_PREFIX: &str = "com.docker.network.container_iface_prefix";
const TRUSTED: &str = "com.docker.network.bridge.trusted_host_interfaces";
/// Of our own: what Docker has no word for. Each closes something that its users are used to, so none is on by itself.
const GUARD: &str = "engine.bridge.guard";
const HOST: &str = "engine.bridge.host";
const METADATA: &str = "engine.bridge.metadata";
/// The most interfaces that are trusted.
const MAX_TRUSTED: usize = 64;

/// What the options of a bridge say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BridgeOptions {
    pub(super) name: Option<String>,
    pub(super) mtu: Option<u32>,
    pub(super) inter_container: bool,
    pub(super) masquerade: bool,
    pub(super) host_binding: Option<IpAddr>,
    pub(super) interface_prefix: Option<String>,
    pub(super) gateway_mode: GatewayMode,
    pub(super) gateway_mode_v6: GatewayMode,
    pub(super) inhibit_v4: bool,
    pub(super) trusted: Vec<String>,
    pub(super) guarded: bool,
    pub(super) without_host: bool,
    pub(super) without_metadata: bool,
}

impl BridgeOptions {
    pub(super) fn read(options: &BTreeMap<String, String>) -> Result<Self, Error> {
        let mut read = Self {
            name: None,
            mtu: None,
            inter_container: true,
            masquerade: true,
            host_binding: None,
            interface_prefix: None,
            gateway_mode: GatewayMode::Nat,
            gateway_mode_v6: GatewayMode::Nat,
            inhibit_v4: false,
            trusted: Vec::new(),
            guarded: false,
            without_host: false,
            without_metadata: false,
        };
        for (option, value) in options {
            match option.as_str() {
                NAME if value.is_empty() => {}
                NAME => read.name = Some(interface_name(value)?),
                MTU => read.mtu = mtu(value)?,
                MASQUERADE => read.masquerade = truth(option, value)?,
                INTER_CONTAINER => read.inter_container = truth(option, value)?,
                HOST_BINDING | HOST_BINDING_V6 => {
                    let invalid = || Error::Refused(format!("invalid address {value:?} for option {option}"));
                    read.host_binding = Some(value.parse().map_err(|_| invalid())?);
                }
                INTERFACE_PREFIX => {
                    // A number follows.
                    let name = interface_name(value).ok().filter(|name| name.len() <= 12);
                    read.interface_prefix =
                        Some(name.ok_or_else(|| Error::Refused(format!("invalid value {value:?} for {option}")))?);
                }
                DEFAULT_BRIDGE if !truth(option, value)? => {}
                DEFAULT_BRIDGE => {
                    return Err(Error::Forbidden("only one default bridge network is allowed".to_owned()));
                }
                // Read where the network is made.
                ENABLE_V4 | ENABLE_V6 => drop(truth(option, value)?),
                GATEWAY_MODE => read.gateway_mode = gateway_mode(option, value)?,
                GATEWAY_MODE_V6 => read.gateway_mode_v6 = gateway_mode(option, value)?,
                INHIBIT_V4 => read.inhibit_v4 = truth(option, value)?,
                TRUSTED => read.trusted = interfaces(value)?,
                GUARD => read.guarded = truth(option, value)?,
                HOST => read.without_host = !truth(option, value)?,
                METADATA => read.without_metadata = !truth(option, value)?,
                _ => return Err(unknown("bridge", option)),
            }
        }
        Ok(read)
    }
}

/// What the options of macvlan and ipvlan say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DirectOptions {
    pub(super) parent: String,
    pub(super) mode: String,
    /// How those on one parent treat each other, where that is no mode (ipvlan).
    pub(super) flag: String,
    pub(super) mtu: Option<u32>,
}

impl DirectOptions {
    pub(super) fn read(driver: &str, options: &BTreeMap<String, String>) -> Result<Self, Error> {
        let (modes, default): (&[&str], _) = match driver {
            "macvlan" => (&["bridge", "private", "vepa", "passthru"], "bridge"),
            _ => (&["l2", "l3", "l3s"], "l2"),
        };
        let one_of = |what: &str, value: &String, all: &[&str]| {
            if all.contains(&value.as_str()) {
                return Ok(value.clone());
            }
            let value: String = value.chars().take(64).collect();
            Err(Error::Refused(format!("unknown {driver} {what} {value:?}: use one of {}", all.join(", "))))
        };
        let mut read = Self { parent: String::new(), mode: default.to_owned(), flag: String::new(), mtu: None };
        for (option, value) in options {
            match option.as_str() {
                "parent" if value.is_empty() => {}
                "parent" => read.parent = interface_name(value)?,
                MTU => read.mtu = mtu(value)?,
                "macvlan_mode" | "ipvlan_mode" if option.starts_with(driver) => {
                    read.mode = one_of("mode", value, modes)?;
                }
                "ipvlan_flag" if driver == "ipvlan" => {
                    read.flag = one_of("flag", value, &["bridge", "private", "vepa"])?;
                }
                _ => return Err(unknown(driver, option)),
            }
        }
        Ok(read)
    }
}

fn unknown(driver: &str, option: &str) -> Error {
    let option: String = option.chars().take(128).collect();
    Error::Refused(format!("the network driver {driver} has no option {option:?}"))
}

fn mtu(value: &str) -> Result<Option<u32>, Error> {
    let invalid = || Error::Refused(format!("invalid MTU {value:?}: expected 68 to 65535"));
    let number: u32 = value.parse().map_err(|_| invalid())?;
    match number {
        0 => Ok(None),
        68..=65535 => Ok(Some(number)),
        _ => Err(invalid()),
    }
}

fn gateway_mode(option: &str, value: &str) -> Result<GatewayMode, Error> {
    value.parse().map_err(|()| {
        let value: String = value.chars().take(64).collect();
        Error::Refused(format!(
            "unknown gateway mode {value:?} for {option}: use nat, nat-unprotected, routed or isolated"
        ))
    })
}

/// What Go takes for a truth value.
fn truth(option: &str, value: &str) -> Result<bool, Error> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(Error::Refused(format!("{option}: {value:?} is neither true nor false"))),
    }
}

/// Names of interfaces with colons between; Docker takes commas too.
fn interfaces(value: &str) -> Result<Vec<String>, Error> {
    let names = value.split([':', ',']).map(str::trim).filter(|name| !name.is_empty());
    let names = names.map(interface_name).collect::<Result<Vec<_>, _>>()?;
    if names.len() > MAX_TRUSTED {
        return Err(Error::Refused(format!("{TRUSTED}: more than {MAX_TRUSTED} interfaces")));
    }
    Ok(names)
}

/// A name that the kernel takes and no path or pattern can be made of.
pub(super) fn interface_name(name: &str) -> Result<String, Error> {
    let bad = |c: char| matches!(c, '/' | ':' | '%') || c.is_whitespace() || c.is_control();
    if name.is_empty() || name.len() > 15 || name.contains(bad) || [".", ".."].contains(&name) {
        return Err(Error::Refused(format!(
            "invalid interface name {name:?}: expected 1 to 15 bytes without / : or spaces"
        )));
    }
    Ok(name.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn map(options: &[(&str, &str)]) -> BTreeMap<String, String> {
        options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn docker_s_options_are_read() {
        let read =
            BridgeOptions::read(&map(&[(NAME, "br9"), (MTU, "1300"), (INTER_CONTAINER, "false"), (MASQUERADE, "0")]));
        let read = read.unwrap();
        assert_eq!((read.name.as_deref(), read.mtu), (Some("br9"), Some(1300)));
        assert!(!read.inter_container && !read.masquerade);
        assert_eq!(BridgeOptions::read(&map(&[(MTU, "0")])).unwrap().mtu, None);
        let read = BridgeOptions::read(&map(&[(TRUSTED, "vxlan.1:eth3")])).unwrap();
        assert_eq!(read.trusted, ["vxlan.1", "eth3"]);
        assert!(!read.guarded && !read.without_host && !read.without_metadata);
        let read = BridgeOptions::read(&map(&[(GUARD, "true"), (HOST, "false"), (METADATA, "0")])).unwrap();
        assert!(read.guarded && read.without_host && read.without_metadata);
        let direct = DirectOptions::read("macvlan", &map(&[("parent", "eth0.5"), ("macvlan_mode", "vepa")])).unwrap();
        assert_eq!((direct.parent.as_str(), direct.mode.as_str()), ("eth0.5", "vepa"));
        let direct = DirectOptions::read("ipvlan", &map(&[("ipvlan_flag", "private")])).unwrap();
        assert_eq!((direct.mode.as_str(), direct.flag.as_str()), ("l2", "private"));
    }

    #[test]
    fn nonsense_is_refused() {
        for (name, value) in [
            (NAME, "../x"),
            (NAME, "a-name-that-is-too-long"),
            (MTU, "10"),
            (MTU, "x"),
            (INTER_CONTAINER, "maybe"),
            (HOST_BINDING, "here"),
            (DEFAULT_BRIDGE, "true"),
            (GATEWAY_MODE, "bridged"),
            (TRUSTED, "eth0:a b"),
            (GUARD, "yes"),
            (HOST, ""),
            ("foo", "bar"),
        ] {
            assert!(BridgeOptions::read(&map(&[(name, value)])).is_err(), "{name}={value}");
        }
        for (name, value) in
            [("ipvlan_mode", "l2"), ("macvlan_mode", "l2"), ("parent", "a/b"), (NAME, "x"), ("ipvlan_flag", "vepa")]
        {
            assert!(DirectOptions::read("macvlan", &map(&[(name, value)])).is_err(), "{name}={value}");
        }
        assert!(DirectOptions::read("ipvlan", &map(&[("ipvlan_flag", "l2")])).is_err());
    }
}
