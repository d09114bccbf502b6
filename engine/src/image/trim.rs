//! Making room: what crashed programs left goes first, then the images that nobody has used for the longest time, those
//! without a name before the others, and at last the compressed layers of what is left. What a container has stays, and so
//! does what somebody has used a moment ago or is pulling.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{Error, Image, Images, Removed, Task, tag, unpack};
use crate::state::Table;

/// How room is made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TrimOptions {
    /// Bytes that all images may take together; images are removed until they do. When not given, none is.
    pub to: Option<u64>,
    /// Images that were used more recently than this are not removed.
    pub spare: Duration,
    /// Give up all compressed layers that can be made again, whatever there is room for.
    pub compressed: bool,
}

impl TrimOptions {
    /// Removes images until they take no more than that many bytes.
    #[must_use]
    pub fn to(bytes: u64) -> Self {
        Self { to: Some(bytes), ..Self::default() }
    }

    /// Gives up the compressed layers.
    #[must_use]
    pub fn compressed() -> Self {
        Self { compressed: true, ..Self::default() }
    }

    /// Sets [`TrimOptions::spare`].
    #[must_use]
    pub fn spare(mut self, spare: Duration) -> Self {
        self.spare = spare;
        self
    }
}

/// What making room did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Trimmed {
    /// Names and images that went.
    pub removed: Vec<Removed>,
    /// Compressed layers that went; their contents are still here.
    pub compressed: usize,
    /// Bytes of everything that went.
    pub reclaimed: u64,
    /// Bytes that all images take now.
    pub taken: u64,
}

/// So much later than what was spared may go is looked again.
const AFTERWARDS: Duration = Duration::from_millis(100);

/// Whether somebody in this program is making room by itself, or has still to.
#[derive(Debug, Default)]
pub(super) struct Trimming {
    wanted: AtomicBool,
    running: AtomicBool,
    /// Somebody looks again later.
    waiting: AtomicBool,
}

#[cfg(test)]
impl Trimming {
    pub(super) fn is_busy(&self) -> bool {
        self.running.load(Ordering::SeqCst)
    }
}

impl Images {
    /// Makes room. Nothing that is whole becomes less than whole: after a crash an image is there, or it is not.
    ///
    /// An image whose compressed layers went can still be saved, and pushed. A registry that has its layers is asked for
    /// none of them and keeps its digest; for another one they are compressed again, which gives the same digest when it was
    /// this engine that had compressed them.
    pub fn trim(&self, options: TrimOptions) -> Task<Trimmed> {
        let images = self.clone();
        Task::new(move |_| async move { super::check::blocking(move || images.trim_blocking(&options)).await })
    }

    fn trim_blocking(&self, options: &TrimOptions) -> Result<Trimmed, Error> {
        let before = self.costs()?;
        let mut trimmed = Trimmed::default();
        let spare = i64::try_from(options.spare.as_nanos()).unwrap_or(i64::MAX);
        let last = tag::now().saturating_sub(spare);
        let fits = || match options.to {
            Some(most) => Ok::<_, Error>(self.costs()?.total() <= most),
            None => Ok(true),
        };
        self.collect_garbage()?;
        if !fits()? {
            self.shared.blobs.forget_partials()?;
            // One that goes may leave another without anything built upon it.
            loop {
                let mut gone = false;
                for image in self.unused(last)? {
                    if fits()? {
                        break;
                    }
                    let removed = self.remove_unused(image.id(), last)?;
                    gone |= !removed.is_empty();
                    trimmed.removed.extend(removed);
                }
                if !gone || fits()? {
                    break;
                }
            }
        }
        if options.compressed || !fits()? {
            trimmed.compressed = self.compact(last, || if options.compressed { Ok(false) } else { fits() })?;
        }
        let after = self.costs()?;
        trimmed.reclaimed = before.gone(&after);
        trimmed.taken = after.total();
        Ok(trimmed)
    }

