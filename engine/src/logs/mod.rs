//! Reading what containers have written: json-file logs, from their end or their beginning, and on as they grow.

mod files;
pub(crate) mod pack;
mod piece;
mod read;
mod record;
pub(crate) mod remote;
mod watch;

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::Stream;
use tokio::sync::{mpsc, watch as state};

pub use record::Output;
pub use watch::Watcher;

use crate::error::ErrorKind;
use files::Files;
use read::Reader;

/// Batches that wait for whoever reads.
const WAITING: usize = 2;

/// Which lines of a log are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogOptions {
    /// Those of standard output.
    pub stdout: bool,
    /// Those of standard error.
    pub stderr: bool,
    /// Go on as the log grows, until the container stops.
    pub follow: bool,
    /// Only so many of the last lines that are there.
    pub tail: Option<u64>,
    /// Only from this time on, in nanoseconds since 1970.
    pub since: Option<i64>,
    /// Only up to this time, in nanoseconds since 1970.
    pub until: Option<i64>,
    /// Begin each line with its time and a space.
    pub timestamps: bool,
}

impl Default for LogOptions {
    /// Everything that is there now.
    fn default() -> Self {
        Self { stdout: true, stderr: true, follow: false, tail: None, since: None, until: None, timestamps: false }
    }
}

impl LogOptions {
    /// Sets [`LogOptions::follow`].
    #[must_use]
    pub fn follow(mut self, follow: bool) -> Self {
        self.follow = follow;
        self
    }

    /// Sets [`LogOptions::tail`].
    #[must_use]
    pub fn tail(mut self, lines: u64) -> Self {
        self.tail = Some(lines);
        self
    }

    /// Sets [`LogOptions::timestamps`].
    #[must_use]
    pub fn timestamps(mut self, timestamps: bool) -> Self {
        self.timestamps = timestamps;
        self
    }
}

/// A line of a log, or a piece of one that is longer than 16 KiB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// Where it was written to.
    pub output: Output,
    /// When, in nanoseconds since 1970.
    pub at: i64,
    /// It goes on where the last line of the same output ended.
    pub continued: bool,
    /// The time when that was asked for, and the message with its newline.
    pub bytes: Bytes,
}

/// Why a log cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file system refused.
    #[error("read the log {}: {source}", path.display())]
    Io {
        /// The log.
        path: PathBuf,
        /// The answer.
        source: io::Error,
    },
}

impl Error {
    /// What kind of thing went wrong.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => ErrorKind::Denied,
            Self::Io { .. } => ErrorKind::Internal,
        }
    }
}

/// The lines of a log. Dropping it ends the reading.
#[derive(Debug)]
pub struct LogStream {
    batches: mpsc::Receiver<Result<Vec<LogLine>, Error>>,
    current: std::vec::IntoIter<LogLine>,
}

impl LogStream {
    /// Everything that is there at once, much faster than line by line.
    pub async fn next_batch(&mut self) -> Option<Result<Vec<LogLine>, Error>> {
        if self.current.len() > 0 {
            return Some(Ok(std::mem::take(&mut self.current).collect()));
        }
        self.batches.recv().await
    }
}

impl Stream for LogStream {
    type Item = Result<LogLine, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(line) = self.current.next() {
                return Poll::Ready(Some(Ok(line)));
            }
            match self.batches.poll_recv(context) {
                Poll::Ready(Some(Ok(batch))) => self.current = batch.into_iter(),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

/// Reads the log `name` in `directory`. `running` tells whether its container still runs: a reader that follows ends
/// once it does not and everything has been read. A log that is not there is empty.
///
/// Must be called within a tokio runtime.
pub fn read(
    directory: &Path,
    name: &str,
    options: LogOptions,
    running: state::Receiver<bool>,
    watcher: &Watcher,
) -> LogStream {
    start(directory, name, options, running, watcher, None)
}

/// Reads what is there, of the present file only the bytes before `offset`: what a client gets that is connected there.
pub fn read_up_to(directory: &Path, name: &str, options: LogOptions, offset: u64) -> LogStream {
    let options = LogOptions { follow: false, ..options };
    start(directory, name, options, state::Sender::new(false).subscribe(), &Watcher::default(), Some(offset))
}

fn start(
    directory: &Path,
    name: &str,
    options: LogOptions,
    running: state::Receiver<bool>,
    watcher: &Watcher,
    end: Option<u64>,
) -> LogStream {
    let (sender, batches) = mpsc::channel(WAITING);
    let (directory, name) = (directory.to_owned(), name.to_owned());
    // Before the first look, so that nothing is written unnoticed.
    let growth = if options.follow { watcher.growth(&directory).map(Some) } else { Ok(None) };
    tokio::spawn(async move {
        let result = match growth {
            Ok(growth) => send_lines(&directory, name.clone(), options, (running, growth), end, &sender).await,
            Err(error) => Err(error),
        };
        if let Err(source) = result {
            // Nobody to tell when the reader is gone.
            let _ = sender.send(Err(Error::Io { path: directory.join(name), source })).await;
        }
    });
    LogStream { batches, current: Vec::new().into_iter() }
}

async fn send_lines(
    directory: &Path,
    name: String,
    options: LogOptions,
    (mut running, mut growth): (state::Receiver<bool>, Option<watch::Watch>),
    end: Option<u64>,
    sender: &mpsc::Sender<Result<Vec<LogLine>, Error>>,
) -> io::Result<()> {
    let until = options.until;
    let from = directory.to_owned();
    let mut reader = blocking(move || {
        let files = Files::open(&from, &name)?;
        Reader::open(if let Some(end) = end { files.end_at(end) } else { files }, options)
    })
    .await?;
    loop {
        // Looked at before reading: what was written before the end is in the file by then.
        let runs = *running.borrow_and_update();
        let (lines, back) = blocking(move || {
            let lines = reader.batch()?;
            Ok((lines, reader))
        })
        .await?;
        reader = back;
        if !lines.is_empty() {
            if sender.send(Ok(lines)).await.is_err() {
                return Ok(());
            }
            continue;
        }
        if reader.ended() {
            return Ok(());
        }
        let Some(growth) = &mut growth else { return Ok(()) };
        let (advanced, back) = blocking(move || {
            let advanced = reader.advance()?;
            Ok((advanced, reader))
        })
        .await?;
        reader = back;
        if advanced {
            continue;
        }
        if !runs || until.is_some_and(|until| until < now()) {
            return Ok(());
        }
        tokio::select! {
            () = sender.closed() => return Ok(()),
            grown = growth.next() => grown?,
            changed = running.changed() => {
                // Whoever knew is gone: the engine was closed.
                if changed.is_err() {
                    return Ok(());
                }
            }
            () = tokio::time::sleep(until_left(until)) => {}
        }
    }
}

fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

fn until_left(until: Option<i64>) -> std::time::Duration {
    const FOREVER: std::time::Duration = std::time::Duration::from_secs(1 << 30);
    until.map_or(FOREVER, |until| {
        std::time::Duration::from_nanos(u64::try_from(until.saturating_sub(now())).unwrap_or(0).saturating_add(1))
    })
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests;
