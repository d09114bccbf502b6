//! Commands on containers.

pub(crate) mod attach;
pub(crate) mod commit;
pub(crate) mod cp;
pub(crate) mod create;
pub(crate) mod diff;
pub(crate) mod exec;
pub(crate) mod export;
mod gather;
pub(crate) mod inspect;
mod interact;
pub(crate) mod kill;
pub(crate) mod logs;
mod mount;
mod options;
pub(crate) mod pause;
pub(crate) mod port;
mod ports;
pub(crate) mod prune;
pub(crate) mod ps;
pub(crate) mod rename;
mod request;
pub(crate) mod restart;
pub(crate) mod rm;
pub(crate) mod run;
mod signals;
pub(crate) mod start;
pub(crate) mod stats;
pub(crate) mod stop;
pub(crate) mod top;
mod tree;
pub(crate) mod unpause;
pub(crate) mod update;
pub(crate) mod wait;
pub(crate) mod words;

use crate::client::segment;

/// The path of a container.
fn path(name: &str, rest: &str) -> String {
    format!("/containers/{}{rest}", segment(name))
}
