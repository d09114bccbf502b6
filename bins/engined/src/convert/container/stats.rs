//! What a container uses, as Docker tells it.

use std::collections::BTreeMap;

use engine::container::{Record, Sample, Traffic};
use engine_api::stats as wire;

use crate::convert::time::rfc3339;

/// A sample; without one the container does not run, and all is zero.
pub(crate) fn stats(record: &Record, before: Option<&Sample>, sample: Option<&Sample>) -> wire::Stats {
    let mut stats = wire::Stats {
        id: record.id.to_string(),
        name: format!("/{}", record.name),
        read: rfc3339(sample.map_or(0, |sample| sample.at)),
        preread: rfc3339(before.map_or(0, |before| before.at)),
        precpu_stats: before.map(cpu).unwrap_or_default(),
        ..wire::Stats::default()
    };
    let Some(sample) = sample else { return stats };
    let usage = &sample.usage;
    stats.cpu_stats = cpu(sample);
    stats.pids_stats = wire::PidsStats { current: usage.pids.current, limit: usage.pids.limit.unwrap_or(u64::MAX) };
    let (read, write) = if sample.version_one { ("Read", "Write") } else { ("read", "write") };
    let entries = |reads: fn(&engine::cgroup::IoUsage) -> (u64, u64)| {
        let all = usage.io.iter().flat_map(|disk| {
            let (read_value, write_value) = reads(disk);
            [(read, read_value), (write, write_value)].map(|(op, value)| wire::BlkioEntry {
                major: disk.major.into(),
                minor: disk.minor.into(),
                op: op.to_owned(),
                value,
            })
        });
        Some(all.collect::<Vec<_>>()).filter(|entries| !entries.is_empty())
    };
    stats.blkio_stats.io_service_bytes_recursive = entries(|disk| (disk.read_bytes, disk.write_bytes));
    stats.blkio_stats.io_serviced_recursive = entries(|disk| (disk.reads, disk.writes)).filter(|_| sample.version_one);
    let memory = &usage.memory;
    stats.memory_stats = wire::MemoryStats {
        usage: memory.usage,
        max_usage: memory.peak.filter(|_| sample.version_one).unwrap_or(0),
        stats: memory.details.clone(),
        failcnt: memory.failures,
        limit: memory.limit.filter(|limit| *limit < sample.memory).unwrap_or(sample.memory),
    };
    stats.networks = sample
        .interfaces
        .iter()
        .map(|interface| (interface.name.clone(), network(interface.received, interface.sent)))
        .collect::<BTreeMap<_, _>>();
    stats
}

fn network(received: Traffic, sent: Traffic) -> wire::NetworkStats {
    wire::NetworkStats {
        rx_bytes: received.bytes,
        rx_packets: received.packets,
        rx_errors: received.errors,
        rx_dropped: received.dropped,
        tx_bytes: sent.bytes,
        tx_packets: sent.packets,
        tx_errors: sent.errors,
        tx_dropped: sent.dropped,
    }
}

fn cpu(sample: &Sample) -> wire::CpuStats {
    let usage = &sample.usage.cpu;
    wire::CpuStats {
        cpu_usage: wire::CpuUsage {
            total_usage: usage.total,
            percpu_usage: usage.by_processor.clone(),
            usage_in_kernelmode: usage.system,
            usage_in_usermode: usage.user,
        },
        system_cpu_usage: sample.system,
        online_cpus: sample.processors,
        throttling_data: wire::ThrottlingData {
            periods: usage.periods,
            throttled_periods: usage.throttled_periods,
            throttled_time: usage.throttled,
        },
    }
}
