//! Layers that attack: nothing outside the layer changes, and the result is safe or a clear error.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::tar::{Entry, Kind, Writer};
use super::{Error, Layers, Limits, Staged};
use crate::oci::Digest;
use crate::state::{self, Durability, State, Table};

/// A root next to a directory that must never change.
struct Scene {
    directory: tempfile::TempDir,
    layers: Layers,
}

impl Scene {
    fn new() -> Self {
        Self::with_limits(Limits::default())
    }

    fn with_limits(limits: Limits) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("outside")).unwrap();
        fs::write(directory.path().join("outside/secret"), "secret").unwrap();
        let layers = Layers::with_limits(&directory.path().join("root"), limits).unwrap();
        Self { directory, layers }
    }

    fn outside(&self) -> PathBuf {
        self.directory.path().join("outside")
    }

    /// Unpacks, and looks whether anything happened outside or stayed behind.
    fn unpack(&self, entries: &[(Entry, &[u8])]) -> Result<Staged, Error> {
        self.unpack_archive(archive(entries))
    }

    fn unpack_archive(&self, archive: Vec<u8>) -> Result<Staged, Error> {
        let (layers, before) = (self.layers.clone(), self.staged());
        // A thread of its own, as in earnest: unpacking changes the umask of its thread.
        let result = std::thread::spawn(move || layers.stage()?.unpack(archive.as_slice())).join().unwrap();
        assert_eq!(fs::read_to_string(self.outside().join("secret")).unwrap(), "secret");
        assert_eq!(fs::read_dir(self.outside()).unwrap().count(), 1);
        assert_eq!(fs::metadata(self.outside().join("secret")).unwrap().nlink(), 1);
        if result.is_err() {
            assert_eq!(self.staged(), before, "a failed layer leaves nothing");
        }
        result
    }

    fn staged(&self) -> usize {
        fs::read_dir(self.directory.path().join("root/layers")).unwrap().count()
    }
}

fn archive(entries: &[(Entry, &[u8])]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (entry, contents) in entries {
        writer.entry(entry, contents).unwrap();
    }
    writer.finish().unwrap()
}

fn file(path: &str) -> (Entry, &'static [u8]) {
    (Entry::new(Kind::File, path, 0o644), b"contents")
}

fn dir(path: &str) -> (Entry, &'static [u8]) {
    (Entry::new(Kind::Directory, path, 0o755), b"")
}

fn symlink(path: &str, target: impl AsRef<Path>) -> (Entry, &'static [u8]) {
    (Entry::new(Kind::Symlink, path, 0o777).to(target.as_ref().to_str().unwrap()), b"")
}

fn link(path: &str, target: impl AsRef<Path>) -> (Entry, &'static [u8]) {
    (Entry::new(Kind::Link, path, 0o644).to(target.as_ref().to_str().unwrap()), b"")
}

fn read(staged: &Staged, path: &str) -> String {
    fs::read_to_string(staged.path().join(path)).unwrap()
}

