//! Paths opened beneath a root, never outside it: whatever `..`, absolute names and symbolic links a foreign tree
//! holds, they mean what they would mean to a process whose root directory it is.

use std::ffi::{OsStr, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, RawDir, RenameFlags, ResolveFlags, Stat};
use rustix::io::Errno;

/// A directory descriptor that foreign names are resolved beneath.
#[derive(Debug)]
pub struct Root {
    directory: OwnedFd,
}

/// A parent directory and the last name of a path, which no call follows when it is a symbolic link.
#[derive(Debug)]
pub struct Place {
    /// The directory, opened for reading.
    pub parent: OwnedFd,
    /// One component: not empty, without `/`, neither `.` nor `..`.
    pub name: OsString,
}

/// A racing rename makes the kernel give up on `..`; a hostile one must not keep us for ever.
const ATTEMPTS: usize = 128;

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

impl Root {
    /// Opens a directory of the host; `path` is the engine's own, and its links are followed.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { directory: fs::open(path, DIRECTORY, Mode::empty())? })
    }

    /// Takes a directory that is open already; it must not be an `O_PATH` descriptor.
    pub fn from_fd(directory: OwnedFd) -> Self {
        Self { directory }
    }

    /// The directory.
    pub fn into_fd(self) -> OwnedFd {
        self.directory
    }

    /// Opens `path` as a process in this root would: links are followed, and stay inside. Magic links are refused.
    pub fn file(&self, path: &Path, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        self.resolve(path, flags, mode, ResolveFlags::empty())
    }

    /// Opens `path`, and fails with `ELOOP` where any part of it is a symbolic link.
    pub fn file_without_links(&self, path: &Path, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        self.resolve(path, flags, mode, ResolveFlags::NO_SYMLINKS)
    }

    fn resolve(&self, path: &Path, flags: OFlags, mode: Mode, extra: ResolveFlags) -> io::Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | extra;
        let mut attempts = 0;
        loop {
            match fs::openat2(&self.directory, path, flags | OFlags::CLOEXEC, mode, resolve) {
                Err(Errno::AGAIN | Errno::INTR) if attempts < ATTEMPTS => attempts += 1,
                other => return Ok(other?),
            }
        }
    }

    /// Opens a directory beneath.
    pub fn directory(&self, path: &Path) -> io::Result<Self> {
        Ok(Self { directory: self.file(path, DIRECTORY, Mode::empty())? })
    }

    /// Opens a directory beneath, and makes what is missing of it with `mode` (less the umask).
    pub fn make_directory(&self, path: &Path, mode: Mode) -> io::Result<Self> {
        match self.directory(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
        // Each step names everything from the root again, so that a link on the way is resolved like any other.
        let mut made = PathBuf::new();
        for component in path.components() {
            match component {
                Component::RootDir | Component::CurDir | Component::Prefix(_) => continue,
                Component::ParentDir => made.push(".."),
                Component::Normal(name) => {
                    let parent = self.file(&made, DIRECTORY, Mode::empty())?;
                    match fs::mkdirat(&parent, name, mode) {
                        Ok(()) | Err(Errno::EXIST) => {}
                        Err(error) => return Err(error.into()),
                    }
                    made.push(name);
                }
            }
        }
        self.directory(path)
    }

    /// The directory that holds the last name of `path`. `EINVAL` when the path ends in `..` or names the root.
    pub fn place(&self, path: &Path) -> io::Result<Place> {
        let name = match path.components().next_back() {
            Some(Component::Normal(name)) => name.to_owned(),
            _ => return Err(Errno::INVAL.into()),
        };
        let parent = self.file(path.parent().unwrap_or(Path::new(".")), DIRECTORY, Mode::empty())?;
        Ok(Place { parent, name })
    }

    /// What `path` is, without following its last name.
    pub fn metadata(&self, path: &Path) -> io::Result<Stat> {
        match self.place(path) {
            Ok(place) => place.metadata(),
            Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {
                let found = self.file(path, OFlags::PATH, Mode::empty())?;
                Ok(fs::fstat(found)?)
            }
            Err(error) => Err(error),
        }
    }

    /// What the symbolic link `path` says.
    pub fn read_link(&self, path: &Path) -> io::Result<PathBuf> {
        let place = self.place(path)?;
        let target = fs::readlinkat(&place.parent, &place.name, Vec::new())?;
        Ok(PathBuf::from(OsString::from_vec(target.into_bytes())))
    }

    /// Makes one directory.
    pub fn mkdir(&self, path: &Path, mode: Mode) -> io::Result<()> {
        let place = self.place(path)?;
        Ok(fs::mkdirat(&place.parent, &place.name, mode)?)
    }

    /// Makes a symbolic link; its target is text and is not looked at.
    pub fn symlink(&self, target: &OsStr, path: &Path) -> io::Result<()> {
        let place = self.place(path)?;
        Ok(fs::symlinkat(target, &place.parent, &place.name)?)
    }

    /// Makes a hard link to `target`, which is beneath this root too and is not followed when it is a symbolic link.
    pub fn link(&self, target: &Path, path: &Path) -> io::Result<()> {
        let (from, to) = (self.place(target)?, self.place(path)?);
        Ok(fs::linkat(&from.parent, &from.name, &to.parent, &to.name, AtFlags::empty())?)
    }

    /// Makes a device, fifo or socket.
    pub fn mknod(&self, path: &Path, kind: FileType, mode: Mode, device: u64) -> io::Result<()> {
        let place = self.place(path)?;
        Ok(fs::mknodat(&place.parent, &place.name, kind, mode, device)?)
    }

    /// Renames within the root.
    pub fn rename(&self, from: &Path, to: &Path, flags: RenameFlags) -> io::Result<()> {
        let (from, to) = (self.place(from)?, self.place(to)?);
        Ok(fs::renameat_with(&from.parent, &from.name, &to.parent, &to.name, flags)?)
    }

    /// Removes what is no directory.
    pub fn unlink(&self, path: &Path) -> io::Result<()> {
        let place = self.place(path)?;
        Ok(fs::unlinkat(&place.parent, &place.name, AtFlags::empty())?)
    }

    /// Removes `path` and everything beneath it; see [`remove_all`].
    pub fn remove_all(&self, path: &Path) -> io::Result<()> {
        let place = self.place(path)?;
        remove_all(place.parent.as_fd(), &place.name)
    }
}

