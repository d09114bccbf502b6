//! Where a registry is.

use std::net::IpAddr;

use http::Uri;

use super::Error;
use crate::settings::RegistrySettings;

/// One place that may have an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Scheme, host and port, and the path before `/v2`, without a `/` at the end.
    pub(super) base: String,
    /// The host and port.
    pub(super) host: String,
    /// Whether it may be spoken to without a checked certificate, or without TLS at all.
    pub(super) insecure: bool,
    /// Whether it stands in for the registry that was named.
    pub(super) mirror: bool,
}

const HUB: &str = "docker.io";
const HUB_HOST: &str = "registry-1.docker.io";

impl Endpoint {
    /// The address, for messages.
    pub fn address(&self) -> &str {
        &self.base
    }

    /// Whether it stands in for the registry that was named: credentials are not for it, and when it fails the next
    /// one is asked.
    pub fn is_mirror(&self) -> bool {
        self.mirror
    }

    pub(super) fn is_plain(&self) -> bool {
        self.base.starts_with("http://")
    }
}

pub(super) fn of(settings: &RegistrySettings, registry: &str) -> Vec<Endpoint> {
    let mut endpoints = Vec::new();
    for mirror in &settings.mirrors {
        let Ok((of, base)) = parse_mirror(mirror) else { continue };
        if of == registry {
            let host = base.split_once("://").map_or("", |(_, rest)| rest.split('/').next().unwrap_or_default());
            let insecure = base.starts_with("http://") || is_insecure(settings, host);
            endpoints.push(Endpoint { base: base.to_owned(), host: host.to_owned(), insecure, mirror: true });
        }
    }
    let host = if registry == HUB { HUB_HOST } else { registry };
    let insecure = registry != HUB && is_insecure(settings, host);
    let make =
        |scheme: &str| Endpoint { base: format!("{scheme}://{host}"), host: host.to_owned(), insecure, mirror: false };
    if insecure {
        // A registry without TLS is what these are as a rule; one with TLS says so to who speaks plainly.
        endpoints.push(make("http"));
    }
    endpoints.push(make("https"));
    endpoints
}

/// The registry that a mirror is for, and its address: `https://mirror` for Docker Hub, `registry.example=https://mirror` else.
pub(super) fn parse_mirror(text: &str) -> Result<(&str, &str), Error> {
    let refuse = |reason: &str| Error::Setting { value: text.to_owned(), reason: reason.to_owned() };
    let (registry, address) = match text.split_once('=') {
        Some((registry, address)) if !registry.contains('/') => (registry, address),
        _ => (HUB, text),
    };
    let address = address.trim_end_matches('/');
    let uri: Uri = address.parse().map_err(|_| refuse("a mirror is an address such as https://mirror.example"))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none_or(str::is_empty) {
        return Err(refuse("a mirror is an address that begins with http:// or https://"));
    }
    if uri.query().is_some() || uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err(refuse("a mirror has no query and no user"));
    }
    Ok((registry, address))
}

/// Whether a host, with its port, is local or among those that may be spoken to without a checked certificate.
pub(super) fn is_insecure(settings: &RegistrySettings, host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    let address: Option<IpAddr> = name.parse().ok();
    if name == "localhost" || address.is_some_and(|address| address.is_loopback()) {
        return true;
    }
    settings.insecure.iter().any(|entry| match entry.split_once('/') {
        Some((base, length)) => address.is_some_and(|address| is_within(address, base, length)),
        None => entry == host || entry == name,
    })
}

pub(super) fn is_within(address: IpAddr, base: &str, length: &str) -> bool {
    let (Ok(base), Ok(length)) = (base.parse::<IpAddr>(), length.parse::<u32>()) else { return false };
    match (address, base) {
        (IpAddr::V4(address), IpAddr::V4(base)) if length <= 32 => {
            let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0);
            address.to_bits() & mask == base.to_bits() & mask
        }
        (IpAddr::V6(address), IpAddr::V6(base)) if length <= 128 => {
            let mask = u128::MAX.checked_shl(128 - length).unwrap_or(0);
            address.to_bits() & mask == base.to_bits() & mask
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn addresses(settings: &RegistrySettings, registry: &str) -> Vec<String> {
        of(settings, registry).into_iter().map(|endpoint| endpoint.base).collect()
    }

    #[test]
    fn mirrors_come_first_and_tls_is_dropped_for_nobody_else() {
        let settings = RegistrySettings::default()
            .mirror("http://mirror:5000/")
            .mirror("registry.example=https://other/path")
            .insecure("10.0.0.0/8")
            .insecure("lab:5000");
        assert_eq!(addresses(&settings, "docker.io"), ["http://mirror:5000", "https://registry-1.docker.io"]);
        assert_eq!(addresses(&settings, "registry.example"), ["https://other/path", "https://registry.example"]);
        assert_eq!(addresses(&settings, "example.org"), ["https://example.org"]);
        for insecure in
            ["localhost", "localhost:5000", "127.0.0.1:1", "127.9.9.9", "[::1]:5", "10.1.2.3:80", "lab:5000"]
        {
            assert_eq!(addresses(&settings, insecure)[0], format!("http://{insecure}"));
        }
        for secure in
            ["11.1.2.3", "lab", "lab:5001", "localhost.example.org", "127.0.0.1.example.org", "[2001:db8::1]:5"]
        {
            assert_eq!(addresses(&settings, secure), [format!("https://{secure}")]);
        }
    }

    #[test]
    fn a_mirror_that_is_no_address_is_refused() {
        for wrong in ["mirror", "ftp://x", "file:///etc", "https://", "https://u:p@x", "https://x?y", ""] {
            assert!(parse_mirror(wrong).is_err(), "{wrong}");
        }
    }
}
