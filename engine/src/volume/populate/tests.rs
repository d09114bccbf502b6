//! What is copied into a volume, and what never is.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};

use super::*;

struct Room {
    room: tempfile::TempDir,
    name: Name,
}

impl Room {
    fn new() -> Self {
        let room = tempfile::tempdir().unwrap();
        fs::create_dir_all(room.path().join("home/_data")).unwrap();
        Self { room, name: "vol".parse().unwrap() }
    }

    fn layer(&self, name: &str) -> PathBuf {
        let layer = self.room.path().join(name);
        fs::create_dir_all(&layer).unwrap();
        layer
    }

    fn data(&self) -> PathBuf {
        self.room.path().join("home/_data")
    }

    fn populate(&self, layers: &[PathBuf], path: &str) -> Result<bool, Error> {
        populate(&self.name, &self.room.path().join("home"), None, layers, Path::new(path))
    }

    fn marker(&self) -> PathBuf {
        self.room.path().join("home").join(MARKER)
    }
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn every_kind_of_file_with_all_that_belongs_to_it() {
    let room = Room::new();
    let source = room.layer("image").join("srv/data");
    fs::create_dir_all(source.join("sub/deep")).unwrap();
    fs::write(source.join("sub/deep/file"), "content").unwrap();
    fs::set_permissions(source.join("sub/deep/file"), fs::Permissions::from_mode(0o4751)).unwrap();
    std::os::unix::fs::chown(source.join("sub/deep/file"), Some(1234), Some(5678)).unwrap();
    fs::set_permissions(source.join("sub/deep/file"), fs::Permissions::from_mode(0o4751)).unwrap();
    fs::hard_link(source.join("sub/deep/file"), source.join("again")).unwrap();
    symlink("/etc/passwd", source.join("link")).unwrap();
    std::os::unix::fs::lchown(source.join("link"), Some(7), Some(8)).unwrap();
    let device = rustix::fs::makedev(1, 3);
    rustix::fs::mknodat(
        rustix::fs::CWD,
        source.join("null"),
        rustix::fs::FileType::CharacterDevice,
        Mode::RUSR,
        device,
    )
    .unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, source.join("pipe"), rustix::fs::FileType::Fifo, Mode::RWXU, 0).unwrap();
    rustix::fs::setxattr(source.join("sub"), "user.note", b"kept", rustix::fs::XattrFlags::empty()).unwrap();
    fs::set_permissions(source.join("sub"), fs::Permissions::from_mode(0o1500)).unwrap();
    std::os::unix::fs::chown(&source, Some(99), Some(98)).unwrap();
    fs::set_permissions(&source, fs::Permissions::from_mode(0o2770)).unwrap();

    assert!(room.populate(&[room.layer("image")], "/srv/data").unwrap());
    let data = room.data();
    assert_eq!(names(&data), ["again", "link", "null", "pipe", "sub"]);
    let root = fs::metadata(&data).unwrap();
    assert_eq!((root.uid(), root.gid(), root.mode() & 0o7777), (99, 98, 0o2770));
    let file = fs::metadata(data.join("sub/deep/file")).unwrap();
    assert_eq!((file.uid(), file.gid(), file.mode() & 0o7777, file.nlink()), (1234, 5678, 0o4751, 2));
    assert_eq!(file.ino(), fs::metadata(data.join("again")).unwrap().ino());
    let original = fs::metadata(source.join("sub/deep/file")).unwrap();
    assert_eq!((file.mtime(), file.mtime_nsec()), (original.mtime(), original.mtime_nsec()));
    assert_eq!(fs::read_link(data.join("link")).unwrap(), Path::new("/etc/passwd"));
    assert_eq!(fs::symlink_metadata(data.join("link")).unwrap().uid(), 7);
    let null = fs::metadata(data.join("null")).unwrap();
    assert!(null.file_type().is_char_device() && null.rdev() == device && null.mode() & 0o777 == 0o400);
    assert!(fs::metadata(data.join("pipe")).unwrap().file_type().is_fifo());
    assert_eq!(fs::metadata(data.join("sub")).unwrap().mode() & 0o7777, 0o1500);
    let mut note = vec![0; 16];
    let length = rustix::fs::getxattr(data.join("sub"), "user.note", &mut note).unwrap();
    assert_eq!(&note[..length], b"kept");
    assert!(!room.marker().exists());
}

