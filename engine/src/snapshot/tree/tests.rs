#![allow(clippy::unwrap_used)]

use std::fs as host;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use engine_sys::path::Root;
use tokio::sync::mpsc;

use super::super::tar::{Archive, Entry, Kind, Writer};
use super::*;

/// A root with an `outside` next to it that nothing may touch.
fn scene() -> (tempfile::TempDir, Root) {
    let directory = tempfile::tempdir().unwrap();
    host::create_dir_all(directory.path().join("root/to")).unwrap();
    host::create_dir(directory.path().join("outside")).unwrap();
    host::write(directory.path().join("outside/secret"), "secret").unwrap();
    let root = Root::open(&directory.path().join("root")).unwrap();
    (directory, root)
}

fn archive(entries: &[(Entry, &str)]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (entry, contents) in entries {
        writer.entry(entry, contents.as_bytes()).unwrap();
    }
    writer.finish().unwrap()
}

/// Unpacks on a thread of its own, whose umask is changed.
fn put_in(root: &Root, base: &str, bytes: &[u8], manner: Manner) -> Result<(), super::super::Error> {
    std::thread::scope(|scope| {
        scope.spawn(|| put(&mut Archive::new(bytes), root, base.as_bytes(), manner)).join().unwrap()
    })
}

fn packed(work: impl FnOnce(&mut Packer) -> Result<(), super::super::Error> + Send + 'static) -> Vec<u8> {
    let (sender, mut pieces) = mpsc::channel(2);
    let thread = std::thread::spawn(move || {
        let mut packer = Packer::new(sender);
        work(&mut packer)?;
        packer.finish()
    });
    let mut bytes = Vec::new();
    while let Some(piece) = pieces.blocking_recv() {
        bytes.extend_from_slice(&piece.unwrap());
    }
    thread.join().unwrap().unwrap();
    bytes
}

fn names(bytes: &[u8]) -> Vec<String> {
    let mut archive = Archive::new(bytes);
    let mut names = Vec::new();
    while let Some(entry) = archive.next_entry().unwrap() {
        names.push(format!("{:?} {}", entry.kind, String::from_utf8_lossy(&entry.path)));
    }
    names
}

#[test]
fn what_is_packed_is_put_back() {
    let (room, root) = scene();
    let from = room.path().join("from");
    host::create_dir_all(from.join("deep/deeper")).unwrap();
    host::write(from.join("file"), "contents").unwrap();
    host::set_permissions(from.join("file"), host::Permissions::from_mode(0o4750)).unwrap();
    host::hard_link(from.join("file"), from.join("twin")).unwrap();
    symlink("../outside", from.join("link")).unwrap();
    host::write(from.join("deep/deeper/big"), vec![7; 3 << 20]).unwrap();
    std::os::unix::fs::chown(from.join("deep"), Some(12), Some(34)).unwrap();
    let directory = Root::open(&from).unwrap().into_fd();
    let bytes = packed(move |packer| packer.tree(directory, Top::Directory(b"name")));
    assert_eq!(
        names(&bytes),
        [
            "Directory name/",
            "Directory name/deep/",
            "Directory name/deep/deeper/",
            "File name/deep/deeper/big",
            "File name/file",
            "Symlink name/link",
            "Link name/twin"
        ]
    );
    put_in(&root, "to", &bytes, Manner::default()).unwrap();
    let to = room.path().join("root/to/name");
    let file = to.join("file").metadata().unwrap();
    assert_eq!((file.mode() & 0o7777, file.ino()), (0o4750, to.join("twin").metadata().unwrap().ino()));
    assert_eq!(host::read_link(to.join("link")).unwrap(), Path::new("../outside"));
    assert_eq!(host::read(to.join("deep/deeper/big")).unwrap(), vec![7; 3 << 20]);
    let (before, after) = (from.join("deep").metadata().unwrap(), to.join("deep").metadata().unwrap());
    assert_eq!((after.uid(), after.gid(), after.mtime_nsec()), (12, 34, before.mtime_nsec()));
    put_in(&root, "to", &bytes, Manner { owner: Some((5, 6)), ..Manner::default() }).unwrap();
    let after = to.join("deep/deeper/big").metadata().unwrap();
    assert_eq!((after.uid(), after.gid()), (5, 6));
    assert!(put_in(&root, "missing/../to", &bytes, Manner::default()).is_ok());
}

