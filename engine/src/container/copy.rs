//! Files into a container and out of it, as tar archives, by Docker's rules for paths.

use std::ffi::OsString;
use std::io::{self, BufReader};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use engine_sys::path::Root;
use futures_util::Stream;
use rustix::fs::{FileType, Mode, OFlags, Stat, StatVfsMountFlags};
use rustix::io::Errno;
use tokio::io::AsyncRead;
use tokio::sync::{mpsc, oneshot};

use super::config::clean_path;
use super::view::View;
use super::{Container, Error, accounts};
use crate::id::ContainerId;
use crate::snapshot;
use crate::snapshot::decode::Decoded;
use crate::snapshot::pieces::{self, Source};
use crate::snapshot::tar::Archive;
use crate::snapshot::tree::{self, Manner, Packer, Top};

/// Bytes that are handed on at once, and how many such pieces may wait.
const PIECE: usize = 512 << 10;
const PIECES: usize = 4;
/// Links that are followed on one way, as with the kernel.
const MAX_LINKS: usize = 40;

/// What a path in a container is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PathStat {
    /// Its last name; `.` when all of a directory is meant, `/` for the root.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// Kind and permissions, as `st_mode` has them.
    pub mode: u32,
    /// When its content was changed: seconds and nanoseconds since 1970.
    pub modified: (i64, u32),
    /// Where a symbolic link leads in the end; empty for anything else.
    pub link_target: String,
}

/// How files are copied into a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CopyOptions {
    /// Refuse to put a directory where a file is, or a file where a directory is.
    pub same_kinds: bool,
    /// Give everything to the container's user instead of to whom the archive says.
    pub to_user: bool,
}

impl CopyOptions {
    /// Sets [`CopyOptions::same_kinds`].
    #[must_use]
    pub fn same_kinds(mut self, same_kinds: bool) -> Self {
        self.same_kinds = same_kinds;
        self
    }

    /// Sets [`CopyOptions::to_user`].
    #[must_use]
    pub fn to_user(mut self, to_user: bool) -> Self {
        self.to_user = to_user;
        self
    }
}

/// A tar archive as it is made. An error is the last item, and then the archive is not complete.
#[derive(Debug)]
pub struct ArchiveStream {
    pieces: mpsc::Receiver<Result<Bytes, snapshot::Error>>,
}

impl Stream for ArchiveStream {
    type Item = Result<Bytes, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.pieces.poll_recv(context).map(|piece| piece.map(|piece| piece.map_err(Error::Snapshot)))
    }
}

/// Makes an archive of a container's files on a thread of its own, which ends when nobody reads any more.
pub(super) fn pack(
    of: ContainerId,
    work: impl FnOnce(&mut Packer) -> Result<(), snapshot::Error> + Send + 'static,
) -> Result<ArchiveStream, Error> {
    let (sender, pieces) = mpsc::channel(PIECES);
    on_thread("engine-pack", move || {
        let mut packer = Packer::new(sender.clone());
        if let Err(error) = work(&mut packer).and_then(|()| packer.finish()) {
            // Clients see no more than a stream that ends too early. Who has gone away needs nothing.
            if !sender.is_closed() {
                tracing::error!(container = %of, %error, "an archive of files breaks off");
            }
            let _ = sender.blocking_send(Err(error));
        }
    })?;
    Ok(ArchiveStream { pieces })
}

fn on_thread(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), Error> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .map(drop)
        .map_err(|error| Error::Internal(format!("start a thread to copy files: {error}")))
}

/// A path as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Asked {
    /// Clean and absolute.
    path: String,
    /// What was asked for ended in `/` or `/.`: a directory is meant, and a link is followed.
    directory: bool,
    /// It ended in `/.`: what is in the directory is meant.
    contents: bool,
}

