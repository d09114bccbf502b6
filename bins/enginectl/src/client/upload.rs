//! A file as the body of a request: the kernel hands its pages to the connection, and nothing of it passes through this program.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use hyper::rt::{Read, ReadBufCursor, Write};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::Shutdown;
use tokio::sync::oneshot;

/// The rest of a file, of which it is known how long it is.
#[derive(Clone, Debug)]
pub(crate) struct Upload {
    file: Arc<File>,
    length: u64,
}

/// What a file that is being sent met.
#[derive(Clone, Debug, Default)]
pub(super) struct Failure(Arc<Mutex<Option<io::Error>>>);

/// A connection that tells when the head of its first request has been written. For hyper that request has no body: who is
/// told sends it.
#[derive(Debug)]
pub(super) struct Heading<S> {
    stream: S,
    written: bool,
    head: Option<oneshot::Sender<()>>,
}

/// What is sent at once, in bytes.
const MOST: u64 = 1 << 20;
/// What is read at once, in bytes, where the kernel cannot hand it on.
const CHUNK: u64 = 256 << 10;

impl Upload {
    /// What is left of a regular file; `None` of anything else.
    pub(crate) fn of(file: &File) -> io::Result<Option<Self>> {
        let found = file.metadata()?;
        if !found.is_file() {
            return Ok(None);
        }
        let length = found.len().saturating_sub(rustix::fs::tell(file)?);
        // Files that the kernel makes up say that they have nothing.
        if length == 0 { Ok(None) } else { Ok(Some(Self { file: Arc::new(file.try_clone()?), length })) }
    }

    /// In bytes.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Sends it on a thread once `head` has come.
    pub(super) fn send(self, socket: OwnedFd, head: oneshot::Receiver<()>) -> io::Result<Failure> {
        let failure = Failure::default();
        let met = failure.clone();
        std::thread::Builder::new().name("archive".to_owned()).spawn(move || {
            if head.blocking_recv().is_err() {
                return;
            }
            if let Err(error) = self.pass(&socket) {
                met.lock().replace(error);
                // The daemon is not to wait for the rest.
                let _ = rustix::net::shutdown(&socket, Shutdown::Write);
            }
        })?;
        Ok(failure)
    }

    fn pass(mut self, socket: &OwnedFd) -> io::Result<()> {
        while self.length > 0 {
            let most = usize::try_from(self.length.min(MOST)).unwrap_or(usize::MAX);
            match rustix::fs::sendfile(socket, &*self.file, None, most) {
                Ok(0) => return Err(shorter()),
                Ok(sent) => self.length = self.length.saturating_sub(sent as u64),
                Err(Errno::AGAIN) => wait(socket)?,
                Err(Errno::INTR) => {}
                // The daemon has heard enough, and says why.
                Err(Errno::PIPE | Errno::CONNRESET) => return Ok(()),
                // Some file systems do not give their pages.
                Err(Errno::INVAL | Errno::NOSYS) => return self.copy(socket),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn copy(mut self, socket: &OwnedFd) -> io::Result<()> {
        let mut chunk = Vec::new();
        while self.length > 0 {
            chunk.clear();
            let read = (&*self.file).take(self.length.min(CHUNK)).read_to_end(&mut chunk)?;
            if read == 0 {
                return Err(shorter());
            }
            self.length -= read as u64;
            let mut rest = chunk.as_slice();
            while !rest.is_empty() {
                match rustix::io::write(socket, rest) {
                    Ok(written) => rest = &rest[written..],
                    Err(Errno::AGAIN) => wait(socket)?,
                    Err(Errno::INTR) => {}
                    Err(Errno::PIPE | Errno::CONNRESET) => return Ok(()),
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }
}

fn shorter() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "it became shorter meanwhile")
}

fn wait(socket: &OwnedFd) -> io::Result<()> {
    match poll(&mut [PollFd::new(socket, PollFlags::OUT)], None) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

impl Failure {
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<io::Error>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The failure, if there was one.
    pub(super) fn take(&self) -> Option<io::Error> {
        self.lock().take()
    }
}

impl<S> Heading<S> {
    /// A connection on which nothing has been written, and when its head is.
    pub(super) fn new(stream: S) -> (Self, oneshot::Receiver<()>) {
        let (head, written) = oneshot::channel();
        (Self { stream, written: false, head: Some(head) }, written)
    }
}

impl<S: Read + Unpin> Read for Heading<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl<S: Write + Unpin> Write for Heading<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.written = true;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    /// Flushed is what has been written whole.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(context))?;
        if self.written
            && let Some(head) = self.head.take()
        {
            let _ = head.send(());
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::{Seek as _, SeekFrom, Write as _};
    use std::os::unix::net::UnixStream;

    fn received(upload: Upload, as_copy: bool) -> (Vec<u8>, Option<io::Error>) {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let reading = std::thread::spawn(move || {
            let mut all = Vec::new();
            theirs.read_to_end(&mut all).map(|_| all)
        });
        let failure = if as_copy {
            upload.copy(&ours.into()).err()
        } else {
            let (head, written) = oneshot::channel();
            let failure = upload.send(ours.into(), written).unwrap();
            head.send(()).unwrap();
            let all = reading.join().unwrap().unwrap();
            return (all, failure.take());
        };
        (reading.join().unwrap().unwrap(), failure)
    }

    #[test]
    fn a_file_is_sent_from_where_it_was_read_to() {
        let mut file = tempfile::tempfile().unwrap();
        let contents: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[1]).collect();
        file.write_all(&contents).unwrap();
        for as_copy in [false, true] {
            file.seek(SeekFrom::Start(1000)).unwrap();
            let upload = Upload::of(&file).unwrap().unwrap();
            assert_eq!(upload.length(), 2_999_000);
            let (sent, failure) = received(upload, as_copy);
            assert!(sent == contents[1000..] && failure.is_none());
        }
        assert!(Upload::of(&file).unwrap().is_none(), "at its end");
        let (reader, _writer) = rustix::pipe::pipe().unwrap();
        assert!(Upload::of(&reader.into()).unwrap().is_none());
        assert!(Upload::of(&File::open("/proc/self/status").unwrap()).unwrap().is_none());
    }

    #[test]
    fn a_file_that_becomes_shorter_is_an_error() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[7; 5000]).unwrap();
        for as_copy in [false, true] {
            file.set_len(5000).unwrap();
            file.rewind().unwrap();
            let upload = Upload::of(&file).unwrap().unwrap();
            file.set_len(300).unwrap();
            let (sent, failure) = received(upload, as_copy);
            assert_eq!(sent.len(), 300);
            assert_eq!(failure.unwrap().kind(), io::ErrorKind::UnexpectedEof);
        }
    }

    #[test]
    fn who_does_not_want_the_rest_is_not_sent_it() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(64 << 20).unwrap();
        for as_copy in [false, true] {
            let upload = Upload::of(&file).unwrap().unwrap();
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            let sending =
                std::thread::spawn(move || if as_copy { upload.copy(&ours.into()) } else { upload.pass(&ours.into()) });
            theirs.read_exact(&mut [0; 100]).unwrap();
            drop(theirs);
            sending.join().unwrap().unwrap();
            (&file).rewind().unwrap();
        }
    }
}
