//! The hooks of a specification that are run on the host's side: found and executed there, with nothing but their own
//! environment, the state of the container on their standard input, and a bound on their time.

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use oci_spec::runtime::{Hook, Spec};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use serde::Serialize;

use crate::{Bundle, Error, interfaces};

/// How long a hook without a timeout of its own may take.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(600);
/// What is kept of what a hook that fails has to say, in bytes.
const MAX_MESSAGE: usize = 2048;

/// The state of a container, as hooks and `state` of the OCI command line have it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct State<'a> {
    /// The version of the specification.
    pub oci_version: &'a str,
    /// The name of the container.
    pub id: &'a str,
    /// `creating`, `created`, `running` or `stopped`.
    pub status: &'a str,
    /// Init's pid, as the host sees it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// The directory of the bundle.
    pub bundle: &'a Path,
    /// The specification's annotations, in order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotations: Option<std::collections::BTreeMap<&'a str, &'a str>>,
}

impl<'a> State<'a> {
    /// The state of the container of a bundle.
    #[must_use]
    pub fn new(bundle: &'a Bundle, status: &'a str, pid: Option<u32>) -> Self {
        let directory = bundle.directory.as_deref().unwrap_or(Path::new("/"));
        Self { pid, bundle: directory, ..Self::of_spec(&bundle.id, &bundle.spec, status) }
    }

    /// The state of a container of which there is the specification.
    pub(crate) fn of_spec(id: &'a str, spec: &'a Spec, status: &'a str) -> Self {
        let annotations = spec.annotations().as_ref();
        Self {
            oci_version: spec.version(),
            id,
            status,
            pid: None,
            bundle: Path::new("/"),
            annotations: annotations.map(|all| all.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect()),
        }
    }

    /// The text of JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Texts and numbers can always be written; a path that is no UTF-8 cannot.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The text before and after the number of a pid that is not known yet.
    pub(crate) fn around_pid(&self) -> (String, String) {
        let rest = Self { pid: None, ..self.clone() }.to_json();
        let rest = rest.strip_prefix('{').unwrap_or_default().to_owned();
        ("{\"pid\":".to_owned(), format!(",{rest}"))
    }
}

/// Runs hooks one after the other, the first failure ends it.
///
/// # Errors
/// [`Error::Hook`].
pub fn run(kind: &str, hooks: Option<&[Hook]>, state: &State<'_>) -> Result<(), Error> {
    let hooks = hooks.unwrap_or_default();
    if hooks.is_empty() {
        return Ok(());
    }
    let state_text = state.to_json();
    for (number, hook) in hooks.iter().enumerate() {
        let name = format!("{kind} hook #{number}");
        check(&name, hook)?;
        run_one(hook, &state_text, state.bundle).map_err(|reason| Error::Hook { name, reason })?;
    }
    Ok(())
}

/// Whether there is anything to be done from outside before the root of a container is its root.
pub(crate) fn is_waited_for(bundle: &Bundle) -> bool {
    let devices = bundle.spec.linux().as_ref().and_then(|linux| linux.net_devices().as_ref());
    #[allow(deprecated, reason = "who still has such hooks wants them run")]
    let outside = bundle.spec.hooks().iter().flat_map(|hooks| [hooks.prestart(), hooks.create_runtime()]);
    devices.is_some_and(|devices| !devices.is_empty()) || outside.flatten().any(|hooks| !hooks.is_empty())
}

/// What is done from outside before the root of a container is its root: it gets interfaces, then the hooks of the host's side
/// are run.
pub(crate) fn before(bundle: &Bundle, pid: u32) -> Result<(), Error> {
    if let Some(linux) = bundle.spec.linux() {
        interfaces::give(linux, pid)?;
    }
    let Some(hooks) = bundle.spec.hooks() else { return Ok(()) };
    let state = State::new(bundle, "creating", Some(pid));
    #[allow(deprecated, reason = "who still has such hooks wants them run")]
    run("prestart", hooks.prestart().as_deref(), &state)?;
    run("createRuntime", hooks.create_runtime().as_deref(), &state)
}

/// The hooks that are run once the program of a container runs.
pub(crate) fn after(bundle: &Bundle, pid: u32) -> Result<(), Error> {
    let hooks = bundle.spec.hooks().as_ref().and_then(|hooks| hooks.poststart().as_deref());
    run("poststart", hooks, &State::new(bundle, "running", Some(pid)))
}

