#![allow(clippy::unwrap_used, missing_docs)]
//! Engine, spawner, monitor and init are killed at every step of a container's life: at each stop of a system call, one
//! after the other. Nothing may hang, nothing may be left, and what is said of the end must be true.

mod tracer;

// What the container tests have is used here, not all of it.
#[allow(dead_code, unused_imports)]
#[path = "../container/place.rs"]
mod place;

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use engine_runtime::monitor::MonitorError;
use engine_runtime::protocol::{Event, INIT, Request};
use engine_runtime::{Bundle, Error, Exec, Launched, Runtime, RuntimeSettings, Status};
use place::Place;
use tracer::{Role, Target, children, traced};

/// Every so-and-so-manyth step of each part of a life, so that the whole takes seconds; the first one moves, so that all steps
/// have their turn.
const PARTS: [(&str, u32); 5] = [("launch", 7), ("start", 2), ("exec", 6), ("stop", 2), ("end", 2)];
/// How many kills there are at the least, with those of an engine; the command line's own tests have another 160.
const KILLS: u32 = 400;
const ENGINE_KILLS: u32 = 70;
const PATIENCE: Duration = Duration::from_secs(30);

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The spawners among the children of this program, which takes orphans in, and everybody else.
fn family() -> (Vec<u32>, Vec<u32>) {
    let mut family = (Vec::new(), Vec::new());
    for pid in children(std::process::id()) {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        if stat.contains(") Z ") {
            let pid = rustix::process::Pid::from_raw(pid.cast_signed());
            let _ = rustix::process::waitpid(pid, rustix::process::WaitOptions::NOHANG);
        } else if stat.contains("(engine-spawner)") {
            family.0.push(pid);
        } else if !stat.is_empty() {
            family.1.push(pid);
        }
    }
    family
}

/// The tests of this program look at all of its children: one at a time.
fn alone() -> std::sync::MutexGuard<'static, ()> {
    static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).unwrap();
    ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

struct World {
    place: Place,
    spawner: u32,
}

impl World {
    fn new() -> Self {
        let place = Place::new();
        place.runtime.warm().unwrap();
        let mut world = Self { place, spawner: 0 };
        world.warm();
        world
    }

    /// The spawner that serves, started again if it was killed.
    fn warm(&mut self) {
        if !family().0.contains(&self.spawner) {
            let bundle = self.place.shell("true");
            let launched = self.place.launch(&bundle);
            self.place.end(&bundle, &launched);
            self.settle("a spawner");
            self.spawner = family().0[0];
        }
    }

    /// Waits until only a spawner is left.
    fn settle(&self, at: &str) {
        until(&format!("{at}: nobody but a spawner is left"), || {
            let (spawners, others) = family();
            // None, when it was killed after it had done its work.
            others.is_empty() && spawners.len() <= 1 && spawners.iter().all(|pid| children(*pid).is_empty())
        });
    }

    fn sleeper(&self) -> Bundle {
        let mut bundle = self.place.container(&["sleep", "1000"]);
        bundle.tasks_die_with_launcher = false;
        bundle
    }

    /// What is left after `what` was killed at a step: nothing, once it is removed.
    fn check_gone(&self, bundle: &Bundle, at: &str) {
        let cgroup = self.place.runtime.cgroup(&bundle.id).unwrap();
        self.place.runtime.remove(&bundle.id).unwrap();
        assert!(!cgroup.exists(), "{at}");
        assert_eq!(self.place.runtime.containers().unwrap(), Vec::<String>::new(), "{at}");
        assert!(matches!(self.place.runtime.state(&bundle.id), Err(Error::NotFound(_))), "{at}");
        self.settle(at);
    }

    /// What is known of a container that was launched and lost its monitor or its init.
    fn check_end(&self, bundle: &Bundle, role: Role, code: i32, at: &str) {
        let runtime = &self.place.runtime;
        until(&format!("{at}: it has ended"), || {
            family();
            runtime.state(&bundle.id).unwrap().status == Status::Stopped
        });
        let state = runtime.state(&bundle.id).unwrap();
        match state.exit {
            Some(record) => assert_eq!(record.code, code, "{at}"),
            None => assert!(state.lost && role == Role::Monitor, "{at}: {state:?}"),
        }
    }
}

