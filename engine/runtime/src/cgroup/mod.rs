//! Control groups, version 1 in all its hierarchies and version 2: making one for a container, what it may use, what it has
//! used, and taking it away.

mod layout;
mod places;

pub use layout::{Hierarchy, Layout, Unified};
pub(crate) use places::Places;
