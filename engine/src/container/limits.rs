//! Limits of processes that this host does not let its containers have: they get what it allows.

use rustix::process::{Resource, getrlimit};

use super::HostConfig;
use crate::settings::Ulimit;

/// Raises hard limits and lowers scores, where the host has left it to the engine.
const SYS_RESOURCE: u64 = 1 << 24;

/// A warning for each limit that is cut down, and for a score that is not lowered. `capabilities` are those of the engine.
pub(super) fn warnings(host: &HostConfig, capabilities: u64) -> Vec<String> {
    let free = capabilities & SYS_RESOURCE != 0;
    let allowed = |limit: &Ulimit| match limit.name.as_str() {
        // The kernel's bound for everybody.
        "nofile" if free => read("/proc/sys/fs/nr_open"),
        _ if free => None,
        name => getrlimit(resource(name)?).maximum.and_then(|most| i64::try_from(most).ok()),
    };
    let mut warnings: Vec<String> = host.ulimits.iter().filter_map(|limit| cut(limit, allowed(limit)?)).collect();
    // Who asks for none is not told of the daemon's own.
    let least = if free || host.oom_score_adj == 0 { None } else { read("/proc/self/oom_score_adj") };
    if let Some(least) = least.filter(|least| i64::from(host.oom_score_adj) < *least) {
        warnings.push(format!(
            "OomScoreAdj {} is below that of the daemon, which may not lower it: it stays {least}",
            host.oom_score_adj
        ));
    }
    warnings
}

fn cut(limit: &Ulimit, allowed: i64) -> Option<String> {
    // -1 is no limit, which is the highest one.
    let number = |value: i64| u64::try_from(value).unwrap_or(u64::MAX);
    (number(limit.hard) > number(allowed)).then(|| {
        format!(
            "The hard limit {} of ulimit {} is above what this host allows the daemon to give: it is cut down to {allowed}",
            limit.hard, limit.name
        )
    })
}

fn read(path: &str) -> Option<i64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn resource(name: &str) -> Option<Resource> {
    Some(match name {
        "core" => Resource::Core,
        "cpu" => Resource::Cpu,
        "data" => Resource::Data,
        "fsize" => Resource::Fsize,
        "locks" => Resource::Locks,
        "memlock" => Resource::Memlock,
        "msgqueue" => Resource::Msgqueue,
        "nice" => Resource::Nice,
        "nofile" => Resource::Nofile,
        "nproc" => Resource::Nproc,
        "rss" => Resource::Rss,
        "rtprio" => Resource::Rtprio,
        "rttime" => Resource::Rttime,
        "sigpending" => Resource::Sigpending,
        "stack" => Resource::Stack,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn who_asks_for_more_than_the_host_gives_is_told() {
        let limit = |hard: i64| Ulimit::new("nofile", 1, hard);
        assert_eq!(cut(&limit(100), 100), None);
        for more in [101, -1] {
            let said = cut(&limit(more), 100).unwrap();
            assert!(said.contains(&format!("{more} of ulimit nofile")) && said.ends_with("cut down to 100"), "{said}");
        }
        let mut host = HostConfig { ulimits: vec![limit(i64::MAX)], ..HostConfig::default() };
        for capabilities in [0, SYS_RESOURCE] {
            assert_eq!(warnings(&host, capabilities).len(), 1);
        }
        host.ulimits = vec![limit(10), Ulimit::new("core", 0, 0)];
        assert!(warnings(&host, 0).is_empty());
        host.oom_score_adj = -1001;
        assert!(warnings(&host, 0)[0].starts_with("OomScoreAdj -1001 is below"));
        assert!(warnings(&host, SYS_RESOURCE).is_empty());
    }
}
