//! Terminals: the master goes to the caller's socket, or is served by the program itself.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;

use engine_sys::socket;
use serde_json::json;

use crate::place::{Place, wait};

#[test]
fn the_console_socket_gets_the_master() {
    let place = Place::new("console", "read line; echo got $line; stty size");
    place.change(|config| {
        config["process"]["terminal"] = json!(true);
        config["process"]["consoleSize"] = json!({ "height": 33, "width": 77 });
    });
    let listener = UnixListener::bind(place.path("socket")).unwrap();
    let (bundle, path, file) = (place.text("bundle"), place.text("socket"), place.text("pid"));
    let arguments = ["create", "--console-socket", &path, "--pid-file", &file, "--bundle", &bundle, &place.id];
    assert_eq!(place.leave(&arguments), 0, "{}", place.out());
    let (connection, _) = listener.accept().unwrap();
    let mut name = [0; 64];
    let (length, descriptors) = socket::receive(&connection, &mut name, true).unwrap();
    assert!(length > 0 && descriptors.len() == 1);
    assert_eq!(place.leave(&["start", &place.id]), 0);
    let mut master = std::fs::File::from(descriptors.into_iter().next().unwrap());
    master.write_all(b"hello\n").unwrap();
    assert_eq!(wait(place.pid("pid")), 0);
    let mut text = Vec::new();
    // A terminal that nobody has open any more ends with an error.
    let _ = master.read_to_end(&mut text);
    let text = String::from_utf8_lossy(&text).replace('\r', "");
    assert!(text.ends_with("got hello\n33 77\n"), "{text:?}");
}

#[test]
fn a_terminal_needs_somebody_who_serves_it() {
    let place = Place::new("nobody", "true");
    let bundle = place.text("bundle");
    let text = place.refused(&["create", "--console-socket", "/x", "--bundle", &bundle, &place.id]);
    assert!(text.contains("cannot use console socket"), "{text}");
    place.change(|config| config["process"]["terminal"] = json!(true));
    let text = place.refused(&["create", "--bundle", &bundle, &place.id]);
    assert!(text.contains("cannot allocate tty if runc will detach without setting console socket"), "{text}");
}

#[test]
fn run_serves_the_terminal_itself() {
    let place = Place::new("serve", "tty; read line; echo got $line; exit 4");
    place.change(|config| config["process"]["terminal"] = json!(true));
    std::fs::write(place.path("in"), "typed\n").unwrap();
    let mut command = place.command(&["run", "--bundle", &place.text("bundle"), &place.id]);
    let output = command.stdin(std::fs::File::open(place.path("in")).unwrap()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).replace('\r', "");
    assert_eq!(output.status.code(), Some(4), "{text}");
    assert!(text.contains("/dev/pts/") || text.contains("/dev/console"), "{text}");
    assert!(text.ends_with("got typed\n"), "{text:?}");
    assert!(place.left().is_empty());
}
