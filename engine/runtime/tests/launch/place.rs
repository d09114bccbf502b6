//! A directory with a busybox tree, and plans that run in it.

use std::fs;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use engine_runtime::monitor::{ExitRecord, Monitor};
use engine_runtime::protocol::plan::{Fd, Op, Slot};
use engine_runtime::protocol::{Attach, Event, INIT, PlanBytes, PlanWriter, Request};
use engine_runtime::spawner::{LaunchError, Launched, Spawner};
use engine_sys::socket;

pub(crate) const NEWNS: u64 = 0x0002_0000;
pub(crate) const NEWUTS: u64 = 0x0400_0000;
pub(crate) const NEWIPC: u64 = 0x0800_0000;
pub(crate) const NEWPID: u64 = 0x2000_0000;
const MS_REC_PRIVATE: u64 = 0x4000 | (1 << 18);
/// How long anything may take before the test says that it hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A root directory, a run directory and a spawner.
pub(crate) struct Place {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) spawner: Spawner,
}

/// What a container's process gets.
#[derive(Clone, Default)]
pub(crate) struct Wish<'a> {
    pub(crate) arguments: &'a [&'a str],
    pub(crate) environment: &'a [&'a str],
    pub(crate) log: Option<(u64, u32)>,
    /// Standard input is open; with `true` for one client.
    pub(crate) stdin: Option<bool>,
    pub(crate) terminal: bool,
    pub(crate) wait: bool,
    pub(crate) die_with_launcher: bool,
    pub(crate) user: Option<&'a str>,
    /// Operations before the process's own, with the root assembled but not taken.
    pub(crate) before_pivot: Vec<Op<'a>>,
    /// Operations before [`Op::Execute`].
    pub(crate) before_execute: Vec<Op<'a>>,
    pub(crate) host_pids: bool,
}

