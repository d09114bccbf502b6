//! Filters of system calls: from a profile over the OCI form to a program of the kernel's classic BPF.

mod docker;
mod numbers;
mod profile;

pub use profile::Profile;
