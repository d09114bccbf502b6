//! The daemon as this project's client sees it: the same cases as with Docker's.
#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

#[path = "../cases/mod.rs"]
mod cases;

use support::client::Client;

cases::suite!(Client::Enginectl);
