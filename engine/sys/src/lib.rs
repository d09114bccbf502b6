//! The engine's system calls: everything that is unsafe, and what has to be done exactly once.
//!
//! The rule for adding: a function lands here when it needs `unsafe`, or when doing it by hand elsewhere
//! would invite a mistake (paths beneath a root, descriptors through a socket, a namespace on its own thread).

pub mod bpf;
pub mod datagram;
pub mod file;
pub mod lease;
pub mod memfd;
pub mod memory;
pub mod mount;
pub mod namespace;
pub mod netlink;
pub mod path;
pub mod process;
pub mod quota;
pub mod signal;
pub mod socket;
pub mod transfer;
