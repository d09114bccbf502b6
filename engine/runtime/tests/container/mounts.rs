//! What is mounted into a container.

use std::fs;

use engine_runtime::spec::Mount;

use crate::place::{Place, linux, process};

fn mount(destination: &str, typ: &str, source: &str, options: &[&str]) -> Mount {
    let mut mount = Mount::default();
    mount
        .set_destination(destination.into())
        .set_typ(Some(typ.to_owned()))
        .set_source(Some(source.into()))
        .set_options(Some(options.iter().map(|&option| option.to_owned()).collect()));
    mount
}

#[test]
fn directories_and_files_of_the_host() {
    let place = Place::new();
    let data = place.path("data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("file"), "hello\n").unwrap();
    let data = data.to_str().unwrap().to_owned();
    let mut bundle = place.shell(
        "cat /data/file /ro/file /etc/config; echo changed > /data/file; \
         (echo x > /ro/file) 2>&1 | grep -o 'Read-only file system'; cat /ro/file",
    );
    bundle.spec.mounts_mut().as_mut().unwrap().extend([
        mount("/data", "bind", &data, &["rbind"]),
        mount("/ro", "bind", &data, &["rbind", "rro"]),
        mount("/etc/config", "bind", &format!("{data}/file"), &["bind", "ro"]),
    ]);
    assert_eq!(place.says(&bundle), "hello\nhello\nhello\nRead-only file system\nchanged\n");
    assert_eq!(fs::read_to_string(place.path("data/file")).unwrap(), "changed\n");
    // Mount points were made in the container's own layer.
    let upper = place.path(&bundle.id).join("upper");
    assert!(upper.join("data").is_dir() && upper.join("etc/config").is_file());
}

#[test]
fn a_mount_that_is_at_hand() {
    let place = Place::new();
    let data = place.path("data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("file"), "hello\n").unwrap();
    let mut bundle = place.shell("cat /data/file; (echo x > /data/file) 2>&1 | grep -o 'Read-only file system'");
    bundle.spec.mounts_mut().as_mut().unwrap().push(mount("/data/", "bind", "/nowhere", &["rbind", "ro"]));
    let tree = engine_sys::mount::copy(&data, engine_sys::mount::Below::Included).unwrap();
    bundle.trees.insert("/data".into(), std::sync::Arc::new(tree));
    assert_eq!(place.says(&bundle), "hello\nRead-only file system\n");
}

#[test]
fn a_link_in_the_image_leads_nowhere_else() {
    let place = Place::new();
    let outside = place.path("outside");
    let data = place.path("data");
    fs::create_dir(&outside).unwrap();
    fs::create_dir(&data).unwrap();
    fs::write(data.join("file"), "hello\n").unwrap();
    std::os::unix::fs::symlink(&outside, place.lower().join("link")).unwrap();
    std::os::unix::fs::symlink("../../../../../etc", place.lower().join("up")).unwrap();
    let mut bundle = place.shell("cat /link/deep/file /up/deep/file; cat /etc/deep/file");
    let data = data.to_str().unwrap();
    bundle
        .spec
        .mounts_mut()
        .as_mut()
        .unwrap()
        .extend([mount("/link/deep", "bind", data, &["rbind"]), mount("/up/deep", "bind", data, &["rbind"])]);
    assert_eq!(place.says(&bundle), "hello\nhello\nhello\n");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "nothing was made outside");
    assert!(!std::path::Path::new("/etc/deep").exists());
}

#[test]
fn file_systems_of_its_own() {
    let place = Place::new();
    let mut bundle = place.shell(
        "stat -f -c %T /run /dev/shm /proc /sys /dev/mqueue; df -k /dev/shm /run | grep -c '1024 '; \
         stat -c %a /run /dev/shm; (: > /run/x) 2>&1 | grep -o 'Read-only file system'; ls /run",
    );
    let mounts = bundle.spec.mounts_mut().as_mut().unwrap();
    mounts.retain(|mount| mount.destination() != std::path::Path::new("/dev/shm"));
    mounts.push(engine_runtime::defaults::shm(1 << 20));
    mounts.push(mount("/run", "tmpfs", "tmpfs", &["ro", "mode=750", "size=1m"]));
    mounts.push(mount("/run/deep", "tmpfs", "tmpfs", &[]));
    let said = place.says(&bundle);
    assert!(said.starts_with("tmpfs\ntmpfs\nproc\nsysfs\n"), "{said}");
    assert!(said.ends_with("2\n750\n1777\nRead-only file system\ndeep\n"), "{said}");
}

#[test]
fn a_read_only_root() {
    let place = Place::new();
    let mut bundle =
        place.shell("(: > /x) 2>&1 | grep -o 'Read-only file system'; : > /dev/shm/x; : > /tmp/x; ls /tmp");
    bundle.spec.root_mut().as_mut().unwrap().set_readonly(Some(true));
    bundle.spec.mounts_mut().as_mut().unwrap().push(mount("/tmp", "tmpfs", "tmpfs", &["mode=1777"]));
    assert_eq!(place.says(&bundle), "Read-only file system\nx\n");
}

#[test]
fn a_directory_as_root_is_used_as_it_is() {
    let place = Place::new();
    let mut bundle = place.shell("echo hi > /written; cat /written");
    bundle.rootfs = engine_runtime::Rootfs::Directory(place.lower());
    assert_eq!(place.says(&bundle), "hi\n");
    assert_eq!(fs::read_to_string(place.lower().join("written")).unwrap(), "hi\n");
}

#[test]
fn layers_lie_upon_each_other() {
    let place = Place::new();
    let mut bundle = place.shell("cat /etc/layer; ls /etc/removed 2>&1 | grep -o 'No such file'");
    let mut lower = vec![place.lower()];
    fs::create_dir_all(place.lower().join("etc/removed")).unwrap();
    for number in 0..40 {
        let layer = place.path(&format!("layer{number}"));
        fs::create_dir_all(layer.join("etc")).unwrap();
        fs::write(layer.join("etc/layer"), format!("{number}\n")).unwrap();
        lower.insert(0, layer);
    }
    rustix::fs::mknodat(
        rustix::fs::CWD,
        place.path("layer20/etc/removed"),
        rustix::fs::FileType::CharacterDevice,
        rustix::fs::Mode::empty(),
        0,
    )
    .unwrap();
    if let engine_runtime::Rootfs::Overlay { lower: all, .. } = &mut bundle.rootfs {
        *all = lower;
    }
    assert_eq!(place.says(&bundle), "39\nNo such file\n");
}

#[test]
fn kernel_parameters_of_its_namespaces() {
    let place = Place::new();
    let mut bundle = place.shell("cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shmmni");
    linux(&mut bundle.spec).set_sysctl(Some(
        [("net.ipv4.ip_forward".to_owned(), "1".to_owned()), ("kernel.shmmni".to_owned(), "77".to_owned())].into(),
    ));
    assert_eq!(place.says(&bundle), "1\n77\n");
}

#[test]
fn the_working_directory_is_made_when_it_may_be() {
    let place = Place::new();
    let mut bundle = place.shell("pwd; stat -c '%u %a' .");
    process(&mut bundle.spec).set_cwd("/srv/app".into());
    let error = place.refuses(&bundle).to_string();
    assert!(error.contains("chdir to cwd (\"/srv/app\")") && error.contains("no such file or directory"), "{error}");
    let mut bundle = place.shell("pwd; stat -c '%u %a' .");
    process(&mut bundle.spec).set_cwd("/srv/app".into());
    bundle.make_working_directory = true;
    assert_eq!(place.says(&bundle), "/srv/app\n0 755\n");
}

#[test]
fn what_is_covered_is_copied_up() {
    let place = Place::new();
    fs::create_dir_all(place.lower().join("srv/a/b")).unwrap();
    fs::write(place.lower().join("srv/a/file"), "kept\n").unwrap();
    std::os::unix::fs::symlink("a/file", place.lower().join("srv/link")).unwrap();
    fs::set_permissions(place.lower().join("srv"), std::os::unix::fs::PermissionsExt::from_mode(0o750)).unwrap();
    let mut bundle = place.shell(
        "cat /srv/link; stat -c %a /srv; echo more > /srv/a/file; cat /srv/a/file; grep -c ' /srv tmpfs ' /proc/mounts; \
         ls /new",
    );
    bundle.spec.mounts_mut().as_mut().unwrap().extend([
        mount("/srv", "tmpfs", "tmpfs", &["tmpcopyup", "size=1m"]),
        mount("/new", "tmpfs", "tmpfs", &["tmpcopyup", "ro"]),
    ]);
    assert_eq!(place.says(&bundle), "kept\n750\nmore\n1\n");
    assert_eq!(fs::read_to_string(place.lower().join("srv/a/file")).unwrap(), "kept\n");
    // What does not fit is an error and not a half.
    fs::write(place.lower().join("srv/large"), vec![0; 3 << 20]).unwrap();
    let mut bundle = place.shell("true");
    bundle.spec.mounts_mut().as_mut().unwrap().push(mount("/srv", "tmpfs", "tmpfs", &["tmpcopyup", "size=1m"]));
    let error = place.refuses(&bundle).to_string();
    assert!(error.contains("error copying \"/srv\" into the tmpfs that covers it: no space left"), "{error}");
}

#[test]
fn what_is_mounted_is_changed() {
    let place = Place::new();
    let mut bundle = place.shell("awk '$2 == \"/proc\" || $2 == \"/dev/shm\" { print $2, $4 }' /proc/mounts");
    bundle.spec.mounts_mut().as_mut().unwrap().extend([
        mount("/proc", "proc", "proc", &["remount", "ro"]),
        mount("/dev/shm", "none", "none", &["bind", "remount", "exec", "noatime"]),
    ]);
    let said = place.says(&bundle);
    let line = |path: &str| said.lines().find(|line| line.starts_with(&format!("{path} "))).unwrap().to_owned();
    assert!(line("/proc").starts_with("/proc ro,nosuid,nodev,noexec"), "{said}");
    assert!(line("/dev/shm").contains("rw,nosuid,nodev,noatime"), "{said}");
    bundle.spec.mounts_mut().as_mut().unwrap().push(mount("/dev/shm", "tmpfs", "tmpfs", &["remount", "size=1m"]));
    assert!(place.refuses(&bundle).to_string().contains("a remount has no option size"));
}

#[test]
fn the_root_receives_mounts_of_the_host_when_it_is_to() {
    let place = Place::new();
    for (word, expected) in
        [("private", ""), ("rprivate", ""), ("shared", "shared:"), ("unbindable", "unbindable"), ("slave", "")]
    {
        let mut bundle = place.shell("awk '$5 == \"/\" { print $7 }' /proc/self/mountinfo");
        bundle.rootfs = engine_runtime::Rootfs::Directory(place.lower());
        linux(&mut bundle.spec).set_rootfs_propagation(Some(word.to_owned()));
        let said = place.says(&bundle);
        // A slave has a master only where the host's own mount is shared.
        let fits =
            if word == "slave" { said.starts_with("master:") || said == "-\n" } else { said.starts_with(expected) };
        assert!(fits, "{word}: {said}");
    }
    let mut bundle = place.shell("true");
    linux(&mut bundle.spec).set_rootfs_propagation(Some("sideways".to_owned()));
    assert!(place.refuses(&bundle).to_string().contains("sideways"));
}
