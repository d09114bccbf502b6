//! What is said when a step of a plan fails: the words of the OCI runtimes, which clients look for.

use std::ffi::CStr;
use std::io;

use engine_shim::plan::{Op, Plan, Slot};

use crate::Error;
use crate::protocol::{Failure, Reason};

/// When a step failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum During {
    /// The launch of a container.
    Launch,
    /// An exec in a running one.
    Exec,
}

pub(crate) fn render(plan: &[u8], failure: Failure, during: During) -> Error {
    let steps: Vec<Op<'_>> = Plan::parse(plan).ok().iter().flat_map(Plan::operations).collect();
    let (text, exit_code) = describe(&steps, failure);
    let prefix = match during {
        During::Launch => "unable to start container process: error during container init: ",
        During::Exec => "unable to start container process: ",
    };
    Error::Process { message: format!("{prefix}{text}"), exit_code }
}

fn describe(steps: &[Op<'_>], failure: Failure) -> (String, i32) {
    let program = steps.iter().find_map(|op| if let Op::Arg { value } = op { Some(text(value)) } else { None });
    let program = program.unwrap_or_default();
    let step = usize::try_from(failure.index).ok().and_then(|index| steps.get(index));
    let errno = errno(failure.errno);
    match failure.reason {
        Reason::NotInPath => (format!("exec: {program:?}: executable file not found in $PATH"), 127),
        Reason::NotFound => (format!("exec: {program:?}: stat {program}: no such file or directory"), 127),
        Reason::PermissionDenied => (format!("exec: {program:?}: permission denied"), 126),
        Reason::IsDirectory => (format!("exec: {program:?}: is a directory: permission denied"), 126),
        Reason::Execute => {
            let code = if failure.errno == libc::ENOENT { 127 } else { 126 };
            (format!("exec {program}: {errno}"), code)
        }
        Reason::NoSuchUser => {
            (format!("unable to find user {}: no matching entries in passwd file", part(step, false)), 128)
        }
        Reason::NoSuchGroup => {
            (format!("unable to find group {}: no matching entries in group file", part(step, true)), 128)
        }
        Reason::IdOutOfRange => (format!("uids and gids must be in range 0-2147483647: {}", named(step)), 128),
        Reason::AccountsUnreadable => {
            ("/etc/passwd or /etc/group of the container is no regular file or larger than 1 MiB".to_owned(), 128)
        }
        Reason::WorkingDirectoryOutside => (
            "current working directory is outside of container mount namespace root -- possible container breakout \
             detected"
                .to_owned(),
            128,
        ),
        Reason::Died => ("the process was killed before it could become the program".to_owned(), 128),
        Reason::HookFailed => (format!("error running {}: exit status {}", hook(step), failure.errno), 128),
        Reason::HookTimedOut => {
            let milliseconds = match step {
                Some(Op::Hook { milliseconds, .. }) => *milliseconds,
                _ => 0,
            };
            (format!("error running {}: it took longer than {} s", hook(step), milliseconds / 1000), 128)
        }
        Reason::Impostor => {
            let what = step.map_or_else(String::new, |op| what(steps, op));
            (format!("{what}: something else lies there (possible attack)"), 128)
        }
        _ => {
            let what = step.map_or_else(|| "launch".to_owned(), |op| what(steps, op));
            let hint = match step {
                // The kernel says the second for a file that is to lie over a directory.
                Some(Op::MoveMount { .. }) if matches!(failure.errno, libc::ENOTDIR | libc::EINVAL) => {
                    ": Are you trying to mount a directory onto a file (or vice-versa)? Check if the specified host path \
                     exists and is the expected type"
                }
                _ => "",
            };
            let code = if hint.is_empty() { 128 } else { 127 };
            (format!("{what}: {errno}{hint}"), code)
        }
    }
}

fn hook(step: Option<&Op<'_>>) -> String {
    if let Some(Op::Hook { name, .. }) = step { text(name) } else { "a hook".to_owned() }
}

/// What a step says about users.
fn named(step: Option<&Op<'_>>) -> String {
    match step {
        Some(Op::User { user }) => text(user),
        Some(Op::Group { group }) => text(group),
        _ => String::new(),
    }
}

/// The part of `user:group` before or after the colon.
fn part(step: Option<&Op<'_>>, group: bool) -> String {
    let whole = named(step);
    let (user, of_group) = whole.split_once(':').unwrap_or((&whole, &whole));
    if group { of_group.to_owned() } else { user.to_owned() }
}

fn what(steps: &[Op<'_>], op: &Op<'_>) -> String {
    match op {
        Op::CloneTree { slot, path, .. } => match destination(steps, *slot, op) {
            Some(to) => format!("error mounting {:?} to rootfs at {to:?}", text(path)),
            None => format!("error mounting {:?}", text(path)),
        },
        Op::MoveMount { slot, path, .. } => match source(steps, *slot, op) {
            Some(source) => format!("error mounting {source:?} to rootfs at {:?}", text(path)),
            // It was at hand already, and has no name here.
            None => format!("error mounting to rootfs at {:?}", text(path)),
        },
        Op::OverlayOf { .. } => "error mounting the root file system (overlay)".to_owned(),
        Op::FsOpen { slot, kind } => of_file_system(steps, *slot, op, &text(kind)),
        Op::FsString { slot, key, value } => {
            let what = of_file_system(steps, *slot, op, &source(steps, *slot, op).unwrap_or_default());
            format!("{what}: option {}={}", text(key), text(value))
        }
        Op::FsFlag { slot, key } => {
            let what = of_file_system(steps, *slot, op, &source(steps, *slot, op).unwrap_or_default());
            format!("{what}: option {}", text(key))
        }
        Op::FsMount { slot, .. } | Op::SetAttributes { slot, .. } => {
            of_file_system(steps, *slot, op, &source(steps, *slot, op).unwrap_or_default())
        }
        Op::CloneDevice { path, .. } => format!("error mounting device node {}", text(path)),
        Op::CopyUp { path, .. } => format!("error copying {:?} into the tmpfs that covers it", text(path)),
        Op::SetAttributesAt { path, .. } => format!("error remounting {:?}", text(path)),
        Op::RootAt { path, .. } => format!("error mounting the root file system at {:?}", text(path)),
        Op::MapIds { slot, .. } => {
            format!("{}: map ids", of_file_system(steps, *slot, op, &source(steps, *slot, op).unwrap_or_default()))
        }
        Op::UserNamespace { .. } => "unable to make the user namespace or to map its ids".to_owned(),
        Op::TimeOffsets { .. } => "unable to set the clocks of the time namespace".to_owned(),
        Op::JoinNamespace { kind, .. } | Op::JoinAtContinue { kind, .. } => {
            format!("unable to join the {} namespace", crate::plan::name_of_namespace(*kind))
        }
        Op::MakeNode { path, .. } => format!("error creating device node {}", text(path)),
        Op::MakeLink { path, .. } => format!("error creating symbolic link {}", text(path)),
        Op::MakeDirectory { path, .. } => format!("error creating directory {}", text(path)),
        Op::Mask { path } => format!("can't mask path {:?}", text(path)),
        Op::ReadOnly { path } => format!("can't make {:?} read-only", text(path)),
        Op::Sysctl { key, value } => format!("write sysctl key {} = {:?}", text(key).replace('/', "."), text(value)),
        Op::Rlimit { resource, .. } => format!("error setting rlimit type {resource}"),
        Op::WorkingDirectory { path, .. } => format!("chdir to cwd ({:?}) set in config.json failed", text(path)),
        Op::Seccomp { .. } => "unable to init seccomp: error loading seccomp filter into kernel".to_owned(),
        Op::SeccompListener { .. } => "unable to prepare the seccomp listener".to_owned(),
        Op::Scheduler { .. } => "error setting scheduler attributes".to_owned(),
        Op::IoPriority { .. } => "failed to set io priority".to_owned(),
        Op::Affinity { .. } => "error setting CPU affinity".to_owned(),
        Op::MemoryPolicy { .. } => "error setting the memory policy".to_owned(),
        Op::SecurityLabel { label, .. } => format!("unable to apply the security label {:?}", text(label)),
        Op::Capabilities { .. } => "unable to apply caps".to_owned(),
        Op::User { user } => format!("unable to setup user {}", text(user)),
        Op::Hostname { name } => format!("sethostname {:?}", text(name)),
        Op::JoinTasks { .. } | Op::JoinProcs { .. } | Op::BornInCgroup { .. } => {
            "unable to apply cgroup configuration".to_owned()
        }
        Op::Execute {} => "exec".to_owned(),
        // The name of the operation says what was tried.
        other => {
            let debug = format!("{other:?}");
            debug.split([' ', '{']).next().unwrap_or_default().to_owned()
        }
    }
}

fn of_file_system(steps: &[Op<'_>], slot: Slot, op: &Op<'_>, source: &str) -> String {
    match destination(steps, slot, op) {
        Some(to) => format!("error mounting {source:?} to rootfs at {to:?}"),
        None => format!("error mounting the root file system ({source})"),
    }
}

fn position(steps: &[Op<'_>], op: &Op<'_>) -> usize {
    steps.iter().position(|step| std::ptr::eq(step, op)).unwrap_or(0)
}

/// Where what is put into `slot` at `op` goes.
fn destination(steps: &[Op<'_>], slot: Slot, op: &Op<'_>) -> Option<String> {
    steps[position(steps, op)..].iter().find_map(|step| match step {
        Op::MoveMount { slot: moved, path, .. } if *moved == slot => Some(Some(text(path))),
        Op::Root { slot: root } if *root == slot => Some(None),
        _ => None,
    })?
}

/// What was put into `slot` before `op`.
fn source(steps: &[Op<'_>], slot: Slot, op: &Op<'_>) -> Option<String> {
    steps[..position(steps, op)].iter().rev().find_map(|step| match step {
        Op::CloneTree { slot: filled, path, .. } | Op::FsOpen { slot: filled, kind: path } if *filled == slot => {
            Some(Some(text(path)))
        }
        Op::CloneTreeOf { slot: filled, .. } if *filled == slot => Some(None),
        _ => None,
    })?
}

fn text(text: &CStr) -> String {
    text.to_string_lossy().into_owned()
}

/// The kernel's words for a number, as Go writes them.
fn errno(errno: i32) -> String {
    if errno == 0 {
        return "failed".to_owned();
    }
    let text = io::Error::from_raw_os_error(errno).to_string();
    let text = text.rsplit_once(" (os error").map_or(text.as_str(), |(text, _)| text);
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use engine_shim::plan::Fd;

    use super::*;
    use engine_shim::plan::Slot;

    fn say(steps: &[Op<'_>], index: u32, reason: Reason, errno: i32) -> (String, i32) {
        describe(steps, Failure { index, errno, reason })
    }

    #[test]
    fn a_program_that_cannot_be_executed() {
        let steps = [Op::Arg { value: c"nope" }, Op::Arg { value: c"x" }, Op::Execute {}];
        let say = |reason, errno| say(&steps, 2, reason, errno);
        assert_eq!(say(Reason::NotInPath, 2), ("exec: \"nope\": executable file not found in $PATH".to_owned(), 127));
        assert_eq!(say(Reason::NotFound, 2), ("exec: \"nope\": stat nope: no such file or directory".to_owned(), 127));
        assert_eq!(say(Reason::PermissionDenied, 13), ("exec: \"nope\": permission denied".to_owned(), 126));
        assert_eq!(say(Reason::IsDirectory, 21).1, 126);
        assert_eq!(say(Reason::Execute, libc::ENOEXEC), ("exec nope: exec format error".to_owned(), 126));
    }

    #[test]
    fn a_mount_that_fails_says_from_where_to_where() {
        let slot = Slot(1);
        let steps = [
            Op::CloneTree { slot, path: c"/a", recursive: 1 },
            Op::MoveMount { slot, path: c"/x", strict: 0 },
            Op::CloneTree { slot, path: c"/b", recursive: 1 },
            Op::MoveMount { slot, path: c"/y", strict: 0 },
            Op::CloneTreeOf { slot, descriptor: Fd(0), recursive: 0 },
            Op::MoveMount { slot, path: c"/z", strict: 0 },
        ];
        let (text, _) = say(&steps, 5, Reason::Syscall, libc::ENOTDIR);
        assert!(text.starts_with("error mounting to rootfs at \"/z\": not a directory: Are you trying"), "{text}");
        let (text, code) = say(&steps, 3, Reason::Syscall, libc::ENOTDIR);
        assert!(
            text.starts_with("error mounting \"/b\" to rootfs at \"/y\": not a directory: Are you trying"),
            "{text}"
        );
        assert_eq!(code, 127);
        let (text, _) = say(&steps, 1, Reason::Syscall, libc::EINVAL);
        assert!(text.contains("at \"/x\": invalid argument: Are you trying"), "{text}");
        let (text, _) = say(&steps, 0, Reason::Syscall, libc::ENOENT);
        assert_eq!(text, "error mounting \"/a\" to rootfs at \"/x\": no such file or directory");
    }

    #[test]
    fn every_step_says_what_it_was() {
        let (text, _) = say(&[Op::PivotRoot {}], 0, Reason::Syscall, libc::EINVAL);
        assert_eq!(text, "PivotRoot: invalid argument");
        let (text, _) = say(&[], 7, Reason::Syscall, libc::EINVAL);
        assert_eq!(text, "launch: invalid argument");
    }
}
