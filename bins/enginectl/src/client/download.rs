//! The body of an answer as a file: the kernel hands what comes over the connection on, and nothing of it passes through this program.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use engine_sys::transfer::{Failed, receive_file};
use http::{Response, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};

use crate::error::Error;

/// An answer whose body has not been read.
#[derive(Debug)]
pub(crate) struct Download {
    response: Response<Incoming>,
    /// Where the body is to be had, if it has not gone to hyper.
    rest: Option<Rest>,
}

/// What follows the head of an answer.
#[derive(Debug)]
struct Rest {
    socket: OwnedFd,
    /// What was read of it together with the head.
    begun: Vec<u8>,
    /// Bytes of all of it.
    length: u64,
}

/// What was read beyond the head of an answer, once that is known to be one whose body hyper is not to have.
pub(super) type Begun = Arc<OnceLock<Vec<u8>>>;

/// A connection of whose answer hyper is given the head, and the body only if it is an error or has an unknown length.
#[derive(Debug)]
pub(super) struct Parted<S> {
    stream: S,
    head: Vec<u8>,
    /// How much of `head` hyper has.
    given: usize,
    course: Course,
    begun: Begun,
}

#[derive(Clone, Copy, Debug)]
enum Course {
    Head,
    Kept,
    Through,
}

/// Heads are not longer than this.
const MAXIMUM_HEAD: usize = 64 << 10;
const END_OF_HEAD: &[u8] = b"\r\n\r\n";

impl Download {
    /// An answer that came over `socket`, and what was kept of its body.
    pub(super) fn new(response: Response<Incoming>, socket: OwnedFd, begun: &Begun) -> Self {
        let length =
            response.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let rest = begun.get().zip(length).map(|(begun, length)| Rest { socket, begun: begun.clone(), length });
        Self { response, rest }
    }

    /// Writes the body to a file, a pipe or whatever else it is; `what` is it, for errors.
    pub(crate) async fn write_to(self, mut file: &File, what: &str) -> Result<(), Error> {
        let Some(Rest { socket, begun, length }) = self.rest else {
            let mut body = self.response.into_body();
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|source| Error::Http { what: format!("read {what}"), source })?;
                if let Ok(bytes) = frame.into_data() {
                    file.write_all(&bytes).map_err(Error::io(format!("write {what}")))?;
                }
            }
            return Ok(());
        };
        let begun = &begun[..begun.len().min(usize::try_from(length).unwrap_or(usize::MAX))];
        file.write_all(begun).map_err(Error::io(format!("write {what}")))?;
        // Nothing else is to be done meanwhile.
        receive_file(socket.as_fd(), file, length - begun.len() as u64).map_err(|failed| match failed {
            Failed::From(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Error::Protocol(format!("read {what}: the daemon cut it short"))
            }
            Failed::From(error) => Error::io(format!("read {what}"))(error),
            Failed::To(error) => Error::io(format!("write {what}"))(error),
        })
    }
}

impl<S> Parted<S> {
    /// A connection on which nothing has been read, and where what is beyond the head will be.
    pub(super) fn new(stream: S) -> (Self, Begun) {
        let begun = Begun::default();
        let parted = Self { stream, head: Vec::new(), given: 0, course: Course::Head, begun: Arc::clone(&begun) };
        (parted, begun)
    }

    fn take(&mut self, bytes: &[u8]) {
        // The end may lie across the seam.
        let from = self.head.len().saturating_sub(END_OF_HEAD.len() - 1);
        self.head.extend_from_slice(bytes);
        let found = self.head[from..].windows(END_OF_HEAD.len()).position(|window| window == END_OF_HEAD);
        if let Some(at) = found {
            let end = from + at + END_OF_HEAD.len();
            if is_kept(&self.head[..end]) {
                let _ = self.begun.set(self.head.split_off(end));
                self.course = Course::Kept;
            } else {
                self.course = Course::Through;
            }
        } else if self.head.len() > MAXIMUM_HEAD {
            self.course = Course::Through;
        }
    }
}

/// Whether the body is what was asked for, and of a known length.
fn is_kept(head: &[u8]) -> bool {
    let mut lines = head.split(|byte| *byte == b'\n');
    let is_ok = lines.next().is_some_and(|line| line.starts_with(b"HTTP/1.1 200 "));
    let names_length = |line: &[u8]| {
        const NAME: &[u8] = b"content-length:";
        line.get(..NAME.len()).is_some_and(|name| name.eq_ignore_ascii_case(NAME))
    };
    is_ok && lines.any(names_length)
}

impl<S: Read + Unpin> Read for Parted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut into: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if let Some(left) = this.head.get(this.given..).filter(|left| !left.is_empty()) {
                let length = left.len().min(into.remaining());
                into.put_slice(&left[..length]);
                this.given += length;
                return Poll::Ready(Ok(()));
            }
            match this.course {
                Course::Kept => return Poll::Pending,
                Course::Through => return Pin::new(&mut this.stream).poll_read(context, into),
                Course::Head => {
                    let mut bytes = [0; 4096];
                    let mut buffer = ReadBuf::new(&mut bytes);
                    ready!(Pin::new(&mut this.stream).poll_read(context, buffer.unfilled()))?;
                    if buffer.filled().is_empty() {
                        return Poll::Ready(Ok(()));
                    }
                    this.take(buffer.filled());
                }
            }
        }
    }
}

impl<S: Write + Unpin> Write for Parted<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::net::UnixListener;

    use super::super::{Client, Host, Query};
    use super::*;

    /// What a client that asks for a file gets of a daemon that answers so, in these pieces.
    async fn downloaded(pieces: &'static [&'static [u8]]) -> Result<Vec<u8>, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let answering = std::thread::spawn(move || {
            use std::io::Read as _;
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            while !request.ends_with(END_OF_HEAD) {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                request.push(byte[0]);
            }
            for piece in pieces {
                stream.write_all(piece).unwrap();
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
        });
        let client = Client::new(Host::Unix(path), Some("1.51".to_owned()), None).unwrap();
        let target = directory.path().join("target");
        let file = File::create(&target).unwrap();
        let ended = match client.download("/x", &Query::new()).await {
            Ok(download) => download.write_to(&file, "the archive").await,
            Err(error) => Err(error),
        };
        answering.join().unwrap();
        ended.map(|()| std::fs::read(&target).unwrap()).map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn a_body_of_known_length_is_not_read_by_hyper_and_any_other_is() {
        const ANSWERS: [&[&[u8]]; 4] = [
            &[b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789"],
            &[b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r", b"\n", b"01234", b"56789 and more"],
            &[b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"a\r\n0123456789\r\n0\r\n\r\n"],
            &[b"HTTP/1.1 200 OK\r\n\r\n01234", b"56789"],
        ];
        for pieces in ANSWERS {
            assert_eq!(downloaded(pieces).await.as_deref(), Ok(&b"0123456789"[..]), "{pieces:?}");
        }
        let refused =
            downloaded(&[b"HTTP/1.1 404 Not Found\r\nContent-Length: 22\r\n\r\n", b"{\"message\":\"not here\"}"]);
        assert!(refused.await.unwrap_err().contains("not here"));
    }

    #[tokio::test]
    async fn a_body_that_is_cut_short_is_an_error() {
        const ANSWERS: [&[&[u8]]; 2] = [
            &[b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n01234"],
            &[b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"a\r\n01234"],
        ];
        for pieces in ANSWERS {
            let error = downloaded(pieces).await.unwrap_err();
            assert!(error.contains("read the archive"), "{error}");
        }
    }
}
