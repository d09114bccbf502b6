//! Filters of system calls: from a profile over the OCI form to a program of the kernel's classic BPF.

mod abi;
mod assembler;
mod compile;
mod docker;
mod numbers;
#[cfg(test)]
mod peer_tests;
mod profile;
#[cfg(test)]
mod tests;

pub(crate) use compile::notifies;
pub use compile::{Filter, compile};
use oci_spec::runtime::{Capabilities, Spec};
pub use profile::Profile;

use crate::{Error, Host};

/// Compiles the filter of a container: its specification's, or Docker's for what its process may hold.
pub(crate) fn of(spec: &Spec, docker: bool, host: &Host) -> Result<Option<Filter>, Error> {
    let own = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref());
    match (docker, own) {
        (true, _) => compile(&Profile::docker().into_resolved(&held(spec), host)).map(Some),
        (false, own) => own.map(compile).transpose(),
    }
}

/// The bounding set of a container's process.
pub(crate) fn held(spec: &Spec) -> Capabilities {
    let process = spec.process().as_ref();
    process.and_then(|process| process.capabilities().as_ref()?.bounding().clone()).unwrap_or_default()
}