impl Asked {
    fn read(text: &str) -> Result<Self, Error> {
        if text.is_empty() {
            return Err(Error::invalid("bad parameter: 'path' cannot be empty"));
        }
        if text.contains('\0') {
            return Err(Error::invalid("bad parameter: 'path' has a zero byte"));
        }
        let contents = text == "." || text.ends_with("/.");
        let directory = contents || text.ends_with('/');
        Ok(Self { path: clean_path(&format!("/{text}")), directory, contents })
    }

    fn is_root(&self) -> bool {
        self.path == "/"
    }

    /// The last name as Docker shows it, which is also that of an archive's first entry.
    fn base(&self) -> &str {
        if self.contents {
            "."
        } else if self.is_root() {
            "/"
        } else {
            self.path.rsplit('/').next().unwrap_or("/")
        }
    }
}

/// A path that was found.
struct Found {
    parent: OwnedFd,
    name: OsString,
    stat: Stat,
}

impl Found {
    fn is_directory(&self) -> bool {
        FileType::from_raw_mode(self.stat.st_mode) == FileType::Directory
    }
}

fn find(root: &Root, asked: &Asked) -> io::Result<Found> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    if asked.is_root() || asked.directory {
        let parent = root.file(Path::new(&asked.path), flags, Mode::empty())?;
        let stat = rustix::fs::fstat(&parent)?;
        return Ok(Found { parent, name: OsString::from("."), stat });
    }
    let place = root.place(Path::new(&asked.path))?;
    let stat = place.metadata()?;
    Ok(Found { parent: place.parent, name: place.name, stat })
}

/// Where a path leads when all links are followed, as far as that is there.
fn follow(root: &Root, path: &Path) -> io::Result<PathBuf> {
    let mut reached = PathBuf::from("/");
    let mut rest: Vec<OsString> = parts(path);
    let mut links = 0;
    while let Some(part) = rest.pop() {
        if part == ".." {
            reached.pop();
            continue;
        }
        let next = reached.join(&part);
        let is_link =
            root.metadata(&next).is_ok_and(|found| FileType::from_raw_mode(found.st_mode) == FileType::Symlink);
        if !is_link {
            reached = next;
            continue;
        }
        links += 1;
        if links > MAX_LINKS {
            return Err(Errno::LOOP.into());
        }
        let target = root.read_link(&next)?;
        if target.is_absolute() {
            reached = PathBuf::from("/");
        }
        rest.extend(parts(&target));
    }
    Ok(reached)
}

/// The names of a path, the last one first.
fn parts(path: &Path) -> Vec<OsString> {
    let mut parts: Vec<OsString> = path
        .components()
        .filter_map(|part| match part {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some(OsString::from("..")),
            _ => None,
        })
        .collect();
    parts.reverse();
    parts
}

fn stat_of(root: &Root, asked: &Asked, found: &Found) -> io::Result<PathStat> {
    let is_link = FileType::from_raw_mode(found.stat.st_mode) == FileType::Symlink;
    let link_target =
        if is_link { follow(root, Path::new(&asked.path))?.to_string_lossy().into_owned() } else { String::new() };
    Ok(PathStat {
        name: asked.base().to_owned(),
        size: u64::try_from(found.stat.st_size).unwrap_or(0),
        mode: found.stat.st_mode,
        modified: (found.stat.st_mtime, u32::try_from(found.stat.st_mtime_nsec).unwrap_or(0)),
        link_target,
    })
}

impl Container {
    /// What `path` is. A link is not followed, unless `path` ends in `/` or `/.`.
    ///
    /// # Errors
    /// When there is no such path, or its files cannot be reached.
    pub async fn stat_path(&self, path: &str) -> Result<PathStat, Error> {
        let asked = Asked::read(path)?;
        let view = self.view().await?;
        let this = self.clone();
        let path = path.to_owned();
        super::inventory::blocking(move || {
            let found = find(view.root(), &asked).map_err(|error| this.not_found(&path, error))?;
            stat_of(view.root(), &asked, &found).map_err(|error| this.not_found(&path, error))
        })
        .await
    }

