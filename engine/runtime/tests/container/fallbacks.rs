//! Machines that have less than this one.

use engine_runtime::Host;
use engine_runtime::cgroup::Layout;

use crate::exec::Running;
use crate::place::Place;

fn lives_and_takes_an_exec(place: Place) {
    let running = Running::in_place(place);
    let said =
        running.shell("cat /proc/self/cgroup | sort; echo; sort /proc/1/cgroup; ls /sys/fs/cgroup | wc -l", |_| {});
    let (exec, rest) = said.split_once("\n\n").unwrap();
    let (init, count) = rest.trim_end().rsplit_once('\n').unwrap();
    assert_eq!(exec, init, "both are in the same cgroups");
    assert_ne!(count, "0", "/sys/fs/cgroup shows something: {said}");
    let cgroup = running.place.runtime.cgroup(&running.bundle.id).unwrap();
    assert_eq!(cgroup.pids().unwrap(), [running.launched.pid]);
    cgroup.freeze().unwrap();
    cgroup.kill().unwrap();
    assert_eq!(running.place.end(&running.bundle, &running.launched).code, 137);
}

#[test]
fn cgroup_version_1_alone() {
    let mut host = Host::probe().unwrap();
    host.cgroups.unified = None;
    if !host.cgroups.hierarchies.is_empty() {
        lives_and_takes_an_exec(Place::on(host));
    }
}

#[test]
fn cgroup_version_2_alone() {
    let mut host = Host::probe().unwrap();
    host.cgroups.hierarchies.clear();
    if host.cgroups.unified.is_some() {
        lives_and_takes_an_exec(Place::on(host));
    }
}

#[test]
fn no_cgroup_namespaces() {
    let mut host = Host::probe().unwrap();
    host.features.cgroup_namespace = false;
    lives_and_takes_an_exec(Place::on(host));
}

#[test]
fn no_cgroups_at_all() {
    let mut host = Host::probe().unwrap();
    host.cgroups = Layout::default();
    let place = Place::on(host);
    let mut bundle = place.shell("echo alive");
    let error = place.refuses(&bundle).to_string();
    assert!(error.contains("device rules"), "{error}");
    crate::place::linux(&mut bundle.spec).set_resources(None);
    assert_eq!(place.says(&bundle), "alive\n");
}

#[test]
fn layers_as_one_option() {
    let mut host = Host::probe().unwrap();
    host.features.overlay_append = false;
    let place = Place::on(host);
    let mut bundle = place.shell("cat /etc/layer; echo alive > /x; cat /x; grep -c overlay /proc/self/mountinfo");
    let mut lower = vec![place.lower()];
    for number in 0..40 {
        // As long as a digest.
        let layer = place.path(&format!("{number:064}"));
        std::fs::create_dir_all(layer.join("etc")).unwrap();
        std::fs::write(layer.join("etc/layer"), format!("{number}\n")).unwrap();
        lower.insert(0, layer);
    }
    if let engine_runtime::Rootfs::Overlay { lower: all, .. } = &mut bundle.rootfs {
        *all = lower;
    }
    assert_eq!(place.says(&bundle), "39\nalive\n1\n");
}
