//! A container from its creation to its deletion, and processes beside it.

use std::fs;
use std::io::BufRead;
use std::os::unix::net::UnixListener;

use serde_json::json;

use crate::place::{Place, wait};

#[test]
fn a_container_is_created_started_killed_and_deleted() {
    let place = Place::new("life", "trap 'exit 7' TERM; echo started; while :; do sleep 0.01; done");
    let pid = place.create();
    let parent = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let parent = parent.rsplit_once(')').unwrap().1.split_whitespace().nth(1).unwrap().to_owned();
    assert_eq!(parent, std::process::id().to_string(), "the caller has adopted it");
    assert_eq!((place.status().as_str(), place.out().as_str()), ("created", ""));
    assert_eq!(place.leave(&["start", &place.id]), 0);
    assert_eq!(place.status(), "running");
    assert_eq!(place.leave(&["kill", &place.id, "0"]), 0, "somebody is there");
    assert_eq!(place.refused(&["start", &place.id]), "cannot start an already running container");
    assert!(place.refused(&["delete", &place.id]).ends_with("that is not stopped: running"));
    while !place.out().contains("started") {
        std::thread::yield_now();
    }
    assert_eq!(place.leave(&["kill", &place.id, "TERM"]), 0);
    assert_eq!(wait(pid), 7);
    assert_eq!(place.status(), "stopped");
    assert_eq!(place.refused(&["kill", &place.id]), "container not running");
    assert_eq!(place.refused(&["kill", &place.id, "0"]), "container not running");
    assert_eq!(place.leave(&["delete", &place.id]), 0);
    assert_eq!(place.refused(&["state", &place.id]), "container does not exist");
    assert_eq!(place.left(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn run_has_the_caller_s_streams_and_the_program_s_exit_code() {
    let place = Place::new("run", "cat; echo to error >&2; exit 3");
    let mut command = place.command(&["run", "--bundle", &place.text("bundle"), &place.id]);
    fs::write(place.path("in"), "what is typed\n").unwrap();
    let output = command.stdin(fs::File::open(place.path("in")).unwrap()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(3), "what is typed\n"));
    assert_eq!(text(&output.stderr), "to error\n");
    assert_eq!(place.left(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn further_processes_are_started_beside_the_first() {
    let place = Place::new("exec", "sleep 1000");
    let pid = place.create();
    assert_eq!(place.leave(&["start", &place.id]), 0);
    let output = place.call(&["exec", "--env", "A=b", "--cwd", "/bin", &place.id, "sh", "-c", "echo $A $PWD; exit 5"]);
    assert_eq!((output.status.code(), output.stdout), (Some(5), b"b /bin\n".to_vec()));
    let output = place.call(&["exec", "--user", "12:34", "-g", "56", &place.id, "id"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "uid=12 gid=34 groups=34,56\n");
    // As containerd and conmon do it.
    let process =
        json!({ "args": ["sh", "-c", "exit 9"], "cwd": "/", "user": { "uid": 0, "gid": 0 }, "env": ["PATH=/bin"] });
    fs::write(place.path("process"), process.to_string()).unwrap();
    let (process, file) = (place.text("process"), place.text("exec-pid"));
    assert_eq!(place.leave(&["exec", "--detach", "--process", &process, "--pid-file", &file, &place.id]), 0);
    assert_eq!(wait(place.pid("exec-pid")), 9);
    assert_eq!(place.call(&["ps", "--format", "json", &place.id]).stdout, format!("[{pid}]\n").into_bytes());
    // What the file does not speak of is as for the container itself.
    let script = "/bin/busybox grep -E 'NoNewPrivs|CapBnd' /proc/self/status; ulimit -n";
    let process =
        json!({ "args": ["sh", "-c", script], "cwd": "/", "user": { "uid": 0, "gid": 0 }, "env": ["PATH=/bin"] });
    fs::write(place.path("process"), process.to_string()).unwrap();
    let output = place.call(&["exec", "--process", &place.text("process"), &place.id]);
    assert_eq!(output.stdout, b"CapBnd:\t0000000020000420\nNoNewPrivs:\t1\n1024\n");
    for cgroup in &place.left()[1..] {
        fs::create_dir(cgroup.join("sub")).unwrap();
    }
    let output = place.call(&["exec", "--cgroup", "sub", &place.id, "cat", "/proc/self/cgroup"]);
    let cgroups = String::from_utf8(output.stdout).unwrap();
    assert!(!cgroups.is_empty() && cgroups.lines().all(|line| line.ends_with(":/sub")), "{cgroups}");
    assert!(place.refused(&["exec", "--cgroup", "../x", &place.id, "id"]).contains("leaves the container's cgroup"));

    assert_eq!(place.leave(&["pause", &place.id]), 0);
    assert_eq!(place.status(), "paused");
    assert!(place.refused(&["exec", &place.id, "id"]).contains("paused"));
    assert_eq!(place.leave(&["resume", &place.id]), 0);
    assert_eq!(place.refused(&["resume", &place.id]), "container not paused");
    assert_eq!(place.leave(&["delete", "--force", &place.id]), 0);
    assert_eq!(wait(pid), 137);
    assert_eq!(place.left(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn descriptors_are_passed_on_when_they_are_asked_for() {
    let place = Place::new("descriptors", "cat <&3; ls -l /proc/self/fd >/dev/null; test ! -e /proc/self/fd/4");
    fs::write(place.path("three"), "from three").unwrap();
    fs::write(place.path("four"), "from four").unwrap();
    let line = format!(
        "exec {} oci --root {} run --preserve-fds 1 --bundle {} {} 3<{} 4<{}",
        env!("CARGO_BIN_EXE_enginectl"),
        place.text("root"),
        place.text("bundle"),
        place.id,
        place.text("three"),
        place.text("four")
    );
    let output = std::process::Command::new("sh").arg("-c").arg(line).output().unwrap();
    assert_eq!((output.status.code(), output.stdout), (Some(0), b"from three".to_vec()));
    assert!(
        place.refused(&["create", "--preserve-fds", "1", "-b", &place.text("bundle"), &place.id]).contains("not open")
    );
}

#[test]
fn limits_are_changed_and_lists_are_printed() {
    let place = Place::new("update", "sleep 1000");
    let pid = place.create();
    fs::write(place.path("resources"), json!({ "pids": { "limit": 77 } }).to_string()).unwrap();
    assert_eq!(place.leave(&["update", "--resources", &place.text("resources"), &place.id]), 0);
    let cgroups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let limit = cgroups.lines().find_map(|line| {
        let path = line.splitn(3, ':').nth(2)?.trim_start_matches('/');
        ["pids/", "unified/", ""]
            .into_iter()
            .find_map(|hierarchy| fs::read_to_string(format!("/sys/fs/cgroup/{hierarchy}{path}/pids.max")).ok())
    });
    assert_eq!(limit.as_deref(), Some("77\n"));
    assert!(place.refused(&["update", &place.id]).contains("nothing to update"));
    assert!(place.refused(&["update", "--l3-cache-schema", "L3:0=f", &place.id]).contains("no Intel RDT"));
    let both = ["update", "--resources", &place.text("resources"), "--pids-limit", "5", &place.id];
    assert!(place.refused(&both).contains("no other limit"));
    let list: serde_json::Value = serde_json::from_slice(&place.call(&["list", "--format", "json"]).stdout).unwrap();
    assert_eq!(
        (&list[0]["id"], &list[0]["status"], &list[0]["owner"], list.as_array().unwrap().len()),
        (&json!(place.id), &json!("created"), &json!("root"), 1)
    );
    assert_eq!(place.call(&["list", "-q"]).stdout, format!("{}\n", place.id).into_bytes());
    // One that was never started is deleted without force.
    assert_eq!(place.leave(&["delete", &place.id]), 0);
    assert_eq!(wait(pid), 137);
}

#[test]
fn a_pidfd_is_sent_to_who_waits_for_it() {
    let place = Place::new("pidfd", "sleep 1000");
    let listener = UnixListener::bind(place.path("socket")).unwrap();
    let sent = || {
        let (connection, _) = listener.accept().unwrap();
        let mut text = [0; 64];
        let (length, descriptors) = engine_sys::socket::receive(&connection, &mut text, true).unwrap();
        let pid = engine_sys::process::pid(&descriptors[0]).unwrap().unwrap();
        (String::from_utf8(text[..length].to_vec()).unwrap(), i32::try_from(pid).unwrap())
    };
    let (bundle, socket, file) = (place.text("bundle"), place.text("socket"), place.text("pid"));
    let create = ["create", "--bundle", &bundle, "--pidfd-socket", &socket, "--pid-file", &file, &place.id];
    assert_eq!(place.leave(&create), 0, "{}", place.out());
    let pid = place.pid("pid");
    assert_eq!(sent(), ("standard".to_owned(), pid));
    assert_eq!(place.leave(&["start", &place.id]), 0);
    let exec = ["exec", "-d", "--pidfd-socket", &socket, "--pid-file", &file, &place.id, "sh", "-c", "exit 6"];
    assert_eq!(place.leave(&exec), 0, "{}", place.out());
    assert_eq!(sent(), ("setns".to_owned(), place.pid("pid")));
    assert_eq!(wait(place.pid("pid")), 6);
    let nobody = place.refused(&["exec", "--pidfd-socket", "/no/such", &place.id, "id"]);
    assert!(nobody.contains("connect to the pidfd socket /no/such"), "{nobody}");
    assert_eq!(place.leave(&["delete", "--force", &place.id]), 0);
    assert_eq!(wait(pid), 137);
}

#[test]
fn what_it_uses_is_told_until_it_ends() {
    let place = Place::new("events", "sleep 1000");
    place.change(|config| {
        config["linux"]["resources"]["memory"] = json!({ "limit": 33_554_432, "swap": 33_554_432 });
    });
    let pid = place.create();
    assert_eq!(place.leave(&["start", &place.id]), 0);
    let output = place.call(&["events", "--stats", &place.id]);
    let stats: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&stats["type"], &stats["id"]), (&json!("stats"), &json!(place.id)));
    assert_eq!(stats["data"]["memory"]["usage"]["limit"], json!(33_554_432));
    assert!(stats["data"]["pids"]["current"].as_u64().unwrap() >= 1);
    let mut told = place.command(&["events", "--interval", "20ms", &place.id]);
    let mut told = told.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut lines = std::io::BufReader::new(told.stdout.take().unwrap()).lines();
    let mut until = |kind: &str| {
        let mut events = lines.by_ref().map(|line| serde_json::from_str::<serde_json::Value>(&line.unwrap()).unwrap());
        assert!(events.any(|event| event["type"] == kind && event["id"] == place.id.as_str()), "{kind}");
    };
    until("stats");
    until("stats");
    assert_eq!(place.leave(&["exec", &place.id, "/bin/busybox", "tail", "/dev/zero"]), 137);
    until("oom");
    assert_eq!(place.leave(&["kill", &place.id, "KILL"]), 0);
    assert_eq!(wait(pid), 137);
    drop(lines.by_ref().last());
    assert!(told.wait().unwrap().success());
    assert!(place.refused(&["events", &place.id]).ends_with("is not running"));
    assert!(place.refused(&["events", "--interval", "0s", &place.id]).contains("greater than 0"));
}

#[test]
fn capabilities_that_cannot_be_had_are_told_in_the_log() {
    let place = Place::new("warned", "/bin/busybox grep CapBnd /proc/self/status");
    place.change(|config| {
        config["process"]["capabilities"]["bounding"] = json!(["CAP_KILL", "CAP_THAT_IS_YET_TO_COME"]);
    });
    let output = place.call(&["run", "--bundle", &place.text("bundle"), &place.id]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "CapBnd:\t0000000000000020\n");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "it may be the container's");
    let log: serde_json::Value = serde_json::from_str(&fs::read_to_string(place.path("log")).unwrap()).unwrap();
    assert_eq!(log["level"], "warning");
    assert!(log["msg"].as_str().unwrap().ends_with("capabilities: CAP_THAT_IS_YET_TO_COME"), "{log}");
}

#[test]
fn systemd_makes_the_cgroup_where_it_runs() {
    let place = Place::new("scope", "sleep 1000");
    let create = ["--systemd-cgroup", "create", "--bundle", &place.text("bundle"), "--pid-file", &place.text("pid")];
    let create: Vec<_> = create.into_iter().chain([place.id.as_str()]).collect();
    if std::path::Path::new("/run/systemd/private").exists() {
        assert_eq!(place.leave(&create), 0, "{}", place.out());
        let pid = place.pid("pid");
        let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        assert!(cgroup.contains(&format!("/system.slice/engine-oci-{}.scope\n", place.id)), "{cgroup}");
        assert_eq!(place.leave(&["start", &place.id]), 0);
        assert_eq!(place.call(&["exec", &place.id, "sh", "-c", "exit 3"]).status.code(), Some(3));
        assert_eq!(place.leave(&["update", "--pids-limit", "77", &place.id]), 0, "{}", place.out());
        let path = cgroup.trim().rsplit_once(':').unwrap().1.to_owned();
        let directory = format!("/sys/fs/cgroup{path}");
        assert_eq!(fs::read_to_string(format!("{directory}/pids.max")).unwrap(), "77\n");
        assert_eq!(place.leave(&["delete", "--force", &place.id]), 0, "{}", place.out());
        assert_eq!(wait(pid), 137);
        assert!(!std::path::Path::new(&directory).exists());
    } else {
        assert!(place.refused(&create).ends_with("systemd does not run here"));
    }
    assert_eq!(place.left(), Vec::<std::path::PathBuf>::new());
    // Its names of cgroups and the others are not mixed up.
    place.change(|config| config["linux"]["cgroupsPath"] = json!("/a/b"));
    assert!(place.refused(&create).contains("to be of format \"slice:prefix:name\""));
    place.change(|config| config["linux"]["cgroupsPath"] = json!("a.slice:b:c"));
    assert!(place.refused(&create[1..]).contains("--systemd-cgroup"));
}

#[test]
fn hooks_are_run_at_their_moments() {
    let place = Place::new("hooks", "sleep 1000");
    let said = place.text("said");
    place.change(|config| {
        let hook = |name: &str| {
            let line = format!("read state; echo {name} $state >>{said}");
            json!([{ "path": "/bin/sh", "args": ["sh", "-c", line] }])
        };
        config["hooks"] = json!({
            "prestart": hook("prestart"), "createRuntime": hook("createRuntime"),
            "poststart": hook("poststart"), "poststop": hook("poststop")
        });
    });
    let said = || {
        let text = fs::read_to_string(place.path("said")).unwrap_or_default();
        let moment = |line: &str| {
            let (name, state) = line.split_once(' ').unwrap();
            assert!(state.contains(&place.id) && state.contains(&place.text("bundle")), "{state}");
            name.to_owned()
        };
        text.lines().map(moment).collect::<Vec<_>>()
    };
    let pid = place.create();
    assert_eq!(said(), ["prestart", "createRuntime"]);
    assert_eq!(place.leave(&["start", &place.id]), 0);
    assert_eq!(said()[2..], ["poststart"]);
    assert_eq!(place.leave(&["delete", "--force", &place.id]), 0);
    assert_eq!(said()[3..], ["poststop"]);
    assert_eq!(wait(pid), 137);
}

#[test]
fn a_hook_that_fails_leaves_nothing() {
    let place = Place::new("bad-hook", "sleep 1000");
    place.change(|config| {
        let hook = json!([{ "path": "/bin/sh", "args": ["sh", "-c", "echo oh no >&2; exit 3"] }]);
        config["hooks"] = json!({ "createRuntime": hook });
    });
    let text = place.refused(&["create", "--bundle", &place.text("bundle"), &place.id]);
    assert!(text.contains("createRuntime hook #0") && text.contains("oh no"), "{text}");
    assert_eq!(place.left(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn a_container_has_users_of_its_own() {
    let place = Place::new("users", "cat /proc/self/uid_map; id -u");
    place.change(|config| {
        let map = json!([{ "containerID": 0, "hostID": 100_000, "size": 1000 }]);
        config["linux"]["uidMappings"] = map.clone();
        config["linux"]["gidMappings"] = map;
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "user" }));
    });
    // They must be able to reach the root file system, and to make the places in it that are mounted on.
    std::os::unix::fs::chown(place.bundle().join("rootfs"), Some(100_000), Some(100_000)).unwrap();
    for path in [place.path(""), place.bundle()] {
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    let output = place.call(&["run", "--bundle", &place.text("bundle"), &place.id]);
    let words = String::from_utf8_lossy(&output.stdout).split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(words, ["0", "100000", "1000", "0"], "{}", String::from_utf8_lossy(&output.stderr));
}
