//! The command line of an OCI runtime, as its callers use it: with real containers and no daemon.
#![allow(clippy::unwrap_used)]

mod failures;
mod life;
mod place;
mod terminals;
