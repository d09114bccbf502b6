//! `spec`: a configuration to begin with.

use std::path::Path;

use serde_json::{Value, json};

use super::failure::Failure;
use super::flags::{Place, switch, value};
use super::{Call, SPECIFICATION, Verb};

pub(super) const SPEC: Verb = Verb {
    name: "spec",
    words: "",
    about: "Write a config.json to begin with",
    flags: &[
        value(&["bundle", "b"], "the directory to write to (default: the working directory)"),
        switch(&["rootless"], "not supported: the runtime is to be run as root"),
    ],
    place: Place::Anywhere,
    count: (0, 0),
    run: spec,
};

fn spec(call: &Call<'_>) -> Result<u8, Failure> {
    if call.given.is_on("rootless") {
        return Err(Failure::new("--rootless is not supported: the runtime is to be run as root"));
    }
    let path = Path::new(call.given.get("bundle").unwrap_or(".")).join("config.json");
    let text = serde_json::to_string_pretty(&document()).map_err(|error| Failure::new(error.to_string()))?;
    let file = std::fs::OpenOptions::new().write(true).create_new(true).open(&path);
    match file.and_then(|mut file| std::io::Write::write_all(&mut file, format!("{text}\n").as_bytes())) {
        Ok(()) => Ok(0),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            Err(Failure::new("File config.json exists. Remove it first"))
        }
        Err(error) => Err(Failure::io(format!("write {}", path.display()))(error)),
    }
}

/// A shell at a terminal, with little power and a root that it cannot write to.
fn document() -> Value {
    let held = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    let mount = |destination: &str, kind: &str, source: &str, options: &[&str]| json!({ "destination": destination, "type": kind, "source": source, "options": options });
    json!({
        "ociVersion": SPECIFICATION,
        "process": {
            "terminal": true,
            "user": { "uid": 0, "gid": 0 },
            "args": ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": { "bounding": held, "effective": held, "permitted": held },
            "rlimits": [{ "type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024 }],
            "noNewPrivileges": true
        },
        "root": { "path": "rootfs", "readonly": true },
        "hostname": "engine",
        "mounts": [
            mount("/proc", "proc", "proc", &[]),
            mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount("/dev/pts", "devpts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
            mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
            mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
            mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
            mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"])
        ],
        "linux": {
            "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
            "namespaces": [
                { "type": "pid" }, { "type": "network" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" },
                { "type": "cgroup" }
            ],
            "maskedPaths": [
                "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
                "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi"
            ],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
        }
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_document_is_a_specification() {
        let spec: engine_runtime::spec::Spec = serde_json::from_value(document()).unwrap();
        assert!(spec.process().as_ref().unwrap().terminal().unwrap());
    }
}
