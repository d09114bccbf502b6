//! Marks of work that holds blobs and layers for something that is not there yet, for as long as who works is alive: who
//! looks for what crashed programs left, in whatever program, finds them locked.

pub use engine_sys::lease::Lease;

use super::{Blobs, Error};

/// What their names begin with.
pub(super) const MARK: &str = ".hold-";

impl Blobs {
    /// Marks that somebody works for `what`, the digits of an id. Waits for a moment, at most.
    pub fn lease(&self, what: &str) -> Result<Lease, Error> {
        let marked = Lease::take(&self.shared.directory, format!("{MARK}{what}"));
        marked.map_err(Error::host(format!("mark what is held for {what}")))
    }

    /// Whether somebody who is alive works for `what`.
    pub fn is_leased(&self, what: &str) -> bool {
        Lease::is_taken(&self.shared.directory, format!("{MARK}{what}"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_last_one_who_works_for_something_takes_its_mark_away() {
        let root = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(root.path()).unwrap();
        let files = || std::fs::read_dir(root.path().join("blobs/sha256")).unwrap().count();
        let (one, other) = (blobs.lease("abc").unwrap(), blobs.lease("abc").unwrap());
        assert!(blobs.is_leased("abc") && !blobs.is_leased("abd"));
        blobs.sweep().unwrap();
        assert_eq!(files(), 1);
        assert!(!one.is_last());
        assert!(other.is_last());
        drop(one);
        assert!(blobs.is_leased("abc"));
        drop(other);
        assert_eq!((blobs.is_leased("abc"), files()), (false, 0));
        // Who was killed leaves a file that nobody has locked.
        std::fs::write(root.path().join("blobs/sha256/.hold-abc"), "").unwrap();
        assert!(!blobs.is_leased("abc"));
        blobs.sweep().unwrap();
        assert_eq!(files(), 0);
    }
}