#[test]
fn an_honest_layer_is_unpacked_exactly() {
    let scene = Scene::new();
    let old = |mut entry: Entry| {
        entry.modified = (1_000_000, 5);
        entry
    };
    let mut capable = Entry::new(Kind::File, "bin/ping", 0o4755);
    capable.user = 7;
    capable.group = 8;
    capable.attributes = vec![
        (b"security.capability".to_vec(), vec![1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        (b"user.note".to_vec(), b"kept".to_vec()),
    ];
    let mut null = Entry::new(Kind::Character, "dev/null", 0o666);
    null.device = (1, 3);
    let entries = [
        (old(Entry::new(Kind::Directory, "./", 0o1777)), &b""[..]),
        (old(Entry::new(Kind::Directory, "bin/", 0o2750)), b""),
        (old(Entry::new(Kind::File, "bin/sh", 0o755)), b"#!"),
        (capable, b"ping"),
        symlink("sbin", "bin"),
        file("sbin/through-the-link"),
        link("bin/ash", "/bin/sh"),
        (null, b""),
        (Entry::new(Kind::Fifo, "dev/pipe", 0o620), b""),
        (old(Entry::new(Kind::File, "implied/parents/file", 0o600)), b""),
    ];
    let staged = scene.unpack(&entries).unwrap();
    assert_eq!(staged.diff_id, Digest::of(&archive(&entries)));
    assert_eq!(staged.unpacked.entries, 10);
    let meta = |path: &str| staged.path().join(path).symlink_metadata().unwrap();
    assert_eq!((meta("").mode() & 0o7777, meta("").mtime(), meta("").mtime_nsec()), (0o1777, 1_000_000, 5));
    assert_eq!((meta("bin").mode() & 0o7777, meta("bin").mtime()), (0o2750, 1_000_000));
    assert_eq!((meta("bin/sh").mode() & 0o7777, meta("bin/sh").nlink()), (0o755, 2));
    assert_eq!(meta("bin/sh").ino(), meta("bin/ash").ino());
    assert_eq!((meta("bin/ping").mode() & 0o7777, meta("bin/ping").uid(), meta("bin/ping").gid()), (0o4755, 7, 8));
    let ping = fs::File::open(staged.path().join("bin/ping")).unwrap();
    for name in ["security.capability", "user.note"] {
        use std::os::fd::AsFd;
        assert!(engine_sys::file::attribute(ping.as_fd(), name.as_ref()).unwrap().is_some(), "{name}");
    }
    assert_eq!(read(&staged, "bin/through-the-link"), "contents");
    assert!(meta("dev/null").file_type().is_char_device());
    assert_eq!(meta("dev/null").rdev(), rustix::fs::makedev(1, 3));
    assert_eq!(meta("dev/null").mode() & 0o7777, 0o666);
    assert!(meta("dev/pipe").file_type().is_fifo());
    assert_eq!(meta("implied/parents").mode() & 0o7777, 0o755);
    drop(staged);
    assert_eq!(scene.staged(), 0);
}

#[test]
fn links_do_not_lead_out() {
    let scene = Scene::new();
    let outside = scene.outside();
    let secret = outside.join("secret");
    // An absolute link means the layer's own root; what it names is not there, and must not be made elsewhere.
    for entries in [
        vec![symlink("a", &outside), file("a/secret")],
        vec![symlink("a", &outside), dir("a/new")],
        vec![symlink("a", "../../outside"), file("a/secret")],
        vec![symlink("a", "../../outside"), (Entry::new(Kind::Fifo, "a/new", 0o644), b"")],
        vec![link("h", &secret), file("h")],
        vec![link("h", "../../../outside/secret")],
        vec![symlink("a", &outside), link("h", "a/secret")],
        vec![symlink("x", "loop"), symlink("loop", "x"), file("x/y")],
    ] {
        scene.unpack(&entries).unwrap_err();
    }
    // A name that is a link is replaced, not written through.
    let staged = scene.unpack(&[symlink("s", &secret), file("s")]).unwrap();
    assert_eq!(read(&staged, "s"), "contents");
    let staged = scene.unpack(&[symlink("s", &secret), link("h", "s"), file("h")]).unwrap();
    assert_eq!(read(&staged, "h"), "contents");
    let staged = scene.unpack(&[symlink("s", &outside), dir("s"), file("s/secret")]).unwrap();
    assert_eq!(read(&staged, "s/secret"), "contents");
    // A link to the root is a way to itself.
    let staged = scene.unpack(&[symlink("a", "/"), file("a/b")]).unwrap();
    assert_eq!(read(&staged, "b"), "contents");
    let staged = scene.unpack(&[symlink("up", ".."), file("up/b")]).unwrap();
    assert_eq!(read(&staged, "b"), "contents");
}

#[test]
fn a_directory_that_becomes_a_link_is_not_followed_by_what_was_open() {
    let scene = Scene::new();
    let outside = scene.outside();
    let entries = [dir("d"), file("d/one"), symlink("d", &outside), file("d/secret")];
    scene.unpack(&entries).unwrap_err();
    let staged = scene.unpack(&[dir("d"), file("d/one"), symlink("d", "e"), dir("e"), file("d/two")]).unwrap();
    assert_eq!(read(&staged, "e/two"), "contents");
    assert!(!staged.path().join("e/one").exists());
    // The times of a directory that is gone are not given to what the link leads to.
    let staged = scene.unpack(&[dir("d"), symlink("d", "/e"), (Entry::new(Kind::Directory, "e", 0o700), b"")]).unwrap();
    assert_eq!(fs::metadata(staged.path().join("e")).unwrap().mode() & 0o777, 0o700);
}

#[test]
fn names_that_lead_out_are_refused() {
    let scene = Scene::new();
    for name in ["../x", "a/../../x", "/../x", "..", "a/../..", "../outside/secret"] {
        let error = scene.unpack(&[file(name)]).unwrap_err();
        assert!(matches!(error, Error::Refused { .. }), "{name}: {error}");
        scene.unpack(&[file("x"), link("y", name)]).unwrap_err();
    }
    for name in ["/", ".", "", "a/.."] {
        scene.unpack(&[file(name)]).unwrap_err();
    }
    let staged = scene.unpack(&[file("/abs"), file("./a/../b"), file("c//d"), file("new\nline")]).unwrap();
    assert_eq!(read(&staged, "abs") + &read(&staged, "b"), "contentscontents");
    assert_eq!(read(&staged, "c/d") + &read(&staged, "new\nline"), "contentscontents");
}

#[test]
fn what_gives_an_entry_another_name_leads_nowhere_either() {
    let scene = Scene::new();
    let raw = |name: &str, kind: u8, body: &[u8]| {
        let mut header = ::tar::Header::new_ustar();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(::tar::EntryType::new(kind));
        header.set_size(body.len() as u64);
        header.set_mode(0o644);
        for number in [::tar::Header::set_uid, ::tar::Header::set_gid, ::tar::Header::set_mtime] {
            number(&mut header, 0);
        }
        header.set_cksum();
        let padding = vec![0; body.len().next_multiple_of(512) - body.len()];
        [header.as_bytes(), body, &padding].concat()
    };
    let record = |key: &str, value: &str| format!("{} {key}={value}\n", key.len() + value.len() + 5);
    for name in ["../outside/secret", "a/../../outside/secret", "/../outside/secret"] {
        let (file, link) = (raw("safe", b'0', b"attack"), raw("safe", b'1', b""));
        for (meta, entry) in [
            (raw("m", b'x', record("path", name).as_bytes()), &file),
            (raw("m", b'L', format!("{name}\0").as_bytes()), &file),
            (raw("m", b'x', record("linkpath", name).as_bytes()), &link),
            (raw("m", b'K', format!("{name}\0").as_bytes()), &link),
        ] {
            let error = scene.unpack_archive([meta, entry.clone(), vec![0; 1024]].concat()).unwrap_err();
            assert!(error.to_string().contains("leads out of the layer"), "{name}: {error}");
        }
    }
    // The same way to a name that is one.
    let meta = raw("m", b'x', record("path", "somewhere/else").as_bytes());
    let staged = scene.unpack_archive([meta, raw("safe", b'0', b"x"), vec![0; 1024]].concat()).unwrap();
    assert_eq!(read(&staged, "somewhere/else"), "x");
}

#[test]
fn whiteouts_become_those_of_overlayfs_and_stay_inside() {
    let scene = Scene::new();
    let outside = scene.outside();
    let staged =
        scene.unpack(&[file(".wh.gone"), file("d/.wh..wh..opq"), file("d/.wh..wh.aufs"), file("d/x")]).unwrap();
    let gone = staged.path().join("gone").symlink_metadata().unwrap();
    assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
    let opaque = |staged: &Staged, path: &str| {
        use std::os::fd::AsFd;
        let directory = fs::File::open(staged.path().join(path)).unwrap();
        engine_sys::file::attribute(directory.as_fd(), "trusted.overlay.opaque".as_ref()).unwrap()
    };
    assert_eq!(opaque(&staged, "d").as_deref(), Some(b"y".as_slice()));
    assert_eq!(fs::read_dir(staged.path().join("d")).unwrap().count(), 1);
    // Hidden and made anew by one layer, in either order.
    for entries in [vec![file(".wh.d"), dir("d"), file("d/x")], vec![dir("d"), file("d/x"), file(".wh.d")]] {
        let staged = scene.unpack(&entries).unwrap();
        assert_eq!(opaque(&staged, "d").as_deref(), Some(b"y".as_slice()));
        assert_eq!(read(&staged, "d/x"), "contents");
    }
    let staged = scene.unpack(&[file("f"), file(".wh.f")]).unwrap();
    assert_eq!(read(&staged, "f"), "contents");
    for name in [".wh.", ".wh..", ".wh...", "d/.wh..", "../.wh.x"] {
        scene.unpack(&[file(name)]).unwrap_err();
    }
    for entries in [
        vec![symlink("s", &outside), file("s/.wh.secret")],
        vec![symlink("s", &outside), file("s/.wh..wh..opq")],
        vec![symlink("s", "../../outside"), file("s/.wh..wh..opq")],
    ] {
        scene.unpack(&entries).unwrap_err();
    }
}

#[test]
fn attributes_that_steer_overlayfs_or_the_host_are_left_out() {
    let scene = Scene::new();
    let mut entry = Entry::new(Kind::Directory, "d", 0o755);
    let smuggled = ["trusted.overlay.opaque", "trusted.overlay.redirect", "user.overlay.opaque", "security.selinux"];
    entry.attributes = smuggled.map(|name| (name.as_bytes().to_vec(), b"y".to_vec())).to_vec();
    entry.attributes.push((b"user.fine".to_vec(), b"y".to_vec()));
    let staged = scene.unpack(&[(entry, b"")]).unwrap();
    let directory = fs::File::open(staged.path().join("d")).unwrap();
    let has = |name: &str| {
        use std::os::fd::AsFd;
        engine_sys::file::attribute(directory.as_fd(), name.as_ref()).unwrap().is_some()
    };
    assert!(has("user.fine"));
    for name in smuggled {
        assert!(!has(name), "{name}");
    }
}

#[test]
fn nonsense_is_refused() {
    let scene = Scene::new();
    let mut device = Entry::new(Kind::Block, "dev", 0o600);
    device.device = (0x1000, 0);
    let error = scene.unpack(&[(device.clone(), b"")]).unwrap_err();
    assert!(error.to_string().contains("device number is out of range"), "{error}");
    device.device = (1, 0x10_0000);
    scene.unpack(&[(device, b"")]).unwrap_err();
    for owner in [u64::from(u32::MAX), 1 << 40] {
        let mut entry = Entry::new(Kind::File, "f", 0o644);
        entry.user = owner;
        scene.unpack(&[(entry, b"")]).unwrap_err();
    }
    scene.unpack(&[(Entry::new(Kind::Symlink, "s", 0o777), b"")]).unwrap_err();
    scene.unpack(&[(Entry::new(Kind::Link, "s", 0o777).to("/"), b"")]).unwrap_err();
    scene.unpack(&[file(&"n".repeat(256))]).unwrap_err();
    let error = scene.unpack(&[file("f"), file("f/below-a-file")]).unwrap_err();
    assert!(error.to_string().contains("f/below-a-file"), "{error}");
    let error = scene.unpack(&[link("h", "missing")]).unwrap_err();
    assert!(error.to_string().contains("\"h\""), "{error}");
}

#[test]
fn repeated_entries_replace_each_other() {
    let scene = Scene::new();
    let second = (Entry::new(Kind::File, "x", 0o600), &b"second"[..]);
    let staged = scene.unpack(&[dir("x"), file("x/y"), second.clone()]).unwrap();
    assert_eq!(read(&staged, "x"), "second");
    let staged = scene.unpack(&[file("x"), link("y", "x"), second]).unwrap();
    assert_eq!((read(&staged, "x"), read(&staged, "y")), ("second".to_owned(), "contents".to_owned()));
    let staged = scene.unpack(&[file("x"), link("x", "./x")]).unwrap();
    assert_eq!(read(&staged, "x"), "contents");
}

#[test]
fn limits_hold() {
    let limits = Limits { entries: 3, bytes: 20, depth: 4, ..Limits::default() };
    let scene = Scene::with_limits(limits);
    scene.unpack(&[file("a"), file("b"), dir("c")]).unwrap();
    assert!(matches!(scene.unpack(&[dir("a"), dir("b"), dir("c"), dir("d")]), Err(Error::Limit(_))));
    assert!(matches!(scene.unpack(&[file("a"), file("b"), file("c")]), Err(Error::Limit(_))));
    scene.unpack(&[file("a/b/c/d/e")]).unwrap_err();
    let scene = Scene::with_limits(Limits { free_bytes: u64::MAX, ..Limits::default() });
    assert!(matches!(scene.unpack(&[file("a")]), Err(Error::Full)));
}

#[test]
fn a_cut_archive_leaves_nothing() {
    let scene = Scene::new();
    let whole = archive(&[file("a"), file("b")]);
    for length in [100, 600, 1100, 1537] {
        scene.layers.stage().unwrap().unpack(&whole[..length]).unwrap_err();
        assert_eq!(scene.staged(), 0);
    }
}

#[test]
fn a_layer_is_there_once_it_is_committed_and_gone_once_nothing_holds_it() {
    let scene = Scene::new();
    let state = State::open(&scene.directory.path().join("root")).unwrap();
    let archive = archive(&[file("a")]);
    let diff_id = Digest::of(&archive);
    let apply = || scene.layers.apply(&diff_id, archive.as_slice()).unwrap();
    let get = || state.read(|snapshot| scene.layers.get(snapshot, &diff_id)).unwrap();
    let commit = |staged, by| {
        state.write(Durability::Power, |tx| scene.layers.commit(tx, &diff_id, staged, None, (Table::Image, by)))
    };
    let retire = || state.write(Durability::Process, |tx| scene.layers.retire(tx, &diff_id)).unwrap();
    assert!(matches!(scene.layers.apply(&Digest::of(b"other"), archive.as_slice()), Err(Error::Mismatch { .. })));
    assert!(matches!(commit(None, "one"), Err(Error::Vanished(_))));
    // A directory without a record is a leftover that may be torn.
    fs::create_dir(scene.layers.path(&diff_id)).unwrap();
    assert_eq!(get(), None);
    assert!(commit(Some(apply()), "one").unwrap().is_some());
    assert_eq!(fs::read_to_string(get().unwrap().path.join("a")).unwrap(), "contents");
    assert!(commit(Some(apply()), "two").unwrap().is_some());
    commit(None, "two").unwrap();
    assert_eq!(scene.staged(), 1);
    let release =
        |by| state.write::<_, state::Error>(Durability::Process, |tx| tx.release_all((Table::Image, by))).unwrap();
    release("one");
    assert!(retire().is_none());
    release("two");
    drop(retire().unwrap());
    assert_eq!((get(), scene.staged()), (None, 0));
}

#[test]
fn leftovers_are_swept_and_work_in_progress_is_not() {
    let scene = Scene::new();
    let staging = scene.layers.stage().unwrap();
    fs::create_dir_all(scene.directory.path().join("root/layers/.tmp-dead/x")).unwrap();
    scene.layers.sweep().unwrap();
    assert!(staging.path().exists());
    assert_eq!(scene.staged(), 1);
    let state = State::open(&scene.directory.path().join("root")).unwrap();
    fs::create_dir(scene.layers.path(&Digest::of(b"no record"))).unwrap();
    let retired = state.write(Durability::Process, |tx| scene.layers.collect(tx)).unwrap();
    assert_eq!(retired.len(), 1);
    drop(retired);
    assert_eq!(scene.staged(), 1);
}
