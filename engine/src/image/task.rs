//! Work that takes a while: a future of its result, and a stream of its progress beside it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::Stream;
use tokio::sync::mpsc;

use super::{Error, Image, Loaded, Pushed};

/// Work on images. It goes on while it is polled and ends, leaving nothing half done, when it is dropped.
#[must_use = "nothing happens until it is awaited"]
pub struct Task<T> {
    work: Pin<Box<dyn Future<Output = Result<T, Error>> + Send>>,
    progress: Option<ProgressStream>,
}

/// A pull: the image.
pub type Pull = Task<Image>;
/// A push: what was put where.
pub type Push = Task<Vec<Pushed>>;
/// A load: the images of the archive.
pub type Load = Task<Vec<Loaded>>;
/// An import: the image that was made.
pub type Import = Task<Image>;

impl<T> Task<T> {
    pub(super) fn new<F: Future<Output = Result<T, Error>> + Send + 'static>(make: impl FnOnce(Reporter) -> F) -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        let work = Box::pin(make(Reporter { sender }));
        Self { work, progress: Some(ProgressStream { receiver }) }
    }

    /// The progress, which ends when the work has ended. It moves on only while the work is polled, and can be taken
    /// once; afterwards it is empty.
    pub fn progress(&mut self) -> ProgressStream {
        self.progress.take().unwrap_or_else(|| ProgressStream { receiver: mpsc::unbounded_channel().1 })
    }
}

impl<T> Future for Task<T> {
    type Output = Result<T, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // Nobody asked for the progress: it must not pile up.
        self.progress = None;
        self.work.as_mut().poll(context)
    }
}

impl<T> fmt::Debug for Task<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Task")
    }
}

/// News of a [`Task`].
#[derive(Debug)]
pub struct ProgressStream {
    receiver: mpsc::UnboundedReceiver<Progress>,
}

impl Stream for ProgressStream {
    type Item = Progress;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Progress>> {
        self.receiver.poll_recv(context)
    }
}

/// One piece of news.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// What it is about: a layer's short id, or a tag.
    pub id: Option<String>,
    /// What is going on.
    pub status: Status,
}

/// What is going on; `Display` gives Docker's words.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Status {
    /// A layer is to be fetched.
    PullingFsLayer,
    /// It waits until others have been fetched.
    Waiting,
    /// It is being fetched.
    Downloading {
        /// Bytes so far.
        current: u64,
        /// Bytes in all.
        total: u64,
    },
    /// It has been fetched and is being checked.
    VerifyingChecksum,
    /// It has been fetched.
    DownloadComplete,
    /// It is being unpacked.
    Extracting {
        /// Compressed bytes so far.
        current: u64,
        /// Compressed bytes in all.
        total: u64,
    },
    /// It is done.
    PullComplete,
    /// It was there.
    AlreadyExists,
    /// The registry failed, and is asked again.
    Retrying {
        /// When, in seconds.
        seconds: u64,
    },
    /// A layer is to be pushed.
    Preparing,
    /// It is being compressed.
    Compressing {
        /// Bytes so far.
        current: u64,
        /// Bytes in all.
        total: u64,
    },
    /// It is being pushed.
    Pushing {
        /// Bytes so far.
        current: u64,
        /// Bytes in all.
        total: u64,
    },
    /// It was pushed.
    Pushed,
    /// The registry has it.
    LayerExists,
    /// The registry took it over from another repository.
    MountedFrom(String),
    /// An image was pushed; not for people.
    Result(Pushed),
    /// A line of text.
    Message(String),
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PullingFsLayer => "Pulling fs layer",
            Self::Waiting => "Waiting",
            Self::Downloading { .. } => "Downloading",
            Self::VerifyingChecksum => "Verifying Checksum",
            Self::DownloadComplete => "Download complete",
            Self::Extracting { .. } => "Extracting",
            Self::PullComplete => "Pull complete",
            Self::AlreadyExists => "Already exists",
            Self::Retrying { seconds } => {
                let unit = if *seconds == 1 { "second" } else { "seconds" };
                return write!(f, "Retrying in {seconds} {unit}");
            }
            Self::Preparing => "Preparing",
            Self::Compressing { .. } => "Compressing",
            Self::Pushing { .. } => "Pushing",
            Self::Pushed => "Pushed",
            Self::LayerExists => "Layer already exists",
            Self::MountedFrom(repository) => return write!(f, "Mounted from {repository}"),
            Self::Result(pushed) => return pushed.fmt(f),
            Self::Message(text) => text,
        })
    }
}

/// Where work tells its progress.
#[derive(Debug, Clone)]
pub(super) struct Reporter {
    sender: mpsc::UnboundedSender<Progress>,
}

impl Reporter {
    pub(super) fn tell(&self, id: Option<&str>, status: Status) {
        // Nobody listens: nobody misses it.
        let _ = self.sender.send(Progress { id: id.map(str::to_owned), status });
    }

    pub(super) fn message(&self, id: Option<&str>, text: impl Into<String>) {
        self.tell(id, Status::Message(text.into()));
    }
}

/// A count that is told now and then, not at each step.
#[derive(Debug)]
pub(super) struct Meter {
    told: Option<Instant>,
}

impl Meter {
    const PAUSE: Duration = Duration::from_millis(100);

    pub(super) fn new() -> Self {
        Self { told: None }
    }

    /// Whether it is time to tell again.
    pub(super) fn is_due(&mut self) -> bool {
        let now = Instant::now();
        let due = self.told.is_none_or(|told| now.duration_since(told) >= Self::PAUSE);
        if due {
            self.told = Some(now);
        }
        due
    }
}
