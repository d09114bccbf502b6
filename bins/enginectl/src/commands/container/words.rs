//! Single values of flags: key=value lists, files of them, limits, devices, ports.

use std::collections::BTreeMap;

use engine_api::container::{Empty, PortBinding, PortMap};
use engine_api::host_config::{DeviceMapping, DeviceRequest, RestartPolicy, ThrottleDevice, Ulimit, WeightDevice};

use crate::output::size;

/// `key=value` words as a map; a key alone has an empty value.
pub(crate) fn map(words: &[String]) -> BTreeMap<String, String> {
    words
        .iter()
        .map(|word| {
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            (key.to_owned(), value.to_owned())
        })
        .collect()
}

/// A map, or nothing if there are no words.
pub(crate) fn some_map(words: &[String]) -> Option<BTreeMap<String, String>> {
    (!words.is_empty()).then(|| map(words))
}

/// A list, or nothing if it is empty.
pub(crate) fn some<T: Clone>(list: &[T]) -> Option<Vec<T>> {
    (!list.is_empty()).then(|| list.to_vec())
}

/// Lines of `NAME=value`, `NAME` (its value is looked up, and the line dropped if there is none) and `# comment`.
pub(crate) fn variables(
    text: &[u8],
    what: &str,
    lookup: impl Fn(&str) -> Option<String>,
) -> Result<Vec<String>, String> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let mut out = Vec::new();
    for (number, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let line = std::str::from_utf8(line).map_err(|_| format!("{what}: line {} is not valid UTF-8", number + 1))?;
        let line = line.strip_suffix('\r').unwrap_or(line).trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = match line.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (line.trim_end(), None),
        };
        if name.is_empty() {
            return Err(format!("{what}: no variable name on line '{line}'"));
        }
        if name.contains([' ', '\t']) {
            return Err(format!("{what}: poorly formatted environment: variable '{name}' contains whitespaces"));
        }
        match value {
            Some(value) => out.push(format!("{name}={value}")),
            None => out.extend(lookup(name).map(|value| format!("{name}={value}"))),
        }
    }
    Ok(out)
}

/// Lines of `key=value`, `key` and `# comment`.
pub(crate) fn labels(text: &[u8], what: &str) -> Result<Vec<String>, String> {
    variables(text, what, |_| Some(String::new()))
}

/// A number of CPUs as 10⁻⁹ of one.
pub(crate) fn nano_cpus(text: &str) -> Result<i64, String> {
    let invalid = || format!("failed to parse {text} as a number of CPUs");
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || whole.len() + fraction.len() == 0 {
        return Err(invalid());
    }
    if fraction.trim_end_matches('0').len() > 9 {
        return Err("value is too precise".to_owned());
    }
    let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| invalid())? };
    let nanos: i64 = format!("{:0<9}", fraction.trim_end_matches('0')).parse().map_err(|_| invalid())?;
    whole.checked_mul(1_000_000_000).and_then(|whole| whole.checked_add(nanos)).ok_or_else(invalid)
}

/// `name=soft[:hard]`.
pub(crate) fn ulimit(text: &str) -> Result<Ulimit, String> {
    const NAMES: &[&str] = &[
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
    ];
    let (name, limits) = text.split_once('=').ok_or_else(|| format!("invalid ulimit argument: {text}"))?;
    if !NAMES.contains(&name) {
        return Err(format!("invalid ulimit type: {name}"));
    }
    let number = |text: &str| text.parse::<i64>().map_err(|_| format!("invalid ulimit value {text:?} of {name}"));
    let (soft, hard) = match limits.split_once(':') {
        Some((soft, hard)) => (number(soft)?, number(hard)?),
        None => (number(limits)?, number(limits)?),
    };
    if hard >= 0 && (soft > hard || soft < 0) {
        return Err(format!("ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"));
    }
    Ok(Ulimit { name: name.to_owned(), hard, soft })
}

