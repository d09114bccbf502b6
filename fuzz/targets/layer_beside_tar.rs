//! Archives that every program unpacks alike: what GNU tar makes of them is what becomes of them here.
#![no_main]

mod room;

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

use engine::snapshot::tar::{Entry, Kind, Writer};

/// Numbers from what the fuzzer gives, and zeros when that is used up.
struct Numbers<'a>(&'a [u8]);

impl Numbers<'_> {
    fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((first, rest)) => {
                self.0 = rest;
                *first
            }
            None => 0,
        }
    }

    fn word(&mut self) -> u64 {
        u64::from(self.byte()) << 8 | u64::from(self.byte())
    }
}

const NAMES: [&str; 8] = ["a", "bb", "c c", "ö", "-x", "long", "d.d", "e"];

fn path(numbers: &mut Numbers<'_>) -> String {
    let depth = 1 + usize::from(numbers.byte() % 3);
    let mut parts: Vec<String> = (0..depth).map(|_| NAMES[usize::from(numbers.byte() % 8)].to_owned()).collect();
    if numbers.byte() == 7 {
        parts.push("n".repeat(1 + usize::from(numbers.byte())).chars().take(255).collect());
    }
    parts.join("/")
}

/// Directories before what is in them, each name once, links to files that are there.
fn archive(numbers: &mut Numbers<'_>) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    let mut known: BTreeMap<String, Kind> = BTreeMap::new();
    for _ in 0..=numbers.byte() % 24 {
        let name = path(numbers);
        let parents: Vec<&str> = name.match_indices('/').map(|(at, _)| &name[..at]).collect();
        if known.contains_key(&name)
            || parents.iter().any(|parent| known.get(*parent).is_some_and(|kind| *kind != Kind::Directory))
        {
            continue;
        }
        let mut put = |mut entry: Entry, contents: &[u8], numbers: &mut Numbers<'_>| {
            (entry.user, entry.group) = (numbers.word(), numbers.word());
            entry.modified = (i64::try_from(numbers.word()).unwrap_or(0) * 21_600, 0);
            writer.entry(&entry, contents).expect("memory takes everything");
        };
        for parent in parents {
            if known.insert(parent.to_owned(), Kind::Directory).is_none() {
                put(Entry::new(Kind::Directory, format!("{parent}/"), 0o755), b"", numbers);
            }
        }
        let mode = u32::try_from(numbers.word() % 0o10000).unwrap_or(0);
        let files: Vec<&String> = known.iter().filter(|(_, kind)| **kind == Kind::File).map(|(name, _)| name).collect();
        let entry = match numbers.byte() % 8 {
            0 => Entry::new(Kind::Directory, format!("{name}/"), mode),
            1 => Entry::new(Kind::Symlink, &*name, 0o777).to(&*path(numbers)),
            2 => Entry::new(Kind::Fifo, &*name, mode),
            3 if !files.is_empty() => {
                let target = files[usize::from(numbers.byte()) % files.len()];
                Entry::new(Kind::Link, &*name, mode).to(target.as_str())
            }
            4 => Entry { device: (numbers.word() % 512, numbers.word()), ..Entry::new(Kind::Character, &*name, mode) },
            5 => Entry { device: (numbers.word() % 512, numbers.word()), ..Entry::new(Kind::Block, &*name, mode) },
            _ => Entry::new(Kind::File, &*name, mode),
        };
        let kind = entry.kind;
        let length = if kind == Kind::File { numbers.word() % 3000 } else { 0 };
        let contents: Vec<u8> = (0..length).map(|_| numbers.byte()).collect();
        put(entry, &contents, numbers);
        known.insert(name, kind);
    }
    writer.finish().expect("memory takes everything")
}

/// Everything that can be seen of a tree, by path.
fn seen(root: &Path) -> BTreeMap<Vec<u8>, String> {
    let mut found = BTreeMap::new();
    let mut inodes: BTreeMap<u64, usize> = BTreeMap::new();
    let mut rest = vec![root.to_owned()];
    while let Some(directory) = rest.pop() {
        let mut entries: Vec<_> = std::fs::read_dir(&directory).expect("a directory").map(|entry| entry.expect("an entry").path()).collect();
        entries.sort();
        for path in entries {
            let about = path.symlink_metadata().expect("what was just listed");
            let kind = about.file_type();
            let contents = match () {
                () if kind.is_symlink() => std::fs::read_link(&path).expect("a link").as_os_str().as_bytes().to_vec(),
                () if kind.is_file() => std::fs::read(&path).expect("a file"),
                () => Vec::new(),
            };
            // Which names are one file, whatever its number is.
            let next = inodes.len();
            let same = if kind.is_dir() { usize::MAX } else { *inodes.entry(about.ino()).or_insert(next) };
            let text = format!(
                "{:o} {}:{} {} {} {} {same} {contents:?}",
                about.mode(),
                about.uid(),
                about.gid(),
                if kind.is_file() { about.size() } else { 0 },
                about.rdev(),
                about.mtime()
            );
            found.insert(path.strip_prefix(root).expect("beneath").as_os_str().as_bytes().to_vec(), text);
            if kind.is_dir() {
                rest.push(path);
            }
        }
    }
    found
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let archive = archive(&mut Numbers(bytes));
    let other = room::room().join("root/other");
    std::fs::create_dir(&other).expect("a directory");
    let mut tar = Command::new("tar");
    tar.args(["-x", "-p", "--same-owner", "--numeric-owner", "--delay-directory-restore", "-C"]).arg(&other);
    let mut tar = tar.stdin(Stdio::piped()).stderr(Stdio::null()).spawn().expect("GNU tar");
    tar.stdin.take().expect("a pipe").write_all(&archive).expect("a reader");
    let unpacked = tar.wait().expect("an end").success();
    let staged = room::unpack(archive);
    assert_eq!(staged.is_ok(), unpacked, "one of the two refuses it: {:?}", staged.err());
    if let Ok(staged) = staged {
        let (ours, theirs) = (seen(&staged.path()), seen(&other));
        assert_eq!(ours, theirs);
    }
    std::fs::remove_dir_all(&other).expect("a removal");
});
