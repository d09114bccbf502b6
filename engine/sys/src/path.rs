//! Paths opened beneath a root, never outside it.