#[test]
fn deep_trees_need_few_descriptors() {
    let (room, root) = scene();
    let mut at = room.path().join("root/from");
    for level in 0..200 {
        at = at.join(format!("d{level}"));
    }
    host::create_dir_all(&at).unwrap();
    host::write(at.join("file"), "x").unwrap();
    host::write(room.path().join("root/from/z"), "x").unwrap();
    let directory = root.directory(Path::new("from")).unwrap().into_fd();
    let listed = names(&packed(move |packer| packer.tree(directory, Top::Contents)));
    assert_eq!(listed.len(), 202);
    assert!(listed[200].ends_with("d199/file") && listed[201] == "File z");
}

#[test]
fn a_path_that_no_layer_can_have_is_named() {
    let (room, root) = scene();
    let mut at = root.directory(Path::new("to")).unwrap().into_fd();
    for _ in 0..220 {
        let name = "nineteen-letters-it";
        fs::mkdirat(&at, name, Mode::RWXU).unwrap();
        at = open_directory(at.as_fd(), OsStr::new(name)).unwrap();
    }
    let (sender, mut pieces) = mpsc::channel(100);
    let error = pack_upper(&room.path().join("root"), sender).unwrap_err();
    let text = error.to_string();
    assert_eq!(error.kind(), crate::error::ErrorKind::Invalid);
    assert!(text.starts_with("the path \"to/nineteen-letters-it/") && text.contains("may have 4095: move"), "{text}");
    while pieces.blocking_recv().is_some() {}
    // An archive that is no layer has it.
    let directory = root.directory(Path::new("to")).unwrap().into_fd();
    let bytes = packed(move |packer| packer.tree(directory, Top::Contents));
    assert!(bytes.len() > 220 * 512);
}

/// Packs `root/from`: 150 directories in each other, a file `z` in each, and a large one in the last, at which `change` is made.
fn changed_at_the_bottom(change: impl FnOnce(&Path)) -> Vec<String> {
    let (room, root) = scene();
    let mut at = room.path().join("root/from");
    host::create_dir(&at).unwrap();
    for level in 0..150 {
        host::write(at.join("z"), "x").unwrap();
        at = at.join(format!("d{level}"));
        host::create_dir(&at).unwrap();
    }
    host::write(at.join("large"), vec![1; 8 << 20]).unwrap();
    let (sender, mut pieces) = mpsc::channel(1);
    let directory = root.directory(Path::new("from")).unwrap().into_fd();
    let thread = std::thread::spawn(move || {
        let mut packer = Packer::new(sender);
        packer.tree(directory, Top::Contents)?;
        packer.finish()
    });
    // Who packs is in the middle of it now, and waits.
    let mut bytes = pieces.blocking_recv().unwrap().unwrap().to_vec();
    change(&room.path().join("root"));
    while let Some(piece) = pieces.blocking_recv() {
        bytes.extend_from_slice(&piece.unwrap());
    }
    thread.join().unwrap().unwrap();
    names(&bytes)
}

/// A directory of that many levels within `from`.
fn down(levels: usize) -> String {
    (0..levels).map(|level| format!("d{level}/")).collect()
}

#[test]
fn a_directory_that_is_moved_while_it_is_read_costs_nothing_else() {
    let still = changed_at_the_bottom(|_| {});
    assert_eq!(still.len(), 301);
    let moved = changed_at_the_bottom(|root| {
        host::rename(root.join("from").join(down(30)), root.join("to/moved")).unwrap();
    });
    assert_eq!(moved, still);
    // Within the last levels, whose directories are open.
    let moved = changed_at_the_bottom(|root| {
        host::rename(root.join("from").join(down(140)), root.join("moved")).unwrap();
    });
    assert_eq!(moved, still);
}

