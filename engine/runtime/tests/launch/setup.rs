//! What the container's process finds: user, directory, root, devices, limits.

use engine_runtime::protocol::plan::{Op, Slot};

use crate::place::{Place, Wish};

fn run(place: &Place, command: &str, wish: Wish<'_>) -> String {
    let arguments = ["sh", "-c", command];
    let (code, output) = place.run_wish(&Wish { arguments: &arguments, ..wish });
    assert_eq!(code, 0, "{output}");
    output
}

#[test]
fn the_user_is_looked_up_in_the_container() {
    let place = Place::new();
    let id =
        |user| run(&place, "id -u; id -g; id -G; echo $HOME; echo ok >/dev/stdout", Wish { user, ..Wish::default() });
    assert_eq!(id(None), "0\n0\n0\n/root\nok\n");
    assert_eq!(id(Some("build")), "1001\n1002\n1002 10\n/home/build\nok\n");
    assert_eq!(id(Some("build:wheel")), "1001\n10\n10\n/home/build\nok\n");
    assert_eq!(id(Some("7:8")), "7\n8\n8\n/\nok\n");
    let more = Wish {
        user: Some("7:8"),
        before_execute: vec![Op::Group { group: c"wheel" }, Op::Group { group: c"99" }],
        ..Wish::default()
    };
    assert_eq!(run(&place, "id -G", more), "8 10 99\n");
}

#[test]
fn privileges_are_what_the_plan_says() {
    let place = Place::new();
    let chown = 1;
    let status = "grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status | tr '\\t\\n' '  '";
    let capabilities =
        Op::Capabilities { bounding: chown, effective: chown, permitted: chown, inheritable: 0, ambient: 0 };
    let zero = "0000000000000000";
    let one = "0000000000000001";
    let wish = Wish { before_execute: vec![capabilities, Op::NoNewPrivileges {}], ..Wish::default() };
    assert_eq!(
        run(&place, status, wish.clone()),
        format!("CapInh: {zero} CapPrm: {one} CapEff: {one} CapBnd: {one} CapAmb: {zero} NoNewPrivs: 1 Seccomp: 0 ")
    );
    assert_eq!(
        run(&place, status, Wish { user: Some("build"), ..wish }),
        format!("CapInh: {zero} CapPrm: {zero} CapEff: {zero} CapBnd: {one} CapAmb: {zero} NoNewPrivs: 1 Seccomp: 0 ")
    );
    let ambient =
        Op::Capabilities { bounding: chown, effective: chown, permitted: chown, inheritable: chown, ambient: chown };
    let wish = Wish { user: Some("build"), before_execute: vec![ambient], ..Wish::default() };
    assert!(run(&place, status, wish).contains(&format!("CapAmb: {one} NoNewPrivs: 0")));
}

#[test]
fn a_filter_is_loaded_before_or_after_privileges_go() {
    let place = Place::new();
    // mkdir answers ENOSPC, everything else is allowed.
    let (load, jump, give) = (0x20u16, 0x15u16, 0x06u16);
    let mkdir = if cfg!(target_arch = "x86_64") { 83u32 } else { 34 };
    let mut filter = Vec::new();
    for (code, yes, no, value) in
        [(load, 0u8, 0u8, 0u32), (jump, 0, 1, mkdir), (give, 0, 0, 0x0005_0000 | 28), (give, 0, 0, 0x7fff_0000)]
    {
        filter.extend_from_slice(&code.to_ne_bytes());
        filter.extend_from_slice(&[yes, no]);
        filter.extend_from_slice(&value.to_ne_bytes());
    }
    let command = "busybox mkdir /tmp/x 2>&1 | grep -c 'No space'; grep Seccomp: /proc/self/status | tr '\\t' ' '";
    for user in [None, Some("build")] {
        for more in [vec![], vec![Op::NoNewPrivileges {}]] {
            let mut before_execute = vec![Op::Seccomp { flags: 0, filter: &filter }];
            before_execute.extend(more);
            let wish = Wish { user, before_execute, ..Wish::default() };
            assert_eq!(run(&place, command, wish), "1\nSeccomp: 2\n");
        }
    }
}

