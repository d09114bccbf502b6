//! `update`: changes what a container may use.

use std::io::Read;

use engine_runtime::spec::LinuxResources;
use serde_json::{Map, Value, json};

use super::failure::Failure;
use super::flags::{Flag, Place, value};
use super::state::{Record, Status};
use super::{Call, Verb};

/// Bytes of the longest document of resources.
const MAX: u64 = 4 << 20;

pub(super) const UPDATE: Verb = Verb {
    name: "update",
    words: "ID",
    about: "Change what a container may use",
    flags: FLAGS,
    place: Place::Anywhere,
    count: (1, 1),
    run: update,
};

const FLAGS: &[Flag] = &[
    value(&["resources", "r"], "a file with resources as in the specification; - is standard input"),
    value(&["blkio-weight"], "weight of disk access"),
    value(&["cpu-period"], "microseconds after which the quota is given anew"),
    value(&["cpu-quota"], "microseconds of processor time in a period"),
    value(&["cpu-burst"], "microseconds that may be saved up"),
    value(&["cpu-share"], "weight of processor time"),
    value(&["cpu-rt-period"], "period of realtime processes, in microseconds"),
    value(&["cpu-rt-runtime"], "runtime of realtime processes, in microseconds"),
    value(&["cpuset-cpus"], "processors that may be used"),
    value(&["cpuset-mems"], "memory nodes that may be used"),
    value(&["cpu-idle"], "1: runs only when nobody else wants to"),
    value(&["memory"], "limit of memory, in bytes"),
    value(&["memory-reservation"], "memory that is left alone when it gets tight, in bytes"),
    value(&["memory-swap"], "limit of memory with swap, in bytes; -1 is none"),
    value(&["pids-limit"], "limit of processes; -1 is none"),
    value(&["kernel-memory"], "not supported: the kernel dropped it"),
    value(&["kernel-memory-tcp"], "not supported: obsolete"),
    value(&["l3-cache-schema"], "not supported: Intel RDT"),
    value(&["mem-bw-schema"], "not supported: Intel RDT"),
];

/// The flags that cannot be honoured, and why.
const REFUSED: &[(&str, &str)] = &[
    ("kernel-memory", "the kernel has no limit of its own memory any more"),
    ("kernel-memory-tcp", "it is obsolete; a file of resources may have it"),
    ("l3-cache-schema", "there is no Intel RDT"),
    ("mem-bw-schema", "there is no Intel RDT"),
];

/// The flags that are numbers, and where they are in a document.
const NUMBERS: &[(&str, &str, &str)] = &[
    ("blkio-weight", "blockIO", "weight"),
    ("cpu-period", "cpu", "period"),
    ("cpu-quota", "cpu", "quota"),
    ("cpu-burst", "cpu", "burst"),
    ("cpu-share", "cpu", "shares"),
    ("cpu-rt-period", "cpu", "realtimePeriod"),
    ("cpu-rt-runtime", "cpu", "realtimeRuntime"),
    ("cpu-idle", "cpu", "idle"),
    ("memory", "memory", "limit"),
    ("memory-reservation", "memory", "reservation"),
    ("memory-swap", "memory", "swap"),
    ("pids-limit", "pids", "limit"),
];

fn update(call: &Call<'_>) -> Result<u8, Failure> {
    let runtime = call.runtime()?;
    let record = Record::read(&runtime, call.id())?;
    if let Some((flag, why)) = REFUSED.iter().find(|(flag, _)| call.given.get(flag).is_some()) {
        return Err(Failure::new(format!("--{flag} is not supported: {why}")));
    }
    let flags = flags(call)?;
    let document = match call.given.get("resources") {
        Some(_) if !flags.is_empty() => {
            return Err(Failure::new("--resources says all of it: no other limit can be given with it"));
        }
        Some("-") => read(&call.io.stdin, "standard input")?,
        Some(path) => read(&std::fs::File::open(path).map_err(Failure::io(format!("open {path}")))?, path)?,
        None if flags.is_empty() => {
            return Err(Failure::new("nothing to update: give --resources or at least one limit"));
        }
        None => Value::Object(flags),
    };
    let resources: LinuxResources = serde_json::from_value(document)
        .map_err(|error| Failure::new(format!("the resources make no sense: {error}")))?;
    if record.status(&runtime)? == Status::Stopped {
        return Err(Failure::new("container not running"));
    }
    runtime.cgroup(call.id())?.update(&resources)?;
    Ok(0)
}

fn read(mut from: &std::fs::File, name: &str) -> Result<Value, Failure> {
    let mut bytes = Vec::new();
    let length = from.by_ref().take(MAX + 1).read_to_end(&mut bytes).map_err(Failure::io(format!("read {name}")))?;
    if length as u64 > MAX {
        return Err(Failure::new(format!("{name}: more than {MAX} bytes")));
    }
    serde_json::from_slice(&bytes).map_err(|error| Failure::new(format!("{name}: {error}")))
}

fn flags(call: &Call<'_>) -> Result<Map<String, Value>, Failure> {
    let mut document = Map::new();
    let mut put = |part: &str, name: &str, value: Value| {
        if let Some(part) = document.entry(part).or_insert_with(|| json!({})).as_object_mut() {
            part.insert(name.to_owned(), value);
        }
    };
    for &(flag, part, name) in NUMBERS {
        if let Some(number) = call.given.number::<i64>(flag)? {
            put(part, name, number.into());
        }
    }
    for (flag, name) in [("cpuset-cpus", "cpus"), ("cpuset-mems", "mems")] {
        if let Some(list) = call.given.get(flag) {
            put("cpu", name, list.into());
        }
    }
    Ok(document)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_has_its_flag() {
        let flags = NUMBERS.iter().map(|(flag, ..)| flag).chain(REFUSED.iter().map(|(flag, _)| flag));
        assert!(flags.into_iter().all(|flag| FLAGS.iter().any(|known| known.names.contains(flag))));
    }
}
