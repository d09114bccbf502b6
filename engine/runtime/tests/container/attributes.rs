//! What the kernel is told of a process: schedulers, processors, personality, and who listens to its filter.

use std::io::{IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;

use engine_runtime::Exec;
use engine_runtime::protocol::Event;
use engine_runtime::spec::{LinuxSeccomp, Process};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};

use crate::place::{Place, linux, process, wait};

/// Puts words of JSON into a process.
fn with(process: &mut Process, json: &str) {
    let mut value = serde_json::to_value(&*process).unwrap();
    let more: serde_json::Value = serde_json::from_str(json).unwrap();
    value.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    *process = serde_json::from_value(value).unwrap();
}

#[test]
fn schedulers_and_priorities() {
    let place = Place::new();
    let mut bundle = place.shell("exec cut -d' ' -f 19,41 /proc/self/stat");
    with(process(&mut bundle.spec), r#"{"scheduler": {"policy": "SCHED_BATCH", "nice": 5}}"#);
    assert_eq!(place.says(&bundle), "5 3\n");
    let mut bundle = place.shell("ionice; uname -m");
    with(process(&mut bundle.spec), r#"{"ioPriority": {"class": "IOPRIO_CLASS_IDLE", "priority": 0}}"#);
    let personality = serde_json::from_str(r#"{"domain": "LINUX32"}"#).unwrap();
    linux(&mut bundle.spec).set_personality(Some(personality));
    let machine = if cfg!(target_arch = "x86_64") { "i686" } else { "armv8l" };
    assert_eq!(place.says(&bundle), format!("idle\n{machine}\n"));
}

#[test]
fn what_no_scheduler_takes_is_refused() {
    let place = Place::new();
    for (json, text) in [
        (r#"{"scheduler": {"policy": "SCHED_OTHER", "nice": 20}}"#, "nice 20"),
        (r#"{"scheduler": {"policy": "SCHED_OTHER", "priority": 1}}"#, "SCHED_FIFO and SCHED_RR"),
        (r#"{"scheduler": {"policy": "SCHED_ISO"}}"#, "SCHED_ISO"),
        (r#"{"scheduler": {"policy": "SCHED_FIFO", "priority": 1, "period": 5}}"#, "SCHED_DEADLINE"),
        (r#"{"scheduler": {"policy": "SCHED_FIFO", "priority": 1000}}"#, "error setting scheduler attributes"),
        (r#"{"ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 8}}"#, "between 0 and 7"),
        (r#"{"apparmorProfile": "docker-default"}"#, "no AppArmor"),
        (r#"{"selinuxLabel": "system_u:system_r:container_t:s0"}"#, "no SELinux"),
    ] {
        let host = place.runtime.host();
        if (text.ends_with("AppArmor") && host.features.apparmor)
            || (text.ends_with("SELinux") && host.features.selinux)
        {
            continue;
        }
        let mut bundle = place.shell("true");
        with(process(&mut bundle.spec), json);
        let error = place.refuses(&bundle).to_string();
        assert!(error.contains(text), "{text}: {error}");
    }
}

#[test]
fn processors_of_an_exec() {
    let place = Place::new();
    let bundle = place.shell("exec sleep 1000");
    let launched = place.launch(&bundle);
    let mut command = bundle.spec.process().clone().unwrap();
    let line = "grep -q 'Cpus_allowed_list:.0$' /proc/self/status";
    command.set_args(Some(["sh", "-c", line].map(str::to_owned).to_vec()));
    with(&mut command, r#"{"execCPUAffinity": {"initial": "0", "final": "0"}}"#);
    let exec = Exec::new(&bundle.id, launched.process.as_fd(), &bundle.spec, &command);
    assert_eq!(place.exec(&launched, &exec).unwrap(), 0);
    with(&mut command, r#"{"execCPUAffinity": {"final": "1000"}}"#);
    let exec = Exec::new(&bundle.id, launched.process.as_fd(), &bundle.spec, &command);
    assert!(place.exec(&launched, &exec).unwrap_err().to_string().contains("error setting CPU affinity"));
    place.runtime.cgroup(&bundle.id).unwrap().kill().unwrap();
    place.end(&bundle, &launched);
}

#[test]
fn want_of_memory_is_told_while_it_runs() {
    let place = Place::new();
    let mut bundle = place.shell("tail /dev/zero; exec sleep 1000");
    let mut resources = linux(&mut bundle.spec).resources().clone().unwrap();
    resources.set_memory(serde_json::from_str(r#"{"limit": 33554432, "swap": 33554432}"#).unwrap());
    linux(&mut bundle.spec).set_resources(Some(resources));
    let launched = place.launch(&bundle);
    let kills = wait(&launched.monitor, |event| match event {
        Event::OutOfMemory { kills } => Some(*kills),
        _ => None,
    });
    assert_eq!(kills, 1);
    place.runtime.cgroup(&bundle.id).unwrap().kill().unwrap();
    assert!(place.end(&bundle, &launched).oom_killed);
}

/// What came to the listener: the state, and how many descriptors.
fn received(listener: &UnixListener) -> (serde_json::Value, usize) {
    let (stream, _) = listener.accept().unwrap();
    let mut buffer = vec![0; 1 << 20];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let message =
        rustix::net::recvmsg(&stream, &mut [IoSliceMut::new(&mut buffer)], &mut ancillary, RecvFlags::empty()).unwrap();
    let mut descriptors = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    assert!(descriptors.iter().all(|descriptor| {
        let link = std::fs::read_link(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(descriptor)));
        link.unwrap().to_str().unwrap().contains("seccomp notify")
    }));
    let text = &buffer[..message.bytes];
    let mut rest = Vec::new();
    let _ = (&stream).read_to_end(&mut rest);
    (serde_json::from_slice(&[text, &rest].concat()).unwrap(), descriptors.len())
}

#[test]
fn a_listener_is_handed_over() {
    let place = Place::new();
    let path = place.path("listener");
    let listener = UnixListener::bind(&path).unwrap();
    let mut seccomp: LinuxSeccomp = serde_json::from_str(
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "listenerMetadata": "some\"thing",
            "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY"}]}"#,
    )
    .unwrap();
    seccomp.set_listener_path(Some(path));
    // Nobody answers: the listener goes away, and the call with it.
    let mut bundle = place.shell("echo before; mkdir /x 2>&1; echo after; exec sleep 1000");
    linux(&mut bundle.spec).set_seccomp(Some(seccomp.clone()));
    std::thread::scope(|scope| {
        let (state, descriptors) = {
            let receiving = scope.spawn(|| received(&listener));
            let launched = place.launch(&bundle);
            let (state, descriptors) = receiving.join().unwrap();
            assert_eq!(state["pid"].as_u64(), Some(u64::from(launched.pid)));
            place.until_says(&bundle, "after");
            assert!(place.output(&bundle).contains("Function not implemented"), "{}", place.output(&bundle));

            let mut command = bundle.spec.process().clone().unwrap();
            command.set_args(Some(["true"].map(str::to_owned).to_vec()));
            let exec = Exec::new(&bundle.id, launched.process.as_fd(), &bundle.spec, &command);
            let receiving = scope.spawn(|| received(&listener));
            assert_eq!(place.exec(&launched, &exec).unwrap(), 0);
            let (of_exec, _) = receiving.join().unwrap();
            assert_ne!(of_exec["pid"].as_u64(), Some(u64::from(launched.pid)));
            place.runtime.cgroup(&bundle.id).unwrap().kill().unwrap();
            place.end(&bundle, &launched);
            (state, descriptors)
        };
        assert_eq!(descriptors, 1);
        assert_eq!((&state["fds"][0], &state["metadata"]), (&"seccompFd".into(), &"some\"thing".into()));
        assert_eq!((&state["state"]["id"], &state["state"]["pid"]), (&bundle.id.as_str().into(), &state["pid"]));
    });
    drop(listener);
    let mut bundle = place.shell("true");
    linux(&mut bundle.spec).set_seccomp(Some(seccomp.clone()));
    assert!(place.refuses(&bundle).to_string().contains("connect to the seccomp listener"));
    for (change, text) in [
        (r#"{"defaultAction": "SCMP_ACT_NOTIFY"}"#, "default action"),
        (r#"{"syscalls": [{"names": ["sendmsg"], "action": "SCMP_ACT_NOTIFY"}]}"#, "sendmsg"),
        (r#"{"listenerPath": null}"#, "needs a listenerPath"),
    ] {
        let mut value = serde_json::to_value(&seccomp).unwrap();
        let more: serde_json::Value = serde_json::from_str(change).unwrap();
        value.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        linux(&mut bundle.spec).set_seccomp(Some(serde_json::from_value(value).unwrap()));
        let error = place.refuses(&bundle).to_string();
        assert!(error.contains(text), "{text}: {error}");
    }
    // Whom no rule asks need not be there.
    seccomp.set_syscalls(None);
    linux(&mut bundle.spec).set_seccomp(Some(seccomp));
    assert_eq!(place.run(&bundle).code, 0);
}
