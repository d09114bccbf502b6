//! What a filter costs: to be compiled, to be loaded by the kernel, and with every system call. Beside it libseccomp's of the same
//! profile, as it is kept for the tests (`tests/peers/seccomp`).

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use engine_runtime::{Host, defaults, seccomp};

use crate::{milliseconds, summary};

/// Prints the figures.
pub fn measure() {
    let host = Host::probe().unwrap();
    let profile = seccomp::Profile::docker().resolve(&defaults::capabilities(), &host);
    let mut times: Vec<_> = (0..200)
        .map(|_| {
            let begin = Instant::now();
            seccomp::compile(&profile).unwrap();
            begin.elapsed()
        })
        .collect();
    let [median, ..] = summary(&mut times);
    let filter = seccomp::compile(&profile).unwrap();
    println!("seccomp: compiled in {:.3} ms", milliseconds(median));

    let room = tempfile::tempdir().unwrap();
    let program = room.path().join("seccomp");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/oci_runtime/seccomp.c");
    let built = Command::new("cc").args(["-O2", "-o"]).arg(&program).arg(source).output().expect("cc is not installed");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let own = room.path().join("engine");
    std::fs::write(&own, filter.program()).unwrap();
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("engine/runtime/src/seccomp/libseccomp/amd64-default.bpf");
    let mut command = Command::new(&program);
    command.arg(&own);
    if cfg!(target_arch = "x86_64") {
        command.arg(kept);
    }
    let printed = command.output().unwrap();
    assert!(printed.status.success(), "{}", String::from_utf8_lossy(&printed.stderr));
    print!("{}", String::from_utf8_lossy(&printed.stdout));
}
