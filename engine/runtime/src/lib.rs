//! From an OCI runtime specification to a running process.
//!
//! [`plan::compile`] decides everything purely: it turns a [`Bundle`] and what is known of the [`Host`] into a plan.
//! [`Runtime`] acts: it makes the cgroup and the run directory, opens what the plan needs, and has it executed.

mod bundle;
pub mod capabilities;
pub mod cgroup;
pub mod criu;
pub mod defaults;
mod error;
mod exec;
mod external;
mod failure;
pub mod hooks;
mod host;
mod interfaces;
pub mod monitor;
pub mod plan;
pub mod protocol;
mod runtime;
pub mod seccomp;
pub mod spawner;
mod state;
pub mod unattended;

pub use bundle::{Bundle, Exec, Output, Rootfs, Stdin, Unattended};
pub use cgroup::Cgroup;
pub use criu::{Criu, Dump};
pub use error::{Error, ErrorKind};
pub use exec::{CompiledExec, ExecPlan};
pub use external::External;
pub use host::{Features, Host, KernelVersion};
pub use monitor::{ExitRecord, Monitor};
pub use oci_spec::runtime as spec;
pub use runtime::{Prepared, Runtime, RuntimeSettings};
pub use spawner::Launched;
pub use state::{ContainerState, Status};
