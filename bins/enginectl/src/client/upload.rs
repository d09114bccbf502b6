//! A file as the body of a request: the kernel hands its pages to the connection, and nothing of it passes through this program.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use engine_sys::transfer::send_file;
use hyper::rt::{Read, ReadBufCursor, Write};
use rustix::net::Shutdown;
use tokio::sync::oneshot;

/// The rest of a file, of which it is known how long it is.
#[derive(Clone, Debug)]
pub(crate) struct Upload {
    file: Arc<File>,
    /// Where that begins, and how long it is, in bytes.
    at: u64,
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

impl Upload {
    /// What is left of a regular file; `None` of anything else.
    pub(crate) fn of(file: &File) -> io::Result<Option<Self>> {
        let found = file.metadata()?;
        if !found.is_file() {
            return Ok(None);
        }
        let at = rustix::fs::tell(file)?;
        let length = found.len().saturating_sub(at);
        // Files that the kernel makes up say that they have nothing.
        if length == 0 { Ok(None) } else { Ok(Some(Self { file: Arc::new(file.try_clone()?), at, length })) }
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

    fn pass(&self, socket: &OwnedFd) -> io::Result<()> {
        match send_file(socket.as_fd(), &self.file, self.at, self.length) {
            // The daemon has heard enough, and says why.
            Err(error) if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => Ok(()),
            sent => sent,
        }
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
    use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_file_is_sent_from_where_it_was_read_to() {
        let mut file = tempfile::tempfile().unwrap();
        let contents: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[1]).collect();
        file.write_all(&contents).unwrap();
        file.seek(SeekFrom::Start(1000)).unwrap();
        let upload = Upload::of(&file).unwrap().unwrap();
        assert_eq!(upload.length(), 2_999_000);
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let (head, written) = oneshot::channel();
        let failure = upload.send(ours.into(), written).unwrap();
        head.send(()).unwrap();
        let mut sent = Vec::new();
        theirs.read_to_end(&mut sent).unwrap();
        assert!(sent == contents[1000..] && failure.take().is_none());

        file.seek(SeekFrom::End(0)).unwrap();
        assert!(Upload::of(&file).unwrap().is_none(), "at its end");
        let (reader, _writer) = rustix::pipe::pipe().unwrap();
        assert!(Upload::of(&reader.into()).unwrap().is_none());
        assert!(Upload::of(&File::open("/proc/self/status").unwrap()).unwrap().is_none());
    }

    #[test]
    fn who_does_not_want_the_rest_is_not_sent_it_and_what_else_fails_is_told() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(64 << 20).unwrap();
        let upload = Upload::of(&file).unwrap().unwrap();
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let ours = OwnedFd::from(ours);
        std::thread::scope(|scope| {
            let sending = scope.spawn(|| upload.pass(&ours));
            theirs.read_exact(&mut [0; 100]).unwrap();
            drop(theirs);
            sending.join().unwrap().unwrap();
        });
        file.set_len(0).unwrap();
        let (ours, _theirs) = UnixStream::pair().unwrap();
        assert_eq!(upload.pass(&ours.into()).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
