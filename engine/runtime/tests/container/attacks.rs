//! What is known to have gone wrong in other runtimes; `docs/attacks.md` names the attacks and where else they are tried.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::atomic::{AtomicBool, Ordering};

use engine_runtime::spec::{HookBuilder, Hooks, LinuxDeviceCgroup, Mount};
use engine_runtime::{Bundle, Exec, capabilities, defaults};
use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::exec::Running;
use crate::place::{Place, linux, process};

pub(crate) fn mount(destination: &str, typ: &str, source: &std::path::Path, options: &[&str]) -> Mount {
    let mut mount = Mount::default();
    mount
        .set_destination(destination.into())
        .set_typ(Some(typ.to_owned()))
        .set_source(Some(source.to_owned()))
        .set_options(Some(options.iter().map(|&option| option.to_owned()).collect()));
    mount
}

pub(crate) fn add(bundle: &mut Bundle, mount: Mount) {
    bundle.spec.mounts_mut().as_mut().unwrap().push(mount);
}

/// All capabilities that there are, no filter, nothing hidden or read-only: only the namespaces are left.
fn unconfined(bundle: &mut Bundle, bounding: u64) {
    process(&mut bundle.spec).set_capabilities(Some(defaults::capability_sets(&capabilities::set(bounding))));
    linux(&mut bundle.spec).set_seccomp(None).set_masked_paths(None).set_readonly_paths(None);
}

#[test]
fn the_program_that_enters_cannot_be_written_to() {
    // A program of the image whose interpreter is whoever executes it, and somebody who writes to all that is executed.
    let place = Place::new();
    fs::write(place.lower().join("bin/self"), "#!/proc/self/exe\n").unwrap();
    fs::set_permissions(place.lower().join("bin/self"), fs::Permissions::from_mode(0o755)).unwrap();
    let mut bundle = place.shell(
        "echo up; while :; do for p in /proc/[0-9]*; do [ $p = /proc/1 ] || (echo spoilt >$p/exe) 2>/dev/null; done; done",
    );
    unconfined(&mut bundle, place.runtime.host().bounding);
    let launched = place.launch(&bundle);
    place.until_says(&bundle, "up");
    for round in 0..40 {
        let mut command = bundle.spec.process().clone().unwrap();
        let arguments = if round % 2 == 0 { ["/bin/self", "x"] } else { ["/bin/true", "x"] };
        command.set_args(Some(arguments.map(str::to_owned).to_vec()));
        let exec = Exec::new(&bundle.id, launched.process.as_fd(), &bundle.spec, &command);
        let code = place.exec(&launched, &exec);
        // What the kernel makes of it is the image's own program or none at all, never a success of ours.
        assert_eq!(code.as_ref().is_ok_and(|code| *code == 0), round % 2 == 1, "{arguments:?}: {code:?}");
    }
    place.runtime.remove(&bundle.id).unwrap();
    assert_eq!(place.says(&place.shell("echo whole")), "whole\n");
    // An image that executes it: it can do what the container may, and that is nothing.
    for arguments in [&["/proc/self/exe"][..], &["/proc/self/exe", "3"], &["/proc/self/exe", "/bin/sh", "-c", "true"]] {
        let mut bundle = place.container(arguments);
        unconfined(&mut bundle, place.runtime.host().bounding);
        if let Ok(launched) = place.runtime.launch(&bundle, None) {
            place.end(&bundle, &launched);
        }
    }
    assert_eq!(place.says(&place.shell("echo whole")), "whole\n");
}

#[test]
fn whoever_enters_is_not_looked_into() {
    let running = Running::new();
    let spy = "for i in $(seq 150); do for p in /proc/[0-9]*; do \
               exe=$(readlink $p/exe) && case $exe in /bin/busybox) ;; *) echo \"seen $exe\"; ls -l $p/fd ;; esac; done; done 2>/dev/null; echo over";
    let command = running.command(&["sh", "-c", &format!("({spy}) >/spied")]);
    let exec = Exec::new(&running.bundle.id, running.launched.process.as_fd(), &running.bundle.spec, &command);
    let plan = running.place.runtime.exec(&exec).unwrap();
    let request = engine_runtime::protocol::Request::Exec { id: 1 << 40 };
    running.launched.monitor.send(&request, &plan.descriptors()).unwrap();
    let spied = running.place.path(&running.bundle.id).join("upper/spied");
    let mut said = String::new();
    for _ in 0..2000 {
        said = fs::read_to_string(&spied).unwrap_or_default();
        if said.ends_with("over\n") {
            break;
        }
        running.shell("true", |_| {});
    }
    assert_eq!(said, "over\n");
}

