//! User and time namespaces, and namespaces of others that a container joins.

use std::fs;
use std::os::unix::fs::{MetadataExt, lchown};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use engine_runtime::spec::{
    LinuxIdMapping, LinuxIdMappingBuilder, LinuxNamespace, LinuxNamespaceType as Kind, LinuxTimeOffset, MountBuilder,
};
use engine_runtime::{Bundle, Exec, Rootfs};

use crate::place::{Place, linux, process};

const FIRST: u32 = 100_000;

fn map(container: u32, host: u32, size: u32) -> LinuxIdMapping {
    LinuxIdMappingBuilder::default().container_id(container).host_id(host).size(size).build().unwrap()
}

fn namespace(kind: Kind, path: Option<&Path>) -> LinuxNamespace {
    let mut namespace = LinuxNamespace::default();
    namespace.set_typ(kind).set_path(path.map(Path::to_path_buf));
    namespace
}

/// Replaces the namespace of this kind.
fn set(bundle: &mut Bundle, kind: Kind, path: Option<&Path>) {
    let namespaces = linux(&mut bundle.spec).namespaces_mut().as_mut().unwrap();
    namespaces.retain(|namespace| namespace.typ() != kind);
    namespaces.push(namespace(kind, path));
}

/// Gives a tree to the superuser of the user namespace, as whoever unpacks an image for one does.
fn give(path: &Path) {
    lchown(path, Some(FIRST), Some(FIRST)).unwrap();
    if path.symlink_metadata().unwrap().is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| give(&entry.unwrap().path()));
    }
}

/// A container with users of its own.
fn mapped(place: &Place, line: &str) -> Bundle {
    let mut bundle = place.shell(line);
    give(&place.lower());
    give(&place.path(&bundle.id));
    set(&mut bundle, Kind::User, None);
    let linux = linux(&mut bundle.spec);
    linux.set_uid_mappings(Some(vec![map(0, FIRST, 1), map(1, FIRST + 1, 65_535)]));
    linux.set_gid_mappings(Some(vec![map(0, FIRST, 65_536)]));
    bundle
}

#[test]
fn users_are_others_outside() {
    let place = Place::new();
    let line = "id -u; cat /proc/self/uid_map | tr -s ' '; stat -c %u:%g /bin /dev/null; touch /made; \
                echo > /dev/null && echo null; hostname; cat /sys/kernel/mm/transparent_hugepage/enabled \
                > /dev/null; mount -t tmpfs tmpfs /tmp 2>/dev/null; echo mount $?; \
                mknod /n b 8 0 2>/dev/null; echo mknod $?; ls /dev/pts /dev/mqueue /dev/shm >/dev/null && echo devices";
    let mut bundle = mapped(&place, line);
    bundle.spec.set_hostname(Some("box".to_owned()));
    process(&mut bundle.spec).set_oom_score_adj(Some(-1)).set_rlimits(Some(vec![limit(1000, 1000)]));
    let said = place.says(&bundle);
    let expected = "0\n 0 100000 1\n 1 100001 65535\n0:0\n65534:65534\nnull\nbox\nmount 1\nmknod 1\ndevices\n";
    assert_eq!(said, expected);
    let made = place.path(&bundle.id).join("upper/made");
    assert_eq!(made.metadata().unwrap().uid(), FIRST);
}

#[test]
fn their_superuser_shares_out_the_cgroup_that_it_may_write_to() {
    let place = Place::new();
    let mut bundle = mapped(
        &place,
        "cd /sys/fs/cgroup; test -d pids && cd pids; mkdir mine && echo 0 > mine/cgroup.procs && cat /proc/self/cgroup; stat -c %u . cgroup.procs; \
         echo max 2>/dev/null > memory.max || echo refused",
    );
    let mounts = bundle.spec.mounts_mut().as_mut().unwrap();
    let cgroups = mounts.iter_mut().find(|mount| mount.destination() == Path::new("/sys/fs/cgroup")).unwrap();
    cgroups.set_options(Some(["nosuid", "noexec", "nodev", "rw"].map(str::to_owned).to_vec()));
    let ended = place.run(&bundle);
    if place.runtime.host().cgroups.is_unified() {
        assert_eq!(ended.output, "0::/mine\n0\n0\nrefused\n");
    } else {
        // Version 1 is not safe to be shared out.
        assert!(ended.output.contains("mkdir: can't create directory 'mine'"), "{}", ended.output);
    }
}