impl Place {
    /// What is there, without following it.
    pub fn metadata(&self) -> io::Result<Stat> {
        Ok(fs::statat(&self.parent, &self.name, AtFlags::SYMLINK_NOFOLLOW)?)
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

/// Removes `name` in `parent` and everything beneath it. Follows no link, enters no other mount, keeps few
/// descriptors however deep the tree is, and does not mind when it is gone already.
pub fn remove_all(parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    match fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    let Some(top) = open_child(parent, name)? else { return Ok(()) };
    empty(top.as_fd(), top.as_fd(), 0, &mut 0)?;
    match fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// How deep [`remove_all`] goes before it moves a directory up; each level holds a descriptor.
const DEPTH: usize = 32;

fn open_child(parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<Option<OwnedFd>> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    match fs::openat2(parent, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty(), resolve) {
        Ok(child) => Ok(Some(child)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn empty(top: BorrowedFd<'_>, directory: BorrowedFd<'_>, depth: usize, hoisted: &mut u64) -> io::Result<()> {
    let mut buffer = [MaybeUninit::<u8>::uninit(); 8192];
    // Entries may be skipped when others are removed while the directory is read, and the top directory gets new ones
    // from below: read until nothing is left.
    loop {
        let mut found = false;
        fs::seek(directory, fs::SeekFrom::Start(0))?;
        let mut entries = RawDir::new(directory, &mut buffer);
        while let Some(entry) = entries.next() {
            let entry = match entry {
                // Somebody else is at it, too, and has removed the directory itself.
                Err(Errno::NOENT) => return Ok(()),
                entry => entry?,
            };
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            let name = OsStr::from_bytes(name);
            found = true;
            if entry.file_type() != FileType::Directory {
                match fs::unlinkat(directory, name, AtFlags::empty()) {
                    Ok(()) | Err(Errno::NOENT) => continue,
                    Err(Errno::ISDIR | Errno::PERM) if entry.file_type() == FileType::Unknown => {}
                    Err(error) => return Err(error.into()),
                }
            }
            match fs::unlinkat(directory, name, AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT) => continue,
                Err(Errno::NOTEMPTY | Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
            if depth >= DEPTH {
                hoist(top, directory, name, hoisted)?;
                continue;
            }
            if let Some(child) = open_child(directory, name)? {
                empty(top, child.as_fd(), depth + 1, hoisted)?;
            }
            match fs::unlinkat(directory, name, AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if !found {
            return Ok(());
        }
    }
}

fn hoist(top: BorrowedFd<'_>, from: BorrowedFd<'_>, name: &OsStr, hoisted: &mut u64) -> io::Result<()> {
    loop {
        *hoisted += 1;
        match fs::renameat_with(from, name, top, format!(".hoisted-{hoisted}"), RenameFlags::NOREPLACE) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs as host;
    use std::os::unix::fs::symlink;

    /// A root with an `outside` next to it that nothing may touch.
    fn scene() -> (tempfile::TempDir, Root) {
        let directory = tempfile::tempdir().unwrap();
        host::create_dir(directory.path().join("root")).unwrap();
        host::create_dir(directory.path().join("outside")).unwrap();
        host::write(directory.path().join("outside/secret"), "secret").unwrap();
        let root = Root::open(&directory.path().join("root")).unwrap();
        (directory, root)
    }

    fn errno(error: io::Error) -> i32 {
        error.raw_os_error().unwrap()
    }

    #[test]
    fn links_and_dots_stay_inside() {
        let (directory, root) = scene();
        let inside = directory.path().join("root");
        symlink("/", inside.join("abs")).unwrap();
        symlink("../../../outside", inside.join("up")).unwrap();
        symlink(directory.path().join("outside"), inside.join("host")).unwrap();
        host::write(inside.join("file"), "inside").unwrap();
        let read = |path: &str| root.file(Path::new(path), OFlags::RDONLY, Mode::empty());
        assert!(read("abs/file").is_ok());
        assert!(read("/file").is_ok());
        assert!(read("../../file").is_ok());
        for path in ["up/secret", "host/secret", "../outside/secret", "abs/../outside/secret"] {
            assert_eq!(errno(read(path).unwrap_err()), Errno::NOENT.raw_os_error(), "{path}");
        }
        let error = root.file_without_links(Path::new("abs/file"), OFlags::RDONLY, Mode::empty()).unwrap_err();
        assert_eq!(errno(error), Errno::LOOP.raw_os_error());
        root.make_directory(Path::new("abs/../up/../made/deep"), Mode::from(0o755)).unwrap_err();
        root.make_directory(Path::new("abs/../../made/deep"), Mode::from(0o755)).unwrap();
        assert!(inside.join("made/deep").is_dir());
    }

    #[test]
    fn magic_links_are_refused() {
        let root = Root::open(Path::new("/proc/self")).unwrap();
        let error = root.file(Path::new("exe"), OFlags::RDONLY, Mode::empty()).unwrap_err();
        assert_eq!(errno(error), Errno::LOOP.raw_os_error());
    }

    #[test]
    fn the_last_name_is_never_followed_when_it_is_changed() {
        let (directory, root) = scene();
        let (inside, secret) = (directory.path().join("root"), directory.path().join("outside/secret"));
        symlink(&secret, inside.join("link")).unwrap();
        root.link(Path::new("link"), Path::new("hard")).unwrap();
        assert_eq!(root.read_link(Path::new("hard")).unwrap(), secret);
        root.mkdir(Path::new("/dir"), Mode::from(0o700)).unwrap();
        root.symlink(OsStr::new("../x"), Path::new("dir/y")).unwrap();
        root.mknod(Path::new("dir/fifo"), FileType::Fifo, Mode::from(0o600), 0).unwrap();
        root.rename(Path::new("link"), Path::new("dir/link"), RenameFlags::NOREPLACE).unwrap();
        assert_eq!(FileType::from_raw_mode(root.metadata(Path::new("dir/link")).unwrap().st_mode), FileType::Symlink);
        assert_eq!(FileType::from_raw_mode(root.metadata(Path::new("/")).unwrap().st_mode), FileType::Directory);
        root.unlink(Path::new("dir/link")).unwrap();
        for path in ["", "/", "..", "dir/.."] {
            assert_eq!(errno(root.mkdir(Path::new(path), Mode::empty()).unwrap_err()), 22, "{path}");
        }
        root.remove_all(Path::new("dir")).unwrap();
        assert!(!inside.join("dir").exists());
        assert_eq!(host::read_to_string(secret).unwrap(), "secret");
    }

    #[test]
    fn removing_everything_follows_nothing_and_is_not_stopped_by_depth() {
        let (directory, root) = scene();
        let inside = directory.path().join("root");
        host::create_dir_all(inside.join("tree/a/b")).unwrap();
        host::write(inside.join("tree/a/file"), "").unwrap();
        symlink(directory.path().join("outside"), inside.join("tree/link")).unwrap();
        let mut deep = root.directory(Path::new("tree/a/b")).unwrap();
        for _ in 0..1000 {
            deep.mkdir(Path::new("d"), Mode::from(0o700)).unwrap();
            deep.file(Path::new("f"), OFlags::CREATE | OFlags::WRONLY, Mode::from(0o600)).unwrap();
            deep = deep.directory(Path::new("d")).unwrap();
        }
        for n in 0..500 {
            host::write(inside.join(format!("tree/a/file{n}")), "").unwrap();
        }
        root.remove_all(Path::new("tree")).unwrap();
        root.remove_all(Path::new("tree")).unwrap();
        assert_eq!(host::read_dir(&inside).unwrap().count(), 0);
        assert!(directory.path().join("outside/secret").exists());
    }

    #[test]
    fn several_may_remove_the_same() {
        let (directory, root) = scene();
        let tree = directory.path().join("root/tree");
        for _ in 0..100 {
            for name in ["a/b/c", "d/e/f", "g/h/i", "j"] {
                host::create_dir_all(tree.join(name)).unwrap();
                host::write(tree.join(name).join("file"), "").unwrap();
            }
            std::thread::scope(|scope| {
                let all: Vec<_> = (0..3).map(|_| scope.spawn(|| root.remove_all(Path::new("tree")))).collect();
                all.into_iter().for_each(|one| one.join().unwrap().unwrap());
            });
            assert!(!tree.exists());
        }
    }

    #[test]
    fn removing_everything_stops_at_another_mount() {
        let (directory, root) = scene();
        let (inside, outside) = (directory.path().join("root"), directory.path().join("outside"));
        host::create_dir_all(inside.join("tree/mount")).unwrap();
        if rustix::mount::mount_bind(&outside, inside.join("tree/mount")).is_err() {
            // Without privilege there is no mount to be stopped by.
            return;
        }
        let result = root.remove_all(Path::new("tree"));
        rustix::mount::unmount(inside.join("tree/mount"), rustix::mount::UnmountFlags::DETACH).unwrap();
        result.unwrap_err();
        assert!(outside.join("secret").exists());
    }
}
