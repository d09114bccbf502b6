//! What is in a volume as a tar archive, and back: for copies that are kept elsewhere.

use std::io::{self, BufReader};
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use engine_sys::path::Root;
use futures_util::Stream;
use tokio::io::AsyncRead;
use tokio::sync::mpsc;

use super::{Error, Volume, blocking};
use crate::snapshot;
use crate::snapshot::decode::Decoded;
use crate::snapshot::pieces;
use crate::snapshot::tar::Archive;
use crate::snapshot::tree::{self, Manner, Packer, Top};

/// Bytes that are handed on at once, and how many such pieces may wait.
const PIECE: usize = 512 << 10;
const PIECES: usize = 4;

/// The files of a volume as a tar archive that is made as it is read. An error is the last item, and then the archive is not
/// complete.
#[derive(Debug)]
pub struct VolumeArchive {
    name: String,
    pieces: mpsc::Receiver<Result<Bytes, snapshot::Error>>,
}

impl Stream for VolumeArchive {
    type Item = Result<Bytes, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let piece = self.pieces.poll_recv(context);
        piece.map(|piece| piece.map(|piece| piece.map_err(|source| archive_failed(&self.name, source))))
    }
}

impl Volume {
    /// All that is in it. Who writes to it meanwhile is in it as far as the archive has not come there yet: stop those
    /// containers, or pause them, for a copy of one moment.
    ///
    /// # Errors
    /// When it is mounted by its options, so that its files are not the engine's, or cannot be opened.
    pub async fn export(&self) -> Result<VolumeArchive, Error> {
        let root = self.files()?;
        let (sender, pieces) = mpsc::channel(PIECES);
        let name = self.name.clone();
        let work = move || {
            let mut packer = Packer::new(sender.clone());
            let packed = packer.tree(root.into_fd(), Top::Directory(b".")).and_then(|()| packer.finish());
            if let Err(error) = packed {
                // Clients see no more than a stream that ends too early. Who has gone away needs nothing.
                if !sender.is_closed() {
                    tracing::error!(volume = %name, %error, "an archive of files breaks off");
                }
                let _ = sender.blocking_send(Err(error));
            }
        };
        self.on_thread("engine-pack", work)?;
        Ok(VolumeArchive { name: self.name.to_string(), pieces })
    }

    /// Unpacks a tar archive (plain, or compressed by gzip, zstd, xz or bzip2) into it: what is there under other names stays,
    /// and its own directory gets the owner and the mode that the archive says. When this returns, the files survive a loss of
    /// power.
    ///
    /// # Errors
    /// As [`Volume::export`], and when the archive is not sound; what came before stays then.
    pub async fn import(&self, archive: impl AsyncRead + Unpin) -> Result<(), Error> {
        let root = self.files()?;
        let (sink, source) = pieces::channel(PIECES);
        let (done, unpacked) = tokio::sync::oneshot::channel();
        let work = move || {
            let unpack = || {
                let read =
                    |error: io::Error| snapshot::Error::Host { what: "read the archive".to_owned(), source: error };
                let decoded = Decoded::any(source).map_err(read)?;
                let mut archive = Archive::new(BufReader::with_capacity(PIECE, decoded));
                tree::put(&mut archive, &root, b"", Manner { top: true, ..Manner::default() })?;
                // What follows the archive is nothing to us, but its sender wants to get rid of it.
                io::copy(&mut archive.into_inner(), &mut io::sink()).map(drop).map_err(read)
            };
            let _ = done.send(unpack());
        };
        self.on_thread("engine-put", work)?;
        let fed = sink.feed(archive, PIECE).await;
        let unpacked = unpacked
            .await
            .map_err(|_| Error::io(self.name.as_str(), "unpacking an archive", io::Error::other("interrupted")))?;
        match (fed, unpacked) {
            // The thread met the lost source and says no more than that.
            (Err(error), Err(_)) => return Err(Error::io(self.name.as_str(), "reading an archive", error)),
            (_, unpacked) => unpacked.map_err(|source| archive_failed(self.name.as_str(), source))?,
        }
        let (place, name) = (self.mountpoint.clone(), self.name.clone());
        blocking(self.name.as_str(), move || {
            let synced = std::fs::File::open(&place).and_then(|place| Ok(rustix::fs::syncfs(place)?));
            synced.map_err(|error| Error::io(name.as_str(), "writing its files to the disk", error))
        })
        .await
    }

