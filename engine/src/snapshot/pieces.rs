//! Bytes on their way between the async side and threads, or between threads: bounded, and an end that was reached is
//! told apart from a sender that went away.

use std::io::{self, BufRead, Read};
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::sync::mpsc;

use crate::oci::{Digest, Hasher};

enum Piece {
    Data(Bytes),
    /// What all of it was, and how much, if that was asked for.
    End(Option<(Digest, u64)>),
}

/// The side that gives bytes.
#[derive(Debug)]
pub(crate) struct Sink {
    sender: mpsc::Sender<Piece>,
}

/// As [`Sink`], for threads that have the time to hash what they give.
#[derive(Debug)]
pub(crate) struct HashingSink {
    sender: mpsc::Sender<Piece>,
    hasher: Hasher,
    total: u64,
}

/// The side that reads them, on a thread.
#[derive(Debug)]
pub(crate) struct Source {
    receiver: mpsc::Receiver<Piece>,
    current: Bytes,
    ended: bool,
    hashed: Option<(Digest, u64)>,
}

/// A reader whose bytes can be had where they lie.
pub(crate) trait Pieces: BufRead {
    /// What comes next, and not more than `most`; empty at the end.
    fn piece(&mut self, most: usize) -> io::Result<Bytes>;
}

/// Pieces of what a reader writes elsewhere.
#[derive(Debug)]
pub(crate) struct Filled<R> {
    reader: R,
    buffers: Buffers,
    current: Bytes,
}

/// The reader went away: it has failed, and knows why.
#[derive(Debug)]
pub(crate) struct Gone;

/// Buffers of one size, which come back when what was in them has been read: however much passes, the memory for it is asked for
/// once. They go with the last of those who have them.
#[derive(Debug, Clone)]
pub(crate) struct Buffers {
    size: usize,
    spare: Spare,
}

type Spare = Arc<Mutex<Vec<Vec<u8>>>>;

/// A buffer that is to be filled; what it holds is what somebody left in it.
#[derive(Debug)]
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    filled: usize,
    spare: Spare,
}

impl Buffers {
    pub(crate) fn new(size: usize) -> Self {
        Self { size, spare: Spare::default() }
    }

    pub(crate) fn take(&self) -> Buffer {
        let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let bytes = spare.unwrap_or_else(|| vec![0; self.size]);
        Buffer { bytes, filled: 0, spare: self.spare.clone() }
    }
}

impl Buffer {
    /// Its first bytes, to be handed on.
    pub(crate) fn filled(mut self, length: usize) -> Bytes {
        self.filled = length.min(self.bytes.len());
        Bytes::from_owner(self)
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.filled]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner).push(std::mem::take(&mut self.bytes));
    }
}

/// `pieces` are waited for at most, before the giving side has to.
pub(crate) fn channel(pieces: usize) -> (Sink, Source) {
    let (sender, receiver) = mpsc::channel(pieces);
    (Sink { sender }, Source { receiver, current: Bytes::new(), ended: false, hashed: None })
}

/// As [`channel`]; the side that reads learns with the end what everything was.
pub(crate) fn hashed(pieces: usize) -> (HashingSink, Source) {
    let (Sink { sender }, source) = channel(pieces);
    (HashingSink { sender, hasher: Hasher::new(), total: 0 }, source)
}

impl Sink {
    pub(crate) async fn send(&self, bytes: Bytes) -> Result<(), Gone> {
        self.sender.send(Piece::Data(bytes)).await.map_err(|_| Gone)
    }

    /// Gives all of `source`, in pieces that are as large as what comes without waiting, but not larger than `most`.
    pub(crate) async fn feed(self, mut source: impl AsyncRead + Unpin, most: usize) -> io::Result<()> {
        let buffers = Buffers::new(most);
        loop {
            let mut buffer = buffers.take();
            let mut filled = source.read(&mut buffer).await?;
            let mut ended = filled == 0;
            // Small ones would wake the thread for each. Who gives them, as the connection of a request, may be in the same task and
            // need a turn before it has more.
            let mut had_turn = false;
            while !ended && filled < most {
                let more = std::pin::pin!(source.read(&mut buffer[filled..]));
                match futures_util::poll!(more) {
                    Poll::Ready(read) => {
                        let read = read?;
                        filled += read;
                        (ended, had_turn) = (read == 0, false);
                    }
                    Poll::Pending if had_turn => break,
                    Poll::Pending => {
                        had_turn = true;
                        tokio::task::yield_now().await;
                    }
                }
            }
            // A reader that is gone has its reasons, which its thread tells.
            if filled > 0 && self.send(buffer.filled(filled)).await.is_err() {
                return Ok(());
            }
            if ended {
                let _ = self.finish().await;
                return Ok(());
            }
        }
    }

