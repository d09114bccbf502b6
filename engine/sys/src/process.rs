//! Processes by pidfd: signals and waiting that cannot hit the wrong process.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, Signal};

/// A pidfd of a process.
///
/// # Errors
/// `ESRCH` when there is no such process.
pub fn open(pid: u32) -> io::Result<OwnedFd> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(rustix::process::pidfd_open(pid, PidfdFlags::empty())?)
}

/// The pid of the process behind a pidfd, as this process sees it; `None` when it is gone, or is not to be seen.
///
/// # Errors
/// When `/proc` cannot be read, or it is no pidfd.
pub fn pid(process: impl AsFd) -> io::Result<Option<u32>> {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", process.as_fd().as_raw_fd()))?;
    let pid = text.lines().find_map(|line| line.strip_prefix("Pid:"));
    let pid: i64 = pid.and_then(|pid| pid.trim().parse().ok()).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(u32::try_from(pid).ok().filter(|pid| *pid > 0))
}

/// Sends a signal by number. A process that is gone is not an error: `false`.
///
/// # Errors
/// `EPERM`, or [`io::ErrorKind::InvalidInput`] for a number that is no signal.
pub fn signal(process: impl AsFd, number: i32) -> io::Result<bool> {
    // Real-time signals have names in no library: the kernel checks the number.
    let signal = match Signal::from_named_raw(number) {
        Some(signal) => signal,
        None if (32..=64).contains(&number) => real_time(number),
        None => return Err(io::ErrorKind::InvalidInput.into()),
    };
    match rustix::process::pidfd_send_signal(process, signal) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::SRCH) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn real_time(number: i32) -> Signal {
    // SAFETY: the library reserves some real-time signals for libc's own threads; sending one to another process
    // touches none of ours, and the kernel checks the range.
    unsafe { Signal::from_raw_unchecked(number) }
}

/// Waits until the process is gone; `None` waits for ever. Says whether it is.
///
/// # Errors
/// What `poll` says.
pub fn wait(process: impl AsFd, timeout: Option<Duration>) -> io::Result<bool> {
    let deadline = timeout.map(|timeout| std::time::Instant::now() + timeout);
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(std::time::Instant::now()));
        let left = left.map(Timespec::try_from).transpose().map_err(|_| io::ErrorKind::InvalidInput)?;
        let process = process.as_fd();
        match rustix::event::poll(&mut [PollFd::new(&process, PollFlags::IN)], left.as_ref()) {
            Ok(ready) => return Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The program will begin with this soft limit of open files, or with the hard limit when that is lower.
pub fn limit_open_files(command: &mut Command, count: u64) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = move || {
        let before = getrlimit(Resource::Nofile);
        let current = before.maximum.map_or(count, |maximum| maximum.min(count));
        setrlimit(Resource::Nofile, Rlimit { current: Some(current), ..before }).map_err(io::Error::from)
    };
    // SAFETY: between fork and exec it makes two system calls and allocates nothing.
    unsafe { command.pre_exec(limit) };
}

/// Starts a program that has `kept` under the same number as this process, besides the standard streams and what was not
/// close-on-exec already.
///
/// # Errors
/// As [`Command::spawn`].
pub fn spawn_with(command: &mut Command, kept: BorrowedFd<'_>) -> io::Result<Child> {
    let number = kept.as_raw_fd();
    let pass_on = move || {
        // SAFETY: the number stays that of an open descriptor as long as `kept`, and the new process has a copy of it. Only
        // there is the flag changed, so that no program that another thread starts gets it.
        let kept = unsafe { BorrowedFd::borrow_raw(number) };
        rustix::io::fcntl_setfd(kept, rustix::io::FdFlags::empty()).map_err(io::Error::from)
    };
    // SAFETY: between fork and exec one system call is made and nothing allocated.
    unsafe { command.pre_exec(pass_on) };
    command.spawn()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_program_has_the_descriptor_that_was_kept_for_it_and_no_other() {
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let (other, _) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        // Some shells know no numbers of more than one digit.
        let line =
            format!("test ! -e /proc/self/fd/{} && echo x >/proc/self/fd/{}", other.as_raw_fd(), writer.as_raw_fd());
        let mut child = spawn_with(Command::new("sh").arg("-c").arg(line), writer.as_fd()).unwrap();
        assert!(child.wait().unwrap().success());
        let mut buffer = [0; 8];
        assert_eq!(rustix::io::read(&reader, &mut buffer).unwrap(), 2);
        assert!(rustix::io::fcntl_getfd(&writer).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
    }

    #[test]
    fn a_process_is_signalled_and_waited_for() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let process = open(child.id()).unwrap();
        assert_eq!(pid(&process).unwrap(), Some(child.id()));
        assert!(!wait(&process, Some(Duration::ZERO)).unwrap());
        assert!(signal(&process, 0).is_err());
        assert!(signal(&process, 65).is_err());
        assert!(signal(&process, 34).unwrap());
        assert!(wait(&process, None).unwrap());
        child.wait().unwrap();
        assert!(!signal(&process, 9).unwrap());
        assert_eq!(pid(&process).unwrap(), None);
        assert!(pid(std::io::stdin()).is_err(), "it is no process");
    }
}
