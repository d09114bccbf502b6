//! Images: load, pull, list, tag, remove.