    pub(crate) async fn finish(self) -> Result<(), Gone> {
        self.sender.send(Piece::End(None)).await.map_err(|_| Gone)
    }

    /// For threads.
    pub(crate) fn send_blocking(&self, bytes: Bytes) -> Result<(), Gone> {
        self.sender.blocking_send(Piece::Data(bytes)).map_err(|_| Gone)
    }

    /// For threads.
    pub(crate) fn finish_blocking(self) -> Result<(), Gone> {
        self.sender.blocking_send(Piece::End(None)).map_err(|_| Gone)
    }
}

impl HashingSink {
    pub(crate) fn send(&mut self, bytes: Bytes) -> Result<(), Gone> {
        self.hasher.update(&bytes);
        self.total += bytes.len() as u64;
        self.sender.blocking_send(Piece::Data(bytes)).map_err(|_| Gone)
    }

    pub(crate) fn finish(self) -> Result<(), Gone> {
        let hashed = (self.hasher.finish(), self.total);
        self.sender.blocking_send(Piece::End(Some(hashed))).map_err(|_| Gone)
    }
}

impl Source {
    /// What all of it was, and how much, once it has ended; nothing when the other side does not hash.
    pub(super) fn hashed(&self) -> Option<(Digest, u64)> {
        self.hashed
    }
}

impl BufRead for Source {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.current.is_empty() && !self.ended {
            match self.receiver.blocking_recv() {
                Some(Piece::Data(bytes)) => self.current = bytes,
                Some(Piece::End(hashed)) => (self.ended, self.hashed) = (true, hashed),
                None => return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "cancelled")),
            }
        }
        Ok(&self.current)
    }

    fn consume(&mut self, length: usize) {
        let _ = self.current.split_to(length.min(self.current.len()));
    }
}

impl Pieces for Source {
    fn piece(&mut self, most: usize) -> io::Result<Bytes> {
        let length = self.fill_buf()?.len().min(most);
        Ok(self.current.split_to(length))
    }
}

impl<R: Read> Filled<R> {
    /// In buffers of these.
    pub(crate) fn new(reader: R, buffers: Buffers) -> Self {
        Self { reader, buffers, current: Bytes::new() }
    }
}

impl<R: Read> BufRead for Filled<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.current.is_empty() {
            let mut buffer = self.buffers.take();
            let filled = fill(&mut self.reader, &mut buffer)?;
            self.current = buffer.filled(filled);
        }
        Ok(&self.current)
    }

    fn consume(&mut self, length: usize) {
        let _ = self.current.split_to(length.min(self.current.len()));
    }
}

impl<R: Read> Pieces for Filled<R> {
    fn piece(&mut self, most: usize) -> io::Result<Bytes> {
        let length = self.fill_buf()?.len().min(most);
        Ok(self.current.split_to(length))
    }
}

impl<R: Read> Read for Filled<R> {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        read_buffered(self, target)
    }
}

impl<T: Pieces + ?Sized> Pieces for Box<T> {
    fn piece(&mut self, most: usize) -> io::Result<Bytes> {
        (**self).piece(most)
    }
}

/// Reads until the buffer is full or nothing comes any more: how much that was.
pub(crate) fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

impl Read for Source {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        read_buffered(self, target)
    }
}

