#![allow(clippy::unwrap_used)]
//! Filters are run by a small interpreter and held against a plain reading of the rules.

use oci_spec::runtime::{
    Arch, Capabilities, Capability, LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompArg,
    LinuxSeccompArgBuilder, LinuxSeccompOperator as Op, LinuxSyscall,
};
use proptest::prelude::*;

use super::abi::{Abi, X32_BIT, numbers};
use super::compile::{KILL_PROCESS, compile_on};
use super::numbers::TABLE;
use super::*;
use crate::{KernelVersion, defaults};

const ABIS: [Abi; 5] = [Abi::X86_64, Abi::X86, Abi::X32, Abi::Aarch64, Abi::Arm];
const ALLOW: u32 = 0x7fff_0000;
const ERRNO: u32 = 0x0005_0000;
const EPERM: u32 = ERRNO | 1;
const ENOSYS: u32 = ERRNO | 38;

pub(super) fn number_of(abi: Abi, name: &str) -> Option<u32> {
    abi.of_table(numbers(name)?)
}

/// Runs a program as the kernel would: what it returns for a call.
pub(super) fn run(filter: &Filter, audit: u32, number: u32, arguments: [u64; 6]) -> u32 {
    let mut data = [0; 64];
    data[..4].copy_from_slice(&number.to_ne_bytes());
    data[4..8].copy_from_slice(&audit.to_ne_bytes());
    for (at, argument) in arguments.iter().enumerate() {
        data[16 + 8 * at..24 + 8 * at].copy_from_slice(&argument.to_ne_bytes());
    }
    let (mut at, mut loaded) = (0, 0_u32);
    loop {
        let instruction = &filter.program()[8 * at..8 * at + 8];
        let code = u16::from_ne_bytes([instruction[0], instruction[1]]);
        let operand = u32::from_ne_bytes(instruction[4..].try_into().unwrap());
        let jump = |taken: bool| usize::from(if taken { instruction[2] } else { instruction[3] });
        at += 1;
        match code {
            0x20 => {
                let offset = operand as usize;
                loaded = u32::from_ne_bytes(data[offset..offset + 4].try_into().unwrap());
            }
            0x54 => loaded &= operand,
            0x05 => at += operand as usize,
            0x15 => at += jump(loaded == operand),
            0x25 => at += jump(loaded > operand),
            0x35 => at += jump(loaded >= operand),
            0x06 => return operand,
            other => panic!("instruction {other:#x}"),
        }
    }
}

/// What the rules say, read from top to bottom.
fn read(seccomp: &LinuxSeccomp, abis: &[Abi], audit: u32, number: u32, arguments: [u64; 6]) -> u32 {
    let abi = abis.iter().copied().find(|abi| {
        abi.audit() == audit && (audit != Abi::X86_64.audit() || (*abi == Abi::X32) == (number >= X32_BIT))
    });
    let Some(abi) = abi else { return KILL_PROCESS };
    let value = |action: Action, errno: Option<u32>| match action {
        Action::ScmpActAllow => ALLOW,
        Action::ScmpActErrno => ERRNO | errno.unwrap_or(1),
        Action::ScmpActLog => 0x7ffc_0000,
        Action::ScmpActKillProcess => KILL_PROCESS,
        other => panic!("{other:?} is not tried"),
    };
    let holds = |argument: &LinuxSeccompArg| {
        let (given, wanted) = (arguments[argument.index()], argument.value());
        match argument.op() {
            Op::ScmpCmpEq => given == wanted,
            Op::ScmpCmpNe => given != wanted,
            Op::ScmpCmpLt => given < wanted,
            Op::ScmpCmpLe => given <= wanted,
            Op::ScmpCmpGt => given > wanted,
            Op::ScmpCmpGe => given >= wanted,
            Op::ScmpCmpMaskedEq => given & wanted == argument.value_two().unwrap_or(0),
        }
    };
    let mut newest = None;
    for call in seccomp.syscalls().iter().flatten() {
        for name in call.names() {
            let Some(known) = number_of(abi, name) else { continue };
            if abi != Abi::Arm || known < 0xf_0000 {
                newest = newest.max(Some(known));
            }
        }
    }
    for call in seccomp.syscalls().iter().flatten() {
        if !call.names().iter().any(|name| number_of(abi, name) == Some(number)) {
            continue;
        }
        let conditions = call.args().as_deref().unwrap_or_default();
        let twice = conditions
            .iter()
            .enumerate()
            .any(|(at, one)| conditions[..at].iter().any(|other| other.index() == one.index()));
        if if twice { conditions.iter().any(holds) } else { conditions.iter().all(holds) } {
            return value(call.action(), call.errno_ret());
        }
    }
    let default = value(seccomp.default_action(), seccomp.default_errno_ret());
    let named = seccomp.syscalls().iter().flatten().flat_map(LinuxSyscall::names);
    let is_named = named.into_iter().any(|name| number_of(abi, name) == Some(number));
    let refuses = !matches!(seccomp.default_action(), Action::ScmpActAllow | Action::ScmpActLog);
    if refuses && !is_named && newest.is_some() && Some(number) > newest { ENOSYS } else { default }
}

