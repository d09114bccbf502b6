#![allow(clippy::unwrap_used, missing_docs)]
//! Containers in scopes that systemd makes. Where it does not run, as in most machines that test, a stand-in does what it would
//! do; `tests/cgroup2/run` has these tests with systemd itself.

#[allow(dead_code, unused_imports)]
#[path = "../container/place.rs"]
mod place;
mod stand_in;

use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use engine_runtime::protocol::{INIT, Request};
use engine_runtime::spec::{LinuxMemoryBuilder, LinuxPids, LinuxPidsBuilder, LinuxResources, LinuxResourcesBuilder};
use engine_runtime::{Bundle, Error, Exec, Host};
use place::{Place, linux};
use stand_in::StandIn;

struct World {
    place: Place,
    /// What the stand-in was asked for; `None` with systemd itself.
    stand_in: Option<StandIn>,
}

impl World {
    fn new() -> Self {
        let mut host = Host::probe().unwrap();
        let stand_in = host.cgroups.systemd.is_none().then(|| StandIn::new(&host.cgroups));
        if let Some(stand_in) = &stand_in {
            host.cgroups.systemd = Some(stand_in.socket());
        }
        Self { place: Place::on(host), stand_in }
    }

    /// A container in a scope, and the scope's name.
    fn bundle(&self, line: &str) -> (Bundle, PathBuf) {
        let mut bundle = self.place.shell(line);
        let name = format!("{}-{}", bundle.id, std::process::id());
        let name = format!("{name}-{}", self.place.path("").file_name().unwrap().to_str().unwrap().trim_matches('.'));
        linux(&mut bundle.spec).set_cgroups_path(Some(format!("engine-test.slice:try:{name}").into()));
        (bundle, Path::new("engine.slice/engine-test.slice").join(format!("try-{name}.scope")))
    }

    /// The directories of a scope that are there.
    fn directories(&self, scope: &Path) -> Vec<PathBuf> {
        let cgroups = &self.place.runtime.host().cgroups;
        let mounts = cgroups.hierarchies.iter().map(|hierarchy| hierarchy.mount.clone());
        let mounts = mounts.chain(cgroups.unified.iter().map(|unified| unified.mount.clone()));
        mounts.map(|mount| mount.join(scope)).filter(|directory| directory.exists()).collect()
    }

    fn value(&self, scope: &Path, file: &str) -> String {
        let at = self.directories(scope).into_iter().map(|directory| directory.join(file)).find(|file| file.exists());
        fs::read_to_string(at.unwrap()).unwrap().trim().to_owned()
    }
}

fn pids(limit: i64) -> LinuxPids {
    LinuxPidsBuilder::default().limit(limit).build().unwrap()
}

fn resources(bundle: &mut Bundle) -> &mut LinuxResources {
    let linux = linux(&mut bundle.spec);
    if linux.resources().is_none() {
        linux.set_resources(Some(LinuxResources::default()));
    }
    linux.resources_mut().as_mut().unwrap()
}

#[test]
fn a_container_lives_in_a_scope() {
    let world = World::new();
    let runtime = &world.place.runtime;
    let (mut bundle, scope) = world.bundle("trap 'exit 7' TERM; echo up; while :; do sleep 0.01; done");
    resources(&mut bundle).set_pids(Some(pids(50)));
    let memory = LinuxMemoryBuilder::default().limit(64 << 20).build().unwrap();
    resources(&mut bundle).set_memory(Some(memory));
    let launched = world.place.launch(&bundle);
    let inside = fs::read_to_string(format!("/proc/{}/cgroup", launched.pid)).unwrap();
    for line in inside.lines() {
        assert!(line.ends_with(&format!("/{}", scope.display())), "{inside}");
    }
    assert_eq!(world.value(&scope, "pids.max"), "50");
    // Nobody but the container is in it: whom the scope was made around is gone.
    world.place.until_says(&bundle, "up");
    let alone = runtime.cgroup(&bundle.id).unwrap().pids().unwrap();
    assert!(alone.contains(&launched.pid) && alone.len() <= 2, "{alone:?}");

    let more = LinuxResourcesBuilder::default().pids(pids(77)).build().unwrap();
    runtime.update(&bundle.id, &more).unwrap();
    assert_eq!(world.value(&scope, "pids.max"), "77");
    let command = bundle.spec.process().clone().unwrap();
    let mut command = command;
    command.set_args(Some(["sh", "-c", "exit 3"].map(str::to_owned).to_vec()));
    let exec = Exec::new(&bundle.id, launched.process.as_fd(), &bundle.spec, &command);
    assert_eq!(world.place.exec(&launched, &exec).unwrap(), 3);

    launched.monitor.send(&Request::Signal { process: INIT, signal: 15 }, &[]).unwrap();
    assert_eq!(world.place.end(&bundle, &launched).code, 7);
    assert_eq!(world.directories(&scope), Vec::<PathBuf>::new());
    if let Some(stand_in) = &world.stand_in {
        let asked = stand_in.asked();
        assert_eq!(asked, ["StartTransientUnit", "SetUnitProperties", "StopUnit", "ResetFailedUnit"]);
    }
}

#[test]
fn what_still_runs_is_killed_with_the_scope() {
    let world = World::new();
    let (bundle, scope) = world.bundle("sleep 1000 & sleep 1000");
    let launched = world.place.launch(&bundle);
    world.place.runtime.remove(&bundle.id).unwrap();
    assert_eq!(world.directories(&scope), Vec::<PathBuf>::new());
    assert!(engine_sys::process::wait(&launched.process, Some(std::time::Duration::from_secs(30))).unwrap());
    // And taken away again is no error.
    world.place.runtime.cgroup(&bundle.id).unwrap().remove().unwrap();
}

#[test]
fn a_launch_that_fails_leaves_no_scope() {
    let world = World::new();
    let (mut bundle, scope) = world.bundle("true");
    place::process(&mut bundle.spec).set_args(Some(vec!["/no/such/program".to_owned()]));
    assert!(matches!(world.place.refuses(&bundle), Error::Process { .. }));
    assert_eq!(world.directories(&scope), Vec::<PathBuf>::new());
    // A limit that the kernel refuses.
    let (mut bundle, scope) = world.bundle("true");
    resources(&mut bundle).set_pids(Some(pids(i64::MAX)));
    world.place.refuses(&bundle);
    assert_eq!(world.directories(&scope), Vec::<PathBuf>::new());
}

#[test]
fn without_systemd_there_are_no_scopes() {
    let mut host = Host::probe().unwrap();
    host.cgroups.systemd = None;
    let place = Place::on(host);
    let mut bundle = place.shell("true");
    linux(&mut bundle.spec).set_cgroups_path(Some("a.slice:b:c".into()));
    assert!(place.refuses(&bundle).to_string().contains("systemd does not run here"));
    linux(&mut bundle.spec).set_cgroups_path(Some("a:b:c".into()));
    let error = place.runtime.launch(&bundle, None).unwrap_err();
    assert!(error.to_string().contains("not the name of a slice"), "{error}");
}