/// Kills each of these roles at one step after the other; the first run only counts the steps.
fn at_every_step(
    kills: &mut BTreeMap<&'static str, u32>,
    name: &'static str,
    roles: &[Role],
    mut run: impl FnMut(Target) -> [u32; 3],
) {
    let steps = run(Target::nobody());
    let stride = PARTS.iter().find(|(part, _)| *part == name).unwrap().1;
    for role in roles {
        let first = *kills.get(name).unwrap_or(&0) % stride + 1;
        for step in (first..=steps[*role as usize]).step_by(stride as usize) {
            run(Target::new(*role, step));
            *kills.entry(name).or_default() += 1;
        }
    }
}

#[test]
fn killed_at_every_step() {
    let _alone = alone();
    let mut kills = BTreeMap::new();
    let mut world = World::new();
    let roles = [Role::Spawner, Role::Monitor, Role::Init];
    at_every_step(&mut kills, "launch", &roles, |target| launch(&mut world, target));
    at_every_step(&mut kills, "start", &[Role::Monitor, Role::Init], |target| start(&mut world, target));
    at_every_step(&mut kills, "exec", &[Role::Monitor, Role::Init], |target| exec(&mut world, target));
    at_every_step(&mut kills, "stop", &[Role::Monitor], |target| stop(&mut world, target));
    at_every_step(&mut kills, "end", &[Role::Monitor], |target| end(&mut world, target));
    assert!(kills.values().all(|count| *count > 10), "{kills:?}");
    assert!(kills.values().sum::<u32>() + ENGINE_KILLS >= KILLS, "{kills:?}");
}

fn launch(world: &mut World, target: Target) -> [u32; 3] {
    world.warm();
    let bundle = world.sleeper();
    let at = format!("launch, {target:?}");
    let (launched, steps, killed) =
        traced(&[(world.spawner, Role::Spawner)], target, || world.place.runtime.launch(&bundle, None));
    match launched {
        Ok(launched) if matches!(killed, None | Some(Role::Spawner)) => {
            assert_eq!(world.place.runtime.state(&bundle.id).unwrap().status, Status::Running, "{at}");
            launched.monitor.send(&Request::Signal { process: INIT, signal: 9 }, &[]).unwrap();
            world.check_end(&bundle, Role::Init, 137, &at);
        }
        // It ran for a moment.
        Ok(_) => world.check_end(&bundle, killed.unwrap(), 137, &at),
        Err(error) => {
            assert!(killed.is_some(), "{at}: {error}");
            assert_eq!(world.place.runtime.containers().unwrap(), Vec::<String>::new(), "{at}: {error}");
        }
    }
    world.check_gone(&bundle, &at);
    steps
}

