//! The calling conventions that a machine of ours can run, and how a filter tells them apart.

use oci_spec::runtime::Arch;

use super::numbers::TABLE;

/// A calling convention: what `seccomp_data.arch` says, and which number means which call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Abi {
    X86_64,
    X86,
    X32,
    Aarch64,
    Arm,
}

/// The bit that tells x32 from x86_64; both have one `arch`.
pub(super) const X32_BIT: u32 = 0x4000_0000;

/// Names that other machines have. They mean nothing here, but they are no misspelling.
const FOREIGN: [&str; 7] = [
    "riscv_flush_icache",
    "riscv_hwprobe",
    "s390_guarded_storage",
    "s390_pci_mmio_read",
    "s390_pci_mmio_write",
    "s390_runtime_instr",
    "swapcontext",
];

impl Abi {
    pub(super) const NATIVE: Self = if cfg!(target_arch = "aarch64") { Self::Aarch64 } else { Self::X86_64 };

    /// `None`: not of this family of machines, so that a process can never come by that way.
    pub(super) fn of(arch: Arch) -> Option<Self> {
        Some(match arch {
            Arch::ScmpArchNative => Self::NATIVE,
            Arch::ScmpArchX86_64 => Self::X86_64,
            Arch::ScmpArchX86 => Self::X86,
            Arch::ScmpArchX32 => Self::X32,
            Arch::ScmpArchAarch64 => Self::Aarch64,
            Arch::ScmpArchArm => Self::Arm,
            _ => return None,
        })
    }

    /// `AUDIT_ARCH_*` of `linux/audit.h`.
    pub(super) fn audit(self) -> u32 {
        match self {
            Self::X86_64 | Self::X32 => 0xc000_003e,
            Self::X86 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
            Self::Arm => 0x4000_0028,
        }
    }

    /// What is added to the numbers of the table.
    pub(super) fn base(self) -> u32 {
        if self == Self::X32 { X32_BIT } else { 0 }
    }

    /// The number of a call as a filter sees it; `None` when this convention has no such call.
    pub(super) fn of_table(self, numbers: Numbers) -> Option<u32> {
        let column = match self {
            Self::X86_64 => 0,
            Self::X86 => 1,
            Self::X32 => 2,
            Self::Aarch64 => 3,
            Self::Arm => 4,
        };
        Some(numbers[column]).filter(|number| *number != u32::MAX).map(|number| number + self.base())
    }
}

/// The numbers of a call in every convention, as the table has them.
pub(super) type Numbers = &'static [u32; 5];

/// Looks a call up by its name.
pub(super) fn numbers(name: &str) -> Option<Numbers> {
    let at = TABLE.binary_search_by_key(&name, |(name, _)| name).ok()?;
    Some(&TABLE[at].1)
}

/// Whether the call is one that only other machines have.
pub(super) fn is_foreign(name: &str) -> bool {
    FOREIGN.contains(&name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_table_is_in_order() {
        assert!(TABLE.is_sorted_by(|(a, _), (b, _)| a < b));
    }

    #[test]
    fn numbers_are_those_of_the_c_library() {
        let of = |abi: Abi, name| abi.of_table(numbers(name).unwrap());
        for (name, number) in [
            ("read", libc::SYS_read),
            ("clone3", libc::SYS_clone3),
            ("keyctl", libc::SYS_keyctl),
            ("openat2", libc::SYS_openat2),
            ("io_uring_setup", libc::SYS_io_uring_setup),
        ] {
            assert_eq!(of(Abi::NATIVE, name).map(i64::from), Some(number), "{name}");
        }
        assert_eq!(of(Abi::X32, "rt_sigaction"), Some(0x4000_0200));
        assert_eq!(of(Abi::X86, "socketcall"), Some(102));
        assert_eq!(of(Abi::Arm, "set_tls"), Some(0xf_0005));
        assert_eq!(of(Abi::Aarch64, "open"), None);
    }
}
