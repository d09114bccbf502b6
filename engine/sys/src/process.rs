//! Processes by pidfd.
