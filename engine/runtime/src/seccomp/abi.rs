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

    fn column(self) -> usize {
        match self {
            Self::X86_64 => 0,
            Self::X86 => 1,
            Self::X32 => 2,
            Self::Aarch64 => 3,
            Self::Arm => 4,
        }
    }

    /// The number of a call as a filter sees it; `None` when this convention has no such call.
    pub(super) fn number(self, name: &str) -> Option<u32> {
        let at = TABLE.binary_search_by_key(&name, |(name, _)| name).ok()?;
        let number = TABLE[at].1[self.column()];
        (number != u32::MAX).then(|| number + self.base())
    }
}

/// Whether any machine has a call of this name.
pub(super) fn is_known(name: &str) -> bool {
    TABLE.binary_search_by_key(&name, |(name, _)| name).is_ok() || FOREIGN.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order() {
        assert!(TABLE.is_sorted_by(|(a, _), (b, _)| a < b));
    }

    #[test]
    fn numbers_are_those_of_the_c_library() {
        for (name, number) in [
            ("read", libc::SYS_read),
            ("clone3", libc::SYS_clone3),
            ("keyctl", libc::SYS_keyctl),
            ("openat2", libc::SYS_openat2),
            ("io_uring_setup", libc::SYS_io_uring_setup),
        ] {
            assert_eq!(Abi::NATIVE.number(name).map(i64::from), Some(number), "{name}");
        }
        assert_eq!(Abi::X32.number("rt_sigaction"), Some(0x4000_0200));
        assert_eq!(Abi::X86.number("socketcall"), Some(102));
        assert_eq!(Abi::Arm.number("set_tls"), Some(0xf_0005));
        assert_eq!(Abi::Aarch64.number("open"), None);
    }
}
