//! Commands on the engine itself.

pub(crate) mod check;
pub(crate) mod df;
pub(crate) mod events;
pub(crate) mod overview;
pub(crate) mod prune;
pub(crate) mod trim;
pub(crate) mod version;
