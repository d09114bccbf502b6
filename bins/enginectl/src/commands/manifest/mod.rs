//! Commands on what registries have.

pub(crate) mod inspect;
pub(crate) mod referrers;
