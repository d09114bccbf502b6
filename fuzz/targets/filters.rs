//! Filters as clients send them.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| {
    drop(engine_api::filter::Filters::parse(text));
});
