#![allow(clippy::unwrap_used)]
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};

use serde::{Deserialize, Serialize};

use super::*;
use crate::error::ErrorKind;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Thing {
    size: u64,
}

fn open() -> (tempfile::TempDir, State) {
    let root = tempfile::tempdir().unwrap();
    let state = State::open(root.path()).unwrap();
    (root, state)
}

fn put(state: &State, key: &str, size: u64) {
    state.write(Durability::Process, |tx| tx.put(Table::Image, key, &Thing { size })).unwrap();
}

fn sizes(state: &State) -> Vec<(String, u64)> {
    let list = state.read(|look| look.list::<Thing>(Table::Image)).unwrap();
    list.into_iter().map(|(key, thing)| (key, thing.size)).collect()
}

#[test]
fn records_are_put_listed_and_deleted() {
    let (_root, state) = open();
    for (key, size) in [("b", 2), ("a", 1), ("ba", 3), ("b", 4)] {
        put(&state, key, size);
    }
    assert_eq!(sizes(&state), [("a".into(), 1), ("b".into(), 4), ("ba".into(), 3)]);
    let prefixed = state.read(|look| look.list_prefix::<Thing>(Table::Image, "b")).unwrap();
    assert_eq!(prefixed.len(), 2);
    state
        .write(Durability::Power, |tx| {
            assert!(tx.delete(Table::Image, "b")?);
            assert!(!tx.delete(Table::Image, "b")?);
            assert!(!tx.contains(Table::Image, "b")?);
            assert!(tx.contains(Table::Image, "a")?);
            assert!(!tx.contains(Table::Container, "a")?);
            Ok::<_, Error>(())
        })
        .unwrap();
    assert_eq!(state.read(|look| look.keys(Table::Image)).unwrap(), ["a", "ba"]);
    assert_eq!(state.read(|look| look.get::<Thing>(Table::Image, "b")).unwrap(), None);
}

#[test]
fn a_taken_key_is_a_conflict_and_undoes_the_whole_change() {
    let (_root, state) = open();
    put(&state, "taken", 1);
    let error = state
        .write(Durability::Process, |tx| {
            tx.put(Table::Image, "other", &Thing { size: 2 })?;
            tx.insert(Table::Image, "taken", &Thing { size: 3 })
        })
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(error.to_string(), "the image \"taken\" is there already");
    assert_eq!(sizes(&state), [("taken".into(), 1)]);
}

#[test]
fn a_panic_in_a_change_leaves_the_store_usable_and_unchanged() {
    let (_root, state) = open();
    let panicked = std::panic::catch_unwind(|| {
        state.write(Durability::Process, |tx| -> Result<(), Error> {
            tx.put(Table::Image, "half", &Thing { size: 1 })?;
            panic!("as a bug would");
        })
    });
    assert!(panicked.is_err());
    assert!(sizes(&state).is_empty());
    put(&state, "next", 1);
}

#[test]
fn a_snapshot_does_not_see_later_writes_nor_wait_for_them() {
    let (_root, state) = open();
    put(&state, "a", 1);
    state
        .read(|look| {
            assert_eq!(look.get::<Thing>(Table::Image, "a")?, Some(Thing { size: 1 }));
            put(&state, "a", 2);
            assert_eq!(look.get::<Thing>(Table::Image, "a")?, Some(Thing { size: 1 }));
            Ok::<_, Error>(())
        })
        .unwrap();
    state
        .write(Durability::Process, |tx| {
            tx.put(Table::Image, "a", &Thing { size: 3 })?;
            assert_eq!(sizes(&state), [("a".into(), 2)]);
            Ok::<_, Error>(())
        })
        .unwrap();
}

#[test]
fn holds_are_counted_once_and_released_together() {
    let (_root, state) = open();
    let image = (Table::Image, "i");
    state
        .write(Durability::Process, |tx| {
            for by in ["c1", "c1", "c2"] {
                tx.hold(image, (Table::Container, by))?;
            }
            tx.hold((Table::Volume, "v"), (Table::Container, "c1"))?;
            let holders = [(Table::Container, "c1".to_owned()), (Table::Container, "c2".to_owned())];
            assert_eq!(tx.holders(image)?, holders);
            assert_eq!(tx.held((Table::Container, "c1"))?.len(), 2);
            assert_eq!(tx.release_all((Table::Container, "c1"))?, 2);
            assert!(tx.release(image, (Table::Container, "c2"))?);
            assert!(!tx.release(image, (Table::Container, "c2"))?);
            assert!(tx.holders(image)?.is_empty());
            Ok::<_, Error>(())
        })
        .unwrap();
}

#[test]
fn a_damaged_record_is_put_aside_and_the_others_are_not_harmed() {
    let (_root, state) = open();
    put(&state, "good", 1);
    state
        .write(Durability::Process, |tx| {
            tx.put(Table::Image, "bad", "not a thing")?;
            tx.put(Table::Image, "worse", "neither")?;
            tx.hold((Table::Layer, "l"), (Table::Image, "bad"))
        })
        .unwrap();
    let error = state.read(|look| look.get::<Thing>(Table::Image, "worse")).unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    assert_eq!(sizes(&state), [("good".into(), 1)]);
    let aside = state.read(|look| look.quarantined()).unwrap();
    assert_eq!(aside.iter().map(|record| record.key.as_str()).collect::<Vec<_>>(), ["bad", "worse"]);
    assert_eq!(aside[0].value, b"\"not a thing\"");
    // What it held stays held until somebody decides.
    assert_eq!(state.read(|look| look.holders((Table::Layer, "l"))).unwrap().len(), 1);
    assert!(state.write(Durability::Process, |tx| tx.forget_quarantined(Table::Image, "bad")).unwrap());
    assert!(state.read(|look| look.holders((Table::Layer, "l"))).unwrap().is_empty());
}

