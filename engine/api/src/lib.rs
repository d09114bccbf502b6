//! The Docker Engine API (1.24 to 1.51) as data: what goes over the wire, and nothing else.
//!
//! Every type both serialises and deserialises, so that the daemon and its clients share them. Output follows Go's rules for
//! `null`, `[]`, zero values and omission; input is read by [`json::from_slice`], which follows Go's rules for missing,
//! `null`, unknown and differently cased members.

pub mod archive;
pub mod container;
pub mod error;
pub mod event;
pub mod exec;
pub mod filter;
pub mod frame;
pub mod host_config;
pub mod image;
pub mod json;
pub mod network;
pub mod progress;
pub mod stats;
pub mod system;
pub mod version;
pub mod volume;

/// Go's zero time in RFC 3339, sent where something has not happened yet.
pub const ZERO_TIME: &str = "0001-01-01T00:00:00Z";

/// `skip_serializing_if` for Go's `omitempty` on numbers and booleans.
fn is_zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
