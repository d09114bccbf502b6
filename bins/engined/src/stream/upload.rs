//! What a client sends with a request, for who reads bytes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use hyper::body::{Body, Incoming};
use tokio::io::{AsyncRead, AsyncReadExt as _, ReadBuf};

/// The body of a request.
pub(crate) struct Upload {
    body: Incoming,
    chunk: Bytes,
}

impl Upload {
    /// All that `body` has.
    pub(crate) fn new(body: Incoming) -> Self {
        Self { body, chunk: Bytes::new() }
    }

    /// Reads what is still sent: a client that is in the midst of it would take a connection that is closed for the answer.
    pub(crate) async fn drain(&mut self) {
        const MOST: u64 = 64 << 20;
        const PATIENCE: Duration = Duration::from_secs(10);
        let _ = tokio::time::timeout(PATIENCE, tokio::io::copy(&mut self.take(MOST), &mut tokio::io::sink())).await;
    }
}

impl AsyncRead for Upload {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.chunk.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                None => return Poll::Ready(Ok(())),
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
                Some(Ok(frame)) => self.chunk = frame.into_data().unwrap_or_default(),
            }
        }
        let length = self.chunk.len().min(into.remaining());
        into.put_slice(&self.chunk[..length]);
        self.chunk.advance(length);
        if self.chunk.is_empty() {
            // Even an empty piece keeps the connection's buffer, which would be made anew for the next one.
            self.chunk = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}
