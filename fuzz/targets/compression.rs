//! Compressed bytes: those that are none end, whatever they are made of, and those that are give back what they were made
//! of, also in several members and frames.
#![no_main]

use std::io::{BufReader, Read, Write};

use engine::snapshot::uncompressed;

/// More than any input of a fuzzer honestly unpacks to.
const MOST: u64 = 64 << 20;

fn undone(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut contents = Vec::new();
    // Small buffers, so that headers and trailers lie across them.
    uncompressed(BufReader::with_capacity(7, bytes))?.take(MOST).read_to_end(&mut contents)?;
    Ok(contents)
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = undone(bytes);
    // The kinds that are recognised, and what follows is anything.
    for magic in
        [&[0x1f, 0x8b, 0x08, 0][..], &[0x28, 0xb5, 0x2f, 0xfd], &[0x50, 0x2a, 0x4d, 0x18], b"BZh91AY&SY", b"\xfd7zXZ\0"]
    {
        let _ = undone(&[magic, bytes].concat());
    }
    let (first, second) = bytes.split_at(bytes.len() / 2);
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("memory takes everything")
    };
    let zstd = |bytes: &[u8]| zstd::encode_all(bytes, 1).expect("memory takes everything");
    for whole in [[gzip(first), gzip(second)].concat(), [zstd(first), zstd(second)].concat()] {
        assert_eq!(undone(&whole).expect("what was compressed is undone"), bytes);
        let cut = &whole[..whole.len() - 1];
        assert!(undone(cut).is_err(), "it is cut short, and nobody says so");
    }
});
