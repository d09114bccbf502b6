//! Filters of system calls: from a profile over the OCI form to a program of the kernel's classic BPF.

mod abi;
mod assembler;
mod compile;
mod docker;
mod numbers;
mod profile;
#[cfg(test)]
mod tests;

pub use compile::{Filter, compile};
pub use profile::Profile;
