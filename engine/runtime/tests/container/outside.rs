//! Containers that another OCI runtime makes: here a script, whose containers are processes of the host.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use engine_runtime::protocol::{Event, INIT, Request};
use engine_runtime::{Bundle, Error, Exec, External, Host, Launched, Runtime, RuntimeSettings};

use crate::place::{Place, wait};

/// Writes each verb, its parent and itself to `calls`; hangs with a child where a file `hang-VERB` is. A shell may reap what it has
/// begun, so a process that is to be over early ends when the shell is out of its way.
const SCRIPT: &str = r#"#!/bin/sh
here=${0%/*}
while [ $# -gt 0 ]; do
  case $1 in
    --root) state=$2; shift ;;
    --bundle | --log | --log-format) shift ;;
    --pid-file) pid_file=$2; shift ;;
    --process) process=$2; shift ;;
    -*) ;;
    *) if [ -z "$verb" ]; then verb=$1; else id=$1; fi ;;
  esac
  shift
done
[ "$verb" = create ] && mkdir -p "$state/$id" && mkfifo "$state/$id/start"
if [ -e "$here/hang-$verb" ]; then
  sleep 1000 &
  echo "$verb $PPID $!" >>"$here/calls"
  wait
fi
echo "$verb $PPID $$" >>"$here/calls"
case $verb in
  create)
    (read go <"$state/$id/start"; echo started; exec sleep 1000) &
    echo -n $! >"$pid_file" ;;
  start) echo go >"$state/$id/start" ;;
  exec)
    if grep -q orphan "$process"; then
      go=$here/go.$$
      (sh -c 'while [ ! -e "$0" ]; do sleep 0.01; done; echo orphan; exit 3' "$go" & echo -n $! >"$pid_file")
      : >"$go"
      while [ -d "/proc/$(cat "$pid_file")" ]; do sleep 0.01; done
    elif grep -q zombie "$process"; then
      sh -c 'while [ $((i += 1)) -lt 300 ] && [ "$(cat /proc/$PPID/comm)" != sleep ]; do :; done; exit 4' &
      echo -n $! >"$pid_file"
      exec sleep 0.1
    else
      (sleep 0.1; exit 5) &
      echo -n $! >"$pid_file"
    fi ;;
  delete) rm -r "$state/$id" ;;
esac
"#;

struct Outside {
    place: Place,
    by: External,
}

impl Outside {
    fn new() -> Self {
        let place = Place::new();
        fs::write(place.path("script"), SCRIPT).unwrap();
        // By another process, as in `Place::on`.
        let copied = Command::new("cp").args([place.path("script"), place.path("runtime")]).status().unwrap();
        assert!(copied.success());
        fs::set_permissions(place.path("runtime"), fs::Permissions::from_mode(0o755)).unwrap();
        let by = External::new(place.path("runtime").to_str().unwrap());
        Self { place, by }
    }

    fn hang(&self, verb: &str, hangs: bool) {
        let path = self.place.path(&format!("hang-{verb}"));
        if hangs { fs::write(path, "").unwrap() } else { fs::remove_file(path).unwrap() }
    }

    /// Verb, parent and process of each call; of one that hung, the process is its child.
    fn calls(&self) -> Vec<(String, u32, u32)> {
        let text = fs::read_to_string(self.place.path("calls")).unwrap_or_default();
        let call = |line: &str| {
            let words: Vec<_> = line.split(' ').collect();
            (words[0].to_owned(), words[1].parse().unwrap(), words[2].parse().unwrap())
        };
        text.lines().map(call).collect()
    }

    fn verbs(&self) -> Vec<String> {
        self.calls().into_iter().map(|(verb, ..)| verb).collect()
    }

    fn create(&self, bundle: &Bundle) -> Result<Launched, Error> {
        self.place.runtime.prepare_external(bundle, &self.by)?.launch(None)
    }

    fn created(&self) -> (Bundle, Launched) {
        let bundle = self.place.shell("true");
        let launched = self.create(&bundle).unwrap();
        assert!(launched.waiting);
        (bundle, launched)
    }

    fn started(&self) -> (Bundle, Launched) {
        let (bundle, launched) = self.created();
        launched.monitor.send(&Request::Start {}, &[]).unwrap();
        wait(&launched.monitor, |event| matches!(event, Event::Started { .. }).then_some(()));
        self.place.runtime.start_external(&bundle.id).unwrap();
        self.place.until_says(&bundle, "started");
        (bundle, launched)
    }

    fn exec(&self, bundle: &Bundle, launched: &Launched, number: u64, word: &str) -> Result<i32, Error> {
        use std::os::fd::AsFd as _;
        let mut command = bundle.spec.process().clone().unwrap();
        command.set_args(Some(vec![word.to_owned()]));
        let exec = Exec::new(&bundle.id, launched.process.as_fd(), &bundle.spec, &command);
        let by = self.place.runtime.external(&bundle.id)?.unwrap();
        let plan = self.place.runtime.exec_external(&External { patience: self.by.patience, ..by }, number, &exec)?;
        launched.monitor.send(&Request::Exec { id: number }, &plan.descriptors()).unwrap();
        let mut started = false;
        wait(&launched.monitor, |event| match event {
            Event::ExecStarted { id, .. } => {
                started = *id == number;
                None
            }
            Event::ExecExited { id, code } if *id == number => {
                assert!(started, "its start was told");
                Some(Ok(*code))
            }
            Event::ExecFailed { id, failure } if *id == number => Some(Err(plan.failed(*failure))),
            _ => None,
        })
    }

    fn end(&self, bundle: &Bundle, launched: &Launched) {
        launched.monitor.send(&Request::Signal { process: INIT, signal: 9 }, &[]).unwrap();
        wait(&launched.monitor, |event| matches!(event, Event::Exited { code: 137, .. }).then_some(()));
        self.place.runtime.delete_external(&bundle.id).unwrap();
        self.place.runtime.remove(&bundle.id).unwrap();
    }
}

/// Whether it lives; a dead one that nobody has reaped yet does not.
fn runs(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

#[test]
fn a_runtime_is_nobodys_child_but_ours() {
    let outside = Outside::new();
    let (bundle, launched) = outside.started();
    assert_eq!(outside.exec(&bundle, &launched, 1, "lasts").unwrap(), 5);
    outside.end(&bundle, &launched);
    let calls = outside.calls();
    assert_eq!(outside.verbs(), ["create", "start", "exec", "delete"]);
    assert!(calls.iter().all(|(_, parent, _)| *parent != std::process::id()), "{calls:?}");
    assert_eq!(calls[0].1, calls[2].1, "what makes processes is called by the monitor");
    assert!(outside.place.runtime.containers().unwrap().is_empty());
}

#[test]
fn an_exec_may_be_over_before_its_runtime() {
    let outside = Outside::new();
    let (bundle, launched) = outside.started();
    for number in 1..=5 {
        // The monitor's own child that has long been reaped, and one that comes to it dead.
        assert_eq!(outside.exec(&bundle, &launched, 10 * number, "orphan").unwrap(), 3);
        assert_eq!(outside.exec(&bundle, &launched, 10 * number + 1, "zombie").unwrap(), 4);
    }
    outside.end(&bundle, &launched);
}

#[test]
fn a_runtime_that_does_not_end_is_given_up() {
    let mut outside = Outside::new();
    outside.by.patience = Duration::from_millis(300);
    let outside = outside;
    let said = |error: Error| error.to_string();
    let late = |verb: &str| format!("{} {verb} did not end in 0.3 s and was killed", outside.by.program);
    for verb in ["create", "exec", "start", "delete"] {
        outside.hang(verb, true);
    }
    let bundle = outside.place.shell("true");
    assert_eq!(said(outside.create(&bundle).unwrap_err()), late("create"));
    assert!(outside.place.runtime.containers().unwrap().is_empty());
    assert!(!outside.place.runtime.cgroup(&bundle.id).unwrap().exists());
    assert_eq!(outside.verbs(), ["create", "delete"], "what it had begun was to be deleted");

    outside.hang("create", false);
    let (bundle, launched) = outside.created();
    launched.monitor.send(&Request::Start {}, &[]).unwrap();
    assert_eq!(said(outside.place.runtime.start_external(&bundle.id).unwrap_err()), late("start"));
    outside.hang("start", false);
    outside.place.runtime.start_external(&bundle.id).unwrap();
    outside.place.until_says(&bundle, "started");
    assert_eq!(said(outside.exec(&bundle, &launched, 1, "lasts").unwrap_err()), late("exec"));
    outside.hang("exec", false);
    assert_eq!(outside.exec(&bundle, &launched, 2, "lasts").unwrap(), 5);
    assert_eq!(said(outside.place.runtime.delete_external(&bundle.id).unwrap_err()), late("delete"));
    outside.hang("delete", false);
    outside.end(&bundle, &launched);
    // Neither what hung nor what it had begun is left.
    for (verb, _, pid) in outside.calls() {
        let deadline = std::time::Instant::now() + Duration::from_secs(30);
        while runs(pid) {
            assert!(std::time::Instant::now() < deadline, "{verb} left {pid}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

#[test]
fn who_made_a_container_is_known_to_the_next_engine() {
    let outside = Outside::new();
    let (bundle, launched) = outside.created();
    let settings = RuntimeSettings {
        run_directory: outside.place.path("run"),
        cgroup_parent: "engine-run-another".to_owned(),
        open_files: None,
    };
    let next = Runtime::with_host(settings, Host::probe().unwrap()).unwrap();
    assert_eq!(next.external(&bundle.id).unwrap(), Some(outside.by.clone()));
    assert_eq!(next.external("another").unwrap(), None);
    next.start_external(&bundle.id).unwrap();
    outside.place.until_says(&bundle, "started");
    drop(launched);
    next.delete_external(&bundle.id).unwrap();
    next.remove(&bundle.id).unwrap();
    next.delete_external(&bundle.id).unwrap();
    assert!(matches!(next.start_external(&bundle.id), Err(Error::NotFound(_))));
    assert_eq!(outside.verbs(), ["create", "start", "delete"]);
}

#[test]
fn a_runtime_that_cannot_be_run_says_so() {
    let mut outside = Outside::new();
    let (bundle, launched) = outside.created();
    fs::remove_file(outside.place.path("runtime")).unwrap();
    let error = outside.place.runtime.start_external(&bundle.id).unwrap_err().to_string();
    assert!(error.contains("cannot be run"), "{error}");
    drop(launched);
    outside.place.runtime.remove(&bundle.id).unwrap();
    for program in [PathBuf::from("/bin/false"), outside.place.path("nothing")] {
        outside.by = External::new(program.to_str().unwrap());
        let error = outside.create(&outside.place.shell("true")).unwrap_err().to_string();
        assert!(error.contains(program.to_str().unwrap()), "{error}");
        assert!(outside.place.runtime.containers().unwrap().is_empty());
    }
}
