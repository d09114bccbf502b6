#![allow(clippy::unwrap_used, missing_docs)]
//! Cgroups on the machine that runs the tests: version 1 as it is mounted, and what version 2 can do beside it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use engine_runtime::cgroup::Layout;
use engine_runtime::spec::LinuxResources;
use engine_runtime::{Cgroup, Error, ErrorKind};

/// A cgroup of one test, beneath a parent of its own; both are gone with it.
struct Place {
    layout: Layout,
    parent: PathBuf,
    cgroup: Cgroup,
}

impl Place {
    fn new(layout: Layout) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let parent =
            PathBuf::from(format!("engine-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
        let cgroup = Cgroup::at(&parent.join("c1"), &layout).unwrap();
        Self { layout, parent, cgroup }
    }

    /// The hierarchies of version 1, if this machine has any, else version 2.
    fn of_machine() -> Self {
        Self::new(Layout::probe().unwrap())
    }

    /// Version 2 alone.
    fn of_version_2() -> Option<Self> {
        let layout = Layout::probe().unwrap();
        layout.unified.is_some().then(|| Self::new(Layout { hierarchies: Vec::new(), ..layout }))
    }

    fn has(&self, controller: &str) -> bool {
        self.layout.hierarchy(controller).is_some()
    }

    fn read(&self, controller: &str, file: &str) -> String {
        let mount = self.layout.hierarchy(controller).unwrap();
        fs::read_to_string(mount.join(self.cgroup.path()).join(file)).unwrap().trim().to_owned()
    }

    /// Every directory that the cgroup can have.
    fn directories(&self) -> Vec<PathBuf> {
        let mounts = self.layout.hierarchies.iter().map(|hierarchy| &hierarchy.mount);
        let mounts = mounts.chain(self.layout.unified.iter().map(|unified| &unified.mount));
        mounts.map(|mount| mount.join(self.cgroup.path())).collect()
    }

    /// Runs a shell line inside.
    fn spawn(&self, line: &str) -> Child {
        let enter: String = self
            .directories()
            .iter()
            .map(|directory| {
                let tasks = directory.join("tasks");
                let file = if tasks.exists() { tasks } else { directory.join("cgroup.procs") };
                format!("echo 0 > {} || exit 99; ", file.display())
            })
            .collect();
        let line = format!("{enter}echo in; {line}");
        let mut child =
            Command::new("sh").args(["-c", &line]).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        // It is inside once it says so.
        let mut said = [0; 3];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut said).unwrap();
        child
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = self.cgroup.remove();
        let _ = Cgroup::at(&self.parent, &self.layout).unwrap().remove();
    }
}

