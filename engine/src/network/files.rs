//! The three files by which a container knows names: `hosts`, `resolv.conf` and `hostname`. All pure: the host's own
//! files are given as text.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr};

use crate::settings::DnsSettings;

/// Where a host says how names are looked up.
pub const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Where systemd-resolved lists the servers that it asks itself.
const RESOLV_CONF_OF_SYSTEMD: &str = "/run/systemd/resolve/resolv.conf";
/// Asked when nothing else is known, as Docker does.
pub(super) const PUBLIC_SERVERS: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(8, 8, 8, 8)), IpAddr::V4(Ipv4Addr::new(8, 8, 4, 4))];
/// Stands for the host in an extra line of `hosts`.
const HOST_GATEWAY: &str = "host-gateway";

/// The lines that every container's `hosts` begins with.
const LOCAL_LINES: &str = "127.0.0.1\tlocalhost\n\
    ::1\tlocalhost ip6-localhost ip6-loopback\n\
    fe00::\tip6-localnet\n\
    ff00::\tip6-mcastprefix\n\
    ff02::1\tip6-allnodes\n\
    ff02::2\tip6-allrouters\n";

/// The content of `/etc/hostname`.
pub fn hostname(name: &str) -> String {
    format!("{name}\n")
}

/// The content of `/etc/hosts` of a container with a network of its own: the usual lines, the extra ones, and its own
/// name at each of its addresses.
pub fn hosts(hostname: &str, domain: &str, addresses: &[IpAddr], extra: &[ExtraHost]) -> String {
    let mut text = LOCAL_LINES.to_owned();
    append(&mut text, extra);
    for address in addresses {
        text.push_str(&own_line(hostname, domain, *address));
    }
    text
}

fn own_line(hostname: &str, domain: &str, address: IpAddr) -> String {
    match domain {
        "" => format!("{address}\t{hostname}\n"),
        domain => format!("{address}\t{hostname}.{domain} {hostname}\n"),
    }
}

/// The content of `hosts` after its container got and lost addresses: the lines of its own name are changed, all others
/// stay as the container may have changed them itself.
pub fn hosts_with(text: &str, hostname: &str, domain: &str, gone: &[IpAddr], come: &[IpAddr]) -> String {
    let gone: Vec<String> = gone.iter().map(|address| own_line(hostname, domain, *address)).collect();
    let mut changed: String = text.split_inclusive('\n').filter(|line| !gone.iter().any(|one| one == line)).collect();
    if !changed.is_empty() && !changed.ends_with('\n') {
        changed.push('\n');
    }
    for address in come {
        let line = own_line(hostname, domain, *address);
        if !changed.split_inclusive('\n').any(|other| other == line) {
            changed.push_str(&line);
        }
    }
    changed
}

/// The content of `/etc/hosts` of a container on the host's network: the host's, and the extra lines.
pub fn hosts_of_host(host: &str, extra: &[ExtraHost]) -> String {
    let mut text = host.to_owned();
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    append(&mut text, extra);
    text
}

fn append(text: &mut String, extra: &[ExtraHost]) {
    for ExtraHost { name, address } in extra {
        let _ = writeln!(text, "{address}\t{name}");
    }
}

/// One more line of `hosts`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtraHost {
    /// The name.
    pub name: String,
    /// What it stands for.
    pub address: IpAddr,
}

/// A text is no extra line of `hosts`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidHost {
    /// It has not both a name and an address.
    #[error("bad format for add-host: {0:?}")]
    Format(String),
    /// The address is none.
    #[error("invalid IP address in add-host: {0:?}")]
    Address(String),
    /// `host-gateway` stands for nothing here.
    #[error("unable to derive the IP value for host-gateway")]
    NoGateway,
}

