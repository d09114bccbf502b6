//! Bringing what is written to the disk ahead of the sync that counts.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Has a file system write now and then what it was given, while it is given more: little is left then for the sync that counts.
/// Shared by all who write there.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    /// Bytes since it last began.
    written: AtomicU64,
    busy: AtomicBool,
}

/// After so many bytes it begins.
const STEP: u64 = 32 << 20;

impl Ahead {
    /// So many more bytes have been written beneath `directory`.
    pub(super) fn wrote(self: &Arc<Self>, bytes: u64, directory: BorrowedFd<'_>) {
        let written = self.written.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        if written < STEP || self.busy.swap(true, Ordering::Relaxed) {
            return;
        }
        self.written.store(0, Ordering::Relaxed);
        let this = self.clone();
        let started = directory.try_clone_to_owned().and_then(|directory| {
            std::thread::Builder::new().name("engine-sync".to_owned()).spawn(move || {
                // What fails here is told to the sync that counts as well: it has a descriptor of its own.
                let _ = rustix::fs::syncfs(directory);
                this.busy.store(false, Ordering::Relaxed);
            })
        });
        if started.is_err() {
            // For want of descriptors or threads: it is all left for then.
            self.busy.store(false, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::fd::AsFd;
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn much_is_begun_with_and_little_is_not() {
        let directory = std::fs::File::open(std::env::temp_dir()).unwrap();
        let ahead = Arc::new(Ahead::default());
        ahead.wrote(STEP - 1, directory.as_fd());
        assert_eq!((ahead.written.load(Ordering::Relaxed), ahead.busy.load(Ordering::Relaxed)), (STEP - 1, false));
        // Twice, since it can begin again once it is through.
        for _ in 0..2 {
            ahead.wrote(STEP, directory.as_fd());
            assert_eq!(ahead.written.load(Ordering::Relaxed), 0);
            let patience = Instant::now() + Duration::from_secs(60);
            while ahead.busy.load(Ordering::Relaxed) {
                assert!(Instant::now() < patience, "it hangs");
                std::thread::yield_now();
            }
        }
    }
}
