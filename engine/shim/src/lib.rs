//! The engine's embedded program (spawner, monitor and init), and the formats it speaks.
//!
//! The program is freestanding: no standard library, no heap, no libc. This library holds the parts
//! that both sides share, so that they can be tested as ordinary code.
#![no_std]

#[cfg(test)]
extern crate std;

pub mod plan;
pub mod protocol;
pub mod report;

// What the program alone uses, compiled here as well so that tests and lints see it.
mod accounts;
mod beneath;
#[allow(dead_code, reason = "the program's main")]
mod direct;
mod executor;
mod monitor;
#[allow(dead_code, reason = "the program's main")]
mod spawner;
mod system;

/// The program itself: a static ELF file for the target that this crate is built for.
pub static PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/program"));

#[cfg(test)]
mod tests {
    use super::PROGRAM;

    #[test]
    fn the_program_is_a_static_elf_file() {
        assert_eq!(&PROGRAM[..4], b"\x7fELF");
        let kind = u16::from_le_bytes([PROGRAM[16], PROGRAM[17]]);
        assert_eq!(kind, 2, "an executable at a fixed address needs no dynamic linker");
        assert!(PROGRAM.len() < 200 << 10, "{} bytes", PROGRAM.len());
    }
}
