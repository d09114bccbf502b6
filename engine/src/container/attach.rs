//! Connecting clients to the standard streams of a container.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;

use super::Error;
use crate::logs::Output;

/// The longest sequence that a monitor takes.
const MAX_DETACH_KEYS: usize = 32;

/// What a client is connected to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AttachOptions {
    /// What it sends goes to standard input.
    pub stdin: bool,
    /// It gets standard output.
    pub stdout: bool,
    /// It gets standard error.
    pub stderr: bool,
    /// First what was written before.
    pub logs: bool,
    /// Then what is written from now on.
    pub stream: bool,
    /// What detaches it when it is typed at a terminal.
    pub detach_keys: DetachKeys,
}

impl AttachOptions {
    /// All three streams from now on.
    #[must_use]
    pub fn all() -> Self {
        Self { stdin: true, ..Self::output() }
    }

    /// Standard output and error from now on.
    #[must_use]
    pub fn output() -> Self {
        Self { stdout: true, stderr: true, stream: true, ..Self::default() }
    }

    /// Sets [`AttachOptions::logs`].
    #[must_use]
    pub fn logs(mut self, logs: bool) -> Self {
        self.logs = logs;
        self
    }

    /// Sets [`AttachOptions::detach_keys`].
    #[must_use]
    pub fn detach_keys(mut self, keys: DetachKeys) -> Self {
        self.detach_keys = keys;
        self
    }
}

/// The sequence of keys that detaches a client from a terminal; `ctrl-p,ctrl-q` unless another is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DetachKeys(Vec<u8>);

impl Default for DetachKeys {
    fn default() -> Self {
        Self(vec![16, 17])
    }
}

impl DetachKeys {
    /// The bytes that the keys send.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl std::str::FromStr for DetachKeys {
    type Err = Error;

    /// Reads keys as Docker writes them: single characters and `ctrl-` with a letter or one of `@[\]^_`, between commas.
    fn from_str(text: &str) -> Result<Self, Error> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let key = |word: &str| match word.as_bytes() {
            [byte] => Some(*byte),
            [b'c' | b'C', b't' | b'T', b'r' | b'R', b'l' | b'L', b'-', key] => match key.to_ascii_lowercase() {
                letter @ b'a'..=b'z' => Some(letter - b'a' + 1),
                b'@' => Some(0),
                sign @ b'['..=b'_' => Some(sign - b'[' + 27),
                _ => None,
            },
            _ => None,
        };
        let keys: Option<Vec<u8>> = text.split(',').map(key).collect();
        keys.filter(|keys| keys.len() <= MAX_DETACH_KEYS)
            .map(Self)
            .ok_or_else(|| Error::invalid(format!("Invalid detach keys ({text}) provided")))
    }
}

/// A connection to the streams of a process: what is written to it goes to standard input, what is read from it is the
/// output. With a terminal that is the terminal's, otherwise both outputs as they come; [`Attached::next_output`] tells
/// them apart. Shut its writing side down to end standard input.
#[derive(Debug)]
pub struct Attached {
    stream: UnixStream,
    framed: bool,
    /// Output that comes before what the stream has, and frames that are not complete yet.
    before: BytesMut,
    /// What is left of the frame that is being read.
    rest_of_frame: (Option<Output>, usize),
}

const FRAME_HEADER: usize = 8;

impl Attached {
    pub(super) fn new(stream: UnixStream, framed: bool, before: BytesMut) -> Self {
        Self { stream, framed, before, rest_of_frame: (None, 0) }
    }

    /// The next output and which of the two it is (a terminal has only standard output); nothing at the end.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn next_output(&mut self) -> io::Result<Option<(Output, Bytes)>> {
        if !self.framed {
            if self.before.is_empty() && self.stream.read_buf(&mut self.before).await? == 0 {
                return Ok(None);
            }
            return Ok(Some((Output::Stdout, self.before.split().freeze())));
        }
        loop {
            if let Some(output) = self.take_frame() {
                return Ok(Some(output));
            }
            if self.stream.read_buf(&mut self.before).await? == 0 {
                return Ok(None);
            }
        }
    }

    /// A frame, or as much of it as there is.
    fn take_frame(&mut self) -> Option<(Output, Bytes)> {
        while self.rest_of_frame.1 == 0 {
            let header = self.before.get(..FRAME_HEADER)?;
            let length = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
            let output = if header[0] == 2 { Output::Stderr } else { Output::Stdout };
            self.rest_of_frame = (Some(output), usize::try_from(length).unwrap_or(usize::MAX));
            self.before.advance(FRAME_HEADER);
        }
        if self.before.is_empty() {
            return None;
        }
        let length = self.rest_of_frame.1.min(self.before.len());
        self.rest_of_frame.1 -= length;
        Some((self.rest_of_frame.0.unwrap_or(Output::Stdout), self.before.split_to(length).freeze()))
    }
}