#[test]
fn the_process_is_set_up() {
    let place = Place::new();
    let before_execute = vec![
        Op::WorkingDirectory { path: c"/made/here", make: 1 },
        Op::Umask { mode: 0o027 },
        Op::Rlimit { resource: 7, soft: 100, hard: 200 },
        Op::OomScoreAdjust { value: 321 },
        Op::Sysctl { key: c"kernel/msgmax", value: c"12345" },
    ];
    let command = "pwd; umask; ulimit -n; ulimit -Hn; cat /proc/self/oom_score_adj /proc/sys/kernel/msgmax; hostname; \
        grep -E 'Sig(Blk|Ign)' /proc/self/status; ls /proc/self/fd; echo $0 $$; env | sort";
    let wish = Wish { before_execute, environment: &["PATH=/bin", "A=b c", "HOME=/elsewhere"], ..Wish::default() };
    assert_eq!(
        run(&place, command, wish),
        "/made/here\n0027\n100\n200\n321\n12345\nbox\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n\
         0\n1\n2\n3\nsh 1\nA=b c\nHOME=/elsewhere\nPATH=/bin\nPWD=/made/here\nSHLVL=1\n"
    );
}

#[test]
fn only_the_root_is_to_be_seen() {
    let place = Place::new();
    let lines = run(&place, "cat /proc/self/mounts", Wish::default());
    let points: Vec<_> = lines.lines().map(|line| line.split(' ').nth(1).unwrap()).collect();
    assert_eq!(points, ["/", "/proc", "/dev", "/dev/pts"]);
    let stat = run(
        &place,
        "stat -c '%F %t %T %a' /dev/null; ls -l /proc/self/fd/0 | grep -c /dev/null; cat; readlink /dev/stdout",
        Wish::default(),
    );
    assert_eq!(stat, "character special file 1 3 666\n1\n/proc/self/fd/1\n");
}

#[test]
fn what_is_masked_cannot_be_seen() {
    let place = Place::new();
    let before_pivot = vec![
        Op::Mask { path: c"/proc/version" },
        Op::Mask { path: c"/proc/irq" },
        Op::Mask { path: c"/proc/bus" },
        Op::Mask { path: c"/proc/not/there" },
        Op::ReadOnly { path: c"/proc/sys" },
        Op::ReadOnly { path: c"/proc/not/there" },
        Op::RootReadOnly {},
    ];
    let command =
        "cat /proc/version; ls /proc/bus /proc/irq; (echo 1 >/proc/sys/kernel/msgmax) 2>&1; touch /x 2>&1; true";
    let output = run(&place, command, Wish { before_pivot, ..Wish::default() });
    assert_eq!(
        output,
        "/proc/bus:\n\n/proc/irq:\nsh: can't create /proc/sys/kernel/msgmax: Read-only file system\n\
         touch: /x: Read-only file system\n"
    );
}

#[test]
fn mount_points_are_made_and_hostile_links_stay_inside() {
    let place = Place::new();
    let outside = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(outside.path(), place.root().join("escape")).unwrap();
    std::fs::write(place.directory.path().join("file"), "bound").unwrap();
    let file = std::ffi::CString::new(place.directory.path().join("file").to_str().unwrap()).unwrap();
    let before_pivot = vec![
        Op::FsOpen { slot: Slot(3), kind: c"tmpfs" },
        Op::FsMount { slot: Slot(3), attributes: 0 },
        Op::MoveMount { slot: Slot(3), path: c"/escape/deep/er", strict: 0 },
        Op::SetAttributes { slot: Slot(3), set: 1, clear: 0, propagation: 0, recursive: 0 },
        Op::CloneTree { slot: Slot(4), path: &file, recursive: 0 },
        Op::MoveMount { slot: Slot(4), path: c"/etc/new/file", strict: 0 },
        Op::MakeDirectory { path: c"/escape/made", mode: 0o1777 },
    ];
    let command = "cat /etc/new/file; (touch /escape/deep/er/x) 2>&1; stat -c %a /escape/made";
    let output = run(&place, command, Wish { before_pivot, ..Wish::default() });
    assert_eq!(output, "boundtouch: /escape/deep/er/x: Read-only file system\n1777\n");
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn a_container_in_the_hosts_pid_namespace_ends_as_well() {
    let place = Place::new();
    let wish = Wish { host_pids: true, ..Wish::default() };
    assert_eq!(run(&place, "test $$ -gt 1 && echo yes", wish), "yes\n");
}
