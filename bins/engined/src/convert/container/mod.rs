//! Containers.

pub(crate) mod create;
pub(crate) mod host;
pub(crate) mod inspect;
pub(crate) mod mount;
pub(crate) mod older;
pub(crate) mod stats;
pub(crate) mod summary;
