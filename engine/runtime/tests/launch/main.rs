//! Real containers from plans written by hand: the embedded program from end to end. Needs root.
#![allow(clippy::unwrap_used, missing_docs)]

mod attach;
mod exec;
mod life;
mod place;
mod refusals;
mod setup;
