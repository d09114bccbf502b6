//! What happened, told to whoever listens: one bounded ring that every subscription reads at its own pace.
//!
//! A subscription costs a number and no memory: it is a place in the ring. A reader who is slower than the ring is
//! long is told how many events it missed; the publisher never waits for anybody. The journal on disk fills the ring of the
//! next engine. Times are unique and grow, so that the time of an event is the place to go on from.

mod event;
mod journal;

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

pub use event::{Event, EventType};
use futures_util::Stream;
use journal::Journal;

/// How many of the latest events are kept.
pub const KEPT: usize = 2048;

/// The engine's news. Clones share one ring.
#[derive(Debug, Clone, Default)]
pub struct Events {
    ring: Arc<Mutex<Ring>>,
}

#[derive(Debug, Default)]
struct Ring {
    kept: VecDeque<Arc<Event>>,
    /// The number that the next event gets; the oldest kept one has `next - kept.len()`.
    next: u64,
    wakers: BTreeMap<u64, Waker>,
    next_reader: u64,
    readers: usize,
    /// The time of the last event, in nanoseconds since 1970.
    last: i64,
    journal: Option<Journal>,
}

impl Events {
    /// An empty ring.
    pub fn new() -> Self {
        Self::default()
    }

    /// A ring that is filled from the journal in `directory`, and written down there. One that cannot be written to is done
    /// without.
    pub(crate) fn open(directory: &Path) -> Self {
        let events = Self::default();
        let mut ring = events.lock();
        ring.kept = journal::latest(directory, KEPT).into_iter().map(Arc::new).collect();
        ring.next = ring.kept.len() as u64;
        ring.last = ring.kept.back().map_or(0, |event| event.at_nanos);
        match Journal::open(directory) {
            Ok(journal) => ring.journal = Some(journal),
            Err(error) => tracing::warn!(directory = %directory.display(), %error, "events are not written down"),
        }
        drop(ring);
        events
    }

    /// Tells everybody. Never waits for a reader.
    pub fn publish(&self, mut event: Event) {
        let wakers = {
            let mut ring = self.lock();
            event.at_nanos = event.at_nanos.max(ring.last + 1);
            ring.last = event.at_nanos;
            if let Some(journal) = &mut ring.journal
                && let Err(error) = journal.write(&event)
            {
                tracing::warn!(%error, "an event is not written down");
            }
            if ring.kept.len() == KEPT {
                ring.kept.pop_front();
            }
            ring.kept.push_back(Arc::new(event));
            ring.next += 1;
            std::mem::take(&mut ring.wakers)
        };
        for waker in wakers.into_values() {
            waker.wake();
        }
    }

    /// Reads what is published from now on.
    pub fn subscribe(&self) -> Subscription {
        self.subscription(|ring| ring.next)
    }

    /// Reads the kept events from `since` (nanoseconds since 1970) on, then what follows, without a hole or a repeat.
    pub fn subscribe_since(&self, since: i64) -> Subscription {
        self.subscription(|ring| {
            let newer = ring.kept.iter().position(|event| event.at_nanos >= since).unwrap_or(ring.kept.len());
            ring.oldest() + newer as u64
        })
    }

    /// The kept events from `since` (nanoseconds since 1970) on, oldest first.
    pub fn recent(&self, since: i64) -> Vec<Arc<Event>> {
        self.lock().kept.iter().filter(|event| event.at_nanos >= since).cloned().collect()
    }

    /// How many read what is published.
    pub fn readers(&self) -> usize {
        self.lock().readers
    }

    fn subscription(&self, start: impl FnOnce(&Ring) -> u64) -> Subscription {
        let mut ring = self.lock();
        let reader = ring.next_reader;
        ring.next_reader += 1;
        ring.readers += 1;
        let position = start(&ring);
        drop(ring);
        Subscription { ring: Arc::clone(&self.ring), position, reader }
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        lock(&self.ring)
    }
}

fn lock(ring: &Mutex<Ring>) -> MutexGuard<'_, Ring> {
    // Nothing below can panic half way through a change.
    ring.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Ring {
    fn oldest(&self) -> u64 {
        self.next - self.kept.len() as u64
    }
}

/// What a subscription reads.
#[derive(Debug, Clone)]
pub enum News {
    /// The next event.
    Event(Arc<Event>),
    /// The reader was too slow: so many events were overwritten before it came.
    Missed(u64),
}

/// One reader's place in the ring; a [`Stream`] of [`News`] that never ends by itself.
#[derive(Debug)]
pub struct Subscription {
    ring: Arc<Mutex<Ring>>,
    position: u64,
    reader: u64,
}

impl Subscription {
    /// Waits for the next event. Safe to cancel: nothing is lost.
    pub async fn next(&mut self) -> News {
        std::future::poll_fn(|context| self.poll(context)).await
    }

    /// The next event when there is one already.
    pub fn try_next(&mut self) -> Option<News> {
        let ring = Arc::clone(&self.ring);
        self.read(&lock(&ring))
    }

    fn read(&mut self, ring: &Ring) -> Option<News> {
        let missed = ring.oldest().saturating_sub(self.position);
        if missed > 0 {
            self.position += missed;
            return Some(News::Missed(missed));
        }
        let event = ring.kept.get(usize::try_from(self.position - ring.oldest()).ok()?)?;
        self.position += 1;
        Some(News::Event(Arc::clone(event)))
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<News> {
        let shared = Arc::clone(&self.ring);
        let mut ring = lock(&shared);
        if let Some(news) = self.read(&ring) {
            return Poll::Ready(news);
        }
        ring.wakers.insert(self.reader, context.waker().clone());
        Poll::Pending
    }
}

impl Stream for Subscription {
    type Item = News;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<News>> {
        self.poll(context).map(Some)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut ring = lock(&self.ring);
        ring.readers -= 1;
        ring.wakers.remove(&self.reader);
    }
}

#[cfg(test)]
mod tests;
