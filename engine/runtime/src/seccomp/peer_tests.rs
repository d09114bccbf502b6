//! Our filter of the default profile beside that of libseccomp, which runc and crun use. What libseccomp made of it is kept in
//! `libseccomp/`; `tests/peers/seccomp/run` makes it anew.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use oci_spec::runtime::Capabilities;

use super::abi::Abi;
use super::compile::{Filter, compile_on};
use super::tests::{docker, number_of, run};
use crate::defaults;

const EPERM: u32 = 0x0005_0001;
const ENOSYS: u32 = 0x0005_0026;
/// Names of calls that the libseccomp of Debian 12 (2.5.4) does not know.
const UNKNOWN: &str = include_str!("libseccomp/unknown");

struct Case {
    name: &'static str,
    held: Capabilities,
    machine: &'static str,
    abis: &'static [Abi],
    /// The program that libseccomp made.
    theirs: &'static [u8],
}

fn cases() -> [Case; 5] {
    let amd64: &[Abi] = &[Abi::X86_64, Abi::X86, Abi::X32];
    let arm64: &[Abi] = &[Abi::Aarch64, Abi::Arm];
    let all = crate::capabilities::set(u64::MAX);
    let case =
        |name, held: &Capabilities, machine, abis, theirs| Case { name, held: held.clone(), machine, abis, theirs };
    let usual = defaults::capabilities();
    [
        case("amd64-default", &usual, "amd64", amd64, include_bytes!("libseccomp/amd64-default.bpf")),
        case("amd64-none", &Capabilities::new(), "amd64", amd64, include_bytes!("libseccomp/amd64-none.bpf")),
        case("amd64-all", &all, "amd64", amd64, include_bytes!("libseccomp/amd64-all.bpf")),
        case("arm64-default", &usual, "arm64", arm64, include_bytes!("libseccomp/arm64-default.bpf")),
        case("arm64-all", &all, "arm64", arm64, include_bytes!("libseccomp/arm64-all.bpf")),
    ]
}

/// Values around all that the profile compares with, and in the upper half of the word where there is one.
fn values(abi: Abi) -> Vec<u64> {
    let mut all: Vec<u64> = [0, 8, 38, 40, 44, 0x2_0000, 0x2_0008, 0x40_0000, 0x7e02_0000, 0x7fff_ffff, 0xffff_ffff]
        .into_iter()
        .flat_map(|value: u64| [value.saturating_sub(1), value, (value + 1).min(0xffff_ffff)])
        .chain((0..32).map(|bit| 1 << bit))
        .chain((0..32).map(|bit| 0x11 | 1 << bit))
        .collect();
    // Of the arguments of x32 libseccomp looks at the lower half alone, we at the whole, as the kernel has it.
    if matches!(abi, Abi::X86_64 | Abi::Aarch64) {
        all.extend([1 << 32, 1 << 40, u64::MAX, 38 << 32, (1 << 32) + 38, 0xffff_ffff_0000_0000]);
    }
    all
}

#[test]
fn decisions_are_those_of_libseccomp() {
    let unknown: BTreeSet<&str> = UNKNOWN.lines().collect();
    let mut compared = 0;
    if let Some(directory) = std::env::var_os("SECCOMP_PROFILES") {
        for case in cases() {
            let path = std::path::Path::new(&directory).join(format!("{}.json", case.name));
            std::fs::write(path, serde_json::to_vec(&docker(&case.held, case.machine)).unwrap()).unwrap();
        }
    }
    for Case { name, held, machine, abis, theirs } in cases() {
        let seccomp = docker(&held, machine);
        let ours = compile_on(&seccomp, abis[0]).unwrap();
        let theirs = Filter::of(theirs);
        for &abi in abis {
            let values = values(abi);
            // What is named at a number, and whether the arguments are asked for.
            let mut named: BTreeMap<u32, (Vec<&str>, bool)> = BTreeMap::new();
            for call in seccomp.syscalls().iter().flatten() {
                for name in call.names() {
                    let Some(number) = number_of(abi, name) else { continue };
                    let (names, asks) = named.entry(number).or_default();
                    names.push(name);
                    *asks |= call.args().is_some();
                }
            }
            let nothing = (Vec::new(), false);
            let ordinary = |number: &&u32| **number < 0xf_0000 || abi != Abi::Arm;
            let newest = *named.keys().filter(ordinary).max().unwrap();
            let private = (0xf_0000..0xf_0010).filter(|_| abi == Abi::Arm);
            for number in (0..1024).map(|number| number + abi.base()).chain(private) {
                let (names, asks) = named.get(&number).unwrap_or(&nothing);
                if names.iter().any(|name| unknown.contains(name)) {
                    continue;
                }
                let some = if *asks { usize::MAX } else { 4 };
                for &value in values.iter().take(some) {
                    let arguments = [value, value ^ 0x55, 0, 1, value, 7];
                    let own = run(&ours, abi.audit(), number, arguments);
                    let peer = run(&theirs, abi.audit(), number, arguments);
                    // runc puts the same before what libseccomp makes.
                    let newer = own == ENOSYS && peer == EPERM && number > newest;
                    assert!(
                        own == peer || newer,
                        "{name}: {abi:?} {number} {value:#x} ({names:?}): {own:#x}, libseccomp {peer:#x}"
                    );
                    compared += 1;
                }
            }
        }
        for audit in [0xc000_0015, 0x8000_0016, 0xdead] {
            assert_eq!(run(&ours, audit, 1, [0; 6]), run(&theirs, audit, 1, [0; 6]), "{name}: {audit:#x}");
        }
    }
    assert!(compared > 50_000, "{compared} decisions");
}