fn argument(index: usize, op: Op, value: u64, two: u64) -> LinuxSeccompArg {
    LinuxSeccompArgBuilder::default().index(index).op(op).value(value).value_two(two).build().unwrap()
}

fn call(names: &[&str], action: Action, arguments: &[LinuxSeccompArg]) -> LinuxSyscall {
    let mut call = LinuxSyscall::default();
    call.set_names(names.iter().map(|&name| name.to_owned()).collect())
        .set_action(action)
        .set_args((!arguments.is_empty()).then(|| arguments.to_vec()));
    call
}

fn filter(default: Action, architectures: &[Arch], calls: Vec<LinuxSyscall>) -> LinuxSeccomp {
    let mut seccomp = LinuxSeccomp::default();
    seccomp.set_default_action(default).set_architectures(Some(architectures.to_vec())).set_syscalls(Some(calls));
    seccomp
}

pub(super) fn docker(held: &Capabilities, machine: &str) -> LinuxSeccomp {
    Profile::docker().resolve_on(held, machine, KernelVersion { major: 6, minor: 18 })
}

fn arbitrary_argument() -> impl Strategy<Value = LinuxSeccompArg> {
    let ops =
        [Op::ScmpCmpEq, Op::ScmpCmpNe, Op::ScmpCmpLt, Op::ScmpCmpLe, Op::ScmpCmpGt, Op::ScmpCmpGe, Op::ScmpCmpMaskedEq];
    (0..6_usize, prop::sample::select(ops.to_vec()), word(), word())
        .prop_map(|(index, op, value, two)| argument(index, op, value, two))
}

/// Words that are near to each other in either half.
fn word() -> impl Strategy<Value = u64> {
    let half = prop_oneof![Just(0_u32), Just(1), Just(2), Just(u32::MAX), any::<u32>()];
    (half.clone(), half).prop_map(|(high, low)| u64::from(high) << 32 | u64::from(low))
}

fn arbitrary_call() -> impl Strategy<Value = LinuxSyscall> {
    let names = prop::collection::vec(0..TABLE.len(), 1..20);
    let actions = [Action::ScmpActAllow, Action::ScmpActErrno, Action::ScmpActLog, Action::ScmpActKillProcess];
    let arguments = prop_oneof![Just(Vec::new()), prop::collection::vec(arbitrary_argument(), 1..4)];
    (names, prop::sample::select(actions.to_vec()), arguments).prop_map(|(names, action, arguments)| {
        call(&names.iter().map(|at| TABLE[*at].0).collect::<Vec<_>>(), action, &arguments)
    })
}

fn number() -> impl Strategy<Value = u32> {
    prop_oneof![0..520_u32, (0..520_u32).prop_map(|n| n | X32_BIT), 0xf_0000..0xf_0010_u32, any::<u32>()]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_filter_says_what_its_rules_say(
        calls in prop::collection::vec(arbitrary_call(), 0..6),
        default in prop::sample::select(vec![Action::ScmpActAllow, Action::ScmpActErrno, Action::ScmpActKillProcess]),
        with_x32 in any::<bool>(),
        asked in prop::collection::vec((number(), prop::array::uniform6(word())), 48),
    ) {
        let mut architectures = vec![Arch::ScmpArchX86, Arch::ScmpArchArm, Arch::ScmpArchAarch64, Arch::ScmpArchMips];
        let mut abis = vec![Abi::X86_64, Abi::X86, Abi::Arm, Abi::Aarch64];
        if with_x32 {
            architectures.push(Arch::ScmpArchX32);
            abis.push(Abi::X32);
        }
        let seccomp = filter(default, &architectures, calls);
        let compiled = compile_on(&seccomp, Abi::X86_64).unwrap();
        for (number, arguments) in asked {
            for audit in ABIS.map(Abi::audit).into_iter().chain([0xdead]) {
                prop_assert_eq!(
                    run(&compiled, audit, number, arguments),
                    read(&seccomp, &abis, audit, number, arguments),
                    "{:#x} {} {:x?}", audit, number, arguments
                );
            }
        }
    }
}