/// As CVE-2021-21284: what is made for the superuser of a user namespace, and given to it, stays inside the root.
#[test]
fn nothing_of_the_host_becomes_theirs() {
    let place = Place::new();
    let outside = place.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), "secret").unwrap();
    fs::write(place.path("hosts"), "hosts").unwrap();
    for name in ["etc", "dev", "tmp", "root", "home", "var", "srv"] {
        for target in [outside.display().to_string(), format!("../../../../../../..{}", outside.display())] {
            let (kept, aside) = (place.lower().join(name), place.path("aside"));
            let was_there = fs::rename(&kept, &aside).is_ok();
            std::os::unix::fs::symlink(&target, &kept).unwrap();
            let mut bundle = mapped(&place, "true");
            for (at, typ, source, option) in [
                ("/etc/hosts", "bind", place.path("hosts"), "rbind"),
                ("/srv/deep/file", "bind", place.path("hosts"), "rbind"),
                ("/var/lib", "tmpfs", "tmpfs".into(), "tmpcopyup"),
                ("/tmp/x", "tmpfs", "tmpfs".into(), "tmpcopyup"),
            ] {
                crate::attacks::add(&mut bundle, crate::attacks::mount(at, typ, &source, &[option]));
            }
            process(&mut bundle.spec).set_cwd("/root/made/here".into());
            bundle.make_working_directory = true;
            bundle.user = Some("1001:1002".to_owned());
            if let Ok(launched) = place.runtime.launch(&bundle, None) {
                place.end(&bundle, &launched);
            }
            for path in [&outside, &outside.join("secret"), &place.path("hosts"), &place.path("")] {
                let found = path.metadata().unwrap();
                assert_eq!((found.uid(), found.gid()), (0, 0), "{name} -> {target}: {}", path.display());
            }
            let names: Vec<_> = fs::read_dir(&outside).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            assert_eq!(names, ["secret"], "{name} -> {target}");
            fs::remove_file(&kept).unwrap();
            if was_there {
                fs::rename(&aside, &kept).unwrap();
            }
        }
    }
}

fn limit(soft: u64, hard: u64) -> engine_runtime::spec::PosixRlimit {
    engine_runtime::spec::PosixRlimitBuilder::default()
        .typ(engine_runtime::spec::PosixRlimitType::RlimitNofile)
        .soft(soft)
        .hard(hard)
        .build()
        .unwrap()
}

#[test]
fn a_terminal_a_user_and_an_exec_in_a_user_namespace() {
    let place = Place::new();
    let mut bundle = mapped(&place, "tty; id -u; exec sleep 1000");
    process(&mut bundle.spec).set_terminal(Some(true));
    bundle.user = Some("build".to_owned());
    let launched = place.launch(&bundle);
    place.until_says(&bundle, "1001");
    assert!(place.output(&bundle).contains("/dev/"), "{}", place.output(&bundle));
    let status = fs::read_to_string(format!("/proc/{}/status", launched.pid)).unwrap();
    assert!(status.contains(&format!("Uid:\t{0}\t{0}", FIRST + 1001)), "{status}");

    let mut command = bundle.spec.process().clone().unwrap();
    let users = fs::read_link(format!("/proc/{}/ns/user", launched.pid)).unwrap();
    let line = "test $(id -u) = 0 && touch /by-exec && test $(readlink /proc/self/ns/user) =";
    let line = format!("{line} '{}'", users.display());
    command.set_terminal(Some(false)).set_args(Some(["sh", "-c", &line].map(str::to_owned).to_vec()));
    let exec = Exec::new(&bundle.id, std::os::fd::AsFd::as_fd(&launched.process), &bundle.spec, &command);
    assert_eq!(place.exec(&launched, &exec).unwrap(), 0);
    let made = place.path(&bundle.id).join("upper/by-exec");
    assert_eq!(made.metadata().unwrap().uid(), FIRST);
    place.runtime.cgroup(&bundle.id).unwrap().kill().unwrap();
    place.end(&bundle, &launched);
}

#[test]
fn a_user_namespace_with_the_network_and_the_processes_of_the_host() {
    let place = Place::new();
    let mut bundle = mapped(&place, "test -d /proc/1 && ls /sys/class/net > /dev/null && echo fine");
    linux(&mut bundle.spec).namespaces_mut().as_mut().unwrap().retain(|namespace| {
        !matches!(namespace.typ(), Kind::Network | Kind::Pid | Kind::Ipc | Kind::Cgroup | Kind::Uts)
    });
    assert_eq!(place.says(&bundle), "fine\n");
}

