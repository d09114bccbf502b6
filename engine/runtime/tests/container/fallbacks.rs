//! Machines that have less than this one.

use engine_runtime::cgroup::Layout;
use engine_runtime::{Bundle, Features, Host};

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

/// What mounts look like from inside, as far as options and propagation go.
fn mounts(place: &Place) -> String {
    let data = place.path("data");
    std::fs::create_dir_all(&data).unwrap();
    std::fs::write(data.join("file"), "x").unwrap();
    let mut bundle = place.shell("awk '{ print $5, $6, $7 }' /proc/self/mountinfo | sed 's/:[0-9]*//g'");
    let mount = |destination: &str, source: &str, options: &[&str]| {
        let mut mount = engine_runtime::spec::Mount::default();
        mount
            .set_destination(destination.into())
            .set_typ(Some("bind".to_owned()))
            .set_source(Some(data.join(source)))
            .set_options(Some(options.iter().map(|&option| option.to_owned()).collect()));
        mount
    };
    bundle.spec.mounts_mut().as_mut().unwrap().extend([
        mount("/ro", "", &["rbind", "ro", "nosuid"]),
        mount("/file", "file", &["bind", "ro", "noatime"]),
        mount("/shared", "", &["bind", "rshared", "noexec"]),
        mount("/slave", "", &["bind", "slave"]),
    ]);
    bundle.spec.root_mut().as_mut().unwrap().set_readonly(Some(true));
    place.says(&bundle)
}

#[test]
fn attributes_of_mounts_by_remounting() {
    let mut host = Host::probe().unwrap();
    let expected = mounts(&Place::on(host.clone()));
    host.features.mount_setattr = false;
    let place = Place::on(host);
    assert_eq!(mounts(&place), expected);

    let mut bundle = place.shell("true");
    let mut mount = engine_runtime::spec::Mount::default();
    mount
        .set_destination("/data".into())
        .set_source(Some(place.path("data")))
        .set_options(Some(vec!["rbind".to_owned(), "rro".to_owned()]));
    bundle.spec.mounts_mut().as_mut().unwrap().push(mount);
    let error = place.refuses(&bundle).to_string();
    assert!(error.contains("attributes of whole trees and mapped ids need Linux 5.12"), "{error}");
}

#[test]
fn cgroups_entered_after_birth() {
    let mut host = Host::probe().unwrap();
    host.features.clone_into_cgroup = false;
    lives_and_takes_an_exec(Place::on(host.clone()));
    host.cgroups.hierarchies.clear();
    if host.cgroups.unified.is_some() {
        lives_and_takes_an_exec(Place::on(host));
    }
}

/// Kills everybody in a container that forks without end, and sees that nobody is left.
fn forks_and_dies(host: Host) {
    let place = Place::on(host);
    let mut bundle = place.shell("f() { sleep 0.01; f & f & wait; }; trap '' TERM; echo up; f");
    let limit = serde_json::from_str(r#"{"pids": {"limit": 40}}"#).unwrap();
    crate::place::linux(&mut bundle.spec).set_resources(Some(limit));
    let launched = place.launch(&bundle);
    place.until_says(&bundle, "up");
    place.runtime.remove(&bundle.id).unwrap();
    assert!(engine_sys::process::wait(&launched.process, Some(std::time::Duration::from_secs(30))).unwrap());
    assert!(!place.runtime.cgroup(&bundle.id).unwrap().exists());
}

#[test]
fn killed_one_by_one() {
    let mut host = Host::probe().unwrap();
    if let Some(unified) = &mut host.cgroups.unified {
        unified.kills = false;
    }
    forks_and_dies(host.clone());
    // With the freezer of version 2, where its controllers are.
    host.cgroups.hierarchies.clear();
    let counts = |unified: &engine_runtime::cgroup::Unified| unified.controllers.iter().any(|name| name == "pids");
    if host.cgroups.unified.as_ref().is_some_and(counts) {
        forks_and_dies(host);
    }
}

#[test]
fn what_the_kernel_lacks_is_told_or_left_out() {
    type Change<T> = fn(&mut T);
    let cases: [(Change<Features>, Change<Bundle>, &str); 6] = [
        (|has| has.user_namespace = false, |bundle| of(bundle, "user"), "user namespaces; this kernel has none"),
        (|has| has.time_namespace = false, |bundle| of(bundle, "time"), "time namespaces; this kernel has none"),
        (|has| has.cgroup_namespace = false, |bundle| of(bundle, "cgroup"), "cgroup namespaces; this kernel has none"),
        (|has| has.seccomp = false, |_| {}, "seccomp"),
        (
            |has| has.apparmor = false,
            |bundle| {
                crate::place::process(&mut bundle.spec).set_apparmor_profile(Some("docker-default".to_owned()));
            },
            "AppArmor",
        ),
        (
            |has| has.selinux = false,
            |bundle| {
                crate::place::process(&mut bundle.spec).set_selinux_label(Some("a:b:c:s0".to_owned()));
            },
            "SELinux",
        ),
    ];
    for (off, change, text) in cases {
        let mut host = Host::probe().unwrap();
        off(&mut host.features);
        let place = Place::on(host);
        let mut bundle = place.shell("true");
        change(&mut bundle);
        let error = place.refuses(&bundle).to_string();
        assert!(error.contains(text), "{text}: {error}");
    }
    let mut host = Host::probe().unwrap();
    (host.features.mqueue, host.features.kcore) = (false, false);
    let place = Place::on(host);
    assert_eq!(place.says(&place.shell("ls -d /dev/mqueue /dev/core 2>/dev/null; true")), "");
}

/// A namespace that the machine's own defaults may leave out.
fn of(bundle: &mut Bundle, kind: &str) {
    let namespaces = crate::place::linux(&mut bundle.spec).namespaces_mut().as_mut().unwrap();
    namespaces.push(serde_json::from_str(&format!("{{\"type\": {kind:?}}}")).unwrap());
}