impl AsyncRead for Attached {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.framed {
            if self.before.is_empty() {
                return Pin::new(&mut self.stream).poll_read(context, out);
            }
            let length = self.before.len().min(out.remaining());
            out.put_slice(&self.before.split_to(length));
            return Poll::Ready(Ok(()));
        }
        loop {
            if let Some((_, mut bytes)) = self.take_frame() {
                let length = bytes.len().min(out.remaining());
                out.put_slice(&bytes.split_to(length));
                if !bytes.is_empty() {
                    // What does not fit is the rest of the frame again.
                    let mut rest = BytesMut::from(&bytes[..]);
                    rest.unsplit(std::mem::take(&mut self.before));
                    self.before = rest;
                    self.rest_of_frame.1 += bytes.len();
                }
                return Poll::Ready(Ok(()));
            }
            let mut block = [0; 16 << 10];
            let mut buffer = ReadBuf::new(&mut block);
            match Pin::new(&mut self.stream).poll_read(context, &mut buffer) {
                Poll::Ready(Ok(())) if buffer.filled().is_empty() => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(())) => self.before.extend_from_slice(buffer.filled()),
                other => return other,
            }
        }
    }
}

impl AsyncWrite for Attached {
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
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    #[test]
    fn detach_keys_are_read() {
        let bytes = |text: &str| text.parse::<DetachKeys>().map(|keys| keys.0);
        assert_eq!(bytes("").unwrap(), [16, 17]);
        assert_eq!(bytes("ctrl-a,x,ctrl-@,CTRL-_").unwrap(), [1, b'x', 0, 31]);
        for wrong in ["ctrl-", "ctrl-1", "ab", ",", &["a"; 33].join(",")] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
        assert_eq!(bytes("shift-a").unwrap_err().to_string(), "Invalid detach keys (shift-a) provided");
    }

    fn framed(parts: &[(u8, &str)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (number, text) in parts {
            bytes.extend_from_slice(&[*number, 0, 0, 0]);
            bytes.extend_from_slice(&u32::try_from(text.len()).unwrap().to_be_bytes());
            bytes.extend_from_slice(text.as_bytes());
        }
        bytes
    }

    #[tokio::test]
    async fn frames_are_told_apart_wherever_they_are_cut() {
        let bytes = framed(&[(1, "out"), (2, "error"), (1, "")]);
        for cut in 0..bytes.len() {
            let (mut peer, ours) = UnixStream::pair().unwrap();
            let mut attached = Attached::new(ours, true, BytesMut::from(&bytes[..cut]));
            peer.write_all(&bytes[cut..]).await.unwrap();
            drop(peer);
            let (mut out, mut err) = (String::new(), String::new());
            while let Some((output, bytes)) = attached.next_output().await.unwrap() {
                let text = if output == Output::Stdout { &mut out } else { &mut err };
                *text += std::str::from_utf8(&bytes).unwrap();
            }
            assert_eq!((out.as_str(), err.as_str()), ("out", "error"), "{cut}");
        }
    }

    #[tokio::test]
    async fn reading_takes_the_frames_away() {
        let (mut peer, ours) = UnixStream::pair().unwrap();
        peer.write_all(&framed(&[(1, "hello "), (2, "world")])).await.unwrap();
        drop(peer);
        let mut attached = Attached::new(ours, true, BytesMut::new());
        let mut two = [0; 2];
        attached.read_exact(&mut two).await.unwrap();
        let mut rest = String::new();
        attached.read_to_string(&mut rest).await.unwrap();
        assert_eq!((&two, rest.as_str()), (b"he", "llo world"));
    }
}
