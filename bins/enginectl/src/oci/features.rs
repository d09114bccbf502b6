//! `features`: what this runtime can do, as the specification's document.

use engine_runtime::{Host, capabilities};
use serde_json::{Value, json};

use super::flags::Place;
use super::{Call, SPECIFICATION, Verb};

pub(super) const FEATURES: Verb = Verb {
    name: "features",
    words: "",
    about: "Print what this runtime can do",
    flags: &[],
    place: Place::Anywhere,
    count: (0, 0),
    run: |call: &Call<'_>| {
        let host = Host::probe()?;
        call.print_json(&document(&host))?;
        call.print("\n")?;
        Ok(0)
    },
};

/// Words of mounts that are understood; others are handed to the file system.
const MOUNT_OPTIONS: &[&str] = &[
    "async",
    "atime",
    "bind",
    "defaults",
    "dev",
    "diratime",
    "exec",
    "idmap",
    "loud",
    "noatime",
    "nodev",
    "nodiratime",
    "noexec",
    "noiversion",
    "nolazytime",
    "nomand",
    "norelatime",
    "nostrictatime",
    "nosuid",
    "nosymfollow",
    "private",
    "ratime",
    "rbind",
    "rdev",
    "rdiratime",
    "relatime",
    "remount",
    "rexec",
    "ridmap",
    "rnoatime",
    "rnodev",
    "rnodiratime",
    "rnoexec",
    "rnorelatime",
    "rnostrictatime",
    "rnosuid",
    "rnosymfollow",
    "ro",
    "rprivate",
    "rrelatime",
    "rro",
    "rrw",
    "rshared",
    "rslave",
    "rstrictatime",
    "rsuid",
    "rsymfollow",
    "runbindable",
    "rw",
    "shared",
    "silent",
    "slave",
    "strictatime",
    "suid",
    "symfollow",
    "tmpcopyup",
    "unbindable",
];

fn document(host: &Host) -> Value {
    let mut held: Vec<_> = capabilities::set(u64::MAX).into_iter().map(capabilities::name).collect();
    held.sort();
    let off = json!({ "enabled": false });
    json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": SPECIFICATION,
        "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        "mountOptions": MOUNT_OPTIONS,
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"],
            "capabilities": held,
            "cgroup": { "v1": true, "v2": true, "systemd": true, "systemdUser": false },
            "seccomp": {
                "enabled": host.features.seccomp,
                "actions": [
                    "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD",
                    "SCMP_ACT_LOG", "SCMP_ACT_NOTIFY", "SCMP_ACT_TRACE", "SCMP_ACT_TRAP"
                ],
                "operators": [
                    "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT", "SCMP_CMP_MASKED_EQ",
                    "SCMP_CMP_NE"
                ],
                "archs": ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM", "SCMP_ARCH_X32", "SCMP_ARCH_X86", "SCMP_ARCH_X86_64"]
            },
            "apparmor": { "enabled": host.features.apparmor },
            "selinux": { "enabled": host.features.selinux },
            "intelRdt": off,
            "mountExtensions": { "idmap": { "enabled": host.features.mount_setattr } },
            "netDevices": { "enabled": true }
        }
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_document_says_what_is_there() {
        let document = document(&Host::probe().unwrap());
        assert!(document["linux"]["capabilities"].as_array().unwrap().contains(&json!("CAP_SYS_ADMIN")));
        assert_eq!(document["linux"]["seccomp"]["enabled"], true);
    }
}
