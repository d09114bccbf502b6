//! A launch without a monitor, as OCI runtimes do it: the process becomes a child of the program that started this one, has
//! that program's standard streams, and when that program ends goes to whoever looks after its orphans.

use core::ffi::CStr;

use crate::executor::{Executor, Streams};
use crate::monitor;
use crate::plan::{Op, Plan};
use crate::protocol::{Failure, Reason, Request};
use crate::report::Report;
use crate::system::{self, Descriptor, Errno, Forked, MAX_RIGHTS};

/// Launches the plan that comes through `connection`, where the executor goes on to report. The descriptors from 3 on, as many
/// as `kept` says, belong to the process.
pub(crate) fn run(connection: &CStr, kept: Option<&CStr>) -> ! {
    let kept = kept.map_or(Some(0), number);
    let (Some(connection), Some(kept)) = (number(connection), kept) else { system::exit(64) };
    let first = 3 + kept;
    if connection < first {
        system::exit(64);
    }
    if connection > first {
        system::close_between(first, connection - 1);
    }
    system::close_from(connection + 1, false);
    let _ = system::set_close_on_exec(connection, true);
    let _ = system::change_directory_to(c"/");
    system::set_umask(0);
    system::set_process_name(c"engine-launcher");
    system::reset_signals();
    match launch(connection, kept) {
        Ok(()) => system::exit(0),
        Err(failure) => {
            let _ = Report::Failed(failure).send(connection, &[]);
            system::exit(1)
        }
    }
}

fn launch(connection: Descriptor, kept: Descriptor) -> Result<(), Failure> {
    let malformed = Failure { index: 0, errno: 0, reason: Reason::Malformed };
    let mut message = [0; 64];
    let mut rights = [-1; MAX_RIGHTS];
    let received = system::receive(connection, &mut message, &mut rights, true).map_err(|errno| failed(0, errno))?;
    let asked = Request::decode(&message[..received.length.min(message.len())]);
    let [plan, descriptors @ ..] = &mut rights[..received.rights] else { return Err(malformed) };
    if received.truncated || asked != Some(Request::Launch {}) {
        return Err(malformed);
    }
    monitor::with_plan(*plan, descriptors, |plan, descriptors| {
        let executor = Executor::new(*plan, descriptors, connection).inheriting(kept.cast_unsigned());
        match fork(plan, descriptors)? {
            Forked::Child => executor.run(Streams { input: -1, output: -1, error: -1 }),
            Forked::Parent(pid, _) => {
                // Who does not hear it is gone, and the executor will notice that.
                let _ = Report::Born(pid).send(connection, &[]);
                Ok(())
            }
        }
    })
}

/// The executor is a sister of this process, so that its parent is the program that waits for it.
fn fork(plan: &Plan<'_>, descriptors: &[Descriptor]) -> Result<Forked, Failure> {
    let mut flags = system::CLONE_PARENT;
    let mut blame = 0;
    let mut cgroup = None;
    for (index, op) in plan.operations().enumerate() {
        match op {
            Op::Namespaces { flags: more } => {
                flags |= more;
                blame = index as u32;
            }
            Op::BornInCgroup { directory } => {
                cgroup = descriptors.get(usize::from(directory.0)).copied();
                blame = index as u32;
            }
            _ => {}
        }
    }
    system::fork(flags, cgroup).map_err(|errno| failed(blame, errno))
}

fn failed(index: u32, errno: Errno) -> Failure {
    Failure { index, errno: errno.0, reason: Reason::Syscall }
}

/// A descriptor in decimal digits.
fn number(digits: &CStr) -> Option<Descriptor> {
    digits.to_str().ok()?.parse().ok().filter(|number| *number >= 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_descriptors_are_numbers() {
        assert_eq!(number(c"17"), Some(17));
        for bad in [c"", c"-1", c"x", c"99999999999"] {
            assert_eq!(number(bad), None);
        }
    }
}
