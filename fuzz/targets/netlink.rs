//! What the kernel, or whoever stands in its place, tells by netlink: datagrams, their messages, refusals, and all that the
//! networks read in them.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    engine::network::read_kernel_message(bytes);
    engine_sys::netlink::read_datagram(bytes, |_, content| {
        engine::network::read_kernel_message(content);
    });
});