#[test]
fn layers_are_seen_as_the_container_sees_them() {
    let room = Room::new();
    let (upper, middle, lower) = (room.layer("upper"), room.layer("middle"), room.layer("lower"));
    for (layer, file) in [(&upper, "new"), (&lower, "old"), (&lower, "hidden")] {
        fs::create_dir_all(layer.join("data")).unwrap();
        fs::write(layer.join("data").join(file), "x").unwrap();
    }
    fs::create_dir_all(middle.join("data")).unwrap();
    let whiteout = middle.join("data/hidden");
    rustix::fs::mknodat(rustix::fs::CWD, whiteout, rustix::fs::FileType::CharacterDevice, Mode::empty(), 0).unwrap();
    assert!(room.populate(&[upper, middle, lower], "/data").unwrap());
    assert_eq!(names(&room.data()), ["new", "old"]);
}

#[test]
fn a_link_stays_inside_the_image() {
    let room = Room::new();
    let image = room.layer("image");
    fs::create_dir_all(image.join("real")).unwrap();
    fs::write(image.join("real/inside"), "x").unwrap();
    symlink("/real", image.join("data")).unwrap();
    symlink("../../../../../../../../etc", image.join("out")).unwrap();
    assert!(!room.populate(std::slice::from_ref(&image), "/out").unwrap());
    assert!(!room.populate(std::slice::from_ref(&image), "/../../etc").unwrap());
    assert_eq!(names(&room.data()), [""; 0]);
    assert!(room.populate(&[image], "/data").unwrap());
    assert_eq!(names(&room.data()), ["inside"]);
}

#[test]
fn only_an_empty_volume_is_filled() {
    let room = Room::new();
    let image = room.layer("image");
    fs::create_dir_all(image.join("data")).unwrap();
    fs::write(image.join("data/file"), "of the image").unwrap();
    fs::write(room.data().join("mine"), "x").unwrap();
    assert!(!room.populate(&[image], "/data").unwrap());
    assert_eq!(names(&room.data()), ["mine"]);
}

#[test]
fn a_copy_that_was_cut_short_starts_anew() {
    let room = Room::new();
    let image = room.layer("image");
    fs::create_dir_all(image.join("data")).unwrap();
    fs::write(image.join("data/file"), "whole").unwrap();
    fs::write(room.data().join("file"), "ha").unwrap();
    fs::create_dir_all(room.data().join("rest/of/it")).unwrap();
    fs::write(room.marker(), "").unwrap();
    assert!(room.populate(&[image], "/data").unwrap());
    assert_eq!(names(&room.data()), ["file"]);
    assert_eq!(fs::read_to_string(room.data().join("file")).unwrap(), "whole");
    assert!(!room.marker().exists());
}

#[test]
fn trees_nested_too_deeply_are_refused_and_yet_can_be_removed() {
    let room = Room::new();
    let mut inner = room.layer("image");
    let image = inner.clone();
    for _ in 0..300 {
        inner.push("d");
        fs::create_dir(&inner).unwrap();
    }
    fs::write(inner.join("file"), "x").unwrap();
    let error = room.populate(std::slice::from_ref(&image), "/").unwrap_err();
    assert!(matches!(error, Error::Depth { .. }), "{error}");
    assert!(room.marker().exists());
    clear(&File::open(&image).unwrap()).unwrap();
    assert_eq!(names(&image), [""; 0]);
}
