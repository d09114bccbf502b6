//! What cannot be started says why, and leaves nothing.

use std::os::fd::AsFd;
use std::os::unix::fs::symlink;

use engine_runtime::monitor::ExitRecord;
use engine_runtime::protocol::plan::{Op, Plan, Slot};
use engine_runtime::protocol::{Event, Reason, Request};
use engine_runtime::spawner::LaunchError;

use crate::place::{Place, Wish};

/// The reason, and the operation that it is blamed on.
fn refusal(place: &Place, wish: &Wish<'_>) -> (Reason, String, i32) {
    let (plan, _descriptors) = place.plan(wish);
    match place.launch(wish).map(|container| container.pid) {
        Err(LaunchError::Step { index, errno, reason }) => {
            assert_eq!(ExitRecord::read(&place.run()).unwrap(), None);
            let plan = Plan::parse(plan.as_bytes()).unwrap();
            let operation = plan.operations().nth(index as usize).map(|op| format!("{op:?}")).unwrap_or_default();
            (reason, operation.split(' ').next().unwrap().to_owned(), errno)
        }
        other => panic!("{other:?}"),
    }
}

fn program(place: &Place, name: &str) -> (Reason, i32) {
    let (reason, operation, errno) = refusal(place, &Wish { arguments: &[name], ..Wish::default() });
    assert_eq!(operation, "Execute");
    (reason, errno)
}

#[test]
fn a_program_that_cannot_be_run_says_why() {
    let place = Place::new();
    std::fs::write(place.root().join("bin/script"), "#!/bin/missing\n").unwrap();
    std::fs::write(place.root().join("bin/plain"), "text").unwrap();
    std::fs::set_permissions(place.root().join("bin/script"), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .unwrap();
    std::fs::create_dir(place.root().join("bin/folder")).unwrap();
    assert_eq!(program(&place, "nope"), (Reason::NotInPath, 0));
    assert_eq!(program(&place, "plain"), (Reason::NotInPath, 0));
    assert_eq!(program(&place, "folder"), (Reason::NotInPath, 0));
    assert_eq!(program(&place, ""), (Reason::NotInPath, 0));
    assert_eq!(program(&place, "/bin/nope"), (Reason::NotFound, 2));
    assert_eq!(program(&place, "/bin/plain"), (Reason::PermissionDenied, 13));
    assert_eq!(program(&place, "/bin"), (Reason::IsDirectory, 21));
    assert_eq!(program(&place, "script"), (Reason::Execute, 2));
    assert_eq!(place.shell("echo fine").1, "fine\n");
}

#[test]
fn accounts_that_are_missing_or_a_trap_are_refused() {
    let place = Place::new();
    let user = |user| refusal(&place, &Wish { arguments: &["true"], user: Some(user), ..Wish::default() });
    assert_eq!(user("nobody"), (Reason::NoSuchUser, "User".to_owned(), 0));
    assert_eq!(user("root:nogroup"), (Reason::NoSuchGroup, "User".to_owned(), 0));
    assert_eq!(user("2147483648").0, Reason::IdOutOfRange);
    let wish = Wish {
        arguments: &["true"],
        user: Some("0"),
        before_execute: vec![Op::Group { group: c"nogroup" }],
        ..Wish::default()
    };
    assert_eq!(refusal(&place, &wish), (Reason::NoSuchGroup, "Group".to_owned(), 0));

    let passwd = place.root().join("etc/passwd");
    for trap in ["/dev/null", "/proc/1/root/etc/passwd", "../bin"] {
        std::fs::remove_file(&passwd).unwrap();
        symlink(trap, &passwd).unwrap();
        let reason = user("root").0;
        assert!(
            matches!(reason, Reason::AccountsUnreadable | Reason::Syscall | Reason::NoSuchUser),
            "{trap}: {reason:?}"
        );
    }
    std::fs::remove_file(&passwd).unwrap();
    std::fs::write(&passwd, vec![b'\n'; (1 << 20) + 1]).unwrap();
    assert_eq!(user("root").0, Reason::AccountsUnreadable);
    std::fs::remove_file(&passwd).unwrap();
    assert_eq!(user("root").0, Reason::NoSuchUser);
}

#[test]
fn a_device_that_is_not_the_null_device_hides_nothing() {
    let place = Place::new();
    let before_pivot = vec![
        Op::FsOpen { slot: Slot(3), kind: c"tmpfs" },
        Op::FsMount { slot: Slot(3), attributes: 0 },
        Op::MoveMount { slot: Slot(3), path: c"/dev", strict: 0 },
        Op::MakeNode { path: c"/dev/null", mode: 0o20666, major: 1, minor: 5, uid: 0, gid: 0 },
        Op::Mask { path: c"/proc/version" },
    ];
    let wish = Wish { arguments: &["true"], before_pivot, ..Wish::default() };
    assert_eq!(refusal(&place, &wish), (Reason::Impostor, "Mask".to_owned(), 0));
}

#[test]
fn links_where_proc_belongs_are_refused() {
    let place = Place::new();
    std::fs::remove_dir(place.root().join("proc")).unwrap();
    symlink("tmp", place.root().join("proc")).unwrap();
    let (reason, operation, errno) = refusal(&place, &Wish { arguments: &["true"], ..Wish::default() });
    assert_eq!((reason, operation.as_str(), errno), (Reason::Syscall, "MoveMount", 40));
}

#[test]
fn a_working_directory_that_is_missing_or_a_file_is_refused() {
    let place = Place::new();
    for (path, errno) in [(c"/missing", 2), (c"/etc/passwd", 20)] {
        let wish = Wish {
            arguments: &["true"],
            before_execute: vec![Op::WorkingDirectory { path, make: 0 }],
            ..Wish::default()
        };
        assert_eq!(refusal(&place, &wish), (Reason::Syscall, "WorkingDirectory".to_owned(), errno));
    }
}

#[test]
fn a_failure_after_start_is_told_as_well() {
    let place = Place::new();
    let mut container = place.launch(&Wish { arguments: &["nope"], wait: true, ..Wish::default() }).unwrap();
    container.events.send(&Request::Start {}, &[]);
    let (failure, _) = container.events.wait_for(|event| match event {
        Event::StartFailed { failure } => Some(*failure),
        _ => None,
    });
    assert_eq!(failure.reason, Reason::NotInPath);
    container.events.wait_for(|event| matches!(event, Event::Closed {}).then_some(()));
}

#[test]
fn a_plan_without_its_descriptors_is_refused() {
    let place = Place::new();
    let (plan, descriptors) = place.plan(&Wish { arguments: &["true"], ..Wish::default() });
    assert!(matches!(place.spawner.launch(&plan, &[descriptors[0].as_fd()]), Err(LaunchError::HandOver(_))));
}