    fn files(&self) -> Result<Root, Error> {
        if self.is_elsewhere() {
            let what = "its files are where its options say: copy them out of a container that uses it".to_owned();
            return Err(Error::Files { name: self.name.to_string(), what });
        }
        let place: &Path = &self.mountpoint;
        Root::open(place).map_err(|error| Error::io(self.name.as_str(), "opening its directory", error))
    }

    fn on_thread(&self, thread: &str, work: impl FnOnce() + Send + 'static) -> Result<(), Error> {
        let started = std::thread::Builder::new().name(thread.to_owned()).spawn(work);
        started.map(drop).map_err(|error| Error::io(self.name.as_str(), "starting a thread to copy its files", error))
    }
}

fn archive_failed(name: &str, source: snapshot::Error) -> Error {
    Error::Archive { name: name.to_owned(), source }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use futures_util::TryStreamExt;

    use super::super::tests::fixture;
    use super::super::{VolumeSpec, Volumes};
    use super::*;
    use crate::snapshot::tar;

    async fn exported(volumes: &Volumes, name: &str) -> Vec<u8> {
        let pieces: Vec<Bytes> = volumes.get(name).await.unwrap().export().await.unwrap().try_collect().await.unwrap();
        pieces.concat()
    }

    #[tokio::test]
    async fn what_is_in_one_is_had_again_in_another() {
        let f = fixture();
        let from = f.volumes.create(VolumeSpec::named("from")).await.unwrap();
        let at = from.mountpoint();
        fs::create_dir(at.join("deep")).unwrap();
        fs::write(at.join("deep/file"), "text").unwrap();
        std::os::unix::fs::chown(at.join("deep/file"), Some(70), Some(71)).unwrap();
        fs::set_permissions(at.join("deep/file"), fs::Permissions::from_mode(0o4640)).unwrap();
        fs::hard_link(at.join("deep/file"), at.join("other")).unwrap();
        symlink("/etc/passwd", at.join("link")).unwrap();
        std::os::unix::fs::chown(at, Some(70), Some(70)).unwrap();
        fs::set_permissions(at, fs::Permissions::from_mode(0o700)).unwrap();
        let archive = exported(&f.volumes, "from").await;

        let to = f.volumes.create(VolumeSpec::named("to")).await.unwrap();
        fs::write(to.mountpoint().join("stays"), "here").unwrap();
        to.import(&archive[..]).await.unwrap();
        let top = fs::metadata(to.mountpoint()).unwrap();
        assert_eq!((top.uid(), top.gid(), top.mode() & 0o7777), (70, 70, 0o700));
        let file = fs::metadata(to.mountpoint().join("deep/file")).unwrap();
        assert_eq!((file.uid(), file.gid(), file.mode() & 0o7777, file.nlink()), (70, 71, 0o4640, 2));
        assert_eq!(fs::read_link(to.mountpoint().join("link")).unwrap().to_str(), Some("/etc/passwd"));
        assert_eq!(fs::read(to.mountpoint().join("stays")).unwrap(), b"here");
    }

    #[tokio::test]
    async fn no_archive_leads_out_of_a_volume() {
        let f = fixture();
        let volume = f.volumes.create(VolumeSpec::named("data")).await.unwrap();
        symlink(f.root.path(), volume.mountpoint().join("out")).unwrap();
        for name in ["../escaped", "out/escaped", "/escaped"] {
            let mut writer = tar::Writer::new(Vec::new());
            writer.header(&tar::Entry::new(tar::Kind::File, name.as_bytes(), 0o644)).unwrap();
            let archive = writer.finish().unwrap();
            let _refused_or_within = volume.import(&archive[..]).await;
            assert!(
                !f.root.path().join("escaped").exists() && !f.root.path().join("volumes/escaped").exists(),
                "{name}"
            );
        }
        assert!(volume.import(&b"no archive at all"[..]).await.is_err());
    }

    #[tokio::test]
    async fn files_that_are_elsewhere_are_left_there() {
        let f = fixture();
        let spec = VolumeSpec::named("mem").option("type", "tmpfs").option("device", "tmpfs");
        let volume = f.volumes.create(spec).await.unwrap();
        assert!(volume.export().await.unwrap_err().to_string().contains("where its options say"));
        assert!(volume.import(&b""[..]).await.is_err());
    }
}
