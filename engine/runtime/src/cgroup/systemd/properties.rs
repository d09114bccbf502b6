//! Limits in the words of systemd's units. Pure.

use oci_spec::runtime::LinuxResources;

use super::bus::{Property, Value};
use crate::Error;
use crate::cgroup::{devices, setting};

/// Numbers of processors and memory nodes are below this.
const MAX_INDEX: u32 = 8192;

/// What systemd has words for. What it has none for is left to the cgroup's files.
pub(super) fn of(resources: &LinuxResources, unified: bool) -> Result<Vec<Property>, Error> {
    let mut all = Vec::new();
    let bytes = |value: i64| Value::Number(u64::try_from(value).unwrap_or(u64::MAX));
    let set = |value: Option<i64>| value.filter(|value| *value != 0);
    if let Some(memory) = resources.memory() {
        let (limit, swap) = (set(memory.limit()), set(memory.swap()));
        if let Some(limit) = limit {
            all.push((if unified { "MemoryMax" } else { "MemoryLimit" }, bytes(limit)));
        }
        if unified {
            if let Some(low) = set(memory.reservation()) {
                all.push(("MemoryLow", bytes(low)));
            }
            match (swap.or(limit.filter(|limit| *limit < 0)), limit) {
                (Some(swap), _) if swap < 0 => all.push(("MemorySwapMax", Value::Number(u64::MAX))),
                (Some(swap), Some(limit)) if swap >= limit => all.push(("MemorySwapMax", bytes(swap - limit))),
                // Refused with a reason by who writes the files.
                _ => {}
            }
        }
    }
    if let Some(cpu) = resources.cpu() {
        if let Some(shares) = cpu.shares().filter(|shares| *shares != 0) {
            all.push(if unified {
                ("CPUWeight", Value::Number(setting::weight(shares)))
            } else {
                ("CPUShares", Value::Number(shares))
            });
        }
        let period = cpu.period().filter(|period| *period != 0);
        if let Some(period) = period {
            all.push(("CPUQuotaPeriodUSec", Value::Number(period)));
        }
        if let Some(quota) = set(cpu.quota()) {
            // Of each second; systemd keeps hundredths.
            let share = u64::try_from(quota).ok().map(|quota| quota.saturating_mul(1_000_000));
            let share = share.map_or(u64::MAX, |share| (share / period.unwrap_or(100_000)).next_multiple_of(10_000));
            all.push(("CPUQuotaPerSecUSec", Value::Number(share)));
        }
        if unified {
            for (name, list) in [("AllowedCPUs", cpu.cpus()), ("AllowedMemoryNodes", cpu.mems())] {
                if let Some(list) = list.as_ref().filter(|list| !list.is_empty()) {
                    all.push((name, Value::Bytes(bits(list)?)));
                }
            }
        }
    }
    if let Some(pids) = resources.pids().as_ref().filter(|pids| pids.limit() != 0) {
        all.push(("TasksMax", bytes(pids.limit())));
    }
    if let Some(rules) = resources.devices().as_ref().filter(|rules| !rules.is_empty()) {
        all.extend(devices(&devices::lines(rules)?));
    }
    Ok(all)
}

/// systemd may be told more than the rules allow, since they are in force beside its own, but never less.
fn devices(lines: &[(bool, String)]) -> Vec<Property> {
    let mut pairs = Vec::new();
    for (_, line) in lines.iter().filter(|(allow, _)| *allow) {
        let parts: Vec<_> = line.split([' ', ':']).collect();
        let [kind, major, minor, access] = parts[..] else {
            // Everything is allowed: systemd forbids nothing.
            return vec![("DevicePolicy", Value::Text("auto".to_owned())), ("DeviceAllow", Value::Pairs(Vec::new()))];
        };
        let class = if kind == "b" { "block" } else { "char" };
        let node = match (major, minor) {
            ("*", _) | (_, "*") => format!("{class}-*"),
            (major, minor) => format!("/dev/{class}/{major}:{minor}"),
        };
        pairs.push((node, access.to_owned()));
    }
    vec![("DevicePolicy", Value::Text("strict".to_owned())), ("DeviceAllow", Value::Pairs(pairs))]
}

/// A list such as `0-2,5` as bits, the lowest first.
fn bits(list: &str) -> Result<Vec<u8>, Error> {
    let invalid = || Error::Invalid(format!("{list:?} is not of the form 0-3,5"));
    let mut bits = Vec::new();
    for range in list.split(',').filter(|range| !range.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u32, u32) = (first.parse().map_err(|_| invalid())?, last.parse().map_err(|_| invalid())?);
        if last >= MAX_INDEX {
            return Err(invalid());
        }
        for number in first..=last {
            let at = number as usize / 8;
            if bits.len() <= at {
                bits.resize(at + 1, 0);
            }
            bits[at] |= 1 << (number % 8);
        }
    }
    Ok(bits)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn told(json: &str, unified: bool) -> Vec<Property> {
        of(&serde_json::from_str(json).unwrap(), unified).unwrap()
    }

    #[test]
    fn limits_have_names() {
        let json = r#"{"memory": {"limit": 1000, "swap": 3000, "reservation": 5}, "pids": {"limit": -1},
            "cpu": {"shares": 1024, "quota": 25000, "period": 50000, "cpus": "0-2,9"}}"#;
        let number = Value::Number;
        assert_eq!(
            told(json, true),
            [
                ("MemoryMax", number(1000)),
                ("MemoryLow", number(5)),
                ("MemorySwapMax", number(2000)),
                ("CPUWeight", number(100)),
                ("CPUQuotaPeriodUSec", number(50000)),
                ("CPUQuotaPerSecUSec", number(500_000)),
                ("AllowedCPUs", Value::Bytes(vec![0b111, 0b10])),
                ("TasksMax", number(u64::MAX)),
            ]
        );
        let one = told(json, false);
        assert!(one.contains(&("MemoryLimit", number(1000))) && one.contains(&("CPUShares", number(1024))));
        assert!(of(&serde_json::from_str(r#"{"cpu": {"cpus": "0-99999"}}"#).unwrap(), true).is_err());
    }

    #[test]
    fn devices_have_nodes() {
        let json = r#"{"devices": [{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "access": "m"},
            {"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm"}]}"#;
        let pairs = [("char-*", "m"), ("/dev/char/1:3", "rwm")].map(|(a, b)| (a.to_owned(), b.to_owned())).to_vec();
        assert_eq!(
            told(json, true),
            [("DevicePolicy", Value::Text("strict".to_owned())), ("DeviceAllow", Value::Pairs(pairs))]
        );
        let all = told(r#"{"devices": [{"allow": true, "access": "rwm"}]}"#, true);
        assert_eq!(all[0], ("DevicePolicy", Value::Text("auto".to_owned())));
    }
}
