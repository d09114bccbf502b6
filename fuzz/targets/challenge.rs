//! What registries say that they want to see: a challenge or none, never a panic.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| {
    drop(engine::registry::Challenge::parse(text.lines()));
});
