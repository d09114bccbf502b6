//! Archives that nobody thought of: what GNU tar unpacks is unpacked alike, every archive is had back, and what is spoilt is
//! an error or a layer, and never more.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use engine_sys::path::Root;

use super::decode::Decoded;
use super::tar::{Entry, Kind, Writer};
use super::{Error, Layers, Staged, tree};

/// Numbers that are the same each time.
struct Seed(u64);

impl Seed {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(limit).unwrap()).unwrap()
    }
}

const NAMES: [&str; 6] = ["a", "bb", "c c", "ö", "-x", "long"];

fn path(seed: &mut Seed) -> String {
    let depth = 1 + seed.below(3);
    let mut parts: Vec<String> = (0..depth).map(|_| NAMES[seed.below(NAMES.len())].to_owned()).collect();
    if seed.below(12) == 0 {
        parts.push("n".repeat(200));
    }
    parts.join("/")
}

/// Directories before what is in them, each name once, links to files that are there: what every program unpacks alike.
fn honest(seed: &mut Seed) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    let mut known: Vec<(String, Kind)> = Vec::new();
    let finished = |entry: &mut Entry, seed: &mut Seed| {
        entry.user = seed.next() % 3000;
        entry.group = seed.next() % 3000;
        entry.modified = (i64::try_from(seed.next() % 1_700_000_000).unwrap(), 0);
    };
    for _ in 0..40 {
        let name = path(seed);
        let mut at = String::new();
        let mut usable = true;
        for part in name.split('/') {
            at = if at.is_empty() { part.to_owned() } else { format!("{at}/{part}") };
            let last = at == name;
            match known.iter().find(|(known, _)| *known == at) {
                Some((_, Kind::Directory)) if !last => {}
                Some(_) => {
                    usable = false;
                    break;
                }
                None if last => {}
                None => {
                    let mut entry = Entry::new(Kind::Directory, format!("{at}/"), 0o755);
                    finished(&mut entry, seed);
                    writer.entry(&entry, b"").unwrap();
                    known.push((at.clone(), Kind::Directory));
                }
            }
        }
        if !usable {
            continue;
        }
        let mode = u32::try_from(seed.below(0o10000)).unwrap();
        let files: Vec<String> =
            known.iter().filter(|(_, kind)| *kind == Kind::File).map(|(name, _)| name.clone()).collect();
        let mut entry = match seed.below(8) {
            0 => Entry::new(Kind::Directory, format!("{name}/"), mode),
            1 => Entry::new(Kind::Symlink, &*name, 0o777).to(&*path(seed)),
            2 => Entry::new(Kind::Fifo, &*name, mode),
            3 if !files.is_empty() => Entry::new(Kind::Link, &*name, mode).to(&*files[seed.below(files.len())]),
            4 => Entry { device: (1, 3), ..Entry::new(Kind::Character, &*name, mode) },
            _ => Entry::new(Kind::File, &*name, mode),
        };
        finished(&mut entry, seed);
        let length = if entry.kind == Kind::File { seed.below(3000) } else { 0 };
        let contents: Vec<u8> = (0..length).map(|_| seed.next().to_le_bytes()[0]).collect();
        writer.entry(&entry, &contents).unwrap();
        known.push((name, entry.kind));
    }
    writer.finish().unwrap()
}

fn unpack(layers: &Layers, archive: &[u8]) -> Result<Staged, Error> {
    let (layers, archive) = (layers.clone(), archive.to_vec());
    std::thread::spawn(move || layers.stage()?.unpack_framed(archive.as_slice())).join().unwrap()
}

#[test]
fn archives_are_unpacked_as_gnu_tar_does() {
    let mut seed = Seed(0x5eed_0001);
    for round in 0..40 {
        let room = tempfile::tempdir().unwrap();
        let layers = Layers::open(room.path()).unwrap();
        let archive = honest(&mut seed);
        let staged = unpack(&layers, &archive).unwrap();
        let other = room.path().join("other");
        fs::create_dir(&other).unwrap();
        let mut tar = Command::new("tar");
        tar.args(["-x", "-p", "--same-owner", "--numeric-owner", "--delay-directory-restore", "-C"]).arg(&other);
        let mut tar = tar.stdin(Stdio::piped()).spawn().unwrap();
        tar.stdin.take().unwrap().write_all(&archive).unwrap();
        assert!(tar.wait().unwrap().success());
        let open = |path: &Path| Root::open(path).unwrap().into_fd();
        // The root and what was made on the way have no time of their own.
        let before = jiff::Timestamp::now().as_second() - 60;
        let found = tree::difference(open(&other), open(&staged.path()), before).unwrap();
        assert_eq!(found, None, "round {round}");
    }
}

