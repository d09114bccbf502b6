//! Traces processes of the engine and kills one of them at a certain stop of a system call.

use std::collections::HashMap;
use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

const EVENT_STOP: i32 = 128;
const PATIENCE: Duration = Duration::from_secs(60);

/// Which process of a container's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Spawner = 0,
    Monitor = 1,
    /// Init, or what becomes an exec.
    Init = 2,
}

/// Who is killed, and at which of its stops.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target(Option<(Role, u32)>);

impl Target {
    pub(crate) fn nobody() -> Self {
        Self(None)
    }

    pub(crate) fn new(role: Role, step: u32) -> Self {
        Self(Some((role, step)))
    }

    pub(crate) fn role(self) -> Option<Role> {
        self.0.map(|(role, _)| role)
    }
}

/// The children of a process, zombies among them.
pub(crate) fn children(of: u32) -> Vec<u32> {
    let threads = std::fs::read_dir(format!("/proc/{of}/task")).into_iter().flatten().flatten();
    let list = |thread: std::fs::DirEntry| std::fs::read_to_string(thread.path().join("children")).unwrap_or_default();
    threads
        .flat_map(|thread| list(thread).split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<_>>())
        .collect()
}

fn parent_of(pid: Pid) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

/// Tells the tracer that the action is over, also when that panics.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

struct Tracer {
    roles: HashMap<Pid, Role>,
    succeeded: Vec<Pid>,
    spawner: Option<u32>,
    steps: [u32; 3],
    target: Target,
    killed: bool,
    /// Steps are counted.
    counting: bool,
    /// Whoever stops is let go.
    leaving: bool,
}

/// Does something while these processes and their children are traced. Says how many steps each role had, and who was killed:
/// nobody, when it took fewer steps this time.
pub(crate) fn traced<T: Send>(
    tracees: &[(u32, Role)],
    target: Target,
    action: impl FnOnce() -> T + Send,
) -> (T, [u32; 3], Option<Role>) {
    let done = AtomicBool::new(false);
    let (ready, is_ready) = mpsc::channel();
    std::thread::scope(|scope| {
        let done = &done;
        let tracing = scope.spawn(move || {
            // It sleeps between any two steps.
            nix::sys::prctl::set_timerslack(1).unwrap();
            let mut tracer = Tracer::new(target);
            for (pid, role) in tracees {
                tracer.seize(*pid, *role);
            }
            ready.send(()).unwrap();
            tracer.pump(|| done.load(Ordering::Acquire));
            tracer.leave();
            (tracer.steps, tracer.target.role().filter(|_| tracer.killed))
        });
        is_ready.recv().unwrap();
        let over = Over(done);
        let result = action();
        drop(over);
        let (steps, killed) = tracing.join().unwrap();
        (result, steps, killed)
    })
}

