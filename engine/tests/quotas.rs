//! What containers write and what volumes have is bounded where the file system counts it, and refused where it does not.
//! Needs root and e2fsprogs.
#![allow(clippy::unwrap_used)]

mod place;

use std::path::{Path, PathBuf};
use std::process::Command;

use engine::quota::Quotas;
use engine::volume::VolumeSpec;
use engine::{ContainerSpec, Engine, ErrorKind, RemoveOptions};
use place::{Place, run, shell};

const MIB: u64 = 1 << 20;

/// A file system in a file.
struct Disk {
    room: tempfile::TempDir,
}

impl Disk {
    /// None when the kernel cannot mount it so.
    fn new(features: &str, options: &str) -> Option<Self> {
        let room = tempfile::tempdir().unwrap();
        let image = room.path().join("image");
        std::fs::File::create(&image).unwrap().set_len(96 * MIB).unwrap();
        let made = Command::new("mkfs.ext4").args(["-q", "-O", features]).arg(&image).output();
        let made = made.expect("the package e2fsprogs has to be installed");
        assert!(made.status.success(), "{made:?}");
        let place = room.path().join("mounted");
        std::fs::create_dir(&place).unwrap();
        let mounted =
            Command::new("mount").args(["-t", "ext4", "-o", options]).arg(&image).arg(&place).output().unwrap();
        mounted.status.success().then_some(Self { room })
    }

    /// One that counts what projects have; none when the kernel was built without that.
    fn counting() -> Option<Self> {
        Self::new("quota,project", "loop,prjquota")
    }

    fn path(&self) -> PathBuf {
        self.room.path().join("mounted")
    }

    async fn engine(&self) -> (Place, Engine) {
        let place = Place { directory: tempfile::tempdir_in(self.path()).unwrap() };
        let engine = place.engine().await;
        (place, engine)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // What still ends lets go of it soon.
        let _ = rustix::mount::unmount(self.path(), rustix::mount::UnmountFlags::DETACH);
    }
}

/// Writes so many MiB to a path and tells how many there are.
fn writing(path: &str, mib: u32) -> ContainerSpec {
    shell(&format!("dd if=/dev/zero of={path} bs=1M count={mib} 2>/dev/null; stat -c %s {path}"))
}

async fn written(engine: &Engine, spec: ContainerSpec) -> u64 {
    let (output, _) = run(engine, spec).await;
    output.trim().parse().unwrap_or_else(|_| panic!("{output}"))
}

fn projects(place: &Path) -> Quotas {
    Quotas::beneath(place)
}

#[tokio::test]
async fn a_volume_has_the_size_that_was_asked_for() {
    let Some(disk) = Disk::counting() else {
        let disk = Disk::new("^quota", "loop").unwrap();
        let (_place, engine) = disk.engine().await;
        let error = engine.volumes().create(VolumeSpec::named("small").option("size", "2m")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().starts_with("create small: quota size requested but no quota support"), "{error}");
        assert!(engine.volumes().list().await.unwrap().is_empty());
        return;
    };
    let (place, engine) = disk.engine().await;
    let volumes = engine.volumes();
    let small = volumes.create(VolumeSpec::named("small").option("size", "2m")).await.unwrap();
    assert!(!small.is_elsewhere());
    assert!(written(&engine, writing("/small/x", 8).bind("small:/small")).await <= 2 * MIB);
    // The file system has room, and the volume tells how large it is.
    assert_eq!(written(&engine, writing("/free/x", 8).bind("free:/free")).await, 8 * MIB);
    let (told, _) = run(&engine, shell("echo $(($(stat -f -c '%b * %S' /small)))").bind("small:/small")).await;
    assert_eq!(told.trim(), (2 * MIB).to_string());
    let quotas = projects(&place.directory.path().join("volumes"));
    let project = quotas.project(small.mountpoint()).unwrap().unwrap();
    assert_eq!(quotas.project(volumes.get("free").await.unwrap().mountpoint()).unwrap(), None);
    assert_eq!(quotas.counted(project).unwrap().limit, 2 * MIB);
    // What is lost is made anew as it was.
    std::fs::remove_dir_all(small.mountpoint()).unwrap();
    quotas.lift(project).unwrap();
    engine.shutdown().await;
    let engine = Engine::open(place.without_bridge()).await.unwrap();
    assert!(written(&engine, writing("/small/x", 8).bind("small:/small")).await <= 2 * MIB);
    let project = quotas.project(small.mountpoint()).unwrap().unwrap();
    engine.volumes().remove("small").await.unwrap();
    assert_eq!(quotas.counted(project).unwrap(), Default::default(), "a bound is left");
}

