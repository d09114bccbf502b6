//! The daemon as Docker's own client sees it.
#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

#[path = "../cases/mod.rs"]
mod cases;

use support::client::Client;

cases::suite!(Client::Docker);
