//! `events`: what a container uses, once or again and again, and that it ran out of memory.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use engine_runtime::Cgroup;
use engine_runtime::cgroup::Usage;
use engine_sys::process;
use serde_json::{Value, json};

use super::failure::Failure;
use super::flags::{Place, switch, value};
use super::state::{Record, Status};
use super::{Call, Verb};
use crate::output::time::parse_duration;

pub(super) const EVENTS: Verb = Verb {
    name: "events",
    words: "ID",
    about: "Print what a container uses, and when it runs out of memory, until it ends",
    flags: &[
        value(&["interval"], "how long to wait between two looks (default: 5s)"),
        switch(&["stats"], "print what it uses now, and end"),
    ],
    place: Place::Anywhere,
    count: (1, 1),
    run: events,
};

/// How often it is looked whether memory ran out: a counter is read, which costs nearly nothing.
const LOOK: Duration = Duration::from_millis(200);

fn events(call: &Call<'_>) -> Result<u8, Failure> {
    let interval = call.given.get("interval").unwrap_or("5s");
    let interval = parse_duration(interval).ok().and_then(|nanos| u64::try_from(nanos).ok()).filter(|nanos| *nanos > 0);
    let interval = interval.ok_or_else(|| Failure::new("duration interval must be greater than 0"))?;
    let interval = Duration::from_nanos(interval);
    let runtime = call.runtime()?;
    let record = Record::read(&runtime, call.id())?;
    let stopped = || Failure::new(format!("container with id {} is not running", call.id()));
    if record.status(&runtime)? == Status::Stopped {
        return Err(stopped());
    }
    let cgroup = runtime.cgroup(call.id())?;
    if call.given.is_on("stats") {
        print(call, &stats(call.id(), &usage(&cgroup)?))?;
        return Ok(0);
    }
    let init = record.init().ok_or_else(stopped)?;
    let mut killed = cgroup.oom_kills()?;
    let mut next = Instant::now() + interval;
    loop {
        let wait = LOOK.min(next.saturating_duration_since(Instant::now()));
        let ended = process::wait(init.as_fd(), Some(wait)).map_err(Failure::io("wait for the container"))?;
        // With its end the cgroup may go, and its counters with it.
        let now = cgroup.oom_kills().unwrap_or(killed);
        if now > killed {
            print(call, &json!({ "type": "oom", "id": call.id() }))?;
            killed = now;
        }
        if ended {
            return Ok(0);
        }
        if Instant::now() >= next {
            print(call, &stats(call.id(), &usage(&cgroup)?))?;
            next += interval;
        }
    }
}

fn print(call: &Call<'_>, event: &Value) -> Result<(), Failure> {
    call.print(&format!("{event}\n"))
}

fn usage(cgroup: &Cgroup) -> Result<Usage, Failure> {
    cgroup.usage().map_err(Failure::io("read what the container uses"))
}

/// The form of `runc`'s events. What this machine does not count is left out.
fn stats(id: &str, usage: &Usage) -> Value {
    let Usage { cpu, memory, pids, io } = usage;
    let cache = memory.details.get("cache").or(memory.details.get("file")).copied().unwrap_or(0);
    let disks = |read: fn(&engine_runtime::cgroup::IoUsage) -> [u64; 2]| -> Value {
        let entry = |disk: &engine_runtime::cgroup::IoUsage| {
            let of = |(op, value)| json!({ "major": disk.major, "minor": disk.minor, "op": op, "value": value });
            ["Read", "Write"].into_iter().zip(read(disk)).map(of).collect::<Vec<_>>()
        };
        io.iter().flat_map(entry).collect()
    };
    json!({
        "type": "stats",
        "id": id,
        "data": {
            "cpu": {
                "usage": { "total": cpu.total, "percpu": cpu.by_processor, "kernel": cpu.system, "user": cpu.user },
                "throttling": {
                    "periods": cpu.periods,
                    "throttledPeriods": cpu.throttled_periods,
                    "throttledTime": cpu.throttled
                }
            },
            "memory": {
                "cache": cache,
                "usage": {
                    "limit": memory.limit.unwrap_or(u64::MAX),
                    "usage": memory.usage,
                    "max": memory.peak.unwrap_or(0),
                    "failcnt": memory.failures
                },
                "raw": memory.details
            },
            "pids": { "current": pids.current, "limit": pids.limit.unwrap_or(0) },
            "blkio": {
                "ioServiceBytesRecursive": disks(|disk| [disk.read_bytes, disk.write_bytes]),
                "ioServicedRecursive": disks(|disk| [disk.reads, disk.writes])
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use engine_runtime::cgroup::IoUsage;

    use super::*;

    #[test]
    fn numbers_are_where_their_readers_look() {
        let mut usage = Usage::default();
        (usage.cpu.total, usage.cpu.user, usage.memory.usage, usage.pids.current) = (30, 20, 4096, 3);
        usage.memory.details.insert("file".to_owned(), 1024);
        usage.io.push(IoUsage { major: 8, minor: 16, write_bytes: 5, reads: 1, ..IoUsage::default() });
        let event = stats("c1", &usage);
        let data = &event["data"];
        assert_eq!((&event["type"], &event["id"]), (&json!("stats"), &json!("c1")));
        assert_eq!((&data["cpu"]["usage"]["total"], &data["cpu"]["usage"]["user"]), (&json!(30), &json!(20)));
        assert_eq!((&data["memory"]["usage"]["limit"], &data["memory"]["cache"]), (&json!(u64::MAX), &json!(1024)));
        assert_eq!((&data["pids"]["current"], &data["pids"]["limit"]), (&json!(3), &json!(0)));
        assert_eq!(
            data["blkio"]["ioServiceBytesRecursive"][1],
            json!({ "major": 8, "minor": 16, "op": "Write", "value": 5 })
        );
        assert_eq!(data["blkio"]["ioServicedRecursive"][0]["value"], json!(1));
    }
}
