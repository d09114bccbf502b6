//! Bytes by digest.