    /// The images that no container has and that nobody has used since, the first to go first.
    fn unused(&self, last: i64) -> Result<Vec<Image>, Error> {
        let mut unused = self.by_last_use()?;
        unused.retain(|image| image.last_used() <= last);
        let mut free = Vec::new();
        for image in unused {
            if !self.has_container(&image)? {
                free.push(image);
            }
        }
        // Nobody can ask for what has no name.
        free.sort_by_key(|image| !(image.references().is_empty() && image.digests().is_empty()));
        Ok(free)
    }

    /// All images, the one that was used last at the end.
    pub(super) fn by_last_use(&self) -> Result<Vec<Image>, Error> {
        self.shared.state.read(|state| {
            let mut images = Vec::new();
            for key in state.keys(Table::Image)? {
                if let Ok(id) = key.parse() {
                    images.extend(Image::read(state, &id)?);
                }
            }
            images.sort_by_key(|image| (image.last_used(), *image.id()));
            Ok(images)
        })
    }

    /// Makes room beside, if images take more than they may. Whoever has stored something has not to wait for it.
    pub(crate) fn keep_to_quota(&self) {
        let Some(quota) = self.room.quota else { return };
        let trimming = &self.shared.trimming;
        trimming.wanted.store(true, Ordering::SeqCst);
        if trimming.running.swap(true, Ordering::SeqCst) {
            return;
        }
        let images = self.clone();
        if let Err(error) = unpack::spawn("engine-trim", move || images.keep_to(quota)) {
            self.shared.trimming.running.store(false, Ordering::SeqCst);
            tracing::warn!(%error, "no room is made for images");
        }
    }

    fn keep_to(&self, quota: u64) {
        let trimming = &self.shared.trimming;
        loop {
            while trimming.wanted.swap(false, Ordering::SeqCst) {
                self.keep_to_once(quota);
            }
            trimming.running.store(false, Ordering::SeqCst);
            // Somebody may have wanted it between the two.
            if !trimming.wanted.load(Ordering::SeqCst) || trimming.running.swap(true, Ordering::SeqCst) {
                return;
            }
        }
    }

    /// Makes room once more when what was used a moment ago no longer was. Whoever closes the engine has not to wait for it.
    fn look_again(&self) -> Result<(), Error> {
        let mut spared = None;
        for image in self.by_last_use()? {
            if !self.has_container(&image)? {
                spared = Some(image.last_used());
                break;
            }
        }
        let Some(used) = spared else { return Ok(()) };
        if self.shared.trimming.waiting.swap(true, Ordering::SeqCst) {
            return Ok(());
        }
        let since = Duration::from_nanos(u64::try_from(tag::now().saturating_sub(used)).unwrap_or(0));
        let wait = self.room.spare.saturating_sub(since).saturating_add(AFTERWARDS);
        let (shared, room) = (Arc::downgrade(&self.shared), self.room.clone());
        let later = move || {
            std::thread::sleep(wait);
            let Some(shared) = shared.upgrade() else { return };
            shared.trimming.waiting.store(false, Ordering::SeqCst);
            Self { shared, room }.keep_to_quota();
        };
        let started = unpack::spawn("engine-trim", later);
        if started.is_err() {
            self.shared.trimming.waiting.store(false, Ordering::SeqCst);
        }
        started.map(drop)
    }

    fn keep_to_once(&self, quota: u64) {
        if self.costs().is_ok_and(|costs| costs.total() <= quota) {
            return;
        }
        match self.trim_blocking(&TrimOptions::to(quota).spare(self.room.spare)) {
            Ok(Trimmed { removed, compressed, reclaimed, taken }) if taken <= quota => {
                tracing::info!(images = removed.len(), compressed, reclaimed, taken, quota, "room was made for images");
            }
            Ok(Trimmed { taken, .. }) => {
                tracing::warn!(taken, quota, "images take more room than they may, and all of them are in use");
                if let Err(error) = self.look_again() {
                    tracing::warn!(%error, "nobody looks again whether there is room for images");
                }
            }
            Err(error) => tracing::warn!(%error, "room cannot be made for images"),
        }
    }
}
