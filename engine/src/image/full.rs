//! A disk that becomes full in the midst of a load: an error, nothing stored, all room given back, and later it works.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use rustix::mount::{MountFlags, UnmountFlags};

use super::tests::{saved, saved_compressed};
use super::*;
use crate::settings::RegistrySettings;

/// A file system in memory, as large as is said.
struct Disk {
    room: tempfile::TempDir,
}

impl Disk {
    fn new(megabytes: u64) -> Self {
        let disk = Self { room: tempfile::tempdir().unwrap() };
        let size = std::ffi::CString::new(format!("size={megabytes}m")).unwrap();
        rustix::mount::mount("tmpfs", disk.path(), "tmpfs", MountFlags::empty(), &*size).unwrap();
        disk
    }

    fn path(&self) -> &Path {
        self.room.path()
    }

    fn grow(&self, megabytes: u64) {
        let size = std::ffi::CString::new(format!("size={megabytes}m")).unwrap();
        rustix::mount::mount_remount(self.path(), MountFlags::empty(), &*size).unwrap();
    }

    fn free(&self) -> u64 {
        let space = rustix::fs::statvfs(self.path()).unwrap();
        space.f_bavail * space.f_frsize
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(self.path(), UnmountFlags::DETACH);
    }
}

#[tokio::test]
async fn a_full_disk_is_an_error_and_all_room_is_given_back() {
    let files = (0..8).map(|number| (format!("large{number}"), vec![number; 11 << 20]));
    let layers =
        [files.fold(Rootfs::new(), |rootfs, (name, contents)| rootfs.file(name, 0o644, contents)).into_archive()];
    let compressed = saved_compressed("x:1", &layers);
    for archive in [saved(&["x:1"], &layers), compressed] {
        // The first has less than is kept free for the engine; the other ends in the midst of the layer.
        for megabytes in [60, 80] {
            let disk = Disk::new(megabytes);
            let state = State::open(disk.path()).unwrap();
            let images = Images::open(disk.path(), state, Events::new(), &RegistrySettings::default()).unwrap();
            let free = disk.free();
            let error = images.load(std::io::Cursor::new(archive.clone())).await.unwrap_err();
            assert!(error.to_string().contains("o space left"), "{megabytes} MB: {error}");
            assert!(images.list().await.unwrap().is_empty());
            for _ in 0..500 {
                if disk.free() + (1 << 20) >= free {
                    break;
                }
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
            assert!(disk.free() + (1 << 20) >= free, "{} of {free} bytes are free after: {error}", disk.free());
            disk.grow(300);
            images.load(std::io::Cursor::new(archive.clone())).await.unwrap();
            assert_eq!(images.check(CheckOptions::default()).await.unwrap().problems, []);
        }
    }
}