/// `no`, `always`, `unless-stopped` or `on-failure[:N]`.
pub(crate) fn restart(text: &str) -> Result<RestartPolicy, String> {
    let (name, count) = text.split_once(':').unwrap_or((text, ""));
    if !matches!(name, "" | "no" | "always" | "unless-stopped" | "on-failure") {
        return Err(format!(
            "invalid restart policy: unknown policy '{name}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
        ));
    }
    let maximum_retry_count = match count {
        "" => 0,
        count => count
            .parse()
            .map_err(|_| "invalid restart policy format: maximum retry count must be an integer".to_owned())?,
    };
    if maximum_retry_count != 0 && name != "on-failure" {
        return Err("invalid restart policy: maximum retry count can only be used with 'on-failure'".to_owned());
    }
    Ok(RestartPolicy { name: name.to_owned(), maximum_retry_count })
}

/// `host[:container[:permissions]]`.
pub(crate) fn device(text: &str) -> Result<DeviceMapping, String> {
    let permissions = |text: &str| !text.is_empty() && text.chars().all(|c| matches!(c, 'r' | 'w' | 'm'));
    let parts: Vec<&str> = text.split(':').collect();
    let (host, container, mode) = match parts.as_slice() {
        [host] => (*host, *host, "rwm"),
        [host, second] if permissions(second) => (*host, *host, *second),
        [host, container] => (*host, *container, "rwm"),
        [host, container, mode] if permissions(mode) => (*host, *container, *mode),
        [_, _, mode] => return Err(format!("invalid device mode: {mode}")),
        _ => return Err(format!("invalid device specification: {text}")),
    };
    if host.is_empty() || !container.starts_with('/') {
        return Err(format!("invalid device specification: {text}"));
    }
    Ok(DeviceMapping {
        path_on_host: host.to_owned(),
        path_in_container: container.to_owned(),
        cgroup_permissions: mode.to_owned(),
    })
}

/// Whether a device is meant by its CDI name, `vendor.com/class=name`, and not by its path.
pub(crate) fn is_cdi_name(text: &str) -> bool {
    text.split_once('=').is_some_and(|(kind, name)| {
        !name.is_empty()
            && !text.contains(',')
            && kind.split_once('/').is_some_and(|(vendor, class)| !vendor.is_empty() && !class.is_empty())
    }) && !text.starts_with('/')
}

/// `all`, a number, or fields: `count`, `device`, `driver`, `capabilities` and `options`.
pub(crate) fn gpus(text: &str) -> Result<DeviceRequest, String> {
    let mut request = DeviceRequest { options: Some(BTreeMap::new()), ..DeviceRequest::default() };
    let mut capabilities = Vec::new();
    let count = |text: &str| match text {
        "all" => Ok(-1),
        number => number.parse().map_err(|_| format!("count must be an integer or all: {number}")),
    };
    let fields = csv(text);
    let mut counted = false;
    for field in &fields {
        match field.split_once('=') {
            None if fields.len() == 1 || !counted => request.count = count(field)?,
            None => return Err(format!("gpu request key '{field}' can be specified only once")),
            Some(("count", value)) => request.count = count(value)?,
            Some(("device", value)) => request.device_ids = Some(csv(value)),
            Some(("driver", value)) => value.clone_into(&mut request.driver),
            Some(("capabilities", value)) => capabilities = csv(value),
            Some(("options", value)) => request.options = Some(map(&csv(value))),
            Some((key, _)) => return Err(format!("unexpected key '{key}' in '{field}'")),
        }
        counted |= !field.contains('=') || field.starts_with("count=");
    }
    if !counted && request.device_ids.is_none() {
        request.count = 1;
    }
    if !capabilities.iter().any(|capability| capability == "gpu") {
        capabilities.push("gpu".to_owned());
    }
    request.capabilities = Some(vec![capabilities]);
    Ok(request)
}

/// Fields with commas between, and quotes around those that have commas.
fn csv(text: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    for c in text.chars() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            c => fields.iter_mut().next_back().into_iter().for_each(|field| field.push(c)),
        }
    }
    fields
}

/// `/dev/x:weight`.
pub(crate) fn device_weight(text: &str) -> Result<WeightDevice, String> {
    let (path, weight) = device_and(text)?;
    let number = weight.parse::<u16>().ok().filter(|weight| matches!(weight, 0 | 10..=1000));
    let weight = number.ok_or_else(|| format!("invalid weight for device: {text}"))?;
    Ok(WeightDevice { path, weight })
}

