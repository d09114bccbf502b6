//! The program against a daemon of canned answers: what it asks, in which order, and what it says.
#![allow(clippy::unwrap_used)]

mod daemon;
mod lists;
mod run;
mod signals;
mod terminal;
