//! A program that is not the first process: a small init is.

use crate::place::Place;

#[test]
fn the_program_is_run_by_it_and_its_code_is_the_containers() {
    let place = Place::new();
    let mut bundle = place.shell("echo $$; cat /proc/1/comm; exit 42");
    bundle.init = true;
    let ended = place.run(&bundle);
    assert_eq!((ended.code, ended.output.as_str()), (42, "2\nengine-init\n"));
    let mut bundle = place.shell("kill -9 $$");
    bundle.init = true;
    assert_eq!(place.run(&bundle).code, 137);
    let mut bundle = place.container(&["/no/such/program"]);
    bundle.init = true;
    assert!(place.refuses(&bundle).to_string().contains("no such file or directory"));
}

#[test]
fn it_takes_in_orphans_and_keeps_nothing_of_the_host() {
    let place = Place::new();
    // The orphan's parent ends at once; a zombie would be there as long as the container.
    let mut bundle = place.shell("(sleep 0.1 & exec true); sleep 0.5; ps -o stat | grep -c Z; ls /proc/1/fd | wc -l");
    bundle.init = true;
    assert_eq!(place.run(&bundle).output, "0\n3\n");
}

#[test]
fn it_hands_signals_on() {
    let place = Place::new();
    let mut bundle = place.shell("trap 'echo term; exit 7' TERM; echo ready; while true; do sleep 0.05; done");
    bundle.init = true;
    let launched = place.launch(&bundle);
    place.until_says(&bundle, "ready");
    engine_sys::process::signal(&launched.process, 15).unwrap();
    let ended = place.end(&bundle, &launched);
    assert_eq!((ended.code, ended.output.as_str()), (7, "ready\nterm\n"));
}
