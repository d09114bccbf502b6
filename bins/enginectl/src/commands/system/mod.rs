//! Commands on the engine itself.

pub(crate) mod events;
pub(crate) mod info;
pub(crate) mod version;