impl ExtraHost {
    /// Reads `name:address` or `name=address`; the address may be `host-gateway`, which stands for each of `gateways`.
    ///
    /// # Errors
    /// When it is neither, or there is no gateway.
    pub fn parse(text: &str, gateways: &[IpAddr]) -> Result<Vec<Self>, InvalidHost> {
        let short = |text: &str| text.chars().take(256).collect::<String>();
        let parts = text.split_once('=').or_else(|| text.split_once(':'));
        let (name, address) = parts.ok_or_else(|| InvalidHost::Format(short(text)))?;
        if !is_word(name) {
            return Err(InvalidHost::Format(short(text)));
        }
        let addresses = match address {
            HOST_GATEWAY if gateways.is_empty() => return Err(InvalidHost::NoGateway),
            HOST_GATEWAY => gateways.to_vec(),
            other => {
                let bare = other.strip_prefix('[').and_then(|bare| bare.strip_suffix(']')).unwrap_or(other);
                vec![bare.parse().map_err(|_| InvalidHost::Address(short(other)))?]
            }
        };
        Ok(addresses.into_iter().map(|address| Self { name: name.to_owned(), address }).collect())
    }
}

/// Where the engine's own resolver listens in each container that is on a network with names.
pub const RESOLVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

/// Who looks names up for a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// The servers of the host, from the host's network.
    OfHost,
    /// The servers of the host, from a network of its own, which may have IPv6.
    Copied {
        /// Servers of that family can be reached.
        ipv6: bool,
    },
    /// The engine's own resolver.
    Resolved,
}

/// The servers that a host's `resolv.conf` names.
pub fn servers(content: &str) -> Vec<IpAddr> {
    let named = lines(content).filter(|(keyword, _)| *keyword == "nameserver");
    named.filter_map(|(_, rest)| rest.split_whitespace().next()?.parse().ok()).collect()
}

/// The file that says how names are looked up on a host whose [`RESOLV_CONF`] has this content: systemd-resolved
/// puts only itself there, at an address that means something else in a container.
pub fn resolv_conf_path(content: &str) -> &'static str {
    let mut servers = lines(content).filter(|(keyword, _)| *keyword == "nameserver").map(|(_, rest)| rest.trim());
    let only_itself = servers.next() == Some("127.0.0.53") && servers.next().is_none();
    if only_itself { RESOLV_CONF_OF_SYSTEMD } else { RESOLV_CONF }
}

/// The content of `resolv.conf` of a container: that of the host, unless `asked` says otherwise.
///
/// A container with a network of its own cannot reach servers on the host's loopback, and without `ipv6` none of that
/// family, so those of the host that it cannot reach are left out; when none remains, public ones are asked.
pub fn resolv_conf(host: &str, asked: &DnsSettings, names: Names) -> String {
    let own_network = names != Names::OfHost;
    let (mut servers, mut search, mut options, mut others) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (keyword, rest) in lines(host) {
        let words = || rest.split_whitespace().map(str::to_owned);
        match keyword {
            "nameserver" => servers.extend(words().next()),
            // The last one counts, of either.
            "search" | "domain" => search = words().collect(),
            "options" => options.extend(words()),
            _ => others.push(format!("{keyword} {}", rest.trim())),
        }
    }
    if own_network {
        servers.retain(|server| {
            server.parse::<IpAddr>().is_ok_and(|address| {
                !address.is_loopback() && (address.is_ipv4() || names == Names::Copied { ipv6: true })
            })
        });
        if servers.is_empty() {
            servers = PUBLIC_SERVERS.map(|address| address.to_string()).into();
        }
    }
    if !asked.servers.is_empty() {
        servers = asked.servers.iter().map(IpAddr::to_string).collect();
    }
    if names == Names::Resolved {
        servers = vec![RESOLVER.to_string()];
    }
    let words = |words: &[String]| words.iter().filter(|word| is_word(word)).cloned().collect::<Vec<_>>();
    if !asked.search.is_empty() {
        // A single dot asks for no search domain at all.
        search = words(&asked.search);
        search.retain(|domain| domain != ".");
    }
    if !asked.options.is_empty() {
        options = words(&asked.options);
    }
    if names == Names::Resolved && !options.iter().any(|option| option.starts_with("ndots:")) {
        // Names of containers have no dots, and what is asked for is asked as it is.
        options.push("ndots:0".to_owned());
    }
    let mut text = String::new();
    for server in servers {
        let _ = writeln!(text, "nameserver {server}");
    }
    for (keyword, words) in [("search", search), ("options", options)] {
        if !words.is_empty() {
            let _ = writeln!(text, "{keyword} {}", words.join(" "));
        }
    }
    for other in others {
        let _ = writeln!(text, "{other}");
    }
    text
}

