//! Containers: from what was asked to a running process.
