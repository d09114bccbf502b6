//! Builds the freestanding program from this crate's own sources with the compiler that builds the crate.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=src");
    println!("cargo::rerun-if-changed=build.rs");
    let variable = |name: &str| env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"));
    let target = variable("TARGET");
    let architecture = variable("CARGO_CFG_TARGET_ARCH");
    assert!(
        matches!(architecture.as_str(), "x86_64" | "aarch64") && variable("CARGO_CFG_TARGET_OS") == "linux",
        "the engine runs on Linux on x86_64 and aarch64 only, not on {target}"
    );
    let program = PathBuf::from(variable("OUT_DIR")).join("program");

    let rustc = variable("RUSTC");
    let mut compile = Command::new(&rustc);
    compile
        .args(["--crate-name", "engine_shim_program", "--crate-type", "bin", "--edition", "2024", "--target", &target])
        .args(["-A", "warnings", "-C", "panic=abort", "-C", "opt-level=s", "-C", "lto=fat", "-C", "codegen-units=1"])
        .args([
            "-C",
            "relocation-model=static",
            "-C",
            "force-unwind-tables=no",
            "-C",
            "debuginfo=0",
            "-C",
            "strip=symbols",
        ])
        .args(["-C", "overflow-checks=off", "-C", "debug-assertions=off", "-C", "force-frame-pointers=no"])
        .arg("-o")
        .arg(&program)
        .arg("src/program.rs");
    if bundled_linker(&rustc, &variable("HOST")) {
        compile.args(["-C", "linker-flavor=ld.lld", "-C", "linker=rust-lld"]);
        for argument in [
            "-static",
            "-nostdlib",
            "--gc-sections",
            "--build-id=none",
            "-z",
            "noexecstack",
            "-z",
            "max-page-size=4096",
        ] {
            compile.arg(format!("-Clink-arg={argument}"));
        }
        compile.arg("-Clink-arg=--no-eh-frame-hdr");
    } else {
        if let Ok(linker) = env::var("RUSTC_LINKER") {
            compile.arg(format!("-Clinker={linker}"));
        }
        for argument in
            ["-static", "-nostartfiles", "-nostdlib", "-Wl,--gc-sections", "-Wl,--build-id=none", "-Wl,-z,noexecstack"]
        {
            compile.arg(format!("-Clink-arg={argument}"));
        }
    }
    // What cargo tells rustc about the crate that is being built must not reach this compilation.
    for name in ["RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "CARGO_ENCODED_RUSTFLAGS", "RUSTFLAGS"] {
        compile.env_remove(name);
    }
    let status = compile.status().unwrap_or_else(|error| panic!("cannot run {rustc}: {error}"));
    assert!(status.success(), "the embedded program did not compile: {compile:?}");
}

/// Whether the toolchain brings its own linker, so that no C compiler is needed.
fn bundled_linker(rustc: &str, host: &str) -> bool {
    let Ok(output) = Command::new(rustc).args(["--print", "sysroot"]).output() else { return false };
    let sysroot = String::from_utf8_lossy(&output.stdout);
    Path::new(sysroot.trim()).join("lib/rustlib").join(host).join("bin/rust-lld").exists()
}