#[test]
fn a_place_of_a_mount_that_changes_leads_nowhere_else() {
    let place = Place::new();
    let (shared, outside) = (place.path("shared"), place.path("outside"));
    let source = place.path("source");
    for directory in [&shared, &outside, &source, &shared.join("target")] {
        fs::create_dir(directory).unwrap();
    }
    fs::write(source.join("mark"), "x").unwrap();
    symlink(&outside, shared.join("link")).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // As another container with the same volume would.
        let flipping = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                renameat_with(CWD, shared.join("target"), CWD, shared.join("link"), RenameFlags::EXCHANGE).unwrap();
            }
        });
        let mut inside = 0;
        for _ in 0..30 {
            let mut bundle = place.shell("find / -xdev -maxdepth 4 -name mark; find /shared/target -name mark; true");
            add(&mut bundle, mount("/shared", "bind", &shared, &["rbind"]));
            add(&mut bundle, mount("/shared/target/deep", "bind", &source, &["rbind"]));
            // Made anew in whatever the place is at the moment, or refused.
            if let Ok(launched) = place.runtime.launch(&bundle, None) {
                inside += usize::from(place.end(&bundle, &launched).code == 0);
            }
            let _ = fs::remove_dir(shared.join("target/deep"));
            let _ = fs::remove_dir(shared.join("link/deep"));
        }
        done.store(true, Ordering::Relaxed);
        flipping.join().unwrap();
        assert!(inside > 0);
    });
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "nothing was made outside");
    assert_eq!(fs::read_to_string(source.join("mark")).unwrap(), "x");
}

#[test]
fn nothing_takes_the_place_of_proc() {
    let place = Place::new();
    let fake = place.path("fake");
    fs::create_dir_all(fake.join("sys/kernel")).unwrap();
    fs::create_dir_all(fake.join("self/attr")).unwrap();
    for destination in ["/proc", "/proc/self", "/proc/sys/kernel", "/proc/../proc/sys", "//proc", "/proc/1/root"] {
        let mut bundle = place.shell("true");
        add(&mut bundle, mount(destination, "bind", &fake, &["rbind"]));
        place.refuses(&bundle);
    }
    // Nor by a link of the image.
    symlink("/proc", place.lower().join("alias")).unwrap();
    for destination in ["/alias", "/alias/sys", "/alias/self/attr"] {
        let mut bundle = place.shell("true");
        add(&mut bundle, mount(destination, "bind", &fake, &["rbind"]));
        let error = place.refuses(&bundle).to_string();
        assert!(error.contains(&format!("to rootfs at {destination:?}")), "{error}");
    }
    for (key, value) in [
        ("kernel.shm_rmid_forced", "1+kernel.core_pattern=|/x"),
        ("kernel.shm_rmid_forced", "1\nkernel.core_pattern=|/x"),
        ("kernel.core_pattern", "|/x"),
        ("net.ipv4.ip_forward+kernel.core_pattern", "1"),
        ("net/../kernel/core_pattern", "|/x"),
    ] {
        let before = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
        let mut bundle = place.shell("true");
        linux(&mut bundle.spec).set_sysctl(Some([(key.to_owned(), value.to_owned())].into()));
        place.refuses(&bundle);
        assert_eq!(fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap(), before);
    }
}

#[test]
fn a_console_that_is_a_link_reaches_nothing_outside() {
    let place = Place::new();
    let (dev, precious) = (place.path("dev"), place.path("precious"));
    fs::create_dir_all(dev.join("pts")).unwrap();
    fs::write(&precious, "precious").unwrap();
    symlink(&precious, dev.join("console")).unwrap();
    symlink(&precious, dev.join("ptmx")).unwrap();
    let mut bundle = place.shell("echo written >/dev/console");
    process(&mut bundle.spec).set_terminal(Some(true));
    let mounts = bundle.spec.mounts_mut().as_mut().unwrap();
    mounts.retain(|mount| !mount.destination().starts_with("/dev"));
    add(&mut bundle, mount("/dev", "bind", &dev, &["rbind"]));
    if let Ok(launched) = place.runtime.launch(&bundle, None) {
        place.end(&bundle, &launched);
    }
    assert_eq!(fs::read_to_string(&precious).unwrap(), "precious");
}