impl Place {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("root");
        for name in ["bin", "dev", "etc", "proc", "sys", "tmp", "root", "home/build"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        // By another process: a descriptor that is open for writing here could be inherited by a spawner that another
        // test starts at this moment, and keep the program from being executed.
        let copied = std::process::Command::new("cp").arg("/bin/busybox").arg(root.join("bin")).status().unwrap();
        assert!(copied.success());
        for applet in [
            "sh", "true", "false", "echo", "cat", "id", "sleep", "ls", "stty", "kill", "test", "grep", "seq", "head",
            "dd", "pwd", "env", "readlink", "stat", "tr", "printf", "ps", "wc", "tty", "umask", "hostname", "touch",
            "sort",
        ] {
            symlink("busybox", root.join("bin").join(applet)).unwrap();
        }
        fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nbuild:x:1001:1002::/home/build:/bin/sh\n")
            .unwrap();
        fs::write(root.join("etc/group"), "root:x:0:\nwheel:x:10:build\nbuild:x:1002:\n").unwrap();
        fs::create_dir(directory.path().join("run")).unwrap();
        fs::create_dir(directory.path().join("log")).unwrap();
        let spawner = Spawner::new(&directory.path().join("run"));
        Self { directory, spawner }
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    pub(crate) fn run(&self) -> PathBuf {
        self.directory.path().join("run")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.run().join("monitor.sock")
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log/log")).unwrap_or_default()
    }

    /// The texts of the log's records, put together.
    pub(crate) fn logged(&self, stream: &str) -> String {
        let record = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
        let of_stream = |record: &serde_json::Value| record["stream"] == stream;
        self.log()
            .lines()
            .map(record)
            .filter(of_stream)
            .map(|record| record["log"].as_str().unwrap().to_owned())
            .collect()
    }

    pub(crate) fn plan(&self, wish: &Wish<'_>) -> (PlanBytes, Vec<OwnedFd>) {
        let root = std::ffi::CString::new(self.root().to_str().unwrap()).unwrap();
        let open = |path: &Path| OwnedFd::from(fs::File::open(path).unwrap());
        let _ = fs::remove_file(self.socket());
        let descriptors = vec![
            socket::listen(&self.socket(), 0o600).unwrap(),
            open(&self.run()),
            open(&self.directory.path().join("log")),
        ];
        let mut plan = PlanWriter::new();
        let pids = if wish.host_pids { 0 } else { NEWPID };
        plan.push(&Op::Namespaces { flags: NEWNS | NEWUTS | NEWIPC | pids });
        plan.push(&Op::Listener { socket: Fd(0) }).push(&Op::RunDirectory { directory: Fd(1) });
        if let Some((max_size, max_files)) = wish.log {
            plan.push(&Op::JsonLog { directory: Fd(2), name: c"log", max_size, max_files });
        }
        if wish.die_with_launcher {
            plan.push(&Op::DieWithLauncher {});
        }
        if wish.wait {
            plan.push(&Op::WaitForStart {});
        }
        stdio(&mut plan, wish);
        plan.push(&Op::Propagation { flags: MS_REC_PRIVATE });
        plan.push(&Op::CloneTree { slot: Slot(0), path: &root, recursive: 0 });
        plan.push(&Op::Root { slot: Slot(0) });
        for (kind, path) in [(c"proc", c"proc"), (c"tmpfs", c"dev")] {
            plan.push(&Op::FsOpen { slot: Slot(1), kind }).push(&Op::FsMount { slot: Slot(1), attributes: 0 });
            plan.push(&Op::MoveMount { slot: Slot(1), path, strict: 1 });
        }
        plan.push(&Op::FsOpen { slot: Slot(2), kind: c"devpts" });
        plan.push(&Op::FsString { slot: Slot(2), key: c"ptmxmode", value: c"0666" });
        plan.push(&Op::FsMount { slot: Slot(2), attributes: 0 });
        plan.push(&Op::MoveMount { slot: Slot(2), path: c"dev/pts", strict: 1 });
        plan.push(&Op::MakeNode { path: c"dev/null", mode: 0o20666, major: 1, minor: 3, uid: 0, gid: 0 });
        plan.push(&Op::MakeLink { target: c"/proc/self/fd/1", path: c"dev/stdout" });
        for op in &wish.before_pivot {
            plan.push(op);
        }
        if wish.terminal {
            plan.push(&Op::Console {});
        }
        plan.push(&Op::PivotRoot {});
        plan.push(&Op::Hostname { name: c"box" });
        process(&mut plan, wish);
        (plan.finish(descriptors.len()).unwrap(), descriptors)
    }

    pub(crate) fn launch(&self, wish: &Wish<'_>) -> Result<Container<'_>, LaunchError> {
        let (plan, descriptors) = self.plan(wish);
        let borrowed: Vec<BorrowedFd<'_>> = descriptors.iter().map(AsFd::as_fd).collect();
        let Launched { monitor, pid, process, waiting } = self.spawner.launch(&plan, &borrowed)?;
        Ok(Container {
            place: self,
            events: Events { monitor, unread: Vec::new() },
            pid,
            process: Init(process),
            waiting,
        })
    }

    /// Runs a shell command to its end: its code and its standard output.
    pub(crate) fn shell(&self, command: &str) -> (i32, String) {
        let wish = Wish { arguments: &["sh", "-c", command], ..Wish::default() };
        self.run_wish(&wish)
    }

    pub(crate) fn run_wish(&self, wish: &Wish<'_>) -> (i32, String) {
        let before = self.logged("stdout").len();
        let wish = Wish { log: Some((0, 1)), ..wish.clone() };
        let mut container = self.launch(&wish).unwrap();
        let code = container.exit();
        let errors = self.logged("stderr");
        assert!(errors.is_empty(), "{errors}");
        (code, self.logged("stdout").split_off(before))
    }
}

fn stdio(plan: &mut PlanWriter, wish: &Wish<'_>) {
    if let Some(once) = wish.stdin {
        plan.push(&Op::OpenStdin { once: once.into() });
    }
    if wish.terminal {
        plan.push(&Op::TerminalSize { rows: 33, columns: 77 });
    }
}

fn process(plan: &mut PlanWriter, wish: &Wish<'_>) {
    let strings =
        |list: &[&str]| -> Vec<_> { list.iter().map(|text| std::ffi::CString::new(*text).unwrap()).collect() };
    if let Some(user) = wish.user {
        plan.push(&Op::User { user: &std::ffi::CString::new(user).unwrap() });
    }
    for op in &wish.before_execute {
        plan.push(op);
    }
    for value in &strings(wish.arguments) {
        plan.push(&Op::Arg { value });
    }
    let path = ["PATH=/bin"];
    let environment = if wish.environment.is_empty() { &path[..] } else { wish.environment };
    for value in &strings(environment) {
        plan.push(&Op::Env { value });
    }
    plan.push(&Op::Execute {});
}

/// A plan of a further process in a container.
pub(crate) fn exec_plan(wish: &Wish<'_>) -> PlanBytes {
    let mut plan = PlanWriter::new();
    stdio(&mut plan, wish);
    plan.push(&Op::JoinProcess { process: Fd(0), kinds: NEWNS | NEWUTS | NEWIPC | NEWPID });
    if wish.terminal {
        plan.push(&Op::Console {});
    }
    process(&mut plan, wish);
    plan.finish(1).unwrap()
}

/// Events of one connection, of which one may be waited for out of order.
pub(crate) struct Events {
    pub(crate) monitor: Monitor,
    unread: Vec<(Event, Vec<OwnedFd>)>,
}

impl Events {
    pub(crate) fn connect(path: &Path) -> Option<Self> {
        Monitor::connect(path).unwrap().map(|monitor| Self { monitor, unread: Vec::new() })
    }

    pub(crate) fn wait_for<T>(&mut self, mut wanted: impl FnMut(&Event) -> Option<T>) -> (T, Vec<OwnedFd>) {
        for at in 0..self.unread.len() {
            if let Some(found) = wanted(&self.unread[at].0) {
                return (found, self.unread.remove(at).1);
            }
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.monitor.try_receive().unwrap() {
                Some((event, descriptors)) => {
                    if let Some(found) = wanted(&event) {
                        return (found, descriptors);
                    }
                    assert_ne!(event, Event::Closed {}, "closed; before that: {:?}", self.unread);
                    self.unread.push((event, descriptors));
                }
                None => {
                    assert!(Instant::now() < deadline, "nothing more came than {:?}", self.unread);
                    engine_sys::process::wait(&self.monitor, Some(Duration::from_millis(100))).unwrap();
                }
            }
        }
    }

    pub(crate) fn send(&self, request: &Request<'_>, descriptors: &[BorrowedFd<'_>]) {
        self.monitor.send(request, descriptors).unwrap();
    }

    pub(crate) fn refusal(&mut self) -> engine_runtime::protocol::Refusal {
        self.wait_for(|event| match event {
            Event::Refused { refusal, .. } => Some(*refusal),
            _ => None,
        })
        .0
    }
}

/// Init's pidfd; init does not outlive the test.
pub(crate) struct Init(OwnedFd);

impl Drop for Init {
    fn drop(&mut self) {
        let _ = engine_sys::process::signal(&self.0, 9);
    }
}

impl AsFd for Init {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A container that was launched.
pub(crate) struct Container<'p> {
    pub(crate) place: &'p Place,
    pub(crate) events: Events,
    pub(crate) pid: u32,
    pub(crate) process: Init,
    pub(crate) waiting: bool,
}

impl Container<'_> {
    /// Waits for the end: the code, which the record has too.
    pub(crate) fn exit(&mut self) -> i32 {
        let ((code, at_nanos), _) = self.events.wait_for(|event| match event {
            Event::Exited { code, at_nanos, oom_killed: false } => Some((*code, *at_nanos)),
            _ => None,
        });
        let record = ExitRecord::read(&self.place.run()).unwrap().unwrap();
        assert_eq!(record, ExitRecord { code, oom_killed: false, at_nanos });
        code
    }

