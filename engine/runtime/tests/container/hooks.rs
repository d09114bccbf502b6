//! Hooks of every kind: when they are run, where, and what becomes of a failure.

use std::fs;
use std::path::Path;

use engine_runtime::protocol::{Event, Request};
use engine_runtime::spec::{Hook, HookBuilder, Hooks};
use engine_runtime::{Bundle, Error, Status, hooks};

use crate::place::{Place, process, wait};

fn hook(line: &str) -> Vec<Hook> {
    let arguments = ["sh", "-c", line].map(str::to_owned).to_vec();
    vec![HookBuilder::default().path("/bin/sh").args(arguments).env(["MARK=m".to_owned()]).timeout(20).build().unwrap()]
}

/// A line that adds what the hook sees to a file.
fn note(name: &str, log: &Path) -> String {
    format!(
        "state=$(cat); ( echo {name}; echo \"$state\" | grep -o '\"status\":\"[a-z]*\"'; \
         echo \"$state\" | grep -o '\"pid\":[0-9]*'; env | grep -v -E '^(PWD|SHLVL|_|OLDPWD)='; readlink /proc/self/ns/uts \
         ) >> {} 2>&1",
        log.display()
    )
}

fn with(bundle: &mut Bundle, change: impl FnOnce(&mut Hooks)) {
    let mut all = Hooks::default();
    change(&mut all);
    bundle.spec.set_hooks(Some(all));
}

