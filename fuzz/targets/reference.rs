//! Names of images: what is accepted reads back as the same.
#![no_main]

use engine::oci::Reference;

libfuzzer_sys::fuzz_target!(|text: &str| {
    if let Ok(reference) = text.parse::<Reference>() {
        let again = reference.to_string().parse::<Reference>();
        assert_eq!(again.as_ref().ok(), Some(&reference), "{text:?} became {reference}");
    }
});
