//! Paths beneath a root that may be hostile: nothing is opened, made or mounted outside of it.

use core::ffi::CStr;

use crate::system::{self, Descriptor, Errno, Result};

const PATH_MAX: usize = 4096;
/// How many dangling links are followed to make what they point to.
const MAX_LINKS: usize = 40;

/// What a path has to end in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leaf {
    /// A directory; one that is missing is made with this mode.
    Directory(u32),
    /// Anything; an empty file is made when nothing is there.
    File,
}

/// Whether symbolic links count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Links {
    /// They are followed, as if the root were `/`.
    Follow,
    /// They are an error.
    Refuse,
}

impl Links {
    fn resolve(self) -> u64 {
        system::RESOLVE_IN_ROOT
            | match self {
                Self::Follow => system::RESOLVE_NO_MAGICLINKS,
                Self::Refuse => system::RESOLVE_NO_SYMLINKS,
            }
    }
}

/// Opens a path beneath `root`.
pub(crate) fn open(root: Descriptor, path: &CStr, flags: u64, links: Links) -> Result<Descriptor> {
    system::open_within(root, path, flags, 0, links.resolve())
}

/// A path that is being put together.
struct Path {
    bytes: [u8; PATH_MAX],
    length: usize,
}

impl Path {
    fn new(parts: &[&[u8]]) -> Result<Self> {
        let mut path = Self { bytes: [0; PATH_MAX], length: 0 };
        for part in parts {
            let end = path.length + part.len();
            // One byte is left for the NUL.
            path.bytes
                .get_mut(path.length..end)
                .filter(|_| end < PATH_MAX)
                .ok_or(Errno::NAMETOOLONG)?
                .copy_from_slice(part);
            path.length = end;
        }
        Ok(path)
    }

    /// The first `length` bytes as the kernel wants them.
    fn prefix(&mut self, length: usize, mut use_it: impl FnMut(&CStr) -> Result<Descriptor>) -> Result<Descriptor> {
        self.with(0, length, |path| use_it(path))
    }

    fn with<T>(&mut self, start: usize, end: usize, use_it: impl FnOnce(&CStr) -> Result<T>) -> Result<T> {
        let kept = self.bytes[end];
        self.bytes[end] = 0;
        let result = CStr::from_bytes_until_nul(&self.bytes[start..=end]).map_err(|_| Errno::INVAL).and_then(use_it);
        self.bytes[end] = kept;
        result
    }

    /// Where the next component starts and ends, from `from` on.
    fn component(&self, from: usize) -> Option<(usize, usize)> {
        let path = &self.bytes[..self.length];
        let start = from + path[from..].iter().position(|byte| *byte != b'/')?;
        let end = path[start..].iter().position(|byte| *byte == b'/').map_or(self.length, |length| start + length);
        Some((start, end))
    }
}

/// Opens (`O_PATH`) a path beneath `root` and makes what is missing of it, through dangling links as well.
pub(crate) fn ensure(root: Descriptor, path: &CStr, leaf: Leaf, links: Links) -> Result<Descriptor> {
    let flags = if leaf == Leaf::File { system::O_PATH } else { system::O_PATH | system::O_DIRECTORY };
    match open(root, path, flags, links) {
        Err(Errno::NOENT) => {}
        other => return other,
    }
    let mut path = Path::new(&[path.to_bytes()])?;
    for _ in 0..MAX_LINKS {
        match walk(root, &mut path, leaf, links)? {
            Step::Arrived(descriptor) => return Ok(descriptor),
            Step::Redirected(other) => path = other,
        }
    }
    Err(Errno::LOOP)
}

#[allow(clippy::large_enum_variant, reason = "there is no heap to put it in")]
enum Step {
    Arrived(Descriptor),
    Redirected(Path),
}

fn walk(root: Descriptor, path: &mut Path, leaf: Leaf, links: Links) -> Result<Step> {
    let mut parent = system::duplicate_above(root, 3)?;
    let mut from = 0;
    while let Some((start, end)) = path.component(from) {
        let last = path.component(end).is_none();
        let as_file = last && leaf == Leaf::File;
        let flags = if as_file { system::O_PATH } else { system::O_PATH | system::O_DIRECTORY };
        let next = match path.prefix(end, |prefix| open(root, prefix, flags, links)) {
            Err(Errno::NOENT) => match path.with(start, end, |name| make(parent, name, leaf, last)) {
                Err(Errno::EXIST) => {
                    let redirected =
                        if links == Links::Refuse { Err(Errno::LOOP) } else { redirect(parent, path, start, end) };
                    system::close(parent);
                    return redirected.map(Step::Redirected);
                }
                made => made,
            },
            opened => opened,
        };
        system::close(parent);
        parent = next?;
        from = end;
    }
    Ok(Step::Arrived(parent))
}

fn make(parent: Descriptor, name: &CStr, leaf: Leaf, last: bool) -> Result<Descriptor> {
    let flags = system::O_PATH | system::O_NOFOLLOW;
    match leaf {
        Leaf::File if last => {
            let made = system::open_at(parent, name, system::O_CREAT | system::O_EXCL | system::O_NOFOLLOW, 0o644)?;
            system::close(made);
            system::open_at(parent, name, flags, 0)
        }
        Leaf::Directory(mode) if last => {
            system::make_directory_at(parent, name, mode)?;
            system::open_at(parent, name, flags | system::O_DIRECTORY, 0)
        }
        _ => {
            system::make_directory_at(parent, name, 0o755)?;
            system::open_at(parent, name, flags | system::O_DIRECTORY, 0)
        }
    }
}

