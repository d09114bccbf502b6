//! Whoever listens to the notifications of a filter is given the listener, and told whose it is.

use engine_shim::plan::Op;
use oci_spec::runtime::LinuxSeccomp;

use super::Resource;
use super::writer::Writer;
use crate::Error;
use crate::hooks::State;
use crate::seccomp::{Filter, notifies};

pub(super) fn write(
    plan: &mut Writer,
    seccomp: Option<&LinuxSeccomp>,
    state: &State<'_>,
    filter: Option<&Filter>,
) -> Result<(), Error> {
    let Some(seccomp) = seccomp.filter(|seccomp| filter.is_some() && notifies(seccomp)) else { return Ok(()) };
    let Some(path) = seccomp.listener_path() else { return Ok(()) };
    let socket = plan.descriptor(Resource::Connected(path.clone()));
    let text = |value: &str| serde_json::to_string(value).unwrap_or_default();
    let before = format!(
        "{{\"ociVersion\":{},\"fds\":[\"seccompFd\"],\"metadata\":{},\"pid\":",
        text(state.oci_version),
        text(seccomp.listener_metadata().as_deref().unwrap_or_default())
    );
    let (head, tail) = state.around_pid();
    let between = format!(",\"state\":{head}");
    let after = format!("{tail}}}");
    if before.len() + between.len() + after.len() > 200 << 10 {
        return Err(Error::Invalid("the state that goes with a seccomp listener has more than 200 KiB".to_owned()));
    }
    plan.with_four([before.as_bytes(), between.as_bytes(), after.as_bytes(), b""], |[before, between, after, _]| {
        Op::SeccompListener { socket, before, between, after }
    });
    Ok(())
}
