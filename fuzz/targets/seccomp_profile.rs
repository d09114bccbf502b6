//! Profiles that a client sends.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    drop(engine_runtime::seccomp::Profile::parse(bytes));
});