fn resources(json: &str) -> LinuxResources {
    serde_json::from_str(json).unwrap()
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn limits_are_set_changed_and_taken_away() {
    let place = Place::of_machine();
    if !place.has("memory") {
        // Without version 1 the files have other names; `version_2_…` look at those.
        return;
    }
    place
        .cgroup
        .create(&resources(
            r#"{"memory": {"limit": 33554432, "swap": 33554432, "reservation": 16777216, "swappiness": 10},
                "cpu": {"shares": 512, "quota": 50000, "period": 100000, "cpus": "0"}, "pids": {"limit": 9}}"#,
        ))
        .unwrap();
    assert_eq!(place.read("memory", "memory.limit_in_bytes"), "33554432");
    assert_eq!(place.read("memory", "memory.memsw.limit_in_bytes"), "33554432");
    assert_eq!(place.read("memory", "memory.soft_limit_in_bytes"), "16777216");
    assert_eq!(place.read("memory", "memory.swappiness"), "10");
    assert_eq!(place.read("cpu", "cpu.shares"), "512");
    assert_eq!(place.read("cpu", "cpu.cfs_quota_us"), "50000");
    assert_eq!(place.read("cpuset", "cpuset.cpus"), "0");
    assert_ne!(place.read("cpuset", "cpuset.mems"), "", "inherited");
    assert_eq!(place.read("pids", "pids.max"), "9");

    // Above the present bound of both together, so that the other one has to be set first.
    place.cgroup.update(&resources(r#"{"memory": {"limit": 67108864, "swap": 134217728}}"#)).unwrap();
    assert_eq!(place.read("memory", "memory.limit_in_bytes"), "67108864");
    assert_eq!(place.read("memory", "memory.memsw.limit_in_bytes"), "134217728");
    place.cgroup.update(&resources(r#"{"memory": {"limit": -1}, "pids": {"limit": -1}}"#)).unwrap();
    assert_eq!(place.cgroup.usage().unwrap().memory.limit, None);
    assert_eq!(place.read("pids", "pids.max"), "max");

    place.cgroup.remove().unwrap();
    assert!(!place.cgroup.exists());
    place.cgroup.remove().unwrap();
}

#[test]
fn a_refused_limit_leaves_nothing() {
    let place = Place::of_machine();
    if !place.has("cpuset") {
        return;
    }
    let error = place.cgroup.create(&resources(r#"{"cpu": {"cpus": "4000"}}"#)).unwrap_err();
    assert!(matches!(&error, Error::Resource { value, .. } if value == "4000"), "{error}");
    assert!(!place.cgroup.exists());
    let error =
        place.cgroup.create(&resources(r#"{"pids": {"limit": 5}, "rdma": {"x": {"hcaHandles": 3}}}"#)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(!place.cgroup.exists());
}

#[test]
fn first_ones_beneath_a_new_parent_can_all_be_entered() {
    for _ in 0..30 {
        let place = Place::of_machine();
        let at = |number: u32| Cgroup::at(&place.parent.join(format!("c{number}")), &place.layout).unwrap();
        let together = std::sync::Barrier::new(8);
        std::thread::scope(|scope| {
            for number in 1..=8 {
                let (at, together) = (&at, &together);
                scope.spawn(move || {
                    together.wait();
                    at(number).create(&LinuxResources::default()).unwrap();
                });
            }
        });
        for number in 1..=8 {
            let cgroup = at(number);
            if let Some(mount) = place.layout.hierarchy("cpuset") {
                for file in ["cpuset.cpus", "cpuset.mems"] {
                    let value = fs::read_to_string(mount.join(cgroup.path()).join(file)).unwrap();
                    assert_ne!(value.trim(), "", "{file} of {}", cgroup.path().display());
                }
            }
            cgroup.remove().unwrap();
        }
    }
}

#[test]
fn what_a_crash_left_is_replaced_and_what_lives_is_not() {
    let place = Place::of_machine();
    place.cgroup.create(&resources(r#"{"pids": {"limit": 3}}"#)).unwrap();
    place.cgroup.create(&LinuxResources::default()).unwrap();
    assert_eq!(place.cgroup.usage().unwrap().pids.limit, None);
    let mut child = place.spawn("exec sleep 1000");
    let error = place.cgroup.create(&LinuxResources::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert_eq!(place.cgroup.pids().unwrap(), [child.id()]);
    child.kill().unwrap();
    child.wait().unwrap();
}

fn processes_are_found_stopped_and_killed(place: &Place) {
    place.cgroup.create(&LinuxResources::default()).unwrap();
    let mut child = place.spawn("sleep 1000 & sleep 1000 & wait");
    until("three processes", || place.cgroup.pids().unwrap().len() == 3);
    assert!(place.cgroup.pids().unwrap().contains(&child.id()));

    place.cgroup.freeze().unwrap();
    assert!(place.cgroup.is_frozen().unwrap());
    place.cgroup.thaw().unwrap();
    until("they go on", || !place.cgroup.is_frozen().unwrap());

    place.cgroup.freeze().unwrap();
    place.cgroup.kill().unwrap();
    child.wait().unwrap();
    until("all are gone", || place.cgroup.pids().unwrap().is_empty());
    place.cgroup.remove().unwrap();
    place.cgroup.kill().unwrap();
}

#[test]
fn processes_of_the_machines_layout() {
    processes_are_found_stopped_and_killed(&Place::of_machine());
}

#[test]
fn processes_of_version_1_alone() {
    let layout = Layout { unified: None, ..Layout::probe().unwrap() };
    if !layout.hierarchies.is_empty() {
        processes_are_found_stopped_and_killed(&Place::new(layout));
    }
}

#[test]
fn processes_of_version_2_alone() {
    if let Some(place) = Place::of_version_2() {
        processes_are_found_stopped_and_killed(&place);
    }
}

#[test]
fn processes_of_version_2_before_it_could_kill() {
    if let Some(mut place) = Place::of_version_2() {
        place.layout.unified.as_mut().unwrap().kills = false;
        place.cgroup = Cgroup::at(&place.parent.join("c1"), &place.layout).unwrap();
        processes_are_found_stopped_and_killed(&place);
    }
}

#[test]
fn removing_kills_and_takes_nested_cgroups_along() {
    let place = Place::of_machine();
    place.cgroup.create(&LinuxResources::default()).unwrap();
    for directory in place.directories() {
        fs::create_dir_all(directory.join("nested/deeper")).unwrap();
    }
    let mut child = place.spawn("trap '' TERM; exec sleep 1000");
    // Somebody has to take the exit status, as the monitor of a container does.
    let waiter = std::thread::spawn(move || child.wait().unwrap());
    place.cgroup.remove().unwrap();
    assert!(!place.cgroup.exists());
    waiter.join().unwrap();
}

#[test]
fn want_of_memory_is_counted() {
    let place = Place::of_machine();
    if !place.has("memory") {
        return;
    }
    place.cgroup.create(&resources(r#"{"memory": {"limit": 16777216, "swap": 16777216}}"#)).unwrap();
    assert_eq!(place.cgroup.oom_kills().unwrap(), 0);
    let mut child = place.spawn("exec tail /dev/zero");
    assert!(!child.wait().unwrap().success());
    assert_eq!(place.cgroup.oom_kills().unwrap(), 1);
    let usage = place.cgroup.usage().unwrap();
    assert_eq!(usage.memory.limit, Some(16_777_216));
    assert!(usage.memory.peak > Some(8 << 20) && usage.cpu.total > 0, "{usage:?}");
}

fn an_update_is_done_whole_or_not_at_all(place: &Place, read: impl Fn(&str) -> String) {
    place.cgroup.create(&resources(r#"{"pids": {"limit": 9}, "cpu": {"shares": 512}}"#)).unwrap();
    let before = [read("pids.max"), read("cpu")];
    // The last value that is written makes no sense.
    let error = place
        .cgroup
        .update(&resources(r#"{"pids": {"limit": 20}, "cpu": {"shares": 300}, "unified": {"pids.max": "x"}}"#))
        .or_else(|error| match error.kind() {
            // Version 2 does not have this controller here: a cpuset that does not exist.
            ErrorKind::Unsupported => {
                place.cgroup.update(&resources(r#"{"pids": {"limit": 20}, "cpu": {"shares": 300, "cpus": "4000"}}"#))
            }
            _ => Err(error),
        })
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert_eq!([read("pids.max"), read("cpu")], before);
    let wide = r#"{"cpu": {"quota": 50000, "period": 100000}, "pids": {"limit": 20}}"#;
    place.cgroup.update(&resources(wide)).unwrap();
    // What is not spoken of stays.
    place.cgroup.update(&resources(r#"{"cpu": {"period": 200000}}"#)).unwrap();
    assert_eq!(read("pids.max"), "20");
    assert_eq!(read("quota"), "50000");
}

#[test]
fn updates_of_version_1() {
    let place = Place::of_machine();
    if place.has("cpuset") && place.has("pids") && place.has("cpu") {
        an_update_is_done_whole_or_not_at_all(&place, |what| match what {
            "cpu" => place.read("cpu", "cpu.shares"),
            "quota" => place.read("cpu", "cpu.cfs_quota_us"),
            file => place.read("pids", file),
        });
    }
}

#[test]
fn updates_of_version_2() {
    let Some(place) = Place::of_version_2() else { return };
    let Some(unified) = &place.layout.unified else { return };
    if ["cpu", "pids"].iter().all(|name| unified.controllers.iter().any(|c| c == name)) {
        an_update_is_done_whole_or_not_at_all(&place, |what| {
            let file = match what {
                "cpu" => "cpu.weight",
                "quota" => "cpu.max",
                file => file,
            };
            let text = fs::read_to_string(unified.mount.join(place.cgroup.path()).join(file)).unwrap();
            text.split_whitespace().next().unwrap().to_owned()
        });
    }
}

#[test]
fn an_update_of_what_is_gone_or_too_small() {
    let place = Place::of_machine();
    let error = place.cgroup.update(&LinuxResources::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    place.cgroup.create(&LinuxResources::default()).unwrap();
    if place.has("memory") {
        let mut child = place.spawn("exec sleep 1000");
        let error =
            place.cgroup.update(&resources(r#"{"memory": {"limit": 4096, "checkBeforeUpdate": true}}"#)).unwrap_err();
        assert!(error.to_string().starts_with("unable to set memory limit to 4096 (current usage: "), "{error}");
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

fn devices_are_refused(place: &Place) {
    let rules = engine_runtime::defaults::device_rules();
    let mut resources = LinuxResources::default();
    resources.set_devices(Some(rules));
    place.cgroup.create(&resources).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let node = directory.path().join("mem");
    // 1:11 is the kernel's log: harmless to open, and none of the allowed ones.
    let line = format!(
        "mknod {0} c 1 11 && echo made; (: < {0}) 2>/dev/null && echo opened; : < /dev/null && echo null",
        node.display()
    );
    let child = place.spawn(&line);
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "made\nnull\n");

    resources.set_devices(Some(engine_runtime::defaults::all_devices()));
    place.cgroup.update(&resources).unwrap();
    let child = place.spawn(&format!("(: < {0}) 2>/dev/null && echo opened", node.display()));
    assert_eq!(String::from_utf8_lossy(&child.wait_with_output().unwrap().stdout), "opened\n");
}

#[test]
fn devices_of_the_machines_layout() {
    devices_are_refused(&Place::of_machine());
}

#[test]
fn devices_of_version_2_alone() {
    if let Some(place) = Place::of_version_2() {
        devices_are_refused(&place);
    }
}

#[test]
fn a_cgroup_that_is_not_there() {
    let place = Place::of_machine();
    assert!(place.cgroup.pids().unwrap().is_empty());
    assert!(place.cgroup.usage().is_err());
    assert!(!place.cgroup.exists());
    assert_eq!(Cgroup::at(Path::new("/"), &place.layout).unwrap_err().kind(), ErrorKind::Invalid);
}
