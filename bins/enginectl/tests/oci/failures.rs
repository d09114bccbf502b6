//! What is refused, in the words that callers look for, and what is left then: nothing.

use std::fs;
use std::path::PathBuf;

use serde_json::json;

use crate::place::{Place, wait};

fn create(place: &Place) -> Vec<String> {
    ["create", "--bundle", &place.text("bundle"), &place.id].map(str::to_owned).to_vec()
}

fn refused(place: &Place, arguments: &[String]) -> String {
    place.refused(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn a_missing_program_is_told_at_the_creation() {
    for (program, words) in [
        ("nope", "exec: \"nope\": executable file not found in $PATH"),
        ("/bin/nope", "exec: \"/bin/nope\": stat /bin/nope: no such file or directory"),
        ("/bin", "is a directory: permission denied"),
    ] {
        let place = Place::of("missing", &[program]);
        let text = refused(&place, &create(&place));
        assert!(
            text.starts_with("create failed: unable to start container process: ") && text.ends_with(words),
            "{text}"
        );
        assert_eq!(place.left(), Vec::<PathBuf>::new());
    }
}

#[test]
fn what_is_wrong_with_a_start_is_told_at_the_start() {
    let place = Place::of("late", &["/bin/late"]);
    let program = place.bundle().join("rootfs/bin/late");
    fs::copy("/bin/busybox", &program).unwrap();
    let pid = place.create();
    fs::remove_file(program).unwrap();
    let text = place.refused(&["start", &place.id]);
    assert!(text.ends_with("stat /bin/late: no such file or directory"), "{text}");
    assert_eq!(wait(pid), 127);
    assert_eq!(place.status(), "stopped");
}

#[test]
fn what_is_there_is_not_made_again() {
    let place = Place::new("twice", "sleep 1000");
    place.create();
    let text = refused(&place, &create(&place));
    assert_eq!(text, "create failed: container with given ID already exists");
    assert_eq!(place.status(), "created", "the first one is as it was");
}

#[test]
fn nonsense_is_refused_before_anything_is_made() {
    let place = Place::new("nonsense", "true");
    let bundle = place.text("bundle");
    let text = place.refused(&["create", "--bundle", &bundle, "../x"]);
    assert!(text.ends_with("invalid container ID format"), "{text}");
    assert!(place.refused(&["create", "--bundle", "/no/such", "x"]).ends_with("no such file or directory"));
    assert_eq!(place.refused(&["create", "--nope", "x"]), "flag provided but not defined: -nope");
    assert!(place.refused(&["start"]).contains("requires exactly 1 argument"));
    assert!(place.refused(&["kill", "x", "NOPE"]).contains("unknown signal"));
    assert_eq!(place.refused(&["checkpoint", "x"]), "No help topic for 'checkpoint'");
    assert!(place.refused(&["create", "--no-pivot", "--bundle", &bundle, "x"]).contains("--no-pivot is not supported"));
    assert!(place.refused(&["spec", "--rootless"]).contains("run as root"));
    place.change(|config| config["ociVersion"] = json!("2.0.0"));
    assert!(refused(&place, &create(&place)).contains("ociVersion \"2.0.0\" is not supported"));
    place.change(|config| config["ociVersion"] = json!("1.0.2-dev"));
    place.change(|config| config["linux"]["intelRdt"] = json!({ "closID": "x" }));
    assert!(refused(&place, &create(&place)).contains("Intel RDT"));
    assert_eq!(place.call(&["delete", "--force", "never-was"]).status.code(), Some(0));
    assert_eq!(place.refused(&["delete", "never-was"]), "container does not exist");
    assert_eq!(place.left(), Vec::<PathBuf>::new());
}

#[test]
fn what_a_creation_left_that_was_cut_short_is_taken_away() {
    let place = Place::new("cut", "sleep 1000");
    let pid = place.create();
    // As if it had been killed before it wrote the container down.
    fs::remove_file(place.path("root/containers").join(&place.id).join("state.json")).unwrap();
    assert_eq!(place.refused(&["delete", &place.id]), "container does not exist");
    assert_eq!(place.leave(&["delete", "--force", &place.id]), 0);
    assert_eq!(wait(pid), 137);
    assert_eq!(place.left(), Vec::<PathBuf>::new());
}
