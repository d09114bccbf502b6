//! A root file system with busybox in it, a runtime, and containers that are gone with them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use engine_runtime::protocol::{Event, Request};
use engine_runtime::spec::Spec;
use engine_runtime::{
    Bundle, Error, Exec, ExecPlan, Host, Launched, Monitor, Output, Rootfs, Runtime, RuntimeSettings, defaults,
};

/// How long anything may take before a test says that it hangs.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Place {
    directory: tempfile::TempDir,
    pub(crate) runtime: Runtime,
    containers: AtomicU32,
}

/// How a container ended, and what it wrote.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) oom_killed: bool,
    pub(crate) output: String,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self::on(Host::probe().unwrap())
    }

    /// On a machine of which only this is known.
    pub(crate) fn on(host: Host) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let directory = tempfile::tempdir().unwrap();
        let lower = directory.path().join("lower");
        for name in ["bin", "dev", "etc", "proc", "sys", "tmp", "root", "home/build"] {
            fs::create_dir_all(lower.join(name)).unwrap();
        }
        // By another process: a descriptor that is open for writing here could be inherited by a spawner that another test
        // starts at this moment, and keep the program from being executed.
        let copied = std::process::Command::new("cp").arg("/bin/busybox").arg(lower.join("bin")).status().unwrap();
        assert!(copied.success());
        let applets = std::process::Command::new("/bin/busybox").arg("--list").output().unwrap();
        for applet in String::from_utf8(applets.stdout).unwrap().lines().filter(|applet| *applet != "busybox") {
            symlink("busybox", lower.join("bin").join(applet)).unwrap();
        }
        let passwd = "root:x:0:0:root:/root:/bin/sh\nbuild:x:1001:1002::/home/build:/bin/sh\n1001:x:0:0::/:/bin/sh\n";
        fs::write(lower.join("etc/passwd"), passwd).unwrap();
        fs::write(lower.join("etc/group"), "root:x:0:\nwheel:x:10:build\nbuild:x:1002:\naudio:x:29:\n").unwrap();
        let parent = format!("engine-run-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let settings =
            RuntimeSettings { run_directory: directory.path().join("run"), cgroup_parent: parent, open_files: None };
        let runtime = Runtime::with_host(settings, host).unwrap();
        Self { directory, runtime, containers: AtomicU32::new(0) }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The image's only layer.
    pub(crate) fn lower(&self) -> PathBuf {
        self.path("lower")
    }

    /// A container of Docker's defaults that runs a shell line, with its output in a log.
    pub(crate) fn shell(&self, line: &str) -> Bundle {
        self.container(&["sh", "-c", line])
    }

    pub(crate) fn container(&self, arguments: &[&str]) -> Bundle {
        let id = format!("c{}", self.containers.fetch_add(1, Ordering::Relaxed));
        let home = self.path(&id);
        for name in ["upper", "work"] {
            fs::create_dir_all(home.join(name)).unwrap();
        }
        let mut spec = defaults::spec(self.runtime.host());
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        spec.process_mut().as_mut().unwrap().set_args(Some(arguments));
        let rootfs = Rootfs::Overlay {
            lower: vec![self.lower()],
            upper: home.join("upper"),
            work: home.join("work"),
            volatile: true,
        };
        let mut bundle = Bundle::new(id, spec, rootfs);
        bundle.tasks_die_with_launcher = true;
        bundle.output = Output::JsonLog {
            directory: home,
            name: "log".to_owned(),
            max_size: 0,
            max_age: 0,
            max_files: 1,
            attributes: String::new(),
        };
        bundle
    }

    pub(crate) fn launch(&self, bundle: &Bundle) -> Launched {
        self.runtime.launch(bundle, None).unwrap()
    }

    /// Waits for the end of a container and takes it away.
    pub(crate) fn end(&self, bundle: &Bundle, launched: &Launched) -> Ended {
        let (code, oom_killed) = wait(&launched.monitor, |event| match event {
            Event::Exited { code, oom_killed, .. } => Some((*code, *oom_killed)),
            _ => None,
        });
        let record = self.runtime.exit_record(&bundle.id).unwrap().unwrap();
        assert_eq!((record.code, record.oom_killed), (code, oom_killed));
        let output = self.output(bundle);
        self.runtime.remove(&bundle.id).unwrap();
        Ended { code, oom_killed, output }
    }

    /// Launches, waits, takes away.
    pub(crate) fn run(&self, bundle: &Bundle) -> Ended {
        let launched = self.launch(bundle);
        self.end(bundle, &launched)
    }

    /// What a container that ends with code 0 wrote.
    pub(crate) fn says(&self, bundle: &Bundle) -> String {
        let ended = self.run(bundle);
        assert_eq!(ended.code, 0, "{}", ended.output);
        ended.output
    }

    /// The error of a launch, of which nothing may be left.
    pub(crate) fn refuses(&self, bundle: &Bundle) -> Error {
        let error = self.runtime.launch(bundle, None).unwrap_err();
        assert_eq!(self.runtime.containers().unwrap(), Vec::<String>::new());
        assert!(!self.runtime.cgroup(&bundle.id).unwrap().exists());
        error
    }

    /// What a container has written to its log so far.
    pub(crate) fn output(&self, bundle: &Bundle) -> String {
        let log = fs::read_to_string(self.path(&bundle.id).join("log")).unwrap_or_default();
        let text = |line: &str| {
            let record: serde_json::Value = serde_json::from_str(line).unwrap();
            record["log"].as_str().unwrap().to_owned()
        };
        log.lines().map(text).collect()
    }

    pub(crate) fn until_says(&self, bundle: &Bundle, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.output(bundle).contains(text) {
            assert!(Instant::now() < deadline, "{text:?} is not in {:?}", self.output(bundle));
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Runs a further process and returns its code.
    pub(crate) fn exec(&self, launched: &Launched, exec: &Exec<'_>) -> Result<i32, Error> {
        Self::execute(launched, &self.runtime.exec(exec)?)
    }

    /// As [`Place::exec`], compiled already.
    pub(crate) fn execute(launched: &Launched, plan: &ExecPlan) -> Result<i32, Error> {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let id = u64::from(COUNT.fetch_add(1, Ordering::Relaxed));
        launched.monitor.send(&Request::Exec { id }, &plan.descriptors()).unwrap();
        wait(&launched.monitor, |event| match event {
            Event::ExecExited { id: ended, code } if *ended == id => Some(Ok(*code)),
            Event::ExecFailed { id: ended, failure } if *ended == id => Some(Err(plan.failed(*failure))),
            _ => None,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for id in self.runtime.containers().unwrap() {
            let _ = self.runtime.remove(&id);
        }
    }
}

pub(crate) fn wait<T>(monitor: &Monitor, mut wanted: impl FnMut(&Event) -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some((event, _)) = monitor.try_receive().unwrap() {
            if let Some(found) = wanted(&event) {
                return found;
            }
            assert_ne!(event, Event::Closed {}, "the monitor is gone");
        } else {
            assert!(Instant::now() < deadline, "the event does not come");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

pub(crate) fn linux(spec: &mut Spec) -> &mut engine_runtime::spec::Linux {
    spec.linux_mut().as_mut().unwrap()
}

pub(crate) fn process(spec: &mut Spec) -> &mut engine_runtime::spec::Process {
    spec.process_mut().as_mut().unwrap()
}
