//! A further process of a running container.

use std::fs;
use std::os::fd::AsFd;
use std::path::PathBuf;

use engine_runtime::cgroup::Subgroup;
use engine_runtime::spec::Process;
use engine_runtime::{Bundle, Error, Exec, Launched};

use crate::place::Place;

pub(crate) struct Running {
    pub(crate) place: Place,
    pub(crate) bundle: Bundle,
    pub(crate) launched: Launched,
}

impl Running {
    pub(crate) fn new() -> Self {
        Self::in_place(Place::new())
    }

    pub(crate) fn in_place(place: Place) -> Self {
        let mut bundle = place.shell("echo up; exec sleep 1000");
        bundle.spec.set_hostname(Some("box".to_owned()));
        let launched = place.launch(&bundle);
        place.until_says(&bundle, "up");
        Self { place, bundle, launched }
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Process {
        let mut command = self.bundle.spec.process().clone().unwrap();
        command.set_args(Some(arguments.iter().map(|&argument| argument.to_owned()).collect()));
        command
    }

    /// Runs a shell line that writes to `/out`, and returns what it wrote.
    pub(crate) fn shell(&self, line: &str, change: impl FnOnce(&mut Exec<'_>)) -> String {
        self.shell_in(&[], line, change)
    }

    /// As [`Self::shell`], in cgroups beneath the container's.
    fn shell_in(&self, subgroups: &[Subgroup], line: &str, change: impl FnOnce(&mut Exec<'_>)) -> String {
        let command = self.command(&["sh", "-c", &format!("({line}) > /out 2>&1; chmod 666 /out")]);
        let mut exec = Exec::new(&self.bundle.id, self.launched.process.as_fd(), &self.bundle.spec, &command);
        exec.subgroups = subgroups;
        change(&mut exec);
        assert_eq!(self.place.exec(&self.launched, &exec).unwrap(), 0);
        std::fs::read_to_string(self.place.path(&self.bundle.id).join("upper/out")).unwrap()
    }

    fn fails(&self, command: &Process) -> Error {
        let exec = Exec::new(&self.bundle.id, self.launched.process.as_fd(), &self.bundle.spec, command);
        self.place.exec(&self.launched, &exec).unwrap_err()
    }
}

#[test]
fn it_is_in_the_same_container() {
    let running = Running::new();
    let said = running.shell(
        "hostname; \
         for p in self 1; do for n in cgroup ipc mnt net pid uts; do readlink /proc/$p/ns/$n; done | md5sum; done; \
         grep -E 'CapEff|CapInh|Seccomp:' /proc/self/status; cat /proc/self/cgroup | grep -vc ':/$'; tr '\\0' ' ' < /proc/1/cmdline",
        |_| {},
    );
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines[0], "box");
    assert_eq!(lines[1], lines[2], "every namespace is the same");
    assert_eq!(lines[3..6].join(" ").replace('\t', ""), "CapInh:0000000000000000 CapEff:00000000a80425fb Seccomp:2");
    assert_eq!(lines[6], "0", "every cgroup is the container's: {said}");
    assert_eq!(lines[7], "sleep 1000 ");
}

#[test]
fn its_cgroups_are_the_containers() {
    let running = Running::new();
    let command = running.command(&["sleep", "1000"]);
    let exec = Exec::new(&running.bundle.id, running.launched.process.as_fd(), &running.bundle.spec, &command);
    let plan = running.place.runtime.exec(&exec).unwrap();
    let request = engine_runtime::protocol::Request::Exec { id: 7 };
    running.launched.monitor.send(&request, &plan.descriptors()).unwrap();
    let pid = crate::place::wait(&running.launched.monitor, |event| match event {
        engine_runtime::protocol::Event::ExecStarted { id: 7, pid } => Some(*pid),
        _ => None,
    });
    let of = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    assert_eq!(of(pid), of(running.launched.pid));
    let mut pids = running.place.runtime.cgroup(&running.bundle.id).unwrap().pids().unwrap();
    pids.retain(|known| *known != running.launched.pid);
    assert_eq!(pids, [pid]);
}

#[test]
fn it_is_executed_again_as_it_was_compiled() {
    let running = Running::new();
    let (launched, runtime) = (&running.launched, &running.place.runtime);
    let command = running.command(&["/again"]);
    running.shell("echo '#!/bin/sh' > /again; echo 'echo $$ >> /said' >> /again; chmod +x /again", |_| {});
    let exec = Exec::new(&running.bundle.id, launched.process.as_fd(), &running.bundle.spec, &command);
    let first = runtime.exec(&exec).unwrap();
    let again = || runtime.exec_again(first.compiled(), launched.process.as_fd()).unwrap();
    assert_eq!(Place::execute(launched, &first).unwrap(), 0);
    for _ in 0..3 {
        assert_eq!(Place::execute(launched, &again().unwrap()).unwrap(), 0);
    }
    assert_eq!(running.shell("sort -u /said | wc -l; rm /again", |_| {}), "4\n");
    let error = Place::execute(launched, &again().unwrap()).unwrap_err().to_string();
    assert_eq!(error, running.fails(&command).to_string());
    assert!(error.contains("/again: no such file or directory"), "{error}");
}

/// The directories of a container's cgroup, those of version 1 and that of version 2.
fn cgroups(running: &Running) -> (Vec<PathBuf>, Option<PathBuf>) {
    let cgroup = running.place.runtime.cgroup(&running.bundle.id).unwrap();
    let layout = &running.place.runtime.host().cgroups;
    let one = layout.hierarchies.iter().map(|hierarchy| hierarchy.mount.join(cgroup.path())).collect();
    (one, layout.unified.as_ref().map(|unified| unified.mount.join(cgroup.path())))
}

#[test]
fn it_comes_to_an_init_that_has_gone_beneath() {
    let running = Running::new();
    let (_, Some(own)) = cgroups(&running) else { return };
    let (command, init) = (running.command(&["true"]), running.launched.process.as_fd());
    let before = running.place.runtime.exec(&Exec::new(&running.bundle.id, init, &running.bundle.spec, &command));
    let before = before.unwrap();
    // As systemd does it, and a daemon for containers in a container.
    fs::create_dir(own.join("init")).unwrap();
    fs::write(own.join("init/cgroup.procs"), running.launched.pid.to_string()).unwrap();
    let controllers = fs::read_to_string(own.join("cgroup.controllers")).unwrap();
    for controller in controllers.split_whitespace() {
        fs::write(own.join("cgroup.subtree_control"), format!("+{controller}")).unwrap();
    }
    // Where there is nothing to be shared out the container's own cgroup takes processes as before.
    let expected = if controllers.trim().is_empty() { "0::/\n" } else { "0::/init\n" };
    assert_eq!(running.shell("grep ^0:: /proc/self/cgroup", |_| {}), expected);
    let again = running.place.runtime.exec_again(before.compiled(), init).unwrap();
    assert_eq!(again.is_some(), expected == "0::/\n", "what was compiled before leads elsewhere");
}

#[test]
fn it_enters_cgroups_beneath_that_are_asked_for() {
    let running = Running::new();
    let (one, two) = cgroups(&running);
    for directory in one.iter().chain(&two) {
        fs::create_dir(directory.join("sub")).unwrap();
    }
    let all = [Subgroup { controllers: Vec::new(), path: "sub".into() }];
    assert_eq!(running.shell_in(&all, "grep -v ':/sub$' /proc/self/cgroup; true", |_| {}), "");
    let command = running.command(&["true"]);
    let refused = |subgroup: Subgroup| {
        let all = [subgroup];
        let mut exec = Exec::new(&running.bundle.id, running.launched.process.as_fd(), &running.bundle.spec, &command);
        exec.subgroups = &all;
        running.place.exec(&running.launched, &exec).unwrap_err().to_string()
    };
    assert!(refused(Subgroup { controllers: Vec::new(), path: "nope".into() }).contains("nope"));
    let of_pids = Subgroup { controllers: vec!["pids".to_owned()], path: "sub".into() };
    if one.is_empty() {
        assert!(refused(of_pids).contains("version 2"));
    } else {
        let said = running.shell_in(&[of_pids], "cat /proc/self/cgroup", |_| {});
        let beneath: Vec<&str> = said.lines().filter(|line| line.ends_with(":/sub")).collect();
        assert!(matches!(beneath.as_slice(), [pids] if pids.contains("pids")), "{said}");
    }
}

#[test]
fn another_user_and_all_capabilities() {
    let running = Running::new();
    running.shell("true", |_| {});
    let command = running.command(&["sh", "-c", "id -u > /out; grep CapEff /proc/self/status >> /out"]);
    let read = || std::fs::read_to_string(running.place.path(&running.bundle.id).join("upper/out")).unwrap();
    let mut exec = Exec::new(&running.bundle.id, running.launched.process.as_fd(), &running.bundle.spec, &command);
    exec.user = Some("build");
    assert_eq!(running.place.exec(&running.launched, &exec).unwrap(), 0);
    assert_eq!(read(), "1001\nCapEff:\t0000000000000000\n");
    let said = running.shell("id -u; grep CapEff /proc/self/status", |exec| exec.privileged = true);
    assert_eq!(said, format!("0\nCapEff:\t{:016x}\n", running.place.runtime.host().bounding));
}

#[test]
fn what_cannot_be_executed_says_so_in_the_known_words() {
    let running = Running::new();
    let say = |arguments: &[&str]| match running.fails(&running.command(arguments)) {
        Error::Process { message, exit_code } => (message, exit_code),
        other => panic!("{other}"),
    };
    let known = |text: &str| format!("unable to start container process: exec: {text}");
    assert_eq!(say(&["nope"]), (known("\"nope\": executable file not found in $PATH"), 127));
    assert_eq!(say(&["/nope"]), (known("\"/nope\": stat /nope: no such file or directory"), 127));
    assert_eq!(say(&["/etc/passwd"]), (known("\"/etc/passwd\": permission denied"), 126));
    assert_eq!(say(&["/etc"]), (known("\"/etc\": is a directory: permission denied"), 126));
}

#[test]
fn a_working_directory_is_not_a_way_out() {
    let running = Running::new();
    for path in ["/proc/self/fd/3", "/proc/self/fd/7", "/proc/self/fd/8", "/proc/1/fd/9"] {
        let mut command = running.command(&["pwd"]);
        command.set_cwd(path.into());
        let error = running.fails(&command).to_string();
        assert!(error.contains("chdir to cwd") || error.contains("outside of container"), "{path}: {error}");
    }
}

/// Descriptors, children, and bytes of memory that a process has.
fn size(pid: u32) -> (usize, usize, u64) {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let kilobytes = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    (descriptors, children.split_whitespace().count(), kilobytes("VmSize:") << 10)
}

#[test]
fn many_of_them_leave_nothing_with_the_monitor() {
    let running = Running::new();
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", running.launched.pid)).unwrap();
    let monitor = stat.rsplit_once(") ").unwrap().1.split(' ').nth(1).unwrap().parse().unwrap();
    let command = running.command(&["true"]);
    let missing = running.command(&["/no/such/program"]);
    let run = |count| {
        for _ in 0..count {
            let exec = |command| {
                Exec::new(&running.bundle.id, running.launched.process.as_fd(), &running.bundle.spec, command)
            };
            assert_eq!(running.place.exec(&running.launched, &exec(&command)).unwrap(), 0);
            assert!(running.place.exec(&running.launched, &exec(&missing)).is_err());
        }
    };
    // `EXECS=50000` tries a hundred thousand.
    let count = std::env::var("EXECS").map_or(300, |count| count.parse().unwrap());
    // What an exec had is put away with the turn in which its end is told.
    let until = |what: &dyn Fn((usize, usize, u64)) -> bool| {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while !what(size(monitor)) {
            assert!(std::time::Instant::now() < deadline, "{:?}", size(monitor));
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    };
    run(10);
    until(&|(_, children, _)| children == 1);
    let before = size(monitor);
    run(count);
    // Of the first ones something may still have been there when we looked.
    until(&|now| now.0 <= before.0 && now.1 <= before.1 && now.2 <= before.2);
}
