//! Manifests, indexes and configurations from a registry: an error or a value, never a panic.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    drop(engine::oci::Document::parse(bytes, None));
    drop(engine::oci::ImageConfig::parse(bytes));
});
