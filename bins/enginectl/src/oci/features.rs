//! `features`: what this runtime can do, as the specification's document.

use engine_runtime::{Host, KernelVersion, capabilities};
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
        call.print_json(&document(Host::probe()?.kernel))?;
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
    "dirsync",
    "exec",
    "idmap",
    "iversion",
    "lazytime",
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
    "sync",
    "tmpcopyup",
    "unbindable",
];

/// Flags of filters, and the kernel from which on there is each.
const FILTER_FLAGS: &[(&str, u32, u32)] = &[
    ("SECCOMP_FILTER_FLAG_LOG", 4, 14),
    ("SECCOMP_FILTER_FLAG_SPEC_ALLOW", 4, 17),
    ("SECCOMP_FILTER_FLAG_TSYNC", 3, 17),
    ("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", 5, 19),
];

/// What is known, whether this machine has it or not; only of the flags of filters it says what the kernel can do.
fn document(kernel: KernelVersion) -> Value {
    let mut held: Vec<_> = capabilities::set(u64::MAX).into_iter().map(capabilities::name).collect();
    held.sort();
    let known: Vec<_> = FILTER_FLAGS.iter().map(|(flag, ..)| *flag).collect();
    let there = |(_, major, minor): &&(&str, u32, u32)| kernel >= KernelVersion { major: *major, minor: *minor };
    let supported: Vec<_> = FILTER_FLAGS.iter().filter(there).map(|(flag, ..)| *flag).collect();
    let on = json!({ "enabled": true });
    json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": SPECIFICATION,
        "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        "mountOptions": MOUNT_OPTIONS,
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"],
            "capabilities": held,
            "cgroup": { "v1": true, "v2": true, "systemd": true, "systemdUser": false, "rdma": true },
            "seccomp": {
                "enabled": true,
                "actions": [
                    "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD",
                    "SCMP_ACT_LOG", "SCMP_ACT_NOTIFY", "SCMP_ACT_TRACE", "SCMP_ACT_TRAP"
                ],
                "operators": [
                    "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT", "SCMP_CMP_MASKED_EQ",
                    "SCMP_CMP_NE"
                ],
                "archs": [
                    "SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM", "SCMP_ARCH_LOONGARCH64", "SCMP_ARCH_M68K", "SCMP_ARCH_MIPS",
                    "SCMP_ARCH_MIPS64", "SCMP_ARCH_MIPS64N32", "SCMP_ARCH_MIPSEL", "SCMP_ARCH_MIPSEL64",
                    "SCMP_ARCH_MIPSEL64N32", "SCMP_ARCH_PARISC", "SCMP_ARCH_PARISC64", "SCMP_ARCH_PPC", "SCMP_ARCH_PPC64",
                    "SCMP_ARCH_PPC64LE", "SCMP_ARCH_RISCV64", "SCMP_ARCH_S390", "SCMP_ARCH_S390X", "SCMP_ARCH_SH",
                    "SCMP_ARCH_SHEB", "SCMP_ARCH_X32", "SCMP_ARCH_X86", "SCMP_ARCH_X86_64"
                ],
                "knownFlags": known,
                "supportedFlags": supported
            },
            "apparmor": on,
            "selinux": on,
            "intelRdt": { "enabled": false },
            "memoryPolicy": {
                "modes": [
                    "MPOL_BIND", "MPOL_DEFAULT", "MPOL_INTERLEAVE", "MPOL_LOCAL", "MPOL_PREFERRED", "MPOL_PREFERRED_MANY",
                    "MPOL_WEIGHTED_INTERLEAVE"
                ],
                "flags": ["MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES"]
            },
            "mountExtensions": { "idmap": on },
            "netDevices": on
        },
        // No annotation changes what is done.
        "potentiallyUnsafeConfigAnnotations": []
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use engine_runtime::spec::{
        Arch, LinuxMemoryPolicy, LinuxNamespaceType, LinuxSeccompAction, LinuxSeccompFilterFlag, LinuxSeccompOperator,
    };
    use serde::de::DeserializeOwned;

    use super::*;

    fn each_is<T: DeserializeOwned>(names: &Value) {
        for name in names.as_array().unwrap() {
            serde_json::from_value::<T>(name.clone()).unwrap();
        }
    }

    #[test]
    fn what_is_told_is_understood() {
        let document = document(KernelVersion { major: 6, minor: 0 });
        let linux = &document["linux"];
        assert!(linux["capabilities"].as_array().unwrap().contains(&json!("CAP_SYS_ADMIN")));
        each_is::<LinuxNamespaceType>(&linux["namespaces"]);
        let seccomp = &linux["seccomp"];
        each_is::<LinuxSeccompAction>(&seccomp["actions"]);
        each_is::<LinuxSeccompOperator>(&seccomp["operators"]);
        each_is::<Arch>(&seccomp["archs"]);
        each_is::<LinuxSeccompFilterFlag>(&seccomp["knownFlags"]);
        for mode in linux["memoryPolicy"]["modes"].as_array().unwrap() {
            let policy = json!({ "mode": mode, "flags": linux["memoryPolicy"]["flags"] });
            serde_json::from_value::<LinuxMemoryPolicy>(policy).unwrap();
        }
    }

    #[test]
    fn flags_of_filters_are_those_of_the_kernel() {
        let supported =
            |minor| document(KernelVersion { major: 5, minor })["linux"]["seccomp"]["supportedFlags"].clone();
        assert_eq!(supported(10).as_array().unwrap().len(), 3);
        assert_eq!(supported(19), document(KernelVersion { major: 5, minor: 19 })["linux"]["seccomp"]["knownFlags"]);
    }
}