#[test]
fn maps_that_cannot_be_are_refused() {
    let place = Place::new();
    let mut bundle = mapped(&place, "true");
    linux(&mut bundle.spec).set_uid_mappings(Some(vec![map(0, FIRST, 10), map(5, FIRST + 100, 10)]));
    let error = place.refuses(&bundle).to_string();
    assert!(error.contains("unable to make the user namespace or to map its ids: invalid argument"), "{error}");
    linux(&mut bundle.spec).set_uid_mappings(Some(vec![map(1, FIRST, 10)]));
    assert!(place.refuses(&bundle).to_string().contains("id 0"));
    linux(&mut bundle.spec).set_uid_mappings(Some(vec![map(0, u32::MAX, 10)]));
    assert!(place.refuses(&bundle).to_string().contains("no range"));
}

#[test]
fn time_has_an_offset() {
    let place = Place::new();
    let mut bundle = place.shell("cut -d. -f1 /proc/uptime; readlink /proc/self/ns/time; echo $$; exec sleep 1000");
    set(&mut bundle, Kind::Time, None);
    let mut offset = LinuxTimeOffset::default();
    offset.set_secs(Some(7_000_000)).set_nanosecs(Some(5));
    let offsets = [("boottime".to_owned(), offset.clone()), ("monotonic".to_owned(), offset)];
    linux(&mut bundle.spec).set_time_offsets(Some(offsets.into()));
    let launched = place.launch(&bundle);
    place.until_says(&bundle, "\n1\n");
    let said = place.output(&bundle);
    let uptime: u64 = said.lines().next().unwrap().parse().unwrap();
    assert!(uptime >= 7_000_000, "{said}");
    let own = fs::read_link("/proc/self/ns/time").unwrap();
    assert_ne!(said.lines().nth(1), own.to_str());

    let mut command = bundle.spec.process().clone().unwrap();
    let line = "test $(readlink /proc/self/ns/time) = $(readlink /proc/1/ns/time)";
    command.set_args(Some(["sh", "-c", line].map(str::to_owned).to_vec()));
    let exec = Exec::new(&bundle.id, std::os::fd::AsFd::as_fd(&launched.process), &bundle.spec, &command);
    assert_eq!(place.exec(&launched, &exec).unwrap(), 0);
    place.runtime.cgroup(&bundle.id).unwrap().kill().unwrap();
    place.end(&bundle, &launched);
}

/// A process in namespaces of its own, which are there as long as it is.
struct Holder(Child);

impl Holder {
    fn new(options: &[&str]) -> Self {
        let mut command = Command::new("unshare");
        command.args(options).args(["--fork", "--kill-child", "sh", "-c", "echo in; exec sleep 1000"]);
        let mut child = command.stdout(Stdio::piped()).stdin(Stdio::null()).spawn().unwrap();
        let mut said = [0; 3];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut said).unwrap();
        Self(child)
    }

    /// The process that is in all of them.
    fn pid(&self) -> u32 {
        let children = format!("/proc/{0}/task/{0}/children", self.0.id());
        fs::read_to_string(children).unwrap().trim().parse().unwrap()
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn namespaces_of_every_kind_are_joined_by_their_paths() {
    let holder =
        Holder::new(&["--uts", "--ipc", "--net", "--pid", "--cgroup", "--time", "--mount", "--propagation", "private"]);
    let pid = holder.pid();
    for (kind, name) in [
        (Kind::Uts, "uts"),
        (Kind::Ipc, "ipc"),
        (Kind::Network, "net"),
        (Kind::Pid, "pid"),
        (Kind::Cgroup, "cgroup"),
        (Kind::Time, "time"),
    ] {
        let place = Place::new();
        let mut bundle = place.shell(&format!("readlink /proc/self/ns/{name}"));
        let path = format!("/proc/{pid}/ns/{name}");
        set(&mut bundle, kind, Some(Path::new(&path)));
        let said = place.says(&bundle);
        assert_eq!(said.trim(), fs::read_link(&path).unwrap().to_str().unwrap(), "{name}");
    }
}

#[test]
fn all_at_once_with_a_user_namespace() {
    let holder = Holder::new(&["--user", "--uts", "--ipc", "--net", "--pid", "--time"]);
    let pid = holder.pid();
    for map in ["uid_map", "gid_map"] {
        fs::write(format!("/proc/{pid}/{map}"), format!("0 {FIRST} 65536\n")).unwrap();
    }
    let place = Place::new();
    let mut bundle = place.shell(
        "for n in user uts ipc net pid time; do readlink /proc/self/ns/$n; done; id -u; touch /made; mount >/dev/null",
    );
    give(&place.lower());
    give(&place.path(&bundle.id));
    let names = [
        (Kind::User, "user"),
        (Kind::Uts, "uts"),
        (Kind::Ipc, "ipc"),
        (Kind::Network, "net"),
        (Kind::Pid, "pid"),
        (Kind::Time, "time"),
    ];
    let mut expected = String::new();
    for (kind, name) in names {
        let path = format!("/proc/{pid}/ns/{name}");
        expected += &format!("{}\n", fs::read_link(&path).unwrap().display());
        set(&mut bundle, kind, Some(Path::new(&path)));
    }
    // A /proc of processes outside cannot be mounted from within, and is mounted for the container before.
    assert_eq!(place.says(&bundle), format!("{expected}0\n"));
}

#[test]
fn a_mount_namespace_is_joined() {
    let holder = Holder::new(&["--mount", "--propagation", "private"]);
    let pid = holder.pid();
    let place = Place::new();
    let mut bundle = place.shell("readlink /proc/self/ns/mnt; ls -d /etc/passwd /lower 2>/dev/null; touch /made");
    bundle.rootfs = Rootfs::Directory(place.lower());
    let path = format!("/proc/{pid}/ns/mnt");
    set(&mut bundle, Kind::Mount, Some(Path::new(&path)));
    let expected = format!("{}\n/etc/passwd\n", fs::read_link(&path).unwrap().display());
    assert_eq!(place.says(&bundle), expected);
    assert!(place.lower().join("made").exists());
    // Others that are in it keep their root, and the host has no mount of it.
    assert_eq!(fs::read_link(format!("/proc/{pid}/root")).unwrap(), Path::new("/"));
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(place.lower().to_str().unwrap()), "{mounts}");
}

