//! Questions of containers for names, answers of servers outside, and the kernel's attributes.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    engine::network::read_name_message(bytes);
    for attribute in engine_sys::netlink::attributes(bytes) {
        let _ = engine_sys::netlink::text(attribute.content);
        for inner in engine_sys::netlink::attributes(attribute.content) {
            let _ = (engine_sys::netlink::u32_be(inner.content), engine_sys::netlink::u32_native(inner.content));
        }
    }
});
