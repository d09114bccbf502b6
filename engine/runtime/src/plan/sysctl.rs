//! Kernel parameters: only those that belong to a namespace of the container.

use engine_shim::plan::Op;
use oci_spec::runtime::Linux;

use super::namespaces::Namespaces;
use super::writer::Writer;
use crate::Error;

const IPC: [&str; 8] = [
    "kernel/msgmax",
    "kernel/msgmnb",
    "kernel/msgmni",
    "kernel/sem",
    "kernel/shmall",
    "kernel/shmmax",
    "kernel/shmmni",
    "kernel/shm_rmid_forced",
];

pub(super) fn write(plan: &mut Writer, linux: &Linux, namespaces: &Namespaces) -> Result<(), Error> {
    let Some(parameters) = linux.sysctl() else { return Ok(()) };
    let mut parameters: Vec<_> = parameters.iter().collect();
    parameters.sort();
    for (key, value) in parameters {
        let path = path(key).ok_or_else(|| Error::Invalid(format!("sysctl key {key:?} is not a parameter's name")))?;
        if value.len() > 4096 || !value.bytes().all(|b| b == b'\t' || (b' '..=b'~').contains(&b)) {
            return Err(Error::Invalid(format!("sysctl {key}: value {value:?} has forbidden characters")));
        }
        let own = match path.split_once('/') {
            Some(("net", _)) if namespaces.has_network() => true,
            Some(("net", _)) => {
                return Err(Error::Invalid(format!("sysctl {key:?} not allowed in host network namespace")));
            }
            Some(("fs", rest)) if rest.starts_with("mqueue/") => namespaces.has_ipc(),
            _ if IPC.contains(&path.as_str()) => namespaces.has_ipc(),
            _ if path == "kernel/domainname" => namespaces.has_uts(),
            _ => {
                return Err(Error::Invalid(format!("sysctl {key:?} is not in a separate kernel namespace")));
            }
        };
        if !own {
            return Err(Error::Invalid(format!(
                "sysctl {key:?} is not allowed: the container has no namespace of its own for it"
            )));
        }
        plan.with_texts(path, value, |key, value| Op::Sysctl { key, value });
    }
    Ok(())
}

/// The path beneath `/proc/sys`. Whichever of `.` and `/` comes first separates; the other one then stands for itself, as in
/// `net/ipv4/conf/eth0.1/forwarding`.
fn path(key: &str) -> Option<String> {
    let dots = key.find(['.', '/']).is_some_and(|at| key.as_bytes()[at] == b'.');
    let path: String = key
        .chars()
        .map(|c| match c {
            '.' if dots => '/',
            '/' if dots => '.',
            c => c,
        })
        .collect();
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':' | '@');
    let whole = |part: &str| !part.is_empty() && part != "." && part != ".." && part.chars().all(allowed);
    (path.len() <= 255 && path.split('/').all(whole)).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::path;

    #[test]
    fn both_separators_are_read() {
        assert_eq!(path("net.ipv4.ip_forward").as_deref(), Some("net/ipv4/ip_forward"));
        assert_eq!(path("net/ipv4/conf/eth0.1/x").as_deref(), Some("net/ipv4/conf/eth0.1/x"));
        assert_eq!(path("net.ipv4.conf.eth0/1.x").as_deref(), Some("net/ipv4/conf/eth0.1/x"));
    }

    #[test]
    fn no_key_leaves_its_directory() {
        for bad in ["", "net..x", "net/../kernel/core_pattern", "net./.x", "/net/x", "net/x/", "net/a b", "net/a\n"] {
            assert_eq!(path(bad), None, "{bad:?}");
        }
    }
}