    /// `path` and everything beneath it as a tar archive, whose first entry is named like it. With `/.` at its end the
    /// first entry is `./`.
    ///
    /// # Errors
    /// When there is no such path, or its files cannot be reached. What goes wrong later is the last item of the stream.
    pub async fn copy_from(&self, path: &str) -> Result<(PathStat, ArchiveStream), Error> {
        let asked = Asked::read(path)?;
        let view = self.view().await?;
        let (this, text) = (self.clone(), path.to_owned());
        let answer = super::inventory::blocking(move || {
            let failed = |error| this.not_found(&text, error);
            let found = find(view.root(), &asked).map_err(failed)?;
            let stat = stat_of(view.root(), &asked, &found).map_err(failed)?;
            let directory = if found.is_directory() {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let directory = rustix::fs::openat(&found.parent, &found.name, flags, Mode::empty());
                Some(directory.map_err(|errno| failed(errno.into()))?)
            } else {
                None
            };
            if directory.as_ref().map_or_else(|| tree::is_made_up(&found.parent), tree::is_made_up) {
                return Err(Error::invalid(format!(
                    "{text} is on a file system that the kernel makes up, which is not copied: read it with exec"
                )));
            }
            let name = if asked.base() == "/" { String::new() } else { asked.base().to_owned() };
            let stream = pack(this.inner.id, move |packer| {
                let packed = match directory {
                    Some(directory) => packer.tree(directory, Top::Directory(name.as_bytes())),
                    None => packer.one(found.parent.as_fd(), &found.name, name.as_bytes()),
                };
                drop(view);
                packed
            })?;
            Ok((stat, stream))
        })
        .await?;
        self.shared.tell(&self.inner.record(), "archive-path", &[("path", path.to_owned())]);
        Ok(answer)
    }

    /// Unpacks a tar archive (plain, or compressed by gzip, zstd, xz or bzip2) into the directory `path`.
    ///
    /// # Errors
    /// When there is no such directory, it may not be written to, or the archive is not sound. What came before stays.
    pub async fn copy_to(
        &self,
        path: &str,
        archive: impl AsyncRead + Unpin,
        options: CopyOptions,
    ) -> Result<(), Error> {
        let asked = Asked::read(path)?;
        let view = self.view().await?;
        let (this, text) = (self.clone(), path.to_owned());
        let (view, manner) = super::inventory::blocking(move || {
            this.check_target(&view, &asked, &text)?;
            let user = this.inner.record().config.user.clone();
            let owner = match options.to_user && !user.is_empty() {
                true => Some(accounts::owner(view.root(), &user)?),
                false => None,
            };
            Ok((view, Manner { same_kinds: options.same_kinds, owner, ..Manner::default() }))
        })
        .await?;
        let base = clean_path(&format!("/{path}"));
        let (sink, source) = pieces::channel(PIECES);
        let (sender, receiver) = oneshot::channel();
        on_thread("engine-put", move || {
            let put = put(source, &view, base.trim_start_matches('/'), manner);
            drop(view);
            let _ = sender.send(put);
        })?;
        let fed = sink.feed(archive, PIECE).await;
        let put = receiver.await.map_err(|_| Error::Internal("the copy was interrupted".to_owned()))?;
        match (fed, put) {
            // The thread met the lost source and says no more than that.
            (Err(error), Err(_)) => return Err(Error::invalid(format!("the archive could not be read: {error}"))),
            (_, put) => put?,
        }
        self.shared.tell(&self.inner.record(), "extract-to-dir", &[("path", path.to_owned())]);
        Ok(())
    }