/// Asks a monitor that may have been killed already, which [`event`] tells then.
fn ask(launched: &Launched, request: &Request<'_>, descriptors: &[BorrowedFd<'_>]) {
    match launched.monitor.send(request, descriptors) {
        Err(MonitorError::Send(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
        sent => sent.unwrap(),
    }
}

/// Ends a container whose monitor may be gone.
fn kill(launched: &Launched) {
    ask(launched, &Request::Signal { process: INIT, signal: 9 }, &[]);
}

/// Until one of these is told, or the monitor is gone.
fn event(launched: &Launched, wanted: impl Fn(&Event) -> bool) -> Event {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match launched.monitor.try_receive().unwrap() {
            Some((event, _)) if event == Event::Closed {} || wanted(&event) => return event,
            Some(_) => {}
            None => std::thread::sleep(Duration::from_micros(200)),
        }
        assert!(Instant::now() < deadline, "nothing is told");
    }
}

fn monitor_of(world: &World) -> u32 {
    children(world.spawner)[0]
}

fn start(world: &mut World, target: Target) -> [u32; 3] {
    world.warm();
    let mut bundle = world.sleeper();
    bundle.wait_for_start = true;
    let at = format!("start, {target:?}");
    let launched = world.place.runtime.launch(&bundle, None).unwrap();
    let tracees = [(monitor_of(world), Role::Monitor), (launched.pid, Role::Init)];
    let (told, steps, killed) = traced(&tracees, target, || {
        ask(&launched, &Request::Start {}, &[]);
        event(&launched, |event| {
            matches!(event, Event::Started { .. } | Event::StartFailed { .. } | Event::Exited { .. })
        })
    });
    if killed.is_none() {
        assert!(matches!(told, Event::Started { .. }), "{told:?}");
    }
    kill(&launched);
    if let Event::StartFailed { .. } = told {
        // It never ran, which whoever asked for the start has been told: there is no end to be written down.
        until(&at, || world.place.runtime.state(&bundle.id).unwrap().status == Status::Stopped);
    } else {
        world.check_end(&bundle, killed.unwrap_or(Role::Init), 137, &at);
    }
    world.check_gone(&bundle, &at);
    steps
}

fn exec(world: &mut World, target: Target) -> [u32; 3] {
    world.warm();
    let bundle = world.sleeper();
    let at = format!("exec, {target:?}");
    let launched = world.place.runtime.launch(&bundle, None).unwrap();
    let mut command = bundle.spec.process().clone().unwrap();
    command.set_args(Some(vec!["true".to_owned()]));
    let plan =
        world.place.runtime.exec(&Exec::new(&bundle.id, launched.process.as_fd(), &bundle.spec, &command)).unwrap();
    let (told, steps, killed) = traced(&[(monitor_of(world), Role::Monitor)], target, || {
        ask(&launched, &Request::Exec { id: 7 }, &plan.descriptors());
        event(&launched, |event| matches!(event, Event::ExecFailed { .. } | Event::ExecExited { .. }))
    });
    match (killed, told) {
        (None, told) => assert_eq!(told, Event::ExecExited { id: 7, code: 0 }, "{at}"),
        (Some(Role::Init), Event::ExecExited { code, .. }) => assert!(code == 137 || code == 0, "{at}: {code}"),
        (Some(Role::Init), Event::ExecFailed { .. }) | (Some(Role::Monitor), _) => {}
        (role, told) => panic!("{at}: {role:?} {told:?}"),
    }
    if killed == Some(Role::Init) {
        // The container does not mind, and takes another one.
        let exec = Exec::new(&bundle.id, launched.process.as_fd(), &bundle.spec, &command);
        assert_eq!(world.place.exec(&launched, &exec).unwrap(), 0, "{at}");
    }
    kill(&launched);
    world.check_end(&bundle, killed.unwrap_or(Role::Init), 137, &at);
    world.check_gone(&bundle, &at);
    steps
}

/// It ends because it is told to.
fn stop(world: &mut World, target: Target) -> [u32; 3] {
    let line = "trap 'echo more; exit 5' TERM; echo last words; while :; do read line; done";
    ends(world, target, line, &Request::Signal { process: INIT, signal: 15 })
}

/// It ends by itself.
fn end(world: &mut World, target: Target) -> [u32; 3] {
    ends(world, target, "echo last words; read line; echo more; exit 5", &Request::CloseStdin { process: INIT })
}

fn ends(world: &mut World, target: Target, line: &str, request: &Request<'_>) -> [u32; 3] {
    world.warm();
    let mut bundle = world.place.shell(line);
    bundle.tasks_die_with_launcher = false;
    bundle.stdin = engine_runtime::Stdin::Open { once: false };
    let at = format!("{request:?}, {target:?}");
    let launched = world.place.launch(&bundle);
    world.place.until_says(&bundle, "last words");
    let (told, steps, _) = traced(&[(monitor_of(world), Role::Monitor)], target, || {
        ask(&launched, request, &[]);
        event(&launched, |event| matches!(event, Event::Exited { .. }))
    });
    let runtime = &world.place.runtime;
    until(&at, || runtime.state(&bundle.id).unwrap().status == Status::Stopped);
    let record = runtime.exit_record(&bundle.id).unwrap();
    // Who was told, or whoever reads a record, knows the truth; the log is whole up to where its writer was killed.
    match (record, told) {
        (Some(record), Event::Exited { code, .. }) => assert_eq!((record.code, code), (5, 5), "{at}"),
        (Some(record), _) => assert!(record.code == 5, "{at}: {record:?}"),
        (None, told) => assert_eq!(told, Event::Closed {}, "{at}"),
    }
    let said = world.place.output(&bundle);
    assert!(said == "last words\nmore\n" || said == "last words\n", "{at}: {said}");
    world.check_gone(&bundle, &at);
    steps
}

/// What an engine does until it is killed; run by [`an_engine_killed_at_every_step_of_a_life`] in a program of its own.
#[test]
fn victim() {
    let Ok(directory) = std::env::var("ENGINE_VICTIM") else { return };
    let _ = std::io::Read::read(&mut std::io::stdin(), &mut [0]);
    let settings = RuntimeSettings {
        run_directory: format!("{directory}/run").into(),
        cgroup_parent: std::env::var("ENGINE_VICTIM_PARENT").unwrap(),
        open_files: None,
    };
    let runtime = Runtime::open(settings).unwrap();
    runtime.warm().unwrap();
    let spec = std::fs::read_to_string(format!("{directory}/config.json")).unwrap();
    let rootfs = engine_runtime::Rootfs::Directory(format!("{directory}/lower").into());
    let mut bundle = Bundle::new("victim", serde_json::from_str(&spec).unwrap(), rootfs);
    bundle.output = engine_runtime::Output::AttachOnly;
    // From here on steps are counted.
    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::URG).unwrap();
    let launched = runtime.launch(&bundle, None).unwrap();
    launched.monitor.send(&Request::Signal { process: INIT, signal: 9 }, &[]).unwrap();
    event(&launched, |event| matches!(event, Event::Exited { .. }));
    runtime.remove("victim").unwrap();
}