pub(crate) fn check(name: &str, hook: &Hook) -> Result<(), Error> {
    if !hook.path().is_absolute() {
        return Err(Error::Invalid(format!("{name}: path {} is not absolute", hook.path().display())));
    }
    if hook.timeout().is_some_and(|seconds| seconds <= 0) {
        return Err(Error::Invalid(format!("{name}: the timeout has to be greater than zero")));
    }
    Ok(())
}

pub(crate) fn timeout(hook: &Hook) -> Duration {
    let seconds = hook.timeout().and_then(|seconds| u64::try_from(seconds).ok());
    seconds.map_or(DEFAULT_TIMEOUT, Duration::from_secs)
}

fn run_one(hook: &Hook, state: &str, bundle: &Path) -> Result<(), String> {
    let deadline = Instant::now() + timeout(hook);
    let mut command = Command::new(hook.path());
    if let Some([name, arguments @ ..]) = hook.args().as_deref() {
        command.arg0(name).args(arguments);
    }
    command.env_clear().stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).process_group(0);
    for variable in hook.env().iter().flatten() {
        let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
        command.env(name, value);
    }
    command.current_dir(if bundle.is_dir() { bundle } else { Path::new("/") });
    let mut child = command.spawn().map_err(|error| format!("execute {}: {error}", hook.path().display()))?;
    match converse(&mut child, state, deadline) {
        Ok((status, _)) if status.success() => Ok(()),
        Ok((status, said)) => {
            let mut text = match (status.code(), status.signal()) {
                (Some(code), _) => format!("exit status {code}"),
                (None, signal) => format!("killed by signal {}", signal.unwrap_or(0)),
            };
            let said = String::from_utf8_lossy(&said);
            if !said.trim().is_empty() {
                let _ = write!(text, ", stderr: {}", said.trim());
            }
            Err(text)
        }
        Err(error) => {
            // It and whom it started; it is reaped whatever became of it.
            if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
                let _ = kill_process_group(pid, Signal::KILL);
            }
            let _ = child.kill();
            let _ = child.wait();
            Err(match error.kind() {
                io::ErrorKind::TimedOut => format!("it took longer than {:?}", timeout(hook)),
                _ => error.to_string(),
            })
        }
    }
}

/// Writes the state, reads what it says, and waits for the end.
fn converse(child: &mut Child, state: &str, deadline: Instant) -> io::Result<(ExitStatus, Vec<u8>)> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidData)?;
    let ended = pidfd_open(pid, PidfdFlags::empty())?;
    let (mut input, mut output) = (child.stdin.take(), child.stderr.take());
    for stream in [input.as_ref().map(AsFd::as_fd), output.as_ref().map(AsFd::as_fd)].into_iter().flatten() {
        rustix::io::ioctl_fionbio(stream, true)?;
    }
    let mut rest = state.as_bytes();
    let mut said = Vec::new();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let [has_ended, takes, tells] = happened(
            [
                (Some(ended.as_fd()), PollFlags::IN),
                (input.as_ref().map(AsFd::as_fd), PollFlags::OUT),
                (output.as_ref().map(AsFd::as_fd), PollFlags::IN),
            ],
            left,
        )?;
        if takes && let Some(stream) = &mut input {
            match stream.write(rest) {
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // It does not want to know.
                Err(_) => rest = &[],
            }
            if rest.is_empty() {
                input = None;
            }
        }
        if tells && let Some(stream) = &mut output {
            let mut buffer = [0; 1024];
            match stream.read(&mut buffer) {
                Ok(0) => output = None,
                Ok(length) => said.extend(buffer.iter().take(length.min(MAX_MESSAGE.saturating_sub(said.len())))),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => output = None,
            }
        } else if has_ended {
            return Ok((child.wait()?, said));
        }
    }
}

