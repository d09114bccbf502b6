//! Commands on checkpoints.

pub(crate) mod create;
pub(crate) mod ls;
pub(crate) mod rm;

use crate::client::segment;

/// The path of a container's checkpoints.
fn path(container: &str) -> String {
    format!("/containers/{}/checkpoints", segment(container))
}