#[test]
fn what_vanishes_while_it_is_read_is_left_out_and_nothing_else() {
    let left = |from: usize, to: usize| -> Vec<String> {
        let files = |levels: std::ops::Range<usize>| levels.rev().map(|level| format!("File {}z", down(level)));
        let directories = (1..=150).map(|level| format!("Directory {}", down(level)));
        let large = [format!("File {}large", down(150))];
        directories.chain(large).chain(files(to..150)).chain(files(0..from)).collect()
    };
    let vanished = changed_at_the_bottom(|root| {
        let from = root.join("from");
        host::rename(from.join(down(30)), root.join("to/moved")).unwrap();
        host::remove_dir_all(from.join(down(20))).unwrap();
    });
    assert_eq!(vanished, left(20, 30));
    let replaced = changed_at_the_bottom(|root| {
        let from = root.join("from");
        host::rename(from.join(down(30)), root.join("to/moved")).unwrap();
        host::rename(from.join(down(20)), root.join("to/kept")).unwrap();
        symlink(root.join("to/kept"), root.join("from").join(down(20).trim_end_matches('/'))).unwrap();
    });
    assert_eq!(replaced, left(20, 30));
    let emptied = changed_at_the_bottom(|root| host::remove_dir_all(root.join("from/d0")).unwrap());
    assert!(emptied.ends_with(&["File z".to_owned()]) && emptied.contains(&format!("File {}large", down(150))));
}

#[test]
fn nothing_is_written_outside() {
    let (room, root) = scene();
    let inside = room.path().join("root");
    symlink(room.path().join("outside"), inside.join("to/host")).unwrap();
    symlink("../../outside", inside.join("to/up")).unwrap();
    let file = |path: &str| (Entry::new(Kind::File, path, 0o644), "x");
    let link = |path: &str, target: &str| (Entry::new(Kind::Symlink, path, 0o777).to(target), "");
    let hard = |path: &str, target: &str| (Entry::new(Kind::Link, path, 0o644).to(target), "");
    let absolute = room.path().join("outside");
    let absolute = absolute.to_str().unwrap();
    for entries in [
        vec![file("../x")],
        vec![file("a/../../../x")],
        vec![file("host/x")],
        vec![file("up/x")],
        vec![link("l", absolute), file("l/x")],
        vec![link("l2", "../../outside"), file("l2/x")],
        vec![link("l3", "/"), file(&format!("l3{absolute}/x"))],
        vec![hard("h", &format!("{absolute}/secret"))],
        vec![hard("h2", "../../outside/secret")],
        vec![link("l4", absolute), hard("h3", "l4/secret")],
    ] {
        // Whether it is refused or ends up somewhere inside is one to the host.
        let _ = put_in(&root, "to", &archive(&entries), Manner::default());
        let found: Vec<_> =
            host::read_dir(room.path().join("outside")).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(found, ["secret"], "{entries:?}");
        assert_eq!(room.path().join("outside/secret").metadata().unwrap().nlink(), 1, "{entries:?}");
    }
    // The last name is replaced and never written through.
    put_in(&root, "to", &archive(&[file("host")]), Manner::default()).unwrap();
    assert_eq!(host::read_to_string(inside.join("to/host")).unwrap(), "x");
    assert_eq!(host::read_to_string(room.path().join("outside/secret")).unwrap(), "secret");
}

