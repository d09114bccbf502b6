//! From an OCI runtime specification to a running process.
//!
//! What is to be done is decided purely: the plan compiler turns a [`Bundle`] and what is known of the [`Host`] into a plan.
//! The runtime acts: it makes the cgroup and the run directory, opens what the plan needs, and has it executed.

mod bundle;
pub mod capabilities;
pub mod cgroup;
pub mod defaults;
mod error;
mod host;
pub mod seccomp;

pub use bundle::{Bundle, ExecTarget, Output, Rootfs, Stdin};
pub use error::{Error, ErrorKind};
pub use host::{Features, Host, KernelVersion};
pub use oci_spec::runtime as spec;
