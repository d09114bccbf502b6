#![allow(clippy::unwrap_used)]
use oci_spec::runtime::{LinuxNamespace, Mount, Process};

use super::*;
use crate::cgroup::Places;
use crate::{Host, Rootfs, defaults};

const TABLE: &str = "\
47 32 0:28 / / rw,relatime - overlay overlay rw,lowerdir=x
46 47 0:30 / /proc rw,nosuid - proc proc rw
48 47 0:31 / /dev rw,nosuid - tmpfs tmpfs rw
51 50 0:25 /engine/one /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw
54 47 254:0 /d/hosts /etc/hosts rw,relatime master:3 - ext4 /dev/vda rw
55 47 254:0 /d/v /my\\040data rw - ext4 /dev/vda rw
57 55 0:40 / /my\\040data/scratch rw - tmpfs tmpfs rw
59 46 0:31 /null /proc/kcore rw,nosuid - tmpfs tmpfs rw
";
const HOST: &str = "30 20 0:25 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n31 20 0:26 / /other rw - cgroup2 cgroup2 rw\n";

fn mount(destination: &str, options: &[&str]) -> Mount {
    let mut mount = Mount::default();
    mount
        .set_destination(destination.into())
        .set_typ(Some("tmpfs".to_owned()))
        .set_source(Some("/source".into()))
        .set_options(Some(options.iter().map(|&option| option.to_owned()).collect()));
    mount
}

fn host() -> Host {
    let mut host = Host::probe().unwrap();
    host.cgroups = crate::cgroup::Layout::parse(HOST);
    host.cgroup_parent = "engine".to_owned();
    host
}

fn bundle() -> Bundle {
    let mut spec = defaults::unfiltered_spec(&host());
    let binds = [("/etc/hosts", "rbind"), ("/my data", "rbind"), ("/my data/scratch", "size=1m")];
    let mounts = binds.iter().map(|(destination, option)| mount(destination, &[option]));
    spec.set_mounts(Some(mounts.collect()));
    Bundle::new("one", spec, Rootfs::Directory("/root".into()))
}

fn found(bundle: &Bundle, table: &str) -> Result<(Vec<String>, Vec<CgroupMount>), Error> {
    outside::found(&Table::parse(table), &Table::parse(HOST), &bundle.spec, Path::new("engine/one"))
}

fn noted(bundle: &Bundle) -> Noted {
    let (mounts, cgroups) = found(bundle, TABLE).unwrap();
    let streams = [None, Some("pipe:[7]".to_owned()), Some("pipe:[8]".to_owned())];
    Noted { exit: true, mounts, cgroups, streams, network: true }
}

#[test]
fn what_comes_from_outside_is_named() {
    let noted = noted(&bundle());
    assert_eq!(noted.mounts, ["/etc/hosts", "/my data"]);
    let [cgroup] = noted.cgroups.as_slice() else { panic!("{:?}", noted.cgroups) };
    assert!(cgroup.own && cgroup.below == Path::new("") && cgroup.hierarchy == Path::new("/sys/fs/cgroup"));
    let text = serde_json::to_string(&noted).unwrap();
    assert_eq!(serde_json::from_str::<Noted>(&text).unwrap(), noted);
}

#[test]
fn what_would_not_be_found_again_is_refused() {
    let mut bundle = bundle();
    let refused = |bundle: &Bundle, line: &str| found(bundle, line).unwrap_err().to_string();
    let twice = "1 2 254:0 / /etc/hosts rw - ext4 a rw\n2 1 254:0 / /etc/hosts rw - ext4 a rw\n";
    assert!(refused(&bundle, twice).ends_with("mounted twice"));
    bundle.spec.mounts_mut().as_mut().unwrap().push(mount("/a]b", &["bind"]));
    assert!(refused(&bundle, "1 2 254:0 / /a]b rw - ext4 a rw\n").contains("its name cannot be told"));
    assert!(refused(&bundle, "1 2 0:99 / /x rw - cgroup2 c rw\n").contains("unknown to the host"));
    // A mask over a part of the host that is bound would be gone.
    assert!(refused(&bundle, "1 2 0:41 / /my\\040data/below ro - tmpfs none ro\n").ends_with("within a bind mount"));
    // The container has lost a mount since.
    let noted = noted(&self::bundle());
    bundle.spec.set_mounts(None);
    let places = Places::of(&bundle.spec, "one", &host()).unwrap();
    let error = sources(&bundle.spec, &noted, &places, Path::new("/run/one")).unwrap_err().to_string();
    assert!(error.contains("/etc/hosts, which the container has not"), "{error}");
}

