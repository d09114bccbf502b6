//! Hooks: programs of the specification that are run, and waited for, before the container's own.

use core::ffi::CStr;

use super::process::decimal;
use super::{Executor, Step, Stop};
use crate::plan::Op;
use crate::protocol::Reason;
use crate::report::Report;
use crate::system::{self, CLONE_PIDFD, Descriptor, Errno, Forked, POLLIN, POLLOUT, PollEntry};

const PR_SET_PDEATHSIG: u32 = 1;

/// A hook of the plan; its arguments and its environment are the operations before it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hook<'a> {
    pub(super) path: &'a CStr,
    pub(super) before: &'a CStr,
    pub(super) after: &'a CStr,
    pub(super) milliseconds: u32,
    pub(super) index: u32,
}

impl Executor<'_> {
    /// The hooks that the engine runs on its side.
    pub(super) fn wait_for_hooks(&mut self) -> Step {
        Report::Prepared.send(self.channel, &[])?;
        match system::read(self.channel, &mut [0; 1])? {
            0 => Err(Reason::Died.into()),
            _ => Ok(()),
        }
    }

    /// The hooks that are run as the container's user right before its program.
    pub(super) fn run_start_hooks(&mut self) -> Step {
        for (index, op) in self.plan.operations().enumerate() {
            if let Op::Hook { path, before, after, milliseconds, at_start: 1, .. } = op {
                self.index = index as u32;
                self.run_hook(Hook { path, before, after, milliseconds, index: index as u32 })?;
            }
        }
        Ok(())
    }

    pub(super) fn run_hook(&mut self, hook: Hook<'_>) -> Step {
        let deadline = system::ticks() + u64::from(hook.milliseconds);
        let (reader, writer) = system::pipe()?;
        let lists = self.lists(hook.index)?;
        let (pid, pidfd) = match system::fork(CLONE_PIDFD, None)? {
            Forked::Child => {
                system::close(writer);
                system::exit(become_hook(hook.path, lists, reader))
            }
            Forked::Parent(pid, pidfd) => (pid, pidfd),
        };
        system::close(reader);
        // A hook that does not read its input is no reason to die.
        system::ignore_signal(system::SIGPIPE);
        let told = tell(writer, hook, deadline);
        system::close(writer);
        system::default_signal(system::SIGPIPE);
        let in_time = told && wait(pidfd, POLLIN, deadline);
        if !in_time {
            let _ = system::signal_process(pidfd, system::SIGKILL);
        }
        system::close(pidfd);
        let code = system::wait_for(pid)?;
        match code {
            _ if !in_time => Err(Reason::HookTimedOut.into()),
            0 => Ok(()),
            code => Err(Stop { errno: code, reason: Reason::HookFailed }),
        }
    }

    /// The arguments and the variables before the hook at `index`, each list ended by a null pointer.
    fn lists(&self, index: u32) -> Step<(&'static [*const u8], usize)> {
        let mut first = 0;
        let mut counts = [0, 0];
        for (at, op) in self.plan.operations().enumerate().take(index as usize) {
            match op {
                Op::HookArgument { .. } => counts[0] += 1,
                Op::HookVariable { .. } => counts[1] += 1,
                _ => {
                    first = at + 1;
                    counts = [0, 0];
                }
            }
        }
        let memory = system::map((counts[0] + counts[1] + 2) * size_of::<*const u8>())?;
        // SAFETY: a mapping is aligned to pages, and zeros are null pointers.
        let (_, pointers, _) = unsafe { memory.align_to_mut::<*const u8>() };
        let environment = counts[0] + 1;
        let mut next = [0, environment];
        for op in self.plan.operations().take(index as usize).skip(first) {
            let (list, value) = match op {
                Op::HookArgument { value } => (0, value),
                Op::HookVariable { value } => (1, value),
                _ => continue,
            };
            pointers[next[list]] = value.as_ptr().cast();
            next[list] += 1;
        }
        Ok((pointers, environment))
    }
}

/// Returns the exit code when the program cannot be executed.
fn become_hook(path: &CStr, (pointers, environment): (&[*const u8], usize), input: Descriptor) -> i32 {
    // The output of a hook is nobody's; the container's streams are not for it.
    let null = system::open_at(system::AT_FDCWD, c"/dev/null", system::O_RDWR | system::O_NOCTTY, 0);
    let ready = system::duplicate_to(input, 0, false)
        .and_then(|()| system::control_process(PR_SET_PDEATHSIG, system::SIGKILL as u64, 0).map(drop));
    if ready.is_err() {
        return 126;
    }
    for stream in 1..3 {
        match null {
            Ok(null) => drop(system::duplicate_to(null, stream, false)),
            Err(_) => system::close(stream),
        }
    }
    // SAFETY: both lists end in null, and every string carries its NUL.
    let errno = unsafe { system::execute(path, pointers.as_ptr(), pointers[environment..].as_ptr()) };
    if errno == Errno::NOENT { 127 } else { 126 }
}

/// Writes the state of the container; says whether there was time for it.
fn tell(writer: Descriptor, hook: Hook<'_>, deadline: u64) -> bool {
    let _ = system::set_nonblocking(writer);
    let mut digits = [0; 12];
    let pid = decimal(system::own_pid(), &mut digits);
    for mut part in [hook.before.to_bytes(), pid, hook.after.to_bytes()] {
        while !part.is_empty() {
            match system::write(writer, part) {
                Ok(written) => part = part.get(written..).unwrap_or_default(),
                Err(Errno::AGAIN) if wait(writer, POLLOUT, deadline) => {}
                Err(Errno::AGAIN) => return false,
                // It does not want to know.
                Err(_) => return true,
            }
        }
    }
    true
}

/// Waits until something happens to a descriptor; `false` when the time is over.
fn wait(descriptor: Descriptor, events: i16, deadline: u64) -> bool {
    loop {
        let left = deadline.saturating_sub(system::ticks());
        let mut entries = [PollEntry { descriptor, events, happened: 0 }];
        match system::poll(&mut entries, Some(u32::try_from(left).unwrap_or(u32::MAX))) {
            Ok(0) if left == 0 => return false,
            Ok(0) => {}
            Ok(_) => return true,
            Err(_) => return false,
        }
    }
}
