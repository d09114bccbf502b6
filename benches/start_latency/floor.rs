//! The kernel's own work for one container, measured by a small C program in the same run.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::series::Series;
use crate::support::network::Network;
use crate::support::run;

/// One life: until the program is executed, until its end is seen, until everything is removed.
#[derive(Debug)]
pub struct Life {
    pub to_exec: Series,
    pub to_exit: Series,
    pub gone: Series,
}

/// With loopback only, and on a bridge.
#[derive(Debug)]
pub struct Floor {
    pub none: Life,
    pub bridge: Life,
}

/// Builds and runs the program.
pub fn measure(rounds: usize) -> Floor {
    let room = tempfile::tempdir().unwrap();
    let program = room.path().join("floor");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/floor/floor.c");
    let built = Command::new("cc").args(["-O2", "-o"]).arg(&program).arg(source).output().expect("cc is not installed");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let rootfs = small_rootfs(room.path());
    let scratch = room.path().join("scratch");
    std::fs::create_dir(&scratch).unwrap();
    let network = Network::new();
    network.ip("link add floor type bridge");
    network.ip("addr add 10.231.0.1/24 dev floor");
    network.ip("link set floor up");
    let life = |kind: &str| {
        let mut command = network.command(&program);
        let printed = run(command.arg(&rootfs).arg(&scratch).arg(kind).arg(rounds.to_string()), b"").ok();
        let column = |index: usize| {
            let value = |line: &str| line.split(' ').nth(index).unwrap().parse::<f64>().unwrap();
            Series::new(printed.lines().map(|line| Duration::from_secs_f64(value(line) / 1e6)).collect())
        };
        Life { to_exec: column(0), to_exit: column(1), gone: column(2) }
    };
    Floor { none: life("none"), bridge: life("bridge:floor") }
}

/// A root file system of busybox alone.
pub fn small_rootfs(room: &Path) -> PathBuf {
    let rootfs = room.join("rootfs");
    for directory in ["bin", "proc", "sys", "dev", "etc", "tmp"] {
        std::fs::create_dir_all(rootfs.join(directory)).unwrap();
    }
    std::fs::copy("/bin/busybox", rootfs.join("bin/busybox")).unwrap();
    for program in ["true", "sleep"] {
        symlink("busybox", rootfs.join("bin").join(program)).unwrap();
    }
    rootfs
}