/// Keyword and rest of each line that is no comment.
fn lines(content: &str) -> impl Iterator<Item = (&str, &str)> {
    content.lines().filter_map(|line| {
        let line = line.trim_start();
        if line.starts_with(['#', ';']) {
            return None;
        }
        line.split_once(char::is_whitespace)
    })
}

/// One word cannot bring a line of its own.
fn is_word(text: &str) -> bool {
    !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c.is_control())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn dns(servers: &[&str], search: &[&str], options: &[&str]) -> DnsSettings {
        let own = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
        DnsSettings {
            servers: servers.iter().map(|server| server.parse().unwrap()).collect(),
            search: own(search),
            options: own(options),
        }
    }

    #[test]
    fn hosts_has_the_usual_lines_then_the_extra_ones_then_itself() {
        let extra = ExtraHost::parse("db:10.0.0.5", &[]).unwrap();
        let text = hosts("web", "", &["172.17.0.2".parse().unwrap()], &extra);
        let expected = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\n\
            ff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n10.0.0.5\tdb\n172.17.0.2\tweb\n";
        assert_eq!(text, expected);
        let text = hosts("web", "example.org", &["172.17.0.2".parse().unwrap()], &[]);
        assert!(text.ends_with("\n172.17.0.2\tweb.example.org web\n"));
        assert_eq!(hosts_of_host("1.2.3.4 here", &extra), "1.2.3.4 here\n10.0.0.5\tdb\n");
        assert_eq!(hostname("web"), "web\n");
    }

    #[test]
    fn addresses_come_and_go_and_other_lines_stay() {
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let text = format!("{}9.9.9.9\tmine", hosts("web", "", &[address("10.0.0.2")], &[]));
        let changed = hosts_with(&text, "web", "", &[address("10.0.0.2")], &[address("10.1.0.2"), address("fd00::2")]);
        assert!(changed.ends_with("9.9.9.9\tmine\n10.1.0.2\tweb\nfd00::2\tweb\n"), "{changed}");
        assert!(!changed.contains("10.0.0.2"));
        assert_eq!(hosts_with(&changed, "web", "", &[], &[address("fd00::2")]), changed);
    }

    #[test]
    fn the_resolver_is_the_only_server() {
        let host = "nameserver 10.0.0.2\nsearch example.org\noptions edns0\n";
        let text = resolv_conf(host, &DnsSettings::default(), Names::Resolved);
        assert_eq!(text, "nameserver 127.0.0.11\nsearch example.org\noptions edns0 ndots:0\n");
        let asked = resolv_conf(host, &dns(&["1.1.1.1"], &[], &["ndots:2"]), Names::Resolved);
        assert_eq!(asked, "nameserver 127.0.0.11\nsearch example.org\noptions ndots:2\n");
        assert_eq!(servers("nameserver 1.2.3.4\nnameserver ::1 # x\nnameserver nobody\n").len(), 2);
    }

    #[test]
    fn extra_hosts_are_names_and_addresses() {
        let gateways: [IpAddr; 2] = ["172.17.0.1".parse().unwrap(), "fd00::1".parse().unwrap()];
        let parse = |text| {
            let mut hosts = ExtraHost::parse(text, &gateways[..1])?;
            Ok::<_, InvalidHost>(hosts.pop().map(|host| (host.name, host.address.to_string())).unwrap())
        };
        assert_eq!(parse("a:1.2.3.4").unwrap(), ("a".into(), "1.2.3.4".into()));
        assert_eq!(parse("a:::1").unwrap(), ("a".into(), "::1".into()));
        assert_eq!(parse("a=[::1]").unwrap(), ("a".into(), "::1".into()));
        assert_eq!(parse("host:host-gateway").unwrap(), ("host".into(), "172.17.0.1".into()));
        let both = ExtraHost::parse("host:host-gateway", &gateways).unwrap();
        assert_eq!(both.iter().map(|host| host.address).collect::<Vec<_>>(), gateways);
        assert_eq!(ExtraHost::parse("h:host-gateway", &[]), Err(InvalidHost::NoGateway));
        assert_eq!(parse("a").unwrap_err().to_string(), "bad format for add-host: \"a\"");
        assert_eq!(parse("a:b").unwrap_err().to_string(), "invalid IP address in add-host: \"b\"");
        for wrong in [":1.2.3.4", "a\nb:1.2.3.4", "a b:1.2.3.4", "a:1.2.3.4\n"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn servers_out_of_reach_are_left_out() {
        let host = "# made by hand\nnameserver 127.0.0.1\nnameserver 10.0.0.2\n nameserver ::1\nnameserver fe80::1%eth0\n\
            domain old.example\nsearch a.example b.example\noptions edns0 trust-ad\nsortlist 10.0.0.0/8\n";
        let expected = "nameserver 10.0.0.2\nsearch a.example b.example\noptions edns0 trust-ad\nsortlist 10.0.0.0/8\n";
        assert_eq!(resolv_conf(host, &DnsSettings::default(), Names::Copied { ipv6: false }), expected);
        let whole = resolv_conf(host, &DnsSettings::default(), Names::OfHost);
        assert!(whole.starts_with("nameserver 127.0.0.1\nnameserver 10.0.0.2\nnameserver ::1\n"), "{whole}");
    }

    #[test]
    fn public_servers_are_asked_when_nothing_is_left() {
        for host in ["", "nameserver 127.0.0.53\n", "nameserver\n", "nameserver nonsense\n"] {
            assert_eq!(
                resolv_conf(host, &DnsSettings::default(), Names::Copied { ipv6: false }),
                "nameserver 8.8.8.8\nnameserver 8.8.4.4\n"
            );
        }
    }

    #[test]
    fn what_is_asked_for_replaces_what_the_host_has() {
        let host = "nameserver 10.0.0.2\nsearch example.org\noptions edns0\n";
        let all = dns(&["127.0.0.1", "::1"], &["x.example", "evil\nnameserver 6.6.6.6"], &["ndots:2"]);
        let expected = "nameserver 127.0.0.1\nnameserver ::1\nsearch x.example\noptions ndots:2\n";
        assert_eq!(resolv_conf(host, &all, Names::Copied { ipv6: false }), expected);
        let no_search = resolv_conf(host, &dns(&[], &["."], &[]), Names::Copied { ipv6: false });
        assert_eq!(no_search, "nameserver 10.0.0.2\noptions edns0\n");
    }

    #[test]
    fn the_servers_behind_systemd_are_found() {
        assert_eq!(resolv_conf_path("nameserver 127.0.0.53\noptions edns0\n"), RESOLV_CONF_OF_SYSTEMD);
        assert_eq!(resolv_conf_path("nameserver 127.0.0.53\nnameserver 10.0.0.2\n"), RESOLV_CONF);
        assert_eq!(resolv_conf_path("nameserver 10.0.0.2\n"), RESOLV_CONF);
        assert_eq!(resolv_conf_path(""), RESOLV_CONF);
    }
}
