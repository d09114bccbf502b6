//! `/containers`.

pub(crate) mod archive;
pub(crate) mod attach;
pub(crate) mod attach_ws;
pub(crate) mod checkpoints;
pub(crate) mod commit;
pub(crate) mod create;
pub(crate) mod inspect;
pub(crate) mod lifecycle;
pub(crate) mod list;
pub(crate) mod logs;
pub(crate) mod remove;
pub(crate) mod stats;
pub(crate) mod top;
pub(crate) mod update;
pub(crate) mod wait;
