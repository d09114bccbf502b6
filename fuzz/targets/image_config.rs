//! Configurations of images: what is accepted is written and read back as the same.
#![no_main]

use engine::oci::ImageConfig;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(config) = ImageConfig::parse(bytes) {
        let _ = config.platform();
        let written = serde_json::to_vec(&config).expect("a configuration can be written");
        let again = ImageConfig::parse(&written);
        assert_eq!(again.as_ref().ok(), Some(&config), "{:?} became {}", bytes, String::from_utf8_lossy(&written));
    }
});