/// Which of these descriptors have something; none when the time is over.
fn happened(of: [(Option<BorrowedFd<'_>>, PollFlags); 3], left: Duration) -> io::Result<[bool; 3]> {
    let left = Timespec::try_from(left).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut entries: Vec<_> = of.iter().filter_map(|(fd, flags)| Some(PollFd::new(fd.as_ref()?, *flags))).collect();
    match poll(&mut entries, Some(&left)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    let mut entries = entries.iter();
    Ok(of.map(|(fd, _)| fd.is_some() && entries.next().is_some_and(|entry| !entry.revents().is_empty())))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use oci_spec::runtime::HookBuilder;

    fn bundle() -> Bundle {
        let mut spec = Spec::default();
        spec.set_annotations(Some([("a".to_owned(), "\"b\"".to_owned())].into()));
        Bundle::new("c1", spec, crate::Rootfs::Directory("/nowhere".into()))
    }

    fn shell(line: &str) -> Hook {
        let arguments = ["sh", "-c", line].map(str::to_owned).to_vec();
        HookBuilder::default().path("/bin/sh").args(arguments).env(["X=1".to_owned()]).timeout(20).build().unwrap()
    }

    fn said(line: &str) -> Result<(), String> {
        let bundle = bundle();
        run("test", Some(&[shell(line)]), &State::new(&bundle, "created", Some(7))).map_err(|error| error.to_string())
    }

    #[test]
    fn a_hook_reads_the_state_in_an_environment_of_its_own() {
        let expected =
            r#"{"ociVersion":"1.0.2","id":"c1","status":"created","pid":7,"bundle":"/","annotations":{"a":"\"b\""}}"#;
        let bundle = bundle();
        let text = State::new(&bundle, "created", Some(7)).to_json();
        assert_eq!(text.replace(bundle.spec.version(), "1.0.2"), expected);
        said(&format!("test \"$(cat)\" = '{text}'")).unwrap();
        said("test \"$X\" = 1 && test -z \"$CARGO_PKG_NAME$HOME\"").unwrap();
        said("exec <&-").unwrap();
    }

    #[test]
    fn the_pid_can_be_put_in_later() {
        let bundle = bundle();
        let (before, after) = State::new(&bundle, "creating", None).around_pid();
        let value: serde_json::Value = serde_json::from_str(&format!("{before}42{after}")).unwrap();
        assert_eq!((value["pid"].as_u64(), value["id"].as_str()), (Some(42), Some("c1")));
    }

    #[test]
    fn a_failure_says_what_the_hook_said() {
        assert_eq!(
            said("echo oh no >&2; exit 3").unwrap_err(),
            "error running test hook #0: exit status 3, stderr: oh no"
        );
        assert!(said("kill -9 $$").unwrap_err().ends_with("killed by signal 9"));
        // More than is kept, and more than fits into a pipe.
        let long = said("head -c 300000 /dev/zero | tr '\\0' x >&2; exit 1").unwrap_err();
        assert!(long.len() < 2300 && long.ends_with('x'), "{}", long.len());
        let missing = HookBuilder::default().path("/no/such/hook").build().unwrap();
        let bundle = bundle();
        let error = run("test", Some(&[missing]), &State::new(&bundle, "created", None)).unwrap_err();
        assert!(error.to_string().contains("/no/such/hook"), "{error}");
    }

    #[test]
    fn a_hook_that_takes_too_long_is_killed_with_its_children() {
        let directory = tempfile::tempdir().unwrap();
        let mark = directory.path().join("mark");
        let line = format!("(sleep 1000; echo > {0}) & echo $! > {0}.pid; wait", mark.display());
        let arguments = ["sh".to_owned(), "-c".to_owned(), line];
        let path = "/bin/sh";
        let hook = HookBuilder::default().path(path).args(arguments).timeout(1).build().unwrap();
        let bundle = bundle();
        let error = run("test", Some(&[hook]), &State::new(&bundle, "created", None)).unwrap_err();
        assert!(error.to_string().ends_with("it took longer than 1s"), "{error}");
        let pid = std::fs::read_to_string(format!("{}.pid", mark.display())).unwrap();
        let gone =
            || std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).map_or(true, |s| s.contains(") Z "));
        let deadline = Instant::now() + Duration::from_secs(20);
        while !gone() {
            assert!(Instant::now() < deadline, "the child of the hook lives on");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for hook in [
            HookBuilder::default().path("bin/true").build().unwrap(),
            HookBuilder::default().path("/bin/true").timeout(0).build().unwrap(),
        ] {
            let bundle = bundle();
            assert!(matches!(run("t", Some(&[hook]), &State::new(&bundle, "x", None)), Err(Error::Invalid(_))));
        }
    }
}