#[test]
fn files_with_holes_are_unpacked_as_gnu_tar_packs_them() {
    let room = tempfile::tempdir().unwrap();
    let from = room.path().join("from");
    fs::create_dir(&from).unwrap();
    let mut seed = Seed(0x5eed_0004);
    // Many parts, so that the maps go beyond a header; one part; none; and a name that is long.
    for (name, parts) in [("many".to_owned(), 60), ("one".to_owned(), 1), ("none".to_owned(), 0), ("n".repeat(150), 5)]
    {
        let file = fs::File::create(from.join(name)).unwrap();
        for part in 0..parts {
            let bytes = seed.next().to_le_bytes().repeat(100 + seed.below(600));
            std::os::unix::fs::FileExt::write_all_at(&file, &bytes, (1 + part) * (64 << 10)).unwrap();
        }
        file.set_len(9 << 20).unwrap();
        // GNU's own format has no fractions of seconds.
        file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000)).unwrap();
    }
    let layers = Layers::open(&room.path().join("root")).unwrap();
    for format in ["--format=gnu", "--sparse-version=0.0", "--sparse-version=0.1", "--sparse-version=1.0"] {
        let mut tar = Command::new("tar");
        if format != "--format=gnu" {
            tar.arg("--format=pax");
        }
        let packed =
            tar.args(["-c", "--sparse", "--numeric-owner", format, "-C"]).arg(&from).arg(".").output().unwrap();
        assert!(packed.status.success() && packed.stdout.len() < 2 << 20, "{format}: {}", packed.stdout.len());
        let staged = unpack(&layers, &packed.stdout).unwrap();
        let open = |path: &Path| Root::open(path).unwrap().into_fd();
        let before = jiff::Timestamp::now().as_second() - 600;
        assert_eq!(tree::difference(open(&from), open(&staged.path()), before).unwrap(), None, "{format}");
        // The holes are none that were filled.
        let blocks = |path: &Path| std::os::unix::fs::MetadataExt::blocks(&path.join("none").metadata().unwrap());
        assert_eq!(blocks(&staged.path()), 0, "{format}");
        assert!(staged.unpacked.bytes >= 4 * (9 << 20), "{format}");
    }
}

#[test]
fn what_is_spoilt_is_an_error_or_a_layer() {
    let mut seed = Seed(0x5eed_0002);
    let room = tempfile::tempdir().unwrap();
    fs::create_dir(room.path().join("outside")).unwrap();
    let layers = Layers::open(&room.path().join("root")).unwrap();
    let mut unpacked = 0;
    for _ in 0..150 {
        let mut archive = honest(&mut seed);
        for _ in 0..=seed.below(6) {
            // Mostly in headers, where it matters.
            let block = seed.below(archive.len() / 512) * 512;
            let at = if seed.below(4) == 0 { seed.below(archive.len()) } else { block + seed.below(345) };
            let new = [b'0', b'/', b'.', 0, 0xff, b'7', seed.next().to_le_bytes()[0]][seed.below(7)];
            archive[at] = new;
            // Sums that are right again, so that more than the sum is looked at.
            let block = at / 512 * 512;
            archive[block + 148..block + 156].fill(b' ');
            let sum: u32 = archive[block..block + 512].iter().map(|byte| u32::from(*byte)).sum();
            archive[block + 148..block + 156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
        archive.truncate(archive.len() - seed.below(3) * seed.below(archive.len()) / 4);
        unpacked += usize::from(unpack(&layers, &archive).is_ok());
        assert_eq!(fs::read_dir(room.path().join("root/layers")).unwrap().count(), 0);
    }
    assert_eq!(fs::read_dir(room.path().join("outside")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(room.path()).unwrap().count(), 2);
    assert!((10..150).contains(&unpacked), "{unpacked}");
}

#[test]
fn compressed_streams_that_are_spoilt_end() {
    let mut seed = Seed(0x5eed_0003);
    let plain = honest(&mut seed);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).unwrap();
    let gzip = gzip.finish().unwrap();
    let zstd = zstd::encode_all(plain.as_slice(), 1).unwrap();
    for whole in [gzip, zstd] {
        let mut undone = Vec::new();
        Decoded::new(whole.as_slice()).unwrap().read_to_end(&mut undone).unwrap();
        assert_eq!(undone, plain);
        let mut failures = 0;
        for _ in 0..300 {
            let mut bytes = whole.clone();
            for _ in 0..=seed.below(3) {
                let at = seed.below(bytes.len());
                bytes[at] ^= 1 << seed.below(8);
            }
            bytes.truncate(bytes.len() - seed.below(2) * seed.below(bytes.len()));
            let mut undone = Vec::new();
            let read =
                Decoded::new(bytes.as_slice()).and_then(|decoded| decoded.take(64 << 20).read_to_end(&mut undone));
            failures += usize::from(read.is_err());
        }
        assert!(failures > 100, "{failures}");
    }
}