/// Traces a program that waits for the end of its input, with all its threads, until it is gone; steps are counted, as the spawner's, from `SIGURG` on.
/// Says whether it ended as it should.
pub(crate) fn until_gone(child: &mut Child, target: Target) -> ([u32; 3], bool) {
    let mut tracer = Tracer::new(target);
    tracer.counting = false;
    tracer.seize(child.id(), Role::Spawner);
    // Threads that are there already; those to come are traced from birth.
    for thread in std::fs::read_dir(format!("/proc/{}/task", child.id())).unwrap() {
        let thread: u32 = thread.unwrap().file_name().to_str().unwrap().parse().unwrap();
        if thread != child.id() {
            tracer.seize(thread, Role::Spawner);
        }
    }
    // It waits for this.
    drop(child.stdin.take());
    let stat = format!("/proc/{}/stat", child.id());
    tracer.pump(|| std::fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z ")));
    tracer.leave();
    // Who traces its own child has reaped it.
    (tracer.steps, tracer.succeeded.contains(&Pid::from_raw(child.id().cast_signed())))
}

impl Tracer {
    fn new(target: Target) -> Self {
        Self {
            roles: HashMap::new(),
            succeeded: Vec::new(),
            spawner: None,
            steps: [0; 3],
            target,
            killed: false,
            counting: true,
            leaving: false,
        }
    }

    fn seize(&mut self, pid: u32, role: Role) {
        if role == Role::Spawner {
            self.spawner = Some(pid);
        }
        let pid = Pid::from_raw(pid.cast_signed());
        let options = Options::PTRACE_O_TRACESYSGOOD
            | Options::PTRACE_O_TRACEFORK
            | Options::PTRACE_O_TRACEVFORK
            | Options::PTRACE_O_TRACECLONE;
        match ptrace::seize(pid, options) {
            Ok(()) => ptrace::interrupt(pid).unwrap(),
            // Its maker was traced when it was born.
            Err(Errno::EPERM) => {}
            Err(error) => panic!("trace {pid}: {error}"),
        }
        self.roles.insert(pid, role);
    }

    /// Who is not known yet was forked by one who is.
    fn role(&mut self, pid: Pid) -> Role {
        let (spawner, counting) = (self.spawner, self.counting);
        *self.roles.entry(pid).or_insert_with(|| match (parent_of(pid), spawner) {
            // Threads of a program have its role.
            _ if !counting => Role::Spawner,
            (Some(parent), Some(spawner)) if parent == spawner => Role::Monitor,
            _ => Role::Init,
        })
    }

    fn pump(&mut self, over: impl Fn() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        let flags = WaitPidFlag::WNOHANG | WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
        loop {
            match waitpid(None, Some(flags)) {
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => {
                    if over() {
                        return;
                    }
                    assert!(Instant::now() < deadline, "nothing ends it: {}", self.picture());
                    // Who sleeps is woken at once on a busy machine, unlike who yields.
                    std::thread::sleep(Duration::from_micros(5));
                }
                Ok(status) => self.handle(status),
                Err(Errno::EINTR) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Who is traced, and what each does.
    fn picture(&self) -> String {
        let look = |pid: &Pid, file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let who = |(pid, role): (&Pid, &Role)| {
            let stat = look(pid, "stat");
            let state: Vec<&str> = stat.split(' ').skip(1).take(3).collect();
            format!("{pid} {role:?} {state:?} in {} at {}", look(pid, "wchan"), look(pid, "syscall").trim())
        };
        let all: Vec<String> = self.roles.iter().map(who).collect();
        format!("{:?}, killed: {}, after {:?} steps, {}", self.target, self.killed, self.steps, all.join("; "))
    }

    fn handle(&mut self, status: WaitStatus) {
        match status {
            WaitStatus::PtraceSyscall(pid) => {
                let role = self.role(pid);
                if self.counting && !self.killed && !self.leaving {
                    self.steps[role as usize] += 1;
                    if self.target.0 == Some((role, self.steps[role as usize])) {
                        self.killed = true;
                        kill(pid, Signal::SIGKILL).unwrap();
                        return;
                    }
                }
                self.go_on(pid, None);
            }
            WaitStatus::PtraceEvent(pid, signal, event) => {
                self.role(pid);
                // Whoever is born is traced, and has to be let go even when it has not stopped yet.
                if event != EVENT_STOP
                    && let Ok(born) = ptrace::getevent(pid)
                {
                    self.role(Pid::from_raw(i32::try_from(born).unwrap()));
                }
                let group_stop = event == EVENT_STOP && signal != Signal::SIGTRAP;
                self.go_on(pid, if group_stop && self.leaving { Some(signal) } else { None });
            }
            WaitStatus::Stopped(pid, signal) => {
                if signal == Signal::SIGURG && !self.counting {
                    self.counting = true;
                    // So far nobody has stopped at system calls.
                    for other in self.roles.keys().filter(|other| **other != pid) {
                        let _ = ptrace::interrupt(*other);
                    }
                }
                self.go_on(pid, Some(signal));
            }
            WaitStatus::Exited(pid, code) => {
                self.roles.remove(&pid);
                if code == 0 {
                    self.succeeded.push(pid);
                }
            }
            WaitStatus::Signaled(pid, ..) => drop(self.roles.remove(&pid)),
            _ => {}
        }
    }

    fn go_on(&mut self, pid: Pid, signal: Option<Signal>) {
        // Who has been killed meanwhile is no longer there.
        let _ = if self.leaving {
            self.roles.remove(&pid);
            ptrace::detach(pid, signal)
        } else if self.killed || !self.counting {
            ptrace::cont(pid, signal)
        } else {
            ptrace::syscall(pid, signal)
        };
    }

    /// Lets everybody go who is left.
    fn leave(&mut self) {
        self.leaving = true;
        let living: Vec<Pid> = self.roles.keys().copied().collect();
        for pid in &living {
            let _ = ptrace::interrupt(*pid);
        }
        let started = Instant::now();
        while !self.roles.is_empty() {
            self.pump(|| true);
            self.roles.retain(|pid, _| {
                let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
                !stat.is_empty() && !stat.contains(") Z ")
            });
            assert!(started.elapsed() < PATIENCE, "somebody does not let go");
            std::thread::sleep(Duration::from_micros(5));
        }
        self.pump(|| true);
    }
}