    /// Connects a client; its socket, once the monitor has it.
    pub(crate) fn attach(&mut self, attach: &Attach<'_>) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_read_timeout(Some(PATIENCE)).unwrap();
        self.events.send(&Request::Attach { attach: *attach }, &[theirs.as_fd()]);
        let wanted = attach.client;
        self.events
            .wait_for(|event| matches!(event, Event::Attached { client, .. } if *client == wanted).then_some(()));
        ours
    }

    pub(crate) fn start(&mut self) {
        self.events.send(&Request::Start {}, &[]);
        self.events.wait_for(|event| matches!(event, Event::Started { .. }).then_some(()));
    }

    /// The monitor: the parent of init.
    pub(crate) fn monitor_pid(&self) -> u32 {
        parent_of(self.pid)
    }
}

/// A client that gets everything raw.
pub(crate) fn raw(client: u64) -> Attach<'static> {
    Attach { client, process: INIT, stdin: true, stdout: true, stderr: true, ..Attach::default() }
}

pub(crate) fn read_all(mut stream: &UnixStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// Reads until the text contains this.
pub(crate) fn read_until(mut stream: &UnixStream, wanted: &str) -> String {
    let mut text = Vec::new();
    let mut byte = [0];
    while !String::from_utf8_lossy(&text).contains(wanted) {
        let length = match stream.read(&mut byte) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            read => read.unwrap(),
        };
        assert_ne!(length, 0, "ended after {:?}", String::from_utf8_lossy(&text));
        text.push(byte[0]);
    }
    String::from_utf8_lossy(&text).into_owned()
}

pub(crate) fn parent_of(pid: u32) -> u32 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim().parse().unwrap()
}

/// Waits until something holds.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "not so after {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn is_gone(pid: u32) -> bool {
    !Path::new(&format!("/proc/{pid}")).exists()
}