#[test]
fn what_steers_the_host_is_left_out_and_nonsense_is_refused() {
    let (room, root) = scene();
    let smuggled = ["trusted.overlay.opaque", "trusted.overlay.redirect", "user.overlay.opaque", "security.selinux"];
    let attributes = smuggled.iter().chain(&["user.fine"]).map(|name| (name.as_bytes().to_vec(), b"y".to_vec()));
    let attributes: Vec<_> = attributes.collect();
    let directory = Entry { attributes: attributes.clone(), ..Entry::new(Kind::Directory, *b"d", 0o755) };
    let file = Entry { attributes, ..Entry::new(Kind::File, *b"f", 0o644) };
    put_in(&root, "to", &archive(&[(directory, ""), (file, "x")]), Manner::default()).unwrap();
    for name in ["d", "f"] {
        use std::os::fd::AsFd;
        let opened = host::File::open(room.path().join("root/to").join(name)).unwrap();
        let has = |name: &str| engine_sys::file::attribute(opened.as_fd(), name.as_ref()).unwrap().is_some();
        assert!(has("user.fine") && smuggled.iter().all(|name| !has(name)), "{name}");
    }
    let device = Entry { device: (0x1000, 0), ..Entry::new(Kind::Block, *b"dev", 0o600) };
    let owner = Entry { user: u64::from(u32::MAX), ..Entry::new(Kind::File, *b"o", 0o644) };
    for (entry, text) in [
        (device, "device number is out of range"),
        (owner, "owner is out of range"),
        (Entry::new(Kind::Symlink, *b"s", 0o777), "a symbolic link to nothing"),
        (Entry::new(Kind::Link, *b"h", 0o644).to(*b"/"), "a hard link to the directory itself"),
        (Entry::new(Kind::File, *b".", 0o644), "it replaces the directory itself"),
        (Entry::new(Kind::File, *b"../x", 0o644), "leads out"),
    ] {
        let error = put_in(&root, "to", &archive(&[(entry, "")]), Manner::default()).unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
    }
}

#[test]
fn kinds_are_kept_when_that_is_asked_for() {
    let (room, root) = scene();
    let to = room.path().join("root/to");
    host::create_dir(to.join("directory")).unwrap();
    host::write(to.join("directory/in"), "").unwrap();
    host::write(to.join("file"), "").unwrap();
    let same = Manner { same_kinds: true, ..Manner::default() };
    let over_directory = archive(&[(Entry::new(Kind::File, *b"directory", 0o644), "x")]);
    let error = put_in(&root, "to", &over_directory, same).unwrap_err().to_string();
    assert_eq!(error, "cannot overwrite directory \"directory\" with non-directory");
    let over_file = archive(&[(Entry::new(Kind::Directory, *b"file/", 0o755), "")]);
    let error = put_in(&root, "to", &over_file, same).unwrap_err().to_string();
    assert_eq!(error, "cannot overwrite non-directory \"file/\" with directory");
    put_in(&root, "to", &over_directory, Manner::default()).unwrap();
    put_in(&root, "to", &over_file, Manner::default()).unwrap();
    assert!(to.join("directory").is_file() && to.join("file").is_dir());
    put_in(
        &root,
        "to",
        &archive(&[(Entry::new(Kind::File, *b"file", 0o644), "x"), (Entry::new(Kind::File, *b"./", 0), "")]),
        same,
    )
    .unwrap_err();
}

