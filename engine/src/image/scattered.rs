//! One large layer over several connections: what comes is written where it belongs, and read in order by who unpacks it, so
//! that nothing piles up in memory. Whoever goes on with it later finds every piece of it.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bytes::{Bytes, BytesMut};
use futures_util::future;
use tokio::sync::{Notify, Semaphore};

use super::check::blocking;
use super::task::{Meter, Reporter, Status};
use super::unpack::PIECE;
use super::{Error, blob};
use crate::oci::Descriptor;
use crate::registry::{self, Session};
use crate::snapshot::pieces::Sink;

/// When a layer is fetched in several places at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scattering {
    /// Not before that many bytes have come over one connection, which shows whether it is what everybody waits for.
    pub(super) after: u64,
    /// Not when less than that is left.
    pub(super) rest: u64,
    /// What is asked for at once.
    pub(super) piece: u64,
}

impl Default for Scattering {
    fn default() -> Self {
        Self { after: 4 << 20, rest: 24 << 20, piece: 8 << 20 }
    }
}

/// What is written at once: few enough calls, and little memory for each connection.
const WRITE: usize = 1 << 20;
/// How long a further connection waits before it looks again whether one may be opened.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(100);

/// A layer on its way.
#[derive(Clone, Copy)]
pub(super) struct Fetch<'a> {
    pub(super) session: &'a Session,
    pub(super) descriptor: &'a Descriptor,
    /// Where its bytes go, in order.
    pub(super) sink: &'a Sink,
    /// How many connections there may be; one is taken.
    pub(super) permits: &'a Semaphore,
    pub(super) reporter: &'a Reporter,
    pub(super) piece: u64,
}

/// What several connections share.
struct Course<'a> {
    scatter: &'a blob::Scatter,
    /// Told when bytes have come.
    news: Notify,
    /// The first piece that nobody has begun with.
    next: AtomicUsize,
}

impl Fetch<'_> {
    /// Fetches everything from `at` on: how far it has come in order, and whether who reads has gone. A registry that gives
    /// blobs only as a whole leaves it where it was.
    pub(super) async fn scattered(&self, scatter: &blob::Scatter, at: u64) -> Result<(u64, bool), Error> {
        let (begun, piece) = (scatter.clone(), self.piece);
        blocking(move || Ok(begun.begin(at, piece)?)).await?;
        let sent = AtomicU64::new(at);
        let course = Course { scatter, news: Notify::new(), next: AtomicUsize::new(0) };
        let fetching = future::try_join_all((0..self.session.connections()).map(|number| self.fetch(&course, number)));
        let fetching = std::pin::pin!(fetching);
        let feeding = std::pin::pin!(self.feed(&course, &sent));
        let ended = match future::select(fetching, feeding).await {
            future::Either::Left((fetched, feeding)) => match fetched {
                Ok(_) => feeding.await,
                Err(error) => Err(error),
            },
            future::Either::Right((fed, _)) => fed,
        };
        match ended {
            Ok(gone) => Ok((sent.load(Ordering::Relaxed), gone)),
            Err(Error::Registry(registry::Error::NoRanges)) => {
                scatter.end();
                Ok((sent.load(Ordering::Relaxed), false))
            }
            Err(error) => Err(error),
        }
    }

    /// One connection: piece after piece, for as long as there are some.
    async fn fetch(&self, course: &Course<'_>, number: usize) -> Result<(), Error> {
        loop {
            // The first one has the layer's own permit; the others take what nobody else wants.
            let _permit = match number {
                0 => None,
                _ => loop {
                    if course.next.load(Ordering::Relaxed) >= course.scatter.pieces() {
                        return Ok(());
                    }
                    match self.permits.try_acquire() {
                        Ok(permit) => break Some(permit),
                        Err(_) => tokio::time::sleep(PAUSE).await,
                    }
                },
            };
            let index = course.next.fetch_add(1, Ordering::Relaxed);
            let Some(part) = course.scatter.left(index) else { return Ok(()) };
            if !part.is_empty() {
                self.piece(course, index, part).await?;
            }
        }
    }

    async fn piece(&self, course: &Course<'_>, index: usize, part: std::ops::Range<u64>) -> Result<(), Error> {
        let id = self.descriptor.digest.short();
        let tell = |status| self.reporter.tell(Some(&id), status);
        let mut reader = self.session.blob_part(self.descriptor, part);
        let mut meter = Meter::new();
        let mut ended = false;
        while !ended {
            let mut bytes = BytesMut::new();
            while bytes.len() < WRITE && !ended {
                match reader.chunk(|seconds| tell(Status::Retrying { seconds })).await? {
                    Some(chunk) => bytes.extend_from_slice(&chunk),
                    None => ended = true,
                }
            }
            let scatter = course.scatter.clone();
            blocking(move || Ok(scatter.write(index, &bytes)?)).await?;
            course.news.notify_one();
            if meter.is_due() {
                tell(Status::Downloading { current: course.scatter.have(), total: self.descriptor.size });
            }
        }
        Ok(())
    }

    /// Gives what has come to who unpacks it, in order: whether that one has gone.
    async fn feed(&self, course: &Course<'_>, sent: &AtomicU64) -> Result<bool, Error> {
        while sent.load(Ordering::Relaxed) < self.descriptor.size {
            let ready = course.scatter.ready().saturating_sub(sent.load(Ordering::Relaxed));
            let length = usize::try_from(ready).unwrap_or(usize::MAX).min(PIECE);
            if length == 0 {
                course.news.notified().await;
                continue;
            }
            let (scatter, at) = (course.scatter.clone(), sent.load(Ordering::Relaxed));
            let bytes = blocking(move || Ok(scatter.read(at, length)?)).await?;
            sent.store(at + length as u64, Ordering::Relaxed);
            if self.sink.send(Bytes::from(bytes)).await.is_err() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