#[test]
fn every_call_of_the_default_profile() {
    let more = [defaults::capabilities(), crate::capabilities::set(u64::MAX), Capabilities::new()];
    for held in &more {
        for (machine, abis) in [("amd64", &[Abi::X86_64, Abi::X86, Abi::X32][..]), ("arm64", &[Abi::Aarch64, Abi::Arm])]
        {
            let seccomp = docker(held, machine);
            let compiled = compile_on(&seccomp, abis[0]).unwrap();
            for abi in abis {
                for number in (0..600).map(|n| n + abi.base()).chain(0xf_0000..0xf_0010) {
                    let asked =
                        ["clone", "socket", "personality"].iter().any(|name| number_of(*abi, name) == Some(number));
                    let all = [0, 1, 8, 38, 39, 40, 41, 0x2_0008, 0x1000_0011, 0x11, u64::from(u32::MAX), 1 << 40];
                    for first in all.into_iter().take(if asked { 12 } else { 1 }) {
                        let arguments = [first, 0, 0, 0, 0, 0];
                        let got = run(&compiled, abi.audit(), number, arguments);
                        assert_eq!(
                            got,
                            read(&seccomp, abis, abi.audit(), number, arguments),
                            "{abi:?} {number} {first}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn the_default_profile_refuses_what_reaches_past_a_container() {
    let filter = compile_on(&docker(&defaults::capabilities(), "amd64"), Abi::X86_64).unwrap();
    let ask = |name: &str, first: u64| {
        run(&filter, Abi::X86_64.audit(), number_of(Abi::X86_64, name).unwrap(), [first, 0, 0, 0, 0, 0])
    };
    for name in ["read", "execve", "openat2", "chroot", "ptrace", "futex_waitv", "statmount", "arch_prctl", "mseal"] {
        assert_eq!(ask(name, 0), ALLOW, "{name}");
    }
    for name in [
        "io_uring_setup",
        "io_uring_enter",
        "io_uring_register",
        "keyctl",
        "add_key",
        "request_key",
        "bpf",
        "perf_event_open",
        "userfaultfd",
        "mount",
        "move_mount",
        "unshare",
        "setns",
        "kexec_load",
        "init_module",
        "open_by_handle_at",
        "iopl",
        "lsm_set_self_attr",
        "quotactl",
        "kcmp",
        "settimeofday",
        "swapon",
        "reboot",
        "vhangup",
        "mbind",
    ] {
        assert_eq!(ask(name, 0), EPERM, "{name}");
    }
    assert_eq!(ask("clone3", 0), ENOSYS);
    assert_eq!(ask("clone", 0x11), ALLOW);
    for flag in [0x2_0000, 0x200_0000, 0x400_0000, 0x800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000] {
        assert_eq!(ask("clone", flag | 0x11), EPERM, "clone {flag:#x}");
    }
    for (family, answer) in [(1, ALLOW), (2, ALLOW), (16, ALLOW), (38, EPERM), (39, ALLOW), (40, EPERM), (44, ALLOW)] {
        // The kernel does not look at the upper half.
        assert_eq!(ask("socket", 1 << 32 | family), answer, "socket family {family}");
        assert_eq!(ask("socket", family), answer, "socket family {family}");
    }
    for (persona, answer) in [(0, ALLOW), (8, ALLOW), (0x2_0000, ALLOW), (0xffff_ffff, ALLOW), (0x40_0000, EPERM)] {
        assert_eq!(ask("personality", persona), answer, "personality {persona:#x}");
    }
    assert_eq!(run(&filter, Abi::X86_64.audit(), 600, [0; 6]), ENOSYS, "newer than all that is known");
    assert_eq!(run(&filter, Abi::Aarch64.audit(), 0, [0; 6]), KILL_PROCESS, "not an architecture of this machine");
}

#[test]
fn capabilities_open_what_they_are_for() {
    let mut held = defaults::capabilities();
    held.insert(Capability::SysAdmin);
    let filter = compile_on(&docker(&held, "amd64"), Abi::X86_64).unwrap();
    for name in ["clone3", "mount", "unshare", "setns", "bpf"] {
        assert_eq!(
            run(&filter, Abi::X86_64.audit(), number_of(Abi::X86_64, name).unwrap(), [0x1000_0000; 6]),
            ALLOW,
            "{name}"
        );
    }
    let keyctl = number_of(Abi::X86_64, "keyctl").unwrap();
    assert_eq!(run(&filter, Abi::X86_64.audit(), keyctl, [0; 6]), EPERM);
}

#[test]
fn the_default_filter_is_small() {
    let filter = compile_on(&docker(&defaults::capabilities(), "amd64"), Abi::X86_64).unwrap();
    let instructions = filter.program().len() / 8;
    assert!(instructions < 500, "{instructions} instructions");
}

#[test]
fn what_cannot_be_compiled_is_refused() {
    let refuse = |calls| compile_on(&filter(Action::ScmpActAllow, &[], calls), Abi::X86_64).unwrap_err().to_string();
    let allow = Action::ScmpActAllow;
    assert!(refuse(vec![call(&["reed"], Action::ScmpActErrno, &[])]).contains("reed"));
    assert!(refuse(vec![call(&["read"], allow, &[argument(6, Op::ScmpCmpEq, 0, 0)])]).contains("argument 6"));
    assert!(refuse(vec![call(&["read"], Action::ScmpActNotify, &[])]).contains("needs a listenerPath"));
    let mut errno = call(&["read"], Action::ScmpActErrno, &[]);
    errno.set_errno_ret(Some(5000));
    assert!(refuse(vec![errno]).contains("5000"));
    let mut errno = call(&["read"], allow, &[]);
    errno.set_errno_ret(Some(1));
    assert!(refuse(vec![errno]).contains("an errno for SCMP_ACT_ALLOW"));
    assert!(refuse(vec![call(&[], Action::ScmpActErrno, &[])]).contains("no system call"));
}

#[test]
fn a_listener_whom_nobody_asks_is_not_needed() {
    let mut seccomp = filter(Action::ScmpActAllow, &[], vec![call(&["read"], Action::ScmpActErrno, &[])]);
    let without = compile_on(&seccomp, Abi::X86_64).unwrap();
    seccomp.set_listener_path(Some("/run/listener".into()));
    assert_eq!(compile_on(&seccomp, Abi::X86_64).unwrap(), without);
    seccomp.set_listener_path(None).set_listener_metadata(Some("x".to_owned()));
    assert!(compile_on(&seccomp, Abi::X86_64).unwrap_err().to_string().contains("listenerMetadata"));
}

#[test]
fn a_profile_in_json_is_read() {
    let json = br#"{
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1,
        "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]}],
        "syscalls": [
            {"names": ["read", "write"], "action": "SCMP_ACT_ALLOW", "comment": "both"},
            {"name": "mount", "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
            {"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}},
            {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38, "args": null,
             "excludes": {"caps": ["CAP_SYS_ADMIN"], "arches": ["s390x"]}}
        ]
    }"#;
    let profile = Profile::parse(json).unwrap();
    let names = |held: &Capabilities, kernel| {
        let seccomp = profile.clone().resolve_on(held, "amd64", kernel);
        assert_eq!(seccomp.architectures().as_ref().unwrap().len(), 3);
        seccomp.syscalls().iter().flatten().flat_map(LinuxSyscall::names).cloned().collect::<Vec<_>>()
    };
    let new = KernelVersion { major: 6, minor: 1 };
    assert_eq!(names(&Capabilities::new(), new), ["read", "write", "ptrace", "clone3"]);
    let admin: Capabilities = [Capability::SysAdmin].into_iter().collect();
    assert_eq!(names(&admin, KernelVersion { major: 4, minor: 4 }), ["read", "write", "mount"]);
}

#[test]
fn a_profile_that_is_not_understood_is_refused() {
    for (json, text) in [
        (r#"{"syscalls": []}"#, "defaultAction"),
        (r#"{"defaultAction": "SCMP_ACT_ERRNO", "sycalls": []}"#, "sycalls"),
        (r#"{"defaultAction": "SCMP_ACT_PERHAPS"}"#, "SCMP_ACT_PERHAPS"),
        (r#"{"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/x"}"#, "listener"),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86"],
                "archMap": [{"architecture": "SCMP_ARCH_X86_64"}]}"#,
            "either",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["a"], "name": "b", "action": "SCMP_ACT_ALLOW"}]}"#,
            "either",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["a"], "action": "SCMP_ACT_ALLOW",
                "includes": {"caps": ["CAP_FLY"]}}]}"#,
            "CAP_FLY",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["a"], "action": "SCMP_ACT_ALLOW",
                "includes": {"minKernel": "four"}}]}"#,
            "four",
        ),
    ] {
        let error = Profile::parse(json.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(text), "{json}: {error}");
    }
    assert!(Profile::parse(&vec![b' '; (1 << 20) + 1]).is_err());
}