#[test]
fn a_tree_that_changes_under_our_hands_leads_nowhere() {
    let (room, root) = scene();
    let inside = room.path().join("root");
    host::create_dir(inside.join("to/real")).unwrap();
    let done = AtomicBool::new(false);
    let bytes = archive(&[
        (Entry::new(Kind::Directory, *b"victim/", 0o755), ""),
        (Entry::new(Kind::File, *b"victim/x", 0o644), "x"),
        (Entry::new(Kind::File, *b"victim/secret", 0o644), "overwritten"),
    ]);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let victim = inside.join("to/victim");
                let _ = symlink("../../outside", &victim);
                let _ = host::remove_file(&victim);
                let _ = symlink(room.path().join("outside"), &victim);
                let _ = host::remove_file(&victim);
                let _ = host::rename(inside.join("to/real"), &victim);
                let _ = host::rename(&victim, inside.join("to/real"));
            }
        });
        for _ in 0..300 {
            let _ = put_in(&root, "to", &bytes, Manner::default());
            let Ok(directory) = root.directory(Path::new("to")) else { continue };
            let (sender, mut pieces) = mpsc::channel(1000);
            let mut packer = Packer::new(sender);
            if packer.tree(directory.into_fd(), Top::Contents).and_then(|()| packer.finish()).is_ok() {
                let mut bytes = Vec::new();
                while let Some(piece) = pieces.blocking_recv() {
                    bytes.extend_from_slice(&piece.unwrap());
                }
                let mut archive = Archive::new(&*bytes);
                while let Some(entry) = archive.next_entry().unwrap() {
                    let contents = archive.contents(entry.size).unwrap().unwrap_or_default();
                    assert_ne!(contents, b"secret", "{entry:?}");
                }
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    let found: Vec<_> = host::read_dir(room.path().join("outside")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(found, ["secret"]);
    assert_eq!(host::read_to_string(room.path().join("outside/secret")).unwrap(), "secret");
}

#[test]
fn what_the_kernel_makes_up_is_left_alone() {
    assert!(is_made_up(host::File::open("/proc").unwrap()));
    assert!(is_made_up(host::File::open("/sys").unwrap()));
    assert!(!is_made_up(host::File::open("/").unwrap()));
    let root = Root::open(Path::new("/")).unwrap();
    let bytes = archive(&[(Entry::new(Kind::File, *b"x", 0o644), "x")]);
    let error = put_in(&root, "proc/sys/kernel", &bytes, Manner::default()).unwrap_err().to_string();
    assert!(error.contains("the kernel makes up"), "{error}");
}

#[test]
fn changes_are_found() {
    let room = tempfile::tempdir().unwrap();
    let (upper, lower) = (room.path().join("upper"), room.path().join("lower"));
    for directory in ["kept/in", "opaque", "etc", "touched"] {
        host::create_dir_all(lower.join(directory)).unwrap();
        host::create_dir_all(upper.join(directory)).unwrap();
    }
    for file in ["kept/in/changed", "gone", "opaque/hidden", "opaque/again"] {
        host::write(lower.join(file), "").unwrap();
    }
    host::write(upper.join("kept/in/changed"), "x").unwrap();
    host::write(upper.join("kept/in/new"), "x").unwrap();
    host::write(upper.join("opaque/again"), "x").unwrap();
    for stub in ["proc", "run/mine"] {
        host::create_dir_all(upper.join(stub)).unwrap();
    }
    host::write(upper.join("etc/hosts"), "").unwrap();
    let upper = Root::open(&upper).unwrap();
    for whiteout in ["gone", "never"] {
        upper.mknod(Path::new(whiteout), FileType::CharacterDevice, Mode::empty(), 0).unwrap();
    }
    let opaque = upper.directory(Path::new("opaque")).unwrap();
    engine_sys::file::set_attribute(opaque.as_fd(), OsStr::new("trusted.overlay.opaque"), b"y").unwrap();
    // Those that were only copied up are as they were.
    for directory in ["kept", "kept/in", "opaque"] {
        let times = engine_sys::file::times(1, 0);
        for root in [&upper, &Root::open(&lower).unwrap()] {
            fs::futimens(root.directory(Path::new(directory)).unwrap(), &times).unwrap();
        }
    }
    fs::futimens(upper.directory(Path::new("touched")).unwrap(), &engine_sys::file::times(2, 0)).unwrap();
    let is_stub = |path: &[u8]| [&b"/proc"[..], b"/etc/hosts", b"/run/mine"].contains(&path);
    let found = changes(upper.into_fd(), Some(Root::open(&lower).unwrap().into_fd()), &is_stub).unwrap();
    let shown: Vec<_> = found.iter().map(|change| format!("{:?} {}", change.kind, change.path)).collect();
    assert_eq!(
        shown,
        [
            "Deleted /gone",
            "Modified /kept",
            "Modified /kept/in",
            "Modified /kept/in/changed",
            "Added /kept/in/new",
            "Modified /opaque",
            "Modified /opaque/again",
            "Deleted /opaque/hidden",
            "Modified /touched"
        ]
    );
}