/// `/dev/x:rate`, the rate in bytes or a plain number.
pub(crate) fn device_rate(text: &str, bytes: bool) -> Result<ThrottleDevice, String> {
    let (path, rate) = device_and(text)?;
    let invalid = || {
        format!(
            "invalid rate for device: {text}. The correct format is <device-path>:<number>{}",
            if bytes { "[<unit>]" } else { "" }
        )
    };
    let rate = if bytes {
        size::parse(&rate).ok().and_then(|rate| u64::try_from(rate).ok()).ok_or_else(invalid)?
    } else {
        rate.parse().map_err(|_| invalid())?
    };
    Ok(ThrottleDevice { path, rate })
}

fn device_and(text: &str) -> Result<(String, String), String> {
    match text.split_once(':') {
        Some((path, rest)) if path.starts_with("/dev/") && !rest.is_empty() => Ok((path.to_owned(), rest.to_owned())),
        _ => Err(format!("bad format for device path: {text}")),
    }
}

/// `host:address` or `host=address`, as `host:address`.
pub(crate) fn extra_host(text: &str) -> Result<String, String> {
    let bad = || format!("bad format for add-host: {text:?}");
    let (host, address) = match text.split_once('=') {
        Some(parts) => parts,
        None => text.split_once(':').ok_or_else(bad)?,
    };
    if host.is_empty() {
        return Err(bad());
    }
    let address = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    if address != "host-gateway" && address.parse::<std::net::IpAddr>().is_err() {
        return Err(format!("invalid IP address in add-host: {address:?}"));
    }
    Ok(format!("{host}:{address}"))
}

/// What ports are exposed and published.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Ports {
    pub(crate) exposed: BTreeMap<String, Empty>,
    pub(crate) bindings: PortMap,
}

impl Ports {
    /// `--expose`: a port or a range, with a protocol.
    pub(crate) fn expose(&mut self, text: &str) -> Result<(), String> {
        if text.contains(':') {
            return Err(format!("invalid port format for --expose: {text}"));
        }
        let (ports, protocol) = with_protocol(text)?;
        let (first, last) =
            range(ports).map_err(|error| format!("invalid range format for --expose: {text}, error: {error}"))?;
        for port in first..=last {
            self.exposed.insert(format!("{port}/{protocol}"), Empty {});
        }
        Ok(())
    }

    /// `--publish`: `[[address:][host-port]:]port[/protocol]`, ports may be ranges; or `target=80,published=8080`.
    pub(crate) fn publish(&mut self, text: &str) -> Result<(), String> {
        let short;
        let text = if text.contains('=') {
            short = short_form(text)?;
            short.as_str()
        } else {
            text
        };
        let (rest, protocol) = with_protocol(text)?;
        let (rest, container) = rest.rsplit_once(':').map_or(("", rest), |(rest, port)| (rest, port));
        let (address, host) = match rest.rsplit_once(':') {
            Some((address, host)) => (address, host),
            None => ("", rest),
        };
        let address = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
        if !address.is_empty() && address.parse::<std::net::IpAddr>().is_err() {
            return Err(format!("invalid IP address: {address}"));
        }
        if container.is_empty() {
            return Err(format!("no port specified: {text}<empty>"));
        }
        let (first, last) = range(container).map_err(|_| format!("invalid containerPort: {container}"))?;
        let host_range = match host {
            "" => None,
            host => Some(range(host).map_err(|_| format!("invalid hostPort: {host}"))?),
        };
        let count = last - first;
        if let Some((host_first, host_last)) = host_range
            && host_last - host_first != count
            && count != 0
        {
            return Err(format!("invalid ranges specified for container and host Ports: {container} and {host}"));
        }
        for offset in 0..=count {
            let host_port = match host_range {
                None => String::new(),
                Some((host_first, host_last)) if count == 0 && host_first != host_last => {
                    format!("{host_first}-{host_last}")
                }
                Some((host_first, _)) => (host_first + offset).to_string(),
            };
            let port = format!("{}/{protocol}", first + offset);
            self.exposed.insert(port.clone(), Empty {});
            let binding = PortBinding { host_ip: address.to_owned(), host_port };
            self.bindings.entry(port).or_default().get_or_insert_default().push(binding);
        }
        Ok(())
    }
}

