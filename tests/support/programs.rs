//! Where the programs are: this project's own, built once for each test run, and those that tests borrow.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// This project's daemon.
pub fn engined() -> PathBuf {
    built().join("engined")
}

/// This project's client.
pub fn enginectl() -> PathBuf {
    built().join("enginectl")
}

/// One of the example programs.
pub fn example(name: &str) -> PathBuf {
    built().join("examples").join(name)
}

/// A program that tests need from the machine; `scripts/test` sees to it.
pub fn borrowed(name: &str) -> PathBuf {
    let found = std::env::var_os("PATH").and_then(|path| {
        let beside = built().parent().unwrap().join("tools");
        std::env::split_paths(&path)
            .chain([beside, "/usr/sbin".into(), "/sbin".into()])
            .map(|d| d.join(name))
            .find(|p| p.is_file())
    });
    found.unwrap_or_else(|| panic!("the tests need `{name}`: run scripts/test, which provides it"))
}

/// The directory of the built programs, brought up to date: `cargo test` builds another package's programs only
/// sometimes, and stale ones would be tested.
fn built() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        // …/target/debug/deps/suite-0123 → …/target/debug
        let own = std::env::current_exe().unwrap();
        let profile = own.ancestors().nth(2).unwrap().to_owned();
        let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        build.current_dir(env!("CARGO_MANIFEST_DIR"));
        build
            .args(["build", "--quiet", "--workspace", "--bins", "--examples", "--target-dir"])
            .arg(profile.parent().unwrap());
        if profile.ends_with("release") {
            build.arg("--release");
        }
        let done = build.output().unwrap();
        assert!(done.status.success(), "building the programs: {}", String::from_utf8_lossy(&done.stderr));
        profile
    })
}