#[test]
fn the_root_is_traversable_and_the_file_private() {
    let parent = tempfile::tempdir().unwrap();
    let root = parent.path().join("deep/root");
    let state = State::open(&root).unwrap();
    put(&state, "a", 1);
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&root), 0o711);
    assert_eq!(mode(state.path()), 0o600);
    assert_eq!(mode(&root.join("engine.db-wal")), 0o600);
}

#[test]
fn what_is_no_store_or_a_newer_one_is_refused() {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join(FILE), "this is no database, but long enough to look like one".repeat(50)).unwrap();
    let error = State::open(root.path()).unwrap_err();
    assert!(error.to_string().contains("engine.db"), "{error}");

    let (root, state) = open();
    lock(&state.shared.writer).connection.execute_batch("PRAGMA user_version=99").unwrap();
    drop(state);
    let error = State::open(root.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("format 99"), "{error}");
}

#[test]
fn a_record_has_a_bound() {
    let (_root, state) = open();
    let huge = "x".repeat(MAX_RECORD);
    let error = state.write(Durability::Process, |tx| tx.put(Table::Image, "huge", &huge)).unwrap_err();
    assert!(matches!(error, Error::Unwritable { .. }));
}

#[test]
fn many_openers_and_writers_at_once_lose_nothing() {
    let root = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let root = root.path();
            scope.spawn(move || {
                let state = State::open(root).unwrap();
                for _ in 0..50 {
                    let add = state.write(Durability::Process, |tx| {
                        let sum = tx.get::<Thing>(Table::Image, "sum")?.map_or(0, |thing| thing.size);
                        tx.put(Table::Image, "sum", &Thing { size: sum + 1 })?;
                        tx.insert(Table::Image, &format!("{writer}-{sum}"), &Thing { size: sum })
                    });
                    add.unwrap();
                }
            });
        }
    });
    let state = State::open(root.path()).unwrap();
    let things = sizes(&state);
    assert_eq!(things.len(), 201);
    assert_eq!(things.last().unwrap(), &("sum".to_owned(), 200));
}

/// Two processes write until they are killed in the middle: what is there afterwards is whole, and what was
/// reported as committed is there.
#[test]
fn killed_writers_leave_whole_records_and_lose_no_commit() {
    const ROOT: &str = "ENGINE_STATE_TEST_ROOT";
    if let Some(root) = std::env::var_os(ROOT) {
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL)).unwrap();
        let state = State::open(Path::new(&root)).unwrap();
        let me = std::process::id();
        for number in 0u64.. {
            let durability = if number.is_multiple_of(16) { Durability::Power } else { Durability::Process };
            let write = state.write(durability, |tx| {
                tx.insert(Table::Image, &format!("{me}-{number:08}"), &Thing { size: number })?;
                tx.put(Table::Container, &me.to_string(), &Thing { size: number })
            });
            write.unwrap();
            std::fs::write(Path::new(&root).join(format!("{me}.reported")), number.to_string()).unwrap();
        }
        return;
    }
    let root = tempfile::tempdir().unwrap();
    for round in 0..5 {
        let mut writers: Vec<Child> = (0..2).map(|_| spawn_this_test(ROOT, root.path())).collect();
        let written = |child: &Child| root.path().join(format!("{}.reported", child.id())).exists();
        while !writers.iter().all(written) {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        std::thread::sleep(std::time::Duration::from_millis(7 * (round + 1)));
        for writer in &mut writers {
            writer.kill().unwrap();
            writer.wait().unwrap();
        }
        let state = State::open(root.path()).unwrap();
        for writer in &writers {
            let me = writer.id().to_string();
            let reported = std::fs::read_to_string(root.path().join(format!("{me}.reported"))).unwrap();
            let last = state.read(|look| look.get::<Thing>(Table::Container, &me)).unwrap().unwrap().size;
            // The report itself may have been cut short by the kill.
            assert!(reported.is_empty() || last >= reported.parse().unwrap(), "{last} {reported}");
            let records = state.read(|look| look.list_prefix::<Thing>(Table::Image, &format!("{me}-"))).unwrap();
            assert_eq!(records.len() as u64, last + 1);
        }
        let check: String =
            lock(&state.shared.writer).connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(check, "ok");
    }
}

fn spawn_this_test(variable: &str, root: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "state::tests::killed_writers_leave_whole_records_and_lose_no_commit"]);
    command.env(variable, root).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}

#[test]
fn every_change_has_a_version_of_its_own() {
    let root = tempfile::tempdir().unwrap();
    let (one, other) = (State::open(root.path()).unwrap(), State::open(root.path()).unwrap());
    let first = one.version().unwrap();
    assert_eq!(one.version().unwrap(), first);
    for (state, value) in [(&one, "b"), (&other, "c")] {
        let before = one.version().unwrap();
        state.write(Durability::Process, |tx| tx.put(Table::Root, "a", value)).unwrap();
        assert_ne!(one.version().unwrap(), before);
    }
    let before = one.version().unwrap();
    one.read(|look| look.get::<String>(Table::Root, "a")).unwrap();
    assert_eq!(one.version().unwrap(), before);
}
