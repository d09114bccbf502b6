//! Names that somebody exchanges while a container is made, as another container with the same volume can.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use engine_runtime::Bundle;
use rustix::fs::{CWD, FileType, Mode, RenameFlags, makedev, mknodat, renameat_with};

use crate::attacks::{add, mount};
use crate::place::{Place, process};

/// Does something while each pair of names is being exchanged over and over.
fn while_exchanged<T>(pairs: &[(&Path, &Path)], then: impl FnOnce() -> T) -> T {
    /// Ends the exchanging also when something fails.
    struct Done<'a>(&'a AtomicBool);
    impl Drop for Done<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let over = Done(&done);
        let exchanging = scope.spawn(|| {
            let mut times = 0u64;
            // In the end every name is what it was.
            while !done.load(Ordering::Relaxed) || times % 2 == 1 {
                for &(one, other) in pairs {
                    renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).unwrap();
                }
                times += 1;
                // Not in step with what is being made.
                (0..times % 61 * 40).for_each(|_| std::hint::spin_loop());
            }
            times
        });
        let result = then();
        drop(over);
        assert!(exchanging.join().unwrap() > 100);
        result
    })
}

/// Tries until the race was won and lost often enough, while the names are being exchanged. `attempt` says whether a container ran.
fn often(pairs: &[(&Path, &Path)], mut attempt: impl FnMut() -> bool) {
    let (mut ran, mut refused) = (0, 0);
    while_exchanged(pairs, || {
        while (ran < 15 || refused < 15) && ran + refused < 500 {
            *(if attempt() { &mut ran } else { &mut refused }) += 1;
        }
    });
    assert!(ran > 0 && refused > 0, "ran {ran} times, was refused {refused} times");
}

/// A container whose `/dev` is a directory that others can change.
fn with_shared_dev(place: &Place, bundle: &mut Bundle) -> std::path::PathBuf {
    let dev = place.path("dev");
    let mounts = bundle.spec.mounts_mut().as_mut().unwrap();
    let beneath: Vec<_> = mounts.extract_if(.., |mount| mount.destination().starts_with("/dev")).collect();
    add(bundle, mount("/dev", "bind", &dev, &["rbind"]));
    let pts = beneath.into_iter().find(|mount| mount.destination() == Path::new("/dev/pts")).unwrap();
    add(bundle, pts);
    dev
}

fn make_dev(place: &Place) {
    let dev = place.path("dev");
    fs::create_dir_all(dev.join("pts")).unwrap();
    mknodat(CWD, dev.join("null"), FileType::CharacterDevice, Mode::from_raw_mode(0o666), makedev(1, 3)).unwrap();
}

/// What is mounted in the mount namespace of a process: type, root and place.
fn mounted(pid: u32) -> Vec<(String, String, String)> {
    let text = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    let line = |line: &str| {
        let (before, after) = line.split_once(" - ").unwrap();
        let before: Vec<_> = before.split(' ').collect();
        (after.split(' ').next().unwrap().to_owned(), before[3].to_owned(), before[4].to_owned())
    };
    text.lines().map(line).collect()
}

#[test]
fn a_null_device_that_changes_hides_what_it_was_to_hide_or_nothing_runs() {
    let place = Place::new();
    make_dev(&place);
    let null = place.path("dev/null");
    // In the container a file that steers the host, in the place of the device.
    let link = place.path("dev/link");
    symlink("/proc/sys/kernel/core_pattern", &link).unwrap();
    let before = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    fs::write(place.lower().join("secret"), "secret").unwrap();
    often(&[(&null, &link)], || {
        let line = "stat -c '%F %t:%T' /secret /proc/uptime; cat /secret /proc/uptime";
        let mut bundle = place.shell(line);
        with_shared_dev(&place, &mut bundle);
        let masked = bundle.spec.linux_mut().as_mut().unwrap().masked_paths_mut().as_mut().unwrap();
        masked.extend(["/secret".to_owned(), "/proc/uptime".to_owned()]);
        let Ok(launched) = place.runtime.launch(&bundle, None) else { return false };
        let said = place.end(&bundle, &launched).output;
        assert_eq!(said, "character special file 1:3\ncharacter special file 1:3\n");
        true
    });
    assert_eq!(fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap(), before);
    assert_eq!(place.runtime.containers().unwrap(), Vec::<String>::new());
}

#[test]
fn a_console_that_changes_is_the_terminal_in_dev_or_nothing_runs() {
    let place = Place::new();
    make_dev(&place);
    let (console, link) = (place.path("dev/console"), place.path("dev/link"));
    let (pts, astray) = (place.path("dev/pts"), place.path("dev/astray"));
    fs::write(&console, "").unwrap();
    symlink("/proc/sysrq-trigger", &link).unwrap();
    symlink("/proc/sys/kernel", &astray).unwrap();
    // Either alone, since one that is always changing would hide that the other is looked at.
    for pairs in [&[(&*console, &*link)][..], &[(&*pts, &*astray)], &[(&*console, &*link), (&*pts, &*astray)]] {
        often(pairs, || {
            let mut bundle = place.container(&["sleep", "1000"]);
            with_shared_dev(&place, &mut bundle);
            process(&mut bundle.spec).set_terminal(Some(true));
            let Ok(launched) = place.runtime.launch(&bundle, None) else { return false };
            for (kind, root, at) in mounted(launched.pid) {
                let terminal = kind == "devpts";
                assert!(!terminal || at.starts_with("/dev/"), "{root} of devpts is at {at}");
                let named = at.starts_with("/dev/console") || at.starts_with("/dev/link");
                assert!(!named || (terminal && root != "/"), "{kind} {root} is at {at}");
            }
            place.runtime.remove(&bundle.id).unwrap();
            true
        });
    }
}

#[test]
fn a_place_that_becomes_a_link_into_proc_is_not_mounted_over() {
    let place = Place::new();
    let (shared, source) = (place.path("shared"), place.path("source"));
    for directory in [&shared, &source, &shared.join("target")] {
        fs::create_dir(directory).unwrap();
    }
    let (target, link) = (shared.join("target"), shared.join("link"));
    symlink("/proc/self", &link).unwrap();
    often(&[(&target, &link)], || {
        let mut bundle = place.container(&["sleep", "1000"]);
        add(&mut bundle, mount("/shared", "bind", &shared, &["rbind"]));
        add(&mut bundle, mount("/shared/target", "bind", &source, &["rbind"]));
        let Ok(launched) = place.runtime.launch(&bundle, None) else { return false };
        let all = mounted(launched.pid);
        let astray = all.iter().find(|(_, root, at)| root.ends_with("/source") && at.starts_with("/proc"));
        assert_eq!(astray, None);
        place.runtime.remove(&bundle.id).unwrap();
        true
    });
}
