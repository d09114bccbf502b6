//! Questions of containers for names, and answers of servers outside.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    engine::network::read_name_message(bytes);
});
