//! Wire types to the engine's and back: pure, so that this is where most tests are.

pub(crate) mod container;
pub(crate) mod event;
pub(crate) mod exec;
pub(crate) mod image;
pub(crate) mod network;
pub(crate) mod system;
pub(crate) mod time;
pub(crate) mod volume;

use std::path::PathBuf;

/// Paths with colons between, as overlayfs takes them.
pub(crate) fn joined(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.to_string_lossy()).collect::<Vec<_>>().join(":")
}

/// A list that Go would have as nil when nothing is in it.
pub(crate) fn nil_when_empty<T>(items: Vec<T>) -> Option<Vec<T>> {
    (!items.is_empty()).then_some(items)
}
