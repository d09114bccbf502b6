#![allow(clippy::unwrap_used, missing_docs)]
//! Real containers with Docker's default specification, through [`engine_runtime::Runtime`].

mod exec;
mod fallbacks;
mod identity;
mod isolation;
mod limits;
mod mounts;
mod place;
mod refusals;