/// `Read::read` of whatever has its own buffer.
pub(crate) fn read_buffered(reader: &mut impl BufRead, target: &mut [u8]) -> io::Result<usize> {
    let buffer = reader.fill_buf()?;
    let length = buffer.len().min(target.len());
    target[..length].copy_from_slice(&buffer[..length]);
    reader.consume(length);
    Ok(length)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::pin::Pin;
    use std::task::Context;

    use super::*;

    #[tokio::test]
    async fn what_comes_without_waiting_is_one_piece() {
        let (sink, mut source) = channel(8);
        let (mut from, to) = tokio::io::duplex(64);
        let feeding = tokio::spawn(sink.feed(to, 1000));
        let reading = std::thread::spawn(move || {
            let mut all = Vec::new();
            source.read_to_end(&mut all).map(|_| all)
        });
        for byte in 0..100_u8 {
            tokio::io::AsyncWriteExt::write_all(&mut from, &[byte; 33]).await.unwrap();
        }
        drop(from);
        feeding.await.unwrap().unwrap();
        let expected: Vec<u8> = (0..100_u8).flat_map(|byte| [byte; 33]).collect();
        assert_eq!(reading.join().unwrap().unwrap(), expected);

        let (sink, mut source) = channel(8);
        let slices: &[u8] = &[7; 900];
        sink.feed(tokio::io::AsyncReadExt::chain(slices, &[8; 200][..]), 1000).await.unwrap();
        let first = std::thread::spawn(move || source.fill_buf().unwrap().len());
        assert_eq!(first.join().unwrap(), 1000);
    }

    /// Has ten bytes at every other turn.
    struct Turns {
        left: usize,
        waits: bool,
    }

    impl AsyncRead for Turns {
        fn poll_read(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            into: &mut tokio::io::ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            self.waits = !self.waits;
            if self.waits {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            if self.left > 0 {
                self.left -= 1;
                into.put_slice(&[9; 10]);
            }
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn who_has_a_little_at_each_turn_is_waited_for() {
        let (sink, mut source) = channel(8);
        sink.feed(Turns { left: 50, waits: false }, 1000).await.unwrap();
        let first = std::thread::spawn(move || source.fill_buf().unwrap().len());
        assert_eq!(first.join().unwrap(), 500);
    }

    #[test]
    fn what_passes_needs_memory_once() {
        let buffers = Buffers::new(4);
        let mut places = std::collections::BTreeSet::new();
        for round in 0..100_u8 {
            let mut buffer = buffers.take();
            buffer.fill(round);
            places.insert(buffer.as_ptr());
            let mut bytes = buffer.filled(usize::from(round % 5));
            let all = bytes.clone();
            assert_eq!(bytes.split_to(bytes.len() / 2).len() + bytes.len(), all.len());
            assert_eq!(all, vec![round; usize::from(round % 5)]);
        }
        assert_eq!(places.len(), 1);
        // One that somebody still reads is not given away, and outlives the others.
        let (held, other) = (buffers.take().filled(4), buffers.take());
        assert!(held.as_ptr() != other.as_ptr());
        drop((buffers, other));
        assert_eq!(held, [99; 4][..]);
    }

    #[test]
    fn pieces_are_had_where_they_lie() {
        let (sink, mut source) = channel(2);
        let bytes = Bytes::from(vec![7; 100]);
        sink.send_blocking(bytes.clone()).unwrap();
        sink.finish_blocking().unwrap();
        assert_eq!(source.fill_buf().unwrap().len(), 100);
        source.consume(10);
        let pieces = [source.piece(30).unwrap(), source.piece(100).unwrap(), source.piece(1).unwrap()];
        assert_eq!(pieces.each_ref().map(Bytes::len), [30, 60, 0]);
        assert!(std::ptr::eq(pieces[1].as_ptr(), &raw const bytes[40]));
    }

    #[test]
    fn what_is_read_elsewhere_fills_its_pieces() {
        let slow = io::Read::chain(&[1; 7][..], &[2; 6][..]);
        let mut filled = Filled::new(slow, Buffers::new(10));
        assert_eq!(filled.piece(4).unwrap(), [1; 4][..]);
        assert_eq!(filled.fill_buf().unwrap(), [1, 1, 1, 2, 2, 2]);
        filled.consume(5);
        assert_eq!(filled.piece(100).unwrap(), [2; 1][..]);
        assert_eq!((filled.piece(100).unwrap(), filled.piece(100).unwrap()), ([2; 3][..].into(), Bytes::new()));
    }

    #[test]
    fn what_is_hashed_by_its_giver_is_told_with_the_end() {
        let (mut sink, mut source) = hashed(2);
        let giving = std::thread::spawn(move || {
            for piece in ["a", "", "bc"] {
                sink.send(Bytes::from(piece)).unwrap();
            }
            sink.finish().unwrap();
        });
        assert_eq!((source.fill_buf().unwrap().len(), source.hashed()), (1, None));
        source.read_to_end(&mut Vec::new()).unwrap();
        assert_eq!(source.hashed(), Some((Digest::of(b"abc"), 3)));
        giving.join().unwrap();
        let (mut sink, mut source) = hashed(2);
        sink.send(Bytes::from("a")).unwrap();
        drop(sink);
        source.read_to_end(&mut Vec::new()).unwrap_err();
        assert_eq!(source.hashed(), None);
    }

    #[test]
    fn an_end_is_an_end_and_a_loss_is_an_error() {
        let (sink, mut source) = channel(2);
        std::thread::spawn(move || {
            for piece in ["a", "", "bc"] {
                sink.send_blocking(Bytes::from(piece)).unwrap();
            }
            sink.finish_blocking().unwrap();
        });
        let mut text = String::new();
        source.read_to_string(&mut text).unwrap();
        assert_eq!((text.as_str(), source.hashed()), ("abc", None));
        let (sink, mut source) = channel(2);
        sink.send_blocking(Bytes::from("a")).unwrap();
        drop(sink);
        source.read_to_string(&mut text).unwrap_err();
        let (sink, source) = channel(2);
        drop(source);
        assert!(sink.send_blocking(Bytes::new()).is_err());
    }
}