#[test]
fn an_engine_killed_at_every_step_of_a_life() {
    let _alone = alone();
    let place = Place::new();
    let parent = format!("engine-victim-{}", std::process::id());
    let bundle = place.container(&["sleep", "1000"]);
    let directory = place.path("");
    std::fs::write(place.path("config.json"), serde_json::to_string(&bundle.spec).unwrap()).unwrap();
    let settings =
        RuntimeSettings { run_directory: place.path("run"), cgroup_parent: parent.clone(), open_files: None };
    let run = |target: Target| {
        let mut victim = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "victim", "--test-threads", "1"])
            .env("ENGINE_VICTIM", &directory)
            .env("ENGINE_VICTIM_PARENT", &parent)
            .stdout(std::process::Stdio::null())
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let (steps, succeeded) = tracer::until_gone(&mut victim, target);
        assert!(succeeded || target.role().is_some(), "{steps:?}");
        // The next engine finds what there is, says what it is, and takes it away.
        let next = Runtime::open(settings.clone()).unwrap();
        for id in next.containers().unwrap() {
            let at = format!("{target:?}");
            let state = next.state(&id).unwrap();
            assert!(matches!(state.status, Status::Creating | Status::Running | Status::Stopped), "{at}: {state:?}");
            let cgroup = next.cgroup(&id).unwrap();
            next.remove(&id).unwrap();
            assert!(!cgroup.exists(), "{at}");
        }
        // A monitor that was on its way may still have to see that nobody wants it.
        let left =
            engine_runtime::Cgroup::at(&std::path::Path::new(&parent).join("victim"), &next.host().cgroups).unwrap();
        until("the container of the dead engine is gone", || {
            let (spawners, others) = family();
            left.remove().is_ok() && !left.exists() && spawners.is_empty() && others.is_empty()
        });
        steps
    };
    let [steps, ..] = run(Target::nobody());
    assert!(steps > ENGINE_KILLS, "{steps} steps");
    for kill in 0..ENGINE_KILLS {
        run(Target::new(Role::Spawner, 1 + kill * steps / ENGINE_KILLS));
    }
}