/// The path with the dangling link at `start..end` replaced by what it points to.
fn redirect(parent: Descriptor, path: &mut Path, start: usize, end: usize) -> Result<Path> {
    let mut target = [0; PATH_MAX];
    let length = path.with(start, end, |name| system::read_link_at(parent, name, &mut target))?;
    let target = target.get(..length).ok_or(Errno::NAMETOOLONG)?;
    let before = if target.starts_with(b"/") { &[][..] } else { &path.bytes[..start] };
    Path::new(&[before, target, &path.bytes[end..path.length]])
}

/// Opens the directory that a path's last component lies in, made if it is missing, and hands both on.
pub(crate) fn within_parent<T>(
    root: Descriptor,
    path: &CStr,
    use_them: impl FnOnce(Descriptor, &CStr) -> Result<T>,
) -> Result<T> {
    let bytes = path.to_bytes();
    let trimmed = bytes.iter().rposition(|byte| *byte != b'/').map_or(&[][..], |last| &bytes[..=last]);
    let start = trimmed.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    let name = &trimmed[start..];
    if name.is_empty() || name == b"." || name == b".." {
        return Err(Errno::INVAL);
    }
    let mut whole = Path::new(&[trimmed])?;
    let parent = if start == 0 {
        system::duplicate_above(root, 3)?
    } else {
        whole.prefix(start, |parent| ensure(root, parent, Leaf::Directory(0o755), Links::Follow))?
    };
    let end = whole.length;
    let result = whole.with(start, end, |name| use_them(parent, name));
    system::close(parent);
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CString;
    use std::os::fd::{AsRawFd, OwnedFd};
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    struct Tree {
        path: PathBuf,
        root: OwnedFd,
    }

    impl Tree {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(std::format!("engine-beneath-{}-{name}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            let root = std::fs::File::open(&path).unwrap().into();
            Self { path, root }
        }

        fn ensure(&self, path: &str, leaf: Leaf, links: Links) -> Result<()> {
            let path = CString::new(path).unwrap();
            ensure(self.root.as_raw_fd(), &path, leaf, links).map(system::close)
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }

    #[test]
    fn missing_directories_and_files_are_made() {
        let tree = Tree::new("made");
        tree.ensure("/a/b/c", Leaf::Directory(0o700), Links::Follow).unwrap();
        tree.ensure("a//x/file", Leaf::File, Links::Refuse).unwrap();
        tree.ensure("a/x/file", Leaf::File, Links::Refuse).unwrap();
        assert!(tree.path.join("a/b/c").is_dir() && tree.path.join("a/x/file").is_file());
        assert_eq!(tree.ensure("a/x/file/y", Leaf::File, Links::Follow), Err(Errno::NOTDIR));
    }

    #[test]
    fn links_stay_beneath_the_root() {
        let tree = Tree::new("links");
        let outside = Tree::new("outside");
        symlink(&outside.path, tree.path.join("escape")).unwrap();
        symlink("../../../../../../run", tree.path.join("run-link")).unwrap();
        symlink("escape/deep/file", tree.path.join("chain")).unwrap();
        tree.ensure("escape/made", Leaf::Directory(0o755), Links::Follow).unwrap();
        tree.ensure("run-link/x", Leaf::Directory(0o755), Links::Follow).unwrap();
        tree.ensure("chain", Leaf::File, Links::Follow).unwrap();
        assert_eq!(std::fs::read_dir(&outside.path).unwrap().count(), 0);
        let inside = tree.path.join(outside.path.strip_prefix("/").unwrap());
        assert!(inside.join("made").is_dir() && inside.join("deep/file").is_file());
        assert!(tree.path.join("run/x").is_dir());
        assert_eq!(tree.ensure("run-link/y", Leaf::File, Links::Refuse), Err(Errno::LOOP));
        symlink("nowhere", tree.path.join("dangling")).unwrap();
        assert!(tree.ensure("dangling", Leaf::File, Links::Refuse).is_err());
        assert!(!tree.path.join("nowhere").exists());
    }

    #[test]
    fn circles_end() {
        let tree = Tree::new("circle");
        symlink("two", tree.path.join("one")).unwrap();
        symlink("one", tree.path.join("two")).unwrap();
        symlink("grow/x", tree.path.join("grow")).unwrap();
        assert_eq!(tree.ensure("one/x", Leaf::File, Links::Follow), Err(Errno::LOOP));
        assert!(tree.ensure("grow", Leaf::File, Links::Follow).is_err());
    }

    #[test]
    fn a_name_is_made_in_its_parent() {
        let tree = Tree::new("parent");
        let make = |path: &CStr| {
            within_parent(tree.root.as_raw_fd(), path, |parent, name| system::make_link_at(c"target", parent, name))
        };
        make(c"/x/y/link//").unwrap();
        make(c"top").unwrap();
        assert_eq!(std::fs::read_link(tree.path.join("x/y/link")).unwrap().to_str(), Some("target"));
        assert!(tree.path.join("top").is_symlink());
        for bad in [c"", c"/", c"x/..", c"."] {
            assert_eq!(make(bad), Err(Errno::INVAL));
        }
    }
}