#[test]
fn every_kind_is_run_in_its_turn_and_place() {
    let place = Place::new();
    let log = place.path("hooks");
    let mut bundle = place.shell("cat /started; exec sleep 1000");
    bundle.wait_for_start = true;
    bundle.user = Some("build".to_owned());
    let home = place.path(&bundle.id);
    fs::set_permissions(home.join("upper"), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    #[allow(deprecated)]
    with(&mut bundle, |all| {
        all.set_prestart(Some(hook(&note("prestart", &log))))
            .set_create_runtime(Some(hook(&note("createRuntime", &log))))
            .set_create_container(Some(hook(&note("createContainer", &log))))
            .set_start_container(Some(hook("(cat; id -u; env) > /started")))
            .set_poststart(Some(hook(&note("poststart", &log))));
    });
    let launched = place.launch(&bundle);
    let host = fs::read_link("/proc/self/ns/uts").unwrap().display().to_string();
    let container = fs::read_link(format!("/proc/{}/ns/uts", launched.pid)).unwrap().display().to_string();
    let entry = |name: &str, status: &str, pid: u32, uts: &str| {
        format!("{name}\n\"status\":\"{status}\"\n\"pid\":{pid}\nMARK=m\n{uts}\n")
    };
    let expected = [
        entry("prestart", "creating", launched.pid, &host),
        entry("createRuntime", "creating", launched.pid, &host),
        entry("createContainer", "creating", 1, &container),
    ];
    assert_eq!(fs::read_to_string(&log).unwrap(), expected.concat());
    assert_eq!(place.runtime.state(&bundle.id).unwrap().status, Status::Created);

    launched.monitor.send(&Request::Start {}, &[]).unwrap();
    wait(&launched.monitor, |event| matches!(event, Event::Started { .. }).then_some(()));
    let state = hooks::State::new(&bundle, "running", Some(launched.pid));
    hooks::run("poststart", bundle.spec.hooks().as_ref().unwrap().poststart().as_deref(), &state).unwrap();
    let all = fs::read_to_string(&log).unwrap();
    assert_eq!(all, expected.concat() + &entry("poststart", "running", launched.pid, &host));
    place.until_says(&bundle, "MARK=m");
    let said = place.output(&bundle);
    assert!(said.contains(r#""status":"created""#) && said.contains("\n1001\n") || said.contains("}1001\n"), "{said}");
    assert_eq!(place.runtime.state(&bundle.id).unwrap().status, Status::Running);
    place.runtime.cgroup(&bundle.id).unwrap().kill().unwrap();
    place.end(&bundle, &launched);
    assert!(matches!(place.runtime.state(&bundle.id), Err(Error::NotFound(_))));
}

#[test]
fn a_failing_hook_leaves_nothing() {
    let place = Place::new();
    type Set = fn(&mut Hooks, Vec<Hook>);
    #[allow(deprecated)]
    let kinds: [(&str, Set); 4] = [
        ("prestart", |all, hook| {
            all.set_prestart(Some(hook));
        }),
        ("createRuntime", |all, hook| {
            all.set_create_runtime(Some(hook));
        }),
        ("createContainer", |all, hook| {
            all.set_create_container(Some(hook));
        }),
        ("startContainer", |all, hook| {
            all.set_start_container(Some(hook));
        }),
    ];
    for (kind, set) in kinds {
        let mut bundle = place.shell("echo never");
        with(&mut bundle, |all| set(all, hook("exit 7")));
        let error = place.refuses(&bundle).to_string();
        assert!(error.contains(&format!("error running {kind} hook #0: exit status 7")), "{error}");
        assert_eq!(place.output(&bundle), "");

        let mut bundle = place.shell("echo never");
        let mut slow = hook("sleep 1000");
        slow[0].set_timeout(Some(1));
        with(&mut bundle, |all| set(all, slow));
        let error = place.refuses(&bundle).to_string();
        assert!(error.contains(&format!("error running {kind} hook #0: it took longer than 1")), "{error}");

        let mut bundle = place.shell("echo never");
        with(&mut bundle, |all| set(all, vec![HookBuilder::default().path("/no/such/hook").build().unwrap()]));
        assert!(place.refuses(&bundle).to_string().contains(kind));
    }
    // The process was there for a moment, and is gone.
    let mut bundle = place.shell("exec sleep 1000");
    with(&mut bundle, |all| {
        all.set_poststart(Some(hook("exit 7")));
    });
    assert!(place.refuses(&bundle).to_string().contains("poststart hook #0: exit status 7"));
}

#[test]
fn a_hook_of_the_container_has_no_privilege_of_the_host() {
    let place = Place::new();
    let mut bundle = place.shell("true");
    // The image's own program: what it may do is what the container may.
    with(&mut bundle, |all| {
        let line = "grep -q 'CapEff:.0000000000000000' /proc/self/status && grep -q 'Seccomp:.2' /proc/self/status && \
                    test ! -e /proc/self/fd/4 && test $(id -u) = 1001";
        all.set_start_container(Some(hook(line)));
    });
    bundle.user = Some("1001".to_owned());
    process(&mut bundle.spec).set_no_new_privileges(Some(true));
    place.says(&bundle);
}

#[test]
fn others_cannot_go_past_the_hooks() {
    let place = Place::new();
    let gate = place.path("gate");
    let mut bundle = place.shell("echo started");
    bundle.wait_for_start = true;
    with(&mut bundle, |all| {
        let line = format!("touch {0}; while test -e {0}; do sleep 0.01; done", gate.display());
        all.set_create_runtime(Some(hook(&line)));
    });
    std::thread::scope(|scope| {
        let launching = scope.spawn(|| place.launch(&bundle));
        while !gate.exists() {
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        let state = place.runtime.state(&bundle.id).unwrap();
        assert_eq!((state.status, state.pid.is_some()), (Status::Creating, true));
        let other = place.runtime.connect(&bundle.id).unwrap().unwrap();
        for request in [Request::Start {}, Request::Continue {}] {
            other.send(&request, &[]).unwrap();
            wait(&other, |event| matches!(event, Event::Refused { .. }).then_some(()));
        }
        fs::remove_file(&gate).unwrap();
        let launched = launching.join().unwrap();
        assert!(launched.waiting);
        launched.monitor.send(&Request::Start {}, &[]).unwrap();
        assert_eq!(place.end(&bundle, &launched).output, "started\n");
    });
}