fn with_protocol(text: &str) -> Result<(&str, String), String> {
    let (ports, protocol) = text.rsplit_once('/').unwrap_or((text, "tcp"));
    let protocol = if protocol.is_empty() { "tcp".to_owned() } else { protocol.to_ascii_lowercase() };
    match protocol.as_str() {
        "tcp" | "udp" | "sctp" => Ok((ports, protocol)),
        _ => Err(format!("invalid proto: {protocol}")),
    }
}

fn range(text: &str) -> Result<(u32, u32), String> {
    let port = |text: &str| text.parse::<u16>().map(u32::from).map_err(|_| format!("{text:?} is no port"));
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (port(first)?, port(last)?),
        None => (port(text)?, port(text)?),
    };
    if last < first {
        return Err(format!("the range {text} ends before it begins"));
    }
    Ok((first, last))
}

fn short_form(text: &str) -> Result<String, String> {
    let (mut target, mut published, mut protocol) = ("", "", "tcp");
    for part in text.split(',') {
        match part.split_once('=') {
            Some(("target", value)) => target = value,
            Some(("published", value)) => published = value,
            Some(("protocol", value)) => protocol = value,
            Some(("mode", "ingress" | "host")) => {}
            _ => return Err(format!("invalid publish opts format (should be name=value but got '{part}')")),
        }
    }
    Ok(format!("{published}:{target}/{protocol}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn ports(texts: &[&str]) -> Result<Ports, String> {
        let mut ports = Ports::default();
        for text in texts {
            ports.publish(text)?;
        }
        Ok(ports)
    }

    fn binding(ports: &Ports, port: &str) -> Vec<(String, String)> {
        let list = ports.bindings[port].clone().unwrap_or_default();
        list.into_iter().map(|binding| (binding.host_ip, binding.host_port)).collect()
    }

    #[test]
    fn ports_in_every_form() {
        let check = |text: &str, port: &str, address: &str, host: &str| {
            let ports = ports(&[text]).unwrap();
            assert!(ports.exposed.contains_key(port), "{text}");
            assert_eq!(binding(&ports, port), [(address.to_owned(), host.to_owned())], "{text}");
        };
        check("80", "80/tcp", "", "");
        check("8080:80", "80/tcp", "", "8080");
        check("8080:80/udp", "80/udp", "", "8080");
        check("8080:80/UDP", "80/udp", "", "8080");
        check("127.0.0.1:8080:80", "80/tcp", "127.0.0.1", "8080");
        check("127.0.0.1::80", "80/tcp", "127.0.0.1", "");
        check("[::1]:8080:80", "80/tcp", "::1", "8080");
        check("8000-8010:80", "80/tcp", "", "8000-8010");
        check("8000-8001:80-81", "81/tcp", "", "8001");
        check("target=80,published=8080,protocol=udp", "80/udp", "", "8080");
        let two = ports(&["8080:80", "8081:80"]).unwrap();
        assert_eq!(binding(&two, "80/tcp").len(), 2);
    }

    #[test]
    fn ports_that_make_no_sense() {
        for text in
            ["", "x", "8080:", "99999", "8080:80/foo", "1.2.3:80:80", "8000-8002:80-81", "81-80", "target=80,foo=1"]
        {
            assert!(ports(&[text]).is_err(), "{text}");
        }
        let mut ports = Ports::default();
        ports.expose("7000-7002/udp").unwrap();
        assert_eq!(ports.exposed.len(), 3);
        assert!(ports.expose("80:80").is_err());
    }

    #[test]
    fn env_files_are_docker_s() {
        let lookup = |name: &str| (name == "HOME").then(|| "/root".to_owned());
        let text = b"\xef\xbb\xbf# comment\n\nA=1\n  B=two words \r\nHOME\nNOPE\nC=\nD=x=y\n";
        assert_eq!(variables(text, "f", lookup).unwrap(), ["A=1", "B=two words ", "HOME=/root", "C=", "D=x=y"]);
        assert_eq!(variables(b"=x", "f", lookup), Err("f: no variable name on line '=x'".to_owned()));
        assert_eq!(
            variables(b"A B=x", "f", lookup),
            Err("f: poorly formatted environment: variable 'A B' contains whitespaces".to_owned())
        );
        assert!(variables(b"\xff=x", "f", lookup).is_err());
        assert_eq!(labels(b"a=b\nc\n", "f").unwrap(), ["a=b", "c="]);
    }

    #[test]
    fn cpus() {
        assert_eq!(nano_cpus("1.5"), Ok(1_500_000_000));
        assert_eq!(nano_cpus(".25"), Ok(250_000_000));
        assert_eq!(nano_cpus("2"), Ok(2_000_000_000));
        assert_eq!(nano_cpus("0.000000001"), Ok(1));
        for text in ["", "x", "-1", "1e3", "0.0000000001", "."] {
            assert!(nano_cpus(text).is_err(), "{text}");
        }
    }

    #[test]
    fn limits_and_policies() {
        assert_eq!(ulimit("nofile=1024:2048"), Ok(Ulimit { name: "nofile".to_owned(), soft: 1024, hard: 2048 }));
        assert_eq!(ulimit("core=-1"), Ok(Ulimit { name: "core".to_owned(), soft: -1, hard: -1 }));
        for text in ["nofile", "foo=1", "nofile=x", "nofile=2:1", "nofile=1:2:3"] {
            assert!(ulimit(text).is_err(), "{text}");
        }
        assert_eq!(
            restart("on-failure:3"),
            Ok(RestartPolicy { name: "on-failure".to_owned(), maximum_retry_count: 3 })
        );
        for text in ["sometimes", "always:3", "on-failure:x"] {
            assert!(restart(text).is_err(), "{text}");
        }
    }

    #[test]
    fn devices() {
        let check = |text: &str, expected: [&str; 3]| {
            let device = device(text).unwrap();
            assert_eq!([device.path_on_host, device.path_in_container, device.cgroup_permissions], expected, "{text}");
        };
        check("/dev/fuse", ["/dev/fuse", "/dev/fuse", "rwm"]);
        check("/dev/sda:/dev/xvda", ["/dev/sda", "/dev/xvda", "rwm"]);
        check("/dev/sda:r", ["/dev/sda", "/dev/sda", "r"]);
        check("/dev/sda:/dev/xvda:rw", ["/dev/sda", "/dev/xvda", "rw"]);
        for text in ["", "/dev/a:/dev/b:x", "a:b:c:d", "/dev/a:b"] {
            assert!(device_of(text), "{text}");
        }
        assert_eq!(device_rate("/dev/sda:1mb", true).unwrap().rate, 1 << 20);
        assert_eq!(device_weight("/dev/sda:200").unwrap().weight, 200);
        assert!(
            device_rate("/dev/sda:1mb", false).is_err()
                && device_weight("/dev/sda:5").is_err()
                && device_rate("sda:1", true).is_err()
        );
    }

    #[test]
    fn devices_of_others() {
        assert!(is_cdi_name("vendor.com/class=name"));
        for text in ["/dev/a", "/dev/a=b/c", "a=b", "a/b", "a/b="] {
            assert!(!is_cdi_name(text), "{text}");
        }
        let of = |text: &str| {
            let request = gpus(text).unwrap();
            (request.count, request.device_ids.unwrap_or_default(), request.capabilities.unwrap().concat())
        };
        let gpu = vec!["gpu".to_owned()];
        assert_eq!(of("all"), (-1, vec![], gpu.clone()));
        assert_eq!(of("2"), (2, vec![], gpu.clone()));
        assert_eq!(of("device=3"), (0, vec!["3".to_owned()], gpu.clone()));
        assert_eq!(of("\"device=0,2\""), (0, vec!["0".to_owned(), "2".to_owned()], gpu));
        assert_eq!(of("driver=nvidia,capabilities=compute"), (1, vec![], vec!["compute".to_owned(), "gpu".to_owned()]));
        for text in ["", "some", "all,2", "bogus=1"] {
            assert!(gpus(text).is_err(), "{text}");
        }
    }

    fn device_of(text: &str) -> bool {
        device(text).is_err()
    }

    #[test]
    fn hosts() {
        assert_eq!(extra_host("db:10.0.0.1").as_deref(), Ok("db:10.0.0.1"));
        assert_eq!(extra_host("db=[::1]").as_deref(), Ok("db:::1"));
        assert_eq!(extra_host("db:::1").as_deref(), Ok("db:::1"));
        assert_eq!(extra_host("me:host-gateway").as_deref(), Ok("me:host-gateway"));
        assert!(extra_host("db").is_err() && extra_host(":1.2.3.4").is_err() && extra_host("db:x").is_err());
    }
}
