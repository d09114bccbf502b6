#![allow(clippy::unwrap_used, missing_docs)]
//! Real containers with Docker's default specification, through [`engine_runtime::Runtime`].

mod attacks;
mod attributes;
mod exec;
mod fallbacks;
mod hooks;
mod identity;
mod init;
mod interfaces;
mod isolation;
mod limits;
mod mounts;
mod namespaces;
mod outside;
mod place;
mod races;
mod refusals;