    fn check_target(&self, view: &View, asked: &Asked, path: &str) -> Result<(), Error> {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let directory = match view.root().file(Path::new(&asked.path), flags, Mode::empty()) {
            Err(error) if error.raw_os_error() == Some(Errno::NOTDIR.raw_os_error()) => {
                return Err(Error::invalid("extraction point is not a directory"));
            }
            directory => directory.map_err(|error| self.not_found(path, error))?,
        };
        let failed = |errno: Errno| Error::io("look at", path, errno);
        if rustix::fs::fstatvfs(&directory).map_err(failed)?.f_flag.contains(StatVfsMountFlags::RDONLY) {
            let device = rustix::fs::fstat(&directory).map_err(failed)?.st_dev;
            let of_root = rustix::fs::fstat(view.root()).map_err(failed)?.st_dev;
            return Err(Error::Denied(
                if device == of_root {
                    "container rootfs is marked read-only"
                } else {
                    "mounted volume is marked read-only"
                }
                .to_owned(),
            ));
        }
        Ok(())
    }

    fn not_found(&self, path: &str, error: io::Error) -> Error {
        match Errno::from_io_error(&error) {
            Some(Errno::NOENT) => Error::NoSuchPath { path: path.to_owned(), container: self.name() },
            Some(Errno::NOTDIR) => Error::invalid(format!("lstat {path}: not a directory")),
            Some(Errno::LOOP) => Error::invalid(format!("lstat {path}: too many levels of symbolic links")),
            Some(Errno::NAMETOOLONG) => Error::invalid(format!("lstat {path}: file name too long")),
            _ => Error::io("look at", path, error),
        }
    }
}

fn put(source: Source, view: &Arc<View>, base: &str, manner: Manner) -> Result<(), Error> {
    let read = |error: io::Error| Error::invalid(format!("the archive could not be read: {error}"));
    let decoded = Decoded::any(source).map_err(read)?;
    let mut archive = Archive::new(BufReader::with_capacity(PIECE, decoded));
    tree::put(&mut archive, view.root(), base.as_bytes(), manner)?;
    // What follows the archive is nothing to us, but its sender wants to get rid of it.
    io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(read)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn the_end_of_a_path_says_what_is_meant() {
        let read = |text: &str| {
            let asked = Asked::read(text).unwrap();
            (asked.base().to_owned(), asked.path, asked.directory)
        };
        for (text, base, path, directory) in [
            ("/a/b", "b", "/a/b", false),
            ("a//b/", "b", "/a/b", true),
            ("/a/b/.", ".", "/a/b", true),
            ("/a/../../b", "b", "/b", false),
            ("/", "/", "/", true),
            (".", ".", "/", true),
            ("..", "/", "/", false),
        ] {
            assert_eq!(read(text), (base.to_owned(), path.to_owned(), directory), "{text}");
        }
        assert!(Asked::read("").is_err() && Asked::read("a\0b").is_err());
    }

    #[test]
    fn links_are_followed_within_the_root() {
        let room = tempfile::tempdir().unwrap();
        let inside = |path: &str| room.path().join(path);
        std::fs::create_dir_all(inside("run/deep")).unwrap();
        std::fs::create_dir(inside("var")).unwrap();
        symlink("/run", inside("var/run")).unwrap();
        symlink("../../../var/run/deep", inside("up")).unwrap();
        symlink("missing/more", inside("broken")).unwrap();
        symlink("loop", inside("loop")).unwrap();
        let root = Root::open(room.path()).unwrap();
        for (path, target) in
            [("/var/run", "/run"), ("/up", "/run/deep"), ("/broken", "/missing/more"), ("/up/x/..", "/run/deep")]
        {
            assert_eq!(follow(&root, Path::new(path)).unwrap(), Path::new(target), "{path}");
        }
        assert!(follow(&root, Path::new("/loop")).is_err());
        let stat = |text: &str| {
            let asked = Asked::read(text).unwrap();
            find(&root, &asked).and_then(|found| stat_of(&root, &asked, &found))
        };
        assert_eq!(stat("/var/run").unwrap().link_target, "/run");
        let followed = stat("/var/run/").unwrap();
        assert_eq!((followed.name.as_str(), followed.link_target.as_str()), ("run", ""));
        assert!(stat("/broken/").is_err());
    }
}