#[test]
fn criu_is_told_where_it_is_now() {
    let bundle = bundle();
    let noted = noted(&bundle);
    let places = Places::of(&bundle.spec, "one", &host()).unwrap();
    let sources = sources(&bundle.spec, &noted, &places, Path::new("/run/one")).unwrap();
    let words = restore_words(&Criu::new("criu"), Path::new("/run/one"), Path::new("/c/x"), &noted, &sources).join(" ");
    for part in [
        "criu restore --images-dir /c/x --work-dir /run/one ",
        " --root /run/one/rootfs ",
        " mnt[engine-0]:/run/one/trees/0 ",
        " mnt[engine-1]:/run/one/trees/1 ",
        " mnt[engine-2]:/sys/fs/cgroup/engine/one ",
        " fd[103]:engine-network --inherit-fd fd[101]:pipe:[7] --inherit-fd fd[102]:pipe:[8]",
    ] {
        assert!(words.contains(part), "{part}: {words}");
    }
    assert!(words.contains("--restore-sibling") && !words.contains("fd[100]"));
    let dump = Dump { bundle: &bundle, pid: std::process::id(), images: Path::new("/c/x"), leave_running: false };
    let words = dump_words(&Criu::new("criu"), Path::new("/run/one"), &dump, &noted).unwrap().join(" ");
    assert!(words.contains(" mnt[/my data]:engine-1 ") && !words.contains("--leave-running"), "{words}");
}

#[test]
fn a_plan_puts_the_sources_where_criu_finds_them() {
    let (bundle, host) = (bundle(), host());
    let noted = noted(&bundle);
    let by = Criu::new("/criu");
    let restore = |bundle: &Bundle| {
        plan::criu::restore(bundle, &by, Path::new("/run/one"), Path::new("/c/x"), &noted, &host)
            .map(|plan| plan.to_string())
    };
    let text = restore(&bundle).unwrap();
    for part in ["\"/run/one/rootfs\"", "\"/run/one/trees/1\"", "HandOn", "StreamsAt", "Adopt", "0: Listener"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    // Mounts that have no source are CRIU's own.
    assert!(!text.contains("trees/2"), "{text}");
    let linux = |bundle: &mut Bundle, change: &dyn Fn(&mut Vec<LinuxNamespace>)| {
        let linux = bundle.spec.linux_mut().as_mut().unwrap();
        let mut namespaces = linux.namespaces().clone().unwrap();
        change(&mut namespaces);
        linux.set_namespaces(Some(namespaces));
    };
    let mut without = bundle.clone();
    linux(&mut without, &|all| all.retain(|one| one.typ() != Kind::Network));
    assert!(restore(&without).unwrap_err().to_string().contains("another kind of network"));
    let mut shared = bundle.clone();
    linux(&mut shared, &|all| all.retain(|one| one.typ() != Kind::Pid));
    assert!(restore(&shared).unwrap_err().to_string().contains("a pid namespace that is not its own"));
    let mut terminal = bundle;
    let mut process = Process::default();
    process.set_terminal(Some(true));
    terminal.spec.set_process(Some(process));
    assert!(restore(&terminal).unwrap_err().to_string().contains("a terminal"));
}

#[test]
fn the_last_errors_are_told() {
    let directory = tempfile::tempdir().unwrap();
    let said = |text: &str| {
        fs::write(directory.path().join(LOG), text).unwrap();
        super::said(&directory.path().join(LOG))
    };
    let lines =
        "(00.1) Error (a.c:1): one\n(00.2) two\n(00.3) Error (b.c:2): three\n Error: four\n(0.5) Error five\nsix\n";
    assert_eq!(said(lines).as_deref(), Some("(00.3) Error (b.c:2): three; Error: four; (0.5) Error five"));
    assert_eq!(said("unrecognized option\n\n").as_deref(), Some("unrecognized option"));
    assert_eq!(said(""), None);
    let failure =
        |reason, errno| Criu::new("criu").failure("dump", directory.path(), Failure { index: 0, errno, reason });
    let text = failure(Reason::RuntimeFailed, 4).unwrap().to_string();
    assert_eq!(text, "criu dump: it ended with code 4: it said nothing");
    assert!(failure(Reason::RuntimeTimedOut, 0).unwrap().to_string().contains("600 s and was killed"));
    assert!(failure(Reason::Syscall, 1).is_none());
}

#[test]
fn a_program_that_is_not_there_is_said_to_be_missing() {
    assert_eq!(Criu::new("true").found().unwrap().program.rsplit('/').next(), Some("true"));
    let error = Criu::new("/no/such/criu").found().unwrap_err();
    assert_eq!(error.kind(), crate::ErrorKind::Unsupported);
    assert!(error.to_string().contains("need the program CRIU on the engine's host"), "{error}");
}

#[test]
fn cgroups_of_systemd_are_refused_before_anything_is_written() {
    let place = |path: &str| Places::at(Path::new(path), &host().cgroups).unwrap();
    check_cgroup(&place("engine/one")).unwrap();
    let error = check_cgroup(&place("system.slice:engine:one")).unwrap_err();
    assert_eq!(error.kind(), crate::ErrorKind::Unsupported);
}
