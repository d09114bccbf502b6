//! Containers that cannot be, and what is left of them: nothing.

use std::fs;
use std::os::unix::fs::symlink;

use engine_runtime::protocol::{Event, Request};
use engine_runtime::{Error, ErrorKind};

use crate::place::{Place, linux, process, wait};

#[test]
fn a_program_that_is_not_there() {
    let place = Place::new();
    let say = |arguments: &[&str]| match place.refuses(&place.container(arguments)) {
        Error::Process { message, exit_code } => (message, exit_code),
        other => panic!("{other}"),
    };
    let known = |text: &str| format!("unable to start container process: error during container init: exec: {text}");
    assert_eq!(say(&["nope"]), (known("\"nope\": executable file not found in $PATH"), 127));
    assert_eq!(say(&["/nope"]), (known("\"/nope\": stat /nope: no such file or directory"), 127));
    assert_eq!(say(&["/etc/passwd"]), (known("\"/etc/passwd\": permission denied"), 126));
    assert_eq!(say(&["/etc"]), (known("\"/etc\": is a directory: permission denied"), 126));
}

#[test]
fn an_image_whose_proc_or_sys_is_a_link() {
    for name in ["proc", "sys"] {
        let place = Place::new();
        fs::remove_dir(place.lower().join(name)).unwrap();
        symlink("/tmp", place.lower().join(name)).unwrap();
        let error = place.refuses(&place.shell("true")).to_string();
        assert!(error.contains(&format!("to rootfs at \"/{name}\"")), "{error}");
    }
}

#[test]
fn an_image_whose_dev_is_a_link_reaches_nothing_outside() {
    let place = Place::new();
    let outside = place.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("ptmx"), "precious").unwrap();
    fs::remove_dir(place.lower().join("dev")).unwrap();
    symlink(&outside, place.lower().join("dev")).unwrap();
    // Whether it starts or not, what lies outside stays as it is.
    if let Ok(launched) = place.runtime.launch(&place.shell("exec sleep 1000"), None) {
        drop(launched);
    }
    assert_eq!(fs::read_to_string(outside.join("ptmx")).unwrap(), "precious");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
}

#[test]
fn a_working_directory_that_is_a_descriptor() {
    let place = Place::new();
    for make in [false, true] {
        for number in 3..12 {
            let mut bundle = place.shell("pwd; cat ../../../../../../etc/shadow");
            process(&mut bundle.spec).set_cwd(format!("/proc/self/fd/{number}").into());
            bundle.make_working_directory = make;
            let error = place.refuses(&bundle);
            assert_eq!(error.kind(), ErrorKind::Process, "{error}");
        }
    }
}

#[test]
fn a_null_device_that_is_none_hides_nothing() {
    let place = Place::new();
    let mut bundle = place.shell("true");
    // Whoever brings a /dev of his own could have put anything there.
    let dev = place.path("dev");
    fs::create_dir(&dev).unwrap();
    symlink("/proc/sys/kernel/core_pattern", dev.join("null")).unwrap();
    let mut mount = engine_runtime::spec::Mount::default();
    mount
        .set_destination("/dev".into())
        .set_typ(Some("bind".to_owned()))
        .set_source(Some(dev))
        .set_options(Some(vec!["rbind".to_owned()]));
    let mounts = bundle.spec.mounts_mut().as_mut().unwrap();
    mounts.retain(|mount| !mount.destination().starts_with("/dev"));
    mounts.push(mount);
    let error = place.refuses(&bundle).to_string();
    assert!(error.contains("can't mask path"), "{error}");
}

#[test]
fn a_source_that_is_not_there() {
    let place = Place::new();
    let mut bundle = place.shell("true");
    let mut mount = engine_runtime::spec::Mount::default();
    mount
        .set_destination("/x".into())
        .set_source(Some("/no/such/thing".into()))
        .set_options(Some(vec!["rbind".to_owned()]));
    bundle.spec.mounts_mut().as_mut().unwrap().push(mount);
    let error = place.refuses(&bundle).to_string();
    assert!(
        error.ends_with("error mounting \"/no/such/thing\" to rootfs at \"/x\": no such file or directory"),
        "{error}"
    );
}

#[test]
fn a_limit_that_the_kernel_refuses() {
    let place = Place::new();
    let mut bundle = place.shell("true");
    let resources = serde_json::from_str(r#"{"cpu": {"cpus": "4000"}}"#).unwrap();
    linux(&mut bundle.spec).set_resources(Some(resources));
    let error = place.refuses(&bundle);
    assert!(error.to_string().contains("cpuset.cpus"), "{error}");
}

#[test]
fn a_name_that_is_taken() {
    let place = Place::new();
    let bundle = place.shell("echo first; exec sleep 1000");
    let launched = place.launch(&bundle);
    let error = place.runtime.launch(&bundle, None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    // The first one does not suffer.
    place.until_says(&bundle, "first");
    assert_eq!(place.runtime.cgroup(&bundle.id).unwrap().pids().unwrap(), [launched.pid]);
}

#[test]
fn removing_a_running_container_leaves_nothing() {
    let place = Place::new();
    let bundle = place.shell("trap '' TERM; exec sleep 1000");
    let launched = place.launch(&bundle);
    place.runtime.remove(&bundle.id).unwrap();
    assert!(place.runtime.containers().unwrap().is_empty());
    assert!(!place.runtime.cgroup(&bundle.id).unwrap().exists());
    assert!(engine_sys::process::wait(&launched.process, Some(std::time::Duration::from_secs(10))).unwrap());
    place.runtime.remove(&bundle.id).unwrap();
    assert!(place.runtime.connect(&bundle.id).unwrap().is_none());
    assert!(place.runtime.exit_record(&bundle.id).unwrap().is_none());
}

#[test]
fn the_parent_of_all_cgroups_goes_with_the_last_runtime() {
    let place = Place::new();
    place.says(&place.shell("echo alive"));
    let (layout, parent) = (place.runtime.host().cgroups.clone(), place.runtime.host().cgroup_parent.clone());
    let parent = engine_runtime::Cgroup::at(std::path::Path::new(&parent), &layout).unwrap();
    let other = place.runtime.clone();
    assert!(parent.exists());
    drop(place);
    assert!(parent.exists(), "it is still somebody's");
    drop(other);
    assert!(!parent.exists());
}

#[test]
fn create_and_start_are_two_steps() {
    let place = Place::new();
    let mut bundle = place.shell("echo started");
    bundle.wait_for_start = true;
    let launched = place.launch(&bundle);
    assert!(launched.waiting);
    assert_eq!(place.output(&bundle), "");
    let monitor = place.runtime.connect(&bundle.id).unwrap().unwrap();
    monitor.send(&Request::Subscribe {}, &[]).unwrap();
    monitor.send(&Request::Start {}, &[]).unwrap();
    let code = wait(&monitor, |event| if let Event::Exited { code, .. } = event { Some(*code) } else { None });
    assert_eq!((code, place.output(&bundle).as_str()), (0, "started\n"));
}

#[test]
fn names_do_not_lead_elsewhere() {
    let place = Place::new();
    for id in ["", "..", "../x", "a/b"] {
        let mut bundle = place.shell("true");
        bundle.id = id.to_owned();
        assert_eq!(place.runtime.launch(&bundle, None).unwrap_err().kind(), ErrorKind::Invalid);
        assert!(place.runtime.remove(id).is_err());
        assert!(place.runtime.connect(id).is_err());
    }
}
