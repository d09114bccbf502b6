//! Tar archives on their way between this machine's files and the daemon, made and unpacked by threads.

mod pack;
mod saved;
mod unpack;

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use tokio::sync::{mpsc, oneshot};

pub(crate) use pack::{Source, pack};
pub(crate) use saved::save;
pub(crate) use unpack::{Renamed, unpack};

use crate::error::Error;

/// Pieces that wait to be read.
const WAITING: usize = 4;
/// What is handed on at once.
const PIECE: usize = 256 << 10;

/// Bytes that have passed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Passed(Arc<AtomicU64>);

impl Passed {
    /// So many.
    pub(crate) fn bytes(&self) -> i64 {
        i64::try_from(self.0.load(Ordering::Relaxed)).unwrap_or(i64::MAX)
    }

    fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// A request's body that a thread writes.
pub(crate) fn body(
    passed: Passed,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()> + Send + 'static,
) -> Result<UnsyncBoxBody<Bytes, io::Error>, Error> {
    let (sender, receiver) = mpsc::channel::<io::Result<Bytes>>(WAITING);
    thread(move || {
        let mut pieces = Pieces { sender: sender.clone(), buffer: Vec::with_capacity(PIECE), passed };
        if let Err(error) = write(&mut pieces).and_then(|()| pieces.flush()) {
            // The request fails with it; without a request there is nobody to tell.
            let _ = sender.blocking_send(Err(error));
        }
    })?;
    let frames = stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|piece| (piece.map(Frame::data), receiver))
    });
    Ok(StreamBody::new(frames).boxed_unsync())
}

/// Lets a thread read what the daemon sends.
pub(crate) async fn read<T: Send + 'static>(
    what: &str,
    mut answer: Incoming,
    passed: &Passed,
    work: impl FnOnce(&mut dyn Read) -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let (sender, receiver) = mpsc::channel(WAITING);
    let (finished, result) = oneshot::channel();
    thread(move || {
        let mut reader = Arriving { receiver, current: Bytes::new(), ended: false };
        let _ = finished.send(work(&mut reader));
    })?;
    let mut broken = None;
    while let Some(frame) = answer.frame().await {
        match frame {
            Ok(frame) => {
                let Ok(bytes) = frame.into_data() else { continue };
                passed.add(bytes.len());
                if sender.send(Arrival::Data(bytes)).await.is_err() {
                    // The thread has what it wanted, or has failed.
                    break;
                }
            }
            Err(source) => {
                broken = Some(Error::Http { what: format!("read {what}"), source });
                break;
            }
        }
    }
    if broken.is_none() {
        let _ = sender.send(Arrival::End).await;
    }
    drop(sender);
    let result = result.await.map_err(|_| Error::Protocol(format!("the copy of {what} was interrupted")))?;
    match broken {
        Some(error) => Err(error),
        None => result,
    }
}

fn thread(work: impl FnOnce() + Send + 'static) -> Result<(), Error> {
    std::thread::Builder::new().name("archive".to_owned()).spawn(work).map(drop).map_err(Error::io("start a thread"))
}

/// Writes pieces to a channel.
struct Pieces {
    sender: mpsc::Sender<io::Result<Bytes>>,
    buffer: Vec<u8>,
    passed: Passed,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.len() >= PIECE {
            self.flush()?;
        }
        let step = bytes.len().min(PIECE - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..step]);
        Ok(step)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.passed.add(self.buffer.len());
        let piece = std::mem::replace(&mut self.buffer, Vec::with_capacity(PIECE));
        let gone = |_| io::Error::new(io::ErrorKind::BrokenPipe, "the daemon does not read any more");
        self.sender.blocking_send(Ok(Bytes::from(piece))).map_err(gone)
    }
}

enum Arrival {
    Data(Bytes),
    End,
}

/// Reads pieces from a channel; one that ends without saying so is an error.
struct Arriving {
    receiver: mpsc::Receiver<Arrival>,
    current: Bytes,
    ended: bool,
}

impl Read for Arriving {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() && !self.ended {
            match self.receiver.blocking_recv() {
                Some(Arrival::Data(bytes)) => self.current = bytes,
                Some(Arrival::End) => self.ended = true,
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
        let step = self.current.len().min(target.len());
        target[..step].copy_from_slice(&self.current.split_to(step));
        Ok(step)
    }
}