#[test]
fn what_is_no_namespace_is_not_joined() {
    let place = Place::new();
    for path in ["/etc/passwd", "/proc/self/ns/uts"] {
        let mut bundle = place.shell("true");
        set(&mut bundle, Kind::Ipc, Some(Path::new(path)));
        let error = place.refuses(&bundle).to_string();
        assert!(error.contains("unable to join the ipc namespace: invalid argument"), "{error}");
    }
    let mut bundle = place.shell("true");
    set(&mut bundle, Kind::Ipc, Some(Path::new("/no/such/namespace")));
    assert!(place.refuses(&bundle).to_string().contains("/no/such/namespace"));
}

#[test]
fn files_of_a_mount_are_shown_as_those_of_others() {
    let place = Place::new();
    let source = place.path("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), "x").unwrap();
    lchown(source.join("file"), Some(3), Some(4)).unwrap();
    let mut bundle = place.shell("stat -c %u:%g /data/file");
    let mut mount = MountBuilder::default()
        .destination("/data")
        .source(&source)
        .typ("bind")
        .options(["bind".to_owned(), "idmap".to_owned()])
        .build()
        .unwrap();
    mount.set_uid_mappings(Some(vec![map(0, 1000, 100)])).set_gid_mappings(Some(vec![map(0, 2000, 100)]));
    bundle.spec.mounts_mut().as_mut().unwrap().push(mount.clone());
    if let Err(error) = place.runtime.launch(&bundle, None) {
        // Before Linux 6.3 a tmpfs, where some machines have their temporary files, shows no mapped ids.
        let (kernel, first) = (place.runtime.host().kernel, engine_runtime::KernelVersion { major: 6, minor: 3 });
        let text = error.to_string();
        assert!(kernel < first && text.ends_with("map ids: invalid argument"), "{text}");
        return;
    }
    place.runtime.remove(&bundle.id).unwrap();
    let mut again = place.shell("stat -c %u:%g /data/file");
    again.spec.mounts_mut().as_mut().unwrap().push(mount.clone());
    assert_eq!(place.says(&again), "1003:2004\n");

    // With users of its own, whose numbers the files then have inside.
    let mut bundle = mapped(&place, "stat -c %u:%g /data/file; echo y > /data/new && stat -c %u:%g /data/new");
    mount.set_uid_mappings(None).set_gid_mappings(None);
    bundle.spec.mounts_mut().as_mut().unwrap().push(mount);
    fs::set_permissions(&source, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    assert_eq!(place.says(&bundle), "3:4\n0:0\n");
    assert_eq!(source.join("new").metadata().unwrap().uid(), 0);
}
