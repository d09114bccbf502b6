//! What a container may use up.

use engine_runtime::spec::LinuxResources;

use crate::place::{Place, linux};

fn limited(place: &Place, line: &str, resources: &str) -> engine_runtime::Bundle {
    let mut bundle = place.shell(line);
    let mut resources: LinuxResources = serde_json::from_str(resources).unwrap();
    resources.set_devices(Some(engine_runtime::defaults::device_rules()));
    linux(&mut bundle.spec).set_resources(Some(resources));
    bundle
}

#[test]
fn memory() {
    let place = Place::new();
    let limit = r#"{"memory": {"limit": 33554432, "swap": 33554432}}"#;
    let bundle = limited(&place, "exec tail /dev/zero", limit);
    let ended = place.run(&bundle);
    assert_eq!((ended.code, ended.oom_killed), (137, true));
    let bundle = limited(&place, "tail /dev/zero; echo still here", limit);
    let ended = place.run(&bundle);
    assert_eq!((ended.code, ended.oom_killed), (0, true), "a process other than the first");
    assert!(ended.output.contains("still here"), "{ended:?}");
}

#[test]
fn processes() {
    let place = Place::new();
    let bundle = limited(
        &place,
        "for i in 1 2 3 4 5 6 7 8; do sleep 100 & done 2>&1; echo started; kill %1",
        r#"{"pids": {"limit": 4}}"#,
    );
    let ended = place.run(&bundle);
    assert!(ended.output.contains("can't fork"), "{ended:?}");
}

#[test]
fn a_limit_is_changed_while_it_runs() {
    let place = Place::new();
    let bundle = limited(&place, "echo up; exec sleep 1000", r#"{"pids": {"limit": 4}}"#);
    let launched = place.launch(&bundle);
    let cgroup = place.runtime.cgroup(&bundle.id).unwrap();
    cgroup.update(&serde_json::from_str(r#"{"pids": {"limit": 7}}"#).unwrap()).unwrap();
    place.until_says(&bundle, "up");
    let usage = cgroup.usage().unwrap();
    assert_eq!((usage.pids.current, usage.pids.limit), (1, Some(7)));
    assert_eq!(cgroup.pids().unwrap(), [launched.pid]);
    cgroup.kill().unwrap();
    assert_eq!(place.end(&bundle, &launched).code, 137);
}

#[test]
fn a_named_cgroup_is_found_again() {
    let place = Place::new();
    let mut bundle = place.shell("exec sleep 1000");
    let path = format!("{}/elsewhere", place.runtime.host().cgroup_parent);
    linux(&mut bundle.spec).set_cgroups_path(Some(format!("/{path}").into()));
    let launched = place.launch(&bundle);
    let cgroup = place.runtime.cgroup(&bundle.id).unwrap();
    assert_eq!(cgroup.path(), std::path::Path::new(&path));
    assert_eq!(cgroup.pids().unwrap(), [launched.pid]);
    place.runtime.remove(&bundle.id).unwrap();
    assert!(!cgroup.exists());
}
