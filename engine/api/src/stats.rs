//! What a container uses: `GET /containers/{id}/stats`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::is_zero;

/// A sample, and the one before it as far as processors are concerned.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stats {
    /// The container.
    pub id: String,
    /// Its name, with a slash.
    pub name: String,
    /// When, RFC 3339.
    pub read: String,
    /// When the sample before was taken.
    pub preread: String,
    /// Processes and threads.
    pub pids_stats: PidsStats,
    /// Disks.
    pub blkio_stats: BlkioStats,
    /// Of Windows.
    pub num_procs: u32,
    /// Of Windows.
    pub storage_stats: BTreeMap<String, u64>,
    /// Processors.
    pub cpu_stats: CpuStats,
    /// Processors, at the time of the sample before.
    pub precpu_stats: CpuStats,
    /// Memory.
    pub memory_stats: MemoryStats,
    /// Interfaces by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub networks: BTreeMap<String, NetworkStats>,
}

/// Processes and threads.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PidsStats {
    /// Now.
    #[serde(skip_serializing_if = "is_zero")]
    pub current: u64,
    /// At most.
    #[serde(skip_serializing_if = "is_zero")]
    pub limit: u64,
}

/// Disks. What no kernel of today counts is null.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BlkioStats {
    /// Bytes.
    pub io_service_bytes_recursive: Option<Vec<BlkioEntry>>,
    /// Reads and writes.
    pub io_serviced_recursive: Option<Vec<BlkioEntry>>,
    /// Not counted.
    pub io_queue_recursive: Option<Vec<BlkioEntry>>,
    /// Not counted.
    pub io_service_time_recursive: Option<Vec<BlkioEntry>>,
    /// Not counted.
    pub io_wait_time_recursive: Option<Vec<BlkioEntry>>,
    /// Not counted.
    pub io_merged_recursive: Option<Vec<BlkioEntry>>,
    /// Not counted.
    pub io_time_recursive: Option<Vec<BlkioEntry>>,
    /// Not counted.
    pub sectors_recursive: Option<Vec<BlkioEntry>>,
}

/// A number of one disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BlkioEntry {
    /// The disk.
    pub major: u64,
    /// The disk.
    pub minor: u64,
    /// Read or write, in lower case with cgroups of version 2.
    pub op: String,
    /// The number.
    pub value: u64,
}

/// Processors.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CpuStats {
    /// Of the container.
    pub cpu_usage: CpuUsage,
    /// Time of all processors of the machine, in nanoseconds.
    #[serde(skip_serializing_if = "is_zero")]
    pub system_cpu_usage: u64,
    /// Processors of the machine.
    #[serde(skip_serializing_if = "is_zero")]
    pub online_cpus: u32,
    /// Of its quota.
    pub throttling_data: ThrottlingData,
}

/// Time on processors, in nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CpuUsage {
    /// All.
    pub total_usage: u64,
    /// By processor; with cgroups of version 1.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu_usage: Vec<u64>,
    /// In the kernel.
    pub usage_in_kernelmode: u64,
    /// In programs.
    pub usage_in_usermode: u64,
}

/// What a quota has done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ThrottlingData {
    /// Periods in which something ran.
    pub periods: u64,
    /// Periods in which the quota was used up.
    pub throttled_periods: u64,
    /// How long was waited, in nanoseconds.
    pub throttled_time: u64,
}

/// Memory, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MemoryStats {
    /// Now, with the cache of files.
    #[serde(skip_serializing_if = "is_zero")]
    pub usage: u64,
    /// The most so far; with cgroups of version 1.
    #[serde(skip_serializing_if = "is_zero")]
    pub max_usage: u64,
    /// The kernel's numbers.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub stats: BTreeMap<String, u64>,
    /// How often the limit was hit.
    #[serde(skip_serializing_if = "is_zero")]
    pub failcnt: u64,
    /// The limit, or the machine's memory.
    #[serde(skip_serializing_if = "is_zero")]
    pub limit: u64,
}

/// What went over an interface.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names say it")]
pub struct NetworkStats {
    pub rx_bytes: u64,
    pub rx_packets: u64,
    pub rx_errors: u64,
    pub rx_dropped: u64,
    pub tx_bytes: u64,
    pub tx_packets: u64,
    pub tx_errors: u64,
    pub tx_dropped: u64,
}
