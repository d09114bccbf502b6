//! What people and scripts read: tables, templates, JSON, sizes, times and progress.

pub(crate) mod format;
pub(crate) mod progress;
pub(crate) mod screen;
pub(crate) mod size;
pub(crate) mod table;
pub(crate) mod template;
pub(crate) mod time;
pub(crate) mod value;