#[test]
fn a_working_directory_is_made_inside() {
    let place = Place::new();
    let outside = place.path("outside");
    fs::create_dir(&outside).unwrap();
    symlink(&outside, place.lower().join("link")).unwrap();
    symlink("../../../../../tmp", place.lower().join("up")).unwrap();
    for (cwd, says) in [("/link/a/b", Some(format!("{}/a/b\n", outside.display()))), ("/up/made-inside", None)] {
        let mut bundle = place.shell("pwd -P");
        process(&mut bundle.spec).set_cwd(cwd.into());
        bundle.make_working_directory = true;
        if let Ok(launched) = place.runtime.launch(&bundle, None) {
            let said = place.end(&bundle, &launched).output;
            assert_eq!(said, says.unwrap_or_else(|| "/tmp/made-inside\n".to_owned()));
        }
    }
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    assert!(!std::path::Path::new("/tmp/made-inside").exists());
}

#[test]
fn a_device_has_the_access_that_was_given() {
    let place = Place::new();
    let rule = |json: &str| serde_json::from_str::<LinuxDeviceCgroup>(json).unwrap();
    // The kernel's log, of which a container has nothing unless it is given.
    let mut bundle = place.shell(
        "mknod /kmsg c 1 11; (: <>/kmsg) 2>/dev/null && echo both; (: >/kmsg) 2>/dev/null && echo write; \
         (: </kmsg) 2>/dev/null && echo read; true",
    );
    unconfined(&mut bundle, place.runtime.host().bounding);
    assert_eq!(place.says(&bundle), "");
    let rules = linux(&mut bundle.spec).resources_mut().as_mut().unwrap().devices_mut().as_mut().unwrap();
    rules.push(rule(r#"{"allow": true, "type": "c", "major": 1, "minor": 11, "access": "r"}"#));
    let again = place.container(&["true"]);
    bundle.id.clone_from(&again.id);
    bundle.rootfs = again.rootfs;
    bundle.output = again.output;
    assert_eq!(place.says(&bundle), "read\n");
}

#[test]
fn a_hook_sees_nothing_of_the_image() {
    let place = Place::new();
    let said = place.path("said");
    let mut bundle = place.shell("true");
    let env = ["LD_PRELOAD=/evil.so", "PATH=/evil", "BASH_ENV=/evil"].map(str::to_owned).to_vec();
    process(&mut bundle.spec).set_env(Some([vec![defaults::PATH.to_owned()], env].concat()));
    let line = format!("cat /proc/self/environ >{}; exit 0", said.display());
    let arguments = ["sh", "-c", &line].map(str::to_owned).to_vec();
    let hook = HookBuilder::default().path("/bin/sh").args(arguments).build().unwrap();
    let mut hooks = Hooks::default();
    hooks.set_create_runtime(Some(vec![hook]));
    bundle.spec.set_hooks(Some(hooks));
    process(&mut bundle.spec).set_args(Some(vec!["/bin/true".to_owned()]));
    place.says(&bundle);
    let said = fs::read_to_string(&said).unwrap();
    assert!(!said.contains("evil") && !said.contains("LD_"), "{said}");
}

#[test]
fn what_a_container_mounts_stays_with_it() {
    let place = Place::new();
    let shared = place.path("shared");
    fs::create_dir(&shared).unwrap();
    let mut bundle = place.shell("mount -t tmpfs leak /shared && mount --make-rshared / && mount -t tmpfs leak /tmp && grep -c leak /proc/self/mounts");
    unconfined(&mut bundle, place.runtime.host().bounding);
    add(&mut bundle, mount("/shared", "bind", &shared, &["rbind"]));
    assert_eq!(place.says(&bundle), "2\n");
    assert!(!fs::read_to_string("/proc/self/mounts").unwrap().contains("leak"));
    for release in ["release_agent", "notify_on_release"] {
        let line = format!(
            "for f in /sys/fs/cgroup/{release} /sys/fs/cgroup/*/{release}; do (echo 1 >$f) 2>/dev/null && echo written; done; true"
        );
        assert_eq!(place.says(&place.shell(&line)), "");
    }
}

#[test]
fn nobody_inherits_a_capability() {
    let running = Running::new();
    let sets = "grep -E 'CapInh|CapAmb' /proc/self/status | tr -d '\\t'";
    let none = "CapInh:0000000000000000\nCapAmb:0000000000000000\n";
    assert_eq!(running.shell(sets, |_| {}), none);
    assert_eq!(running.shell(sets, |exec| exec.privileged = true), none);
    let out = running.place.path(&running.bundle.id).join("upper/out");
    fs::set_permissions(&out, fs::Permissions::from_mode(0o666)).unwrap();
    let line = "(grep -E 'CapInh|CapAmb|CapEff|CapPrm' /proc/self/status; id -u) >/out";
    let command = running.command(&["sh", "-c", line]);
    let mut exec = Exec::new(&running.bundle.id, running.launched.process.as_fd(), &running.bundle.spec, &command);
    exec.user = Some("build");
    assert_eq!(running.place.exec(&running.launched, &exec).unwrap(), 0);
    let said = fs::read_to_string(&out).unwrap();
    assert_eq!(said.matches("0000000000000000").count(), 4, "{said}");
    assert!(said.ends_with("\n1001\n"), "{said}");
}

#[test]
fn a_user_is_who_was_meant() {
    let place = Place::new();
    let traps = "root:x:0:0:root:/root:/bin/sh\n1000:x:0:0::/:/bin/sh\n2147483648:x:0:0::/:/bin/sh\n99999999999:x:0:0::/:/bin/sh\n-1:x:0:0::/:/bin/sh\nbuild:x:1001:1002::/home/build:/bin/sh\nwide:x:4294967296:4294967296::/:/bin/sh\n";
    fs::write(place.lower().join("etc/passwd"), traps).unwrap();
    let says = |user: &str| {
        let mut bundle = place.shell("id -u; id -g");
        bundle.user = Some(user.to_owned());
        match place.runtime.launch(&bundle, None) {
            Ok(launched) => Some(place.end(&bundle, &launched).output),
            Err(_) => None,
        }
    };
    let is = |user: &str, group: &str| Some(format!("{user}\n{group}\n"));
    for (user, expected) in [
        ("1000", is("1000", "0")),
        ("1000:1000", is("1000", "1000")),
        ("build", is("1001", "1002")),
        ("1001", is("1001", "1002")),
        ("1001:29", is("1001", "29")),
        ("2147483647", is("2147483647", "0")),
        ("2147483648", None),
        ("99999999999", None),
        ("-1", None),
        ("wide", None),
        ("0x0", None),
        ("1000:4294967296", None),
        ("nobody", None),
        ("build:nobody", None),
        ("build:build:build", None),
        ("a b", None),
    ] {
        assert_eq!(says(user), expected, "{user:?}");
    }
}

#[test]
fn accounts_without_end_are_not_read() {
    for trap in ["pipe", "sparse", "long"] {
        let place = Place::new();
        let passwd = place.lower().join("etc/passwd");
        match trap {
            "pipe" => {
                fs::remove_file(&passwd).unwrap();
                rustix::fs::mknodat(CWD, &passwd, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
            }
            "sparse" => fs::File::create(&passwd).unwrap().set_len(10 << 30).unwrap(),
            _ => fs::write(&passwd, "x".repeat(12 << 20)).unwrap(),
        }
        let mut bundle = place.shell("true");
        bundle.user = Some("build".to_owned());
        place.refuses(&bundle);
    }
}

#[test]
fn without_new_privileges_nobody_becomes_root() {
    let place = Place::new();
    let su = place.lower().join("bin/su");
    fs::remove_file(&su).unwrap();
    assert!(std::process::Command::new("cp").arg("/bin/busybox").arg(&su).status().unwrap().success());
    fs::set_permissions(&su, fs::Permissions::from_mode(0o4755)).unwrap();
    fs::write(place.lower().join("etc/passwd"), "root::0:0::/:/bin/sh\nbuild:x:1001:1002::/:/bin/sh\n").unwrap();
    let bundle = |forbidden: bool| {
        let mut bundle =
            place.shell("/bin/su root -c 'id -u' 2>/dev/null; grep NoNewPrivs /proc/self/status; sleep 1000");
        bundle.user = Some("build".to_owned());
        process(&mut bundle.spec).set_no_new_privileges(Some(forbidden));
        bundle
    };
    let free = bundle(false);
    let _running = place.launch(&free);
    place.until_says(&free, "NoNewPrivs");
    assert!(place.output(&free).starts_with("0\n"), "{}", place.output(&free));
    let bound = bundle(true);
    let launched = place.launch(&bound);
    place.until_says(&bound, "NoNewPrivs");
    assert_eq!(place.output(&bound), "NoNewPrivs:\t1\n");
    let mut command = bound.spec.process().clone().unwrap();
    command.set_args(Some(["sh", "-c", "/bin/su root -c 'exit 3'"].map(str::to_owned).to_vec()));
    let mut exec = Exec::new(&bound.id, launched.process.as_fd(), &bound.spec, &command);
    exec.user = Some("build");
    assert_ne!(place.exec(&launched, &exec).unwrap(), 3);
}

#[test]
fn nothing_is_written_outside_the_root() {
    let place = Place::new();
    let outside = place.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(place.path("hosts"), "hosts").unwrap();
    let is = |path: &std::path::Path| {
        let mut names: Vec<_> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    for name in ["etc", "dev", "tmp", "root", "home", "var", "run", "srv", "sys", "proc"] {
        for target in [outside.display().to_string(), format!("../../../../../../..{}", outside.display())] {
            let lower = place.lower();
            let (kept, aside) = (lower.join(name), place.path("aside"));
            let was_there = fs::rename(&kept, &aside).is_ok();
            symlink(&target, &kept).unwrap();
            let before = is(&place.path(""));
            // All that a specification has made in a root: places of mounts, a working directory, devices, links, what is hidden.
            let mut bundle = place.shell("true");
            for at in ["/etc/hosts", "/var/file", "/srv/deep/file"] {
                add(&mut bundle, mount(at, "bind", &place.path("hosts"), &["rbind"]));
            }
            for at in ["/run", "/home/deep", "/var/lib", "/tmp/x"] {
                add(&mut bundle, mount(at, "tmpfs", "tmpfs".as_ref(), &["tmpcopyup"]));
            }
            process(&mut bundle.spec).set_cwd("/root/made/here".into());
            bundle.make_working_directory = true;
            let masked = linux(&mut bundle.spec).masked_paths_mut().as_mut().unwrap();
            masked.extend(["/etc/hosts", "/var/none"].map(str::to_owned));
            // Words that steer other runtimes are words.
            let file = outside.join("annotated").display().to_string();
            let words = ["run.oci.hooks.stdout", "run.oci.hooks.stderr", "run.oci.pidfd_receiver", "run.oci.handler"];
            bundle.spec.set_annotations(Some(words.map(|word| (word.to_owned(), file.clone())).into()));
            let id = bundle.id.clone();
            if let Ok(launched) = place.runtime.launch(&bundle, None) {
                place.end(&bundle, &launched);
            }
            let mut after = is(&place.path(""));
            after.retain(|known| *known != *id && !before.is_empty());
            let mut known = before.clone();
            known.retain(|known| *known != *id);
            assert_eq!(after, known, "{name} -> {target}");
            assert!(is(&outside).is_empty(), "{name} -> {target}: {:?}", is(&outside));
            assert_eq!(fs::read_to_string(place.path("hosts")).unwrap(), "hosts");
            fs::remove_file(&kept).unwrap();
            if was_there {
                fs::rename(&aside, &kept).unwrap();
            }
        }
    }
}

#[test]
fn no_stream_is_a_file_of_the_host() {
    let running = Running::new();
    let kinds = "for n in 0 1 2; do stat -L -c %F /proc/self/fd/$n; done; stat -L -c %t:%T /proc/self/fd/0; \
                 (: <>/proc/self/fd/0) && echo null; readlink /proc/self/fd/1 | cut -d: -f1";
    let expected = "character special file\nfifo\nfifo\n1:3\nnull\npipe\n";
    assert_eq!(running.place.says(&running.place.shell(kinds)), expected);
    // Anew by their names, also as somebody who is not root, on a root where nothing else can be written.
    let line = "echo one >/dev/stdout; echo two >/proc/self/fd/1; echo three >/dev/stderr; echo four >/dev/fd/2; \
                (: </dev/stdin) && echo read; id -u";
    for user in [None, Some("build"), Some("4242:4242")] {
        for terminal in [false, true] {
            let mut bundle = running.place.shell(line);
            bundle.user = user.map(str::to_owned);
            bundle.spec.root_mut().as_mut().unwrap().set_readonly(Some(true));
            process(&mut bundle.spec).set_terminal(Some(terminal));
            let said = running.place.says(&bundle).replace('\r', "");
            let mut lines: Vec<_> = said.lines().collect();
            lines.sort_unstable();
            let id = user.map_or("0", |user| if user == "build" { "1001" } else { "4242" });
            let mut expected = ["one", "two", "three", "four", "read", id];
            expected.sort_unstable();
            assert_eq!(lines, expected, "{user:?} {terminal}");
        }
    }
    // An exec likewise.
    let command = running.command(&["sh", "-c", &format!("({kinds}) >/tmp/kinds; {line}")]);
    let mut exec = Exec::new(&running.bundle.id, running.launched.process.as_fd(), &running.bundle.spec, &command);
    exec.user = Some("build");
    assert_eq!(running.place.exec(&running.launched, &exec).unwrap(), 0);
}
