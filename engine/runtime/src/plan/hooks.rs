//! The hooks of a specification that the shim runs: those in the container's namespaces, and the wait for all others.

use std::os::unix::ffi::OsStrExt;

use engine_shim::plan::Op;
use oci_spec::runtime::Hook;

use super::writer::Writer;
use crate::hooks::{State, timeout};
use crate::{Bundle, Error};

/// The engine gives it interfaces and runs the hooks of the host's side meanwhile; those of the container's namespaces by the shim, found in the
/// files of the host.
pub(super) fn before_pivot(plan: &mut Writer, bundle: &Bundle) -> Result<(), Error> {
    if crate::hooks::is_waited_for(bundle) {
        plan.push(Op::WaitForHooks {});
    }
    let Some(hooks) = bundle.spec.hooks() else { return Ok(()) };
    let state = State::new(bundle, "creating", None);
    write(plan, "createContainer", hooks.create_container().as_deref(), &state, false)
}

/// These are found in the files of the container, and run as its user.
pub(super) fn at_start(plan: &mut Writer, bundle: &Bundle) -> Result<(), Error> {
    let Some(hooks) = bundle.spec.hooks() else { return Ok(()) };
    let state = State::new(bundle, "created", None);
    write(plan, "startContainer", hooks.start_container().as_deref(), &state, true)
}

fn write(
    plan: &mut Writer,
    kind: &str,
    hooks: Option<&[Hook]>,
    state: &State<'_>,
    at_start: bool,
) -> Result<(), Error> {
    for (number, hook) in hooks.unwrap_or_default().iter().enumerate() {
        let name = format!("{kind} hook #{number}");
        crate::hooks::check(&name, hook)?;
        let (before, after) = state.around_pid();
        let milliseconds = u32::try_from(timeout(hook).as_millis()).unwrap_or(u32::MAX);
        let path = hook.path().as_os_str().as_bytes();
        // Who names no arguments gets the path as the first one.
        match hook.args().as_deref().unwrap_or_default() {
            [] => plan.with_text(path, |value| Op::HookArgument { value }),
            arguments => {
                for value in arguments {
                    plan.with_text(value, |value| Op::HookArgument { value });
                }
            }
        }
        for value in hook.env().iter().flatten() {
            plan.with_text(value, |value| Op::HookVariable { value });
        }
        plan.with_four([path, name.as_bytes(), before.as_bytes(), after.as_bytes()], |[path, name, before, after]| {
            Op::Hook { path, name, before, after, milliseconds, at_start: at_start.into() }
        });
    }
    Ok(())
}