#[tokio::test]
async fn a_container_writes_as_much_as_was_asked_for() {
    let size = |spec: ContainerSpec, size: &str| {
        let mut spec = spec;
        spec.host.storage_opt.insert("size".to_owned(), size.to_owned());
        spec
    };
    let Some(disk) = Disk::counting() else {
        let disk = Disk::new("^quota", "loop").unwrap();
        let (place, engine) = disk.engine().await;
        let error = engine.containers().create(size(shell("true"), "4m")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().starts_with("--storage-opt size: the file system of"), "{error}");
        assert_eq!(std::fs::read_dir(place.directory.path().join("containers")).unwrap().count(), 0);
        return;
    };
    let (place, engine) = disk.engine().await;
    assert_eq!(written(&engine, writing("/x", 8)).await, 8 * MIB);
    let container = engine.containers().create(size(writing("/x", 8), "4m")).await.unwrap();
    let (output, _) = place::output_of(&container).await;
    assert!(output.trim().parse::<u64>().unwrap() <= 4 * MIB, "{output}");
    // Also after the engine was away, and what comes from outside as well.
    engine.shutdown().await;
    let engine = Engine::open(place.without_bridge()).await.unwrap();
    let container = engine.containers().get(container.id().as_str()).await.unwrap();
    let (output, _) = place::output_of(&container).await;
    assert!(output.trim().parse::<u64>().unwrap() <= 4 * MIB, "{output}");
    let quotas = projects(&place.directory.path().join("containers"));
    let upper = place.directory.path().join("containers").join(container.id().as_str()).join("upper");
    let project = quotas.project(&upper).unwrap().unwrap();
    assert!(quotas.counted(project).unwrap().bytes > 3 * MIB);
    container.remove(RemoveOptions::default()).await.unwrap();
    engine.shutdown().await;
    assert_eq!(quotas.counted(project).unwrap().limit, 0, "a bound is left");
    // Of the container's mount something may be there for a moment longer.
    for _ in 0..500 {
        if quotas.counted(project).unwrap() == Default::default() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("files are left: {:?}", quotas.counted(project).unwrap());
}

#[tokio::test]
async fn kernels_without_the_newer_call_are_asked_by_the_device() {
    let Some(disk) = Disk::counting() else {
        let disk = Disk::new("^quota", "loop").unwrap();
        let error = projects(&disk.path()).by_device().check().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        return;
    };
    let (one, other) = (disk.path().join("one"), disk.path().join("other"));
    for directory in [&one, &other] {
        std::fs::create_dir(directory).unwrap();
    }
    let quotas = projects(&disk.path()).by_device();
    quotas.bound(&[&one, &other], MIB).unwrap();
    let project = quotas.project(&one).unwrap().unwrap();
    assert_eq!(quotas.project(&other).unwrap(), Some(project));
    std::fs::write(one.join("file"), vec![1; 10_000]).unwrap();
    rustix::fs::syncfs(std::fs::File::open(&one).unwrap()).unwrap();
    let counted = quotas.counted(project).unwrap();
    assert!(counted.limit == MIB && counted.bytes >= 10_000, "{counted:?}");
    // Both ways are the same.
    assert_eq!(projects(&disk.path()).counted(project).unwrap(), counted);
    quotas.bound(&[&one, &other], 2 * MIB).unwrap();
    assert_eq!(quotas.project(&one).unwrap(), Some(project), "bounded again");
    assert_eq!(quotas.counted(project).unwrap().limit, 2 * MIB);
    assert!(quotas.bound(&[&disk.path().join("missing")], MIB).is_err());
}
